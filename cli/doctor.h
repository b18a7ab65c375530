/* doctor.h: the part of `detent doctor` that is about GPUs; apart, so that tests can give it a driver; and what the
 * processor is called.
 *
 * Tested by tests/unit/test_doctor.c. */
#ifndef DETENT_CLI_DOCTOR_H
#define DETENT_CLI_DOCTOR_H

#include "runtime/cuda/gpu.h"

/* The driver and each GPU, a line each. How many GPUs can be used. */
int32_t doctor_devices(Arena *a, FILE *out, const CudaDriver *t);
/* One line of /proc/cpuinfo: the value of the first "key : value"; "": there is none. */
const char *doctor_cpuinfo(Arena *a, const char *key);
/* "9.19.0, /usr/lib/libcudnn.so.9". NULL: reported. */
const char *doctor_cudnn(Arena *a, Diag *d);
/* Driver, GPUs, NVRTC, cuDNN: what is found where, what is missing and how to get it, and whether --backend cuda can be
 * used, which is also what is returned. */
bool doctor_gpu(Arena *a, FILE *out);

#endif
