/* emit_fold.c: reductions in the order that kernel.h states.
 *
 * One unit is one run of the red axes. Its accumulators lie in memory as [accumulator][lane][column]:
 *
 *   1. while whole tiles (lanes x columns) last: tiles, accumulators in registers, then put to memory
 *   2. what is left, one vector at a time, accumulators in memory
 *   3. the tree over lanes; lane 0 is the run's value
 *   4. the final body, if there is one run only; else a partial result in the launch's scratch memory
 *
 * FOLD_LANES has one column and vectors along lanes, FOLD_COLUMNS vectors along columns; the rest is the same code.
 * Element e of a run meets accumulator e % lanes in increasing e on every path, so widths change no bit.
 *
 * Tested by tests/unit/test_llvm.c. */
#include "codegen/llvm/emit.h"

enum { MOST_PIECES = 64, WRITTEN_OUT = 8 };

/* The run that a unit works on. */
typedef struct Run {
    LLVMValueRef unit, start, n;  /* elements start .. start + n of the flattened red axes */
    LLVMValueRef column, columns; /* first, count */
} Run;

static bool by_lanes(const Emit *e)
{
    return e->plan->kind == PLAN_FOLD_LANES;
}

/* Takes the fastest digit off a mixed-radix number. */
static LLVMValueRef take_digit(Emit *e, LLVMValueRef *flat, LLVMValueRef radix)
{
    int64_t r;
    if (e_is_const(radix, &r) && r == 1)
        return e_int(e, 0);
    LLVMValueRef digit = LLVMBuildURem(e->b, *flat, radix, "");
    *flat = LLVMBuildUDiv(e->b, *flat, radix, "");
    return digit;
}

void emit_outer(Emit *e, Point *p, LLVMValueRef flat)
{
    p->flat[GROUP_OUTER] = (AxisAt){ flat, 0, 1 };
    for (int32_t i = e->plan->n_outer - 1; i >= 0; i--) {
        int32_t      axis = e->plan->outer[i];
        LLVMValueRef at = i > 0 ? take_digit(e, &flat, emit_extent(e, axis)) : flat;
        point_set(p, axis, at, 0, 1);
    }
}

/* ---- Where the red axes stand ----------------------------------------------------------------------------------- */

/* One red axis is the flattened index itself. Several are an odometer, carried from element to element: dividing for
 * each would cost more than many a body. */
static int32_t odometer_size(const Emit *e)
{
    return e->plan->n_red > 1 ? e->plan->n_red : 0;
}

static void odometer_start(Emit *e, LLVMValueRef r, LLVMValueRef *at)
{
    for (int32_t i = odometer_size(e) - 1; i >= 0; i--)
        at[i] = i > 0 ? take_digit(e, &r, emit_extent(e, e->plan->red[i])) : r;
}

static void odometer_step(Emit *e, LLVMValueRef *at)
{
    LLVMValueRef carry = e_int(e, 1);
    for (int32_t i = odometer_size(e) - 1; i >= 0; i--) {
        LLVMValueRef next = e_add(e, at[i], carry);
        if (i == 0) {
            at[i] = next;
            break;
        }
        LLVMValueRef wraps = LLVMBuildICmp(e->b, LLVMIntEQ, next, emit_extent(e, e->plan->red[i]), "");
        at[i] = LLVMBuildSelect(e->b, wraps, e_int(e, 0), next, "");
        carry = LLVMBuildZExt(e->b, wraps, e->i64, "");
    }
}

/* Sets the red axes to element r + off; `at`: the odometer of that element. */
static void set_red(Emit *e, Point *p, LLVMValueRef r, int64_t off, int64_t align, const LLVMValueRef *at)
{
    p->flat[GROUP_RED] = (AxisAt){ r, off, align };
    if (e->plan->n_red == 1)
        point_set(p, e->plan->red[0], r, off, align);
    for (int32_t i = 0; i < odometer_size(e); i++)
        point_set(p, e->plan->red[i], at[i], 0, 1);
}

/* ---- Accumulators in memory ------------------------------------------------------------------------------------- */

