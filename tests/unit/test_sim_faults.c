/* test_sim_faults.c: mistakes that the simulator must find: each is planted, must be reported with its line, block and
 * thread, and must leave memory as it was; and what looks like a mistake and is none. Then mistakes in the text, and
 * texts that are none: cut off anywhere, changed at random. */
#include "tests/unit/sim_fixture.h"

enum { X = 256, Y = 512, N = 64, TICKETS = 4 };

/* ---- Running kernels --------------------------------------------------------------------------------------------- */

typedef struct Row {
    int32_t     grid, block;
    const char *body; /* of a kernel: its first line is line 3 */
    int32_t     line; /* of the mistake; 0: there is none */
    const char *says; /* pieces with | between */
} Row;

typedef struct Data {
    float    x[X], y[Y];
    int32_t  n[N];
    uint32_t tickets[TICKETS];
    uint8_t  bytes[X];
} Data;

static const char *row_source(Bed *b, const char *body)
{
    return arena_printf(&b->a,
                        "static __device__ const float table[3] = { 1.0f, 2.0f, 3.0f };\n" KERNEL
                        "(const float *x, float *y, int *n, unsigned *tickets, unsigned char *bytes) { const int t = "
                        "threadIdx.x, b = blockIdx.x;\n%s\n}\n",
                        body);
}

static bool row_run(Bed *b, const Row *row, Data *data, uint64_t seed)
{
    SimModule *m = bed_read(b, row_source(b, row->body));
    SimArg     args[] = { { data->x, sizeof data->x, false },
                          { data->y, sizeof data->y, true },
                          { data->n, sizeof data->n, true },
                          { data->tickets, sizeof data->tickets, true },
                          { data->bytes, sizeof data->bytes, true } };
    return bed_launch(b, m, row->grid, row->block, args, DT_COUNT(args), seed);
}

static void data_fill(Data *d)
{
    memset(d, 0, sizeof *d);
    for (int32_t i = 0; i < X; i++) {
        d->x[i] = (float)i;
        d->y[i] = (float)-i;
        d->bytes[i] = (uint8_t)i;
    }
    for (int32_t i = 0; i < N; i++)
        d->n[i] = i;
}

static void expect_pieces(Bed *b, const char *pieces, const char *source)
{
    for (const char *at = pieces; *at;) {
        size_t      len = strcspn(at, "|");
        const char *piece = arena_strndup(&b->a, at, len);
        if (!strstr(bed_said(b), piece))
            fail_msg("'%s' is missing in:\n%s\n%s", piece, bed_said(b), source);
        at += len + (at[len] == '|');
    }
}

static void expect_fault(const Row *row)
{
    static _Alignas(16) Data data, before;
    data_fill(&data);
    before = data;
    Bed b = bed_new();
    if (row_run(&b, row, &data, 0))
        fail_msg("nothing was found:\n%s", row->body);
    assert_int_equal(b.d.errors, 1);
    expect_pieces(&b, arena_printf(&b.a, "CUDA text:%d: error: kernel 'k'|%s", row->line, row->says), row->body);
    assert_memory_equal(&data, &before, sizeof data);
    bed_free(&b);
}

static void expect_none(const Row *row)
{
    static _Alignas(16) Data data, first;
    for (uint64_t seed = 0; seed < 3; seed++) {
        Bed b = bed_new();
        data_fill(&data);
        if (!row_run(&b, row, &data, seed))
            fail_msg("%s\n%s", bed_said(&b), row->body);
        if (seed == 0)
            first = data;
        assert_memory_equal(&data, &first, sizeof data);
        bed_free(&b);
    }
}

