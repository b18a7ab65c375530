/* test_autodiff.c: what the passes autodiff, optimizer and decompose make of a graph: which gradients exist and of
 * which shape, the form of the rules of ir/grad.c, sums where gradients meet, refusals, updates by optimizer group, and
 * that no composite is left. That the numbers are right is the subject of the op matrix. */
#include "frontend/frontend.h"
#include "passes/pass_impl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

typedef struct Fixture {
    Arena           arena, scratch;
    Diag            diag;
    OptimizerConfig optimizer;
    PassCtx         c;
} Fixture;

static int setup(void **state)
{
    Fixture *f = malloc(sizeof *f);
    *f = (Fixture){ .arena = arena_new("test"), .scratch = arena_new("scratch"), .diag = diag_new(NULL) };
    f->optimizer = (OptimizerConfig){ .momentum = 0.9, .weight_decay = 1e-4, .nesterov = true };
    f->c = (PassCtx){
        .scratch = &f->scratch, .d = &f->diag, .step = STEP_TRAIN, .optimizer = &f->optimizer, .keep = &f->arena
    };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    arena_free(&f->arena);
    arena_free(&f->scratch);
    diag_free(&f->diag);
    free(f);
    return 0;
}

static Graph *parse(Fixture *f, const char *body)
{
    const char *text = arena_printf(&f->arena, "graph @test {\n%s}\n", body);
    Graph      *g = ir_parse(&f->arena, &f->diag, "test", text);
    if (!g || !ir_verify(g, PHASE_FRONTEND, &f->diag))
        fail_msg("%s", f->diag.text.s);
    return g;
}

static Graph *differentiated(Fixture *f, const char *body)
{
    Graph *g = parse(f, body);
    bool   changed = pass_autodiff(&f->c, g);
    if (!changed || f->diag.errors > 0 || !ir_verify(g, PHASE_STEP, &f->diag))
        fail_msg("%s", f->diag.text.s);
    return g;
}

static Graph *network(Fixture *f, const char *name, int64_t batch)
{
    const DtModel *m = frontend_find(&f->arena, &f->diag, name);
    Graph         *g = frontend_build(&f->arena, &f->diag, m, batch, STEP_TRAIN);
    if (!g)
        fail_msg("%s", f->diag.text.s);
    return g;
}

static void assert_valid(Fixture *f, const Graph *g, Phase phase)
{
    if (f->diag.errors > 0 || !ir_verify(g, phase, &f->diag))
        fail_msg("%s", f->diag.text.s);
}

static int32_t count(const Graph *g, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op);
    return n;
}

static const Value *in(const Graph *g, const Value *v, int32_t i)
{
    return ir_value(g, v->in[i]);
}

static const Value *named(const Graph *g, const char *symbol)
{
    ValueId id = ir_find(g, symbol);
    if (id == VALUE_NONE)
        fail_msg("there is no %s", symbol);
    return ir_value(g, id);
}

/* The gradient of a param. */
static const Value *gradient(Fixture *f, const Graph *g, const char *param)
{
    return in(g, named(g, arena_printf(&f->arena, "grad:%s", param)), 0);
}

static void assert_op(const Value *v, OpCode op)
{
    assert_string_equal(ir_ops[v->op].text, ir_ops[op].text);
}

/* ---- Whole networks ---------------------------------------------------------------------------------------------- */

static void test_every_param(void **state)
{
    static const char *const networks[] = { "resnet20", "mnist" };
    Fixture                 *f = *state;
    for (int32_t k = 0; k < DT_COUNT(networks); k++) {
        Graph        *g = network(f, networks[k], 4);
        const int32_t before = g->values.len;
        assert_true(pass_autodiff(&f->c, g));
        assert_valid(f, g, PHASE_STEP);
        int32_t params = 0;
        for (int32_t i = 0; i < g->order.len; i++) {
            const Value *v = ir_value(g, g->order.at[i]);
            assert_int_equal(v->backward, g->order.at[i] >= before);
            if (v->op != OP_PARAM)
                continue;
            params++;
            assert_true(shape_eq(gradient(f, g, v->name)->type.shape, v->type.shape));
        }
        assert_int_equal(params, k == 0 ? 19 + 2 * 19 + 2 : 8);
        /* Nothing trained lies in front of the image. */
        assert_int_equal(count(g, OP_CONV2D_GRAD_X), count(g, OP_CONV2D) - 1);
    }
}

