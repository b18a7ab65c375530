/* train.c: `detent train` and `detent eval`: the options become the runtime's configuration.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Normalise session_normalise(const DtModel *m)
{
    Normalise n;
    memcpy(n.mean, m->mean, sizeof(n.mean));
    memcpy(n.std, m->std, sizeof(n.std));
    return n;
}

Dataset *session_data(Session *s)
{
    if (s->opt.dataset == NULL) {
        diag_error(&s->diag, LOC_NONE,
                   "--dataset: expected the name of a data set, found none: network '%s' does not say one",
                   s->model->name);
        diag_help(&s->diag,
                  "add --dataset mnist or --dataset cifar10, or .training = { .data = \"mnist\" } to the network");
        return NULL;
    }
    if (s->opt.data == NULL) {
        diag_error(&s->diag, LOC_NONE, "--data: expected the directory that holds %s, found no such option",
                   s->opt.dataset);
        diag_help(&s->diag, "add --data DIR; a part of mnist lies in data/mnist-small of Detent's source");
        return NULL;
    }
    Dataset *data = dataset_open(&s->arena, &s->diag, s->opt.dataset, s->opt.data);
    if (data == NULL)
        return NULL;
    const int *image = s->model->image;
    if (data->c != image[0] || data->h != image[1] || data->w != image[2]) {
        diag_error(&s->diag, LOC_NONE, "%s: the network expects images of %dx%dx%d, %s has %dx%dx%d", s->model->name,
                   image[0], image[1], image[2], data->name, data->c, data->h, data->w);
        diag_help(&s->diag, "choose another --dataset, or change .image of the network");
        return NULL;
    }
    if (data->classes != s->model->classes) {
        diag_error(&s->diag, LOC_NONE, "%s: the network has %d classes, %s has %d", s->model->name, s->model->classes,
                   data->name, data->classes);
        diag_help(&s->diag, "choose another --dataset, or change .classes of the network");
        return NULL;
    }
    return data;
}

/* "lsq w4a4", "float": what a person calls the recipe, and the name of the run. */
static const char *train_name(Session *s, char between)
{
    return session_needs_init(s) ? arena_printf(&s->arena, "%s%c%s", s->recipe.method, between, s->opt.bits) : "float";
}

/* The command that was started, with another command word: "detent eval", "my_net eval". */
static const char *train_command(const Session *s, Arena *a, const char *word, const char *net)
{
    bool own = !str_eq(s->program, "detent");
    return arena_printf(a, "%s %s%s%s", s->program, word, own || net == NULL ? "" : " ", own || net == NULL ? "" : net);
}

/* Accuracy, place, and what to try next. */
static void train_say_end(Session *s, const TrainResult *r, const char *net)
{
    Arena *a = &s->arena;
    if (r->dir == NULL || (r->status != TRAIN_DONE && r->status != TRAIN_INTERRUPTED))
        return;
    bool over = r->status == TRAIN_DONE && r->epoch >= s->opt.epochs;
    bool tested = r->best_epoch > 0 || (over && s->opt.epochs == 0);
    if (over && s->opt.epochs == 0)
        log_info("test accuracy %.2f %% without training, %.1f s", r->best_top1, r->seconds);
    else if (over && tested)
        log_info("test accuracy %.2f %% (best %.2f %% in epoch %lld), %.1f s", r->tested ? r->test_top1 : r->best_top1,
                 r->best_top1, (long long)r->best_epoch, r->seconds);
    if (over && r->clamped)
        log_info("clipped and not rounded: %.2f %%", r->test_top1_clamped);
    log_info("the run lies in %s: " RUN_CSV ", " RUN_LOG ", %s", r->dir, tested ? RUN_BEST : RUN_LAST);
    if (!over)
        log_info("go on with: %s --resume %s", train_command(s, a, "train", NULL), r->dir);
    else if (session_needs_init(s))
        log_info("next: %s --resume %s", train_command(s, a, "eval", NULL), r->dir);
    else
        log_info("next, in 4 bits: %s --method lsq --bits w4a4 --init %s/" RUN_BEST " --data %s",
                 train_command(s, a, "train", net), r->dir, s->opt.data);
}

