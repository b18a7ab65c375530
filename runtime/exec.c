/* exec.c: the interface of execution, and what the host and a GPU have in common: programs are checked, must agree
 * about params and states, and get their library calls prepared. The rest is the kind's (exec_host.c, cuda/exec_gpu.c).
 *
 * Tested by tests/unit/test_exec.c and test_gpu_exec.c. */

#include "runtime/exec_impl.h"

const char *const exec_arena_names[ARENA_COUNT] = { "inputs and outputs", "params", "states", "values inside a step",
                                                    "scratch memory" };

/* ---- Checks ---------------------------------------------------------------------------------------------------- */

static void check_ref(const Program *p, const char *what, MemRef at, int64_t bytes)
{
    DT_ASSERT(at.arena >= 0 && at.arena < ARENA_COUNT, "program %s: %s lies in arena %d", p->name, what, (int)at.arena);
    DT_ASSERT(at.offset >= 0 && at.offset % 64 == 0 && at.offset + bytes <= dt_round_up(p->bytes[at.arena], 64),
              "program %s: %s at %lld + %lld of the %lld bytes for %s", p->name, what, (long long)at.offset,
              (long long)bytes, (long long)p->bytes[at.arena], exec_arena_names[at.arena]);
}

static void check_kernel(const Program *p, const Launch *l, bool gpu)
{
    DT_ASSERT(l->image >= 0 && l->image < p->n_images, "program %s: launch %s has image %d of %d", p->name, l->name,
              l->image, p->n_images);
    const KernelImage *k = &p->images[l->image];
    DT_ASSERT(k->n_bufs == l->n_bufs && k->scratch_bytes <= l->scratch_bytes,
              "program %s: launch %s gives %d buffers and %lld bytes, kernel %s takes %d and %lld", p->name, l->name,
              l->n_bufs, (long long)l->scratch_bytes, k->name, k->n_bufs, (long long)k->scratch_bytes);
    DT_ASSERT((k->gpu != NULL) == gpu, "program %s: kernel %s was compiled for %s, and runs on %s", p->name, k->name,
              k->gpu ? "a GPU" : "the host", gpu ? "a GPU" : "the host");
    DT_ASSERT(!gpu || (k->gpu->grid > 0 && k->gpu->grid <= INT32_MAX && k->gpu->block > 0 && k->gpu->block <= 1024),
              "program %s: kernel %s has %lld blocks of %d threads", p->name, k->name, (long long)k->gpu->grid,
              k->gpu->block);
}

/* What codegen promises. */
static void check_program(const Program *p, bool gpu)
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
        if (l->kind == LAUNCH_KERNEL)
            check_kernel(p, l, gpu);
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
    const Program *first = e->programs.at[0]->program;
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
                       (long long)p->bytes[k], exec_arena_names[k], first->name, (long long)first->bytes[k]);
            return false;
        }
    return true;
}

/* ---- Adding a program ------------------------------------------------------------------------------------------ */

static bool prepare_call(Exec *e, const Program *p, const Launch *l, void **prepared)
{
    int64_t bytes = e->lib->scratch_bytes(e->lib->self, &l->call);
    *prepared = e->lib->prepare(e->lib->self, e->d, &l->call);
    if (!*prepared) {
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

static void unprepare(Exec *e, const Program *p, void **prepared)
{
    for (int32_t i = p->n_launches - 1; i >= 0; i--)
        if (prepared[i] && e->lib->unprepare)
            e->lib->unprepare(e->lib->self, prepared[i]);
}

/* Calls first: a library that measures its engines does so in memory of its own, which is free before there are
 * arenas. */
static Loaded *load(Exec *e, Program *p, void **prepared)
{
    for (int32_t i = 0; i < p->n_launches; i++)
        if (p->launches[i].kind == LAUNCH_CALL && !prepare_call(e, p, &p->launches[i], &prepared[i]))
            return NULL;
    return e->kind->load(e, p, prepared);
}

int32_t exec_add(Exec *e, Program *p)
{
    check_program(p, e->kind->gpu);
    if (e->failed || (e->programs.len > 0 && !check_shared(e, p)))
        return -1;
    void  **prepared = ARENA_ARRAY(e->arena, void *, p->n_launches + 1);
    Loaded *l = load(e, p, prepared);
    if (!l) {
        unprepare(e, p, prepared);
        return -1;
    }
    l->program = p;
    l->prepared = prepared;
    l->seconds = ARENA_ARRAY(e->arena, double, p->n_launches + 1);
    vec_push(e->arena, &e->programs, l);
    return e->programs.len - 1;
}

int64_t exec_memory_needed(const Exec *e, const Program *p)
{
    return e->kind->needed(e, &p, 1);
}

int64_t exec_memory_needed_by(const Exec *e, const Program *const *p, int32_t n)
{
    return e->kind->needed(e, p, n);
}

int64_t exec_memory_available(const Exec *e)
{
    return e->kind->available(e);
}

Loaded *exec_loaded(const Exec *e, int32_t program)
{
    DT_ASSERT(program >= 0 && program < e->programs.len, "program %d of %d", program, e->programs.len);
    return e->programs.at[program];
}

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

bool exec_run(Exec *e, int32_t program)
{
    Loaded *l = exec_loaded(e, program);
    if (e->failed || !e->kind->run(e, l))
        return false;
    l->runs++;
    return true;
}

void *exec_ptr(Exec *e, int32_t program, const ProgTensor *t)
{
    return e->kind->ptr(e, exec_loaded(e, program), t);
}

void *exec_input(Exec *e, int32_t program, const ProgTensor *t)
{
    DT_ASSERT(t->kind == TENSOR_INPUT, "%s is no input", t->name);
    return e->kind->input(e, exec_loaded(e, program), t);
}

int64_t exec_submit(Exec *e, int32_t program)
{
    Loaded *l = exec_loaded(e, program);
    if (e->failed || !e->kind->submit(e, l))
        return -1;
    l->runs++;
    return l->submitted++;
}

const void *exec_output(Exec *e, int32_t program, const ProgTensor *t, int64_t number)
{
    Loaded *l = exec_loaded(e, program);
    DT_ASSERT(t->kind == TENSOR_OUTPUT, "%s is no output", t->name);
    DT_ASSERT(number >= 0 && number < l->submitted && number >= l->submitted - e->kind->depth(e, l),
              "output of step %lld, %lld were submitted", (long long)number, (long long)l->submitted);
    return e->failed ? NULL : e->kind->output(e, l, t, number);
}

int32_t exec_depth(const Exec *e, int32_t program)
{
    return e->kind->depth(e, exec_loaded(e, program));
}

/* ---- The rest of the interface --------------------------------------------------------------------------------- */

int exec_threads(const Exec *e)
{
    return e->threads;
}

double exec_launch_seconds(const Exec *e, int32_t program, int32_t launch)
{
    const Loaded *l = exec_loaded(e, program);
    DT_ASSERT(launch >= 0 && launch < l->program->n_launches, "launch %d of %d", launch, l->program->n_launches);
    return l->seconds[launch];
}

int64_t exec_launch_count(const Exec *e, int32_t program)
{
    return exec_loaded(e, program)->runs;
}

void exec_free(Exec *e)
{
    for (int32_t i = e->programs.len - 1; i >= 0; i--) {
        Loaded *l = e->programs.at[i];
        e->kind->unload(e, l);
        unprepare(e, l->program, l->prepared);
    }
    e->programs.len = 0;
    e->kind->release(e);
}
