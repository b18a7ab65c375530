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

/* Steps and zero points of a quantizer under test. */
typedef struct QdqForm {
    const char *step, *zero; /* type of the step; lines that make the zero point %3 of leaf %2, NULL: there is none */
    const char *attrs;
    int32_t     numbers; /* trained beside x */
} QdqForm;

#define GIVEN(type) "  %3 = input \"x2\" : " type "\n"
#define OFFSET(type, codes) "  %2 = param \"x2\" : " type "\n  %3 = zero_point %2, %1 {" codes "} : " type "\n"

static const QdqForm qdq_forms[] = {
    { "f32[]", NULL, "lo=-8, hi=7, bits=4", 1 },
    { "f32[]", NULL, "lo=0, hi=15, bits=4, role=\"act\"", 1 },
    { "f32[]", NULL, "lo=-2, hi=1, bits=2", 1 },
    { "f32[]", NULL, "lo=0, hi=255, bits=8, role=\"act\"", 1 },
    { "f32[3]", NULL, "lo=-7, hi=7, bits=4, axis=0", 3 },
    { "f32[4]", NULL, "lo=0, hi=15, bits=4, role=\"act\"", 4 },
    { "f32[]", NULL, "lo=-2, hi=1, bits=2, round=false", 1 },
    { "f32[3]", NULL, "lo=-8, hi=7, bits=4, axis=0, round=false", 3 },
    { "f32[]", NULL, "lo=0, hi=15, bits=4, role=\"act\", ends=\"code\"", 1 },
    { "f32[3]", NULL, "lo=-1, hi=1, bits=2, axis=0, ends=\"code\"", 3 },
    { "f32[]", OFFSET("f32[]", "lo=0, hi=15"), "lo=0, hi=15, bits=4, role=\"act\"", 2 },
    { "f32[]", OFFSET("f32[]", "lo=-128, hi=127"), "lo=-128, hi=127, bits=8, role=\"act\"", 2 },
    { "f32[]", GIVEN("f32[]"), "lo=1, hi=15, bits=4, role=\"act\"", 1 },
    { "f32[3]", GIVEN("f32[3]"), "lo=-8, hi=7, bits=4, axis=0, ends=\"code\"", 3 },
    { "f32[4]", OFFSET("f32[4]", "lo=0, hi=3"), "lo=0, hi=3, bits=2, role=\"act\", ends=\"code\"", 8 },
};

static Graph *qdq_case(Fixture *f, const QdqForm *form, const char *through)
{
    return fixture_graph(
        f, arena_printf(&f->a,
                        "graph @case {\n  %%0 = param \"x0\" : f32[3x4x5x5]\n  %%1 = param \"x1\" : %s\n%s"
                        "  %%4 = qdq %%0, %%1%s {%s} : f32[3x4x5x5]\n  %%5 = input \"r\" : f32[3x4x5x5]\n"
                        "  %%6 = %s : f32[3x4x5x5]\n  %%7 = mul %%5, %%6 : f32[3x4x5x5]\n  output %%4 \"out\"\n"
                        "  %%8 = reduce_sum %%7 : f32[]\n  output %%8 \"loss\"\n}\n",
                        form->step, form->zero ? form->zero : "", form->zero ? ", %3" : "", form->attrs, through));
}

static void test_quantizers(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(qdq_forms); i++) {
        const QdqForm *form = &qdq_forms[i];
        GradResult     right = gradients(f, qdq_case(f, form, "scale %4 {scale=1}"));
        if (!right.ok)
            fail_msg("%s: %s", form->attrs, right.where);
        assert_int_equal(right.compared, 3 * 4 * 5 * 5 + form->numbers);
        assert_false(gradients(f, qdq_case(f, form, "scale %4 {scale=1.001}")).ok);
        if (str_eq(form->step, "f32[]")) /* the step alone gets more */
            assert_false(gradients(f, qdq_case(f, form, "add %4, %1")).ok);
        if (form->numbers == 2) /* and the offset */
            assert_false(gradients(f, qdq_case(f, form, "add %4, %2")).ok);
    }
}

/* A zero point that the host gives is not trained; one that is a param of its own has no rule. */
static void test_zero_points(void **state)
{
    Fixture      *f = *state;
    const QdqForm given = { "f32[]", GIVEN("f32[]"), "lo=0, hi=15, bits=4, role=\"act\"", 1 };
    const QdqForm trained = { "f32[]", "  %2 = param \"x2\" : f32[]\n  %3 = scale %2 : f32[]\n", given.attrs, 0 };
    Graph        *g = qdq_case(f, &given, "scale %4 {scale=1}");
    CheckBackend  b = interp(f);
    GradResult    r;
    CheckNet      net;
    CheckSetup    setup = { .step = STEP_TRAIN, .passes = "autodiff,decompose,layout,fuse,schedule,plan-memory,lower" };
    if (!check_net_open(&net, &b, g, &setup))
        fail_msg("%s", fixture_said(f));
    assert_null(program_tensor(net.prog.program, "grad:x2"));
    assert_non_null(program_tensor(net.prog.program, "grad:x1"));
    check_net_close(&net);
    assert_false(check_gradients(&b, qdq_case(f, &trained, "scale %4 {scale=1}"), &r));
    assert_has(fixture_said(f), "qdq: the zero point is trained, but is no zero_point of an offset");
    check_backend_close(&b);
}

