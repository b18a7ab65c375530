/* cudnn_fixture.h: cuDNN's functions with something put between: calls are counted, so that a descriptor that is not
 * given back shows; any of them can be made to fail; and a GPU can be had that is not there: plans are made for a
 * described device and "run" by noting what they were given (or, on demand, by taking a time that depends on the
 * engine). Beside it, the library calls of the networks. */
#ifndef DETENT_TESTS_CUDNN_FIXTURE_H
#define DETENT_TESTS_CUDNN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/cudnn/cudnn_impl.h"

#define UNUSED __attribute__((unused))

/* Under the address sanitizer: cuDNN leaves memory behind for each engine that it asks about (cuBLASLt that is never
 * closed, libraries that are loaded and unloaded). What is ours to give back is counted below instead. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* ---- The functions between -------------------------------------------------------------------------------------- */

typedef enum ShimFn {
#define X(name, symbol, result, params) FN_##name,
    CUDNN_API(X)
#undef X
        FN_COUNT
} ShimFn;

static const char *const shim_symbols[] = {
#define X(name, symbol, result, params) symbol,
    CUDNN_API(X)
#undef X
};

enum { INJECTED = 4000, SHIM_PACKS = 256, SHIM_RUNS = 256 };

typedef struct ShimPack {
    CudnnDesc desc;
    int64_t   uids[STAGE_BINDINGS], n;
    void     *at[STAGE_BINDINGS], *workspace;
} ShimPack;

typedef struct Shim {
    const CudnnApi *real;
    CudnnApi        table;
    int64_t         calls[FN_COUNT], live; /* descriptors that are there */
    ShimFn          fail;
    int64_t         fail_at;            /* which call of it, from 1; 0: none */
    int             fail_attr;          /* only calls about this attribute; 0: any */
    bool            stays, now;         /* all later ones, too; the last failure was ours */
    size_t          version;            /* 0: the library's */
    CudnnDesc       device;             /* not NULL: stands for a GPU */
    bool            pretend;            /* a plan that compiles finishes, though no driver can load it */
    int32_t         compiled;           /* how many did */
    CudnnDesc       loaded[SHIM_PACKS]; /* them */
    int32_t         n_loaded;
    ShimPack        packs[SHIM_PACKS]; /* in a ring */
    int32_t         n_packs, n_runs;
    CudnnDesc       run_plan[SHIM_RUNS], run_pack[SHIM_RUNS];
    int32_t         slow_engine; /* runs of it take 3 ms, all others 1; -1: none takes time */
    int32_t         fail_engine; /* runs of it fail; -1: none */
} Shim;
static Shim        shim;

UNUSED static bool shim_fails(ShimFn fn, int attr)
{
    shim.now = false;
    if (shim.fail_at == 0 || fn != shim.fail || (shim.fail_attr && attr != shim.fail_attr))
        return false;
    shim.calls[fn]++;
    shim.now = shim.stays ? shim.calls[fn] >= shim.fail_at : shim.calls[fn] == shim.fail_at;
    return shim.now;
}

static size_t shim_version(void)
{
    return shim.version ? shim.version : shim.real->version();
}

static const char *shim_status_text(CudnnStatus status)
{
    return shim.real->status_text(status);
}

UNUSED static void shim_last_error(char *text, size_t bytes)
{
    if (shim.now)
        snprintf(text, bytes, "Error: by the test\n");
    else
        shim.real->last_error(text, bytes);
}

static CudnnStatus shim_handle_new(void **handle)
{
    if (shim_fails(FN_handle_new, 0))
        return INJECTED;
    *handle = &shim;
    shim.live++;
    return 0;
}

static CudnnStatus shim_handle_free(void *handle)
{
    assert_ptr_equal(handle, &shim);
    shim.live--;
    return 0;
}

static CudnnStatus shim_set_stream(void *handle, void *stream)
{
    assert_ptr_equal(handle, &shim);
    assert_non_null(stream);
    return shim_fails(FN_set_stream, 0) ? INJECTED : 0;
}

