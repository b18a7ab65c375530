/* test_exec.c: execution of programs.
 *
 * Library calls: the reference loops against closed forms and against each other (a convolution and its two gradients
 * are one trilinear form), oneDNN against the reference within a bound of rounding errors. Programs: hand-written
 * kernel entries, whose units must each run once, in any split over threads, before their finish. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/program.h"

/* ---- Shapes ---------------------------------------------------------------------------------------------------- */

typedef struct Shape {
    int64_t n, c, h, w, k, r, s, stride, groups, pad[4];
    bool    bias;
} Shape;

/* clang-format off */
static const Shape conv_shapes[] = {
    /* n  c   h   w   k  r  s st  g  pad              bias */
    {  2, 16, 12, 12, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  2, 16, 12, 12, 32, 3, 3, 2, 1, { 1, 1, 1, 1 }, false },
    {  3, 32,  8,  8, 64, 1, 1, 1, 1, { 0, 0, 0, 0 }, true  },
    {  2, 16,  9,  9, 32, 1, 1, 2, 1, { 0, 0, 0, 0 }, false },
    {  2,  3, 16, 16, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, true  },
    {  5,  1, 28, 28, 10, 5, 5, 1, 1, { 2, 2, 2, 2 }, true  },
    {  1,  1,  5,  5,  1, 3, 3, 1, 1, { 0, 0, 0, 0 }, false },
    {  2, 17,  7, 11, 10, 3, 3, 1, 1, { 1, 0, 0, 1 }, true  },
    {  2, 10,  9,  6, 17, 3, 5, 2, 1, { 0, 1, 2, 3 }, false },
    {  1, 64,  4,  4, 64, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  4,  8, 11, 11,  8, 5, 5, 2, 1, { 1, 1, 2, 2 }, true  },
    {  2, 16, 10, 10, 32, 3, 3, 1, 2, { 1, 1, 1, 1 }, true  },
    {  2, 12,  9,  9,  6, 3, 3, 2, 3, { 1, 1, 1, 1 }, false },
    {  2, 32, 10, 10, 32, 3, 3, 1, 32, { 1, 1, 1, 1 }, false },
    {  3, 17, 11,  9, 17, 5, 5, 2, 17, { 2, 2, 2, 2 }, true },
    {  1, 24, 13, 13, 24, 5, 5, 1, 24, { 2, 2, 2, 2 }, false },
    {  2,  6,  8,  8, 12, 3, 3, 1, 6, { 1, 1, 1, 1 }, false },
};
/* n, in features, out features */
static const Shape linear_shapes[] = {
    {  .n = 64, .c = 784, .k = 128, .bias = true },
    {  .n = 128, .c = 64, .k = 10, .bias = true },
    {  .n = 5, .c = 17, .k = 3 },
    {  .n = 1, .c = 1, .k = 1, .bias = true },
    {  .n = 33, .c = 130, .k = 65 },
};
/* clang-format on */

static CallDesc conv_desc(const Shape *s, CallKind kind)
{
    CallDesc d = { .kind = kind, .bias = s->bias && kind == CALL_CONV_FWD, .n = s->n, .c = s->c, .h = s->h, .w = s->w };
    d.k = s->k, d.r = s->r, d.s = s->s, d.stride = s->stride, d.groups = s->groups;
    memcpy(d.pad, s->pad, sizeof d.pad);
    d.oh = (s->h + s->pad[0] + s->pad[2] - s->r) / s->stride + 1;
    d.ow = (s->w + s->pad[1] + s->pad[3] - s->s) / s->stride + 1;
    return d;
}

static CallDesc linear_desc(const Shape *s, CallKind kind)
{
    return (CallDesc){
        .kind = kind, .bias = s->bias && kind == CALL_LINEAR_FWD, .n = s->n, .c = s->c, .k = s->k, .h = 1, .w = 1
    };
}

/* ---- One call with its buffers --------------------------------------------------------------------------------- */

enum { GUARD = 16 }; /* floats after each buffer that nobody may write */

typedef struct Case {
    CallDesc d;
    int32_t  n_bufs;
    int64_t  elems[CALL_MAX_BUFS];
    float   *bufs[CALL_MAX_BUFS]; /* the last one is the result */
} Case;

static const float guard_value = -777.25f;

static void        fill(float *at, int64_t n, uint32_t stream)
{
    for (int64_t i = 0; i < n; i++)
        at[i] = rng_uniform(11, stream, 0, (uint64_t)i) * 2 - 1;
}

static float *buf_new(Arena *a, int64_t elems)
{
    float *at = ARENA_ARRAY(a, float, elems + GUARD);
    for (int i = 0; i < GUARD; i++)
        at[elems + i] = guard_value;
    return at;
}

