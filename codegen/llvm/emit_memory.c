/* emit_memory.c: addresses, loads and stores.
 *
 * Three ways through memory, for a point that is `width` points wide:
 *   uniform     the address is the same in all lanes: one scalar access
 *   contiguous  lanes are neighbours: one vector access; elements of less than a byte then fill whole bytes
 *   by lane     anything else: one scalar access for each lane
 * A guard that is the same in all lanes redirects a load to a block of zeros, so there is no branch; where the block is
 * as long as the vec axis, that is decided before the loop along it, once for all its vectors. A guard that varies
 * makes a masked access. A scalar store of less than a byte changes its bits atomically: the byte's other bits may be
 * another thread's.
 *
 * Tested by tests/unit/test_llvm.c: all element types, odd extents, guards, computed addresses. */
#include "codegen/llvm/emit.h"

/* index + constant in elements; `align`: a power of two that divides it. */
typedef struct Address {
    LLVMValueRef index; /* NULL: 0 */
    int64_t      constant, align;
} Address;

typedef struct Access {
    const KInst *in;
    const KBuf  *buf;
    LLVMValueRef base, guard, dyn; /* guard, dyn: NULL for none */
    Address      at;               /* of lane 0; a dyn that varies is not in it */
    AxisAt       along;            /* `rows`: where the vec axis stands, which `at` does not say */
    bool         rows;             /* the guard chooses between rows along the vec axis: memory's and one of zeros */
    LLVMValueRef row;              /* the one chosen, if that was done ahead */
    int64_t      step;             /* from lane to lane */
    int32_t      width, bits;
    bool         scattered; /* dyn varies */
} Access;

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

static int64_t column_align(const Emit *e, int32_t col)
{
    const SegTable *s = &e->k->seg;
    int64_t         align = plan_align_of(0);
    for (int32_t row = 0; row < s->rows; row++)
        align = dt_min64(align, plan_align_of(s->ints[row * s->int_cols + col]));
    return align;
}

/* Is the address, over these axes, a multiple of their flat number? */
static bool is_flat(const Emit *e, const Affine *a, const int32_t *axes, int32_t n)
{
    for (int32_t i = 0; i + 1 < n; i++) {
        int64_t inner;
        if (!plan_extent(e->plan, axes[i + 1], &inner) || a->coef[axes[i]] != a->coef[axes[i + 1]] * inner)
            return false;
    }
    return n > 1;
}

static void add_term(Emit *e, Address *at, const AxisAt *x, int64_t coef)
{
    at->constant += coef * x->off;
    if (coef == 0 || !x->v)
        return;
    at->index = e_add(e, at->index, e_mul(e, x->v, coef));
    at->align = dt_min64(at->align, plan_align_of(coef * x->align));
}

/* Terms of outer loops are added first, so that what does not change in a loop is one value. The axis `without` (-1:
 * none) is left out. */
static Address address_without(Emit *e, const Point *p, const Affine *a, int32_t without)
{
    const Plan *plan = e->plan;
    Address     at = { .constant = a->c0, .align = plan_align_of(0) };
    uint32_t    done = 0;
    if (a->seg_col >= 0) {
        at.index = e->seg_int[a->seg_col];
        at.align = column_align(e, a->seg_col);
    }
    for (int32_t g = 0; g < GROUP_COUNT; g++) {
        const int32_t *axes = g == GROUP_OUTER ? plan->outer : plan->red;
        int32_t        n = g == GROUP_OUTER ? plan->n_outer : plan->n_red;
        if (!is_flat(e, a, axes, n))
            continue;
        for (int32_t i = 0; i < n; i++)
            done |= 1u << axes[i];
        if (g == GROUP_OUTER)
            add_term(e, &at, &p->flat[g], a->coef[axes[n - 1]]);
    }
    for (int32_t i = 0; i < e->k->n_axes; i++)
        if (!(done & 1u << plan->order[i]) && plan->order[i] != without)
            add_term(e, &at, &p->axis[plan->order[i]], a->coef[plan->order[i]]);
    if (plan->n_red > 1 && (done & 1u << plan->red[0]))
        add_term(e, &at, &p->flat[GROUP_RED], a->coef[plan->red[plan->n_red - 1]]);
    at.align = dt_min64(at.align, plan_align_of(at.constant));
    return at;
}

