/* test_methods.c: what each method puts around a weight and around inputs, in every step: a table of the expressions
 * that layers read, of what is assigned and handed out beside them. Then what many methods have in common: groups of
 * channels, mixtures, settings that part what would be shared, times of a run. */
#include "tests/unit/pass_fixture.h"

#include <math.h>

/* stem reads the image, s0.a and s0.b one relu, s1 a sum that may be negative, head a mean. */
static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[2x3x8x8]\n"
                          "  %1 = param \"stem.weight\" {init=\"kaiming\", fan=27} : f32[4x3x3x3]\n"
                          "  %2 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[2x4x8x8]\n"
                          "  %3 = relu %2 : f32[2x4x8x8]\n"
                          "  %4 = param \"s0.a.weight\" {init=\"kaiming\", fan=36} : f32[8x4x3x3]\n"
                          "  %5 = conv2d %3, %4 {stride=2, pad=[1,1,1,1]} : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %6 = param \"s0.b.weight\" {init=\"kaiming\", fan=4} : f32[8x4x1x1]\n"
                          "  %7 = conv2d %3, %6 {stride=2} : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %8 = add %5, %7 : f32[2x8x4x4] scope(\"s0\")\n"
                          "  %9 = param \"s1.weight\" {init=\"kaiming\", fan=72} : f32[8x8x3x3]\n"
                          "  %10 = conv2d %8, %9 {pad=[1,1,1,1]} : f32[2x8x4x4] scope(\"s1\")\n"
                          "  %11 = relu %10 : f32[2x8x4x4] scope(\"s1\")\n"
                          "  %12 = global_avgpool %11 : f32[2x8x1x1]\n"
                          "  %13 = reshape %12 {channels=8} : f32[2x8]\n"
                          "  %14 = param \"head.weight\" {init=\"kaiming\", fan=8} : f32[10x8]\n"
                          "  %15 = linear %13, %14 : f32[2x10]\n"
                          "  output %15 \"logits\"\n"
                          "}\n";

#define QUANTIZE "--passes=insert-quantize --verify=all --verify-changed --verify-roundtrip"

static const char *const layer_names[] = { "stem", "s0.a", "s0.b", "s1", "head" };

/* ---- A graph by method and settings ------------------------------------------------------------------------------ */

/* Settings separated by blanks. */
static void set_recipe(Fixture *f, const char *method, const char *settings)
{
    char *words = arena_strdup(&f->a, settings), *save = NULL;
    f->recipe = (Recipe){ .method = method, .edge_bits = 8 };
    f->ctx.quantizers.len = 0;
    f->ctx.stats.len = 0;
    assert_true(recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"));
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        if (!recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", w))
            fail_msg("%s", fixture_said(f));
}

static Graph *quantize_graph(Fixture *f, StepKind step, const char *text)
{
    Graph *g = fixture_graph(f, text);
    f->ctx.step = step;
    if (!fixture_run(f, g, QUANTIZE))
        fail_msg("%s", fixture_said(f));
    return g;
}

static Graph *quantize(Fixture *f, const char *method, const char *settings, StepKind step)
{
    set_recipe(f, method, settings);
    return quantize_graph(f, step, net);
}

static const QuantizerInfo *info_of(const Fixture *f, const char *name)
{
    for (int32_t i = 0; i < f->ctx.quantizers.len; i++)
        if (str_eq(f->ctx.quantizers.at[i].name, name))
            return &f->ctx.quantizers.at[i];
    fail_msg("there is no quantizer %s", name);
    return NULL;
}

/* What the layer of that place in the order reads. */
static ValueId operand_of(const Graph *g, int32_t layer, int32_t side)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if ((v->op == OP_CONV2D || v->op == OP_LINEAR) && layer-- == 0)
            return v->in[side];
    }
    fail_msg("too few layers");
    return VALUE_NONE;
}

static int32_t layer_of(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(layer_names); i++)
        if (str_eq(layer_names[i], name))
            return i;
    fail_msg("no layer %s", name);
    return -1;
}

/* ---- Expressions ------------------------------------------------------------------------------------------------- */

/* "qdq(x, step)": how a value is made of x and of the leaves of quantizer `name`. What x stands for is found on the
 * way; y is the whole, where something else is made of it. */
typedef struct Shown {
    const Graph *g;
    const char  *name;
    ValueId      x, y;
    int32_t      penalty; /* 1: among the operands of one */
    Str          text;
} Shown;

static bool has_attribute(const Value *v, AttrId id)
{
    for (int32_t i = 0; i < ir_ops[v->op].n_attrs; i++)
        if (ir_ops[v->op].attrs[i].id == id)
            return true;
    return false;
}

static void show_attributes(Shown *s, const Value *v)
{
    Str *out = &s->text;
    if (has_attribute(v, A_ENDS) && str_eq(ir_text(v, A_ENDS), "code"))
        str_add(out, ".code");
    if (has_attribute(v, A_ROUND) && !ir_int(v, A_ROUND))
        str_add(out, ".clip");
    if (v->op == OP_QUANT_NOISE)
        str_printf(out, " %g/%lld", ir_float(v, A_P), (long long)ir_int(v, A_BLOCK));
    if (v->op == OP_GRAD_SCALE)
        str_printf(out, " %.3g", ir_float(v, A_SCALE));
    if (v->op == OP_SCALE || v->op == OP_REDUCE_SUM)
        str_printf(out, " %.3g", ir_float(v, A_SCALE));
    if (v->op == OP_EMA)
        str_printf(out, " %g", ir_float(v, A_MOMENTUM));
    if (v->op == OP_REPEAT || v->op == OP_REPEAT_GRAD || v->op == OP_GROUP_MAX)
        str_printf(out, " %lld", (long long)ir_int(v, A_COUNT));
    if (v->op == OP_PENALTY)
        str_printf(out, " %s", ir_text(v, A_FORM));
    if (has_attribute(v, A_KEEP) && ir_text(v, A_KEEP)[0])
        str_printf(out, " %s", ir_text(v, A_KEEP));
}

