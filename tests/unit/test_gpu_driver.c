/* test_gpu_driver.c: the simulated and the null GPU as drivers: what they do as a driver would, and the mistakes that
 * they find. Messages about the states of calls (report.c), and opening a GPU on them (gpu.c).
 *
 * Graphs on them: test_gpu_capture.c; kernels: test_gpu_launch.c. */
#include "tests/unit/gpu_fixture.h"

#include <pthread.h>

enum { BYTES = 1024 };

static CuPtr device_bytes(GpuFixture *f, size_t bytes)
{
    CuPtr at = 0;
    OK(f->t->alloc(&at, bytes));
    return at;
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */

static void test_open(void **state)
{
    static const struct {
        const CudaDriver *(*driver)(Arena *a, Diag *d, int64_t memory);
        const char *name;
    } cases[] = { { cuda_driver_sim, "simulated GPU" }, { cuda_driver_null, "null GPU" } };
    GpuFixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        const CudaDriver *t = cases[i].driver(&f->a, &f->d, 5000);
        Gpu              *g = gpu_open(&f->a, &f->d, t, 0);
        assert_non_null(g);
        assert_string_equal(g->name, cases[i].name);
        assert_string_equal(t->path, cases[i].name);
        assert_int_equal(g->sm, 90);
        assert_true(g->driver_version >= 12000);
        assert_int_equal(g->processors, 132);
        assert_int_equal(g->memory_bytes, 5000);
        assert_int_equal(gpu_free_bytes(g), 5000);
        assert_non_null(g->context);
        assert_non_null(g->stream);
        assert_ptr_not_equal(g->stream, g->copy_stream);
        assert_int_equal(cuda_sim_live().streams, 2);
        assert_int_equal(cuda_sim_live().contexts, 1);
        gpu_close(g);
        assert_nothing_live();
        gpu_close(g); /* there is nothing more to close */
        gpu_close(NULL);
        assert_null(gpu_open(&f->a, &f->d, t, 1));
        assert_said(f, "there is no GPU 1: the driver shows 1");
        assert_null(gpu_open(&f->a, &f->d, t, -1));
        assert_said(f, "there is no GPU -1");
        assert_nothing_live();
    }
    assert_int_equal(gpu_open(&f->a, &f->d, cuda_driver_null(&f->a, &f->d, 0), 0)->memory_bytes, INT64_C(1) << 40);
}

/* A GPU that is opened again has nothing of the one before; what belonged to that is no more. */
static void test_open_again(void **state)
{
    GpuFixture *f = *state;
    CuPtr       at = device_bytes(f, BYTES);
    CuHandle    stream = f->gpu->stream, event;
    OK(f->t->event_new(&event, 0));
    f->t = cuda_driver_sim(&f->a, &f->d, 1 << 20);
    assert_nothing_live();
    assert_int_equal(f->t->stream_wait(stream), CU_NOT_INITIALIZED);
    assert_int_equal(f->t->context_set(f->gpu->context), CU_INVALID_CONTEXT);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    assert_int_equal(f->t->free(at), CU_INVALID_VALUE);
    assert_said(f, "is not where an allocation begins");
    assert_int_equal(f->t->event_free(event), CU_INVALID_HANDLE);
    assert_said(f, "the event was freed before, or is none");
    assert_int_equal(cuda_sim_counts().faults, 2);
}

static void *alloc_in_thread(void *user)
{
    GpuFixture *f = user;
    CuPtr       at;
    return (void *)(intptr_t)f->t->alloc(&at, BYTES);
}