static CudnnStatus shim_create(int type, CudnnDesc *desc)
{
    if (shim_fails(FN_create, 0))
        return INJECTED;
    CudnnStatus status = shim.real->create(type, desc);
    shim.live += status == 0;
    if (status == 0 && type == DESC_HEURISTICS && shim.device)
        assert_int_equal(shim.real->set(*desc, HEURISTICS_DEVICE, AS_DESC, 1, &shim.device), 0);
    return status;
}

static CudnnStatus shim_destroy(CudnnDesc desc)
{
    assert_non_null(desc);
    shim.live--;
    for (int32_t i = 0; i < shim.n_loaded; i++)
        if (shim.loaded[i] == desc)
            shim.loaded[i] = NULL;
    return shim.real->destroy(desc);
}

/* Whether the library compiled code, and only the loading of it failed for want of a driver. */
UNUSED static bool shim_compiled(CudnnStatus status)
{
    char text[512] = "";
    if (status == 0)
        return false;
    shim.real->last_error(text, sizeof text - 1);
    return strstr(text, "cuLibraryLoadData") && strstr(text, "(34)");
}

static CudnnStatus shim_finalize(CudnnDesc desc)
{
    if (shim_fails(FN_finalize, 0))
        return INJECTED;
    CudnnStatus status = shim.real->finalize(desc);
    if (shim.pretend && shim_compiled(status)) {
        assert_in_range(shim.n_loaded, 0, SHIM_PACKS - 1);
        shim.loaded[shim.n_loaded++] = desc;
        shim.compiled++;
        return 0;
    }
    return status;
}

UNUSED static void shim_note_pack(CudnnDesc desc, int attr, int64_t n, const void *values)
{
    if (attr == PACK_UIDS)
        shim.packs[shim.n_packs++ % SHIM_PACKS] = (ShimPack){ .desc = desc };
    ShimPack *p = &shim.packs[(shim.n_packs - 1) % SHIM_PACKS];
    assert_ptr_equal(p->desc, desc);
    if (attr == PACK_UIDS)
        memcpy(p->uids, values, sizeof(int64_t) * (size_t)(p->n = n));
    else if (attr == PACK_POINTERS)
        memcpy(p->at, values, sizeof(void *) * (size_t)n);
    else
        memcpy(&p->workspace, values, sizeof(void *));
}

static CudnnStatus shim_set(CudnnDesc desc, int attr, int type, int64_t n, const void *values)
{
    if (shim_fails(FN_set, attr))
        return INJECTED;
    if (attr == PACK_UIDS || attr == PACK_POINTERS || attr == PACK_WORKSPACE)
        shim_note_pack(desc, attr, n, values);
    if (shim.device && attr == GRAPH_HANDLE)
        return 0;
    if (shim.device && attr == PLAN_HANDLE)
        return shim.real->set(desc, PLAN_DEVICE, AS_DESC, 1, &shim.device);
    return shim.real->set(desc, attr, type, n, values);
}

static CudnnStatus shim_get(CudnnDesc desc, int attr, int type, int64_t n, int64_t *found, void *values)
{
    if (shim_fails(FN_get, attr))
        return INJECTED;
    for (int32_t i = 0; i < shim.n_loaded; i++)
        if (shim.loaded[i] == desc && attr == PLAN_WORKSPACE) {
            *found = 1;
            *(int64_t *)values = 1000;
            return 0;
        }
    return shim.real->get(desc, attr, type, n, found, values);
}

UNUSED static int32_t shim_engine(CudnnDesc plan)
{
    char    text[16384] = "";
    int64_t found = 0;
    assert_int_equal(shim.real->get(plan, PLAN_JSON, AS_CHAR, sizeof text - 1, &found, text), 0);
    const char *at = strstr(text, "\"engineId\":");
    assert_non_null(at);
    return atoi(at + strlen("\"engineId\":"));
}

