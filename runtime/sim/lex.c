/* lex.c: CUDA text to tokens: names, numbers, punctuation; comments go; #line and #define are obeyed, #pragma is not
 * (unrolling does not change what a loop does).
 *
 * A macro is a name for a few tokens. They are put in place of the name right here, with the line of the use. Tested by
 * tests/unit/test_sim.c. */
#include "runtime/sim/sim_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct Macro {
    int32_t name;
    VEC(Token) body;
} Macro;

typedef struct Lexer {
    SimModule  *m;
    Diag       *d;
    const char *at;
    int32_t     line;
    Loc         map; /* of the line `map_from` of the text */
    int32_t     map_from;
    bool        failed, in_define;
    VEC(Macro) macros;
} Lexer;

int32_t word_id(SimModule *m, const char *at, int32_t len)
{
    char        small[64];
    const char *key = small;
    if (len < DT_COUNT(small)) {
        memcpy(small, at, (size_t)len);
        small[len] = 0;
    } else {
        key = arena_strndup(m->a, at, (size_t)len);
    }
    int32_t id = strmap_get(&m->words, key);
    if (id < 0) {
        id = m->names.len;
        strmap_put(&m->words, key, id);
        vec_push(m->a, &m->names, arena_strdup(m->a, key));
    }
    return id;
}

void sim_error_at(const SimModule *m, Diag *d, int32_t token, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *what = arena_vprintf(&d->arena, fmt, ap);
    va_end(ap);
    const Token *t = &m->tokens.at[token];
    diag_error(d, (Loc){ "CUDA text", t->line }, "%s", what);
    const char *from = t->at, *to = t->at;
    while (from > m->source && from[-1] != '\n')
        from--;
    while (isspace((unsigned char)*from) && from < to)
        from++;
    while (*to && *to != '\n' && to - from < 200)
        to++;
    if (to > from)
        diag_note(d, LOC_NONE, "%.*s", (int)(to - from), from);
    if (t->map.file)
        diag_note(d, t->map, "this is where it comes from");
}

/* ---- Pieces ---- */

static void push(Lexer *x, Token t)
{
    t.line = x->line;
    if (x->map.file)
        t.map = (Loc){ x->map.file, x->map.line + (x->line - x->map_from) };
    vec_push(x->m->a, &x->m->tokens, t);
}

static void lex_error(Lexer *x, const char *at, const char *what)
{
    if (x->failed)
        return;
    x->failed = true;
    push(x, (Token){ .kind = TOK_END, .at = at });
    sim_error_at(x->m, x->d, x->m->tokens.len - 1, "%s", what);
}

static bool word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Blanks, comments and continued lines; stops at the end of a line when `inside` (a directive). */
static void skip_blanks(Lexer *x, bool inside)
{
    for (;; x->at++) {
        if (x->at[0] == '/' && x->at[1] == '/') {
            while (x->at[1] && x->at[1] != '\n')
                x->at++;
        } else if (x->at[0] == '/' && x->at[1] == '*') {
            const char *from = x->at;
            int32_t     first = x->line;
            for (x->at += 2; *x->at && !(x->at[0] == '*' && x->at[1] == '/'); x->at++)
                x->line += *x->at == '\n';
            if (!*x->at) {
                x->line = first;
                lex_error(x, from, "a comment that does not end");
                return;
            }
            x->at++;
        } else if (x->at[0] == '\\' && x->at[1] == '\n') {
            x->line++;
            x->at++;
        } else if (*x->at == '\n') {
            if (inside)
                return;
            x->line++;
        } else if (!isspace((unsigned char)*x->at)) {
            return;
        }
    }
}

/* What follows the digits of an integer; false: nothing known. */
static bool int_suffix(const char *s, size_t len, bool *is_unsigned, int32_t *longs)
{
    *is_unsigned = false;
    *longs = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == 'u' || s[i] == 'U')
            *is_unsigned = true;
        else if (s[i] == 'l' || s[i] == 'L')
            (*longs)++;
        else
            return false;
    }
    return len <= 3 && *longs <= 2;
}

