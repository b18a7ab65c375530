/* tensor.c: the tensors of a program by name, and their elements in logical order.
 *
 * The host thinks in NCHW; a rank-4 tensor may lie as NHWC (a weight [K, C, R, S] then as [K, R, S, C]). Checkpoints,
 * data sets and tests go through here.
 * Tested by tests/unit/test_exec.c. */
#include <string.h>

#include "runtime/exec_impl.h"

const ProgTensor *program_tensor(const Program *p, const char *name)
{
    for (int32_t i = 0; i < p->n_tensors; i++)
        if (str_eq(p->tensors[i].name, name))
            return &p->tensors[i];
    return NULL;
}

/* Element i of a packed array, as bits, and back. */
static uint32_t bits_get(const uint8_t *at, int bits, int64_t i)
{
    int64_t bit = i * bits;
    return at[bit / 8] >> bit % 8 & ((1u << bits) - 1);
}

static void bits_put(uint8_t *at, int bits, int64_t i, uint32_t v)
{
    int64_t  bit = i * bits;
    uint32_t mask = ((1u << bits) - 1) << bit % 8;
    at[bit / 8] = (uint8_t)((at[bit / 8] & ~mask) | (v << bit % 8 & mask));
}

static void copy_element(uint8_t *to, int64_t i, const uint8_t *from, int64_t j, int bits)
{
    if (bits == 32)
        memcpy(to + 4 * i, from + 4 * j, 4);
    else
        bits_put(to, bits, i, bits_get(from, bits, j));
}

/* Between logical order and NHWC. */
static void copy_reordered(const ProgTensor *t, uint8_t *to, const uint8_t *from, bool to_nhwc)
{
    int     bits = dtype_bits(t->dtype);
    int64_t c = t->dim[1], hw = t->dim[2] * t->dim[3], nhwc = 0;
    for (int64_t n = 0; n < t->dim[0]; n++)
        for (int64_t p = 0; p < hw; p++)
            for (int64_t k = 0; k < c; k++, nhwc++) {
                int64_t nchw = (n * c + k) * hw + p;
                copy_element(to, to_nhwc ? nhwc : nchw, from, to_nhwc ? nchw : nhwc, bits);
            }
}

/* With one channel or one pixel both orders are the same. */
static bool is_rows(const ProgTensor *t)
{
    return !t->nhwc || t->rank != 4 || t->dim[1] == 1 || t->dim[2] * t->dim[3] == 1;
}

bool tensor_write(Exec *e, int32_t program, const ProgTensor *t, const void *nchw)
{
    Loaded *l = exec_loaded(e, program);
    if (e->failed)
        return false;
    if (is_rows(t))
        return e->kind->write(e, l, t, nchw);
    Arena    scratch = arena_new("tensor");
    uint8_t *lies = arena_alloc(&scratch, (size_t)t->bytes);
    copy_reordered(t, lies, nchw, true);
    bool ok = e->kind->write(e, l, t, lies);
    arena_free(&scratch);
    return ok;
}

bool tensor_read(Exec *e, int32_t program, const ProgTensor *t, void *nchw)
{
    Loaded  *l = exec_loaded(e, program);
    Arena    scratch = arena_new("tensor");
    uint8_t *lies = is_rows(t) ? nchw : arena_alloc(&scratch, (size_t)t->bytes);
    bool     ok = !e->failed && e->kind->read(e, l, t, lies);
    if (!ok)
        memset(nchw, 0, (size_t)t->bytes);
    else if (lies != nchw)
        copy_reordered(t, nchw, lies, false);
    arena_free(&scratch);
    return ok;
}
