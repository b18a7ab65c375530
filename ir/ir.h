/* ir.h: the graph IR. One training step - forward, loss, backward, optimizer, updates of statistics - is one Graph.
 *
 * The three structs to know: Graph, Value, OpInfo. A *value* is one op with one result; ids are never reused. Leaves
 * are `input` (written by the host before a step), `param` (trained), `state` (kept, not trained) and `const`. `assign
 * %leaf, %v` updates a param or state after every read of its old value; `output` hands a value to the host.
 *
 * Logical shapes are NCHW. The physical layout is part of the type and is chosen by the layout pass.
 *
 * Text form (print.c, parse.c; the two are inverse, at every stage):
 *
 *   graph @resnet20.train {
 *     %0 = input "image" : f32[128x3x32x32] loc("resnet20.c":21)
 *     %1 = param "stem.conv.weight" {init="kaiming", fan=27} : f32[16x3x3x3] loc("resnet20.c":9)
 *     %2 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[128x16x32x32] nhwc scope("stem") loc("resnet20.c":9) by("frontend")
 *     kernel 3 "stem.relu" {
 *       %7 = relu %6 : f32[128x16x32x32] nhwc at(work+4096)
 *     }
 *     assign %1, %9
 *     output %8 "loss"
 *   }
 *
 * Attributes are printed in table order, defaults left out. Tested by tests/unit/test_ir.c, test_ir_text.c
 * and tests/golden. */
#ifndef DETENT_IR_H
#define DETENT_IR_H

#include "base/base.h"
#include "ir/kernel/kernel.h"

typedef int32_t ValueId;
#define VALUE_NONE (-1)

/* What a step is for: one network gives three graphs that share params and states. */
typedef enum StepKind {
    STEP_TRAIN,      /* forward with batch statistics, backward, optimizer */
    STEP_EVAL,       /* forward with running statistics */
    STEP_INIT,       /* forward of the first batch that gives each step size its first value */
    STEP_OBSERVE,    /* forward in float with running statistics; hands what quantizers would read to the host */
    STEP_INSPECT,    /* forward as in an evaluation; hands to the host how well each quantizer does */
    STEP_REESTIMATE, /* forward with batch statistics, whose mean over some batches the running ones become */
    STEP_COUNT
} StepKind;
const char *step_kind_name(StepKind k); /* "train", "eval", "init", "observe", "inspect", "reestimate" */

/* ---- Types ----------------------------------------------------------------------------------------------------- */

enum { DT_MAX_RANK = 4, DT_MAX_DIM = 1 << 28 };

typedef struct Shape {
    int32_t rank;             /* 0: a scalar */
    int64_t dim[DT_MAX_RANK]; /* each >= 1 */
} Shape;

typedef enum Layout { LAYOUT_ROWS, LAYOUT_NHWC } Layout; /* rows: the logical order; nhwc: rank 4 only */

typedef struct Type {
    DType  dtype;
    Shape  shape;
    Layout layout;
} Type;

Shape   shape_of(int32_t rank, const int64_t *dim);
bool    shape_eq(Shape a, Shape b);
int64_t shape_elems(Shape s);
int64_t type_bytes(Type t);
/* Element distance of dimension i in memory, under the layout. */
int64_t     type_stride(Type t, int32_t i);
const char *shape_text(Arena *a, Shape s); /* "128x16x32x32"; a scalar: "" */

/* ---- Attributes ------------------------------------------------------------------------------------------------ */

typedef enum AttrKind { ATTR_INT, ATTR_FLOAT, ATTR_TEXT, ATTR_BOOL, ATTR_PADS } AttrKind;

