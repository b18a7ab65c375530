/* exec_gpu_step.c: one step.
 *
 *   copy stream   [image i -> staging i]  copied i
 *   main stream                              wait  [staging i -> io]  consumed i  [launches]  [outputs -> ring]  done
 *
 * Stages take turns, so the inputs of step k + 1 travel while step k runs. Work on one stream is done in order, so only
 * the two streams and the host wait for events: the copy into a stage for the step that last read it, the host's
 * writing for the copy that last read its image. That also keeps the host from running ahead more than a few steps.
 *
 * The first run of a program waits after each launch, so that an error is told with the launch that caused it, and code
 * that drivers load at first use is loaded. The second run's launches are captured; from then on a step is a few copies
 * and one graph.
 *
 * Tested by tests/unit/test_gpu_exec.c. */
#include "runtime/cuda/exec_gpu.h"

enum { CAPTURE_THREAD_LOCAL = 1 };

/* ---- Launches -------------------------------------------------------------------------------------------------- */

static bool launch(GpuExec *x, GpuLoaded *l, int32_t i)
{
    const Launch    *what = &l->base.program->launches[i];
    const GpuLaunch *g = &l->launches[i];
    if (x->gpu->t->watch)
        x->gpu->t->watch(what, g->at);
    if (what->kind == LAUNCH_KERNEL) {
        const GpuKernel *k = l->base.program->images[what->image].gpu;
        return CU(x, launch, g->function, (unsigned)k->grid, 1, 1, (unsigned)k->block, 1, 1, 0, x->gpu->stream,
                  g->params, NULL);
    }
    CallLib *lib = x->base.lib;
    void    *scratch = (void *)(uintptr_t)x->shared[ARENA_SCRATCH].at;
    if (lib->run(lib->self, l->base.prepared[i], g->params, scratch))
        return true;
    x->base.failed = true;
    return false;
}

/* wait: after each, for the error that it may have caused. */
static bool launch_all(GpuExec *x, GpuLoaded *l, bool wait)
{
    const Program *p = l->base.program;
    if (l->marks && !CU(x, event_record, l->marks[0], x->gpu->stream))
        return false;
    for (int32_t i = 0; i < p->n_launches; i++) {
        bool ok = launch(x, l, i) && (!l->marks || CU(x, event_record, l->marks[i + 1], x->gpu->stream)) &&
                  (!wait || CU(x, stream_wait, x->gpu->stream));
        if (!ok) {
            diag_note(x->base.d, LOC_NONE, "in launch %d of %d, %s, of program %s", i + 1, p->n_launches,
                      p->launches[i].name, p->name);
            return false;
        }
    }
    return true;
}

static bool add_times(GpuExec *x, GpuLoaded *l)
{
    for (int32_t i = 0; i < l->base.program->n_launches; i++) {
        float ms = 0;
        if (!CU(x, event_ms, &ms, l->marks[i], l->marks[i + 1]))
            return false;
        l->base.seconds[i] += (double)ms * 1e-3;
    }
    return true;
}

void gpu_graph_drop(GpuExec *x, GpuLoaded *l)
{
    if (l->graph)
        (void)CU(x, graph_exec_free, l->graph);
    l->graph = NULL;
    l->nodes = 0;
}

/* The stream must leave the mode even after a failure, and the graph itself is not needed once it can be launched. */
static bool capture(GpuExec *x, GpuLoaded *l)
{
    CuHandle graph = NULL;
    if (!CU(x, capture_begin, x->gpu->stream, CAPTURE_THREAD_LOCAL))
        return false;
    bool ok = launch_all(x, l, false);
    ok = CU(x, capture_end, x->gpu->stream, &graph) && ok && CU(x, graph_nodes, graph, NULL, &l->nodes) &&
         CU(x, graph_instantiate, &l->graph, graph, 0);
    return (!graph || CU(x, graph_free, graph)) && ok;
}

static bool launches(GpuExec *x, GpuLoaded *l)
{
    const Program *p = l->base.program;
    bool           first = !l->warm;
    l->warm = true;
    if (first || x->base.opt.no_graph || l->marks || p->n_launches == 0)
        return launch_all(x, l, first && !l->marks);
    if (!l->graph && !capture(x, l)) {
        diag_note(x->base.d, LOC_NONE, "while the launches of program %s were captured as a graph", p->name);
        return false;
    }
    return CU(x, graph_launch, l->graph, x->gpu->stream);
}

