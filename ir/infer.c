/* infer.c: the type of an op's result from its inputs and attributes; one rule for each infer_* in ops.def.
 *
 * The same rules run when a value is made (a mistake in a network is reported at the user's line) and in the verifier
 * (a mistake of a pass). Inference knows logical shapes alone: results are in LAYOUT_ROWS until the layout pass says
 * otherwise. Layers are in infer_layers.c, losses in infer_loss.c.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/infer_impl.h"

/* ---- Leaves and effects ---------------------------------------------------------------------------------------- */

bool infer_leaf(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule        r = RULE;
    const char *fault = ir_type_fault(&d->arena, v->type);
    if (fault)
        return fail(&r, "\"%s\" is no valid type: %s", v->name ? v->name : "", fault);
    *out = v->type;
    return true;
}

bool infer_scalar(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    return result(&RULE, scalar_type(DTYPE_F32));
}

bool infer_assign(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule   r = RULE;
    OpCode target = ir_value(g, v->in[0])->op;
    if (target != OP_PARAM && target != OP_STATE)
        return fail(&r, "the target is %s, expected a param or a state", ir_value_text(&d->arena, g, v->in[0]));
    Type leaf = in_type(&r, 0), value = in_type(&r, 1);
    if (leaf.dtype != value.dtype || !shape_eq(leaf.shape, value.shape))
        return fail(&r, "the value %s is %s, expected %s as in %s", ir_value_text(&d->arena, g, v->in[1]),
                    type_name(&r, value), type_name(&r, leaf), ir_value_text(&d->arena, g, v->in[0]));
    *out = leaf;
    return true;
}

bool infer_output(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    (void)d, (void)at;
    *out = ir_value(g, v->in[0])->type;
    return true;
}

/* ---- Element-wise ---------------------------------------------------------------------------------------------- */

static const char *operand_name(const Rule *r, int32_t i)
{
    if (r->v->n_in == 2)
        return i == 0 ? "lhs" : "rhs";
    return arena_printf(&r->d->arena, "operand %d", i + 1);
}

static bool shapes_differ(const Rule *r, int32_t i, int32_t j)
{
    int32_t first = i < j ? i : j, second = i < j ? j : i;
    Shape   small = in_type(r, i).shape, large = in_type(r, j).shape;
    int64_t axis = axis_of(r->v);
    Arena  *a = &r->d->arena;
    bool    vector = small.rank == 1 && large.rank >= 2 && axis < large.rank;
    fail(r, "shapes differ: %s %s, %s %s%s", operand_name(r, first), shape_name(r, in_type(r, first).shape),
         operand_name(r, second), shape_name(r, in_type(r, second).shape),
         vector ? arena_printf(a, " (a vector along dimension %d needs length %lld)", (int)axis,
                               (long long)large.dim[axis])
                : "");
    note_operand(r, first, operand_name(r, first));
    note_operand(r, second, operand_name(r, second));
    return false;
}

/* Codes of an op that has them: at least two. */
static bool want_codes(const Rule *r)
{
    const Value *v = r->v;
    if (ir_attr_index(v->op, A_LO) < 0 || ir_int(v, A_LO) < ir_int(v, A_HI))
        return true;
    return fail(r, "codes %lld to %lld, expected lo below hi", (long long)ir_int(v, A_LO), (long long)ir_int(v, A_HI));
}

bool infer_eltwise(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int32_t largest = 0;
    if (!want_codes(&r))
        return false;
    for (int32_t i = 0; i < v->n_in; i++) {
        Type t = in_type(&r, i);
        if (t.dtype != DTYPE_F32)
            return fail(&r, "%s is %s, expected f32", operand_name(&r, i), type_name(&r, t));
        Shape best = in_type(&r, largest).shape;
        if (t.shape.rank > best.rank || (t.shape.rank == best.rank && shape_elems(t.shape) > shape_elems(best)))
            largest = i;
    }
    for (int32_t i = 0; i < v->n_in; i++) {
        if (!broadcasts(in_type(&r, i).shape, in_type(&r, largest).shape, axis_of(v)))
            return shapes_differ(&r, i, largest);
    }
    return result(&r, in_type(&r, largest));
}

/* Operands after the first, of ops whose result is like the first, and of sums over the first. '=': of the same type;
 * 'b': repeated to it; 's': an f32 scalar; 'u': a u32 scalar. */
