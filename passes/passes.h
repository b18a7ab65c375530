/* passes.h: the pass manager and what passes see. A pass is one row of passes.def and one function; it has no static
 * variables, prints nothing, calls no other pass. Everything else - verify, time, count, dump, diff, bisect, reproduce
 * - is the manager's (manager.c, dump.c, bisect.c).
 *
 * Tested by tests/golden and tests/unit/test_manager.c; each pass says what tests it. */
#ifndef DETENT_PASSES_H
#define DETENT_PASSES_H

#include "ir/ir.h"

/* ---- Recipe: which method, how many bits, where ---------------------------------------------------------------- */

/* A method is a row of passes/methods.def. */
typedef struct MethodInfo {
    const char *name, *doc;
    bool        quantizes; /* false: float */
} MethodInfo;
extern const MethodInfo pass_methods[];
extern const int32_t    pass_n_methods;

/* Applies to the quantizers whose layer name matches `pattern` (glob over "s1.b0.conv1") and whose role is given.
 * Later rows win. */
typedef struct RecipeRow {
    const char *pattern;
    const char *role; /* "weight", "act", or NULL: both */
    int32_t     bits; /* 2..8; 0: leave in float */
    const char *what; /* who says it, for messages: "--layer" */
} RecipeRow;

typedef struct Recipe {
    const char *method; /* row of pass_methods */
    int32_t     weight_bits, act_bits;
    int32_t     edge_bits; /* first and last layer; 0: like the others; 8 by default */
    VEC(RecipeRow) rows;   /* after the defaults; each must match something */
    bool batch_in_n;       /* LSQ gradient scale counts the batch, too (not the paper's way) */
} Recipe;

/* The method of this name. NULL: reported at `at`, `what` in front ("--method"), with the names there are. */
const MethodInfo *recipe_find_method(Arena *a, Diag *d, Loc at, const char *what, const char *name);
/* "w4a4", "w8a8", "float" -> bits. False: reported. `what` begins the message: what the text was given as ("--bits").
 */
bool recipe_parse_bits(Recipe *r, Diag *d, const char *what, const char *text);
/* PATTERN=wNaM (or PATTERN=float): one more row. */
bool recipe_add_layer(Arena *a, Recipe *r, Diag *d, const char *what, const char *text);
/* A recipe in a file (recipe_file.c): what each option of the same name would say; NULL, false: the file does not.
 * places[i]: "my.recipe:12", where layers[i] ("s1.*=w8a8") stands. */
typedef struct RecipeFile {
    const char *method, *bits, *bits_place;
    int64_t     edge_bits;
    bool        has_edge_bits, batch_in_n;
    StrList     layers, places;
} RecipeFile;
bool recipe_read(Arena *a, Diag *d, const char *path, RecipeFile *out) DT_CHECKED;
/* What insert-quantize decided for each quantizer, for `detent info`. */
typedef struct QuantizerInfo {
    const char *layer, *role, *step; /* step: name of the step-size param */
    int32_t     bits, row;           /* row: -1 default, -2 edge rule, else index into rows */
    int64_t     lo, hi;
} QuantizerInfo;

/* ---- What passes are told ------------------------------------------------------------------------------------------
 */

typedef struct OptimizerConfig {
    double momentum, weight_decay;
    bool   nesterov;
} OptimizerConfig;

/* Numbers of the target that passes may look at; no API of it. */
typedef struct Target {
    const char *name;          /* "cpu" */
    Layout      image_layout;  /* of rank-4 activations */
    Layout      weight_layout; /* of rank-4 weights, their gradients and velocities: nhwc means [K, R, S, C] */
    int64_t     align_bytes;   /* of every value's offset */
    bool        int8_unsigned; /* integer products take u8 inputs, too */
    bool        int8_groups;   /* ... and convolutions in groups */
} Target;

/* ---- Passes ---------------------------------------------------------------------------------------------------- */

typedef struct PassStat {
    const char *name;
    int64_t     count;
} PassStat;

