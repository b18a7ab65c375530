/* test_fuzz_passes.c: random networks, compiled with random sets of the optional passes left out, trained for three
 * steps: every set must give the same bits.
 *
 * Why the same bits and not nearly the same: optional passes move arithmetic between kernels, they do not change it. An
 * element-wise result is the same expression wherever it is computed; the order of a sum follows from extents alone
 * (kernel_choose_reduction), which fusion keeps; library calls get the same inputs. So losses, params and states are
 * compared by memcmp, for three backends:
 *
 *   interp   interpreter and plain loops
 *   mixed    machine code and plain loops: must give the bits of interp, too
 *   cpu      machine code and oneDNN: sums of its own, so only the first loss is near that of interp
 *
 * The same holds for values that are made again because a step may have little memory (pass rematerialize).
 *
 * A failure prints the seed of the network; DETENT_FUZZ_SEED=N DETENT_FUZZ_COUNT=1 runs it alone. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"
#include "frontend/context.h"

#include <math.h>

enum { FUZZ_STREAM = 0x66757a7a, FUZZ_STEPS = 3, FUZZ_NETS = 8 };

/* ---- Random networks --------------------------------------------------------------------------------------------- */

typedef struct FuzzModel {
    DtModel  model; /* first: the builder is given this one */
    uint64_t seed;
    uint32_t draws;
} FuzzModel;

static int draw(FuzzModel *f, int below)
{
    return (int)(rng_u32(f->seed, FUZZ_STREAM, 0, f->draws++) % (uint32_t)below);
}

static Tensor random_conv(FuzzModel *f, Tensor x)
{
    int kernel = draw(f, 3) == 0 ? 1 : 3, stride = dt_height(x) > 4 && draw(f, 3) == 0 ? 2 : 1;
    int channels = dt_channels(x), groups = draw(f, 4) == 0 ? channels : 1;
    int out = groups > 1 ? channels : 1 + draw(f, 20);
    return dt_conv2d(x, out, kernel, .stride = stride, .pad = kernel / 2, .groups = groups, .no_bias = draw(f, 2) == 0);
}

static Tensor random_pool(FuzzModel *f, Tensor x)
{
    if (dt_height(x) < 4 || dt_width(x) < 4)
        return dt_relu(x);
    return draw(f, 2) ? dt_maxpool(x, 2 + draw(f, 2), .stride = 2, .pad = draw(f, 2))
                      : dt_avgpool(x, 2, .stride = 1 + draw(f, 2));
}

/* y = f(x), x + y where the shapes allow it, else through the shortcut. */
static Tensor random_block(FuzzModel *f, Tensor x)
{
    int    grow = draw(f, 3), stride = dt_height(x) > 4 ? 1 + draw(f, 2) : 1;
    Tensor y = dt_conv2d(x, dt_channels(x) + 2 * grow, 3, .stride = stride, .pad = 1, .no_bias = true);
    if (draw(f, 2))
        y = dt_batchnorm(y);
    if (draw(f, 2))
        y = dt_relu(y);
    return dt_add(y, dt_shortcut_a(x, dt_channels(y), .stride = stride));
}

/* Down, up again in one of three ways, brought to the size of x and joined to it. */
static Tensor random_skip(FuzzModel *f, Tensor x)
{
    Tensor y = dt_maxpool(x, 2);
    if (draw(f, 2))
        y = dt_conv_transpose2d(y, 1 + draw(f, 9), 2, .no_bias = draw(f, 2) == 0);
    else
        y = dt_upsample(y, 2, .bilinear = draw(f, 2) == 0);
    int below = dt_height(x) - dt_height(y), right = dt_width(x) - dt_width(y);
    return dt_concat(x, dt_pad_image(y, .pad4 = { 0, 0, below, right }));
}

static Tensor random_activation(FuzzModel *f, Tensor x)
{
    switch (draw(f, 7)) {
    case 0:
        return dt_relu6(x);
    case 1:
        return dt_leaky_relu(x, .slope = 0.2f);
    case 2:
        return dt_sigmoid(x);
    case 3:
        return dt_silu(x);
    case 4:
        return dt_hard_swish(x);
    case 5:
        return dt_hard_sigmoid(x);
    default:
        return dt_relu(x);
    }
}

/* Squeeze and excite, or a product with itself; some samples left out. */
static Tensor random_gate(FuzzModel *f, Tensor x)
{
    if (draw(f, 3) == 0)
        return dt_drop_connect(dt_mul(x, dt_hard_sigmoid(x)), .p = 0.3f);
    Tensor squeezed = dt_linear(dt_global_avgpool(x), 1 + draw(f, 4));
    squeezed = random_activation(f, squeezed);
    return dt_mul(x, dt_sigmoid(dt_linear(squeezed, dt_channels(x))));
}

