/* test_optimizers.c: optimizers, clipping, accumulation, averages and freezing as compiled programs:
 *
 *   against PyTorch's numbers (tests/reference/make_optimizers.py, which is not needed here), on three backends that
 *   must agree to the bit; schedules of learning rates against PyTorch's, too
 *   the weights that Adam's moments have seen against 1 - beta^t
 *   programs of one run - gathering, frozen, evaluating averages - lie over the same memory
 *   a small network that every optimizer trains, float and quantized */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>

enum { STEPS = 12, MOST_PROGRAMS = 4 };

/* ---- Programs that share memory ---------------------------------------------------------------------------------- */

typedef struct Machine {
    Fixture     *f;
    CheckBackend b;
    Exec        *exec;
    CheckNet     net[MOST_PROGRAMS];
    int32_t      n;
} Machine;

typedef enum Backend { INTERP, CPU, SIM, BACKENDS } Backend;

static void machine_open(Machine *m, Fixture *f, Backend kind)
{
    *m = (Machine){ .f = f };
    assert_true(kind == SIM ? check_backend_open_sim(&m->b, &f->a, &f->d)
                            : check_backend_open(&m->b, &f->a, &f->d, kind == CPU, 2, 0));
}

static void machine_close(Machine *m)
{
    if (m->exec)
        exec_free(m->exec);
    check_backend_close(&m->b);
}

/* One more program over the same params and states; the index. */
static int32_t machine_add(Machine *m, const char *text, const PassCtx *how, const char *passes)
{
    Fixture *f = m->f;
    Graph   *g = fixture_graph(f, text);
    PassCtx  c = *how;
    c.target = cli_target(m->b.gpu ? "sim" : "cpu");
    PassOptions opt = fixture_options(f, passes);
    if (!passes_run(&c, g, &opt, stdout, NULL))
        fail_msg("%s", fixture_said(f));
    Program *p = codegen_program(&f->a, &f->d, g, m->b.jit, m->b.lib);
    if (!p)
        fail_msg("%s", fixture_said(f));
    ExecOptions o = { .threads = m->b.threads };
    if (!m->exec)
        m->exec = m->b.gpu ? exec_new_gpu(&f->a, &f->d, m->b.gpu, m->b.lib, o) : exec_new(&f->a, &f->d, m->b.lib, o);
    int32_t index = exec_add(m->exec, p);
    if (index < 0)
        fail_msg("%s", fixture_said(f));
    m->net[m->n] = (CheckNet){ g, m->exec, { m->exec, p, index } };
    return m->n++;
}

static bool has(const Machine *m, int32_t i, const char *name)
{
    return program_tensor(m->net[i].prog.program, name) != NULL;
}

static void put(Machine *m, int32_t i, const char *name, const double *values)
{
    check_net_write(&m->net[i], name, values);
}

static void put1(Machine *m, int32_t i, const char *name, double value)
{
    put(m, i, name, &value);
}

static double *get(Machine *m, int32_t i, const char *name)
{
    return check_net_read(&m->f->a, &m->net[i], name);
}

/* ---- The reference ----------------------------------------------------------------------------------------------- */

static json_t *reference(void)
{
    json_error_t e;
    json_t      *root = json_load_file(DT_SOURCE_DIR "/tests/reference/optimizers.json", 0, &e);
    if (!root)
        fail_msg("optimizers.json:%d: %s", e.line, e.text);
    return root;
}

static double *numbers(Arena *a, const json_t *list)
{
    double *out = ARENA_ARRAY(a, double, json_array_size(list) + 1);
    assert_true(json_is_array(list));
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = json_number_value(json_array_get(list, i));
    return out;
}

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key)); /* 0: absent */
}

static OptimizerConfig config_of(const json_t *c)
{
    return (OptimizerConfig){ .name = json_string_value(json_object_get(c, "optimizer")),
                              .momentum = number_of(c, "momentum"),
                              .weight_decay = number_of(c, "decay"),
                              .nesterov = json_is_true(json_object_get(c, "nesterov")),
                              .beta1 = number_of(c, "beta1"),
                              .beta2 = number_of(c, "beta2"),
                              .eps = number_of(c, "eps"),
                              .rho = number_of(c, "rho"),
                              .clip_norm = number_of(c, "clip_norm"),
                              .clip_value = number_of(c, "clip_value"),
                              .accumulate = (int32_t)number_of(c, "accumulate"),
                              .ema = number_of(c, "ema"),
                              .ema_warm = json_is_true(json_object_get(c, "warm")) };
}

