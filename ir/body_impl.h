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

#endif
