/* stencil.c: kernels whose points read their neighbours: windows written out, as depthwise convolutions have them.
 *
 * Such a point loads so much along the vec axis - a row of each pixel under its window, and as much of weights - that
 * it does not stay in the first-level cache until the next point. So a unit takes a block of the vec axis and walks the
 * innermost of the outer axes itself: what one point has loaded the next ones find there. And some of these points are
 * made together (a tile): loads that they share are made once, above all those that do not depend on the axis.
 *
 * Guards cost nothing in a tile: most are comparisons that depend on the tile's axis alone, whose outcomes are computed
 * here, for each place along the axis. Comparisons that do not depend on the axis are made once for all points along
 * it; how they come out together is a variant - inside of the image, at its upper border -, and the most frequent ones
 * have tiles with code of their own.
 *
 * Where all lines are whole - there is no reduction, or its runs are whole lines -, tiles cover them from end to end,
 * in few parts - left border, inside, right border -, and lines of no variant have tiles whose loads choose their rows.
 * Else tiles cover the longest stretch over which outcomes repeat from tile to tile; points before and behind it, and
 * lines of no variant, are made one by one.
 *
 * Tested by tests/unit/test_llvm.c and test_depthwise.c. */
#include "codegen/llvm/plan.h"

enum {
    MANY_LOADS = 8, /* along the vec axis: what makes a kernel a stencil */
    BLOCK = 128,    /* elements of the vec axis */
    MOST_TILE = 4,
    FEW_REGISTERS = 8,        /* vectors of this width or less: sixteen of them */
    TILE_BUDGET = 800,        /* instructions */
    STENCIL_ACCUMULATORS = 8, /* more are many */
    FOLD_REGISTERS = 28,      /* vectors of accumulators */
    WALKED_VECTORS = 4,       /* of columns */
    MOST_VARIANTS = 5,
    VARIANT_BUDGET = 2000,
    RARE = 20, /* less than a part of this of all lines: no code of their own */
    MOST_LEAVES = 64,
    LONGEST_AXIS = 1 << 14
};

/* ---- Numbers that depend on one axis ----------------------------------------------------------------------------- */

typedef struct Eval {
    const Kernel *k;
    int32_t       axis;
    int64_t       at;
    bool          failed; /* it depends on more */
} Eval;

static int64_t floor_div(int64_t x, int64_t y)
{
    if (y == 0)
        return 0;
    int64_t q = x / y;
    return q - (x % y != 0 && (x < 0) != (y < 0));
}

static int64_t eval(Eval *e, KVal v);

static int64_t eval_index(Eval *e, const Affine *a)
{
    e->failed = e->failed || a->seg_col >= 0;
    for (int32_t i = 0; i < e->k->n_axes; i++)
        e->failed = e->failed || (i != e->axis && a->coef[i] != 0);
    return a->c0 + a->coef[e->axis] * e->at;
}

static int64_t eval_two(Eval *e, KOp op, int64_t x, int64_t y)
{
    switch (op) {
    case K_ADD:
        return x + y;
    case K_SUB:
        return x - y;
    case K_MUL:
        return x * y;
    case K_DIV:
        return floor_div(x, y);
    case K_REM:
        return x - floor_div(x, y) * y;
    case K_MIN:
        return x < y ? x : y;
    case K_MAX:
        return x > y ? x : y;
    case K_LT:
        return x < y;
    case K_LE:
        return x <= y;
    case K_GT:
        return x > y;
    case K_GE:
        return x >= y;
    case K_EQ:
        return x == y;
    case K_NE:
        return x != y;
    default:
        e->failed = true;
        return 0;
    }
}

/* An i32, or a comparison of two. */
static int64_t eval(Eval *e, KVal v)
{
    const KInst *in = &e->k->insts.at[v];
    if (in->op == K_CONST && in->type == KT_I32)
        return in->imm.i;
    if (in->op == K_INDEX)
        return eval_index(e, &in->addr);
    if (k_ops[in->op].n_args != 2 || e->k->insts.at[in->arg[0]].type != KT_I32) {
        e->failed = true;
        return 0;
    }
    int64_t x = eval(e, in->arg[0]), y = eval(e, in->arg[1]), z = eval_two(e, in->op, x, y);
    e->failed = e->failed || z < INT32_MIN || z > INT32_MAX;
    return z;
}

