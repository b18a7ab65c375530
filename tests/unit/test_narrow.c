/* test_narrow.c: gradients whose operands are rounded to bf16, and those of weights in f32: the rounding, each
 * instruction set against plain loops in double precision within a bound of rounding errors, all of them and all
 * numbers of threads against each other by equality, which calls are taken, what is refused. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/narrow/narrow.h"
#include "tests/unit/call_fixture.h"

/* clang-format off */
static const Shape shapes[] = {
    /* n  c   h   w   k  r  s st  g  pad */
    {  2, 16, 12, 12, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  3, 32,  8,  8, 64, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  2, 64,  7,  5, 48, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  2, 16, 12, 12, 32, 3, 3, 2, 1, { 1, 1, 1, 1 }, false },
    {  3, 32,  8,  8, 64, 1, 1, 1, 1, { 0, 0, 0, 0 }, false },
    {  1, 24, 13, 11, 40, 1, 1, 1, 1, { 0, 0, 0, 0 }, false },
    {  2, 16,  9,  9, 32, 1, 1, 2, 1, { 0, 0, 0, 0 }, false },
    {  1, 17, 31,  1,  9, 1, 1, 1, 1, { 0, 0, 0, 0 }, false },
    {  5,  1, 28, 28, 10, 5, 5, 1, 1, { 2, 2, 2, 2 }, false },
    {  1,  1,  5,  5,  1, 3, 3, 1, 1, { 0, 0, 0, 0 }, false },
    {  2, 17,  7, 11, 10, 3, 3, 1, 1, { 1, 0, 0, 1 }, false },
    {  2, 10,  9,  6, 17, 3, 5, 2, 1, { 0, 1, 2, 3 }, false },
    {  4,  8, 11, 11,  8, 5, 5, 2, 1, { 1, 1, 2, 2 }, false },
    {  2, 70, 16, 16, 12, 2, 2, 2, 1, { 0, 0, 0, 0 }, false },
    {  2,  5, 12, 10,  8, 3, 3, 2, 1, { 1, 0, 0, 1 }, false },
    {  1,  8,  6,  6, 16, 4, 4, 2, 1, { 1, 1, 1, 1 }, false },
    {  2, 17, 13,  7,  3, 1, 1, 3, 1, { 0, 0, 0, 0 }, false },
    {  1,  9, 20, 23, 21, 3, 3, 3, 1, { 2, 2, 2, 2 }, false },
    {  2,  3, 14, 14, 40, 3, 3, 2, 1, { 0, 0, 1, 1 }, false },
    {  2, 16, 15, 12, 32, 5, 5, 2, 1, { 2, 1, 2, 2 }, false },
    {  1, 16,  2,  2,  8, 3, 3, 1, 1, { 2, 2, 2, 2 }, false },
    { 33,  8,  3,  3,  8, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  1, 16, 70, 90, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, /* an image is more than a band */
    {  1, 80, 40, 40, 80, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
};
/* clang-format on */
static const CallKind kinds[] = { CALL_CONV_BWD_X, CALL_CONV_BWD_W };

/* ---- Rounding ---------------------------------------------------------------------------------------------------- */

static void test_rounding(void **state)
{
    (void)state;
    static const struct {
        float    x;
        uint16_t bits;
    } rows[] = {
        { 0, 0 },
        { -0.0f, 0x8000 },
        { 1, 0x3f80 },
        { 0x1.01p0f, 0x3f80 }, /* half way: to the even one, ... */
        { 0x1.03p0f, 0x3f82 }, /* ... above */
        { 0x1.010002p0f, 0x3f81 },
        { 255, 0x437f },
        { -127, 0xc2fe },
        { FLT_MAX, 0x7f80 },
        { INFINITY, 0x7f80 },
        { 0x1p-127f, 0 }, /* below the normal range */
        { -0x1p-140f, 0x8000 },
        { 0x1p-126f, 0x0080 },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        assert_int_equal(bf16_bits(rows[i].x), rows[i].bits);
    assert_true(isnan(bf16_value(bf16_bits(NAN))));
    for (int32_t code = -128; code < 256; code++)
        assert_true(bf16_value(bf16_bits((float)code)) == (float)code);
}

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

/* The operand that may be of codes is buffer 1; with bf16 alone. */
static Case case_of(Arena *a, const Shape *s, CallKind kind, bool bf16, DType t, bool krsc)
{
    CallDesc d = conv_desc(s, kind);
    d.bf16 = bf16;
    d.krsc = krsc;
    d.x_type = d.w_type = t;
    Case c = case_new(a, d);
    for (int64_t i = 0; i < c.elems[1] && t != DTYPE_F32; i++) {
        uint32_t u = (uint32_t)(rng_uniform(5, 6, 7, (uint64_t)i) * 256);
        ((uint8_t *)c.bufs[1])[i] = (uint8_t)u;
    }
    return c;
}

/* Plain loops that call themselves a library with vectors of so many bits. */
static CallLib *others_of(Arena *a, int32_t vector_bits)
{
    CallLib *lib = calllib_reference(a);
    lib->vector_bits = vector_bits;
    return lib;
}

static float *run(Arena *a, const Case *c, Isa isa, int threads)
{
    Diag     diag = diag_new(stderr);
    CallLib *lib = calllib_narrow(a, others_of(a, 256), threads, isa);
    int64_t  n = case_result_elems(c);
    float   *out = buf_new(a, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = NAN;
    void *prepared = lib->prepare(lib->self, &diag, &c->d);
    assert_non_null(prepared);
    char *scratch = arena_alloc(a, (size_t)lib->scratch_bytes(lib->self, &c->d) + 64);
    memset(scratch, 0x7f, (size_t)lib->scratch_bytes(lib->self, &c->d) + 64);
    assert_true(lib->run(lib->self, prepared, (void *const[]){ c->bufs[0], c->bufs[1], out },
                         scratch + (-(uintptr_t)scratch & 63)));
    for (int i = 0; i < GUARD; i++)
        assert_true(out[n + i] == guard_value);
    lib->release(lib->self);
    diag_free(&diag);
    return out;
}

/* Allowed as in check_calls.c: products of bf16 are exact, so rounding is that of sums of floats. */
static void check_case(Arena *a, const Case *c)
{
    const CallDesc *d = &c->d;
    int64_t n = case_result_elems(c), terms = d->kind == CALL_CONV_BWD_X ? d->k * d->r * d->s : d->n * d->oh * d->ow;
    float  *plain = ARENA_ARRAY(a, float, n), *sizes = ARENA_ARRAY(a, float, n), *first = NULL;
    reference_call(d, (void *const[]){ c->bufs[0], c->bufs[1], plain }, sizes);
    for (Isa isa = ISA_PORTABLE; isa < ISA_COUNT; isa++) {
        if (!isa_is_here(isa))
            continue;
        for (int threads = 1; threads <= 3; threads++) {
            float *found = run(a, c, isa, threads);
            if (!first) {
                first = found;
                for (int64_t i = 0; i < n; i++)
                    assert_true(fabs((double)found[i] - (double)plain[i]) <=
                                (4 + sqrt((double)terms)) * 0x1p-24 * (double)sizes[i] + 1e-30);
            }
            if (memcmp(first, found, sizeof(float) * (size_t)n))
                fail_msg("%s %lldx%lldx%lldx%lld k %lld: %s on %d threads differs", call_name(d->kind), (long long)d->n,
                         (long long)d->c, (long long)d->h, (long long)d->w, (long long)d->k, narrow_doc(isa), threads);
        }
    }
}

static void check_type(DType t, bool krsc)
{
    for (int32_t i = 0; i < DT_COUNT(shapes); i++)
        for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
            Arena a = arena_new("test");
            Case  c = case_of(&a, &shapes[i], kinds[k], true, t, krsc);
            check_case(&a, &c);
            arena_free(&a);
        }
}

static void test_floats(void **state)
{
    (void)state;
    check_type(DTYPE_F32, false);
}

static void test_floats_krsc(void **state)
{
    (void)state;
    check_type(DTYPE_F32, true);
}

static void test_codes(void **state)
{
    (void)state;
    check_type(DTYPE_S8, false);
    check_type(DTYPE_U8, false);
}

/* The gradient alone is rounded: with one that is a bf16 and codes, whole numbers come out whole. */
static void test_codes_are_exact(void **state)
{
    (void)state;
    Shape s = { 2, 16, 9, 9, 8, 3, 3, 1, 1, { 1, 1, 1, 1 }, false };
    for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
        Arena    a = arena_new("test");
        Case     c = case_of(&a, &s, kinds[k], true, DTYPE_S8, false);
        int64_t  n = case_result_elems(&c);
        CallDesc floats = c.d;
        float   *plain = ARENA_ARRAY(&a, float, n), *codes = ARENA_ARRAY(&a, float, c.elems[1]);
        for (int64_t i = 0; i < c.elems[0]; i++)
            c.bufs[0][i] = (float)(i * 7 % 13 - 6);
        for (int64_t i = 0; i < c.elems[1]; i++)
            codes[i] = (float)((int8_t *)c.bufs[1])[i];
        floats.bf16 = false;
        reference_call(&floats, (void *const[]){ c.bufs[0], codes, plain }, NULL);
        assert_memory_equal(run(&a, &c, isa_best(), 2), plain, sizeof(float) * (size_t)n);
        arena_free(&a);
    }
}

/* Sums that become smaller than the normal range, on the way and at the end. */
static void test_tiny_sums(void **state)
{
    (void)state;
    for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
        Arena a = arena_new("test");
        Case  c = case_of(&a, &shapes[0], kinds[k], true, DTYPE_F32, false);
        for (int64_t i = 0; i < c.elems[0]; i++)
            c.bufs[0][i] = ldexpf(c.bufs[0][i], -70);
        for (int64_t i = 0; i < c.elems[1]; i++)
            c.bufs[1][i] = ldexpf(c.bufs[1][i], -55);
        check_case(&a, &c);
        arena_free(&a);
    }
}

/* ---- Weights in f32 ---------------------------------------------------------------------------------------------- */

/* Plain loops need no scratch memory. */
static bool is_taken(Arena *a, const CallDesc *d, int32_t vector_bits)
{
    CallLib *lib = calllib_narrow(a, others_of(a, vector_bits), 2, isa_best());
    int64_t  bytes = lib->scratch_bytes(lib->self, d);
    lib->release(lib->self);
    return bytes > 0;
}

static void test_weights_in_f32(void **state)
{
    (void)state;
    static const struct {
        Shape s;
        bool  with_avx2, with_avx512;
    } rows[] = {
        { { 2, 32, 9, 11, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true, false },
        { { 3, 48, 5, 8, 64, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true, false },
        { { 1, 32, 6, 57, 48, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true, true },
        { { 1, 32, 5, 61, 32, 5, 2, 1, 1, { 1, 0, 2, 1 }, false }, true, true },
        { { 2, 32, 12, 23, 32, 3, 3, 2, 1, { 1, 1, 0, 0 }, false }, true, false },
        { { 1, 144, 4, 56, 128, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true, false }, /* many weights */
        { { 2, 16, 60, 60, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false, false },
        { { 2, 40, 60, 60, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false, false },
        { { 2, 32, 60, 60, 32, 1, 1, 1, 1, { 0, 0, 0, 0 }, false }, false, false },
        { { 2, 64, 9, 6, 64, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false, false },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Arena a = arena_new("test");
        Case  c = case_of(&a, &rows[i].s, CALL_CONV_BWD_W, false, DTYPE_F32, i % 2);
        assert_int_equal(is_taken(&a, &c.d, 256), rows[i].with_avx2);
        assert_int_equal(is_taken(&a, &c.d, 512), rows[i].with_avx512);
        assert_false(is_taken(&a, &c.d, 0));
        c.d.kind = CALL_CONV_BWD_X;
        assert_false(is_taken(&a, &c.d, 256));
        c.d.kind = CALL_CONV_BWD_W;
        check_case(&a, &c);
        arena_free(&a);
    }
}

/* ---- Other calls, and mistakes ----------------------------------------------------------------------------------- */

static void test_others_pass(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     diag = diag_new(stderr);
    CallLib *lib = calllib_narrow(&a, calllib_reference(&a), 2, isa_best());
    Case     c = case_new(&a, conv_desc(&shapes[0], CALL_CONV_FWD));
    float   *plain = ARENA_ARRAY(&a, float, case_result_elems(&c));
    void    *prepared = lib->prepare(lib->self, &diag, &c.d);
    assert_non_null(prepared);
    assert_int_equal(lib->scratch_bytes(lib->self, &c.d), 0);
    assert_true(lib->run(lib->self, prepared, (void *const *)c.bufs, NULL));
    reference_call(&c.d, (void *const[]){ c.bufs[0], c.bufs[1], plain }, NULL);
    assert_memory_equal(plain, case_result(&c), sizeof(float) * (size_t)case_result_elems(&c));
    lib->unprepare(lib->self, prepared);
    lib->release(lib->self);
    diag_free(&diag);
    arena_free(&a);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        CallKind    kind;
        int64_t     groups;
        DType       type;
        const char *why;
    } rows[] = {
        { CALL_CONV_BWD_W, 2, DTYPE_F32, "found a convolution in groups" },
        { CALL_CONV_FWD, 1, DTYPE_F32, "found a call that is no gradient of a convolution" },
        { CALL_CONV_BWD_X, 1, DTYPE_I32, "found an operand that is not f32, s8 or u8" },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Arena    a = arena_new("test");
        Diag     diag = diag_new(NULL);
        CallLib *lib = calllib_narrow(&a, calllib_reference(&a), 2, isa_best());
        CallDesc d = conv_desc(&shapes[0], rows[i].kind);
        d.bf16 = true;
        d.groups = rows[i].groups;
        d.x_type = d.w_type = rows[i].type;
        assert_int_equal(lib->scratch_bytes(lib->self, &d), -1);
        assert_null(lib->prepare(lib->self, &diag, &d));
        assert_non_null(strstr(diag.text.s, rows[i].why));
        lib->release(lib->self);
        diag_free(&diag);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),       cmocka_unit_test(test_floats),
        cmocka_unit_test(test_floats_krsc),    cmocka_unit_test(test_codes),
        cmocka_unit_test(test_tiny_sums),      cmocka_unit_test(test_codes_are_exact),
        cmocka_unit_test(test_weights_in_f32), cmocka_unit_test(test_others_pass),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
