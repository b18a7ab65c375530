/* cudnn_impl.h: what the files of runtime/cudnn share: the library's functions as a table, numbers of its graph
 * interface that are used here (under names of our own; no cuDNN header is needed), and a call on its way to plans.
 *
 *   CallDesc --patterns.c--> stages, each a graph (desc.c) --engine.c--> the plan of one engine --cudnn.c--> run
 *
 * Tested by tests/unit/test_cudnn.c, with failures put into the table. */
#ifndef DETENT_CUDNN_IMPL_H
#define DETENT_CUDNN_IMPL_H

#include "runtime/cudnn/cudnn.h"

/* ---- The library (api.c) ---------------------------------------------------------------------------------------- */

typedef int   CudnnStatus; /* 0: success */
typedef void *CudnnDesc;   /* a descriptor of the graph interface */

/* X(name, symbol in the library, result, parameters) */
/* clang-format off */
#define CUDNN_API(X)                                                                                                   \
    X(version,     "cudnnGetVersion",               size_t,       (void))                                              \
    X(status_text, "cudnnGetErrorString",           const char *, (CudnnStatus status))                                \
    X(last_error,  "cudnnGetLastErrorString",       void,         (char *text, size_t bytes))                          \
    X(handle_new,  "cudnnCreate",                   CudnnStatus,  (void **handle))                                     \
    X(handle_free, "cudnnDestroy",                  CudnnStatus,  (void *handle))                                      \
    X(set_stream,  "cudnnSetStream",                CudnnStatus,  (void *handle, void *stream))                        \
    X(create,      "cudnnBackendCreateDescriptor",  CudnnStatus,  (int type, CudnnDesc *desc))                         \
    X(destroy,     "cudnnBackendDestroyDescriptor", CudnnStatus,  (CudnnDesc desc))                                    \
    X(finalize,    "cudnnBackendFinalize",          CudnnStatus,  (CudnnDesc desc))                                    \
    X(set,         "cudnnBackendSetAttribute",      CudnnStatus,  (CudnnDesc desc, int attr, int type, int64_t n, const void *values)) \
    X(get,         "cudnnBackendGetAttribute",      CudnnStatus,  (CudnnDesc desc, int attr, int type, int64_t n, int64_t *found, void *values)) \
    X(execute,     "cudnnBackendExecute",           CudnnStatus,  (void *handle, CudnnDesc plan, CudnnDesc pack))
/* clang-format on */

typedef struct CudnnApi {
#define X(name, symbol, result, params) result(*name) params;
    CUDNN_API(X)
#undef X
    const char *path; /* of the library */
} CudnnApi;

/* From libcudnn.so.9, or the file or directory in DETENT_CUDNN. NULL: reported. */
const CudnnApi *cudnn_api_load(Arena *a, Diag *d);

/* ---- Its numbers ------------------------------------------------------------------------------------------------ */

enum { CUDNN_OLDEST = 90000, CUDNN_OLDEST_WITHOUT_GPU = 90800 };

/* Element types. */
typedef enum CudnnType { CUDNN_F32 = 0, CUDNN_F16 = 2, CUDNN_S8 = 3, CUDNN_S32 = 4, CUDNN_BF16 = 9 } CudnnType;

/* Descriptors. */
enum {
    DESC_POINTWISE = 0,
    DESC_CONV = 1,
    DESC_ENGINE = 2,
    DESC_CONFIG = 3,
    DESC_HEURISTICS = 4,
    DESC_PLAN = 5,
    DESC_OP_CONV_FWD = 10,
    DESC_OP_CONV_BWD_W = 11,
    DESC_OP_CONV_BWD_X = 12,
    DESC_OP_POINTWISE = 13,
    DESC_GRAPH = 15,
    DESC_PACK = 16,
    DESC_TENSOR = 17,
    DESC_DEVICE = 38
};

/* Types of attributes. */
enum {
    AS_HANDLE = 0,
    AS_ELEMENT_TYPE = 1,
    AS_BOOL = 2,
    AS_INT64 = 3,
    AS_FLOAT = 4,
    AS_POINTER = 6,
    AS_CONV_MODE = 7,
    AS_HEURISTICS_MODE = 8,
    AS_NUMERICAL_NOTE = 11,
    AS_POINTWISE_MODE = 14,
    AS_DESC = 15,
    AS_BEHAVIOR_NOTE = 19,
    AS_CHAR = 24
};

