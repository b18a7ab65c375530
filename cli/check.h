/* check.h: the parts of `detent check`, shared with the tests: graphs that are compiled and run on the side, and three
 * comparisons - gradients with differences, kernels with the interpreter, library calls with plain loops.
 *
 * Tested by tests/unit/test_matrix.c (each op), tests/unit/test_fuzz_passes.c (random networks),
 * tests/unit/test_check.c (planted mistakes are found). */
#ifndef DETENT_CLI_CHECK_H
#define DETENT_CLI_CHECK_H

#include "cli/cli.h"

/* ---- Graphs that run (check_run.c) ------------------------------------------------------------------------------- */

/* What makes code and carries out calls; many graphs may use one. */
typedef struct CheckBackend {
    Arena     *arena;
    Diag      *d;
    KernelJit *jit;
    CallLib   *lib;
    Gpu       *gpu; /* NULL: this machine */
    int        threads;
} CheckBackend;

/* cpu: LLVM (vectors of `width` floats, 0: the host's) and oneDNN; else the interpreter and plain loops. False:
 * reported. */
bool check_backend_open(CheckBackend *b, Arena *a, Diag *d, bool cpu, int threads, int width) DT_CHECKED;
/* A simulated GPU that runs the CUDA text, and plain loops. False: reported. */
bool check_backend_open_sim(CheckBackend *b, Arena *a, Diag *d) DT_CHECKED;
void check_backend_close(CheckBackend *b);

typedef struct CheckSetup {
    StepKind               step;
    const Recipe          *recipe;           /* NULL: float */
    const OptimizerConfig *optimizer;        /* NULL: momentum 0.9 */
    const char            *passes, *disable; /* as on the command line; NULL: the default pipeline, whole */
    int64_t                most_values;      /* bytes inside the step (pass rematerialize); 0: any number */
} CheckSetup;

typedef struct CheckNet {
    Graph        *g;
    Exec         *exec;
    LoadedProgram prog;
} CheckNet;

/* Runs the passes over g (which is changed), compiles it and gives it memory. False: reported. */
bool    check_net_open(CheckNet *n, CheckBackend *b, Graph *g, const CheckSetup *setup) DT_CHECKED;
void    check_net_close(CheckNet *n);
void    check_net_run(CheckNet *n);
int64_t check_net_elems(const CheckNet *n, const char *tensor);
/* Between a tensor and numbers in logical order; what does not fit the element type saturates. */
void    check_net_write(CheckNet *n, const char *tensor, const double *values);
double *check_net_read(Arena *a, CheckNet *n, const char *tensor);

/* ---- Gradients (check_grad.c, check_cases.c) --------------------------------------------------------------------- */

/* A case is a graph with one op to look at: its differentiable operands are params "x0", "x1"..., its result is the
 * output "out", and the output "loss" is the sum of out r over an input "r". */
typedef struct GradResult {
    bool        ok;
    int32_t     compared;
    double      worst; /* largest error, relative to the size of the gradient */
    double      bound; /* what is allowed besides the noise of single precision */
    const char *where; /* "x0[17]: 0.5 instead of 0.25" of the first failure, else of the worst */
} GradResult;

/* Closes a case: outputs for the value `v`. */
void check_case_close(Builder *b, ValueId v);
/* The value `id` of a network (before autodiff) as a case of small shapes. NULL: reported. */
Graph *check_case_of(Arena *a, Diag *d, const Graph *from, ValueId id);
/* The op that a case is about. */
ValueId check_case_op(const Graph *g);
/* Gradients as the passes and the backend compute them against differences or, where the op is not smooth and its row
 * names a surrogate, the closed form of that. False: reported (it could not be run). */
bool check_gradients(CheckBackend *b, const Graph *g, GradResult *out) DT_CHECKED;
/* Why the tolerance of this op is what it is; for the table. */
const char *check_grad_why(OpCode op);

/* ---- Kernels (check_kernels.c) ----------------------------------------------------------------------------------- */

/* What numbers buffer i of a kernel may hold: integers lo..hi; f32 buffers take any. */
typedef struct KernelData {
    int64_t lo, hi;
} KernelData;

/* One kernel with its code for several vector widths. */
typedef struct KernelCase {
    const Kernel             *kernel;
    const KernelImage *const *images;
    int32_t                   n_images, most_parts;
    const KernelData         *data;    /* one a buffer */
    bool                      special; /* some numbers are NaN, infinite or denormal */
    uint64_t                  seed;
} KernelCase;

typedef struct KernelResult {
    bool        ok;
    int32_t     runs;         /* of compiled code */
    int32_t     image, parts; /* of the first failure */
    const char *where;
} KernelResult;

/* The kernel by the interpreter and by each image, units split over 1, 2, ... most_parts as threads would do: every
 * byte of every buffer must be equal (one NaN is as good as another). */
KernelResult check_kernel(Arena *a, const KernelCase *c);
/* Random memory for each buffer, guards behind it; and the first difference of two such sets, NULL: none. */
void      **check_kernel_fill(Arena *a, const KernelCase *c);
const char *check_kernel_difference(Arena *a, const Kernel *k, void *const *expected, void *const *found);
/* The kernel alone on a GPU (check_gpu.c); images are not used. False: reported (it could not be run). */
bool check_kernel_gpu(Arena *a, Diag *d, const KernelCase *c, KernelJit *jit, Gpu *gpu, CallLib *lib,
                      KernelResult *out) DT_CHECKED;

/* ---- Library calls (check_calls.c) ------------------------------------------------------------------------------- */

typedef struct CallResult {
    bool        ok;
    int64_t     compared;
    double      worst; /* largest error / bound */
    const char *where;
} CallResult;
/* gpu NULL: on the host. */
bool check_call(Arena *a, Diag *d, Gpu *gpu, CallLib *lib, const CallDesc *call, uint64_t seed,
                CallResult *out) DT_CHECKED;
/* The call alone on a GPU (check_gpu.c), on host memory that is copied there and back. False: reported. */
bool check_call_run_gpu(Diag *d, Gpu *gpu, CallLib *lib, const CallDesc *call, void *const *bufs, const int64_t *bytes,
                        int32_t n) DT_CHECKED;
const char *check_call_name(CallKind kind);                  /* "conv forward" */
const char *check_call_text(Arena *a, const CallDesc *call); /* "conv fwd 8x16x32x32 -> 16, 3x3 stride 1" */

#endif
