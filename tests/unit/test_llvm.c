/* test_llvm.c: compiled kernels against the interpreter, bit for bit.
 *
 * Kernels from tests/kernels and from a generator (kernel_generator.h), compiled for vectors of 4, 8 and 16 floats,
 * their work units cut at random and run in random order by one, two and three threads. Two NaN count as equal,
 * whatever their payloads: IEEE 754 leaves these open. Then the disk cache, shared code, and the dumps. */
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
#include "tests/unit/kernel_files.h"
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

static int64_t room_of(int64_t bytes)
{
    return dt_round_up(dt_max64(bytes, 1), ALIGN);
}
static int64_t pages_of(int64_t bytes)
{
    return dt_round_up(room_of(bytes), PAGE) + 2 * PAGE;
}

static uint8_t *buf_new(int64_t bytes)
{
    int64_t  all = pages_of(bytes);
    uint8_t *base = mmap(NULL, (size_t)all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(base != MAP_FAILED);
    assert_int_equal(mprotect(base, PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(base + all - PAGE, PAGE, PROT_NONE), 0);
    return base + all - PAGE - room_of(bytes);
}

static void buf_free(uint8_t *at, int64_t bytes)
{
    assert_int_equal(munmap(at + room_of(bytes) + PAGE - pages_of(bytes), (size_t)pages_of(bytes)), 0);
}

static void memory_free(Memory *m)
{
    for (int32_t i = 0; i < m->n; i++)
        buf_free(m->at[i], m->bytes[i]);
}

/* Wild values make sums NaN or infinite and hide their order; tame ones do not. */
static void fill_f32(GenRng *r, float *x, int64_t n, bool wild)
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
static Memory memory_new(const Kernel *k, uint64_t seed, uint32_t most, bool wild)
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

static Memory memory_copy(const Memory *from)
{
    Memory m = *from;
    for (int32_t i = 0; i < m.n; i++) {
        m.at[i] = buf_new(m.bytes[i]);
        memcpy(m.at[i], from->at[i], (size_t)room_of(m.bytes[i]));
    }
    return m;
}

static bool same_f32(const float *x, const float *y)
{
    return memcmp(x, y, sizeof *x) == 0 || (isnan(*x) && isnan(*y));
}

/* The first element (f32) or byte that differs, -1: none; what lies behind the last one counts. */
static int64_t first_difference(const Kernel *k, int32_t buf, const Memory *x, const Memory *y)
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

static void assert_same(const Kernel *k, const Memory *want, const Memory *got, const char *how)
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
static void run_units(GenRng *r, KernelEntry entry, const KernelImage *im, const Memory *m, void *scratch, int64_t n,
                      int threads)
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

static void run_image(GenRng *r, const KernelImage *im, const Memory *m, int threads)
{
    void *scratch = buf_new(im->scratch_bytes);
    memset(scratch, 0x5a, (size_t)im->scratch_bytes);
    run_units(r, im->run, im, m, scratch, im->units, threads);
    if (im->finish_units > 0)
        run_units(r, im->finish, im, m, scratch, im->finish_units, threads);
    buf_free(scratch, im->scratch_bytes);
}

static KernelJit *new_jit(Arena *a, Diag *d, JitOptions opt)
{
    KernelJit *j = jit_llvm_new(a, d, opt);
    assert_non_null(j);
    return j;
}

/* One image against the interpreter. */
static void check_run(const Kernel *k, const KernelImage *im, uint64_t seed, uint32_t most, bool wild, const char *how)
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

static void check_image(const Kernel *k, const KernelImage *im, uint64_t seed, uint32_t most, const char *how)
{
    check_run(k, im, seed, most, false, how);
    check_run(k, im, seed + 1, most, true, how);
}

/* All kernels at all widths. */
static void check_kernels(Arena *a, Kernel *const *kernels, int32_t n, uint32_t most)
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

/* ---- Kernels from files ----------------------------------------------------------------------------------------- */

static void test_kernel_files(void **state)
{
    (void)state;
    Arena    a = arena_new("files");
    int32_t  n;
    Kernel **kernels = kernel_files(&a, &n);
    check_kernels(&a, kernels, n, KERNEL_FILES_MOST);
    arena_free(&a);
}

/* ---- Kernels with a point --------------------------------------------------------------------------------------- */

/* Each text is a corner that generated kernels meet seldom. */
static const char *const corners[] = {
    /* no points at all */
    "kernel @empty { axis i = 0 par vec buf x : f32[4] in buf y : f32[4] out body { %0 = load x[i] store y[i], %0 } }",
    /* nothing to reduce: the total is the identity */
    "kernel @none { axis r = 0 red axis c = 5 par vec buf x : f32[5] in buf y : f32[5] out buf z : f32[5] out reduce "
    "chunks 1 lanes 8 body { %0 = load x[c] %1 = acc.sum %0 %2 = acc.max %0 } final { store y[c], %1 store z[c], %2 } "
    "}",
    /* runs without elements: 5 in runs of 2, 2, 1, 0 */
    "kernel @short { axis r = 5 red vec buf x : f32[5] in buf y : f32[1] out reduce chunks 4 lanes 64 body { %0 = load "
    "x[r] %1 = acc.min %0 } final { store y[0], %1 } }",
    /* clips that do and do not bound; saturation in all directions */
    "kernel @clips { axis i = 333 par vec buf x : f32[333] in buf a : u4[333] out buf b : s4[333] out buf c : u2[333] "
    "out "
    "buf d : s8[333] out buf e : u8[333] out buf f : i32[333] out buf g : u32[333] out body { %0 = load x[i] %1 = "
    "const.f32 15 %2 = const.f32 0 %3 = max %0, %2 %4 = min %3, %1 %5 = rint %4 %6 = cvt.i32 %5 store a[i], %6 %7 = "
    "min "
    "%1, %0 %8 = cvt.i32 %7 store b[i], %8 store c[i], %8 %9 = const.f32 1e9 %10 = mul %0, %9 %11 = cvt.i32 %10 store "
    "d[i], %11 store e[i], %11 store f[i], %11 %12 = cvt.u32 %10 store g[i], %12 } }",
    /* division: every sign, zero, the least number by -1 */
    "kernel @divide { axis i = 300 par vec buf x : i32[300] in buf y : s2[300] in buf u : u32[300] in buf q : i32[300] "
    "out "
    "buf r : i32[300] out buf s : i32[300] out buf t : u32[300] out buf v : i32[300] out body { %0 = load x[i] %1 = "
    "load "
    "y[i] %2 = div %0, %1 store q[i], %2 %3 = rem %0, %1 store r[i], %3 %4 = const.i32 -2147483648 %5 = div %4, %1 "
    "store "
    "s[i], %5 %6 = load u[i] %7 = cvt.u32 %1 %8 = div %6, %7 %9 = rem %6, %7 %10 = xor %8, %9 store t[i], %10 %11 = "
    "const.i32 7 %12 = div %0, %11 %13 = rem %0, %11 %14 = sub %12, %13 store v[i], %14 } }",
    /* more blocks than one along the vec axis, streamed */
    "kernel @blocks { axis p = 2 par axis i = 9001 par vec buf x : f32[18002] in buf y : f32[18002] out stream buf m : "
    "b1[18002] out body { %0 = load x[9001*p + i] %1 = const.f32 0 %2 = gt %0, %1 store m[9001*p + i], %2 %3 = select "
    "%2, %0, %1 store y[9001*p + i], %3 } }",
    /* columns in full blocks and a rest; a shared row */
    "kernel @columns { axis r = 777 red axis c = 136 par vec buf x : f32[105672] in buf w : f32[777] in buf s : "
    "f32[136] out "
    "reduce chunks 4 lanes 1 body { %0 = load x[136*r + c] %1 = load w[r] %2 = mul %0, %1 %3 = acc.sum %2 } final { "
    "store "
    "s[c], %3 } }",
    /* whole runs, then one that is not */
    "kernel @last { axis r = 127 red vec buf x : f32[127] in buf y : f32[1] out reduce chunks 2 lanes 64 body { %0 = "
    "load "
    "x[r] %1 = acc.sum %0 } final { store y[0], %1 } }",
    /* what is loaded was stored just before */
    "kernel @stages { axis p = 50 par buf x : f32[50] in buf t : f32[50] inout buf y : f32[50] out body { %0 = load "
    "x[p] %1 "
    "= load t[p] %2 = add %0, %1 store t[p], %2 %3 = load t[p] %4 = mul %3, %3 store y[p], %4 } }",
    /* bounds that a NaN goes around */
    "kernel @around { axis i = 90 par vec buf x : f32[90] in buf a : u8[90] out buf b : s4[90] out body { %0 = load "
    "x[i] %1 = "
    "abs %0 %2 = const.f32 -5 %3 = max %1, %2 %4 = cvt.i32 %3 store a[i], %4 %5 = neg %1 %6 = const.f32 300 %7 = min "
    "%5, "
    "%6 %8 = cvt.i32 %7 %9 = add %8, %4 store b[i], %9 } }",
    /* packed types by rows that do not end at bytes */
    "kernel @bits { axis p = 37 par axis c = 11 par vec buf x : u2[407] in buf y : u4[407] out buf z : b1[407] out buf "
    "w : "
    "s2[407] inout body { %0 = load x[11*p + c] %1 = load w[11*p + c] %2 = add %0, %1 store y[11*p + c], %2 store "
    "w[11*p + "
    "c], %2 %3 = ne %0, %1 store z[11*p + c], %3 } }",
};

static void test_corners(void **state)
{
    (void)state;
    Arena   a = arena_new("corners");
    Kernel *kernels[DT_COUNT(corners)];
    for (int32_t i = 0; i < DT_COUNT(corners); i++)
        kernels[i] = kernel_of_text(&a, corners[i]);
    check_kernels(&a, kernels, DT_COUNT(corners), 0);
    arena_free(&a);
}

/* ---- Generated kernels ------------------------------------------------------------------------------------------ */

static void test_generated(void **state)
{
    (void)state;
    gen_kernels(120, check_kernels);
}

/* ---- Cache, shared code, dumps ---------------------------------------------------------------------------------- */

static const char *const scale =
    "kernel @scale { axis i = 100 par vec buf x : f32[100] in buf y : f32[100] out body { %0 = "
    "load x[i] %1 = const.f32 3 %2 = mul %0, %1 store y[i], %2 } }";
static const char *const twin =
    "kernel @twin \"another title\" { axis i = 100 par vec buf x : f32[100] in buf y : f32[100] "
    "out body { %0 = load x[i] %1 = const.f32 3 %2 = mul %0, %1 store y[i], %2 } }";

static char *temp_dir(Arena *a)
{
    char *dir = arena_strdup(a, "/tmp/detent-llvm-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

/* Path of the directory's only file with this end; NULL: none. */
static char *find_file(Arena *a, const char *dir, const char *pattern)
{
    DIR  *handle = opendir(dir);
    char *found = NULL;
    assert_non_null(handle);
    for (struct dirent *e; (e = readdir(handle)) != NULL;)
        if (str_glob(pattern, e->d_name))
            found = arena_printf(a, "%s/%s", dir, e->d_name);
    closedir(handle);
    return found;
}

static void remove_dir(Arena *a, const char *dir)
{
    for (char *path; (path = find_file(a, dir, "*[a-z]")) != NULL;)
        assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Compiles `scale` with this cache and runs it. */
static JitStats compile_and_run(Arena *a, const char *dir)
{
    Diag        d = diag_new(stderr);
    Kernel     *k = kernel_of_text(a, scale);
    KernelJit  *j = new_jit(a, &d, (JitOptions){ .cache_dir = dir });
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    float x[128] __attribute__((aligned(64))), y[128] __attribute__((aligned(64)));
    for (int i = 0; i < 100; i++)
        x[i] = (float)i;
    im.run(im.self, (void *[]){ x, y }, NULL, 0, im.units);
    for (int i = 0; i < 100; i++)
        assert_true(y[i] == 3.0f * (float)i);
    JitStats s = jit_stats(j);
    jit_free(j);
    diag_free(&d);
    return s;
}

static void damage(const char *path, long offset, int whence)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, whence), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, offset, whence), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

static void test_cache(void **state)
{
    (void)state;
    Arena a = arena_new("cache");
    char *dir = temp_dir(&a);
    log_set_level(LOG_QUIET);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1);
    char *entry = find_file(&a, dir, "*.o");
    assert_non_null(entry);
    damage(entry, -100, SEEK_END); /* in the code */
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1); /* written again */
    damage(entry, 30, SEEK_SET);                          /* in the key */
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(truncate(entry, 10), 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(truncate(entry, 0), 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1);
    remove_dir(&a, dir);
    log_set_level(LOG_INFO);
    arena_free(&a);
}

static void test_bad_options(void **state)
{
    (void)state;
    Arena a = arena_new("options");
    Diag  d = diag_new(NULL);
    assert_null(jit_llvm_new(&a, &d, (JitOptions){ .cache_dir = "/dev/null/cache" }));
    assert_int_equal(d.errors, 1);
    assert_null(jit_llvm_new(&a, &d, (JitOptions){ .vector_width = 5 }));
    assert_int_equal(d.errors, 2);
    assert_non_null(strstr(d.text.s, "vectors of 5 floats"));
    diag_free(&d);
    arena_free(&a);
}

static void test_shared_code(void **state)
{
    (void)state;
    Arena       a = arena_new("shared");
    Diag        d = diag_new(stderr);
    Kernel     *kernels[3] = { kernel_of_text(&a, scale), kernel_of_text(&a, twin), kernel_of_text(&a, corners[4]) };
    KernelImage images[3], again;
    KernelJit  *jits[2] = { new_jit(&a, &d, (JitOptions){ 0 }), jit_interp_new(&a) };
    for (int i = 0; i < 2; i++) {
        assert_true(jit_compile(jits[i], &d, "test", kernels, 3, images));
        assert_int_equal(jit_stats(jits[i]).kernels, 3);
        assert_int_equal(jit_stats(jits[i]).distinct, 2);
        assert_ptr_equal(images[0].run, images[1].run);
        assert_ptr_equal(images[0].self, images[1].self);
        assert_string_equal(images[1].name, "twin");
        assert_int_equal(images[0].n_bufs, 2);
        assert_int_equal(images[0].bytes, 800);
        assert_true(jit_stats(jits[i]).seconds > 0);
        assert_true(strlen(jit_describe(&a, jits[i])) > 10);
    }
    assert_true(jit_compile(jits[0], &d, "test", &kernels[1], 1, &again));
    assert_int_equal(jit_stats(jits[0]).distinct, 2);
    jit_free(jits[0]);
    jit_free(jits[1]);
    diag_free(&d);
    arena_free(&a);
}

static void test_interpreter_image(void **state)
{
    (void)state;
    Arena       a = arena_new("interp");
    Diag        d = diag_new(stderr);
    Kernel     *k = kernel_of_text(&a, corners[6]);
    KernelJit  *j = jit_interp_new(&a);
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    assert_int_equal(im.units, 1);
    assert_int_equal(im.finish_units, 0);
    check_image(k, &im, 5, 0, "interpreter");
    jit_free(j);
    diag_free(&d);
    arena_free(&a);
}

static void test_dump(void **state)
{
    (void)state;
    Arena       a = arena_new("dump");
    Diag        d = diag_new(stderr);
    char       *dir = temp_dir(&a);
    Kernel     *k = kernel_of_text(&a, scale);
    KernelJit  *j = new_jit(&a, &d, (JitOptions){ .dump_dir = dir });
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    static const struct {
        const char *file, *contents;
    } dumps[] = { { "scale.kernel", "kernel @scale" }, { "scale.ll", "fmul <" }, { "scale.s", "mulps" } };
    for (int32_t i = 0; i < DT_COUNT(dumps); i++) {
        char *text = file_read(&a, &d, arena_printf(&a, "%s/%s", dir, dumps[i].file), NULL);
        assert_non_null(text);
        assert_non_null(strstr(text, dumps[i].contents));
    }
    jit_free(j);
    remove_dir(&a, dir);
    diag_free(&d);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_files),      cmocka_unit_test(test_corners),
        cmocka_unit_test(test_generated),         cmocka_unit_test(test_cache),
        cmocka_unit_test(test_bad_options),       cmocka_unit_test(test_shared_code),
        cmocka_unit_test(test_interpreter_image), cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
