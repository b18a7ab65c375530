/* dsl_shape.c: layers of the DSL that change the size of an image or join two: transposed convolution, larger images,
 * borders, concatenation.
 *
 * How a layer is made: layer.h. Tested by tests/unit/test_dsl_shape.c (shapes, params) and tests/diag (messages). */
#include "frontend/layer.h"

/* Rows and columns of a transposed convolution's result, without the padding that is cut off. */
static bool check_transpose(Layer *l, const DtConvTranspose2d *a, Window *win)
{
    if (!layer_check_rank4(l) ||
        !layer_check_int(l, "out", a->out, 1, MAX_WIDTH,
                         "say how many channels come out: conv_transpose2d(x, 16, 2)") ||
        !layer_check_int(l, "kernel", a->kernel, 1, MAX_WINDOW,
                         "say how large the window is: conv_transpose2d(x, 16, 2) makes the image twice as large") ||
        !layer_check_int(l, "stride", win->stride, 1, MAX_WINDOW, NULL) ||
        !layer_check_pads(l, win, a->pad, a->pad4, win->kernel - 1)) /* so that each pixel has a part in the result */
        return false;
    win->out_h = (l->in.dim[2] - 1) * win->stride + win->kernel - win->pad[0] - win->pad[2];
    win->out_w = (l->in.dim[3] - 1) * win->stride + win->kernel - win->pad[1] - win->pad[3];
    if (win->out_h >= 1 && win->out_w >= 1)
        return true;
    layer_error(l, "padding leaves nothing of the result: %lldx%lld with .pad4 = { %lld, %lld, %lld, %lld }",
                (long long)win->out_h, (long long)win->out_w, (long long)win->pad[0], (long long)win->pad[1],
                (long long)win->pad[2], (long long)win->pad[3]);
    layer_note_operand(l, "x", l->x);
    layer_help(l, "padding is cut off here: (size - 1) stride + kernel - padding rows and columns remain");
    return false;
}

/* An element of the result is a sum of about C (kernel / stride)^2 products: the fan in of He's rule. PyTorch's start
 * takes the second dimension of its weight for it, as it does for convolutions. */
static int64_t transpose_fan(Shape weight, const Window *win, bool torch_init)
{
    const int64_t taps = win->kernel * win->kernel, each = win->stride * win->stride;
    return torch_init ? weight.dim[1] * taps : dt_max64(1, weight.dim[0] * taps / each);
}

Tensor dt_conv_transpose2d_(DtConvTranspose2d a)
{
    Layer l;
    if (!layer_open(&l, "conv_transpose2d", a.x, a.at))
        return layer_pass_on(&l, a.x);
    Window win = { .kernel = a.kernel, .stride = a.stride ? a.stride : a.kernel };
    if (!check_transpose(&l, &a, &win))
        return layer_poison(&l);
    const Shape weight = shape_of(4, (const int64_t[]){ l.in.dim[1], a.out, a.kernel, a.kernel });
    const Shape out = shape_of(4, (const int64_t[]){ l.in.dim[0], a.out, win.out_h, win.out_w });
    if (!layer_check_size(&l, "weight", weight) || !layer_check_size(&l, "result", out) ||
        !layer_start(&l, "deconv", a.name))
        return layer_poison(&l);

    Builder      *b = &l.ctx->b;
    const char   *init = a.torch_init ? "torch" : "kaiming";
    const int64_t fan = transpose_fan(weight, &win, a.torch_init);
    ValueId       w = layer_param(&l, "weight", weight, init, fan, "weight"), bias = VALUE_NONE;
    if (!a.no_bias)
        bias = layer_param(&l, "bias", vector_shape(a.out), a.torch_init ? "torch" : "zeros", fan, "bias");
    ValueId y = ir_emit(b, OP_CONV_TRANSPOSE2D, IR_IN(l.x, w), AI(STRIDE, win.stride),
                        AP(PAD, win.pad[0], win.pad[1], win.pad[2], win.pad[3]));
    if (!a.no_bias)
        y = ir_emit(b, OP_ADD, IR_IN(y, bias));
    return layer_tensor(&l, y);
}