static const KInst *acc_inst(const Emit *e, int32_t a)
{
    return &e->k->insts.at[e->plan->acc[a]];
}

static int64_t acc_elems(const Emit *e)
{
    return e->plan->lanes * e->plan->columns;
}

void emit_fold_prologue(Emit *e)
{
    e->acc_mem = ARENA_ARRAY(e->arena, LLVMValueRef, e->plan->n_acc + 1);
    for (int32_t a = 0; a < e->plan->n_acc; a++) {
        e->acc_mem[a] = LLVMBuildAlloca(e->b, LLVMArrayType2(e->i32, (uint64_t)acc_elems(e)), "");
        LLVMSetAlignment(e->acc_mem[a], 64);
    }
}

static LLVMValueRef acc_at(Emit *e, int32_t a, LLVMValueRef index, int64_t constant)
{
    return e_at(e, e->i32, e->acc_mem[a], index, constant);
}

/* index + constant is a multiple of width. */
static LLVMValueRef acc_read(Emit *e, int32_t a, LLVMValueRef index, int64_t constant, int32_t width)
{
    return e_load(e, e_type(e, acc_inst(e, a)->type, width), acc_at(e, a, index, constant), 4 * width);
}

static void acc_write(Emit *e, int32_t a, LLVMValueRef v, LLVMValueRef index, int64_t constant)
{
    int64_t width = e_is_vector(v) ? (int64_t)LLVMGetVectorSize(LLVMTypeOf(v)) : 1;
    e_store(e, v, acc_at(e, a, index, constant), 4 * width);
}

/* For each group of `width` elements below count: fn(index, constant). Few are written out. */
typedef void (*GroupFn)(Emit *e, int32_t a, LLVMValueRef index, int64_t constant, int32_t width, int64_t user);
static void each_group(Emit *e, int32_t a, int64_t count, int32_t width, GroupFn fn, int64_t user)
{
    if (count / width <= WRITTEN_OUT) {
        for (int64_t i = 0; i < count; i += width)
            fn(e, a, NULL, i, width, user);
        return;
    }
    Loop l;
    loop_begin(e, &l, e_int(e, 0), e_int(e, count), width, NULL, 0);
    fn(e, a, l.i, 0, width, user);
    loop_end(e, &l, NULL);
}

static void clear_group(Emit *e, int32_t a, LLVMValueRef index, int64_t constant, int32_t width, int64_t user)
{
    (void)user;
    acc_write(e, a, emit_identity(e, acc_inst(e, a), width), index, constant);
}

/* a[i] = a[i] (+) a[i + distance] */
static void join_group(Emit *e, int32_t a, LLVMValueRef index, int64_t constant, int32_t width, int64_t distance)
{
    LLVMValueRef x = acc_read(e, a, index, constant, width), y = acc_read(e, a, index, constant + distance, width);
    acc_write(e, a, emit_combine(e, acc_inst(e, a), x, y), index, constant);
}

static void clear_accumulators(Emit *e)
{
    for (int32_t a = 0; a < e->plan->n_acc; a++)
        each_group(e, a, acc_elems(e), (int32_t)dt_min64(e->plan->width, acc_elems(e)), clear_group, 0);
}

static void join_lanes(Emit *e)
{
    for (int64_t s = e->plan->lanes / 2; s > 0; s /= 2) {
        int64_t count = s * e->plan->columns;
        for (int32_t a = 0; a < e->plan->n_acc; a++)
            each_group(e, a, count, (int32_t)dt_min64(e->plan->width, count), join_group, count);
    }
}

/* ---- Step 1: tiles, accumulators in registers ------------------------------------------------------------------- */

/* Vectors that make up a tile: pieces of the columns, for each lane (FOLD_LANES: one piece, lanes in vectors). */
typedef struct Tile {
    int32_t n_pieces, widths[MOST_PIECES], lane_step;
    int64_t offsets[MOST_PIECES];
    Point   piece[MOST_PIECES]; /* what a column needs and no red axis changes */
} Tile;

