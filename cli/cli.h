/* cli.h: the `detent` program: options, sessions, commands. A command is a row of cli/commands.c and one function.
 *
 * Exit codes: 0 done; 1 a mistake in what was given (reported), or a check that failed; 2 a wrong command line; 130
 * interrupted. What a person reads goes to stderr, what a program may read (tables, IR, plans) to stdout. */
#ifndef DETENT_CLI_H
#define DETENT_CLI_H

#include "codegen/codegen.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/calibrate.h"
#include "runtime/runtime.h"
#include "runtime/cuda/gpu.h"

enum { EXIT_OK = 0, EXIT_MISTAKE = 1, EXIT_USAGE = 2 };

/* ---- Options (options.c) ---------------------------------------------------------------------------------------- */

/* One field a flag, for all commands; each command's help shows the groups that it reads. What was not given and has no
 * default is 0 or NULL until session_open() has asked the network. */
typedef struct CliOptions {
    bool    help, quiet, verbose;
    StrList given; /* names of the options that were given, on the command line or by a run's args.json */
    /* what is trained */
    const char *method, *bits, *recipe;
    const char *calibrate, *noise; /* short for settings; NULL once they are among them */
    StrList     layers;            /* PATTERN=w8a8 */
    StrList     settings;          /* [PATTERN:][weight.|act.]KEY=VALUE */
    RecipeFile  said; /* what of all this the recipe's file says; its layers and settings are the first ones */
    int64_t     edge_bits;
    bool        batch_in_n;
    int64_t     batch;
    uint64_t    seed; /* from seed_ */
    int64_t     seed_;
    /* how it is trained */
    const char *data, *dataset, *schedule, *init, *out, *exp, *resume, *checkpoint;
    int64_t     epochs, max_steps, save_every, log_every, eval_every, inspect_every;
    double      lr, momentum, weight_decay, warmup;
    bool        nesterov, no_augment;
    int64_t     patience, keep_every, keep;
    const char *ssim;
    /* what of the network and of the data it changes */
    int64_t     classes, eval_batch;
    const char *image, *test_image;
    double      colour, erase, mixup;
    const char *randaugment, *add_noise, *data_cache;
    int64_t     crops, bad_limit, workers;
    const char *optimizer;
    double      beta1, beta2, eps, rho, step_lr, clip_norm, clip_value, ema, label_smoothing;
    bool        ema_constant, gather, averaged;
    int64_t     accumulate, reestimate_bn;
    StrList     freeze; /* PATTERN[@EPOCH] */
    const char *teacher, *teacher_net;
    double      distill_weight, temperature;
    /* how it is compiled and run */
    StrList     forward_times; /* PRODUCT=MS/MS */
    const char *backend, *forward, *backward, *isa, *math, *arch, *gpu_memory, *workspace, *cache, *step, *at_epoch,
        *against;
    int64_t     gpu_memory_bytes, workspace_bytes; /* from the two texts */
    bool        no_graph, autotune;
    int64_t     threads, vector_width;
    bool        profile, json, serve, kernels, clamped, no_compile;
    int64_t     rounds, steps, launches;
    const char *mode, *trace;
    int64_t     images;
    double      loss;
    const char *memory, *title, *clean; /* memory_bytes: from the text */
    int64_t     memory_bytes, top;
    PassOptions pass;
} CliOptions;

typedef enum OptGroup {
    OPTS_COMMON = 1,
    OPTS_RECIPE = 2,
    OPTS_TRAIN = 4,
    OPTS_RUN = 8,
    OPTS_PASSES = 16,
    OPTS_BENCH = 32,
    OPTS_TARGET = 64,
    OPTS_SENSITIVITY = 128,
    OPTS_DIFF = 256,
    OPTS_PLAN = 512,
    OPTS_REPORT = 1024,
    OPTS_PREDICT = 2048,
    OPTS_IMPORT = 4096,
    OPTS_MEMORY = 8192
} OptGroup;

/* Fills `out` from the table; words that are no options go to `rest`. */
bool cli_parse(Arena *a, Diag *d, uint32_t groups, int argc, char **argv, CliOptions *out, StrList *rest) DT_CHECKED;
bool cli_given(const CliOptions *o, const char *name);
bool cli_takes(Arena *a, uint32_t groups, const char *word); /* "--name" or "--name=..." is an option of the groups */
void cli_options_help(Str *out, uint32_t groups);
/* The options as they stand after the network's own defaults, for args.json; and back, where an option that was given
 * otherwise is a mistake. `net`: the network's name, NULL when the arguments do not say. */
