/* test_fold.c: folding batch norms into weights. Without quantizers both forms are the batch norm, in training
 * (outputs, every gradient, running statistics) and in evaluation, for scales that are negative, zero and nearly zero;
 * what is quantized is the product, under the name of the param; which layers are folded; freezing. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

#include <math.h>

/* conv - batch norm - relu - linear - batch norm, both layers with a bias; %%s: where the statistics come from. */
static const char head_text[] = "graph @net.%s {\n"
                                "  %%0 = param \"image\" : f32[8x3x5x5]\n"
                                "  %%1 = param \"s0.conv.weight\" {init=\"kaiming\", fan=27} : f32[6x3x3x3]\n"
                                "  %%2 = param \"s0.conv.bias\" {group=\"bias\"} : f32[6]\n"
                                "  %%3 = conv2d %%0, %%1, %%2 : f32[8x6x3x3] scope(\"s0\")\n"
                                "  %%4 = param \"s0.bn.gamma\" {init=\"ones\", group=\"norm\"} : f32[6]\n"
                                "  %%5 = param \"s0.bn.beta\" {group=\"norm\"} : f32[6]\n"
                                "  %%6 = state \"s0.bn.running_mean\" : f32[6]\n"
                                "  %%7 = state \"s0.bn.running_var\" {init=\"ones\"} : f32[6]\n";
static const char mid_text[] = "  %11 = relu %10 : f32[8x6x3x3] scope(\"s0\")\n"
                               "  %12 = reshape %11 {channels=54} : f32[8x54]\n"
                               "  %13 = param \"fc.weight\" {init=\"kaiming\", fan=54} : f32[5x54]\n"
                               "  %14 = linear %12, %13 : f32[8x5]\n"
                               "  %15 = param \"fcbn.gamma\" {init=\"ones\", group=\"norm\"} : f32[5]\n"
                               "  %16 = param \"fcbn.beta\" {group=\"norm\"} : f32[5]\n"
                               "  %17 = state \"fcbn.running_mean\" : f32[5]\n"
                               "  %18 = state \"fcbn.running_var\" {init=\"ones\"} : f32[5]\n";
static const char end_text[] = "  %30 = input \"r\" : f32[8x5]\n"
                               "  %31 = mul %21, %30 : f32[8x5]\n"
                               "  %32 = reduce_sum %31 : f32[]\n"
                               "  output %21 \"out\"\n"
                               "  output %32 \"loss\"\n"
                               "}\n";

/* A batch norm of %x whose leaves begin at %leaf; its values begin at %at, it is %norm. */
static void add_norm(Str *s, StepKind step, int x, int leaf, int at, int norm, const char *shape, const char *each)
{
    int mean = step == STEP_EVAL ? leaf + 2 : at, var = step == STEP_EVAL ? leaf + 3 : at + 1;
    if (step != STEP_EVAL)
        str_printf(s, "  %%%d = bn_mean %%%d, %%%d : f32[%s]\n  %%%d = bn_var %%%d, %%%d : f32[%s]\n", mean, x,
                   leaf + 2, each, var, x, leaf + 2, each);
    str_printf(s, "  %%%d = batchnorm %%%d, %%%d, %%%d, %%%d, %%%d : f32[%s]\n", norm, x, mean, var, leaf, leaf + 1,
               shape);
    if (step == STEP_TRAIN)
        str_printf(s,
                   "  %%%d = ema %%%d, %%%d : f32[%s]\n  assign %%%d, %%%d\n"
                   "  %%%d = ema %%%d, %%%d {scale=1.25} : f32[%s]\n  assign %%%d, %%%d\n",
                   at + 20, leaf + 2, mean, each, leaf + 2, at + 20, at + 21, leaf + 3, var, each, leaf + 3, at + 21);
}

static Graph *net(Fixture *f, StepKind step)
{
    Str s = str_new(&f->a);
    str_printf(&s, head_text, step_kind_name(step));
    add_norm(&s, step, 3, 4, 40, 10, "8x6x3x3", "6");
    str_add(&s, mid_text);
    add_norm(&s, step, 14, 15, 70, 21, "8x5", "5");
    str_add(&s, end_text);
    return fixture_graph(f, s.s);
}

