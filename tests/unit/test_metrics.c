/* test_metrics.c: runtime/metrics.h against closed forms, against NumPy (tests/reference/make_metrics.py), and against
 * itself for any layout and number of threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/metrics.h"

#include <jansson.h>
#include <math.h>
#include <omp.h>

static void close_to(const char *what, double found, double wanted, double bound)
{
    if (!(fabs(found - wanted) <= bound))
        fail_msg("%s: %.17g, expected %.17g", what, found, wanted);
}

/* ---- Closed forms ---------------------------------------------------------------------------------------------- */

static void ranks_count_larger_logits(void **state)
{
    (void)state;
    const float logits[] = { 1, 3, 2, 3, -1, NAN };
    const int   want[] = { 3, 0, 2, 0, 4 };
    for (int32_t i = 0; i < DT_COUNT(want); i++)
        assert_int_equal(metric_rank(logits, 5, i), want[i]);
    assert_int_equal(metric_rank(logits, 6, 1), 1); /* beside a NaN nothing is the largest ... */
    assert_int_equal(metric_rank(logits, 6, 5), 5); /* ... and a NaN is not, either */
}

static void taps_are_those_of_the_paper(void **state)
{
    (void)state;
    static const double half[] = { 0.00102838, 0.00759876, 0.03600077, 0.10936069, 0.21300554, 0.26601172 };
    double              taps[SSIM_WINDOW], sum = 0;
    ssim_taps(taps);
    for (int i = 0; i < SSIM_WINDOW; i++) {
        close_to("tap", taps[i], half[i < 6 ? i : 10 - i], 5e-9);
        sum += taps[i];
    }
    close_to("sum of taps", sum, 1, 1e-15);
}

static void fill(double *plane, int n, double value)
{
    for (int i = 0; i < n; i++)
        plane[i] = value;
}

static void planes_of_one_value(void **state)
{
    (void)state;
    enum { H = 13, W = 12 };
    double x[H * W], y[H * W];
    fill(x, H * W, 0.5);
    fill(y, H * W, 0.6);
    for (int form = SSIM_VALID; form <= SSIM_PADDED; form++) {
        close_to("constants", ssim_plane(x, y, H, W, 1, (SsimForm)form), 0.98360924, 5e-9);
        close_to("the same", ssim_plane(x, x, H, W, 1, (SsimForm)form), 1, 1e-12);
    }
    assert_true(isnan(ssim_plane(x, y, 10, W, 1, SSIM_VALID)));
    close_to("padded", ssim_plane(x, y, 1, 1, 1, SSIM_PADDED), 0.98360924, 5e-9);
}

/* One code of 48 is wrong by one. Values between codes, outside 0..1 and halves go where they should. */
static void pictures_are_rounded_to_codes(void **state)
{
    (void)state;
    enum { N = 3 * 4 * 4 };
    float a[N], b[N];
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)i / 255.0f;
    a[3] = 3.4f / 255, b[3] = 2.6f / 255;
    a[4] = -7, b[4] = 0;
    a[5] = 1e30f, b[5] = 1;
    MetricPicture p = metric_picture(a, 3, 4, 4, false), q = metric_picture(b, 3, 4, 4, false);
    assert_true(isinf(metric_compare(&p, &q, SSIM_PADDED).psnr));
    b[7] = 8.0f / 255;
    PictureScore s = metric_compare(&p, &q, SSIM_VALID);
    close_to("psnr", s.psnr, 10 * log10(255.0 * 255.0 * N), 1e-12);
    assert_true(isnan(s.ssim)); /* four rows have no window */
    b[7] = NAN;
    s = metric_compare(&p, &q, SSIM_PADDED);
    assert_true(isnan(s.psnr) && isnan(s.ssim));
    assert_true(psnr_counted((double)INFINITY) == PSNR_MOST && psnr_counted(31.5) == 31.5);
    assert_true(isnan(psnr_counted((double)NAN)));
}

/* ---- NumPy ----------------------------------------------------------------------------------------------------- */

static uint32_t hashed(uint32_t i, uint32_t salt)
{
    uint32_t x = i * 2654435761U + salt * 40503U;
    x = (x ^ x >> 16) * 0x85EBCA6BU;
    x = (x ^ x >> 13) * 0xC2B2AE35U;
    return x ^ x >> 16;
}

