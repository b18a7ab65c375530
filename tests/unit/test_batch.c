/* test_batch.c: one launch over many weights, whatever the method does to them: with steps by tensor or by channel,
 * behind a folded batch norm, under random masks, in rows and as a GPU's library wants weights, the joined kernels
 * compute the bits of the kernels one by one, by the interpreter and as machine code; and each method adds few
 * launches to the float step. */
#include "tests/unit/net_fixture.h"
#include "tests/unit/pass_fixture.h"

#include <math.h>

/* Three convolutions of different shapes, a one by one among them, two with batch norm, and a classifier. */
static const char net[] = "graph @net.train {\n"
                          "  %0 = input \"image\" : f32[3x3x6x6]\n"
                          "  %1 = input \"label\" : i32[3x1]\n"
                          "  %2 = param \"c1.weight\" {init=\"kaiming\", fan=27} : f32[8x3x3x3]\n"
                          "  %3 = conv2d %0, %2 {pad=[1,1,1,1]} : f32[3x8x6x6]\n"
                          "  %4 = state \"c1.mean\" : f32[8]\n"
                          "  %5 = state \"c1.var\" {init=\"ones\"} : f32[8]\n"
                          "  %6 = bn_mean %3, %4 : f32[8]\n"
                          "  %7 = bn_var %3, %4 : f32[8]\n"
                          "  %8 = param \"c1.gamma\" {init=\"ones\", group=\"norm\"} : f32[8]\n"
                          "  %9 = param \"c1.beta\" {group=\"norm\"} : f32[8]\n"
                          "  %10 = batchnorm %3, %6, %7, %8, %9 : f32[3x8x6x6]\n"
                          "  %11 = ema %4, %6 : f32[8]\n"
                          "  assign %4, %11\n"
                          "  %12 = ema %5, %7 {scale=1.01} : f32[8]\n"
                          "  assign %5, %12\n"
                          "  %13 = relu %10 : f32[3x8x6x6]\n"
                          "  %14 = param \"c2.weight\" {init=\"kaiming\", fan=72} : f32[4x8x3x3]\n"
                          "  %15 = conv2d %13, %14 {pad=[1,1,1,1]} : f32[3x4x6x6]\n"
                          "  %16 = state \"c2.mean\" : f32[4]\n"
                          "  %17 = state \"c2.var\" {init=\"ones\"} : f32[4]\n"
                          "  %18 = bn_mean %15, %16 : f32[4]\n"
                          "  %19 = bn_var %15, %16 : f32[4]\n"
                          "  %20 = param \"c2.gamma\" {init=\"ones\", group=\"norm\"} : f32[4]\n"
                          "  %21 = param \"c2.beta\" {group=\"norm\"} : f32[4]\n"
                          "  %22 = batchnorm %15, %18, %19, %20, %21 : f32[3x4x6x6]\n"
                          "  %23 = ema %16, %18 : f32[4]\n"
                          "  assign %16, %23\n"
                          "  %24 = ema %17, %19 {scale=1.01} : f32[4]\n"
                          "  assign %17, %24\n"
                          "  %25 = param \"c3.weight\" {init=\"kaiming\", fan=4} : f32[6x4x1x1]\n"
                          "  %26 = conv2d %22, %25 : f32[3x6x6x6]\n"
                          "  %27 = relu %26 : f32[3x6x6x6]\n"
                          "  %28 = global_avgpool %27 : f32[3x6x1x1]\n"
                          "  %29 = reshape %28 {channels=6} : f32[3x6]\n"
                          "  %30 = param \"head.weight\" {init=\"kaiming\", fan=6} : f32[10x6]\n"
                          "  %31 = linear %29, %30 : f32[3x10]\n"
                          "  %32 = cross_entropy %31, %1 : f32[]\n"
                          "  output %32 \"loss\"\n"
                          "}\n";