static CudnnStatus shim_execute(void *handle, CudnnDesc plan, CudnnDesc pack)
{
    assert_ptr_equal(handle, &shim);
    if (shim_fails(FN_execute, 0))
        return INJECTED;
    shim.run_plan[shim.n_runs % SHIM_RUNS] = plan;
    shim.run_pack[shim.n_runs++ % SHIM_RUNS] = pack;
    if (shim.fail_engine >= 0 && shim_engine(plan) == shim.fail_engine)
        return INJECTED;
    double until = time_now_s() + (shim.slow_engine < 0 ? 0 : shim_engine(plan) == shim.slow_engine ? 3e-3 : 1e-3);
    while (time_now_s() < until)
        ;
    return 0;
}

UNUSED static void shim_new(const CudnnApi *real)
{
    shim = (Shim){ .real = real, .slow_engine = -1, .fail_engine = -1 };
#define X(name, symbol, result, params) shim.table.name = shim_##name;
    CUDNN_API(X)
#undef X
    shim.table.path = real->path;
}

/* From now on cudnn_new with a null GPU makes plans for this architecture. */
UNUSED static void shim_gpu(int32_t sm)
{
    const char *json = cudnn_device_json(sm);
    assert_int_equal(shim.real->create(DESC_DEVICE, &shim.device), 0);
    assert_int_equal(shim.real->set(shim.device, DEVICE_JSON, AS_CHAR, (int64_t)strlen(json) + 1, json), 0);
    assert_int_equal(shim.real->finalize(shim.device), 0);
}

UNUSED static void shim_gpu_close(void)
{
    if (shim.device)
        assert_int_equal(shim.real->destroy(shim.device), 0);
    shim.device = NULL;
}

/* What a descriptor of addresses held. */
UNUSED static const ShimPack *shim_pack(CudnnDesc desc)
{
    for (int32_t i = shim.n_packs; i-- > 0 && i >= shim.n_packs - SHIM_PACKS;)
        if (shim.packs[i % SHIM_PACKS].desc == desc)
            return &shim.packs[i % SHIM_PACKS];
    fail_msg("no such descriptor of addresses");
    return NULL;
}

/* ---- Calls of the networks -------------------------------------------------------------------------------------- */

typedef VEC(CallDesc) Calls;

UNUSED static bool calls_hold(const Calls *calls, const CallDesc *d)
{
    char     text[256], other[256];
    CallDesc conv = cudnn_as_conv(d);
    cudnn_call_text(text, sizeof text, &conv);
    for (int32_t i = 0; i < calls->len; i++) {
        CallDesc c = cudnn_as_conv(&calls->at[i]);
        cudnn_call_text(other, sizeof other, &c);
        if (strcmp(text, other) == 0)
            return true;
    }
    return false;
}

/* Distinct calls of a step, in order. int8: quantized to 8 bits with integer products. */
UNUSED static void calls_add(Arena *a, Calls *calls, const char *net, StepKind step, bool int8)
{
    Diag            d = diag_new(stderr);
    Arena           scratch = arena_new("pass");
    const DtModel  *model = frontend_find(a, &d, net);
    Recipe          recipe = { .method = int8 ? "lsq" : "float", .edge_bits = 8 };
    OptimizerConfig sgd = { .momentum = 0.9 };
    PassOptions     opt;
    StrList         none = { 0 };
    bool            stopped = false;
    assert_non_null(model);
    assert_true(opts_parse(a, &d, pass_option_defs, pass_n_option_defs, 0, NULL, &opt, &none));
    if (int8)
        assert_true(recipe_parse_bits(&recipe, &d, "bits", "w8a8"));
    Graph  *g = frontend_build(a, &d, model, model->training.batch, step);
    PassCtx ctx = { .scratch = &scratch,
                    .d = &d,
                    .step = step,
                    .recipe = &recipe,
                    .optimizer = &sgd,
                    .target = cli_target("cuda"),
                    .int8_forward = int8,
                    .keep = a };
    assert_true(g && passes_run(&ctx, g, &opt, stderr, &stopped) && !stopped);
    Program *p = codegen_program(a, &d, g, jit_interp_new(a), calllib_reference(a));
    assert_non_null(p);
    for (int32_t i = 0; i < p->n_launches; i++)
        if (p->launches[i].kind == LAUNCH_CALL && !calls_hold(calls, &p->launches[i].call))
            vec_push(a, calls, p->launches[i].call);
    arena_free(&scratch);
    diag_free(&d);
}

