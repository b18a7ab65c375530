/* rematerialize.c: which values are not kept from forward to backward, so that a step fits into the memory it is given.
 *
 *   %c = conv2d %x, %w         launch 3          %c = conv2d %x, %w        launch 3
 *   ...                                          ...
 *   kernel reading %c          launch 40   =>    %a = conv2d %x, %w        launch 40
 *                                                kernel reading %a         launch 41
 *
 * Launches are fixed by now, so what a second one costs and saves is known: whoever is not kept is made by the same
 * launch again, right in front of the first reader behind the longest time in which nobody reads it (remat_walk.c). A
 * chain whose first value alone is kept is made again from there, link by link.
 *
 * Choice, greedily: the excess of a plan is the sum over all launches of the bytes that are alive beyond what may be.
 * Again and again the value is taken that takes most off the excess for the time that it costs, until there is no
 * excess: element-wise kernels come before convolutions, and what is not alive at the peak is never chosen. Scores are
 * found anew only for what may be the best. Where that does not come through, it is done again in small steps, from
 * the most that is alive downwards, which gets lower; the lowest plan of that way is the least that can be had. In the
 * end whatever need not be made again after all is kept.
 *
 * Tested by tests/unit/test_rematerialize.c, test_fuzz_passes.c and tests/golden. */
#include "passes/pass_impl.h"
#include "passes/remat.h"

#include <math.h>
#include <string.h>

enum {
    MOST_TRIES = 8,        /* of a lower aim, where values do not lie without gaps */
    SMALLEST_SHARE = 4096, /* of the peak: what is less is kept */
};
static const double STAGE = 0.97; /* each aim of the slow way is so much of the one before */

typedef struct Remat {
    PassCtx   *c;
    RematModel m;
    RematWalk  w;
    int32_t   *candidate, n;
    double    *score; /* by candidate */
    int32_t   *fresh; /* by candidate: the round in which that was found */
    int32_t    round;
    double     excess, ns; /* of what is chosen so far */
} Remat;

/* ---- Choice ------------------------------------------------------------------------------------------------------ */

static void find_candidates(Remat *r)
{
    int64_t peak = remat_peak(&r->w);
    for (int32_t x = 0; x < r->m.n; x++) {
        const RematItem *it = &r->m.item[x];
        int32_t          next = INT32_MAX;
        for (int32_t i = it->n_use - 1; i >= 0 && r->m.use[it->first_use + i] > it->cut; i--)
            next = r->m.use[it->first_use + i];
        if (!it->fixed && it->n_use > 0 && next - it->cut > 2 && next <= it->until && it->bytes > peak / SMALLEST_SHARE)
            r->candidate[r->n++] = x;
    }
}

/* How much less excess for a nanosecond. */
static double score_of(Remat *r, int32_t x, int64_t aim)
{
    r->w.how[x]++;
    remat_walk(&r->w);
    r->w.how[x]--;
    if (r->w.bad)
        return 0;
    return (r->excess - remat_excess(&r->w, aim)) / fmax(r->w.ns - r->ns, 1);
}

static void measure(Remat *r, int64_t aim)
{
    remat_walk(&r->w);
    r->excess = remat_excess(&r->w, aim);
    r->ns = r->w.ns;
}

static int32_t best_candidate(const Remat *r)
{
    int32_t best = -1;
    for (int32_t i = 0; i < r->n; i++)
        if (r->w.how[r->candidate[i]] < EACH_TIME && (best < 0 || r->score[i] > r->score[best]))
            best = i;
    return best;
}