static void test_places(void **state)
{
    Fixture *f = *state;
    Graph   *g = network(f, "resnet20", 2);
    pass_autodiff(&f->c, g);
    const Value *v = gradient(f, g, "s1.b0.conv1.weight");
    assert_string_equal(v->scope, "s1.b0");
    assert_string_equal(v->origins[0].dsl.file, "models/resnet20.c");
    assert_int_equal(v->origins[0].dsl.line, named(g, "s1.b0.conv1.weight")->origins[0].dsl.line);
    assert_string_equal(v->origins[0].by, "autodiff");
}

/* ---- The form of rules ------------------------------------------------------------------------------------------- */

static const char conv_text[] = "  %0 = input \"image\" : f32[2x3x9x8]\n"
                                "  %1 = param \"w\" : f32[4x3x3x3]\n"
                                "  %2 = conv2d %0, %1 {stride=2, pad=[1,0,1,2]} : f32[2x4x5x4]\n"
                                "  %3 = param \"v\" : f32[6x2x3x3]\n"
                                "  %4 = param \"b\" {group=\"bias\"} : f32[6]\n"
                                "  %5 = conv2d %2, %3, %4 {groups=2} : f32[2x6x3x2]\n"
                                "  %6 = relu %5 : f32[2x6x3x2]\n"
                                "  %7 = reduce_sum %6 : f32[]\n"
                                "  output %7 \"loss\"\n";

static void       test_conv(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, conv_text);
    const Value *dv = gradient(f, g, "v"), *db = gradient(f, g, "b"), *dw = gradient(f, g, "w");
    assert_op(dv, OP_CONV2D_GRAD_W);
    assert_int_equal(ir_int(dv, A_GROUPS), 2);
    assert_int_equal(ir_int(dv, A_KERNEL), 3);
    assert_op(db, OP_REDUCE_SUM);
    assert_string_equal(ir_text(db, A_KEEP), "c");
    assert_int_equal(db->in[0], dv->in[0]);
    assert_op(in(g, db, 0), OP_RELU_GRAD);
    assert_op(in(g, in(g, db, 0), 1), OP_BROADCAST);
    assert_op(dw, OP_CONV2D_GRAD_W);
    assert_int_equal(ir_int(dw, A_STRIDE), 2);
    assert_int_equal(ir_pads(dw, A_PAD)[3], 2);
    const Value *dx = in(g, dw, 0);
    assert_op(dx, OP_CONV2D_GRAD_X);
    assert_int_equal(ir_int(dx, A_H), 5);
    assert_int_equal(ir_int(dx, A_W), 4);
    assert_int_equal(dx->in[1], ir_find(g, "v"));
}

/* x + (x + 1)-like joints: each path adds its gradient once. */
static void test_sums(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, "  %0 = param \"p\" : f32[3x5]\n"
                                             "  %1 = add %0, %0 : f32[3x5]\n"
                                             "  %2 = mul %1, %0 : f32[3x5]\n"
                                             "  %3 = reduce_sum %2 {scale=0.5} : f32[]\n"
                                             "  output %3 \"loss\"\n");
    const Value *dp = gradient(f, g, "p");
    assert_op(dp, OP_ADD);
    assert_op(in(g, dp, 0), OP_ADD); /* (dy y + dy) + dy, of mul and twice of add */
    assert_op(in(g, in(g, dp, 0), 0), OP_MUL);
    assert_op(in(g, in(g, dp, 0), 1), OP_MUL);
    assert_int_equal(dp->in[1], in(g, dp, 0)->in[1]);
    assert_int_equal(count(g, OP_ADD), 3);
}