static void train_profile(Session *s, const LoadedProgram *p);

/* How args.json names the network: a file by its whole path, so that the run can be resumed from anywhere. */
static const char *train_net(Session *s, const StrList *rest)
{
    char        whole[PATH_MAX];
    const char *net = rest->len > 0 ? rest->at[0] : s->model->name;
    return rest->len > 0 && !str_eq(net, s->model->name) && realpath(net, whole) != NULL
               ? arena_strdup(&s->arena, whole)
               : net;
}

/* The programs of a run, and what else train_run() needs. False: reported. */
static bool train_config(Session *s, TrainConfig *c)
{
    *c = (TrainConfig){
        .id = { s->model->name, s->recipe.method, session_recipe_text(s), s->opt.dataset, s->opt.batch, s->opt.seed },
        .classes = s->model->classes,
        .normalise = session_normalise(s->model),
        .schedule = { .lr = s->opt.lr, .epochs = s->opt.epochs, .warmup_epochs = s->opt.warmup },
        .no_augment = s->opt.no_augment,
        .max_steps = s->opt.max_steps,
        .save_every = s->opt.save_every,
        .log_every = s->opt.log_every,
        .eval_every = s->opt.eval_every,
        .inspect_every = s->opt.inspect_every,
        .exp = s->opt.exp != NULL ? s->opt.exp : train_name(s, '-'),
        .out = s->opt.out,
        .resume = s->opt.resume,
        .init_from = s->opt.init,
        .catch_signals = true,
        .progress = s->opt.quiet ? NULL : stderr,
    };
    if (!schedule_parse(&s->diag, s->opt.schedule, &c->schedule) || !schedule_check(&s->diag, &c->schedule))
        return false;
    c->data = session_data(s);
    if (c->data == NULL)
        return false;
    recipe_check_epochs(&s->recipe, &s->diag, (double)s->opt.epochs);
    double start = time_now_s();
    if (!session_train_programs(s, c))
        return false;
    log_info("%s, %s: compiled in %.2f s, %d launches a step, batch %lld", s->model->name, train_name(s, ' '),
             time_now_s() - start, c->train.program->n_launches, (long long)s->opt.batch);
    return true;
}

int command_train(Session *s, const StrList *rest)
{
    static const char *const fixed[] = { "out", "exp", "init" };
    const char              *net = train_net(s, rest);
    TrainConfig              c;
    RunArgs                  args = { 0 };
    for (int32_t i = 0; s->opt.resume != NULL && i < DT_COUNT(fixed); i++)
        if (cli_given(&s->opt, fixed[i])) {
            diag_error(&s->diag, LOC_NONE,
                       "--%s: expected no such option beside --resume, which goes on with the run in %s", fixed[i],
                       s->opt.resume);
            return EXIT_USAGE;
        }
    if (!train_config(s, &c))
        return EXIT_MISTAKE;
    cli_args(&s->arena, &s->opt, net, &args);
    c.args = args.at;
    c.n_args = args.len;
    TrainResult r = train_run(&s->arena, &s->diag, &c);
    train_say_end(s, &r, rest->len > 0 ? rest->at[0] : net);
    if (s->opt.profile && r.status == TRAIN_DONE)
        train_profile(s, &c.train);
    return r.exit_code;
}

/* ---- eval
 * ------------------------------------------------------------------------------------------------------------ */

/* The weights that the options name. NULL: they name none. */
static const char *eval_file(Session *s)
{
    if (s->opt.checkpoint != NULL || s->opt.resume == NULL)
        return s->opt.checkpoint;
    const char *best = arena_printf(&s->arena, "%s/" RUN_BEST, s->opt.resume);
    return access(best, F_OK) == 0 ? best
                                   : arena_printf(&s->arena, "%s/" RUN_LAST, s->opt.resume); /* no epoch is over yet */
}

