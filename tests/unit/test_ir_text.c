/* test_ir_text.c: graphs as text: print and parse are inverse at every stage, mistakes in text have a file and a line,
 * no text crashes the parser, and the diff of two texts is shortest and applies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ir/ops_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *print(Arena *a, const Graph *g)
{
    Str s = str_new(a);
    ir_print(&s, g);
    return s.s;
}

/* ---- Round trips ----------------------------------------------------------------------------------------------- */

/* Texts exactly as they are printed. */
static const char *const round_trips[] = {
    "graph @empty {\n}\n",
    "graph @\"two words\" target=\"x y\" work=7 {\n}\n",
    /* after the frontend */
    "graph @resnet20.train {\n"
    "  %0 = input \"image\" : f32[128x3x32x32] loc(\"resnet20.c\":21)\n"
    "  %1 = param \"stem.conv.weight\" {init=\"kaiming\", fan=27} : f32[16x3x3x3] scope(\"stem\") "
    "loc(\"resnet20.c\":9)\n"
    "  %2 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[128x16x32x32] scope(\"stem\") loc(\"resnet20.c\":9) by(\"frontend\")\n"
    "  %3 = const {value=0.5} : f32[]\n"
    "  %4 = input \"label\" : i32[128x1]\n"
    "  %5 = reduce_sum %2 {keep=\"c\", scale=-2.5e-7} : f32[16]\n"
    "  output %5 \"sums\" loc(\"resnet20.c\":30)\n"
    "}\n",
    /* numbers: of doubles, of floats, large, special; texts with everything in them; gaps in the numbering */
    "graph @g {\n"
    "  %3 = const {value=0.1} : f32[]\n"
    "  %4 = const {value=0.1f} : f32[]\n"
    "  %5 = const {value=0.30000000000000004} : f32[]\n"
    "  %6 = const {value=-1e300} : f32[]\n"
    "  %7 = const {value=inf} : f32[]\n"
    "  %8 = const {value=-inf} : f32[]\n"
    "  %9 = const {value=nan} : f32[]\n"
    "  %10 = const {value=-0} : f32[]\n"
    "  %11 = const {value=5e-324} : f32[]\n"
    "  %12 = const {value=16777217} : f32[]\n"
    "  %90 = input \"a \\\"b\\\" \\\\ \\n \\x09 \\x7f \xc3\xa4\" : u4[7] scope(\"\") loc(\"a b.c\":-1)\n"
    "}\n",
    /* effects read like values; several origins: shared places, lost makers, no place */
    "graph @g {\n"
    "  %0 = state \"m\" {init=\"value\", value=3} : f32[8] loc(\"a.c\":1) by(\"frontend\") by(\"autodiff\")\n"
    "  %1 = relu %0 : f32[8] loc(\"a.c\":1) by(\"x\") loc(\"a.c\":2) by(\"y\") loc(none) by(\"z\")\n"
    "  %2 = relu %1 : f32[8] loc(none) loc(none) by(\"z\")\n"
    "  %3 = relu %2 : f32[8] loc(\"a.c\":1) loc(\"a.c\":1) by(\"z\")\n"
    "  %4 = relu %3 : f32[8] by(\"z\")\n"
    "  %5 = relu %4 : f32[8]\n"
    "  %6 = relu %5 : f32[8] by(\"z\") by(\"y\") loc(none)\n"
    "  assign %0, %6 backward scope(\"s\") loc(\"a.c\":5) by(\"optimizer\")\n"
    "  output %6 \"m\" backward\n"
    "}\n",
    /* planned: layouts, groups, places, arenas; a segment kernel; an effect inside; a group without values */
    "graph @resnet20.train target=cpu io=4096 param=1728 state=64 work=9437184 {\n"
    "  %0 = input \"x\" : f32[2x16x8x8] nhwc at(io+0)\n"
    "  kernel 0 \"stem.relu\" {\n"
    "    %7 = relu %0 : f32[2x16x8x8] nhwc at(work+4096) backward scope(\"stem\") loc(\"n.c\":3) by(\"frontend\")\n"
    "    %8 = qdq_grad_x %7, %7, %0 {lo=-8, hi=7, axis=0, ends=\"code\"} : f32[2x16x8x8] nhwc\n"
    "    output %8 \"y\" at(work+64)\n"
    "  }\n"
    "  %9 = global_avgpool %8 : f32[2x16x1x1] at(state+0)\n"
    "  kernel 2 segments {\n"
    "    %10 = sgd_step %9, %9, %9, %9 {momentum=0.9, decay=0.0001, nesterov=true} : f32[2x16x1x1]\n"
    "  }\n"
    "  kernel 1 \"\" {\n"
    "  }\n"
    "}\n"
    "\n"
    "bind 0 (%0 at(io+0), _ at(work+128), %7)\n",
};

