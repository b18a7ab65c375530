/* dsl.c: the layers. Each function checks what it was given, says once what is wrong with it (op, expected, found, what
 * to do, and where its operands come from), and appends ops to the graph of the step that is being built.
 *
 * Three rules keep one mistake one error: a poisoned operand gives a poisoned result without a word; a size of 0 after
 * an earlier error (dt_channels() of a poisoned tensor) is not reported again; a name is taken only by a sound layer.
 *
 * Tested by tests/unit/test_dsl.c (shapes, names, params) and tests/unit/test_diag_dsl.c (messages). */
#include "frontend/context.h"

#include <math.h>

enum { MAX_WIDTH = 1 << 24, MAX_WINDOW = 1024, MAX_POOL = 16 };

/* ---- A layer being made ------------------------------------------------------------------------------------------ */

typedef struct Layer {
    DtContext  *ctx;
    const char *op;   /* first word of messages */
    const char *name; /* "s1.b0.conv1" */
    Loc         at;
    ValueId     x;
    Shape       in; /* of x */
} Layer;

#define layer_error(l, fmt, ...) diag_error((l)->ctx->b.d, (l)->at, "%s: " fmt, (l)->op, ##__VA_ARGS__)
#define layer_help(l, ...) diag_help((l)->ctx->b.d, __VA_ARGS__)

/* The layer's result. Messages about it later speak of the layer, not of the ops it became. */
static Tensor layer_tensor(const Layer *l, ValueId id)
{
    if (id == VALUE_NONE)
        return (Tensor){ l->ctx, -1 };
    while (l->ctx->made_by.len <= id)
        vec_push(l->ctx->arena, &l->ctx->made_by, NULL);
    l->ctx->made_by.at[id] = l->op;
    return (Tensor){ l->ctx, id };
}

static Tensor layer_poison(const Layer *l)
{
    return (Tensor){ l->ctx, -1 };
}

static const char *layer_shape(const Layer *l, Shape s)
{
    return shape_text(l->ctx->arena, s);
}

/* False: the result is poison without a word. */
static bool layer_open(Layer *l, const char *op, Tensor x, DtAt at)
{
    if (tensor_is_stray(x)) {
        *l = (Layer){ .ctx = NULL, .op = op, .at = loc_of(at) };
        return false;
    }
    *l = (Layer){ .ctx = x.ctx, .op = op, .at = loc_of(at), .x = x.id };
    if (x.id < 0 || x.id >= x.ctx->b.g->values.len)
        return false;
    l->in = ir_value(x.ctx->b.g, x.id)->type.shape;
    if (x.ctx->layers.len < DSL_MAX_LAYERS)
        return true;
    if (!context_failed(x.ctx)) {
        layer_error(l, "the network has more than %d layers", DSL_MAX_LAYERS);
        layer_help(l, "check that the loop or recursion around this line ends");
    }
    return false;
}

/* The result when layer_open said no: a tensor of no context keeps the line where that was noticed. */
static Tensor layer_pass_on(const Layer *l, Tensor x)
{
    if (l->ctx)
        return layer_poison(l);
    return (Tensor){ NULL, !x.ctx && x.id <= -2 ? x.id : -2 - l->at.line };
}

/* The checks are done: takes the name; what is emitted from here on is this layer's. */
static bool layer_start(Layer *l, const char *kind, const char *name)
{
    l->name = context_take_name(l->ctx, l->op, kind, name, l->at);
    l->ctx->b.at = l->at;
    l->ctx->b.scope = context_scope(l->ctx);
    return l->name != NULL;
}

