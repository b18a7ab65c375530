/* tile_portable.c: the kernels in plain C: for processors without vectors that the others are written for, and a second
 * opinion in tests. fmaf rounds once, as the others do. */
#include <math.h>

#include "runtime/narrow/narrow_impl.h"

enum { ROWS = 4, LANES = 16 };

static float pair_step(float sum, const uint8_t *a, const uint8_t *b)
{
    uint16_t x[2], y[2];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return fmaf(bf16_value(x[0]), bf16_value(y[0]), fmaf(bf16_value(x[1]), bf16_value(y[1]), sum));
}

static void tile_data(const Tile *t)
{
    for (int32_t m = 0; m < ROWS; m++)
        for (int32_t k = 0; k < t->valid; k++) {
            float sum = 0;
            for (int32_t r = 0; r < t->rows; r++)
                for (int32_t i = 0; i < t->steps; i++)
                    sum = pair_step(sum, t->a + t->at[m] + r * t->row + i * STEP_BYTES,
                                    t->b + ((int64_t)(r * t->steps + i) * LANES + k) * STEP_BYTES);
            t->y[t->y_at[m] + k] = sum;
        }
}

static float float_step(float sum, const uint8_t *a, const uint8_t *b)
{
    float x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return fmaf(x, y, sum);
}

typedef float StepFn(float sum, const uint8_t *a, const uint8_t *b);

static void   weight_of(const Tile *t, StepFn *step)
{
    for (int32_t m = 0; m < ROWS; m++)
        for (int32_t k = 0; k < LANES; k++) {
            const uint8_t *a = t->a + m * STEP_BYTES;
            float         *sum = &t->y[t->y_at[m] + k];
            for (int32_t n = 0; n < t->images; n++)
                for (int32_t r = 0; r < t->rows; r++)
                    for (int32_t i = 0; i < t->steps; i++, a += BLOCK_BYTES)
                        *sum = step(*sum, a,
                                    t->b + t->b_at[0] + n * t->image + r * t->row + i * BLOCK_BYTES + k * STEP_BYTES);
        }
}

static void tile_weight(const Tile *t)
{
    weight_of(t, pair_step);
}

static void tile_floats(const Tile *t)
{
    weight_of(t, float_step);
}

static void tile_line(DType t, const void *from, uint16_t *to, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bf16_of(t, from, i);
}

static void tile_pairs(const Pairs *p)
{
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t c = 0; c < dt_round_up(p->channels, BLOCK); c++) {
            uint16_t pair[2] = { 0 };
            uint8_t *to = p->to + c / BLOCK * p->block_bytes + i * BLOCK_BYTES + c % BLOCK * STEP_BYTES;
            if (p->floats) {
                int64_t x = p->first + i * p->step;
                float   one = 0;
                if (c < p->channels && x >= 0 && x < p->width)
                    memcpy(&one, p->from + x * p->pixel_bytes + c * STEP_BYTES, sizeof one);
                memcpy(to, &one, sizeof one);
                continue;
            }
            for (int64_t k = 0; k < 2; k++) {
                int64_t x = p->first + i * p->step + k * p->apart;
                if (c < p->channels && x >= 0 && x < p->width)
                    pair[k] = bf16_of(p->type, p->from + x * p->pixel_bytes, c);
            }
            memcpy(to, pair, sizeof pair);
        }
}

const NarrowIsa narrow_portable = { .doc = "plain C",
                                    .lanes = LANES,
                                    .data = { { ROWS, tile_data } },
                                    .weight = { { ROWS, tile_weight } },
                                    .floats = { { ROWS, tile_floats } },
                                    .line = tile_line,
                                    .pairs = tile_pairs };