static void test_round_trip(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(round_trips); i++) {
        Arena  a = arena_new("test");
        Diag   d = diag_new(NULL);
        Graph *g = ir_parse(&a, &d, "t", round_trips[i]);
        if (!g)
            fail_msg("%s\n%s", d.text.s, round_trips[i]);
        assert_string_equal(print(&a, g), round_trips[i]);
        Graph *clone = ir_graph_clone(&a, g);
        assert_string_equal(print(&a, clone), round_trips[i]);
        diag_free(&d);
        arena_free(&a);
    }
}

/* What is only a matter of taste: spaces, comments, the order of suffixes, defaults that are said. */
static void test_free_form(void **state)
{
    (void)state;
    Arena  a = arena_new("test");
    Diag   d = diag_new(NULL);
    Graph *g = ir_parse(&a, &d, "t",
                        "// RUN: something\n\tgraph@g{// a comment\r\n"
                        "%0=input\"x\":f32[2x3x4x4]by(\"b\")nhwc\n"
                        "%1 = avgpool %0 { pad=[0 , 0,0,0],kernel = 2 , stride=2 } // behind\n : f32[ 2x3 x2x2 ] "
                        "loc(\"f\" : 3) scope (\"s\") backward nhwc at ( work + 8 ) }  // end");
    if (!g)
        fail_msg("%s", d.text.s);
    assert_string_equal(print(&a, g),
                        "graph @g {\n"
                        "  %0 = input \"x\" : f32[2x3x4x4] nhwc by(\"b\")\n"
                        "  %1 = avgpool %0 : f32[2x3x2x2] nhwc at(work+8) backward scope(\"s\") loc(\"f\":3)\n"
                        "}\n");
    diag_free(&d);
    arena_free(&a);
}

/* Any double survives. */
static void test_numbers(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        Arena    a = arena_new("test");
        Diag     d = diag_new(NULL);
        Graph   *g = ir_parse(&a, &d, "t", "graph @g {\n%0 = const {value=1} : f32[]\n}");
        uint64_t bits = (uint64_t)rng_u32(7, 0, 0, i) << 32 | rng_u32(7, 1, 0, i);
        double   x = rng_uniform(7, 2, 0, i);
        if (i % 3 == 0)
            memcpy(&x, &bits, sizeof x);
        if (i % 3 == 1)
            x = (double)(float)x;
        ir_value(g, 0)->attr[0].f = x;
        Graph *back = ir_parse(&a, &d, "t", print(&a, g));
        assert_non_null(back);
        double y = ir_float(ir_value(back, 0), A_VALUE);
        assert_true(isnan(x) ? isnan(y) : memcmp(&x, &y, sizeof x) == 0);
        diag_free(&d);
        arena_free(&a);
    }
}

