/* recipe_check.c: is a recipe sound? What it says must do something: a pattern that names no layer, bits for layers
 * that stay in float, a setting that no method it meets reads, are mistakes, not wishes that are silently dropped.
 *
 * That a later row replaces what an earlier one says is no mistake: that is how exceptions are written.
 *
 * Tested by tests/unit/test_settings.c and test_bad_recipes.c. */
#include "passes/pass_impl.h"

#include <string.h>

typedef struct Check {
    Arena             *a;
    Diag              *d;
    const Recipe      *r;
    const RecipeLayer *layers;
    int32_t            n;
} Check;

/* ---- Which settings a method reads ------------------------------------------------------------------------------- */

/* By insert-quantize, whatever the method. */
static const SettingId read_by_all[] = { SET_METHOD,      SET_GRAIN,     SET_CODES,    SET_NOISE,
                                         SET_NOISE_BLOCK, SET_DELAY,     SET_TRAINING, SET_FOLD,
                                         SET_BATCHES,     SET_FREEZE_BN, SET_JOINS };

/* Is "KEY" or "ROLE.KEY" among the words of `reads`? */
static bool reads_word(const char *reads, const char *key, uint32_t roles)
{
    for (const char *w = reads; *w; w += strcspn(w, " "), w += strspn(w, " ")) {
        const char *name = w;
        uint32_t    of = ~0u;
        for (int role = 0; role < ROLE_COUNT; role++) {
            size_t n = strlen(role_name((Role)role));
            if (strncmp(w, role_name((Role)role), n) == 0 && w[n] == '.') {
                name = w + n + 1;
                of = 1u << role;
            }
        }
        size_t len = strcspn(name, " ");
        if (len == strlen(key) && strncmp(name, key, len) == 0 && (of & roles) != 0)
            return true;
    }
    return false;
}

bool method_reads(const Method *m, SettingId id, uint32_t roles)
{
    for (int32_t i = 0; i < DT_COUNT(read_by_all); i++)
        if (read_by_all[i] == id)
            return m->quantize != NULL;
    return reads_word(m->reads, pass_settings[id].key, roles);
}

/* "qsin and msqe": who reads it; "" when only the pass itself does. */
static const char *readers(Arena *a, SettingId id, uint32_t roles)
{
    const char *names[32];
    int32_t     n = 0;
    for (int32_t i = 0; i < pass_n_methods && n < DT_COUNT(names); i++)
        if (method_reads(&pass_methods[i], id, roles))
            names[n++] = pass_methods[i].name;
    Str s = str_new(a);
    for (int32_t i = 0; i < n; i++)
        str_printf(&s, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " and ", names[i]);
    return s.s;
}

/* ---- What a setting needs beside a method that reads it ---------------------------------------------------------- */

static bool keeps_a_share(const QuantSpec *s)
{
    return str_eq(spec_word(s, SET_CALIBRATE), "percentile");
}

static bool draws_noise(const QuantSpec *s)
{
    const SettingValue *v = &s->value[SET_NOISE];
    for (int32_t i = 0; i < v->n; i++)
        if (v->number[i] < 1)
            return true;
    return false;
}

static bool has_offset(const QuantSpec *s)
{
    return s->value[SET_CONFIG].number[0] >= 3;
}

static bool clamps(const QuantSpec *s)
{
    return str_eq(spec_word(s, SET_TRAINING), "clamp");
}

static bool calibrates(const QuantSpec *s)
{
    return !str_eq(spec_word(s, SET_CALIBRATE), "none");
}

static bool quantizes_inputs(const QuantSpec *s)
{
    return !str_eq(spec_word(s, SET_TRAINING), "float");
}

static const struct {
    SettingId id;
    bool (*met)(const QuantSpec *s);
    const char *needs; /* in words of a recipe */
} conditions[] = {
    { SET_PERCENTILE, keeps_a_share, "calibrate=percentile" },
    { SET_NOISE_BLOCK, draws_noise, "noise below 1, as in noise=0.5" },
    { SET_OFFSET, has_offset, "config=3 or config=4: the others have no offset" },
    { SET_ACT_LAMBDA, clamps, "training=clamp: inputs that are rounded have no regularizer" },
    { SET_BATCHES, calibrates, "a calibration, as in calibrate=mse" },
    { SET_DELAY, quantizes_inputs, "inputs that are quantized in training, not training=float" },
};

