/* test_networks.c: the networks of models/ against what is known of them: params and multiplications, as `detent info`
 * counts them, shapes and names of layers, first values, sizes of image that are odd. Their numbers:
 * test_parity_nets.c. */
#include "cli/cli.h"
#include "tests/unit/graph_fixture.h"

#include <math.h>
#include <string.h>

/* Of another size of image than the network's own; 0: its own. */
static Graph *build_net(Fixture *f, const char *name, int h, int w, StepKind step)
{
    const DtModel *model = frontend_find(&f->arena, &f->diag, name);
    assert_non_null(model);
    DtModel *m = arena_copy(&f->arena, model, sizeof *m);
    if (h > 0) {
        m->image[1] = h;
        m->image[2] = w;
    }
    return build(f, m, 2, step);
}

/* ---- Params and multiplications ---------------------------------------------------------------------------------- */

/* The last line of `detent info`. */
static void info(const char *net, const char *image, char *line, size_t room)
{
    Session s = { .arena = arena_new("info"), .diag = diag_new(stderr), .program = "detent" };
    char   *text = NULL;
    size_t  len = 0;
    s.out = open_memstream(&text, &len);
    char   *argv[] = { arena_printf(&s.arena, "--image=%s", image), arena_strdup(&s.arena, "--batch=2") };
    StrList rest = { 0 };
    assert_true(cli_parse(&s.arena, &s.diag, ~0u, 2, argv, &s.opt, &rest));
    assert_true(session_open(&s, frontend_find(&s.arena, &s.diag, net)));
    assert_int_equal(command_info(&s, &rest), EXIT_OK);
    fclose(s.out);
    text[len - 1] = 0;
    snprintf(line, room, "%s", strrchr(text, '\n') + 1);
    free(text);
    s.out = stdout;
    session_close(&s);
}

/* Of torchvision's networks, and of PyTorch's that tests/reference/make_networks.py has, its --table; tf_ and
 * torchvision's differ in no count. */
static void test_counts(void **state)
{
    static const struct {
        const char *name, *image, *params, *macs;
        int64_t     n;
    } known[] = {
        { "resnet20", "32x32", "269,722", "40,551,040", 269722 },
        { "mnist", "28x28", "1,199,882", "11,992,448", 1199882 },
        { "resnet20_b", "32x32", "272,474", "40,813,184", 272474 },
        { "vgg_small", "32x32", "4,660,106", "607,600,640", 4660106 },
        { "mobilenetv2", "224x224", "3,504,872", "300,774,272", 3504872 },
        { "unet", "256x256", "517,795", "8,518,631,424", 517795 },
        { "cbdnet", "256x256", "4,365,382", "37,060,870,144", 4365382 },
        { "cbdnet_released", "256x256", "6,793,478", "55,952,015,360", 6793478 },
        { "efficientnet_b0", "224x224", "5,288,548", "385,814,752", 5288548 },
        { "efficientnet_b1", "240x240", "7,794,184", NULL, 7794184 },
        { "efficientnet_b2", "260x260", "9,109,994", NULL, 9109994 },
        { "efficientnet_b3", "300x300", "12,233,232", "1,827,141,392", 12233232 },
        { "efficientnet_b4", "380x380", "19,341,616", NULL, 19341616 },
        { "tf_efficientnet_b0", "224x224", "5,288,548", "385,814,752", 5288548 },
        { "tf_efficientnet_b1", "240x240", "7,794,184", NULL, 7794184 },
        { "tf_efficientnet_b2", "260x260", "9,109,994", NULL, 9109994 },
        { "tf_efficientnet_b3", "300x300", "12,233,232", "1,827,141,392", 12233232 },
        { "tf_efficientnet_b4", "380x380", "19,341,616", NULL, 19341616 },
        { "efficientnet_lite0", "224x224", "4,652,008", "385,187,552", 4652008 },
        { "efficientnet_lite1", "240x240", NULL, NULL, 5416680 },
        { "efficientnet_lite2", "260x260", NULL, NULL, 6092072 },
        { "efficientnet_lite3", "280x280", "8,197,096", "1,383,321,872", 8197096 },
    };
    Fixture *f = *state;
    char     line[300];
    assert_int_equal(DT_COUNT(known), frontend_n_models);
    for (int32_t i = 0; i < DT_COUNT(known); i++) {
        for (StepKind step = STEP_TRAIN; step <= STEP_INIT; step++)
            assert_int_equal(count_params(build_net(f, known[i].name, 0, 0, step)), known[i].n);
        info(known[i].name, known[i].image, line, sizeof line);
        if ((known[i].params && !strstr(line, known[i].params)) || (known[i].macs && !strstr(line, known[i].macs)))
            fail_msg("%s: expected %s and %s in: %s", known[i].name, known[i].params, known[i].macs, line);
    }
}

/* ---- Shapes and names -------------------------------------------------------------------------------------------- */

