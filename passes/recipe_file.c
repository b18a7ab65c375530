/* recipe_file.c: a recipe in a file: an ini text, read by inih.
 *
 *   method = lsq            of the whole network; each as the option of the same name
 *   bits = w4a4
 *   edge-bits = 8
 *   batch-in-n = false
 *   noise = 0.5, 1@80%      any setting of recipe.def, as --set takes it
 *   act.calibrate = mse     ... of one side of its layers
 *   lr = 0.01               how it is trained, where the command line does not say: epochs, lr, weight-decay, ...
 *
 *   [s0.*]                  layers that match the pattern; later sections win
 *   method = qat
 *   bits = w8a8
 *   grain = channel
 *
 *   [head]
 *   bits = float
 *
 * Comments begin with # or ;. The file says nothing that the command line could not, so a run that was started with it
 * records options and can be resumed without it. Values are looked at here, where the line is known; those of training
 * by who has the options.
 *
 * Tested by tests/unit/test_recipe_file.c and test_bad_recipes.c. */
#include "passes/pass_impl.h"

#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Reading Reading;
typedef struct Key {
    const char *name;
    bool (*whole)(Reading *r, const char *name, const char *value); /* looks at a value for the whole network */
} Key;

struct Reading {
    Arena      *a;
    Diag       *d;
    const char *file, *text;
    int32_t     line;
    RecipeFile *out;
    Recipe      scratch; /* what is said, to have it looked at */
    StrMap      seen;    /* "section\nkey" -> line */
    bool        ok;
};

static Loc here(const Reading *r)
{
    return (Loc){ r->file, r->line };
}

static bool wrong(Reading *r, const char *fmt, ...) DT_PRINTF(2, 3);
static bool wrong(Reading *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_error(r->d, here(r), "%s", arena_vprintf(r->a, fmt, ap));
    va_end(ap);
    return r->ok = false;
}

static bool say(Reading *r, const char *option, const char *text)
{
    vec_push(r->a, &r->out->said, (RecipeSaid){ option, arena_strdup(r->a, text), here(r) });
    return true;
}

/* ---- Lines ------------------------------------------------------------------------------------------------------- */

/* inih takes what stands behind [pattern] for nothing at all. */
static bool check_section(Reading *r, const char *line)
{
    const char *close = line[0] == '[' ? strchr(line, ']') : NULL;
    const char *rest = close != NULL ? close + 1 + strspn(close + 1, " \t\r\n") : "";
    if (*rest == 0 || *rest == ';' || *rest == '#')
        return true;
    if (memchr(line + 1, '[', (size_t)(close - line))) /* the section ends at the first ] */
        return true;                                   /* told when its first key is read */
    size_t n = strcspn(rest, ";\r\n");
    while (n > 1 && (rest[n - 1] == ' ' || rest[n - 1] == '\t'))
        n--;
    wrong(r, "recipe: expected the end of the line behind [%.*s], found '%.*s'", (int)(close - line - 1), line + 1,
          (int)n, rest);
    diag_help(r->d, "write what is said of these layers in lines of their own");
    return false;
}

/* One line for inih, which does not say which one it is at. Without the blanks in front, which would make it a part of
 * the line before. */
static char *next_line(char *to, int room, void *user)
{
    Reading *r = user;
    size_t   n = strcspn(r->text, "\n");
    if (*r->text == 0)
        return NULL;
    r->line++;
    n += r->text[n] == '\n';
    const char *from = r->text;
    r->text += n;
    while (n > 0 && (*from == ' ' || *from == '\t'))
        from++, n--;
    if (n >= (size_t)room) {
        wrong(r, "recipe: expected lines of at most %d characters, found one of %zu", room - 2, n);
        diag_help(r->d, "a longer comment goes on in the next line, behind another #");
        n = 0;
    }
    memcpy(to, from, n);
    to[n] = 0;
    if (n > 0 && check_section(r, to))
        return to;
    to[0] = '\n', to[1] = 0;
    return to;
}

/* ---- Keys -------------------------------------------------------------------------------------------------------- */

static bool whole_method(Reading *r, const char *name, const char *value)
{
    return recipe_find_method(r->a, r->d, here(r), "recipe: method", value) != NULL && say(r, name, value);
}

static bool whole_bits(Reading *r, const char *name, const char *value)
{
    return recipe_set_bits(&r->scratch, r->d, here(r), "recipe: bits", value) && say(r, name, value);
}

static bool whole_edge_bits(Reading *r, const char *name, const char *value)
{
    char *end;
    long  n = strtol(value, &end, 10);
    if (*end == 0 && (n == 0 || (n >= 2 && n <= 8)))
        return say(r, name, value);
    wrong(r, "recipe: edge-bits: expected 0, or an integer from 2 to 8, found '%s'", value);
    diag_help(r->d, "they are the bits of the first and the last layer; 0: like the others");
    return false;
}

static bool whole_batch_in_n(Reading *r, const char *name, const char *value)
{
    if (str_eq(value, "true") || str_eq(value, "false"))
        return say(r, name, value);
    wrong(r, "recipe: batch-in-n: expected true or false, found '%s'", value);
    diag_help(r->d, "true counts the batch in LSQ's gradient scale; the paper does not");
    return false;
}

static bool say_ema(Reading *r, const char *name, const char *value)
{
    (void)name;
    return say(r, "ema", value);
}

