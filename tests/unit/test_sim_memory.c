/* test_sim_memory.c: the simulator's memory, vectors, shuffles, barriers, blocks and atomics, against the same in C. */
#include "tests/unit/sim_fixture.h"

enum { THREADS = 96 }; /* three warps */

/* ---- Memory ---- */

static void test_vectors(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
static __device__ __forceinline__ float4 twice(const float4 v)
{
    return make_float4(2.0f * v.x, 2.0f * v.y, 2.0f * v.z, 2.0f * v.w);
}
extern "C" __global__ void k(const float *__restrict__ x, const unsigned char *__restrict__ q, float *y, unsigned char *u,
                             int *n)
{
    const int i = threadIdx.x;
    float4 v = twice(*(const float4 *)(x + 4 * i));
    v.z += v.x;
    v.w = i > 1 ? v.y : 0.5f;
    ((float4 *)y)[i] = v;
    const unsigned packed = ((const unsigned *)q)[i];
    const uchar4 c = *(const uchar4 *)&q[4 * i];
    uchar4 d = make_uchar4(c.w, c.z, (unsigned char)(packed >> 8), c.x + 250);
    ((uchar4 *)u)[i] = d;
    char4 s = ((const char4 *)q)[i];
    int2 p = make_int2(s.x + s.y, 0);
    p.y = s.z * s.w;
    *(int2 *)(n + 2 * i) = p;
    float2 f = { 1.0f, 2.0f }, g;
    g = f;
    g.y *= 3.0f;
    y[16 + i] = g.x + g.y;
    __stcg(&u[16 + i], (unsigned char)(__ldg(q + i) + 1));
    __stcs((float4 *)(y + 20) + i, __ldcs((const float4 *)x + (3 - i)));
}
);
    /* clang-format on */
    Bed      b = bed_new();
    float   *x = bed_memory(&b, 64), *y = bed_memory(&b, 144);
    uint8_t *q = bed_memory(&b, 16), *u = bed_memory(&b, 20);
    int32_t *n = bed_memory(&b, 32);
    for (int32_t i = 0; i < 16; i++) {
        x[i] = (float)i + 0.25f;
        q[i] = (uint8_t)(i * 37 + 5);
    }
    SimArg args[] = { { x, 64, false }, { q, 16, false }, { y, 144, true }, { u, 20, true }, { n, 32, true } };
    bed_run(&b, source, 1, 4, args, 5);
    for (int32_t i = 0; i < 4; i++) {
        const float   *v = x + 4 * i, *w = y + 4 * i;
        const uint8_t *c = q + 4 * i, *d = u + 4 * i;
        const int8_t  *s = (const int8_t *)c;
        assert_true(w[0] == 2 * v[0] && w[1] == 2 * v[1] && w[2] == 2 * v[2] + 2 * v[0]);
        assert_true(w[3] == (i > 1 ? 2 * v[1] : 0.5f) && y[16 + i] == 7.0f);
        assert_true(d[0] == c[3] && d[1] == c[2] && d[2] == c[1] && d[3] == (uint8_t)(c[0] + 250));
        assert_true(n[2 * i] == s[0] + s[1] && n[2 * i + 1] == s[2] * s[3] && u[16 + i] == (uint8_t)(q[i] + 1));
        assert_memory_equal(y + 20 + 4 * i, x + 4 * (3 - i), 16);
    }
    bed_free(&b);
}

static void test_memory(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
static __device__ const int table[2][3] = { { 1, -2, 3 }, { 4, 5 } };
__constant__ float half = 0.5f;
__constant__ signed char small[] = { -1, 2, -3 };
static __device__ const uint2 pairs[2] = { { 1u, 2u }, { 3u, 4u } };
static __device__ void put(signed char *to, int n, short *s, short was)
{
    to[n & 3] = (signed char)(n * 50);
    s[0] = (short)(n * 9000);
    s[0] += was; /* what it was when the call began */
}
extern "C" __global__ void __launch_bounds__(1024) k(const short *h, float *y, bool *is, long long *l)
{
    const int i = threadIdx.x;
    signed char c[4] = { 1, 2 };
    short s = 3;
    put(c, i, &s, s);
    long long big[2];
    big[i & 1] = 1ll << (i + 30);
    big[(i & 1) ^ 1] = -5;
    l[i] = big[0] + big[1];
    const float weights[3] = { 0.25f, 0.5f, 4.0f };
    bool odd = i & 1;
    is[i] = odd == (h[i] < 0);
    const uint2 pair = pairs[i & 1];
    y[i] = table[i & 1][i % 3] + half * c[i & 3] + small[i % 3] * weights[i % 3] + s + (int)(pair.x * pair.y);
}
);
    /* clang-format on */
    static const int8_t  small[] = { -1, 2, -3 };
    static const int32_t table[2][3] = { { 1, -2, 3 }, { 4, 5 } };
    static const float   weights[] = { 0.25f, 0.5f, 4.0f };
    enum { N = 8 };
    Bed     b = bed_new();
    int16_t h[N] = { 5, -5, -1, 7, 0, -32768, 32767, -2 };
    float   y[N];
    bool    is[N];
    int64_t l[N];
    SimArg  args[] = { SIM_IN(h), SIM_OUT(y), SIM_OUT(is), SIM_OUT(l) };
    bed_run(&b, source, 1, N, args, 4);
    for (int32_t i = 0; i < N; i++) {
        float pair = i & 1 ? 12.0f : 2.0f, want = (float)table[i & 1][i % 3] + 0.5f * (float)(int8_t)(i * 50);
        want = want + (float)small[i % 3] * weights[i % 3] + (float)(int16_t)((int16_t)(i * 9000) + 3) + pair;
        assert_true(y[i] == want);
        assert_int_equal(is[i], (i & 1) == (h[i] < 0));
        assert_int_equal(l[i], (INT64_C(1) << (i + 30)) - 5);
    }
    bed_free(&b);
}

