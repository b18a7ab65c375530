/* kernel_fixture.h: kernels from tests/kernels and from text, memory for them, and a reduction written a second time.
 */
#ifndef DETENT_KERNEL_FIXTURE_H
#define DETENT_KERNEL_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/kernel/kernel.h"

enum { KT_MAX_BUFS = 8 };

/* One kernel under test. */
typedef struct KernelTest {
    Arena   arena;
    Diag    d;
    Kernel *k;
    void   *bufs[KT_MAX_BUFS];
} KernelTest;

static inline KernelTest kt_new(void)
{
    return (KernelTest){ .arena = arena_new("test"), .d = diag_new(NULL) };
}

static inline void kt_free(KernelTest *t)
{
    arena_free(&t->arena);
    diag_free(&t->d);
}

static inline const char *kt_print(KernelTest *t, const Kernel *k)
{
    Str s = str_new(&t->arena);
    kernel_print(&s, k);
    return s.s;
}

/* Parses and verifies; every buffer gets memory, zeroed. */
static inline KernelTest kt_text(const char *text)
{
    KernelTest t = kt_new();
    size_t     pos = 0;
    t.k = kernel_parse(&t.arena, &t.d, "test", text, &pos);
    if (!t.k || !kernel_verify(t.k, &t.d))
        fail_msg("%s", t.d.text.s);
    assert_true(t.k->bufs.len <= KT_MAX_BUFS);
    for (int32_t i = 0; i < t.k->bufs.len; i++)
        t.bufs[i] = arena_alloc(&t.arena, (size_t)dtype_bytes(t.k->bufs.at[i].dtype, t.k->bufs.at[i].elems) + 16);
    return t;
}

/* A kernel of tests/kernels; its text must print as it stands there. */
static inline KernelTest kt_file(const char *name)
{
    KernelTest  io = kt_new();
    const char *path = arena_printf(&io.arena, "%s/tests/kernels/%s.kernel", DT_SOURCE_DIR, name);
    char       *text = file_read(&io.arena, &io.d, path, NULL);
    assert_non_null(text);
    KernelTest t = kt_text(text);
    assert_string_equal(kt_print(&t, t.k), text);
    kt_free(&io);
    return t;
}

/* Buffers by name. */
static inline int32_t kt_buf(const KernelTest *t, const char *name)
{
    for (int32_t i = 0; i < t->k->bufs.len; i++)
        if (str_eq(t->k->bufs.at[i].name, name))
            return i;
    fail_msg("no buffer %s", name);
    return -1;
}

static inline float *kt_f32(const KernelTest *t, const char *name)
{
    return t->bufs[kt_buf(t, name)];
}
static inline int32_t *kt_i32(const KernelTest *t, const char *name)
{
    return t->bufs[kt_buf(t, name)];
}
static inline uint8_t *kt_u8(const KernelTest *t, const char *name)
{
    return t->bufs[kt_buf(t, name)];
}

/* Uniform in lo..hi; the same numbers for the same buffer name. */
static inline float *kt_fill(const KernelTest *t, const char *name, float lo, float hi)
{
    float *x = kt_f32(t, name);
    for (int64_t i = 0; i < t->k->bufs.at[kt_buf(t, name)].elems; i++)
        x[i] = lo + (hi - lo) * rng_uniform(7, hash_u32(name), 0, (uint64_t)i);
    return x;
}

static inline float *kt_copy(KernelTest *t, const char *name)
{
    return arena_copy(&t->arena, kt_f32(t, name), sizeof(float) * (size_t)t->k->bufs.at[kt_buf(t, name)].elems);
}

static inline void kt_run(const KernelTest *t)
{
    kernel_interp(t->k, t->bufs);
}

/* Equal to the bit, a NaN to any NaN. */
static inline void assert_same_f32(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("element %lld: got %.9g, expected %.9g", (long long)i, (double)got[i], (double)want[i]);
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("got %.9g, expected %.9g", got, want);
}

/* The order of sums as kernel.h states it, in the plainest way: find each element's place, then combine. */
static inline float combine_f32(KAcc how, float x, float y)
{
    if (how == KACC_SUM)
        return x + y;
    if (isnan(x))
        return y;
    if (isnan(y))
        return x;
    return how == KACC_MIN ? (x < y ? x : y) : (x > y ? x : y);
}

static inline float identity_f32(KAcc how)
{
    return how == KACC_SUM ? 0 : how == KACC_MIN ? INFINITY : -INFINITY;
}

static inline float ordered_f32(KAcc how, const float *v, int64_t n, int64_t chunks, int32_t lanes)
{
    int64_t run = (n + chunks - 1) / chunks;
    float   total = identity_f32(how);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        float acc[1024] = { 0 };
        for (int32_t lane = 0; lane < lanes; lane++) {
            acc[lane] = identity_f32(how);
            for (int64_t r = chunk * run + lane; r < n && r < (chunk + 1) * run; r += lanes)
                acc[lane] = combine_f32(how, acc[lane], v[r]);
        }
        for (int32_t width = lanes; width > 1; width /= 2)
            for (int32_t i = 0; i < width / 2; i++)
                acc[i] = combine_f32(how, acc[i], acc[i + width / 2]);
        total = combine_f32(how, total, acc[0]);
    }
    return total;
}

#endif
