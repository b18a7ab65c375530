/* verify.c: every rule of kernel.h, checked.
 *
 * Three steps, each only when the one before found nothing: the declarations (axes, buffers, segments, reduction), the
 * structure (regions, scopes, types, modes), and the addresses of every segment row against the buffers' sizes. What
 * depends on data - guarded accesses and those with a computed part - is checked by the interpreter as it runs.
 *
 * A message names the instruction as it prints. Tested by tests/unit/test_kernel_ir.c (planted mistakes). */
#include <inttypes.h>
#include <string.h>

#include "ir/kernel/kernel_priv.h"

enum { MOST_LANES = 1024, MOST_ERRORS = 20 };

/* Where a value stands while the walk goes on. */
typedef enum Seen {
    SEEN_NOT,     /* not made yet */
    SEEN_VISIBLE, /* may be used */
    SEEN_PENDING, /* an accumulator whose loop is still open */
    SEEN_HIDDEN   /* its region is closed */
} Seen;

typedef struct Checker {
    const Kernel  *k;
    Diag          *d;
    Arena          scratch;
    const int32_t *number;
    Seen          *seen;
    VEC(KVal) scope; /* visible and pending values, in order of regions */
    uint32_t open;   /* axes that addresses may use here */
    int32_t  loops;  /* how many are open */
    bool     in_final;
    int32_t  errors;
} Checker;

/* ---- Messages --------------------------------------------------------------------------------------------------- */

static void        bad(Checker *c, const char *fmt, ...) DT_PRINTF(2, 3);
static void        bad_inst(Checker *c, KVal v, const char *fmt, ...) DT_PRINTF(3, 4);

static const char *kernel_label(const Checker *c)
{
    return c->k->name ? c->k->name : "?";
}

static void bad(Checker *c, const char *fmt, ...)
{
    if (c->errors++ >= MOST_ERRORS)
        return;
    va_list ap;
    va_start(ap, fmt);
    diag_error(c->d, c->k->loc, "kernel @%s: %s", kernel_label(c), arena_vprintf(&c->scratch, fmt, ap));
    va_end(ap);
}

static void bad_inst(Checker *c, KVal v, const char *fmt, ...)
{
    if (c->errors++ >= MOST_ERRORS)
        return;
    Str inst = str_new(&c->scratch);
    kernel_print_inst(&inst, c->k, c->number, v);
    va_list ap;
    va_start(ap, fmt);
    diag_error(c->d, c->k->loc, "kernel @%s: '%s' %s", kernel_label(c), inst.s, arena_vprintf(&c->scratch, fmt, ap));
    va_end(ap);
}

/* ---- Declarations ----------------------------------------------------------------------------------------------- */

