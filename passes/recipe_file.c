/* recipe_file.c: a recipe in a file: an ini text, read by inih.
 *
 *   method = lsq            what the whole network gets; each as the option of the same name
 *   bits = w4a4
 *   edge-bits = 8
 *   batch-in-n = false
 *
 *   [s0.*]                  layers that match the pattern; later sections win
 *   bits = w8a8
 *
 *   [head]
 *   bits = float
 *
 * Comments begin with # or ;. The file says nothing that the command line could not, so a run that was started with it
 * records options and can be resumed without it.
 *
 * Tested by tests/unit/test_recipe_file.c and test_cli_errors.c. */
#include "passes/pass_impl.h"

#include <ini.h>
#include <stdlib.h>
#include <string.h>

typedef enum RecipeKey { KEY_METHOD, KEY_BITS, KEY_EDGE_BITS, KEY_BATCH_IN_N, KEY_COUNT } RecipeKey;
static const char *const key_names[KEY_COUNT] = {
    [KEY_METHOD] = "method", [KEY_BITS] = "bits", [KEY_EDGE_BITS] = "edge-bits", [KEY_BATCH_IN_N] = "batch-in-n"
};

typedef struct Reading {
    Arena      *a;
    Diag       *d;
    const char *file, *text;
    int32_t     line;
    RecipeFile *out;
    StrMap      seen; /* "section\nkey" -> line */
    bool        ok;
} Reading;

static bool wrong(Reading *r, const char *fmt, ...) DT_PRINTF(2, 3);
static bool wrong(Reading *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_error(r->d, (Loc){ r->file, r->line }, "%s", arena_vprintf(r->a, fmt, ap));
    va_end(ap);
    r->ok = false;
    return false;
}

/* One line for inih, which does not say which one it is at. */
static char *next_line(char *to, int room, void *user)
{
    Reading *r = user;
    size_t   n = strcspn(r->text, "\n");
    if (*r->text == 0)
        return NULL;
    r->line++;
    n += r->text[n] == '\n';
    if (n >= (size_t)room) {
        wrong(r, "recipe: expected lines of at most %d characters, found one of %zu", room - 2, n);
        to[0] = '\n', to[1] = 0;
    } else {
        memcpy(to, r->text, n);
        to[n] = 0;
    }
    r->text += n;
    return to;
}

static int32_t find_key(const char *name)
{
    for (int32_t i = 0; i < KEY_COUNT; i++)
        if (str_eq(key_names[i], name))
            return i;
    return -1;
}

static bool whole_network(Reading *r, RecipeKey key, const char *value)
{
    RecipeFile *out = r->out;
    char       *end;
    switch (key) {
    case KEY_METHOD:
        out->method = arena_strdup(r->a, value);
        if (recipe_find_method(r->a, r->d, (Loc){ r->file, r->line }, "recipe: method", value) == NULL)
            r->ok = false;
        return r->ok;
    case KEY_BITS:
        out->bits = arena_strdup(r->a, value);
        out->bits_place = arena_printf(r->a, "%s:%d", r->file, r->line);
        return true;
    case KEY_EDGE_BITS:
        out->has_edge_bits = true;
        out->edge_bits = strtol(value, &end, 10);
        return (*end == 0 && out->edge_bits >= 0 && out->edge_bits <= 8) ||
               wrong(r, "recipe: edge-bits: expected an integer from 0 to 8, found '%s'", value);
    case KEY_BATCH_IN_N:
        out->batch_in_n = str_eq(value, "true");
        return out->batch_in_n || str_eq(value, "false") ||
               wrong(r, "recipe: batch-in-n: expected true or false, found '%s'", value);
    case KEY_COUNT:
        break;
    }
    DT_UNREACHABLE("key %d", (int)key);
}

static bool one_layer(Reading *r, const char *pattern, RecipeKey key, const char *value)
{
    if (strchr(pattern, '[')) { /* the section ends at the first ] */
        wrong(r, "recipe: expected a pattern of *, ? and {a,b}, found [ in '%s'", pattern);
        diag_help(r->d, "write {0,1} for [01]");
        return false;
    }
    if (key != KEY_BITS) {
        wrong(r, "recipe: expected bits in [%s], found %s", pattern, key_names[key]);
        diag_help(r->d, "%s is of the whole network: write it before the first [pattern]", key_names[key]);
        return false;
    }
    vec_push(r->a, &r->out->layers, arena_printf(r->a, "%s=%s", pattern, value));
    vec_push(r->a, &r->out->places, arena_printf(r->a, "%s:%d", r->file, r->line));
    return true;
}

/* inih's handler: 0 stands for a mistake. */
static int take(void *user, const char *section, const char *name, const char *value)
{
    Reading    *r = user;
    int32_t     key = find_key(name);
    const char *id = arena_printf(r->a, "%s\n%s", section, name);
    int32_t     before = strmap_get(&r->seen, id);
    if (key < 0) {
        wrong(r, "recipe: expected method, bits, edge-bits or batch-in-n, found '%s'", name);
        const char *near = str_nearest(r->a, name, key_names, KEY_COUNT);
        if (near[0])
            diag_help(r->d, "did you mean %s?", near);
        return 0;
    }
    if (before >= 0 && !section[0])
        return wrong(r, "recipe: %s was said in line %d already", name, before);
    strmap_put(&r->seen, id, r->line);
    if (!value[0])
        return wrong(r, "recipe: %s: expected a value, found the end of the line", name);
    return section[0] ? one_layer(r, section, (RecipeKey)key, value) : whole_network(r, (RecipeKey)key, value);
}

bool recipe_read(Arena *a, Diag *d, const char *path, RecipeFile *out)
{
    size_t      len;
    const char *text = file_read(a, d, path, &len);
    *out = (RecipeFile){ 0 };
    if (!text)
        return false;
    Reading r = { .a = a, .d = d, .file = path, .text = text, .out = out, .seen = strmap_new(a), .ok = true };
    if (strlen(text) < len) {
        diag_error(d, LOC_NONE, "recipe: %s: expected a text, found a 0 byte", path);
        return false;
    }
    int line = ini_parse_stream(next_line, &r, take, &r);
    if (line > 0 && r.ok) {
        r.line = line;
        wrong(&r, "recipe: expected KEY = VALUE or [PATTERN]");
    }
    return r.ok;
}