static Case case_new(Arena *a, CallDesc d)
{
    Case    c = { .d = d };
    bool    linear = d.kind >= CALL_LINEAR_FWD;
    int64_t x = linear ? d.n * d.c : d.n * d.c * d.h * d.w, y = linear ? d.n * d.k : d.n * d.k * d.oh * d.ow;
    int64_t w = linear ? d.k * d.c : d.k * (d.c / d.groups) * d.r * d.s;
    int64_t sizes[3][CALL_MAX_BUFS] = { { x, w, d.bias ? d.k : y, y }, { y, w, x }, { y, x, w } };
    c.n_bufs = d.bias ? 4 : 3;
    memcpy(c.elems, sizes[d.kind % 3], sizeof c.elems);
    for (int32_t i = 0; i < c.n_bufs; i++) {
        c.bufs[i] = buf_new(a, c.elems[i]);
        fill(c.bufs[i], c.elems[i], (uint32_t)i);
    }
    return c;
}

static float *case_result(const Case *c)
{
    return c->bufs[c->n_bufs - 1];
}

/* ---- Reference against closed forms ---------------------------------------------------------------------------- */

static void test_reference_counts_taps(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    /* All ones: each output counts the taps inside the image; at a corner of a 4x4 image under 3x3 that is 4 of 9. */
    Shape s = { 1, 2, 4, 4, 1, 3, 3, 1, 1, { 1, 1, 1, 1 }, true };
    Case  c = case_new(&a, conv_desc(&s, CALL_CONV_FWD));
    for (int32_t i = 0; i < c.n_bufs; i++)
        for (int64_t j = 0; j < c.elems[i]; j++)
            c.bufs[i][j] = 1;
    float abs_sums[16];
    reference_call(&c.d, (void *const *)c.bufs, abs_sums);
    const float want[16] = { 9, 13, 13, 9, 13, 19, 19, 13, 13, 19, 19, 13, 9, 13, 13, 9 };
    for (int i = 0; i < 16; i++) {
        assert_true(case_result(&c)[i] == want[i]);
        assert_true(abs_sums[i] == want[i]);
    }
    arena_free(&a);
}

