/* plan.c: from a kernel to work units and vectors.
 *
 *   MAP           units = outer points x blocks of 4096 along the vec axis; stencils: see stencil.c
 *   FOLD_LANES    units = par points x runs;                 a run ends as n_acc scalars
 *   FOLD_COLUMNS  units = outer points x runs x blocks of <= 64 columns; a run ends as n_acc vectors of columns
 *
 * Partial results lie in the launch's scratch memory as [row][outer point][run][block][accumulator][column]; the finish
 * units are the same without the runs. With one run everywhere nothing is left for them: the kernel is fused.
 *
 * Tested by tests/unit/test_llvm.c. */
#include "codegen/llvm/plan.h"

enum {
    MAP_BLOCK = 4096,
    FOLD_BLOCK = 64,       /* columns: two to eight vectors for each accumulator */
    FOLD_LEAST_BLOCK = 16, /* one cache line */
    FOLD_BUDGET = 640,     /* instructions of a tile that keeps its accumulators in registers */
    UNROLL_EXTENT = 16,
    UNROLL_BUDGET = 160,
    TWICE_BUDGET = 32,      /* a body that a loop along the vec axis holds twice */
    TAIL_BUDGET = 48,       /* a body that is also made in widths between the full one and 1 */
    LONG_WALK = 512,        /* where single points at the end do not count, */
    LONG_RUN = 8192,        /* nor elements of a run */
    STREAM_ELEMS = 1 << 15, /* less is in the cache before long */
    MANY_STREAMS = 3,       /* more than the machine is sure to see coming (measured: up to twice as fast) */
    PREFETCH_BYTES = 2048,
    PHILOX_COST = 60,
    LEAST_VECTOR = 4
};

/* ---- Numbers that all rows share -------------------------------------------------------------------------------- */

static int32_t rows_of(const Kernel *k)
{
    return k->seg.rows > 0 ? k->seg.rows : 1;
}

bool plan_extent(const Plan *p, int32_t axis, int64_t *extent)
{
    *extent = kernel_extent(p->k, axis, 0);
    for (int32_t row = 1; row < p->n_rows; row++)
        if (kernel_extent(p->k, axis, row) != *extent)
            return false;
    return true;
}

bool plan_column(const Plan *p, int32_t col, int64_t *value)
{
    const SegTable *s = &p->k->seg;
    *value = s->ints[col];
    for (int32_t row = 1; row < s->rows; row++)
        if (s->ints[row * s->int_cols + col] != *value)
            return false;
    return true;
}

bool plan_row_field(const Plan *p, RowField field, int64_t *value)
{
    *value = p->rows[0][field];
    for (int32_t row = 1; row < p->n_rows; row++)
        if (p->rows[row][field] != *value)
            return false;
    return true;
}

int64_t plan_align_of(int64_t x)
{
    return x == 0 ? MAP_BLOCK : dt_min64(x & -x, MAP_BLOCK);
}

/* ---- Costs ------------------------------------------------------------------------------------------------------ */

static int32_t region_cost(const Plan *p, const KRegion *region);

static int32_t inst_cost(const Plan *p, const KInst *in)
{
    switch (in->op) {
    case K_CONST:
    case K_SEGF:
        return 0;
    case K_PHILOX:
        return PHILOX_COST;
    case K_LOOP: {
        int64_t extent = 1;
        if (plan_unrolls(p, in))
            plan_extent(p, in->imm.i, &extent);
        return (int32_t)extent * region_cost(p, &in->region);
    }
    default:
        return 1;
    }
}

static int32_t region_cost(const Plan *p, const KRegion *region)
{
    int32_t cost = 0;
    for (int32_t i = 0; i < region->len; i++)
        cost += inst_cost(p, &p->k->insts.at[region->at[i]]);
    return cost;
}

bool plan_unrolls(const Plan *p, const KInst *loop)
{
    int64_t extent;
    return plan_extent(p, loop->imm.i, &extent) && extent <= UNROLL_EXTENT &&
           extent * region_cost(p, &loop->region) <= UNROLL_BUDGET;
}

/* ---- Shape ------------------------------------------------------------------------------------------------------ */

static bool is_always_one(const Plan *p, int32_t axis)
{
    int64_t extent;
    return plan_extent(p, axis, &extent) && extent == 1;
}

static void find_accumulators(Arena *a, Plan *p)
{
    p->acc = ARENA_ARRAY(a, KVal, p->k->body.len + 1);
    for (int32_t i = 0; i < p->k->body.len; i++)
        if (kop_accumulates(p->k->insts.at[p->k->body.at[i]].op))
            p->acc[p->n_acc++] = p->k->body.at[i];
}

static PlanKind choose_kind(const Plan *p)
{
    const Kernel *k = p->k;
    if (p->n_acc == 0 && k->final.len == 0)
        return PLAN_MAP;
    return k->vec >= 0 && k->axes[k->vec].kind == AXIS_PAR ? PLAN_FOLD_COLUMNS : PLAN_FOLD_LANES;
}

