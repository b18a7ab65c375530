/* ops.c: the tables of the kernel IR - opcodes, scalar types - and the one function that knows the typing rules.
 *
 * Builder, parser and verifier all ask kernel_infer(), so a rule is written once.
 *
 * Tested by tests/unit/test_kernel_ir.c (typing mistakes planted in text). */
#include "ir/kernel/kernel_priv.h"

const KOpInfo k_ops[K_COUNT] = {
#define X(id, text, args, rule) [K_##id] = { text, args, rule },
    K_OPS(X)
#undef X
};

const char *const ktype_names[KT_BOOL + 1] = {
    [KT_NONE] = "none", [KT_F32] = "f32", [KT_I32] = "i32", [KT_U32] = "u32", [KT_BOOL] = "bool",
};
const char *const kacc_names[KACC_MAX + 1] = { [KACC_SUM] = "sum", [KACC_MIN] = "min", [KACC_MAX] = "max" };
const char *const kaxis_names[AXIS_SEQ + 1] = { [AXIS_PAR] = "par", [AXIS_RED] = "red", [AXIS_SEQ] = "seq" };
const char *const kbuf_names[BUF_INOUT + 1] = { [BUF_IN] = "in", [BUF_OUT] = "out", [BUF_INOUT] = "inout" };

KType             kernel_elem_type(DType t)
{
    switch (t) {
    case DTYPE_F32:
        return KT_F32;
    case DTYPE_U32:
        return KT_U32;
    case DTYPE_B1:
        return KT_BOOL;
    default:
        return KT_I32;
    }
}

KInst kernel_inst(KOp op)
{
    KInst in = { .op = op, .buf = -1, .addr = affine_const(0), .dyn = KVAL_NONE, .guard = KVAL_NONE };
    for (int i = 0; i < KERNEL_MAX_ARGS; i++)
        in.arg[i] = KVAL_NONE;
    return in;
}

static KType arg_type(const Kernel *k, KVal v)
{
    return kernel_has_inst(k, v) ? k->insts.at[v].type : KT_NONE;
}

/* Bit sets of types, for the table below. */
enum {
    TY_F32 = 1 << KT_F32,
    TY_I32 = 1 << KT_I32,
    TY_U32 = 1 << KT_U32,
    TY_BOOL = 1 << KT_BOOL,
    TY_NUM = TY_F32 | TY_I32 | TY_U32
};

/* What a rule asks of all arguments, and its result (KT_NONE: the arguments' type). Rules that are not here are written
 * out in kernel_infer. */
typedef struct Rule {
    uint32_t    args;
    KType       result;
    const char *why;
} Rule;

/* clang-format off */
static const Rule rules[KR_LOAD + 1] = {
    [KR_F32]  = { TY_F32,                    KT_F32,  "takes f32" },
    [KR_U32]  = { TY_U32,                    KT_U32,  "takes u32" },
    [KR_S]    = { TY_NUM,                    KT_NONE, "takes f32, i32 or u32, all alike" },
    [KR_INT]  = { TY_I32 | TY_U32,           KT_NONE, "takes i32 or u32, both alike" },
    [KR_CMP]  = { TY_NUM,                    KT_BOOL, "takes f32, i32 or u32, both alike" },
    [KR_BITS] = { TY_I32 | TY_U32 | TY_BOOL, KT_NONE, "takes bool, i32 or u32, both alike" },
    [KR_SAME] = { TY_F32 | TY_I32,           KT_NONE, "takes f32 or i32" },
};
/* clang-format on */

static KType infer_imm(const Kernel *k, const KInst *in, const char **why)
{
    if (in->type <= KT_NONE || in->type > KT_BOOL) {
        *why = "has no type";
        return KT_NONE;
    }
    if (in->op == K_CONST)
        return in->type;
    KType from = arg_type(k, in->arg[0]);
    if (from == KT_NONE)
        *why = "takes a value";
    else if (in->type == KT_BOOL)
        *why = "gives no bool; compare with ne";
    else if (in->type == from)
        *why = "names the type that the value has already";
    else if (in->op == K_BITCAST && from == KT_BOOL)
        *why = "takes 32-bit values";
    return *why ? KT_NONE : in->type;
}

static KType infer_select(const Kernel *k, const KInst *in, const char **why)
{
    KType then = arg_type(k, in->arg[1]);
    if (arg_type(k, in->arg[0]) != KT_BOOL)
        *why = "takes a bool first";
    else if (then == KT_NONE || then != arg_type(k, in->arg[2]))
        *why = "takes two values of one type";
    return *why ? KT_NONE : then;
}

/* Loads and stores: buffer, dyn, guard, and the value's type. */
static KType infer_memory(const Kernel *k, const KInst *in, const char **why)
{
    if (in->buf < 0 || in->buf >= k->bufs.len) {
        *why = "names no buffer";
        return KT_NONE;
    }
    KType elem = kernel_elem_type(k->bufs.at[in->buf].dtype);
    if (in->dyn != KVAL_NONE && arg_type(k, in->dyn) != KT_I32)
        *why = "takes an i32 in its address";
    else if (in->guard != KVAL_NONE && arg_type(k, in->guard) != KT_BOOL)
        *why = "takes a bool as guard";
    else if (in->op == K_STORE && arg_type(k, in->arg[0]) != elem)
        *why = "stores a value of another type than its buffer takes";
    return *why || in->op == K_STORE ? KT_NONE : elem;
}

KType kernel_infer(const Kernel *k, const KInst *in, const char **why)
{
    *why = NULL;
    switch (in->op) {
    case K_LOOP:
        return KT_NONE;
    case K_INDEX:
        return KT_I32;
    case K_SEGF:
        return KT_F32;
    case K_LOAD:
    case K_STORE:
        return infer_memory(k, in, why);
    case K_SELECT:
        return infer_select(k, in, why);
    case K_CONST:
    case K_CVT:
    case K_BITCAST:
        return infer_imm(k, in, why);
    default:
        break;
    }
    const Rule *rule = &rules[k_ops[in->op].rule];
    KType       first = arg_type(k, in->arg[0]);
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++) {
        KType t = arg_type(k, in->arg[i]);
        if (!(rule->args & (1u << t)) || t != first) {
            *why = rule->why;
            return KT_NONE;
        }
    }
    return rule->result != KT_NONE ? rule->result : first;
}
