/* run_memory.c: loads, stores, atomics. First all addresses, then one check of bounds and alignment for all lanes, then
 * the accesses: one by one where they are watched for races (check.h), else in a plain loop.
 *
 * Tested by tests/unit/test_sim.c. */
#include "runtime/sim/check.h"

#include <string.h>

/* ---- Addresses ---- */

void run_addresses(const Run *r, const Inst *in, i64a *to)
{
    int32_t       n = r->lanes;
    const int64_t imm = in->imm, scale = in->scale;
    const void   *index = in->b == SLOT_NONE ? NULL : run_reg(r, in->b);
    const i64a   *base = in->a == SLOT_NONE ? NULL : run_reg(r, in->a);
    if (in->index == INDEX_I32)
        LANES to[i] = imm + (int64_t)((const i32a *)index)[i] * scale;
    else if (in->index == INDEX_U32)
        LANES to[i] = imm + (int64_t)((const u32a *)index)[i] * scale;
    else if (in->index == INDEX_I64)
        LANES to[i] = (int64_t)((uint64_t)imm + ((const u64a *)index)[i] * (uint64_t)scale);
    else if (base)
        LANES to[i] = (int64_t)((uint64_t)base[i] + (uint64_t)imm);
    else
        LANES to[i] = imm;
    if (base && in->index != INDEX_NONE)
        LANES to[i] = (int64_t)((uint64_t)to[i] + (uint64_t)base[i]);
}

const char *run_where(Run *r, int32_t region, int64_t offset)
{
    const Region *g = &r->k->regions.at[region];
    int64_t       bytes = sim_base_bytes[g->base] ? sim_base_bytes[g->base] : 1;
    if (g->bytes == bytes && g->kind != REGION_ARG)
        return arena_printf(&r->arena, "'%s'", g->name);
    if (offset % bytes)
        return arena_printf(&r->arena, "byte %lld of '%s'", (long long)offset, g->name);
    return arena_printf(&r->arena, "'%s[%lld]'", g->name, (long long)(offset / bytes));
}

typedef struct Access {
    const Inst *in;
    int32_t     region, bytes; /* of one lane's whole access */
    u32a       *mask;
    int32_t     active;
    bool        write, row; /* row: all lanes, one behind the other; then addr[0] alone may be known */
} Access;

static bool access_fault(Run *r, const Access *a)
{
    const Region *g = &r->k->regions.at[a->region];
    const Place  *p = &r->places[a->region];
    const char   *does = a->write ? "writes" : "reads";
    for (int32_t i = 0; i < r->threads; i++) {
        int64_t at = r->addr[i];
        if (!a->mask[i])
            continue;
        if (at < 0 || at > p->bytes - a->bytes) {
            run_fault(r, a->in, i, "it %s out of bounds: %d bytes at byte %lld of '%s', which has %lld", does, a->bytes,
                      (long long)at, g->name, (long long)p->bytes);
            return false;
        }
        if ((p->align_at + (uint64_t)at) % (uint64_t)a->bytes) {
            run_fault(r, a->in, i, "misaligned: it %s %d bytes at byte %lld of '%s', which is aligned to %lld only",
                      does, a->bytes, (long long)at, g->name,
                      (long long)((p->align_at | (uint64_t)at) & -(p->align_at | (uint64_t)at)));
            return false;
        }
    }
    run_fault(r, a->in, run_first_active(r), "it writes to '%s', which is const", g->name);
    return false;
}

/* Bounds and alignment of all lanes; whether they lie in a row. */
static bool check_addresses(Run *r, Access *a)
{
    const Place *p = &r->places[a->region];
    int32_t      n = r->lanes;
    const i64a  *addr = (const i64a *)r->addr;
    const u32a  *mask = a->mask;
    uint64_t     last = (uint64_t)(p->bytes - a->bytes), low = (uint64_t)a->bytes - 1, origin = p->align_at, bad = 0,
             gap = 0;
    const uint64_t first = (uint64_t)addr[0], step = (uint64_t)a->bytes;
#pragma omp simd reduction(| : bad, gap)
    for (int32_t i = 0; i < n; i++) {
        uint64_t at = (uint64_t)addr[i], wrong = (((origin + at) & low) != 0) | (at > last);
        bad |= mask[i] ? wrong : 0;
        gap |= mask[i] ? at ^ (first + (uint64_t)i * step) : 0;
    }
    a->row = a->active == r->threads && !gap;
    return !bad;
}

