/* test_quantizers.c: what quantizers compute, against known answers: ranges and nudged zero points (Jacob et al. 2018),
 * LSQ (Esser et al. 2020) and LSQ+ (Bhalgat et al. 2020) with their gradients, the regularizers QSin (Solodskikh et al.
 * 2022) and MSQE, the masks of Quant-Noise (Fan et al. 2021).
 *
 * Each is a small graph that goes through all passes and runs on every backend: the interpreter, machine code for
 * vectors of 4, 8 and 16 floats, and the CUDA text on a simulated GPU. Gradients are those that autodiff makes. A
 * column of numbers is [n, 1] with a step, an offset for each row, so that every row's share of a sum is seen. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

#include <math.h>

/* ---- Backends ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int         width; /* of vectors; 0: no machine code */
    bool        sim;
} backends[] = {
    { "the interpreter", 0, false },
#ifdef DT_HAVE_LLVM
    { "vectors of 4", 4, false },    { "vectors of 8", 8, false }, { "vectors of 16", 16, false },
#endif
    { "the CUDA text", 0, true },
};

static CheckBackend backend_open(Fixture *f, int32_t i)
{
    CheckBackend b = { .arena = &f->a, .d = &f->d, .threads = 1 };
    if (backends[i].sim) {
        if (!check_backend_open_sim(&b, &f->a, &f->d))
            fail_msg("%s", fixture_said(f));
        return b;
    }
    b.lib = calllib_reference(&f->a);
    b.jit = backends[i].width == 0 ? jit_interp_new(&f->a)
                                   : jit_llvm_new(&f->a, &f->d, (JitOptions){ .vector_width = backends[i].width });
    if (b.jit == NULL)
        fail_msg("%s", fixture_said(f));
    return b;
}

/* ---- One graph --------------------------------------------------------------------------------------------------- */

typedef struct Given {
    const char   *name;
    const double *values;
} Given;

typedef struct Wanted {
    const char   *name;
    const double *values;
    double        factor; /* of what is found: 1 / the factor of LSQ's gradients */
} Wanted;

typedef struct Bench {
    Fixture     *f;
    CheckBackend b;
    const char  *by;
    CheckNet     net;
} Bench;

/* A graph with an output "loss" is differentiated. */
static Bench bench_open(Fixture *f, int32_t backend, const char *body)
{
    static const char train[] = "autodiff,decompose,simplify,layout,fuse,batch,schedule,plan-memory,lower";
    bool              trains = strstr(body, "\"loss\"") != NULL;
    CheckSetup        setup = { .step = trains ? STEP_TRAIN : STEP_EVAL, .passes = trains ? train : NULL };
    Bench             t = { .f = f, .b = backend_open(f, backend), .by = backends[backend].name };
    Graph            *g = fixture_graph(f, arena_printf(&f->a, "graph @net {\n%s}\n", body));
    if (!check_net_open(&t.net, &t.b, g, &setup))
        fail_msg("%s", fixture_said(f));
    return t;
}

static void bench_close(Bench *t)
{
    check_net_close(&t->net);
    check_backend_close(&t->b);
}

static const double *bench_read(Bench *t, const char *name)
{
    return check_net_read(&t->f->a, &t->net, name);
}

static void compare(const char *by, const char *name, int64_t i, double found, double wanted, double tolerance)
{
    if (!(fabs(found - wanted) <= tolerance * fmax(1, fabs(wanted))))
        fail_msg("%s[%d] is %.9g by %s, expected %.9g", name, (int)i, found, by, wanted);
}

