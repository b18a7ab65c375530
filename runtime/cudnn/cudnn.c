/* cudnn.c: library calls executed by cuDNN: the CallLib.
 *
 * A call is planned when it is first asked about - by scratch_bytes() when a program is compiled, or by prepare() - and
 * calls of one description share their plans. A run tells each plan where its tensors lie, by a descriptor that is made
 * once for a set of addresses, and puts it into the GPU's stream: nothing is allocated on the device and nothing waits,
 * so that a run may be captured. The library is opened when it is first needed, and again after a release.
 *
 *   scratch: [ operands converted to half | work space of whichever stage runs ]
 *
 * Tested by tests/unit/test_cudnn.c and test_cudnn_run.c. */
#include "runtime/cudnn/cudnn_impl.h"

#include <string.h>

/* ---- Opening ---------------------------------------------------------------------------------------------------- */

static void lib_close(Cudnn *c)
{
    descs_free(c, &c->device);
    if (c->handle)
        (void)c->api->handle_free(c->handle);
    c->handle = NULL;
    c->open = false;
}

/* The GPU's handle, or a description of one. False: c->failure. */
static bool lib_open(Cudnn *c)
{
    if (c->open || c->failure.status)
        return c->open;
    if (c->gpu) {
        if (!cudnn_ok(c, c->api->handle_new(&c->handle), "cudnnCreate", ""))
            c->handle = NULL;
        else
            cudnn_ok(c, c->api->set_stream(c->handle, c->gpu->stream), "cudnnSetStream", "");
    } else {
        const char *json = cudnn_device_json(c->sm);
        CudnnDesc   device = desc_new(c, &c->device, DESC_DEVICE);
        desc_set(c, device, DEVICE_JSON, AS_CHAR, (int64_t)strlen(json) + 1, json);
        desc_finish(c, device, "device");
    }
    c->open = c->failure.status == 0;
    if (!c->open)
        lib_close(c);
    return c->open;
}

/* ---- Calls ------------------------------------------------------------------------------------------------------ */

enum { TEXT_BYTES = 256, SUBLIBRARY_MISSING = 1008 };

static int32_t buffers_of(const CallDesc *d)
{
    return d->bias || d->kind == CALL_CONV_FWD_INT ? 4 : 3;
}

/* The call of this description, planned or not. */
static CudnnCall *call_find(Cudnn *c, const CallDesc *desc)
{
    CallDesc d = cudnn_as_conv(desc);
    char     text[TEXT_BYTES];
    cudnn_call_text(text, sizeof text, &d);
    for (int32_t i = 0; i < c->calls.len; i++)
        if (strcmp(c->calls.at[i]->text, text) == 0)
            return c->calls.at[i];
    CudnnCall *call = ARENA_NEW(c->arena, CudnnCall);
    *call = (CudnnCall){ .text = arena_strdup(c->arena, text), .desc = d, .n_bufs = buffers_of(&d) };
    call->packs = ARENA_ARRAY(c->arena, CudnnPack, CALL_PACKS);
    vec_push(c->arena, &c->calls, call);
    return call;
}

static void call_free(Cudnn *c, CudnnCall *call)
{
    for (int32_t i = 0; i < call->n_packs; i++)
        descs_free(c, &call->packs[i].packs);
    call->n_packs = call->next_pack = 0;
    call_clear(c, call);
    call->built = false;
    call->refusal = NULL;
}

/* False: call->refusal, or c->failure. */
static bool call_build(Cudnn *c, CudnnCall *call)
{
    cudnn_clear(c);
    if (!call->built && !call->refusal)
        call->built = lib_open(c) && cudnn_plan(c, call);
    return call->built;
}

