/* body_nest.c: what ops with small loops compute, as kernel IR: windows, rows of classes, moved elements.
 *
 * Each computes one output element, at the logical coordinates c->out, from its inputs by c->load. A coordinate is an
 * affine form of the axes, plus an i32 where a division stands in it. What may lie outside an input is guarded; guards
 * that shapes show to be always true are not made.
 *
 * The gradients of pooling are gathers: an input element (h, w) belongs to the windows o with 0 <= h + pad - o s < k,
 * that is o = (h + pad) / s - j for j = 0 .. ceil(k / s) - 1. Nothing is scattered, so there are no races and one order
 * of sums.
 *
 * Tested by tests/unit/test_body.c (against plain loops over images). */
#include "ir/body_impl.h"

/* ---- Windows: from the output to its taps ------------------------------------------------------------------------ */

/* One spatial dimension (2: height, 3: width) of a pooling op. */
typedef struct Window {
    int64_t kernel, stride, pad; /* pad: before the first element */
    int64_t size, count;         /* elements of the image, windows over it */
} Window;

static Window window_of(const BodyCtx *c, int32_t dim, int64_t size, int64_t count)
{
    return (Window){ .kernel = ir_int(self(c), A_KERNEL),
                     .stride = ir_int(self(c), A_STRIDE),
                     .pad = ir_pads(self(c), A_PAD)[dim - 2], /* top, left, bottom, right */
                     .size = size,
                     .count = count };
}

static bool reaches_over(const Window *w)
{
    return (w->count - 1) * w->stride - w->pad + w->kernel > w->size;
}

/* The two loops over the taps of a window, and where a tap lies. */
typedef struct Taps {
    Window  win[2];
    int32_t axis[2];
} Taps;

static Taps taps_of(BodyCtx *c)
{
    const Type *t = &self(c)->type;
    Taps        taps = { .win = { window_of(c, 2, in_dim(c, 0, 2), t->shape.dim[2]),
                                  window_of(c, 3, in_dim(c, 0, 3), t->shape.dim[3]) } };
    taps.axis[0] = c->axis(c, "kh", taps.win[0].kernel);
    taps.axis[1] = c->axis(c, "kw", taps.win[1].kernel);
    return taps;
}

/* Inside both loops: the tap's element (0 outside the image) and whether it is in the image. */
static KVal load_tap(BodyCtx *c, const Taps *taps, KVal *guard)
{
    Coord at[4] = { c->out[0], c->out[1] };
    *guard = KVAL_NONE;
    for (int32_t i = 0; i < 2; i++) {
        const Window *w = &taps->win[i];
        Affine        tap = affine_add(affine_axis(taps->axis[i], 1), affine_const(-w->pad));
        at[2 + i] = coord_step(c, c->out[2 + i], w->stride, tap);
        *guard = both(c, *guard, inside(c, at[2 + i], w->size, w->pad > 0, reaches_over(w)));
    }
    return c->load(c, 0, at, *guard);
}

/* Closes both loops around `v`, which is accumulated over them. */
static KVal acc_taps(BodyCtx *c, KAcc how, KVal v)
{
    KVal row = kb_acc(c->b, how, v);
    kb_end(c->b);
    KVal all = kb_acc(c->b, how, row);
    kb_end(c->b);
    return all;
}

static void loop_taps(BodyCtx *c, const Taps *taps)
{
    kb_loop(c->b, taps->axis[0]);
    kb_loop(c->b, taps->axis[1]);
}

static KVal max_of_taps(BodyCtx *c, const Taps *taps)
{
    KVal guard;
    loop_taps(c, taps);
    KVal x = load_tap(c, taps, &guard);
    if (guard != KVAL_NONE)
        x = choose(c, guard, x, kb_f32(c->b, -INFINITY));
    return acc_taps(c, KACC_MAX, x);
}