static Address address_of(Emit *e, const Point *p, const Affine *a)
{
    return address_without(e, p, a, -1);
}

LLVMValueRef emit_index(Emit *e, const Point *p, const KInst *in)
{
    Address      at = address_of(e, p, &in->addr);
    LLVMValueRef whole = e_add(e, at.index, at.constant || !at.index ? e_int(e, at.constant) : NULL);
    LLVMValueRef first = LLVMBuildTrunc(e->b, whole, e->i32, "");
    int64_t      step = e->plan->vec >= 0 ? in->addr.coef[e->plan->vec] : 0;
    return p->width == 1 || step == 0 ? first : e_op(e, LLVMAdd, first, e_ramp(e, e->i32, step, p->width));
}

static Access access_of(Emit *e, const Point *p, const KInst *in)
{
    Access a = {
        .in = in, .buf = &e->k->bufs.at[in->buf], .base = e->bufs[in->buf], .at = address_of(e, p, &in->addr)
    };
    a.bits = dtype_bits(a.buf->dtype);
    a.guard = in->guard >= 0 ? p->val[in->guard] : NULL;
    int64_t always;
    if (a.guard && e_is_const(a.guard, &always) && always)
        a.guard = NULL;
    a.dyn = in->dyn >= 0 ? LLVMBuildSExt(e->b, p->val[in->dyn], e_like(e->i64, p->val[in->dyn]), "") : NULL;
    a.scattered = a.dyn && e_is_vector(a.dyn);
    a.step = e->plan->vec >= 0 ? in->addr.coef[e->plan->vec] : 0;
    a.width = a.step == 0 && !a.scattered ? 1 : p->width;
    a.rows = a.guard && !e_is_vector(a.guard) && !a.scattered && a.step == 1 && a.bits == 32 && in->op == K_LOAD &&
             e->zeros_row;
    if (a.rows) {
        a.at = address_without(e, p, &in->addr, e->plan->vec);
        a.along = p->axis[e->plan->vec];
    }
    if (a.dyn && !a.scattered) {
        a.at.index = e_add(e, a.at.index, a.dyn);
        a.at.align = 1;
    }
    return a;
}

static bool is_contiguous(const Access *a)
{
    if (a->width == 1 || a->step != 1 || a->scattered)
        return false;
    if (a->bits >= 8)
        return true;
    bool whole_bytes = a->width * a->bits % 8 == 0 && a->at.align * a->bits % 8 == 0;
    return whole_bytes && !(a->guard && e_is_vector(a->guard));
}

/* Bytes that divide the address; buffers begin at multiples of 64. */
static int64_t byte_align(const Access *a)
{
    int64_t bits = a->at.align * a->bits;
    return bits % 8 ? 1 : dt_max64(1, dt_min64(64, bits / 8));
}

static Address lane_address(Emit *e, const Access *a, int32_t lane)
{
    Address at = { a->at.index, a->at.constant + a->step * lane, 1 };
    if (a->scattered)
        at.index = e_add(e, at.index, e_lane(e, a->dyn, lane));
    return at;
}

static LLVMTypeRef cell_type(const Emit *e, const Access *a)
{
    return a->bits < 32 ? e->i8 : a->buf->dtype == DTYPE_F32 ? e->f32 : e->i32;
}

/* Address of the byte that holds the element, and the element's first bit in it. */
static LLVMValueRef byte_of(Emit *e, const Access *a, const Address *at, LLVMValueRef *shift)
{
    LLVMValueRef elem = at->index ? e_add(e, at->index, e_int(e, at->constant)) : e_int(e, at->constant);
    LLVMValueRef bit = e_mul(e, elem, a->bits);
    *shift = LLVMBuildTrunc(e->b, LLVMBuildAnd(e->b, bit, e_int(e, 7), ""), e->i8, "");
    return e_at(e, e->i8, a->base, LLVMBuildAShr(e->b, bit, e_int(e, 3), ""), 0);
}

