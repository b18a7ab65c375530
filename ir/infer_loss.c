/* infer_loss.c: the types of losses and metrics, of their gradients, and of random masks. The other rules, and when
 * they run: infer.c.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/infer_impl.h"

static bool want_labels(const Rule *r, int32_t i)
{
    return want_type(r, i, "labels", matrix_type(DTYPE_I32, in_dim(r, 0, 0), 1), "one class for each row");
}

static bool want_row(const Rule *r, int32_t i, const char *name)
{
    return want_type(r, i, name, matrix_type(DTYPE_F32, in_dim(r, 0, 0), 1), "one number for each row");
}

/* Labels of the other image that a row is mixed of, and the share of the first, from operand i on; or neither. */
static bool want_mixed(const Rule *r, int32_t i)
{
    if (r->v->n_in == i)
        return true;
    if (r->v->n_in == i + 1)
        return fail(r, "labels2 stands alone, expected a share of the first label after it");
    return want_labels(r, i) && want_row(r, i + 1, "share");
}

static bool want_smoothing(const Rule *r)
{
    double smoothing = ir_float(r->v, A_SMOOTHING);
    return smoothing < 1 || fail(r, "smoothing is %g, expected below 1: nothing of the label would be left", smoothing);
}

bool infer_xent(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_rank(&r, 0, "logits", DTYPE_F32, 2, "N,C") && want_labels(&r, 1) && want_mixed(&r, 2) &&
           want_smoothing(&r) && result(&r, scalar_type(DTYPE_F32));
}

bool infer_mse(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (in_type(&r, 0).dtype != DTYPE_F32)
        return fail(&r, "x is %s, expected f32", type_name(&r, in_type(&r, 0)));
    return want_type(&r, 1, "target", in_type(&r, 0), "the type of x") && result(&r, scalar_type(DTYPE_F32));
}

bool infer_row(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_rank(&r, 0, "logits", DTYPE_F32, 2, "N,C") || (v->n_in > 1 && !want_labels(&r, 1)))
        return false;
    if (v->op == OP_CORRECT && ir_int(v, A_K) > in_dim(&r, 0, 1))
        return fail(&r, "k is %lld, expected at most the %lld classes", (long long)ir_int(v, A_K),
                    (long long)in_dim(&r, 0, 1));
    return result(&r, matrix_type(DTYPE_F32, in_dim(&r, 0, 0), 1));
}

bool infer_first(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_rank(&r, 0, "logits", DTYPE_F32, 2, "N,C") && want_row(&r, 1, "lse") && want_labels(&r, 2) &&
           want_type(&r, 3, "g", scalar_type(DTYPE_F32), "a scalar") && want_mixed(&r, 4) && want_smoothing(&r) &&
           result(&r, in_type(&r, 0));
}

bool infer_tv(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_image(&r, 0, "x") && result(&r, scalar_type(DTYPE_F32));
}

bool infer_tv_each(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_image(&r, 0, "x") && result(&r, in_type(&r, 0));
}

bool infer_sample_mask(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type scalar = scalar_type(DTYPE_U32);
    if (!(ir_float(v, A_P) < 1))
        return fail(&r, "p is %g, expected a probability below 1: nothing would be left", ir_float(v, A_P));
    return want_type(&r, 0, "seed", scalar, "a scalar") && want_type(&r, 1, "step", scalar, "a scalar") &&
           result(&r, image_type(ir_int(v, A_COUNT), 1, 1, 1));
}

bool infer_distill(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_rank(&r, 0, "logits", DTYPE_F32, 2, "N,C") &&
           want_type(&r, 1, "teacher", in_type(&r, 0), "the type of the logits") && result(&r, scalar_type(DTYPE_F32));
}

/* Logits, and a number for each of their rows, of the student and of the teacher; then, of a gradient, a scalar. */
bool infer_kl(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    static const char *const names[] = { "logits", "lse", "teacher", "lse of the teacher" };
    Rule                     r = RULE;
    if (!want_rank(&r, 0, names[0], DTYPE_F32, 2, "N,C"))
        return false;
    Type x = in_type(&r, 0), row = matrix_type(DTYPE_F32, in_dim(&r, 0, 0), 1);
    for (int32_t i = 1; i < 4; i++)
        if (!want_type(&r, i, names[i], i % 2 == 1 ? row : x, i % 2 == 1 ? "one number for each row" : "as the logits"))
            return false;
    return (v->n_in < 5 || want_type(&r, 4, "g", scalar_type(DTYPE_F32), "a scalar")) && result(&r, x);
}