int32_t body_maxpool(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    Taps taps = taps_of(c);
    return one(out, max_of_taps(c, &taps));
}

/* The least number of a tap that equals the maximum; 255 in a window of NaN. */
int32_t body_maxpool_tap(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    Taps taps = taps_of(c);
    KVal most = max_of_taps(c, &taps), guard;
    loop_taps(c, &taps);
    KVal   x = load_tap(c, &taps, &guard);
    KVal   hit = both(c, op2(c, K_EQ, x, most), guard);
    Affine number = affine_add(affine_axis(taps.axis[0], taps.win[1].kernel), affine_axis(taps.axis[1], 1));
    KVal   tap = kb_index(c->b, number);
    return one(out, acc_taps(c, KACC_MIN, choose(c, hit, tap, kb_i32(c->b, 255))));
}

/* How many elements of window `o` (along one dimension) lie in the image: min(o s - pad + k, size) - max(o s - pad, 0).
 */
static KVal taps_inside(const BodyCtx *c, const Window *w, Coord o)
{
    if (w->pad == 0 && !reaches_over(w))
        return kb_i32(c->b, (int32_t)w->kernel);
    KVal first = coord_value(c, coord_step(c, o, w->stride, affine_const(-w->pad)));
    KVal end = op2_i(c, K_MIN, op2_i(c, K_ADD, first, w->kernel), w->size);
    KVal begin = op2_i(c, K_MAX, first, 0);
    return op2(c, K_SUB, end, begin);
}

static KVal window_area(const BodyCtx *c, const Window win[2], Coord oh, Coord ow)
{
    KVal rows = taps_inside(c, &win[0], oh);
    KVal cols = taps_inside(c, &win[1], ow);
    return kb_cvt(c->b, KT_F32, op2(c, K_MUL, rows, cols));
}

int32_t body_avgpool(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal guard;
    Taps taps = taps_of(c);
    loop_taps(c, &taps);
    KVal sum = acc_taps(c, KACC_SUM, load_tap(c, &taps, &guard));
    KVal area = window_area(c, taps.win, c->out[2], c->out[3]);
    return one(out, op2(c, K_DIV, sum, area));
}

/* ---- Windows: from an image element to the windows that hold it -------------------------------------------------- */

/* Along one dimension, inside its loop. */
typedef struct Cover {
    Coord o;     /* which window */
    KVal  tap;   /* which of its taps the element is */
    KVal  guard; /* is there such a window */
} Cover;

static int64_t covers(const Window *w)
{
    return dt_ceil_div(w->kernel, w->stride);
}

/* o = (x + pad) / s - j, tap = x + pad - o s. With s = 1 all of it is affine. `axis`: j; -1: there is one window. */
static Cover cover_of(BodyCtx *c, const Window *w, Coord x, int32_t axis)
{
    Affine back = axis < 0 ? affine_const(0) : affine_axis(axis, -1);
    Coord  shifted = coord_step(c, x, 1, affine_const(w->pad));
    Cover  to = { .o = coord_step(c, shifted, 1, back) };
    if (w->stride == 1) {
        to.tap = kb_index(c->b, affine_scale(back, -1));
    } else {
        KVal position = coord_value(c, shifted);
        to.o = (Coord){ back, op2_i(c, K_DIV, position, w->stride) };
        KVal first = op2_i(c, K_MUL, coord_value(c, to.o), w->stride);
        to.tap = op2(c, K_SUB, position, first);
    }
    bool above = (w->size - 1 + w->pad) / w->stride >= w->count;
    to.guard = inside(c, to.o, w->count, axis >= 0, above);
    if (w->kernel % w->stride != 0)
        to.guard = both(c, to.guard, op2_i(c, K_LT, to.tap, w->kernel));
    return to;
}

/* The loops over all windows around c->out; input `like` has one element a window. */
typedef struct Gather {
    Window  win[2];
    int32_t axis[2]; /* -1: no loop is needed */
    Cover   at[2];
    Coord   coord[4];
    KVal    guard;
} Gather;

