/* algebra.c: identities that hold bit for bit in IEEE single precision, for every input - zeros of both signs,
 * infinities, NaN, denormals. Nothing else may be simplified: the step must compute the same numbers with and without a
 * pass.
 *
 *   holds                                         does not hold
 *   x 1 = x                                       x + 0 = x       (-0 + 0 is +0)
 *   x + (-0) = x, x - 0 = x                       x - x = 0       (infinities, NaN)
 *   relu(relu(x)) = relu(x), so relu6             x 0 = 0         (infinities, NaN, signs)
 *   (x a) b = x (a b) if a or b is 1 or -1, or    (x a) b = x (a b) in general: two roundings are not one
 *     both are powers of two that do not shrink
 *
 * A window of one element is no identity either: the mean of (-0) is 0 + (-0) = +0, the maximum of (NaN) is -inf.
 *
 * Tested by tests/unit/test_simplify.c. */
#include "passes/algebra.h"

#include <math.h>
#include <string.h>

static bool is_const(const Graph *g, ValueId id, float want)
{
    if (!ir_is(g, id, OP_CONST))
        return false;
    float have = (float)ir_float(ir_value(g, id), A_VALUE);
    return memcmp(&have, &want, sizeof have) == 0; /* 0 and -0 differ */
}

static bool same_type(const Graph *g, ValueId id, const Value *v)
{
    Type t = ir_value(g, id)->type;
    return t.dtype == v->type.dtype && t.layout == v->type.layout && shape_eq(t.shape, v->type.shape);
}

/* A rule says which input the value equals; VALUE_NONE: none that it knows of. */
typedef ValueId (*SameFn)(const Graph *g, const Value *v);

static ValueId same_view(const Graph *g, const Value *v)
{
    return same_type(g, v->in[0], v) ? v->in[0] : VALUE_NONE;
}

static ValueId same_dropout(const Graph *g, const Value *v)
{
    (void)g;
    return ir_float(v, A_P) == 0 ? v->in[0] : VALUE_NONE;
}

static ValueId same_scale(const Graph *g, const Value *v)
{
    (void)g;
    return (float)ir_float(v, A_SCALE) == 1.0f ? v->in[0] : VALUE_NONE;
}

/* A stride or a channel would change the shape. */
static ValueId same_shortcut(const Graph *g, const Value *v)
{
    return ir_int(v, A_STRIDE) == 1 ? same_view(g, v) : VALUE_NONE;
}

static ValueId same_again(const Graph *g, const Value *v)
{
    return ir_is(g, v->in[0], v->op) ? v->in[0] : VALUE_NONE;
}

static ValueId same_but_const(const Graph *g, const Value *v, int32_t x, float neutral)
{
    return is_const(g, v->in[1 - x], neutral) && same_type(g, v->in[x], v) ? v->in[x] : VALUE_NONE;
}

static ValueId same_add(const Graph *g, const Value *v)
{
    ValueId x = same_but_const(g, v, 0, -0.0f);
    return x != VALUE_NONE ? x : same_but_const(g, v, 1, -0.0f);
}

static ValueId same_sub(const Graph *g, const Value *v)
{
    return same_but_const(g, v, 0, 0.0f);
}

static ValueId same_mul(const Graph *g, const Value *v)
{
    ValueId x = same_but_const(g, v, 0, 1.0f);
    return x != VALUE_NONE ? x : same_but_const(g, v, 1, 1.0f);
}

static const SameFn same_rules[OP_COUNT] = {
    [OP_RESHAPE] = same_view, [OP_DROPOUT] = same_dropout, [OP_SCALE] = same_scale, [OP_SHORTCUT_A] = same_shortcut,
    [OP_RELU] = same_again,   [OP_RELU6] = same_again,     [OP_ADD] = same_add,     [OP_SUB] = same_sub,
    [OP_MUL] = same_mul,
};

ValueId algebra_same(const Graph *g, const Value *v)
{
    return same_rules[v->op] ? same_rules[v->op](g, v) : VALUE_NONE;
}

static bool grows_exactly(float f)
{
    int exponent;
    return fabsf(f) >= 1.0f && isfinite(f) && fabsf(frexpf(f, &exponent)) == 0.5f;
}

bool algebra_fold_scale(float a, float b, float *out)
{
    bool sign = fabsf(a) == 1.0f || fabsf(b) == 1.0f;
    *out = a * b;
    return sign || (grows_exactly(a) && grows_exactly(b) && isfinite(*out));
}
