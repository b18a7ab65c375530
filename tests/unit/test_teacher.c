/* test_teacher.c: learning from another network: what the step's graph holds, the loss in closed form, gradients
 * against differences, and what is wrong with a teacher. How it trains through the program: tests/e2e. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"
#include "frontend/frontend.h"
#include "runtime/runtime.h"

#include <math.h>
#include <unistd.h>

enum { BATCH = 6, CLASSES = 4 };

/* ---- Networks ---------------------------------------------------------------------------------------------------- */

dt_model(student, "learns", .image = { 2, 4, 4 }, .classes = CLASSES)
{
    Tensor x = dt_relu(dt_batchnorm(dt_conv2d(dt_image(), 3, 3, .pad = 1, .no_bias = true)));
    return dt_linear(dt_global_avgpool(x), dt_classes(), .name = "head");
}

/* Another depth, dropout and an own part of the loss, which are nothing to an evaluation. */
dt_model(teacher, "teaches", .image = { 2, 4, 4 }, .classes = CLASSES)
{
    Tensor x = dt_image();
    dt_scope("s0")
        x = dt_relu(dt_batchnorm(dt_conv2d(x, 5, 3, .pad = 1, .no_bias = true)));
    dt_scope("s1")
        x = dt_relu(dt_add(x, dt_conv2d(x, 5, 1)));
    x = dt_dropout(x, 0.5f);
    dt_loss_tv(x, 0.1f);
    return dt_linear(dt_global_avgpool(x), dt_classes(), .name = "head");
}

dt_model(restorer, "restores", .image = { 2, 4, 4 }, .loss = DT_L1)
{
    return dt_conv2d(dt_image(), 2, 3, .pad = 1);
}

dt_model(larger, "takes other images", .image = { 2, 8, 8 }, .classes = CLASSES)
{
    return dt_linear(dt_global_avgpool(dt_image()), dt_classes());
}

dt_model(more_classes, "knows more", .image = { 2, 4, 4 }, .classes = CLASSES + 1)
{
    return dt_linear(dt_global_avgpool(dt_image()), dt_classes());
}

dt_model(normalised, "sees other numbers", .image = { 2, 4, 4 }, .classes = CLASSES, .mean = { 0.5f, 0.5f },
         .std = { 0.5f, 0.5f })
{
    return dt_linear(dt_global_avgpool(dt_image()), dt_classes());
}

dt_model(wider, "restores less", .image = { 2, 4, 4 }, .loss = DT_MSE)
{
    return dt_conv2d(dt_image(), 2, 3);
}

static Graph *built(Fixture *f, const DtModel *m, const DtModel *t, double weight, double temperature, StepKind step)
{
    return frontend_build_distilled(&f->a, &f->d, m, BATCH, step, &(Distillation){ t, weight, temperature });
}

/* ---- The graph --------------------------------------------------------------------------------------------------- */

static int32_t count(const Graph *g, OpCode op, const char *pattern)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        n += v->op == op && (pattern == NULL || (v->name != NULL && str_glob(pattern, v->name)));
    }
    return n;
}

static void test_graph(void **state)
{
    Fixture *f = *state;
    Graph   *g = built(f, &student, &teacher, 0.5, 4, STEP_TRAIN);
    assert_non_null(g);
    assert_int_equal(count(g, OP_PARAM, "teacher:*"), 0);
    assert_int_equal(count(g, OP_PARAM, NULL), 5); /* conv1.weight, bn1.gamma, bn1.beta, head.weight, head.bias */
    assert_int_equal(count(g, OP_STATE, "teacher:*"), 9);
    assert_true(ir_find(g, "teacher:s1.conv1.bias") != VALUE_NONE);
    assert_int_equal(count(g, OP_DROPOUT, NULL) + count(g, OP_TV, NULL), 0);
    assert_int_equal(count(g, OP_BN_MEAN, NULL), 1); /* the student's: the teacher has its running statistics */
    assert_int_equal(count(g, OP_INPUT, "image"), 1);
    assert_int_equal(count(g, OP_OUTPUT, "loss:cross_entropy") + count(g, OP_OUTPUT, "loss:teacher"), 2);
    g = built(f, &student, &teacher, 0.5, 4, STEP_EVAL);
    assert_int_equal(count(g, OP_STATE, "teacher:*"), 0);
}

