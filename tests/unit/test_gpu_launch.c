/* test_gpu_launch.c: modules and launches on the simulated and the null GPU: kernels that are run, and the mistakes
 * that are found before or while they are. Whole programs: test_gpu_exec.c. */
#include "tests/unit/gpu_fixture.h"

static CuPtr device_bytes(GpuFixture *f, size_t bytes)
{
    CuPtr at = 0;
    OK(f->t->alloc(&at, bytes));
    return at;
}

/* ---- Launches ---------------------------------------------------------------------------------------------------- */

/* y[i] = 2 x[i], i < 64, and the sum of blocks' tickets as scratch: four parameters. */
static const char doubling[] = "extern \"C\" __global__ void __launch_bounds__(32) twice(const float *x, float *y)\n"
                               "{\n"
                               "    int i = blockIdx.x * 32 + threadIdx.x;\n"
                               "    y[i] = 2.0f * x[i];\n"
                               "}\n"
                               "extern \"C\" __global__ void __launch_bounds__(32) counted(const float *x, float *y,\n"
                               "    float *scratch, unsigned *tickets)\n"
                               "{\n"
                               "    scratch[blockIdx.x * 32 + threadIdx.x] = x[threadIdx.x];\n"
                               "    if (threadIdx.x == 0)\n"
                               "        tickets[blockIdx.x] = 0u;\n"
                               "    y[blockIdx.x * 32 + threadIdx.x] = 1.0f;\n"
                               "}\n";
enum { FLOATS = 64, FLOAT_BYTES = 4 * FLOATS };

typedef struct Kernels {
    CuHandle module, twice, counted;
    CuPtr    at[4]; /* x, y, scratch, tickets */
    BufUse   uses[2];
    Launch   l;
} Kernels;

static Kernels kernels_new(GpuFixture *f)
{
    Kernels k = { .uses = { { .bytes = FLOAT_BYTES, .value = 0, .access = ACCESS_READ },
                            { .bytes = FLOAT_BYTES, .value = 1, .access = ACCESS_WRITE } } };
    OK(f->t->module_load(&k.module, doubling));
    OK(f->t->module_function(&k.twice, k.module, "twice"));
    OK(f->t->module_function(&k.counted, k.module, "counted"));
    for (int i = 0; i < 4; i++)
        k.at[i] = device_bytes(f, FLOAT_BYTES);
    OK(f->t->set_bytes(k.at[0], 0, FLOAT_BYTES, f->gpu->stream));
    OK(f->t->set_bytes(k.at[3], 0, FLOAT_BYTES, f->gpu->stream));
    k.l = (Launch){ .kind = LAUNCH_KERNEL, .name = "s0.double", .n_bufs = 2 };
    return k;
}

/* `told`: the launch as the plan has it; NULL: nothing is told. */
static CuResult launch(GpuFixture *f, Kernels *k, CuHandle function, int grid, const Launch *told)
{
    void *params[4] = { &k->at[0], &k->at[1], &k->at[2], &k->at[3] };
    if (told)
        f->t->watch(told, k->at);
    return f->t->launch(function, (unsigned)grid, 1, 1, 32, 1, 1, 0, f->gpu->stream, params, NULL);
}

static void test_launch(void **state)
{
    GpuFixture *f = *state;
    Kernels     k = kernels_new(f);
    float       x[FLOATS], y[FLOATS];
    CuHandle    graph, exec;
    int         value = -1;
    k.l.uses = k.uses;
    for (int i = 0; i < FLOATS; i++)
        x[i] = (float)i;
    OK(f->t->copy_to_device(k.at[0], x, FLOAT_BYTES, f->gpu->stream));
    OK(launch(f, &k, k.twice, 2, &k.l));
    OK(f->t->copy_to_host(y, k.at[1], FLOAT_BYTES, f->gpu->stream));
    for (int i = 0; i < FLOATS; i++)
        assert_true(y[i] == 2 * x[i]);
    /* again from a graph, with other numbers, in any order of blocks, when somebody waits */
    cuda_sim_seed(77);
    OK(f->t->capture_begin(f->gpu->stream, 1));
    OK(launch(f, &k, k.twice, 2, &k.l));
    OK(f->t->capture_end(f->gpu->stream, &graph));
    OK(f->t->graph_instantiate(&exec, graph, 0));
    x[33] = 100;
    OK(f->t->copy_to_device(k.at[0], x, FLOAT_BYTES, f->gpu->stream));
    cuda_sim_lazy(1);
    OK(f->t->graph_launch(exec, f->gpu->stream));
    OK(f->t->copy_to_host(y, k.at[1], FLOAT_BYTES, f->gpu->stream));
    assert_true(y[33] == 66);
    OK(f->t->stream_wait(f->gpu->stream));
    assert_true(y[33] == 200);
    assert_int_equal(cuda_sim_counts().launches, 2);
    OK(f->t->function_attribute(&value, 4, k.twice));
    assert_int_equal(f->t->function_attribute(&value, 4, k.module), CU_INVALID_VALUE);
    OK(f->t->graph_exec_free(exec));
    OK(f->t->graph_free(graph));
    OK(f->t->module_free(k.module));
    assert_int_equal(cuda_sim_live().modules, 0);
    assert_int_equal(launch(f, &k, k.twice, 1, NULL), CU_INVALID_HANDLE);
    assert_said(f, "cuLaunchKernel: no such function, or its module was unloaded");
    assert_int_equal(f->t->module_free(k.module), CU_INVALID_HANDLE);
    assert_said(f, "cuModuleUnload: the module was freed before");
}