/* ---- Guards -------------------------------------------------------------------------------------------------------
 */

/* A condition that guards are made of, by and. */
typedef struct Leaf {
    KVal     v;
    int32_t  axis;  /* that it depends on */
    uint8_t *truth; /* [extent] */
} Leaf;

typedef struct Leaves {
    Leaf    at[MOST_LEAVES];
    int32_t n;
    bool    failed;
} Leaves;

static int32_t only_axis(uint32_t deps)
{
    int32_t axis = -1;
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++)
        if (deps >> i & 1) {
            if (axis >= 0)
                return -1;
            axis = i;
        }
    return deps >> KERNEL_MAX_AXES ? -1 : axis;
}

static void add_leaf(Arena *a, const Plan *p, Leaves *l, KVal v)
{
    Leaf    leaf = { .v = v, .axis = only_axis(p->facts[v].deps) };
    int64_t extent;
    for (int32_t i = 0; i < l->n; i++)
        if (l->at[i].v == v)
            return;
    l->failed = l->failed || l->n == MOST_LEAVES || leaf.axis < 0 || leaf.axis == p->vec ||
                !plan_extent(p, leaf.axis, &extent) || extent > LONGEST_AXIS;
    if (l->failed)
        return;
    leaf.truth = ARENA_ARRAY(a, uint8_t, extent + 1);
    for (int64_t i = 0; i < extent && !l->failed; i++) {
        Eval e = { .k = p->k, .axis = leaf.axis, .at = i };
        leaf.truth[i] = eval(&e, v) != 0;
        l->failed = e.failed;
    }
    l->at[l->n++] = leaf;
}

static void add_guard(Arena *a, const Plan *p, Leaves *l, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    if (in->op != K_AND) {
        add_leaf(a, p, l, v);
        return;
    }
    add_guard(a, p, l, in->arg[0]);
    add_guard(a, p, l, in->arg[1]);
}

/* What becomes of a guard where its leaves are what `want` says. */
static bool guard_value(const Plan *p, const Leaves *l, const bool *want, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    for (int32_t i = 0; i < l->n; i++)
        if (l->at[i].v == v)
            return want[i];
    return guard_value(p, l, want, in->arg[0]) && guard_value(p, l, want, in->arg[1]);
}

/* ---- Stretches ----------------------------------------------------------------------------------------------------
 */

static bool repeats(const Leaves *l, int32_t axis, int64_t at, int64_t period)
{
    for (int32_t i = 0; i < l->n; i++)
        if (l->at[i].axis == axis && l->at[i].truth[at] != l->at[i].truth[at + period])
            return false;
    return true;
}

/* The longest stretch of the axis over which outcomes repeat. */
static void longest_stretch(const Leaves *l, int32_t axis, int64_t extent, int64_t period, int64_t *lo, int64_t *hi)
{
    *lo = *hi = 0;
    for (int64_t from = 0; from < extent;) {
        int64_t to = dt_min64(from + period, extent);
        while (to < extent && repeats(l, axis, to - period, period))
            to++;
        if (to - from > *hi - *lo)
            *lo = from, *hi = to;
        from = dt_max64(from + 1, to - period + 1);
    }
}

/* What `n` points cost beside those that are made one by one, in tiles of so many: measured, roughly. */
static double cost_of(int64_t extent, int64_t stretch, int64_t tile)
{
    static const double of_point[MOST_TILE + 1] = { 0, 0.75, 0.55, 0.47, 0.43 };
    int64_t             covered = stretch / tile * tile;
    return (double)(extent - covered) + of_point[tile] * (double)covered;
}

/* How many times a point's body is written: vectors of a block that stand side by side, not in a loop. */
static int64_t copies_of_body(const Plan *p)
{
    return p->in_registers ? dt_ceil_div(p->block, p->width) : 1;
}

