/* exec_gpu_memory.c: where a program's tensors lie.
 *
 *   device    param, state, work, scratch, tickets     shared by all programs
 *             io                                       of a program
 *             staging slot 0, 1                        inputs of the next steps on their way into io
 *   host      image 0, 1                               the io arena as it is in the program: what the host writes
 *   (pinned)  ring of `depth` slots                    outputs of the last steps
 *             bounce buffer                            params and states that are read and written
 *
 * What exec_add would take is known before anything is taken, so that a batch that is too large is refused in words.
 *
 * Tested by tests/unit/test_gpu_exec.c. */
#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/exec_gpu.h"

static const int64_t SMALL_GRAIN = 512, LARGE_GRAIN = 2 << 20; /* what drivers round allocations up to */

/* ---- Blocks on the device -------------------------------------------------------------------------------------- */

static int64_t block_len(int64_t bytes)
{
    return dt_round_up(dt_max64(bytes, 1), 2 * bytes >= LARGE_GRAIN ? LARGE_GRAIN : SMALL_GRAIN);
}

/* Zero at first, like the host's. */
static bool block_new(GpuExec *x, DevBlock *b, int64_t bytes)
{
    int64_t len = block_len(bytes);
    CuPtr   at = 0;
    if (!CU(x, alloc, &at, (size_t)len))
        return false;
    *b = (DevBlock){ at, len };
    x->held += len;
    return CU(x, set_bytes, at, 0, (size_t)len, x->gpu->stream);
}

static void block_free(GpuExec *x, DevBlock *b)
{
    if (!b->bytes)
        return;
    (void)CU(x, free, b->at);
    x->held -= b->bytes;
    *b = (DevBlock){ 0 };
}

/* Nothing in it is kept, and the old one goes first: the two together might not fit. */
static bool block_grow(GpuExec *x, DevBlock *b, int64_t bytes)
{
    if (b->bytes >= block_len(bytes))
        return true;
    block_free(x, b);
    return block_new(x, b, bytes);
}

static int64_t ticket_bytes(const Program *p)
{
    int64_t most = 0;
    for (int32_t i = 0; i < p->n_images; i++)
        if (p->images[i].gpu)
            most = dt_max64(most, p->images[i].gpu->tickets);
    return 4 * most;
}

/* ---- Spans ----------------------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const ProgTensor *t = *(const ProgTensor *const *)a, *u = *(const ProgTensor *const *)b;
    if (t->at.arena != u->at.arena)
        return t->at.arena < u->at.arena ? -1 : 1;
    return t->at.offset < u->at.offset ? -1 : t->at.offset > u->at.offset;
}

static int64_t span_end(const Span *s)
{
    return s->at.offset + s->bytes;
}

/* Tensors of a kind that follow each other with none of the other kind between them are one span. */
static Spans spans_of(Arena *a, const Program *p, TensorKind kind)
{
    const ProgTensor **sorted = ARENA_ARRAY(a, const ProgTensor *, p->n_tensors + 1);
    Spans              s = { .at = ARENA_ARRAY(a, Span, p->n_tensors + 1) };
    int32_t            n = 0;
    Span              *open = NULL;
    for (int32_t i = 0; i < p->n_tensors; i++)
        if (p->tensors[i].kind == TENSOR_INPUT || p->tensors[i].kind == TENSOR_OUTPUT)
            sorted[n++] = &p->tensors[i];
    qsort(sorted, (size_t)n, sizeof(sorted[0]), by_place);
    for (int32_t i = 0; i < n; i++) {
        const ProgTensor *t = sorted[i];
        int64_t           end = t->at.offset + t->bytes;
        if (t->kind == kind && open && open->at.arena == t->at.arena) {
            open->bytes = dt_max64(span_end(open), end) - open->at.offset;
        } else if (t->kind == kind) {
            open = &s.at[s.n++];
            *open = (Span){ .at = t->at, .bytes = t->bytes };
        } else if (open && end > span_end(open)) {
            open = NULL;
        }
    }
    for (int32_t i = 0; i < s.n; i++) {
        s.at[i].packed = s.packed_bytes;
        s.packed_bytes += dt_round_up(s.at[i].bytes, 64);
    }
    return s;
}

/* An output may be a param or a state itself: such ones lie behind the arena in its image. */
static int64_t place_images(Spans *s, int64_t image_bytes)
{
    for (int32_t i = 0; i < s->n; i++)
        if (s->at[i].at.arena == ARENA_IO) {
            s->at[i].image = s->at[i].at.offset;
        } else {
            s->at[i].image = image_bytes;
            image_bytes += dt_round_up(s->at[i].bytes, 64);
        }
    return image_bytes;
}

static const Span *span_with(const GpuLoaded *l, const ProgTensor *t)
{
    DT_ASSERT(t->kind == TENSOR_INPUT || t->kind == TENSOR_OUTPUT,
              "%s has no memory of the host: tensor_read and tensor_write reach it", t->name);
    const Spans *s = t->kind == TENSOR_INPUT ? &l->inputs : &l->outputs;
    for (int32_t i = 0; i < s->n; i++)
        if (s->at[i].at.arena == t->at.arena && s->at[i].at.offset <= t->at.offset &&
            t->at.offset + t->bytes <= span_end(&s->at[i]))
            return &s->at[i];
    DT_UNREACHABLE("%s is of another program", t->name);
}

char *gpu_image(const GpuLoaded *l, int32_t stage, const ProgTensor *t)
{
    const Span *s = span_with(l, t);
    return l->image[stage] + s->image + (t->at.offset - s->at.offset);
}

