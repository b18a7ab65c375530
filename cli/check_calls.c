/* check_calls.c: a library call against plain loops in double precision, on the host or on a GPU.
 *
 * Products of integer codes are exact, and must be equal. Libraries add up floats in an order of their own, in single
 * precision, so there equality is not to be had. For a sum of n products the error is at most n 2^-24 times the sum of
 * their sizes; with partial sums and signs that vary it grows as the root of n. Allowed is (4 + sqrt n) 2^-24 times the
 * sum of sizes, element by element: a wrong tap or a product in bfloat16 (2^-9) is far outside. Gradients in bf16 are
 * held to the same bound: plain loops round their operands, too, and products of two bf16 are exact.
 *
 * Tested by tests/unit/test_check.c and tests/unit/test_exec.c. */
#include "cli/check.h"

#include <math.h>
#include <string.h>

enum { CALL_STREAM = 0x63616c6c };

static const char *const call_names[] = { "conv forward",      "conv gradient x",   "conv gradient w", "linear forward",
                                          "linear gradient x", "linear gradient w", "integer conv" };

static DType             call_type(const CallDesc *d, int32_t buf)
{
    bool codes = d->kind == CALL_CONV_FWD_INT;
    if (d->bf16 && buf == 1)
        return d->kind == CALL_CONV_BWD_X ? d->w_type : d->x_type;
    return codes && buf == 0 ? d->x_type : codes && buf == 1 ? d->w_type : DTYPE_F32;
}

const char *check_call_text(Arena *a, const CallDesc *d)
{
    Str s = str_new(a);
    str_printf(&s, "%s %lldx%lld", call_names[d->kind], (long long)d->n, (long long)d->c);
    if (d->kind < CALL_LINEAR_FWD || d->kind == CALL_CONV_FWD_INT)
        str_printf(&s, "x%lldx%lld -> %lld, %lldx%lld stride %lld", (long long)d->h, (long long)d->w, (long long)d->k,
                   (long long)d->r, (long long)d->s, (long long)d->stride);
    else
        str_printf(&s, " -> %lld", (long long)d->k);
    if (d->pad[0] + d->pad[1] + d->pad[2] + d->pad[3] > 0)
        str_printf(&s, " pad %lld,%lld,%lld,%lld", (long long)d->pad[0], (long long)d->pad[1], (long long)d->pad[2],
                   (long long)d->pad[3]);
    if (d->groups > 1)
        str_printf(&s, " groups %lld", (long long)d->groups);
    if (d->bias)
        str_add(&s, " bias");
    if (d->bf16)
        str_printf(&s, " bf16 x %s", dtype_name(call_type(d, 1)));
    if (d->kind == CALL_CONV_FWD_INT)
        str_printf(&s, " %s %d..%d x %s %d..%d%s", dtype_name(d->x_type), d->x_lo, d->x_hi, dtype_name(d->w_type),
                   d->w_lo, d->w_hi, d->scale_per_k ? " per channel" : "");
    return s.s;
}

const char *check_call_name(CallKind kind)
{
    return call_names[kind];
}

/* x, w, bias, y and their gradients have these sizes. */
typedef struct CallSizes {
    int64_t buf[CALL_MAX_BUFS];
    int32_t n; /* the last one is the result */
    int64_t products;
} CallSizes;

static CallSizes call_sizes(const CallDesc *d)
{
    int64_t x = d->n * d->c * d->h * d->w, w = d->k * (d->c / d->groups) * d->r * d->s, y = d->n * d->k * d->oh * d->ow;
    switch (d->kind) {
    case CALL_CONV_FWD_INT:
        return (CallSizes){ { x, w, d->scale_per_k ? d->k : 1, y }, 4, w / d->k };
    case CALL_CONV_FWD:
    case CALL_LINEAR_FWD:
        return d->bias ? (CallSizes){ { x, w, d->k, y }, 4, w / d->k + 1 } : (CallSizes){ { x, w, y }, 3, w / d->k };
    case CALL_CONV_BWD_X:
    case CALL_LINEAR_BWD_X:
        return (CallSizes){ { y, w, x }, 3, w / (d->c / d->groups) };
    case CALL_CONV_BWD_W:
    case CALL_LINEAR_BWD_W:
        return (CallSizes){ { y, x, w }, 3, d->n * d->oh * d->ow };
    }
    DT_UNREACHABLE("call kind %d", (int)d->kind);
}

