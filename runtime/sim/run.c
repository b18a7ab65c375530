/* run.c: a launch: registers, blocks in their order, the loop over instructions, masks of control flow.
 *
 * A construct keeps the lanes that wait in registers of its own (parse_stmt.c draws the layouts), so there is no stack.
 * Tested by tests/unit/test_sim.c. */
#include "runtime/sim/check.h"

#include <string.h>

enum { WARP = 32, MAX_BLOCK = 1024, ALIGN_BYTES = 64 };
/* Rounds of loops that one block may do: more is a loop that does not end. */
#define MAX_STEPS (INT64_C(1) << 22)

void (*const sim_op_table[OP_COUNT])(Run *, const Inst *) = {
#define X(name) op_##name,
    SIM_OPS(X)
#undef X
};

/* ---- Faults ---- */

void run_fault(Run *r, const Inst *in, int32_t lane, const char *fmt, ...)
{
    if (r->fault)
        return;
    r->fault = true;
    r->pc = -1;
    va_list ap;
    va_start(ap, fmt);
    const char *what = arena_vprintf(&r->arena, fmt, ap);
    va_end(ap);
    const char *who = lane < 0 ? "" : arena_printf(&r->arena, ", thread %d", lane);
    sim_error_at(r->m, r->d, in->token, "kernel '%s': block %lld%s: %s", r->k->name, (long long)r->block, who, what);
}

void run_fault_help(Run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_help(r->d, "%s", arena_vprintf(&r->arena, fmt, ap));
    va_end(ap);
}

int32_t run_first_active(const Run *r)
{
    int32_t i = 0;
    while (i < r->threads && !r->mask[i])
        i++;
    return i;
}

/* ---- Control flow ---- */

void op_if(Run *r, const Inst *in)
{
    int32_t     n = r->lanes, active = 0;
    const u32a *c = run_reg(r, in->a);
    u32a       *wait = run_reg(r, in->d[0]), *mask = r->mask;
#pragma omp simd reduction(+ : active)
    for (int32_t i = 0; i < n; i++) {
        uint32_t m = mask[i], take = m & -c[i];
        wait[i] = m & ~take;
        mask[i] = take;
        active += (int32_t)(take & 1);
    }
    r->active = active;
    if (!active)
        r->pc = in->target;
}

static int32_t count_lanes(const u32a *mask, int32_t n)
{
    int32_t active = 0;
#pragma omp simd reduction(+ : active)
    for (int32_t i = 0; i < n; i++)
        active += (int32_t)(mask[i] & 1);
    return active;
}

void op_else(Run *r, const Inst *in)
{
    int32_t n = r->lanes;
    u32a   *wait = run_reg(r, in->d[0]), *done = run_reg(r, in->d[1]), *mask = r->mask;
    LANES
    {
        done[i] = mask[i];
        mask[i] = wait[i];
    }
    r->active = count_lanes(mask, n);
    if (!r->active)
        r->pc = in->target;
}

static void add_lanes(Run *r, int32_t slot)
{
    int32_t n = r->lanes;
    u32a   *from = run_reg(r, slot), *mask = r->mask;
    LANES
    {
        mask[i] |= from[i];
    }
    r->active = count_lanes(mask, n);
}

void op_join(Run *r, const Inst *in)
{
    add_lanes(r, in->d[0]);
}

void op_endloop(Run *r, const Inst *in)
{
    add_lanes(r, in->d[0]);
}

void op_loop(Run *r, const Inst *in)
{
    memset(run_reg(r, in->d[0]), 0, (size_t)r->lanes * 4);
}

void op_rejoin(Run *r, const Inst *in)
{
    add_lanes(r, in->d[0]);
    op_loop(r, in);
    if (!r->active)
        r->pc = in->target;
}

