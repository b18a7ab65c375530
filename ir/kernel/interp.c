/* interp.c: the oracle. Runs a kernel one scalar at a time; what it computes is the meaning of the kernel.
 *
 * Order of reductions. For one par point the red axes, in the order in which they are declared (last fastest), give one
 * index r of 0..R-1. It is cut in `chunks` runs of n = ceil(R / chunks): run j holds r = j n .. min(R, (j + 1) n) - 1.
 * Element e of a run is combined into accumulator e % lanes, in increasing e. After the run
 *     for (s = lanes / 2; s > 0; s /= 2) for (i = 0; i < s; i++) a[i] = a[i] (+) a[i + s];
 * and a[0] is the run's value. The total is identity (+) run 0 (+) run 1 ... All accumulators begin at the identity, so
 * runs and lanes without elements change nothing. x (+) y is add, min or max of (x, y) in this order of operands. An
 * accumulator in a loop has no lanes: identity (+) v0 (+) v1 ... The body of all red points of a par point runs before
 * its final.
 *
 * Arithmetic where C leaves it open: i32 wraps; div is floor, and 0 for a divisor 0; rem x, 0 is x; min and max of f32
 * give the first operand when it is the lesser (greater) or the second is NaN, else the second.
 *
 * How it is quick: instructions become an array of calls with all registers, terms of addresses and bounds worked out
 * before; constants are set once. Nothing is allocated while points run. Every access is checked against its buffer.
 *
 * Tested by tests/unit/test_kernel.c, against closed forms and a second, naive reduction. */
#include <math.h>
#include <string.h>

#include "ir/kernel/kernel_priv.h"

typedef union Cell {
    float    f;
    int32_t  i; /* bool: 0 or 1 */
    uint32_t u;
} Cell;

typedef struct Machine Machine;
typedef struct Code    Code;
typedef void (*RunFn)(Machine *m, const Code *c);
typedef Cell (*CombineFn)(Cell x, Cell y);

typedef struct Term {
    int32_t axis;
    int64_t coef;
} Term;

/* One instruction, ready to run. Registers are numbered like values. */
struct Code {
    RunFn       run;
    const Code *next; /* of a loop: behind its body, which follows it */
    Cell       *dst, *arg[KERNEL_MAX_ARGS];
    Cell        imm;
    CombineFn   combine; /* acc */
    int32_t     slot;    /* acc at the top of the body: which one */
    int32_t     axis;    /* loop */
    uint8_t    *mem;     /* load, store */
    DType       dtype;
    int64_t     elems;
    int32_t     least, most; /* store into small integers: limits */
    Cell       *dyn, *guard; /* NULL: none */
    int64_t     c0;
    int32_t     seg_col, n_terms;
    Term        terms[KERNEL_MAX_AXES];
};

typedef struct Block {
    const Code *first, *end;
} Block;

/* An accumulator at the top of the body. */
typedef struct Total {
    Cell     *dst, identity, total;
    Cell     *lanes;
    CombineFn combine;
} Total;

struct Machine {
    const Kernel  *k;
    int64_t        at[KERNEL_MAX_AXES]; /* where each axis stands */
    int64_t        extent[KERNEL_MAX_AXES];
    const int64_t *seg_ints;
    const float   *seg_floats;
    int32_t        lane;
    Total         *totals;
    int32_t        n_totals;
};

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

static float min_f32(float x, float y)
{
    return x < y || isnan(y) ? x : y;
}
static float max_f32(float x, float y)
{
    return x > y || isnan(y) ? x : y;
}
static int32_t add_i32(int32_t x, int32_t y)
{
    return (int32_t)((uint32_t)x + (uint32_t)y);
}
static int32_t sub_i32(int32_t x, int32_t y)
{
    return (int32_t)((uint32_t)x - (uint32_t)y);
}
static int32_t mul_i32(int32_t x, int32_t y)
{
    return (int32_t)((uint32_t)x * (uint32_t)y);
}

static int32_t div_i32(int32_t x, int32_t y)
{
    if (y == 0)
        return 0;
    if (y == -1)
        return sub_i32(0, x); /* INT32_MIN / -1 wraps */
    return x / y - (x % y != 0 && (x < 0) != (y < 0));
}

