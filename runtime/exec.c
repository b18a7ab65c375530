/* exec.c: runs programs. All work on sizes and addresses happens in exec_add(); exec_run() walks a list.
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

#include "runtime/program.h"

static const int64_t PAGE = 4096, HUGE_PAGE = 2 << 20;
/* Below this traffic a launch takes a few microseconds: less than waking the other threads. */
static const int64_t SERIAL_BYTES = 64 << 10;

typedef struct Block {
    char   *at;
    int64_t bytes;
} Block;

/* A launch with its addresses. */
typedef struct Bound {
    void **bufs;
    void  *prepared; /* CALL */
    double seconds;
} Bound;

typedef struct Loaded {
    Program *program;
    Block    io;
    Bound   *bound; /* one a launch */
    int64_t  runs;
} Loaded;

struct Exec {
    Arena   *arena;
    Diag    *d;
    CallLib *lib;
    int      threads;
    bool     profile;
    Block    shared[ARENA_COUNT]; /* [ARENA_IO] is not used */
    VEC(Loaded) programs;
};

/* ---- Blocks ---------------------------------------------------------------------------------------------------- */

static const char *const arena_names[ARENA_COUNT] = { "inputs and outputs", "params", "states", "values inside a step",
                                                      "scratch memory" };

/* At least one page, so that every offset has an address. */
static bool block_new(Exec *e, Block *b, ArenaKind kind, int64_t bytes)
{
    int64_t len = dt_round_up(dt_max64(bytes, 1), bytes >= HUGE_PAGE ? HUGE_PAGE : PAGE);
    int64_t slack = bytes >= HUGE_PAGE ? HUGE_PAGE : 0; /* to start at a huge page; what is left over is unmapped */
    char   *at = mmap(NULL, (size_t)(len + slack), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        diag_error(e->d, LOC_NONE, "memory: no %s for %s", str_bytes(e->arena, bytes), arena_names[kind]);
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
static bool block_grow(Exec *e, ArenaKind kind, int64_t bytes)
{
    Block bigger, *b = &e->shared[kind];
    if (b->at && bytes <= b->bytes)
        return true;
    if (!block_new(e, &bigger, kind, bytes))
        return false;
    block_free(b);
    *b = bigger;
    return true;
}

/* ---- Adding a program ------------------------------------------------------------------------------------------ */

static void *ref_ptr(const Exec *e, const Loaded *l, MemRef at)
{
    const Block *b = at.arena == ARENA_IO ? &l->io : &e->shared[at.arena];
    return b->at + at.offset;
}

static void check_ref(const Program *p, const char *what, MemRef at, int64_t bytes)
{
    DT_ASSERT(at.arena >= 0 && at.arena < ARENA_COUNT, "program %s: %s lies in arena %d", p->name, what, (int)at.arena);
    DT_ASSERT(at.offset >= 0 && at.offset % 64 == 0 && at.offset + bytes <= dt_round_up(p->bytes[at.arena], 64),
              "program %s: %s at %lld + %lld of the %lld bytes for %s", p->name, what, (long long)at.offset,
              (long long)bytes, (long long)p->bytes[at.arena], arena_names[at.arena]);
}

/* What codegen promises. */
static void check_program(const Program *p)
{
    for (int32_t i = 0; i < p->n_tensors; i++)
        check_ref(p, p->tensors[i].name, p->tensors[i].at, p->tensors[i].bytes);
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *l = &p->launches[i];
        for (int32_t j = 0; j < l->n_bufs; j++)
            check_ref(p, l->name, l->bufs[j], 0);
        DT_ASSERT(l->scratch_bytes <= p->bytes[ARENA_SCRATCH],
                  "program %s: launch %s wants %lld bytes of scratch, %lld are planned", p->name, l->name,
                  (long long)l->scratch_bytes, (long long)p->bytes[ARENA_SCRATCH]);
        if (l->kind != LAUNCH_KERNEL)
            continue;
        DT_ASSERT(l->image >= 0 && l->image < p->n_images, "program %s: launch %s has image %d of %d", p->name, l->name,
                  l->image, p->n_images);
        const KernelImage *k = &p->images[l->image];
        DT_ASSERT(k->n_bufs == l->n_bufs && k->scratch_bytes <= l->scratch_bytes,
                  "program %s: launch %s gives %d buffers and %lld bytes, kernel %s takes %d and %lld", p->name,
                  l->name, l->n_bufs, (long long)l->scratch_bytes, k->name, k->n_bufs, (long long)k->scratch_bytes);
    }
}

static bool same_place(const ProgTensor *a, const ProgTensor *b)
{
    return a->kind == b->kind && a->dtype == b->dtype && a->nhwc == b->nhwc && a->bytes == b->bytes &&
           a->at.offset == b->at.offset;
}

/* Params and states must lie where the first program has them. */
static bool check_shared(Exec *e, const Program *p)
{
    const Program *first = e->programs.at[0].program;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i], *u = program_tensor(first, t->name);
        if ((t->kind != TENSOR_PARAM && t->kind != TENSOR_STATE) || (u && same_place(t, u)))
            continue;
        diag_error(e->d, LOC_NONE, "program %s: %s %s of %lld bytes at %lld, but program %s has %s", p->name,
                   t->kind == TENSOR_PARAM ? "param" : "state", t->name, (long long)t->bytes, (long long)t->at.offset,
                   first->name, u ? "it elsewhere or as another type" : "none of that name");
        diag_help(e->d, "programs that run together are compiled from one model; add the one with all states first");
        return false;
    }
    for (ArenaKind k = ARENA_PARAM; k <= ARENA_STATE; k++)
        if (p->bytes[k] > first->bytes[k]) {
            diag_error(e->d, LOC_NONE, "program %s: %lld bytes of %s, but program %s has %lld", p->name,
                       (long long)p->bytes[k], arena_names[k], first->name, (long long)first->bytes[k]);
            return false;
        }
    return true;
}