static Gather open_gather(BodyCtx *c, int32_t like)
{
    static const char *const names[2] = { "jh", "jw" };
    Gather                   g = { .coord = { c->out[0], c->out[1] }, .guard = KVAL_NONE };
    for (int32_t i = 0; i < 2; i++) {
        g.win[i] = window_of(c, 2 + i, self(c)->type.shape.dim[2 + i], in_dim(c, like, 2 + i));
        g.axis[i] = covers(&g.win[i]) > 1 ? c->axis(c, names[i], covers(&g.win[i])) : -1;
    }
    for (int32_t i = 0; i < 2; i++) {
        if (g.axis[i] >= 0)
            kb_loop(c->b, g.axis[i]);
        g.at[i] = cover_of(c, &g.win[i], c->out[2 + i], g.axis[i]);
        g.coord[2 + i] = g.at[i].o;
        g.guard = both(c, g.guard, g.at[i].guard);
    }
    return g;
}

static KVal close_gather(BodyCtx *c, const Gather *g, KVal v)
{
    for (int32_t i = 1; i >= 0; i--) {
        if (g->axis[i] < 0)
            continue;
        v = kb_acc(c->b, KACC_SUM, v);
        kb_end(c->b);
    }
    return v;
}

/* tap, g -> sum of g over the windows whose tap this element is */
int32_t body_maxpool_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    Gather g = open_gather(c, 1);
    KVal   tap = c->load(c, 0, g.coord, g.guard);
    KVal   dy = c->load(c, 1, g.coord, g.guard);
    KVal   mine = op2_i(c, K_MUL, g.at[0].tap, g.win[1].kernel);
    mine = op2(c, K_ADD, mine, g.at[1].tap);
    KVal hit = op2(c, K_EQ, tap, mine); /* outside, dy is 0 */
    return one(out, close_gather(c, &g, choose(c, hit, dy, kb_f32(c->b, 0))));
}

/* g -> sum of g / area over the windows around this element */
int32_t body_avgpool_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    Gather g = open_gather(c, 0);
    KVal   dy = c->load(c, 0, g.coord, g.guard);
    KVal   area = window_area(c, g.win, g.at[0].o, g.at[1].o);
    KVal   share = op2(c, K_DIV, dy, area);
    if (g.guard != KVAL_NONE) /* no window, perhaps no area */
        share = choose(c, g.guard, share, kb_f32(c->b, 0));
    return one(out, close_gather(c, &g, share));
}

/* ---- Shortcuts and layouts --------------------------------------------------------------------------------------- */

/* Zero channels in front: half of those added. */
int32_t body_shortcut(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    int64_t stride = ir_int(self(c), A_STRIDE), have = in_dim(c, 0, 1);
    int64_t added = self(c)->type.shape.dim[1] - have, front = added / 2;
    Coord   at[4] = { c->out[0], coord_step(c, c->out[1], 1, affine_const(-front)),
                      coord_step(c, c->out[2], stride, affine_const(0)),
                      coord_step(c, c->out[3], stride, affine_const(0)) };
    return one(out, c->load(c, 0, at, inside(c, at[1], have, front > 0, added > front)));
}

int32_t body_shortcut_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    int64_t stride = ir_int(self(c), A_STRIDE);
    int64_t front = (in_dim(c, 0, 1) - self(c)->type.shape.dim[1]) / 2;
    Coord   at[4] = { c->out[0], coord_step(c, c->out[1], 1, affine_const(front)), c->out[2], c->out[3] };
    KVal    guard = KVAL_NONE;
    for (int32_t d = 2; d < 4 && stride > 1; d++) {
        KVal position = coord_value(c, c->out[d]);
        KVal on_grid = op2_i(c, K_EQ, op2_i(c, K_REM, position, stride), 0);
        guard = both(c, guard, on_grid);
        at[d] = fixed(0);
        at[d].dyn = op2_i(c, K_DIV, position, stride);
    }
    return one(out, c->load(c, 0, at, guard));
}

