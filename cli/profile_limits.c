/* profile_limits.c: what this machine can do, by short probes in this process with its threads: a triad over memory
 * that no cache holds, the same in half of the last cache, and a loop of fused multiply-adds that touches none.
 *
 * The best of some rounds counts: on a shared machine the others say what somebody else took. Bytes are counted as the
 * kernels count theirs, each element that is read or written once; what a store reads before it writes is not.
 *
 * Tested by tests/unit/test_bench.c. */
#include "cli/profile.h"

#include <math.h>
#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { TRIAD_ROUNDS = 21, FMA_ROUNDS = 100, FMA_TURNS = 50 * 1000 };

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static const int64_t TRIAD_LEAST = 96 << 20, TRIAD_MOST = 1 << 30, CACHE_UNKNOWN = 8 << 20;

/* The last one's. The kernel knows what this machine has; sysconf, on a virtual one, what all of its host has. */
static int64_t cache_bytes(void)
{
    static const char *const cache_files[] = { "/sys/devices/system/cpu/cpu0/cache/index2/size",
                                               "/sys/devices/system/cpu/cpu0/cache/index3/size" };
    long long                kib = 0;
    for (int level = 3; level >= 2 && kib <= 0; level--) {
        FILE *f = fopen(cache_files[level - 2], "r");
        if (f != NULL && fscanf(f, "%lldK", &kib) != 1)
            kib = 0;
        if (f != NULL)
            fclose(f);
    }
    long said = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return kib > 0 ? kib << 10 : said > 0 ? said : CACHE_UNKNOWN;
}

/* Bytes of the three arrays: four times the last cache, of which large processors have several. */
static int64_t triad_bytes(int threads)
{
    return dt_min64(dt_max64(4 * cache_bytes() * (1 + threads / 8), TRIAD_LEAST), TRIAD_MOST);
}

static void triad(float *restrict x, const float *restrict y, const float *restrict z, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] = y[i] + 0.5f * z[i];
}

/* Three arrays one behind another; the thread's part of them. */
static void triad_part(float *mem, int64_t n, int64_t part, int64_t parts)
{
    int64_t lo = n * part / parts, hi = n * (part + 1) / parts;
    triad(mem + lo, mem + n + lo, mem + 2 * n + lo, hi - lo);
}

static double triad_memory(float *mem, int64_t n, int threads)
{
    double best = INFINITY;
    (void)threads;
    for (int i = 0; i < TRIAD_ROUNDS; i++) {
        double start = time_now_s();
#pragma omp parallel num_threads(threads)
        triad_part(mem, n, omp_get_thread_num(), omp_get_num_threads());
        best = fmin(best, time_now_s() - start);
    }
    return 3.0 * (double)n * (double)sizeof(float) / best;
}

/* Each thread with arrays of its own, and its own best: what others take of this machine hits them at different times.
 * That would count memory twice, but cores have their own ways into the cache. */
static double triad_cache(float *mem, int64_t n, int threads)
{
    double sum = 0;
    (void)threads;
#pragma omp parallel reduction(+ : sum) num_threads(threads)
    {
        int64_t own = n / omp_get_num_threads();
        float  *at = mem + 3 * own * omp_get_thread_num();
        double  best = INFINITY;
        for (int i = 0; i < 5 * TRIAD_ROUNDS; i++) {
            double start = time_now_s();
            triad_part(at, own, 0, 1);
            best = fmin(best, time_now_s() - start);
        }
        sum += 3.0 * (double)own * (double)sizeof(float) / best;
    }
    return sum;
}

/* Pages are there, and near the threads that use them. False: no memory. */
static bool triads(int threads, Limits *out)
{
    int64_t bytes = triad_bytes(threads), cache = cache_bytes() / 2; /* others want some of it, too */
    int64_t three = 3 * (int64_t)sizeof(float);
    float  *mem = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED)
        return false;
    madvise(mem, (size_t)bytes, MADV_HUGEPAGE); /* as the arenas of programs do */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < bytes / (int64_t)sizeof(float); i++)
        mem[i] = 1.0f;
    out->bytes_per_s = fmax(out->bytes_per_s, triad_memory(mem, bytes / three, threads));
    out->cache_bytes_per_s =
        fmax(fmax(out->cache_bytes_per_s, out->bytes_per_s), triad_cache(mem, cache / three, threads));
    out->cache_bytes = cache;
    munmap(mem, (size_t)bytes);
    return true;
}

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

/* As many sums side by side as hide the time that one takes. Returns what keeps the loop alive. */
enum { FMA_SUMS = 12 };

