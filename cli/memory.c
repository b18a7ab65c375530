/* memory.c: the memory of a training run, and --memory, which limits it.
 *
 * A run is several programs - train (one for each phase), eval, first values, diagnosis - that share params, states,
 * the memory of values inside a step and scratch memory, and have inputs and outputs of their own. All of them are made
 * as training makes them (session_train_programs), but as far as sizes go: through every pass, kernels planned and not
 * compiled, library calls asked for their workspace. So the sum is what exec_add allocates, to the byte.
 *
 * The memory of the host is that of a process: beside the sum it has the program itself with the compiler and its code,
 * the data set, and batches on their way. The first is measured: this process compiles the run once more, to the end.
 *
 * With a limit, the values of a step of training are what can give way (pass rematerialize): they get what the rest
 * leaves. Where even the least of them is too much, the message says how much that is, and which batch would do.
 *
 * Tested by tests/unit/test_plan_command.c, test_cli_errors.c and tests/e2e/test_memory.py. */
#include "cli/memory.h"

#include <math.h>
#include <sys/resource.h>

/* ---- The programs of a run --------------------------------------------------------------------------------------- */

bool memory_session(Session *out, Session *like, Gpu *gpu)
{
    *out = (Session){ .arena = arena_new("plan"),
                      .diag = diag_new(stderr),
                      .opt = like->opt,
                      .program = like->program,
                      .forward = like->forward,
                      .unlimited = true,
                      .gpu = gpu,
                      .gpu_borrowed = gpu != NULL,
                      .out = like->out };
    out->sizes = ARENA_NEW(&out->arena, ProgramList);
    return session_open(out, like->model);
}

/* What all of them take where no step has more than `values` bytes inside. */
static int64_t total_with(Session *s, const ProgramList *list, int64_t values)
{
    Program  *all = ARENA_ARRAY(&s->arena, Program, list->len + 1);
    Program **at = ARENA_ARRAY(&s->arena, Program *, list->len + 1);
    for (int32_t i = 0; i < list->len; i++) {
        all[i] = *list->at[i];
        all[i].bytes[ARENA_WORK] = dt_max64(dt_min64(all[i].bytes[ARENA_WORK], values), 0);
        at[i] = &all[i];
    }
    return exec_memory_needed_by(s->exec, (const Program *const *)at, list->len);
}

/* The most values for which all of it takes `room`. Memory comes in whole pages, which have more than one size. */
static int64_t values_left(Session *s, const ProgramList *list, int64_t room)
{
    int64_t lo = 0, hi = room - total_with(s, list, 0);
    while (hi > lo) {
        int64_t at = lo + (hi - lo + 1) / 2;
        if (total_with(s, list, at) <= room)
            lo = at;
        else
            hi = at - 1;
    }
    return hi;
}

bool memory_of_run(Session *like, FILE *say, int64_t batch, int64_t room, RunMemory *out, PeakValue *peak)
{
    ProgramList list = { 0 };
    TrainConfig c = { .inspect_every = -1 };
    Session     s = *like; /* its backend, whose memory is the other's, serves this one */
    s.arena = arena_new("plan");
    s.diag = diag_new(say);
    s.opt.batch = batch;
    s.sizes = &list;
    bool ok = session_train_programs(&s, &c);
    *out = (RunMemory){ .programs = list.len };
    for (int32_t i = 0; i < list.len && ok; i++) {
        out->arena[ARENA_IO] += list.at[i]->bytes[ARENA_IO];
        for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
            out->arena[k] = dt_max64(out->arena[k], list.at[i]->bytes[k]);
    }
    if (ok) {
        out->saved = list.at[0]->saved_bytes;
        out->total = exec_memory_needed_by(s.exec, (const Program *const *)list.at, list.len);
        out->values_left = room > 0 ? values_left(&s, &list, room) : 0;
        out->again = s.again;
    }
    for (int32_t i = 0; i < PEAK_VALUES && ok && peak != NULL; i++)
        if (list.at[0]->peak[i].name != NULL)
            peak[i] = (PeakValue){ arena_strdup(&like->arena, list.at[0]->peak[i].name), list.at[0]->peak[i].bytes };
    diag_free(&s.diag);
    arena_free(&s.arena);
    return ok;
}

/* ---- A process of the host --------------------------------------------------------------------------------------- */

