/* cost.c: bytes and arithmetic of one launch, computed from the form.
 *
 * Bytes: the elements of a buffer that its accesses touch, each once a launch, however often they are read. Within a
 * segment row, accesses with one and the same address touch the same elements; different ones are taken as apart, up to
 * the span of all of them. An address with a computed part may touch the whole buffer. Arithmetic: f32 operations, fma
 * as two; exp and log apart.
 *
 * Tested by tests/unit/test_kernel_ir.c. */
#include <string.h>

#include "ir/kernel/kernel_priv.h"

/* What is touched of one buffer in one direction. */
typedef struct Touch {
    int64_t elems;       /* of the rows before */
    int64_t sum, lo, hi; /* of this row: elements of its accesses, and the span that they lie in */
    bool    whole;       /* perhaps all of it */
} Touch;

typedef struct Coster {
    const Kernel *k;
    int32_t       row;
    KCost         cost;
    Touch        *touch[2]; /* loads, stores; by buffer */
    VEC(KVal) seen;         /* accesses counted in this row */
    Arena scratch;
} Coster;

static bool same_place(const KInst *x, const KInst *y)
{
    return x->op == y->op && x->buf == y->buf && x->dyn == y->dyn && x->addr.c0 == y->addr.c0 &&
           x->addr.seg_col == y->addr.seg_col && memcmp(x->addr.coef, y->addr.coef, sizeof x->addr.coef) == 0;
}

static void cost_access(Coster *c, KVal v)
{
    const KInst *in = &c->k->insts.at[v];
    Touch       *t = &c->touch[in->op == K_STORE][in->buf];
    int64_t      lo, hi, points = 1;
    for (int32_t i = 0; i < c->seen.len; i++)
        if (same_place(&c->k->insts.at[c->seen.at[i]], in))
            return;
    vec_push(&c->scratch, &c->seen, v);
    t->whole = t->whole || in->dyn != KVAL_NONE;
    if (kernel_affine_range(c->k, c->row, &in->addr, &lo, &hi) != RANGE_OK)
        return;
    for (int32_t i = 0; i < c->k->n_axes; i++)
        points *= in->addr.coef[i] != 0 ? kernel_extent(c->k, i, c->row) : 1;
    t->lo = t->sum == 0 ? lo : dt_min64(t->lo, lo);
    t->hi = t->sum == 0 ? hi : dt_max64(t->hi, hi);
    t->sum += dt_min64(points, hi - lo + 1);
}

static void cost_inst(Coster *c, KVal v, int64_t times)
{
    const KInst *in = &c->k->insts.at[v];
    switch (in->op) {
    case K_LOAD:
    case K_STORE:
        cost_access(c, v);
        break;
    case K_EXP:
    case K_LOG:
        c->cost.transcendentals += times;
        break;
    case K_FMA:
    case K_DOT:
        c->cost.flops += 2 * times;
        break;
    case K_ADD:
    case K_SUB:
    case K_MUL:
    case K_DIV:
    case K_MIN:
    case K_MAX:
    case K_NEG:
    case K_ABS:
    case K_RINT:
    case K_FLOOR:
    case K_SQRT:
    case K_ACC:
        c->cost.flops += in->type == KT_F32 ? times : 0;
        break;
    default:
        break;
    }
}

static void cost_region(Coster *c, const KRegion *region, int64_t times)
{
    if (times == 0)
        return;
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &c->k->insts.at[region->at[i]];
        if (in->op == K_LOOP)
            cost_region(c, &in->region, times * kernel_extent(c->k, in->imm.i, c->row));
        else
            cost_inst(c, region->at[i], times);
    }
}

static void cost_row(Coster *c)
{
    int64_t par = 1;
    for (int32_t i = 0; i < c->k->n_axes; i++)
        if (c->k->axes[i].kind == AXIS_PAR)
            par *= kernel_extent(c->k, i, c->row);
    c->seen.len = 0;
    cost_region(c, &c->k->body, par * kernel_red_extent(c->k, c->row));
    cost_region(c, &c->k->final, par);
    for (int32_t i = 0; i < 2 * c->k->bufs.len; i++) {
        Touch *t = &c->touch[i % 2][i / 2];
        t->elems += t->sum == 0 ? 0 : dt_min64(t->sum, t->hi - t->lo + 1);
        t->sum = 0;
    }
}

static int64_t bytes_touched(const Coster *c, const Touch *t)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < c->k->bufs.len; i++) {
        const KBuf *b = &c->k->bufs.at[i];
        bytes += dtype_bytes(b->dtype, t[i].whole ? b->elems : dt_min64(t[i].elems, b->elems));
    }
    return bytes;
}

KCost kernel_cost(const Kernel *k)
{
    Coster c = { .k = k, .scratch = arena_new("kernel_cost") };
    for (int32_t i = 0; i < 2; i++)
        c.touch[i] = ARENA_ARRAY(&c.scratch, Touch, k->bufs.len + 1);
    for (c.row = 0; c.row < kernel_rows(k); c.row++)
        cost_row(&c);
    c.cost.bytes_read = bytes_touched(&c, c.touch[0]);
    c.cost.bytes_written = bytes_touched(&c, c.touch[1]);
    arena_free(&c.scratch);
    return c.cost;
}