/* Scratch memory and tickets are not among the buffers that are told of. */
static void test_launch_scratch(void **state)
{
    GpuFixture *f = *state;
    Kernels     k = kernels_new(f);
    k.l.uses = k.uses;
    k.l.scratch_bytes = FLOAT_BYTES;
    OK(launch(f, &k, k.counted, 2, &k.l));
    assert_silent(f);
    k.l.scratch_bytes = FLOAT_BYTES / 2; /* half of what the kernel writes */
    assert_int_equal(launch(f, &k, k.counted, 2, &k.l), CU_LAUNCH_FAILED);
    assert_said(f, "in launch s0.double");
}

/* What the bounds of the plan find that those of the memory would not. */
static void test_launch_wrong(void **state)
{
    static const struct {
        BufUse      x, y;
        const char *says;
    } cases[] = {
        { { .bytes = FLOAT_BYTES - 4, .value = 0, .access = ACCESS_READ },
          { .bytes = FLOAT_BYTES, .value = 1, .access = ACCESS_WRITE },
          "in launch s0.double" },
        { { .bytes = FLOAT_BYTES, .value = 0, .access = ACCESS_READ },
          { .bytes = FLOAT_BYTES - 1, .value = 1, .access = ACCESS_WRITE },
          "in launch s0.double" },
        { { .bytes = FLOAT_BYTES, .value = 0, .access = ACCESS_READ },
          { .bytes = FLOAT_BYTES, .value = 1, .access = ACCESS_READ },
          "in launch s0.double" },
    };
    GpuFixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        f->t = cuda_driver_sim(&f->a, &f->d, 0);
        f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
        Kernels k = kernels_new(f);
        k.uses[0] = cases[i].x;
        k.uses[1] = cases[i].y;
        k.l.uses = k.uses;
        assert_int_equal(launch(f, &k, k.twice, 2, &k.l), CU_LAUNCH_FAILED);
        assert_said(f, cases[i].says);
        assert_int_equal(launch(f, &k, k.twice, 1, &k.l), CU_LAUNCH_FAILED); /* no work is done any more */
        assert_silent(f);
        OK(f->t->module_free(k.module));
    }
}

/* Memory that is not there: found by either kind before the kernel runs. */
static void check_launch_memory(GpuFixture *f)
{
    Kernels k = kernels_new(f);
    k.uses[1].bytes = FLOAT_BYTES + 1;
    k.l.uses = k.uses;
    assert_int_equal(launch(f, &k, k.twice, 2, &k.l), CU_ILLEGAL_ADDRESS);
    assert_said(f, "s0.double, buffer 1: 257 bytes at ");
}

static void test_launch_memory(void **state)
{
    check_launch_memory(*state);
}

/* Where nothing is told, a parameter ends with its allocation. */
static void test_launch_untold(void **state)
{
    GpuFixture *f = *state;
    Kernels     k = kernels_new(f);
    OK(launch(f, &k, k.twice, 2, NULL));
    OK(launch(f, &k, k.twice, 2, &k.l)); /* told, but not what the buffers are */
    assert_silent(f);
    assert_int_equal(launch(f, &k, k.twice, 3, NULL), CU_LAUNCH_FAILED);
    assert_said(f, "in launch twice");
}