// clang-format off
#define SUM_OF_BLOCKS "__threadfence(); __shared__ int last; __syncthreads(); if (t == 0) last = atomicAdd(tickets, 1u) == gridDim.x - 1; __syncthreads();\n"
static const Row bounds[] = {
    { 1, 64, "y[t] = 1.0f;\ny[t] = x[t + 193];", 4,
      "block 0, thread 63: it reads out of bounds: 4 bytes at byte 1024 of 'x', which has 1024|note: y[t] = x[t + 193];" },
    { 3, 64, "y[b * 64 + t] = x[b * 64 + t - 65];", 3, "block 0, thread 0: it reads out of bounds: 4 bytes at byte -260 of 'x'" },
    { 6, 64, "const float v = x[t];\ny[(unsigned)b * 100u + t + 20] = 5.0f;", 4,
      "block 5, thread 0: it writes out of bounds: 4 bytes at byte 2080 of 'y', which has 2048" },
    { 1, 64, "y[t] = x[t];\nif (t == 40) y[t - 1000000000] = 1.0f;", 4, "thread 40: it writes out of bounds: 4 bytes at byte -3999999840" },
    { 1, 64, "y[t] = x[2000000000u + t];", 3, "thread 0: it reads out of bounds: 4 bytes at byte 8000000000" },
    { 1, 64, "*(float4 *)(y + 4 * t) = *(const float4 *)(x + 4 * t + 1);", 3, "thread 0: misaligned: it reads 16 bytes at byte 4 of 'x'" },
    { 1, 64, "*(float4 *)(y + 4 * t) = *(const float4 *)(x + 4 * t + 4);", 3, "thread 63: it reads out of bounds: 16 bytes at byte 1024 of 'x'" },
    { 1, 32, "n[t] = ((int *)bytes)[t];\nn[t] = *(int *)(bytes + t);", 4, "thread 1: misaligned: it reads 4 bytes at byte 1 of 'bytes'" },
    { 1, 32, "__shared__ float s[128]; s[t] = x[t]; s[t + 32] = 0.0f; s[t + 64] = 0.0f; s[t + 96] = 1.0f; __syncthreads();\n"
             "float4 v = *(float4 *)(s + 4 * t); y[t] = v.x;", 4, "misaligned: it reads 16 bytes at byte 0 of 's', which is aligned to 4 only" },
    { 1, 64, "y[t] = 2.0f;\n((float *)x)[t] = 1.0f;", 4, "thread 0: it writes to 'x', which is const" },
    { 1, 64, "__shared__ int s[64];\ns[t + 1] = t;", 4, "thread 63: it writes out of bounds: 4 bytes at byte 256 of 's', which has 256" },
    { 1, 64, "int v[4] = { 1, 2, 3, 4 };\nn[t] = v[t & 7];", 4, "thread 4: index out of local array: 4 bytes at byte 16 of 'v', which has 16" },
    { 1, 64, "int v[4] = { 1, 2, 3, 4 };\nv[t - 3] = 1; n[t] = v[0];", 4, "thread 0: index out of local array: 4 bytes at byte -12 of 'v'" },
    { 1, 64, "y[t] = table[t & 3];", 3, "thread 3: it reads out of bounds: 4 bytes at byte 12 of 'table', which has 12" },
    { 1, 64, "const float *p = t < 60 ? x + t : y;\ny[t + 64] = p[0];\nif (t == 61) p = x + 300;\ny[t] = *p;", 6,
      "thread 61: it reads out of bounds: 4 bytes at byte 1200 of 'x'" },
    { 1, 64, "float *p = t ? y : (float *)table;\np[t] = 0.0f;", 4, "thread 0: it writes to 'table', which is const" },
};
static const Row values[] = {
    { 1, 64, "float v;\nif (t > 5) v = 1.0f;\ny[t] = v;", 5, "thread 0: a variable is read that was never given a value" },
    { 1, 64, "int v[3]; v[0] = 1; v[t & 1] = 5;\nn[t] = v[0] + v[1];", 4, "thread 0: a variable is read that was never given a value" },
    { 1, 64, "int v[3]; for (int i = 0; i < 2; i++) v[i] = i;\nfor (int i = 0; i < 3; i++)\n n[t] = v[i];", 5, "thread 0: a variable is read" },
    { 1, 64, "int v[64]; v[t] = 3; v[1] = 4;\nn[t] = v[t / 2 * 2];", 4, "thread 1: it reads 'v[0]', which was never given a value" },
    { 1, 64, "float4 v; v.x = 1.0f;\ny[t] = v.x;\ny[t] = v.y;", 5, "a variable is read that was never given a value" },
    { 1, 64, "n[t] = 100 / (t - 40);", 3, "thread 40: division by zero" },
    { 1, 64, "n[t] = (int)(100ll % (t - 41ll));", 3, "thread 41: division by zero" },
    { 1, 64, "n[t] = (int)(100u % (unsigned)(t ^ 42));", 3, "thread 42: division by zero" },
    { 1, 64, "n[t] = 1;\nfor (int i = t; i != 1; i += 2) ;", 4, "thread 0: a loop that does not end" },
};
static const Row threads[] = {
    { 1, 64, "__shared__ float s[64];\ns[t] = x[t];\ny[t] = s[t ^ 1];", 5,
      "thread 0: race: it reads 's[1]', which thread 1 wrote|__syncthreads" },
    { 1, 64, "__shared__ float s[64];\ns[t] = x[t];\n__syncwarp();\ny[t] = s[63 - t];", 6, "thread 0: race: it reads 's[63]', which thread 63 wrote" },
    { 1, 64, "__shared__ float s[64]; s[t] = 1.0f; __syncthreads();\nfloat v = s[t ^ 8];\ns[t] = v + 1.0f;", 5,
      "thread 0: race: it writes 's[0]', which thread 8 read" },
    { 1, 64, "__shared__ int s[64]; s[t] = 1; __syncthreads();\nint v = s[5] + s[7];\ns[t] = v;", 5, "thread 5: race: it writes 's[5]', which other threads read" },
    { 1, 64, "__shared__ int s[8];\ns[t & 7] = t;\n__syncthreads(); n[t] = s[0];", 4, "thread 8: race: it writes 's[0]', which thread 0 wrote" },
    { 1, 64, "__shared__ int s[64];\nif (t < 63) s[t] = t;\n__syncthreads();\nn[t] = s[t];", 6, "thread 63: it reads 's[63]', which nobody has written in this block" },
    { 2, 64, "__shared__ int s;\nif (b == 0) s = 3;\n__syncthreads();\ny[t] = s;", 6, "block 1, thread 0: it reads 's', which nobody has written" },
    { 1, 64, "__shared__ int s[1];\natomicAdd(s, 1);", 4, "it adds to 's', which nobody has written" },
    { 1, 64, "n[t] = t;\nn[t ^ 3] += 1;", 4, "thread 0: race: it reads 'n[3]', which thread 3 wrote" },
    { 1, 64, "n[0] = t;", 3, "thread 1: race: it writes 'n[0]', which thread 0 wrote" },
    { 1, 64, "if (t < 32)\n__syncthreads();", 4, "thread 0: divergent __syncthreads: thread 32 does not get here" },
    { 1, 64, "y[t] = 0.0f; if (t == 7) return;\n__syncthreads();", 4, "thread 0: divergent __syncthreads: thread 7 has returned" },
    { 1, 64, "for (int i = 0; i < t; i++)\n__syncthreads();", 4, "thread 1: divergent __syncthreads: thread 0 does not get here" },
    { 1, 64, "if (t < 40)\nn[t] = __shfl_down_sync(0xffffffffu, t, 1);", 4,
      "thread 32: wrong lane: the mask 0xffffffff names lane 8 (thread 40), which does not get here" },
    { 1, 40, "n[t] = __shfl_xor_sync(0xffffffffu, t, 1);", 3, "thread 32: wrong lane: the mask 0xffffffff names lane 8 (thread 40), which is not in the block" },
    { 1, 64, "if (t == 3) return;\nn[t] = __ballot_sync(0xffffffffu, t > 5);", 4, "names lane 3 (thread 3), which has returned" },
    { 1, 64, "if (t < 8)\nn[t] = __shfl_sync(0xffu, t, t + 1);", 4, "thread 7: wrong lane: it reads from lane 8 (thread 8), which does not get here" },
    { 1, 64, "if (t < 8)\nn[t] = __shfl_sync(0xfeu, t, 1);", 4, "thread 0: wrong lane: the mask 0x000000fe does not name this thread's own lane 0" },
    { 1, 64, "if (t < 8)\n__syncwarp();", 4, "thread 0: wrong lane: the mask 0xffffffff names lane 8" },
};
static const Row blocks[] = {
    { 3, 64, "y[t] = x[t];", 3, "block 1, thread 0: race: it writes 'y[0]', which thread 0 of block 0 wrote in this launch" },
    { 3, 64, "y[b * 64 + t] = x[t];\nif (b == 2) y[b * 64 + t] = y[64 + t];", 4, "block 2, thread 0: race: it reads 'y[64]', which thread 0 of block 1 wrote" },
    { 3, 64, "float v = y[t];\nif (b == 1) y[t] = v;", 4, "block 1, thread 0: race: it writes 'y[0]', which thread 0 of block 0 read in this launch" },
    { 3, 64, "bytes[t * 3 + b] = 1;\nif (t == 9 && b == 2) bytes[4] = 2;", 4, "block 2, thread 9: race: it writes 'bytes[4]', which thread 1 of block 1 wrote" },
    { 3, 64, "int v = n[0] + n[1];\nif (b == 2 && t == 0) n[0] = v;", 4, "block 2, thread 0: race: it writes 'n[0]', which other threads read" },
    { 3, 32, "atomicAdd(n, 1);\nif (t == 0) y[b] = n[0];", 3, "block 1, thread 0: race: it does an atomic on 'n[0]', which thread 0 of block 0 read" },
    { 3, 32, "if (b < 2) atomicAdd(n, 1);\nif (b == 2 && t == 0) y[b] = n[0];", 4, "block 2, thread 0: race: it reads 'n[0]', on which atomics were done" },
    /* no fence; fence before the write; by another thread than the writer */
    { 4, 64, "if (t == 0) y[b] = x[b];\n__syncthreads(); __shared__ int last; if (t == 0) last = atomicAdd(tickets, 1u) == 3u; __syncthreads();\n"
             "if (last && t < 4)\nn[t] = (int)y[t];", 6, "block 3, thread 0: race: it reads 'y[0]', which thread 0 of block 0 wrote" },
    { 4, 64, "__threadfence(); if (t == 0) y[b] = x[b];\nunsigned at = 0; if (t == 0) at = atomicAdd(tickets, 1u);\nif (t == 0 && at == 3u)\n n[0] = (int)y[1];", 6,
      "block 3, thread 0: race: it reads 'y[1]', which thread 0 of block 1 wrote" },
    { 4, 64, "if (t == 5) y[b] = x[b];\nif (t == 0) __threadfence();\nunsigned at = 0; if (t == 0) at = atomicAdd(tickets, 1u);\nif (t == 0 && at == 3u)\n n[0] = (int)y[1];", 7,
      "block 3, thread 0: race: it reads 'y[1]', which thread 5 of block 1 wrote" },
    /* all but one thread fence; the reader is not joined; another ticket; not everybody has come */
    { 4, 64, "y[b * 64 + t] = x[t];\nif (t != 9) __threadfence();\n__syncthreads(); __shared__ int last; if (t == 0) last = atomicAdd(tickets, 1u) == 3u; __syncthreads();\n"
             "if (last) for (int i = 0; i < 4; i++)\nn[t] += (int)y[i * 64 + t];", 7, "block 3, thread 9: race: it reads 'y[9]', which thread 9 of block 0 wrote" },
    { 4, 64, "y[b * 64 + t] = x[t];\n__threadfence(); __syncthreads(); unsigned at = 0; if (t == 0) at = atomicAdd(tickets, 1u);\n"
             "if (b == 3)\nn[t] = (int)y[t];", 6, "block 3, thread 1: race: it reads 'y[1]', which thread 1 of block 0 wrote" },
    { 4, 64, "y[b * 64 + t] = x[t];\n__threadfence(); __syncthreads(); if (t == 0) atomicAdd(tickets + b / 2, 1u);\n__syncthreads();\n"
             "if (b == 3)\nn[t] = (int)y[t + 64];", 7, "block 3, thread 0: race: it reads 'y[64]', which thread 0 of block 1 wrote" },
    { 4, 64, "y[b * 64 + t] = x[t];\n" SUM_OF_BLOCKS "if (last) n[t] = (int)y[t];\nif (b == 0) y[t + 64] = 1.0f;\nif (last && t == 0) tickets[0] = 0u;", 3,
      "block 1, thread 0: race: it writes 'y[64]', which thread 0 of block 0 wrote" },
    { 4, 64, "y[b * 64 + t] = x[t] * n[1];\n__threadfence(); __shared__ int last; __syncthreads(); if (t == 0) last = atomicAdd(tickets + b / 2, 1u) == 1u; __syncthreads();\n"
             "if (last && t == 0 && b > 1)\nn[1] += 5;", 6, "block 3, thread 0: race: it writes 'n[1]', which other threads of block 0 read" },
    { 3, 64, "if (b == 1 && t == 0) tickets[0] = 0u;\nif (t == 0) atomicAdd(tickets, 1u);", 3,
      "block 1, thread 0: race: it writes 'tickets[0]', on which atomics were done" },
};
/* What is right. */
static const Row fine[] = {
    { 2, 64, "if (b * 64 + t < 100) y[b * 64 + t] = x[b * 64 + t];\nif (b == 0) { n[t & 63] = 5; n[t] = t; }", 0, "" },
    { 1, 64, "__shared__ int s[8]; s[t & 7] = 3; __syncthreads(); n[t] = s[t & 7];", 0, "" },
    { 1, 64, "__shared__ int s[64]; s[t] = t; s[t] += 1; __syncwarp(); n[t] = s[t ^ 1]; __syncwarp(); s[t ^ 2] = 4; __syncthreads(); n[t] += s[63 - t];", 0, "" },
    { 1, 64, "n[t] = t; __syncthreads(); int v = n[63 - t]; __syncthreads(); n[t] = v * 2;", 0, "" },
    { 1, 64, "n[t] = t > 250 ? (int)x[t + 100] : t != 3 ? 7 / (t - 3) : 0;", 0, "" },
    { 1, 64, "float v; if (t & 1) v = 1.0f; if (t & 1) y[t] = v; int w[4]; w[t & 3] = t; n[t] = w[t & 3];", 0, "" },
    { 4, 64, "bytes[t * 4 + b] = (unsigned char)(t + b);", 0, "" },
    { 4, 32, "atomicAdd((unsigned *)bytes + (t & 7), 1u << 8 * b);", 0, "" },
    { 1, 64, "if (t >= 32) return; n[t] = __shfl_down_sync(0xffffffffu, t, 4);", 0, "" },
    { 1, 40, "if (t < 32) n[t] = __shfl_xor_sync(0xffffffffu, t, 1); else n[t] = __shfl_sync(0xffu, t, 0, 8);", 0, "" },
    { 1, 64, "for (int i = 0; i < 3; i++) { __syncthreads(); if (t < 5) continue; n[t] = i; }", 0, "" },
    /* tickets: all threads fence; the one behind the barrier fences; each thread for itself */
    { 4, 64, "y[b * 64 + t] = x[t];\n" SUM_OF_BLOCKS "if (last) { float v = 0.0f; for (int i = 0; i < 4; i++) v += y[i * 64 + t]; n[t] = (int)v; if (t == 0) tickets[0] = 0u; }", 0, "" },
    { 4, 64, "y[b * 64 + t] = x[t]; __syncthreads(); __shared__ int last; if (t == 0) { __threadfence(); last = atomicInc(tickets, 3u) == 3u; } __syncthreads();\n"
             "if (last) n[t] = (int)(y[t] + y[255 - t]);", 0, "" },
    { 4, 4, "y[b * 4 + t] = x[b]; __threadfence(); if (atomicAdd(tickets + t, 1u) == 3u) { float v = 0.0f; for (int i = 0; i < 4; i++) v += y[i * 4 + t]; n[t] = (int)v; tickets[t] = 0u; }", 0, "" },
    /* what all blocks read, the last one may write; what those of a group read, the last of them */
    { 4, 64, "y[b * 64 + t] = x[t] * n[b / 2];\n__threadfence(); __shared__ int last; __syncthreads(); if (t == 0) last = atomicAdd(tickets + b / 2, 1u) == 1u; __syncthreads();\n"
             "if (last && t == 0) { n[b / 2] += 5; tickets[b / 2] = 0u; }", 0, "" },
    { 4, 64, "y[b * 64 + t] = x[t] * n[0];\n" SUM_OF_BLOCKS "if (!last) return; if (t == 0) { n[0] = n[0] + 1; tickets[0] = 0u; }", 0, "" },
    { 4, 64, "if (t < 16) { y[b * 64 + t] = x[t] + n[t + 1]; __threadfence(); } __syncthreads(); __shared__ int last; if (t == 0) last = atomicAdd(tickets, 1u) == 3u; __syncthreads();\n"
             "if (!last) return; if (t < 16) n[t + 1] = (int)(y[t] + y[t + 192]); if (t == 0) tickets[0] = 0u;", 0, "" },
};
// clang-format on

