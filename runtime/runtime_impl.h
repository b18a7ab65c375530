/* runtime_impl.h: what the files of the training runtime share among themselves. */
#ifndef DETENT_RUNTIME_IMPL_H
#define DETENT_RUNTIME_IMPL_H

#include "runtime/runtime.h"

/* ---- Data files ------------------------------------------------------------------------------------------------ */

Dataset *mnist_open(Arena *a, Diag *d, const char *dir);
Dataset *cifar10_open(Arena *a, Diag *d, const char *dir);

/* Is `path` there and a regular file? Size in *bytes (may be NULL). */
bool data_is_file(const char *path, int64_t *bytes);
bool data_is_dir(const char *path);

/* ---- Tensors of programs --------------------------------------------------------------------------------------- */

/* The tensor of that kind, type and shape; rank -1: any. NULL and reported when it is absent or differs. */
const ProgTensor *program_need(Diag *d, const Program *p, TensorKind kind, const char *name, DType dtype, int32_t rank,
                               const int64_t *dim);
/* "[64, 3, 3, 3]"; "[]" for a scalar. */
const char *dims_text(Arena *a, const int64_t *dim, int32_t rank);

/* What one pass over batches of a program needs: checked once. */
typedef struct BatchInputs {
    LoadedProgram     p;
    const ProgTensor *image, *label; /* label NULL: the program has none */
    int32_t          *no_label;      /* then: memory that nobody reads */
} BatchInputs;
/* False: reported. The image must fit the dataset and the classes. */
bool    batch_inputs(Arena *a, Diag *d, LoadedProgram p, const Dataset *data, int32_t classes, bool need_label,
                     BatchInputs *out) DT_CHECKED;
int32_t batch_next(Loader            *l,
                   const BatchInputs *in); /* loader_next into the inputs of the step that is submitted next */

/* ---- Evaluation ------------------------------------------------------------------------------------------------ */

typedef struct Progress Progress;

typedef struct Evaluator {
    LoadedProgram     eval;
    BatchInputs       in;
    const ProgTensor *loss_each, *correct_each;
    Loader           *loader;
    int64_t           samples;
    int32_t          *valid; /* samples that count, of each batch whose results are not read yet: a ring */
} Evaluator;
typedef enum EvalEnd { EVAL_DONE, EVAL_INTERRUPTED, EVAL_FAILED } EvalEnd;

bool evaluator_new(Arena *a, Diag *d, LoadedProgram eval, const Dataset *data, int32_t classes, Normalise n,
                   Evaluator *out) DT_CHECKED;
/* Sums over the test set, in double, sample by sample. Interrupted: a signal came (nothing is reported). */
EvalEnd evaluator_run(Evaluator *e, Progress *p, EvalResult *out);
void    evaluator_free(Evaluator *e);

/* ---- Progress -------------------------------------------------------------------------------------------------- */

typedef struct ProgressStep {
    int64_t epoch, epochs; /* epoch counted from 1 */
    int64_t step, steps;   /* within the epoch */
    int64_t done, total;   /* steps of the run */
    int64_t batch;
    double  loss, top1, lr;
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

/* ---- TensorBoard (events.c) ------------------------------------------------------------------------------------ */

/* Writes RUN_EVENTS of run directory `dir` anew from its RUN_JSONL. False: not written, or lines of the metrics were
 * passed over; that is one warning (`d` NULL: none) and no reason to end a run. */
bool events_write(Diag *d, const char *dir) DT_CHECKED;

/* ---- Signals --------------------------------------------------------------------------------------------------- */

/* Between the two, the first SIGINT or SIGTERM only sets a flag; the second one has its usual effect. */
void interrupt_catch(void);
void interrupt_release(void);
bool interrupt_seen(void);

#endif
