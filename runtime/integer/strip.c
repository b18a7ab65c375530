/* strip.c: the input rows under a band of output rows, copied so that kernels find nothing but codes: borders are
 * there, bytes are not negative, or 16 bits wide. A strip is small and its copy takes little beside the product: each
 * code is read r s k / stride^2 times after.
 *
 * Tested by tests/unit/test_integer.c. */
#include "runtime/integer/integer_impl.h"

#include <string.h>

static void fill_codes(const IntConv *c, uint8_t *to, int64_t n)
{
    memset(to, c->add, (size_t)(n * c->code_bytes)); /* 16-bit codes have add 0 */
}

/* Codes of 16 bits; a loop for each type, so that compilers make vectors of both. */
static void widen_codes(const IntConv *c, const uint8_t *from, int16_t *to, int64_t n)
{
    const int8_t *codes = (const int8_t *)from;
    if (c->d.x_type == DTYPE_U8)
        for (int64_t i = 0; i < n; i++)
            to[i] = from[i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = codes[i];
}

static void copy_codes(const IntConv *c, const uint8_t *from, uint8_t *to, int64_t n)
{
    if (c->code_bytes == 2) {
        widen_codes(c, from, (int16_t *)(void *)to, n);
    } else if (c->add == 0) {
        memcpy(to, from, (size_t)n);
    } else {
        for (int64_t i = 0; i < n; i++)
            to[i] = (uint8_t)(from[i] + c->add);
    }
}

/* n pixels of a row of the image, the group's channels of each. */
static void copy_pixels(const IntConv *c, const uint8_t *from, uint8_t *to, int64_t n)
{
    const int64_t cg = c->d.c / c->d.groups;
    if (c->d.groups == 1) {
        copy_codes(c, from, to, n * cg);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        copy_codes(c, from + i * c->d.c, to + i * cg * c->code_bytes, cg);
}

void intconv_strip(const IntConv *c, const uint8_t *x, int64_t n, int64_t g, int64_t first, int64_t rows,
                   uint8_t *strip)
{
    const CallDesc *d = &c->d;
    const int64_t   cg = d->c / d->groups, pixel = cg * c->code_bytes;
    const int64_t   left = dt_min64(d->pad[1], c->cols), inside = dt_max64(dt_min64(d->w, c->cols - left), 0);
    const int64_t   top = first * d->stride - d->pad[0], n_rows = (rows - 1) * d->stride + d->r;
    if (d->groups == 1 && left == 0 && c->cols == d->w && top >= 0 && top + n_rows <= d->h) {
        copy_codes(c, x + (n * d->h + top) * d->w * d->c, strip, n_rows * c->cols * cg); /* no border */
        return;
    }
    for (int64_t i = 0; i < n_rows; i++, strip += c->row_bytes) {
        int64_t row = top + i;
        if (row < 0 || row >= d->h) {
            fill_codes(c, strip, c->cols * cg);
            continue;
        }
        fill_codes(c, strip, left * cg);
        copy_pixels(c, x + (n * d->h + row) * d->w * d->c + g * cg, strip + left * pixel, inside);
        fill_codes(c, strip + (left + inside) * pixel, (c->cols - left - inside) * cg);
    }
}