/* Runs the graph on every backend. */
static void known_answers(Fixture *f, const char *body, const Given *in, int32_t n_in, const Wanted *out, int32_t n_out,
                          double tolerance)
{
    for (int32_t k = 0; k < DT_COUNT(backends); k++) {
        Bench t = bench_open(f, k, body);
        for (int32_t i = 0; i < n_in; i++)
            check_net_write(&t.net, in[i].name, in[i].values);
        check_net_run(&t.net);
        for (int32_t i = 0; i < n_out; i++) {
            const double *found = bench_read(&t, out[i].name);
            for (int64_t j = 0; j < check_net_elems(&t.net, out[i].name); j++)
                compare(t.by, out[i].name, j, found[j] * (out[i].factor != 0 ? out[i].factor : 1), out[i].values[j],
                        tolerance);
        }
        bench_close(&t);
    }
}
#define KNOWN(f, body, in, out, tolerance) known_answers(f, body, in, DT_COUNT(in), out, DT_COUNT(out), tolerance)

/* ---- Ranges ------------------------------------------------------------------------------------------------------ */

/* The range -0.37 to 1.21: its step, the code of the real 0, and the ends that follow. */
static void test_nudged_ranges(void **state)
{
    static const struct {
        int    lo, hi;
        double step, zero, min, max;
    } cases[] = { { 0, 255, 0.0061960784, 60, -0.3717647059, 1.2082352941 },
                  { 0, 15, 0.1053333333, 4, -0.4213333333, 1.1586666667 },
                  { 1, 255, 0.0062204724, 60, -0.3670078740, 1.2129921260 } };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(cases); i++) {
        const double min = -0.37, max = 1.21, wide[] = { -9, 9 }, ends[] = { cases[i].min, cases[i].max };
        const char  *codes = arena_printf(&f->a, "lo=%d, hi=%d", cases[i].lo, cases[i].hi);
        const char  *body = arena_printf(&f->a,
                                         "  %%0 = input \"min\" : f32[]\n  %%1 = input \"max\" : f32[]\n"
                                          "  %%2 = range_step %%0, %%1 {%s} : f32[]\n"
                                          "  %%3 = range_zero %%0, %%1 {%s} : f32[]\n"
                                          "  %%4 = input \"x\" : f32[2]\n"
                                          "  %%5 = qdq %%4, %%2, %%3 {%s, bits=8} : f32[2]\n"
                                          "  output %%2 \"step\"\n  output %%3 \"zero\"\n  output %%5 \"ends\"\n",
                                         codes, codes, codes);
        const Given  in[] = { { "min", &min }, { "max", &max }, { "x", wide } };
        const Wanted out[] = { { "step", &cases[i].step, 1 }, { "zero", &cases[i].zero, 1 }, { "ends", ends, 1 } };
        KNOWN(f, body, in, out, 1e-7);
    }
}

/* How the sums of one layer's codes become codes of the next: times both steps, over the next step, rounded once. With
 * M = 0.0123 0.0456 / 0.0789 rounding twice, as some fixed-point code does, would give 1 for 70 and 2 for 211. */
static void test_requantize_rounds_once(void **state)
{
    static const double acc[] = { 70, 71, 211, -211, 212, 123456 }, codes[] = { 0, 1, 1, -1, 2, 878 };
    static const double step_x = 0.0123, step_w = 0.0456, step_y = 0.0789;
    double              y[DT_COUNT(codes)];
    static const char   body[] =
        "  %0 = input \"acc\" : f32[6x1]\n  %1 = input \"sx\" : f32[]\n  %2 = input \"sw\" : f32[]\n"
        "  %3 = input \"sy\" : f32[]\n  %4 = mul %1, %2 : f32[]\n  %5 = mul %0, %4 : f32[6x1]\n"
        "  %6 = qdq %5, %3 {lo=-65536, hi=65535, bits=8} : f32[6x1]\n  output %6 \"y\"\n";
    for (int32_t i = 0; i < DT_COUNT(codes); i++)
        y[i] = codes[i] * step_y;
    const Given  in[] = { { "acc", acc }, { "sx", &step_x }, { "sw", &step_w }, { "sy", &step_y } };
    const Wanted out[] = { { "y", y, 1 } };
    KNOWN(*state, body, in, out, 1e-6);
}

