/* test_base.c: types, memory, text, random numbers and hashes of base/ against known answers: the Philox vectors of its
 * authors, XXH3 of the empty text, round trips of floats. Files, messages and options: test_base_io.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#endif

typedef struct Fixture {
    Arena a;
} Fixture;

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    arena_free(&f->a);
    free(f);
    return 0;
}

/* ---- Element types ---- */

static void test_dtype(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *name;
        int64_t     min, max, bytes_of_9;
    } rows[] = {
        { "f32", 0, 0, 36 }, { "i32", INT32_MIN, INT32_MAX, 36 }, { "u32", 0, UINT32_MAX, 36 }, { "u8", 0, 255, 9 },
        { "s8", -128, 127, 9 }, { "u4", 0, 15, 5 }, { "s4", -8, 7, 5 }, { "u2", 0, 3, 3 }, { "s2", -2, 1, 3 },
        { "b1", 0, 1, 2 },
    };
    // clang-format on
    assert_int_equal(DT_COUNT(rows), DTYPE_COUNT);
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        DType t;
        assert_true(dtype_parse(rows[i].name, strlen(rows[i].name), &t));
        assert_string_equal(dtype_name(t), rows[i].name);
        assert_int_equal(dtype_min(t), rows[i].min);
        assert_int_equal(dtype_max(t), rows[i].max);
        assert_int_equal(dtype_bytes(t, 9), rows[i].bytes_of_9);
        assert_int_equal(dtype_bytes(t, 0), 0);
    }
    DType t;
    assert_false(dtype_parse("f3", 2, &t));
    assert_false(dtype_parse("f322", 4, &t));
    assert_true(dtype_parse("f32x", 3, &t));
    assert_true(dtype_is_float(DTYPE_F32) && dtype_is_signed(DTYPE_S2) && !dtype_is_signed(DTYPE_U4));
}

static void test_mul64(void **state)
{
    (void)state;
    int64_t x;
    assert_true(dt_mul64(INT64_C(3037000499), INT64_C(3037000499), &x));
    assert_int_equal(x, INT64_C(9223372030926249001));
    assert_false(dt_mul64(INT64_C(3037000500), INT64_C(3037000500), &x));
    assert_int_equal(x, 0);
    assert_false(dt_mul64(-1, 5, &x));
    assert_true(dt_mul64(0, INT64_MAX, &x));
    assert_int_equal(dt_round_up(17, 16), 32);
}

/* ---- Arena, vectors, maps ---- */

static bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static void test_arena(void **state)
{
    (void)state;
    Arena a = arena_new("small");
    a.first_chunk_bytes = 64;
    for (int life = 0; life < 3; life++) {
        for (size_t bytes = 0; bytes < 3000; bytes += 37) {
            unsigned char *p = arena_alloc(&a, bytes);
            assert_int_equal((uintptr_t)p % 16, 0);
            assert_true(all_zero(p, bytes));
            memset(p, 0xA5, bytes);
        }
        assert_true(a.used > 0 && a.high_water >= a.used);
        arena_reset(&a);
        assert_int_equal(a.used, 0);
        assert_true(a.high_water > 100000);
    }
    unsigned char *large = arena_alloc(&a, (size_t)9 << 20);
    assert_true(all_zero(large, (size_t)9 << 20));
    arena_free(&a);
    arena_free(&a); /* again: nothing */

    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
    assert_string_equal(arena_copy(&a, "abc", 4), "abc");
    arena_free(&a);
}

static void test_arena_poison(void **state)
{
    (void)state;
#ifdef HAVE_ASAN
    Arena a = arena_new("poison");
    char *p = arena_alloc(&a, 24), *q = arena_alloc(&a, 8);
    assert_false(__asan_address_is_poisoned(p + 23));
    assert_true(__asan_address_is_poisoned(p + 24)); /* the gap */
    assert_false(__asan_address_is_poisoned(q));
    arena_reset(&a);
    assert_true(__asan_address_is_poisoned(p) && __asan_address_is_poisoned(q));
    assert_ptr_equal(arena_alloc(&a, 4), p);
    assert_false(__asan_address_is_poisoned(p + 3));
    assert_true(__asan_address_is_poisoned(p + 8));
    arena_free(&a);
#else
    skip();
#endif
}

