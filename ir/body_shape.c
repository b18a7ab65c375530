/* body_shape.c: what ops compute that move elements: channels joined and cut, borders, larger images.
 *
 * All are gathers, gradients too: each element of the result says where it comes from, so nothing is scattered and
 * there is one order of sums. Channels are the contiguous axis, and no coordinate but theirs depends on it: guards and
 * divisions of rows and columns are the same for a whole vector.
 *
 * Bilinear, along one dimension, f the factor: the centre of element o of the result lies at p / 2f of x, p = max(2 o +
 * 1 - f, 0). With i = p / 2f and t = p % 2f it is (1 - t / 2f) x[i] + (t / 2f) x[min(i + 1, size - 1)].
 *
 * Tested by tests/unit/test_body.c and the op matrix. */
#include "ir/body_impl.h"

/* ---- Channels ---------------------------------------------------------------------------------------------------- */

/* Element `at` of operand i, its channel counted from `first` on; 0 where it has none. */
static KVal load_channel(BodyCtx *c, int32_t i, int64_t first)
{
    const Type    t = in_type(c, i);
    const int64_t channels = self(c)->type.shape.dim[1];
    Coord         at[DT_MAX_RANK];
    for (int32_t d = 0; d < t.shape.rank; d++)
        at[d] = c->out[d];
    at[1] = coord_step(c, c->out[1], 1, affine_const(first));
    return c->load(c, i, at, inside(c, at[1], t.shape.dim[1], first<0, first + channels> t.shape.dim[1]));
}

int32_t body_concat(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const int64_t front = in_dim(c, 0, 1);
    KVal          x = load_channel(c, 0, 0);
    KVal          y = load_channel(c, 1, -front);
    KVal          is_x = inside(c, c->out[1], front, false, true);
    return one(out, choose(c, is_x, x, y));
}

int32_t body_slice(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return one(out, load_channel(c, 0, ir_int(self(c), A_BEGIN)));
}

/* ---- Borders ----------------------------------------------------------------------------------------------------- */

int32_t body_pad_image(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const int64_t *pad = ir_pads(self(c), A_PAD); /* top, left, bottom, right */
    Coord          at[4] = { c->out[0], c->out[1] };
    KVal           guard = KVAL_NONE;
    for (int32_t d = 2; d < 4; d++) {
        at[d] = coord_step(c, c->out[d], 1, affine_const(-pad[d - 2]));
        guard = both(c, guard, inside(c, at[d], in_dim(c, 0, d), pad[d - 2] > 0, pad[d] > 0));
    }
    return one(out, c->load(c, 0, at, guard));
}

/* ---- Larger images: forward -------------------------------------------------------------------------------------- */

static KVal nearest(BodyCtx *c, int64_t factor)
{
    Coord at[4] = { c->out[0], c->out[1], fixed(0), fixed(0) };
    for (int32_t d = 2; d < 4; d++) {
        KVal position = coord_value(c, c->out[d]);
        at[d].dyn = op2_i(c, K_DIV, position, factor);
    }
    return c->load(c, 0, at, KVAL_NONE);
}

/* Between which two elements the result lies, and how much of the second it takes. */
typedef struct Between {
    Coord at[2];
    KVal  share;
} Between;

static Between between(const BodyCtx *c, Coord o, int64_t factor, int64_t size)
{
    Between b = { .at = { fixed(0), fixed(0) } };
    KVal    p = coord_value(c, coord_step(c, o, 2, affine_const(1 - factor)));
    p = op2_i(c, K_MAX, p, 0);
    b.at[0].dyn = op2_i(c, K_DIV, p, 2 * factor);
    KVal after = op2_i(c, K_ADD, b.at[0].dyn, 1);
    b.at[1].dyn = op2_i(c, K_MIN, after, size - 1);
    KVal rest = kb_cvt(c->b, KT_F32, op2_i(c, K_REM, p, 2 * factor));
    b.share = op2(c, K_MUL, rest, number(c, 1.0 / (double)(2 * factor)));
    return b;
}

/* x + share (y - x) would not give y for a share of 1; the sum of both products does. */
static KVal mix(const BodyCtx *c, KVal x, KVal y, KVal share)
{
    KVal left = op2(c, K_SUB, number(c, 1), share);
    KVal part = op2(c, K_MUL, y, share);
    return fma3(c, x, left, part);
}

static KVal bilinear(BodyCtx *c, int64_t factor)
{
    const Between rows = between(c, c->out[2], factor, in_dim(c, 0, 2));
    const Between cols = between(c, c->out[3], factor, in_dim(c, 0, 3));
    KVal          row[2];
    for (int32_t i = 0; i < 2; i++) {
        KVal left = c->load(c, 0, (Coord[]){ c->out[0], c->out[1], rows.at[i], cols.at[0] }, KVAL_NONE);
        KVal right = c->load(c, 0, (Coord[]){ c->out[0], c->out[1], rows.at[i], cols.at[1] }, KVAL_NONE);
        row[i] = mix(c, left, right, cols.share);
    }
    return mix(c, row[0], row[1], rows.share);
}

int32_t body_upsample(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const int64_t factor = ir_int(self(c), A_FACTOR);
    return one(out, ir_int(self(c), A_BILINEAR) ? bilinear(c, factor) : nearest(c, factor));
}