/* A range keeps the real 0, whatever was seen; one of nothing has a step that can be divided by. */
static void test_ranges_of_one_side(void **state)
{
    static const double min[] = { 0.5, -3, 0, -2 }, max[] = { 1.5, -1, 0, 13 };
    static const double step[] = { 0.1, 0.2, 1e-8, 1 }, zero[] = { 0, 15, 0, 2 };
    static const char   body[] = "  %0 = input \"min\" : f32[4]\n  %1 = input \"max\" : f32[4]\n"
                                 "  %2 = range_step %0, %1 {lo=0, hi=15} : f32[4]\n"
                                 "  %3 = range_zero %0, %1 {lo=0, hi=15} : f32[4]\n"
                                 "  output %2 \"step\"\n  output %3 \"zero\"\n";
    const Given         in[] = { { "min", min }, { "max", max } };
    const Wanted        out[] = { { "step", step, 1 }, { "zero", zero, 1 } };
    KNOWN(*state, body, in, out, 1e-7);
}

/* ---- LSQ --------------------------------------------------------------------------------------------------------- */

/* Signed, 2 bits, step 1/2: value, mask of the gradient, and each element's share of the step's gradient. At t between
 * the largest code and half a step beyond it the share is +1; kernels that ask for the rounded code first have a
 * negative one. */
static void test_lsq(void **state)
{
    static const double x[] = { -2.0, -1.2, -0.8, 0.26, 0.45, 0.6, 0.9 };
    static const double steps[] = { 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5 }, ones[] = { 1, 1, 1, 1, 1, 1, 1 };
    static const double y[] = { -1, -1, -1, 0.5, 0.5, 0.5, 0.5 }, dx[] = { 0, 0, 1, 1, 1, 0, 0 };
    static const double ds[] = { -2, -2, -0.4, 0.48, 0.1, 1, 1 };
    static const char   body[] = "  %0 = param \"x\" : f32[7x1]\n  %1 = param \"s\" : f32[7]\n"
                                 "  %2 = qdq %0, %1 {lo=-2, hi=1, bits=2, axis=0} : f32[7x1]\n"
                                 "  %3 = input \"r\" : f32[7x1]\n  %4 = mul %2, %3 : f32[7x1]\n"
                                 "  %5 = reduce_sum %4 : f32[]\n  output %2 \"y\"\n  output %5 \"loss\"\n";
    const Given         in[] = { { "x", x }, { "s", steps }, { "r", ones } };
    const Wanted        out[] = { { "y", y, 1 }, { "grad:x", dx, 1 }, { "grad:s", ds, 1 } }; /* G = 1 / sqrt(1 * 1) */
    KNOWN(*state, body, in, out, 1e-6);
}

/* The same values with ends="code": the gradient passes half a step farther. round=false: clipped, not rounded. */
static void test_other_forms(void **state)
{
    static const double x[] = { -2.0, -1.2, -0.8, 0.26, 0.45, 0.6, 0.9 }, step = 0.5;
    static const double ones[] = { 1, 1, 1, 1, 1, 1, 1 }, kept[] = { 0, 1, 1, 1, 1, 1, 0 };
    static const double clipped[] = { -1, -1, -0.8, 0.26, 0.45, 0.5, 0.5 }, inside[] = { 0, 0, 1, 1, 1, 0, 0 };
    static const double ds = -2 * 2 + 1 * 2, count = 2, g = 0.37796447300922722; /* G = 1 / sqrt(7) */
    static const char   body[] = "  %0 = param \"x\" : f32[7x1]\n  %1 = param \"s\" : f32[]\n"
                                 "  %2 = qdq %0, %1 {lo=-2, hi=1, bits=2, round=false} : f32[7x1]\n"
                                 "  %3 = input \"r\" : f32[7x1]\n  %4 = mul %2, %3 : f32[7x1]\n"
                                 "  %5 = reduce_sum %4 : f32[]\n  output %2 \"y\"\n  output %5 \"loss\"\n"
                                 "  %6 = qdq_grad_x %0, %1, %3 {lo=-2, hi=1, ends=\"code\"} : f32[7x1]\n"
                                 "  %7 = count_clipped %0, %1 {lo=-2, hi=1} : f32[]\n"
                                 "  output %6 \"kept\"\n  output %7 \"count\"\n";
    const Given         in[] = { { "x", x }, { "s", &step }, { "r", ones } };
    const Wanted        out[] = { { "y", clipped, 1 },
                                  { "grad:x", inside, 1 },
                                  { "grad:s", &ds, 1 / g },
                                  { "kept", kept, 1 },
                                  { "count", &count, 1 } };
    KNOWN(*state, body, in, out, 1e-6);
}