/* Does a quantizer make this of what it is given? */
static bool is_part(const Graph *g, const Value *v)
{
    static const OpCode parts[] = {
        OP_QDQ,        OP_QUANT_NOISE, OP_GRAD_SCALE, OP_REPEAT,        OP_REPEAT_GRAD,
        OP_GROUP_MAX,  OP_MAX_STEP,    OP_RANGE_STEP, OP_RANGE_ZERO,    OP_ZERO_POINT,
        OP_REDUCE_SUM, OP_REDUCE_ABS,  OP_REDUCE_MAX, OP_REDUCE_MIN,    OP_REDUCE_MAXABS,
        OP_REDUCE_DOT, OP_LSQ_INIT,    OP_EMA,        OP_COUNT_CLIPPED, OP_SQUARED_ERROR,
        OP_PENALTY,    OP_SCALE,       OP_MUL,        OP_SUB,           OP_COUNT_NONFINITE
    };
    for (int32_t i = 0; i < DT_COUNT(parts); i++)
        if (v->op == parts[i])
            return true;
    return v->op == OP_ADD && ir_value(g, v->in[1])->type.shape.rank == 0; /* an offset */
}

static void show(Shown *s, ValueId id)
{
    const Value *v = ir_value(s->g, id);
    size_t       len = strlen(s->name);
    if (id == s->y && id != s->x) {
        str_add(&s->text, "y");
    } else if (s->penalty > 0 && v->op == OP_GRAD_SCALE) { /* how hard a regularizer pulls at a step is tuned */
        show(s, v->in[0]);
    } else if (is_part(s->g, v)) {
        str_add(&s->text, ir_ops[v->op].text);
        show_attributes(s, v);
        s->penalty += v->op == OP_PENALTY;
        for (int32_t i = 0; i < v->n_in; i++) {
            str_add(&s->text, i == 0 ? "(" : ", ");
            show(s, v->in[i]);
        }
        str_add(&s->text, ")");
        s->penalty -= v->op == OP_PENALTY;
    } else if (v->name != NULL && strncmp(v->name, s->name, len) == 0 && v->name[len] == '.') {
        str_add(&s->text, v->name + len + 1);
        if (v->type.shape.rank > 0)
            str_printf(&s->text, "[%lld]", (long long)v->type.shape.dim[0]);
    } else if (v->op == OP_INPUT && v->type.dtype == DTYPE_U32) {
        str_add(&s->text, v->name);
    } else {
        str_add(&s->text, "x");
        assert_true(s->x == VALUE_NONE || s->x == id);
        s->x = id;
    }
}

/* "step:step state:max " for its leaves: those of an optimizer group, and states. */
static void show_leaves(Shown *s)
{
    size_t len = strlen(s->name);
    for (int32_t i = 0; i < s->g->order.len; i++) {
        const Value *v = ir_value(s->g, s->g->order.at[i]);
        if ((v->op != OP_PARAM && v->op != OP_STATE) || strncmp(v->name, s->name, len) != 0 || v->name[len] != '.')
            continue;
        str_printf(&s->text, "%s:%s ", v->op == OP_PARAM ? ir_text(v, A_GROUP) : "state", v->name + len + 1);
        assert_true(v->op == OP_STATE || str_eq(v->name + len + 1, ir_text(v, A_GROUP)));
    }
}

/* What is assigned to its leaves and handed to the host. */
static void show_effects(Shown *s)
{
    static const char *const prefixes[] = { PENALTY_OUTPUT, OBSERVE_OUTPUT, INSPECT_OUTPUT };
    size_t                   len = strlen(s->name);
    for (int32_t i = 0; i < s->g->order.len; i++) {
        const Value *v = ir_value(s->g, s->g->order.at[i]);
        const char  *to = v->op == OP_ASSIGN ? ir_value(s->g, v->in[0])->name : v->op == OP_OUTPUT ? v->name : "";
        const char  *prefix = "";
        for (int32_t k = 0; k < DT_COUNT(prefixes); k++)
            if (strncmp(to, prefixes[k], strlen(prefixes[k])) == 0)
                prefix = prefixes[k];
        const char *rest = to + strlen(prefix);
        if (strncmp(rest, s->name, len) != 0 || (rest[len] != '.' && rest[len] != ':' && rest[len] != 0) ||
            (v->op == OP_OUTPUT && prefix[0] == 0))
            continue;
        str_printf(&s->text, "; %.*s%s%s", prefix[0] ? (int)strlen(prefix) - 1 : 0, prefix,
                   prefix[0] && rest[len] ? " " : "", rest[len] ? rest + len + 1 : "");
        str_add(&s->text, v->op == OP_ASSIGN ? " := " : " = ");
        show(s, v->in[v->op == OP_ASSIGN ? 1 : 0]);
    }
}

/* "-8..7 step:step qdq(x, step); step := ..." of "s1.input". */
static const char *structure(Fixture *f, const Graph *g, const char *name)
{
    const QuantizerInfo *q = info_of(f, name);
    const char          *dot = strrchr(name, '.');
    bool                 weight = str_eq(dot, ".weight");
    int32_t              layer = layer_of(arena_strndup(&f->a, name, (size_t)(dot - name)));
    Shown                s = { .g = g, .name = name, .x = VALUE_NONE, .y = VALUE_NONE, .text = str_new(&f->a) };
    ValueId              y = operand_of(g, layer, weight);
    str_printf(&s.text, "%lld..%lld ", (long long)q->lo, (long long)q->hi);
    show_leaves(&s);
    show(&s, y);
    s.y = y;
    show_effects(&s);
    assert_string_equal(q->role, weight ? "weight" : "act");
    return s.text.s;
}

