/* test_gpu_capture.c: work of the simulated and the null GPU that is not done at once: captured in graphs, and in
 * streams that wait for somebody to wait (fake.h, cuda_sim_lazy). */
#include "tests/unit/gpu_fixture.h"

enum { BYTES = 1024 };

static CuPtr device_bytes(GpuFixture *f, size_t bytes)
{
    CuPtr at = 0;
    OK(f->t->alloc(&at, bytes));
    return at;
}

typedef struct Notes {
    int n;
} Notes;

static void note(void *user)
{
    ((Notes *)user)->n++;
}

/* ---- Captures and graphs ----------------------------------------------------------------------------------------- */

static void test_graph(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s = f->gpu->stream, graph, exec;
    CuPtr       at = device_bytes(f, BYTES);
    int         from = 1, to = 0;
    Notes       n = { 0 };
    size_t      nodes = 0;
    OK(f->t->capture_begin(s, 1));
    OK(f->t->copy_to_device(at, &from, sizeof from, s));
    OK(f->t->set_bytes(at, 9, 1, s));
    OK(f->t->launch_host(s, note, &n));
    OK(f->t->copy_on_device(at + 8, at, 8, s));
    OK(f->t->copy_to_host(&to, at + 8, sizeof to, s));
    OK(f->t->capture_end(s, &graph));
    assert_int_equal(to, 0); /* nothing was done yet */
    assert_int_equal(n.n, 0);
    OK(f->t->graph_nodes(graph, NULL, &nodes));
    assert_int_equal(nodes, 5);
    OK(f->t->graph_instantiate(&exec, graph, 0));
    assert_int_equal(cuda_sim_live().graphs, 2);
    OK(f->t->graph_free(graph)); /* is not needed by what was made of it */
    for (int i = 0; i < 3; i++) {
        from = 0x100 * (i + 1);
        OK(f->t->graph_launch(exec, s));
        assert_int_equal(to, from + 9);
    }
    assert_int_equal(n.n, 3);
    assert_int_equal(cuda_sim_counts().graph_launches, 3);
    OK(f->t->graph_exec_free(exec));
    assert_int_equal(f->t->graph_launch(exec, s), CU_INVALID_HANDLE);
    assert_said(f, "cuGraphLaunch: the graph was freed");
    assert_int_equal(f->t->graph_exec_free(exec), CU_INVALID_HANDLE);
    assert_said(f, "cuGraphExecDestroy: the graph was freed before");
    assert_int_equal(f->t->graph_free(graph), CU_INVALID_HANDLE);
    assert_said(f, "cuGraphDestroy: the graph was freed before");
    OK(f->t->free(at));
    gpu_close(f->gpu);
    assert_nothing_live();
}

/* A graph keeps addresses: memory that it works on must stay. */
static void test_graph_after_free(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s = f->gpu->stream, graph, exec;
    CuPtr       at = device_bytes(f, BYTES);
    OK(f->t->capture_begin(s, 0));
    OK(f->t->set_bytes(at, 0, BYTES, s));
    OK(f->t->capture_end(s, &graph));
    OK(f->t->graph_instantiate(&exec, graph, 0));
    OK(f->t->graph_launch(exec, s));
    OK(f->t->free(at));
    assert_int_equal(f->t->graph_launch(exec, s), CU_INVALID_VALUE);
    assert_said(f, "cuMemsetD8Async: 1024 bytes at ");
    OK(f->t->graph_free(graph));
    OK(f->t->graph_exec_free(exec));
}

typedef CuResult (*InCapture)(GpuFixture *f, CuHandle event);

static CuResult capture_alloc(GpuFixture *f, CuHandle event)
{
    (void)event;
    CuPtr at;
    return f->t->alloc(&at, BYTES);
}
static CuResult capture_alloc_host(GpuFixture *f, CuHandle event)
{
    (void)event;
    void *at;
    return f->t->alloc_host(&at, BYTES);
}
static CuResult capture_stream_wait(GpuFixture *f, CuHandle event)
{
    (void)event;
    return f->t->stream_wait(f->gpu->stream);
}
static CuResult capture_outside_event(GpuFixture *f, CuHandle event)
{
    return f->t->stream_wait_event(f->gpu->stream, event, 0);
}

