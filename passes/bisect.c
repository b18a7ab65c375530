/* bisect.c: which pass makes a program wrong? Passes that are not required are numbered in the order of the pipeline;
 * --bisect=N leaves out those beyond N, and the step must still compute the same numbers. --bisect-run searches the
 * first N at which a command fails: about log2(passes) runs, without anybody reading IR.
 *
 *   detent-opt net.dtir --bisect-run='detent-opt net.dtir --bisect={N} | ./check'
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BISECT_ENV "DETENT_BISECT"

bool bisect_limit(Diag *d, const PassOptions *opt, int32_t *limit)
{
    const char *env = getenv(BISECT_ENV);
    *limit = (int32_t)opt->bisect;
    if (opt->bisect >= 0 || !env || !*env)
        return true;
    char *end;
    long  n = strtol(env, &end, 10);
    if (*end || n < -1 || n > 1000000) {
        diag_error(d, LOC_NONE, BISECT_ENV "=%s: expected a number of passes", env);
        return false;
    }
    *limit = (int32_t)n;
    return true;
}

static const char *command_with(Arena *a, const char *cmd, int32_t n)
{
    Str s = str_new(a);
    for (const char *hole; (hole = strstr(cmd, "{N}")); cmd = hole + strlen("{N}")) {
        str_addn(&s, cmd, (size_t)(hole - cmd));
        str_printf(&s, "%d", n);
    }
    str_add(&s, cmd);
    return s.s;
}

/* Exit status of the command; 128 + signal when one ended it; -1: it could not be started (reported). */
static int command_run(Arena *a, Diag *d, const char *cmd, int32_t n)
{
    const char *number = arena_printf(a, "%d", n);
    const char *text = command_with(a, cmd, n);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv(BISECT_ENV, number, 1);
        execl("/bin/sh", "sh", "-c", text, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            child = -1;
    if (child < 0) {
        diag_error(d, LOC_NONE, "--bisect-run: cannot run '%s': %s", text, strerror(errno));
        return -1;
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code == 126 || code == 127) {
        diag_error(d, LOC_NONE, "--bisect-run: the shell cannot run '%s' (status %d)", text, code);
        return -1;
    }
    return code;
}

typedef enum Verdict { VERDICT_ERROR, VERDICT_GOOD, VERDICT_BAD } Verdict;

static Verdict verdict_of(Arena *a, Diag *d, const char *cmd, int32_t n, const char *last, FILE *out)
{
    int code = command_run(a, d, cmd, n);
    if (code < 0)
        return VERDICT_ERROR;
    fprintf(out, "bisect: %3d passes (last: %s): %s\n", n, last,
            code ? arena_printf(a, "fails with status %d", code) : "good");
    return code ? VERDICT_BAD : VERDICT_GOOD;
}

/* names[i]: the optional pass number i + 1 */
static int32_t search(Arena *a, Diag *d, const char *cmd, const char *const *names, int32_t n, FILE *out)
{
    Verdict all = verdict_of(a, d, cmd, n, n ? names[n - 1] : "none", out);
    if (all == VERDICT_GOOD)
        fprintf(out, "no bad pass: the command succeeds with all %d\n", n);
    if (all != VERDICT_BAD)
        return all == VERDICT_ERROR ? -1 : 0;
    Verdict none = n ? verdict_of(a, d, cmd, 0, "none", out) : VERDICT_BAD;
    if (none == VERDICT_BAD)
        fprintf(out, "no bad pass: the command fails without any of the %d\n", n);
    if (none != VERDICT_GOOD)
        return none == VERDICT_ERROR ? -1 : 0;
    int32_t good = 0, bad = n;
    while (bad - good > 1) {
        int32_t mid = good + (bad - good) / 2;
        Verdict v = verdict_of(a, d, cmd, mid, names[mid - 1], out);
        if (v == VERDICT_ERROR)
            return -1;
        *(v == VERDICT_BAD ? &bad : &good) = mid;
    }
    fprintf(out, "first bad pass: %s (%d)\n", names[bad - 1], bad);
    return bad;
}

int32_t passes_bisect_run(Arena *a, Diag *d, const PassOptions *opt, StepKind step, FILE *out)
{
    Pipeline    pipe;
    PassOptions whole = *opt;
    whole.bisect = INT32_MAX; /* not what this process itself was told */
    DT_ASSERT(opt->bisect_run, "no command");
    if (!pipeline_build(a, d, &whole, step, &pipe))
        return -1;
    const char **names = ARENA_ARRAY(a, const char *, pipe.n_optional + 1);
    int32_t      n = 0;
    for (int32_t i = 0; i < pipe.rows.len; i++)
        if (pipe.rows.at[i].optional) /* numbers go up, those beyond --stop-after are missing at the end */
            names[n++] = pass_run_name(a, pipe.rows.at[i]);
    return search(a, d, opt->bisect_run, names, n, out);
}
