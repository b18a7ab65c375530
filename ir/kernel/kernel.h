/* kernel.h: the kernel IR. One kernel is a nest of axes over flat buffers and a scalar SSA body.
 *
 * Meaning and schedule are apart. Meaning: axes, body, chunks, lanes, segments. Schedule (vector width, unrolling,
 * threads, streaming stores) belongs to a backend and never changes a bit. Three consumers read the same form: the
 * interpreter (interp.c, the oracle), the LLVM builder (codegen/llvm) and the CUDA printer.
 *
 * Arithmetic is IEEE single precision, round to nearest even, denormals kept; `fma` exactly where it is written.
 * `exp` and `log` are fixed polynomials over the other opcodes (expand.c), so they too have one answer everywhere.
 *
 * A kernel in its text form (print.c, parse.c; the two are inverse):
 *
 *   kernel @bn_stats "s1.b0.bn1 statistics" loc("resnet20.c":14) {
 *     axis p = 131072 red
 *     axis c = 16 par vec
 *     buf x : f32[2097152] in
 *     buf mean : f32[16] out
 *     reduce chunks 64 lanes 4
 *     body {
 *       %0 = load x[16*p + c]
 *       %1 = acc.sum %0
 *     }
 *     final {
 *       %2 = const.f32 0x1p-17
 *       %3 = mul %1, %2
 *       store mean[c], %3
 *     }
 *   }
 *
 * Order of execution, which the meaning depends on only where a kernel reads what it writes (softmax stages):
 * par axes in any order; for one par point, red points; for one point, the body from top to bottom.
 *
 * Tested by tests/unit/test_kernel.c (ten hand-written kernels, closed forms) and tests/unit/test_llvm.c. */
#ifndef DETENT_IR_KERNEL_H
#define DETENT_IR_KERNEL_H

#include "base/base.h"

typedef int32_t KVal; /* id of an instruction in its kernel = its value; -1: none */
#define KVAL_NONE (-1)

enum { KERNEL_MAX_AXES = 8, KERNEL_MAX_ARGS = 5 };

/* ---- Types of scalars in a body -------------------------------------------------------------------------------- */

/* Loads of u8 s8 u4 s4 u2 s2 give i32; of b1 give bool. Stores of i32 into them saturate. */
typedef enum KType { KT_NONE, KT_F32, KT_I32, KT_U32, KT_BOOL } KType;

/* ---- Axes ------------------------------------------------------------------------------------------------------ */

/* par: points are independent. red: reduced by the accumulators at the top of the body; the red axes, in the order in
 * which they are declared, are flattened to one index r (last axis fastest). seq: walked by a `loop` instruction, in
 * increasing order. */
typedef enum AxisKind { AXIS_PAR, AXIS_RED, AXIS_SEQ } AxisKind;

typedef struct Axis {
    const char *name;
    int64_t     extent;  /* >= 0; ignored when seg_col >= 0 */
    int32_t     seg_col; /* >= 0: the extent is this integer column of the segment table */
    AxisKind    kind;
} Axis;

/* c0 + seg.int[seg_col] + sum coef[i] * axis i, in elements. */
typedef struct Affine {
    int64_t c0;
    int32_t seg_col; /* -1: none */
    int64_t coef[KERNEL_MAX_AXES];
} Affine;

static inline Affine affine_const(int64_t c0)
{
    return (Affine){ .c0 = c0, .seg_col = -1 };
}
static inline Affine affine_axis(int axis, int64_t coef)
{
    Affine a = { .seg_col = -1 };
    a.coef[axis] = coef;
    return a;
}
Affine affine_add(Affine a, Affine b);         /* at most one of them has a segment column */
Affine affine_scale(Affine a, int64_t factor); /* no segment column */

/* ---- Buffers --------------------------------------------------------------------------------------------------- */

typedef enum BufMode { BUF_IN, BUF_OUT, BUF_INOUT } BufMode;

/* Two buffers of one kernel never overlap, unless an in and an out buffer are the very same and every point stores
 * only to the element that it loads (an update in place): then the kernel says `inout` and has one buffer. */
typedef struct KBuf {
    const char *name;
    DType       dtype;
    int64_t     elems;
    BufMode     mode;
    bool        stream; /* schedule: stores should bypass the cache (set by liveness, never needed for meaning) */
} KBuf;

/* ---- Instructions ---------------------------------------------------------------------------------------------- */

