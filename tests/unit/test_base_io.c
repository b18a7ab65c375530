/* test_base_io.c: what of base/ meets the outside: files (whose writing is made to fail), messages, log, the end at a
 * bug, options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Fixture {
    Arena a;
    Diag  d;
    char  dir[64]; /* empty, removed with what is in it */
} Fixture;

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    f->d = diag_new(NULL);
    strcpy(f->dir, "/tmp/detent-base-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    char     command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    int rc = system(command);
    diag_free(&f->d);
    arena_free(&f->a);
    free(f);
    return rc;
}

static void assert_says(const Diag *d, const char *part)
{
    if (!strstr(d->text.s, part))
        fail_msg("expected '%s' in:\n%s", part, d->text.s);
}

/* ---- Files ---- */

static int32_t count_files(const char *dir)
{
    DIR    *d = opendir(dir);
    int32_t n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    closedir(d);
    return n;
}

static void test_file_round_trip(void **state)
{
    Fixture    *f = *state;
    const char *path = arena_printf(&f->a, "%s/x", f->dir);
    size_t      n = 100000, len;
    char       *data = arena_alloc(&f->a, n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)rng_u32(0, 0, 0, i);
    assert_true(file_write_atomic(&f->d, path, data, n));
    char *back = file_read(&f->a, &f->d, path, &len);
    assert_non_null(back);
    assert_int_equal(len, n);
    assert_memory_equal(back, data, n);
    assert_int_equal(back[n], 0);

    assert_int_equal(chmod(path, 0640), 0);
    assert_true(file_write_atomic(&f->d, path, "", 0)); /* the mode stays */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_size, 0);
    assert_string_equal(file_read(&f->a, &f->d, path, NULL), "");

    const char *link = arena_printf(&f->a, "%s/link", f->dir); /* a link stays a link */
    assert_int_equal(symlink("x", link), 0);
    assert_true(file_write_atomic(&f->d, link, "via link", 8));
    assert_string_equal(file_read(&f->a, &f->d, path, NULL), "via link");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(count_files(f->dir), 2);

    char *status = file_read(&f->a, &f->d, "/proc/self/status", &len); /* its size is told to be 0 */
    assert_non_null(status);
    assert_true(len > 100 && strstr(status, "Pid:"));
    assert_int_equal(f->d.errors, 0);
}

static void test_file_errors(void **state)
{
    Fixture    *f = *state;
    const char *none = arena_printf(&f->a, "%s/none", f->dir);
    assert_null(file_read(&f->a, &f->d, none, NULL));
    assert_says(&f->d, arena_printf(&f->a, "error: cannot read %s: No such file or directory\n  help: ", none));
    assert_null(file_read(&f->a, &f->d, f->dir, NULL));
    assert_says(&f->d, "Is a directory");

    const char *file = arena_printf(&f->a, "%s/file", f->dir);
    assert_true(file_write_atomic(&f->d, file, "old", 3));
    const char *below = arena_printf(&f->a, "%s/file/x", f->dir);
    assert_false(file_write_atomic(&f->d, below, "new", 3));
    assert_says(&f->d, arena_printf(&f->a, "cannot write %s: Not a directory\n  help: a part of this path", below));
    assert_false(file_write_atomic(&f->d, f->dir, "new", 3));
    assert_false(file_write_atomic(&f->d, "", "new", 3));
    assert_false(file_write_atomic(&f->d, arena_printf(&f->a, "%s/none/x", f->dir), "new", 3));
    assert_int_equal(f->d.errors, 6);
    assert_int_equal(count_files(f->dir), 1);
}

static void test_file_full_disk(void **state)
{
    Fixture *f = *state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_false(file_write_atomic(&f->d, "/dev/full", "new", 3));
    assert_says(&f->d, "cannot write /dev/full: No space left on device\n  help: the disk is full");
    struct stat st;
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); /* the device was not replaced */
}