typedef struct FmaLoop {
    const char *vectors;
    int         width;
    float (*run)(void);
} FmaLoop;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float fma_avx512(void)
{
    __m512 sum[FMA_SUMS], factor = _mm512_set1_ps(0.999f), more = _mm512_set1_ps(0.001f);
    for (int k = 0; k < FMA_SUMS; k++)
        sum[k] = _mm512_set1_ps((float)k);
    for (int i = 0; i < FMA_TURNS; i++)
#pragma GCC unroll 12
        for (int k = 0; k < FMA_SUMS; k++)
            sum[k] = _mm512_fmadd_ps(sum[k], factor, more);
    for (int k = 1; k < FMA_SUMS; k++)
        sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return _mm512_cvtss_f32(sum[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(void)
{
    __m256 sum[FMA_SUMS], factor = _mm256_set1_ps(0.999f), more = _mm256_set1_ps(0.001f);
    for (int k = 0; k < FMA_SUMS; k++)
        sum[k] = _mm256_set1_ps((float)k);
    for (int i = 0; i < FMA_TURNS; i++)
#pragma GCC unroll 12
        for (int k = 0; k < FMA_SUMS; k++)
            sum[k] = _mm256_fmadd_ps(sum[k], factor, more);
    for (int k = 1; k < FMA_SUMS; k++)
        sum[0] = _mm256_add_ps(sum[0], sum[k]);
    return _mm256_cvtss_f32(sum[0]);
}
#endif

/* A product and a sum, in vectors of four, where no better is known. */
typedef float Four __attribute__((vector_size(16)));

static float  fma_any(void)
{
    Four sum[FMA_SUMS], factor = { 0.999f, 0.999f, 0.999f, 0.999f }, more = { 0.001f, 0.001f, 0.001f, 0.001f };
    for (int k = 0; k < FMA_SUMS; k++)
        sum[k] = factor * (float)k;
    for (int i = 0; i < FMA_TURNS; i++)
#pragma GCC unroll 12
        for (int k = 0; k < FMA_SUMS; k++)
            sum[k] = sum[k] * factor + more;
    for (int k = 1; k < FMA_SUMS; k++)
        sum[0] += sum[k];
    return sum[0][0];
}

static FmaLoop fma_loop(int width)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && (width == 0 || width >= 16))
        return (FmaLoop){ "AVX-512", 16, fma_avx512 };
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (width == 0 || width >= 8))
        return (FmaLoop){ "AVX2", 8, fma_avx2 };
#endif
    (void)width;
    return (FmaLoop){ "vectors of 4", 4, fma_any };
}

/* The loop of one thread at its best. */
static double fma_rate_of_one(const FmaLoop *loop)
{
    double best = INFINITY;
    float  sum = 0;
    for (int i = 0; i < FMA_ROUNDS; i++) {
        double start = time_now_s();
        sum += loop->run();
        best = fmin(best, time_now_s() - start);
    }
    volatile float sink = sum;
    (void)sink;
    return 2.0 * FMA_TURNS * FMA_SUMS * loop->width / best;
}

/* All threads at once, each with its own best: what others take of this machine hits them at different times. */
static double fma_rate(const FmaLoop *loop, int threads)
{
    (void)threads;
    double sum = 0;
#pragma omp parallel reduction(+ : sum) num_threads(threads)
    sum += fma_rate_of_one(loop);
    return sum;
}

/* ---- Both -------------------------------------------------------------------------------------------------------- */

bool limits_measure(Diag *d, int threads, int width, Limits *out)
{
    FmaLoop loop = fma_loop(width);
    out->threads = threads;
    out->vectors = loop.vectors;
    out->flops_per_s = fmax(out->flops_per_s, fma_rate(&loop, threads));
    if (triads(threads, out))
        return true;
    diag_error(d, LOC_NONE, "bench: expected %lld MiB of memory to measure its speed, found none",
               (long long)(triad_bytes(threads) >> 20));
    diag_help(d, "end other programs, or give this one more");
    return false;
}

bool limits_of(Session *s, Limits *out)
{
    if (cli_target(s->opt.backend) != cli_target("cpu"))
        return true;
    return limits_measure(&s->diag, exec_threads(s->exec), (int)s->opt.vector_width, out);
}

const char *limits_text(Arena *a, const Limits *l)
{
    if (l->bytes_per_s <= 0)
        return "not measured on a GPU";
    return arena_printf(a,
                        "%.1f GB/s from memory, %.1f GB/s up to %s (triads), %.0f GFLOP/s (f32 FMA, %s), %d thread%s",
                        1e-9 * l->bytes_per_s, 1e-9 * l->cache_bytes_per_s, str_bytes(a, l->cache_bytes),
                        1e-9 * l->flops_per_s, l->vectors, l->threads, l->threads == 1 ? "" : "s");
}
