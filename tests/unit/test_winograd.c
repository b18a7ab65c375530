/* test_winograd.c: gradients by Winograd's algorithm: each instruction set against plain loops in double precision
 * within a bound of rounding errors, all of them and all numbers of threads against each other by equality, which calls
 * are taken. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/winograd/winograd.h"
#include "tests/unit/call_fixture.h"

/* clang-format off */
static const Shape shapes[] = {
    /* n   c   h   w   k  r  s st  g  pad */
    {  2, 16, 12, 12, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  3, 32,  8,  8, 64, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  2, 64,  7,  5, 48, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  5, 48,  5,  9, 32, 3, 3, 1, 1, { 0, 0, 0, 0 }, false },
    {  2, 80,  6, 11, 16, 3, 3, 1, 1, { 1, 0, 0, 1 }, false },
    {  1, 16, 10,  7, 80, 3, 3, 1, 1, { 2, 0, 1, 2 }, false },
    {  2, 32,  9,  6, 32, 3, 3, 1, 1, { 3, 4, 0, 3 }, false }, /* windows wholly outside */
    { 64, 16,  1,  1, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, /* one tile an image, three quarters of it outside */
    { 64, 32,  3,  3, 16, 3, 3, 1, 1, { 0, 0, 0, 0 }, false }, /* one pixel of dy */
    { 33, 16,  3,  3, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
    {  1, 16, 70, 90, 16, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, /* an image is many bands */
    {  1,144, 21, 20,176, 3, 3, 1, 1, { 1, 1, 1, 1 }, false },
};
/* clang-format on */
static const CallKind kinds[] = { CALL_CONV_BWD_X, CALL_CONV_BWD_W };

/* Plain loops that call themselves a library with vectors of so many bits. */
static CallLib *lib_of(Arena *a, int32_t vector_bits, Isa isa, int threads)
{
    CallLib *others = calllib_reference(a);
    others->vector_bits = vector_bits;
    return calllib_winograd(a, others, threads, isa);
}

/* Plain loops need no scratch memory. */
static bool is_taken(const CallDesc *d, int32_t vector_bits)
{
    Arena    a = arena_new("test");
    CallLib *lib = lib_of(&a, vector_bits, isa_best(), 2);
    int64_t  bytes = lib->scratch_bytes(lib->self, d);
    lib->release(lib->self);
    arena_free(&a);
    return bytes > 0;
}

static float *run(Arena *a, const Case *c, Isa isa, int threads)
{
    Diag     diag = diag_new(stderr);
    CallLib *lib = lib_of(a, 256, isa, threads);
    int64_t  n = case_result_elems(c), bytes = lib->scratch_bytes(lib->self, &c->d);
    float   *out = buf_new(a, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = NAN;
    void *prepared = lib->prepare(lib->self, &diag, &c->d);
    assert_non_null(prepared);
    char *scratch = arena_alloc(a, (size_t)bytes + 128);
    scratch += -(uintptr_t)scratch & 63;
    memset(scratch, 0xff, (size_t)bytes + 64); /* NaN */
    assert_true(lib->run(lib->self, prepared, (void *const[]){ c->bufs[0], c->bufs[1], out }, scratch));
    for (int i = 0; i < GUARD; i++)
        assert_true(out[n + i] == guard_value);
    for (int64_t i = 0; i < 64; i++)
        assert_int_equal((unsigned char)scratch[bytes + i], 0xff);
    lib->release(lib->self);
    diag_free(&diag);
    return out;
}

/* Allowed as in check_calls.c. */
static void check_case(Arena *a, const Case *c)
{
    const CallDesc *d = &c->d;
    int64_t         n = case_result_elems(c), terms = d->kind == CALL_CONV_BWD_X ? d->k * 9 : d->n * d->oh * d->ow;
    float          *plain = ARENA_ARRAY(a, float, n), *sizes = ARENA_ARRAY(a, float, n), *first = NULL;
    reference_call(d, (void *const[]){ c->bufs[0], c->bufs[1], plain }, sizes);
    for (Isa isa = ISA_PORTABLE; isa < ISA_COUNT; isa++)
        for (int threads = 1; isa_is_here(isa) && threads <= 3; threads++) {
            float *found = run(a, c, isa, threads);
            first = first ? first : found;
            for (int64_t i = 0; i < n && first == found; i++)
                if (!(fabs((double)found[i] - (double)plain[i]) <=
                      (4 + sqrt((double)terms)) * 0x1p-24 * (double)sizes[i] + 1e-30))
                    fail_msg("%s: element %lld is %a, expected %a", call_name(d->kind), (long long)i, (double)found[i],
                             (double)plain[i]);
            if (memcmp(first, found, sizeof(float) * (size_t)n))
                fail_msg("%s %lldx%lldx%lldx%lld k %lld: %s on %d threads differs", call_name(d->kind), (long long)d->n,
                         (long long)d->c, (long long)d->h, (long long)d->w, (long long)d->k, isa_doc(isa), threads);
        }
}

static void check_all(CallKind kind, bool krsc)
{
    for (int32_t i = 0; i < DT_COUNT(shapes); i++) {
        Arena    a = arena_new("test");
        CallDesc d = conv_desc(&shapes[i], kind);
        d.krsc = krsc;
        Case c = case_new(&a, d);
        assert_true(is_taken(&d, 256));
        check_case(&a, &c);
        arena_free(&a);
    }
}

static void test_data(void **state)
{
    (void)state;
    check_all(CALL_CONV_BWD_X, false);
}

static void test_weight(void **state)
{
    (void)state;
    check_all(CALL_CONV_BWD_W, false);
}

static void test_krsc(void **state)
{
    (void)state;
    check_all(CALL_CONV_BWD_X, true);
    check_all(CALL_CONV_BWD_W, true);
}

/* Whole numbers come out whole: halves are exact. */
static void test_whole_numbers(void **state)
{
    (void)state;
    for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
        Arena   a = arena_new("test");
        Case    c = case_new(&a, conv_desc(&shapes[2], kinds[k]));
        int64_t n = case_result_elems(&c);
        float  *plain = ARENA_ARRAY(&a, float, n);
        for (int64_t i = 0; i < c.elems[0]; i++)
            c.bufs[0][i] = (float)(i * 7 % 13 - 6);
        for (int64_t i = 0; i < c.elems[1]; i++)
            c.bufs[1][i] = (float)(i * 5 % 31 - 15);
        reference_call(&c.d, (void *const[]){ c.bufs[0], c.bufs[1], plain }, NULL);
        const float *found = run(&a, &c, isa_best(), 2);
        for (int64_t i = 0; i < n; i++)
            assert_true(found[i] == plain[i]);
        arena_free(&a);
    }
}

static void test_taken(void **state)
{
    (void)state;
    static const struct {
        Shape s;
        bool  taken;
    } rows[] = {
        { { 2, 32, 9, 11, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true },
        { { 2, 16, 9, 11, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, true },
        { { 2, 40, 9, 11, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false },
        { { 2, 64, 9, 11, 3, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false },
        { { 2, 32, 19, 21, 32, 3, 3, 2, 1, { 1, 1, 1, 1 }, false }, false },
        { { 2, 32, 5, 6, 32, 3, 3, 1, 1, { 1, 1, 1, 1 }, false }, false }, /* data alone: few pixels */
        { { 2, 32, 9, 11, 32, 3, 5, 1, 1, { 1, 1, 1, 1 }, false }, false },
        { { 2, 64, 9, 11, 64, 3, 3, 1, 2, { 1, 1, 1, 1 }, false }, false },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        for (int32_t k = 0; k < DT_COUNT(kinds); k++) {
            CallDesc d = conv_desc(&rows[i].s, kinds[k]);
            bool     few = d.n * d.oh * d.ow < 64, data = few && kinds[k] == CALL_CONV_BWD_X;
            assert_int_equal(is_taken(&d, 256), rows[i].taken || data);
            assert_int_equal(is_taken(&d, 512), rows[i].taken || data);
            assert_false(is_taken(&d, 0));
            d.bf16 = true;
            assert_false(is_taken(&d, 256));
        }
}

static void test_others_pass(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     diag = diag_new(stderr);
    CallLib *lib = lib_of(&a, 256, isa_best(), 2);
    Case     c = case_new(&a, conv_desc(&shapes[0], CALL_CONV_FWD));
    float   *plain = ARENA_ARRAY(&a, float, case_result_elems(&c));
    void    *prepared = lib->prepare(lib->self, &diag, &c.d);
    assert_non_null(prepared);
    assert_true(lib->run(lib->self, prepared, (void *const *)c.bufs, NULL));
    reference_call(&c.d, (void *const[]){ c.bufs[0], c.bufs[1], plain }, NULL);
    assert_memory_equal(plain, case_result(&c), sizeof(float) * (size_t)case_result_elems(&c));
    lib->unprepare(lib->self, prepared);
    lib->release(lib->self);
    diag_free(&diag);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),          cmocka_unit_test(test_weight), cmocka_unit_test(test_krsc),
        cmocka_unit_test(test_whole_numbers), cmocka_unit_test(test_taken),  cmocka_unit_test(test_others_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
