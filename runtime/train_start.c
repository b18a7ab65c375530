/* train_start.c: a run before its first step.
 *
 *   options -> programs of all phases -> loaders -> first values, or those of a checkpoint -> directory
 *
 * First values come in this order: what the network says (init.c); those of --init, with the ranges of its quantizers
 * where they are of the same method and bits; else calibrated ranges; else those of the first batch, which the init
 * program computes. A file that has only some of the ranges counts as one that has none: they were found together.
 *
 * Phases: programs of one run share params and states, so what one phase learns the next one has. They begin at whole
 * steps, so a resumed run finds its phase from its step.
 *
 * Tested by tests/unit/test_train.c and test_train_phases.c. */
#include "runtime/train_impl.h"

#include <math.h>
#include <string.h>

enum { LOG_EVERY = 50 };

/* ---- Options --------------------------------------------------------------------------------------------------- */

static bool check_config(Diag *d, const TrainConfig *c)
{
    const struct {
        const char *name;
        int64_t     value, least;
    } counts[] = { { "max-steps", c->max_steps, 0 },          { "save-every", c->save_every, 0 },
                   { "log-every", c->log_every, 0 },          { "eval-every", c->eval_every, 0 },
                   { "inspect-every", c->inspect_every, -1 }, { "patience", c->patience, 0 },
                   { "keep-every", c->keep_every, 0 },        { "keep", c->keep, 0 } };
    for (int32_t i = 0; i < DT_COUNT(counts); i++)
        if (counts[i].value < counts[i].least) {
            diag_error(d, LOC_NONE, "train: --%s is %lld, expected %lld or more", counts[i].name,
                       (long long)counts[i].value, (long long)counts[i].least);
            return false;
        }
    if (c->resume && (c->out || c->init_from)) {
        diag_error(d, LOC_NONE, "train: --resume goes on with the run in %s and excludes --%s", c->resume,
                   c->out ? "out" : "init");
        return false;
    }
    return schedule_check(d, &c->schedule);
}

/* ---- Programs -------------------------------------------------------------------------------------------------- */

/* A scalar input that the program may do without. */
static bool optional_scalar(Diag *d, LoadedProgram p, const char *name, const ProgTensor **out)
{
    *out = program_tensor(p.program, name);
    return !*out || program_need(d, p.program, TENSOR_INPUT, name, DTYPE_U32, 0, NULL) != NULL;
}

/* Parts of a loss have the same places in all programs; one that a program lacks counts 0 there. */
static bool bind_parts(Trainer *t, LoadedProgram p, TrainProgram *out)
{
    static const char prefix[] = "loss:";
    for (int32_t i = 0; i < p.program->n_tensors; i++) {
        const ProgTensor *x = &p.program->tensors[i];
        if (x->kind != TENSOR_OUTPUT || strncmp(x->name, prefix, sizeof prefix - 1) != 0)
            continue;
        const char *key = arena_printf(t->a, "train_%s", x->name);
        int32_t     k = 0;
        while (k < t->n_parts && !str_eq(t->part_keys[k], key))
            k++;
        if (k == TRAIN_MAX_PARTS) {
            diag_error(t->d, LOC_NONE, "train: the loss of program %s has more than %d parts", p.program->name,
                       TRAIN_MAX_PARTS);
            return false;
        }
        if (!program_need(t->d, p.program, TENSOR_OUTPUT, x->name, DTYPE_F32, 0, NULL))
            return false;
        if (k == t->n_parts)
            t->part_keys[t->n_parts++] = key;
        out->parts[k] = x;
    }
    return true;
}

static bool bind_program(Trainer *t, LoadedProgram p, bool updates, TrainProgram *out)
{
    *out = (TrainProgram){ .p = p };
    if (!batch_inputs(t->d, p, t->c->data, SPLIT_TRAIN, t->c->classes, true, &out->in))
        return false;
    const struct {
        const ProgTensor **at;
        TensorKind         kind;
        const char        *name;
        bool               needed;
    } scalars[] = { { &out->lr, TENSOR_INPUT, "lr", updates },
                    { &out->loss, TENSOR_OUTPUT, "loss", true },
                    { &out->correct, TENSOR_OUTPUT, "correct", t->task->counts_correct } };
    for (int32_t i = 0; i < DT_COUNT(scalars); i++) {
        if (!scalars[i].needed && !program_tensor(p.program, scalars[i].name))
            continue;
        *scalars[i].at = program_need(t->d, p.program, scalars[i].kind, scalars[i].name, DTYPE_F32, 0, NULL);
        if (!*scalars[i].at)
            return false;
    }
    if (!optional_scalar(t->d, p, "step", &out->step) || !optional_scalar(t->d, p, "seed", &out->seed) ||
        !bind_parts(t, p, out))
        return false;
    out->depth = exec_depth(p.exec, p.index);
    if (out->in.image->dim[0] == t->c->id.batch)
        return true;
    diag_error(t->d, LOC_NONE, "train: program %s was compiled for a batch of %lld, the run has %lld", p.program->name,
               (long long)out->in.image->dim[0], (long long)t->c->id.batch);
    return false;
}