/* Tensors of one name in two networks are seldom the same: the name of the network is asked first. */
static bool eval_check_net(Session *s, const char *file, const char *net)
{
    if (net == NULL || str_eq(net, s->model->name))
        return true;
    diag_error(&s->diag, LOC_NONE, "checkpoint: %s: expected weights of network %s, found those of %s", file,
               s->model->name, net);
    diag_help(&s->diag, "evaluate them with the network that they were trained with");
    return false;
}

/* What was quantized in training must be quantized in the same way here. A file that Detent did not write leaves that
 * to the command line. */
bool session_adopt(Session *s, const char *file)
{
    static const char *const options[] = { "method", "bits", "layer", "set", "edge-bits", "batch-in-n" };
    Arena                    scratch = arena_new("checkpoint");
    const StFile            *f = st_read(&scratch, &s->diag, file);
    const char *method = f != NULL ? st_meta(f, "method") : NULL, *recipe = f != NULL ? st_meta(f, "bits") : NULL;
    bool        told = s->opt.said.said.len > 0, ok = f != NULL && eval_check_net(s, file, st_meta(f, "net"));
    for (int32_t i = 0; i < DT_COUNT(options); i++)
        told |= cli_given(&s->opt, options[i]);
    if (ok && method != NULL && recipe != NULL && !told) {
        ok = session_recipe_apply(s, method, recipe);
    } else if (ok && method != NULL && recipe != NULL &&
               (!str_eq(method, s->recipe.method) || !str_eq(recipe, session_recipe_text(s)))) {
        diag_error(&s->diag, LOC_NONE,
                   "checkpoint: %s was trained with --method %s --bits %s; the command line says --method %s --bits %s",
                   file, method, recipe, s->recipe.method, session_recipe_text(s));
        diag_help(&s->diag, "leave these options out: the checkpoint says them itself");
        ok = false;
    }
    arena_free(&scratch);
    return ok;
}

int command_eval(Session *s, const StrList *rest)
{
    (void)rest;
    const char *file = eval_file(s);
    if (file == NULL) {
        diag_error(&s->diag, LOC_NONE,
                   "%s eval: expected weights: --checkpoint FILE, or --resume RUN for the best ones of a run",
                   s->program);
        return EXIT_USAGE;
    }
    if (!session_adopt(s, file))
        return EXIT_MISTAKE;
    EvalConfig c = {
        .data = session_data(s),
        .classes = s->model->classes,
        .normalise = session_normalise(s->model),
        .checkpoint = file,
        .progress = s->opt.quiet ? NULL : stderr,
    };
    if (c.data == NULL)
        return EXIT_MISTAKE;
    c.eval = session_load(s, STEP_EVAL);
    if (c.eval.program == NULL)
        return EXIT_MISTAKE;
    log_info("%s, %s, weights of %s", s->model->name, train_name(s, ' '), file);
    EvalResult r = eval_run(&s->arena, &s->diag, &c);
    if (!r.ok)
        return EXIT_MISTAKE;
    fprintf(s->out, "accuracy %.2f %% (%lld of %lld), loss %.4f\n", r.top1, (long long)r.correct, (long long)r.samples,
            r.loss);
    return EXIT_OK;
}

/* ---- --profile
 * ------------------------------------------------------------------------------------------------------- */

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
            if (!shown[i] &&
                (top < 0 || exec_launch_seconds(p->exec, p->index, i) > exec_launch_seconds(p->exec, p->index, top)))
                top = i;
        double t = exec_launch_seconds(p->exec, p->index, top);
        shown[top] = true;
        fprintf(s->out, "%11.3f %9.1f %%  %d %s\n", 1e3 * t / (double)dt_max64(steps, 1), 100 * t / total, top,
                p->program->launches[top].name);
    }
}
