/* depthwise.c: depthwise convolution and its gradients - generated kernels, loops written by hand, oneDNN - for the
 * shapes of EfficientNet-B3. "statistics": the forward pass with the sums of the batch norm behind it, which share its
 * kernel in a training step; the rivals walk over their result once more.
 *
 * All three run in one process, in turn, on the same threads and the same numbers; each round gives two ratios. Shown
 * are the least times, and the time of the faster rival over that of the kernel: of the least times and the median of
 * the rounds. Kernels are those that a training step has: the graph's op through the passes.
 *
 *   bench-depthwise [--batch=8] [--rounds=21] [--threads=0] [--width=0] [--shape=GLOB] */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/depthwise_loops.h"
#include "codegen/codegen.h"
#include "passes/passes.h"

typedef struct Args {
    int64_t     batch, rounds, threads, width;
    const char *shape, *dump;
} Args;

/* clang-format off */
static const OptDef options[] = {
    { OPT_INT, "batch",   "N", NULL, "8",  1, 4096, offsetof(Args, batch),   "Images in a batch." },
    { OPT_INT, "rounds",  "N", NULL, "21", 1, 1000, offsetof(Args, rounds),  "Rounds." },
    { OPT_INT, "threads", "N", NULL, "0",  0, 256,  offsetof(Args, threads), "Threads; 0: one for each processor." },
    { OPT_INT, "width",   "N", NULL, "0",  0, 16,   offsetof(Args, width),   "Floats in a vector of the kernels; 0: the host's." },
    { OPT_STRING, "shape",  "GLOB", NULL, "*", 0, 0,  offsetof(Args, shape),   "Which shapes, by name." },
    { OPT_STRING, "dump",   "DIR", NULL, NULL, 0, 0,  offsetof(Args, dump),    "Where kernels and their code go." },
};
/* clang-format on */

static const struct Shape_ {
    const char *name;
    int64_t     size, c, kernel, stride;
} shapes[] = {
    { "150x150x40 k3", 150, 40, 3, 1 },   { "150x150x144 k3 s2", 150, 144, 3, 2 }, { "75x75x192 k3", 75, 192, 3, 1 },
    { "75x75x192 k5 s2", 75, 192, 5, 2 }, { "38x38x288 k5", 38, 288, 5, 1 },       { "19x19x576 k3", 19, 576, 3, 1 },
    { "19x19x816 k5", 19, 816, 5, 1 },    { "10x10x1392 k5", 10, 1392, 5, 1 },     { "10x10x2304 k3", 10, 2304, 3, 1 },
};

typedef enum Which { FORWARD, STATISTICS, GRAD_X, GRAD_W, WHICH_COUNT } Which;
static const char *const which_names[WHICH_COUNT] = { "forward", "+ statistics", "input gradient", "weight gradient" };

enum { MOST_ROUNDS = 1000, MOST_BUFS = 6, LIB_BUFS = 3 };

/* One op at one shape, three times. `in`: its two operands; `out`: what the kernel, the loop, the library make. */
typedef struct Job {
    Which          which;
    DepthwiseShape shape;
    int            threads;
    KernelImage    image;
    void          *bufs[MOST_BUFS], *scratch;
    CallLib       *lib;
    void          *prepared, *lib_bufs[LIB_BUFS], *lib_scratch;
    float         *in[2], *out[3], *parts; /* parts: a weight gradient, or sums, for each thread */
    float         *channels[3];            /* shift, mean, variance */
    int64_t        out_elems;
} Job;

/* ---- Running ------------------------------------------------------------------------------------------------------
 */

static int64_t share(const Job *j, int64_t n, int t)
{
    return n * t / j->threads;
}

static void run_kernel(const Job *j)
{
    const KernelImage *im = &j->image;
#pragma omp parallel for num_threads(j->threads) schedule(static, 1)
    for (int t = 0; t < j->threads; t++)
        im->run(im->self, (void *const *)j->bufs, j->scratch, share(j, im->units, t), share(j, im->units, t + 1));
    if (im->finish_units == 0)
        return;
#pragma omp parallel for num_threads(j->threads) schedule(static, 1)
    for (int t = 0; t < j->threads; t++)
        im->finish(im->self, (void *const *)j->bufs, j->scratch, share(j, im->finish_units, t),
                   share(j, im->finish_units, t + 1));
}

/* Mean and variance of the rivals' results. */
static void run_statistics(const Job *j, const float *y)
{
    const DepthwiseShape *d = &j->shape;
    const int64_t         pixels = d->n * d->out * d->out;
#pragma omp parallel for num_threads(j->threads) schedule(static, 1)
    for (int t = 0; t < j->threads; t++)
        hand_statistics(d->c, y, j->channels[0], j->parts + t * 2 * d->c, share(j, pixels, t), share(j, pixels, t + 1));
    for (int64_t i = 0; i < 2 * d->c; i++)
        for (int t = 1; t < j->threads; t++)
            j->parts[i] += j->parts[t * 2 * d->c + i];
}

