/* test_rematerialize.c: values that are made a second time so that a step fits into a limit. Training steps of whole
 * networks leave the same bytes in every param, state and output whatever the limit; the plan keeps to it, down to the
 * least that the pass can reach, and that is the same from every limit below; and small graphs show what is chosen. */
#include "tests/unit/net_fixture.h"
#include "tests/unit/pass_fixture.h"

/* ---- Same bytes -------------------------------------------------------------------------------------------------- */

enum { ALL_STEPS = 2 };

typedef struct Case {
    const char *model, *bits, *method, *settings;
    int64_t     batch;
    bool        int8;
    bool        large; /* for machine code alone */
    bool        quick; /* two limits alone */
    int32_t     least; /* the least is not above this share of the plan without a limit, in percent; 0: 60 */
} Case;

static const Case cases[] = {
    { .model = "resnet20", .batch = 2 },
    { .model = "resnet20", .bits = "w4a4", .batch = 2, .least = 70 },
    { .model = "resnet20", .bits = "w8a8", .batch = 2, .int8 = true, .quick = true },
    { .model = "resnet20", .bits = "w4a4", .method = "quant-noise", .batch = 2, .quick = true, .least = 70 },
    { .model = "resnet20", .bits = "w4a4", .method = "qat", .batch = 2, .quick = true, .least = 70 },
    { .model = "mnist", .batch = 32, .least = 95 }, /* the gradients of one matrix are most of it */
    { .model = "mnist", .bits = "w4a4", .batch = 32, .least = 90 },
    { .model = "mobilenetv2", .batch = 2, .large = true, .least = 40 },
    { .model = "mobilenetv2", .bits = "w4a4", .batch = 2, .large = true, .least = 70 },
    { .model = "efficientnet_lite0", .bits = "w4a4", .batch = 2, .large = true, .quick = true, .least = 70 },
    { .model = "unet", .bits = "w4a4", .batch = 1, .large = true, .quick = true, .least = 70 },
    { .model = "vgg_small", .batch = 2, .large = true, .quick = true, .least = 85 },
};

/* Shares of what the plan takes without a limit, in percent; 0: the least that can be had. */
static const int32_t shares[] = { 90, 75, 60, 50, 0 };

static bool          has_fast_code(void)
{
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    return true;
#else
    return false;
#endif
}

static Net *case_net(const Case *k, int64_t most_values)
{
    NetSetup setup = { .model = k->model,
                       .step = STEP_TRAIN,
                       .bits = k->bits,
                       .method = k->method,
                       .settings = k->settings,
                       .target = net_target(LAYOUT_ROWS),
                       .int8_forward = k->int8,
                       .batch = k->batch,
                       .most_values = most_values };
    setup.target.int8_unsigned = setup.target.int8_groups = true;
    Net *n = net_graph(&setup);
    net_passes(n, NULL);
    return n;
}

static void case_run(Net *n, const Case *k)
{
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    if (!k->int8) { /* the plain loops have products of codes */
        n->jit = jit_llvm_new(&n->a, &n->d, (JitOptions){ 0 });
        n->lib = calllib_onednn(&n->a, &n->d, 1);
        n->threads = 1;
    }
#else
    (void)k;
#endif
    net_compile(n);
    net_load(n);
    for (int step = 0; step < ALL_STEPS; step++)
        net_run(n);
}

static void check_same_tensors(const Case *k, Net *a, Net *b, int32_t share)
{
    int32_t compared = 0;
    for (int32_t i = 0; i < a->program->n_tensors; i++) {
        const ProgTensor *t = &a->program->tensors[i];
        if (t->kind == TENSOR_INPUT)
            continue;
        if (memcmp(net_read(a, t->name), net_read(b, t->name), (size_t)t->bytes) != 0)
            fail_msg("%s %s %s at %d %%: %s differs", k->model, k->method ? k->method : "lsq", k->bits, share, t->name);
        compared++;
    }
    assert_true(compared > 10);
}

