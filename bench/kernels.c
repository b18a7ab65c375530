/* kernels.c: generated kernels beside hand-written loops that move the same bytes.
 *
 * Both run in one process, in turn, on the same threads, so that what else the machine does meets both. A row gives the
 * time of the loop over the time of the kernel: the best of the paired ratios would flatter, so their median, and the
 * ratio of the minima. "large": ResNet-20's first stage at batch 128, buffers taken in rotation so that they come from
 * memory; "small": what fits the second-level cache, where the code itself is seen.
 *
 *   bench-kernels [rounds] [threads] */
#include <stdlib.h>
#include <unistd.h>

#include "bench/hand_loops.h"
#include "codegen/codegen.h"

enum { SETS = 6, MOST_BUFS = 6, MOST_ROUNDS = 1000 };

/* %1$ld: elements, %2$ld: elements / 16 */
static const char *const bn_relu = "kernel @bn_relu { axis p = %2$ld par axis c = 16 par vec buf x : f32[%1$ld] in buf "
                                   "a : f32[16] in buf b : f32[16] in "
                                   "buf y : f32[%1$ld] out body { %%0 = load x[16*p + c] %%1 = load a[c] %%2 = load "
                                   "b[c] %%3 = fma %%0, %%1, %%2 %%4 = "
                                   "const.f32 0 %%5 = max %%3, %%4 store y[16*p + c], %%5 } }";
static const char *const bn_relu_codes = "kernel @bn_relu_codes { axis p = %2$ld par axis c = 16 par vec buf x : "
                                         "f32[%1$ld] in buf a : f32[16] in buf b : f32[16] "
                                         "in buf inv : f32[1] in buf q : u8[%1$ld] out body { %%0 = load x[16*p + c] "
                                         "%%1 = load a[c] %%2 = load b[c] %%3 = fma "
                                         "%%0, %%1, %%2 %%4 = const.f32 0 %%5 = max %%3, %%4 %%6 = load inv[0] %%7 = "
                                         "mul %%5, %%6 %%8 = const.f32 15 %%9 = min "
                                         "%%7, %%8 %%10 = rint %%9 %%11 = cvt.i32 %%10 store q[16*p + c], %%11 } }";
static const char *const bn_stats = "kernel @bn_stats { axis p = %2$ld red axis c = 16 par vec buf x : f32[%1$ld] in "
                                    "buf m : f32[16] out buf v : f32[16] out "
                                    "reduce chunks 64 lanes 4 body { %%0 = load x[16*p + c] %%1 = acc.sum %%0 %%2 = "
                                    "mul %%0, %%0 %%3 = acc.sum %%2 } final { "
                                    "store m[c], %%1 store v[c], %%3 } }";
static const char *const lsq_backward = "kernel @lsq_backward { axis i = %1$ld red vec buf x : f32[%1$ld] in buf g : "
                                        "f32[%1$ld] in buf step : f32[1] in buf dx : "
                                        "f32[%1$ld] out buf dstep : f32[1] out reduce chunks 64 lanes 64 body { %%0 = "
                                        "const.f32 1 %%1 = load step[0] %%2 = div "
                                        "%%0, %%1 %%3 = load x[i] %%4 = mul %%3, %%2 %%5 = load g[i] %%6 = const.f32 "
                                        "-8 %%7 = gt %%4, %%6 %%8 = const.f32 7 %%9 = "
                                        "lt %%4, %%8 %%10 = and %%7, %%9 %%11 = const.f32 0 %%12 = select %%10, %%5, "
                                        "%%11 store dx[i], %%12 %%13 = rint %%4 %%14 "
                                        "= sub %%13, %%4 %%15 = ge %%4, %%8 %%16 = select %%15, %%8, %%14 %%17 = le "
                                        "%%4, %%6 %%18 = select %%17, %%6, %%16 %%19 "
                                        "= mul %%5, %%18 %%20 = acc.sum %%19 } final { store dstep[0], %%20 } }";
