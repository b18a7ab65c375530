/* integer.c: forward convolutions of codes by runtime/integer beside oneDNN's of floats, by instruction set.
 *
 *   bench-integer [--batch=128] [--threads=0] [--rounds=15] [--isa=avx2,vnni]
 *
 * For each layer the float product and all integer ones take turns, round by round, so that a slow moment of the
 * machine hits them alike; shown is the least time of the float product and the ratios of the least times to it. Let
 * oneDNN use no more than the kernels that are looked at: DNNL_MAX_CPU_ISA=AVX2 in the environment. */
#include <stdlib.h>
#include <string.h>

#include "runtime/integer/integer.h"

typedef struct Args {
    int64_t batch, threads, rounds;
    StrList isa;
} Args;

/* clang-format off */
static const OptDef options[] = {
    { OPT_INT,  "batch",   "N",    NULL, "128", 1, 65536, offsetof(Args, batch),   "Images in a batch." },
    { OPT_INT,  "threads", "N",    NULL, "0",   0, 1024,  offsetof(Args, threads), "Threads; 0: what OpenMP says." },
    { OPT_INT,  "rounds",  "N",    NULL, "15",  1, 10000, offsetof(Args, rounds),  "Rounds over all products of a layer." },
    { OPT_LIST, "isa",     "LIST", NULL, NULL,  0, 0,     offsetof(Args, isa),     "Instruction sets; by default all that this machine has." },
};

static const struct Layer {
    const char *name;
    int64_t     c, hw, k, r, stride, pad;
} layers[] = {
    { "16ch@32 3x3",    16, 32,  16, 3, 1, 1 },
    { "32ch@16 3x3",    32, 16,  32, 3, 1, 1 },
    { "64ch@8 3x3",     64,  8,  64, 3, 1, 1 },
    { "16@32->32 3x3/2", 16, 32,  32, 3, 2, 1 },
    { "32@16->64 3x3/2", 32, 16,  64, 3, 2, 1 },
    { "3@32->16 3x3",    3, 32,  16, 3, 1, 1 },
    { "16@32->32 1x1/2", 16, 32,  32, 1, 2, 0 },
    { "24@16->144 1x1",  24, 16, 144, 1, 1, 0 },
};

static const struct Width {
    const char *name;
    DType       x_type;
    int32_t     x_lo, x_hi, w_lo, w_hi;
} widths[] = {
    { "w4a4", DTYPE_S8,    0,  15,   -8,   7 },
    { "w8a4", DTYPE_S8,    0,  15, -128, 127 },
    { "w8a8", DTYPE_U8,    0, 255, -128, 127 },
    { "w8s8", DTYPE_S8, -128, 127, -128, 127 }, /* signed inputs */
};
/* clang-format on */

typedef struct Job {
    CallLib *lib;
    CallDesc d;
    void    *prepared, *bufs[CALL_MAX_BUFS];
    double   least;
} Job;

static void *memory(Arena *a, int64_t bytes)
{
    char *at = arena_alloc(a, (size_t)bytes + 128);
    return at + (-(uintptr_t)at & 63);
}

static void *codes(Arena *a, int64_t n, int32_t lo, int32_t hi, uint32_t stream)
{
    uint8_t *at = memory(a, n);
    for (int64_t i = 0; i < n; i++)
        at[i] = (uint8_t)(lo + (int32_t)(rng_u32(1, stream, 0, (uint64_t)i) % (uint32_t)(hi - lo + 1)));
    return at;
}

static float *floats(Arena *a, int64_t n)
{
    float *at = memory(a, n * (int64_t)sizeof(float));
    for (int64_t i = 0; i < n; i++)
        at[i] = rng_uniform(1, 2, 3, (uint64_t)i) - 0.5f;
    return at;
}