static void tile_prepare(Emit *e, Tile *t, const Point *base, const Run *run)
{
    const Plan *plan = e->plan;
    if (by_lanes(e)) {
        *t = (Tile){ .n_pieces = 1, .widths = { plan->width }, .lane_step = plan->width };
        t->piece[0] = *base;
        return;
    }
    t->lane_step = 1;
    t->n_pieces = walk_pieces(plan, plan->block, MOST_PIECES, t->widths, t->offsets);
    for (int32_t i = 0; i < t->n_pieces; i++) {
        int64_t start;
        bool    first = e_is_const(run->column, &start) && start == 0;
        t->piece[i] = point_copy(e, base);
        t->piece[i].width = t->widths[i];
        point_set(&t->piece[i], plan->vec, first ? NULL : run->column, t->offsets[i], plan_align_of(plan->block));
        point_hoist(e, &t->piece[i], &e->k->body);
    }
}

/* The body for all points of a tile at element r of the run; replaced are acc, [lane groups][pieces][n_acc], and the
 * odometer `at`. */
static void tile_body(Emit *e, const Tile *t, const Point *base, LLVMValueRef r, LLVMValueRef *acc, LLVMValueRef *at)
{
    const Plan *plan = e->plan;
    int64_t     align = dt_min64(plan->run_align, plan->lanes);
    for (int32_t lane = 0; lane < plan->lanes; lane += t->lane_step) {
        Point shared = point_copy(e, base);
        set_red(e, &shared, r, lane, align, at);
        odometer_step(e, at);
        if (!by_lanes(e))
            point_hoist(e, &shared, &e->k->body);
        for (int32_t i = 0; i < t->n_pieces; i++, acc += plan->n_acc) {
            Point p = point_copy(e, &shared);
            p.width = t->widths[i];
            if (!by_lanes(e))
                p.axis[plan->vec] = t->piece[i].axis[plan->vec];
            p.known |= t->piece[i].known;
            point_inherit(e, &p, &t->piece[i]);
            for (int32_t a = 0; a < plan->n_acc; a++)
                p.acc[plan->acc[a]] = acc[a];
            emit_region(e, &p, &e->k->body);
            for (int32_t a = 0; a < plan->n_acc; a++)
                acc[a] = p.acc[plan->acc[a]];
        }
    }
}

/* Elements 0 .. end of the run, end a multiple of lanes. */
static void emit_tiles(Emit *e, const Point *base, const Run *run, LLVMValueRef end)
{
    const Plan *plan = e->plan;
    Tile       *t = ARENA_NEW(e->arena, Tile);
    tile_prepare(e, t, base, run);
    int32_t       groups = plan->lanes / t->lane_step, n = groups * t->n_pieces * plan->n_acc, i = 0;
    LLVMValueRef *acc = ARENA_ARRAY(e->arena, LLVMValueRef, n + odometer_size(e) + 1), *at = acc + n;
    odometer_start(e, run->start, at);
    for (i = 0; i < n; i++)
        acc[i] = emit_identity(e, acc_inst(e, i % plan->n_acc), t->widths[i / plan->n_acc % t->n_pieces]);
    Loop l;
    loop_begin(e, &l, e_int(e, 0), end, plan->lanes, acc, n + odometer_size(e));
    tile_body(e, t, base, e_add(e, run->start, l.i), acc, at);
    loop_end(e, &l, acc);
    for (i = 0; i < n; i++) {
        int32_t piece = i / plan->n_acc % t->n_pieces, lane = i / plan->n_acc / t->n_pieces * t->lane_step;
        acc_write(e, i % plan->n_acc, acc[i], NULL, lane * plan->columns + t->offsets[piece]);
    }
}

