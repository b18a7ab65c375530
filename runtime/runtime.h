/* runtime.h: training around the compiled step: data, first values, checkpoints, run directories, schedules, the loop.
 *
 * The step itself is a Program (program.h). What is here feeds it batches, watches its losses and keeps what it
 * learned. One promise shapes all of it: the same seed gives the same bytes, and a run that was killed at any moment
 * and resumed gives the bytes of a run that never stopped - weights, metrics.jsonl and metrics.csv. So every random
 * choice is a function of (seed, epoch, sample), all sums live in the checkpoint, and wall-clock times go to log.txt
 * alone.
 *
 *   data.h                        samples and batches
 *   init.c                        first values                safetensors.c  the file format
 *   checkpoint.c                  what a run must remember    rundir.c       directory, metrics files, log
 *   schedule.c                    learning rates              progress.c     the line on the terminal
 *   interrupt.c                   Ctrl-C                      evaluate.c     the test set
 *   train.c train_start.c         the loop                    inspect.c      what quantizers do
 *   calibrate.h                   first ranges
 *
 * What returns a pointer takes it from the Arena given; NULL or false means that the Diag was told.
 * Tested by tests/unit/test_checkpoint.c, test_train.c. */
#ifndef DETENT_RUNTIME_RUNTIME_H
#define DETENT_RUNTIME_RUNTIME_H

#include "base/base.h"
#include "runtime/data.h"
#include "runtime/metrics.h"
#include "runtime/program.h"

/* A program and where it lives: `index` is what exec_add gave. */
typedef struct LoadedProgram {
    Exec          *exec;
    const Program *program; /* NULL: there is none */
    int32_t        index;
} LoadedProgram;

/* ---- First values ---------------------------------------------------------------------------------------------- */

/* Fills `out` (elems of t->dtype, logical order) as t->init says: "zeros", "ones", "value" (init_value), "kaiming"
 * N(0, 2/fan), "torch" uniform in +-1/sqrt(fan). Depends on (seed, name, element) alone. */
void tensor_init(const ProgTensor *t, uint64_t seed, void *out);
/* Every param and state of the program. False: reported (an init nobody knows). */
bool program_init(Diag *d, LoadedProgram p, uint64_t seed) DT_CHECKED;

/* ---- safetensors ----------------------------------------------------------------------------------------------- */

enum { ST_MAX_RANK = 8 };
typedef struct StTensor {
    const char *name;
    const char *type;             /* as in the file: "F32", "BF16" */
    DType       dtype;            /* DTYPE_COUNT when it is none of ours */
    int32_t     rank;             /* 0: a scalar */
    int64_t     dim[ST_MAX_RANK]; /* outermost first */
    int64_t     elems, bytes;
    const void *data; /* row-major; aligned only as the file aligned it: copy out with memcpy */
} StTensor;

typedef struct StMeta {
    const char *key, *value;
} StMeta;

typedef struct StFile {
    VEC(StTensor) tensors;
    VEC(StMeta) meta; /* without the checksum */
} StFile;

const char *st_meta(const StFile *f, const char *key);  /* NULL: absent */
int32_t     st_find(const StFile *f, const char *name); /* -1: absent */
/* Writes atomically, with a checksum over header and data in the metadata. False: reported (disk full, say); then a
 * file that was there is as it was. */
bool st_write(Diag *d, const char *path, const StFile *f) DT_CHECKED;
/* Reads and checks all of it: sizes, JSON, types, shapes against bytes, ranges that leave the file, overlap or leave
 * holes, duplicate names, the checksum when there is one. NULL: reported. */
StFile *st_read(Arena *a, Diag *d, const char *path);

/* ---- Checkpoints ----------------------------------------------------------------------------------------------- */

/* What a run is. A checkpoint carries it and can only be resumed as the same. */
#define CHECKPOINT_SIZES "sizes" /* key of RunIdentity.sizes */
typedef struct RunIdentity {
    const char *net, *method, *bits, *dataset;
    int64_t     batch;
    uint64_t    seed;
    const char *sizes; /* what the command line changed of the network, in its words: "--classes=100"; NULL: nothing */
} RunIdentity;

