/* test_recompute.c: what backward makes again instead of keeping it. Training steps of whole networks with the pass and
 * without it leave the same bytes in every param, state and output; with it they keep less than the float step does;
 * and small graphs show what is kept all the same. */
#include "tests/unit/net_fixture.h"
#include "tests/unit/pass_fixture.h"

/* ---- Same bytes -------------------------------------------------------------------------------------------------- */

enum { ALL_STEPS = 2 };

typedef struct Case {
    const char *model, *bits, *method, *settings;
    int64_t     batch, cached;
    bool        int8;
    bool        large; /* for machine code alone */
} Case;

/* cached: copies right before the gradients that read them; 0: in the kernels that read the same floats */
static const Case cases[] = {
    { .model = "resnet20", .bits = "w4a4", .batch = 2 },
    { .model = "resnet20", .bits = "w2a2", .batch = 3, .cached = 1 << 20 },
    { .model = "resnet20", .bits = "w8a8", .batch = 2, .int8 = true },
    { .model = "resnet20", .bits = "w4a4", .method = "lsq+", .batch = 2 },
    { .model = "resnet20", .bits = "w4a4", .method = "qat", .batch = 2, .cached = 1 << 20 },
    { .model = "resnet20", .bits = "w4a4", .method = "quant-noise", .batch = 2 },
    { .model = "mnist", .bits = "w4a4", .batch = 5 },
    { .model = "mnist", .bits = "w4a4", .method = "qat", .batch = 4, .cached = 1 << 20 },
    { .model = "mobilenetv2", .bits = "w4a4", .batch = 2, .large = true },
    { .model = "efficientnet_lite0", .bits = "w8a8", .batch = 2, .cached = 1 << 20, .large = true },
    { .model = "vgg_small", .bits = "w4a4", .batch = 2, .large = true },
    { .model = "unet", .bits = "w4a4", .batch = 1, .large = true },
    { .model = "cbdnet", .bits = "w4a4", .batch = 1, .large = true },
};

static const char *without(Arena *a)
{
    Str s = str_new(a);
    for (int32_t i = 0; i < PASS_COUNT; i++)
        if (i != PASS_RECOMPUTE && !(pass_table[i].flags & PASS_TEST) && (pass_table[i].steps >> STEP_TRAIN & 1))
            str_printf(&s, "%s%s", s.len > 0 ? "," : "", pass_table[i].name);
    return s.s;
}

static Net *case_net(const Case *k, bool with)
{
    NetSetup setup = { .model = k->model,
                       .step = STEP_TRAIN,
                       .bits = k->bits,
                       .method = k->method,
                       .settings = k->settings,
                       .target = net_target(LAYOUT_ROWS),
                       .int8_forward = k->int8,
                       .batch = k->batch };
    setup.target.cached_bytes = k->cached;
    setup.target.int8_unsigned = setup.target.int8_groups = true;
    Net *n = net_graph(&setup);
    net_passes(n, with ? NULL : without(&n->a));
    return n;
}

static bool has_fast_code(void)
{
#if defined(DT_HAVE_LLVM) && defined(DT_HAVE_ONEDNN)
    return true;
#else
    return false;
#endif
}

static void case_compile(Net *n, const Case *k)
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
}

/* A step with the pass, a step without it, as often as asked; then all tensors. */
static void check_same_bytes(const Case *k)
{
    Net *n[2] = { case_net(k, true), case_net(k, false) };
    for (int i = 0; i < 2; i++)
        case_compile(n[i], k);
    for (int step = 0; step < ALL_STEPS; step++)
        for (int i = 0; i < 2; i++)
            net_run(n[i]);
    assert_true(passes_saved_bytes(n[0]->g) < passes_saved_bytes(n[1]->g));
    int32_t compared = 0;
    for (int32_t i = 0; i < n[0]->program->n_tensors; i++) {
        const ProgTensor *t = &n[0]->program->tensors[i];
        if (t->kind != TENSOR_INPUT && memcmp(net_read(n[0], t->name), net_read(n[1], t->name), (size_t)t->bytes) != 0)
            fail_msg("%s %s %s: %s differs", k->model, k->method ? k->method : "lsq", k->bits, t->name);
        compared += t->kind != TENSOR_INPUT;
    }
    assert_true(compared > 10);
    for (int i = 0; i < 2; i++)
        net_free(n[i]);
}

