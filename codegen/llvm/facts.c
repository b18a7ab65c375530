/* facts.c: what is known about each instruction without running it: the axes that it depends on, and bounds of its
 * value. Bounds let code skip the care that conversions and saturating stores need when a clip came before, as it does
 * in every quantizer.
 *
 * Tested by tests/unit/test_llvm.c (clips beside NaN, infinities and limits that do not bound). */
#include <math.h>

#include "codegen/llvm/plan.h"

static const Facts type_facts[KT_BOOL + 1] = {
    [KT_F32] = { .may_nan = true, .lo = -INFINITY, .hi = INFINITY },
    [KT_I32] = { .lo = INT32_MIN, .hi = INT32_MAX },
    [KT_U32] = { .lo = 0, .hi = UINT32_MAX },
    [KT_BOOL] = { .lo = 0, .hi = 1 },
};

typedef struct FactsMaker {
    const Kernel *k;
    Facts        *facts;
    uint32_t      par; /* axes */
    int32_t       loops;
} FactsMaker;

static uint32_t affine_deps(const Affine *a)
{
    uint32_t deps = a->seg_col >= 0 ? DEP_ROW : 0;
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++)
        deps |= (uint32_t)(a->coef[i] != 0) << i;
    return deps;
}

static void set_bounds(Facts *f, double lo, double hi)
{
    f->lo = lo;
    f->hi = hi;
}

/* min and max: a NaN gives the other operand, whatever it is. */
static void bound_extremum(Facts *f, bool is_min, const Facts *x, const Facts *y)
{
    f->may_nan = x->may_nan && y->may_nan;
    f->lo = is_min ? fmin(x->lo, y->lo) : fmax(x->lo, y->lo);
    f->hi = is_min ? fmin(x->hi, y->hi) : fmax(x->hi, y->hi);
    const Facts *survivors[2] = { x->may_nan ? y : NULL, y->may_nan ? x : NULL };
    for (int i = 0; i < 2; i++)
        if (survivors[i])
            set_bounds(f, fmin(f->lo, survivors[i]->lo), fmax(f->hi, survivors[i]->hi));
}

static void bound_cvt(Facts *f, const KInst *in, const Facts *x, KType from)
{
    const Facts *whole = &type_facts[in->type];
    if (in->type == KT_F32) {
        set_bounds(f, (float)x->lo, (float)x->hi);
        f->may_nan = false;
    } else if (from == KT_F32) {
        double lo = trunc(fmin(fmax(x->lo, whole->lo), whole->hi)), hi = trunc(fmin(fmax(x->hi, whole->lo), whole->hi));
        set_bounds(f, x->may_nan ? fmin(lo, 0) : lo, x->may_nan ? fmax(hi, 0) : hi);
    } else if (x->lo >= whole->lo && x->hi <= whole->hi) {
        set_bounds(f, x->lo, x->hi); /* the bits are kept, and so is the number */
    }
}

static void bound_const(Facts *f, const KInst *in)
{
    double value = in->type == KT_F32 ? (double)in->imm.f : in->type == KT_U32 ? (double)in->imm.u : (double)in->imm.i;
    f->may_nan = in->type == KT_F32 && isnan(value);
    if (!f->may_nan)
        set_bounds(f, value, value);
}

static void bound_load(Facts *f, const Kernel *k, const KInst *in)
{
    DType t = k->bufs.at[in->buf].dtype;
    if (dtype_is_float(t) || dtype_bits(t) == 32)
        return;
    double zero = 0; /* what a false guard gives */
    set_bounds(f, fmin((double)dtype_min(t), zero), fmax((double)dtype_max(t), zero));
}

static void bound_index(Facts *f, const Kernel *k, const Affine *a)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int32_t row = 0; row < (k->seg.rows > 0 ? k->seg.rows : 1); row++) {
        double base = (double)a->c0 + (a->seg_col >= 0 ? (double)k->seg.ints[row * k->seg.int_cols + a->seg_col] : 0);
        double low = base, high = base;
        for (int32_t i = 0; i < k->n_axes; i++) {
            double reach = (double)a->coef[i] * (double)dt_max64(0, kernel_extent(k, i, row) - 1);
            *(reach < 0 ? &low : &high) += reach;
        }
        lo = fmin(lo, low);
        hi = fmax(hi, high);
    }
    if (lo >= INT32_MIN && hi <= INT32_MAX) /* else it may wrap */
        set_bounds(f, lo, hi);
}

static void bound_column(Facts *f, const SegTable *s, int32_t col)
{
    Facts all = { .lo = INFINITY, .hi = -INFINITY };
    for (int32_t row = 0; row < s->rows; row++) {
        float x = s->floats[row * s->float_cols + col];
        all.may_nan = all.may_nan || isnan(x);
        set_bounds(&all, fmin(all.lo, x), fmax(all.hi, x));
    }
    if (!all.may_nan)
        *f = (Facts){ f->deps, f->hoist, false, all.lo, all.hi };
}

