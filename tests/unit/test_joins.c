/* test_joins.c: quantizers of what meets no weight (the setting joins): which ops have them, how they are named, which
 * codes and bits they have, what is shared; in every kind of step and with every method; and what a recipe may say
 * wrongly. The forms are in tests/golden/quantize-joins-*.dtir. */
#include "tests/unit/pass_fixture.h"

/* A residual block whose sum has both signs, a gate, a skip that is joined to what comes from below, two means. The
 * factor of channels, the mask of samples and the bias are none of the recipe's business. */
static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[2x4x8x8]\n"
                          "  %1 = input \"label\" : i32[2x1]\n"
                          "  %2 = input \"seed\" : u32[]\n"
                          "  %3 = input \"step\" : u32[]\n"
                          "  %4 = param \"stem.weight\" {init=\"kaiming\", fan=36} : f32[4x4x3x3]\n"
                          "  %5 = conv2d %0, %4 {pad=[1,1,1,1]} : f32[2x4x8x8]\n"
                          "  %6 = relu %5 : f32[2x4x8x8]\n"
                          "  %7 = param \"s0.conv1.weight\" {init=\"kaiming\", fan=36} : f32[4x4x3x3]\n"
                          "  %8 = conv2d %6, %7 {pad=[1,1,1,1]} : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %9 = param \"s0.bias\" {group=\"bias\"} : f32[4]\n"
                          "  %10 = add %8, %9 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %11 = sample_mask %2, %3 {p=0.2, count=2} : f32[2x1x1x1] scope(\"s0\")\n"
                          "  %12 = mul %10, %11 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %13 = add %12, %6 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %14 = relu %13 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %15 = global_avgpool %14 : f32[2x4x1x1] scope(\"s0\")\n"
                          "  %16 = reshape %15 {channels=4} : f32[2x4] scope(\"s0\")\n"
                          "  %17 = param \"s0.fc.weight\" {init=\"kaiming\", fan=4} : f32[4x4]\n"
                          "  %18 = linear %16, %17 : f32[2x4] scope(\"s0\")\n"
                          "  %19 = sigmoid %18 : f32[2x4] scope(\"s0\")\n"
                          "  %20 = reshape %19 {channels=4, h=1, w=1} : f32[2x4x1x1] scope(\"s0\")\n"
                          "  %21 = mul %14, %20 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %22 = add %21, %14 : f32[2x4x8x8] scope(\"s0\")\n"
                          "  %23 = avgpool %22 : f32[2x4x4x4]\n"
                          "  %24 = upsample %23 {factor=2} : f32[2x4x8x8] scope(\"up\")\n"
                          "  %25 = concat %24, %12 : f32[2x8x8x8] scope(\"up\")\n"
                          "  %26 = param \"up.conv1.weight\" {init=\"kaiming\", fan=8} : f32[4x8x1x1]\n"
                          "  %27 = conv2d %25, %26 : f32[2x4x8x8] scope(\"up\")\n"
                          "  %28 = reshape %27 {channels=256} : f32[2x256]\n"
                          "  %29 = param \"head.weight\" {init=\"kaiming\", fan=256} : f32[10x256]\n"
                          "  %30 = linear %28, %29 : f32[2x10]\n"
                          "  %31 = cross_entropy %30, %1 : f32[]\n"
                          "  output %31 \"loss\"\n"
                          "}\n";

#define QUANTIZE "--passes=insert-quantize --verify=all --verify-changed"

