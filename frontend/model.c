/* model.c: from a model to the graph of one step: checks of its declaration, the image, what the network's function
 * builds and whether that fits its loss. The loss and the outputs are made in loss.c.
 *
 * Tested by tests/unit/test_dsl.c (shapes, names, params) and tests/unit/test_diag_dsl.c. */
#include "frontend/context.h"

#include <math.h>

/* ---- What the function may ask for ------------------------------------------------------------------------------- */

Tensor dt_image_(DtContext *ctx, DtAt at)
{
    if (!ctx || ctx->closed)
        return (Tensor){ NULL, -2 - at.line };
    if (ctx->image == VALUE_NONE) {
        const int *m = ctx->model->image;
        ctx->b.at = loc_of(at);
        ctx->b.scope = NULL;
        Type type = { DTYPE_F32, shape_of(4, (const int64_t[]){ ctx->batch, m[0], m[1], m[2] }), LAYOUT_ROWS };
        ctx->image = ir_leaf(&ctx->b, OP_INPUT, "image", type, NULL, 0);
    }
    return (Tensor){ ctx, ctx->image };
}

int dt_classes_(DtContext *ctx)
{
    return ctx ? ctx->model->classes : 0;
}

static int tensor_dim(Tensor x, int32_t i)
{
    if (tensor_is_stray(x) || x.id < 0 || x.id >= x.ctx->b.g->values.len)
        return 0;
    Shape s = ir_value(x.ctx->b.g, x.id)->type.shape;
    return i < s.rank ? (int)s.dim[i] : 1;
}

int dt_channels(Tensor x)
{
    return tensor_dim(x, 1);
}
int dt_height(Tensor x)
{
    return tensor_dim(x, 2);
}
int dt_width(Tensor x)
{
    return tensor_dim(x, 3);
}

