/* infer_impl.h: what the files of type inference share: how a rule is given its value, what it says of an operand that
 * does not fit, and the types that results have.
 *
 * Each failure is one message: op, operand, what was found, what was expected. */
#ifndef DETENT_IR_INFER_IMPL_H
#define DETENT_IR_INFER_IMPL_H

#include "ir/ops_impl.h"

/* What every rule is given. */
typedef struct Rule {
    const Graph *g;
    const Value *v;
    Type        *out;
    Diag        *d;
    Loc          at;
} Rule;
#define RULE ((Rule){ g, v, out, d, at })

static inline Type in_type(const Rule *r, int32_t i)
{
    return ir_value(r->g, r->v->in[i])->type;
}

static inline int64_t in_dim(const Rule *r, int32_t i, int32_t dim)
{
    return in_type(r, i).shape.dim[dim];
}

DT_PRINTF(2, 3) static inline bool fail(const Rule *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_error(r->d, r->at, "%s: %s", ir_ops[r->v->op].text, arena_vprintf(&r->d->arena, fmt, ap));
    va_end(ap);
    return false;
}

/* Where an operand that does not fit was made. */
static inline void note_operand(const Rule *r, int32_t i, const char *name)
{
    ValueId id = r->v->in[i];
    diag_note(r->d, ir_loc(r->g, ir_value(r->g, id)), "%s is %s, made here", name,
              ir_value_text(&r->d->arena, r->g, id));
}

static inline const char *type_name(const Rule *r, Type t)
{
    return ir_type_text(&r->d->arena, t);
}

/* Shapes in messages: a scalar needs a word. */
static inline const char *shape_name(const Rule *r, Shape s)
{
    return s.rank == 0 ? "scalar" : shape_text(&r->d->arena, s);
}

static inline Type make_type(DType dtype, int32_t rank, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return (Type){ dtype, shape_of(rank, (int64_t[]){ d0, d1, d2, d3 }), LAYOUT_ROWS };
}
static inline Type scalar_type(DType dtype)
{
    return make_type(dtype, 0, 0, 0, 0, 0);
}
static inline Type vector_type(int64_t n)
{
    return make_type(DTYPE_F32, 1, n, 0, 0, 0);
}
static inline Type matrix_type(DType dtype, int64_t n, int64_t c)
{
    return make_type(dtype, 2, n, c, 0, 0);
}
static inline Type image_type(int64_t n, int64_t c, int64_t h, int64_t w)
{
    return make_type(DTYPE_F32, 4, n, c, h, w);
}

/* The result, unless it is larger than a type may be. */
static inline bool result(const Rule *r, Type t)
{
    const char *fault = ir_type_fault(&r->d->arena, t);
    if (fault)
        return fail(r, "the result is no valid type: %s", fault);
    t.layout = LAYOUT_ROWS;
    *r->out = t;
    return true;
}

/* Operand i has this element type and rank; `dims` shows them: "N,C,H,W". */
static inline bool want_rank(const Rule *r, int32_t i, const char *name, DType dtype, int32_t rank, const char *dims)
{
    Type t = in_type(r, i);
    if (t.dtype == dtype && t.shape.rank == rank)
        return true;
    fail(r, "%s is %s, expected %s[%s]", name, type_name(r, t), dtype_name(dtype), dims);
    note_operand(r, i, name);
    return false;
}

static inline bool want_image(const Rule *r, int32_t i, const char *name)
{
    return want_rank(r, i, name, DTYPE_F32, 4, "N,C,H,W");
}

/* Operand i has exactly this type; `why` says where the expectation comes from. */
static inline bool want_type(const Rule *r, int32_t i, const char *name, Type want, const char *why)
{
    Type t = in_type(r, i);
    if (t.dtype == want.dtype && shape_eq(t.shape, want.shape))
        return true;
    fail(r, "%s is %s, expected %s: %s", name, type_name(r, t), type_name(r, want), why);
    note_operand(r, i, name);
    return false;
}

/* A batch with channels: [N,C] or [N,C,H,W]. */
static inline bool want_channels(const Rule *r, int32_t i, const char *name)
{
    Type t = in_type(r, i);
    if (t.dtype == DTYPE_F32 && (t.shape.rank == 2 || t.shape.rank == 4))
        return true;
    fail(r, "%s is %s, expected f32[N,C] or f32[N,C,H,W]", name, type_name(r, t));
    note_operand(r, i, name);
    return false;
}

/* May an operand of shape s be repeated to shape `to`? (The rule at the top of ops.def.) */
static inline bool broadcasts(Shape s, Shape to, int64_t axis)
{
    if (s.rank == 0 || shape_eq(s, to))
        return true;
    if (s.rank == 1)
        return to.rank >= 2 && axis < to.rank && s.dim[0] == to.dim[axis];
    if (s.rank != to.rank)
        return false;
    for (int32_t i = 0; i < s.rank; i++) {
        if (s.dim[i] != to.dim[i] && s.dim[i] != 1)
            return false;
    }
    return true;
}

/* Which dimension of the result a rank-1 operand runs along. */
static inline int64_t axis_of(const Value *v)
{
    return ir_attr_index(v->op, A_AXIS) >= 0 ? ir_int(v, A_AXIS) : 1;
}

static inline bool want_step(const Rule *r, int32_t i, const char *name, Shape x)
{
    Type t = in_type(r, i);
    if (t.dtype == DTYPE_F32 && broadcasts(t.shape, x, axis_of(r->v)) && (t.shape.rank == 0 || !shape_eq(t.shape, x)))
        return true;
    fail(r, "%s is %s, expected an f32 scalar or one number for each channel of %s", name, type_name(r, t),
         shape_name(r, x));
    note_operand(r, i, name);
    return false;
}

#endif