static bool is_name(const char *s, bool dots)
{
    if (!s || !(*s == '_' || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
        return false;
    for (; *s; s++) {
        bool word = *s == '_' || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
        if (!word && !(dots && *s == '.'))
            return false;
    }
    return true;
}

static void check_segments(Checker *c)
{
    const SegTable *s = &c->k->seg;
    if (s->rows < 0 || s->int_cols < 0 || s->float_cols < 0)
        bad(c, "segment table of %d rows, %d and %d columns", s->rows, s->int_cols, s->float_cols);
    else if (s->rows == 0 && (s->int_cols > 0 || s->float_cols > 0))
        bad(c, "segment table has columns but no rows");
    else if ((s->int_cols > 0 && (!s->ints || !s->int_names)) || (s->float_cols > 0 && (!s->floats || !s->float_names)))
        bad(c, "segment table without its columns");
    if (c->errors)
        return;
    for (int32_t i = 0; i < s->int_cols + s->float_cols; i++) {
        const char *name = i < s->int_cols ? s->int_names[i] : s->float_names[i - s->int_cols];
        if (!is_name(name, true))
            bad(c, "segment column '%s' is not a name", name ? name : "");
    }
}

static void check_axis(Checker *c, int32_t i)
{
    const Kernel *k = c->k;
    const Axis   *x = &k->axes[i];
    if (!is_name(x->name, false) || strcmp(x->name, "seg") == 0)
        bad(c, "axis %d: '%s' is not a name", i, x->name ? x->name : "");
    for (int32_t j = 0; j < i; j++)
        if (str_eq(x->name, k->axes[j].name))
            bad(c, "two axes are named %s", x->name);
    if ((uint32_t)x->kind > AXIS_SEQ)
        bad(c, "axis %s is of no kind (%d)", x->name, x->kind);
    if (x->seg_col >= k->seg.int_cols) {
        bad(c, "axis %s takes its extent from segment column %d of %d", x->name, x->seg_col, k->seg.int_cols);
        return;
    }
    for (int32_t row = 0; row < kernel_rows(k); row++)
        if (kernel_extent(k, i, row) < 0)
            bad(c, "axis %s has extent %" PRId64, x->name, kernel_extent(k, i, row));
}

static void check_buf(Checker *c, int32_t i)
{
    const KBuf *b = &c->k->bufs.at[i];
    if (!is_name(b->name, true))
        bad(c, "buffer %d: '%s' is not a name", i, b->name ? b->name : "");
    for (int32_t j = 0; j < i; j++)
        if (str_eq(b->name, c->k->bufs.at[j].name))
            bad(c, "two buffers are named %s", b->name);
    if ((uint32_t)b->dtype >= DTYPE_COUNT || (uint32_t)b->mode > BUF_INOUT || b->elems < 0)
        bad(c, "buffer %s has type %d, mode %d and %" PRId64 " elements", b->name, b->dtype, b->mode, b->elems);
}

static void check_points(Checker *c)
{
    const Kernel *k = c->k;
    for (int32_t row = 0; row < kernel_rows(k); row++) {
        int64_t points = 1;
        for (int32_t i = 0; i < k->n_axes; i++) {
            int64_t extent = kernel_extent(k, i, row);
            if (extent > 0 && !dt_mul64(points, extent, &points)) {
                bad(c, "the axes have more points than 63 bits can count");
                return;
            }
        }
    }
}

static void check_declarations(Checker *c)
{
    const Kernel *k = c->k;
    check_segments(c);
    if (!is_name(k->name, true))
        bad(c, "'%s' is not a name", kernel_label(c));
    if (k->n_axes < 0 || k->n_axes > KERNEL_MAX_AXES)
        bad(c, "%d axes; at most %d are possible", k->n_axes, KERNEL_MAX_AXES);
    if (c->errors)
        return;
    for (int32_t i = 0; i < k->n_axes; i++)
        check_axis(c, i);
    for (int32_t i = 0; i < k->bufs.len; i++)
        check_buf(c, i);
    if (k->vec < -1 || k->vec >= k->n_axes || (k->vec >= 0 && k->axes[k->vec].kind == AXIS_SEQ))
        bad(c, "the vec axis is axis %d, which is no par or red axis", k->vec);
    if (k->core && !str_eq(k->core, "conv") && !str_eq(k->core, "gemm") && !str_eq(k->core, "depthwise"))
        bad(c, "unknown core '%s'; there are conv, gemm and depthwise", k->core);
    if (k->chunks < 1)
        bad(c, "a reduction in %" PRId64 " chunks", k->chunks);
    if (k->lanes < 1 || k->lanes > MOST_LANES || (k->lanes & (k->lanes - 1)))
        bad(c, "a reduction with %d lanes; expected a power of two up to %d", k->lanes, MOST_LANES);
    if (!c->errors)
        check_points(c);
}

/* ---- Structure -------------------------------------------------------------------------------------------------- */

static void check_use(Checker *c, KVal v, KVal used)
{
    if (!kernel_has_inst(c->k, used)) {
        bad_inst(c, v, "uses value %d, which does not exist", used);
        return;
    }
    const char *why = NULL;
    switch (c->seen[used]) {
    case SEEN_NOT:
        why = "before it is made";
        break;
    case SEEN_PENDING:
        why = c->loops ? "before its loop has ended" : "in the body, where its total is not known yet";
        break;
    case SEEN_HIDDEN:
        why = "outside the region that it belongs to";
        break;
    case SEEN_VISIBLE:
        break;
    }
    if (why)
        bad_inst(c, v, "uses %%%d %s", c->number[used], why);
}

static void check_axes_of_address(Checker *c, KVal v)
{
    const Affine *a = &c->k->insts.at[v].addr;
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++) {
        if (a->coef[i] == 0 || (c->open & (1u << i)))
            continue;
        if (i >= c->k->n_axes)
            bad_inst(c, v, "uses axis %d of %d", i, c->k->n_axes);
        else
            bad_inst(c, v, "uses the %s axis %s %s", kaxis_names[c->k->axes[i].kind], c->k->axes[i].name,
                     c->k->axes[i].kind == AXIS_RED ? "in final" : "outside its loop");
    }
    if (a->seg_col < -1 || a->seg_col >= c->k->seg.int_cols)
        bad_inst(c, v, "uses integer column %d of %d in the segment table", a->seg_col, c->k->seg.int_cols);
}

/* Points may run at the same time: a store that two of them make to one place has no one result. */
static void check_store_race(Checker *c, KVal v)
{
    const Kernel *k = c->k;
    const KInst  *in = &k->insts.at[v];
    if (in->dyn != KVAL_NONE || in->guard != KVAL_NONE)
        return;
    for (int32_t i = 0; i < k->n_axes; i++) {
        bool parallel = k->axes[i].kind == AXIS_PAR || (k->axes[i].kind == AXIS_RED && !c->in_final);
        bool several = k->axes[i].seg_col >= 0 || k->axes[i].extent > 1;
        if (parallel && several && in->addr.coef[i] == 0)
            bad_inst(c, v, "stores to one place at all points of axis %s", k->axes[i].name);
    }
    if (k->seg.rows > 1 && in->addr.seg_col < 0)
        bad_inst(c, v, "stores to one place for all segments");
}

static void check_memory(Checker *c, KVal v)
{
    const KInst *in = &c->k->insts.at[v];
    if (in->buf < 0 || in->buf >= c->k->bufs.len)
        return; /* typing says so */
    BufMode mode = c->k->bufs.at[in->buf].mode;
    if (in->op == K_LOAD && mode == BUF_OUT)
        bad_inst(c, v, "loads from an out buffer; one that is also read is inout");
    if (in->op == K_STORE && mode == BUF_IN)
        bad_inst(c, v, "stores to an in buffer");
    if (in->dyn != KVAL_NONE)
        check_use(c, v, in->dyn);
    if (in->guard != KVAL_NONE)
        check_use(c, v, in->guard);
    check_axes_of_address(c, v);
    if (in->op == K_STORE)
        check_store_race(c, v);
}

static bool has_red_axis(const Kernel *k)
{
    for (int32_t i = 0; i < k->n_axes; i++)
        if (k->axes[i].kind == AXIS_RED)
            return true;
    return false;
}

static void check_acc(Checker *c, KVal v)
{
    const KInst *in = &c->k->insts.at[v];
    if (in->imm.u > KACC_MAX)
        bad_inst(c, v, "accumulates in no known way (%d)", in->imm.i);
    if (c->loops == 0 && c->in_final)
        bad_inst(c, v, "accumulates in final outside a loop");
    else if (c->loops == 0 && !has_red_axis(c->k))
        bad_inst(c, v, "accumulates over the red axes, and there are none");
}

static void check_region(Checker *c, const KRegion *region);

static void check_loop(Checker *c, KVal v)
{
    const Kernel *k = c->k;
    const KInst  *in = &k->insts.at[v];
    int32_t       axis = in->imm.i;
    if (axis < 0 || axis >= k->n_axes) {
        bad_inst(c, v, "loops over axis %d of %d", axis, k->n_axes);
        return;
    }
    if (k->axes[axis].kind != AXIS_SEQ)
        bad_inst(c, v, "loops over the %s axis %s; only seq axes are walked by loops", kaxis_names[k->axes[axis].kind],
                 k->axes[axis].name);
    if (c->loops == KERNEL_MAX_AXES || (k->axes[axis].kind == AXIS_SEQ && (c->open & (1u << axis)))) {
        bad_inst(c, v, "is inside a loop over the same axis");
        return;
    }
    uint32_t open = c->open;
    c->open |= 1u << axis;
    c->loops++;
    check_region(c, &in->region);
    c->loops--;
    c->open = open;
}

static void check_inst(Checker *c, KVal v)
{
    const KInst *in = &c->k->insts.at[v];
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++)
        check_use(c, v, in->arg[i]);
    const char *why;
    KType       t = kernel_infer(c->k, in, &why);
    if (why)
        bad_inst(c, v, "%s", why);
    else if (t != in->type)
        bad_inst(c, v, "is marked %s but gives %s", (uint32_t)in->type <= KT_BOOL ? ktype_names[in->type] : "?",
                 ktype_names[t]);
    if (in->op == K_CONST && in->type == KT_BOOL && in->imm.u > 1)
        bad_inst(c, v, "is a bool that is neither 0 nor 1");
    if (in->op == K_SEGF && (in->imm.i < 0 || in->imm.i >= c->k->seg.float_cols))
        bad_inst(c, v, "uses float column %d of %d in the segment table", in->imm.i, c->k->seg.float_cols);
    if (in->op == K_LOAD || in->op == K_STORE)
        check_memory(c, v);
    else if (in->op == K_INDEX)
        check_axes_of_address(c, v);
    else if (kop_accumulates(in->op))
        check_acc(c, v);
}

