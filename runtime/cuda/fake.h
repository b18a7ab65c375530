/* fake.h: what the simulated and the null GPU share: a driver whose device is this process.
 *
 * All that a driver keeps in order is kept in order here, and checked: contexts, memory, streams, events, captures,
 * graphs, modules. The two kinds differ in what memory is (bytes of the host; addresses and nothing behind them) and in
 * what a launch does (the simulator runs the kernel's text; its buffers are checked and nothing is computed).
 *
 * A handle is a number that is never used twice, so one that was freed is found as such. Work is a list of operations:
 * a stream does them at once, or - a lazy stream - when something waits for it, a capture keeps them, a graph does them
 * again. What was found is reported to the Diag that the GPU was opened with, and the call returns what a driver would.
 *
 * The driver's functions have no pointer for a user's state: there is one fake GPU in a process, `fake`, and one thread
 * at a time may call it.
 *
 * Tested by tests/unit/test_gpu_driver.c, test_gpu_capture.c and test_gpu_launch.c. */
#ifndef DETENT_CUDA_FAKE_H
#define DETENT_CUDA_FAKE_H

#include "runtime/cuda/driver.h"
#include "runtime/cuda/status.h"

/* ---- For tests -------------------------------------------------------------------------------------------------- */

/* What was made and not given back since the GPU was opened; total: the number of things. */
typedef struct CudaSimLive {
    int32_t total, allocations, host_allocations, streams, events, modules, graphs, contexts;
    int64_t bytes; /* of the device */
} CudaSimLive;
CudaSimLive cuda_sim_live(void);
/* What was done, as a part of graphs, too. host_calls: functions in streams; faults: mistakes that were reported. */
typedef struct CudaSimCounts {
    int64_t launches, host_calls, copies, graph_launches, faults, most_bytes;
} CudaSimCounts;
CudaSimCounts cuda_sim_counts(void);
/* Streams whose work waits until something waits for it (bit i: the stream made as number i, from 0). A dependence
 * between streams that no event states then shows as wrong results. Until the GPU is opened again. */
void cuda_sim_lazy(uint32_t streams);
/* The order in which kernels' blocks run; 0, and when the GPU is opened: as numbered. */
void cuda_sim_seed(uint64_t seed);

/* ---- Inside ----------------------------------------------------------------------------------------------------- */

/* A parameter of a kernel, a buffer of a library call. */
typedef struct FakeArg {
    CuPtr   at;
    int64_t bytes; /* -1: to the end of its allocation */
    bool    writable;
} FakeArg;

typedef enum FakeOpKind {
    FAKE_COPY_TO_DEVICE,
    FAKE_COPY_TO_HOST,
    FAKE_COPY_ON_DEVICE,
    FAKE_SET,
    FAKE_KERNEL,
    FAKE_HOST,
    FAKE_RECORD,
    FAKE_WAIT,
    FAKE_GRAPH,
    FAKE_OP_KINDS
} FakeOpKind;

typedef struct FakeObject FakeObject;
typedef struct FakeOp {
    FakeOpKind     kind;
    const char    *name;     /* of the launch, for messages */
    CuPtr          to, from; /* copies, FAKE_SET */
    void          *host;     /* copies */
    size_t         bytes;
    unsigned char  value;
    FakeObject    *object; /* the function, event or graph */
    int64_t        ticket; /* FAKE_RECORD, FAKE_WAIT: which record of the event */
    unsigned       grid, block;
    const FakeArg *args;
    int32_t        n_args;
    CuHostFn       fn; /* FAKE_HOST */
    void          *user;
} FakeOp;
typedef VEC(FakeOp) FakeOps;

typedef enum FakeSort {
    FAKE_ANY,
    FAKE_STREAM,
    FAKE_EVENT,
    FAKE_MODULE,
    FAKE_FUNCTION,
    FAKE_CAPTURED,
    FAKE_EXEC
} FakeSort;

