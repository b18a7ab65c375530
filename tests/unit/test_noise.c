/* test_noise.c: the laws of Quant-Noise. A draw is a function of seed, stream, step and place, the same on every
 * backend, for any vector width and number of threads, and after a resume; so many elements as p says are quantized;
 * with p = 1 a run is the one without noise, with p = 0 the float one, to the bit; and no mask is ever stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Where programs run ------------------------------------------------------------------------------------------ */

/* width 0: by the interpreter, or of `backend`; else machine code for vectors of so many floats. Library calls are
 * plain loops everywhere. */
typedef struct Backend {
    const char *backend;
    int         width, threads;
} Backend;

static const Backend interp = { "interp", 0, 1 };

/* clang-format off */
static const Backend places[] = {
    { "interp", 0, 3 },
#ifdef DT_HAVE_LLVM
    { "interp", 4, 1 }, { "interp", 4, 2 }, { "interp", 8, 3 }, { "interp", 16, 1 }, { "interp", 16, 2 }, { "interp", 16, 3 },
#endif
    { "sim", 0, 1 },
};
/* clang-format on */

/* Every kind of layer; weights of odd sizes. */
static Tensor small_build(DtContext *dt_ctx)
{
    Tensor x = dt_relu(dt_batchnorm(dt_conv2d(dt_image(), 5, 3, .pad = 1, .no_bias = true)));
    Tensor y = dt_relu(dt_conv2d(x, 7, 3, .stride = 2));
    y = dt_dropout(dt_relu(dt_conv2d(y, 6, 1)), .p = 0.25f);
    return dt_linear(dt_relu(dt_linear(dt_flatten(y), 11)), dt_classes());
}

/* No batch norm: float and quantized are one network. */
static Tensor plain_build(DtContext *dt_ctx)
{
    Tensor x = dt_relu(dt_conv2d(dt_image(), 5, 3, .stride = 2));
    return dt_linear(dt_relu(dt_linear(dt_flatten(x), 11)), dt_classes());
}

static const DtModel small = {
    .name = "small", .doc = "all", .image = { 2, 9, 7 }, .classes = 5, .build = small_build, .at = { "small.c", 1 }
};
static const DtModel plain = {
    .name = "plain", .doc = "few", .image = { 2, 9, 7 }, .classes = 5, .build = plain_build, .at = { "plain.c", 1 }
};

/* A program in memory, ready to run. */
typedef struct Run {
    Session    s;
    KernelJit *jit; /* of its own; NULL: the session's */
    Exec      *exec;
    Program   *p;
    int32_t    index;
} Run;

