/* plan.c: `detent plan NET`: the memory that a training run takes, before anything is run.
 *
 * A run is several programs - train (one for each phase), eval, first values, diagnosis - that share params, states,
 * the memory of values inside a step and scratch memory, and have inputs and outputs of their own. All of them are made
 * as training makes them (session_train_programs), but as far as sizes go: through every pass, kernels planned and not
 * compiled, library calls asked for their workspace. So the sum is what exec_add allocates, to the byte.
 *
 * The largest batch for a given memory of the host is that of a process: beside the sum it has the program itself with
 * the compiler and its code, the data set, and batches on their way. The first is measured: this process compiles the
 * run once more, to the end.
 *
 * Tested by tests/unit/test_plan_command.c. */
#include "cli/cli.h"

#include <math.h>
#include <sys/resource.h>

enum { PLAN_MOST_BATCH = 65536 };

/* What a run takes. Not `total`: as planned; total: as it is allocated, in whole pages, with staging buffers. */
typedef struct PlanBytes {
    int64_t arena[ARENA_COUNT]; /* io: of all programs */
    int64_t saved;              /* of the first train program's values: those that backward reads */
    int64_t total;
    int32_t programs;
} PlanBytes;

/* A method and what it takes. */
typedef struct PlanRow {
    Session    *s;
    const char *bits; /* "w4a4", "-" */
    PlanBytes   at;
    int64_t     largest; /* batch; -1: not asked */
    PeakValue   peak[PEAK_VALUES];
} PlanRow;

/* ---- Sums -------------------------------------------------------------------------------------------------------- */

/* The programs of a run with that batch, in memory of their own; `peak` NULL: not wanted. False: said to `say`. */
static bool plan_bytes(Session *like, FILE *say, int64_t batch, PlanBytes *out, PeakValue *peak)
{
    ProgramList list = { 0 };
    TrainConfig c = { .inspect_every = -1 };
    Session     s = *like; /* its backend, whose memory is the other's, serves this one */
    s.arena = arena_new("plan");
    s.diag = diag_new(say);
    s.opt.batch = batch;
    s.sizes = &list;
    bool ok = session_train_programs(&s, &c);
    *out = (PlanBytes){ .programs = list.len };
    for (int32_t i = 0; i < list.len && ok; i++) {
        out->arena[ARENA_IO] += list.at[i]->bytes[ARENA_IO];
        for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
            out->arena[k] = dt_max64(out->arena[k], list.at[i]->bytes[k]);
    }
    if (ok) {
        out->saved = list.at[0]->saved_bytes;
        out->total = exec_memory_needed_by(s.exec, (const Program *const *)list.at, list.len);
    }
    for (int32_t i = 0; i < PEAK_VALUES && ok && peak != NULL; i++)
        if (list.at[0]->peak[i].name != NULL)
            peak[i] = (PeakValue){ arena_strdup(&like->arena, list.at[0]->peak[i].name), list.at[0]->peak[i].bytes };
    diag_free(&s.diag);
    arena_free(&s.arena);
    return ok;
}

/* ---- A process of the host --------------------------------------------------------------------------------------- */

/* What it takes whatever the batch; all 0 where the memory is a GPU's. */
typedef struct PlanBeside {
    int64_t program, data;
} PlanBeside;

