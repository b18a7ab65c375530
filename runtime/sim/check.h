/* check.h: who touched which memory when. A word of shared memory, or of global memory that somebody may write, has a
 * Touch: its last write and its last reads. Time is a counter that moves at every barrier, fence and start of a block.
 *
 * Two accesses by different threads, at least one of them a write, must be ordered:
 *   in a block       a __syncthreads between them; in a warp a __syncwarp, too
 *   between blocks   the first thread's write, __threadfence, [__syncthreads], an atomic on some word (the "ticket");
 *                    then an atomic on the same word by the second thread, or by one of its block before a
 *                    __syncthreads. Reads need no fence to come before a later write.
 *
 * What is not kept: of several reads at one time by several threads only that they were several; so a write after them
 * is blamed on "other threads". Orders that pass through two different tickets are not followed.
 *
 * Tested by tests/unit/test_sim.c. */
#ifndef DETENT_SIM_CHECK_H
#define DETENT_SIM_CHECK_H

#include "runtime/sim/sim_impl.h"

enum { PAGE_BITS = 10, PAGE_GRANULES = 1 << PAGE_BITS, WARP_LANES = 32, MOST_THREADS = 1024 };
/* Who, instead of a thread's number: several threads of a warp (+ its number), several of a block, atomics; added to a
 * reader: blocks before this one have read it, too (Readers). */
enum { WHO_WARP = 0x0800, WHO_BLOCK = 0x1000, WHO_EARLIER = 0x4000, WHO_ATOMIC = 0xFFFF };

typedef struct Touch {
    uint32_t written, read; /* times; 0: never */
    uint16_t writer, reader;
} Touch;

struct SimPage {
    Touch   touch[PAGE_GRANULES];
    bool    kept;                      /* somebody writes here: */
    uint8_t before[PAGE_GRANULES * 4]; /* what was here before the launch */
};
typedef SimPage Page;

/* Global memory that is watched: what a writable argument covers, merged where arguments overlap. */
typedef struct Range {
    uint8_t *at;
    int64_t  bytes;
    int32_t  shift; /* of an offset to its granule */
    Page   **pages;
} Range;

/* By address. */
typedef struct PlaceMap {
    struct PlaceEntry {
        const void *at;
        void       *value;
    }       *entries;
    uint32_t n, cap;
} PlaceMap;

/* An atomic on a ticket by the running block. */
typedef struct Acquire {
    struct Ticket *ticket;
    int32_t        n; /* releases that came before */
    int32_t        thread;
    uint32_t       time;
} Acquire;

struct Watch {
    uint32_t  now, start, sync; /* time; since when this block, this interval between barriers lasts */
    uint32_t  warp_sync[MOST_THREADS / WARP_LANES];
    int64_t   position;            /* of the running block in the order of blocks */
    uint32_t *starts, *blocks;     /* of each position: when it started, which block it is */
    uint32_t  fence[MOST_THREADS]; /* last fence of each thread; 0: none in this block */
    uint32_t *joined;              /* the same, as of the last barrier; NULL: there was none */
    uint32_t  joined_least;        /* of all threads */
    bool      fenced;              /* by somebody, since that barrier */
    uint32_t  ok_from, ok_to;      /* writes of an earlier block in this span are known to be ordered for all */
    Touch    *shared;
    int64_t   n_shared;
    VEC(Range) ranges;
    VEC(Acquire) acquires; /* of the running block */
    PlaceMap tickets, readers;
};

void watch_new(Run *r);
void watch_block(Run *r);
void watch_barrier(Run *r);
void watch_warp(Run *r, int32_t warp);
void watch_fence(Run *r);
void watch_undo(Run *r); /* memory as it was before the launch */
/* The order of blocks (check_order.c). */
int64_t watch_position(const Watch *w, uint32_t time); /* of the block that ran then */
/* The thread does an atomic on the word at `at`: it takes what others released there, and releases. */
void watch_ticket(Run *r, const uint8_t *at, int32_t lane);
/* Does what an earlier block's thread did at that time come before what this thread does now? */
bool watch_block_ordered(Run *r, bool read, uint32_t time, int32_t who, int32_t lane);
/* Has this thread, or one joined to it, done an atomic there? The time of it; 0: no. */
uint32_t watch_has_ticket(Run *r, const uint8_t *at, int32_t lane);
/* Reads by blocks that ran before the last one that read. The first that does not come before what this thread does
 * now; time 0: none. */
void  watch_keep_reader(Run *r, const Touch *t);
Touch watch_unordered_reader(Run *r, const Touch *t, int32_t lane);
void  watch_forget_readers(Run *r, const Touch *t);
/* The rare cases. False: a fault was reported. */
bool   watch_read_slow(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset);
bool   watch_write_slow(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset, bool same);
bool   watch_atomic(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset);
Touch *watch_page(Run *r, Range *g, int64_t granule, bool write);

static inline Touch *watch_global(Run *r, const Place *p, int64_t offset, bool write)
{
    Range  *g = &r->watch->ranges.at[p->watch];
    int64_t i = (p->watch_start + offset) >> g->shift;
    Page   *page = g->pages[i >> PAGE_BITS];
    if (!page || (write && !page->kept))
        return watch_page(r, g, i, write);
    return &page->touch[i & (PAGE_GRANULES - 1)];
}

/* Nothing to worry about: the last write came before a barrier of this block, or was this thread's own. */
static inline bool touch_write_ordered(const Watch *w, const Touch *t, int32_t lane)
{
    return t->written >= w->start &&
           (t->writer == lane ||
            (t->writer != WHO_ATOMIC &&
             (t->written < w->sync || (t->writer >> 5 == lane >> 5 && t->written < w->warp_sync[lane >> 5]))));
}

static inline bool touch_reads_ordered(const Watch *w, const Touch *t, int32_t lane)
{
    return t->read >= w->start && ((t->read < w->sync && t->reader < WHO_EARLIER) || t->reader == lane ||
                                   ((t->reader >> 5 == lane >> 5 || t->reader == WHO_WARP + (lane >> 5)) &&
                                    t->read < w->warp_sync[lane >> 5]));
}

static inline bool watch_read(Run *r, const Inst *in, Touch *t, int32_t lane, int32_t region, int64_t offset,
                              bool shared)
{
    Watch *w = r->watch;
    bool   fine = touch_write_ordered(w, t, lane) || (!shared && !t->written);
    if (fine && (t->reader & ~WHO_EARLIER) == WHO_BLOCK && t->read >= w->sync) { /* one more of many */
        t->read = w->now;
        return true;
    }
    if (!fine || (t->read && !touch_reads_ordered(w, t, lane)))
        return watch_read_slow(r, in, t, lane, region, offset);
    t->read = w->now;
    t->reader = (uint16_t)lane;
    return true;
}

static inline bool touch_free(const Watch *w, const Touch *t, int32_t lane)
{
    return (!t->written || touch_write_ordered(w, t, lane)) && (!t->read || touch_reads_ordered(w, t, lane));
}

#endif
