/* dsl.c: the layers with weights, and those that change shapes. Each function checks what it was given, says once what
 * is wrong with it (op, expected, found, what to do, and where its operands come from), and appends ops to the graph of
 * the step that is being built. How a layer is made: layer.h. Element-wise layers: dsl_act.c.
 *
 * Tested by tests/unit/test_dsl.c (shapes, names, params) and tests/unit/test_diag_dsl.c (messages). */
#include "frontend/layer.h"

/* ---- Layers with weights ----------------------------------------------------------------------------------------- */

/* PyTorch's own layers start their biases like their weights; who starts from fan out starts them from zero. */
static const char *first_bias(bool torch_init, bool fan_out)
{
    return torch_init && !fan_out ? "torch" : "zeros";
}

/* TensorFlow's SAME: as many rows as windows begin in, ceil(size / stride), with as much padding as these need. */
static bool same_pads(Layer *l, const DtConv2d *a, Window *win)
{
    if (a->pad || a->pad4[0] || a->pad4[1] || a->pad4[2] || a->pad4[3]) {
        layer_error(l, "both same and %s are given", a->pad ? "pad" : "pad4");
        layer_help(l, "same chooses the padding by the size of x");
        return false;
    }
    for (int i = 0; i < 2; i++) {
        const int64_t size = l->in.dim[2 + i], windows = dt_ceil_div(size, win->stride);
        const int64_t pad = dt_max64((windows - 1) * win->stride + win->kernel - size, 0);
        win->pad[i] = pad / 2;
        win->pad[i + 2] = pad - pad / 2; /* the odd one below and right */
    }
    return true;
}

static bool check_conv(Layer *l, const DtConv2d *a, Window *win, int64_t groups)
{
    if (!layer_check_rank4(l) ||
        !layer_check_int(l, "out", a->out, 1, MAX_WIDTH, "say how many channels come out: conv2d(x, 16, 3)") ||
        !layer_check_int(l, "kernel", a->kernel, 1, MAX_WINDOW,
                         "say how large the window is: conv2d(x, 16, 3) is 3x3") ||
        !layer_check_int(l, "stride", win->stride, 1, MAX_WINDOW, NULL) ||
        !layer_check_int(l, "groups", groups, 1, MAX_WIDTH, NULL) ||
        !(a->same ? same_pads(l, a, win) : layer_check_pads(l, win, a->pad, a->pad4, MAX_WINDOW)))
        return false;
    if (l->in.dim[1] % groups != 0 || a->out % groups != 0) {
        layer_error(l, "groups is %lld, expected a divisor of both %lld channels in and %d out", (long long)groups,
                    (long long)l->in.dim[1], a->out);
        layer_note_operand(l, "x", l->x);
        return false;
    }
    return layer_check_window(l, win);
}