/* Axes of extent 1 stand still at 0 and take part in nothing. */
static void sort_axes(Plan *p)
{
    const Kernel *k = p->k;
    uint32_t      listed = 0;
    int32_t       n = 0;
    p->vec = k->vec >= 0 && !is_always_one(p, k->vec) ? k->vec : -1;
    for (int32_t i = 0; i < k->n_axes; i++) {
        if (k->axes[i].kind == AXIS_SEQ || is_always_one(p, i))
            continue;
        bool folds = p->kind != PLAN_MAP && k->axes[i].kind == AXIS_RED;
        if (folds)
            p->red[p->n_red++] = i;
        else if (i != p->vec)
            p->outer[p->n_outer++] = i;
    }
    if (p->kind == PLAN_FOLD_LANES && p->n_red != 1)
        p->vec = -1; /* neighbours in a run would be no neighbours along one axis */
    for (int32_t i = 0; i < p->n_outer; i++)
        p->order[n++] = p->outer[i];
    if (p->vec >= 0)
        p->order[n++] = p->vec;
    for (int32_t i = 0; i < n; i++)
        listed |= 1u << p->order[i];
    for (int32_t i = 0; i < k->n_axes; i++)
        if (!(listed & 1u << i))
            p->order[n++] = i;
}

/* Vectors of four bits would not fill bytes. */
static bool walks_bits(const Plan *p)
{
    for (int32_t i = 0; i < p->k->insts.len; i++) {
        const KInst *in = &p->k->insts.at[i];
        if ((in->op == K_LOAD || in->op == K_STORE) && p->k->bufs.at[in->buf].dtype == DTYPE_B1 &&
            in->addr.coef[p->vec] == 1)
            return true;
    }
    return false;
}

static void choose_width(Plan *p, int32_t width)
{
    if (p->vec < 0) {
        p->width = 1;
        return;
    }
    if (width < 8 && walks_bits(p))
        width = 8;
    if (p->kind == PLAN_FOLD_LANES && width > p->lanes)
        width = p->lanes;
    p->width = width < LEAST_VECTOR ? 1 : width;
}

/* Vectors that a block of columns takes, in one run and lane. */
static int64_t pieces_of(const Plan *p, int64_t columns)
{
    int64_t pieces = columns / p->width, rest = columns % p->width;
    for (int32_t w = p->width / 2; w >= LEAST_VECTOR; w /= 2)
        pieces += (rest & w) != 0;
    return pieces + rest % LEAST_VECTOR;
}

static void choose_block(Plan *p)
{
    int64_t walk, lanes = p->lanes, most = p->body_cost > 0 ? FOLD_BUDGET / p->body_cost : FOLD_BUDGET;
    bool    fixed = plan_row_field(p, ROW_WALK, &walk);
    for (int32_t row = 1; row < p->n_rows; row++)
        walk = dt_max64(walk, p->rows[row][ROW_WALK]);
    switch (p->kind) {
    case PLAN_MAP:
        p->copies = p->width > 1 && p->body_cost <= TWICE_BUDGET ? 2 : 1;
        if (p->stencil.axis < 0)
            p->block = MAP_BLOCK;
        p->columns = 1;
        return;
    case PLAN_FOLD_LANES:
        p->block = p->columns = 1;
        p->in_registers = lanes / p->width <= most;
        return;
    case PLAN_FOLD_COLUMNS:
        if (p->stencil.axis >= 0) {
            p->columns = dt_round_up(p->block, FOLD_LEAST_BLOCK);
            return;
        }
        p->block = dt_max64(1, dt_min64(walk, FOLD_BLOCK));
        if (walk > FOLD_LEAST_BLOCK && lanes * pieces_of(p, p->block) > most)
            p->block = FOLD_LEAST_BLOCK;
        p->columns = dt_round_up(p->block, FOLD_LEAST_BLOCK);
        p->in_registers = fixed && p->vec >= 0 && lanes * pieces_of(p, p->block) <= most;
        return;
    }
}

/* ---- Streams ---------------------------------------------------------------------------------------------------- */

/* Do the points of inner loops follow each other in memory? A long vec axis does by itself; below a short one the next
 * row has to be where this one ends. */
static bool is_dense(const Plan *p, const Affine *a)
{
    if (p->vec < 0 || a->coef[p->vec] != 1)
        return false;
    bool    columns = p->kind == PLAN_FOLD_COLUMNS;
    int32_t n = columns ? p->n_red : p->n_outer, next = n == 0 ? -1 : columns ? p->red[n - 1] : p->outer[n - 1];
    int64_t walk;
    if (p->kind == PLAN_FOLD_LANES || next < 0 || !plan_row_field(p, ROW_WALK, &walk))
        return true;
    return (!columns && walk >= LONG_WALK) || a->coef[next] == walk;
}

