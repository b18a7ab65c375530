/* status.h: what the driver answers when a call fails: number, name, meaning, and what a person can do about it.
 *
 * The numbers are those of the driver's interface. Real drivers name their own; this table names them for simulated and
 * null GPUs and says for all of them what to do. Tested by tests/unit/test_gpu_driver.c. */
#ifndef DETENT_CUDA_STATUS_H
#define DETENT_CUDA_STATUS_H

#include "runtime/cuda/driver.h"

/* Besides those that driver.h names: what simulated and null GPUs answer. */
enum {
    CU_NOT_INITIALIZED = 3,
    CU_INVALID_DEVICE = 101,
    CU_INVALID_CONTEXT = 201,
    CU_INVALID_PTX = 218,
    CU_INVALID_HANDLE = 400,
    CU_NOT_READY = 600,
    CU_NOT_PERMITTED = 800,
    CU_NOT_SUPPORTED = 801,
    CU_CAPTURE_UNSUPPORTED = 900,
    CU_CAPTURE_INVALIDATED = 901,
    CU_CAPTURE_UNMATCHED = 903,
    CU_CAPTURE_UNJOINED = 904,
    CU_CAPTURE_ISOLATION = 905,
    CU_CAPTURE_IMPLICIT = 906,
    CU_CAPTURED_EVENT = 907
};

typedef struct CudaStatus {
    CuResult    status;
    const char *name, *text;
    const char *help; /* NULL: nothing but a report to us helps */
} CudaStatus;

/* NULL: not in the table. */
const CudaStatus       *cuda_status(CuResult status);
extern const CudaStatus cuda_status_table[];
extern const int32_t    cuda_n_status;

#endif