/*    id      text      args  rule; S: f32, i32 or u32 (all arguments alike), result of the same type */
#define K_OPS(X)                                                                                                       \
    X(CONST, "const", 0, KR_IMM)  /* const.f32 0x1p-3, const.i32 -7, const.u32 9, const.bool 1 */                      \
    X(INDEX, "index", 0, KR_I32)  /* index 16*p + c: the affine form as i32 */                                         \
    X(SEGF, "segf", 0, KR_F32)    /* segf col: float column of the segment table */                                    \
    X(LOAD, "load", 0, KR_LOAD)   /* load b[affine + %dyn], guard %g: 0 where the guard is false (b is not read) */    \
    X(STORE, "store", 1, KR_NONE) /* store b[affine + %dyn], %v, guard %g */                                           \
    X(ADD, "add", 2, KR_S)                                                                                             \
    X(SUB, "sub", 2, KR_S)                                                                                             \
    X(MUL, "mul", 2, KR_S)   /* integers wrap */                                                                       \
    X(DIV, "div", 2, KR_S)   /* f32: correctly rounded; i32: floor; u32; a divisor 0 gives 0 for integers */           \
    X(REM, "rem", 2, KR_INT) /* i32: a - floor(a / b) * b, never negative for b > 0 */                                 \
    X(FMA, "fma", 3, KR_F32) /* one rounding */                                                                        \
    X(MIN, "min", 2, KR_S)   /* f32: a NaN gives the other operand; min(x, y) = x < y ? x : y otherwise */             \
    X(MAX, "max", 2, KR_S)   /* max(x, y) = x > y ? x : y otherwise (so max(-0, +0) is the second) */                  \
    X(NEG, "neg", 1, KR_S)                                                                                             \
    X(ABS, "abs", 1, KR_F32)                                                                                           \
    X(RINT, "rint", 1, KR_F32) /* half to even */                                                                      \
    X(FLOOR, "floor", 1, KR_F32)                                                                                       \
    X(SQRT, "sqrt", 1, KR_F32) /* correctly rounded */                                                                 \
    X(EXP, "exp", 1, KR_F32)   /* < 2 ulp; expanded before it is run */                                                \
    X(LOG, "log", 1, KR_F32)   /* < 2 ulp; expanded before it is run */                                                \
    X(LT, "lt", 2, KR_CMP)     /* comparisons with NaN are false (ne: true) */                                         \
    X(LE, "le", 2, KR_CMP)                                                                                             \
    X(GT, "gt", 2, KR_CMP)                                                                                             \
    X(GE, "ge", 2, KR_CMP)                                                                                             \
    X(EQ, "eq", 2, KR_CMP)                                                                                             \
    X(NE, "ne", 2, KR_CMP)                                                                                             \
    X(AND, "and", 2, KR_BITS) /* bool, u32 or i32 */                                                                   \
    X(OR, "or", 2, KR_BITS)                                                                                            \
    X(XOR, "xor", 2, KR_BITS)                                                                                          \
    X(NOT, "not", 1, KR_BITS)                                                                                          \
    X(SHL, "shl", 2, KR_INT)          /* by 0..31, taken modulo 32 */                                                  \
    X(SHR, "shr", 2, KR_INT)          /* u32: logical; i32: arithmetic */                                              \
    X(SELECT, "select", 3, KR_SELECT) /* select %bool, %a, %b */                                                       \
    X(CVT, "cvt", 1, KR_IMM)          /* cvt.i32 %f: toward zero, saturating, NaN is 0; i32<->u32 keep the bits; */    \
                                      /* to f32: nearest even; bool is 0 or 1 */                                       \
    X(BITCAST, "bitcast", 1, KR_IMM)  /* bitcast.u32 %f and back */                                                    \
    X(PHILOX, "philox", 5, KR_U32) /* philox %seed_lo, %seed_hi, %stream, %substream, %index (all u32): rng_u32() */   \
    X(ACC, "acc", 1, KR_SAME)      /* acc.sum|min|max %v: inside a loop, over the innermost loop; at the top of the */ \
                                   /* body, over the red axes. Its value is the total, seen after the loop, or in */   \
                                   /* `final`. Starts at 0, +inf, -inf (i32: 0, INT32_MAX, INT32_MIN). */              \
    X(DOT, "dot", 2, KR_F32)       /* dot %x, %y: acc.sum of x y, with one rounding each: total = fma(x, y, total) */  \
    X(LOOP, "loop", 0, KR_NONE)    /* loop c { ... }: the instructions of `region`, for each point of a seq axis */

typedef enum KOp {
#define X(id, text, args, rule) K_##id,
    K_OPS(X)
#undef X
        K_COUNT
} KOp;

