/* layer.c: a layer being made: is its operand sound, what is its name, what is wrong with what it was given.
 *
 * Used by all dsl*.c. Tested by tests/unit/test_diag_dsl.c (messages) and test_dsl.c. */
#include "frontend/layer.h"

/* ---- A layer being made ------------------------------------------------------------------------------------------ */

Tensor layer_tensor(const Layer *l, ValueId id)
{
    if (id == VALUE_NONE)
        return (Tensor){ l->ctx, -1 };
    while (l->ctx->made_by.len <= id)
        vec_push(l->ctx->arena, &l->ctx->made_by, NULL);
    l->ctx->made_by.at[id] = l->op;
    return (Tensor){ l->ctx, id };
}

Tensor layer_poison(const Layer *l)
{
    return (Tensor){ l->ctx, -1 };
}

const char *layer_shape(const Layer *l, Shape s)
{
    return shape_text(l->ctx->arena, s);
}

bool layer_open(Layer *l, const char *op, Tensor x, DtAt at)
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
Tensor layer_pass_on(const Layer *l, Tensor x)
{
    if (l->ctx)
        return layer_poison(l);
    return (Tensor){ NULL, !x.ctx && x.id <= -2 ? x.id : -2 - l->at.line };
}

bool layer_start(Layer *l, const char *kind, const char *name)
{
    l->name = context_take_name(l->ctx, l->op, kind, name, l->at);
    l->ctx->b.at = l->at;
    l->ctx->b.scope = context_scope(l->ctx);
    if (l->ctx->prefix)
        l->ctx->b.scope = arena_printf(l->ctx->arena, "%s%s", l->ctx->prefix, l->ctx->b.scope ? l->ctx->b.scope : "");
    return l->name != NULL;
}

void layer_note_operand(Layer *l, const char *role, ValueId id)
{
    const Value *v = ir_value(l->ctx->b.g, id);
    const char  *maker = id < l->ctx->made_by.len ? l->ctx->made_by.at[id] : NULL;
    diag_note(l->ctx->b.d, v->origins[0].dsl, "%s is %s, made here by %s", role, layer_shape(l, v->type.shape),
              maker ? maker : "dt_image");
}

/* The operand that belongs to no living network, when the other one does. */
static Tensor stray_operand(const char *op, DtAt at, Tensor sound, const char *role, Tensor stray)
{
    if (sound.id < 0)
        return sound;
    if (stray.id <= -2 && !stray.ctx) {
        context_report_stray(sound.ctx, op, stray, loc_of(at));
    } else {
        diag_error(sound.ctx->b.d, loc_of(at), "%s: %s is a Tensor that no layer of this network made", op, role);
        diag_help(sound.ctx->b.d,
                  "assign it before it is used; do not keep it in a static variable from one build to the next");
    }
    return (Tensor){ sound.ctx, -1 };
}

bool layer_open_pair(Layer *l, Layer *other, const char *op, DtBinary a, Tensor *poison)
{
    if (tensor_is_stray(a.x) != tensor_is_stray(a.y)) {
        *poison =
            tensor_is_stray(a.x) ? stray_operand(op, a.at, a.y, "x", a.x) : stray_operand(op, a.at, a.x, "y", a.y);
        return false;
    }
    if (!layer_open(l, op, a.x, a.at)) {
        *poison = layer_pass_on(l, a.x);
        return false;
    }
    *poison = layer_poison(l);
    if (a.y.ctx != a.x.ctx) {
        layer_error(l, "x and y belong to two networks that are built at the same time");
        return false;
    }
    return layer_open(other, op, a.y, a.at);
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

bool layer_check_rank4(Layer *l)
{
    if (l->in.rank == 4)
        return true;
    layer_error(l, "x is %s, expected an image [N, C, H, W]", layer_shape(l, l->in));
    layer_note_operand(l, "x", l->x);
    return false;
}

bool layer_check_int(Layer *l, const char *field, int64_t value, int64_t min, int64_t max, const char *help)
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

bool layer_check_size(Layer *l, const char *what, Shape s)
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

bool layer_check_pads(Layer *l, Window *win, int pad, const int pad4[4], int64_t max)
{
    bool four = pad4[0] || pad4[1] || pad4[2] || pad4[3];
    if (pad && four) {
        layer_error(l, "both pad and pad4 are given");
        layer_help(l, "pad is for all sides; pad4 is { top, left, bottom, right }");
        return false;
    }
    for (int i = 0; i < 4; i++) {
        win->pad[i] = four ? pad4[i] : pad;
        if (!layer_check_int(l, four ? "pad4" : "pad", win->pad[i], 0, max, NULL))
            return false;
    }
    return true;
}

bool layer_check_window(Layer *l, Window *win)
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

ValueId layer_param(Layer *l, const char *what, Shape s, const char *init, int64_t fan, const char *group)
{
    if (l->ctx->prefix) /* nobody trains it */
        return layer_state(l, what, s, "zeros");
    const AttrSet attrs[] = { AT(INIT, init), AI(FAN, fan), AT(GROUP, group) };
    const char   *symbol = arena_printf(l->ctx->arena, "%s.%s", l->name, what);
    return ir_leaf(&l->ctx->b, OP_PARAM, symbol, (Type){ DTYPE_F32, s, LAYOUT_ROWS }, attrs, DT_COUNT(attrs));
}

ValueId layer_state(Layer *l, const char *what, Shape s, const char *init)
{
    const AttrSet attrs[] = { AT(INIT, init) };
    const char   *symbol = arena_printf(l->ctx->arena, "%s.%s", l->name, what);
    return ir_leaf(&l->ctx->b, OP_STATE, symbol, (Type){ DTYPE_F32, s, LAYOUT_ROWS }, attrs, DT_COUNT(attrs));
}

ValueId layer_random_input(DtContext *ctx, ValueId *input, const char *name)
{
    if (*input == VALUE_NONE)
        *input = ir_leaf(&ctx->b, OP_INPUT, name, (Type){ DTYPE_U32, shape_of(0, NULL), LAYOUT_ROWS }, NULL, 0);
    return *input;
}

int64_t layer_stream(const Layer *l)
{
    return hash_u32(l->name) & 0x7fffffff;
}
