/* hand_loops.h: the loops that generated kernels are measured against. */
#ifndef DETENT_HAND_LOOPS_H
#define DETENT_HAND_LOOPS_H

#include <stdint.h>

/* Elements [lo, hi) of a tensor with 16 channels innermost; bufs as in the kernel of the same name in kernels.c. Sums
 * go to `partial`, at least 64 floats for each caller. */
typedef void (*HandLoop)(void *const *bufs, float *partial, int64_t lo, int64_t hi);

void hand_bn_relu(void *const *bufs, float *partial, int64_t lo, int64_t hi);
void hand_bn_relu_codes(void *const *bufs, float *partial, int64_t lo, int64_t hi);
void hand_bn_stats(void *const *bufs, float *partial, int64_t lo, int64_t hi);
void hand_lsq_backward(void *const *bufs, float *partial, int64_t lo, int64_t hi);
void hand_weights(void *const *bufs, float *partial, int64_t lo, int64_t hi);
void hand_weights_noise(void *const *bufs, float *partial, int64_t lo, int64_t hi);

#endif