static const struct Case {
    const char *method, *settings;
    int32_t     fewer; /* launches that joining saves at least */
} cases[] = {
    { "float", "", 3 },
    { "lsq", "", 6 },
    { "lsq+", "", 6 },
    { "qat", "fold=off", 9 },
    { "qat", "fold=one", 9 },
    { "qsin", "", 6 },
    { "quant-noise", "", 9 },
    { "lsq", "noise=0.5", 6 },
    { "lsq", "grain=channel", 6 },
    { "lsq", "grain=2", 9 },
    { "qat", "grain=channel fold=one", 9 },
    { "qat", "grain=channel fold=off", 9 },
    { "qsin", "grain=channel", 6 },
    { "lsq", "grain=channel noise=0.25 noise-block=3", 6 },
    { "quant-noise", "grain=channel fold=one noise-block=9", 9 },
};

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

static void choose(Fixture *f, const struct Case *c)
{
    char *save = NULL, *words = arena_strdup(&f->a, c->settings);
    f->recipe = (Recipe){ .method = c->method, .edge_bits = 8 };
    if (!str_eq(c->method, "float") && !recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"))
        fail_msg("%s", fixture_said(f));
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        if (!recipe_set(&f->a, &f->recipe, &f->d, LOC_NONE, "--set", w))
            fail_msg("%s", fixture_said(f));
}

static Graph *lowered(Fixture *f, const char *text, Layout weights, const char *flags)
{
    Graph *g = fixture_graph(f, text);
    f->target = net_target(weights);
    if (!fixture_run(f, g, arena_printf(&f->a, "--verify=all --verify-changed %s", flags)))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* Runs like a Net of models/; jit: NULL for the interpreter. */
static Net *running(Fixture *f, Graph *g, KernelJit *jit)
{
    Net *n = calloc(1, sizeof *n);
    n->a = arena_new("net");
    n->d = diag_new(stderr);
    n->g = g;
    n->jit = jit;
    (void)f;
    net_compile(n);
    net_load(n);
    return n;
}

static void same_tensors(Net *x, Net *y, const char *what)
{
    const Program *p = x->prog.program;
    assert_int_equal(p->n_tensors, y->prog.program->n_tensors);
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        const float      *a = net_read(x, t->name), *b = net_read(y, t->name);
        for (int64_t k = 0; k < t->elems; k++)
            if (memcmp(&a[k], &b[k], sizeof *a) != 0)
                fail_msg("%s: %s[%lld] is %.9g joined, %.9g one by one", what, t->name, (long long)k, (double)a[k],
                         (double)b[k]);
    }
}

static int32_t segments_of(const Graph *g)
{
    int32_t n = 0;
    for (int32_t k = 0; k < g->groups.len; k++)
        n += g->groups.at[k].kernel != NULL && g->groups.at[k].kernel->seg.rows > 0;
    return n;
}

/* Two steps of both programs. */
static void compare(Fixture *f, const struct Case *c, Layout weights, StepKind step, bool code)
{
    f->ctx.step = step;
    choose(f, c);
    const char *what = arena_printf(&f->a, "%s %s, weights in %s, %s", c->method, c->settings,
                                    weights == LAYOUT_NHWC ? "nhwc" : "rows", code ? "machine code" : "interpreter");
    Graph      *joined = lowered(f, net, weights, ""), *apart = lowered(f, net, weights, "--disable-pass=batch");
    KernelJit  *jit = NULL;
#ifdef DT_HAVE_LLVM
    if (code)
        jit = jit_llvm_new(&f->a, &f->d, (JitOptions){ 0 });
#endif
    Net *x = running(f, joined, jit), *y = running(f, apart, NULL);
    for (int i = 0; i < 2; i++) {
        net_run(x);
        net_run(y);
        same_tensors(x, y, what);
    }
    if (step == STEP_TRAIN && joined->groups.len + c->fewer > apart->groups.len)
        fail_msg("%s: %d launches, one by one %d, %d have segments", what, joined->groups.len, apart->groups.len,
                 segments_of(joined));
    net_free(x);
    net_free(y);
}

static void test_same_bits(void **state)
{
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        compare(*state, &cases[i], LAYOUT_ROWS, STEP_TRAIN, false);
        compare(*state, &cases[i], LAYOUT_NHWC, STEP_TRAIN, false);
        compare(*state, &cases[i], LAYOUT_NHWC, STEP_EVAL, false);
        compare(*state, &cases[i], LAYOUT_ROWS, STEP_INIT, false);
        if (i == 0)
            continue; /* in float there is nothing to observe */
        compare(*state, &cases[i], LAYOUT_ROWS, STEP_OBSERVE, false);
        compare(*state, &cases[i], LAYOUT_NHWC, STEP_INSPECT, false);
    }
}