static void test_vec(void **state)
{
    Fixture *f = *state;
    typedef struct Pair {
        int a, b;
    } Pair;
    VEC(Pair) v = { 0 };
    for (int i = 0; i < 10000; i++)
        vec_push(&f->a, &v, (Pair){ i, -i });
    assert_int_equal(v.len, 10000);
    assert_true(v.cap >= v.len);
    for (int i = 0; i < v.len; i++)
        assert_true(v.at[i].a == i && v.at[i].b == -i);
}

static void test_strmap(void **state)
{
    Fixture *f = *state;
    StrMap   m = strmap_new(&f->a);
    char     key[16];
    assert_int_equal(strmap_get(&m, "x"), -1);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i); /* the map keeps a copy */
        assert_true(strmap_put(&m, key, i));
    }
    assert_int_equal(m.len, 5000);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(strmap_get(&m, key), i);
        assert_false(strmap_put(&m, key, 2 * i));
        assert_int_equal(strmap_get(&m, key), 2 * i);
    }
    assert_int_equal(m.len, 5000);
    assert_int_equal(strmap_get(&m, "k5000"), -1);
    assert_int_equal(strmap_get(&m, ""), -1);
}

/* ---- Strings ---- */

static void test_str(void **state)
{
    Fixture *f = *state;
    Str      s = str_new(&f->a);
    assert_string_equal(s.s, "");
    for (int i = 0; i < 500; i++) {
        str_printf(&s, "%03d", i);
        str_add(&s, ",");
        assert_int_equal(s.len, 4 * (i + 1));
        assert_int_equal(strlen(s.s), s.len);
    }
    assert_int_equal(strncmp(s.s + 4 * 321, "321,322,", 8), 0);
    str_addn(&s, s.s, s.len); /* from itself */
    assert_int_equal(strlen(s.s), 4000);
    assert_memory_equal(s.s, s.s + 2000, 2000);

    assert_true(str_eq(NULL, NULL) && str_eq("a", "a"));
    assert_false(str_eq(NULL, "") || str_eq("", NULL) || str_eq("a", "b"));
}

static const char *f32_text(Fixture *f, float x)
{
    Str s = str_new(&f->a);
    str_add_f32(&s, x);
    return s.s;
}

static void test_f32_text(void **state)
{
    Fixture *f = *state;
    // clang-format off
    static const struct {
        float       x;
        const char *text;
    } rows[] = {
        { 0.0f, "0" }, { -0.0f, "-0" }, { 1.0f, "1" }, { -1.5f, "-1.5" }, { 0.1f, "0.1" }, { 100.0f, "100" },
        { 0.001f, "0.001" }, { 0.00012f, "0.00012" }, { 1e-5f, "1e-5" }, { 12.5f, "12.5" }, { 1234567.0f, "1234567" },
        { 1e9f, "1e9" }, { 3.1415927f, "3.1415927" }, { 16777216.0f, "16777216" }, { 1.25e-30f, "1.25e-30" },
        { 3.4028235e38f, "3.4028235e38" }, { 1.4e-45f, "1e-45" }, { 1.17549435e-38f, "1.1754944e-38" },
        { INFINITY, "inf" }, { -INFINITY, "-inf" }, { NAN, "nan" },
    };
    // clang-format on
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        assert_string_equal(f32_text(f, rows[i].x), rows[i].text);
}

static uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static int digits_of(const char *text)
{
    int n = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text == '0')
            zeros += n > 0;
        else if (*text >= '1' && *text <= '9') {
            n += zeros + 1;
            zeros = 0;
        }
    }
    return n;
}

/* Any bits: the text reads back as the same bits, and no text with one digit less does (the neighbours are tried). */
static void check_f32_round_trip(Fixture *f, float x)
{
    const char *text = f32_text(f, x);
    assert_int_equal(f32_bits(strtof(text, NULL)), f32_bits(x));
    int n = digits_of(text);
    if (n < 2)
        return;
    char e[40];
    snprintf(e, sizeof e, "%.*e", n - 2, (double)x);
    double unit = pow(10, atoi(strchr(e, 'e') + 1) - (n - 2));
    for (int step = -1; step <= 1; step++) {
        char other[40];
        snprintf(other, sizeof other, "%.*e", n - 2, strtod(e, NULL) + step * unit);
        if (f32_bits(strtof(other, NULL)) == f32_bits(x))
            fail_msg("%s is not the shortest for %a: %s", text, (double)x, other);
    }
}