static void test_reference_by_hand(void **state)
{
    (void)state;
    /* x [1,2,2,2] in NHWC, w [2,2,1,2]: row-major, k slowest; pad one column on the right, stride 1. */
    CallDesc d = { .kind = CALL_CONV_FWD, .n = 1, .c = 2, .h = 2, .w = 2, .k = 2, .r = 1, .s = 2, .oh = 2, .ow = 2 };
    d.stride = d.groups = 1, d.pad[3] = 1;
    float x[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, w[8] = { 1, 10, 100, 1000, -1, 0, 0, 1 }, y[8];
    reference_call(&d, (void *const[]){ x, w, y }, NULL);
    /* pixel (0,0): channels 1, 2; right neighbour 3, 4: k0 = 1*1 + 10*3 + 100*2 + 1000*4, k1 = -1 + 4 */
    const float want[8] = { 4231, 3, 403, -3, 8675, 3, 807, -7 };
    for (int i = 0; i < 8; i++)
        assert_true(y[i] == want[i]);

    /* matrix product: x [2,3], w [2,3], bias */
    CallDesc l = { .kind = CALL_LINEAR_FWD, .bias = true, .n = 2, .c = 3, .k = 2 };
    float    lx[6] = { 1, 2, 3, 4, 5, 6 }, lw[6] = { 1, 0, -1, 2, 2, 2 }, lb[2] = { 0.5f, -1 }, ly[4];
    reference_call(&l, (void *const[]){ lx, lw, lb, ly }, NULL);
    assert_true(ly[0] == -1.5f && ly[1] == 11 && ly[2] == -1.5f && ly[3] == 29);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* <g, conv(x, w)> = <grad_x(g, w), x> = <grad_w(g, x), w>: one trilinear form, three programs. */
static void check_adjoint(CallDesc fwd, CallDesc bwd_x, CallDesc bwd_w)
{
    Arena a = arena_new("test");
    fwd.bias = false;
    Case   f = case_new(&a, fwd), gx = case_new(&a, bwd_x), gw = case_new(&a, bwd_w);
    float *x = f.bufs[0], *w = f.bufs[1], *g = gx.bufs[0], *abs_sums = ARENA_ARRAY(&a, float, f.elems[2]);
    reference_call(&f.d, (void *const[]){ x, w, f.bufs[2] }, abs_sums);
    reference_call(&gx.d, (void *const[]){ g, w, gx.bufs[2] }, NULL);
    reference_call(&gw.d, (void *const[]){ g, x, gw.bufs[2] }, NULL);
    double by_y = dot(g, f.bufs[2], f.elems[2]), by_x = dot(gx.bufs[2], x, f.elems[0]),
           by_w = dot(gw.bufs[2], w, f.elems[1]);
    double size = 0;
    for (int64_t i = 0; i < f.elems[2]; i++)
        size += fabs((double)g[i]) * abs_sums[i];
    assert_true(size > 0 && fabs(by_y - by_x) <= FLT_EPSILON * size && fabs(by_y - by_w) <= FLT_EPSILON * size);
    arena_free(&a);
}

static void test_reference_adjoint(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(conv_shapes); i++) {
        const Shape *s = &conv_shapes[i];
        check_adjoint(conv_desc(s, CALL_CONV_FWD), conv_desc(s, CALL_CONV_BWD_X), conv_desc(s, CALL_CONV_BWD_W));
    }
    for (int32_t i = 0; i < DT_COUNT(linear_shapes); i++) {
        const Shape *s = &linear_shapes[i];
        check_adjoint(linear_desc(s, CALL_LINEAR_FWD), linear_desc(s, CALL_LINEAR_BWD_X),
                      linear_desc(s, CALL_LINEAR_BWD_W));
    }
}

/* ---- oneDNN ---------------------------------------------------------------------------------------------------- */

#ifdef DT_HAVE_ONEDNN

/* An f32 product of a sum's terms errs by a few ulps of the sum of their sizes: n ulps at worst, far fewer here. */
static const double REL_BOUND = 2e-5;

static void         check_guard(const float *at, int64_t elems)
{
    for (int i = 0; i < GUARD; i++)
        assert_true(at[elems + i] == guard_value);
}

static int64_t case_result_elems(const Case *c)
{
    return c->elems[c->n_bufs - 1];
}

/* Runs a prepared call in scratch memory of exactly the size asked for. */
static void run_call(CallLib *lib, void *prepared, Case *c)
{
    int64_t bytes = lib->scratch_bytes(lib->self, &c->d);
    assert_true(bytes >= 0 && bytes % 4 == 0);
    float *scratch = NULL;
    assert_int_equal(posix_memalign((void **)&scratch, 4096, (size_t)bytes + GUARD * sizeof(float)), 0);
    memset(scratch, 0xff, (size_t)bytes); /* NaN everywhere: nothing may come from here */
    for (int i = 0; i < GUARD; i++)
        scratch[bytes / 4 + i] = guard_value;
    lib->run(lib->self, prepared, (void *const *)c->bufs, scratch);
    check_guard(scratch, bytes / 4);
    for (int32_t i = 0; i < c->n_bufs; i++)
        check_guard(c->bufs[i], c->elems[i]);
    free(scratch);
}

static void check_against_reference(CallLib *lib, Diag *d, CallDesc desc, const char *what, int32_t row)
{
    Arena   a = arena_new("test");
    Case    c = case_new(&a, desc);
    int64_t n = case_result_elems(&c);
    float  *want = ARENA_ARRAY(&a, float, n), *abs_sums = ARENA_ARRAY(&a, float, n), *first = ARENA_ARRAY(&a, float, n);

    void   *prepared = lib->prepare(lib->self, d, &desc);
    assert_non_null(prepared);
    run_call(lib, prepared, &c);
    memcpy(first, case_result(&c), sizeof(float) * (size_t)n);
    memset(case_result(&c), 0xff, sizeof(float) * (size_t)n);
    run_call(lib, prepared, &c);
    assert_memory_equal(first, case_result(&c), sizeof(float) * (size_t)n);

    reference_call(&desc, (void *const *)c.bufs, abs_sums);
    memcpy(want, case_result(&c), sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)first[i] - want[i]) <= REL_BOUND * abs_sums[i]))
            fail_msg("%s, row %d, element %lld: %.9g, reference %.9g, sum of sizes %g", what, row, (long long)i,
                     first[i], want[i], abs_sums[i]);
    lib->unprepare(lib->self, prepared);
    arena_free(&a);
}

static void test_onednn_conv(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallLib *lib = calllib_onednn(&a, &d, 2);
    assert_non_null(lib);
    assert_memory_equal(lib->name, "oneDNN ", 7);
    for (int32_t i = 0; i < DT_COUNT(conv_shapes); i++) {
        check_against_reference(lib, &d, conv_desc(&conv_shapes[i], CALL_CONV_FWD), "forward", i);
        check_against_reference(lib, &d, conv_desc(&conv_shapes[i], CALL_CONV_BWD_X), "input gradient", i);
        check_against_reference(lib, &d, conv_desc(&conv_shapes[i], CALL_CONV_BWD_W), "weight gradient", i);
    }
    assert_int_equal(d.errors, 0);
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
}

