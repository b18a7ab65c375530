/* sensitivity.c: `detent sensitivity NET`: which layers cost accuracy (of pictures: PSNR) when they are quantized (Wu
 * et al. 2020, section 4.3, partial quantization).
 *
 * Each trial is a session of its own - a recipe compiled, the trained weights, ranges calibrated anew - and an
 * evaluation on the first test images. First every layer alone is quantized, all others in float; then all together,
 * and the layers that cost most are left in float, one after another, until what is lost is within --loss. That is one
 * trial a layer and a few more, not one for each set of layers: layers are taken to do harm independently.
 *
 * Ranges that the recipe does not calibrate would be found in training, and are found here by mse.
 *
 * Tested by tests/unit/test_sensitivity.c. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* A layer that the recipe quantizes. */
typedef struct SenseLayer {
    const char *name, *bits; /* "w4a4" */
    int64_t     params, macs;
    EvalResult  alone; /* this one quantized, all others in float */
    bool        left;  /* in float, in the trial that is made */
} SenseLayer;

typedef struct Sense {
    Session       *s;
    const Dataset *data; /* its test set is only what is looked at */
    Gpu           *gpu;  /* of the first trial */
    SenseLayer    *layers;
    int32_t        n;
    int64_t        macs;  /* of all layers, quantized or not */
    EvalResult     whole; /* in float */
} Sense;

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

/* As patterns see it: insert-quantize names layers by their weights. */
static const char *sense_name(Arena *a, const Graph *g, ValueId id)
{
    const char *weight = ir_value(g, ir_value(g, id)->in[1])->name, *tail = ".weight";
    size_t      len = weight != NULL ? strlen(weight) : 0, cut = strlen(tail);
    return len > cut && str_eq(weight + len - cut, tail) ? arena_strndup(a, weight, len - cut) : ir_label(a, g, id);
}

/* "w4a4", "w8": what of the layer is quantized; NULL: nothing, or reported. */
static const char *sense_bits(Session *s, const char *name, bool edge)
{
    int32_t bits[ROLE_COUNT];
    Str     text = str_new(&s->arena);
    for (int role = 0; role < ROLE_COUNT; role++) {
        QuantSpec spec;
        if (!recipe_resolve(&s->arena, &s->diag, &s->recipe, name, edge, (Role)role, &spec))
            return NULL;
        bits[role] = spec.bits;
        if (spec.bits > 0)
            str_printf(&text, "%c%d", role == ROLE_WEIGHT ? 'w' : 'a', spec.bits);
    }
    return bits[ROLE_WEIGHT] + bits[ROLE_ACT] > 0 ? text.s : NULL;
}

/* Layers that share a weight are one row: a recipe cannot tell them apart. */
static void sense_add(Sense *t, const char *name, const char *bits, int64_t params, int64_t macs)
{
    for (int32_t i = 0; i < t->n; i++)
        if (str_eq(t->layers[i].name, name)) {
            t->layers[i].macs += macs;
            return;
        }
    t->layers[t->n++] = (SenseLayer){ .name = name, .bits = bits, .params = params, .macs = macs };
}

/* False: reported. */
static bool sense_layers(Sense *t)
{
    Session *s = t->s;
    Graph   *g = frontend_build(&s->arena, &s->diag, s->model, s->opt.batch, STEP_EVAL);
    if (g == NULL)
        return false;
    int32_t  n = 0;
    ValueId *at = ARENA_ARRAY(&s->arena, ValueId, g->order.len);
    for (int32_t i = 0; i < g->order.len; i++)
        if (cli_is_layer(g, g->order.at[i]))
            at[n++] = g->order.at[i];
    t->layers = ARENA_ARRAY(&s->arena, SenseLayer, n);
    for (int32_t i = 0; i < n; i++) {
        const Value *v = ir_value(g, at[i]);
        const Shape  w = ir_value(g, v->in[1])->type.shape;
        const char  *name = sense_name(&s->arena, g, at[i]);
        const char  *bits = sense_bits(s, name, i == 0 || i == n - 1);
        int64_t      macs = cli_macs(g, v, s->opt.batch);
        t->macs += macs;
        if (bits != NULL)
            sense_add(t, name, bits, shape_elems(w), macs);
    }
    if (t->n == 0 && s->diag.errors == 0) {
        diag_error(&s->diag, LOC_NONE, "%s sensitivity: expected a recipe that quantizes a layer of %s, found none",
                   s->program, s->model->name);
        diag_help(&s->diag, "add --method ptq --bits w4a4");
    }
    return s->diag.errors == 0;
}

/* ---- One trial --------------------------------------------------------------------------------------------------- */