static void bound_value(FactsMaker *m, Facts *f, const KInst *in)
{
    const Facts *x = in->arg[0] >= 0 ? &m->facts[in->arg[0]] : NULL,
                *y = in->arg[1] >= 0 ? &m->facts[in->arg[1]] : NULL;
    switch (in->op) {
    case K_CONST:
        bound_const(f, in);
        break;
    case K_INDEX:
        bound_index(f, m->k, &in->addr);
        break;
    case K_SEGF:
        bound_column(f, &m->k->seg, in->imm.i);
        break;
    case K_LOAD:
        bound_load(f, m->k, in);
        break;
    case K_MIN:
    case K_MAX:
        bound_extremum(f, in->op == K_MIN, x, y);
        break;
    case K_RINT:
        *f = (Facts){ f->deps, f->hoist, x->may_nan, rint(x->lo), rint(x->hi) };
        break;
    case K_FLOOR:
        *f = (Facts){ f->deps, f->hoist, x->may_nan, floor(x->lo), floor(x->hi) };
        break;
    case K_ABS:
        *f = (Facts){ f->deps, f->hoist, x->may_nan, 0, fmax(fabs(x->lo), fabs(x->hi)) };
        break;
    case K_NEG:
        if (in->type == KT_F32)
            *f = (Facts){ f->deps, f->hoist, x->may_nan, -x->hi, -x->lo };
        break;
    case K_SELECT: {
        const Facts *z = &m->facts[in->arg[2]];
        *f = (Facts){ f->deps, f->hoist, y->may_nan || z->may_nan, fmin(y->lo, z->lo), fmax(y->hi, z->hi) };
        break;
    }
    case K_CVT:
        bound_cvt(f, in, x, m->k->insts.at[in->arg[0]].type);
        break;
    case K_AND: /* with a mask that is not negative */
        if (in->type != KT_BOOL && fmax(x->lo, y->lo) >= 0)
            set_bounds(f, 0, x->lo < 0 ? y->hi : y->lo < 0 ? x->hi : fmin(x->hi, y->hi));
        break;
    case K_REM:
        if (y->lo > 0)
            set_bounds(f, 0, x->lo >= 0 ? fmin(x->hi, y->hi - 1) : y->hi - 1);
        break;
    case K_DIV: /* of integers that are not negative */
        if (in->type != KT_F32 && x->lo >= 0 && y->lo > 0)
            set_bounds(f, floor(x->lo / y->hi), floor(x->hi / y->lo));
        break;
    case K_ACC: /* a NaN never wins */
        f->may_nan = f->may_nan && in->imm.i == KACC_SUM;
        break;
    default:
        break;
    }
}

static void facts_of_region(FactsMaker *m, const KRegion *region, uint32_t inside)
{
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &m->k->insts.at[region->at[i]];
        Facts       *f = &m->facts[region->at[i]];
        *f = type_facts[in->type];
        for (int32_t j = 0; j < k_ops[in->op].n_args; j++)
            f->deps |= m->facts[in->arg[j]].deps;
        if (in->op == K_LOAD || in->op == K_STORE || in->op == K_INDEX)
            f->deps |= affine_deps(&in->addr);
        if (in->op == K_LOAD || in->op == K_STORE)
            f->deps |= (in->dyn >= 0 ? m->facts[in->dyn].deps : 0) | (in->guard >= 0 ? m->facts[in->guard].deps : 0);
        if (in->op == K_SEGF)
            f->deps |= DEP_ROW;
        if (kop_accumulates(in->op) && !m->loops)
            f->deps = m->par | DEP_ROW; /* a total belongs to a par point */
        /* A computed address is not read before it is known that some point reads it. */
        bool pure = in->op != K_STORE && !kop_accumulates(in->op) && in->op != K_LOOP;
        f->hoist = pure && !inside && (in->op != K_LOAD || (m->k->bufs.at[in->buf].mode == BUF_IN && in->dyn < 0));
        f->hoist = f->hoist && !(f->deps & DEP_LATE);
        f->deps |= f->hoist ? 0 : DEP_LATE;
        bound_value(m, f, in);
        if (in->op == K_LOOP) {
            m->loops++;
            facts_of_region(m, &in->region, inside | 1u << in->imm.i);
            m->loops--;
            for (int32_t j = 0; j < in->region.len; j++)
                m->facts[in->region.at[j]].deps &= ~(1u << in->imm.i); /* totals are past the loop */
        }
    }
}

Facts *plan_facts(Arena *a, const Kernel *k)
{
    FactsMaker m = { .k = k, .facts = ARENA_ARRAY(a, Facts, k->insts.len + 1) };
    for (int32_t i = 0; i < k->n_axes; i++)
        m.par |= (uint32_t)(k->axes[i].kind == AXIS_PAR) << i;
    facts_of_region(&m, &k->body, 0);
    facts_of_region(&m, &k->final, 0);
    return m.facts;
}
