/* html_check.h: is a text a well-formed HTML page? Every element is closed, in order; attributes are in quotes; text
 * and attributes hold no bare < and & only where a reference begins; scripts and style sheets are taken as they are. */
#ifndef DETENT_TESTS_HTML_CHECK_H
#define DETENT_TESTS_HTML_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { HTML_DEEP = 64, HTML_NAME = 24 };

typedef struct HtmlCheck {
    const char *page, *at;
    char        open[HTML_DEEP][HTML_NAME];
    int         depth, elements;
    char        why[160]; /* "": nothing is wrong */
} HtmlCheck;

static inline void html_wrong(HtmlCheck *c, const char *what)
{
    if (c->why[0] == 0)
        snprintf(c->why, sizeof c->why, "%s at byte %ld: %.60s", what, (long)(c->at - c->page), c->at);
}

static inline bool html_is(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(name, *list) == 0)
            return true;
    return false;
}

/* A reference such as &amp; or &#39; begins here. */
static inline bool html_reference(const char *at)
{
    size_t n = 1 + (at[1] == '#');
    size_t word = strspn(at + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    return word > 0 && at[n + word] == ';';
}

static inline void html_name(HtmlCheck *c, char *name)
{
    size_t n = strspn(c->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    if (n == 0 || n >= HTML_NAME) {
        html_wrong(c, "expected a name");
        n = 0;
    }
    memcpy(name, c->at, n);
    name[n] = 0;
    c->at += n;
}

/* name="value" ... up to > or /> */
static inline bool html_attributes(HtmlCheck *c)
{
    char name[HTML_NAME];
    while (c->why[0] == 0) {
        c->at += strspn(c->at, " \n");
        bool closed = c->at[0] == '/' && c->at[1] == '>';
        if (*c->at == '>' || closed) {
            c->at += 1 + closed;
            return closed;
        }
        html_name(c, name);
        if (*c->at != '=')
            continue; /* hidden, open */
        c->at++;
        if (*c->at != '"') {
            html_wrong(c, "expected a value in quotes");
            break;
        }
        for (c->at++; *c->at && *c->at != '"'; c->at++)
            if (*c->at == '<' || (*c->at == '&' && !html_reference(c->at)))
                html_wrong(c, "a bare character in an attribute");
        if (*c->at++ == 0) {
            c->at--;
            html_wrong(c, "a value that does not end");
        }
    }
    return false;
}

static inline void html_element(HtmlCheck *c)
{
    static const char *const empty[] = { "meta", "br", "img", "link", "hr", "input", NULL };
    static const char *const raw[] = { "script", "style", NULL };
    char                     name[HTML_NAME], end[HTML_NAME + 3];
    c->at++;
    html_name(c, name);
    bool closed = html_attributes(c);
    c->elements++;
    if (closed || html_is(name, empty) || c->why[0] != 0)
        return;
    if (html_is(name, raw)) {
        snprintf(end, sizeof end, "</%s>", name);
        const char *stop = strstr(c->at, end);
        if (stop == NULL)
            html_wrong(c, "a script that does not end");
        else
            c->at = stop + strlen(end);
        return;
    }
    if (c->depth == HTML_DEEP)
        html_wrong(c, "too deep");
    else
        strcpy(c->open[c->depth++], name);
}

static inline void html_end(HtmlCheck *c)
{
    char name[HTML_NAME];
    c->at += 2;
    html_name(c, name);
    if (c->depth == 0 || strcmp(c->open[c->depth - 1], name) != 0)
        html_wrong(c, "closes what is not open");
    else
        c->depth--;
    if (*c->at != '>')
        html_wrong(c, "expected >");
    c->at++;
}

static inline HtmlCheck html_check(const char *page)
{
    static const char doctype[] = "<!DOCTYPE html>";
    HtmlCheck         c = { .page = page, .at = page };
    if (strncmp(page, doctype, sizeof doctype - 1) != 0)
        html_wrong(&c, "no doctype");
    c.at += sizeof doctype - 1;
    while (c.why[0] == 0 && *c.at) {
        if (*c.at == '<' && c.at[1] == '/')
            html_end(&c);
        else if (*c.at == '<')
            html_element(&c);
        else if (*c.at == '&' && !html_reference(c.at))
            html_wrong(&c, "a bare &");
        else if (c.depth == 0 && !isspace((unsigned char)*c.at))
            html_wrong(&c, "text outside of the page");
        else
            c.at++;
    }
    if (c.depth > 0)
        html_wrong(&c, "an element that is not closed");
    return c;
}

#endif