/* Every attribute of every op by name. pads: top, left, bottom, right. */
#define DT_ATTRS(X)                                                                                                    \
    X(STRIDE, "stride", ATTR_INT)                                                                                      \
    X(PAD, "pad", ATTR_PADS)                                                                                           \
    X(GROUPS, "groups", ATTR_INT)                                                                                      \
    X(KERNEL, "kernel", ATTR_INT)                                                                                      \
    X(EPS, "eps", ATTR_FLOAT)                                                                                          \
    X(MOMENTUM, "momentum", ATTR_FLOAT)                                                                                \
    X(P, "p", ATTR_FLOAT)         /* probability that an element is dropped */                                         \
    X(STREAM, "stream", ATTR_INT) /* random stream of this value */                                                    \
    X(KEEP, "keep", ATTR_TEXT)    /* reductions: dimensions kept, "", "c", "nc", "n" or "o" */                         \
    X(SCALE, "scale", ATTR_FLOAT) /* a factor */                                                                       \
    X(COUNT, "count", ATTR_INT)   /* how many elements a mean was taken over */                                        \
    X(CHANNELS, "channels", ATTR_INT)                                                                                  \
    X(H, "h", ATTR_INT) /* spatial size of a gradient's target */                                                      \
    X(W, "w", ATTR_INT)                                                                                                \
    X(LO, "lo", ATTR_INT) /* integer clip limits of a quantizer, n and p of the papers */                              \
    X(HI, "hi", ATTR_INT)                                                                                              \
    X(BITS, "bits", ATTR_INT)                                                                                          \
    X(ENDS, "ends", ATTR_TEXT)   /* which values at the ends of a quantizer's range pass a gradient */                 \
    X(ROUND, "round", ATTR_BOOL) /* false: a quantizer that clips and does not round */                                \
    X(BF16, "bf16", ATTR_BOOL)   /* of a gradient: its operands are rounded to bf16, or are codes */                   \
    X(CENTRED, "centred", ATTR_BOOL)                                                                                   \
    X(BLOCK, "block", ATTR_INT) /* neighbours that share one random draw */                                            \
    X(FORM, "form", ATTR_TEXT)  /* of a penalty: row of the table in body_penalty.c */                                 \
    X(ROLE, "role", ATTR_TEXT)  /* "weight" or "act" */                                                                \
    X(ROW, "row", ATTR_INT)     /* which recipe row made it */                                                         \
    X(AXIS, "axis", ATTR_INT)   /* which dimension a rank-1 operand runs along */                                      \
    X(BEGIN, "begin", ATTR_INT) /* of a slice: the first channel, negative: zeros before it */                         \
    X(FACTOR, "factor", ATTR_INT)                                                                                      \
    X(BILINEAR, "bilinear", ATTR_BOOL)                                                                                 \
    X(INIT, "init", ATTR_TEXT) /* params and states: zeros, ones, kaiming, torch (uniform 1/sqrt fan), value */        \
    X(FAN, "fan", ATTR_INT)                                                                                            \
    X(VALUE, "value", ATTR_FLOAT) /* const, and init="value" */                                                        \
    X(GROUP, "group", ATTR_TEXT)  /* optimizer group of a param: weight, bias, norm, step, offset */                   \
    X(DECAY, "decay", ATTR_FLOAT)                                                                                      \
    X(NESTEROV, "nesterov", ATTR_BOOL)                                                                                 \
    X(FLOOR, "floor", ATTR_FLOAT) /* lower bound kept by an update */                                                  \
    X(LIMIT, "limit", ATTR_FLOAT) /* of a gradient that is clipped */                                                  \
    X(WARM, "warm", ATTR_BOOL)    /* an average that begins fast */                                                    \
    X(TEMPERATURE, "temperature", ATTR_FLOAT)                                                                          \
    X(K, "k", ATTR_INT)                   /* how many best answers count */                                            \
    X(SLOPE, "slope", ATTR_FLOAT)         /* of an activation below 0 */                                               \
    X(SMOOTHING, "smoothing", ATTR_FLOAT) /* share of a label that all classes get alike */                            \
    X(ALPHA, "alpha", ATTR_FLOAT)         /* weight of one side of an asymmetric loss */

typedef enum AttrId {
#define X(id, text, kind) A_##id,
    DT_ATTRS(X)
#undef X
        ATTR_COUNT
} AttrId;

typedef union AttrVal {
    int64_t     i; /* INT, BOOL */
    double      f;
    const char *s;
    int64_t     pads[4];
} AttrVal;

/* One row of an op's attribute list. */
typedef struct AttrDef {
    AttrId      id;
    bool        required;
    AttrVal     fallback; /* when not required */
    double      min, max; /* numbers; both 0: any */
    const char *choices;  /* text: "zeros|ones"; NULL: any */
    const char *doc;
} AttrDef;

const char *attr_name(AttrId id);
AttrKind    attr_kind(AttrId id);

/* ---- Ops ------------------------------------------------------------------------------------------------------- */

typedef struct Graph   Graph;
typedef struct Value   Value;
typedef struct BodyCtx BodyCtx;
typedef struct GradCtx GradCtx;