/* Whatever has a handle. It stays in memory until the GPU is opened again; its own arena does not. */
struct FakeObject {
    FakeSort    sort;
    CuHandle    handle;
    bool        live;
    Arena       arena;
    FakeOps     ops;     /* a stream's: not yet done; a graph's */
    FakeObject *capture; /* stream: the graph it is captured in; event: the one it was recorded in */
    /* stream */
    bool    lazy, origin, unjoined;
    int     mode;          /* of the capture */
    int64_t issued, begun; /* operations so far */
    /* event */
    FakeObject *stream;
    int64_t     ticket, recorded; /* of the last record asked for, and done; 0: none */
    double      seconds;
    bool        untimed;
    /* graph that is being captured */
    bool broken;
    /* module, function */
    void       *code;
    const char *text; /* source; name */
    FakeObject *module;
    int32_t     kernel, params; /* -1: not known */
};

typedef struct FakeBlock {
    CuPtr  at;
    size_t bytes;
    bool   host;
} FakeBlock;

/* What the two kinds do differently. */
typedef struct FakeKind {
    const char *name;
    bool        has_memory; /* bytes behind the addresses; else copies to the host give zeros */
    bool        runs_host;  /* functions in streams are run */
    CuResult (*module_load)(FakeObject *module);
    CuResult (*module_function)(const FakeObject *module, FakeObject *function);
    CuResult (*launch)(const FakeOp *op); /* its arguments lie in live memory */
} FakeKind;

enum { FAKE_FREED = 64 }; /* allocations given back that are remembered, for messages */

typedef struct Fake {
    const FakeKind *kind;
    Arena           arena, queue, told; /* objects; operations that wait; what watch() was told */
    Diag           *d;
    int64_t         memory, used;
    CuPtr           next_address; /* null GPU */
    bool            initialized, in_host;
    uintptr_t       generation; /* of openings: part of a context's handle */
    int32_t         contexts, streams;
    VEC(FakeBlock) blocks;
    FakeBlock freed[FAKE_FREED];
    int32_t   n_freed;
    VEC(FakeObject *) objects;
    const Launch *watched; /* NULL, or the launch that comes next */
    const CuPtr  *watched_at;
    CuResult      fault; /* of a kernel: all later work fails with it */
    uint32_t      lazy;
    uint64_t      seed;
    CudaSimCounts counts;
} Fake;
extern Fake fake;

/* Begins anew with another kind; the table of its functions. */
const CudaDriver *fake_open(Arena *a, Diag *d, int64_t memory, const FakeKind *kind);
/* A mistake in what the driver was asked for. Gives `status` back. */
CuResult fake_wrong(CuResult status, const char *fmt, ...) DT_PRINTF(2, 3);
/* 0, or why no work can be given to the device now. */
CuResult fake_ready(void);
/* [at, at + bytes) lies in one live allocation (bytes -1: `at` does). NULL: reported as `what`. */
const FakeBlock *fake_block(CuPtr at, int64_t bytes, const char *fmt, ...) DT_PRINTF(3, 4);

FakeObject      *fake_object_new(FakeSort sort);
FakeObject      *fake_object(CuHandle handle, FakeSort sort); /* NULL: no such thing, or freed */
void             fake_object_free(FakeObject *o);

/* Puts an operation into a stream: done, kept for later, or captured. args are copied where they must last. */
CuResult fake_issue(CuHandle stream, FakeOp op);
CuResult fake_do(const FakeOp *op);
/* All that waits in lazy streams. */
void fake_flush(void);
/* CU_CAPTURE_UNSUPPORTED, and the captures are of no use, when a stream is captured: for what may not be done then. */
CuResult fake_uncaptured(void);

/* The functions of driver.h, by file. */
#define X(name, symbol, params) CuResult fake_##name params;
CUDA_DRIVER(X)
#undef X
void fake_watch(const Launch *l, const CuPtr *at);

#endif