/* Address of a vector's first byte. */
static LLVMValueRef vector_at(Emit *e, const Access *a)
{
    const Address *at = &a->at;
    if (a->bits >= 8)
        return e_at(e, cell_type(e, a), a->base, at->index, at->constant);
    LLVMValueRef shift;
    return byte_of(e, a, at, &shift);
}

/* ---- Loads ------------------------------------------------------------------------------------------------------ */

static LLVMValueRef load_tagged(Emit *e, const Access *a, LLVMTypeRef t, LLVMValueRef at, int64_t align)
{
    LLVMValueRef v = e_load(e, t, at, align);
    if (a->buf->mode == BUF_IN)
        LLVMSetMetadata(v, e->md_invariant, e->md_empty);
    return v;
}

static LLVMValueRef redirect(Emit *e, LLVMValueRef guard, LLVMValueRef at)
{
    return guard ? LLVMBuildSelect(e->b, guard, at, e->zeros, "") : at;
}

/* The guard picks the row, the vec axis goes along it. */
static LLVMValueRef row_of(Emit *e, const Access *a)
{
    return redirect(e, a->guard, e_at(e, cell_type(e, a), a->base, a->at.index, a->at.constant));
}
static LLVMValueRef row_at(Emit *e, const Access *a)
{
    return e_at(e, cell_type(e, a), a->row ? a->row : row_of(e, a), a->along.v, a->along.off);
}

static int64_t row_align(const Access *a)
{
    int64_t along = dt_min64(a->along.v ? a->along.align : plan_align_of(0), plan_align_of(a->along.off));
    return dt_max64(1, dt_min64(64, 4 * dt_min64(a->at.align, along)));
}

static LLVMValueRef extend(Emit *e, DType t, LLVMValueRef v)
{
    LLVMTypeRef to = e_like(e->i32, v);
    return dtype_is_signed(t) ? LLVMBuildSExt(e->b, v, to, "") : LLVMBuildZExt(e->b, v, to, "");
}

static LLVMValueRef load_scalar(Emit *e, const Access *a, const Address *at, LLVMValueRef guard)
{
    DType t = a->buf->dtype;
    if (a->bits >= 8) {
        LLVMTypeRef  cell = cell_type(e, a);
        LLVMValueRef from = redirect(e, guard, e_at(e, cell, a->base, at->index, at->constant));
        LLVMValueRef v = load_tagged(e, a, cell, from, a->bits / 8);
        return a->bits == 8 ? extend(e, t, v) : v;
    }
    LLVMValueRef shift, from = redirect(e, guard, byte_of(e, a, at, &shift));
    LLVMValueRef v = LLVMBuildLShr(e->b, load_tagged(e, a, e->i8, from, 1), shift, "");
    v = LLVMBuildTrunc(e->b, v, LLVMIntTypeInContext(e->ctx, (unsigned)a->bits), "");
    return t == DTYPE_B1 ? v : extend(e, t, v);
}

/* Packed elements: each byte goes to all lanes that it feeds, which shift their bits down. */
static LLVMValueRef unpack(Emit *e, const Access *a, LLVMValueRef bytes)
{
    int32_t per_byte = 8 / a->bits;
    int64_t from[64], up[64], down[64];
    bool    is_signed = dtype_is_signed(a->buf->dtype);
    for (int32_t i = 0; i < a->width; i++) {
        int32_t low = i % per_byte * a->bits;
        from[i] = i / per_byte;
        up[i] = 32 - low - a->bits;
        down[i] = is_signed ? 32 - a->bits : low;
    }
    LLVMValueRef none = LLVMGetPoison(LLVMTypeOf(bytes));
    LLVMValueRef v = LLVMBuildShuffleVector(e->b, bytes, none, e_ints(e, e->i32, from, a->width), "");
    v = LLVMBuildZExt(e->b, v, e_type(e, KT_I32, a->width), "");
    if (is_signed)
        return e_op(e, LLVMAShr, e_op(e, LLVMShl, v, e_ints(e, e->i32, up, a->width)),
                    e_ints(e, e->i32, down, a->width));
    v = e_op(e, LLVMLShr, v, e_ints(e, e->i32, down, a->width));
    return e_op(e, LLVMAnd, v, e_i32(e, (1 << a->bits) - 1));
}

