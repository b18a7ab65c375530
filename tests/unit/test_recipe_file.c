/* test_recipe_file.c: recipes in files: what they say, and what is said about mistakes in them, with the line. More
 * mistakes, through the whole program, are the files of tests/recipes (test_bad_recipes.c). */
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
                               "noise = 0.25, 0.5@2, 1@80%\n"
                               "act.calibrate = mse\n"
                               "lr = 0.01\n"
                               "[s0.*]\n"
                               "\tbits = w8a8\n"
                               "\tmethod = qat\n" /* not a part of the line before */
                               "[{a,b}.conv?]   # another\n"
                               "; one more\n"
                               "weight.grain = channel\n"
                               "bits = float\n"
                               "[s0.*]\n"
                               "codes = narrow"; /* no line end */
    static const struct {
        const char *option, *text;
        int32_t     line;
    } says[] = {
        { "method", "lsq", 2 },
        { "bits", "w4a4", 3 },
        { "edge-bits", "0", 4 },
        { "batch-in-n", "true", 5 },
        { "set", "noise=0.25, 0.5@2, 1@80%", 6 },
        { "set", "act.calibrate=mse", 7 },
        { "lr", "0.01", 8 },
        { "layer", "s0.*=w8a8", 10 },
        { "set", "s0.*:method=qat", 11 },
        { "set", "{a,b}.conv?:weight.grain=channel", 14 },
        { "layer", "{a,b}.conv?=float", 15 },
        { "set", "s0.*:codes=narrow", 17 },
    };
    if (!read_text(&a, &d, text, strlen(text), &f))
        fail_msg("%s", d.text.s);
    assert_int_equal(f.said.len, DT_COUNT(says));
    for (int32_t i = 0; i < DT_COUNT(says); i++) {
        assert_string_equal(f.said.at[i].option, says[i].option);
        assert_string_equal(f.said.at[i].text, says[i].text);
        assert_string_equal(f.said.at[i].at.file, "r.recipe");
        assert_int_equal(f.said.at[i].at.line, says[i].line);
    }
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
    assert_int_equal(f.said.len, 0);
    diag_free(&d);
    arena_free(&a);
}

static const struct {
    const char *text, *says, *also;
} mistakes[] = {
    { "edge-bits = 9\nmethod = lsq\n", "found '9'", "first and the last layer" }, /* what is right mends nothing */
    { "edge-bits = 8x\n", "r.recipe:1: error: recipe: edge-bits: expected 0, or an integer from 2 to 8, found '8x'",
      "" },
    { "edge-bits = -1\n", "found '-1'", "" },
    { "\nbit = w4a4\n", "r.recipe:2: error: recipe: expected method, bits, ", "did you mean bits?" },
    { "[head]\nbits =\n", "r.recipe:2: error: recipe: bits: expected a value", "write bits = VALUE" },
    { "[head]\n\nwhatever\n", "r.recipe:3: error: recipe: expected KEY = VALUE or [PATTERN]", "begins with #" },
    { "[head]\nact.weight.grain = 3\n", "r.recipe:2: error: recipe: expected method, bits, ", "" },
    { "weight. = 3\n", "r.recipe:1: error: recipe: expected method, bits, ", "" },
    { "[]\nbits = w4\nbits = w4\n", "r.recipe:3: error: recipe: bits was said in line 2 already", "keep one" },
    { "noise = 0.5, = 3\n", "r.recipe:1: error: recipe: noise: expected a number from 0 to 1, found '= 3'",
      "Share of" },
    { "noise = nan\n", "found 'nan'", "" },
    { "lambda = 1@0, 2\n", "expected numbers such as", "" },
    { "lambda = 1, 2, 3@50%\n", "expected numbers such as", "" },
    { "lambda = 1, 2@150%\n", "expected behind @ a rising epoch, as in @2, or share", "" },
};

static void test_mistakes(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(mistakes); i++) {
        Arena      a = arena_new("recipe");
        Diag       d = diag_new(NULL);
        RecipeFile f;
        assert_false(read_text(&a, &d, mistakes[i].text, strlen(mistakes[i].text), &f));
        if (!strstr(d.text.s, mistakes[i].says) || !strstr(d.text.s, mistakes[i].also) || !strstr(d.text.s, "help: "))
            fail_msg("'%s' gives:\n%s\nexpected: %s ... %s", mistakes[i].text, d.text.s, mistakes[i].says,
                     mistakes[i].also);
        diag_free(&d);
        arena_free(&a);
    }
}

