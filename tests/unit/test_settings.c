/* test_settings.c: settings of recipes: their values, which of them holds for one side of one layer, the phases of a
 * run, and that the tables of methods and settings say what can be. Mistakes are in test_bad_recipes.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "passes/pass_impl.h"

typedef struct Fixture {
    Arena  a;
    Diag   d;
    Recipe r;
} Fixture;

static int setup(void **state)
{
    static Fixture f;
    f = (Fixture){ .a = arena_new("settings"),
                   .d = diag_new(NULL),
                   .r = { .method = "lsq", .weight_bits = 4, .act_bits = 4 } };
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    diag_free(&f->d);
    arena_free(&f->a);
    return 0;
}

static void set(Fixture *f, const char *text)
{
    if (!recipe_set(&f->a, &f->r, &f->d, LOC_NONE, "--set", text))
        fail_msg("%s", f->d.text.s);
}

static QuantSpec spec_of(Fixture *f, const char *layer, Role role)
{
    QuantSpec s;
    if (!recipe_resolve(&f->a, &f->d, &f->r, layer, false, role, &s))
        fail_msg("%s", f->d.text.s);
    return s;
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */

static void test_schedules(void **state)
{
    static const struct {
        const char *text, *normal;
        double      epoch, epochs, number;
    } cases[] = {
        { "0.5", "0.5", 0, 10, 0.5 },
        { "0.50", "0.5", 9, 10, 0.5 },
        { "1,10,100", "1,10,100", 0, 9, 1 },
        { "1,10,100", "1,10,100", 2.99, 9, 1 },
        { "1, 10 ,100", "1,10,100", 3, 9, 10 },
        { "1,10,100", "1,10,100", 6, 9, 100 },
        { "1,10,100", "1,10,100", 8.9, 9, 100 },
        { "0.25, 0.5@2, 1@80%", "0.25,0.5@2,1@80%", 1.9, 10, 0.25 },
        { "0.25, 0.5@2, 1@80%", "0.25,0.5@2,1@80%", 2, 10, 0.5 },
        { "0.25, 0.5 @ 2, 1 @ 80%", "0.25,0.5@2,1@80%", 8, 10, 1 },
        { "0.25@0,0.5@50%", "0.25,0.5", 4.9, 10, 0.25 }, /* equal parts */
        { "0.25,0.5@1.5", "0.25,0.5@1.5", 1.5, 10, 0.5 },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        SettingValue v;
        if (!setting_parse(&f->a, &f->d, LOC_NONE, "x", SET_LAMBDA, cases[i].text, &v))
            fail_msg("%s", f->d.text.s);
        assert_string_equal(v.text, cases[i].normal);
        double x = setting_at(&v, (Moment){ cases[i].epoch, cases[i].epochs });
        if (x != cases[i].number)
            fail_msg("%s at %g of %g is %g, expected %g", cases[i].text, cases[i].epoch, cases[i].epochs, x,
                     cases[i].number);
        SettingValue again; /* the same in its normal form */
        assert_true(setting_parse(&f->a, &f->d, LOC_NONE, "x", SET_LAMBDA, v.text, &again));
        assert_string_equal(again.text, v.text);
        assert_true(setting_at(&again, (Moment){ cases[i].epoch, cases[i].epochs }) == x);
    }
}

/* What a setting says is printed as it was said, without blanks. */
static void test_printed(void **state)
{
    static const struct {
        const char *said, *printed;
    } cases[] = {
        { "noise=0.5", "noise=0.5" },
        { "noise = 0.50, 1@80%", "noise=0.5,1@80%" },
        { "weight.noise=1", "noise=1" }, /* weights alone have it */
        { "act.calibrate=mse", "act.calibrate=mse" },
        { "s0.*:weight.calibrate=max", "s0.*:weight.calibrate=max" },
        { "{a,b}.conv:grain= 16", "{a,b}.conv:grain=16" },
        { "method=qat", "method=qat" },
        { "delay=2.50", "delay=2.5" },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        set(f, cases[i].said);
        Str s = str_new(&f->a);
        recipe_print_setting(&s, &f->r.settings.at[i]);
        assert_string_equal(s.s, cases[i].printed);
    }
}

/* ---- What holds -------------------------------------------------------------------------------------------------- */

