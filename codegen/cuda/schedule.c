/* schedule.c: from a kernel to blocks and threads.
 *
 *   MAP   four neighbours a thread where that gives accesses of 16 bytes, eight where elements are less than a byte
 *   FOLD  slots of lanes x columns threads; lanes without elements are left out (their accumulators keep the identity,
 *         which changes nothing), columns are at most 32: one line of the cache, and many tiles to be added up at once
 *
 * A block has as many slots as make 256 threads, fewer where that gives more processors something to do.
 *
 * Tested by tests/unit/test_cuda.c. */
#include "codegen/cuda/schedule.h"

enum {
    MAP_BLOCK = 256,
    FOLD_BLOCK = 256,
    WHOLE_BLOCK = 512, /* threads of a block that has all chunks of a tile */
    WARP = 32,
    MANY_BLOCKS = 128,      /* about what a large GPU has processors */
    LEAST_GRID_BLOCK = 128, /* where the last block adds up partial results, it wants threads that load them */
    LEAST_BLOCK = 64,
    MOST_COLUMNS = 32,
    SLAB_FLOATS = 6144,
    SLAB_LOADS = 8,
    SHARED_FLOATS = 10240, /* 40 KiB */
    LOADS_IN_FLIGHT = 24,
    MOST_UNROLL = 16,
    UNROLL_BUDGET = 320,
    LOOP_EXTENT = 16,
    LOOP_BUDGET = 160,
    WIDE_BUDGET = 640, /* instructions of a thread that makes several neighbours */
    PHILOX_COST = 60
};

/* ---- Numbers that all rows share -------------------------------------------------------------------------------- */

bool schedule_field(const Schedule *s, ScheduleField f, int64_t *value)
{
    *value = s->rows[0][f];
    for (int32_t row = 1; row < s->n_rows; row++)
        if (s->rows[row][f] != *value)
            return false;
    return true;
}

bool schedule_extent(const Schedule *s, int32_t axis, int64_t *extent)
{
    *extent = kernel_extent(s->k, axis, 0);
    for (int32_t row = 1; row < s->n_rows; row++)
        if (kernel_extent(s->k, axis, row) != *extent)
            return false;
    return true;
}

bool schedule_column(const Schedule *s, int32_t col, int64_t *value)
{
    const SegTable *t = &s->k->seg;
    *value = t->ints[col];
    for (int32_t row = 1; row < t->rows; row++)
        if (t->ints[row * t->int_cols + col] != *value)
            return false;
    return true;
}

bool schedule_is_one(const Schedule *s, int32_t axis)
{
    int64_t extent;
    return schedule_extent(s, axis, &extent) && extent == 1;
}

static int64_t greatest_extent(const Schedule *s, int32_t axis)
{
    int64_t most = 0;
    for (int32_t row = 0; row < s->n_rows; row++)
        most = dt_max64(most, kernel_extent(s->k, axis, row));
    return most;
}

static int64_t greatest_field(const Schedule *s, ScheduleField f)
{
    int64_t most = 0;
    for (int32_t row = 0; row < s->n_rows; row++)
        most = dt_max64(most, s->rows[row][f]);
    return most;
}

/* The least power of two that is not less than x, at least 1. */
static int64_t power_above(int64_t x)
{
    int64_t p = 1;
    while (p < x)
        p *= 2;
    return p;
}

/* ---- Costs ------------------------------------------------------------------------------------------------------ */

int64_t schedule_cost(const Schedule *s, const KRegion *region, bool unrolled)
{
    int64_t cost = 0;
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &s->k->insts.at[region->at[i]];
        int64_t      extent = 1;
        if (in->op == K_LOOP && unrolled && schedule_unrolls(s, in))
            schedule_extent(s, in->imm.i, &extent);
        cost += in->op == K_LOOP     ? extent * schedule_cost(s, &in->region, unrolled)
                : in->op == K_PHILOX ? PHILOX_COST
                                     : in->op != K_CONST && in->op != K_SEGF;
    }
    return cost;
}