/* ---- Copies ---------------------------------------------------------------------------------------------------- */

static bool copy_inputs(GpuExec *x, GpuLoaded *l, int32_t stage)
{
    const Gpu *g = x->gpu;
    CuPtr      staging = l->staging.at + (CuPtr)(stage * l->inputs.packed_bytes);
    if (l->inputs.n == 0)
        return true;
    if (l->staged[stage] && !CU(x, stream_wait_event, g->copy_stream, l->consumed[stage], 0))
        return false;
    for (int32_t i = 0; i < l->inputs.n; i++) {
        const Span *s = &l->inputs.at[i];
        if (!CU(x, copy_to_device, staging + (CuPtr)s->packed, l->image[stage] + s->image, (size_t)s->bytes,
                g->copy_stream))
            return false;
    }
    if (!CU(x, event_record, l->copied[stage], g->copy_stream) ||
        !CU(x, stream_wait_event, g->stream, l->copied[stage], 0))
        return false;
    for (int32_t i = 0; i < l->inputs.n; i++) {
        const Span *s = &l->inputs.at[i];
        if (!CU(x, copy_on_device, gpu_address(x, l, s->at), staging + (CuPtr)s->packed, (size_t)s->bytes, g->stream))
            return false;
    }
    l->staged[stage] = true;
    return CU(x, event_record, l->consumed[stage], g->stream);
}

/* Into the ring slot of step `number`; -1: into image 0. */
static bool copy_outputs(GpuExec *x, GpuLoaded *l, int64_t number)
{
    for (int32_t i = 0; i < l->outputs.n; i++) {
        const Span *s = &l->outputs.at[i];
        char       *to =
            number < 0 ? l->image[0] + s->image : l->ring + number % l->depth * l->outputs.packed_bytes + s->packed;
        if (!CU(x, copy_to_host, to, gpu_address(x, l, s->at), (size_t)s->bytes, x->gpu->stream))
            return false;
    }
    return true;
}

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

/* A program's results are there when its stream is done. */
static bool wait_all(GpuExec *x, GpuLoaded *l)
{
    if (CU(x, stream_wait, x->gpu->stream))
        return !l->marks || add_times(x, l);
    diag_note(x->base.d, LOC_NONE, "in a step of program %s", l->base.program->name);
    return false;
}

bool gpu_step_run(Exec *e, Loaded *base)
{
    GpuExec   *x = (GpuExec *)e;
    GpuLoaded *l = (GpuLoaded *)base;
    return copy_inputs(x, l, 0) && launches(x, l) && copy_outputs(x, l, -1) && wait_all(x, l);
}

/* An address even after a failure: the step that is not going to run may be prepared. */
void *gpu_step_input(Exec *e, Loaded *base, const ProgTensor *t)
{
    GpuExec   *x = (GpuExec *)e;
    GpuLoaded *l = (GpuLoaded *)base;
    int32_t    stage = (int32_t)(base->submitted % STAGES);
    if (!l->writable && l->staged[stage] && !e->failed)
        (void)CU(x, event_wait, l->copied[stage]);
    l->writable = true;
    return gpu_image(l, stage, t);
}

bool gpu_step_submit(Exec *e, Loaded *base)
{
    GpuExec   *x = (GpuExec *)e;
    GpuLoaded *l = (GpuLoaded *)base;
    int64_t    number = base->submitted;
    l->writable = false;
    return copy_inputs(x, l, (int32_t)(number % STAGES)) && launches(x, l) && copy_outputs(x, l, number) &&
           CU(x, event_record, l->done[number % l->depth], x->gpu->stream) && (!l->marks || wait_all(x, l));
}

const void *gpu_step_output(Exec *e, Loaded *base, const ProgTensor *t, int64_t number)
{
    GpuExec   *x = (GpuExec *)e;
    GpuLoaded *l = (GpuLoaded *)base;
    if (CU(x, event_wait, l->done[number % l->depth]))
        return gpu_ring(l, number, t);
    diag_note(e->d, LOC_NONE, "in step %lld of program %s", (long long)number + 1, base->program->name);
    return NULL;
}