static int64_t most_tile(const Plan *p)
{
    int64_t pieces = copies_of_body(p);
    if (p->n_acc > STENCIL_ACCUMULATORS) /* registers are full of them, and no weights are shared */
        return 1;
    return dt_max64(
        1, dt_min64(p->width <= FEW_REGISTERS ? 2 : MOST_TILE, TILE_BUDGET / dt_max64(1, p->body_cost * pieces)));
}

static void choose_tile(const Plan *p, const Leaves *l, Stencil *s)
{
    int64_t extent, most = most_tile(p);
    double  best = 0;
    plan_extent(p, s->axis, &extent);
    best = (double)extent;
    for (int64_t tile = 1; tile <= most; tile++)
        for (int64_t period = 1; period <= tile; period++) {
            int64_t lo, hi;
            if (tile % period != 0)
                continue;
            longest_stretch(l, s->axis, extent, period, &lo, &hi);
            double cost = cost_of(extent, hi - lo, tile);
            if (hi - lo < tile || cost >= best)
                continue;
            best = cost;
            s->tile = (int32_t)tile;
            s->period = (int32_t)period;
            s->lo = lo;
            s->hi = lo + (hi - lo) / tile * tile;
        }
}

/* ---- Whole lines --------------------------------------------------------------------------------------------------
 */

static bool come_out_alike(const Leaves *l, int32_t axis, int64_t x, int64_t y, int64_t n)
{
    for (int32_t i = 0; i < l->n; i++)
        for (int64_t k = 0; k < n && l->at[i].axis == axis; k++)
            if (l->at[i].truth[x + k] != l->at[i].truth[y + k])
                return false;
    return true;
}

/* False: in tiles of this size a line has too many parts. */
static bool find_parts(const Leaves *l, Stencil *s, int64_t extent, int64_t tile)
{
    s->n_parts = 0;
    for (int64_t at = 0; at < extent; at += tile) {
        int64_t      size = dt_min64(tile, extent - at);
        StencilPart *last = s->n_parts > 0 ? &s->parts[s->n_parts - 1] : NULL;
        if (last && last->size == size && come_out_alike(l, s->axis, last->at, at, size)) {
            last->tiles++;
            continue;
        }
        if (s->n_parts == STENCIL_PARTS)
            return s->n_parts = 0, false;
        s->parts[s->n_parts++] = (StencilPart){ at, 1, (int32_t)size };
    }
    return s->n_parts > 0;
}

static bool choose_parts(const Plan *p, const Leaves *l, Stencil *s)
{
    int64_t extent;
    plan_extent(p, s->axis, &extent);
    if (p->in_registers || (p->kind != PLAN_MAP && p->rows[0][ROW_RUN] % extent != 0))
        return false;
    for (int64_t tile = dt_min64(most_tile(p), extent); tile > 0; tile--)
        if (find_parts(l, s, extent, tile)) {
            s->tile = (int32_t)tile;
            return true;
        }
    return false;
}

/* ---- Variants -----------------------------------------------------------------------------------------------------
 */

/* What the conditions that do not depend on the stencil's axis are together, at some places of the one axis that they
 * depend on. */
typedef struct Variant {
    int64_t at, places; /* one of these, how many */
} Variant;

/* The axis that they all depend on; -1: on several. -2: there are no such conditions. */
static int32_t cond_axis(const Leaves *l, const Stencil *s)
{
    int32_t axis = -2;
    for (int32_t i = 0; i < l->n; i++) {
        if (l->at[i].axis == s->axis)
            continue;
        if (axis != -2 && axis != l->at[i].axis)
            return -1;
        axis = l->at[i].axis;
    }
    return axis;
}

static bool same_conds(const Leaves *l, int32_t axis, int64_t x, int64_t y)
{
    for (int32_t i = 0; i < l->n; i++)
        if (l->at[i].axis == axis && l->at[i].truth[x] != l->at[i].truth[y])
            return false;
    return true;
}