static void test_onednn_linear(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallLib *lib = calllib_onednn(&a, &d, 0);
    assert_non_null(lib);
    for (int32_t i = 0; i < DT_COUNT(linear_shapes); i++) {
        check_against_reference(lib, &d, linear_desc(&linear_shapes[i], CALL_LINEAR_FWD), "forward", i);
        check_against_reference(lib, &d, linear_desc(&linear_shapes[i], CALL_LINEAR_BWD_X), "input gradient", i);
        check_against_reference(lib, &d, linear_desc(&linear_shapes[i], CALL_LINEAR_BWD_W), "weight gradient", i);
    }
    assert_int_equal(d.errors, 0);
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
}

/* A NaN in the first operand reaches every element whose sum holds it. (It may reach more: on old instruction sets
 * oneDNN multiplies padding by what lies beside it.) */
static void test_onednn_nan(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallLib *lib = calllib_onednn(&a, &d, 2);
    assert_non_null(lib);
    const CallDesc calls[] = { conv_desc(&conv_shapes[0], CALL_CONV_FWD), conv_desc(&conv_shapes[1], CALL_CONV_BWD_X),
                               conv_desc(&conv_shapes[0], CALL_CONV_BWD_W), conv_desc(&conv_shapes[14], CALL_CONV_FWD),
                               linear_desc(&linear_shapes[1], CALL_LINEAR_FWD) };
    for (int32_t i = 0; i < DT_COUNT(calls); i++) {
        Case c = case_new(&a, calls[i]);
        c.bufs[0][c.elems[0] / 2] = NAN;
        void *prepared = lib->prepare(lib->self, &d, &calls[i]);
        assert_non_null(prepared);
        run_call(lib, prepared, &c);
        int64_t n = case_result_elems(&c), found = 0;
        float  *got = arena_copy(&a, case_result(&c), sizeof(float) * (size_t)n);
        reference_call(&calls[i], (void *const *)c.bufs, NULL);
        for (int64_t j = 0; j < n; j++) {
            found += isnan(case_result(&c)[j]) != 0;
            if (isnan(case_result(&c)[j]) && !isnan(got[j]))
                fail_msg("call %d, element %lld: %g, but a NaN is in its sum", i, (long long)j, got[j]);
        }
        assert_true(found > 0 && found < n);
    }
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
}

static void test_onednn_shares_primitives(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallLib *lib = calllib_onednn(&a, &d, 1);
    assert_non_null(lib);
    CallDesc one = conv_desc(&conv_shapes[0], CALL_CONV_FWD), same = one, other = one;
    other.stride = 2, other.oh = other.ow = 6;
    int64_t bytes = lib->scratch_bytes(lib->self, &one);
    void   *p = lib->prepare(lib->self, &d, &one), *q = lib->prepare(lib->self, &d, &same);
    void   *r = lib->prepare(lib->self, &d, &other);
    assert_ptr_equal(p, q);
    assert_ptr_not_equal(p, r);
    lib->unprepare(lib->self, p);
    Case c = case_new(&a, one);
    run_call(lib, q, &c);
    lib->unprepare(lib->self, r);
    lib->unprepare(lib->self, q);
    /* closed by the last one; asked again, it opens again */
    assert_int_equal(lib->scratch_bytes(lib->self, &one), bytes);
    p = lib->prepare(lib->self, &d, &one);
    run_call(lib, p, &c);
    lib->release(lib->self);
    lib->unprepare(lib->self, p); /* after a release: nothing to do */
    lib->release(lib->self);
    assert_int_equal(d.errors, 0);
    diag_free(&d);
    arena_free(&a);
}

static void test_onednn_refuses(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(NULL);
    CallLib *lib = calllib_onednn(&a, &d, 1);
    assert_non_null(lib);
    CallDesc wrong = conv_desc(&conv_shapes[0], CALL_CONV_FWD);
    wrong.oh += 3; /* no such output size */
    assert_int_equal(lib->scratch_bytes(lib->self, &wrong), 0);
    assert_null(lib->prepare(lib->self, &d, &wrong));
    assert_int_equal(d.errors, 1);
    assert_non_null(strstr(d.text.s, "refuses a call"));
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
}

#else

static void test_onednn_absent(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Diag  d = diag_new(NULL);
    assert_null(calllib_onednn(&a, &d, 1));
    assert_int_equal(d.errors, 1);
    assert_non_null(strstr(d.text.s, "DT_ONEDNN"));
    diag_free(&d);
    arena_free(&a);
}

#endif

/* ---- Programs of hand-written kernels -------------------------------------------------------------------------- */

enum { ELEMS = 40000, UNIT = 100, UNITS = ELEMS / UNIT, COLUMNS = 64 };

/* y = 2 x + 1; visits counts how often each unit ran */
static void affine_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    const float *x = bufs[0];
    float       *y = bufs[1];
    int32_t     *visits = bufs[2];
    for (int64_t u = lo; u < hi; u++) {
        visits[u]++;
        for (int64_t i = u * UNIT; i < (u + 1) * UNIT; i++)
            y[i] = 2 * x[i] + 1;
    }
}