static void test_same_bits_as_code(void **state)
{
#ifdef DT_HAVE_LLVM
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        compare(*state, &cases[i], LAYOUT_ROWS, STEP_TRAIN, true);
        compare(*state, &cases[i], LAYOUT_NHWC, STEP_TRAIN, true);
    }
#else
    (void)state;
    skip();
#endif
}

/* ---- Masks ------------------------------------------------------------------------------------------------------- */

/* The masks of three weights in one launch, and of each alone, are the draws of their elements in logical order. */
static void check_masks(Fixture *f, Layout weights, const char *flags, int32_t segments)
{
    static const char text[] = "graph @t.train {\n"
                               "  %0 = input \"seed\" : u32[]\n  %1 = input \"step\" : u32[]\n"
                               "  %2 = param \"a\" : f32[4x3x2x5]\n  %3 = param \"aq\" : f32[4x3x2x5]\n"
                               "  %4 = param \"b\" : f32[5x7x1x1]\n  %5 = param \"bq\" : f32[5x7x1x1]\n"
                               "  %6 = param \"c\" : f32[6x11]\n  %7 = param \"cq\" : f32[6x11]\n"
                               "  %8 = quant_noise %2, %3, %0, %1 {p=0.25, stream=4000000000, block=3} : f32[4x3x2x5]\n"
                               "  %9 = quant_noise %4, %5, %0, %1 {p=0.5, stream=7, block=2} : f32[5x7x1x1]\n"
                               "  %10 = quant_noise %6, %7, %0, %1 {p=0.75, stream=9, block=5} : f32[6x11]\n"
                               "  output %8 \"am\"\n  output %9 \"bm\"\n  output %10 \"cm\"\n}\n";
    static const struct {
        const char *x, *q, *mask;
        double      p;
        uint32_t    stream, block;
    } rows[] = { { "a", "aq", "am", 0.25, 4000000000u, 3 },
                 { "b", "bq", "bm", 0.5, 7, 2 },
                 { "c", "cq", "cm", 0.75, 9, 5 } };
    Graph *g = lowered(f, text, weights,
                       arena_printf(&f->a, "--passes=layout,fuse,batch,schedule,plan-memory,lower %s", flags));
    assert_int_equal(segments_of(g), segments);
    Net     *n = running(f, g, NULL);
    uint32_t seed = 12345, step = 77;
    tensor_write(n->prog.exec, n->prog.index, net_tensor(n, "seed"), &seed);
    tensor_write(n->prog.exec, n->prog.index, net_tensor(n, "step"), &step);
    for (int r = 0; r < DT_COUNT(rows); r++) {
        float zeros[256] = { 0 }, ones[256];
        for (int i = 0; i < 256; i++)
            ones[i] = 1;
        tensor_write(n->prog.exec, n->prog.index, net_tensor(n, rows[r].x), zeros);
        tensor_write(n->prog.exec, n->prog.index, net_tensor(n, rows[r].q), ones);
    }
    net_run(n);
    for (int r = 0; r < DT_COUNT(rows); r++) {
        const float *mask = net_read(n, rows[r].mask); /* in logical order */
        for (int64_t i = 0; i < net_tensor(n, rows[r].mask)->elems; i++) {
            uint32_t draw = rng_u32(seed, rows[r].stream, step, (uint64_t)(i / rows[r].block));
            assert_true((mask[i] != 0) == (draw < (uint32_t)(rows[r].p * 0x1p32)));
        }
    }
    net_free(n);
}