typedef enum Traits {
    T_LEAF = 1 << 0,      /* no inputs, memory of its own */
    T_ELTWISE = 1 << 1,   /* out[i] = body(inputs broadcast to i) */
    T_REDUCE = 1 << 2,    /* sums of body over all but the kept dimensions, then final over the kept ones */
    T_NEST = 1 << 3,      /* each output element is computed from materialized inputs by loads and small loops */
    T_LIBRARY = 1 << 4,   /* a call: conv2d, linear and their gradients */
    T_VIEW = 1 << 5,      /* same memory, another shape */
    T_EFFECT = 1 << 6,    /* assign, output: kept though nobody uses a result */
    T_NODIFF = 1 << 7,    /* no gradient flows through, by meaning (or it exists after autodiff only) */
    T_RANDOM = 1 << 8,    /* draws by (seed, stream, step, index) */
    T_COMPOSITE = 1 << 9, /* replaced by the decompose pass; no lowering */
    T_COMMUTES = 1 << 10,
    T_EXACT = 1 << 11, /* result lies on a grid: compared by equality */
    T_INIT = 1 << 12,  /* computes the first value of a state from the first batch */
    T_STOP = 1 << 13,  /* a constant to whoever differentiates, whatever it was computed from */
    T_FOLD = 1 << 14,  /* a kernel of its own: over all points of input 0, for each channel as many sums as the result
                          [C,1,R,S] has taps, in one walk */
} Traits;

/* Result type from inputs and attributes. False: reported at `at`, first word the op's name. */
typedef bool (*InferFn)(const Graph *g, const Value *v, Type *out, Diag *d, Loc at);
/* Adds gradients of inputs with grad_add(). dy has the type of the value. */
typedef void (*GradFn)(GradCtx *c, ValueId v, ValueId dy);
/* ELTWISE: in[i] is input i at this point; the result. REDUCE: returns how many sums; out[] what is added up at this
 * point. NEST and FOLD: in is NULL, loads by body_load(). FOLD: at a point of input 0; sums go to c->sums. */
typedef int32_t (*BodyFn)(BodyCtx *c, const KVal *in, KVal out[2]);
/* REDUCE: the result from the sums; in[i] is input i if it has the kept shape, else KVAL_NONE. */
typedef KVal (*FinalFn)(BodyCtx *c, const KVal *in, const KVal *sum);
/* How sums are combined (REDUCE). */
typedef struct OpInfo {
    const char    *text;
    int32_t        min_in, max_in;
    const AttrDef *attrs;
    int32_t        n_attrs;
    uint32_t       traits;
    InferFn        infer;
    GradFn         grad;      /* NULL only with T_NODIFF, T_LEAF, T_EFFECT */
    const char    *surrogate; /* gradient check: of which smooth function the gradient is; NULL: of its own body */
    BodyFn         body;
    FinalFn        final;
    KAcc           acc; /* REDUCE */
    const char    *doc;
} OpInfo;