void cli_args(Arena *a, const CliOptions *o, const char *net, RunArgs *out);
bool cli_args_apply(Arena *a, Diag *d, const RunArgs *args, CliOptions *o, const char **net) DT_CHECKED;

/* One option from elsewhere than the command line, as if it were given there. False: reported at `at`. */
bool cli_say(Arena *a, Diag *d, Loc at, const char *name, const char *text, CliOptions *out) DT_CHECKED;

/* The optimizer that the options name, and into the options what they leave open: as the network says (`t`; NULL: there
 * is none), else as the optimizer's row does (optimizer.c). False: reported. */
bool   cli_optimizer(Arena *a, Diag *d, CliOptions *o, const DtTraining *t, OptimizerConfig *out) DT_CHECKED;
double cli_decimal(Arena *a, float f); /* 0.1f is 0.1 */

/* ---- Recipes (recipe.c) ----------------------------------------------------------------------------------------- */

/* What --recipe says becomes options, where the command line does not say otherwise. */
bool cli_read_recipe(Arena *a, Diag *d, CliOptions *o) DT_CHECKED;
/* Where the file says this option, the nth of several; LOC_NONE: the command line does, or nobody. */
Loc  cli_place(const CliOptions *o, const char *option, int32_t nth);
void cli_recipe_defaults(CliOptions *o);
bool cli_recipe(Arena *a, Diag *d, const CliOptions *o, Recipe *out) DT_CHECKED;
bool cli_moment(Diag *d, const CliOptions *o, Moment *out) DT_CHECKED; /* --at-epoch */

/* ---- Session (session.c): a network, compiled -------------------------------------------------------------------- */

typedef VEC(Program *) ProgramList;
typedef struct ForwardTable ForwardTable; /* forward.c */

typedef struct Session {
    Arena           arena;
    Diag            diag;
    CliOptions      opt;
    const char     *program; /* how it was started: "detent", or the program of one network */
    const DtModel  *model;
    int32_t         test_h, test_w; /* of pictures in evaluations; 0: as the network says */
    Recipe          recipe;
    Moment          moment;  /* of the run that steps are compiled for */
    bool            clamped; /* evaluations clip and do not round */
    OptimizerConfig optimizer;
    int64_t         most_values; /* bytes inside a step of training; 0: as many as --memory leaves it (memory.c) */
    bool            unlimited;   /* whatever --memory says */
    bool            least;       /* as few as can be */
    Rematerialized  again;       /* what was made again for that, in the last step of training that was compiled */
    ProgramList    *sizes;       /* not NULL: programs come here, say what they need and are not run (plan.c) */
    bool          use_averages; /* evaluations and reestimate read the averages of params (option ema) in their place */
    Distillation  distill;      /* teacher NULL: there is none */
    ForwardTable *forward;      /* what products take, of --forward auto; may be that of another session */
    Gpu          *gpu;          /* NULL: the backend needs none, or only compiles for one */
    bool          gpu_borrowed; /* another session's, which closes it */
    KernelJit    *jit;
    CallLib      *lib;
    Exec         *exec; /* NULL: compiled only */
    FILE         *out;  /* dumps and tables */
} Session;

/* What the passes know of a backend: "cpu" and "interp" are one, "cuda", "sim" and "null" the other (backend.c). */
const Target *cli_target(const char *backend);
/* Network, recipe and optimizer from the options; no code yet. False: reported. */
bool session_open(Session *s, const DtModel *model) DT_CHECKED;
/* The recipe in words of the command line, "w4a4 --layer=s0.*=w8a8 --set=noise=0.5": the part of a run's identity that
 * says how it is quantized; and back into the options (recipe.c). */
const char *session_recipe_text(Session *s);
bool        session_recipe_apply(Session *s, const char *method, const char *text) DT_CHECKED;
void        session_close(Session *s);
/* The network's graph for a step, run through the passes. `ctx` (may be NULL) keeps what passes found. */
Graph   *session_graph(Session *s, StepKind step, PassCtx *ctx, bool *stopped);
StepKind session_step(const CliOptions *o); /* --step */
/* --forward auto (forward.c): what decides which products are made of codes; NULL: nothing does. What it has measured,
 * or read, becomes the option forward-times, which a run keeps: resumed, it decides by the same numbers. */
bool                  session_forward(Session *s) DT_CHECKED;
const ForwardChooser *session_chooser(Session *s);
void                  session_record_forward(Session *s);
const char           *session_cache_dir(Session *s); /* NULL: --cache off, or there is no such place */
/* Compiler, library and execution (backend.c); `run` false: to compile alone, for which no GPU is needed when --arch
 * says which. Then a program for each step. */
