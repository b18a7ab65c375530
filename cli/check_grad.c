/* check_grad.c: gradients against what they are the gradients of.
 *
 * The step computes loss = sum out r and, by autodiff and all passes behind it, the gradient g of the loss. Forward
 * alone gives it a second time: for a direction v, sum (out(x + h v) - out(x - h v)) r / 2h, added up in double.
 * Directions are single elements, and for each param all elements at once, forward and backward in turn. Inputs are
 * multiples of 2^-10 and h is a power of two, so x +- h is exact and what is left is known:
 *
 *   - the curvature that a central difference does not see: `bound` of the op's row, relative to the gradient's size;
 *   - the rounding of out: 2^-21 |out r| / h for every element of out that moved (a few roundings of 2^-24 each).
 *
 * A quantizer is a staircase: its gradient is by decree that of a smooth function, which its row of ops.def names. For
 * it, and for regularizers, whose sums would hide an element in single precision, the gradient is written here a second
 * time, in double. Tested by tests/unit/test_check.c. */
#include "cli/check.h"

#include <math.h>
#include <string.h>

/* How the inputs of an op must lie so that differences make sense. */
typedef enum GradData {
    DATA_PLAIN,    /* anything in (-1, 1) */
    DATA_AWAY,     /* no closer to 0 than 1/4 */
    DATA_KNOTS,    /* eight times as far apart, no closer than 1/4 to -3, 0, 3 or 6 */
    DATA_APART,    /* operand 0 at least 1.5 from operand 1, which is no closer to 0 than 1/4 */
    DATA_DISTINCT, /* no two closer than 4 h */
    DATA_POSITIVE, /* operand 2, a variance, in (1/2, 3/2) */
    DATA_SCALE,    /* the same of operand 1 */
    DATA_CODES     /* x / step well inside the flat parts of a staircase, some beyond its ends */
} GradData;

typedef struct GradRow {
    double      h, bound;
    GradData    data;
    const char *why; /* of the bound */
} GradRow;

#define WHY_LINEAR "linear: a difference is exact, single precision is left"
#define WHY_BILINEAR "at most quadratic in a direction: a central difference is exact"
/* clang-format off */
static const GradRow grad_rows[OP_COUNT] = {
    [OP_CONV2D] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_LINEAR] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_ADD] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_SUB] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_SCALE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_AVGPOOL] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_GLOBAL_AVGPOOL] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_RESHAPE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_DROPOUT] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_SHORTCUT_A] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_CONV_TRANSPOSE2D] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_CONCAT] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_SLICE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_PAD_IMAGE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_UPSAMPLE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_REDUCE_SUM] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_MUL] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_MSE] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_TV] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_L1] = { 0.125, 1e-5, DATA_APART, "linear as long as x stays on its side of the target" },
    [OP_CHARBONNIER] = { 0.125, 1e-3, DATA_APART, "far from the target it curves little: h^2 eps / d^4" },
    [OP_ASYMMETRIC] = { 0.125, 1e-5, DATA_APART, "quadratic as long as x stays on its side of the target, and that on its side of 0" },
    [OP_RELU] = { 0.125, 1e-5, DATA_AWAY, "linear as long as no input crosses 0: they keep 1/4 away" },
    [OP_LEAKY_RELU] = { 0.125, 1e-5, DATA_AWAY, "linear as long as no input crosses 0: they keep 1/4 away" },
    [OP_RELU6] = { 0.125, 1e-5, DATA_KNOTS, "linear between knots, of which inputs keep 1/4 away" },
    [OP_HARD_SIGMOID] = { 0.125, 1e-5, DATA_KNOTS, "linear between knots, of which inputs keep 1/4 away" },
    [OP_HARD_SWISH] = { 0.125, 1e-5, DATA_KNOTS, "quadratic between knots, of which inputs keep 1/4 away" },
    [OP_SIGMOID] = { 0.015625, 1e-3, DATA_PLAIN, "it curves: h^2 times the third derivative" },
    [OP_SILU] = { 0.015625, 1e-3, DATA_PLAIN, "it curves: h^2 times the third derivative" },
    [OP_MAXPOOL] = { 0.03125, 1e-5, DATA_DISTINCT, "linear as long as the largest of a window stays it: inputs are 4 h apart" },
    [OP_BN_MEAN] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_BN_VAR] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_BN_SHIFT] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_AFFINE] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_BN_SCALE] = { 0.0078125, 2e-3, DATA_SCALE, "1 / sqrt(var) curves: h^2 times the third derivative" },
    [OP_BATCHNORM] = { 0.0078125, 2e-3, DATA_POSITIVE, "1 / sqrt(var) curves: h^2 times the third derivative" },
    [OP_QUANT_NOISE] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_REPEAT] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_QDQ] = { 0, 1e-5, DATA_CODES, "closed form of the surrogate: x exactly, the sum over elements in single precision" },
    [OP_PENALTY] = { 0, 1e-5, DATA_CODES, "differences of phi in double; the kernel's are sums in single precision" },
    [OP_GRAD_SCALE] = { 0, 1e-6, DATA_PLAIN, "one product in single precision" },
    [OP_CROSS_ENTROPY] = { 0.015625, 1e-3, DATA_PLAIN, "softmax curves: h^2 times the third derivative" },
    [OP_DISTILL] = { 0.0625, 2e-3, DATA_PLAIN, "softmax curves: h^2 times the third derivative; its terms cancel, so h is wide" },
};
/* clang-format on */