static const char broadcast_text[] = "  %%0 = input \"image\" : f32[2x4x3x3]\n"
                                     "  %%1 = param \"p\" : f32[%s]\n"
                                     "  %%2 = sub %%0, %%1 : f32[2x4x3x3]\n"
                                     "  %%3 = reduce_sum %%2 : f32[]\n"
                                     "  output %%3 \"loss\"\n";

static void       test_broadcast_operands(void **state)
{
    static const struct {
        const char *shape, *keep;
    } cases[] = { { "4", "c" }, { "2x4x1x1", "nc" }, { "", "" } };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Graph       *g = differentiated(f, arena_printf(&f->arena, broadcast_text, cases[i].shape));
        const Value *dp = gradient(f, g, "p");
        assert_op(dp, OP_REDUCE_SUM);
        assert_string_equal(ir_text(dp, A_KEEP), cases[i].keep);
        assert_op(in(g, dp, 0), OP_SCALE);
        assert_true(ir_float(in(g, dp, 0), A_SCALE) == -1);
    }
}

static const char reduce_text[] = "  %%0 = param \"p\" : f32[2x4x3x5]\n"
                                  "  %%9 = input \"x\" : f32[2x4x3x5]\n"
                                  "  %%1 = reduce_sum %%0 {keep=\"%s\", scale=0.25} : f32[%s]\n"
                                  "  %%2 = %s\n"
                                  "  %%3 = reduce_sum %%2 : f32[]\n"
                                  "  output %%3 \"loss\"\n";

static void       test_reduce_kept(void **state)
{
    static const struct {
        const char *keep, *kept, *rest; /* rest: %2, the gradient of which has to reach %1 */
        OpCode      from;               /* what is broadcast to the gradient */
    } cases[] = {
        { "", "", "scale %1 : f32[]", OP_SCALE },
        { "c", "4", "add %9, %1 : f32[2x4x3x5]", OP_REDUCE_SUM },
        { "nc", "2x4x1x1", "relu %1 : f32[2x4x1x1]", OP_RELU_GRAD },
        { "n", "2x1", "relu %1 : f32[2x1]", OP_RESHAPE },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        const char  *text = arena_printf(&f->arena, reduce_text, cases[i].keep, cases[i].kept, cases[i].rest);
        const Graph *g = differentiated(f, text);
        const Value *dp = gradient(f, g, "p");
        assert_op(dp, OP_BROADCAST);
        assert_true(ir_float(dp, A_SCALE) == 0.25);
        assert_op(in(g, dp, 0), cases[i].from);
    }
}

static const char bn_text[] = "  %%0 = input \"image\" : f32[2x3x4x4]\n"
                              "  %%1 = param \"w\" : f32[5x3x1x1]\n"
                              "  %%2 = conv2d %%0, %%1 : f32[2x5x4x4]\n"
                              "  %%3 = state \"mean\" : f32[5]\n"
                              "  %%4 = state \"var\" : f32[5]\n"
                              "  %%5 = param \"gamma\" {group=\"norm\"} : f32[5]\n"
                              "  %%6 = param \"beta\" {group=\"norm\"} : f32[5]\n"
                              "  %%7 = bn_mean %%2, %%3 : f32[5]\n"
                              "  %%8 = bn_var %%2, %%3 : f32[5]\n"
                              "  %%9 = batchnorm %%2, %%%d, %%%d, %%5, %%6 {eps=0.001} : f32[2x5x4x4]\n"
                              "  %%10 = reduce_sum %%9 : f32[]\n"
                              "  output %%10 \"loss\"\n";

