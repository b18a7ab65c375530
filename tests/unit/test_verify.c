/* test_verify.c: the verifier accepts right graphs of every phase and names each planted mistake: in text, in broken
 * memory (where it must not crash), and in what is bound to kernels. */
#include "tests/unit/ir_fixture.h"

#include <string.h>

static void print(Fixture *f, const Graph *g)
{
    Str s = str_new(&f->a);
    ir_print(&s, g);
}

/* ---- Verifier: mistakes in text -------------------------------------------------------------------------------- */

typedef struct VerifyCase {
    Phase       phase;
    const char *body;   /* of the graph, between its braces */
    const char *wanted; /* part of the message; NULL: it is right */
} VerifyCase;

#define X4 "%0 = input \"x\" : f32[2x3x4x4] loc(\"n.c\":1)\n"
#define OUT(n) "output %" #n " \"y\" loc(\"n.c\":9)\n"
#define PX "%0 = input \"x\" : f32[16] at(io+0)\n"

/* clang-format off */
static const VerifyCase verify_cases[] = {
    { PHASE_FRONTEND, X4 "%1 = relu %0 : f32[2x3x4x4]\n" OUT(1), NULL },
    { PHASE_FRONTEND, X4 "%1 = relu %0 : f32[2x3x4x5] loc(\"n.c\":2)\n", "n.c:2: error: verify: types: %1 = relu says f32[2x3x4x5], its inputs give f32[2x3x4x4]" },
    { PHASE_FRONTEND, X4 "%1 = linear %0, %0 : f32[2x2] loc(\"n.c\":2)\n", "n.c:2: error: linear: x is f32[2x3x4x4], expected f32[N,I]" },
    { PHASE_FRONTEND, X4 "%1 = input \"x\" : f32[]\n", "verify: names: %1 = input \"x\" and %0 have the same name" },
    { PHASE_FRONTEND, X4 "output %0 \"y\"\noutput %0 \"y\"\n", "have the same name" },
    { PHASE_FRONTEND, X4 "%1 = relu %0 : f32[2x3x4x4] backward\n", "verify: no gradients yet: %1 = relu is marked backward" },
    { PHASE_STEP, X4 "%1 = relu %0 : f32[2x3x4x4] backward\n", NULL },
    { PHASE_FRONTEND, X4 "%1 = relu %0 : f32[2x3x4x4] nhwc\n", "verify: no layouts yet" },
    { PHASE_STEP, X4 "kernel 0 {\n%1 = relu %0 : f32[2x3x4x4]\n}\n", "verify: no groups yet: %1 = relu is in one" },
    { PHASE_LAYOUT, X4 "kernel 0 {\n%1 = relu %0 : f32[2x3x4x4]\n}\n", NULL },
    { PHASE_LAYOUT, X4 "%1 = relu %0 : f32[2x3x4x4] at(work+0)\n", "verify: no places yet" },
    { PHASE_FRONTEND, "%0 = param \"p\" : f32[]\nassign %0, %0\nassign %0, %0\n", "verify: assigned once: %0 = param \"p\" is assigned twice" },
    { PHASE_PRIMITIVE, "%0 = input \"x\" : f32[2x3]\n%1 = mse %0, %0 : f32[]\n", "verify: no composites: %1 = mse is left" },
    /* layouts */
    { PHASE_LAYOUT, X4 "%1 = relayout %0 : f32[2x3x4x4] nhwc\n%2 = relu %1 : f32[2x3x4x4] nhwc\n", NULL },
    { PHASE_LAYOUT, X4 "%1 = relu %0 : f32[2x3x4x4] nhwc\n", "verify: one layout: %1 = relu and its input %0 = input \"x\" differ in layout" },
    { PHASE_LAYOUT, X4 "%1 = relayout %0 : f32[2x3x4x4]\n", "verify: relayout: %1 = relayout has the layout of its input" },
    { PHASE_LAYOUT, "%0 = input \"x\" : f32[2x3x4x4] nhwc\n%1 = reshape %0 {channels=48} : f32[2x48]\n", "verify: views: %1 = reshape needs the logical order" },
    { PHASE_LAYOUT, "%0 = input \"x\" : f32[2x3x1x1] nhwc\n%1 = reshape %0 {channels=3} : f32[2x3]\n", NULL },
    { PHASE_LAYOUT, "%0 = param \"p\" : f32[2x3x4x4]\n%1 = input \"x\" : f32[2x3x4x4] nhwc\nassign %0, %1\n", "of another layout" },
    /* groups */
    { PHASE_FUSED, X4 "%1 = const {value=1} : f32[]\nkernel 0 {\n%2 = relu %0 : f32[2x3x4x4]\n%3 = add %2, %1 : f32[2x3x4x4]\n}\n" OUT(3), NULL },
    { PHASE_FUSED, X4 "%1 = relu %0 : f32[2x3x4x4] loc(\"n.c\":5)\n", "n.c:5: error: verify: every op in a group: %1 = relu is in none" },
    { PHASE_FUSED, X4 "kernel 0 {\n%1 = relu %0 : f32[2x3x4x4]\n}\nkernel 1 {\n%2 = relu %0 : f32[2x3x4x4]\n}\nkernel 0 {\n%3 = relu %0 : f32[2x3x4x4]\n}\n", "verify: contiguous groups: %3 = relu of group 0 comes after group 1" },
    { PHASE_FUSED, X4 "kernel 1 {\n%1 = relu %0 : f32[2x3x4x4]\n}\n", "verify: contiguous groups: group 0 has no values" },
    { PHASE_FUSED, "%0 = input \"x\" : f32[2x3]\n%1 = param \"w\" : f32[4x3]\nkernel 0 {\n%2 = linear %0, %1 : f32[2x4]\n%3 = relu %2 : f32[2x4]\n}\n", "verify: a call is alone: %2 = linear and %3 = relu are in group 0" },
    /* memory: launches 0, 1, 2... over 16 floats = 64 bytes each; io 64, work 128 */
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n}\nkernel 1 {\n%2 = relu %1 : f32[16] at(work+64)\n}\nkernel 2 {\n%3 = relu %2 : f32[16] at(work+0)\n}\n" OUT(3), NULL },
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n}\nkernel 1 {\n%2 = relu %1 : f32[16] at(work+32)\n}\n" OUT(2), "verify: no two live values overlap: %1 = relu (64 bytes at work+0, launches 0 to 1) and %2 = relu (64 bytes at work+32, launch 1 to the end)" },
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n}\nkernel 1 {\n%2 = relu %1 : f32[16] at(work+0)\n}\n" OUT(2), NULL }, /* in place */
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n}\nkernel 1 {\n%2 = relu %1 : f32[16] at(work+0)\n}\nkernel 2 {\n%3 = add %1, %2 : f32[16] at(work+64)\n}\n" OUT(3), "verify: no two live values overlap" }, /* read later */
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n%2 = scale %0 {scale=2} : f32[16] at(work+0)\n}\nkernel 1 {\n%3 = add %1, %2 : f32[16] at(work+64)\n}\n" OUT(3), "verify: no two live values overlap" },
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16] at(work+0)\n}\nkernel 1 {\n%2 = relu %1 : f32[16]\n}\n" OUT(2), "verify: stored values have a place: %2 = relu has none" },
    { PHASE_PLANNED, PX "kernel 0 {\n%1 = relu %0 : f32[16]\n%2 = relu %1 : f32[16] at(work+0)\n}\n" OUT(2), NULL }, /* %1 stays in the kernel */
    { PHASE_PLANNED, "%0 = input \"x\" : f32[16]\n", "verify: stored values have a place: %0 = input \"x\" has none" },
    { PHASE_PLANNED, "%0 = input \"x\" : f32[16] at(work+0)\n", "verify: arenas: %0 = input \"x\" is in work, expected io" },
    { PHASE_PLANNED, "%0 = input \"x\" : f32[16] at(io+4)\n", "verify: places lie in their arena: %0 = input \"x\": 64 bytes at io+4, of 64" },
    { PHASE_PLANNED, "%0 = input \"x\" : f32[4] at(io+2)\n", "verify: places are aligned: %0 = input \"x\" is at io+2" },
    { PHASE_PLANNED, "%0 = input \"x\" : f32[2x8] at(io+0)\n%1 = reshape %0 {channels=2, h=2, w=2} : f32[2x2x2x2] at(work+0)\n", "verify: views lie on their input: %1 = reshape is at work+0, %0 = input \"x\" at io+0" },
    { PHASE_PLANNED, "%0 = input \"x\" : f32[2x8] at(io+0)\nkernel 0 {\n%1 = relu %0 : f32[2x8] at(work+0)\n}\n%2 = reshape %1 {channels=2, h=2, w=2} : f32[2x2x2x2] at(work+0)\nkernel 1 {\n%3 = relu %0 : f32[2x8] at(work+0)\n}\nkernel 2 {\n%4 = relu %2 : f32[2x2x2x2] at(work+64)\n}\n" OUT(4), "verify: no two live values overlap" }, /* alive through the view */
    /* updates of a param in place: fine; while it is read later: not; over another param: not */
    { PHASE_PLANNED, "%0 = param \"p\" : f32[16] at(param+0)\nkernel 0 {\n%1 = scale %0 {scale=2} : f32[16] at(param+0)\n}\nassign %0, %1\n", NULL },
    { PHASE_PLANNED, "%0 = param \"p\" : f32[16] at(param+0)\nkernel 0 {\n%1 = scale %0 {scale=2} : f32[16] at(param+0)\n}\nkernel 1 {\n%2 = relu %0 : f32[16] at(work+0)\n}\nassign %0, %1\n" OUT(2), "verify: no two live values overlap" },
    { PHASE_PLANNED, "%0 = param \"p\" : f32[16] at(param+0)\n%1 = param \"q\" : f32[16] at(param+64)\nkernel 0 {\n%2 = scale %0 {scale=2} : f32[16] at(param+64)\n}\nassign %0, %2\n", "verify: no two live values overlap" },
    { PHASE_PLANNED, "%0 = param \"p\" : f32[4x4] at(param+0)\nkernel 0 {\n%1 = logsumexp %0 : f32[4x1] at(work+0)\n%2 = affine %0, %1, %1 : f32[4x4] at(param+0)\n}\nassign %0, %2\n" OUT(1), "verify: no two live values overlap" }, /* the nest reads rows that others overwrite */
    { PHASE_LOWERED, PX "kernel 0 \"k\" {\n%1 = relu %0 : f32[16] at(work+0)\n}\n" OUT(1), "verify: lowered: group 0 \"k\" has no kernel" },
    { PHASE_LOWERED, "%0 = input \"x\" : f32[2x3] at(io+0)\n%1 = param \"w\" : f32[4x3] at(param+0)\nkernel 0 {\n%2 = linear %0, %1 : f32[2x4] at(work+0)\n}\n" OUT(2), NULL },
    { PHASE_LOWERED, "%0 = param \"x\" : f32[2x2] at(param+0)\n%1 = param \"w\" : f32[2x2] at(param+64)\nkernel 0 {\n%2 = linear %0, %1 : f32[2x2] at(work+0)\n}\nassign %0, %2\n", "verify: assigned: %0 = param \"x\" is assigned %2 = linear, which no launch writes there" },
};
/* clang-format on */

