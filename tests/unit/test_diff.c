/* test_diff.c: `detent diff`, run as people run it, on small files that are written here. Every table is compared whole
 * or line by line, and every SQNR with one that was worked out by hand. */
#include "tests/unit/cli_fixture.h"

#include <math.h>

/* A file in the making; what it points to lives as long as the test. */
typedef struct Maker {
    Cli   *c;
    StFile f;
} Maker;

static void add(Maker *m, const char *name, DType type, int64_t rows, int64_t columns, const void *data)
{
    StTensor t = { .name = name, .dtype = type, .rank = rows > 0 ? 2 : 0, .dim = { rows, columns }, .data = data };
    t.elems = rows > 0 ? rows * columns : 1;
    t.bytes = t.elems * (type == DTYPE_U8 ? 1 : 4);
    vec_push(&m->c->a, &m->f.tensors, t);
}

static void tell(Maker *m, const char *key, const char *value)
{
    vec_push(&m->c->a, &m->f.meta, (StMeta){ key, value });
}

static void save(Maker *m, const char *file)
{
    if (!st_write(&m->c->d, cli_path(m->c, file), &m->f))
        fail_msg("%s", m->c->d.text.s);
}

/* conv 2x2 {3, 4, 0, 0}, bias (a scalar), and a count of another type. `conv` NULL: as said. */
static void save_net(Cli *c, const char *file, const float *conv)
{
    static const float   usual[] = { 3, 4, 0, 0 }, bias = 0.5f;
    static const int32_t count[] = { 7, 8 };
    Maker                m = { .c = c };
    add(&m, "z.conv", DTYPE_F32, 2, 2, conv != NULL ? conv : usual);
    add(&m, "bias", DTYPE_F32, 0, 0, &bias);
    add(&m, "count", DTYPE_I32, 1, 2, count);
    tell(&m, "net", "tiny");
    save(&m, file);
}

static void test_equal(void **state)
{
    Cli              *c = *state;
    static const char table[] = "tensor  shape      differ      largest   SQNR dB\n"
                                "z.conv  2x2             0            0     equal\n"
                                "bias    scalar          0            0     equal\n"
                                "count   1x2             0            0     equal\n"
                                "3 tensors, 3 equal\n";
    save_net(c, "a", NULL);
    save_net(c, "b", NULL);
    Ran r = cli_ok(c, "$DETENT diff a b");
    assert_string_equal(r.out, table);
    assert_string_equal(r.err, "");
    assert_string_equal(cli_ok(c, "$DETENT diff a a").out, table);
}

/* sum a^2 = 25; one element is off by 0.5: 10 log10(25 / 0.25) = 20 dB. Off by 1 and by 2: 10 log10(25 / 5) = 6.99. */
static void test_one_element(void **state)
{
    static const float off[] = { 3.5f, 4, 0, 0 }, two[] = { 3, 5, -2, 0 }, zero[] = { 3, 4, 0, -0.0f };
    Cli               *c = *state;
    save_net(c, "a", NULL);
    save_net(c, "off", off);
    save_net(c, "two", two);
    save_net(c, "zero", zero);
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a off");
    assert_string_equal(r.err, "");
    assert_in(r, r.out, "z.conv  2x2             1          0.5     20.00\n");
    assert_in(r, r.out, "3 tensors, 2 equal; the first that differs: z.conv; the worst SQNR: 20.00 dB, z.conv\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a two");
    assert_in(r, r.out, "z.conv  2x2             2            2      6.99\n");
    /* A is the reference: sum a^2 is 3.5^2 + 4^2 = 28.25 the other way round, 20.53 dB */
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff off a");
    assert_in(r, r.out, "z.conv  2x2             1          0.5     20.53\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a zero"); /* one bit, but no difference */
    assert_in(r, r.out, "z.conv  2x2             1            0       inf\n");
}

