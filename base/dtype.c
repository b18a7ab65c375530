/* dtype.c: the table of element types, and the checked multiplication that sizes are computed with.
 *
 * Everything about a type is one row of DT_DTYPES in base.h; the functions only read it. Tested by
 * tests/unit/test_base.c. */
#include "base/base.h"

#include <string.h>

typedef struct DTypeRow {
    const char *name;
    int         bits;
    bool        is_signed, is_float;
} DTypeRow;

static const DTypeRow rows[] = {
#define X(id, text, bits, is_signed, is_float) [DTYPE_##id] = { text, bits, is_signed, is_float },
    DT_DTYPES(X)
#undef X
};

bool dt_mul64(int64_t a, int64_t b, int64_t *out)
{
    int64_t product;
    bool    fits = a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, &product);
    *out = fits ? product : 0;
    return fits;
}

static const DTypeRow *row(DType t)
{
    DT_ASSERT((unsigned)t < DTYPE_COUNT, "element type %d of %d", (int)t, (int)DTYPE_COUNT);
    return &rows[t];
}

const char *dtype_name(DType t)
{
    return row(t)->name;
}
int dtype_bits(DType t)
{
    return row(t)->bits;
}
bool dtype_is_signed(DType t)
{
    return row(t)->is_signed;
}
bool dtype_is_float(DType t)
{
    return row(t)->is_float;
}

bool dtype_parse(const char *text, size_t len, DType *out)
{
    for (int32_t i = 0; i < DTYPE_COUNT; i++) {
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, text, len) == 0) {
            *out = (DType)i;
            return true;
        }
    }
    return false;
}

int64_t dtype_bytes(DType t, int64_t elems)
{
    int64_t bits = row(t)->bits;
    bool    in_range = elems >= 0 && elems <= (INT64_MAX - 7) / bits;
    DT_ASSERT(in_range, "%lld elements of %s", (long long)elems, rows[t].name);
    return (elems * bits + 7) / 8;
}

int64_t dtype_min(DType t)
{
    const DTypeRow *r = row(t);
    return r->is_float || !r->is_signed ? 0 : -(INT64_C(1) << (r->bits - 1));
}

int64_t dtype_max(DType t)
{
    const DTypeRow *r = row(t);
    return r->is_float ? 0 : (INT64_C(1) << (r->bits - r->is_signed)) - 1;
}
