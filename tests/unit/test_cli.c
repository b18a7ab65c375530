/* test_cli.c: the programs as people use them: every command and every group of flags, and what each flag means. What
 * goes wrong is in test_cli_errors.c. */
#include "tests/unit/cli_fixture.h"

#include <dirent.h>

/* ---- Help and info ----------------------------------------------------------------------------------------------- */

static void test_help(void **state)
{
    Cli *c = *state;
    Ran  all = cli_ok(c, "$DETENT --help");
    assert_string_equal(all.err, "");
    for (int32_t i = 0; i < cli_n_commands; i++) {
        const Command *cmd = &cli_commands[i];
        assert_in(all, all.out, arena_printf(&c->a, "\n  %-8s", cmd->name));
        assert_in(all, all.out, cmd->doc);
        Ran help = cli_ok(c, arena_printf(&c->a, "$DETENT %s --help", cmd->name));
        assert_in(help, help.out, arena_printf(&c->a, "usage: detent %s", cmd->name));
        assert_int_equal(strstr(help.out, "--bits=") != NULL, (cmd->groups & OPTS_RECIPE) != 0);
        assert_int_equal(strstr(help.out, "--epochs=") != NULL, (cmd->groups & OPTS_TRAIN) != 0);
        assert_int_equal(strstr(help.out, "--threads=") != NULL, (cmd->groups & OPTS_RUN) != 0);
        assert_int_equal(strstr(help.out, "--print-ir-dir=") != NULL, (cmd->groups & OPTS_PASSES) != 0);
        assert_int_equal(strstr(help.out, "--rounds=") != NULL, (cmd->groups & OPTS_BENCH) != 0);
    }
    assert_in(all, all.out, "resnet20, mnist");
    assert_string_equal(cli_ok(c, "$DETENT -h").out, all.out);
    assert_string_equal(cli_ok(c, "$DETENT help").out, all.out);
    Ran none = cli_expect(c, EXIT_USAGE, "$DETENT");
    assert_string_equal(none.out, "");
    assert_string_equal(none.err, all.out);
    const char *train = cli_ok(c, "$DETENT train --help").out;
    assert_string_equal(cli_ok(c, "$DETENT train mnist -h").out, train);
    assert_string_equal(cli_ok(c, "$DETENT help train").out, train);
    assert_string_equal(cli_ok(c, "$DETENT --version").out, "detent " DT_VERSION "\n");
    assert_string_equal(cli_ok(c, "$OPT --version").out, "detent-opt " DT_VERSION "\n");
    for (int32_t i = 0; i < pass_n_methods; i++) /* the words of these options are written by hand */
        assert_non_null(strstr(strstr(train, "--method="), pass_methods[i].name));
    for (int32_t i = 0; i < dataset_table_len; i++)
        assert_non_null(strstr(strstr(train, "--dataset="), dataset_table[i].name));
    for (int32_t i = 0; i < pass_n_optimizers; i++) /* what they keep begins anew with --init */
        for (int32_t k = 0; k < DT_COUNT(pass_optimizers[i].moments) && pass_optimizers[i].moments[k]; k++)
            assert_true(checkpoint_is_of_run(arena_printf(&c->a, "a.weight.%s", pass_optimizers[i].moments[k])));
    assert_true(checkpoint_is_of_run("a" OPT_GRAD) && checkpoint_is_of_run("a" OPT_EMA));
    assert_true(checkpoint_is_of_run(OPT_UPDATES) && checkpoint_is_of_run(TEACHER_PREFIX "a"));
    assert_string_equal(OPT_EMA, CHECKPOINT_AVERAGE);
    Ran opt = cli_ok(c, "$OPT --help");
    assert_in(opt, opt.out, "--verify-roundtrip");
}

