/* print_fold.c: reductions. The order of a sum is stated in kernel.h (Kernel.lanes) and the same here:
 *
 *   1. each thread of a slot makes the elements of its lane, in increasing order;
 *   2. the lanes of a slot are added up as a tree: by shared memory between warps, by shuffles inside one;
 *   3. chunks are added up in increasing order: by the slot that has the only one, by the first slot of a block that
 * has them all, or by the last block of the tile to arrive. That one reads partial results a slab at a time into shared
 *      memory with all its threads, so that memory is waited for once a slab and not once a chunk;
 *   4. the same threads, one a column, do `final`.
 *
 * A ticket counts the blocks of a tile that have arrived; the last one puts it back to 0.
 *
 * Tested by tests/unit/test_cuda.c. */
#include <inttypes.h>

#include "codegen/cuda/print.h"

enum { WARP = 32 };

/* "12u * x", without what changes nothing */
static const char *times(Printer *p, int64_t factor, const char *x)
{
    return factor == 1 ? x : arena_printf(p->a, "%" PRId64 "u * %s", factor, x);
}

static const char *plus(Printer *p, const char *x, const char *y)
{
    return str_eq(x, "0u") ? y : arena_printf(p->a, "%s + %s", x, y);
}

/* ---- Where a thread stands -------------------------------------------------------------------------------------- */

static const char *part_of_thread(Printer *p, int32_t divisor, int32_t modulus)
{
    const char *x = divisor > 1 ? arena_printf(p->a, "threadIdx.x / %du", divisor) : "threadIdx.x";
    return divisor * modulus < p->s->block ? arena_printf(p->a, "%s %% %du", x, modulus) : x;
}

static void print_place(Printer *p)
{
    const Schedule *s = p->s;
    if (s->columns > 1)
        put(p, "const unsigned column = %s;", part_of_thread(p, 1, s->columns));
    if (s->lanes > 1)
        put(p, "const unsigned lane = %s;", part_of_thread(p, s->columns, s->lanes));
    if (s->slots > 1)
        put(p, "const unsigned slot = %s;", part_of_thread(p, s->columns * s->lanes, s->slots));
    const char *slot = s->slots > 1 ? " + slot" : "", *block = block_of(p), *groups = field_of(p, FIELD_GROUPS);
    const char *first = s->slots > 1 ? arena_printf(p->a, " * %du%s", s->slots, slot) : "";
    int64_t     tiles;
    bool        alone = schedule_field(s, FIELD_WORK, &tiles) && tiles == 1;
    if (s->end == END_SLOT)
        put(p, "const unsigned tile = %s%s;", block, first);
    else if (s->end == END_BLOCK)
        put(p, "const unsigned tile = %s;", block);
    else if (alone)
        put(p, "const unsigned tile = 0u;");
    else
        put(p, "const unsigned tile = %s / %s;", block, groups);
    if (s->end == END_BLOCK)
        put(p, "const unsigned chunk = slot;");
    else if (s->end != END_SLOT)
        put(p, "const unsigned chunk = %s%s%s%s;", block, alone ? "" : " % ", alone ? "" : groups, first);
    print_flat_axes(p, "tile", false, s->columns, s->columns > 1 ? "column" : NULL);
}

/* Is the last tile of the vec axis not full in some row? */
static bool is_cut(const Schedule *s)
{
    bool cut = false;
    for (int32_t row = 0; row < s->n_rows && s->vec >= 0; row++)
        cut = cut || kernel_extent(s->k, s->vec, row) % s->columns != 0;
    return cut;
}

static void add_condition(Printer *p, Str *out, const char *fmt, ...) DT_PRINTF(3, 4);
static void add_condition(Printer *p, Str *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    str_printf(out, "%s%s", out->len ? " && " : "", arena_vprintf(p->a, fmt, ap));
    va_end(ap);
}

/* That the thread's tile and column are there. */
static void add_tile_conditions(Printer *p, Str *out)
{
    const Schedule *s = p->s;
    int64_t         tiles;
    if (s->end == END_SLOT && (!schedule_field(s, FIELD_WORK, &tiles) || tiles == 0 || tiles % s->slots != 0))
        add_condition(p, out, "tile < %s", field_of(p, FIELD_WORK));
    if (is_cut(s))
        add_condition(p, out, "%s < %s", p->axis_names[s->vec], extent_of(p, s->vec));
}

