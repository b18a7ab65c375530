/* test_check.c: `detent check` finds what it is there to find: gradients that are slightly wrong, a quantizer with
 * another scale of the step's gradient, kernels that differ in one instruction, a store behind a buffer, a library that
 * errs. And the command itself on a whole network: its table, its verdict, its exit code. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

#include <math.h>

static CheckBackend interp(Fixture *f)
{
    CheckBackend b;
    if (!check_backend_open(&b, &f->a, &f->d, false, 1, 0))
        fail_msg("%s", fixture_said(f));
    return b;
}

static GradResult gradients(Fixture *f, const Graph *g)
{
    CheckBackend b = interp(f);
    GradResult   r;
    if (!check_gradients(&b, g, &r))
        fail_msg("%s", fixture_said(f));
    check_backend_close(&b);
    return r;
}

/* ---- Gradients
 * ------------------------------------------------------------------------------------------------------- */

/* `through`: what lies between the result that is looked at and the loss. */
static Graph *case_with(Fixture *f, const char *op, const char *through)
{
    return fixture_graph(f,
                         arena_printf(&f->a,
                                      "graph @case {\n  %%0 = param \"x0\" : f32[2x3x4x4]\n  %%1 = %s : f32[2x3x4x4]\n"
                                      "  %%2 = %s : f32[2x3x4x4]\n  %%3 = input \"r\" : f32[2x3x4x4]\n"
                                      "  %%4 = mul %%3, %%2 : f32[2x3x4x4]\n  output %%1 \"out\"\n"
                                      "  %%5 = reduce_sum %%4 : f32[]\n  output %%5 \"loss\"\n}\n",
                                      op, through));
}

static void test_right_gradients_pass(void **state)
{
    Fixture *f = *state;
    assert_true(gradients(f, case_with(f, "relu %0", "scale %1 {scale=1}")).ok);
    assert_true(gradients(f, case_with(f, "scale %0 {scale=3}", "scale %1 {scale=1}")).ok);
}

/* The step differentiates more than the result that is compared: off by a ten-thousandth, off in sign, absent. */
static void test_wrong_gradients_fail(void **state)
{
    static const char *const wrong[] = { "scale %1 {scale=1.0001}", "scale %1 {scale=-1}", "scale %1 {scale=0}",
                                         "mul %1, %1", "add %1, %0" };
    Fixture                 *f = *state;
    for (int i = 0; i < DT_COUNT(wrong); i++) {
        GradResult r = gradients(f, case_with(f, "relu %0", wrong[i]));
        if (r.ok)
            fail_msg("'%s' was not noticed: worst %g", wrong[i], r.worst);
        assert_has(r.where, "x0");
        assert_has(r.where, "expected");
    }
}

/* Wrong at a single element of many: the directions see every one. */
static void test_one_wrong_element_fails(void **state)
{
    Fixture *f = *state;
    Graph   *g = fixture_graph(
        f, "graph @case {\n  %0 = param \"x0\" : f32[1x1x20x20]\n  %1 = scale %0 {scale=2} : f32[1x1x20x20]\n"
             "  %2 = shortcut_a %1 {channels=1, stride=19} : f32[1x1x2x2]\n"
             "  %3 = input \"r\" : f32[1x1x20x20]\n  %4 = mul %3, %1 : f32[1x1x20x20]\n  output %1 \"out\"\n"
             "  %5 = reduce_sum %4 : f32[]\n  %6 = reduce_sum %2 : f32[]\n  %7 = add %5, %6 : f32[]\n"
             "  output %7 \"loss\"\n}\n");
    assert_false(gradients(f, g).ok);
}

static Graph *qdq_case(Fixture *f, const char *attrs, const char *through)
{
    return fixture_graph(
        f, arena_printf(&f->a,
                        "graph @case {\n  %%0 = param \"x0\" : f32[3x4x5x5]\n  %%1 = param \"x1\" : f32[]\n"
                        "  %%2 = qdq %%0, %%1 {%s} : f32[3x4x5x5]\n  %%3 = input \"r\" : f32[3x4x5x5]\n"
                        "  %%4 = %s : f32[3x4x5x5]\n  %%5 = mul %%3, %%4 : f32[3x4x5x5]\n  output %%2 \"out\"\n"
                        "  %%6 = reduce_sum %%5 : f32[]\n  output %%6 \"loss\"\n}\n",
                        attrs, through));
}

static void test_quantizers(void **state)
{
    static const char *const attrs[] = { "lo=-8, hi=7, bits=4", "lo=0, hi=15, bits=4, role=\"act\"",
                                         "lo=-2, hi=1, bits=2", "lo=0, hi=255, bits=8, role=\"act\"" };
    Fixture                 *f = *state;
    for (int i = 0; i < DT_COUNT(attrs); i++) {
        GradResult right = gradients(f, qdq_case(f, attrs[i], "scale %2 {scale=1}"));
        if (!right.ok)
            fail_msg("%s: %s", attrs[i], right.where);
        assert_true(right.compared == 3 * 4 * 5 * 5 + 1);
        assert_false(gradients(f, qdq_case(f, attrs[i], "scale %2 {scale=1.001}")).ok);
        assert_false(gradients(f, qdq_case(f, attrs[i], "add %2, %1")).ok); /* the step alone gets more */
    }
}