/* A step whose gradients are given. */
static const char given[] = "graph @given.train {\n"
                            "  %0 = param \"w\" : f32[8]\n"
                            "  %1 = param \"b\" {group=\"bias\"} : f32[3]\n"
                            "  %2 = input \"gw\" : f32[8]\n"
                            "  %3 = input \"gb\" : f32[3]\n"
                            "  output %2 \"grad:w\"\n"
                            "  output %3 \"grad:b\"\n"
                            "}\n";
#define GIVEN_PASSES "--passes=averages,optimizer,decompose,simplify,layout,fuse,batch,schedule,plan-memory,lower"

/* What the run of a case holds after each step: w, b, and their averages where there are any. */
typedef struct Trace {
    double *at[STEPS][4];
} Trace;
static const char *const traced[4] = { "w", "b", "w.ema", "b.ema" };
static const int32_t     traced_len[4] = { 8, 3, 8, 3 };

static void              run_case(Fixture *f, const json_t *root, const json_t *c, Backend kind, Trace *out)
{
    OptimizerConfig config = config_of(c);
    PassCtx         ctx = f->ctx;
    Machine         m;
    double         *rates = numbers(&f->a, json_object_get(root, "rates"));
    const json_t   *gw = json_object_get(root, "weight_grads"), *gb = json_object_get(root, "bias_grads");
    ctx.step = STEP_TRAIN;
    ctx.optimizer = &config;
    machine_open(&m, f, kind);
    int32_t update = machine_add(&m, given, &ctx, GIVEN_PASSES), gather = update;
    config.gather = true;
    if (config.accumulate > 1)
        gather = machine_add(&m, given, &ctx, GIVEN_PASSES);
    config.gather = false;
    put(&m, update, "w", numbers(&f->a, json_object_get(root, "weight")));
    put(&m, update, "b", numbers(&f->a, json_object_get(root, "bias")));
    for (int32_t k = 0; k < 2 && config.ema != 0; k++)
        put(&m, update, traced[2 + k], get(&m, update, traced[k]));
    if (str_eq(config.name, "rmsprop-tf"))
        for (int32_t k = 0; k < 2; k++)
            put(&m, update, k ? "b.moment2" : "w.moment2", (double[]){ 1, 1, 1, 1, 1, 1, 1, 1 });
    for (int32_t i = 0; i < STEPS; i++) {
        int32_t p = config.accumulate > 1 && (i + 1) % config.accumulate != 0 ? gather : update;
        put(&m, p, "gw", numbers(&f->a, json_array_get(gw, (size_t)i)));
        put(&m, p, "gb", numbers(&f->a, json_array_get(gb, (size_t)i)));
        if (has(&m, p, "lr"))
            put1(&m, p, "lr", number_of(c, "lr") * rates[i]);
        check_net_run(&m.net[p]);
        for (int32_t k = 0; k < 4; k++)
            out->at[i][k] = has(&m, update, traced[k]) ? get(&m, update, traced[k]) : NULL;
    }
    machine_close(&m);
}

/* Roundings of single precision, of numbers near 1, over twelve steps. */
enum { ULPS = 8 };

static void check_trace(const json_t *c, const Trace *t)
{
    static const char *const keys[4] = { "weight", "bias", "ema_weight", "ema_bias" };
    for (int32_t k = 0; k < 4; k++) {
        const json_t *rows = json_object_get(c, keys[k]);
        assert_int_equal(json_array_size(rows), t->at[0][k] ? STEPS : 0);
        for (int32_t i = 0; i < STEPS && t->at[0][k]; i++)
            for (int32_t j = 0; j < traced_len[k]; j++) {
                double want = json_number_value(json_array_get(json_array_get(rows, (size_t)i), (size_t)j));
                double found = t->at[i][k][j];
                if (!(fabs(found - want) <= ULPS * 0x1p-24 * (1 + fabs(want))))
                    fail_msg("%s, step %d: %s[%d] is %.9g, PyTorch has %.9g",
                             json_string_value(json_object_get(c, "name")), i, traced[k], j, found, want);
            }
    }
}