static void test_info(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT info resnet20");
    assert_in(r, r.out, "269,722");
    assert_in(r, r.out, "40,551,040\n"); /* 40.55 M, as the literature has it for shortcuts without weights */
    assert_in(r, r.out, "s1.b0.conv1          conv2d           128x32x16x16            4,608      1,179,648\n");
    assert_not_in(r, r.out, "quantizer");
    r = cli_ok(c, "$DETENT info mnist --batch=3");
    assert_in(r, r.out, "1,199,882");
    assert_in(r, r.out, "fc1                  linear           3x128               1,179,776      1,179,648\n");

    /* groups divide the products; each pixel that a transposed convolution reads meets the weights of its channel */
    r = cli_ok(c, "$DETENT info $NETS/joins.c --batch=3");
    assert_in(r, r.out, "conv2                conv2d           3x16x14x14                592        112,896\n");
    assert_in(r, r.out, "deconv1              conv_transpose2d 3x8x28x28                 512        100,352\n");
    assert_in(r, r.out, "deconv1              add              3x8x28x28                   8              -\n");
    r = cli_ok(c, "$DETENT info $NETS/joins.c --method lsq --bits w4a4 --set joins=shared");
    assert_in(r, r.out, "up.concat.operands   act    lsq            4  -8..7         tensor   none        --bits\n");
    assert_in(r, r.out, "add.operands         act    lsq            4  -8..7         tensor   none        --bits\n");
    assert_in(r, r.out, "avgpool              act    lsq            4  -8..7         tensor   none        --bits\n");

    r = cli_ok(c, "$DETENT info resnet20 --method lsq --bits w4a2 --layer 's1.b0.*=w8a8' --layer s2.b2.conv2=float");
    assert_in(r, r.out,
              "stem.conv1           weight lsq            8  -128..127     tensor   none        --edge-bits\n");
    assert_in(r, r.out, "s0.b0.conv1          weight lsq            4  -8..7         tensor   none        --bits\n");
    assert_in(r, r.out, "s0.b0.conv1          act    lsq            2  0..3          tensor   none        --bits\n");
    assert_in(r, r.out,
              "s1.b0.conv2          weight lsq            8  -128..127     tensor   none        --layer s1.b0.*\n");
    r = cli_ok(c, "printf 'method = lsq\\nbits = w4a2\\n[s1.b0.*]\\nbits = w8a8\\n' > my.recipe; "
                  "$DETENT info resnet20 --recipe my.recipe --layer s2.b2.conv2=float");
    assert_in(r, r.out,
              "s1.b0.conv2          weight lsq            8  -128..127     tensor   none        my.recipe:4 s1.b0.*\n");
    assert_in(r, r.out,
              "s1.b1.conv1          weight lsq            4  -8..7         tensor   none        my.recipe:2\n");
    assert_not_in(r, r.out, "s2.b2.conv2          weight"); /* float: none is there */
    assert_in(r, r.out,
              "head                 act    lsq            8  0..255        tensor   none        --edge-bits\n");
    r = cli_ok(c, "$DETENT info resnet20 --method lsq --bits w4a4 --edge-bits 0");
    assert_in(r, r.out, "stem.conv1           weight lsq            4  -8..7         tensor   none        --bits\n");
}

/* Lines of at most a page, whatever a recipe says. */
static void assert_narrow(Ran r)
{
    for (const char *line = r.out; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strcspn(line, "\n") > 120)
            fail_msg("%s\nprints a line of %zu characters:\n%s", r.script, strcspn(line, "\n"), r.out);
}

/* Which row of a recipe hit what: methods, settings, steps, zero points. */
static void test_info_settings(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "cat > mixed.recipe <<'END'\n"
                        "method = lsq\n"
                        "bits = w4a4\n"
                        "noise = 0.5, 1 @ 80%\n"
                        "[conv2]\n"
                        "  method = qat\n"
                        "  grain = 16   ; four steps of 64 channels\n"
                        "  ema = 0.050\n"
                        "[fc1]\n"
                        "act.method = ptq\n"
                        "act.form = affine\n"
                        "[fc2]\n"
                        "bits = float\n"
                        "END\n"
                        "$DETENT info mnist --recipe mixed.recipe --set act.calibrate=mse --set calibration-batches=4");
    assert_narrow(r);
    assert_in(r, r.out,
              "conv2                weight qat            4  -7..7         4        none        mixed.recipe:2\n"
              "                     method=qat (mixed.recipe:5 conv2), grain=16 (mixed.recipe:6 conv2)\n");
    assert_in(r, r.out,
              "conv2                act    qat            4  0..15         tensor   mse         mixed.recipe:2\n"
              "                     method=qat (mixed.recipe:5 conv2), ema=0.05 (mixed.recipe:7 conv2)\n");
    assert_in(r, r.out,
              "fc1                  act    ptq            4  0..15         tensor   mse         mixed.recipe:2\n");
    assert_in(r, r.out,
              "fc1                  weight lsq            4  -8..7         tensor   none        mixed.recipe:2\n");
    assert_in(r, r.out,
              "of the network: noise=0.5,1@80% (mixed.recipe:3), act.calibrate=mse (--set), "
              "calibration-batches=4 (--set)\n");
    assert_in(r, r.out, "by method qat: codes=narrow fold=one\n");
    assert_not_in(r, r.out, "\nfc2                  weight");
    assert_not_in(r, r.out, "by method lsq");
    r = cli_ok(c, "$DETENT info resnet20 --recipe lsq+-w4a4");
    assert_in(r, r.out,
              "stem.conv1           act    lsq+           8  0..255 z      tensor   mse         lsq+-w4a4:8\n");
    assert_in(r, r.out, "z: with a zero point\n");
    assert_narrow(r);
}

/* Recipes that are built in: each is listed with its first line, printed as it is, and usable as a file of its own. */
static void test_recipes(void **state)
{
    Cli *c = *state;
    Ran  list = cli_ok(c, "$DETENT recipes");
    assert_true(recipe_n_builtins >= 12);
    for (int32_t i = 0; i < recipe_n_builtins; i++) {
        const char *name = recipe_builtins[i].name;
        assert_in(list, list.out, arena_printf(&c->a, "%-20s %s\n", name, recipe_title(&c->a, &recipe_builtins[i])));
        Ran text = cli_ok(c, arena_printf(&c->a, "$DETENT recipes %s", name));
        assert_string_equal(text.out, recipe_builtins[i].text);
        assert_string_equal(text.out,
                            cli_read(c, arena_printf(&c->a, DT_SOURCE_DIR "/passes/recipes/%s.recipe", name)));
        Ran built = cli_ok(c, arena_printf(&c->a, "$DETENT dump $NETS/tiny.c --recipe %s", name)),
            file =
                cli_ok(c, arena_printf(&c->a, "$DETENT recipes %s > f; $DETENT dump $NETS/tiny.c --recipe ./f", name));
        assert_string_equal(built.out, file.out);
    }
}