static bool prepare_call(Exec *e, const Program *p, const Launch *l, Bound *b)
{
    int64_t bytes = e->lib->scratch_bytes(e->lib->self, &l->call);
    b->prepared = e->lib->prepare(e->lib->self, e->d, &l->call);
    if (!b->prepared) {
        diag_note(e->d, LOC_NONE, "for %s of program %s", l->name, p->name);
        return false;
    }
    if (bytes > l->scratch_bytes) {
        diag_error(e->d, LOC_NONE, "program %s: %s needs %lld bytes of scratch with %s, %lld are planned", p->name,
                   l->name, (long long)bytes, e->lib->name, (long long)l->scratch_bytes);
        diag_help(e->d, "compile the program for the library it runs with");
        return false;
    }
    return true;
}

/* Addresses of all launches: blocks that grew have moved. */
static void bind(Exec *e)
{
    for (int32_t i = 0; i < e->programs.len; i++) {
        Loaded *l = &e->programs.at[i];
        for (int32_t j = 0; j < l->program->n_launches; j++)
            for (int32_t k = 0; k < l->program->launches[j].n_bufs; k++)
                l->bound[j].bufs[k] = ref_ptr(e, l, l->program->launches[j].bufs[k]);
    }
}

static void unload(Exec *e, Loaded *l)
{
    for (int32_t i = l->program->n_launches - 1; i >= 0; i--)
        if (l->bound[i].prepared && e->lib->unprepare)
            e->lib->unprepare(e->lib->self, l->bound[i].prepared);
    block_free(&l->io);
}

static bool load(Exec *e, Loaded *l)
{
    const Program *p = l->program;
    for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
        if (!block_grow(e, k, p->bytes[k]))
            return false;
    if (!block_new(e, &l->io, ARENA_IO, p->bytes[ARENA_IO]))
        return false;
    for (int32_t i = 0; i < p->n_launches; i++) {
        l->bound[i].bufs = ARENA_ARRAY(e->arena, void *, p->launches[i].n_bufs);
        if (p->launches[i].kind == LAUNCH_CALL && !prepare_call(e, p, &p->launches[i], &l->bound[i]))
            return false;
    }
    return true;
}

int32_t exec_add(Exec *e, Program *p)
{
    check_program(p);
    if (e->programs.len > 0 && !check_shared(e, p))
        return -1;
    Loaded l = { .program = p, .bound = ARENA_ARRAY(e->arena, Bound, p->n_launches) };
    if (!load(e, &l)) {
        unload(e, &l);
        bind(e);
        return -1;
    }
    vec_push(e->arena, &e->programs, l);
    bind(e);
    return e->programs.len - 1;
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

static Loaded *loaded(const Exec *e, int32_t program)
{
    DT_ASSERT(program >= 0 && program < e->programs.len, "program %d of %d", program, e->programs.len);
    return &e->programs.at[program];
}

bool exec_run(Exec *e, int32_t program)
{
    Loaded        *l = loaded(e, program);
    const Program *p = l->program;
    void          *scratch = e->shared[ARENA_SCRATCH].at;
    double         before = e->profile ? time_now_s() : 0;
    for (int32_t i = 0; i < p->n_launches; i++) {
        const Launch *launch = &p->launches[i];
        Bound        *b = &l->bound[i];
        if (launch->kind == LAUNCH_KERNEL)
            run_kernel(&p->images[launch->image], b->bufs, scratch, e->threads);
        else if (!e->lib->run(e->lib->self, b->prepared, b->bufs, scratch))
            return false;
        if (e->profile) {
            double now = time_now_s();
            b->seconds += now - before;
            before = now;
        }
    }
    l->runs++;
    return true;
}

/* ---- The rest of the interface --------------------------------------------------------------------------------- */

Exec *exec_new(Arena *a, Diag *d, CallLib *lib, ExecOptions opt)
{
    Exec *e = ARENA_NEW(a, Exec);
    *e = (Exec){ .arena = a, .d = d, .lib = lib, .profile = opt.profile };
    e->threads = (int)dt_min64(opt.threads > 0 ? opt.threads : omp_get_max_threads(), omp_get_thread_limit());
    return e;
}

void *exec_ptr(Exec *e, int32_t program, const ProgTensor *t)
{
    return ref_ptr(e, loaded(e, program), t->at);
}

int exec_threads(const Exec *e)
{
    return e->threads;
}

double exec_launch_seconds(const Exec *e, int32_t program, int32_t launch)
{
    const Loaded *l = loaded(e, program);
    DT_ASSERT(launch >= 0 && launch < l->program->n_launches, "launch %d of %d", launch, l->program->n_launches);
    return l->bound[launch].seconds;
}

int64_t exec_launch_count(const Exec *e, int32_t program)
{
    return loaded(e, program)->runs;
}

void exec_free(Exec *e)
{
    for (int32_t i = e->programs.len - 1; i >= 0; i--)
        unload(e, &e->programs.at[i]);
    e->programs.len = 0;
    for (ArenaKind k = 0; k < ARENA_COUNT; k++)
        block_free(&e->shared[k]);
}