static void say(Fixture *f, const char *setting)
{
    if (!recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", setting))
        fail_msg("%s", fixture_said(f));
}

static Graph *quantize(Fixture *f, const char *bits, const char *joins)
{
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", bits));
    f->recipe.edge_bits = 0;
    if (joins)
        say(f, joins);
    Graph *g = fixture_graph(f, net);
    if (!fixture_run(f, g, QUANTIZE))
        fail_msg("%s", fixture_said(f));
    return g;
}

static const QuantizerInfo *info_of(const Fixture *f, const char *name)
{
    for (int32_t i = 0; i < f->ctx.quantizers.len; i++)
        if (str_eq(f->ctx.quantizers.at[i].name, name))
            return &f->ctx.quantizers.at[i];
    return NULL;
}

typedef struct Expected {
    const char *name, *layer;
    int32_t     bits, lo, hi;
    int64_t     elems;
} Expected;

/* These and no others but those of layers. */
static void assert_joins(const Fixture *f, const Expected *want, int32_t n)
{
    int32_t joins = 0;
    for (int32_t i = 0; i < n; i++) {
        const QuantizerInfo *q = info_of(f, want[i].name);
        if (q == NULL)
            fail_msg("there is no quantizer %s", want[i].name);
        assert_string_equal(q->layer, want[i].layer);
        assert_string_equal(q->role, "act");
        if (q->bits != want[i].bits || q->lo != want[i].lo || q->hi != want[i].hi || q->elems != want[i].elems)
            fail_msg("%s: %d bits, %d..%d, of %d elements", q->name, q->bits, (int)q->lo, (int)q->hi, (int)q->elems);
    }
    for (int32_t i = 0; i < f->ctx.quantizers.len; i++) {
        const char *name = f->ctx.quantizers.at[i].name;
        joins += !str_glob("*.weight", name) && !(str_glob("*.input", name) && !str_glob("*avgpool.input", name));
    }
    assert_int_equal(joins, n);
}

/* Who reads the leaf, and of what op. */
static int32_t readers(const Graph *g, const char *leaf, OpCode op)
{
    int32_t n = 0;
    ValueId id = ir_find(g, leaf);
    for (int32_t i = 0; i < g->order.len; i++)
        for (int32_t k = 0; k < ir_value(g, g->order.at[i])->n_in; k++)
            n += ir_value(g, g->order.at[i])->in[k] == id && ir_is(g, g->order.at[i], op);
    return id == VALUE_NONE ? -1 : n;
}

/* ---- Which, and how ---------------------------------------------------------------------------------------------- */

static void test_float(void **state)
{
    Fixture *f = *state;
    quantize(f, "w4a4", NULL);
    assert_joins(f, NULL, 0);
    assert_int_equal(f->ctx.quantizers.len, 10);
    assert_int_equal(fixture_stat(f, "insert-quantize.joins"), 0);
}

static void test_requantize(void **state)
{
    static const Expected want[] = {
        { "s0.add.x", "s0.add", 4, -8, 7, 512 }, /* y is what s0.conv1 reads: shared with it */
        { "s0.global_avgpool.input", "s0.global_avgpool", 4, 0, 15, 512 }, /* and what the gate and the sum read */
        { "s0.mul.gate", "s0.mul", 4, 0, 15, 8 },
        { "s0.add_2.x", "s0.add_2", 4, 0, 15, 512 },
        { "avgpool.input", "avgpool", 4, 0, 15, 512 },
        { "up.concat.x", "up.concat", 4, 0, 15, 512 },
        { "up.concat.y", "up.concat", 4, -8, 7, 512 },
    };
    Fixture *f = *state;
    Graph   *g = quantize(f, "w4a4", "joins=requantize");
    /* %12 is an operand of s0.add and of up.concat: one quantizer, with the name of the first */
    assert_joins(f, want, DT_COUNT(want) - 1);
    assert_int_equal(fixture_stat(f, "insert-quantize.joins"), 6);
    assert_int_equal(fixture_stat(f, "insert-quantize.shared"), 4);
    assert_int_equal(readers(g, "s0.add.x.step", OP_QDQ), 1);
    assert_int_equal(fixture_count(g, OP_CONCAT), 1);
}

static void test_shared(void **state)
{
    static const Expected want[] = {
        { "s0.add.operands", "s0.add", 4, -8, 7, 1024 },
        { "s0.global_avgpool.input", "s0.global_avgpool", 4, 0, 15, 512 },
        { "s0.mul.gate", "s0.mul", 4, 0, 15, 8 },
        { "s0.add_2.operands", "s0.add_2", 4, 0, 15, 1024 },
        { "avgpool.input", "avgpool", 4, 0, 15, 512 },
        { "up.concat.operands", "up.concat", 4, -8, 7, 1024 },
    };
    Fixture *f = *state;
    Graph   *g = quantize(f, "w4a4", "joins=shared");
    assert_joins(f, want, DT_COUNT(want));
    assert_int_equal(readers(g, "s0.add.operands.step", OP_QDQ), 2);
    assert_int_equal(readers(g, "up.concat.operands.step", OP_QDQ), 2);
    assert_int_equal(readers(g, "s0.mul.gate.step", OP_QDQ), 1);
    assert_int_equal(fixture_count(g, OP_CONCAT), 1); /* what a shared quantizer was made of is gone */
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_QDQ)
            assert_true(shape_eq(v->type.shape, ir_value(g, v->in[0])->type.shape));
        if (v->op == OP_CONCAT)
            assert_true(ir_is(g, v->in[0], OP_QDQ) && ir_is(g, v->in[1], OP_QDQ));
    }
}