static void add_chunk_condition(Printer *p, Str *out)
{
    const Schedule *s = p->s;
    int64_t         chunks;
    if (s->end != END_SLOT && (!schedule_field(s, FIELD_CHUNKS, &chunks) || chunks % s->slots != 0))
        add_condition(p, out, "chunk < %s", field_of(p, FIELD_CHUNKS));
}

/* ---- A chunk ---------------------------------------------------------------------------------------------------- */

/* The flat red index is the axis itself where there is but one. */
static const char *red_name(const Printer *p)
{
    return p->s->n_red == 1 ? p->axis_names[p->s->red[0]] : "r";
}
static const char *red_type(const Printer *p)
{
    return p->s->n_red == 1 ? "int" : "unsigned";
}

static void print_elements(Printer *p)
{
    Flat flat = { .name = "r", .divisor = 1 };
    if (p->s->n_red > 1)
        print_axes(p, &flat, p->s->red, p->s->n_red);
    for (int32_t i = 0; i < p->k->body.len; i++)
        if (!schedule_hoists(p->s, p->k->body.at[i]))
            print_instruction(p, p->k->body.at[i]);
}

/* The lane's first element. */
static const char *first_element(Printer *p)
{
    const Schedule *s = p->s;
    const char     *run = field_of(p, FIELD_RUN);
    const char *chunk = s->end == END_SLOT ? NULL : str_eq(run, "1u") ? "chunk" : arena_printf(p->a, "chunk * %s", run);
    if (!chunk)
        return s->lanes > 1 ? "lane" : "0";
    return s->lanes > 1 ? arena_printf(p->a, "%s + lane", chunk) : chunk;
}

/* Can it be loaded before the rest of the body? */
static bool is_early_load(const Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    return in->op == K_LOAD && !schedule_hoists(p->s, v) && !p->s->bufs[in->buf].mixed && in->dyn == KVAL_NONE &&
           (in->guard == KVAL_NONE || schedule_hoists(p->s, in->guard));
}

/* One of `unroll` elements: its loads or the rest. */
static void print_some_of_elements(Printer *p, bool loads, bool all)
{
    Flat flat = { .name = "r", .divisor = 1 };
    put(p, "#pragma unroll");
    put_open(p, "for (int j = 0; j < %d; j++)", p->s->unroll);
    put(p, "const %s %s = first + %d * j;", red_type(p), red_name(p), p->s->lanes);
    if (!all)
        put_open(p, "if (%s < end)", red_name(p));
    if (p->s->n_red > 1)
        print_axes(p, &flat, p->s->red, p->s->n_red);
    for (int32_t i = 0; i < p->k->body.len; i++) {
        KVal v = p->k->body.at[i];
        if (loads && is_early_load(p, v))
            put(p, "%s[j] = %s;", name_of(p, v), load_of(p, v));
        else if (!loads && !is_early_load(p, v) && !schedule_hoists(p->s, v))
            print_instruction(p, v);
    }
    if (!all)
        put_close(p);
    put_close(p);
}

/* Several elements at a time, first all loads. */
static void print_loads_first(Printer *p)
{
    const Schedule *s = p->s;
    const char     *end = field_of(p, FIELD_RED);
    if (s->end != END_SLOT)
        end = arena_printf(p->a, "min((chunk + 1u) * %s, %s)", field_of(p, FIELD_RUN), end);
    put(p, "const %s end = %s;", red_type(p), end);
    put_open(p, "for (%s first = %s; first < end; first += %d)", red_type(p), first_element(p), s->lanes * s->unroll);
    for (int32_t i = 0; i < p->k->body.len; i++)
        if (is_early_load(p, p->k->body.at[i])) {
            KVal v = p->k->body.at[i];
            p->is_array[v] = true;
            put(p, "%s %s[%d];", ctype_of(p->k->insts.at[v].type), name_of(p, v), s->unroll);
        }
    bool all = s->even && s->rounds % s->unroll == 0;
    print_some_of_elements(p, true, all);
    print_some_of_elements(p, false, all);
    put_close(p);
}