/* ---- LSQ+ -------------------------------------------------------------------------------------------------------- */

#define ROWS6 "  %0 = param \"x\" : f32[6x1]\n  %1 = param \"s\" : f32[6]\n  %2 = param \"b\" : f32[6]\n"
#define LOSS6(y)                                                                                                       \
    "  %10 = input \"r\" : f32[6x1]\n  %11 = mul " y ", %10 : f32[6x1]\n  %12 = reduce_sum %11 : f32[]\n"              \
    "  output " y " \"y\"\n  output %12 \"loss\"\n"

/* An offset that is any number: x^ = s rint(clip((x - b) / s)) + b. */
static const char free_offset[] = ROWS6 "  %3 = sub %0, %2 {axis=0} : f32[6x1]\n"
                                        "  %4 = qdq %3, %1 {lo=0, hi=3, bits=2, axis=0} : f32[6x1]\n"
                                        "  %5 = add %4, %2 {axis=0} : f32[6x1]\n" LOSS6("%5");
/* One that is held to a whole number of steps. */
static const char   whole_offset[] = ROWS6 "  %3 = zero_point %2, %1 {lo=0, hi=3} : f32[6]\n"
                                           "  %4 = qdq %0, %1, %3 {lo=0, hi=3, bits=2, axis=0} : f32[6x1]\n" LOSS6("%4");

static const double ones6[] = { 1, 1, 1, 1, 1, 1 }, steps6[] = { 0.4, 0.4, 0.4, 0.4, 0.4, 0.4 };

/* Codes 0..3, s = 0.4, b = -0.3. */
static void test_lsq_plus(void **state)
{
    static const double x[] = { -0.6, -0.2, 0.0, 0.15, 0.8, 1.2 }, b[] = { -0.3, -0.3, -0.3, -0.3, -0.3, -0.3 };
    static const double y[] = { -0.3, -0.3, 0.1, 0.1, 0.9, 0.9 }, dx[] = { 0, 1, 1, 1, 1, 0 };
    static const double ds[] = { 0, -0.25, 0.25, -0.125, 0.25, 3 }, db[] = { 1, 0, 0, 0, 0, 1 };
    const Given         in[] = { { "x", x }, { "s", steps6 }, { "b", b }, { "r", ones6 } };
    const Wanted        out[] = {
        { "y", y, 1 }, { "grad:x", dx, 1 }, { "grad:s", ds, sqrt(3.0) }, { "grad:b", db, 1 }
    }; /* G = 1 / sqrt(1 * 3) */
    KNOWN(*state, free_offset, in, out, 1e-6);
}

/* With b a whole number of steps both forms are one: b = -0.4, the zero point 1. */
static void test_lsq_plus_forms_agree(void **state)
{
    static const double x[] = { -0.7, -0.3, 0.05, 0.15, 0.7, 1.1 }, b[] = { -0.4, -0.4, -0.4, -0.4, -0.4, -0.4 };
    static const double y[] = { -0.4, -0.4, 0, 0, 0.8, 0.8 }, dx[] = { 0, 1, 1, 1, 1, 0 };
    static const double ds[] = { 0, -0.25, -0.125, -0.375, 0.25, 3 }, db[] = { 1, 0, 0, 0, 0, 1 };
    const Given         in[] = { { "x", x }, { "s", steps6 }, { "b", b }, { "r", ones6 } };
    const double        g = sqrt(3.0);
    const Wanted        as_free[] = { { "y", y, 1 }, { "grad:x", dx, 1 }, { "grad:s", ds, g }, { "grad:b", db, 1 } };
    const Wanted        as_whole[] = { { "y", y, 1 }, { "grad:x", dx, 1 }, { "grad:s", ds, g }, { "grad:b", db, g } };
    KNOWN(*state, free_offset, in, as_free, 1e-6);
    KNOWN(*state, whole_offset, in, as_whole, 1e-6);
}