static void test_bounds(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(bounds); i++)
        expect_fault(&bounds[i]);
}

static void test_values(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(values); i++)
        expect_fault(&values[i]);
}

static void test_threads(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(threads); i++)
        expect_fault(&threads[i]);
}

static void test_blocks(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(blocks); i++)
        expect_fault(&blocks[i]);
}

static void test_fine(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(fine); i++)
        expect_none(&fine[i]);
}

/* Two arguments over the same memory are watched as one. */
static void test_overlap(void **state)
{
    (void)state;
    Bed        b = bed_new();
    SimModule *m =
        bed_read(&b, KERNEL "(const float *x, float *y)\n{\n    y[threadIdx.x] = x[threadIdx.x] + 1.0f;\n}\n");
    float  at[65] = { 0 };
    SimArg same[] = { { at, 256, false }, { at, 256, true } }, moved[] = { { at + 1, 256, false }, { at, 256, true } };
    assert_true(bed_launch(&b, m, 1, 64, same, 2, 0));
    assert_true(at[63] == 1.0f);
    assert_false(bed_launch(&b, m, 1, 64, moved, 2, 0));
    assert_non_null(strstr(bed_said(&b), "CUDA text:3: error: kernel 'k': block 0, thread 0: race: it writes 'y[0]'") !=
                            NULL
                        ? "found"
                        : strstr(bed_said(&b), "race: it writes 'y[1]', which thread 0 read"));
    bed_free(&b);
}

