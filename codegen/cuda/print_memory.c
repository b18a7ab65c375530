/* print_memory.c: addresses, loads, stores.
 *
 * Addresses are ints where every part of them fits, else long long.
 *
 * Tested by tests/unit/test_cuda.c. */
#include <inttypes.h>

#include "codegen/cuda/print.h"

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

static int64_t column_value(const Printer *p, int32_t col, int32_t row)
{
    return p->k->seg.ints[row * p->k->seg.int_cols + col];
}

static void reach(int64_t x, double *low, double *high)
{
    *(x < 0 ? low : high) += (double)x;
}

/* May some part of it be beyond 31 bits? */
static bool is_wide(const Printer *p, const Affine *a)
{
    for (int32_t row = 0; row < p->s->n_rows; row++) {
        double low = 0, high = 0;
        reach(a->c0, &low, &high);
        if (a->seg_col >= 0)
            reach(column_value(p, a->seg_col, row), &low, &high);
        for (int32_t i = 0; i < p->k->n_axes; i++) {
            double most = (double)a->coef[i] * (double)dt_max64(0, kernel_extent(p->k, i, row) + p->s->width - 1);
            *(most < 0 ? &low : &high) += most;
        }
        if (low < INT32_MIN || high > INT32_MAX)
            return true;
    }
    return false;
}

static void put_constant(Printer *p, Str *out, int64_t x, bool wide, bool *first)
{
    uint64_t size = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    str_printf(out, "%s%" PRIu64 "%s", *first ? (x < 0 ? "-" : "") : (x < 0 ? " - " : " + "), size, wide ? "ll" : "");
    *first = false;
    (void)p;
}

static void put_term(Printer *p, Str *out, int64_t coef, int32_t axis, bool wide, bool *first)
{
    uint64_t size = coef < 0 ? 0 - (uint64_t)coef : (uint64_t)coef;
    str_add(out, *first ? (coef < 0 ? "-" : "") : (coef < 0 ? " - " : " + "));
    if (size != 1)
        str_printf(out, "%" PRIu64 "%s * ", size, wide ? "ll" : "");
    else if (wide && *first)
        str_add(out, "(long long)");
    bool moves = axis == p->s->vec && p->in_run;
    str_printf(out, moves && coef != 1 ? "(%s%s)" : "%s%s", p->axis_names[axis], moves ? " + j" : "");
    *first = false;
}

/* Without the part that is computed. */
const char *affine_text(Printer *p, const Affine *a, KVal dyn)
{
    Str  out = str_new(p->a);
    bool wide = is_wide(p, a) || dyn != KVAL_NONE, first = true;
    for (int32_t i = 0; i < p->k->n_axes; i++)
        if (a->coef[i] != 0 && !schedule_is_one(p->s, i))
            put_term(p, &out, a->coef[i], i, wide, &first);
    int64_t c0 = a->c0;
    if (a->seg_col >= 0 && p->int_fixed[a->seg_col]) {
        c0 += column_value(p, a->seg_col, 0);
    } else if (a->seg_col >= 0) {
        str_printf(&out, "%s%s", first ? "" : " + ", p->int_names[a->seg_col]);
        first = false;
    }
    if (c0 != 0 || (first && dyn == KVAL_NONE))
        put_constant(p, &out, c0, wide, &first);
    if (dyn != KVAL_NONE)
        str_printf(&out, "%s%s", first ? "" : " + ", value_of(p, dyn));
    return out.s;
}

static bool is_simple(const char *text)
{
    for (; *text; text++)
        if (*text == ' ' || *text == '-')
            return false;
    return true;
}

/* buffer + (address): of small elements, in bytes. */
static const char *pointer_to(Printer *p, const KInst *in)
{
    const char *at = affine_text(p, &in->addr, in->dyn), *name = p->buf_names[in->buf];
    int         bits = dtype_bits(p->k->bufs.at[in->buf].dtype);
    if (str_eq(at, "0"))
        return name;
    if (bits < 8)
        return arena_printf(p->a, "%s + (%s) / %d", name, at, 8 / bits);
    return arena_printf(p->a, is_simple(at) ? "%s + %s" : "%s + (%s)", name, at);
}

static DType dtype_of(const Printer *p, const KInst *in)
{
    return p->k->bufs.at[in->buf].dtype;
}

/* "count" of neighbours that are there: NULL: all. */
static const char *count_of(Printer *p, const KInst *in)
{
    const char *all = p->s->ragged ? "count" : arena_printf(p->a, "%d", p->s->width);
    if (in->guard != KVAL_NONE)
        return arena_printf(p->a, "%s ? %s : 0", value_of(p, in->guard), all);
    return p->s->ragged ? all : NULL;
}