/* NULL: nothing else. */
static const char *unmet(const QuantSpec *s, SettingId id)
{
    for (int32_t i = 0; i < DT_COUNT(conditions); i++)
        if (conditions[i].id == id && !conditions[i].met(s))
            return conditions[i].needs;
    return NULL;
}

/* ---- Settings ---------------------------------------------------------------------------------------------------- */

/* What a setting meets at the quantizers that it speaks of. */
typedef struct Met {
    int32_t told, quantized, read, right; /* how many have bits; ... and a method; ... that reads it; ... at work */
    const Method *other;                  /* that does not read it */
    const char   *needs;
} Met;

static void meet(const RecipeSetting *s, const QuantSpec *spec, Role role, Met *m)
{
    uint32_t roles = s->roles != 0 ? 1u << role : ~0u;
    m->told += spec->told > 0;
    if (spec->bits == 0)
        return;
    m->quantized++;
    if (!method_reads(spec->method, s->id, roles)) {
        m->other = spec->method;
        return;
    }
    m->read++;
    const char *needs = unmet(spec, s->id);
    m->right += needs == NULL;
    m->needs = needs != NULL ? needs : m->needs;
}

static const char *where(Check *c, const RecipeSetting *s)
{
    bool        one = s->id == SET_DELAY || (s->roles != 0 && s->roles != pass_settings[s->id].roles);
    const char *side = s->roles == 1u << ROLE_WEIGHT ? "the weights of " : "the inputs of ";
    return arena_printf(c->a, "%s%s%s", one ? side : "", s->pattern != NULL ? "layers " : "the network",
                        s->pattern != NULL ? arena_printf(c->a, "'%s'", s->pattern) : "");
}

static bool check_method_setting(Check *c, const RecipeSetting *s, const Met *m)
{
    if (str_eq(s->value.text, "float") || m->told > 0)
        return true;
    diag_error(c->d, s->at, "%s: method: %s has nothing to quantize: the bits of %s are float", s->what, s->value.text,
               where(c, s));
    diag_help(c->d, "give them bits, as in bits = w8a8, or leave the method out");
    return false;
}

static bool check_setting(Check *c, const RecipeSetting *s)
{
    const SettingInfo *info = &pass_settings[s->id];
    Met                m = { 0 };
    int32_t            matched = 0;
    for (int32_t i = 0; i < c->n; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            bool speaks = s->roles == 0 ? s->id != SET_DELAY || role == ROLE_ACT : (s->roles & 1u << role) != 0;
            if (!speaks || (s->pattern != NULL && !str_glob(s->pattern, c->layers[i].name)))
                continue;
            matched++;
            meet(s, c->layers[i].spec[role], (Role)role, &m);
        }
    if (matched == 0) /* told of its pattern */
        return true;
    if (s->id == SET_METHOD)
        return check_method_setting(c, s, &m);
    if (m.right > 0)
        return true;
    if (m.quantized == 0) {
        diag_error(c->d, s->at, "%s: %s would do nothing: nothing quantizes %s", s->what, info->key, where(c, s));
        diag_help(c->d, "give them bits and a method, or leave it out");
    } else if (m.read == 0) {
        diag_error(c->d, s->at, "%s: %s would do nothing: method %s of %s does not read it", s->what, info->key,
                   m.other->name, where(c, s));
        diag_help(c->d, "it is a setting of %s", readers(c->a, s->id, s->roles != 0 ? s->roles : ~0u));
    } else {
        diag_error(c->d, s->at, "%s: %s would do nothing without %s", s->what, info->key, m.needs);
        diag_help(c->d, "say that for %s, too, or leave %s out", where(c, s), info->key);
    }
    return false;
}

/* ---- Patterns and bits ------------------------------------------------------------------------------------------- */

/* "stem.conv, s0.*, s1.*, head": each first part of a name once. */
static const char *layers_summary(Check *c)
{
    Str    s = str_new(c->a);
    StrMap seen = strmap_new(c->a);
    for (int32_t i = 0; i < c->n; i++) {
        const char *name = c->layers[i].name, *dot = strchr(name, '.');
        const char *part = dot ? arena_printf(c->a, "%.*s.*", (int)(dot - name), name) : name;
        if (strmap_put(&seen, part, i))
            str_printf(&s, "%s%s", s.len ? ", " : "", part);
    }
    return s.s;
}

