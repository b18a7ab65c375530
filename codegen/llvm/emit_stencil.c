/* emit_stencil.c: points that read their neighbours (stencil.c): all of a unit that differ in one axis alone, a line.
 *
 *     whole lines: for each part of the line of the line's variant, or of none
 *         for (tiles of the part)
 *             the body for all points of the tile, instruction by instruction
 *     else: for (part = 0; part < 2; part++)
 *         one by one: points before the tiles (part 0) or behind them (part 1); all of them where the line has no tiles
 *         for (tiles of the line's variant; none in part 1)
 *             the body for all points of the tile, instruction by instruction
 *
 * Instruction by instruction: the points meet a value that they share when it has just been made, and it need not wait
 * in a register. Each tile takes a loop over the vectors of the block; accumulators of a fold lie in memory then. Where
 * they are many, all vectors stand side by side and accumulators stay in registers from line to line.
 *
 * Tested by tests/unit/test_llvm.c and test_depthwise.c. */
#include "codegen/llvm/emit.h"

/* ---- One tile -----------------------------------------------------------------------------------------------------
 */

static void make_shared(Emit *e, Point *point, int32_t n, KVal id)
{
    if (!point[0].val[id])
        point[0].val[id] = emit_value(e, &point[0], id);
    for (int32_t i = 1; i < n; i++)
        point[i].val[id] = point[0].val[id];
}

static void make_at(Emit *e, Point *point, int32_t i, KVal id)
{
    const KInst  *in = &e->k->insts.at[id];
    LLVMValueRef *acc = &point[0].acc[id];
    switch (in->op) {
    case K_STORE:
        emit_store(e, &point[i], id);
        break;
    case K_ACC:
        if (*acc)
            *acc = emit_combine(e, in, *acc, point[i].val[in->arg[0]]);
        break;
    case K_DOT:
        if (*acc)
            *acc = emit_dot(e, point[i].val[in->arg[0]], point[i].val[in->arg[1]], *acc);
        break;
    default:
        if (!point[i].val[id])
            point[i].val[id] = emit_value(e, &point[i], id);
    }
}

/* Which tile: of which variant (the number of variants: of none) and part, and its points. */
typedef struct TileOf {
    int32_t variant, part, size;
} TileOf;

/* What a guard that the axis lets through says beside it. */
static LLVMValueRef guard_beside(Emit *e, const Point *p, KVal v)
{
    const KInst *in = &e->k->insts.at[v];
    bool         along = e->plan->facts[v].deps >> e->plan->stencil.axis & 1;
    if (!along && p->val[v])
        return p->val[v];
    if (in->op == K_AND)
        return LLVMBuildAnd(e->b, guard_beside(e, p, in->arg[0]), guard_beside(e, p, in->arg[1]), "");
    DT_ASSERT(along, "kernel %s: condition %d is not known in time", e->k->name, v);
    return LLVMConstInt(e->i1, true, false);
}

static LLVMValueRef guard_in(Emit *e, const Point *p, const StencilGuard *g, const TileOf *t, int32_t i)
{
    const Stencil *s = &e->plan->stencil;
    int32_t        parts = s->n_parts > 0 ? s->n_parts : 1, at = t->part * s->tile + i;
    if (t->variant == s->variants && g->along[at])
        return guard_beside(e, p, g->v);
    bool value = t->variant < s->variants && g->value[t->variant * parts * s->tile + at];
    return LLVMConstInt(e->i1, value, false);
}

/* The points of a tile, the first one at p. */
static Point *tile_points(Emit *e, const Point *p, const TileOf *t)
{
    const Stencil *s = &e->plan->stencil;
    Point         *point = ARENA_ARRAY(e->arena, Point, t->size);
    for (int32_t i = 0; i < t->size; i++) {
        point[i] = point_copy(e, p);
        point[i].axis[s->axis].off += i;
        point[i].flat[GROUP_RED].off += i;
        for (int32_t g = 0; g < s->n_guards; g++)
            point[i].val[s->guards[g].v] = guard_in(e, p, &s->guards[g], t, i);
    }
    return point;
}

