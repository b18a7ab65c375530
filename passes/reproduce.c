/* reproduce.c: what a bug of the compiler leaves behind: a directory with
 *
 *   reproducer.dtir   the graph before the pass; its first line tells detent-opt which pass and context to replay
 *   broken.dtir       the graph when the bug was seen
 *   report.txt        message, pass, pipeline, options, version, and the command that shows the bug again
 *
 * It runs inside dt_bug(), just before the process aborts, so whatever fails here is only printed.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void recipe_row_print(Str *out, const RecipeRow *row)
{
    Str         word = str_new(out->arena);
    const char *sides = !row->role ? "wa" : str_eq(row->role, "weight") ? "w" : "a";
    str_printf(&word, "--layer=%s=", row->pattern);
    for (const char *s = sides; *s; s++)
        str_printf(&word, "%c%d", *s, row->bits ? row->bits : 32);
    str_add(out, " ");
    opts_quote(out, word.s);
}

static void setting_print(Str *out, const RecipeSetting *s)
{
    Str word = str_new(out->arena);
    str_add(&word, "--set=");
    recipe_print_setting(&word, s);
    str_add(out, " ");
    opts_quote(out, word.s);
}

static void number_print(Str *out, const char *flag, double x)
{
    str_printf(out, " --%s=", flag);
    str_add_f64(out, x);
}

static void recipe_print(Str *out, const Recipe *r)
{
    str_printf(out, " --method=%s", r->method);
    if (recipe_quantizes(r))
        str_printf(out, " --bits=w%da%d --edge-bits=%d", r->weight_bits ? r->weight_bits : 32,
                   r->act_bits ? r->act_bits : 32, r->edge_bits);
    for (int32_t i = 0; i < r->rows.len; i++)
        recipe_row_print(out, &r->rows.at[i]);
    for (int32_t i = 0; i < r->settings.len; i++)
        setting_print(out, &r->settings.at[i]);
    if (r->batch_in_n)
        str_add(out, " --batch-in-n");
}

/* What it reads, and what is not as it usually is. */
static void optimizer_print(Str *out, const OptimizerConfig *o)
{
    const struct {
        const char *flag;
        double      value;
    } own[] = { { "momentum", o->momentum },
                { "beta1", o->beta1 },
                { "beta2", o->beta2 },
                { "eps", o->eps },
                { "rho", o->rho } },
      more[] = { { "step-lr", o->step_lr }, /* 1 is as usual */
                 { "accumulate", o->accumulate },
                 { "clip-norm", o->clip_norm },
                 { "clip-value", o->clip_value },
                 { "ema", o->ema } };
    const Optimizer *row = optimizer_find(o->name);
    str_printf(out, " --optimizer=%s", row->name);
    number_print(out, "weight-decay", o->weight_decay);
    for (int32_t i = 0; i < DT_COUNT(own); i++)
        if (optimizer_reads(row, own[i].flag))
            number_print(out, own[i].flag, own[i].value);
    for (int32_t i = 0; i < DT_COUNT(more); i++)
        if (more[i].value != 0 && !(i < 2 && more[i].value == 1))
            number_print(out, more[i].flag, more[i].value);
    str_printf(out, "%s%s%s", o->nesterov ? " --nesterov" : "", o->ema != 0 && !o->ema_warm ? " --ema-constant" : "",
               o->gather ? " --gather" : "");
    for (int32_t i = 0; i < o->n_freeze; i++) {
        Str freeze = str_new(out->arena);
        str_printf(&freeze, "--freeze=%s", o->freeze[i].pattern);
        if (isfinite(o->freeze[i].until)) {
            str_add(&freeze, "@");
            str_add_f64(&freeze, o->freeze[i].until);
        }
        str_add(out, " ");
        opts_quote(out, freeze.s);
    }
}

void reproduce_context(Str *out, const PassCtx *c)
{
    str_printf(out, "--step=%s", step_kind_name(c->step));
    if (c->recipe && c->recipe->method)
        recipe_print(out, c->recipe);
    if (c->moment.epochs > 0) {
        number_print(out, "at-epoch", c->moment.epoch);
        str_add(out, "/");
        str_add_f64(out, c->moment.epochs);
    }
    if (c->clamped)
        str_add(out, " --clamped");
    if (c->optimizer)
        optimizer_print(out, c->optimizer);
    if (c->use_averages)
        str_add(out, " --averaged");
    if (c->target && !str_eq(c->target->name, "cpu"))
        str_add(out, " --backend=cuda"); /* one target for all that are GPUs */
    if (c->memory > 0)
        str_printf(out, " --memory=%lld", (long long)c->memory);
    if (c->int8_forward)
        str_add(out, " --forward=int");
    if (c->bf16_backward)
        str_add(out, " --backward=bf16");
}

static void write_graph(Diag *d, Arena *a, const char *dir, const char *file, const char *head, const char *text)
{
    const char *path = arena_printf(a, "%s/%s", dir, file);
    const char *all = arena_printf(a, "%s%s", head, text);
    if (!file_write_atomic(d, path, all, strlen(all)))
        diag_note(d, LOC_NONE, "the bug report goes on without %s", file);
}

static void write_report(Diag *d, Arena *a, const PassRun *r, const char *dir, const char *replay, const char *message)
{
    Str s = str_new(a);
    str_printf(&s, "detent %s\nmessage: %s\n", DT_VERSION, message);
    str_printf(&s, "pass: %s (%d of %d), graph @%s\npipeline: ", pass_run_name(a, r->pipe.rows.at[r->at]), r->at + 1,
               r->pipe.rows.len, r->g->name);
    pipeline_print(&s, &r->pipe);
    str_add(&s, "\ncontext: ");
    reproduce_context(&s, r->c);
    str_add(&s, "\noptions:");
    pass_options_print(&s, r->opt);
    str_printf(&s, "\nreplay: %s\n", replay);
    const char *path = arena_printf(a, "%s/report.txt", dir);
    if (!file_write_atomic(d, path, s.s, s.len))
        diag_note(d, LOC_NONE, "the bug report goes on without report.txt");
}

void reproduce_on_bug(void *user, const char *message)
{
    const PassRun *r = user;
    dt_set_bug_hook(NULL, NULL); /* a second bug while writing ends the process at once */
    Arena       a = arena_new("reproducer");
    Diag        d = diag_new(stderr);
    const char *temp = getenv("TMPDIR");
    const char *dir = r->opt->crash_dir;
    if (!dir)
        dir = arena_printf(&a, "%s/detent-crash-%d", temp && *temp ? temp : "/tmp", (int)getpid());
    if (!dir_make(&d, dir))
        return;
    Str head = str_new(&a);
    str_printf(&head, "// detent-opt: --passes=%s --verify=all%s%s ", pass_run_pass(r)->name,
               r->opt->verify_changed ? " --verify-changed" : "",
               r->opt->verify_roundtrip ? " --verify-roundtrip" : "");
    reproduce_context(&head, r->c);
    str_add(&head, "\n");
    const char *replay = arena_printf(&a, "detent-opt %s/reproducer.dtir", dir);
    write_graph(&d, &a, dir, "reproducer.dtir", head.s, r->before);
    write_report(&d, &a, r, dir, replay, message);
    fprintf(stderr, "pass %s: reproducer in %s; replay with: %s\n", pass_run_pass(r)->name, dir, replay);
    write_graph(&d, &a, dir, "broken.dtir", "", dump_text(&a, r->g, NULL)); /* last: broken IR may be hard to print */
}