const char *check_grad_why(OpCode op)
{
    return grad_rows[op].why != NULL ? grad_rows[op].why : "";
}

/* ---- Numbers to look at ------------------------------------------------------------------------------------------ */

enum { GRAD_STREAM = 0x67726164, GRAD_GRID = 1024, GRAD_MAX_PARAMS = 5, GRAD_MOST_ELEMENTS = 48 };
static const double grad_step_size = 0.4375; /* of quantizers: no power of two */

/* A multiple of 2^-10 in (-1, 1), by its place alone. */
static double grad_number(uint32_t tensor, int64_t i)
{
    double u = (double)rng_uniform(1, GRAD_STREAM, tensor, (uint64_t)i);
    return (floor(u * 2 * GRAD_GRID) + 0.5 - GRAD_GRID) / GRAD_GRID;
}

static void grad_fill_distinct(double *x, int64_t n, uint32_t tensor, double gap)
{
    Arena     a = arena_new("permutation");
    uint32_t *at = ARENA_ARRAY(&a, uint32_t, n);
    rng_permutation(1, GRAD_STREAM, tensor, at, (uint32_t)n);
    for (int64_t i = 0; i < n; i++)
        x[i] = gap * ((double)at[i] - (double)(n / 2));
    arena_free(&a);
}

static double grad_between_knots(double x)
{
    for (double knot = -3; knot <= 6; knot += 3)
        if (fabs(x - knot) < 0.25)
            x = knot + (x < knot ? -0.25 : 0.25);
    return x;
}

/* Steps and zero points of a quantizer's channels. */
static double grad_step_of(int64_t channel)
{
    return grad_step_size * (1 + 0.125 * (double)(channel % 3));
}
static double grad_zero_of(const Value *q, int64_t channel)
{
    int64_t lo = ir_int(q, A_LO), hi = ir_int(q, A_HI);
    return q->op == OP_QDQ && q->n_in == 3 ? (double)(lo + (hi - lo) / 3 + channel % 2) : 0;
}

/* Which number of a step, zero point or offset of shape `each` belongs to element i of x. */
static int64_t grad_channel(const Graph *g, const Value *q, Shape each, int64_t i)
{
    Shape   s = ir_value(g, q->in[0])->type.shape;
    int64_t axis = ir_int(q, A_AXIS), inner = 1;
    if (each.rank == 0)
        return 0;
    for (int32_t d = s.rank - 1; d > axis; d--)
        inner *= s.dim[d];
    return i / inner % s.dim[axis];
}

static Shape grad_shape_of(const Graph *g, const Value *q, int32_t operand)
{
    return operand < q->n_in ? ir_value(g, q->in[operand])->type.shape : shape_of(0, NULL);
}

/* Codes from one below the lowest to one above the highest, 0.1 to 0.4 away from them: neither a rounding nor a clip
 * limit is near. */
