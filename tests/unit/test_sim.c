/* test_sim.c: the simulator's language against C: expressions and statements whose very text is compiled here and
 * simulated, conversions at their corners, functions. test_sim_memory.c has memory and threads that work together,
 * test_sim_faults.c plants the mistakes that the simulator must find. */
#include "tests/unit/sim_fixture.h"

#include <math.h>

enum { THREADS = 96 }; /* three warps */

/* ---- Expressions: the same text in C and in the kernel ---- */

// clang-format off
#define U_EXPRS(X)                                                                                                     \
    X(a + b) X(a - b) X(a * b) X(a / (b | 1u)) X(a % (b | 1u)) X(a & b) X(a | b) X(a ^ b) X(~a) X(+a) X(0u - b)        \
    X(a << (b & 31u)) X(a >> (b & 31u)) X(a << 5) X(b >> 9) X(a < b) X(a <= b) X(a > b) X(a >= b) X(a == b) X(a != b)  \
    X(!a) X(a && b) X(a || b) X(a ? b : 7u) X((unsigned char)a) X((unsigned short)b) X(a / 7u) X(a % 10u)              \
    X(a + b * 3u - (a ^ b) / 5u) X(a > 5u ? b > 9u ? 1u : 2u : 3u) X((a & 255u) == 7u || b & 1u && a > b)              \
    X(1u + 2u * 3u - (8u >> 1) % 3u + a * 0u) X(0xFFFFFFFFu / (a | 1u)) X((unsigned)(a < b) + (unsigned)(b < a))       \
    X((unsigned)((unsigned long long)a * b >> 32)) X((unsigned)(((unsigned long long)a << 20) % 1000003ull))           \
    X((unsigned)((long long)a - (long long)b < 0)) X((unsigned)((unsigned long long)a * a / (b | 1ull)))               \
    X((unsigned)(-(long long)a >> 3)) X((unsigned)(~(unsigned long long)a >> 13)) X(a | b ^ a & 12u << 1 + 1)          \
    X(sizeof(float) * 4 + sizeof(short)) X((int)a > (int)b) X(a - b > 3u == (a < b)) X((long long)a * -3 > (int)b)
#define I_EXPRS(X)                                                                                                     \
    X(a + b) X(a - b) X(a * b) X(a / (b * b + 1)) X(a % 7) X(-a % 13) X(a / -3) X(-a) X(~b) X(a >> 3) X(a < b)         \
    X(a <= b) X(a > b) X(a >= b) X((signed char)a) X((short)(a * 3)) X(a < 0 ? -a : a) X((a & 7) << 2)                 \
    X(a / 2 * 2 + a % 2) X((int)((long long)a * b % 1000)) X((int)((long long)a * b / -17)) X(!(a > b) + (a == b))     \
    X((int)(unsigned char)(signed char)a) X((a > 0) != (b > 0)) X(a ^ b | 3 & a) X(a > b && b > -a || !a)              \
    X(0x7fffffff - (a & 255)) X(-2147483647 - 1 + (b & 3)) X((int)(a * 0.25f)) X(a > 0 ? a : b < 0 ? -1 : b)
#define F_EXPRS(X)                                                                                                     \
    X(a + b) X(a - b) X(a * b) X(a / b) X(-a) X(a * b + a) X(fabsf(a)) X(sqrtf(fabsf(b))) X(rintf(a)) X(floorf(a))     \
    X(ceilf(b)) X(truncf(b)) X(fmaf(a, b, 1.5f)) X(a < b ? a : b) X(a <= b ? 1.0f : 2.5e-3f) X((float)(a == b))        \
    X((float)(a != a)) X(a > b ? 0x1.8p3f : -.5f) X(1.0f / (fabsf(a) + 1e-30f)) X((float)(int)(b * 0.0f == 0.0f))      \
    X(fmaf(fmaf(a, 0.1f, b), 0.3f, -1.f)) X(a - a) X((float)(a >= 0.0f) - (float)(a < 0.0f)) X(1e38f * 10.0f + 0 * a)
// clang-format on
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wparentheses" /* without them is what is tested */
#pragma GCC diagnostic ignored "-Wint-in-bool-context"
#define VALUES(name, T, R, exprs)                                                                                      \
    static int32_t name(T a, T b, R *out)                                                                              \
    {                                                                                                                  \
        const R v[] = { exprs(X) };                                                                                    \
        memcpy(out, v, sizeof v);                                                                                      \
        return DT_COUNT(v);                                                                                            \
    }
