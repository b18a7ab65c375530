/* print_value.c: names, constants, and one expression an opcode. A new opcode is a row of `forms`.
 *
 * Constants are exact: decimals where the decimal is the number itself, else hexadecimal digits with the decimal
 * beside.
 *
 * Tested by tests/unit/test_cuda.c. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/cuda/print.h"

/* ---- Names ------------------------------------------------------------------------------------------------------ */

/* What a name from a kernel must not be: words of the language and what the text uses itself. */
static const char *const reserved[] = {
    "alignas", "alignof", "and", "asm", "auto", "bool", "break", "case", "catch", "char", "class", "const", "constexpr",
    "continue", "decltype", "default", "delete", "do", "double", "else", "enum", "explicit", "export", "extern",
    "false", "final", "float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new",
    "noexcept", "not", "nullptr", "operator", "or", "override", "private", "protected", "public", "register",
    "requires", "restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "template", "this",
    "throw", "true", "try", "typedef", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "wchar_t", "while", "xor",
    /* functions and types of CUDA */
    "abs", "atomicAdd", "ceil", "ceilf", "exp", "expf", "fabs", "fabsf", "floor", "floorf", "fma", "fmaf", "isnan",
    "log", "logf", "main", "max", "min", "pow", "rint", "rintf", "round", "sqrt", "sqrtf", "trunc", "char4", "float2",
    "float4", "int2", "int4", "uchar4", "uint2", "uint4", "size_t", "threadIdx", "blockIdx", "blockDim", "gridDim",
    "warpSize",
    /* variables of the text */
    "arrived", "at", "block", "chunk", "column", "count", "e", "end", "first", "j", "lane", "on", "parts", "partial",
    "point", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "r", "rest", "row", "scratch", "slot", "thread", "tickets",
    "tile"
};

/* v12, sum3, min3, max3: values; same1: what all neighbours store. */
static bool is_value_name(const char *name)
{
    size_t letters = strcspn(name, "0123456789");
    bool   known = (letters == 1 && name[0] == 'v') || (letters == 4 && !strncmp(name, "same", 4)) ||
                 (letters == 3 && (!strncmp(name, "sum", 3) || !strncmp(name, "min", 3) || !strncmp(name, "max", 3)));
    return known && name[letters] != 0 && strspn(name + letters, "0123456789") == strlen(name + letters);
}

static bool is_reserved(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(reserved); i++)
        if (str_eq(reserved[i], name))
            return true;
    return is_value_name(name) || prelude_is_name(name) || strncmp(name, "__", 2) == 0;
}

const char *name_new(Printer *p, const char *wish)
{
    char *name = arena_strdup(p->a, wish);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '_';
    while (is_reserved(name) || strmap_get(&p->taken, name) >= 0)
        name = arena_printf(p->a, "%s_", name);
    strmap_put(&p->taken, name, 1);
    return name;
}

const char *ctype_of(KType t)
{
    static const char *const names[] = {
        [KT_F32] = "float", [KT_I32] = "int", [KT_U32] = "unsigned", [KT_BOOL] = "bool"
    };
    return names[t];
}

const char *ctype_of_dtype(DType t)
{
    return t == DTYPE_F32   ? "float"
           : t == DTYPE_I32 ? "int"
           : t == DTYPE_U32 ? "unsigned"
           : t == DTYPE_S8  ? "signed char"
                            : "unsigned char";
}

/* ---- Constants -------------------------------------------------------------------------------------------------- */

/* frexp's digits in hexadecimal, as %a has them, whatever the C library. */
static const char *hex_of(Arena *a, float f)
{
    int      exponent;
    uint32_t digits = (uint32_t)ldexpf(frexpf(fabsf(f), &exponent), 24);
    char    *fraction = arena_printf(a, "%06x", (digits & 0x7fffff) << 1); /* after the leading 1 */
    for (size_t n = strlen(fraction); n > 0 && fraction[n - 1] == '0'; n--)
        fraction[n - 1] = 0;
    return arena_printf(a, "%s0x1%s%sp%df", signbit(f) ? "-" : "", fraction[0] ? "." : "", fraction, exponent - 1);
}

static const char *literal_f32(Arena *a, float f)
{
    Str decimal = str_new(a);
    str_add_f32(&decimal, f);
    if (!isfinite(f)) {
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        return arena_printf(a, "__int_as_float(0x%08x) /* %s */", bits, decimal.s);
    }
    if (strtod(decimal.s, NULL) == (double)f && fabsf(f) < 1e9f)
        return arena_printf(a, "%s%sf", decimal.s, strpbrk(decimal.s, ".e") ? "" : ".0");
    return arena_printf(a, "%s /* %s */", hex_of(a, f), decimal.s);
}

