/* test_graph.c: a step is one graph: after the first steps, training asks the driver for one graph launch a step and
 * for no launch of a kernel beside it. Counted in a driver's table whose launching functions count and pass on. */
#include "tests/gpu/gpu_backend.h"

enum { WARM = 4, STEPS = 20 };

/* The driver's functions have no pointer for a user's state, so what counts is global. */
static const CudaDriver *counted;
static int               graphs, launches;

static CuResult          count_graph(CuHandle exec, CuHandle stream)
{
    graphs++;
    return counted->graph_launch(exec, stream);
}

static CuResult count_launch(CuHandle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                             unsigned bz, unsigned shared, CuHandle stream, void **params, void **extra)
{
    launches++;
    return counted->launch(function, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
}

static const char kernel_text[] =
    "kernel @twice { axis i = 1000 par vec buf x : f32[1000] in buf y : f32[1000] out body { "
    "%0 = load x[i] %1 = add %0, %0 store y[i], %1 } }";

/* The counts of STEPS steps, after WARM others. */
static void count_steps(GpuTest *t, bool no_graph)
{
    CudaDriver table = *t->driver;
    size_t     pos = 0;
    counted = t->driver;
    table.graph_launch = count_graph;
    table.launch = count_launch;
    t->gpu->t = &table;
    Kernel  *k = kernel_parse(&t->a, &t->d, "test", kernel_text, &pos);
    Program *p = codegen_kernel_program(&t->a, &t->d, k, t->jit);
    assert_non_null(p);
    Exec   *e = exec_new_gpu(&t->a, &t->d, t->gpu, t->lib, (ExecOptions){ .threads = 1, .no_graph = no_graph });
    int32_t index = exec_add(e, p);
    assert_true(index >= 0);
    const ProgTensor *x = program_tensor(p, "x"), *y = &p->tensors[p->n_tensors - 1];
    for (int i = 0; i < WARM + STEPS; i++) {
        if (i == WARM)
            graphs = launches = 0;
        float *in = exec_input(e, index, x);
        for (int j = 0; j < 1000; j++)
            in[j] = (float)(i + j);
        int64_t      number = exec_submit(e, index);
        const float *out = number >= 0 ? exec_output(e, index, y, number) : NULL;
        assert_non_null(out);
        assert_true(out[0] == 2 * (float)i && out[999] == 2 * (float)(i + 999));
    }
    exec_free(e);
    t->gpu->t = t->driver;
}

static void test_one_graph_a_step(void **state)
{
    count_steps(*state, false);
    printf("graph launches a step: %.2f; launches beside it: %.2f\n", (double)graphs / STEPS, (double)launches / STEPS);
    assert_int_equal(graphs, STEPS);
    assert_int_equal(launches, 0);
}

static void test_no_graph(void **state)
{
    count_steps(*state, true);
    assert_int_equal(graphs, 0);
    assert_int_equal(launches, STEPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_graph_a_step),
        cmocka_unit_test(test_no_graph),
    };
    return gpu_there() ? cmocka_run_group_tests(tests, gpu_open_all, gpu_close_all) : SKIPPED;
}
