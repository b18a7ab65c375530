/* train.c: the loop.
 *
 *   check everything -> first values (or the checkpoint) -> epochs: steps, test, record, save
 *
 * The loop's whole memory is TrainState and the program's params and states, all in each checkpoint. An epoch is closed
 * (tested, recorded) after its last step; a checkpoint may lie between the two, as after a Ctrl-C during the test, and
 * the resumed run then begins by closing. Rows of metrics are written before the checkpoint that counts them, so a kill
 * in between only leaves rows that resuming cuts off and writes again.
 *
 * Steps are submitted without waiting for the ones before; their losses are read later, in order, and all of them
 * before anything is recorded or saved. So it makes no difference to any number how many steps are on their way (on the
 * host: none; on a GPU up to exec_depth()).
 *
 * Tested by tests/unit/test_train.c: killed and resumed runs against one that was left alone, byte by byte. */
#include "runtime/runtime_impl.h"

#include <math.h>

enum { LOG_EVERY = 50 };

/* A step whose results are not read yet. */
typedef struct Flying {
    int64_t number; /* of exec_submit */
    float   lr;
} Flying;

typedef struct Trainer {
    Arena             *a;
    Diag              *d;
    const TrainConfig *c;
    Schedule           schedule;
    int64_t            log_every, eval_every;
    int64_t            limit; /* steps after which to stop */
    int64_t            batch;
    BatchInputs        in;
    const ProgTensor  *lr, *step, *seed; /* step, seed NULL: the program does not ask */
    const ProgTensor  *loss, *correct;
    int64_t            submitted; /* steps, over all epochs; s.step of them are read */
    int32_t            depth;
    Flying            *flying;  /* [depth], step n at n % depth */
    float              last_lr; /* of the last step that was read */
    Loader            *loader;
    Evaluator          evaluator;
    RunDir            *dir;
    const char        *last, *best;
    Progress          *progress;
    bool               events_warned; /* once is enough: they are written again and again */
    TrainState         s;
    TrainResult        r;
} Trainer;

/* ---- Before the first step ------------------------------------------------------------------------------------- */

static bool check_config(Diag *d, const TrainConfig *c)
{
    const struct {
        const char *name;
        int64_t     value;
    } counts[] = { { "max-steps", c->max_steps },
                   { "save-every", c->save_every },
                   { "log-every", c->log_every },
                   { "eval-every", c->eval_every } };
    for (int32_t i = 0; i < DT_COUNT(counts); i++)
        if (counts[i].value < 0) {
            diag_error(d, LOC_NONE, "train: --%s is %lld, expected 0 or more", counts[i].name,
                       (long long)counts[i].value);
            return false;
        }
    if (c->resume && (c->out || c->init_from)) {
        diag_error(d, LOC_NONE, "train: --resume goes on with the run in %s and excludes --%s", c->resume,
                   c->out ? "out" : "init");
        return false;
    }
    return schedule_check(d, &c->schedule);
}

/* A scalar input that the program may do without. */
static bool optional_scalar(Diag *d, LoadedProgram p, const char *name, const ProgTensor **out)
{
    *out = program_tensor(p.program, name);
    return !*out || program_need(d, p.program, TENSOR_INPUT, name, DTYPE_U32, 0, NULL) != NULL;
}

static bool bind_program(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    if (!batch_inputs(t->a, t->d, p, t->c->data, t->c->classes, true, &t->in))
        return false;
    t->lr = program_need(t->d, p.program, TENSOR_INPUT, "lr", DTYPE_F32, 0, NULL);
    t->loss = program_need(t->d, p.program, TENSOR_OUTPUT, "loss", DTYPE_F32, 0, NULL);
    t->correct = program_need(t->d, p.program, TENSOR_OUTPUT, "correct", DTYPE_F32, 0, NULL);
    if (!t->lr || !t->loss || !t->correct || !optional_scalar(t->d, p, "step", &t->step) ||
        !optional_scalar(t->d, p, "seed", &t->seed))
        return false;
    t->depth = exec_depth(p.exec, p.index);
    t->flying = ARENA_ARRAY(t->a, Flying, t->depth);
    t->batch = t->in.image->dim[0];
    if (t->batch != t->c->id.batch) {
        diag_error(t->d, LOC_NONE, "train: program %s was compiled for a batch of %lld, the run has %lld",
                   p.program->name, (long long)t->batch, (long long)t->c->id.batch);
        return false;
    }
    return true;
}