static void test_later_wins(void **state)
{
    Fixture *f = *state;
    assert_string_equal(
        spec_word(&(QuantSpec){ .value = { [SET_CALIBRATE] = spec_of(f, "fc", ROLE_ACT).value[SET_CALIBRATE] } },
                  SET_CALIBRATE),
        "none");
    set(f, "calibrate=max");
    set(f, "act.calibrate=mse");
    set(f, "s0.*:calibrate=entropy");
    set(f, "s0.b1.*:weight.calibrate=percentile");
    QuantSpec w = spec_of(f, "fc", ROLE_WEIGHT), a = spec_of(f, "fc", ROLE_ACT);
    assert_string_equal(spec_word(&w, SET_CALIBRATE), "max");
    assert_int_equal(w.by[SET_CALIBRATE], 0);
    assert_string_equal(spec_word(&a, SET_CALIBRATE), "mse");
    assert_int_equal(a.by[SET_CALIBRATE], 1);
    w = spec_of(f, "s0.b1.conv1", ROLE_WEIGHT), a = spec_of(f, "s0.b1.conv1", ROLE_ACT);
    assert_string_equal(spec_word(&w, SET_CALIBRATE), "percentile");
    assert_string_equal(spec_word(&a, SET_CALIBRATE), "entropy");
    assert_int_equal(a.by[SET_CALIBRATE], 2);
    assert_int_equal(a.by[SET_EMA], -1);
}

/* A layer's own method brings its own defaults; what the recipe says wins over them, wherever it stands. */
static void test_methods_mixed(void **state)
{
    Fixture *f = *state;
    set(f, "codes=full");
    set(f, "s0.*:method=qat");
    set(f, "s1.*:act.method=float");
    QuantSpec w = spec_of(f, "s0.conv", ROLE_WEIGHT), a = spec_of(f, "s1.conv", ROLE_ACT),
              l = spec_of(f, "fc", ROLE_WEIGHT);
    assert_string_equal(w.method->name, "qat");
    assert_string_equal(spec_word(&w, SET_FOLD), "one");   /* qat's default */
    assert_string_equal(spec_word(&w, SET_CODES), "full"); /* said, though before the method */
    assert_string_equal(spec_word(&l, SET_FOLD), "off");
    assert_string_equal(l.method->name, "lsq");
    assert_string_equal(a.method->name, "float");
    assert_int_equal(a.bits, 0);
    assert_int_equal(a.told, 4);
    assert_string_equal(spec_of(f, "s1.conv", ROLE_WEIGHT).method->name, "lsq");
    assert_true(recipe_quantizes(&f->r));
}

static void test_trains(void **state)
{
    Fixture *f = *state;
    assert_true(recipe_trains(&f->r));
    f->r.method = "ptq";
    assert_false(recipe_trains(&f->r));
    set(f, "fc:method=qsin");
    assert_true(recipe_trains(&f->r));
    f->r = (Recipe){ .method = "float" };
    assert_true(recipe_trains(&f->r));
    assert_false(recipe_quantizes(&f->r));
}

/* ---- Phases ------------------------------------------------------------------------------------------------------ */

static void expect_phases(Fixture *f, double epochs, const double *at, int32_t n)
{
    double  found[RECIPE_MOST_PHASES];
    int32_t m = recipe_phases(&f->a, &f->r, epochs, found);
    assert_int_equal(m, n);
    for (int32_t i = 0; i < n; i++)
        if (found[i] != at[i])
            fail_msg("phase %d begins at %g, expected %g", i, found[i], at[i]);
}

static void test_phases(void **state)
{
    Fixture *f = *state;
    expect_phases(f, 9, (double[]){ 0 }, 1);
    set(f, "noise=0.25, 0.5@2, 1@80%");
    expect_phases(f, 10, (double[]){ 0, 2, 8 }, 3);
    set(f, "delay=1");
    set(f, "freeze-bn=2");
    set(f, "freeze-ranges=100"); /* never */
    expect_phases(f, 10, (double[]){ 0, 1, 2, 8 }, 4);
    f->r = (Recipe){ .method = "qsin", .weight_bits = 4, .act_bits = 4 };
    expect_phases(f, 9, (double[]){ 0, 3, 6 }, 3); /* 1, 10, 100 by default */
    set(f, "lambda=5");
    expect_phases(f, 9, (double[]){ 0 }, 1);
    f->r = (Recipe){ .method = "float" };
    expect_phases(f, 9, (double[]){ 0 }, 1);
}

