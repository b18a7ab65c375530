/* pack.c: weights in the order in which kernels read them, [row of the window][step][output][4 bytes]; outputs that a
 * block has beyond the real ones, and codes beyond the end of a run, are 0.
 *
 * Weights are packed at each step of training, and a layer of many channels and few pixels reads each of them but some
 * hundred times: so the codes of one output are first put side by side, which is a plain copy in most cases, and then
 * spread four at a time.
 *
 * Codes of x that were made positive by adding `add` make each sum larger by `add` times the sum of the output's
 * weights, in borders, too: sums begin with what takes that away. They wrap around at 32 bits; the true sum fits.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/integer/integer_impl.h"

#include <string.h>

/* Codes from output to output, row to row, column to column, channel to channel. */
typedef struct WeightAt {
    int64_t k, r, s, c;
} WeightAt;

static WeightAt weight_at(const CallDesc *d)
{
    int64_t cg = d->c / d->groups;
    if (d->krsc)
        return (WeightAt){ .k = d->r * d->s * cg, .r = d->s * cg, .s = cg, .c = 1 };
    return (WeightAt){ .k = cg * d->r * d->s, .r = d->s, .s = 1, .c = d->r * d->s };
}

/* Steps that are packed at a time. */
enum { PART = 64 };

/* n codes of a row of the window, from code `first` of the run, side by side. */
static void gather(const IntConv *c, WeightAt at, const int8_t *row, int64_t first, int64_t n, int8_t *out)
{
    const int64_t cg = c->d.c / c->d.groups;
    if (at.c == 1 && (at.s == cg || c->d.s == 1)) {
        memcpy(out, row + first, (size_t)n);
        return;
    }
    int64_t s = first / cg, channel = first % cg;
    while (n > 0) {
        const int64_t count = dt_min64(n, cg - channel);
        const int8_t *from = row + s * at.s + channel * at.c;
        for (int64_t i = 0; i < count; i++)
            out[i] = from[i * at.c];
        out += count, n -= count;
        channel = 0, s++;
    }
}

static uint32_t sum_of(const int8_t *codes, int64_t n)
{
    int32_t sum = 0; /* of PART steps: small */
    for (int64_t i = 0; i < n; i++)
        sum += codes[i];
    return (uint32_t)sum;
}

/* Codes of some steps of one output to where kernels read them; lanes: outputs of the kernel. */
static void spread_bytes(const int8_t *codes, int64_t steps, int32_t lanes, uint8_t *out)
{
    for (int64_t i = 0; i < steps; i++, codes += STEP_BYTES, out += lanes * STEP_BYTES)
        memcpy(out, codes, STEP_BYTES);
}

static void spread_words(const int8_t *codes, int64_t steps, int32_t lanes, uint8_t *out)
{
    for (int64_t i = 0; i < steps; i++, codes += 2, out += lanes * STEP_BYTES) {
        const int16_t two[2] = { codes[0], codes[1] };
        memcpy(out, two, STEP_BYTES);
    }
}

/* One lane of a block: output k of all, -1: none. Gives the sum of its weights. */
static uint32_t pack_lane(const IntConv *c, const int8_t *w, int64_t k, int32_t lanes, uint8_t *packed)
{
    const WeightAt at = weight_at(&c->d);
    const int64_t  per_step = STEP_BYTES / c->code_bytes;
    int8_t         codes[PART * STEP_BYTES];
    uint32_t       sum = 0;
    for (int64_t r = 0; r < c->d.r; r++)
        for (int64_t step = 0; step < c->steps; step += PART) {
            const int64_t steps = dt_min64(PART, c->steps - step), first = step * per_step;
            const int64_t n = k < 0 ? 0 : dt_min64(steps * per_step, c->run - first);
            if (n > 0)
                gather(c, at, w + k * at.k + r * at.r, first, n, codes);
            memset(codes + n, 0, (size_t)(steps * per_step - n));
            if (c->add != 0)
                sum += sum_of(codes, n);
            (c->code_bytes == 2 ? spread_words : spread_bytes)(codes, steps, lanes, packed);
            packed += steps * lanes * STEP_BYTES;
        }
    return sum;
}

void intconv_pack(const IntConv *c, const int8_t *w, int64_t g, int32_t block, uint8_t *packed, int32_t *start)
{
    const Block  *b = &c->blocks[block];
    const int64_t first = g * (c->d.k / c->d.groups) + b->first;
    const int32_t lanes = b->kernel->outputs;
    for (int32_t lane = 0; lane < lanes; lane++) {
        const int32_t k = block_output(c, b, lane);
        uint32_t      sum = pack_lane(c, w, k < 0 ? -1 : first + k, lanes, packed + lane * STEP_BYTES);
        start[lane] = (int32_t)(0 - sum * (uint32_t)c->add);
    }
}