/* A lowered graph: kernels follow, through kernel_print and kernel_parse. */
static Graph *lowered(Arena *a, Diag *d)
{
    Graph *g = ir_parse(a, d, "t",
                        "graph @g target=cpu io=64 work=64 {\n"
                        "  %0 = input \"x\" : f32[16] at(io+0)\n"
                        "  kernel 0 \"a\" {\n    %1 = relu %0 : f32[16] at(work+0)\n  }\n"
                        "  kernel 1 \"b\" {\n    %2 = relu %1 : f32[16] at(work+0)\n  }\n"
                        "  output %2 \"y\"\n}\n");
    for (int32_t n = 0; n < 2; n++) {
        Kernel  *k = kernel_new(a, n ? "b" : "a", "relu \"quoted\"");
        int32_t  i = kernel_add_axis(k, "i", 16, AXIS_PAR);
        int32_t  x = kernel_add_buf(k, "x", DTYPE_F32, 16, n ? BUF_INOUT : BUF_IN);
        int32_t  y = n ? x : kernel_add_buf(k, "y", DTYPE_F32, 16, BUF_OUT);
        KBuilder b = kb_new(k);
        KVal     v = kb_load(&b, x, affine_axis(i, 1)), zero = kb_f32(&b, 0);
        kb_store(&b, y, affine_axis(i, 1), kb_op2(&b, K_MAX, v, zero));
        Group *gr = &g->groups.at[n];
        gr->kernel = k;
        gr->n_bound = n ? 1 : 2;
        gr->bound = arena_copy(a, (ValueId[]){ n, 1 }, 2 * sizeof(ValueId));
        gr->bound_at = arena_copy(a, (Place[]){ { n ? MEM_WORK : MEM_IO, 0 }, { MEM_WORK, 0 } }, 2 * sizeof(Place));
    }
    return g;
}

static void test_lowered(void **state)
{
    (void)state;
    Arena  a = arena_new("test");
    Diag   d = diag_new(NULL);
    Graph *g = lowered(&a, &d);
    assert_true(ir_verify(g, PHASE_LOWERED, &d));
    const char *text = print(&a, g);
    assert_non_null(strstr(text, "\nbind 0 (%0 at(io+0), %1 at(work+0))\nkernel @a \"relu \\\"quoted\\\"\" {\n"));
    assert_non_null(strstr(text, "\nbind 1 (%1 at(work+0))\nkernel @b "));
    Graph *back = ir_parse(&a, &d, "t", text);
    if (!back)
        fail_msg("%s\n%s", d.text.s, text);
    assert_string_equal(print(&a, back), text);
    assert_true(ir_verify(back, PHASE_LOWERED, &d));
    assert_string_equal(print(&a, ir_graph_clone(&a, g)), text);

    /* a mistake behind the first kernel has the right line */
    char *bad = arena_strdup(&a, text);
    char *at = strstr(bad, "bind 1");
    int   line = 1;
    for (char *s = bad; s < at; s++)
        line += *s == '\n';
    memcpy(at, "band 1", 6);
    assert_null(ir_parse(&a, &d, "t", bad));
    if (!strstr(d.text.s, arena_printf(&a, "t:%d: error: parse: expected the end of the text, found 'band'", line)))
        fail_msg("%s", d.text.s);
    diag_free(&d);
    arena_free(&a);
}

static void test_hash(void **state)
{
    (void)state;
    Arena   a = arena_new("test");
    Diag    d = diag_new(NULL);
    Graph  *g = ir_parse(&a, &d, "t", round_trips[5]);
    Graph  *h = ir_parse(&a, &d, "u", round_trips[5]);
    Hash128 x = ir_hash(g), y = ir_hash(h);
    assert_true(x.lo == y.lo && x.hi == y.hi);
    ir_value(h, 7)->place.offset += 64;
    y = ir_hash(h);
    assert_true(x.lo != y.lo);
    diag_free(&d);
    arena_free(&a);
}

