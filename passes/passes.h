/* passes.h: the pass manager and what passes see. A pass is one row of passes.def and one function; it has no static
 * variables, prints nothing, calls no other pass. Everything else - verify, time, count, dump, diff, bisect, reproduce
 * - is the manager's (manager.c, dump.c, bisect.c).
 *
 * Tested by tests/golden and tests/unit/test_manager.c; each pass says what tests it. */
#ifndef DETENT_PASSES_H
#define DETENT_PASSES_H

#include "ir/ir.h"

/* ---- Recipe: which method, how many bits, where ---------------------------------------------------------------- */

/* What is quantized of a layer: its weight, its input. */
typedef enum Role { ROLE_WEIGHT, ROLE_ACT, ROLE_COUNT } Role;
const char *role_name(Role r); /* "weight", "act" */

/* A method is a row of passes/methods.def and a function (quantize.h). */
typedef struct Quantizing Quantizing;
typedef struct Method {
    const char *name, *doc;
    const char *defaults; /* settings that it differs in from recipe.def: "noise=0.5 weight.codes=narrow" */
    ValueId (*quantize)(Quantizing *z); /* NULL: float */
    const char *penalty;                /* regularizer: form of ir/body_penalty.c; NULL: none */
    const char *reads; /* settings beyond those of every method: "act.calibrate ema"; others would do nothing */
} Method;
extern const Method  pass_methods[];
extern const int32_t pass_n_methods;

/* Where in a run a step is compiled for: what recipes schedule changes with it. */
typedef struct Moment {
    double epoch, epochs; /* 0 <= epoch < epochs */
} Moment;

/* Settings are rows of passes/recipe.def. */
typedef enum SettingKind { SETTING_WORD, SETTING_NUMBER, SETTING_WHOLE, SETTING_SCHEDULE } SettingKind;
typedef enum SettingId {
#define SETTING(id, ...) SET_##id,
#include "passes/recipe.def"
#undef SETTING
    SETTING_COUNT
} SettingId;
typedef struct SettingInfo {
    const char *key;
    SettingKind kind;
    uint32_t    roles;    /* 1 << Role: of which sides of a layer; 0: of the whole network */
    const char *choices;  /* WORD: "tensor|channel" */
    double      min, max; /* numbers */
    const char *fallback; /* as it would be written */
    const char *doc;
} SettingInfo;
extern const SettingInfo pass_settings[SETTING_COUNT];

/* A setting's value. A schedule has one number from each point of the run on. */
enum { SCHEDULE_MOST = 8 };
typedef struct SettingValue {
    const char *text; /* without blanks, numbers with as few digits as read back */
    int32_t     n;
    double      number[SCHEDULE_MOST];
    double      from[SCHEDULE_MOST];  /* epochs, or a share of all; rising; from[0] = 0 */
    bool        share[SCHEDULE_MOST]; /* from is a share of the run */
} SettingValue;
/* "0.5"; "1,10,100" (equal parts of the run); "0.25, 0.5@2, 1@80%" (from epoch 2, from 80 % of the run on). False:
 * reported at `at`, `what` in front. */
bool setting_parse(Arena *a, Diag *d, Loc at, const char *what, SettingId id, const char *text, SettingValue *out);
/* The number at this moment. */
double setting_at(const SettingValue *v, Moment m);

/* Bits of the quantizers whose layer name matches `pattern` (glob over "s1.b0.conv1") and whose role is given. Later
 * rows win. */
typedef struct RecipeRow {
    const char *pattern;
    const char *role; /* "weight", "act", or NULL: both */
    int32_t     bits; /* 2..8; 0: leave in float */
    const char *what; /* who says it, for messages: "--layer", "recipe" */
    Loc         at;   /* my.recipe:12 */
} RecipeRow;

/* The same for any other setting, the method included. */
typedef struct RecipeSetting {
    const char  *pattern; /* NULL: the whole network */
    uint32_t     roles;   /* 1 << Role */
    SettingId    id;
    SettingValue value;
    const char  *what; /* "--set", "recipe" */
    Loc          at;
} RecipeSetting;

typedef struct Recipe {
    const char *method; /* of every layer that no setting names another for */
    int32_t     weight_bits, act_bits;
    int32_t     edge_bits;       /* first and last layer; 0: like the others; 8 by default */
    VEC(RecipeRow) rows;         /* after the defaults; each must match something */
    VEC(RecipeSetting) settings; /* later ones win; each must match something */
    bool batch_in_n;             /* LSQ gradient scale counts the batch, too (not the paper's way) */
} Recipe;