static double grad_code(const Graph *g, const Value *q, uint32_t tensor, int64_t i)
{
    double lo = (double)ir_int(q, A_LO), hi = (double)ir_int(q, A_HI);
    double u = (double)rng_uniform(1, GRAD_STREAM, tensor, (uint64_t)i), off = grad_number(tensor + 100, i);
    double t = lo - 1 + floor(u * (hi - lo + 3)) + (off < 0 ? -0.1 : 0.1) + 0.3 * off;
    t -= grad_zero_of(q, grad_channel(g, q, grad_shape_of(g, q, 2), i));
    return t * grad_step_of(grad_channel(g, q, grad_shape_of(g, q, 1), i));
}

/* Operand 2 of a quantizer: zero points, or offsets that are rounded to them. */
static double grad_zero_operand(const Graph *g, const Value *q, int64_t i)
{
    int64_t channel = grad_shape_of(g, q, 1).rank == 0 ? 0 : i;
    bool    offset = ir_is(g, q->in[2], OP_ZERO_POINT);
    return offset ? -(grad_zero_of(q, i) + 0.2) * grad_step_of(channel) : grad_zero_of(q, i);
}

static double grad_codes_operand(const Graph *g, const Value *op, int32_t operand, int64_t i)
{
    return operand == 0   ? grad_code(g, op, (uint32_t)operand, i)
           : operand == 1 ? grad_step_of(i)
                          : grad_zero_operand(g, op, i);
}

static void grad_fill(const GradRow *row, const Graph *g, const Value *op, int32_t operand, double *x, int64_t n)
{
    uint32_t tensor = (uint32_t)operand;
    if (row->data == DATA_DISTINCT) {
        grad_fill_distinct(x, n, tensor, 4 * row->h);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] = grad_number(tensor, i);
        if (row->data == DATA_AWAY || (row->data == DATA_APART && operand == 1))
            x[i] += x[i] < 0 ? -0.25 : 0.25;
        if (row->data == DATA_APART && operand == 0)
            x[i] += x[i] < 0 ? -3 : 3;
        if (row->data == DATA_KNOTS)
            x[i] = grad_between_knots(8 * x[i]);
        if ((row->data == DATA_POSITIVE && operand == 2) || (row->data == DATA_SCALE && operand == 1))
            x[i] = 1 + x[i] / 2;
        if (row->data == DATA_CODES)
            x[i] = (double)(float)grad_codes_operand(g, op, operand, i);
    }
}

/* ---- One check --------------------------------------------------------------------------------------------------- */

typedef struct GradParam {
    const char *name; /* "x0" */
    int64_t     n;
    double     *x, *grad, *moved;
} GradParam;

typedef struct GradCheck {
    Arena          a;
    CheckNet       net;
    const GradRow *row;
    const Value   *op; /* of the case before passes */
    GradParam      params[GRAD_MAX_PARAMS];
    int32_t        n_params;
    double        *r; /* of the shape of out: rows added up */
    int64_t        n_out;
    Str            where;
    GradResult    *result;
} GradCheck;

/* Labels stay below the classes of the logits in front of them; seeds and steps are what they are. */
static void grad_fill_integers(const Graph *g, const Value *op, int32_t operand, double *x, int64_t n)
{
    Shape   first = ir_value(g, op->in[0])->type.shape;
    int64_t below = first.rank == 2 ? first.dim[1] : 1000;
    for (int64_t i = 0; i < n; i++)
        x[i] = floor(below * (double)rng_uniform(1, GRAD_STREAM, (uint32_t)operand, (uint64_t)i));
}

static void grad_set_input(GradCheck *c, const char *name, const double *x)
{
    check_net_write(&c->net, name, x);
}

static void grad_set_operands(GradCheck *c, const Graph *g)
{
    for (int32_t i = 0; i < c->op->n_in; i++) {
        const Value *leaf = ir_value(g, c->op->in[i]);
        if (leaf->op == OP_ZERO_POINT)
            leaf = ir_value(g, leaf->in[0]);
        if (leaf->op != OP_PARAM && leaf->op != OP_INPUT)
            continue; /* statistics of x */
        int64_t n = shape_elems(leaf->type.shape);
        double *x = ARENA_ARRAY(&c->a, double, n);
        if (leaf->type.dtype == DTYPE_F32)
            grad_fill(c->row, g, c->op, i, x, n);
        else
            grad_fill_integers(g, c->op, i, x, n);
        grad_set_input(c, leaf->name, x);
        if (leaf->op == OP_PARAM)
            c->params[c->n_params++] =
                (GradParam){ leaf->name, n, x, NULL, arena_copy(&c->a, x, sizeof(double) * (size_t)n) };
    }
    if (ir_find(g, "shift") != VALUE_NONE) { /* an old mean: near the data, not equal to it */
        int64_t n = check_net_elems(&c->net, "shift");
        double *x = ARENA_ARRAY(&c->a, double, n);
        for (int64_t i = 0; i < n; i++)
            x[i] = 0.5 * grad_number(50, i);
        grad_set_input(c, "shift", x);
    }
}

