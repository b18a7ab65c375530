/* loss.c: the loss of a network's result, what each step hands to the host, and further parts of the loss.
 *
 *   train   loss (and its parts where there are several), number of correct answers
 *   eval    logits, loss and correctness of each sample (so that a last, smaller batch can be weighed)
 *   init    logits; the quantizers' first step sizes are put in by a pass
 *   reestimate   logits; the statistics of batch norm follow the batch
 *   observe, inspect   logits; what calibration and diagnosis look at is put in by a pass
 *
 * Evaluation knows plain labels alone: smoothing, mixing and further parts are means of training.
 *
 * Tested by tests/unit/test_dsl_act.c, test_dsl.c and tests/diag. */
#include "frontend/layer.h"

#include <math.h>

enum { TOP = 5 };
#define TEACHER_PART "loss:teacher"

/* ---- Main parts ---------------------------------------------------------------------------------------------------
 */

/* Against a target of y's shape. */
typedef struct TargetLoss {
    OpCode train; /* the mean over all elements */
    OpCode each;  /* eval: sums f(y, target), or f(y - target) with OP_REDUCE_ABS */
} TargetLoss;

static const struct {
    const char *name;
    TargetLoss  target; /* OP_COUNT: against a label */
} losses[] = {
    [DT_CROSS_ENTROPY] = { "cross_entropy", { OP_COUNT, OP_COUNT } },
    [DT_MSE] = { "mse", { OP_MSE, OP_REDUCE_SUM } },
    [DT_L1] = { "l1", { OP_L1, OP_REDUCE_ABS } },
    [DT_CHARBONNIER] = { "charbonnier", { OP_CHARBONNIER, OP_REDUCE_CHARBONNIER } },
};

bool loss_is_known(DtLoss loss)
{
    return (int)loss >= 0 && (int)loss < DT_COUNT(losses);
}

const char *loss_name(DtLoss loss)
{
    return losses[loss].name;
}

static ValueId column_input(DtContext *ctx, const char *name, DType dtype)
{
    Type type = { dtype, shape_of(2, (const int64_t[]){ ctx->batch, 1 }), LAYOUT_ROWS };
    return ir_leaf(&ctx->b, OP_INPUT, name, type, NULL, 0);
}

/* Of the label, or of a mixture of two. */
static ValueId train_cross_entropy(DtContext *ctx, ValueId y, ValueId label)
{
    Builder     *b = &ctx->b;
    const double smoothing = (double)ctx->model->training.label_smoothing;
    if (ctx->model->training.mixup == 0)
        return ir_emit(b, OP_CROSS_ENTROPY, IR_IN(y, label), AF(SMOOTHING, smoothing));
    ValueId second = column_input(ctx, "label2", DTYPE_I32);
    ValueId share = column_input(ctx, "share", DTYPE_F32);
    return ir_emit(b, OP_CROSS_ENTROPY, IR_IN(y, label, second, share), AF(SMOOTHING, smoothing));
}

static void eval_cross_entropy(DtContext *ctx, ValueId y, ValueId label)
{
    Builder *b = &ctx->b;
    ValueId  lse = ir_emit(b, OP_LOGSUMEXP, IR_IN(y));
    ValueId  picked = ir_emit(b, OP_PICK, IR_IN(y, label));
    ir_output(b, ir_emit(b, OP_SUB, IR_IN(lse, picked)), "loss_each");
    ir_output(b, ir_emit(b, OP_CORRECT, IR_IN(y, label)), "correct_each");
    if (ctx->step == STEP_EVAL && ctx->model->classes > TOP)
        ir_output(b, ir_emit(b, OP_CORRECT, IR_IN(y, label), AI(K, TOP)), "correct5_each");
}

static void eval_target(DtContext *ctx, ValueId y, ValueId target)
{
    Builder     *b = &ctx->b;
    const OpCode each = losses[ctx->model->loss].target.each;
    const double scale = (double)ctx->batch / (double)shape_elems(ir_value(b->g, y)->type.shape);
    ValueId      sum;
    if (each == OP_REDUCE_CHARBONNIER) {
        sum = ir_emit(b, each, IR_IN(y, target), AT(KEEP, "n"), AF(SCALE, scale));
    } else {
        ValueId diff = ir_emit(b, OP_SUB, IR_IN(y, target));
        ValueId term = each == OP_REDUCE_SUM ? ir_emit(b, OP_MUL, IR_IN(diff, diff)) : diff;
        sum = ir_emit(b, each, IR_IN(term), AT(KEEP, "n"), AF(SCALE, scale));
    }
    ir_output(b, sum, "loss_each");
}

/* ---- Outputs ------------------------------------------------------------------------------------------------------
 */

/* The loss with the distance of y from the teacher; VALUE_NONE: reported. */
static ValueId with_teacher(DtContext *ctx, ValueId y, ValueId loss)
{
    Builder     *b = &ctx->b;
    const double weight = ctx->distill->weight;
    ValueId      distance = teacher_distance(ctx, y);
    if (distance == VALUE_NONE)
        return VALUE_NONE;
    ir_output(b, distance, TEACHER_PART);
    ValueId own = ir_emit(b, OP_SCALE, IR_IN(loss), AF(SCALE, 1 - weight));
    ValueId other = ir_emit(b, OP_SCALE, IR_IN(distance), AF(SCALE, weight));
    return ir_emit(b, OP_ADD, IR_IN(own, other));
}

