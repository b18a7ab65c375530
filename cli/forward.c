/* forward.c: --forward auto: which forward products of quantized layers are made of integer codes, by what both ways
 * take on this machine.
 *
 * A *product* is a shape and the ranges of its codes; of batches only the power of two below is told apart. Each is
 * timed once, the library's product of floats beside that of codes, a few milliseconds in turns, the least counts. What
 * else the codes cost or save - a byte instead of a float is written for the input - is counted in elements and timed
 * once, too, as a product of the name MOVED. The numbers lie in the disk cache, one entry a product; the key names the
 * processor, the instruction set, the threads and the library. A damaged entry is measured anew.
 *
 * A run that was killed and is resumed must be the same run: so whatever was decided by becomes the option
 * forward-times and is kept in args.json, and what that option says is neither measured nor read. Numbers are rounded
 * to text before anything is decided by them.
 *
 * A GPU's products are not timed: there they stay products of floats. The interpreter decides as cpu does, so that both
 * run the same program. Tested by tests/unit/test_forward.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "cli/doctor.h"
#include "runtime/integer/integer.h"

enum { WAY_FLOATS, WAY_CODES, WAYS };

/* Milliseconds. */
typedef struct ForwardTime {
    const char *product;
    double      ms[WAYS];
} ForwardTime;

struct ForwardTable {
    VEC(ForwardTime) times;
    Arena  *arena;
    int32_t measured; /* in this process */
};

/* Elements that are written as floats and as bytes for the entry MOVED. */
#define MOVED "moved"
static const int64_t MOVED_ELEMS = 16 << 20; /* more than caches hold */

/* ---- Numbers as text --------------------------------------------------------------------------------------------- */

/* "PRODUCT=1.25/0.5". False: it is none. */
static bool time_parse(Arena *a, const char *text, ForwardTime *out)
{
    const char *equal = strrchr(text, '=');
    if (equal == NULL || equal == text)
        return false;
    const char *at = equal + 1;
    for (int way = 0; way < WAYS; way++) {
        char *end;
        out->ms[way] = strtod(at, &end);
        if (end == at || *end != (way + 1 < WAYS ? '/' : 0) || !(out->ms[way] > 0) || !(out->ms[way] < 1e9))
            return false;
        at = end + 1;
    }
    out->product = arena_strndup(a, text, (size_t)(equal - text));
    return true;
}

static const char *time_text(Arena *a, const char *product, const double ms[WAYS])
{
    return arena_printf(a, "%s=%.4g/%.4g", product, ms[WAY_FLOATS], ms[WAY_CODES]);
}

static const ForwardTime *table_find(const ForwardTable *t, const char *product)
{
    for (int32_t i = 0; i < t->times.len; i++)
        if (str_eq(t->times.at[i].product, product))
            return &t->times.at[i];
    return NULL;
}

bool session_forward(Session *s)
{
    bool automatic = str_eq(s->opt.forward, "auto");
    if (s->opt.forward_times.len > 0 && !automatic) {
        diag_error(&s->diag, LOC_NONE, "--forward-times: expected --forward auto beside it, found --forward %s",
                   s->opt.forward);
        return false;
    }
    if (s->forward != NULL || !automatic)
        return true;
    s->forward = ARENA_NEW(&s->arena, ForwardTable);
    s->forward->arena = &s->arena;
    for (int32_t i = 0; i < s->opt.forward_times.len; i++) {
        ForwardTime time;
        if (!time_parse(&s->arena, s->opt.forward_times.at[i], &time)) {
            diag_error(&s->diag, LOC_NONE,
                       "--forward-times: expected PRODUCT=MS/MS, milliseconds of floats and of codes, found '%s'",
                       s->opt.forward_times.at[i]);
            diag_help(&s->diag, "leave it out: what is missing is measured");
            return false;
        }
        vec_push(&s->arena, &s->forward->times, time);
    }
    return true;
}

