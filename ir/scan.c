/* scan.c: the words of the text form. Tested by tests/unit/test_ir_text.c. */
#include "ir/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool scan_fail(Scanner *p, const char *fmt, ...)
{
    if (p->failed)
        return false;
    va_list ap;
    va_start(ap, fmt);
    diag_error(p->d, (Loc){ p->file, p->line }, "parse: %s", arena_vprintf(&p->d->arena, fmt, ap));
    va_end(ap);
    p->failed = true;
    return false;
}

static void skip_space(Scanner *p)
{
    for (;; p->pos++) {
        const char *s = p->text + p->pos;
        if (s[0] == '/' && s[1] == '/')
            p->pos += strcspn(s, "\n");
        if (p->text[p->pos] == '\n')
            p->line++;
        else if (p->text[p->pos] != ' ' && p->text[p->pos] != '\t' && p->text[p->pos] != '\r')
            return;
    }
}

const char *scan_peek(Scanner *p)
{
    skip_space(p);
    return p->text + p->pos;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

/* What stands here, for messages: the next word or sign. */
const char *scan_found(Scanner *p)
{
    enum { MOST = 24 };
    const char *s = scan_peek(p);
    int         n = 0;
    while (n < MOST && is_word_char(s[n]))
        n++;
    if (s[0] == 0)
        return "the end of the text";
    if ((unsigned char)s[0] < 0x20)
        return arena_printf(&p->d->arena, "a control character (%d)", s[0]);
    return arena_printf(&p->d->arena, "'%.*s'", n ? n : 1, s);
}

/* The sign or word `s`, if it is next. */
bool scan_accept(Scanner *p, const char *s)
{
    const char *at = scan_peek(p);
    size_t      n = strlen(s);
    if (p->failed || strncmp(at, s, n) != 0 || (is_word_char(s[n - 1]) && is_word_char(at[n])))
        return false;
    p->pos += n;
    return true;
}

bool scan_expect(Scanner *p, const char *s, const char *where)
{
    return scan_accept(p, s) || scan_fail(p, "expected '%s' %s, found %s", s, where, scan_found(p));
}

bool scan_word(Scanner *p, Word *out, const char *what)
{
    const char *s = scan_peek(p);
    int32_t     n = 0;
    while (is_word_char(s[n]))
        n++;
    *out = (Word){ s, n };
    p->pos += (size_t)n;
    return n > 0 || scan_fail(p, "expected %s, found %s", what, scan_found(p));
}

bool scan_is(Word w, const char *s)
{
    return strlen(s) == (size_t)w.len && memcmp(w.s, s, (size_t)w.len) == 0;
}

bool scan_int(Scanner *p, int64_t *out, const char *what)
{
    const char *s = scan_peek(p);
    char       *end;
    *out = 0;
    if (!is_digit(s[s[0] == '-']))
        return scan_fail(p, "expected %s, found %s", what, scan_found(p));
    errno = 0;
    *out = strtoll(s, &end, 10);
    if (errno == ERANGE)
        return scan_fail(p, "%s does not fit 64 bits", what);
    p->pos += (size_t)(end - s);
    return true;
}

bool scan_int_in(Scanner *p, int64_t lo, int64_t hi, int64_t *out, const char *what)
{
    return scan_int(p, out, what) &&
           ((*out >= lo && *out <= hi) ||
            scan_fail(p, "%s is %lld, expected %lld to %lld", what, (long long)*out, (long long)lo, (long long)hi));
}

/* A number with an optional suffix f: it was a float. */
bool scan_number(Scanner *p, double *out, const char *what)
{
    const char *s = scan_peek(p);
    char       *end;
    size_t      sign = s[0] == '-';
    *out = 0;
    if (!is_digit(s[sign]) && strncmp(s + sign, "inf", 3) != 0 && strncmp(s + sign, "nan", 3) != 0)
        return scan_fail(p, "expected %s, found %s", what, scan_found(p));
    *out = strtod(s, &end);
    if (*end == 'f')
        *out = (double)strtof(s, &end), end++;
    if (is_word_char(*end))
        return scan_fail(p, "expected %s, found '%.*s'", what, (int)(end - s) + 1, s);
    p->pos += (size_t)(end - s);
    return true;
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool scan_string(Scanner *p, const char **out, const char *what)
{
    const char *s = scan_peek(p);
    *out = "";
    if (*s != '"')
        return scan_fail(p, "expected %s in quotes, found %s", what, scan_found(p));
    Str text = str_new(p->a);
    for (s++; *s != '"'; s++) {
        if (*s == 0 || *s == '\n')
            return scan_fail(p, "%s: the closing quote is missing", what);
        char c = *s;
        if (c == '\\') {
            c = *++s;
            if (c == 'n') {
                c = '\n';
            } else if (c == 'x' && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0 && (s[1] != '0' || s[2] != '0')) {
                c = (char)(16 * hex_digit(s[1]) + hex_digit(s[2]));
                s += 2;
            } else if (c != '"' && c != '\\') {
                return scan_fail(p, "%s: expected \\\" \\\\ \\n or \\xNN after the backslash", what);
            }
        }
        str_addn(&text, &c, 1);
    }
    p->pos = (size_t)(s + 1 - p->text);
    *out = text.s;
    return true;
}

/* A name: letters, digits and . - _, or a string. */
bool scan_name(Scanner *p, const char **out, const char *what)
{
    const char *s = scan_peek(p);
    if (*s == '"')
        return scan_string(p, out, what);
    size_t n = 0;
    while (is_word_char(s[n]) || s[n] == '.' || s[n] == '-')
        n++;
    *out = arena_strndup(p->a, s, n);
    p->pos += n;
    return n > 0 || scan_fail(p, "expected %s, found %s", what, scan_found(p));
}