static void test_scope(void **state)
{
    (void)state;
    Arena                    a = arena_new("test");
    Diag                     d = diag_new(NULL);
    Graph                   *g = ir_parse(&a, &d, "t",
                                          "graph @g {\n"
                                                            "%0 = input \"x\" : f32[4]\n"
                                                            "kernel 0 \"k\" {\n"
                                                            "%1 = relu %0 : f32[4] scope(\"s1.b0.conv1\")\n"
                                                            "%2 = relu %1 : f32[4] scope(\"s1.b1\")\n"
                                                            "}\n"
                                                            "kernel 1 \"l\" {\n%3 = relu %2 : f32[4] scope(\"s11\")\n}\n}");
    static const char *const cases[][2] = {
        { "s1.b0", "graph @g {\n  kernel 0 \"k\" {\n    %1 = relu %0 : f32[4] scope(\"s1.b0.conv1\")\n  }\n}\n" },
        { "s?.b1", "graph @g {\n  kernel 0 \"k\" {\n    %2 = relu %1 : f32[4] scope(\"s1.b1\")\n  }\n}\n" },
        { "s11", "graph @g {\n  kernel 1 \"l\" {\n    %3 = relu %2 : f32[4] scope(\"s11\")\n  }\n}\n" },
        { "s2", "graph @g {\n}\n" },
    };
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        Str s = str_new(&a);
        ir_print_scope(&s, g, cases[i][0]);
        assert_string_equal(s.s, cases[i][1]);
    }
    diag_free(&d);
    arena_free(&a);
}

/* A message names the user's line, else the line of the text; the text itself never gains a place by being read. */
static void test_place_of_text(void **state)
{
    (void)state;
    Arena            a = arena_new("test");
    Diag             d = diag_new(NULL);
    Graph           *g = ir_parse(&a, &d, "t.dtir",
                                  "graph @g {\n  %0 = input \"x\" : f32[4]\n  %1 = relu %0 : f32[4] loc(\"net.c\":9)\n\n"
                                            "  %2 =\n    relu %1 : f32[4]\n}\n");
    static const Loc want[] = { { "t.dtir", 2 }, { "net.c", 9 }, { "t.dtir", 6 } };
    g = ir_graph_clone(&a, g);
    for (int32_t i = 0; i < DT_COUNT(want); i++) {
        Loc at = ir_loc(g, ir_value(g, i));
        assert_string_equal(at.file, want[i].file);
        assert_int_equal(at.line, want[i].line);
    }
    Builder b = { .g = g, .d = &d, .by = "test", .like = 2 };
    Loc     at = ir_loc(g, ir_value(g, ir_emit(&b, OP_RELU, IR_IN(2))));
    assert_string_equal(at.file, "t.dtir"); /* what is made from a value stands at its place */
    assert_int_equal(at.line, 6);
    Str s = str_new(&a);
    ir_print(&s, g);
    assert_null(strstr(s.s, "t.dtir"));
    diag_free(&d);
    arena_free(&a);
}

/* Printing what is broken. */
static void test_print_broken(void **state)
{
    (void)state;
    Arena  a = arena_new("test");
    Diag   d = diag_new(NULL);
    Graph *g = ir_parse(&a, &d, "t",
                        "graph @g {\n%0 = input \"x\" : f32[4]\n%1 = add %0, %0 : f32[4]\n%2 = relu %1 : f32[4]\n"
                        "%3 = scale %2 {scale=2} : f32[4]\n}");
    ir_value(g, 1)->in[1] = 17;
    ir_value(g, 2)->op = (OpCode)999;
    ir_value(g, 3)->attr = NULL;
    ir_value(g, 3)->in = NULL;
    ir_value(g, 3)->type.shape.rank = -3;
    ir_value(g, 3)->group = 4;
    ir_value(g, 3)->place.kind = (MemKind)8;
    ir_value(g, 3)->n_origins = 0;
    vec_push(&a, &g->order, 55);
    assert_string_equal(print(&a, g), "graph @g {\n"
                                      "  %0 = input \"x\" : f32[4]\n"
                                      "  %1 = add %0, <bad %17> : f32[4]\n"
                                      "  %2 = <op 999>\n"
                                      "  %3 = scale <bad %-1> : <rank -3> <arena 8> <group 4>\n"
                                      "  <bad %55>\n"
                                      "}\n");
    diag_free(&d);
    arena_free(&a);
}

/* ---- Mistakes -------------------------------------------------------------------------------------------------- */

