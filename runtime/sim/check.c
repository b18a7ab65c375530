/* check.c: races. The rules stand in check.h; here are the cases that are not plain, and the copy of what a launch
 * overwrites. Tested by tests/unit/test_sim_faults.c. */
#include "runtime/sim/check.h"

#include <string.h>

/* ---- Setting up ---- */

static void add_range(Run *r, uint8_t *at, int64_t bytes, int32_t granule)
{
    Watch *w = r->watch;
    for (int32_t i = 0; i < w->ranges.len; i++) {
        Range *g = &w->ranges.at[i];
        if (at >= g->at + g->bytes || g->at >= at + bytes)
            continue;
        uint8_t *low = at < g->at ? at : g->at, *high = at + bytes > g->at + g->bytes ? at + bytes : g->at + g->bytes;
        int32_t  old = 1 << g->shift, least = granule < old ? granule : old;
        if ((at - g->at) % least)
            least = 1;
        *g = w->ranges.at[--w->ranges.len];
        add_range(r, low, high - low, least); /* which may touch others now */
        return;
    }
    Range g = { .at = at, .bytes = bytes, .shift = granule == 4 ? 2 : granule == 2 ? 1 : 0 };
    vec_push(&r->arena, &w->ranges, g);
}

static bool overlaps(const Range *g, const Place *p)
{
    return p->bytes && p->at < g->at + g->bytes && g->at < p->at + p->bytes;
}

void watch_new(Run *r)
{
    const SimKernel *k = r->k;
    Watch           *w = r->watch = ARENA_NEW(&r->arena, Watch);
    r->m->pages_used = 0;
    for (int32_t writable = 1; writable >= 0; writable--) /* then those that overlap, for their granules */
        for (int32_t i = 0; i < k->n_params; i++) {
            const Place *p = &r->places[i];
            bool         near = p->writable;
            for (int32_t j = 0; j < w->ranges.len && !near; j++)
                near = overlaps(&w->ranges.at[j], p);
            if (near && p->writable == (writable != 0) && p->bytes)
                add_range(r, p->at, p->bytes, k->regions.at[i].granule);
        }
    for (int32_t i = 0; i < w->ranges.len; i++) {
        Range  *g = &w->ranges.at[i];
        int64_t pages = (g->bytes >> g->shift >> PAGE_BITS) + 1;
        g->pages = ARENA_ARRAY(&r->arena, Page *, pages);
        for (int32_t j = 0; j < k->n_params; j++) {
            Place *p = &r->places[j];
            if (!overlaps(g, p))
                continue;
            p->watch = i;
            p->watch_start = p->at - g->at;
        }
    }
    int64_t touches = 0;
    for (int32_t i = k->n_params; i < k->regions.len; i++)
        if (k->regions.at[i].kind == REGION_SHARED) {
            r->places[i].watch_start = touches;
            touches += dt_ceil_div(k->regions.at[i].bytes, k->regions.at[i].granule);
        }
    w->n_shared = touches;
    w->shared = ARENA_ARRAY(&r->arena, Touch, touches + 1);
    w->starts = ARENA_ARRAY(&r->arena, uint32_t, r->l->grid);
    w->blocks = ARENA_ARRAY(&r->arena, uint32_t, r->l->grid);
    w->position = -1;
}

void watch_block(Run *r)
{
    Watch *w = r->watch;
    w->start = w->sync = ++w->now;
    w->position++;
    w->starts[w->position] = w->start;
    w->blocks[w->position] = (uint32_t)r->block;
    w->acquires.len = 0;
    w->joined = NULL;
    w->joined_least = 0;
    w->ok_from = w->ok_to = 0;
    w->fenced = false;
    if (r->k->fences)
        memset(w->fence, 0, sizeof w->fence);
    memset(w->shared, 0, sizeof *w->shared * (size_t)w->n_shared);
}

void watch_barrier(Run *r)
{
    Watch *w = r->watch;
    if (w->fenced) {
        w->joined = arena_copy(&r->arena, w->fence, sizeof *w->fence * (size_t)r->threads);
        w->joined_least = UINT32_MAX;
        for (int32_t i = 0; i < r->threads; i++)
            w->joined_least = w->fence[i] < w->joined_least ? w->fence[i] : w->joined_least;
        w->fenced = false;
    }
    w->sync = ++w->now;
}

