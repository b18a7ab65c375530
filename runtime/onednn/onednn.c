/* onednn.c: library calls executed by oneDNN. The one directory that includes its headers.
 *
 * Activations are given to oneDNN as they lie in memory (NHWC, or rows). The weights of a convolution are ours in
 * row-major order while its kernels want blocks of their own choosing, so a call has up to two stages:
 *
 *   forward, input gradient     w --reorder--> packed weights in scratch --primitive--> y, dx
 *   weight gradient             dy, x --primitive--> packed gradient in scratch --reorder--> dw
 *
 * (a reorder takes 5 to 15 us; on row-major weights a convolution falls back to loops that are 100x slower and more).
 * Packed weights and the library's work space lie in the launch's scratch memory:
 *
 *   scratch: [ packed weights | work space of whichever stage runs ]
 *
 * Everything is made when a call is first asked about - by scratch_bytes() at planning time, or by prepare() - and kept
 * by description, so that layers of one shape share one primitive. A run sets addresses and executes.
 *
 * Primitives split their work by the number of threads at creation, so creation and execution happen under the same
 * number, whatever the caller has set. Weight gradients depend on it in the last bits: partial sums are per thread.
 *
 * Tested by tests/unit/test_exec.c against reference.c. */
#include <omp.h>
#include <string.h>

#include "runtime/onednn/dnnl_compat.h"
#include "runtime/program.h"

enum { STAGE_MAX_ARGS = 5, CALL_MAX_STAGES = 2, SCRATCH_ALIGN = 64, KEY_LEN = 17 };

/* ---- What a kind of call is to oneDNN -------------------------------------------------------------------------- */

/* Which buffer of the launch, and which argument of the primitive. */
typedef struct Operand {
    int32_t buf;
    int     arg;
} Operand;

/* clang-format off */
static const struct KindInfo {
    bool     conv;
    DnnlPass pass;
    Operand  src, weights, dst; /* dst: one later when there is a bias */
} kinds[] = {
    [CALL_CONV_FWD]     = { true,  DNNL_PASS_FORWARD,      { 0, DNNL_ARG_SRC },      { 1, DNNL_ARG_WEIGHTS },      { 2, DNNL_ARG_DST } },
    [CALL_CONV_BWD_X]   = { true,  DNNL_PASS_GRAD_SRC,     { 2, DNNL_ARG_DIFF_SRC }, { 1, DNNL_ARG_WEIGHTS },      { 0, DNNL_ARG_DIFF_DST } },
    [CALL_CONV_BWD_W]   = { true,  DNNL_PASS_GRAD_WEIGHTS, { 1, DNNL_ARG_SRC },      { 2, DNNL_ARG_DIFF_WEIGHTS }, { 0, DNNL_ARG_DIFF_DST } },
    [CALL_LINEAR_FWD]   = { false, DNNL_PASS_FORWARD,      { 0, DNNL_ARG_SRC },      { 1, DNNL_ARG_WEIGHTS },      { 2, DNNL_ARG_DST } },
    [CALL_LINEAR_BWD_X] = { false, DNNL_PASS_GRAD_SRC,     { 2, DNNL_ARG_DIFF_SRC }, { 1, DNNL_ARG_WEIGHTS },      { 0, DNNL_ARG_DIFF_DST } },
    [CALL_LINEAR_BWD_W] = { false, DNNL_PASS_GRAD_WEIGHTS, { 1, DNNL_ARG_SRC },      { 2, DNNL_ARG_DIFF_WEIGHTS }, { 0, DNNL_ARG_DIFF_DST } },
};
/* clang-format on */

/* Gradients do not see a bias, whatever the description says. */
static bool has_bias(const CallDesc *d)
{
    return d->bias && kinds[d->kind].pass == DNNL_PASS_FORWARD;
}

/* ---- Calls ----------------------------------------------------------------------------------------------------- */

/* Where an argument lies: in a buffer of the launch, or (buf -1) at an offset of its scratch memory. */
typedef struct Place {
    int32_t buf;
    int64_t offset;
} Place;

/* A primitive and its arguments. `bound` is the address an argument has now: setting one anew can cost a pass over the
 * padding of a blocked format, and scratch addresses never change. */
