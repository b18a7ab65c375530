/* profile.c: the launches of a program by the time that they take, with what they move and compute, and the share that
 * this is of what the machine could do (a roofline). For `detent bench --profile` and `detent train --profile`.
 *
 * Bytes: a kernel's as its cost says, a library call's operands and results, each once. Flops of a call: two for each
 * product, those with padding too. What a launch moves might lie in the last cache if that can hold it, so its limit is
 * that cache's speed, else that of memory. A share above 100 % is no mistake: small launches find all in faster caches,
 * an algorithm may save products, integer codes have faster instructions than the f32 ones that the limit is made of.
 *
 * Tested by tests/unit/test_bench.c. */
#include "cli/profile.h"

#include <math.h>
#include <stdlib.h>

/* ---- Cost -------------------------------------------------------------------------------------------------------- */

/* A gradient has the products of its convolution. */
static int64_t call_flops(const CallDesc *c)
{
    return 2 * c->n * c->oh * c->ow * c->k * (c->c / dt_max64(c->groups, 1)) * c->r * c->s;
}

static int64_t call_bytes(const Launch *l)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < l->n_bufs && l->uses != NULL; i++)
        bytes += l->uses[i].bytes * __builtin_popcount(l->uses[i].access & (ACCESS_READ | ACCESS_WRITE));
    return bytes;
}

static void row_cost(ProfileRow *r, const Program *p, const Limits *l)
{
    const KernelImage *k = r->launch->kind == LAUNCH_KERNEL ? &p->images[r->launch->image] : NULL;
    r->bytes = k != NULL ? k->bytes : call_bytes(r->launch);
    r->flops = k != NULL ? k->flops : call_flops(&r->launch->call);
    if (l->bytes_per_s <= 0 || l->flops_per_s <= 0)
        return;
    bool   cache = r->bytes <= l->cache_bytes;
    double move = (double)r->bytes / (cache ? l->cache_bytes_per_s : l->bytes_per_s);
    double compute = (double)r->flops / l->flops_per_s;
    r->bound = compute > move ? "flops" : cache ? "cache" : "memory";
    r->least = fmax(move, compute);
}

/* Ties as in the program. */
static int row_by_time(const void *x, const void *y)
{
    const ProfileRow *a = x, *b = y;
    if (a->seconds != b->seconds)
        return a->seconds > b->seconds ? -1 : 1;
    return a->index - b->index;
}

Profile profile_make(Arena *a, const Program *p, const double *seconds, const Limits *l)
{
    Profile out = { .limits = *l, .rows = ARENA_ARRAY(a, ProfileRow, p->n_launches + 1), .n = p->n_launches };
    for (int32_t i = 0; i < p->n_launches; i++) {
        ProfileRow *r = &out.rows[i];
        *r = (ProfileRow){ .launch = &p->launches[i], .index = i, .seconds = seconds[i], .bound = "-" };
        row_cost(r, p, l);
        out.seconds += r->seconds;
        out.least += r->least;
    }
    qsort(out.rows, (size_t)out.n, sizeof *out.rows, row_by_time);
    return out;
}

/* ---- Tables ------------------------------------------------------------------------------------------------------ */

/* Launches in one line. */
typedef struct ProfileSum {
    const char *name;
    int32_t     launches;
    int64_t     bytes, flops;
    double      seconds, least;
} ProfileSum;

static void sum_add(ProfileSum *s, const ProfileRow *r)
{
    s->launches++;
    s->bytes += r->bytes;
    s->flops += r->flops;
    s->seconds += r->seconds;
    s->least += r->least;
}

static double share(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* "1.5" of 1.5e9 in the time given; "-" where there was none to measure. */
static const char *rate(Arena *a, int64_t amount, double seconds)
{
    return seconds > 0 && amount > 0 ? arena_printf(a, "%.1f", 1e-9 * (double)amount / seconds) : "-";
}

static const char *of_limit(Arena *a, double least, double seconds)
{
    return seconds > 0 && least > 0 ? arena_printf(a, "%.0f %%", share(least, seconds)) : "-";
}

static const char *row_kind(const ProfileRow *r)
{
    static const char *const kernels[2][2] = { { "kernels of forward", "kernels of forward, with sums" },
                                               { "kernels of backward", "kernels of backward, with sums" } };
    const Launch            *l = r->launch;
    if (l->kind == LAUNCH_CALL)
        return call_name(l->call.kind);
    return l->conv_out > 0 ? "depthwise conv" : kernels[l->backward][l->sums];
}

/* In the order of their first launch, which is the longest. */
static int32_t sum_kinds(const Profile *p, ProfileSum *sums)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n; i++) {
        const char *name = row_kind(&p->rows[i]);
        int32_t     k = 0;
        while (k < n && !str_eq(sums[k].name, name))
            k++;
        n += k == n;
        sums[k].name = name;
        sum_add(&sums[k], &p->rows[i]);
    }
    return n;
}

/* A step is as many passes over memory as it moves bytes for each result of a convolution; "-": it has none. */
static const char *per_element(Arena *a, int64_t bytes, int64_t elems)
{
    return elems > 0 ? arena_printf(a, "%.2f", (double)bytes / (double)elems) : "-";
}

static int sum_by_time(const void *x, const void *y)
{
    const ProfileSum *a = x, *b = y;
    return a->seconds > b->seconds ? -1 : a->seconds < b->seconds;
}

