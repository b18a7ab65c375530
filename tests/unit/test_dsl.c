/* test_dsl.c: the frontend against what is known of the networks: shapes of every stage, names and numbers of params,
 * the graph of each step, scopes, files that are loaded, and handles that are kept too long. Messages are the subject
 * of test_diag_dsl.c. */
#include "frontend/detent.h"
#include "tests/unit/graph_fixture.h"

#include <string.h>
#include <unistd.h>

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

/* The result of the last op of this kind. */
static const Value *last(const Graph *g, OpCode op)
{
    for (int32_t i = g->order.len - 1; i >= 0; i--)
        if (ir_is(g, g->order.at[i], op))
            return ir_value(g, g->order.at[i]);
    fail_msg("there is no %s", ir_ops[op].text);
    return NULL;
}

/* ---- The built-in networks --------------------------------------------------------------------------------------- */

static void test_resnet20(void **state)
{
    static const struct {
        const char *symbol, *shape;
    } leaves[] = {
        { "image", "128x3x32x32" },
        { "label", "128x1" },
        { "stem.conv1.weight", "16x3x3x3" },
        { "stem.bn1.gamma", "16" },
        { "s0.b0.conv1.weight", "16x16x3x3" },
        { "s1.b0.conv1.weight", "32x16x3x3" },
        { "s1.b0.bn2.running_var", "32" },
        { "s2.b2.conv2.weight", "64x64x3x3" },
        { "head.weight", "10x64" },
        { "head.bias", "10" },
    };
    Fixture *f = *state;
    Graph   *g = build(f, frontend_find(&f->arena, &f->diag, "resnet20"), 128, STEP_TRAIN);
    assert_string_equal(g->name, "resnet20.train");
    for (int32_t i = 0; i < DT_COUNT(leaves); i++)
        assert_shape(f, find(g, leaves[i].symbol), leaves[i].shape);
    assert_int_equal(count(g, OP_CONV2D), 19);
    assert_int_equal(count(g, OP_BATCHNORM), 19);
    assert_int_equal(count(g, OP_ADD), 9);
    assert_int_equal(count(g, OP_SHORTCUT_A), 2); /* others are the value itself */
    assert_shape(f, last(g, OP_CONV2D), "128x64x8x8");
    assert_shape(f, last(g, OP_LINEAR), "128x10");
    assert_shape(f, find(g, "loss"), "");
    assert_shape(f, find(g, "correct"), "");

    const Value *w = find(g, "s1.b0.conv1.weight");
    assert_string_equal(ir_text(w, A_INIT), "kaiming");
    assert_int_equal(ir_int(w, A_FAN), 16 * 9);
    assert_string_equal(ir_text(w, A_GROUP), "weight");
    assert_string_equal(w->scope, "s1.b0");
    assert_string_equal(w->origins[0].dsl.file, "models/resnet20.c");
    assert_int_equal(w->origins[0].dsl.line, 15);
    assert_string_equal(w->origins[0].by, "frontend");
    assert_string_equal(ir_text(find(g, "head.bias"), A_GROUP), "bias");
    assert_string_equal(ir_text(find(g, "stem.bn1.beta"), A_GROUP), "norm");
    assert_string_equal(ir_text(find(g, "stem.bn1.gamma"), A_INIT), "ones");
    assert_string_equal(ir_text(find(g, "stem.bn1.running_var"), A_INIT), "ones");
    assert_string_equal(ir_text(find(g, "stem.bn1.running_mean"), A_INIT), "zeros");
}