static int32_t rem_i32(int32_t x, int32_t y)
{
    return sub_i32(x, mul_i32(div_i32(x, y), y));
}
static int32_t shr_i32(int32_t x, uint32_t n)
{
    return x < 0 ? (int32_t)~(~(uint32_t)x >> n) : x >> n;
}

static int32_t f32_to_i32(float f)
{
    if (isnan(f))
        return 0;
    return f >= 0x1p31f ? INT32_MAX : f <= -0x1p31f ? INT32_MIN : (int32_t)f;
}

static uint32_t f32_to_u32(float f)
{
    if (!(f > 0))
        return 0;
    return f >= 0x1p32f ? UINT32_MAX : (uint32_t)f;
}

/* X(name, field of the result, expression of x, y, z: the arguments' fields `from`) */
/* clang-format off */
#define RUNS(R)                                                                                                        \
    R(add_f32, f, f, x + y)             R(add_i32, i, i, add_i32(x, y))          R(add_u32, u, u, x + y)                \
    R(sub_f32, f, f, x - y)             R(sub_i32, i, i, sub_i32(x, y))          R(sub_u32, u, u, x - y)                \
    R(mul_f32, f, f, x * y)             R(mul_i32, i, i, mul_i32(x, y))          R(mul_u32, u, u, x * y)                \
    R(div_f32, f, f, x / y)             R(div_i32, i, i, div_i32(x, y))          R(div_u32, u, u, y ? x / y : 0)        \
    R(min_f32, f, f, min_f32(x, y))     R(min_i32, i, i, x < y ? x : y)          R(min_u32, u, u, x < y ? x : y)        \
    R(max_f32, f, f, max_f32(x, y))     R(max_i32, i, i, x > y ? x : y)          R(max_u32, u, u, x > y ? x : y)        \
    R(lt_f32, i, f, x < y)              R(lt_i32, i, i, x < y)                   R(lt_u32, i, u, x < y)                 \
    R(le_f32, i, f, x <= y)             R(le_i32, i, i, x <= y)                  R(le_u32, i, u, x <= y)                \
    R(gt_f32, i, f, x > y)              R(gt_i32, i, i, x > y)                   R(gt_u32, i, u, x > y)                 \
    R(ge_f32, i, f, x >= y)             R(ge_i32, i, i, x >= y)                  R(ge_u32, i, u, x >= y)                \
    R(eq_f32, i, f, x == y)             R(eq_i32, i, i, x == y)                  R(ne_f32, i, f, x != y)                \
    R(ne_i32, i, i, x != y)             R(rem_i32, i, i, rem_i32(x, y))          R(rem_u32, u, u, y ? x % y : x)        \
    R(and_u32, u, u, x & y)             R(or_u32, u, u, x | y)                   R(xor_u32, u, u, x ^ y)                \
    R(shl_u32, u, u, x << (y & 31))     R(shr_i32, i, i, shr_i32(x, y & 31))     R(shr_u32, u, u, x >> (y & 31))
#define RUNS1(R)                                                                                                       \
    R(neg_f32, f, f, -x)                R(neg_i32, i, i, sub_i32(0, x))          R(neg_u32, u, u, 0 - x)                \
    R(abs_f32, f, f, fabsf(x))          R(rint_f32, f, f, rintf(x))              R(floor_f32, f, f, floorf(x))          \
    R(sqrt_f32, f, f, sqrtf(x))         R(not_u32, u, u, ~x)                     R(not_bool, i, i, !x)                  \
    R(f32_to_i32, i, f, f32_to_i32(x))  R(f32_to_u32, u, f, f32_to_u32(x))       R(i32_to_f32, f, i, (float)x)          \
    R(u32_to_f32, f, u, (float)x)       R(copy, u, u, x)
/* clang-format on */

#define R(name, to, from, expr)                                                                                        \
    static void run_##name(Machine *m, const Code *c)                                                                  \
    {                                                                                                                  \
        (void)m;                                                                                                       \
        const __typeof__(c->arg[0]->from) x = c->arg[0]->from, y = c->arg[1]->from;                                    \
        c->dst->to = (expr);                                                                                           \
    }
RUNS(R)
#undef R
#define R(name, to, from, expr)                                                                                        \
    static void run_##name(Machine *m, const Code *c)                                                                  \
    {                                                                                                                  \
        (void)m;                                                                                                       \
        const __typeof__(c->arg[0]->from) x = c->arg[0]->from;                                                         \
        c->dst->to = (expr);                                                                                           \
    }