/* ---- Each method ------------------------------------------------------------------------------------------------- */

typedef struct Case {
    const char *method, *settings, *name;
    StepKind    step;
    const char *expected;
} Case;

/* clang-format off */
static const Case cases[] = {
    { "lsq", "", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq", "", "s0.a.weight", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "lsq", "", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_abs(x), reduce_maxabs(x))); step := lsq_init(reduce_abs(x), reduce_maxabs(x))" },
    { "lsq", "", "s0.a.weight", STEP_OBSERVE, "-8..7 step:step x; observe = x" },
    { "lsq", "", "s0.a.weight", STEP_INSPECT, "-8..7 step:step qdq(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step; inspect value = y" },
    { "lsq", "", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq(x, step)" },
    { "lsq", "", "s0.a.input", STEP_INIT, "0..15 step:step qdq(x, lsq_init(reduce_sum 0.00195(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))); step := lsq_init(reduce_sum 0.00195(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))" },
    { "lsq", "", "s1.input", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq", "", "s1.input", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "lsq", "", "s1.input", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_sum 0.00391(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))); step := lsq_init(reduce_sum 0.00391(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))" },
    { "lsq", "", "s1.input", STEP_OBSERVE, "-8..7 step:step x; observe = x" },
    { "lsq", "", "s1.input", STEP_INSPECT, "-8..7 step:step qdq(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step" },
    { "lsq", "", "stem.input", STEP_TRAIN, "-128..127 state:step qdq(x, step)" },
    { "lsq", "", "stem.input", STEP_INIT, "-128..127 state:step qdq(x, lsq_init(reduce_sum 0.0026(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))); step := lsq_init(reduce_sum 0.0026(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))" },
    { "lsq", "grain=channel", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step[8])" },
    { "lsq", "grain=channel", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_abs o(x), reduce_maxabs o(x))); step := lsq_init(reduce_abs o(x), reduce_maxabs o(x))" },
    { "lsq", "grain=channel", "s0.a.weight", STEP_INSPECT, "-8..7 step:step qdq(x, step[8]); inspect clipped = count_clipped(x, step[8]); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step[8]; inspect value = y" },
    { "lsq", "s0.a:grain=2", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, repeat 2(step[4]))" },
    { "lsq", "s0.a:grain=2", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, repeat 2(lsq_init(repeat_grad 2(reduce_abs o(x)), group_max 2(reduce_maxabs o(x))))); step := lsq_init(repeat_grad 2(reduce_abs o(x)), group_max 2(reduce_maxabs o(x)))" },
    { "lsq", "s0.a:grain=8", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_abs(x), reduce_maxabs(x))); step := lsq_init(reduce_abs(x), reduce_maxabs(x))" },
    { "lsq", "codes=narrow step-rate=0.5", "s0.a.weight", STEP_TRAIN, "-7..7 step:step qdq(x, grad_scale 0.5(step))" },
    { "lsq", "codes=narrow step-rate=0.5", "s0.a.weight", STEP_EVAL, "-7..7 step:step qdq(x, step)" },
    { "lsq", "codes=narrow step-rate=0.5", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq(x, grad_scale 0.5(step))" },
    { "lsq", "calibrate=max", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, step)" },
    { "lsq", "calibrate=max", "s0.a.input", STEP_INIT, "0..15 step:step qdq(x, step)" },
    { "lsq", "noise=0.5 noise-block=9", "s0.a.weight", STEP_TRAIN, "-8..7 step:step quant_noise 0.5/9(x, qdq(x, step), seed, step)" },
    { "lsq", "noise=0.5 noise-block=9", "s0.a.weight", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "lsq", "noise=0.5 noise-block=9", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_abs(x), reduce_maxabs(x))); step := lsq_init(reduce_abs(x), reduce_maxabs(x))" },
    { "lsq", "noise=0.5 noise-block=9", "s0.a.weight", STEP_OBSERVE, "-8..7 step:step x; observe = x" },
    { "lsq", "noise=0.5 noise-block=9", "s0.a.weight", STEP_INSPECT, "-8..7 step:step qdq(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step; inspect value = y" },
    { "lsq", "noise=0", "s0.a.weight", STEP_TRAIN, "-8..7 step:step x" },
    { "lsq", "noise=0", "s0.a.weight", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "lsq", "noise=1", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq", "training=clamp", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq", "training=clamp", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq.clip(x, step)" },
    { "lsq", "training=clamp", "s0.a.input", STEP_EVAL, "0..15 step:step qdq(x, step)" },
    { "lsq", "training=float", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq", "training=float", "s0.a.input", STEP_TRAIN, "0..15 step:step x" },
    { "lsq", "training=float", "s0.a.input", STEP_EVAL, "0..15 step:step qdq(x, step)" },
    { "lsq+", "", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq+", "", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, step)" },
    { "lsq+", "", "s0.a.input", STEP_TRAIN, "0..15 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "", "s1.input", STEP_TRAIN, "0..15 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "", "s1.input", STEP_EVAL, "0..15 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "", "s1.input", STEP_INIT, "0..15 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "", "s1.input", STEP_OBSERVE, "0..15 step:step offset:offset x; observe = x" },
    { "lsq+", "", "s1.input", STEP_INSPECT, "0..15 step:step offset:offset qdq(x, step, zero_point(offset, step)); inspect clipped = count_clipped(x, step, zero_point(offset, step)); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step; inspect zero = zero_point(offset, step)" },
    { "lsq+", "", "stem.input", STEP_TRAIN, "0..255 state:step state:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "noise=0.5", "s0.a.weight", STEP_TRAIN, "-8..7 step:step quant_noise 0.5/1(x, qdq(x, step), seed, step)" },
    { "lsq+", "calibrate=none", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, lsq_init(reduce_abs(x), reduce_maxabs(x))); step := lsq_init(reduce_abs(x), reduce_maxabs(x))" },
    { "lsq+", "calibrate=none", "s1.input", STEP_INIT, "0..15 step:step offset:offset qdq(x, lsq_init(reduce_sum 0.00391(reduce_abs c(x)), reduce_max(reduce_maxabs c(x))), zero_point(offset, lsq_init(reduce_sum 0.00391(reduce_abs c(x)), reduce_max(reduce_maxabs c(x))))); step := lsq_init(reduce_sum 0.00391(reduce_abs c(x)), reduce_max(reduce_maxabs c(x)))" },
    { "lsq+", "config=1", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq(x, step)" },
    { "lsq+", "config=1", "s1.input", STEP_TRAIN, "0..15 step:step qdq(x, step)" },
    { "lsq+", "config=2", "s0.a.input", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq+", "config=2", "s1.input", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq+", "config=3", "s0.a.input", STEP_TRAIN, "-8..7 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "config=3", "s1.input", STEP_TRAIN, "-8..7 step:step offset:offset qdq(x, step, zero_point(offset, step))" },
    { "lsq+", "config=3 offset=float", "s1.input", STEP_TRAIN, "-8..7 step:step offset:offset add(qdq(sub(x, grad_scale 0.0334(offset)), step), grad_scale 0.0334(offset))" },
    { "lsq+", "offset=float", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq(x, step)" },
    { "lsq+", "offset=float", "s1.input", STEP_TRAIN, "0..15 step:step offset:offset add(qdq(sub(x, grad_scale 0.0228(offset)), step), grad_scale 0.0228(offset))" },
    { "lsq+", "offset=float", "s1.input", STEP_EVAL, "0..15 step:step offset:offset add(qdq(sub(x, offset), step), offset)" },
    { "lsq+", "offset=float", "s1.input", STEP_INSPECT, "0..15 step:step offset:offset add(qdq(sub(x, offset), step), offset); inspect clipped = count_clipped(sub(x, offset), step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step" },
    { "lsq+", "offset=float", "stem.input", STEP_TRAIN, "0..255 state:step state:offset add(qdq(sub(x, offset), step), offset)" },
    { "qat", "", "s0.a.weight", STEP_TRAIN, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "qat", "", "s0.a.weight", STEP_EVAL, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "qat", "", "s0.a.weight", STEP_INIT, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "qat", "", "s0.a.weight", STEP_OBSERVE, "-7..7 x; observe = x" },
    { "qat", "", "s0.a.weight", STEP_INSPECT, "-7..7 qdq.code(x, max_step(reduce_maxabs(x))); inspect clipped = count_clipped(x, max_step(reduce_maxabs(x))); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = max_step(reduce_maxabs(x)); inspect value = y" },
    { "qat", "", "s0.a.input", STEP_TRAIN, "0..15 state:max qdq.code(x, max_step(max)); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "qat", "", "s0.a.input", STEP_EVAL, "0..15 state:max qdq.code(x, max_step(max))" },
    { "qat", "", "s0.a.input", STEP_INIT, "0..15 state:max qdq.code(x, max_step(reduce_max(reduce_max c(x)))); max := reduce_max(reduce_max c(x))" },
    { "qat", "", "s1.input", STEP_TRAIN, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max)); min := ema 0.01(min, reduce_min(reduce_min c(x))); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "qat", "", "s1.input", STEP_EVAL, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max))" },
    { "qat", "", "s1.input", STEP_INIT, "-8..7 state:min state:max qdq.code(x, range_step(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x))), range_zero(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x)))); min := reduce_min(reduce_min c(x)); max := reduce_max(reduce_max c(x))" },
    { "qat", "", "s1.input", STEP_OBSERVE, "-8..7 state:min state:max x; observe = x" },
    { "qat", "", "s1.input", STEP_INSPECT, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max)); inspect clipped = count_clipped(x, range_step(min, max), range_zero(min, max)); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = range_step(min, max); inspect zero = range_zero(min, max)" },
    { "qat", "", "stem.input", STEP_TRAIN, "-128..127 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max)); min := ema 0.01(min, reduce_min(reduce_min c(x))); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "qat", "form=symmetric", "s0.a.input", STEP_TRAIN, "0..15 state:max qdq.code(x, max_step(max)); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "qat", "form=symmetric", "s1.input", STEP_TRAIN, "-8..7 state:max qdq.code(x, max_step(max)); max := ema 0.01(max, reduce_max(reduce_maxabs c(x)))" },
    { "qat", "form=symmetric", "s1.input", STEP_EVAL, "-8..7 state:max qdq.code(x, max_step(max))" },
    { "qat", "form=symmetric", "s1.input", STEP_INIT, "-8..7 state:max qdq.code(x, max_step(reduce_max(reduce_maxabs c(x)))); max := reduce_max(reduce_maxabs c(x))" },
    { "qat", "grain=channel codes=full", "s0.a.weight", STEP_TRAIN, "-8..7 qdq.code(x, max_step(reduce_maxabs o(x)))" },
    { "qat", "s0.a:grain=4", "s0.a.weight", STEP_TRAIN, "-7..7 qdq.code(x, repeat 4(max_step(group_max 4(reduce_maxabs o(x)))))" },
    { "qat", "ema=0", "s1.input", STEP_TRAIN, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max))" },
    { "qat", "ema=0", "s1.input", STEP_INIT, "-8..7 state:min state:max qdq.code(x, range_step(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x))), range_zero(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x)))); min := reduce_min(reduce_min c(x)); max := reduce_max(reduce_max c(x))" },
    { "qat", "act.calibrate=max", "s1.input", STEP_TRAIN, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max)); min := ema 0.01(min, reduce_min(reduce_min c(x))); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "qat", "act.calibrate=max", "s1.input", STEP_INIT, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max))" },
    { "ptq", "", "s0.a.weight", STEP_TRAIN, "-7..7 state:step qdq.code(x, step[8])" },
    { "ptq", "", "s0.a.weight", STEP_EVAL, "-7..7 state:step qdq.code(x, step[8])" },
    { "ptq", "", "s0.a.weight", STEP_INIT, "-7..7 state:step qdq.code(x, step[8])" },
    { "ptq", "", "s0.a.weight", STEP_OBSERVE, "-7..7 state:step x; observe = x" },
    { "ptq", "", "s0.a.weight", STEP_INSPECT, "-7..7 state:step qdq.code(x, step[8]); inspect clipped = count_clipped(x, step[8]); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step[8]; inspect value = y" },
    { "ptq", "", "s0.a.input", STEP_TRAIN, "0..15 state:step qdq.code(x, step)" },
    { "ptq", "", "s0.a.input", STEP_INIT, "0..15 state:step qdq.code(x, step)" },
    { "ptq", "", "s1.input", STEP_TRAIN, "-8..7 state:step qdq.code(x, step)" },
    { "ptq", "", "s1.input", STEP_INSPECT, "-8..7 state:step qdq.code(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step" },
    { "ptq", "", "stem.input", STEP_TRAIN, "-128..127 state:step qdq.code(x, step)" },
    { "ptq", "form=affine", "s0.a.input", STEP_TRAIN, "0..15 state:step qdq.code(x, step)" },
    { "ptq", "form=affine", "s1.input", STEP_TRAIN, "-8..7 state:step state:offset qdq.code(x, step, zero_point(offset, step))" },
    { "ptq", "form=affine", "s1.input", STEP_EVAL, "-8..7 state:step state:offset qdq.code(x, step, zero_point(offset, step))" },
    { "ptq", "form=affine", "s1.input", STEP_INIT, "-8..7 state:step state:offset qdq.code(x, step, zero_point(offset, step))" },
    { "ptq", "form=affine", "s1.input", STEP_INSPECT, "-8..7 state:step state:offset qdq.code(x, step, zero_point(offset, step)); inspect clipped = count_clipped(x, step, zero_point(offset, step)); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step; inspect zero = zero_point(offset, step)" },
    { "ptq", "calibrate=none", "s0.a.weight", STEP_INIT, "-7..7 state:step qdq.code(x, max_step(reduce_maxabs o(x))); step := max_step(reduce_maxabs o(x))" },
    { "ptq", "calibrate=none", "s0.a.input", STEP_INIT, "0..15 state:step qdq.code(x, max_step(reduce_max(reduce_maxabs c(x)))); step := max_step(reduce_max(reduce_maxabs c(x)))" },
    { "ptq", "calibrate=none form=affine", "s1.input", STEP_INIT, "-8..7 state:step state:offset qdq.code(x, range_step(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x))), range_zero(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x)))); step := range_step(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x))); offset := scale -1(mul(range_zero(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x))), range_step(reduce_min(reduce_min c(x)), reduce_max(reduce_max c(x)))))" },
    { "quant-noise", "", "s0.a.weight", STEP_TRAIN, "-7..7 quant_noise 0.5/1(x, qdq.code(x, max_step(reduce_maxabs(x))), seed, step)" },
    { "quant-noise", "", "s0.a.weight", STEP_EVAL, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "quant-noise", "", "s0.a.weight", STEP_INIT, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "quant-noise", "", "s0.a.weight", STEP_OBSERVE, "-7..7 x; observe = x" },
    { "quant-noise", "", "s0.a.weight", STEP_INSPECT, "-7..7 qdq.code(x, max_step(reduce_maxabs(x))); inspect clipped = count_clipped(x, max_step(reduce_maxabs(x))); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = max_step(reduce_maxabs(x)); inspect value = y" },
    { "quant-noise", "", "s1.input", STEP_TRAIN, "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max)); min := ema 0.01(min, reduce_min(reduce_min c(x))); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
    { "quant-noise", "noise=1", "s0.a.weight", STEP_TRAIN, "-7..7 qdq.code(x, max_step(reduce_maxabs(x)))" },
    { "qsin", "", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
    { "qsin", "", "s0.a.weight", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "qsin", "", "s0.a.weight", STEP_INIT, "-8..7 step:step qdq(x, step)" },
    { "qsin", "", "s0.a.weight", STEP_OBSERVE, "-8..7 step:step x; observe = x" },
    { "qsin", "", "s0.a.weight", STEP_INSPECT, "-8..7 step:step qdq(x, step); inspect phi = penalty qsin(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step; inspect value = y" },
    { "qsin", "", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
    { "qsin", "", "s0.a.input", STEP_EVAL, "0..15 step:step qdq(x, step)" },
    { "qsin", "", "s0.a.input", STEP_INSPECT, "0..15 step:step qdq(x, step); inspect clipped = count_clipped(x, step); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step" },
    { "qsin", "", "s1.input", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
    { "qsin", "", "s1.input", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "qsin", "", "stem.input", STEP_TRAIN, "-128..127 state:step qdq.clip(x, step)" },
    { "qsin", "training=quantize", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
    { "qsin", "training=quantize", "s0.a.input", STEP_TRAIN, "0..15 step:step qdq(x, grad_scale 0.1(step))" },
    { "qsin", "grain=channel", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step[8])); penalty = penalty qsin(x, step[8])" },
    { "qsin", "grain=channel", "s0.a.weight", STEP_INSPECT, "-8..7 step:step qdq(x, step[8]); inspect phi = penalty qsin o(x, step[8]); inspect clipped = count_clipped(x, step[8]); inspect noise = squared_error(x, y); inspect signal = reduce_dot(x, x); inspect bad = count_nonfinite(x); inspect step = step[8]; inspect value = y" },
    { "qsin", "s0.a:grain=2 lambda=3 step-rate=1", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, repeat 2(step[4])); penalty = penalty qsin(x, repeat 2(step[4]))" },
    { "qsin", "lambda=0 act-lambda=2", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step))" },
    { "qsin", "lambda=0 act-lambda=2", "s1.input", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
    { "qsin", "noise=0.5", "s0.a.weight", STEP_TRAIN, "-8..7 step:step quant_noise 0.5/1(x, qdq.clip(x, grad_scale 0.1(step)), seed, step); penalty = penalty qsin(x, step)" },
    { "msqe", "", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty msqe(x, step)" },
    { "msqe", "", "s0.a.weight", STEP_EVAL, "-8..7 step:step qdq(x, step)" },
    { "sinreq", "", "s0.a.weight", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty sinreq(x, step)" },
    { "msqe", "", "s1.input", STEP_TRAIN, "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty msqe(x, step)" },
};
/* clang-format on */

static void test_structures(void **state)
{
    (void)state;
    int32_t wrong = 0;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        const Case *c = &cases[i];
        Fixture    *f = NULL;
        assert_int_equal(fixture_setup((void **)&f), 0);
        const char *found = structure(f, quantize(f, c->method, c->settings, c->step), c->name);
        if (!str_eq(found, c->expected)) {
            print_error("%s [%s] %s in the %s step\n  expected %s\n  found    %s\n", c->method, c->settings, c->name,
                        step_kind_name(c->step), c->expected, found);
            wrong++;
        }
        fixture_teardown((void **)&f);
    }
    if (wrong > 0)
        fail_msg("%d of %d structures differ", wrong, DT_COUNT(cases));
}

/* ---- What methods have in common --------------------------------------------------------------------------------- */

static void assert_number(double found, double wanted)
{
    if (fabs(found - wanted) > 1e-12 * fabs(wanted))
        fail_msg("found %.17g, expected %.17g", found, wanted);
}

/* Groups of channels: how many steps there are, and that they fit. */
static void test_grain(void **state)
{
    static const struct {
        const char *grain;
        int64_t     steps;
    } grains[] = { { "tensor", 1 }, { "channel", 8 }, { "1", 8 }, { "2", 4 }, { "4", 2 }, { "8", 1 } };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(grains); i++) {
        Graph               *g = quantize(f, "lsq", arena_printf(&f->a, "s0.a:grain=%s", grains[i].grain), STEP_TRAIN);
        const QuantizerInfo *q = info_of(f, "s0.a.weight");
        assert_int_equal(q->steps, grains[i].steps);
        assert_int_equal(shape_elems(ir_value(g, ir_find(g, q->step))->type.shape), grains[i].steps);
        assert_int_equal(info_of(f, "s0.b.weight")->steps, 1);
        assert_int_equal(info_of(f, "s0.a.input")->steps, 1);
    }
    set_recipe(f, "lsq", "s0.a:grain=3");
    f->ctx.step = STEP_TRAIN;
    assert_false(fixture_run(f, fixture_graph(f, net), QUANTIZE));
    assert_has(fixture_said(f), "--set: grain: expected tensor, channel or a divisor of the 8 outputs of s0.a.weight, "
                                "found 3");
}

/* What is said of a quantizer, beyond what the table shows. */
static void test_infos(void **state)
{
    Fixture *f = *state;
    quantize(f, "lsq+", "s1:weight.calibrate=percentile s1:percentile=99.9", STEP_TRAIN);
    const QuantizerInfo *w = info_of(f, "s1.weight"), *x = info_of(f, "s1.input");
    assert_string_equal(w->layer, "s1");
    assert_string_equal(w->method, "lsq+");
    assert_string_equal(w->step, "s1.weight.step");
    assert_string_equal(w->calibrate, "percentile");
    assert_number(w->percentile, 99.9);
    assert_true(w->bits == 4 && w->row == -1 && !w->affine && w->offset == NULL && w->min == NULL && w->max == NULL);
    assert_string_equal(x->calibrate, "mse");
    assert_string_equal(x->offset, "s1.input.offset");
    assert_true(x->affine && x->observed == NULL);
    assert_int_equal(info_of(f, "stem.weight")->bits, 8);
    assert_int_equal(info_of(f, "stem.weight")->row, -2);
    quantize(f, "qat", "", STEP_OBSERVE);
    x = info_of(f, "s1.input");
    assert_true(x->affine && x->step == NULL && x->offset == NULL);
    assert_string_equal(x->min, "s1.input.min");
    assert_string_equal(x->max, "s1.input.max");
    assert_string_equal(x->observed, "observe:s1.input");
    x = info_of(f, "s0.a.input"); /* never negative: from 0 on */
    assert_true(!x->affine && x->min == NULL && str_eq(x->max, "s0.a.input.max"));
    w = info_of(f, "s1.weight"); /* nothing is kept: every step looks at the weight itself */
    assert_true(w->step == NULL && w->min == NULL && w->max == NULL && str_eq(w->calibrate, "none"));
}

/* The two layers that read one relu share its quantizer only where both would make the same. */
static void test_sharing(void **state)
{
    static const struct {
        const char *settings;
        bool        shared;
    } rows[] = {
        { "", true },
        { "s0.a:grain=channel", true }, /* of weights alone */
        { "s0.a:step-rate=0.5", false },
        { "s0.a:act.step-rate=0.5 s0.b:act.step-rate=0.5", true },
        { "s0.a:act.training=clamp", false },
        { "s0.a:act.method=qat", false },
        { "s0.a:weight.method=qat", true },
        { "s0.*:act.method=qat", true },
        { "s0.*:method=lsq+ s0.a:config=3", false },
        { "s0.*:method=lsq+ s0.*:config=3", true },
        { "s0.b:method=float", true },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Graph  *g = quantize(f, "lsq", rows[i].settings, STEP_TRAIN);
        ValueId a = operand_of(g, 1, 0), b = operand_of(g, 2, 0);
        bool    only = strstr(rows[i].settings, "float") != NULL; /* there is one quantizer, and one who reads it */
        if ((a == b) != (rows[i].shared && !only) || (fixture_stat(f, "insert-quantize.shared") == 1) != (a == b))
            fail_msg("'%s': %s", rows[i].settings, a == b ? "shared" : "two");
    }
}

/* One weight of two layers has one quantizer, unless settings of weights differ. */
static void test_shared_weight(void **state)
{
    static const char shared[] =
        "graph @t.train {\n  %0 = input \"image\" : f32[2x4]\n  %1 = param \"fc.weight\" : f32[4x4]\n"
        "  %2 = linear %0, %1 : f32[2x4]\n  %3 = linear %2, %1 : f32[2x4]\n  %4 = linear %3, %1 : f32[2x4]\n"
        "  %5 = linear %4, %1 : f32[2x4]\n  output %5 \"z\"\n}\n";
    Fixture *f = *state;
    set_recipe(f, "quant-noise", "");
    Graph *g = quantize_graph(f, STEP_TRAIN, shared);
    assert_int_equal(fixture_count(g, OP_QUANT_NOISE), 2); /* the edges have other bits */
    assert_true(operand_of(g, 0, 1) == operand_of(g, 3, 1) && operand_of(g, 1, 1) == operand_of(g, 2, 1));
    assert_true(operand_of(g, 0, 1) != operand_of(g, 1, 1));
}

/* The square of a value: it is weight and input of one layer, and has a quantizer as each. */
static void test_weight_and_input(void **state)
{
    Fixture *f = *state;
    set_recipe(f, "lsq", "");
    Graph *g = quantize_graph(f, STEP_TRAIN,
                              "graph @t.train {\n  %0 = param \"w\" : f32[4x4]\n  %1 = linear %0, %0 : f32[4x4]\n"
                              "  output %1 \"z\"\n}\n");
    assert_int_equal(fixture_count(g, OP_QDQ), 2);
    assert_true(operand_of(g, 0, 0) != operand_of(g, 0, 1));
}

/* Method, bits and settings by layer. */
static void test_mixed(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_TRAIN;
    set_recipe(f, "lsq", "s0.a:method=qat s1:weight.method=qsin s1:lambda=7 head:method=ptq stem:method=float");
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.b=w2a3"));
    assert_true(recipe_add_layer(&f->a, &f->recipe, &f->d, "--layer", "s0.a=w3")); /* of few codes: the mean */
    Graph                   *g = quantize_graph(f, STEP_TRAIN, net);
    static const char *const wanted[][2] = {
        { "s0.a.weight", "-3..3 qdq.code(x, max_step(reduce_abs(x)))" },
        { "s0.a.input",
          "0..15 state:max qdq.code(x, max_step(max)); max := ema 0.01(max, reduce_max(reduce_max c(x)))" },
        { "s0.b.weight", "-2..1 step:step qdq(x, step)" },
        { "s0.b.input", "0..7 step:step qdq(x, step)" },
        { "s1.weight", "-8..7 step:step qdq.clip(x, grad_scale 0.1(step)); penalty = penalty qsin(x, step)" },
        { "s1.input", "-8..7 step:step qdq(x, step)" },
        { "head.weight", "-127..127 state:step qdq.code(x, step[10])" },
    };
    for (int32_t i = 0; i < DT_COUNT(wanted); i++)
        assert_string_equal(structure(f, g, wanted[i][0]), wanted[i][1]);
    assert_string_equal(info_of(f, "s1.weight")->method, "qsin");
    assert_string_equal(info_of(f, "s1.input")->method, "lsq");
    assert_int_equal(f->ctx.quantizers.len, 8);
    assert_true(ir_is(g, operand_of(g, 0, 0), OP_INPUT) && ir_is(g, operand_of(g, 0, 1), OP_PARAM));
}

/* An image in another shape is still the host's: its step is not trained. */
static void test_given(void **state)
{
    Fixture *f = *state;
    set_recipe(f, "lsq+", "");
    Graph *g = quantize_graph(f, STEP_TRAIN,
                              "graph @t.train {\n  %0 = input \"image\" : f32[2x1x2x2]\n"
                              "  %1 = reshape %0 {channels=4} : f32[2x4]\n  %2 = param \"fc.weight\" : f32[3x4]\n"
                              "  %3 = linear %1, %2 : f32[2x3]\n  output %3 \"z\"\n}\n");
    assert_true(ir_is(g, ir_find(g, "fc.input.step"), OP_STATE));
    assert_true(ir_is(g, ir_find(g, "fc.input.offset"), OP_STATE));
    assert_true(ir_is(g, ir_find(g, "fc.weight.step"), OP_PARAM));
}

/* Every name that a quantizer may need is looked at. */
static void test_taken_names(void **state)
{
    static const char *const suffixes[] = { "step", "offset", "min", "max" };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < DT_COUNT(suffixes); i++) {
        const char *text =
            arena_printf(&f->a,
                         "graph @t.eval {\n  %%0 = input \"image\" : f32[2x4]\n"
                         "  %%1 = param \"fc.weight\" : f32[3x4]\n  %%2 = state \"fc.input.%s\" : f32[]\n"
                         "  %%3 = linear %%0, %%1 : f32[2x3]\n  output %%3 \"z\"\n}\n",
                         suffixes[i]);
        set_recipe(f, "qat", "");
        assert_false(fixture_run(f, fixture_graph(f, text), QUANTIZE));
        assert_has(fixture_said(f), arena_printf(&f->a, "the name fc.input.%s is taken", suffixes[i]));
    }
}

/* A second run finds what the first has made, behind a mask, too. */
static void test_twice(void **state)
{
    static const char *const methods[] = { "ptq", "qat", "lsq", "lsq+", "quant-noise", "qsin" };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < DT_COUNT(methods); i++) {
        Graph  *g = quantize(f, methods[i], "", STEP_TRAIN);
        int32_t before = g->order.len;
        f->ctx.stats.len = 0;
        assert_true(fixture_run(f, g, QUANTIZE));
        assert_int_equal(g->order.len, before);
        assert_int_equal(fixture_stat(f, "insert-quantize.weights"), 0);
        assert_int_equal(fixture_stat(f, "insert-quantize.activations"), 0);
    }
}

/* ---- Times of a run ---------------------------------------------------------------------------------------------- */

static const char *structure_at(Fixture *f, const char *method, const char *settings, double epoch, const char *name)
{
    f->ctx.moment = (Moment){ epoch, 10 };
    return structure(f, quantize(f, method, settings, STEP_TRAIN), name);
}

/* The factor of a regularizer's sum. */
static double penalty_at(Fixture *f, const char *method, const char *settings, Moment moment, const char *name)
{
    f->ctx.moment = moment;
    const Graph *g = quantize(f, method, settings, STEP_TRAIN);
    ValueId      out = ir_find(g, arena_printf(&f->a, PENALTY_OUTPUT "%s", name));
    assert_true(out != VALUE_NONE);
    return ir_float(ir_value(g, ir_value(g, out)->in[0]), A_SCALE);
}

static void test_schedules(void **state)
{
    Fixture *f = *state;
    assert_has(structure_at(f, "quant-noise", "noise=0.25,0.5@2,1@80%", 0, "s1.weight"), "quant_noise 0.25/1(");
    assert_has(structure_at(f, "quant-noise", "noise=0.25,0.5@2,1@80%", 2, "s1.weight"), "quant_noise 0.5/1(");
    assert_has_not(structure_at(f, "quant-noise", "noise=0.25,0.5@2,1@80%", 8, "s1.weight"), "quant_noise");
    double once = penalty_at(f, "qsin", "", (Moment){ 0, 9 }, "s1.weight");
    assert_number(penalty_at(f, "qsin", "", (Moment){ 3, 9 }, "s1.weight"), 10 * once);
    assert_number(penalty_at(f, "qsin", "", (Moment){ 6, 9 }, "s1.weight"), 100 * once);
    assert_number(penalty_at(f, "qsin", "", (Moment){ 0, 0 }, "s1.weight"), once); /* no run: as at its beginning */
    assert_number(penalty_at(f, "qsin", "lambda=7", (Moment){ 0, 9 }, "s1.weight"), 7 * once);
    once = penalty_at(f, "qsin", "", (Moment){ 0, 9 }, "s1.input");
    assert_number(penalty_at(f, "qsin", "", (Moment){ 6, 9 }, "s1.input"), once);
    assert_number(penalty_at(f, "qsin", "act-lambda=4,5@2", (Moment){ 0, 9 }, "s1.input"), 4 * once);
    assert_number(penalty_at(f, "qsin", "act-lambda=4,5@2", (Moment){ 2, 9 }, "s1.input"), 5 * once);
}

/* Before that epoch inputs are seen in float, and what they will need is found: ranges follow, nothing is drawn to a
 * grid. */
static void test_delay(void **state)
{
    Fixture *f = *state;
    assert_string_equal(structure_at(f, "lsq", "delay=3", 2, "s1.input"), "-8..7 step:step x");
    assert_string_equal(structure_at(f, "lsq", "delay=3", 3, "s1.input"), "-8..7 step:step qdq(x, step)");
    assert_string_equal(structure_at(f, "lsq", "delay=3", 2, "s1.weight"), "-8..7 step:step qdq(x, step)");
    assert_string_equal(structure_at(f, "qat", "delay=3", 2, "s0.a.input"),
                        "0..15 state:max x; max := ema 0.01(max, reduce_max(reduce_max c(x)))");
    assert_string_equal(structure_at(f, "qsin", "delay=3", 2, "s1.input"), "-8..7 step:step x");
    assert_has(structure_at(f, "qsin", "delay=3", 3, "s1.input"), "penalty = penalty qsin(x");
    f->ctx.moment = (Moment){ 0, 10 };
    assert_string_equal(structure(f, quantize(f, "lsq", "delay=3", STEP_EVAL), "s1.input"),
                        "-8..7 step:step qdq(x, step)");
}

static void test_freeze(void **state)
{
    Fixture *f = *state;
    assert_has(structure_at(f, "qat", "freeze-ranges=3", 2, "s0.a.input"), "max := ema");
    assert_string_equal(structure_at(f, "qat", "freeze-ranges=3", 3, "s0.a.input"),
                        "0..15 state:max qdq.code(x, max_step(max))");
    assert_string_equal(structure_at(f, "qat", "freeze-ranges=3", 3, "s1.input"),
                        "-8..7 state:min state:max qdq.code(x, range_step(min, max), range_zero(min, max))");
}

/* An evaluation of what a regularizer has reached: clipped, not rounded. */
static void test_clamped(void **state)
{
    Fixture *f = *state;
    f->ctx.clamped = true;
    assert_string_equal(structure(f, quantize(f, "qsin", "", STEP_EVAL), "s1.weight"),
                        "-8..7 step:step qdq.clip(x, step)");
    assert_string_equal(structure(f, quantize(f, "qsin", "", STEP_EVAL), "s1.input"),
                        "-8..7 step:step qdq.clip(x, step)");
    assert_string_equal(structure(f, quantize(f, "lsq", "", STEP_TRAIN), "s1.input"), "-8..7 step:step qdq(x, step)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structures), fixture_test(test_grain),         fixture_test(test_infos),
        fixture_test(test_sharing),        fixture_test(test_shared_weight), fixture_test(test_weight_and_input),
        fixture_test(test_mixed),          fixture_test(test_given),         fixture_test(test_taken_names),
        fixture_test(test_twice),          fixture_test(test_schedules),     fixture_test(test_delay),
        fixture_test(test_freeze),         fixture_test(test_clamped),
    };
    return cmocka_run_group_tests_name("methods", tests, NULL, NULL);
}