static void test_same_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < DT_COUNT(cases); i++)
        if (!cases[i].large || has_fast_code())
            check_same_bytes(&cases[i]);
}

/* ---- What is kept ------------------------------------------------------------------------------------------------ */

static Graph *train_graph(Fixture *f, const char *model, int64_t batch, const char *bits, int64_t cached)
{
    f->ctx.step = STEP_TRAIN;
    f->target.cached_bytes = cached;
    f->recipe.method = bits ? "lsq" : "float";
    if (bits && !recipe_parse_bits(&f->recipe, &f->d, "--bits", bits))
        fail_msg("%s", fixture_said(f));
    const DtModel *m = frontend_find(&f->a, &f->d, model);
    Graph         *g = m ? frontend_build(&f->a, &f->d, m, batch, STEP_TRAIN) : NULL;
    if (!g || !fixture_run(f, g, "--stop-after=plan-memory"))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* Bytes of activations that are quantized, made in forward, and read again in backward. */
static int64_t kept_quantized(Fixture *f, const Graph *g)
{
    Uses    uses = ir_uses(&f->a, g);
    int64_t bytes = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        bool         kept = v->op == OP_QDQ && !v->backward && str_eq(ir_text(v, A_ROLE), "act");
        bool         read = false;
        for (int32_t u = uses.first[id]; u < uses.first[id + 1]; u++)
            read |= ir_value(g, uses.users[u])->backward;
        bytes += kept && read ? type_bytes(v->type) : 0;
    }
    return bytes;
}

static void test_less_than_float(void **state)
{
    static const struct {
        const char *model;
        int64_t     batch, most; /* bytes; 0: those of the float step */
    } rows[] = {
        { "resnet20", 128, 150 * 1000 * 1000 }, { "mnist", 64, 0 },       { "cbdnet", 8, 0 },      { "unet", 4, 0 },
        { "efficientnet_b3", 8, 1149000000 },   { "mobilenetv2", 16, 0 }, { "vgg_small", 100, 0 },
    };
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(rows); i++) {
        int64_t plain = passes_saved_bytes(train_graph(f, rows[i].model, rows[i].batch, NULL, 0));
        for (int64_t cached = 0; cached <= 8 << 20; cached += 8 << 20) {
            Graph  *g = train_graph(f, rows[i].model, rows[i].batch, "w4a4", cached);
            int64_t saved = passes_saved_bytes(g), most = rows[i].most ? rows[i].most : plain;
            if (saved >= plain || saved > most || kept_quantized(f, g) > 0)
                fail_msg("%s: %lld bytes saved, %lld of them quantized values; float saves %lld", rows[i].model,
                         (long long)saved, (long long)kept_quantized(f, g), (long long)plain);
        }
    }
}

/* The float step has nothing to make again. */
static void test_float_is_left_alone(void **state)
{
    static const char *const nets[] = { "resnet20", "mnist", "unet" };
    Fixture                 *f = *state;
    f->ctx.step = STEP_TRAIN;
    for (int i = 0; i < DT_COUNT(nets); i++) {
        Graph *g = frontend_build(&f->a, &f->d, frontend_find(&f->a, &f->d, nets[i]), 2, STEP_TRAIN);
        assert_true(fixture_run(f, g, "--stop-after=simplify"));
        int32_t values = g->values.len;
        assert_true(fixture_run(f, g, "--passes=recompute --verify=all --verify-changed"));
        assert_int_equal(g->values.len, values);
    }
}

/* ---- Small graphs ------------------------------------------------------------------------------------------------ */