/* Pixel (h % f, w % f) of the f by f is the channels from (h % f f + w % f) K on. */
int32_t body_interleave(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const int64_t f = ir_int(self(c), A_FACTOR), channels = self(c)->type.shape.dim[1];
    Coord         at[4] = { c->out[0], c->out[1], fixed(0), fixed(0) };
    KVal          part[4];
    for (int32_t d = 2; d < 4; d++) {
        KVal position = coord_value(c, c->out[d]);
        at[d].dyn = op2_i(c, K_DIV, position, f);
        part[d] = op2(c, K_SUB, position, op2_i(c, K_MUL, at[d].dyn, f));
    }
    KVal tap = op2(c, K_ADD, op2_i(c, K_MUL, part[2], f), part[3]);
    at[1].dyn = op2_i(c, K_MUL, tap, channels);
    return one(out, c->load(c, 0, at, KVAL_NONE));
}

/* Output (r R + s) K + k of one pixel is tap (r, s) of output k. */
int32_t body_tap_outputs(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const int64_t outputs = in_dim(c, 0, 1), window = in_dim(c, 0, 2);
    KVal  at = coord_value(c, c->out[0]), tap = op2_i(c, K_DIV, at, outputs), row = op2_i(c, K_DIV, tap, window);
    Coord from[4] = { c->out[1], fixed(0), fixed(0), fixed(0) };
    from[1].dyn = op2(c, K_SUB, at, op2_i(c, K_MUL, tap, outputs));
    from[2].dyn = row;
    from[3].dyn = op2(c, K_SUB, tap, op2_i(c, K_MUL, row, window));
    return one(out, c->load(c, 0, from, KVAL_NONE));
}

/* ---- Larger images: to whom an element was spread ------------------------------------------------------------------
 */

/* Of element i: o = i f + first + j for j = 0 .. count - 1, with a weight that the distance of the centres gives. */
typedef struct Spread {
    int64_t factor, count, first, size, larger; /* size: of x; larger: of the result */
} Spread;

static Spread spread_of(const BodyCtx *c, int32_t d)
{
    const int64_t f = ir_int(self(c), A_FACTOR);
    Spread        s = { .factor = f, .count = f, .size = self(c)->type.shape.dim[d], .larger = in_dim(c, 0, d) };
    if (ir_int(self(c), A_BILINEAR)) {
        s.first = -(f / 2);
        s.count = 2 * f - f % 2;
    }
    return s;
}

/* The centres are (2 o + 1 - f) / 2f - i = distance / 2f apart, and that does not depend on i. Before it, element i is
 * the second of the two, behind it the first. The first and the last element are also what lies outside of them. */
static KVal spread_weight(const BodyCtx *c, const Spread *s, Coord i, int32_t axis)
{
    const int64_t f = s->factor;
    KVal          unit = number(c, 1.0 / (double)(2 * f)), whole = number(c, 1);
    KVal          distance = kb_index(c->b, affine_add(affine_axis(axis, 2), affine_const(2 * s->first + 1 - f)));
    KVal          after = kb_cvt(c->b, KT_F32, distance);
    after = op2(c, K_SUB, whole, op2(c, K_MUL, after, unit));
    KVal before = kb_cvt(c->b, KT_F32, op2_i(c, K_ADD, distance, 2 * f));
    before = op2(c, K_MUL, before, unit);
    KVal weight = choose(c, op2_i(c, K_GE, distance, 0), after, before);
    KVal position = coord_value(c, i);
    KVal first = op2_i(c, K_EQ, position, 0);
    KVal in_front = op2(c, K_AND, first, op2_i(c, K_LT, distance, 0));
    KVal last = op2_i(c, K_EQ, position, s->size - 1);
    KVal beyond = op2(c, K_AND, last, op2_i(c, K_GT, distance, 0));
    return choose(c, op2(c, K_OR, in_front, beyond), whole, weight);
}

int32_t body_upsample_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    const bool    bilinear = ir_int(self(c), A_BILINEAR);
    const Spread  s[2] = { spread_of(c, 2), spread_of(c, 3) };
    const int32_t jh = c->axis(c, "jh", s[0].count), jw = c->axis(c, "jw", s[1].count), axis[2] = { jh, jw };
    Coord         at[4] = { c->out[0], c->out[1] };
    KVal          guard = KVAL_NONE, weight[2] = { KVAL_NONE, KVAL_NONE };
    for (int32_t i = 0; i < 2; i++) {
        Affine from = affine_add(affine_axis(axis[i], 1), affine_const(s[i].first));
        kb_loop(c->b, axis[i]);
        at[2 + i] = coord_step(c, c->out[2 + i], s[i].factor, from);
        const int64_t end = (s[i].size - 1) * s[i].factor + s[i].first + s[i].count;
        const bool below = s[i].first<0, above = end> s[i].larger;
        guard = both(c, guard, inside(c, at[2 + i], s[i].larger, below, above));
        if (bilinear)
            weight[i] = spread_weight(c, &s[i], c->out[2 + i], axis[i]);
    }
    KVal g = c->load(c, 0, at, guard);
    if (bilinear)
        g = op2(c, K_MUL, g, weight[1]);
    g = kb_acc(c->b, KACC_SUM, g);
    kb_end(c->b);
    if (bilinear)
        g = op2(c, K_MUL, g, weight[0]);
    g = kb_acc(c->b, KACC_SUM, g);
    kb_end(c->b);
    return one(out, g);
}
