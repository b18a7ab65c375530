/* test_calls.c: library calls: the reference loops against closed forms and against each other (a convolution and its
 * two gradients are one trilinear form), oneDNN against the reference within a bound of rounding errors. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/call_fixture.h"

/* ---- Shapes ---------------------------------------------------------------------------------------------------- */

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
    /* transposed convolutions are input gradients: their windows reach the edge on all sides */
    {  2, 64, 16, 16, 128, 2, 2, 2, 1, { 0, 0, 0, 0 }, false },
    {  2,  5, 12, 10,  8, 3, 3, 2, 1, { 1, 0, 0, 1 }, false },
    {  1,  8,  6,  6, 16, 4, 4, 2, 1, { 1, 1, 1, 1 }, false },
    {  2, 17, 13,  7,  3, 1, 1, 3, 1, { 0, 0, 0, 0 }, false },
    /* TensorFlow's SAME with stride 2: one row more below than above */
    {  2,  3, 14, 14, 40, 3, 3, 2, 1, { 0, 0, 1, 1 }, false },
    {  2, 24, 14, 14, 24, 3, 3, 2, 24, { 0, 0, 1, 1 }, false },
    {  2, 16, 15, 12, 32, 5, 5, 2, 1, { 2, 1, 2, 2 }, true  },
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

/* ---- Weights in the other order ---------------------------------------------------------------------------------- */

/* From [K, C/groups, R, S] to [K, R, S, C/groups]. */
static float *to_krsc(Arena *a, const CallDesc *d, const float *rows)
{
    int64_t cg = d->c / d->groups, i = 0;
    float  *out = ARENA_ARRAY(a, float, d->k *cg * d->r * d->s);
    for (int64_t k = 0; k < d->k; k++)
        for (int64_t c = 0; c < cg; c++)
            for (int64_t r = 0; r < d->r; r++)
                for (int64_t s = 0; s < d->s; s++, i++)
                    out[((k * d->r + r) * d->s + s) * cg + c] = rows[i];
    return out;
}

/* The same sums in the same order: the same bits, wherever the weights lie. */
static void test_reference_krsc(void **state)
{
    static const struct {
        CallKind kind;
        int32_t  weight; /* buffer */
    } kinds[] = { { CALL_CONV_FWD, 1 }, { CALL_CONV_BWD_X, 1 }, { CALL_CONV_BWD_W, 2 } };
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(conv_shapes) * DT_COUNT(kinds); i++) {
        Arena    a = arena_new("test");
        int32_t  weight = kinds[i % 3].weight;
        CallDesc d = conv_desc(&conv_shapes[i / 3], kinds[i % 3].kind);
        Case     rows = case_new(&a, d), krsc = case_new(&a, d);
        bool     made = weight == rows.n_bufs - 1;
        krsc.d.krsc = true;
        if (!made)
            krsc.bufs[weight] = to_krsc(&a, &d, rows.bufs[weight]);
        reference_call(&rows.d, (void *const *)rows.bufs, NULL);
        reference_call(&krsc.d, (void *const *)krsc.bufs, NULL);
        const float *want = made ? to_krsc(&a, &d, case_result(&rows)) : case_result(&rows);
        assert_memory_equal(want, case_result(&krsc), sizeof(float) * (size_t)case_result_elems(&rows));
        arena_free(&a);
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
    assert_true(lib->run(lib->self, prepared, (void *const *)c->bufs, scratch));
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
    /* what the passes never ask a CPU for */
    CallDesc krsc = conv_desc(&conv_shapes[0], CALL_CONV_BWD_W), codes = conv_desc(&conv_shapes[0], CALL_CONV_FWD_INT);
    krsc.krsc = true;
    codes.x_type = codes.w_type = DTYPE_S8;
    assert_int_equal(lib->scratch_bytes(lib->self, &krsc), 0);
    assert_null(lib->prepare(lib->self, &d, &krsc));
    assert_non_null(strstr(d.text.s, "weights in rows, found weights in the order [K, R, S, C]"));
    assert_int_equal(lib->scratch_bytes(lib->self, &codes), 0);
    assert_null(lib->prepare(lib->self, &d, &codes));
    assert_non_null(strstr(d.text.s, "expected float products with weights in rows, found integer products of codes"));
    assert_int_equal(d.errors, 3);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_counts_taps),
        cmocka_unit_test(test_reference_by_hand),
        cmocka_unit_test(test_reference_adjoint),
        cmocka_unit_test(test_reference_krsc),
#ifdef DT_HAVE_ONEDNN
        cmocka_unit_test(test_onednn_conv),
        cmocka_unit_test(test_onednn_linear),
        cmocka_unit_test(test_onednn_nan),
        cmocka_unit_test(test_onednn_shares_primitives),
        cmocka_unit_test(test_onednn_refuses),
#else
        cmocka_unit_test(test_onednn_absent),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
