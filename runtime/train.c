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
 * A run of no epochs (post-training quantization) tests once, records that as epoch 0 and is done. One with patience is
 * done when so many epochs brought no better one: what decides is in the checkpoint, so a resumed run is done as well.
 *
 * Tested by tests/unit/test_train.c: killed and resumed runs against one that was left alone, byte by byte. */
#include "runtime/kept_pictures.h"
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
                                                .top1 = rows_percent(t, s->epoch_correct, s->epoch_steps),
                                                .lr = (double)t->last_lr,
                                                .loss_decimals = t->task->loss_decimals,
                                                .wait_s = loader_wait_s(t->loader) });
}

static void set_u32(Trainer *t, const ProgTensor *x, uint32_t value)
{
    if (x)
        *(uint32_t *)exec_input(t->now->p.exec, t->now->p.index, x) = value;
}

static Phase *phase_at(const Trainer *t, int64_t step)
{
    int32_t i = 0;
    while (i + 1 < t->n_phases && t->phases[i + 1].from_step <= step)
        i++;
    return &t->phases[i];
}

/* The program of that step: where gradients are accumulated, only every so many steps update. */
static TrainProgram *program_at(const Trainer *t, int64_t step)
{
    Phase *p = phase_at(t, step);
    return p->gather.p.program && (step + 1) % t->c->accumulate != 0 ? &p->gather : &p->update;
}

static bool submit_step(Trainer *t)
{
    t->now = program_at(t, t->submitted);
    const LoadedProgram p = t->now->p;
    const uint64_t      seed = t->c->id.seed;
    int32_t             got = batch_next(t->loader, &t->now->in);
    float               lr = (float)schedule_lr(&t->schedule, t->submitted);
    if (got < 0)
        return false;
    DT_ASSERT(got == t->batch, "a training batch of %d samples at step %lld", got, (long long)t->submitted);
    if (t->now->lr)
        *(float *)exec_input(p.exec, p.index, t->now->lr) = lr;
    set_u32(t, t->now->step, (uint32_t)t->submitted);
    set_u32(t, t->now->seed, (uint32_t)(seed ^ seed >> 32)); /* a program's seed has 32 bits */
    int64_t number = exec_submit(p.exec, p.index);
    t->flying[t->submitted % t->now->depth] = (Flying){ number, lr };
    t->submitted += number >= 0;
    return number >= 0;
}

/* A number that the step gave; `x` NULL: it gives none such. False: reported. */
static bool read_number(const Trainer *t, const ProgTensor *x, int64_t number, double *out)
{
    const float *at = x ? exec_output(t->now->p.exec, t->now->p.index, x, number) : NULL;
    *out = at ? (double)*at : 0;
    return !x || at;
}

static void add_step(TrainState *s, double loss, double correct)
{
    s->step++;
    s->epoch_loss += loss;
    s->epoch_correct += correct;
    s->epoch_steps++;
    s->row_loss += loss;
    s->row_correct += correct;
    s->row_steps++;
}

/* The results of the oldest step on its way. */
static TrainStatus read_step(Trainer *t)
{
    const Flying f = t->flying[t->s.step % t->now->depth];
    double       loss, correct, part;
    if (!read_number(t, t->now->loss, f.number, &loss) || !read_number(t, t->now->correct, f.number, &correct))
        return TRAIN_FAILED;
    if (!isfinite(loss)) {
        report_divergence(t, loss, f.lr);
        return TRAIN_DIVERGED;
    }
    for (int32_t i = 0; i < t->n_parts; i++) {
        if (!read_number(t, t->now->parts[i], f.number, &part))
            return TRAIN_FAILED;
        t->s.epoch_parts.of[i] += part;
        t->s.row_parts.of[i] += part;
    }
    t->last_lr = f.lr;
    add_step(&t->s, loss, correct);
    return t->s.step % t->log_every != 0 || rows_step(t) ? TRAIN_DONE : TRAIN_FAILED;
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
    if (!keep_last(t))
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
static TrainStatus make_steps(Trainer *t)
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
        if (save_due && !keep_last(t))
            return TRAIN_FAILED;
    }
    return TRAIN_DONE;
}

