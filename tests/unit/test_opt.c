/* test_opt.c: detent-opt as people use it: text in, text out, reproducers, kernels, and what it says and returns when
 * it is used wrongly. Each use runs in a child process. */
#include "tests/unit/pass_fixture.h"

#include "cli/cli.h"

#include <sys/wait.h>
#include <unistd.h>

static const char net[] = "graph @net.eval {\n"
                          "  %0 = input \"x\" : f32[2x4]\n"
                          "  %1 = sub %0, %0 : f32[2x4]\n"
                          "  %2 = scale %1 : f32[2x4]\n"
                          "  output %2 \"z\"\n"
                          "}\n";

static const char kernel[] = "kernel @twice {\n"
                             "  axis i = 5 par\n"
                             "  buf x : f32[5] in\n"
                             "  buf y : f32[5] out\n"
                             "  body {\n"
                             "    %0 = load x[i]\n"
                             "    %1 = add %0, %0\n"
                             "    store y[i], %1\n"
                             "  }\n"
                             "}\n";

typedef struct Ran {
    int         code; /* 128 + signal when one ended it */
    const char *out, *err;
} Ran;

static const char *temp_with(Fixture *f, const char *text, int *fd)
{
    char *path = arena_strdup(&f->a, "/tmp/detent-opt-XXXXXX");
    *fd = mkstemp(path);
    assert_true(*fd >= 0);
    assert_int_equal(write(*fd, text, strlen(text)), (int)strlen(text));
    assert_int_equal(lseek(*fd, 0, SEEK_SET), 0);
    return path;
}

static const char *take(Fixture *f, const char *path, int fd)
{
    const char *text = file_read(&f->a, &f->d, path, NULL);
    close(fd);
    unlink(path);
    return text;
}

/* detent-opt with these words (separated by blanks) and this text on stdin. */
static Ran opt(Fixture *f, const char *words, const char *input)
{
    int         in, out, err, status = 0, argc = 0;
    const char *in_path = temp_with(f, input, &in), *out_path = temp_with(f, "", &out),
               *err_path = temp_with(f, "", &err);
    char *argv[32], *copy = arena_printf(&f->a, "detent-opt %s", words), *save = NULL;
    for (char *w = strtok_r(copy, " ", &save); w && argc < 32; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(in, 0);
        dup2(out, 1);
        dup2(err, 2);
        int code = opt_run(argc, argv);
        fflush(NULL);
        _exit(code);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    take(f, in_path, in);
    Ran r = { .out = take(f, out_path, out), .err = take(f, err_path, err) };
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}

static void assert_code(Ran r, int code)
{
    if (r.code != code)
        fail_msg("exit code %d, expected %d\n%s%s", r.code, code, r.out, r.err);
}

static void test_print(void **state)
{
    Fixture *f = *state;
    Ran      r = opt(f, "", net);
    assert_code(r, EXIT_OK);
    assert_string_equal(r.out, net);
    assert_string_equal(opt(f, "-", net).out, net);
    assert_string_equal(opt(f, "", r.out).out, r.out);
}

static void test_passes(void **state)
{
    Fixture *f = *state;
    Ran      r = opt(f, "--passes=canonicalize --print-ir-after-all --print-pipeline", net);
    assert_code(r, EXIT_OK);
    assert_has_not(r.out, "scale");
    assert_has(r.err, "--passes=canonicalize\n// after canonicalize"); /* apart from the result */
    assert_has(opt(f, "--passes=default --step=eval --stop-after=insert-quantize --print-pipeline", net).err,
               "--passes=canonicalize,fold-batchnorm,insert-quantize\n");
}

static void test_files(void **state)
{
    Fixture    *f = *state;
    int         in, out;
    const char *from = temp_with(f, net, &in), *to = temp_with(f, "old", &out);
    Ran         r = opt(f, arena_printf(&f->a, "%s --passes=canonicalize -o %s", from, to), "");
    assert_code(r, EXIT_OK);
    assert_string_equal(r.out, "");
    take(f, from, in);
    assert_has_not(take(f, to, out), "scale");
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *words, *input;
        int         code;
        const char *said;
    } rows[] = {
        { "--passes=simplfy", net, EXIT_MISTAKE, "no pass 'simplfy'; nearest: simplify" },
        { "--pases=simplify", net, EXIT_USAGE, "did you mean --passes" },
        { "--stop-after=fuse", net, EXIT_USAGE, "add --passes=LIST or --passes=default" },
        { "-o", net, EXIT_USAGE, "-o: expected a file" },
        { "a b", net, EXIT_USAGE, "expected one file, found 'b' too" },
        { "/nonexistent/x.dtir", net, EXIT_MISTAKE, "/nonexistent/x.dtir" },
        { "", "graph @x {\n  %0 = rellu %1 : f32[2]\n}\n", EXIT_MISTAKE, "<stdin>:2: error" },
        { "", "", EXIT_MISTAKE, "<stdin>:1: error" },
        { "", "graph @x {\n  %0 = input \"x\" : f32[2]\n  %1 = relu %0 : f32[3]\n  output %1 \"z\"\n}\n", EXIT_MISTAKE,
          "verify" },
        { "--run", net, EXIT_MISTAKE, "<stdin>:1: error" },
        { "", "// detent-opt: --passes=nothing\n", EXIT_MISTAKE, "error" },
        { "--passes=insert-quantize --method=lsq --bits=w1a1", net, EXIT_MISTAKE, "w1a1" },
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(rows); i++) {
        Ran r = opt(f, rows[i].words, rows[i].input);
        assert_code(r, rows[i].code);
        assert_string_equal(r.out, "");
        assert_has(r.err, rows[i].said);
    }
}