bool session_backend(Session *s, bool run) DT_CHECKED;
void session_backend_close(Session *s);
/* --memory of a training run: finds how much of it is left for the values of a step, which training programs then keep
 * to. False: reported, with the least that the run needs and the largest batch that fits. And what that leads to, for
 * people (memory.c). */
bool session_limit_run(Session *s) DT_CHECKED;
void session_say_again(const Session *s);
/* --memory of a step that is compiled by itself. False: reported in the same way. */
bool session_keeps_to_memory(Session *s, const Graph *g) DT_CHECKED;
/* Whether there is room for the program, before anything is allocated. False: reported, with the largest values and the
 * largest batch that fits (fits.c). */
bool          session_fits(Session *s, StepKind step, const Program *p) DT_CHECKED;
Program      *session_program(Session *s, StepKind step, bool run, Graph **graph);
LoadedProgram session_load(Session *s, StepKind step); /* program NULL: reported */
bool          session_needs_init(const Session *s);    /* the method has step sizes to find */
/* The method and bits that a checkpoint was trained with, unless the command line says them; it must be of this network
 * (train.c). False: reported. */
bool session_adopt(Session *s, const char *file) DT_CHECKED;
/* All programs of a training run: a train program for each phase of the recipe, evaluation, first values, calibration,
 * diagnosis (train_programs.c). False: reported. */
bool session_train_programs(Session *s, TrainConfig *c) DT_CHECKED;
/* What the command line changes of the network (sizes.c): s->model becomes one that is changed. False: reported. */
bool session_resize(Session *s) DT_CHECKED;
/* The same in words, "--classes=100 --image=64x64", for a run's identity; and back, where the command line says nothing
 * of it. */
const char *session_sizes_text(Session *s);
bool        session_sizes_adopt(Session *s, const char *text) DT_CHECKED;
/* The network as a step is built: evaluations may have a size and a batch of their own. */
const DtModel *session_sized(Session *s, StepKind step, int64_t *batch);
/* --dataset in --data, which must fit the network; from then on evaluations have the size of its test pictures. NULL:
 * reported (sizes.c). */
Dataset  *session_data(Session *s);
bool      session_augment(Session *s, Augment *out) DT_CHECKED;
Normalise session_normalise(const DtModel *m);
SsimForm  session_ssim(const Session *s); /* --ssim */
/* The quantizers of the recipe, in the network's order, for TrainConfig.sites (sites.c); none is no mistake. False:
 * reported. */
bool session_quant_sites(Session *s, const QuantSite **out, int32_t *n) DT_CHECKED;

/* Is the value a layer with a weight; and how many multiplications and additions it makes for one image (inspect.c). */
bool    cli_is_layer(const Graph *g, ValueId id);
int64_t cli_macs(const Graph *g, const Value *layer, int64_t batch);

/* ---- Commands (commands.c) --------------------------------------------------------------------------------------- */

typedef struct Command {
    const char *name, *args, *doc;
    uint32_t    groups;
    bool        takes_net;
    int (*run)(Session *s, const StrList *rest);
} Command;
extern const Command cli_commands[];
extern const int32_t cli_n_commands;

enum { EDGE_BITS = 8 }; /* of the first and the last layer, unless asked otherwise */
enum {
    CHECK_BATCH = 8
}; /* images in a step that is checked, unless asked otherwise: kernels are the same, only shorter */
int command_train(Session *s, const StrList *rest);
int command_eval(Session *s, const StrList *rest);
int command_compile(Session *s, const StrList *rest);
int command_dump(Session *s, const StrList *rest);
int command_check(Session *s, const StrList *rest);
int command_bench(Session *s, const StrList *rest);
int command_info(Session *s, const StrList *rest);
int command_diff(Session *s, const StrList *rest);
int command_sensitivity(Session *s, const StrList *rest);
int command_recipes(Session *s, const StrList *rest);
int command_import(Session *s, const StrList *rest);
int command_doctor(Session *s, const StrList *rest);
int command_plan(Session *s, const StrList *rest);
int command_predict(Session *s, const StrList *rest);
int command_report(Session *s, const StrList *rest);

/* argv[1] is the command; `model` NULL: the next word names it. dt_main() is this. */
int cli_run(int argc, char **argv, const DtModel *model);

/* The whole of detent-opt (opt.c). */
int opt_run(int argc, char **argv);

#endif