static void test_against_pytorch(void **state)
{
    Fixture *f = *state;
    json_t  *root = reference(), *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) >= 20);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        Trace t[BACKENDS];
        for (int b = 0; b < BACKENDS; b++)
            run_case(f, root, json_array_get(cases, i), (Backend)b, &t[b]);
        check_trace(json_array_get(cases, i), &t[INTERP]);
        for (int32_t s = 0; s < STEPS; s++)
            for (int32_t k = 0; k < 4; k++)
                for (int b = 1; b < BACKENDS && t[0].at[s][k]; b++)
                    assert_memory_equal(t[0].at[s][k], t[b].at[s][k], sizeof(double) * (size_t)traced_len[k]);
    }
    json_decref(root);
}

static void test_schedules_against_pytorch(void **state)
{
    Fixture *f = *state;
    json_t  *root = reference(), *list = json_object_get(root, "schedules");
    assert_true(json_array_size(list) >= 7);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *c = json_array_get(list, i);
        const char   *text = json_string_value(json_object_get(c, "text"));
        Schedule      s = { .lr = number_of(c, "lr"),
                            .epochs = (int64_t)number_of(c, "epochs"),
                            .steps_per_epoch = (int64_t)number_of(c, "steps_per_epoch") };
        double       *want = numbers(&f->a, json_object_get(c, "values"));
        assert_true(schedule_parse(&f->d, text, &s) && schedule_check(&f->d, &s));
        for (int64_t t = 0; t < s.epochs * s.steps_per_epoch; t++)
            if (!(fabs(schedule_lr(&s, t) - want[t]) <= 1e-12))
                fail_msg("%s: step %lld: %.17g, PyTorch has %.17g", text, (long long)t, schedule_lr(&s, t), want[t]);
    }
    json_decref(root);
}

static void test_bad_schedules(void **state)
{
    static const char *const bad[] = { "exp",        "exp:0.97",    "exp:0.97:", "exp:a:2",
                                       "one-cycle:", "one-cycle:x", "poly:",     "cosine:1",
                                       "constant:2", "one",         "" };
    const Schedule           wrong[] = {
        { .kind = SCHEDULE_EXPONENTIAL, .lr = 1, .epochs = 9, .gamma = 0, .every = 1 },
        { .kind = SCHEDULE_EXPONENTIAL, .lr = 1, .epochs = 9, .gamma = 0.9, .every = -1 },
        { .kind = SCHEDULE_ONE_CYCLE, .lr = 1, .epochs = 9, .share = 1 },
        { .kind = SCHEDULE_ONE_CYCLE, .lr = 1, .epochs = 9, .share = 0.3, .warmup_epochs = 1 },
        { .kind = SCHEDULE_POLY, .lr = 1, .epochs = 9, .power = -2 },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(bad); i++) {
        Schedule s = { 0 };
        assert_false(schedule_parse(&f->d, bad[i], &s));
    }
    for (int32_t i = 0; i < DT_COUNT(wrong); i++)
        assert_false(schedule_check(&f->d, &wrong[i]));
    assert_non_null(strstr(fixture_said(f), "exp:GAMMA:EPOCHS"));
    assert_non_null(strstr(fixture_said(f), "one-cycle begins with a warm-up of its own"));
}

/* ---- What corrects Adam's moments -------------------------------------------------------------------------------- */