typedef struct Stage {
    dnnl_primitive_t primitive;
    int32_t          n_args;
    dnnl_exec_arg_t  args[STAGE_MAX_ARGS];
    Place            place[STAGE_MAX_ARGS];
    void            *bound[STAGE_MAX_ARGS];
} Stage;

typedef struct Call {
    int64_t key[KEY_LEN];
    bool    built;
    int32_t users; /* prepared and not given back */
    int32_t n_stages;
    Stage   stages[CALL_MAX_STAGES];
    int64_t scratch_bytes;
} Call;

typedef struct Lib {
    CallLib               face;
    Arena                *arena;
    int                   threads;
    dnnl_engine_t         engine; /* NULL: nothing is open */
    dnnl_stream_t         stream;
    dnnl_primitive_attr_t attr;
    VEC(Call *) calls;
    int32_t users;      /* of all calls */
    char    error[512]; /* the first failure since it was cleared */
} Lib;

static bool check(Lib *l, dnnl_status_t s, const char *what)
{
    if (s != dnnl_success && !l->error[0])
        snprintf(l->error, sizeof l->error, "%s: %s", dnnl_status2str(s), what);
    return s == dnnl_success;
}
#define CHECK(lib, call) check((lib), (call), #call)

/* oneDNN sees our number of threads between these two. */
static int threads_enter(const Lib *l)
{
    int was = omp_get_max_threads();
    if (was != l->threads)
        omp_set_num_threads(l->threads);
    return was;
}

static void threads_leave(const Lib *l, int was)
{
    if (was != l->threads)
        omp_set_num_threads(was);
}

/* ---- Building a call ------------------------------------------------------------------------------------------- */

static void stage_free(Stage *st)
{
    for (int32_t i = 0; i < st->n_args; i++)
        dnnl_memory_destroy(st->args[i].memory);
    if (st->primitive)
        dnnl_primitive_destroy(st->primitive);
    *st = (Stage){ 0 };
}

static void call_free(Call *c)
{
    for (int32_t i = 0; i < CALL_MAX_STAGES; i++)
        stage_free(&c->stages[i]);
    c->n_stages = 0;
    c->scratch_bytes = 0;
    c->built = false;
}

static bool stage_add_arg(Lib *l, Stage *st, int arg, DnnlMdRef md, Place place)
{
    DT_ASSERT(st->n_args < STAGE_MAX_ARGS, "%d arguments", st->n_args);
    dnnl_exec_arg_t *a = &st->args[st->n_args];
    a->arg = arg;
    if (!CHECK(l, dnnl_memory_create(&a->memory, md, l->engine, DNNL_MEMORY_NONE)))
        return false;
    st->place[st->n_args++] = place;
    return true;
}

/* The primitive itself, with its work space at `work_offset` of the scratch memory. */
static bool stage_open(Lib *l, Call *c, Stage *st, dnnl_primitive_desc_t pd, int64_t work_offset)
{
    DnnlMdRef work = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    int64_t   bytes = work ? (int64_t)dnnl_memory_desc_get_size(work) : 0;
    c->scratch_bytes = dt_max64(c->scratch_bytes, work_offset + dt_round_up(bytes, SCRATCH_ALIGN));
    if (bytes > 0 && !stage_add_arg(l, st, DNNL_ARG_SCRATCHPAD, work, (Place){ -1, work_offset }))
        return false;
    return CHECK(l, dnnl_primitive_create(&st->primitive, pd));
}

static bool stage_make_reorder(Lib *l, Call *c, Stage *st, DnnlMdRef from, Place from_place, DnnlMdRef to,
                               Place to_place, int64_t work_offset)
{
    dnnl_primitive_desc_t pd = NULL;
    bool ok = CHECK(l, dnnl_reorder_primitive_desc_create(&pd, from, l->engine, to, l->engine, l->attr)) &&
              stage_open(l, c, st, pd, work_offset) && stage_add_arg(l, st, DNNL_ARG_FROM, from, from_place) &&
              stage_add_arg(l, st, DNNL_ARG_TO, to, to_place);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return ok;
}

/* Is it worth while to let the primitive choose the order of its weights? Always for convolutions. A linear layer reads
 * its matrix about once, so a reorder costs as much as it can gain, but for forward products on AVX-512: 64x9216x128
 * takes 0.79 ms packed in the call against 1.11 (AVX2: 1.11 against 0.77; gradients: 0.66 against 0.40). */
