/* train_impl.h: one run, and what the files of the loop share.
 *
 *   train.c         steps, epochs, the end
 *   train_start.c   before the first step: checks, programs, first values
 *   train_rows.c    what a run says: rows of metrics, lines for people, the table at its end
 *   keep.c          checkpoints: which are written and kept, which one a run goes on from
 *   inspect.c       diagnosis of quantizers: what they do now and then, and where a loss went wrong */
#ifndef DETENT_RUNTIME_TRAIN_IMPL_H
#define DETENT_RUNTIME_TRAIN_IMPL_H

#include "runtime/calibrate.h"
#include "runtime/runtime_impl.h"

/* A step whose results are not read yet. */
typedef struct Flying {
    int64_t number; /* of exec_submit */
    float   lr;
} Flying;

/* One train program and its tensors. NULL: it has none such. */
typedef struct TrainProgram {
    LoadedProgram     p;
    BatchInputs       in;
    const ProgTensor *lr, *step, *seed;
    const ProgTensor *loss, *correct;
    const ProgTensor *parts[TRAIN_MAX_PARTS]; /* in the order of Trainer.part_keys */
    int32_t           depth;
} TrainProgram;

/* The programs from a step on. */
typedef struct Phase {
    int64_t      from_step;
    TrainProgram update, gather; /* gather.p.program NULL: every step updates */
} Phase;

typedef struct Inspector  Inspector;
typedef struct Reestimate Reestimate;

/* What the steps of an epoch took in this process: for people, and in no file of metrics. */
typedef struct EpochTimes {
    double  start_s, steps_s, wait_s; /* wait_s: of steps_s, for data */
    int64_t steps;
    double  all_steps_s, all_wait_s; /* of all epochs */
    int64_t all_steps;
} EpochTimes;

/* One test set, seen twice where there is a regularizer: rounded, and clipped alone. */
typedef struct TestResult {
    EvalResult rounded, clamped; /* ok false: was not made */
} TestResult;

typedef struct Trainer {
    Arena             *a;
    Diag              *d;
    const TrainConfig *c;
    Schedule           schedule;
    int64_t            log_every, eval_every;
    int64_t            limit; /* steps after which to stop */
    int64_t            batch;
    const TaskInfo    *task;
    Phase             *phases;
    int32_t            n_phases;
    const char        *part_keys[TRAIN_MAX_PARTS]; /* "train_loss:tv": of a loss that is made of parts */
    int32_t            n_parts;
    const char        *score_key; /* "best_top1" */
    const char        *columns;   /* of metrics.csv */
    TrainProgram      *now;       /* of the steps on their way */
    int64_t            submitted; /* steps, over all epochs; s.step of them are read */
    Flying            *flying;    /* step n at n % now->depth */
    float              last_lr;   /* of the last step that was read */
    Loader            *loader;
    Evaluator          evaluator, clamped; /* clamped.loader NULL: there is none */
    EpochTimes         times;
    Inspector         *inspector;  /* NULL: there is none */
    Reestimate        *reestimate; /* NULL: was not made */
    RunDir            *dir;
    const char        *last, *best;
    int64_t            saved_step; /* of `last`; -1: there is none */
    Progress          *progress;
    bool               events_warned; /* once is enough: they are written again and again */
    TrainState         s;
    TrainResult        r;
} Trainer;

/* ---- train_start.c --------------------------------------------------------------------------------------------- */

/* Everything that can be wrong is found here. False: reported. */
bool train_prepare(Trainer *t) DT_CHECKED;
/* First values, or those of the checkpoint, and the directory. From here on the run can be killed and resumed at any
 * moment. */
bool    train_start(Trainer *t) DT_CHECKED;
Loader *train_loader(Trainer *t, const ProgTensor *image, bool augment); /* NULL: reported */

/* ---- train_rows.c ---------------------------------------------------------------------------------------------- */

double rows_percent(const Trainer *t, double correct, int64_t steps); /* NAN: the task counts none */
/* The row of the last steps. */
bool rows_step(Trainer *t) DT_CHECKED;
/* The row of the open epoch, or of a run without training, and its lines. */
bool rows_epoch(Trainer *t, const TestResult *r) DT_CHECKED;
bool rows_weights(Trainer *t) DT_CHECKED; /* how weights are spread */
void rows_events(Trainer *t);             /* the metrics so far, for TensorBoard */
/* "  test loss 0.1234  top-1 97.00%  clamped 97.50%"; nothing where nothing was tested. */
void rows_say_test(Str *line, const Trainer *t, const TestResult *r);
void rows_table(Trainer *t); /* at the end: the best epoch and the last one */

/* ---- keep.c ---------------------------------------------------------------------------------------------------- */

bool keep_last(Trainer *t) DT_CHECKED; /* the one before becomes RUN_PREVIOUS */
bool keep_best(Trainer *t) DT_CHECKED;
bool keep_epoch(Trainer *t) DT_CHECKED; /* after an epoch, when one of its kind is due */
/* The newest checkpoint of the directory that can be used becomes the run's state. False: reported. *found false: there
 * is none, nothing was changed. */
bool keep_resume(Trainer *t, HostTensors *host, bool *found) DT_CHECKED;

/* ---- reestimate.c ---------------------------------------------------------------------------------------------- */

/* Before the last evaluation; nothing where the run does not ask for it. */
bool reestimate_run(Trainer *t) DT_CHECKED;
/* The statistics of training again. */
bool reestimate_undo(Trainer *t) DT_CHECKED;
void reestimate_free(Trainer *t);

/* ---- inspect.c ------------------------------------------------------------------------------------------------- */

/* Binds the inspect program; t->inspector stays NULL where there is nothing to look at. */
bool inspector_new(Trainer *t) DT_CHECKED;
/* Is there something to look at after that many steps? All of them must have been read then. */
bool inspector_due(const Inspector *x, int64_t step);
/* Looks. */
bool inspector_run(Trainer *t) DT_CHECKED;
/* Codes that the next diagnosis needs, and back. */
void inspector_keep(const Inspector *x, Arena *a, HostTensors *out);
void inspector_restore(Inspector *x, const HostTensors *kept);
/* How far weights are from the grid, as the diagnosis after step `step` found; false: there was none, or no
 * regularizer. */
bool inspector_convergence(const Inspector *x, int64_t step, double *mean, double *worst);
/* After a loss that is not finite: the first quantizer that gets what is not finite from the batch of that step. */
void inspector_blame(Trainer *t, int64_t step);

#endif
