/* context.h: what the files of the frontend share: the graph that a network's function is building, its scopes and the
 * names that are taken. One DtContext lives for one frontend_build().
 *
 * A Tensor with id >= 0 is a value of its context's graph. Others are poison: id -1 after a mistake that was reported;
 * { NULL, -2 - line } when a layer at `line` was given a Tensor of no living context, so that there was nobody to
 * report to. Whoever meets the latter with a context at hand reports it (context_report_stray).
 *
 * Tested by tests/unit/test_dsl.c, tests/unit/test_diag_dsl.c. */
#ifndef DETENT_FRONTEND_CONTEXT_H
#define DETENT_FRONTEND_CONTEXT_H

#include "frontend/frontend.h"

enum { DSL_MAX_SCOPES = 64, DSL_MAX_LAYERS = 1 << 14 };

typedef struct ScopeEntry {
    const char *path; /* "s1.b0" */
    Loc         at;
} ScopeEntry;

typedef struct LayerEntry {
    const char *op; /* "conv2d" */
    Loc         at;
} LayerEntry;

/* A further part of the loss. */
typedef struct LossPart {
    const char *name; /* "s1.tv" */
    ValueId     value;
    double      weight;
} LossPart;

struct DtContext {
    Arena         *arena;
    const DtModel *model;
    Builder        b; /* holds graph and diagnostics, too */
    StepKind       step;
    int64_t        batch;
    int32_t        errors_before;     /* of b.d when the build began */
    ValueId        image, seed, turn; /* inputs, made when first asked for; turn: the number of the step */
    VEC(ScopeEntry) scopes;           /* open ones, outermost first */
    VEC(LayerEntry) layers;
    VEC(const char *) made_by;   /* by value id: the layer that made it, "global_avgpool"; NULL: no result of a layer */
    StrMap              names;   /* "s1.b0.conv1" -> index into layers */
    const Distillation *distill; /* NULL: there is no teacher */
    VEC(LossPart) parts;         /* of the loss, besides the main one */
    ValueId     noise;           /* the input of that name, made when first asked for */
    StrMap      counters;        /* "s1.b0.conv" -> highest number given */
    const char *prefix; /* of all names: TEACHER_NAMES of a teacher's network, whose params are states; or NULL */
    bool        closed; /* the function has returned: a Tensor kept from it is a mistake */
};

static inline Loc loc_of(DtAt at)
{
    return (Loc){ at.file, at.line };
}

static inline bool context_failed(const DtContext *ctx)
{
    return ctx->b.d->errors > ctx->errors_before;
}

static inline bool tensor_is_stray(Tensor x)
{
    return !x.ctx || x.ctx->closed;
}

/* Path of the innermost scope, or NULL. */
const char *context_scope(const DtContext *ctx);
/* Full name of a new layer, `name` if given or `kind` and a number; takes it. NULL: reported. */
const char *context_take_name(DtContext *ctx, const char *op, const char *kind, const char *name, Loc at);
/* Reports scopes above `depth` as never closed and drops them. */
void context_drop_scopes(DtContext *ctx, int32_t depth);
/* A context for a network in graph g, in which nothing of it is yet. */
DtContext *context_new(Arena *a, Diag *d, Graph *g, const DtModel *model, int64_t batch, StepKind step);
/* Runs the network's function; VALUE_NONE: reported, what it returned can be compared with no label or target. */
ValueId context_run(DtContext *ctx);
/* The result of the teacher's network in eval form, for the image that ctx has; VALUE_NONE: reported (teacher.c). */
#define TEACHER_NAMES "teacher:"
ValueId teacher_build(DtContext *ctx, const DtModel *teacher);
/* The distance of y from the teacher's result. */
ValueId teacher_distance(DtContext *ctx, ValueId y);
/* The loss of the network's result y, and whatever else the step hands to the host. */
void context_emit_outputs(DtContext *ctx, ValueId y);
/* "cross_entropy": what the main part of a loss is called, and the function that a message may speak of. */
const char *loss_name(DtLoss loss);
bool        loss_is_known(DtLoss loss);
/* x is of no living context, `at` is where that is noticed. */
void context_report_stray(DtContext *ctx, const char *who, Tensor x, Loc at);

#endif