static void check_case(const Case *k)
{
    Net    *whole = case_net(k, 0), *last = NULL;
    int64_t all = whole->g->bytes[MEM_WORK];
    assert_int_equal(whole->again.limit, 0);
    case_run(whole, k);
    for (int32_t i = 0; i < DT_COUNT(shares); i++) {
        if (k->quick && i > 0 && shares[i] > 0)
            continue;
        int64_t limit = shares[i] > 0 ? all * shares[i] / 100 : 1;
        Net    *n = case_net(k, limit);
        int64_t took = n->g->bytes[MEM_WORK];
        assert_int_equal(n->again.limit, limit);
        assert_int_equal(n->again.before, all);
        assert_int_equal(took, n->again.after);
        assert_true(n->again.values > 0 && n->again.launches >= n->again.values && n->again.moved > 0);
        assert_true(n->again.seconds > 0 && n->again.step_seconds > 0);
        if (took > limit && last != NULL && last->again.after > last->again.limit)
            assert_int_equal(took, last->g->bytes[MEM_WORK]); /* neither fits: the least is the least */
        case_run(n, k);
        check_same_tensors(k, n, whole, shares[i]);
        if (last != NULL)
            net_free(last);
        last = n;
    }
    if (last->g->bytes[MEM_WORK] > all * (k->least ? k->least : 60) / 100)
        fail_msg("%s: at least %lld of %lld bytes", k->model, (long long)last->g->bytes[MEM_WORK], (long long)all);
    net_free(last);
    net_free(whole);
}

static void test_same_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < DT_COUNT(cases); i++)
        if (!cases[i].large || has_fast_code())
            check_case(&cases[i]);
}

/* ---- Small graphs ------------------------------------------------------------------------------------------------ */

/* A chain of three convolutions with a nonlinearity each, and the gradients of the weights in backward, last first. */
#define CHAIN                                                                                                          \
    "graph @t.train {\n  %0 = input \"image\" : f32[4x8x16x16]\n  %1 = param \"w1\" : f32[8x8x3x3]\n"                  \
    "  %2 = param \"w2\" : f32[8x8x3x3]\n  %3 = param \"w3\" : f32[8x8x3x3]\n"                                         \
    "  %4 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[4x8x16x16]\n  %5 = relu %4 : f32[4x8x16x16]\n"                         \
    "  %6 = conv2d %5, %2 {pad=[1,1,1,1]} : f32[4x8x16x16]\n  %7 = relu %6 : f32[4x8x16x16]\n"                         \
    "  %8 = conv2d %7, %3 {pad=[1,1,1,1]} : f32[4x8x16x16]\n"                                                          \
    "  %9 = conv2d_grad_w %8, %7 {pad=[1,1,1,1], kernel=3} : f32[8x8x3x3] backward\n"                                  \
    "  %10 = conv2d_grad_x %8, %3 {pad=[1,1,1,1], h=16, w=16} : f32[4x8x16x16] backward\n"                             \
    "  %11 = relu_grad %6, %10 : f32[4x8x16x16] backward\n"                                                            \
    "  %12 = conv2d_grad_w %11, %5 {pad=[1,1,1,1], kernel=3} : f32[8x8x3x3] backward\n"                                \
    "  %13 = conv2d_grad_x %11, %2 {pad=[1,1,1,1], h=16, w=16} : f32[4x8x16x16] backward\n"                            \
    "  %14 = relu_grad %4, %13 : f32[4x8x16x16] backward\n"                                                            \
    "  %15 = conv2d_grad_w %14, %0 {pad=[1,1,1,1], kernel=3} : f32[8x8x3x3] backward\n"                                \
    "  output %9 \"g3\"\n  output %12 \"g2\"\n  output %15 \"g1\"\n}\n"
enum { IMAGE = 4 * 8 * 16 * 16 * 4 }; /* bytes of each value */
#define REST "--passes=layout,fuse,batch,schedule,rematerialize,plan-memory,lower --verify=all --verify-changed"

