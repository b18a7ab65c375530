/* settings.c: what a recipe says beside bits: settings, their text, and which of them holds for one side of one layer.
 *
 *   noise = 0.5            a number
 *   lambda = 1,10,100      a schedule: equal parts of the run
 *   noise = 0.25, 1@80%    ... or from epoch 2 (@2), from a share of the run (@80%) on
 *   grain = channel        a word
 *
 * A setting may be of the whole network or of the layers that a pattern names, of both sides of a layer or of one.
 *
 * Tested by tests/unit/test_settings.c and test_recipe_file.c. */
#include "passes/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const SettingInfo pass_settings[SETTING_COUNT] = {
#define SETTING(id, key, kind, roles, choices, min, max, fallback, doc)                                                \
    [SET_##id] = { key, kind, roles, choices, min, max, fallback, doc },
#include "passes/recipe.def"
#undef SETTING
};

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static bool is_word_of(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = choices; *at; at += strcspn(at, "|"), at += *at == '|')
        if (strcspn(at, "|") == len && strncmp(at, word, len) == 0)
            return true;
    return false;
}

static bool parse_word(Arena *a, Diag *d, Loc at, const char *what, SettingId id, const char *text)
{
    const SettingInfo *s = &pass_settings[id];
    if (id == SET_METHOD)
        return recipe_find_method(a, d, at, what, text) != NULL;
    if (id == SET_GRAIN) {
        char *end;
        long  n = strtol(text, &end, 10);
        if (is_word_of("tensor|channel", text) || (*end == 0 && end != text && n >= 1 && n <= DT_MAX_DIM))
            return true;
        diag_error(d, at, "%s: expected tensor, channel or how many channels share a step, found '%s'", what, text);
        diag_help(d, "%s", s->doc);
        return false;
    }
    if (is_word_of(s->choices, text))
        return true;
    const char *words[16];
    int32_t     n = 0;
    for (const char *w = s->choices; *w && n < DT_COUNT(words); w += strcspn(w, "|"), w += *w == '|')
        words[n++] = arena_strndup(a, w, strcspn(w, "|"));
    return recipe_unknown_word(a, d, at, what, words, n, text, s->doc);
}

