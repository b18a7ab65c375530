/* infer_layers.c: the types of convolutions, matrix products and pooling, of their gradients, and of products of codes.
 * The other rules, and when they run: infer.c.
 *
 * Tested by tests/unit/test_ir.c and test_intforward.c. */
#include "ir/infer_impl.h"

/* ---- Windows: convolutions and pooling ------------------------------------------------------------------------- */

/* How many windows of `kernel` fit along a side of `size`; 0: none. */
static int64_t windows(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t stride)
{
    int64_t room = size + before + after - kernel;
    return room < 0 ? 0 : room / stride + 1;
}

/* Output height and width for an image of h x w. */
static bool window_size(const Rule *r, int64_t h, int64_t w, int64_t kernel, int64_t *oh, int64_t *ow)
{
    const int64_t *pad = ir_pads(r->v, A_PAD);
    int64_t        stride = ir_int(r->v, A_STRIDE);
    *oh = windows(h, pad[0], pad[2], kernel, stride);
    *ow = windows(w, pad[1], pad[3], kernel, stride);
    if (*oh > 0 && *ow > 0)
        return true;
    return fail(r, "a window of %lldx%lld does not fit into an image of %lldx%lld with padding [%lld,%lld,%lld,%lld]",
                (long long)kernel, (long long)kernel, (long long)h, (long long)w, (long long)pad[0], (long long)pad[1],
                (long long)pad[2], (long long)pad[3]);
}

/* Weights [K, C/groups, R, R] that fit `groups`. */
static bool want_weight(const Rule *r, int32_t i, DType dtype)
{
    if (!want_rank(r, i, "w", dtype, 4, "K,C/groups,R,R"))
        return false;
    int64_t groups = ir_int(r->v, A_GROUPS);
    if (in_dim(r, i, 0) % groups != 0)
        return fail(r, "%lld output channels do not split into %lld groups", (long long)in_dim(r, i, 0),
                    (long long)groups);
    if (in_dim(r, i, 2) != in_dim(r, i, 3))
        return fail(r, "w is %s, expected a square window", type_name(r, in_type(r, i)));
    return true;
}

/* x has the channels that w reads. */
static bool channels_meet(const Rule *r)
{
    int64_t groups = ir_int(r->v, A_GROUPS), c = in_dim(r, 0, 1);
    if (in_dim(r, 1, 1) * groups == c)
        return true;
    fail(r, "x has %lld channels, expected %lld: w is %s, groups %lld", (long long)c,
         (long long)(in_dim(r, 1, 1) * groups), type_name(r, in_type(r, 1)), (long long)groups);
    note_operand(r, 0, "x");
    return false;
}

static bool conv2d_result(const Rule *r)
{
    int64_t oh, ow;
    return window_size(r, in_dim(r, 0, 2), in_dim(r, 0, 3), in_dim(r, 1, 2), &oh, &ow) &&
           result(r, image_type(in_dim(r, 0, 0), in_dim(r, 1, 0), oh, ow));
}

static bool want_bias(const Rule *r, const char *why)
{
    return r->v->n_in < 3 || want_type(r, 2, "bias", vector_type(in_dim(r, 1, 0)), why);
}

bool infer_conv2d(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_image(&r, 0, "x") && want_weight(&r, 1, DTYPE_F32) && channels_meet(&r) &&
           want_bias(&r, "one number for each output channel") && conv2d_result(&r);
}

/* Is dy the gradient of a convolution of images h x w by windows of `kernel` with k output channels? */
static bool want_conv_grad(const Rule *r, int64_t h, int64_t w, int64_t kernel)
{
    int64_t oh, ow;
    if (!window_size(r, h, w, kernel, &oh, &ow))
        return false;
    if (in_dim(r, 0, 2) == oh && in_dim(r, 0, 3) == ow)
        return true;
    fail(r, "dy is %s, expected %lldx%lld images: the convolution of %lldx%lld by %lldx%lld",
         type_name(r, in_type(r, 0)), (long long)oh, (long long)ow, (long long)h, (long long)w, (long long)kernel,
         (long long)kernel);
    note_operand(r, 0, "dy");
    return false;
}

/* With bf16 the second operand may be codes. */
static DType grad_operand_type(const Rule *r)
{
    DType t = in_type(r, 1).dtype;
    return ir_int(r->v, A_BF16) && (t == DTYPE_S8 || t == DTYPE_U8) ? t : DTYPE_F32;
}

static bool want_no_groups(const Rule *r)
{
    if (!ir_int(r->v, A_BF16) || ir_int(r->v, A_GROUPS) == 1)
        return true;
    return fail(r, "bf16 with %lld groups, expected none", (long long)ir_int(r->v, A_GROUPS));
}

