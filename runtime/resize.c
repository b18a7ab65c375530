/* resize.c: pictures made smaller and larger as Pillow does it, so that networks see what they saw elsewhere.
 *
 * Each output pixel is a weighted mean of input pixels around its place; when shrinking, the filter is stretched by the
 * scale, which is what keeps thin lines from flickering. Rows first, rounded to bytes, then columns. Weights are
 * integers of 22 fractional bits; all of it follows Pillow's Resample.c, and gives its bytes (but where the width
 * grows and the height shrinks: Pillow 13 does columns first there, and a byte may differ by one).
 *
 * Tested by tests/unit/test_pictures.c against values from Pillow (tests/reference/make_pictures.py). */
#include "runtime/data_impl.h"

#include <math.h>

enum { BITS = 32 - 8 - 2 }; /* a sum of weights and bytes fits 32 bits, with room for the overshoot of bicubic */

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)
{
    static const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct {
    double (*at)(double);
    double support;
} filters[] = { [FILTER_BILINEAR] = { bilinear, 1 }, [FILTER_BICUBIC] = { bicubic, 2 } };

/* Of each output pixel along one side: weights of input pixels first[i] to first[i] + count[i] - 1. */
typedef struct Taps {
    int32_t  out, most; /* weights are `most` apart */
    int32_t *first, *count, *weights;
} Taps;

static void make_weights(const Taps *t, int32_t i, double center, double stretch, Filter f, double *exact)
{
    double sum = 0;
    for (int32_t k = 0; k < t->count[i]; k++) {
        exact[k] = filters[f].at((k + t->first[i] - center + 0.5) * (1 / stretch));
        sum += exact[k];
    }
    for (int32_t k = 0; k < t->count[i]; k++) {
        double w = (sum != 0 ? exact[k] / sum : exact[k]) * (1 << BITS);
        t->weights[i * t->most + k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

static Taps make_taps(Arena *a, int32_t in, double from, double length, int32_t out, Filter f)
{
    const double scale = length / out, stretch = scale < 1 ? 1 : scale, support = filters[f].support * stretch;
    Taps         t = { .out = out, .most = (int32_t)ceil(support) * 2 + 1 };
    t.first = ARENA_ARRAY(a, int32_t, out);
    t.count = ARENA_ARRAY(a, int32_t, out);
    t.weights = ARENA_ARRAY(a, int32_t, (int64_t)out *t.most);
    double *exact = ARENA_ARRAY(a, double, t.most);
    for (int32_t i = 0; i < out; i++) {
        double  center = from + (i + 0.5) * scale;
        int32_t first = (int32_t)(center - support + 0.5), end = (int32_t)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > in ? in : end;
        t.first[i] = first;
        t.count[i] = end - first;
        make_weights(&t, i, center, stretch, f, exact);
    }
    return t;
}

static inline uint8_t clip(int32_t sum)
{
    sum >>= BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One row: out pixel i from in pixels t->first[i].. */
static void across(const Taps *t, const uint8_t *in, int32_t c, uint8_t *out)
{
    for (int32_t i = 0; i < t->out; i++) {
        const int32_t *w = t->weights + i * t->most, n = t->count[i];
        const uint8_t *from = in + t->first[i] * c;
        if (c == 3) {
            int32_t r = 1 << (BITS - 1), g = r, b = r;
            for (int32_t k = 0; k < n; k++) {
                r += w[k] * from[3 * k];
                g += w[k] * from[3 * k + 1];
                b += w[k] * from[3 * k + 2];
            }
            out[3 * i] = clip(r);
            out[3 * i + 1] = clip(g);
            out[3 * i + 2] = clip(b);
            continue;
        }
        int32_t sum = 1 << (BITS - 1);
        for (int32_t k = 0; k < n; k++)
            sum += w[k] * from[k];
        out[i] = clip(sum);
    }
}

/* One row of the result from rows of the intermediate picture, `width` bytes each. */
static void down(const Taps *t, int32_t i, const uint8_t *in, int32_t width, int32_t *sums, uint8_t *out)
{
    for (int32_t x = 0; x < width; x++)
        sums[x] = 1 << (BITS - 1);
    for (int32_t k = 0; k < t->count[i]; k++) {
        const int32_t  w = t->weights[i * t->most + k];
        const uint8_t *row = in + (int64_t)(t->first[i] + k) * width;
        for (int32_t x = 0; x < width; x++)
            sums[x] += w * row[x];
    }
    for (int32_t x = 0; x < width; x++)
        out[x] = clip(sums[x]);
}

Picture picture_resize(Arena *a, const Picture *p, double top, double left, double height, double width, int32_t h,
                       int32_t w, Filter f)
{
    DT_ASSERT(h > 0 && w > 0 && height > 0 && width > 0 && top >= 0 && left >= 0 && top + height <= p->h + 1e-6 &&
                  left + width <= p->w + 1e-6,
              "%gx%g at %g, %g of %dx%d to %dx%d", height, width, top, left, p->h, p->w, h, w);
    Picture out = { .c = p->c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)p->c * (size_t)h * (size_t)w) };
    Arena   scratch = arena_new("resize");
    Taps    rows = make_taps(&scratch, p->w, left, width, w, f), columns = make_taps(&scratch, p->h, top, height, h, f);
    /* Only rows that columns look at. */
    const int32_t first = columns.first[0], end = columns.first[h - 1] + columns.count[h - 1], bytes = w * p->c;
    uint8_t      *between = arena_alloc(&scratch, (size_t)(end - first) * (size_t)bytes);
    int32_t      *sums = ARENA_ARRAY(&scratch, int32_t, bytes);
    for (int32_t y = first; y < end; y++)
        across(&rows, p->pixels + (int64_t)y * p->w * p->c, p->c, between + (int64_t)(y - first) * bytes);
    for (int32_t i = 0; i < h; i++)
        columns.first[i] -= first;
    for (int32_t i = 0; i < h; i++)
        down(&columns, i, between, bytes, sums, out.pixels + (int64_t)i * bytes);
    arena_free(&scratch);
    return out;
}
