/* test_schedules.c: what a recipe changes in the course of a run, seen in the train step before and after the moment:
 * inputs that are quantized late, ranges and steps that stop moving, and at which epochs a run compiles a new step. */
#include "tests/unit/pass_fixture.h"

static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[2x3x8x8]\n"
                          "  %1 = param \"stem.weight\" {init=\"kaiming\", fan=27} : f32[4x3x3x3]\n"
                          "  %2 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[2x4x8x8]\n"
                          "  %3 = param \"conv.weight\" {init=\"kaiming\", fan=36} : f32[4x4x3x3]\n"
                          "  %4 = conv2d %2, %3 {pad=[1,1,1,1]} : f32[2x4x8x8]\n"
                          "  %5 = relu %4 : f32[2x4x8x8]\n"
                          "  %6 = param \"head.weight\" {init=\"kaiming\", fan=36} : f32[4x4x3x3]\n"
                          "  %7 = conv2d %5, %6 : f32[2x4x6x6]\n"
                          "  %8 = reduce_sum %7 : f32[]\n"
                          "  output %8 \"loss\"\n"
                          "}\n";

static void       say(Fixture *f, const char *setting)
{
    if (!recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", setting))
        fail_msg("%s", fixture_said(f));
}

static void begin(Fixture *f, const char *method, const char *setting)
{
    f->recipe = (Recipe){ .method = method, .weight_bits = 4, .act_bits = 4 };
    f->ctx.step = STEP_TRAIN;
    if (setting != NULL)
        say(f, setting);
}

static Graph *step_at(Fixture *f, double epoch)
{
    Graph *g = fixture_graph(f, net);
    f->ctx.moment = (Moment){ epoch, 10 };
    f->ctx.quantizers.len = 0;
    if (!fixture_run(f, g, "--passes=insert-quantize,autodiff,optimizer --verify=all"))
        fail_msg("%s", fixture_said(f));
    assert_int_equal(f->ctx.quantizers.len, 6); /* leaves are the same at all times */
    return g;
}

static int32_t quantized(const Graph *g, const char *role)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_CONV2D)
            continue;
        ValueId x = v->in[str_eq(role, "weight") ? 1 : 0];
        n += ir_is(g, x, OP_QDQ) && str_eq(ir_text(ir_value(g, x), A_ROLE), role);
    }
    return n;
}

/* How many leaves that end like this are assigned to. */
static int32_t updated(const Graph *g, const char *suffix)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_ASSIGN)
            continue;
        const char *name = ir_value(g, v->in[0])->name;
        size_t      len = strlen(name), tail = strlen(suffix);
        n += len > tail && str_eq(name + len - tail, suffix);
    }
    return n;
}

/* Before `delay` inputs are float while their ranges are found; weights are quantized all the time. */
static void test_delay(void **state)
{
    Fixture *f = *state;
    begin(f, "qat", "delay=2");
    for (int epoch = 1; epoch <= 2; epoch++) {
        Graph *g = step_at(f, epoch);
        assert_int_equal(quantized(g, "act"), epoch < 2 ? 0 : 3);
        assert_int_equal(quantized(g, "weight"), 3);
        assert_int_equal(updated(g, ".input.max"), 3);
        assert_int_equal(updated(g, ".input.min"), 2); /* the image and a convolution's result */
    }
}

/* The evaluation is not delayed: it shows what the network would be. */
static void test_delay_is_of_training(void **state)
{
    Fixture *f = *state;
    begin(f, "qat", "delay=2");
    Graph *g = fixture_graph(f, net);
    f->ctx.step = STEP_EVAL;
    f->ctx.moment = (Moment){ 0, 10 };
    assert_true(fixture_run(f, g, "--passes=insert-quantize --verify=all"));
    assert_int_equal(quantized(g, "act"), 3);
}

static void test_frozen_ranges(void **state)
{
    Fixture *f = *state;
    begin(f, "qat", "freeze-ranges=3");
    for (int epoch = 2; epoch <= 3; epoch++) {
        Graph *g = step_at(f, epoch);
        assert_int_equal(updated(g, ".max"), epoch < 3 ? 3 : 0);
        assert_int_equal(updated(g, ".min"), epoch < 3 ? 2 : 0);
        assert_int_equal(quantized(g, "act"), 3);
        assert_int_equal(updated(g, ".weight"), 3); /* training goes on */
    }
}

static void test_frozen_steps(void **state)
{
    static const char *const methods[] = { "lsq", "lsq+" };
    Fixture                 *f = *state;
    for (int32_t m = 0; m < DT_COUNT(methods); m++) {
        begin(f, methods[m], "freeze-ranges=3");
        Graph  *before = step_at(f, 2.5), *after = step_at(f, 3);
        int32_t steps = updated(before, ".step");
        assert_true(steps >= 5); /* that of the image is not trained */
        assert_int_equal(updated(before, ".step.velocity"), steps);
        assert_int_equal(updated(after, ".step") + updated(after, ".step.velocity"), 0);
        assert_int_equal(updated(after, ".offset") + updated(after, ".offset.velocity"), 0);
        assert_int_equal(updated(before, ".offset") > 0, m == 1);
        assert_int_equal(updated(after, ".weight"), 3);
    }
}

/* ema=0: ranges stay as they were calibrated, from the first step on. */
static void test_ranges_as_calibrated(void **state)
{
    Fixture *f = *state;
    begin(f, "qat", "ema=0");
    say(f, "act.calibrate=max");
    Graph *g = step_at(f, 0);
    assert_int_equal(updated(g, ".max") + updated(g, ".min"), 0);
    assert_int_equal(quantized(g, "act"), 3);
}

static void assert_phases(Fixture *f, const double *want, int32_t n)
{
    double  at[RECIPE_MOST_PHASES];
    int32_t found = recipe_phases(&f->a, &f->recipe, 10, at);
    assert_int_equal(found, n);
    for (int32_t i = 0; i < n; i++)
        assert_true(at[i] == want[i]);
}

static void test_phases(void **state)
{
    Fixture *f = *state;
    begin(f, "qat", "delay=2");
    say(f, "freeze-bn=4");
    say(f, "freeze-ranges=2"); /* at one time with delay */
    assert_phases(f, (const double[]){ 0, 2, 4 }, 3);
    begin(f, "qat", "freeze-bn=12"); /* after the run */
    assert_phases(f, (const double[]){ 0 }, 1);
    begin(f, "float", "freeze-bn=4"); /* float has batch norms, and no ranges */
    say(f, "delay=2");
    assert_phases(f, (const double[]){ 0, 4 }, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_delay),        fixture_test(test_delay_is_of_training), fixture_test(test_frozen_ranges),
        fixture_test(test_frozen_steps), fixture_test(test_ranges_as_calibrated), fixture_test(test_phases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