/* Body of a graph whose first value %0 stands in line 2; the message, which begins with the line. */
static const struct {
    const char *body, *wanted;
} mistakes[] = {
    { "%1 = rely %0 : f32[4]\n}", "3: error: parse: unknown op 'rely'; did you mean relu" },
    { "%1 = relu %0 : f33[4]\n}", "3: error: parse: unknown element type 'f33'; did you mean f32" },
    { "%1 = relu %2 : f32[4]\n}", "3: error: parse: %2 is used before it is defined" },
    { "\n%0 = relu %0 : f32[4]\n}", "4: error: parse: %0 is defined twice" },
    { "%1 = relu : f32[4]\n}", "3: error: parse: relu takes 1 inputs, found 0" },
    { "%1 = conv2d %0 : f32[4]\n}", "3: error: parse: conv2d takes 2 to 3 inputs, found 1" },
    { "%1 = relu %0, %0 : f32[4]\n}", "3: error: parse: relu takes 1 inputs, found 2" },
    { "%1 = add %0 %0 : f32[4]\n}", "3: error: parse: add takes 2 inputs, found 1" },
    { "%1 = add %0, 0 : f32[4]\n}", "3: error: parse: expected '%' before a value's number, found '0'" },
    { "%1 = relu %0\n}", "4: error: parse: expected ':' before the type, found '}'" },
    { "%1 = relu %0 : f32\n}", "4: error: parse: expected '[' after the element type, found '}'" },
    { "%1 = relu %0 : f32[4\n}", "4: error: parse: expected ']' after the dimensions, found '}'" },
    { "%1 = relu %0 : f32[0]\n}", "3: error: parse: a dimension is 0, expected 1 to 268435456" },
    { "%1 = relu %0 : f32[4x]\n}", "3: error: parse: expected a dimension, found ']'" },
    { "%1 = relu %0 : f32[1x1x1x1x1]\n}", "3: error: parse: a shape has at most 4 dimensions" },
    { "%1 = relu %0 : f32[99999999999999999999]\n}", "3: error: parse: a dimension does not fit 64 bits" },
    { "%1 = relu %0 : f32[268435456x268435456]\n}", "3: error: parse: <268435456x268435456: more than 2^48 elements>" },
    { "%1 = relu %0 : f32[4] nhwc\n}", "3: error: parse: layout nhwc needs rank 4, found rank 1" },
    { "%1 = scale %0 {scal=2} : f32[4]\n}", "3: error: parse: scale has no attribute 'scal'; it has scale" },
    { "%1 = relu %0 {scale=2} : f32[4]\n}", "3: error: parse: relu has no attribute 'scale'; it has none" },
    { "%1 = scale %0 {scale=2, scale=2} : f32[4]\n}", "3: error: parse: attribute scale is given twice" },
    { "%1 = scale %0 {scale 2} : f32[4]\n}", "3: error: parse: expected '=' after an attribute's name, found '2'" },
    { "%1 = scale %0 {scale=two} : f32[4]\n}", "3: error: parse: expected scale, found 'two'" },
    { "%1 = scale %0 {scale=2z} : f32[4]\n}", "3: error: parse: expected scale, found '2z'" },
    { "%1 = scale %0 {scale=2 : f32[4]\n}", "3: error: parse: expected '}' after the attributes, found ':'" },
    { "%1 = const : f32[]\n}", "3: error: parse: const needs the attribute value" },
    { "%1 = maxpool %0 {pad=1} : f32[4]\n}", "3: error: parse: expected '[' in four integers, found '1'" },
    { "%1 = maxpool %0 {pad=[1,1,1]} : f32[4]\n}", "3: error: parse: expected ',' in four integers, found ']'" },
    { "%1 = maxpool %0 {kernel=0} : f32[4]\n}", "3: error: maxpool: kernel is 0, expected 1 to 1024" },
    { "%1 = maxpool %0 {pad=[0,0,0,-1]} : f32[4]\n}", "3: error: maxpool: pad is [0,0,0,-1], expected each to be" },
    { "%1 = reduce_sum %0 {keep=\"x\"} : f32[]\n}",
      "3: error: reduce_sum: keep is \"x\", expected one of \"\", \"c\", \"nc\", \"n\"" },
    { "%1 = reduce_sum %0 {keep=c} : f32[]\n}", "3: error: parse: expected keep in quotes, found 'c'" },
    { "%1 = reduce_sum %0 {keep=\"c} : f32[]\n}", "3: error: parse: keep: the closing quote is missing" },
    { "%1 = input \"\\q\" : f32[]\n}", "3: error: parse: a name: expected \\\" \\\\ \\n or \\xNN after the backslash" },
    { "%1 = input : f32[]\n}", "3: error: parse: input needs a name in quotes, found ':'" },
    { "%1 = relu %0 \"r\" : f32[4]\n}", "3: error: parse: relu has no name, found \"r\"" },
    { "relu %0 : f32[4]\n}", "3: error: parse: relu needs a number, as in '%7 = relu'" },
    { "%1 = output %0 \"y\"\n}", "3: error: parse: output has no result, found '%1 ='" },
    { "%99999999 = relu %0 : f32[4]\n}", "3: error: parse: a value's number is 99999999, expected 0 to" },
    { "assign %0, %0\n}", "3: error: assign: the target is %0 = input \"x\", expected a param or a state" },
    { "%1 = relu %0 : f32[4] at(heap+0)\n}",
      "3: error: parse: unknown arena 'heap', expected io, param, state or work" },
    { "%1 = relu %0 : f32[4] at(work-4)\n}", "3: error: parse: expected '+' after the arena, found '-'" },
    { "%1 = relu %0 : f32[4] loc(3)\n}", "3: error: parse: expected a file in quotes, found '3'" },
    { "%1 = relu %0 : f32[4] by(me)\n}", "3: error: parse: expected a maker in quotes, found 'me'" },
    { "%1 = relu %0 : f32[4] sideways\n}", "3: error: parse: unknown op 'sideways'" },
    { "%1 relu %0 : f32[4]\n}", "3: error: parse: expected '=' after a value's number, found 'relu'" },
    { "%x = relu %0 : f32[4]\n}", "3: error: parse: expected a value's number, found 'x'" },
    { "kernel -1 {\n}\n}", "3: error: parse: a kernel's number is -1, expected 0 to" },
    { "kernel 0 \"k\"\n%1 = relu %0 : f32[4]\n}", "4: error: parse: expected '{' before a kernel's values, found '%'" },
    { "kernel 0 {\nkernel 1 {\n}\n}\n}", "4: error: parse: unknown op 'kernel'" },
    { "", "3: error: parse: expected an op, found the end of the text" },
    { "}\n}", "4: error: parse: expected the end of the text, found '}'" },
    { "}\nbind 0 ()", "4: error: parse: kernel 0 is not in the graph" },
    { "kernel 0 {\n}\n}\nbind 0 (%7)", "6: error: parse: %7 is used before it is defined" },
    { "kernel 0 {\n}\n}\nbind 0 (%0 %0)", "6: error: parse: expected ',' between buffers, found '%'" },
    { "kernel 0 {\n}\n}\nbind 0 (_)\nbind 0 (_)", "7: error: parse: the buffers of kernel 0 are bound twice" },
    { "kernel 0 {\n}\n}\nbind 0 ()\n\nkernel @k {\n  axis\n}\n", "error: kernel: " },
    { "\x01", "3: error: parse: expected an op, found a control character (1)" },
};