static LLVMValueRef load_masked(Emit *e, const Access *a, LLVMTypeRef vector)
{
    LLVMTypeRef  types[2] = { vector, e->ptr };
    LLVMValueRef args[4] = { vector_at(e, a), e_i32(e, a->bits / 8), a->guard, LLVMConstNull(vector) };
    return e_intrinsic(e, "llvm.masked.load", types, 2, args, 4);
}

/* Once a cache line. Beyond the buffer's end it does nothing. */
static void prefetch(Emit *e, const Access *a)
{
    enum { LINE = 64 };
    if (e->plan->prefetch == 0 || !plan_streams(e->plan, a->in) || a->at.constant * a->bits / 8 % LINE != 0)
        return;
    LLVMValueRef ahead = e_at(e, e->i8, vector_at(e, a), NULL, e->plan->prefetch);
    LLVMValueRef args[4] = { ahead, e_i32(e, 0), e_i32(e, 3), e_i32(e, 1) }; /* to read, to keep, data */
    e_intrinsic(e, "llvm.prefetch", &e->ptr, 1, args, 4);
}

static LLVMValueRef load_contiguous(Emit *e, const Access *a)
{
    if (a->rows)
        return load_tagged(e, a, LLVMVectorType(cell_type(e, a), (unsigned)a->width), row_at(e, a), row_align(a));
    prefetch(e, a);
    if (a->bits >= 8) {
        LLVMTypeRef  vector = LLVMVectorType(cell_type(e, a), (unsigned)a->width);
        LLVMValueRef v = a->guard && e_is_vector(a->guard)
                             ? load_masked(e, a, vector)
                             : load_tagged(e, a, vector, redirect(e, a->guard, vector_at(e, a)), byte_align(a));
        return a->bits == 8 ? extend(e, a->buf->dtype, v) : v;
    }
    LLVMValueRef from = redirect(e, a->guard, vector_at(e, a));
    if (a->bits == 1) {
        LLVMValueRef bits = load_tagged(e, a, LLVMIntTypeInContext(e->ctx, (unsigned)a->width), from, byte_align(a));
        return LLVMBuildBitCast(e->b, bits, e_type(e, KT_BOOL, a->width), "");
    }
    LLVMTypeRef bytes = LLVMVectorType(e->i8, (unsigned)(a->width * a->bits / 8));
    return unpack(e, a, load_tagged(e, a, bytes, from, byte_align(a)));
}

static LLVMValueRef load_lanes(Emit *e, const Access *a, KType t, int32_t width)
{
    LLVMValueRef v = LLVMGetPoison(e_type(e, t, width));
    for (int32_t i = 0; i < width; i++) {
        Address      at = lane_address(e, a, i);
        LLVMValueRef one = load_scalar(e, a, &at, a->guard ? e_lane(e, a->guard, i) : NULL);
        v = LLVMBuildInsertElement(e->b, v, one, e_i32(e, i), "");
    }
    return v;
}

/* One address, a guard that varies: read where any lane wants it. */
static LLVMValueRef load_for_some(Emit *e, const Access *a)
{
    LLVMTypeRef  mask = LLVMTypeOf(a->guard);
    LLVMValueRef guard = a->guard, any = e_intrinsic(e, "llvm.vector.reduce.or", &mask, 1, &guard, 1);
    LLVMValueRef v = load_scalar(e, a, &a->at, any);
    return e_select(e, a->guard, v, LLVMConstNull(LLVMTypeOf(v)));
}

