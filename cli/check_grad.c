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
 * A quantizer is a staircase: its gradient is by decree that of a smooth function. Its row of ops.def names it, and the
 * closed forms are written here a second time, in double. Tested by tests/unit/test_check.c. */
#include "cli/check.h"

#include <math.h>
#include <string.h>

/* How the inputs of an op must lie so that differences make sense. */
typedef enum GradData {
    DATA_PLAIN,    /* anything in (-1, 1) */
    DATA_AWAY,     /* no closer to 0 than 1/4 */
    DATA_DISTINCT, /* no two closer than 4 h */
    DATA_POSITIVE, /* operand 2, a variance, in (1/2, 3/2) */
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
    [OP_REDUCE_SUM] = { 0.5, 1e-5, DATA_PLAIN, WHY_LINEAR },
    [OP_MUL] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_MSE] = { 0.5, 1e-5, DATA_PLAIN, WHY_BILINEAR },
    [OP_RELU] = { 0.125, 1e-5, DATA_AWAY, "linear as long as no input crosses 0: they keep 1/4 away" },
    [OP_MAXPOOL] = { 0.03125, 1e-5, DATA_DISTINCT, "linear as long as the largest of a window stays it: inputs are 4 h apart" },
    [OP_BATCHNORM] = { 0.0078125, 2e-3, DATA_POSITIVE, "1 / sqrt(var) curves: h^2 times the third derivative" },
    [OP_QDQ] = { 0, 1e-5, DATA_CODES, "closed form of the surrogate: x exactly, the sum over elements in single precision" },
    [OP_CROSS_ENTROPY] = { 0.015625, 1e-3, DATA_PLAIN, "softmax curves: h^2 times the third derivative" },
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

/* Codes from one below the lowest to one above the highest, 0.1 to 0.4 away from them: neither a rounding nor a clip
 * limit is near. */
static double grad_code(const Value *qdq, uint32_t tensor, int64_t i)
{
    double lo = (double)ir_int(qdq, A_LO), hi = (double)ir_int(qdq, A_HI);
    double u = (double)rng_uniform(1, GRAD_STREAM, tensor, (uint64_t)i), off = grad_number(tensor + 100, i);
    double code = lo - 1 + floor(u * (hi - lo + 3));
    return (code + (off < 0 ? -0.1 : 0.1) + 0.3 * off) * grad_step_size;
}

