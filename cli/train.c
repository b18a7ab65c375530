/* train.c: `detent train` and `detent eval`: the options become the runtime's configuration.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e. */
#include "cli/cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/profile.h"

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

/* "97.00 %", "38.20 dB" */
static const char *train_score(Arena *a, Measure m, double value)
{
    const MeasureInfo *info = &measure_infos[m];
    return arena_printf(a, "%.*f%s%s", info->decimals, value, m == MEASURE_TOP1 ? " " : "", info->unit);
}

/* "test accuracy 97.00 % (best 97.20 % in epoch 3), 12.3 s" */
static void train_say_scores(Session *s, const TrainResult *r)
{
    Arena      *a = &s->arena;
    const char *name = r->score == MEASURE_TOP1 ? "accuracy" : measure_infos[r->score].text;
    const char *now = train_score(a, r->score, r->test.ok ? r->test.measure[r->score] : r->best_score);
    if (s->opt.epochs == 0)
        log_info("test %s %s without training, %.1f s", name, now, r->seconds);
    else if (r->best_epoch > 0)
        log_info("test %s %s (best %s in epoch %lld), %.1f s", name, now, train_score(a, r->score, r->best_score),
                 (long long)r->best_epoch, r->seconds);
    if (r->clamped.ok)
        log_info("clipped and not rounded: %s", train_score(a, r->score, r->clamped.measure[r->score]));
}

/* Scores, place, and what to try next. */
static void train_say_end(Session *s, const TrainResult *r, const char *net)
{
    Arena *a = &s->arena;
    if (r->dir == NULL || (r->status != TRAIN_DONE && r->status != TRAIN_INTERRUPTED))
        return;
    if (r->over)
        train_say_scores(s, r);
    log_info("the run lies in %s: " RUN_CSV ", " RUN_LOG ", %s", r->dir,
             r->best_epoch > 0 || (r->over && s->opt.epochs == 0) ? RUN_BEST : RUN_LAST);
    if (!r->over)
        log_info("go on with: %s --resume %s", train_command(s, a, "train", NULL), r->dir);
    else if (session_needs_init(s))
        log_info("next: %s --resume %s", train_command(s, a, "eval", NULL), r->dir);
    else
        log_info("next, in 4 bits: %s --method lsq --bits w4a4 --init %s/" RUN_BEST " --data %s",
                 train_command(s, a, "train", net), r->dir, s->opt.data);
}

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
        .id = { s->model->name, s->recipe.method, session_recipe_text(s), s->opt.dataset, s->opt.batch, s->opt.seed,
                session_sizes_text(s) },
        .classes = s->model->classes,
        .normalise = session_normalise(s->model),
        .schedule = { .lr = s->opt.lr, .epochs = s->opt.epochs, .warmup_epochs = s->opt.warmup },
        .ssim = session_ssim(s),
        .max_steps = s->opt.max_steps,
        .save_every = s->opt.save_every,
        .log_every = s->opt.log_every,
        .eval_every = s->opt.eval_every,
        .patience = s->opt.patience,
        .keep_every = s->opt.keep_every,
        .keep = s->opt.keep,
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
    if (c->data == NULL || !session_augment(s, &c->augment))
        return false;
    recipe_check_epochs(&s->recipe, &s->diag, (double)s->opt.epochs);
    if (!session_limit_run(s))
        return false;
    double start = time_now_s();
    if (!session_train_programs(s, c))
        return false;
    session_say_again(s);
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
    session_record_forward(s);
    cli_args(&s->arena, &s->opt, net, &args);
    c.args = args.at;
    c.n_args = args.len;
    TrainResult r = train_run(&s->arena, &s->diag, &c);
    train_say_end(s, &r, rest->len > 0 ? rest->at[0] : net);
    bool profile = s->opt.profile && r.status == TRAIN_DONE;
    return profile && !profile_steps(s, &c.train) ? EXIT_MISTAKE : r.exit_code;
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
    ok = ok && session_sizes_adopt(s, f != NULL ? st_meta(f, CHECKPOINT_SIZES) : NULL);
    arena_free(&scratch);
    return ok;
}

/* "accuracy 97.00 % (4850 of 5000), loss 0.1234", "PSNR 38.20 dB, SSIM 0.9500, loss 0.0012 (20 pictures);
 * before: PSNR 35.10 dB, SSIM 0.8800" */
static void eval_say(Session *s, const EvalResult *r)
{
    Str line = str_new(&s->arena);
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        if (r->measured[m] && m != MEASURE_TOP1) {
            str_add(&line, ", ");
            measure_say(&line, (Measure)m, r->measure[m]);
        }
    const char *others = line.len > 0 ? line.s : "";
    if (r->measured[MEASURE_TOP1])
        fprintf(s->out, "accuracy %.2f %% (%lld of %lld)%s, loss %.4f\n", r->measure[MEASURE_TOP1],
                (long long)eval_correct(r), (long long)r->samples, others, r->loss);
    else
        fprintf(s->out, "%s, loss %.6g (%lld pictures); before: PSNR %.2f dB, SSIM %.4f\n", others + 2, r->loss,
                (long long)r->samples, r->input[MEASURE_PSNR], r->input[MEASURE_SSIM]);
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
        .ssim = session_ssim(s),
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
    eval_say(s, &r);
    return EXIT_OK;
}