char *gpu_ring(const GpuLoaded *l, int64_t number, const ProgTensor *t)
{
    const Span *s = span_with(l, t);
    return l->ring + number % l->depth * l->outputs.packed_bytes + s->packed + (t->at.offset - s->at.offset);
}

CuPtr gpu_address(const GpuExec *x, const GpuLoaded *l, MemRef at)
{
    const DevBlock *b = at.arena == ARENA_IO ? &l->io : &x->shared[at.arena];
    return b->at + (CuPtr)at.offset;
}

/* ---- How much -------------------------------------------------------------------------------------------------- */

/* The io arena and the staging slots, which no other program uses. */
static int64_t own_bytes(const Program *p)
{
    Arena   scratch = arena_new("memory");
    int64_t staged = STAGES * spans_of(&scratch, p, TENSOR_INPUT).packed_bytes;
    arena_free(&scratch);
    return block_len(p->bytes[ARENA_IO]) + block_len(staged);
}

int64_t gpu_exec_needed(const Exec *e, const Program *const *p, int32_t n)
{
    const GpuExec *x = (const GpuExec *)e;
    int64_t        sum = 0, most[ARENA_COUNT] = { 0 }, tickets = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += own_bytes(p[i]);
        tickets = dt_max64(tickets, block_len(ticket_bytes(p[i])));
        for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
            most[k] = dt_max64(most[k], block_len(p[i]->bytes[k]));
    }
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
        sum += dt_max64(most[k] - x->shared[k].bytes, 0);
    return sum + dt_max64(tickets - x->tickets.bytes, 0);
}

int64_t gpu_exec_available(const Exec *e)
{
    const GpuExec *x = (const GpuExec *)e;
    int64_t        unused = gpu_free_bytes(x->gpu), limit = e->opt.memory_limit;
    return limit > 0 ? dt_max64(dt_min64(limit - x->held, unused), 0) : unused;
}

bool gpu_memory_fits(GpuExec *x, const Program *p)
{
    Diag   *d = x->base.d;
    Arena  *a = x->base.arena;
    int32_t errors = x->gpu->d->errors;
    int64_t needed = gpu_exec_needed(&x->base, &p, 1), available = gpu_exec_available(&x->base);
    if (x->gpu->d->errors > errors) { /* the driver did not say */
        x->base.failed = true;
        return false;
    }
    if (needed <= available)
        return true;
    diag_error(d, LOC_NONE, "memory: program %s needs %s on %s, found %s", p->name, str_bytes(a, needed), x->gpu->name,
               str_bytes(a, available));
    if (x->base.opt.memory_limit > 0)
        diag_note(d, LOC_NONE, "the limit is %s", str_bytes(a, x->base.opt.memory_limit));
    Str largest = str_new(a);
    for (int32_t i = 0; i < PEAK_VALUES && p->peak[i].name; i++)
        str_printf(&largest, "%s%s %s", i ? ", " : "", p->peak[i].name, str_bytes(a, p->peak[i].bytes));
    if (largest.len > 0)
        diag_note(d, LOC_NONE, "the largest values at its peak: %s", largest.s);
    diag_help(d, "a smaller batch needs less");
    return false;
}

/* ---- Allocating ------------------------------------------------------------------------------------------------ */

static bool host_new(GpuExec *x, char **at, int64_t bytes)
{
    void *p = NULL;
    if (!CU(x, alloc_host, &p, (size_t)dt_max64(bytes, 64)))
        return false;
    memset(p, 0, (size_t)dt_max64(bytes, 64));
    *at = p;
    return true;
}

static void host_free(GpuExec *x, char **at)
{
    if (*at)
        (void)CU(x, free_host, *at);
    *at = NULL;
}

static bool shared_grow(GpuExec *x, const Program *p)
{
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
        if (!block_grow(x, &x->shared[k], p->bytes[k]))
            return false;
    return block_grow(x, &x->tickets, ticket_bytes(p));
}

bool gpu_memory_new(GpuExec *x, GpuLoaded *l, const Program *p)
{
    l->inputs = spans_of(x->base.arena, p, TENSOR_INPUT);
    l->outputs = spans_of(x->base.arena, p, TENSOR_OUTPUT);
    l->image_bytes = place_images(&l->inputs, dt_round_up(p->bytes[ARENA_IO], 64));
    l->image_bytes = place_images(&l->outputs, l->image_bytes);
    l->depth = l->outputs.packed_bytes <= RING_BYTES ? RING_STEPS : 1;
    if ((!x->bounce && !host_new(x, &x->bounce, BOUNCE_BYTES)) || !shared_grow(x, p) ||
        !block_new(x, &l->io, p->bytes[ARENA_IO]) || !block_new(x, &l->staging, STAGES * l->inputs.packed_bytes))
        return false;
    for (int32_t i = 0; i < STAGES; i++)
        if (!host_new(x, &l->image[i], l->image_bytes))
            return false;
    return host_new(x, &l->ring, l->depth * l->outputs.packed_bytes);
}

void gpu_memory_free(GpuExec *x, GpuLoaded *l)
{
    host_free(x, &l->ring);
    for (int32_t i = STAGES - 1; i >= 0; i--)
        host_free(x, &l->image[i]);
    block_free(x, &l->staging);
    block_free(x, &l->io);
}

void gpu_memory_release(GpuExec *x)
{
    host_free(x, &x->bounce);
    block_free(x, &x->tickets);
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
        block_free(x, &x->shared[k]);
}