/* As with a real one, a thread must say which context it means. */
static void test_context(void **state)
{
    GpuFixture *f = *state;
    pthread_t   thread;
    void       *status;
    CuPtr       at;
    assert_int_equal(pthread_create(&thread, NULL, alloc_in_thread, f), 0);
    assert_int_equal(pthread_join(thread, &status), 0);
    assert_int_equal((intptr_t)status, CU_INVALID_CONTEXT);
    OK(f->t->context_set(NULL));
    assert_int_equal(f->t->alloc(&at, BYTES), CU_INVALID_CONTEXT);
    assert_int_equal(f->t->set_bytes(0, 0, 1, f->gpu->stream), CU_INVALID_CONTEXT);
    assert_int_equal(f->t->context_set((CuHandle)(uintptr_t)12345), CU_INVALID_CONTEXT);
    OK(f->t->context_set(f->gpu->context));
    OK(f->t->context_release(0));
    assert_int_equal(f->t->alloc(&at, BYTES), CU_INVALID_CONTEXT);
    assert_int_equal(f->t->context_release(0), CU_INVALID_CONTEXT);
    assert_int_equal(f->t->context_release(1), CU_INVALID_DEVICE);
    f->gpu->context = NULL;
    assert_silent(f);
}

static void test_device(void **state)
{
    GpuFixture *f = *state;
    int         value = 0;
    char        name[5];
    size_t      bytes;
    CuDevice    device;
    OK(f->t->device_name(name, sizeof name, 0));
    assert_string_equal(name, "simu");
    assert_int_equal(f->t->device_name(name, sizeof name, 1), CU_INVALID_DEVICE);
    OK(f->t->device_attribute(&value, 10, 0));
    assert_int_equal(value, 32);
    assert_int_equal(f->t->device_attribute(&value, 10, 3), CU_INVALID_DEVICE);
    assert_int_equal(f->t->device_attribute(&value, 99999, 0), CU_INVALID_VALUE);
    assert_int_equal(f->t->device_memory(&bytes, 1), CU_INVALID_DEVICE);
    assert_int_equal(f->t->device_get(&device, 1), CU_INVALID_DEVICE);
    assert_int_equal(f->t->init(1), CU_INVALID_VALUE);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

static void test_memory(void **state)
{
    GpuFixture *f = *state;
    CuPtr       a = device_bytes(f, 600000), b = 0, c = 0;
    assert_int_equal(f->t->alloc(&b, 500000), CU_OUT_OF_MEMORY);
    OK(f->t->alloc(&b, (1 << 20) - 600000));
    assert_int_equal(f->t->alloc(&c, 1), CU_OUT_OF_MEMORY);
    assert_int_equal(gpu_free_bytes(f->gpu), 0);
    assert_int_equal(cuda_sim_live().bytes, 1 << 20);
    assert_int_equal(cuda_sim_live().allocations, 2);
    assert_true(a + 600000 <= b || b + (1 << 20) - 600000 <= a);
    OK(f->t->free(a));
    assert_int_equal(gpu_free_bytes(f->gpu), 600000);
    assert_int_equal(f->t->alloc(&c, 0), CU_INVALID_VALUE);
    assert_int_equal(f->t->free(a), CU_INVALID_VALUE);
    assert_said(f, "cuMemFree_v2: ");
    assert_int_equal(f->t->free(b + 1), CU_INVALID_VALUE);
    assert_said(f, "is not where an allocation begins");
    OK(f->t->free(b));
    assert_int_equal(f->t->free(b), CU_INVALID_VALUE);
    assert_said(f, "was freed before");
    void *host;
    OK(f->t->alloc_host(&host, 1 << 21)); /* is not the device's */
    assert_int_equal(f->t->free((CuPtr)(uintptr_t)host), CU_INVALID_VALUE);
    assert_said(f, "is not where an allocation begins");
    assert_int_equal(cuda_sim_live().host_allocations, 1);
    OK(f->t->free_host(host));
    assert_int_equal(f->t->free_host(host), CU_INVALID_VALUE);
    assert_said(f, "cuMemFreeHost: ");
    gpu_close(f->gpu);
    assert_nothing_live();
    assert_int_equal(cuda_sim_counts().most_bytes, 1 << 20);
}

/* As much as one likes: there is nothing behind the addresses. */
static void test_memory_of_nothing(void **state)
{
    GpuFixture *f = *state;
    f->t = cuda_driver_null(&f->a, &f->d, 80LL << 30);
    f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
    CuPtr a = device_bytes(f, 50LL << 30), b = device_bytes(f, 30LL << 30);
    char  byte = 7;
    assert_true(b >= a + (50ULL << 30));
    OK(f->t->set_bytes(a, 1, 50LL << 30, f->gpu->stream));
    OK(f->t->copy_to_host(&byte, b - 1 - 512 + 512 + (30LL << 30), 1, f->gpu->stream));
    assert_int_equal(byte, 0);
    OK(f->t->free(a));
    OK(f->t->free(b));
    assert_silent(f);
}

/* ---- Copies ------------------------------------------------------------------------------------------------------ */

static void test_copies(void **state)
{
    GpuFixture   *f = *state;
    unsigned char from[BYTES], to[BYTES];
    CuPtr         a = device_bytes(f, BYTES), b = device_bytes(f, BYTES);
    for (int i = 0; i < BYTES; i++)
        from[i] = (unsigned char)(i * 7);
    OK(f->t->copy_to_host(to, a, BYTES, f->gpu->stream)); /* new memory is not 0 */
    assert_int_equal(to[0], 0xff);
    OK(f->t->copy_to_device(a, from, BYTES, f->gpu->stream));
    OK(f->t->copy_on_device(b, a, BYTES, f->gpu->copy_stream));
    OK(f->t->set_bytes(b + 10, 5, 20, f->gpu->stream));
    OK(f->t->copy_to_host(to, b, BYTES, f->gpu->stream));
    OK(f->t->stream_wait(f->gpu->stream));
    memset(from + 10, 5, 20);
    assert_memory_equal(to, from, BYTES);
    assert_int_equal(cuda_sim_counts().copies, 4);
}

static void test_copies_of_nothing(void **state)
{
    GpuFixture *f = *state;
    char        bytes[8] = "1234567";
    CuPtr       a = device_bytes(f, BYTES);
    OK(f->t->copy_to_device(a, bytes, 8, f->gpu->stream));
    OK(f->t->copy_on_device(a + 8, a, 8, f->gpu->stream));
    OK(f->t->copy_to_host(bytes, a + 8, 8, f->gpu->stream));
    assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(f->t->copy_to_host(bytes, a + BYTES - 4, 8, f->gpu->stream), CU_INVALID_VALUE);
    assert_said(f, "null GPU: copy to the host: 8 bytes at ");
}

/* Each mistake leaves a GPU of no use, so each opens its own. */
static void test_wrong_copies(void **state)
{
    enum { TO_DEVICE, TO_HOST, ON_DEVICE, SET };
    static const struct {
        int         call;
        const char *says;
        int64_t     offset, bytes; /* from the allocation's beginning */
        bool        freed, pinned;
    } cases[] = {
        { TO_DEVICE, "copy to the device: 9 bytes at ", BYTES - 8, 9, false, false },
        { TO_DEVICE, "reaches beyond the end of its allocation", 1, BYTES, false, false },
        { TO_DEVICE, "belongs to no allocation", -(1 << 20), 4, false, false },
        { TO_DEVICE, "was freed", 0, 4, true, false },
        { TO_DEVICE, "reach beyond the end of their cuMemAllocHost", 0, 65, false, true },
        { TO_HOST, "copy to the host: 9 bytes at ", BYTES - 8, 9, false, false },
        { TO_HOST, "was freed", 16, 4, true, false },
        { TO_HOST, "reach beyond the end of their cuMemAllocHost", 0, 65, false, true },
        { ON_DEVICE, "copy on the device, to: 9 bytes at ", BYTES - 8, 9, false, false },
        { ON_DEVICE, "the 16 bytes from and to overlap", 8, 16, false, false },
        { SET, "cuMemsetD8Async: 2000 bytes at ", 0, 2000, false, false },
        { SET, "was freed", 0, 4, true, false },
    };
    GpuFixture *f = *state;
    char        here[4096] = { 0 };
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        f->t = cuda_driver_sim(&f->a, &f->d, 0);
        f->gpu = gpu_open(&f->a, &f->d, f->t, 0);
        CuPtr    at = device_bytes(f, BYTES), p = at + (CuPtr)cases[i].offset;
        size_t   n = (size_t)cases[i].bytes;
        CuHandle s = f->gpu->stream;
        void    *host = here;
        if (cases[i].pinned)
            OK(f->t->alloc_host(&host, 64));
        if (cases[i].freed)
            OK(f->t->free(at));
        CuResult status = cases[i].call == TO_DEVICE   ? f->t->copy_to_device(p, host, n, s)
                          : cases[i].call == TO_HOST   ? f->t->copy_to_host(host, p, n, s)
                          : cases[i].call == ON_DEVICE ? f->t->copy_on_device(p, at, n, s)
                                                       : f->t->set_bytes(p, 0, n, s);
        assert_int_equal(status, CU_INVALID_VALUE);
        assert_said(f, cases[i].says);
        /* nothing runs any more, but everything can be given back */
        assert_int_equal(f->t->stream_wait(s), CU_INVALID_VALUE);
        if (!cases[i].freed)
            OK(f->t->free(at));
        if (cases[i].pinned)
            OK(f->t->free_host(host));
        gpu_close(f->gpu);
        assert_nothing_live();
    }
}