/* width NULL: of floats. */
static Job job_new(Arena *a, CallLib *lib, const struct Layer *l, const struct Width *width, int64_t batch)
{
    Job       j = { .lib = lib, .least = 1e9 };
    CallDesc *d = &j.d;
    *d = (CallDesc){ .kind = CALL_CONV_FWD, .n = batch, .c = l->c, .h = l->hw, .w = l->hw, .k = l->k, .r = l->r };
    d->s = l->r, d->stride = l->stride, d->groups = 1;
    for (int i = 0; i < 4; i++)
        d->pad[i] = l->pad;
    d->oh = d->ow = (l->hw + 2 * l->pad - l->r) / l->stride + 1;
    int64_t x = d->n * d->c * d->h * d->w, w = d->k * d->c * d->r * d->s, y = d->n * d->k * d->oh * d->ow;
    if (!width) {
        j.bufs[0] = floats(a, x), j.bufs[1] = floats(a, w), j.bufs[2] = memory(a, 4 * y);
        return j;
    }
    d->kind = CALL_CONV_FWD_INT;
    d->x_type = width->x_type, d->w_type = DTYPE_S8;
    d->x_lo = width->x_lo, d->x_hi = width->x_hi, d->w_lo = width->w_lo, d->w_hi = width->w_hi;
    j.bufs[0] = codes(a, x, d->x_lo, d->x_hi, 1), j.bufs[1] = codes(a, w, d->w_lo, d->w_hi, 2);
    j.bufs[2] = floats(a, 1), j.bufs[3] = memory(a, 4 * y);
    return j;
}

static bool run_layer(Diag *d, CallLib *float_lib, CallLib *const *libs, const Isa *isa, int32_t n,
                      const struct Layer *l, const Args *args)
{
    enum { MOST = 1 + ISA_COUNT * DT_COUNT(widths) };
    Arena   a = arena_new("layer");
    Job     jobs[MOST];
    int32_t n_jobs = 0;
    int64_t scratch_bytes = 64;
    jobs[n_jobs++] = job_new(&a, float_lib, l, NULL, args->batch);
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < DT_COUNT(widths); k++)
            jobs[n_jobs++] = job_new(&a, libs[i], l, &widths[k], args->batch);
    for (int32_t i = 0; i < n_jobs; i++) {
        scratch_bytes = dt_max64(scratch_bytes, jobs[i].lib->scratch_bytes(jobs[i].lib->self, &jobs[i].d));
        if (!(jobs[i].prepared = jobs[i].lib->prepare(jobs[i].lib->self, d, &jobs[i].d)))
            return false;
    }
    void *scratch = memory(&a, scratch_bytes);
    for (int64_t round = -1; round < args->rounds; round++) /* one to warm up */
        for (int32_t i = 0; i < n_jobs; i++) {
            double start = time_now_s();
            if (!jobs[i].lib->run(jobs[i].lib->self, jobs[i].prepared, jobs[i].bufs, scratch))
                return false;
            double seconds = time_now_s() - start;
            jobs[i].least = round >= 0 && seconds < jobs[i].least ? seconds : jobs[i].least;
        }
    for (int32_t i = 0; i < n; i++) {
        printf("%-16s %9.3f  %-9s", l->name, jobs[0].least * 1e3, isa_name(isa[i]));
        for (int32_t k = 0; k < DT_COUNT(widths); k++)
            printf("%7.3f", jobs[1 + i * DT_COUNT(widths) + k].least / jobs[0].least);
        printf("\n");
    }
    fflush(stdout);
    arena_free(&a);
    return true;
}

int main(int argc, char **argv)
{
    Arena   a = arena_new("bench");
    Diag    d = diag_new(stderr);
    Args    args = { 0 };
    StrList rest = { 0 };
    if (!opts_parse(&a, &d, options, DT_COUNT(options), argc - 1, argv + 1, &args, &rest))
        return 2;
    CallLib *float_lib = calllib_onednn(&a, &d, (int)args.threads), *libs[ISA_COUNT];
    if (!float_lib)
        return 1;
    Isa     isa[ISA_COUNT];
    int32_t n = 0;
    for (int32_t i = 0; i < args.isa.len && i < ISA_COUNT; i++)
        if (!isa_parse(&a, &d, args.isa.at[i], &isa[n++]))
            return 2;
    for (Isa i = ISA_AVX2; i < ISA_COUNT && args.isa.len == 0; i++)
        if (isa_is_here(i))
            isa[n++] = i;
    for (int32_t i = 0; i < n; i++)
        libs[i] = calllib_integer(&a, float_lib, (int)args.threads, isa[i]);
    printf("%s, batch %lld; ratios of integer products to the float one\n", float_lib->name, (long long)args.batch);
    printf("%-16s %9s  %-9s", "layer", "float ms", "kernels");
    for (int32_t k = 0; k < DT_COUNT(widths); k++)
        printf("%7s", widths[k].name);
    printf("\n");
    for (int32_t i = 0; i < DT_COUNT(layers); i++)
        if (!run_layer(&d, float_lib, libs, isa, n, &layers[i], &args))
            return 1;
    float_lib->release(float_lib->self);
    diag_free(&d);
    arena_free(&a);
    return 0;
}