static void test_mnist(void **state)
{
    Fixture *f = *state;
    Graph   *g = build(f, frontend_find(&f->arena, &f->diag, "mnist"), 64, STEP_TRAIN);
    assert_shape(f, find(g, "fc1.weight"), "128x9216");
    assert_string_equal(ir_text(find(g, "fc1.bias"), A_INIT), "torch");
    assert_int_equal(ir_int(find(g, "conv2.bias"), A_FAN), 32 * 9);
    assert_shape(f, last(g, OP_MAXPOOL), "64x64x12x12");
    assert_int_equal(count(g, OP_DROPOUT), 2);
    const Value *d = last(g, OP_DROPOUT);
    assert_int_equal(ir_int(d, A_STREAM), hash_u32("dropout2") & 0x7fffffff);
    assert_true(ir_float(d, A_P) == 0.5);
    assert_int_equal(d->in[1], ir_find(g, "seed"));
    assert_int_equal(d->in[2], ir_find(g, "step"));
    assert_int_equal(find(g, "step")->type.dtype, DTYPE_U32);

    Graph *eval = build(f, frontend_find(&f->arena, &f->diag, "mnist"), 64, STEP_EVAL);
    assert_int_equal(count(eval, OP_DROPOUT), 0);
    assert_int_equal(ir_find(eval, "seed"), VALUE_NONE);
}

/* ---- One network, three steps ------------------------------------------------------------------------------------ */

dt_model(tiny, "one normalised convolution", .image = { 2, 6, 4 }, .classes = 3)
{
    Tensor x = relu(batchnorm(conv2d(dt_image(), 4, 3, .no_bias = true), .momentum = 0.25f));
    return linear(global_avgpool(x), dt_classes(), .no_bias = true);
}

static void test_train_step(void **state)
{
    Fixture     *f = *state;
    Graph       *g = build(f, &tiny, 5, STEP_TRAIN);
    const Value *bn = last(g, OP_BATCHNORM);
    assert_true(ir_is(g, bn->in[1], OP_BN_MEAN) && ir_is(g, bn->in[2], OP_BN_VAR));
    assert_true(ir_float(bn, A_EPS) == 1e-5);
    assert_int_equal(count(g, OP_ASSIGN), 2);
    const Value *update = last(g, OP_ASSIGN);
    assert_int_equal(update->in[0], ir_find(g, "bn1.running_var"));
    const Value *ema = ir_value(g, update->in[1]);
    assert_true(ir_float(ema, A_MOMENTUM) == 0.25);
    assert_true(ir_float(ema, A_SCALE) == 40.0 / 39.0); /* 5 images of 4x2 */
    assert_int_equal(ema->in[1], bn->in[2]);
    assert_int_equal(ir_value(g, find(g, "loss")->in[0])->op, OP_CROSS_ENTROPY);
    assert_int_equal(ir_find(g, "logits"), VALUE_NONE);
}

static void test_eval_step(void **state)
{
    Fixture     *f = *state;
    Graph       *g = build(f, &tiny, 5, STEP_EVAL);
    const Value *bn = last(g, OP_BATCHNORM);
    assert_int_equal(bn->in[1], ir_find(g, "bn1.running_mean"));
    assert_int_equal(bn->in[2], ir_find(g, "bn1.running_var"));
    assert_int_equal(count(g, OP_ASSIGN), 0);
    assert_shape(f, find(g, "logits"), "5x3");
    assert_shape(f, find(g, "loss_each"), "5x1");
    assert_shape(f, find(g, "correct_each"), "5x1");
    assert_int_equal(ir_find(g, "loss"), VALUE_NONE);
}

static void test_init_step(void **state)
{
    Fixture *f = *state;
    Graph   *g = build(f, &tiny, 5, STEP_INIT);
    assert_true(ir_is(g, last(g, OP_BATCHNORM)->in[1], OP_BN_MEAN));
    assert_int_equal(count(g, OP_ASSIGN), 0);
    assert_int_equal(count(g, OP_OUTPUT), 1);
    assert_shape(f, find(g, "logits"), "5x3");
}

dt_model(regression, "an image to an image", .image = { 3, 8, 8 }, .loss = DT_MSE)
{
    return conv2d(dt_image(), 3, 3, .pad = 1);
}

