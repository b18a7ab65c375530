/* reestimate.c: running statistics of batch norms, found anew before the last evaluation (option reestimate-bn).
 *
 * While weights change, a running statistic is a mean over what many of them gave. Here it becomes the plain mean over
 * batches that the last weights see: training batches as they are, without augmentation. The program adds one batch
 * after another to the mean; the host says how much each counts, 1, 1/2, 1/3, ...
 *
 * An interrupted evaluation is begun anew by the resumed run, from the statistics of training: so they are put back.
 *
 * Tested by tests/e2e/test_restore.py. */
#include "runtime/train_impl.h"

/* A state as it was. */
typedef struct Kept {
    const ProgTensor *tensor;
    void             *values;
} Kept;

struct Reestimate {
    Arena arena;
    VEC(Kept) kept;
};

static bool keep_states(Reestimate *x, LoadedProgram p)
{
    for (int32_t i = 0; i < p.program->n_tensors; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (t->kind != TENSOR_STATE)
            continue;
        Kept k = { t, arena_alloc(&x->arena, (size_t)dtype_bytes(t->dtype, t->elems)) };
        if (!tensor_read(p.exec, p.index, t, k.values))
            return false;
        vec_push(&x->arena, &x->kept, k);
    }
    return true;
}

static bool run_batches(Trainer *t, Loader *l, const BatchInputs *in, const ProgTensor *rate)
{
    const LoadedProgram p = t->c->reestimate;
    const int64_t       n = dt_min64(t->c->reestimate_batches, loader_batches(l));
    loader_start(l, 0, 0);
    for (int64_t b = 0; b < n; b++) {
        if (batch_next(l, in) <= 0)
            return false;
        *(float *)exec_input(p.exec, p.index, rate) = (float)(1.0 / (double)(b + 1));
        if (exec_submit(p.exec, p.index) < 0)
            return false;
    }
    return true;
}

bool reestimate_run(Trainer *t)
{
    const LoadedProgram p = t->c->reestimate;
    BatchInputs         in;
    if (!p.program || !program_tensor(p.program, "rate")) /* no batch norm, nothing to find */
        return true;
    const ProgTensor *rate = program_need(t->d, p.program, TENSOR_INPUT, "rate", DTYPE_F32, 0, NULL);
    if (!rate || !batch_inputs(t->d, p, t->c->data, SPLIT_TRAIN, t->c->classes, false, &in))
        return false;
    Loader *l = train_loader(t, in.image, false);
    if (!l)
        return false;
    reestimate_free(t);
    t->reestimate = ARENA_NEW(t->a, Reestimate);
    t->reestimate->arena = arena_new("statistics");
    bool ok = keep_states(t->reestimate, p) && run_batches(t, l, &in, rate);
    loader_free(l);
    return ok;
}

bool reestimate_undo(Trainer *t)
{
    const LoadedProgram p = t->c->reestimate;
    bool                ok = true;
    for (int32_t i = 0; t->reestimate && i < t->reestimate->kept.len && ok; i++)
        ok = tensor_write(p.exec, p.index, t->reestimate->kept.at[i].tensor, t->reestimate->kept.at[i].values);
    return ok;
}

void reestimate_free(Trainer *t)
{
    if (t->reestimate)
        arena_free(&t->reestimate->arena);
    t->reestimate = NULL;
}
