/* bench_print.c: what `detent bench` found, as a table for people and as JSON for programs.
 *
 * Ratios are taken within rounds, and their median is shown. The limit of a step is the sum over its launches of what
 * each would take at the speed of memory or of arithmetic (profile.c).
 *
 * Tested by tests/unit/test_bench.c and test_cli.c. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

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

/* Of this variant's steps to those of the first. */
static double bench_ratio(const Bench *b, const BenchVariant *v, BenchMode m)
{
    int64_t rounds = b->s->opt.rounds;
    double *ratio = ARENA_ARRAY(&b->s->arena, double, rounds);
    for (int64_t r = 0; r < rounds; r++)
        ratio[r] = v->step[m].seconds[r] / b->v[0].step[m].seconds[r];
    return bench_median(&b->s->arena, ratio, rounds);
}

/* Seconds of a step at the limits; 0: they are not known. */
static double bench_limit(const Bench *b, const BenchStep *x)
{
    return profile_make(&b->s->arena, x->at.program, x->least, &b->limits).least;
}

/* A step's profile: each launch's least time of all rounds. */
static Profile bench_profile(const Bench *b, const BenchVariant *v, BenchMode m)
{
    const BenchStep *x = &v->step[m];
    Profile          p = profile_make(&b->s->arena, x->at.program, x->least, &b->limits);
    p.title = arena_printf(&b->s->arena, "%s, %s", v->name, bench_mode_names[m]);
    p.times = arena_printf(&b->s->arena, "each launch at its least of %lld rounds", (long long)b->s->opt.rounds);
    return p;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static const char *seconds_or_dash(Arena *a, double x)
{
    return isnan(x) ? "-" : arena_printf(a, "%.2f", x);
}

static const char *share_or_dash(Arena *a, double part, double whole)
{
    return part > 0 ? arena_printf(a, "%.0f %%", 100 * part / whole) : "-";
}

static void print_row(const Bench *b, const BenchVariant *v, BenchMode m)
{
    Arena           *a = &b->s->arena;
    const BenchStep *x = &v->step[m];
    int64_t          rounds = b->s->opt.rounds;
    double           median = bench_median(a, x->seconds, rounds), limit = bench_limit(b, x);
    fprintf(b->s->out, "%-16s %9.2f %10.2f %9.0f %8.3f %10s %10s %8s %8s %9s\n", v->name,
            1e3 * bench_min(x->seconds, rounds), 1e3 * median, (double)x->batch / median, bench_ratio(b, v, m),
            str_bytes(a, x->memory_bytes), m == BENCH_TRAIN ? str_bytes(a, x->at.program->saved_bytes) : "-",
            seconds_or_dash(a, x->cold), seconds_or_dash(a, x->cached), share_or_dash(a, limit, median));
}

static void print_mode(const Bench *b, BenchMode m)
{
    FILE *out = b->s->out;
    fprintf(out, "\n%s, batch %lld\n%-16s %9s %10s %9s %8s %10s %10s %8s %8s %9s\n", bench_mode_names[m],
            (long long)b->v[0].step[m].batch, "variant", "min ms", "median ms", "images/s",
            arena_printf(&b->s->arena, "/ %s", b->v[0].name), "planned", "saved", "cold s", "cached s", "of limit");
    for (int32_t i = 0; i < b->n; i++)
        print_row(b, &b->v[i], m);
}

static void print_notes(const Bench *b)
{
    FILE *out = b->s->out;
    fprintf(out,
            "\n/ %s: median of the ratios within rounds. planned: all that the step allocates; saved: of it, what "
            "backward reads.\ncold, cached: seconds of the compiler, without and with its disk cache. of limit: what "
            "the median would be if each\nlaunch took no longer than its bytes or its flops do at the limits of this "
            "machine:\n%s.\n",
            b->v[0].name, limits_text(&b->s->arena, &b->limits));
    if (b->v[0].s->gpu != NULL && b->v[0].s->opt.profile)
        fprintf(out,
                "these are plain launches, each timed, and not the graph that training runs (--profile, --trace)\n");
}

void bench_print_head(const Bench *b)
{
    const Session *v = b->v[0].s;
    fprintf(b->s->out, "%s, %d thread%s, %lld rounds in turns\n%s; %s\n", b->s->model->name, exec_threads(v->exec),
            exec_threads(v->exec) == 1 ? "" : "s", (long long)b->s->opt.rounds, jit_describe(&b->s->arena, v->jit),
            v->lib->name);
}

void bench_print(const Bench *b)
{
    bench_print_head(b);
    for (int m = 0; m < BENCH_MODES; m++)
        if (b->mode[m])
            print_mode(b, (BenchMode)m);
    print_notes(b);
    for (int m = 0; m < BENCH_MODES && b->s->opt.profile; m++)
        for (int32_t i = 0; i < b->n && b->mode[m]; i++) {
            Profile p = bench_profile(b, &b->v[i], (BenchMode)m);
            profile_print(b->s, &p, b->s->opt.launches);
        }
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void json_number(Str *out, const char *key, double x)
{
    str_printf(out, ", \"%s\": ", key);
    if (isnan(x))
        str_add(out, "null");
    else
        str_printf(out, "%.9f", x);
}

static void json_variant(const Bench *b, const BenchVariant *v, BenchMode m, Str *out)
{
    const BenchStep *x = &v->step[m];
    const Program   *p = x->at.program;
    double           limit = bench_limit(b, x);
    str_add(out, "{\"variant\": ");
    json_text(out, v->name);
    json_number(out, "median_seconds", bench_median(out->arena, x->seconds, b->s->opt.rounds));
    json_number(out, "min_seconds", bench_min(x->seconds, b->s->opt.rounds));
    json_number(out, "ratio", bench_ratio(b, v, m));
    str_printf(out, ", \"memory_bytes\": %lld, \"saved_bytes\": %lld, \"launches\": %d", (long long)x->memory_bytes,
               (long long)(m == BENCH_TRAIN ? p->saved_bytes : 0), p->n_launches);
    json_number(out, "compile_cold_seconds", x->cold);
    json_number(out, "compile_cached_seconds", x->cached);
    json_number(out, "limit_seconds", limit > 0 ? limit : (double)NAN);
    str_add(out, ",\n    \"seconds\": [");
    for (int64_t r = 0; r < b->s->opt.rounds; r++)
        str_printf(out, "%s%.7f", r > 0 ? ", " : "", x->seconds[r]);
    str_add(out, "]");
    if (b->s->opt.profile) {
        Profile profile = bench_profile(b, v, m);
        str_add(out, ",\n    \"profile\": ");
        profile_json(out, &profile);
    }
    str_add(out, "}");
}

static void json_head(const Bench *b, Str *out)
{
    const Session *v = b->v[0].s;
    str_add(out, "{\"net\": ");
    json_text(out, b->s->model->name);
    str_add(out, ", \"backend\": ");
    json_text(out, b->s->opt.backend);
    str_printf(out, ", \"threads\": %d, \"rounds\": %lld, \"compiler\": ", exec_threads(v->exec),
               (long long)b->s->opt.rounds);
    json_text(out, jit_describe(out->arena, v->jit));
    str_add(out, ", \"library\": ");
    json_text(out, v->lib->name);
    if (b->limits.bytes_per_s > 0)
        str_printf(
            out,
            ",\n \"limits\": {\"bytes_per_second\": %.6g, \"cache_bytes_per_second\": %.6g, \"cache_bytes\": %lld, "
            "\"flops_per_second\": %.6g, \"vectors\": \"%s\"}",
            b->limits.bytes_per_s, b->limits.cache_bytes_per_s, (long long)b->limits.cache_bytes, b->limits.flops_per_s,
            b->limits.vectors);
    else
        str_add(out, ",\n \"limits\": null");
}

void bench_print_json(const Bench *b)
{
    Str  out = str_new(&b->s->arena);
    bool any = false;
    json_head(b, &out);
    str_add(&out, ",\n \"modes\": [");
    for (int m = 0; m < BENCH_MODES; m++) {
        if (!b->mode[m])
            continue;
        str_printf(&out, "%s\n  {\"mode\": \"%s\", \"batch\": %lld, \"variants\": [", any ? "," : "",
                   bench_mode_names[m], (long long)b->v[0].step[m].batch);
        for (int32_t i = 0; i < b->n; i++) {
            str_add(&out, i > 0 ? ",\n   " : "\n   ");
            json_variant(b, &b->v[i], (BenchMode)m, &out);
        }
        str_add(&out, "]}");
        any = true;
    }
    str_add(&out, "]}\n");
    fputs(out.s, b->s->out);
}