/* Partial sums of each column in scratch, then their sums in the order of units. The last unit is late, and the partial
 * sums are spoiled when they have been read: a finish that does not wait is seen. */
static void columns_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self;
    const float *x = bufs[0];
    float       *part = scratch;
    for (int64_t u = lo; u < hi; u++) {
        if (u == UNITS - 1)
            nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        for (int64_t c = 0; c < COLUMNS; c++) {
            float sum = 0;
            for (int64_t i = u * UNIT; i < (u + 1) * UNIT; i++)
                sum += x[i] * (float)(c + 1);
            part[u * COLUMNS + c] = sum;
        }
    }
}

static void columns_finish(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    const float *factor = self;
    float       *part = scratch, *out = bufs[1];
    for (int64_t c = lo; c < hi; c++) {
        float sum = 0;
        for (int64_t u = 0; u < UNITS; u++)
            sum += part[u * COLUMNS + c], part[u * COLUMNS + c] = NAN;
        out[c] = sum * *factor;
    }
}

/* param += state; state unchanged */
static void bump_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    float       *p = bufs[0];
    const float *s = bufs[1];
    for (int64_t i = lo; i < hi; i++)
        p[i] += s[i];
}

static void copy_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    memcpy((float *)bufs[1] + lo, (const float *)bufs[0] + lo, sizeof(float) * (size_t)(hi - lo));
}

static ProgTensor tensor(TensorKind kind, const char *name, ArenaKind arena, int64_t offset, int64_t elems)
{
    return (ProgTensor){ .kind = kind,
                         .name = name,
                         .dtype = DTYPE_F32,
                         .rank = 1,
                         .dim = { elems, 1, 1, 1 },
                         .elems = elems,
                         .bytes = elems * 4,
                         .at = { arena, offset } };
}

static const float half = 0.5f;

/* x -> work (affine) -> out (sums of columns) */
enum { SUM_OUT = ELEMS * 4, SUM_VISITS = SUM_OUT + 256, SUM_SCRATCH = UNITS * COLUMNS * 4 };
static Program sum_program(void)
{
    static const MemRef affine_bufs[] = { { ARENA_IO, 0 }, { ARENA_WORK, 0 }, { ARENA_IO, SUM_VISITS } };
    static const MemRef sum_bufs[] = { { ARENA_WORK, 0 }, { ARENA_IO, SUM_OUT } };
    static KernelImage  images[] = {
        { .name = "affine", .run = affine_run, .units = UNITS, .bytes = ELEMS * 8, .n_bufs = 3 },
        { .name = "columns",
           .self = &half,
           .run = columns_run,
           .finish = columns_finish,
           .units = UNITS,
           .finish_units = COLUMNS,
           .scratch_bytes = SUM_SCRATCH,
           .bytes = ELEMS * 4,
           .n_bufs = 2 },
    };
    static Launch launches[] = {
        { .kind = LAUNCH_KERNEL, .name = "affine", .image = 0, .bufs = affine_bufs, .n_bufs = 3 },
        { .kind = LAUNCH_KERNEL,
          .name = "columns",
          .image = 1,
          .bufs = sum_bufs,
          .n_bufs = 2,
          .scratch_bytes = SUM_SCRATCH },
    };
    static ProgTensor tensors[3];
    tensors[0] = tensor(TENSOR_INPUT, "x", ARENA_IO, 0, ELEMS);
    tensors[1] = tensor(TENSOR_OUTPUT, "out", ARENA_IO, SUM_OUT, COLUMNS);
    tensors[2] = tensor(TENSOR_OUTPUT, "visits", ARENA_IO, SUM_VISITS, UNITS);
    tensors[2].dtype = DTYPE_I32;
    return (Program){ .name = "sum",
                      .bytes = { SUM_VISITS + UNITS * 4, 0, 0, ELEMS * 4, SUM_SCRATCH },
                      .tensors = tensors,
                      .n_tensors = 3,
                      .images = images,
                      .n_images = 2,
                      .launches = launches,
                      .n_launches = 2 };
}

