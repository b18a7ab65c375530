/* llvm_fixture.h: compiled kernels against the interpreter, bit for bit: memory that catches who leaves it, work units
 * cut at random and run in random order by one, two and three threads, vectors of 4, 8 and 16 floats. Two NaN count as
 * equal, whatever their payloads: IEEE 754 leaves these open. */
#ifndef DETENT_TESTS_LLVM_FIXTURE_H
#define DETENT_TESTS_LLVM_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "codegen/codegen.h"
#include "tests/unit/kernel_generator.h"

enum { WIDTHS = 3 };
static const int widths[WIDTHS] = { 4, 8, 16 };

/* ---- Memory of a kernel ----------------------------------------------------------------------------------------- */

/* Every buffer ends where a page begins that nobody may touch (less what aligns its start to 64), so that code which
 * reads or writes past it is caught; the bytes up to there must stay as they are. */
enum { MOST_BUFS = 32, PAGE = 4096, ALIGN = 64 };

typedef struct Memory {
    int32_t  n;
    uint8_t *at[MOST_BUFS];
    int64_t  bytes[MOST_BUFS];
} Memory;

static inline int64_t room_of(int64_t bytes)
{
    return dt_round_up(dt_max64(bytes, 1), ALIGN);
}
static inline int64_t pages_of(int64_t bytes)
{
    return dt_round_up(room_of(bytes), PAGE) + 2 * PAGE;
}