RUNS1(R)
#undef R

static void run_fma(Machine *m, const Code *c)
{
    (void)m;
    c->dst->f = fmaf(c->arg[0]->f, c->arg[1]->f, c->arg[2]->f);
}

static void run_select(Machine *m, const Code *c)
{
    (void)m;
    *c->dst = c->arg[0]->i ? *c->arg[1] : *c->arg[2];
}

static void run_philox(Machine *m, const Code *c)
{
    (void)m;
    uint64_t seed = c->arg[0]->u | (uint64_t)c->arg[1]->u << 32;
    c->dst->u = rng_u32(seed, c->arg[2]->u, c->arg[3]->u, c->arg[4]->u);
}

static void run_imm(Machine *m, const Code *c)
{
    (void)m;
    *c->dst = c->imm;
}

static void run_segf(Machine *m, const Code *c)
{
    c->dst->f = m->seg_floats[c->imm.i];
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static int64_t affine_at(const Machine *m, const Code *c)
{
    int64_t at = c->c0;
    if (c->seg_col >= 0)
        at += m->seg_ints[c->seg_col];
    for (int32_t i = 0; i < c->n_terms; i++)
        at += c->terms[i].coef * m->at[c->terms[i].axis];
    return at;
}

static int64_t element_at(const Machine *m, const Code *c)
{
    int64_t at = affine_at(m, c) + (c->dyn ? c->dyn->i : 0);
    DT_ASSERT(at >= 0 && at < c->elems, "kernel %s: element %lld of %lld", m->k->name, (long long)at,
              (long long)c->elems);
    return at;
}

static bool is_off(const Code *c)
{
    return c->guard && !c->guard->i;
}

static void run_index(Machine *m, const Code *c)
{
    c->dst->i = (int32_t)affine_at(m, c);
}

static void run_load_32(Machine *m, const Code *c)
{
    if (is_off(c))
        c->dst->u = 0;
    else
        memcpy(&c->dst->u, c->mem + 4 * element_at(m, c), sizeof(uint32_t));
}

static void run_load_small(Machine *m, const Code *c)
{
    c->dst->i = is_off(c) ? 0 : elem_get_small(c->dtype, c->mem, element_at(m, c));
}

static void run_store_32(Machine *m, const Code *c)
{
    if (!is_off(c))
        memcpy(c->mem + 4 * element_at(m, c), &c->arg[0]->u, sizeof(uint32_t));
}

static void run_store_small(Machine *m, const Code *c)
{
    if (is_off(c))
        return;
    int32_t v = c->arg[0]->i;
    elem_set_small(c->dtype, c->mem, element_at(m, c), v < c->least ? c->least : v > c->most ? c->most : v);
}

/* ---- Loops and accumulators -------------------------------------------------------------------------------------- */

static void run_block(Machine *m, Block b)
{
    for (const Code *c = b.first; c != b.end; c = c->next)
        c->run(m, c);
}

static void run_loop(Machine *m, const Code *c)
{
    for (int64_t i = 0; i < m->extent[c->axis]; i++) {
        m->at[c->axis] = i;
        run_block(m, (Block){ c + 1, c->next });
    }
    m->at[c->axis] = 0;
}

static void run_acc_loop(Machine *m, const Code *c)
{
    (void)m;
    *c->dst = c->combine(*c->dst, *c->arg[0]);
}

static void run_acc_red(Machine *m, const Code *c)
{
    Cell *a = &m->totals[c->slot].lanes[m->lane];
    *a = c->combine(*a, *c->arg[0]);
}

static void run_dot_loop(Machine *m, const Code *c)
{
    (void)m;
    c->dst->f = fmaf(c->arg[0]->f, c->arg[1]->f, c->dst->f);
}

static void run_dot_red(Machine *m, const Code *c)
{
    Cell *a = &m->totals[c->slot].lanes[m->lane];
    a->f = fmaf(c->arg[0]->f, c->arg[1]->f, a->f);
}

static Cell sum_f32(Cell x, Cell y)
{
    return (Cell){ .f = x.f + y.f };
}
static Cell sum_i32(Cell x, Cell y)
{
    return (Cell){ .i = add_i32(x.i, y.i) };
}
static Cell least_f32(Cell x, Cell y)
{
    return (Cell){ .f = min_f32(x.f, y.f) };
}
static Cell least_i32(Cell x, Cell y)
{
    return (Cell){ .i = x.i < y.i ? x.i : y.i };
}
static Cell greatest_f32(Cell x, Cell y)
{
    return (Cell){ .f = max_f32(x.f, y.f) };
}
static Cell greatest_i32(Cell x, Cell y)
{
    return (Cell){ .i = x.i > y.i ? x.i : y.i };
}

typedef struct Combine {
    CombineFn fn;
    Cell      identity;
} Combine;

static Combine find_combine(KAcc how, KType type)
{
    bool f = type == KT_F32;
    switch (how) {
    case KACC_SUM:
        return f ? (Combine){ sum_f32, { .f = 0 } } : (Combine){ sum_i32, { .i = 0 } };
    case KACC_MIN:
        return f ? (Combine){ least_f32, { .f = INFINITY } } : (Combine){ least_i32, { .i = INT32_MAX } };
    case KACC_MAX:
        break;
    }
    return f ? (Combine){ greatest_f32, { .f = -INFINITY } } : (Combine){ greatest_i32, { .i = INT32_MIN } };
}

/* ---- From instructions to calls ---------------------------------------------------------------------------------- */

/* By opcode and the type of the first argument. */
/* clang-format off */
#define RUN3(OP, op) [K_##OP] = { [KT_F32] = run_##op##_f32, [KT_I32] = run_##op##_i32, [KT_U32] = run_##op##_u32 }
#define RUNF(OP, op) [K_##OP] = { [KT_F32] = run_##op##_f32 }
static const RunFn runs[K_COUNT][KT_BOOL + 1] = {
    RUN3(ADD, add), RUN3(SUB, sub), RUN3(MUL, mul), RUN3(DIV, div), RUN3(MIN, min), RUN3(MAX, max), RUN3(NEG, neg),
    RUN3(LT, lt), RUN3(LE, le), RUN3(GT, gt), RUN3(GE, ge),
    RUNF(ABS, abs), RUNF(RINT, rint), RUNF(FLOOR, floor), RUNF(SQRT, sqrt),
    [K_EQ]  = { [KT_F32] = run_eq_f32, [KT_I32] = run_eq_i32, [KT_U32] = run_eq_i32 },
    [K_NE]  = { [KT_F32] = run_ne_f32, [KT_I32] = run_ne_i32, [KT_U32] = run_ne_i32 },
    [K_REM] = { [KT_I32] = run_rem_i32, [KT_U32] = run_rem_u32 },
    [K_SHL] = { [KT_I32] = run_shl_u32, [KT_U32] = run_shl_u32 },
    [K_SHR] = { [KT_I32] = run_shr_i32, [KT_U32] = run_shr_u32 },
    [K_AND] = { [KT_I32] = run_and_u32, [KT_U32] = run_and_u32, [KT_BOOL] = run_and_u32 },
    [K_OR]  = { [KT_I32] = run_or_u32,  [KT_U32] = run_or_u32,  [KT_BOOL] = run_or_u32 },
    [K_XOR] = { [KT_I32] = run_xor_u32, [KT_U32] = run_xor_u32, [KT_BOOL] = run_xor_u32 },
    [K_NOT] = { [KT_I32] = run_not_u32, [KT_U32] = run_not_u32, [KT_BOOL] = run_not_bool },
    [K_FMA] = { [KT_F32] = run_fma },
    [K_SELECT] = { [KT_BOOL] = run_select },
    [K_PHILOX] = { [KT_U32] = run_philox },
    [K_BITCAST] = { [KT_F32] = run_copy, [KT_I32] = run_copy, [KT_U32] = run_copy },
};
/* cvt, by the type converted from and the one converted to */
static const RunFn cvts[KT_BOOL + 1][KT_BOOL + 1] = {
    [KT_F32]  = { [KT_I32] = run_f32_to_i32, [KT_U32] = run_f32_to_u32 },
    [KT_I32]  = { [KT_F32] = run_i32_to_f32, [KT_U32] = run_copy },
    [KT_U32]  = { [KT_F32] = run_u32_to_f32, [KT_I32] = run_copy },
    [KT_BOOL] = { [KT_F32] = run_i32_to_f32, [KT_I32] = run_copy, [KT_U32] = run_copy },
};
/* clang-format on */

typedef struct Compiler {
    const Kernel *k;
    Machine      *m;
    void *const  *bufs;
    Cell         *reg;
    Code         *head, *code; /* where the next one goes: what is set once a row, and the rest */
    int32_t       loops;
    Arena        *arena;
} Compiler;

static Cell *reg_of(const Compiler *c, KVal v)
{
    return v == KVAL_NONE ? NULL : &c->reg[v];
}

static void fill_address(Code *to, const Affine *a)
{
    to->c0 = a->c0;
    to->seg_col = a->seg_col;
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++)
        if (a->coef[i] != 0)
            to->terms[to->n_terms++] = (Term){ i, a->coef[i] };
}

