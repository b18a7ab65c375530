/* test_exec.c: execution of programs: hand-written kernel entries, whose units must each run once, in any split over
 * threads, before their finish; programs that share params; calls in programs; tensors in logical order. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/call_fixture.h"

/* ---- Programs of hand-written kernels -------------------------------------------------------------------------- */

enum { ELEMS = 40000, UNIT = 100, UNITS = ELEMS / UNIT, COLUMNS = 64 };

/* y = 2 x + 1; visits counts how often each unit ran */
static void affine_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    const float *x = bufs[0];
    float       *y = bufs[1];
    int32_t     *visits = bufs[2];
    for (int64_t u = lo; u < hi; u++) {
        visits[u]++;
        for (int64_t i = u * UNIT; i < (u + 1) * UNIT; i++)
            y[i] = 2 * x[i] + 1;
    }
}

/* Partial sums of each column in scratch, then their sums in the order of units. The last unit is late, and the partial
 * sums are spoiled when they have been read: a finish that does not wait is seen. */
static void columns_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self;
    const float *x = bufs[0];
    float       *part = scratch;
    for (int64_t u = lo; u < hi; u++) {
        if (u == UNITS - 1)
            nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        for (int64_t c = 0; c < COLUMNS; c++) {
            float sum = 0;
            for (int64_t i = u * UNIT; i < (u + 1) * UNIT; i++)
                sum += x[i] * (float)(c + 1);
            part[u * COLUMNS + c] = sum;
        }
    }
}

static void columns_finish(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    const float *factor = self;
    float       *part = scratch, *out = bufs[1];
    for (int64_t c = lo; c < hi; c++) {
        float sum = 0;
        for (int64_t u = 0; u < UNITS; u++)
            sum += part[u * COLUMNS + c], part[u * COLUMNS + c] = NAN;
        out[c] = sum * *factor;
    }
}

/* param += state; state unchanged */
static void bump_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    float       *p = bufs[0];
    const float *s = bufs[1];
    for (int64_t i = lo; i < hi; i++)
        p[i] += s[i];
}

static void copy_run(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch;
    memcpy((float *)bufs[1] + lo, (const float *)bufs[0] + lo, sizeof(float) * (size_t)(hi - lo));
}

static ProgTensor tensor(TensorKind kind, const char *name, ArenaKind arena, int64_t offset, int64_t elems)
{
    return (ProgTensor){ .kind = kind,
                         .name = name,
                         .dtype = DTYPE_F32,
                         .rank = 1,
                         .dim = { elems, 1, 1, 1 },
                         .elems = elems,
                         .bytes = elems * 4,
                         .at = { arena, offset } };
}

static const float half = 0.5f;

/* x -> work (affine) -> out (sums of columns) */
enum { SUM_OUT = ELEMS * 4, SUM_VISITS = SUM_OUT + 256, SUM_SCRATCH = UNITS * COLUMNS * 4 };
static Program sum_program(void)
{
    static const MemRef affine_bufs[] = { { ARENA_IO, 0 }, { ARENA_WORK, 0 }, { ARENA_IO, SUM_VISITS } };
    static const MemRef sum_bufs[] = { { ARENA_WORK, 0 }, { ARENA_IO, SUM_OUT } };
    static KernelImage  images[] = {
        { .name = "affine", .run = affine_run, .units = UNITS, .bytes = ELEMS * 8, .n_bufs = 3 },
        { .name = "columns",
           .self = &half,
           .run = columns_run,
           .finish = columns_finish,
           .units = UNITS,
           .finish_units = COLUMNS,
           .scratch_bytes = SUM_SCRATCH,
           .bytes = ELEMS * 4,
           .n_bufs = 2 },
    };
    static Launch launches[] = {
        { .kind = LAUNCH_KERNEL, .name = "affine", .image = 0, .bufs = affine_bufs, .n_bufs = 3 },
        { .kind = LAUNCH_KERNEL,
          .name = "columns",
          .image = 1,
          .bufs = sum_bufs,
          .n_bufs = 2,
          .scratch_bytes = SUM_SCRATCH },
    };
    static ProgTensor tensors[3];
    tensors[0] = tensor(TENSOR_INPUT, "x", ARENA_IO, 0, ELEMS);
    tensors[1] = tensor(TENSOR_OUTPUT, "out", ARENA_IO, SUM_OUT, COLUMNS);
    tensors[2] = tensor(TENSOR_OUTPUT, "visits", ARENA_IO, SUM_VISITS, UNITS);
    tensors[2].dtype = DTYPE_I32;
    return (Program){ .name = "sum",
                      .bytes = { SUM_VISITS + UNITS * 4, 0, 0, ELEMS * 4, SUM_SCRATCH },
                      .tensors = tensors,
                      .n_tensors = 3,
                      .images = images,
                      .n_images = 2,
                      .launches = launches,
                      .n_launches = 2 };
}

