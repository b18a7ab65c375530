/* code.h: what the parser makes of a kernel and run_*.c executes: instructions over registers.
 *
 * A register (a "slot") is an array with one 32-bit word for each lane, a lane being a thread of the block; two
 * neighbouring slots hold 64-bit values. Slots >= 0 are variables, temporaries and masks (0 or ~0 a lane), negative
 * ones are constants and the built-in variables, filled before a block starts.
 *
 * Arithmetic is done for all lanes, active or not: a result of an inactive lane is never looked at, because variables
 * are changed by `set` alone, which obeys the mask. Memory, barriers, shuffles and integer divisions obey it, too.
 *
 * Tested by tests/unit/test_sim.c. */
#ifndef DETENT_SIM_CODE_H
#define DETENT_SIM_CODE_H

#include "base/base.h"

// clang-format off
/* Every op NAME is a function op_NAME(run, inst): d[] results, a b c operands. i: 32-bit, u: unsigned, l: 64-bit. */
#define SIM_OPS(X)                                                                                                     \
    /* flow (run.c); d[], a: masks, target: where to go when no lane is left */                                        \
    X(if) X(else) X(join) X(loop) X(test) X(leave) X(rejoin) X(back) X(endloop) X(skip) X(exit) X(end)                 \
    /* float (run_float.c) */                                                                                          \
    X(fadd) X(fsub) X(fmul) X(fdiv) X(fma) X(fmin) X(fmax) X(fneg) X(fabs) X(frint) X(ffloor) X(fceil) X(ftrunc)       \
    X(fsqrt) X(flt) X(fle) X(feq) X(fne) X(fbool) X(f2i) X(f2u) X(f2i_rn) X(f2u_rn) X(f2l) X(f2ul)                     \
    X(i2f) X(u2f) X(l2f) X(ul2f)                                                                                       \
    /* 32-bit integers (run_int.c) */                                                                                  \
    X(iadd) X(isub) X(imul) X(iand) X(ior) X(ixor) X(ineg) X(inot) X(ishl) X(ishr) X(ushr) X(ishlc) X(ishrc) X(ushrc)  \
    X(ilt) X(ile) X(ult) X(ule) X(ieq) X(ine) X(imin) X(imax) X(umin) X(umax) X(iabs) X(imulhi) X(umulhi)              \
    X(popc) X(clz) X(ffs) X(brev) X(dp4a_s) X(dp4a_u) X(byteperm) X(idiv) X(irem) X(udiv) X(urem) X(ibool) X(lnot)     \
    X(ext_s8) X(ext_u8) X(ext_s16) X(ext_u16) X(select) X(mov) X(set) X(undef) X(def) X(need)                          \
    /* 64-bit integers and pointers (run_long.c) */                                                                    \
    X(i2l) X(u2l) X(l2i) X(ladd) X(lsub) X(lmul) X(land) X(lor) X(lxor) X(lneg) X(linv) X(lshl) X(lshr) X(ulshr)       \
    X(llt) X(lle) X(ullt) X(ulle) X(leq) X(lne) X(lmin) X(lmax) X(ulmin) X(ulmax) X(ldiv) X(lrem) X(uldiv) X(ulrem)    \
    X(umulhi64) X(lbool) X(select64) X(mov64) X(set64) X(lea)                                                          \
    /* memory (run_memory.c) */                                                                                        \
    X(load) X(store) X(atomic)                                                                                         \
    /* threads together (run_warp.c) */                                                                                \
    X(barrier) X(syncwarp) X(fence) X(shfl) X(shfl_up) X(shfl_down) X(shfl_xor) X(shfl64) X(shfl64_up) X(shfl64_down)  \
    X(shfl64_xor) X(ballot) X(any) X(all)
// clang-format on

typedef enum SimOp {
#define X(name) OP_##name,
    SIM_OPS(X)
#undef X
        OP_COUNT
} SimOp;

/*      id    text            bytes  signed */
#define SIM_BASES(X)                                                                                                   \
    X(VOID, "void", 0, 0)                                                                                              \
    X(BOOL, "bool", 1, 0)                                                                                              \
    X(S8, "signed char", 1, 1)                                                                                         \
    X(U8, "unsigned char", 1, 0)                                                                                       \
    X(S16, "short", 2, 1)                                                                                              \
    X(U16, "unsigned short", 2, 0)                                                                                     \
    X(I32, "int", 4, 1)                                                                                                \
    X(U32, "unsigned", 4, 0)                                                                                           \
    X(F32, "float", 4, 1)                                                                                              \
    X(I64, "long long", 8, 1)                                                                                          \
    X(U64, "unsigned long long", 8, 0)