static void grad_fill(const GradRow *row, const Value *op, int32_t operand, double *x, int64_t n)
{
    uint32_t tensor = (uint32_t)operand;
    if (row->data == DATA_DISTINCT) {
        grad_fill_distinct(x, n, tensor, 4 * row->h);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        x[i] = grad_number(tensor, i);
        if (row->data == DATA_AWAY)
            x[i] += x[i] < 0 ? -0.25 : 0.25;
        if (row->data == DATA_POSITIVE && operand == 2)
            x[i] = 1 + x[i] / 2;
        if (row->data == DATA_CODES)
            x[i] = operand == 0 ? grad_code(op, tensor, i) : grad_step_size * (1 + 0.125 * (double)(i % 3));
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
        if (leaf->op != OP_PARAM && leaf->op != OP_INPUT)
            continue; /* statistics of x */
        int64_t n = shape_elems(leaf->type.shape);
        double *x = ARENA_ARRAY(&c->a, double, n);
        if (leaf->type.dtype == DTYPE_F32)
            grad_fill(c->row, c->op, i, x, n);
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

/* ---- Closed forms of surrogates ---------------------------------------------------------------------------------- */

/* LSQ: with t = x / step, dx = r where lo < t < hi, else 0, to the bit; dstep = G sum r d with d = lo, hi, or
 * rint(t) - t between, and G = 1 / sqrt(N hi), from 6 bits on 1 / (sqrt(N) hi); N: the elements of a weight, or of one
 * sample of an activation, that share the step size. */
static void grad_check_lsq(GradCheck *c, const Graph *g)
{
    GradParam *x = &c->params[0], *step = &c->params[1];
    Shape      s = ir_value(g, c->op->in[0])->type.shape;
    double     lo = (double)ir_int(c->op, A_LO), hi = (double)ir_int(c->op, A_HI);
    bool       act = str_eq(ir_text(c->op, A_ROLE), "act") && s.rank >= 2;
    int64_t    pixels = s.rank == 4 ? s.dim[2] * s.dim[3] : 1;
    double    *ds = ARENA_ARRAY(&c->a, double, step->n), *size = ARENA_ARRAY(&c->a, double, step->n);
    double     scale = 1 / sqrt((double)(x->n / step->n / (act ? s.dim[0] : 1)));
    scale /= ir_int(c->op, A_BITS) < 6 ? sqrt(hi) : hi;
    for (int64_t i = 0; i < x->n; i++) {
        int64_t k = step->n > 1 ? i / pixels % s.dim[1] : 0;
        double  t = x->x[i] / step->x[k];
        double  d = t <= lo ? lo : t >= hi ? hi : rint(t) - t;
        ds[k] += scale * c->r[i] * d;
        size[k] += fabs(scale * c->r[i]) * fmax(fabs(d), fabs(t));
        double inside = t > lo && t < hi ? c->r[i] : 0;
        grad_compare(c, x, i, x->grad[i] == inside ? inside : NAN, inside, 1, 0);
        if (x->grad[i] != inside)
            return;
    }
    for (int64_t k = 0; k < step->n; k++)
        grad_compare(c, step, k, step->grad[k], ds[k], fmax(size[k], 1e-20), 0);
}

static const struct {
    const char *name;
    void (*check)(GradCheck *c, const Graph *g);
} grad_surrogates[] = { { "clip", grad_check_lsq } };

static void grad_check_surrogate(GradCheck *c, const Graph *g, const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(grad_surrogates); i++)
        if (str_eq(grad_surrogates[i].name, name)) {
            grad_surrogates[i].check(c, g);
            return;
        }
    DT_UNREACHABLE("no closed form for the surrogate \"%s\" of %s", name, ir_ops[c->op->op].text);
}

/* ---- All --------------------------------------------------------------------------------------------------------- */

static void grad_check_all(GradCheck *c, const Graph *g)
{
    grad_set_operands(c, g);
    grad_set_weights(c);
    check_net_run(&c->net);
    for (int32_t i = 0; i < c->n_params; i++)
        c->params[i].grad = check_net_read(&c->a, &c->net, arena_printf(&c->a, "grad:%s", c->params[i].name));
    const char *surrogate = ir_ops[c->op->op].surrogate;
    if (surrogate != NULL) {
        grad_check_surrogate(c, g, surrogate);
        return;
    }
    for (int32_t i = 0; i < c->n_params; i++) {
        grad_check_elements(c, &c->params[i]);
        grad_check_directions(c, &c->params[i]);
    }
}

bool check_gradients(CheckBackend *b, const Graph *g, GradResult *out)
{
    static const CheckSetup setup = { .step = STEP_TRAIN,
                                      .passes =
                                          "autodiff,decompose,simplify,layout,fuse,batch,schedule,plan-memory,lower" };
    GradCheck c = { .a = arena_new("gradient check"), .op = ir_value(g, check_case_op(g)), .result = out };
    c.row = &grad_rows[c.op->op];
    *out = (GradResult){ .ok = true, .bound = c.row->bound, .where = "" };
    bool ran = check_net_open(&c.net, b, ir_graph_clone(b->arena, g), &setup);
    if (ran) {
        DT_ASSERT(c.row->why != NULL, "no row of the gradient check for %s", ir_ops[c.op->op].text);
        grad_check_all(&c, g);
        out->where = c.where.s != NULL ? arena_strdup(b->arena, c.where.s) : "";
        check_net_close(&c.net);
    }
    arena_free(&c.a);
    return ran;
}
