/* elem.c: single elements of memory of any type. Elements of less than a byte are packed, the lowest index in the
 * lowest bits.
 *
 * Tested by tests/unit/test_kernel.c (packing, neighbours untouched, saturation). */
#include <math.h>
#include <string.h>

#include "ir/kernel/kernel_priv.h"

int32_t elem_get_small(DType t, const void *mem, int64_t i)
{
    int            bits = dtype_bits(t);
    int64_t        bit = i * bits;
    const uint8_t *byte = (const uint8_t *)mem + bit / 8;
    int32_t        mask = (1 << bits) - 1, value = (*byte >> (bit % 8)) & mask;
    return dtype_is_signed(t) && value >> (bits - 1) ? value - mask - 1 : value;
}

void elem_set_small(DType t, void *mem, int64_t i, int32_t value)
{
    int      bits = dtype_bits(t);
    int64_t  bit = i * bits;
    uint8_t *byte = (uint8_t *)mem + bit / 8;
    int      shift = (int)(bit % 8), mask = ((1 << bits) - 1) << shift;
    *byte = (uint8_t)((*byte & ~mask) | (((uint32_t)value << shift) & (uint32_t)mask));
}

double elem_get(DType t, const void *mem, int64_t i)
{
    if (dtype_bits(t) < 32)
        return elem_get_small(t, mem, i);
    uint32_t bits;
    memcpy(&bits, (const uint8_t *)mem + 4 * i, sizeof bits);
    if (t == DTYPE_U32)
        return bits;
    if (t == DTYPE_I32)
        return (int32_t)bits;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

/* Integers: to the nearest, half to even; a NaN is 0. */
void elem_set(DType t, void *mem, int64_t i, double value)
{
    if (dtype_is_float(t)) {
        float f = (float)value;
        memcpy((uint8_t *)mem + 4 * i, &f, sizeof f);
        return;
    }
    double  least = (double)dtype_min(t), most = (double)dtype_max(t);
    double  clipped = isnan(value) ? 0 : value < least ? least : value > most ? most : rint(value);
    int64_t whole = (int64_t)clipped;
    if (dtype_bits(t) < 32) {
        elem_set_small(t, mem, i, (int32_t)whole);
    } else {
        uint32_t bits = (uint32_t)whole;
        memcpy((uint8_t *)mem + 4 * i, &bits, sizeof bits);
    }
}
