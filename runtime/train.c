/* train.c: the loop.
 *
 *   check everything -> first values (or the checkpoint) -> epochs: steps, test, record, save       (train_start.c)
 *
 * The loop's whole memory is TrainState and the program's params and states, all in each checkpoint. An epoch is closed
 * (tested, recorded) after its last step; a checkpoint may lie between the two, as after a Ctrl-C during the test, and
 * the resumed run then begins by closing. Rows of metrics are written before the checkpoint that counts them, so a kill
 * in between only leaves rows that resuming cuts off and writes again.
 *
 * Steps are submitted without waiting for the ones before; their losses are read later, in order, and all of them
 * before anything is recorded or saved. So it makes no difference to any number how many steps are on their way (on the
 * host: none; on a GPU up to exec_depth()). All of them are read, too, before another phase's program begins and before
 * quantizers are looked at (inspect.c).
 *
 * A run of no epochs (post-training quantization) tests once, records that as epoch 0 and is done.
 *
 * Tested by tests/unit/test_train.c: killed and resumed runs against one that was left alone, byte by byte. */
#include "runtime/train_impl.h"

#include <math.h>

/* ---- Steps ----------------------------------------------------------------------------------------------------- */

/* The first param with elements that are not finite. */
static void report_bad_param(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    for (int32_t i = 0; i < p.program->n_tensors; i++) {
        const ProgTensor *x = &p.program->tensors[i];
        if (x->kind != TENSOR_PARAM || x->dtype != DTYPE_F32)
            continue;
        Arena   scratch = arena_new("diverged");
        float  *values = ARENA_ARRAY(&scratch, float, x->elems);
        int64_t bad = 0;
        if (tensor_read(p.exec, p.index, x, values))
            for (int64_t k = 0; k < x->elems; k++)
                bad += !isfinite(values[k]);
        arena_free(&scratch);
        if (bad) {
            diag_note(t->d, LOC_NONE,
                      "after it, %lld of %lld elements of param %s are not finite (it is the first such)",
                      (long long)bad, (long long)x->elems, x->name);
            return;
        }
    }
}

/* The step after s.step gave a loss that is not finite; others may have followed it already. */
static void report_divergence(Trainer *t, double loss, float lr)
{
    const int64_t step = t->s.step + 1;
    progress_end(t->progress);
    diag_error(t->d, LOC_NONE, "train: the loss is %g at step %lld (epoch %lld, learning rate %g)", loss,
               (long long)step, (long long)t->s.epoch + 1, (double)lr);
    report_bad_param(t);
    inspector_blame(t, t->s.step);
    diag_help(t->d, "%s was left as it was; try a smaller learning rate or a longer warm-up", t->last);
    rundir_log(t->dir, "stops: loss %g at step %lld", loss, (long long)step);
}

static int64_t epoch_end(const Trainer *t)
{
    return (t->s.epoch + 1) * t->schedule.steps_per_epoch;
}

static double percent(const Trainer *t, double correct, int64_t steps)
{
    return 100 * correct / (double)dt_max64(steps * t->batch, 1);
}

static bool record_step(Trainer *t)
{
    TrainState *s = &t->s;
    MetricRow   row = { .epoch = s->epoch + 1,
                        .step = s->step,
                        .lr = (double)t->last_lr,
                        .train_loss = s->row_loss / (double)s->row_steps,
                        .train_top1 = percent(t, s->row_correct, s->row_steps) };
    s->row_loss = s->row_correct = 0;
    s->row_steps = 0;
    return rundir_metric(t->d, t->dir, &row);
}

static void show_step(Trainer *t)
{
    const TrainState *s = &t->s;
    const int64_t     steps = t->schedule.steps_per_epoch;
    progress_step(t->progress, &(ProgressStep){ .epoch = s->epoch + 1,
                                                .epochs = t->schedule.epochs,
                                                .step = s->step - s->epoch * steps,
                                                .steps = steps,
                                                .done = s->step,
                                                .total = t->limit,
                                                .batch = t->batch,
                                                .loss = s->epoch_loss / (double)s->epoch_steps,
                                                .top1 = percent(t, s->epoch_correct, s->epoch_steps),
                                                .lr = (double)t->last_lr,
                                                .wait_s = loader_wait_s(t->loader) });
}

static void set_u32(Trainer *t, const ProgTensor *x, uint32_t value)
{
    if (x)
        *(uint32_t *)exec_input(t->now->p.exec, t->now->p.index, x) = value;
}

