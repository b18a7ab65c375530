/* pipeline.c: from flags to the list of passes that run: the rows of passes.def that belong to the step (or --passes),
 * less --disable-pass, cut by --stop-after, thinned by --bisect. A name that no pass has is a mistake of the user; a
 * pass that another step has (autodiff in an evaluation) is not, since one command line serves all steps of a model.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <stdlib.h>
#include <string.h>

/* "simplify": every run; "simplify:2": the second. */
typedef struct PassRef {
    PassId  id;
    int32_t nth; /* 0: every run */
} PassRef;

static bool ref_split(const char *text, PassRef *out)
{
    const char *colon = strchr(text, ':');
    size_t      len = colon ? (size_t)(colon - text) : strlen(text);
    *out = (PassRef){ PASS_COUNT, 0 };
    if (colon) {
        char *end;
        long  nth = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end || nth < 1 || nth > 1000)
            return false;
        out->nth = (int32_t)nth;
    }
    for (int i = 0; i < PASS_COUNT; i++)
        if (strlen(pass_table[i].name) == len && memcmp(pass_table[i].name, text, len) == 0)
            out->id = (PassId)i;
    return out->id != PASS_COUNT;
}

static bool ref_parse(Arena *a, Diag *d, const char *flag, const char *text, PassRef *out)
{
    if (ref_split(text, out))
        return true;
    const char *names[PASS_COUNT];
    Str         all = str_new(a);
    for (int i = 0; i < PASS_COUNT; i++) {
        names[i] = pass_table[i].name;
        if (!(pass_table[i].flags & PASS_TEST))
            str_printf(&all, "%s%s", all.len ? ", " : "", names[i]);
    }
    size_t      len = strcspn(text, ":");
    const char *near = str_nearest(a, arena_strndup(a, text, len), names, PASS_COUNT);
    if (out->id != PASS_COUNT || !*near)
        diag_error(d, LOC_NONE, "--%s: no pass '%s'", flag, text);
    else
        diag_error(d, LOC_NONE, "--%s: no pass '%s'; nearest: %s", flag, text, near);
    diag_help(d, "passes are %s; P:2 is the second run of P", all.s);
    return false;
}

bool pipeline_names(const StrList *refs, PipelineRow row)
{
    PassRef ref;
    for (int32_t i = 0; i < refs->len; i++)
        if (ref_split(refs->at[i], &ref) && ref.id == row.id && (ref.nth == 0 || ref.nth == row.nth))
            return true;
    return false;
}

const char *pass_run_name(Arena *a, PipelineRow row)
{
    const char *name = pass_table[row.id].name;
    return row.nth > 1 ? arena_printf(a, "%s:%d", name, row.nth) : name;
}

void pipeline_print(Str *out, const Pipeline *p)
{
    for (int32_t i = 0; i < p->rows.len; i++)
        str_printf(out, "%s%s", i ? "," : "", pass_table[p->rows.at[i].id].name);
}

static void row_add(Arena *a, Pipeline *p, PassId id)
{
    int32_t nth = 1;
    for (int32_t i = 0; i < p->rows.len; i++)
        nth += p->rows.at[i].id == id;
    vec_push(a, &p->rows, (PipelineRow){ .id = id, .nth = nth });
}

/* Every pass that the flags ask for, before any is taken away. */
static bool rows_collect(Arena *a, Diag *d, const PassOptions *opt, StepKind step, Pipeline *p)
{
    bool ok = true;
    for (int32_t i = 0; i < opt->passes.len; i++) {
        PassRef ref;
        if (!ref_parse(a, d, "passes", opt->passes.at[i], &ref))
            ok = false;
        else if (pass_table[ref.id].steps & (1u << step))
            row_add(a, p, ref.id);
    }
    for (int id = 0; opt->passes.len == 0 && id < PASS_COUNT; id++)
        if (!(pass_table[id].flags & PASS_TEST) && (pass_table[id].steps & (1u << step)))
            row_add(a, p, (PassId)id);
    return ok;
}