int64_t memory_data(const char *dataset)
{
    static const struct {
        const char *name;
        int64_t     bytes; /* images and labels */
    } sets[] = { { "mnist", 70000LL * (28 * 28 + 1) },
                 { "cifar10", 60000LL * (3 * 32 * 32 + 1) },
                 { "cifar100", 60000LL * (3 * 32 * 32 + 1) } };
    for (int32_t i = 0; i < DT_COUNT(sets); i++)
        if (str_eq(dataset, sets[i].name))
            return sets[i].bytes;
    return 0;
}

/* Copies of params and states while a checkpoint is written: out of their layouts, in order, as the file. And room for
 * what a run keeps around its steps (diagnosis of quantizers, histograms, metrics): 3 to 7 MiB were seen. */
enum { MEMORY_CHECKPOINT = 3, MEMORY_AROUND = 16 << 20 };

/* The most that this process has had in memory once all programs of the run are made, every kernel by the compiler, and
 * nothing has run: pages of its arenas are not there yet. And a checkpoint that is written. */
int64_t memory_program(Session *s, const RunMemory *run, const char *cache)
{
    struct rusage used;
    TrainConfig   c = { .inspect_every = -1 };
    Session       p = { .arena = arena_new("program"),
                        .diag = diag_new(stderr),
                        .opt = s->opt,
                        .program = s->program,
                        .forward = s->forward,
                        .unlimited = true,
                        .out = s->out };
    p.opt.cache = cache;
    log_set_level(LOG_QUIET); /* phases are for runs */
    bool ok = session_open(&p, s->model) && session_train_programs(&p, &c);
    log_set_level(s->opt.quiet ? LOG_QUIET : s->opt.verbose ? LOG_DEBUG : LOG_INFO);
    session_close(&p);
    getrusage(RUSAGE_SELF, &used);
    int64_t kept = run->arena[ARENA_PARAM] + run->arena[ARENA_STATE];
    return ok ? (int64_t)used.ru_maxrss * 1024 + MEMORY_CHECKPOINT * kept + MEMORY_AROUND : 0;
}

/* Floats of the batches that loaders have on their way, each some: of training and of evaluation, and where there are
 * quantizers of what is looked at, which is one more, and of calibration. */
int64_t memory_batches(Session *s, int64_t batch)
{
    const bool files = memory_data(s->opt.dataset) == 0, pairs = s->model->loss != DT_CROSS_ENTROPY;
    const int  ahead = files ? 3 : 2, more = session_needs_init(s) ? 2 * ahead + 1 : 0;
    const struct {
        StepKind step;
        int      batches;
    } kept[] = { { STEP_TRAIN, ahead + more }, { STEP_EVAL, ahead } };
    int64_t bytes = 0, asked = s->opt.batch;
    s->opt.batch = batch;
    for (int32_t i = 0; i < DT_COUNT(kept); i++) {
        int64_t        images;
        const DtModel *m = session_sized(s, kept[i].step, &images);
        bytes += kept[i].batches * images * m->image[0] * m->image[1] * m->image[2] * (int64_t)sizeof(float) *
                 (pairs ? 3 : 1);
    }
    s->opt.batch = asked;
    return bytes;
}

/* ---- The largest batch ------------------------------------------------------------------------------------------- */

/* Where a line through (x, y) with this slope reaches `room`, inside (lo, hi). */
static int64_t aim_at(double x, double y, double slope, double room, int64_t lo, int64_t hi)
{
    double at = slope > 0 ? x + (room - y) / slope : (double)lo;
    return (int64_t)fmin(fmax(at, (double)lo + 1), (double)hi - 1);
}

/* A batch that fits while the next one does not. Memory is nearly a line, so that it is aimed at; every fourth turn
 * halves what is left, whatever the line says. */
int64_t memory_largest(int64_t (*bytes_of)(void *user, int64_t batch), void *user, int64_t batch, int64_t bytes,
                       int64_t room, int64_t end)
{
    double  x = (double)batch, y = (double)bytes, slope = y / x;
    int64_t lo = 0, hi = end;
    for (int32_t turn = 1; hi - lo > 1; turn++) {
        int64_t at = turn % 4 == 0 ? lo + (hi - lo) / 2 : aim_at(x, y, slope, (double)room, lo, hi);
        int64_t total = bytes_of(user, at);
        *(total <= room ? &lo : &hi) = at;
        if (total == INT64_MAX)
            continue;
        if (turn == 1 && (double)at != x)
            slope = ((double)total - y) / ((double)at - x);
        x = (double)at, y = (double)total;
    }
    return lo;
}