static void test_seen(void **state)
{
    Fixture        *f = *state;
    OptimizerConfig config = { .name = "adam", .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
    PassCtx         ctx = f->ctx;
    Machine         m;
    ctx.step = STEP_TRAIN;
    ctx.optimizer = &config;
    machine_open(&m, f, INTERP);
    int32_t p = machine_add(&m, given, &ctx, GIVEN_PASSES);
    for (int32_t t = 1; t <= 3000; t++) {
        check_net_run(&m.net[p]);
        if (t > 3 && t % 500 != 0)
            continue;
        const double want[2] = { 1 - pow(0.9, t), 1 - pow(0.999, t) };
        for (int32_t k = 0; k < 2; k++) {
            double found = *get(&m, p, k ? "optimizer.seen2" : "optimizer.seen1");
            if (!(fabs(found / want[k] - 1) <= 1e-6)) /* one less a power of 0.999f would be 1.3e-5 off at first */
                fail_msg("after %d steps seen%d is %.9g, 1 - beta^t is %.9g", t, k + 1, found, want[k]);
        }
    }
    machine_close(&m);
}

/* ---- A network --------------------------------------------------------------------------------------------------- */

enum { ROWS = 16, IN = 8, HIDDEN = 16, OUT = 4 };

#define NET_BODY                                                                                                       \
    "  %0 = input \"x\" : f32[16x8]\n"                                                                                 \
    "  %1 = param \"fc1.weight\" {init=\"kaiming\", fan=8} : f32[16x8]\n"                                              \
    "  %2 = param \"fc1.bias\" {group=\"bias\"} : f32[16]\n"                                                           \
    "  %3 = linear %0, %1, %2 : f32[16x16]\n"                                                                          \
    "  %4 = relu %3 : f32[16x16]\n"                                                                                    \
    "  %5 = param \"fc2.weight\" {init=\"kaiming\", fan=16} : f32[4x16]\n"                                             \
    "  %6 = param \"fc2.bias\" {group=\"bias\"} : f32[4]\n"                                                            \
    "  %7 = linear %4, %5, %6 : f32[16x4]\n"
static const char net_train[] = "graph @net.train {\n" NET_BODY "  %8 = input \"target\" : f32[16x4]\n"
                                "  %9 = mse %7, %8 : f32[]\n"
                                "  output %9 \"loss\"\n"
                                "}\n";
static const char net_eval[] = "graph @net.eval {\n" NET_BODY "  output %7 \"logits\"\n}\n";

/* First weights, inputs, and a target that a net with other weights would give. */
static void fill_net(Machine *m, int32_t p)
{
    static const struct {
        const char *name;
        int32_t     n;
        double      size;
    } rows[] = { { "x", ROWS * IN, 1 },
                 { "target", ROWS * OUT, 1 },
                 { "fc1.weight", HIDDEN * IN, 0.35 },
                 { "fc2.weight", OUT * HIDDEN, 0.25 } };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        double *x = ARENA_ARRAY(&m->f->a, double, rows[i].n);
        for (int32_t k = 0; k < rows[i].n; k++)
            x[k] = (double)(float)(rows[i].size * rng_normal(5, 6, (uint32_t)i, (uint64_t)k));
        put(m, p, rows[i].name, x);
    }
    const Program *program = m->net[p].prog.program;
    for (int32_t i = 0; i < program->n_tensors; i++)
        if (str_glob("*.step", program->tensors[i].name))
            put1(m, p, program->tensors[i].name, 0.1);
}

static PassCtx train_ctx(Fixture *f, OptimizerConfig *config)
{
    PassCtx ctx = f->ctx;
    ctx.step = STEP_TRAIN;
    ctx.optimizer = config;
    ctx.moment = (Moment){ 0, 10 };
    return ctx;
}

static OptimizerConfig usual(const Optimizer *row)
{
    return (OptimizerConfig){ .name = row->name,
                              .momentum = row->momentum,
                              .weight_decay = row->weight_decay,
                              .beta1 = row->beta1,
                              .beta2 = row->beta2,
                              .eps = row->eps,
                              .rho = row->rho };
}