static bool check_pattern(Check *c, Loc at, const char *what, const char *pattern)
{
    const char **names = ARENA_ARRAY(c->a, const char *, c->n + 1);
    for (int32_t i = 0; i < c->n; i++) {
        names[i] = c->layers[i].name;
        if (str_glob(pattern, names[i]))
            return true;
    }
    const char *near = str_nearest(c->a, pattern, names, c->n);
    diag_error(c->d, at, "%s: unknown layer '%s'%s%s", what, pattern, *near ? "; nearest are " : "", near);
    diag_help(c->d, "layers are %s", layers_summary(c));
    return false;
}

static bool check_width(Check *c, Loc at, const char *what, int32_t bits)
{
    if (bits == 0 || (bits >= 2 && bits <= 8))
        return true;
    diag_error(c->d, at, "insert-quantize: %s: expected 2 to 8 bits, or 0 for float, found %d", what, bits);
    return false;
}

/* Bits for layers whose method is float. */
static bool check_row(Check *c, const RecipeRow *row)
{
    int32_t floats = 0;
    for (int32_t i = 0; i < c->n && row->bits > 0; i++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            if (!str_glob(row->pattern, c->layers[i].name) || (row->role && !str_eq(row->role, role_name((Role)role))))
                continue;
            if (c->layers[i].spec[role]->method->quantize != NULL)
                return true;
            floats++;
        }
    if (floats == 0)
        return true;
    diag_error(c->d, row->at, "%s: bits of '%s' would do nothing: their method is float, which does not quantize",
               row->what, row->pattern);
    diag_help(c->d, "give these layers a method, as in method = lsq, or leave their bits out");
    return false;
}

bool recipe_check(Arena *a, Diag *d, const Recipe *r, const RecipeLayer *layers, int32_t n)
{
    Check c = { a, d, r, layers, n };
    bool  ok = check_width(&c, LOC_NONE, "weights", r->weight_bits) &&
              check_width(&c, LOC_NONE, "activations", r->act_bits) &&
              check_width(&c, LOC_NONE, "first and last layer", r->edge_bits);
    for (int32_t i = 0; i < r->rows.len; i++) {
        const RecipeRow *row = &r->rows.at[i];
        ok = check_width(&c, row->at, row->pattern, row->bits) && ok;
        ok = check_pattern(&c, row->at, row->what, row->pattern) && ok;
        ok = check_row(&c, row) && ok;
    }
    for (int32_t i = 0; i < r->settings.len; i++) {
        const RecipeSetting *s = &r->settings.at[i];
        const bool           joins = s->id == SET_JOINS; /* its patterns name joins, which insert_joins.c knows */
        ok = (s->pattern == NULL || joins || check_pattern(&c, s->at, s->what, s->pattern)) && ok;
        ok = check_setting(&c, s) && ok;
    }
    return ok;
}

/* ---- Moments ----------------------------------------------------------------------------------------------------- */

void recipe_check_epochs(const Recipe *r, Diag *d, double epochs)
{
    static const struct {
        SettingId   id;
        const char *then;
    } moments[] = {
        { SET_DELAY, "training never quantizes inputs" },
        { SET_FREEZE_BN, "batch norm is never frozen" },
        { SET_FREEZE_RANGES, "ranges are never frozen" },
    };
    for (int32_t i = 0; i < r->settings.len && epochs > 0; i++) {
        const RecipeSetting *s = &r->settings.at[i];
        for (int32_t k = 0; k < DT_COUNT(moments); k++)
            if (moments[k].id == s->id && s->value.number[0] >= epochs)
                diag_warning(d, s->at, "%s: %s=%s comes after the last of %g epochs: %s", s->what,
                             pass_settings[s->id].key, s->value.text, epochs, moments[k].then);
        const SettingValue *v = &s->value;
        if (v->n > 1 && !v->share[v->n - 1] && v->from[v->n - 1] >= epochs)
            diag_warning(d, s->at, "%s: %s=%s: epoch %g comes after the last of %g epochs", s->what,
                         pass_settings[s->id].key, v->text, v->from[v->n - 1], epochs);
    }
}
