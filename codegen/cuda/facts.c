/* facts.c: what is known of instructions and buffers before text is written: on which axes a value depends, what is
 * stored and loaded again, which accesses may take several neighbours at once.
 *
 * Elements of less than a byte are written by one thread a byte: either it makes whole bytes (MAP, eight neighbours),
 * or all accesses to the buffer are atomic.
 *
 * Tested by tests/unit/test_cuda.c. */
#include "codegen/cuda/schedule.h"

/* ---- Dependences ------------------------------------------------------------------------------------------------ */

static uint32_t affine_deps(const Schedule *s, const Affine *a)
{
    uint32_t deps = 0;
    for (int32_t i = 0; i < s->k->n_axes; i++)
        deps |= (uint32_t)(a->coef[i] != 0 && !schedule_is_one(s, i)) << i;
    return deps;
}

static uint32_t deps_of(const Schedule *s, KVal v)
{
    return v == KVAL_NONE ? 0 : s->insts[v].deps;
}

static bool is_mixed(const Schedule *s, const KInst *in)
{
    return in->op == K_LOAD && s->bufs[in->buf].mixed;
}

static void find_deps(Schedule *s, const KRegion *region, bool in_loop)
{
    for (int32_t i = 0; i < region->len; i++) {
        KVal         v = region->at[i];
        const KInst *in = &s->k->insts.at[v];
        InstFacts   *f = &s->insts[v];
        if (in->op == K_LOOP) {
            find_deps(s, &in->region, true);
            continue;
        }
        f->deps = affine_deps(s, &in->addr) | deps_of(s, in->dyn) | deps_of(s, in->guard);
        for (int32_t j = 0; j < k_ops[in->op].n_args; j++)
            f->deps |= deps_of(s, in->arg[j]);
        if ((kop_accumulates(in->op) && in_loop) || (in->op == K_LOAD && s->bufs[in->buf].body_stores))
            f->deps |= DEP_LATE;
    }
}

/* ---- Buffers ---------------------------------------------------------------------------------------------------- */

static void find_buffers(Schedule *s, const KRegion *region, bool final)
{
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &s->k->insts.at[region->at[i]];
        if (in->op == K_LOOP)
            find_buffers(s, &in->region, final);
        if (in->op != K_LOAD && in->op != K_STORE)
            continue;
        BufFacts *f = &s->bufs[in->buf];
        bool      store = in->op == K_STORE;
        f->mixed = f->mixed || (!store && (f->body_stores || f->final_stores));
        *(final ? store ? &f->final_stores : &f->final_loads : store ? &f->body_stores : &f->body_loads) = true;
    }
}

void schedule_facts(Arena *a, Schedule *s)
{
    s->bufs = ARENA_ARRAY(a, BufFacts, s->k->bufs.len + 1);
    s->insts = ARENA_ARRAY(a, InstFacts, s->k->insts.len + 1);
    find_buffers(s, &s->k->body, false);
    find_buffers(s, &s->k->final, true);
    find_deps(s, &s->k->body, false);
    find_deps(s, &s->k->final, false);
}

/* ---- Neighbours at once ------------------------------------------------------------------------------------------ */

bool schedule_aligned(const Schedule *s, const KInst *in, int32_t width)
{
    const Kernel *k = s->k;
    if (s->vec < 0 || in->dyn != KVAL_NONE || in->addr.coef[s->vec] != 1 || in->addr.c0 % width != 0)
        return false;
    for (int32_t i = 0; i < k->n_axes; i++)
        if (i != s->vec && !schedule_is_one(s, i) && in->addr.coef[i] % width != 0)
            return false;
    for (int32_t row = 0; in->addr.seg_col >= 0 && row < s->n_rows; row++)
        if (k->seg.ints[row * k->seg.int_cols + in->addr.seg_col] % width != 0)
            return false;
    return true;
}

static int32_t bits_of(const Schedule *s, const KInst *in)
{
    return dtype_bits(s->k->bufs.at[in->buf].dtype);
}

/* Whether threads make whole bytes of a stored buffer, and whether all stores to it may be put off to the end of a run
 * of instructions. */
static void find_shared_bytes(Schedule *s, bool *vectors)
{
    for (int32_t i = 0; i < s->k->bufs.len; i++)
        vectors[i] = s->width > 1 && !s->bufs[i].mixed;
    for (int32_t v = 0; v < s->k->insts.len; v++) {
        const KInst *in = &s->k->insts.at[v];
        if (in->op != K_STORE)
            continue;
        bool aligned = s->width > 1 && schedule_aligned(s, in, s->width);
        if (bits_of(s, in) < 8 && (s->width < 8 || !aligned))
            s->bufs[in->buf].atomic = true;
        if (!aligned || (in->guard != KVAL_NONE && s->insts[in->guard].varying))
            vectors[in->buf] = false;
    }
}

static Access access_of(const Schedule *s, const KInst *in, const bool *vectors)
{
    const BufFacts *b = &s->bufs[in->buf];
    if (b->atomic)
        return ACCESS_ATOMIC;
    bool wide = s->width >= 8 || bits_of(s, in) >= 8;
    bool fits = in->op == K_STORE ? vectors[in->buf] : s->width > 1 && !b->mixed && schedule_aligned(s, in, s->width);
    bool guarded = in->guard != KVAL_NONE && s->insts[in->guard].varying;
    return wide && fits && !guarded ? ACCESS_VECTOR : ACCESS_ELEMENT;
}

void schedule_accesses(Schedule *s)
{
    bool vectors[256];
    DT_ASSERT(s->k->bufs.len <= DT_COUNT(vectors), "kernel %s has %d buffers", s->k->name, s->k->bufs.len);
    for (int32_t v = 0; v < s->k->insts.len; v++)
        s->insts[v].varying =
            s->width > 1 && ((s->insts[v].deps & 1u << s->vec) != 0 || is_mixed(s, &s->k->insts.at[v]));
    /* what depends on a varying value varies; values come before their uses, totals of loops after their arguments */
    for (bool again = s->width > 1; again;) {
        again = false;
        for (int32_t v = 0; v < s->k->insts.len; v++) {
            const KInst *in = &s->k->insts.at[v];
            bool         varies = s->insts[v].varying;
            for (int32_t j = 0; j < k_ops[in->op].n_args; j++)
                varies = varies || s->insts[in->arg[j]].varying;
            varies = varies || (in->dyn != KVAL_NONE && s->insts[in->dyn].varying) ||
                     (in->guard != KVAL_NONE && s->insts[in->guard].varying);
            again = again || varies != s->insts[v].varying;
            s->insts[v].varying = varies;
        }
    }
    find_shared_bytes(s, vectors);
    for (int32_t v = 0; v < s->k->insts.len; v++) {
        const KInst *in = &s->k->insts.at[v];
        if (in->op == K_LOAD || in->op == K_STORE)
            s->insts[v].access = access_of(s, in, vectors);
    }
}
