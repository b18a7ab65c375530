/* body_penalty.c: regularizers that draw values to the grid of a quantizer: phi(x; s) is 0 on the grid. One row a form:
 *
 *   qsin    s^2 sin^2(pi t) inside the range, pi^2 (x - s r)^2 outside it (r: the nearest end): twice differentiable
 *           everywhere, and between 4 and pi^2 times msqe (Solodskikh, Chikin et al., ECCV 2022)
 *   msqe    (x - s rint(clip(t)))^2: the squared error of quantization, whose slope jumps between two codes
 *   sinreq  s^2 sin^2(pi t) everywhere: blind to the ends of the range (SinReQ, Elthakeb et al. 2019)
 *
 * with t = x (1 / s). sin and cos of pi u for |u| <= 1/2 are polynomials, so every backend has the same bits.
 *
 * Tested by tests/unit/test_quantizers.c (answers of the papers, finite differences) and test_body.c. */
#include "ir/body_impl.h"

/* One element: x, its place in steps, the step; the ends as numbers. */
typedef struct Point {
    KVal x, t, step, lo, hi;
} Point;

typedef struct Form {
    const char *name;
    KVal (*phi)(const BodyCtx *c, const Point *p);
    KVal (*dx)(const BodyCtx *c, const Point *p);
    KVal (*dstep)(const BodyCtx *c, const Point *p);
} Form;

/* x k */
static KVal scaled(const BodyCtx *c, KVal x, double k)
{
    return op2(c, K_MUL, x, number(c, k));
}

/* ---- Sine -------------------------------------------------------------------------------------------------------- */

/* sum k[i] u2^i */
static KVal polynomial(const BodyCtx *c, KVal u2, const double *k, int32_t n)
{
    KVal sum = number(c, k[n - 1]);
    for (int32_t i = n - 2; i >= 0; i--)
        sum = fma3(c, sum, u2, number(c, k[i]));
    return sum;
}

/* sin(pi u): Taylor's series up to u^11; its rest at u = 1/2 is 6e-8. */
static KVal sin_pi(const BodyCtx *c, KVal u)
{
    static const double k[] = { M_PI,
                                -5.16771278004997003,
                                2.55016403987734544,
                                -0.599264529320792077,
                                0.0821458866111282288,
                                -0.00737043094571435077 };
    KVal                sum = polynomial(c, op2(c, K_MUL, u, u), k, DT_COUNT(k));
    return op2(c, K_MUL, u, sum);
}

/* cos(pi u): up to u^12. */
static KVal cos_pi(const BodyCtx *c, KVal u)
{
    static const double k[] = { 1,
                                -4.93480220054467931,
                                4.05871212641676822,
                                -1.33526276885458946,
                                0.235330630358893205,
                                -0.0258068913900140601,
                                0.00192957430940392305 };
    return polynomial(c, op2(c, K_MUL, u, u), k, DT_COUNT(k));
}

/* t - rint(t), in [-1/2, 1/2] */
static KVal fraction(const BodyCtx *c, KVal t)
{
    return op2(c, K_SUB, t, kb_op1(c->b, K_RINT, t));
}

/* sin^2(pi t) */
static KVal sine_squared(const BodyCtx *c, KVal t)
{
    KVal s = sin_pi(c, fraction(c, t));
    return op2(c, K_MUL, s, s);
}

/* sin(2 pi t) = 2 sin(pi u) cos(pi u) */
static KVal sine_twice(const BodyCtx *c, KVal t)
{
    KVal u = fraction(c, t);
    KVal s = sin_pi(c, u), k = cos_pi(c, u);
    KVal half = op2(c, K_MUL, s, k);
    return op2(c, K_ADD, half, half);
}

/* ---- Forms ------------------------------------------------------------------------------------------------------- */

/* clip(t, lo, hi) */
static KVal nearest_end(const BodyCtx *c, const Point *p)
{
    KVal t = op2(c, K_MAX, p->t, p->lo);
    return op2(c, K_MIN, t, p->hi);
}

static KVal is_inside(const BodyCtx *c, const Point *p)
{
    KVal above = op2(c, K_GE, p->t, p->lo);
    KVal below = op2(c, K_LE, p->t, p->hi);
    return op2(c, K_AND, above, below);
}

/* t - r: how far outside, in steps */
static KVal beyond(const BodyCtx *c, const Point *p)
{
    return op2(c, K_SUB, p->t, nearest_end(c, p));
}

/* s^2 f(t), f = sin^2(pi t) inside, pi^2 (t - r)^2 outside */
static KVal qsin_phi(const BodyCtx *c, const Point *p)
{
    KVal d = beyond(c, p);
    KVal outside = scaled(c, op2(c, K_MUL, d, d), M_PI * M_PI);
    KVal inside = sine_squared(c, p->t);
    KVal f = choose(c, is_inside(c, p), inside, outside);
    KVal squared = op2(c, K_MUL, p->step, p->step);
    return op2(c, K_MUL, squared, f);
}

