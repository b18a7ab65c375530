/* test_dynlib.c: libraries loaded at run time. The ones looked for here are compiled on the spot: whole, without a
 * function, damaged, of another machine, with a companion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Fixture {
    Arena a;
    Diag  d;
    char  dir[64];
} Fixture;

/* Each test uses names of its own: what was loaded once stays loaded. */
static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    f->d = diag_new(NULL);
    strcpy(f->dir, "/tmp/detent-dynlib-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    setenv("DETENT_TEST_DIR", f->dir, 1);
    unsetenv("DETENT_TEST_LIB");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    int      rc = system(arena_printf(&f->a, "rm -rf '%s'", f->dir));
    diag_free(&f->d);
    arena_free(&f->a);
    free(f);
    return rc;
}

static const char *in(Fixture *f, const char *name)
{
    return arena_printf(&f->a, "%s/%s", f->dir, name);
}

/* A library DIR/name from C text; `flags` for the compiler. */
static void build(Fixture *f, const char *name, const char *text, const char *flags)
{
    char *c = arena_printf(&f->a, "%s/%s.c", f->dir, "source");
    FILE *out = fopen(c, "w");
    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(system(arena_printf(&f->a, "mkdir -p $(dirname '%s/%s')", f->dir, name)), 0);
    assert_int_equal(system(arena_printf(&f->a, "cc -shared -fPIC -o '%s/%s' '%s' %s", f->dir, name, c, flags)), 0);
}

static void copy_bytes(Fixture *f, const char *name, const void *data, size_t len)
{
    FILE *out = fopen(in(f, name), "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static void assert_says(Fixture *f, const char *part)
{
    const char *text = f->d.text.s ? f->d.text.s : "";
    if (!strstr(text, part))
        fail_msg("expected '%s' in:\n%s", part, text);
}

static void assert_silent_about(Fixture *f, const char *part)
{
    if (strstr(f->d.text.s, part))
        fail_msg("'%s' should not be in:\n%s", part, f->d.text.s);
}

typedef struct Table {
    int (*number)(void);
    int (*extra)(void);
} Table;

static const DynFunc     funcs[] = { { "dt_number", offsetof(Table, number), false },
                                     { "dt_extra", offsetof(Table, extra), true } };
static const char *const dirs[] = { "$DETENT_TEST_UNSET/lib", "$DETENT_TEST_DIR/v*", "$DETENT_TEST_DIR/plain", NULL };

static const char       *open_lib(Fixture *f, const char *name, const char *older, Table *t)
{
    const char *names[] = { name, older, NULL };
    DynLib      lib = { .what = "test library",
                        .names = names,
                        .dirs = dirs,
                        .env = "DETENT_TEST_LIB",
                        .install = "apt-get install it",
                        .funcs = funcs,
                        .n_funcs = DT_COUNT(funcs) };
    return dynlib_open(&f->a, &f->d, &lib, t);
}

#define NUMBER(n) "int dt_number(void) { return " #n "; }\n"

/* ---- Found ---- */

static void test_found(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "plain/libdt_found.so.1", NUMBER(7), "");
    assert_string_equal(open_lib(f, "libdt_found.so.1", NULL, &t), in(f, "plain/libdt_found.so.1"));
    assert_int_equal(t.number(), 7);
    assert_null(t.extra); /* may be missing */
    assert_int_equal(f->d.errors, 0);
}

/* Newer directories before older ones by number, not by letter; in each, the names in order. */
static void test_order(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "v9/libdt_order.so.2", NUMBER(92), "");
    build(f, "v10/libdt_order.so.1", NUMBER(101), "");
    assert_string_equal(open_lib(f, "libdt_order.so.2", "libdt_order.so.1", &t), in(f, "v10/libdt_order.so.1"));
    assert_int_equal(t.number(), 101);
    build(f, "v10/libdt_order.so.2", NUMBER(102) "int dt_extra(void) { return 5; }\n", "");
    assert_string_equal(open_lib(f, "libdt_order.so.2", "libdt_order.so.1", &t), in(f, "v10/libdt_order.so.2"));
    assert_int_equal(t.number(), 102);
    assert_int_equal(t.extra(), 5);
}

/* The loader's own place goes first: a name it knows already is that library. */
static void test_loader_first(void **state)
{
    Fixture *f = *state;
    struct {
        double (*sine)(double);
    } t;
    static const char *const names[] = { "libm.so.6", NULL };
    static const DynFunc     sine = { "sin", 0, false };
    DynLib                   lib = { .what = "maths", .names = names, .dirs = dirs, .funcs = &sine, .n_funcs = 1 };
    build(f, "plain/libm.so.6", NUMBER(1), "");
    const char *path = dynlib_open(&f->a, &f->d, &lib, &t);
    assert_non_null(path);
    assert_int_equal(path[0], '/');
    assert_null(strstr(path, f->dir));
    assert_true(t.sine(0) == 0);
}