/* What may not be done while a stream is captured says so and spoils the capture; the stream can be used again. */
static void test_capture_wrong(void **state)
{
    static const struct {
        InCapture call;
        CuResult  status;
    } cases[] = {
        { capture_alloc, CU_CAPTURE_UNSUPPORTED },
        { capture_alloc_host, CU_CAPTURE_UNSUPPORTED },
        { capture_stream_wait, CU_CAPTURE_UNSUPPORTED },
        { capture_outside_event, CU_CAPTURE_ISOLATION },
    };
    GpuFixture *f = *state;
    CuHandle    s = f->gpu->stream, graph = s, event;
    OK(f->t->event_new(&event, 0));
    OK(f->t->event_record(event, f->gpu->copy_stream));
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        OK(f->t->capture_begin(s, 0));
        assert_int_equal(cases[i].call(f, event), cases[i].status);
        assert_int_equal(f->t->capture_end(s, &graph), CU_CAPTURE_INVALIDATED);
        assert_null(graph);
        OK(f->t->stream_wait(s));
    }
    assert_int_equal(cuda_sim_live().graphs, 0);
    assert_int_equal(f->t->capture_end(s, &graph), CU_INVALID_VALUE);
    assert_said(f, "cuStreamEndCapture: this stream is not captured");
    OK(f->t->capture_begin(s, 0));
    assert_int_equal(f->t->capture_begin(s, 0), CU_INVALID_VALUE);
    assert_said(f, "it is captured already");
    OK(f->t->event_record(event, s));
    assert_int_equal(f->t->event_wait(event), CU_CAPTURED_EVENT);
    OK(f->t->capture_end(s, &graph));
    OK(f->t->graph_free(graph));
    OK(f->t->capture_begin(s, 2)); /* relaxed: at one's own risk */
    OK(capture_alloc(f, event));
    OK(f->t->capture_end(s, &graph));
    OK(f->t->graph_free(graph));
    assert_silent(f);
}

/* A second stream comes into the capture by an event and must be joined to the first before it ends. */
static void test_capture_fork(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s = f->gpu->stream, other = f->gpu->copy_stream, fork, join, graph = s, exec;
    CuPtr       at = device_bytes(f, BYTES);
    size_t      nodes;
    char        byte = 0;
    OK(f->t->event_new(&fork, 0));
    OK(f->t->event_new(&join, 0));
    for (int joined = 0; joined < 2; joined++) {
        OK(f->t->capture_begin(s, 0));
        OK(f->t->set_bytes(at, 1, 1, s));
        OK(f->t->event_record(fork, s));
        OK(f->t->stream_wait_event(other, fork, 0));
        OK(f->t->set_bytes(at + 1, 2, 1, other));
        OK(f->t->event_record(join, other));
        if (joined)
            OK(f->t->stream_wait_event(s, join, 0));
        assert_int_equal(f->t->capture_end(s, &graph), joined ? CU_SUCCESS : CU_CAPTURE_UNJOINED);
    }
    OK(f->t->graph_nodes(graph, NULL, &nodes));
    assert_int_equal(nodes, 2);
    OK(f->t->graph_instantiate(&exec, graph, 0));
    OK(f->t->graph_launch(exec, s));
    OK(f->t->copy_to_host(&byte, at + 1, 1, s));
    assert_int_equal(byte, 2);
    OK(f->t->copy_to_host(&byte, at + 1, 1, other)); /* it is a stream like any other again */
    /* the capture ends where it began */
    OK(f->t->capture_begin(s, 0));
    OK(f->t->event_record(fork, s));
    OK(f->t->stream_wait_event(other, fork, 0));
    CuHandle wrong = s;
    assert_int_equal(f->t->capture_end(other, &wrong), CU_CAPTURE_UNMATCHED);
    assert_int_equal(f->t->capture_end(s, &wrong), CU_CAPTURE_INVALIDATED);
    assert_null(wrong);
    assert_silent(f);
}

/* A stream that goes takes its capture along. */
static void test_capture_stream_freed(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s;
    OK(f->t->stream_new(&s, 1));
    OK(f->t->capture_begin(s, 0));
    assert_int_equal(cuda_sim_live().graphs, 1);
    OK(f->t->stream_free(s));
    assert_int_equal(cuda_sim_live().graphs, 0);
    CuPtr at = device_bytes(f, 8); /* nothing is captured now */
    OK(f->t->free(at));
}

