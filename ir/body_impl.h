/* body_impl.h: what the files of bodies share: short names for what a body is made of.
 *
 * Two emitting calls are never arguments of one call: C does not say which runs first, and the text of a kernel must
 * not depend on the compiler that built Detent. */
#ifndef DETENT_IR_BODY_IMPL_H
#define DETENT_IR_BODY_IMPL_H

#include "ir/ops_impl.h"

#include <math.h>

static inline const Value *self(const BodyCtx *c)
{
    return ir_value(c->g, c->v);
}
static inline Type in_type(const BodyCtx *c, int32_t i)
{
    return ir_value(c->g, self(c)->in[i])->type;
}
static inline float attr_f32(const BodyCtx *c, AttrId id)
{
    return (float)ir_float(self(c), id);
}

static inline KVal op2(const BodyCtx *c, KOp op, KVal x, KVal y)
{
    return kb_op2(c->b, op, x, y);
}
static inline KVal fma3(const BodyCtx *c, KVal x, KVal y, KVal z)
{
    return kb_op3(c->b, K_FMA, x, y, z);
}
static inline KVal choose(const BodyCtx *c, KVal cond, KVal x, KVal y)
{
    return kb_op3(c->b, K_SELECT, cond, x, y);
}
static inline KVal number(const BodyCtx *c, double x)
{
    return kb_f32(c->b, (float)x);
}

/* Logical flat index of the output element. */
static inline KVal flat_index(BodyCtx *c)
{
    return c->index != NULL ? c->index(c) : kb_index(c->b, c->flat);
}

static inline int32_t one(KVal out[2], KVal v)
{
    out[0] = v;
    return 1;
}

/* x factor; nothing to do for 1. */
static inline KVal times(const BodyCtx *c, KVal x, float factor)
{
    return factor == 1.0f ? x : op2(c, K_MUL, x, number(c, (double)factor));
}

/* x, or `least` where x is below it; unlike max, a NaN stays one. */
static inline KVal at_least(const BodyCtx *c, KVal x, float least)
{
    KVal l = number(c, (double)least);
    return choose(c, op2(c, K_GT, l, x), l, x);
}

/* ---- Coordinates, for nests ------------------------------------------------------------------------------------ */

static inline int64_t in_dim(const BodyCtx *c, int32_t i, int32_t d)
{
    return ir_value(c->g, self(c)->in[i])->type.shape.dim[d];
}

static inline KVal op2_i(const BodyCtx *c, KOp op, KVal x, int64_t y)
{
    return op2(c, op, x, kb_i32(c->b, (int32_t)y));
}
static inline Coord fixed(int64_t at)
{
    return (Coord){ affine_const(at), KVAL_NONE };
}

/* Guards are joined; KVAL_NONE is always true. */
static inline KVal both(const BodyCtx *c, KVal x, KVal y)
{
    return x == KVAL_NONE ? y : y == KVAL_NONE ? x : op2(c, K_AND, x, y);
}

static inline KVal coord_value(const BodyCtx *c, Coord at)
{
    KVal whole = kb_index(c->b, at.at);
    return at.dyn == KVAL_NONE ? whole : op2(c, K_ADD, whole, at.dyn);
}

/* at factor + add */
static inline Coord coord_step(const BodyCtx *c, Coord at, int64_t factor, Affine add)
{
    Coord to = { affine_add(affine_scale(at.at, factor), add), at.dyn };
    if (at.dyn != KVAL_NONE && factor != 1)
        to.dyn = op2_i(c, K_MUL, at.dyn, factor);
    return to;
}

/* 0 <= at < size, as far as `below` (it may be negative) and `above` (it may be too large) ask for it. */
static inline KVal inside(const BodyCtx *c, Coord at, int64_t size, bool below, bool above)
{
    KVal value = below || above ? coord_value(c, at) : KVAL_NONE;
    KVal low = below ? op2_i(c, K_GE, value, 0) : KVAL_NONE;
    KVal high = above ? op2_i(c, K_LT, value, size) : KVAL_NONE;
    return both(c, low, high);
}

#endif
