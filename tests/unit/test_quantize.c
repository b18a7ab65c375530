/* test_quantize.c: which values insert-quantize quantizes, with how many bits and in which range: the default, the rule
 * for the first and the last layer, rows of the recipe; the first step sizes of the init step; and its mistakes. What
 * each method makes there is test_methods.c's. */
#include "tests/unit/pass_fixture.h"

/* Two convolutions read one relu (s0.conv1, s0.down); s1.conv reads a sum that may be negative; head reads a mean. */
static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[2x3x8x8]\n"
                          "  %1 = input \"label\" : i32[2x1]\n"
                          "  %2 = param \"stem.weight\" {init=\"kaiming\", fan=27} : f32[4x3x3x3]\n"
                          "  %3 = conv2d %0, %2 {pad=[1,1,1,1]} : f32[2x4x8x8]\n"
                          "  %4 = relu %3 : f32[2x4x8x8]\n"
                          "  %5 = param \"s0.conv1.weight\" {init=\"kaiming\", fan=36} : f32[8x4x3x3]\n"
                          "  %6 = conv2d %4, %5 {stride=2, pad=[1,1,1,1]} : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %7 = relu %6 : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %8 = param \"s0.conv2.weight\" {init=\"kaiming\", fan=72} : f32[8x8x3x3]\n"
                          "  %9 = conv2d %7, %8 {pad=[1,1,1,1]} : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %10 = param \"s0.down.weight\" {init=\"kaiming\", fan=4} : f32[8x4x1x1]\n"
                          "  %11 = conv2d %4, %10 {stride=2} : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %12 = add %9, %11 : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %13 = param \"s1.conv.weight\" {init=\"kaiming\", fan=72} : f32[8x8x3x3]\n"
                          "  %14 = conv2d %12, %13 {pad=[1,1,1,1]} : f32[2x8x4x4] scope(\"s1\")\n"
                          "  %15 = relu %14 : f32[2x8x4x4] scope(\"s1\")\n"
                          "  %16 = global_avgpool %15 : f32[2x8x1x1]\n"
                          "  %17 = reshape %16 {channels=8} : f32[2x8]\n"
                          "  %18 = param \"head.weight\" {init=\"kaiming\", fan=8} : f32[10x8]\n"
                          "  %19 = param \"head.bias\" {group=\"bias\"} : f32[10]\n"
                          "  %20 = linear %17, %18, %19 : f32[2x10]\n"
                          "  output %20 \"logits\"\n"
                          "}\n";

#define QUANTIZE "--passes=insert-quantize --verify=all --verify-changed"

static Graph *quantize(Fixture *f)
{
    Graph *g = fixture_graph(f, net);
    if (!fixture_run(f, g, QUANTIZE))
        fail_msg("%s", fixture_said(f));
    return g;
}

static const QuantizerInfo *info_of(const Fixture *f, const char *step)
{
    for (int32_t i = 0; i < f->ctx.quantizers.len; i++)
        if (str_eq(f->ctx.quantizers.at[i].step, step))
            return &f->ctx.quantizers.at[i];
    fail_msg("no quantizer has the step size %s", step);
    return NULL;
}

/* The qdq that reads the param. */
static const Value *qdq_of(const Graph *g, const char *step)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_QDQ && v->in[1] == ir_find(g, step))
            return v;
    }
    fail_msg("nobody reads %s", step);
    return NULL;
}

typedef struct Expected {
    const char *step;
    int32_t     bits, lo, hi, row;
} Expected;

static void assert_quantizers(const Fixture *f, const Graph *g, const Expected *want, int32_t n)
{
    assert_int_equal(f->ctx.quantizers.len, n);
    assert_int_equal(fixture_count(g, OP_QDQ), n);
    for (int32_t i = 0; i < n; i++) {
        const QuantizerInfo *q = info_of(f, want[i].step);
        if (q->bits != want[i].bits || q->lo != want[i].lo || q->hi != want[i].hi || q->row != want[i].row)
            fail_msg("%s: %d bits, %d..%d, row %d", q->step, q->bits, (int)q->lo, (int)q->hi, q->row);
        const Value *v = qdq_of(g, want[i].step), *p = ir_value(g, v->in[1]);
        assert_int_equal(ir_int(v, A_BITS), want[i].bits);
        assert_int_equal(ir_int(v, A_LO), want[i].lo);
        assert_int_equal(ir_int(v, A_HI), want[i].hi);
        assert_int_equal(ir_int(v, A_ROW), want[i].row);
        assert_string_equal(q->method, "lsq");
        assert_string_equal(ir_text(v, A_ROLE), q->role);
        bool fixed = ir_is(g, v->in[0], OP_INPUT); /* of the image: found once, not trained */
        assert_int_equal(p->op, fixed ? OP_STATE : OP_PARAM);
        if (!fixed)
            assert_string_equal(ir_text(p, A_GROUP), "step");
        assert_string_equal(ir_text(p, A_INIT), "value");
        assert_true(ir_float(p, A_VALUE) == 1.0 && p->type.shape.rank == 0);
    }
}

