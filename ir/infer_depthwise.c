/* infer_depthwise.c: the types of depthwise convolutions, of their gradients, and of their weights turned around. These
 * ops are made by the decompose pass from conv2d, whose own rules (infer_layers.c) speak to users.
 *
 * Tested by tests/unit/test_depthwise.c and the op matrix. */
#include "ir/infer_impl.h"

/* How many windows fit along a side of `size`; 0: none. */
static int64_t count_of(const Rule *r, int64_t size, int32_t before, int64_t kernel)
{
    const int64_t *pad = ir_pads(r->v, A_PAD);
    int64_t        room = size + pad[before] + pad[before + 2] - kernel;
    return room < 0 ? 0 : room / ir_int(r->v, A_STRIDE) + 1;
}

/* An image of windows over images h x w with `channels`. False: there is none, which is reported. */
static bool windows_type(const Rule *r, int64_t n, int64_t channels, int64_t h, int64_t w, int64_t kernel, Type *out)
{
    int64_t oh = count_of(r, h, 0, kernel), ow = count_of(r, w, 1, kernel);
    if (oh == 0 || ow == 0)
        return fail(r, "a window of %lldx%lld does not fit into a padded image of %lldx%lld", (long long)kernel,
                    (long long)kernel, (long long)h, (long long)w);
    *out = image_type(n, channels, oh, ow);
    return true;
}

/* Operand 1 is a weight for the channels of operand 0, turned: [1,C,R,R]. */
static bool want_turned(const Rule *r)
{
    if (!want_rank(r, 1, "w", DTYPE_F32, 4, "1,C,R,R"))
        return false;
    int64_t kernel = in_dim(r, 1, 2);
    return want_type(r, 1, "w", image_type(1, in_dim(r, 0, 1), kernel, kernel), "a window for each channel");
}

bool infer_depthwise_weight(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    if (!want_rank(&r, 0, "w", DTYPE_F32, 4, "C,1,R,R"))
        return false;
    if (in_dim(&r, 0, 1) != 1 || in_dim(&r, 0, 2) != in_dim(&r, 0, 3))
        return fail(&r, "w is %s, expected f32[C,1,R,R]", type_name(&r, in_type(&r, 0)));
    return result(&r, image_type(1, in_dim(&r, 0, 0), in_dim(&r, 0, 2), in_dim(&r, 0, 3)));
}

bool infer_depthwise(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule r = RULE;
    Type y;
    return want_image(&r, 0, "x") && want_turned(&r) &&
           windows_type(&r, in_dim(&r, 0, 0), in_dim(&r, 0, 1), in_dim(&r, 0, 2), in_dim(&r, 0, 3), in_dim(&r, 1, 2),
                        &y) &&
           result(&r, y);
}

bool infer_depthwise_grad_x(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    Type    y;
    int64_t h = ir_int(v, A_H), w = ir_int(v, A_W);
    return want_image(&r, 0, "dy") && want_turned(&r) &&
           windows_type(&r, in_dim(&r, 0, 0), in_dim(&r, 0, 1), h, w, in_dim(&r, 1, 2), &y) &&
           want_type(&r, 0, "dy", y, "the windows over images of h x w") &&
           result(&r, image_type(in_dim(&r, 0, 0), in_dim(&r, 0, 1), h, w));
}

bool infer_depthwise_grad_w(const Graph *g, const Value *v, Type *out, Diag *d, Loc at)
{
    Rule    r = RULE;
    Type    y;
    int64_t kernel = ir_int(v, A_KERNEL);
    return want_image(&r, 0, "dy") && want_image(&r, 1, "x") &&
           windows_type(&r, in_dim(&r, 1, 0), in_dim(&r, 1, 1), in_dim(&r, 1, 2), in_dim(&r, 1, 3), kernel, &y) &&
           want_type(&r, 0, "dy", y, "the windows over x") &&
           result(&r, image_type(in_dim(&r, 1, 1), 1, kernel, kernel));
}
