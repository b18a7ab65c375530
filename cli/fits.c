/* fits.c: is there room for a program, and if not, for which batch there would be. Said before anything is allocated.
 *
 * The plan of a smaller batch is made by the passes alone, in milliseconds, so the answer is exact but for the
 * library's workspace, which is taken to stay as it is.
 *
 * Tested by tests/unit/test_cli_errors.c (--gpu-memory). */
#include "cli/cli.h"

/* Bytes of the four arenas that a graph plans, for another batch; -1: it does not compile. */
static int64_t fits_planned(Session *s, StepKind step, int64_t batch)
{
    int64_t asked = s->opt.batch, bytes = -1;
    bool    stopped = false;
    Diag    said = s->diag;
    s->diag = diag_new(NULL);
    s->opt.batch = batch;
    const Graph *g = session_graph(s, step, NULL, &stopped);
    if (g != NULL) {
        bytes = g->bytes[MEM_IO] * 3; /* the host's batch travels through two staging buffers */
        for (int32_t k = MEM_IO + 1; k <= MEM_WORK; k++)
            bytes += g->bytes[k];
    }
    s->opt.batch = asked;
    diag_free(&s->diag);
    s->diag = said;
    return bytes;
}

/* The largest batch for which the plan and `fixed` bytes are at most `room`; 0: none. */
static int64_t fits_largest(Session *s, StepKind step, int64_t fixed, int64_t room)
{
    int64_t lo = 0, hi = s->opt.batch;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2, bytes = fits_planned(s, step, mid);
        if (bytes >= 0 && bytes + fixed <= room)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

bool session_fits(Session *s, StepKind step, const Program *p)
{
    int64_t needed = exec_memory_needed(s->exec, p), room = exec_memory_available(s->exec);
    if (needed <= room)
        return true;
    Arena  *a = &s->arena;
    int64_t planned = fits_planned(s, step, s->opt.batch);
    int64_t batch = fits_largest(s, step, dt_max64(needed - planned, 0), room);
    diag_error(&s->diag, LOC_NONE, "memory: %s with a batch of %lld needs %s on the GPU, %s can be had", p->name,
               (long long)s->opt.batch, str_bytes(a, needed), str_bytes(a, room));
    diag_note(&s->diag, LOC_NONE, "params %s, states %s, inputs and outputs %s, values inside a step %s, scratch %s",
              str_bytes(a, p->bytes[ARENA_PARAM]), str_bytes(a, p->bytes[ARENA_STATE]),
              str_bytes(a, p->bytes[ARENA_IO]), str_bytes(a, p->bytes[ARENA_WORK]),
              str_bytes(a, p->bytes[ARENA_SCRATCH]));
    for (int32_t i = 0; i < PEAK_VALUES && p->peak[i].name != NULL; i++)
        diag_note(&s->diag, LOC_NONE, "largest at the peak: %s, %s", p->peak[i].name, str_bytes(a, p->peak[i].bytes));
    if (batch > 0)
        diag_help(&s->diag, "the largest batch that fits is %lld: --batch %lld; --print-plan shows all values",
                  (long long)batch, (long long)batch);
    else
        diag_help(&s->diag, "no batch fits: %s of params, states and workspace do not depend on it",
                  str_bytes(a, dt_max64(needed - planned, 0) + p->bytes[ARENA_PARAM] + p->bytes[ARENA_STATE]));
    return false;
}