/* Chooses until nothing is alive beyond the aim. False: it cannot be reached from here. */
static bool choose(Remat *r, int64_t aim)
{
    int32_t looked = r->round++; /* the last round in which all scores were found */
    measure(r, aim);
    for (int32_t i = 0; i < r->n; i++)
        r->score[i] = INFINITY;
    while (r->excess > 0) {
        int32_t best = best_candidate(r);
        if (best < 0)
            return false;
        if (r->score[best] > 0 && r->fresh[best] == r->round) {
            r->w.how[r->candidate[best]]++;
            r->score[best] = INFINITY; /* the step from ONCE to EACH_TIME */
            r->round++;
            measure(r, aim);
        } else if (r->score[best] > 0) {
            r->score[best] = score_of(r, r->candidate[best], aim);
            r->fresh[best] = r->round;
        } else if (looked < r->round) { /* a choice may have made others worth it */
            looked = r->round;
            for (int32_t i = 0; i < r->n; i++)
                r->score[i] = r->fresh[i] == r->round ? r->score[i] : INFINITY;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- Ways to the limit ------------------------------------------------------------------------------------------- */

/* Straight to the limit. The plan may take more than what is alive: then the aim is lowered by that. */
static bool straight(Remat *r, int64_t limit)
{
    int64_t aim = limit;
    for (int32_t i = 0; i < MOST_TRIES && aim > 0; i++) {
        if (!choose(r, aim))
            return false;
        measure(r, aim);
        int64_t over = remat_packed(&r->w) - limit;
        if (over <= 0)
            return true;
        aim -= over + limit / 512;
    }
    return false;
}

/* Downwards, whatever the limit is: a lower limit goes further on the same way. The choices with the lowest peak are
 * left in place. */
static bool downwards(Remat *r, int64_t limit)
{
    uint8_t *best = ARENA_ARRAY(r->c->scratch, uint8_t, r->m.n + 1);
    memset(r->w.how, KEPT, (size_t)r->m.n);
    measure(r, 0);
    int64_t least = remat_peak(&r->w);
    bool    fits = false, ok = true;
    for (double aim = (double)least * STAGE; ok && !fits && aim > 1; aim *= STAGE) {
        ok = choose(r, (int64_t)aim);
        measure(r, 0);
        if (remat_peak(&r->w) > least)
            continue;
        least = remat_peak(&r->w);
        memcpy(best, r->w.how, (size_t)r->m.n);
        fits = least <= limit && remat_packed(&r->w) <= limit;
    }
    memcpy(r->w.how, best, (size_t)r->m.n);
    return fits;
}

/* Later choices may have made earlier ones needless: the dearest are looked at first. Finding the plan each time would
 * take long: it is taken to need as much more than what is alive as it does now. */
static void keep_needless(Remat *r, int64_t limit)
{
    bool    *seen = ARENA_ARRAY(r->c->scratch, bool, r->n + 1);
    uint8_t *was = arena_copy(r->c->scratch, r->w.how, (size_t)r->m.n + 1);
    int64_t  most = limit - (remat_packed(&r->w) - remat_peak(&r->w));
    for (int32_t turn = 0; turn < r->n; turn++) {
        int32_t dearest = -1;
        for (int32_t i = 0; i < r->n; i++)
            if (!seen[i] && r->w.how[r->candidate[i]] != KEPT &&
                (dearest < 0 || r->m.item[r->candidate[i]].ns > r->m.item[r->candidate[dearest]].ns))
                dearest = i;
        if (dearest < 0)
            break;
        const int32_t x = r->candidate[dearest];
        seen[dearest] = true;
        r->w.how[x] = KEPT;
        remat_walk(&r->w);
        if (r->w.bad || r->w.ns > r->ns || remat_peak(&r->w) > most)
            r->w.how[x] = was[x];
        else
            r->ns = r->w.ns;
    }
    remat_walk(&r->w);
    if (remat_packed(&r->w) > limit)
        memcpy(r->w.how, was, (size_t)r->m.n);
}

/* ---- What is said ------------------------------------------------------------------------------------------------ */

static void report(Remat *r, Rematerialized *out)
{
    const RematModel *m = &r->m;
    Arena            *a = r->c->scratch;
    for (int32_t i = 0; i < r->n; i++)
        out->values += r->w.how[r->candidate[i]] != KEPT;
    for (int32_t s = 0; s < r->w.steps.len; s++) {
        const RematStep *step = &r->w.steps.at[s];
        const RematItem *it = step->item >= 0 ? &m->item[step->item] : NULL;
        if (it == NULL || r->w.copy_last.at[s] < 0)
            continue;
        out->launches++;
        out->moved += it->moved;
        out->flops += it->flops;
        pass_explain(r->c, m->g, it->v, "%s: made again for launch %d (%s): %s of it, %s moved, %.3f GFLOP, %.3f ms",
                     r->w.how[step->item] != KEPT ? "not kept" : "needed once more", step->launch,
                     m->g->groups.at[step->launch].name, str_bytes(a, it->bytes), str_bytes(a, it->moved),
                     1e-9 * (double)it->flops, 1e-6 * it->ns);
    }
    out->seconds = 1e-9 * r->w.ns;
    pass_count(r->c, "values not kept", out->values);
    pass_count(r->c, "launches again", out->launches);
    pass_count(r->c, "bytes not kept", out->before - out->after);
}

void passes_print_again(Str *out, const Rematerialized *r)
{
    if (r->limit == 0)
        return;
    Arena *a = out->arena;
    str_printf(
        out,
        "made again: %d launches, so that %d values are not kept: %s instead of %s inside a step, %s were asked for\n",
        r->launches, r->values, str_bytes(a, r->after), str_bytes(a, r->before), str_bytes(a, r->limit));
    str_printf(out, "  they move %s and take %.3f GFLOP: %.2f ms beside %.2f ms of the step, estimated (+%.1f %%)\n",
               str_bytes(a, r->moved), 1e-9 * (double)r->flops, 1e3 * r->seconds, 1e3 * r->step_seconds,
               r->step_seconds > 0 ? 100 * r->seconds / r->step_seconds : 0);
}

/* ---- The pass ---------------------------------------------------------------------------------------------------- */

/* Bytes of values inside a step that the limits leave; 0: they say nothing. At least 1. */
static int64_t values_limit(const PassCtx *c, const Graph *g)
{
    int64_t limit = c->memory;
    for (int32_t i = 0; i < g->order.len && limit > 0; i++)
        if (ir_has(g, g->order.at[i], T_LEAF) || ir_is(g, g->order.at[i], OP_OUTPUT))
            limit =
                dt_max64(limit - dt_round_up(type_bytes(ir_value(g, g->order.at[i])->type), c->target->align_bytes), 1);
    return limit > 0 && c->memory_values > 0 ? dt_min64(limit, c->memory_values) : dt_max64(limit, c->memory_values);
}

bool pass_rematerialize(PassCtx *c, Graph *g)
{
    const int64_t limit = values_limit(c, g);
    if (limit <= 0 || g->groups.len == 0)
        return false;
    Remat r = { .c = c, .m = remat_model(c, g), .round = 1 };
    r.w = remat_walk_new(&r.m);
    remat_walk(&r.w);
    int64_t before = remat_packed(&r.w);
    c->again =
        (Rematerialized){ .limit = limit, .before = before, .after = before, .step_seconds = 1e-9 * r.m.step_ns };
    if (before <= limit)
        return false;
    r.candidate = ARENA_ARRAY(c->scratch, int32_t, r.m.n + 1);
    r.score = ARENA_ARRAY(c->scratch, double, r.m.n + 1);
    r.fresh = ARENA_ARRAY(c->scratch, int32_t, r.m.n + 1);
    find_candidates(&r);
    bool fits = straight(&r, limit) || downwards(&r, limit);
    measure(&r, limit);
    if (fits)
        keep_needless(&r, limit);
    measure(&r, limit);
    c->again.after = remat_packed(&r.w);
    report(&r, &c->again);
    if (r.w.n_again == 0)
        return false;
    remat_write(c, &r.w);
    return true;
}