static const struct {
    const char *name;
    char        how;
} rest_rules[OP_COUNT][5] = {
    [OP_DROPOUT] = { { "seed", 'u' }, { "step", 'u' } },
    [OP_QDQ] = { { "step", 'b' }, { "zero", 'b' } },
    [OP_QDQ_GRAD_X] = { { "step", 'b' }, { "g", '=' }, { "zero", 'b' } },
    [OP_LSQ_GRAD_STEP] = { { "step", 'b' }, { "g", '=' }, { "zero", 'b' } },
    [OP_LSQ_GRAD_OFFSET] = { { "step", 'b' }, { "g", '=' }, { "zero", 'b' } },
    [OP_COUNT_CLIPPED] = { { "step", 'b' }, { "zero", 'b' } },
    [OP_PENALTY] = { { "step", 'b' } },
    [OP_PENALTY_GRAD_X] = { { "step", 'b' }, { "g", 's' } },
    [OP_PENALTY_GRAD_STEP] = { { "step", 'b' }, { "g", 's' } },
    [OP_RELU_GRAD] = { { "g", '=' } },
    [OP_RELU6_GRAD] = { { "g", '=' } },
    [OP_LEAKY_RELU_GRAD] = { { "g", '=' } },
    [OP_SIGMOID_GRAD] = { { "g", '=' } },
    [OP_SILU_GRAD] = { { "g", '=' } },
    [OP_HARD_SIGMOID_GRAD] = { { "g", '=' } },
    [OP_HARD_SWISH_GRAD] = { { "g", '=' } },
    [OP_L1_GRAD] = { { "target", '=' }, { "g", 's' } },
    [OP_CHARBONNIER_GRAD] = { { "target", '=' }, { "g", 's' } },
    [OP_ASYMMETRIC_GRAD] = { { "target", '=' }, { "g", 's' } },
    [OP_SGD_VELOCITY] = { { "g", '=' }, { "p", '=' } },
    [OP_SGD_STEP] = { { "g", '=' }, { "v", '=' }, { "lr", 's' } },
    [OP_DECAYED] = { { "p", '=' } },
    [OP_SQUARE_EMA] = { { "now", '=' } },
    [OP_ADAM_STEP] = { { "m", '=' }, { "v", '=' }, { "rate", 's' }, { "root", 's' }, { "lr", 's' } },
    [OP_RMS_GRAD] = { { "v", '=' } },
    [OP_ADADELTA] = { { "v", '=' }, { "d", '=' } },
    [OP_TOTAL] = { { "an operand", 's' } }, /* all of them */
    [OP_LERP] = { { "now", '=' }, { "rate", 's' } },
};

static bool want_rest(const Rule *r, Type x)
{
    const Value *v = r->v;
    for (int32_t i = 1; i < v->n_in; i++) {
        int32_t     rule = v->op == OP_TOTAL ? 0 : i - 1;
        const char *name = rest_rules[v->op][rule].name;
        bool        ok = false;
        switch (rest_rules[v->op][rule].how) {
        case '=':
            ok = want_type(r, i, name, x, "the type of the first operand");
            break;
        case 'b':
            ok = want_step(r, i, name, x.shape);
            break;
        case 's':
            ok = want_type(r, i, name, scalar_type(DTYPE_F32), "a scalar");
            break;
        case 'u':
            ok = want_type(r, i, name, scalar_type(DTYPE_U32), "a scalar");
            break;
        default:
            DT_UNREACHABLE("operand %d of %s has no rule", i, ir_ops[v->op].text);
        }
        if (!ok)
            return false;
    }
    return true;
}

bool infer_same(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type x = in_type(&r, 0);
    if (v->op == OP_RELAYOUT) { /* any elements; the one op whose layout is its meaning */
        *out = x;
        if (x.shape.rank == 4)
            out->layout = x.layout == LAYOUT_NHWC ? LAYOUT_ROWS : LAYOUT_NHWC;
        return true;
    }
    if (x.dtype != DTYPE_F32)
        return fail(&r, "the input is %s, expected f32", type_name(&r, x));
    if (!want_rest(&r, x) || !want_codes(&r))
        return false;
    if (v->op == OP_DROPOUT && !(ir_float(v, A_P) < 1))
        return fail(&r, "p is %g, expected a probability below 1: nothing would be left", ir_float(v, A_P));
    if (v->op == OP_TOTAL && x.shape.rank > 0)
        return fail(&r, "the first operand is %s, expected a scalar", type_name(&r, x));
    if (v->op == OP_ADAM_STEP && v->n_in < 6 && ir_float(v, A_DECAY) != 0)
        return fail(&r, "decay is %g, expected lr as a sixth operand", ir_float(v, A_DECAY));
    return result(&r, x);
}

