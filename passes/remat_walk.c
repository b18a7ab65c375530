/* remat_walk.c: the launches of a step when some values are not kept, and what is alive at each.
 *
 * Launches keep their order. In front of one that reads a value which is not kept comes a launch that makes the value
 * again, and in front of that one those for whatever it reads and is not there either, so everything is made as late as
 * it may be. What a copy reads is
 *
 *   there      a param, an input, or a value that some later launch of the step reads anyway;
 *   kept       small beside the copy, or impossible to make again: it lives on for the copy;
 *   made again by one more launch. A value that is not kept is made once and lives until its last reader, or is made
 *              for each launch anew, as is what only copies need: a quantized input, say, that backward has no other
 *              use for.
 *
 * Tested by tests/unit/test_rematerialize.c. */
#include "passes/plan.h"
#include "passes/remat.h"

#include <string.h>

enum {
    SMALL = 16,       /* an operand with a sixteenth of the bytes lives on */
    MOST_DEPTH = 200, /* launches in front of one another */
};

RematWalk remat_walk_new(RematModel *m)
{
    return (RematWalk){ .m = m,
                        .how = ARENA_ARRAY(m->a, uint8_t, m->n + 1),
                        .born = ARENA_ARRAY(m->a, int32_t, m->n + 1),
                        .last = ARENA_ARRAY(m->a, int32_t, m->n + 1),
                        .copy = ARENA_ARRAY(m->a, int32_t, m->n + 1),
                        .copy_for = ARENA_ARRAY(m->a, int32_t, m->n + 1),
                        .source = ARENA_ARRAY(m->a, int32_t, m->n + 1) };
}

static int32_t make_again(RematWalk *w, int32_t x, int32_t launch, int32_t depth);

/* The step that makes what `launch`, or a copy in front of it, reads as item x; -1: the first one does. `bytes`: of
 * the copy that asks. */
static int32_t source_of(RematWalk *w, int32_t x, int32_t launch, int64_t bytes, int32_t depth)
{
    const RematModel *m = w->m;
    const RematItem  *it = &m->item[x];
    if (it->bytes == 0)
        return -1;
    const bool there = w->copy[x] >= 0 && (w->how[x] == ONCE || w->copy_for[x] == launch);
    if (w->how[x] != KEPT) {
        if (launch <= it->cut)
            return -1;
        return there ? w->copy[x] : make_again(w, x, launch, depth + 1);
    }
    if (it->n_use > 0 && launch <= m->use[it->first_use + it->n_use - 1])
        return -1;
    if (it->fixed || launch > it->until || it->bytes * SMALL <= bytes || depth >= MOST_DEPTH)
        return -1;
    return there ? w->copy[x] : make_again(w, x, launch, depth + 1);
}

static int32_t step_add(RematWalk *w, RematStep s)
{
    vec_push(w->m->a, &w->copy_last, -1);
    vec_push(w->m->a, &w->steps, s);
    return w->steps.len - 1;
}

static int32_t make_again(RematWalk *w, int32_t x, int32_t launch, int32_t depth)
{
    const RematModel *m = w->m;
    const RematItem  *it = &m->item[x];
    int32_t           first = w->from.len;
    if (depth >= MOST_DEPTH || launch > it->until) {
        w->bad = true;
        return -1;
    }
    for (int32_t i = 0; i < it->n_from; i++)
        vec_push(m->a, &w->from, -1);
    for (int32_t i = 0; i < it->n_from; i++) {
        int32_t source = source_of(w, m->from[it->first_from + i], launch, it->bytes, depth);
        w->from.at[first + i] = source;
    }
    int32_t step = step_add(w, (RematStep){ launch, x, first });
    w->copy[x] = step;
    w->copy_for[x] = launch;
    return step;
}

/* ---- Lives ------------------------------------------------------------------------------------------------------- */

/* A step that is needed reads item x from this source: from then back to its making it is alive. Steps come last
 * first. */
static void mark_read(RematWalk *w, int32_t x, int32_t source, int32_t step)
{
    int32_t *last = source < 0 ? &w->last[x] : &w->copy_last.at[source];
    *last = *last > step ? *last : step;
}

/* A launch makes its items for somebody, or not at all: what only unneeded ones read is read no more. */
static void mark_launch(RematWalk *w, int32_t step)
{
    const RematModel *m = w->m;
    const RematStep  *s = &w->steps.at[step];
    const int32_t     k = s->launch;
    for (int32_t i = m->first_read[k]; i < m->first_read[k + 1]; i++)
        w->source[m->read[i]] = w->from.at[s->first_from + i - m->first_read[k]];
    for (int32_t i = m->first_made[k]; i < m->first_made[k + 1]; i++) {
        const RematItem *it = &m->item[m->made[i]];
        w->born[m->made[i]] = step;
        if (it->bytes > 0 && w->last[m->made[i]] < 0)
            continue;
        for (int32_t j = 0; j < it->n_from; j++)
            mark_read(w, m->from[it->first_from + j], w->source[m->from[it->first_from + j]], step);
    }
}