static double uniform(int i, uint32_t salt)
{
    return (double)(hashed((uint32_t)i, salt) >> 8) / 0x1p24;
}

typedef struct Pair {
    int32_t c, h, w;
    float  *clean, *other;
} Pair;

static Pair make_pair(Arena *a, int32_t c, int32_t h, int32_t w, double distance)
{
    const int n = c * h * w;
    Pair      p = { c, h, w, ARENA_ARRAY(a, float, n), ARENA_ARRAY(a, float, n) };
    for (int i = 0; i < n; i++) {
        double slope = (double)(i % w) / w;
        p.clean[i] = (float)(0.7 * slope + 0.35 * uniform(i, 1));
        p.other[i] = (float)((double)p.clean[i] + distance * (uniform(i, 2) - 0.5));
    }
    return p;
}

static PictureScore compare(const Pair *p, SsimForm form)
{
    MetricPicture got = metric_picture(p->other, p->c, p->h, p->w, false);
    MetricPicture want = metric_picture(p->clean, p->c, p->h, p->w, false);
    return metric_compare(&got, &want, form);
}

static double number(const json_t *row, const char *key)
{
    json_t *v = json_object_get(row, key);
    if (!v)
        fail_msg("metrics.json: no %s", key);
    return json_is_null(v) ? (double)NAN : json_number_value(v);
}

static void as_numpy_says(void **state)
{
    (void)state;
    json_error_t e;
    json_t      *ref = json_load_file(DT_SOURCE_DIR "/tests/reference/metrics.json", 0, &e), *row;
    size_t       i;
    if (!ref)
        fail_msg("metrics.json:%d: %s", e.line, e.text);
    json_t *rows = json_object_get(ref, "pictures");
    assert_int_equal(json_array_size(rows), 5);
    json_array_foreach(rows, i, row)
    {
        Arena        a = arena_new("pair");
        Pair         p = make_pair(&a, (int32_t)number(row, "c"), (int32_t)number(row, "h"), (int32_t)number(row, "w"),
                                   number(row, "distance"));
        PictureScore valid = compare(&p, SSIM_VALID), padded = compare(&p, SSIM_PADDED);
        double       psnr = number(row, "psnr"), ssim = number(row, "ssim");
        if (isnan(psnr))
            assert_true(isinf(valid.psnr));
        else
            close_to("psnr", valid.psnr, psnr, 1e-11);
        assert_int_equal(isnan(ssim), isnan(valid.ssim));
        if (!isnan(ssim))
            close_to("ssim", valid.ssim, ssim, 1e-11); /* another order of sums, and of centring */
        close_to("padded", padded.ssim, number(row, "padded"), 1e-11);
        assert_true(valid.psnr == padded.psnr);
        arena_free(&a);
    }
    json_decref(ref);
}

/* ---- The same bits --------------------------------------------------------------------------------------------- */

static void layout_does_not_matter(void **state)
{
    (void)state;
    Arena  a = arena_new("pair");
    Pair   p = make_pair(&a, 3, 19, 14, 0.1);
    float *got = ARENA_ARRAY(&a, float, 3 * 19 * 14), *want = ARENA_ARRAY(&a, float, 3 * 19 * 14);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 19 * 14; i++) {
            got[i * 3 + c] = p.other[c * 19 * 14 + i];
            want[i * 3 + c] = p.clean[c * 19 * 14 + i];
        }
    MetricPicture g = metric_picture(got, 3, 19, 14, true), w = metric_picture(want, 3, 19, 14, true);
    PictureScore  rows = compare(&p, SSIM_VALID), last = metric_compare(&g, &w, SSIM_VALID);
    assert_true(rows.psnr == last.psnr && rows.ssim == last.ssim);
    arena_free(&a);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    Arena        a = arena_new("pair");
    Pair         p = make_pair(&a, 3, 67, 41, 0.1);
    PictureScore first = { 0 };
    for (int threads = 1; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        PictureScore s = compare(&p, SSIM_PADDED);
        if (threads == 1)
            first = s;
        assert_true(s.psnr == first.psnr && s.ssim == first.ssim);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_count_larger_logits),
        cmocka_unit_test(taps_are_those_of_the_paper),
        cmocka_unit_test(planes_of_one_value),
        cmocka_unit_test(pictures_are_rounded_to_codes),
        cmocka_unit_test(as_numpy_says),
        cmocka_unit_test(layout_does_not_matter),
        cmocka_unit_test(threads_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