/* Regularizers end in one number; the planted mistakes are a factor and a slope of the step alone. */
static void test_penalties(void **state)
{
    static const char *const forms[] = { "lo=-8, hi=7, scale=0.01", "lo=0, hi=255, scale=0.3",
                                         "form=\"msqe\", lo=-2, hi=1", "form=\"sinreq\", lo=-2, hi=1",
                                         "form=\"msqe\", lo=-128, hi=127, scale=2" };
    Fixture                 *f = *state;
    for (int i = 0; i < 2 * DT_COUNT(forms); i++) {
        bool        rows = i % 2;
        const char *text = arena_printf(
            &f->a,
            "graph @case {\n  %%0 = param \"x0\" : f32[5x7]\n  %%1 = param \"x1\" : %s\n"
            "  %%2 = penalty %%0, %%1 {%s%s} : f32[]\n  %%3 = input \"r\" : f32[]\n  %%4 = mul %%2, %%3 : f32[]\n"
            "  output %%2 \"out\"\n",
            rows ? "f32[5]" : "f32[]", forms[i / 2], rows ? ", axis=0" : "");
        Graph     *right = fixture_graph(f, arena_printf(&f->a, "%s  output %%4 \"loss\"\n}\n", text));
        GradResult r = gradients(f, right);
        if (!r.ok)
            fail_msg("%s: %s", text, r.where);
        assert_int_equal(r.compared, 5 * 7 + (rows ? 5 : 1));
        const char *more = "%s  %%5 = scale %%4 {scale=1.001} : f32[]\n  output %%5 \"loss\"\n}\n";
        assert_false(gradients(f, fixture_graph(f, arena_printf(&f->a, more, text))).ok);
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

/* Every method's train step, op by op. */
static void check_method(const char *method)
{
    Session s = { .arena = arena_new("session"), .diag = diag_new(NULL), .out = stderr };
    StrList rest = { 0 };
    char   *argv[] = { arena_strdup(&s.arena, "--batch=2"), arena_strdup(&s.arena, "--bits=w4a4"),
                       arena_strdup(&s.arena, "--stop-after=insert-quantize"),
                       arena_printf(&s.arena, "--method=%s", method) };
    bool    stopped;
    assert_true(cli_parse(&s.arena, &s.diag, ~0u, DT_COUNT(argv), argv, &s.opt, &rest));
    assert_true(session_open(&s, frontend_find(&s.arena, &s.diag, "mnist")));
    const Graph *g = session_graph(&s, STEP_TRAIN, NULL, &stopped);
    CheckBackend b;
    int32_t      quantizers = 0;
    assert_true(g && check_backend_open(&b, &s.arena, &s.diag, false, 1, 0));
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId    id = g->order.at[i];
        bool       made = str_eq(ir_value(g, id)->origins[0].by, "insert-quantize");
        GradResult r;
        if (!made || ir_ops[ir_value(g, id)->op].grad == NULL)
            continue;
        Graph *c = check_case_of(&s.arena, &s.diag, g, id);
        if (c == NULL || !check_gradients(&b, c, &r))
            fail_msg("%s: %s", method, s.diag.text.s);
        if (!r.ok)
            fail_msg("%s: %s (%s): %s", method, ir_ops[ir_value(g, id)->op].text, ir_label(&s.arena, g, id), r.where);
        quantizers += ir_is(g, id, OP_QDQ);
    }
    assert_true(quantizers >= 4); /* of the weights, at least */
    check_backend_close(&b);
    session_close(&s);
}

static void test_methods(void **state)
{
    (void)state;
    log_set_level(LOG_QUIET);
    for (int32_t i = 0; i < pass_n_methods; i++)
        if (pass_methods[i].quantize != NULL)
            check_method(pass_methods[i].name);
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
        fixture_test(test_zero_points),
        fixture_test(test_penalties),
        fixture_test(test_lsq_known_answers),
        fixture_test(test_cases_of_networks),
        fixture_test(test_methods),
        fixture_test(test_kernels),
        fixture_test(test_special_numbers_matter),
        fixture_test(test_stores_behind_a_buffer),
        fixture_test(test_calls),
        fixture_test(test_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
