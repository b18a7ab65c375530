/* rng.c: counter-based random numbers, Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy
 * as 1, 2, 3", SC 2011). A number depends on (seed, stream, substream, index) alone, never on how many were drawn
 * before, so threads and devices agree. Tested by tests/unit/test_base.c against the authors' known answers. */
#include "base/base.h"

#include <math.h>

void philox4x32_10(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = UINT64_C(0xD2511F53) * c0, p1 = UINT64_C(0xCD9E8D57) * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static void draw(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index, uint32_t out[4])
{
    const uint32_t ctr[4] = { (uint32_t)index, (uint32_t)(index >> 32), substream, stream };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    philox4x32_10(ctr, key, out);
}

uint32_t rng_u32(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index)
{
    uint32_t w[4];
    draw(seed, stream, substream, index, w);
    return w[0];
}

float rng_uniform(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index)
{
    return (float)(rng_u32(seed, stream, substream, index) >> 8) * 0x1p-24f;
}

/* Words 0 and 1 are the radius and the angle; the sine is not used. The radius is drawn from (0, 1]: its logarithm is
 * finite. */
float rng_normal(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index)
{
    uint32_t w[4];
    draw(seed, stream, substream, index, w);
    double radius = sqrt(-2.0 * log(((double)w[0] + 1.0) * 0x1p-32));
    return (float)(radius * cos(2.0 * M_PI * 0x1p-32 * (double)w[1]));
}

/* 0 <= j <= i by a multiplication (Lemire): a place's probability is off by less than a part n / 2^32 of itself. */
void rng_permutation(uint64_t seed, uint32_t stream, uint32_t substream, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i-- > 1;) {
        uint32_t j = (uint32_t)(((uint64_t)rng_u32(seed, stream, substream, i) * (i + 1)) >> 32);
        uint32_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
