/* isa.c: which kernels a machine runs under --isa, and what surrounds their sums.
 *
 * Tested by tests/unit/test_narrow.c. */
#include "runtime/narrow/narrow_impl.h"

#if defined(__x86_64__)
#include <xmmintrin.h>

enum { FLUSH = 0x8040 }; /* of MXCSR: results, and operands, below the normal range are 0 */

const NarrowIsa *narrow_isa(Isa isa)
{
    bool avx2 = isa >= ISA_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ISA_AVX512_VNNI && __builtin_cpu_supports("avx512bf16"))
        return &narrow_avx512_bf16;
    if (isa == ISA_AVX512 || isa == ISA_AVX512_VNNI)
        return &narrow_avx512;
    return avx2 ? &narrow_avx2 : &narrow_portable;
}

unsigned bf16_flush_begin(void)
{
    unsigned was = _mm_getcsr();
    _mm_setcsr(was | FLUSH);
    return was;
}

void bf16_flush_end(unsigned was)
{
    _mm_setcsr(was);
}

#else

const NarrowIsa *narrow_isa(Isa isa)
{
    (void)isa;
    return &narrow_portable;
}

unsigned bf16_flush_begin(void)
{
    return 0;
}

void bf16_flush_end(unsigned was)
{
    (void)was;
}

#endif

const char *narrow_doc(Isa isa)
{
    return narrow_isa(isa)->doc;
}
