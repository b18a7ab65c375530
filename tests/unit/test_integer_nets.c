/* test_integer_nets.c: whole networks whose products are all of integer codes: an evaluation is the same bits by the
 * interpreter and plain loops as by machine code and the kernels of any instruction set on any number of threads. With
 * zero points and offsets, too, and with a transposed convolution (joins). */
#include "runtime/integer/integer.h"
#include "tests/unit/net_fixture.h"

#define JOINS DT_SOURCE_DIR "/tests/nets/joins.c"

/* clang-format off */
static const struct Row {
    const char *model, *bits, *method, *settings;
} rows[] = {
    { "mnist",    "w8a8", "lsq", NULL }, { "mnist",    "w4a4", "lsq", NULL }, { "mnist",    "w2a2", "lsq", NULL },
    { "resnet20", "w8a8", "lsq", NULL }, { "resnet20", "w4a4", "lsq", NULL }, { "resnet20", "w2a2", "lsq", NULL },
    { "resnet20", "w4a4", "lsq+", NULL }, { "resnet20", "w4a4", "lsq+", "offset=float" },
    { "resnet20", "w4a4", "qat", NULL }, /* of one first layer with a zero point */
    { JOINS,      "w4a4", "lsq", NULL }, { JOINS,      "w4a4", "lsq", "grain=channel" },
    { JOINS,      "w4a4", "qat", NULL }, { JOINS,      "w8a8", "qat", NULL },
    { JOINS,      "w8a8", "lsq+", NULL }, { JOINS,     "w2a2", "lsq+", NULL },
};
/* clang-format on */

/* Three images, for a target whose integer products know all: what the cpu backend compiles for. */
static Net *eval_net(const struct Row *row)
{
    NetSetup s = { .model = row->model,
                   .bits = row->bits,
                   .method = row->method,
                   .settings = row->settings,
                   .step = STEP_EVAL,
                   .target = net_target(LAYOUT_ROWS),
                   .int8_forward = true,
                   .batch = 3 };
    s.target.int8_unsigned = s.target.int8_groups = true;
    Net *n = net_graph(&s);
    net_passes(n, NULL);
    return n;
}

static void assert_same_tensors(Net *a, Net *b, const char *how)
{
    for (int32_t i = 0; i < a->program->n_tensors; i++) {
        const ProgTensor *t = &a->program->tensors[i];
        if (memcmp(net_read(a, t->name), net_read(b, t->name), (size_t)t->bytes) != 0)
            fail_msg("%s, %s: %s differs", a->program->name, how, t->name);
    }
}

static void check_same(Net *interp, const struct Row *row, Isa isa, int threads)
{
    Net *cpu = eval_net(row);
    cpu->jit = jit_llvm_new(&cpu->a, &cpu->d, (JitOptions){ 0 });
    cpu->lib = calllib_integer(&cpu->a, calllib_reference(&cpu->a), threads, isa);
    cpu->threads = threads;
    assert_non_null(cpu->jit);
    net_compile(cpu);
    net_load(cpu);
    net_run(cpu);
    assert_same_tensors(interp, cpu,
                        arena_printf(&cpu->a, "%s %s %s by %s, %d threads", row->model, row->method, row->bits,
                                     isa_name(isa), threads));
    net_free(cpu);
}

/* All products are of codes, and the ranges that kernels are chosen by are those of the quantizers: 8 bits in the first
 * and the last layer. */
static void check_calls(const Net *n)
{
    const int32_t bits = n->setup.bits[1] - '0';
    int32_t       first = -1, last = -1;
    for (int32_t i = 0; i < n->program->n_launches; i++)
        if (n->program->launches[i].kind == LAUNCH_CALL) {
            assert_int_equal(n->program->launches[i].call.kind, CALL_CONV_FWD_INT);
            first = first < 0 ? i : first;
            last = i;
        }
    assert_true(first >= 0 && first < last);
    for (int32_t i = first; i <= last; i++) {
        const CallDesc *c = &n->program->launches[i].call;
        int32_t         codes = 1 << (i == first || i == last ? 8 : bits);
        if (n->program->launches[i].kind == LAUNCH_CALL &&
            (c->x_hi - c->x_lo + 1 != codes || c->w_hi - c->w_lo + 1 != codes))
            fail_msg("%s, call %d of %d..%d: codes %d..%d by %d..%d", n->setup.bits, i, first, last, c->x_lo, c->x_hi,
                     c->w_lo, c->w_hi);
    }
}

static void test_evaluation(void **state)
{
    (void)state;
    for (int32_t r = 0; r < DT_COUNT(rows); r++) {
        const struct Row *row = &rows[r];
        Net              *interp = eval_net(row);
        net_compile(interp);
        if (str_eq(row->method, "lsq") && !str_eq(row->model, JOINS))
            check_calls(interp);
        net_load(interp);
        net_run(interp);
        for (int threads = 1; threads <= 3; threads++)
            check_same(interp, row, isa_best(), threads);
        for (Isa isa = ISA_PORTABLE; isa < isa_best(); isa++)
            if (isa_is_here(isa))
                check_same(interp, row, isa, 1 + (int)isa % 3);
        net_free(interp);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_evaluation) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
