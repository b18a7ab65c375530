/* nvrtc.h: NVRTC, NVIDIA's compiler of CUDA text, as a table of functions that is filled when it is needed: Detent is
 * built and runs without it. Around the table: one text to machine code, and what machine code says of itself.
 *
 * Types and numbers are those of the library's interface, version 11.2 and later, written anew: no header is needed.
 *
 * Tested by tests/unit/test_nvrtc.c, with failures put into the table. */
#ifndef DETENT_NVRTC_H
#define DETENT_NVRTC_H

#include "codegen/jit.h"

typedef int   NvrtcResult;
typedef void *NvrtcProgram;

enum {
    NVRTC_SUCCESS = 0,
    NVRTC_OUT_OF_MEMORY = 1,
    NVRTC_INVALID_OPTION = 5,
    NVRTC_COMPILATION = 6, /* the text is wrong; the log says where */
    NVRTC_BUILTIN_OPERATION_FAILURE = 7,
    NVRTC_INTERNAL_ERROR = 11
};

/* X(name, symbol in the library, parameters): all return NvrtcResult. */
/* clang-format off */
#define NVRTC_FUNCS(X)                                                                                                 \
    X(version,    "nvrtcVersion",              (int *major, int *minor))                                               \
    X(arch_count, "nvrtcGetNumSupportedArchs", (int *count))                                                           \
    X(archs,      "nvrtcGetSupportedArchs",    (int *archs))                                                           \
    X(create,     "nvrtcCreateProgram",        (NvrtcProgram *p, const char *source, const char *name, int n_headers, const char *const *headers, const char *const *header_names)) \
    X(compile,    "nvrtcCompileProgram",       (NvrtcProgram p, int n_options, const char *const *options))            \
    X(cubin_size, "nvrtcGetCUBINSize",         (NvrtcProgram p, size_t *bytes))                                        \
    X(cubin,      "nvrtcGetCUBIN",             (NvrtcProgram p, char *to))                                             \
    X(ptx_size,   "nvrtcGetPTXSize",           (NvrtcProgram p, size_t *bytes))                                        \
    X(ptx,        "nvrtcGetPTX",               (NvrtcProgram p, char *to))                                             \
    X(log_size,   "nvrtcGetProgramLogSize",    (NvrtcProgram p, size_t *bytes))                                        \
    X(log,        "nvrtcGetProgramLog",        (NvrtcProgram p, char *to))                                             \
    X(destroy,    "nvrtcDestroyProgram",       (NvrtcProgram *p))
/* clang-format on */

typedef struct Nvrtc {
#define X(name, symbol, params) NvrtcResult(*name) params;
    NVRTC_FUNCS(X)
#undef X
    const char *(*error_text)(NvrtcResult status);
    const char    *path; /* of the library */
    int            version_major, version_minor;
    const int32_t *sms; /* architectures that it makes code for, increasing: 75, 80, ... */
    int32_t        n_sms;
} Nvrtc;

/* From libnvrtc.so, or the file or directory in DETENT_NVRTC; with its version and architectures. NULL: reported. */
const Nvrtc *nvrtc_load(Arena *a, Diag *d);
/* Asks the functions of the table for version and architectures. False: reported. */
bool nvrtc_query(Arena *a, Diag *d, Nvrtc *t) DT_CHECKED;

/* ---- One text ---------------------------------------------------------------------------------------------------- */

typedef struct NvrtcText {
    const char        *name, *source; /* "resnet20.train.cu": for messages */
    const char *const *options;
    int32_t            n_options;
    bool               cubin, ptx; /* what is wanted */
} NvrtcText;
typedef struct NvrtcCode {
    const void *cubin;
    const char *ptx; /* ends with 0 */
    size_t      cubin_bytes, ptx_bytes;
    const char *log;      /* warnings; "" */
    bool        bad_text; /* when it failed: the text is to blame, not the compiler or the machine */
} NvrtcCode;
/* Results are in `a`. False: reported, every failing call by name, status and log, with the lines of the text around
 * the first error. */
bool nvrtc_compile(Arena *a, Diag *d, const Nvrtc *t, const NvrtcText *text, NvrtcCode *out) DT_CHECKED;

/* ---- What a cubin says of itself --------------------------------------------------------------------------------- */

typedef struct CubinKernel {
    int32_t registers, local_bytes, shared_bytes; /* of a thread, a thread, a block; -1: it does not say */
} CubinKernel;
/* False: no ELF file as NVRTC writes them, or no such kernel in it. Any bytes are safe. */
bool cubin_kernel(const void *cubin, size_t bytes, const char *entry, CubinKernel *out) DT_CHECKED;

/* Blocks of one kernel that fit on one multiprocessor at once, and the share of its threads that they are. The limits
 * are those of the newest known architecture that is not newer than sm. */
typedef struct Occupancy {
    int32_t blocks;
    double  share;
} Occupancy;
Occupancy nvrtc_occupancy(int32_t sm, const GpuKernel *k);

/* ---- The compiler of kernels ------------------------------------------------------------------------------------- */

/* jit_cuda_new with a table that a test has put together. NULL only where opt.sm is 0. */
KernelJit *jit_cuda_new_with(Arena *a, Diag *d, CudaJitOptions opt, const Nvrtc *t);

#endif
