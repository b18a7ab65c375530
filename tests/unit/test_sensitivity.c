/* test_sensitivity.c: `detent sensitivity`, run as people run it, against what `detent train --method ptq` makes of the
 * same recipes; and the list of quantizers that it and training are given (cli/sites.c). */
#include "tests/unit/cli_fixture.h"

#include <math.h>

#define NET "$NETS/tiny.c "
#define FLOAT "$DETENT train " NET "--epochs 2 --data $DATA --out float --quiet"
#define INIT "--init float/best.safetensors --data $DATA "
#define FEW_BITS "--method ptq --bits w2a2 --edge-bits 0 "

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* What training without training says, in percent. */
static double accuracy_of(Cli *c, const char *out, const char *recipe)
{
    Ran r = cli_ok(c, arena_printf(&c->a, "$DETENT train " NET INIT "%s --out %s", recipe, out));
    return number_after(r, r.err, "test accuracy ");
}

static const char *const layers[] = { "conv1", "fc1", "hidden" };

/* Every row of the table, and the trial of all layers, is what ptq makes of that recipe. */
static void trials_are_runs_of_ptq(void **state)
{
    Cli *c = *state;
    cli_ok(c, FLOAT);
    Ran    r = cli_ok(c, "$DETENT sensitivity " NET INIT FEW_BITS "--loss 100");
    double whole = number_after(r, r.out, "tiny in float: top-1 ");
    assert_true(whole > 50);
    for (int32_t i = 0; i < DT_COUNT(layers); i++) {
        Str recipe = str_new(&c->a);
        str_add(&recipe, FEW_BITS);
        for (int32_t k = 0; k < DT_COUNT(layers); k++)
            if (k != i)
                str_printf(&recipe, "--layer %s=float ", layers[k]);
        const char *row = strstr(r.out, arena_printf(&c->a, "\n%s ", layers[i]));
        double      top1, drop, macs, loss;
        long        params;
        assert_non_null(row);
        assert_int_equal(sscanf(row, "%*s w2a2 %ld %lf %% %lf %lf %lf", &params, &macs, &top1, &drop, &loss), 5);
        assert_true(params > 0 && macs > 0 && macs < 100 && loss > 0);
        assert_true(fabs(top1 - accuracy_of(c, layers[i], recipe.s)) < 0.006);
        assert_true(fabs(whole - top1 - drop) < 0.011);
    }
    assert_true(fabs(number_after(r, r.out, "all quantized: top-1 ") - accuracy_of(c, "all", FEW_BITS)) < 0.006);
    assert_in(r, r.out, "no layer needs to stay in float");
    assert_int_equal(count_of(r.err, " of 3: "), 3);
}

/* Rows are sorted by what they cost, the worst are left in float until the rest is good enough, and the lines that are
 * printed are a recipe that gives just that. */
static void what_is_left_in_float_is_a_recipe(void **state)
{
    Cli *c = *state;
    cli_ok(c, FLOAT);
    Ran    all = cli_ok(c, "$DETENT sensitivity " NET INIT FEW_BITS "--loss 100 --quiet");
    double most = number_after(all, strstr(all.out, "all quantized"), ", drop ");
    assert_true(most > 1);
    Ran         r = cli_ok(c, arena_printf(&c->a, "$DETENT sensitivity " NET INIT FEW_BITS "--loss %g", most - 0.5));
    double      last = INFINITY;
    const char *row = strchr(strstr(r.out, "layer "), '\n') + 1;
    for (int32_t i = 0; i < DT_COUNT(layers); i++, row = strchr(row, '\n') + 1) {
        double drop;
        assert_int_equal(sscanf(row, "%*s %*s %*s %*s %% %*s %lf", &drop), 1);
        assert_true(drop <= last);
        last = drop;
    }
    const char *end = strstr(r.out, "# at the end of a recipe"), *rest = end;
    double      top1 = 0, drop = most;
    int32_t     left = 0;
    assert_non_null(end);
    for (const char *at = r.out; (at = strstr(at, " in float, too: ")) != NULL && at < end; at++, left++) {
        assert_true(drop > most - 0.5); /* what was there before was not enough */
        assert_int_equal(sscanf(at, " in float, too: top-1 %lf, drop %lf", &top1, &drop), 2);
    }
    assert_true(left > 0 && drop <= most - 0.5);
    assert_int_equal(count_of(rest, "\nbits = float\n"), left);
    assert_true(file_write_atomic(&c->d, cli_path(c, "left.recipe"), rest, strlen(rest)));
    double again = left < DT_COUNT(layers) ? accuracy_of(c, "left", FEW_BITS "--recipe left.recipe") : top1;
    assert_true(fabs(again - top1) < 0.006);
}

static void only_the_images_asked_for_count(void **state)
{
    Cli *c = *state;
    cli_ok(c, FLOAT);
    Ran r = cli_ok(c, "$DETENT sensitivity " NET INIT "--method lsq --bits w8a8 --images 37");
    assert_in(r, r.out, "of the first 37 test images");
    double part = number_after(r, r.out, "tiny in float: top-1 ") * 0.37;
    assert_true(fabs(part - rint(part)) < 0.01);
    r = cli_ok(c, "$DETENT sensitivity " NET INIT "--method qat --bits w8a8 --images 1000000");
    assert_in(r, r.out, "of the first 1000 test images");
}