/* A reference must name a pass, and a run that takes place unless the step has no such pass. */
static bool ref_check(Arena *a, Diag *d, const Pipeline *p, StepKind step, const char *flag, const char *text)
{
    PassRef ref;
    if (!ref_parse(a, d, flag, text, &ref))
        return false;
    int32_t runs = 0;
    for (int32_t i = 0; i < p->rows.len; i++)
        runs += p->rows.at[i].id == ref.id;
    if (!(pass_table[ref.id].steps & (1u << step)) || runs >= (ref.nth ? ref.nth : 1))
        return true;
    Str all = str_new(a);
    pipeline_print(&all, p);
    diag_error(d, LOC_NONE, "--%s=%s: %s runs %d time%s in the %s step", flag, text, pass_table[ref.id].name, runs,
               runs == 1 ? "" : "s", step_kind_name(step));
    diag_help(d, "the pipeline is %s", all.s);
    return false;
}

static bool refs_check(Arena *a, Diag *d, const Pipeline *p, StepKind step, const char *flag, const StrList *refs)
{
    bool ok = true;
    for (int32_t i = 0; i < refs->len; i++)
        ok = ref_check(a, d, p, step, flag, refs->at[i]) && ok;
    return ok;
}

static bool disable_check(Arena *a, Diag *d, const StrList *refs)
{
    bool ok = true;
    for (int32_t i = 0; i < refs->len; i++) {
        PassRef ref;
        if (!ref_split(refs->at[i], &ref) || !(pass_table[ref.id].flags & PASS_REQUIRED))
            continue;
        Str others = str_new(a);
        for (int id = 0; id < PASS_COUNT; id++)
            if (!(pass_table[id].flags & (PASS_REQUIRED | PASS_TEST)))
                str_printf(&others, "%s%s", others.len ? ", " : "", pass_table[id].name);
        diag_error(d, LOC_NONE, "--disable-pass: %s is required", pass_table[ref.id].name);
        diag_help(d, "passes that can be left out are %s", others.s);
        ok = false;
    }
    return ok;
}

/* Numbers the optional passes, then keeps the rows that are neither disabled nor beyond --stop-after or --bisect. */
static void rows_select(Pipeline *p, const PassOptions *opt)
{
    PassRef stop = { PASS_COUNT, 0 };
    if (opt->stop_after)
        ref_split(opt->stop_after, &stop);
    int32_t kept = 0;
    bool    open = true;
    for (int32_t i = 0; i < p->rows.len; i++) {
        PipelineRow row = p->rows.at[i];
        bool        disabled = pipeline_names(&opt->disable, row);
        if (!(pass_table[row.id].flags & PASS_REQUIRED) && !disabled)
            row.optional = ++p->n_optional;
        if (open && !disabled && (p->limit < 0 || row.optional <= p->limit))
            p->rows.at[kept++] = row;
        if (row.id == stop.id && row.nth == (stop.nth ? stop.nth : 1))
            open = false;
    }
    p->rows.len = kept;
    for (int32_t i = 0; i < kept; i++)
        p->lowers |= p->rows.at[i].id == PASS_LOWER;
}

bool pipeline_build(Arena *a, Diag *d, const PassOptions *opt, StepKind step, Pipeline *out)
{
    *out = (Pipeline){ .limit = -1 };
    bool ok = rows_collect(a, d, opt, step, out);
    ok = ok && refs_check(a, d, out, step, "print-ir-before", &opt->print_before);
    ok = ok && refs_check(a, d, out, step, "print-ir-after", &opt->print_after);
    ok = ok && refs_check(a, d, out, step, "disable-pass", &opt->disable) && disable_check(a, d, &opt->disable);
    ok = ok && (!opt->stop_after || ref_check(a, d, out, step, "stop-after", opt->stop_after));
    ok = ok && bisect_limit(d, opt, &out->limit);
    if (ok)
        rows_select(out, opt);
    return ok;
}