#define X(...) (uint32_t)(__VA_ARGS__),
VALUES(u_values, uint32_t, uint32_t, U_EXPRS)
#undef X
#define X(...) (int32_t)(__VA_ARGS__),
VALUES(i_values, int32_t, int32_t, I_EXPRS)
#undef X
#define X(...) (float)(__VA_ARGS__),
VALUES(f_values, float, float, F_EXPRS)
#undef X
#pragma GCC diagnostic pop
#define X(...) #__VA_ARGS__,
static const char *const u_texts[] = { U_EXPRS(X) }, *const i_texts[] = { I_EXPRS(X) },
                         *const f_texts[] = { F_EXPRS(X) };
#undef X
enum { MOST_EXPRS = 64 };

static const char *expr_kernel(Bed *b, const char *type, const char *const *texts, int32_t n)
{
    Str s = str_new(&b->a);
    str_printf(&s, KERNEL "(const %s *__restrict__ x, const %s *y, %s *z)\n{\n", type, type, type);
    str_printf(&s, "    const %s a = x[threadIdx.x];\n    %s b = y[threadIdx.x];\n", type, type);
    for (int32_t i = 0; i < n; i++)
        str_printf(&s, "    z[%d * 96 + threadIdx.x] = %s;\n", i, texts[i]);
    str_add(&s, "}\n");
    return s.s;
}

static void test_unsigned(void **state)
{
    (void)state;
    Bed             b = bed_new();
    static uint32_t x[THREADS], y[THREADS], z[MOST_EXPRS * THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        x[i] = i < 8 ? i : sim_draw(i) >> i % 32;
        y[i] = i < 16 ? i / 2 : sim_draw(i + 1000) >> i % 29;
    }
    SimArg args[] = { SIM_IN(x), SIM_IN(y), SIM_OUT(z) };
    bed_run(&b, expr_kernel(&b, "unsigned", u_texts, DT_COUNT(u_texts)), 1, THREADS, args, 3);
    for (int32_t t = 0; t < THREADS; t++) {
        uint32_t want[MOST_EXPRS];
        int32_t  n = u_values(x[t], y[t], want);
        for (int32_t i = 0; i < n; i++)
            if (z[i * THREADS + t] != want[i])
                fail_msg("%s: a %u b %u: %u, not %u", u_texts[i], x[t], y[t], z[i * THREADS + t], want[i]);
    }
    bed_free(&b);
}

static void test_int(void **state)
{
    (void)state;
    Bed            b = bed_new();
    static int32_t x[THREADS], y[THREADS], z[MOST_EXPRS * THREADS];
    for (uint32_t i = 0; i < THREADS; i++) { /* small: C does not let them wrap */
        x[i] = i < 8 ? (int32_t)i - 4 : (int32_t)(sim_draw(i) % 20001) - 10000;
        y[i] = i < 16 ? (int32_t)i / 2 - 3 : (int32_t)(sim_draw(i + 1000) % 20001) - 10000;
    }
    SimArg args[] = { SIM_IN(x), SIM_IN(y), SIM_OUT(z) };
    bed_run(&b, expr_kernel(&b, "int", i_texts, DT_COUNT(i_texts)), 1, THREADS, args, 3);
    for (int32_t t = 0; t < THREADS; t++) {
        int32_t want[MOST_EXPRS], n = i_values(x[t], y[t], want);
        for (int32_t i = 0; i < n; i++)
            if (z[i * THREADS + t] != want[i])
                fail_msg("%s: a %d b %d: %d, not %d", i_texts[i], x[t], y[t], z[i * THREADS + t], want[i]);
    }
    bed_free(&b);
}