/* The same number of elements everywhere. */
static void print_even_chunk(Printer *p)
{
    const Schedule *s = p->s;
    const char     *step = s->lanes > 1 ? arena_printf(p->a, "%d * e", s->lanes) : "e";
    if (s->rounds > 1 && s->lanes == 1 && s->end == END_SLOT) {
        if (s->unroll > 1)
            put(p, "#pragma unroll %d", s->unroll);
        const char *r = red_name(p);
        put_open(p, "for (%s %s = 0; %s < %" PRId64 "; %s++)", red_type(p), r, r, s->rounds, r);
    } else if (s->rounds > 1) {
        put(p, "const int first = %s;", first_element(p));
        if (s->unroll > 1)
            put(p, "#pragma unroll %d", s->unroll);
        put_open(p, "for (int e = 0; e < %" PRId64 "; e++)", s->rounds);
        put(p, "const %s %s = first + %s;", red_type(p), red_name(p), step);
    } else if (s->n_red > 0) {
        put(p, "const %s %s = %s;", red_type(p), red_name(p), first_element(p));
    }
    print_elements(p);
    if (s->rounds > 1)
        put_close(p);
}

/* The elements of this thread's lane. */
static void print_chunk(Printer *p)
{
    const Schedule *s = p->s;
    const char     *red = field_of(p, FIELD_RED), *name = red_name(p);
    if (s->loads_first) {
        print_loads_first(p);
        return;
    }
    if (s->even) {
        print_even_chunk(p);
        return;
    }
    if (s->end != END_SLOT)
        red = arena_printf(p->a, "min((chunk + 1u) * %s, %s)", field_of(p, FIELD_RUN), red);
    put(p, "const %s end = %s;", red_type(p), red);
    if (s->unroll > 1)
        put(p, "#pragma unroll %d", s->unroll);
    put_open(p, "for (%s %s = %s; %s < end; %s += %d)", red_type(p), name, first_element(p), name, name, s->lanes);
    print_elements(p);
    put_close(p);
}

static void print_body(Printer *p)
{
    Str on = str_new(p->a);
    add_tile_conditions(p, &on);
    add_chunk_condition(p, &on);
    for (int32_t i = 0; i < p->s->n_acc; i++) {
        const KInst *acc = &p->k->insts.at[p->s->acc[i]];
        put(p, "%s %s = %s;", ctype_of(acc->type), total_name(p, p->s->acc[i]), identity_of(acc));
    }
    if (on.len)
        put_open(p, "if (%s)", on.s);
    else
        put_block(p);
    for (int32_t i = 0; i < p->k->body.len; i++)
        if (schedule_hoists(p->s, p->k->body.at[i]))
            print_instruction(p, p->k->body.at[i]);
    print_chunk(p);
    put_close(p);
}

/* ---- Lanes ------------------------------------------------------------------------------------------------------ */

/* Shared and scratch memory are floats; integers lie there with their bits. */
static const char *as_float(Printer *p, const KInst *acc, const char *x)
{
    return acc->type == KT_F32 ? x : arena_printf(p->a, "__int_as_float(%s)", x);
}
static const char *from_float(Printer *p, const KInst *acc, const char *x)
{
    return acc->type == KT_F32 ? x : arena_printf(p->a, "__float_as_int(%s)", x);
}

static const char *times_thread(Printer *p, int32_t i)
{
    return i == 0 ? "" : arena_printf(p->a, "%d + ", i * p->s->block);
}

/* name = name (+) x */
static void put_combine(Printer *p, int32_t i, const char *x)
{
    const KInst *acc = &p->k->insts.at[p->s->acc[i]];
    const char  *name = total_name(p, p->s->acc[i]);
    put(p, "%s = %s;", name, combine_of(p, acc, name, from_float(p, acc, x)));
}

