/* opts.c: command lines. One table of OptDef is the parser, the help and the documentation, so that they agree.
 *
 * --name=value and --name value are the same, except for an option that may stand bare (a flag, or one with the empty
 * word among its choices): its value needs the '='. The last of several wins; lists add up, and what the command line
 * gives replaces their default. Every mistake is reported, not only the first. Tested by tests/unit/test_base_io.c. */
#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Parser {
    Arena        *arena;
    Diag         *diag;
    const OptDef *defs;
    int32_t       count;
    char         *out;
    bool         *given; /* of each option: seen on the command line */
    Loc           at;
    const char   *what; /* who gives the value, when it is no option of the command line */
} Parser;

/* ---- Values ---- */

static bool may_stand_bare(const OptDef *def)
{
    return def->kind == OPT_FLAG || (def->choices && def->choices[0] == '|');
}

/* "from 1 to 64", "of at least 1", "" */
static const char *range_text(Arena *a, const OptDef *def)
{
    if (def->min == 0 && def->max == 0)
        return "";
    Str s = str_new(a);
    if (def->max < def->min)
        str_printf(&s, " of at least %.15g", def->min);
    else
        str_printf(&s, " from %.15g to %.15g", def->min, def->max);
    return s.s;
}

/* min = max = 0: any number; max < min: no upper bound. */
static bool in_range(const OptDef *def, double x)
{
    bool any = def->min == 0 && def->max == 0;
    return any || (x >= def->min && (def->max < def->min || x <= def->max));
}

static bool bad_value(Parser *p, const OptDef *def, const char *expected, const char *found)
{
    const char *what = p->what != NULL ? p->what : arena_printf(p->arena, "--%s", def->name);
    diag_error(p->diag, p->at, "%s: expected %s, found '%s'", what, expected, found);
    return false;
}

static bool set_flag(Parser *p, const OptDef *def, const char *text, void *field)
{
    static const char *const words[2][4] = { { "false", "no", "off", "0" }, { "true", "yes", "on", "1" } };
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 4; i++)
            if (strcmp(text, words[value][i]) == 0) {
                *(bool *)field = value;
                return true;
            }
    return bad_value(p, def, "true or false", text);
}

static bool set_int(Parser *p, const OptDef *def, const char *text, void *field)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno == ERANGE || !in_range(def, (double)v))
        return bad_value(p, def, arena_printf(p->arena, "an integer%s", range_text(p->arena, def)), text);
    *(int64_t *)field = v;
    return true;
}

static bool set_float(Parser *p, const OptDef *def, const char *text, void *field)
{
    char  *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || !in_range(def, v))
        return bad_value(p, def, arena_printf(p->arena, "a number%s", range_text(p->arena, def)), text);
    *(double *)field = v;
    return true;
}

/* The words of "|a|b|c": the next one, or NULL. Starts with *at = choices. */
static const char *next_word(Arena *a, const char **at)
{
    if (!*at)
        return NULL;
    size_t      len = strcspn(*at, "|");
    const char *word = arena_strndup(a, *at, len);
    *at = (*at)[len] ? *at + len + 1 : NULL;
    return word;
}

static bool set_choice(Parser *p, const OptDef *def, const char *text, void *field)
{
    VEC(const char *) words = { 0 };
    const char *at = def->choices;
    for (const char *word; (word = next_word(p->arena, &at));) {
        if (strcmp(word, text) == 0) {
            *(const char **)field = word;
            return true;
        }
        if (*word)
            vec_push(p->arena, &words, word);
    }
    Str list = str_new(p->arena);
    for (int32_t i = 0; i < words.len; i++)
        str_printf(&list, "%s%s", i == 0 ? "" : i + 1 < words.len ? ", " : " or ", words.at[i]);
    bad_value(p, def, list.s, text);
    diag_help_nearest(p->diag, text, words.at, words.len, NULL);
    return false;
}

/* Splits at commas outside of braces: "s{0,1}.*,fc" is two patterns. Empty words are dropped, so "--name=" is an empty
 * list. */
static bool set_list(Parser *p, const char *text, StrList *list)
{
    int depth = 0;
    for (const char *from = text, *c = text;; c++) {
        depth += *c == '{' ? 1 : *c == '}' && depth > 0 ? -1 : 0;
        if (*c && (*c != ',' || depth > 0))
            continue;
        if (c > from)
            vec_push(p->arena, list, arena_strndup(p->arena, from, (size_t)(c - from)));
        if (!*c)
            return true;
        from = c + 1;
    }
}

