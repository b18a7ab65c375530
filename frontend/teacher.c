/* teacher.c: a second network in the same step, from which the first one learns (Hinton et al. 2015). It is built as in
 * an evaluation, behind the first one and for the same image; its names begin with "teacher:", and its params are
 * states, so that nothing in it is trained, quantized or averaged:
 *
 *   %w = state "teacher:conv1.weight" : f32[16x3x3x3]
 *   %y = conv2d %image, %w
 *   loss = (1 - weight) own + weight distance(result, teacher's result)
 *
 * Tested by tests/unit/test_teacher.c. */
#include "frontend/layer.h"

static bool same_normalisation(const DtModel *a, const DtModel *b)
{
    const bool none = a->std[0] == 0 && b->std[0] == 0;
    for (int i = 0; i < a->image[0] && i < 3 && !none; i++)
        if (a->mean[i] != b->mean[i] || a->std[i] != b->std[i])
            return false;
    return true;
}

/* What can be said before it is built. False: reported. */
static bool check_teacher(DtContext *ctx, const DtModel *t)
{
    const DtModel *m = ctx->model;
    Diag          *d = ctx->b.d;
    const bool     labels = m->loss == DT_CROSS_ENTROPY;
    const Loc      at = loc_of(t->at);
    if (t->image[0] != m->image[0] || t->image[1] != m->image[1] || t->image[2] != m->image[2]) {
        diag_error(d, at, "teacher: %s takes images of %dx%dx%d, expected %dx%dx%d as %s does", t->name, t->image[0],
                   t->image[1], t->image[2], m->image[0], m->image[1], m->image[2], m->name);
        return false;
    }
    if (!same_normalisation(m, t)) {
        diag_error(d, at, "teacher: %s normalises images otherwise than %s: they read the same ones", t->name, m->name);
        diag_help(d, "give both the same .mean and .std");
        return false;
    }
    if (labels == (t->loss == DT_CROSS_ENTROPY) && (!labels || t->classes == m->classes))
        return true;
    diag_error(d, at, "teacher: %s has %d classes, expected %d as %s has", t->name,
               t->loss == DT_CROSS_ENTROPY ? t->classes : 0, labels ? m->classes : 0, m->name);
    return false;
}

ValueId teacher_build(DtContext *ctx, const DtModel *teacher)
{
    if (!check_teacher(ctx, teacher))
        return VALUE_NONE;
    DtContext *t = context_new(ctx->arena, ctx->b.d, ctx->b.g, teacher, ctx->batch, STEP_EVAL);
    t->prefix = TEACHER_NAMES;
    t->image = ctx->image;
    return context_run(t);
}

ValueId teacher_distance(DtContext *ctx, ValueId y)
{
    const Distillation *x = ctx->distill;
    Builder            *b = &ctx->b;
    ValueId             t = teacher_build(ctx, x->teacher);
    if (t == VALUE_NONE)
        return VALUE_NONE;
    const Shape found = ir_value(b->g, t)->type.shape, want = ir_value(b->g, y)->type.shape;
    if (!shape_eq(found, want)) {
        diag_error(b->d, loc_of(x->teacher->at), "teacher: %s gives %s, expected %s as %s gives", x->teacher->name,
                   shape_text(ctx->arena, found), shape_text(ctx->arena, want), ctx->model->name);
        return VALUE_NONE;
    }
    if (ctx->model->loss == DT_CROSS_ENTROPY)
        return ir_emit(b, OP_DISTILL, IR_IN(y, t), AF(TEMPERATURE, x->temperature));
    return ir_emit(b, OP_MSE, IR_IN(y, t));
}