static void       test_batchnorm(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, arena_printf(&f->arena, bn_text, 7, 8));
    const Value *dgamma = gradient(f, g, "gamma"), *dbeta = gradient(f, g, "beta"), *dx = in(g, gradient(f, g, "w"), 0);
    assert_op(dgamma, OP_RSQRT_MUL);
    assert_true(ir_float(dgamma, A_EPS) == 0.001);
    assert_op(in(g, dgamma, 0), OP_BN_DGAMMA);
    assert_op(dbeta, OP_REDUCE_SUM);
    assert_op(dx, OP_AFFINE2);
    const Value *kx = in(g, dx, 3), *k1 = in(g, dx, 4);
    assert_op(in(g, dx, 1), OP_BN_SCALE);
    assert_int_equal(dx->in[2], 2);
    assert_op(kx, OP_BN_GRAD_X);
    assert_int_equal(ir_int(kx, A_COUNT), 2 * 4 * 4);
    assert_true(ir_float(kx, A_EPS) == 0.001);
    assert_op(k1, OP_BN_GRAD_1);
    assert_int_equal(k1->in[2], dx->in[3]);
    assert_int_equal(k1->in[3], 7);
}

/* With given statistics the map is affine. */
static void test_batchnorm_frozen(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, arena_printf(&f->arena, bn_text, 3, 4));
    const Value *dx = in(g, gradient(f, g, "w"), 0);
    assert_op(dx, OP_MUL);
    assert_op(in(g, dx, 1), OP_BN_SCALE);
    assert_op(gradient(f, g, "gamma"), OP_RSQRT_MUL);
    assert_int_equal(count(g, OP_AFFINE2), 0);
}

static const char qdq_text[] = "  %0 = input \"image\" : f32[4x8x6x6]\n"
                               "  %1 = param \"sx\" {group=\"step\"} : f32[]\n"
                               "  %2 = qdq %0, %1 {lo=0, hi=15, bits=4, role=\"act\"} : f32[4x8x6x6]\n"
                               "  %3 = param \"w\" : f32[10x8x3x3]\n"
                               "  %4 = param \"sw\" {group=\"step\"} : f32[]\n"
                               "  %5 = qdq %3, %4 {lo=-8, hi=7, bits=4, role=\"weight\"} : f32[10x8x3x3]\n"
                               "  %6 = conv2d %2, %5 : f32[4x10x4x4]\n"
                               "  %7 = reduce_sum %6 : f32[]\n"
                               "  output %7 \"loss\"\n";

static void       test_quantizers(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, qdq_text);
    const Value *dw = gradient(f, g, "w"), *dsw = gradient(f, g, "sw"), *dsx = gradient(f, g, "sx");
    assert_op(dw, OP_QDQ_GRAD_X);
    assert_int_equal(ir_int(dw, A_LO), -8);
    assert_int_equal(ir_int(dw, A_HI), 7);
    assert_op(in(g, dw, 2), OP_CONV2D_GRAD_W);
    assert_op(dsw, OP_LSQ_GRAD_STEP);
    assert_string_equal(ir_text(dsw, A_KEEP), "");
    assert_true(fabs(ir_float(dsw, A_SCALE) - 1 / sqrt(10 * 8 * 9 * 7.0)) < 1e-15);
    assert_op(dsx, OP_REDUCE_SUM);
    assert_true(fabs(ir_float(dsx, A_SCALE) - 1 / sqrt(8 * 6 * 6 * 15.0)) < 1e-15); /* one sample */
    assert_op(in(g, dsx, 0), OP_LSQ_GRAD_STEP);
    assert_string_equal(ir_text(in(g, dsx, 0), A_KEEP), "c");
    assert_true(ir_float(in(g, dsx, 0), A_SCALE) == 1);
    assert_int_equal(count(g, OP_CONV2D_GRAD_X), 1); /* for the step size of x */

    f->c.recipe = &(const Recipe){ .method = "lsq", .batch_in_n = true };
    g = differentiated(f, qdq_text);
    assert_true(fabs(ir_float(gradient(f, g, "sx"), A_SCALE) - 1 / sqrt(4 * 8 * 6 * 6 * 15.0)) < 1e-15);
    assert_true(fabs(ir_float(gradient(f, g, "sw"), A_SCALE) - 1 / sqrt(10 * 8 * 9 * 7.0)) < 1e-15);
}