/* A recipe's schedules: the step of another moment is another program; detent-opt replays it. */
static void test_at_epoch(void **state)
{
    Cli *c = *state;
    Ran  first = cli_ok(c, "$DETENT dump $NETS/tiny.c --recipe qsin-w4a4"),
        last = cli_ok(c, "$DETENT dump $NETS/tiny.c --recipe qsin-w4a4 --at-epoch=60"),
        said = cli_ok(c, "$DETENT dump $NETS/tiny.c --recipe qsin-w4a4 --at-epoch=2/3");
    assert_true(strcmp(first.out, last.out) != 0);
    assert_string_equal(last.out, said.out);
    /* the weight of the penalty is that of the phase, for detent and for detent-opt */
    const char *flags = "--recipe qsin-w4a4 --stop-after=insert-quantize";
    Ran         begin = cli_ok(c, arena_printf(&c->a, "$DETENT dump $NETS/tiny.c %s", flags)),
        middle = cli_ok(c, arena_printf(&c->a, "$DETENT dump $NETS/tiny.c %s --at-epoch=45", flags)),
        opt = cli_ok(c, "$DETENT dump $NETS/tiny.c --stop-after=canonicalize > f.dtir; $OPT f.dtir "
                        "--passes=insert-quantize --recipe qsin-w4a4 --at-epoch=1.5/3");
    double one = number_after(begin, strstr(begin.out, "penalty "), "scale="),
           ten = number_after(middle, strstr(middle.out, "penalty "), "scale=");
    assert_true(one > 0 && ten > 9.999 * one && ten < 10.001 * one);
    assert_true(number_after(opt, strstr(opt.out, "penalty "), "scale=") == ten);
}

/* A bug under a recipe with schedules and odd patterns: the reproducer brings all of it. */
static void test_replayed_recipe(void **state)
{
    Cli *c = *state;
    Ran  r = cli_sh(c, "$DETENT dump mnist --method qat --bits w4a8 --layer fc1=w2 --set 'noise=0.25, 0.5@2' "
                        "--set 'fc*:grain=channel' --at-epoch=2.5/4 --passes=canonicalize,insert-quantize,test-bug "
                        "--crash-dir=replay");
    assert_int_equal(r.code, 128 + 6);
    const char *text = cli_read(c, "replay/reproducer.dtir");
    assert_in(r, text,
              " --method=qat --bits=w4a8 --edge-bits=8 --layer=fc1=w2 --set=noise=0.25,0.5@2 "
              "--set=fc*:grain=channel --at-epoch=2.5/4");
    Ran again = cli_sh(c, "$OPT replay/reproducer.dtir --crash-dir=again");
    assert_int_equal(again.code, 128 + 6);
    assert_string_equal(cli_read(c, "again/reproducer.dtir"), text);
}

static void test_doctor(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT doctor");
    assert_in(r, r.out, "detent          " DT_VERSION "\n");
    assert_in(r, r.out, "processor  ");
    assert_in(r, r.out, "kernels  ");
    assert_in(r, r.out, "convolutions  ");
    r = cli_ok(c, "$DETENT doctor --backend=interp --threads=1");
    assert_in(r, r.out, "threads         1\n");
}

/* ---- Text of graphs
 * -------------------------------------------------------------------------------------------------- */

/* Every file that --print-ir-dir writes is read by detent-opt and printed as it is. */
static void test_print_dir(void **state)
{
    static const struct {
        const char *net, *recipe, *step;
    } cases[] = {
        { "mnist", "", "train" },    { "mnist", "--method lsq --bits w4a4", "train" },
        { "resnet20", "", "train" }, { "resnet20", "--method lsq --bits w4a4 --layer 's0.*=w8a8'", "train" },
        { "resnet20", "", "eval" },  { "mnist", "--method lsq --bits w2a2", "init" },
    };
    Cli *c = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Ran r =
            cli_ok(c, arena_printf(&c->a, "rm -rf ir; $DETENT dump %s %s --step %s --batch 2 --print-ir-dir=ir; ls ir",
                                   cases[i].net, cases[i].recipe, cases[i].step));
        int32_t passes = 0;
        for (int p = 0; p < PASS_COUNT; p++)
            if (!(pass_table[p].flags & PASS_TEST) &&
                (pass_table[p].steps & (1u << (str_eq(cases[i].step, "train")  ? STEP_TRAIN
                                               : str_eq(cases[i].step, "eval") ? STEP_EVAL
                                                                               : STEP_INIT)))) {
                passes++;
                assert_in(r, r.out, arena_printf(&c->a, "%02d_%s.dtir\n", passes, pass_table[p].name));
            }
        assert_in(r, r.out, "00_frontend.dtir\n");
        assert_int_equal(count_of(r.out, ".dtir\n"), passes + 1);
        cli_ok(c, "for f in ir/*.dtir; do $OPT $f | cmp - $f || exit 1; done");
        cli_ok(c, "cmp ir/latest ir/*_lower.dtir");
    }
}