/* Where b is no whole number of steps its zero point is the nearest, ties to even, and clipped to the codes. */
static void test_zero_points(void **state)
{
    static const double b[] = { -0.3, -0.2, -0.6, -1.0, 0.7, -9 }, zero[] = { 1, 0, 2, 2, 0, 3 }; /* halves to even */
    static const char   body[] = "  %0 = input \"b\" : f32[6]\n  %1 = input \"s\" : f32[6]\n"
                                 "  %2 = zero_point %0, %1 {lo=0, hi=3} : f32[6]\n  output %2 \"zero\"\n";
    static const double s[] = { 0.4, 0.4, 0.4, 0.4, 0.4, 0.4 };
    const Given         in[] = { { "b", b }, { "s", s } };
    const Wanted        out[] = { { "zero", zero, 1 } };
    KNOWN(*state, body, in, out, 0);
}

/* ---- Regularizers ------------------------------------------------------------------------------------------------ */

#define PENALTY(op, form, in) op " " in " {form=\"" form "\", lo=-2, hi=1, axis=0, keep=\"o\"} : f32[5]\n"
#define SLOPE(form) "penalty_grad_x %0, %1, %2 {form=\"" form "\", lo=-2, hi=1, axis=0} : f32[5x1]\n"

/* Codes -2..1, s = 1/4. The slopes of MSQE are 2 e and -2 e k, e = x - s k. */
static void test_penalties(void **state)
{
    static const double x[] = { -0.9, -0.4, 0.1, 0.3, 0.7 }, s[] = { 0.25, 0.25, 0.25, 0.25, 0.25 }, g = 1;
    static const double phi[] = { 1.579137, 0.056532, 0.056532, 0.024674, 1.998595 };
    static const double dx[] = { -7.895684, 0.461645, 0.461645, 0.986960, 8.882644 };
    static const double ds[] = { -15.791367, 1.190887, 0.267596, -0.986960, -8.882644 };
    static const double msqe[] = { 0.16, 0.01, 0.01, 0.0025, 0.2025 };
    static const double msqe_dx[] = { -0.8, 0.2, 0.2, 0.1, 0.9 }, msqe_ds[] = { -1.6, 0.4, 0, -0.1, -0.9 };
    /* clang-format off */
    static const char body[] = "  %0 = input \"x\" : f32[5x1]\n  %1 = input \"s\" : f32[5]\n  %2 = input \"g\" : f32[]\n"
                               "  %3 = " PENALTY("penalty", "qsin", "%0, %1")
                               "  %4 = " SLOPE("qsin")
                               "  %5 = " PENALTY("penalty_grad_step", "qsin", "%0, %1, %2")
                               "  %6 = " PENALTY("penalty", "msqe", "%0, %1")
                               "  %7 = " SLOPE("msqe")
                               "  %8 = " PENALTY("penalty_grad_step", "msqe", "%0, %1, %2")
                               "  output %3 \"phi\"\n  output %4 \"dx\"\n  output %5 \"ds\"\n"
                               "  output %6 \"msqe\"\n  output %7 \"msqe_dx\"\n  output %8 \"msqe_ds\"\n";
    /* clang-format on */
    const Given  in[] = { { "x", x }, { "s", s }, { "g", &g } };
    const Wanted out[] = { { "phi", phi, 1 },   { "dx", dx, 1 },           { "ds", ds, 1 },
                           { "msqe", msqe, 1 }, { "msqe_dx", msqe_dx, 1 }, { "msqe_ds", msqe_ds, 1 } };
    KNOWN(*state, body, in, out, 1.5e-6);
}

