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
/* Code for a GPU: one module a program. */
typedef struct GpuModule {
    const char *arch;   /* "sm_90"; "sim": none, the source itself is run */
    const char *source; /* CUDA C, what the compiler got */
    const void *image;  /* cubin, or PTX (ends with 0) where the GPU is newer than the compiler; NULL: run the source */
    size_t      image_bytes;
} GpuModule;
/* A function of the module. Its parameters: the buffers in order and, where scratch_bytes > 0, `float *scratch` and
 * `unsigned *tickets` (counters that are 0 before and after each launch; one array serves all launches). */
typedef struct GpuKernel {
    const GpuModule *module;
    const char      *entry;
    int64_t          grid;         /* blocks, in one dimension, at most 2^31 - 1 */
    int32_t          block;        /* threads of each */
    int32_t          shared_bytes; /* static; for tables */
    int32_t          tickets;
    int32_t          registers, spill_bytes; /* as the compiler reports; -1: not known */
} GpuKernel;

typedef struct KernelImage {
    const char *name;
    const void *self;
    KernelEntry run, finish;
    int64_t     units, finish_units;
    int64_t     scratch_bytes;
    int64_t     bytes; /* moved by one launch: decides how many threads are worth while */
    int64_t     flops; /* of one launch, exp and log as one each: for profiles */
    int32_t     n_bufs;
    /* Not NULL: for a GPU; then run, finish, self and units are not used. */
    const GpuKernel *gpu;
} KernelImage;

/* Library calls. Buffers in this order: CONV_FWD x, w, [bias], y; CONV_BWD_X dy, w, dx; CONV_BWD_W dy, x, dw;
 * LINEAR_* likewise; CONV_FWD_INT x codes, w codes, scale f32[1] or f32[K], y: y[k] = (f32)sum(x w) scale[k or 0], the
 * sum exact in i32. Activations are NHWC (or rows for rank 2), weights row-major [K, C/groups, R, S] or [O, I], or
 * where `krsc` is set [K, R, S, C/groups]; so are their gradients. */
typedef enum CallKind {
    CALL_CONV_FWD,
    CALL_CONV_BWD_X,
    CALL_CONV_BWD_W,
    CALL_LINEAR_FWD,
    CALL_LINEAR_BWD_X,
    CALL_LINEAR_BWD_W,
    CALL_CONV_FWD_INT
} CallKind;
typedef struct CallDesc {
    CallKind kind;
    bool     bias;
    int64_t  n, c, h, w;             /* input of the convolution; linear: n, c = in features, h = w = 1 */
    int64_t  k, r, s, oh, ow;        /* output channels, window, output size */
    int64_t  stride, groups, pad[4]; /* top, left, bottom, right */
    bool     krsc;
    bool     bf16;                   /* BWD_X, BWD_W: operands are rounded to bf16 (runtime/narrow/narrow.h) */
    bool     scale_per_k;            /* FWD_INT: one scale for each output channel */
    DType    x_type, w_type;         /* FWD_INT: s8 or u8, and s8; with bf16 the one that is read: f32, s8 or u8 */
    int32_t  x_lo, x_hi, w_lo, w_hi; /* FWD_INT: what the codes may be; both 0: whatever their types hold */
} CallDesc;
const char *call_name(CallKind k); /* "conv", "conv gradient of x" */

typedef enum LaunchKind { LAUNCH_KERNEL, LAUNCH_CALL } LaunchKind;
enum { CALL_MAX_BUFS = 4 };
/* What a launch does with a buffer: for checks of the plan and of out-of-bounds accesses. */
enum { ACCESS_READ = 1, ACCESS_WRITE = 2 };
typedef struct BufPart {
    int64_t offset, bytes; /* in the buffer */
    int32_t value;
} BufPart;
typedef struct BufUse {
    int64_t        bytes;
    int32_t        value;  /* of the graph, whose memory this is; -1: several, see parts (merged tensors) */
    uint8_t        access; /* ACCESS_READ | ACCESS_WRITE */
    const BufPart *parts;  /* value -1: what of the buffer is touched; the rest belongs to others */
    int32_t        n_parts;
} BufUse;
typedef struct Launch {
    LaunchKind    kind;
    const char   *name; /* "s1.b0.bn1 relu qdq": for profiles and messages */
    bool          backward;
    bool          sums;     /* KERNEL: it reduces tensors to a few numbers, among other things */
    int64_t       conv_out; /* elements that it makes as the results of convolutions of forward */
    int32_t       image;    /* KERNEL: index into images */
    CallDesc      call;     /* CALL */
    const MemRef *bufs;
    const BufUse *uses; /* [n_bufs]; NULL: not known */
    int32_t       n_bufs;
    int64_t       scratch_bytes;
} Launch;

/* A value that is alive when most memory is needed. */
typedef struct PeakValue {
    const char *name;
    int64_t     bytes;
} PeakValue;
enum { PEAK_VALUES = 3 };

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
    int64_t      saved_bytes;       /* made in forward, read in backward */
    PeakValue    peak[PEAK_VALUES]; /* the largest; name NULL: there are fewer */
} Program;

const ProgTensor *program_tensor(const Program *p, const char *name); /* NULL: none */
/* Every launch in order with its kernel or call, grid and block, buffers; arenas; the largest values: for people. */
void program_print(Str *out, const Program *p);
/* The plan of a step checked by running it without computing: every read of a work value finds what was written as that
 * value and not overwritten since, results do not overlap operands, nothing leaves its arena. False: reported. */
bool program_check(Diag *d, const Program *p) DT_CHECKED;

/* ---- Backends -------------------------------------------------------------------------------------------------- */

