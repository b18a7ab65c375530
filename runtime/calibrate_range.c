/* calibrate_range.c: from a histogram to the range that codes should cover.
 *
 *   max         the extremes
 *   percentile  the bin in which the share of values is reached; its inner edge
 *   mse         the range with the least squared error of the bins' centers
 *   entropy     the threshold whose quantized distribution differs least from the whole one (Kullback-Leibler)
 *   sigma3      mean and three standard deviations; from 6 bits on mse, as three sigma are far too few there
 *
 * The first four are those of Wu et al. 2020, section 4, with the details of NVIDIA's code (candidates from bin 128 on;
 * entropy takes the last of equal minima, mse the first). Where codes are symmetric, magnitudes are looked at; a range
 * of unsigned codes sees values below 0 as 0. With a zero point, percentiles are taken of both ends, thresholds of
 * magnitudes cut the extremes, and mse searches both ends: a geometric grid of shares of the extremes, then golden
 * sections around the best cell. The error is that of the quantizer with its whole zero point.
 *
 * Tested by tests/unit/test_calibrate.c. */
#include "runtime/calibrate_impl.h"

#include <float.h>
#include <math.h>

enum { FIRST_CANDIDATE = 128 };
static const double least_step = 1e-8;

/* A histogram as a calibrator sees it. */
typedef struct Seen {
    Arena            *scratch;
    const Histogram  *h;
    const RangeQuery *q;
} Seen;

static int64_t levels_of(const RangeQuery *q)
{
    return q->hi - q->lo + 1;
}

/* ---- Magnitudes -------------------------------------------------------------------------------------------------- */

typedef struct Magnitudes {
    int64_t *bins, n, total;
} Magnitudes;

/* Of both signs, or of positive values with all others as 0. */
static Magnitudes magnitudes_of(const Seen *s)
{
    const HistogramSide *pos = &s->h->side[0], *neg = &s->h->side[1];
    bool                 both = s->q->affine || s->q->lo < 0;
    Magnitudes           m = { .n = both ? dt_max64(pos->n, neg->n) : pos->n, .total = s->h->count };
    m.bins = ARENA_ARRAY(s->scratch, int64_t, m.n);
    for (int64_t i = 0; i < pos->n; i++)
        m.bins[i] = pos->bins[i];
    for (int64_t i = 0; i < neg->n; i++)
        m.bins[both ? i : 0] += neg->bins[i];
    return m;
}

/* ---- Extremes ---------------------------------------------------------------------------------------------------- */

static Range max_range(const Seen *s)
{
    double max = s->q->lo < 0 ? fmax(s->h->max, -s->h->min) : s->h->max;
    return s->q->affine ? (Range){ s->h->min, s->h->max } : (Range){ 0, max };
}

/* ---- Percentile -------------------------------------------------------------------------------------------------- */

/* The smallest bin up to which the share of all values lies, counting from `below` values on. */
static int64_t share_bin(const int64_t *bins, int64_t n, int64_t below, int64_t total, double percentile)
{
    int64_t sum = below;
    for (int64_t i = 0; i < n; i++) {
        sum += bins[i];
        if ((double)sum / (double)total >= percentile / 100)
            return i;
    }
    return n - 1;
}

static int64_t side_total(const HistogramSide *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++)
        n += s->bins[i];
    return n;
}

/* One end: all that lies on the other side comes first. */
static double end_percentile(const Seen *s, int32_t side)
{
    const HistogramSide *here = &s->h->side[side];
    int64_t              below = side_total(&s->h->side[!side]);
    if (here->n == 0 || (double)below / (double)s->h->count >= s->q->percentile / 100)
        return 0;
    return (double)share_bin(here->bins, here->n, below, s->h->count, s->q->percentile) * s->h->width;
}

static Range percentile_range(const Seen *s)
{
    if (s->q->affine)
        return (Range){ 0 - end_percentile(s, 1), end_percentile(s, 0) };
    Magnitudes m = magnitudes_of(s);
    int64_t    bin = share_bin(m.bins, m.n, 0, m.total, s->q->percentile);
    return (Range){ 0, (double)dt_max64(bin, 1) * s->h->width }; /* bin 0 begins at 0, which is no range */
}

/* ---- Mean squared error ------------------------------------------------------------------------------------------ */

/* Centers of the bins that hold something, and how much; padded with empty ones to whole LANES. */
enum { LANES = 4 };
typedef struct Points {
    double *x, *count;
    int64_t n;
} Points;

static Points points_of(const Seen *s)
{
    const Histogram *h = s->h;
    int64_t          most = h->side[0].n + h->side[1].n + LANES;
    Points           p = { ARENA_ARRAY(s->scratch, double, most), ARENA_ARRAY(s->scratch, double, most), 0 };
    for (int32_t k = 0; k < DT_COUNT(h->side); k++)
        for (int64_t i = 0; i < h->side[k].n; i++) {
            if (h->side[k].bins[i] == 0)
                continue;
            p.x[p.n] = ((double)i + 0.5) * (k > 0 ? -h->width : h->width);
            p.count[p.n++] = (double)h->side[k].bins[i];
        }
    p.n = dt_round_up(p.n, LANES);
    return p;
}