static const char dump[] = "$DETENT dump $NETS/tiny.c --batch 2 ";

static Ran        run_dump(Cli *c, const char *flags)
{
    return cli_ok(c, arena_printf(&c->a, "%s%s", dump, flags));
}

static void test_dump(void **state)
{
    Cli *c = *state;
    Ran  whole = run_dump(c, "");
    assert_in(whole, whole.out, "graph @tiny.train target=cpu ");
    assert_in(whole, whole.out, "conv2d_grad_w");
    assert_in(whole, whole.out, "\nkernel @");
    Ran eval = run_dump(c, "--step eval");
    assert_in(eval, eval.out, "graph @tiny.eval ");
    assert_not_in(eval, eval.out, "_grad");

    /* --stop-after: the graph as that pass leaves it */
    Ran stop = run_dump(c, "--stop-after=autodiff");
    assert_in(stop, stop.out, "conv2d_grad_w");
    assert_not_in(stop, stop.out, "sgd_step");
    assert_string_equal(run_dump(c, "--stop-after=lower").out, whole.out);

    /* --print-pipeline says what --passes takes */
    Ran pipeline = run_dump(c, "--print-pipeline --method lsq --bits w4a4");
    assert_in(pipeline, pipeline.out,
              "--passes=canonicalize,freeze-batchnorm,fold-batchnorm,insert-quantize,averages,autodiff,");
    const char *again = run_dump(c, arena_printf(&c->a, "%.*s", (int)strcspn(pipeline.out, "\n"), pipeline.out)).out;
    assert_string_equal(again, whole.out);

    /* what is printed around a pass is the graph there */
    Ran after = run_dump(c, "--print-ir-after=autodiff");
    assert_in(after, after.out, "// after autodiff (pass 6 of 20, @tiny.train)\n");
    assert_string_equal(strchr(after.out, '\n') + 1, stop.out);
    Ran before = run_dump(c, "--print-ir-before=optimizer");
    assert_string_equal(strchr(before.out, '\n') + 1, stop.out);
    assert_int_equal(count_of(run_dump(c, "--print-ir-after-all").out, "\ngraph @tiny.train "), 20);
    Ran changed = run_dump(c, "--print-ir-after-change");
    assert_not_in(changed, changed.out, "// after canonicalize");
    assert_in(changed, changed.out, "// after fuse");
    Ran scope = cli_ok(c, "$DETENT dump resnet20 --batch 2 --stop-after=autodiff --print-ir-scope=s1.b0");
    assert_in(scope, scope.out, "scope(\"s1.b0\")");
    assert_not_in(scope, scope.out, "scope(\"s1.b1\")");
}

static void test_diff(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(
        c,
        arena_printf(&c->a, "%s--print-ir-dir=ir >/dev/null; %s--print-ir-after=decompose --print-ir-diff > d; cat d",
                      dump, dump));
    assert_in(r, r.out, "--- before decompose\n+++ after decompose\n@@ ");
    assert_in(r, r.out, "\n-  %10 = batchnorm ");
    assert_in(r, r.out, " = affine ");
    /* a unified diff: patch makes one file from the other */
    Ran has_patch = cli_sh(c, "command -v patch");
    if (has_patch.code == EXIT_OK)
        cli_ok(c, "cp ir/07_optimizer.dtir old; patch -s old d; cmp old ir/08_decompose.dtir");
    Ran all = run_dump(c, "--print-ir-diff");
    assert_in(all, all.out, "+++ after autodiff\n");
    assert_not_in(all, all.out, "after insert-quantize"); /* float: it changed nothing */
    assert_not_in(all, all.out, "\ngraph @");
}

static void test_tables(void **state)
{
    Cli *c = *state;
    Ran  stats = run_dump(c, "--pass-stats");
    assert_int_equal((int)number_after(stats, stats.out, "optimizer.params updated"),
                     7); /* of tiny.c: w; gamma, beta; w, b; w, b */
    assert_int_equal((int)number_after(stats, stats.out, "decompose.composites"), 2);
    Ran timing = run_dump(c, "--pass-timing");
    assert_in(timing, timing.out, "\ncanonicalize ");
    assert_in(timing, timing.out, "\nlower ");
    assert_true(number_after(timing, timing.out, "\ntotal") > 0);

    Ran plan = run_dump(c, "--print-plan");
    assert_in(plan, plan.out, "peak: ");
    assert_in(plan, plan.out, "largest there: %");
    assert_in(plan, plan.out, "saved for backward: ");
    Ran compiled = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2"); /* the same number on another way */
    assert_true(number_after(plan, plan.out, "saved for backward: ") > 0);
    assert_true(number_after(compiled, compiled.out, "saved for backward ") ==
                number_after(plan, plan.out, "saved for backward: "));
}