/* Six outputs of a weight, a step for each three of them; an input with an offset. */
static const char grouped_text[] = "  %0 = input \"image\" : f32[4x8x6x6]\n"
                                   "  %1 = param \"sx\" {group=\"step\"} : f32[]\n"
                                   "  %2 = param \"bx\" {group=\"offset\"} : f32[]\n"
                                   "  %3 = zero_point %2, %1 {lo=0, hi=15} : f32[]\n"
                                   "  %4 = qdq %0, %1, %3 {lo=0, hi=15, bits=4, role=\"act\"} : f32[4x8x6x6]\n"
                                   "  %5 = param \"w\" : f32[6x8x3x3]\n"
                                   "  %6 = param \"sw\" {group=\"step\"} : f32[2]\n"
                                   "  %7 = grad_scale %6 {scale=0.1} : f32[2]\n"
                                   "  %8 = repeat %7 {count=3} : f32[6]\n"
                                   "  %9 = qdq %5, %8 {lo=-8, hi=7, bits=4, axis=0, ends=\"code\"} : f32[6x8x3x3]\n"
                                   "  %10 = conv2d %4, %9 : f32[4x6x4x4]\n"
                                   "  %11 = reduce_sum %10 : f32[]\n"
                                   "  output %11 \"loss\"\n"
                                   "  %12 = penalty %5, %8 {lo=-8, hi=7, axis=0, scale=0.5} : f32[]\n";

/* A step of a group counts all elements of the group; an offset is trained through its zero point. */
static void test_shared_steps(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, grouped_text);
    const Value *dw = gradient(f, g, "w"), *dsw = gradient(f, g, "sw"), *dbx = gradient(f, g, "bx");
    assert_op(dw, OP_QDQ_GRAD_X);
    assert_string_equal(ir_text(dw, A_ENDS), "code");
    assert_int_equal(ir_int(dw, A_AXIS), 0);
    assert_op(dsw, OP_SCALE);
    assert_true(ir_float(dsw, A_SCALE) == 0.1);
    assert_op(in(g, dsw, 0), OP_REPEAT_GRAD);
    const Value *each = in(g, in(g, dsw, 0), 0);
    assert_op(each, OP_LSQ_GRAD_STEP);
    assert_string_equal(ir_text(each, A_KEEP), "o");
    assert_true(fabs(ir_float(each, A_SCALE) - 1 / sqrt(3 * 8 * 9 * 7.0)) < 1e-15);
    assert_op(dbx, OP_REDUCE_SUM);
    assert_true(ir_float(dbx, A_SCALE) == ir_float(gradient(f, g, "sx"), A_SCALE));
    assert_op(in(g, dbx, 0), OP_LSQ_GRAD_OFFSET);
    assert_int_equal(in(g, dbx, 0)->n_in, 4);
    assert_int_equal(in(g, dbx, 0)->in[3], 3);
    assert_int_equal(count(g, OP_PENALTY_GRAD_X), 0); /* it is no output of that name */
}

/* What is called "penalty:..." is made small together with the loss. */
static void test_penalties(void **state)
{
    Fixture     *f = *state;
    Graph       *g = differentiated(f, arena_printf(&f->arena, "%s  output %%12 \"penalty:w\"\n", grouped_text));
    const Value *dw = gradient(f, g, "w"), *dsw = in(g, gradient(f, g, "sw"), 0);
    assert_op(dw, OP_ADD);
    assert_int_equal(count(g, OP_PENALTY_GRAD_X), 1);
    assert_op(dsw, OP_REPEAT_GRAD);
    assert_op(in(g, dsw, 0), OP_ADD);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_PENALTY_GRAD_STEP && v->op != OP_PENALTY_GRAD_X)
            continue;
        assert_true(ir_float(v, A_SCALE) == 0.5 && ir_int(v, A_AXIS) == 0);
        assert_string_equal(v->op == OP_PENALTY_GRAD_X ? "o" : ir_text(v, A_KEEP), "o");
    }
}