/* The program of that step. */
static TrainProgram *program_at(const Trainer *t, int64_t step)
{
    int32_t i = 0;
    while (i + 1 < t->n_programs && t->programs[i + 1].from_step <= step)
        i++;
    return &t->programs[i];
}

static bool submit_step(Trainer *t)
{
    t->now = program_at(t, t->submitted);
    const LoadedProgram p = t->now->p;
    const uint64_t      seed = t->c->id.seed;
    int32_t             got = batch_next(t->loader, &t->now->in);
    float               lr = (float)schedule_lr(&t->schedule, t->submitted);
    DT_ASSERT(got == t->batch, "a training batch of %d samples at step %lld", got, (long long)t->submitted);
    *(float *)exec_input(p.exec, p.index, t->now->lr) = lr;
    set_u32(t, t->now->step, (uint32_t)t->submitted);
    set_u32(t, t->now->seed, (uint32_t)(seed ^ seed >> 32)); /* a program's seed has 32 bits */
    int64_t number = exec_submit(p.exec, p.index);
    t->flying[t->submitted % t->now->depth] = (Flying){ number, lr };
    t->submitted += number >= 0;
    return number >= 0;
}

/* The results of the oldest step on its way. */
static TrainStatus read_step(Trainer *t)
{
    const LoadedProgram p = t->now->p;
    TrainState         *s = &t->s;
    const Flying        f = t->flying[s->step % t->now->depth];
    const float        *loss_at = exec_output(p.exec, p.index, t->now->loss, f.number);
    const float        *correct_at = exec_output(p.exec, p.index, t->now->correct, f.number);
    if (!loss_at || !correct_at)
        return TRAIN_FAILED;
    double loss = (double)*loss_at, correct = (double)*correct_at;
    if (!isfinite(loss)) {
        report_divergence(t, loss, f.lr);
        return TRAIN_DIVERGED;
    }
    t->last_lr = f.lr;
    s->step++;
    s->epoch_loss += loss;
    s->epoch_correct += correct;
    s->epoch_steps++;
    s->row_loss += loss;
    s->row_correct += correct;
    s->row_steps++;
    return s->step % t->log_every != 0 || record_step(t) ? TRAIN_DONE : TRAIN_FAILED;
}

/* Until only `keep` steps are on their way. */
static TrainStatus read_steps(Trainer *t, int64_t keep)
{
    TrainStatus status = TRAIN_DONE;
    while (status == TRAIN_DONE && t->submitted - t->s.step > keep)
        status = read_step(t);
    if (status == TRAIN_DONE)
        show_step(t);
    return status;
}

static TrainStatus stop_for_signal(Trainer *t)
{
    if (!train_save(t, t->last))
        return TRAIN_FAILED;
    rundir_log(t->dir, "interrupted after step %lld", (long long)t->s.step);
    progress_say(t->progress, "interrupted after step %lld; go on with --resume %s", (long long)t->s.step, t->r.dir);
    return TRAIN_INTERRUPTED;
}

/* Must every step be read before the next one is submitted? */
static bool read_all_due(const Trainer *t, int64_t end)
{
    return t->submitted == end || t->submitted % t->log_every == 0 || program_at(t, t->submitted) != t->now ||
           (t->inspector && inspector_due(t->inspector, t->submitted));
}

/* The steps of the open epoch, up to its end or the limit. When as many are on their way as can be, the older half is
 * read: those are done by then, and nothing waits. */
static TrainStatus run_steps(Trainer *t)
{
    const int64_t end = dt_min64(epoch_end(t), t->limit), first = t->s.step - t->s.epoch * t->schedule.steps_per_epoch;
    t->submitted = t->s.step;
    if (t->s.step < end)
        loader_start(t->loader, (int32_t)t->s.epoch, (int32_t)first);
    while (t->submitted < end) {
        if (!submit_step(t))
            return TRAIN_FAILED;
        bool stop = interrupt_seen();
        bool save_due = t->c->save_every && t->submitted % t->c->save_every == 0 && t->submitted < end;
        bool all = stop || save_due || read_all_due(t, end);
        if (!all && t->submitted - t->s.step < t->now->depth)
            continue;
        TrainStatus status = read_steps(t, all ? 0 : t->now->depth / 2);
        if (status != TRAIN_DONE)
            return status;
        if (t->inspector && inspector_due(t->inspector, t->submitted) && !inspector_run(t))
            return TRAIN_FAILED;
        if (stop)
            return stop_for_signal(t);
        if (save_due && !train_save(t, t->last))
            return TRAIN_FAILED;
    }
    return TRAIN_DONE;
}

