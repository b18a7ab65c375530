/* teacher.c: the weights of the network that another learns from. They are states "teacher:NAME" of the train program,
 * NAME as in the checkpoint of the teacher's own run; where that has averages, these are taken, for they are what was
 * evaluated. Later checkpoints of the run carry them, so that it can be resumed without the teacher's file.
 *
 * Tested by tests/unit/test_teacher.c. */
#include "runtime/runtime_impl.h"

#include <string.h>

static const char prefix[] = "teacher:";

/* Its index in the file; -1: the file has none of that name. */
static int32_t find_source(Arena *a, const StFile *f, const char *name)
{
    int32_t average = st_find(f, arena_printf(a, "%s" CHECKPOINT_AVERAGE, name));
    return average >= 0 ? average : st_find(f, name);
}

static bool report_missing(Arena *a, Diag *d, const char *path, const StFile *f, const char *name)
{
    const char **names = ARENA_ARRAY(a, const char *, f->tensors.len + 1);
    for (int32_t i = 0; i < f->tensors.len; i++)
        names[i] = f->tensors.at[i].name;
    diag_error(d, LOC_NONE, "--teacher: %s lacks %s of the teacher's network", path, name);
    diag_help_nearest(d, name, names, f->tensors.len, "say with --teacher-net which network the weights are of");
    return false;
}

static bool take(Arena *a, Diag *d, const char *path, const StFile *f, LoadedProgram p, const ProgTensor *t)
{
    const char *name = t->name + sizeof prefix - 1;
    int32_t     k = find_source(a, f, name);
    if (k < 0)
        return report_missing(a, d, path, f, name);
    const StTensor *s = &f->tensors.at[k];
    bool            same = s->dtype == t->dtype && s->rank == t->rank;
    for (int32_t i = 0; same && i < s->rank; i++)
        same = s->dim[i] == t->dim[i];
    if (same)
        return tensor_write(p.exec, p.index, t, arena_copy(a, s->data, (size_t)s->bytes)); /* the file aligns nothing */
    diag_error(d, LOC_NONE, "--teacher: %s: %s is %s%s, the teacher's network has f32%s", path, s->name, s->type,
               dims_text(a, s->dim, s->rank), dims_text(a, t->dim, t->rank));
    diag_help(d, "say with --teacher-net which network the weights are of");
    return false;
}

bool teacher_load(Diag *d, const char *path, LoadedProgram p)
{
    Arena         scratch = arena_new("teacher");
    const StFile *f = st_read(&scratch, d, path);
    bool          ok = f != NULL;
    for (int32_t i = 0; i < p.program->n_tensors && ok; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (t->kind == TENSOR_STATE && strncmp(t->name, prefix, sizeof prefix - 1) == 0)
            ok = take(&scratch, d, path, f, p, t);
    }
    arena_free(&scratch);
    return ok;
}