/* Runs `body` in a child; its exit status. */
static int in_child(int (*body)(Fixture *), Fixture *f)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(body(f));
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int full_tmpfs(Fixture *f)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", f->dir, "tmpfs", 0, "size=64k") != 0)
        return 77;
    const char *path = arena_printf(&f->a, "%s/x", f->dir);
    if (!file_write_atomic(&f->d, path, "old", 3))
        return 1;
    if (file_write_atomic(&f->d, path, arena_alloc(&f->a, 1 << 20), 1 << 20))
        return 2;
    if (!strstr(f->d.text.s, "No space left on device\n  help: the disk is full"))
        return 3;
    char *old = file_read(&f->a, &f->d, path, NULL);
    return !old || strcmp(old, "old") != 0 ? 4 : count_files(f->dir) != 1 ? 5 : 0;
}

static void test_file_full_tmpfs(void **state)
{
    int rc = in_child(full_tmpfs, *state);
    if (rc == 77)
        skip(); /* mounting is not allowed here */
    assert_int_equal(rc, 0);
}

static int over_limit(Fixture *f)
{
    const char *path = arena_printf(&f->a, "%s/x", f->dir);
    if (!file_write_atomic(&f->d, path, "old", 3))
        return 1;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = { 8192, 8192 };
    setrlimit(RLIMIT_FSIZE, &limit);
    if (file_write_atomic(&f->d, path, arena_alloc(&f->a, 65536), 65536))
        return 2;
    if (!strstr(f->d.text.s, "File too large\n  help: "))
        return 3;
    char *old = file_read(&f->a, &f->d, path, NULL);
    return !old || strcmp(old, "old") != 0 ? 4 : count_files(f->dir) != 1 ? 5 : 0;
}

/* The disk gives up in the middle: the old file stays, the temporary one goes. */
static void test_file_fails_midway(void **state)
{
    assert_int_equal(in_child(over_limit, *state), 0);
}

static void test_dir_make(void **state)
{
    Fixture    *f = *state;
    const char *deep = arena_printf(&f->a, "%s/a//b/c/", f->dir);
    assert_true(dir_make(&f->d, deep));
    assert_true(dir_make(&f->d, deep));
    assert_true(file_write_atomic(&f->d, arena_printf(&f->a, "%s/file", deep), "", 0));
    const char *file = arena_printf(&f->a, "%s/a/b/c/file", f->dir);
    assert_false(dir_make(&f->d, arena_printf(&f->a, "%s/x", file)));
    assert_says(&f->d, arena_printf(&f->a, "cannot make directory %s: Not a directory\n", file));
    assert_false(dir_make(&f->d, ""));
    assert_int_equal(f->d.errors, 2);
}

/* ---- Diagnostics, log, bugs ---- */

static void test_diag(void **state)
{
    Fixture *f = *state;
    diag_error(&f->d, (Loc){ "net.c", 146 }, "add: shapes differ: lhs %d, rhs %d", 1, 2);
    diag_note(&f->d, (Loc){ "net.c", 144 }, "lhs is made here");
    diag_help(&f->d, "give it .stride = %d", 2);
    diag_warning(&f->d, (Loc){ "net.c", 0 }, "no line");
    diag_error(&f->d, LOC_NONE, "%s", "no place");
    assert_string_equal(f->d.text.s, "net.c:146: error: add: shapes differ: lhs 1, rhs 2\n"
                                     "  net.c:144: note: lhs is made here\n"
                                     "  help: give it .stride = 2\n"
                                     "net.c: warning: no line\n"
                                     "error: no place\n");
    assert_int_equal(f->d.errors, 2);
    assert_int_equal(f->d.warnings, 1);

    char  *printed = NULL;
    size_t len = 0;
    FILE  *out = open_memstream(&printed, &len);
    Diag   d = diag_new(out);
    diag_error(&d, LOC_NONE, "one");
    diag_error(&d, LOC_NONE, "two");
    fclose(out);
    assert_string_equal(printed, "error: one\nerror: two\n");
    free(printed);
    diag_free(&d);
}

static void to_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 2);
    close(fd);
}

static void hook_writes(void *user, const char *message)
{
    fprintf(stderr, "hook %s: %zu bytes\n", (const char *)user, strlen(message));
    DT_ASSERT(false, "a bug within the hook");
}

static int bug(Fixture *f)
{
    to_file(arena_printf(&f->a, "%s/err", f->dir));
    char user[] = "of test";
    dt_set_bug_hook(hook_writes, user);
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    DT_ASSERT(f->d.errors == 3, "found %d errors", f->d.errors);
    return 0;
}