static void test_w4a4(void **state)
{
    Fixture              *f = *state;
    static const Expected want[] = {
        { "stem.weight.step", 8, -128, 127, -2 },
        { "stem.input.step", 8, -128, 127, -2 }, /* the image has both signs */
        { "s0.conv1.weight.step", 4, -8, 7, -1 },
        { "s0.conv1.input.step", 4, 0, 15, -1 }, /* shared with s0.down */
        { "s0.conv2.weight.step", 4, -8, 7, -1 },
        { "s0.conv2.input.step", 4, 0, 15, -1 },
        { "s0.down.weight.step", 4, -8, 7, -1 },
        { "s1.conv.weight.step", 4, -8, 7, -1 },
        { "s1.conv.input.step", 4, -8, 7, -1 }, /* a sum of convolutions */
        { "head.weight.step", 8, -128, 127, -2 },
        { "head.input.step", 8, 0, 255, -2 },
    };
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    Graph *g = quantize(f);
    assert_quantizers(f, g, want, DT_COUNT(want));
    assert_int_equal(fixture_stat(f, "insert-quantize.shared"), 1);
    assert_int_equal(fixture_stat(f, "insert-quantize.weights"), 6);
    /* the layers read what was made */
    const Value *down = NULL, *conv1 = NULL;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_CONV2D && ir_value(g, v->in[1]) == qdq_of(g, "s0.down.weight.step"))
            down = v;
        if (v->op == OP_CONV2D && ir_value(g, v->in[1]) == qdq_of(g, "s0.conv1.weight.step"))
            conv1 = v;
    }
    assert_non_null(down);
    assert_non_null(conv1);
    assert_int_equal(down->in[0], conv1->in[0]);
    assert_ptr_equal(ir_value(g, down->in[0]), qdq_of(g, "s0.conv1.input.step"));
    assert_int_equal(ir_int(down, A_STRIDE), 2);
}

static void test_no_edge_rule(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w2a3"));
    f->recipe.edge_bits = 0;
    quantize(f);
    assert_int_equal(info_of(f, "stem.weight.step")->bits, 2);
    assert_int_equal(info_of(f, "stem.weight.step")->lo, -2);
    assert_int_equal(info_of(f, "stem.weight.step")->row, -1);
    assert_int_equal(info_of(f, "head.input.step")->hi, 7);
}

static void test_one_side(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a32"));
    Graph *g = quantize(f);
    assert_int_equal(f->ctx.quantizers.len, 6); /* float stays float at the edges, too */
    assert_int_equal(ir_find(g, "stem.input.step"), VALUE_NONE);
}

static void test_float(void **state)
{
    Fixture    *f = *state;
    Graph      *g = fixture_graph(f, net);
    const char *before = fixture_print(f, g);
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "float"));
    assert_true(fixture_run(f, g, QUANTIZE));
    assert_string_equal(fixture_print(f, g), before);
}

/* A second run finds its quantizers and adds none. */
static void test_twice(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    Graph      *g = quantize(f);
    const char *before = fixture_print(f, g);
    assert_true(fixture_run(f, g, QUANTIZE));
    assert_string_equal(fixture_print(f, g), before);
}

static void test_rows(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.*=w8a8"));         /* 0 */
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.conv2=w3"));       /* 1: weights only */
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "*.down=w8a5"));       /* 2, 3 */
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "{head,stem}=float")); /* 4 */
    Graph *g = quantize(f);
    assert_int_equal(info_of(f, "s0.conv1.weight.step")->bits, 8);
    assert_int_equal(info_of(f, "s0.conv1.weight.step")->row, 0);
    assert_int_equal(info_of(f, "s0.conv2.weight.step")->bits, 3);
    assert_int_equal(info_of(f, "s0.conv2.weight.step")->row, 1);
    assert_int_equal(info_of(f, "s0.conv2.input.step")->bits, 8);
    assert_int_equal(info_of(f, "s0.down.input.step")->bits, 5); /* no longer shared */
    assert_int_equal(info_of(f, "s0.down.input.step")->row, 3);
    assert_int_equal(ir_find(g, "head.weight.step"), VALUE_NONE);
    assert_int_equal(ir_find(g, "stem.input.step"), VALUE_NONE);
    assert_int_equal(fixture_stat(f, "insert-quantize.shared"), 0);
}

/* Only some layers of a float network. */
static void test_float_but(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "float"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s1.conv=w4a4"));
    quantize(f);
    assert_int_equal(f->ctx.quantizers.len, 2);
}

static void test_unknown_layer(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.conv3=w8a8"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s4.*=w8a8"));
    assert_false(fixture_run(f, fixture_graph(f, net), QUANTIZE));
    assert_int_equal(f->d.errors, 2);
    assert_has(fixture_said(f), "unknown layer 's0.conv3'; nearest are s0.conv");
    assert_has(fixture_said(f), "unknown layer 's4.*'");
    assert_has(fixture_said(f), "layers are stem, s0.*, s1.*, head");
}