/* Inside the range QSin lies between 4 and pi^2 times MSQE, outside it is pi^2 times MSQE; on the grid both are 0. */
static void test_penalties_bound_each_other(void **state)
{
    enum { N = 301 };
    static const char body[] = "  %0 = input \"x\" : f32[301x1]\n  %1 = input \"s\" : f32[]\n"
                               "  %2 = penalty %0, %1 {lo=-2, hi=1, keep=\"o\"} : f32[301]\n"
                               "  %3 = penalty %0, %1 {form=\"msqe\", lo=-2, hi=1, keep=\"o\"} : f32[301]\n"
                               "  output %2 \"qsin\"\n  output %3 \"msqe\"\n";
    Fixture          *f = *state;
    const double      s = 0.25;
    double            x[N];
    for (int i = 0; i < N; i++)
        x[i] = (i - 175) / 128.0; /* steps of 1/32 of a code, ends and codes among them */
    for (int32_t k = 0; k < DT_COUNT(backends); k++) {
        Bench t = bench_open(f, k, body);
        check_net_write(&t.net, "x", x);
        check_net_write(&t.net, "s", &s);
        check_net_run(&t.net);
        const double *qsin = bench_read(&t, "qsin"), *msqe = bench_read(&t, "msqe");
        for (int i = 0; i < N; i++) {
            bool inside = x[i] >= -0.5 && x[i] <= 0.25;
            assert_true(qsin[i] >= (inside ? 4 : M_PI * M_PI) * msqe[i] * (1 - 1e-6));
            assert_true(qsin[i] <= M_PI * M_PI * msqe[i] * (1 + 1e-6));
            assert_int_equal(qsin[i] == 0, inside && (i - 175) % 32 == 0);
        }
        bench_close(&t);
    }
}

/* ---- Quant-Noise ------------------------------------------------------------------------------------------------- */

enum { NOISE_STREAM = 77, NOISE_SEED = 123456, NOISE_STEP = 9 };

typedef struct Noise {
    const char *type;
    int64_t     n, block;
    double      p;
} Noise;

static const char *noise_body(Arena *a, const Noise *c)
{
    return arena_printf(a,
                        "  %%0 = input \"x\" : %s\n  %%1 = input \"q\" : %s\n  %%2 = input \"seed\" : u32[]\n"
                        "  %%3 = input \"step\" : u32[]\n"
                        "  %%4 = quant_noise %%0, %%1, %%2, %%3 {p=%g, stream=%d, block=%lld} : %s\n"
                        "  output %%4 \"y\"\n",
                        c->type, c->type, c->p, NOISE_STREAM, (long long)c->block, c->type);
}

/* Which side each element comes from is what plain C draws. */
static int64_t check_noise(Fixture *f, const Noise *c, int32_t backend, double step)
{
    Bench    t = bench_open(f, backend, noise_body(&f->a, c));
    double  *x = ARENA_ARRAY(&f->a, double, c->n), *q = ARENA_ARRAY(&f->a, double, c->n);
    uint32_t limit = (uint32_t)(c->p * 0x1p32);
    int64_t  taken = 0;
    for (int64_t i = 0; i < c->n; i++) {
        x[i] = (double)(i + 1);
        q[i] = -x[i];
    }
    check_net_write(&t.net, "x", x);
    check_net_write(&t.net, "q", q);
    check_net_write(&t.net, "seed", (double[]){ NOISE_SEED });
    check_net_write(&t.net, "step", &step);
    check_net_run(&t.net);
    const double *y = bench_read(&t, "y");
    for (int64_t i = 0; i < c->n; i++) {
        uint32_t draw = rng_u32(NOISE_SEED, NOISE_STREAM, (uint32_t)step, (uint64_t)(i / c->block));
        bool     noisy = c->p >= 1 || draw < limit;
        if (y[i] != (noisy ? q[i] : x[i]))
            fail_msg("%s, p = %g, blocks of %d: element %d is %g by %s, drawn was %u of %u", c->type, c->p,
                     (int)c->block, (int)i, y[i], t.by, draw, limit);
        taken += noisy;
    }
    bench_close(&t);
    return taken;
}