/* All elements of the run, by lines; accumulators so many at a time. */
static void emit_stencil_tiles(Emit *e, const Point *base, const Run *run)
{
    const Plan *plan = e->plan;
    Tile       *t = ARENA_NEW(e->arena, Tile);
    tile_prepare(e, t, base, run);
    int32_t       n = t->n_pieces * plan->n_acc;
    LLVMValueRef *acc = ARENA_ARRAY(e->arena, LLVMValueRef, n + 1), at[KERNEL_MAX_AXES];
    odometer_start(e, run->start, at);
    for (int32_t first = 0; first < plan->n_acc; first += plan->at_once) {
        for (int32_t i = 0; i < n; i++) {
            int32_t a = i % plan->n_acc;
            bool    now = a >= first && a < first + plan->at_once;
            acc[i] = now ? emit_identity(e, acc_inst(e, a), t->widths[i / plan->n_acc]) : NULL;
        }
        emit_stencil_run(e, base, t->piece, t->n_pieces, run->start, run->n, at, acc);
        for (int32_t i = 0; i < n; i++)
            if (acc[i])
                acc_write(e, i % plan->n_acc, acc[i], NULL, t->offsets[i / plan->n_acc]);
    }
}

/* ---- Step 2: accumulators in memory ----------------------------------------------------------------------------- */

void emit_acc_read(Emit *e, Point *p, LLVMValueRef index)
{
    for (int32_t a = 0; a < e->plan->n_acc; a++)
        p->acc[e->plan->acc[a]] = acc_read(e, a, index, 0, p->width);
}

void emit_acc_write(Emit *e, const Point *p, LLVMValueRef index)
{
    for (int32_t a = 0; a < e->plan->n_acc; a++)
        acc_write(e, a, p->acc[e->plan->acc[a]], index, 0);
}

/* The body at a point; accumulators at index. */
static void body_in_memory(Emit *e, Point *p, LLVMValueRef index)
{
    emit_acc_read(e, p, index);
    emit_region(e, p, &e->k->body);
    emit_acc_write(e, p, index);
}

typedef struct Steps {
    Loop         l;
    Point        p;
    LLVMValueRef at[KERNEL_MAX_AXES];
} Steps;

/* for elements from, from + width .. of the run: s->p stands there, s->l.i is the element. */
static void steps_begin(Emit *e, Steps *s, const Point *base, const Run *run, LLVMValueRef from, LLVMValueRef to,
                        int32_t width)
{
    odometer_start(e, e_add(e, run->start, from), s->at);
    loop_begin(e, &s->l, from, to, width, s->at, odometer_size(e));
    s->p = point_copy(e, base);
    s->p.width = width;
    set_red(e, &s->p, e_add(e, run->start, s->l.i), 0, dt_min64(e->plan->run_align, width), s->at);
}

static void steps_end(Emit *e, Steps *s)
{
    odometer_step(e, s->at);
    loop_end(e, &s->l, s->at);
}

/* Index of the accumulators' row of the element. */
static LLVMValueRef lane_row(Emit *e, const Steps *s)
{
    return e_mul(e, LLVMBuildAnd(e->b, s->l.i, e_int(e, e->plan->lanes - 1), ""), e->plan->columns);
}

static void emit_lane_steps(Emit *e, const Point *base, const Run *run, LLVMValueRef from, LLVMValueRef to,
                            int32_t width)
{
    Steps s;
    steps_begin(e, &s, base, run, from, to, width);
    body_in_memory(e, &s.p, lane_row(e, &s));
    steps_end(e, &s);
}

static void column_piece(Emit *e, Point *p, LLVMValueRef offset, void *row)
{
    body_in_memory(e, p, e_add(e, row, offset));
}

static void emit_rest(Emit *e, const Point *base, const Run *run, LLVMValueRef from)
{
    int32_t width = e->plan->width;
    if (by_lanes(e)) {
        if (width > 1 && (e->plan->short_runs || !e->plan->in_registers)) {
            LLVMValueRef whole = LLVMBuildAnd(e->b, run->n, e_int(e, -width), "");
            emit_lane_steps(e, base, run, from, whole, width);
            from = whole;
        }
        emit_lane_steps(e, base, run, from, run->n, 1);
        return;
    }
    Steps s;
    steps_begin(e, &s, base, run, from, run->n, 1);
    point_hoist(e, &s.p, &e->k->body);
    emit_walk(e, &s.p, run->column, run->columns, column_piece, lane_row(e, &s));
    steps_end(e, &s);
}

