/* runtime.h: training around the compiled step: data, first values, checkpoints, run directories, schedules, the loop.
 *
 * The step itself is a Program (program.h). What is here feeds it batches, watches its losses and keeps what it
 * learned. One promise shapes all of it: the same seed gives the same bytes, and a run that was killed at any moment
 * and resumed gives the bytes of a run that never stopped - weights, metrics.jsonl and metrics.csv. So every random
 * choice is a function of (seed, epoch, sample), all sums live in the checkpoint, and wall-clock times go to log.txt
 * alone.
 *
 *   dataset.c mnist.c cifar10.c   images in memory            loader.c       batches, made one ahead by a thread
 *   init.c                        first values                safetensors.c  the file format
 *   checkpoint.c                  what a run must remember    rundir.c       directory, metrics files, log
 *   schedule.c                    learning rates              progress.c     the line on the terminal
 *   interrupt.c                   Ctrl-C                      evaluate.c     the test set
 *   train.c train_start.c         the loop                    inspect.c      what quantizers do
 *   calibrate.h                   first ranges
 *
 * What returns a pointer takes it from the Arena given; NULL or false means that the Diag was told.
 * Tested by tests/unit/test_data.c, test_checkpoint.c, test_train.c. */
#ifndef DETENT_RUNTIME_RUNTIME_H
#define DETENT_RUNTIME_RUNTIME_H

#include "base/base.h"
#include "runtime/program.h"

/* A program and where it lives: `index` is what exec_add gave. */
typedef struct LoadedProgram {
    Exec          *exec;
    const Program *program; /* NULL: there is none */
    int32_t        index;
} LoadedProgram;

/* ---- Data ------------------------------------------------------------------------------------------------------ */

typedef enum Split { SPLIT_TRAIN, SPLIT_TEST, SPLIT_COUNT } Split;
const char *split_name(Split s); /* "training", "test" */

enum { DATA_MAX_CHANNELS = 3 };

/* Labelled images, all in memory. The dataset owns the arrays (in its arena) and never changes them: any number of
 * threads may read. */
typedef struct Dataset {
    const char    *name;                /* "mnist" */
    int32_t        c, h, w;             /* of every image */
    int32_t        classes;             /* labels are 0..classes-1 */
    int32_t        count[SPLIT_COUNT];  /* samples, at least 1 each */
    const uint8_t *pixels[SPLIT_COUNT]; /* u8[count, c, h, w] */
    const uint8_t *labels[SPLIT_COUNT]; /* u8[count] */
    int32_t        crop_pad;            /* usual augmentation: crop out of the image padded by this much; 0: none */
    bool           mirror;              /* ... and a left-right flip of every second image */
} Dataset;

typedef struct DatasetInfo {
    const char *name, *doc;
    Dataset *(*open)(Arena *a, Diag *d, const char *dir);
} DatasetInfo;
extern const DatasetInfo dataset_table[];
extern const int32_t     dataset_table_len;

/* Reads the files of dataset `name` from directory `dir`. NULL: reported (unknown name with the nearest, what was
 * looked for and not found, which file is damaged and how). */
Dataset *dataset_open(Arena *a, Diag *d, const char *name, const char *dir);

/* Value of a pixel byte: (byte / 255 - mean[channel]) / std[channel]; std 0: byte / 255. */
typedef struct Normalise {
    float mean[DATA_MAX_CHANNELS], std[DATA_MAX_CHANNELS];
} Normalise;
typedef struct PixelTable {
    float of[DATA_MAX_CHANNELS][256];
} PixelTable;
PixelTable pixel_table(Normalise n);

/* How an image is seen: output pixel (y, x) is source pixel (y + dy, x + dx), mirrored left-right when `mirror`; what
 * lies outside is black before normalisation. All zero: as it is. */
typedef struct View {
    int32_t dy, dx;
    bool    mirror;
} View;
/* The training view of a sample: a function of its arguments alone. */
View dataset_view(const Dataset *d, uint64_t seed, int32_t epoch, int32_t sample);
/* One image as f32 [c, h, w], or [h, w, c] with nhwc; `out` has room for c h w floats. */
void dataset_fetch(const Dataset *d, Split s, int32_t sample, View v, const PixelTable *t, bool nhwc, float *out);

/* ---- Batches --------------------------------------------------------------------------------------------------- */

/* Training batches: a fresh permutation each epoch, the last partial batch dropped. Test batches: in order, the last
 * one filled up with sample 0. A thread prepares the next batch while the caller works; what comes out does not depend
 * on timing. */
typedef struct Loader Loader;
typedef struct LoaderConfig {
    const Dataset *data;
    Split          split;
    int32_t        batch;
    bool           nhwc;    /* layout of the image buffer; else NCHW */
    bool           augment; /* training split only */
    Normalise      normalise;
    uint64_t       seed;
} LoaderConfig;