static void grad_set_weights(GradCheck *c)
{
    int64_t n = check_net_elems(&c->net, "r");
    double *r = ARENA_ARRAY(&c->a, double, n);
    c->n_out = check_net_elems(&c->net, "out");
    c->r = ARENA_ARRAY(&c->a, double, c->n_out);
    for (int64_t i = 0; i < n; i++) {
        r[i] = grad_number(60, i);
        c->r[i % c->n_out] += r[i];
    }
    grad_set_input(c, "r", r);
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------- */

static void grad_compare(GradCheck *c, const GradParam *p, int64_t i, double found, double expected, double size,
                         double noise)
{
    GradResult *out = c->result;
    double      error = fabs(found - expected) / size;
    bool        bad = !(error <= c->row->bound + noise / size); /* a NaN is bad */
    out->compared++;
    if (out->ok && (bad || error >= out->worst)) {
        Str where = str_new(&c->a);
        str_printf(&where, i < 0 ? "%s in direction %lld" : "%s[%lld]", p->name, (long long)(i < 0 ? -i : i));
        str_printf(&where, ": %.9g, expected %.9g", found, expected);
        c->where = where;
        out->worst = error;
    }
    out->ok = out->ok && !bad;
}

/* The slope of sum out r along x += h v (v[i] in {-1, 0, 1}), and how uncertain it is. */
static double grad_slope(GradCheck *c, GradParam *p, const int8_t *v, double *noise)
{
    double  h = c->row->h, sum = 0, moved = 0;
    double *out[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < p->n; i++)
            p->moved[i] = p->x[i] + (side ? h : -h) * v[i];
        check_net_write(&c->net, p->name, p->moved);
        check_net_run(&c->net);
        out[side] = check_net_read(&c->a, &c->net, "out");
    }
    check_net_write(&c->net, p->name, p->x);
    for (int64_t j = 0; j < c->n_out; j++) {
        sum += (out[1][j] - out[0][j]) * c->r[j];
        if (out[1][j] != out[0][j])
            moved += (fabs(out[1][j]) + fabs(out[0][j])) * fabs(c->r[j]);
    }
    *noise = moved * 0x1p-22 / h;
    return sum / (2 * h);
}

static double grad_rms(const double *g, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += g[i] * g[i];
    return sqrt(sum / (double)n);
}

static void grad_check_elements(GradCheck *c, GradParam *p)
{
    int64_t stride = dt_max64(1, p->n / GRAD_MOST_ELEMENTS);
    double  rms = grad_rms(p->grad, p->n);
    int8_t *v = ARENA_ARRAY(&c->a, int8_t, p->n);
    for (int64_t i = 0; i < p->n; i += stride) {
        double noise, slope;
        v[i] = 1;
        slope = grad_slope(c, p, v, &noise);
        v[i] = 0;
        grad_compare(c, p, i, p->grad[i], slope, fmax(fmax(fabs(slope), rms), 1e-20), noise);
    }
}

/* All elements at once: none is left out. */
static void grad_check_directions(GradCheck *c, GradParam *p)
{
    int8_t *v = ARENA_ARRAY(&c->a, int8_t, p->n);
    for (int64_t k = 1; k <= 2; k++) {
        double found = 0, size = 1e-20, noise;
        for (int64_t i = 0; i < p->n; i++) {
            v[i] = grad_number(70 + (uint32_t)k, i) < 0 ? -1 : 1;
            found += v[i] * p->grad[i];
            size += fabs(p->grad[i]);
        }
        double slope = grad_slope(c, p, v, &noise);
        grad_compare(c, p, -k, found, slope, size, noise);
    }
}

/* ---- Closed forms ------------------------------------------------------------------------------------------------ */

