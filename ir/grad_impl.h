/* grad_impl.h: what the files of gradient rules share. */
#ifndef DETENT_IR_GRAD_IMPL_H
#define DETENT_IR_GRAD_IMPL_H

#include "ir/ops_impl.h"

/* A copy: emitting moves the vector of values. */
static inline Value grad_value(const GradCtx *c, ValueId v)
{
    return *ir_value(c->b->g, v);
}

static inline Shape grad_shape(const GradCtx *c, ValueId v)
{
    return ir_value(c->b->g, v)->type.shape;
}

/* Adds g to the gradient of an operand of an element-wise op: summed where the operand was broadcast. */
void grad_add_summed(GradCtx *c, const Value *v, ValueId input, ValueId g, int64_t axis);
/* Emits `op` with the attributes that it shares with `v`, except those given in `own`. */
ValueId grad_emit_like(GradCtx *c, const Value *v, OpCode op, const ValueId *in, int32_t n_in, const AttrSet *own,
                       int32_t n_own);
#define emit_like(c, v, op, ins, ...)                                                                                  \
    grad_emit_like((c), (v), (op), ins, (const AttrSet[]){ { ATTR_COUNT, { 0 } }, ##__VA_ARGS__ } + 1,                 \
                   (int32_t)(sizeof((const AttrSet[]){ { ATTR_COUNT, { 0 } }, ##__VA_ARGS__ }) / sizeof(AttrSet)) - 1)

#endif