/* ---- Streams and functions of the host --------------------------------------------------------------------------- */

typedef struct Notes {
    const CudaDriver *t;
    CuHandle          stream;
    int               n;
    CuResult          status;
} Notes;

static void note(void *user)
{
    ((Notes *)user)->n++;
}

static void note_and_call(void *user)
{
    Notes *n = user;
    n->status = n->t->stream_wait(n->stream);
}

static void test_host_functions(void **state)
{
    GpuFixture *f = *state;
    Notes       n = { .t = f->t, .stream = f->gpu->stream };
    OK(f->t->launch_host(f->gpu->stream, note, &n));
    OK(f->t->launch_host(f->gpu->stream, note_and_call, &n));
    assert_int_equal(n.n, 1);
    assert_int_equal(n.status, CU_NOT_PERMITTED); /* as a driver says */
    assert_int_equal(cuda_sim_counts().host_calls, 2);
    assert_silent(f);
}

static void test_host_functions_not_run(void **state)
{
    GpuFixture *f = *state;
    Notes       n = { 0 };
    OK(f->t->launch_host(f->gpu->stream, note, &n));
    assert_int_equal(n.n, 0);
    assert_int_equal(cuda_sim_counts().host_calls, 1);
}

static void test_streams(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s;
    Notes       n = { 0 };
    OK(f->t->stream_new(&s, 1));
    assert_int_equal(f->t->stream_new(&s, 99), CU_INVALID_VALUE);
    OK(f->t->stream_free(s));
    assert_int_equal(f->t->stream_free(s), CU_INVALID_HANDLE);
    assert_said(f, "the stream was freed before");
    assert_int_equal(f->t->launch_host(s, note, &n), CU_INVALID_HANDLE);
    assert_said(f, "the stream was freed, or is none");
    assert_int_equal(f->t->stream_wait(s), CU_INVALID_HANDLE);
    assert_said(f, "cuStreamSynchronize: the stream was freed, or is none");
    assert_int_equal(f->t->launch_host(NULL, note, &n), CU_INVALID_HANDLE);
    assert_said(f, "work in the default stream");
    assert_int_equal(f->t->launch_host(&n, note, &n), CU_INVALID_HANDLE); /* no handle at all */
    assert_said(f, "the stream was freed, or is none");
    assert_int_equal(n.n, 0);
    OK(f->t->stream_wait(f->gpu->stream)); /* a wrong handle costs the call alone */
}