/* The method of this name. NULL: reported at `at`, `what` in front ("--method"), with the names there are. */
const Method *recipe_find_method(Arena *a, Diag *d, Loc at, const char *what, const char *name);
/* Does anything in it quantize? */
bool recipe_quantizes(const Recipe *r);
/* Is there anything to train? Not where all that quantizes is calibrated and stays as it is. */
bool recipe_trains(const Recipe *r);
/* "w4a4", "w8a8", "float" -> bits. False: reported at `at`. `what` begins the message: what the text was given as
 * ("--bits"). */
bool recipe_set_bits(Recipe *r, Diag *d, Loc at, const char *what, const char *text);
/* PATTERN=wNaM (or PATTERN=float): one more row. */
bool recipe_set_layer(Arena *a, Recipe *r, Diag *d, Loc at, const char *what, const char *text);
/* [PATTERN:][weight.|act.]KEY=VALUE: one more setting. */
bool recipe_set(Arena *a, Recipe *r, Diag *d, Loc at, const char *what, const char *text);
/* The same, said at no place. */
bool recipe_parse_bits(Recipe *r, Diag *d, const char *what, const char *text);
bool recipe_add_layer(Arena *a, Recipe *r, Diag *d, const char *what, const char *text);
/* What recipe_set reads back, always in the same words. */
void recipe_print_setting(Str *out, const RecipeSetting *s);
/* Warns of what is to happen after the last epoch. */
void recipe_check_epochs(const Recipe *r, Diag *d, double epochs);

/* What the recipe says of one side of one layer: for each setting the last that names it, else the method's default,
 * else the fallback of recipe.def. */
typedef struct QuantSpec {
    const Method *method;
    int32_t       bits; /* 0, or a method that does not quantize: float */
    int32_t       told; /* bits that rows and defaults say, whatever the method */
    int32_t       row;  /* that decided the bits: -1 default, -2 edge rule, else index into rows */
    SettingValue  value[SETTING_COUNT];
    int32_t       by[SETTING_COUNT]; /* index into Recipe.settings; -1: the method's default or the fallback */
} QuantSpec;
bool        recipe_resolve(Arena *a, Diag *d, const Recipe *r, const char *layer, bool edge, Role role, QuantSpec *out);
const char *spec_word(const QuantSpec *s, SettingId id);
double      spec_number(const QuantSpec *s, SettingId id, Moment m);
/* A setting of the whole network. */
SettingValue recipe_setting(Arena *a, const Recipe *r, SettingId id);
/* The epochs at which the train step changes, rising, at[0] = 0; how many. A run compiles one train step for each. */
enum { RECIPE_MOST_PHASES = 16 };
int32_t recipe_phases(Arena *a, const Recipe *r, double epochs, double at[RECIPE_MOST_PHASES]);

/* A recipe in a file (recipe_file.c), as options of the command line: { "bits", "w4a4" }, { "layer", "s1.*=w8a8" },
 * { "set", "s1.*:noise=0.5" }, { "lr", "0.01" }. */
typedef struct RecipeSaid {
    const char *option, *text;
    Loc         at;
} RecipeSaid;
typedef struct RecipeFile {
    VEC(RecipeSaid) said;
} RecipeFile;

/* `name`: a file, or, where there is none and no slash in it, a recipe that is built in. */
bool recipe_read(Arena *a, Diag *d, const char *name, RecipeFile *out) DT_CHECKED;

/* Recipes that are built in: the files of passes/recipes. */
typedef struct BuiltinRecipe {
    const char *name, *text;
} BuiltinRecipe;
extern const BuiltinRecipe recipe_builtins[];
extern const int32_t       recipe_n_builtins;
/* NULL: reported at no place, `what` in front, with the names that are near. */
const BuiltinRecipe *recipe_find_builtin(Arena *a, Diag *d, const char *what, const char *name);
const char          *recipe_title(Arena *a, const BuiltinRecipe *r); /* its first comment */

void                 recipe_doc(Str *out); /* docs/settings.md */

