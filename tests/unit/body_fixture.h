/* body_fixture.h: one op as one kernel, as simple as can be: an axis a dimension, every operand in its own buffer, run
 * by the interpreter. For tests of scalar rules (ir/body*.c). */
#ifndef DETENT_TESTS_BODY_FIXTURE_H
#define DETENT_TESTS_BODY_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ir/ops_impl.h"

enum { MAX_VALUES = 32 };

typedef struct Net {
    Arena   arena;
    Diag    d;
    Builder b;
    void   *mem[MAX_VALUES]; /* of each value, in logical order */
} Net;

static inline Net net_new(void)
{
    Net n = { .arena = arena_new("test"), .d = diag_new(NULL) };
    return n;
}

/* The builder points into the Net, so it is made where the Net has come to rest. */
static inline void net_open(Net *n)
{
    n->b = (Builder){
        .g = ir_graph_new(&n->arena, "t"), .d = &n->d, .by = "test", .at = { "t.c", 1 }, .like = VALUE_NONE
    };
}

static inline void net_free(Net *n)
{
    arena_free(&n->arena);
    diag_free(&n->d);
}

static inline Type type_of(const Net *n, ValueId v)
{
    return ir_value(n->b.g, v)->type;
}
static inline int64_t elems_of(const Net *n, ValueId v)
{
    return shape_elems(type_of(n, v).shape);
}
static inline float *f32_of(const Net *n, ValueId v)
{
    return n->mem[v];
}
static inline double at(const Net *n, ValueId v, int64_t i)
{
    return elem_get(type_of(n, v).dtype, n->mem[v], i);
}

static inline void give_memory(Net *n, ValueId v)
{
    assert_true(v >= 0 && v < MAX_VALUES);
    n->mem[v] = arena_alloc(&n->arena, (size_t)dtype_bytes(type_of(n, v).dtype, elems_of(n, v)) + 16);
}

/* dims end at the first 0. */
static inline ValueId leaf(Net *n, DType dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    int64_t dim[4] = { d0, d1, d2, d3 };
    int32_t rank = 0;
    while (rank < 4 && dim[rank] > 0)
        rank++;
    Type    t = { .dtype = dtype, .shape = shape_of(rank, dim), .layout = LAYOUT_ROWS };
    ValueId v = ir_leaf(&n->b, OP_INPUT, arena_printf(&n->arena, "x%d", n->b.g->values.len), t, NULL, 0);
    give_memory(n, v);
    return v;
}

static inline ValueId uniform(Net *n, float lo, float hi, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    ValueId v = leaf(n, DTYPE_F32, d0, d1, d2, d3);
    for (int64_t i = 0; i < elems_of(n, v); i++)
        f32_of(n, v)[i] = lo + (hi - lo) * rng_uniform(5, (uint32_t)v, 0, (uint64_t)i);
    return v;
}

static inline ValueId numbers(Net *n, const float *x, int64_t count)
{
    ValueId v = leaf(n, DTYPE_F32, count, 0, 0, 0);
    memcpy(n->mem[v], x, sizeof *x * (size_t)count);
    return v;
}

static inline ValueId scalar(Net *n, float x)
{
    ValueId v = leaf(n, DTYPE_F32, 0, 0, 0, 0);
    f32_of(n, v)[0] = x;
    return v;
}

typedef struct Lower {
    Net     *n;
    Kernel  *k;
    KBuilder b;
    ValueId  v;
    Shape    space; /* one axis a dimension, in order */
    bool     kept[DT_MAX_RANK];
    int32_t  buf[8];
} Lower;

static inline KVal load_at(BodyCtx *c, int32_t i, const Coord *coord, KVal guard)
{
    Lower *l = c->user;
    Type   t = type_of(l->n, ir_value(l->n->b.g, l->v)->in[i]);
    Affine addr = affine_const(0);
    KVal   dyn = KVAL_NONE;
    for (int32_t d = 0; d < t.shape.rank; d++) {
        addr = affine_add(addr, affine_scale(coord[d].at, type_stride(t, d)));
        if (coord[d].dyn == KVAL_NONE)
            continue;
        KVal term = kb_op2(c->b, K_MUL, coord[d].dyn, kb_i32(c->b, (int32_t)type_stride(t, d)));
        dyn = dyn == KVAL_NONE ? term : kb_op2(c->b, K_ADD, dyn, term);
    }
    return kb_load_dyn(c->b, l->buf[i], addr, dyn, guard);
}

static inline int32_t seq_axis(BodyCtx *c, const char *name, int64_t extent)
{
    return kernel_add_axis(((Lower *)c->user)->k, name, extent, AXIS_SEQ);
}

/* Where an operand lies at a point of the space: scalars stand, vectors run along `axis`, the rest along its
 * dimensions. */