/* Ranges that follow the values are constants: nothing is differentiated through them. */
static void test_ranges_stop(void **state)
{
    static const char text[] = "  %0 = input \"image\" : f32[4x8]\n"
                               "  %1 = param \"w\" : f32[6x8]\n"
                               "  %2 = reduce_maxabs %1 : f32[]\n"
                               "  %3 = max_step %2 {hi=7} : f32[]\n"
                               "  %4 = qdq %1, %3 {lo=-7, hi=7, bits=4, axis=0, ends=\"code\"} : f32[6x8]\n"
                               "  %5 = linear %0, %4 : f32[4x6]\n"
                               "  %6 = reduce_min %5 : f32[]\n"
                               "  %7 = reduce_max %5 : f32[]\n"
                               "  %8 = range_step %6, %7 {lo=-8, hi=7} : f32[]\n"
                               "  %9 = range_zero %6, %7 {lo=-8, hi=7} : f32[]\n"
                               "  %10 = qdq %5, %8, %9 {lo=-8, hi=7, bits=4, role=\"act\", ends=\"code\"} : f32[4x6]\n"
                               "  %11 = reduce_sum %10 : f32[]\n"
                               "  output %11 \"loss\"\n";
    Fixture          *f = *state;
    Graph            *g = differentiated(f, text);
    assert_op(gradient(f, g, "w"), OP_QDQ_GRAD_X);
    assert_int_equal(count(g, OP_QDQ_GRAD_X), 2);
    assert_int_equal(count(g, OP_LSQ_GRAD_STEP) + count(g, OP_LSQ_GRAD_OFFSET) + count(g, OP_ADD), 0);
}

static const char pools_text[] = "  %0 = param \"p\" : f32[2x4x9x9]\n"
                                 "  %1 = maxpool %0 {kernel=3, stride=2} : f32[2x4x4x4]\n"
                                 "  %2 = avgpool %1 : f32[2x4x2x2]\n"
                                 "  %3 = shortcut_a %2 {stride=2, channels=6} : f32[2x6x1x1]\n"
                                 "  %4 = reshape %3 {channels=6} : f32[2x6]\n"
                                 "  %5 = input \"seed\" : u32[]\n"
                                 "  %6 = input \"step\" : u32[]\n"
                                 "  %7 = dropout %4, %5, %6 {p=0.25, stream=99} : f32[2x6]\n"
                                 "  %8 = input \"target\" : f32[2x6]\n"
                                 "  %9 = mse %7, %8 : f32[]\n"
                                 "  output %9 \"loss\"\n";

