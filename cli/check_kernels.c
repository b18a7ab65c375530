/* check_kernels.c: one kernel by the interpreter and by compiled code: the same bytes, whatever the vector width and
 * however the work is split.
 *
 * All buffers start from the same random bytes, results included, so a store that is missing or goes astray shows;
 * behind each buffer lies a guard. The scratch memory starts as garbage. Each part of the units has its own thread. The
 * one liberty: hardware and compilers choose freely among NaNs, so any NaN equals any.
 *
 * Tested by tests/unit/test_check.c (planted differences) and tests/unit/test_matrix.c. */
#include "cli/check.h"

#include <math.h>
#include <string.h>

enum { KERNEL_STREAM = 0x6b65726e, GUARD_BYTES = 256 };

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static float kernel_special(uint32_t draw)
{
    static const uint32_t bits[] = {
        0x7fc00000, 0x7f800000, 0xff800000, 0x00000000, 0x80000000,
        0x00000001, 0x807fffff, 0x7f7fffff, 0x3f800000, 0xc2c80000,
    };
    float f;
    memcpy(&f, &bits[draw % DT_COUNT(bits)], sizeof(f));
    return f;
}

/* Of very different sizes, as gradients, weights and codes are. */
static float kernel_number(uint32_t buf, int64_t i, bool special, uint64_t seed)
{
    uint32_t draw = rng_u32(seed, KERNEL_STREAM, 2 * buf, (uint64_t)i);
    if (special && draw % 8 == 0)
        return kernel_special(draw / 8);
    float x = 2 * rng_uniform(seed, KERNEL_STREAM, 2 * buf + 1, (uint64_t)i) - 1;
    return ldexpf(x, (int)(draw / 8 % 8) - 4);
}

static void *kernel_fill(Arena *a, const KernelCase *c, int32_t buf)
{
    const KBuf *b = &c->kernel->bufs.at[buf];
    KernelData  data = c->data[buf];
    int64_t     bytes = dtype_bytes(b->dtype, b->elems);
    uint8_t    *at = arena_alloc(a, (size_t)(bytes + GUARD_BYTES + 64));
    at += -(uintptr_t)at & 63;
    memset(at + bytes, 0xa5, GUARD_BYTES);
    for (int64_t i = 0; i < b->elems; i++) {
        if (dtype_is_float(b->dtype)) {
            float f = kernel_number((uint32_t)buf, i, c->special, c->seed);
            memcpy(at + 4 * i, &f, sizeof(f));
        } else {
            uint64_t range = (uint64_t)(data.hi - data.lo) + 1;
            uint64_t draw = rng_u32(c->seed, KERNEL_STREAM, 2 * (uint32_t)buf, (uint64_t)i);
            elem_set(b->dtype, at, i, (double)(data.lo + (int64_t)(draw % range)));
        }
    }
    return at;
}

void **check_kernel_fill(Arena *a, const KernelCase *c)
{
    void **bufs = ARENA_ARRAY(a, void *, c->kernel->bufs.len + 1);
    for (int32_t i = 0; i < c->kernel->bufs.len; i++)
        bufs[i] = kernel_fill(a, c, i);
    return bufs;
}

static void kernel_copy_all(const Kernel *k, void *const *to, void *const *from)
{
    for (int32_t i = 0; i < k->bufs.len; i++)
        memcpy(to[i], from[i], (size_t)(dtype_bytes(k->bufs.at[i].dtype, k->bufs.at[i].elems) + GUARD_BYTES));
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */

static void kernel_run_parts(const KernelImage *m, KernelEntry entry, void *const *bufs, void *scratch, int64_t units,
                             int parts)
{
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int i = 0; i < parts; i++)
        if (units * i / parts < units * (i + 1) / parts)
            entry(m->self, bufs, scratch, units * i / parts, units * (i + 1) / parts);
}

static void kernel_run_image(Arena *a, const KernelImage *m, void *const *bufs, int parts)
{
    uint8_t *scratch = arena_alloc(a, (size_t)m->scratch_bytes + 64);
    scratch += -(uintptr_t)scratch & 63;
    memset(scratch, 0x5a, (size_t)m->scratch_bytes);
    kernel_run_parts(m, m->run, bufs, scratch, m->units, parts);
    if (m->finish_units > 0)
        kernel_run_parts(m, m->finish, bufs, scratch, m->finish_units, parts);
}

/* ---- Comparing --------------------------------------------------------------------------------------------------- */

static bool kernel_elem_equal(DType t, const void *x, const void *y, int64_t i)
{
    double a = elem_get(t, x, i), b = elem_get(t, y, i);
    return a == b ? signbit(a) == signbit(b) : isnan(a) && isnan(b);
}

const char *check_kernel_difference(Arena *a, const Kernel *k, void *const *expected, void *const *found)
{
    for (int32_t j = 0; j < k->bufs.len; j++) {
        const KBuf *b = &k->bufs.at[j];
        int64_t     bytes = dtype_bytes(b->dtype, b->elems);
        if (memcmp(expected[j], found[j], (size_t)(bytes + GUARD_BYTES)) == 0)
            continue;
        if (memcmp((char *)expected[j] + bytes, (char *)found[j] + bytes, GUARD_BYTES) != 0)
            return arena_printf(a, "%s: written behind its %lld elements", b->name, (long long)b->elems);
        for (int64_t i = 0; i < b->elems; i++)
            if (!kernel_elem_equal(b->dtype, expected[j], found[j], i))
                return arena_printf(a, "%s[%lld] is %.9g, the interpreter has %.9g", b->name, (long long)i,
                                    elem_get(b->dtype, found[j], i), elem_get(b->dtype, expected[j], i));
    }
    return NULL;
}

static void kernel_check_image(Arena *a, Arena *scratch, const KernelCase *c, int32_t image, void *const *begin,
                               void *const *expected, KernelResult *out)
{
    void **found = check_kernel_fill(scratch, c);
    for (int parts = 1; out->ok && parts <= c->most_parts; parts++) {
        kernel_copy_all(c->kernel, found, begin);
        kernel_run_image(scratch, c->images[image], found, parts);
        out->where = check_kernel_difference(a, c->kernel, expected, found);
        out->ok = out->where == NULL;
        out->image = image;
        out->parts = parts;
        out->runs++;
    }
}

KernelResult check_kernel(Arena *a, const KernelCase *c)
{
    Arena        scratch = arena_new("kernel check");
    KernelResult out = { .ok = true };
    void       **begin = check_kernel_fill(&scratch, c), **expected = check_kernel_fill(&scratch, c);
    kernel_interp(kernel_expand(&scratch, c->kernel), expected);
    for (int32_t i = 0; out.ok && i < c->n_images; i++)
        kernel_check_image(a, &scratch, c, i, begin, expected, &out);
    arena_free(&scratch);
    return out;
}