/* Leaving a region hides what was made in it, except the totals of its accumulators. */
static void close_scope(Checker *c, int32_t mark)
{
    int32_t kept = mark;
    for (int32_t i = mark; i < c->scope.len; i++) {
        KVal v = c->scope.at[i];
        if (c->seen[v] == SEEN_PENDING) {
            c->seen[v] = SEEN_VISIBLE;
            c->scope.at[kept++] = v;
        } else {
            c->seen[v] = SEEN_HIDDEN;
        }
    }
    c->scope.len = kept;
}

static void check_region(Checker *c, const KRegion *region)
{
    int32_t mark = c->scope.len;
    for (int32_t i = 0; i < region->len; i++) {
        KVal v = region->at[i];
        if (!kernel_has_inst(c->k, v) || (uint32_t)c->k->insts.at[v].op >= K_COUNT) {
            bad(c, "a region holds instruction %d, which does not exist", v);
            continue;
        }
        if (c->seen[v] != SEEN_NOT) {
            bad_inst(c, v, "stands in two places");
            continue;
        }
        check_inst(c, v);
        c->seen[v] = kop_accumulates(c->k->insts.at[v].op) ? SEEN_PENDING : SEEN_VISIBLE;
        vec_push(&c->scratch, &c->scope, v);
        if (c->k->insts.at[v].op == K_LOOP)
            check_loop(c, v);
    }
    close_scope(c, mark);
}

