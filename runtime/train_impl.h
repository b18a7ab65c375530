/* train_impl.h: one run, and what the files of the loop share.
 *
 *   train.c         steps, epochs, the end
 *   train_start.c   before the first step: checks, programs, first values, what a checkpoint says
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

/* One train program and its tensors. */
typedef struct TrainProgram {
    LoadedProgram     p;
    int64_t           from_step;
    BatchInputs       in;
    const ProgTensor *lr, *step, *seed; /* step, seed NULL: the program does not ask */
    const ProgTensor *loss, *correct;
    int32_t           depth;
} TrainProgram;

typedef struct Inspector Inspector;

typedef struct Trainer {
    Arena             *a;
    Diag              *d;
    const TrainConfig *c;
    Schedule           schedule;
    int64_t            log_every, eval_every;
    int64_t            limit; /* steps after which to stop */
    int64_t            batch;
    TrainProgram      *programs; /* in the order of phases */
    int32_t            n_programs;
    TrainProgram      *now;       /* of the steps on their way */
    int64_t            submitted; /* steps, over all epochs; s.step of them are read */
    Flying            *flying;    /* step n at n % now->depth */
    float              last_lr;   /* of the last step that was read */
    Loader            *loader;
    Evaluator          evaluator, clamped; /* clamped.loader NULL: there is none */
    Inspector         *inspector;          /* NULL: there is none */
    RunDir            *dir;
    const char        *last, *best;
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
bool    train_save(Trainer *t, const char *path) DT_CHECKED;
Loader *train_loader(Trainer *t, const ProgTensor *image); /* NULL: reported */

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