/* The sum behind a step or an offset, term by term, and how large its terms are. */
typedef struct GradSum {
    GradParam *p;
    Shape      shape;
    double    *sum, *size;
} GradSum;

static GradSum grad_sum(GradCheck *c, const Graph *g, int32_t operand)
{
    GradSum s = { .shape = grad_shape_of(g, c->op, operand) };
    int64_t n = shape_elems(s.shape);
    if (operand < c->n_params)
        s.p = &c->params[operand];
    s.sum = ARENA_ARRAY(&c->a, double, n);
    s.size = ARENA_ARRAY(&c->a, double, n);
    return s;
}

static void grad_sum_compare(GradCheck *c, const GradSum *s)
{
    for (int64_t k = 0; s->p != NULL && k < s->p->n; k++)
        grad_compare(c, s->p, k, s->p->grad[k], s->sum[k], fmax(s->size[k], 1e-20), 0);
}

/* G = 1 / sqrt(N hi), from 6 bits on 1 / (sqrt(N) hi); N: the elements of a weight, or of one sample of an activation,
 * that share the number. */
static double grad_lsq_scale(const GradCheck *c, const Graph *g, Shape each)
{
    Shape  s = ir_value(g, c->op->in[0])->type.shape;
    bool   act = str_eq(ir_text(c->op, A_ROLE), "act") && s.rank >= 2;
    double n = (double)(shape_elems(s) / shape_elems(each) / (act ? s.dim[0] : 1)), hi = (double)ir_int(c->op, A_HI);
    return 1 / sqrt(n) / (ir_int(c->op, A_BITS) < 6 ? sqrt(hi) : hi);
}

/* With t = x / step, and codes less the zero point: dx = r where lo < t < hi (where the code is not clipped, with
 * ends="code"), else 0, to the bit. LSQ: dstep = G sum r d with d = lo, hi, and rint(t) - t between (0 where nothing is
 * rounded). LSQ+: doffset = G sum r where t is clipped. */
static void grad_check_clip(GradCheck *c, const Graph *g)
{
    GradParam *x = &c->params[0];
    GradSum    step = grad_sum(c, g, 1), offset = grad_sum(c, g, 2);
    double     lo = (double)ir_int(c->op, A_LO), hi = (double)ir_int(c->op, A_HI);
    double     gs = grad_lsq_scale(c, g, step.shape), go = grad_lsq_scale(c, g, offset.shape);
    bool       code = str_eq(ir_text(c->op, A_ENDS), "code"), round = ir_int(c->op, A_ROUND);
    for (int64_t i = 0; i < x->n; i++) {
        int64_t k = grad_channel(g, c->op, step.shape, i), j = grad_channel(g, c->op, offset.shape, i);
        double  t = x->x[i] / grad_step_of(k), at = t + grad_zero_of(c->op, j);
        bool    clipped = at <= lo || at >= hi, stops = code ? rint(at) < lo || rint(at) > hi : clipped;
        double  d = at <= lo ? lo : at >= hi ? hi : round ? rint(t) - t : 0, inside = stops ? 0 : c->r[i];
        step.sum[k] += gs * c->r[i] * d;
        step.size[k] += fabs(gs * c->r[i]) * fmax(fabs(d), fabs(t));
        offset.sum[j] += clipped ? go * c->r[i] : 0;
        offset.size[j] += fabs(go * c->r[i]);
        grad_compare(c, x, i, x->grad[i] == inside ? inside : NAN, inside, 1, 0);
        if (x->grad[i] != inside)
            return;
    }
    grad_sum_compare(c, &step);
    grad_sum_compare(c, &offset);
}

/* phi(x; s) of the form, in double: between two codes it is smooth. */
static double grad_phi(const Value *op, double x, double s)
{
    double lo = (double)ir_int(op, A_LO), hi = (double)ir_int(op, A_HI), t = x / s, end = fmin(fmax(t, lo), hi);
    if (str_eq(ir_text(op, A_FORM), "msqe"))
        return (x - s * rint(end)) * (x - s * rint(end));
    if (t != end && !str_eq(ir_text(op, A_FORM), "sinreq"))
        return M_PI * M_PI * (x - s * end) * (x - s * end);
    return s * s * sin(M_PI * t) * sin(M_PI * t);
}