static bool wants_packed(const CallDesc *d)
{
    return kinds[d->kind].conv || (kinds[d->kind].pass == DNNL_PASS_FORWARD && compat_vector_bits() == 512);
}

/* The memory descriptors of one call: activations as they are, weights both ways. */
typedef struct Shapes {
    DnnlMd src, dst, bias, weights, weights_plain;
} Shapes;

static bool shapes_new(Lib *l, Shapes *s, const CallDesc *d)
{
    bool              conv = kinds[d->kind].conv, grouped = conv && d->groups > 1;
    int               rank = conv ? 4 : 2, wrank = grouped ? 5 : rank;
    dnnl_format_tag_t rows = conv ? dnnl_nhwc : dnnl_nc;
    dnnl_format_tag_t plain = grouped ? dnnl_goihw : conv ? dnnl_oihw : dnnl_oi;
    dnnl_dims_t       src = { d->n, d->c, d->h, d->w }, dst = { d->n, d->k, d->oh, d->ow }, bias = { d->k };
    dnnl_dims_t       weights = { d->k, d->c, d->r, d->s };
    if (grouped)
        memcpy(weights, (const int64_t[]){ d->groups, d->k / d->groups, d->c / d->groups, d->r, d->s },
               5 * sizeof *weights);
    return CHECK(l, compat_md_new(&s->src, rank, src, rows)) && CHECK(l, compat_md_new(&s->dst, rank, dst, rows)) &&
           CHECK(l, compat_md_new(&s->bias, 1, bias, dnnl_x)) &&
           CHECK(l, compat_md_new(&s->weights, wrank, weights, wants_packed(d) ? dnnl_format_tag_any : plain)) &&
           CHECK(l, compat_md_new(&s->weights_plain, wrank, weights, plain));
}

static void shapes_free(Shapes *s)
{
    compat_md_free(&s->src);
    compat_md_free(&s->dst);
    compat_md_free(&s->bias);
    compat_md_free(&s->weights);
    compat_md_free(&s->weights_plain);
}

/* The descriptor of the call's primitive; the gradients' are made after their forward operation's. */
static bool pd_new(Lib *l, dnnl_primitive_desc_t *pd, dnnl_primitive_desc_t *hint, const CallDesc *d, const Shapes *s)
{
    const struct KindInfo *k = &kinds[d->kind];
    DnnlOp                 op = { .conv = k->conv,
                                  .pass = DNNL_PASS_FORWARD,
                                  .src = compat_md_ref(&s->src),
                                  .weights = compat_md_ref(&s->weights),
                                  .bias = has_bias(d) ? compat_md_ref(&s->bias) : NULL,
                                  .dst = compat_md_ref(&s->dst),
                                  .stride = { d->stride, d->stride },
                                  .pad_before = { d->pad[0], d->pad[1] },
                                  .pad_after = { d->pad[2], d->pad[3] } };
    if (k->pass == DNNL_PASS_FORWARD)
        return CHECK(l, compat_pd_new(pd, l->engine, &op, l->attr, NULL));
    if (!CHECK(l, compat_pd_new(hint, l->engine, &op, l->attr, NULL)))
        return false;
    op.pass = k->pass;
    return CHECK(l, compat_pd_new(pd, l->engine, &op, l->attr, *hint));
}