static void test_explain_fusion(void **state)
{
    Cli *c = *state;
    Ran  all = cli_ok(c, "$DETENT dump resnet20 --batch 2 --explain-fusion"),
        one = cli_ok(c, "$DETENT dump resnet20 --batch 2 --explain-fusion=s0.b0");
    assert_in(all, all.out, " s1.b0.affine: computed in place\n");
    assert_in(one, one.out, " s0.b0.affine: computed in place\n");
    assert_int_equal(count_of(one.out, " s0.b0."), count_of(one.out, "\n")); /* nothing else */
    assert_true(count_of(one.out, "\n") < count_of(all.out, "\n"));
    assert_not_in(all, all.out, "graph @");
}

static void test_disable(void **state)
{
    Cli *c = *state;
    Ran  with = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2"),
        without = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2 --disable-pass=fuse,batch");
    double fused = number_after(with, with.out, "tiny.train: "),
           plain = number_after(without, without.out, "tiny.train: ");
    assert_true(plain > fused); /* launches */
    Ran list = run_dump(c, "--print-pipeline --disable-pass=simplify");
    assert_not_in(list, list.out, "simplify");
    Ran bisect = run_dump(c, "--print-pipeline --bisect=1");
    assert_in(bisect, bisect.out, "canonicalize");
    assert_not_in(bisect, bisect.out, "fuse");
    run_dump(c, "--verify=all --verify-changed --verify-roundtrip --method lsq --bits w3a5");
    run_dump(c, "--verify=off --step init --method lsq");
}

/* ---- Code
 * ------------------------------------------------------------------------------------------------------------ */

static void test_compile(void **state)
{
    Cli *c = *state;
    cli_ok(c, "rm -rf cache");
    Ran cold = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2"),
        warm = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2"),
        off = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2 --cache=off");
    double distinct = number_after(cold, cold.out, "kernels (");
    assert_true(distinct > 0);
    assert_true(number_after(cold, cold.out, "distinct, ") == 0);
    assert_true(number_after(warm, warm.out, "distinct, ") == distinct);
    assert_true(number_after(off, off.out, "distinct, ") == 0);
    Ran narrow = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2 --vector-width=4 --cache=off");
    assert_in(narrow, narrow.out, "vectors of 4 floats");
    Ran interp = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2 --backend=interp");
    assert_not_in(interp, interp.out, "LLVM");
}

static void test_dump_kernels(void **state)
{
    Cli   *c = *state;
    Ran    r = cli_ok(c, "$DETENT compile $NETS/tiny.c --batch 2 --method lsq --bits w4a4 --dump-kernels=k");
    double distinct = number_after(r, r.out, "kernels (");
    Ran    list = cli_ok(c, "ls k");
    assert_int_equal(count_of(list.out, ".kernel\n"), (int)distinct);
    assert_int_equal(count_of(list.out, ".ll\n"), (int)distinct);
    assert_int_equal(count_of(list.out, ".s\n"), (int)distinct);
    Ran ran = cli_ok(c, "for f in k/*.kernel; do $OPT --run $f || exit 1; done"); /* they parse, verify and compute */
    assert_int_equal(count_of(ran.out, "@"), (int)distinct);
    cli_ok(c, "grep -q 'define ' k/*.ll && grep -q ret k/*.s");
}

static void test_check_and_bench(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT check $NETS/tiny.c --batch 2 --method lsq --bits w4a4");
    assert_in(r, r.out, "all is well");
    r = cli_ok(c, "$DETENT bench $NETS/tiny.c --batch 2 --method lsq --bits w4a4 --rounds 3");
    assert_in(r, r.out, "\nfloat ");
    assert_in(r, r.out, "\nlsq w4a4 ");
    r = cli_ok(c, "$DETENT bench $NETS/tiny.c --batch 2 --rounds 3 --bits w4a4 --kernels");
    assert_true(strncmp(r.out, "tiny, ", strlen("tiny, ")) == 0);
    assert_in(r, r.out, "\n\n  ms/step "); /* bench/step shows what follows the empty line */
    assert_in(r, r.out, "/ loop");
}

/* ---- Mistakes of passes, planted
 * --------------------------------------------------------------------------------------- */

enum { ABORTED = 128 + 6 };

/* The verifier names the pass; what it leaves behind shows the bug again. */
static void test_planted_type(void **state)
{
    Cli *c = *state;
    Ran  r = cli_expect(c, ABORTED, "$DETENT dump mnist --batch 2 --passes=canonicalize,test-type --crash-dir=crash");
    assert_in(r, r.err, "pass test-type leaves a graph that breaks the rules of phase step");
    assert_in(
        r, r.err,
        "models/mnist.c:10: error: verify: types: %4 = relu says f32[3x32x26x26], its inputs give f32[2x32x26x26]");
    assert_in(r, r.err, "replay with: detent-opt crash/reproducer.dtir");
    assert_in(r, cli_read(c, "crash/report.txt"), "pass: test-type");
    Ran again = cli_expect(c, ABORTED, "$OPT crash/reproducer.dtir --crash-dir=again");
    assert_in(again, again.err, "pass test-type leaves a graph that breaks the rules of phase step");
    cli_ok(c, "cmp crash/reproducer.dtir again/reproducer.dtir");
    cli_ok(c, "$OPT crash/reproducer.dtir --passes=canonicalize"); /* the graph before the pass is whole */
}

