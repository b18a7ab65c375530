/* test_recipe_file.c: recipes in files: what they say, and what is said about mistakes in them, with the line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "passes/passes.h"

/* Reads `text` from a file "r.recipe" of the working directory's own. */
static bool read_text(Arena *a, Diag *d, const char *text, size_t len, RecipeFile *out)
{
    assert_true(file_write_atomic(d, "r.recipe", text, len));
    bool ok = recipe_read(a, d, "r.recipe", out);
    unlink("r.recipe");
    return ok;
}

static void test_all_it_can_say(void **state)
{
    (void)state;
    Arena             a = arena_new("recipe");
    Diag              d = diag_new(NULL);
    RecipeFile        f;
    static const char text[] = "# a comment\n"
                               "method = lsq\n"
                               "bits=w4a4 ; behind a space\n"
                               "edge-bits: 0\n"
                               "batch-in-n = true\n"
                               "\n"
                               "[s0.*]\n"
                               "bits = w8a8\n"
                               "[{a,b}.conv?]\n"
                               "; another\n"
                               "bits = float\n"
                               "[s0.*]\n"
                               "bits = w2"; /* no line end */
    assert_true(read_text(&a, &d, text, strlen(text), &f));
    assert_string_equal(f.method, "lsq");
    assert_string_equal(f.bits, "w4a4");
    assert_string_equal(f.bits_place, "r.recipe:3");
    assert_true(f.has_edge_bits && f.edge_bits == 0 && f.batch_in_n);
    assert_int_equal(f.layers.len, 3);
    assert_string_equal(f.layers.at[0], "s0.*=w8a8");
    assert_string_equal(f.layers.at[1], "{a,b}.conv?=float");
    assert_string_equal(f.layers.at[2], "s0.*=w2");
    assert_string_equal(f.places.at[0], "r.recipe:8");
    assert_string_equal(f.places.at[1], "r.recipe:11");
    assert_string_equal(f.places.at[2], "r.recipe:13");
    assert_int_equal(d.errors, 0);
    diag_free(&d);
    arena_free(&a);
}

static void test_nothing_said(void **state)
{
    (void)state;
    Arena      a = arena_new("recipe");
    Diag       d = diag_new(NULL);
    RecipeFile f;
    assert_true(read_text(&a, &d, "\n# nothing\n\n", 12, &f));
    assert_null(f.method);
    assert_null(f.bits);
    assert_true(!f.has_edge_bits && !f.batch_in_n && f.layers.len == 0);
    diag_free(&d);
    arena_free(&a);
}

static const struct {
    const char *text, *says, *also;
} mistakes[] = {
    { "method = lqs\n", "r.recipe:1: error: recipe: method: expected float or lsq, found 'lqs'", "did you mean lsq?" },
    { "edge-bits = 9\nmethod = lsq\n", "found '9'", "" }, /* what is right does not mend what was wrong */
    { "method =\n", "r.recipe:1: error: recipe: method: expected a value", "" },
    { "\nbit = w4a4\n", "r.recipe:2: error: recipe: expected method, bits, edge-bits or batch-in-n, found 'bit'",
      "did you mean bits?" },
    { "bits = w4a4\nbits = w8a8\n", "r.recipe:2: error: recipe: bits was said in line 1 already", "" },
    { "edge-bits = 9\n", "r.recipe:1: error: recipe: edge-bits: expected an integer from 0 to 8, found '9'", "" },
    { "edge-bits = 8x\n", "found '8x'", "" },
    { "edge-bits = -1\n", "found '-1'", "" },
    { "batch-in-n = yes\n", "r.recipe:1: error: recipe: batch-in-n: expected true or false, found 'yes'", "" },
    { "[head]\nmethod = lsq\n", "r.recipe:2: error: recipe: expected bits in [head], found method",
      "write it before the first [pattern]" },
    { "[s[01].*]\nbits = w4a4\n", "r.recipe:2: error: recipe: expected a pattern of *, ? and {a,b}, found [ in 's[01'",
      "write {0,1} for [01]" },
    { "[head]\nbits =\n", "r.recipe:2: error: recipe: bits: expected a value", "" },
    { "[head]\n\nwhatever\n", "r.recipe:3: error: recipe: expected KEY = VALUE or [PATTERN]", "" },
    { "[head\nbits = w4a4\n", "r.recipe:1: error: recipe: expected KEY = VALUE or [PATTERN]", "" },
};

static void test_mistakes(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(mistakes); i++) {
        Arena      a = arena_new("recipe");
        Diag       d = diag_new(NULL);
        RecipeFile f;
        assert_false(read_text(&a, &d, mistakes[i].text, strlen(mistakes[i].text), &f));
        if (!strstr(d.text.s, mistakes[i].says) || !strstr(d.text.s, mistakes[i].also))
            fail_msg("'%s' gives:\n%s\nexpected: %s ... %s", mistakes[i].text, d.text.s, mistakes[i].says,
                     mistakes[i].also);
        diag_free(&d);
        arena_free(&a);
    }
}

/* Long lines, a 0 byte, no file: reported; every prefix of a good file: read or reported. */
static void test_odd_files(void **state)
{
    (void)state;
    Arena             a = arena_new("recipe");
    Diag              d = diag_new(NULL);
    RecipeFile        f;
    static const char good[] = "method = lsq\nbits = w4a4\n[s0.*]\nbits = w8a8\n";
    char             *wide = ARENA_ARRAY(&a, char, 1001);
    memset(wide, 'x', 1000);
    assert_false(read_text(&a, &d, wide, 1000, &f));
    assert_non_null(strstr(d.text.s, "r.recipe:1: error: recipe: expected lines of at most"));
    assert_false(read_text(&a, &d, "bits = w4a4\0", 12, &f));
    assert_non_null(strstr(d.text.s, "expected a text, found a 0 byte"));
    assert_false(recipe_read(&a, &d, "/nowhere/r.recipe", &f));
    assert_non_null(strstr(d.text.s, "/nowhere/r.recipe: No such file"));
    for (size_t n = 0; n < sizeof good; n++) {
        int32_t before = d.errors;
        assert_true(read_text(&a, &d, good, n, &f) == (d.errors == before));
    }
    diag_free(&d);
    arena_free(&a);
}

int main(void)
{
    char              dir[] = "/tmp/recipe-XXXXXX";
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_it_can_say),
        cmocka_unit_test(test_nothing_said),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_odd_files),
    };
    if (!mkdtemp(dir) || chdir(dir) != 0)
        return 1;
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return status;
}
