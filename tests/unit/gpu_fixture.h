/* gpu_fixture.h: what the tests of GPUs share: an open simulated or null one, and checks of what it reported and of
 * what it still holds. */
#ifndef DETENT_TESTS_GPU_FIXTURE_H
#define DETENT_TESTS_GPU_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runtime/cuda/fake.h"
#include "runtime/cuda/gpu.h"

#define UNUSED __attribute__((unused))

typedef struct GpuFixture {
    Arena             a;
    Diag              d;
    const CudaDriver *t;
    Gpu              *gpu; /* NULL: the test opens it */
} GpuFixture;

UNUSED static int gpu_fixture_new(void **state)
{
    GpuFixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    f->d = diag_new(NULL);
    *state = f;
    return 0;
}

UNUSED static int gpu_fixture_free(void **state)
{
    GpuFixture *f = *state;
    if (f->gpu)
        gpu_close(f->gpu);
    diag_free(&f->d);
    arena_free(&f->a);
    free(f);
    return 0;
}

UNUSED static int sim_setup(void **state)
{
    gpu_fixture_new(state);
    GpuFixture *f = *state;
    f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    return f->gpu ? 0 : -1;
}

UNUSED static int null_setup(void **state)
{
    gpu_fixture_new(state);
    GpuFixture *f = *state;
    f->t = cuda_driver_null(&f->a, &f->d, 1 << 20);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    return f->gpu ? 0 : -1;
}

#define TEST_SIM(fn) cmocka_unit_test_setup_teardown(fn, sim_setup, gpu_fixture_free)
#define TEST_NULL(fn) cmocka_unit_test_setup_teardown(fn, null_setup, gpu_fixture_free)
#define TEST_NEW(fn) cmocka_unit_test_setup_teardown(fn, gpu_fixture_new, gpu_fixture_free)

#define OK(call) assert_int_equal((call), CU_SUCCESS)

/* The one mistake since the last look has this in its message; it is forgotten then. */
UNUSED static void assert_said_at_(GpuFixture *f, const char *part, const char *file, int line)
{
    const char *text = f->d.text.s ? f->d.text.s : "";
    if (!strstr(text, part) || f->d.errors != 1) {
        print_error("expected one error with '%s' in:\n%s", part, text);
        _fail(file, line);
    }
    f->d.text = (Str){ 0 };
    f->d.errors = 0;
}
#define assert_said(f, part) assert_said_at_((f), (part), __FILE__, __LINE__)

UNUSED static void assert_silent_at_(GpuFixture *f, const char *file, int line)
{
    if (f->d.errors != 0) {
        print_error("expected no message:\n%s", f->d.text.s);
        _fail(file, line);
    }
}
#define assert_silent(f) assert_silent_at_((f), __FILE__, __LINE__)

/* Everything was given back. */
UNUSED static void assert_nothing_live_at_(const char *file, int line)
{
    CudaSimLive n = cuda_sim_live();
    if (n.total != 0 || n.bytes != 0) {
        print_error("left: %d allocations, %d of the host, %d streams, %d events, %d modules, %d graphs, %d contexts\n",
                    n.allocations, n.host_allocations, n.streams, n.events, n.modules, n.graphs, n.contexts);
        _fail(file, line);
    }
}
#define assert_nothing_live() assert_nothing_live_at_(__FILE__, __LINE__)

#endif