static void fill_memory(const Compiler *c, Code *to, const KInst *in)
{
    const KBuf *b = &c->k->bufs.at[in->buf];
    bool        small = dtype_bits(b->dtype) < 32;
    to->mem = c->bufs[in->buf];
    to->dtype = b->dtype;
    to->elems = b->elems;
    to->least = small ? (int32_t)dtype_min(b->dtype) : 0;
    to->most = small ? (int32_t)dtype_max(b->dtype) : 0;
    to->dyn = reg_of(c, in->dyn);
    to->guard = reg_of(c, in->guard);
    if (in->op == K_LOAD)
        to->run = small ? run_load_small : run_load_32;
    else
        to->run = small ? run_store_small : run_store_32;
    fill_address(to, &in->addr);
}

static void fill_acc(Compiler *c, Code *to, const KInst *in)
{
    Combine how = find_combine((KAcc)in->imm.i, in->type);
    to->combine = how.fn;
    to->run = in->op == K_DOT ? run_dot_loop : run_acc_loop;
    if (c->loops > 0)
        return;
    to->run = in->op == K_DOT ? run_dot_red : run_acc_red;
    to->slot = c->m->n_totals++;
    c->m->totals[to->slot] = (Total){
        .dst = to->dst, .identity = how.identity, .lanes = ARENA_ARRAY(c->arena, Cell, c->k->lanes), .combine = how.fn
    };
}

