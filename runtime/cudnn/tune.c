/* tune.c: which of several plans is the fastest, by running each on the GPU in memory of its own.
 *
 * Each is run a few times unmeasured (the first loads code), then between events; its shortest run counts: what else
 * happens on a machine only adds. Nothing is known of the numbers that a network will have, and zeros are as good.
 *
 * Measuring is a service: when memory for it is short or a plan fails to run, that plan, or all, are not measured,
 * which the log says.
 *
 * Tested by tests/unit/test_cudnn_run.c on a null GPU, with plans that take known times. */
#include "runtime/cudnn/cudnn_impl.h"

#include <math.h>

enum { WARM_UPS = 3, RUNS = 5 };

typedef struct Trial {
    Cudnn            *c;
    const CudnnStage *st;
    CuPtr             at[STAGE_BINDINGS], workspace;
    CuHandle          events[RUNS + 1];
} Trial;

static bool trial_alloc(Trial *t, CuPtr *at, int64_t bytes)
{
    Gpu *g = t->c->gpu;
    return bytes == 0 || (g->t->alloc(at, (size_t)bytes) == CU_SUCCESS &&
                          g->t->set_bytes(*at, 0, (size_t)bytes, g->stream) == CU_SUCCESS);
}

static bool trial_open(Trial *t, int64_t workspace)
{
    bool ok = trial_alloc(t, &t->workspace, workspace);
    for (int32_t i = 0; ok && i < t->st->n_bindings; i++)
        ok = trial_alloc(t, &t->at[i], t->st->bindings[i].bytes);
    for (int32_t i = 0; ok && i <= RUNS; i++)
        ok = t->c->gpu->t->event_new(&t->events[i], 0) == CU_SUCCESS;
    return ok;
}

static void trial_close(Trial *t)
{
    const CudaDriver *d = t->c->gpu->t;
    (void)d->stream_wait(t->c->gpu->stream);
    for (int32_t i = 0; i <= RUNS; i++)
        if (t->events[i])
            (void)d->event_free(t->events[i]);
    for (int32_t i = 0; i < t->st->n_bindings; i++)
        if (t->at[i])
            (void)d->free(t->at[i]);
    if (t->workspace)
        (void)d->free(t->workspace);
}

/* Milliseconds of the shortest run; infinite: it failed. */
static float trial_run(Trial *t, const CudnnCandidate *k)
{
    Cudnn            *c = t->c;
    const CudaDriver *d = c->gpu->t;
    CudnnDescs        keep = { 0 };
    void             *at[STAGE_BINDINGS];
    float             best = INFINITY, ms = 0;
    for (int32_t i = 0; i < t->st->n_bindings; i++)
        at[i] = (void *)(uintptr_t)t->at[i];
    CudnnDesc pack = pack_new(c, &keep, t->st, at, (void *)(uintptr_t)t->workspace);
    bool      ok = !c->failure.status;
    for (int32_t i = 0; ok && i < WARM_UPS; i++)
        ok = cudnn_ok(c, c->api->execute(c->handle, k->plan, pack), "cudnnBackendExecute", "");
    ok = ok && d->event_record(t->events[0], c->gpu->stream) == CU_SUCCESS;
    for (int32_t i = 1; ok && i <= RUNS; i++)
        ok = cudnn_ok(c, c->api->execute(c->handle, k->plan, pack), "cudnnBackendExecute", "") &&
             d->event_record(t->events[i], c->gpu->stream) == CU_SUCCESS;
    ok = ok && d->event_wait(t->events[RUNS]) == CU_SUCCESS;
    for (int32_t i = 1; ok && i <= RUNS; i++) {
        ok = d->event_ms(&ms, t->events[i - 1], t->events[i]) == CU_SUCCESS;
        best = fminf(best, ms);
    }
    if (!ok)
        log_info("%s: engine %d is not measured%s%s", c->face.name, k->engine, c->failure.status ? ": " : "",
                 c->failure.text);
    cudnn_clear(c);
    descs_free(c, &keep);
    return ok ? best : INFINITY;
}

int32_t cudnn_tune(Cudnn *c, const CudnnStage *st, const CudnnCandidate *at, int32_t n)
{
    Trial   t = { .c = c, .st = st };
    int64_t workspace = 0;
    int32_t best = 0;
    float   best_ms = INFINITY;
    for (int32_t i = 0; i < n; i++)
        workspace = dt_max64(workspace, at[i].workspace);
    bool ok = trial_open(&t, workspace);
    if (!ok)
        log_info("%s: engines of %s are not measured: no memory for it", c->face.name, st->name);
    for (int32_t i = 0; ok && i < n; i++) {
        float ms = trial_run(&t, &at[i]);
        log_debug("%s: %s: engine %d, %lld bytes of work space: %.4f ms", c->face.name, st->name, at[i].engine,
                  (long long)at[i].workspace, (double)ms);
        if (ms < best_ms)
            best = i, best_ms = ms;
    }
    trial_close(&t);
    return best;
}