void op_test(Run *r, const Inst *in)
{
    int32_t     n = r->lanes, active = 0;
    const u32a *c = run_reg(r, in->a);
    u32a       *done = run_reg(r, in->d[0]), *mask = r->mask;
#pragma omp simd reduction(+ : active)
    for (int32_t i = 0; i < n; i++) {
        uint32_t m = mask[i], take = m & -c[i];
        done[i] |= m & ~take;
        mask[i] = take;
        active += (int32_t)(take & 1);
    }
    r->active = active;
    if (!active)
        r->pc = in->target;
}

static void leave_into(Run *r, u32a *to)
{
    int32_t n = r->lanes;
    u32a   *mask = r->mask;
    LANES
    {
        to[i] |= mask[i];
        mask[i] = 0;
    }
    r->active = 0;
}

void op_leave(Run *r, const Inst *in)
{
    leave_into(r, run_reg(r, in->d[0]));
}

void op_exit(Run *r, const Inst *in)
{
    (void)in;
    r->returned += r->active;
    leave_into(r, r->gone);
}

void op_back(Run *r, const Inst *in)
{
    if (!r->active)
        return;
    if (--r->steps < 0)
        run_fault(r, in, run_first_active(r), "a loop that does not end: %lld rounds so far", (long long)MAX_STEPS);
    else
        r->pc = in->target;
}

void op_skip(Run *r, const Inst *in)
{
    if (!r->active)
        r->pc = in->target;
}

void op_end(Run *r, const Inst *in)
{
    (void)in;
    r->pc = -1;
}

/* ---- Launch ---- */

static void *aligned(Arena *a, int64_t bytes)
{
    char *at = arena_alloc(a, (size_t)bytes + ALIGN_BYTES);
    return at + (-(uintptr_t)at & (ALIGN_BYTES - 1));
}

static void fill(Run *r, int32_t slot, uint64_t bits, bool wide)
{
    u32a *to = run_reg(r, slot);
    for (int32_t i = 0; i < r->lanes; i++) {
        if (wide)
            ((u64a *)to)[i] = bits;
        else
            to[i] = (uint32_t)bits;
    }
}

static void registers_new(Run *r)
{
    const SimKernel *k = r->k;
    int64_t          slot_bytes = (int64_t)r->lanes * 4, below = -(int64_t)k->low_slot;
    unsigned char   *all = aligned(&r->arena, (below + k->slots + EXTRA_COUNT) * slot_bytes);
    r->regs = all + below * slot_bytes;
    r->mask = run_reg(r, k->slots + EXTRA_MASK);
    r->gone = run_reg(r, k->slots + EXTRA_GONE);
    r->addr = run_reg(r, k->slots + EXTRA_ADDR);
    u32a *thread = run_reg(r, SLOT_THREAD);
    for (int32_t i = 0; i < r->lanes; i++)
        thread[i] = (uint32_t)i;
    fill(r, SLOT_BLOCK_DIM, (uint64_t)r->threads, false);
    fill(r, SLOT_GRID_DIM, (uint64_t)r->l->grid, false);
    for (int32_t i = 0; i < k->consts.len; i++)
        fill(r, k->consts.at[i].slot, k->consts.at[i].bits, k->consts.at[i].wide);
}

static void places_new(Run *r)
{
    const SimKernel *k = r->k;
    uint8_t         *shared = aligned(&r->arena, k->shared_bytes);
    r->places = ARENA_ARRAY(&r->arena, Place, k->regions.len);
    for (int32_t i = 0; i < k->regions.len; i++) {
        const Region *g = &k->regions.at[i];
        Place        *p = &r->places[i];
        *p = (Place){ .bytes = g->bytes, .watch = -1 };
        if (g->kind == REGION_ARG) {
            p->at = r->l->args[i].at;
            p->bytes = r->l->args[i].bytes;
            p->writable = r->l->args[i].writable;
            p->align_at = (uint64_t)(uintptr_t)p->at;
        } else if (g->kind == REGION_SHARED) {
            p->at = shared + g->offset;
            p->writable = true;
            p->align_at = (uint64_t)g->align; /* no more than was asked for */
        } else if (g->kind == REGION_TABLE) {
            p->at = (uint8_t *)(uintptr_t)g->data;
            p->align_at = (uint64_t)g->align;
        }
    }
}