/* Sums of the parts of a loss that is made of several, in the order of the train program's outputs. */
enum { TRAIN_MAX_PARTS = 8 };
typedef struct LossSums {
    double of[TRAIN_MAX_PARTS];
} LossSums;

/* Where a run stands: with the tensors, all that the next step depends on. Sums are of the epoch so far and of the row
 * of metrics.jsonl so far. Positions are lengths of the metrics files that belong to this state. */
/* clang-format off */
#define TRAIN_STATE_FIELDS(X)                                                                                          \
    X(int64_t, epoch)       /* epochs closed: trained, evaluated, recorded */                                          \
    X(int64_t, step)        /* steps done, over all epochs */                                                          \
    X(double,  epoch_loss)  X(double, epoch_correct)  X(int64_t, epoch_steps)                                          \
    X(double,  row_loss)    X(double, row_correct)    X(int64_t, row_steps)                                            \
    X(LossSums, epoch_parts) X(LossSums, row_parts)                                                                    \
    X(double,  best_score)  /* of the test set, over closed epochs: top-1 in percent, PSNR in dB */                    \
    X(int64_t, best_epoch)  /* counted from 1; 0: none yet */                                                          \
    X(int64_t, jsonl_bytes) X(int64_t, csv_bytes)
/* clang-format on */
typedef struct TrainState {
#define X(type, name) type name;
    TRAIN_STATE_FIELDS(X)
#undef X
} TrainState;

/* What the host remembers beside the program's tensors: their names begin with CHECKPOINT_HOST. */
#define CHECKPOINT_HOST "host:"
typedef VEC(StTensor) HostTensors;

/* Every param and state of the program, in logical order, beside identity and position; `host` may be NULL. */
bool checkpoint_save(Diag *d, const char *path, const RunIdentity *id, const TrainState *s, LoadedProgram p,
                     const HostTensors *host) DT_CHECKED;

/* Everything is checked before anything is changed: after false (reported) the program's memory is as it was.
 * In each, a float that is not finite is a mistake that names its tensor. */

/* Exactly the tensors of the program, of the same run (`id`); fills `s`, and `host` (in `a`) with the host's. */
bool checkpoint_resume(Arena *a, Diag *d, const char *path, const RunIdentity *id, LoadedProgram p, TrainState *s,
                       HostTensors *host) DT_CHECKED;
/* All tensors of the (eval) program, averages in the place of what they are of where the file has them: what the run
 * evaluated. The file may have more. `s` (may be NULL) is filled when the file has a position.
 */
bool checkpoint_load(Diag *d, const char *path, LoadedProgram p, TrainState *s) DT_CHECKED;
/* A new run from old weights: each param by name (its average, where there is one); of states those that are there, but
 * not what is of the old run alone: moments of its optimizer, averages, a teacher. What quantizers keep - steps,
 * offsets, ranges - may be missing, and is passed over unless the file says the same method and bits. Where any of it
 * is, `*ranges_loaded` is false, and all of it must be found anew; a file that says the same and has only a part of it
 * is warned about. Names of the file that the program does not know are warned about. */
#define CHECKPOINT_AVERAGE ".ema" /* NAME.ema is the average of NAME */
/* The states "teacher:NAME" of the train program from NAME (its average, where there is one) of a checkpoint
 * (teacher.c). False: reported. */
bool teacher_load(Diag *d, const char *path, LoadedProgram train) DT_CHECKED;
bool checkpoint_is_of_run(const char *name);
/* The names of a data set's classes, for `host`; nothing where they are numbers. And back; NULL: the file has none, or
 * not so many. */
void         checkpoint_name_classes(Arena *a, const Dataset *data, HostTensors *out);
const char **checkpoint_classes(Arena *a, const StFile *f, int32_t classes);
/* Key of the metadata: how many numbers are trained, without those of quantizers. */
#define CHECKPOINT_PARAMS "params"
bool checkpoint_init(Diag *d, const char *path, const RunIdentity *id, LoadedProgram p, bool *ranges_loaded) DT_CHECKED;

/* ---- Run directory --------------------------------------------------------------------------------------------- */