/* ---- Step 4: results -------------------------------------------------------------------------------------------- */

/* Index in scratch of accumulator 0, column 0 of a unit. */
static LLVMValueRef partial_of(Emit *e, LLVMValueRef unit)
{
    return e_add(e, emit_row(e, ROW_SCRATCH0), e_mul(e, unit, e->plan->n_acc * e->plan->columns));
}

static void write_partial(Emit *e, const Run *run)
{
    const Plan  *plan = e->plan;
    LLVMValueRef at = partial_of(e, run->unit);
    int32_t      width = (int32_t)dt_min64(plan->width, plan->columns);
    for (int32_t a = 0; a < plan->n_acc; a++)
        for (int64_t c = 0; c < plan->columns; c += width)
            e_store(e, acc_read(e, a, NULL, c, width), e_at(e, e->i32, e->scratch, at, a * plan->columns + c), 4);
}

static void final_from_memory(Emit *e, Point *p, LLVMValueRef offset, void *user)
{
    (void)user;
    for (int32_t a = 0; a < e->plan->n_acc; a++) {
        const KInst *in = acc_inst(e, a);
        LLVMValueRef run = acc_read(e, a, offset, 0, p->width);
        if (in->op == K_DOT) /* with one rounding a run may end at -0; a total is 0 and the run, which is 0 then */
            run = emit_combine(e, in, emit_identity(e, in, p->width), run);
        p->val[e->plan->acc[a]] = run;
    }
    emit_region(e, p, &e->k->final);
}

/* The final body at all points of a block. */
static void emit_final(Emit *e, Point *p, const Run *run, WalkFn fn, void *user)
{
    point_hoist(e, p, &e->k->final);
    if (by_lanes(e))
        fn(e, p, e_int(e, 0), user);
    else
        emit_walk(e, p, run->column, run->columns, fn, user);
}

/* ---- Units ------------------------------------------------------------------------------------------------------ */

/* Columns of block number `block`. */
static void set_columns(Emit *e, Run *run, LLVMValueRef block)
{
    int64_t walk, size = e->plan->block;
    bool    even = plan_row_field(e->plan, ROW_WALK, &walk) && walk % size == 0;
    run->column = LLVMBuildMul(e->b, block, e_int(e, size), "");
    run->columns = e_int(e, size);
    if (!even)
        run->columns = e_min_int(e, run->columns, LLVMBuildSub(e->b, emit_row(e, ROW_WALK), run->column, ""));
}

static void set_elements(Emit *e, Run *run, LLVMValueRef chunk)
{
    LLVMValueRef whole = emit_row(e, ROW_RUN);
    run->start = LLVMBuildMul(e->b, chunk, whole, "");
    int64_t red, elems;
    bool    even = plan_row_field(e->plan, ROW_RED, &red) && plan_row_field(e->plan, ROW_RUN, &elems) &&
                elems * e->plan->rows[0][ROW_CHUNKS] == red;
    run->n = whole;
    if (even)
        return;
    LLVMValueRef left = LLVMBuildSub(e->b, emit_row(e, ROW_RED), run->start, "");
    LLVMValueRef none = LLVMBuildICmp(e->b, LLVMIntSLT, left, e_int(e, 0), "");
    run->n = e_min_int(e, whole, LLVMBuildSelect(e->b, none, e_int(e, 0), left, ""));
}

/* A full block? NULL: always. */
static LLVMValueRef is_full(Emit *e, const Run *run)
{
    int64_t count;
    if (by_lanes(e) || (e_is_const(run->columns, &count) && count == e->plan->block))
        return NULL;
    return LLVMBuildICmp(e->b, LLVMIntEQ, run->columns, e_int(e, e->plan->block), "");
}

/* All elements of the run, by lines; accumulators, of one lane, in memory. */
static void emit_stencil_body(Emit *e, const Point *p, const Run *run)
{
    LLVMValueRef at[KERNEL_MAX_AXES];
    odometer_start(e, run->start, at);
    clear_accumulators(e);
    emit_stencil_columns(e, p, run->column, run->columns, run->start, run->n, at);
}