static bool parse_number(Diag *d, Loc at, const char *what, SettingId id, const char **text, double *out)
{
    const SettingInfo *s = &pass_settings[id];
    char              *end;
    *out = strtod(*text, &end);
    if (end == *text || !(*out >= s->min && *out <= s->max)) {
        diag_error(d, at, "%s: expected a number from %g to %g, found '%s'", what, s->min, s->max, *text);
        diag_help(d, "%s", s->doc);
        return false;
    }
    *text = end;
    return true;
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* "@2" or "@80%" behind a number. */
static bool parse_from(Diag *d, Loc at, const char *what, const char **text, SettingValue *out)
{
    int32_t i = out->n;
    char   *end;
    *text = skip_blanks(*text);
    if (**text != '@')
        return true;
    const char *whole = skip_blanks(*text + 1);
    out->from[i] = strtod(whole, &end);
    out->share[i] = *end == '%';
    if (out->share[i])
        out->from[i] /= 100;
    bool rises = i == 0 || out->share[i] != out->share[i - 1] || out->from[i] > out->from[i - 1];
    if (end == whole || !(out->from[i] >= 0) || !isfinite(out->from[i]) || (out->share[i] && out->from[i] > 1) ||
        !rises) {
        diag_error(d, at,
                   "%s: expected behind @ a rising epoch, as in @2, or share of the run, as in @80%%, found '%s'", what,
                   whole);
        diag_help(d, "write the numbers in the order in which they begin, for instance 0.25, 0.5@2, 1@80%%");
        return false;
    }
    *text = end + out->share[i];
    return true;
}

/* Without a word about time the numbers share the run. */
static void spread(SettingValue *v)
{
    for (int32_t i = 0; i < v->n; i++) {
        v->from[i] = (double)i / v->n;
        v->share[i] = true;
    }
}

static bool parse_schedule(Diag *d, Loc at, const char *what, SettingId id, const char *text, SettingValue *out)
{
    int32_t timed = 0;     /* of those behind the first */
    bool    times = false; /* of any */
    for (;;) {
        if (out->n == SCHEDULE_MOST) {
            diag_error(d, at, "%s: expected at most %d numbers, found more in '%s'", what, SCHEDULE_MOST, out->text);
            diag_help(d, "each is a train step of its own, compiled before the run");
            return false;
        }
        text = skip_blanks(text);
        if (!parse_number(d, at, what, id, &text, &out->number[out->n]))
            return false;
        const char *behind = skip_blanks(text);
        times |= *behind == '@';
        timed += *behind == '@' && out->n > 0;
        if (!parse_from(d, at, what, &text, out))
            return false;
        out->n++;
        text = skip_blanks(text);
        if (*text != ',')
            break;
        text++;
    }
    if (*text != 0 || out->from[0] != 0 || (times && timed < out->n - 1)) {
        diag_error(d, at, "%s: expected numbers such as 0.5, 1,10,100 or 0.25, 0.5@2, 1@80%%, found '%s'", what,
                   out->text);
        diag_help(d, "@2 is from epoch 2 on, @80%% after so much of the run; the first number begins");
        return false;
    }
    if (!times)
        spread(out);
    return true;
}

/* Numbers that share the run evenly are written without their times. */
static const char *schedule_text(Arena *a, const SettingValue *v)
{
    Str  s = str_new(a);
    bool even = true;
    for (int32_t i = 1; i < v->n; i++)
        even = even && v->share[i] && v->from[i] == (double)i / v->n;
    for (int32_t i = 0; i < v->n; i++) {
        str_add(&s, i > 0 ? "," : "");
        str_add_f64(&s, v->number[i]);
        if (i == 0 || even)
            continue;
        str_add(&s, "@");
        str_add_f64(&s, v->share[i] ? v->from[i] * 100 : v->from[i]);
        str_add(&s, v->share[i] ? "%" : "");
    }
    return s.s;
}

static bool check_single(Diag *d, Loc at, const char *what, SettingId id, const SettingValue *v)
{
    SettingKind kind = pass_settings[id].kind;
    if (kind != SETTING_SCHEDULE && (v->n != 1 || v->from[0] != 0)) {
        diag_error(d, at, "%s: expected one number, found '%s'", what, v->text);
        diag_help(d, "of the settings, noise, lambda and act-lambda may change during a run");
        return false;
    }
    if (kind != SETTING_WHOLE || v->number[0] == floor(v->number[0]))
        return true;
    diag_error(d, at, "%s: expected a whole number from %g to %g, found '%s'", what, pass_settings[id].min,
               pass_settings[id].max, v->text);
    diag_help(d, "%s", pass_settings[id].doc);
    return false;
}

bool setting_parse(Arena *a, Diag *d, Loc at, const char *what, SettingId id, const char *text, SettingValue *out)
{
    *out = (SettingValue){ .text = arena_strdup(a, text) };
    if (pass_settings[id].kind == SETTING_WORD)
        return parse_word(a, d, at, what, id, text);
    if (!parse_schedule(d, at, what, id, text, out) || !check_single(d, at, what, id, out))
        return false;
    out->text = schedule_text(a, out);
    return true;
}

static double begins(const SettingValue *v, int32_t i, double epochs)
{
    return v->share[i] ? v->from[i] * epochs : v->from[i];
}

double setting_at(const SettingValue *v, Moment m)
{
    double now = v->number[0];
    for (int32_t i = 1; i < v->n; i++) {
        bool known = !v->share[i] || m.epochs > 0; /* a step outside of a run is one of its beginning */
        if (known && begins(v, i, m.epochs) <= m.epoch)
            now = v->number[i];
    }
    return now;
}

/* ---- Settings of a recipe ---------------------------------------------------------------------------------------- */

const char *role_name(Role r)
{
    static const char *const names[ROLE_COUNT] = { [ROLE_WEIGHT] = "weight", [ROLE_ACT] = "act" };
    return names[r];
}

static int32_t find_setting(const char *key)
{
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        if (str_eq(pass_settings[i].key, key))
            return i;
    return -1;
}

static bool unknown_key(Diag *d, Loc at, const char *what, const char *key)
{
    const char *keys[SETTING_COUNT];
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        keys[i] = pass_settings[i].key;
    diag_error(d, at, "%s: there is no setting '%s'", what, key);
    diag_help_nearest(d, key, keys, SETTING_COUNT, "docs/settings.md lists them");
    return false;
}

/* "weight.grain" -> roles of one side; "grain" -> all that it has. */
static bool split_role(Diag *d, Loc at, const char *what, const char **key, uint32_t *roles)
{
    *roles = ~0u;
    const char *dot = strchr(*key, '.');
    if (dot == NULL)
        return true;
    for (int role = 0; role < ROLE_COUNT; role++) {
        size_t len = strlen(role_name((Role)role));
        if ((size_t)(dot - *key) == len && strncmp(*key, role_name((Role)role), len) == 0) {
            *roles = 1u << role;
            *key = dot + 1;
            return true;
        }
    }
    diag_error(d, at, "%s: expected weight.KEY or act.KEY, found '%s'", what, *key);
    diag_help(d, "weight is a layer's weight, act its input; without a side a setting is of both");
    return false;
}

/* A side of a layer that the setting does not have. */
static bool wrong_side(Diag *d, Loc at, const char *what, const SettingInfo *s)
{
    bool weights = s->roles == 1u << ROLE_WEIGHT;
    if (s->roles == 0)
        diag_error(d, at, "%s: %s is a setting of the whole network, not of one side of its layers", what, s->key);
    else
        diag_error(d, at, "%s: %s is a setting of %s, not of %s", what, s->key, weights ? "weights" : "inputs",
                   weights ? "inputs" : "weights");
    diag_help(d, "write %s alone", s->key);
    return false;
}

static bool set_one(Arena *a, RecipeSetting *s, Diag *d, Loc at, const char *what, const char *text)
{
    const char *equals = strchr(text, '='), *colon = strchr(text, ':');
    if (equals == NULL || equals == text) {
        diag_error(d, at, "%s: expected KEY=VALUE, found '%s'", what, text);
        diag_help(d, "write for instance 'noise=0.5', or 's1.*:noise=0.5' for the layers of a pattern");
        return false;
    }
    const char *key_at = text;
    if (colon != NULL && colon < equals) {
        s->pattern = arena_strndup(a, text, (size_t)(colon - text));
        key_at = colon + 1;
    }
    const char *end = equals;
    while (end > key_at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    const char *key = arena_strndup(a, key_at, (size_t)(end - key_at));
    if (!split_role(d, at, what, &key, &s->roles))
        return false;
    int32_t id = find_setting(key);
    if (id < 0)
        return unknown_key(d, at, what, key);
    s->id = (SettingId)id;
    const SettingInfo *info = &pass_settings[id];
    if (s->roles != ~0u && !(s->roles & info->roles))
        return wrong_side(d, at, what, info);
    if (s->pattern != NULL && info->roles == 0) {
        diag_error(d, at, "%s: %s is a setting of the whole network, found it for '%s'", what, key, s->pattern);
        diag_help(d, "leave the pattern out, or write it before the first [pattern] of a file");
        return false;
    }
    s->roles &= info->roles;
    return setting_parse(a, d, at, arena_printf(a, "%s: %s", what, key), s->id, skip_blanks(equals + 1), &s->value);
}

bool recipe_set(Arena *a, Recipe *r, Diag *d, Loc at, const char *what, const char *text)
{
    RecipeSetting s = { .what = arena_strdup(a, what), .at = at };
    if (!set_one(a, &s, d, at, what, text))
        return false;
    vec_push(a, &r->settings, s);
    return true;
}

void recipe_print_setting(Str *out, const RecipeSetting *s)
{
    const SettingInfo *info = &pass_settings[s->id];
    str_printf(out, "%s%s", s->pattern != NULL ? s->pattern : "", s->pattern != NULL ? ":" : "");
    if (s->roles != info->roles)
        str_printf(out, "%s.", role_name(s->roles == 1u << ROLE_WEIGHT ? ROLE_WEIGHT : ROLE_ACT));
    str_printf(out, "%s=%s", info->key, s->value.text);
}

/* ---- What holds for a layer -------------------------------------------------------------------------------------- */

/* One word of a method's defaults. */
static void apply_defaults(Arena *a, Diag *d, const Method *m, uint32_t role, QuantSpec *out)
{
    char *words = arena_strdup(a, m->defaults), *save = NULL;
    for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        RecipeSetting s = { 0 };
        bool          ok = set_one(a, &s, d, LOC_NONE, m->name, w);
        DT_ASSERT(ok, "method %s: defaults '%s'", m->name, m->defaults);
        if (s.roles & role)
            out->value[s.id] = s.value;
    }
}

static bool speaks_of(const RecipeSetting *s, const char *layer, uint32_t role)
{
    return (s->roles & role) != 0 && (s->pattern == NULL || str_glob(s->pattern, layer));
}

static int32_t choose_bits(const Recipe *r, const char *layer, bool edge, Role role, int32_t *row)
{
    int32_t bits = role == ROLE_WEIGHT ? r->weight_bits : r->act_bits;
    *row = -1;
    if (edge && r->edge_bits && bits) { /* a side that is float stays float */
        bits = r->edge_bits;
        *row = -2;
    }
    for (int32_t i = 0; i < r->rows.len; i++) {
        const RecipeRow *x = &r->rows.at[i];
        if ((!x->role || str_eq(x->role, role_name(role))) && str_glob(x->pattern, layer)) {
            bits = x->bits;
            *row = i;
        }
    }
    return bits;
}

bool recipe_resolve(Arena *a, Diag *d, const Recipe *r, const char *layer, bool edge, Role role, QuantSpec *out)
{
    const uint32_t bit = 1u << role;
    const char    *method = r->method ? r->method : "float";
    *out = (QuantSpec){ 0 };
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        out->by[i] = -1;
    for (int32_t i = 0; i < r->settings.len; i++)
        if (r->settings.at[i].id == SET_METHOD && speaks_of(&r->settings.at[i], layer, bit)) {
            method = r->settings.at[i].value.text;
            out->by[SET_METHOD] = i;
        }
    out->method = recipe_find_method(a, d, LOC_NONE, "insert-quantize", method);
    if (out->method == NULL)
        return false;
    for (int32_t i = 0; i < SETTING_COUNT; i++)
        if (i != SET_METHOD && !setting_parse(a, d, LOC_NONE, pass_settings[i].key, (SettingId)i,
                                              pass_settings[i].fallback, &out->value[i]))
            return false;
    apply_defaults(a, d, out->method, bit, out);
    for (int32_t i = 0; i < r->settings.len; i++) {
        const RecipeSetting *s = &r->settings.at[i];
        if (s->id == SET_METHOD || !speaks_of(s, layer, bit))
            continue;
        out->value[s->id] = s->value;
        out->by[s->id] = i;
    }
    out->told = choose_bits(r, layer, edge, role, &out->row);
    out->bits = out->method->quantize != NULL ? out->told : 0;
    return true;
}

const char *spec_word(const QuantSpec *s, SettingId id)
{
    return s->value[id].text;
}

double spec_number(const QuantSpec *s, SettingId id, Moment m)
{
    return setting_at(&s->value[id], m);
}

SettingValue recipe_setting(Arena *a, const Recipe *r, SettingId id)
{
    SettingValue v;
    Diag         d = diag_new(NULL);
    bool         ok = setting_parse(a, &d, LOC_NONE, pass_settings[id].key, id, pass_settings[id].fallback, &v);
    DT_ASSERT(ok, "setting %s: fallback '%s'", pass_settings[id].key, pass_settings[id].fallback);
    diag_free(&d);
    for (int32_t i = 0; i < r->settings.len; i++)
        if (r->settings.at[i].id == id)
            v = r->settings.at[i].value;
    return v;
}

/* Is this method among those that it names? */
static bool has_method(const Recipe *r, const Method *m)
{
    if (r->method != NULL && str_eq(r->method, m->name))
        return true;
    for (int32_t i = 0; i < r->settings.len; i++)
        if (r->settings.at[i].id == SET_METHOD && str_eq(r->settings.at[i].value.text, m->name))
            return true;
    return false;
}

/* A name that nobody knows is not one of those: insert-quantize will say so. */
static bool is_float(const char *method)
{
    for (int32_t i = 0; i < pass_n_methods; i++)
        if (str_eq(pass_methods[i].name, method))
            return pass_methods[i].quantize == NULL;
    return false;
}

bool recipe_quantizes(const Recipe *r)
{
    if (r->method != NULL && !is_float(r->method))
        return true;
    for (int32_t i = 0; i < r->settings.len; i++)
        if (r->settings.at[i].id == SET_METHOD && !is_float(r->settings.at[i].value.text))
            return true;
    return false;
}

bool recipe_trains(const Recipe *r)
{
    for (int32_t i = 0; i < pass_n_methods; i++)
        if (pass_methods[i].quantize != NULL && pass_methods[i].quantize != method_fixed &&
            has_method(r, &pass_methods[i]))
            return true;
    return !recipe_quantizes(r);
}

/* ---- Phases of a run --------------------------------------------------------------------------------------------- */

typedef struct Phases {
    double *at;
    int32_t n;
    double  epochs;
} Phases;

/* Kept rising. Beyond the most that a run has, later changes come too late: none is lost before the last. */
static void add_phase(Phases *p, double at)
{
    int32_t i = 0;
    while (i < p->n && p->at[i] < at)
        i++;
    if (at >= p->epochs || p->n == RECIPE_MOST_PHASES || (i < p->n && p->at[i] == at))
        return;
    memmove(p->at + i + 1, p->at + i, sizeof(*p->at) * (size_t)(p->n - i));
    p->at[i] = at;
    p->n++;
}

static void add_schedule(Phases *p, const SettingValue *v)
{
    for (int32_t i = 1; i < v->n; i++)
        add_phase(p, begins(v, i, p->epochs));
}

/* A method's own schedule counts where no setting replaces it for the whole network. */
static void add_method_phases(Arena *a, const Recipe *r, const char *method, Phases *p)
{
    QuantSpec spec;
    Recipe    whole = *r;
    Diag      d = diag_new(NULL);
    whole.method = method;
    for (int role = 0; role < ROLE_COUNT; role++)
        if (recipe_resolve(a, &d, &whole, "", false, (Role)role, &spec) && spec.method->quantize != NULL)
            for (int32_t i = 0; i < SETTING_COUNT; i++)
                if (pass_settings[i].kind == SETTING_SCHEDULE && (pass_settings[i].roles & 1u << role) != 0 &&
                    method_reads(spec.method, (SettingId)i, 1u << role))
                    add_schedule(p, &spec.value[i]);
    diag_free(&d);
}

int32_t recipe_phases(Arena *a, const Recipe *r, double epochs, double at[RECIPE_MOST_PHASES])
{
    static const SettingId moments[] = { SET_DELAY, SET_FREEZE_BN, SET_FREEZE_RANGES };
    Phases                 p = { at, 1, epochs };
    at[0] = 0;
    const bool quantizes = recipe_quantizes(r);
    if (quantizes)
        add_method_phases(a, r, r->method, &p);
    for (int32_t i = 0; quantizes && i < r->settings.len; i++)
        if (r->settings.at[i].id == SET_METHOD)
            add_method_phases(a, r, r->settings.at[i].value.text, &p);
        else if (pass_settings[r->settings.at[i].id].kind == SETTING_SCHEDULE)
            add_schedule(&p, &r->settings.at[i].value);
    for (int32_t i = 0; i < DT_COUNT(moments); i++) {
        SettingValue v = recipe_setting(a, r, moments[i]);
        if (v.number[0] > 0 && (quantizes || moments[i] == SET_FREEZE_BN)) /* float has batch norms, too */
            add_phase(&p, v.number[0]);
    }
    return p.n;
}