static bool bind_programs(Trainer *t)
{
    const TrainConfig *c = t->c;
    const TrainPhase   first = { c->train, 0, c->gather };
    int32_t            depth = 1;
    t->task = task_of(c->data);
    t->n_phases = 1 + c->n_phases;
    t->phases = ARENA_ARRAY(t->a, Phase, t->n_phases);
    for (int32_t i = 0; i < t->n_phases; i++) {
        const TrainPhase *from = i == 0 ? &first : &c->phases[i - 1];
        Phase            *to = &t->phases[i];
        if (!bind_program(t, from->train, true, &to->update) ||
            (from->gather.program && !bind_program(t, from->gather, false, &to->gather)))
            return false;
        depth = (int32_t)dt_max64(depth, dt_max64(to->update.depth, to->gather.depth));
    }
    t->flying = ARENA_ARRAY(t->a, Flying, depth);
    t->now = &t->phases[0].update;
    t->batch = c->id.batch;
    return true;
}

/* A share of the run need not be a whole number of steps; one that is, but for its rounding, is that step. */
static void place_phases(Trainer *t)
{
    static const double rounding = 1e-6; /* of a step */
    for (int32_t i = 1; i < t->n_phases; i++) {
        double from = t->c->phases[i - 1].from_epoch;
        t->phases[i].from_step = (int64_t)ceil(from * (double)t->schedule.steps_per_epoch - rounding);
        DT_ASSERT(from > 0 && t->phases[i].from_step >= t->phases[i - 1].from_step, "phase %d from epoch %g: they rise",
                  i, from);
    }
}

/* ---- Before anything is changed -------------------------------------------------------------------------------- */

Loader *train_loader(Trainer *t, const ProgTensor *image, bool augment)
{
    return loader_new(t->a, t->d,
                      (LoaderConfig){ .data = t->c->data,
                                      .split = SPLIT_TRAIN,
                                      .batch = (int32_t)image->dim[0],
                                      .nhwc = image->nhwc,
                                      .augment = augment ? t->c->augment : (Augment){ 0 },
                                      .normalise = t->c->normalise,
                                      .seed = t->c->id.seed });
}

static bool prepare_tests(Trainer *t)
{
    const TrainConfig *c = t->c;
    EvalConfig         e = {
                .eval = c->eval, .data = c->data, .classes = c->classes, .normalise = c->normalise, .ssim = c->ssim
    };
    if (!evaluator_new(t->a, t->d, &e, &t->evaluator))
        return false;
    e.eval = c->eval_clamped;
    return !e.eval.program || evaluator_new(t->a, t->d, &e, &t->clamped);
}

/* Keys of the metrics. What a first version of metrics.csv had comes first. */
static void name_columns(Trainer *t)
{
    const Evaluator *e = &t->evaluator;
    const Measure    score = t->task->score;
    Str              s = str_new(t->a);
    t->score_key = arena_printf(t->a, "best_%s", measure_infos[score].key);
    str_printf(&s, "lr,train_loss%s,test_loss,test_%s,%s", t->task->counts_correct ? ",train_top1" : "",
               measure_infos[score].key, t->score_key);
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        if (e->measured[m] && m != (int32_t)score)
            str_printf(&s, ",test_%s", measure_infos[m].key);
    t->columns = s.s;
}

bool train_prepare(Trainer *t)
{
    const TrainConfig *c = t->c;
    if (!check_config(t->d, c) || !bind_programs(t) || !prepare_tests(t))
        return false;
    t->loader = train_loader(t, t->now->in.image, true);
    if (!t->loader)
        return false;
    name_columns(t);
    t->schedule = c->schedule;
    t->schedule.steps_per_epoch = loader_batches(t->loader);
    t->limit = t->schedule.epochs * t->schedule.steps_per_epoch;
    if (c->max_steps)
        t->limit = dt_min64(t->limit, c->max_steps);
    t->log_every = c->log_every ? c->log_every : LOG_EVERY;
    t->eval_every = c->eval_every ? c->eval_every : 1;
    t->progress = progress_new(t->a, c->progress, t->log_every);
    place_phases(t);
    return inspector_new(t);
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
    if (!batch_inputs(t->d, init, t->c->data, SPLIT_TRAIN, t->c->classes, false, &in))
        return false;
    Loader *loader = train_loader(t, in.image, true);
    if (!loader)
        return false;
    loader_start(loader, 0, 0);
    bool ok = batch_next(loader, &in) > 0;
    loader_free(loader);
    return ok && exec_submit(init.exec, init.index) >= 0 && warn_of_steps(t);
}