#define HEAD                                                                                                           \
    "graph @t.train {\n  %0 = input \"image\" : f32[2x4x6x6]\n  %1 = param \"w1\" : f32[4x4x3x3]\n"                    \
    "  %2 = param \"s\" : f32[]\n  %3 = param \"w2\" : f32[4x4x3x3]\n  %4 = conv2d %0, %1 {pad=[1,1,1,1]} : "          \
    "f32[2x4x6x6]\n"
#define QDQ "{lo=0, hi=15, bits=4, role=\"act\"}"
#define TAIL                                                                                                           \
    "  %10 = conv2d %9, %3 {pad=[1,1,1,1]} : f32[2x4x6x6]\n"                                                           \
    "  %11 = conv2d_grad_w %10, %9 {pad=[1,1,1,1], kernel=3} : f32[4x4x3x3] backward\n  output %11 \"g\"\n"

static int32_t count(const Graph *g, OpCode op, bool backward)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op) && ir_value(g, g->order.at[i])->backward == backward;
    return n;
}

static Graph *small(Fixture *f, const char *text)
{
    Graph *g = fixture_graph(f, text);
    f->ctx.step = STEP_TRAIN;
    if (!fixture_run(f, g, "--passes=recompute --verify=all --verify-changed"))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* Nobody in backward reads what was quantized: then the float of the quantized value is all there is to keep. */
static void test_kept_where_nothing_is_there(void **state)
{
    Graph *g = small(*state, HEAD "  %9 = qdq %4, %2 " QDQ " : f32[2x4x6x6]\n" TAIL "}\n");
    assert_int_equal(count(g, OP_QDQ, true), 0);
    assert_int_equal(count(g, OP_QDQ, false), 1);
}

/* The step's own inputs are always there. */
static void test_image_is_there(void **state)
{
    Graph *g = small(*state, HEAD "  %9 = qdq %0, %2 " QDQ " : f32[2x4x6x6]\n" TAIL "}\n");
    assert_int_equal(count(g, OP_QDQ, true), 1);
    assert_int_equal(count(g, OP_QDQ, false), 1);
}

/* Whose forward product is made of codes has no float in forward at all. */
static void test_codes_alone_in_forward(void **state)
{
    Graph *g = small(*state, HEAD "  %5 = quantize %4, %2 {lo=0, hi=15} : s8[2x4x6x6]\n"
                                  "  %6 = quantize %3, %2 {lo=-8, hi=7} : s8[4x4x3x3]\n"
                                  "  %9 = qdq %4, %2 " QDQ " : f32[2x4x6x6]\n"
                                  "  %10 = conv2d_int %5, %6, %2 {pad=[1,1,1,1]} : f32[2x4x6x6]\n"
                                  "  %11 = conv2d_grad_w %10, %9 {pad=[1,1,1,1], kernel=3} : f32[4x4x3x3] backward\n"
                                  "  %12 = qdq_grad_x %4, %2, %10 {lo=0, hi=15} : f32[2x4x6x6] backward\n"
                                  "  output %11 \"g\"\n  output %12 \"x\"\n}\n");
    assert_int_equal(count(g, OP_QDQ, true), 1);
    assert_int_equal(count(g, OP_QDQ, false), 0);
}

#define GATED(gate)                                                                                                    \
    HEAD gate "  %6 = mul %0, %5 : f32[2x4x6x6]\n"                                                                     \
              "  %9 = qdq %6, %2 " QDQ " : f32[2x4x6x6]\n" TAIL "}\n"

/* A gate of few numbers may be kept for it; an operand as large as the value may not. */
static void test_operands(void **state)
{
    Graph *small_gate = small(*state, GATED("  %5 = global_avgpool %4 : f32[2x4x1x1]\n"));
    Graph *large_gate = small(*state, GATED("  %5 = avgpool %4 {kernel=3, stride=1, pad=[1,1,1,1]} : f32[2x4x6x6]\n"));
    assert_int_equal(count(small_gate, OP_QDQ, true), 1);
    assert_int_equal(count(large_gate, OP_QDQ, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test_setup_teardown(test_less_than_float, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_float_is_left_alone, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_kept_where_nothing_is_there, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_image_is_there, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_codes_alone_in_forward, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_operands, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
