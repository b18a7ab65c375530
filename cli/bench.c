/* bench.c: `detent bench`: the time of a training step, float and quantized, taken in turns in one process.
 *
 * Machines are shared and change their clock, so only ratios of neighbouring steps mean anything: each round runs one
 * step of every variant (on a GPU --steps of them, in flight together), and the ratios are taken within rounds. With
 * --serve it runs a round for each line on stdin and answers with the seconds of a step: that is how bench/step puts
 * PyTorch into the same rounds.
 *
 * Tested by tests/unit/test_cli.c (that it runs and reports; never that it is fast). */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BENCH_WARMUP = 3 };

typedef struct BenchVariant {
    const char   *name;
    Session      *s;
    Graph        *graph;
    LoadedProgram train;
    double       *seconds; /* by round */
    double        compile_seconds;
    int64_t       memory_bytes, steps; /* of a round */
} BenchVariant;

/* The same images, labels and rates for every variant; first weights from the seed. */
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

/* A variant of the session's network under another recipe, on `gpu` where there is one open. */
static bool bench_open(BenchVariant *v, const Session *like, Gpu *gpu, const char *method, const char *bits)
{
    v->s = ARENA_NEW((Arena *)&like->arena, Session);
    *v->s = (Session){ .arena = arena_new("variant"), .diag = diag_new(stderr), .opt = like->opt, .out = like->out };
    v->s->opt.profile = like->opt.kernels;
    v->steps = like->opt.steps > 0 ? like->opt.steps : cli_target(like->opt.backend) == cli_target("cpu") ? 1 : 20;
    v->s->gpu = gpu;
    v->s->gpu_borrowed = gpu != NULL;
    v->s->opt.method = method;
    v->s->opt.bits = bits;
    if (str_eq(method, "float")) { /* what is said of quantizers is not said of it */
        v->s->opt.layers = v->s->opt.settings = (StrList){ 0 };
        v->s->opt.epochs = dt_max64(v->s->opt.epochs, 1);
    }
    if (!session_open(v->s, like->model))
        return false;
    double   start = time_now_s();
    Program *p = session_program(v->s, STEP_TRAIN, true, &v->graph);
    v->memory_bytes = p != NULL ? exec_memory_needed(v->s->exec, p) : 0;
    int32_t index = p != NULL && session_fits(v->s, STEP_TRAIN, p) ? exec_add(v->s->exec, p) : -1;
    v->train = (LoadedProgram){ v->s->exec, index >= 0 ? p : NULL, index };
    v->compile_seconds = time_now_s() - start;
    if (v->train.program == NULL || !program_init(&v->s->diag, v->train, v->s->opt.seed))
        return false;
    if (session_needs_init(v->s)) {
        LoadedProgram init = session_load(v->s, STEP_INIT);
        if (init.program == NULL)
            return false;
        bench_fill(&init, v->s, false);
        if (!exec_run(init.exec, init.index))
            return false;
    }
    for (int i = 0; i < BENCH_WARMUP; i++) { /* staging buffers take turns: afterwards each holds the batch */
        bench_fill(&v->train, v->s, true);
        if (exec_submit(v->train.exec, v->train.index) < 0)
            return false;
    }
    return true;
}

static void bench_close(BenchVariant *v)
{
    if (v->s != NULL)
        session_close(v->s);
}

/* Seconds of a step, over some that are not waited for one by one: that is how training runs on a GPU. NAN: reported.
 */
static double bench_step(const BenchVariant *v)
{
    const ProgTensor *loss = program_tensor(v->train.program, "loss");
    double            start = time_now_s();
    int64_t           last = -1;
    for (int64_t i = 0; i < v->steps; i++)
        last = exec_submit(v->train.exec, v->train.index);
    bool done = last >= 0 && exec_output(v->train.exec, v->train.index, loss, last) != NULL;
    return done ? (time_now_s() - start) / (double)v->steps : (double)NAN;
}

static int bench_by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