static Tensor random_layer(FuzzModel *f, Tensor x)
{
    switch (draw(f, 12)) {
    case 0:
    case 1:
        return random_conv(f, x);
    case 2:
        return dt_batchnorm(x);
    case 3:
        return random_activation(f, x);
    case 4:
        return random_pool(f, x);
    case 5:
        return dt_dropout(x, .p = 0.25f);
    case 6:
        return dt_height(x) < 2 || dt_width(x) < 2 ? x : random_skip(f, x);
    case 7:
        return dt_pad_image(x, .pad4 = { 1, draw(f, 3), dt_height(x) > 1 ? -1 : 0, 0 });
    case 8:
        return random_gate(f, x);
    default:
        return random_block(f, x);
    }
}

static Tensor fuzz_build(DtContext *ctx)
{
    FuzzModel f = *(const FuzzModel *)(const void *)ctx->model; /* a copy: each build draws the same */
    Tensor    x = dt_image_(ctx, DT_HERE);
    x = random_conv(&f, x);
    for (int layers = 2 + draw(&f, 6); layers > 0; layers--)
        x = random_layer(&f, x);
    if (draw(&f, 3) == 0 && dt_height(x) > 1)
        dt_loss_tv(x, .weight = 0.1f);
    x = draw(&f, 2) ? dt_flatten(x) : dt_global_avgpool(x);
    if (draw(&f, 2))
        x = dt_relu(dt_linear(x, 5 + draw(&f, 12)));
    return dt_linear(x, dt_classes_(ctx));
}

static FuzzModel fuzz_model(uint64_t seed)
{
    FuzzModel f = { .seed = seed };
    f.model = (DtModel){ .name = "fuzz", .doc = "random", .build = fuzz_build, .at = DT_HERE };
    f.model.image[0] = draw(&f, 2) ? 3 : 1;
    f.model.image[1] = 5 + draw(&f, 6);
    f.model.image[2] = 5 + draw(&f, 6);
    f.model.classes = 2 + draw(&f, 9);
    f.model.training.label_smoothing = draw(&f, 2) ? 0.1f : 0;
    return f;
}

/* ---- One run
 * ---------------------------------------------------------------------------------------------------------- */

typedef struct FuzzRun {
    Fixture               *f;
    FuzzModel              model;
    int64_t                batch;
    Recipe                 recipe;
    const OptimizerConfig *optimizer;
    int64_t                most_values; /* bytes inside a step of training; 0: any number */
} FuzzRun;

typedef struct FuzzResult {
    double loss[FUZZ_STEPS];
    VEC(double) all; /* losses, params and states */
} FuzzResult;

static void open_step(FuzzRun *r, CheckBackend *b, StepKind step, const char *disable, CheckNet *net)
{
    CheckSetup setup = { .step = step,
                         .recipe = &r->recipe,
                         .optimizer = r->optimizer,
                         .disable = disable,
                         .most_values = step == STEP_TRAIN ? r->most_values : 0 };
    Graph     *g = frontend_build(&r->f->a, &r->f->d, &r->model.model, r->batch, step);
    if (!g || !check_net_open(net, b, g, &setup) || !program_init(&r->f->d, net->prog, r->model.seed))
        fail_msg("seed %llu: %s", (unsigned long long)r->model.seed, fixture_said(r->f));
}

static double fuzz_number(const FuzzRun *r, const ProgTensor *t, int step, int64_t i)
{
    if (str_eq(t->name, "label"))
        return (double)(rng_u32(r->model.seed, FUZZ_STREAM, 10, (uint64_t)(i + 1000 * step)) %
                        (uint32_t)r->model.model.classes);
    if (str_eq(t->name, "lr"))
        return (double)0.05f;
    if (str_eq(t->name, "seed"))
        return 7;
    if (str_eq(t->name, "step"))
        return step;
    return (double)(2 * rng_uniform(r->model.seed, FUZZ_STREAM, 11, (uint64_t)(i + 100000 * step)) - 1);
}

static void write_inputs(const FuzzRun *r, CheckNet *net, int step)
{
    const Program *p = net->prog.program;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        if (t->kind != TENSOR_INPUT)
            continue;
        double *x = ARENA_ARRAY(&r->f->a, double, t->elems);
        for (int64_t k = 0; k < t->elems; k++)
            x[k] = fuzz_number(r, t, step, k);
        check_net_write(net, t->name, x);
    }
}