static void test_units_and_threads(void **state)
{
    (void)state;
    float first[COLUMNS];
    for (int threads = 1; threads <= 3; threads++) {
        Arena   a = arena_new("test");
        Diag    d = diag_new(stderr);
        Program p = sum_program();
        Exec   *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = threads, .profile = true });
        assert_int_equal(exec_threads(e), threads);
        assert_int_equal(exec_add(e, &p), 0);
        float *x = exec_ptr(e, 0, program_tensor(&p, "x"));
        assert_int_equal((uintptr_t)x % 4096, 0);
        for (int64_t i = 0; i < ELEMS; i++)
            x[i] = rng_uniform(5, 1, 0, (uint64_t)i) - 0.5f;
        for (int run = 0; run < 3; run++)
            exec_run(e, 0);
        const int32_t *visits = exec_ptr(e, 0, program_tensor(&p, "visits"));
        for (int64_t u = 0; u < UNITS; u++)
            assert_int_equal(visits[u], 3);
        const float *out = exec_ptr(e, 0, program_tensor(&p, "out"));
        if (threads == 1) {
            /* column c holds (c + 1) / 2 times the sum of 2 x + 1 */
            double sum = 0;
            for (int64_t i = 0; i < ELEMS; i++)
                sum += 2.0 * x[i] + 1;
            for (int c = 0; c < COLUMNS; c++)
                assert_true(fabs(out[c] - sum * (c + 1) / 2) <= 1e-5 * ELEMS * (c + 1));
            memcpy(first, out, sizeof first);
        }
        assert_memory_equal(first, out, sizeof first);
        assert_int_equal(exec_launch_count(e, 0), 3);
        assert_true(exec_launch_seconds(e, 0, 0) > 0 && exec_launch_seconds(e, 0, 1) > 0);
        exec_free(e);
        diag_free(&d);
        arena_free(&a);
    }
}

/* A huge number of threads for few units: some parts are empty. */
static void test_more_threads_than_units(void **state)
{
    (void)state;
    Arena       a = arena_new("test");
    Diag        d = diag_new(stderr);
    Program     p = sum_program();
    KernelImage images[2] = { p.images[0], p.images[1] };
    images[0].units = 2; /* the first 200 elements */
    p.images = images;
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 3 });
    assert_int_equal(exec_add(e, &p), 0);
    exec_run(e, 0);
    const int32_t *visits = exec_ptr(e, 0, program_tensor(&p, "visits"));
    assert_int_equal(visits[0], 1);
    assert_int_equal(visits[1], 1);
    assert_int_equal(visits[2], 0);
    assert_true(exec_launch_seconds(e, 0, 0) == 0); /* no profile was asked for */
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

/* Two programs that share params and states: "bump" adds a state to a param, "look" copies the param out. */
typedef struct Pair {
    ProgTensor bump_tensors[2], look_tensors[2];
    Program    bump, look;
} Pair;

