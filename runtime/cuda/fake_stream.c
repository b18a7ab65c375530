/* fake_stream.c: the fake GPU's work: operations in streams, events between them, captures, graphs.
 *
 * Tested by tests/unit/test_gpu_driver.c and test_gpu_capture.c. */
#include "runtime/cuda/fake.h"

#include <string.h>

/* ---- Operations ---- */

static CuResult run_until(FakeObject *stream, int64_t end);

/* A host's address: nothing is known of it unless it lies in memory of cuMemAllocHost. */
static bool host_range(const void *at, size_t bytes, const char *what)
{
    CuPtr p = (CuPtr)(uintptr_t)at;
    for (int32_t i = 0; i < fake.blocks.len; i++) {
        const FakeBlock *b = &fake.blocks.at[i];
        if (!b->host || p < b->at || p - b->at >= b->bytes || bytes <= b->bytes - (p - b->at))
            continue;
        fake_wrong(CU_INVALID_VALUE, "%s: %zu bytes at %p reach beyond the end of their cuMemAllocHost", what, bytes,
                   at);
        return false;
    }
    return true;
}

static void *bytes_at(CuPtr at)
{
    return (void *)(uintptr_t)at;
}

static CuResult do_copy_to_device(const FakeOp *op)
{
    if (!fake_block(op->to, (int64_t)op->bytes, "copy to the device") ||
        !host_range(op->host, op->bytes, "copy to the device"))
        return CU_INVALID_VALUE;
    if (fake.kind->has_memory)
        memcpy(bytes_at(op->to), op->host, op->bytes);
    fake.counts.copies++;
    return CU_SUCCESS;
}

static CuResult do_copy_to_host(const FakeOp *op)
{
    if (!fake_block(op->from, (int64_t)op->bytes, "copy to the host") ||
        !host_range(op->host, op->bytes, "copy to the host"))
        return CU_INVALID_VALUE;
    if (fake.kind->has_memory)
        memcpy(op->host, bytes_at(op->from), op->bytes);
    else
        memset(op->host, 0, op->bytes);
    fake.counts.copies++;
    return CU_SUCCESS;
}

static CuResult do_copy_on_device(const FakeOp *op)
{
    if (!fake_block(op->to, (int64_t)op->bytes, "copy on the device, to") ||
        !fake_block(op->from, (int64_t)op->bytes, "copy on the device, from"))
        return CU_INVALID_VALUE;
    if (op->to < op->from + op->bytes && op->from < op->to + op->bytes)
        return fake_wrong(CU_INVALID_VALUE, "copy on the device: the %zu bytes from and to overlap", op->bytes);
    if (fake.kind->has_memory)
        memcpy(bytes_at(op->to), bytes_at(op->from), op->bytes);
    fake.counts.copies++;
    return CU_SUCCESS;
}

static CuResult do_set(const FakeOp *op)
{
    if (!fake_block(op->to, (int64_t)op->bytes, "cuMemsetD8Async"))
        return CU_INVALID_VALUE;
    if (fake.kind->has_memory)
        memset(bytes_at(op->to), op->value, op->bytes);
    return CU_SUCCESS;
}

static bool args_live(const FakeOp *op)
{
    for (int32_t i = 0; i < op->n_args; i++)
        if (op->args[i].bytes != 0 && !fake_block(op->args[i].at, op->args[i].bytes, "%s, buffer %d", op->name, i))
            return false;
    return true;
}

static CuResult do_kernel(const FakeOp *op)
{
    if (!op->object->live)
        return fake_wrong(CU_LAUNCH_FAILED, "%s: its module was unloaded", op->name);
    fake.counts.launches++;
    return args_live(op) ? fake.kind->launch(op) : CU_ILLEGAL_ADDRESS;
}

static CuResult do_host(const FakeOp *op)
{
    if (!args_live(op))
        return CU_ILLEGAL_ADDRESS;
    fake.counts.host_calls++;
    if (fake.kind->runs_host) {
        fake.in_host = true;
        op->fn(op->user);
        fake.in_host = false;
    }
    return CU_SUCCESS;
}

static CuResult do_record(const FakeOp *op)
{
    if (op->object->recorded < op->ticket) { /* an older record may come after a newer one, in another stream */
        op->object->recorded = op->ticket;
        op->object->seconds = time_now_s();
    }
    return CU_SUCCESS;
}

/* The event's stream works up to the record that was the last one when the wait was asked for. */
static CuResult do_wait(const FakeOp *op)
{
    FakeObject *event = op->object;
    while (event->live && event->recorded < op->ticket && event->stream->live &&
           event->stream->begun < event->stream->issued) {
        CuResult status = run_until(event->stream, event->stream->begun + 1);
        if (status)
            return status;
    }
    return CU_SUCCESS;
}

