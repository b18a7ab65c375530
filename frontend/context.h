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
    VEC(const char *) made_by; /* by value id: the layer that made it, "global_avgpool"; NULL: no result of a layer */
    StrMap names;              /* "s1.b0.conv1" -> index into layers */
    StrMap counters;           /* "s1.b0.conv" -> highest number given */
    bool   closed;             /* the function has returned: a Tensor kept from it is a mistake */
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
/* x is of no living context, `at` is where that is noticed. */
void context_report_stray(DtContext *ctx, const char *who, Tensor x, Loc at);

#endif