static const int32_t sms[] = { 80, 86, 90 };
enum { CAP = 64 << 20 };

/* ---- What the tests share
 * ----------------------------------------------------------------------------------------------------- */

typedef struct Fix {
    Arena           a;
    Diag            d;
    const CudnnApi *api;
    char            dir[32];
} Fix;

UNUSED static int fix_new(void **state)
{
    Fix *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    f->d = diag_new(NULL);
    strcpy(f->dir, "/tmp/detent-cudnn-XXXXXX");
    log_set_level(LOG_QUIET);
    if (!mkdtemp(f->dir))
        return -1;
    f->api = cudnn_api_load(&f->a, &f->d);
    if (f->api)
        shim_new(f->api);
    *state = f;
    return 0;
}

UNUSED static int fix_free(void **state)
{
    Fix *f = *state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    if (f->api) {
        shim_gpu_close();
        assert_int_equal(shim.live, 0); /* every descriptor was given back */
    }
    diag_free(&f->d);
    arena_free(&f->a);
    free(f);
    return system(command);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fix_new, fix_free)

#define NEEDS_CUDNN(f)                                                                                                 \
    if (!(f)->api) {                                                                                                   \
        print_message("skipped: %s", (f)->d.text.s);                                                                   \
        skip();                                                                                                        \
    }

UNUSED static bool said(const Fix *f, const char *part)
{
    bool yes = f->d.text.s && strstr(f->d.text.s, part);
    if (!yes)
        print_error("expected '%s' in:\n%s\n", part, f->d.text.s ? f->d.text.s : "");
    return yes;
}

UNUSED static void forget(Fix *f)
{
    diag_free(&f->d);
    f->d = diag_new(NULL);
}

UNUSED static Cudnn *lib_for(Fix *f, Gpu *gpu, CudnnOptions opt)
{
    Cudnn *c = cudnn_new(&f->a, &f->d, gpu, opt, &shim.table);
    if (!c)
        fail_msg("%s", f->d.text.s);
    return c;
}

UNUSED static Gpu *null_gpu(Fix *f, int32_t sm, int64_t memory)
{
    shim_gpu(sm);
    Gpu *g = gpu_open(&f->a, &f->d, cuda_driver_null(&f->a, &f->d, memory), 0);
    assert_non_null(g);
    return g;
}

UNUSED static CudnnCall *prepared(Fix *f, Cudnn *c, const CallDesc *d)
{
    CudnnCall *call = c->face.prepare(c, &f->d, d);
    if (!call)
        fail_msg("%s", f->d.text.s);
    return call;
}

/* 8 images of 16 channels, 16x16, 3x3 to 32 channels. */
UNUSED static CallDesc small(CallKind kind, bool bias)
{
    CallDesc d = { .kind = kind, .bias = bias, .krsc = true, .n = 8, .c = 16, .h = 16, .w = 16 };
    d.k = 32, d.r = d.s = 3, d.oh = d.ow = 16, d.stride = d.groups = 1;
    d.pad[0] = d.pad[1] = d.pad[2] = d.pad[3] = 1;
    d.x_type = d.w_type = DTYPE_S8;
    return d;
}

