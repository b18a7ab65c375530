/* run_warp.c: what threads do together: barriers, fences, shuffles, votes. Every lane that a mask names must be there.
 * Tested by tests/unit/test_sim.c. */
#include "runtime/sim/check.h"

#include <string.h>

void op_barrier(Run *r, const Inst *in)
{
    if (!r->active)
        return;
    if (r->active != r->threads) {
        int32_t lane = 0;
        while (r->mask[lane])
            lane++;
        run_fault(r, in, run_first_active(r), "divergent __syncthreads: thread %d %s", lane,
                  r->gone[lane] ? "has returned" : "does not get here");
        run_fault_help(r, "all threads of a block must reach the same __syncthreads()");
        return;
    }
    watch_barrier(r);
}

void op_fence(Run *r, const Inst *in)
{
    (void)in;
    if (r->active)
        watch_fence(r);
}

/* The lanes of a warp that are active, as bits. */
static uint32_t active_lanes(const Run *r, int32_t warp)
{
    uint32_t bits = 0;
    for (int32_t k = 0; k < WARP_LANES; k++)
        bits |= (r->mask[warp * WARP_LANES + k] & 1) << k;
    return bits;
}

/* The mask of a warp's active lanes: the same in all, of lanes that are there, their own among them. */
static bool mask_ok(Run *r, const Inst *in, int32_t warp, uint32_t here)
{
    const u32a *mask = run_reg(r, in->c);
    for (int32_t k = 0; k < WARP_LANES; k++) {
        int32_t  lane = warp * WARP_LANES + k;
        uint32_t named = mask[lane];
        if (!(here >> k & 1) || named == here)
            continue;
        uint32_t missing = named & ~here;
        if (missing) {
            int32_t other = warp * WARP_LANES + __builtin_ctz(missing);
            run_fault(r, in, lane, "wrong lane: the mask 0x%08x names lane %d (thread %d), which %s", named,
                      __builtin_ctz(missing), other,
                      other >= r->threads ? "is not in the block"
                      : r->gone[other]    ? "has returned"
                                          : "does not get here");
            return false;
        }
        if (!(named >> k & 1)) {
            run_fault(r, in, lane, "wrong lane: the mask 0x%08x does not name this thread's own lane %d", named, k);
            return false;
        }
    }
    return true;
}

void op_syncwarp(Run *r, const Inst *in)
{
    for (int32_t w = 0; w < r->lanes / WARP_LANES; w++) {
        uint32_t here = active_lanes(r, w);
        int32_t  threads = r->threads - w * WARP_LANES;
        uint32_t all = threads >= WARP_LANES ? UINT32_MAX : (UINT32_C(1) << threads) - 1;
        if (!here)
            continue;
        if (!mask_ok(r, in, w, here))
            return;
        if (here == all) /* a part of a warp is not joined: the rest may be anywhere */
            watch_warp(r, w);
    }
}

/* ---- Votes ---- */

static void vote(Run *r, const Inst *in, uint32_t (*result)(uint32_t votes, uint32_t named))
{
    const u32a *c = run_reg(r, in->a), *mask = run_reg(r, in->c);
    u32a       *d = run_reg(r, in->d[0]);
    for (int32_t w = 0; w < r->lanes / WARP_LANES; w++) {
        uint32_t here = active_lanes(r, w), votes = 0;
        if (!here)
            continue;
        if (!mask_ok(r, in, w, here))
            return;
        for (int32_t k = 0; k < WARP_LANES; k++)
            votes |= (c[w * WARP_LANES + k] & 1) << k;
        for (int32_t k = 0; k < WARP_LANES; k++)
            if (here >> k & 1)
                d[w * WARP_LANES + k] = result(votes, mask[w * WARP_LANES + k]);
    }
}

static uint32_t vote_bits(uint32_t votes, uint32_t named)
{
    return votes & named;
}