static void run_hand(const Job *j)
{
    const DepthwiseShape *d = &j->shape;
    const int64_t         rows = d->n * (j->which == GRAD_X ? d->size : d->out), w = d->kernel * d->kernel * d->c;
#pragma omp parallel for num_threads(j->threads) schedule(static, 1)
    for (int t = 0; t < j->threads; t++) {
        int64_t lo = share(j, rows, t), hi = share(j, rows, t + 1);
        if (j->which <= STATISTICS)
            hand_depthwise(d, j->in[0], j->in[1], j->out[1], lo, hi);
        else if (j->which == GRAD_X)
            hand_depthwise_grad_x(d, j->in[0], j->in[1], j->out[1], lo, hi);
        else
            hand_depthwise_grad_w(d, j->in[0], j->in[1], j->parts + t * w, lo, hi);
    }
    for (int t = 0; t < j->threads && j->which == GRAD_W; t++)
        for (int64_t i = 0; i < w; i++)
            j->out[1][i] = (t > 0 ? j->out[1][i] : 0) + j->parts[t * w + i];
    if (j->which == STATISTICS)
        run_statistics(j, j->out[1]);
}

static void run_library(const Job *j)
{
    if (!j->lib->run(j->lib->self, j->prepared, (void *const *)j->lib_bufs, j->lib_scratch))
        exit(1);
    if (j->which == STATISTICS)
        run_statistics(j, j->out[2]);
}

/* ---- Making -------------------------------------------------------------------------------------------------------
 */

static float *floats(Arena *a, int64_t n, uint32_t stream)
{
    float *at = arena_alloc(a, (size_t)n * sizeof(float) + 4096);
    at = (float *)dt_round_up((int64_t)(uintptr_t)at, 4096);
    for (int64_t i = 0; i < n; i++)
        at[i] = rng_uniform(1, stream, 3, (uint64_t)i) - 0.5f;
    return at;
}

static const char *graph_text(Arena *a, const Job *j)
{
    const DepthwiseShape *d = &j->shape;
    long                  n = d->n, c = d->c, s = d->size, o = d->out, k = d->kernel, t = d->stride, p = (k - 1) / 2;
    const char           *attrs = arena_printf(a, "stride=%ld, pad=[%ld,%ld,%ld,%ld]", t, p, p, p, p);
    const char           *x = arena_printf(a, "f32[%ldx%ldx%ldx%ld]", n, c, s, s),
               *y = arena_printf(a, "f32[%ldx%ldx%ldx%ld]", n, c, o, o);
    const char *w = arena_printf(a, "f32[1x%ldx%ldx%ld]", c, k, k);
    if (j->which == FORWARD)
        return arena_printf(a,
                            "graph @g { %%0 = input \"x\" : %s\n %%1 = input \"w\" : %s\n"
                            "%%2 = depthwise %%0, %%1 {%s} : %s\n output %%2 \"y\"\n }",
                            x, w, attrs, y);
    if (j->which == STATISTICS)
        return arena_printf(a,
                            "graph @g { %%0 = input \"x\" : %s\n %%1 = input \"w\" : %s\n"
                            "%%2 = depthwise %%0, %%1 {%s} : %s\n %%3 = input \"shift\" : f32[%ld]\n"
                            "%%4 = bn_mean %%2, %%3 : f32[%ld]\n %%5 = bn_var %%2, %%3 : f32[%ld]\n"
                            "output %%2 \"y\"\n output %%4 \"mean\"\n output %%5 \"var\"\n }",
                            x, w, attrs, y, c, c, c);
    if (j->which == GRAD_X)
        return arena_printf(a,
                            "graph @g { %%0 = input \"dy\" : %s\n %%1 = input \"w\" : %s\n"
                            "%%2 = depthwise_grad_x %%0, %%1 {%s, h=%ld, w=%ld} : %s\n output %%2 \"dx\"\n }",
                            y, w, attrs, s, s, x);
    return arena_printf(a,
                        "graph @g { %%0 = input \"dy\" : %s\n %%1 = input \"x\" : %s\n"
                        "%%2 = depthwise_grad_w %%0, %%1 {%s, kernel=%ld} : f32[%ldx1x%ldx%ld]\n output %%2 \"dw\"\n }",
                        y, x, attrs, k, c, k, k);
}

