/* pack.c: weights in the order in which kernels read them, [row of the window][step][output][4 bytes]; outputs that a
 * block has beyond the real ones, and codes beyond the end of a run, are 0.
 *
 * Codes of x that were made positive by adding `add` make each sum larger by `add` times the sum of the output's
 * weights, in borders, too. Sums wrap around at 32 bits; what is left after subtracting is the true sum, which fits.
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

/* One step of all outputs of a block. from: where its first output has the step's codes; missing ones are at zero. */
typedef struct Step {
    const int8_t *from[STEP_BYTES];
    int64_t       pitch[STEP_BYTES]; /* to the next output */
} Step;

static inline uint32_t code(const Step *s, int32_t i, int32_t k)
{
    return (uint32_t)(int32_t)s->from[i][k * s->pitch[i]];
}

static void pack_bytes(const Step *s, int32_t outputs, uint8_t *out)
{
    for (int32_t k = 0; k < outputs; k++) {
        uint32_t four =
            (code(s, 0, k) & 255) | (code(s, 1, k) & 255) << 8 | (code(s, 2, k) & 255) << 16 | code(s, 3, k) << 24;
        memcpy(out + STEP_BYTES * k, &four, sizeof four);
    }
}

static void pack_words(const Step *s, int32_t outputs, uint8_t *out)
{
    for (int32_t k = 0; k < outputs; k++) {
        uint32_t two = (code(s, 0, k) & 65535) | code(s, 1, k) << 16;
        memcpy(out + STEP_BYTES * k, &two, sizeof two);
    }
}

static void add_up(const Step *s, int32_t codes, int32_t outputs, uint32_t *sums)
{
    for (int32_t k = 0; k < outputs; k++)
        for (int32_t i = 0; i < codes; i++)
            sums[k] += code(s, i, k);
}

void intconv_pack(const IntConv *c, const int8_t *w, int64_t g, int32_t block, uint8_t *packed, int32_t *minus)
{
    const Block  *b = &c->blocks[block];
    WeightAt      at = weight_at(&c->d);
    const int64_t cg = c->d.c / c->d.groups, first = g * (c->d.k / c->d.groups) + b->first;
    const int32_t per_step = STEP_BYTES / c->code_bytes, lanes = b->kernel->outputs;
    uint32_t      sums[TILE_MOST_OUTPUTS] = { 0 };
    const int8_t  zero = 0;
    for (int64_t r = 0; r < c->d.r; r++)
        for (int64_t step = 0, n = 0; step < c->steps; step++, packed += lanes * STEP_BYTES) {
            Step s;
            for (int32_t i = 0; i < per_step; i++, n++) {
                bool there = n < c->run;
                s.from[i] = there ? w + first * at.k + r * at.r + n / cg * at.s + n % cg * at.c : &zero;
                s.pitch[i] = there ? at.k : 0;
            }
            if (b->valid < lanes)
                memset(packed, 0, (size_t)(lanes * STEP_BYTES));
            (c->code_bytes == 2 ? pack_words : pack_bytes)(&s, b->valid, packed);
            if (c->add != 0)
                add_up(&s, per_step, b->valid, sums);
        }
    for (int32_t k = 0; k < lanes; k++)
        minus[k] = (int32_t)(sums[k] * (uint32_t)c->add);
}