/* Ranges for what the trial quantizes. */
static bool sense_calibrate(Sense *t, Session *v, LoadedProgram eval)
{
    const QuantSite *found;
    int32_t          n;
    if (!session_quant_sites(v, &found, &n))
        return false;
    if (n == 0)
        return true;
    QuantSite *sites = arena_copy(&v->arena, found, sizeof *sites * (size_t)n);
    for (int32_t i = 0; i < n; i++)
        if (sites[i].kind == CALIBRATE_NONE)
            sites[i].kind = CALIBRATE_MSE;
    CalibrateConfig c = {
        .observe = session_load(v, STEP_OBSERVE),
        .train = eval,
        .data = t->data,
        .classes = v->model->classes,
        .normalise = session_normalise(v->model),
        .seed = v->opt.seed,
        .batches = (int64_t)recipe_setting(&v->arena, &v->recipe, SET_BATCHES).number[0],
        .sites = sites,
        .n_sites = n,
    };
    return c.observe.program != NULL && calibrate_run(&v->arena, &v->diag, &c);
}

/* Other bits or another method than the checkpoint's: ranges in it are passed over. */
static bool sense_weights(Session *v, LoadedProgram eval)
{
    const RunIdentity id = { .net = v->model->name, .method = "", .bits = "" };
    bool              ranges;
    return program_init(&v->diag, eval, v->opt.seed) && checkpoint_init(&v->diag, v->opt.init, &id, eval, &ranges);
}

/* Opens the variant, all layers that are `left` in float. */
static bool sense_open(Sense *t, Session *v, bool quantized)
{
    if (!quantized) {
        v->opt.method = v->opt.bits = NULL;
        v->opt.layers = v->opt.settings = (StrList){ 0 };
        v->opt.said = (RecipeFile){ 0 };
    }
    bool ok = session_open(v, t->s->model);
    for (int32_t i = 0; i < t->n && ok && quantized; i++)
        if (t->layers[i].left)
            ok = recipe_add_layer(&v->arena, &v->recipe, &v->diag, "sensitivity",
                                  arena_printf(&v->arena, "%s=float", t->layers[i].name));
    return ok;
}

/* Accuracy with the layers quantized that are not `left`. Warnings of later trials would repeat those of the first.
 * False: reported. */
static bool sense_trial(Sense *t, Session *v, bool quantized, bool first, EvalResult *out)
{
    *v = (Session){ .arena = arena_new("trial"),
                    .diag = diag_new(first ? stderr : NULL),
                    .opt = t->s->opt,
                    .program = t->s->program,
                    .test_h = t->s->test_h,
                    .test_w = t->s->test_w,
                    .gpu = t->gpu,
                    .gpu_borrowed = t->gpu != NULL,
                    .out = t->s->out };
    LoadedProgram eval = { 0 };
    bool          ok = sense_open(t, v, quantized);
    if (ok)
        eval = session_load(v, STEP_EVAL);
    ok = eval.program != NULL && sense_weights(v, eval) && (!quantized || sense_calibrate(t, v, eval));
    if (ok) {
        EvalConfig c = { .eval = eval,
                         .data = t->data,
                         .classes = v->model->classes,
                         .normalise = session_normalise(v->model),
                         .ssim = session_ssim(v) };
        *out = eval_run(&v->arena, &v->diag, &c);
        ok = out->ok;
    }
    if (!ok && !first && v->diag.text.s != NULL)
        fputs(v->diag.text.s, stderr);
    return ok;
}

/* A trial whose session ends with it. */
static bool sense_quantized(Sense *t, bool first, EvalResult *out)
{
    Session v;
    bool    ok = sense_trial(t, &v, true, first, out);
    session_close(&v);
    return ok;
}

/* Accuracy in percent, PSNR in dB. */
static double sense_score(const EvalResult *r)
{
    return r->measure[r->score];
}

static const char *sense_word(const Sense *t)
{
    return measure_infos[t->whole.score].text;
}

static double sense_drop(const Sense *t, const EvalResult *r)
{
    return sense_score(&t->whole) - sense_score(r);
}

/* ---- What is found ----------------------------------------------------------------------------------------------- */

/* False: reported. */
static bool sense_each(Sense *t)
{
    for (int32_t i = 0; i < t->n; i++) {
        for (int32_t k = 0; k < t->n; k++)
            t->layers[k].left = k != i;
        if (!sense_quantized(t, false, &t->layers[i].alone))
            return false;
        log_info("%d of %d: %s, %s: %s %.2f", i + 1, t->n, t->layers[i].name, t->layers[i].bits, sense_word(t),
                 sense_score(&t->layers[i].alone));
    }
    return true;
}