static Loader *train_loader(Trainer *t, const ProgTensor *image)
{
    return loader_new(t->a, t->d,
                      (LoaderConfig){ .data = t->c->data,
                                      .split = SPLIT_TRAIN,
                                      .batch = (int32_t)image->dim[0],
                                      .nhwc = image->nhwc,
                                      .augment = !t->c->no_augment,
                                      .normalise = t->c->normalise,
                                      .seed = t->c->id.seed });
}

static bool prepare(Trainer *t)
{
    const TrainConfig *c = t->c;
    if (!check_config(t->d, c) || !bind_program(t) ||
        !evaluator_new(t->a, t->d, c->eval, c->data, c->classes, c->normalise, &t->evaluator))
        return false;
    t->loader = train_loader(t, t->in.image);
    if (!t->loader)
        return false;
    t->schedule = c->schedule;
    t->schedule.steps_per_epoch = loader_batches(t->loader);
    t->limit = t->schedule.epochs * t->schedule.steps_per_epoch;
    if (c->max_steps)
        t->limit = dt_min64(t->limit, c->max_steps);
    t->log_every = c->log_every ? c->log_every : LOG_EVERY;
    t->eval_every = c->eval_every ? c->eval_every : 1;
    t->progress = progress_new(t->a, c->progress, t->log_every);
    return true;
}

/* ---- First values ---------------------------------------------------------------------------------------------- */

/* A step size of zero (a layer that saw only zeros) would divide by it. */
static bool warn_of_steps(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    for (int32_t i = 0; i < p.program->n_tensors; i++) {
        const ProgTensor *x = &p.program->tensors[i];
        if (x->kind != TENSOR_PARAM || !str_eq(x->group, "step") || x->dtype != DTYPE_F32)
            continue;
        Arena  scratch = arena_new("steps");
        float *values = ARENA_ARRAY(&scratch, float, x->elems);
        bool   ok = tensor_read(p.exec, p.index, x, values);
        for (int64_t k = 0; ok && k < x->elems; k++)
            if (!(values[k] > 0) || !isfinite(values[k])) {
                diag_warning(t->d, LOC_NONE, "train: the first batch gave %s the step size %g", x->name,
                             (double)values[k]);
                break;
            }
        arena_free(&scratch);
        if (!ok)
            return false;
    }
    return true;
}

/* Runs the init program on the first training batch, as augmented in epoch 0. */
static bool first_batch(Trainer *t)
{
    const LoadedProgram init = t->c->init;
    BatchInputs         in;
    if (!batch_inputs(t->a, t->d, init, t->c->data, t->c->classes, false, &in))
        return false;
    Loader *loader = train_loader(t, in.image);
    if (!loader)
        return false;
    loader_start(loader, 0, 0);
    batch_next(loader, &in);
    loader_free(loader);
    return exec_submit(init.exec, init.index) >= 0 && warn_of_steps(t);
}

static bool first_values(Trainer *t)
{
    const TrainConfig *c = t->c;
    bool               have_steps = false;
    t->s = (TrainState){ 0 };
    if (!program_init(t->d, c->train, c->id.seed))
        return false;
    if (c->init_from && !checkpoint_init(t->d, c->init_from, &c->id, c->train, &have_steps))
        return false;
    return !c->init.program || have_steps || first_batch(t);
}

/* ---- Saving ---------------------------------------------------------------------------------------------------- */

static bool save(Trainer *t, const char *path)
{
    progress_end(t->progress); /* should there be something to report */
    return rundir_sync(t->d, t->dir, &t->s.jsonl_bytes, &t->s.csv_bytes) &&
           checkpoint_save(t->d, path, &t->c->id, &t->s, t->c->train);
}