static void report_refusal(const Cudnn *c, Diag *d, const CudnnCall *call)
{
    bool integer = call->desc.kind == CALL_CONV_FWD_INT, none = strstr(call->refusal, ": 0 engines") != NULL;
    diag_error(d, LOC_NONE, "%s: no plan for %s", c->face.name, call->text);
    for (const char *s = call->refusal; *s;) {
        size_t len = strcspn(s, "\n");
        diag_note(d, LOC_NONE, "%.*s", (int)len, s);
        s += len + (s[len] == '\n');
    }
    diag_note(d, LOC_NONE, "the library is %s%s", c->api->path,
              c->gpu ? "" : "; without an NVIDIA driver it has no engines but those compiled beforehand");
    diag_help(d, "%s",
              !call->desc.krsc ? "this library wants weights of layout [K, R, S, C]"
              : integer        ? "leave this product in float"
              : none           ? cudnn_help(SUBLIBRARY_MISSING)
                               : "more work space lets more engines in, and a newer cuDNN has more of them");
}

/* ---- CallLib ---------------------------------------------------------------------------------------------------- */

/* -1: there is no plan; prepare says why. */
static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    CudnnCall *call = call_find(self, d);
    return call_build(self, call) ? call->scratch_bytes : -1;
}

static void *lib_prepare(void *self, Diag *diag, const CallDesc *d)
{
    Cudnn     *c = self;
    CudnnCall *call = call_find(c, d);
    c->d = diag; /* what fails in a run is told to whoever prepared it */
    if (call_build(c, call)) {
        call->users++;
        return call;
    }
    if (call->refusal)
        report_refusal(c, diag, call);
    else {
        diag_error(diag, LOC_NONE, "%s: %s", c->face.name, c->failure.text);
        diag_note(diag, LOC_NONE, "for %s; the library is %s", call->text, c->api->path);
        diag_help(diag, "%s", cudnn_help(c->failure.status));
    }
    return NULL;
}

/* What tells the plans of these addresses. NULL: c->failure. */
static CudnnPack *pack_of(Cudnn *c, CudnnCall *call, void *const *bufs, void *scratch)
{
    void *at[PACK_POINTERS_MAX] = { 0 };
    memcpy(at, bufs, sizeof *at * (size_t)call->n_bufs);
    at[CALL_MAX_BUFS] = call->scratch_bytes > 0 ? scratch : NULL;
    for (int32_t i = 0; i < call->n_packs; i++)
        if (memcmp(call->packs[i].at, at, sizeof at) == 0)
            return &call->packs[i];
    CudnnPack *pack = &call->packs[call->next_pack]; /* when all are taken, the oldest goes */
    descs_free(c, &pack->packs);
    for (int32_t i = 0; i < call->n_stages; i++) {
        const CudnnStage *st = &call->stages[i];
        void             *to[STAGE_BINDINGS];
        for (int32_t j = 0; j < st->n_bindings; j++) {
            const CudnnBinding *b = &st->bindings[j];
            to[j] = b->buf >= 0 ? bufs[b->buf] : (char *)scratch + b->offset;
        }
        void *work = st->workspace > 0 ? (char *)scratch + call->work_offset : NULL;
        pack_new(c, &pack->packs, st, to, work);
    }
    if (c->failure.status) {
        descs_free(c, &pack->packs);
        memset(pack->at, 0, sizeof pack->at);
        return NULL;
    }
    memcpy(pack->at, at, sizeof at);
    call->next_pack = (call->next_pack + 1) % CALL_PACKS;
    call->n_packs = call->n_packs < CALL_PACKS ? call->n_packs + 1 : CALL_PACKS;
    return pack;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Cudnn     *c = self;
    CudnnCall *call = prepared;
    cudnn_clear(c);
    if (!c->gpu) {
        diag_error(c->d, LOC_NONE, "%s: %s cannot be run: its plan was made without a GPU", c->face.name, call->text);
        return false;
    }
    DT_ASSERT(call->built, "%s: run after its release", call->text);
    CudnnPack *pack = pack_of(c, call, bufs, scratch);
    for (int32_t i = 0; pack && !c->failure.status && i < call->n_stages; i++)
        cudnn_ok(c, c->api->execute(c->handle, call->stages[i].plan, pack->packs.at[i]), "cudnnBackendExecute",
                 call->stages[i].name);
    if (!c->failure.status)
        return true;
    diag_error(c->d, LOC_NONE, "%s: %s", c->face.name, c->failure.text);
    diag_note(c->d, LOC_NONE, "in %s", call->text);
    diag_help(c->d, "%s", cudnn_help(c->failure.status));
    return false;
}