/* A variable's value is a name, not a pattern. */
static void test_odd_directory(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "a[b]*c/plain/libdt_odd.so", NUMBER(3), "");
    setenv("DETENT_TEST_DIR", in(f, "a[b]*c"), 1);
    assert_non_null(open_lib(f, "libdt_odd.so", NULL, &t));
    assert_int_equal(t.number(), 3);
}

/* ---- The user's own choice ---- */

static void test_variable(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "plain/libdt_var.so", NUMBER(1), "");
    build(f, "mine/libdt_var.so", NUMBER(2), "");
    build(f, "mine/another_name.so", NUMBER(3), "");
    setenv("DETENT_TEST_LIB", in(f, "mine"), 1);
    assert_string_equal(open_lib(f, "libdt_var.so", NULL, &t), in(f, "mine/libdt_var.so"));
    assert_int_equal(t.number(), 2);
    setenv("DETENT_TEST_LIB", in(f, "mine/another_name.so"), 1);
    assert_non_null(open_lib(f, "libdt_var.so", NULL, &t));
    assert_int_equal(t.number(), 3);
    setenv("DETENT_TEST_LIB", arena_printf(&f->a, "/nowhere:%s", in(f, "mine")), 1);
    assert_non_null(open_lib(f, "libdt_var.so", NULL, &t));
    assert_int_equal(t.number(), 2);
    assert_int_equal(f->d.errors, 0);
    setenv("DETENT_TEST_LIB", "", 1); /* as if it were not set */
    assert_non_null(open_lib(f, "libdt_var.so", NULL, &t));
    assert_int_equal(t.number(), 1);
}

static void test_variable_wrong(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "plain/libdt_wrong.so", NUMBER(1), ""); /* is not looked at */
    mkdir(in(f, "empty"), 0777);
    setenv("DETENT_TEST_LIB", arena_printf(&f->a, "/nowhere:%s", in(f, "empty")), 1);
    assert_null(open_lib(f, "libdt_wrong.so", NULL, &t));
    assert_null(t.number);
    assert_int_equal(f->d.errors, 1);
    assert_says(f, "error: test library: no library that can be used\n");
    assert_says(f, "note: /nowhere: No such file or directory\n");
    assert_says(f, "/empty: none of these names is in this directory\n");
    assert_says(f, "looked for libdt_wrong.so in DETENT_TEST_LIB=/nowhere:");
    assert_says(f, "help: apt-get install it; or unset DETENT_TEST_LIB");
}

/* ---- Not found ---- */

static void test_missing(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    assert_null(open_lib(f, "libdt_missing.so.2", "libdt_missing.so.1", &t));
    assert_null(t.number);
    assert_int_equal(f->d.errors, 1);
    assert_says(f, "error: test library: not found on this machine\n");
    assert_says(f, "looked for libdt_missing.so.2, libdt_missing.so.1 where the loader looks and in "
                   "$DETENT_TEST_UNSET/lib, $DETENT_TEST_DIR/v*, $DETENT_TEST_DIR/plain\n");
    assert_says(f, "help: apt-get install it; or set DETENT_TEST_LIB to the library's file or directory\n");
}

/* Whatever is wrong with a file, the next one is tried, and the table is filled from one library alone. */
static void test_next_is_tried(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "v3/libdt_next.so", "int dt_extra(void) { return 1; }\n", "");
    build(f, "plain/libdt_next.so", NUMBER(4), "");
    assert_string_equal(open_lib(f, "libdt_next.so", NULL, &t), in(f, "plain/libdt_next.so"));
    assert_int_equal(t.number(), 4);
    assert_null(t.extra);
    assert_int_equal(f->d.errors, 0);
}