/* Bytes of the sets that lie in memory as they are: images and labels. 0: another set, whose size nobody knows here. */
static int64_t plan_data(const char *dataset)
{
    static const struct {
        const char *name;
        int64_t     bytes;
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
enum { PLAN_CHECKPOINT = 3, PLAN_AROUND = 16 << 20 };

/* The most that this process has had in memory once all programs of the run are made, every kernel by the compiler, and
 * nothing has run: pages of its arenas are not there yet. And a checkpoint that is written. 0: it was reported. */
static int64_t plan_program(const PlanRow *r)
{
    struct rusage used;
    TrainConfig   c = { .inspect_every = -1 };
    Session       s = { .arena = arena_new("program"),
                        .diag = diag_new(stderr),
                        .opt = r->s->opt,
                        .program = r->s->program,
                        .out = r->s->out };
    s.opt.cache = "off";
    log_set_level(LOG_QUIET); /* phases are for runs */
    bool ok = session_open(&s, r->s->model) && session_train_programs(&s, &c);
    log_set_level(r->s->opt.quiet ? LOG_QUIET : r->s->opt.verbose ? LOG_DEBUG : LOG_INFO);
    session_close(&s);
    getrusage(RUSAGE_SELF, &used);
    int64_t kept = r->at.arena[ARENA_PARAM] + r->at.arena[ARENA_STATE];
    return ok ? (int64_t)used.ru_maxrss * 1024 + PLAN_CHECKPOINT * kept + PLAN_AROUND : 0;
}

/* Floats of the batches that loaders have on their way, each some: of training and of evaluation, and where there are
 * quantizers of what is looked at, which is one more, and of calibration. */
static int64_t plan_batches(Session *s, int64_t batch)
{
    const bool files = plan_data(s->opt.dataset) == 0, pairs = s->model->loss != DT_CROSS_ENTROPY;
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

/* What depends on the batch. INT64_MAX: it does not compile, being too large. */
static int64_t plan_total(Session *s, int64_t batch)
{
    PlanBytes b;
    if (!plan_bytes(s, NULL, batch, &b, NULL))
        return INT64_MAX;
    return b.total + (s->gpu == NULL ? plan_batches(s, batch) : 0);
}

/* Where a line through (x, y) with this slope reaches `room`, inside (lo, hi). */
static int64_t plan_aim(double x, double y, double slope, double room, int64_t lo, int64_t hi)
{
    double at = slope > 0 ? x + (room - y) / slope : (double)lo;
    return (int64_t)fmin(fmax(at, (double)lo + 1), (double)hi - 1);
}

/* A batch that fits while the next one does not; 0: none does. Memory is nearly a line, so that it is
 * aimed at; every fourth turn halves what is left, whatever the line says. */
static int64_t plan_largest(const PlanRow *r, int64_t room)
{
    double  x = (double)r->s->opt.batch, y = (double)r->at.total, slope = y / x;
    int64_t lo = 0, hi = PLAN_MOST_BATCH + 1;
    for (int32_t turn = 1; hi - lo > 1; turn++) {
        int64_t at = turn % 4 == 0 ? lo + (hi - lo) / 2 : plan_aim(x, y, slope, (double)room, lo, hi);
        int64_t total = plan_total(r->s, at);
        *(total <= room ? &lo : &hi) = at;
        if (total == INT64_MAX)
            continue;
        if (turn == 1 && (double)at != x)
            slope = ((double)total - y) / ((double)at - x);
        x = (double)at, y = (double)total;
    }
    return lo;
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

/* A session for this method. What is said of quantizers is not said of float. EXIT_OK, or reported. */
static int plan_open(PlanRow *r, Session *like, Gpu *gpu, const char *method)
{
    Session *v = ARENA_NEW(&like->arena, Session);
    r->s = v;
    *v = (Session){ .arena = arena_new("method"),
                    .diag = diag_new(stderr),
                    .opt = like->opt,
                    .program = like->program,
                    .sizes = ARENA_NEW(&like->arena, ProgramList),
                    .gpu = gpu,
                    .gpu_borrowed = gpu != NULL,
                    .out = like->out };
    if (method != NULL)
        v->opt.method = method;
    if (str_eq(method, "float")) {
        v->opt.bits = NULL;
        v->opt.layers = (StrList){ 0 };
    }
    r->largest = -1;
    if (!session_open(v, like->model))
        return EXIT_USAGE;
    if (!session_backend(v, true))
        return EXIT_MISTAKE;
    r->bits = session_needs_init(v) ? v->opt.bits : "-";
    return plan_bytes(v, stderr, v->opt.batch, &r->at, r->peak) ? EXIT_OK : EXIT_MISTAKE;
}

static void plan_close(PlanRow *rows, int32_t n)
{
    for (int32_t i = n - 1; i >= 0; i--) /* the first one has the GPU */
        if (rows[i].s != NULL)
            session_close(rows[i].s);
}

/* ---- What is said ------------------------------------------------------------------------------------------------ */

/* Is the library that stands for the asked one without a workspace of its own? */
static bool plan_stands_in(const Session *s)
{
    return s->gpu != NULL && s->gpu->t->runs_source;
}

static void plan_print(Session *s, const PlanRow *rows, int32_t n, int64_t room)
{
    static const ArenaKind kinds[] = { ARENA_PARAM, ARENA_STATE, ARENA_WORK, ARENA_SCRATCH, ARENA_IO };
    Arena                 *a = &s->arena;
    const Session         *v = rows[0].s;
    fprintf(s->out, "%s, images %dx%dx%d, batch %lld, backend %s: what a training run takes\n\n", s->model->name,
            s->model->image[0], s->model->image[1], s->model->image[2], (long long)v->opt.batch, s->opt.backend);
    fprintf(s->out, "%-12s %-6s %11s %11s %11s %11s %11s %11s %11s %9s", "method", "bits", "params", "states", "values",
            "(saved)", "scratch", "in/out", "in all", "/ float");
    fprintf(s->out, room > 0 ? "  %13s\n" : "\n", "largest batch");
    for (int32_t i = 0; i < n; i++) {
        const PlanRow *r = &rows[i];
        fprintf(s->out, "%-12s %-6s", r->s->recipe.method, r->bits);
        for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
            fprintf(s->out, " %11s", str_bytes(a, r->at.arena[kinds[k]]));
            if (kinds[k] == ARENA_WORK)
                fprintf(s->out, " %11s", str_bytes(a, r->at.saved));
        }
        fprintf(s->out, " %11s", str_bytes(a, r->at.total));
        if (session_needs_init(rows[0].s))
            fprintf(s->out, " %9s", "-");
        else
            fprintf(s->out, " %9.3f", (double)r->at.total / (double)rows[0].at.total);
        if (room > 0)
            fprintf(s->out, "  %13lld", (long long)r->largest);
        fprintf(s->out, "\n");
    }
}

/* "largest batch: in 4.0 GiB, of which the program itself takes 131.2 MiB, ..." */
static void plan_note_room(Session *s, const PlanRow *rows, int64_t room, const PlanBeside *beside)
{
    Arena *a = &s->arena;
    fprintf(s->out, "largest batch: in %s", str_bytes(a, room));
    if (beside->program > 0)
        fprintf(s->out, ", of which the program itself takes %s (measured here)", str_bytes(a, beside->program));
    if (beside->data > 0)
        fprintf(s->out, ", %s %s", rows[0].s->opt.dataset, str_bytes(a, beside->data));
    fprintf(s->out, beside->program > 0 ? "; batches on their way are counted, too.\n" : ".\n");
}

static void plan_notes(Session *s, const PlanRow *rows, int32_t n, int64_t room, const PlanBeside *beside)
{
    Arena         *a = &s->arena;
    const Session *v = rows[0].s;
    fprintf(s->out,
            "\nparams: weights, step sizes. states: moments of the optimizer, statistics, ranges. values: what "
            "lives inside\na step, at its peak; (saved): of them, what backward reads. scratch: inside one "
            "launch, and the workspace of\n%s. in all: of %d programs, as allocated.\n",
            v->lib->name, rows[n - 1].at.programs);
    if (room > 0)
        plan_note_room(s, rows, room, beside);
    else
        fprintf(s->out, "the largest batch for a given memory: --memory 4G.\n");
    for (int32_t i = 0; i < PEAK_VALUES && n == 1 && rows[0].peak[i].name != NULL; i++)
        fprintf(s->out, "%s%s, %s%s", i == 0 ? "largest values at the peak: " : "; ", rows[0].peak[i].name,
                str_bytes(a, rows[0].peak[i].bytes), i + 1 < PEAK_VALUES && rows[0].peak[i + 1].name ? "" : "\n");
    if (plan_stands_in(v) && !str_eq(s->opt.backend, "sim"))
        fprintf(s->out,
                "not counted, as there is no GPU to ask: the workspace of cuDNN, at most %s (--workspace), and "
                "what the driver takes.\n",
                str_bytes(a, s->opt.workspace_bytes));
    else if (v->gpu == NULL && beside->data == 0)
        fprintf(s->out, "not counted: the data set%s.\n", room > 0 ? "" : ", and the program itself");
}

static void plan_print_json(Session *s, const PlanRow *rows, int32_t n, int64_t room, const PlanBeside *beside)
{
    const Session *v = rows[0].s;
    fprintf(s->out, "{\"net\": \"%s\", \"batch\": %lld, \"backend\": \"%s\", \"workspace_counted\": %s, \"memory\": ",
            s->model->name, (long long)v->opt.batch, s->opt.backend, plan_stands_in(v) ? "false" : "true");
    fprintf(s->out, room > 0 ? "%lld" : "null", (long long)room);
    fprintf(s->out, ", \"program\": %lld, \"data\": %lld", (long long)beside->program, (long long)beside->data);
    fprintf(s->out, ",\n \"methods\": [");
    for (int32_t i = 0; i < n; i++) {
        const PlanRow *r = &rows[i];
        const int64_t *b = r->at.arena;
        fprintf(
            s->out,
            "%s{\"method\": \"%s\", \"bits\": %s%s%s, \"params\": %lld, \"states\": %lld, \"values\": %lld, "
            "\"saved\": %lld, \"scratch\": %lld, \"io\": %lld, \"total\": %lld, \"programs\": %d, \"largest_batch\": ",
            i > 0 ? ",\n  " : "\n  ", r->s->recipe.method, str_eq(r->bits, "-") ? "" : "\"",
            str_eq(r->bits, "-") ? "null" : r->bits, str_eq(r->bits, "-") ? "" : "\"", (long long)b[ARENA_PARAM],
            (long long)b[ARENA_STATE], (long long)b[ARENA_WORK], (long long)r->at.saved, (long long)b[ARENA_SCRATCH],
            (long long)b[ARENA_IO], (long long)r->at.total, r->at.programs);
        fprintf(s->out, room > 0 ? "%lld}" : "null}", (long long)r->largest);
    }
    fprintf(s->out, "]}\n");
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* Settings belong to methods: said of all, most would be mistakes. */
static bool plan_check(Session *s)
{
    static const char *const own[] = { "set", "noise", "calibrate" };
    for (int32_t i = 0; i < DT_COUNT(own); i++)
        if (cli_given(&s->opt, own[i])) {
            diag_error(&s->diag, LOC_NONE,
                       "--%s: expected --method beside it, found none: it is a setting of one method", own[i]);
            return false;
        }
    return true;
}

/* What a batch has to fit into: what was said, or what the GPU has free; 0: nobody knows. */
static int64_t plan_room(const Session *s, const Session *v)
{
    if (s->opt.memory_bytes > 0)
        return s->opt.memory_bytes;
    bool real = v->gpu != NULL && !v->gpu->t->runs_source;
    return real || s->opt.gpu_memory_bytes > 0 ? exec_memory_available(v->exec) : 0;
}

int command_plan(Session *s, const StrList *rest)
{
    (void)rest;
    bool     one = cli_given(&s->opt, "method") || s->opt.recipe != NULL;
    int32_t  n = one ? 1 : pass_n_methods, opened = 0, code = EXIT_OK;
    PlanRow *rows = ARENA_ARRAY(&s->arena, PlanRow, n);
    if (!one && !plan_check(s))
        return EXIT_USAGE;
    while (code == EXIT_OK && opened < n) {
        Gpu *gpu = opened > 0 ? rows[0].s->gpu : NULL;
        code = plan_open(&rows[opened], s, gpu, one ? NULL : pass_methods[opened].name);
        opened++;
    }
    int64_t    room = code == EXIT_OK ? plan_room(s, rows[0].s) : 0;
    PlanBeside beside = { 0 };
    if (room > 0 && rows[0].s->gpu == NULL) {
        beside = (PlanBeside){ plan_program(&rows[n - 1]), plan_data(rows[0].s->opt.dataset) };
        code = beside.program > 0 ? EXIT_OK : EXIT_MISTAKE;
    }
    for (int32_t i = 0; i < n && room > 0 && code == EXIT_OK; i++)
        rows[i].largest = plan_largest(&rows[i], room - beside.program - beside.data);
    if (code == EXIT_OK && s->opt.json) {
        plan_print_json(s, rows, n, room, &beside);
    } else if (code == EXIT_OK) {
        plan_print(s, rows, n, room);
        plan_notes(s, rows, n, room, &beside);
    }
    plan_close(rows, opened);
    return code;
}