/* Names of outputs that insert-quantize makes for the host. */
#define PENALTY_OUTPUT "penalty:" /* train: lambda mean phi of a quantizer's input */
#define OBSERVE_OUTPUT "observe:" /* observe: what a quantizer would read */
#define INSPECT_OUTPUT                                                                                                 \
    "inspect:" /* inspect: "inspect:NAME:" and step, zero, value (of weights: what was quantized), clipped             \
                  (how many), noise (sum of squared errors), signal (sum of squares), bad (how many not                \
                  finite), and of weights under a regularizer phi (its sum, for each output with a step) */

/* What insert-quantize made for one quantizer. Leaves are named; NULL: it has none such. */
typedef struct QuantizerInfo {
    const char *name; /* "s1.b0.conv1.weight", "s1.b0.conv1.input" */
    const char *layer, *role, *method;
    int32_t     bits, row; /* row: as in QuantSpec */
    int64_t     lo, hi;    /* codes */
    int64_t     steps;     /* 1, or one for each so many outputs of the weight: a vector of that length */
    int32_t     axis;      /* of a weight: the dimension of its outputs, 1 for a transposed convolution */
    int64_t     elems;     /* of what it quantizes */
    bool        affine;    /* it has a zero point */
    const char *step;      /* f32[steps]: param, or state when it is not trained */
    const char *offset;    /* f32[]: param or state, the real value of code 0 */
    const char *min, *max; /* f32[]: states, the range that is tracked (min NULL: 0) */
    const char *calibrate; /* "none", or how the host finds the first range; see runtime/calibrate.h */
    double      percentile;
    const char *observed; /* output of the observe step that shows what it would quantize */
} QuantizerInfo;

/* ---- What passes are told ------------------------------------------------------------------------------------------
 */

/* Params whose name matches stay as they are, up to an epoch or for ever. */
typedef struct Freeze {
    const char *pattern; /* glob over "s1.b0.conv1.weight" */
    double      until;   /* epoch; INFINITY: for ever */
} Freeze;

/* Zero: SGD without momentum, nothing clipped or averaged. */
typedef struct OptimizerConfig {
    double      momentum, weight_decay;
    bool        nesterov;
    const char *name; /* of a row of pass_optimizers; NULL: sgd */
    double      beta1, beta2, eps, rho;
    double      step_lr;    /* factor of the learning rate of steps and offsets; 0: 1 */
    double      clip_norm;  /* the root of the sum of the squares of all gradients is at most this; 0: whatever it is */
    double      clip_value; /* each number of a gradient is in +- this; 0: whatever it is */
    int32_t     accumulate; /* steps whose gradients are averaged for one update; 0 and 1: each makes one */
    bool        gather;     /* this step is not the last of them: it adds its gradients and updates nothing */
    double      ema;        /* weight of the old average of params and states; 0: there are no averages */
    bool        ema_warm;   /* less of it at first: min(ema, (1 + t) / (10 + t)) */
    const Freeze *freeze;
    int32_t       n_freeze;
} OptimizerConfig;

/* An optimizer is a row of passes/optimizers.c: what it is by default, and a function that emits one update. */
typedef struct Updating Updating;
typedef struct Optimizer {
    const char *name, *doc;
    double      lr, momentum, weight_decay, beta1, beta2, eps, rho; /* unless said otherwise */
    const char *reads;                                              /* options: "momentum nesterov"; all read lr */
    const char *moments[3];                                         /* states of each param, "PARAM.velocity", ... */
    int32_t     only_with_momentum;                                 /* of them, the first so many */
    double      first;                                              /* value of moment2 */
    bool        corrects; /* moments are divided by the weight that they have seen so far */
    ValueId (*update)(Updating *u);
} Optimizer;
extern const Optimizer pass_optimizers[];
extern const int32_t   pass_n_optimizers;
const Optimizer       *optimizer_find(const char *name); /* NULL: there is none; sgd for no name */
bool                   optimizer_reads(const Optimizer *o, const char *option);
/* "head.*" or "stem.*@5" (until epoch 5). False: reported, `what` in front. */
bool optimizer_parse_freeze(Arena *a, Diag *d, Loc at, const char *what, const char *text, Freeze *out) DT_CHECKED;
/* Adds the epochs at which params thaw to those at which a recipe changes (recipe_phases); how many there are then.
 * False: reported, there are more than RECIPE_MOST_PHASES. */
bool optimizer_phases(Diag *d, const OptimizerConfig *o, double epochs, double at[RECIPE_MOST_PHASES],
                      int32_t *n) DT_CHECKED;