Loader *loader_new(Arena *a, Diag *d, LoaderConfig c); /* NULL: reported (batch larger than the training set) */
int32_t loader_batches(const Loader *l);               /* of an epoch */
void    loader_start(Loader *l, int32_t epoch, int32_t first_batch);
/* Copies the next batch: image f32 [N, c, h, w] (or NHWC), label i32 [N, 1]. How many samples of it count: N but in the
 * last test batch; 0 when the epoch is over (nothing is written). */
int32_t loader_next(Loader *l, float *image, int32_t *label);
double  loader_wait_s(const Loader *l); /* seconds that loader_next spent waiting for data, in total */
void    loader_free(Loader *l);         /* ends the thread; NULL is fine */

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
typedef struct RunIdentity {
    const char *net, *method, *bits, *dataset;
    int64_t     batch;
    uint64_t    seed;
} RunIdentity;

/* Where a run stands: with the tensors, all that the next step depends on. Sums are of the epoch so far and of the row
 * of metrics.jsonl so far. Positions are lengths of the metrics files that belong to this state. */
/* clang-format off */
#define TRAIN_STATE_FIELDS(X)                                                                                          \
    X(int64_t, epoch)       /* epochs closed: trained, evaluated, recorded */                                          \
    X(int64_t, step)        /* steps done, over all epochs */                                                          \
    X(double,  epoch_loss)  X(double, epoch_correct)  X(int64_t, epoch_steps)                                          \
    X(double,  row_loss)    X(double, row_correct)    X(int64_t, row_steps)                                            \
    X(double,  best_top1)   /* percent; of the test set, over closed epochs */                                         \
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
/* All tensors of the (eval) program; the file may have more. `s` (may be NULL) is filled when the file has a position.
 */
bool checkpoint_load(Diag *d, const char *path, LoadedProgram p, TrainState *s) DT_CHECKED;
/* A new run from old weights: each param by name; of states those that are there, but no velocities (names that end in
 * CHECKPOINT_VELOCITY). What quantizers keep - steps, offsets, ranges - may be missing, and is passed over unless the
 * file says the same method and bits. Where any of it is, `*ranges_loaded` is false, and all of it must be found anew;
 * a file that says the same and has only a part of it is warned about. Names of the file that the program does not know
 * are warned about. */
#define CHECKPOINT_VELOCITY ".velocity"
bool checkpoint_init(Diag *d, const char *path, const RunIdentity *id, LoadedProgram p, bool *ranges_loaded) DT_CHECKED;

/* ---- Run directory --------------------------------------------------------------------------------------------- */

/* DIR/args.json          what the run was started with
 *     metrics.jsonl      one object every few steps and one an epoch
 *     metrics.csv        one row an epoch
 *     events.out.tfevents.detent  the metrics for TensorBoard, made from metrics.jsonl
 *     log.txt            for people: with times
 *     last.safetensors   to resume from; best.safetensors: of the best epoch on the test set
 * One process at a time: log.txt is locked. */
typedef struct RunDir RunDir;
typedef struct RunArg {
    const char *key, *value; /* "lr", "0.1" */
} RunArg;
typedef VEC(RunArg) RunArgs;

#define RUN_ARGS "args.json"
#define RUN_LAST "last.safetensors"
#define RUN_BEST "best.safetensors"
#define RUN_JSONL "metrics.jsonl"
#define RUN_CSV "metrics.csv"
#define RUN_EVENTS "events.out.tfevents.detent"
#define RUN_LOG "log.txt"

/* Makes `out`, or when NULL the first free one of root/net/exp, root/net/exp-2, ... False: reported, also when `out`
 * holds a run already. */
RunDir     *rundir_create(Arena *a, Diag *d, const char *root, const char *net, const char *exp, const char *out);
RunDir     *rundir_open(Arena *a, Diag *d, const char *path); /* to resume; NULL: reported (no run there, in use) */
const char *rundir_path(const RunDir *r);
const char *rundir_file(Arena *a, const RunDir *r, const char *name); /* path of a file in it */
bool        rundir_has(const RunDir *r, const char *name);

bool        rundir_write_args(Diag *d, const RunDir *r, const RunArg *args, int32_t count) DT_CHECKED;
/* args.json of directory `path`, in its order: what `--resume` starts from. */
bool rundir_read_args(Arena *a, Diag *d, const char *path, RunArgs *out) DT_CHECKED;

/* One row of the metrics. top-1 in percent, losses per sample. */
typedef struct MetricRow {
    bool    epoch_end; /* an epoch's row: also in metrics.csv, with what follows train_top1 when `tested` */
    bool    tested;
    bool    untrained; /* a run of no epochs: nothing to say of lr and train */
    bool    clamped;   /* the test was made twice; metrics.jsonl alone says what the second one gave */
    int64_t epoch;     /* counted from 1 */
    int64_t step;      /* steps done */
    double  lr;        /* of the last step */
    double  train_loss, train_top1;
    double  test_loss, test_top1, best_top1;
    double  test_loss_clamped, test_top1_clamped;
} MetricRow;
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

