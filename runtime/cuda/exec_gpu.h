/* exec_gpu.h: what the files of the engine share.
 *
 *   exec_gpu.c         the kind's table: adding a program, reading and writing tensors, giving everything back
 *   exec_gpu_memory.c  what lies where on the device and in pinned memory of the host, and how much that is
 *   exec_gpu_step.c    a step: copies, launches, the captured graph
 *
 * Nothing but a CudaDriver is called, so the same code drives a real, a simulated and a null GPU. */
#ifndef DETENT_CUDA_EXEC_GPU_H
#define DETENT_CUDA_EXEC_GPU_H

#include "runtime/cuda/gpu.h"
#include "runtime/exec_impl.h"

/* Outputs of so many steps are kept on the host, when they are small; else of the last one. */
enum { RING_STEPS = 16, RING_BYTES = 64 << 10, STAGES = 2 };
enum { BOUNCE_BYTES = 1 << 20 };

typedef struct DevBlock {
    CuPtr   at;
    int64_t bytes;
} DevBlock;

/* Neighbouring inputs, or outputs, that are copied as one. */
typedef struct Span {
    MemRef  at;
    int64_t bytes;
    int64_t image;  /* where it lies in an image of the io arena */
    int64_t packed; /* ... and where only spans lie, one after the other: staging memory, a ring slot */
} Span;

typedef struct Spans {
    Span   *at;
    int32_t n;
    int64_t packed_bytes;
} Spans;

/* A launch with its addresses; two more than it has buffers: scratch and tickets. */
typedef struct GpuLaunch {
    CuHandle function; /* NULL: a call */
    CuPtr   *at;
    void   **params; /* what the driver wants: the addresses of the arguments; of a call: the buffers themselves */
} GpuLaunch;

typedef struct GpuLoaded {
    Loaded     base;
    DevBlock   io, staging;   /* staging: STAGES times the inputs */
    char      *image[STAGES]; /* pinned: the io arena as the host sees it; [0] is what exec_ptr gives */
    char      *ring;          /* pinned: `depth` times the outputs */
    int64_t    image_bytes;
    Spans      inputs, outputs;
    int32_t    depth;
    GpuLaunch *launches;

    CuHandle   copied[STAGES];   /* the inputs have left image[i] */
    CuHandle   consumed[STAGES]; /* ... and staging slot i */
    bool       staged[STAGES];   /* these events were recorded once */
    bool       writable;         /* the host may write the next step's image */
    CuHandle   done[RING_STEPS];
    CuHandle  *marks; /* [n_launches + 1], between launches; NULL: no profile */

    bool       warm; /* ran once */
    CuHandle   graph;
    size_t     nodes;
} GpuLoaded;

typedef struct GpuModuleLoaded {
    const GpuModule *module;
    CuHandle         handle;
} GpuModuleLoaded;
typedef struct GpuFunction {
    const GpuModule *module;
    const char      *entry;
    CuHandle         handle;
} GpuFunction;

typedef struct GpuExec {
    Exec     base;
    Gpu     *gpu;
    DevBlock shared[ARENA_COUNT]; /* [ARENA_IO] is not used */
    DevBlock tickets;
    int64_t  held;   /* bytes of the device, in all */
    char    *bounce; /* pinned, BOUNCE_BYTES: params and states on their way to and from callers */
    VEC(GpuModuleLoaded) modules;
    VEC(GpuFunction) functions;
} GpuExec;

/* A driver's functions by name in the table: its symbol, for messages. */
typedef struct CuSymbols {
#define X(name, symbol, params) const char *name;
    CUDA_DRIVER(X)
#undef X
} CuSymbols;
extern const CuSymbols cu_symbols;

/* CU(x, alloc, &at, bytes): false when the call failed. The first failure is reported, and the Exec is then of no use.
 */
#define CU(x, name, ...) gpu_exec_ok((x), cu_symbols.name, (x)->gpu->t->name(__VA_ARGS__))
bool gpu_exec_ok(GpuExec *x, const char *call, CuResult status);

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

int64_t gpu_exec_needed(const Exec *e, const Program *const *p, int32_t n);
int64_t gpu_exec_available(const Exec *e);
/* False: reported, nothing was allocated. */
bool gpu_memory_fits(GpuExec *x, const Program *p) DT_CHECKED;
/* Shared blocks grow, the program gets its own. False: reported; what was allocated is in `l`. */
bool gpu_memory_new(GpuExec *x, GpuLoaded *l, const Program *p) DT_CHECKED;
void gpu_memory_free(GpuExec *x, GpuLoaded *l);
void gpu_memory_release(GpuExec *x); /* what is shared */
/* On the device, and in the host's image. */
CuPtr gpu_address(const GpuExec *x, const GpuLoaded *l, MemRef at);
char *gpu_image(const GpuLoaded *l, int32_t stage, const ProgTensor *t);
char *gpu_ring(const GpuLoaded *l, int64_t number, const ProgTensor *t);

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

bool        gpu_step_run(Exec *e, Loaded *l);
void       *gpu_step_input(Exec *e, Loaded *l, const ProgTensor *t);
bool        gpu_step_submit(Exec *e, Loaded *l);
const void *gpu_step_output(Exec *e, Loaded *l, const ProgTensor *t, int64_t number);
void        gpu_graph_drop(GpuExec *x, GpuLoaded *l);

#endif