void emit_rows_ahead(Emit *e, Point *p, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &e->k->insts.at[region->at[i]];
        uint32_t     deps = e->plan->facts[region->at[i]].deps & ~(1u << e->plan->vec | (uint32_t)DEP_LATE);
        if (in->op != K_LOAD || in->guard < 0 || (deps & ~p->known) || !p->val[in->guard] ||
            (in->dyn >= 0 && !p->val[in->dyn]))
            continue;
        Access a = access_of(e, p, in);
        if (a.rows)
            p->row[region->at[i]] = row_of(e, &a);
    }
}

LLVMValueRef emit_load(Emit *e, const Point *p, KVal id)
{
    const KInst *in = &e->k->insts.at[id];
    int64_t      guard;
    if (in->guard >= 0 && e_is_const(p->val[in->guard], &guard) && !guard)
        return LLVMConstNull(e_type(e, in->type, 1));
    Access a = access_of(e, p, in);
    a.row = p->row[id];
    if (is_contiguous(&a))
        return load_contiguous(e, &a);
    if (a.rows)
        return load_tagged(e, &a, cell_type(e, &a), row_at(e, &a), 4);
    if (a.width > 1)
        return load_lanes(e, &a, in->type, a.width);
    return a.guard && e_is_vector(a.guard) ? load_for_some(e, &a) : load_scalar(e, &a, &a.at, a.guard);
}

/* ---- Stores ----------------------------------------------------------------------------------------------------- */

static LLVMValueRef clamp(Emit *e, LLVMValueRef v, const Facts *f, int64_t least, int64_t most)
{
    if (f->lo < (double)least)
        v = e_select(e, e_icmp(e, LLVMIntSLT, v, e_i32(e, least)), e_i32(e, least), v);
    if (f->hi > (double)most)
        v = e_select(e, e_icmp(e, LLVMIntSGT, v, e_i32(e, most)), e_i32(e, most), v);
    return v;
}

/* An i32 brought into the range of a small type, as i8. What was just converted from f32 is clamped there. */
static LLVMValueRef saturate(Emit *e, const Point *p, DType t, KVal id)
{
    const KInst *in = &e->k->insts.at[id];
    const Facts *f = &e->plan->facts[id];
    int64_t      least = dtype_min(t), most = dtype_max(t);
    LLVMValueRef v = p->val[id];
    if (in->op == K_CVT && e->k->insts.at[in->arg[0]].type == KT_F32 && p->val[in->arg[0]])
        v = emit_cvt_within(e, p->val[in->arg[0]], &e->plan->facts[in->arg[0]], (int32_t)least, (int32_t)most);
    else
        v = clamp(e, v, f, least, most);
    if (e->packs && dtype_bits(t) == 8) /* a clamp in front of the narrowing makes it one that saturates */
        v = clamp(e, v, &(Facts){ .lo = INT32_MIN, .hi = INT32_MAX }, least, most);
    return LLVMBuildTrunc(e->b, v, e_like(e->i8, v), "");
}

static void store_bits(Emit *e, const Access *a, const Address *at, LLVMValueRef v)
{
    LLVMAtomicOrdering order = LLVMAtomicOrderingMonotonic;
    LLVMValueRef       shift, to = byte_of(e, a, at, &shift), mask = LLVMConstInt(e->i8, (1u << a->bits) - 1, false);
    LLVMValueRef       keep = LLVMBuildNot(e->b, LLVMBuildShl(e->b, mask, shift, ""), "");
    if (a->bits == 1)
        v = LLVMBuildZExt(e->b, v, e->i8, "");
    v = LLVMBuildShl(e->b, LLVMBuildAnd(e->b, v, mask, ""), shift, "");
    LLVMBuildAtomicRMW(e->b, LLVMAtomicRMWBinOpAnd, to, keep, order, false);
    LLVMBuildAtomicRMW(e->b, LLVMAtomicRMWBinOpOr, to, v, order, false);
}