/* The usual access, an argument and a 32-bit index: the index is compared, addresses are not made. False: it is another
 * case, or a fault. */
static bool check_indices(Run *r, Access *a)
{
    const Inst  *in = a->in;
    const Place *p = &r->places[a->region];
    int64_t      mask_low = a->bytes - 1, last = p->bytes - a->bytes - in->imm;
    bool         aligned = !((in->scale | in->imm | (int64_t)p->align_at) & mask_low);
    if (in->a != SLOT_NONE || in->scale <= 0 || !aligned || last < 0 ||
        (in->index != INDEX_I32 && in->index != INDEX_U32))
        return false;
    int64_t most = last / in->scale, least = in->imm >= 0 ? -(in->imm / in->scale) : dt_ceil_div(-in->imm, in->scale);
    if (in->index == INDEX_U32 && least > 0)
        return false;
    most = dt_min64(most, in->index == INDEX_I32 ? INT32_MAX : UINT32_MAX);
    least = in->index == INDEX_I32 ? dt_max64(least, INT32_MIN) : 0;
    int32_t        n = r->lanes;
    uint32_t       bad = 0, gap = 0, span = (uint32_t)(most - least), low = (uint32_t)least;
    const u32a    *index = run_reg(r, in->b), *mask = a->mask;
    const uint32_t first = index[0];
    if (most < least)
        return false;
#pragma omp simd reduction(| : bad, gap)
    for (int32_t i = 0; i < n; i++) {
        bad |= index[i] - low > span ? mask[i] : 0;
        gap |= (index[i] ^ (first + (uint32_t)i)) & mask[i];
    }
    a->row = a->active == r->threads && !gap && in->scale == a->bytes;
    r->addr[0] = in->imm + (in->index == INDEX_I32 ? (int64_t)(int32_t)first : (int64_t)first) * in->scale;
    return !bad;
}

/* False: a fault. */
static bool access_ok(Run *r, Access *a)
{
    const Place *p = &r->places[a->region];
    bool         possible = p->bytes >= a->bytes && (p->writable || !a->write);
    if (a->in->region != REGION_NONE) {
        if (possible && check_indices(r, a)) {
            if (!a->row || a->in->n > 1)
                run_addresses(r, a->in, (i64a *)r->addr);
            return true;
        }
        run_addresses(r, a->in, (i64a *)r->addr);
    }
    return (possible && check_addresses(r, a)) || access_fault(r, a);
}

/* ---- Races ---- */

static bool watched(const Run *r, const Access *a)
{
    return r->k->regions.at[a->region].kind == REGION_SHARED || r->places[a->region].watch >= 0;
}

/* Bytes that are watched together there. */
static int32_t granule_of(const Run *r, const Access *a)
{
    const Region *g = &r->k->regions.at[a->region];
    return g->kind == REGION_SHARED ? g->granule : 1 << r->watch->ranges.at[r->places[a->region].watch].shift;
}

static inline Touch *touch_at(Run *r, const Access *a, int64_t offset, int32_t granule)
{
    const Place *p = &r->places[a->region];
    return p->watch < 0 ? &r->watch->shared[p->watch_start + offset / granule] : watch_global(r, p, offset, a->write);
}

static bool watch_reads(Run *r, const Access *a)
{
    int32_t granule = granule_of(r, a);
    bool    shared = r->k->regions.at[a->region].kind == REGION_SHARED;
    for (int32_t i = 0; i < r->threads; i++) {
        if (!a->mask[i])
            continue;
        int64_t at = a->row ? r->addr[0] + (int64_t)i * a->bytes : r->addr[i];
        for (int64_t k = at; k < at + a->bytes; k += granule)
            if (!watch_read(r, a->in, touch_at(r, a, k, granule), i, a->region, k, shared))
                return false;
    }
    return true;
}

/* One lane's write of `value`. */
static inline bool watch_write(Run *r, const Access *a, int32_t lane, int64_t at, int32_t granule, const void *value)
{
    Watch *w = r->watch;
    for (int64_t k = at; k < at + a->bytes; k += granule) {
        Touch *t = touch_at(r, a, k, granule);
        if (!touch_free(w, t, lane)) {
            bool same = memcmp(r->places[a->region].at + at, value, (size_t)a->bytes) == 0;
            if (!watch_write_slow(r, a->in, t, lane, a->region, k, same))
                return false;
            continue;
        }
        t->written = w->now;
        t->writer = (uint16_t)lane;
    }
    return true;
}