/* The sum of all parts. Where there is but one, it is the loss itself. */
static void output_loss(DtContext *ctx, ValueId y, ValueId loss)
{
    Builder *b = &ctx->b;
    Arena   *a = ctx->arena;
    if (ctx->parts.len > 0 || ctx->distill)
        ir_output(b, loss, arena_printf(a, "loss:%s", loss_name(ctx->model->loss)));
    for (int32_t i = 0; i < ctx->parts.len; i++) {
        const LossPart *part = &ctx->parts.at[i];
        ir_output(b, part->value, arena_printf(a, "loss:%s", part->name));
        ValueId weighted = ir_emit(b, OP_SCALE, IR_IN(part->value), AF(SCALE, part->weight));
        loss = ir_emit(b, OP_ADD, IR_IN(loss, weighted));
    }
    if (ctx->distill)
        loss = with_teacher(ctx, y, loss);
    if (loss != VALUE_NONE)
        ir_output(b, loss, "loss");
}

static void emit_classification(DtContext *ctx, ValueId y)
{
    Builder *b = &ctx->b;
    ValueId  label = column_input(ctx, "label", DTYPE_I32);
    if (ctx->step != STEP_TRAIN) {
        eval_cross_entropy(ctx, y, label);
        return;
    }
    output_loss(ctx, y, train_cross_entropy(ctx, y, label));
    ValueId each = ir_emit(b, OP_CORRECT, IR_IN(y, label));
    ir_output(b, ir_emit(b, OP_REDUCE_SUM, IR_IN(each), AT(KEEP, "")), "correct");
}

static void emit_restoration(DtContext *ctx, ValueId y)
{
    Builder *b = &ctx->b;
    ValueId  target = ir_leaf(b, OP_INPUT, "target", ir_value(b->g, y)->type, NULL, 0);
    if (ctx->step == STEP_TRAIN)
        output_loss(ctx, y, ir_emit_(b, losses[ctx->model->loss].target.train, IR_IN(y, target), NULL, 0));
    else
        eval_target(ctx, y, target);
}

void context_emit_outputs(DtContext *ctx, ValueId y)
{
    ctx->b.at = loc_of(ctx->model->at);
    ctx->b.scope = NULL;
    if (ctx->step != STEP_TRAIN)
        ir_output(&ctx->b, y, "logits");
    if (ctx->step != STEP_INIT && ctx->step != STEP_OBSERVE && ctx->step != STEP_REESTIMATE)
        (ctx->model->loss == DT_CROSS_ENTROPY ? emit_classification : emit_restoration)(ctx, y);
}

/* ---- Further parts ------------------------------------------------------------------------------------------------
 */

/* False: reported, or there is nothing to do. */
static bool open_part(Layer *l, const char *op, const char *name, const DtPenalty *a)
{
    if (!layer_open(l, op, a->x, a->at))
        return false;
    if (!(a->weight > 0 && isfinite(a->weight))) {
        layer_error(l, "weight is %g, expected a number above 0", (double)a->weight);
        layer_help(l, "say what the part is multiplied by: %s(x, .weight = 0.05)", op);
        return false;
    }
    if (!layer_check_rank4(l) || !layer_start(l, name, a->name ? a->name : name))
        return false;
    if (str_eq(l->name, loss_name(l->ctx->model->loss)) || str_eq(l->name, "teacher")) {
        layer_error(l, "%s is the name of %s of the loss", l->name,
                    str_eq(l->name, "teacher") ? "a teacher's part" : "the main part");
        layer_help(l, "give this part another .name");
        return false;
    }
    return l->ctx->step == STEP_TRAIN;
}

static void add_part(Layer *l, ValueId value, const DtPenalty *a)
{
    if (value != VALUE_NONE)
        vec_push(l->ctx->arena, &l->ctx->parts, ((LossPart){ l->name, value, (double)a->weight }));
}

void dt_loss_tv_(DtPenalty a)
{
    Layer l;
    if (!open_part(&l, "loss_tv", "tv", &a))
        return;
    if (l.in.dim[2] < 2 && l.in.dim[3] < 2) {
        layer_error(&l, "x is %s: one pixel has no neighbours", layer_shape(&l, l.in));
        layer_note_operand(&l, "x", l.x);
        return;
    }
    add_part(&l, ir_emit(&l.ctx->b, OP_TV, IR_IN(l.x)), &a);
}

/* The input "noise", which has the shape of whatever is compared with it first; VALUE_NONE: reported. */
static ValueId noise_input(Layer *l)
{
    DtContext *ctx = l->ctx;
    if (ctx->noise == VALUE_NONE)
        ctx->noise = ir_leaf(&ctx->b, OP_INPUT, "noise", (Type){ DTYPE_F32, l->in, LAYOUT_ROWS }, NULL, 0);
    const Shape s = ir_value(ctx->b.g, ctx->noise)->type.shape;
    if (shape_eq(s, l->in))
        return ctx->noise;
    layer_error(l, "x is %s, but the level of noise was compared with %s before", layer_shape(l, l->in),
                layer_shape(l, s));
    layer_note_operand(l, "x", l->x);
    return VALUE_NONE;
}

void dt_loss_asymmetric_(DtPenalty a)
{
    const double alpha = a.alpha != 0 ? (double)a.alpha : 0.3;
    Layer        l;
    if (!open_part(&l, "loss_asymmetric", "asymmetric", &a))
        return;
    if (!(alpha > 0 && alpha < 1)) {
        layer_error(&l, "alpha is %g, expected above 0 and below 1", alpha);
        layer_help(&l, "it is the weight where x is not below the noise, 1 - alpha where it is; 0.3 is usual");
        return;
    }
    ValueId noise = noise_input(&l);
    if (noise != VALUE_NONE)
        add_part(&l, ir_emit(&l.ctx->b, OP_ASYMMETRIC, IR_IN(l.x, noise), AF(ALPHA, alpha)), &a);
}
