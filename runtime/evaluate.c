/* evaluate.c: loss and top-1 on the test set. The eval program gives both per sample, so that the padding of the last
 * batch is left out exactly and the mean is over samples, not over batches; sums are in double, in the set's order.
 * Results are read when exec_depth() batches are on their way, so that a GPU never waits for the sums.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/runtime_impl.h"

bool evaluator_new(Arena *a, Diag *d, LoadedProgram eval, const Dataset *data, int32_t classes, Normalise n,
                   Evaluator *out)
{
    *out = (Evaluator){ .eval = eval, .samples = data->count[SPLIT_TEST] };
    if (!batch_inputs(a, d, eval, data, classes, true, &out->in))
        return false;
    int64_t           shape[2] = { out->in.image->dim[0], 1 };
    const ProgTensor *loss = program_need(d, eval.program, TENSOR_OUTPUT, "loss_each", DTYPE_F32, 2, shape);
    const ProgTensor *correct = program_need(d, eval.program, TENSOR_OUTPUT, "correct_each", DTYPE_F32, 2, shape);
    if (!loss || !correct)
        return false;
    out->loss_each = loss;
    out->correct_each = correct;
    out->valid = ARENA_ARRAY(a, int32_t, exec_depth(eval.exec, eval.index));
    out->loader = loader_new(a, d,
                             (LoaderConfig){ .data = data,
                                             .split = SPLIT_TEST,
                                             .batch = (int32_t)shape[0],
                                             .nhwc = out->in.image->nhwc,
                                             .normalise = n });
    return out->loader != NULL;
}

/* The results of step `number` of the program. */
static bool add_batch(const Evaluator *e, int64_t number, int32_t valid, double *loss, double *correct)
{
    const LoadedProgram p = e->eval;
    const float        *loss_each = exec_output(p.exec, p.index, e->loss_each, number);
    const float        *correct_each = exec_output(p.exec, p.index, e->correct_each, number);
    if (!loss_each || !correct_each)
        return false;
    for (int32_t i = 0; i < valid; i++) {
        *loss += (double)loss_each[i];
        *correct += (double)correct_each[i];
    }
    return true;
}

EvalEnd evaluator_run(Evaluator *e, Progress *p, EvalResult *out)
{
    const LoadedProgram eval = e->eval;
    double              start = time_now_s(), loss = 0, correct = 0;
    int32_t             batches = loader_batches(e->loader), depth = exec_depth(eval.exec, eval.index), read = 0;
    int64_t             first = 0; /* number of batch 0 */
    loader_start(e->loader, 0, 0);
    for (int32_t b = 0; b < batches; b++) {
        e->valid[b % depth] = batch_next(e->loader, &e->in);
        int64_t number = exec_submit(eval.exec, eval.index);
        if (number < 0)
            return EVAL_FAILED;
        first = number - b;
        for (int32_t keep = b + 1 < batches ? depth - 1 : 0; b + 1 - read > keep; read++)
            if (!add_batch(e, first + read, e->valid[read % depth], &loss, &correct))
                return EVAL_FAILED;
        progress_eval(p, b + 1, batches);
        if (interrupt_seen())
            return EVAL_INTERRUPTED;
    }
    *out = (EvalResult){ .ok = true,
                         .samples = e->samples,
                         .correct = (int64_t)correct,
                         .loss = loss / (double)e->samples,
                         .top1 = 100 * correct / (double)e->samples,
                         .seconds = time_now_s() - start };
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
    if (evaluator_new(a, d, c->eval, c->data, c->classes, c->normalise, &e) &&
        (!c->checkpoint || checkpoint_load(d, c->checkpoint, c->eval, NULL))) {
        Progress *p = progress_new(a, c->progress, 1);
        if (evaluator_run(&e, p, &r) != EVAL_DONE)
            r = (EvalResult){ 0 };
        progress_end(p);
    }
    evaluator_free(&e);
    return r;
}