static CuResult do_graph(const FakeOp *op)
{
    CuResult status = CU_SUCCESS;
    for (int32_t i = 0; i < op->object->ops.len && !status; i++)
        status = fake_do(&op->object->ops.at[i]);
    fake.counts.graph_launches++;
    return status;
}

typedef CuResult (*OpFn)(const FakeOp *op);
// clang-format off
static const OpFn op_table[FAKE_OP_KINDS] = {
    [FAKE_COPY_TO_DEVICE] = do_copy_to_device,
    [FAKE_COPY_TO_HOST] = do_copy_to_host,
    [FAKE_COPY_ON_DEVICE] = do_copy_on_device,
    [FAKE_SET] = do_set,
    [FAKE_KERNEL] = do_kernel,
    [FAKE_HOST] = do_host,
    [FAKE_RECORD] = do_record,
    [FAKE_WAIT] = do_wait,
    [FAKE_GRAPH] = do_graph,
};
// clang-format on

/* What goes wrong while work is done ends all work, as in a GPU. */
CuResult fake_do(const FakeOp *op)
{
    if (!fake.fault)
        fake.fault = op_table[op->kind](op);
    return fake.fault;
}

/* ---- Streams ---- */

static void keep(Arena *a, FakeOps *ops, FakeOp op)
{
    op.args = op.n_args ? arena_copy(a, op.args, sizeof *op.args * (size_t)op.n_args) : NULL;
    op.name = op.name ? arena_strdup(a, op.name) : NULL;
    vec_push(a, ops, op);
}

static CuResult run_until(FakeObject *stream, int64_t end)
{
    while (stream->begun < end) {
        FakeOp op = stream->ops.at[stream->begun - (stream->issued - stream->ops.len)];
        stream->begun++;
        (void)fake_do(&op);
    }
    return fake.fault;
}

static CuResult run_all(FakeObject *stream)
{
    CuResult status = run_until(stream, stream->issued);
    bool     waits = false;
    stream->ops = (FakeOps){ 0 };
    for (int32_t i = 0; i < fake.objects.len; i++)
        waits |= fake.objects.at[i]->sort == FAKE_STREAM && fake.objects.at[i]->ops.len > 0;
    if (!waits)
        arena_reset(&fake.queue);
    return status;
}

void fake_flush(void)
{
    for (int32_t i = 0; i < fake.objects.len; i++)
        if (fake.objects.at[i]->live && fake.objects.at[i]->ops.len > 0 && fake.objects.at[i]->sort == FAKE_STREAM)
            (void)run_all(fake.objects.at[i]);
}

CuResult fake_issue(CuHandle stream, FakeOp op)
{
    CuResult    status = fake_ready();
    FakeObject *s = fake_object(stream, FAKE_STREAM);
    if (status)
        return status;
    if (!s)
        return fake_wrong(CU_INVALID_HANDLE, stream ? "the stream was freed, or is none"
                                                    : "work in the default stream, which waits for no other");
    if (s->capture) {
        keep(&s->capture->arena, &s->capture->ops, op);
        s->unjoined = !s->origin;
        return CU_SUCCESS;
    }
    if (!s->lazy) {
        s->issued++;
        s->begun++;
        return fake_do(&op);
    }
    keep(&fake.queue, &s->ops, op);
    s->issued++;
    return CU_SUCCESS;
}

CuResult fake_stream_new(CuHandle *stream, unsigned flags)
{
    CuResult status = fake_ready();
    if (status || flags > 1)
        return status ? status : CU_INVALID_VALUE;
    FakeObject *s = fake_object_new(FAKE_STREAM);
    s->lazy = fake.lazy >> fake.streams++ & 1;
    *stream = s->handle;
    return CU_SUCCESS;
}

static void capture_end_all(FakeObject *graph)
{
    for (int32_t i = 0; i < fake.objects.len; i++)
        if (fake.objects.at[i]->sort == FAKE_STREAM && fake.objects.at[i]->capture == graph) {
            fake.objects.at[i]->capture = NULL;
            fake.objects.at[i]->origin = fake.objects.at[i]->unjoined = false;
        }
}

CuResult fake_stream_free(CuHandle stream)
{
    FakeObject *s = fake_object(stream, FAKE_STREAM);
    if (!s)
        return fake_wrong(CU_INVALID_HANDLE, "cuStreamDestroy_v2: the stream was freed before, or is none");
    if (s->ops.len > 0)
        (void)run_all(s);
    FakeObject *graph = s->capture;
    if (graph) {
        capture_end_all(graph);
        fake_object_free(graph);
    }
    fake_object_free(s);
    return CU_SUCCESS;
}