static void lib_release(void *self)
{
    Cudnn *c = self;
    for (int32_t i = c->calls.len - 1; i >= 0; i--) {
        call_free(c, c->calls.at[i]);
        c->calls.at[i]->users = 0;
    }
    lib_close(c);
}

/* The last one out gives the plans back; asked again, they are made again. */
static void lib_unprepare(void *self, void *prepared)
{
    CudnnCall *call = prepared;
    if (call->users > 0 && --call->users == 0) /* 0: released before */
        call_free(self, call);
}

/* ---- A library -------------------------------------------------------------------------------------------------- */

static bool version_fits(Diag *d, const CudnnApi *api, bool gpu, int32_t version)
{
    int32_t oldest = gpu ? CUDNN_OLDEST : CUDNN_OLDEST_WITHOUT_GPU;
    if (version >= oldest)
        return true;
    diag_error(d, LOC_NONE, "cuDNN %d.%d.%d is too old: %s needs 9.%d", version / 10000, version / 100 % 100,
               version % 100, gpu ? "Detent" : "planning without a GPU", oldest / 100 % 100);
    diag_note(d, LOC_NONE, "the library is %s", api->path);
    diag_help(d, "install a newer one: pip install -U nvidia-cudnn-cu13 (for CUDA 12: nvidia-cudnn-cu12)");
    return false;
}

Cudnn *cudnn_new(Arena *a, Diag *d, Gpu *gpu, CudnnOptions opt, const CudnnApi *api)
{
    int32_t version = (int32_t)api->version();
    if (!version_fits(d, api, gpu != NULL, version))
        return NULL;
    if (!gpu && !cudnn_device_json(opt.sm)) {
        diag_error(d, LOC_NONE, "cuDNN: plans for sm_%d cannot be made without a GPU of that kind", opt.sm);
        diag_help(d, "sm_80, sm_86 and sm_90 are known; on any other, compile where it is");
        return NULL;
    }
    Cudnn *c = ARENA_NEW(a, Cudnn);
    *c = (Cudnn){ .arena = a, .d = d, .api = api, .gpu = gpu, .opt = opt, .version = version };
    c->sm = gpu ? gpu->sm : opt.sm;
    c->face = (CallLib){ .name = arena_printf(a, "cuDNN %d.%d.%d (%s%s)", version / 10000, version / 100 % 100,
                                              version % 100, cudnn_math_names[opt.math],
                                              gpu ? "" : arena_printf(a, ", planned for sm_%d", c->sm)),
                         .self = c,
                         .scratch_bytes = lib_scratch_bytes,
                         .prepare = lib_prepare,
                         .run = lib_run,
                         .release = lib_release,
                         .unprepare = lib_unprepare };
    if (!lib_open(c)) {
        diag_error(d, LOC_NONE, "%s: %s", c->face.name, c->failure.text);
        diag_note(d, LOC_NONE, "the library is %s", api->path);
        diag_help(d, "%s", cudnn_help(c->failure.status));
        return NULL;
    }
    return c;
}

CallLib *calllib_cudnn(Arena *a, Diag *d, Gpu *gpu, CudnnOptions opt)
{
    const CudnnApi *api = cudnn_api_load(a, d);
    Cudnn          *c = api ? cudnn_new(a, d, gpu, opt, api) : NULL;
    return c ? &c->face : NULL;
}