/* The first is the first of A's file, not of the alphabet; the worst is another. All zeros have no signal: -inf. */
static void test_first_and_worst(void **state)
{
    static const float ones[] = { 1, 1 }, near[] = { 1, 1.125f }, far[] = { 2, 2 }, zeros[] = { 0, 0 };
    Cli               *c = *state;
    Maker              a = { .c = c }, b = { .c = c };
    add(&a, "same", DTYPE_F32, 1, 2, ones), add(&b, "far", DTYPE_F32, 1, 2, far);
    add(&a, "near", DTYPE_F32, 1, 2, ones), add(&b, "near", DTYPE_F32, 1, 2, near);
    add(&a, "far", DTYPE_F32, 1, 2, ones), add(&b, "same", DTYPE_F32, 1, 2, ones);
    save(&a, "a");
    save(&b, "b");
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a b");
    assert_in(r, r.out, "near    1x2            1        0.125     21.07\n"); /* 10 log10(2 / 0.015625) */
    assert_in(r, r.out, "far     1x2            2            1      0.00\n");
    assert_in(r, r.out, "\n3 tensors, 1 equal; the first that differs: near; the worst SQNR: 0.00 dB, far\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff b a");
    assert_in(r, r.out, "the first that differs: far; the worst SQNR: 6.02 dB, far\n"); /* 10 log10(8 / 2) = 6.02 */

    add(&a, "none", DTYPE_F32, 1, 2, zeros), add(&b, "none", DTYPE_F32, 1, 2, ones);
    save(&a, "a");
    save(&b, "b");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a b");
    assert_in(r, r.out, "; the worst SQNR: -inf dB, none\n");
}

static void test_missing(void **state)
{
    static const float one = 1;
    Cli               *c = *state;
    Maker              a = { .c = c }, b = { .c = c };
    add(&a, "both", DTYPE_F32, 0, 0, &one), add(&b, "both", DTYPE_F32, 0, 0, &one);
    save(&b, "less");
    add(&a, "mine", DTYPE_F32, 0, 0, &one), add(&b, "yours", DTYPE_F32, 0, 0, &one);
    save(&a, "a");
    save(&b, "b");
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a b");
    assert_string_equal(r.out, "tensor  shape      differ      largest   SQNR dB\n"
                               "both    scalar          0            0     equal\n"
                               "mine    scalar          -            -         -  only in A\n"
                               "yours   scalar          -            -         -  only in B\n"
                               "3 tensors, 1 equal; the first that differs: mine\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a less");
    assert_in(r, r.out, "only in A\n2 tensors, 1 equal; the first that differs: mine\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff less a");
    assert_in(r, r.out, "only in B\n2 tensors, 1 equal; the first that differs: mine\n");
}

static void test_shape_and_type(void **state)
{
    static const float   f[] = { 1, 2, 3, 4 };
    static const int32_t n[] = { 1, 2, 3, 4 }, other[] = { 1, 2, 9, 4 };
    static const uint8_t bytes[] = { 1, 2, 3, 4 };
    Cli                 *c = *state;
    Maker                a = { .c = c }, b = { .c = c };
    add(&a, "shape", DTYPE_F32, 2, 2, f), add(&b, "shape", DTYPE_F32, 1, 4, f);
    add(&a, "rank", DTYPE_F32, 1, 1, f), add(&b, "rank", DTYPE_F32, 0, 0, f);
    add(&a, "type", DTYPE_F32, 2, 2, f), add(&b, "type", DTYPE_I32, 2, 2, n);
    add(&a, "all", DTYPE_U8, 2, 2, bytes), add(&b, "all", DTYPE_I32, 4, 1, n);
    add(&a, "ints", DTYPE_I32, 2, 2, n), add(&b, "ints", DTYPE_I32, 2, 2, other);
    save(&a, "a");
    save(&b, "b");
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a b");
    assert_in(r, r.out, "shape   2x2             -            -         -  another shape in B, 1x4\n");
    assert_in(r, r.out, "rank    1x1             -            -         -  another shape in B, scalar\n");
    assert_in(r, r.out, "type    2x2             -            -         -  another type in B, I32, not F32\n");
    assert_in(r, r.out, "another shape in B, 4x1; another type in B, I32, not U8\n");
    assert_in(r, r.out, "ints    2x2             1            -         -  I32: bits alone\n");
    assert_in(r, r.out, "\n5 tensors, 0 equal; the first that differs: shape\n");
}

/* A NaN of the same bits is equal, one beside a number is told, and so is one in a tensor that differs elsewhere. */
static void test_not_finite(void **state)
{
    const float odd[] = { NAN, 4, INFINITY, 0 }, more[] = { NAN, 6, INFINITY, 0 }, minus[] = { 3, 4, -INFINITY, 0 };
    Cli        *c = *state;
    save_net(c, "a", NULL);
    save_net(c, "odd", odd);
    save_net(c, "odd2", odd);
    save_net(c, "more", more);
    save_net(c, "minus", minus);
    Ran r = cli_ok(c, "$DETENT diff odd odd2");
    assert_in(r, r.out, "z.conv  2x2             0            0     equal\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a odd");
    assert_in(r, r.out, "z.conv  2x2             2            0         -  not finite in B: 2\n");
    assert_in(r, r.out, "\n3 tensors, 2 equal; the first that differs: z.conv\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff minus a");
    assert_in(r, r.out, "z.conv  2x2             1            0         -  not finite in A: 1\n");
    r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff odd more");
    assert_in(r, r.out, "z.conv  2x2             1            2         -  not finite in A: 2; not finite in B: 2\n");
}