bool schedule_unrolls(const Schedule *s, const KInst *loop)
{
    int64_t extent;
    return schedule_extent(s, loop->imm.i, &extent) && extent <= LOOP_EXTENT &&
           extent * schedule_cost(s, &loop->region, true) * s->width <= LOOP_BUDGET;
}

bool schedule_hoists(const Schedule *s, KVal v)
{
    const KInst *in = &s->k->insts.at[v];
    if (in->op == K_LOOP || in->op == K_STORE || kop_accumulates(in->op) || (s->insts[v].deps & DEP_LATE))
        return false;
    for (int32_t i = 0; i < s->n_red; i++)
        if (s->insts[v].deps & 1u << s->red[i])
            return false;
    for (int32_t row = 0; row < s->n_rows; row++)
        if (s->rows[row][FIELD_RED] == 0) /* it need not be allowed at all */
            return false;
    return true;
}

/* ---- What kind -------------------------------------------------------------------------------------------------- */

static void find_accumulators(Arena *a, Schedule *s)
{
    s->acc = ARENA_ARRAY(a, KVal, s->k->body.len + 1);
    for (int32_t i = 0; i < s->k->body.len; i++)
        if (kop_accumulates(s->k->insts.at[s->k->body.at[i]].op))
            s->acc[s->n_acc++] = s->k->body.at[i];
    s->kind = s->n_acc == 0 && s->k->final.len == 0 ? SCHEDULE_MAP : SCHEDULE_FOLD;
}

/* Axes of extent 1 stand still at 0 and take part in nothing. */
static void sort_axes(Schedule *s)
{
    const Kernel *k = s->k;
    bool          map = s->kind == SCHEDULE_MAP;
    s->vec = -1;
    if (k->vec >= 0 && !schedule_is_one(s, k->vec) && (map || k->axes[k->vec].kind == AXIS_PAR))
        s->vec = k->vec;
    for (int32_t i = 0; i < k->n_axes; i++) {
        if (k->axes[i].kind == AXIS_SEQ || schedule_is_one(s, i) || i == s->vec)
            continue;
        if (!map && k->axes[i].kind == AXIS_RED)
            s->red[s->n_red++] = i;
        else
            s->outer[s->n_outer++] = i;
    }
}

static int64_t outer_points(const Schedule *s, int32_t row)
{
    int64_t points = 1;
    for (int32_t i = 0; i < s->n_outer; i++)
        points *= kernel_extent(s->k, s->outer[i], row);
    return points;
}

static int64_t vec_extent(const Schedule *s, int32_t row)
{
    return s->vec < 0 ? 1 : kernel_extent(s->k, s->vec, row);
}

/* ---- MAP -------------------------------------------------------------------------------------------------------- */

/* Is there an access to elements of less than a byte that eight neighbours fit? */
static bool wants_bytes(const Schedule *s)
{
    for (int32_t v = 0; v < s->k->insts.len; v++) {
        const KInst *in = &s->k->insts.at[v];
        if ((in->op == K_LOAD || in->op == K_STORE) && dtype_bits(s->k->bufs.at[in->buf].dtype) < 8 &&
            schedule_aligned(s, in, 8))
            return true;
    }
    return false;
}

/* All stores must gain by it, and as many loads as not. */
static bool wants_four(const Schedule *s)
{
    int32_t gains = 0, losses = 0;
    for (int32_t v = 0; v < s->k->insts.len; v++) {
        const KInst *in = &s->k->insts.at[v];
        if ((in->op != K_LOAD && in->op != K_STORE) || !(s->insts[v].deps & 1u << s->vec))
            continue;
        bool fits = schedule_aligned(s, in, 4) && dtype_bits(s->k->bufs.at[in->buf].dtype) >= 8;
        if (!fits && in->op == K_STORE)
            return false;
        *(fits ? &gains : &losses) += 1;
    }
    return gains > 0 && gains >= losses;
}

/* Threads' places beyond the ends of rows are few. */
static bool wastes_little(const Schedule *s, int32_t width)
{
    int64_t used = 0, made = 0;
    for (int32_t row = 0; row < s->n_rows; row++) {
        used += vec_extent(s, row);
        made += dt_round_up(vec_extent(s, row), width);
    }
    return 4 * made <= 5 * used;
}