static const Key keys[] = {
    { "method", whole_method },
    { "bits", whole_bits },
    { "edge-bits", whole_edge_bits },
    { "batch-in-n", whole_batch_in_n },
    { "epochs", say },
    { "lr", say },
    { "schedule", say },
    { "warmup", say },
    { "momentum", say },
    { "weight-decay", say },
    { "nesterov", say },
    { "optimizer", say },
    { "beta1", say },
    { "beta2", say },
    { "rho", say },
    { "eps", say },
    { "step-lr", say },
    { "clip-norm", say },
    { "clip-value", say },
    { "accumulate", say },
    { "weight-ema", say_ema }, /* "ema" is a setting */
    { "ema-constant", say },
    { "label-smoothing", say },
    { "teacher", say },
    { "teacher-net", say },
    { "distill-weight", say },
    { "temperature", say },
    { "reestimate-bn", say },
};

static const Key *find_key(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(keys); i++)
        if (str_eq(keys[i].name, name))
            return &keys[i];
    return NULL;
}

/* "noise", or "act.calibrate". */
static bool is_setting(const char *name)
{
    const char *dot = strchr(name, '.');
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        if (str_eq(pass_settings[i].key, dot != NULL ? dot + 1 : name))
            return true;
    return false;
}

static bool unknown_key(Reading *r, const char *name)
{
    const char *names[DT_COUNT(keys) + SETTING_COUNT];
    int32_t     n = 0;
    for (; n < DT_COUNT(keys); n++)
        names[n] = keys[n].name;
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        names[n++] = pass_settings[i].key;
    wrong(r, "recipe: expected method, bits, edge-bits, batch-in-n or another setting, found '%s'", name);
    diag_help_nearest(r->d, name, names, n, "docs/settings.md lists them");
    return false;
}

/* ---- What a line says -------------------------------------------------------------------------------------------- */

static bool take_setting(Reading *r, const char *section, const char *name, const char *value)
{
    const char *text = arena_printf(r->a, "%s%s%s=%s", section, section[0] ? ":" : "", name, value);
    return recipe_set(r->a, &r->scratch, r->d, here(r), "recipe", text) && say(r, "set", text);
}

static bool check_pattern(Reading *r, const char *pattern)
{
    const char *bad = strpbrk(pattern, "[:=");
    if (bad == NULL)
        return true;
    wrong(r, "recipe: expected a pattern of *, ? and {a,b}, found %c in '%s'", *bad, pattern);
    diag_help(r->d, *bad == '[' ? "write {0,1} for [01]" : "`detent info NET` lists the names of layers");
    return false;
}

static bool one_layer(Reading *r, const char *pattern, const char *name, const char *value)
{
    if (!check_pattern(r, pattern))
        return false;
    if (str_eq(name, "bits")) {
        const char *text = arena_printf(r->a, "%s=%s", pattern, value);
        return recipe_set_layer(r->a, &r->scratch, r->d, here(r), "recipe: bits", text) && say(r, "layer", text);
    }
    if (is_setting(name))
        return take_setting(r, pattern, name, value);
    wrong(r, "recipe: expected a setting of layers in [%s], found %s", pattern, name);
    diag_help(r->d, "%s is of the whole network: write it before the first [pattern]", name);
    return false;
}

/* inih's handler: 0 stands for a mistake. */
static int take(void *user, const char *section, const char *name, const char *value)
{
    Reading    *r = user;
    const char *id = arena_printf(r->a, "%s\n%s", section, name);
    const Key  *key = find_key(name);
    int32_t     before = strmap_get(&r->seen, id);
    bool        ok;
    if (key == NULL && !is_setting(name)) {
        ok = unknown_key(r, name);
    } else if (before >= 0) {
        ok = wrong(r, "recipe: %s was said in line %d already, found it again%s%s", name, before,
                   section[0] ? " for " : "", section);
        diag_help(r->d, "keep one of the two lines");
    } else if (!value[0]) {
        ok = wrong(r, "recipe: %s: expected a value, found the end of the line", name);
        diag_help(r->d, "write %s = VALUE, or leave the line out", name);
    } else {
        strmap_put(&r->seen, id, r->line);
        ok = section[0]    ? one_layer(r, section, name, value)
             : key != NULL ? key->whole(r, key->name, value)
                           : take_setting(r, section, name, value);
    }
    r->ok = r->ok && ok;
    return ok;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

/* The text of a file, or of a recipe that is built in. NULL: reported. */
static const char *read_text(Arena *a, Diag *d, const char *name)
{
    size_t len;
    if (strchr(name, '/') == NULL && access(name, F_OK) != 0) {
        const BuiltinRecipe *built = recipe_find_builtin(a, d, "--recipe", name);
        return built != NULL ? built->text : NULL;
    }
    const char *text = file_read(a, d, name, &len);
    if (text == NULL || strlen(text) == len)
        return text;
    diag_error(d, LOC_NONE, "recipe: %s: expected a text, found a 0 byte", name);
    diag_help(d, "is this the right file? A recipe is lines of KEY = VALUE");
    return NULL;
}

bool recipe_read(Arena *a, Diag *d, const char *name, RecipeFile *out)
{
    *out = (RecipeFile){ 0 };
    const char *text = read_text(a, d, name);
    if (text == NULL)
        return false;
    Reading r = { .a = a, .d = d, .file = name, .text = text, .out = out, .seen = strmap_new(a), .ok = true };
    int     line = ini_parse_stream(next_line, &r, take, &r);
    if (line > 0 && r.ok) {
        r.line = line;
        wrong(&r, "recipe: expected KEY = VALUE or [PATTERN]");
        diag_help(d, "a comment begins with #");
    }
    return r.ok;
}
