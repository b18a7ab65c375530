/* evaluate.c: loss and measures on the test set. The eval program gives the loss of each sample, so that the padding of
 * the last batch is left out exactly and means are over samples, not over batches; sums are in double, in the set's
 * order. What else is measured says the task (task.c).
 *
 * Results are read when exec_depth() batches are on their way, so that a GPU never waits for the sums; where the task
 * looks at what went in, one batch at a time.
 *
 * Tested by tests/unit/test_train.c and test_restore.c. */
#include "runtime/runtime_impl.h"

#include <string.h>

bool evaluator_new(Arena *a, Diag *d, const EvalConfig *c, Evaluator *out)
{
    *out = (Evaluator){ .task = task_of(c->data), .eval = c->eval, .ssim = c->ssim, .normalise = c->normalise };
    if (!batch_inputs(d, c->eval, c->data, SPLIT_TEST, c->classes, true, &out->in))
        return false;
    const ProgTensor *image = out->in.image;
    out->loss_each = program_need(d, c->eval.program, TENSOR_OUTPUT, "loss_each", DTYPE_F32, 2,
                                  (const int64_t[]){ image->dim[0], 1 });
    if (!out->loss_each || !out->task->bind(d, out))
        return false;
    if (out->task->looks_at_batch)
        out->batch = host_batch_new(a, &out->in);
    out->valid = ARENA_ARRAY(a, int32_t, exec_depth(c->eval.exec, c->eval.index));
    out->loader = loader_new(a, d,
                             (LoaderConfig){ .data = c->data,
                                             .split = SPLIT_TEST,
                                             .batch = (int32_t)image->dim[0],
                                             .nhwc = image->nhwc,
                                             .normalise = c->normalise });
    return out->loader != NULL;
}

/* The results of step `number` of the program. */
static bool add_batch(Evaluator *e, int64_t number, int32_t valid)
{
    const float *loss_each = exec_output(e->eval.exec, e->eval.index, e->loss_each, number);
    e->counted += valid;
    for (int32_t i = 0; loss_each && i < valid; i++)
        e->loss += (double)loss_each[i];
    return loss_each && e->task->add(e, number, valid);
}

/* How many samples of it count; -1: reported. */
static int32_t next_batch(Evaluator *e)
{
    if (!e->task->looks_at_batch)
        return batch_next(e->loader, &e->in);
    int32_t valid = loader_next(e->loader, &e->batch.at);
    if (valid > 0)
        host_batch_put(&e->batch, &e->in, exec_input);
    return valid;
}

static void take_result(Evaluator *e, double seconds, EvalResult *out)
{
    const double n = (double)dt_max64(e->counted, 1);
    *out = (EvalResult){
        .ok = true, .samples = e->counted, .loss = e->loss / n, .score = e->task->score, .seconds = seconds
    };
    memcpy(out->measured, e->measured, sizeof e->measured);
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        out->measure[m] = e->measured[m] ? e->task->factor * e->sum[m] / n : 0;
    for (int32_t m = 0; m < MEASURE_COUNT && e->task->looks_at_batch && !e->has_input; m++)
        e->input[m] /= n;
    e->has_input = e->task->looks_at_batch;
    out->has_input = e->has_input;
    memcpy(out->input, e->input, sizeof e->input);
}

EvalEnd evaluator_run(Evaluator *e, Progress *p, EvalResult *out)
{
    const LoadedProgram eval = e->eval;
    const double        start = time_now_s();
    int32_t             batches = loader_batches(e->loader), depth = exec_depth(eval.exec, eval.index), read = 0;
    int64_t             first = 0; /* number of batch 0 */
    if (e->task->looks_at_batch)
        depth = 1;
    e->loss = 0;
    e->counted = 0;
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        e->sum[m] = 0;
    if (!e->has_input)
        memset(e->input, 0, sizeof e->input);
    loader_start(e->loader, 0, 0);
    for (int32_t b = 0; b < batches; b++) {
        e->valid[b % depth] = next_batch(e);
        int64_t number = e->valid[b % depth] > 0 ? exec_submit(eval.exec, eval.index) : -1;
        if (number < 0)
            return EVAL_FAILED;
        first = number - b;
        for (int32_t keep = b + 1 < batches ? depth - 1 : 0; b + 1 - read > keep; read++)
            if (!add_batch(e, first + read, e->valid[read % depth]))
                return EVAL_FAILED;
        progress_eval(p, b + 1, batches);
        if (interrupt_seen())
            return EVAL_INTERRUPTED;
    }
    take_result(e, time_now_s() - start, out);
    return EVAL_DONE;
}

void evaluator_free(Evaluator *e)
{
    loader_free(e->loader);
    e->loader = NULL;
}

EvalResult eval_run(Arena *a, Diag *d, const EvalConfig *c)
{
    EvalResult r = { 0 };
    Evaluator  e;
    if (evaluator_new(a, d, c, &e) && (!c->checkpoint || checkpoint_load(d, c->checkpoint, c->eval, NULL))) {
        Progress *p = progress_new(a, c->progress, 1);
        if (evaluator_run(&e, p, &r) != EVAL_DONE)
            r = (EvalResult){ 0 };
        progress_end(p);
    }
    evaluator_free(&e);
    return r;
}

int64_t eval_correct(const EvalResult *r)
{
    return (int64_t)(r->measure[MEASURE_TOP1] / 100 * (double)r->samples + 0.5);
}
