/* pass_impl.h: what the files of this directory share and nobody else sees: the functions of passes.def, and the parts
 * of the manager (pipeline, dumps, reproducer). Whoever runs passes includes passes.h. */
#ifndef DETENT_PASSES_PASS_IMPL_H
#define DETENT_PASSES_PASS_IMPL_H

#include "passes/passes.h"

#include <string.h>

/* One function a row: edits the graph in place, returns "changed". */
#define PASS(id, name, flags, steps, phase, function, doc) bool function(PassCtx *c, Graph *g);
#include "passes/passes.def"
#undef PASS

/* What patterns of a recipe match: "s1.b0.conv1" of a layer whose weight is the param "s1.b0.conv1.weight" or what
 * fold-batchnorm made of it; else its label. (insert_quantize.c) */
const char *layer_name(Arena *a, const Graph *g, ValueId id);

/* Is it of the network that teaches, which stays as it is? */
static inline bool is_teacher(const Graph *g, ValueId id)
{
    const char *scope = ir_value(g, id)->scope;
    return scope != NULL && strncmp(scope, TEACHER_PREFIX, sizeof TEACHER_PREFIX - 1) == 0;
}

/* Is the recipe sound for the layers of this network? False: every mistake is reported. (recipe_check.c) */
typedef struct RecipeLayer {
    const char      *name;
    const QuantSpec *spec[ROLE_COUNT];
} RecipeLayer;
bool recipe_check(Arena *a, Diag *d, const Recipe *r, const RecipeLayer *layers, int32_t n) DT_CHECKED;
/* Does the setting do anything with this method, for one of the sides `roles`? */
bool method_reads(const Method *m, SettingId id, uint32_t roles);

/* ---- Optimizers ------------------------------------------------------------------------------------------------- */

/* One update that is being emitted. */
struct Updating {
    Builder               *b;
    const OptimizerConfig *cfg;
    const Optimizer       *row;
    ValueId                param, grad;
    ValueId                lr;         /* of this param's group */
    ValueId                rate, root; /* of optimizers that correct: lr / seen1, sqrt(seen2) */
    double                 decay, floor;
    ValueId                moment[3], next[3]; /* as before the update, and after it; VALUE_NONE: it has none such */
};

/* Is the param left as it is by this step, because the options say so? (optimizer.c) */
bool optimizer_freezes(const PassCtx *c, const char *param);

/* Is the result of this op laid out as weights are, whatever it reads? (layout.c) */
bool layout_makes_weight(OpCode op);

/* Takes values that no effect needs out of the order; numbers groups as they come in it, those without values vanish.
 * (schedule.c) */
void schedule_drop_dead(PassCtx *c, Graph *g);
void schedule_renumber(PassCtx *c, Graph *g);

/* Reports that `found` is none of the words, with the nearest, or else `else_help`. Always false. (recipe.c) */
bool recipe_unknown_word(Arena *a, Diag *d, Loc at, const char *what, const char *const *words, int32_t n,
                         const char *found, const char *else_help);

/* ---- Pipeline: which passes run (pipeline.c) --------------------------------------------------------------------- */

typedef struct PipelineRow {
    PassId  id;
    int32_t nth;      /* which run of this pass, from 1 */
    int32_t optional; /* its number among the passes that are not required, from 1; 0: required */
} PipelineRow;

typedef struct Pipeline {
    VEC(PipelineRow) rows;
    int32_t n_optional; /* before --bisect took some away */
    int32_t limit;      /* of --bisect; -1: none */
    bool    lowers;     /* it gets to the end */
} Pipeline;

/* False: reported (an unknown name, a required pass switched off). */
bool pipeline_build(Arena *a, Diag *d, const PassOptions *opt, StepKind step, Pipeline *out) DT_CHECKED;
/* "canonicalize,autodiff,...", as --passes takes it. */
void pipeline_print(Str *out, const Pipeline *p);
/* Is the row named by one of "simplify" (every run) and "simplify:2" (the second)? The names were checked. */
bool pipeline_names(const StrList *refs, PipelineRow row);
/* What --bisect or, without it, DETENT_BISECT in the environment says; -1: no limit. False: reported. */
bool bisect_limit(Diag *d, const PassOptions *opt, int32_t *limit) DT_CHECKED;

/* ---- One run of the manager ------------------------------------------------------------------------------------- */

/* What --pass-timing shows of one pass. */
typedef struct PassRecord {
    PipelineRow row;
    double      seconds;
    int32_t     values_before, values_after;
    bool        changed;
} PassRecord;

typedef struct PassRun {
    PassCtx           *c;
    Graph             *g;
    const PassOptions *opt;
    FILE              *out;
    Pipeline           pipe;
    int32_t            at;           /* row that runs now */
    Phase              phase;        /* whose rules the graph keeps before that row */
    Arena              arena;        /* what lives as long as the run */
    Arena              text;         /* what lives as long as one pass */
    const char        *before;       /* the graph before the row, whole */
    const char        *before_scope; /* the same under --print-ir-scope; `before` itself without one */
    VEC(PassRecord) records;
    VEC(PassStat) stats; /* "simplify.merged"; names in the graph's arena */
    Str explain;         /* lines of --explain-fusion since the last pass */
} PassRun;

static inline const PassInfo *pass_run_pass(const PassRun *r)
{
    return &pass_table[r->pipe.rows.at[r->at].id];
}
/* "simplify", or "simplify:2" for a later run. */
const char *pass_run_name(Arena *a, PipelineRow row);

/* ---- Dumps (dump.c) --------------------------------------------------------------------------------------------- */

const char *dump_text(Arena *a, const Graph *g, const char *scope); /* whole when scope is NULL */
bool        dump_start(PassRun *r) DT_CHECKED;                      /* 00_frontend.dtir; false: reported */
void        dump_before(PassRun *r);
bool        dump_after(PassRun *r, bool changed) DT_CHECKED; /* false: reported (a file cannot be written) */

/* ---- Reproducer (reproduce.c) ----------------------------------------------------------------------------------- */

/* BugHook; user is the PassRun. */
void reproduce_on_bug(void *user, const char *message);
/* Flags with which detent-opt sees the same context: "--step=train --method=lsq --bits=w4a4 ...". */
void reproduce_context(Str *out, const PassCtx *c);
/* The flags that are not at their defaults, as on a command line (options.c). */
void pass_options_print(Str *out, const PassOptions *opt);

#endif