/* ---- Local arrays: registers ---- */

static bool local_unit(Run *r, const Access *a, int32_t lane, int32_t *slot, int32_t *def)
{
    const Region *g = &r->k->regions.at[a->region];
    int32_t       unit = (int32_t)(r->addr[lane] / g->unit);
    if (sim_base_bytes[a->in->base] != g->unit) {
        run_fault(r, a->in, lane, "local array '%s' has elements of %d bytes, not %d", g->name, g->unit,
                  sim_base_bytes[a->in->base]);
        return false;
    }
    *slot = g->slot + unit * (g->unit == 8 ? 2 : 1);
    *def = g->def == SLOT_NONE ? SLOT_NONE : g->def + unit;
    return true;
}

static bool local_lane(Run *r, const Access *a, int32_t i)
{
    int32_t slot, def;
    bool    wide = sim_base_bytes[a->in->base] == 8;
    if (!local_unit(r, a, i, &slot, &def))
        return false;
    for (int32_t k = 0; k < a->in->n; k++) {
        int32_t unit = slot + k * (wide ? 2 : 1), reg = a->in->d[k];
        u32a   *set = def == SLOT_NONE ? NULL : run_reg(r, def + k);
        if (!a->write && set && !set[i]) {
            run_fault(r, a->in, i, "it reads %s, which was never given a value",
                      run_where(r, a->region, r->addr[i] + (int64_t)k * sim_base_bytes[a->in->base]));
            return false;
        }
        if (a->write && set)
            set[i] = UINT32_MAX;
        int32_t from = a->write ? reg : unit, to = a->write ? unit : reg;
        if (wide)
            ((u64a *)run_reg(r, to))[i] = ((u64a *)run_reg(r, from))[i];
        else
            ((u32a *)run_reg(r, to))[i] = ((u32a *)run_reg(r, from))[i];
    }
    return true;
}

/* All lanes at one element, the usual case (an unrolled loop): whole registers. */
static bool local_uniform(Run *r, const Access *a)
{
    int32_t slot, def;
    bool    wide = sim_base_bytes[a->in->base] == 8;
    if (!local_unit(r, a, run_first_active(r), &slot, &def))
        return false;
    if (def != SLOT_NONE) {
        Inst mark = *a->in;
        mark.d[0] = mark.a = def;
        (a->write ? op_def : op_need)(r, &mark);
    }
    for (int32_t k = 0; k < a->in->n && !r->fault; k++) {
        int32_t unit = slot + k * (wide ? 2 : 1);
        Inst    copy = { .d = { a->write ? unit : a->in->d[k] }, .a = a->write ? a->in->d[k] : unit };
        if (wide)
            (a->write ? op_set64 : op_mov64)(r, &copy);
        else
            (a->write ? op_set : op_mov)(r, &copy);
    }
    return !r->fault;
}

static void sign_of_small(Run *r, const Access *a)
{
    static const SimOp ops[T_COUNT] = {
        [T_S8] = OP_ext_s8, [T_U8] = OP_ext_u8, [T_S16] = OP_ext_s16, [T_U16] = OP_ext_u16
    };
    SimOp op = ops[a->in->base];
    for (int32_t k = 0; k < a->in->n && op && !a->write; k++) {
        Inst ext = { .d = { a->in->d[k] }, .a = a->in->d[k] };
        sim_op_table[op](r, &ext);
    }
}

static bool access_local(Run *r, Access *a)
{
    const Region *g = &r->k->regions.at[a->region];
    if (a->in->region != REGION_NONE)
        run_addresses(r, a->in, (i64a *)r->addr);
    int64_t first = r->addr[run_first_active(r)], spread = 0;
    for (int32_t i = 0; i < r->threads; i++) {
        int64_t at = r->addr[i];
        if (!a->mask[i])
            continue;
        spread |= at ^ first;
        if (at < 0 || at > g->bytes - a->bytes || at % g->unit) {
            run_fault(r, a->in, i, "index out of local array: %d bytes at byte %lld of '%s', which has %lld", a->bytes,
                      (long long)at, g->name, (long long)g->bytes);
            return false;
        }
    }
    if (!spread && a->mask == r->mask) {
        if (!local_uniform(r, a))
            return false;
    } else {
        for (int32_t i = 0; i < r->threads; i++)
            if (a->mask[i] && !local_lane(r, a, i))
                return false;
    }
    sign_of_small(r, a);
    return true;
}