static void choose_width(Schedule *s)
{
    s->width = 1;
    if (s->kind != SCHEDULE_MAP || s->vec < 0)
        return;
    if (wants_bytes(s))
        s->width = 8;
    else if (wants_four(s) && wastes_little(s, 4) && 4 * schedule_cost(s, &s->k->body, false) <= WIDE_BUDGET)
        s->width = 4;
    for (int32_t row = 0; row < s->n_rows; row++)
        s->ragged = s->ragged || vec_extent(s, row) % s->width != 0;
}

static void plan_map(Schedule *s)
{
    int64_t threads = 0;
    for (int32_t row = 0; row < s->n_rows; row++) {
        s->rows[row][FIELD_WORK] = outer_points(s, row) * dt_ceil_div(vec_extent(s, row), s->width);
        threads += s->rows[row][FIELD_WORK];
    }
    s->block = MAP_BLOCK;
    while (s->block > WARP && threads < (int64_t)s->block * 2 * MANY_BLOCKS)
        s->block /= 2;
    for (int32_t row = 0; row < s->n_rows; row++)
        s->rows[row + 1][FIELD_BLOCK] = s->rows[row][FIELD_BLOCK] + dt_ceil_div(s->rows[row][FIELD_WORK], s->block);
}

/* ---- FOLD ------------------------------------------------------------------------------------------------------- */

/* The number of columns of a tile that leaves the fewest places empty, rather many than few. */
static int32_t choose_columns(const Schedule *s)
{
    if (s->vec < 0)
        return 1;
    int64_t extent = greatest_extent(s, s->vec), best = dt_min64(MOST_COLUMNS, power_above(extent));
    for (int64_t columns = best / 2; columns >= 8; columns /= 2)
        if (dt_round_up(extent, columns) < dt_round_up(extent, best))
            best = columns;
    return (int32_t)best;
}

static void measure_chunks(Schedule *s)
{
    for (int32_t row = 0; row < s->n_rows; row++) {
        int64_t *r = s->rows[row];
        r[FIELD_RED] = kernel_red_extent(s->k, row);
        r[FIELD_CHUNKS] = kernel_chunks(s->k, row);
        r[FIELD_RUN] = dt_ceil_div(r[FIELD_RED], r[FIELD_CHUNKS]);
    }
}

static void choose_slot(Schedule *s)
{
    int64_t longest = greatest_field(s, FIELD_RUN);
    s->columns = choose_columns(s);
    s->lanes = (int32_t)dt_min64(s->n_acc > 0 ? s->k->lanes : LEAST_BLOCK, power_above(longest));
    while (s->columns > 1 && s->columns * s->lanes > FOLD_BLOCK)
        s->columns /= 2;
    s->rounds = dt_ceil_div(longest, s->lanes);
    s->even = true;
    for (int32_t row = 0; row < s->n_rows; row++) {
        const int64_t *r = s->rows[row];
        s->even = s->even && r[FIELD_RED] > 0 && r[FIELD_RUN] == longest && r[FIELD_RUN] % s->lanes == 0 &&
                  r[FIELD_RED] == r[FIELD_RUN] * r[FIELD_CHUNKS];
    }
}

static int64_t count_tiles(Schedule *s)
{
    int64_t tiles = 0;
    for (int32_t row = 0; row < s->n_rows; row++) {
        s->rows[row][FIELD_WORK] = outer_points(s, row) * dt_ceil_div(vec_extent(s, row), s->columns);
        tiles += s->rows[row][FIELD_WORK];
    }
    return tiles;
}

static int64_t blocks_of(const Schedule *s, int32_t row)
{
    const int64_t *r = s->rows[row];
    switch (s->end) {
    case END_SLOT:
        return dt_ceil_div(r[FIELD_WORK], s->slots);
    case END_BLOCK:
        return r[FIELD_WORK];
    case END_GRID:
        break;
    }
    return r[FIELD_WORK] * dt_ceil_div(r[FIELD_CHUNKS], s->slots);
}