static bool set_value(Parser *p, const OptDef *def, const char *text)
{
    void *field = p->out + def->offset;
    switch (def->kind) {
    case OPT_FLAG:
        return set_flag(p, def, text, field);
    case OPT_INT:
        return set_int(p, def, text, field);
    case OPT_FLOAT:
        return set_float(p, def, text, field);
    case OPT_STRING:
        *(const char **)field = arena_strdup(p->arena, text);
        return true;
    case OPT_CHOICE:
        return set_choice(p, def, text, field);
    case OPT_LIST:
        return set_list(p, text, field);
    case OPT_TEXTS:
        vec_push(p->arena, (StrList *)field, arena_strdup(p->arena, text));
        return true;
    }
    DT_UNREACHABLE("option --%s has kind %d", def->name, (int)def->kind);
}

static bool set_default(Parser *p, const OptDef *def)
{
    void *field = p->out + def->offset;
    switch (def->kind) {
    case OPT_FLAG:
        *(bool *)field = false;
        break;
    case OPT_INT:
        *(int64_t *)field = 0;
        break;
    case OPT_FLOAT:
        *(double *)field = 0;
        break;
    case OPT_STRING:
    case OPT_CHOICE:
        *(const char **)field = NULL;
        break;
    case OPT_LIST:
    case OPT_TEXTS:
        *(StrList *)field = (StrList){ 0 };
        break;
    }
    return !def->fallback || set_value(p, def, def->fallback);
}

/* ---- Words of the command line ---- */

static const OptDef *find(const Parser *p, const char *name, size_t len)
{
    for (int32_t i = 0; i < p->count; i++)
        if (strlen(p->defs[i].name) == len && memcmp(p->defs[i].name, name, len) == 0)
            return &p->defs[i];
    return NULL;
}

static bool unknown_option(Parser *p, const char *word, const char *name)
{
    const char **names = ARENA_ARRAY(p->arena, const char *, p->count);
    for (int32_t i = 0; i < p->count; i++)
        names[i] = arena_printf(p->arena, "--%s", p->defs[i].name);
    const char *wanted = arena_printf(p->arena, "--%s", name);
    diag_error(p->diag, LOC_NONE, "unknown option: expected one of the options that --help lists, found '%s'", word);
    diag_help_nearest(p->diag, wanted, names, p->count, NULL);
    return false;
}

/* argv[i] is "--..."; returns how many words it took, 0: a mistake (reported). */
static int parse_option(Parser *p, int i, int argc, char **argv)
{
    const char   *name = argv[i] + 2, *equals = strchr(name, '=');
    size_t        len = equals ? (size_t)(equals - name) : strlen(name);

    const OptDef *def = find(p, name, len);
    bool          negated = false;
    if (!def && len > 3 && memcmp(name, "no-", 3) == 0) {
        def = find(p, name + 3, len - 3);
        negated = def && def->kind == OPT_FLAG;
    }
    if (!def || (def != find(p, name, len) && !negated)) {
        unknown_option(p, argv[i], arena_strndup(p->arena, name, len));
        return 0;
    }
    if (negated && equals) {
        diag_error(p->diag, LOC_NONE, "--no-%s: expected no value, found '%s'", def->name, equals + 1);
        return 0;
    }

    int32_t     index = (int32_t)(def - p->defs);
    const char *value = equals ? equals + 1 : NULL;
    int         words = 1;
    if (!value && may_stand_bare(def)) {
        value = def->kind != OPT_FLAG ? "" : negated ? "false" : "true";
    } else if (!value) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!next || strncmp(next, "--", 2) == 0) {
            diag_error(p->diag, LOC_NONE, "--%s: expected a value, found %s", def->name,
                       next ? arena_printf(p->arena, "the option '%s'", next) : "the end of the command line");
            diag_help(p->diag, "write --%s=%s", def->name, def->arg ? def->arg : "VALUE");
            return 0;
        }
        value = next;
        words = 2;
    }
    if ((def->kind == OPT_LIST || def->kind == OPT_TEXTS) && !p->given[index])
        *(StrList *)(p->out + def->offset) = (StrList){ 0 };
    p->given[index] = true;
    set_value(p, def, value); /* a mistake in it does not stop the parsing: the error count tells */
    return words;
}