void watch_warp(Run *r, int32_t warp)
{
    r->watch->warp_sync[warp] = ++r->watch->now;
}

void watch_fence(Run *r)
{
    Watch *w = r->watch;
    w->now++;
    w->fenced = true;
    for (int32_t i = 0; i < r->threads; i++)
        if (r->mask[i])
            w->fence[i] = w->now;
}

/* ---- Global memory ---- */

static Page *page_new(Run *r)
{
    SimModule *m = r->m;
    if (m->pages_used == m->pages.len)
        vec_push(m->a, &m->pages, ARENA_NEW(m->a, Page));
    Page *page = m->pages.at[m->pages_used++];
    memset(page->touch, 0, sizeof page->touch);
    page->kept = false;
    return page;
}

Touch *watch_page(Run *r, Range *g, int64_t granule, bool write)
{
    Page **at = &g->pages[granule >> PAGE_BITS];
    if (!*at)
        *at = page_new(r);
    if (write && !(*at)->kept) {
        int64_t from = granule >> PAGE_BITS << (PAGE_BITS + g->shift);
        memcpy((*at)->before, g->at + from, (size_t)dt_min64(g->bytes - from, PAGE_GRANULES << g->shift));
        (*at)->kept = true;
    }
    return &(*at)->touch[granule & (PAGE_GRANULES - 1)];
}

void watch_undo(Run *r)
{
    for (int32_t i = 0; i < r->watch->ranges.len; i++) {
        Range  *g = &r->watch->ranges.at[i];
        int64_t page_bytes = PAGE_GRANULES << g->shift;
        for (int64_t from = 0, k = 0; from < g->bytes; from += page_bytes, k++)
            if (g->pages[k] && g->pages[k]->kept)
                memcpy(g->at + from, g->pages[k]->before, (size_t)dt_min64(g->bytes - from, page_bytes));
    }
}

/* ---- Atomics and plain accesses ---- */

/* A plain access to a word on which atomics are done: its thread, or one joined to it, did the last of them. */
static bool atomics_ordered(Run *r, const Touch *t, int32_t lane, int32_t region, int64_t offset)
{
    Watch       *w = r->watch;
    const Place *p = &r->places[region];
    if (p->watch < 0) /* shared */
        return t->written < w->sync;
    uint32_t time = watch_has_ticket(r, p->at + offset, lane);
    return time && (t->written <= time || t->written < w->sync);
}

/* ---- Messages ---- */

static const char *who_text(Run *r, int32_t who)
{
    who &= ~WHO_EARLIER;
    if (who < MOST_THREADS)
        return arena_printf(&r->arena, "thread %d", who);
    return who == (WHO_ATOMIC & ~WHO_EARLIER) ? "atomics" : "other threads";
}

static bool race_in_block(Run *r, const Inst *in, int32_t lane, int32_t region, int64_t offset, const char *does,
                          int32_t who, const char *did)
{
    run_fault(r, in, lane, "race: it %s %s, which %s %s", does, run_where(r, region, offset), who_text(r, who), did);
    run_fault_help(r, "the two need a __syncthreads() between them, or a __syncwarp() within one warp");
    return false;
}

static bool race_of_blocks(Run *r, const Inst *in, int32_t lane, int32_t region, int64_t offset, const char *does,
                           uint32_t time, int32_t who, const char *did)
{
    Watch *w = r->watch;
    run_fault(r, in, lane, "race: it %s %s, which %s of block %u %s in this launch", does, run_where(r, region, offset),
              who_text(r, who), w->blocks[watch_position(w, time)], did);
    run_fault_help(r,
                   "blocks run in any order; what one hands to another needs: the write, __threadfence(), an atomic, "
                   "and an atomic on the same word by the other before it reads");
    return false;
}

/* ---- Accesses that are not plainly in order ---- */