/* Every optimizer brings the loss down, in float and with trained steps, clipped, averaged and in parts. */
static void test_trains(void **state)
{
    Fixture *f = *state;
    for (int32_t i = 0; i < pass_n_optimizers * 2; i++) {
        const Optimizer *row = &pass_optimizers[i / 2];
        OptimizerConfig  config = usual(row);
        Recipe  recipe = { .method = i % 2 ? "lsq" : "float", .weight_bits = 4, .act_bits = 4, .edge_bits = 8 };
        PassCtx ctx = train_ctx(f, &config);
        Machine m;
        config.clip_norm = 5;
        config.ema = 0.9;
        config.accumulate = 2;
        ctx.recipe = &recipe;
        machine_open(&m, f, CPU);
        int32_t update = machine_add(&m, net_train, &ctx, "");
        config.gather = true;
        int32_t gather = machine_add(&m, net_train, &ctx, "");
        fill_net(&m, update);
        put(&m, gather, "x", get(&m, update, "x"));
        put(&m, gather, "target", get(&m, update, "target"));
        double first = 0, last = 0;
        for (int32_t t = 0; t < 400; t++) {
            int32_t p = t % 2 ? update : gather;
            if (has(&m, p,
                    "lr")) /* Adam moves each param by lr: 200 times 0.001 would be short of what there is to go */
                put1(&m, p, "lr", row->corrects ? 10 * row->lr : row->lr);
            check_net_run(&m.net[p]);
            last = *get(&m, p, "loss");
            first = t == 0 ? last : first;
        }
        if (!(last < 0.1 * first))
            fail_msg("%s, %s: the loss went from %g to %g", row->name, recipe.method, first, last);
        machine_close(&m);
    }
}

/* ---- Memory that programs share ---------------------------------------------------------------------------------- */

/* exec_add refuses a program whose states lie elsewhere. */
static void test_programs_agree(void **state)
{
    static const char *const methods[] = { "float", "lsq", "qat" };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < pass_n_optimizers * DT_COUNT(methods); i++) {
        Freeze          freeze[] = { { "fc1.*", 3 }, { "*.bias", INFINITY } };
        OptimizerConfig config = usual(&pass_optimizers[i / DT_COUNT(methods)]);
        Recipe          recipe = { .method = methods[i % DT_COUNT(methods)], .weight_bits = 4, .act_bits = 4 };
        PassCtx         ctx = train_ctx(f, &config);
        Machine         m;
        config.freeze = freeze;
        config.n_freeze = DT_COUNT(freeze);
        config.accumulate = 3;
        config.ema = 0.99;
        ctx.recipe = &recipe;
        machine_open(&m, f, INTERP);
        machine_add(&m, net_train, &ctx, "");
        ctx.moment.epoch = 3;
        machine_add(&m, net_train, &ctx, "");
        config.gather = true;
        machine_add(&m, net_train, &ctx, "");
        ctx.step = STEP_EVAL;
        ctx.use_averages = true;
        int32_t eval = machine_add(&m, net_eval, &ctx, "");
        assert_true(has(&m, eval, "fc1.weight.ema"));
        machine_close(&m);
    }
}

/* A new run from old weights must know what belongs to the old one alone. */
static void test_names(void **state)
{
    Fixture *f = *state;
    for (int32_t i = 0; i < pass_n_optimizers; i++)
        for (int32_t k = 0; k < DT_COUNT(pass_optimizers[i].moments) && pass_optimizers[i].moments[k]; k++)
            assert_true(checkpoint_is_of_run(arena_printf(&f->a, "s0.conv1.weight.%s", pass_optimizers[i].moments[k])));
    static const char *const others[] = { "w" OPT_GRAD,       "w" OPT_EMA,       OPT_UPDATES,
                                          TEACHER_PREFIX "w", "optimizer.seen1", "w.step.seen2" };
    for (int32_t i = 0; i < DT_COUNT(others); i++)
        assert_true(checkpoint_is_of_run(others[i]));
    assert_false(checkpoint_is_of_run("s0.conv1.weight") || checkpoint_is_of_run("bn1.running_mean"));
}