static void run_block(Run *r, int64_t block)
{
    const Inst *code = r->k->code.at;
    r->block = block;
    r->active = r->threads;
    r->returned = 0;
    r->steps = MAX_STEPS;
    r->pc = 0;
    fill(r, SLOT_BLOCK, (uint64_t)block, false);
    for (int32_t i = 0; i < r->lanes; i++) {
        r->mask[i] = i < r->threads ? UINT32_MAX : 0;
        r->gone[i] = 0;
    }
    watch_block(r);
    while (r->pc >= 0) {
        const Inst *in = &code[r->pc++];
        sim_op_table[in->op](r, in);
    }
}

static uint32_t *block_order(Run *r)
{
    if (!r->l->seed)
        return NULL;
    uint32_t *order = ARENA_ARRAY(&r->arena, uint32_t, r->l->grid);
    rng_permutation(r->l->seed, hash_u32("simulated blocks"), 0, order, (uint32_t)r->l->grid);
    return order;
}

static bool launch_ok(Diag *d, const SimModule *m, const SimLaunch *l)
{
    const char *name = "?", *what = NULL;
    if (l->kernel < 0 || l->kernel >= m->kernels.len) {
        diag_error(d, LOC_NONE, "launch: there is no kernel %d; the module has %d", l->kernel, m->kernels.len);
        return false;
    }
    const SimKernel *k = &m->kernels.at[l->kernel];
    name = k->name;
    int32_t bound = k->launch_bound ? k->launch_bound : MAX_BLOCK;
    if (l->n_args != k->n_params)
        what = arena_printf(&d->arena, "%d arguments for %d parameters", l->n_args, k->n_params);
    else if (l->grid < 1 || l->grid > INT32_MAX)
        what = arena_printf(&d->arena, "a grid of %lld blocks: 1 to 2147483647 are possible", (long long)l->grid);
    else if (l->block < 1 || l->block > bound)
        what = arena_printf(&d->arena, "blocks of %d threads: 1 to %d are possible", l->block, bound);
    for (int32_t i = 0; i < l->n_args && !what; i++)
        if (l->args[i].bytes < 0 || (l->args[i].bytes && !l->args[i].at))
            what = arena_printf(&d->arena, "argument '%s' has no memory", k->regions.at[i].name);
    if (what)
        diag_error(d, LOC_NONE, "launch of kernel '%s': %s", name, what);
    return !what;
}

bool sim_run(SimModule *m, Diag *d, const SimLaunch *l)
{
    if (!launch_ok(d, m, l))
        return false;
    Run r = { .m = m, .d = d, .k = &m->kernels.at[l->kernel], .l = l, .threads = l->block };
    r.arena = arena_new("simulated launch");
    r.lanes = (int32_t)dt_round_up(l->block, WARP);
    registers_new(&r);
    places_new(&r);
    watch_new(&r);
    const uint32_t *order = block_order(&r);
    for (int64_t i = 0; i < l->grid && !r.fault; i++)
        run_block(&r, order ? order[i] : i);
    if (r.fault)
        watch_undo(&r);
    arena_free(&r.arena);
    return !r.fault;
}

/* ---- Module ---- */

SimModule *sim_module_new(Arena *a, Diag *d, const char *source)
{
    SimModule *m = ARENA_NEW(a, SimModule);
    m->a = a;
    m->source = arena_strdup(a, source);
    m->words = strmap_new(a);
    sim_words_new(m);
    return sim_lex(m, d) && sim_parse(m, d) ? m : NULL;
}

int32_t sim_find(const SimModule *m, const char *entry)
{
    for (int32_t i = 0; i < m->kernels.len; i++)
        if (str_eq(m->kernels.at[i].name, entry))
            return i;
    return -1;
}

int32_t sim_params(const SimModule *m, int32_t kernel)
{
    DT_ASSERT(kernel >= 0 && kernel < m->kernels.len, "kernel %d of %d", kernel, m->kernels.len);
    return m->kernels.at[kernel].n_params;
}
