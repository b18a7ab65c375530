/* test_cuda.c: the CUDA text of kernels, run by the simulator, against the interpreter, bit for bit.
 *
 * Kernels from tests/kernels, corners written here, a generator (kernel_generator.h), and every kernel of the networks'
 * programs, in batches of odd sizes. Blocks run in order and in an order drawn from a seed; scratch memory begins as
 * garbage, tickets must be back at 0. Two NaN count as equal, whatever their payloads: IEEE 754 leaves these open.
 *
 * Last, a hash of the text of every network: what a change of the printer, of the lowering or of a pass does to the
 * code is to be seen and meant. DETENT_CUDA_HASHES=1 prints the new table. */
#include "tests/nets/tiny.c" /* with the short names of layers, which other headers leave out */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "codegen/cuda/cuda.h"
#include "runtime/sim/sim.h"
#include "tests/unit/cuda_hashes.h"
#include "tests/unit/kernel_files.h"
#include "tests/unit/kernel_generator.h"

/* ---- Memory of a kernel ----------------------------------------------------------------------------------------- */

enum { MOST_BUFS = 64, ALIGN = 64 };

typedef struct Memory {
    int32_t  n;
    uint8_t *at[MOST_BUFS];
    int64_t  bytes[MOST_BUFS]; /* elements of less than a byte: whole words, which the text may read and write */
} Memory;

/* Fast and poor: buffers are many and large. */
static uint32_t next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 32);
}

/* Wild values make sums NaN or infinite and hide their order; tame ones do not. */
static void fill_f32(uint64_t *r, float *x, int64_t n, bool wild)
{
    static const float odd[16] = { 0.0f,  -0.0f,  1.0f,          -1.0f, 0.5f, 2.5f, 1e-40f,   -3e-42f,
                                   3e38f, -3e38f, 2147483648.0f, 1e10f, NAN,  NAN,  INFINITY, -INFINITY };
    for (int64_t i = 0; i < n; i++) {
        uint32_t draw = next(r);
        bool     special = draw % 10 == 0;
        x[i] = special ? odd[draw >> 8 & (wild ? 15 : 7)] : ((float)(draw >> 8) * 0x1p-24f - 0.5f) * 8.0f;
    }
}

static uint8_t *buffer_new(Arena *a, int64_t bytes)
{
    uint8_t *at = arena_alloc(a, (size_t)bytes + ALIGN);
    return at + (-(uintptr_t)at & (ALIGN - 1));
}

/* `most`: i32 and u32 elements are below it (0: any). */
static Memory memory_new(Arena *a, const Kernel *k, uint64_t seed, uint32_t most, bool wild)
{
    uint64_t r = seed;
    Memory   m = { .n = k->bufs.len };
    assert_true(m.n <= MOST_BUFS);
    for (int32_t i = 0; i < m.n; i++) {
        const KBuf *b = &k->bufs.at[i];
        m.bytes[i] = dt_round_up(dtype_bytes(b->dtype, b->elems), dtype_bits(b->dtype) < 8 ? 4 : 1);
        m.at[i] = buffer_new(a, m.bytes[i]);
        if (b->dtype == DTYPE_F32)
            fill_f32(&r, (float *)m.at[i], b->elems, wild);
        else if (dtype_bits(b->dtype) == 32)
            for (int64_t j = 0; j < b->elems; j++)
                ((uint32_t *)m.at[i])[j] = most ? next(&r) % most : next(&r) >> (next(&r) & 31);
        else
            for (int64_t j = 0; j < m.bytes[i]; j++)
                m.at[i][j] = (uint8_t)next(&r);
    }
    return m;
}

static Memory memory_copy(Arena *a, const Memory *from)
{
    Memory m = *from;
    for (int32_t i = 0; i < m.n; i++) {
        m.at[i] = buffer_new(a, m.bytes[i]);
        memcpy(m.at[i], from->at[i], (size_t)m.bytes[i]);
    }
    return m;
}

static bool same_f32(const float *x, const float *y)
{
    return memcmp(x, y, sizeof *x) == 0 || (isnan(*x) && isnan(*y));
}