/* ---- Epochs ---------------------------------------------------------------------------------------------------- */

/* One test set, seen twice where there is a regularizer: rounded, and clipped alone. */
typedef struct TestResult {
    EvalResult rounded, clamped; /* ok false: was not made */
} TestResult;

static TrainStatus test(Trainer *t, TestResult *out)
{
    EvalEnd end = evaluator_run(&t->evaluator, t->progress, &out->rounded);
    if (end == EVAL_DONE && t->clamped.loader)
        end = evaluator_run(&t->clamped, t->progress, &out->clamped);
    if (end != EVAL_DONE)
        return end == EVAL_INTERRUPTED ? stop_for_signal(t) : TRAIN_FAILED;
    t->r.tested = true;
    t->r.test_loss = out->rounded.loss;
    t->r.test_top1 = out->rounded.top1;
    t->r.clamped = out->clamped.ok;
    t->r.test_loss_clamped = out->clamped.loss;
    t->r.test_top1_clamped = out->clamped.top1;
    return TRAIN_DONE;
}

/* The metrics so far, for TensorBoard. The run needs them for nothing, so it goes on without. */
static void write_events(Trainer *t)
{
    progress_end(t->progress); /* should there be something to report */
    if (!events_write(t->events_warned ? NULL : t->d, t->r.dir))
        t->events_warned = true;
}

/* "  test loss 0.1234  top-1 97.00%  clamped 97.50%" */
static void say_test(Str *line, const TestResult *r)
{
    if (!r->rounded.ok)
        return;
    str_printf(line, "  test loss %.4f  top-1 %.2f%%", r->rounded.loss, r->rounded.top1);
    if (r->clamped.ok)
        str_printf(line, "  clamped %.2f%%", r->clamped.top1);
}

/* What a person reads of an epoch. */
static void say_epoch(Trainer *t, const MetricRow *row, const TestResult *r, double seconds)
{
    Arena  scratch = arena_new("epoch");
    Str    line = str_new(&scratch);
    char   took[32];
    double mean, worst;
    if (row->untrained)
        str_add(&line, "without training");
    else
        str_printf(&line, "epoch %lld/%lld  train loss %.4f  top-1 %.2f%%", (long long)row->epoch,
                   (long long)t->schedule.epochs, row->train_loss, row->train_top1);
    say_test(&line, r);
    if (row->tested && t->s.best_epoch > 0)
        str_printf(&line, "  best %.2f%% (epoch %lld)", t->s.best_top1, (long long)t->s.best_epoch);
    if (t->inspector && inspector_convergence(t->inspector, row->step, &mean, &worst))
        str_printf(&line, "  convergence %.2g (worst %.2g)", mean, worst);
    progress_say(t->progress, "%s  %s", line.s, progress_duration(took, seconds));
    rundir_log(t->dir, "%s  %.1f s", line.s, seconds);
    arena_free(&scratch);
}

/* Writes the row and its lines. */
static bool record(Trainer *t, MetricRow row, const TestResult *r, double seconds)
{
    row.epoch_end = true;
    row.step = t->s.step;
    row.tested = r->rounded.ok;
    row.test_loss = r->rounded.loss;
    row.test_top1 = r->rounded.top1;
    row.best_top1 = t->s.best_top1;
    row.clamped = r->clamped.ok;
    row.test_loss_clamped = r->clamped.loss;
    row.test_top1_clamped = r->clamped.top1;
    say_epoch(t, &row, r, seconds);
    return rundir_metric(t->d, t->dir, &row);
}

/* Writes the epoch's row and lines, and opens the next epoch. */
static bool record_epoch(Trainer *t, const TestResult *r, double seconds)
{
    TrainState     *s = &t->s;
    const MetricRow row = { .epoch = s->epoch + 1,
                            .lr = (double)(float)schedule_lr(&t->schedule, s->step - 1),
                            .train_loss = s->epoch_loss / (double)s->epoch_steps,
                            .train_top1 = percent(t, s->epoch_correct, s->epoch_steps) };
    bool            ok = record(t, row, r, seconds);
    t->r.train_loss = row.train_loss;
    t->r.train_top1 = row.train_top1;
    s->epoch++;
    s->epoch_loss = s->epoch_correct = 0;
    s->epoch_steps = 0;
    if (ok)
        write_events(t);
    return ok;
}

