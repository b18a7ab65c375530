/* exec_host.c: programs on the host's threads. All work on sizes and addresses happens in exec_add(); a step walks a
 * list.
 *
 *   io       one block a program            what the host reads and writes
 *   param    one block for all              as the first program lays it out
 *   state    one block for all
 *   work     one block, the largest need    only one program runs at a time
 *   scratch  one block, the largest need    only one launch runs at a time
 *
 * Blocks are anonymous mappings: zero at first, aligned to pages, given back whole. Large ones ask for huge pages.
 *
 * A kernel's units are independent and its sums have an order of their own, so how units are split over threads changes
 * no bit. The split is static and contiguous: the thread that wrote a part of a tensor reads that part again, and its
 * caches are warm. Launches too small to be worth a parallel region (some microseconds) stay on the calling thread.
 *
 * Tested by tests/unit/test_exec.c. */
#include <omp.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/exec_impl.h"

static const int64_t PAGE = 4096, HUGE_PAGE = 2 << 20;
/* Below this traffic a launch takes a few microseconds: less than waking the other threads. */
static const int64_t SERIAL_BYTES = 64 << 10;

typedef struct Block {
    char   *at;
    int64_t bytes;
} Block;

typedef struct HostLoaded {
    Loaded  base;
    Block   io;
    void ***bufs; /* addresses of each launch */
} HostLoaded;

typedef struct HostExec {
    Exec  base;
    Block shared[ARENA_COUNT]; /* [ARENA_IO] is not used */
} HostExec;

/* ---- Blocks ---------------------------------------------------------------------------------------------------- */

/* At least one page, so that every offset has an address. */
static int64_t block_len(int64_t bytes)
{
    return dt_round_up(dt_max64(bytes, 1), bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE);
}

static bool block_new(Exec *e, Block *b, ArenaKind kind, int64_t bytes)
{
    int64_t len = block_len(bytes);
    int64_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0; /* to start at a huge page; what is left over is unmapped */
    char   *at = mmap(NULL, (size_t)(len + slack), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        diag_error(e->d, LOC_NONE, "memory: no %s for %s", str_bytes(e->arena, bytes), exec_arena_names[kind]);
        diag_help(e->d, "a smaller batch needs less");
        return false;
    }
    if (slack) {
        int64_t skip = -(int64_t)(uintptr_t)at & (HUGE_PAGE - 1);
        if (skip)
            munmap(at, (size_t)skip);
        munmap(at + skip + len, (size_t)(slack - skip));
        at += skip;
        madvise(at, (size_t)len, MADV_HUGEPAGE); /* a wish: without it pages are small */
    }
    *b = (Block){ at, len };
    return true;
}

static void block_free(Block *b)
{
    if (b->at)
        munmap(b->at, (size_t)b->bytes);
    *b = (Block){ 0 };
}

/* Nothing in it is kept: for what lives inside a step. */
static bool block_grow(HostExec *h, ArenaKind kind, int64_t bytes)
{
    Block bigger, *b = &h->shared[kind];
    if (b->at && bytes <= b->bytes)
        return true;
    if (!block_new(&h->base, &bigger, kind, bytes))
        return false;
    block_free(b);
    *b = bigger;
    return true;
}

static int64_t host_needed(const Exec *e, const Program *const *p, int32_t n)
{
    const HostExec *h = (const HostExec *)e;
    int64_t         sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += block_len(p[i]->bytes[ARENA_IO]);
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++) {
        int64_t most = 0;
        for (int32_t i = 0; i < n; i++)
            most = dt_max64(most, block_len(p[i]->bytes[k]));
        sum += dt_max64(most - h->shared[k].bytes, 0);
    }
    return sum;
}

static int64_t host_available(const Exec *e)
{
    (void)e;
    return INT64_MAX;
}

/* ---- Adding a program ------------------------------------------------------------------------------------------ */

static void *ref_ptr(const HostExec *h, const HostLoaded *l, MemRef at)
{
    const Block *b = at.arena == ARENA_IO ? &l->io : &h->shared[at.arena];
    return b->at + at.offset;
}

static void bind(const HostExec *h, const Program *p, const HostLoaded *l)
{
    for (int32_t i = 0; i < p->n_launches; i++)
        for (int32_t j = 0; j < p->launches[i].n_bufs; j++)
            l->bufs[i][j] = ref_ptr(h, l, p->launches[i].bufs[j]);
}

static bool host_memory(HostExec *h, HostLoaded *l, const Program *p)
{
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
        if (!block_grow(h, k, p->bytes[k]))
            return false;
    return block_new(&h->base, &l->io, ARENA_IO, p->bytes[ARENA_IO]);
}

