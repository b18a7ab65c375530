/* recipe.c: from options to a recipe, for every command and for detent-opt: --recipe becomes options, options become a
 * Recipe, a Recipe becomes the words that a checkpoint keeps, and those become options again.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and test_bad_recipes.c. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* ---- What a file says -------------------------------------------------------------------------------------------- */

/* One word of the file becomes an option, where the command line does not say otherwise. */
static bool take_said(Arena *a, Diag *d, const RecipeSaid *x, CliOptions *o)
{
    StrList *list = str_eq(x->option, "layer") ? &o->layers : str_eq(x->option, "set") ? &o->settings : NULL;
    if (list != NULL)
        vec_push(a, list, x->text);
    else if (cli_given(o, x->option))
        return true;
    else if (!cli_say(a, d, x->at, x->option, x->text, o))
        return false;
    vec_push(a, &o->said.said, *x);
    return true;
}

/* --noise=0.5 is --set noise=0.5: said once, it is a setting like others. */
static void expand_shorthands(Arena *a, CliOptions *o)
{
    const struct {
        const char *key, **value;
    } shorthands[] = { { "calibrate", &o->calibrate }, { "noise", &o->noise } };
    for (int32_t i = 0; i < DT_COUNT(shorthands); i++) {
        if (*shorthands[i].value != NULL)
            vec_push(a, &o->settings, arena_printf(a, "%s=%s", shorthands[i].key, *shorthands[i].value));
        *shorthands[i].value = NULL;
    }
}

bool cli_read_recipe(Arena *a, Diag *d, CliOptions *o)
{
    RecipeFile f;
    expand_shorthands(a, o);
    StrList layers = o->layers, settings = o->settings;
    if (o->recipe == NULL)
        return true;
    if (!recipe_read(a, d, o->recipe, &f))
        return false;
    o->layers = o->settings = (StrList){ 0 };
    for (int32_t i = 0; i < f.said.len; i++)
        if (!take_said(a, d, &f.said.at[i], o))
            return false;
    for (int32_t i = 0; i < layers.len; i++) /* the command line's come later, and win */
        vec_push(a, &o->layers, layers.at[i]);
    for (int32_t i = 0; i < settings.len; i++)
        vec_push(a, &o->settings, settings.at[i]);
    o->recipe = NULL; /* said; opening again changes nothing */
    return true;
}

Loc cli_place(const CliOptions *o, const char *option, int32_t nth)
{
    for (int32_t i = 0; i < o->said.said.len; i++)
        if (str_eq(o->said.said.at[i].option, option) && nth-- == 0)
            return o->said.said.at[i].at;
    return LOC_NONE;
}

/* "--bits", or "recipe: bits" where the file says it. */
static const char *said_by(Arena *a, const CliOptions *o, const char *option, int32_t nth)
{
    bool file = cli_place(o, option, nth).file != NULL;
    if (file && str_eq(option, "set")) /* the setting's name follows */
        return "recipe";
    return arena_printf(a, "%s%s", file ? "recipe: " : "--", file && str_eq(option, "layer") ? "bits" : option);
}

/* ---- The recipe -------------------------------------------------------------------------------------------------- */

void cli_recipe_defaults(CliOptions *o)
{
    if (o->method == NULL)
        o->method = "float";
    if (o->bits == NULL)
        o->bits = str_eq(o->method, "float") ? "float" : "w8a8";
}

/* What is said of quantizers in a recipe that has none. */
static bool recipe_says_nothing(Arena *a, Diag *d, const CliOptions *o)
{
    const char *option = o->layers.len > 0 ? "layer" : !str_eq(o->bits, "float") ? "bits" : "set";
    if (o->layers.len == 0 && str_eq(o->bits, "float") && o->settings.len == 0)
        return true;
    Loc at = cli_place(o, option, 0);
    diag_error(d, at, "%s: method '%s' does not quantize", said_by(a, o, option, 0), o->method);
    diag_help(d, at.file != NULL ? "add the line method = lsq, or leave this one out"
                                 : "add --method lsq, or leave the option out");
    return false;
}

static bool has_bits(const Recipe *r)
{
    bool any = r->weight_bits > 0 || r->act_bits > 0;
    for (int32_t i = 0; i < r->rows.len; i++)
        any |= r->rows.at[i].bits > 0;
    return any;
}

/* A method for nothing: the network stays as it is. What would be set then is a mistake. */
static bool recipe_stays_float(Arena *a, Diag *d, const CliOptions *o, Recipe *r)
{
    if (has_bits(r))
        return true;
    r->method = "float";
    if (o->settings.len == 0)
        return true;
    diag_error(d, cli_place(o, "set", 0), "%s: '%s' would do nothing: all bits are float", said_by(a, o, "set", 0),
               o->settings.at[0]);
    diag_help(d, "say which bits, as in w4a4, or leave it out");
    return false;
}