/* First step sizes, from the first batch. */
static void find_steps(FuzzRun *r, CheckBackend *b, const char *disable, CheckNet *train)
{
    CheckNet init;
    open_step(r, b, STEP_INIT, disable, &init);
    write_inputs(r, &init, 0);
    check_net_run(&init);
    for (int32_t i = 0; i < init.prog.program->n_tensors; i++) {
        const ProgTensor *t = &init.prog.program->tensors[i];
        if ((t->kind == TENSOR_PARAM || t->kind == TENSOR_STATE) && program_tensor(train->prog.program, t->name))
            check_net_write(train, t->name, check_net_read(&r->f->a, &init, t->name));
    }
    check_net_close(&init);
}

static FuzzResult train(FuzzRun *r, CheckBackend *b, const char *disable)
{
    FuzzResult out = { .all = { 0 } };
    CheckNet   net;
    open_step(r, b, STEP_TRAIN, disable, &net);
    if (!str_eq(r->recipe.method, "float"))
        find_steps(r, b, disable, &net);
    for (int step = 0; step < FUZZ_STEPS; step++) {
        write_inputs(r, &net, step);
        check_net_run(&net);
        out.loss[step] = *check_net_read(&r->f->a, &net, "loss");
        vec_push(&r->f->a, &out.all, out.loss[step]);
    }
    for (int32_t i = 0; i < net.prog.program->n_tensors; i++) {
        const ProgTensor *t = &net.prog.program->tensors[i];
        if (t->kind != TENSOR_PARAM && t->kind != TENSOR_STATE)
            continue;
        const double *x = check_net_read(&r->f->a, &net, t->name);
        for (int64_t k = 0; k < t->elems; k++)
            vec_push(&r->f->a, &out.all, x[k]);
    }
    check_net_close(&net);
    return out;
}

static void compare(const FuzzRun *r, const FuzzResult *x, const FuzzResult *y, const char *backend,
                    const char *disable)
{
    assert_int_equal(x->all.len, y->all.len);
    if (memcmp(x->all.at, y->all.at, sizeof(double) * (size_t)x->all.len) == 0)
        return;
    for (int32_t i = 0; i < x->all.len; i++)
        if (memcmp(&x->all.at[i], &y->all.at[i], sizeof(double)) != 0)
            fail_msg("seed %llu, %s, without %s: number %d of losses, params and states is %.9g instead of %.9g\n"
                     "rerun: DETENT_FUZZ_SEED=%llu DETENT_FUZZ_COUNT=1 test_fuzz_passes",
                     (unsigned long long)r->model.seed, backend, disable ? disable : "nothing", i, y->all.at[i],
                     x->all.at[i], (unsigned long long)r->model.seed);
}

/* ---- Sets of passes
 * ----------------------------------------------------------------------------------------------------- */

static const char *const optional_passes[] = { "canonicalize", "simplify", "fuse", "batch" };

/* "simplify,batch" for the bits of the set; NULL for none. */
static const char *without(Arena *a, uint32_t set)
{
    Str s = str_new(a);
    for (int i = 0; i < DT_COUNT(optional_passes); i++)
        if (set >> i & 1)
            str_printf(&s, "%s%s", s.len ? "," : "", optional_passes[i]);
    return s.len ? s.s : NULL;
}

typedef struct Backends {
    CheckBackend interp, mixed, cpu;
} Backends;

static void open_backends(Fixture *f, Backends *b)
{
    b->mixed = (CheckBackend){ .arena = &f->a, .d = &f->d, .threads = 2 };
    b->mixed.jit = jit_llvm_new(&f->a, &f->d, (JitOptions){ .vector_width = 0 });
    b->mixed.lib = calllib_reference(&f->a);
    if (!b->mixed.jit || !check_backend_open(&b->interp, &f->a, &f->d, false, 1, 0) ||
        !check_backend_open(&b->cpu, &f->a, &f->d, true, 2, 0))
        fail_msg("%s", fixture_said(f));
}

static void close_backends(Backends *b)
{
    check_backend_close(&b->cpu);
    check_backend_close(&b->mixed);
    check_backend_close(&b->interp);
}

/* Is there something that the setting joins speaks of? */
static bool has_joins(FuzzRun *r)
{
    Graph *g = frontend_build(&r->f->a, &r->f->d, &r->model.model, r->batch, STEP_EVAL);
    for (int32_t i = 0; g && i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], OP_CONCAT) || ir_is(g, g->order.at[i], OP_GLOBAL_AVGPOOL))
            return true;
    return false;
}