/* ---- Lazy streams ------------------------------------------------------------------------------------------------ */

/* One stream fills memory, the other copies it to the host: with an event between them, or without. */
static int across_streams(GpuFixture *f, bool event, uint32_t lazy)
{
    CuHandle made;
    CuPtr    at = device_bytes(f, 4);
    int      value = 0;
    OK(f->t->event_new(&made, 2));
    OK(f->t->set_bytes(at, 1, 4, f->gpu->stream));
    OK(f->t->stream_wait(f->gpu->stream));
    cuda_sim_lazy(lazy);
    OK(f->t->set_bytes(at, 2, 4, f->gpu->copy_stream));
    if (event) {
        OK(f->t->event_record(made, f->gpu->copy_stream));
        OK(f->t->stream_wait_event(f->gpu->stream, made, 0));
    }
    OK(f->t->copy_to_host(&value, at, 4, f->gpu->stream));
    OK(f->t->stream_wait(f->gpu->stream));
    OK(f->t->event_free(made));
    OK(f->t->free(at));
    return value;
}

static void test_lazy(void **state)
{
    GpuFixture *f = *state;
    for (uint32_t lazy = 0; lazy < 4; lazy++)
        assert_int_equal(across_streams(f, true, lazy), 0x02020202);
    assert_int_equal(across_streams(f, false, 0), 0x02020202); /* at once: the mistake does not show */
    assert_int_equal(across_streams(f, false, 2), 0x01010101); /* the copy comes too early */
    assert_int_equal(across_streams(f, false, 3), 0x01010101);
    assert_silent(f);
}

/* Work that waits is done for: an event that the host waits for, the end of memory that it uses, its stream's end. */
static void test_lazy_ends(void **state)
{
    GpuFixture *f = *state;
    CuHandle    s = f->gpu->stream, event, other;
    Notes       n = { 0 };
    float       ms;
    OK(f->t->event_new(&event, 0));
    cuda_sim_lazy(1);
    OK(f->t->launch_host(s, note, &n));
    OK(f->t->event_record(event, s));
    OK(f->t->launch_host(s, note, &n));
    assert_int_equal(n.n, 0);
    assert_int_equal(f->t->event_ms(&ms, event, event), CU_NOT_READY);
    OK(f->t->event_wait(event));
    assert_int_equal(n.n, 1); /* not more than must be */
    OK(f->t->event_ms(&ms, event, event));
    OK(f->t->free(device_bytes(f, 8)));
    assert_int_equal(n.n, 2);
    OK(f->t->launch_host(s, note, &n));
    cuda_sim_lazy(4); /* the third stream from now on */
    assert_int_equal(n.n, 3);
    OK(f->t->stream_new(&other, 0));
    OK(f->t->launch_host(other, note, &n));
    OK(f->t->launch_host(s, note, &n));
    assert_int_equal(n.n, 4);
    OK(f->t->stream_free(other));
    assert_int_equal(n.n, 5);
}

/* A mistake in work that waits shows where the host waits for it, as with a real one. */
static void test_lazy_mistake(void **state)
{
    GpuFixture *f = *state;
    CuPtr       at = device_bytes(f, 8);
    cuda_sim_lazy(1);
    OK(f->t->set_bytes(at, 0, 9, f->gpu->stream));
    assert_silent(f);
    assert_int_equal(f->t->stream_wait(f->gpu->stream), CU_INVALID_VALUE);
    assert_said(f, "cuMemsetD8Async: 9 bytes at ");
    assert_int_equal(f->t->set_bytes(at, 0, 8, f->gpu->stream), CU_INVALID_VALUE);
    OK(f->t->free(at));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SIM(test_graph),          TEST_SIM(test_graph_after_free), TEST_SIM(test_capture_wrong),
        TEST_NULL(test_capture_wrong), TEST_SIM(test_capture_fork),     TEST_SIM(test_capture_stream_freed),
        TEST_SIM(test_lazy),           TEST_SIM(test_lazy_ends),        TEST_SIM(test_lazy_mistake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