bool cli_recipe(Arena *a, Diag *d, const CliOptions *o, Recipe *r)
{
    const Method *method = recipe_find_method(a, d, LOC_NONE, "--method", o->method);
    if (method == NULL)
        return false;
    *r = (Recipe){ .method = method->name, .edge_bits = (int32_t)o->edge_bits, .batch_in_n = o->batch_in_n };
    for (int32_t i = 0; i < o->settings.len; i++)
        if (!recipe_set(a, r, d, cli_place(o, "set", i), said_by(a, o, "set", i), o->settings.at[i]))
            return false;
    if (!recipe_quantizes(r))
        return recipe_says_nothing(a, d, o);
    if (!recipe_set_bits(r, d, cli_place(o, "bits", 0), said_by(a, o, "bits", 0), o->bits))
        return false;
    for (int32_t i = 0; i < o->layers.len; i++)
        if (!recipe_set_layer(a, r, d, cli_place(o, "layer", i), said_by(a, o, "layer", i), o->layers.at[i]))
            return false;
    r->method = method->name; /* bits alone would have chosen one */
    return recipe_stays_float(a, d, o, r);
}

/* ---- In words ---------------------------------------------------------------------------------------------------- */

const char *session_recipe_text(Session *s)
{
    Arena *a = &s->arena;
    if (!session_needs_init(s))
        return "float";
    Str text = str_new(a);
    str_add(&text, s->opt.bits);
    if (s->opt.edge_bits != EDGE_BITS)
        str_printf(&text, " --edge-bits=%lld", (long long)s->opt.edge_bits);
    for (int32_t i = 0; i < s->opt.layers.len; i++) {
        str_add(&text, " ");
        opts_quote(&text, arena_printf(a, "--layer=%s", s->opt.layers.at[i]));
    }
    for (int32_t i = 0; i < s->recipe.settings.len; i++) {
        Str word = str_new(a);
        str_add(&word, "--set=");
        recipe_print_setting(&word, &s->recipe.settings.at[i]);
        str_add(&text, " ");
        opts_quote(&text, word.s);
    }
    str_add(&text, s->opt.batch_in_n ? " --batch-in-n" : "");
    return text.s;
}

bool session_recipe_apply(Session *s, const char *method, const char *text)
{
    CliOptions o;
    StrList    words, none = { 0 };
    char     **argv = NULL;
    bool       ok = opts_words(&s->arena, arena_printf(&s->arena, "--bits=%s", text), &words);
    if (!ok)
        diag_error(&s->diag, LOC_NONE, "checkpoint: expected its recipe in words of the command line, found \"%s\"",
                   text);
    argv = ARENA_ARRAY(&s->arena, char *, words.len + 1);
    for (int32_t i = 0; i < words.len; i++)
        argv[i] = arena_strdup(&s->arena, words.at[i]);
    if (!ok || !cli_parse(&s->arena, &s->diag, OPTS_RECIPE, words.len, argv, &o, &none))
        return false;
    s->opt.method = arena_strdup(&s->arena, method);
    s->opt.bits = o.bits;
    s->opt.edge_bits = o.edge_bits;
    s->opt.layers = o.layers;
    s->opt.settings = o.settings;
    s->opt.batch_in_n = o.batch_in_n;
    s->opt.said = (RecipeFile){ 0 };
    return session_open(s, s->model);
}

/* ---- Where in a run ---------------------------------------------------------------------------------------------- */

/* Without --at-epoch, the beginning. A run without training is as one of an epoch. */
bool cli_moment(Diag *d, const CliOptions *o, Moment *out)
{
    const char *text = o->at_epoch;
    char       *end = NULL;
    *out = (Moment){ 0, o->epochs > 0 ? (double)o->epochs : 1 };
    if (text == NULL)
        return true;
    out->epoch = strtod(text, &end);
    bool ok = end != text;
    if (ok && *end == '/') {
        const char *of = end + 1;
        out->epochs = strtod(of, &end);
        ok = end != of;
    }
    if (ok && *end == 0 && out->epoch >= 0 && out->epoch < out->epochs && out->epochs <= 1e6)
        return true;
    diag_error(d, LOC_NONE, "--at-epoch: expected an epoch from 0 to below %g, found '%s'",
               ok && out->epochs > 0 && out->epochs <= 1e6 ? out->epochs : 1.0, text);
    diag_help(d, "1.5/10 is in the middle of the second epoch of ten");
    return false;
}