/* Accumulators [from, to) by shared memory, as long as the tree goes from warp to warp. */
static void print_shared_tree(Printer *p, int32_t from, int32_t to)
{
    int32_t widest = p->s->lanes / 2 * p->s->columns;
    bool    once = widest / 2 < WARP || widest == p->s->columns;
    if (once)
        put_block(p);
    else
        put_open(p, "for (unsigned d = %du; d >= %du; d /= 2u)", widest, WARP);
    const char *d = once ? arena_printf(p->a, "%du", widest) : "d";
    for (int32_t i = from; i < to; i++) {
        const KInst *acc = &p->k->insts.at[p->s->acc[i]];
        put(p, "partial[%sthreadIdx.x] = %s;", times_thread(p, i - from),
            as_float(p, acc, total_name(p, p->s->acc[i])));
    }
    put(p, "__syncthreads();");
    if (once)
        put_open(p, "if (lane < %du)", widest / p->s->columns);
    else
        put_open(p, "if (lane < d / %du)", p->s->columns);
    for (int32_t i = from; i < to; i++)
        put_combine(p, i, arena_printf(p->a, "partial[%sthreadIdx.x + %s]", times_thread(p, i - from), d));
    put_close(p);
    put(p, "__syncthreads();");
    put_close(p);
}

static void print_tree(Printer *p)
{
    static const char *const kinds[] = { [KACC_SUM] = "sum", [KACC_MIN] = "min", [KACC_MAX] = "max" };
    const Schedule          *s = p->s;
    int32_t                  widest = s->lanes / 2 * s->columns;
    if (s->lanes == 1 || s->n_acc == 0)
        return;
    put(p, "/* lanes, as a tree */");
    int32_t at_once = widest >= WARP ? s->shared_floats / s->block : 0;
    for (int32_t i = 0; widest >= WARP && i < s->n_acc; i += at_once)
        print_shared_tree(p, i, i + at_once < s->n_acc ? i + at_once : s->n_acc);
    if (s->columns >= WARP)
        return;
    for (int32_t i = 0; i < s->n_acc; i++) {
        const KInst *acc = &p->k->insts.at[s->acc[i]];
        const char  *name = total_name(p, s->acc[i]);
        const char  *fn = arena_printf(p->a, "warp_%s_%s", kinds[acc->imm.i], acc->type == KT_F32 ? "f32" : "i32");
        prelude_use(p->prelude, fn);
        put(p, "%s = %s(%s, %d, %d);", name, fn, name, widest < WARP ? widest : WARP / 2, s->columns);
    }
}

/* ---- Chunks ----------------------------------------------------------------------------------------------------- */

/* The threads that have totals: one a column. */
static const char *first_threads(Printer *p)
{
    return p->s->columns == 1 ? "threadIdx.x == 0u" : arena_printf(p->a, "threadIdx.x < %du", p->s->columns);
}

static void print_final(Printer *p)
{
    p->in_final = true;
    print_region(p, &p->k->final);
    p->in_final = false;
}

static void print_identities(Printer *p)
{
    for (int32_t i = 0; i < p->s->n_acc; i++)
        put(p, "%s = %s;", total_name(p, p->s->acc[i]), identity_of(&p->k->insts.at[p->s->acc[i]]));
}

/* Adds up partial[chunk][accumulator][column] for the number of chunks given. */
static void print_sum_of_chunks(Printer *p, const char *chunks)
{
    int32_t columns = p->s->columns, partial = p->s->n_acc * columns;
    put(p, "#pragma unroll %d", p->s->n_acc > 4 ? 4 : 8);
    put_open(p, "for (int e = 0; e < %s; e++)", chunks);
    const char *at = partial > 1 ? arena_printf(p->a, "%d * e", partial) : "e";
    put(p, "const float *at = partial + (%s%s);", at, columns > 1 ? " + (int)column" : "");
    for (int32_t i = 0; i < p->s->n_acc; i++)
        put_combine(p, i, arena_printf(p->a, "at[%d]", i * columns));
    put_close(p);
}

/* Does `final` load what other threads of the slot stored, or store what they load? */
static bool final_waits(const Schedule *s)
{
    for (int32_t i = 0; i < s->k->bufs.len; i++) {
        const BufFacts *b = &s->bufs[i];
        if ((b->body_stores && b->final_loads) || (b->body_loads && b->final_stores))
            return s->lanes > 1;
    }
    return false;
}