/* What costs most comes first; where accuracy is the same, what raises the loss most. */
static int sense_by_drop(const void *x, const void *y)
{
    const SenseLayer *a = x, *b = y;
    const double      x_score = sense_score(&a->alone), y_score = sense_score(&b->alone);
    if (x_score != y_score)
        return x_score < y_score ? -1 : 1;
    if (a->alone.loss != b->alone.loss)
        return a->alone.loss > b->alone.loss ? -1 : 1;
    return strcmp(a->name, b->name);
}

static void sense_table(const Sense *t)
{
    FILE *out = t->s->out;
    int   width = (int)strlen("layer");
    for (int32_t i = 0; i < t->n; i++)
        width = (int)dt_max64(width, (int64_t)strlen(t->layers[i].name));
    fprintf(out, "%-*s %6s %10s %7s %8s %8s %9s\n", width, "layer", "bits", "params", "MACs", sense_word(t), "drop",
            "loss");
    for (int32_t i = 0; i < t->n; i++) {
        const SenseLayer *l = &t->layers[i];
        fprintf(out, "%-*s %6s %10lld %5.1f %% %8.2f %8.2f %9.4f\n", width, l->name, l->bits, (long long)l->params,
                100 * (double)l->macs / (double)t->macs, sense_score(&l->alone), sense_drop(t, &l->alone),
                l->alone.loss);
    }
}

/* The lines of a recipe that leave these layers in float. */
static void sense_recipe(const Sense *t, int32_t left)
{
    FILE *out = t->s->out;
    if (left == 0) {
        fprintf(out, "no layer needs to stay in float\n");
        return;
    }
    fprintf(out, "\n# at the end of a recipe, or:");
    for (int32_t i = 0; i < left; i++)
        fprintf(out, " --layer '%s=float'", t->layers[i].name);
    fprintf(out, "\n");
    for (int32_t i = 0; i < left; i++)
        fprintf(out, "[%s]\nbits = float\n", t->layers[i].name);
}

/* Leaves the worst layers in float, until the rest loses no more than it may. False: reported. */
static bool sense_greedy(Sense *t)
{
    EvalResult r;
    int32_t    left = 0;
    for (int32_t i = 0; i < t->n; i++)
        t->layers[i].left = false;
    for (;; left++) {
        if (left < t->n && !sense_quantized(t, left == 0, &r))
            return false;
        if (left == t->n)
            r = t->whole;
        if (left == 0)
            fprintf(t->s->out, "\nall quantized: %s %.2f, drop %.2f\n", sense_word(t), sense_score(&r),
                    sense_drop(t, &r));
        else
            fprintf(t->s->out, "%s in float, too: %s %.2f, drop %.2f\n", t->layers[left - 1].name, sense_word(t),
                    sense_score(&r), sense_drop(t, &r));
        if (sense_drop(t, &r) <= t->s->opt.loss || left == t->n)
            break;
        t->layers[left].left = true;
    }
    sense_recipe(t, left);
    return true;
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* Options without which there is nothing to measure. */
static bool sense_options(Session *s)
{
    if (s->opt.init == NULL) {
        diag_error(&s->diag, LOC_NONE, "%s sensitivity: expected trained weights, --init FILE, found no such option",
                   s->program);
        diag_help(&s->diag, "train them in float: %s train %s --data DIR", s->program, s->model->name);
        return false;
    }
    if (recipe_quantizes(&s->recipe))
        return true;
    diag_error(&s->diag, LOC_NONE, "--method: expected one that quantizes, found %s", s->recipe.method);
    diag_help(&s->diag, "add --method ptq --bits w4a4");
    return false;
}

static bool sense_run(Sense *t)
{
    Session  float_session;
    Session *s = t->s;
    bool     ok = sense_trial(t, &float_session, false, true, &t->whole);
    t->gpu = float_session.gpu; /* open until the end, for all */
    if (ok) {
        fprintf(s->out, "%s in float: %s %.2f%s of the first %lld test images, loss %.4f\n", s->model->name,
                sense_word(t), sense_score(&t->whole), t->whole.score == MEASURE_TOP1 ? " %" : " dB",
                (long long)t->whole.samples, t->whole.loss);
        ok = sense_each(t);
    }
    if (ok) {
        qsort(t->layers, (size_t)t->n, sizeof *t->layers, sense_by_drop);
        sense_table(t);
        ok = sense_greedy(t);
    }
    session_close(&float_session);
    return ok;
}

int command_sensitivity(Session *s, const StrList *rest)
{
    (void)rest;
    Sense t = { .s = s };
    if (!sense_options(s))
        return EXIT_USAGE;
    const Dataset *data = session_data(s);
    if (data == NULL || !sense_layers(&t))
        return EXIT_MISTAKE;
    t.data = dataset_head(&s->arena, data, SPLIT_TEST, (int32_t)dt_min64(s->opt.images, INT32_MAX));
    return sense_run(&t) ? EXIT_OK : EXIT_MISTAKE;
}
