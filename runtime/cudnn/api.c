/* api.c: cuDNN's functions, found at run time, and what is said when one of them fails: its name, the status, the
 * library's own reason, and what to do.
 *
 * Tested by tests/unit/test_cudnn.c: libraries that are missing or incomplete, a failure of each function. */
#include "runtime/cudnn/cudnn_impl.h"

#include <string.h>

/* ---- Loading ---------------------------------------------------------------------------------------------------- */

static const DynFunc funcs[] = {
#define X(name, symbol, result, params) { symbol, offsetof(CudnnApi, name), false },
    CUDNN_API(X)
#undef X
};

/* The second is what the first loads for the functions used here; it suffices where only it is installed. */
static const char *const names[] = { "libcudnn.so.9", "libcudnn_graph.so.9", NULL };

static const DynLib      library = { .what = "cuDNN 9",
                                     .names = names,
                                     .dirs = dynlib_gpu_dirs,
                                     .env = "DETENT_CUDNN",
                                     .install = "install it: pip install nvidia-cudnn-cu13 (for CUDA 12: nvidia-cudnn-cu12)",
                                     .funcs = funcs,
                                     .n_funcs = DT_COUNT(funcs) };

const CudnnApi          *cudnn_api_load(Arena *a, Diag *d)
{
    CudnnApi *api = ARENA_NEW(a, CudnnApi);
    api->path = dynlib_open(a, d, &library, api);
    return api->path ? api : NULL;
}

/* ---- Failures --------------------------------------------------------------------------------------------------- */

#define COMPANIONS                                                                                                     \
    "libcudnn_graph.so.9 needs its companions (libcudnn_heuristic.so.9, libcudnn_engines_precompiled.so.9 and "        \
    "others) "                                                                                                         \
    "of the same version beside it: pip install nvidia-cudnn-cu13"

/* Ranges of the status; the first that holds it counts. */
static const struct {
    CudnnStatus from, to;
    const char *help;
} helps[] = {
    { 1001, 1001, "cuDNN cannot use the GPU or its driver: `detent doctor` says what it sees" },
    { 1002, 1003,
      "parts of two versions of cuDNN are mixed: set DETENT_CUDNN to the directory of one of them, and take others out "
      "of LD_LIBRARY_PATH" },
    { 1008, 1008, COMPANIONS },
    { 3005, 3006, "this cuDNN needs a newer NVIDIA driver: update it, or install an older cuDNN 9" },
    { 3007, 3007, "this cuDNN does not know this GPU: install a newer one (pip install -U nvidia-cudnn-cu13)" },
    { 3008, 3008,
      "cuDNN compiles some plans itself, with libnvrtc.so of its CUDA version and with the driver: install both" },
    { 3009, 3009, COMPANIONS },
    { 3000, 3999, "no engine of this cuDNN takes the call: a newer version may; or train with --backend cpu" },
    { 4003, 4003, "this machine's memory is used up" },
    { 4004, 4004, "the GPU's memory is used up: take a smaller --batch" },
    { 5000, 5999, "work on the GPU failed; CUDA_LAUNCH_BLOCKING=1 in the environment shows which launch it was" },
    { 0, 99999, "CUDNN_LOGLEVEL_DBG=3 and CUDNN_LOGDEST_DBG=stderr in the environment make cuDNN say more" },
};

const char *cudnn_help(CudnnStatus status)
{
    int32_t i = 0;
    while (status < helps[i].from || status > helps[i].to)
        if (++i == DT_COUNT(helps))
            return "";
    return helps[i].help;
}

/* The reason may be of several lines, begun with "Error: " and ended with a line feed. */
static void add_reason(const Cudnn *c, CudnnFailure *out)
{
    char reason[512] = "";
    c->api->last_error(reason, sizeof reason - 1);
    size_t len = strlen(reason), at = strlen(out->text);
    while (len > 0 && strchr(" \n", reason[len - 1]))
        reason[--len] = '\0';
    for (char *s = reason; *s; s++)
        if (*s == '\n')
            *s = ' ';
    if (len > 0)
        snprintf(out->text + at, sizeof out->text - at, ": %s", reason);
}

void cudnn_fail(Cudnn *c, CudnnFailure *out, CudnnStatus status, const char *symbol, const char *what)
{
    out->status = status;
    snprintf(out->text, sizeof out->text, "%s%s%s%s: %s (%d)", symbol, what[0] ? " (" : "", what, what[0] ? ")" : "",
             c->api->status_text(status), status);
    add_reason(c, out);
}

bool cudnn_ok(Cudnn *c, CudnnStatus status, const char *symbol, const char *what)
{
    if (status != 0 && c->failure.status == 0)
        cudnn_fail(c, &c->failure, status, symbol, what);
    return status == 0;
}

void cudnn_clear(Cudnn *c)
{
    c->failure = (CudnnFailure){ 0 };
}
