/* str.c: growing texts, numbers as text, patterns, and the nearest names for messages. Tested by
 * tests/unit/test_base.c. */
#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Growing text ---- */

Str str_new(Arena *a)
{
    Str s = { .arena = a, .cap = 32 };
    s.s = arena_alloc(a, s.cap);
    return s;
}

/* Room for `more` bytes and the final 0. */
static void str_reserve(Str *s, size_t more)
{
    if (s->cap - s->len > more)
        return;
    size_t cap = s->cap < 16 ? 32 : 2 * s->cap;
    while (cap - s->len <= more)
        cap *= 2;
    char *grown = arena_alloc(s->arena, cap);
    if (s->len)
        memcpy(grown, s->s, s->len);
    s->s = grown;
    s->cap = cap;
}

void str_addn(Str *s, const char *text, size_t len)
{
    str_reserve(s, len);
    memmove(s->s + s->len, text, len);
    s->len += len;
    s->s[s->len] = 0;
}

void str_add(Str *s, const char *text)
{
    str_addn(s, text, strlen(text));
}

void str_printf(Str *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    DT_ASSERT(len >= 0, "format '%s'", fmt);
    str_reserve(s, (size_t)len);
    vsnprintf(s->s + s->len, (size_t)len + 1, fmt, ap);
    s->len += (size_t)len;
    va_end(ap);
}

/* The fewest digits that read back as the same float: at most nine (IEEE 754 binary32). The text nearest to f has
 * them, except that below a power of two floats lie twice as dense as above: there the nearest text may miss while the
 * next one above, nearest to the midpoint of f and its upper neighbour, still reads back. */
static void shortest_e(float f, char out[32])
{
    int    exponent;
    bool   power_of_two = frexpf(f, &exponent) == 0.5f;
    double above = power_of_two ? 0.5 * ((double)f + (double)nextafterf(f, INFINITY)) : f;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(out, 32, "%.*e", digits - 1, (double)f);
        if (strtof(out, NULL) == f)
            return;
        snprintf(out, 32, "%.*e", digits - 1, above);
        if (power_of_two && strtof(out, NULL) == f)
            return;
    }
}