static void mistakes_are_told(void **state)
{
    static const struct {
        const char *script;
        int         code;
        const char *says, *help;
    } rows[] = {
        { "$DETENT sensitivity mnist --method ptq --data $DATA", EXIT_USAGE,
          "detent sensitivity: expected trained weights, --init FILE, found no such option",
          "detent train mnist --data DIR" },
        { "$DETENT sensitivity mnist --data $DATA --init x", EXIT_USAGE,
          "--method: expected one that quantizes, found float", "add --method ptq" },
        { "$DETENT sensitivity mnist --method ptq --layer '*=float' --data $DATA --init x", EXIT_MISTAKE,
          "expected a recipe that quantizes a layer of mnist, found none", "add --method ptq --bits w4a4" },
        { "$DETENT sensitivity mnist --method ptq --data $DATA --init missing", EXIT_MISTAKE, "cannot read missing",
          "check its spelling" },
        { "$DETENT sensitivity mnist --method ptq --init x", EXIT_MISTAKE, "--data: expected the directory",
          "add --data DIR" },
        { "$DETENT sensitivity mnist --method ptq --init x --images 0", EXIT_USAGE, "--images", "" },
        { "$DETENT sensitivity mnist --method ptq --init x --loss -1", EXIT_USAGE, "--loss", "" },
    };
    Cli *c = *state;
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Ran r = cli_expect(c, rows[i].code, rows[i].script);
        assert_in(r, r.err, rows[i].says);
        assert_in(r, r.err, rows[i].help);
        assert_int_equal(count_of(r.err, "error: "), 1);
    }
}

/* ---- Quantizers as the runtime is told --------------------------------------------------------------------------- */

static bool open_net(Session *s, const char *method, const char *setting)
{
    char   *argv[] = { arena_printf(&s->arena, "--method=%s", method), arena_strdup(&s->arena, "--bits=w4a4"),
                       arena_printf(&s->arena, "--set=%s", setting) };
    StrList rest = { 0 };
    s->program = "detent";
    s->out = stdout;
    return cli_parse(&s->arena, &s->diag, OPTS_RECIPE | OPTS_TRAIN, str_eq(method, "float") ? 1 : DT_COUNT(argv), argv,
                     &s->opt, &rest) &&
           session_open(s, frontend_find(&s->arena, &s->diag, "mnist"));
}

static void sites_are_the_quantizers_in_order(void **state)
{
    (void)state;
    static const char *const names[] = { "conv1.weight", "conv1.input", "conv2.weight", "conv2.input",
                                         "fc1.weight",   "fc1.input",   "fc2.weight",   "fc2.input" };
    Session                  s = { .arena = arena_new("session"), .diag = diag_new(stderr) };
    const QuantSite         *q;
    int32_t                  n = 0;
    assert_true(open_net(&s, "ptq", "act.calibrate=percentile") && session_quant_sites(&s, &q, &n));
    assert_int_equal(n, DT_COUNT(names));
    for (int32_t i = 0; i < n; i++) {
        bool weight = i % 2 == 0, edge = i < 2 || i >= n - 2;
        assert_string_equal(q[i].name, names[i]);
        assert_string_equal(q[i].role, weight ? "weight" : "act");
        assert_true(strncmp(q[i].name, q[i].layer, strlen(q[i].layer)) == 0);
        assert_string_equal(q[i].observed, arena_printf(&s.arena, OBSERVE_OUTPUT "%s", names[i]));
        assert_string_equal(q[i].step, arena_printf(&s.arena, "%s.step", names[i]));
        assert_int_equal(q[i].bits, edge ? 8 : 4);
        assert_int_equal(q[i].kind, weight ? CALIBRATE_MSE : CALIBRATE_PERCENTILE);
        assert_true(q[i].percentile == 99.99);
        assert_int_equal(q[i].steps > 1, weight); /* grain=channel */
    }
    assert_int_equal(q[3].lo, 0); /* behind relu */
    assert_int_equal(q[3].hi, 15);
    assert_int_equal(q[2].lo, -7);
    session_close(&s);
}

static void a_float_network_has_no_sites(void **state)
{
    (void)state;
    Session          s = { .arena = arena_new("session"), .diag = diag_new(stderr) };
    const QuantSite *q;
    int32_t          n = 0;
    assert_true(open_net(&s, "float", "") && session_quant_sites(&s, &q, &n));
    assert_int_equal(n, 0);
    session_close(&s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, cli_setup, cli_teardown)
    const struct CMUnitTest tests[] = {
        T(trials_are_runs_of_ptq),
        T(what_is_left_in_float_is_a_recipe),
        T(only_the_images_asked_for_count),
        T(mistakes_are_told),
        cmocka_unit_test(sites_are_the_quantizers_in_order),
        cmocka_unit_test(a_float_network_has_no_sites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
