/* diag.c: messages for people who made a mistake.
 *
 *     net.c:146: error: add: shapes differ: lhs 128x16x16x16, rhs 128x16x32x32
 *       net.c:144: note: lhs is %10 = conv2d, made here
 *       help: the shortcut is twice as large; give its branch .stride = 2
 *
 * A Diag keeps all that it says (tests and tools read it) and prints it at once. Tested by tests/unit/test_base.c. */
#include "base/base.h"

Diag diag_new(FILE *out)
{
    Diag d = { .out = out, .arena = arena_new("diagnostics") };
    d.text = str_new(&d.arena);
    d.text.arena = NULL; /* `d` is about to move; set again before each use */
    return d;
}

void diag_free(Diag *d)
{
    arena_free(&d->arena);
    d->text = (Str){ 0 };
}

static void diag_say(Diag *d, const char *indent, Loc at, const char *kind, const char *fmt, va_list ap)
{
    d->text.arena = &d->arena;
    size_t from = d->text.len;
    str_add(&d->text, indent);
    if (at.file && at.line > 0)
        str_printf(&d->text, "%s:%d: ", at.file, at.line);
    else if (at.file)
        str_printf(&d->text, "%s: ", at.file);
    str_printf(&d->text, "%s: %s\n", kind, arena_vprintf(&d->arena, fmt, ap));
    if (d->out)
        fputs(d->text.s + from, d->out);
}

void diag_error(Diag *d, Loc at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_say(d, "", at, "error", fmt, ap);
    va_end(ap);
    d->errors++;
}

void diag_warning(Diag *d, Loc at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_say(d, "", at, "warning", fmt, ap);
    va_end(ap);
    d->warnings++;
}

void diag_note(Diag *d, Loc at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_say(d, "  ", at, "note", fmt, ap);
    va_end(ap);
}

void diag_help(Diag *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    diag_say(d, "  ", LOC_NONE, "help", fmt, ap);
    va_end(ap);
}

void diag_help_nearest(Diag *d, const char *found, const char *const *words, int32_t n, const char *other)
{
    const char *near = str_nearest(&d->arena, found, words, n);
    if (*near)
        diag_help(d, "did you mean %s?", near);
    else if (other)
        diag_help(d, "%s", other);
}