static int64_t count_blocks(const Schedule *s)
{
    int64_t blocks = 0;
    for (int32_t row = 0; row < s->n_rows; row++)
        blocks += blocks_of(s, row);
    return blocks;
}

static void choose_end(Schedule *s)
{
    int64_t slot = (int64_t)s->lanes * s->columns, tiles = count_tiles(s), chunks = greatest_field(s, FIELD_CHUNKS);
    int64_t whole = dt_max64(power_above(chunks), WARP / slot);
    bool    fits = whole * s->columns * dt_max64(1, s->n_acc) <= SHARED_FLOATS;
    s->slots = (int32_t)dt_max64(1, FOLD_BLOCK / slot);
    if (chunks == 1 || tiles == 0) {
        s->end = END_SLOT;
    } else if (whole * slot <= WHOLE_BLOCK && fits) {
        s->end = END_BLOCK;
        s->slots = (int32_t)whole;
        return;
    } else {
        s->end = END_GRID;
    }
    int64_t least = s->end == END_SLOT ? LEAST_BLOCK : LEAST_GRID_BLOCK;
    while (s->slots > 1 && s->slots * slot > least && count_blocks(s) < MANY_BLOCKS)
        s->slots /= 2;
}

/* A compiler does not know that what is updated in place lies apart from what else is: it would wait for each element.
 */
static bool updates_in_place(const Schedule *s)
{
    for (int32_t i = 0; i < s->k->bufs.len; i++)
        if (s->bufs[i].body_loads && s->bufs[i].body_stores)
            return true;
    return false;
}

/* So many elements at a time that enough loads are on their way, where they are independent. */
static void choose_unroll(Schedule *s)
{
    int64_t loads = 0, cost = dt_max64(1, schedule_cost(s, &s->k->body, true));
    for (int32_t i = 0; i < s->k->body.len; i++) {
        KVal v = s->k->body.at[i];
        loads += s->k->insts.at[v].op == K_LOAD && !schedule_hoists(s, v);
    }
    int64_t most = dt_min64(LOADS_IN_FLIGHT / dt_max64(1, loads), UNROLL_BUDGET / cost);
    s->unroll = 1;
    while (s->unroll < MOST_UNROLL && 2 * s->unroll <= dt_min64(most, s->rounds))
        s->unroll *= 2;
    s->loads_first = s->unroll > 1 && updates_in_place(s);
}

/* Numbers that a load of a partial result brings: four, where those of a chunk are so many. */
int32_t schedule_quad(const Schedule *s)
{
    return s->n_acc * s->columns % 4 == 0 ? 4 : 1;
}

/* As many chunks at a time as threads load at once, and a whole part of all chunks if there is one of about that size.
 */
static void choose_slab(Schedule *s)
{
    int64_t partial = (int64_t)s->n_acc * s->columns, load = (int64_t)s->block * schedule_quad(s), chunks;
    int64_t most = greatest_field(s, FIELD_CHUNKS), slab = dt_min64(SLAB_LOADS * load, SLAB_FLOATS) / partial;
    bool    fixed = schedule_field(s, FIELD_CHUNKS, &chunks);
    slab = dt_max64(1, dt_min64(slab, most));
    for (int64_t part = slab; fixed && part > slab / 2; part--)
        if (chunks % part == 0) {
            slab = part;
            break;
        }
    s->slab = (int32_t)slab;
    s->one_slab = most <= slab;
    s->slab_loads = (int32_t)dt_ceil_div(slab * partial, load);
    s->slab_even = fixed && chunks % slab == 0 && slab * partial % load == 0;
}

static void choose_shared(Schedule *s)
{
    int64_t slot = (int64_t)s->lanes * s->columns, floats = 0;
    if (s->lanes > 1 && slot > WARP)
        floats = dt_min64(s->n_acc, dt_max64(1, SHARED_FLOATS / s->block)) * s->block;
    if (s->end == END_BLOCK)
        floats = dt_max64(floats, (int64_t)s->n_acc * s->columns * s->slots);
    if (s->end == END_GRID && s->n_acc > 0) {
        choose_slab(s);
        floats = dt_max64(floats, (int64_t)s->slab_loads * s->block * schedule_quad(s));
    }
    s->shared_floats = (int32_t)floats;
    s->shared_bytes = (int32_t)(floats * 4 + (s->end == END_GRID ? 4 : 0));
}