static void test_units_and_threads(void **state)
{
    (void)state;
    float first[COLUMNS];
    for (int threads = 1; threads <= 3; threads++) {
        Arena   a = arena_new("test");
        Diag    d = diag_new(stderr);
        Program p = sum_program();
        Exec   *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = threads, .profile = true });
        assert_int_equal(exec_threads(e), threads);
        assert_int_equal(exec_add(e, &p), 0);
        float *x = exec_ptr(e, 0, program_tensor(&p, "x"));
        assert_int_equal((uintptr_t)x % 4096, 0);
        for (int64_t i = 0; i < ELEMS; i++)
            x[i] = rng_uniform(5, 1, 0, (uint64_t)i) - 0.5f;
        for (int run = 0; run < 3; run++)
            exec_run(e, 0);
        const int32_t *visits = exec_ptr(e, 0, program_tensor(&p, "visits"));
        for (int64_t u = 0; u < UNITS; u++)
            assert_int_equal(visits[u], 3);
        const float *out = exec_ptr(e, 0, program_tensor(&p, "out"));
        if (threads == 1) {
            /* column c holds (c + 1) / 2 times the sum of 2 x + 1 */
            double sum = 0;
            for (int64_t i = 0; i < ELEMS; i++)
                sum += 2.0 * x[i] + 1;
            for (int c = 0; c < COLUMNS; c++)
                assert_true(fabs(out[c] - sum * (c + 1) / 2) <= 1e-5 * ELEMS * (c + 1));
            memcpy(first, out, sizeof first);
        }
        assert_memory_equal(first, out, sizeof first);
        assert_int_equal(exec_launch_count(e, 0), 3);
        assert_true(exec_launch_seconds(e, 0, 0) > 0 && exec_launch_seconds(e, 0, 1) > 0);
        exec_free(e);
        diag_free(&d);
        arena_free(&a);
    }
}

/* A huge number of threads for few units: some parts are empty. */
static void test_more_threads_than_units(void **state)
{
    (void)state;
    Arena       a = arena_new("test");
    Diag        d = diag_new(stderr);
    Program     p = sum_program();
    KernelImage images[2] = { p.images[0], p.images[1] };
    images[0].units = 2; /* the first 200 elements */
    p.images = images;
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 3 });
    assert_int_equal(exec_add(e, &p), 0);
    exec_run(e, 0);
    const int32_t *visits = exec_ptr(e, 0, program_tensor(&p, "visits"));
    assert_int_equal(visits[0], 1);
    assert_int_equal(visits[1], 1);
    assert_int_equal(visits[2], 0);
    assert_true(exec_launch_seconds(e, 0, 0) == 0); /* no profile was asked for */
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

/* Two programs that share params and states: "bump" adds a state to a param, "look" copies the param out. */
typedef struct Pair {
    ProgTensor bump_tensors[2], look_tensors[2];
    Program    bump, look;
} Pair;

static void pair_init(Pair *q)
{
    static const MemRef bump_bufs[] = { { ARENA_PARAM, 64 }, { ARENA_STATE, 0 } };
    static const MemRef look_bufs[] = { { ARENA_PARAM, 64 }, { ARENA_WORK, 1 << 20 } };
    static const MemRef out_bufs[] = { { ARENA_WORK, 1 << 20 }, { ARENA_IO, 128 } };
    static KernelImage  bump_images[] = { { .name = "bump", .run = bump_run, .units = 8, .bytes = 64, .n_bufs = 2 } };
    static KernelImage  look_images[] = {
        { .name = "copy", .run = copy_run, .units = 8, .bytes = 1 << 20, .n_bufs = 2 }
    };
    static Launch bump_launches[] = { { .kind = LAUNCH_KERNEL, .name = "bump", .bufs = bump_bufs, .n_bufs = 2 } };
    static Launch look_launches[] = { { .kind = LAUNCH_KERNEL, .name = "look", .bufs = look_bufs, .n_bufs = 2 },
                                      { .kind = LAUNCH_KERNEL, .name = "out", .bufs = out_bufs, .n_bufs = 2 } };
    ProgTensor    param = tensor(TENSOR_PARAM, "w", ARENA_PARAM, 64, 8),
               moment = tensor(TENSOR_STATE, "m", ARENA_STATE, 0, 8);
    *q = (Pair){ .bump_tensors = { param, moment },
                 .look_tensors = { param, tensor(TENSOR_OUTPUT, "y", ARENA_IO, 128, 8) } };
    q->bump = (Program){ .name = "bump",
                         .bytes = { 0, 96, 32, 0, 0 },
                         .tensors = q->bump_tensors,
                         .n_tensors = 2,
                         .images = bump_images,
                         .n_images = 1,
                         .launches = bump_launches,
                         .n_launches = 1 };
    q->look = (Program){ .name = "look",
                         .bytes = { 160, 96, 0, 4 << 20, 0 },
                         .tensors = q->look_tensors,
                         .n_tensors = 2,
                         .images = look_images,
                         .n_images = 1,
                         .launches = look_launches,
                         .n_launches = 2 };
}

