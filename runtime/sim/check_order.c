/* check_order.c: what orders blocks: tickets, that is words on which blocks do atomics one after the other, and who may
 * rely on them. Tested by tests/unit/test_sim_faults.c. */
#include "runtime/sim/check.h"

/* What a thread that does an atomic on a ticket hands to whoever does one later. */
typedef struct Release {
    int64_t   position; /* of its block */
    int32_t   thread;
    uint32_t  sync, all; /* reads before `sync`, writes before `all` by any thread of the block */
    uint32_t  own;       /* its own writes before this */
    uint32_t *joined;    /* of each thread: writes before this; NULL: none */
} Release;
typedef struct Ticket {
    VEC(Release) releases;
} Ticket;
/* Blocks that read a word before the last one that did: their last reads. */
typedef struct Readers {
    VEC(Touch) reads;
} Readers;

/* ---- By address ---- */

static struct PlaceEntry *entry_of(const PlaceMap *m, const void *at)
{
    uint32_t i = (uint32_t)((uintptr_t)at >> 2) * UINT32_C(2654435761);
    while (m->entries[i & (m->cap - 1)].at && m->entries[i & (m->cap - 1)].at != at)
        i++;
    return &m->entries[i & (m->cap - 1)];
}

/* What stands there, `bytes` of it, made when it is missing. */
static void *find(Arena *a, PlaceMap *m, const void *at, size_t bytes)
{
    if (2 * (m->n + 1) > m->cap) {
        PlaceMap grown = { .n = m->n, .cap = m->cap ? 2 * m->cap : 64 };
        grown.entries = ARENA_ARRAY(a, struct PlaceEntry, grown.cap);
        for (uint32_t i = 0; i < m->cap; i++)
            if (m->entries[i].at)
                *entry_of(&grown, m->entries[i].at) = m->entries[i];
        *m = grown;
    }
    struct PlaceEntry *e = entry_of(m, at);
    if (!e->at) {
        *e = (struct PlaceEntry){ at, arena_alloc(a, bytes) };
        m->n++;
    }
    return e->value;
}

static Ticket *find_ticket(Run *r, const uint8_t *at)
{
    return find(&r->arena, &r->watch->tickets, at, sizeof(Ticket));
}

/* ---- Tickets ---- */

void watch_ticket(Run *r, const uint8_t *at, int32_t lane)
{
    Watch   *w = r->watch;
    Ticket  *t = find_ticket(r, at);
    Acquire *last = w->acquires.len ? &w->acquires.at[w->acquires.len - 1] : NULL;
    Acquire  a = { t, t->releases.len, lane, w->now };
    if (last && last->ticket == t && last->thread == lane && last->time >= w->sync)
        *last = a;
    else
        vec_push(&r->arena, &w->acquires, a);
    uint32_t own = w->fence[lane];
    Release  rel = { w->position, lane, w->sync, own > w->sync ? w->sync : 0, own, NULL };
    if (w->joined_least > rel.all)
        rel.all = w->joined_least;
    if (w->joined && rel.all < w->sync)
        rel.joined = w->joined;
    Release *before = t->releases.len ? &t->releases.at[t->releases.len - 1] : NULL;
    bool     same = before && before->position == rel.position && before->thread == lane;
    bool     nothing =
        before && before->position == rel.position && !rel.all && !own && !rel.joined && before->sync == rel.sync;
    if (same)
        *before = rel;
    else if (!nothing)
        vec_push(&r->arena, &t->releases, rel);
}

static bool released(const Release *rel, bool read, uint32_t time, int32_t who)
{
    if (read)
        return who == rel->thread || time < rel->sync;
    if (time < rel->all || (who == rel->thread && time < rel->own))
        return true;
    return rel->joined && who < MOST_THREADS && time < rel->joined[who];
}

int64_t watch_position(const Watch *w, uint32_t time)
{
    int64_t low = 0, high = w->position;
    while (low < high) {
        int64_t mid = (low + high + 1) / 2;
        if (w->starts[mid] <= time)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

static bool acquired(const Watch *w, const Acquire *a, int32_t lane)
{
    return a->thread == lane || a->time < w->sync;
}

bool watch_block_ordered(Run *r, bool read, uint32_t time, int32_t who, int32_t lane)
{
    Watch *w = r->watch;
    if (!read && time >= w->ok_from && time < w->ok_to)
        return true;
    int64_t position = watch_position(w, time);
    for (int32_t i = 0; i < w->acquires.len; i++) {
        const Acquire *a = &w->acquires.at[i];
        if (!acquired(w, a, lane))
            continue;
        int32_t low = 0, high = a->n; /* the first release of a later position */
        while (low < high) {
            int32_t mid = (low + high) / 2;
            if (a->ticket->releases.at[mid].position <= position)
                low = mid + 1;
            else
                high = mid;
        }
        for (int32_t k = low - 1; k >= 0 && a->ticket->releases.at[k].position == position; k--) {
            const Release *rel = &a->ticket->releases.at[k];
            if (!released(rel, read, time, who))
                continue;
            if (a->time < w->sync && !read) {
                w->ok_from = w->starts[position];
                w->ok_to = rel->all;
            }
            return true;
        }
    }
    return false;
}

uint32_t watch_has_ticket(Run *r, const uint8_t *at, int32_t lane)
{
    Watch  *w = r->watch;
    Ticket *ticket = find_ticket(r, at);
    for (int32_t i = w->acquires.len - 1; i >= 0; i--)
        if (w->acquires.at[i].ticket == ticket && acquired(w, &w->acquires.at[i], lane))
            return w->acquires.at[i].time;
    return 0;
}

/* ---- Readers ---- */

static Readers *find_readers(Run *r, const Touch *t)
{
    return find(&r->arena, &r->watch->readers, t, sizeof(Readers));
}

void watch_keep_reader(Run *r, const Touch *t)
{
    Touch kept = { .read = t->read, .reader = t->reader & (uint16_t)~WHO_EARLIER };
    vec_push(&r->arena, &find_readers(r, t)->reads, kept);
}

Touch watch_unordered_reader(Run *r, const Touch *t, int32_t lane)
{
    const Readers *all = find_readers(r, t);
    for (int32_t i = 0; i < all->reads.len; i++)
        if (!watch_block_ordered(r, true, all->reads.at[i].read, all->reads.at[i].reader, lane))
            return all->reads.at[i];
    return (Touch){ 0 };
}

void watch_forget_readers(Run *r, const Touch *t)
{
    find_readers(r, t)->reads.len = 0;
}