/* DIR/args.json          what the run was started with
 *     metrics.jsonl      one object every few steps and one an epoch
 *     metrics.csv        one row an epoch
 *     events.out.tfevents.detent  the metrics for TensorBoard, made from metrics.jsonl
 *     log.txt            for people: with times
 *     last.safetensors   to resume from; last.previous.safetensors: the one before, should this one be damaged
 *     best.safetensors   of the best epoch on the test set
 *     epoch-0010.safetensors, ...  every so many epochs, if asked for
 * One process at a time: log.txt is locked. */
typedef struct RunDir RunDir;
typedef struct RunArg {
    const char *key, *value; /* "lr", "0.1" */
} RunArg;
typedef VEC(RunArg) RunArgs;

#define RUN_ARGS "args.json"
#define RUN_LAST "last.safetensors"
#define RUN_PREVIOUS "last.previous.safetensors"
#define RUN_DAMAGED "last.damaged.safetensors"
#define RUN_BEST "best.safetensors"
#define RUN_KEPT "epoch-%04lld.safetensors"
#define RUN_JSONL "metrics.jsonl"
#define RUN_CSV "metrics.csv"
#define RUN_EVENTS "events.out.tfevents.detent"
#define RUN_LOG "log.txt"

/* Makes `out`, or when NULL the first free one of root/net/exp, root/net/exp-2, ... NULL: reported, also when `out`
 * holds a run already. `columns`: of metrics.csv, behind epoch and step: "lr,train_loss". */
RunDir *rundir_create(Arena *a, Diag *d, const char *root, const char *net, const char *exp, const char *out,
                      const char *columns);
/* To resume; NULL: reported (no run there, in use). */
RunDir     *rundir_open(Arena *a, Diag *d, const char *path, const char *columns);
const char *rundir_path(const RunDir *r);
const char *rundir_file(Arena *a, const RunDir *r, const char *name); /* path of a file in it */
bool        rundir_has(const RunDir *r, const char *name);

bool        rundir_write_args(Diag *d, const RunDir *r, const RunArg *args, int32_t count) DT_CHECKED;
/* args.json of directory `path`, in its order: what `--resume` starts from. */
bool rundir_read_args(Arena *a, Diag *d, const char *path, RunArgs *out) DT_CHECKED;

/* One row of the metrics, values in the order given; one that is not finite is null in metrics.jsonl and nan in
 * metrics.csv. top-1 and top-5 in percent, PSNR in dB, losses per sample. */
enum { METRICS_MOST = 32 };
typedef struct Metric {
    const char *key; /* "test_loss": no quotes in it */
    double      value;
} Metric;
typedef struct MetricRow {
    bool    epoch_end;   /* an epoch's row: also in metrics.csv, where a column without value is an empty field */
    int64_t epoch, step; /* counted from 1; steps done */
    Metric  at[METRICS_MOST];
    int32_t n;
} MetricRow;
void metric_add(MetricRow *r, const char *key, double value);
bool rundir_metric(Diag *d, RunDir *r, const MetricRow *row) DT_CHECKED;
/* One row of metrics.jsonl that is written already: a JSON object with "kind" and "step", without the end of line. */
bool rundir_row(Diag *d, RunDir *r, const char *json) DT_CHECKED;
/* Lengths of both files, which are on the disk when this returns. */
bool rundir_sync(Diag *d, RunDir *r, int64_t *jsonl_bytes, int64_t *csv_bytes) DT_CHECKED;
/* Drops rows that the checkpoint does not know. A file that is shorter than that is warned about. */
bool rundir_truncate(Diag *d, RunDir *r, int64_t jsonl_bytes, int64_t csv_bytes) DT_CHECKED;
void rundir_log(RunDir *r, const char *fmt, ...) DT_PRINTF(2, 3); /* a line of log.txt, with the time in front */
void rundir_close(RunDir *r);                                     /* NULL is fine */

/* ---- Learning rate --------------------------------------------------------------------------------------------- */