/* What the elements of a buffer may be; of codes whose range is not said, what their type holds. */
static KernelData call_data(const CallDesc *d, int32_t buf)
{
    DType   t = call_type(d, buf);
    int32_t lo = buf == 0 ? d->x_lo : d->w_lo, hi = buf == 0 ? d->x_hi : d->w_hi;
    if (dtype_is_float(t))
        return (KernelData){ -1, 1 };
    return lo == 0 && hi == 0 ? (KernelData){ dtype_min(t), dtype_max(t) } : (KernelData){ lo, hi };
}

static void *call_buf(Arena *a, DType t, KernelData data, int64_t n, uint32_t stream, uint64_t seed)
{
    char *at = arena_alloc(a, (size_t)dtype_bytes(t, n) + 64);
    at += -(uintptr_t)at & 63;
    for (int64_t i = 0; i < n; i++) {
        float u = rng_uniform(seed, CALL_STREAM, stream, (uint64_t)i);
        if (dtype_is_float(t))
            ((float *)(void *)at)[i] = 2 * u - 1;
        else
            elem_set(t, at, i, floor((double)u * (double)(data.hi - data.lo + 1)) + (double)data.lo);
    }
    return at;
}

static void call_compare(Arena *a, const float *found, const float *expected, const float *sizes, int64_t n,
                         double unit, CallResult *out)
{
    for (int64_t i = 0; i < n; i++) {
        double bound = unit * (double)sizes[i] + 1e-30, error = fabs((double)found[i] - (double)expected[i]) / bound;
        if (error <= out->worst)
            continue;
        out->worst = error;
        if (!(error <= 1) && out->ok) {
            out->ok = false;
            out->where = arena_printf(a, "element %lld is %.9g, plain loops have %.9g", (long long)i, (double)found[i],
                                      (double)expected[i]);
        }
    }
}

static bool call_run(Arena *a, Diag *d, CallLib *lib, const CallDesc *call, void *const *bufs)
{
    void *prepared = lib->prepare(lib->self, d, call);
    if (prepared == NULL)
        return false;
    char *work = arena_alloc(a, (size_t)lib->scratch_bytes(lib->self, call) + 64);
    bool  done = lib->run(lib->self, prepared, bufs, work + (-(uintptr_t)work & 63));
    if (lib->unprepare != NULL)
        lib->unprepare(lib->self, prepared);
    return done;
}

bool check_call(Arena *a, Diag *d, Gpu *gpu, CallLib *lib, const CallDesc *call, uint64_t seed, CallResult *out)
{
    Arena     scratch = arena_new("call check");
    CallSizes s = call_sizes(call);
    void     *bufs[CALL_MAX_BUFS], *plain[CALL_MAX_BUFS];
    int64_t   n = s.buf[s.n - 1], bytes[CALL_MAX_BUFS];
    for (int32_t i = 0; i < s.n; i++) {
        bufs[i] = plain[i] = call_buf(&scratch, call_type(call, i), call_data(call, i), s.buf[i], (uint32_t)i, seed);
        bytes[i] = dtype_bytes(call_type(call, i), s.buf[i]);
    }
    plain[s.n - 1] = call_buf(&scratch, DTYPE_F32, (KernelData){ -1, 1 }, n, 99,
                              seed); /* two results, each begun with other garbage */
    float *sizes = ARENA_ARRAY(&scratch, float, n);
    *out = (CallResult){ .ok = true, .compared = n, .where = "" };
    bool done =
        gpu != NULL ? check_call_run_gpu(d, gpu, lib, call, bufs, bytes, s.n) : call_run(&scratch, d, lib, call, bufs);
    if (done) {
        double unit = call->kind == CALL_CONV_FWD_INT ? 0 : (4 + sqrt((double)s.products)) * 0x1p-24;
        reference_call(call, plain, sizes);
        call_compare(a, bufs[s.n - 1], plain[s.n - 1], sizes, n, unit, out);
    }
    arena_free(&scratch);
    return done;
}