static void layer_note_operand(Layer *l, const char *role, ValueId id)
{
    const Value *v = ir_value(l->ctx->b.g, id);
    const char  *maker = id < l->ctx->made_by.len ? l->ctx->made_by.at[id] : NULL;
    diag_note(l->ctx->b.d, v->origins[0].dsl, "%s is %s, made here by %s", role, layer_shape(l, v->type.shape),
              maker ? maker : "dt_image");
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

static bool check_rank4(Layer *l)
{
    if (l->in.rank == 4)
        return true;
    layer_error(l, "x is %s, expected an image [N, C, H, W]", layer_shape(l, l->in));
    layer_note_operand(l, "x", l->x);
    return false;
}

static bool check_int(Layer *l, const char *field, int64_t value, int64_t min, int64_t max, const char *help)
{
    if (value >= min && value <= max)
        return true;
    if (value == 0 && context_failed(l->ctx))
        return false;
    layer_error(l, "%s is %lld, expected %lld to %lld", field, (long long)value, (long long)min, (long long)max);
    if (help)
        layer_help(l, "%s", help);
    return false;
}

static bool check_size(Layer *l, const char *what, Shape s)
{
    int64_t elems = 1;
    bool    fits = true;
    for (int32_t i = 0; i < s.rank; i++)
        fits = fits && s.dim[i] <= DT_MAX_DIM && dt_mul64(elems, s.dim[i], &elems);
    if (fits && elems <= INT32_MAX)
        return true;
    layer_error(l, "the %s would be %s: more than 2^31 - 1 elements, or a dimension above %d", what, layer_shape(l, s),
                DT_MAX_DIM);
    return false;
}

/* Windows of convolutions and pools. */
typedef struct Window {
    int64_t kernel, stride, pad[4], out_h, out_w;
} Window;

static bool check_pads(Layer *l, Window *win, int pad, const int pad4[4], int64_t max)
{
    bool four = pad4[0] || pad4[1] || pad4[2] || pad4[3];
    if (pad && four) {
        layer_error(l, "both pad and pad4 are given");
        layer_help(l, "pad is for all sides; pad4 is { top, left, bottom, right }");
        return false;
    }
    for (int i = 0; i < 4; i++) {
        win->pad[i] = four ? pad4[i] : pad;
        if (!check_int(l, four ? "pad4" : "pad", win->pad[i], 0, max, NULL))
            return false;
    }
    return true;
}

static bool check_window(Layer *l, Window *win)
{
    const int64_t h = l->in.dim[2] + win->pad[0] + win->pad[2], w = l->in.dim[3] + win->pad[1] + win->pad[3];
    if (win->kernel > h || win->kernel > w) {
        layer_error(l, "a window of %lldx%lld does not fit the image of %lldx%lld (padding included)",
                    (long long)win->kernel, (long long)win->kernel, (long long)h, (long long)w);
        layer_note_operand(l, "x", l->x);
        layer_help(l, "a smaller kernel, fewer strides before, or .pad = %lld", (long long)win->kernel / 2);
        return false;
    }
    win->out_h = (h - win->kernel) / win->stride + 1;
    win->out_w = (w - win->kernel) / win->stride + 1;
    return true;
}

/* ---- Params and states ------------------------------------------------------------------------------------------- */

static ValueId layer_param(Layer *l, const char *what, Shape s, const char *init, int64_t fan, const char *group)
{
    const AttrSet attrs[] = { AT(INIT, init), AI(FAN, fan), AT(GROUP, group) };
    const char   *symbol = arena_printf(l->ctx->arena, "%s.%s", l->name, what);
    return ir_leaf(&l->ctx->b, OP_PARAM, symbol, (Type){ DTYPE_F32, s, LAYOUT_ROWS }, attrs, DT_COUNT(attrs));
}

static ValueId layer_state(Layer *l, const char *what, Shape s, const char *init)
{
    const AttrSet attrs[] = { AT(INIT, init) };
    const char   *symbol = arena_printf(l->ctx->arena, "%s.%s", l->name, what);
    return ir_leaf(&l->ctx->b, OP_STATE, symbol, (Type){ DTYPE_F32, s, LAYOUT_ROWS }, attrs, DT_COUNT(attrs));
}

static Shape vector_shape(int64_t n)
{
    return shape_of(1, &n);
}

/* ---- Layers with weights ----------------------------------------------------------------------------------------- */

static bool check_conv(Layer *l, const DtConv2d *a, Window *win, int64_t groups)
{
    if (!check_rank4(l) ||
        !check_int(l, "out", a->out, 1, MAX_WIDTH, "say how many channels come out: conv2d(x, 16, 3)") ||
        !check_int(l, "kernel", a->kernel, 1, MAX_WINDOW, "say how large the window is: conv2d(x, 16, 3) is 3x3") ||
        !check_int(l, "stride", win->stride, 1, MAX_WINDOW, NULL) ||
        !check_int(l, "groups", groups, 1, MAX_WIDTH, NULL) || !check_pads(l, win, a->pad, a->pad4, MAX_WINDOW))
        return false;
    if (l->in.dim[1] % groups != 0 || a->out % groups != 0) {
        layer_error(l, "groups is %lld, expected a divisor of both %lld channels in and %d out", (long long)groups,
                    (long long)l->in.dim[1], a->out);
        layer_note_operand(l, "x", l->x);
        return false;
    }
    return check_window(l, win);
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
    if (!check_size(&l, "weight", weight) || !check_size(&l, "result", out) || !layer_start(&l, "conv", a.name))
        return layer_poison(&l);

    const int64_t fan = shape_elems(weight) / a.out;
    ValueId       in[3] = { l.x, layer_param(&l, "weight", weight, a.torch_init ? "torch" : "kaiming", fan, "weight") };
    if (!a.no_bias)
        in[2] = layer_param(&l, "bias", vector_shape(a.out), a.torch_init ? "torch" : "zeros", fan, "bias");
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
    if (!check_int(&l, "out", a.out, 1, MAX_WIDTH, "say how many features come out: linear(x, 10)") ||
        !check_size(&l, "weight", weight) ||
        !check_size(&l, "result", shape_of(2, (const int64_t[]){ l.in.dim[0], a.out })) ||
        !layer_start(&l, "fc", a.name))
        return layer_poison(&l);

    Builder *b = &l.ctx->b;
    ValueId  x = l.in.rank == 2 ? l.x : ir_emit(b, OP_RESHAPE, IR_IN(l.x), AI(CHANNELS, in));
    ValueId  w = layer_param(&l, "weight", weight, a.torch_init ? "torch" : "kaiming", in, "weight");
    if (a.no_bias)
        return layer_tensor(&l, ir_emit(b, OP_LINEAR, IR_IN(x, w)));
    ValueId bias = layer_param(&l, "bias", vector_shape(a.out), a.torch_init ? "torch" : "zeros", in, "bias");
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
    if (l->ctx->step == STEP_TRAIN && count < 2) {
        layer_error(l, "a channel of x (%s) has one value, its variance needs at least two", layer_shape(l, l->in));
        layer_help(l, "train with a larger batch");
        return false;
    }
    return true;
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
    if (l.ctx->step != STEP_TRAIN && l.ctx->step != STEP_INIT)
        return layer_tensor(&l,
                            ir_emit(b, OP_BATCHNORM, IR_IN(l.x, running_mean, running_var, gamma, beta), AF(EPS, eps)));

    /* Sums are taken around the running mean: the nearer the shift, the less is lost to cancellation. */
    ValueId mean = ir_emit(b, OP_BN_MEAN, IR_IN(l.x, running_mean));
    ValueId var = ir_emit(b, OP_BN_VAR, IR_IN(l.x, running_mean));
    ValueId y = ir_emit(b, OP_BATCHNORM, IR_IN(l.x, mean, var, gamma, beta), AF(EPS, eps));
    if (l.ctx->step == STEP_TRAIN) {
        const double unbiased = (double)count / (double)(count - 1);
        ir_assign(b, running_mean, ir_emit(b, OP_EMA, IR_IN(running_mean, mean), AF(MOMENTUM, momentum)));
        ir_assign(b, running_var,
                  ir_emit(b, OP_EMA, IR_IN(running_var, var), AF(MOMENTUM, momentum), AF(SCALE, unbiased)));
    }
    return layer_tensor(&l, y);
}

/* ---- Layers without weights -------------------------------------------------------------------------------------- */

Tensor dt_relu_(DtUnary a)
{
    Layer l;
    if (!layer_open(&l, "relu", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!layer_start(&l, "relu", a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_RELU, IR_IN(l.x)));
}

Tensor dt_flatten_(DtUnary a)
{
    Layer l;
    if (!layer_open(&l, "flatten", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const int64_t features = shape_elems(l.in) / l.in.dim[0];
    if (!check_size(&l, "result", shape_of(2, (const int64_t[]){ l.in.dim[0], features })) ||
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
    if (!check_rank4(&l) || !layer_start(&l, "gap", a.name))
        return layer_poison(&l);
    ValueId mean = ir_emit(&l.ctx->b, OP_GLOBAL_AVGPOOL, IR_IN(l.x));
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_RESHAPE, IR_IN(mean), AI(CHANNELS, l.in.dim[1])));
}

/* The operand to add() that belongs to no living network, when the other one does. */
static Tensor add_stray(DtBinary a, Tensor sound, const char *role, Tensor stray)
{
    if (sound.id < 0)
        return sound;
    if (stray.id <= -2 && !stray.ctx) {
        context_report_stray(sound.ctx, "add", stray, loc_of(a.at));
    } else {
        diag_error(sound.ctx->b.d, loc_of(a.at), "add: %s is a Tensor that no layer of this network made", role);
        diag_help(sound.ctx->b.d,
                  "assign it before it is used; do not keep it in a static variable from one build to the next");
    }
    return (Tensor){ sound.ctx, -1 };
}

Tensor dt_add_(DtBinary a)
{
    Layer l;
    if (tensor_is_stray(a.x) != tensor_is_stray(a.y))
        return tensor_is_stray(a.x) ? add_stray(a, a.y, "x", a.x) : add_stray(a, a.x, "y", a.y);
    if (!layer_open(&l, "add", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (a.y.ctx != a.x.ctx) {
        layer_error(&l, "x and y belong to two networks that are built at the same time");
        return layer_poison(&l);
    }
    Layer other;
    if (!layer_open(&other, "add", a.y, a.at))
        return layer_poison(&l);
    if (!shape_eq(l.in, other.in)) {
        const char *scope = context_scope(l.ctx);
        layer_error(&l, "shapes differ: x is %s, y is %s%s%s%s", layer_shape(&l, l.in), layer_shape(&l, other.in),
                    scope ? " (in " : "", scope ? scope : "", scope ? ")" : "");
        layer_note_operand(&l, "x", l.x);
        layer_note_operand(&l, "y", other.x);
        const bool spatial = l.in.rank == 4 && other.in.rank == 4 && l.in.dim[2] != other.in.dim[2];
        layer_help(
            &l,
            spatial
                ? "give both branches the same strides and padding; shortcut_a(x, channels, .stride = 2) has no params"
                : "give both branches the same number of channels");
        return layer_poison(&l);
    }
    if (!layer_start(&l, "add", a.name))
        return layer_poison(&l);
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_ADD, IR_IN(l.x, other.x)));
}

static Tensor pool(DtPool a, const char *op, OpCode code, int64_t max_kernel)
{
    Layer l;
    if (!layer_open(&l, op, a.x, a.at))
        return layer_pass_on(&l, a.x);
    Window win = { .kernel = a.kernel, .stride = a.stride ? a.stride : a.kernel };
    if (!check_rank4(&l) ||
        !check_int(&l, "kernel", a.kernel, 1, max_kernel, "say how large the window is: maxpool(x, 2) is 2x2") ||
        !check_int(&l, "stride", win.stride, 1, MAX_WINDOW, NULL) ||
        !check_pads(&l, &win, a.pad, a.pad4, win.kernel - 1) || /* so that each window holds an element */
        !check_window(&l, &win) ||
        !check_size(&l, "result", shape_of(4, (const int64_t[]){ l.in.dim[0], l.in.dim[1], win.out_h, win.out_w })) ||
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

static ValueId dropout_input(DtContext *ctx, ValueId *input, const char *name)
{
    if (*input == VALUE_NONE)
        *input = ir_leaf(&ctx->b, OP_INPUT, name, (Type){ DTYPE_U32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
    return *input;
}

Tensor dt_dropout_(DtDropout a)
{
    Layer l;
    if (!layer_open(&l, "dropout", a.x, a.at))
        return layer_pass_on(&l, a.x);
    if (!(a.p >= 0 && a.p < 1)) {
        layer_error(&l, "p is %g, expected at least 0 and below 1", (double)a.p);
        layer_help(&l, "p is the probability that an element is dropped");
        return layer_poison(&l);
    }
    if (!layer_start(&l, "dropout", a.name))
        return layer_poison(&l);
    if (l.ctx->step != STEP_TRAIN || a.p == 0)
        return a.x;
    ValueId seed = dropout_input(l.ctx, &l.ctx->seed, "seed");
    ValueId turn = dropout_input(l.ctx, &l.ctx->turn, "step");
    return layer_tensor(&l, ir_emit(&l.ctx->b, OP_DROPOUT, IR_IN(l.x, seed, turn), AF(P, (double)a.p),
                                    AI(STREAM, hash_u32(l.name) & 0x7fffffff)));
}

Tensor dt_shortcut_a_(DtShortcut a)
{
    Layer l;
    if (!layer_open(&l, "shortcut_a", a.x, a.at))
        return layer_pass_on(&l, a.x);
    const int64_t stride = a.stride ? a.stride : 1;
    if (!check_rank4(&l) ||
        !check_int(&l, "channels", a.channels, 1, MAX_WIDTH,
                   "say how many channels come out: shortcut_a(x, 32, .stride = 2)") ||
        !check_int(&l, "stride", stride, 1, MAX_WINDOW, NULL))
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
    if (!check_size(&l, "result", out) || !layer_start(&l, "shortcut", a.name))
        return layer_poison(&l);
    if (more == 0 && stride == 1)
        return a.x;
    return layer_tensor(&l,
                        ir_emit(&l.ctx->b, OP_SHORTCUT_A, IR_IN(l.x), AI(STRIDE, stride), AI(CHANNELS, a.channels)));
}