static void test_verify(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(verify_cases); i++) {
        const VerifyCase *c = &verify_cases[i];
        Fixture           f = fixture_new();
        Graph            *g = parse(&f, arena_printf(&f.a, "graph @g io=64 param=128 work=128 {\n%s}\n", c->body));
        bool              ok = ir_verify(g, c->phase, &f.d);
        if (ok != !c->wanted || ok != (f.d.errors == 0))
            fail_msg("%s: expected %s, found\n%s", c->body, c->wanted ? c->wanted : "no failure", said(&f));
        if (c->wanted)
            assert_says(&f, c->wanted);
        fixture_free(&f);
    }
}

/* ---- Verifier: broken memory ----------------------------------------------------------------------------------- */

typedef void (*Break)(Graph *g);

static void break_input_range(Graph *g)
{
    ir_value(g, 2)->in[0] = 999;
}
static void break_input_negative(Graph *g)
{
    ir_value(g, 2)->in[0] = -7;
}
static void break_order_range(Graph *g)
{
    g->order.at[1] = 999;
}
static void break_order_twice(Graph *g)
{
    g->order.at[2] = g->order.at[1];
}
static void break_order_swapped(Graph *g)
{
    g->order.at[1] = 2, g->order.at[2] = 1;
}
static void break_dropped(Graph *g)
{
    g->order.at[1] = 0, g->order.at[0] = 4, g->order.len = 4;
}
static void break_op(Graph *g)
{
    ir_value(g, 2)->op = (OpCode)999;
}
static void break_arity(Graph *g)
{
    ir_value(g, 3)->n_in = 1;
}
static void break_no_inputs(Graph *g)
{
    ir_value(g, 3)->in = NULL;
}
static void break_dtype(Graph *g)
{
    ir_value(g, 2)->type.dtype = (DType)77;
}
static void break_rank(Graph *g)
{
    ir_value(g, 2)->type.shape.rank = 9;
}
static void break_dim(Graph *g)
{
    ir_value(g, 2)->type.shape.dim[0] = -1;
}
static void break_attr(Graph *g)
{
    ir_value(g, 1)->attr = NULL;
}
static void break_name(Graph *g)
{
    ir_value(g, 0)->name = NULL;
}
static void break_named(Graph *g)
{
    ir_value(g, 2)->name = "relu";
}
static void break_origin(Graph *g)
{
    ir_value(g, 2)->n_origins = 0, ir_value(g, 2)->origins = NULL;
}
static void break_group(Graph *g)
{
    ir_value(g, 2)->group = 5;
}
static void break_place(Graph *g)
{
    ir_value(g, 2)->place = (Place){ (MemKind)9, 0 };
}
static void break_effect(Graph *g)
{
    ir_value(g, 3)->op = OP_ASSIGN;
}
static void break_range(Graph *g)
{
    ir_value(g, 5)->attr[0].f = 7;
}