/* A sum of a value with itself, and of what the host hands in. */
static void test_shared_operands(void **state)
{
    Fixture *f = *state;
    Graph   *g = fixture_graph(f, "graph @t.train {\n  %0 = input \"image\" : f32[2x4x4x4]\n"
                                    "  %1 = param \"c.weight\" : f32[4x4x1x1]\n  %2 = conv2d %0, %1 : f32[2x4x4x4]\n"
                                    "  %3 = add %2, %2 : f32[2x4x4x4]\n  %4 = concat %0, %0 : f32[2x8x4x4]\n"
                                    "  output %3 \"y\"\n  output %4 \"z\"\n}\n");
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    say(f, "joins=shared");
    assert_true(fixture_run(f, g, "--passes=insert-quantize,simplify --verify=all"));
    assert_int_equal(readers(g, "add.operands.step", OP_QDQ), 1);
    assert_int_equal(ir_value(g, ir_find(g, "add.operands.step"))->op, OP_PARAM);
    assert_int_equal(readers(g, "concat.operands.step", OP_QDQ), 1);
    assert_int_equal(ir_value(g, ir_find(g, "concat.operands.step"))->op, OP_STATE); /* the image's: not trained */
}

static void test_rows(void **state)
{
    Fixture *f = *state;
    say(f, "joins=requantize");
    say(f, "s0.*:joins=shared");
    say(f, "s0.add_2:joins=float");
    say(f, "up.*:method=ptq");
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.add=w8a8"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "avgpool=float"));
    quantize(f, "w4a4", NULL);
    assert_int_equal(info_of(f, "s0.add.operands")->bits, 8);
    assert_int_equal(info_of(f, "s0.add.operands")->row, 0);
    assert_null(info_of(f, "s0.add_2.operands"));
    assert_null(info_of(f, "s0.add_2.x"));
    assert_null(info_of(f, "avgpool.input"));
    assert_string_equal(info_of(f, "up.concat.x")->method, "ptq");
    assert_string_equal(info_of(f, "up.concat.y")->method, "ptq");
    assert_int_equal(info_of(f, "up.concat.y")->bits, 4);
}

/* Twice is as once. */
static void test_twice(void **state)
{
    Fixture *f = *state;
    Graph   *g = quantize(f, "w4a4", "joins=shared");
    int32_t  n = fixture_count(g, OP_QDQ);
    f->ctx.quantizers.len = 0;
    assert_true(fixture_run(f, g, QUANTIZE));
    assert_int_equal(fixture_count(g, OP_QDQ), n);
    assert_int_equal(f->ctx.quantizers.len, 0);
}

/* ---- Steps and methods ------------------------------------------------------------------------------------------- */

static const char *leaf_names(Fixture *f, const Graph *g)
{
    Str s = str_new(&f->a);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_PARAM || v->op == OP_STATE)
            str_printf(&s, "%s %s\n", ir_ops[v->op].text, v->name);
    }
    return s.s;
}

static const char *quantizer_names(Fixture *f)
{
    Str s = str_new(&f->a);
    for (int32_t i = 0; i < f->ctx.quantizers.len; i++)
        str_printf(&s, "%s %d\n", f->ctx.quantizers.at[i].name, f->ctx.quantizers.at[i].bits);
    return s.s;
}