static void test_unusable(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "v5/libdt_bad.so", "int dt_extra(void) { return 1; }\n", "");
    build(f, "v4/libdt_bad.so", NUMBER(1) "int dt_absent(void); int dt_calls(void) { return dt_absent(); }\n", "");
    char  *elf;
    size_t len;
    assert_non_null(elf = file_read(&f->a, &f->d, in(f, "v5/libdt_bad.so"), &len));
    assert_int_equal(
        system(arena_printf(&f->a, "mkdir -p '%s/v3' '%s/v2' '%s/v1' '%s/plain'", f->dir, f->dir, f->dir, f->dir)), 0);
    copy_bytes(f, "v3/libdt_bad.so", elf, 40);
    copy_bytes(f, "v2/libdt_bad.so", "not a library, but long enough to have the header of one; no bytes of it fit",
               70);
    char *other = arena_copy(&f->a, elf, len);
    other[18] = 2; /* e_machine: SPARC */
    copy_bytes(f, "v1/libdt_bad.so", other, len);
    mkdir(in(f, "plain/libdt_bad.so"), 0777);
    assert_null(open_lib(f, "libdt_bad.so", NULL, &t));
    assert_null(t.number);
    assert_null(t.extra);
    assert_int_equal(f->d.errors, 1);
    assert_says(f, "error: test library: no library that can be used\n");
    assert_says(f, "/v5/libdt_bad.so: too old: it has no dt_number\n");
    assert_says(f, "/v4/libdt_bad.so: undefined symbol: dt_absent\n");
    assert_says(f, "/v3/libdt_bad.so: file too short\n");
    assert_says(f, "/v2/libdt_bad.so: invalid ELF header\n");
    assert_says(f, "/v1/libdt_bad.so: ");
    assert_says(f, "/plain/libdt_bad.so: ");
    assert_silent_about(f, "more\n");
}

static void test_many_unusable(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    for (int i = 10; i < 20; i++) {
        assert_int_equal(mkdir(in(f, arena_printf(&f->a, "v%d", i)), 0777), 0);
        copy_bytes(f, arena_printf(&f->a, "v%d/libdt_many.so", i), "x", 1);
    }
    assert_null(open_lib(f, "libdt_many.so", NULL, &t));
    assert_says(f, "/v19/libdt_many.so: file too short\n");
    assert_says(f, "/v14/libdt_many.so: ");
    assert_silent_about(f, "/v13/");
    assert_says(f, "note: and 4 more\n");
}

/* What it needs is missing: that is said, not that the library itself is. */
static void test_needs_another(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "libdt_needed.so", "int dt_needed(void) { return 1; }\n", "-Wl,-soname,libdt_needed.so");
    build(f, "plain/libdt_needs.so", NUMBER(1) "int dt_needed(void); int dt_calls(void) { return dt_needed(); }\n",
          arena_printf(&f->a, "-L'%s' -ldt_needed", f->dir));
    assert_null(open_lib(f, "libdt_needs.so", NULL, &t));
    assert_says(f, "/plain/libdt_needs.so: libdt_needed.so: cannot open shared object file");
}

/* A library that loads another by its bare name finds the one beside it. */
static void test_companion(void **state)
{
    Fixture *f = *state;
    Table    t = { 0 };
    build(f, "plain/libdt_builtins.so.3", "int dt_builtin(void) { return 33; }\n", "-Wl,-soname,libdt_builtins.so.3");
    build(f, "plain/libdt_whole.so",
          "#include <dlfcn.h>\n#include <stddef.h>\n"
          "int dt_number(void) { void *h = dlopen(\"libdt_builtins.so.3\", RTLD_NOW);\n"
          "    int (*fn)(void) = h ? (int (*)(void))dlsym(h, \"dt_builtin\") : NULL; return fn ? fn() : -1; }\n",
          "-ldl");
    static const char *const names[] = { "libdt_whole.so", NULL };
    DynLib lib = { .what = "whole", .names = names, .dirs = dirs, .funcs = funcs, .n_funcs = DT_COUNT(funcs) };
    assert_non_null(dynlib_open(&f->a, &f->d, &lib, &t));
    assert_int_equal(t.number(), -1);
    lib.beside = "libdt_builtins.so.*";
    assert_non_null(dynlib_open(&f->a, &f->d, &lib, &t));
    assert_int_equal(t.number(), 33);
}

/* ---- The list of places ---- */

static void test_places(void **state)
{
    (void)state;
    int32_t n = 0;
    for (; dynlib_gpu_dirs[n]; n++) {
        const char *dir = dynlib_gpu_dirs[n];
        assert_true(dir[0] == '/' || dir[0] == '$' || strncmp(dir, "~/", 2) == 0);
        assert_int_not_equal(dir[strlen(dir) - 1], '/');
        for (int32_t i = 0; i < n; i++)
            assert_string_not_equal(dir, dynlib_gpu_dirs[i]);
    }
    assert_true(n > 5);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_found),    TEST(test_order),          TEST(test_loader_first),  TEST(test_odd_directory),
        TEST(test_variable), TEST(test_variable_wrong), TEST(test_missing),       TEST(test_next_is_tried),
        TEST(test_unusable), TEST(test_many_unusable),  TEST(test_needs_another), TEST(test_companion),
        TEST(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
