/* conv.c: time and rate of the library calls of ResNet-20 (CIFAR-10) and of a small MNIST net.
 *
 *   bench-conv [--batch=128] [--threads=0] [--rounds=9]
 *
 * All calls take turns, round by round, so that a slow moment of the machine hits them alike; the least and the median
 * time are shown. Only ratios within one run mean anything on a shared machine. */
#include <stdlib.h>

#include "runtime/program.h"

typedef struct Args {
    int64_t batch, threads, rounds;
} Args;

/* clang-format off */
static const OptDef options[] = {
    { OPT_INT, "batch",   "N", NULL, "128", 1, 65536, offsetof(Args, batch),   "Images in a batch." },
    { OPT_INT, "threads", "N", NULL, "0",   0, 1024,  offsetof(Args, threads), "Threads; 0: what OpenMP says." },
    { OPT_INT, "rounds",  "N", NULL, "9",   1, 1000,  offsetof(Args, rounds),  "Rounds over all calls." },
};

/* times: how often the network has this layer; r 0: a linear layer c -> k. */
static const struct Layer {
    const char *name;
    int64_t     times, c, hw, k, r, stride, pad;
} layers[] = {
    { "resnet20 stem",      1,    3, 32,  16, 3, 1, 1 },
    { "resnet20 s0",        6,   16, 32,  16, 3, 1, 1 },
    { "resnet20 s1.b0",     1,   16, 32,  32, 3, 2, 1 },
    { "resnet20 s1",        5,   32, 16,  32, 3, 1, 1 },
    { "resnet20 s2.b0",     1,   32, 16,  64, 3, 2, 1 },
    { "resnet20 s2",        5,   64,  8,  64, 3, 1, 1 },
    { "resnet20 head",      1,   64,  1,  10, 0, 1, 0 },
    { "mnist conv1",        1,    1, 28,  32, 3, 1, 0 },
    { "mnist conv2",        1,   32, 26,  64, 3, 1, 0 },
    { "mnist fc1",          1, 9216,  1, 128, 0, 1, 0 },
    { "depthwise 3x3",      1,  -64, 16,  64, 3, 1, 1 }, /* c < 0: groups of one channel */
    { "depthwise 5x5",      1,  -64, 16,  64, 5, 1, 2 },
    { "expand 1x1",         1,   24, 16, 144, 1, 1, 0 },
};
static const char *const passes[3] = { "forward", "input gradient", "weight gradient" };
/* clang-format on */

typedef struct Job {
    CallDesc d;
    void    *prepared;
    void    *bufs[CALL_MAX_BUFS];
    double   flops, *seconds; /* one a round */
} Job;

static float *random_floats(Arena *a, int64_t n)
{
    float *at = arena_alloc(a, (size_t)n * sizeof(float) + 64);
    at = (float *)dt_round_up((int64_t)(uintptr_t)at, 64);
    for (int64_t i = 0; i < n; i++)
        at[i] = rng_uniform(1, 2, 3, (uint64_t)i) - 0.5f;
    return at;
}

static Job job_new(Arena *a, const struct Layer *l, int pass, const Args *args)
{
    Job       j = { 0 };
    CallDesc *d = &j.d;
    d->kind = (CallKind)((l->r ? CALL_CONV_FWD : CALL_LINEAR_FWD) + pass);
    d->n = args->batch, d->c = llabs(l->c), d->h = d->w = l->hw, d->k = l->k, d->r = d->s = l->r ? l->r : 1;
    d->stride = l->stride, d->groups = l->c < 0 ? d->c : 1;
    for (int i = 0; i < 4; i++)
        d->pad[i] = l->pad;
    d->oh = d->ow = (l->hw + 2 * l->pad - d->r) / l->stride + 1;
    int64_t x = d->n * d->c * d->h * d->w, w = d->k * d->c / d->groups * d->r * d->s, y = d->n * d->k * d->oh * d->ow;
    int64_t sizes[3][3] = { { x, w, y }, { y, w, x }, { y, x, w } };
    for (int i = 0; i < 3; i++)
        j.bufs[i] = random_floats(a, sizes[pass][i]);
    j.flops = 2.0 * (double)y * (double)(d->c / d->groups * d->r * d->s);
    j.seconds = ARENA_ARRAY(a, double, args->rounds);
    return j;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(Job *jobs, const Args *args)
{
    double network[3] = { 0 };
    printf("%-16s %-16s %10s %10s %10s\n", "layer", "call", "least ms", "median ms", "GFLOP/s");
    for (int32_t i = 0; i < DT_COUNT(layers); i++)
        for (int pass = 0; pass < 3; pass++) {
            Job *j = &jobs[3 * i + pass];
            qsort(j->seconds, (size_t)args->rounds, sizeof(double), compare);
            if (str_glob("resnet20*", layers[i].name))
                network[pass] += j->seconds[0] * (double)layers[i].times;
            printf("%-16s %-16s %10.3f %10.3f %10.1f\n", layers[i].name, passes[pass], j->seconds[0] * 1e3,
                   j->seconds[args->rounds / 2] * 1e3, j->flops / j->seconds[0] * 1e-9);
        }
    printf("resnet20, all layers (ms): forward %.1f, input gradient %.1f, weight gradient %.1f, sum %.1f\n",
           network[0] * 1e3, network[1] * 1e3, network[2] * 1e3, (network[0] + network[1] + network[2]) * 1e3);
}

int main(int argc, char **argv)
{
    Arena   a = arena_new("bench");
    Diag    d = diag_new(stderr);
    Args    args = { 0 };
    StrList rest = { 0 };
    if (!opts_parse(&a, &d, options, DT_COUNT(options), argc - 1, argv + 1, &args, &rest))
        return 2;
    CallLib *lib = calllib_onednn(&a, &d, (int)args.threads);
    if (!lib)
        return 1;
    Job     jobs[3 * DT_COUNT(layers)];
    int64_t scratch_bytes = 0;
    for (int32_t i = 0; i < 3 * DT_COUNT(layers); i++) {
        jobs[i] = job_new(&a, &layers[i / 3], i % 3, &args);
        scratch_bytes = dt_max64(scratch_bytes, lib->scratch_bytes(lib->self, &jobs[i].d));
        if (!(jobs[i].prepared = lib->prepare(lib->self, &d, &jobs[i].d)))
            return 1;
    }
    void *scratch = random_floats(&a, scratch_bytes / (int64_t)sizeof(float));
    printf("%s, batch %lld, %s of scratch memory\n", lib->name, (long long)args.batch, str_bytes(&a, scratch_bytes));
    for (int64_t round = -1; round < args.rounds; round++) /* one to warm up */
        for (int32_t i = 0; i < 3 * DT_COUNT(layers); i++) {
            double start = time_now_s();
            if (!lib->run(lib->self, jobs[i].prepared, jobs[i].bufs, scratch))
                return 1;
            if (round >= 0)
                jobs[i].seconds[round] = time_now_s() - start;
        }
    report(jobs, &args);
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
    return 0;
}