/* The body at n points, changed; accumulators, which they meet one after the other, are p's. */
static void emit_tile(Emit *e, Point *p, Point *point, int32_t n)
{
    const Stencil *s = &e->plan->stencil;
    for (int32_t j = 0; j < e->k->body.len; j++) {
        KVal id = e->k->body.at[j];
        KOp  op = e->k->insts.at[id].op;
        bool apart = op == K_STORE || kop_accumulates(op) || (e->plan->facts[id].deps >> s->axis & 1);
        for (int32_t i = 0; i < n && apart; i++)
            make_at(e, point, i, id);
        if (!apart)
            make_shared(e, point, n, id);
    }
    for (int32_t a = 0; a < e->plan->n_acc; a++)
        p->acc[e->plan->acc[a]] = point[0].acc[e->plan->acc[a]];
}

/* ---- Where tiles are ----------------------------------------------------------------------------------------------
 */

static LLVMValueRef choose(Emit *e, LLVMValueRef cond, LLVMValueRef x, LLVMValueRef y)
{
    return LLVMBuildSelect(e->b, cond, x, y, "");
}

static LLVMValueRef max_int(Emit *e, LLVMValueRef x, LLVMValueRef y)
{
    return choose(e, LLVMBuildICmp(e->b, LLVMIntSGT, x, y, ""), x, y);
}

/* Are the conditions that do not depend on the axis those of the variant? */
static LLVMValueRef is_variant(Emit *e, const Point *p, int32_t variant)
{
    const Stencil *s = &e->plan->stencil;
    LLVMValueRef   all = LLVMConstInt(e->i1, true, false);
    for (int32_t i = 0; i < s->n_conds; i++) {
        LLVMValueRef v = p->val[s->conds[i].v];
        DT_ASSERT(v && !e_is_vector(v), "kernel %s: condition %d is not known in time", e->k->name, s->conds[i].v);
        all = LLVMBuildAnd(e->b, all, s->conds[i].value[variant] ? v : LLVMBuildNot(e->b, v, ""), "");
    }
    return all;
}

static LLVMValueRef has_tiles(Emit *e, const Point *p)
{
    LLVMValueRef any = LLVMConstInt(e->i1, false, false);
    for (int32_t v = 0; v < e->plan->stencil.variants; v++)
        any = LLVMBuildOr(e->b, any, is_variant(e, p, v), "");
    return any;
}

/* A line: points from .. to of the axis, tiles in lo .. hi. */
typedef struct Line {
    LLVMValueRef from, to, lo, hi;
} Line;

static LLVMValueRef round_to(Emit *e, LLVMValueRef x, int64_t step, bool up)
{
    if (step == 1)
        return x;
    if (up)
        x = e_add(e, x, e_int(e, step - 1));
    return LLVMBuildSub(e->b, x, LLVMBuildURem(e->b, x, e_int(e, step), ""), "");
}

/* Of points from .. to, of which p says all but the axis. */
static Line line_of(Emit *e, const Point *p, LLVMValueRef from, LLVMValueRef to)
{
    const Stencil *s = &e->plan->stencil;
    Line           l = { from, to, to, to };
    int64_t        constant;
    if (s->tile == 0)
        return l;
    LLVMValueRef first = e_int(e, s->lo), end = e_min_int(e, to, e_int(e, s->hi));
    if (!e_is_const(from, &constant) || constant > s->lo) {
        LLVMValueRef skipped = max_int(e, LLVMBuildSub(e->b, from, first, ""), e_int(e, 0));
        first = e_add(e, first, round_to(e, skipped, s->period, true));
    }
    LLVMValueRef covered = max_int(e, LLVMBuildSub(e->b, end, first, ""), e_int(e, 0)), tiles = has_tiles(e, p);
    covered = round_to(e, covered, s->tile, false);
    tiles = LLVMBuildAnd(e->b, tiles, LLVMBuildICmp(e->b, LLVMIntNE, covered, e_int(e, 0), ""), "");
    l.lo = choose(e, tiles, first, to);
    l.hi = choose(e, tiles, e_add(e, first, covered), to);
    return l;
}

/* ---- Lines --------------------------------------------------------------------------------------------------------
 */