static bool check_last_write(Run *r, const Inst *in, const Touch *t, int32_t lane, int32_t region, int64_t offset,
                             const char *does, bool harmless)
{
    Watch *w = r->watch;
    if (!t->written || touch_write_ordered(w, t, lane))
        return true;
    if (t->writer == WHO_ATOMIC) {
        if (atomics_ordered(r, t, lane, region, offset))
            return true;
        run_fault(r, in, lane, "race: it %s %s, on which atomics were done in this launch", does,
                  run_where(r, region, offset));
        return false;
    }
    if (t->written >= w->start)
        return harmless || race_in_block(r, in, lane, region, offset, does, t->writer, "wrote");
    return watch_block_ordered(r, false, t->written, t->writer, lane) ||
           race_of_blocks(r, in, lane, region, offset, does, t->written, t->writer, "wrote");
}

static bool check_last_reads(Run *r, const Inst *in, const Touch *t, int32_t lane, int32_t region, int64_t offset,
                             const char *does)
{
    Watch *w = r->watch;
    if (!t->read || touch_reads_ordered(w, t, lane))
        return true;
    int32_t who = t->reader & ~WHO_EARLIER;
    bool    earlier = t->reader & WHO_EARLIER;
    Touch   here = *t;
    here.reader = (uint16_t)who;
    if (t->read >= w->start && !touch_reads_ordered(w, &here, lane))
        return race_in_block(r, in, lane, region, offset, does, who, "read");
    if (t->read < w->start && !watch_block_ordered(r, true, t->read, who, lane))
        return race_of_blocks(r, in, lane, region, offset, does, t->read, who, "read");
    if (!earlier)
        return true;
    Touch first = watch_unordered_reader(r, t, lane);
    return !first.read || race_of_blocks(r, in, lane, region, offset, does, first.read, first.reader, "read");
}

static void add_reader(Run *r, Touch *t, int32_t lane)
{
    Watch  *w = r->watch;
    int32_t who = t->reader & ~WHO_EARLIER, earlier = t->reader & WHO_EARLIER;
    Touch   here = *t;
    here.reader = (uint16_t)who;
    if (t->read && t->read < w->start) {
        watch_keep_reader(r, t);
        earlier = WHO_EARLIER;
        who = lane;
    } else if (!t->read || touch_reads_ordered(w, &here, lane)) {
        who = lane;
    } else {
        bool same_warp = who >> 5 == lane >> 5 || who == WHO_WARP + (lane >> 5);
        who = same_warp ? WHO_WARP + (lane >> 5) : WHO_BLOCK;
    }
    t->read = w->now;
    t->reader = (uint16_t)(who | earlier);
}

bool watch_read_slow(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset)
{
    if (!t->written && r->k->regions.at[region].kind == REGION_SHARED) {
        run_fault(r, in, lane, "it reads %s, which nobody has written in this block", run_where(r, region, offset));
        return false;
    }
    if (!check_last_write(r, in, t, lane, region, offset, "reads", false))
        return false;
    add_reader(r, t, lane);
    return true;
}

static void set_written(Run *r, Touch *t, uint16_t who)
{
    if (t->reader & WHO_EARLIER)
        watch_forget_readers(r, t);
    t->written = r->watch->now;
    t->writer = who;
    t->read = 0;
    t->reader = 0;
}

bool watch_write_slow(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset, bool same)
{
    if (!check_last_write(r, in, t, lane, region, offset, "writes", same) ||
        !check_last_reads(r, in, t, lane, region, offset, "writes"))
        return false;
    set_written(r, t, (uint16_t)lane);
    return true;
}

bool watch_atomic(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset)
{
    const Place *p = &r->places[region];
    if (p->watch < 0 && !t->written) {
        run_fault(r, in, lane, "it adds to %s, which nobody has written in this block", run_where(r, region, offset));
        return false;
    }
    bool plain = t->writer != WHO_ATOMIC;
    if ((plain && !check_last_write(r, in, t, lane, region, offset, "does an atomic on", false)) ||
        !check_last_reads(r, in, t, lane, region, offset, "does an atomic on"))
        return false;
    set_written(r, t, WHO_ATOMIC);
    if (p->watch >= 0)
        watch_ticket(r, p->at + offset, lane);
    return true;
}