CuResult fake_stream_wait(CuHandle stream)
{
    CuResult    status = fake_ready();
    FakeObject *s = fake_object(stream, FAKE_STREAM);
    if (status)
        return status;
    if (!s)
        return fake_wrong(CU_INVALID_HANDLE, "cuStreamSynchronize: the stream was freed, or is none");
    if (s->capture) {
        s->capture->broken = true;
        return CU_CAPTURE_UNSUPPORTED;
    }
    return s->ops.len > 0 ? run_all(s) : CU_SUCCESS;
}

CuResult fake_copy_to_device(CuPtr to, const void *from, size_t bytes, CuHandle stream)
{
    return fake_issue(
        stream, (FakeOp){ .kind = FAKE_COPY_TO_DEVICE, .to = to, .host = (void *)(uintptr_t)from, .bytes = bytes });
}

CuResult fake_copy_to_host(void *to, CuPtr from, size_t bytes, CuHandle stream)
{
    return fake_issue(stream, (FakeOp){ .kind = FAKE_COPY_TO_HOST, .host = to, .from = from, .bytes = bytes });
}

CuResult fake_copy_on_device(CuPtr to, CuPtr from, size_t bytes, CuHandle stream)
{
    return fake_issue(stream, (FakeOp){ .kind = FAKE_COPY_ON_DEVICE, .to = to, .from = from, .bytes = bytes });
}

CuResult fake_set_bytes(CuPtr at, unsigned char value, size_t n, CuHandle stream)
{
    return fake_issue(stream, (FakeOp){ .kind = FAKE_SET, .to = at, .value = value, .bytes = n });
}

/* ---- Events ---- */

enum { NO_TIME = 2 };

CuResult fake_event_new(CuHandle *event, unsigned flags)
{
    CuResult status = fake_ready();
    if (status || flags > 7)
        return status ? status : CU_INVALID_VALUE;
    FakeObject *e = fake_object_new(FAKE_EVENT);
    e->untimed = flags & NO_TIME;
    *event = e->handle;
    return CU_SUCCESS;
}

CuResult fake_event_free(CuHandle event)
{
    FakeObject *e = fake_object(event, FAKE_EVENT);
    if (!e)
        return fake_wrong(CU_INVALID_HANDLE, "cuEventDestroy_v2: the event was freed before, or is none");
    fake_flush(); /* a record of it may wait */
    fake_object_free(e);
    return CU_SUCCESS;
}

CuResult fake_event_record(CuHandle event, CuHandle stream)
{
    FakeObject *e = fake_object(event, FAKE_EVENT), *s = fake_object(stream, FAKE_STREAM);
    CuResult    status = fake_ready();
    if (status || !e || !s)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuEventRecord: no such event or stream");
    e->stream = s;
    e->capture = s->capture;
    e->ticket++;
    if (s->capture) { /* a point in the graph, which later work of other streams may join */
        e->recorded = s->capture->ops.len;
        return CU_SUCCESS;
    }
    return fake_issue(stream, (FakeOp){ .kind = FAKE_RECORD, .object = e, .ticket = e->ticket });
}

/* A captured event brings its capture into the stream that waits, or joins that stream's work to it. */
CuResult fake_stream_wait_event(CuHandle stream, CuHandle event, unsigned flags)
{
    FakeObject *e = fake_object(event, FAKE_EVENT), *s = fake_object(stream, FAKE_STREAM);
    CuResult    status = fake_ready();
    if (status || !e || !s || flags)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuStreamWaitEvent: no such event or stream");
    if (s->capture && e->capture != s->capture) {
        s->capture->broken = true;
        return CU_CAPTURE_ISOLATION;
    }
    if (!e->capture)
        return e->ticket ? fake_issue(stream, (FakeOp){ .kind = FAKE_WAIT, .object = e, .ticket = e->ticket })
                         : CU_SUCCESS;
    if (!e->capture->live)
        return CU_CAPTURED_EVENT;
    s->capture = e->capture;
    if (e->stream != s && e->stream->capture == s->capture && e->recorded == s->capture->ops.len)
        e->stream->unjoined = false;
    return CU_SUCCESS;
}

CuResult fake_event_wait(CuHandle event)
{
    FakeObject *e = fake_object(event, FAKE_EVENT);
    CuResult    status = fake_ready();
    if (status || !e)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuEventSynchronize: the event was freed, or is none");
    if (e->capture)
        return CU_CAPTURED_EVENT;
    return e->ticket ? fake_do(&(FakeOp){ .kind = FAKE_WAIT, .object = e, .ticket = e->ticket }) : CU_SUCCESS;
}

CuResult fake_event_ms(float *ms, CuHandle from, CuHandle to)
{
    FakeObject *a = fake_object(from, FAKE_EVENT), *b = fake_object(to, FAKE_EVENT);
    CuResult    status = fake_ready();
    if (status || !a || !b || !a->ticket || !b->ticket)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuEventElapsedTime: an event was not recorded");
    if (a->untimed || b->untimed)
        return fake_wrong(CU_INVALID_HANDLE, "cuEventElapsedTime: an event was made without time");
    if (a->capture || b->capture)
        return CU_CAPTURED_EVENT;
    if (a->recorded < a->ticket || b->recorded < b->ticket)
        return CU_NOT_READY;
    *ms = (float)(1e3 * (b->seconds - a->seconds));
    return CU_SUCCESS;
}