Tensor dt_concat_(DtBinary a)
{
    Layer  l, other;
    Tensor poison;
    if (!layer_open_pair(&l, &other, "concat", a, &poison))
        return poison;
    Shape out = l.in;
    out.dim[1] = other.in.dim[1];
    if (!shape_eq(out, other.in)) {
        layer_error(&l, "x is %s and y is %s, expected them to differ in channels alone", layer_shape(&l, l.in),
                    layer_shape(&l, other.in));
        layer_note_operand(&l, "x", l.x);
        layer_note_operand(&l, "y", other.x);
        layer_help(&l, "upsample(), conv2d(.stride = 2) and pad_image() bring images to one size");
        return layer_poison(&l);
    }
    out.dim[1] += l.in.dim[1];
    if (!layer_check_size(&l, "result", out) || !layer_start(&l, "concat", a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_CONCAT, IR_IN(l.x, other.x)));
}

Tensor dt_upsample_(DtUpsample a)
{
    Layer l;
    if (!layer_open(&l, "upsample", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!layer_check_rank4(&l) ||
        !layer_check_int(&l, "factor", a.factor, 1, MAX_WINDOW, "say how much larger it becomes: upsample(x, 2)"))
        return layer_poison(&l);
    const Shape out =
        shape_of(4, (const int64_t[]){ l.in.dim[0], l.in.dim[1], l.in.dim[2] * a.factor, l.in.dim[3] * a.factor });
    if (!layer_check_size(&l, "result", out) || !layer_start(&l, "upsample", a.name))
        return layer_poison(&l);
    if (a.factor == 1)
        return a.x;
    return layer_tensor(&l,
                        ir_emit(&l.ctx->b, OP_UPSAMPLE, IR_IN(l.x), AI(FACTOR, a.factor), AI(BILINEAR, a.bilinear)));
}

/* What is cut off must be there. */
static bool check_borders(Layer *l, const int pad4[4])
{
    static const char *const sides[] = { "top", "left", "bottom", "right" };
    if (!layer_check_rank4(l))
        return false;
    for (int i = 0; i < 2; i++) { /* height, width */
        const int64_t size = l->in.dim[2 + i], cut = -(int64_t)dt_min64(pad4[i], 0) - dt_min64(pad4[i + 2], 0);
        if (cut < size)
            continue;
        layer_error(l, "pad4 cuts %lld %s off, expected fewer than the %lld there are", (long long)cut,
                    i == 0 ? "rows" : "columns", (long long)size);
        layer_note_operand(l, "x", l->x);
        return false;
    }
    for (int i = 0; i < 4; i++)
        if (!layer_check_int(l, arena_printf(l->ctx->arena, "pad4 (%s)", sides[i]), pad4[i], -DT_MAX_DIM, DT_MAX_DIM,
                             NULL))
            return false;
    return true;
}

Tensor dt_pad_image_(DtPadImage a)
{
    Layer      l;
    const int *pad = a.pad4;
    if (!layer_open(&l, "pad_image", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!check_borders(&l, pad))
        return layer_poison(&l);
    const Shape out = shape_of(
        4, (const int64_t[]){ l.in.dim[0], l.in.dim[1], l.in.dim[2] + pad[0] + pad[2], l.in.dim[3] + pad[1] + pad[3] });
    if (!layer_check_size(&l, "result", out) || !layer_start(&l, "pad", a.name))
        return layer_poison(&l);
    if (!pad[0] && !pad[1] && !pad[2] && !pad[3])
        return a.x;
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_PAD_IMAGE, IR_IN(l.x), AP(PAD, pad[0], pad[1], pad[2], pad[3])));
}