static void print_end_of_slot(Printer *p)
{
    Str on = str_new(p->a);
    add_tile_conditions(p, &on);
    if (p->s->lanes > 1)
        add_condition(p, &on, "lane == 0u");
    if (final_waits(p->s))
        put(p, p->s->lanes * p->s->columns <= WARP ? "__syncwarp();" : "__syncthreads();");
    if (on.len)
        put_open(p, "if (%s)", on.s);
    else
        put_block(p);
    for (int32_t i = 0; i < p->s->n_acc; i++) { /* a sum of dot may be -0; the total, 0 and that sum, is 0 then */
        const KInst *acc = &p->k->insts.at[p->s->acc[i]];
        const char  *name = total_name(p, p->s->acc[i]);
        if (acc->op == K_DOT)
            put(p, "%s = %s;", name, combine_of(p, acc, identity_of(acc), name));
    }
    print_final(p);
    put_close(p);
}

/* The totals' threads, if their columns are there. */
static const char *final_condition(Printer *p)
{
    Str on = str_new(p->a);
    add_condition(p, &on, "%s", first_threads(p));
    add_tile_conditions(p, &on);
    return on.s;
}

static const char *chunks_as_int(Printer *p)
{
    int64_t chunks;
    return schedule_field(p->s, FIELD_CHUNKS, &chunks) ? arena_printf(p->a, "%" PRId64, chunks)
                                                       : arena_printf(p->a, "(int)%s", field_of(p, FIELD_CHUNKS));
}

static void print_end_of_block(Printer *p)
{
    const Schedule *s = p->s;
    put(p, "/* all chunks, in order */");
    if (s->n_acc > 0 && s->lanes > 1)
        put_open(p, "if (lane == 0u)");
    for (int32_t i = 0; i < s->n_acc; i++) {
        const char *at = arena_printf(p->a, "%du * slot", s->n_acc * s->columns);
        if (i > 0)
            at = arena_printf(p->a, "%s + %du", at, i * s->columns);
        if (s->columns > 1)
            at = arena_printf(p->a, "%s + column", at);
        put(p, "partial[%s] = %s;", at, as_float(p, &p->k->insts.at[s->acc[i]], total_name(p, s->acc[i])));
    }
    if (s->n_acc > 0 && s->lanes > 1)
        put_close(p);
    put(p, "__syncthreads();");
    put_open(p, "if (%s)", final_condition(p));
    print_identities(p);
    if (s->n_acc > 0)
        print_sum_of_chunks(p, chunks_as_int(p));
    print_final(p);
    put_close(p);
}

/* Where the partial results of chunk `chunk` of the tile begin. */
static const char *part_of(Printer *p, const char *chunk)
{
    const Schedule *s = p->s;
    const char     *slot = arena_printf(p->a, "tile * %s", field_of(p, FIELD_CHUNKS));
    if (chunk)
        slot = arena_printf(p->a, "(%s + %s)", slot, chunk);
    slot = times(p, s->n_acc * s->columns, slot);
    if (s->scratch_bytes / 4 > UINT32_MAX)
        slot = arena_printf(p->a, "(unsigned long long)%s", slot);
    return plus(p, field_of(p, FIELD_SCRATCH), slot);
}

static void print_partial_results(Printer *p)
{
    const Schedule *s = p->s;
    Str             on = str_new(p->a);
    if (s->n_acc == 0)
        return;
    put(p, "/* this chunk's part; the last block to bring one adds up all of them, in order */");
    if (s->lanes > 1)
        add_condition(p, &on, "lane == 0u");
    add_chunk_condition(p, &on);
    if (on.len)
        put_open(p, "if (%s)", on.s);
    else
        put_block(p);
    put(p, "float *at = scratch + (%s%s);", part_of(p, "chunk"), s->columns > 1 ? " + column" : "");
    for (int32_t i = 0; i < s->n_acc; i++)
        put(p, "at[%d] = %s;", i * s->columns, as_float(p, &p->k->insts.at[s->acc[i]], total_name(p, s->acc[i])));
    put_close(p);
}