static void emit_body(Emit *e, const Point *p, const Run *run)
{
    LLVMValueRef done = e_int(e, 0);
    if (e->plan->stencil.axis >= 0 && !e->plan->in_registers) {
        emit_stencil_body(e, p, run);
        return;
    }
    if (!e->plan->in_registers) {
        clear_accumulators(e);
    } else {
        LLVMValueRef full = is_full(e, run);
        done = LLVMBuildAnd(e->b, run->n, e_int(e, -(int64_t)e->plan->lanes), "");
        If f;
        if (full) {
            clear_accumulators(e);
            if_begin(e, &f, full);
        }
        if (e->plan->stencil.axis >= 0)
            emit_stencil_tiles(e, p, run);
        else
            emit_tiles(e, p, run, done);
        if (full) {
            if_end(e, &f);
            done = LLVMBuildSelect(e->b, full, done, e_int(e, 0), "");
        }
    }
    if (e->plan->ragged)
        emit_rest(e, p, run, done);
    join_lanes(e);
}

void emit_fold_unit(Emit *e, Point *p, LLVMValueRef unit)
{
    Run          run = { .unit = unit };
    LLVMValueRef flat = unit, block = take_digit(e, &flat, emit_row(e, ROW_BLOCKS));
    LLVMValueRef chunk = take_digit(e, &flat, emit_row(e, ROW_CHUNKS));
    emit_outer(e, p, flat);
    set_columns(e, &run, block);
    set_elements(e, &run, chunk);
    point_hoist(e, p, &e->k->body);
    emit_body(e, p, &run);
    if (e->plan->fused)
        emit_final(e, p, &run, final_from_memory, NULL);
    else
        write_partial(e, &run);
}

/* The partial results that a finish unit sums up: `first` of run 0, then `stride` apart. */
typedef struct Partials {
    LLVMValueRef first, stride, chunks;
} Partials;

static void final_from_partials(Emit *e, Point *p, LLVMValueRef offset, void *user)
{
    const Plan     *plan = e->plan;
    const Partials *part = user;
    LLVMValueRef   *total = ARENA_ARRAY(e->arena, LLVMValueRef, plan->n_acc + 1);
    for (int32_t a = 0; a < plan->n_acc; a++)
        total[a] = emit_identity(e, acc_inst(e, a), p->width);
    Loop l;
    loop_begin(e, &l, e_int(e, 0), part->chunks, 1, total, plan->n_acc);
    LLVMValueRef at = e_add(e, LLVMBuildMul(e->b, l.i, part->stride, ""), e_add(e, part->first, offset));
    for (int32_t a = 0; a < plan->n_acc; a++) {
        LLVMTypeRef  t = LLVMTypeOf(total[a]);
        LLVMValueRef x = e_load(e, t, e_at(e, e->i32, e->scratch, at, a * plan->columns), 4);
        total[a] = emit_combine(e, acc_inst(e, a), total[a], x);
    }
    loop_end(e, &l, total);
    for (int32_t a = 0; a < plan->n_acc; a++)
        p->val[plan->acc[a]] = total[a];
    emit_region(e, p, &e->k->final);
}

void emit_finish_unit(Emit *e, Point *p, LLVMValueRef unit)
{
    Run          run = { .unit = unit };
    LLVMValueRef flat = unit, blocks = emit_row(e, ROW_BLOCKS), block = take_digit(e, &flat, blocks);
    Partials     part = { .chunks = emit_row(e, ROW_CHUNKS) };
    emit_outer(e, p, flat);
    set_columns(e, &run, block);
    LLVMValueRef run0 = LLVMBuildMul(e->b, LLVMBuildMul(e->b, flat, part.chunks, ""), blocks, "");
    part.first = partial_of(e, e_add(e, run0, block));
    part.stride = e_mul(e, blocks, e->plan->n_acc * e->plan->columns);
    emit_final(e, p, &run, final_from_partials, &part);
}