/* Makes the point p, or the tile that begins there (NULL: no tile). `carried`: accumulators, which it replaces. */
typedef void (*LineFn)(Emit *e, Point *p, const TileOf *tile, LLVMValueRef *carried, void *user);

static void walk_line(Emit *e, const Point *p, int32_t variant, LLVMValueRef from, LLVMValueRef to, LLVMValueRef row,
                      LLVMValueRef *carried, int32_t n, LineFn fn, void *user)
{
    const Stencil *s = &e->plan->stencil;
    const TileOf   tile = { variant, 0, s->tile };
    Loop           l;
    loop_begin(e, &l, from, to, variant >= 0 ? s->tile : 1, carried, n);
    Point q = point_copy(e, p);
    point_set(&q, s->axis, l.i, 0, 1);
    if (row)
        q.flat[GROUP_RED] = (AxisAt){ e_add(e, row, l.i), 0, 1 };
    fn(e, &q, variant >= 0 ? &tile : NULL, carried, user);
    loop_end(e, &l, carried);
}

/* All tiles of a part. */
static void walk_part(Emit *e, const Point *p, const TileOf *tile, LLVMValueRef row, LineFn fn, void *user)
{
    const Stencil     *s = &e->plan->stencil;
    const StencilPart *part = &s->parts[tile->part];
    LLVMValueRef       from = e_int(e, part->at), to = e_int(e, part->at + part->tiles * part->size), at = from;
    Point              q = point_copy(e, p);
    Loop               l;
    if (part->tiles > 1) {
        loop_begin(e, &l, from, to, part->size, NULL, 0);
        at = l.i;
    }
    point_set(&q, s->axis, at, 0, 1);
    if (row)
        q.flat[GROUP_RED] = (AxisAt){ e_add(e, row, at), 0, 1 };
    fn(e, &q, tile, NULL, user);
    if (part->tiles > 1)
        loop_end(e, &l, NULL);
}

/* A line from end to end; nothing is carried. */
static void emit_whole_line(Emit *e, const Point *p, LLVMValueRef row, LineFn fn, void *user)
{
    const Stencil *s = &e->plan->stencil;
    for (int32_t v = 0; v < s->variants + s->others; v++) {
        bool         always = s->variants + s->others == 1;
        LLVMValueRef now = v < s->variants ? is_variant(e, p, v) : LLVMBuildNot(e->b, has_tiles(e, p), "");
        If           f;
        if (!always)
            if_begin(e, &f, now);
        for (int32_t i = 0; i < s->n_parts; i++)
            walk_part(e, p, &(TileOf){ v, i, s->parts[i].size }, row, fn, user);
        if (!always)
            if_end(e, &f);
    }
}

/* row: flat red index of point 0 of the line; NULL: it is none of red points. */
static void emit_line(Emit *e, const Point *p, Line line, LLVMValueRef row, LLVMValueRef *carried, int32_t n, LineFn fn,
                      void *user)
{
    Loop parts;
    if (e->plan->stencil.tile == 0) {
        walk_line(e, p, -1, line.from, line.to, row, carried, n, fn, user);
        return;
    }
    loop_begin(e, &parts, e_int(e, 0), e_int(e, 2), 1, carried, n);
    LLVMValueRef first = LLVMBuildICmp(e->b, LLVMIntEQ, parts.i, e_int(e, 0), "");
    LLVMValueRef from = choose(e, first, line.from, line.hi), to = choose(e, first, line.lo, line.to);
    walk_line(e, p, -1, from, to, row, carried, n, fn, user);
    for (int32_t v = 0; v < e->plan->stencil.variants; v++) {
        LLVMValueRef now = LLVMBuildAnd(e->b, first, is_variant(e, p, v), "");
        walk_line(e, p, v, choose(e, now, line.lo, line.hi), line.hi, row, carried, n, fn, user);
    }
    loop_end(e, &parts, carried);
}

/* ---- By blocks ----------------------------------------------------------------------------------------------------
 */

typedef struct Block {
    LLVMValueRef start, count; /* of the vec axis */
} Block;