static void test_efficientnet_b3(void **state)
{
    static const struct {
        const char *name, *shape;
    } leaves[] = {
        { "stem.conv1.weight", "40x3x3x3" },
        { "s0.b0.dw.conv1.weight", "40x1x3x3" },
        { "s0.b0.se.fc1.weight", "10x40" },
        { "s0.b1.se.fc1.weight", "6x24" },
        { "s1.b0.expand.conv1.weight", "144x24x1x1" },
        { "s1.b0.se.fc2.weight", "144x6" },
        { "s4.b4.dw.conv1.weight", "816x1x5x5" },
        { "s5.b5.project.conv1.weight", "232x1392x1x1" },
        { "s6.b1.project.bn1.gamma", "384" },
        { "head.conv1.weight", "1536x384x1x1" },
        { "classifier.weight", "1000x1536" },
    };
    Fixture *f = *state;
    Graph   *g = build_net(f, "efficientnet_b3", 0, 0, STEP_TRAIN);
    for (int32_t i = 0; i < DT_COUNT(leaves); i++)
        assert_shape(f, find(g, leaves[i].name), leaves[i].shape);
    assert_int_equal(ir_find(g, "s0.b0.expand.conv1.weight"), VALUE_NONE);
    assert_int_equal(ir_find(g, "s6.b2.dw.conv1.weight"), VALUE_NONE);
    assert_int_equal(count(g, OP_SAMPLE_MASK), 26 - 7); /* all blocks but the first of each stage */
    assert_int_equal(count(g, OP_DROPOUT), 1);
    assert_int_equal(count(g, OP_SIGMOID), 26);

    const Value *dw = find(g, "s4.b4.dw.conv1.weight"), *last = find(g, "classifier.weight");
    assert_string_equal(ir_text(dw, A_INIT), "kaiming");
    assert_int_equal(ir_int(dw, A_FAN), 25);
    assert_int_equal(ir_int(find(g, "s1.b0.expand.conv1.weight"), A_FAN), 144);
    assert_string_equal(ir_text(last, A_INIT), "torch");
    assert_int_equal(ir_int(last, A_FAN), 1000);
    assert_string_equal(ir_text(find(g, "classifier.bias"), A_INIT), "zeros");
}

/* Of every batch norm, and of the first convolution of stride 2. */
static void check_form(Graph *g, double eps, const int64_t pad[4])
{
    const Value *stem = NULL;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_BATCHNORM)
            assert_true(ir_float(v, A_EPS) == (double)(float)eps);
        if (v->op == OP_CONV2D && stem == NULL)
            stem = v;
    }
    assert_memory_equal(ir_pads(stem, A_PAD), pad, 4 * sizeof *pad);
}

static void test_forms_of_efficientnet(void **state)
{
    Fixture *f = *state;
    check_form(build_net(f, "efficientnet_b0", 0, 0, STEP_EVAL), 1e-5, (const int64_t[]){ 1, 1, 1, 1 });
    check_form(build_net(f, "tf_efficientnet_b0", 0, 0, STEP_EVAL), 1e-3, (const int64_t[]){ 0, 0, 1, 1 });
    check_form(build_net(f, "tf_efficientnet_b0", 65, 64, STEP_EVAL), 1e-3, (const int64_t[]){ 1, 0, 1, 1 });
    Graph *lite = build_net(f, "efficientnet_lite2", 0, 0, STEP_TRAIN);
    check_form(lite, 1e-3, (const int64_t[]){ 0, 0, 1, 1 });
    assert_int_equal(count(lite, OP_SILU) + count(lite, OP_SIGMOID), 0);
    assert_shape(f, find(lite, "stem.conv1.weight"), "32x3x3x3");
    assert_shape(f, find(lite, "head.conv1.weight"), "1280x352x1x1");
}

/* The result has the image's size, whatever is lost in between. */
static void test_odd_sizes(void **state)
{
    static const char *const nets[] = { "cbdnet", "cbdnet_released", "unet" };
    static const int         sizes[][2] = { { 32, 40 }, { 33, 40 }, { 34, 35 }, { 35, 39 } };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < DT_COUNT(nets); i++)
        for (int32_t k = 0; k < DT_COUNT(sizes); k++) {
            Graph *g = build_net(f, nets[i], sizes[k][0], sizes[k][1], STEP_EVAL);
            assert_shape(f, find(g, "logits"), arena_printf(&f->arena, "2x3x%dx%d", sizes[k][0], sizes[k][1]));
        }
}

/* Three parts of the loss, on the map of standard deviations. */
static void test_cbdnet_loss(void **state)
{
    Fixture *f = *state;
    Graph   *g = build_net(f, "cbdnet", 0, 0, STEP_TRAIN);
    assert_shape(f, find(g, "noise"), "2x3x128x128");
    assert_int_equal(count(g, OP_TV), 1);
    assert_int_equal(count(g, OP_ASYMMETRIC), 1);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op == OP_ASYMMETRIC)
            assert_true(fabs(ir_float(v, A_ALPHA) - 0.3) < 1e-7);
    }
    static const char *const parts[] = { "loss", "loss:mse", "loss:noise.tv", "loss:noise.asymmetric" };
    for (int32_t i = 0; i < DT_COUNT(parts); i++)
        assert_shape(f, find(g, parts[i]), "");
}

/* What training is told by default is something that training knows. */
static void test_defaults(void **state)
{
    (void)state;
    for (int32_t i = 0; i < frontend_n_models; i++) {
        Session s = { .arena = arena_new("defaults"), .diag = diag_new(stderr), .program = "detent", .out = stdout };
        StrList rest = { 0 };
        assert_true(cli_parse(&s.arena, &s.diag, ~0u, 0, NULL, &s.opt, &rest));
        assert_true(session_open(&s, frontend_models[i]));
        const DtTraining *t = &frontend_models[i]->training;
        bool              known = false;
        for (int32_t k = 0; k < dataset_table_len; k++)
            known |= str_eq(dataset_table[k].name, t->data);
        if (!known || t->batch <= 0 || t->epochs <= 0 || t->lr <= 0)
            fail_msg("%s: how it is trained is not said", frontend_models[i]->name);
        session_close(&s);
    }
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_counts),    TEST(test_efficientnet_b3), TEST(test_forms_of_efficientnet),
        TEST(test_odd_sizes), TEST(test_cbdnet_loss),     TEST(test_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