void session_record_forward(Session *s)
{
    if (s->forward == NULL)
        return;
    s->opt.forward_times = (StrList){ 0 };
    if (s->forward->measured > 0)
        log_info("forward: %d of %d kinds of products timed, the others from the cache", s->forward->measured,
                 s->forward->times.len);
    for (int32_t i = 0; i < s->forward->times.len; i++) {
        const ForwardTime *t = &s->forward->times.at[i];
        vec_push(&s->arena, &s->opt.forward_times, time_text(&s->arena, t->product, t->ms));
    }
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */

/* Of a batch this large one is timed, and others in proportion: what it reads and writes stays below this. */
static const int64_t TIMED_BYTES = 128 << 20;

static int64_t       timed_batch(const ForwardProduct *p)
{
    int64_t image = (p->c * p->h * p->w + p->k * p->oh * p->ow) * (int64_t)sizeof(float), n = 1;
    while (2 * n <= p->n && 2 * n * image <= TIMED_BYTES)
        n *= 2;
    return n;
}

static const char *product_name(Arena *a, const ForwardProduct *p, int64_t n)
{
    return arena_printf(
        a, "%sn%lld.c%lld.h%lld.w%lld.k%lld.r%lld.s%lld.stride%lld.groups%lld.pad%lld,%lld,%lld,%lld.x%d:%d.w%d:%d%s",
        p->matrix       ? "matrix."
        : p->transposed ? "transposed."
                        : "",
        (long long)n, (long long)p->c, (long long)p->h, (long long)p->w, (long long)p->k, (long long)p->r,
        (long long)p->s, (long long)p->stride, (long long)p->groups, (long long)p->pad[0], (long long)p->pad[1],
        (long long)p->pad[2], (long long)p->pad[3], p->x_lo, p->x_hi, p->w_lo, p->w_hi, p->scale_each ? ".each" : "");
}

/* What the library makes of it: the convolution that a transposed one is the gradient of, or that of single pixels that
 * integer-forward makes of it. */
static CallDesc transposed_call(const ForwardProduct *p, int64_t n, int way)
{
    CallDesc d = {
        .kind = CALL_CONV_BWD_X, .n = n, .c = p->k, .h = p->oh, .w = p->ow, .k = p->c, .r = p->r, .s = p->s
    };
    d.oh = p->h, d.ow = p->w, d.stride = p->stride, d.groups = 1;
    if (way == WAY_CODES)
        d = (CallDesc){ .n = n,
                        .c = p->c,
                        .h = p->h,
                        .w = p->w,
                        .k = p->k * p->r * p->s,
                        .r = 1,
                        .s = 1,
                        .oh = p->h,
                        .ow = p->w,
                        .stride = 1,
                        .groups = 1 };
    return d;
}

static CallDesc product_call(const ForwardProduct *p, int64_t n, int way)
{
    CallDesc d = { .kind = CALL_CONV_FWD, .n = n, .c = p->c, .h = p->h, .w = p->w, .k = p->k, .r = p->r, .s = p->s };
    d.oh = p->oh, d.ow = p->ow, d.stride = p->stride, d.groups = p->groups;
    memcpy(d.pad, p->pad, sizeof d.pad);
    if (p->transposed)
        d = transposed_call(p, n, way);
    if (way == WAY_FLOATS && p->matrix)
        d.kind = CALL_LINEAR_FWD;
    if (way == WAY_FLOATS)
        return d;
    d.kind = CALL_CONV_FWD_INT;
    d.x_type = p->x_hi > 127 ? DTYPE_U8 : DTYPE_S8, d.w_type = DTYPE_S8;
    d.x_lo = p->x_lo, d.x_hi = p->x_hi, d.w_lo = p->w_lo, d.w_hi = p->w_hi;
    d.scale_per_k = p->scale_each && !p->transposed;
    return d;
}

/* ---- Timing ------------------------------------------------------------------------------------------------------ */

enum { LEAST_ROUNDS = 5, MOST_ROUNDS = 50 };
static const double ENOUGH_MS = 20, PATIENCE_MS = 1000;

/* Something to be timed, both ways in turns. False: it failed. */
typedef bool Timed(void *self, int way);

static bool  time_both(Timed *run, void *self, double ms[WAYS])
{
    double spent = 0;
    ms[WAY_FLOATS] = ms[WAY_CODES] = INFINITY;
    for (int round = -1; round < MOST_ROUNDS; round++) { /* one to warm up */
        for (int way = 0; way < WAYS; way++) {
            double start = time_now_s();
            if (!run(self, way))
                return false;
            double took = dt_max64(1, (int64_t)(1e9 * (time_now_s() - start))) * 1e-6;
            ms[way] = round >= 0 ? fmin(ms[way], took) : ms[way];
            spent += took;
        }
        if (round >= 0 && (spent > PATIENCE_MS || (round + 1 >= LEAST_ROUNDS && spent > ENOUGH_MS)))
            break;
    }
    return true;
}

typedef struct Calls {
    CallLib *lib;
    void    *prepared[WAYS], *bufs[WAYS][CALL_MAX_BUFS], *scratch;
} Calls;

static bool run_call(void *self, int way)
{
    Calls *c = self;
    return c->lib->run(c->lib->self, c->prepared[way], c->bufs[way], c->scratch);
}

/* Memory that was written once: pages that nobody wrote are all the same page, and fast. */
static void *filled(Arena *a, int64_t bytes, int with)
{
    char *at = arena_alloc(a, (size_t)bytes + 64);
    at += -(uintptr_t)at & 63;
    memset(at, with, (size_t)bytes);
    return at;
}

/* The buffers of a call, in its order. */
static void product_buffers(Arena *a, const ForwardProduct *p, int64_t n, Calls *c)
{
    enum { SMALL_FLOATS = 0x3f }; /* each byte: 0.747 */
    const int64_t x = n * p->c * p->h * p->w, w = p->k * (p->c / p->groups) * p->r * p->s;
    void         *y = filled(a, n * p->k * p->oh * p->ow * (int64_t)sizeof(float), 0);
    void        **floats = c->bufs[WAY_FLOATS], **codes = c->bufs[WAY_CODES];
    floats[0] = filled(a, x * (int64_t)sizeof(float), SMALL_FLOATS);
    floats[1] = filled(a, w * (int64_t)sizeof(float), SMALL_FLOATS);
    codes[0] = filled(a, x, 1);
    codes[1] = filled(a, w, 1);
    codes[2] = filled(a, p->k * (int64_t)sizeof(float), SMALL_FLOATS);
    floats[2] = codes[3] = y;
}

static int threads_of(const Session *s)
{
    return (int)(s->opt.threads > 0 ? s->opt.threads : omp_get_max_threads());
}

/* False: the library has no such product. */
static bool measure_product(CallLib *lib, const ForwardProduct *p, int64_t n, double ms[WAYS])
{
    Arena   a = arena_new("product");
    Diag    quiet = diag_new(NULL);
    Calls   c = { .lib = lib };
    int64_t scratch = 64;
    bool    ok = true;
    for (int way = 0; way < WAYS && ok; way++) {
        CallDesc d = product_call(p, n, way);
        int64_t  bytes = lib->scratch_bytes(lib->self, &d);
        scratch = dt_max64(scratch, bytes);
        c.prepared[way] = bytes >= 0 ? lib->prepare(lib->self, &quiet, &d) : NULL;
        ok = c.prepared[way] != NULL;
    }
    if (ok) {
        product_buffers(&a, p, n, &c);
        c.scratch = filled(&a, scratch, 0);
        ok = time_both(run_call, &c, ms);
    }
    for (int way = 0; way < WAYS; way++)
        if (c.prepared[way] != NULL && lib->unprepare != NULL)
            lib->unprepare(lib->self, c.prepared[way]);
    diag_free(&quiet);
    arena_free(&a);
    return ok;
}

/* What a kernel in front of a product writes: floats, or bytes. */
typedef struct Written {
    float  *floats;
    int8_t *codes;
    int     threads;
} Written;

static bool run_written(void *self, int way)
{
    const Written *w = self;
    const int64_t  n = MOVED_ELEMS;
#pragma omp parallel for num_threads(w->threads)
    for (int64_t part = 0; part < w->threads; part++) {
        int64_t first = n * part / w->threads, end = n * (part + 1) / w->threads;
        if (way == WAY_FLOATS)
            memset(w->floats + first, 1, sizeof(float) * (size_t)(end - first));
        else
            memset(w->codes + first, 1, (size_t)(end - first));
    }
    return true;
}

static bool measure_moved(Session *s, double ms[WAYS])
{
    Arena   a = arena_new("moved");
    Written w = { .floats = filled(&a, MOVED_ELEMS * (int64_t)sizeof(float), 0),
                  .codes = filled(&a, MOVED_ELEMS, 0),
                  .threads = threads_of(s) };
    bool    ok = time_both(run_written, &w, ms);
    arena_free(&a);
    return ok;
}

/* ---- The table on disk ------------------------------------------------------------------------------------------- */

static const char *disk_key(Session *s, const char *product, CallLib *lib)
{
    return arena_printf(&s->arena, "forward product\n" DT_VERSION "\n%s\n%s\n%d threads\n%s",
                        doctor_cpuinfo(&s->arena, "model name"), lib->name, threads_of(s), product);
}

/* The entry, where it is there and whole. */
static bool disk_read(Session *s, const char *product, CallLib *lib, ForwardTime *out)
{
    const char *dir = session_cache_dir(s);
    size_t      bytes = 0;
    const char *text = dir != NULL ? cache_load(&s->arena, dir, "forward", disk_key(s, product, lib), &bytes) : NULL;
    return text != NULL && strlen(text) == bytes && time_parse(&s->arena, text, out) && str_eq(out->product, product);
}

/* From the disk, or measured and put there. `p` NULL: MOVED. NULL: it cannot be. */
static const ForwardTime *table_fill(Session *s, const char *product, const ForwardProduct *p, int64_t n)
{
    Arena       libs = arena_new("libraries");
    Diag        quiet = diag_new(NULL);
    Isa         isa;
    ForwardTime time = { 0 };
    double      ms[WAYS];
    CallLib    *lib =
        isa_parse(&s->arena, &s->diag, s->opt.isa, &isa) ? calllib_cpu(&libs, &quiet, (int)s->opt.threads, isa) : NULL;
    bool ok = lib != NULL && disk_read(s, product, lib, &time);
    if (lib != NULL && !ok && (p != NULL ? measure_product(lib, p, n, ms) : measure_moved(s, ms))) {
        const char *text = time_text(&s->arena, product, ms), *dir = session_cache_dir(s);
        ok = time_parse(&s->arena, text, &time);
        if (ok && dir != NULL)
            cache_store(dir, "forward", disk_key(s, product, lib), text, strlen(text));
        s->forward->measured++;
        log_debug("forward: %s", text);
    }
    if (lib != NULL)
        lib->release(lib->self);
    diag_free(&quiet);
    arena_free(&libs);
    if (!ok)
        return NULL;
    vec_push(s->forward->arena, &s->forward->times, time);
    return &s->forward->times.at[s->forward->times.len - 1];
}

/* ---- Deciding ---------------------------------------------------------------------------------------------------- */

/* Copied: the table grows. False: there is none, and none can be had. */
static bool time_of(Session *s, const char *product, const ForwardProduct *p, int64_t n, ForwardTime *out)
{
    bool               host = cli_target(s->opt.backend) == cli_target("cpu");
    const ForwardTime *t = table_find(s->forward, product);
    if (t == NULL && host)
        t = table_fill(s, product, p, n);
    if (t != NULL)
        *out = *t;
    return t != NULL;
}

static bool of_codes(void *user, Arena *a, const ForwardProduct *p, const char **why)
{
    Session      *s = user;
    const int64_t n = timed_batch(p);
    const double  batches = (double)p->n / (double)n;
    ForwardTime   product, moved;
    if (!time_of(s, product_name(&s->arena, p, n), p, n, &product) || !time_of(s, MOVED, NULL, 0, &moved)) {
        *why = cli_target(s->opt.backend) == cli_target("cpu")
                   ? "auto has no library of float products to compare it with"
                   : "auto does not time products on a GPU";
        return false;
    }
    double floats = product.ms[WAY_FLOATS] * batches, codes = product.ms[WAY_CODES] * batches;
    if (p->has_offset)
        codes += codes / (double)p->n;
    double beside = ((double)p->codes_written * moved.ms[WAY_CODES] - (double)p->floats_saved * moved.ms[WAY_FLOATS]) /
                    (double)MOVED_ELEMS;
    bool yes = codes + beside < floats;
    *why = arena_printf(a, "auto: %.3g ms of codes, %.3g %s for what is written beside it, %.3g ms of floats", codes,
                        fabs(beside), beside < 0 ? "less" : "more", floats);
    return yes;
}

const ForwardChooser *session_chooser(Session *s)
{
    if (s->forward == NULL)
        return NULL;
    ForwardChooser *c = ARENA_NEW(&s->arena, ForwardChooser);
    *c = (ForwardChooser){ .user = s, .of_codes = of_codes };
    return c;
}