static void pair_init(Pair *q)
{
    static const MemRef bump_bufs[] = { { ARENA_PARAM, 64 }, { ARENA_STATE, 0 } };
    static const MemRef look_bufs[] = { { ARENA_PARAM, 64 }, { ARENA_WORK, 1 << 20 } };
    static const MemRef out_bufs[] = { { ARENA_WORK, 1 << 20 }, { ARENA_IO, 128 } };
    static KernelImage  bump_images[] = { { .name = "bump", .run = bump_run, .units = 8, .bytes = 64, .n_bufs = 2 } };
    static KernelImage  look_images[] = {
        { .name = "copy", .run = copy_run, .units = 8, .bytes = 1 << 20, .n_bufs = 2 }
    };
    static Launch bump_launches[] = { { .kind = LAUNCH_KERNEL, .name = "bump", .bufs = bump_bufs, .n_bufs = 2 } };
    static Launch look_launches[] = { { .kind = LAUNCH_KERNEL, .name = "look", .bufs = look_bufs, .n_bufs = 2 },
                                      { .kind = LAUNCH_KERNEL, .name = "out", .bufs = out_bufs, .n_bufs = 2 } };
    ProgTensor    param = tensor(TENSOR_PARAM, "w", ARENA_PARAM, 64, 8),
               moment = tensor(TENSOR_STATE, "m", ARENA_STATE, 0, 8);
    *q = (Pair){ .bump_tensors = { param, moment },
                 .look_tensors = { param, tensor(TENSOR_OUTPUT, "y", ARENA_IO, 128, 8) } };
    q->bump = (Program){ .name = "bump",
                         .bytes = { 0, 96, 32, 0, 0 },
                         .tensors = q->bump_tensors,
                         .n_tensors = 2,
                         .images = bump_images,
                         .n_images = 1,
                         .launches = bump_launches,
                         .n_launches = 1 };
    q->look = (Program){ .name = "look",
                         .bytes = { 160, 96, 0, 4 << 20, 0 },
                         .tensors = q->look_tensors,
                         .n_tensors = 2,
                         .images = look_images,
                         .n_images = 1,
                         .launches = look_launches,
                         .n_launches = 2 };
}

static void test_programs_share(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Diag  d = diag_new(stderr);
    Pair  q;
    pair_init(&q);
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 2 });
    assert_int_equal(exec_add(e, &q.bump), 0);
    float *w = exec_ptr(e, 0, program_tensor(&q.bump, "w")), *m = exec_ptr(e, 0, program_tensor(&q.bump, "m"));
    for (int i = 0; i < 8; i++) {
        assert_true(w[i] == 0 && m[i] == 0); /* memory starts as zeros */
        w[i] = (float)i, m[i] = 0.5f;
    }
    exec_run(e, 0);
    assert_int_equal(exec_add(e, &q.look), 1); /* a larger work block: everything is bound anew */
    assert_ptr_equal(exec_ptr(e, 1, program_tensor(&q.look, "w")), w);
    exec_run(e, 0);
    exec_run(e, 1);
    const float *y = exec_ptr(e, 1, program_tensor(&q.look, "y"));
    for (int i = 0; i < 8; i++)
        assert_true(y[i] == (float)i + 1);
    Program again = q.look; /* the same code twice: its own inputs and outputs */
    assert_int_equal(exec_add(e, &again), 2);
    assert_ptr_not_equal(exec_ptr(e, 2, program_tensor(&again, "y")), y);
    assert_null(program_tensor(&again, "m"));
    assert_int_equal(exec_launch_count(e, 0), 2);
    assert_int_equal(exec_launch_count(e, 2), 0);
    assert_int_equal(d.errors, 0);
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