/* The only kernel of the op's graph. */
static Kernel *make_kernel(Arena *a, Diag *d, const Job *j)
{
    Target          target = { .name = "cpu", .image_layout = LAYOUT_NHWC, .align_bytes = 64 };
    Recipe          recipe = { .method = "float", .edge_bits = 8 };
    OptimizerConfig sgd = { 0 };
    Arena           scratch = arena_new("passes");
    PassCtx         c = { .scratch = &scratch,
                          .d = d,
                          .step = STEP_EVAL,
                          .recipe = &recipe,
                          .optimizer = &sgd,
                          .target = &target,
                          .keep = a };
    PassOptions     opt;
    StrList         rest = { 0 };
    Graph          *g = ir_parse(a, d, "bench", graph_text(a, j));
    if (!g || !opts_parse(a, d, pass_option_defs, pass_n_option_defs, 0, NULL, &opt, &rest) ||
        !passes_run(&c, g, &opt, stderr, NULL) || g->groups.len != 1)
        exit(1);
    arena_free(&scratch);
    const DepthwiseShape *s = &j->shape;
    Kernel               *k = g->groups.at[0].kernel;
    k->name = arena_printf(a, "%s_%ldx%ld_k%ld_s%ld", ir_ops[OP_DEPTHWISE].text, (long)s->size, (long)s->c,
                           (long)s->kernel, (long)s->stride);
    if (j->which != FORWARD)
        k->name = arena_printf(a, "%s_%s", k->name,
                               j->which == GRAD_X       ? "grad_x"
                               : j->which == STATISTICS ? "statistics"
                                                        : "grad_w");
    return k;
}

static void bind_kernel(Job *j, const Kernel *k, Arena *a)
{
    float  *in[] = { j->in[0], j->in[1], j->channels[0] }, *out[] = { j->out[0], j->channels[1], j->channels[2] };
    int32_t n_in = 0, n_out = 0;
    DT_ASSERT(k->bufs.len <= MOST_BUFS, "%d buffers", k->bufs.len);
    for (int32_t i = 0; i < k->bufs.len; i++)
        j->bufs[i] = k->bufs.at[i].mode == BUF_OUT ? out[n_out++] : in[n_in++];
    j->scratch = floats(a, j->image.scratch_bytes / 4, 9);
}

/* The library's weights are [C,1,R,S]. */
static float *turned(Arena *a, const DepthwiseShape *d, const float *w, bool back)
{
    int64_t taps = d->kernel * d->kernel;
    float  *to = floats(a, taps * d->c, 8);
    for (int64_t c = 0; c < d->c; c++)
        for (int64_t t = 0; t < taps; t++)
            *(back ? &to[t * d->c + c] : &to[c * taps + t]) = back ? w[c * taps + t] : w[t * d->c + c];
    return to;
}

static bool bind_library(Job *j, Arena *a, Diag *d)
{
    const DepthwiseShape *s = &j->shape;
    static const CallKind kinds[] = { CALL_CONV_FWD, CALL_CONV_FWD, CALL_CONV_BWD_X, CALL_CONV_BWD_W };
    CallDesc call = { .kind = kinds[j->which], .n = s->n, .c = s->c, .k = s->c, .groups = s->c, .stride = s->stride };
    call.h = call.w = s->size;
    call.oh = call.ow = s->out;
    call.r = call.s = s->kernel;
    for (int i = 0; i < 4; i++)
        call.pad[i] = (s->kernel - 1) / 2;
    j->lib_bufs[0] = j->in[0];
    j->lib_bufs[1] = j->which == GRAD_W ? j->in[1] : turned(a, s, j->in[1], false);
    j->lib_bufs[2] = j->out[2];
    j->lib_scratch = floats(a, j->lib->scratch_bytes(j->lib->self, &call) / 4 + 1, 7);
    j->prepared = j->lib->prepare(j->lib->self, d, &call);
    return j->prepared != NULL;
}

static double difference(const float *x, const float *y, int64_t n)
{
    double most = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)x[i] - (double)y[i]));
        scale = fmax(scale, fabs((double)y[i]));
    }
    return most / scale;
}

/* All three must give the same numbers but for roundings. */
static void compare(const Job *j, Arena *a)
{
    const DepthwiseShape *s = &j->shape;
    const float          *hand = j->out[1], *kernel = j->out[0];
    if (j->which == GRAD_W)
        hand = turned(a, s, hand, false);
    double by_hand = difference(hand, j->out[2], j->out_elems), own = difference(kernel, j->out[2], j->out_elems);
    if (by_hand > 1e-4 || own > 1e-4) {
        fprintf(stderr, "%s: differs from the library's result: loop %g, kernel %g\n", which_names[j->which], by_hand,
                own);
        exit(1);
    }
}

/* ---- Measuring ----------------------------------------------------------------------------------------------------
 */

static int by_value(const void *x, const void *y)
{
    return (*(const double *)x > *(const double *)y) - (*(const double *)x < *(const double *)y);
}