/* What is frozen stays, what is not moves; from epoch 3 on fc1.weight does, and its moments begin then. */
static void test_freezes(void **state)
{
    Fixture        *f = *state;
    Freeze          freeze[] = { { "fc1.*", 3 }, { "*.bias", INFINITY } };
    OptimizerConfig config = { .name = "adam", .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
    PassCtx         ctx = train_ctx(f, &config);
    Machine         m;
    config.freeze = freeze;
    config.n_freeze = DT_COUNT(freeze);
    machine_open(&m, f, CPU);
    int32_t early = machine_add(&m, net_train, &ctx, "");
    ctx.moment.epoch = 3;
    int32_t late = machine_add(&m, net_train, &ctx, "");
    fill_net(&m, early);
    put(&m, late, "x", get(&m, early, "x"));
    put(&m, late, "target", get(&m, early, "target"));
    double *fc1 = get(&m, early, "fc1.weight"), *fc2 = get(&m, early, "fc2.weight");
    for (int32_t t = 0; t < 50; t++) {
        put1(&m, early, "lr", 0.01);
        check_net_run(&m.net[early]);
    }
    assert_memory_equal(fc1, get(&m, early, "fc1.weight"), sizeof(double) * HIDDEN * IN);
    assert_true(fabs(get(&m, early, "fc2.weight")[0] - fc2[0]) > 0.01);
    assert_true(*get(&m, early, "fc1.weight.seen1") == 0 && *get(&m, early, "optimizer.seen1") > 0.99);
    put1(&m, late, "lr", 0.01);
    check_net_run(&m.net[late]);
    double *moved = get(&m, late, "fc1.weight");
    int32_t n = 0;
    for (int32_t k = 0; k < HIDDEN * IN; k++) /* Adam's first step is lr, or nothing where the gradient is 0 */
        n += fabs(fabs(moved[k] - fc1[k]) - 0.01) < 1e-5;
    assert_true(n > HIDDEN * IN / 2);
    assert_true(get(&m, late, "fc1.bias")[0] == 0 && get(&m, late, "fc2.bias")[0] == 0);
    machine_close(&m);
}

static void test_bad_freezes(void **state)
{
    Fixture        *f = *state;
    Freeze          x, nothing = { "nobody.*", INFINITY };
    OptimizerConfig config = { .freeze = &nothing, .n_freeze = 1 };
    PassCtx         ctx = train_ctx(f, &config);
    assert_true(optimizer_parse_freeze(&f->a, &f->d, LOC_NONE, "--freeze", "a.*@2.5", &x));
    assert_string_equal(x.pattern, "a.*");
    assert_true(x.until == 2.5);
    assert_true(optimizer_parse_freeze(&f->a, &f->d, LOC_NONE, "--freeze", "a", &x) && isinf(x.until));
    static const char *const bad[] = { "", "@3", "a@", "a@b", "a@-1", "a@0" };
    for (int32_t i = 0; i < DT_COUNT(bad); i++)
        assert_false(optimizer_parse_freeze(&f->a, &f->d, LOC_NONE, "--freeze", bad[i], &x));
    PassOptions opt = fixture_options(f, "");
    assert_false(passes_run(&ctx, fixture_graph(f, net_train), &opt, stdout, NULL));
    assert_non_null(strstr(fixture_said(f), "'nobody.*' matches none"));
}

static void test_phases(void **state)
{
    Fixture        *f = *state;
    const Freeze    freeze[] = { { "a", 5 }, { "b", 2 }, { "c", 5 }, { "d", INFINITY }, { "e", 30 } };
    OptimizerConfig config = { .freeze = freeze, .n_freeze = DT_COUNT(freeze) };
    double          at[RECIPE_MOST_PHASES] = { 0, 4 };
    int32_t         n = 2;
    assert_true(optimizer_phases(&f->d, &config, 10, at, &n));
    assert_int_equal(n, 4);
    assert_true(at[0] == 0 && at[1] == 2 && at[2] == 4 && at[3] == 5);
}

/* ---- Averages ---------------------------------------------------------------------------------------------------- */

/* An evaluation with averages is one of a network whose params are the averages. */
static void test_evaluates_averages(void **state)
{
    Fixture        *f = *state;
    OptimizerConfig config = { .momentum = 0.9, .ema = 0.9, .ema_warm = true };
    PassCtx         ctx = train_ctx(f, &config);
    Machine         m;
    machine_open(&m, f, CPU);
    int32_t train = machine_add(&m, net_train, &ctx, "");
    ctx.step = STEP_EVAL;
    int32_t plain = machine_add(&m, net_eval, &ctx, "");
    ctx.use_averages = true;
    int32_t averaged = machine_add(&m, net_eval, &ctx, "");
    fill_net(&m, train);
    for (int32_t t = 0; t < 20; t++) {
        put1(&m, train, "lr", 0.05);
        check_net_run(&m.net[train]);
    }
    put(&m, averaged, "x", get(&m, train, "x"));
    check_net_run(&m.net[averaged]);
    double *found = get(&m, averaged, "logits");
    put(&m, plain, "x", get(&m, train, "x"));
    check_net_run(&m.net[plain]);
    assert_memory_not_equal(found, get(&m, plain, "logits"), sizeof(double) * ROWS * OUT);
    static const char *const params[] = { "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias" };
    for (int32_t i = 0; i < DT_COUNT(params); i++)
        put(&m, plain, params[i], get(&m, train, arena_printf(&f->a, "%s.ema", params[i])));
    check_net_run(&m.net[plain]);
    assert_memory_equal(found, get(&m, plain, "logits"), sizeof(double) * ROWS * OUT);
    machine_close(&m);
}

/* ---- Statistics found anew --------------------------------------------------------------------------------------- */

static const char reestimates[] = "graph @net.reestimate {\n"
                                  "  %0 = input \"x\" : f32[16x8]\n"
                                  "  %1 = state \"bn.running_mean\" : f32[8]\n"
                                  "  %2 = state \"bn.running_var\" {init=\"ones\"} : f32[8]\n"
                                  "  %3 = bn_mean %0, %1 : f32[8]\n"
                                  "  %4 = bn_var %0, %1 : f32[8]\n"
                                  "  %5 = input \"rate\" : f32[]\n"
                                  "  %6 = lerp %1, %3, %5 : f32[8]\n"
                                  "  %7 = lerp %2, %4, %5 {scale=1.0666666666666667} : f32[8]\n"
                                  "  assign %1, %6\n"
                                  "  assign %2, %7\n"
                                  "}\n";

/* With rates 1, 1/2, 1/3, ... the mean over batches, whatever was there before. */
static void test_reestimates(void **state)
{
    enum { BATCHES = 7 };
    Fixture *f = *state;
    PassCtx  ctx = f->ctx;
    Machine  m;
    double   mean[IN] = { 0 }, var[IN] = { 0 };
    ctx.step = STEP_REESTIMATE;
    machine_open(&m, f, CPU);
    int32_t p = machine_add(&m, reestimates, &ctx, "");
    put(&m, p, "bn.running_mean", (double[]){ 1, 2, 3, 4, 5, 6, 7, 8 });
    for (int32_t k = 0; k < BATCHES; k++) {
        double x[ROWS * IN];
        for (int32_t i = 0; i < ROWS * IN; i++)
            x[i] = (double)(float)(3 + rng_normal(1, 2, (uint32_t)k, (uint64_t)i));
        for (int32_t c = 0; c < IN; c++) {
            double sum = 0, square = 0;
            for (int32_t i = 0; i < ROWS; i++)
                sum += x[i * IN + c] / ROWS;
            for (int32_t i = 0; i < ROWS; i++)
                square += pow(x[i * IN + c] - sum, 2) / (ROWS - 1);
            mean[c] += sum / BATCHES;
            var[c] += square / BATCHES;
        }
        put(&m, p, "x", x);
        put1(&m, p, "rate", 1.0 / (k + 1));
        check_net_run(&m.net[p]);
    }
    for (int32_t c = 0; c < IN; c++) {
        assert_true(fabs(get(&m, p, "bn.running_mean")[c] - mean[c]) < 1e-6 * 4);
        assert_true(fabs(get(&m, p, "bn.running_var")[c] - var[c]) < 1e-6 * 4);
    }
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_against_pytorch),
        fixture_test(test_schedules_against_pytorch),
        fixture_test(test_bad_schedules),
        fixture_test(test_seen),
        fixture_test(test_trains),
        fixture_test(test_programs_agree),
        fixture_test(test_names),
        fixture_test(test_freezes),
        fixture_test(test_bad_freezes),
        fixture_test(test_phases),
        fixture_test(test_evaluates_averages),
        fixture_test(test_reestimates),
    };
    return cmocka_run_group_tests_name("optimizers", tests, NULL, NULL);
}