static void test_f32_round_trip(void **state)
{
    Fixture *f = *state;
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t u = rng_u32(1, 2, 3, i);
        float    x;
        memcpy(&x, &u, sizeof x);
        if (isfinite(x) && x != 0)
            check_f32_round_trip(f, x);
        check_f32_round_trip(f, rng_normal(1, 2, 4, i));
        arena_reset(&f->a);
    }
    for (int exponent = -149; exponent < 128; exponent++) {
        float x = ldexpf(1, exponent);
        check_f32_round_trip(f, x);
        check_f32_round_trip(f, nextafterf(x, 0) > 0 ? nextafterf(x, 0) : x);
        check_f32_round_trip(f, nextafterf(x, INFINITY));
    }
}

static void test_glob(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        const char *pattern, *text;
        bool        matches;
    } rows[] = {
        { "", "", true }, { "", "a", false }, { "a", "", false }, { "*", "", true }, { "*", "a.b.c", true },
        { "a*c", "abc", true }, { "a*c", "ac", true }, { "a*c", "acb", false }, { "s0.*", "s0.conv.weight", true },
        { "s0.*", "s0", false }, { "*.weight", "a.b.weight", true }, { "?", "a", true }, { "?", "", false },
        { "??", "a", false }, { "[abc]x", "bx", true }, { "[abc]x", "dx", false }, { "[a-c]x", "bx", true },
        { "[!a-c]x", "bx", false }, { "[!a-c]x", "dx", true }, { "[]]", "]", true }, { "[a", "[a", true },
        { "[a-]", "-", true }, { "{a,b}", "a", true }, { "{a,b}", "b", true }, { "{a,b}", "c", false },
        { "s{0,12}.*", "s12.x", true }, { "s{0,12}.*", "s1.x", false }, { "{a,b{c,d}}e", "bde", true },
        { "{a,b{c,d}}e", "be", false }, { "x{,y}z", "xz", true }, { "x{,y}z", "xyz", true }, { "{a", "{a", true },
        { "{a*,b}{c,d*}", "axxdyy", true }, { "{a*,b}{c,d*}", "bdc", true }, { "{a*,b}{c,d*}", "bca", false },
        { "a}", "a}", true }, { "{*a,*b}*{*,c}", "xxxb", true },
        { "*a*a*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
    };
    // clang-format on
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        if (str_glob(rows[i].pattern, rows[i].text) != rows[i].matches)
            fail_msg("glob '%s' on '%s'", rows[i].pattern, rows[i].text);
}

static void test_nearest(void **state)
{
    Fixture                 *f = *state;
    static const char *const names[] = { "conv2d", "linear", "relu", "relu6", "maxpool", "avgpool", "add" };
    // clang-format off
    static const struct {
        const char *wanted, *near;
    } rows[] = {
        { "conv2", "conv2d" }, { "covn2d", "conv2d" }, { "reul", "relu or relu6" }, { "relu7", "relu or relu6" },
        { "agvpool", "avgpool" }, { "xpool", "maxpool" }, { "softmax", "" }, { "", "" },
        { "max", "maxpool" },
    };
    // clang-format on
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        assert_string_equal(str_nearest(&f->a, rows[i].wanted, names, DT_COUNT(names)), rows[i].near);
    static const char *const four[] = { "ab1", "ab2", "ab3", "ab4" };
    assert_string_equal(str_nearest(&f->a, "abx", four, 4), "ab1, ab2 or ab3");
    assert_string_equal(str_nearest(&f->a, "abx", NULL, 0), "");
}