/* Bits are compared; of NaN only that it is one. */
static bool same_float(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

static void test_float(void **state)
{
    (void)state;
    static const float corners[] = { 0.0f,       -0.0f,      0.5f,       1.5f,          2.5f,
                                     -0.5f,      -1.5f,      0.2f,       -0.2f,         1e-45f,
                                     -3e-39f,    8388607.5f, 8388608.0f, 16777217.0f,   3.4e38f,
                                     -3.4e38f,   INFINITY,   -INFINITY,  NAN,           -2.7f,
                                     4194304.5f, -0.99999f,  0.99999f,   2147483648.0f, -2147483904.0f };
    Bed                b = bed_new();
    static float       x[THREADS], y[THREADS], z[MOST_EXPRS * THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        x[i] = i < 50 ? corners[i % 25] : ((float)sim_draw(i) - 0x1p31f) * 0x1p-28f;
        y[i] = i < 50 ? corners[(i * 7 + i / 25) % 25] : ((float)sim_draw(i + 1000) - 0x1p31f) * 0x1p-26f;
    }
    SimArg args[] = { SIM_IN(x), SIM_IN(y), SIM_OUT(z) };
    bed_run(&b, expr_kernel(&b, "float", f_texts, DT_COUNT(f_texts)), 1, THREADS, args, 3);
    for (int32_t t = 0; t < THREADS; t++) {
        float   want[MOST_EXPRS];
        int32_t n = f_values(x[t], y[t], want);
        for (int32_t i = 0; i < n; i++)
            if (!same_float(z[i * THREADS + t], want[i]))
                fail_msg("%s: a %a b %a: %a, not %a", f_texts[i], x[t], y[t], z[i * THREADS + t], want[i]);
    }
    bed_free(&b);
}

/* The same expressions of constants, which are computed while the text is read. */
static void test_constants(void **state)
{
    (void)state;
    Bed             b = bed_new();
    static uint32_t z[MOST_EXPRS], want[MOST_EXPRS];
    Str             s = str_new(&b.a);
    str_add(&s, "#define A 2863311530u /* 0xAAAAAAAA */\n#define MORE (A + 1u)\n");
    str_add(&s, KERNEL "(unsigned *z)\n{\n    const unsigned a = A, b = 77u;\n");
    for (int32_t i = 0; i < DT_COUNT(u_texts); i++)
        str_printf(&s, "    z[%d] = %s;\n", i, u_texts[i]);
    str_printf(&s, "    z[63] = MORE;\n}\n");
    SimArg args[] = { SIM_OUT(z) };
    bed_run(&b, s.s, 1, 1, args, 1);
    int32_t n = u_values(2863311530u, 77u, want);
    for (int32_t i = 0; i < n; i++)
        if (z[i] != want[i])
            fail_msg("%s: %u, not %u", u_texts[i], z[i], want[i]);
    assert_int_equal(z[63], 2863311531u);
    bed_free(&b);
}

/* ---- Statements: functions that are compiled here and simulated ---- */

#define STATEMENTS(X)                                                                                                  \
    X(                                                                                                                 \
        branches, if (t < 3) return 1; else if (t < 9) {                                                               \
            if (t & 1)                                                                                                 \
                return x[t];                                                                                           \
        } else t += 5;                                                                                                 \
        return t;)                                                                                                     \
    X(sum, int s = 0; for (int i = 0; i < t; i++) s += x[i] * i; return s;)                                            \
    X(                                                                                                                 \
        nested, int s = 0; for (int i = 0; i < t; ++i) for (int j = i; j < t; j += 3) {                                \
            if (j == 7)                                                                                                \
                continue;                                                                                              \
            if (i + j > 60)                                                                                            \
                break;                                                                                                 \
            s += x[j] - i;                                                                                             \
        } return s;)                                                                                                   \
    X(                                                                                                                 \
        collatz, int n = t + 1, steps = 0; while (n != 1) {                                                            \
            n = n % 2 ? 3 * n + 1 : n / 2;                                                                             \
            steps++;                                                                                                   \
        } return steps;)                                                                                               \
    X(                                                                                                                 \
        dowhile, int i = t, s = 1; do {                                                                                \
            s = s * 3 % 1009;                                                                                          \
            if (s == 5)                                                                                                \
                break;                                                                                                 \
        } while (i-- > 0);                                                                                             \
        return s;)                                                                                                     \
    X(                                                                                                                 \
        early, for (int i = 0;; i++) {                                                                                 \
            if (i * i > t)                                                                                             \
                return i;                                                                                              \
            if (x[i] == 12345)                                                                                         \
                return -1;                                                                                             \
        })                                                                                                             \
    X(array, int v[8]; for (int k = 0; k < 8; k++) v[k] = x[(t + k) % 96] + k; int m = v[0];                           \
      for (int k = 1; k < 8; k++) m = v[k] > m ? v[k] : m; return m - v[t & 7];)                                       \
    X(square, int v[3][4] = { { 1, 2 }, { 3 }, { 4, 5, 6, 7 } }; v[t % 3][t & 3] += t; int s = 0;                      \
      for (int i = 0; i < 3; i++) for (int j = 0; j < 4; j++) s = s * 3 + v[i][j]; return s;)                          \
    X(guarded, return t > 5 && x[t - 5] > 0 || t > 90 ? x[t - 5] : t < 95 ? x[t + 1] : 0;)                             \
    X(effects, int a = 0, b = 0; if (t > 3 && (a = t) > 10 || (b = 7) == t) a++; return a * 100 + b;)                  \
    X(increments, int i = t; int a = i++ + 2; int c = --i * 3; i += 4, i -= 1; i *= 2; i /= 3; i %= 50; i <<= 1;       \
      i ^= 5; i |= 8; i &= 127; i >>= 1; return i + a * 1000 + c;)                                                     \
    X(pointers, const int *p = x + t / 2; const int *q = &x[t]; int s = *p + p[1]; p += 3; s += *p++; s -= *--q;       \
      return p < q ? s : s + (int)(q - p);)                                                                            \
    X(                                                                                                                 \
        scopes, int s = t; {                                                                                           \
            int t = s * 2;                                                                                             \
            s += t;                                                                                                    \
            {                                                                                                          \
                const int s = 5;                                                                                       \
                t += s;                                                                                                \
            }                                                                                                          \
            s ^= t;                                                                                                    \
        } for (int s = 0; s < 0; s++);                                                                                 \
        return s;)                                                                                                     \
    X(                                                                                                                 \
        emptyloops, int n = 0; for (;;) {                                                                              \
            if (++n > t)                                                                                               \
                break;                                                                                                 \
        } while (false) n = 9;                                                                                         \
        do; while (0); return n;)                                                                                      \
    X(chosen, const int *p = t & 1 ? x : x + 8; int s = 0; for (int i = 0; i < 4; i++, p += 2) s += p[i]; return s;)   \
    X(                                                                                                                 \
        late, int r = 0; for (int i = 0; i < 5; i++) {                                                                 \
            if (t == i) {                                                                                              \
                r = 7;                                                                                                 \
                continue;                                                                                              \
            }                                                                                                          \
            if (t == i + 40)                                                                                           \
                return r + i;                                                                                          \
            r += i;                                                                                                    \
        } return r;)
#define X(name, ...)                                                                                                   \
    static int name(int t, const int *x)                                                                               \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
// clang-format off
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wparentheses"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmisleading-indentation"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wempty-body"
#pragma GCC diagnostic ignored "-Wunused-value"
#pragma GCC diagnostic ignored "-Wunused-parameter"
STATEMENTS(X)
#pragma GCC diagnostic pop
// clang-format on
#undef X
static const struct {
    const char *name, *text;
    int (*run)(int, const int *);
} statements[] = {
#define X(name, ...) { #name, #__VA_ARGS__, name },
    STATEMENTS(X)
#undef X
};

static void test_statements(void **state)
{
    (void)state;
    enum { BLOCK = 48, AROUND = 16 };
    Bed        b = bed_new();
    static int x[AROUND + THREADS + AROUND], y[THREADS];
    for (uint32_t i = 0; i < DT_COUNT(x); i++)
        x[i] = (int)(sim_draw(i) % 2001) - 1000;
    for (int32_t s = 0; s < DT_COUNT(statements); s++) {
        const char *source =
            arena_printf(&b.a,
                         "static __device__ __forceinline__ int f(int t, const int *x)\n{\n%s\n}\n" KERNEL
                         "(const int *x, int *y)\n{\n    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                         "    y[i] = f(i, x + 16);\n}\n",
                         statements[s].text);
        SimArg args[] = { SIM_IN(x), SIM_OUT(y) };
        bed_run(&b, source, THREADS / BLOCK, BLOCK, args, 2);
        for (int t = 0; t < THREADS; t++) {
            int want = statements[s].run(t, x + AROUND);
            if (y[t] != want)
                fail_msg("%s(%d): %d, not %d\n%s", statements[s].name, t, y[t], want, statements[s].text);
        }
    }
    bed_free(&b);
}

