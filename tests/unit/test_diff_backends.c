/* test_diff_backends.c: `detent diff NET --backend A --against B`, run as people run it. */
#include "tests/unit/cli_fixture.h"

/* Plain loops on the host and behind the simulated GPU give the same bits, whatever the layout; oneDNN's sums have
 * another order, and stay within the tolerance. */
static void test_backends(void **state)
{
    Cli *c = *state;
    Ran  same = cli_ok(c, "$DETENT diff $NETS/tiny.c --backend interp --against interp --batch 4");
    assert_in(same, same.out, "tiny, interp against interp, batch 4, in float: what each layer reads\n");
    assert_in(same, same.out, "7 values, 7 equal\n");
    assert_in(same, same.out, "in float none is beyond the tolerance, 0.0001 of its largest element\n");
    assert_not_in(same, same.out, "quantized");
    Ran sim = cli_ok(c, "$DETENT diff $NETS/tiny.c --backend interp --against sim --data $DATA");
    assert_in(sim, sim.out, "conv1.input    8x1x7x7                 0            0     equal\n");
    assert_in(sim, sim.out, "7 values, 7 equal\n");
    Ran cpu = cli_ok(c, "$DETENT diff $NETS/tiny.c --against interp --data $DATA");
    assert_in(cpu, cpu.out, "tiny, cpu against interp, batch 8");
    assert_in(cpu, cpu.out, "in float none is beyond the tolerance");
}

/* Weights that were trained quantized are compared quantized, too: their codes are equal. */
static void test_backends_quantized(void **state)
{
    Cli *c = *state;
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --method lsq+ --bits w4a4 --max-steps 2 --out trained --quiet");
    Ran r = cli_ok(c, "$DETENT diff $NETS/tiny.c --backend cpu --against interp --checkpoint trained/last.safetensors");
    assert_in(r, r.out, "\nquantized, lsq+ w4a4: a rounding may turn a code into its neighbour\n");
    assert_in(r, r.out, "hidden.weight:value  9x196                   0            0     equal\n");
    assert_int_equal(count_of(r.out, "logits "), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_backends), cmocka_unit_test(test_backends_quantized) };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