/* How many quantizers are calibrated; whether the first batch has something to say of others. */
static int32_t count_calibrated(const TrainConfig *c, bool *others)
{
    int32_t n = 0;
    *others = c->n_sites == 0;
    for (int32_t i = 0; i < c->n_sites; i++) {
        const QuantSite *s = &c->sites[i];
        n += s->kind != CALIBRATE_NONE;
        *others |= s->kind == CALIBRATE_NONE && (s->step || s->offset || s->min || s->max);
    }
    return n;
}

static bool first_ranges(Trainer *t)
{
    const TrainConfig *c = t->c;
    bool               others;
    int32_t            calibrated = count_calibrated(c, &others);
    if (c->observe.program && calibrated > 0) {
        const CalibrateConfig config = { .observe = c->observe,
                                         .train = c->train,
                                         .data = c->data,
                                         .classes = c->classes,
                                         .normalise = c->normalise,
                                         .seed = c->id.seed,
                                         .batches = c->calibration_batches,
                                         .sites = c->sites,
                                         .n_sites = c->n_sites,
                                         .progress = c->progress };
        if (!calibrate_run(t->a, t->d, &config))
            return false;
    }
    return !c->init.program || !others || first_batch(t);
}

/* Averages begin at the first values of what they are of. */
static bool averages_begin(Trainer *t)
{
    const LoadedProgram p = t->c->train;
    const size_t        tail = sizeof CHECKPOINT_AVERAGE - 1;
    bool                ok = true;
    for (int32_t i = 0; i < p.program->n_tensors && ok; i++) {
        const ProgTensor *average = &p.program->tensors[i];
        const size_t      len = strlen(average->name);
        if (average->kind != TENSOR_STATE || len <= tail || !str_eq(average->name + len - tail, CHECKPOINT_AVERAGE))
            continue;
        Arena             scratch = arena_new("average");
        const ProgTensor *of = program_tensor(p.program, arena_strndup(&scratch, average->name, len - tail));
        DT_ASSERT(of && of->bytes == average->bytes && of->dtype == average->dtype, "%s is the average of nothing",
                  average->name);
        void *values = arena_alloc(&scratch, (size_t)dtype_bytes(of->dtype, of->elems));
        ok = tensor_read(p.exec, p.index, of, values) && tensor_write(p.exec, p.index, average, values);
        arena_free(&scratch);
    }
    return ok;
}

static bool first_values(Trainer *t)
{
    const TrainConfig *c = t->c;
    bool               have_ranges = false;
    t->s = (TrainState){ 0 };
    if (!program_init(t->d, c->train, c->id.seed))
        return false;
    if (c->teacher && !teacher_load(t->d, c->teacher, c->train))
        return false;
    if (c->init_from && !checkpoint_init(t->d, c->init_from, &c->id, c->train, &have_ranges))
        return false;
    return (have_ranges || first_ranges(t)) && averages_begin(t);
}

/* ---- New or resumed -------------------------------------------------------------------------------------------- */

static bool start_new(Trainer *t)
{
    const TrainConfig *c = t->c;
    if (!first_values(t))
        return false;
    const char *exp = c->exp ? c->exp : arena_printf(t->a, "%s-%s", c->id.method, c->id.bits);
    t->dir = rundir_create(t->a, t->d, c->runs_root ? c->runs_root : "runs", c->id.net, exp, c->out, t->columns);
    return t->dir && rundir_write_args(t->d, t->dir, c->args, c->n_args);
}

static bool start_resumed(Trainer *t)
{
    HostTensors host;
    bool        found;
    t->dir = rundir_open(t->a, t->d, t->c->resume, t->columns);
    if (!t->dir || !keep_resume(t, &host, &found))
        return false;
    if (found && t->inspector)
        inspector_restore(t->inspector, &host);
    if (found)
        return true;
    rundir_log(t->dir, "killed before its first checkpoint: starts again");
    return first_values(t);
}

bool train_start(Trainer *t)
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
    if (!rundir_has(t->dir, RUN_LAST))
        return keep_last(t);
    t->saved_step = t->s.step;
    return true;
}