static void test_masks(void **state)
{
    check_masks(*state, LAYOUT_ROWS, "", 1);
    check_masks(*state, LAYOUT_NHWC, "", 1);
    check_masks(*state, LAYOUT_ROWS, "--disable-pass=batch", 0);
    check_masks(*state, LAYOUT_NHWC, "--disable-pass=batch", 0);
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

/* A number for each output is a row of the table; beyond 4096 of them another launch begins. */
static void test_rows_are_limited(void **state)
{
    Fixture *f = *state;
    f->ctx.step = STEP_EVAL;
    Graph *g = lowered(f,
                       "graph @t.eval {\n"
                       "  %0 = param \"a\" : f32[2000x2]\n  %1 = param \"as\" : f32[2000]\n"
                       "  %2 = param \"b\" : f32[2096x3]\n  %3 = param \"bs\" : f32[2096]\n"
                       "  %4 = param \"c\" : f32[10x5]\n  %5 = param \"cs\" : f32[10]\n"
                       "  %6 = param \"d\" : f32[7x5]\n  %7 = param \"ds\" : f32[7]\n"
                       "  %8 = qdq %0, %1 {lo=-8, hi=7, bits=4, axis=0} : f32[2000x2]\n"
                       "  %9 = qdq %2, %3 {lo=-8, hi=7, bits=4, axis=0} : f32[2096x3]\n"
                       "  %10 = qdq %4, %5 {lo=-8, hi=7, bits=4, axis=0} : f32[10x5]\n"
                       "  %11 = qdq %6, %7 {lo=-128, hi=127, bits=8, axis=0} : f32[7x5]\n"
                       "  output %8 \"a4\"\n  output %9 \"b4\"\n  output %10 \"c4\"\n  output %11 \"d8\"\n}\n",
                       LAYOUT_ROWS, "");
    assert_int_equal(g->groups.len, 2);
    assert_int_equal(g->groups.at[0].kernel->seg.rows, 4096);
    assert_int_equal(g->groups.at[1].kernel->seg.rows, 17);
}

/* Which output an element belongs to is found by a product where that is exact. A sum over two weights times a number
 * for each output, one of them large. */
static void test_outputs_by_product(void **state)
{
    static const char text[] = "graph @t.eval {\n"
                               "  %0 = param \"a\" {init=\"kaiming\", fan=8} : f32[6999x41]\n"
                               "  %1 = param \"as\" {init=\"kaiming\", fan=8} : f32[6999]\n"
                               "  %2 = param \"b\" {init=\"kaiming\", fan=8} : f32[11x13]\n"
                               "  %3 = param \"bs\" {init=\"kaiming\", fan=8} : f32[11]\n"
                               "  %4 = mul %0, %1 {axis=0} : f32[6999x41]\n"
                               "  %5 = reduce_abs %4 {keep=\"\", scale=0.5} : f32[]\n"
                               "  %6 = mul %2, %3 {axis=0} : f32[11x13]\n"
                               "  %7 = reduce_abs %6 {keep=\"\", scale=0.25} : f32[]\n"
                               "  output %5 \"x\"\n  output %7 \"y\"\n}\n";
    Fixture          *f = *state;
    f->ctx.step = STEP_EVAL;
    Graph *joined = lowered(f, text, LAYOUT_ROWS, ""), *apart = lowered(f, text, LAYOUT_ROWS, "--disable-pass=batch");
    assert_int_equal(joined->groups.len, 1);
    assert_int_equal(apart->groups.len, 2);
    Net *x = running(f, joined, NULL), *y = running(f, apart, NULL);
    net_run(x);
    net_run(y);
    same_tensors(x, y, "sums");
    net_free(x);
    net_free(y);
    static const int64_t each[] = { 1, 3, 7, 9, 27, 144, 4097, 1 << 21 };
    for (int r = 0; r < DT_COUNT(each); r++)
        for (int64_t i = 0; i < 1 << 22; i++)
            if (floorf(((float)i + 0.5f) * (float)(1 / (double)each[r])) != (float)(i / each[r]))
                fail_msg("%lld / %lld", (long long)i, (long long)each[r]);
}

/* ---- Launches and memory of a whole network ---------------------------------------------------------------------- */

static Graph *resnet(Fixture *f, const struct Case *c, int64_t batch)
{
    f->ctx.step = STEP_TRAIN;
    choose(f, c);
    const DtModel *model = frontend_find(&f->a, &f->d, "resnet20");
    Graph         *g = frontend_build(&f->a, &f->d, model, batch, STEP_TRAIN);
    f->target = net_target(LAYOUT_NHWC);
    if (!fixture_run(f, g, ""))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* ResNet-20 has 20 weights and 20 inputs that are quantized, in some ten launches more than the float step has;
 * one of them quantizes the image again for backward. */
static void test_few_launches(void **state)
{
    static const struct {
        struct Case c;
        int32_t     more;
    } rows[] = {
        { { "lsq", "", 0 }, 6 },          { { "lsq", "grain=channel", 0 }, 6 },       { { "lsq", "noise=0.5", 0 }, 6 },
        { { "lsq+", "", 0 }, 9 },         { { "lsq+", "offset=float", 0 }, 8 },       { { "qsin", "", 0 }, 8 },
        { { "qat", "fold=off", 0 }, 10 }, { { "qat", "fold=off noise=0.5", 0 }, 10 }, { { "qat", "fold=one", 0 }, 14 },
    };
    int32_t plain = resnet(*state, &(struct Case){ "float", "", 0 }, 2)->groups.len;
    for (int i = 0; i < DT_COUNT(rows); i++) {
        int32_t more = resnet(*state, &rows[i].c, 2)->groups.len - plain;
        if (more > rows[i].more)
            fail_msg("%s %s: %d launches more than float, expected at most %d", rows[i].c.method, rows[i].c.settings,
                     more, rows[i].more);
    }
}

/* A mask is drawn again where it is needed: the same plan to the byte, but for the two numbers that the host gives. */
static void test_noise_keeps_nothing(void **state)
{
    Fixture *f = *state;
    Graph   *qat = resnet(f, &(struct Case){ "qat", "", 0 }, 8);
    Graph   *noise = resnet(f, &(struct Case){ "qat", "noise=0.5", 0 }, 8);
    assert_int_equal(noise->bytes[MEM_WORK], qat->bytes[MEM_WORK]);
    assert_int_equal(noise->bytes[MEM_PARAM], qat->bytes[MEM_PARAM]);
    assert_int_equal(noise->bytes[MEM_STATE], qat->bytes[MEM_STATE]);
    assert_int_equal(noise->bytes[MEM_IO], qat->bytes[MEM_IO] + 2 * f->target.align_bytes);
    assert_int_equal(passes_saved_bytes(noise), passes_saved_bytes(qat));
    assert_int_equal(noise->groups.len, qat->groups.len);
}

/* The sums of a regularizer wait for the end of the step with those who want them: nothing more is saved. */
static void test_penalties_keep_nothing(void **state)
{
    Graph *lsq = resnet(*state, &(struct Case){ "lsq", "", 0 }, 8);
    Graph *qsin = resnet(*state, &(struct Case){ "qsin", "", 0 }, 8);
    assert_true(passes_saved_bytes(lsq) > 8 * 1000 * 1000);
    assert_int_equal(passes_saved_bytes(qsin), passes_saved_bytes(lsq));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_same_bits),
        fixture_test(test_same_bits_as_code),
        fixture_test(test_masks),
        fixture_test(test_rows_are_limited),
        fixture_test(test_outputs_by_product),
        fixture_test(test_few_launches),
        fixture_test(test_noise_keeps_nothing),
        fixture_test(test_penalties_keep_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