static void test_programs_disagree(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    Diag  d = diag_new(NULL);
    Pair  q;
    pair_init(&q);
    Exec *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 1 });
    assert_int_equal(exec_add(e, &q.bump), 0);
    q.look_tensors[0].at.offset = 0; /* the param elsewhere */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 1);
    assert_non_null(strstr(d.text.s, "program look: param w"));
    q.look_tensors[0].at.offset = 64;
    q.look_tensors[0].name = "v";
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 2);
    q.look_tensors[0].name = "w";
    q.look.bytes[ARENA_PARAM] = 128; /* more params */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 3);
    q.look.bytes[ARENA_PARAM] = 96;
    assert_int_equal(exec_add(e, &q.look), 1);
    q.look.bytes[ARENA_WORK] = INT64_C(1) << 60; /* more than any machine has */
    assert_int_equal(exec_add(e, &q.look), -1);
    assert_int_equal(d.errors, 4);
    assert_non_null(strstr(d.text.s, "values inside a step"));
    exec_run(e, 1); /* what was there still runs */
    exec_free(e);
    diag_free(&d);
    arena_free(&a);
}

/* ---- Calls in programs ----------------------------------------------------------------------------------------- */

static const Shape conv_shape = { 2, 16, 12, 12, 32, 3, 3, 2, 1, { 1, 1, 1, 1 }, false };

/* x, w -> conv -> y */
static Program conv_program(CallDesc d, int64_t scratch, MemRef bufs[3], Launch *launch, ProgTensor tensors[3])
{
    tensors[0] = tensor(TENSOR_INPUT, "x", ARENA_IO, 0, d.n * d.c * d.h * d.w);
    tensors[0].rank = 4, tensors[0].nhwc = true;
    memcpy(tensors[0].dim, (const int64_t[]){ d.n, d.c, d.h, d.w }, sizeof tensors[0].dim);
    tensors[1] = tensor(TENSOR_PARAM, "w", ARENA_PARAM, 0, d.k * d.c * d.r * d.s);
    tensors[2] = tensor(TENSOR_OUTPUT, "y", ARENA_IO, dt_round_up(tensors[0].bytes, 64), d.n * d.k * d.oh * d.ow);
    tensors[2].rank = 4, tensors[2].nhwc = true;
    memcpy(tensors[2].dim, (const int64_t[]){ d.n, d.k, d.oh, d.ow }, sizeof tensors[2].dim);
    for (int i = 0; i < 3; i++)
        bufs[i] = tensors[i].at;
    *launch =
        (Launch){ .kind = LAUNCH_CALL, .name = "conv", .call = d, .bufs = bufs, .n_bufs = 3, .scratch_bytes = scratch };
    return (Program){ .name = "conv",
                      .bytes = { tensors[2].at.offset + tensors[2].bytes, tensors[1].bytes, 0, 0, scratch },
                      .tensors = tensors,
                      .n_tensors = 3,
                      .launches = launch,
                      .n_launches = 1 };
}

/* The result in logical order. */
static float *run_conv_program(Arena *a, Diag *d, CallLib *lib, CallDesc desc)
{
    MemRef     bufs[3];
    Launch     launch;
    ProgTensor tensors[3];
    Program    p = conv_program(desc, lib->scratch_bytes(lib->self, &desc), bufs, &launch, tensors);
    Exec      *e = exec_new(a, d, lib, (ExecOptions){ .threads = 2 });
    int32_t    i = exec_add(e, &p);
    assert_int_equal(i, 0);
    float *x = ARENA_ARRAY(a, float, tensors[0].elems), *y = ARENA_ARRAY(a, float, tensors[2].elems);
    fill(x, tensors[0].elems, 0);
    tensor_write(e, i, &tensors[0], x);
    fill(exec_ptr(e, i, &tensors[1]), tensors[1].elems, 1);
    exec_run(e, i);
    exec_run(e, i);
    tensor_read(e, i, &tensors[2], y);
    exec_free(e);
    return y;
}