/* ---- The rest of the network ----------------------------------------------------------------------------------- */

bool infer_batchnorm(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    static const char *const names[] = { "x", "mean", "var", "gamma", "beta" };
    Rule                     r = RULE;
    if (!want_channels(&r, 0, "x"))
        return false;
    for (int32_t i = 1; i < v->n_in; i++) {
        if (!want_type(&r, i, names[i], vector_type(in_dim(&r, 0, 1)), "one number for each channel of x"))
            return false;
    }
    return result(&r, in_type(&r, 0));
}

bool infer_gap(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_image(&r, 0, "x") && result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), 1, 1));
}

/* [n, channels, h, w], or [n, channels] for h = 0. */
static bool target_type(const Rule *r, DType dtype, int64_t n, Type *t)
{
    int64_t c = ir_int(r->v, A_CHANNELS), h = ir_int(r->v, A_H), w = ir_int(r->v, A_W);
    if ((h == 0) != (w == 0))
        return fail(r, "h is %lld and w is %lld, expected both or neither to be 0", (long long)h, (long long)w);
    *t = h == 0 ? matrix_type(dtype, n, c) : make_type(dtype, 4, n, c, h, w);
    const char *fault = ir_type_fault(&r->d->arena, *t);
    return fault ? fail(r, "the result is no valid type: %s", fault) : true;
}

bool infer_reshape(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type x = in_type(&r, 0), t;
    if (x.shape.rank < 1)
        return fail(&r, "the input is a scalar, expected a batch");
    if (!target_type(&r, x.dtype, x.shape.dim[0], &t))
        return false;
    if (shape_elems(x.shape) != shape_elems(t.shape))
        return fail(&r, "%s has %lld elements, %s has %lld", shape_name(&r, x.shape), (long long)shape_elems(x.shape),
                    shape_name(&r, t.shape), (long long)shape_elems(t.shape));
    return result(&r, t);
}

bool infer_broadcast(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    Type    x = in_type(&r, 0), t;
    int64_t rows = x.shape.rank >= 2 ? x.shape.dim[0] : ir_int(v, A_COUNT);
    if (x.dtype != DTYPE_F32)
        return fail(&r, "x is %s, expected f32", type_name(&r, x));
    if (rows < 1)
        return fail(&r, "x is %s and has no rows: count must say how many", type_name(&r, x));
    if (!target_type(&r, DTYPE_F32, rows, &t))
        return false;
    if (!broadcasts(x.shape, t.shape, axis_of(v)))
        return fail(&r, "%s cannot be repeated to %s", shape_name(&r, x.shape), shape_name(&r, t.shape));
    return result(&r, t);
}

bool infer_shortcut(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t stride = ir_int(v, A_STRIDE), channels = ir_int(v, A_CHANNELS);
    if (!want_image(&r, 0, "x"))
        return false;
    if (channels < in_dim(&r, 0, 1))
        return fail(&r, "channels is %lld, expected at least the %lld of x", (long long)channels,
                    (long long)in_dim(&r, 0, 1));
    return result(&r, image_type(in_dim(&r, 0, 0), channels, dt_ceil_div(in_dim(&r, 0, 2), stride),
                                 dt_ceil_div(in_dim(&r, 0, 3), stride)));
}

bool infer_shortcut_grad(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t stride = ir_int(v, A_STRIDE), h = ir_int(v, A_H), w = ir_int(v, A_W), channels = ir_int(v, A_CHANNELS);
    if (!want_image(&r, 0, "g"))
        return false;
    int64_t n = in_dim(&r, 0, 0), k = in_dim(&r, 0, 1);
    Type    image = image_type(n, k, dt_ceil_div(h, stride), dt_ceil_div(w, stride));
    if (!want_type(&r, 0, "g", image, "what shortcut_a gives"))
        return false;
    if (channels > k)
        return fail(&r, "channels is %lld, expected at most the %lld of g", (long long)channels, (long long)k);
    return result(&r, image_type(n, channels, h, w));
}