static void test_bytes(void **state)
{
    Fixture *f = *state;
    assert_string_equal(str_bytes(&f->a, 0), "0 B");
    assert_string_equal(str_bytes(&f->a, 1023), "1023 B");
    assert_string_equal(str_bytes(&f->a, 1536), "1.5 KiB");
    assert_string_equal(str_bytes(&f->a, 12 << 20), "12.0 MiB");
    assert_string_equal(str_bytes(&f->a, (1 << 20) - 1), "1.0 MiB");
    assert_string_equal(str_bytes(&f->a, -2048), "-2.0 KiB");
    assert_string_equal(str_bytes(&f->a, INT64_MAX), "8.0 EiB");
}

/* ---- Random numbers and hashes ---- */

static void test_philox(void **state)
{
    (void)state;
    // clang-format off
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } rows[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    // clang-format on
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        uint32_t out[4];
        philox4x32_10(rows[i].ctr, rows[i].key, out);
        assert_memory_equal(out, rows[i].out, sizeof out);
    }
    /* The same vector through the numbering of draws: ctr = {index lo, index hi, substream, stream}. */
    assert_int_equal(rng_u32(0x299f31d0a4093822, 0x03707344, 0x13198a2e, 0x85a308d3243f6a88), 0xd16cfe09);
}

static void test_rng_moments(void **state)
{
    (void)state;
    int    n = 200000;
    double u1 = 0, u2 = 0, g1 = 0, g2 = 0, g4 = 0;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(7, 1, 0, (uint64_t)i), g = rng_normal(7, 2, 0, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        u1 += u / n;
        u2 += u * u / n;
        g1 += g / n;
        g2 += g * g / n;
        g4 += g * g * g * g / n;
    }
    /* Five standard errors of each mean. */
    assert_true(fabs(u1 - 0.5) < 5 * sqrt(1.0 / 12 / n));
    assert_true(fabs(u2 - 1.0 / 3) < 5 * sqrt(4.0 / 45 / n));
    assert_true(fabs(g1) < 5 * sqrt(1.0 / n));
    assert_true(fabs(g2 - 1) < 5 * sqrt(2.0 / n));
    assert_true(fabs(g4 - 3) < 5 * sqrt(96.0 / n));
}

static void test_permutation(void **state)
{
    Fixture  *f = *state;
    uint32_t  n = 1000, fixed = 0;
    uint32_t *p = ARENA_ARRAY(&f->a, uint32_t, n), *q = ARENA_ARRAY(&f->a, uint32_t, n);
    bool     *seen = ARENA_ARRAY(&f->a, bool, n);
    rng_permutation(1, 2, 3, p, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(p[i] < n && !seen[p[i]]);
        seen[p[i]] = true;
        fixed += p[i] == i;
    }
    assert_true(fixed < 10);
    rng_permutation(1, 2, 3, q, n);
    assert_memory_equal(p, q, n * sizeof *p);
    rng_permutation(1, 2, 4, q, n);
    assert_memory_not_equal(p, q, n * sizeof *p);
    rng_permutation(1, 2, 3, p, 0);

    uint32_t counts[6] = { 0 }, three[3]; /* the orders of three, 6000 draws: 1000 of each, sigma 29 */
    for (uint32_t i = 0; i < 6000; i++) {
        rng_permutation(1, 2, i, three, 3);
        counts[three[0] * 2 + (three[1] > three[2])]++;
    }
    for (int i = 0; i < 6; i++)
        assert_in_range(counts[i], 850, 1150);
}

static void test_hash(void **state)
{
    (void)state;
    char hex[33];
    hash_hex(hash_bytes("", 0), hex); /* XXH3_128bits of nothing, as xxhsum -H2 prints it */
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    Hash128 a = hash_bytes("abc", 3), b = hash_bytes("abd", 3);
    assert_true(a.lo != b.lo && a.hi != b.hi);
    assert_int_equal(hash_u32("abc"), (uint32_t)a.lo);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    // clang-format off
    const struct CMUnitTest tests[] = {
        TEST(dtype), TEST(mul64), TEST(arena), TEST(arena_poison), TEST(vec), TEST(strmap), TEST(str), TEST(f32_text),
        TEST(f32_round_trip), TEST(glob), TEST(nearest), TEST(bytes), TEST(philox), TEST(rng_moments),
        TEST(permutation), TEST(hash),
    };
    // clang-format on
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