/* Nothing of the teacher is quantized, trained, frozen, folded or averaged, whatever the student is. */
static void test_passes(void **state)
{
    static const char *const methods[] = { "lsq", "qat", "lsq+", "quant-noise", "qsin" };
    Fixture                 *f = *state;
    for (int32_t i = 0; i < DT_COUNT(methods); i++) {
        Graph *g = built(f, &student, &teacher, 0.5, 4, STEP_TRAIN);
        f->recipe = (Recipe){ .method = methods[i], .weight_bits = 4, .act_bits = 4, .edge_bits = 4 };
        f->optimizer = (OptimizerConfig){ .name = "adamw", .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .ema = 0.99 };
        f->ctx.step = STEP_TRAIN;
        f->ctx.moment = (Moment){ 0, 10 };
        PassOptions opt = fixture_options(f, "--verify=all");
        if (!passes_run(&f->ctx, g, &opt, stdout, NULL))
            fail_msg("%s: %s", methods[i], fixture_said(f));
        assert_int_equal(count(g, OP_STATE, "teacher:*"), 9);
        for (int32_t k = 0; k < g->order.len; k++) {
            const Value *v = ir_value(g, g->order.at[k]);
            if (v->op == OP_ASSIGN)
                assert_null(strstr(ir_value(g, v->in[0])->name, "teacher:"));
            if (v->op == OP_QDQ)
                assert_false(v->scope != NULL && strstr(v->scope, "teacher:") != NULL);
        }
        /* it lies behind all that other steps have, too */
        int64_t first = INT64_MAX, last = 0;
        for (int32_t k = 0; k < g->order.len; k++) {
            const Value *v = ir_value(g, g->order.at[k]);
            if (v->op != OP_STATE)
                continue;
            if (strncmp(v->name, TEACHER_PREFIX, sizeof TEACHER_PREFIX - 1) == 0)
                first = dt_min64(first, v->place.offset);
            else
                last = dt_max64(last, v->place.offset);
        }
        assert_true(first > last);
    }
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */

static double *fill(Arena *a, CheckNet *n, const ProgTensor *t)
{
    double *x = ARENA_ARRAY(a, double, t->elems);
    for (int64_t i = 0; i < t->elems; i++) {
        x[i] = (double)(float)(0.5 * rng_normal(3, 4, hash_u32(t->name), (uint64_t)i));
        if (str_eq(t->name, "label"))
            x[i] = (double)(i % CLASSES);
        else if (strstr(t->name, "running_var") || strstr(t->name, "gamma"))
            x[i] = 1 + fabs(x[i]);
        else if (str_eq(t->name, "image"))
            x[i] *= 3;
    }
    check_net_write(n, t->name, x);
    return x;
}

static CheckNet opened(Fixture *f, CheckBackend *b, Graph *g)
{
    static const CheckSetup setup = { .step = STEP_TRAIN,
                                      .passes =
                                          "autodiff,decompose,simplify,layout,fuse,batch,schedule,plan-memory,lower" };
    CheckNet                n;
    if (!check_net_open(&n, b, g, &setup))
        fail_msg("%s", fixture_said(f));
    for (int32_t i = 0; i < n.prog.program->n_tensors; i++)
        if (n.prog.program->tensors[i].kind != TENSOR_OUTPUT)
            fill(&f->a, &n, &n.prog.program->tensors[i]);
    return n;
}

static double loss_of(Fixture *f, CheckNet *n)
{
    check_net_run(n);
    return *check_net_read(&f->a, n, "loss");
}

/* Central differences of every element of every param. */
static void check_differences(Fixture *f, CheckNet *n, double h, double bound)
{
    check_net_run(n);
    for (int32_t i = 0; i < n->prog.program->n_tensors; i++) {
        const ProgTensor *t = &n->prog.program->tensors[i];
        if (t->kind != TENSOR_PARAM)
            continue;
        double *x = check_net_read(&f->a, n, t->name);
        double *g = check_net_read(&f->a, n, arena_printf(&f->a, "grad:%s", t->name));
        for (int64_t k = 0; k < t->elems; k++) {
            const double was = x[k];
            double       side[2];
            for (int s = 0; s < 2; s++) {
                x[k] = was + (s == 0 ? h : -h);
                check_net_write(n, t->name, x);
                side[s] = loss_of(f, n);
            }
            x[k] = was;
            double slope = (side[0] - side[1]) / (2 * h);
            if (!(fabs(slope - g[k]) <= bound * (1 + fabs(g[k]))))
                fail_msg("%s[%lld]: the gradient is %g, differences give %g", t->name, (long long)k, g[k], slope);
        }
        check_net_write(n, t->name, x);
    }
}

static void test_gradients(void **state)
{
    Fixture     *f = *state;
    CheckBackend b;
    assert_true(check_backend_open(&b, &f->a, &f->d, false, 1, 0));
    CheckNet labels = opened(f, &b, built(f, &student, &teacher, 0.7, 4, STEP_TRAIN));
    check_differences(f, &labels, 0.01, 2e-3); /* kinks of relu within h, roundings of the loss over h */
    check_net_close(&labels);
    CheckNet pixels = opened(f, &b, built(f, &restorer, &restorer, 0.7, 1, STEP_TRAIN));
    check_differences(f, &pixels, 0.01, 2e-3);
    check_net_close(&pixels);
    check_backend_close(&b);
}

/* The loss is put together from its two parts; from the teacher's own weights the distance is 0. */
static void test_loss(void **state)
{
    Fixture     *f = *state;
    CheckBackend b;
    assert_true(check_backend_open(&b, &f->a, &f->d, true, 2, 0));
    CheckNet n = opened(f, &b, built(f, &restorer, &restorer, 0.25, 1, STEP_TRAIN));
    double   loss = loss_of(f, &n), own = *check_net_read(&f->a, &n, "loss:l1");
    double   distance = *check_net_read(&f->a, &n, "loss:teacher");
    assert_true(own > 0 && distance > 0 && fabs(loss - (0.75 * own + 0.25 * distance)) < 1e-6);
    check_net_write(&n, "teacher:conv1.weight", check_net_read(&f->a, &n, "conv1.weight"));
    check_net_write(&n, "teacher:conv1.bias", check_net_read(&f->a, &n, "conv1.bias"));
    loss = loss_of(f, &n);
    assert_true(*check_net_read(&f->a, &n, "loss:teacher") == 0 && fabs(loss - 0.75 * own) < 1e-6);
    check_net_close(&n);
    check_backend_close(&b);
}

/* ---- Its weights ------------------------------------------------------------------------------------------------- */

static void put_tensor(Fixture *f, StFile *file, const char *name, float value, int64_t n)
{
    float *x = ARENA_ARRAY(&f->a, float, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = value;
    vec_push(&f->a, &file->tensors,
             ((StTensor){ .name = name,
                          .type = "F32",
                          .dtype = DTYPE_F32,
                          .rank = 1,
                          .dim = { n },
                          .elems = n,
                          .bytes = 4 * n,
                          .data = x }));
}

static const char takes[] = "graph @t.train {\n"
                            "  %0 = param \"a\" : f32[3]\n"
                            "  %1 = state \"teacher:a\" : f32[3]\n"
                            "  %2 = state \"teacher:b\" : f32[2]\n"
                            "  %3 = input \"x\" : f32[3]\n"
                            "  %4 = add %0, %1 : f32[3]\n"
                            "  %5 = mul %4, %3 : f32[3]\n"
                            "  output %5 \"y\"\n"
                            "  output %2 \"z\"\n"
                            "}\n";

static void       test_loads(void **state)
{
    static const CheckSetup setup = { .step = STEP_TRAIN,
                                      .passes = "decompose,layout,fuse,batch,schedule,plan-memory,lower" };
    Fixture                *f = *state;
    CheckBackend            b;
    CheckNet                n;
    StFile                  file = { 0 };
    char                    path[] = "/tmp/detent-teacher-XXXXXX";
    int                     fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_true(check_backend_open(&b, &f->a, &f->d, false, 1, 0));
    if (!check_net_open(&n, &b, fixture_graph(f, takes), &setup))
        fail_msg("%s", fixture_said(f));
    put_tensor(f, &file, "a", 1, 3);
    assert_true(st_write(&f->d, path, &file));
    assert_false(teacher_load(&f->d, path, n.prog));
    assert_non_null(strstr(fixture_said(f), "lacks b of the teacher's network"));
    put_tensor(f, &file, "a.ema", 2, 3);
    put_tensor(f, &file, "b", 3, 2);
    put_tensor(f, &file, "b.velocity", 4, 2);
    assert_true(st_write(&f->d, path, &file));
    assert_true(teacher_load(&f->d, path, n.prog));
    assert_true(check_net_read(&f->a, &n, "teacher:a")[2] == 2 && check_net_read(&f->a, &n, "teacher:b")[1] == 3);
    assert_true(check_net_read(&f->a, &n, "a")[0] == 0);
    file.tensors.len = 0;
    put_tensor(f, &file, "a", 1, 4);
    put_tensor(f, &file, "b", 3, 2);
    assert_true(st_write(&f->d, path, &file));
    assert_false(teacher_load(&f->d, path, n.prog));
    assert_non_null(strstr(fixture_said(f), "a is F32[4], the teacher's network has f32[3]"));
    unlink(path);
    check_net_close(&n);
    check_backend_close(&b);
}

/* ---- Mistakes ---------------------------------------------------------------------------------------------------- */

static void test_mistakes(void **state)
{
    static const struct {
        const DtModel *student, *teacher;
        const char    *said;
    } cases[] = {
        { &student, &larger, "teacher: larger takes images of 2x8x8, expected 2x4x4 as student does" },
        { &student, &more_classes, "teacher: more_classes has 5 classes, expected 4 as student has" },
        { &student, &restorer, "teacher: restorer has 0 classes, expected 4 as student has" },
        { &student, &normalised, "teacher: normalised normalises images otherwise than student" },
        { &restorer, &wider, "teacher: wider gives 6x2x2x2, expected 6x2x4x4 as restorer gives" },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        assert_null(built(f, cases[i].student, cases[i].teacher, 0.5, 1, STEP_TRAIN));
        assert_int_equal(f->d.errors, i + 1);
        if (!strstr(fixture_said(f), cases[i].said))
            fail_msg("\"%s\" is not in\n%s", cases[i].said, fixture_said(f));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_graph), fixture_test(test_passes), fixture_test(test_gradients),
        fixture_test(test_loss),  fixture_test(test_loads),  fixture_test(test_mistakes),
    };
    return cmocka_run_group_tests_name("teacher", tests, NULL, NULL);
}