static const char *vector_call(Printer *p, const char *how, const KInst *in, const char *array)
{
    const char *count = count_of(p, in);
    const char *name =
        arena_printf(p->a, "%s%d_%s%s", how, p->s->width, dtype_name(dtype_of(p, in)), count ? "_some" : "");
    prelude_use(p->prelude, name);
    return arena_printf(p->a, "%s(%s, %s%s%s);", name, array, pointer_to(p, in), count ? ", " : "", count ? count : "");
}

/* ---- Loads ------------------------------------------------------------------------------------------------------ */

static const char *use(Printer *p, const char *name)
{
    prelude_use(p->prelude, name);
    return name;
}

/* Elements of less than a byte. */
static const char *load_bits(Printer *p, KVal v, DType t)
{
    const KInst *in = &p->k->insts.at[v];
    const char  *get = p->s->insts[v].access == ACCESS_ATOMIC ? "get_shared_bits" : "get_bits";
    const char  *x = arena_printf(p->a, "%s(%s, %s, %d)", use(p, get), p->buf_names[in->buf],
                                  affine_text(p, &in->addr, in->dyn), dtype_bits(t));
    if (t == DTYPE_B1)
        return arena_printf(p->a, "%s != 0", x);
    return dtype_is_signed(t) ? arena_printf(p->a, "%s(%s, %d)", use(p, "sign_of_bits"), x, dtype_bits(t)) : x;
}

const char *load_of(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    DType        t = dtype_of(p, in);
    if (p->s->insts[v].access == ACCESS_VECTOR)
        return vector_call(p, "load", in, name_of(p, v));
    const char *x, *cond = in->guard != KVAL_NONE ? value_of(p, in->guard) : NULL;
    if (dtype_bits(t) < 8)
        x = load_bits(p, v, t);
    else if (p->in_final && p->s->bufs[in->buf].body_stores) /* by other threads, maybe on another processor */
        x = arena_printf(p->a, "__ldcg(%s)", pointer_to(p, in));
    else
        x = arena_printf(p->a, "%s[%s]", p->buf_names[in->buf], affine_text(p, &in->addr, in->dyn));
    if (p->in_run && p->s->ragged)
        cond = cond ? arena_printf(p->a, "j < count && %s", cond) : "j < count";
    if (!cond)
        return x;
    static const char *const zeros[] = { [KT_F32] = "0.0f", [KT_I32] = "0", [KT_U32] = "0u", [KT_BOOL] = "false" };
    return arena_printf(p->a, t == DTYPE_B1 ? "%s && %s" : "%s ? %s : %s", cond, x, zeros[in->type]);
}

/* ---- Stores ----------------------------------------------------------------------------------------------------- */

static const char *store_value(Printer *p, const KInst *in, DType t)
{
    const char *v = value_of(p, in->arg[0]);
    if (dtype_bits(t) == 32)
        return v;
    if (t == DTYPE_B1)
        return arena_printf(p->a, "%s ? 1 : 0", v);
    return arena_printf(p->a, "%s(%s, %d, %d)", use(p, "clamp"), v, (int)dtype_min(t), (int)dtype_max(t));
}

static const char *store_text(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    DType        t = dtype_of(p, in);
    const char  *x = store_value(p, in, t), *cast = ctype_of_dtype(t), *name = p->buf_names[in->buf];
    if (dtype_bits(t) < 8) {
        const char *how = p->s->insts[v].access == ACCESS_ATOMIC ? "put_shared_bits" : "put_bits";
        return arena_printf(p->a, "%s(%s, %s, %d, %s);", use(p, how), name, affine_text(p, &in->addr, in->dyn),
                            dtype_bits(t), x);
    }
    if (dtype_bits(t) == 8)
        x = arena_printf(p->a, "(%s)%s", cast, x);
    if (p->k->bufs.at[in->buf].stream)
        return arena_printf(p->a, "__stcs(%s, %s);", pointer_to(p, in), x);
    return arena_printf(p->a, "%s[%s] = %s;", name, affine_text(p, &in->addr, in->dyn), x);
}

void print_store(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    const char  *cond = in->guard != KVAL_NONE ? value_of(p, in->guard) : NULL;
    if (p->in_run && p->s->ragged)
        cond = cond ? arena_printf(p->a, "j < count && %s", cond) : "j < count";
    if (cond)
        put(p, "if (%s)", cond);
    put(p, "%s%s", cond ? "    " : "", store_text(p, v));
}

const char *vector_store_of(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    const char  *array = p->is_array[in->arg[0]] ? name_of(p, in->arg[0]) : arena_printf(p->a, "same%d", v);
    return vector_call(p, p->k->bufs.at[in->buf].stream ? "stream" : "store", in, array);
}