static void lex_int(Lexer *x, const char *from, const char *text, size_t len)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    bool               is_unsigned;
    int32_t            longs;
    if (end == text || errno == ERANGE || !int_suffix(end, len - (size_t)(end - text), &is_unsigned, &longs)) {
        lex_error(x, from, "a number that cannot be read");
        return;
    }
    bool    hex = text[0] == '0' && len > 1;
    SimBase base = T_U64;
    if (v <= INT32_MAX && !is_unsigned && !longs)
        base = T_I32;
    else if (v <= UINT32_MAX && (is_unsigned || hex) && !longs)
        base = T_U32;
    else if (v <= INT64_MAX && !is_unsigned)
        base = T_I64;
    push(x, (Token){ .kind = TOK_INT, .at = from, .len = (int32_t)len, .base = base, .value.i = v });
}

static void lex_number(Lexer *x)
{
    const char *from = x->at;
    char        text[64];
    size_t      len = 0;
    bool        hex = from[0] == '0' && (from[1] == 'x' || from[1] == 'X'), real = false;
    for (; word_char(*x->at) || *x->at == '.' ||
           ((*x->at == '-' || *x->at == '+') && strchr(hex ? "pP" : "eE", x->at[-1]));
         x->at++) {
        if (len + 1 >= sizeof text) {
            lex_error(x, from, "a number that is too long");
            return;
        }
        real = real || *x->at == '.' || strchr(hex ? "pP" : "eE", *x->at);
        text[len++] = *x->at;
    }
    text[len] = 0;
    if (!real) {
        lex_int(x, from, text, len);
        return;
    }
    char *end;
    float f = strtof(text, &end);
    if (end == text + len && end != text)
        lex_error(x, from, "a constant of type double, which is not simulated: it should end with f");
    else if (end == text || end + 1 != text + len || (*end != 'f' && *end != 'F'))
        lex_error(x, from, "a number that cannot be read");
    else
        push(x, (Token){ .kind = TOK_FLOAT, .at = from, .len = (int32_t)len, .base = T_F32, .value.f = f });
}

static void lex_name(Lexer *x)
{
    const char *from = x->at;
    while (word_char(*x->at))
        x->at++;
    int32_t len = (int32_t)(x->at - from), id = word_id(x->m, from, len);
    for (int32_t i = x->macros.len - 1; i >= 0 && !x->in_define; i--) {
        if (x->macros.at[i].name != id)
            continue;
        for (int32_t k = 0; k < x->macros.at[i].body.len; k++) {
            Token t = x->macros.at[i].body.at[k];
            t.at = from;
            push(x, t);
        }
        return;
    }
    push(x, (Token){ .kind = TOK_NAME, .id = id, .at = from, .len = len });
}

static void lex_string(Lexer *x)
{
    const char *from = x->at++;
    while (*x->at && *x->at != '"' && *x->at != '\n')
        x->at += x->at[0] == '\\' && x->at[1] && x->at[1] != '\n' ? 2 : 1;
    if (*x->at != '"') {
        lex_error(x, from, "a string that does not end");
        return;
    }
    x->at++;
    push(x, (Token){ .kind = TOK_STRING, .at = from, .len = (int32_t)(x->at - from) });
}

static void lex_punct(Lexer *x)
{
    static const char *const three[] = { "<<=", ">>=" };
    static const char *const two[] = { "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=",
                                       "*=", "/=", "%=", "&=", "|=", "^=", "++", "--", "->", "::" };
    int32_t                  len = 0;
    for (int32_t i = 0; i < DT_COUNT(three) && !len; i++)
        len = strncmp(x->at, three[i], 3) == 0 ? 3 : 0;
    for (int32_t i = 0; i < DT_COUNT(two) && !len; i++)
        len = strncmp(x->at, two[i], 2) == 0 ? 2 : 0;
    if (!len && strchr("+-*/%&|^~!<>=?:;,.(){}[]", *x->at))
        len = 1;
    if (!len) {
        lex_error(x, x->at, "a character that does not belong into the text");
        return;
    }
    int32_t id = 0;
    for (int32_t i = 0; i < len; i++)
        id = id << 8 | (unsigned char)x->at[i];
    push(x, (Token){ .kind = TOK_PUNCT, .id = id, .at = x->at, .len = len });
    x->at += len;
}

