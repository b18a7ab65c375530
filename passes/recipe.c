/* recipe.c: the words in which people write recipes: "w4a8" (weights 4 bits, activations 8), "w8" (one side), "float",
 * and "s1.*=w8a8" for the layers that a pattern names. 32 bits mean float.
 *
 * Tested by tests/unit/test_quantize.c. */
#include "passes/pass_impl.h"

#include <stdlib.h>
#include <string.h>

enum { BITS_MIN = 2, BITS_MAX = 8, BITS_FLOAT = 32, SIDE_ABSENT = -1 };

/* What a word says of each side: bits, 0 for float, SIDE_ABSENT when it does not speak of it. */
typedef struct Sides {
    int32_t weight, act;
} Sides;

/* Reads "4" of "w4..." and moves on. */
static bool parse_bits(const char **text, int32_t *bits)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    long n = strtol(*text, &end, 10);
    *text = end;
    *bits = n == BITS_FLOAT ? 0 : (int32_t)n;
    return n == BITS_FLOAT || (n >= BITS_MIN && n <= BITS_MAX);
}

static bool parse_sides(Diag *d, Loc place, const char *what, const char *whole, const char *text, Sides *out)
{
    *out = (Sides){ SIDE_ABSENT, SIDE_ABSENT };
    if (str_eq(text, "float")) {
        *out = (Sides){ 0, 0 };
        return true;
    }
    const char *at = text;
    bool        ok = *at != 0;
    if (ok && *at == 'w')
        ok = (at++, parse_bits(&at, &out->weight));
    if (ok && *at == 'a')
        ok = (at++, parse_bits(&at, &out->act));
    if (ok && *at == 0)
        return true;
    diag_error(d, place, "%s: expected bits such as w4a8, w8, a4 or float, found '%s'%s", what, text,
               str_eq(text, whole) ? "" : arena_printf(&d->arena, " in '%s'", whole));
    diag_help(d, "bits are %d to %d; %d is float on that side", BITS_MIN, BITS_MAX, BITS_FLOAT);
    return false;
}

bool recipe_unknown_word(Arena *a, Diag *d, Loc at, const char *what, const char *const *words, int32_t n,
                         const char *found, const char *else_help)
{
    Str all = str_new(a);
    for (int32_t i = 0; i < n; i++)
        str_printf(&all, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ", words[i]);
    diag_error(d, at, "%s: expected %s, found '%s'", what, all.s, found);
    diag_help_nearest(d, found, words, n, else_help);
    return false;
}

const Method *recipe_find_method(Arena *a, Diag *d, Loc at, const char *what, const char *name)
{
    const char **names = ARENA_ARRAY(a, const char *, pass_n_methods);
    for (int32_t i = 0; i < pass_n_methods; i++) {
        names[i] = pass_methods[i].name;
        if (str_eq(names[i], name))
            return &pass_methods[i];
    }
    recipe_unknown_word(a, d, at, what, names, pass_n_methods, name, "docs/settings.md says what they are");
    return NULL;
}

/* A float recipe that is told bits becomes a quantizing one. */
static void want_method(Recipe *r, int32_t bits)
{
    if (bits > 0 && (!r->method || str_eq(r->method, "float")))
        r->method = "lsq";
}

bool recipe_set_bits(Recipe *r, Diag *d, Loc at, const char *what, const char *text)
{
    Sides s;
    if (!parse_sides(d, at, what, text, text, &s))
        return false;
    r->weight_bits = s.weight > 0 ? s.weight : 0;
    r->act_bits = s.act > 0 ? s.act : 0;
    if (!r->weight_bits && !r->act_bits)
        r->method = "float";
    want_method(r, r->weight_bits | r->act_bits);
    return true;
}

bool recipe_parse_bits(Recipe *r, Diag *d, const char *what, const char *text)
{
    return recipe_set_bits(r, d, LOC_NONE, what, text);
}

static void add_row(Arena *a, Recipe *r, RecipeRow row)
{
    if (row.bits == SIDE_ABSENT)
        return;
    vec_push(a, &r->rows, row);
    want_method(r, row.bits);
}

bool recipe_set_layer(Arena *a, Recipe *r, Diag *d, Loc at, const char *what, const char *text)
{
    const char *equals = strrchr(text, '=');
    Sides       s;
    if (!equals || equals == text) {
        diag_error(d, at, "%s: expected PATTERN=wNaM or PATTERN=float, found '%s'", what, text);
        diag_help(d, "write for instance 's1.*=w8a8'");
        return false;
    }
    if (!parse_sides(d, at, what, text, equals + 1, &s))
        return false;
    const char *pattern = arena_strndup(a, text, (size_t)(equals - text));
    what = arena_strdup(a, what);
    if (s.weight == s.act) {
        add_row(a, r, (RecipeRow){ pattern, NULL, s.weight, what, at });
        return true;
    }
    add_row(a, r, (RecipeRow){ pattern, "weight", s.weight, what, at });
    add_row(a, r, (RecipeRow){ pattern, "act", s.act, what, at });
    return true;
}

bool recipe_add_layer(Arena *a, Recipe *r, Diag *d, const char *what, const char *text)
{
    return recipe_set_layer(a, r, d, LOC_NONE, what, text);
}
