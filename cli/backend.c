/* backend.c: what makes code and runs it, by the name given to --backend.
 *
 *   cpu     LLVM      oneDNN, own integers  this machine
 *   interp  -         plain loops           this machine, slow and simple
 *   cuda    NVRTC     cuDNN                 a GPU, through its driver
 *   sim     CUDA text plain loops           the same engine on a simulated GPU
 *   null    CUDA text -                     the same engine on a GPU that computes nothing
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/cudnn/cudnn.h"
#include "runtime/integer/integer.h"

const Target *cli_target(const char *backend)
{
    static const Target cpu = { .name = "cpu",
                                .image_layout = LAYOUT_NHWC,
                                .align_bytes = 64,
                                .int8_unsigned = true,
                                .int8_groups = true,
                                .cached_bytes = 8 << 20,
                                .bytes_per_ns = 20,    /* two cores of a server's CPU with AVX2: 26 GB/s (triad), ... */
                                .flops_per_ns = 150 }; /* ... and convolutions at three quarters of 202 GFLOP/s */
    static const Target gpu = {
        .name = "gpu",
        .image_layout = LAYOUT_NHWC,
        .weight_layout = LAYOUT_NHWC,
        .align_bytes = 256,
        .bytes_per_ns = 2500,  /* an H100: of 3.35 TB/s, ... */
        .flops_per_ns = 40000, /* ... and of 67 TFLOP/s in f32 */
    };
    return str_eq(backend, "cpu") || str_eq(backend, "interp") ? &cpu : &gpu;
}

const char *session_cache_dir(Session *s)
{
    if (str_eq(s->opt.cache, "off"))
        return NULL;
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg != NULL && xdg[0] == '/')
        return arena_printf(&s->arena, "%s/detent", xdg);
    return home != NULL && home[0] == '/' ? arena_printf(&s->arena, "%s/.cache/detent", home) : NULL;
}

/* ---- This machine ------------------------------------------------------------------------------------------------ */

static bool backend_host(Session *s, bool interp)
{
    JitOptions jit = { .vector_width = (int)s->opt.vector_width,
                       .cache_dir = session_cache_dir(s),
                       .dump_dir = s->opt.pass.dump_kernels,
                       .sizes_only = s->sizes != NULL };
    if (interp && s->opt.pass.dump_kernels != NULL) {
        diag_error(&s->diag, LOC_NONE, "--dump-kernels: the interpreter makes no code to write");
        diag_help(&s->diag, "use --backend=cpu; the text of every kernel is also in what `detent dump` prints");
        return false;
    }
    Isa isa = ISA_PORTABLE;
    if (!interp && !isa_parse(&s->arena, &s->diag, s->opt.isa, &isa))
        return false;
    s->jit = interp ? jit_interp_new(&s->arena) : jit_llvm_new(&s->arena, &s->diag, jit);
    s->lib = interp ? calllib_reference(&s->arena) : calllib_cpu(&s->arena, &s->diag, (int)s->opt.threads, isa);
    if (s->jit == NULL || s->lib == NULL)
        return false;
    s->exec = exec_new(&s->arena, &s->diag, s->lib,
                       (ExecOptions){ .threads = (int)s->opt.threads, .profile = s->opt.profile });
    return s->exec != NULL;
}

/* ---- A GPU ------------------------------------------------------------------------------------------------------- */

static CudnnOptions backend_cudnn(Session *s, int32_t sm)
{
    static const char *const names[] = { "f32", "tf32", "fp16", "bf16" };
    CudnnOptions             o = {
                    .workspace_cap = s->opt.workspace_bytes,
                    .autotune = s->opt.autotune,
                    .cache_dir = session_cache_dir(s),
                    .sm = sm,
    };
    for (int32_t i = 0; i < DT_COUNT(names); i++)
        if (str_eq(s->opt.math, names[i]))
            o.math = (CudnnMath)i;
    return o;
}

/* "sm_90" -> 90. */
static bool backend_arch(Session *s, int32_t *sm)
{
    char *end = NULL;
    long  n = strncmp(s->opt.arch, "sm_", 3) == 0 ? strtol(s->opt.arch + 3, &end, 10) : 0;
    *sm = (int32_t)n;
    if (end != NULL && *end == 0 && n >= 50 && n < 1000)
        return true;
    diag_error(&s->diag, LOC_NONE, "--arch: expected a GPU's architecture such as sm_80 or sm_90, found '%s'",
               s->opt.arch);
    return false;
}

/* Code for a GPU that need not be here. Where cuDNN is missing too, or cannot plan without a device (another
 * architecture, integer products), plain loops stand for it: launches and memory are the same but for the workspace. */
static bool backend_arch_only(Session *s)
{
    int32_t sm;
    if (!backend_arch(s, &sm))
        return false;
    CudaJitOptions jit = { .sm = sm, .cache_dir = session_cache_dir(s), .dump_dir = s->opt.pass.dump_kernels };
    s->jit = jit_cuda_new(&s->arena, &s->diag, jit);
    if (s->jit == NULL)
        return false;
    Diag quiet = diag_new(NULL);
    if (str_eq(s->opt.forward, "float"))
        s->lib = calllib_cudnn(&s->arena, &quiet, NULL, backend_cudnn(s, sm));
    if (s->lib == NULL) {
        diag_note(&s->diag, LOC_NONE, "the workspace of convolutions is not counted: cuDNN cannot plan for sm_%d here",
                  sm);
        s->lib = calllib_reference(&s->arena);
    }
    diag_free(&quiet);
    return true;
}