static void lex_token(Lexer *x)
{
    if (isdigit((unsigned char)*x->at) || (*x->at == '.' && isdigit((unsigned char)x->at[1])))
        lex_number(x);
    else if (word_char(*x->at))
        lex_name(x);
    else if (*x->at == '"')
        lex_string(x);
    else
        lex_punct(x);
}

/* ---- Directives ---- */

static void lex_define(Lexer *x, int32_t first)
{
    SimModule *m = x->m;
    bool       ok = m->tokens.len > first && m->tokens.at[first].kind == TOK_NAME;
    if (ok && m->tokens.len > first + 1) {
        const Token *name = &m->tokens.at[first];
        ok = !(name->at[name->len] == '('); /* a macro with parameters */
    }
    if (!ok) {
        lex_error(x, x->at, "#define: a name and a constant are expected");
        return;
    }
    Macro mac = { .name = m->tokens.at[first].id };
    for (int32_t i = first + 1; i < m->tokens.len; i++)
        vec_push(m->a, &mac.body, m->tokens.at[i]);
    vec_push(m->a, &x->macros, mac);
}

static void lex_line(Lexer *x, int32_t first)
{
    const Token *t = x->m->tokens.at + first;
    int32_t      n = x->m->tokens.len - first;
    if (n < 1 || n > 2 || t[0].kind != TOK_INT || t[0].value.i > INT32_MAX / 2 || (n == 2 && t[1].kind != TOK_STRING)) {
        lex_error(x, x->at, "#line: a number and a file are expected");
        return;
    }
    if (n == 2)
        x->map.file = arena_strndup(x->m->a, t[1].at + 1, (size_t)t[1].len - 2);
    x->map.line = (int32_t)t[0].value.i;
    x->map_from = x->line + 1;
}

/* `#` is the first character of its line. Its tokens are read like any others and taken away again. */
static void lex_directive(Lexer *x)
{
    SimModule  *m = x->m;
    int32_t     first = m->tokens.len;
    const char *hash = x->at++;
    skip_blanks(x, true);
    const char *word = x->at;
    while (word_char(*x->at))
        x->at++;
    size_t len = (size_t)(x->at - word);
    if (len == 6 && memcmp(word, "pragma", 6) == 0) {
        while (*x->at && *x->at != '\n')
            x->at++;
        return;
    }
    bool define = len == 6 && memcmp(word, "define", 6) == 0, line = len == 4 && memcmp(word, "line", 4) == 0;
    if (!define && !line) {
        lex_error(x, hash, "only #line, #define NAME constant and #pragma are known");
        return;
    }
    x->in_define = define; /* the first name is not replaced by what it stands for until now */
    for (skip_blanks(x, true); *x->at && *x->at != '\n' && !x->failed; skip_blanks(x, true)) {
        lex_token(x);
        x->in_define = false;
    }
    if (x->failed)
        return;
    if (define)
        lex_define(x, first);
    else
        lex_line(x, first);
    if (!x->failed)
        m->tokens.len = first;
}

bool sim_lex(SimModule *m, Diag *d)
{
    Lexer x = { .m = m, .d = d, .at = m->source, .line = 1 };
    bool  line_start = true;
    for (;;) {
        int32_t before = x.line;
        skip_blanks(&x, false);
        line_start = line_start || x.line != before;
        if (x.failed || !*x.at)
            break;
        if (*x.at == '#' && line_start)
            lex_directive(&x);
        else
            lex_token(&x);
        line_start = false;
        if (x.failed)
            break;
    }
    push(&x, (Token){ .kind = TOK_END, .at = x.at });
    return !x.failed;
}