/* The first element (f32) or byte that differs, -1: none. */
static int64_t first_difference(const Kernel *k, int32_t buf, const Memory *x, const Memory *y)
{
    bool floats = k->bufs.at[buf].dtype == DTYPE_F32;
    if (memcmp(x->at[buf], y->at[buf], (size_t)x->bytes[buf]) == 0)
        return -1;
    for (int64_t i = 0; i < (floats ? k->bufs.at[buf].elems : x->bytes[buf]); i++)
        if (floats ? !same_f32((const float *)x->at[buf] + i, (const float *)y->at[buf] + i)
                   : x->at[buf][i] != y->at[buf][i])
            return i;
    return -1;
}

static const char *kernel_text(Arena *a, const Kernel *k)
{
    Str text = str_new(a);
    kernel_print(&text, k);
    return text.s;
}

static void assert_same(const Kernel *k, const Memory *want, const Memory *got, const char *source)
{
    Arena a = arena_new("message");
    for (int32_t i = 0; i < want->n; i++) {
        int64_t at = first_difference(k, i, want, got);
        if (at == -1)
            continue;
        size_t   one = k->bufs.at[i].dtype == DTYPE_F32 ? 4 : 1;
        uint32_t w = 0, g = 0;
        memcpy(&w, want->at[i] + at * (int64_t)one, one);
        memcpy(&g, got->at[i] + at * (int64_t)one, one);
        fprintf(stderr, "%s\n%s\nbuffer %s differs at %lld: expected %08x, got %08x\n", source, kernel_text(&a, k),
                k->bufs.at[i].name, (long long)at, w, g);
        fail();
    }
    arena_free(&a);
}

/* ---- Running a text --------------------------------------------------------------------------------------------- */

typedef struct Sim {
    SimModule      *m;
    const CudaText *text;
    int32_t         kernel; /* index in the text */
} Sim;

static void run_text(Arena *a, const Sim *s, const Kernel *k, const Memory *m, uint64_t seed)
{
    const GpuKernel *g = &s->text->kernels[s->kernel];
    int64_t          bytes = s->text->scratch_bytes[s->kernel], tickets = g->tickets * (int64_t)sizeof(uint32_t);
    SimArg           args[MOST_BUFS + 2];
    int32_t          n = 0;
    for (int32_t i = 0; i < m->n; i++)
        args[n++] = (SimArg){ m->at[i], m->bytes[i], k->bufs.at[i].mode != BUF_IN };
    uint8_t  *scratch = buffer_new(a, bytes);
    uint32_t *counters = (uint32_t *)(void *)buffer_new(a, tickets);
    memset(scratch, 0x5a, (size_t)bytes);
    if (bytes > 0) {
        args[n++] = (SimArg){ scratch, bytes, true };
        args[n++] = (SimArg){ counters, tickets, true };
    }
    Diag      d = diag_new(stderr);
    SimLaunch l = {
        .kernel = sim_find(s->m, g->entry), .grid = g->grid, .block = g->block, .args = args, .n_args = n, .seed = seed
    };
    assert_int_equal(sim_params(s->m, l.kernel), n);
    if (!sim_run(s->m, &d, &l)) {
        fprintf(stderr, "%s\n%s\n", s->text->source, kernel_text(a, k));
        fail();
    }
    for (int32_t i = 0; i < g->tickets; i++)
        assert_int_equal(counters[i], 0);
    diag_free(&d);
}

static void check_run(const Sim *s, const Kernel *k, uint64_t seed, uint32_t most, bool wild, uint64_t order)
{
    Arena  a = arena_new("run");
    Memory got = memory_new(&a, k, seed, most, wild), want = memory_copy(&a, &got);
    kernel_interp(k, (void *const *)want.at);
    run_text(&a, s, k, &got, order);
    assert_same(k, &want, &got, s->text->source);
    arena_free(&a);
}