static void check_structure(Checker *c)
{
    for (int32_t i = 0; i < c->k->n_axes; i++)
        if (c->k->axes[i].kind != AXIS_SEQ)
            c->open |= 1u << i;
    check_region(c, &c->k->body);
    c->in_final = true;
    for (int32_t i = 0; i < c->k->n_axes; i++)
        if (c->k->axes[i].kind == AXIS_RED)
            c->open &= ~(1u << i);
    check_region(c, &c->k->final);
}

/* ---- Bounds ----------------------------------------------------------------------------------------------------- */

/* Is there a point at all in this row for code under the axes in `open`? */
static bool row_runs(const Kernel *k, int32_t row, uint32_t open)
{
    for (int32_t i = 0; i < k->n_axes; i++)
        if ((open & (1u << i)) && kernel_extent(k, i, row) == 0)
            return false;
    return true;
}

static void check_bounds(Checker *c, KVal v, uint32_t open)
{
    const Kernel *k = c->k;
    const KInst  *in = &k->insts.at[v];
    int64_t       elems = in->op == K_INDEX ? INT32_MAX : k->bufs.at[in->buf].elems;
    bool          exact = in->op == K_INDEX || (in->dyn == KVAL_NONE && in->guard == KVAL_NONE);
    for (int32_t row = 0; row < kernel_rows(k); row++) {
        int64_t     lo = 0, hi = 0;
        AffineRange range = kernel_affine_range(k, row, &in->addr, &lo, &hi);
        if (range == RANGE_OVERFLOW)
            bad_inst(c, v, "has an address beyond 63 bits");
        if (range != RANGE_OK || !exact || !row_runs(k, row, open))
            continue;
        int64_t least = in->op == K_INDEX ? INT32_MIN : 0, most = in->op == K_INDEX ? INT32_MAX : elems - 1;
        if (lo >= least && hi <= most)
            continue;
        if (in->op == K_INDEX)
            bad_inst(c, v, "takes values %" PRId64 " to %" PRId64 ", more than an i32 holds", lo, hi);
        else
            bad_inst(c, v, "touches elements %" PRId64 " to %" PRId64 "%s; %s has %" PRId64, lo, hi,
                     k->seg.rows > 0 ? arena_printf(&c->scratch, " in segment %d", row) : "", k->bufs.at[in->buf].name,
                     elems);
        return;
    }
}

static void check_region_bounds(Checker *c, const KRegion *region, uint32_t open)
{
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &c->k->insts.at[region->at[i]];
        if (in->op == K_LOOP)
            check_region_bounds(c, &in->region, open | 1u << in->imm.i);
        else if (in->op == K_LOAD || in->op == K_STORE || in->op == K_INDEX)
            check_bounds(c, region->at[i], open);
    }
}

static void check_all_bounds(Checker *c)
{
    uint32_t par = 0, red = 0;
    for (int32_t i = 0; i < c->k->n_axes; i++) {
        par |= (uint32_t)(c->k->axes[i].kind == AXIS_PAR) << i;
        red |= (uint32_t)(c->k->axes[i].kind == AXIS_RED) << i;
    }
    check_region_bounds(c, &c->k->body, par | red);
    check_region_bounds(c, &c->k->final, par);
}

bool kernel_verify(const Kernel *k, Diag *d)
{
    Checker c = { .k = k, .d = d, .scratch = arena_new("kernel_verify") };
    c.number = kernel_numbers(&c.scratch, k);
    c.seen = ARENA_ARRAY(&c.scratch, Seen, k->insts.len + 1);
    check_declarations(&c);
    if (!c.errors)
        check_structure(&c);
    if (!c.errors)
        check_all_bounds(&c);
    arena_free(&c.scratch);
    return c.errors == 0;
}
