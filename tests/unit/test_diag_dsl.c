/* test_diag_dsl.c: messages about mistakes in networks. Every tests/diag/NAME.c is one mistake; comments in it say what
 * is expected:
 *
 *     // expect-error: TEXT   exactly one error is reported, on this line, and its line of output has TEXT
 *     // expect-note: TEXT    a note points to this line and has TEXT
 *     // expect-help: TEXT    some help line has TEXT
 *     // expect-text: TEXT    TEXT is somewhere in the output
 *
 * The file is loaded as `detent train NAME.c` does, and built as a train step of 4 images. */
#include "frontend/frontend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 4, LEAST_CASES = 40 };

/* The lines of `text`, each without its end. */
typedef VEC(const char *) Lines;

static Lines split_lines(Arena *a, const char *text)
{
    Lines lines = { 0 };
    while (*text) {
        size_t len = strcspn(text, "\n");
        vec_push(a, &lines, arena_strndup(a, text, len));
        text += len + (text[len] == '\n');
    }
    return lines;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Is there an output line that begins with `place` and then `kind`, and has `text`? */
static bool was_said(Lines said, const char *place, const char *kind, const char *text)
{
    for (int32_t i = 0; i < said.len; i++) {
        const char *line = said.at[i] + strspn(said.at[i], " ");
        if (!starts_with(line, place))
            continue;
        line += strlen(place);
        if (starts_with(line, kind) && strstr(line, text))
            return true;
    }
    return false;
}

typedef struct Case {
    const char *path;
    Lines       source, said;
    int32_t     expectations;
} Case;

/* Checks the expectation, if any, on line `n` (from 1). NULL: none, or met; else what is missing. */
static const char *check_line(Arena *a, Case *c, int32_t n, const char *all)
{
    const char *mark = strstr(c->source.at[n - 1], "// expect-");
    if (!mark)
        return NULL;
    mark += strlen("// expect-");
    const char *text = strstr(mark, ": ");
    if (!text)
        return arena_printf(a, "line %d: an expectation without text", n);
    text += 2;
    c->expectations++;
    const char *place = arena_printf(a, "%s:%d: ", c->path, n);
    bool        met = false;
    if (starts_with(mark, "error: ")) /* what concerns the whole file is expected on its first line */
        met = was_said(c->said, place, "error: ", text) ||
              (n == 1 && was_said(c->said, arena_printf(a, "%s: ", c->path), "error: ", text));
    else if (starts_with(mark, "note: "))
        met = was_said(c->said, place, "note: ", text);
    else if (starts_with(mark, "help: "))
        met = was_said(c->said, "", "help: ", text);
    else if (starts_with(mark, "text: "))
        met = strstr(all, text) != NULL;
    else
        return arena_printf(a, "line %d: unknown expectation", n);
    return met ? NULL : arena_printf(a, "line %d: not said: %s", n, mark);
}

static void run_case(const char *path)
{
    Arena       a = arena_new("case");
    Diag        d = diag_new(NULL);
    Case        c = { .path = path };
    const char *text = file_read(&a, &d, path, NULL);
    assert_non_null(text);
    c.source = split_lines(&a, text);

    const DtModel *m = frontend_load(&a, &d, path);
    Graph         *g = m ? frontend_build(&a, &d, m, BATCH, STEP_TRAIN) : NULL;
    const char    *all = d.text.s ? d.text.s : "";
    c.said = split_lines(&a, all);
    if (g || d.errors != 1)
        fail_msg("%s: %d errors, expected 1:\n%s", path, d.errors, all);
    for (int32_t n = 1; n <= c.source.len; n++) {
        const char *missing = check_line(&a, &c, n, all);
        if (missing)
            fail_msg("%s: %s; said was:\n%s", path, missing, all);
    }
    if (c.expectations == 0)
        fail_msg("%s expects nothing", path);
    diag_free(&d);
    arena_free(&a);
}

static int is_source(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return len > 2 && strcmp(e->d_name + len - 2, ".c") == 0;
}

static void test_diag(void **state)
{
    (void)state;
    struct dirent **files;
    int             n = scandir(DT_SOURCE_DIR "/tests/diag", &files, is_source, alphasort);
    assert_true(n >= LEAST_CASES);
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tests/diag/%s", DT_SOURCE_DIR, files[i]->d_name);
        run_case(path);
        free(files[i]);
    }
    free(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_diag) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