static bool start_new(Trainer *t)
{
    const TrainConfig *c = t->c;
    if (!first_values(t))
        return false;
    const char *exp = c->exp ? c->exp : arena_printf(t->a, "%s-%s", c->id.method, c->id.bits);
    t->dir = rundir_create(t->a, t->d, c->runs_root ? c->runs_root : "runs", c->id.net, exp, c->out);
    return t->dir && rundir_write_args(t->d, t->dir, c->args, c->n_args);
}

static bool start_resumed(Trainer *t)
{
    const TrainConfig *c = t->c;
    t->dir = rundir_open(t->a, t->d, c->resume);
    if (!t->dir)
        return false;
    if (rundir_has(t->dir, RUN_LAST))
        return checkpoint_resume(t->d, rundir_file(t->a, t->dir, RUN_LAST), &c->id, c->train, &t->s);
    rundir_log(t->dir, "killed before its first checkpoint: starts again");
    return first_values(t);
}

/* From here on the run can be killed and resumed at any moment. */
static bool start(Trainer *t)
{
    if (!(t->c->resume ? start_resumed(t) : start_new(t)))
        return false;
    t->r.dir = rundir_path(t->dir);
    t->last = rundir_file(t->a, t->dir, RUN_LAST);
    t->best = rundir_file(t->a, t->dir, RUN_BEST);
    if (!rundir_truncate(t->d, t->dir, t->s.jsonl_bytes, t->s.csv_bytes))
        return false;
    rundir_log(t->dir, "%s %s, %s %s, on %s: step %lld of %lld, batch %lld, %d threads, Detent " DT_VERSION,
               t->c->resume ? "resumes" : "trains", t->c->id.net, t->c->id.method, t->c->id.bits, t->c->id.dataset,
               (long long)t->s.step, (long long)t->limit, (long long)t->batch, exec_threads(t->c->train.exec));
    return rundir_has(t->dir, RUN_LAST) || save(t, t->last);
}

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
        *(uint32_t *)exec_input(t->c->train.exec, t->c->train.index, x) = value;
}

static bool submit_step(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    const uint64_t      seed = t->c->id.seed;
    int32_t             got = batch_next(t->loader, &t->in);
    float               lr = (float)schedule_lr(&t->schedule, t->submitted);
    DT_ASSERT(got == t->batch, "a training batch of %d samples at step %lld", got, (long long)t->submitted);
    *(float *)exec_input(p.exec, p.index, t->lr) = lr;
    set_u32(t, t->step, (uint32_t)t->submitted);
    set_u32(t, t->seed, (uint32_t)(seed ^ seed >> 32)); /* a program's seed has 32 bits */
    int64_t number = exec_submit(p.exec, p.index);
    t->flying[t->submitted % t->depth] = (Flying){ number, lr };
    t->submitted += number >= 0;
    return number >= 0;
}

/* The results of the oldest step on its way. */
static TrainStatus read_step(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    TrainState         *s = &t->s;
    const Flying        f = t->flying[s->step % t->depth];
    const float        *loss_at = exec_output(p.exec, p.index, t->loss, f.number);
    const float        *correct_at = exec_output(p.exec, p.index, t->correct, f.number);
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
    if (!save(t, t->last))
        return TRAIN_FAILED;
    rundir_log(t->dir, "interrupted after step %lld", (long long)t->s.step);
    progress_say(t->progress, "interrupted after step %lld; go on with --resume %s", (long long)t->s.step, t->r.dir);
    return TRAIN_INTERRUPTED;
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
        bool all = stop || save_due || t->submitted == end || t->submitted % t->log_every == 0;
        if (!all && t->submitted - t->s.step < t->depth)
            continue;
        TrainStatus status = read_steps(t, all ? 0 : t->depth / 2);
        if (status != TRAIN_DONE)
            return status;
        if (stop)
            return stop_for_signal(t);
        if (save_due && !save(t, t->last))
            return TRAIN_FAILED;
    }
    return TRAIN_DONE;
}

/* ---- Epochs ---------------------------------------------------------------------------------------------------- */

static TrainStatus test(Trainer *t, EvalResult *result)
{
    EvalEnd end = evaluator_run(&t->evaluator, t->progress, result);
    if (end != EVAL_DONE)
        return end == EVAL_INTERRUPTED ? stop_for_signal(t) : TRAIN_FAILED;
    t->r.test_loss = result->loss;
    t->r.test_top1 = result->top1;
    return TRAIN_DONE;
}