/* ---- Events ------------------------------------------------------------------------------------------------------ */

static void test_events(void **state)
{
    GpuFixture *f = *state;
    CuHandle    a, b, untimed;
    float       ms = -1;
    assert_int_equal(f->t->event_new(&a, 99), CU_INVALID_VALUE);
    OK(f->t->event_new(&untimed, 2));
    OK(f->t->event_record(untimed, f->gpu->stream));
    assert_int_equal(f->t->event_ms(&ms, untimed, untimed), CU_INVALID_HANDLE);
    assert_said(f, "an event was made without time");
    OK(f->t->event_free(untimed));
    OK(f->t->event_new(&a, 0));
    OK(f->t->event_new(&b, 0));
    OK(f->t->event_wait(a)); /* never recorded: there is nothing to wait for */
    OK(f->t->stream_wait_event(f->gpu->copy_stream, a, 0));
    assert_int_equal(f->t->event_ms(&ms, a, b), CU_INVALID_HANDLE);
    assert_said(f, "an event was not recorded");
    OK(f->t->event_record(a, f->gpu->stream));
    OK(f->t->event_record(b, f->gpu->copy_stream));
    OK(f->t->event_wait(b));
    OK(f->t->event_ms(&ms, a, b));
    assert_true(ms >= 0 && ms < 10000);
    assert_int_equal(cuda_sim_live().events, 2);
    OK(f->t->event_free(a));
    assert_int_equal(f->t->event_free(a), CU_INVALID_HANDLE);
    assert_said(f, "the event was freed before");
    assert_int_equal(f->t->event_record(a, f->gpu->stream), CU_INVALID_HANDLE);
    assert_said(f, "cuEventRecord: no such event or stream");
    OK(f->t->event_free(b));
}

