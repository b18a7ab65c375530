/* keep.c: the checkpoints of a run.
 *
 *   last.safetensors            where the run stands
 *   last.previous.safetensors   where it stood before: a second name of `last` that is made before `last` is replaced
 *   best.safetensors            after the best epoch on the test set
 *   epoch-0010.safetensors      after every so many epochs, of which the newest ones are kept
 *
 * Each is written beside and renamed, so a kill or a full disk leaves the one that was there. Resuming takes `last`; if
 * it cannot be read or is damaged, the next older one that is whole, and says so. Whichever it is, the run comes to the
 * same bytes: rows that it does not know are cut off and written again.
 *
 * Tested by tests/unit/test_keep.c and tests/e2e/test_resume.py. */
#include "runtime/train_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Writing --------------------------------------------------------------------------------------------------- */

/* What is lost when it cannot be written: only what came after the checkpoint before. */
static void say_what_is_left(Trainer *t)
{
    if (t->saved_step < 0)
        return;
    diag_note(t->d, LOC_NONE, "%s is whole, as it was after step %lld", t->last, (long long)t->saved_step);
    diag_help(t->d, "when there is room again, go on with --resume %s", t->r.dir);
}

static bool save(Trainer *t, const char *path)
{
    Arena       scratch = arena_new("save");
    HostTensors host = { 0 };
    progress_end(t->progress); /* should there be something to report */
    if (t->inspector)
        inspector_keep(t->inspector, &scratch, &host);
    checkpoint_name_classes(&scratch, t->c->data, &host);
    bool ok = rundir_sync(t->d, t->dir, &t->s.jsonl_bytes, &t->s.csv_bytes) &&
              checkpoint_save(t->d, path, &t->c->id, &t->s, t->c->train, &host);
    if (!ok)
        say_what_is_left(t);
    arena_free(&scratch);
    return ok;
}

/* A file system without links has it under its one name for a moment, and that will do: it is looked for there, too. */
static void keep_previous(const Trainer *t)
{
    Arena       scratch = arena_new("previous");
    const char *to = rundir_file(&scratch, t->dir, RUN_PREVIOUS);
    const char *temp = rundir_file(&scratch, t->dir, ".detent-previous.tmp");
    unlink(temp);
    bool linked = link(t->last, temp) == 0 && rename(temp, to) == 0;
    if (!linked && errno != ENOENT)
        rename(t->last, to);
    unlink(temp);
    arena_free(&scratch);
}

bool keep_last(Trainer *t)
{
    keep_previous(t);
    if (!save(t, t->last))
        return false;
    t->saved_step = t->s.step;
    return true;
}

bool keep_best(Trainer *t)
{
    return save(t, t->best);
}

/* ---- Every so many epochs -------------------------------------------------------------------------------------- */

typedef VEC(long long) Epochs;

/* Numbers of the epochs whose checkpoints are there. */
static Epochs kept_epochs(Arena *a, const char *path)
{
    Epochs found = { 0 };
    DIR   *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        long long n = -1;
        if (sscanf(e->d_name, "epoch-%lld.safetensors", &n) == 1 && str_eq(e->d_name, arena_printf(a, RUN_KEPT, n)))
            vec_push(a, &found, n);
    }
    if (dir)
        closedir(dir);
    return found;
}

static int by_number_down(const void *x, const void *y)
{
    const long long a = *(const long long *)x, b = *(const long long *)y;
    return (a < b) - (a > b);
}

/* The newest ones stay. What a run left that is further on will be written again. */
static void prune(Trainer *t)
{
    Arena   scratch = arena_new("prune");
    Epochs  found = kept_epochs(&scratch, t->r.dir);
    int64_t stay = t->c->keep;
    if (found.len > 0)
        qsort(found.at, (size_t)found.len, sizeof *found.at, by_number_down);
    for (int32_t i = 0; i < found.len; i++)
        if (found.at[i] <= t->s.epoch && stay-- <= 0)
            unlink(rundir_file(&scratch, t->dir, arena_printf(&scratch, RUN_KEPT, found.at[i])));
    arena_free(&scratch);
}

