/* evaluate.c: loss and top-1 on the test set. The eval program gives both per sample, so that the padding of the last
 * batch is left out exactly and the mean is over samples, not over batches; sums are in double, in the set's order.
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
    out->loss_each = exec_ptr(eval.exec, eval.index, loss);
    out->correct_each = exec_ptr(eval.exec, eval.index, correct);
    out->loader = loader_new(a, d,
                             (LoaderConfig){ .data = data,
                                             .split = SPLIT_TEST,
                                             .batch = (int32_t)shape[0],
                                             .nhwc = out->in.image->nhwc,
                                             .normalise = n });
    return out->loader != NULL;
}

bool evaluator_run(Evaluator *e, Progress *p, EvalResult *out)
{
    double  start = time_now_s(), loss = 0, correct = 0;
    int32_t batches = loader_batches(e->loader);
    loader_start(e->loader, 0, 0);
    for (int32_t b = 0; b < batches; b++) {
        int32_t valid = batch_next(e->loader, &e->in);
        exec_run(e->eval.exec, e->eval.index);
        for (int32_t i = 0; i < valid; i++) {
            loss += (double)e->loss_each[i];
            correct += (double)e->correct_each[i];
        }
        progress_eval(p, b + 1, batches);
        if (interrupt_seen())
            return false;
    }
    *out = (EvalResult){ .ok = true,
                         .samples = e->samples,
                         .correct = (int64_t)correct,
                         .loss = loss / (double)e->samples,
                         .top1 = 100 * correct / (double)e->samples,
                         .seconds = time_now_s() - start };
    return true;
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
        evaluator_run(&e, p, &r);
        progress_end(p);
    }
    evaluator_free(&e);
    return r;
}