static inline uint8_t *buf_new(int64_t bytes)
{
    int64_t  all = pages_of(bytes);
    uint8_t *base = mmap(NULL, (size_t)all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(base != MAP_FAILED);
    assert_int_equal(mprotect(base, PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(base + all - PAGE, PAGE, PROT_NONE), 0);
    return base + all - PAGE - room_of(bytes);
}

static inline void buf_free(uint8_t *at, int64_t bytes)
{
    assert_int_equal(munmap(at + room_of(bytes) + PAGE - pages_of(bytes), (size_t)pages_of(bytes)), 0);
}

static inline void memory_free(Memory *m)
{
    for (int32_t i = 0; i < m->n; i++)
        buf_free(m->at[i], m->bytes[i]);
}

/* Wild values make sums NaN or infinite and hide their order; tame ones do not. */
static inline void fill_f32(GenRng *r, float *x, int64_t n, bool wild)
{
    static const float odd[] = { 0.0f,  -0.0f,  1.0f,          -1.0f, 0.5f, 2.5f, 1e-40f,   -3e-42f,
                                 3e38f, -3e38f, 2147483648.0f, 1e10f, NAN,  NAN,  INFINITY, -INFINITY };
    for (int64_t i = 0; i < n; i++) {
        x[i] = ((float)gen_below(r, 1u << 24) * 0x1p-24f - 0.5f) * 8.0f;
        if (gen_one_in(r, 10))
            x[i] = odd[gen_below(r, wild ? DT_COUNT(odd) : 8)];
    }
}

/* `most`: i32 and u32 elements are below it (0: any). */
static inline Memory memory_new(const Kernel *k, uint64_t seed, uint32_t most, bool wild)
{
    GenRng r = { seed, 0 };
    Memory m = { .n = k->bufs.len };
    for (int32_t i = 0; i < m.n; i++) {
        const KBuf *b = &k->bufs.at[i];
        m.bytes[i] = dtype_bytes(b->dtype, b->elems);
        m.at[i] = buf_new(m.bytes[i]);
        if (b->dtype == DTYPE_F32)
            fill_f32(&r, (float *)m.at[i], b->elems, wild);
        else if (dtype_bits(b->dtype) == 32)
            for (int64_t j = 0; j < b->elems; j++)
                ((uint32_t *)m.at[i])[j] = most ? gen_below(&r, most) : gen_u32(&r) >> gen_below(&r, 32);
        else
            for (int64_t j = 0; j < m.bytes[i]; j++)
                m.at[i][j] = (uint8_t)gen_u32(&r);
    }
    return m;
}

static inline Memory memory_copy(const Memory *from)
{
    Memory m = *from;
    for (int32_t i = 0; i < m.n; i++) {
        m.at[i] = buf_new(m.bytes[i]);
        memcpy(m.at[i], from->at[i], (size_t)room_of(m.bytes[i]));
    }
    return m;
}

static inline bool same_f32(const float *x, const float *y)
{
    return memcmp(x, y, sizeof *x) == 0 || (isnan(*x) && isnan(*y));
}

/* The first element (f32) or byte that differs, -1: none; what lies behind the last one counts. */
static inline int64_t first_difference(const Kernel *k, int32_t buf, const Memory *x, const Memory *y)
{
    bool    floats = k->bufs.at[buf].dtype == DTYPE_F32;
    int64_t n = floats ? k->bufs.at[buf].elems : 0;
    for (int64_t i = 0; i < n; i++)
        if (!same_f32((const float *)x->at[buf] + i, (const float *)y->at[buf] + i))
            return i;
    for (int64_t i = n * (int64_t)sizeof(float); i < room_of(x->bytes[buf]); i++)
        if (x->at[buf][i] != y->at[buf][i])
            return floats ? i / (int64_t)sizeof(float) : i;
    return -1;
}

static inline void assert_same(const Kernel *k, const Memory *want, const Memory *got, const char *how)
{
    for (int32_t i = 0; i < want->n; i++) {
        int64_t at = first_difference(k, i, want, got);
        if (at == -1)
            continue;
        Arena a = arena_new("text");
        Str   text = str_new(&a);
        kernel_print(&text, k);
        uint32_t w = 0, g = 0;
        size_t   one = k->bufs.at[i].dtype == DTYPE_F32 ? 4 : 1;
        memcpy(&w, want->at[i] + at * (int64_t)one, one);
        memcpy(&g, got->at[i] + at * (int64_t)one, one);
        fprintf(stderr, "%s\nbuffer %s differs at %lld (%s): expected %08x, got %08x\n", text.s, k->bufs.at[i].name,
                (long long)at, how, w, g);
        fail();
    }
}

/* ---- Running an image ------------------------------------------------------------------------------------------- */

/* Units [0, n) in pieces of random size, in random order, over `threads` threads. */
static inline void run_units(GenRng *r, KernelEntry entry, const KernelImage *im, const Memory *m, void *scratch,
                             int64_t n, int threads)
{
    int64_t cut[65] = { 0 };
    int32_t pieces = 0;
    (void)threads; /* a compiler without OpenMP does not see it */
    while (cut[pieces] < n) {
        int64_t step = pieces == 63 ? n : 1 + gen_below(r, (uint32_t)dt_max64(1, n / 3));
        cut[pieces + 1] = dt_min64(n, cut[pieces] + step);
        pieces++;
    }
    uint32_t order[64];
    rng_permutation(r->seed, 1, (uint32_t)r->n++, order, (uint32_t)pieces);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int32_t i = 0; i < pieces; i++)
        entry(im->self, (void *const *)m->at, scratch, cut[order[i]], cut[order[i] + 1]);
}

static inline void run_image(GenRng *r, const KernelImage *im, const Memory *m, int threads)
{
    void *scratch = buf_new(im->scratch_bytes);
    memset(scratch, 0x5a, (size_t)im->scratch_bytes);
    run_units(r, im->run, im, m, scratch, im->units, threads);
    if (im->finish_units > 0)
        run_units(r, im->finish, im, m, scratch, im->finish_units, threads);
    buf_free(scratch, im->scratch_bytes);
}

static inline KernelJit *new_jit(Arena *a, Diag *d, JitOptions opt)
{
    KernelJit *j = jit_llvm_new(a, d, opt);
    assert_non_null(j);
    return j;
}

/* One image against the interpreter. */
static inline void check_run(const Kernel *k, const KernelImage *im, uint64_t seed, uint32_t most, bool wild,
                             const char *how)
{
    GenRng r = { seed, 0 };
    Memory start = memory_new(k, seed, most, wild), want = memory_copy(&start);
    kernel_interp(k, (void *const *)want.at);
    for (int threads = 1; threads <= 3; threads++) {
        Memory got = memory_copy(&start);
        run_image(&r, im, &got, threads);
        assert_same(k, &want, &got, how);
        memory_free(&got);
    }
    memory_free(&want);
    memory_free(&start);
}

static inline void check_image(const Kernel *k, const KernelImage *im, uint64_t seed, uint32_t most, const char *how)
{
    check_run(k, im, seed, most, false, how);
    check_run(k, im, seed + 1, most, true, how);
}

/* All kernels at all widths. */
static inline void check_kernels(Arena *a, Kernel *const *kernels, int32_t n, uint32_t most)
{
    Diag d = diag_new(stderr);
    for (int32_t i = 0; i < n; i++)
        assert_true(kernel_verify(kernels[i], &d));
    for (int w = 0; w < WIDTHS; w++) {
        KernelJit   *j = new_jit(a, &d, (JitOptions){ .vector_width = widths[w] });
        KernelImage *images = ARENA_ARRAY(a, KernelImage, n);
        assert_true(jit_compile(j, &d, "test", kernels, n, images));
        for (int32_t i = 0; i < n; i++)
            check_image(kernels[i], &images[i], (uint64_t)i + 1, most, arena_printf(a, "width %d", widths[w]));
        jit_free(j);
    }
    diag_free(&d);
}

#endif