typedef struct PassCtx {
    Arena                 *scratch; /* reset after each pass */
    Diag                  *d;       /* errors of the user's making */
    StepKind               step;
    const Recipe          *recipe;
    const OptimizerConfig *optimizer;
    const Target          *target;
    bool                   int8_forward; /* products of codes of up to 8 bits are made of integers (--forward int8) */
    VEC(PassStat) stats;                 /* in the graph's arena */
    VEC(QuantizerInfo) quantizers;       /* in the graph's arena */
    Str        *explain;                 /* NULL, or lines of --explain-fusion */
    const char *explain_scope;           /* glob; NULL: all */
    Arena      *keep;                    /* lives as long as the graph */
} PassCtx;

void pass_count(PassCtx *c, const char *stat, int64_t n); /* adds to a counter shown by --pass-stats */
void pass_explain(PassCtx *c, const Graph *g, ValueId v, const char *fmt, ...) DT_PRINTF(4, 5);

typedef enum PassFlags {
    PASS_REQUIRED = 1, /* never skipped */
    PASS_TEST = 2      /* for tests of the manager itself: not in the default pipeline */
} PassFlags;

typedef struct PassInfo {
    const char *name, *doc;
    uint32_t    flags;
    uint32_t    steps;                 /* bit mask of (1 << StepKind): where it runs */
    Phase       phase;                 /* rules that hold after it */
    bool (*run)(PassCtx *c, Graph *g); /* "changed"; the graph is edited in place */
} PassInfo;

typedef enum PassId {
#define PASS(id, ...) PASS_##id,
#include "passes/passes.def"
#undef PASS
    PASS_COUNT
} PassId;
extern const PassInfo pass_table[PASS_COUNT];

/* ---- Manager --------------------------------------------------------------------------------------------------- */

/* One field a flag; filled by opts_parse() from pass_option_defs (see `detent compile --help`). */
typedef struct PassOptions {
    StrList     print_before, print_after; /* pass names, "pass:2" the second occurrence */
    bool        print_after_all, print_after_change, print_diff;
    const char *print_dir, *print_scope;
    StrList     passes, disable; /* whole pipeline; switched off (optional ones only) */
    const char *stop_after;
    bool        print_pipeline, pass_stats, pass_timing;
    const char *verify; /* changed | all | off */
    bool        verify_roundtrip, verify_changed;
    int64_t     bisect;     /* run only the first N optional passes; -1: all */
    const char *bisect_run; /* command that succeeds for a good graph; see bisect.c */
    const char *crash_dir;
    const char *explain_fusion; /* NULL: off; "": everything; else a scope */
    bool        print_plan;
    const char *dump_kernels; /* directory (used by codegen) */
} PassOptions;
extern const OptDef  pass_option_defs[];
extern const int32_t pass_n_option_defs;

/* Runs the pipeline. Text that flags ask for goes to `out`. False: reported (a user's mistake) - a bug of ours writes
 * the reproducer to crash_dir and aborts. `stopped`: --stop-after or --passes ended it before lowering (may be NULL).
 */
bool passes_run(PassCtx *c, Graph *g, const PassOptions *opt, FILE *out, bool *stopped) DT_CHECKED;
/* --bisect-run: runs the shell command opt->bisect_run for N = 0, 1, ... optional passes (binary search; it gets N as
 * {N} and as DETENT_BISECT, which passes_run obeys like --bisect) and prints the first N with which it fails. The
 * number of that pass; 0: it fails without any, or with none; -1: reported. */
int32_t passes_bisect_run(Arena *a, Diag *d, const PassOptions *opt, StepKind step, FILE *out) DT_CHECKED;
/* The table of --print-plan: value, bytes, first and last launch, offset; peak and the three largest alive there; bytes
 * saved for backward by kind. */
void    passes_print_plan(Str *out, const Graph *g);
int32_t passes_peak_values(const Graph *g, ValueId *out, int32_t most); /* the largest at the peak, largest first */
int64_t passes_saved_bytes(const Graph *g); /* made in forward, read in backward; weights and inputs not counted */
void    passes_doc(Str *out);               /* docs/passes.md */

#endif
