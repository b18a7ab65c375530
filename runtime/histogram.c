/* histogram.c: how often values of each size occur, in memory that does not grow with their number.
 *
 * Both signs have bins of one width, counted from 0 outwards, so that one histogram serves ranges of magnitudes and
 * ranges with a zero point. The width is that of the first batch with a value but 0: its largest magnitude over
 * HISTOGRAM_FIRST. Later batches append bins; when there would be more than HISTOGRAM_MOST, neighbours are merged.
 *
 * Tested by tests/unit/test_calibrate.c. */
#include "runtime/calibrate_impl.h"

#include <math.h>
#include <string.h>

Histogram *histogram_new(Arena *a)
{
    Histogram *h = ARENA_NEW(a, Histogram);
    h->arena = a;
    return h;
}

int64_t histogram_skipped(const Histogram *h)
{
    return h->skipped;
}

bool histogram_is_blank(const Histogram *h)
{
    return h->width == 0;
}

/* Extremes and sums; LANES partial sums, whose order is part of the result. */
static void add_moments(Histogram *h, const float *x, int64_t n)
{
    enum { LANES = 4 };
    double  sum[LANES] = { 0 }, squares[LANES] = { 0 };
    int64_t finite = 0;
    for (int64_t i = 0; i < n; i++) {
        bool   fits = isfinite(x[i]);
        double v = fits ? (double)x[i] : 0;
        finite += fits;
        h->min = v < h->min ? v : h->min;
        h->max = v > h->max ? v : h->max;
        sum[i % LANES] += v;
        squares[i % LANES] += v * v;
    }
    h->count += finite;
    h->skipped += n - finite;
    h->sum += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    h->squares += (squares[0] + squares[1]) + (squares[2] + squares[3]);
}

static void merge_neighbours(Histogram *h)
{
    h->width *= 2;
    for (int32_t k = 0; k < DT_COUNT(h->side); k++) {
        HistogramSide *s = &h->side[k];
        int64_t        half = (s->n + 1) / 2;
        for (int64_t i = 0; i < half; i++)
            s->bins[i] = s->bins[2 * i] + (2 * i + 1 < s->n ? s->bins[2 * i + 1] : 0);
        memset(s->bins + half, 0, (size_t)(s->n - half) * sizeof *s->bins);
        s->n = half;
    }
}

static void reach(Histogram *h, HistogramSide *s, double most)
{
    int64_t n = (int64_t)ceil(most / h->width);
    if (n > s->cap) {
        int64_t  cap = dt_min64(dt_max64(n, 2 * s->cap), HISTOGRAM_MOST);
        int64_t *bins = ARENA_ARRAY(h->arena, int64_t, cap);
        if (s->n > 0)
            memcpy(bins, s->bins, (size_t)s->n * sizeof *bins);
        s->bins = bins;
        s->cap = cap;
    }
    s->n = dt_max64(n, s->n);
}

/* Bins for all that was seen. `zeros`: values so far that have no bin yet. */
static void make_room(Histogram *h, int64_t zeros)
{
    double most = fmax(h->max, -h->min);
    bool   first = h->width == 0;
    if (first)
        h->width = most / HISTOGRAM_FIRST;
    while (most > HISTOGRAM_MOST * h->width)
        merge_neighbours(h);
    reach(h, &h->side[0], fmax(h->max, h->width)); /* 0 has a bin in any case */
    reach(h, &h->side[1], -h->min);
    if (first)
        h->side[0].bins[0] = zeros;
}

void histogram_add(Histogram *h, const float *x, int64_t n)
{
    int64_t before = h->count;
    add_moments(h, x, n);
    if (h->min == 0 && h->max == 0)
        return;
    make_room(h, before);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            continue;
        HistogramSide *s = &h->side[x[i] < 0];
        int64_t        k = (int64_t)(fabs((double)x[i]) / h->width);
        s->bins[k < s->n ? k : s->n - 1]++;
    }
}