static inline Affine operand_at(const Lower *l, Type t)
{
    const Value *v = ir_value(l->n->b.g, l->v);
    int32_t      axis = 1;
    for (int32_t i = 0; i < ir_ops[v->op].n_attrs; i++)
        if (ir_ops[v->op].attrs[i].id == A_AXIS)
            axis = (int32_t)v->attr[i].i;
    Affine to = affine_const(0);
    if (t.shape.rank == 1 && l->space.rank > 1)
        return affine_axis(axis, 1);
    for (int32_t d = 0; d < t.shape.rank; d++)
        if (t.shape.dim[d] > 1)
            to = affine_add(to, affine_axis(d, type_stride(t, d)));
    return to;
}

/* Which dimension a reduction's rank-1 result runs along. */
static inline int32_t kept_dim(const Value *v)
{
    return ir_attr_index(v->op, A_KEEP) >= 0 && str_eq(ir_text(v, A_KEEP), "o") ? 0 : 1;
}

static inline void lower_space(Lower *l)
{
    const Value *v = ir_value(l->n->b.g, l->v);
    bool         reduce = (ir_ops[v->op].traits & T_REDUCE) != 0;
    Shape        out = v->type.shape;
    int32_t      along = kept_dim(v);
    l->space = reduce ? type_of(l->n, v->in[0]).shape : out;
    for (int32_t d = 0; d < l->space.rank; d++) {
        l->kept[d] = !reduce || (out.rank == 1 ? d == along : d < out.rank && out.dim[d] == l->space.dim[d]);
        kernel_add_axis(l->k, "d", l->space.dim[d], l->kept[d] ? AXIS_PAR : AXIS_RED);
    }
    if (reduce && out.rank == 0 && l->space.rank == 0)
        kernel_add_axis(l->k, "one", 1, AXIS_RED);
}

/* The result of v from the memory of its inputs. */
static inline void run(Net *n, ValueId v)
{
    if (v == VALUE_NONE)
        fail_msg("%s", n->d.text.s);
    const Value  *val = ir_value(n->b.g, v);
    const OpInfo *op = &ir_ops[val->op];
    Lower         l = { .n = n, .v = v, .k = kernel_new(&n->arena, "k", op->text) };
    void         *bufs[8];
    KVal          in[8], out[2] = { KVAL_NONE, KVAL_NONE };
    Coord         coord[DT_MAX_RANK];
    Affine        flat = affine_const(0);
    lower_space(&l);
    l.b = kb_new(l.k);
    give_memory(n, v);
    for (int32_t i = 0; i < val->n_in; i++) {
        Type t = type_of(n, val->in[i]);
        l.buf[i] = kernel_add_buf(l.k, "x", t.dtype, shape_elems(t.shape), BUF_IN);
        bufs[i] = n->mem[val->in[i]];
        in[i] = op->traits & T_NEST ? KVAL_NONE : kb_load(&l.b, i, operand_at(&l, t));
    }
    int32_t y = kernel_add_buf(l.k, "y", val->type.dtype, shape_elems(val->type.shape), BUF_OUT);
    bufs[y] = n->mem[v];
    for (int32_t d = 0; d < l.space.rank; d++) {
        Type rows = { .dtype = DTYPE_F32, .shape = l.space, .layout = LAYOUT_ROWS };
        coord[d] = (Coord){ affine_axis(d, 1), KVAL_NONE };
        flat = affine_add(flat, affine_axis(d, type_stride(rows, d)));
    }
    BodyCtx c = {
        .b = &l.b, .g = n->b.g, .v = v, .out = coord, .flat = flat, .user = &l, .load = load_at, .axis = seq_axis
    };
    int32_t sums = op->body(&c, op->traits & T_NEST ? NULL : in, out);
    Affine  to = operand_at(&l, val->type);
    if ((op->traits & T_REDUCE) && val->type.shape.rank == 1 && l.space.rank > 1)
        to = affine_axis(kept_dim(val), 1);
    if (op->traits & T_REDUCE) {
        KVal total[2];
        for (int32_t i = 0; i < sums; i++)
            total[i] = kb_acc(&l.b, op->acc, out[i]);
        kb_final(&l.b);
        for (int32_t i = 0; i < val->n_in; i++) {
            Type t = type_of(n, val->in[i]);
            in[i] = shape_eq(t.shape, val->type.shape) ? kb_load(&l.b, i, operand_at(&l, t)) : KVAL_NONE;
        }
        out[0] = op->final(&c, in, total);
    }
    kb_store(&l.b, y, to, out[0]);
    kernel_choose_reduction(l.k);
    if (!kernel_verify(l.k, &n->d)) {
        Str text = str_new(&n->arena);
        kernel_print(&text, l.k);
        fail_msg("%s\n%s", n->d.text.s, text.s);
    }
    kernel_interp(l.k, bufs);
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))) && !(isnan(got) && isnan(want)) && got != want)
        fail_msg("got %.9g, expected %.9g", got, want);
}

/* Runs v and compares it with `want`. */
static inline void check(Net *n, ValueId v, const float *want, double tolerance)
{
    run(n, v);
    for (int64_t i = 0; i < elems_of(n, v); i++)
        assert_near(at(n, v, i), (double)want[i], tolerance);
}

#define OPEN                                                                                                           \
    Net n = net_new();                                                                                                 \
    (void)state;                                                                                                       \
    net_open(&n)

#endif