/* Attributes. */
enum {
    POINTWISE_MODE = 0,
    POINTWISE_TYPE = 1,
    CONV_SUM_TYPE = 100,
    CONV_MODE = 101,
    CONV_DILATIONS = 102,
    CONV_STRIDES = 103,
    CONV_PAD_AFTER = 104,
    CONV_PAD_BEFORE = 105,
    CONV_SPATIAL_DIMS = 106,
    HEURISTICS_MODE = 200,
    HEURISTICS_GRAPH = 201,
    HEURISTICS_RESULTS = 202,
    HEURISTICS_DEVICE = 204,
    CONFIG_ENGINE = 300,
    PLAN_HANDLE = 400,
    PLAN_CONFIG = 401,
    PLAN_WORKSPACE = 402,
    PLAN_JSON = 405,
    PLAN_DEVICE = 407,
    OP_CONV_FWD = 700, /* alpha; then beta, convolution, w, x, y; likewise the gradients */
    OP_CONV_BWD_X = 706,
    OP_CONV_BWD_W = 712,
    OP_POINTWISE = 750,
    OP_POINTWISE_X = 751,
    OP_POINTWISE_B = 752,
    OP_POINTWISE_Y = 753,
    GRAPH_HANDLE = 800,
    GRAPH_OPS = 801,
    TENSOR_ALIGNMENT = 900,
    TENSOR_TYPE = 901,
    TENSOR_DIMS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_UID = 906,
    TENSOR_VIRTUAL = 907,
    PACK_UIDS = 1000,
    PACK_POINTERS = 1001,
    PACK_WORKSPACE = 1003,
    ENGINE_INDEX = 1301,
    ENGINE_NUMERICAL_NOTES = 1303,
    ENGINE_BEHAVIOR_NOTES = 1305,
    DEVICE_JSON = 2702
};

/* Values of attributes. */
enum { MODE_CROSS_CORRELATION = 1, HEURISTICS_FALLBACK = 2, HEURISTICS_A = 3 };
enum { POINT_NONE = -1, POINT_ADD = 0, POINT_MUL = 1, POINT_IDENTITY = 21 };

/* Notes of an engine, as bits: how it computes; what it asks for. */
enum {
    NOTE_TENSOR_CORE = 1 << 0,
    NOTE_DOWN_CONVERT = 1 << 1, /* operands are rounded to a narrower type */
    NOTE_REDUCED = 1 << 2,      /* sums are */
    NOTE_FFT = 1 << 3,
    NOTE_NONDETERMINISTIC = 1 << 4,
    NOTE_WINOGRAD = 0xf << 5, /* with its tile sizes */
    NOTE_NAN = 1 << 9         /* not a restriction: NaN is kept everywhere */
};
enum { BEHAVIOR_RUN_TIME_COMPILED = 1 << 0, BEHAVIOR_REORDERED_OPERANDS = 3 << 1 };

/* ---- A call on its way ------------------------------------------------------------------------------------------ */

/* The three tensors of a convolution, and the vector of its epilogue. */
typedef enum CudnnRole { ROLE_X, ROLE_W, ROLE_Y, ROLE_EXTRA } CudnnRole;
enum { OPERAND_F32, OPERAND_HALF, OPERAND_CODES };

/* A way to compute a call: a row of the table in patterns.c. */
typedef struct CudnnPattern {
    const char *name;
    uint32_t    kinds, maths; /* bits: CallKind (linear as convolutions), CudnnMath */
    bool        bias;
    int8_t      operand;   /* OPERAND_*: what the convolution multiplies */
    bool        main_loop; /* operand 0 is converted as it is read, not before */
    int8_t      end;       /* POINT_*: what is done with the sums */
} CudnnPattern;

/* Descriptors that live and die together. */
enum { DESCS_MAX = 24 };
typedef struct CudnnDescs {
    CudnnDesc at[DESCS_MAX];
    int32_t   n;
} CudnnDescs;

/* Where a tensor of a graph lies: in a buffer of the launch or (buf -1) at an offset of its scratch memory. */
typedef struct CudnnBinding {
    int64_t uid, bytes, offset;
    int32_t buf;
} CudnnBinding;

/* One plan of a call. */
enum { STAGE_BINDINGS = 4, CALL_STAGES = 3 };
typedef struct CudnnStage {
    const char  *name;
    CudnnDescs   keep; /* all that the plan was made of */
    CudnnDesc    plan;
    int64_t      workspace;
    int32_t      engine;
    uint32_t     notes, behavior;
    bool         cached;
    int32_t      n_bindings;
    CudnnBinding bindings[STAGE_BINDINGS];
} CudnnStage;

/* Addresses that a call was run with, and what tells the library of them. */
enum { PACK_POINTERS_MAX = CALL_MAX_BUFS + 1, CALL_PACKS = 64 };
typedef struct CudnnPack {
    void      *at[PACK_POINTERS_MAX]; /* buffers, scratch */
    CudnnDescs packs;                 /* one a stage */
} CudnnPack;

typedef struct CudnnCall {
    const char         *text; /* all that its plans depend on: the key by which calls are shared */
    CallDesc            desc; /* linear calls as convolutions */
    int32_t             n_bufs, users;
    bool                built;
    const char         *refusal; /* NULL, or why there is no plan: lines */
    const CudnnPattern *pattern;
    int32_t             n_stages;
    CudnnStage          stages[CALL_STAGES];
    int64_t             work_offset, scratch_bytes; /* [converted operands | work space of whichever stage runs] */
    int32_t             n_packs, next_pack;
    CudnnPack          *packs; /* [CALL_PACKS] */
} CudnnCall;