static TrainStatus close_epoch(Trainer *t, double started_s)
{
    TrainState *s = &t->s;
    TestResult  result = { 0 };
    const bool  final = s->epoch + 1 == t->schedule.epochs;
    if ((s->epoch + 1) % t->eval_every == 0 || final) {
        TrainStatus status = test(t, &result);
        if (status != TRAIN_DONE)
            return status;
    }
    const bool improved = result.rounded.ok && (s->best_epoch == 0 || result.rounded.top1 > s->best_top1);
    if (improved) {
        s->best_top1 = result.rounded.top1;
        s->best_epoch = s->epoch + 1;
    }
    if (!record_epoch(t, &result, time_now_s() - started_s) || (improved && !train_save(t, t->best)) ||
        !train_save(t, t->last))
        return TRAIN_FAILED;
    return TRAIN_DONE;
}

/* A run of no epochs. Its checkpoint counts rows of metrics when they are written: then it is done. */
static TrainStatus test_alone(Trainer *t)
{
    double     started_s = time_now_s();
    TestResult result = { 0 };
    if (t->s.jsonl_bytes > 0)
        return TRAIN_DONE;
    TrainStatus status = test(t, &result);
    if (status != TRAIN_DONE)
        return status;
    if (t->inspector && !inspector_run(t))
        return TRAIN_FAILED;
    t->s.best_top1 = result.rounded.top1;
    if (!record(t, (MetricRow){ .untrained = true }, &result, time_now_s() - started_s) || !train_save(t, t->best) ||
        !train_save(t, t->last))
        return TRAIN_FAILED;
    return TRAIN_DONE;
}

/* max_steps came in the middle of an epoch. What is said here belongs to no row: a resumed run knows nothing of it. */
static TrainStatus stop_at_limit(Trainer *t)
{
    TestResult result = { 0 };
    if (!train_save(t, t->last))
        return TRAIN_FAILED;
    TrainStatus status = test(t, &result);
    if (status != TRAIN_DONE)
        return status;
    Arena scratch = arena_new("limit");
    Str   line = str_new(&scratch);
    say_test(&line, &result);
    progress_say(t->progress, "stopped after step %lld%s", (long long)t->s.step, line.s);
    rundir_log(t->dir, "stopped after step %lld%s", (long long)t->s.step, line.s);
    arena_free(&scratch);
    return TRAIN_DONE;
}

static TrainStatus run(Trainer *t)
{
    if (t->schedule.epochs == 0)
        return test_alone(t);
    while (t->s.epoch < t->schedule.epochs && (t->s.step < t->limit || t->s.step == epoch_end(t))) {
        double      started_s = time_now_s();
        TrainStatus status = run_steps(t);
        if (status == TRAIN_DONE)
            status = t->s.step == epoch_end(t) ? close_epoch(t, started_s) : stop_at_limit(t);
        if (status != TRAIN_DONE)
            return status;
    }
    return TRAIN_DONE;
}

TrainResult train_run(Arena *a, Diag *d, const TrainConfig *c)
{
    static const int exit_codes[] = {
        [TRAIN_DONE] = 0, [TRAIN_INTERRUPTED] = 130, [TRAIN_DIVERGED] = 1, [TRAIN_FAILED] = 1
    };
    double  started_s = time_now_s();
    Trainer t = { .a = a, .d = d, .c = c };
    if (c->catch_signals)
        interrupt_catch();
    t.r.status = TRAIN_FAILED;
    if (train_prepare(&t) && train_start(&t)) {
        t.r.status = run(&t);
        write_events(&t);
    }
    if (c->catch_signals)
        interrupt_release();
    if (t.r.dir && t.r.status == TRAIN_FAILED)
        rundir_log(t.dir, "stops after step %lld: an error was reported", (long long)t.s.step);
    if (t.r.dir && t.r.status == TRAIN_DONE)
        rundir_log(t.dir, "done: best top-1 %.2f%% (epoch %lld)", t.s.best_top1, (long long)t.s.best_epoch);
    rundir_close(t.dir);
    evaluator_free(&t.evaluator);
    evaluator_free(&t.clamped);
    loader_free(t.loader);
    t.r.exit_code = exit_codes[t.r.status];
    t.r.epoch = t.s.epoch;
    t.r.step = t.s.step;
    t.r.best_top1 = t.s.best_top1;
    t.r.best_epoch = t.s.best_epoch;
    t.r.seconds = time_now_s() - started_s;
    return t.r;
}