static void compile_region(Compiler *c, const KRegion *region);

/* Before a loop its accumulators are set to their identities. */
static void compile_loop(Compiler *c, const KInst *loop)
{
    for (int32_t i = 0; i < loop->region.len; i++) {
        const KInst *in = &c->k->insts.at[loop->region.at[i]];
        if (!kop_accumulates(in->op))
            continue;
        *c->code = (Code){ .run = run_imm,
                           .next = c->code + 1,
                           .dst = reg_of(c, loop->region.at[i]),
                           .imm = find_combine((KAcc)in->imm.i, in->type).identity };
        c->code++;
    }
    Code *begin = c->code++;
    *begin = (Code){ .run = run_loop, .axis = loop->imm.i };
    c->loops++;
    compile_region(c, &loop->region);
    c->loops--;
    begin->next = c->code;
}

static void compile_inst(Compiler *c, KVal v)
{
    const KInst *in = &c->k->insts.at[v];
    if (in->op == K_LOOP) {
        compile_loop(c, in);
        return;
    }
    bool  once = in->op == K_CONST || in->op == K_SEGF;
    Code *to = once ? c->head++ : c->code++;
    *to = (Code){ .next = to + 1, .dst = reg_of(c, v), .imm = { .u = in->imm.u } };
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++)
        to->arg[i] = reg_of(c, in->arg[i]);
    KType from = k_ops[in->op].n_args > 0 ? c->k->insts.at[in->arg[0]].type : KT_NONE;
    switch (in->op) {
    case K_CONST:
        to->run = run_imm;
        break;
    case K_SEGF:
        to->run = run_segf;
        break;
    case K_INDEX:
        to->run = run_index;
        fill_address(to, &in->addr);
        break;
    case K_LOAD:
    case K_STORE:
        fill_memory(c, to, in);
        break;
    case K_ACC:
    case K_DOT:
        fill_acc(c, to, in);
        break;
    case K_CVT:
        to->run = cvts[from][in->type];
        break;
    default:
        to->run = runs[in->op][from];
    }
    DT_ASSERT(to->run, "kernel %s: nothing runs %s of %s", c->k->name, k_ops[in->op].text, ktype_names[from]);
}

static void compile_region(Compiler *c, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++)
        compile_inst(c, region->at[i]);
}

/* ---- Points ------------------------------------------------------------------------------------------------------ */