/* All steps have the same quantizers; those that compute them have the same leaves. */
static void test_steps_and_methods(void **state)
{
    static const char *const ways[] = { "joins=requantize", "joins=shared" };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < pass_n_methods * DT_COUNT(ways); i++) {
        const Method *m = &pass_methods[i / DT_COUNT(ways)];
        const char   *names = NULL, *leaves = NULL;
        for (StepKind step = STEP_TRAIN; step < STEP_COUNT && m->quantize != NULL; step++) {
            f->recipe = (Recipe){ .method = m->name, .weight_bits = 4, .act_bits = 4, .edge_bits = 8 };
            say(f, ways[i % DT_COUNT(ways)]);
            f->ctx.step = step;
            f->ctx.quantizers.len = 0;
            Graph *g = fixture_graph(f, net);
            if (!fixture_run(f, g, "--passes=insert-quantize --verify=all"))
                fail_msg("%s: %s", m->name, fixture_said(f));
            if (names != NULL)
                assert_string_equal(quantizer_names(f), names);
            names = quantizer_names(f);
            if (leaves != NULL && step != STEP_OBSERVE)
                assert_string_equal(leaf_names(f, g), leaves);
            leaves = leaf_names(f, g);
            if (!fixture_run(f, fixture_graph(f, net), "--verify=all")) /* all passes */
                fail_msg("%s: %s", m->name, fixture_said(f));
        }
    }
}

/* The observe step shows the operands of a shared quantizer together, and computes in float. */
static void test_observe(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_OBSERVE;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    say(f, "joins=shared");
    Graph *g = fixture_graph(f, net);
    if (!fixture_run(f, g, "--passes=insert-quantize,decompose,simplify --verify=all"))
        fail_msg("%s", fixture_said(f));
    ValueId seen = ir_find(g, OBSERVE_OUTPUT "up.concat.operands");
    assert_true(seen != VALUE_NONE);
    assert_true(ir_is(g, ir_value(g, seen)->in[0], OP_CONCAT)); /* the very one that the network has */
    assert_int_equal(fixture_count(g, OP_CONCAT), 3);
    assert_int_equal(fixture_count(g, OP_QDQ), 0);
}

/* ---- Mistakes ---------------------------------------------------------------------------------------------------- */

static void assert_mistake(Fixture *f, const char *setting, const char *layer, const char *graph, const char *said)
{
    Diag kept = f->d;
    f->d = diag_new(NULL);
    f->recipe = (Recipe){ .method = "lsq", .weight_bits = 4, .act_bits = 4 };
    if (setting)
        say(f, setting);
    if (layer)
        assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", layer));
    assert_false(fixture_run(f, fixture_graph(f, graph), QUANTIZE));
    assert_int_equal(f->d.errors, 1);
    assert_has(fixture_said(f), said);
    diag_free(&f->d);
    f->d = kept;
}

static void test_mistakes(void **state)
{
    static const char plain[] = "graph @t.eval {\n  %0 = input \"image\" : f32[2x4]\n"
                                "  %1 = param \"fc.weight\" : f32[4x4]\n  %2 = linear %0, %1 : f32[2x4]\n"
                                "  output %2 \"z\"\n}\n";
    static const char taken[] = "graph @t.eval {\n  %0 = input \"image\" : f32[2x4]\n"
                                "  %1 = param \"add.x.step\" : f32[2x4]\n  %2 = relu %0 : f32[2x4]\n"
                                "  %3 = add %2, %0 : f32[2x4]\n  output %3 \"z\"\n  output %1 \"y\"\n}\n";
    Fixture          *f = *state;
    assert_mistake(f, "joins=requantize", NULL, plain,
                   "--set: joins would do nothing: the network has no add, concat, mul or mean\n");
    assert_mistake(f, "s0.conv1:joins=shared", NULL, net,
                   "has no add, concat, mul or mean whose name is like 's0.conv1'");
    assert_mistake(f, "s0.conv1:joins=shared", NULL, net, "they are named by scope and op: the first is s0.add");
    assert_mistake(f, NULL, "s0.add=w8a8", net, "--layer: unknown layer 's0.add'");
    assert_mistake(f, "joins=requantize", NULL, taken, "the name add.x.step is taken, and layer add needs it");
    assert_false(recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", "joins=yes"));
    assert_has(fixture_said(f), "joins: expected float, requantize or shared, found 'yes'");
    assert_false(recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", "weight.joins=shared"));
    assert_has(fixture_said(f), "joins is a setting of inputs, not of weights");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_float),
        fixture_test(test_requantize),
        fixture_test(test_shared),
        fixture_test(test_shared_operands),
        fixture_test(test_rows),
        fixture_test(test_twice),
        fixture_test(test_steps_and_methods),
        fixture_test(test_observe),
        fixture_test(test_mistakes),
    };
    return cmocka_run_group_tests_name("joins", tests, NULL, NULL);
}
