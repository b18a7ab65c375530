/* body_depthwise.c: depthwise convolution - each channel by a window of its own - and its gradients, as kernel IR.
 *
 * Windows are written out tap by tap: no loop, so that a guard is made once for a row or a column of taps and only
 * where some point needs it, and what taps have in common is seen by all who make code. The order of sums is that of
 * the text: one fma a tap along a row of the window, then the rows.
 *
 *   y[h, w]  = sum over r, s:  x[h stride + r - top, w stride + s - left] w[r, s]
 *   dx[h, w] = sum over those taps and windows (o, p) that read x[h, w]:  dy[o, p] w[r, s]      a gather: no races
 *   dw[r, s] = sum over n, o, p:  dy[o, p] x[o stride + r - top, p stride + s - left]
 *
 * The weights are [1, C, R, S] (op depthwise_weight): in NHWC their channels are neighbours, as those of images are.
 *
 * With stride 1 the window that reads x[h] by tap r is o = h + top - r. With a larger one it exists only where that
 * number divides: with h + top = q stride + phase these are o = q - j with tap phase + j stride, j = 0, 1, ...
 *
 * Tested by tests/unit/test_depthwise.c (against plain loops) and the op matrix. */
#include "ir/body_impl.h"

/* Number i of what a side of the window holds for a point: where it is read, which tap that is, and whether it is there
 * (KVAL_NONE: always). */
typedef struct Tap {
    Coord at, tap;
    KVal  guard;
} Tap;

/* One spatial dimension (2: height, 3: width). */
typedef struct Side {
    int64_t kernel, stride, pad;
    int64_t size, count; /* elements of the image, windows over it */
    Coord   out;         /* the point's coordinate */
} Side;

static Side side_of(const BodyCtx *c, int32_t dim, int64_t kernel, int64_t size, int64_t count)
{
    return (Side){ .kernel = kernel,
                   .stride = ir_int(self(c), A_STRIDE),
                   .pad = ir_pads(self(c), A_PAD)[dim - 2],
                   .size = size,
                   .count = count,
                   .out = c->out[dim] };
}

/* Tap r of the window at the point. */
static Tap tap_of(const BodyCtx *c, const Side *s, int64_t r)
{
    Tap  t = { .at = coord_step(c, s->out, s->stride, affine_const(r - s->pad)), .tap = fixed(r) };
    bool above = (s->count - 1) * s->stride + r - s->pad >= s->size;
    t.guard = inside(c, t.at, s->size, r < s->pad, above);
    return t;
}

/* How many windows read an element of the image, at most. */
static int64_t covers(const Side *s)
{
    return s->stride == 1 ? s->kernel : dt_ceil_div(s->kernel, s->stride);
}

/* Window number j of those that read the point. */
static Tap cover_of(const BodyCtx *c, const Side *s, int64_t j)
{
    Tap  t;
    bool below = s->pad / s->stride < j, above = (s->size - 1 + s->pad) / s->stride - j >= s->count;
    if (s->stride == 1) {
        t.at = coord_step(c, s->out, 1, affine_const(s->pad - j));
        t.tap = fixed(j);
        t.guard = inside(c, t.at, s->count, below, above);
        return t;
    }
    KVal position = coord_value(c, coord_step(c, s->out, 1, affine_const(s->pad)));
    t.at = (Coord){ affine_const(-j), op2_i(c, K_DIV, position, s->stride) };
    t.tap = (Coord){ affine_const(j * s->stride), op2_i(c, K_REM, position, s->stride) };
    t.guard = inside(c, t.at, s->count, below, above);
    if ((j + 1) * s->stride > s->kernel) {
        KVal there = op2_i(c, K_LT, coord_value(c, t.tap), s->kernel);
        t.guard = both(c, t.guard, there);
    }
    return t;
}

/* One term: input 0 at the two taps times the weight there, put to `row` (KVAL_NONE: the first of its row). */
static KVal add_term(BodyCtx *c, const Tap *h, const Tap *w, KVal row)
{
    KVal guard = both(c, h->guard, w->guard);
    bool computed = h->tap.dyn != KVAL_NONE || w->tap.dyn != KVAL_NONE; /* the tap itself may not exist */
    KVal x = c->load(c, 0, (Coord[]){ c->out[0], c->out[1], h->at, w->at }, guard);
    KVal weight = c->load(c, 1, (Coord[]){ fixed(0), c->out[1], h->tap, w->tap }, computed ? guard : KVAL_NONE);
    return row == KVAL_NONE ? op2(c, K_MUL, x, weight) : fma3(c, x, weight, row);
}

typedef Tap (*TapFn)(const BodyCtx *c, const Side *s, int64_t i);

static int32_t sum_of_taps(BodyCtx *c, const Side side[2], const int64_t n[2], TapFn fn, KVal out[2])
{
    KVal sum = KVAL_NONE;
    for (int64_t i = 0; i < n[0]; i++) {
        Tap  h = fn(c, &side[0], i);
        KVal row = KVAL_NONE;
        for (int64_t j = 0; j < n[1]; j++) {
            Tap w = fn(c, &side[1], j);
            row = add_term(c, &h, &w, row);
        }
        sum = sum == KVAL_NONE ? row : op2(c, K_ADD, sum, row);
    }
    return one(out, sum);
}

int32_t body_depthwise(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    int64_t kernel = in_dim(c, 1, 2);
    Shape   y = self(c)->type.shape;
    Side    side[2];
    for (int32_t i = 0; i < 2; i++)
        side[i] = side_of(c, 2 + i, kernel, in_dim(c, 0, 2 + i), y.dim[2 + i]);
    return sum_of_taps(c, side, (int64_t[]){ kernel, kernel }, tap_of, out);
}

int32_t body_depthwise_grad_x(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    int64_t kernel = in_dim(c, 1, 2);
    Shape   x = self(c)->type.shape;
    Side    side[2];
    for (int32_t i = 0; i < 2; i++)
        side[i] = side_of(c, 2 + i, kernel, x.dim[2 + i], in_dim(c, 0, 2 + i));
    return sum_of_taps(c, side, (int64_t[]){ covers(&side[0]), covers(&side[1]) }, cover_of, out);
}

/* A fold: the point is one of dy; a sum for each tap. */
int32_t body_depthwise_grad_w(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in, (void)out;
    int64_t kernel = ir_int(self(c), A_KERNEL);
    Side    side[2];
    for (int32_t i = 0; i < 2; i++)
        side[i] = side_of(c, 2 + i, kernel, in_dim(c, 1, 2 + i), in_dim(c, 0, 2 + i));
    KVal dy = c->load(c, 0, c->out, KVAL_NONE);
    for (int64_t r = 0; r < kernel; r++) {
        Tap h = tap_of(c, &side[0], r);
        for (int64_t s = 0; s < kernel; s++) {
            Tap  w = tap_of(c, &side[1], s);
            KVal guard = both(c, h.guard, w.guard);
            KVal x = c->load(c, 1, (Coord[]){ c->out[0], c->out[1], h.at, w.at }, guard);
            c->sums[r * kernel + s] = kb_dot(c->b, dy, x);
        }
    }
    return (int32_t)(kernel * kernel);
}

/* [C, 1, R, S] to [1, C, R, S]. */
int32_t body_depthwise_weight(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return one(out, c->load(c, 0, (Coord[]){ c->out[1], fixed(0), c->out[2], c->out[3] }, KVAL_NONE));
}