/* Any method, with first ranges from the first batch, and settings that make other kernels. */
static void choose_method(FuzzRun *r, FuzzModel *dice)
{
    static const char *const methods[] = { "lsq", "lsq", "lsq+", "qat", "qsin", "quant-noise" };
    static const char *const settings[][4] = { { NULL, NULL, "grain=channel", "codes=narrow" },
                                               { NULL, NULL, "noise=0.5", "noise=1" },
                                               { NULL, NULL, "fold=one", "fold=off" } };
    Fixture                 *f = r->f;
    r->recipe.method = methods[draw(dice, DT_COUNT(methods))];
    bool ok = recipe_set(&f->a, &r->recipe, &f->d, LOC_NONE, "--set", "calibrate=none");
    for (int i = 0; i < DT_COUNT(settings); i++) {
        const char *set = settings[i][draw(dice, 4)];
        ok = ok && (set == NULL || recipe_set(&f->a, &r->recipe, &f->d, LOC_NONE, "--set", set));
    }
    const char *joins = draw(dice, 2) ? "joins=shared" : "joins=requantize";
    if (draw(dice, 2) && has_joins(r))
        ok = ok && recipe_set(&f->a, &r->recipe, &f->d, LOC_NONE, "--set", joins);
    if (!ok)
        fail_msg("%s", fixture_said(f));
}

static void check_net(Fixture *f, Backends *b, uint64_t seed)
{
    static const int32_t bits[] = { 2, 3, 4, 8 };
    FuzzModel            dice = { .seed = seed ^ 0x5a5a };
    FuzzRun r = { .f = f, .model = fuzz_model(seed), .batch = 1 + draw(&dice, 4), .optimizer = &f->optimizer };
    r.recipe = (Recipe){ .method = draw(&dice, 3) ? "lsq" : "float", .edge_bits = draw(&dice, 2) ? 8 : 0 };
    if (str_eq(r.recipe.method, "lsq")) {
        r.recipe.weight_bits = bits[draw(&dice, 4)];
        r.recipe.act_bits = bits[draw(&dice, 4)];
        choose_method(&r, &dice);
    }
    f->optimizer.nesterov = draw(&dice, 2);

    FuzzResult whole = train(&r, &b->interp, NULL), mixed = train(&r, &b->mixed, NULL), cpu = train(&r, &b->cpu, NULL);
    for (int step = 0; step < FUZZ_STEPS; step++)
        if (!isfinite(whole.loss[step]))
            fail_msg("seed %llu: the loss of step %d is %g", (unsigned long long)seed, step, whole.loss[step]);
    if (getenv("DETENT_FUZZ_VERBOSE"))
        print_message("seed %llu: %s, losses %.4f %.4f %.4f, %d numbers\n", (unsigned long long)seed, r.recipe.method,
                      whole.loss[0], whole.loss[1], whole.loss[2], whole.all.len);
    compare(&r, &whole, &mixed, "machine code against the interpreter", NULL);
    double near = !str_eq(r.recipe.method, "float") ? 5e-2 : 1e-4; /* a code next to a tie may flip */
    if (!(fabs(cpu.loss[0] - whole.loss[0]) <= near * fmax(1, fabs(whole.loss[0]))))
        fail_msg("seed %llu: first loss %.9g on the cpu, %.9g by the interpreter", (unsigned long long)seed,
                 cpu.loss[0], whole.loss[0]);

    const uint32_t sets[] = { 15, 1u << draw(&dice, 4), 1 + (uint32_t)draw(&dice, 14) };
    for (int i = 0; i < DT_COUNT(sets); i++) {
        const char *disable = without(&f->a, sets[i]);
        r.most_values = i == 1 ? 1 + draw(&dice, 20000) : 0;
        FuzzResult part = train(&r, &b->interp, disable);
        compare(&r, &whole, &part, "interpreter", disable);
    }
    const char *disable = without(&f->a, sets[2]);
    FuzzResult  part = train(&r, &b->cpu, disable);
    compare(&r, &cpu, &part, "cpu", disable);

    r.most_values = 1; /* all that can be is made again */
    FuzzResult least = train(&r, &b->mixed, NULL);
    compare(&r, &whole, &least, "machine code, the least memory", NULL);
    least = train(&r, &b->cpu, NULL);
    compare(&r, &cpu, &least, "cpu, the least memory", NULL);
}

static uint64_t from_environment(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : fallback;
}

static void test_subsets_agree(void **state)
{
    (void)state;
    uint64_t first = from_environment("DETENT_FUZZ_SEED", 1), count = from_environment("DETENT_FUZZ_COUNT", FUZZ_NETS);
    print_message("networks %llu to %llu; DETENT_FUZZ_SEED=N DETENT_FUZZ_COUNT=M runs others\n",
                  (unsigned long long)first, (unsigned long long)(first + count - 1));
    for (uint64_t seed = first; seed < first + count; seed++) {
        void    *fixture;
        Backends b;
        fixture_setup(&fixture);
        open_backends(fixture, &b);
        check_net(fixture, &b, seed);
        close_backends(&b);
        fixture_teardown(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_subsets_agree) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