static Graph *chain(Fixture *f, int64_t most, const char *flags)
{
    Graph *g = fixture_graph(f, CHAIN);
    f->ctx.step = STEP_TRAIN;
    f->ctx.memory_values = most;
    if (!fixture_run(f, g, flags))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* Where there is room, nothing is done. */
static void test_room(void **state)
{
    Fixture *f = *state;
    int64_t  all = chain(f, 0, REST)->bytes[MEM_WORK];
    assert_int_equal(f->ctx.again.limit, 0);
    assert_int_equal(all, 5 * IMAGE); /* %4 to %7, and %8 or the gradients */
    Graph *g = chain(f, all, REST);
    assert_int_equal(g->bytes[MEM_WORK], all);
    assert_int_equal(f->ctx.again.before, all);
    assert_int_equal(f->ctx.again.launches, 0);
    assert_int_equal(fixture_count(g, OP_RELU), 2);
}

/* Element-wise values come first: convolutions, which cost more, are left alone. */
static void test_cheap_first(void **state)
{
    Fixture *f = *state;
    Graph   *g = chain(f, 4 * IMAGE, REST);
    assert_int_equal(g->bytes[MEM_WORK], 4 * IMAGE);
    assert_int_equal(f->ctx.again.values, 1);
    assert_int_equal(fixture_count(g, OP_RELU), 3);
    assert_int_equal(fixture_count(g, OP_CONV2D), 3);
    assert_int_equal(f->ctx.again.moved, 2 * IMAGE);
    assert_true(f->ctx.again.seconds < f->ctx.again.step_seconds);
}

/* The least: the first convolution's result is made from the image a second time. */
static void test_chain(void **state)
{
    Fixture *f = *state;
    Graph   *g = chain(f, 1, REST);
    int64_t  least = g->bytes[MEM_WORK];
    assert_int_equal(least, 3 * IMAGE);
    assert_int_equal(f->ctx.again.after, least);
    assert_true(fixture_count(g, OP_CONV2D) > 3);
    for (int64_t most = least; most <= 5 * IMAGE; most += IMAGE / 2) { /* all from there on can be had */
        g = chain(f, most, REST);
        assert_true(g->bytes[MEM_WORK] <= most);
    }
    g = chain(f, least - 64, REST);
    assert_int_equal(g->bytes[MEM_WORK], least);
}

/* The limit of the whole plan is that of the values less what lies elsewhere. */
static void test_whole_plan(void **state)
{
    Fixture *f = *state;
    f->ctx.memory = IMAGE + 6 * 8 * 8 * 9 * 4 + 4 * IMAGE; /* image, weights, gradients, values */
    Graph *g = chain(f, 0, REST);
    assert_int_equal(f->ctx.again.limit, 4 * IMAGE);
    assert_int_equal(g->bytes[MEM_WORK] + g->bytes[MEM_IO] + g->bytes[MEM_PARAM] + g->bytes[MEM_STATE], f->ctx.memory);
    f->ctx.memory = 0;
}

/* Without the pass, and without groups of fuse. */
static void test_other_passes(void **state)
{
    Fixture *f = *state;
    Graph   *g = chain(f, 1, "--passes=layout,fuse,batch,schedule,plan-memory,lower --verify=all");
    assert_int_equal(g->bytes[MEM_WORK], 5 * IMAGE);
    int64_t all = chain(f, 0, "--passes=layout,schedule,rematerialize,plan-memory,lower --verify=all")->bytes[MEM_WORK];
    g = chain(f, 1, "--passes=layout,schedule,rematerialize,plan-memory,lower --verify=all --verify-changed");
    assert_true(g->bytes[MEM_WORK] < all);
}

static void test_explains(void **state)
{
    Fixture *f = *state;
    chain(f, 4 * IMAGE, REST " --print-plan --explain-fusion --pass-stats");
    assert_has(f->text, "made again: 1 launches, so that 1 values are not kept: 128.0 KiB instead of 160.0 KiB");
    assert_has(f->text, "beside");
    assert_has(f->text, "relu: not kept: made again for launch ");
    assert_has(f->text, "rematerialize.launches again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_room),           fixture_test(test_cheap_first),  fixture_test(test_chain),
        fixture_test(test_whole_plan),     fixture_test(test_other_passes), fixture_test(test_explains),
        cmocka_unit_test(test_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