const char *literal_of(Printer *p, const KInst *in)
{
    switch (in->type) {
    case KT_F32:
        return literal_f32(p->a, in->imm.f);
    case KT_U32:
        return arena_printf(p->a, "%uu", in->imm.u);
    case KT_BOOL:
        return in->imm.i ? "true" : "false";
    default:
        if (in->imm.i == INT32_MIN)
            return "(-2147483647 - 1)";
        return arena_printf(p->a, "%d", in->imm.i);
    }
}

/* ---- Values ----------------------------------------------------------------------------------------------------- */

const char *total_name(Printer *p, KVal acc)
{
    static const char *const kinds[] = { [KACC_SUM] = "sum", [KACC_MIN] = "min", [KACC_MAX] = "max" };
    return arena_printf(p->a, "%s%d", kinds[p->k->insts.at[acc].imm.i], p->number[acc]);
}

const char *name_of(Printer *p, KVal v)
{
    return kop_accumulates(p->k->insts.at[v].op) ? total_name(p, v) : arena_printf(p->a, "v%d", p->number[v]);
}

const char *value_of(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    if (in->op == K_CONST)
        return literal_of(p, in);
    if (in->op == K_SEGF)
        return p->float_fixed[in->imm.i] ? literal_f32(p->a, p->k->seg.floats[in->imm.i]) : p->float_names[in->imm.i];
    return p->is_array[v] ? arena_printf(p->a, "%s[j]", name_of(p, v)) : name_of(p, v);
}

/* ---- Expressions ------------------------------------------------------------------------------------------------ */