static void print_kinds(Session *s, const Profile *p)
{
    Arena      *a = &s->arena;
    ProfileSum *sums = ARENA_ARRAY(a, ProfileSum, p->n + 1);
    int32_t     n = sum_kinds(p, sums);
    int64_t     elems = 0, bytes = 0;
    for (int32_t i = 0; i < p->n; i++) {
        elems += p->rows[i].launch->conv_out;
        bytes += p->rows[i].bytes;
    }
    qsort(sums, (size_t)n, sizeof *sums, sum_by_time);
    fprintf(s->out, "%11s %9s %9s %10s %7s %8s %9s %9s  %s\n", "ms/step", "share", "launches", "bytes", "B/elem",
            "GB/s", "GFLOP/s", "of limit", "kind");
    for (int32_t i = 0; i < n; i++)
        fprintf(s->out, "%11.3f %7.1f %% %9d %10s %7s %8s %9s %9s  %s\n", 1e3 * sums[i].seconds,
                share(sums[i].seconds, p->seconds), sums[i].launches, str_bytes(a, sums[i].bytes),
                per_element(a, sums[i].bytes, elems), rate(a, sums[i].bytes, sums[i].seconds),
                rate(a, sums[i].flops, sums[i].seconds), of_limit(a, sums[i].least, sums[i].seconds), sums[i].name);
    if (elems > 0)
        fprintf(s->out, "B/elem: bytes for each of the %lld results of forward convolutions, in all %s\n",
                (long long)elems, per_element(a, bytes, elems));
}

static void print_launches(Session *s, const Profile *p, int64_t most)
{
    Arena     *a = &s->arena;
    ProfileSum rest = { 0 };
    double     before = 0;
    int32_t    shown = most > 0 && most < p->n ? (int32_t)most : p->n;
    fprintf(s->out, "%11s %9s %9s %10s %8s %9s %6s %9s  %s\n", "ms/step", "share", "sum", "bytes", "GB/s", "GFLOP/s",
            "bound", "of limit", "launch");
    for (int32_t i = 0; i < shown; i++) {
        const ProfileRow *r = &p->rows[i];
        before += r->seconds;
        fprintf(s->out, "%11.3f %7.1f %% %7.1f %% %10s %8s %9s %6s %9s  %d %s\n", 1e3 * r->seconds,
                share(r->seconds, p->seconds), share(before, p->seconds), str_bytes(a, r->bytes),
                rate(a, r->bytes, r->seconds), rate(a, r->flops, r->seconds), r->bound,
                of_limit(a, r->least, r->seconds), r->index, r->launch->name);
    }
    for (int32_t i = shown; i < p->n; i++)
        sum_add(&rest, &p->rows[i]);
    if (rest.launches > 0)
        fprintf(s->out, "%11.3f %7.1f %% %7.1f %% %10s %8s %9s %6s %9s  %d others\n", 1e3 * rest.seconds,
                share(rest.seconds, p->seconds), share(before + rest.seconds, p->seconds), str_bytes(a, rest.bytes),
                rate(a, rest.bytes, rest.seconds), rate(a, rest.flops, rest.seconds), "-",
                of_limit(a, rest.least, rest.seconds), rest.launches);
}

void profile_print(Session *s, const Profile *p, int64_t most)
{
    fprintf(s->out, "\n%s: %d launches, %.2f ms a step in them (%s)\n", p->title, p->n, 1e3 * p->seconds, p->times);
    fprintf(s->out, "limits of this machine: %s", limits_text(&s->arena, &p->limits));
    if (p->least > 0)
        fprintf(s->out, "; a step at them %.2f ms", 1e3 * p->least);
    fprintf(s->out, "\n\n");
    print_kinds(s, p);
    fprintf(s->out, "\n");
    print_launches(s, p, most);
}

bool profile_steps(Session *s, const LoadedProgram *p)
{
    Limits  limits = { 0 };
    int64_t steps = exec_launch_count(p->exec, p->index);
    double *seconds = ARENA_ARRAY(&s->arena, double, p->program->n_launches + 1);
    for (int32_t i = 0; i < p->program->n_launches; i++)
        seconds[i] = exec_launch_seconds(p->exec, p->index, i) / (double)dt_max64(steps, 1);
    if (!limits_of(s, &limits))
        return false;
    Profile profile = profile_make(&s->arena, p->program, seconds, &limits);
    profile.title = p->program->name;
    profile.times = arena_printf(&s->arena, "the mean of %lld steps", (long long)steps);
    profile_print(s, &profile, 0);
    return true;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

void json_text(Str *out, const char *text)
{
    str_add(out, "\"");
    for (const char *c = text; *c != 0; c++)
        if (*c == '"' || *c == '\\')
            str_printf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ')
            str_printf(out, "\\u%04x", (unsigned char)*c);
        else
            str_addn(out, c, 1);
    str_add(out, "\"");
}

void profile_json(Str *out, const Profile *p)
{
    str_add(out, "[");
    for (int32_t i = 0; i < p->n; i++) {
        const ProfileRow *r = &p->rows[i];
        str_printf(out, "%s{\"launch\": %d, \"name\": ", i > 0 ? ",\n    " : "", r->index);
        json_text(out, r->launch->name);
        str_add(out, ", \"kind\": ");
        json_text(out, row_kind(r));
        str_printf(out, ", \"backward\": %s, \"seconds\": %.9f, \"share\": %.6f, \"bytes\": %lld, \"flops\": %lld",
                   r->launch->backward ? "true" : "false", r->seconds, share(r->seconds, p->seconds) / 100,
                   (long long)r->bytes, (long long)r->flops);
        if (r->least > 0)
            str_printf(out, ", \"bound\": \"%s\", \"limit_seconds\": %.9f", r->bound, r->least);
        str_add(out, "}");
    }
    str_add(out, "]");
}