/* ---- Conversions ---- */

static void test_conversions(void **state)
{
    (void)state;
    static const struct {
        float    x;
        int32_t  i, i_rn;
        uint32_t u;
        int64_t  l;
    } rows[] = {
        { 0.0f, 0, 0, 0, 0 },
        { -0.9f, 0, -1, 0, 0 },
        { 2.5f, 2, 2, 2, 2 },
        { 3.5f, 3, 4, 3, 3 },
        { -2.5f, -2, -2, 0, -2 },
        { 2147483520.0f, 2147483520, 2147483520, 2147483520u, 2147483520 },
        { 2147483648.0f, INT32_MAX, INT32_MAX, 2147483648u, 2147483648 },
        { -2147483648.0f, INT32_MIN, INT32_MIN, 0, -2147483648LL },
        { -3e9f, INT32_MIN, INT32_MIN, 0, -3000000000LL },
        { 4294967040.0f, INT32_MAX, INT32_MAX, 4294967040u, 4294967040 },
        { 4294967296.0f, INT32_MAX, INT32_MAX, UINT32_MAX, 4294967296 },
        { INFINITY, INT32_MAX, INT32_MAX, UINT32_MAX, INT64_MAX },
        { -INFINITY, INT32_MIN, INT32_MIN, 0, INT64_MIN },
        { NAN, 0, 0, 0, 0 },
        { 1e19f, INT32_MAX, INT32_MAX, UINT32_MAX, INT64_MAX },
    };
    enum { N = DT_COUNT(rows) };
    /* clang-format off */
    static const char source[] = SOURCE(
extern "C" __global__ void __launch_bounds__(1024) k(const float *x, int *i, int *rn, unsigned *u, long long *l, float *back)
{
    const int t = threadIdx.x;
    const float v = x[t];
    i[t] = __float2int_rz(v);
    i[t] = (int)v == i[t] ? i[t] : 99;
    rn[t] = __float2int_rn(v);
    u[t] = (unsigned)v;
    u[t] = __float2uint_rz(v) == u[t] ? u[t] : 99u;
    l[t] = (long long)v;
    back[t] = __int2float_rn(i[t]) + (float)u[t] + __uint2float_rn(u[t]);
    if (__float_as_uint(v) != (unsigned)__float_as_int(v)) i[t] = 98;
    const float same = __uint_as_float(__float_as_uint(v));
    if (__float_as_int(__int_as_float(__float_as_int(same))) != __float_as_int(v)) i[t] = 97;
}
);
    /* clang-format on */
    Bed      b = bed_new();
    float    x[N], back[N];
    int32_t  i[N], rn[N];
    uint32_t u[N];
    int64_t *l = bed_memory(&b, N * 8);
    for (int32_t t = 0; t < N; t++)
        x[t] = rows[t].x;
    SimArg args[] = { SIM_IN(x), SIM_OUT(i), SIM_OUT(rn), SIM_OUT(u), { l, N * 8, true }, SIM_OUT(back) };
    bed_run(&b, source, 1, N, args, 6);
    for (int32_t t = 0; t < N; t++) {
        if (i[t] != rows[t].i || rn[t] != rows[t].i_rn || u[t] != rows[t].u || l[t] != rows[t].l)
            fail_msg("%a: %d %d %u %lld", x[t], i[t], rn[t], u[t], (long long)l[t]);
        assert_true(same_float(back[t], (float)i[t] + (float)u[t] + (float)u[t]));
    }
    bed_free(&b);
}