static double time_of(void (*run)(const Job *), const Job *j, int32_t repeats)
{
    double start = time_now_s();
    for (int32_t i = 0; i < repeats; i++)
        run(j);
    return (time_now_s() - start) / repeats;
}

static void measure(const char *name, const Job *j, int64_t rounds)
{
    static void (*const runs[3])(const Job *) = { run_kernel, run_hand, run_library };
    double  best[3] = { 1e9, 1e9, 1e9 }, ratio[MOST_ROUNDS];
    int32_t repeats[3];
    for (int i = 0; i < 3; i++)
        repeats[i] = (int32_t)fmax(1, ceil(1e-3 / time_of(runs[i], j, 1)));
    for (int64_t r = 0; r < rounds; r++) {
        double t[3];
        for (int i = 0; i < 3; i++)
            t[i] = time_of(runs[i], j, repeats[i]);
        for (int i = 0; i < 3; i++)
            best[i] = fmin(best[i], t[i]);
        ratio[r] = fmin(t[1], t[2]) / t[0];
    }
    qsort(ratio, (size_t)rounds, sizeof *ratio, by_value);
    printf("%-18s %-16s %8.3f %8.3f %8.3f %9.2f %7.2f\n", name, which_names[j->which], 1e3 * best[0], 1e3 * best[1],
           1e3 * best[2], fmin(best[1], best[2]) / best[0], ratio[rounds / 2]);
    fflush(stdout);
}

static void run_job(const Args *args, CallLib *lib, int32_t shape, Which which, int threads)
{
    Arena          a = arena_new("bench");
    Diag           d = diag_new(stderr);
    Job            j = { .which = which, .threads = threads, .lib = lib };
    DepthwiseShape s = {
        args->batch, shapes[shape].size, shapes[shape].c, shapes[shape].kernel, shapes[shape].stride, 0
    };
    s.out = (s.size + 2 * ((s.kernel - 1) / 2) - s.kernel) / s.stride + 1;
    j.shape = s;
    int64_t x = s.n * s.size * s.size * s.c, y = s.n * s.out * s.out * s.c, w = s.kernel * s.kernel * s.c;
    int64_t elems[WHICH_COUNT][3] = { { x, w, y }, { x, w, y }, { y, w, x }, { y, x, w } };
    for (int i = 0; i < 2; i++)
        j.in[i] = floats(&a, elems[which][i], (uint32_t)i);
    j.out_elems = elems[which][2];
    for (int i = 0; i < 3; i++)
        j.out[i] = floats(&a, j.out_elems, 2);
    j.parts = floats(&a, w * threads, 3);
    for (int i = 0; i < 3; i++)
        j.channels[i] = floats(&a, s.c, 4);
    KernelJit *jit = jit_llvm_new(&a, &d, (JitOptions){ .vector_width = (int)args->width, .dump_dir = args->dump });
    Kernel    *k = make_kernel(&a, &d, &j);
    if (!jit || !jit_compile(jit, &d, "bench", &k, 1, &j.image) || !bind_library(&j, &a, &d))
        exit(1);
    bind_kernel(&j, k, &a);
    run_kernel(&j);
    run_hand(&j);
    run_library(&j);
    compare(&j, &a);
    measure(shapes[shape].name, &j, args->rounds);
    jit_free(jit);
    diag_free(&d);
    arena_free(&a);
}

int main(int argc, char **argv)
{
    Arena   a = arena_new("bench");
    Diag    d = diag_new(stderr);
    Args    args = { 0 };
    StrList rest = { 0 };
    if (!opts_parse(&a, &d, options, DT_COUNT(options), argc - 1, argv + 1, &args, &rest))
        return 2;
    int        threads = args.threads > 0 ? (int)args.threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    CallLib   *lib = calllib_onednn(&a, &d, threads);
    KernelJit *jit = jit_llvm_new(&a, &d, (JitOptions){ .vector_width = (int)args.width });
    if (!lib || !jit)
        return 1;
    printf("%s; %s; loops by gcc %s; batch %lld, %d threads, %lld rounds\n", jit_describe(&a, jit), lib->name,
           __VERSION__, (long long)args.batch, threads, (long long)args.rounds);
    printf("milliseconds, and the faster of loop and library / kernel: 0.8 and more is the aim\n");
    printf("%-18s %-16s %8s %8s %8s %9s %7s\n", "shape", "", "kernel", "loop", "oneDNN", "of least", "median");
    for (int32_t i = 0; i < DT_COUNT(shapes); i++)
        for (int32_t k = 0; k < WHICH_COUNT && str_glob(args.shape, shapes[i].name); k++)
            run_job(&args, lib, i, (Which)k, threads);
    jit_free(jit);
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
    return 0;
}
