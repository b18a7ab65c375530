/* test_parity_nets.c: every network of models/ in float gives PyTorch's outputs, loss, gradients and running
 * statistics, from the same weights and batch (tests/reference/make_networks.py, which has the formulas; networks.json
 * has float64 results). On the cpu backend with oneDNN, and the smaller networks on the interpreter with plain loops.
 *
 * Bounds, in lengths of each tensor: outputs and loss 1e-5, statistics 1e-5, gradients 3e-4; gradients of networks of
 * ReLU6 1e-2: there PyTorch's own float32 is 3e-3 off its float64. */
#include "tests/unit/nets_fixture.h"

#define LOGITS 1e-5
#define LOSS 1e-5
#define STATES 1e-5
#define GRADS 3e-4
#define GRADS_RELU6 1e-2

typedef struct Worst {
    double      error;
    const char *name;
} Worst;

/* The tensors of { name: mark }, each called name + suffix here. */
static Worst check_marks(Net *n, const json_t *marks, const char *suffix, double bound)
{
    Worst       worst = { 0, "" };
    const char *name;
    json_t     *pair;
    double      all = 0;
    json_object_foreach((json_t *)marks, name, pair) all += pow(mark_of(pair).length, 2);
    json_object_foreach((json_t *)marks, name, pair)
    {
        int64_t elems;
        float  *x = net_read(n, n->train, arena_printf(&n->s.arena, "%s%s", name, suffix), &elems);
        double  error = mark_error(net_mark(n->seed, name, x, elems), mark_of(pair), 1e-3 * sqrt(all));
        if (!(error <= bound))
            fail_msg("%s: %s%s is %.3g off PyTorch's, allowed %.3g", n->s.model->name, name, suffix, error, bound);
        if (error > worst.error)
            worst = (Worst){ error, name };
    }
    return worst;
}

/* As many gradients as there are params: none is left out. */
static void check_complete(const Net *n, const json_t *ref)
{
    size_t params = 0;
    for (int32_t i = 0; i < n->train.program->n_tensors; i++)
        params += n->train.program->tensors[i].kind == TENSOR_PARAM;
    assert_int_equal(params, json_object_size(member(ref, "grads")));
}

static void check_net(const json_t *root, const json_t *ref, const char *backend)
{
    Net     n;
    float   lr = 0;
    int64_t elems;
    net_open(&n, root, ref, backend);
    n.train = net_load(&n, STEP_TRAIN);
    n.eval = net_load(&n, STEP_EVAL);
    assert_true(program_init(&n.s.diag, n.train, n.seed)); /* velocities */
    net_fill(&n, n.train);
    check_complete(&n, ref);

    net_batch(&n, n.eval);
    assert_true(exec_run(n.eval.exec, n.eval.index));
    check_logits(&n, ref, LOGITS);

    net_batch(&n, n.train);
    net_write(n.train, "lr", &lr);
    assert_true(exec_run(n.train.exec, n.train.index));
    double loss = (double)net_read(&n, n.train, "loss", &elems)[0], want = number(ref, "loss");
    if (!(fabs(loss - want) <= LOSS * want))
        fail_msg("%s: loss %.8g, PyTorch has %.8g", n.s.model->name, loss, want);
    bool  kinks = strstr(n.s.model->name, "lite") != NULL || str_eq(n.s.model->name, "mobilenetv2");
    Worst g = check_marks(&n, member(ref, "grads"), ".velocity", kinks ? GRADS_RELU6 : GRADS);
    Worst s = check_marks(&n, member(ref, "states"), "", STATES);
    print_message("%-20s %-6s loss %.1e, gradients %.1e (%s), statistics %.1e off\n", n.s.model->name, backend,
                  fabs(loss / want - 1), g.error, g.name, s.error);
    net_close(&n);
}

static void check_nets(const char *const *nets, int32_t count, const char *backend)
{
    json_t *root = networks_read();
    for (int32_t i = 0; i < count; i++)
        check_net(root, networks_find(root, nets[i]), backend);
    json_decref(root);
}

static const char *const small[] = { "resnet20", "resnet20_b", "mnist", "cbdnet", "unet" };

static void              test_compiled(void **state)
{
    (void)state;
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    static const char *const large[] = { "vgg_small",          "mobilenetv2",       "cbdnet_released",
                                         "efficientnet_b0",    "efficientnet_b3",   "tf_efficientnet_b0",
                                         "efficientnet_lite0", "efficientnet_lite3" };
    check_nets(small, DT_COUNT(small), "cpu");
    check_nets(large, DT_COUNT(large), "cpu");
#else
    skip();
#endif
}

static void test_interpreted(void **state)
{
    (void)state;
    check_nets(small, DT_COUNT(small), "interp");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_compiled), cmocka_unit_test(test_interpreted) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
