/* infer_shape.c: the types of what moves elements - channels joined and cut, borders, larger images - and of the
 * transposed convolution. The other rules, and when they run: infer.c.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/infer_impl.h"

bool infer_conv_transpose2d(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule           r = RULE;
    const int64_t *pad = ir_pads(v, A_PAD), stride = ir_int(v, A_STRIDE);
    if (!want_image(&r, 0, "x") || !want_rank(&r, 1, "w", DTYPE_F32, 4, "C,K,R,R"))
        return false;
    if (in_dim(&r, 1, 2) != in_dim(&r, 1, 3))
        return fail(&r, "w is %s, expected a square window", type_name(&r, in_type(&r, 1)));
    if (in_dim(&r, 0, 1) != in_dim(&r, 1, 0)) {
        fail(&r, "x has %lld channels, expected %lld: w is %s", (long long)in_dim(&r, 0, 1),
             (long long)in_dim(&r, 1, 0), type_name(&r, in_type(&r, 1)));
        note_operand(&r, 0, "x");
        return false;
    }
    const int64_t h = (in_dim(&r, 0, 2) - 1) * stride + in_dim(&r, 1, 2) - pad[0] - pad[2];
    const int64_t w = (in_dim(&r, 0, 3) - 1) * stride + in_dim(&r, 1, 3) - pad[1] - pad[3];
    if (h < 1 || w < 1)
        return fail(&r, "padding [%lld,%lld,%lld,%lld] leaves nothing of the result", (long long)pad[0],
                    (long long)pad[1], (long long)pad[2], (long long)pad[3]);
    return result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 1, 1), h, w));
}

/* All dimensions but the channels. */
static bool same_beside_channels(Shape a, Shape b)
{
    a.dim[1] = b.dim[1];
    return shape_eq(a, b);
}

bool infer_concat(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_channels(&r, 0, "x") || !want_channels(&r, 1, "y"))
        return false;
    Type t = in_type(&r, 0);
    if (!same_beside_channels(t.shape, in_type(&r, 1).shape)) {
        fail(&r, "x is %s and y is %s, expected them to differ in channels alone", type_name(&r, t),
             type_name(&r, in_type(&r, 1)));
        note_operand(&r, 0, "x");
        note_operand(&r, 1, "y");
        return false;
    }
    t.shape.dim[1] += in_dim(&r, 1, 1);
    return result(&r, t);
}

bool infer_slice(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t begin = ir_int(v, A_BEGIN), channels = ir_int(v, A_CHANNELS);
    if (!want_channels(&r, 0, "x"))
        return false;
    Type t = in_type(&r, 0);
    if (begin >= t.shape.dim[1] || begin + channels <= 0)
        return fail(&r, "channels %lld to %lld, x has 0 to %lld: nothing of it is left", (long long)begin,
                    (long long)(begin + channels - 1), (long long)t.shape.dim[1] - 1);
    t.shape.dim[1] = channels;
    return result(&r, t);
}

bool infer_pad_image(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule           r = RULE;
    const int64_t *pad = ir_pads(v, A_PAD);
    if (!want_image(&r, 0, "x"))
        return false;
    const int64_t h = in_dim(&r, 0, 2), w = in_dim(&r, 0, 3);
    /* also before zeros are added on the other side: an image of zeros alone is a mistake */
    if (h + dt_min64(pad[0], 0) + dt_min64(pad[2], 0) < 1 || w + dt_min64(pad[1], 0) + dt_min64(pad[3], 0) < 1)
        return fail(&r, "pad [%lld,%lld,%lld,%lld] leaves nothing of an image of %lldx%lld", (long long)pad[0],
                    (long long)pad[1], (long long)pad[2], (long long)pad[3], (long long)h, (long long)w);
    return result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), h + pad[0] + pad[2], w + pad[1] + pad[3]));
}

bool infer_upsample(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t f = ir_int(v, A_FACTOR);
    return want_image(&r, 0, "x") &&
           result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), in_dim(&r, 0, 2) * f, in_dim(&r, 0, 3) * f));
}

bool infer_upsample_grad(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t f = ir_int(v, A_FACTOR);
    if (!want_image(&r, 0, "g"))
        return false;
    if (in_dim(&r, 0, 2) % f != 0 || in_dim(&r, 0, 3) % f != 0)
        return fail(&r, "g is %s, expected a height and a width that %lld divides", type_name(&r, in_type(&r, 0)),
                    (long long)f);
    return result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), in_dim(&r, 0, 2) / f, in_dim(&r, 0, 3) / f));
}
