/* test_forward.c: --forward auto, through the program: what is chosen follows from the numbers that it is given; these
 * are measured once and read afterwards, whatever happened to the file; a resumed run has those that it began with. */
#include "tests/unit/cli_fixture.h"

#define NET "$NETS/tiny.c --method lsq --bits w4a4 --forward auto "
#define CODES "is made of integer codes: auto: "
#define FLOATS "stays a product of floats: auto: "

/* The numbers in args.json of a run, as options; or with `others` instead of each: "0.001/1". */
static const char *times_of(Cli *c, const char *run, const char *others)
{
    const char *args = cli_read(c, arena_printf(&c->a, "%s/args.json", run)), *key = "\"forward-times\": \"";
    const char *at = strstr(args, key);
    if (!at)
        fail_msg("no %s in %s", key, args);
    at += strlen(key);
    char *words = arena_strndup(&c->a, at, strcspn(at, "\"")), *save = NULL;
    Str   s = str_new(&c->a);
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *equal = strrchr(w, '=');
        assert_non_null(equal);
        if (others)
            str_printf(&s, " --forward-times='%.*s=%s'", (int)(equal - w), w, others);
        else
            str_printf(&s, " --forward-times='%s'", w);
    }
    return s.s;
}

static int32_t products(Ran r, const char *how)
{
    return count_of(r.out, how);
}

static void test_choice_follows_the_numbers(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT train " NET "--data $DATA --max-steps 1 --quiet --out run");
    Ran fast =
        cli_ok(c, arena_printf(&c->a, "$DETENT compile " NET "%s --explain-forward", times_of(c, "run", "0.001/1")));
    assert_int_equal(products(fast, FLOATS), 3);
    assert_in(fast, fast.out, "conv2d: " FLOATS "1 ms of codes, ");
    const char *text = times_of(c, "run", "1/0.001");
    Ran         codes = cli_ok(c, arena_printf(&c->a, "$DETENT compile " NET "%s --explain-forward", text));
    assert_int_equal(products(codes, CODES), 3);
    Ran one = cli_ok(c, arena_printf(&c->a, "$DETENT compile " NET "%s --explain-forward=conv2d", text));
    assert_int_equal(products(one, CODES), 1);
    Ran other = cli_ok(c, "$DETENT dump " NET "--backend sim --explain-forward");
    assert_int_equal(products(other, "stays a product of floats: auto does not time products on a GPU"), 2);
}

/* Measured by one, read by the next; another instruction set, another entry. */
static void test_table_on_disk(void **state)
{
    Cli        *c = *state;
    const char *explain = "XDG_CACHE_HOME=$PWD/disk $DETENT compile " NET "--explain-forward --quiet | grep auto:";
    Ran         first = cli_ok(c, explain), again = cli_ok(c, explain);
    assert_string_equal(first.out, again.out);
    Ran files = cli_ok(c, "ls disk/detent/*.forward | wc -l");
    int entries = atoi(files.out);
    assert_int_equal(entries, 4); /* three products, and what is written beside them */
    cli_ok(c, "XDG_CACHE_HOME=$PWD/disk $DETENT compile " NET "--isa portable --quiet");
    Ran both = cli_ok(c, "ls disk/detent/*.forward | wc -l");
    assert_int_equal(atoi(both.out), 2 * entries);
    cli_ok(c, "XDG_CACHE_HOME=$PWD/none $DETENT compile " NET "--cache off --quiet; ! ls none");
}

/* Cut short, of other bytes, empty, a directory: ignored, and written anew where that can be. */
static void test_damaged_table(void **state)
{
    static const char *const damages[] = { "printf x >> $f", "head -c 40 $f > t; mv t $f", ": > $f",
                                           "sed s/=/:/ $f > t; mv t $f", "rm $f; mkdir $f" };
    Cli                     *c = *state;
    const char              *compile = "XDG_CACHE_HOME=$PWD/harm $DETENT compile " NET "--explain-forward";
    cli_ok(c, compile);
    for (int32_t i = 0; i < DT_COUNT(damages); i++) {
        cli_ok(c, arena_printf(&c->a, "for f in harm/detent/*.forward; do %s; done", damages[i]));
        Ran r = cli_ok(c, compile);
        assert_int_equal(products(r, CODES) + products(r, FLOATS), 3);
        assert_in(r, r.err, "cache: ");
        Ran again = cli_ok(c, compile);
        if (i + 1 < DT_COUNT(damages))
            assert_not_in(again, again.err, "cache: ");
    }
}

/* Begun by numbers that nobody would measure, so that measuring anew would choose otherwise: only a run that keeps them
 * ends with the same bytes. */
static void test_resumed_run_keeps_its_choice(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT train " NET "--data $DATA --max-steps 1 --quiet --out probe");
    const char *train =
        arena_printf(&c->a, "$DETENT train " NET "--data $DATA --quiet %s", times_of(c, "probe", "0.001/1"));
    cli_ok(c, arena_printf(&c->a, "%s --max-steps 6 --out whole", train));
    cli_ok(c, arena_printf(&c->a, "%s --max-steps 3 --out part", train));
    cli_ok(c, "XDG_CACHE_HOME=$PWD/empty $DETENT train --resume part --max-steps 6 --quiet; "
              "cmp whole/last.safetensors part/last.safetensors; ! ls empty/detent/*.forward");
    cli_ok(c, "cmp whole/args.json part/args.json");
    assert_string_equal(times_of(c, "part", NULL), times_of(c, "whole", NULL));
    Ran other = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume part --forward int");
    assert_in(other, other.err, "--forward: expected auto, as the run that is resumed has it, found int");
    cli_ok(c, "$DETENT train $NETS/tiny.c --method lsq --bits w4a4 --data $DATA --quiet --forward int --max-steps 6 "
              "--out codes; ! cmp -s whole/last.safetensors codes/last.safetensors");
}

/* The interpreter's program is that of cpu. */
static void test_interpreter_decides_alike(void **state)
{
    Cli *c = *state;
    cli_ok(c,
           "for b in cpu interp; do $DETENT compile " NET "--explain-forward --backend $b --quiet | grep auto: > $b; "
           "done; cmp cpu interp && test -s cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice_follows_the_numbers),
        cmocka_unit_test(test_table_on_disk),
        cmocka_unit_test(test_damaged_table),
        cmocka_unit_test(test_resumed_run_keeps_its_choice),
        cmocka_unit_test(test_interpreter_decides_alike),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