bool infer_conv2d_grad_x(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t h = ir_int(v, A_H), w = ir_int(v, A_W);
    if (!want_image(&r, 0, "dy") || !want_weight(&r, 1, grad_operand_type(&r)) || !want_no_groups(&r) ||
        !want_conv_grad(&r, h, w, in_dim(&r, 1, 2)))
        return false;
    if (in_dim(&r, 0, 1) != in_dim(&r, 1, 0))
        return fail(&r, "dy has %lld channels, w makes %lld", (long long)in_dim(&r, 0, 1), (long long)in_dim(&r, 1, 0));
    return result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 1, 1) * ir_int(v, A_GROUPS), h, w));
}

bool infer_conv2d_grad_w(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t kernel = ir_int(v, A_KERNEL), groups = ir_int(v, A_GROUPS);
    if (!want_image(&r, 0, "dy") || !want_rank(&r, 1, "x", grad_operand_type(&r), 4, "N,C,H,W") ||
        !want_no_groups(&r) || !want_conv_grad(&r, in_dim(&r, 1, 2), in_dim(&r, 1, 3), kernel))
        return false;
    if (in_dim(&r, 0, 0) != in_dim(&r, 1, 0))
        return fail(&r, "dy is a batch of %lld, x of %lld", (long long)in_dim(&r, 0, 0), (long long)in_dim(&r, 1, 0));
    if (in_dim(&r, 1, 1) % groups != 0 || in_dim(&r, 0, 1) % groups != 0)
        return fail(&r, "%lld input and %lld output channels do not split into %lld groups",
                    (long long)in_dim(&r, 1, 1), (long long)in_dim(&r, 0, 1), (long long)groups);
    return result(&r, image_type(in_dim(&r, 0, 1), in_dim(&r, 1, 1) / groups, kernel, kernel));
}

/* Every window must meet the image: a padding as wide as the window would give one of padding alone. */
static bool pool_size(const Rule *r, int64_t h, int64_t w, int64_t *oh, int64_t *ow)
{
    const int64_t *pad = ir_pads(r->v, A_PAD);
    int64_t        kernel = ir_int(r->v, A_KERNEL);
    for (int32_t i = 0; i < 4; i++) {
        if (pad[i] >= kernel)
            return fail(r, "padding is %lld, expected less than the window's %lld", (long long)pad[i],
                        (long long)kernel);
    }
    return window_size(r, h, w, kernel, oh, ow);
}

bool infer_pool(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t oh, ow;
    return want_image(&r, 0, "x") && pool_size(&r, in_dim(&r, 0, 2), in_dim(&r, 0, 3), &oh, &ow) &&
           result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), oh, ow));
}

bool infer_tap(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (ir_int(v, A_KERNEL) > 16)
        return fail(&r, "kernel is %lld, expected at most 16: the number of a tap is one byte",
                    (long long)ir_int(v, A_KERNEL));
    if (!infer_pool(g, v, out, d, at))
        return false;
    out->dtype = DTYPE_U8;
    return true;
}

bool infer_pool_grad(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int32_t last = v->n_in - 1;
    int64_t h = ir_int(v, A_H), w = ir_int(v, A_W), oh, ow;
    if (!want_image(&r, last, "g") || !pool_size(&r, h, w, &oh, &ow))
        return false;
    Type pooled = image_type(in_dim(&r, last, 0), in_dim(&r, last, 1), oh, ow);
    if (!want_type(&r, last, "g", pooled, "what pooling gives"))
        return false;
    pooled.dtype = DTYPE_U8;
    if (last == 1 && !want_type(&r, 0, "tap", pooled, "one tap for each element of g"))
        return false;
    return result(&r, image_type(in_dim(&r, last, 0), in_dim(&r, last, 1), h, w));
}

/* ---- Matrix products -------------------------------------------------------------------------------------------- */

static bool features_meet(const Rule *r)
{
    if (in_dim(r, 0, 1) == in_dim(r, 1, 1))
        return true;
    fail(r, "x has %lld features, expected %lld: w is %s", (long long)in_dim(r, 0, 1), (long long)in_dim(r, 1, 1),
         type_name(r, in_type(r, 1)));
    note_operand(r, 0, "x");
    return false;
}

bool infer_linear(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_rank(&r, 0, "x", DTYPE_F32, 2, "N,I") && want_rank(&r, 1, "w", DTYPE_F32, 2, "O,I") &&
           features_meet(&r) && want_bias(&r, "one number for each output feature") &&
           result(&r, matrix_type(DTYPE_F32, in_dim(&r, 0, 0), in_dim(&r, 1, 0)));
}