static void test_mistakes(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(mistakes); i++) {
        Arena       a = arena_new("test");
        Diag        d = diag_new(NULL);
        const char *text = arena_printf(&a, "graph @g {\n%%0 = input \"x\" : f32[4]\n%s", mistakes[i].body);
        Graph      *g = ir_parse(&a, &d, "t.ir", text);
        if (g || d.errors != 1 || !strstr(d.text.s, mistakes[i].wanted) || strncmp(d.text.s, "t.ir:", 5) != 0)
            fail_msg("%s\nexpected %s\nfound %s", text, mistakes[i].wanted, d.text.s);
        diag_free(&d);
        arena_free(&a);
    }
    static const char *const heads[][2] = {
        { "", "t.ir:1: error: parse: expected 'graph' at the beginning, found the end of the text" },
        { "\n\ngraf @g {}", "t.ir:3: error: parse: expected 'graph' at the beginning, found 'graf'" },
        { "graph g {}", "t.ir:1: error: parse: expected '@' before the graph's name, found 'g'" },
        { "graph @ {}", "t.ir:1: error: parse: expected the graph's name, found '{'" },
        { "graph @g heap=3 {}", "t.ir:1: error: parse: unknown arena 'heap'" },
        { "graph @g work=-3 {}", "t.ir:1: error: parse: a size is -3" },
        { "graph @g work {}", "t.ir:1: error: parse: expected '=' after the word, found '{'" },
    };
    for (int32_t i = 0; i < DT_COUNT(heads); i++) {
        Arena a = arena_new("test");
        Diag  d = diag_new(NULL);
        assert_null(ir_parse(&a, &d, "t.ir", heads[i][0]));
        if (!strstr(d.text.s, heads[i][1]))
            fail_msg("%s\nexpected %s\nfound %s", heads[i][0], heads[i][1], d.text.s);
        diag_free(&d);
        arena_free(&a);
    }
}