/* A GPU whose sizes are asked for need not be here: the null GPU stands for it. NULL: it is, or should be. */
static const CudaDriver *backend_stand_in(Session *s)
{
    Arena probe = arena_new("probe");
    Diag  quiet = diag_new(NULL);
    bool  wanted = s->sizes != NULL && str_eq(s->opt.backend, "cuda");
    bool  missing = wanted && cuda_driver_load(&probe, &quiet) == NULL;
    diag_free(&quiet);
    arena_free(&probe);
    return missing ? cuda_driver_null(&s->arena, &s->diag, s->opt.gpu_memory_bytes) : NULL;
}

static Gpu *backend_open_gpu(Session *s, bool run)
{
    Arena            *a = &s->arena;
    Diag             *d = &s->diag;
    const CudaDriver *stand_in = backend_stand_in(s);
    const CudaDriver *t = stand_in != NULL                 ? stand_in
                          : str_eq(s->opt.backend, "sim")  ? cuda_driver_sim(a, d, s->opt.gpu_memory_bytes)
                          : str_eq(s->opt.backend, "null") ? cuda_driver_null(a, d, s->opt.gpu_memory_bytes)
                                                           : cuda_driver_load(a, d);
    Gpu              *gpu = t != NULL ? gpu_open(a, d, t, 0) : NULL;
    if (gpu == NULL)
        diag_help(d, run ? "without a GPU: --backend cpu trains here, --backend sim runs the CUDA text on the CPU"
                         : "to compile for a GPU that is not here, say which: --arch sm_90");
    return gpu;
}

static bool backend_gpu(Session *s, bool run)
{
    Arena *a = &s->arena;
    Diag  *d = &s->diag;
    if (s->gpu == NULL)
        s->gpu = backend_open_gpu(s, run);
    if (s->gpu == NULL)
        return false;
    const CudaDriver *t = s->gpu->t;
    CudaJitOptions    jit = { .sm = t->runs_source || s->sizes != NULL ? 0 : s->gpu->sm,
                              .cache_dir = session_cache_dir(s),
                              .dump_dir = s->opt.pass.dump_kernels };
    s->jit = jit_cuda_new(a, d, jit);
    s->lib =
        t->runs_source ? calllib_gpu_reference(a, s->gpu) : calllib_cudnn(a, d, s->gpu, backend_cudnn(s, s->gpu->sm));
    if (s->jit == NULL || s->lib == NULL)
        return false;
    s->exec = exec_new_gpu(a, d, s->gpu, s->lib,
                           (ExecOptions){ .profile = s->opt.profile,
                                          .no_graph = s->opt.no_graph,
                                          .memory_limit = s->opt.gpu_memory_bytes });
    return s->exec != NULL;
}

/* ---- Which ------------------------------------------------------------------------------------------------------- */

/* Options of another backend would do nothing, silently. (--math f32 is in the arguments of every run.) */
static bool backend_options(Session *s, bool run)
{
    static const struct {
        const char *option;
        bool        cuda_only; /* else any GPU, simulated ones too */
    } rows[] = { { "math", true }, { "workspace", true }, { "autotune", true },
                 { "arch", true }, { "no-graph", false }, { "gpu-memory", false } };
    bool gpu = cli_target(s->opt.backend) != cli_target("cpu"), cuda = str_eq(s->opt.backend, "cuda");
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        bool told = cli_given(&s->opt, rows[i].option) && !(i == 0 && str_eq(s->opt.math, "f32"));
        if (told && !(rows[i].cuda_only ? cuda : gpu)) {
            diag_error(&s->diag, LOC_NONE, "--%s: expected --backend %s, found %s", rows[i].option,
                       rows[i].cuda_only ? "cuda" : "cuda, sim or null", s->opt.backend);
            return false;
        }
    }
    if (cli_given(&s->opt, "isa") && !str_eq(s->opt.backend, "cpu")) {
        diag_error(&s->diag, LOC_NONE, "--isa: expected --backend cpu, found %s", s->opt.backend);
        return false;
    }
    if (gpu && str_eq(s->opt.backward, "bf16")) {
        diag_error(&s->diag, LOC_NONE, "--backward bf16: expected --backend cpu or interp, found %s", s->opt.backend);
        diag_help(&s->diag, "on a GPU --math bf16 multiplies in bf16");
        return false;
    }
    if (run && s->opt.arch != NULL) {
        diag_error(&s->diag, LOC_NONE,
                   "--arch: expected with `compile` alone, found with a command that runs the code");
        diag_help(&s->diag, "leave it out: the GPU says what it is");
        return false;
    }
    return true;
}

bool session_backend(Session *s, bool run)
{
    if (s->jit != NULL && s->lib != NULL && (s->exec != NULL || !run))
        return true;
    if (!backend_options(s, run))
        return false;
    if (cli_target(s->opt.backend) == cli_target("cpu"))
        return backend_host(s, str_eq(s->opt.backend, "interp"));
    return s->opt.arch != NULL ? backend_arch_only(s) : backend_gpu(s, run);
}

void session_backend_close(Session *s)
{
    if (s->exec != NULL)
        exec_free(s->exec);
    if (s->lib != NULL)
        s->lib->release(s->lib->self);
    if (s->jit != NULL)
        jit_free(s->jit);
    if (!s->gpu_borrowed)
        gpu_close(s->gpu);
}
