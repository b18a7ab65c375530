/* doctor_gpu.c: what `detent doctor` says of GPUs and their libraries. All of it is looked for, none of it is needed.
 *
 * Each part is tried as training does it - the driver loaded, each GPU opened, NVRTC asked for its architectures - so
 * that what is said to work does.
 *
 * Tested by tests/unit/test_doctor.c. */
#include "cli/doctor.h"

#include <string.h>

#include "codegen/nvrtc/nvrtc.h"

/* "what            text" in the columns of the other lines. */
DT_PRINTF(3, 4) static void line(FILE *out, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(out, "%-15s ", what);
    vfprintf(out, fmt, ap);
    fputc('\n', out);
    va_end(ap);
}

/* What was reported, as lines of this table: the error, why each file failed, what to do. Where everything was looked
 * for is left out: it is long, and the help says how to name a place. */
static void trouble(Arena *a, FILE *out, const char *what, const Diag *d)
{
    static const char *const prefixes[] = { "error: ", "  note: ", "  help: " };
    char                    *save = NULL, *text = arena_strdup(a, d->text.s ? d->text.s : "");
    for (char *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save)) {
        int32_t kind = 0;
        while (kind < DT_COUNT(prefixes) && strncmp(at, prefixes[kind], strlen(prefixes[kind])) != 0)
            kind++;
        if (kind == DT_COUNT(prefixes))
            continue;
        at += strlen(prefixes[kind]);
        if (kind == 1 && strncmp(at, "looked for", 10) == 0)
            continue;
        size_t named = strlen(what); /* "NVRTC: not found": the line begins with that name */
        if (kind == 0 && strncmp(at, what, named) == 0 && strstr(at, ": "))
            at = strstr(at, ": ") + 2;
        line(out, what, "%s%s", kind == 2 ? "-> " : "", at);
        what = "";
    }
}

/* ---- Devices ---- */

/* Opened and closed: a GPU that is busy or too old says so here, not when training begins. */
static bool device_line(Arena *a, FILE *out, const CudaDriver *t, int32_t ordinal)
{
    Diag        quiet = diag_new(NULL);
    const char *what = arena_printf(a, "GPU %d", ordinal);
    Gpu        *g = gpu_open(a, &quiet, t, ordinal);
    if (g) {
        int64_t unused = gpu_free_bytes(g);
        line(out, what, "%s, compute capability %d.%d, %d multiprocessors, %s of %s free", g->name, g->sm / 10,
             g->sm % 10, g->processors, str_bytes(a, unused), str_bytes(a, g->memory_bytes));
    } else {
        trouble(a, out, what, &quiet);
    }
    gpu_close(g);
    diag_free(&quiet);
    return g != NULL;
}

int32_t doctor_devices(Arena *a, FILE *out, const CudaDriver *t)
{
    int      version = 0, count = 0;
    int32_t  usable = 0;
    CuResult status = t->init(0);
    if (t->driver_version(&version) == CU_SUCCESS)
        line(out, "CUDA driver", "CUDA %d.%d, %s", version / 1000, version % 1000 / 10, t->path);
    else
        line(out, "CUDA driver", "version not known, %s", t->path);
    const char *call = status ? "cuInit" : "cuDeviceGetCount";
    if (!status)
        status = t->device_count(&count);
    if (!status && count == 0)
        status = CU_NO_DEVICE;
    if (status) {
        Diag quiet = diag_new(NULL);
        cuda_report(&quiet, t, call, status);
        trouble(a, out, "GPU", &quiet);
        diag_free(&quiet);
        return 0;
    }
    for (int32_t i = 0; i < count; i++)
        usable += device_line(a, out, t, i);
    return usable;
}

/* ---- Libraries ---- */

static bool nvrtc_line(Arena *a, FILE *out)
{
    Diag         quiet = diag_new(NULL);
    const Nvrtc *t = nvrtc_load(a, &quiet);
    if (t) {
        Str archs = str_new(a);
        for (int32_t i = 0; i < t->n_sms; i++)
            str_printf(&archs, " %d", t->sms[i]);
        line(out, "NVRTC", "%d.%d, %s", t->version_major, t->version_minor, t->path);
        line(out, "", "compiles for sm%s", archs.s);
    } else {
        trouble(a, out, "NVRTC", &quiet);
    }
    diag_free(&quiet);
    return t != NULL;
}

static bool cudnn_line(Arena *a, FILE *out)
{
    Diag        quiet = diag_new(NULL);
    const char *found = doctor_cudnn(a, &quiet);
    if (found)
        line(out, "cuDNN", "%s", found);
    else
        trouble(a, out, "cuDNN", &quiet);
    diag_free(&quiet);
    return found != NULL;
}

bool doctor_gpu(Arena *a, FILE *out)
{
    Diag              quiet = diag_new(NULL);
    const CudaDriver *t = cuda_driver_load(a, &quiet);
    int32_t           usable = 0;
    if (t) {
        usable = doctor_devices(a, out, t);
    } else {
        trouble(a, out, "CUDA driver", &quiet);
        line(out, "GPU", "none: without a driver none can be seen");
    }
    diag_free(&quiet);
    bool nvrtc = nvrtc_line(a, out), cudnn = cudnn_line(a, out), all = usable > 0 && nvrtc && cudnn;
    if (all)
        line(out, "training", "--backend cuda can be used, --backend cpu too");
    else
        line(out, "training", "--backend cuda cannot be used: %s; --backend cpu can",
             !t            ? "there is no CUDA driver"
             : usable == 0 ? "there is no GPU that can be used"
             : !nvrtc      ? "NVRTC is missing"
                           : "cuDNN is missing");
    return all;
}