static Loaded *host_load(Exec *e, Program *p, void **prepared)
{
    (void)prepared;
    HostExec   *h = (HostExec *)e;
    HostLoaded *l = ARENA_NEW(e->arena, HostLoaded);
    bool        ok = host_memory(h, l, p);
    for (int32_t i = 0; i < e->programs.len; i++) /* blocks that grew have moved */
        bind(h, e->programs.at[i]->program, (HostLoaded *)e->programs.at[i]);
    if (!ok)
        return NULL;
    l->bufs = ARENA_ARRAY(e->arena, void **, p->n_launches + 1);
    for (int32_t i = 0; i < p->n_launches; i++)
        l->bufs[i] = ARENA_ARRAY(e->arena, void *, p->launches[i].n_bufs);
    bind(h, p, l);
    return &l->base;
}

static void host_unload(Exec *e, Loaded *l)
{
    (void)e;
    block_free(&((HostLoaded *)l)->io);
}

static void host_release(Exec *e)
{
    for (ArenaKind k = 0; k < ARENA_COUNT; k++)
        block_free(&((HostExec *)e)->shared[k]);
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

/* Part `i` of `n` of the units. */
static void run_part(const KernelImage *k, KernelEntry entry, void *const *bufs, void *scratch, int64_t units,
                     int64_t i, int64_t n)
{
    int64_t lo = units * i / n, hi = units * (i + 1) / n;
    if (lo < hi)
        entry(k->self, bufs, scratch, lo, hi);
}

/* finish reads the scratch memory, so that is its traffic. */
static void run_kernel(const KernelImage *k, void *const *bufs, void *scratch, int threads)
{
    bool wide = threads > 1 && k->units > 1 && k->bytes >= SERIAL_BYTES;
    bool wide_finish = wide && k->finish_units > 1 && k->scratch_bytes >= SERIAL_BYTES;
    if (!wide)
        run_part(k, k->run, bufs, scratch, k->units, 0, 1);
    else {
#pragma omp parallel num_threads(threads)
        {
            int i = omp_get_thread_num(), n = omp_get_num_threads();
            run_part(k, k->run, bufs, scratch, k->units, i, n);
            if (wide_finish) {
#pragma omp barrier
                run_part(k, k->finish, bufs, scratch, k->finish_units, i, n);
            }
        }
    }
    if (!wide_finish && k->finish_units > 0)
        run_part(k, k->finish, bufs, scratch, k->finish_units, 0, 1);
}

static bool host_run(Exec *e, Loaded *base)
{
    HostLoaded    *l = (HostLoaded *)base;
    const Program *p = base->program;
    void          *scratch = ((HostExec *)e)->shared[ARENA_SCRATCH].at;
    double         before = e->opt.profile ? time_now_s() : 0;
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *launch = &p->launches[i];
        if (launch->kind == LAUNCH_KERNEL)
            run_kernel(&p->images[launch->image], l->bufs[i], scratch, e->threads);
        else if (!e->lib->run(e->lib->self, base->prepared[i], l->bufs[i], scratch))
            return false;
        if (e->opt.profile) {
            double now = time_now_s();
            base->seconds[i] += now - before;
            before = now;
        }
    }
    return true;
}

/* ---- The rest of the table ------------------------------------------------------------------------------------- */

static void *host_ptr(Exec *e, Loaded *l, const ProgTensor *t)
{
    return ref_ptr((HostExec *)e, (HostLoaded *)l, t->at);
}

/* A step is over when submit returns, so its outputs lie where they always do. */
static const void *host_output(Exec *e, Loaded *l, const ProgTensor *t, int64_t number)
{
    (void)number;
    return host_ptr(e, l, t);
}

static int32_t host_depth(const Exec *e, const Loaded *l)
{
    (void)e, (void)l;
    return 1;
}

static bool host_write(Exec *e, Loaded *l, const ProgTensor *t, const void *from)
{
    memcpy(host_ptr(e, l, t), from, (size_t)t->bytes);
    return true;
}

static bool host_read(Exec *e, Loaded *l, const ProgTensor *t, void *to)
{
    memcpy(to, host_ptr(e, l, t), (size_t)t->bytes);
    return true;
}

Exec *exec_new(Arena *a, Diag *d, CallLib *lib, ExecOptions opt)
{
    static const ExecKind kind = {
        .needed = host_needed,
        .available = host_available,
        .load = host_load,
        .unload = host_unload,
        .run = host_run,
        .ptr = host_ptr,
        .input = host_ptr,
        .submit = host_run,
        .output = host_output,
        .depth = host_depth,
        .write = host_write,
        .read = host_read,
        .release = host_release,
    };
    HostExec *h = ARENA_NEW(a, HostExec);
    h->base = (Exec){ .kind = &kind, .arena = a, .d = d, .lib = lib, .opt = opt };
    h->base.threads = (int)dt_min64(opt.threads > 0 ? opt.threads : omp_get_max_threads(), omp_get_thread_limit());
    return &h->base;
}