/* The same, timed. */
static TrainStatus run_steps(Trainer *t)
{
    EpochTimes   *x = &t->times;
    const double  wait_s = loader_wait_s(t->loader);
    const int64_t before = t->s.step;
    x->start_s = time_now_s();
    TrainStatus status = make_steps(t);
    x->steps_s = time_now_s() - x->start_s;
    x->wait_s = loader_wait_s(t->loader) - wait_s;
    x->steps = t->s.step - before;
    x->all_steps_s += x->steps_s;
    x->all_wait_s += x->wait_s;
    x->all_steps += x->steps;
    return status;
}

/* ---- Epochs ---------------------------------------------------------------------------------------------------- */

static TrainStatus test(Trainer *t, TestResult *out)
{
    EvalEnd end = evaluator_run(&t->evaluator, t->progress, &out->rounded);
    if (end == EVAL_DONE && t->clamped.loader)
        end = evaluator_run(&t->clamped, t->progress, &out->clamped);
    if (end == EVAL_INTERRUPTED)
        return reestimate_undo(t) ? stop_for_signal(t) : TRAIN_FAILED;
    if (end != EVAL_DONE)
        return TRAIN_FAILED;
    t->r.test = out->rounded;
    t->r.clamped = out->clamped;
    return TRAIN_DONE;
}

/* A score that is no number is never the best. */
static bool is_best(const Trainer *t, const EvalResult *r)
{
    const double score = r->ok ? r->measure[t->task->score] : (double)NAN;
    return isfinite(score) && (t->s.best_epoch == 0 || score > t->s.best_score);
}

static void open_next_epoch(Trainer *t)
{
    TrainState *s = &t->s;
    t->r.train_loss = s->epoch_loss / (double)s->epoch_steps;
    s->epoch++;
    s->epoch_loss = s->epoch_correct = 0;
    s->epoch_parts = (LossSums){ { 0 } };
    s->epoch_steps = 0;
}

/* Pictures by the weights that will be the best ones. */
static bool show_best(Trainer *t)
{
    return pictures_keep(t->d, t->r.dir, t->c->eval, t->c->data, t->c->normalise, t->s.epoch + 1, t->s.step);
}

static TrainStatus close_epoch(Trainer *t)
{
    TrainState *s = &t->s;
    TestResult  result = { 0 };
    const bool  final = s->epoch + 1 == t->schedule.epochs;
    if (final && !reestimate_run(t))
        return TRAIN_FAILED;
    if ((s->epoch + 1) % t->eval_every == 0 || final) {
        TrainStatus status = test(t, &result);
        if (status != TRAIN_DONE)
            return status;
    }
    const bool improved = is_best(t, &result.rounded);
    if (improved) {
        s->best_score = result.rounded.measure[t->task->score];
        s->best_epoch = s->epoch + 1;
    }
    if (improved && !show_best(t))
        return TRAIN_FAILED;
    if (!rows_weights(t) || !rows_epoch(t, &result))
        return TRAIN_FAILED;
    open_next_epoch(t);
    rows_events(t);
    return (!improved || keep_best(t)) && keep_epoch(t) && keep_last(t) ? TRAIN_DONE : TRAIN_FAILED;
}

/* A run of no epochs. Its checkpoint counts rows of metrics when they are written: then it is done. */
static TrainStatus test_alone(Trainer *t)
{
    TestResult result = { 0 };
    t->times.start_s = time_now_s();
    if (t->s.jsonl_bytes > 0)
        return TRAIN_DONE;
    TrainStatus status = test(t, &result);
    if (status != TRAIN_DONE)
        return status;
    if (t->inspector && !inspector_run(t))
        return TRAIN_FAILED;
    const double score = result.rounded.measure[t->task->score];
    t->s.best_score = isfinite(score) ? score : 0;
    if (!pictures_keep(t->d, t->r.dir, t->c->eval, t->c->data, t->c->normalise, 0, t->s.step))
        return TRAIN_FAILED;
    return rows_epoch(t, &result) && keep_best(t) && keep_last(t) ? TRAIN_DONE : TRAIN_FAILED;
}