/* Of a reduction, accumulators lie in memory; without one there are none. */
static void one_vector(Emit *e, Point *p, LLVMValueRef offset, void *user)
{
    (void)user;
    emit_acc_read(e, p, offset);
    emit_region(e, p, &e->k->body);
    emit_acc_write(e, p, offset);
}

typedef struct TilePoints {
    const Point *at; /* at all axes but vec */
    int32_t      n;
} TilePoints;

static void tile_vector(Emit *e, Point *p, LLVMValueRef offset, void *user)
{
    const TilePoints *t = user;
    Point            *point = ARENA_ARRAY(e->arena, Point, t->n);
    emit_acc_read(e, p, offset);
    for (int32_t i = 0; i < t->n; i++) {
        point[i] = point_copy(e, &t->at[i]);
        point[i].width = p->width;
        point[i].axis[e->plan->vec] = p->axis[e->plan->vec];
        point[i].known |= p->known;
    }
    for (int32_t a = 0; a < e->plan->n_acc; a++)
        point[0].acc[e->plan->acc[a]] = p->acc[e->plan->acc[a]];
    emit_tile(e, p, point, t->n);
    emit_acc_write(e, p, offset);
}

/* Whatever does not vary along the vec axis is made before the loop along it. */
static void block_point(Emit *e, Point *p, const TileOf *t, LLVMValueRef *carried, void *user)
{
    const Block *b = user;
    (void)carried;
    if (!t) {
        point_hoist(e, p, &e->k->body);
        emit_rows_ahead(e, p, &e->k->body);
        emit_walk(e, p, b->start, b->count, one_vector, NULL);
        return;
    }
    Point *point = tile_points(e, p, t);
    for (int32_t i = 0; i < t->size; i++) {
        point_hoist(e, &point[i], &e->k->body);
        emit_rows_ahead(e, &point[i], &e->k->body);
    }
    TilePoints tile = { point, t->size };
    emit_walk(e, p, b->start, b->count, tile_vector, &tile);
}

void emit_stencil_unit(Emit *e, Point *p, LLVMValueRef start, LLVMValueRef count)
{
    Block b = { start, count };
    if (e->plan->stencil.n_parts > 0) {
        emit_whole_line(e, p, NULL, block_point, &b);
        return;
    }
    Line line = line_of(e, p, e_int(e, 0), emit_extent(e, e->plan->stencil.axis));
    emit_line(e, p, line, NULL, NULL, 0, block_point, &b);
}

/* ---- In a fold ----------------------------------------------------------------------------------------------------
 */

typedef struct Pieces {
    const Point  *at;
    int32_t       n;
    LLVMValueRef *acc;  /* [n][n_acc]: running values; NULL: not of those that are made now */
    int32_t      *slot; /* [n][n_acc]: number among those carried */
} Pieces;

static void fold_point(Emit *e, Point *p, const TileOf *tile, LLVMValueRef *carried, void *user)
{
    const Plan   *plan = e->plan;
    const Pieces *w = user;
    if (!tile) {
        point_hoist(e, p, &e->k->body);
        emit_rows_ahead(e, p, &e->k->body);
    }
    for (int32_t i = 0; i < w->n; i++) {
        Point q = point_copy(e, p);
        q.width = w->at[i].width;
        q.axis[plan->vec] = w->at[i].axis[plan->vec];
        q.known |= w->at[i].known;
        point_inherit(e, &q, &w->at[i]);
        for (int32_t a = 0; a < plan->n_acc; a++)
            q.acc[plan->acc[a]] = w->acc[i * plan->n_acc + a] ? carried[w->slot[i * plan->n_acc + a]] : NULL;
        if (tile)
            emit_tile(e, &q, tile_points(e, &q, tile), tile->size);
        else
            emit_region(e, &q, &e->k->body);
        for (int32_t a = 0; a < plan->n_acc; a++)
            if (w->acc[i * plan->n_acc + a])
                carried[w->slot[i * plan->n_acc + a]] = q.acc[plan->acc[a]];
    }
}