/* The most frequent first. */
static int32_t find_variants(const Plan *p, const Leaves *l, int32_t axis, Variant *out, int32_t most)
{
    int64_t extent;
    int32_t n = 0;
    plan_extent(p, axis, &extent);
    for (int64_t x = 0; x < extent; x++) {
        Variant v = { x, 0 };
        bool    known = false;
        for (int64_t y = 0; y < extent && !known; y++) {
            bool same = same_conds(l, axis, x, y);
            known = same && y < x;
            v.places += same;
        }
        if (known || (n == most && out[n - 1].places >= v.places))
            continue;
        int32_t at = n < most ? n++ : n - 1;
        for (; at > 0 && out[at - 1].places < v.places; at--)
            out[at] = out[at - 1];
        out[at] = v;
    }
    while (n > 1 && out[n - 1].places * RARE < extent)
        n--;
    return n;
}

/* Instructions of the code of a variant. */
static int64_t code_of_variant(const Plan *p, const Stencil *s)
{
    int64_t points = s->n_parts > 0 ? 0 : s->tile;
    for (int32_t i = 0; i < s->n_parts; i++)
        points += s->parts[i].size;
    return p->body_cost * copies_of_body(p) * points;
}

static void settle_guard(Arena *a, const Plan *p, const Leaves *l, const Stencil *s, const Variant *found,
                         StencilGuard *guard)
{
    int32_t parts = dt_max64(1, s->n_parts), points = parts * s->tile;
    bool    want[MOST_LEAVES];
    guard->value = ARENA_ARRAY(a, bool, s->variants *points + 1);
    guard->along = ARENA_ARRAY(a, bool, points);
    for (int32_t k = 0; k < (s->variants + 1) * points; k++) {
        int32_t variant = k / points, part = k % points / s->tile, i = k % s->tile;
        if (s->n_parts > 0 && i >= s->parts[part].size)
            continue;
        int64_t at = (s->n_parts > 0 ? s->parts[part].at : s->lo) + i;
        for (int32_t j = 0; j < l->n; j++)
            want[j] = l->at[j].axis == s->axis ? l->at[j].truth[at]
                                               : variant == s->variants || l->at[j].truth[found[variant].at];
        bool value = guard_value(p, l, want, guard->v);
        if (variant < s->variants)
            guard->value[k] = value;
        else
            guard->along[k % points] = value;
    }
}

/* False: conditions depend on several axes, and lines are not whole. */
static bool settle_variants(Arena *a, const Plan *p, const Leaves *l, Stencil *s)
{
    int64_t code = code_of_variant(p, s), extent = 1;
    int32_t axis = cond_axis(l, s), most = (int32_t)dt_max64(1, dt_min64(MOST_VARIANTS, VARIANT_BUDGET / code));
    Variant found[MOST_VARIANTS] = { { 0 } };
    if (axis == -1 && s->n_parts == 0)
        return false;
    s->variants = axis == -2 ? 1 : axis == -1 ? 0 : find_variants(p, l, axis, found, most);
    if (axis >= 0)
        plan_extent(p, axis, &extent);
    for (int32_t v = 0; v < s->variants && axis >= 0; v++)
        extent -= found[v].places;
    s->others = axis == -1 || (axis >= 0 && extent > 0);
    s->conds = ARENA_ARRAY(a, StencilCond, l->n + 1);
    for (int32_t i = 0; i < l->n; i++) {
        if (l->at[i].axis == s->axis)
            continue;
        StencilCond *c = &s->conds[s->n_conds++];
        *c = (StencilCond){ l->at[i].v, ARENA_ARRAY(a, bool, s->variants + 1) };
        for (int32_t v = 0; v < s->variants; v++)
            c->value[v] = l->at[i].truth[found[v].at];
    }
    for (int32_t i = 0; i < s->n_guards; i++)
        settle_guard(a, p, l, s, found, &s->guards[i]);
    return true;
}

/* ---- Is it one? ---------------------------------------------------------------------------------------------------
 */

/* Does it load much along the vec axis, of some buffer at several places? Operands that are the same for all points
 * along the other axes are none that neighbours have, however many they are. */