double bench_median(Arena *a, const double *x, int64_t n)
{
    double *sorted = arena_copy(a, x, sizeof(double) * (size_t)n);
    qsort(sorted, (size_t)n, sizeof(double), bench_by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double bench_min(const double *x, int64_t n)
{
    double m = x[0];
    for (int64_t i = 1; i < n; i++)
        m = x[i] < m ? x[i] : m;
    return m;
}

static void bench_print(Session *s, const BenchVariant *v, int32_t n)
{
    Arena  *a = &s->arena;
    int64_t rounds = s->opt.rounds;
    double *ratio = ARENA_ARRAY(a, double, rounds);
    fprintf(s->out, "%-16s %10s %10s %10s %10s %12s %10s %10s %10s\n", "variant", "min ms", "median ms", "images/s",
            "/ float", "(min ratio)", "saved", "memory", "compile s");
    for (int32_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < rounds; r++)
            ratio[r] = v[i].seconds[r] / v[0].seconds[r];
        double median = bench_median(a, v[i].seconds, rounds);
        fprintf(s->out, "%-16s %10.2f %10.2f %10.0f %10.3f %12.3f %10s %10s %10.2f\n", v[i].name,
                1e3 * bench_min(v[i].seconds, rounds), 1e3 * median, (double)s->opt.batch / median,
                bench_median(a, ratio, rounds), bench_min(ratio, rounds), str_bytes(a, v[i].train.program->saved_bytes),
                str_bytes(a, v[i].memory_bytes), v[i].compile_seconds);
    }
}

static void bench_print_json(Session *s, const BenchVariant *v, int32_t n)
{
    fprintf(s->out, "[");
    for (int32_t i = 0; i < n; i++) {
        fprintf(s->out,
                "%s{\"variant\": \"%s\", \"compile_seconds\": %.4f, \"saved_bytes\": %lld, \"memory_bytes\": %lld, "
                "\"launches\": %d, \"seconds\": [",
                i > 0 ? ",\n " : "", v[i].name, v[i].compile_seconds, (long long)v[i].train.program->saved_bytes,
                (long long)v[i].memory_bytes, v[i].train.program->n_launches);
        for (int64_t r = 0; r < s->opt.rounds; r++)
            fprintf(s->out, "%s%.6f", r > 0 ? ", " : "", v[i].seconds[r]);
        fprintf(s->out, "]}");
    }
    fprintf(s->out, "]\n");
}

static int32_t bench_kernel_launches(const Program *p)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_launches; i++)
        n += p->launches[i].kind == LAUNCH_KERNEL;
    return n;
}

/* One step for each line on stdin. */
static int bench_serve(Session *s, BenchVariant *v)
{
    char           line[64];
    const Program *p = v->train.program;
    fprintf(s->out,
            "ready compile_seconds=%.4f saved_bytes=%lld memory_bytes=%lld launches=%d kernels=%d planned_bytes=%lld "
            "%s; %s\n",
            v->compile_seconds, (long long)p->saved_bytes, (long long)v->memory_bytes, p->n_launches,
            bench_kernel_launches(p), (long long)p->bytes[ARENA_WORK], jit_describe(&s->arena, v->s->jit),
            v->s->lib->name);
    fflush(s->out);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        double seconds = bench_step(v);
        if (isnan(seconds))
            return EXIT_MISTAKE;
        fprintf(s->out, "%.7f\n", seconds);
        fflush(s->out);
    }
    return EXIT_OK;
}

static int bench_rounds(Session *s, BenchVariant *v, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        v[i].seconds = ARENA_ARRAY(&s->arena, double, s->opt.rounds);
    for (int64_t r = 0; r < s->opt.rounds; r++)
        for (int32_t i = 0; i < n; i++) {
            v[i].seconds[r] = bench_step(&v[i]);
            if (isnan(v[i].seconds[r]))
                return EXIT_MISTAKE;
        }
    if (s->opt.json) {
        bench_print_json(s, v, n);
        return EXIT_OK;
    }
    fprintf(s->out, "%s, batch %lld, %d threads, %lld rounds in turns\n%s; %s\n", s->model->name,
            (long long)s->opt.batch, exec_threads(v[0].train.exec), (long long)s->opt.rounds,
            jit_describe(&s->arena, v[0].s->jit), v[0].s->lib->name);
    bench_print(s, v, n);
    return s->opt.kernels ? bench_kernels(v[n - 1].s, &v[n - 1].train, v[n - 1].graph) : EXIT_OK;
}

int command_bench(Session *s, const StrList *rest)
{
    (void)rest;
    BenchVariant v[2] = { 0 };
    bool         quantized = session_needs_init(s);
    int32_t      n = 0;
    int          code = EXIT_MISTAKE;
    if (s->opt.kernels && cli_target(s->opt.backend) != cli_target("cpu")) {
        diag_error(&s->diag, LOC_NONE,
                   "--kernels: expected --backend cpu, whose plain loops kernels are held against, found %s",
                   s->opt.backend);
        diag_help(&s->diag, "on a GPU, `detent train --profile` shows the time of each launch");
        return EXIT_USAGE;
    }
    if (s->opt.serve || !quantized) {
        v[n++].name = s->recipe.method;
        if (bench_open(&v[0], s, NULL, s->opt.method, s->opt.bits))
            code = s->opt.serve ? bench_serve(s, &v[0]) : bench_rounds(s, v, n);
    } else if (s->opt.kernels) {
        v[n++].name = arena_printf(&s->arena, "%s %s", s->opt.method, s->opt.bits);
        if (bench_open(&v[0], s, NULL, s->opt.method, s->opt.bits))
            code = bench_rounds(s, v, n);
    } else {
        v[0].name = "float";
        v[1].name = arena_printf(&s->arena, "%s %s", s->opt.method, s->opt.bits);
        n = 2;
        if (bench_open(&v[0], s, NULL, "float", "float") &&
            bench_open(&v[1], s, v[0].s->gpu, s->opt.method, s->opt.bits))
            code = bench_rounds(s, v, n);
    }
    for (int32_t i = n - 1; i >= 0; i--) /* the first one has the GPU */
        bench_close(&v[i]);
    return code;
}