static void store_scalar(Emit *e, const Access *a, const Address *at, LLVMValueRef v, LLVMValueRef guard)
{
    If f;
    if (guard)
        if_begin(e, &f, guard);
    if (a->bits >= 8)
        e_store(e, v, e_at(e, cell_type(e, a), a->base, at->index, at->constant), a->bits / 8);
    else
        store_bits(e, a, at, v);
    if (guard)
        if_end(e, &f);
}

/* Lanes of i8 whose low bits count -> the bytes that they fill: neighbours are pairs (fours) of one wider integer. */
static LLVMValueRef pack(Emit *e, const Access *a, LLVMValueRef v)
{
    int32_t     per_byte = 8 / a->bits, n = a->width / per_byte;
    LLVMTypeRef group = LLVMVectorType(per_byte == 2 ? e->i16 : e->i32, (unsigned)n);
    v = e_op(e, LLVMAnd, v, LLVMConstInt(e->i8, (1u << a->bits) - 1, false));
    LLVMValueRef g = LLVMBuildBitCast(e->b, v, group, ""), sum = g;
    for (int32_t i = 1; i < per_byte; i++)
        sum = e_op(e, LLVMOr, sum, e_op(e, LLVMLShr, g, e_same(e, LLVMGetElementType(group), i * (8 - a->bits), g)));
    return LLVMBuildTrunc(e->b, sum, LLVMVectorType(e->i8, (unsigned)n), "");
}

/* Past the caches, where the buffer asks for it and a whole vector's address allows it. Not what is left of a row: a
 * line of which one part goes past the caches and the other does not is written twice, and slowly. */
static void store_vector(Emit *e, const Access *a, LLVMValueRef v)
{
    int64_t      align = byte_align(a), bytes = a->width * a->bits / 8;
    LLVMValueRef s = e_store(e, v, vector_at(e, a), align);
    if (a->buf->stream && bytes >= 16 && align >= bytes && a->width == e->plan->width)
        LLVMSetMetadata(s, e->md_nontemporal, e->md_one);
}

static void store_contiguous(Emit *e, const Access *a, LLVMValueRef v)
{
    v = e_splat(e, v, a->width);
    if (a->guard && e_is_vector(a->guard)) {
        LLVMTypeRef  types[2] = { LLVMTypeOf(v), e->ptr };
        LLVMValueRef args[4] = { v, vector_at(e, a), e_i32(e, a->bits / 8), a->guard };
        e_intrinsic(e, "llvm.masked.store", types, 2, args, 4);
        return;
    }
    If f;
    if (a->guard)
        if_begin(e, &f, a->guard);
    if (a->bits == 1)
        v = LLVMBuildBitCast(e->b, v, LLVMIntTypeInContext(e->ctx, (unsigned)a->width), "");
    else if (a->bits < 8)
        v = pack(e, a, v);
    store_vector(e, a, v);
    if (a->guard)
        if_end(e, &f);
}

void emit_store(Emit *e, const Point *p, KVal id)
{
    const KInst *in = &e->k->insts.at[id];
    Access       a = access_of(e, p, in);
    LLVMValueRef v = p->val[in->arg[0]];
    if (a.bits > 1 && a.bits < 32)
        v = saturate(e, p, a.buf->dtype, in->arg[0]);
    if (is_contiguous(&a)) {
        store_contiguous(e, &a, v);
        return;
    }
    /* In increasing order of lanes: where several store to one place, the last point's value stays. */
    bool varies = a.width > 1 || e_is_vector(v) || (a.guard && e_is_vector(a.guard));
    for (int32_t i = 0; i < (varies ? p->width : 1); i++) {
        Address at = lane_address(e, &a, i);
        store_scalar(e, &a, &at, e_lane(e, v, i), a.guard ? e_lane(e, a.guard, i) : NULL);
    }
}
