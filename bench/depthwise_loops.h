/* depthwise_loops.h: the loops that depthwise kernels are measured against. */
#ifndef DETENT_DEPTHWISE_LOOPS_H
#define DETENT_DEPTHWISE_LOOPS_H

#include <stdint.h>

/* Square windows, padding (kernel - 1) / 2 on all sides; images NHWC, weights [R, S, C]. */
typedef struct DepthwiseShape {
    int64_t n, size, c, kernel, stride, out;
} DepthwiseShape;

enum { LOOP_MOST_TAPS = 25, LOOP_CHANNELS = 4096 };

/* Rows [lo, hi) of all n rows of the result: image by image. */
void hand_depthwise(const DepthwiseShape *d, const float *x, const float *w, float *y, int64_t lo, int64_t hi);
void hand_depthwise_grad_x(const DepthwiseShape *d, const float *dy, const float *w, float *dx, int64_t lo, int64_t hi);
/* Rows [lo, hi) of dy, added up into dw [R, S, C], which is set. */
void hand_depthwise_grad_w(const DepthwiseShape *d, const float *dy, const float *x, float *dw, int64_t lo, int64_t hi);
/* Sums of y - shift and of its square for each of c channels, over pixels [lo, hi). */
void hand_statistics(int64_t c, const float *y, const float *shift, float *sums, int64_t lo, int64_t hi);

#endif