/* ---- Tables ------------------------------------------------------------------------------------------------------ */

/* Fallbacks are values, defaults and reads of methods are settings, every setting is read by some method. */
static void test_tables(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < SETTING_COUNT; i++) {
        SettingValue v;
        bool         read = false;
        uint32_t     roles = pass_settings[i].roles != 0 ? pass_settings[i].roles : ~0u;
        if (i != SET_METHOD &&
            !setting_parse(&f->a, &f->d, LOC_NONE, pass_settings[i].key, (SettingId)i, pass_settings[i].fallback, &v))
            fail_msg("%s", f->d.text.s);
        assert_true(pass_settings[i].doc[strlen(pass_settings[i].doc) - 1] == '.');
        for (int32_t m = 0; m < pass_n_methods; m++)
            read |= method_reads(&pass_methods[m], (SettingId)i, roles);
        if (!read)
            fail_msg("no method reads %s", pass_settings[i].key);
    }
    for (int32_t m = 0; m < pass_n_methods; m++) {
        f->r.method = pass_methods[m].name;
        QuantSpec w = spec_of(f, "fc", ROLE_WEIGHT), a = spec_of(f, "fc", ROLE_ACT); /* defaults are parsed */
        assert_true(w.method == &pass_methods[m] && a.method == w.method);
        if (w.method->quantize == NULL)
            assert_false(method_reads(w.method, SET_NOISE, ~0u));
    }
}

/* Each word of Method.reads is a setting, of a side that has it. */
static void test_reads(void **state)
{
    Fixture *f = *state;
    for (int32_t m = 0; m < pass_n_methods; m++) {
        char *words = arena_strdup(&f->a, pass_methods[m].reads), *save = NULL;
        for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
            uint32_t    roles = strncmp(w, "act.", 4) == 0      ? 1u << ROLE_ACT
                                : strncmp(w, "weight.", 7) == 0 ? 1u << ROLE_WEIGHT
                                                                : ~0u;
            const char *key = strchr(w, '.') != NULL ? strchr(w, '.') + 1 : w;
            bool        known = false;
            for (int i = 0; i < SETTING_COUNT; i++)
                known |= str_eq(pass_settings[i].key, key) && (roles == ~0u || (pass_settings[i].roles & roles) != 0) &&
                         method_reads(&pass_methods[m], (SettingId)i, roles);
            if (!known)
                fail_msg("method %s reads '%s', which is no setting", pass_methods[m].name, w);
        }
    }
    for (int32_t m = 0; m < pass_n_methods; m++) {
        bool qat = str_eq(pass_methods[m].name, "qat");
        if (qat) {
            assert_true(method_reads(&pass_methods[m], SET_CALIBRATE, 1u << ROLE_ACT));
            assert_false(method_reads(&pass_methods[m], SET_CALIBRATE, 1u << ROLE_WEIGHT));
            assert_false(method_reads(&pass_methods[m], SET_LAMBDA, 1u << ROLE_WEIGHT));
        }
    }
}

/* The page of documentation has every row, and no cell that a bar inside would break. */
static void test_doc(void **state)
{
    Fixture *f = *state;
    Str      s = str_new(&f->a);
    recipe_doc(&s);
    for (int i = 0; i < SETTING_COUNT; i++)
        assert_non_null(strstr(s.s, arena_printf(&f->a, "\n| `%s` | ", pass_settings[i].key)));
    for (int32_t i = 0; i < pass_n_methods; i++)
        assert_non_null(strstr(s.s, arena_printf(&f->a, "\n| `%s` | %s |", pass_methods[i].name, pass_methods[i].doc)));
    for (int32_t i = 0; i < recipe_n_builtins; i++)
        assert_non_null(strstr(s.s, arena_printf(&f->a, "\n| `%s` | ", recipe_builtins[i].name)));
    for (const char *line = strstr(s.s, "## Settings"); *line; line += strcspn(line, "\n"), line += *line == '\n') {
        int32_t bars = 0;
        for (const char *c = line; *c && *c != '\n'; c++)
            bars += *c == '|';
        assert_true(bars == 0 || bars == 3 || bars == 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_schedules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_printed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_later_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_methods_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_phases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_doc, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
