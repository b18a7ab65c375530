/* bench.c: `detent bench`: the time of a step, float and quantized, taken in turns in one process, with what it takes
 * of memory, of the compiler, and of what this machine could do.
 *
 * Machines are shared and change their clock, so only ratios of neighbouring steps mean anything: each round runs one
 * step of every variant (on a GPU --steps of them, in flight together), and the ratios are taken within rounds. With
 * --serve it runs a round for each line on stdin and answers with the seconds of a step: that is how bench/step puts
 * PyTorch into the same rounds.
 *
 * Tested by tests/unit/test_bench.c and test_cli.c (that it runs and reports; never that it is fast). */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Beside float, where the command line names no bits. */
static const char *const bench_widths[] = { "w8a8", "w4a4", "w2a2" };
static const char        bench_method[] = "lsq"; /* where it names no method */

const char *const        bench_mode_names[BENCH_MODES] = { "training", "evaluation" };

/* ---- One variant, on request ------------------------------------------------------------------------------------- */

static int32_t bench_kernel_launches(const Program *p)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_launches; i++)
        n += p->launches[i].kind == LAUNCH_KERNEL;
    return n;
}

/* One step for each line on stdin. */
static int bench_serve(Session *s, const BenchVariant *v, const BenchStep *x)
{
    char           line[64];
    const Program *p = x->at.program;
    fprintf(s->out,
            "ready compile_seconds=%.4f saved_bytes=%lld memory_bytes=%lld launches=%d kernels=%d planned_bytes=%lld "
            "%s; %s\n",
            x->ready_seconds, (long long)p->saved_bytes, (long long)x->memory_bytes, p->n_launches,
            bench_kernel_launches(p), (long long)p->bytes[ARENA_WORK], jit_describe(&s->arena, v->s->jit),
            v->s->lib->name);
    fflush(s->out);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        double seconds = bench_step(v, x);
        if (isnan(seconds))
            return EXIT_MISTAKE;
        fprintf(s->out, "%.7f\n", seconds);
        fflush(s->out);
    }
    return EXIT_OK;
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------ */

/* Times of launches come as totals. */
static void round_before(const BenchStep *x)
{
    for (int32_t i = 0; i < x->at.program->n_launches; i++)
        x->before[i] = exec_launch_seconds(x->at.exec, x->at.index, i);
}

static void round_after(const BenchVariant *v, const BenchStep *x, int64_t round)
{
    bool best = x->seconds[round] <= bench_min(x->seconds, round + 1);
    for (int32_t i = 0; i < x->at.program->n_launches; i++) {
        double t = (exec_launch_seconds(x->at.exec, x->at.index, i) - x->before[i]) / (double)v->steps;
        x->least[i] = round == 0 ? t : fmin(x->least[i], t);
        x->fastest[i] = best ? t : x->fastest[i];
    }
}

/* All variants once. False: reported. */
static bool bench_round(const Bench *b, BenchMode m, int64_t round)
{
    for (int32_t i = 0; i < b->n; i++) {
        const BenchStep *x = &b->v[i].step[m];
        round_before(x);
        x->seconds[round] = bench_step(&b->v[i], x);
        if (isnan(x->seconds[round]))
            return false;
        round_after(&b->v[i], x, round);
    }
    return true;
}

static bool bench_trace(const Bench *b)
{
    TraceStep *steps = ARENA_ARRAY(&b->s->arena, TraceStep, b->n * BENCH_MODES);
    int32_t    n = 0;
    for (int32_t i = 0; i < b->n; i++)
        for (int m = 0; m < BENCH_MODES; m++)
            if (b->mode[m])
                steps[n++] = (TraceStep){ b->v[i].name, bench_mode_names[m], b->v[i].step[m].at.program,
                                          b->v[i].step[m].fastest };
    return trace_write(b->s, b->s->opt.trace, steps, n);
}

/* The limits are looked for before and behind the rounds: the machine may be busy at one end. */
static int bench_rounds(Bench *b)
{
    if (!limits_of(b->v[0].s, &b->limits))
        return EXIT_MISTAKE;
    for (int m = 0; m < BENCH_MODES; m++)
        for (int64_t r = 0; r < b->s->opt.rounds && b->mode[m]; r++)
            if (!bench_round(b, (BenchMode)m, r))
                return EXIT_MISTAKE;
    for (int32_t i = 0; i < b->n && !b->s->opt.no_compile; i++)
        if (!bench_compile(b, &b->v[i]))
            return EXIT_MISTAKE;
    if (!limits_of(b->v[0].s, &b->limits) || (b->s->opt.trace != NULL && !bench_trace(b)))
        return EXIT_MISTAKE;
    if (b->s->opt.json)
        bench_print_json(b);
    else
        bench_print(b);
    return EXIT_OK;
}