static const struct {
    Break       damage;
    const char *wanted;
} breaks[] = {
    { break_input_range, "verify: inputs: input 0 of %2 = relu (s) is %999, but there are 7 values" },
    { break_input_negative, "verify: inputs: input 0 of %2 = relu (s) is %-7" },
    { break_order_range, "verify: order: entry 1 is %999" },
    { break_order_twice, "verify: order: %1 = scale (s) stands in it twice" },
    { break_order_swapped, "verify: definition before use: %2 = relu (s) reads %1 = scale (s), which comes later" },
    { break_dropped, "verify: definition before use" },
    { break_op, "verify: op: %2 has op 999" },
    { break_arity, "verify: arity: %3 = add (s) has 1 inputs, expected 2 to 2" },
    { break_no_inputs, "verify: arity: %3 = add (s) has 0 inputs" },
    { break_dtype, "verify: type: %2 = relu (s): <element type 77>" },
    { break_rank, "verify: type: %2 = relu (s): <rank 9>" },
    { break_dim, "verify: type: %2 = relu (s): <dimension 0 is -1" },
    { break_attr, "verify: attributes: %1 = scale (s) has none, expected 1" },
    { break_name, "verify: names: %0 = input (s) has no name" },
    { break_named, "verify: names: %2 = relu \"relu\" has a name" },
    { break_origin, "verify: origins: %2 = relu (s) has lost where it came from" },
    { break_group, "verify: groups: %2 = relu (s) is in group 5 of 0" },
    { break_place, "verify: places: %2 = relu (s) is in arena 9" },
    { break_effect, "assign: the target is %1 = scale (s)" },
    { break_range, "ema: momentum is 7, expected 0 to 1" },
};