/* ---- Messages ---------------------------------------------------------------------------------------------------- */

static void test_status_table(void **state)
{
    (void)state;
    for (int32_t i = 0; i < cuda_n_status; i++) {
        const CudaStatus *s = &cuda_status_table[i];
        assert_ptr_equal(cuda_status(s->status), s);
        assert_int_equal(strncmp(s->name, s->status ? "CUDA_ERROR_" : "CUDA_", s->status ? 11 : 5), 0);
        assert_true(s->text[0] != 0);
        if (i > 0)
            assert_true(s->status > s[-1].status);
    }
    assert_null(cuda_status(12345));
}

static CuResult say_nothing(CuResult error, const char **text)
{
    (void)error, (void)text;
    return CU_INVALID_VALUE;
}
static CuResult say_something_new(CuResult error, const char **text)
{
    (void)error;
    *text = "NEWER THAN THE TABLE";
    return CU_SUCCESS;
}

static void test_report(void **state)
{
    GpuFixture *f = *state;
    CudaDriver  t = *f->t;
    cuda_report(&f->d, &t, "cuMemAlloc_v2", CU_OUT_OF_MEMORY);
    assert_string_equal(f->d.text.s,
                        "error: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory\n"
                        "  help: take a smaller --batch; see with nvidia-smi whether another program holds "
                        "memory of this GPU, and with --print-plan what the step needs\n");
    assert_said(f, "");
    t.error_name = t.error_text = say_nothing;
    cuda_report(&f->d, &t, "cuInit", CU_SYSTEM_DRIVER_MISMATCH);
    assert_said(f, "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): ");
    cuda_report(&f->d, &t, "cuInit", 12345);
    assert_said(f, "cuInit: unknown status (12345): the driver does not say what it means\n  help: no known remedy");
    t.error_name = t.error_text = say_something_new;
    cuda_report(&f->d, &t, "cuInit", 12345);
    assert_said(f, "cuInit: NEWER THAN THE TABLE (12345): NEWER THAN THE TABLE\n  help: no known remedy");
    assert_true(gpu_ok(f->gpu, "cuInit", CU_SUCCESS));
    assert_silent(f);
    assert_false(gpu_ok(f->gpu, "cuLaunchKernel", CU_ILLEGAL_ADDRESS));
    assert_said(f, "cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS (700): ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_NEW(test_open),
        TEST_SIM(test_open_again),
        TEST_SIM(test_context),
        TEST_SIM(test_device),
        TEST_SIM(test_memory),
        TEST_NULL(test_memory),
        TEST_NULL(test_memory_of_nothing),
        TEST_SIM(test_copies),
        TEST_NULL(test_copies_of_nothing),
        TEST_SIM(test_wrong_copies),
        TEST_SIM(test_host_functions),
        TEST_NULL(test_host_functions_not_run),
        TEST_SIM(test_streams),
        TEST_SIM(test_events),
        TEST_SIM(test_status_table),
        TEST_SIM(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