/* Kernels of one text: tame values with blocks in order, wild ones in another order; of large ones, one of the two. */
static void check_kernels(Arena *a, Kernel *const *kernels, int32_t n, uint32_t most)
{
    Diag d = diag_new(stderr);
    for (int32_t i = 0; i < n; i++)
        assert_true(kernel_verify(kernels[i], &d));
    CudaText text = cuda_print(a, "test", kernels, n);
    Sim      s = { .m = sim_module_new(a, &d, text.source), .text = &text };
    if (!s.m) {
        fprintf(stderr, "%s\n", text.source);
        fail();
    }
    for (s.kernel = 0; s.kernel < n; s.kernel++) {
        bool large = kernel_cost(kernels[s.kernel]).bytes_read > 1 << 19;
        if (!large || s.kernel % 2 == 0)
            check_run(&s, kernels[s.kernel], (uint64_t)s.kernel + 1, most, false, 0);
        if (!large || s.kernel % 2 == 1)
            check_run(&s, kernels[s.kernel], (uint64_t)s.kernel + 2, most, true, (uint64_t)s.kernel + 3);
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

/* ---- Generated kernels ------------------------------------------------------------------------------------------ */

static void test_generated(void **state)
{
    (void)state;
    gen_kernels(240, check_kernels);
}

/* ---- Corners ---------------------------------------------------------------------------------------------------- */

/* Each text is a corner that generated kernels meet seldom. */
static const char *const corners[] = {
    /* no points at all; no buffers */
    "kernel @empty { axis i = 0 par vec buf x : f32[4] in buf y : f32[4] out body { %0 = load x[i] store y[i], %0 } }",
    "kernel @bare { axis i = 7 par vec body { %0 = index i } }",
    /* nothing to reduce: the total is the identity */
    "kernel @none { axis r = 0 red axis c = 5 par vec buf x : f32[5] in buf y : f32[5] out buf z : f32[5] out reduce "
    "chunks 1 lanes 8 body { %0 = load x[c] %1 = acc.sum %0 %2 = acc.max %0 } final { store y[c], %1 store z[c], %2 } "
    "}",
    /* words of the language and of the text as names */
    "kernel @short { axis int = 6 par axis tile = 9 par vec buf v1 : f32[54] in buf float : f32[54] out buf min_f32 : "
    "f32[1] in body { %0 = load v1[9*int + tile] %1 = load min_f32[0] %2 = min %0, %1 store float[9*int + tile], %2 } "
    "}",
    "kernel @main.a { axis r = 40 red axis lane = 9 par vec buf sum3 : f32[360] in buf scratch : f32[9] out reduce "
    "chunks 3 lanes 4 body { %0 = load sum3[9*r + lane] %1 = acc.sum %0 } final { store scratch[lane], %1 } }",
    /* constants */
    "kernel @constants { axis i = 12 par vec buf x : f32[12] in buf y : f32[12] out buf n : i32[12] out body { %0 = "
    "load x[i] %1 = const.f32 nan %2 = const.f32 -inf %3 = const.f32 1e-45 %4 = const.f32 -3.4028235e38 %5 = max %0, "
    "%1 %6 = max %5, %2 %7 = add %6, %3 %8 = fma %7, %4, %4 %9 = const.f32 1e9 %10 = mul %8, %9 %11 = const.f32 -1 %12 "
    "= neg %11 %13 = add %10, %12 store y[i], %13 %14 = const.i32 -2147483648 %15 = neg %14 %16 = cvt.i32 %8 %17 = "
    "div %15, %16 %18 = rem %16, %14 %19 = sub %17, %18 store n[i], %19 } }",
    /* addresses beyond 31 bits, which a guard keeps from being used */
    "kernel @far { axis p = 3 par axis c = 5 par vec buf x : f32[16] in buf y : f32[15] out body { %0 = index p %1 = "
    "const.i32 1 %2 = lt %0, %1 %3 = load x[3000000000*p + c] if %2 %4 = load x[-5000000000*p + c + 1] if %2 %5 = add "
    "%3, %4 store y[5*p + c], %5 } }",
    /* division: every sign, zero, the least number by -1 */
    "kernel @divide { axis i = 300 par vec buf x : i32[300] in buf y : s2[300] in buf u : u32[300] in buf q : i32[300] "
    "out buf r : i32[300] out buf s : i32[300] out buf t : u32[300] out buf v : i32[300] out body { %0 = load x[i] %1 "
    "= load y[i] %2 = div %0, %1 store q[i], %2 %3 = rem %0, %1 store r[i], %3 %4 = const.i32 -2147483648 %5 = div "
    "%4, %1 store s[i], %5 %6 = load u[i] %7 = cvt.u32 %1 %8 = div %6, %7 %9 = rem %6, %7 %10 = xor %8, %9 store "
    "t[i], %10 %11 = const.i32 7 %12 = div %0, %11 %13 = rem %0, %11 %14 = sub %12, %13 store v[i], %14 } }",
    /* packed types by rows that do not end at bytes; eight neighbours with an end; one store under a guard */
    "kernel @bits { axis p = 37 par axis c = 11 par vec buf x : u2[407] in buf y : u4[407] out buf z : b1[407] out buf "
    "w : s2[407] inout body { %0 = load x[11*p + c] %1 = load w[11*p + c] %2 = add %0, %1 store y[11*p + c], %2 store "
    "w[11*p + c], %2 %3 = ne %0, %1 store z[11*p + c], %3 } }",
    "kernel @bytes { axis p = 9 par axis c = 21 par vec buf x : f32[216] in buf k : s4[216] in buf y : u4[216] out "
    "stream buf z : b1[216] out buf w : s2[216] inout buf v : u8[216] out stream body { %0 = load x[24*p + c] %1 = "
    "load w[24*p + c] %2 = load k[24*p + c] %3 = cvt.i32 %0 %4 = add %3, %2 store y[24*p + c], %4 %5 = lt %3, %2 store "
    "z[24*p + c], %5 %6 = add %1, %3 store w[24*p + c], %6 if %5 store v[24*p + c], %4 %7 = index p %8 = const.i32 4 "
    "%9 = lt %7, %8 store v[24*p + c], %3 if %9 } }",
    /* what is loaded was stored just before */
    "kernel @stages { axis p = 50 par axis c = 8 par vec buf x : f32[400] in buf t : f32[400] inout buf y : f32[400] "
    "out body { %0 = load x[8*p + c] %1 = load t[8*p + c] %2 = add %0, %1 store t[8*p + c], %2 %3 = load t[8*p + c] "
    "%4 = mul %3, %3 store y[8*p + c], %4 } }",
    /* constants stored by several neighbours at once, twice into one buffer */
    "kernel @same { axis p = 4 par axis c = 8 par vec buf y : f32[64] out buf z : u4[64] out body { %0 = const.f32 1 "
    "store y[16*p + c], %0 %1 = const.f32 2 store y[16*p + c + 8], %1 %2 = const.i32 9 store z[16*p + c], %2 } }",
    /* many chunks: slabs, with a rest, of quads and of single numbers; lanes over warps; a tile that is not full */
    "kernel @slabs { axis r = 3001 red axis c = 19 par vec buf x : f32[57019] in buf s : f32[19] out buf m : f32[19] "
    "out buf n : i32[19] out reduce chunks 301 lanes 8 body { %0 = load x[19*r + c] %1 = acc.sum %0 %2 = acc.max %0 "
    "%3 = cvt.i32 %0 %4 = acc.min %3 } final { store s[c], %1 store m[c], %2 store n[c], %4 } }",
    "kernel @full { axis r = 4096 red axis c = 16 par vec buf x : f32[65536] in buf s : f32[16] out buf m : f32[16] "
    "out reduce chunks 512 lanes 4 body { %0 = load x[16*r + c] %1 = acc.sum %0 %2 = acc.max %0 } final { store s[c], "
    "%1 store m[c], %2 } }",
    "kernel @single { axis p = 3 par axis r = 9999 red vec buf x : f32[29997] in buf s : f32[3] out buf m : i32[3] out "
    "buf n : f32[3] out reduce chunks 400 lanes 64 body { %0 = load x[9999*p + r] %1 = acc.sum %0 %2 = cvt.i32 %0 %3 = "
    "acc.max %2 %4 = acc.min %0 } final { store s[p], %1 store m[p], %3 store n[p], %4 } }",
    "kernel @wide { axis r = 5000 red axis c = 3 par vec buf x : f32[15000] in buf s : f32[3] out reduce chunks 3 "
    "lanes 1024 body { %0 = load x[3*r + c] %1 = acc.sum %0 } final { store s[c], %1 } }",
    "kernel @many { axis r = 700 red axis q = 3 red axis c = 70 par vec axis p = 2 par buf x : f32[294000] in buf s : "
    "f32[140] out reduce chunks 20 lanes 2 body { %0 = load x[210*r + 70*q + c + 147000*p] %1 = acc.sum %0 } final { "
    "store s[c + 70*p], %1 } }",
    /* no accumulators, but an end that loads what all others stored: in a slot, a block, the whole grid */
    "kernel @after1 { axis p = 5 par axis r = 90 red buf x : f32[450] in buf y : f32[450] inout buf s : f32[5] out "
    "reduce chunks 1 lanes 64 body { %0 = load x[90*p + r] store y[90*p + r], %0 } final { %1 = load y[90*p + 77] "
    "store s[p], %1 } }",
    "kernel @after8 { axis p = 5 par axis r = 90 red buf x : f32[450] in buf y : s8[450] inout buf s : i32[5] out "
    "reduce chunks 8 lanes 64 body { %0 = load x[90*p + r] %1 = cvt.i32 %0 store y[90*p + r], %1 } final { %2 = load "
    "y[90*p + 77] store s[p], %2 } }",
    "kernel @after99 { axis p = 5 par axis r = 9900 red axis k = 50 seq buf x : f32[49500] in buf y : f32[49500] inout "
    "buf s : f32[5] out reduce chunks 99 lanes 64 body { %0 = load x[9900*p + r] store y[9900*p + r], %0 } final { "
    "loop k { %1 = load y[9900*p + 198*k] %2 = acc.sum %1 } store s[p], %2 } }",
    /* elements of less than a byte from a reduction's threads */
    "kernel @mask { axis r = 300 red axis c = 16 par vec buf x : f32[4800] in buf m : b1[4800] out buf q : u4[16] out "
    "reduce chunks 4 lanes 4 body { %0 = load x[16*r + c] %1 = const.f32 0 %2 = gt %0, %1 store m[16*r + c], %2 %3 = "
    "cvt.i32 %2 %4 = acc.sum %3 } final { store q[c], %4 } }",
    /* a title that would end the comment */
    "kernel @title \"a */ b\" loc(\"net.c\":12) { axis i = 32 par vec buf x : f32[32] in buf y : f32[32] out body { "
    "%0 = load x[i] store y[i], %0 } }",
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

/* A table of so many rows; every seventh is empty. */
static Kernel *rows_kernel(Arena *a, int32_t rows, bool reduces)
{
    Str     text = str_new(a), base = str_new(a), factor = str_new(a), row = str_new(a);
    int64_t at = 0;
    str_printf(&text, "kernel @rows%d%s { segments %d { int len ", rows, reduces ? "r" : "", rows);
    for (int32_t i = 0; i < rows; i++) {
        int64_t     len = i % 7 == 3 ? 0 : i % 5 == 0 ? 4200 : 3 + i % 30;
        const char *comma = i ? "," : "";
        str_printf(&text, "%s %lld", comma, (long long)len);
        str_printf(&base, "%s %lld", comma, (long long)at);
        str_printf(&row, "%s %d", comma, i);
        str_printf(&factor, "%s %d.5", comma, i);
        at += dt_round_up(len, 4);
    }
    str_printf(&text, " int base %s int row %s float factor %s } axis i = seg.len %s vec buf x : f32[%lld] in ", base.s,
               row.s, factor.s, reduces ? "red" : "par", (long long)at);
    if (reduces)
        str_printf(&text,
                   "buf s : f32[%d] out reduce chunks 2 lanes 64 body { %%0 = load x[i + seg.base] %%1 = acc.sum %%0 } "
                   "final { %%2 = segf factor %%3 = mul %%1, %%2 store s[seg.row], %%3 } }",
                   rows);
    else
        str_printf(&text,
                   "buf y : f32[%lld] out body { %%0 = load x[i + seg.base] %%1 = segf factor %%2 = mul %%0, %%1 store "
                   "y[i + seg.base], %%2 } }",
                   (long long)at);
    return kernel_of_text(a, text.s);
}

static void test_rows(void **state)
{
    (void)state;
    static const int32_t rows[] = { 1, 2, 20, 64, 65, 161 };
    Arena                a = arena_new("rows");
    Kernel              *kernels[2 * DT_COUNT(rows)];
    for (int32_t i = 0; i < 2 * DT_COUNT(rows); i++)
        kernels[i] = rows_kernel(&a, rows[i / 2], i % 2 == 1);
    check_kernels(&a, kernels, 2 * DT_COUNT(rows), 0);
    arena_free(&a);
}

/* ---- The text --------------------------------------------------------------------------------------------------- */

static const char *const scale =
    "kernel @scale \"scale\" loc(\"net.c\":7) { axis i = 100 par vec buf x : f32[100] in buf y : f32[100] out stream "
    "body { %0 = load x[i] %1 = const.f32 3 %2 = mul %0, %1 store y[i], %2 } }";
static const char *const twin =
    "kernel @twin \"another title\" { axis j = 100 par vec buf a : f32[100] in buf b : f32[100] out stream body { %0 = "
    "load a[j] %1 = const.f32 3 %2 = mul %0, %1 store b[j], %2 } }";
static const char *const namesake =
    "kernel @scale { axis i = 50 par vec buf x : f32[50] in buf y : f32[50] out body { %0 = load x[i] %1 = const.f32 "
    "0.1 %2 = mul %0, %1 store y[i], %2 } }";

static void assert_says(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected '%s' in\n%s", part, text);
}

static void test_text(void **state)
{
    (void)state;
    Arena    a = arena_new("text");
    Kernel  *kernels[4] = { kernel_of_text(&a, scale), kernel_of_text(&a, twin), kernel_of_text(&a, namesake),
                            kernel_of_text(&a, corners[DT_COUNT(corners) - 1]) };
    CudaText t = cuda_print(&a, "net.train", kernels, 4), again = cuda_print(&a, "net.train", kernels, 4);
    assert_string_equal(t.source, again.source);
    assert_int_equal(t.n, 4);
    assert_int_equal(t.distinct, 3);
    assert_string_equal(t.kernels[1].entry, "scale");
    assert_string_equal(t.kernels[2].entry, "scale_");
    assert_int_equal(strncmp(t.source, "/* net.train: 4 kernels, 3 distinct.", 36), 0);
    assert_says(t.source, "/* scale: scale (net.c:7)\n");
    assert_says(t.source, "also launched as twin\n");
    assert_says(t.source, "#line 7 \"net.c\"\n");
    assert_says(t.source, "/* title: a * / b (net.c:12)\n");
    assert_says(t.source, "stream4_f32(v2, y + i);"); /* 25 whole groups of four */
    assert_says(t.source, "0x1.99999ap-4f /* 0.1 */");
    assert_null(strstr(t.source, "philox"));
    int32_t line = 1, ways_back = 0;
    for (const char *c = t.source; *c; c++) {
        int32_t number = 0, end = 0;
        if ((c == t.source || c[-1] == '\n') && sscanf(c, "#line %d \"net.train.cu\"%n", &number, &end) == 1 &&
            end > 0) {
            assert_int_equal(number, line + 1);
            ways_back++;
        }
        line += *c == '\n';
    }
    assert_int_equal(ways_back, 2);
    arena_free(&a);
}

static void test_numbers(void **state)
{
    (void)state;
    Arena   a = arena_new("numbers");
    Kernel *slabs = NULL;
    for (int32_t i = 0; i < DT_COUNT(corners); i++)
        if (strncmp(corners[i], "kernel @full ", 13) == 0)
            slabs = kernel_of_text(&a, corners[i]);
    CudaText t = cuda_print(&a, "numbers", &slabs, 1);
    /* 512 chunks by four slots of 16 columns and 4 lanes; two sums of 16 columns each chunk */
    assert_int_equal(t.kernels[0].block, 256);
    assert_int_equal(t.kernels[0].grid, 128);
    assert_int_equal(t.kernels[0].tickets, 1);
    assert_int_equal(t.scratch_bytes[0], 512 * 32 * 4);
    assert_true(t.kernels[0].shared_bytes > 0 && t.kernels[0].shared_bytes <= 48 << 10);
    assert_null(t.kernels[0].module);
    assert_int_equal(t.kernels[0].registers, -1);
    arena_free(&a);
}

/* ---- Networks --------------------------------------------------------------------------------------------------- */

/* Every layer there is, in odd sizes. */
static Tensor mixed_build(DtContext *dt_ctx)
{
    Tensor x = dt_relu(dt_batchnorm(dt_conv2d(dt_image(), 5, 3, .stride = 2, .no_bias = true)));
    Tensor y = dt_relu(dt_conv2d(x, 5, 3, .pad = 1, .groups = 5));
    y = dt_batchnorm(dt_conv2d(y, 9, 3, .pad = 1, .stride = 2));
    x = dt_dropout(dt_relu(dt_add(y, dt_shortcut_a(x, 9, .stride = 2))), .p = 0.25f);
    x = dt_avgpool(dt_maxpool(x, 2, .stride = 1, .pad = 1), 2, .stride = 1);
    x = dt_relu(dt_linear(dt_flatten(x), 33));
    return dt_linear(x, dt_classes());
}

static const DtModel mixed = { .name = "mixed",
                               .doc = "every layer",
                               .image = { 3, 13, 11 },
                               .classes = 7,
                               .build = mixed_build,
                               .at = { "mixed.c", 1 } };

typedef struct Net {
    const char *name;
    int         batch;
} Net;
typedef struct Quantized {
    const char *name, *method, *bits;
    bool        int8;   /* forward products of integers */
    const char *set[2]; /* settings */
    bool        hashed; /* its text is in the table of hashes */
} Quantized;
static const Quantized methods[] = {
    { "float", "float", NULL, .hashed = true },
    { "lsq.w8a8", "lsq", "w8a8", .hashed = true },
    { "lsq.w4a4", "lsq", "w4a4", .hashed = true },
    { "lsq.w2a2", "lsq", "w2a2", .hashed = true },
    { "lsq.w4a4.int8", "lsq", "w4a4", .int8 = true, .hashed = true },
    { "ptq.w4a4", "ptq", "w4a4", .hashed = true },
    { "qat.w4a4", "qat", "w4a4", .hashed = true },
    { "lsq+.w4a4", "lsq+", "w4a4", .hashed = true },
    { "quant-noise.w4a4", "quant-noise", "w4a4", .hashed = true },
    { "qsin.w4a4", "qsin", "w4a4", .hashed = true },
    { "msqe.w4a4", "msqe", "w4a4", .hashed = false },
    { "lsq.w4a4.channel", "lsq", "w4a4", .set = { "grain=channel", "noise=0.5" } },
    { "lsq+.w4a4.float", "lsq+", "w4a4", .set = { "offset=float", "config=3" } },
    { "qat.w4a4.channel", "qat", "w4a4", .set = { "grain=channel", "form=symmetric" } },
    { "ptq.w4a4.affine", "ptq", "w4a4", .set = { "form=affine" } },
    { "qsin.w4a4.quantize", "qsin", "w4a4", .set = { "training=quantize", "grain=channel" } },
    { "quant-noise.w4a4.block", "quant-noise", "w4a4", .set = { "noise-block=9" } },
    { "qat.w4a4.int8", "qat", "w4a4", .int8 = true, .set = { "grain=channel", "form=symmetric" } },
};
static const struct {
    StepKind    step;
    const char *name;
    bool        quantizers; /* without them there is no such step */
} steps[] = { { STEP_TRAIN, "train", false },
              { STEP_EVAL, "eval", false },
              { STEP_INIT, "init", true },
              { STEP_OBSERVE, "observe", true },
              { STEP_INSPECT, "inspect", true } };

typedef struct Kernels {
    Kernel **at;
    int32_t  n;
} Kernels;

static Session net_open(const char *name, const Quantized *m, int batch)
{
    Session s = { .arena = arena_new("net"), .diag = diag_new(stderr), .out = stderr };
    StrList rest = { 0 };
    char   *argv[8];
    int     argc = 0;
    argv[argc++] = arena_strdup(&s.arena, "--backend=cuda");
    argv[argc++] = arena_printf(&s.arena, "--method=%s", m->method);
    if (m->bits)
        argv[argc++] = arena_printf(&s.arena, "--bits=%s", m->bits);
    if (m->int8)
        argv[argc++] = arena_strdup(&s.arena, "--forward=int");
    for (int32_t i = 0; i < DT_COUNT(m->set) && m->set[i]; i++)
        argv[argc++] = arena_printf(&s.arena, "--set=%s", m->set[i]);
    if (batch)
        argv[argc++] = arena_printf(&s.arena, "--batch=%d", batch);
    assert_true(cli_parse(&s.arena, &s.diag, ~0u, argc, argv, &s.opt, &rest));
    const DtModel *model = str_eq(name, "mixed")  ? &mixed
                           : str_eq(name, "tiny") ? &tiny
                                                  : frontend_find(&s.arena, &s.diag, name);
    assert_non_null(model);
    assert_true(session_open(&s, model));
    return s;
}

static Kernels net_kernels(Session *s, StepKind step)
{
    bool   stopped = false;
    Graph *g = session_graph(s, step, NULL, &stopped);
    assert_non_null(g);
    assert_false(stopped);
    Kernels k = { .at = ARENA_ARRAY(&s->arena, Kernel *, g->groups.len + 1) };
    for (int32_t i = 0; i < g->groups.len; i++)
        if (g->groups.at[i].kernel)
            k.at[k.n++] = g->groups.at[i].kernel;
    return k;
}

/* Those that no program before had. */
static Kernels new_kernels(Arena *a, Kernels all, StrMap *seen)
{
    Kernels k = { .at = ARENA_ARRAY(a, Kernel *, all.n + 1) };
    for (int32_t i = 0; i < all.n; i++) {
        char hex[33];
        hash_hex(kernel_hash(all.at[i]), hex);
        if (strmap_put(seen, hex, i))
            k.at[k.n++] = all.at[i];
    }
    return k;
}

/* Sizes odd and even, every method with each; the larger network in few. */
static void test_networks(void **state)
{
    (void)state;
    static const Net nets[] = { { "tiny", 1 },  { "tiny", 5 },  { "mixed", 1 }, { "mixed", 2 },
                                { "mixed", 3 }, { "mixed", 5 }, { "mnist", 3 }, { "resnet20", 1 } };
    Arena            a = arena_new("networks");
    StrMap           seen = strmap_new(&a);
    int32_t          checked = 0;
    for (int32_t i = 0; i < DT_COUNT(nets) * DT_COUNT(methods); i++) {
        Session s = net_open(nets[i / DT_COUNT(methods)].name, &methods[i % DT_COUNT(methods)],
                             nets[i / DT_COUNT(methods)].batch);
        for (int32_t step = 0; step < DT_COUNT(steps); step++) {
            if (steps[step].quantizers && !session_needs_init(&s))
                continue;
            Kernels k = new_kernels(&s.arena, net_kernels(&s, steps[step].step), &seen);
            check_kernels(&s.arena, k.at, k.n, 4); /* labels are classes */
            checked += k.n;
        }
        session_close(&s);
    }
    assert_true(checked > 200);
    arena_free(&a);
}

/* ---- Hashes ----------------------------------------------------------------------------------------------------- */

static const char *known_hash(const char *program)
{
    for (int32_t i = 0; i < DT_COUNT(hashes); i++)
        if (str_eq(hashes[i].program, program))
            return hashes[i].hash;
    return "none";
}

/* The text of each program in its usual size. DETENT_CUDA_HASHES=1 prints the table that is right now. */
static void test_hashes(void **state)
{
    (void)state;
    static const char *const nets[] = { "mnist", "resnet20" };
    bool                     show = getenv("DETENT_CUDA_HASHES") != NULL;
    int32_t                  changed = 0;
    for (int32_t i = 0; i < DT_COUNT(nets) * DT_COUNT(methods); i++) {
        const Quantized *m = &methods[i % DT_COUNT(methods)];
        if (!m->hashed)
            continue;
        Session s = net_open(nets[i / DT_COUNT(methods)], m, 0);
        for (int32_t step = 0; step < DT_COUNT(steps); step++) {
            if (steps[step].quantizers && !session_needs_init(&s))
                continue;
            Kernels     k = net_kernels(&s, steps[step].step);
            const char *name =
                arena_printf(&s.arena, "%s.%s.%s", nets[i / DT_COUNT(methods)], m->name, steps[step].name);
            const char *source = cuda_print(&s.arena, name, k.at, k.n).source;
            char        hex[33];
            hash_hex(hash_bytes(source, strlen(source)), hex);
            if (show)
                printf("    { \"%s\", \"%s\" },\n", name, hex);
            else if (!str_eq(known_hash(name), hex))
                fprintf(stderr, "%s has hash %s, the table says %s\n", name, hex, known_hash(name)), changed++;
        }
        session_close(&s);
    }
    if (changed > 0)
        fail_msg(
            "the text of %d programs has changed. If that is meant (compare what `detent compile NET --backend=cuda "
            "--arch=sm_90 --dump-kernels=DIR` writes before and after), put what DETENT_CUDA_HASHES=1 test_cuda prints "
            "into the table of tests/unit/cuda_hashes.h",
            changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_files), cmocka_unit_test(test_corners), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_generated),    cmocka_unit_test(test_text),    cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_networks),     cmocka_unit_test(test_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