/* ---- Functions that CUDA provides ---- */

static void test_functions(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
extern "C" __global__ void __launch_bounds__(1024) k(const unsigned *x, unsigned *y)
{
    const unsigned a = x[0], b = x[1];
    y[0] = __umulhi(a, b);
    y[1] = __mulhi((int)a, (int)b);
    y[2] = min(a, b);
    y[3] = max((int)a, (int)b);
    y[4] = abs((int)a);
    y[5] = __popc(a);
    y[6] = __clz((int)b);
    y[7] = __ffs((int)b);
    y[8] = __brev(b);
    y[9] = __byte_perm(a, b, 0x4A61);
    y[10] = __dp4a((int)a, (int)b, 5);
    y[11] = (unsigned)(__umul64hi((unsigned long long)a << 32 | b, 0xFEDCBA9876543210ull) >> 32);
    y[12] = __float_as_uint(fminf(-0.0f, 0.0f));
    y[13] = __float_as_uint(fmaxf(__uint_as_float(a), 2.0f));
    y[14] = a << (b >> 24);
    y[15] = (unsigned)((int)a >> (b >> 24));
    y[16] = __float_as_uint(__fdiv_rn(__fadd_rn(1.0f, 2.0f), __fsub_rn(__fmul_rn(4.0f, 5.0f), 13.0f)));
    y[17] = __float_as_uint(__fsqrt_rn(__fmaf_rn(2.0f, 3.0f, 4.0f)));
    y[18] = min((long long)(int)a, (long long)(int)b) == (int)a;
    y[19] = abs(-7) + min(3, 4) + max(3, 4);
    y[20] = __dp4a(a, b, 5u);
}
);
    /* clang-format on */
    uint32_t                x[2] = { 0xFFC01234u, 0x21D80F40u }, y[21];
    uint64_t                wide = (uint64_t)x[0] << 32 | x[1];
    const unsigned __int128 product = (unsigned __int128)wide * 0xFEDCBA9876543210u;
    float                   quotient = 3.0f / 7.0f, root = sqrtf(10.0f);
    uint32_t                q, r;
    memcpy(&q, &quotient, 4);
    memcpy(&r, &root, 4);
    int32_t  dot = 5;
    uint32_t unsigned_dot = 5;
    for (int32_t k = 0; k < 32; k += 8) {
        dot += (int8_t)(x[0] >> k) * (int8_t)(x[1] >> k);
        unsigned_dot += (x[0] >> k & 255) * (x[1] >> k & 255);
    }
    const uint32_t want[] = { (uint32_t)((uint64_t)x[0] * x[1] >> 32),
                              (uint32_t)((uint64_t)((int64_t)(int32_t)x[0] * (int32_t)x[1]) >> 32),
                              0x21D80F40u,
                              0x21D80F40u,
                              0x003FEDCCu,
                              (uint32_t)__builtin_popcount(x[0]),
                              2,
                              7,
                              0x02F01B84u,
                              0x40FFD812u,
                              (uint32_t)dot,
                              (uint32_t)(product >> 96),
                              0x80000000u,
                              0x40000000u, /* a is a NaN */
                              0,
                              UINT32_MAX,
                              q,
                              r,
                              1,
                              14,
                              unsigned_dot };
    Bed            b = bed_new();
    SimArg         args[] = { SIM_IN(x), SIM_OUT(y) };
    bed_run(&b, source, 1, 1, args, 2);
    for (int32_t i = 0; i < DT_COUNT(want); i++)
        if (y[i] != want[i])
            fail_msg("y[%d]: %08x, not %08x", i, y[i], want[i]);
    bed_free(&b);
}