static void test_programs_share(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Diag  d = diag_new(stderr);
    Pair  q;
    pair_init(&q);
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 2 });
    assert_int_equal(exec_add(e, &q.bump), 0);
    float *w = exec_ptr(e, 0, program_tensor(&q.bump, "w")), *m = exec_ptr(e, 0, program_tensor(&q.bump, "m"));
    for (int i = 0; i < 8; i++) {
        assert_true(w[i] == 0 && m[i] == 0); /* memory starts as zeros */
        w[i] = (float)i, m[i] = 0.5f;
    }
    exec_run(e, 0);
    assert_int_equal(exec_add(e, &q.look), 1); /* a larger work block: everything is bound anew */
    assert_ptr_equal(exec_ptr(e, 1, program_tensor(&q.look, "w")), w);
    exec_run(e, 0);
    exec_run(e, 1);
    const float *y = exec_ptr(e, 1, program_tensor(&q.look, "y"));
    for (int i = 0; i < 8; i++)
        assert_true(y[i] == (float)i + 1);
    Program again = q.look; /* the same code twice: its own inputs and outputs */
    assert_int_equal(exec_add(e, &again), 2);
    assert_ptr_not_equal(exec_ptr(e, 2, program_tensor(&again, "y")), y);
    assert_null(program_tensor(&again, "m"));
    assert_int_equal(exec_launch_count(e, 0), 2);
    assert_int_equal(exec_launch_count(e, 2), 0);
    assert_int_equal(d.errors, 0);
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

static void test_programs_disagree(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Diag  d = diag_new(NULL);
    Pair  q;
    pair_init(&q);
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 1 });
    assert_int_equal(exec_add(e, &q.bump), 0);
    q.look_tensors[0].at.offset = 0; /* the param elsewhere */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 1);
    assert_non_null(strstr(d.text.s, "program look: param w"));
    q.look_tensors[0].at.offset = 64;
    q.look_tensors[0].name = "v";
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 2);
    q.look_tensors[0].name = "w";
    q.look.bytes[ARENA_PARAM] = 128; /* more params */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 3);
    q.look.bytes[ARENA_PARAM] = 96;
    assert_int_equal(exec_add(e, &q.look), 1);
    q.look.bytes[ARENA_WORK] = INT64_C(1) << 60; /* more than any machine has */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 4);
    assert_non_null(strstr(d.text.s, "values inside a step"));
    exec_run(e, 1); /* what was there still runs */
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

/* ---- Calls in programs ----------------------------------------------------------------------------------------- */

/* x, w -> conv -> y */
static Program conv_program(CallDesc d, int64_t scratch, MemRef bufs[3], Launch *launch, ProgTensor tensors[3])
{
    tensors[0] = tensor(TENSOR_INPUT, "x", ARENA_IO, 0, d.n * d.c * d.h * d.w);
    tensors[0].rank = 4, tensors[0].nhwc = true;
    memcpy(tensors[0].dim, (const int64_t[]){ d.n, d.c, d.h, d.w }, sizeof tensors[0].dim);
    tensors[1] = tensor(TENSOR_PARAM, "w", ARENA_PARAM, 0, d.k * d.c * d.r * d.s);
    tensors[2] = tensor(TENSOR_OUTPUT, "y", ARENA_IO, dt_round_up(tensors[0].bytes, 64), d.n * d.k * d.oh * d.ow);
    tensors[2].rank = 4, tensors[2].nhwc = true;
    memcpy(tensors[2].dim, (const int64_t[]){ d.n, d.k, d.oh, d.ow }, sizeof tensors[2].dim);
    for (int i = 0; i < 3; i++)
        bufs[i] = tensors[i].at;
    *launch =
        (Launch){ .kind = LAUNCH_CALL, .name = "conv", .call = d, .bufs = bufs, .n_bufs = 3, .scratch_bytes = scratch };
    return (Program){ .name = "conv",
                      .bytes = { tensors[2].at.offset + tensors[2].bytes, tensors[1].bytes, 0, 0, scratch },
                      .tensors = tensors,
                      .n_tensors = 3,
                      .launches = launch,
                      .n_launches = 1 };
}

/* The result in logical order. */
static float *run_conv_program(Arena *a, Diag *d, CallLib *lib, CallDesc desc)
{
    MemRef     bufs[3];
    Launch     launch;
    ProgTensor tensors[3];
    Program    p = conv_program(desc, lib->scratch_bytes(lib->self, &desc), bufs, &launch, tensors);
    Exec      *e = exec_new(a, d, lib, (ExecOptions){ .threads = 2 });
    int32_t    i = exec_add(e, &p);
    assert_int_equal(i, 0);
    float *x = ARENA_ARRAY(a, float, tensors[0].elems), *y = ARENA_ARRAY(a, float, tensors[2].elems);
    fill(x, tensors[0].elems, 0);
    tensor_write(e, i, &tensors[0], x);
    fill(exec_ptr(e, i, &tensors[1]), tensors[1].elems, 1);
    exec_run(e, i);
    exec_run(e, i);
    tensor_read(e, i, &tensors[2], y);
    exec_free(e);
    return y;
}