/* max_steps came in the middle of an epoch. What is said here belongs to no row: a resumed run knows nothing of it. */
static TrainStatus stop_at_limit(Trainer *t)
{
    TestResult result = { 0 };
    if (!keep_last(t))
        return TRAIN_FAILED;
    TrainStatus status = test(t, &result);
    if (status != TRAIN_DONE)
        return status;
    Arena scratch = arena_new("limit");
    Str   line = str_new(&scratch);
    rows_say_test(&line, t, &result);
    progress_say(t->progress, "stopped after step %lld%s", (long long)t->s.step, line.len ? line.s : "");
    rundir_log(t->dir, "stopped after step %lld%s", (long long)t->s.step, line.len ? line.s : "");
    arena_free(&scratch);
    return TRAIN_DONE;
}

/* Between two epochs, of which the one before was tested. */
static bool out_of_patience(const Trainer *t)
{
    const TrainState *s = &t->s;
    return t->c->patience > 0 && s->epoch > 0 && s->epoch < t->schedule.epochs && s->epoch % t->eval_every == 0 &&
           s->step == s->epoch * t->schedule.steps_per_epoch && s->epoch - s->best_epoch >= t->c->patience;
}

static TrainStatus run(Trainer *t)
{
    if (t->schedule.epochs == 0)
        return test_alone(t);
    while (t->s.epoch < t->schedule.epochs && (t->s.step < t->limit || t->s.step == epoch_end(t))) {
        if (out_of_patience(t)) {
            progress_say(t->progress, "ends early: none of the last %lld epochs was better than epoch %lld",
                         (long long)(t->s.epoch - t->s.best_epoch), (long long)t->s.best_epoch);
            rundir_log(t->dir, "ends early after epoch %lld", (long long)t->s.epoch);
            return TRAIN_DONE;
        }
        TrainStatus status = run_steps(t);
        if (status == TRAIN_DONE)
            status = t->s.step == epoch_end(t) ? close_epoch(t) : stop_at_limit(t);
        if (status != TRAIN_DONE)
            return status;
    }
    return TRAIN_DONE;
}

static bool is_over(const Trainer *t)
{
    return t->r.status == TRAIN_DONE && (t->s.epoch >= t->schedule.epochs || out_of_patience(t));
}

/* The last words, and what the caller is told. */
static void finish(Trainer *t, double started_s)
{
    static const int exit_codes[] = {
        [TRAIN_DONE] = 0, [TRAIN_INTERRUPTED] = 130, [TRAIN_DIVERGED] = 1, [TRAIN_FAILED] = 1
    };
    const MeasureInfo *info = t->task ? &measure_infos[t->task->score] : NULL;
    t->r.over = is_over(t);
    if (t->r.dir && t->r.over && t->schedule.epochs > 0)
        rows_table(t);
    if (t->r.dir && t->r.status == TRAIN_FAILED)
        rundir_log(t->dir, "stops after step %lld: an error was reported", (long long)t->s.step);
    if (t->r.dir && t->r.status == TRAIN_DONE)
        rundir_log(t->dir, "done: best %s %.*f%s (epoch %lld)", info->text, info->decimals, t->s.best_score, info->unit,
                   (long long)t->s.best_epoch);
    t->r.exit_code = exit_codes[t->r.status];
    t->r.epoch = t->s.epoch;
    t->r.step = t->s.step;
    t->r.score = t->task ? t->task->score : MEASURE_TOP1;
    t->r.best_score = t->s.best_score;
    t->r.best_epoch = t->s.best_epoch;
    t->r.seconds = time_now_s() - started_s;
}

TrainResult train_run(Arena *a, Diag *d, const TrainConfig *c)
{
    double  started_s = time_now_s();
    Trainer t = { .a = a, .d = d, .c = c, .saved_step = -1 };
    if (c->catch_signals)
        interrupt_catch();
    t.r.status = TRAIN_FAILED;
    if (train_prepare(&t) && train_start(&t)) {
        t.r.status = run(&t);
        rows_events(&t);
    }
    if (c->catch_signals)
        interrupt_release();
    finish(&t, started_s);
    rundir_close(t.dir);
    evaluator_free(&t.evaluator);
    evaluator_free(&t.clamped);
    reestimate_free(&t);
    loader_free(t.loader);
    return t.r;
}
