/* test_parity.c: the same numbers as PyTorch, from files under tests/reference (PyTorch itself is not needed here; the
 * scripts beside the files made them).
 *
 * losses.json: ten steps of float ResNet-20, from Detent's own first weights on generated batches. Same weights to the
 * bit, losses within 1e-4 (the reference's own float32 and float64 runs lie 4e-6 apart), statistics and params after
 * the last step as well. lsq.json: the LSQ quantizer: codes equal, gradients as autograd has them. */
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define REFERENCE DT_SOURCE_DIR "/tests/reference/"

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *read_reference(const char *name)
{
    json_error_t e;
    char         path[512];
    snprintf(path, sizeof(path), REFERENCE "%s", name);
    json_t *root = json_load_file(path, 0, &e);
    if (root == NULL)
        fail_msg("%s:%d: %s", path, e.line, e.text);
    return root;
}

static json_t *member(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL)
        fail_msg("no \"%s\"", key);
    return v;
}

static double number(const json_t *object, const char *key)
{
    json_t *v = member(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static int64_t whole(const json_t *object, const char *key)
{
    return (int64_t)number(object, key);
}

static float *floats(Arena *a, const json_t *object, const char *key, int64_t *n)
{
    json_t *list = member(object, key);
    float  *out = ARENA_ARRAY(a, float, json_array_size(list));
    *n = (int64_t)json_array_size(list);
    for (int64_t i = 0; i < *n; i++)
        out[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    return out;
}

/* ---- A network's training
 * -------------------------------------------------------------------------------------------- */

typedef struct Net {
    Session       s;
    LoadedProgram train;
} Net;

static void net_open(Net *n, const json_t *ref, const char *backend)
{
    n->s = (Session){ .arena = arena_new("parity"), .diag = diag_new(stderr), .out = stderr };
    Arena  *a = &n->s.arena;
    StrList rest = { 0 };
    char   *argv[] = {
        arena_printf(a, "--backend=%s", backend),
        arena_printf(a, "--batch=%lld", (long long)whole(ref, "batch")),
        arena_printf(a, "--seed=%lld", (long long)whole(ref, "seed")),
        arena_printf(a, "--momentum=%.17g", number(ref, "momentum")),
        arena_printf(a, "--weight-decay=%.17g", number(ref, "weight_decay")),
        arena_strdup(a, "--cache=off"),
        arena_strdup(a, "--threads=2"),
    };
    assert_true(cli_parse(a, &n->s.diag, ~0u, DT_COUNT(argv), argv, &n->s.opt, &rest));
    const DtModel *model = frontend_find(a, &n->s.diag, json_string_value(member(ref, "net")));
    assert_non_null(model);
    assert_true(session_open(&n->s, model));
    n->train = session_load(&n->s, STEP_TRAIN);
    assert_non_null(n->train.program);
    assert_true(program_init(&n->s.diag, n->train, n->s.opt.seed));
}

static const ProgTensor *net_tensor(const Net *n, const char *name)
{
    const ProgTensor *t = program_tensor(n->train.program, name);
    if (t == NULL)
        fail_msg("the program has no tensor \"%s\"", name);
    return t;
}

static void net_write(Net *n, const char *name, const void *nchw)
{
    tensor_write(n->train.exec, n->train.index, net_tensor(n, name), nchw);
}

static float *net_read(Net *n, const char *name)
{
    const ProgTensor *t = net_tensor(n, name);
    float            *out = ARENA_ARRAY(&n->s.arena, float, t->elems);
    tensor_read(n->train.exec, n->train.index, t, out);
    return out;
}

/* Batch k, as make_losses.py has it. */
static void net_batch(Net *n, uint32_t k)
{
    int64_t  pixels = net_tensor(n, "image")->elems, labels = net_tensor(n, "label")->elems;
    float   *image = ARENA_ARRAY(&n->s.arena, float, pixels);
    int32_t *label = ARENA_ARRAY(&n->s.arena, int32_t, labels);
    for (int64_t i = 0; i < pixels; i++)
        image[i] = rng_normal(n->s.opt.seed, 1, k, (uint64_t)i);
    for (int64_t i = 0; i < labels; i++)
        label[i] = (int32_t)(rng_u32(n->s.opt.seed, 2, k, (uint64_t)i) % (uint32_t)n->s.model->classes);
    net_write(n, "image", image);
    net_write(n, "label", label);
}

/* First elements of tensors against { name: [values] }. */
static void check_tensors(Net *n, const json_t *expected, double tolerance)
{
    const char *name;
    json_t     *values;
    json_object_foreach((json_t *)expected, name, values)
    {
        const float *got = net_read(n, name);
        for (size_t i = 0; i < json_array_size(values); i++) {
            double want = json_number_value(json_array_get(values, i));
            if (!(fabs((double)got[i] - want) <= tolerance * fmax(1, fabs(want))))
                fail_msg("%s[%zu] is %.9g, expected %.9g", name, i, (double)got[i], want);
        }
    }
}

static void check_losses(const char *backend)
{
    json_t *ref = read_reference("losses.json"), *losses = member(ref, "losses"), *correct = member(ref, "correct");
    Net     n;
    net_open(&n, ref, backend);
    check_tensors(&n, member(ref, "first_weights"), 1e-7);
    float lr = (float)number(ref, "lr");
    net_write(&n, "lr", &lr);
    assert_int_equal(json_array_size(losses), 10);
    for (uint32_t k = 0; k < json_array_size(losses); k++) {
        net_batch(&n, k);
        assert_true(exec_run(n.train.exec, n.train.index));
        double got = (double)net_read(&n, "loss")[0], want = json_number_value(json_array_get(losses, k));
        if (!(fabs(got - want) <= 1e-4))
            fail_msg("step %u on %s: loss %.7f, PyTorch has %.7f", k, backend, got, want);
        assert_int_equal((int)net_read(&n, "correct")[0], json_integer_value(json_array_get(correct, k)));
    }
    check_tensors(&n, member(ref, "after"), 1e-5);
    session_close(&n.s);
    json_decref(ref);
}

static void test_losses_of_resnet20(void **state)
{
    (void)state;
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    check_losses("cpu");
#else
    check_losses("interp"); /* the same numbers, later */
#endif
}

/* ---- The quantizer ----------------------------------------------------------------------------------------------- */

enum { IN_X, IN_STEP, IN_G, IN_COUNT };

/* One case: inputs, what autograd said, what Detent's program gave. */
typedef struct LsqCase {
    const char *name;
    int64_t     n, lo, hi, bits;
    double      scale, dstep, dstep_abs;
    float       step, *x, *g, *dx;
    json_t     *codes;
} LsqCase;

static LsqCase lsq_case(Arena *a, const json_t *j)
{
    LsqCase c = { .name = json_string_value(member(j, "name")),
                  .lo = whole(j, "lo"),
                  .hi = whole(j, "hi"),
                  .bits = whole(j, "bits"),
                  .scale = number(j, "scale"),
                  .dstep = number(j, "dstep"),
                  .dstep_abs = number(j, "dstep_abs"),
                  .step = (float)number(j, "step"),
                  .codes = member(j, "codes") };
    int64_t n_g, n_dx;
    c.x = floats(a, j, "x", &c.n);
    c.g = floats(a, j, "g", &n_g);
    c.dx = floats(a, j, "dx", &n_dx);
    assert_true(c.n > 0 && n_g == c.n && n_dx == c.n && (int64_t)json_array_size(c.codes) == c.n);
    return c;
}

/* qdq and its two gradients of one input: what insert-quantize and autodiff make of an LSQ quantizer. */
static Graph *lsq_graph(Arena *a, Diag *d, const LsqCase *c)
{
    Graph  *g = ir_graph_new(a, "lsq.eval");
    Builder b = { .g = g, .d = d, .by = "test", .like = VALUE_NONE };
    Type    row = { .dtype = DTYPE_F32, .shape = shape_of(2, (const int64_t[]){ 1, c->n }), .layout = LAYOUT_ROWS };
    Type    scalar = { .dtype = DTYPE_F32, .shape = shape_of(0, NULL), .layout = LAYOUT_ROWS };
    ValueId x = ir_leaf(&b, OP_INPUT, "x", row, NULL, 0), step = ir_leaf(&b, OP_INPUT, "step", scalar, NULL, 0),
            dy = ir_leaf(&b, OP_INPUT, "g", row, NULL, 0);
    ir_output(&b, ir_emit(&b, OP_QDQ, IR_IN(x, step), AI(LO, c->lo), AI(HI, c->hi), AI(BITS, c->bits)), "y");
    ir_output(&b, ir_emit(&b, OP_QDQ_GRAD_X, IR_IN(x, step, dy), AI(LO, c->lo), AI(HI, c->hi)), "dx");
    ir_output(&b, ir_emit(&b, OP_LSQ_GRAD_STEP, IR_IN(x, step, dy), AI(LO, c->lo), AI(HI, c->hi), AF(SCALE, c->scale)),
              "dstep");
    return g;
}

static Program *lsq_program(Arena *a, Diag *d, Graph *g, KernelJit *jit, CallLib *lib)
{
    static const Target target = { .name = "cpu", .image_layout = LAYOUT_NHWC, .align_bytes = 64 };
    Recipe              recipe = { .method = "float" };
    OptimizerConfig     sgd = { .momentum = 0.9 };
    PassOptions         opt = { 0 };
    StrList             none = { 0 };
    Arena               scratch = arena_new("pass");
    bool                stopped = false;
    assert_true(opts_parse(a, d, pass_option_defs, pass_n_option_defs, 0, NULL, &opt, &none));
    PassCtx  c = { .scratch = &scratch,
                   .d = d,
                   .step = STEP_EVAL,
                   .recipe = &recipe,
                   .optimizer = &sgd,
                   .target = &target,
                   .keep = a };
    bool     ok = passes_run(&c, g, &opt, stderr, &stopped);
    Program *p = ok && !stopped ? codegen_program(a, d, g, jit, lib) : NULL;
    arena_free(&scratch);
    assert_non_null(p);
    return p;
}

static void check_case(const LsqCase *c, const float *y, const float *dx, float dstep)
{
    for (int64_t i = 0; i < c->n; i++) {
        int32_t code = (int32_t)json_integer_value(json_array_get(c->codes, (size_t)i));
        if (y[i] != (float)code * c->step)
            fail_msg("%s: x %.9g gives %.9g, expected code %d times %.9g", c->name, (double)c->x[i], (double)y[i], code,
                     (double)c->step);
        if (dx[i] != c->dx[i])
            fail_msg("%s: x %.9g has gradient %.9g, expected %.9g", c->name, (double)c->x[i], (double)dx[i],
                     (double)c->dx[i]);
    }
    /* t is off by an ulp of the largest code, and the sum by n ulps of the sum of magnitudes. */
    double g_abs = 0, bound = 1e-6 * c->dstep_abs;
    for (int64_t i = 0; i < c->n; i++)
        g_abs += fabs((double)c->g[i]);
    bound += (double)dt_max64(-c->lo, c->hi) * 0x1p-23 * g_abs * c->scale;
    if (!(fabs((double)dstep - c->dstep) <= bound))
        fail_msg("%s: gradient of the step size %.9g, expected %.9g within %.3g", c->name, (double)dstep, c->dstep,
                 bound);
}

static void run_case(KernelJit *jit, const json_t *j)
{
    Arena    a = arena_new("lsq");
    Diag     d = diag_new(stderr);
    LsqCase  c = lsq_case(&a, j);
    CallLib *lib = calllib_reference(&a);
    Program *p = lsq_program(&a, &d, lsq_graph(&a, &d, &c), jit, lib);
    Exec    *e = exec_new(&a, &d, lib, (ExecOptions){ .threads = 1 });
    int32_t  index = exec_add(e, p);
    assert_true(index >= 0);
    const struct {
        const char *name;
        const void *values;
    } inputs[IN_COUNT] = { { "x", c.x }, { "step", &c.step }, { "g", c.g } };
    for (int i = 0; i < IN_COUNT; i++)
        tensor_write(e, index, program_tensor(p, inputs[i].name), inputs[i].values);
    assert_true(exec_run(e, index));
    float *y = ARENA_ARRAY(&a, float, c.n), *dx = ARENA_ARRAY(&a, float, c.n), dstep;
    tensor_read(e, index, program_tensor(p, "y"), y);
    tensor_read(e, index, program_tensor(p, "dx"), dx);
    tensor_read(e, index, program_tensor(p, "dstep"), &dstep);
    check_case(&c, y, dx, dstep);
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

static void check_lsq(KernelJit *jit)
{
    json_t *ref = read_reference("lsq.json"), *cases = member(ref, "cases");
    assert_true(json_array_size(cases) >= 10);
    for (size_t i = 0; i < json_array_size(cases); i++)
        run_case(jit, json_array_get(cases, i));
    json_decref(ref);
}

static void test_lsq_interpreted(void **state)
{
    (void)state;
    Arena      a = arena_new("jit");
    KernelJit *jit = jit_interp_new(&a);
    check_lsq(jit);
    jit_free(jit);
    arena_free(&a);
}

static void test_lsq_compiled(void **state)
{
    (void)state;
    Arena a = arena_new("jit");
    Diag  d = diag_new(stderr);
#ifdef DT_HAVE_LLVM
    KernelJit *jit = jit_llvm_new(&a, &d, (JitOptions){ 0 });
    assert_non_null(jit);
    check_lsq(jit);
    jit_free(jit);
#else
    skip();
#endif
    diag_free(&d);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsq_interpreted),
        cmocka_unit_test(test_lsq_compiled),
        cmocka_unit_test(test_losses_of_resnet20),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