static void say(Fixture *f, const char *setting)
{
    if (!recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", setting))
        fail_msg("%s", fixture_said(f));
}

/* A recipe that quantizes all weights to 4 bits and nothing else, unless `acts`. */
static void quantizing(Fixture *f, const char *method, int32_t acts, const char *fold)
{
    f->recipe = (Recipe){ .method = method, .weight_bits = 4, .act_bits = acts };
    if (fold != NULL)
        say(f, arena_printf(&f->a, "fold=%s", fold));
}

static void run(Fixture *f, Graph *g, const char *passes)
{
    if (!fixture_run(f, g, arena_printf(&f->a, "--verify=all --verify-changed --passes=%s", passes)))
        fail_msg("%s", fixture_said(f));
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static const char *const tensors[] = { "image",      "s0.conv.weight",     "s0.conv.bias",      "s0.bn.gamma",
                                       "s0.bn.beta", "s0.bn.running_mean", "s0.bn.running_var", "fc.weight",
                                       "fcbn.gamma", "fcbn.beta",          "fcbn.running_mean", "fcbn.running_var",
                                       "r" };

static void              fill(Fixture *f, CheckNet *n)
{
    static const double gammas[] = { 1.5, -0.75, 0, 3e-9, -2e-9, 0.25 };
    for (uint32_t k = 0; k < DT_COUNT(tensors); k++) {
        int64_t elems = check_net_elems(n, tensors[k]);
        double *x = ARENA_ARRAY(&f->a, double, elems);
        bool    var = strstr(tensors[k], "_var") != NULL, gamma = strstr(tensors[k], "gamma") != NULL;
        for (int64_t i = 0; i < elems; i++) {
            double u = 2 * (double)rng_uniform(5, 77, k, (uint64_t)i) - 1;
            x[i] = var ? 1 + u / 2 : gamma ? gammas[i] : u;
        }
        check_net_write(n, tensors[k], x);
    }
}

static void open_net(Fixture *f, CheckBackend *b, CheckNet *n, StepKind step, const char *passes)
{
    static const char back[] = "autodiff,",
                      behind[] = "decompose,simplify,layout,fuse,batch,schedule,plan-memory,lower";
    CheckSetup setup = { .step = step,
                         .recipe = &f->recipe,
                         .passes = arena_printf(&f->a, "%s%s%s", passes, step == STEP_TRAIN ? back : "", behind) };
    if (!check_net_open(n, b, net(f, step), &setup))
        fail_msg("%s", fixture_said(f));
    fill(f, n);
    check_net_run(n);
}

static void assert_near(Fixture *f, CheckNet *plain, CheckNet *folded, const char *tensor, double tol)
{
    int64_t n = check_net_elems(plain, tensor);
    double *want = check_net_read(&f->a, plain, tensor), *found = check_net_read(&f->a, folded, tensor), size = 0;
    for (int64_t i = 0; i < n; i++)
        size = fmax(size, fabs(want[i]));
    assert_true(size > 0);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(found[i] - want[i]) <= tol * fmax(size, 1)))
            fail_msg("%s[%lld]: %.9g, expected %.9g", tensor, (long long)i, found[i], want[i]);
}

static void compare(Fixture *f, StepKind step, const char *fold, const char *before)
{
    CheckBackend b;
    CheckNet     plain, folded;
    quantizing(f, "qat", 0, fold);
    if (strstr(before, "freeze") != NULL)
        say(f, "freeze-bn=0");
    assert_true(check_backend_open(&b, &f->a, &f->d, false, 1, 0));
    open_net(f, &b, &plain, step, before);
    open_net(f, &b, &folded, step, arena_printf(&f->a, "%sfold-batchnorm,", before));
    assert_true(fixture_count(folded.g, OP_MUL) > fixture_count(plain.g, OP_MUL));
    assert_near(f, &plain, &folded, "out", 1e-6);
    for (int32_t k = 0; step == STEP_TRAIN && k < DT_COUNT(tensors); k++) {
        bool state = strstr(tensors[k], "running") != NULL;
        if (state)
            assert_near(f, &plain, &folded, tensors[k], 1e-6);
        else if (!str_eq(tensors[k], "r") && !str_eq(tensors[k], "s0.conv.bias")) /* no gradient but roundings */
            assert_near(f, &plain, &folded, arena_printf(&f->a, "grad:%s", tensors[k]), 1e-5);
    }
    check_net_close(&plain);
    check_net_close(&folded);
    check_backend_close(&b);
}