/* ---- Threads together ---- */

static void test_warps(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
extern "C" __global__ void __launch_bounds__(1024) k(const float *x, float *sum, unsigned *y, long long *l)
{
    const unsigned i = threadIdx.x, lane = i & 31u;
    float v = x[i];
    for (int d = 16; d > 0; d >>= 1)
        v += __shfl_down_sync(0xffffffffu, v, d);
    if (lane == 0)
        sum[i / 32] = v;
    y[i] = __shfl_sync(0xffffffffu, i, 5);
    y[96 + i] = __shfl_xor_sync(0xffffffffu, i, 3);
    y[192 + i] = __ballot_sync(0xffffffffu, x[i] > 0.0f);
    y[288 + i] = __shfl_up_sync(0xffffffffu, i, 2u, 8);
    y[384 + i] = __any_sync(0xffffffffu, lane == i) + 2u * __all_sync(0xffffffffu, lane == i);
    y[480 + i] = 0u;
    if (lane < 8u)
        y[480 + i] = __shfl_sync(0xffu, i, lane + 1, 8);
    l[i] = __shfl_xor_sync(0xffffffffu, (long long)i << 33, 1);
}
);
    /* clang-format on */
    Bed      b = bed_new();
    float    x[THREADS], sum[3];
    uint32_t y[6 * THREADS];
    int64_t  l[THREADS];
    for (uint32_t i = 0; i < THREADS; i++)
        x[i] = (float)(int32_t)sim_draw(i) * 0x1p-31f;
    SimArg args[] = { SIM_IN(x), SIM_OUT(sum), SIM_OUT(y), SIM_OUT(l) };
    bed_run(&b, source, 1, THREADS, args, 4);
    for (uint32_t w = 0; w < 3; w++) {
        float    v[32];
        uint32_t positive = 0;
        memcpy(v, x + 32 * w, sizeof v);
        for (uint32_t k = 0; k < 32; k++)
            positive |= (uint32_t)(v[k] > 0.0f) << k;
        for (int32_t d = 16; d > 0; d >>= 1)
            for (int32_t k = 0; k + d < 32; k++)
                v[k] += v[k + d];
        assert_true(sum[w] == v[0]);
        for (uint32_t k = 0; k < 32; k++) {
            uint32_t i = 32 * w + k;
            assert_int_equal(y[i], 32 * w + 5);
            assert_int_equal(y[96 + i], i ^ 3);
            assert_int_equal(y[192 + i], positive);
            assert_int_equal(y[288 + i], k % 8 < 2 ? i : i - 2);
            assert_int_equal(y[384 + i], w == 0 ? 3 : 0);
            assert_int_equal(y[480 + i], k < 8 ? 32 * w + (k + 1) % 8 : 0);
            assert_int_equal(l[i], (int64_t)(i ^ 1) << 33);
        }
    }
    bed_free(&b);
}

/* Sums of blocks through shared memory; the block that is last, by the ticket, adds them in order. */
/* clang-format off */
static const char reduction[] = SOURCE(
static __device__ float block_sum(float v)
{
    __shared__ __align__(16) float s[128];
    s[threadIdx.x] = v;
    __syncthreads();
    for (int d = 64; d >= 32; d /= 2) {
        if (threadIdx.x < d)
            s[threadIdx.x] += s[threadIdx.x + d];
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        for (int d = 16; d; d >>= 1) {
            const float other = s[threadIdx.x + d];
            __syncwarp();
            s[threadIdx.x] += other;
            __syncwarp();
        }
    }
    __syncthreads();
    return s[0];
}
extern "C" __global__ void __launch_bounds__(1024) k(const float *__restrict__ x, float *y, float *scratch, unsigned *tickets, float *state)
{
    __shared__ bool last;
    const float total = block_sum(x[blockIdx.x * 128 + threadIdx.x] * state[0]);
    if (threadIdx.x == 0) {
        scratch[blockIdx.x] = total;
        __threadfence();
        last = atomicAdd(tickets, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last)
        return;
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i < gridDim.x; i++)
            sum += __ldcg(&scratch[i]);
        y[0] = sum;
        tickets[0] = 0u;
        state[0] = sum * 0.5f;
    }
}
);
/* clang-format on */