static void test_mse(void **state)
{
    Fixture *f = *state;
    Graph   *g = build(f, &regression, 4, STEP_TRAIN);
    assert_shape(f, find(g, "target"), "4x3x8x8");
    assert_int_equal(ir_value(g, find(g, "loss")->in[0])->op, OP_MSE);
    assert_int_equal(ir_find(g, "correct"), VALUE_NONE);
    g = build(f, &regression, 4, STEP_EVAL);
    assert_shape(f, find(g, "loss_each"), "4x1");
    assert_true(ir_float(last(g, OP_REDUCE_SUM), A_SCALE) == 1.0 / (3 * 8 * 8));
    assert_int_equal(ir_find(g, "correct_each"), VALUE_NONE);
}

/* ---- Shapes and names -------------------------------------------------------------------------------------------- */

dt_model(shapes, "every layer, odd sizes", .image = { 3, 11, 7 }, .classes = 6)
{
    Tensor x = conv2d(dt_image(), 6, 3, .stride = 2, .pad4 = { 0, 1, 1, 1 }, .groups = 3); /* 5x4 */
    x = maxpool(x, 3, .stride = 1, .pad = 1);                                              /* 5x4 */
    x = shortcut_a(x, 10, .stride = 4);                                                    /* 2x1 */
    x = avgpool(x, 2, .pad4 = { 0, 1, 0, 0 });                                             /* 1x1 */
    x = linear(x, 12);
    return linear(flatten(x), dt_classes());
}

static void test_shapes(void **state)
{
    Fixture *f = *state;
    Graph   *g = build(f, &shapes, 2, STEP_TRAIN);
    assert_shape(f, last(g, OP_CONV2D), "2x6x5x4");
    assert_shape(f, find(g, "conv1.weight"), "6x1x3x3");
    assert_int_equal(ir_int(find(g, "conv1.weight"), A_FAN), 9);
    const int64_t *pad = ir_pads(last(g, OP_CONV2D), A_PAD);
    assert_true(pad[0] == 0 && pad[1] == 1 && pad[2] == 1 && pad[3] == 1);
    assert_shape(f, last(g, OP_MAXPOOL), "2x6x5x4");
    assert_shape(f, last(g, OP_SHORTCUT_A), "2x10x2x1");
    assert_shape(f, last(g, OP_AVGPOOL), "2x10x1x1");
    assert_int_equal(ir_int(last(g, OP_AVGPOOL), A_STRIDE), 2); /* the kernel's */
    assert_shape(f, find(g, "fc1.weight"), "12x10");
    assert_int_equal(count(g, OP_RESHAPE), 1); /* flatten of rank 2 is x itself */
}

static Tensor pair(Tensor x)
{
    dt_scope_of(x, "pair")
        x = conv2d(conv2d(x, 4, 1), 4, 1);
    return x;
}

dt_model(names, "scopes that come again, names by hand", .image = { 3, 4, 4 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 4, 1, .name = "conv2");
    x = conv2d(x, 4, 1); /* conv1 */
    x = conv2d(x, 4, 1); /* conv3: conv2 is taken */
    x = pair(pair(x));   /* pair.conv1 ... pair.conv4 */
    for (int i = 0; i < 2; i++)
        dt_scope("s%d.b%d", i, 7) {
            x = conv2d(x, 4, 1);
            if (i == 0)
                continue; /* leaves the scope properly */
            dt_scope("in")
                x = batchnorm(x);
        }
    return linear(flatten(x), dt_classes());
}

static void test_names(void **state)
{
    static const char *const symbols[] = { "conv1.weight",      "conv2.weight",       "conv3.weight",
                                           "pair.conv1.weight", "pair.conv4.bias",    "s0.b7.conv1.weight",
                                           "s1.b7.conv1.bias",  "s1.b7.in.bn1.gamma", "fc1.weight" };
    Fixture                 *f = *state;
    Graph                   *g = build(f, &names, 1, STEP_TRAIN);
    for (int32_t i = 0; i < DT_COUNT(symbols); i++)
        find(g, symbols[i]);
    assert_null(find(g, "fc1.weight")->scope);
    assert_string_equal(find(g, "s1.b7.in.bn1.gamma")->scope, "s1.b7.in");
}

/* ---- What the compiler's side asks for --------------------------------------------------------------------------- */