static void open_session(Session *s, const Backend *at, const DtModel *model, const char *recipe)
{
    StrList rest = { 0 };
    char   *argv[16], *save = NULL;
    int     argc = 0;
    *s = (Session){ .arena = arena_new("noise"), .diag = diag_new(stderr), .out = stderr };
    argv[argc++] = arena_printf(&s->arena, "--backend=%s", at->backend);
    argv[argc++] = arena_printf(&s->arena, "--threads=%d", at->threads);
    argv[argc++] = arena_strdup(&s->arena, "--batch=3");
    for (char *w = strtok_r(arena_strdup(&s->arena, recipe), " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    assert_true(cli_parse(&s->arena, &s->diag, ~0u, argc, argv, &s->opt, &rest));
    if (model != NULL)
        assert_true(session_open(s, model));
    assert_true(session_backend(s, true));
}

static void load_graph(Run *r, const Backend *at, Graph *g)
{
    Session *s = &r->s;
    assert_non_null(g);
    r->exec = s->exec;
    CallLib *lib = s->lib;
#ifdef DT_HAVE_LLVM
    if (at->width > 0) {
        r->jit = jit_llvm_new(&s->arena, &s->diag, (JitOptions){ .vector_width = at->width });
        assert_non_null(r->jit);
    }
#endif
    r->p = codegen_program(&s->arena, &s->diag, g, r->jit ? r->jit : s->jit, lib);
    assert_non_null(r->p);
    r->index = exec_add(r->exec, r->p);
    assert_true(r->index >= 0 && at->threads > 0);
}

static Run *run_model(const Backend *at, const DtModel *model, const char *recipe)
{
    Run *r = calloc(1, sizeof *r);
    bool stopped = false;
    open_session(&r->s, at, model, recipe);
    load_graph(r, at, session_graph(&r->s, STEP_TRAIN, NULL, &stopped));
    assert_true(program_init(&r->s.diag, (LoadedProgram){ r->exec, r->p, r->index }, 11));
    return r;
}

static void run_free(Run *r)
{
    session_backend_close(&r->s);
    if (r->jit != NULL)
        jit_free(r->jit);
    diag_free(&r->s.diag);
    arena_free(&r->s.arena);
    free(r);
}

static bool has_tensor(const Run *r, const char *name)
{
    return program_tensor(r->p, name) != NULL;
}

static void write_tensor(Run *r, const char *name, const void *values)
{
    if (has_tensor(r, name))
        assert_true(tensor_write(r->exec, r->index, program_tensor(r->p, name), values));
}

static void *read_tensor(Run *r, const char *name)
{
    const ProgTensor *t = program_tensor(r->p, name);
    void             *out = arena_alloc(&r->s.arena, (size_t)t->bytes + 4);
    assert_true(tensor_read(r->exec, r->index, t, out));
    return out;
}

/* Step number `step` of a run: a batch of its own, a draw of its own. */
static void train_step(Run *r, uint32_t step, uint32_t seed)
{
    const float lr = 0.05f;
    int32_t     labels[3];
    float       image[3 * 2 * 9 * 7];
    for (uint32_t i = 0; i < DT_COUNT(image); i++)
        image[i] = 2 * rng_uniform(5, 0, step, i) - 1;
    for (uint32_t i = 0; i < DT_COUNT(labels); i++)
        labels[i] = (int32_t)(rng_u32(5, 1, step, i) % 5);
    write_tensor(r, "image", image);
    write_tensor(r, "label", labels);
    write_tensor(r, "lr", &lr);
    write_tensor(r, "seed", &seed);
    write_tensor(r, "step", &step);
    assert_true(exec_run(r->exec, r->index));
}

static bool is_kept(const ProgTensor *t)
{
    return t->kind == TENSOR_PARAM || t->kind == TENSOR_STATE;
}

/* Everything that `a` keeps, `b` has with the same bytes; how many tensors. */
static int32_t assert_same(Run *a, Run *b, const char *what)
{
    int32_t n = 0;
    for (int32_t i = 0; i < a->p->n_tensors; i++) {
        const ProgTensor *t = &a->p->tensors[i];
        if (!is_kept(t))
            continue;
        if (!has_tensor(b, t->name) || memcmp(read_tensor(a, t->name), read_tensor(b, t->name), (size_t)t->bytes) != 0)
            fail_msg("%s: %s differs", what, t->name);
        n++;
    }
    return n;
}

/* ---- The mask, a second time ------------------------------------------------------------------------------------- */

typedef struct Noise {
    double   p;
    int64_t  block;
    uint32_t seed, stream, step;
} Noise;

static bool drawn(const Noise *n, int64_t i)
{
    return n->p >= 1 || rng_u32(n->seed, n->stream, n->step, (uint64_t)(i / n->block)) < (uint32_t)(n->p * 0x1p32);
}

/* Inputs x, q, seed and step, output y; of rank 4 the memory is not in logical order. */
static Run *run_op(const Backend *at, const Noise *n, const char *shape)
{
    Run    *r = calloc(1, sizeof *r);
    Arena   scratch = arena_new("pass");
    StrList none = { 0 };
    open_session(&r->s, at, NULL, "");
    Arena      *a = &r->s.arena;
    const char *text =
        arena_printf(a,
                     "graph @t.eval {\n  %%0 = input \"x\" : f32[%s]\n  %%1 = input \"q\" : f32[%s]\n"
                     "  %%2 = input \"seed\" : u32[]\n  %%3 = input \"step\" : u32[]\n"
                     "  %%4 = quant_noise %%0, %%1, %%2, %%3 {p=%.17g, stream=%u, block=%lld} : f32[%s]\n"
                     "  output %%4 \"y\"\n}\n",
                     shape, shape, n->p, n->stream, (long long)n->block, shape);
    Graph      *g = ir_parse(a, &r->s.diag, "noise.dtir", text);
    PassOptions opt;
    char       *argv[] = { arena_strdup(a, "--verify=all"), arena_strdup(a, "--verify-roundtrip") };
    PassCtx     c = {
            .scratch = &scratch, .d = &r->s.diag, .step = STEP_EVAL, .target = cli_target(at->backend), .keep = a
    };
    assert_non_null(g);
    assert_true(opts_parse(a, &r->s.diag, pass_option_defs, pass_n_option_defs, 2, argv, &opt, &none));
    assert_true(passes_run(&c, g, &opt, stderr, NULL));
    arena_free(&scratch);
    load_graph(r, at, g);
    return r;
}

static const float *draw_step(Run *r, uint32_t seed, uint32_t step)
{
    write_tensor(r, "seed", &seed);
    write_tensor(r, "step", &step);
    assert_true(exec_run(r->exec, r->index));
    return read_tensor(r, "y");
}

/* x is 0 and infinite in turn, q is 1 and not a number: none of them leaks into the other's places. */
static void fill_op(Run *r, int64_t n)
{
    float *x = ARENA_ARRAY(&r->s.arena, float, n), *q = ARENA_ARRAY(&r->s.arena, float, n);
    for (int64_t i = 0; i < n; i++) {
        x[i] = i % 5 == 4 ? INFINITY : 0;
        q[i] = i % 7 == 6 ? NAN : 1;
    }
    write_tensor(r, "x", x);
    write_tensor(r, "q", q);
}

static void assert_mask(const Noise *n, const float *y, int64_t elems, const char *where)
{
    for (int64_t i = 0; i < elems; i++) {
        float x = i % 5 == 4 ? INFINITY : 0, q = i % 7 == 6 ? NAN : 1, want = drawn(n, i) ? q : x;
        if (memcmp(&want, &y[i], sizeof want) != 0 && !(isnan(want) && isnan(y[i])))
            fail_msg("%s: p = %.17g, block %lld, step %u: element %lld is %g, expected %g", where, n->p,
                     (long long)n->block, n->step, (long long)i, (double)y[i], (double)want);
    }
}

/* 5 x 3 x 3 x 3 and 6 x 37 elements: whole vectors and rests of every width; blocks that fit and one that does not. */
static void check_op(const Backend *at)
{
    static const struct {
        const char *shape;
        int64_t     elems;
    } shapes[] = { { "5x3x3x3", 135 }, { "6x37", 222 } };
    static const double   ps[] = { 0, 0x1p-33, 0x1p-32, 0.1, 0.5, 1 - 0x1p-32, 1 - 0x1p-33, 1 };
    static const int64_t  blocks[] = { 1, 9, 4096 };
    static const uint32_t steps[] = { 0, 1, 0xffffffffu };
    for (int32_t s = 0; s < DT_COUNT(shapes); s++)
        for (int32_t k = 0; k < DT_COUNT(ps) * DT_COUNT(blocks); k++) {
            Noise n = { ps[k / DT_COUNT(blocks)], blocks[k % DT_COUNT(blocks)], 77, hash_u32("w"), 0 };
            if (s == 1 && n.p != 0.5)
                continue; /* once is enough */
            Run *r = run_op(at, &n, shapes[s].shape);
            fill_op(r, shapes[s].elems);
            for (int32_t i = 0; i < DT_COUNT(steps); i++) {
                n.step = steps[i];
                assert_mask(&n, draw_step(r, n.seed, n.step), shapes[s].elems, at->backend);
            }
            run_free(r);
        }
}

static void test_masks(void **state)
{
    (void)state;
    check_op(&interp);
    for (int32_t i = 0; i < DT_COUNT(places); i++)
        check_op(&places[i]);
}

/* ---- How many ---------------------------------------------------------------------------------------------------- */

/* `hits` of `n` draws of probability p lie within four standard deviations. */
static void assert_share(const char *what, int64_t hits, int64_t n, double p)
{
    double sigma = sqrt(p * (1 - p) / (double)n), share = (double)hits / (double)n;
    if (fabs(share - p) > 4 * sigma)
        fail_msg("%s: %lld of %lld are %.5f, expected %g within %.5f", what, (long long)hits, (long long)n, share, p,
                 4 * sigma);
}

/* The op itself, for ten thousand steps: of each element over the steps, and of all. */
static void test_share_over_steps(void **state)
{
    (void)state;
    enum { STEPS = 10000, ELEMS = 16 };
    static const double ps[] = { 0.05, 0.5, 0.9 };
    static const float  zeros[ELEMS], ones[ELEMS] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    for (int32_t k = 0; k < DT_COUNT(ps); k++) {
        Noise   n = { ps[k], 1, 5, hash_u32("s1.conv.weight"), 0 };
        Run    *r = run_op(&interp, &n, "1x16");
        int64_t hits[ELEMS] = { 0 }, all = 0;
        write_tensor(r, "x", zeros);
        write_tensor(r, "q", ones);
        float *y = exec_ptr(r->exec, r->index, program_tensor(r->p, "y"));
        for (uint32_t step = 0; step < STEPS; step++) {
            write_tensor(r, "seed", &n.seed);
            write_tensor(r, "step", &step);
            assert_true(exec_run(r->exec, r->index));
            for (int32_t i = 0; i < ELEMS; i++)
                hits[i] += y[i] == 1;
        }
        for (int32_t i = 0; i < ELEMS; i++) {
            assert_share("an element over steps", hits[i], STEPS, n.p);
            all += hits[i];
        }
        assert_share("all elements over steps", all, (int64_t)STEPS * ELEMS, n.p);
        run_free(r);
    }
}

/* Over the elements of one step, for a hundred steps; blocks are drawn as single elements are. */
static void test_share_over_elements(void **state)
{
    (void)state;
    enum { STEPS = 100, DRAWS = 10000 };
    static const double  ps[] = { 0.01, 0.25, 0.5, 0.99 };
    static const int64_t blocks[] = { 1, 9 };
    for (int32_t k = 0; k < DT_COUNT(ps) * DT_COUNT(blocks); k++) {
        Noise n = { ps[k / DT_COUNT(blocks)], blocks[k % DT_COUNT(blocks)], 5, hash_u32("s2.conv.weight"), 0 };
        for (; n.step < STEPS; n.step++) {
            int64_t hits = 0;
            for (int64_t i = 0; i < DRAWS; i++)
                hits += drawn(&n, i * n.block);
            assert_share("the elements of a step", hits, DRAWS, n.p);
        }
    }
}

/* Neighbours, the next step, another weight, another seed: two draws are both hits as often as p^2 says. */
static void test_independent(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    const Noise n = { 0.3, 1, 5, hash_u32("a.weight"), 12 };
    Noise       others[] = { n, n, n, n };
    int64_t     both[DT_COUNT(others)] = { 0 };
    others[1].step++;
    others[2].stream = hash_u32("b.weight");
    others[3].seed++;
    for (int64_t i = 0; i < DRAWS; i++)
        for (int32_t k = 0; k < DT_COUNT(others); k++)
            both[k] += drawn(&n, i) && drawn(&others[k], k == 0 ? i + 1 : i);
    for (int32_t k = 0; k < DT_COUNT(others); k++)
        assert_share("pairs", both[k], DRAWS, n.p * n.p);
}

static void test_blocks_are_alike(void **state)
{
    (void)state;
    Noise        n = { 0.5, 9, 5, 3, 8 };
    float        zeros[4 * 3 * 9], ones[4 * 3 * 9];
    int64_t      hits = 0;
    Run         *r = run_op(&interp, &n, "4x3x3x3");
    const float *y;
    for (int32_t i = 0; i < DT_COUNT(ones); i++)
        zeros[i] = 0, ones[i] = 1;
    write_tensor(r, "x", zeros);
    write_tensor(r, "q", ones);
    y = draw_step(r, n.seed, n.step);
    for (int32_t i = 0; i < DT_COUNT(ones); i++) {
        assert_true(y[i] == y[i / 9 * 9]); /* a window is quantized whole */
        hits += y[i] == 1;
    }
    assert_true(hits > 0 && hits < DT_COUNT(ones) && hits % 9 == 0);
    run_free(r);
}

/* ---- Whole steps ------------------------------------------------------------------------------------------------- */

enum { STEPS = 3, SEED = 17 };

/* Three steps of training by the interpreter and everywhere else: what is left is the same, so the masks were. The
 * gradient of a trained step is a sum over the weight as it lies in memory, which on GPUs it does another way. */
static void test_everywhere(void **state)
{
    (void)state;
    static const struct {
        const char *recipe;
        bool        any_layout;
    } rows[] = {
        { "--method=quant-noise --bits=w4a4", true },
        { "--method=quant-noise --bits=w4a8 --set=noise-block=9 --set=grain=channel", true },
        { "--method=lsq+ --bits=w4a4 --set=noise=0.5", false },
    };
    for (int32_t m = 0; m < DT_COUNT(rows); m++) {
        Run *first = run_model(&interp, &small, rows[m].recipe);
        for (uint32_t step = 0; step < STEPS; step++)
            train_step(first, step, SEED);
        for (int32_t i = 0; i < DT_COUNT(places); i++) {
            if (!rows[m].any_layout && cli_target(places[i].backend) != cli_target("cpu"))
                continue;
            Run *r = run_model(&places[i], &small, rows[m].recipe);
            for (uint32_t step = 0; step < STEPS; step++)
                train_step(r, step, SEED);
            assert_true(assert_same(first, r, places[i].backend) > 15);
            run_free(r);
        }
        run_free(first);
    }
}

static void compare_runs(const DtModel *model, const char *one, const char *other)
{
    Run *a = run_model(&interp, model, one), *b = run_model(&interp, model, other);
    for (uint32_t step = 0; step < STEPS; step++) {
        train_step(a, step, SEED);
        train_step(b, step, SEED);
    }
    assert_true(assert_same(a, b, one) >= 8);
    run_free(a);
    run_free(b);
}

/* With p = 1 a run is the one without noise: the very same program. */
static void test_all_is_no_noise(void **state)
{
    (void)state;
    compare_runs(&small, "--method=quant-noise --bits=w4a4 --set=noise=1 --set=fold=off",
                 "--method=qat --bits=w4a4 --set=fold=off");
    compare_runs(&small, "--method=lsq --bits=w4a4 --set=noise=1", "--method=lsq --bits=w4a4");
    compare_runs(&small, "--method=lsq+ --bits=w4a4 --set=noise=1", "--method=lsq+ --bits=w4a4");
}

/* So it is when the op is there, whose p is above every draw that is made; and p = 0 and nearly 0. */
static void test_almost_all(void **state)
{
    (void)state;
    compare_runs(&small, "--method=qat --bits=w4a4 --set=fold=off --set=noise=0.9999999998",
                 "--method=qat --bits=w4a4 --set=fold=off");
    compare_runs(&plain, "--method=float", "--method=quant-noise --bits=w4 --set=noise=0.0000000001");
}

/* With p = 0 and weights alone quantized the run is the float one. */
static void test_nothing_is_float(void **state)
{
    (void)state;
    compare_runs(&plain, "--method=float", "--method=quant-noise --bits=w4 --set=noise=0");
    compare_runs(&small, "--method=float", "--method=quant-noise --bits=w4 --set=noise=0 --set=fold=off");
    compare_runs(&plain, "--method=float", "--method=lsq --bits=w4 --set=noise=0");
}

static const void *first_param(Run *r, size_t *bytes)
{
    for (int32_t i = 0; i < r->p->n_tensors; i++)
        if (r->p->tensors[i].kind == TENSOR_PARAM) {
            *bytes = (size_t)r->p->tensors[i].bytes;
            return read_tensor(r, r->p->tensors[i].name);
        }
    fail_msg("no param");
    return NULL;
}

/* With p in between a run is neither, and with another seed another one. */
static void test_noise_is_seen(void **state)
{
    (void)state;
    static const char *const recipes[][2] = {
        { "--method=quant-noise --bits=w4 --set=noise=0.5", "--method=qat --bits=w4" },
        { "--method=lsq --bits=w4 --set=noise=0.5", "--method=lsq --bits=w4" },
        { "--method=lsq+ --bits=w4a4 --set=noise=0.5", "--method=lsq+ --bits=w4a4" },
    };
    for (int32_t m = 0; m < DT_COUNT(recipes); m++) {
        Run   *noisy = run_model(&interp, &plain, recipes[m][0]), *other = run_model(&interp, &plain, recipes[m][0]);
        Run   *without = run_model(&interp, &plain, recipes[m][1]);
        size_t bytes = 0;
        train_step(noisy, 0, 17);
        train_step(other, 0, 18);
        train_step(without, 0, 17);
        const void *w = first_param(noisy, &bytes);
        assert_true(memcmp(w, first_param(other, &bytes), bytes) != 0);
        assert_true(memcmp(w, first_param(without, &bytes), bytes) != 0);
        run_free(noisy);
        run_free(other);
        run_free(without);
    }
}

/* What a checkpoint holds and the step's number are all that the next step needs. */
static void test_resumed(void **state)
{
    (void)state;
    const char *recipe = "--method=lsq --bits=w4a4 --set=noise=0.5 --set=noise-block=3";
    Run        *whole = run_model(&interp, &small, recipe), *resumed = run_model(&interp, &small, recipe);
    for (uint32_t step = 0; step < STEPS; step++)
        train_step(whole, step, SEED);
    for (int32_t i = 0; i < whole->p->n_tensors; i++)
        if (is_kept(&whole->p->tensors[i]))
            write_tensor(resumed, whole->p->tensors[i].name, read_tensor(whole, whole->p->tensors[i].name));
    for (uint32_t step = STEPS; step < 2 * STEPS; step++) {
        train_step(whole, step, SEED);
        train_step(resumed, step, SEED);
    }
    assert_same(whole, resumed, "resumed");
    run_free(whole);
    run_free(resumed);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

typedef struct Plan {
    int64_t work, saved, params, states;
} Plan;

static Plan plan_of(const char *net, const char *backend, const char *recipe)
{
    Session       s;
    const Backend at = { backend, 0, 1 };
    open_session(&s, &at, NULL, recipe);
    s.opt.batch = 0; /* what the network asks for */
    const DtModel *model = frontend_find(&s.arena, &s.diag, net);
    assert_non_null(model);
    assert_true(session_open(&s, model));
    const Program *p = session_program(&s, STEP_TRAIN, true, NULL);
    assert_non_null(p);
    Plan plan = { p->bytes[ARENA_WORK], p->saved_bytes, p->bytes[ARENA_PARAM], p->bytes[ARENA_STATE] };
    session_backend_close(&s);
    diag_free(&s.diag);
    arena_free(&s.arena);
    return plan;
}

/* No mask is stored: work memory, what is saved for backward and what is kept are those of the run without noise. */
static void test_memory(void **state)
{
    (void)state;
    static const struct {
        const char *with, *without;
    } rows[] = {
        { "--method=quant-noise --bits=w4a4 --set=fold=off", "--method=qat --bits=w4a4 --set=fold=off" },
        { "--method=quant-noise --bits=w4a4 --set=fold=off --set=noise-block=9",
          "--method=qat --bits=w4a4 --set=fold=off" },
        { "--method=quant-noise --bits=w4a4 --set=fold=off --set=grain=channel",
          "--method=qat --bits=w4a4 --set=fold=off --set=grain=channel" },
        { "--method=lsq --bits=w4a4 --set=noise=0.5", "--method=lsq --bits=w4a4" },
    };
    static const char *const nets[] = { "mnist", "resnet20" }, *const backends[] = { "interp", "null" };
    for (int32_t i = 0; i < DT_COUNT(rows) * 4; i++) {
        const char *net = nets[i % 2], *backend = backends[i / 2 % 2];
        Plan        a = plan_of(net, backend, rows[i / 4].with), b = plan_of(net, backend, rows[i / 4].without);
        if (memcmp(&a, &b, sizeof a) != 0 || a.work <= 0 || a.saved <= 0)
            fail_msg(
                "%s, %s, %s: work %lld, saved %lld, params %lld, states %lld; without noise %lld, %lld, %lld, %lld",
                net, backend, rows[i / 4].with, (long long)a.work, (long long)a.saved, (long long)a.params,
                (long long)a.states, (long long)b.work, (long long)b.saved, (long long)b.params, (long long)b.states);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_share_over_steps),
        cmocka_unit_test(test_share_over_elements),
        cmocka_unit_test(test_independent),
        cmocka_unit_test(test_blocks_are_alike),
        cmocka_unit_test(test_everywhere),
        cmocka_unit_test(test_all_is_no_noise),
        cmocka_unit_test(test_almost_all),
        cmocka_unit_test(test_nothing_is_float),
        cmocka_unit_test(test_noise_is_seen),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("noise", tests, NULL, NULL);
}