static bool loads_neighbours(const Plan *p)
{
    int32_t  n = 0;
    bool     several = false;
    uint64_t seen = 0;
    for (int32_t i = 0; i < p->k->body.len; i++) {
        const KInst *in = &p->k->insts.at[p->k->body.at[i]];
        if (in->op == K_LOOP)
            return false;
        if (in->op != K_LOAD || in->addr.coef[p->vec] != 1)
            continue;
        uint64_t bit = 1ull << (in->buf & 63);
        several = several || (seen & bit) != 0;
        seen |= bit;
        n++;
    }
    return several && n >= MANY_LOADS;
}

static void find_tiles(Arena *a, const Plan *p, Stencil *s)
{
    Leaves *l = ARENA_NEW(a, Leaves);
    s->guards = ARENA_ARRAY(a, StencilGuard, p->k->body.len + 1);
    for (int32_t i = 0; i < p->k->body.len; i++) {
        const KInst *in = &p->k->insts.at[p->k->body.at[i]];
        bool         known = (in->op != K_LOAD && in->op != K_STORE) || in->guard < 0;
        for (int32_t j = 0; j < s->n_guards && !known; j++)
            known = s->guards[j].v == in->guard;
        if (known)
            continue;
        s->guards[s->n_guards++].v = in->guard;
        add_guard(a, p, l, in->guard);
    }
    if (l->failed)
        return;
    if (!choose_parts(p, l, s))
        choose_tile(p, l, s);
    if (s->tile > 0 && !settle_variants(a, p, l, s))
        s->tile = 0;
}

/* As even as whole vectors allow. */
static int64_t even_block(const Plan *p, int64_t walk, int64_t most)
{
    int64_t vectors = dt_ceil_div(walk, p->width), blocks = dt_ceil_div(walk, most);
    return dt_min64(walk, dt_ceil_div(vectors, blocks) * p->width);
}

/* Few accumulators lie in memory: they are read and written once a tile, which is little beside its body. Many stay in
 * registers. Where they are many, the columns are few; where so many that one vector of columns fills the registers,
 * the run is walked several times, each time for some of them: what a point costs beside them is then shared by several
 * vectors. */
static void choose_columns(Plan *p, int64_t walk)
{
    int64_t registers = p->width <= FEW_REGISTERS ? FOLD_REGISTERS / 2 : FOLD_REGISTERS;
    bool    stores = false;
    p->at_once = p->n_acc;
    p->in_registers = p->n_acc > STENCIL_ACCUMULATORS;
    if (!p->in_registers) {
        p->block = even_block(p, walk, BLOCK);
        return;
    }
    int64_t most = p->width * (registers / p->n_acc > 1 ? registers / p->n_acc : WALKED_VECTORS);
    p->block = even_block(p, walk, most);
    for (int32_t i = 0; i < p->k->body.len; i++)
        stores = stores || p->k->insts.at[p->k->body.at[i]].op == K_STORE;
    int64_t pieces = dt_ceil_div(p->block, p->width), walks = dt_ceil_div(p->n_acc * pieces, registers);
    if (!stores)
        p->at_once = (int32_t)dt_ceil_div(p->n_acc, walks);
}

void plan_stencil(Arena *a, Plan *p)
{
    Stencil *s = &p->stencil;
    int64_t  walk, extent;
    bool     map = p->kind == PLAN_MAP;
    int32_t  n = map ? p->n_outer : p->n_red, axis = n == 0 ? -1 : map ? p->outer[n - 1] : p->red[n - 1];
    s->axis = -1;
    p->at_once = p->n_acc;
    if (p->kind == PLAN_FOLD_LANES || p->vec < 0 || axis < 0 || p->k->seg.rows > 0 || p->width == 1 ||
        (!map && (p->lanes != 1 || n < 2)) || !plan_extent(p, p->vec, &walk) || !plan_extent(p, axis, &extent) ||
        walk == 0 || !loads_neighbours(p))
        return;
    s->axis = axis;
    p->n_outer -= map;
    if (map)
        p->block = even_block(p, walk, BLOCK);
    else
        choose_columns(p, walk);
    find_tiles(a, p, s);
}