typedef enum ScheduleKind {
    SCHEDULE_COSINE,
    SCHEDULE_STEP,
    SCHEDULE_CONSTANT,
    SCHEDULE_EXPONENTIAL,
    SCHEDULE_ONE_CYCLE,
    SCHEDULE_POLY
} ScheduleKind;
enum { SCHEDULE_MAX_MILESTONES = 16 };

/* With W = warmup_epochs steps_per_epoch, T = epochs steps_per_epoch (both in steps), at step t = 0, 1, ...:
 *   t < W      lr (t + 1) / (W + 1)
 *   cosine     lr (1 + cos(pi (t - W) / (T - W))) / 2, 0 from T on
 *   step       lr gamma^(how many milestones are reached; milestones in epochs)
 *   constant   lr
 *   exp        lr gamma^floor(t / (every steps_per_epoch))
 *   one-cycle  from lr / 25 up to lr at t = share T - 1, down to lr / 250000 at T - 1, both along a cosine; W = 0
 *   poly       lr (1 - (t - W) / (T - W))^power, 0 from T on */
typedef struct Schedule {
    ScheduleKind kind;
    double       lr;
    int64_t      epochs, steps_per_epoch;
    double       warmup_epochs;
    int32_t      milestones[SCHEDULE_MAX_MILESTONES], n_milestones; /* rising */
    double       gamma, every, share, power;
} Schedule;

/* "cosine", "constant", "step:100,150" or "step:100,150:0.1" (gamma, 0.1 by default), "exp:0.97:2.4", "one-cycle" or
 * "one-cycle:0.3", "poly" (linear) or "poly:0.9". */
bool   schedule_parse(Diag *d, const char *text, Schedule *out) DT_CHECKED;
bool   schedule_check(Diag *d, const Schedule *s) DT_CHECKED;
double schedule_lr(const Schedule *s, int64_t step);

/* ---- Evaluation ------------------------------------------------------------------------------------------------ */

/* What is measured beside the loss; of each the more the better. */
typedef enum Measure { MEASURE_TOP1, MEASURE_TOP5, MEASURE_PSNR, MEASURE_SSIM, MEASURE_COUNT } Measure;
typedef struct MeasureInfo {
    const char *key;  /* "top1", as in test_top1 and best_top1 of the metrics */
    const char *text; /* "top-1": for people */
    const char *unit; /* "%", " dB", "" */
    int         decimals;
} MeasureInfo;
extern const MeasureInfo measure_infos[MEASURE_COUNT];

typedef struct EvalConfig {
    LoadedProgram  eval;
    const Dataset *data;
    int32_t        classes;
    Normalise      normalise;
    SsimForm       ssim;
    const char    *checkpoint; /* NULL: the weights that are in memory */
    FILE          *progress;   /* NULL: silent */
} EvalConfig;

typedef struct EvalResult {
    bool    ok; /* false: reported */
    int64_t samples;
    double  loss; /* mean per sample */
    bool    measured[MEASURE_COUNT];
    double  measure[MEASURE_COUNT]; /* top-1 and top-5 in percent, PSNR in dB (each picture at most PSNR_MOST) */
    Measure score;                  /* the one that decides what is best */
    bool    has_input; /* pairs: the same of what went in, that the network's result can be compared with */
    double  input[MEASURE_COUNT];
    double  seconds;
} EvalResult;

EvalResult eval_run(Arena *a, Diag *d, const EvalConfig *c);
/* Samples of which the answer is right. */
int64_t eval_correct(const EvalResult *r);
/* "top-1 97.00%" */
void measure_say(Str *out, Measure m, double value);

/* ---- Training -------------------------------------------------------------------------------------------------- */

/* Programs and their tensors (all buffers of one model share params and states):
 *   train  in  "image" f32[N,C,H,W], "lr" f32[], and where it has them "step", "seed" u32[]; of classes "label"
 *              i32[N,1]; of pairs "target", and where it has it "noise", f32 and of the image's shape
 *          out "loss" f32[] (mean of the batch), where it is made of parts "loss:PART" f32[]; of classes "correct"
 * f32[] (how many of the batch) eval   in  as train, without "lr"; another batch or size of pictures is fine out
 * "loss_each" f32[N,1]; of classes "correct_each", and where it has it "correct5_each", f32[N,1]; of pairs "logits"
 * f32, of the target's shape init   in  "image" (and what else of these it has)    writes first step sizes; program
 * NULL: none is needed inspect  as eval, but of the training batch; out also "inspect:NAME:WHAT" (passes.h says what)
 * The first train program has every param and state that another program has. */