static void test_bug(void **state)
{
    Fixture *f = *state;
    assert_int_equal(in_child(bug, f), 128 + SIGABRT);
    char *text = file_read(&f->a, &f->d, arena_printf(&f->a, "%s/err", f->dir), NULL);
    assert_non_null(text);
    assert_non_null(strstr(text, "test_base_io.c:"));
    assert_non_null(strstr(text, ": internal error: f->d.errors == 3: found 0 errors\nhook of test: "));
    assert_non_null(strstr(text, "a bug within the hook\n"));
}

static int log_all(Fixture *f)
{
    to_file(arena_printf(&f->a, "%s/log", f->dir));
    log_info("info %d", 1);
    log_debug("hidden");
    log_set_level(LOG_DEBUG);
    log_debug("debug %d", 2);
    log_set_level(LOG_QUIET);
    log_info("hidden");
    return 0;
}

static void test_log(void **state)
{
    Fixture *f = *state;
    assert_int_equal(in_child(log_all, f), 0);
    char *text = file_read(&f->a, &f->d, arena_printf(&f->a, "%s/log", f->dir), NULL);
    assert_non_null(text);
    assert_string_equal(text, "info 1\ndebug 2\n");
    double from = time_now_s();
    usleep(2000);
    assert_true(time_now_s() - from >= 0.002);
}

/* ---- Options ---- */

typedef struct Opts {
    bool        fuse, verbose;
    int64_t     batch, seed;
    double      lr;
    const char *out, *backend, *dump;
    StrList     keep, set;
} Opts;

// clang-format off
static const OptDef defs[] = {
    { OPT_FLAG,   "fuse",    NULL, NULL,             "true", 0, 0,   offsetof(Opts, fuse),    "Fuse element-wise ops." },
    { OPT_FLAG,   "verbose", NULL, NULL,             NULL,   0, 0,   offsetof(Opts, verbose), "Say more." },
    { OPT_INT,    "batch",   "N",  NULL,             "64",   1, 512, offsetof(Opts, batch),   "Images in a step." },
    { OPT_INT,    "seed",    "N",  NULL,             NULL,   0, 0,   offsetof(Opts, seed),    "Seed." },
    { OPT_FLOAT,  "lr",      "X",  NULL,             "0.1",  0, 10,  offsetof(Opts, lr),      "Learning rate." },
    { OPT_STRING, "out",     "DIR", NULL,            "runs", 0, 0,   offsetof(Opts, out),     "Where the run lies." },
    { OPT_CHOICE, "backend", NULL, "cpu|cuda|sim",   "cpu",  0, 0,   offsetof(Opts, backend), "What runs the program." },
    { OPT_CHOICE, "dump",    NULL, "|ir|kernels",    NULL,   0, 0,   offsetof(Opts, dump),    "Print what is compiled." },
    { OPT_LIST,   "keep",    "A,B", NULL,            "stem.*,fc", 0, 0, offsetof(Opts, keep), "What stays f32, as a list of patterns of names; a pattern may hold stars and braces and is matched against the whole name." },
    { OPT_TEXTS,  "set",     "K=V", NULL,            NULL,   0, 0,   offsetof(Opts, set),     "A setting." },
};
// clang-format on

static bool parse(Fixture *f, Opts *o, StrList *rest, const char *line)
{
    char *argv[32];
    int   argc = 0;
    char *copy = arena_strdup(&f->a, line);
    memset(o, 0x5A, sizeof *o); /* every field is written */
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return opts_parse(&f->a, &f->d, defs, DT_COUNT(defs), argc, argv, o, rest);
}