/* A bug leaves a reproducer; given to detent-opt without any flag it shows the bug again. */
static void test_replay(void **state)
{
    Fixture *f = *state;
    char    *dir = arena_strdup(&f->a, "/tmp/detent-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    Ran r = opt(f, arena_printf(&f->a, "--passes=canonicalize,test-type --step=eval --crash-dir=%s", dir), net);
    assert_code(r, 128 + 6);
    Ran again = opt(f, arena_printf(&f->a, "%s/reproducer.dtir --crash-dir=%s/2", dir, dir), "");
    assert_code(again, 128 + 6);
    assert_has(again.err, "pass test-type leaves a graph that breaks the rules");
    Ran other = opt(f, arena_printf(&f->a, "%s/reproducer.dtir --passes=test-noop --print-pipeline", dir), "");
    assert_code(other, EXIT_OK); /* --passes of the command line replaces that of the file */
    assert_has(other.err, "--passes=test-noop\n");
    assert_int_equal(system(arena_printf(&f->a, "rm -rf '%s'", dir)), 0);
}

static void test_bisect(void **state)
{
    Fixture *f = *state;
    int      in;
    /* blanks separate the words of opt(), so the command is a script */
    const char *script = temp_with(f, "test $DETENT_BISECT -lt 2", &in);
    Ran r = opt(f, arena_printf(&f->a, "--passes=canonicalize,simplify,test-noop --bisect-run=.$IFS%s", script), net);
    take(f, script, in);
    assert_code(r, EXIT_OK);
    assert_has(r.err, "first bad pass: simplify (2)\n");
}

static void test_run_kernel(void **state)
{
    Fixture *f = *state;
    Ran      r = opt(f, "--run", kernel);
    assert_code(r, EXIT_OK);
    assert_has(r.out, "@twice\n  y : f32[5] ");
    Str want = str_new(&f->a); /* the documented numbers: draw i of stream 0 (the buffer) with seed 1 */
    for (uint64_t i = 0; i < 5; i++) {
        str_add(&want, " ");
        str_add_f32(&want, 2 * rng_normal(1, 0, 0, i));
    }
    assert_has(r.out, arena_printf(&f->a, "%s\n", want.s));
    assert_string_equal(opt(f, "--run", kernel).out, r.out);
    assert_string_not_equal(opt(f, "--run --seed=2", kernel).out, r.out);
    assert_has(opt(f, "--run", arena_printf(&f->a, "%s%s", kernel, kernel)).out, "\n@twice\n"); /* each of the file */
}

static void test_help(void **state)
{
    Fixture *f = *state;
    Ran      r = opt(f, "--help", "");
    assert_code(r, EXIT_OK);
    assert_has(r.out, "usage: detent-opt");
    assert_has(r.out, "--print-ir-after");
    assert_has(opt(f, "--version", "").out, DT_VERSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_print),      fixture_test(test_passes), fixture_test(test_files),
        fixture_test(test_mistakes),   fixture_test(test_replay), fixture_test(test_bisect),
        fixture_test(test_run_kernel), fixture_test(test_help),
    };
    return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