/* A mistake says where the text comes from, if the text does. */
static void test_places(void **state)
{
    (void)state;
    Bed        b = bed_new();
    SimModule *m =
        bed_read(&b, "#line 70 \"net.c\"\n" KERNEL "(float *y)\n{\n#line 12 \"other.c\"\n\n    y[\n  1] = 0.0f;\n}\n");
    float  y[1] = { 3 };
    SimArg args[] = { { y, 4, true } };
    assert_false(bed_launch(&b, m, 1, 1, args, 1, 0));
    expect_pieces(&b, "CUDA text:7: error: kernel 'k': block 0, thread 0: it writes out of bounds|other.c:14: note",
                  "places");
    assert_true(y[0] == 3);
    assert_null(sim_module_new(&b.a, &b.d, "\n#line 5 \"net.c\"\n\nint f() { return ?; }\n"));
    expect_pieces(&b, "CUDA text:4: error: an expression is expected, not '?'|net.c:6: note", "places");
    bed_free(&b);
}

static void test_launches(void **state)
{
    (void)state;
    Bed        b = bed_new();
    SimModule *m = bed_read(&b, "extern \"C\" __global__ void __launch_bounds__(64, 2) k(float *y) { y[0] = 1.0f; }\n");
    float      y[1] = { 3 };
    SimArg     args[] = { { y, 4, true }, { y, 4, true } }, none[] = { { NULL, 4, true } };
    assert_false(bed_launch(&b, m, 1, 1, args, 2, 0));
    assert_false(bed_launch(&b, m, 0, 1, args, 1, 0));
    assert_false(bed_launch(&b, m, 1, 65, args, 1, 0));
    assert_false(bed_launch(&b, m, 1, 0, args, 1, 0));
    assert_false(bed_launch(&b, m, INT64_C(1) << 31, 1, args, 1, 0));
    assert_false(bed_launch(&b, m, 1, 1, none, 1, 0));
    SimLaunch l = { 1, 1, 1, args, 1, 0 };
    assert_false(sim_run(m, &b.d, &l));
    assert_int_equal(b.d.errors, 7);
    expect_pieces(
        &b,
        "2 arguments for 1 parameters|a grid of 0 blocks|blocks of 65 threads: 1 to 64|blocks of 0|grid of 2147483648|"
        "argument 'y' has no memory|there is no kernel 1",
        "launches");
    assert_true(y[0] == 3);
    bed_free(&b);
}