typedef enum OpCode {
#define OP(id, ...) OP_##id,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} OpCode;

extern const OpInfo ir_ops[OP_COUNT];
bool                ir_op_parse(const char *text, size_t len, OpCode *out);
/* Run once at start: every differentiable op has a gradient, every op infers, has doc, and a body where one is due. */
bool ir_check_tables(Diag *d);

/* ---- Values ---------------------------------------------------------------------------------------------------- */

/* Where a value came from: a DSL line, and what made it. A fused or rewritten value keeps all. */
typedef struct Origin {
    Loc         dsl; /* the user's line */
    const char *by;  /* "frontend" or a pass */
} Origin;

/* Which arena of the program, and where in it (set by plan-memory). */
typedef enum MemKind { MEM_NONE, MEM_IO, MEM_PARAM, MEM_STATE, MEM_WORK } MemKind;
typedef struct Place {
    MemKind kind;
    int64_t offset; /* bytes */
} Place;

struct Value {
    OpCode      op;
    Type        type;
    int32_t     n_in;
    ValueId    *in;
    AttrVal    *attr;  /* aligned with ir_ops[op].attrs */
    const char *name;  /* input, param, state, output: symbol, unique in the graph. Else NULL */
    const char *scope; /* "s1.b0"; NULL at top level */
    Origin     *origins;
    int32_t     n_origins; /* >= 1 */
    int32_t     group;     /* kernel or call it belongs to after fuse; -1 */
    Place       place;
    int32_t     line;     /* of g->file, where it was read; 0: it was not. For messages, never printed back */
    bool        backward; /* made by autodiff or later for the gradient */
};

/* A fused kernel: the values that carry its number, contiguous in the order. What is used outside it is stored. */
typedef struct Group {
    const char *name;
    Kernel     *kernel;   /* after lower; NULL for a library call */
    ValueId    *bound;    /* bound[i]: the value whose memory buffer i of the kernel is; VALUE_NONE: merged segments */
    Place      *bound_at; /* where buffer i begins */
    int32_t     n_bound;
    bool        segments; /* one launch over many small tensors of one structure (made by the batch pass) */
} Group;

struct Graph {
    Arena      *arena;
    const char *name;
    const char *file;                /* that its text was read from; NULL: it was built. For messages */
    VEC(Value) values;               /* by id; dead ones stay */
    VEC(ValueId) order;              /* the live ones, each after its inputs */
    VEC(Group) groups;               /* by number */
    const char *target;              /* "cpu" once layouts are chosen */
    int64_t     bytes[MEM_WORK + 1]; /* size of each arena once planned */
};

Graph               *ir_graph_new(Arena *a, const char *name);
Graph               *ir_graph_clone(Arena *a, const Graph *g);
static inline Value *ir_value(const Graph *g, ValueId id)
{
    return &g->values.at[id];
}
static inline bool ir_is(const Graph *g, ValueId id, OpCode op)
{
    return ir_value(g, id)->op == op;
}
static inline bool ir_has(const Graph *g, ValueId id, uint32_t traits)
{
    return (ir_ops[ir_value(g, id)->op].traits & traits) != 0;
}
int64_t        ir_int(const Value *v, AttrId id); /* INT, BOOL; asserts that the op has it */
double         ir_float(const Value *v, AttrId id);
const char    *ir_text(const Value *v, AttrId id); /* never NULL */
const int64_t *ir_pads(const Value *v, AttrId id);
ValueId        ir_root(const Graph *g, ValueId id); /* whose memory a view shows; the value itself when it is none */
ValueId        ir_find(const Graph *g, const char *symbol); /* input, param, state or output; VALUE_NONE */
/* "s1.b0.conv1" for messages and kernel names: its symbol, or scope and op. */
const char *ir_label(Arena *a, const Graph *g, ValueId id);
/* The place to name in a message: the first user's line known, else the line of the text that the value was read from.
 */
Loc ir_loc(const Graph *g, const Value *v);

/* ---- Building and rewriting ------------------------------------------------------------------------------------ */

typedef struct AttrSet {
    AttrId  id;
    AttrVal val;
} AttrSet;
#define AI(id_, x) ((AttrSet){ A_##id_, { .i = (x) } })
#define AF(id_, x) ((AttrSet){ A_##id_, { .f = (x) } })
#define AT(id_, x) ((AttrSet){ A_##id_, { .s = (x) } })
#define AP(id_, t, l, b, r) ((AttrSet){ A_##id_, { .pads = { (t), (l), (b), (r) } } })

/* Appends values to `order`. New values take scope and origin from `like` (with `by` as the maker), or from at/scope.
 */
typedef struct Builder {
    Graph      *g;
    Diag       *d;
    const char *by;
    const char *scope;
    Loc         at;
    ValueId     like; /* VALUE_NONE: at and scope */
    bool        backward;
} Builder;

/* Infers the type; VALUE_NONE: reported through b->d. The variadic tail of the macro are AttrSets. */
ValueId ir_emit_(Builder *b, OpCode op, const ValueId *in, int32_t n_in, const AttrSet *attrs, int32_t n_attrs);
#define IR_IN(...) (const ValueId[]){ __VA_ARGS__ }, (int32_t)(sizeof((ValueId[]){ __VA_ARGS__ }) / sizeof(ValueId))
#define IR_INS(in, n) in, n /* the same of an array */
#define ir_emit(b, op, ins, ...)                                                                                       \
    ir_emit_((b), (op), ins, (const AttrSet[]){ { ATTR_COUNT, { 0 } }, ##__VA_ARGS__ } + 1,                            \
             (int32_t)(sizeof((const AttrSet[]){ { ATTR_COUNT, { 0 } }, ##__VA_ARGS__ }) / sizeof(AttrSet)) - 1)
/* Leaves. The name must be new in the graph (asserted: the frontend makes names unique or reports). */
ValueId ir_leaf(Builder *b, OpCode op, const char *name, Type type, const AttrSet *attrs, int32_t n_attrs);
ValueId ir_const(Builder *b, float value); /* f32 scalar */
ValueId ir_output(Builder *b, ValueId v, const char *name);
void    ir_assign(Builder *b, ValueId leaf, ValueId v);

/* A pass that rewrites walks the old order and makes the new one:
 *   Rewriter r = ir_rewrite_begin(g, d, "simplify");
 *   for (each id of r.old) { ... ir_keep(&r, id) or ir_replace(&r, id, new) ... }
 *   return ir_rewrite_end(&r);
 * ir_keep appends id with its inputs mapped; ir_replace maps later uses of id, kept or not, to `to` and hands id's
 * origins on; values that are neither kept nor replaced vanish (asserted unused). r.b emits new values in place. */
typedef struct Rewriter {
    Builder  b;
    ValueId *old;
    int32_t  n_old;
    ValueId *map;
    int32_t  n_map;
    bool     changed;
} Rewriter;
Rewriter ir_rewrite_begin(Graph *g, Arena *scratch, Diag *d, const char *by);
void     ir_keep(Rewriter *r, ValueId id);
void     ir_replace(Rewriter *r, ValueId id, ValueId to);
void     ir_map_inputs(Rewriter *r, ValueId id); /* for a look at the new inputs before ir_keep or ir_replace */
ValueId  ir_mapped(const Rewriter *r, ValueId id);
bool     ir_rewrite_end(Rewriter *r);
/* Copies a value (op, inputs, attributes, origins) to the end of the order, with new inputs. */
ValueId ir_copy(Builder *b, ValueId id, const ValueId *in);

/* Uses: users[first[id] .. first[id + 1]) are the values that read id, in order. */
typedef struct Uses {
    int32_t *first;
    ValueId *users;
} Uses;
Uses    ir_uses(Arena *a, const Graph *g);
int32_t ir_use_count(const Uses *u, ValueId id);

/* ---- Gradients (used by the autodiff pass; rules in ir/grad.c) ------------------------------------------------- */

struct GradCtx {
    Builder *b;                                        /* emits with like = the value differentiated */
    void (*add)(GradCtx *c, ValueId input, ValueId g); /* input: the value read, g: its gradient, of its type */
    bool (*wants)(GradCtx *c, ValueId input);          /* false: nothing trained lies behind this input */
    bool batch_in_n;                                   /* LSQ: N of an activation's step size counts the batch, too */
};

/* ---- Bodies (used by lowering and by tests; rules in ir/body.c) ------------------------------------------------ */

/* A logical coordinate: affine in the axes, plus an i32 computed in the body (KVAL_NONE: nothing). */
typedef struct Coord {
    Affine at;
    KVal   dyn;
} Coord;

struct BodyCtx {
    KBuilder    *b;
    const Graph *g;
    ValueId      v;
    const Coord *out;  /* NEST: the logical coordinates of the output element (rank of v) */
    Affine       flat; /* logical flat index of the output element when it is affine (RANDOM) */
    void        *user;
    KVal (*index)(BodyCtx *c); /* ... and when it is not: as an i32; NULL: it is */
    /* NEST: element `at` (one Coord a dimension of input i) of input i; 0 where guard (KVAL_NONE: always) is false. */
    KVal (*load)(BodyCtx *c, int32_t i, const Coord *at, KVal guard);
    /* a new seq axis for a loop */
    int32_t (*axis)(BodyCtx *c, const char *name, int64_t extent);
    KVal *sums; /* FOLD: the body makes accumulators and puts them here, in the order of the taps */
};

/* ---- Text, checks, diff ---------------------------------------------------------------------------------------- */

/* After lower, the kernels follow the graph in the text. Never fails: broken IR prints as "<bad %17>". */
void   ir_print(Str *out, const Graph *g);
void   ir_print_scope(Str *out, const Graph *g, const char *glob); /* only values under a DSL scope */
void   ir_show(const Graph *g);                                    /* to stderr; for debuggers: (gdb) call ir_show(g) */
Graph *ir_parse(Arena *a, Diag *d, const char *file, const char *text); /* NULL: reported with file and line */

/* Phases: which rules hold. */
typedef enum Phase {
    PHASE_FRONTEND,  /* float network with composites and a loss */
    PHASE_STEP,      /* after autodiff and optimizer: effects allowed */
    PHASE_PRIMITIVE, /* no composites, no views left unresolved */
    PHASE_LAYOUT,    /* each rank-4 value has its layout */
    PHASE_FUSED,     /* each non-leaf value in a group; groups contiguous, convex */
    PHASE_PLANNED,   /* each stored value has a place; no two live ones overlap */
    PHASE_LOWERED    /* each group has a kernel or is a call */
} Phase;
const char *phase_name(Phase p);
/* Message = rule, values, locations. False: reported. */
bool ir_verify(const Graph *g, Phase phase, Diag *d);
/* Line diff of two texts in unified form (3 lines of context); "" when equal. */
void    text_diff(Str *out, const char *old_name, const char *old_text, const char *new_name, const char *new_text);
Hash128 ir_hash(const Graph *g);

/* Is there a penalty of this form (body_penalty.c)? */
bool ir_is_penalty(const char *form);
/* What LSQ takes the gradient of a step times: n elements share it (grad_quant.c). */
double ir_lsq_scale(int64_t bits, int64_t hi, double n);

/* docs/ops.md from the tables. */
void ir_ops_doc(Str *out);

#endif