static const char *const weights = "kernel @weights { axis i = %1$ld par vec buf w : f32[%1$ld] in buf step : f32[1] "
                                   "in buf used : f32[%1$ld] out buf codes "
                                   ": s8[%1$ld] out body { %%0 = load w[i] %%1 = load step[0] %%2 = const.f32 1 %%3 = "
                                   "div %%2, %%1 %%4 = mul %%0, %%3 %%5 = "
                                   "const.f32 -8 %%6 = max %%4, %%5 %%7 = const.f32 7 %%8 = min %%6, %%7 %%9 = rint "
                                   "%%8 %%10 = cvt.i32 %%9 store codes[i], "
                                   "%%10 %%11 = mul %%9, %%1 store used[i], %%11 } }";
static const char *const weights_noise = "kernel @weights_noise { axis i = %1$ld par vec buf w : f32[%1$ld] in buf "
                                         "step : f32[1] in buf used : f32[%1$ld] out buf "
                                         "codes : s8[%1$ld] out buf seed : u32[3] in body { %%0 = load w[i] %%1 = load "
                                         "step[0] %%2 = const.f32 1 %%3 = div %%2, "
                                         "%%1 %%4 = mul %%0, %%3 %%5 = const.f32 -8 %%6 = max %%4, %%5 %%7 = const.f32 "
                                         "7 %%8 = min %%6, %%7 %%9 = rint %%8 %%10 = "
                                         "cvt.i32 %%9 store codes[i], %%10 %%11 = load seed[0] %%12 = load seed[1] "
                                         "%%13 = const.u32 40 %%14 = load seed[2] %%15 = "
                                         "index i %%16 = cvt.u32 %%15 %%17 = philox %%11, %%12, %%13, %%14, %%16 %%18 "
                                         "= const.u32 2147483648 %%19 = lt %%17, %%18 "
                                         "%%20 = mul %%9, %%1 %%21 = select %%19, %%20, %%0 store used[i], %%21 } }";

/* Sizes: elements of ResNet-20's stages at batch 128, all its weights; what fits a second-level cache. */
enum { STAGE1 = 128 * 32 * 32 * 16, ALL_WEIGHTS = 270896, SMALL = 1 << 15 };

typedef struct Case {
    const char *text;
    HandLoop    hand;
    int64_t     elems;
} Case;
static const Case cases[] = {
    { bn_relu, hand_bn_relu, STAGE1 },      { bn_relu_codes, hand_bn_relu_codes, STAGE1 },
    { bn_stats, hand_bn_stats, STAGE1 },    { lsq_backward, hand_lsq_backward, STAGE1 },
    { weights, hand_weights, ALL_WEIGHTS }, { weights_noise, hand_weights_noise, ALL_WEIGHTS },
    { bn_relu, hand_bn_relu, SMALL },       { bn_relu_codes, hand_bn_relu_codes, SMALL },
    { bn_stats, hand_bn_stats, SMALL },     { lsq_backward, hand_lsq_backward, SMALL },
    { weights, hand_weights, SMALL },       { weights_noise, hand_weights_noise, SMALL },
};

typedef struct Bench {
    int         threads, rounds;
    KernelImage image;
    HandLoop    hand;
    int64_t     elems;
    void       *bufs[SETS][MOST_BUFS], *scratch;
    float      *partial;
    int32_t     sets, repeats;
} Bench;

/* The share of [0, n) that thread t of b->threads has, in multiples of `grain`. */
static int64_t share(const Bench *b, int64_t n, int64_t grain, int t)
{
    int64_t grains = n / grain;
    return t == b->threads ? n : grains * t / b->threads * grain;
}

static void run_kernel(const Bench *b, int32_t set)
{
    const KernelImage *im = &b->image;
#pragma omp parallel for num_threads(b->threads) schedule(static, 1)
    for (int t = 0; t < b->threads; t++)
        im->run(im->self, b->bufs[set], b->scratch, share(b, im->units, 1, t), share(b, im->units, 1, t + 1));
    if (im->finish_units > 0)
        im->finish(im->self, b->bufs[set], b->scratch, 0, im->finish_units);
}

static void run_hand(const Bench *b, int32_t set)
{
#pragma omp parallel for num_threads(b->threads) schedule(static, 1)
    for (int t = 0; t < b->threads; t++)
        b->hand(b->bufs[set], b->partial + 64 * t, share(b, b->elems, 64, t), share(b, b->elems, 64, t + 1));
}

