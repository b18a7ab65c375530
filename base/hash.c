/* hash.c: XXH3 of libxxhash: fast, fixed for all time, not against an adversary. Tested by tests/unit/test_base.c. */
#include "base/base.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

Hash128 hash_bytes(const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits(data, len);
    return (Hash128){ .lo = h.low64, .hi = h.high64 };
}

void hash_hex(Hash128 h, char out[33])
{
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, h.hi, h.lo);
}

uint32_t hash_u32(const char *text)
{
    return (uint32_t)hash_bytes(text, strlen(text)).lo;
}