/* What depends on the batch. */
static int64_t run_bytes(void *user, int64_t batch)
{
    Session  *s = user;
    RunMemory m;
    if (!memory_of_run(s, NULL, batch, 0, &m, NULL))
        return INT64_MAX;
    return m.total + (s->gpu == NULL ? memory_batches(s, batch) : 0);
}

/* What is made again so that a run at this batch fits. */
static Rematerialized again_at(Session *v, int64_t batch, int64_t room)
{
    RunMemory m;
    v->least = false;
    v->most_values = 0;
    if (!memory_of_run(v, NULL, batch, room, &m, NULL) || m.total <= room)
        return (Rematerialized){ 0 };
    v->most_values = m.values_left;
    return memory_of_run(v, NULL, batch, room, &m, NULL) ? m.again : (Rematerialized){ 0 };
}

int64_t memory_largest_run(Session *s, const RunMemory *at, int64_t room, const MemoryBeside *beside,
                           Rematerialized *again)
{
    Session v = *s;
    v.arena = arena_new("largest batch");
    v.least = again != NULL;
    room -= beside->program + beside->data;
    int64_t bytes = again != NULL ? run_bytes(&v, v.opt.batch) : at->total;
    int64_t batch = memory_largest(run_bytes, &v, v.opt.batch, bytes, room, MEMORY_MOST_BATCH + 1);
    if (again != NULL && batch > 0)
        *again = again_at(&v, batch, room - (v.gpu == NULL ? memory_batches(&v, batch) : 0));
    arena_free(&v.arena);
    return batch;
}

/* ---- --memory of a run ------------------------------------------------------------------------------------------- */

/* "+3.1 %" */
static const char *share_text(Arena *a, const Rematerialized *r)
{
    return arena_printf(a, "+%.1f %%", r->step_seconds > 0 ? 100 * r->seconds / r->step_seconds : 0);
}

static void say_help(Session *s, int64_t batch, const Rematerialized *again)
{
    if (batch == 0)
        diag_help(&s->diag, "no batch fits: more memory, a smaller --image, or a smaller network");
    else if (again->launches > 0)
        diag_help(&s->diag,
                  "the largest batch that fits is %lld, with %d launches made again (%s of time, estimated): "
                  "--batch %lld",
                  (long long)batch, again->launches, share_text(&s->arena, again), (long long)batch);
    else
        diag_help(&s->diag, "the largest batch that fits is %lld: --batch %lld", (long long)batch, (long long)batch);
}

/* The run, which takes `least` at least, does not fit. */
static void say_run_too_large(Session *s, Session *v, const RunMemory *least, const MemoryBeside *beside)
{
    Arena         *a = &s->arena;
    Rematerialized again = { 0 };
    int64_t        batches = v->gpu == NULL ? memory_batches(v, v->opt.batch) : 0;
    diag_error(&s->diag, LOC_NONE, "--memory: %s with a batch of %lld needs at least %s, %s are given", s->model->name,
               (long long)v->opt.batch, str_bytes(a, least->total + batches + beside->program + beside->data),
               str_bytes(a, s->opt.memory_bytes));
    if (beside->program > 0)
        diag_note(&s->diag, LOC_NONE, "the program itself and its data set take %s, batches on their way %s",
                  str_bytes(a, beside->program), str_bytes(a, batches));
    diag_note(&s->diag, LOC_NONE,
              "params %s, states %s, inputs and outputs %s, scratch %s, values inside a step %s (%s in one of training "
              "where nothing is made again)",
              str_bytes(a, least->arena[ARENA_PARAM]), str_bytes(a, least->arena[ARENA_STATE]),
              str_bytes(a, least->arena[ARENA_IO]), str_bytes(a, least->arena[ARENA_SCRATCH]),
              str_bytes(a, least->arena[ARENA_WORK]), str_bytes(a, least->again.before));
    int64_t batch = memory_largest_run(v, least, s->opt.memory_bytes, beside, &again);
    say_help(s, batch, &again);
}

/* Finds what values may take, so that the run keeps to --memory. */
static bool limit_run(Session *s, Session *v)
{
    RunMemory    m, least;
    MemoryBeside beside = { 0 };
    int64_t      room = s->opt.memory_bytes;
    if (!session_backend(v, true) || !memory_of_run(v, stderr, v->opt.batch, 0, &m, NULL))
        return false;
    if (v->gpu == NULL) {
        beside.program = memory_program(v, &m, s->opt.cache); /* the data set is in it */
        if (beside.program == 0)
            return false;
        room -= beside.program + beside.data + memory_batches(v, v->opt.batch);
    }
    if (m.total <= room)
        return true;
    v->least = true;
    if (!memory_of_run(v, stderr, v->opt.batch, 0, &least, NULL))
        return false;
    if (least.total > room) {
        say_run_too_large(s, v, &least, &beside);
        return false;
    }
    v->least = false;
    if (!memory_of_run(v, stderr, v->opt.batch, dt_max64(room, 1), &m, NULL))
        return false;
    s->most_values = m.values_left;
    return true;
}

