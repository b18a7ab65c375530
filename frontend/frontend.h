/* frontend.h: the compiler's side of the DSL: a model becomes a graph, a source file becomes a model.
 *
 * The graph of a step has these names, on which passes and runtime rely:
 *   inputs   "image" f32[N,C,H,W]; "label" i32[N,1] or "target" f32[...]; in a train step with dropout "seed" u32[] and
 *            "step" u32[], with mixup "label2" i32[N,1] and "share" f32[N,1] (of the first label), with an asymmetric
 *            part of the loss "noise" f32[...] (below 0: unknown)
 *   params   LAYER.weight, LAYER.bias, LAYER.gamma, LAYER.beta (LAYER = scopes and name, "s1.b0.conv1")
 *   states   LAYER.running_mean, LAYER.running_var
 *   outputs  train: "loss" f32[], of a loss of several parts also "loss:PART" f32[]; "correct" f32[] (how many of the
 *            batch have the first label); eval: "logits", "loss_each" f32[N,1] (of plain labels), "correct_each"
 *            f32[N,1] and with more than 5 classes "correct5_each" f32[N,1] (among the 5 best); init: "logits" */
#ifndef DETENT_FRONTEND_H
#define DETENT_FRONTEND_H

#ifndef DT_NO_SHORT_NAMES
#define DT_NO_SHORT_NAMES /* `add` and `linear` are ordinary words here; who writes networks includes detent.h first   \
                           */
#endif
#include "frontend/detent.h"
#include "ir/ir.h"

/* A network that learns from another, which is in float and is not trained, in a train step: the loss is (1 - weight)
 * times its own plus `weight` times its distance from the teacher - of class scores that of their softmax with a
 * temperature, else the mean square of the difference. The teacher's params and states are states of the graph,
 * "teacher:LAYER.weight"; outputs "loss:own" and "loss:teacher" are the two parts. */
typedef struct Distillation {
    const DtModel *teacher; /* NULL: none */
    double         weight, temperature;
} Distillation;

/* NULL: each mistake was reported once, with file and line. */
Graph *frontend_build_distilled(Arena *a, Diag *d, const DtModel *model, int64_t batch, StepKind step,
                                const Distillation *distill);
/* Without a teacher. */
Graph *frontend_build(Arena *a, Diag *d, const DtModel *model, int64_t batch, StepKind step);

/* Compiles a .c file with the system's C compiler ($CC, cc) into a temporary shared object, loads it and finds its one
 * `const DtModel`. NULL: reported (compiler's own messages are shown). The library stays loaded. */
const DtModel *frontend_load(Arena *a, Diag *d, const char *path);

/* Networks in models/ by name. */
extern const DtModel *const frontend_models[];
extern const int32_t        frontend_n_models;
const DtModel *frontend_find(Arena *a, Diag *d, const char *name_or_file); /* NULL: reported, with the nearest names */

#endif
