/* tile_portable.c: the kernels in plain C: for processors without vectors that the others are written for, and a second
 * opinion in tests. Codes are bytes, sums of 32 bits wrap around as those of the other kernels do. */
#include "runtime/integer/integer_impl.h"

#include <string.h>

enum { PIXELS = 4, OUTPUTS = 8 };

static void tile_steps(uint32_t sums[OUTPUTS], const uint8_t *x, const int8_t *w, int32_t steps)
{
    for (int32_t i = 0; i < steps; i++, x += STEP_BYTES, w += OUTPUTS * STEP_BYTES)
        for (int32_t k = 0; k < OUTPUTS; k++) {
            const int8_t *four = w + STEP_BYTES * k;
            sums[k] += (uint32_t)(x[0] * four[0] + x[1] * four[1] + x[2] * four[2] + x[3] * four[3]);
        }
}

static void tile_plain(const Tile *t)
{
    for (int32_t m = 0; m < PIXELS; m++) {
        uint32_t sums[OUTPUTS];
        memcpy(sums, t->start, sizeof sums);
        for (int32_t r = 0; r < t->rows; r++)
            tile_steps(sums, t->x + t->at[m] + r * t->row_bytes,
                       (const int8_t *)t->w + (int64_t)r * t->steps * OUTPUTS * STEP_BYTES, t->steps);
        for (int32_t k = 0; k < OUTPUTS; k++)
            t->y[m * t->y_pitch + k] = (float)(int32_t)sums[k] * t->scale[k];
    }
}

const TileTable tiles_portable = { [FORM_DOT] = { { PIXELS, OUTPUTS, tile_plain } } };
