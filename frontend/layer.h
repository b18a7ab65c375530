/* layer.h: what the files of layers (dsl*.c) share: a layer being made, checks of what it was given, its params.
 *
 *   Layer l;
 *   if (!layer_open(&l, "relu", a.x, a.at))        the operand is sound
 *       return layer_pass_on(&l, a.x);
 *   if (!layer_check_...(&l, ...) || !layer_start(&l, "relu", a.name))        its kind, for names: "relu1"
 *       return layer_poison(&l);
 *   return layer_tensor(&l, ir_emit(&l.ctx->b, OP_RELU, IR_IN(l.x)));
 *
 * Three rules keep one mistake one error: a poisoned operand gives a poisoned result without a word; a size of 0 after
 * an earlier error (dt_channels() of a poisoned tensor) is not reported again; a name is taken only by a sound layer.
 *
 * Tested by tests/unit/test_diag_dsl.c (messages) and test_dsl.c. */
#ifndef DETENT_FRONTEND_LAYER_H
#define DETENT_FRONTEND_LAYER_H

#include "frontend/context.h"

/* Channels and features; windows of convolutions; windows of maxpool, whose taps are kept in a byte. */
enum { MAX_WIDTH = 1 << 24, MAX_WINDOW = 1024, MAX_POOL = 16 };

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

/* False: the result is layer_pass_on(). */
bool   layer_open(Layer *l, const char *op, Tensor x, DtAt at);
Tensor layer_pass_on(const Layer *l, Tensor x);
/* Opens l for x and `other` for y. False: the result is *poison, reported where it has to be. */
bool layer_open_pair(Layer *l, Layer *other, const char *op, DtBinary a, Tensor *poison);
/* The checks are done: takes the name; what is emitted from here on is this layer's. False: poison, reported. */
bool layer_start(Layer *l, const char *kind, const char *name);
/* The layer's result. Messages about it later speak of the layer, not of the ops it became. */
Tensor      layer_tensor(const Layer *l, ValueId id);
Tensor      layer_poison(const Layer *l);

const char *layer_shape(const Layer *l, Shape s); /* "128x16x32x32" */
/* Adds to the last error where an operand comes from and what it is. */
void layer_note_operand(Layer *l, const char *role, ValueId id);

/* False: reported. */
bool layer_check_rank4(Layer *l);
bool layer_check_int(Layer *l, const char *field, int64_t value, int64_t min, int64_t max, const char *help);
bool layer_check_size(Layer *l, const char *what, Shape s); /* not more elements than a kernel can count */

/* Windows of convolutions and pools. */
typedef struct Window {
    int64_t kernel, stride, pad[4], out_h, out_w;
} Window;
bool    layer_check_pads(Layer *l, Window *win, int pad, const int pad4[4], int64_t max); /* sets win->pad */
bool    layer_check_window(Layer *l, Window *win);                                        /* sets out_h, out_w */

ValueId layer_param(Layer *l, const char *what, Shape s, const char *init, int64_t fan, const char *group);
ValueId layer_state(Layer *l, const char *what, Shape s, const char *init);

/* "seed" or "step", made when first asked for: `input` is where the context keeps it. */
ValueId layer_random_input(DtContext *ctx, ValueId *input, const char *name);
/* Number of the layer's stream of random numbers: by its name, so that other layers may come and go. */
int64_t             layer_stream(const Layer *l);

static inline Shape vector_shape(int64_t n)
{
    return shape_of(1, &n);
}

#endif