/* ---- Mistakes in the text ---------------------------------------------------------------------------------------- */

// clang-format off
static const struct {
    const char *text;
    int32_t     line;
    const char *says;
} texts[] = {
    { "int f() { return 1 }\n", 1, "';' is expected after 'return', not '}'" },
    { "int f()\n{\n    return g(1);\n}\n", 3, "there is no function 'g'" },
    { "int f()\n{\n    int a = 1;\n    return b;\n}\n", 4, "'b' is not declared" },
    { "int f(int x) { { int y = x; } return y; }", 1, "'y' is not declared" },
    { "int f(int x)\n{\n    return f(x - 1);\n}\n", 3, "there is no function 'f'" },
    { "float f(float x) { return x * 2.0; }", 1, "a constant of type double" },
    { "float f(double x) { return x; }", 1, "double is not simulated" },
    { "int f() { const int a = 1;\n a = 2; return a; }", 2, "this is const" },
    { "void f(const float *x) {\n x[0] = 1.0f; }", 2, "this is const" },
    { "void f(const float *x) {\n float *y = x; }", 2, "const float * cannot be made float *" },
    { "void f(float *x) {\n int *y = x; }", 2, "float * cannot be made int *" },
    { "int f(float x) { return x % 2.0f; }", 1, "no such operation on floats" },
    { "int f() { int a[3];\n return a[3]; }", 2, "index out of local array 'a'" },
    { "int f() { int a[3] = { 1, 2, 3,\n 4 }; return a[0]; }", 2, "more elements than the array has: 3" },
    { "int f(int n) { int a[n]; return 0; }", 1, "the length of an array: an integer constant is expected" },
    { "void f() {\n\n break; }", 3, "'break' stands in no loop" },
    { "int f() { }", 1, "the function ends without a value" },
    { "void f() { return 1; }", 1, "a void function returns no value" },
    { "int f() { return; }", 1, "a value is to be returned" },
    { "int g(int a, int b) { return a; }\nint f() { return\n g(1); }", 3, "the function takes more arguments than these 1" },
    { "int f() { return min(1); }", 1, "2 arguments are expected, not 1" },
    { "float f(float4 v) { return v.u; }", 1, "float4 has no 'u'" },
    { "float f(float4 v) { return v + 1.0f; }", 1, "no such operation on float4 and float" },
    { "float2 f() { return make_float2(1.0f); }", 1, "2 components are expected, not 1" },
    { "void f(unsigned *p) { atomicAdd((float *)p, 1.0f); }", 1, "atomics work on int and unsigned" },
    { "int f() { return threadIdx.y; }", 1, "x alone is simulated" },
    { "int x = 3;\n", 1, "at file scope stand functions and const tables" },
    { "struct s { int a; };", 1, "a type is expected, not 'struct'" },
    { "void f() { switch (1) { } }", 1, "'switch' is not simulated" },
    { "void f() { /* no end\n\n}", 1, "a comment that does not end" },
    { "void f() { int a = 1 $ 2; }", 1, "a character that does not belong" },
    { "void f() { (1 + 2; }", 1, "')' is expected after an expression, not ';'" },
    { "void f() { if (1) { }", 1, "a function with its body is expected" },
    { "#include <math.h>\n", 1, "only #line, #define NAME constant and #pragma" },
    { "#define F(x) x\n", 1, "#define: a name and a constant" },
    { "extern \"C\" __global__ void k(float x) { }", 1, "parameter 'x': kernels take pointers alone" },
    { "extern \"C\" __global__ void k(float *x) { }\nextern \"C\" __global__ void k(float *x) { }", 2, "there are two kernels 'k'" },
    { "extern \"C\" __global__ void k(float *x) {\n __shared__ float s[20000]; }", 2, "more than 49152 bytes of shared memory" },
    { "extern \"C\" __global__ void k(float *x) {\n extern __shared__ float s[]; }", 2, "constant size" },
    { "void f(float **x) { }", 1, "pointers to pointers are not simulated" },
    { "int f() { return sizeof(3); }", 1, "sizeof of a type" },
    { "int f() { return 99999999999999999999; }", 1, "a number that cannot be read" },
    { "int f() { int x = 08; return x; }", 1, "a number that cannot be read" },
    { "int f(int x) { x + 1 = 2; return x; }", 1, "this cannot be assigned to" },
    { "int f(int x) { return x ? 1 : make_float2(1.0f, 2.0f); }", 1, "the arms of ?: are int and float2" },
};
// clang-format on