static void test_call_in_program(void **state)
{
    (void)state;
    Arena    a = arena_new("test");
    Diag     d = diag_new(stderr);
    CallDesc desc = conv_desc(&conv_shape, CALL_CONV_FWD);
    float   *want = run_conv_program(&a, &d, calllib_reference(&a), desc);
    /* by hand: logical (n 1, k 3, oh 2, ow 4), from the logical x */
    Case   c = case_new(&a, desc);
    double sum = 0;
    for (int64_t ch = 0; ch < desc.c; ch++)
        for (int64_t r = 0; r < 3; r++)
            for (int64_t s = 0; s < 3; s++)
                sum += (double)c.bufs[0][((1 * desc.c + ch) * desc.h + 2 * 2 + r - 1) * desc.w + 4 * 2 + s - 1] *
                       c.bufs[1][((3 * desc.c + ch) * 3 + r) * 3 + s];
    assert_true(fabs(want[((1 * desc.k + 3) * desc.oh + 2) * desc.ow + 4] - sum) < 1e-5);
#ifdef DT_HAVE_ONEDNN
    CallLib *lib = calllib_onednn(&a, &d, 2);
    float   *got = run_conv_program(&a, &d, lib, desc);
    for (int64_t i = 0; i < case_result_elems(&c); i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-4f);

    /* planned for a library that needs no scratch */
    MemRef     bufs[3];
    Launch     launch;
    ProgTensor tensors[3];
    Diag       quiet = diag_new(NULL);
    Program    p = conv_program(desc, 0, bufs, &launch, tensors);
    Exec      *e = exec_new(&a, &quiet, lib, (ExecOptions){ .threads = 2 });
    assert_int_equal(exec_add(e, &p), -1);
    assert_int_equal(quiet.errors, 1);
    assert_non_null(strstr(quiet.text.s, "bytes of scratch with oneDNN"));
    exec_free(e);
    diag_free(&quiet);
#endif
    assert_int_equal(d.errors, 0);
    diag_free(&d);
    arena_free(&a);
}

/* ---- Tensors in logical order ---------------------------------------------------------------------------------- */

static void test_tensor_order(void **state)
{
    (void)state;
    const DType types[] = { DTYPE_F32, DTYPE_S8, DTYPE_U4, DTYPE_U2, DTYPE_B1 };
    for (int32_t i = 0; i < DT_COUNT(types); i++) {
        Arena      a = arena_new("test");
        Diag       d = diag_new(stderr);
        int64_t    elems = 2 * 3 * 4 * 5, bytes = dtype_bytes(types[i], elems);
        ProgTensor t = { .kind = TENSOR_STATE,
                         .name = "t",
                         .dtype = types[i],
                         .rank = 4,
                         .dim = { 2, 3, 4, 5 },
                         .nhwc = true,
                         .elems = elems,
                         .bytes = bytes,
                         .at = { ARENA_STATE, 0 } };
        Program    p = { .name = "p", .bytes = { 0, 0, bytes, 0, 0 }, .tensors = &t, .n_tensors = 1 };
        Exec      *e = exec_new(&a, &d, calllib_reference(&a), (ExecOptions){ .threads = 1 });
        assert_int_equal(exec_add(e, &p), 0);
        uint8_t in[480], out[480];
        for (int j = 0; j < 480; j++)
            in[j] = (uint8_t)(37 * j + 11);
        memset(out, 0, sizeof out);
        tensor_write(e, 0, &t, in);
        tensor_read(e, 0, &t, out);
        assert_memory_equal(in, out, (size_t)bytes);
        const uint8_t *at = exec_ptr(e, 0, &t);
        if (types[i] == DTYPE_S8) /* n 1, c 2, h 3, w 1 */
            assert_int_equal(at[((1 * 4 + 3) * 5 + 1) * 3 + 2], in[((1 * 3 + 2) * 4 + 3) * 5 + 1]);
        if (types[i] == DTYPE_U4) { /* the same element, four bits */
            int64_t to = ((1 * 4 + 3) * 5 + 1) * 3 + 2, from = ((1 * 3 + 2) * 4 + 3) * 5 + 1;
            assert_int_equal(at[to / 2] >> to % 2 * 4 & 15, in[from / 2] >> from % 2 * 4 & 15);
        }
        exec_free(e);
        diag_free(&d);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_and_threads), cmocka_unit_test(test_more_threads_than_units),
        cmocka_unit_test(test_programs_share),    cmocka_unit_test(test_programs_disagree),
        cmocka_unit_test(test_call_in_program),   cmocka_unit_test(test_tensor_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