static void test_noise(void **state)
{
    static const Noise cases[] = { { "f32[5x3x3x3]", 135, 1, 0.3 }, { "f32[5x3x3x3]", 135, 9, 0.5 },
                                   { "f32[7x17]", 119, 4, 0.3 },    { "f32[7x17]", 119, 1, 0 },
                                   { "f32[5x3x3x3]", 135, 9, 1 },   { "f32[40x50]", 2000, 1, 0.3 } };
    Fixture           *f = *state;
    for (int i = 0; i < DT_COUNT(cases); i++)
        for (int32_t k = 0; k < DT_COUNT(backends); k++) {
            int64_t taken = check_noise(f, &cases[i], k, NOISE_STEP);
            if (cases[i].n == 2000) /* five standard deviations around 600 */
                assert_true(taken > 498 && taken < 702);
        }
}

/* Another step draws another mask; blocks of 9 are the windows of a 3x3 convolution: all of one side. */
static void test_noise_is_drawn_anew(void **state)
{
    static const Noise c = { "f32[5x3x3x3]", 135, 9, 0.5 };
    Fixture           *f = *state;
    int32_t            differ = 0;
    assert_int_equal(check_noise(f, &c, 0, 1) % 9, 0);
    for (uint32_t i = 0; i < 15; i++) {
        bool one = rng_u32(NOISE_SEED, NOISE_STREAM, 1, i) < 0x80000000u;
        bool two = rng_u32(NOISE_SEED, NOISE_STREAM, 2, i) < 0x80000000u;
        differ += one != two;
    }
    assert_int_equal(check_noise(f, &c, 0, 2) % 9, 0);
    assert_true(differ > 0);
}

/* The gradient of each element goes to the side that it was taken from, x's whole and q's through the clip. */
static void test_noise_gradient(void **state)
{
    enum { N = 135 };
    static const char body[] = "  %0 = param \"w\" : f32[5x3x3x3]\n  %1 = param \"s\" : f32[]\n"
                               "  %2 = input \"seed\" : u32[]\n  %3 = input \"step\" : u32[]\n"
                               "  %4 = qdq %0, %1 {lo=-1, hi=1, bits=2} : f32[5x3x3x3]\n"
                               "  %5 = quant_noise %0, %4, %2, %3 {p=0.5, stream=77} : f32[5x3x3x3]\n"
                               "  %6 = input \"r\" : f32[5x3x3x3]\n  %7 = mul %5, %6 : f32[5x3x3x3]\n"
                               "  %8 = reduce_sum %7 : f32[]\n  output %8 \"loss\"\n";
    double            w[N], r[N], dw[N], step = NOISE_STEP, seed = NOISE_SEED, s = 0.25, ds = 0;
    for (int i = 0; i < N; i++) {
        bool   noisy = rng_u32(NOISE_SEED, NOISE_STREAM, NOISE_STEP, (uint64_t)i) < 0x80000000u;
        double t = (i - 67) / 16.0; /* from -4 to 4 steps */
        w[i] = s * t;
        r[i] = 1 + i % 5;
        dw[i] = noisy && fabs(t) >= 1 ? 0 : r[i];
        ds += noisy ? r[i] * (t <= -1 ? -1 : t >= 1 ? 1 : rint(t) - t) : 0;
    }
    const Given  in[] = { { "w", w }, { "s", &s }, { "seed", &seed }, { "step", &step }, { "r", r } };
    const Wanted out[] = { { "grad:w", dw, 1 }, { "grad:s", &ds, sqrt((double)N) } };
    KNOWN(*state, body, in, out, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_nudged_ranges),
        fixture_test(test_requantize_rounds_once),
        fixture_test(test_ranges_of_one_side),
        fixture_test(test_lsq),
        fixture_test(test_other_forms),
        fixture_test(test_lsq_plus),
        fixture_test(test_lsq_plus_forms_agree),
        fixture_test(test_zero_points),
        fixture_test(test_penalties),
        fixture_test(test_penalties_bound_each_other),
        fixture_test(test_noise),
        fixture_test(test_noise_is_drawn_anew),
        fixture_test(test_noise_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