static void test_texts(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(texts); i++) {
        Bed b = bed_new();
        if (sim_module_new(&b.a, &b.d, arena_printf(&b.a, "%s", texts[i].text)))
            fail_msg("nothing was found: %s", texts[i].text);
        assert_int_equal(b.d.errors, 1);
        expect_pieces(&b, arena_printf(&b.a, "CUDA text:%d: error|%s", texts[i].line, texts[i].says), texts[i].text);
        bed_free(&b);
    }
}

/* ---- Texts that are none ----------------------------------------------------------------------------------------- */

// clang-format off
static const char seed_text[] =
    "#define SIZE 32 /* lanes */\n"
    "#line 3 \"net.c\"\n"
    "static __device__ const float table[2][2] = { { 1.0f, -2.5e3f }, { 0x1p-3f } };\n"
    "static __device__ __forceinline__ int clamp(int x, int least, int most)\n"
    "{\n"
    "    if (x < least)\n"
    "        return least;\n"
    "    return min(x, most);\n"
    "}\n"
    "static __device__ void fill(unsigned *out, const uchar4 c) { for (int i = 0; i < 4; ++i) out[i] = c.x + i; }\n"
    "extern \"C\" __global__ void __launch_bounds__(64) k(const float *__restrict__ x, float *y, unsigned *t)\n"
    "{\n"
    "    __shared__ __align__(16) float s[SIZE * 2];\n"
    "    const int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
    "    float v = i < 90 ? x[i] : 0.0f;\n"
    "    unsigned w[4];\n"
    "    fill(w, *(const uchar4 *)(x + clamp(i, 0, 9)));\n"
    "    s[threadIdx.x] = v * table[i & 1][0] + (float)w[i & 3];\n"
    "    __syncthreads();\n"
    "#pragma unroll\n"
    "    for (int d = 16; d > 0; d >>= 1)\n"
    "        v += __shfl_down_sync(0xffffffffu, v, d);\n"
    "    do { if (v > 1e6f && !(i % 3)) break; v = fmaf(v, 2.0f, 1.0f); } while (v < 10.0f);\n"
    "    const float4 q = *(float4 *)&s[(i & 7) * 4];\n"
    "    long long big = (long long)i << 3 | 5ll;\n"
    "    if (threadIdx.x == 0) { __threadfence(); atomicAdd(t, 1u); }\n"
    "    y[i] = q.x - q.w + v * (int)(big % 7) / 3.0f;\n"
    "}\n";