static void test_same_numbers(void **state)
{
    static const char *const folds[] = { "one", "two" };
    for (int32_t k = 0; k < DT_COUNT(folds); k++) {
        compare(*state, STEP_TRAIN, folds[k], "");
        compare(*state, STEP_EVAL, folds[k], "");
        compare(*state, STEP_TRAIN, folds[k], "freeze-batchnorm,");
    }
}

/* The whole pipeline, quantizers and all, is an evaluation that a step of training with frozen statistics sees, too. */
static void test_frozen_step_is_evaluation(void **state)
{
    static const char *const folds[] = { "off", "one", "two" };
    Fixture                 *f = *state;
    CheckBackend             b;
    assert_true(check_backend_open(&b, &f->a, &f->d, false, 1, 0));
    for (int32_t k = 0; k < DT_COUNT(folds); k++) {
        CheckNet train, eval;
        quantizing(f, "qat", 4, folds[k]);
        say(f, "freeze-bn=0");
        open_net(f, &b, &train, STEP_TRAIN, "freeze-batchnorm,fold-batchnorm,insert-quantize,");
        open_net(f, &b, &eval, STEP_EVAL, "fold-batchnorm,insert-quantize,");
        assert_near(f, &eval, &train, "out", 0);
        check_net_close(&train);
        check_net_close(&eval);
    }
    check_backend_close(&b);
}

/* ---- What is quantized ------------------------------------------------------------------------------------------- */

/* The value that the layer with this number (of convolutions and linears, in order) reads as operand i. */
static ValueId layer_operand(const Graph *g, int32_t number, int32_t i)
{
    for (int32_t k = 0; k < g->order.len; k++) {
        const Value *v = ir_value(g, g->order.at[k]);
        if ((v->op == OP_CONV2D || v->op == OP_LINEAR) && number-- == 0)
            return v->in[i];
    }
    fail_msg("too few layers");
    return VALUE_NONE;
}

static ValueId operand(const Graph *g, ValueId v, int32_t i)
{
    return ir_value(g, v)->in[i];
}

static void test_product_is_quantized(void **state)
{
    Fixture *f = *state;
    for (int step = 0; step < STEP_COUNT; step++) {
        if (step == STEP_OBSERVE || step == STEP_INSPECT)
            continue;
        quantizing(f, "lsq", 4, "one");
        f->ctx.step = (StepKind)step;
        f->ctx.quantizers.len = 0;
        Graph *g = net(f, f->ctx.step);
        run(f, g, "fold-batchnorm,insert-quantize");
        ValueId q = layer_operand(g, 0, 1), product = operand(g, q, 0);
        assert_int_equal(ir_value(g, q)->op, OP_QDQ);
        assert_int_equal(ir_value(g, product)->op, OP_MUL);
        assert_int_equal(operand(g, product, 0), ir_find(g, "s0.conv.weight"));
        assert_int_equal(ir_value(g, operand(g, product, 1))->op, OP_BN_FOLD);
        assert_int_equal(operand(g, operand(g, product, 1), 1), ir_find(g, "s0.bn.running_var"));
        assert_true(ir_find(g, "s0.conv.weight.step") != VALUE_NONE);
        assert_string_equal(f->ctx.quantizers.at[0].layer, "s0.conv");
        assert_int_equal(fixture_count(g, OP_BATCHNORM), 2);
        assert_int_equal(fixture_count(g, OP_BN_UNFOLD), 2);
    }
}

