/* test_manager.c: the pass manager: which passes run, what it prints, and that it catches passes that break the graph,
 * lie about it or fail - with the passes test-* that do just that. Bugs abort, so those run in a child process. */
#include "tests/unit/pass_fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char net[] = "graph @net.eval {\n"
                          "  %0 = input \"x\" : f32[2x4]\n"
                          "  %1 = input \"y\" : f32[2x4]\n"
                          "  %2 = sub %0, %1 : f32[2x4] scope(\"s0\")\n"
                          "  %3 = add %2, %0 : f32[2x4] scope(\"s1\")\n"
                          "  %4 = scale %3 : f32[2x4] scope(\"s1\")\n"
                          "  %5 = relu %4 : f32[2x4] scope(\"s1\")\n"
                          "  output %5 \"z\"\n"
                          "}\n";

static Graph     *net_graph(Fixture *f)
{
    return fixture_graph(f, net);
}

static char *new_dir(Fixture *f)
{
    char *dir = arena_strdup(&f->a, "/tmp/detent-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static const char *slurp(Fixture *f, const char *dir, const char *file)
{
    const char *path = arena_printf(&f->a, "%s/%s", dir, file);
    const char *text = file_read(&f->a, &f->d, path, NULL);
    if (!text)
        fail_msg("%s", fixture_said(f));
    return text;
}

static void remove_dir(Fixture *f, const char *dir)
{
    assert_int_equal(system(arena_printf(&f->a, "rm -rf '%s'", dir)), 0);
}

/* ---- Which passes run ------------------------------------------------------------------------------------------- */

static const char *pipeline_of(Fixture *f, const char *flags)
{
    const char *all = arena_printf(&f->a, "--print-pipeline --stop-after=canonicalize %s", flags);
    if (!fixture_run(f, net_graph(f), all))
        fail_msg("%s", fixture_said(f));
    return f->text;
}

static void test_table(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < PASS_COUNT; i++) {
        const PassInfo *p = &pass_table[i];
        assert_non_null(p->name);
        assert_non_null(p->doc);
        assert_non_null(p->run);
        assert_true(p->steps != 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(p->name, pass_table[j].name);
    }
    Str doc = str_new(&f->a);
    passes_doc(&doc);
    assert_has(doc.s, "| `autodiff` | train | yes |");
    assert_has(doc.s, "--print-ir-after");
}

static void test_pipeline(void **state)
{
    Fixture *f = *state;
    assert_string_equal(pipeline_of(f, ""), "--passes=canonicalize\n");
    assert_true(fixture_run(f, net_graph(f), "--print-pipeline --passes=simplify,canonicalize,simplify"));
    assert_has(f->text, "--passes=simplify,canonicalize,simplify\n");
    assert_true(
        fixture_run(f, net_graph(f), "--print-pipeline --passes=simplify,canonicalize,simplify --stop-after=simplify"));
    assert_has(f->text, "--passes=simplify\n");
    assert_true(fixture_run(f, net_graph(f),
                            "--print-pipeline --passes=simplify,canonicalize,simplify --disable-pass=simplify:2"));
    assert_has(f->text, "--passes=simplify,canonicalize\n");
    assert_true(fixture_run(f, net_graph(f), "--print-pipeline --passes=simplify,canonicalize,test-noop --bisect=1"));
    assert_has(f->text, "--passes=simplify\n");
    assert_has(f->text, "// bisect: pass 1 of 3: simplify\n");
    assert_true(
        fixture_run(f, net_graph(f), "--print-pipeline --passes=autodiff,canonicalize")); /* no autodiff in eval */
    assert_has(f->text, "--passes=canonicalize\n");
}

/* The default: everything of the step but the passes for tests, in the order of the table. */
static void test_default_pipeline(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--print-pipeline --stop-after=decompose --disable-pass=canonicalize"));
    assert_string_equal(f->text, "--passes=fold-batchnorm,insert-quantize,averages,decompose\n");
    assert_true(fixture_run(f, net_graph(f), "--print-pipeline --stop-after=simplify --bisect=0"));
    assert_string_equal(f->text, "--passes=fold-batchnorm,insert-quantize,averages,decompose\n");
    assert_true(fixture_options(f, "").explain_fusion == NULL);
    assert_string_equal(fixture_options(f, "--explain-fusion --print-plan").explain_fusion, "");
    assert_string_equal(fixture_options(f, "--explain-fusion=s0.*").explain_fusion, "s0.*");
}

static void test_wrong_names(void **state)
{
    static const struct {
        const char *flags, *said;
    } rows[] = {
        { "--passes=simplfy", "--passes: no pass 'simplfy'; nearest: simplify" },
        { "--print-ir-after=fusee", "--print-ir-after: no pass 'fusee'; nearest: fuse" },
        { "--disable-pass=layout", "--disable-pass: layout is required" },
        { "--disable-pass=layout", "passes that can be left out are canonicalize, depthwise, simplify, "
                                   "integer-forward, bf16-backward, recompute, fuse, batch, rematerialize" },
        { "--stop-after=simplify:2", "--stop-after=simplify:2: simplify runs 1 time in the eval step" },
        { "--passes=canonicalize --print-ir-after=simplify", "simplify runs 0 times in the eval step" },
        { "--passes=canonicalize:x", "--passes: no pass 'canonicalize:x'" },
        { "--print-ir-before=simplify:0", "no pass 'simplify:0'" },
        { "--passes=lower", "lower: expects a graph of phase" },
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(rows); i++) {
        assert_false(fixture_run(f, net_graph(f), rows[i].flags));
        assert_has(fixture_said(f), rows[i].said);
    }
}

static void test_stopped(void **state)
{
    Fixture    *f = *state;
    bool        stopped = false;
    PassOptions opt = fixture_options(f, "--stop-after=insert-quantize");
    assert_true(passes_run(&f->ctx, net_graph(f), &opt, stderr, &stopped));
    assert_true(stopped);
}

/* ---- Dumps ------------------------------------------------------------------------------------------------------- */

static void test_print(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --print-ir-before=canonicalize"));
    assert_has(f->text, "// before canonicalize (pass 2 of 2, @net.eval)\ngraph @net.eval {\n");
    assert_has(f->text, "= scale %3");
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --print-ir-after=canonicalize"));
    assert_has_not(f->text, "= scale");
    assert_has_not(f->text, "test-noop");
    assert_non_null(fixture_graph(f, f->text)); /* what is printed reads back */
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --print-ir-after-all"));
    assert_has(f->text, "// after test-noop (pass 1 of 2, @net.eval), unchanged\n");
    assert_has(f->text, "// after canonicalize (pass 2 of 2, @net.eval)\n");
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --print-ir-after-change"));
    assert_has_not(f->text, "test-noop");
    assert_has(f->text, "// after canonicalize");
}

static void test_occurrence(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize,test-noop --print-ir-after=test-noop:2"));
    assert_has(f->text, "// after test-noop:2 (pass 3 of 3");
    assert_has_not(f->text, "pass 1 of 3");
}

static void test_diff(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --print-ir-diff"));
    assert_has(f->text, "--- before canonicalize\n+++ after canonicalize\n");
    assert_has(f->text, "\n-  %4 = scale %3");
    assert_has(f->text, "\n+  %5 = relu %3");
    assert_has_not(f->text, "test-noop");
}

static void test_scope(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=canonicalize --print-ir-after-all --print-ir-scope=s0"));
    assert_has(f->text, "= sub %0, %1");
    assert_has_not(f->text, "= relu");
}

static void test_print_dir(void **state)
{
    Fixture *f = *state;
    char    *dir = new_dir(f), link[64] = { 0 };
    Graph   *g = net_graph(f);
    assert_true(
        fixture_run(f, g, arena_printf(&f->a, "--passes=canonicalize,test-noop --print-ir-dir=%s/sub/ir", dir)));
    const char *sub = arena_printf(&f->a, "%s/sub/ir", dir);
    assert_has(slurp(f, sub, "00_frontend.dtir"), "= scale %3");
    assert_string_equal(slurp(f, sub, "01_canonicalize.dtir"), fixture_print(f, g));
    assert_string_equal(slurp(f, sub, "02_test-noop.dtir"), fixture_print(f, g));
    assert_true(readlink(arena_printf(&f->a, "%s/latest", sub), link, sizeof link - 1) > 0);
    assert_string_equal(link, "02_test-noop.dtir");
    remove_dir(f, dir);
}

static void test_tables(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=test-noop,canonicalize --pass-timing --pass-stats"));
    assert_has(f->text, "canonicalize");
    assert_has(f->text, "      7       6  yes\n");
    assert_has(f->text, "      7       7  no\n");
    assert_has(f->text, "canonicalize.removed");
    assert_int_equal(fixture_stat(f, "canonicalize.removed"), 1);
    assert_int_equal(fixture_stat(f, "test-noop.values"), 7);
}

static void test_explain(void **state)
{
    Fixture *f = *state;
    Graph   *g = net_graph(f);
    Str      lines = str_new(&f->a);
    pass_explain(&f->ctx, g, 2, "nothing asked");
    f->ctx.explain = &lines;
    pass_explain(&f->ctx, g, 2, "fused into k%d", 7);
    f->ctx.explain_scope = "s1*";
    pass_explain(&f->ctx, g, 2, "outside of the scope");
    pass_explain(&f->ctx, g, 5, "inside");
    assert_string_equal(lines.s, "%2 s0.sub: fused into k7\n%5 s1.relu: inside\n");
}

/* ---- Bugs -------------------------------------------------------------------------------------------------------- */

/* Runs in a child; true when it aborted. What it said on stderr is in f->text. */
static bool aborts(Fixture *f, const char *flags)
{
    char *log = arena_strdup(&f->a, "/tmp/detent-log-XXXXXX");
    int   fd = mkstemp(log), status = 0;
    assert_true(fd >= 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fd, 2);
        _exit(fixture_run(f, net_graph(f), flags) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    close(fd);
    free(f->text);
    f->text = strdup(file_read(&f->a, &f->d, log, NULL));
    unlink(log);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_verifier_catches(void **state)
{
    Fixture    *f = *state;
    const char *dir = new_dir(f);
    assert_true(aborts(f, arena_printf(&f->a, "--passes=canonicalize,test-type --crash-dir=%s", dir)));
    assert_has(f->text, "pass test-type leaves a graph that breaks the rules of phase");
    assert_has(f->text, "sub");
    /* the reproducer: its first line says how to replay, the graph is the one before the pass */
    const char *text = slurp(f, dir, "reproducer.dtir"),
               *first = "// detent-opt: --passes=test-type --verify=all --step=eval --method=float";
    if (strncmp(text, first, strlen(first)) != 0)
        fail_msg("%s", text);
    Graph *before = fixture_graph(f, text);
    Diag   quiet = diag_new(NULL);
    assert_true(ir_verify(before, PHASE_FRONTEND, &quiet));
    diag_free(&quiet);
    assert_int_equal(before->order.len, 6); /* canonicalize has run */
    assert_has(slurp(f, dir, "broken.dtir"), "f32[3x4]");
    const char *report = slurp(f, dir, "report.txt");
    assert_has(report, "detent " DT_VERSION);
    assert_has(report, "pipeline: canonicalize,test-type\n");
    assert_has(report, "--passes=canonicalize --passes=test-type");
    assert_has(report, arena_printf(&f->a, "replay: detent-opt %s/reproducer.dtir", dir));
    assert_has(f->text, "replay with: detent-opt");
    remove_dir(f, dir);
}

/* --crash-dir is not needed: a directory of its own is made and named. */
static void test_assertion(void **state)
{
    Fixture    *f = *state;
    const char *dir = new_dir(f);
    const char *old = getenv("TMPDIR");
    assert_int_equal(setenv("TMPDIR", dir, 1), 0);
    assert_true(aborts(f, "--passes=test-noop,test-bug"));
    assert_int_equal(old ? setenv("TMPDIR", old, 1) : unsetenv("TMPDIR"), 0);
    assert_has(f->text, "planted: graph @net.eval has 7 values");
    const char *in = strstr(f->text, "reproducer in ");
    assert_non_null(in);
    const char *path = arena_strndup(&f->a, in + 14, strcspn(in + 14, ";"));
    assert_has(path, "/detent-crash-");
    assert_has(slurp(f, path, "reproducer.dtir"), "// detent-opt: --passes=test-bug ");
    remove_dir(f, dir);
}

static void test_verify_off(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=test-type --verify=off"));
}

static void test_verify_changed(void **state)
{
    Fixture    *f = *state;
    const char *dir = new_dir(f);
    assert_true(fixture_run(f, net_graph(f), "--passes=canonicalize,simplify,test-noop --verify-changed"));
    assert_true(aborts(f, arena_printf(&f->a, "--passes=test-lie --verify-changed --crash-dir=%s", dir)));
    assert_has(f->text, "pass test-lie says that it did not change the graph, but the graph differs");
    assert_has(slurp(f, dir, "reproducer.dtir"), " --verify-changed ");
    assert_true(aborts(f, arena_printf(&f->a, "--passes=test-boast --verify-changed --crash-dir=%s", dir)));
    assert_has(f->text, "pass test-boast says that it changed the graph, but the graph is the same");
    assert_true(fixture_run(f, net_graph(f), "--passes=test-lie,test-boast")); /* nobody asked */
    remove_dir(f, dir);
}

static void test_roundtrip(void **state)
{
    Fixture *f = *state;
    assert_true(fixture_run(f, net_graph(f), "--passes=canonicalize,simplify --verify-roundtrip --verify=all"));
}

/* A graph that is wrong before any pass is nobody's bug. */
static void test_bad_input(void **state)
{
    Fixture *f = *state;
    Graph   *g = net_graph(f);
    ir_value(g, 3)->type.shape.dim[1] = 5;
    assert_false(fixture_run(f, g, "--passes=canonicalize"));
    assert_true(f->d.errors > 0);
}

/* ---- Bisection --------------------------------------------------------------------------------------------------- */

static const char bisect_flags[] = "--passes=canonicalize,test-noop,test-drop,simplify,test-noop";

static int32_t    bisect(Fixture *f, const char *cmd)
{
    PassOptions opt = fixture_options(f, bisect_flags);
    opt.bisect_run = cmd;
    free(f->text);
    f->text = NULL;
    FILE   *out = open_memstream(&f->text, &f->text_len);
    int32_t n = passes_bisect_run(&f->a, &f->d, &opt, STEP_EVAL, out);
    fclose(out);
    return n;
}

static void test_bisect(void **state)
{
    Fixture *f = *state;
    assert_int_equal(bisect(f, "test {N} -lt 2"), 2);
    assert_has(f->text, "first bad pass: test-noop (2)\n");
    assert_int_equal(bisect(f, "test $DETENT_BISECT -lt 5"), 5);
    assert_has(f->text, "first bad pass: test-noop:2 (5)\n");
    assert_int_equal(bisect(f, "true"), 0);
    assert_has(f->text, "no bad pass: the command succeeds with all 5\n");
    assert_int_equal(bisect(f, "false"), 0);
    assert_has(f->text, "the command fails without any");
    assert_int_equal(bisect(f, "test {N} -lt 4 || kill -9 $$"), 4); /* ended by a signal: bad */
    assert_int_equal(bisect(f, "/nonexistent/command 2>/dev/null"), -1);
    assert_has(fixture_said(f), "the shell cannot run");
}

/* The command is this program: it runs the pipeline as DETENT_BISECT says and looks whether the sum is still there. */
static int bisect_child(void)
{
    void *state = NULL;
    fixture_setup(&state);
    Fixture *f = state;
    Graph   *g = net_graph(f);
    bool     ok = fixture_run(f, g, bisect_flags) && fixture_count(g, OP_ADD) == 1;
    fixture_teardown(&state);
    return ok ? 0 : 1;
}

static void test_bisect_finds_planted(void **state)
{
    Fixture *f = *state;
    char     self[4096] = { 0 };
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    assert_int_equal(bisect(f, arena_printf(&f->a, "'%s' bisect-child", self)), 3);
    assert_has(f->text, "first bad pass: test-drop (3)\n");
}

int main(int argc, char **argv)
{
    if (argc == 2 && str_eq(argv[1], "bisect-child"))
        return bisect_child();
    const struct CMUnitTest tests[] = {
        fixture_test(test_table),
        fixture_test(test_pipeline),
        fixture_test(test_default_pipeline),
        fixture_test(test_wrong_names),
        fixture_test(test_stopped),
        fixture_test(test_print),
        fixture_test(test_occurrence),
        fixture_test(test_diff),
        fixture_test(test_scope),
        fixture_test(test_print_dir),
        fixture_test(test_tables),
        fixture_test(test_explain),
        fixture_test(test_verifier_catches),
        fixture_test(test_assertion),
        fixture_test(test_verify_off),
        fixture_test(test_verify_changed),
        fixture_test(test_roundtrip),
        fixture_test(test_bad_input),
        fixture_test(test_bisect),
        fixture_test(test_bisect_finds_planted),
    };
    return cmocka_run_group_tests_name("manager", tests, NULL, NULL);
}
