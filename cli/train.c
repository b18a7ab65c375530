/* train.c: `detent train` and `detent eval`: the options become the runtime's configuration.
 *
 * Tested by tests/unit/test_cli.c and the end-to-end tests. */
#include "cli/cli.h"

#include <string.h>

static Normalise train_normalise(const DtModel *m)
{
    Normalise n;
    memcpy(n.mean, m->mean, sizeof(n.mean));
    memcpy(n.std, m->std, sizeof(n.std));
    return n;
}

static Dataset *train_data(Session *s)
{
    if (s->opt.dataset == NULL) {
        diag_error(&s->diag, LOC_NONE, "--dataset: network '%s' does not say which data set it is for", s->model->name);
        diag_help(&s->diag, "add --dataset mnist or --dataset cifar10");
        return NULL;
    }
    if (s->opt.data == NULL) {
        diag_error(&s->diag, LOC_NONE, "--data: expected the directory that holds %s", s->opt.dataset);
        return NULL;
    }
    Dataset *data = dataset_open(&s->arena, &s->diag, s->opt.dataset, s->opt.data);
    if (data == NULL)
        return NULL;
    const int *image = s->model->image;
    if (data->c != image[0] || data->h != image[1] || data->w != image[2]) {
        diag_error(&s->diag, LOC_NONE, "%s: the network expects images of %dx%dx%d, the data set has %dx%dx%d", s->model->name,
                   image[0], image[1], image[2], data->c, data->h, data->w);
        return NULL;
    }
    if (data->classes != s->model->classes) {
        diag_error(&s->diag, LOC_NONE, "%s: the network has %d classes, the data set %d", s->model->name, s->model->classes, data->classes);
        return NULL;
    }
    return data;
}

static const char *train_bits(Session *s)
{
    return session_needs_init(s) ? s->opt.bits : "float";
}

/* A resumed run is what args.json says it was. */
static bool train_resume(Session *s)
{
    RunArgs     args = { 0 };
    const char *net = NULL;
    if (!rundir_read_args(&s->arena, &s->diag, s->opt.resume, &args) ||
        !cli_args_apply(&s->arena, &s->diag, &args, &s->opt, &net))
        return false;
    if (s->model != NULL)
        return true;
    if (net == NULL) {
        diag_error(&s->diag, LOC_NONE, "--resume: %s/" RUN_ARGS " does not name the network", s->opt.resume);
        return false;
    }
    const DtModel *m = frontend_find(&s->arena, &s->diag, net);
    return m != NULL && session_open(s, m);
}

static void train_say_end(const Session *s, const TrainResult *r)
{
    if (r->dir == NULL)
        return;
    if (r->status == TRAIN_DONE) {
        log_info("test accuracy %.2f %% (best %.2f %% in epoch %lld), %.1f s", r->test_top1, r->best_top1, (long long)r->best_epoch, r->seconds);
        log_info("the run lies in %s: metrics.csv, log.txt, " RUN_BEST, r->dir);
        log_info("next: detent eval %s --resume %s --data %s", s->model->name, r->dir, s->opt.data);
    } else if (r->status == TRAIN_INTERRUPTED) {
        log_info("go on with: detent train --resume %s", r->dir);
    }
}

static void train_profile(Session *s, const LoadedProgram *p);