typedef enum KRule {
    KR_NONE,
    KR_IMM,
    KR_F32,
    KR_I32,
    KR_U32,
    KR_S,
    KR_INT,
    KR_CMP,
    KR_BITS,
    KR_SELECT,
    KR_SAME,
    KR_LOAD
} KRule;

typedef struct KOpInfo {
    const char *text;
    int32_t     n_args;
    KRule       rule;
} KOpInfo;
extern const KOpInfo k_ops[K_COUNT];

/* Does it add up over the points of a loop, or of the red axes? */
static inline bool kop_accumulates(KOp op)
{
    return op == K_ACC || op == K_DOT;
}

typedef enum KAcc { KACC_SUM, KACC_MIN, KACC_MAX } KAcc;

typedef VEC(KVal) KRegion; /* instruction ids, in order */

typedef struct KInst {
    KOp   op;
    KType type;                 /* of the result; KT_NONE: no result */
    KVal  arg[KERNEL_MAX_ARGS]; /* STORE: arg[0] the value */
    union {
        float    f;
        int32_t  i;
        uint32_t u;
    } imm;          /* CONST (a bool in i), SEGF (column in i), LOOP (axis in i), ACC (KAcc in i; DOT: KACC_SUM) */
    int32_t buf;    /* LOAD, STORE */
    Affine  addr;   /* LOAD, STORE, INDEX */
    KVal    dyn;    /* LOAD, STORE: i32 added to the address; KVAL_NONE */
    KVal    guard;  /* LOAD, STORE: bool; KVAL_NONE: always */
    KRegion region; /* LOOP */
} KInst;

/* ---- Segments: one launch over many tensors -------------------------------------------------------------------- */

/* An outermost par axis over rows of a table. Integer columns are extents and base offsets; float columns are
 * scalars (clip limits, gradient scales). `rows` 0: the kernel has no segments. */
typedef struct SegTable {
    int32_t      rows, int_cols, float_cols;
    const char **int_names, **float_names;
    int64_t     *ints;   /* [rows][int_cols] */
    float       *floats; /* [rows][float_cols] */
} SegTable;

/* ---- Kernel ---------------------------------------------------------------------------------------------------- */

typedef struct Kernel {
    Arena      *arena;
    const char *name;  /* identifier */
    const char *title; /* for people: DSL names and what was fused; may be "" */
    const char *core;  /* NULL: nest. Else the named contraction ("conv", "gemm", "depthwise") that a backend may tile
                          as it likes: same meaning (integer sums are exact in any order) */
    Loc     loc;
    int32_t n_axes;
    Axis    axes[KERNEL_MAX_AXES];
    int32_t vec; /* axis walked by vector lanes, the one of stride 1; -1: none */
    VEC(KBuf) bufs;
    VEC(KInst) insts;
    KRegion body, final; /* final: once per par point, after all red points; loads there see body's stores */
    int64_t chunks; /* the flattened red index of extent R is cut in `chunks` runs of ceil(R / chunks) (last: rest) */
    int32_t lanes;  /* power of two. The order of a reduction, which every backend keeps: element number e of a run goes
                       to accumulator e % lanes, in increasing e; then for (s = lanes / 2; s > 0; s /= 2) a[i] = a[i] (+)
                       a[i + s] for i < s; then total = identity (+) run 0 (+) run 1 ... in increasing order. */
    SegTable seg;
} Kernel;

/* Sets chunks and lanes as functions of extents alone (never of threads or width):
 * lanes: no par axis is vec: 64; else by the extent C of the vec axis: C >= 64: 1, >= 32: 2, >= 16: 4, else 8.
 * chunks: clamp(ceil(R * C / 4096), 1, 512). Where a par axis is vec, runs have at least max(32, 4 n) elements, n the
 * number of accumulators, and with n > 8 lanes is 1. With segments `chunks` is decided for each row by the same rule.
 * And where there are several red axes a run is rounded up to whole lines of the innermost one, if it does not become
 * more than twice as long: so this comes before kernel_collapse(). */
void    kernel_choose_reduction(Kernel *k);
int64_t kernel_chunks(const Kernel *k, int32_t row); /* of one segment row; row 0 without segments */
int64_t kernel_extent(const Kernel *k, int32_t axis, int32_t row);
bool    kernel_has_reduction(const Kernel *k);           /* an `acc` at the top of the body */
int64_t kernel_red_extent(const Kernel *k, int32_t row); /* R */

/* ---- Building -------------------------------------------------------------------------------------------------- */

typedef struct KBuilder {
    Kernel  *k;
    KRegion *region; /* where instructions go */
    VEC(KRegion *) stack;
} KBuilder;