static void test_planted_lie(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT dump mnist --batch 2 --stop-after=canonicalize > good.dtir");
    Ran r = cli_expect(c, ABORTED, "$OPT good.dtir --passes=test-boast --verify-changed --crash-dir=boast");
    assert_in(r, r.err, "pass test-boast says that it changed the graph, but the graph is the same");
    Ran again =
        cli_expect(c, ABORTED, "$OPT boast/reproducer.dtir --crash-dir=again"); /* with its own --verify-changed */
    assert_in(again, again.err, "pass test-boast says that it changed the graph");
    cli_ok(c, "$OPT good.dtir --passes=test-boast"); /* not seen without the flag */
    Ran bug = cli_expect(c, ABORTED, "$OPT good.dtir --passes=test-bug --crash-dir=bug");
    assert_in(bug, bug.err, "planted: graph @mnist");
    assert_in(bug, bug.err, "replay with: detent-opt bug/reproducer.dtir");
}

/* A rewrite that is valid and wrong: a residual block loses its shortcut. No rule sees it, the bisection names it. */
static void test_planted_rewrite(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT dump resnet20 --batch 2 --step eval --stop-after=insert-quantize > net.dtir\n"
              "cat > right.sh <<'END'\n"
              "test $($OPT net.dtir --step=eval --passes=canonicalize,test-noop,test-drop,test-noop --bisect=$1 | grep "
              "-c ' = add ') = 9\n"
              "END\n");
    Ran r = cli_ok(
        c,
        "$OPT net.dtir --step=eval --passes=canonicalize,test-noop,test-drop,test-noop --bisect-run='sh right.sh {N}'");
    assert_in(r, r.err, "first bad pass: test-drop (3)\n");
    r = cli_ok(c, "$DETENT compile mnist --bisect-run='test {N} -lt 6'");
    assert_in(r, r.out, "first bad pass: recompute (6)\n"); /* behind canonicalize, depthwise, simplify,
                                                               integer-forward, bf16-backward */
    r = cli_ok(c, "$DETENT dump mnist --bisect-run='test $DETENT_BISECT -ge 0'");
    assert_in(r, r.out, "no bad pass");
}

/* ---- Three ways to have a network
 * ---------------------------------------------------------------------------------------- */

static void test_own_program(void **state)
{
    Cli *c = *state;
    Ran  own = cli_ok(c, "$MY_NET info --method lsq --bits w4a4"),
        file = cli_ok(c, "$DETENT info $SRC/examples/my_net.c --method lsq --bits w4a4"); /* which has a main(), too */
    assert_string_equal(own.out, file.out);
    assert_in(own, own.out, "17,890");
    Ran help = cli_ok(c, "$MY_NET --help");
    assert_in(help, help.out, "This program holds the network my_net: ");
    assert_in(help, help.out, "usage: my_net COMMAND [options]");
    assert_not_in(help, help.out, "NET ");
    help = cli_ok(c, "$MY_NET train --help");
    assert_in(help, help.out, "usage: my_net train [options]");

    Ran train = cli_ok(c, "$MY_NET train --data $DATA --batch 8 --max-steps 2 --out own");
    assert_in(train, train.err, "go on with: my_net train --resume own\n");
    cli_ok(c, "$MY_NET train --resume own --max-steps 3 --quiet");
    Ran eval = cli_ok(c, "$MY_NET eval --resume own");
    assert_in(eval, eval.out, "accuracy ");
    Ran other = cli_expect(c, EXIT_USAGE, "$MY_NET train mnist");
    assert_in(other, other.err, "my_net train: expected only options, found 'mnist' too");
}

static void test_file(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT info $NETS/tiny.c");
    assert_in(r, r.out, "tiny: a small network for tests");
    assert_in(r, r.out, "1,917");
    assert_string_equal(cli_ok(c, "cp $NETS/tiny.c here.c && $DETENT info here.c && rm here.c").out, r.out);
    assert_string_equal(
        cli_ok(c, "cp $NETS/tiny.c -dash.c 2>/dev/null || cp -- $NETS/tiny.c ./-dash.c; $DETENT info ./-dash.c").out,
        r.out);
    assert_string_equal(cli_ok(c, "cp $NETS/tiny.c 'with blank.c' && $DETENT info 'with blank.c'").out, r.out);
}

/* ---- Training
 * ---------------------------------------------------------------------------------------------------------------- */

