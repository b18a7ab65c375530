/* calibrate.h: the first ranges of quantizers, found by the host from what they would see (Wu et al. 2020, section 4).
 *
 * Values are gathered in a histogram whose bin width the first batch fixes; later batches append bins. Everything is in
 * double precision and in a fixed order: the same values give the same range for any number of threads.
 *
 *   histogram.c         bins                       calibrate_range.c   from bins to a range, one function a kind
 *   calibrate.c         all quantizers of a network: batches, ranges, leaves
 *
 * Tested by tests/unit/test_calibrate.c against NumPy and SciPy (tests/reference/make_calibration.py). */
#ifndef DETENT_RUNTIME_CALIBRATE_H
#define DETENT_RUNTIME_CALIBRATE_H

#include "runtime/runtime.h"

/* ---- One range --------------------------------------------------------------------------------------------------- */

typedef enum CalibrateKind {
    CALIBRATE_NONE,
    CALIBRATE_MAX,
    CALIBRATE_PERCENTILE,
    CALIBRATE_MSE,
    CALIBRATE_ENTROPY,
    CALIBRATE_SIGMA3 /* max |mean +- 3 sigma|: LSQ+, Bhalgat et al. 2020, section 3.3 */
} CalibrateKind;
#define CALIBRATE_CHOICES "none, max, percentile, mse, entropy or sigma3"
bool        calibrate_parse(const char *text, CalibrateKind *out); /* "none", "max", ...; false: no such word */
const char *calibrate_name(CalibrateKind k);

typedef struct Histogram Histogram;
Histogram               *histogram_new(Arena *a);
void    histogram_add(Histogram *h, const float *x, int64_t n); /* what is not finite is left out and counted */
int64_t histogram_skipped(const Histogram *h);
bool    histogram_is_blank(const Histogram *h); /* no finite value but 0 so far */

/* The range that codes lo..hi should cover, min <= 0 <= max. Not affine: the step is max / hi, and min is -max for
 * signed codes, else 0. Of values that say nothing (none, only zeros) 1 is the largest. The step is at least 1e-8. */
typedef struct RangeQuery {
    CalibrateKind kind;       /* not CALIBRATE_NONE */
    double        percentile; /* 50..100 */
    int64_t       lo, hi;
    bool          affine;
} RangeQuery;
typedef struct Range {
    double min, max;
} Range;
Range calibrate_range(const Histogram *h, const RangeQuery *q);

/* ---- All quantizers of a network --------------------------------------------------------------------------------- */

/* One quantizer, as passes/passes.h (QuantizerInfo) says; the same names. */
typedef struct QuantSite {
    const char   *name, *layer, *role; /* "s0.b0.conv1.input"; "s0.b0.conv1"; "weight" or "act" */
    int32_t       bits;
    int64_t       lo, hi, steps;
    int32_t       axis;  /* of a weight: the dimension of its outputs (1: a transposed convolution) */
    int64_t       elems; /* of what it quantizes, in a batch */
    bool          affine;
    const char   *step, *offset, *min, *max; /* leaves that the range goes to; NULL: none such */
    CalibrateKind kind;
    double        percentile;
    const char   *observed; /* output of the observe step */
} QuantSite;

typedef struct CalibrateConfig {
    LoadedProgram    observe;
    LoadedProgram    train; /* whose leaves are written (params and states are shared by all programs of a model) */
    const Dataset   *data;
    int32_t          classes;
    Normalise        normalise;
    uint64_t         seed;
    int64_t          batches; /* training batches of epoch 0, without augmentation */
    const QuantSite *sites;
    int32_t          n_sites;
    FILE            *progress; /* NULL: silent */
} CalibrateConfig;
/* Runs the observe step, finds each range, writes steps, offsets, mins and maxes. Sites of CALIBRATE_NONE are left
 * alone; nothing to do is no mistake. False: reported. */
bool calibrate_run(Arena *a, Diag *d, const CalibrateConfig *c) DT_CHECKED;

#endif