/* ---- Which variants ---------------------------------------------------------------------------------------------- */

static void bench_add(Bench *b, const char *method, const char *bits)
{
    bool is_float = str_eq(method, "float");
    b->v[b->n++] = (BenchVariant){ .name = is_float ? "float" : arena_printf(&b->s->arena, "%s %s", method, bits),
                                   .method = method,
                                   .bits = is_float ? "float" : bits };
}

/* Float and what was asked for; that alone where one is wanted. */
static void bench_choose(Bench *b)
{
    const CliOptions *o = &b->s->opt;
    bool              quantized = session_needs_init(b->s), one = o->serve || o->kernels;
    b->v = ARENA_ARRAY(&b->s->arena, BenchVariant, 1 + DT_COUNT(bench_widths));
    if (!quantized || !one)
        bench_add(b, "float", "float");
    if (!quantized)
        return;
    if (one || cli_given(o, "bits"))
        bench_add(b, o->method, o->bits);
    for (int32_t i = 0; i < DT_COUNT(bench_widths) && !one && !cli_given(o, "bits"); i++)
        bench_add(b, o->method, bench_widths[i]);
}

/* What --serve and --kernels look at is one step. */
static void bench_choose_modes(Bench *b)
{
    bool one = b->s->opt.serve || b->s->opt.kernels;
    b->mode[BENCH_TRAIN] = !str_eq(b->s->opt.mode, "eval");
    b->mode[BENCH_EVAL] = str_eq(b->s->opt.mode, "eval") || (str_eq(b->s->opt.mode, "both") && !one);
}

static bool bench_options(Session *s)
{
    if (s->opt.kernels && cli_target(s->opt.backend) != cli_target("cpu")) {
        diag_error(&s->diag, LOC_NONE,
                   "--kernels: expected --backend cpu, whose plain loops kernels are held against, found %s",
                   s->opt.backend);
        diag_help(&s->diag, "on a GPU, `detent bench --profile` shows the time of each launch");
        return false;
    }
    if (cli_given(&s->opt, "step")) {
        diag_error(&s->diag, LOC_NONE, "--step: expected --mode, found --step %s: two steps can be timed", s->opt.step);
        diag_help(&s->diag, "--mode train, --mode eval, or both");
        return false;
    }
    return true;
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* Bytes that this machine can give; where nobody knows, as many as are asked for. */
static int64_t bench_room(void)
{
    FILE     *f = fopen("/proc/meminfo", "r");
    char      line[256];
    long long kib = -1;
    while (f != NULL && kib < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "MemAvailable:", strlen("MemAvailable:")) == 0)
            kib = atoll(line + strlen("MemAvailable:"));
    if (f != NULL)
        fclose(f);
    return kib >= 0 ? kib << 10 : INT64_MAX;
}

static int bench_run(Bench *b)
{
    BenchVariant *last = &b->v[b->n - 1];
    BenchStep    *x = &last->step[b->mode[BENCH_TRAIN] ? BENCH_TRAIN : BENCH_EVAL];
    for (int32_t i = 0; i < b->n; i++)
        if (!bench_open(b, &b->v[i]))
            return EXIT_MISTAKE;
    if (b->s->opt.serve)
        return bench_serve(b->s, last, x);
    if (b->s->opt.kernels) {
        bench_print_head(b);
        return bench_kernels(last->s, &x->at, x->graph);
    }
    return bench_rounds(b);
}

int command_bench(Session *s, const StrList *rest)
{
    (void)rest;
    Bench b = { .s = s, .room = bench_room() };
    if (!bench_options(s))
        return EXIT_USAGE;
    if (!cli_given(&s->opt, "method") && s->opt.recipe == NULL && !s->opt.serve)
        s->opt.method = bench_method;
    if (!session_open(s, s->model))
        return EXIT_USAGE;
    bench_choose(&b);
    bench_choose_modes(&b);
    int code = bench_run(&b);
    for (int32_t i = b.n - 1; i >= 0; i--) /* the first one has the GPU */
        bench_close(&b.v[i]);
    return code;
}