static void assert_refused(Fixture *f, const DtModel *m, int64_t batch, const char *message)
{
    int32_t errors = f->diag.errors;
    assert_null(frontend_build(&f->arena, &f->diag, m, batch, STEP_TRAIN));
    assert_int_equal(f->diag.errors, errors + 1);
    if (!strstr(f->diag.text.s, message))
        fail_msg("\"%s\" is not in:\n%s", message, f->diag.text.s);
}

static Tensor build_without_image(DtContext *ctx)
{
    (void)ctx;
    return (Tensor){ NULL, -1 };
}

static void test_bad_requests(void **state)
{
    Fixture *f = *state;
    assert_refused(f, &tiny, 0, "tiny: the batch is 0, expected 1");
    assert_refused(f, &tiny, 1 << 27, "tiny: a batch of 134217728 images of 2x6x4 has more than");
    const DtModel odd = { .name = "odd", .doc = "", .image = { 1, 1, 1 }, .classes = 2, .build = build_without_image };
    assert_refused(f, &odd, 1, "odd: a Tensor is used here that no layer of this network made");
    DtModel huge = odd;
    huge.image[1] = 1 << 30;
    assert_refused(f, &huge, 1, "odd: the image's height is 1073741824");
    DtModel loss = odd;
    loss.loss = (DtLoss)7;
    assert_refused(f, &loss, 1, "odd: .loss is 7");
}

dt_model(one_value, "variance of one value", .image = { 3, 1, 1 }, .classes = 3)
{
    return linear(batchnorm(dt_image()), dt_classes());
}

static void test_variance_needs_two(void **state)
{
    Fixture *f = *state;
    assert_refused(f, &one_value, 1, "batchnorm: a channel of x (1x3x1x1) has one value");
    build(f, &one_value, 2, STEP_TRAIN);
    build(f, &one_value, 1, STEP_EVAL);
}

/* ---- Handles that are kept --------------------------------------------------------------------------------------- */

static Tensor kept; /* what a network must not do */

dt_model(keeper, "keeps a handle", .image = { 3, 8, 8 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3);
    if (kept.ctx)
        x = add(x, kept);
    else
        kept = x;
    return linear(global_avgpool(x), dt_classes());
}

dt_model(keeper_alone, "uses only what it kept", .image = { 3, 8, 8 }, .classes = 10)
{
    return linear(global_avgpool(kept), dt_channels(dt_image()));
}

static void test_two_contexts(void **state)
{
    Fixture *f = *state;
    kept = (Tensor){ NULL, 0 };
    build(f, &keeper, 2, STEP_TRAIN);
    assert_non_null(kept.ctx);
    assert_int_equal(dt_channels(kept), 0);
    assert_refused(f, &keeper, 2, "add: y is a Tensor that no layer of this network made");
    assert_refused(f, &keeper_alone, 2, "keeper_alone: a Tensor is used here that no layer of this network made");
}

/* A network that is built while another one is: both contexts are alive. */
static struct {
    Fixture *f;
    Tensor   outer;
} nested;

dt_model(inner, "takes a tensor of another network", .image = { 3, 8, 8 }, .loss = DT_MSE)
{
    return add(dt_image(), nested.outer);
}

dt_model(outer, "builds another network", .image = { 3, 8, 8 }, .loss = DT_MSE)
{
    nested.outer = conv2d(dt_image(), 3, 3, .pad = 1);
    assert_refused(nested.f, &inner, 2, "add: x and y belong to two networks that are built at the same time");
    return nested.outer;
}

static void test_nested_builds(void **state)
{
    Fixture *f = *state;
    Fixture  other = { arena_new("inner"), diag_new(NULL) };
    nested.f = &other;
    build(f, &outer, 2, STEP_TRAIN);
    arena_free(&other.arena);
    diag_free(&other.diag);
}