/* Types of scalars. In a register the small ones are widened to 32 bits, bool is 0 or 1. */
typedef enum SimBase {
#define X(id, text, bytes, is_signed) T_##id,
    SIM_BASES(X)
#undef X
        T_COUNT
} SimBase;
extern const int32_t     sim_base_bytes[T_COUNT];
extern const char *const sim_base_names[T_COUNT];

/* Inst.d[1] of an `atomic`. */
typedef enum AtomicOp {
    ATOMIC_ADD,
    ATOMIC_SUB,
    ATOMIC_MIN,
    ATOMIC_MAX,
    ATOMIC_AND,
    ATOMIC_OR,
    ATOMIC_XOR,
    ATOMIC_EXCH,
    ATOMIC_INC
} AtomicOp;

/* How the index of an address is to be read. */
typedef enum IndexKind { INDEX_NONE, INDEX_I32, INDEX_U32, INDEX_I64 } IndexKind;

enum { SLOT_NONE = INT32_MIN, REGION_NONE = -1 };
/* Registers above the kernel's own, for run_*.c; 64-bit ones take two. */
enum {
    EXTRA_MASK,
    EXTRA_GONE,
    EXTRA_LEFT,
    EXTRA_SOME,
    EXTRA_ADDR,
    EXTRA_FULL = EXTRA_ADDR + 2,
    EXTRA_COUNT = EXTRA_FULL + 2
};
/* Built-in variables; constants come below. */
enum { SLOT_THREAD = -1, SLOT_BLOCK = -2, SLOT_BLOCK_DIM = -3, SLOT_GRID_DIM = -4, SLOT_FIRST_CONST = -5 };

typedef struct Inst {
    uint16_t  op;
    uint8_t   base; /* memory: type of each component there (SimBase) */
    uint8_t   n;    /* memory: components; need, def: registers */
    IndexKind index;
    int32_t   d[4];    /* results; of a store the values */
    int32_t   a, b, c; /* memory: a: 64-bit base or SLOT_NONE; b: index or SLOT_NONE; atomic: c: the value */
    int32_t   region;  /* memory: what the address is relative to; REGION_NONE: `a` says so */
    int32_t   target;
    int32_t   token; /* where in the text */
    int64_t   imm;   /* memory: bytes added; shifts by a constant: the count */
    int64_t   scale; /* memory: bytes of one step of the index */
} Inst;

/* What a pointer can point into. */
typedef enum RegionKind { REGION_ARG, REGION_SHARED, REGION_TABLE, REGION_LOCAL } RegionKind;
typedef struct Region {
    RegionKind  kind;
    const char *name;
    int64_t     bytes;   /* ARG: known at launch */
    int32_t     granule; /* bytes that are watched together for races: no thread writes less */
    int32_t     align;   /* SHARED, TABLE: what its type or __align__ promises */
    int32_t     offset;  /* SHARED: from the start of shared memory */
    const void *data;    /* TABLE */
    /* LOCAL: registers, one (for 8-byte units two) a unit of `unit` bytes; those at `def` say which were set. */
    int32_t slot, unit, def;
    SimBase base;
} Region;

/* Pointers in registers: tag, the region's index + 1, above bit 48; below it the offset plus a bias, so that a pointer
 * before the start of its region keeps its tag. */
enum { POINTER_TAG_BIT = 48 };
#define POINTER_BIAS (INT64_C(1) << 47)
static inline int64_t pointer_origin(int32_t region)
{
    return ((int64_t)(region + 1) << POINTER_TAG_BIT) + POINTER_BIAS;
}

typedef struct Constant {
    uint64_t bits;
    int32_t  slot;
    bool     wide;
} Constant;

typedef struct SimKernel {
    const char *name;
    int32_t     n_params, launch_bound; /* 0: none */
    int32_t     shared_bytes, slots, low_slot;
    bool        fences; /* it has some */
    VEC(Inst) code;
    VEC(Region) regions; /* the parameters come first */
    VEC(Constant) consts;
} SimKernel;

#endif