/* By opcode and the type of the first argument; $0 $1 $2 are the arguments. */
/* clang-format off */
#define SAME3(form) { [KT_F32] = form, [KT_I32] = form, [KT_U32] = form }
#define BITS(form, bools) { [KT_I32] = form, [KT_U32] = form, [KT_BOOL] = bools }
static const char *const forms[K_COUNT][KT_BOOL + 1] = {
    [K_ADD] = { [KT_F32] = "$0 + $1", [KT_I32] = "add_i32($0, $1)", [KT_U32] = "$0 + $1" },
    [K_SUB] = { [KT_F32] = "$0 - $1", [KT_I32] = "sub_i32($0, $1)", [KT_U32] = "$0 - $1" },
    [K_MUL] = { [KT_F32] = "$0 * $1", [KT_I32] = "mul_i32($0, $1)", [KT_U32] = "$0 * $1" },
    [K_DIV] = { [KT_F32] = "$0 / $1", [KT_I32] = "div_i32($0, $1)", [KT_U32] = "div_u32($0, $1)" },
    [K_REM] = { [KT_I32] = "rem_i32($0, $1)", [KT_U32] = "rem_u32($0, $1)" },
    [K_FMA] = { [KT_F32] = "fmaf($0, $1, $2)" },
    [K_MIN] = { [KT_F32] = "min_f32($0, $1)", [KT_I32] = "min($0, $1)", [KT_U32] = "min($0, $1)" },
    [K_MAX] = { [KT_F32] = "max_f32($0, $1)", [KT_I32] = "max($0, $1)", [KT_U32] = "max($0, $1)" },
    [K_NEG] = { [KT_F32] = "-$0", [KT_I32] = "neg_i32($0)", [KT_U32] = "0u - $0" },
    [K_ABS] = { [KT_F32] = "fabsf($0)" },
    [K_RINT] = { [KT_F32] = "rintf($0)" },
    [K_FLOOR] = { [KT_F32] = "floorf($0)" },
    [K_SQRT] = { [KT_F32] = "sqrtf($0)" },
    [K_LT] = SAME3("$0 < $1"), [K_LE] = SAME3("$0 <= $1"), [K_GT] = SAME3("$0 > $1"), [K_GE] = SAME3("$0 >= $1"),
    [K_EQ] = SAME3("$0 == $1"), [K_NE] = SAME3("$0 != $1"),
    [K_AND] = BITS("$0 & $1", "$0 && $1"),
    [K_OR] = BITS("$0 | $1", "$0 || $1"),
    [K_XOR] = BITS("$0 ^ $1", "$0 != $1"),
    [K_NOT] = BITS("~$0", "!$0"),
    [K_SHL] = { [KT_I32] = "shl_i32($0, $1)", [KT_U32] = "$0 << ($1 & 31u)" },
    [K_SHR] = { [KT_I32] = "$0 >> ($1 & 31)", [KT_U32] = "$0 >> ($1 & 31u)" },
    [K_SELECT] = { [KT_BOOL] = "$0 ? $1 : $2" },
    [K_PHILOX] = { [KT_U32] = "philox($0, $1, $2, $3, $4)" },
};
/* cvt and bitcast, by the type converted from and the one converted to */
static const char *const cvts[KT_BOOL + 1][KT_BOOL + 1] = {
    [KT_F32]  = { [KT_I32] = "__float2int_rz($0)", [KT_U32] = "__float2uint_rz($0)" },
    [KT_I32]  = { [KT_F32] = "__int2float_rn($0)", [KT_U32] = "(unsigned)$0" },
    [KT_U32]  = { [KT_F32] = "__uint2float_rn($0)", [KT_I32] = "(int)$0" },
    [KT_BOOL] = { [KT_F32] = "$0 ? 1.0f : 0.0f", [KT_I32] = "$0 ? 1 : 0", [KT_U32] = "$0 ? 1u : 0u" },
};
static const char *const bitcasts[KT_BOOL + 1][KT_BOOL + 1] = {
    [KT_F32]  = { [KT_I32] = "__float_as_int($0)", [KT_U32] = "__float_as_uint($0)" },
    [KT_I32]  = { [KT_F32] = "__int_as_float($0)", [KT_U32] = "(unsigned)$0" },
    [KT_U32]  = { [KT_F32] = "__uint_as_float($0)", [KT_I32] = "(int)$0" },
};
/* x (+) y of accumulators and what they begin with */
static const char *const combines[KACC_MAX + 1][KT_BOOL + 1] = {
    [KACC_SUM] = { [KT_F32] = "$0 + $1", [KT_I32] = "add_i32($0, $1)" },
    [KACC_MIN] = { [KT_F32] = "min_f32($0, $1)", [KT_I32] = "min($0, $1)" },
    [KACC_MAX] = { [KT_F32] = "max_f32($0, $1)", [KT_I32] = "max($0, $1)" },
};
static const char *const identities[KACC_MAX + 1][KT_BOOL + 1] = {
    [KACC_SUM] = { [KT_F32] = "0.0f", [KT_I32] = "0" },
    [KACC_MIN] = { [KT_F32] = "__int_as_float(0x7f800000) /* inf */", [KT_I32] = "2147483647" },
    [KACC_MAX] = { [KT_F32] = "__int_as_float(0xff800000) /* -inf */", [KT_I32] = "(-2147483647 - 1)" },
};
/* clang-format on */

/* The form with its arguments; what it calls of the prelude is noted. */
static const char *fill(Printer *p, const char *form, const char *const *args)
{
    Str out = str_new(p->a);
    for (const char *c = form; *c; c++) {
        if (*c == '$')
            str_add(&out, args[*++c - '0']);
        else
            str_addn(&out, c, 1);
    }
    const char *call = arena_strndup(p->a, form, strcspn(form, "("));
    if (prelude_is_name(call))
        prelude_use(p->prelude, call);
    return out.s;
}

const char *expression_of(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    const char  *args[KERNEL_MAX_ARGS] = { NULL };
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++)
        args[i] = value_of(p, in->arg[i]);
    KType        from = p->k->insts.at[in->arg[0]].type;
    const KInst *count = &p->k->insts.at[in->arg[1] >= 0 ? in->arg[1] : in->arg[0]];
    const char  *form = in->op == K_CVT       ? cvts[from][in->type]
                        : in->op == K_BITCAST ? bitcasts[from][in->type]
                                              : forms[in->op][from];
    DT_ASSERT(form, "kernel %s: no text for %s", p->k->name, k_ops[in->op].text);
    if (in->op == K_NEG && in->type == KT_F32 && args[0][0] == '-')
        form = "-($0)"; /* of a constant; two signs would be one operator */
    if (in->op == K_SHR && count->op == K_CONST && count->imm.u < 32)
        form = "$0 >> $1";
    return fill(p, form, args);
}

const char *identity_of(const KInst *acc)
{
    return identities[acc->imm.i][acc->type];
}

const char *combine_of(Printer *p, const KInst *acc, const char *x, const char *y)
{
    return fill(p, combines[acc->imm.i][acc->type], (const char *[]){ x, y });
}
