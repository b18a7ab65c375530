/* program.h: the compiled step. A Program is plain data: arenas, buffers in them, a list of launches. It is made once
 * by codegen and run many times by exec.c with nothing but this header: no allocation, no creation of library objects,
 * no work on shapes after prepare.
 *
 * Programs of one model (init, train, eval) share the param and state arenas: same names, same offsets.
 *
 * Tested by tests/unit/test_exec.c. */
#ifndef DETENT_RUNTIME_PROGRAM_H
#define DETENT_RUNTIME_PROGRAM_H

#include "base/base.h"

/* Which block of memory. io: written or read by the host; work: everything that lives inside one step; scratch: inside
 * one launch (partial sums, library work space). */
typedef enum ArenaKind { ARENA_IO, ARENA_PARAM, ARENA_STATE, ARENA_WORK, ARENA_SCRATCH, ARENA_COUNT } ArenaKind;

typedef struct MemRef {
    ArenaKind arena;
    int64_t   offset; /* bytes; arenas are aligned to 4096, offsets to 64 */
} MemRef;

/* A named tensor the host knows: an input, a param, a state or an output. Shapes are logical (NCHW). */
typedef enum TensorKind { TENSOR_INPUT, TENSOR_PARAM, TENSOR_STATE, TENSOR_OUTPUT } TensorKind;
typedef struct ProgTensor {
    TensorKind  kind;
    const char *name;
    DType       dtype;
    int32_t     rank;
    int64_t     dim[4];
    bool        nhwc; /* physical layout; else row-major in logical order */
    int64_t     elems, bytes;
    MemRef      at;
    const char *init; /* params, states: "zeros", "ones", "kaiming", "torch", "value" */
    double      init_value;
    int64_t     fan;
    const char *group; /* params: weight, bias, norm, step */
} ProgTensor;

/* A generated kernel, however it is executed. `run` does work units [lo, hi) of `units`; units are independent. When
 * finish_units > 0, `finish` runs after all of them (sums of partial results, then the final body). `scratch` is the
 * launch's scratch memory, scratch_bytes long. */
typedef void (*KernelEntry)(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi);
typedef struct KernelImage {
    const char *name;
    const void *self;
    KernelEntry run, finish;
    int64_t     units, finish_units;
    int64_t     scratch_bytes;
    int64_t     bytes; /* moved by one launch: decides how many threads are worth while */
    int32_t     n_bufs;
} KernelImage;

/* Library calls. Buffers in this order: CONV_FWD x, w, [bias], y; CONV_BWD_X dy, w, dx; CONV_BWD_W dy, x, dw;
 * LINEAR_* likewise. Activations are NHWC (or rows for rank 2), weights row-major [K, C/groups, R, S] or [O, I]. */
typedef enum CallKind {
    CALL_CONV_FWD,
    CALL_CONV_BWD_X,
    CALL_CONV_BWD_W,
    CALL_LINEAR_FWD,
    CALL_LINEAR_BWD_X,
    CALL_LINEAR_BWD_W
} CallKind;
typedef struct CallDesc {
    CallKind kind;
    bool     bias;
    int64_t  n, c, h, w;             /* input of the convolution; linear: n, c = in features, h = w = 1 */
    int64_t  k, r, s, oh, ow;        /* output channels, window, output size */
    int64_t  stride, groups, pad[4]; /* top, left, bottom, right */
} CallDesc;

typedef enum LaunchKind { LAUNCH_KERNEL, LAUNCH_CALL } LaunchKind;
enum { CALL_MAX_BUFS = 4 };
typedef struct Launch {
    LaunchKind    kind;
    const char   *name; /* "s1.b0.bn1 relu qdq": for profiles and messages */
    bool          backward;
    int32_t       image; /* KERNEL: index into images */
    CallDesc      call;  /* CALL */
    const MemRef *bufs;
    int32_t       n_bufs;
    int64_t       scratch_bytes;
} Launch;

typedef struct Program {
    Arena       *arena;
    const char  *name; /* "train", "eval", "init" */
    int64_t      bytes[ARENA_COUNT];
    ProgTensor  *tensors;
    int32_t      n_tensors;
    KernelImage *images;
    int32_t      n_images;
    Launch      *launches;
    int32_t      n_launches;
    int64_t      saved_bytes; /* made in forward, read in backward */
} Program;

const ProgTensor *program_tensor(const Program *p, const char *name); /* NULL: none */

/* ---- Backends -------------------------------------------------------------------------------------------------- */

/* How library calls are executed: oneDNN (runtime/onednn) or plain loops (runtime/reference.c). One thread at a time
 * may use a CallLib; its programs may be many. */
typedef struct CallLib {
    const char *name; /* "oneDNN 2.6.3 (avx512_core_vnni)" */
    void       *self;
    int64_t (*scratch_bytes)(void *self, const CallDesc *call);
    /* Made once a launch; NULL: reported. */
    void *(*prepare)(void *self, Diag *d, const CallDesc *call);
    void (*run)(void *self, void *prepared, void *const *bufs, void *scratch);
    void (*release)(void *self);                   /* everything prepared, too */
    void (*unprepare)(void *self, void *prepared); /* gives one prepare back; NULL: nothing to give back */
} CallLib;
CallLib *calllib_reference(Arena *a);
CallLib *calllib_onednn(Arena *a, Diag *d, int threads); /* NULL: reported (not built in) */
/* The plain loops themselves. abs_sums: NULL, or for each element of the result the sum of the |products| (and |bias|)
 * that it is made of: what bounds of rounding errors are stated in. */
void reference_call(const CallDesc *call, void *const *bufs, float *abs_sums);

/* ---- Execution ------------------------------------------------------------------------------------------------- */

/* Memory and prepared calls of a set of programs that share params and states. */
typedef struct Exec Exec;
typedef struct ExecOptions {
    int  threads; /* 0: what OpenMP says */
    bool profile; /* keep time per launch */
} ExecOptions;
Exec *exec_new(Arena *a, Diag *d, CallLib *lib, ExecOptions opt);
/* Allocates arenas (the largest need of all programs added; param and state as in the first), prepares calls. The index
 * of the program, or -1: reported. */
int32_t exec_add(Exec *e, Program *p) DT_CHECKED;
void    exec_run(Exec *e, int32_t program); /* one step */
void   *exec_ptr(Exec *e, int32_t program, const ProgTensor *t);
int     exec_threads(const Exec *e);
double  exec_launch_seconds(const Exec *e, int32_t program, int32_t launch); /* total, with profile */
int64_t exec_launch_count(const Exec *e, int32_t program);                   /* steps run */
void    exec_free(Exec *e);
/* Between a tensor and an array in logical order (NCHW, row-major; sub-byte elements packed), whatever its layout. */
void tensor_write(Exec *e, int32_t program, const ProgTensor *t, const void *nchw);
void tensor_read(Exec *e, int32_t program, const ProgTensor *t, void *nchw);

#endif