static void test_train(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --epochs 1 --log-every 40");
    assert_string_equal(r.out, "");
    assert_in(r, r.err, "tiny, float: compiled in ");
    assert_in(r, r.err, "epoch 1/1  step 40/187");
    assert_in(r, r.err, "the run lies in runs/tiny/float: metrics.csv, log.txt, best.safetensors\n");
    assert_in(r, r.err, "next, in 4 bits: detent train ");
    double accuracy = number_after(r, r.err, "\ntest accuracy ");
    assert_true(accuracy > 50); /* of ten classes, after 187 steps */
    Ran eval = cli_ok(c, "$DETENT eval --resume runs/tiny/float");
    assert_true(number_after(eval, eval.out, "accuracy ") == accuracy);
    Ran list = cli_ok(c, "ls runs/tiny/float");
    assert_string_equal(list.out, "args.json\nbest.safetensors\nevents.out.tfevents.detent\nlast.previous."
                                  "safetensors\nlast.safetensors\nlog.txt\nmetrics.csv\nmetrics.jsonl\n");
    assert_int_equal(count_of(cli_read(c, "runs/tiny/float/metrics.jsonl"), "\n"),
                     6); /* steps 40, 80, 120, 160; the weights; the epoch */

    /* the command that was printed, and what comes of it */
    const char *next = strstr(r.err, "detent train ");
    Ran         q = cli_ok(c, arena_printf(&c->a, "$DETENT %.*s --layer hidden=w3a3 --max-steps 20",
                                           (int)strcspn(next + 7, "\n"), next + 7));
    assert_in(q, q.err, "the run lies in runs/tiny/lsq-w4a4:");
    Ran quiet = cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --epochs 1 --max-steps 1 --quiet");
    assert_string_equal(quiet.err, "");
    cli_ok(c, "test -e runs/tiny/float-2/last.safetensors");
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --max-steps 1 --quiet --exp trial && test -e "
              "runs/tiny/trial/args.json");
}

/* A checkpoint says how it is quantized, patterns included. */
static void test_eval(void **state)
{
    Cli *c = *state;
    Ran r = cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --epochs 1 --method lsq --bits w3a4 --layer hidden=w2a2 "
                      "--edge-bits 0 --out q");
    double accuracy = number_after(r, r.err, "\ntest accuracy ");
    assert_in(r, r.err, "next: detent eval --resume q\n");
    Ran by_file = cli_ok(c, "$DETENT eval $NETS/tiny.c --checkpoint q/best.safetensors --data $DATA");
    assert_true(number_after(by_file, by_file.out, "accuracy ") == accuracy);
    assert_in(by_file, by_file.err, "tiny, lsq w3a4, weights of q/best.safetensors\n");
    Ran by_run = cli_ok(c, "$DETENT eval --resume q --quiet");
    assert_string_equal(by_run.out, by_file.out);
    assert_string_equal(by_run.err, "");
    Ran told = cli_ok(
        c, "$DETENT eval $NETS/tiny.c --checkpoint q/best.safetensors --data $DATA --method lsq --bits w3a4 --layer "
           "hidden=w2a2 --edge-bits=0");
    assert_string_equal(told.out, by_file.out);
    Ran bits =
        cli_expect(c, EXIT_MISTAKE,
                   "$DETENT eval $NETS/tiny.c --checkpoint q/best.safetensors --data $DATA --method lsq --bits w4a4");
    assert_in(bits, bits.err, "was trained with --method lsq --bits w3a4 --edge-bits=0 --layer=hidden=w2a2");
    Ran layer = cli_expect(c, EXIT_MISTAKE,
                           "$DETENT eval $NETS/tiny.c --checkpoint q/best.safetensors --data $DATA --method lsq --bits "
                           "w3a4 --edge-bits 0");
    assert_in(layer, layer.err, "--layer=hidden=w2a2"); /* the same bits elsewhere, but not there */
}

/* Stopped and resumed, from another directory too, is the same run. */
static void test_resume(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --epochs 1 --max-steps 9 --seed 7 --lr 0.1 --method lsq --quiet "
              "--out whole");
    Ran part = cli_ok(
        c,
        "$DETENT train $NETS/tiny.c --data $DATA --epochs 1 --max-steps 4 --seed 7 --lr 0.1 --method lsq --out part");
    assert_in(part, part.err, "go on with: detent train --resume part\n");
    cli_ok(c, "mkdir -p elsewhere && cd elsewhere && $DETENT train --resume ../part --max-steps 7 --quiet");
    cli_ok(
        c,
        "$DETENT train $NETS/tiny.c --resume part --max-steps 9 --seed 7 --lr 0.10 --quiet"); /* the same, said again */
    cli_ok(c, "cmp whole/last.safetensors part/last.safetensors && cmp whole/metrics.jsonl part/metrics.jsonl");
    Ran other = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume part --lr 0.2");
    assert_in(other, other.err, "--lr: expected 0.1, as the run that is resumed has it, found 0.2");
    Ran recipe = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume part --recipe my.recipe");
    assert_in(recipe, recipe.err, "the run that is resumed keeps its recipe");
    Ran layer = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume part --layer hidden=w2a2");
    assert_in(layer, layer.err, "--layer: expected nothing, as the run that is resumed has it, found hidden=w2a2");
}