static void mark_again(RematWalk *w, int32_t step)
{
    const RematStep *s = &w->steps.at[step];
    const RematItem *it = &w->m->item[s->item];
    if (w->copy_last.at[step] < 0)
        return;
    for (int32_t j = 0; j < it->n_from; j++)
        mark_read(w, w->m->from[it->first_from + j], w->from.at[s->first_from + j], step);
    w->ns += it->ns;
    w->n_again++;
}

static void add_alive(const RematWalk *w, int32_t from, int32_t to, int64_t bytes)
{
    w->alive.at[from] += bytes;
    w->alive.at[to + 1] -= bytes;
}

/* Does the item have memory inside the step, as it is made first? */
static bool has_memory(const RematWalk *w, int32_t x)
{
    return w->m->item[x].bytes > 0 && w->last[x] >= 0;
}

static void count_alive(RematWalk *w)
{
    w->alive.len = 0;
    for (int32_t i = 0; i <= w->steps.len; i++)
        vec_push(w->m->a, &w->alive, 0);
    for (int32_t x = 0; x < w->m->n; x++)
        if (has_memory(w, x))
            add_alive(w, w->born[x], w->last[x], w->m->item[x].bytes);
    for (int32_t s = 0; s < w->steps.len; s++)
        if (w->copy_last.at[s] >= 0)
            add_alive(w, s, w->copy_last.at[s], w->m->item[w->steps.at[s].item].bytes);
    for (int32_t s = 1; s < w->alive.len; s++)
        w->alive.at[s] += w->alive.at[s - 1];
}

void remat_walk(RematWalk *w)
{
    const RematModel *m = w->m;
    w->steps.len = w->copy_last.len = w->from.len = w->n_again = 0;
    w->ns = 0;
    w->bad = false;
    memset(w->last, -1, sizeof(int32_t) * (size_t)m->n);
    memset(w->copy, -1, sizeof(int32_t) * (size_t)m->n);
    for (int32_t k = 0; k < m->n_launches; k++) {
        int32_t first = w->from.len;
        for (int32_t i = m->first_read[k]; i < m->first_read[k + 1]; i++)
            vec_push(m->a, &w->from, -1);
        for (int32_t i = m->first_read[k]; i < m->first_read[k + 1]; i++) {
            int32_t source = source_of(w, m->read[i], k, 0, 0);
            w->from.at[first + i - m->first_read[k]] = source;
        }
        step_add(w, (RematStep){ k, -1, first });
    }
    for (int32_t s = w->steps.len - 1; s >= 0; s--) {
        if (w->steps.at[s].item < 0)
            mark_launch(w, s);
        else
            mark_again(w, s);
    }
    count_alive(w);
}

double remat_excess(const RematWalk *w, int64_t most)
{
    double sum = 0;
    for (int32_t s = 0; s < w->steps.len; s++)
        sum += w->alive.at[s] > most ? (double)(w->alive.at[s] - most) : 0;
    return sum;
}

int64_t remat_peak(const RematWalk *w)
{
    int64_t peak = 0;
    for (int32_t s = 0; s < w->steps.len; s++)
        peak = dt_max64(peak, w->alive.at[s]);
    return peak;
}

/* As plan-memory will find it: copies have higher numbers than what was there, in the order of their making. */
int64_t remat_packed(const RematWalk *w)
{
    const RematModel *m = w->m;
    Arena             a = arena_new("packing");
    Stored           *all = ARENA_ARRAY(&a, Stored, m->n + w->n_again + 1);
    Stored          **at = ARENA_ARRAY(&a, Stored *, m->n + w->n_again + 1);
    int32_t           n = 0;
    for (int32_t x = 0; x < m->n; x++)
        if (has_memory(w, x))
            all[n++] = (Stored){ .v = m->item[x].v,
                                 .first = w->born[x],
                                 .last = w->last[x],
                                 .bytes = type_bytes(ir_value(m->g, m->item[x].v)->type) };
    for (int32_t s = 0; s < w->steps.len; s++)
        if (w->copy_last.at[s] >= 0)
            all[n++] = (Stored){ .v = m->g->values.len + s,
                                 .first = s,
                                 .last = w->copy_last.at[s],
                                 .bytes = type_bytes(ir_value(m->g, m->item[w->steps.at[s].item].v)->type) };
    for (int32_t i = 0; i < n; i++)
        at[i] = &all[i];
    int64_t bytes = plan_offsets(&a, at, n, m->align);
    arena_free(&a);
    return bytes;
}