static void test_opts_values(void **state)
{
    Fixture *f = *state;
    Opts     o;
    StrList  rest;
    assert_true(parse(f, &o, &rest, ""));
    assert_true(o.fuse && !o.verbose && o.batch == 64 && o.seed == 0 && o.lr == 0.1);
    assert_string_equal(o.out, "runs");
    assert_string_equal(o.backend, "cpu");
    assert_null(o.dump);
    assert_int_equal(o.keep.len, 2);
    assert_string_equal(o.keep.at[1], "fc");
    assert_int_equal(rest.len, 0);

    assert_true(parse(f, &o, &rest,
                      "train --no-fuse mnist --batch=8 --lr 1e-3 --seed -5 --verbose --batch 16 --dump "
                      "--keep=a{0,1}.*,,b --keep c --backend=sim - -- --batch=0 x"));
    assert_true(!o.fuse && o.verbose && o.batch == 16 && o.seed == -5 && o.lr == 1e-3);
    assert_string_equal(o.dump, "");
    assert_string_equal(o.backend, "sim");
    assert_int_equal(o.keep.len, 3);
    assert_string_equal(o.keep.at[0], "a{0,1}.*");
    assert_string_equal(o.keep.at[2], "c");
    assert_int_equal(rest.len, 5);
    assert_string_equal(rest.at[0], "train");
    assert_string_equal(rest.at[2], "-");
    assert_string_equal(rest.at[3], "--batch=0");

    assert_true(parse(f, &o, &rest, "--dump=ir --keep= --fuse=off --out="));
    assert_string_equal(o.dump, "ir");
    assert_string_equal(o.out, "");
    assert_int_equal(o.keep.len, 0);
    assert_false(o.fuse);
    assert_int_equal(f->d.errors, 0);
}

/* One entry a value, whatever it holds. */
static void test_opts_texts(void **state)
{
    Fixture *f = *state;
    Opts     o;
    StrList  rest;
    char    *argv[] = { (char *)"--set", (char *)"lambda=1,10,100", (char *)"--set=", (char *)"--set=a b,{c",
                        (char *)"--set=--keep" };
    assert_true(opts_parse(&f->a, &f->d, defs, DT_COUNT(defs), DT_COUNT(argv), argv, &o, &rest));
    assert_int_equal(o.set.len, 4);
    assert_string_equal(o.set.at[0], "lambda=1,10,100");
    assert_string_equal(o.set.at[1], "");
    assert_string_equal(o.set.at[2], "a b,{c");
    assert_string_equal(o.set.at[3], "--keep");
    assert_true(parse(f, &o, &rest, ""));
    assert_int_equal(o.set.len, 0);
}

/* A value from a file: checked as on the command line, told with its place. */
static void test_opts_set(void **state)
{
    Fixture *f = *state;
    Opts     o;
    StrList  rest;
    Loc      at = { "my.ini", 7 };
    assert_true(parse(f, &o, &rest, "--keep=x"));
    assert_true(opts_set(&f->a, &f->d, at, "ini: batch", &defs[2], "16", &o));
    assert_int_equal(o.batch, 16);
    assert_false(opts_set(&f->a, &f->d, at, "ini: batch", &defs[2], "513", &o));
    assert_says(&f->d, "my.ini:7: error: ini: batch: expected an integer from 1 to 512, found '513'\n");
    assert_false(opts_set(&f->a, &f->d, at, "ini: backend", &defs[6], "cdua", &o));
    assert_says(&f->d, "my.ini:7: error: ini: backend: expected cpu, cuda or sim, found 'cdua'\n");
    assert_true(opts_set(&f->a, &f->d, at, "ini: keep", &defs[8], "y,z", &o)); /* lists grow */
    assert_int_equal(o.keep.len, 3);
    assert_string_equal(o.keep.at[2], "z");
}

/* Words of a line, there and back: what is plain stays as it is. */
static void test_opts_words(void **state)
{
    static const char *const words[] = {
        "--set=noise=0.5,1@80%", "a b", "", "it's", "tab\there", "\\", "'", "s{0,1}.*", "line\nend", "\xc3\xa4"
    };
    Fixture *f = *state;
    StrList  list;
    Str      line = str_new(&f->a);
    for (int32_t i = 0; i < DT_COUNT(words); i++) {
        str_add(&line, i > 0 ? "  " : " ");
        opts_quote(&line, words[i]);
    }
    assert_non_null(strstr(line.s, " --set=noise=0.5,1@80%  'a b'  ''  'it'\\''s'  "));
    assert_true(opts_words(&f->a, line.s, &list));
    assert_int_equal(list.len, DT_COUNT(words));
    for (int32_t i = 0; i < DT_COUNT(words); i++)
        assert_string_equal(list.at[i], words[i]);
    assert_true(opts_words(&f->a, "  ", &list));
    assert_int_equal(list.len, 0);
    assert_true(opts_words(&f->a, "a'b c'd e\\ f", &list));
    assert_int_equal(list.len, 2);
    assert_string_equal(list.at[0], "ab cd");
    assert_string_equal(list.at[1], "e f");
    assert_false(opts_words(&f->a, "a 'b c", &list));
}

