/* bench_variant.c: one variant of `detent bench`: the network under a recipe, its steps in memory and filled with data,
 * a step of it, and the time that the compiler takes for it.
 *
 * Every variant has the same images, labels and rates, and first weights from the seed. What the compiler takes is
 * measured in sessions of their own, which allocate nothing: once without the disk cache, once with the one that
 * opening the variant has filled.
 *
 * Tested by tests/unit/test_bench.c and test_cli.c. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BENCH_WARMUP = 3 };

static const StepKind bench_kinds[BENCH_MODES] = { STEP_TRAIN, STEP_EVAL };

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

/* A session of the variant's recipe with a cache of this kind. False: reported; it is closed all the same. */
static bool variant_session(Bench *b, const BenchVariant *v, const char *cache, Session *out)
{
    const Session *like = b->s;
    Gpu           *gpu = b->v[0].s != NULL ? b->v[0].s->gpu : NULL;
    *out = (Session){ .arena = arena_new("variant"),
                      .diag = diag_new(stderr),
                      .opt = like->opt,
                      .program = like->program,
                      .gpu = gpu,
                      .gpu_borrowed = gpu != NULL,
                      .forward = v->s != NULL ? v->s->forward : NULL,
                      .out = like->out };
    out->opt.profile = like->opt.profile || like->opt.trace != NULL || like->opt.kernels;
    out->opt.cache = cache;
    out->opt.method = v->method;
    out->opt.bits = v->bits;
    if (str_eq(v->method, "float")) { /* what is said of quantizers is not said of it */
        out->opt.layers = out->opt.settings = (StrList){ 0 };
        out->opt.epochs = dt_max64(out->opt.epochs, 1);
    }
    return session_open(out, like->model);
}

/* ---- Data -------------------------------------------------------------------------------------------------------- */

static void bench_fill(const LoadedProgram *p, const Session *s, bool submit)
{
    for (int32_t i = 0; i < p->program->n_tensors; i++) {
        const ProgTensor *t = &p->program->tensors[i];
        if (t->kind != TENSOR_INPUT)
            continue;
        void *at = submit ? exec_input(p->exec, p->index, t) : exec_ptr(p->exec, p->index, t);
        for (int64_t j = 0; j < t->elems; j++) {
            if (str_eq(t->name, "lr"))
                ((float *)at)[j] = 0.01f;
            else if (t->dtype == DTYPE_F32)
                ((float *)at)[j] = rng_normal(s->opt.seed, 1, 0, (uint64_t)j);
            else if (t->dtype == DTYPE_I32)
                ((int32_t *)at)[j] =
                    (int32_t)(rng_u32(s->opt.seed, 2, 0, (uint64_t)j) % (uint32_t)dt_max64(s->model->classes, 1));
            else
                ((uint32_t *)at)[j] = 1;
        }
    }
}

/* First step sizes. */
static bool bench_init(Session *s)
{
    if (!session_needs_init(s))
        return true;
    LoadedProgram init = session_load(s, STEP_INIT);
    if (init.program == NULL)
        return false;
    bench_fill(&init, s, false);
    return exec_run(init.exec, init.index);
}