/* ---- Loads ---- */

#define GATHER(T, D, expr)                                                                                             \
    for (int32_t k = 0; k < a->in->n; k++) {                                                                           \
        D             *d = run_reg(r, a->in->d[k]);                                                                    \
        const uint8_t *at = from + (int64_t)k * (int64_t)sizeof(T);                                                    \
        for (int32_t i = 0; i < r->threads; i++) {                                                                     \
            T v;                                                                                                       \
            if (!row && !a->mask[i])                                                                                   \
                continue;                                                                                              \
            memcpy(&v, at + (row ? r->addr[0] + (int64_t)i * (int64_t)sizeof v : r->addr[i]), sizeof v);               \
            d[i] = (expr);                                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    break;

static void gather(Run *r, const Access *a)
{
    const uint8_t *from = r->places[a->region].at;
    const bool     row = a->row && a->in->n == 1;
    switch (a->in->base) {
    case T_U8:
        GATHER(uint8_t, u32a, (u32a)v)
    case T_S8:
        GATHER(int8_t, i32a, (i32a)v)
    case T_S16:
        GATHER(int16_t, i32a, (i32a)v)
    case T_U16:
        GATHER(uint16_t, u32a, (u32a)v)
    case T_I64:
    case T_U64:
        GATHER(uint64_t, u64a, (u64a)v)
    case T_BOOL:
        GATHER(uint8_t, u32a, v != 0)
    default:
        if (row) {
            memcpy(run_reg(r, a->in->d[0]), from + r->addr[0], (size_t)r->threads * 4);
            break;
        }
        GATHER(uint32_t, u32a, (u32a)v)
    }
}

static bool load(Run *r, Access *a)
{
    if (r->k->regions.at[a->region].kind == REGION_LOCAL)
        return access_local(r, a);
    if (!access_ok(r, a) || (watched(r, a) && !watch_reads(r, a)))
        return false;
    gather(r, a);
    return true;
}

/* ---- Stores ---- */

/* One lane's components as bytes. */
static inline void pack_lane(const Run *r, const Inst *in, int32_t lane, uint8_t *out)
{
    int32_t bytes = sim_base_bytes[in->base];
    for (int32_t k = 0; k < in->n; k++) {
        const u32a *v = run_reg(r, in->d[k]);
        if (bytes == 8)
            memcpy(out + k * 8, (const u64a *)v + lane, 8);
        else if (bytes == 4)
            memcpy(out + k * 4, v + lane, 4);
        else if (bytes == 2)
            out[k * 2] = (uint8_t)v[lane], out[k * 2 + 1] = (uint8_t)(v[lane] >> 8);
        else
            out[k] = (uint8_t)v[lane];
    }
}

/* Words in a row, as most results are. */
static bool store_row(Run *r, const Access *a)
{
    const uint8_t *from = run_reg(r, a->in->d[0]);
    uint8_t       *to = r->places[a->region].at + r->addr[0];
    int32_t        granule = granule_of(r, a);
    for (int32_t i = 0; i < r->threads; i++)
        if (!watch_write(r, a, i, r->addr[0] + (int64_t)i * 4, granule, from + (int64_t)i * 4))
            return false;
    memcpy(to, from, (size_t)r->threads * 4);
    return true;
}

static bool store(Run *r, Access *a)
{
    uint8_t value[32];
    if (r->k->regions.at[a->region].kind == REGION_LOCAL)
        return access_local(r, a);
    if (!access_ok(r, a))
        return false;
    if (a->row && a->in->n == 1 && a->bytes == 4)
        return store_row(r, a);
    uint8_t *to = r->places[a->region].at;
    int32_t  granule = granule_of(r, a);
    for (int32_t i = 0; i < r->threads; i++) {
        if (!a->mask[i])
            continue;
        int64_t at = a->row ? r->addr[0] + (int64_t)i * a->bytes : r->addr[i];
        pack_lane(r, a->in, i, value);
        if (!watch_write(r, a, i, at, granule, value))
            return false;
        memcpy(to + at, value, (size_t)a->bytes);
    }
    return true;
}

/* ---- Atomics ---- */

static uint32_t atomic_result(int32_t op, SimBase base, uint32_t old, uint32_t v)
{
    bool is_signed = base == T_I32, less = is_signed ? (int32_t)v < (int32_t)old : v < old;
    switch (op) {
    case ATOMIC_ADD:
        return old + v;
    case ATOMIC_SUB:
        return old - v;
    case ATOMIC_MIN:
        return less ? v : old;
    case ATOMIC_MAX:
        return less ? old : v;
    case ATOMIC_AND:
        return old & v;
    case ATOMIC_OR:
        return old | v;
    case ATOMIC_XOR:
        return old ^ v;
    case ATOMIC_EXCH:
        return v;
    default:
        return old >= v ? 0 : old + 1; /* INC */
    }
}

static bool atomic(Run *r, Access *a)
{
    const Region *g = &r->k->regions.at[a->region];
    const Place  *p = &r->places[a->region];
    if (g->kind == REGION_LOCAL) {
        run_fault(r, a->in, run_first_active(r), "atomics work on global and shared memory; '%s' is local", g->name);
        return false;
    }
    if (!access_ok(r, a))
        return false;
    u32a       *old = run_reg(r, a->in->d[0]);
    const u32a *v = run_reg(r, a->in->c);
    int32_t     granule = granule_of(r, a);
    for (int32_t i = 0; i < r->threads; i++) {
        if (!a->mask[i])
            continue;
        int64_t at = a->row ? r->addr[0] + (int64_t)i * a->bytes : r->addr[i];
        for (int64_t k = at; k < at + a->bytes; k += granule)
            if (!watch_atomic(r, a->in, touch_at(r, a, k, granule), i, a->region, k))
                return false;
        uint32_t now, was;
        memcpy(&was, p->at + at, 4);
        now = atomic_result(a->in->d[1], (SimBase)a->in->base, was, v[i]);
        memcpy(p->at + at, &now, 4);
        old[i] = was;
    }
    return true;
}

/* ---- Which region ---- */

/* Pointers that carry a tag: lanes of one region after the other. */
static void access_tagged(Run *r, Access *a, bool (*access)(Run *, Access *))
{
    int32_t n = r->lanes;
    u32a   *left = run_reg(r, r->k->slots + EXTRA_LEFT), *some = run_reg(r, r->k->slots + EXTRA_SOME);
    i64a   *full = run_reg(r, r->k->slots + EXTRA_FULL), *addr = (i64a *)r->addr;
    memcpy(left, r->mask, (size_t)n * 4);
    memcpy(full, addr, (size_t)n * 8);
    for (;;) {
        int32_t first = 0;
        while (first < r->threads && !left[first])
            first++;
        if (first == r->threads)
            return;
        int64_t tag = full[first] >> POINTER_TAG_BIT;
        a->region = (int32_t)tag - 1;
        a->active = 0;
        if (tag < 1 || tag > r->k->regions.len) {
            run_fault(r, a->in, first, "a pointer that points nowhere");
            return;
        }
        for (int32_t i = 0; i < n; i++) {
            bool take = left[i] && full[i] >> POINTER_TAG_BIT == tag;
            some[i] = take ? UINT32_MAX : 0;
            left[i] = take ? 0 : left[i];
            addr[i] = full[i] - pointer_origin(a->region);
            a->active += take;
        }
        a->mask = a->active == r->active ? r->mask : some;
        if (!access(r, a))
            return;
    }
}

static void access_memory(Run *r, const Inst *in, bool write, bool (*access)(Run *, Access *))
{
    if (!r->active)
        return;
    Access a = { .in = in,
                 .region = in->region,
                 .bytes = sim_base_bytes[in->base] * in->n,
                 .mask = r->mask,
                 .active = r->active,
                 .write = write };
    if (a.region == REGION_NONE) {
        run_addresses(r, in, (i64a *)r->addr);
        access_tagged(r, &a, access);
    } else {
        access(r, &a);
    }
}

void op_load(Run *r, const Inst *in)
{
    access_memory(r, in, false, load);
}

void op_store(Run *r, const Inst *in)
{
    access_memory(r, in, true, store);
}

void op_atomic(Run *r, const Inst *in)
{
    access_memory(r, in, true, atomic);
}