/* ---- Captures and graphs ---- */

CuResult fake_uncaptured(void)
{
    enum { RELAXED = 2 };
    CuResult status = CU_SUCCESS;
    for (int32_t i = 0; i < fake.objects.len; i++) {
        FakeObject *s = fake.objects.at[i];
        if (s->live && s->sort == FAKE_STREAM && s->origin && s->mode != RELAXED) {
            s->capture->broken = true;
            status = CU_CAPTURE_UNSUPPORTED;
        }
    }
    return status;
}

CuResult fake_capture_begin(CuHandle stream, int mode)
{
    CuResult    status = fake_ready();
    FakeObject *s = fake_object(stream, FAKE_STREAM);
    if (status || !s || s->capture || mode < 0 || mode > 2)
        return status ? status
                      : fake_wrong(CU_INVALID_VALUE, "cuStreamBeginCapture_v2: no such stream or mode, or it "
                                                     "is captured already");
    s->capture = fake_object_new(FAKE_CAPTURED);
    s->origin = true;
    s->mode = mode;
    return CU_SUCCESS;
}

CuResult fake_capture_end(CuHandle stream, CuHandle *graph)
{
    CuResult    status = fake_ready();
    FakeObject *s = fake_object(stream, FAKE_STREAM);
    *graph = NULL;
    if (status || !s || !s->capture)
        return status ? status : fake_wrong(CU_INVALID_VALUE, "cuStreamEndCapture: this stream is not captured");
    FakeObject *captured = s->capture;
    bool        unjoined = false, origin = s->origin;
    for (int32_t i = 0; i < fake.objects.len; i++) {
        FakeObject *o = fake.objects.at[i];
        unjoined |= o->live && o->sort == FAKE_STREAM && o->capture == captured && o->unjoined;
    }
    if (!origin) {
        captured->broken = true;
        return CU_CAPTURE_UNMATCHED;
    }
    status = captured->broken ? CU_CAPTURE_INVALIDATED : unjoined ? CU_CAPTURE_UNJOINED : CU_SUCCESS;
    capture_end_all(captured);
    if (status)
        fake_object_free(captured);
    else
        *graph = captured->handle;
    return status;
}

CuResult fake_graph_instantiate(CuHandle *exec, CuHandle graph, unsigned long long flags)
{
    CuResult    status = fake_ready();
    FakeObject *from = fake_object(graph, FAKE_CAPTURED);
    if (status || !from || flags)
        return status ? status : fake_wrong(CU_INVALID_VALUE, "cuGraphInstantiateWithFlags: no such graph");
    FakeObject *e = fake_object_new(FAKE_EXEC);
    for (int32_t i = 0; i < from->ops.len; i++)
        keep(&e->arena, &e->ops, from->ops.at[i]);
    *exec = e->handle;
    return CU_SUCCESS;
}

CuResult fake_graph_launch(CuHandle exec, CuHandle stream)
{
    FakeObject *e = fake_object(exec, FAKE_EXEC), *s = fake_object(stream, FAKE_STREAM);
    CuResult    status = fake_ready();
    if (status || !e)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuGraphLaunch: the graph was freed, or is none");
    if (s && s->capture)
        return fake_wrong(CU_NOT_SUPPORTED, "cuGraphLaunch: in a captured stream");
    return fake_issue(stream, (FakeOp){ .kind = FAKE_GRAPH, .object = e });
}

CuResult fake_graph_nodes(CuHandle graph, CuHandle *nodes, size_t *count)
{
    FakeObject *g = fake_object(graph, FAKE_CAPTURED);
    if (!g || nodes)
        return fake_wrong(CU_INVALID_VALUE, "cuGraphGetNodes: no such graph, or more than their number is asked for");
    *count = (size_t)g->ops.len;
    return fake_ready();
}

static CuResult graph_give_back(CuHandle graph, FakeSort sort, const char *call)
{
    FakeObject *g = fake_object(graph, sort);
    if (!g)
        return fake_wrong(CU_INVALID_HANDLE, "%s: the graph was freed before, or is none", call);
    fake_flush(); /* it may wait to be run */
    fake_object_free(g);
    return CU_SUCCESS;
}

CuResult fake_graph_free(CuHandle graph)
{
    return graph_give_back(graph, FAKE_CAPTURED, "cuGraphDestroy");
}

CuResult fake_graph_exec_free(CuHandle exec)
{
    return graph_give_back(exec, FAKE_EXEC, "cuGraphExecDestroy");
}
