/* emit_region.c: regions of the kernel IR at a place in the iteration space.
 *
 * A Point says where the axes stand, how many lanes wide the place is, and which values exist there already. Code for
 * an inner loop begins with a copy of the outer point; whatever was computed outside (point_hoist) is not computed
 * again.
 *
 * Tested by tests/unit/test_llvm.c. */
#include <string.h>

#include "codegen/llvm/emit.h"

enum { LEAST_VECTOR = 4, MOST_WRITTEN_OUT = 4 };

/* ---- Points ----------------------------------------------------------------------------------------------------- */

Point point_new(Emit *e)
{
    Point p = { .width = 1 };
    p.val = ARENA_ARRAY(e->arena, LLVMValueRef, e->k->insts.len + 1);
    p.acc = ARENA_ARRAY(e->arena, LLVMValueRef, e->k->insts.len + 1);
    p.row = ARENA_ARRAY(e->arena, LLVMValueRef, e->k->insts.len + 1);
    for (int32_t i = 0; i < e->k->n_axes; i++) {
        int64_t extent;
        if (e->k->axes[i].kind != AXIS_SEQ && plan_extent(e->plan, i, &extent) && extent == 1)
            point_set(&p, i, NULL, 0, 1); /* stands still */
    }
    return p;
}

Point point_copy(Emit *e, const Point *p)
{
    size_t bytes = sizeof(LLVMValueRef) * (size_t)(e->k->insts.len + 1);
    Point  copy = *p;
    copy.val = arena_copy(e->arena, p->val, bytes);
    copy.acc = arena_copy(e->arena, p->acc, bytes);
    copy.row = arena_copy(e->arena, p->row, bytes);
    return copy;
}

void point_set(Point *p, int32_t axis, LLVMValueRef v, int64_t off, int64_t align)
{
    p->axis[axis] = (AxisAt){ v, off, align };
    p->known |= 1u << axis;
}

void point_inherit(const Emit *e, Point *p, const Point *from)
{
    for (int32_t i = 0; i < e->k->insts.len; i++)
        if (!p->val[i])
            p->val[i] = from->val[i];
}

bool inst_varies(const Emit *e, KVal id)
{
    return e->plan->vec >= 0 && (e->plan->facts[id].deps >> e->plan->vec & 1);
}

void point_hoist(Emit *e, Point *p, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++) {
        KVal         id = region->at[i];
        const Facts *f = &e->plan->facts[id];
        if (!p->val[id] && f->hoist && (f->deps & ~p->known) == 0)
            p->val[id] = emit_value(e, p, id);
    }
}

/* ---- Loops inside a point --------------------------------------------------------------------------------------- */

LLVMValueRef emit_extent(Emit *e, int32_t axis)
{
    int64_t extent;
    return plan_extent(e->plan, axis, &extent) ? e_int(e, extent) : e->seg_int[e->k->axes[axis].seg_col];
}

static void forget(Point *p, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++)
        p->val[region->at[i]] = NULL;
}

static void emit_unrolled(Emit *e, Point *p, const KInst *loop)
{
    int64_t extent = 0;
    plan_extent(e->plan, loop->imm.i, &extent);
    for (int64_t i = 0; i < extent; i++) {
        point_set(p, loop->imm.i, NULL, i, 1);
        forget(p, &loop->region);
        emit_region(e, p, &loop->region);
    }
}

static void emit_walked(Emit *e, Point *p, const KInst *loop, const KVal *acc, int32_t n)
{
    LLVMValueRef *carried = ARENA_ARRAY(e->arena, LLVMValueRef, n + 1);
    Loop          l;
    for (int32_t i = 0; i < n; i++)
        carried[i] = p->acc[acc[i]];
    loop_begin(e, &l, e_int(e, 0), emit_extent(e, loop->imm.i), 1, carried, n);
    for (int32_t i = 0; i < n; i++)
        p->acc[acc[i]] = carried[i];
    point_set(p, loop->imm.i, l.i, 0, 1);
    forget(p, &loop->region);
    emit_region(e, p, &loop->region);
    for (int32_t i = 0; i < n; i++)
        carried[i] = p->acc[acc[i]];
    loop_end(e, &l, carried);
    for (int32_t i = 0; i < n; i++)
        p->acc[acc[i]] = carried[i];
}

static void emit_loop(Emit *e, Point *p, const KInst *loop)
{
    KVal   *acc = ARENA_ARRAY(e->arena, KVal, loop->region.len + 1);
    int32_t n = 0;
    for (int32_t i = 0; i < loop->region.len; i++) {
        KVal id = loop->region.at[i];
        if (kop_accumulates(e->k->insts.at[id].op))
            acc[n++] = id;
    }
    for (int32_t i = 0; i < n; i++)
        p->acc[acc[i]] = emit_identity(e, &e->k->insts.at[acc[i]], inst_varies(e, acc[i]) ? p->width : 1);
    if (plan_unrolls(e->plan, loop))
        emit_unrolled(e, p, loop);
    else
        emit_walked(e, p, loop, acc, n);
    p->known &= ~(1u << loop->imm.i);
    forget(p, &loop->region);
    for (int32_t i = 0; i < n; i++)
        p->val[acc[i]] = p->acc[acc[i]];
}