/* The stages of a call, from its primitive's descriptor: see the drawing at the top. */
static bool call_make_stages(Lib *l, Call *c, const CallDesc *d, const Shapes *s, dnnl_primitive_desc_t pd)
{
    const struct KindInfo *k = &kinds[d->kind];
    bool                   makes_weights = k->pass == DNNL_PASS_GRAD_WEIGHTS;
    DnnlMdRef              plain = compat_md_ref(&s->weights_plain);
    DnnlMdRef              packed =
        dnnl_primitive_desc_query_md(pd, makes_weights ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    bool    packs = !dnnl_memory_desc_equal(packed, plain);
    Place   ours = { k->weights.buf, 0 }, theirs = packs ? (Place){ -1, 0 } : ours;
    int64_t work = packs ? dt_round_up((int64_t)dnnl_memory_desc_get_size(packed), SCRATCH_ALIGN) : 0;

    c->n_stages = packs ? 2 : 1;
    Stage *main = &c->stages[packs && !makes_weights ? 1 : 0], *reorder = &c->stages[makes_weights ? 1 : 0];
    if (packs && !(makes_weights ? stage_make_reorder(l, c, reorder, packed, theirs, plain, ours, work)
                                 : stage_make_reorder(l, c, reorder, plain, ours, packed, theirs, work)))
        return false;
    return stage_open(l, c, main, pd, work) &&
           stage_add_arg(l, main, k->src.arg, compat_md_ref(&s->src), (Place){ k->src.buf, 0 }) &&
           stage_add_arg(l, main, k->weights.arg, packed, theirs) &&
           (!has_bias(d) || stage_add_arg(l, main, DNNL_ARG_BIAS, compat_md_ref(&s->bias), (Place){ 2, 0 })) &&
           stage_add_arg(l, main, k->dst.arg, compat_md_ref(&s->dst), (Place){ k->dst.buf + (has_bias(d) ? 1 : 0), 0 });
}

static void lib_close(Lib *l)
{
    if (l->attr)
        dnnl_primitive_attr_destroy(l->attr);
    if (l->stream)
        dnnl_stream_destroy(l->stream);
    if (l->engine)
        dnnl_engine_destroy(l->engine);
    l->attr = NULL;
    l->stream = NULL;
    l->engine = NULL;
}

static bool lib_open(Lib *l)
{
    if (l->engine)
        return true;
    bool ok = CHECK(l, dnnl_engine_create(&l->engine, dnnl_cpu, 0)) &&
              CHECK(l, dnnl_stream_create(&l->stream, l->engine, dnnl_stream_default_flags)) &&
              CHECK(l, dnnl_primitive_attr_create(&l->attr)) &&
              CHECK(l, dnnl_primitive_attr_set_scratchpad_mode(l->attr, dnnl_scratchpad_mode_user));
    if (!ok)
        lib_close(l);
    return ok;
}

static bool call_build(Lib *l, Call *c, const CallDesc *d)
{
    if (c->built)
        return true;
    l->error[0] = '\0';
    int                   was = threads_enter(l);
    Shapes                s = { 0 };
    dnnl_primitive_desc_t pd = NULL, hint = NULL;
    c->built = lib_open(l) && shapes_new(l, &s, d) && pd_new(l, &pd, &hint, d, &s) && call_make_stages(l, c, d, &s, pd);
    if (!c->built)
        call_free(c);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    shapes_free(&s);
    threads_leave(l, was);
    return c->built;
}

/* ---- The cache ------------------------------------------------------------------------------------------------- */

/* What a call's primitive depends on. Of a linear call, the fields of the convolution do not count. */
static void call_key(const CallDesc *d, int64_t key[KEY_LEN])
{
    DT_ASSERT(d->kind >= 0 && d->kind < DT_COUNT(kinds), "call kind %d", (int)d->kind);
    bool    conv = kinds[d->kind].conv;
    int64_t all[KEY_LEN] = { d->kind,   has_bias(d), d->n,      d->c,      d->k,     d->h,
                             d->w,      d->r,        d->s,      d->oh,     d->ow,    d->stride,
                             d->groups, d->pad[0],   d->pad[1], d->pad[2], d->pad[3] };
    for (int32_t i = 0; i < KEY_LEN; i++)
        key[i] = i < 5 || conv ? all[i] : 0;
}

/* The call of this description, built or not. */
static Call *call_find(Lib *l, const CallDesc *d)
{
    int64_t key[KEY_LEN];
    call_key(d, key);
    for (int32_t i = 0; i < l->calls.len; i++)
        if (!memcmp(l->calls.at[i]->key, key, sizeof key))
            return l->calls.at[i];
    Call *c = ARENA_NEW(l->arena, Call);
    memcpy(c->key, key, sizeof key);
    vec_push(l->arena, &l->calls, c);
    return c;
}

/* ---- CallLib --------------------------------------------------------------------------------------------------- */

/* What it is never asked for when the passes compile for a CPU: NULL, or what that is. */
static const char *unsupported(const CallDesc *d)
{
    if (d->kind == CALL_CONV_FWD_INT)
        return "integer products of codes";
    if (d->bf16)
        return "gradients in bf16";
    return d->krsc ? "weights in the order [K, R, S, C]" : NULL;
}

static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    if (unsupported(d))
        return 0;
    Call *c = call_find(self, d);
    return call_build(self, c, d) ? c->scratch_bytes : 0; /* a failure is reported by prepare */
}