/* s f'(t), f' = pi sin(2 pi t) inside, 2 pi^2 (t - r) outside */
static KVal qsin_dx(const BodyCtx *c, const Point *p)
{
    KVal inside = scaled(c, sine_twice(c, p->t), M_PI);
    KVal outside = scaled(c, beyond(c, p), 2 * M_PI * M_PI);
    return op2(c, K_MUL, p->step, choose(c, is_inside(c, p), inside, outside));
}

/* s^2 sin^2(pi t) */
static KVal sinreq_phi(const BodyCtx *c, const Point *p)
{
    KVal squared = op2(c, K_MUL, p->step, p->step);
    return op2(c, K_MUL, squared, sine_squared(c, p->t));
}

static KVal sinreq_dx(const BodyCtx *c, const Point *p)
{
    return op2(c, K_MUL, p->step, scaled(c, sine_twice(c, p->t), M_PI));
}

/* 2 s sin^2(pi t) - pi x sin(2 pi t) */
static KVal sinreq_dstep(const BodyCtx *c, const Point *p)
{
    KVal twice_step = op2(c, K_ADD, p->step, p->step);
    KVal first = op2(c, K_MUL, twice_step, sine_squared(c, p->t));
    KVal factor = scaled(c, p->x, M_PI);
    KVal second = op2(c, K_MUL, factor, sine_twice(c, p->t));
    return op2(c, K_SUB, first, second);
}

/* As sinreq inside, -2 pi^2 r s (t - r) outside. */
static KVal qsin_dstep(const BodyCtx *c, const Point *p)
{
    KVal inside = sinreq_dstep(c, p);
    KVal far = scaled(c, op2(c, K_MUL, beyond(c, p), p->step), -2 * M_PI * M_PI);
    KVal outside = op2(c, K_MUL, far, nearest_end(c, p));
    return choose(c, is_inside(c, p), inside, outside);
}

static KVal code(const BodyCtx *c, const Point *p)
{
    return kb_op1(c->b, K_RINT, nearest_end(c, p));
}

/* x - s k */
static KVal rounding_error(const BodyCtx *c, const Point *p)
{
    KVal k = code(c, p);
    return fma3(c, kb_op1(c->b, K_NEG, k), p->step, p->x);
}

static KVal msqe_phi(const BodyCtx *c, const Point *p)
{
    KVal e = rounding_error(c, p);
    return op2(c, K_MUL, e, e);
}

static KVal msqe_dx(const BodyCtx *c, const Point *p)
{
    KVal e = rounding_error(c, p);
    return op2(c, K_ADD, e, e);
}

static KVal msqe_dstep(const BodyCtx *c, const Point *p)
{
    KVal twice = scaled(c, rounding_error(c, p), -2);
    return op2(c, K_MUL, twice, code(c, p));
}

static const Form forms[] = {
    { "qsin", qsin_phi, qsin_dx, qsin_dstep },
    { "msqe", msqe_phi, msqe_dx, msqe_dstep },
    { "sinreq", sinreq_phi, sinreq_dx, sinreq_dstep },
};

/* ---- Bodies ------------------------------------------------------------------------------------------------------ */

bool ir_is_penalty(const char *form)
{
    for (int32_t i = 0; i < DT_COUNT(forms); i++)
        if (str_eq(forms[i].name, form))
            return true;
    return false;
}

static const Form *form_of(const BodyCtx *c)
{
    for (int32_t i = 0; i < DT_COUNT(forms); i++)
        if (str_eq(forms[i].name, ir_text(self(c), A_FORM)))
            return &forms[i];
    DT_UNREACHABLE("penalty of the form \"%s\"", ir_text(self(c), A_FORM));
}

static Point point(const BodyCtx *c, const KVal *in)
{
    KVal inverse = op2(c, K_DIV, number(c, 1), in[1]);
    return (Point){ .x = in[0],
                    .t = op2(c, K_MUL, in[0], inverse),
                    .step = in[1],
                    .lo = number(c, (double)ir_int(self(c), A_LO)),
                    .hi = number(c, (double)ir_int(self(c), A_HI)) };
}

int32_t body_penalty(BodyCtx *c, const KVal *in, KVal out[2])
{
    Point p = point(c, in);
    return one(out, form_of(c)->phi(c, &p));
}

/* (scale g) d phi / dx */
int32_t body_penalty_grad_x(BodyCtx *c, const KVal *in, KVal out[2])
{
    Point p = point(c, in);
    KVal  factor = times(c, in[2], attr_f32(c, A_SCALE));
    return one(out, op2(c, K_MUL, factor, form_of(c)->dx(c, &p)));
}

int32_t body_penalty_grad_step(BodyCtx *c, const KVal *in, KVal out[2])
{
    Point p = point(c, in);
    return one(out, op2(c, K_MUL, in[2], form_of(c)->dstep(c, &p)));
}