static void test_poison_is_silent(void **state)
{
    (void)state;
    Tensor bad = { NULL, -1 };
    assert_true(relu(bad).id < 0);
    assert_true(add(bad, bad).id < 0);
    assert_true(linear(flatten(maxpool(conv2d(bad, 0, 0), 0)), 0).id < 0);
    assert_int_equal(dt_channels(bad), 0);
    assert_int_equal(dt_height(bad), 0);
    int ran = 0;
    dt_scope_of(bad, "x")
        ran++;
    assert_int_equal(ran, 1);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static const char source[] = "#include \"frontend/detent.h\"\n"
                             "dt_model(loaded, \"from a file\", .image = { 1, 8, 8 }, .classes = 4)\n"
                             "{\n"
                             "    Tensor x = dt_image();\n"
                             "    dt_scope(\"body\")\n"
                             "        x = relu(batchnorm(conv2d(x, 8, 3, .pad = 1, .no_bias = true)));\n"
                             "    return linear(flatten(dropout(avgpool(x, 2), 0.5f)), dt_classes());\n"
                             "}\n";

static void       test_load(void **state)
{
    Fixture *f = *state;
    char     dir[] = "/tmp/test-dsl-XXXXXX";
    assert_non_null(mkdtemp(dir));
    const char *path = arena_printf(&f->arena, "%s/net.c", dir);
    assert_true(file_write_atomic(&f->diag, path, source, strlen(source)));
    const DtModel *m = frontend_find(&f->arena, &f->diag, path);
    if (!m)
        fail_msg("%s", f->diag.text.s);
    assert_string_equal(m->name, "loaded");
    Graph *g = build(f, m, 3, STEP_TRAIN);
    assert_int_equal(count_params(g), 8 * 9 + 8 + 8 + 4 * 128 + 4);
    const Value *w = find(g, "body.conv1.weight");
    assert_string_equal(w->origins[0].dsl.file, path);
    assert_int_equal(w->origins[0].dsl.line, 6);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* nothing is left beside the source */
}

static void test_not_found(void **state)
{
    Fixture *f = *state;
    assert_null(frontend_find(&f->arena, &f->diag, "resnet21"));
    assert_non_null(strstr(f->diag.text.s, "no network is named resnet21; built in are resnet20, mnist"));
    assert_non_null(strstr(f->diag.text.s, "did you mean resnet20?"));
    assert_null(frontend_find(&f->arena, &f->diag, "/nowhere/net.c"));
    assert_non_null(strstr(f->diag.text.s, "cannot read /nowhere/net.c: No such file or directory"));
    assert_int_equal(f->diag.errors, 2);
}

static void test_environment(void **state)
{
    Fixture    *f = *state;
    const char *path = DT_SOURCE_DIR "/models/mnist.c";
    setenv("DETENT_INCLUDE", "/nowhere", 1);
    assert_null(frontend_load(&f->arena, &f->diag, path));
    assert_non_null(strstr(f->diag.text.s, "DETENT_INCLUDE is /nowhere"));
    setenv("DETENT_INCLUDE", DT_SOURCE_DIR, 1);
    const char *cc = getenv("CC");
    char       *before = cc ? strdup(cc) : NULL;
    setenv("CC", "no-such-compiler -O2", 1);
    assert_null(frontend_load(&f->arena, &f->diag, path));
    assert_non_null(strstr(f->diag.text.s, "cannot run the C compiler no-such-compiler"));
    setenv("CC", " cc  -DNDEBUG ", 1);
    const DtModel *loaded = frontend_load(&f->arena, &f->diag, path);
    assert_non_null(loaded);
    assert_string_equal(loaded->at.file, path); /* it is not the built-in one of the same name */
    assert_string_not_equal(frontend_find(&f->arena, &f->diag, "mnist")->at.file, path);
    unsetenv("DETENT_INCLUDE");
    unsetenv("CC");
    if (before)
        setenv("CC", before, 1);
    free(before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_resnet20),
        TEST(test_mnist),
        TEST(test_train_step),
        TEST(test_eval_step),
        TEST(test_init_step),
        TEST(test_mse),
        TEST(test_shapes),
        TEST(test_names),
        TEST(test_bad_requests),
        TEST(test_two_contexts),
        TEST(test_variance_needs_two),
        TEST(test_nested_builds),
        TEST(test_poison_is_silent),
        TEST(test_load),
        TEST(test_not_found),
        TEST(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