static void test_verify_broken(void **state)
{
    (void)state;
    static const char *const text = "graph @g {\n"
                                    "%0 = input \"x\" : f32[4] scope(\"s\") loc(\"n.c\":1)\n"
                                    "%1 = scale %0 : f32[4] scope(\"s\") loc(\"n.c\":2)\n"
                                    "%2 = relu %1 : f32[4] scope(\"s\") loc(\"n.c\":3)\n"
                                    "%3 = add %1, %2 : f32[4] scope(\"s\") loc(\"n.c\":4)\n"
                                    "%4 = relu %3 : f32[4] scope(\"s\") loc(\"n.c\":5)\n"
                                    "%5 = ema %4, %0 : f32[4] scope(\"s\") loc(\"n.c\":6)\n"
                                    "output %5 \"y\" loc(\"n.c\":7)\n"
                                    "}\n";
    for (int32_t i = 0; i < DT_COUNT(breaks); i++) {
        for (int32_t phase = PHASE_FRONTEND; phase <= PHASE_LOWERED; phase++) {
            Fixture f = fixture_new();
            Graph  *g = parse(&f, text);
            breaks[i].damage(g);
            assert_false(ir_verify(g, (Phase)phase, &f.d));
            if (!strstr(said(&f), breaks[i].wanted))
                fail_msg("damage %d in phase %s: expected %s, found\n%s", i, phase_name((Phase)phase), breaks[i].wanted,
                         said(&f));
            print(&f, g); /* whatever it is, it can be looked at */
            fixture_free(&f);
        }
    }
}