static void       test_shapes(void **state)
{
    static const OpCode chain[] = { OP_MAXPOOL_GRAD, OP_AVGPOOL_GRAD, OP_SHORTCUT_A_GRAD, OP_RESHAPE, OP_DROPOUT,
                                    OP_MUL,          OP_SCALE };
    Fixture            *f = *state;
    Graph              *g = differentiated(f, pools_text);
    const Value        *v = gradient(f, g, "p");
    assert_op(in(g, v, 0), OP_MAXPOOL_TAP);
    for (int32_t i = 0; i < DT_COUNT(chain); i++) {
        assert_op(v, chain[i]);
        if (v->op == OP_DROPOUT) {
            assert_int_equal(ir_int(v, A_STREAM), 99);
            assert_int_equal(v->in[1], 5);
            assert_int_equal(v->in[2], 6);
        }
        if (v->op == OP_SCALE)
            assert_true(ir_float(v, A_SCALE) == 2.0 / 12);
        v = in(g, v, v->op == OP_MAXPOOL_GRAD ? 1 : 0);
    }
    assert_op(v, OP_SUB);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "  %0 = param \"p\" : f32[]\n  output %0 \"logits\"\n", "autodiff: the graph has no output \"loss\"" },
        { "  %0 = param \"p\" : f32[2x1]\n  output %0 \"loss\" loc(\"net.c\":7)\n", "autodiff: the loss is f32[2x1]" },
        { "  %0 = input \"x\" : f32[]\n  output %0 \"loss\"\n", "autodiff: the loss depends on no param" },
        { "  %0 = param \"p\" : f32[2x3] loc(\"net.c\":3)\n"
          "  %1 = logsumexp %0 : f32[2x1] loc(\"net.c\":4)\n"
          "  %2 = reduce_sum %1 : f32[] loc(\"net.c\":5)\n"
          "  output %2 \"loss\"\n",
          "net.c:4: error: logsumexp: it has no gradient, but the loss depends on params through it" },
        { "  %0 = param \"p\" : f32[1x3]\n"
          "  %1 = input \"x\" : f32[2x3]\n"
          "  %2 = add %1, %0 : f32[2x3] loc(\"net.c\":9)\n"
          "  %3 = reduce_sum %2 : f32[]\n"
          "  output %3 \"loss\"\n",
          "net.c:9: error: add: there is no gradient of an operand that is broadcast from 1x3" },
        { "  %0 = param \"p\" : f32[5] loc(\"net.c\":3)\n"
          "  %1 = reduce_sum %0 : f32[] loc(\"net.c\":8)\n"
          "  output %1 \"loss\"\n",
          "net.c:8: error: reduce_sum: there is no gradient for an operand of shape 5" },
        { "  %0 = param \"p\" : f32[2x3]\n"
          "  %1 = state \"s\" : f32[3]\n"
          "  %2 = bn_mean %0, %1 : f32[3]\n"
          "  %3 = bn_var %0, %1 : f32[3]\n"
          "  %4 = relu %0 : f32[2x3]\n"
          "  %5 = batchnorm %4, %2, %3, %1, %1 : f32[2x3] loc(\"net.c\":6)\n"
          "  %6 = reduce_sum %5 : f32[]\n"
          "  output %6 \"loss\"\n",
          "net.c:6: error: batchnorm: there is no gradient of mean and var that are not bn_mean and bn_var of x" },
        { "  %0 = param \"p\" : f32[2x3]\n"
          "  %1 = param \"s\" : f32[]\n"
          "  %2 = param \"z\" : f32[]\n"
          "  %3 = qdq %0, %1, %2 {lo=0, hi=15, bits=4} : f32[2x3] loc(\"net.c\":6)\n"
          "  %4 = reduce_sum %3 : f32[]\n"
          "  output %4 \"loss\"\n",
          "net.c:6: error: qdq: the zero point is trained, but is no zero_point of an offset" },
        { "  %0 = param \"p\" : f32[2x3]\n"
          "  %1 = param \"s\" : f32[]\n"
          "  %2 = penalty %0, %1 {lo=0, hi=15, keep=\"o\"} : f32[2] loc(\"net.c\":6)\n"
          "  %3 = input \"r\" : f32[3x2]\n"
          "  %4 = mul %3, %2 : f32[3x2]\n"
          "  %5 = reduce_sum %4 : f32[]\n"
          "  output %5 \"loss\"\n",
          "net.c:6: error: penalty: there is a gradient of one number alone, this is keep=\"o\"" },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Graph *g = parse(f, cases[i].text);
        pass_autodiff(&f->c, g);
        assert_int_equal(f->diag.errors, i + 1);
        if (!strstr(f->diag.text.s, cases[i].message))
            fail_msg("\"%s\" is not in:\n%s", cases[i].message, f->diag.text.s);
    }
}

/* ---- Optimizer --------------------------------------------------------------------------------------------------- */