void context_report_stray(DtContext *ctx, const char *who, Tensor x, Loc at)
{
    Loc where = x.id <= -2 && !x.ctx ? (Loc){ ctx->model->at.file, -2 - x.id } : at;
    diag_error(ctx->b.d, where, "%s: a Tensor is used here that no layer of this network made", who);
    diag_help(ctx->b.d, "assign it before it is used; do not keep it in a static variable from one build to the next");
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

static bool check_normalisation(Diag *d, const DtModel *m)
{
    bool any = m->std[0] != 0 || m->std[1] != 0 || m->std[2] != 0;
    for (int i = 0; i < 3; i++) {
        bool used = i < m->image[0] && any;
        if (isfinite(m->mean[i]) && isfinite(m->std[i]) && (!used || m->std[i] > 0))
            continue;
        diag_error(d, loc_of(m->at),
                   "%s: normalisation of channel %d has mean %g and std %g, expected a number and one above 0", m->name,
                   i, (double)m->mean[i], (double)m->std[i]);
        return false;
    }
    return true;
}

/* What is done to labels in training. */
static bool check_labels(Diag *d, const DtModel *m)
{
    const float smoothing = m->training.label_smoothing, mixup = m->training.mixup;
    if (!(smoothing >= 0 && smoothing < 1)) {
        diag_error(d, loc_of(m->at), "%s: label_smoothing is %g, expected at least 0 and below 1", m->name,
                   (double)smoothing);
        diag_help(d, "it is the share of a label that all classes get alike; 0.1 is usual");
        return false;
    }
    if (!(mixup >= 0 && isfinite(mixup))) {
        diag_error(d, loc_of(m->at), "%s: mixup is %g, expected a number that is not negative", m->name, (double)mixup);
        diag_help(d, "it is the alpha of Beta(alpha, alpha), of which shares are drawn; 0.2 is usual");
        return false;
    }
    if (m->loss == DT_CROSS_ENTROPY || (smoothing == 0 && mixup == 0))
        return true;
    diag_error(d, loc_of(m->at), "%s: %s is given, but the loss is %s and has no labels", m->name,
               smoothing != 0 ? "label_smoothing" : "mixup", loss_name(m->loss));
    return false;
}

static bool check_model(Diag *d, const DtModel *m, int64_t batch)
{
    int32_t     before = d->errors;
    Loc         at = loc_of(m->at);
    const char *dims[] = { "channels", "height", "width" };
    for (int i = 0; i < 3; i++)
        if (m->image[i] < 1 || m->image[i] > DT_MAX_DIM) {
            diag_error(d, at, "%s: the image's %s is %d, expected 1 to %d", m->name, dims[i], m->image[i], DT_MAX_DIM);
            diag_help(d, "say .image = { channels, height, width }");
            break;
        }
    if (!loss_is_known(m->loss))
        diag_error(d, at, "%s: .loss is %d, expected DT_CROSS_ENTROPY, DT_MSE, DT_L1 or DT_CHARBONNIER", m->name,
                   (int)m->loss);
    else if (m->loss == DT_CROSS_ENTROPY && (m->classes < 2 || m->classes > DT_MAX_DIM)) {
        diag_error(d, at, "%s: .classes is %d, expected at least 2 for cross entropy", m->name, m->classes);
        diag_help(d, "say .classes = 10, or .loss = DT_MSE");
    }
    if (d->errors > before || !check_normalisation(d, m) || !check_labels(d, m))
        return false;
    int64_t elems;
    if (batch < 1 || batch > DT_MAX_DIM)
        diag_error(d, at, "%s: the batch is %lld, expected 1 to %d", m->name, (long long)batch, DT_MAX_DIM);
    else if (!dt_mul64((int64_t)m->image[0] * m->image[1], m->image[2], &elems) || !dt_mul64(elems, batch, &elems) ||
             elems > INT32_MAX)
        diag_error(d, at, "%s: a batch of %lld images of %dx%dx%d has more than 2^31 - 1 elements", m->name,
                   (long long)batch, m->image[0], m->image[1], m->image[2]);
    return d->errors == before;
}

/* What the function returned can be compared with labels or targets. */
static bool check_result(DtContext *ctx, Tensor y)
{
    Diag          *d = ctx->b.d;
    const DtModel *m = ctx->model;
    if (context_failed(ctx))
        return false;
    if (y.ctx != ctx || y.id < 0 || y.id >= ctx->b.g->values.len) {
        context_report_stray(ctx, m->name, y, loc_of(m->at));
        return false;
    }
    const Value *v = ir_value(ctx->b.g, y.id);
    Loc          at = v->origins[0].dsl;
    const char  *found = shape_text(ctx->arena, v->type.shape);
    if (ctx->image == VALUE_NONE) {
        diag_error(d, loc_of(m->at), "%s: the network never asks for dt_image()", m->name);
        return false;
    }
    if (m->loss != DT_CROSS_ENTROPY)
        return true;
    if (v->type.shape.rank == 2 && v->type.shape.dim[1] == m->classes)
        return true;
    diag_error(d, at, "%s: the network's result is %s, but cross entropy over %d classes needs %lldx%d", m->name, found,
               m->classes, (long long)ctx->batch, m->classes);
    diag_note(d, loc_of(m->at), "the network is declared here");
    diag_help(d, "end with linear(x, dt_classes())%s",
              v->type.shape.rank == 4 ? " after flatten or global_avgpool" : "");
    return false;
}

/* ---- Build ------------------------------------------------------------------------------------------------------- */

DtContext *context_new(Arena *a, Diag *d, Graph *g, const DtModel *model, int64_t batch, StepKind step)
{
    DtContext *ctx = ARENA_NEW(a, DtContext); /* not on the stack: a Tensor that outlives the build points to it */
    *ctx = (DtContext){ .arena = a, .model = model, .step = step, .batch = batch, .errors_before = d->errors };
    ctx->b = (Builder){ .g = g, .d = d, .by = "frontend", .like = VALUE_NONE };
    ctx->image = ctx->seed = ctx->turn = ctx->noise = VALUE_NONE;
    ctx->names = strmap_new(a);
    ctx->counters = strmap_new(a);
    return ctx;
}

ValueId context_run(DtContext *ctx)
{
    Tensor y = ctx->model->build(ctx);
    context_drop_scopes(ctx, 0);
    bool ok = check_result(ctx, y);
    ctx->closed = true;
    return ok ? y.id : VALUE_NONE;
}

Graph *frontend_build_distilled(Arena *a, Diag *d, const DtModel *model, int64_t batch, StepKind step,
                                const Distillation *distill)
{
    if (!check_model(d, model, batch))
        return NULL;
    Graph     *g = ir_graph_new(a, arena_printf(a, "%s.%s", model->name, step_kind_name(step)));
    DtContext *ctx = context_new(a, d, g, model, batch, step);
    ctx->distill = distill != NULL && distill->teacher != NULL && step == STEP_TRAIN ? distill : NULL;
    ValueId y = context_run(ctx);
    if (y != VALUE_NONE)
        context_emit_outputs(ctx, y);
    return y != VALUE_NONE && !context_failed(ctx) ? g : NULL;
}

Graph *frontend_build(Arena *a, Diag *d, const DtModel *model, int64_t batch, StepKind step)
{
    return frontend_build_distilled(a, d, model, batch, step, NULL);
}