/* Known answers: signed, 2 bits, step 1/2. The gradient of the step, before the factor 1 / sqrt(N hi). */
static void test_lsq_known_answers(void **state)
{
    static const double x[] = { -2.0, -1.2, -0.8, 0.26, 0.45, 0.6, 0.9 };
    static const double out[] = { -1, -1, -1, 0.5, 0.5, 0.5, 0.5 }, inside[] = { 0, 0, 1, 1, 1, 0, 0 };
    static const double step[] = { -2, -2, -0.4, 0.48, 0.1, 1, 1 };
    Fixture            *f = *state;
    CheckBackend        b = interp(f);
    CheckSetup setup = { .step = STEP_TRAIN, .passes = "autodiff,decompose,layout,fuse,schedule,plan-memory,lower" };
    CheckNet   net;
    Graph     *g = fixture_graph(f, "graph @lsq {\n  %0 = param \"x\" : f32[7]\n  %1 = param \"s\" : f32[]\n"
                                        "  %2 = qdq %0, %1 {lo=-2, hi=1, bits=2} : f32[7]\n  %3 = input \"r\" : f32[7]\n"
                                        "  %4 = mse %2, %3 : f32[]\n  output %2 \"out\"\n  output %4 \"loss\"\n}\n");
    if (!check_net_open(&net, &b, g, &setup))
        fail_msg("%s", fixture_said(f));
    check_net_write(&net, "x", x);
    check_net_write(&net, "s", (double[]){ 0.5 });
    for (int i = 0; i < 7; i++) { /* a loss whose gradient is 1 at element i alone */
        double target[7], sum = 0;
        for (int k = 0; k < 7; k++)
            target[k] = out[k] - (k == i ? 3.5 : 0);
        check_net_write(&net, "r", target);
        check_net_run(&net);
        const double *y = check_net_read(&f->a, &net, "out"), *dx = check_net_read(&f->a, &net, "grad:x");
        assert_true(y[i] == out[i]);
        for (int k = 0; k < 7; k++)
            sum += dx[k];
        assert_true(fabs(dx[i] - inside[i]) < 1e-6 && sum == dx[i]);
        double ds = *check_net_read(&f->a, &net, "grad:s") * sqrt(7.0);
        if (!(fabs(ds - step[i]) < 2e-6))
            fail_msg("x = %g: the step's gradient is %.9g, expected %g", x[i], ds, step[i]);
    }
    check_net_close(&net);
    check_backend_close(&b);
}

/* ---- Cases from a network
 * ------------------------------------------------------------------------------------------------ */

static void test_cases_of_networks(void **state)
{
    static const char *const nets[] = { "resnet20", "mnist" };
    Fixture                 *f = *state;
    for (int n = 0; n < 2; n++) {
        Graph  *g = frontend_build(&f->a, &f->d, frontend_find(&f->a, &f->d, nets[n]), 128, STEP_TRAIN);
        int32_t cases = 0;
        for (int32_t i = 0; i < g->order.len; i++) {
            ValueId id = g->order.at[i];
            if (!ir_ops[ir_value(g, id)->op].grad)
                continue;
            Graph *c = check_case_of(&f->a, &f->d, g, id);
            if (!c || !ir_verify(c, PHASE_FRONTEND, &f->d))
                fail_msg("%s", fixture_said(f));
            assert_int_equal(ir_value(c, check_case_op(c))->op, ir_value(g, id)->op);
            assert_true(shape_elems(ir_value(c, check_case_op(c))->type.shape) <= 1000);
            cases++;
        }
        assert_true(cases > 5);
    }
}

/* ---- Kernels
 * --------------------------------------------------------------------------------------------------------------- */

static Kernel *parse_kernel(Fixture *f, const char *body, int elems)
{
    const char *text =
        arena_printf(&f->a,
                     "kernel @k \"k\" {\n  axis i = 100 par vec\n  buf x : f32[100] in\n  buf y : f32[%d] out\n"
                     "  body {\n    %%0 = load x[i]\n%s  }\n}\n",
                     elems, body);
    size_t  pos = 0;
    Kernel *k = kernel_parse(&f->a, &f->d, "test", text, &pos);
    if (!k)
        fail_msg("%s", fixture_said(f));
    return k;
}

/* An image of one kernel passed off as that of another. */
static KernelResult compare_kernels(Fixture *f, const Kernel *expected, Kernel *found, bool special)
{
    KernelJit   *jit = jit_llvm_new(&f->a, &f->d, (JitOptions){ .vector_width = 8 });
    KernelImage *image = ARENA_NEW(&f->a, KernelImage);
    KernelData   data[2] = { { 0 } };
    if (!jit || !jit_compile(jit, &f->d, "test", &found, 1, image))
        fail_msg("%s", fixture_said(f));
    const KernelImage *images[] = { image };
    KernelCase         c = { .kernel = expected,
                             .images = images,
                             .n_images = 1,
                             .most_parts = 3,
                             .data = data,
                             .special = special,
                             .seed = 1 };
    KernelResult       r = check_kernel(&f->a, &c);
    jit_free(jit);
    return r;
}