/* Whatever the text: no crash; what parses prints, parses again to the same, and can be verified. */
static void try_text(const char *text)
{
    Arena  a = arena_new("test");
    Diag   d = diag_new(NULL);
    Graph *g = ir_parse(&a, &d, "t", text);
    assert_int_equal(g == NULL, d.errors == 1);
    if (g) {
        const char *once = print(&a, g);
        Graph      *back = ir_parse(&a, &d, "t", once);
        if (!back)
            fail_msg("%s\n%s", d.text.s, once);
        assert_string_equal(print(&a, back), once);
        for (int32_t phase = PHASE_FRONTEND; phase <= PHASE_LOWERED; phase++)
            ir_verify(g, (Phase)phase, &d);
    }
    diag_free(&d);
    arena_free(&a);
}

static void test_garbage(void **state)
{
    (void)state;
    Arena       a = arena_new("test");
    Diag        d = diag_new(NULL);
    const char *texts[DT_COUNT(round_trips) + 1];
    memcpy(texts, round_trips, sizeof round_trips);
    texts[DT_COUNT(round_trips)] = print(&a, lowered(&a, &d));
    static const char signs[] = "%\"{}[](),:=+-@x0123456789fnab \n\\/";
    for (int32_t i = 0; i < DT_COUNT(texts); i++) {
        size_t len = strlen(texts[i]);
        for (uint64_t k = 0; k < 1500; k++) {
            uint32_t draw = rng_u32(11, (uint32_t)i, 0, k), other = rng_u32(11, (uint32_t)i, 1, k);
            char    *s = arena_strdup(&a, texts[i]);
            char    *at = s + draw % len;
            switch (other % 4) {
            case 0: /* cut off */
                *at = 0;
                break;
            case 1: /* one sign changed */
                *at = signs[other / 4 % (sizeof signs - 1)];
                break;
            case 2: /* a stretch missing */
                memmove(at, at + 1 + other / 4 % 7 % strlen(at), strlen(at + 1 + other / 4 % 7 % strlen(at)) + 1);
                break;
            default: /* any byte at all */
                *at = (char)(1 + other / 4 % 255);
                break;
            }
            try_text(s);
        }
    }
    diag_free(&d);
    arena_free(&a);
}

/* ---- Diff ------------------------------------------------------------------------------------------------------ */

static const char *diff_of(Arena *a, const char *x, const char *y)
{
    Str s = str_new(a);
    text_diff(&s, "old", x, "new", y);
    return s.s;
}

