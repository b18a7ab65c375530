/* isa.c: which kernels a machine runs under --isa; blocks of channels.
 *
 * Tested by tests/unit/test_winograd.c. */
#include "runtime/winograd/winograd_impl.h"

const WinoIsa *wino_isa(Isa isa)
{
#if defined(__x86_64__)
    if (isa == ISA_AVX512 || isa == ISA_AVX512_VNNI)
        return &wino_avx512;
    if (isa >= ISA_AVX2 && __builtin_cpu_supports("fma"))
        return &wino_avx2;
#endif
    (void)isa;
    return &wino_portable;
}

WinoBlock *wino_blocks_new(Arena *a, const WinoIsa *isa, int64_t channels, int64_t *n)
{
    const int64_t vecs = channels / isa->lanes;
    *n = dt_ceil_div(vecs, vecs % 2 ? WINO_VECS : 2);
    WinoBlock *blocks = ARENA_ARRAY(a, WinoBlock, *n);
    for (int64_t i = 0; i < *n; i++) {
        int64_t first = dt_part(vecs, i, *n), end = dt_part(vecs, i + 1, *n);
        blocks[i] = (WinoBlock){ first * isa->lanes, (int32_t)(end - first) };
    }
    return blocks;
}