int32_t body_relayout(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return one(out, c->load(c, 0, c->out, KVAL_NONE));
}

/* out[i] = x[i / count] */
int32_t body_repeat(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal at = op2_i(c, K_DIV, kb_index(c->b, c->out[0].at), ir_int(self(c), A_COUNT));
    return one(out, c->load(c, 0, &(Coord){ affine_const(0), at }, KVAL_NONE));
}

/* Of x[i count] ... x[i count + count - 1]. */
static int32_t fold_neighbours(BodyCtx *c, KAcc how, KVal out[2])
{
    int64_t count = ir_int(self(c), A_COUNT);
    int32_t j = c->axis(c, "j", count);
    Affine  at = affine_add(affine_scale(c->out[0].at, count), affine_axis(j, 1));
    kb_loop(c->b, j);
    KVal all = kb_acc(c->b, how, c->load(c, 0, &(Coord){ at, KVAL_NONE }, KVAL_NONE));
    kb_end(c->b);
    return one(out, all);
}

int32_t body_repeat_grad(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return fold_neighbours(c, KACC_SUM, out);
}

int32_t body_group_max(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    return fold_neighbours(c, KACC_MAX, out);
}

/* ---- Rows of classes --------------------------------------------------------------------------------------------- */

static KVal load_class(BodyCtx *c, int32_t axis)
{
    return c->load(c, 0, (Coord[]){ c->out[0], { affine_axis(axis, 1), KVAL_NONE } }, KVAL_NONE);
}

/* m + log sum exp(x - m), m the largest */
int32_t body_logsumexp(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    int32_t axis = c->axis(c, "k", in_dim(c, 0, 1));
    kb_loop(c->b, axis);
    KVal most = kb_acc(c->b, KACC_MAX, load_class(c, axis));
    kb_end(c->b);
    kb_loop(c->b, axis);
    KVal less = op2(c, K_SUB, load_class(c, axis), most);
    KVal sum = kb_acc(c->b, KACC_SUM, kb_op1(c->b, K_EXP, less));
    kb_end(c->b);
    return one(out, op2(c, K_ADD, kb_op1(c->b, K_LOG, sum), most));
}

/* x[n, label[n]], and whether there is such a class (else 0). */
static KVal load_label(BodyCtx *c, KVal *valid)
{
    Coord label = fixed(0);
    label.dyn = c->load(c, 1, (Coord[]){ c->out[0], fixed(0) }, KVAL_NONE);
    *valid = inside(c, label, in_dim(c, 0, 1), true, true);
    return c->load(c, 0, (Coord[]){ c->out[0], label }, *valid);
}

int32_t body_pick(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal valid;
    return one(out, load_label(c, &valid));
}

/* 1 where fewer than `best` of the x[k] are not <= x[label]; no NaN is. For 1: where x[k] <= x[label] for every k. */
int32_t body_correct(BodyCtx *c, const KVal *in, KVal out[2])
{
    (void)in;
    KVal    valid, label = load_label(c, &valid), fits;
    int64_t best = ir_int(self(c), A_K);
    int32_t axis = c->axis(c, "k", in_dim(c, 0, 1));
    kb_loop(c->b, axis);
    KVal below = kb_cvt(c->b, KT_I32, op2(c, K_LE, load_class(c, axis), label));
    KVal all = kb_acc(c->b, best == 1 ? KACC_MIN : KACC_SUM, below);
    kb_end(c->b);
    if (best == 1)
        fits = op2_i(c, K_GT, all, 0);
    else
        fits = op2_i(c, K_GT, all, in_dim(c, 0, 1) - best);
    KVal correct = op2(c, K_AND, valid, fits);
    return one(out, kb_cvt(c->b, KT_F32, correct));
}