/* Every mistake of a file is told, each at its line. */
static void test_all_at_once(void **state)
{
    (void)state;
    Arena             a = arena_new("recipe");
    Diag              d = diag_new(NULL);
    RecipeFile        f;
    static const char text[] = "method = lqs\nbits = w9\nnoise = 2\n[fc]\nlr = 3\n";
    assert_false(read_text(&a, &d, text, strlen(text), &f));
    assert_int_equal(d.errors, 4);
    assert_non_null(strstr(d.text.s, "r.recipe:5: error: "));
    diag_free(&d);
    arena_free(&a);
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

/* Without a file of that name, a recipe that is built in; a file goes before it. */
static void test_builtin(void **state)
{
    (void)state;
    Arena      a = arena_new("recipe");
    Diag       d = diag_new(NULL);
    RecipeFile f;
    for (int32_t i = 0; i < recipe_n_builtins; i++) {
        const BuiltinRecipe *r = &recipe_builtins[i];
        bool                 ok = recipe_read(&a, &d, r->name, &f);
        if (!ok)
            fail_msg("%s", d.text.s);
        assert_true(f.said.len >= 2);
        assert_string_equal(f.said.at[0].option, "method");
        assert_string_equal(f.said.at[0].at.file, r->name);
        assert_true(r->text[0] == '#' && strlen(recipe_title(&a, r)) > 20); /* what it is, and whose numbers */
        assert_non_null(strstr(r->text, "20"));
    }
    assert_true(file_write_atomic(&d, "lsq-w4a4", "method = qat\n", 13));
    assert_true(recipe_read(&a, &d, "lsq-w4a4", &f));
    unlink("lsq-w4a4");
    assert_string_equal(f.said.at[0].text, "qat");
    assert_int_equal(d.errors, 0);
    assert_false(recipe_read(&a, &d, "lsq-w4a5", &f));
    assert_non_null(strstr(d.text.s, "did you mean lsq-w4a4"));
    diag_free(&d);
    arena_free(&a);
}

/* Pieces of recipes and noise, put together at random: read or reported, and never both or neither. */
static void test_random_files(void **state)
{
    static const char *const pieces[] = { "method",    "bits",    "=",      " ",     "lsq",     "w4a4", "\n",
                                          "[",         "]",       "[s0.*]", "noise", "0.5",     ",",    "@",
                                          "%",         "1e99",    ";",      "#",     "weight.", "act.", ":",
                                          "grain",     "channel", "lambda", "-",     "nan",     "\t",   "\r\n",
                                          "edge-bits", "lr",      "\xff" };
    (void)state;
    int32_t good = 0;
    for (uint32_t n = 0; n < 3000; n++) {
        Arena      a = arena_new("recipe");
        Diag       d = diag_new(NULL);
        RecipeFile f;
        Str        text = str_new(&a);
        uint32_t   len = rng_u32(7, 0, n, 0) % 24;
        for (uint32_t i = 1; i <= len; i++) {
            uint32_t draw = rng_u32(7, 0, n, i);
            char     byte = (char)(1 + draw % 255);
            if (draw % 11 == 0)
                str_addn(&text, &byte, 1);
            else
                str_add(&text, pieces[draw / 11 % DT_COUNT(pieces)]);
        }
        bool ok = read_text(&a, &d, text.s, text.len, &f);
        if (ok != (d.errors == 0))
            fail_msg("'%s' was %s with %d errors: %s", text.s, ok ? "read" : "refused", d.errors, d.text.s);
        good += ok && f.said.len > 0;
        diag_free(&d);
        arena_free(&a);
    }
    assert_true(good > 0); /* some of it is a recipe */
}

int main(void)
{
    char              dir[] = "/tmp/recipe-XXXXXX";
    struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_it_can_say), cmocka_unit_test(test_nothing_said), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_all_at_once),    cmocka_unit_test(test_odd_files),    cmocka_unit_test(test_builtin),
        cmocka_unit_test(test_random_files),
    };
    if (!mkdtemp(dir) || chdir(dir) != 0)
        return 1;
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return status;
}