/* Metadata is told, and does not decide. */
static void test_metadata(void **state)
{
    static const float one = 1;
    Cli               *c = *state;
    Maker              a = { .c = c }, b = { .c = c };
    add(&a, "t", DTYPE_F32, 0, 0, &one), add(&b, "t", DTYPE_F32, 0, 0, &one);
    tell(&a, "net", "tiny"), tell(&b, "net", "tiny");
    tell(&a, "seed", "1"), tell(&b, "seed", "2");
    tell(&a, "method", "lsq"), tell(&b, "step", "12");
    save(&a, "a");
    save(&b, "b");
    Ran r = cli_ok(c, "$DETENT diff a b");
    assert_in(r, r.out,
              "     equal\nmetadata seed: '1' in A, '2' in B\nmetadata method: 'lsq', only in A\n"
              "metadata step: '12', only in B\n1 tensors, 1 equal\n");
    assert_not_in(r, r.out, "metadata net");
}

/* The best weights of a run, else its last ones. */
static void test_run_directory(void **state)
{
    static const float off[] = { 3.5f, 4, 0, 0 };
    Cli               *c = *state;
    save_net(c, "a", NULL);
    cli_ok(c, "mkdir run empty");
    Ran none = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a run");
    assert_in(none, none.err, "error: detent diff: expected best.safetensors or last.safetensors in directory run");
    assert_string_equal(none.out, "");
    save_net(c, "run/last.safetensors", NULL);
    cli_ok(c, "$DETENT diff a run");
    save_net(c, "run/best.safetensors", off);
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT diff a run/");
    assert_in(r, r.out, "the worst SQNR: 20.00 dB, z.conv\n");
    cli_ok(c, "$DETENT diff run/last.safetensors a");
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *script;
        int         code;
        const char *says;
    } cases[] = {
        { "$DETENT diff", EXIT_USAGE, "detent diff: expected two checkpoints" },
        { "$DETENT diff a", EXIT_USAGE, "directories of runs, found 1\n" },
        { "$DETENT diff a a a", EXIT_USAGE, "directories of runs, found 3\n" },
        { "$DETENT diff a a --bits w4a4", EXIT_USAGE, "--bits: expected with --against BACKEND" },
        { "$DETENT diff a nothing", EXIT_MISTAKE, "cannot read nothing: No such file" },
        { "$DETENT diff '' a", EXIT_MISTAKE, "cannot read" },
        { "echo hello > text; $DETENT diff text a", EXIT_MISTAKE, "text is no safetensors file" },
        { "head -c 60 a > cut; $DETENT diff a cut", EXIT_MISTAKE, "cut is cut off" },
        { "$DETENT diff --against interp", EXIT_USAGE,
          "expected one network, a name such as mnist or a .c file, found 0" },
        { "$DETENT diff mnist mnist --against interp", EXIT_USAGE, "found 2 words" },
        { "$DETENT diff mnst --against interp", EXIT_MISTAKE, "mnst" },
        { "$DETENT diff mnist --against interp --backend null", EXIT_USAGE, "expected one that computes" },
        { "$DETENT diff mnist --against interp --checkpoint a", EXIT_MISTAKE,
          "expected weights of network mnist, found those of tiny" },
    };
    Cli *c = *state;
    save_net(c, "a", NULL);
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Ran r = cli_expect(c, cases[i].code, cases[i].script);
        assert_in(r, r.err, cases[i].says);
        assert_int_equal(count_of(r.err, "error: "), 1);
        assert_string_equal(r.out, "");
    }
    Ran help = cli_ok(c, "$DETENT diff --help");
    assert_in(help, help.out, "usage: detent diff A B [options]\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),    cmocka_unit_test(test_one_element),    cmocka_unit_test(test_first_and_worst),
        cmocka_unit_test(test_missing),  cmocka_unit_test(test_shape_and_type), cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_metadata), cmocka_unit_test(test_run_directory),  cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