typedef struct CudnnFailure {
    CudnnStatus status; /* 0: none */
    char        text[1024];
} CudnnFailure;

typedef struct Cudnn {
    CallLib         face;
    Arena          *arena;
    Diag           *d;
    const CudnnApi *api;
    Gpu            *gpu; /* NULL: plans are only made */
    CudnnOptions    opt;
    int32_t         version, sm;
    bool            open;
    void           *handle; /* with a GPU */
    CudnnDescs      device; /* without */
    CudnnFailure    failure;
    VEC(CudnnCall *) calls;
} Cudnn;

/* The library on these functions. NULL: reported. */
Cudnn *cudnn_new(Arena *a, Diag *d, Gpu *gpu, CudnnOptions opt, const CudnnApi *api);

/* ---- api.c ---- */

/* "cudnnBackendFinalize (plan): CUDNN_STATUS_NOT_SUPPORTED (3000): reason". */
void cudnn_fail(Cudnn *c, CudnnFailure *out, CudnnStatus status, const char *symbol, const char *what);
/* status == 0; else the first failure since the last clear is kept in c->failure. */
bool cudnn_ok(Cudnn *c, CudnnStatus status, const char *symbol, const char *what);
void cudnn_clear(Cudnn *c);
/* What to do about a status. */
const char *cudnn_help(CudnnStatus status);

/* ---- deviceprop.c ---- */

const char *cudnn_device_json(int32_t sm); /* NULL: not known */

/* ---- desc.c: once something has failed, these do nothing; c->failure says what it was ---- */

CudnnDesc desc_new(Cudnn *c, CudnnDescs *keep, int type);
void      desc_set(Cudnn *c, CudnnDesc desc, int attr, int type, int64_t n, const void *values);
void      desc_set_number(Cudnn *c, CudnnDesc desc, int attr, int type, int value);
void      desc_set_desc(Cudnn *c, CudnnDesc desc, int attr, CudnnDesc value);
int64_t   desc_get(Cudnn *c, CudnnDesc desc, int attr, int type, int64_t n, void *values); /* how many there are */
void      desc_finish(Cudnn *c, CudnnDesc desc, const char *what);
void      descs_free(Cudnn *c, CudnnDescs *keep);

/* Extents of a role, and its bytes. */
void    cudnn_dims(const CallDesc *d, CudnnRole role, int64_t dim[4]);
int64_t cudnn_bytes(const CallDesc *d, CudnnRole role, CudnnType type);
/* The number of a role's tensor in a graph; of its converted copy where that is made: CUDNN_COPY more. */
enum { CUDNN_COPY = 8 };
int64_t cudnn_uid(CudnnRole role);
/* Operand 0, operand 1, result. */
const CudnnRole *cudnn_roles(CallKind kind);

/* The call as `pattern` has it, operands that are not f32 lying in memory as what they are (half: OPERAND_HALF); and
 * the making of such a copy. */
CudnnDesc graph_call(Cudnn *c, CudnnDescs *keep, const CallDesc *d, const CudnnPattern *pattern, CudnnType half);
CudnnDesc graph_convert(Cudnn *c, CudnnDescs *keep, const CallDesc *d, CudnnRole role, CudnnType to);
/* What tells a plan where its tensors lie: at[] by binding. */
CudnnDesc pack_new(Cudnn *c, CudnnDescs *keep, const CudnnStage *st, void *const at[], void *workspace);

/* ---- engine.c, tune.c ---- */

/* Fills st->plan with the first engine (or, with autotune, the fastest) that has no note of `forbidden` and fits.
 * False: there is none, and why is added to `why`; or c->failure. */
bool cudnn_choose(Cudnn *c, CudnnStage *st, CudnnDesc graph, uint32_t forbidden, const char *call, Str *why);

typedef struct CudnnCandidate {
    CudnnDescs keep; /* configuration and plan */
    CudnnDesc  plan;
    int64_t    workspace;
    int32_t    engine;
    uint32_t   notes, behavior;
} CudnnCandidate;
/* The fastest; 0 where nothing could be measured, which the log says. */
int32_t cudnn_tune(Cudnn *c, const CudnnStage *st, const CudnnCandidate *at, int32_t n);

/* ---- patterns.c ---- */

/* Stages of the call by the first row that has engines for all. False: call->refusal or c->failure says why. */
bool cudnn_plan(Cudnn *c, CudnnCall *call);
void call_clear(Cudnn *c, CudnnCall *call); /* gives its plans back */
/* "conv forward 128x3x32x32 -> 16x32x32, 3x3 ..." into text; a linear call into a convolution. */
void     cudnn_call_text(char *text, size_t bytes, const CallDesc *d);
CallDesc cudnn_as_conv(const CallDesc *d);
/* All rows, for tests. */
extern const CudnnPattern cudnn_patterns[];
extern const int32_t      cudnn_n_patterns;
extern const char *const  cudnn_math_names[]; /* by CudnnMath */

#endif