/* dx and dstep of scale r sum phi by differences. A kernel's t is off by 2^-22 t at most, and sin(2 pi t) by 2 pi times
 * that, which is more than the bound where codes are large: their gradient counts as so much larger. */
static void grad_check_penalty(GradCheck *c, const Graph *g)
{
    const Value *op = c->op;
    const double factor = ir_float(op, A_SCALE) * c->r[0], off = 2 * M_PI * M_PI * 0x1p-22 / c->row->bound;
    GradParam   *x = &c->params[0];
    GradSum      step = grad_sum(c, g, 1);
    double       rms = fmax(grad_rms(x->grad, x->n), 1e-20);
    for (int64_t i = 0; i < x->n; i++) {
        int64_t k = grad_channel(g, op, step.shape, i);
        double  at = x->x[i], s = grad_step_of(k), noise = off * fabs(factor * at);
        double  h = 1e-5 * s, hs = h / fmax(1, fabs(at / s)); /* t moves by a hundred thousandth */
        double  dx = factor * (grad_phi(op, at + h, s) - grad_phi(op, at - h, s)) / (2 * h);
        double  ds = factor * (grad_phi(op, at, s + hs) - grad_phi(op, at, s - hs)) / (2 * hs);
        grad_compare(c, x, i, x->grad[i], dx, fmax(fabs(dx), rms) + noise, 0);
        step.sum[k] += ds;
        step.size[k] += fabs(ds) + noise * fabs(at / s);
    }
    grad_sum_compare(c, &step);
}

static void grad_check_factor(GradCheck *c, const Graph *g)
{
    GradParam *x = &c->params[0];
    (void)g;
    for (int64_t i = 0; i < x->n; i++) {
        double dx = ir_float(c->op, A_SCALE) * c->r[i];
        grad_compare(c, x, i, x->grad[i], dx, fmax(fabs(dx), 1e-20), 0);
    }
}

/* Ops whose gradient is compared with a form of its own; all others with differences of the op itself. */
typedef void (*GradClosed)(GradCheck *c, const Graph *g);
static const GradClosed grad_closed[OP_COUNT] = {
    [OP_QDQ] = grad_check_clip,
    [OP_PENALTY] = grad_check_penalty,
    [OP_GRAD_SCALE] = grad_check_factor,
};

/* ---- All --------------------------------------------------------------------------------------------------------- */

static void grad_check_all(GradCheck *c, const Graph *g)
{
    grad_set_operands(c, g);
    grad_set_weights(c);
    check_net_run(&c->net);
    for (int32_t i = 0; i < c->n_params; i++)
        c->params[i].grad = check_net_read(&c->a, &c->net, arena_printf(&c->a, "grad:%s", c->params[i].name));
    if (grad_closed[c->op->op] != NULL) {
        grad_closed[c->op->op](c, g);
        return;
    }
    for (int32_t i = 0; i < c->n_params; i++) {
        grad_check_elements(c, &c->params[i]);
        grad_check_directions(c, &c->params[i]);
    }
}

bool check_gradients(CheckBackend *b, const Graph *g, GradResult *out)
{
    static const CheckSetup setup = {
        .step = STEP_TRAIN,
        .passes = "autodiff,decompose,depthwise,simplify,layout,fuse,batch,schedule,plan-memory,lower"
    };
    GradCheck c = { .a = arena_new("gradient check"), .op = ir_value(g, check_case_op(g)), .result = out };
    c.row = &grad_rows[c.op->op];
    *out = (GradResult){ .ok = true, .bound = c.row->bound, .where = "" };
    bool ran = check_net_open(&c.net, b, ir_graph_clone(b->arena, g), &setup);
    if (ran) {
        DT_ASSERT(c.row->why != NULL, "no row of the gradient check for %s", ir_ops[c.op->op].text);
        DT_ASSERT(grad_closed[c.op->op] != NULL || ir_ops[c.op->op].surrogate == NULL,
                  "no closed form for the surrogate \"%s\" of %s", ir_ops[c.op->op].surrogate, ir_ops[c.op->op].text);
        grad_check_all(&c, g);
        out->where = c.where.s != NULL ? arena_strdup(b->arena, c.where.s) : "";
        check_net_close(&c.net);
    }
    arena_free(&c.a);
    return ran;
}