typedef enum ScheduleKind { SCHEDULE_COSINE, SCHEDULE_STEP, SCHEDULE_CONSTANT } ScheduleKind;
enum { SCHEDULE_MAX_MILESTONES = 16 };

/* With W = warmup_epochs steps_per_epoch, T = epochs steps_per_epoch (both in steps), at step t = 0, 1, ...:
 *   t < W      lr (t + 1) / (W + 1)
 *   cosine     lr (1 + cos(pi (t - W) / (T - W))) / 2, 0 from T on
 *   step       lr gamma^(how many milestones are reached; milestones in epochs)
 *   constant   lr */
typedef struct Schedule {
    ScheduleKind kind;
    double       lr;
    int64_t      epochs, steps_per_epoch;
    double       warmup_epochs;
    int32_t      milestones[SCHEDULE_MAX_MILESTONES], n_milestones; /* rising */
    double       gamma;
} Schedule;

/* "cosine", "constant", "step:100,150" or "step:100,150:0.1" (gamma, 0.1 by default) into kind, milestones and gamma.
 */
bool   schedule_parse(Diag *d, const char *text, Schedule *out) DT_CHECKED;
bool   schedule_check(Diag *d, const Schedule *s) DT_CHECKED;
double schedule_lr(const Schedule *s, int64_t step);

/* ---- Training -------------------------------------------------------------------------------------------------- */

/* Programs and their tensors (all buffers of one model share params and states):
 *   train  in  "image" f32[N,C,H,W], "label" i32[N,1], "lr" f32[], and where it has them "step", "seed" u32[]
 *          out "loss" f32[] (mean of the batch), "correct" f32[] (how many of the batch)
 *   eval   in  "image", "label"           out "loss_each", "correct_each" f32[N,1]
 *   init   in  "image" (and "label")      writes first step sizes; program NULL: none is needed
 *   inspect  as eval, out also "inspect:NAME:WHAT" (passes.h says what)
 * The first train program has every param and state that another program has. */
struct QuantSite; /* calibrate.h */
/* From this epoch on the train step is another program: schedules of a recipe. */
typedef struct TrainPhase {
    LoadedProgram train;
    double        from_epoch;
} TrainPhase;

typedef struct TrainConfig {
    LoadedProgram     train, eval, init; /* train: of the first phase */
    const TrainPhase *phases;            /* those that follow it, rising; NULL: none */
    int32_t           n_phases;
    LoadedProgram     eval_clamped;     /* program NULL: none. Evaluated beside eval: what a regularizer has reached */
    LoadedProgram     observe, inspect; /* program NULL: no calibration; no diagnosis */
    const struct QuantSite *sites;
    int32_t                 n_sites;
    int64_t                 calibration_batches;
    int64_t                 inspect_every; /* steps between diagnoses; -1: one at the end of each epoch; 0: none */
    const Dataset          *data;
    RunIdentity             id;
    int32_t                 classes; /* of the network */
    Normalise               normalise;
    Schedule                schedule; /* steps_per_epoch is filled in */
    bool                    no_augment;
    int64_t       max_steps;  /* stop after this many steps in all; 0: all epochs. Does not change the schedule */
    int64_t       save_every; /* steps between checkpoints inside an epoch; 0: at its end only */
    int64_t       log_every;  /* steps between rows of metrics.jsonl and plain progress lines; 0: 50 */
    int64_t       eval_every; /* epochs between evaluations (the last one always); 0: 1 */
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
    int64_t     epoch, step;
    double      train_loss, train_top1; /* of the last epoch closed in this process */
    bool        tested;                 /* there was an evaluation in this process ... */
    double      test_loss, test_top1;   /* ... and the last one gave these */
    bool        clamped;
    double      test_loss_clamped, test_top1_clamped;
    double      best_top1;
    int64_t     best_epoch; /* 0: none, as in a run of no epochs */
    double      seconds;
} TrainResult;

TrainResult train_run(Arena *a, Diag *d, const TrainConfig *c);

/* ---- Evaluation ------------------------------------------------------------------------------------------------ */

typedef struct EvalConfig {
    LoadedProgram  eval;
    const Dataset *data;
    int32_t        classes;
    Normalise      normalise;
    const char    *checkpoint; /* NULL: the weights that are in memory */
    FILE          *progress;   /* NULL: silent */
} EvalConfig;

typedef struct EvalResult {
    bool    ok; /* false: reported */
    int64_t samples, correct;
    double  loss, top1; /* mean per sample; percent */
    double  seconds;
} EvalResult;

EvalResult eval_run(Arena *a, Diag *d, const EvalConfig *c);

#endif
