/* plan.c: `detent plan NET`: the memory that a training run takes, before anything is run (memory.c), by kind, of all
 * methods or of one; and the largest batch for a given memory, where all is kept and where values are made again.
 *
 * Tested by tests/unit/test_plan_command.c. */
#include "cli/memory.h"

/* Another process, the one that trains, is not the same to the byte: so much of the room is left. */
enum { PLAN_SPARE = 100 };

/* A method and what it takes. */
typedef struct PlanRow {
    Session       *s;
    const char    *bits; /* "w4a4", "-" */
    RunMemory      at;
    int64_t        largest, largest_again; /* batch; -1: not asked. The second: where values are made again */
    PeakValue      peak[PEAK_VALUES];
    Rematerialized again; /* at the second */
} PlanRow;

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

/* A session for this method. What is said of quantizers is not said of float. EXIT_OK, or reported. */
static int plan_open(PlanRow *r, Session *like, Gpu *gpu, const char *method)
{
    Session *v = ARENA_NEW(&like->arena, Session);
    Session  row = *like;
    r->s = v;
    r->largest = r->largest_again = -1;
    if (method != NULL)
        row.opt.method = method;
    if (str_eq(method, "float")) {
        row.opt.bits = NULL;
        row.opt.layers = (StrList){ 0 };
    }
    if (!memory_session(v, &row, gpu))
        return EXIT_USAGE;
    if (!session_backend(v, true))
        return EXIT_MISTAKE;
    r->bits = session_needs_init(v) ? v->opt.bits : "-";
    return memory_of_run(v, stderr, v->opt.batch, 0, &r->at, r->peak) ? EXIT_OK : EXIT_MISTAKE;
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

/* "256  410 (+21.0 %)": where all is kept; where values are made again, and by how much a step takes longer. */
static void plan_print_largest(const Session *s, const PlanRow *r)
{
    const Rematerialized *again = &r->again;
    fprintf(s->out, "  %13lld  %lld", (long long)r->largest, (long long)r->largest_again);
    if (again->launches > 0)
        fprintf(s->out, " (+%.1f %%)", 100 * again->seconds / again->step_seconds);
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
    fprintf(s->out, room > 0 ? "  %13s  %s\n" : "\n", "largest batch", "made again");
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
            plan_print_largest(s, r);
        fprintf(s->out, "\n");
    }
}

/* "largest batch: in 4.0 GiB, of which the program itself takes 131.2 MiB, ..." */
static void plan_note_room(Session *s, const PlanRow *rows, int64_t room, const MemoryBeside *beside)
{
    Arena *a = &s->arena;
    fprintf(s->out, "largest batch: in %s", str_bytes(a, room));
    if (beside->program > 0)
        fprintf(s->out, ", of which the program itself takes %s (measured here, and a hundredth of the room to spare)",
                str_bytes(a, beside->program));
    if (beside->data > 0)
        fprintf(s->out, ", %s %s", rows[0].s->opt.dataset, str_bytes(a, beside->data));
    fprintf(s->out, beside->program > 0 ? "; batches on their way are counted, too.\n" : ".\n");
    fprintf(s->out,
            "made again: the same where values are made again in backward for it (train with the same --memory); "
            "in brackets what\nthat adds to a step, estimated.\n");
}

static void plan_notes(Session *s, const PlanRow *rows, int32_t n, int64_t room, const MemoryBeside *beside)
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

static void plan_print_json(Session *s, const PlanRow *rows, int32_t n, int64_t room, const MemoryBeside *beside)
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
        fprintf(s->out,
                "%s{\"method\": \"%s\", \"bits\": %s%s%s, \"params\": %lld, \"states\": %lld, \"values\": %lld, "
                "\"saved\": %lld, \"scratch\": %lld, \"io\": %lld, \"total\": %lld, \"programs\": %d, ",
                i > 0 ? ",\n  " : "\n  ", r->s->recipe.method, str_eq(r->bits, "-") ? "" : "\"",
                str_eq(r->bits, "-") ? "null" : r->bits, str_eq(r->bits, "-") ? "" : "\"", (long long)b[ARENA_PARAM],
                (long long)b[ARENA_STATE], (long long)b[ARENA_WORK], (long long)r->at.saved,
                (long long)b[ARENA_SCRATCH], (long long)b[ARENA_IO], (long long)r->at.total, r->at.programs);
        if (room > 0)
            fprintf(
                s->out,
                "\"largest_batch\": %lld, \"largest_batch_again\": %lld, \"launches_again\": %d, \"time_again\": %.4f}",
                (long long)r->largest, (long long)r->largest_again, r->again.launches,
                r->again.step_seconds > 0 ? r->again.seconds / r->again.step_seconds : 0);
        else
            fprintf(s->out, "\"largest_batch\": null, \"largest_batch_again\": null}");
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
    int64_t      room = code == EXIT_OK ? plan_room(s, rows[0].s) : 0;
    MemoryBeside beside = { 0 };
    if (room > 0 && rows[0].s->gpu == NULL) {
        beside = (MemoryBeside){ memory_program(rows[n - 1].s, &rows[n - 1].at, "off"),
                                 memory_data(rows[0].s->opt.dataset) };
        code = beside.program > 0 ? EXIT_OK : EXIT_MISTAKE;
        beside.program += room / PLAN_SPARE;
    }
    for (int32_t i = 0; i < n && room > 0 && code == EXIT_OK; i++) {
        rows[i].largest = memory_largest_run(rows[i].s, &rows[i].at, room, &beside, NULL);
        rows[i].largest_again = memory_largest_run(rows[i].s, &rows[i].at, room, &beside, &rows[i].again);
    }
    if (code == EXIT_OK && s->opt.json) {
        plan_print_json(s, rows, n, room, &beside);
    } else if (code == EXIT_OK) {
        plan_print(s, rows, n, room);
        plan_notes(s, rows, n, room, &beside);
    }
    plan_close(rows, opened);
    return code;
}
