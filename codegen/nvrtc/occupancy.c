/* occupancy.c: how many threads of a kernel one multiprocessor holds at once: what registers and shared memory cost.
 *
 * The limits are those of NVIDIA's table of compute capabilities. Registers are dealt out in runs of 256 to warps, from
 * four files of 16384; shared memory in runs of 128 bytes, with 1 KiB of the system's own for each block.
 *
 * Tested by tests/unit/test_nvrtc.c on cases that are worked out by hand. */
#include "codegen/nvrtc/nvrtc.h"

typedef struct SmLimits {
    int32_t sm, blocks, threads, shared_kib, system_shared_bytes;
} SmLimits;

// clang-format off
static const SmLimits sm_limits[] = {
    {  75, 16, 1024,  64,    0 },
    {  80, 32, 2048, 164, 1024 },
    {  86, 16, 1536, 100, 1024 },
    {  87, 16, 1536, 164, 1024 },
    {  88, 16, 1536, 100, 1024 },
    {  89, 24, 1536, 100, 1024 },
    {  90, 32, 2048, 228, 1024 },
    { 110, 24, 1536, 228, 1024 },
    { 120, 24, 1536, 100, 1024 },
};
// clang-format on

enum { WARP = 32, FILES = 4, FILE_REGISTERS = 16384, REGISTER_RUN = 256, SHARED_RUN = 128 };

Occupancy nvrtc_occupancy(int32_t sm, const GpuKernel *k)
{
    const SmLimits *l = &sm_limits[0];
    for (int32_t i = 1; i < DT_COUNT(sm_limits) && sm_limits[i].sm <= sm; i++)
        l = &sm_limits[i];
    int64_t warps = dt_ceil_div(dt_max64(k->block, 1), WARP);
    int64_t blocks = dt_min64(l->blocks, l->threads / (warps * WARP));
    if (k->registers > 0) {
        int64_t of_warp = dt_round_up((int64_t)k->registers * WARP, REGISTER_RUN);
        blocks = dt_min64(blocks, FILE_REGISTERS / of_warp * FILES / warps);
    }
    int64_t shared = dt_round_up(dt_max64(k->shared_bytes, 0) + l->system_shared_bytes, SHARED_RUN);
    if (shared > 0)
        blocks = dt_min64(blocks, l->shared_kib * (int64_t)1024 / shared);
    return (Occupancy){ (int32_t)blocks, (double)(blocks * warps * WARP) / l->threads };
}
