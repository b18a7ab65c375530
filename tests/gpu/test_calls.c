/* test_calls.c: library calls on the GPU - cuDNN in single precision - against plain loops, within the bound that
 * cli/check_calls.c states; with channels, windows, strides and pads that the networks of models/ do not have. Their
 * own calls are compared by `detent check`, in test_check.py. */
#include "tests/gpu/gpu_backend.h"

typedef struct Shapes {
    const char *what;
    int64_t     n, c, h, w, k, r, s, stride, groups, pad[4]; /* top, left, bottom, right */
} Shapes;

/* clang-format off */
static const Shapes shapes[] = {
    { "stem",              4,  3, 32, 32, 16, 3, 3, 1, 1, { 1, 1, 1, 1 } },
    { "3x3",               4, 16, 32, 32, 16, 3, 3, 1, 1, { 1, 1, 1, 1 } },
    { "3x3, stride 2",     4, 16, 32, 32, 32, 3, 3, 2, 1, { 1, 1, 1, 1 } },
    { "last stage",        4, 64,  8,  8, 64, 3, 3, 1, 1, { 1, 1, 1, 1 } },
    { "one channel in",    4,  1, 28, 28, 32, 3, 3, 1, 1, { 0, 0, 0, 0 } },
    { "1x1",               2, 24, 14, 14, 40, 1, 1, 1, 1, { 0, 0, 0, 0 } },
    { "1x1, stride 2",     2, 32, 15, 15,  8, 1, 1, 2, 1, { 0, 0, 0, 0 } },
    { "5x5, odd channels", 3,  5, 13, 11,  7, 5, 5, 1, 1, { 2, 2, 2, 2 } },
    { "1x3",               2,  6,  9,  9,  6, 1, 3, 1, 1, { 0, 1, 0, 1 } },
    { "one image",         1, 16,  7,  7, 16, 3, 3, 1, 1, { 1, 1, 1, 1 } },
    { "transposed 2x2",    2, 64, 16, 16, 128, 2, 2, 2, 1, { 0, 0, 0, 0 } },
    { "transposed 3x3",    2,  5, 12, 10,  8, 3, 3, 2, 1, { 1, 0, 0, 1 } },
    { "SAME, stride 2",    2,  3, 14, 14, 40, 3, 3, 2, 1, { 0, 0, 1, 1 } },
};
static const struct { int64_t n, in, out; bool bias; } linears[] = {
    { 32, 64, 10, true }, { 64, 9216, 128, true }, { 7, 33, 5, true }, { 1, 10, 3, false }, { 16, 128, 100, false },
};
/* clang-format on */

static void check(GpuTest *t, CallDesc call, const char *what)
{
    Arena      a = arena_new("call");
    CallResult r;
    if (!check_call(&a, &t->d, t->gpu, t->lib, &call, 1, &r))
        fail_msg("%s: %s could not be run", what, check_call_text(&a, &call));
    if (!r.ok)
        fail_msg("%s: %s by %s: %s", what, check_call_text(&a, &call), t->lib->name, r.where);
    assert_true(r.compared > 0);
    arena_free(&a);
}

static CallDesc conv(const Shapes *s, CallKind kind)
{
    CallDesc d = { .kind = kind, .n = s->n, .c = s->c, .h = s->h, .w = s->w, .k = s->k, .r = s->r, .s = s->s };
    d.stride = s->stride, d.groups = s->groups, d.krsc = true;
    memcpy(d.pad, s->pad, sizeof d.pad);
    d.oh = (s->h + s->pad[0] + s->pad[2] - s->r) / s->stride + 1;
    d.ow = (s->w + s->pad[1] + s->pad[3] - s->s) / s->stride + 1;
    return d;
}

static void test_convolutions(void **state)
{
    for (int32_t i = 0; i < DT_COUNT(shapes); i++) {
        check(*state, conv(&shapes[i], CALL_CONV_FWD), shapes[i].what);
        check(*state, conv(&shapes[i], CALL_CONV_BWD_X), shapes[i].what);
        check(*state, conv(&shapes[i], CALL_CONV_BWD_W), shapes[i].what);
    }
}

static void test_bias(void **state)
{
    CallDesc d = conv(&shapes[4], CALL_CONV_FWD);
    d.bias = true;
    check(*state, d, "bias");
}

/* Codes of 8 bits: sums are exact, one rounding by the scale is left. */
static void test_integer_convolutions(void **state)
{
    for (int32_t i = 0; i < DT_COUNT(shapes); i++)
        for (int per_k = 0; per_k < 2; per_k++) {
            CallDesc d = conv(&shapes[i], CALL_CONV_FWD_INT);
            d.x_type = i % 2 ? DTYPE_U8 : DTYPE_S8, d.w_type = DTYPE_S8, d.scale_per_k = per_k;
            check(*state, d, shapes[i].what);
        }
}

static void test_matrix_products(void **state)
{
    static const CallKind kinds[] = { CALL_LINEAR_FWD, CALL_LINEAR_BWD_X, CALL_LINEAR_BWD_W };
    for (int32_t i = 0; i < DT_COUNT(linears); i++)
        for (int32_t j = 0; j < DT_COUNT(kinds); j++) {
            CallDesc d = { .kind = kinds[j], .n = linears[i].n, .c = linears[i].in, .k = linears[i].out };
            d.h = d.w = d.r = d.s = d.oh = d.ow = d.stride = d.groups = 1, d.krsc = true;
            d.bias = linears[i].bias && kinds[j] == CALL_LINEAR_FWD;
            check(*state, d, "matrix product");
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_integer_convolutions),
        cmocka_unit_test(test_matrix_products),
    };
    return gpu_there() ? cmocka_run_group_tests(tests, gpu_open_all, gpu_close_all) : SKIPPED;
}