static void test_kernels(void **state)
{
    Fixture *f = *state;
    Kernel  *k = parse_kernel(f, "    %1 = mul %0, %0\n    %2 = add %1, %0\n    store y[i], %2\n", 100);
    assert_true(compare_kernels(f, k, k, false).ok);
    assert_true(compare_kernels(f, k, k, true).ok);
    Kernel      *rounds_once = parse_kernel(f, "    %1 = fma %0, %0, %0\n    store y[i], %1\n", 100);
    KernelResult r = compare_kernels(f, k, rounds_once, false);
    assert_false(r.ok);
    assert_has(r.where, "the interpreter has");
}

/* max(x, x') with a NaN: another choice shows with special numbers only. */
static void test_special_numbers_matter(void **state)
{
    Fixture *f = *state;
    Kernel  *stays = parse_kernel(
        f, "    %1 = const.f32 0x0p+0\n    %2 = gt %1, %0\n    %3 = select %2, %1, %0\n    store y[i], %3\n", 100);
    Kernel *drops = parse_kernel(f, "    %1 = const.f32 0x0p+0\n    %2 = max %0, %1\n    store y[i], %2\n", 100);
    assert_true(compare_kernels(f, stays, drops, false).ok);
    assert_false(compare_kernels(f, stays, drops, true).ok);
}

static void test_stores_behind_a_buffer(void **state)
{
    Fixture *f = *state;
    Kernel  *k = parse_kernel(f, "    store y[i], %0\n", 100);
    Kernel  *beyond = parse_kernel(f, "    store y[i + 4], %0\n", 104);
    assert_false(compare_kernels(f, k, beyond, false).ok);
}

/* ---- Library calls
 * ----------------------------------------------------------------------------------------------------------- */

static bool add_error(void *self, void *prepared, void *const *bufs, void *scratch)
{
    (void)self, (void)scratch;
    reference_call(prepared, bufs, NULL);
    ((float *)bufs[2])[5] *= 1.001f;
    return true;
}

static void test_calls(void **state)
{
    Fixture       *f = *state;
    const CallDesc conv = { .kind = CALL_CONV_FWD,
                            .n = 2,
                            .c = 8,
                            .h = 6,
                            .w = 6,
                            .k = 4,
                            .r = 3,
                            .s = 3,
                            .oh = 6,
                            .ow = 6,
                            .stride = 1,
                            .groups = 1,
                            .pad = { 1, 1, 1, 1 } };
    CallLib       *plain = calllib_reference(&f->a), wrong = *plain;
    CallResult     r;
    assert_true(check_call(&f->a, &f->d, NULL, plain, &conv, 1, &r));
    assert_true(r.ok && r.worst == 0 && r.compared == 2 * 4 * 6 * 6);
    wrong.run = add_error;
    assert_true(check_call(&f->a, &f->d, NULL, &wrong, &conv, 1, &r));
    assert_false(r.ok);
    assert_has(r.where, "element 5 ");
    assert_string_equal(check_call_text(&f->a, &conv), "conv forward 2x8x6x6 -> 4, 3x3 stride 1 pad 1,1,1,1");
}

/* ---- The command
 * --------------------------------------------------------------------------------------------------------------- */

static void test_command(void **state)
{
    (void)state;
    char   *text = NULL;
    size_t  len;
    Session s = { .arena = arena_new("session"), .diag = diag_new(NULL), .out = open_memstream(&text, &len) };
    StrList rest = { 0 };
    char    batch[] = "--batch=2", quiet[] = "--quiet", *argv[] = { batch, quiet };
    log_set_level(LOG_QUIET);
    assert_true(cli_parse(&s.arena, &s.diag, ~0u, 2, argv, &s.opt, &rest));
    assert_true(session_open(&s, frontend_find(&s.arena, &s.diag, "mnist")));
    assert_int_equal(command_check(&s, &rest), EXIT_OK);
    fclose(s.out);
    assert_has(text, "gradient   conv2d");
    assert_has(text, "kernel     train step");
    assert_has(text, "equal");
    assert_has(text, "call       conv gradient w");
    assert_has(text, "all is well");
    assert_has_not(text, "FAILED");
    session_close(&s);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_right_gradients_pass),
        fixture_test(test_wrong_gradients_fail),
        fixture_test(test_one_wrong_element_fails),
        fixture_test(test_quantizers),
        fixture_test(test_lsq_known_answers),
        fixture_test(test_cases_of_networks),
        fixture_test(test_kernels),
        fixture_test(test_special_numbers_matter),
        fixture_test(test_stores_behind_a_buffer),
        fixture_test(test_calls),
        fixture_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
