/* metrics.h: how good an answer is: rank of a label, PSNR and SSIM of a picture. Everything in double, each sum in one
 * fixed order, so that the same answers give the same bits on any number of threads.
 *
 * Pictures are compared as they would be shown: every value is clamped to 0..1 and rounded to one of 256 codes (half to
 * even) first. Near 40 dB this changes PSNR by a few hundredths.
 *
 * Tested by tests/unit/test_metrics.c against NumPy (tests/reference/make_metrics.py, which scikit-image confirms). */
#ifndef DETENT_RUNTIME_METRICS_H
#define DETENT_RUNTIME_METRICS_H

#include "runtime/data.h"

/* The number of logits that are larger than the label's: 0 is top-1, below 5 top-5. Among equal ones the label is the
 * first. A logit that is NaN ranks above all, so a broken answer is a wrong one. */
int32_t metric_rank(const float *logits, int32_t n, int32_t label);

/* A picture in memory, of any layout: element (c, y, x) is at[c step_c + y step_y + x step_x]. */
typedef struct MetricPicture {
    const float *at;
    int32_t      c, h, w;
    int64_t      step_c, step_y, step_x;
} MetricPicture;
MetricPicture metric_picture(const float *at, int32_t c, int32_t h, int32_t w, bool nhwc);

/* Where windows lie. Valid: inside the picture alone (Wang et al. 2004, BasicSR, scikit-image with Gaussian weights).
 * Padded: around every pixel, the border repeated outwards (MATLAB's ssim, tables of SIDD). */
typedef enum SsimForm { SSIM_VALID, SSIM_PADDED } SsimForm;

enum { SSIM_WINDOW = 11 };
/* Weights of the window in one direction: a Gaussian of sigma 1.5 that sums to 1. */
void ssim_taps(double taps[SSIM_WINDOW]);
/* The mean of the SSIM map of two planes [h, w] of values 0..range. Variances and covariances are those of the window's
 * weights (not of a sample). NAN: the plane is smaller than the window and the form is SSIM_VALID. */
double ssim_plane(const double *x, const double *y, int32_t h, int32_t w, double range, SsimForm form);

typedef struct PictureScore {
    double psnr; /* 10 log10(1 / MSE) over all pixels and channels; INFINITY: the same picture */
    double ssim; /* mean over channels */
} PictureScore;
/* Both of one shape. NAN where a value is. */
PictureScore metric_compare(const MetricPicture *got, const MetricPicture *want, SsimForm form);
/* The same of two pictures of bytes, with SSIM_VALID. */
PictureScore picture_score(const Picture *got, const Picture *want);

/* What a picture counts in a mean of PSNRs: its own, at most this. A picture that is the same would make the mean
 * infinite, and no longer say anything of the others. */
#define PSNR_MOST 100.0
double psnr_counted(double psnr);

#endif