/* All blocks of the tile but the last one to come return. */
static void print_ticket(Printer *p)
{
    const char *groups = field_of(p, FIELD_GROUPS), *ticket = plus(p, field_of(p, FIELD_TICKET), "tile");
    put(p, "__threadfence();");
    put(p, "__syncthreads();");
    put_open(p, "if (threadIdx.x == 0u)");
    put(p, "arrived = atomicAdd(&tickets[%s], 1u) + 1u;", ticket);
    put(p, "if (arrived == %s)", groups);
    put(p, "    tickets[%s] = 0u;", ticket);
    put_close(p);
    put(p, "__syncthreads();");
    put(p, "if (arrived != %s)", groups);
    put(p, "    return;");
    put(p, "__threadfence();");
}

/* What this thread loads of the slab that begins at chunk `first` (NULL: the first one): into q0, q1, ... */
static void print_slab_loads(Printer *p, const char *first)
{
    const Schedule *s = p->s;
    int32_t         unit = schedule_quad(s), part = s->n_acc * s->columns / unit;
    const char     *type = first ? "" : unit == 4 ? "float4 " : "float ";
    for (int32_t i = 0; i < s->slab_loads; i++) {
        const char *at = "threadIdx.x";
        if (i > 0)
            at = arena_printf(p->a, "%s + %du", at, i * s->block);
        if (first)
            at = arena_printf(p->a, "%s + %s", at, times(p, part, first));
        if (!s->slab_even)
            at = arena_printf(p->a, "min(%s, %s - 1u)", at, times(p, part, field_of(p, FIELD_CHUNKS)));
        put(p, "%sq%d = __ldcg(parts + (%s));", type, i, at);
    }
}

static void print_slab_stores(Printer *p)
{
    const Schedule *s = p->s;
    const char     *to = schedule_quad(s) == 4 ? "((float4 *)partial)" : "partial";
    for (int32_t i = 0; i < s->slab_loads; i++)
        put(p, "%s[threadIdx.x%s] = q%d;", to, i > 0 ? arena_printf(p->a, " + %du", i * s->block) : "", i);
    put(p, "__syncthreads();");
}

static void print_slab_sum(Printer *p, const char *chunks)
{
    put_open(p, "if (%s)", first_threads(p));
    print_sum_of_chunks(p, chunks);
    put_close(p);
}

/* While one slab is added up, the next one is on its way. */
static void print_slabs(Printer *p)
{
    const Schedule *s = p->s;
    const char     *chunks = field_of(p, FIELD_CHUNKS), *type = schedule_quad(s) == 4 ? "float4" : "float";
    if (s->n_acc == 0)
        return;
    print_identities(p);
    put(p, "const %s *parts = (const %s *)(scratch + (%s));", type, type, part_of(p, NULL));
    print_slab_loads(p, NULL);
    if (s->one_slab) {
        print_slab_stores(p);
        print_slab_sum(p, chunks_as_int(p));
        return;
    }
    put(p, "#pragma unroll 1");
    put_open(p, "for (unsigned first = 0u; first < %s; first += %du)", chunks, s->slab);
    print_slab_stores(p);
    put_open(p, "if (first + %du < %s)", s->slab, chunks);
    print_slab_loads(p, arena_printf(p->a, "(first + %du)", s->slab));
    put_close(p);
    print_slab_sum(p, s->slab_even ? arena_printf(p->a, "%d", s->slab)
                                   : arena_printf(p->a, "(int)min(%du, %s - first)", s->slab, chunks));
    put(p, "__syncthreads();");
    put_close(p);
}

static void print_end_of_grid(Printer *p)
{
    print_partial_results(p);
    print_ticket(p);
    print_slabs(p);
    put_open(p, "if (%s)", final_condition(p));
    print_final(p);
    put_close(p);
}

/* ---- All -------------------------------------------------------------------------------------------------------- */

void print_fold(Printer *p)
{
    const Schedule *s = p->s;
    if (s->shared_floats > 0)
        put(p, "__shared__ %sfloat partial[%d];", s->end == END_GRID && schedule_quad(s) == 4 ? "__align__(16) " : "",
            s->shared_floats);
    if (s->end == END_GRID)
        put(p, "__shared__ unsigned arrived;");
    print_place(p);
    print_body(p);
    print_tree(p);
    switch (s->end) {
    case END_SLOT:
        print_end_of_slot(p);
        break;
    case END_BLOCK:
        print_end_of_block(p);
        break;
    case END_GRID:
        print_end_of_grid(p);
        break;
    }
}