/* States that optimizers keep for a param. */
#define OPT_GRAD ".grad"          /* sum of gradients, with accumulate */
#define OPT_EMA ".ema"            /* average of a param or a state */
#define OPT_UPDATES "ema:updates" /* how often the averages were updated */
/* What names of the teacher's params and states begin with (frontend/teacher.c), and the
 * scopes of what it computes. All are states of the step that trains. */
#define TEACHER_PREFIX "teacher:"

/* Numbers of the target that passes may look at; no API of it. */
typedef struct Target {
    const char *name;          /* "cpu" */
    Layout      image_layout;  /* of rank-4 activations */
    Layout      weight_layout; /* of rank-4 weights, their gradients and velocities: nhwc means [K, R, S, C] */
    int64_t     align_bytes;   /* of every value's offset */
    bool        int8_unsigned; /* integer products take u8 inputs, too */
    bool        int8_groups;   /* ... and convolutions in groups */
    int64_t     cached_bytes; /* a value of so many is still in the cache some launches after it was read; 0: none is */
    double      bytes_per_ns, flops_per_ns; /* of memory and of products, for estimates; 0: 10 and 100 */
} Target;

/* What the pass rematerialize found and did. Times are estimates: of each launch the larger of what its bytes and its
 * products take at the rates of the target. */
typedef struct Rematerialized {
    int64_t limit;                 /* PassCtx.memory when the pass ran; 0: it had nothing to keep to */
    int64_t before, after;         /* bytes of values inside a step */
    int32_t values;                /* that are not kept */
    int32_t launches;              /* that are made a second time, those of what such values are made from among them */
    int64_t moved, flops;          /* bytes and operations of these launches */
    double  seconds, step_seconds; /* of them; of the step without them */
} Rematerialized;

/* A forward product that could be made of integer codes: the convolution that it is (of single pixels where it is a
 * matrix product), what its codes may be, and what else would be written, or would not. */
typedef struct ForwardProduct {
    int64_t n, c, h, w, k, r, s, oh, ow, stride, groups, pad[4];
    int32_t x_lo, x_hi, w_lo, w_hi;
    bool    matrix;                      /* linear, not a convolution of single pixels */
    bool    transposed;                  /* c, h, w, k, oh, ow are as the transposed convolution has them */
    bool    scale_each;                  /* output has its own */
    bool    has_offset;                  /* one more product, of one image, makes it good */
    int64_t codes_written, floats_saved; /* elements */
} ForwardProduct;
/* Who decides, product by product (--forward auto). */
typedef struct ForwardChooser {
    void *user;
    /* Is it made of codes? *why, in `a`, for --explain-forward. */
    bool (*of_codes)(void *user, Arena *a, const ForwardProduct *p, const char **why);
} ForwardChooser;

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
    Moment                 moment;
    bool                   clamped; /* eval: quantizers clip and do not round (what a regularizer has reached so far) */
    const OptimizerConfig *optimizer;
    bool                   use_averages; /* eval: reads the averages of params and states in their place */
    const Target          *target;
    bool                   bf16_backward; /* gradients of convolutions have operands in bf16 (--backward bf16) */
    bool                   int8_forward;  /* products of codes of up to 8 bits are made of integers (--forward int) */
    int64_t                memory; /* most bytes that the plan of the step takes (rematerialize); 0: any number */
    int64_t                memory_values; /* the same of values inside a step alone */
    Rematerialized         again;         /* what came of it */
    const ForwardChooser  *chooser;       /* of these products; NULL: all that can be are */
    VEC(PassStat) stats;                  /* in the graph's arena */
    VEC(QuantizerInfo) quantizers;        /* in the graph's arena */
    Str        *explain;                  /* NULL, or lines of --explain-fusion and --explain-forward */
    const char *explain_scope;            /* glob; NULL: all */
    Arena      *keep;                     /* lives as long as the graph */
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
    const char *explain_fusion;  /* NULL: off; "": everything; else a scope */
    const char *explain_forward; /* the same, of integer-forward alone */
    bool        print_plan;
    const char *dump_kernels; /* directory (used by codegen) */
} PassOptions;
/* The scope of --explain-fusion or, without it, of --explain-forward, "": everything; NULL: neither is given. */
const char          *pass_options_explain(const PassOptions *opt);
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
void    passes_print_again(Str *out, const Rematerialized *r); /* what is made again for a limit, and what it costs */
int64_t passes_saved_bytes(const Graph *g); /* made in forward, read in backward; weights and inputs not counted */
void    passes_doc(Str *out);               /* docs/passes.md */

#endif