static void test_diff(void **state)
{
    (void)state;
    Arena a = arena_new("test");
    assert_string_equal(diff_of(&a, "", ""), "");
    assert_string_equal(diff_of(&a, "a\nb\n", "a\nb\n"), "");
    assert_string_equal(diff_of(&a, "", "a\n"), "--- old\n+++ new\n@@ -0,0 +1 @@\n+a\n");
    assert_string_equal(diff_of(&a, "a\n", ""), "--- old\n+++ new\n@@ -1 +0,0 @@\n-a\n");
    assert_string_equal(diff_of(&a, "a\n", "a"),
                        "--- old\n+++ new\n@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n");
    assert_string_equal(diff_of(&a, "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"),
                        "--- old\n+++ new\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    /* six equal lines between two changes join them, seven part them */
    assert_string_equal(diff_of(&a, "a\n1\n2\n3\n4\n5\n6\nb\n", "A\n1\n2\n3\n4\n5\n6\nB\n"),
                        "--- old\n+++ new\n@@ -1,8 +1,8 @@\n-a\n+A\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+B\n");
    assert_string_equal(diff_of(&a, "a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n"),
                        "--- old\n+++ new\n@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n"
                        "@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
    arena_free(&a);
}

/* Applies a unified diff of texts whose lines have one sign each; the number of changed lines. */
static int32_t apply(const char *old, const char *diff, Str *out)
{
    int32_t changes = 0, line = 1;
    diff = strchr(strchr(diff, '\n') + 1, '\n') + 1;
    while (*diff) {
        const char *end = strchr(diff, '\n') + 1;
        if (diff[0] == '@') {
            int from = atoi(diff + 4);
            if (strncmp(strchr(diff, ' '), " -", 2) == 0 && strstr(diff, ",0 +") && strstr(diff, ",0 +") < end)
                from++; /* an empty range is named by the line before */
            for (; line < from; line++, old += 2)
                str_addn(out, old, 2);
        } else if (diff[0] == '+') {
            str_addn(out, diff + 1, 2);
            changes++;
        } else {
            assert_memory_equal(old, diff + 1, 2);
            if (diff[0] == ' ')
                str_addn(out, old, 2);
            else
                changes++;
            old += 2;
            line++;
        }
        diff = end;
    }
    str_add(out, old);
    return changes;
}

/* Length of a longest common subsequence of the lines, by the textbook table. */
static int32_t common_lines(const char *x, const char *y)
{
    int32_t n = (int32_t)strlen(x) / 2, m = (int32_t)strlen(y) / 2, best[32][32] = { { 0 } };
    for (int32_t i = 1; i <= n; i++)
        for (int32_t j = 1; j <= m; j++)
            best[i][j] = x[2 * i - 2] == y[2 * j - 2]      ? best[i - 1][j - 1] + 1
                         : best[i - 1][j] > best[i][j - 1] ? best[i - 1][j]
                                                           : best[i][j - 1];
    return best[n][m];
}

static void random_lines(char *out, uint32_t stream, uint64_t k)
{
    uint32_t n = rng_u32(3, stream, 0, k) % 30, kinds = 1 + rng_u32(3, stream, 1, k) % 8;
    for (uint32_t i = 0; i < n; i++) {
        *out++ = (char)('a' + rng_u32(3, stream, 2 + i, k) % kinds);
        *out++ = '\n';
    }
    *out = 0;
}

static void test_diff_is_shortest(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 3000; k++) {
        Arena a = arena_new("test");
        char  x[64], y[64];
        random_lines(x, 0, k);
        random_lines(y, 1, k);
        if (strcmp(x, y) != 0) {
            Str     out = str_new(&a);
            int32_t changes = apply(x, diff_of(&a, x, y), &out);
            assert_string_equal(out.s, y);
            assert_int_equal(changes, (int32_t)(strlen(x) + strlen(y)) / 2 - 2 * common_lines(x, y));
        }
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_free_form),
        cmocka_unit_test(test_numbers),      cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_hash),         cmocka_unit_test(test_scope),
        cmocka_unit_test(test_print_broken), cmocka_unit_test(test_place_of_text),
        cmocka_unit_test(test_mistakes),     cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_diff),         cmocka_unit_test(test_diff_is_shortest),
    };
    return cmocka_run_group_tests_name("ir text", tests, NULL, NULL);
}