bool keep_epoch(Trainer *t)
{
    if (t->c->keep_every == 0 || t->s.epoch == 0 || t->s.epoch % t->c->keep_every != 0)
        return true;
    Arena scratch = arena_new("keep");
    bool  ok = save(t, rundir_file(&scratch, t->dir, arena_printf(&scratch, RUN_KEPT, (long long)t->s.epoch)));
    if (ok && t->c->keep > 0)
        prune(t);
    arena_free(&scratch);
    return ok;
}

/* ---- Resuming -------------------------------------------------------------------------------------------------- */

typedef VEC(const char *) Names;

/* What there is to go on from, the newest first. */
static Names candidates(Arena *a, const Trainer *t)
{
    static const char *const lasts[] = { RUN_LAST, RUN_PREVIOUS };
    Names                    names = { 0 };
    Epochs                   kept = kept_epochs(a, rundir_path(t->dir));
    for (int32_t i = 0; i < DT_COUNT(lasts); i++)
        if (rundir_has(t->dir, lasts[i]))
            vec_push(a, &names, lasts[i]);
    if (kept.len > 0)
        qsort(kept.at, (size_t)kept.len, sizeof *kept.at, by_number_down);
    for (int32_t i = 0; i < kept.len; i++)
        vec_push(a, &names, arena_printf(a, RUN_KEPT, kept.at[i]));
    return names;
}

static bool read_candidate(Trainer *t, Diag *d, const char *name, HostTensors *host)
{
    Arena       scratch = arena_new("candidate");
    const char *path = rundir_file(&scratch, t->dir, name);
    bool        ok = checkpoint_resume(t->a, d, path, &t->c->id, t->c->train, &t->s, host);
    arena_free(&scratch);
    return ok;
}

/* The first line of what was said, without "error: ". */
static const char *first_line(Arena *a, const char *text)
{
    static const char start[] = "error: ";
    if (text && strncmp(text, start, sizeof start - 1) == 0)
        text += sizeof start - 1;
    return text ? arena_strndup(a, text, strcspn(text, "\n")) : "";
}

/* `last` was of no use (why says what), `name` is. The damaged file must not become the one before. */
static bool say_fallback(Trainer *t, const char *name, const char *why)
{
    const char *last = rundir_file(t->a, t->dir, RUN_LAST), *aside = rundir_file(t->a, t->dir, RUN_DAMAGED);
    const bool  there = rundir_has(t->dir, RUN_LAST);
    diag_warning(t->d, LOC_NONE, "train: %s cannot be used: the run goes on from %s, after step %lld", last,
                 rundir_file(t->a, t->dir, name), (long long)t->s.step);
    diag_note(t->d, LOC_NONE, "%s", there ? why : "it is not there");
    rundir_log(t->dir, "%s cannot be used (%s): goes on from %s, step %lld", RUN_LAST, there ? why : "it is not there",
               name, (long long)t->s.step);
    if (!there)
        return true;
    if (rename(last, aside) != 0) {
        diag_error(t->d, LOC_NONE, "run: cannot rename %s to %s: %s", last, aside, strerror(errno));
        return false;
    }
    diag_note(t->d, LOC_NONE, "it was renamed to %s", aside);
    return true;
}

bool keep_resume(Trainer *t, HostTensors *host, bool *found)
{
    Arena       scratch = arena_new("resume");
    const Names names = candidates(&scratch, t);
    const char *why = NULL;
    bool        ok = names.len == 0;
    *found = names.len > 0;
    for (int32_t i = 0; i < names.len && !ok; i++) {
        Diag quiet = diag_new(NULL);
        ok = read_candidate(t, &quiet, names.at[i], host);
        if (ok && !str_eq(names.at[i], RUN_LAST))
            ok = say_fallback(t, names.at[i], why);
        else if (!ok && !why)
            why = first_line(&scratch, quiet.text.s);
        diag_free(&quiet);
        if (ok)
            break;
    }
    if (!ok && t->d->errors == 0) /* none is of use: what is wrong with the first one */
        ok = read_candidate(t, t->d, names.at[0], host);
    arena_free(&scratch);
    return ok;
}