/* A launch that does not fit its kernel costs the call alone. */
static void test_launch_refused(void **state)
{
    GpuFixture *f = *state;
    Kernels     k = kernels_new(f);
    void       *params[4] = { &k.at[0], &k.at[1], &k.at[2], &k.at[3] };
    CuPtr       moved[2] = { k.at[0], k.at[0] };
    assert_int_equal(launch(f, &k, k.counted, 2, &k.l), CU_INVALID_VALUE);
    assert_said(f, "s0.double: counted takes 4 parameters; the launch has 2 buffers");
    k.l.scratch_bytes = 64;
    assert_int_equal(launch(f, &k, k.twice, 2, &k.l), CU_INVALID_VALUE);
    assert_said(f, "twice takes 2 parameters; the launch has 2 buffers, scratch memory and tickets");
    k.l.scratch_bytes = 0;
    f->t->watch(&k.l, moved);
    assert_int_equal(f->t->launch(k.twice, 1, 1, 1, 32, 1, 1, 0, f->gpu->stream, params, NULL), CU_INVALID_VALUE);
    assert_said(f, "s0.double, buffer 1: lies at ");
    assert_int_equal(f->t->launch(k.twice, 0, 1, 1, 32, 1, 1, 0, f->gpu->stream, params, NULL), CU_INVALID_VALUE);
    assert_said(f, "twice: a grid of 0 x 1 x 1 blocks of 32 x 1 x 1 threads");
    assert_int_equal(f->t->launch(k.twice, 1, 1, 1, 1025, 1, 1, 0, f->gpu->stream, params, NULL), CU_INVALID_VALUE);
    assert_said(f, "1025 x 1 x 1 threads");
    assert_int_equal(f->t->launch(k.twice, 1, 2, 1, 32, 1, 1, 0, f->gpu->stream, params, NULL), CU_INVALID_VALUE);
    assert_said(f, "a grid of 1 x 2 x 1 blocks");
    assert_int_equal(f->t->launch(k.twice, 1, 1, 1, 32, 1, 1, 99999, f->gpu->stream, params, NULL), CU_INVALID_VALUE);
    assert_said(f, "99999 bytes of dynamic shared memory");
    OK(launch(f, &k, k.twice, 2, &k.l));
}

static void test_modules(void **state)
{
    GpuFixture *f = *state;
    CuHandle    module = f, function = f;
    assert_int_equal(f->t->module_load(&module, "\177ELF and so on"), CU_NO_BINARY_FOR_GPU);
    assert_silent(f);
    assert_int_equal(f->t->module_load(&module, "extern \"C\" __global__ void f(float *x)\n{\n    x[0] = ;\n}\n"),
                     CU_INVALID_IMAGE);
    assert_said(f, "3: error: "); /* the line of the text */
    OK(f->t->module_load(&module, doubling));
    assert_int_equal(f->t->module_function(&function, module, "thrice"), CU_NOT_FOUND);
    assert_int_equal(f->t->module_function(&function, function, "twice"), CU_INVALID_HANDLE);
    assert_said(f, "cuModuleGetFunction: no such module");
    assert_int_equal(cuda_sim_live().modules, 1);
}

static void test_modules_of_nothing(void **state)
{
    GpuFixture *f = *state;
    CuHandle    module, function;
    OK(f->t->module_load(&module, doubling));
    OK(f->t->module_function(&function, module, "twice"));
    assert_int_equal(f->t->module_function(&function, module, "wice"), CU_NOT_FOUND);
    assert_int_equal(f->t->module_function(&function, module, "int"), CU_NOT_FOUND);
    OK(f->t->module_free(module));
    OK(f->t->module_load(&module, "\177ELF: what any compiler made"));
    OK(f->t->module_function(&function, module, "whatever"));
}

/* Checked and counted, with nothing done. */
static void test_launch_nothing(void **state)
{
    GpuFixture *f = *state;
    Kernels     k = kernels_new(f);
    float       y = 5;
    k.l.uses = k.uses;
    OK(launch(f, &k, k.twice, 2, &k.l));
    OK(launch(f, &k, k.twice, 2, NULL));
    k.l.scratch_bytes = FLOAT_BYTES;
    OK(launch(f, &k, k.counted, 2, &k.l));
    OK(f->t->copy_to_host(&y, k.at[1], sizeof y, f->gpu->stream));
    assert_true(y == 0);
    assert_int_equal(cuda_sim_counts().launches, 3);
    k.l.scratch_bytes = FLOAT_BYTES + 4;
    assert_int_equal(launch(f, &k, k.counted, 2, &k.l), CU_ILLEGAL_ADDRESS);
    assert_said(f, "s0.double, buffer 2: 260 bytes at ");
}

static void note(void *user)
{
    ++*(int *)user;
}

/* A library call is told of as well. */
static void check_call_memory(GpuFixture *f)
{
    CuPtr  at[1] = { device_bytes(f, 64) };
    BufUse use = { .bytes = 65, .value = 0, .access = ACCESS_READ };
    Launch l = { .kind = LAUNCH_CALL, .name = "s0.conv", .n_bufs = 1, .uses = &use };
    int    n = 0;
    f->t->watch(&l, at);
    assert_int_equal(f->t->launch_host(f->gpu->stream, note, &n), CU_ILLEGAL_ADDRESS);
    assert_said(f, "s0.conv, buffer 0: 65 bytes at ");
    assert_int_equal(n, 0);
}

static void test_call_memory(void **state)
{
    check_call_memory(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SIM(test_launch),          TEST_SIM(test_launch_scratch), TEST_SIM(test_launch_wrong),
        TEST_SIM(test_launch_memory),   TEST_NULL(test_launch_memory), TEST_SIM(test_launch_untold),
        TEST_SIM(test_launch_refused),  TEST_SIM(test_modules),        TEST_NULL(test_modules_of_nothing),
        TEST_NULL(test_launch_nothing), TEST_SIM(test_call_memory),    TEST_NULL(test_call_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