static void test_opts_mistakes(void **state)
{
    Fixture *f = *state;
    // clang-format off
    static const struct {
        const char *line, *message;
    } rows[] = {
        { "--bacth=4", "error: unknown option: expected one of the options that --help lists, found '--bacth=4'\n"
                       "  help: did you mean --batch?\n" },
        { "--zzz", "error: unknown option: expected one of the options that --help lists, found '--zzz'\n" },
        { "-b", "found '-b'\n" },
        { "-seed", "found '-seed'\n  help: did you mean --seed?\n" },
        { "--no-batch", "found '--no-batch'\n" },
        { "--batch=0", "error: --batch: expected an integer from 1 to 512, found '0'\n" },
        { "--batch=4x", "expected an integer from 1 to 512, found '4x'\n" },
        { "--batch=", "expected an integer from 1 to 512, found ''\n" },
        { "--seed=99999999999999999999", "--seed: expected an integer, found '99999999999999999999'\n" },
        { "--batch", "error: --batch: expected a value, found the end of the command line\n  help: write --batch=N\n" },
        { "--batch --fuse", "error: --batch: expected a value, found the option '--fuse'\n" },
        { "--lr=fast", "error: --lr: expected a number from 0 to 10, found 'fast'\n" },
        { "--lr=nan", "found 'nan'\n" },
        { "--fuse=maybe", "error: --fuse: expected true or false, found 'maybe'\n" },
        { "--no-fuse=1", "error: --no-fuse: expected no value, found '1'\n" },
        { "--backend=cdua", "error: --backend: expected cpu, cuda or sim, found 'cdua'\n  help: did you mean cuda or cpu?\n" },
        { "--dump=x", "error: --dump: expected ir or kernels, found 'x'\n" },
    };
    // clang-format on
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Opts    o;
        StrList rest;
        diag_free(&f->d);
        f->d = diag_new(NULL);
        assert_false(parse(f, &o, &rest, rows[i].line));
        assert_int_equal(f->d.errors, 1);
        assert_says(&f->d, rows[i].message);
    }
    Opts    o;
    StrList rest;
    f->d.errors = 0;
    assert_false(parse(f, &o, &rest, "--batch=0 --lr=x --nope"));
    assert_int_equal(f->d.errors, 3); /* all of them at once */
}

static void test_opts_help(void **state)
{
    Fixture *f = *state;
    Str      s = str_new(&f->a);
    opts_help(&s, defs, DT_COUNT(defs));
    assert_string_equal(
        s.s, "  --[no-]fuse                 Fuse element-wise ops. [default: true]\n"
             "  --verbose                   Say more.\n"
             "  --batch=N                   Images in a step. A number from 1 to 512. [default: 64]\n"
             "  --seed=N                    Seed.\n"
             "  --lr=X                      Learning rate. A number from 0 to 10. [default: 0.1]\n"
             "  --out=DIR                   Where the run lies. [default: runs]\n"
             "  --backend=cpu|cuda|sim      What runs the program. [default: cpu]\n"
             "  --dump[=ir|kernels]         Print what is compiled.\n"
             "  --keep=A,B                  What stays f32, as a list of patterns of names; a pattern may hold\n"
             "                              stars and braces and is matched against the whole name. [default:\n"
             "                              stem.*,fc]\n"
             "  --set=K=V                   A setting.\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    // clang-format off
    const struct CMUnitTest tests[] = {
        TEST(file_round_trip), TEST(file_errors), TEST(file_full_disk), TEST(file_full_tmpfs),
        TEST(file_fails_midway), TEST(dir_make), TEST(diag), TEST(bug), TEST(log), TEST(opts_values),
        TEST(opts_mistakes), TEST(opts_texts), TEST(opts_set), TEST(opts_words), TEST(opts_help),
    };
    // clang-format on
    return cmocka_run_group_tests_name("base_io", tests, NULL, NULL);
}