bool plan_streams(const Plan *p, const KInst *in)
{
    const KBuf *b = &p->k->bufs.at[in->buf];
    return in->op == K_LOAD && in->dyn < 0 && in->guard < 0 && dtype_bits(b->dtype) == 32 && b->elems >= STREAM_ELEMS &&
           is_dense(p, &in->addr);
}

/* Buffers that the body reads from one end to the other. */
static int32_t count_streams(const Plan *p)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->k->bufs.len; i++) {
        bool found = false;
        for (int32_t j = 0; j < p->k->body.len && !found; j++) {
            const KInst *in = &p->k->insts.at[p->k->body.at[j]];
            found = in->op == K_LOAD && in->buf == i && plan_streams(p, in);
        }
        n += found;
    }
    return n;
}

/* ---- Rows ------------------------------------------------------------------------------------------------------- */

static void measure_row(Plan *p, int32_t row)
{
    int64_t *r = p->rows[row];
    bool     walks = p->vec >= 0 && p->kind != PLAN_FOLD_LANES;
    r[ROW_WALK] = walks ? kernel_extent(p->k, p->vec, row) : 1;
    r[ROW_RED] = p->kind == PLAN_MAP ? 1 : kernel_red_extent(p->k, row);
    r[ROW_CHUNKS] = p->kind == PLAN_MAP ? 1 : kernel_chunks(p->k, row);
    r[ROW_RUN] = dt_ceil_div(r[ROW_RED], r[ROW_CHUNKS]);
    p->fused = p->fused && r[ROW_CHUNKS] == 1;
}

static bool is_ragged(const Plan *p, int32_t row)
{
    const int64_t *r = p->rows[row];
    int64_t        rest = r[ROW_RUN] > 0 ? r[ROW_RED] % r[ROW_RUN] : 0;
    return !p->in_registers || r[ROW_RUN] % p->lanes != 0 || rest % p->lanes != 0 || r[ROW_WALK] % p->block != 0;
}

/* Points after the last whole step of `count` along the vec axis, as bits: which widths they take (any odd number:
 * singly). */
static int64_t tail_of(const Plan *p, int64_t count, int64_t walk)
{
    int64_t tail = count % (p->width * p->copies);
    return tail > 0 && p->body_cost > TAIL_BUDGET && walk >= LONG_WALK ? 1 : tail;
}

/* Of full blocks, which need not be whole steps, and of the last one. */
static int64_t tails_of(const Plan *p, int64_t walk)
{
    if (walk <= p->block)
        return tail_of(p, walk, walk);
    return tail_of(p, p->block, walk) | tail_of(p, walk % p->block, walk);
}

static void place_row(Plan *p, int32_t row)
{
    int64_t *r = p->rows[row], *next = p->rows[row + 1], points = 1;
    for (int32_t i = 0; i < p->n_outer; i++)
        points *= kernel_extent(p->k, p->outer[i], row);
    r[ROW_BLOCKS] = dt_ceil_div(r[ROW_WALK], p->block);
    int64_t finish = points * r[ROW_BLOCKS], units = finish * r[ROW_CHUNKS];
    next[ROW_UNIT0] = r[ROW_UNIT0] + units;
    next[ROW_FINISH0] = r[ROW_FINISH0] + (p->fused ? 0 : finish);
    next[ROW_SCRATCH0] = r[ROW_SCRATCH0] + (p->fused ? 0 : units * p->n_acc * p->columns);
    p->tail_bits |= tails_of(p, r[ROW_WALK]);
    p->short_runs = p->short_runs || r[ROW_RUN] < LONG_RUN;
    if (r[ROW_CHUNKS] > 1)
        p->run_align = dt_min64(p->run_align, plan_align_of(r[ROW_RUN]));
    p->ragged = p->ragged || is_ragged(p, row);
}

Plan plan_kernel(Arena *a, const Kernel *k, int32_t width)
{
    Plan p = { .k = k, .n_rows = rows_of(k), .lanes = k->lanes, .run_align = MAP_BLOCK, .fused = true, .copies = 1 };
    p.rows = ARENA_ARRAY(a, PlanRow, p.n_rows + 1);
    p.facts = plan_facts(a, k);
    find_accumulators(a, &p);
    p.kind = choose_kind(&p);
    sort_axes(&p);
    choose_width(&p, width);
    p.body_cost = region_cost(&p, &k->body);
    for (int32_t row = 0; row < p.n_rows; row++)
        measure_row(&p, row);
    plan_stencil(a, &p);
    choose_block(&p);
    p.prefetch = p.stencil.axis < 0 && count_streams(&p) >= MANY_STREAMS ? PREFETCH_BYTES : 0;
    for (int32_t row = 0; row < p.n_rows; row++)
        place_row(&p, row);
    const int64_t *end = p.rows[p.n_rows];
    p.units = end[ROW_UNIT0];
    p.finish_units = end[ROW_FINISH0];
    p.scratch_bytes = end[ROW_SCRATCH0] * (int64_t)sizeof(float);
    return p;
}
