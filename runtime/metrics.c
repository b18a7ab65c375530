/* metrics.c: see metrics.h.
 *
 * The window of SSIM is a product of two rows of weights: at each row of windows five sums over its 11 rows (x, y, xx,
 * yy, xy; from the top down) are kept for every column, then each window sums 11 columns of them from left to right.
 * Rows are independent: threads take some each, and their sums are added in order.
 *
 * Tested by tests/unit/test_metrics.c. */
#include "runtime/metrics.h"

#include <math.h>

#define SIGMA 1.5
#define K1 0.01
#define K2 0.03
enum { CODES = 255, MOMENTS = 5 };

int32_t metric_rank(const float *logits, int32_t n, int32_t label)
{
    int32_t rank = 0;
    for (int32_t i = 0; i < n; i++)
        rank += i != label && !(logits[i] <= logits[label]);
    return rank;
}

/* ---- SSIM ------------------------------------------------------------------------------------------------------ */

void ssim_taps(double taps[SSIM_WINDOW])
{
    double sum = 0;
    for (int32_t i = 0; i < SSIM_WINDOW; i++) {
        double d = i - SSIM_WINDOW / 2;
        taps[i] = exp(-d * d / (2 * SIGMA * SIGMA));
        sum += taps[i];
    }
    for (int32_t i = 0; i < SSIM_WINDOW; i++)
        taps[i] /= sum;
}

/* Two planes and how windows walk over them: window (i, j) begins at row i + first, column j + first. */
typedef struct Planes {
    const double *x, *y;
    int32_t       h, w;
    int32_t       first;      /* 0, or -5: outside */
    int32_t       rows, cols; /* of windows */
    double        taps[SSIM_WINDOW];
    double        c1, c2;
} Planes;

