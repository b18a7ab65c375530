/* dump.c: shows the graph around passes: whole, under a scope, or as a diff; on a stream, or one file a pass. The
 * heading is a comment of the text form, so what is printed can be cut out and given to detent-opt.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char *dump_text(Arena *a, const Graph *g, const char *scope)
{
    Str s = str_new(a);
    if (scope)
        ir_print_scope(&s, g, scope);
    else
        ir_print(&s, g);
    return s.s;
}

/* Written beside and renamed over, so that `latest` always points somewhere. */
static bool link_latest(PassRun *r, const char *file)
{
    const char *link = arena_printf(&r->text, "%s/latest", r->opt->print_dir);
    const char *temp = arena_printf(&r->text, "%s/.latest.%d", r->opt->print_dir, (int)getpid());
    unlink(temp);
    if (symlink(file, temp) == 0 && rename(temp, link) == 0)
        return true;
    diag_error(r->c->d, LOC_NONE, "--print-ir-dir: cannot make the link %s: %s", link, strerror(errno));
    return false;
}

static bool dump_file(PassRun *r, int32_t number, const char *pass, const char *text)
{
    const char *name = arena_printf(&r->text, "%02d_%s.dtir", number, pass);
    const char *path = arena_printf(&r->text, "%s/%s", r->opt->print_dir, name);
    return dir_make(r->c->d, r->opt->print_dir) && file_write_atomic(r->c->d, path, text, strlen(text)) &&
           link_latest(r, name);
}

bool dump_start(PassRun *r)
{
    return !r->opt->print_dir || dump_file(r, 0, "frontend", r->before);
}

static void print_text(PassRun *r, const char *where, const char *note, const char *text)
{
    const char *name = pass_run_name(&r->text, r->pipe.rows.at[r->at]);
    fprintf(r->out, "// %s %s (pass %d of %d, @%s)%s\n%s", where, name, r->at + 1, r->pipe.rows.len, r->g->name, note,
            text);
}

void dump_before(PassRun *r)
{
    if (pipeline_names(&r->opt->print_before, r->pipe.rows.at[r->at]))
        print_text(r, "before", "", r->before_scope);
}

static bool wants_after(const PassRun *r, bool changed)
{
    const PassOptions *o = r->opt;
    bool               chosen = o->print_after.len || o->print_after_all || o->print_after_change;
    return pipeline_names(&o->print_after, r->pipe.rows.at[r->at]) || o->print_after_all ||
           (changed && (o->print_after_change || (o->print_diff && !chosen)));
}

static void print_after(PassRun *r, const char *after)
{
    if (!r->opt->print_diff) {
        print_text(r, "after", strcmp(after, r->before_scope) == 0 ? ", unchanged" : "", after);
        return;
    }
    const char *name = pass_run_name(&r->text, r->pipe.rows.at[r->at]);
    Str         diff = str_new(&r->text);
    text_diff(&diff, arena_printf(&r->text, "before %s", name), r->before_scope,
              arena_printf(&r->text, "after %s", name), after);
    if (diff.len)
        fputs(diff.s, r->out);
    else
        fprintf(r->out, "// after %s: unchanged\n", name);
}

bool dump_after(PassRun *r, bool changed)
{
    if (wants_after(r, changed))
        print_after(r, dump_text(&r->text, r->g, r->opt->print_scope));
    const char *pass = pass_run_pass(r)->name;
    return !r->opt->print_dir || dump_file(r, r->at + 1, pass, dump_text(&r->text, r->g, NULL));
}
