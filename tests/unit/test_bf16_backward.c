/* test_bf16_backward.c: --backward bf16 through the program: which runs are equal and which differ, what a run keeps,
 * and that calls and kernels of its steps are right. */
#include "tests/unit/cli_fixture.h"

#define LSQ "$NETS/narrow.c --method lsq --bits w4a4 "
#define TRAIN "$DETENT train " LSQ "--data $DATA --quiet --max-steps 6 "

/* Instruction sets do not change a bit, gradients in f32 and forward products of floats do. (Numbers of threads are in
 * test_bf16.c: of the rest of the step oneDNN makes some, whose last bits depend on them.) */
static void test_equal_runs(void **state)
{
    Cli *c = *state;
    cli_ok(c, TRAIN "--forward int --backward bf16 --out a; " TRAIN "--forward int --backward bf16 --out b; "
                    "cmp a/last.safetensors b/last.safetensors");
    cli_ok(c, TRAIN "--forward int --backward bf16 --isa portable --out c; cmp a/last.safetensors c/last.safetensors");
    cli_ok(c, TRAIN "--forward int --out d; ! cmp -s a/last.safetensors d/last.safetensors");
    cli_ok(c, TRAIN "--backward bf16 --out e; ! cmp -s a/last.safetensors e/last.safetensors");
}

static void test_resumed(void **state)
{
    Cli *c = *state;
    cli_ok(c, TRAIN "--backward bf16 --out whole");
    cli_ok(c, "$DETENT train " LSQ "--data $DATA --quiet --max-steps 3 --backward bf16 --out part; "
              "$DETENT train --resume part --max-steps 6 --quiet; cmp whole/last.safetensors part/last.safetensors; "
              "cmp whole/args.json part/args.json; grep -q '\"backward\": \"bf16\"' part/args.json");
    Ran other = cli_expect(c, EXIT_MISTAKE, "$DETENT train --resume part --backward f32");
    assert_in(other, other.err, "--backward: expected bf16, as the run that is resumed has it, found f32");
}

/* Each call against plain loops, each kernel against the interpreter; a float network, too. */
static void test_checked(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT check " LSQ "--forward int --backward bf16 --batch 3");
    assert_in(r, r.out, "all is well");
    cli_ok(c, "$DETENT check " LSQ "--set grain=channel --backward bf16 --batch 3");
    cli_ok(c, "$DETENT check $NETS/narrow.c --backward bf16 --batch 3");
}

/* The first layer has one channel; the three others have their pairs of gradients in bf16, made of codes. */
static void test_which(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT dump " LSQ "--backward bf16 --print-ir-after=bf16-backward > lsq; "
                        "grep 'conv2d_grad_[wx]' lsq | grep -c bf16=true; grep -c 'conv2d_grad_[wx]' lsq; "
                        "grep -c '= quantize' lsq; "
                        "$DETENT dump " LSQ "--print-ir-after=layout | grep -c bf16=true || true");
    assert_string_equal(r.out, "6\n8\n6\n0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_runs),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_which),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