bool opts_parse(Arena *a, Diag *d, const OptDef *defs, int32_t count, int argc, char **argv, void *out, StrList *rest)
{
    Parser  p = { a, d, defs, count, out, ARENA_ARRAY(a, bool, count), LOC_NONE, NULL };
    int32_t errors = d->errors;
    for (int32_t i = 0; i < count; i++) {
        bool right = set_default(&p, &defs[i]);
        DT_ASSERT(right, "the default of --%s is not a value of it: '%s'", defs[i].name, defs[i].fallback);
    }
    *rest = (StrList){ 0 };
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            for (i++; i < argc; i++)
                vec_push(a, rest, argv[i]);
        } else if (strncmp(word, "--", 2) == 0) {
            int words = parse_option(&p, i, argc, argv);
            i += words ? words : 1;
        } else if (word[0] == '-' && word[1]) {
            unknown_option(&p, word, word + 1);
            i++;
        } else {
            vec_push(a, rest, argv[i++]);
        }
    }
    return d->errors == errors;
}

bool opts_set(Arena *a, Diag *d, Loc at, const char *what, const OptDef *def, const char *text, void *out)
{
    Parser p = { a, d, def, 1, out, NULL, at, what };
    return set_value(&p, def, text);
}

/* ---- Command lines as text ---- */

void opts_quote(Str *out, const char *word)
{
    if (word[0] != 0 && strpbrk(word, " \t\r\n'\\") == NULL) {
        str_add(out, word);
        return;
    }
    str_add(out, "'");
    for (const char *c = word; *c; c++)
        if (*c == '\'')
            str_add(out, "'\\''");
        else
            str_addn(out, c, 1);
    str_add(out, "'");
}

/* Blanks part words; '...' is taken as it is, and so is a character behind a backslash. */
bool opts_words(Arena *a, const char *line, StrList *out)
{
    static const char blanks[] = " \t\r\n";
    *out = (StrList){ 0 };
    for (const char *c = line + strspn(line, blanks); *c; c += strspn(c, blanks)) {
        Str  word = str_new(a);
        bool quoted = false;
        for (; *c && (quoted || !strchr(blanks, *c)); c++) {
            if (*c == '\'')
                quoted = !quoted;
            else if (*c == '\\' && !quoted && c[1])
                str_addn(&word, ++c, 1);
            else
                str_addn(&word, c, 1);
        }
        if (quoted)
            return false;
        vec_push(a, out, word.s);
    }
    return true;
}

/* ---- Help ---- */

#define HELP_COLUMN 30
#define HELP_WIDTH 100

/* "  --batch=N", "  --[no-]fuse", "  --dump[=a|b]" */
static const char *help_name(Arena *a, const OptDef *def)
{
    if (def->kind == OPT_FLAG)
        return arena_printf(a, "  --%s%s", def->fallback && str_eq(def->fallback, "true") ? "[no-]" : "", def->name);
    const char *arg = def->arg ? def->arg : def->kind == OPT_CHOICE ? def->choices : "VALUE";
    if (may_stand_bare(def))
        return arena_printf(a, "  --%s[=%s]", def->name, arg + (arg[0] == '|'));
    return arena_printf(a, "  --%s=%s", def->name, arg);
}

/* Words are set from HELP_COLUMN to HELP_WIDTH. */
static void help_wrap(Str *out, const char *text)
{
    int column = HELP_COLUMN;
    for (const char *p = text; *p;) {
        int len = (int)strcspn(p, " ");
        if (column > HELP_COLUMN && column + 1 + len > HELP_WIDTH) {
            str_printf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        str_printf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", len, p);
        column += len + (column > HELP_COLUMN);
        p += len;
        p += strspn(p, " ");
    }
    str_add(out, "\n");
}

void opts_help(Str *out, const OptDef *defs, int32_t count)
{
    Arena scratch = { .name = "help", .first_chunk_bytes = 4096 };
    for (int32_t i = 0; i < count; i++) {
        const OptDef *def = &defs[i];
        const char   *name = help_name(&scratch, def);
        str_add(out, name);
        if (strlen(name) > HELP_COLUMN - 2)
            str_printf(out, "\n%*s", HELP_COLUMN, "");
        else
            str_printf(out, "%*s", HELP_COLUMN - (int)strlen(name), "");

        Str text = str_new(&scratch);
        str_add(&text, def->doc ? def->doc : "");
        if (def->kind == OPT_CHOICE && def->arg)
            str_printf(&text, " One of %s.", def->choices + (def->choices[0] == '|'));
        if ((def->kind == OPT_INT || def->kind == OPT_FLOAT) && *range_text(&scratch, def))
            str_printf(&text, " A number%s.", range_text(&scratch, def));
        if (def->fallback && *def->fallback && !(def->kind == OPT_FLAG && str_eq(def->fallback, "false")))
            str_printf(&text, " [default: %s]", def->fallback);
        help_wrap(out, text.s);
    }
    arena_free(&scratch);
}