static void test_recipe_words(void **state)
{
    static const char *const bad[] = {
        "w1a4", "w4a9", "w4a", "4", "", "int8", "w4a4x", "a4w4", "w-4a4", "w4294967300a4"
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(bad); i++) {
        int32_t errors = f->d.errors;
        if (recipe_parse_bits(&f->recipe, &f->d, "--bits", bad[i]))
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(f->d.errors, errors + 1);
    }
    assert_false(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "w4a4"));
    assert_false(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "=w4a4"));
    assert_false(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.*=w4a1"));
    assert_int_equal(f->recipe.rows.len, 0);
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w8a32"));
    assert_int_equal(f->recipe.weight_bits, 8);
    assert_int_equal(f->recipe.act_bits, 0);
    assert_string_equal(f->recipe.method, "lsq");
}

/* Numbers that come from a program, not from words. */
static void test_bad_recipe(void **state)
{
    Fixture *f = *state;
    f->recipe = (Recipe){ .method = "lsq", .weight_bits = 9, .act_bits = 4 };
    assert_false(fixture_run(f, fixture_graph(f, net), QUANTIZE));
    assert_has(fixture_said(f), "weights: expected 2 to 8 bits, or 0 for float, found 9");
    f->recipe = (Recipe){ .method = "lsk", .weight_bits = 4, .act_bits = 4 };
    assert_false(fixture_run(f, fixture_graph(f, net), QUANTIZE));
    assert_has(fixture_said(f),
               "insert-quantize: expected float, ptq, qat, lsq, lsq+, quant-noise, qsin, msqe or sinreq, found 'lsk'");
    assert_has(fixture_said(f), "did you mean lsq or lsq+?");
}

/* %s = lsq_init(mean |x|, max |x|) is what the qdq uses and what the param is set to. */
static void test_init_step(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_INIT;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    Graph *g = quantize(f);
    assert_int_equal(fixture_count(g, OP_LSQ_INIT), 11);
    assert_int_equal(fixture_count(g, OP_ASSIGN), 11);
    int32_t seen = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_QDQ)
            continue;
        const Value *init = ir_value(g, v->in[1]);
        assert_int_equal(init->op, OP_LSQ_INIT);
        assert_int_equal(ir_int(init, A_HI), ir_int(v, A_HI));
        assert_int_equal(ir_int(init, A_BITS), ir_int(v, A_BITS));
        const Value *mean = ir_value(g, init->in[0]), *most = ir_value(g, init->in[1]);
        assert_true(ir_float(mean, A_SCALE) == 1.0 / (double)shape_elems(v->type.shape));
        assert_true(ir_float(most, A_SCALE) == 1.0);
        if (str_eq(ir_text(v, A_ROLE), "act")) { /* in two steps: channels first */
            assert_true(mean->op == OP_REDUCE_SUM && most->op == OP_REDUCE_MAX);
            mean = ir_value(g, mean->in[0]);
            most = ir_value(g, most->in[0]);
        }
        assert_true(mean->op == OP_REDUCE_ABS && most->op == OP_REDUCE_MAXABS);
        assert_true(mean->in[0] == v->in[0] && most->in[0] == v->in[0]);
        seen++;
    }
    assert_int_equal(seen, 11);
    /* the second layer's quantizer looks at what went through the first layer's */
    ValueId step = ir_find(g, "s0.conv1.input.step");
    assert_true(step != VALUE_NONE);
}

static void test_taken_name(void **state)
{
    Fixture *f = *state;
    Graph   *g = fixture_graph(
        f, "graph @t.eval {\n  %0 = input \"image\" : f32[2x4]\n  %1 = param \"fc.weight\" : f32[3x4]\n"
             "  %2 = param \"fc.weight.step\" : f32[]\n  %3 = linear %0, %1 : f32[2x3]\n  output %3 \"z\"\n}\n");
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    assert_false(fixture_run(f, g, QUANTIZE));
    assert_has(fixture_said(f), "the name fc.weight.step is taken");
}

/* Two layers with one weight: names stay apart, the weight is quantized once. */
static void test_shared_weight(void **state)
{
    Fixture *f = *state;
    Graph   *g =
        fixture_graph(f, "graph @t.eval {\n  %0 = input \"image\" : f32[2x4]\n  %1 = param \"fc.weight\" : f32[4x4]\n"
                         "  %2 = linear %0, %1 : f32[2x4]\n  %3 = linear %2, %1 : f32[2x4]\n  output %3 \"z\"\n}\n");
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    assert_true(fixture_run(f, g, QUANTIZE));
    assert_int_equal(fixture_count(g, OP_QDQ), 3);
    assert_true(ir_find(g, "fc_2.input.step") != VALUE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_w4a4),          fixture_test(test_no_edge_rule),  fixture_test(test_one_side),
        fixture_test(test_float),         fixture_test(test_twice),         fixture_test(test_rows),
        fixture_test(test_float_but),     fixture_test(test_unknown_layer), fixture_test(test_recipe_words),
        fixture_test(test_bad_recipe),    fixture_test(test_init_step),     fixture_test(test_taken_name),
        fixture_test(test_shared_weight),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