static uint32_t vote_any(uint32_t votes, uint32_t named)
{
    return (votes & named) != 0;
}

static uint32_t vote_all(uint32_t votes, uint32_t named)
{
    return (votes & named) == named;
}

void op_ballot(Run *r, const Inst *in)
{
    vote(r, in, vote_bits);
}

void op_any(Run *r, const Inst *in)
{
    vote(r, in, vote_any);
}

void op_all(Run *r, const Inst *in)
{
    vote(r, in, vote_all);
}

/* ---- Shuffles ---- */

/* Which lane of its warp a lane reads; where that would leave its part of `width` lanes, itself. */
typedef int32_t (*Source)(int32_t k, uint32_t by, int32_t width);

static int32_t source_index(int32_t k, uint32_t by, int32_t width)
{
    return (k & -width) | ((int32_t)by & (width - 1));
}

static int32_t source_up(int32_t k, uint32_t by, int32_t width)
{
    return by > (uint32_t)(k & (width - 1)) ? k : k - (int32_t)by;
}

static int32_t source_down(int32_t k, uint32_t by, int32_t width)
{
    return by > (uint32_t)(width - 1 - (k & (width - 1))) ? k : k + (int32_t)by;
}

static int32_t source_xor(int32_t k, uint32_t by, int32_t width)
{
    uint32_t to = (uint32_t)k ^ by;
    return to >= WARP_LANES || (int32_t)to >= (k & -width) + width ? k : (int32_t)to;
}

static bool sources(Run *r, const Inst *in, int32_t warp, uint32_t here, Source source, int32_t *from)
{
    const u32a *by = run_reg(r, in->b);
    for (int32_t k = 0; k < WARP_LANES; k++) {
        from[k] = k;
        if (!(here >> k & 1))
            continue;
        from[k] = source(k, by[warp * WARP_LANES + k], (int32_t)in->imm);
        int32_t other = warp * WARP_LANES + from[k];
        if (here >> from[k] & 1)
            continue;
        run_fault(r, in, warp * WARP_LANES + k, "wrong lane: it reads from lane %d (thread %d), which %s", from[k],
                  other,
                  other >= r->threads ? "is not in the block"
                  : r->gone[other]    ? "has returned"
                                      : "does not get here");
        return false;
    }
    return true;
}

static void shuffle(Run *r, const Inst *in, Source source, bool wide)
{
    int32_t from[WARP_LANES];
    for (int32_t w = 0; w < r->lanes / WARP_LANES; w++) {
        uint32_t here = active_lanes(r, w);
        if (!here)
            continue;
        if (!mask_ok(r, in, w, here) || !sources(r, in, w, here, source, from))
            return;
        uint64_t values[WARP_LANES];
        for (int32_t k = 0; k < WARP_LANES; k++) {
            int32_t lane = w * WARP_LANES + from[k];
            values[k] = wide ? ((const u64a *)run_reg(r, in->a))[lane] : ((const u32a *)run_reg(r, in->a))[lane];
        }
        for (int32_t k = 0; k < WARP_LANES; k++) {
            int32_t lane = w * WARP_LANES + k;
            if (wide)
                ((u64a *)run_reg(r, in->d[0]))[lane] = values[k];
            else
                ((u32a *)run_reg(r, in->d[0]))[lane] = (uint32_t)values[k];
        }
    }
}

#define SHUFFLE(name, source)                                                                                          \
    void op_shfl##name(Run *r, const Inst *in)                                                                         \
    {                                                                                                                  \
        shuffle(r, in, source, false);                                                                                 \
    }                                                                                                                  \
    void op_shfl64##name(Run *r, const Inst *in)                                                                       \
    {                                                                                                                  \
        shuffle(r, in, source, true);                                                                                  \
    }
SHUFFLE(, source_index)
SHUFFLE(_up, source_up)
SHUFFLE(_down, source_down)
SHUFFLE(_xor, source_xor)