bool session_limit_run(Session *s)
{
    Session v;
    if (s->opt.memory_bytes == 0)
        return true;
    bool ok = memory_session(&v, s, NULL) && limit_run(s, &v);
    session_close(&v);
    s->unlimited = ok && s->most_values == 0;
    return ok;
}

void session_say_again(const Session *s)
{
    const Rematerialized *r = &s->again;
    Arena                 a = arena_new("memory");
    if (r->limit > 0 && r->launches > 0)
        log_info("memory: %s of values inside a step instead of %s: %d launches are made again (%s of time, estimated)",
                 str_bytes(&a, r->after), str_bytes(&a, r->before), r->launches, share_text(&a, r));
    arena_free(&a);
}

/* ---- --memory of one step ---------------------------------------------------------------------------------------- */

static int64_t planned_bytes(const Graph *g)
{
    int64_t bytes = 0;
    for (int32_t k = MEM_IO; k <= MEM_WORK; k++)
        bytes += g->bytes[k];
    return bytes;
}

/* A session for asking: it prints nothing. */
static Session quiet_session(const Session *s, int64_t batch)
{
    Session q = *s;
    q.arena = arena_new("memory");
    q.diag = diag_new(NULL);
    q.opt.batch = batch;
    q.opt.pass = (PassOptions){ .passes = s->opt.pass.passes,
                                .disable = s->opt.pass.disable,
                                .stop_after = s->opt.pass.stop_after,
                                .verify = "off",
                                .bisect = s->opt.pass.bisect };
    return q;
}

static int64_t step_bytes(void *user, int64_t batch)
{
    bool         stopped = false;
    Session      q = quiet_session(user, batch);
    const Graph *g = NULL;
    q.least = true;
    g = session_graph(&q, STEP_TRAIN, NULL, &stopped);
    int64_t bytes = g != NULL ? planned_bytes(g) : INT64_MAX;
    diag_free(&q.diag);
    arena_free(&q.arena);
    return bytes;
}

static Rematerialized step_again(const Session *s, int64_t batch)
{
    bool           stopped = false;
    Session        q = quiet_session(s, batch);
    Rematerialized again = { 0 };
    if (session_graph(&q, STEP_TRAIN, NULL, &stopped) != NULL)
        again = q.again;
    diag_free(&q.diag);
    arena_free(&q.arena);
    return again;
}

bool session_keeps_to_memory(Session *s, const Graph *g)
{
    const int64_t planned = planned_bytes(g), most = s->opt.memory_bytes;
    Arena        *a = &s->arena;
    if (s->least || (s->most_values == 0 && (s->unlimited || most == 0 || planned <= most)) ||
        (s->most_values > 0 && g->bytes[MEM_WORK] <= s->most_values))
        return true;
    if (s->most_values > 0) { /* a run, which was looked at as a whole before */
        diag_error(&s->diag, LOC_NONE, "--memory: values inside a step of %s need %s, %s are left for them", g->name,
                   str_bytes(a, g->bytes[MEM_WORK]), str_bytes(a, s->most_values));
        return false;
    }
    diag_error(&s->diag, LOC_NONE, "--memory: %s with a batch of %lld needs at least %s, %s are given", g->name,
               (long long)s->opt.batch, str_bytes(a, planned), str_bytes(a, most));
    diag_note(&s->diag, LOC_NONE,
              "params %s, states %s, inputs and outputs %s, values inside a step %s (%s where nothing is made again)",
              str_bytes(a, g->bytes[MEM_PARAM]), str_bytes(a, g->bytes[MEM_STATE]), str_bytes(a, g->bytes[MEM_IO]),
              str_bytes(a, g->bytes[MEM_WORK]), str_bytes(a, dt_max64(s->again.before, g->bytes[MEM_WORK])));
    int64_t        batch = memory_largest(step_bytes, s, s->opt.batch, planned, most, s->opt.batch);
    Rematerialized again = batch > 0 ? step_again(s, batch) : (Rematerialized){ 0 };
    say_help(s, batch, &again);
    return false;
}
