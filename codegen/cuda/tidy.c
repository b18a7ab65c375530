/* tidy.c: takes declarations that nobody uses out of a function's text: a row's column that only another column was
 * made from, the tile of a kernel that has one. Whether a name is used is known when the text is whole; asking the text
 * keeps the printers free of a second walk that would have to agree with the first.
 *
 * Tested by tests/unit/test_cuda.c and test_nvrtc_nets.c (NVRTC has nothing to warn of). */
#include <ctype.h>
#include <string.h>

#include "codegen/cuda/print.h"

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Of the line, or of the lines of a table's initialiser. */
static size_t statement_length(const char *line)
{
    size_t len = strcspn(line, "\n");
    if (strncmp(line, "static ", 7) != 0 || !memchr(line, '=', len))
        return len;
    const char *end = strstr(line, ";\n");
    return end ? (size_t)(end - line) + 1 : len;
}

/* The name that a line "const TYPE NAME = ...;" or "static __constant__ const TYPE NAME[..." declares. NULL: another
 * line. What such a line computes has no effect but its name. */
static const char *declared_name(Arena *a, const char *line, size_t len)
{
    static const char *const types[] = { "int ", "unsigned ", "float ", "long long " };
    static const char *const tables[] = { "static __device__ ", "static __constant__ " };
    const char              *c = line + strspn(line, " ");
    bool                     is_table = false;
    for (int32_t i = 0; i < DT_COUNT(tables) && !is_table; i++) {
        is_table = strncmp(c, tables[i], strlen(tables[i])) == 0;
        c += is_table ? strlen(tables[i]) : 0;
    }
    if (strncmp(c, "const ", 6) != 0)
        return NULL;
    c += 6;
    for (int32_t i = 0; i < DT_COUNT(types); i++) {
        size_t n = strlen(types[i]);
        if (strncmp(c, types[i], n) != 0)
            continue;
        const char *end = c + n;
        while (is_word(*end))
            end++;
        bool declares = end < line + len && (is_table ? *end == '[' : strncmp(end, " = ", 3) == 0);
        return declares && line[len - 1] == ';' ? arena_strndup(a, c + n, (size_t)(end - c) - n) : NULL;
    }
    return NULL;
}

static int32_t count_word(const char *text, const char *word)
{
    int32_t found = 0;
    size_t  len = strlen(word);
    for (const char *c = strstr(text, word); c; c = strstr(c + len, word))
        found += !is_word(c[len]) && (c == text || !is_word(c[-1]));
    return found;
}

const char *drop_unused(Arena *a, const char *text)
{
    for (bool again = true; again;) {
        Str out = str_new(a);
        again = false;
        for (const char *line = text; *line;) {
            size_t      len = statement_length(line), whole = len + (line[len] == '\n');
            const char *name = declared_name(a, line, len);
            bool        drop = name && count_word(text, name) == 1;
            if (!drop)
                str_addn(&out, line, whole);
            again = again || drop;
            line += whole;
        }
        text = out.s;
    }
    return text;
}
