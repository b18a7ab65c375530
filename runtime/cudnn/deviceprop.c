/* deviceprop.c: GPUs as cuDNN wants them described where there is none: one card of each architecture that is planned
 * for (A100 80 GB, RTX 3090, H200). The numbers are public facts of these cards, the keys those that the descriptor
 * asks for; where there is a GPU, the library asks it itself and none of this is used.
 *
 * Tested by tests/unit/test_cudnn.c: each is accepted, and each has plans. */
#include "runtime/cudnn/cudnn_impl.h"

// clang-format off
static const struct {
    int32_t     sm;
    const char *json;
} devices[] = {
    { 80,
      "{\"deviceName\": \"NVIDIA A100-SXM4-80GB\", \"deviceVer\": 800, \"driverVer\": 13000, "
      "\"cudaDeviceId\": 0, \"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
      "\"totalGlobalMem\": 85899345920, \"l2CacheSize\": 41943040, \"multiProcessorCount\": 108, "
      "\"smClockRateKHz\": 1410000, \"memClockRateKHz\": 1593000, \"warpSize\": 32, "
      "\"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, \"maxCtasPerSM\": 32, "
      "\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
      "\"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, \"maxSharedMemoryPerBlock\": 49152, "
      "\"maxSharedMemoryPerBlockOptin\": 166912, \"reservedSharedMemoryPerBlock\": 1024}" },
    { 86,
      "{\"deviceName\": \"NVIDIA GeForce RTX 3090\", \"deviceVer\": 860, \"driverVer\": 13000, "
      "\"cudaDeviceId\": 0, \"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
      "\"totalGlobalMem\": 25438126080, \"l2CacheSize\": 6291456, \"multiProcessorCount\": 82, "
      "\"smClockRateKHz\": 1695000, \"memClockRateKHz\": 9751000, \"warpSize\": 32, "
      "\"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 1536, \"maxCtasPerSM\": 16, "
      "\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
      "\"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, \"maxSharedMemoryPerBlock\": 49152, "
      "\"maxSharedMemoryPerBlockOptin\": 101376, \"reservedSharedMemoryPerBlock\": 1024}" },
    { 90,
      "{\"deviceName\": \"NVIDIA H200\", \"deviceVer\": 900, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
      "\"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
      "\"totalGlobalMem\": 150754820096, \"l2CacheSize\": 62914560, \"multiProcessorCount\": 132, "
      "\"smClockRateKHz\": 1980000, \"memClockRateKHz\": 3201000, \"warpSize\": 32, "
      "\"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, \"maxCtasPerSM\": 32, "
      "\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
      "\"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, \"maxSharedMemoryPerBlock\": 49152, "
      "\"maxSharedMemoryPerBlockOptin\": 232448, \"reservedSharedMemoryPerBlock\": 1024}" },
};
// clang-format on

const char *cudnn_device_json(int32_t sm)
{
    for (int32_t i = 0; i < DT_COUNT(devices); i++)
        if (devices[i].sm == sm)
            return devices[i].json;
    return NULL;
}