/* ---- Reductions ------------------------------------------------------------------------------------------------ */

/* What is left of x when all but the kept dimensions are summed. */
static bool kept_type(const Rule *r, Shape x, const char *keep)
{
    if (keep[0] == 0)
        return result(r, scalar_type(DTYPE_F32));
    if (x.rank < 2)
        return fail(r, "keep is \"%s\", but %s has no such dimension", keep, shape_name(r, x));
    if (str_eq(keep, "c"))
        return result(r, vector_type(x.dim[1]));
    if (str_eq(keep, "o"))
        return result(r, vector_type(x.dim[0]));
    if (str_eq(keep, "n"))
        return result(r, matrix_type(DTYPE_F32, x.dim[0], 1));
    return result(r, x.rank == 2 ? matrix_type(DTYPE_F32, x.dim[0], x.dim[1]) : image_type(x.dim[0], x.dim[1], 1, 1));
}

bool infer_reduce(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type x = in_type(&r, 0);
    if (x.dtype != DTYPE_F32)
        return fail(&r, "x is %s, expected f32", type_name(&r, x));
    if (v->n_in == 2 && !want_type(&r, 1, "y", x, "the type of x"))
        return false;
    return kept_type(&r, x.shape, ir_text(v, A_KEEP));
}

bool infer_grid_reduce(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type x = in_type(&r, 0);
    if (x.dtype != DTYPE_F32)
        return fail(&r, "x is %s, expected f32", type_name(&r, x));
    return want_rest(&r, x) && want_codes(&r) && kept_type(&r, x.shape, ir_text(v, A_KEEP));
}

/* x or q may be a scalar: the gradient of one side is 0 where the other was taken. */
bool infer_quant_noise(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    static const char *const names[] = { "x", "q" };
    Rule                     r = RULE;
    Type                     x = in_type(&r, 0).shape.rank > 0 ? in_type(&r, 0) : in_type(&r, 1);
    for (int32_t i = 0; i < 2; i++)
        if (in_type(&r, i).dtype != DTYPE_F32 || in_type(&r, i).shape.rank > 0)
            if (!want_type(&r, i, names[i], x, "the type of the other"))
                return false;
    Type scalar = scalar_type(DTYPE_U32);
    return want_type(&r, 2, "seed", scalar, "a scalar") && want_type(&r, 3, "step", scalar, "a scalar") &&
           result(&r, x);
}

static bool want_vector(const Rule *r)
{
    Type x = in_type(r, 0);
    return (x.dtype == DTYPE_F32 && x.shape.rank == 1) || fail(r, "x is %s, expected f32[G]", type_name(r, x));
}

bool infer_repeat(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t n;
    if (!want_vector(&r))
        return false;
    if (!dt_mul64(in_dim(&r, 0, 0), ir_int(v, A_COUNT), &n) || n > DT_MAX_DIM)
        return fail(&r, "%lld numbers %lld times are too many", (long long)in_dim(&r, 0, 0),
                    (long long)ir_int(v, A_COUNT));
    return result(&r, vector_type(n));
}

bool infer_repeat_grad(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t count = ir_int(v, A_COUNT);
    if (!want_vector(&r))
        return false;
    if (in_dim(&r, 0, 0) % count != 0)
        return fail(&r, "x has %lld numbers, which is no multiple of %lld", (long long)in_dim(&r, 0, 0),
                    (long long)count);
    return result(&r, vector_type(in_dim(&r, 0, 0) / count));
}

bool infer_bn_stat(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_channels(&r, 0, "x"))
        return false;
    Type each = vector_type(in_dim(&r, 0, 1));
    return want_type(&r, 1, "shift", each, "one number for each channel of x") && result(&r, each);
}

bool infer_bn_dgamma(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_channels(&r, 0, "dy") || !want_type(&r, 1, "x", in_type(&r, 0), "the type of dy"))
        return false;
    Type each = vector_type(in_dim(&r, 0, 1));
    return want_type(&r, 2, "mean", each, "one number for each channel of x") && result(&r, each);
}