Tensor dt_conv2d_(DtConv2d a)
{
    Layer l;
    if (!layer_open(&l, "conv2d", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const int64_t groups = a.groups ? a.groups : 1;
    Window        win = { .kernel = a.kernel, .stride = a.stride ? a.stride : 1 };
    if (!check_conv(&l, &a, &win, groups))
        return layer_poison(&l);
    const Shape weight = shape_of(4, (const int64_t[]){ a.out, l.in.dim[1] / groups, a.kernel, a.kernel });
    const Shape out = shape_of(4, (const int64_t[]){ l.in.dim[0], a.out, win.out_h, win.out_w });
    if (!layer_check_size(&l, "weight", weight) || !layer_check_size(&l, "result", out) ||
        !layer_start(&l, "conv", a.name))
        return layer_poison(&l);

    const int64_t taps = (int64_t)a.kernel * a.kernel, fan = a.fan_out ? a.out / groups * taps : weight.dim[1] * taps;
    ValueId       in[3] = { l.x, layer_param(&l, "weight", weight, a.torch_init ? "torch" : "kaiming", fan, "weight") };
    if (!a.no_bias)
        in[2] = layer_param(&l, "bias", vector_shape(a.out), first_bias(a.torch_init, a.fan_out), fan, "bias");
    const AttrSet attrs[] = { AI(STRIDE, win.stride), AP(PAD, win.pad[0], win.pad[1], win.pad[2], win.pad[3]),
                              AI(GROUPS, groups) };
    return layer_tensor(&l, ir_emit_(&l.ctx->b, OP_CONV2D, in, a.no_bias ? 2 : 3, attrs, DT_COUNT(attrs)));
}

Tensor dt_linear_(DtLinear a)
{
    Layer l;
    if (!layer_open(&l, "linear", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (l.in.rank == 4 && (l.in.dim[2] != 1 || l.in.dim[3] != 1)) {
        layer_error(&l, "x is %s, expected [N, I] or [N, I, 1, 1]", layer_shape(&l, l.in));
        layer_note_operand(&l, "x", l.x);
        layer_help(&l, "put flatten(x) or global_avgpool(x) before it");
        return layer_poison(&l);
    }
    const int64_t in = l.in.dim[1];
    const Shape   weight = shape_of(2, (const int64_t[]){ a.out, in });
    if (!layer_check_int(&l, "out", a.out, 1, MAX_WIDTH, "say how many features come out: linear(x, 10)") ||
        !layer_check_size(&l, "weight", weight) ||
        !layer_check_size(&l, "result", shape_of(2, (const int64_t[]){ l.in.dim[0], a.out })) ||
        !layer_start(&l, "fc", a.name))
        return layer_poison(&l);

    Builder *b = &l.ctx->b;
    ValueId  x = l.in.rank == 2 ? l.x : ir_emit(b, OP_RESHAPE, IR_IN(l.x), AI(CHANNELS, in));
    int64_t  fan = a.fan_out ? a.out : in;
    ValueId  w = layer_param(&l, "weight", weight, a.torch_init ? "torch" : "kaiming", fan, "weight");
    if (a.no_bias)
        return layer_tensor(&l, ir_emit(b, OP_LINEAR, IR_IN(x, w)));
    ValueId bias = layer_param(&l, "bias", vector_shape(a.out), first_bias(a.torch_init, a.fan_out), fan, "bias");
    return layer_tensor(&l, ir_emit(b, OP_LINEAR, IR_IN(x, w, bias)));
}

/* ---- Batch norm -------------------------------------------------------------------------------------------------- */

static bool check_batchnorm(Layer *l, double eps, double momentum, int64_t count)
{
    if (!(eps > 0 && eps < 1)) {
        layer_error(l, "eps is %g, expected above 0 and below 1", eps);
        return false;
    }
    if (!(momentum > 0 && momentum <= 1)) {
        layer_error(l, "momentum is %g, expected above 0 and at most 1", momentum);
        layer_help(l, "running = running + momentum (batch - running), as in PyTorch; 0.1 is usual");
        return false;
    }
    if ((l->ctx->step == STEP_TRAIN || l->ctx->step == STEP_REESTIMATE) && count < 2) {
        layer_error(l, "a channel of x (%s) has one value, its variance needs at least two", layer_shape(l, l->in));
        layer_help(l, "train with a larger batch");
        return false;
    }
    return true;
}

/* What a batch counts for in the mean over batches: 1 for the first, 1/2 for the second, ... */
static ValueId rate_input(DtContext *ctx)
{
    ValueId there = ir_find(ctx->b.g, "rate");
    if (there != VALUE_NONE)
        return there;
    return ir_leaf(&ctx->b, OP_INPUT, "rate", (Type){ DTYPE_F32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
}

Tensor dt_batchnorm_(DtBatchnorm a)
{
    Layer l;
    if (!layer_open(&l, "batchnorm", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const double  eps = a.eps != 0 ? (double)a.eps : 1e-5, momentum = a.momentum != 0 ? (double)a.momentum : 0.1;
    const int64_t count = shape_elems(l.in) / l.in.dim[1];
    if (!check_batchnorm(&l, eps, momentum, count) || !layer_start(&l, "bn", a.name))
        return layer_poison(&l);

    Builder    *b = &l.ctx->b;
    const Shape c = vector_shape(l.in.dim[1]);
    ValueId     gamma = layer_param(&l, "gamma", c, "ones", 0, "norm");
    ValueId     beta = layer_param(&l, "beta", c, "zeros", 0, "norm");
    ValueId     running_mean = layer_state(&l, "running_mean", c, "zeros");
    ValueId     running_var = layer_state(&l, "running_var", c, "ones");
    if (l.ctx->step != STEP_TRAIN && l.ctx->step != STEP_INIT && l.ctx->step != STEP_REESTIMATE)
        return layer_tensor(&l,
                            ir_emit(b, OP_BATCHNORM, IR_IN(l.x, running_mean, running_var, gamma, beta), AF(EPS, eps)));

    /* Sums are taken around the running mean: the nearer the shift, the less is lost to cancellation. */
    ValueId      mean = ir_emit(b, OP_BN_MEAN, IR_IN(l.x, running_mean));
    ValueId      var = ir_emit(b, OP_BN_VAR, IR_IN(l.x, running_mean));
    ValueId      y = ir_emit(b, OP_BATCHNORM, IR_IN(l.x, mean, var, gamma, beta), AF(EPS, eps));
    const double unbiased = (double)count / (double)(count > 1 ? count - 1 : 1);
    if (l.ctx->step == STEP_TRAIN) {
        ir_assign(b, running_mean, ir_emit(b, OP_EMA, IR_IN(running_mean, mean), AF(MOMENTUM, momentum)));
        ir_assign(b, running_var,
                  ir_emit(b, OP_EMA, IR_IN(running_var, var), AF(MOMENTUM, momentum), AF(SCALE, unbiased)));
    } else if (l.ctx->step == STEP_REESTIMATE) {
        ValueId rate = rate_input(l.ctx);
        ir_assign(b, running_mean, ir_emit(b, OP_LERP, IR_IN(running_mean, mean, rate)));
        ir_assign(b, running_var, ir_emit(b, OP_LERP, IR_IN(running_var, var, rate), AF(SCALE, unbiased)));
    }
    return layer_tensor(&l, y);
}

/* ---- Layers without weights -------------------------------------------------------------------------------------- */

Tensor dt_flatten_(DtUnary a)
{
    Layer l;
    if (!layer_open(&l, "flatten", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const int64_t features = shape_elems(l.in) / l.in.dim[0];
    if (!layer_check_size(&l, "result", shape_of(2, (const int64_t[]){ l.in.dim[0], features })) ||
        !layer_start(&l, "flatten", a.name))
        return layer_poison(&l);
    if (l.in.rank == 2)
        return a.x;
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_RESHAPE, IR_IN(l.x), AI(CHANNELS, features)));
}

Tensor dt_global_avgpool_(DtUnary a)
{
    Layer l;
    if (!layer_open(&l, "global_avgpool", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!layer_check_rank4(&l) || !layer_start(&l, "gap", a.name))
        return layer_poison(&l);
    ValueId mean = ir_emit(&l.ctx->b, OP_GLOBAL_AVGPOOL, IR_IN(l.x));
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_RESHAPE, IR_IN(mean), AI(CHANNELS, l.in.dim[1])));
}

static Tensor pool(DtPool a, const char *op, OpCode code, int64_t max_kernel)
{
    Layer l;
    if (!layer_open(&l, op, a.x, a.at))
        return layer_pass_on(&l, a.x);
    Window win = { .kernel = a.kernel, .stride = a.stride ? a.stride : a.kernel };
    if (!layer_check_rank4(&l) ||
        !layer_check_int(&l, "kernel", a.kernel, 1, max_kernel, "say how large the window is: maxpool(x, 2) is 2x2") ||
        !layer_check_int(&l, "stride", win.stride, 1, MAX_WINDOW, NULL) ||
        !layer_check_pads(&l, &win, a.pad, a.pad4, win.kernel - 1) || /* so that each window holds an element */
        !layer_check_window(&l, &win) ||
        !layer_check_size(&l, "result",
                          shape_of(4, (const int64_t[]){ l.in.dim[0], l.in.dim[1], win.out_h, win.out_w })) ||
        !layer_start(&l, op, a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, code, IR_IN(l.x), AI(KERNEL, win.kernel), AI(STRIDE, win.stride),
                                    AP(PAD, win.pad[0], win.pad[1], win.pad[2], win.pad[3])));
}

/* The tap that was the largest is kept in a byte. */
Tensor dt_maxpool_(DtPool a)
{
    return pool(a, "maxpool", OP_MAXPOOL, MAX_POOL);
}

Tensor dt_avgpool_(DtPool a)
{
    return pool(a, "avgpool", OP_AVGPOOL, MAX_WINDOW);
}

Tensor dt_shortcut_a_(DtShortcut a)
{
    Layer l;
    if (!layer_open(&l, "shortcut_a", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const int64_t stride = a.stride ? a.stride : 1;
    if (!layer_check_rank4(&l) ||
        !layer_check_int(&l, "channels", a.channels, 1, MAX_WIDTH,
                         "say how many channels come out: shortcut_a(x, 32, .stride = 2)") ||
        !layer_check_int(&l, "stride", stride, 1, MAX_WINDOW, NULL))
        return layer_poison(&l);
    const int64_t more = a.channels - l.in.dim[1];
    if (more < 0 || more % 2 != 0) {
        layer_error(&l, "channels is %d, expected %lld of x or an even number more", a.channels,
                    (long long)l.in.dim[1]);
        layer_note_operand(&l, "x", l.x);
        layer_help(&l, "zero channels are added, half of them on each side");
        return layer_poison(&l);
    }
    const Shape out = shape_of(4, (const int64_t[]){ l.in.dim[0], a.channels, dt_ceil_div(l.in.dim[2], stride),
                                                     dt_ceil_div(l.in.dim[3], stride) });
    if (!layer_check_size(&l, "result", out) || !layer_start(&l, "shortcut", a.name))
        return layer_poison(&l);
    if (more == 0 && stride == 1)
        return a.x;
    return layer_tensor(&l,
                        ir_emit(&l.ctx->b, OP_SHORTCUT_A, IR_IN(l.x), AI(STRIDE, stride), AI(CHANNELS, a.channels)));
}