static bool bench_warm(const Session *s, const LoadedProgram *p)
{
    for (int i = 0; i < BENCH_WARMUP; i++) { /* staging buffers take turns: afterwards each holds the batch */
        bench_fill(p, s, true);
        if (exec_submit(p->exec, p->index) < 0)
            return false;
    }
    return true;
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

/* The host gives memory to whoever asks and ends who uses it. Variants are in memory together. */
static bool bench_fits(Bench *b, const BenchVariant *v, const Session *s)
{
    const Program *list[BENCH_MODES];
    int32_t        n = 0;
    for (int m = 0; m < BENCH_MODES; m++)
        if (v->step[m].at.program != NULL)
            list[n++] = v->step[m].at.program;
    int64_t needed = exec_memory_needed_by(s->exec, list, n);
    if (s->gpu != NULL || needed <= b->room) { /* of a GPU, session_fits says it */
        b->room -= needed;
        return true;
    }
    diag_error(&b->s->diag, LOC_NONE, "memory: %s needs %s beside the variants before it, %s can be had", v->name,
               str_bytes(&b->s->arena, needed), str_bytes(&b->s->arena, dt_max64(b->room, 0)));
    diag_help(&b->s->diag, "a smaller --batch, or fewer variants: --bits w4a4 times float and that one, --mode train "
                           "or eval one of the two steps");
    return false;
}

static bool step_compile(Session *s, BenchMode m, BenchStep *x)
{
    double start = time_now_s();
    Graph *g;
    x->at.program = session_program(s, bench_kinds[m], true, &g);
    if (x->at.program == NULL)
        return false;
    (void)session_sized(s, bench_kinds[m], &x->batch);
    x->graph = g;
    x->memory_bytes = exec_memory_needed(s->exec, x->at.program);
    x->ready_seconds = time_now_s() - start;
    x->cold = x->cached = (double)NAN;
    return true;
}

static bool step_load(Session *s, BenchMode m, BenchStep *x)
{
    double   start = time_now_s();
    Program *p = (Program *)(uintptr_t)x->at.program; /* made by step_compile */
    int32_t  n = p->n_launches + 1;
    x->at.exec = s->exec;
    x->at.index = session_fits(s, bench_kinds[m], p) ? exec_add(s->exec, p) : -1;
    x->ready_seconds += time_now_s() - start;
    x->seconds = ARENA_ARRAY(&s->arena, double, s->opt.rounds);
    x->before = ARENA_ARRAY(&s->arena, double, n);
    x->least = ARENA_ARRAY(&s->arena, double, n);
    x->fastest = ARENA_ARRAY(&s->arena, double, n);
    return x->at.index >= 0;
}

/* The first program has all params and states; it is added, and gets first values, before the others. */
bool bench_open(Bench *b, BenchVariant *v)
{
    Session *s = ARENA_NEW(&b->s->arena, Session);
    bool     ok = variant_session(b, v, b->s->opt.cache, s), first = true;
    v->s = s;
    v->steps = s->opt.steps > 0 ? s->opt.steps : cli_target(s->opt.backend) == cli_target("cpu") ? 1 : 20;
    for (int m = 0; m < BENCH_MODES && ok; m++)
        ok = !b->mode[m] || step_compile(s, (BenchMode)m, &v->step[m]);
    ok = ok && bench_fits(b, v, s);
    for (int m = 0; m < BENCH_MODES && ok; m++) {
        if (!b->mode[m])
            continue;
        ok = step_load(s, (BenchMode)m, &v->step[m]);
        ok = ok && (!first || (program_init(&s->diag, v->step[m].at, s->opt.seed) && bench_init(s)));
        ok = ok && bench_warm(s, &v->step[m].at);
        first = false;
    }
    return ok;
}

void bench_close(BenchVariant *v)
{
    if (v->s != NULL)
        session_close(v->s);
}

/* ---- A step ------------------------------------------------------------------------------------------------------ */

/* What is waited for: the loss, where there is one. */
static const ProgTensor *step_output(const Program *p)
{
    const ProgTensor *loss = program_tensor(p, "loss");
    for (int32_t i = 0; i < p->n_tensors && loss == NULL; i++)
        if (p->tensors[i].kind == TENSOR_OUTPUT)
            loss = &p->tensors[i];
    return loss;
}

/* Some that are not waited for one by one: that is how training runs on a GPU. */
double bench_step(const BenchVariant *v, const BenchStep *x)
{
    const ProgTensor *out = step_output(x->at.program);
    double            start = time_now_s();
    int64_t           last = -1;
    for (int64_t i = 0; i < v->steps; i++)
        last = exec_submit(x->at.exec, x->at.index);
    bool done = last >= 0 && exec_output(x->at.exec, x->at.index, out, last) != NULL;
    return done ? (time_now_s() - start) / (double)v->steps : (double)NAN;
}

/* ---- The compiler ------------------------------------------------------------------------------------------------ */

/* From the network's source to a program that can be loaded. `hit`: all of it came from the cache. */
static bool compile_seconds(Bench *b, const BenchVariant *v, BenchMode m, const char *cache, double *seconds, bool *hit)
{
    Session s;
    bool    ok = variant_session(b, v, cache, &s) && session_backend(&s, true);
    double  start = time_now_s();
    ok = ok && session_program(&s, bench_kinds[m], true, NULL) != NULL;
    *seconds = time_now_s() - start;
    if (ok) {
        JitStats stats = jit_stats(s.jit);
        *hit = stats.distinct > 0 && stats.cached == stats.distinct;
    }
    session_close(&s);
    return ok;
}

bool bench_compile(Bench *b, BenchVariant *v)
{
    for (int m = 0; m < BENCH_MODES; m++) {
        BenchStep *x = &v->step[m];
        bool       hit = false, cold_hit;
        if (!b->mode[m])
            continue;
        if (!compile_seconds(b, v, (BenchMode)m, "off", &x->cold, &cold_hit))
            return false;
        if (!str_eq(b->s->opt.cache, "off") && !compile_seconds(b, v, (BenchMode)m, b->s->opt.cache, &x->cached, &hit))
            return false;
        x->cached = hit ? x->cached : (double)NAN;
    }
    return true;
}