/* The metrics so far, for TensorBoard. The run needs them for nothing, so it goes on without. */
static void write_events(Trainer *t)
{
    progress_end(t->progress); /* should there be something to report */
    if (!events_write(t->events_warned ? NULL : t->d, t->r.dir))
        t->events_warned = true;
}

/* Writes the epoch's row and lines, and opens the next epoch. */
static bool record_epoch(Trainer *t, const EvalResult *test_result, double seconds)
{
    TrainState *s = &t->s;
    MetricRow   row = { .epoch_end = true,
                        .tested = test_result->ok,
                        .epoch = s->epoch + 1,
                        .step = s->step,
                        .lr = (double)(float)schedule_lr(&t->schedule, s->step - 1),
                        .train_loss = s->epoch_loss / (double)s->epoch_steps,
                        .train_top1 = percent(t, s->epoch_correct, s->epoch_steps),
                        .test_loss = test_result->loss,
                        .test_top1 = test_result->top1,
                        .best_top1 = s->best_top1 };
    Arena       scratch = arena_new("epoch");
    Str         line = str_new(&scratch);
    char        took[32];
    str_printf(&line, "epoch %lld/%lld  train loss %.4f  top-1 %.2f%%", (long long)row.epoch,
               (long long)t->schedule.epochs, row.train_loss, row.train_top1);
    if (row.tested)
        str_printf(&line, "  test loss %.4f  top-1 %.2f%%  best %.2f%% (epoch %lld)", row.test_loss, row.test_top1,
                   s->best_top1, (long long)s->best_epoch);
    progress_say(t->progress, "%s  %s", line.s, progress_duration(took, seconds));
    rundir_log(t->dir, "%s  %.1f s", line.s, seconds);
    arena_free(&scratch);

    t->r.train_loss = row.train_loss;
    t->r.train_top1 = row.train_top1;
    s->epoch++;
    s->epoch_loss = s->epoch_correct = 0;
    s->epoch_steps = 0;
    if (!rundir_metric(t->d, t->dir, &row))
        return false;
    write_events(t);
    return true;
}

static TrainStatus close_epoch(Trainer *t, double started_s)
{
    TrainState *s = &t->s;
    EvalResult  result = { 0 };
    const bool  final = s->epoch + 1 == t->schedule.epochs;
    if ((s->epoch + 1) % t->eval_every == 0 || final) {
        TrainStatus status = test(t, &result);
        if (status != TRAIN_DONE)
            return status;
    }
    const bool improved = result.ok && (s->best_epoch == 0 || result.top1 > s->best_top1);
    if (improved) {
        s->best_top1 = result.top1;
        s->best_epoch = s->epoch + 1;
    }
    if (!record_epoch(t, &result, time_now_s() - started_s) || (improved && !save(t, t->best)) || !save(t, t->last))
        return TRAIN_FAILED;
    return TRAIN_DONE;
}

/* max_steps came in the middle of an epoch. What is said here belongs to no row: a resumed run knows nothing of it. */
static TrainStatus stop_at_limit(Trainer *t)
{
    EvalResult result = { 0 };
    if (!save(t, t->last))
        return TRAIN_FAILED;
    TrainStatus status = test(t, &result);
    if (status != TRAIN_DONE)
        return status;
    progress_say(t->progress, "stopped after step %lld  test loss %.4f  top-1 %.2f%%", (long long)t->s.step,
                 result.loss, result.top1);
    rundir_log(t->dir, "stopped after step %lld  test loss %.4f  top-1 %.2f%%", (long long)t->s.step, result.loss,
               result.top1);
    return TRAIN_DONE;
}

static TrainStatus run(Trainer *t)
{
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
    if (prepare(&t) && start(&t)) {
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
    loader_free(t.loader);
    t.r.exit_code = exit_codes[t.r.status];
    t.r.epoch = t.s.epoch;
    t.r.step = t.s.step;
    t.r.best_top1 = t.s.best_top1;
    t.r.best_epoch = t.s.best_epoch;
    t.r.seconds = time_now_s() - started_s;
    return t.r;
}