/* Settings are kept one by one, whatever they hold: a run with a schedule is resumed exactly, its checkpoint says its
 * recipe, and the recipe's file is needed no more. */
static void test_settings(void **state)
{
    Cli *c = *state;
    cli_ok(c, "printf 'method = quant-noise\nnoise = 0.5, 1@80%%\nlr = 0.02\nepochs = 2\n[conv*]\ngrain = channel\n' "
              "> noise.recipe");
    const char *train = "$DETENT train $NETS/tiny.c --data $DATA --quiet --recipe noise.recipe --set ema=0.1 ";
    cli_ok(c, arena_printf(&c->a, "%s --max-steps 6 --out set-whole", train));
    cli_ok(c, arena_printf(&c->a, "%s --max-steps 3 --out set-part; rm noise.recipe", train));
    const char *args = cli_read(c, "set-part/args.json");
    Ran         r = cli_ok(c, "$DETENT train --resume set-part --max-steps 6 --quiet; "
                                      "cmp set-whole/last.safetensors set-part/last.safetensors");
    assert_in(r, args, "\"set\": \"'noise=0.5, 1@80%' conv*:grain=channel ema=0.1\"");
    assert_in(r, args, "\"lr\": \"0.02\"");
    assert_in(r, args, "\"epochs\": \"2\"");
    Ran same =
        cli_ok(c, "$DETENT train --resume set-part --max-steps 6 --set 'noise=0.5, 1@80%' --set conv*:grain=channel "
                  "--set ema=0.1 --quiet");
    assert_string_equal(same.out, "");
    Ran other = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume set-part --set noise=0.5");
    assert_in(other, other.err, "--set: expected 'noise=0.5, 1@80%' conv*:grain=channel ema=0.1, as the run that is");
    Ran eval = cli_ok(c, "$DETENT eval $NETS/tiny.c --checkpoint set-part/last.safetensors --data $DATA"),
        told = cli_ok(c, "$DETENT eval $NETS/tiny.c --checkpoint set-part/last.safetensors --data $DATA --method "
                         "quant-noise --set noise=0.5,1.0@80% --set conv*:weight.grain=channel --set act.ema=0.10");
    assert_string_equal(told.out, eval.out);
    Ran wrong = cli_expect(c, EXIT_MISTAKE,
                           "$DETENT eval $NETS/tiny.c --checkpoint set-part/last.safetensors --data $DATA "
                           "--method quant-noise");
    assert_in(wrong, wrong.err, "--set=noise=0.5,1@80% --set=conv*:grain=channel --set=ema=0.1");
}

/* Vectors of another width are another program for the same numbers. */
static void test_run_flags(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --max-steps 3 --quiet --out wide\n"
              "$DETENT train $NETS/tiny.c --data $DATA --max-steps 3 --quiet --vector-width=4 --out narrow\n"
              "cmp wide/last.safetensors narrow/last.safetensors");
    Ran profile =
        cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --max-steps 3 --profile --threads 1 --out profiled");
    assert_in(profile, profile.out, "launches, ");
    assert_in(profile, profile.out, " %  ");
    Ran defaults = cli_ok(c, "cat wide/args.json"),
        said = cli_ok(
            c,
            "$DETENT train $NETS/tiny.c --data $DATA --max-steps 1 --quiet --out said --momentum 0 --weight-decay 0.01 "
            "--nesterov --schedule step:1,2 --warmup 0.5 --batch 16 --no-augment --seed 5; cat said/args.json");
    assert_in(defaults, defaults.out, "\"optimizer\": \"sgd\"");
    assert_in(defaults, defaults.out, "\"momentum\": \"0.9\"");
    assert_in(defaults, defaults.out, "\"lr\": \"0.05\""); /* as the source has it */
    assert_in(defaults, defaults.out, "\"batch\": \"32\"");
    assert_in(said, said.out, "\"momentum\": \"0\"");
    assert_in(said, said.out, "\"weight-decay\": \"0.01\"");
    assert_in(said, said.out, "\"nesterov\": \"true\"");
    assert_in(said, said.out, "\"schedule\": \"step:1,2\"");
    assert_in(said, said.out, "\"warmup\": \"0.5\"");
    assert_in(said, said.out, "\"no-augment\": \"true\"");
    assert_in(said, said.out, "\"seed\": \"5\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_info_settings),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_at_epoch),
        cmocka_unit_test(test_replayed_recipe),
        cmocka_unit_test(test_doctor),
        cmocka_unit_test(test_print_dir),
        cmocka_unit_test(test_dump),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_explain_fusion),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_compile),
        cmocka_unit_test(test_dump_kernels),
        cmocka_unit_test(test_check_and_bench),
        cmocka_unit_test(test_planted_type),
        cmocka_unit_test(test_planted_lie),
        cmocka_unit_test(test_planted_rewrite),
        cmocka_unit_test(test_own_program),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_train),
        cmocka_unit_test(test_eval),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_run_flags),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