int command_train(Session *s, const StrList *rest)
{
    if (s->opt.resume != NULL && !train_resume(s))
        return EXIT_MISTAKE;
    Dataset *data = train_data(s);
    if (data == NULL)
        return EXIT_MISTAKE;
    TrainConfig c = {
        .data = data,
        .id = { s->model->name, s->recipe.method, train_bits(s), data->name, s->opt.batch, s->opt.seed },
        .classes = s->model->classes,
        .normalise = train_normalise(s->model),
        .schedule = { .lr = s->opt.lr, .epochs = s->opt.epochs, .warmup_epochs = s->opt.warmup },
        .no_augment = s->opt.no_augment,
        .max_steps = s->opt.max_steps,
        .save_every = s->opt.save_every,
        .log_every = s->opt.log_every,
        .eval_every = s->opt.eval_every,
        .exp = s->opt.exp,
        .out = s->opt.out,
        .resume = s->opt.resume,
        .init_from = s->opt.init,
        .catch_signals = true,
        .progress = s->opt.quiet ? NULL : stderr,
    };
    if (!schedule_parse(&s->diag, s->opt.schedule, &c.schedule))
        return EXIT_MISTAKE;
    double start = time_now_s();
    c.train = session_load(s, STEP_TRAIN);
    if (c.train.program != NULL)
        c.eval = session_load(s, STEP_EVAL);
    if (c.eval.program != NULL && session_needs_init(s))
        c.init = session_load(s, STEP_INIT);
    if (c.train.program == NULL || c.eval.program == NULL || (session_needs_init(s) && c.init.program == NULL))
        return EXIT_MISTAKE;
    log_info("%s %s %s: compiled in %.2f s, %d launches a step, batch %lld", s->model->name, s->recipe.method, train_bits(s),
             time_now_s() - start, c.train.program->n_launches, (long long)s->opt.batch);
    RunArgs args = { 0 };
    cli_args(&s->arena, &s->opt, rest->len > 0 ? rest->at[0] : s->model->name, &args);
    c.args = args.at;
    c.n_args = args.len;
    TrainResult r = train_run(&s->arena, &s->diag, &c);
    train_say_end(s, &r);
    if (s->opt.profile && r.status == TRAIN_DONE)
        train_profile(s, &c.train);
    return r.exit_code;
}

int command_eval(Session *s, const StrList *rest)
{
    (void)rest;
    if (s->opt.resume != NULL && !train_resume(s))
        return EXIT_MISTAKE;
    const char *file = s->opt.checkpoint;
    if (file == NULL && s->opt.resume != NULL)
        file = arena_printf(&s->arena, "%s/" RUN_BEST, s->opt.resume);
    if (file == NULL) {
        diag_error(&s->diag, LOC_NONE, "eval: expected weights: --checkpoint FILE, or --resume RUN for the best ones of a run");
        return EXIT_USAGE;
    }
    if (!session_open(s, s->model)) /* again: the run's arguments hold now */
        return EXIT_MISTAKE;
    Dataset *data = train_data(s);
    if (data == NULL)
        return EXIT_MISTAKE;
    EvalConfig c = {
        .eval = session_load(s, STEP_EVAL),
        .data = data,
        .classes = s->model->classes,
        .normalise = train_normalise(s->model),
        .checkpoint = file,
        .progress = s->opt.quiet ? NULL : stderr,
    };
    if (c.eval.program == NULL)
        return EXIT_MISTAKE;
    EvalResult r = eval_run(&s->arena, &s->diag, &c);
    if (!r.ok)
        return EXIT_MISTAKE;
    printf("accuracy %.2f %% (%lld of %lld), loss %.4f\n", r.top1, (long long)r.correct, (long long)r.samples, r.loss);
    return EXIT_OK;
}

/* ---- --profile ------------------------------------------------------------------------------------------------------- */

static void train_profile(Session *s, const LoadedProgram *p)
{
    double  total = 0;
    int64_t steps = exec_launch_count(p->exec, p->index);
    bool   *shown = ARENA_ARRAY(&s->arena, bool, p->program->n_launches);
    for (int32_t i = 0; i < p->program->n_launches; i++)
        total += exec_launch_seconds(p->exec, p->index, i);
    fprintf(s->out, "%d launches, %.2f ms a step in them\n    ms/step      share  launch\n", p->program->n_launches,
            1e3 * total / (double)dt_max64(steps, 1));
    for (int32_t n = 0; n < p->program->n_launches; n++) {
        int32_t top = -1;
        for (int32_t i = 0; i < p->program->n_launches; i++)
            if (!shown[i] && (top < 0 || exec_launch_seconds(p->exec, p->index, i) > exec_launch_seconds(p->exec, p->index, top)))
                top = i;
        double t = exec_launch_seconds(p->exec, p->index, top);
        shown[top] = true;
        fprintf(s->out, "%11.3f %9.1f %%  %d %s\n", 1e3 * t / (double)dt_max64(steps, 1), 100 * t / total, top, p->program->launches[top].name);
    }
}
