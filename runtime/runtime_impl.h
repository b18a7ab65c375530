/* runtime_impl.h: what the files of the training runtime share among themselves. */
#ifndef DETENT_RUNTIME_IMPL_H
#define DETENT_RUNTIME_IMPL_H

#include "runtime/runtime.h"

/* ---- Tensors of programs --------------------------------------------------------------------------------------- */

/* The tensor of that kind, type and shape; rank -1: any. NULL and reported when it is absent or differs. */
const ProgTensor *program_need(Diag *d, const Program *p, TensorKind kind, const char *name, DType dtype, int32_t rank,
                               const int64_t *dim);
/* "[64, 3, 3, 3]"; "[]" for a scalar. */
const char *dims_text(Arena *a, const int64_t *dim, int32_t rank);

/* What one pass over batches of a program needs: checked once. NULL: the program has no such input. */
typedef struct BatchInputs {
    LoadedProgram     p;
    const ProgTensor *image, *label, *label2, *share, *target, *noise; /* as in BatchOut */
} BatchInputs;
/* False: reported. The image must fit the samples of that split and the classes. `answer`: the program must take what
 * its result is compared with, a label or a target. */
bool batch_inputs(Diag *d, LoadedProgram p, const Dataset *data, Split split, int32_t classes, bool answer,
                  BatchInputs *out) DT_CHECKED;
/* loader_next into the inputs of the step that is submitted next. */
int32_t batch_next(Loader *l, const BatchInputs *in);

/* A batch in memory of its own, in the inputs' layout: to be looked at, or shown to a program more than once. */
typedef struct HostBatch {
    BatchOut at;
} HostBatch;
HostBatch host_batch_new(Arena *a, const BatchInputs *in);
/* Into the inputs of the program, which lie where `place` says: exec_input or exec_ptr. */
void host_batch_put(const HostBatch *b, const BatchInputs *in, void *(*place)(Exec *, int32_t, const ProgTensor *));

/* ---- Evaluation ------------------------------------------------------------------------------------------------ */

typedef struct Progress  Progress;
typedef struct Evaluator Evaluator;

/* What a task asks of programs, and how answers are judged (task.c). */
typedef struct TaskInfo {
    bool    counts_correct; /* the train program says how many of a batch are right */
    bool    looks_at_batch; /* `add` needs what went in: one batch at a time, by way of Evaluator.batch */
    Measure score;
    int     loss_decimals;
    /* Finds the outputs and says what can be measured. False: reported. */
    bool (*bind)(Diag *d, Evaluator *e);
    /* Adds what sample i of a batch, the results of step `number`, counts in each measure. False: reported. */
    bool (*add)(Evaluator *e, int64_t number, int32_t valid);
    double factor; /* of the mean */
} TaskInfo;
const TaskInfo *task_of(const Dataset *data);

struct Evaluator {
    const TaskInfo   *task;
    LoadedProgram     eval;
    BatchInputs       in;
    const ProgTensor *loss_each, *correct_each, *correct5_each, *answer; /* NULL: the task has no use for it */
    SsimForm          ssim;
    HostBatch         batch;
    Loader           *loader;
    int64_t           counted;                 /* samples */
    int32_t          *valid;                   /* samples that count, of each batch that is not read yet: a ring */
    bool              measured[MEASURE_COUNT]; /* what it finds out */
    Normalise         normalise;
    bool              has_input;            /* input is known: once is enough */
    double            input[MEASURE_COUNT]; /* sums, then means, of the pictures that went in */
    double            loss, sum[MEASURE_COUNT];
};
typedef enum EvalEnd { EVAL_DONE, EVAL_INTERRUPTED, EVAL_FAILED } EvalEnd;

bool evaluator_new(Arena *a, Diag *d, const EvalConfig *c, Evaluator *out) DT_CHECKED;
/* Sums over the test set, in double, sample by sample. Interrupted: a signal came (nothing is reported). */
EvalEnd evaluator_run(Evaluator *e, Progress *p, EvalResult *out);
void    evaluator_free(Evaluator *e);

/* ---- Progress -------------------------------------------------------------------------------------------------- */

typedef struct ProgressStep {
    int64_t epoch, epochs; /* epoch counted from 1 */
    int64_t step, steps;   /* within the epoch */
    int64_t done, total;   /* steps of the run */
    int64_t batch;
    double  loss, top1, lr; /* top1 NAN: the task has none */
    int     loss_decimals;
    double  wait_s; /* total wait for data in this process */
} ProgressStep;

Progress *progress_new(Arena *a, FILE *out, int64_t every);
void      progress_step(Progress *p, const ProgressStep *s);
void      progress_eval(Progress *p, int64_t done, int64_t total); /* batches of an evaluation */
/* A line that stays, above the moving one. */
void progress_say(Progress *p, const char *fmt, ...) DT_PRINTF(2, 3);
void progress_end(Progress *p); /* leaves the terminal clean */
/* "1:02:03", "4:05" */
const char *progress_duration(char out[32], double seconds);
/* "9.3", "3040" */
const char *progress_rate(char out[32], double rate);

/* ---- TensorBoard (events.c) ------------------------------------------------------------------------------------ */

/* Writes RUN_EVENTS of run directory `dir` anew from its RUN_JSONL and its pictures. False: not written, or lines of
 * the metrics were passed over; that is one warning (`d` NULL: none) and no reason to end a run. */
bool events_write(Diag *d, const char *dir) DT_CHECKED;

/* One row of the metrics: how weights and step sizes of the program are spread. False: reported. */
bool weights_row(Diag *d, RunDir *r, LoadedProgram p, int64_t epoch, int64_t step) DT_CHECKED;

/* ---- Signals --------------------------------------------------------------------------------------------------- */

/* Between the two, the first SIGINT or SIGTERM only sets a flag; the second one has its usual effect. */
void interrupt_catch(void);
void interrupt_release(void);
bool interrupt_seen(void);

#endif