/* Lowered: kernels and what is bound to them. */
static Graph *lowered_graph(Fixture *f)
{
    Graph   *g = parse(f, "graph @g target=cpu io=64 work=64 {\n"
                            "%0 = input \"x\" : f32[16] at(io+0)\n"
                            "kernel 0 \"k\" {\n%1 = relu %0 : f32[16] at(work+0)\n}\n"
                            "output %1 \"y\"\n}\n");
    Kernel  *k = kernel_new(&f->a, "k", "relu");
    int32_t  i = kernel_add_axis(k, "i", 16, AXIS_PAR);
    int32_t  x = kernel_add_buf(k, "x", DTYPE_F32, 16, BUF_IN), y = kernel_add_buf(k, "y", DTYPE_F32, 16, BUF_OUT);
    KBuilder b = kb_new(k);
    KVal     v = kb_op2(&b, K_MAX, kb_load(&b, x, affine_axis(i, 1)), kb_f32(&b, 0));
    kb_store(&b, y, affine_axis(i, 1), v);
    Group *gr = &g->groups.at[0];
    gr->kernel = k;
    gr->n_bound = 2;
    gr->bound = arena_copy(&f->a, (ValueId[]){ 0, 1 }, 2 * sizeof(ValueId));
    gr->bound_at = arena_copy(&f->a, (Place[]){ { MEM_IO, 0 }, { MEM_WORK, 0 } }, 2 * sizeof(Place));
    return g;
}

static void break_nothing(Graph *g)
{
    (void)g;
}
static void break_n_bound(Graph *g)
{
    g->groups.at[0].n_bound = 1;
}
static void break_bound(Graph *g)
{
    g->groups.at[0].bound[0] = 77;
}
static void break_bound_value(Graph *g)
{
    g->groups.at[0].bound[1] = 0;
}
static void break_bound_place(Graph *g)
{
    g->groups.at[0].bound_at[1].kind = MEM_NONE;
}
static void break_bound_end(Graph *g)
{
    g->groups.at[0].bound_at[1].offset = 4;
}
static void break_kernel(Graph *g)
{
    g->groups.at[0].kernel->bufs.len = 1;
}
static void break_elems(Graph *g)
{
    g->groups.at[0].kernel->bufs.at[0].dtype = DTYPE_I32;
}

static void test_verify_lowered(void **state)
{
    (void)state;
    static const struct {
        Break       damage;
        const char *wanted;
    } cases[] = {
        { break_nothing, NULL },
        { break_n_bound, "verify: bound buffers: group 0 binds 1 of 2 buffers" },
        { break_bound, "verify: bound buffers: buffer x of group 0 is %77 (no such value), not in the order" },
        { break_bound_value,
          "verify: bound buffers: buffer y of group 0 is at work+0, its value %0 = input \"x\" at io+0" },
        { break_bound_place, "verify: bound buffers: buffer y of group 0 has no place" },
        { break_bound_end, "verify: bound buffers: buffer y of group 0 ends at work+68, of 64 bytes" },
        { break_kernel, "verify: lowered: the kernel of group 0 \"k\"" },
        { break_elems, NULL }, /* reported by the kernel's own rules or by the binding: any message will do */
    };
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Fixture f = fixture_new();
        Graph  *g = lowered_graph(&f);
        cases[i].damage(g);
        bool ok = ir_verify(g, PHASE_LOWERED, &f.d);
        if (ok != (i == 0))
            fail_msg("damage %d: %s", i, said(&f));
        if (cases[i].wanted)
            assert_says(&f, cases[i].wanted);
        if (i == 0)
            assert_false(ir_verify(g, PHASE_PLANNED, &f.d)); /* too early for kernels */
        fixture_free(&f);
    }
}

/* A flood of failures is cut off. */
static void test_verify_many(void **state)
{
    (void)state;
    Fixture f = fixture_new();
    Str     text = str_new(&f.a);
    str_add(&text, "graph @g {\n%0 = input \"x\" : f32[4]\n");
    for (int32_t i = 1; i <= 50; i++)
        str_printf(&text, "%%%d = relu %%0 : f32[5]\n", i);
    str_add(&text, "}\n");
    assert_false(ir_verify(parse(&f, text.s), PHASE_FRONTEND, &f.d));
    assert_int_equal(f.d.errors, 20);
    assert_says(&f, "verify: 30 more failures");
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_broken),
        cmocka_unit_test(test_verify_lowered),
        cmocka_unit_test(test_verify_many),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