static void test_call_in_program(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallDesc desc = conv_desc(&conv_shapes[1], CALL_CONV_FWD);
    float   *want = run_conv_program(&a, &d, calllib_reference(&a), desc);
    /* by hand: logical (n 1, k 3, oh 2, ow 4), from the logical x */
    Case   c = case_new(&a, desc);
    double sum = 0;
    for (int64_t ch = 0; ch < desc.c; ch++)
        for (int64_t r = 0; r < 3; r++)
            for (int64_t s = 0; s < 3; s++)
                sum += (double)c.bufs[0][((1 * desc.c + ch) * desc.h + 2 * 2 + r - 1) * desc.w + 4 * 2 + s - 1] *
                       c.bufs[1][((3 * desc.c + ch) * 3 + r) * 3 + s];
    assert_true(fabs(want[((1 * desc.k + 3) * desc.oh + 2) * desc.ow + 4] - sum) < 1e-5);
#ifdef DT_HAVE_ONEDNN
    CallLib *lib = calllib_onednn(&a, &d, 2);
    float   *got = run_conv_program(&a, &d, lib, desc);
    for (int64_t i = 0; i < case_result_elems(&c); i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-4f);

    /* planned for a library that needs no scratch */
    MemRef     bufs[3];
    Launch     launch;
    ProgTensor tensors[3];
    Diag       quiet = diag_new(NULL);
    Program    p = conv_program(desc, 0, bufs, &launch, tensors);
    Exec      *e = exec_new(&a, &quiet, lib, (ExecOptions){ .threads = 2 });
    assert_int_equal(exec_add(e, &p), -1);
    assert_int_equal(quiet.errors, 1);
    assert_non_null(strstr(quiet.text.s, "bytes of scratch with oneDNN"));
    exec_free(e);
    diag_free(&quiet);
#endif
    assert_int_equal(d.errors, 0);
    diag_free(&d);
    arena_free(&a);
}

/* ---- Tensors in logical order ---------------------------------------------------------------------------------- */

static void test_tensor_order(void **state)
{
    (void)state;
    const DType types[] = { DTYPE_F32, DTYPE_S8, DTYPE_U4, DTYPE_U2, DTYPE_B1 };
    for (int32_t i = 0; i < DT_COUNT(types); i++) {
        Arena      a = arena_new("test");
        Diag       d = diag_new(stderr);
        int64_t    elems = 2 * 3 * 4 * 5, bytes = dtype_bytes(types[i], elems);
        ProgTensor t = { .kind = TENSOR_STATE,
                         .name = "t",
                         .dtype = types[i],
                         .rank = 4,
                         .dim = { 2, 3, 4, 5 },
                         .nhwc = true,
                         .elems = elems,
                         .bytes = bytes,
                         .at = { ARENA_STATE, 0 } };
        Program    p = { .name = "p", .bytes = { 0, 0, bytes, 0, 0 }, .tensors = &t, .n_tensors = 1 };
        Exec      *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 1 });
        assert_int_equal(exec_add(e, &p), 0);
        uint8_t in[480], out[480];
        for (int j = 0; j < 480; j++)
            in[j] = (uint8_t)(37 * j + 11);
        memset(out, 0, sizeof out);
        tensor_write(e, 0, &t, in);
        tensor_read(e, 0, &t, out);
        assert_memory_equal(in, out, (size_t)bytes);
        const uint8_t *at = exec_ptr(e, 0, &t);
        if (types[i] == DTYPE_S8) /* n 1, c 2, h 3, w 1 */
            assert_int_equal(at[((1 * 4 + 3) * 5 + 1) * 3 + 2], in[((1 * 3 + 2) * 4 + 3) * 5 + 1]);
        if (types[i] == DTYPE_U4) { /* the same element, four bits */
            int64_t to = ((1 * 4 + 3) * 5 + 1) * 3 + 2, from = ((1 * 3 + 2) * 4 + 3) * 5 + 1;
            assert_int_equal(at[to / 2] >> to % 2 * 4 & 15, in[from / 2] >> from % 2 * 4 & 15);
        }
        exec_free(e);
        diag_free(&d);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_counts_taps),
        cmocka_unit_test(test_reference_by_hand),
        cmocka_unit_test(test_reference_adjoint),
#ifdef DT_HAVE_ONEDNN
        cmocka_unit_test(test_onednn_conv),
        cmocka_unit_test(test_onednn_linear),
        cmocka_unit_test(test_onednn_nan),
        cmocka_unit_test(test_onednn_shares_primitives),
        cmocka_unit_test(test_onednn_refuses),
#else
        cmocka_unit_test(test_onednn_absent),
#endif
        cmocka_unit_test(test_units_and_threads),
        cmocka_unit_test(test_more_threads_than_units),
        cmocka_unit_test(test_programs_share),
        cmocka_unit_test(test_programs_disagree),
        cmocka_unit_test(test_call_in_program),
        cmocka_unit_test(test_tensor_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