/* The next line: one step of the axes that enumerate them. */
static void next_line(Emit *e, LLVMValueRef *at)
{
    const Plan  *plan = e->plan;
    LLVMValueRef carry = e_int(e, 1);
    for (int32_t i = plan->n_red - 2; i >= 0; i--) {
        LLVMValueRef next = e_add(e, at[i], carry);
        at[i] = next;
        if (i == 0)
            return;
        LLVMValueRef wraps = LLVMBuildICmp(e->b, LLVMIntEQ, next, emit_extent(e, plan->red[i]), "");
        at[i] = choose(e, wraps, e_int(e, 0), next);
        carry = LLVMBuildZExt(e->b, wraps, e->i64, "");
    }
}

/* Red points start .. start + count, line by line; `carried` holds n values and has room for the places of lines. */
static void walk_run(Emit *e, const Point *base, LLVMValueRef start, LLVMValueRef count, const LLVMValueRef *at,
                     LLVMValueRef *carried, int32_t n, LineFn fn, void *user)
{
    const Plan  *plan = e->plan;
    int32_t      lines = plan->n_red - 1;
    LLVMValueRef extent = emit_extent(e, plan->stencil.axis), first = at[lines], end = e_add(e, first, count);
    for (int32_t i = 0; i < lines; i++)
        carried[n + i] = at[i];
    /* line number l: the red points of flat index start - first + l extent + 0 .. extent, as far as the run has them */
    Loop         l;
    LLVMValueRef n_lines = LLVMBuildUDiv(e->b, e_add(e, end, LLVMBuildSub(e->b, extent, e_int(e, 1), "")), extent, "");
    n_lines = choose(e, LLVMBuildICmp(e->b, LLVMIntEQ, count, e_int(e, 0), ""), e_int(e, 0), n_lines);
    loop_begin(e, &l, e_int(e, 0), n_lines, 1, carried, n + lines);
    Point p = point_copy(e, base);
    for (int32_t i = 0; i < lines; i++)
        point_set(&p, plan->red[i], carried[n + i], 0, 1);
    point_hoist(e, &p, &e->k->body);
    LLVMValueRef before = LLVMBuildMul(e->b, l.i, extent, "");
    LLVMValueRef row = e_add(e, LLVMBuildSub(e->b, start, first, ""), before);
    if (plan->stencil.n_parts > 0) {
        emit_whole_line(e, &p, row, fn, user);
        next_line(e, carried + n);
        loop_end(e, &l, carried);
        return;
    }
    LLVMValueRef is_first = LLVMBuildICmp(e->b, LLVMIntEQ, l.i, e_int(e, 0), "");
    LLVMValueRef from = choose(e, is_first, first, e_int(e, 0));
    LLVMValueRef to = e_min_int(e, extent, LLVMBuildSub(e->b, end, before, ""));
    emit_line(e, &p, line_of(e, &p, from, to), row, carried, n, fn, user);
    next_line(e, carried + n);
    loop_end(e, &l, carried);
}

void emit_stencil_run(Emit *e, const Point *base, const Point *piece, int32_t n_pieces, LLVMValueRef start,
                      LLVMValueRef count, const LLVMValueRef *at, LLVMValueRef *acc)
{
    int32_t       most = n_pieces * e->plan->n_acc, n = 0;
    LLVMValueRef *carried = ARENA_ARRAY(e->arena, LLVMValueRef, most + e->plan->n_red);
    Pieces        w = { piece, n_pieces, acc, ARENA_ARRAY(e->arena, int32_t, most + 1) };
    for (int32_t i = 0; i < most; i++)
        if (acc[i])
            carried[w.slot[i] = n++] = acc[i];
    walk_run(e, base, start, count, at, carried, n, fold_point, &w);
    for (int32_t i = 0; i < most; i++)
        if (acc[i])
            acc[i] = carried[w.slot[i]];
}

void emit_stencil_columns(Emit *e, const Point *base, LLVMValueRef column, LLVMValueRef columns, LLVMValueRef start,
                          LLVMValueRef count, const LLVMValueRef *at)
{
    LLVMValueRef *carried = ARENA_ARRAY(e->arena, LLVMValueRef, e->plan->n_red);
    Block         b = { column, columns };
    walk_run(e, base, start, count, at, carried, 0, block_point, &b);
}