/* The observe step shows calibration what will be quantized. */
static void test_product_is_observed(void **state)
{
    Fixture *f = *state;
    quantizing(f, "lsq", 4, "one");
    f->ctx.step = STEP_OBSERVE;
    Graph *g = net(f, STEP_EVAL);
    run(f, g, "fold-batchnorm,insert-quantize");
    ValueId out = ir_find(g, OBSERVE_OUTPUT "s0.conv.weight");
    assert_true(out != VALUE_NONE);
    assert_int_equal(ir_value(g, operand(g, out, 0))->op, OP_MUL);
}

static void test_two_convolutions(void **state)
{
    Fixture *f = *state;
    quantizing(f, "qat", 4, "two");
    f->ctx.step = STEP_TRAIN;
    Graph *g = net(f, STEP_TRAIN);
    run(f, g, "fold-batchnorm,insert-quantize");
    assert_int_equal(fixture_count(g, OP_CONV2D), 2);
    assert_int_equal(fixture_count(g, OP_LINEAR), 2);
    assert_int_equal(fixture_count(g, OP_BATCHNORM), 0);
    assert_int_equal(f->ctx.quantizers.len, 4); /* none for the second convolutions */
    for (int32_t k = 0; k < 4; k += 2) {
        assert_int_equal(ir_value(g, layer_operand(g, k, 1))->op, OP_QDQ);
        assert_int_equal(ir_value(g, layer_operand(g, k + 1, 1))->op, OP_PARAM);
        assert_int_equal(layer_operand(g, k, 0), layer_operand(g, k + 1, 0)); /* both read the quantized input */
        assert_int_equal(ir_value(g, layer_operand(g, k, 0))->op, OP_QDQ);
    }
    /* frozen: the second one is gone */
    g = net(f, STEP_TRAIN);
    say(f, "freeze-bn=2");
    f->ctx.moment = (Moment){ 2, 5 };
    run(f, g, "freeze-batchnorm,fold-batchnorm,insert-quantize");
    assert_int_equal(fixture_count(g, OP_CONV2D) + fixture_count(g, OP_LINEAR), 2);
}

/* ---- Which layers ------------------------------------------------------------------------------------------------ */

/* Two convolutions with one weight; one whose result is read by others, too; one alone with its batch norm. */
static const char sharing[] = "graph @net.eval {\n"
                              "  %0 = input \"image\" : f32[2x4x3x3]\n"
                              "  %1 = param \"shared.weight\" : f32[4x4x1x1]\n"
                              "  %2 = param \"gamma\" : f32[4]\n"
                              "  %3 = param \"beta\" : f32[4]\n"
                              "  %4 = state \"mean\" : f32[4]\n"
                              "  %5 = state \"var\" : f32[4]\n"
                              "  %6 = conv2d %0, %1 : f32[2x4x3x3]\n"
                              "  %7 = batchnorm %6, %4, %5, %2, %3 : f32[2x4x3x3]\n"
                              "  %8 = conv2d %7, %1 : f32[2x4x3x3]\n"
                              "  %9 = batchnorm %8, %4, %5, %2, %3 : f32[2x4x3x3]\n"
                              "  %10 = param \"twice.weight\" : f32[4x4x1x1]\n"
                              "  %11 = conv2d %9, %10 : f32[2x4x3x3]\n"
                              "  %12 = batchnorm %11, %4, %5, %2, %3 : f32[2x4x3x3]\n"
                              "  %13 = add %11, %12 : f32[2x4x3x3]\n"
                              "  %14 = param \"alone.weight\" : f32[4x4x1x1]\n"
                              "  %15 = conv2d %13, %14 : f32[2x4x3x3]\n"
                              "  %16 = batchnorm %15, %4, %5, %2, %3 : f32[2x4x3x3]\n"
                              "  %17 = param \"head.weight\" : f32[4x4x1x1]\n"
                              "  %18 = conv2d %16, %17 : f32[2x4x3x3]\n"
                              "  output %18 \"y\"\n"
                              "}\n";