static int32_t inside(int32_t i, int32_t n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* sums[moment][column]: over the rows of the windows of row i. */
static void add_rows(const Planes *p, int32_t i, double *sums)
{
    const int64_t w = p->w;
    for (int64_t k = 0; k < MOMENTS * w; k++)
        sums[k] = 0;
    for (int32_t t = 0; t < SSIM_WINDOW; t++) {
        const int64_t row = inside(i + p->first + t, p->h) * w;
        const double *x = p->x + row, *y = p->y + row, tap = p->taps[t];
        for (int64_t k = 0; k < w; k++) {
            sums[k] += tap * x[k];
            sums[w + k] += tap * y[k];
            sums[2 * w + k] += tap * (x[k] * x[k]);
            sums[3 * w + k] += tap * (y[k] * y[k]);
            sums[4 * w + k] += tap * (x[k] * y[k]);
        }
    }
}

/* Of the window that begins at column j. */
static double window_ssim(const Planes *p, const double *sums, int32_t j)
{
    double m[MOMENTS] = { 0 };
    for (int32_t t = 0; t < SSIM_WINDOW; t++) {
        const int32_t at = inside(j + p->first + t, p->w);
        for (int32_t k = 0; k < MOMENTS; k++)
            m[k] += p->taps[t] * sums[(int64_t)k * p->w + at];
    }
    const double xx = m[0] * m[0], yy = m[1] * m[1], xy = m[0] * m[1];
    return (2 * xy + p->c1) * (2 * (m[4] - xy) + p->c2) / ((xx + yy + p->c1) * (m[2] - xx + (m[3] - yy) + p->c2));
}

double ssim_plane(const double *x, const double *y, int32_t h, int32_t w, double range, SsimForm form)
{
    const int32_t less = form == SSIM_VALID ? SSIM_WINDOW - 1 : 0;
    Planes        p = { .x = x,
                        .y = y,
                        .h = h,
                        .w = w,
                        .first = form == SSIM_VALID ? 0 : -(SSIM_WINDOW / 2),
                        .rows = h - less,
                        .cols = w - less,
                        .c1 = K1 * range * (K1 * range),
                        .c2 = K2 * range * (K2 * range) };
    if (p.rows < 1 || p.cols < 1)
        return (double)NAN;
    ssim_taps(p.taps);
    Arena   scratch = arena_new("ssim");
    double *each = ARENA_ARRAY(&scratch, double, p.rows), sum = 0;
#pragma omp parallel
    {
        Arena   own = arena_new("ssim rows");
        double *sums = ARENA_ARRAY(&own, double, (int64_t)MOMENTS *w);
#pragma omp for schedule(static)
        for (int32_t i = 0; i < p.rows; i++) {
            add_rows(&p, i, sums);
            double row = 0;
            for (int32_t j = 0; j < p.cols; j++)
                row += window_ssim(&p, sums, j);
            each[i] = row;
        }
        arena_free(&own);
    }
    for (int32_t i = 0; i < p.rows; i++)
        sum += each[i];
    arena_free(&scratch);
    return sum / ((double)p.rows * p.cols);
}

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

MetricPicture metric_picture(const float *at, int32_t c, int32_t h, int32_t w, bool nhwc)
{
    const int64_t hw = (int64_t)h * w;
    return nhwc ? (MetricPicture){ at, c, h, w, 1, (int64_t)w * c, c } : (MetricPicture){ at, c, h, w, hw, w, 1 };
}

/* A NaN stays one. */
static double code_of(float value)
{
    double x = (double)value;
    return rint((x < 0 ? 0 : x > 1 ? 1 : x) * CODES);
}

/* One channel as codes, row by row. */
static void plane_codes(const MetricPicture *p, int32_t c, double *out)
{
    const float *at = p->at + c * p->step_c;
    for (int32_t y = 0; y < p->h; y++)
        for (int32_t x = 0; x < p->w; x++)
            out[(int64_t)y * p->w + x] = code_of(at[y * p->step_y + x * p->step_x]);
}

PictureScore metric_compare(const MetricPicture *got, const MetricPicture *want, SsimForm form)
{
    DT_ASSERT(got->c == want->c && got->h == want->h && got->w == want->w, "pictures of %dx%dx%d and %dx%dx%d", got->c,
              got->h, got->w, want->c, want->h, want->w);
    const int64_t n = (int64_t)got->h * got->w;
    Arena         scratch = arena_new("picture");
    double       *a = ARENA_ARRAY(&scratch, double, n), *b = ARENA_ARRAY(&scratch, double, n);
    double        squares = 0, ssim = 0; /* squares of whole numbers: the sum is exact */
    for (int32_t c = 0; c < got->c; c++) {
        plane_codes(got, c, a);
        plane_codes(want, c, b);
        for (int64_t i = 0; i < n; i++)
            squares += (a[i] - b[i]) * (a[i] - b[i]);
        ssim += ssim_plane(a, b, got->h, got->w, CODES, form);
    }
    arena_free(&scratch);
    const double mse = squares / ((double)n * got->c);
    return (PictureScore){ mse == 0 ? (double)INFINITY : 10 * log10((double)CODES * CODES / mse), ssim / got->c };
}

static MetricPicture picture_floats(Arena *a, const Picture *p)
{
    int64_t n = (int64_t)p->h * p->w * p->c;
    float  *at = ARENA_ARRAY(a, float, n);
    for (int64_t i = 0; i < n; i++)
        at[i] = (float)p->pixels[i] / CODES;
    return metric_picture(at, p->c, p->h, p->w, true);
}

PictureScore picture_score(const Picture *got, const Picture *want)
{
    Arena         scratch = arena_new("picture");
    MetricPicture x = picture_floats(&scratch, got), y = picture_floats(&scratch, want);
    PictureScore  score = metric_compare(&x, &y, SSIM_VALID);
    arena_free(&scratch);
    return score;
}

double psnr_counted(double psnr)
{
    return psnr > PSNR_MOST ? PSNR_MOST : psnr;
}