static void test_blocks(void **state)
{
    (void)state;
    enum { GRID = 37, BLOCK = 128 };
    Bed        b = bed_new();
    SimModule *m = bed_read(&b, reduction);
    float     *x = bed_memory(&b, GRID * BLOCK * 4), want = 0;
    for (uint32_t i = 0; i < GRID * BLOCK; i++)
        x[i] = (float)(int32_t)sim_draw(i) * 0x1p-31f;
    for (int32_t g = 0; g < GRID; g++) {
        float v[BLOCK];
        memcpy(v, x + g * BLOCK, sizeof v);
        for (int32_t d = BLOCK / 2; d; d /= 2)
            for (int32_t i = 0; i < d; i++)
                v[i] += v[i + d];
        want += v[0];
    }
    for (uint64_t seed = 0; seed < 5; seed++) { /* whatever the order of blocks */
        float    y = 0, scratch[GRID], factor[1] = { 1.0f };
        uint32_t tickets[1] = { 0 };
        SimArg   args[] = {
            { x, GRID * BLOCK * 4, false }, { &y, 4, true }, SIM_OUT(scratch), SIM_OUT(tickets), SIM_OUT(factor)
        };
        if (!bed_launch(&b, m, GRID, BLOCK, args, 5, seed))
            fail_msg("%s", bed_said(&b));
        assert_true(y == want && tickets[0] == 0 && factor[0] == 0.5f * want);
    }
    bed_free(&b);
}

static void test_atomics(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
extern "C" __global__ void __launch_bounds__(1024) k(int *n, unsigned *u, int *old)
{
    __shared__ int s[2];
    const int i = threadIdx.x;
    if (i < 2) s[i] = 0;
    __syncthreads();
    atomicAdd(&s[i & 1], i);
    atomicAdd(n, i % 3 - 1);
    atomicMin(n + 1, i);
    atomicMax(n + 2, i);
    atomicSub(n + 3, 2);
    atomicOr(u, 1u << (i & 7));
    atomicXor(u + 1, 1u << (i & 3));
    atomicAnd(u + 2, ~(1u << (i & 3)));
    atomicInc(u + 3, 9u);
    if (i == 7 && blockIdx.x == 1) old[0] = atomicExch(n + 4, 17);
    __syncthreads();
    if (i < 2) atomicAdd(n + 5 + i, s[i]);
}
);
    /* clang-format on */
    Bed      b = bed_new();
    int32_t  n[7] = { 0, 1000, -1, 500, 3, 0, 0 }, old[1];
    uint32_t u[4] = { 256, 0, UINT32_MAX, 0 };
    SimArg   args[] = { SIM_OUT(n), SIM_OUT(u), SIM_OUT(old) };
    bed_run(&b, source, 3, 50, args, 3);
    const int32_t  want[7] = { -3, 0, 49, 200, 17, 3 * 600, 3 * 625 };
    const uint32_t bits[4] = { 511, 3, ~15u, 0 };
    assert_memory_equal(n, want, sizeof want);
    assert_int_equal(old[0], 3);
    assert_int_equal(u[0], bits[0]);
    assert_int_equal(u[1], bits[1]);
    assert_int_equal(u[2], bits[2]);
    assert_int_equal(u[3], bits[3]);
    bed_free(&b);
}

/* Every size of block, grids of one block and of many. */
static void test_launches(void **state)
{
    (void)state;
    /* clang-format off */
    static const char source[] = SOURCE(
extern "C" __global__ void __launch_bounds__(1024) k(unsigned *y)
{
    unsigned *p = y + blockIdx.x * blockDim.x;
    p += threadIdx.x;
    *p = gridDim.x * 1000000u + blockIdx.x * 2000u + threadIdx.x;
}
);
    /* clang-format on */
    static const int32_t sizes[] = { 1, 2, 31, 32, 33, 63, 100, 256, 1000, 1024 };
    Bed                  b = bed_new();
    SimModule           *m = bed_read(&b, source);
    assert_int_equal(sim_params(m, 0), 1);
    assert_int_equal(sim_find(m, "k"), 0);
    assert_int_equal(sim_find(m, "none"), -1);
    for (int32_t s = 0; s < DT_COUNT(sizes); s++)
        for (uint32_t grid = 1; grid < 8; grid += 3) {
            uint32_t n = grid * (uint32_t)sizes[s], *y = bed_memory(&b, n * 4);
            SimArg   args[] = { { y, n * 4, true } };
            assert_true(bed_launch(&b, m, grid, sizes[s], args, 1, grid));
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(y[i], grid * 1000000u + i / (uint32_t)sizes[s] * 2000u + i % (uint32_t)sizes[s]);
        }
    bed_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_memory),  cmocka_unit_test(test_warps),
        cmocka_unit_test(test_blocks),  cmocka_unit_test(test_atomics), cmocka_unit_test(test_launches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