static void test_philox(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
static __device__ __forceinline__ void philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3,
                                              unsigned k0, unsigned k1, unsigned *out)
{
    for (int round = 0; round < 10; ++round) {
        const unsigned hi0 = __umulhi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        const unsigned hi1 = __umulhi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    *(out + 3) = c3;
}
extern "C" __global__ void __launch_bounds__(1024) k(uint4 *y)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned w[4];
    philox(i, 2u, 3u * i, 4u, 0xDEADBEEFu, i, w);
    y[i] = make_uint4(w[0], w[1], w[2], w[3]);
}
);
    /* clang-format on */
    enum { N = 320 };
    Bed       b = bed_new();
    uint32_t *y = bed_memory(&b, N * 16);
    SimArg    args[] = { { y, N * 16, true } };
    bed_run(&b, source, N / 64, 64, args, 1);
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t ctr[4] = { i, 2, 3 * i, 4 }, key[2] = { 0xDEADBEEFu, i };
        uint32_t       want[4];
        philox4x32_10(ctr, key, want);
        assert_memory_equal(y + 4 * i, want, 16);
    }
    bed_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsigned),  cmocka_unit_test(test_int),        cmocka_unit_test(test_float),
        cmocka_unit_test(test_constants), cmocka_unit_test(test_statements), cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_functions), cmocka_unit_test(test_philox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