typedef struct Blocks {
    Block head, body, final;
} Blocks;

/* Axes of one kind as one counter, last axis fastest. */
static void step_axes(Machine *m, AxisKind kind)
{
    for (int32_t i = m->k->n_axes - 1; i >= 0; i--) {
        if (m->k->axes[i].kind != kind)
            continue;
        if (++m->at[i] < m->extent[i])
            return;
        m->at[i] = 0;
    }
}

static int64_t count_points(const Machine *m, AxisKind kind)
{
    int64_t n = 1;
    for (int32_t i = 0; i < m->k->n_axes; i++)
        if (m->k->axes[i].kind == kind)
            n *= m->extent[i];
    return n;
}

static void run_red_run(Machine *m, Block body, int64_t n)
{
    int32_t lanes = m->k->lanes;
    for (int32_t t = 0; t < m->n_totals; t++)
        for (int32_t i = 0; i < lanes; i++)
            m->totals[t].lanes[i] = m->totals[t].identity;
    for (int64_t e = 0; e < n; e++) {
        m->lane = (int32_t)(e & (lanes - 1));
        run_block(m, body);
        step_axes(m, AXIS_RED);
    }
    for (int32_t t = 0; t < m->n_totals; t++) {
        Total *total = &m->totals[t];
        for (int32_t s = lanes / 2; s > 0; s /= 2)
            for (int32_t i = 0; i < s; i++)
                total->lanes[i] = total->combine(total->lanes[i], total->lanes[i + s]);
        total->total = total->combine(total->total, total->lanes[0]);
    }
}

static void run_par_point(Machine *m, const Blocks *b, int64_t red, int64_t chunks)
{
    for (int32_t t = 0; t < m->n_totals; t++)
        m->totals[t].total = m->totals[t].identity;
    int64_t run = dt_ceil_div(red, chunks);
    for (int64_t r = 0; r < red; r += run)
        run_red_run(m, b->body, dt_min64(run, red - r));
    for (int32_t t = 0; t < m->n_totals; t++)
        *m->totals[t].dst = m->totals[t].total;
    run_block(m, b->final);
}

static void run_row(Machine *m, const Blocks *b, int32_t row)
{
    const Kernel *k = m->k;
    for (int32_t i = 0; i < k->n_axes; i++)
        m->extent[i] = kernel_extent(k, i, row);
    m->seg_ints = k->seg.rows > 0 ? k->seg.ints + (int64_t)row * k->seg.int_cols : NULL;
    m->seg_floats = k->seg.rows > 0 ? k->seg.floats + (int64_t)row * k->seg.float_cols : NULL;
    run_block(m, b->head);
    int64_t points = count_points(m, AXIS_PAR), red = count_points(m, AXIS_RED);
    int64_t chunks = kernel_chunks(k, row);
    for (int64_t p = 0; p < points; p++) {
        run_par_point(m, b, red, chunks);
        step_axes(m, AXIS_PAR);
    }
}

static int32_t count_accs(const Kernel *k)
{
    int32_t n = 0;
    for (int32_t i = 0; i < k->insts.len; i++)
        n += kop_accumulates(k->insts.at[i].op);
    return n;
}

void kernel_interp(const Kernel *original, void *const *bufs)
{
    Arena    scratch = arena_new("kernel_interp");
    Kernel  *k = kernel_expand(&scratch, original);
    int32_t  accs = count_accs(k);
    Machine  m = { .k = k, .totals = ARENA_ARRAY(&scratch, Total, accs + 1) };
    Code    *head = ARENA_ARRAY(&scratch, Code, k->insts.len + 1);
    Code    *code = ARENA_ARRAY(&scratch, Code, k->insts.len + accs + 1);
    Compiler c = { .k = k,
                   .m = &m,
                   .bufs = bufs,
                   .reg = ARENA_ARRAY(&scratch, Cell, k->insts.len + 1),
                   .head = head,
                   .code = code,
                   .arena = &scratch };
    Blocks   b = { 0 };
    compile_region(&c, &k->body);
    b.body = (Block){ code, c.code };
    compile_region(&c, &k->final);
    b.final = (Block){ b.body.end, c.code };
    b.head = (Block){ head, c.head };
    for (int32_t row = 0; row < kernel_rows(k); row++)
        run_row(&m, &b, row);
    arena_free(&scratch);
}