UNUSED static void check_plan(const Cudnn *c, const CudnnCall *call)
{
    for (int32_t i = 0; i < call->n_stages; i++) {
        const CudnnStage *st = &call->stages[i];
        assert_non_null(st->plan);
        assert_int_equal(st->notes & NOTE_NONDETERMINISTIC, 0);
        assert_int_equal(st->behavior & BEHAVIOR_REORDERED_OPERANDS, 0);
        assert_in_range(st->workspace, 0, CAP);
        assert_true(call->scratch_bytes >= call->work_offset + st->workspace);
    }
    const CudnnStage *last = &call->stages[call->n_stages - 1];
    if (c->opt.math == CUDNN_MATH_F32 && call->pattern->operand == OPERAND_F32)
        assert_int_equal(last->notes & (NOTE_TENSOR_CORE | NOTE_WINOGRAD | NOTE_FFT | NOTE_REDUCED), 0);
    assert_string_equal(last->name, call->pattern->name);
}

UNUSED static void print_plan(const Cudnn *c, const CudnnCall *call)
{
    print_message("sm_%d %-4s %-82s", c->sm, cudnn_math_names[c->opt.math], call->text);
    for (int32_t i = 0; i < call->n_stages; i++) {
        const CudnnStage *st = &call->stages[i];
        print_message(" %s: engine %d,%s", st->name, st->engine, st->notes & NOTE_TENSOR_CORE ? " tensor cores," : "");
        if (shim.pretend && st->behavior & BEHAVIOR_RUN_TIME_COMPILED)
            print_message(" compiles;");
        else
            print_message(" %lld bytes;", (long long)st->workspace);
    }
    print_message("\n");
}

/* Shapes that no network here has: windows and padding of all sorts, groups, few channels. */
typedef struct OddShape {
    int64_t n, c, h, w, k, r, s, stride, groups, pad[4];
    bool    bias;
} OddShape;
static const OddShape odd_shapes[] = {
    { 2, 17, 7, 11, 10, 3, 3, 1, 1, { 1, 0, 0, 1 }, true },
    { 2, 10, 9, 6, 17, 3, 5, 2, 1, { 0, 1, 2, 3 }, false },
    { 1, 1, 5, 5, 1, 3, 3, 1, 1, { 0, 0, 0, 0 }, false },
    { 2, 16, 10, 10, 32, 3, 3, 1, 2, { 1, 1, 1, 1 }, true },
    { 2, 12, 9, 9, 6, 3, 3, 2, 3, { 1, 1, 1, 1 }, false },
    { 3, 17, 11, 9, 17, 5, 5, 2, 17, { 2, 2, 2, 2 }, true },
    { 2, 32, 10, 10, 32, 3, 3, 1, 32, { 1, 1, 1, 1 }, true },
    { 3, 32, 8, 8, 64, 1, 1, 1, 1, { 0, 0, 0, 0 }, true },
    /* a transposed convolution's; TensorFlow's SAME with stride 2 */
    { 2, 64, 16, 16, 128, 2, 2, 2, 1, { 0, 0, 0, 0 }, false },
    { 2, 5, 12, 10, 8, 3, 3, 2, 1, { 1, 0, 0, 1 }, false },
    { 2, 3, 14, 14, 40, 3, 3, 2, 1, { 0, 0, 1, 1 }, false },
    { 2, 24, 14, 14, 24, 3, 3, 2, 24, { 0, 0, 1, 1 }, false },
};

UNUSED static CallDesc odd_call(int32_t shape, CallKind kind)
{
    const OddShape *s = &odd_shapes[shape];
    CallDesc        d = { .kind = kind, .bias = s->bias && kind == CALL_CONV_FWD, .krsc = true };
    d.n = s->n, d.c = s->c, d.h = s->h, d.w = s->w, d.k = s->k, d.r = s->r, d.s = s->s;
    d.stride = s->stride, d.groups = s->groups;
    memcpy(d.pad, s->pad, sizeof d.pad);
    d.oh = (d.h + d.pad[0] + d.pad[2] - d.r) / d.stride + 1;
    d.ow = (d.w + d.pad[1] + d.pad[3] - d.s) / d.stride + 1;
    return d;
}

#endif
