/* bench_kernels.c: `detent bench --kernels`: each generated kernel of a training step beside a plain C loop that moves
 * the same bytes: as many input streams as the kernel reads per byte written, added up; or a bare sum where it only
 * reduces. Both run in each round, so a ratio of 1 means that the kernel costs what its memory traffic costs.
 *
 * A kernel finds in the cache what the launch before it left there; the loop's second run is timed, on the same few
 * arrays, so small sizes are in the cache for both. Tested by tests/unit/test_cli.c (that it runs). */
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

enum { LOOP_MAX_STREAMS = 6, LOOP_SMALL_BYTES = 1 << 20, LOOP_POOL_BYTES = 256 << 20 };

typedef struct PlainLoop {
    float  *mem;
    int64_t elems; /* of mem */
    int64_t next;  /* where the next loop begins */
} PlainLoop;

/* y = x0 + ... + xk-1, each of n floats; the first stream may be what is written over. */
static void loop_streams(float *restrict y, const float *restrict x, int64_t n, int streams)
{
#define STREAMS_(k, sum)                                                                                               \
    case k:                                                                                                            \
        _Pragma("omp parallel for simd schedule(static)") for (int64_t i = 0; i < n; i++) y[i] = (sum);                \
        break;
    switch (streams) {
        STREAMS_(1, x[i])
        STREAMS_(2, x[i] + x[n + i])
        STREAMS_(3, x[i] + x[n + i] + x[2 * n + i])
        STREAMS_(4, x[i] + x[n + i] + x[2 * n + i] + x[3 * n + i])
        STREAMS_(5, x[i] + x[n + i] + x[2 * n + i] + x[3 * n + i] + x[4 * n + i])
    default:
        STREAMS_(6, x[i] + x[n + i] + x[2 * n + i] + x[3 * n + i] + x[4 * n + i] + x[5 * n + i])
    }
#undef STREAMS_
}

static float loop_sum(const float *x, int64_t n)
{
    float s = 0;
#pragma omp parallel for simd reduction(+ : s) schedule(static)
    for (int64_t i = 0; i < n; i++)
        s += x[i];
    return s;
}

/* Elements that the loop for this traffic touches. */
static int64_t loop_elems(KCost cost, int *streams)
{
    int64_t read = cost.bytes_read / 4, written = cost.bytes_written / 4;
    int64_t ratio = written > 0 ? (read + written / 2) / written : LOOP_MAX_STREAMS + 1;
    *streams = (int)dt_min64(dt_max64(ratio, 1), LOOP_MAX_STREAMS + 1);
    return *streams > LOOP_MAX_STREAMS ? read : (*streams + 1) * written;
}

static double loop_seconds(PlainLoop *l, KCost cost)
{
    int            streams;
    int64_t        elems = loop_elems(cost, &streams), written = cost.bytes_written / 4;
    bool           small = elems * 4 <= LOOP_SMALL_BYTES;
    volatile float sink = 0;
    double         start = 0;
    if (l->next + elems > l->elems)
        l->next = 0;
    float *mem = l->mem + (small ? 0 : l->next);
    for (int run = small ? 0 : 1; run < 2; run++) {
        start = time_now_s();
        if (streams > LOOP_MAX_STREAMS)
            sink = loop_sum(mem, elems);
        else
            loop_streams(mem, mem + written, written, streams);
    }
    (void)sink;
    double seconds = time_now_s() - start;
    l->next += small ? 0 : elems;
    return seconds;
}

/* One row: all launches of one kernel text. */
typedef struct KernelRow {
    const Group *group;
    KCost        cost;
    int32_t      first, launches;
    double      *ratio; /* by round */
    double       ms;    /* a step, summed over rounds */
} KernelRow;

static int row_by_time(const void *x, const void *y)
{
    const KernelRow *a = x, *b = y;
    return a->ms > b->ms ? -1 : a->ms < b->ms;
}

static int32_t kernel_rows(Session *s, const Graph *g, KernelRow *rows)
{
    int32_t  n = 0;
    Hash128 *hash = ARENA_ARRAY(&s->arena, Hash128, g->groups.len);
    for (int32_t k = 0; k < g->groups.len; k++) {
        const Group *group = &g->groups.at[k];
        if (group->kernel == NULL)
            continue;
        Hash128 h = kernel_hash(group->kernel);
        int32_t i = 0;
        while (i < n && (hash[i].lo != h.lo || hash[i].hi != h.hi))
            i++;
        if (i == n) {
            rows[n] = (KernelRow){ .group = group, .cost = kernel_cost(group->kernel), .first = k };
            rows[n].ratio = ARENA_ARRAY(&s->arena, double, s->opt.rounds);
            hash[n++] = h;
        }
        rows[i].launches++;
    }
    return n;
}

int bench_kernels(Session *s, const LoadedProgram *p, const Graph *g)
{
    KernelRow *rows = ARENA_ARRAY(&s->arena, KernelRow, g->groups.len + 1);
    double    *before = ARENA_ARRAY(&s->arena, double, g->groups.len + 1);
    int32_t    n = kernel_rows(s, g, rows);
    PlainLoop  loop = { .elems = LOOP_POOL_BYTES / 4 };
    for (int32_t i = 0; i < n; i++) {
        int streams;
        loop.elems = dt_max64(loop.elems, loop_elems(rows[i].cost, &streams));
    }
    loop.mem = malloc((size_t)loop.elems * sizeof(float));
    if (loop.mem != NULL)
        for (int64_t i = 0; i < loop.elems; i++)
            loop.mem[i] = 1.0f; /* pages of its own */
    if (loop.mem == NULL) {
        diag_error(&s->diag, LOC_NONE, "bench: no memory for a plain loop over %s",
                   str_bytes(&s->arena, loop.elems * 4));
        return EXIT_MISTAKE;
    }
    for (int64_t r = 0; r < s->opt.rounds; r++) {
        for (int32_t i = 0; i < n; i++)
            before[i] = exec_launch_seconds(p->exec, p->index, rows[i].first);
        if (!exec_run(p->exec, p->index))
            return EXIT_MISTAKE;
        for (int32_t i = 0; i < n; i++) {
            double t = exec_launch_seconds(p->exec, p->index, rows[i].first) - before[i];
            rows[i].ms += 1e3 * t / (double)s->opt.rounds * rows[i].launches;
            rows[i].ratio[r] = t / loop_seconds(&loop, rows[i].cost);
        }
    }
    qsort(rows, (size_t)n, sizeof(*rows), row_by_time);
    fprintf(s->out, "\n%9s %9s %10s %10s %8s %8s  %s\n", "ms/step", "launches", "read", "written", "/ loop", "min",
            "kernel");
    for (int32_t i = 0; i < n; i++)
        fprintf(s->out, "%9.3f %9d %10s %10s %8.2f %8.2f  %s\n", rows[i].ms, rows[i].launches,
                str_bytes(&s->arena, rows[i].cost.bytes_read), str_bytes(&s->arena, rows[i].cost.bytes_written),
                bench_median(&s->arena, rows[i].ratio, s->opt.rounds), bench_min(rows[i].ratio, s->opt.rounds),
                rows[i].group->name);
    free(loop.mem);
    return EXIT_OK;
}