static void plan_fold(Schedule *s)
{
    measure_chunks(s);
    DT_ASSERT(greatest_field(s, FIELD_RED) <= INT32_MAX, "kernel %s reduces %lld points", s->k->name,
              (long long)greatest_field(s, FIELD_RED));
    choose_slot(s);
    choose_end(s);
    choose_unroll(s);
    s->block = s->slots * s->lanes * s->columns;
    choose_shared(s);
    for (int32_t row = 0; row < s->n_rows; row++) {
        int64_t *r = s->rows[row], *next = s->rows[row + 1];
        bool     parts = s->end == END_GRID;
        r[FIELD_GROUPS] = dt_ceil_div(r[FIELD_CHUNKS], s->slots);
        next[FIELD_BLOCK] = r[FIELD_BLOCK] + blocks_of(s, row);
        next[FIELD_TICKET] = r[FIELD_TICKET] + (parts ? r[FIELD_WORK] : 0);
        next[FIELD_SCRATCH] = r[FIELD_SCRATCH] + (parts ? r[FIELD_WORK] * r[FIELD_CHUNKS] * s->n_acc * s->columns : 0);
    }
    s->tickets = (int32_t)s->rows[s->n_rows][FIELD_TICKET];
    s->scratch_bytes = s->rows[s->n_rows][FIELD_SCRATCH] * 4;
    if (s->tickets > 0) /* a kernel with tickets has both parameters */
        s->scratch_bytes = dt_max64(s->scratch_bytes, 4);
}

/* ---- All -------------------------------------------------------------------------------------------------------- */

Schedule schedule_kernel(Arena *a, const Kernel *k)
{
    Schedule s = { .k = k, .n_rows = k->seg.rows > 0 ? k->seg.rows : 1, .width = 1 };
    s.rows = ARENA_ARRAY(a, ScheduleRow, s.n_rows + 1);
    find_accumulators(a, &s);
    sort_axes(&s);
    schedule_facts(a, &s);
    choose_width(&s);
    schedule_accesses(&s);
    if (s.kind == SCHEDULE_MAP)
        plan_map(&s);
    else
        plan_fold(&s);
    s.grid =
        dt_max64(1, s.rows[s.n_rows][FIELD_BLOCK]); /* a launch has at least one block; it may find nothing to do */
    DT_ASSERT(s.grid <= INT32_MAX, "kernel %s takes %lld blocks", k->name, (long long)s.grid);
    return s;
}

/* ---- In words --------------------------------------------------------------------------------------------------- */

static void describe_fold(Str *out, const Schedule *s)
{
    int64_t chunks = greatest_field(s, FIELD_CHUNKS);
    str_printf(out, "%d slot%s a block, ", s->slots, s->slots == 1 ? "" : "s");
    if (s->columns > 1)
        str_printf(out, "each of %d columns %s x ", s->columns, s->k->axes[s->vec].name);
    else
        str_add(out, "each of ");
    str_printf(out, "%d lane%s for ", s->lanes, s->lanes == 1 ? "" : "s");
    if (chunks == 1)
        str_add(out, "a whole reduction");
    else
        str_printf(out, "a chunk of up to %lld", (long long)greatest_field(s, FIELD_RUN));
    if (s->end == END_BLOCK)
        str_add(out, "; the block adds them up");
    if (s->end == END_GRID)
        str_printf(out, ";\n *            the last of up to %lld blocks adds them up",
                   (long long)greatest_field(s, FIELD_GROUPS));
}

void schedule_describe(Str *out, const Schedule *s)
{
    str_printf(out, "%lld block%s of %d: ", (long long)s->grid, s->grid == 1 ? "" : "s", s->block);
    if (s->kind == SCHEDULE_FOLD)
        describe_fold(out, s);
    else if (s->width > 1)
        str_printf(out, "each thread %d neighbours along %s", s->width, s->k->axes[s->vec].name);
    else
        str_add(out, "each thread one point");
}