// clang-format on

/* Whatever it says, it is read without harm, and what can be read runs without harm. */
static bool try_text(const char *text)
{
    static _Alignas(16) float x[96], y[96];
    uint32_t                  t[1] = { 0 };
    Bed                       b = bed_new();
    SimModule                *m = sim_module_new(&b.a, &b.d, text);
    bool                      ok = m != NULL;
    assert_true(ok == (b.d.errors == 0));
    if (m && sim_find(m, "k") >= 0 && sim_params(m, sim_find(m, "k")) == 3) {
        SimArg args[] = { SIM_IN(x), SIM_OUT(y), SIM_OUT(t) };
        ok = bed_launch(&b, m, 2, 32, args, 3, 1);
        assert_true(ok == (b.d.errors == 0));
    }
    bed_free(&b);
    return ok;
}

static void test_cut_off(void **state)
{
    (void)state;
    char text[sizeof seed_text];
    assert_true(try_text(seed_text));
    for (size_t n = 0; n < sizeof seed_text; n += n < 300 ? 1 : 3) {
        memcpy(text, seed_text, n);
        text[n] = 0;
        try_text(text);
    }
}

static void test_changed(void **state)
{
    (void)state;
    static const char *const pieces[] = { "(",         ")",           "{",       "}",          "[",
                                          "]",         ";",           ",",       "*",          "&",
                                          "0",         "-1",          "++",      "=",          "?",
                                          ":",         "return ",     "if (i) ", "for (;;) ",  "float4 ",
                                          "int ",      "const ",      "0u",      "1e30f",      ".x",
                                          "s",         "<<",          "/",       "while (0) ", "unsigned char ",
                                          "(float *)", "__shared__ ", "!",       "~",          "#define A B\n",
                                          "\"",        "/*",          "\377",    "\\\n" };
    char                     text[2 * sizeof seed_text];
    int32_t                  right = 0;
    for (uint32_t round = 0; round < 1500; round++) {
        size_t len = sizeof seed_text - 1;
        memcpy(text, seed_text, len + 1);
        for (uint32_t k = 0; k <= round % 3; k++) {
            uint32_t    r = rng_u32(1, 2, round, 2 * k), at = rng_u32(1, 2, round, 2 * k + 1) % (uint32_t)len;
            const char *piece = pieces[r % DT_COUNT(pieces)];
            size_t      cut = r >> 8 & 1 ? r >> 9 & 7 : 0, n = strlen(piece);
            cut = cut < len - at ? cut : len - at;
            memmove(text + at + n, text + at + cut, len - at - cut + 1);
            memcpy(text + at, piece, n);
            len = len - cut + n;
        }
        right += try_text(text);
    }
    assert_true(right > 5); /* some changes do no harm */
}

static void test_noise(void **state)
{
    (void)state;
    char text[200];
    for (uint32_t round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < sizeof text; i++)
            text[i] = (char)rng_u32(7, 7, round, i);
        text[sizeof text - 1] = 0;
        try_text(text);
    }
    char             *deep = malloc(200001);
    static const char openers[] = "({[-!*~";
    for (size_t k = 0; k < sizeof openers - 1; k++) {
        memcpy(deep, "int f() { return ", 17);
        memset(deep + 17, openers[k], 200000 - 17);
        deep[200000] = 0;
        assert_false(try_text(deep));
    }
    free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_values),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_blocks),  cmocka_unit_test(test_fine),     cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_places),  cmocka_unit_test(test_launches), cmocka_unit_test(test_texts),
        cmocka_unit_test(test_cut_off), cmocka_unit_test(test_changed),  cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