static void *lib_prepare(void *self, Diag *diag, const CallDesc *d)
{
    Lib *l = self;
    if (unsupported(d)) {
        diag_error(diag, LOC_NONE, "%s: expected float products with weights in rows, found %s", l->face.name,
                   unsupported(d));
        diag_help(diag, "integer products are made by runtime/integer, other layouts are for GPU backends");
        return NULL;
    }
    Call *c = call_find(l, d);
    if (!call_build(l, c, d)) {
        diag_error(diag, LOC_NONE,
                   "%s refuses a call of kind %d: batch %lld, %lldx%lldx%lld -> %lldx%lldx%lld, window %lldx%lld, "
                   "stride %lld, groups %lld: %s",
                   l->face.name, (int)d->kind, (long long)d->n, (long long)d->c, (long long)d->h, (long long)d->w,
                   (long long)d->k, (long long)d->oh, (long long)d->ow, (long long)d->r, (long long)d->s,
                   (long long)d->stride, (long long)d->groups, l->error);
        diag_help(diag,
                  "DNNL_VERBOSE=2 in the environment makes oneDNN say more; the reference library takes any shape");
        return NULL;
    }
    c->users++;
    l->users++;
    return c;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Lib  *l = self;
    Call *c = prepared;
    int   was = threads_enter(l);
    for (int32_t i = 0; i < c->n_stages; i++) {
        Stage *st = &c->stages[i];
        for (int32_t j = 0; j < st->n_args; j++) {
            Place p = st->place[j];
            void *at = p.buf >= 0 ? bufs[p.buf] : (char *)scratch + p.offset;
            if (st->bound[j] != at)
                dnnl_memory_set_data_handle(st->args[j].memory, at);
            st->bound[j] = at;
        }
        dnnl_status_t s = dnnl_primitive_execute(st->primitive, l->stream, st->n_args, st->args);
        DT_ASSERT(s == dnnl_success, "%s: stage %d of call kind %lld: %s", l->face.name, i, (long long)c->key[0],
                  dnnl_status2str(s));
    }
    dnnl_stream_wait(l->stream);
    threads_leave(l, was);
    return true;
}

static void lib_release(void *self)
{
    Lib *l = self;
    for (int32_t i = l->calls.len - 1; i >= 0; i--) {
        call_free(l->calls.at[i]);
        l->calls.at[i]->users = 0;
    }
    l->users = 0;
    lib_close(l);
}

/* The last one out closes the library, which opens again when it is asked again. */
static void lib_unprepare(void *self, void *prepared)
{
    Lib  *l = self;
    Call *c = prepared;
    if (c->users == 0) /* released before */
        return;
    c->users--;
    if (--l->users == 0)
        lib_release(l);
}

CallLib *calllib_onednn(Arena *a, Diag *d, int threads)
{
    const dnnl_version_t *v = dnnl_version();
    if (v->major != DNNL_VERSION_MAJOR) {
        diag_error(d, LOC_NONE, "oneDNN: built against %d.%d, but version %d.%d.%d was loaded", DNNL_VERSION_MAJOR,
                   DNNL_VERSION_MINOR, v->major, v->minor, v->patch);
        diag_help(d, "look at LD_LIBRARY_PATH, or build Detent against the oneDNN that is installed");
        return NULL;
    }
    Lib *l = ARENA_NEW(a, Lib);
    l->arena = a;
    /* With fewer threads than it was promised oneDNN waits forever for the others. */
    l->threads = (int)dt_min64(threads > 0 ? threads : omp_get_max_threads(), omp_get_thread_limit());
    l->face = (CallLib){
        .name = arena_printf(a, "oneDNN %d.%d.%d (%s)", v->major, v->minor, v->patch, compat_isa_name()),
        .vector_bits = compat_vector_bits(),
        .self = l,
        .scratch_bytes = lib_scratch_bytes,
        .prepare = lib_prepare,
        .run = lib_run,
        .release = lib_release,
        .unprepare = lib_unprepare,
    };
    return &l->face;
}