bool infer_linear_grad_x(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_rank(&r, 0, "dy", DTYPE_F32, 2, "N,O") || !want_rank(&r, 1, "w", DTYPE_F32, 2, "O,I"))
        return false;
    if (in_dim(&r, 0, 1) != in_dim(&r, 1, 0))
        return fail(&r, "dy has %lld features, w makes %lld", (long long)in_dim(&r, 0, 1), (long long)in_dim(&r, 1, 0));
    return result(&r, matrix_type(DTYPE_F32, in_dim(&r, 0, 0), in_dim(&r, 1, 1)));
}

bool infer_linear_grad_w(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_rank(&r, 0, "dy", DTYPE_F32, 2, "N,O") || !want_rank(&r, 1, "x", DTYPE_F32, 2, "N,I"))
        return false;
    if (in_dim(&r, 0, 0) != in_dim(&r, 1, 0))
        return fail(&r, "dy is a batch of %lld, x of %lld", (long long)in_dim(&r, 0, 0), (long long)in_dim(&r, 1, 0));
    return result(&r, matrix_type(DTYPE_F32, in_dim(&r, 0, 1), in_dim(&r, 1, 1)));
}

/* ---- Codes ------------------------------------------------------------------------------------------------------ */

bool infer_quantize(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t lo = ir_int(v, A_LO), hi = ir_int(v, A_HI);
    Type    x = in_type(&r, 0);
    if (x.dtype != DTYPE_F32)
        return fail(&r, "x is %s, expected f32", type_name(&r, x));
    if (lo < 0 && hi > 127)
        return fail(&r, "codes %lld to %lld, expected -128 to 127 or 0 to 255: they are bytes", (long long)lo,
                    (long long)hi);
    if (!want_step(&r, 1, "step", x.shape) || (v->n_in > 2 && !want_step(&r, 2, "zero", x.shape)))
        return false;
    bool centred = ir_int(v, A_CENTRED);
    if (centred && hi - lo > 127)
        return fail(&r, "centred codes of %lld to %lld may be %lld apart from the zero point, expected at most 127",
                    (long long)lo, (long long)hi, (long long)(hi - lo));
    x.dtype = hi > 127 && !centred ? DTYPE_U8 : DTYPE_S8;
    return result(&r, x);
}

/* x: s8 or u8, w: s8, scale: f32, one number or one for each output channel. */
static bool want_codes(const Rule *r, int32_t rank, const char *x_dims)
{
    Type x = in_type(r, 0), scale = in_type(r, 2);
    if ((x.dtype != DTYPE_S8 && x.dtype != DTYPE_U8) || x.shape.rank != rank) {
        fail(r, "x is %s, expected s8[%s] or u8[%s]", type_name(r, x), x_dims, x_dims);
        note_operand(r, 0, "x");
        return false;
    }
    if (!(rank == 4 ? want_weight(r, 1, DTYPE_S8) : want_rank(r, 1, "w", DTYPE_S8, 2, "O,I")))
        return false;
    return (scale.dtype == DTYPE_F32 && scale.shape.rank == 0) ||
           want_type(r, 2, "scale", vector_type(in_dim(r, 1, 0)), "a scalar, or one number for each output channel");
}

bool infer_conv2d_int(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_codes(&r, 4, "N,C,H,W") && channels_meet(&r) && conv2d_result(&r);
}

bool infer_tap_outputs(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type w = in_type(&r, 0);
    if (w.shape.rank != 4 || w.shape.dim[2] != w.shape.dim[3])
        return fail(&r, "w is %s, expected [C,K,R,R]", type_name(&r, w));
    Type t = image_type(w.shape.dim[1] * w.shape.dim[2] * w.shape.dim[3], w.shape.dim[0], 1, 1);
    t.dtype = w.dtype;
    return result(&r, t);
}

bool infer_interleave(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    int64_t f = ir_int(v, A_FACTOR);
    if (!want_image(&r, 0, "x"))
        return false;
    if (in_dim(&r, 0, 1) % (f * f) != 0)
        return fail(&r, "x has %lld channels, expected a multiple of %lld", (long long)in_dim(&r, 0, 1),
                    (long long)(f * f));
    return result(&r,
                  image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1) / (f * f), f * in_dim(&r, 0, 2), f * in_dim(&r, 0, 3)));
}

bool infer_linear_int(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    return want_codes(&r, 2, "N,I") && features_meet(&r) &&
           result(&r, matrix_type(DTYPE_F32, in_dim(&r, 0, 0), in_dim(&r, 1, 0)));
}
