/* report.c: a failed call of the driver as a message: which call, which status, and what to do about it.
 *
 * Tested by tests/unit/test_gpu_driver.c (the table) and test_gpu_faults.c (each failure as a user meets it). */
#include "runtime/cuda/gpu.h"
#include "runtime/cuda/status.h"

#define HELP_DRIVER "install a newer NVIDIA driver (nvidia-smi shows which one runs), or train with --backend cpu"
#define HELP_REBOOT                                                                                                    \
    "the driver was updated while its old kernel module still runs: reboot, or reload the nvidia modules as root"
#define HELP_MEMORY                                                                                                    \
    "take a smaller --batch; see with nvidia-smi whether another program holds memory of this GPU, and with "          \
    "--print-plan what the step needs"
#define HELP_KERNEL                                                                                                    \
    "this is a bug of Detent or of a library: --backend sim runs the same kernels on the CPU with checks and names "   \
    "the line; the GPU can be used again by a new process"
#define HELP_HARDWARE                                                                                                  \
    "the GPU itself reports trouble: dmesg and nvidia-smi -q say more; reset the GPU (nvidia-smi --gpu-reset) or "     \
    "use another one (CUDA_VISIBLE_DEVICES)"
#define HELP_IMAGE "compiled kernels from the disk cache may be damaged or of another GPU: try again with --cache off"
#define HELP_GRAPH "train with --no-graph, which launches kernels one by one, and report this as a bug of Detent"

/* In order of status. */
// clang-format off
const CudaStatus cuda_status_table[] = {
    { CU_SUCCESS, "CUDA_SUCCESS", "no error", NULL },
    { CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument", NULL },
    { CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory", HELP_MEMORY },
    { CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error", HELP_DRIVER },
    { 4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down", "the process is about to end; start it again" },
    { 34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library",
      "libcuda.so.1 is the toolkit's stub for linking, not a driver: take its directory out of LD_LIBRARY_PATH and "
      "install the NVIDIA driver" },
    { 46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable",
      "another process holds this GPU for itself (nvidia-smi shows which): wait for it, choose another GPU with "
      "CUDA_VISIBLE_DEVICES, or set its compute mode back with nvidia-smi -c 0" },
    { CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected",
      "see with nvidia-smi whether the driver finds a GPU, and whether CUDA_VISIBLE_DEVICES hides it; in a container "
      "give access to it (docker run --gpus all); or train with --backend cpu" },
    { CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal",
      "detent doctor lists the GPUs that there are" },
    { CU_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid", HELP_IMAGE },
    { CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context", NULL },
    { CU_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device",
      HELP_IMAGE },
    { 214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered", HELP_HARDWARE },
    { CU_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed", HELP_IMAGE },
    { 220, "CUDA_ERROR_NVLINK_UNCORRECTABLE", "uncorrectable NVLink error detected during the execution",
      HELP_HARDWARE },
    { 221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found",
      "the driver is installed without libnvidia-ptxjitcompiler.so.1: install the whole driver; in a container, set "
      "NVIDIA_DRIVER_CAPABILITIES=compute,utility" },
    { CU_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
      "the provided PTX was compiled with an unsupported toolchain.",
      "NVRTC is newer than the driver: install a newer NVIDIA driver, or point DETENT_NVRTC to an older NVRTC" },
    { 304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS",
      "the process may not open /dev/nvidia*: see their owner and mode, and the limits of the container" },
    { CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle", NULL },
    { CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found", HELP_IMAGE },
    { CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready", NULL },
    { CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered", HELP_KERNEL },
    { 701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch", HELP_KERNEL },
    { 702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated",
      "this GPU also drives a screen and ends kernels that take long: use another one, or take a smaller --batch" },
    { 710, "CUDA_ERROR_ASSERT", "device-side assert triggered", HELP_KERNEL },
    { 714, "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error", HELP_KERNEL },
    { 715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered", HELP_KERNEL },
    { 716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address", HELP_KERNEL },
    { 717, "CUDA_ERROR_INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space", HELP_KERNEL },
    { 718, "CUDA_ERROR_INVALID_PC", "invalid program counter", HELP_KERNEL },
    { CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure", HELP_KERNEL },
    { CU_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted",
      "this user may not use the GPU so: see the mode of /dev/nvidia* and the settings of the container" },
    { CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported", HELP_DRIVER },
    { 802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized",
      "on machines with NVSwitch the fabric manager must run: systemctl status nvidia-fabricmanager" },
    { CU_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda "
      "driver combination", HELP_REBOOT },
    { 804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW",
      "libcuda.so.1 is that of a cuda-compat package: take its directory out of LD_LIBRARY_PATH" },
    { CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is "
      "capturing", HELP_GRAPH },
    { CU_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error "
      "during capture", HELP_GRAPH },
    { CU_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it "
      "began", HELP_GRAPH },
    { CU_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work", HELP_GRAPH },
    { CU_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another "
      "stream", HELP_GRAPH },
    { CU_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a "
      "capturing blocking stream", HELP_GRAPH },
    { CU_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a "
      "capturing stream", HELP_GRAPH },
    { 999, "CUDA_ERROR_UNKNOWN", "unknown error",
      "see with nvidia-smi whether the driver works at all; after a suspend, reload the nvidia_uvm module or reboot" },
};
// clang-format on
const int32_t     cuda_n_status = DT_COUNT(cuda_status_table);

const CudaStatus *cuda_status(CuResult status)
{
    for (int32_t i = 0; i < cuda_n_status; i++)
        if (cuda_status_table[i].status == status)
            return &cuda_status_table[i];
    return NULL;
}

void cuda_report(Diag *d, const CudaDriver *t, const char *call, CuResult status)
{
    const CudaStatus *known = cuda_status(status);
    const char       *name = NULL, *text = NULL;
    /* The driver's own words first: it may be newer than the table. */
    if (t->error_name(status, &name) != CU_SUCCESS || !name)
        name = known ? known->name : "unknown status";
    if (t->error_text(status, &text) != CU_SUCCESS || !text)
        text = known ? known->text : "the driver does not say what it means";
    diag_error(d, LOC_NONE, "%s: %s (%d): %s", call, name, status, text);
    if (known && known->help)
        diag_help(d, "%s", known->help);
    else
        diag_help(d, "no known remedy: report it as a bug of Detent, with the output of detent doctor");
}

bool gpu_check_(Gpu *g, const char *call, CuResult status)
{
    if (status == CU_SUCCESS)
        return true;
    cuda_report(g->d, g->t, call, status);
    return false;
}