Kernel  *kernel_new(Arena *a, const char *name, const char *title);
int32_t  kernel_add_axis(Kernel *k, const char *name, int64_t extent, AxisKind kind);
int32_t  kernel_add_buf(Kernel *k, const char *name, DType dtype, int64_t elems, BufMode mode);
KBuilder kb_new(Kernel *k);     /* begins in the body */
void     kb_final(KBuilder *b); /* from here on: the final region */

/* Constants and pure instructions of the same form in the same region are made once (local CSE), except loads from a
 * buffer that the kernel also stores to. */
KVal kb_f32(KBuilder *b, float f);
KVal kb_i32(KBuilder *b, int32_t i);
KVal kb_u32(KBuilder *b, uint32_t u);
KVal kb_index(KBuilder *b, Affine a);
KVal kb_segf(KBuilder *b, int32_t col);
KVal kb_load(KBuilder *b, int32_t buf, Affine addr);
KVal kb_load_dyn(KBuilder *b, int32_t buf, Affine addr, KVal dyn, KVal guard); /* dyn, guard may be KVAL_NONE */
void kb_store(KBuilder *b, int32_t buf, Affine addr, KVal v);
void kb_store_dyn(KBuilder *b, int32_t buf, Affine addr, KVal dyn, KVal guard, KVal v);
KVal kb_op1(KBuilder *b, KOp op, KVal x);
KVal kb_op2(KBuilder *b, KOp op, KVal x, KVal y);
KVal kb_op3(KBuilder *b, KOp op, KVal x, KVal y, KVal z);
KVal kb_cvt(KBuilder *b, KType to, KVal x);
KVal kb_bitcast(KBuilder *b, KType to, KVal x);
KVal kb_philox(KBuilder *b, KVal seed_lo, KVal seed_hi, KVal stream, KVal substream, KVal index);
KVal kb_acc(KBuilder *b, KAcc how, KVal v);
KVal kb_dot(KBuilder *b, KVal x, KVal y);
void kb_loop(KBuilder *b, int32_t axis); /* opens; kb_end closes */
void kb_end(KBuilder *b);

/* ---- Transformations that keep the meaning --------------------------------------------------------------------- */

/* Replaces exp and log by their polynomials, drops what nobody uses. Both consumers run the result. */
Kernel *kernel_expand(Arena *a, const Kernel *k);
/* Merges neighbouring axes of one kind (n, h, w -> p) where every address lets it; drops axes of extent 1. */
void kernel_collapse(Kernel *k);
/* One kernel over `n` kernels that differ only in extents, address constants, constants and buffers' sizes:
 * buffer j of part i lies at element base[i * n_bufs + j] of the merged buffer j, whose size is elems[j].
 * NULL: they differ in more than that (`*why` says what). A part without a vec axis cannot be merged. */
Kernel *kernel_merge_segments(Arena *a, Kernel *const *parts, int32_t n, const int64_t *base, const int64_t *elems,
                              const char **why);
/* The same, where an `index` without axes stands for the place of a part among others: index[i] is added to it. */
Kernel *kernel_merge_placed(Arena *a, Kernel *const *parts, int32_t n, const int64_t *base, const int64_t *elems,
                            const int64_t *index, const char **why);

/* ---- Text, checks, cost ---------------------------------------------------------------------------------------- */

void kernel_print(Str *out, const Kernel *k);
/* `text` holds one kernel from *pos on; advances *pos. NULL: reported with file and line. */
Kernel *kernel_parse(Arena *a, Diag *d, const char *file, const char *text, size_t *pos);
/* Every rule of this header, each message with the instruction. False: reported. */
bool    kernel_verify(const Kernel *k, Diag *d);
Hash128 kernel_hash(const Kernel *k); /* of the text without name, title and loc: equal hashes, equal code */

typedef struct KCost {
    int64_t bytes_read, bytes_written; /* each element of a buffer that is touched counted once a launch */
    int64_t flops, transcendentals;
} KCost;
KCost kernel_cost(const Kernel *k);

/* ---- The oracle ------------------------------------------------------------------------------------------------ */

/* Runs the whole kernel, one scalar at a time. bufs[i] is the memory of buffer i. The order of reductions is stated in
 * interp.c. */
void kernel_interp(const Kernel *k, void *const *bufs);

/* Element i of memory of type t, for tests and tools. */
double elem_get(DType t, const void *mem, int64_t i);
void   elem_set(DType t, void *mem, int64_t i, double value); /* saturates */

#endif