/* "d.ddde+XX" has the digits and the exponent; they are laid out as people write them: 0.001, 12.5, 1e-5, 3e9. */
void str_add_f32(Str *s, float f)
{
    if (isnan(f)) {
        str_add(s, "nan");
        return;
    }
    if (signbit(f))
        str_add(s, "-");
    if (isinf(f)) {
        str_add(s, "inf");
        return;
    }
    char e[32], digits[16];
    shortest_e(fabsf(f), e);
    int n = 0;
    for (const char *p = e; *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    int exponent = atoi(strchr(e, 'e') + 1);
    while (n > 1 && digits[n - 1] == '0')
        n--;

    if (exponent < -4 || exponent > 8) {
        str_printf(s, "%c%s%.*se%d", digits[0], n > 1 ? "." : "", n - 1, digits + 1, exponent);
    } else if (exponent < 0) {
        str_printf(s, "0.%.*s%.*s", -exponent - 1, "000", n, digits);
    } else if (n <= exponent + 1) {
        str_printf(s, "%.*s%.*s", n, digits, exponent + 1 - n, "00000000");
    } else {
        str_printf(s, "%.*s.%.*s", exponent + 1, digits, n - exponent - 1, digits + exponent + 1);
    }
}

void str_add_f64(Str *s, double x)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) { /* zeros at the end are not written: 0.1, 80, 1e-09 */
        snprintf(text, sizeof(text), "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    str_add(s, text);
}

bool str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

const char *str_bytes(Arena *a, int64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    if (bytes > -1024 && bytes < 1024)
        return arena_printf(a, "%d B", (int)bytes);
    double  x = (double)bytes / 1024;
    int32_t u = 0;
    for (; fabs(x) >= 1023.95 && u + 1 < DT_COUNT(units); u++) /* 1023.95 would be printed as 1024.0 */
        x /= 1024;
    return arena_printf(a, "%.1f %s", x, units[u]);
}

/* ---- Patterns ----
 * A pattern is run over the set of all places of the text that can be reached so far, one byte a place, as one runs
 * a nondeterministic automaton. There is no backtracking: the time is |pattern| * |text|, however many stars. */

typedef struct Glob {
    Arena      *arena;
    const char *text;
    size_t      len;
} Glob;

/* The end of "[...]" that starts at p: its ']', or NULL when it is never closed. "]" may come first. */
static const char *class_end(const char *p, const char *end)
{
    p += p + 1 < end && (p[1] == '!' || p[1] == '^') ? 2 : 1;
    for (const char *q = p; q < end; q++)
        if (*q == ']' && q > p)
            return q;
    return NULL;
}

static bool class_has(const char *p, const char *close, unsigned char c)
{
    bool negated = p[1] == '!' || p[1] == '^', found = false;
    for (p += negated ? 2 : 1; p < close; p++) {
        if (p + 2 < close && p[1] == '-') {
            found |= (unsigned char)p[0] <= c && c <= (unsigned char)p[2];
            p += 2;
        } else {
            found |= (unsigned char)*p == c;
        }
    }
    return found != negated;
}

/* From p on, the first of ',' and '}' at this depth of braces (p is behind a '{'); NULL: never closed. */
static const char *brace_next(const char *p, const char *end)
{
    int depth = 0;
    for (; p < end; p++) {
        if (*p == '{')
            depth++;
        else if (depth == 0 && (*p == ',' || *p == '}'))
            return p;
        else if (*p == '}')
            depth--;
    }
    return NULL;
}

static bool brace_closed(const char *p, const char *end)
{
    do {
        p = brace_next(p + 1, end);
    } while (p && *p == ',');
    return p;
}

static void glob_run(const Glob *g, const char *p, const char *end, uint8_t *set);

/* "{a,b}": the union of what each alternative reaches. Returns the closing brace. */
static const char *glob_braces(const Glob *g, const char *p, const char *end, uint8_t *set)
{
    uint8_t *all = arena_alloc(g->arena, g->len + 1);
    do {
        uint8_t    *branch = arena_copy(g->arena, set, g->len + 1);
        const char *next = brace_next(p + 1, end);
        glob_run(g, p + 1, next, branch);
        for (size_t i = 0; i <= g->len; i++)
            all[i] |= branch[i];
        p = next;
    } while (*p == ',');
    memcpy(set, all, g->len + 1);
    return p;
}

/* One character of the text, which must satisfy [p, last] of the pattern: '?', a class or the character itself. */
static void glob_char(const Glob *g, const char *p, const char *class_close, uint8_t *set)
{
    for (size_t i = g->len; i > 0; i--) {
        char c = g->text[i - 1];
        bool fits = class_close ? class_has(p, class_close, (unsigned char)c) : *p == '?' || *p == c;
        set[i] = set[i - 1] && fits;
    }
    set[0] = 0;
}

static void glob_run(const Glob *g, const char *p, const char *end, uint8_t *set)
{
    for (; p < end; p++) {
        if (*p == '*') {
            for (size_t i = 1; i <= g->len; i++)
                set[i] |= set[i - 1];
        } else if (*p == '{' && brace_closed(p, end)) {
            p = glob_braces(g, p, end, set);
        } else {
            const char *close = *p == '[' ? class_end(p, end) : NULL;
            glob_char(g, p, close, set);
            p = close ? close : p;
        }
    }
}

bool str_glob(const char *pattern, const char *text)
{
    Arena    scratch = { .name = "pattern", .first_chunk_bytes = 512 };
    Glob     g = { &scratch, text, strlen(text) };
    uint8_t *set = arena_alloc(&scratch, g.len + 1);
    set[0] = 1;
    glob_run(&g, pattern, pattern + strlen(pattern), set);
    bool matches = set[g.len];
    arena_free(&scratch);
    return matches;
}

/* ---- Nearest names ---- */

static int32_t min3(int32_t a, int32_t b, int32_t c)
{
    int32_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). `rows`: 3 of strlen(b) + 1.
 */
static int32_t edit_distance(const char *a, const char *b, int32_t *rows)
{
    int32_t  n = (int32_t)strlen(a), m = (int32_t)strlen(b);
    int32_t *before = rows, *prev = rows + m + 1, *cur = rows + 2 * (m + 1);
    for (int32_t j = 0; j <= m; j++)
        cur[j] = j;
    for (int32_t i = 1; i <= n; i++) {
        int32_t *spare = before;
        before = prev;
        prev = cur;
        cur = spare;
        cur[0] = i;
        for (int32_t j = 1; j <= m; j++) {
            cur[j] = min3(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < cur[j])
                cur[j] = before[j - 2] + 1;
        }
    }
    return cur[m];
}

#define NEAREST 3

/* How far `name` is from what was wanted, or -1: too far to be what was meant. */
static int32_t name_distance(const char *wanted, const char *name, int32_t *rows)
{
    int32_t longer = (int32_t)(strlen(wanted) > strlen(name) ? strlen(wanted) : strlen(name));
    if (strlen(wanted) >= 3 && strncmp(name, wanted, strlen(wanted)) == 0)
        return name[strlen(wanted)] != 0; /* a beginning is a good guess however long the name is */
    int32_t distance = edit_distance(wanted, name, rows);
    return distance < longer && distance <= 1 + longer / 4 ? distance : -1;
}

const char *str_nearest(Arena *a, const char *wanted, const char *const *names, int32_t count)
{
    size_t longest = 0;
    for (int32_t i = 0; i < count; i++)
        longest = strlen(names[i]) > longest ? strlen(names[i]) : longest;
    int32_t    *rows = ARENA_ARRAY(a, int32_t, 3 * (longest + 1));

    const char *best[NEAREST];
    int32_t     distances[NEAREST], found = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t distance = name_distance(wanted, names[i], rows);
        if (distance < 0 || (found == NEAREST && distance >= distances[NEAREST - 1]))
            continue;
        int32_t at = found < NEAREST ? found++ : NEAREST - 1;
        for (; at > 0 && distances[at - 1] > distance; at--) {
            best[at] = best[at - 1];
            distances[at] = distances[at - 1];
        }
        best[at] = names[i];
        distances[at] = distance;
    }
    while (found > 1 && distances[found - 1] > distances[0] + 1) /* much farther than the best is noise */
        found--;
    Str s = str_new(a);
    for (int32_t i = 0; i < found; i++)
        str_printf(&s, "%s%s", i == 0 ? "" : i + 1 < found ? ", " : " or ", best[i]);
    return s.s;
}