/* How library calls are executed: oneDNN (runtime/onednn) or plain loops (runtime/reference.c). One thread at a time
 * may use a CallLib; its programs may be many. */
typedef struct CallLib {
    const char *name;        /* "oneDNN 2.6.3 (avx512_core_vnni)" */
    int32_t     vector_bits; /* of its products of floats: 256, 512; 0: others, or not known */
    void       *self;
    int64_t (*scratch_bytes)(void           *self,
                             const CallDesc *call); /* -1: it cannot carry out this call; prepare says why */
    /* Made once a launch; NULL: reported. */
    void *(*prepare)(void *self, Diag *d, const CallDesc *call);
    /* On a GPU: put into its stream; addresses are the device's. False: reported. */
    bool (*run)(void *self, void *prepared, void *const *bufs, void *scratch);
    void (*release)(void *self);                   /* everything prepared, too */
    void (*unprepare)(void *self, void *prepared); /* gives one prepare back; NULL: nothing to give back */
} CallLib;
CallLib *calllib_reference(Arena *a);
CallLib *calllib_onednn(Arena *a, Diag *d, int threads); /* NULL: reported (not built in) */
/* What a library of the CPU that stands in front of another one says of the calls that it carries out itself. */
typedef struct CallFront {
    bool (*is_mine)(const void *self, const CallDesc *call);
    /* What run needs, in `a`, and its scratch memory (-1: it cannot). NULL: reported. */
    void *(*plan)(const void *self, Arena *a, Diag *d, const CallDesc *call, int64_t *scratch_bytes);
    void (*run)(const void *plan, void *const *bufs, void *scratch);
} CallFront;
/* All other calls go to `others`, which it releases with itself. */
CallLib *calllib_front(Arena *a, CallLib *others, const char *name, const CallFront *front, const void *self);
int      calllib_threads(int threads); /* 0: what OpenMP says */
/* cuDNN: runtime/cudnn/cudnn.h. Plain loops behind a simulated GPU: runtime/cuda/gpu.h. */
/* The plain loops themselves. abs_sums: NULL, or for each element of the result the sum of the |products| (and |bias|)
 * that it is made of: what bounds of rounding errors are stated in. */
void reference_call(const CallDesc *call, void *const *bufs, float *abs_sums);

/* ---- Execution ------------------------------------------------------------------------------------------------- */

/* Memory and prepared calls of a set of programs that share params and states. Two kinds, one interface: exec_host.c
 * runs kernels on threads of this machine; runtime/cuda/exec_gpu.c on a GPU (real, simulated or null), where a step is
 * captured once as a graph and replayed. */
typedef struct Exec Exec;
typedef struct Gpu  Gpu; /* runtime/cuda/gpu.h */
typedef struct ExecOptions {
    int     threads;      /* host: 0: what OpenMP says */
    bool    profile;      /* keep time per launch (on a GPU: plain launches between events) */
    bool    no_graph;     /* GPU: plain launches */
    int64_t memory_limit; /* GPU: bytes it may take; 0: what is free */
} ExecOptions;
Exec *exec_new(Arena *a, Diag *d, CallLib *lib, ExecOptions opt);
Exec *exec_new_gpu(Arena *a, Diag *d, Gpu *gpu, CallLib *lib, ExecOptions opt);
/* Bytes that exec_add would have to allocate, all arenas, staging and workspace together; and what there is (INT64_MAX:
 * the host's memory, which nobody asks for). For saying before anything is allocated that a batch does not fit. */
int64_t exec_memory_needed(const Exec *e, const Program *p);
/* The same of several programs, added one after another. They need not be such that run. */
int64_t exec_memory_needed_by(const Exec *e, const Program *const *p, int32_t n);
int64_t exec_memory_available(const Exec *e);
/* Allocates arenas (the largest need of all programs added; param and state as in the first), prepares calls. The index
 * of the program, or -1: reported. */
int32_t exec_add(Exec *e, Program *p) DT_CHECKED;

/* One step; its outputs can be read when this returns. False: reported (only a GPU fails); the Exec is then of no use.
 */
bool exec_run(Exec *e, int32_t program);
/* The host's memory of an input or output (of params and states only on the host itself: tensor_read, tensor_write).
 * With exec_run the address stays. */
void *exec_ptr(Exec *e, int32_t program, const ProgTensor *t);

/* Steps without waiting. Before each: every input is written where exec_input says (staging buffers take turns, so that
 * batch k + 1 travels while step k runs); exec_submit starts the step and gives its number, 0, 1, ... (-1: reported).
 * exec_output waits until step `number`, one of the last exec_depth() ones, is done and gives its value of output `t`
 * (NULL: reported). On the host the depth is 1: submit runs the step. */
void       *exec_input(Exec *e, int32_t program, const ProgTensor *t);
int64_t     exec_submit(Exec *e, int32_t program);
const void *exec_output(Exec *e, int32_t program, const ProgTensor *t, int64_t number);
int32_t     exec_depth(const Exec *e, int32_t program);

int         exec_threads(const Exec *e);                                         /* host threads; GPU: 1 */
double      exec_launch_seconds(const Exec *e, int32_t program, int32_t launch); /* total, with profile */
int64_t     exec_launch_count(const Exec *e, int32_t program);                   /* steps run */
void        exec_free(Exec *e);
/* Between a tensor and an array in logical order (NCHW, row-major; sub-byte elements packed), whatever its layout.
 * False: reported (only a GPU fails); what was to be read is zeros. */
bool tensor_write(Exec *e, int32_t program, const ProgTensor *t, const void *nchw);
bool tensor_read(Exec *e, int32_t program, const ProgTensor *t, void *nchw);

#endif
