/* calibrate_impl.h: what gathering values and finding ranges share: the histogram itself. */
#ifndef DETENT_CALIBRATE_IMPL_H
#define DETENT_CALIBRATE_IMPL_H

#include "runtime/calibrate.h"

/* The first batch is cut in FIRST bins. Beyond MOST, neighbours are merged, which leaves at least MOST / 2: as a batch
 * that is 8 times as wide as the first still gets 4 times the bins of a first one, nothing is lost by that, and the
 * calibrators, whose work grows with the square of the bins, stay fast. */
enum { HISTOGRAM_FIRST = 2048, HISTOGRAM_MOST = 1 << 14 };

/* Bin k holds magnitudes from k width up to (k + 1) width; the last one its right end, too. */
typedef struct HistogramSide {
    int64_t *bins;
    int64_t  n, cap;
} HistogramSide;

struct Histogram {
    Arena        *arena;
    double        width;          /* 0: only zeros so far */
    HistogramSide side[2];        /* of values >= 0, and of those below */
    int64_t       count, skipped; /* finite values, others */
    double        min, max;       /* of all values, and of 0 */
    double        sum, squares;
};

#endif