void emit_region(Emit *e, Point *p, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++) {
        KVal         id = region->at[i];
        const KInst *in = &e->k->insts.at[id];
        if (p->val[id])
            continue; /* hoisted */
        switch (in->op) {
        case K_STORE:
            emit_store(e, p, id);
            break;
        case K_LOOP:
            emit_loop(e, p, in);
            break;
        case K_ACC:
            if (p->acc[id])
                p->acc[id] = emit_combine(e, in, p->acc[id], p->val[in->arg[0]]);
            break;
        case K_DOT:
            if (p->acc[id]) /* a walk that makes only some of them */
                p->acc[id] = emit_dot(e, p->val[in->arg[0]], p->val[in->arg[1]], p->acc[id]);
            break;
        default:
            p->val[id] = emit_value(e, p, id);
        }
    }
}

/* ---- Walks along the vec axis ----------------------------------------------------------------------------------- */

int32_t walk_pieces(const Plan *p, int64_t count, int32_t most, int32_t *widths, int64_t *offsets)
{
    int32_t n = 0;
    int64_t at = 0;
    for (int32_t w = p->width; at < count;) {
        while (w > 1 && (count - at < w || w < LEAST_VECTOR))
            w /= 2;
        if (n == most)
            return -1;
        widths[n] = w;
        offsets[n++] = at;
        at += w;
    }
    return n;
}

typedef struct Walk {
    const Point *base;
    LLVMValueRef start; /* NULL: 0 */
    int64_t      start_align;
    WalkFn       fn;
    void        *user;
} Walk;

/* At start + offset + constant; offset (NULL: 0) and constant are multiples of width. */
static void emit_piece(Emit *e, const Walk *w, int32_t width, LLVMValueRef offset, int64_t constant)
{
    Point p = point_copy(e, w->base);
    p.width = width;
    point_set(&p, e->plan->vec, e_add(e, w->start, offset), constant, dt_min64(w->start_align, offset ? width : 4096));
    w->fn(e, &p, e_add(e, offset, constant || !offset ? e_int(e, constant) : NULL), w->user);
}

/* `copies` pieces a round. */
static void emit_steps(Emit *e, const Walk *w, int32_t width, int32_t copies, LLVMValueRef from, LLVMValueRef to)
{
    Loop l;
    loop_begin(e, &l, from, to, width * copies, NULL, 0);
    for (int32_t i = 0; i < copies; i++)
        emit_piece(e, w, width, l.i, i * width);
    loop_end(e, &l, NULL);
}

/* What is left after whole steps: a vector, half of one ..., single points. `done` points have been seen to. */
static void emit_tail(Emit *e, const Walk *w, LLVMValueRef done, LLVMValueRef count)
{
    for (int32_t width = e->plan->width * e->plan->copies / 2; width >= LEAST_VECTOR; width /= 2) {
        if (!(e->plan->tail_bits & width))
            continue;
        LLVMValueRef bit = LLVMBuildAnd(e->b, count, e_int(e, width), "");
        If           f;
        if_begin(e, &f, LLVMBuildICmp(e->b, LLVMIntNE, bit, e_int(e, 0), ""));
        emit_piece(e, w, width, done, 0);
        if_end(e, &f);
        done = e_add(e, done, bit);
    }
    if (e->plan->tail_bits & (LEAST_VECTOR - 1))
        emit_steps(e, w, 1, 1, done, count);
}

void emit_walk(Emit *e, const Point *base, LLVMValueRef start, LLVMValueRef count, WalkFn fn, void *user)
{
    int32_t widths[MOST_WRITTEN_OUT], n = -1;
    int64_t offsets[MOST_WRITTEN_OUT], constant, width = e->plan->width;
    if (e->plan->vec < 0) {
        Point p = point_copy(e, base);
        fn(e, &p, e_int(e, 0), user);
        return;
    }
    Walk w = { base, start, plan_align_of(e->plan->block), fn, user };
    if (e_is_const(start, &constant) && constant == 0) {
        w.start = NULL;
        w.start_align = plan_align_of(0);
    }
    if (e_is_const(count, &constant))
        n = walk_pieces(e->plan, constant, MOST_WRITTEN_OUT, widths, offsets);
    if (e->plan->stencil.axis >= 0 && n > 1 && widths[1] == width) /* a body that is large */
        n = -1;
    for (int32_t i = 0; i < n; i++)
        emit_piece(e, &w, widths[i], NULL, offsets[i]);
    if (n >= 0)
        return;
    LLVMValueRef full = LLVMBuildAnd(e->b, count, e_int(e, -width * e->plan->copies), "");
    emit_steps(e, &w, (int32_t)width, e->plan->copies, e_int(e, 0), full);
    if (width > 1)
        emit_tail(e, &w, full, count);
}