static void test_optimizer(void **state)
{
    static const struct {
        const char *param;
        double      decay, floor;
    } groups[] = { { "w", 1e-4, 0 }, { "sw", 0, 1e-8 }, { "sx", 0, 1e-8 } };
    Fixture *f = *state;
    Graph   *g = differentiated(f, qdq_text);
    assert_true(pass_optimizer(&f->c, g));
    assert_valid(f, g, PHASE_STEP);
    assert_int_equal(count(g, OP_OUTPUT), 1); /* the loss; gradients are consumed */
    assert_int_equal(count(g, OP_ASSIGN), 6);
    assert_int_equal(named(g, "lr")->type.shape.rank, 0);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_ASSIGN || !ir_is(g, v->in[0], OP_PARAM))
            continue;
        const Value *step = in(g, v, 1), *p = in(g, v, 0), *velocity = in(g, step, 2);
        int32_t      k = 0;
        while (k < DT_COUNT(groups) && !str_eq(groups[k].param, p->name))
            k++;
        assert_true(k < DT_COUNT(groups));
        assert_op(step, OP_SGD_STEP);
        assert_op(velocity, OP_SGD_VELOCITY);
        assert_int_equal(step->in[0], v->in[0]);
        assert_int_equal(step->in[1], velocity->in[1]);
        assert_int_equal(velocity->in[2], v->in[0]);
        assert_int_equal(step->in[3], ir_find(g, "lr"));
        assert_true(ir_int(step, A_NESTEROV));
        assert_true(ir_float(step, A_MOMENTUM) == 0.9 && ir_float(velocity, A_MOMENTUM) == 0.9);
        assert_true(ir_float(step, A_DECAY) == groups[k].decay && ir_float(velocity, A_DECAY) == groups[k].decay);
        assert_true(ir_float(step, A_FLOOR) == groups[k].floor);
        assert_string_equal(in(g, velocity, 0)->name, arena_printf(&f->arena, "%s.velocity", p->name));
        assert_true(shape_eq(in(g, velocity, 0)->type.shape, p->type.shape));
    }
    assert_false(pass_optimizer(&f->c, g)); /* nothing is left to do */
}

/* ---- Decompose --------------------------------------------------------------------------------------------------- */

static void test_decompose(void **state)
{
    Fixture *f = *state;
    Graph   *g = network(f, "resnet20", 8);
    pass_autodiff(&f->c, g);
    pass_optimizer(&f->c, g);
    assert_true(pass_decompose(&f->c, g));
    assert_valid(f, g, PHASE_PRIMITIVE);
    assert_int_equal(count(g, OP_BATCHNORM) + count(g, OP_CROSS_ENTROPY), 0);
    assert_int_equal(count(g, OP_AFFINE), 19);
    const Value *loss = in(g, named(g, "loss"), 0);
    assert_op(loss, OP_REDUCE_SUM);
    assert_true(ir_float(loss, A_SCALE) == 1.0 / 8);
    assert_op(in(g, loss, 0), OP_SUB);
    assert_op(in(g, in(g, loss, 0), 0), OP_LOGSUMEXP);
    assert_op(in(g, in(g, loss, 0), 1), OP_PICK);
    assert_false(pass_decompose(&f->c, g));

    g = differentiated(f, pools_text);
    assert_true(pass_decompose(&f->c, g));
    assert_valid(f, g, PHASE_PRIMITIVE);
    loss = in(g, named(g, "loss"), 0);
    assert_true(ir_float(loss, A_SCALE) == 1.0 / 12);
    assert_op(in(g, loss, 0), OP_MUL);
    assert_int_equal(in(g, loss, 0)->in[0], in(g, loss, 0)->in[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_param),        TEST(test_places),       TEST(test_conv),      TEST(test_sums),
        TEST(test_broadcast_operands), TEST(test_reduce_kept),  TEST(test_batchnorm), TEST(test_batchnorm_frozen),
        TEST(test_quantizers),         TEST(test_shapes),       TEST(test_refusals),  TEST(test_optimizer),
        TEST(test_decompose),          TEST(test_shared_steps), TEST(test_penalties), TEST(test_ranges_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