static int64_t    folded(Fixture *f)
{
    Graph *g = fixture_graph(f, sharing);
    f->ctx.stats.len = 0;
    run(f, g, "fold-batchnorm");
    int64_t n = fixture_stat(f, "fold-batchnorm.layers folded");
    assert_int_equal(fixture_count(g, OP_BN_FOLD), n);
    return n;
}

static void test_which_layers(void **state)
{
    Fixture *f = *state;
    quantizing(f, "qat", 0, NULL);
    f->ctx.explain = ARENA_NEW(&f->a, Str);
    *f->ctx.explain = str_new(&f->a);
    assert_int_equal(folded(f), 1); /* the default of the method */
    assert_has(f->ctx.explain->s, "its weight is read by others, too");
    assert_has(f->ctx.explain->s, "its result is not read by one batch norm and nobody else");
    quantizing(f, "qat", 0, "off");
    assert_int_equal(folded(f), 0);
    quantizing(f, "lsq", 0, NULL); /* not the default of this one */
    assert_int_equal(folded(f), 0);
    say(f, "alone:fold=one");
    assert_int_equal(folded(f), 1);
    quantizing(f, "qat", 0, "one");
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "alone=float"));
    assert_int_equal(folded(f), 0);
    f->recipe = (Recipe){ .method = "float" };
    assert_int_equal(folded(f), 0);
    quantizing(f, "qat", 0, "one"); /* a step that sees the weight in float */
    say(f, "noise=0, 0.5@2");
    f->ctx.step = STEP_TRAIN;
    f->ctx.moment = (Moment){ 0, 4 };
    assert_int_equal(folded(f), 0);
    f->ctx.moment = (Moment){ 2, 4 };
    assert_int_equal(folded(f), 1);
}

static void test_refused(void **state)
{
    static const struct {
        const char *setting, *why;
    } rows[] = {
        { "head:fold=one", "--set: fold: layer head cannot be folded: its result is not read by one batch norm" },
        { "shared:fold=two", "--set: fold: layer shared cannot be folded: its weight is read by others, too" },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Fixture *f = *state;
        quantizing(f, "qat", 0, NULL);
        say(f, rows[i].setting);
        assert_false(fixture_run(f, fixture_graph(f, sharing), "--passes=fold-batchnorm"));
        assert_has(fixture_said(f), rows[i].why);
    }
}

/* ---- Freezing ---------------------------------------------------------------------------------------------------- */

static void test_freeze(void **state)
{
    Fixture *f = *state;
    quantizing(f, "float", 0, NULL); /* float has batch norms, too */
    say(f, "freeze-bn=3");
    for (int epoch = 2; epoch <= 3; epoch++) {
        f->ctx.step = STEP_TRAIN;
        f->ctx.moment = (Moment){ epoch, 5 };
        Graph *g = net(f, STEP_TRAIN);
        run(f, g, "freeze-batchnorm");
        int32_t moving = epoch < 3 ? 2 : 0;
        assert_int_equal(fixture_count(g, OP_BN_MEAN), moving);
        assert_int_equal(fixture_count(g, OP_BN_VAR), moving);
        assert_int_equal(fixture_count(g, OP_EMA), 2 * moving);
        assert_int_equal(fixture_count(g, OP_ASSIGN), 2 * moving);
        assert_int_equal(fixture_count(g, OP_BATCHNORM), 2);
        assert_int_equal(fixture_stat(f, "freeze-batchnorm.batch norms frozen"), 2 - moving);
    }
    /* the init step assigns nothing: statistics are found by name */
    f->ctx.step = STEP_INIT;
    Graph *g = net(f, STEP_INIT);
    run(f, g, "freeze-batchnorm");
    assert_int_equal(fixture_count(g, OP_BN_MEAN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_same_numbers),
        fixture_test(test_frozen_step_is_evaluation),
        fixture_test(test_product_is_quantized),
        fixture_test(test_product_is_observed),
        fixture_test(test_two_convolutions),
        fixture_test(test_which_layers),
        fixture_test(test_refused),
        fixture_test(test_freeze),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