static double time_of(void (*run)(const Bench *, int32_t), const Bench *b, int32_t round)
{
    double start = time_now_s();
    for (int32_t i = 0; i < b->repeats; i++)
        run(b, (round * b->repeats + i) % b->sets);
    return time_now_s() - start;
}

static int by_value(const void *x, const void *y)
{
    return (*(const double *)x > *(const double *)y) - (*(const double *)x < *(const double *)y);
}

static void *alloc_buf(Arena *a, int64_t bytes)
{
    uint8_t *raw = arena_alloc(a, (size_t)bytes + 4096);
    return raw + (4096 - (uintptr_t)raw % 4096) % 4096;
}

static void fill(const Kernel *k, int32_t buf, void *at)
{
    const KBuf *b = &k->bufs.at[buf];
    for (int64_t i = 0; i < b->elems; i++)
        elem_set(b->dtype, at, i, b->elems == 1 ? 0.25 : (double)((i * 7919) % 2003) / 500.0 - 2.0);
}

static void run_case(const Case *c, int threads, int rounds)
{
    Arena      a = arena_new("bench");
    Diag       d = diag_new(stderr);
    Bench      b = { .threads = threads, .rounds = rounds, .hand = c->hand, .elems = c->elems };
    size_t     pos = 0;
    KernelJit *j = jit_llvm_new(&a, &d, (JitOptions){ .dump_dir = getenv("DT_DUMP") });
    Kernel    *k = kernel_parse(&a, &d, "bench", arena_printf(&a, c->text, (long)c->elems, (long)c->elems / 16), &pos);
    if (!j || !k || !jit_compile(j, &d, "bench", &k, 1, &b.image))
        exit(1);
    b.sets = c->elems > SMALL ? SETS : 1;
    b.repeats = c->elems > SMALL ? (int32_t)(4 * STAGE1 / c->elems) : 200;
    b.scratch = alloc_buf(&a, b.image.scratch_bytes);
    b.partial = alloc_buf(&a, 64 * 4 * threads);
    for (int32_t s = 0; s < b.sets; s++)
        for (int32_t i = 0; i < k->bufs.len; i++) {
            b.bufs[s][i] = alloc_buf(&a, dtype_bytes(k->bufs.at[i].dtype, k->bufs.at[i].elems));
            fill(k, i, b.bufs[s][i]);
        }
    double ratio[MOST_ROUNDS], best[2] = { 1e9, 1e9 };
    for (int r = -2; r < rounds; r++) {
        double kernel = time_of(run_kernel, &b, r + 2), hand = time_of(run_hand, &b, r + 2);
        if (r < 0)
            continue;
        ratio[r] = hand / kernel;
        best[0] = kernel < best[0] ? kernel : best[0];
        best[1] = hand < best[1] ? hand : best[1];
    }
    qsort(ratio, (size_t)rounds, sizeof *ratio, by_value);
    printf("%-16s %9ld %8.2f %8.2f %10.2f %8.2f\n", k->name, (long)c->elems,
           1e-9 * (double)b.image.bytes * b.repeats / best[0], 1e3 * jit_stats(j).seconds, best[1] / best[0],
           ratio[rounds / 2]);
    jit_free(j);
    diag_free(&d);
    arena_free(&a);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 21, threads = argc > 2 ? atoi(argv[2]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    Arena      a = arena_new("bench");
    Diag       d = diag_new(stderr);
    KernelJit *j = jit_llvm_new(&a, &d, (JitOptions){ 0 });
    if (!j || rounds < 1 || rounds > MOST_ROUNDS || threads < 1)
        return 1;
    printf("%s; hand loops by gcc %s; %d threads, %d rounds\n", jit_describe(&a, j), __VERSION__, threads, rounds);
    printf("loop / kernel: above 0.9 is the aim\n%-16s %9s %8s %8s %10s %8s\n", "kernel", "elements", "GB/s", "ms made",
           "of minima", "median");
    for (int32_t i = 0; i < DT_COUNT(cases); i++)
        run_case(&cases[i], threads, rounds);
    jit_free(j);
    diag_free(&d);
    arena_free(&a);
    return 0;
}