struct QuantSite; /* calibrate.h */
/* From this epoch on the train step is another program: schedules of a recipe. */
typedef struct TrainPhase {
    LoadedProgram train;
    double        from_epoch;
    LoadedProgram gather; /* program NULL: there is none */
} TrainPhase;

typedef struct TrainConfig {
    LoadedProgram     train, eval, init; /* train: of the first phase */
    LoadedProgram     gather;            /* of the steps that add up gradients, but for every accumulate-th one */
    int64_t           accumulate;
    const TrainPhase *phases; /* those that follow it, rising; NULL: none */
    int32_t           n_phases;
    LoadedProgram     eval_clamped;     /* program NULL: none. Evaluated beside eval: what a regularizer has reached */
    LoadedProgram     observe, inspect; /* program NULL: no calibration; no diagnosis */
    const char       *teacher;    /* checkpoint with the weights of the teacher in the train program; NULL: none */
    LoadedProgram     reestimate; /* program NULL: running statistics stay as they are (reestimate.c) */
    int64_t           reestimate_batches;
    const struct QuantSite *sites;
    int32_t                 n_sites;
    int64_t                 calibration_batches;
    int64_t                 inspect_every; /* steps between diagnoses; -1: one at the end of each epoch; 0: none */
    const Dataset          *data;
    RunIdentity             id;
    int32_t                 classes; /* of the network */
    Normalise               normalise;
    Schedule                schedule; /* steps_per_epoch is filled in */
    Augment                 augment;
    SsimForm                ssim;
    int64_t       max_steps;  /* stop after this many steps in all; 0: all epochs. Does not change the schedule */
    int64_t       save_every; /* steps between checkpoints inside an epoch; 0: at its end only */
    int64_t       log_every;  /* steps between rows of metrics.jsonl and plain progress lines; 0: 50 */
    int64_t       eval_every; /* epochs between evaluations (the last one always); 0: 1 */
    int64_t       patience;   /* end after so many epochs without a better one; 0: never */
    int64_t       keep_every; /* epochs between checkpoints that are kept, RUN_KEPT; 0: none is */
    int64_t       keep;       /* the newest so many of them; 0: all */
    const char   *runs_root;  /* "runs" when NULL */
    const char   *exp;        /* name of the experiment; NULL: method-bits */
    const char   *out;        /* --out; NULL: root/net/exp[-N] */
    const char   *resume;     /* --resume: directory of the run to go on with; NULL: a new run */
    const char   *init_from;  /* --init: checkpoint with first weights; NULL: none */
    const RunArg *args;       /* for args.json */
    int32_t       n_args;
    bool          catch_signals; /* Ctrl-C and SIGTERM end the run after the step; a second one kills */
    FILE         *progress;      /* NULL: silent */
} TrainConfig;

typedef enum TrainStatus {
    TRAIN_DONE,        /* all epochs, or max_steps */
    TRAIN_INTERRUPTED, /* by a signal; `last` was saved */
    TRAIN_DIVERGED,    /* a loss that is not finite: reported; `last` is the checkpoint before */
    TRAIN_FAILED       /* reported */
} TrainStatus;

typedef struct TrainResult {
    TrainStatus status;
    int         exit_code; /* 0; 130 when interrupted; else 1 */
    const char *dir;       /* NULL: the run did not get that far */
    bool        over;      /* nothing is left to do: all epochs, or no patience any more */
    int64_t     epoch, step;
    double      train_loss;    /* of the last epoch closed in this process */
    EvalResult  test, clamped; /* the last evaluations of this process; ok false: there was none */
    Measure     score;         /* what decides which epoch is best */
    double      best_score;
    int64_t     best_epoch; /* 0: none, as in a run of no epochs */
    double      seconds;
} TrainResult;

TrainResult train_run(Arena *a, Diag *d, const TrainConfig *c);

#endif
