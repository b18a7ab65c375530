/* test_bad_recipes.c: mistakes in recipes, each a file of tests/recipes that goes through the real program. In a file,
 *
 *   # net: resnet20                         the network; mnist where it is not said
 *   bits = w9 ; error: recipe: bits: ...    the error that this line must bring, and
 *   # help: bits are 2 to 8                 below it, the suggestion
 *
 * Each must end with one error, at its file and line, and a suggestion; none may crash. */
#include "tests/unit/cli_fixture.h"

#include <glob.h>

enum { LEAST = 60 };

typedef struct Expected {
    const char *net, *error, *help;
    int32_t     line;
} Expected;

/* The rest of a line behind `mark`; NULL: it is not in the line. */
static const char *behind(Arena *a, const char *line, const char *mark)
{
    const char *at = strstr(line, mark);
    return at != NULL ? arena_strdup(a, at + strlen(mark)) : NULL;
}

static Expected read_expected(Cli *c, const char *path)
{
    Expected    e = { .net = "mnist" };
    const char *text = cli_read(c, path);
    for (int32_t n = 1; *text; n++) {
        size_t      len = strcspn(text, "\n");
        const char *line = arena_strndup(&c->a, text, len), *net = behind(&c->a, line, "# net: "),
                   *error = behind(&c->a, line, " ; error: "), *help = behind(&c->a, line, "# help:");
        e.net = net != NULL ? net : e.net;
        if (error != NULL)
            e.error = error, e.line = n;
        e.help = help != NULL ? help + strspn(help, " ") : e.help;
        text += len + (text[len] == '\n');
    }
    if (e.error == NULL || e.help == NULL)
        fail_msg("%s: expected an error and a help", path);
    return e;
}

static void check_recipe(Cli *c, const char *path)
{
    static const char *const fatal[] = { "internal error", "Sanitizer", "runtime error" };
    Expected                 e = read_expected(c, path);
    cli_ok(c, arena_printf(&c->a, "cp '%s' r.recipe", path));
    Ran r = cli_sh(c, arena_printf(&c->a, "$DETENT info %s --recipe r.recipe # %s", e.net, path));
    if (r.code != EXIT_MISTAKE && r.code != EXIT_USAGE)
        fail_msg("%s\nexit code %d\n%s", r.script, r.code, r.err);
    assert_string_equal(r.out, "");
    assert_in(r, r.err, arena_printf(&c->a, "r.recipe:%d: error: %s", e.line, e.error));
    assert_in(r, r.err, arena_printf(&c->a, "\n  help: %s", e.help));
    if (count_of(r.err, "error: ") != 1)
        fail_msg("%s\nexpected one error:\n%s", r.script, r.err);
    for (int32_t i = 0; i < DT_COUNT(fatal); i++)
        assert_not_in(r, r.err, fatal[i]);
}

static void test_files(void **state)
{
    Cli   *c = *state;
    glob_t g;
    assert_int_equal(glob(DT_SOURCE_DIR "/tests/recipes/*.recipe", 0, NULL, &g), 0);
    assert_true(g.gl_pathc >= LEAST);
    for (size_t i = 0; i < g.gl_pathc; i++)
        check_recipe(c, g.gl_pathv[i]);
    globfree(&g);
}

/* The same mistakes on the command line say the option. */
static void test_options(void **state)
{
    static const struct {
        const char *args, *error, *help;
    } cases[] = {
        { "--method lsq --set noise", "error: --set: expected KEY=VALUE, found 'noise'",
          "write for instance 'noise=0.5'" },
        { "--method lsq --set =0.5", "error: --set: expected KEY=VALUE, found '=0.5'", "write for instance" },
        { "--method lsq --set nois=0.5", "error: --set: there is no setting 'nois'", "did you mean noise" },
        { "--method lsq --set fc9:noise=0.5", "error: --set: unknown layer 'fc9'",
          "layers are conv1, conv2, fc1, fc2" },
        { "--method lsq --set lambda=1,10", "error: --set: lambda would do nothing", "it is a setting of qsin" },
        { "--set noise=0.5", "error: --set: method 'float' does not quantize", "add --method lsq" },
        { "--method lsq --bits float --set noise=0.5", "error: --set: 'noise=0.5' would do nothing: all bits are float",
          "say which bits" },
        { "--method qsin --layer conv1=float --set conv1:lambda=2",
          "error: --set: lambda would do nothing: nothing "
          "quantizes layers 'conv1'",
          "give them bits" },
        { "--recipe nowhere.recipe",
          "error: --recipe: expected a file or the name of a recipe that is built in, found "
          "'nowhere.recipe'",
          "`detent recipes` lists those" },
        { "--recipe lsq-w4a5", "found 'lsq-w4a5'", "did you mean lsq-w4a4" },
        { "--recipe ./nowhere.recipe", "./nowhere.recipe: No such file",
          "a file or a directory of this path does not exist; check its spelling" },
    };
    Cli *c = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Ran r = cli_sh(c, arena_printf(&c->a, "$DETENT info mnist %s", cases[i].args));
        assert_true(r.code == EXIT_MISTAKE || r.code == EXIT_USAGE);
        assert_in(r, r.err, cases[i].error);
        assert_in(r, r.err, arena_printf(&c->a, "help: %s", cases[i].help));
        assert_int_equal(count_of(r.err, "error: "), 1);
    }
}

/* What comes after the last epoch is told, and no mistake: a run may be a short trial. */
static void test_late(void **state)
{
    Cli *c = *state;
    Ran  r =
        cli_ok(c, "printf 'method = qat\\ndelay = 3\\nfreeze-bn = 2\\nnoise = 0.5, 1@9\\n' > late.recipe; "
                  "$DETENT train $NETS/tiny.c --data $DATA --epochs 3 --max-steps 1 --recipe late.recipe --out late");
    assert_in(
        r, r.err,
        "late.recipe:2: warning: recipe: delay=3 comes after the last of 3 epochs: training never quantizes inputs");
    assert_in(r, r.err, "late.recipe:4: warning: recipe: noise=0.5,1@9: epoch 9 comes after the last of 3 epochs");
    assert_not_in(r, r.err, "freeze-bn");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_late),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