/* Squared error of x^ = step (clip(rint(x / step) + zero, lo, hi) - zero). */
static double points_error(const Points *p, const RangeQuery *q, double step, double zero)
{
    /* Adding and taking away 1.5 2^52 rounds half to even whatever the machine; clipped values are small enough. */
    const double lo = (double)q->lo - zero, hi = (double)q->hi - zero, magic = 0x1.8p52, scale = 1 / step;
    double       sum[LANES] = { 0 };
    for (int64_t i = 0; i < p->n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double x = p->x[i + k], t = x * scale;
            t = t < lo ? lo : t;
            t = t > hi ? hi : t;
            double e = ((t + magic) - magic) * step - x;
            sum[k] += p->count[i + k] * (e * e);
        }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static Range mse_symmetric(const Seen *s)
{
    Points  p = points_of(s);
    int64_t n = magnitudes_of(s).n;
    double  best = INFINITY, max = 0;
    for (int64_t i = FIRST_CANDIDATE; i < n; i++) {
        double center = ((double)i + 0.5) * s->h->width;
        double error = points_error(&p, s->q, center / (double)s->q->hi, 0);
        if (error < best) {
            best = error;
            max = center;
        }
    }
    return max > 0 ? (Range){ 0, max } : max_range(s);
}

/* A search over both ends of a range. */
typedef struct Search {
    const Seen *s;
    Points      p;
    double      best;
    Range       at;
} Search;

/* The error of a range; the best one is kept. */
static double search_try(Search *w, Range r)
{
    const RangeQuery *q = w->s->q;
    double            step = (r.max - r.min) / (double)(q->hi - q->lo);
    if (!(step >= least_step))
        return INFINITY;
    double zero = fmin(fmax(rint((double)q->lo - r.min / step), (double)q->lo), (double)q->hi);
    double error = points_error(&w->p, q, step, zero);
    if (error < w->best) {
        w->best = error;
        w->at = r;
    }
    return error;
}

/* The range with one end moved. */
static Range with_end(Range r, bool upper, double end)
{
    return upper ? (Range){ r.min, end } : (Range){ end, r.max };
}

/* Golden sections between end / ratio and end ratio. */
static void search_end(Search *w, bool upper, double ratio)
{
    enum { SECTIONS = 24 };
    const double golden = (sqrt(5) - 1) / 2;
    Range        r = w->at;
    double       end = upper ? r.max : r.min, a = -log(ratio), b = log(ratio);
    if (end == 0)
        return;
    double c = b - golden * (b - a), d = a + golden * (b - a);
    double fc = search_try(w, with_end(r, upper, end * exp(c))), fd = search_try(w, with_end(r, upper, end * exp(d)));
    for (int i = 0; i < SECTIONS; i++) {
        if (fc <= fd) {
            b = d, d = c, fd = fc;
            c = b - golden * (b - a);
            fc = search_try(w, with_end(r, upper, end * exp(c)));
        } else {
            a = c, c = d, fc = fd;
            d = a + golden * (b - a);
            fd = search_try(w, with_end(r, upper, end * exp(d)));
        }
    }
}

static Range mse_affine(const Seen *s)
{
    enum { SHARES = 40, ROUNDS = 3 }; /* shares down to 2^-10, the last one 0 */
    const double ratio = exp2(0.25);
    Search       w = { .s = s, .p = points_of(s), .best = INFINITY, .at = { s->h->min, s->h->max } };
    for (int i = 0; i <= SHARES; i++)
        for (int k = 0; k <= SHARES; k++) {
            double min = i < SHARES ? s->h->min * exp2(-0.25 * i) : 0;
            double max = k < SHARES ? s->h->max * exp2(-0.25 * k) : 0;
            if ((s->h->min < 0 || i == 0) && (s->h->max > 0 || k == 0))
                (void)search_try(&w, (Range){ min, max });
        }
    for (int i = 0; i < ROUNDS; i++) {
        search_end(&w, true, ratio);
        search_end(&w, false, ratio);
    }
    return w.at;
}

/* ---- Entropy ----------------------------------------------------------------------------------------------------- */

/* Bins that hold something. */
typedef struct Sparse {
    int64_t *bin, *count, n;
} Sparse;

/* Kullback-Leibler divergence of the bins below `end`, with all that lies above in the last of them, from the same in
 * `levels` groups, each spread evenly over its bins that hold something. used, below: bins below `end`, and their sum.
 */
static double divergence(const Sparse *h, int64_t used, int64_t below, int64_t total, int64_t end, int64_t levels)
{
    int64_t tail = total - below;
    if (below == 0 || (tail > 0 && h->bin[used - 1] != end - 1))
        return INFINITY; /* the last bin is empty: its quantized share is 0, but the tail is in it */
    double sum = 0;
    for (int64_t k = 0, first = 0; k < used; first = k) {
        int64_t after = (h->bin[k] * levels / end + 1) * end, group = 0;
        for (; k < used && h->bin[k] * levels < after; k++)
            group += h->count[k];
        double q = (double)group / (double)(k - first) / (double)below;
        for (int64_t i = first; i < k; i++) {
            double p = (double)(h->count[i] + (i == used - 1 ? tail : 0)) / (double)total;
            sum += p * log(p / q);
        }
    }
    return sum;
}

/* The threshold; 0: the values say nothing. */
static double entropy_threshold(const Seen *s)
{
    int64_t    levels = s->q->affine ? levels_of(s->q) : s->q->hi + 1;
    Magnitudes m = magnitudes_of(s);
    Sparse     h = { ARENA_ARRAY(s->scratch, int64_t, m.n), ARENA_ARRAY(s->scratch, int64_t, m.n), 0 };
    int64_t    total = 0, below = 0, used = 0, best_end = 0;
    double     best = INFINITY;
    m.bins[0] = m.n > 1 ? m.bins[1] : m.bins[0]; /* the zeros of relu say nothing of the range */
    for (int64_t i = 0; i < m.n; i++)
        if (m.bins[i] > 0) {
            h.bin[h.n] = i;
            h.count[h.n++] = m.bins[i];
            total += m.bins[i];
        }
    for (int64_t end = FIRST_CANDIDATE; end <= m.n; end++) {
        for (; used < h.n && h.bin[used] < end; used++)
            below += h.count[used];
        double d = divergence(&h, used, below, total, end, levels);
        if (d <= best && d < INFINITY) {
            best = d;
            best_end = end;
        }
    }
    return (double)best_end * s->h->width;
}

/* ---- Ranges ------------------------------------------------------------------------------------------------------ */

static Range mse_range(const Seen *s)
{
    return s->q->affine ? mse_affine(s) : mse_symmetric(s);
}

static Range entropy_range(const Seen *s)
{
    double t = entropy_threshold(s);
    if (t == 0)
        return max_range(s);
    return s->q->affine ? (Range){ fmax(s->h->min, -t), fmin(s->h->max, t) } : (Range){ 0, t };
}

/* Signed codes: the larger of |mean +- 3 sigma| is 2^(b-1) steps (Bhalgat et al. 2020, section 3.3). */
static Range sigma3_range(const Seen *s)
{
    enum { FEW_BITS = 1 << 5 };
    if (levels_of(s->q) > FEW_BITS)
        return mse_range(s);
    double n = (double)s->h->count, mean = s->h->sum / n;
    double spread = 3 * sqrt(fmax(s->h->squares / n - mean * mean, 0));
    if (s->q->affine)
        return (Range){ fmin(fmax(mean - spread, s->h->min), 0), fmax(fmin(mean + spread, s->h->max), 0) };
    double most = fabs(mean) + spread, hi = (double)s->q->hi;
    return (Range){ 0, s->q->lo < 0 ? most * hi / (hi + 1) : mean + spread };
}

/* What a quantizer can use: a step that is neither 0 nor infinite. */
static Range usable(const Seen *s, Range r)
{
    const RangeQuery *q = s->q;
    double            codes = (double)(q->affine ? q->hi - q->lo : q->hi);
    r.min = fmax(q->affine ? r.min : 0, -(double)FLT_MAX / 4);
    r.max = fmin(r.max, (double)FLT_MAX / 4);
    if (!(r.max - r.min >= codes * least_step))
        r.max = r.min + codes * least_step;
    if (!q->affine && q->lo < 0)
        r.min = -r.max;
    return r;
}

Range calibrate_range(const Histogram *h, const RangeQuery *q)
{
    static Range (*const kinds[])(const Seen *) = {
        [CALIBRATE_MAX] = max_range,         [CALIBRATE_PERCENTILE] = percentile_range, [CALIBRATE_MSE] = mse_range,
        [CALIBRATE_ENTROPY] = entropy_range, [CALIBRATE_SIGMA3] = sigma3_range,
    };
    DT_ASSERT(q->kind > CALIBRATE_NONE && q->kind <= CALIBRATE_SIGMA3 && q->lo <= 0 && q->hi > 0,
              "calibration %d of codes %lld..%lld", (int)q->kind, (long long)q->lo, (long long)q->hi);
    Arena scratch = arena_new("range");
    Seen  s = { &scratch, h, q };
    bool  blank = histogram_is_blank(h);
    Range r = blank ? (Range){ q->affine ? -1 : 0, 1 } : kinds[q->kind](&s);
    r = usable(&s, r);
    arena_free(&scratch);
    return r;
}
