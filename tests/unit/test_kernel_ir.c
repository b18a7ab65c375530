/* test_kernel_ir.c: kernels as text and as data: parser and printer, verifier, builder, hash, and the transformations,
 * each of which must keep every bit of every result. */
#include "tests/unit/kernel_fixture.h"

static const char *const kernel_files[] = {
    "bn_apply",  "bn_stats",         "lsq_backward",     "softmax_xent",    "maxpool",   "maxpool_grad",
    "depthwise", "depthwise_grad_w", "depthwise_grad_x", "prepare_weights", "optimizer", "transposed_conv",
    "concat",    "drop_connect",     "bilinear",         "conv4",
};

static char *read_kernel(Arena *a, const char *name)
{
    Diag  d = diag_new(NULL);
    char *text = file_read(a, &d, arena_printf(a, "%s/tests/kernels/%s.kernel", DT_SOURCE_DIR, name), NULL);
    assert_non_null(text);
    diag_free(&d);
    return text;
}

static Kernel *parse(KernelTest *t, const char *text)
{
    size_t pos = 0;
    return kernel_parse(&t->arena, &t->d, "test", text, &pos);
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

/* Several kernels in one file, with comments, parsed one after the other. */
static void several_in_a_text(void **state)
{
    (void)state;
    KernelTest  t = kt_new();
    const char *text =
        "// two\nkernel @a { body { } }\n\n  kernel @b \"say \\\"b\\\"\" { axis i = 3 par // axis\n body { } }";
    size_t  pos = 0;
    Kernel *a = kernel_parse(&t.arena, &t.d, "test", text, &pos);
    Kernel *b = kernel_parse(&t.arena, &t.d, "test", text, &pos);
    assert_string_equal(a->name, "a");
    assert_string_equal(b->title, "say \"b\"");
    assert_int_equal(pos, strlen(text));
    assert_null(kernel_parse(&t.arena, &t.d, "test", text, &pos));
    assert_non_null(strstr(t.d.text.s, "test:5: error: kernel: expected 'kernel', found the end of the text"));
    kt_free(&t);
}

/* Everything the text form has, written by hand and printed back. */
static void text_of_everything(void **state)
{
    (void)state;
    const char *text = "kernel @all.of_it \"a \\\\ b \\x09\" loc(\"dir/net.c\":7) {\n"
                       "  segments 2 {\n"
                       "    int base 0, -64\n"
                       "    int len 9223372036854775807, 3\n"
                       "    float lo -8, inf\n"
                       "  }\n"
                       "  axis i = seg.len par vec\n"
                       "  axis k = 4 seq\n"
                       "  buf x : b1[64] in\n"
                       "  buf y.z : u32[64] inout stream\n"
                       "  core gemm\n"
                       "  reduce chunks 7 lanes 16\n"
                       "  body {\n"
                       "    %0 = const.bool 1\n"
                       "    %1 = const.i32 -2147483648\n"
                       "    %2 = const.u32 4294967295\n"
                       "    %3 = const.f32 -1.5e-42\n"
                       "    %4 = index -2*i + 3*k + seg.base - 5\n"
                       "    %5 = segf lo\n"
                       "    %6 = load x[0] if %0\n"
                       "    %7 = load y.z[-k + %4]\n"
                       "    loop k {\n"
                       "      store y.z[i + k + seg.base - 9223372036854775808 + %1], %7 if %6\n"
                       "    }\n"
                       "    %8 = bitcast.f32 %7\n"
                       "    %9 = select %0, %8, %3\n"
                       "  }\n"
                       "  final {\n"
                       "    %10 = philox %2, %2, %7, %7, %2\n"
                       "  }\n"
                       "}\n";
    KernelTest  t = kt_new();
    Kernel     *k = parse(&t, text);
    if (!k)
        fail_msg("%s", t.d.text.s);
    assert_string_equal(kt_print(&t, k), text);
    kt_free(&t);
}

/* Mistakes in the text: where, and what was expected. */
static void parse_mistakes(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "kernel all {", "test:1: error: kernel: expected '@'" },
        { "kernel @k \"title {\n}", "a text that ends in quotes" },
        { "kernel @k {\n axis i 3 par\n}", "test:2: error: kernel: expected '=' and the axis's extent, found '3 par'" },
        { "kernel @k { axis i = 3 inner }", "expected par, red or seq, found 'inner }'" },
        { "kernel @k { axis i = 99999999999999999999 par }", "expected a smaller number" },
        { "kernel @k { axis i = seg.len par }", "integer column of the segment table" },
        { "kernel @k { axis i = 2 par vec axis j = 2 par vec }", "at most one vec axis" },
        { "kernel @k { buf x : f16[3] in }", "expected an element type, found 'f16[3] in }'" },
        { "kernel @k { buf x : f32[3] input }", "expected in, out or inout" },
        { "kernel @k { segments 0 { } }", "at least one row" },
        { "kernel @k { segments 2 { int a 1 } }", "one number for each row" },
        { "kernel @k { body { %0 = load x[0] } }", "expected the name of a buffer, found 'x[0] } }'" },
        { "kernel @k { buf x : f32[1] in body {\n %0 = load x[j]\n} }",
          "test:2: error: kernel: expected an axis, a number" },
        { "kernel @k { body { %0 = const.i32 2147483648 } }", "expected a smaller number" },
        { "kernel @k { body { %0 = const.f64 1 } }", "expected f32, i32, u32 or bool after the dot" },
        { "kernel @k { body { %0 = addd %1, %2 } }", "expected an instruction, found 'addd %1, %2 } }'" },
        { "kernel @k { body { %0 = neg %0 } }", "expected a value that was made before" },
        { "kernel @k { body { %0 = const.f32 1 %0 = neg %0 } }", "expected a number that no other value has" },
        { "kernel @k { body { const.f32 1 } }", "expected '%n ='" },
        { "kernel @k { body { %70000 = const.f32 1 } }", "expected a smaller number" },
        { "kernel @k { body { %0 = const.f32 1\n %1 = const.i32 1\n %2 = add %0, %1 } }",
          "test:3: error: kernel: add takes f32, i32 or u32, all alike" },
        { "kernel @k { body { %0 = const.f32 1 %1 = cvt.f32 %0 } }",
          "cvt.f32 names the type that the value has already" },
        { "kernel @k { body { %0 = const.f32 1 %1 = shl %0, %0 } }", "shl takes i32 or u32, both alike" },
        { "kernel @k { body { %0 = const.f32 1 %1 = select %0, %0, %0 } }", "select takes a bool first" },
        { "kernel @k { body { %0 = const.bool 1 %1 = acc.sum %0 } }", "acc takes f32 or i32" },
        { "kernel @k { buf x : u8[4] out body { %0 = const.f32 1 store x[0], %0 } }",
          "another type than its buffer takes" },
        { "kernel @k { buf x : u8[4] in body { %0 = const.f32 1 %1 = load x[%0] } }", "takes an i32 in its address" },
        { "kernel @k { body { } body { } }", "expected each region once" },
        { "kernel @k { body { ", "found the end of the text" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        KernelTest t = kt_new();
        assert_null(parse(&t, cases[i][0]));
        assert_int_equal(t.d.errors, 1);
        if (!strstr(t.d.text.s, cases[i][1]))
            fail_msg("for '%s': expected '%s' in '%s'", cases[i][0], cases[i][1], t.d.text.s);
        kt_free(&t);
    }
}

/* Whatever parses must print, verify without harm, and parse back to the same text. */
static void try_text(const char *text)
{
    KernelTest t = kt_new();
    Kernel    *k = parse(&t, text);
    assert_true((k == NULL) == (t.d.errors > 0));
    if (k) {
        const char *once = kt_print(&t, k);
        Kernel     *again = parse(&t, once);
        if (!again)
            fail_msg("printed text does not parse: %s\n%s", t.d.text.s, once);
        assert_string_equal(kt_print(&t, again), once);
        if (kernel_verify(k, &t.d)) {
            kernel_hash(k);
            kernel_cost(k);
            assert_true(kernel_verify(kernel_expand(&t.arena, k), &t.d));
        }
    }
    kt_free(&t);
}

static void damaged_texts(void **state)
{
    (void)state;
    static const char bytes[] = "%*+-[]{}=:,.\"\\ \n019azBX";
    Arena             a = arena_new("damaged");
    for (int f = 0; f < DT_COUNT(kernel_files); f++) {
        char  *text = read_kernel(&a, kernel_files[f]);
        size_t len = strlen(text);
        for (size_t cut = 0; cut < len; cut += 7)
            try_text(arena_strndup(&a, text, cut));
        for (uint32_t round = 0; round < 300; round++) {
            char *broken = arena_strdup(&a, text);
            for (uint32_t i = 0; i <= round % 3; i++) {
                uint32_t draw = rng_u32(11, (uint32_t)f, round, i);
                size_t   at = draw % len;
                broken[at] = draw >> 31 ? bytes[draw / 64 % (sizeof bytes - 1)] : text[draw / 64 % len];
            }
            try_text(broken);
        }
        arena_reset(&a);
    }
    arena_free(&a);
}

/* ---- Verifier ---------------------------------------------------------------------------------------------------- */

/* Each text parses; the rule that it breaks is named. */
static void verify_mistakes(void **state)
{
    (void)state;
#define HEAD "kernel @k { axis i = 8 par axis r = 4 red axis s = 3 seq buf x : f32[32] in buf y : f32[8] out "
#define BODY "body { %0 = load x[4*i + r] %1 = acc.sum %0 } "
    static const char *const cases[][2] = {
        { "kernel @k { axis i = 8 par axis i = 4 par body { } }", "two axes are named i" },
        { "kernel @k { buf x : f32[1] in buf x : f32[1] in body { } }", "two buffers are named x" },
        { "kernel @k { axis s = 8 seq vec body { } }", "the vec axis is axis 0, which is no par or red axis" },
        { "kernel @k { core warp body { } }", "unknown core 'warp'" },
        { "kernel @k { reduce chunks 0 lanes 1 body { } }", "a reduction in 0 chunks" },
        { "kernel @k { reduce chunks 1 lanes 24 body { } }", "with 24 lanes; expected a power of two" },
        { "kernel @k { segments 1 { int n -1 } axis i = seg.n par body { } }", "axis i has extent -1" },
        { "kernel @k { axis i = 4611686018427387904 par axis j = 4 par body { } }", "more points than 63 bits" },
        { HEAD "body { %0 = load x[4*i + r] store y[i], %0 } }", "stores to one place at all points of axis r" },
        { HEAD BODY "final { store y[0], %1 } }", "'store y[0], %1' stores to one place at all points of axis i" },
        { HEAD BODY "final { store x[i], %1 } }", "stores to an in buffer" },
        { HEAD BODY "final { %2 = load y[i] store y[i], %1 } }", "loads from an out buffer" },
        { HEAD BODY "final { store y[i], %0 } }", "uses %0 outside the region that it belongs to" },
        { HEAD BODY "final { %2 = load x[4*i + r] } }", "uses the red axis r in final" },
        { HEAD "body { %0 = load x[s] } }", "uses the seq axis s outside its loop" },
        { HEAD "body { %0 = load x[4*i + r] %1 = acc.sum %0 %2 = neg %1 } }", "'%2 = neg %1' uses %1 in the body" },
        { HEAD BODY "final { %2 = acc.max %1 } }", "accumulates in final outside a loop" },
        { HEAD "body { loop s { %0 = load x[s] %1 = acc.sum %0 %2 = neg %1 } } }",
          "uses %1 before its loop has ended" },
        { HEAD "body { loop s { %0 = load x[s] } %1 = neg %0 } }", "uses %0 outside the region" },
        { HEAD "body { loop i { } } }", "loops over the par axis i" },
        { HEAD "body { loop s { loop s { } } } }", "inside a loop over the same axis" },
        { HEAD "body { %0 = load x[5*i + r] } }", "touches elements 0 to 38; x has 32" },
        { HEAD "body { %0 = load x[4*i + r - 1] } }", "touches elements -1 to 30" },
        { HEAD "body { loop s { %0 = load x[16*s + 1] } } }", "touches elements 1 to 33" },
        { "kernel @k { axis i = 8 par buf x : f32[8] in body { %0 = load x[i] %1 = acc.sum %0 } }",
          "accumulates over the red axes, and there are none" },
        { "kernel @k { axis i = 8 par body { %0 = index 1000000000*i } }", "more than an i32 holds" },
        { "kernel @k { axis i = 9 par buf x : f32[9] in body { %0 = load x[4611686018427387904*i] } }",
          "beyond 63 bits" },
        { "kernel @k { segments 2 { int b 0, 8 } axis i = 8 par buf x : f32[15] in body { %0 = load x[i + seg.b] } }",
          "touches elements 8 to 15 in segment 1; x has 15" },
        { "kernel @k { segments 2 { int b 0, 8 } axis i = 8 par buf x : f32[16] out\n"
          "body { %0 = const.f32 0 store x[i], %0 } }",
          "stores to one place for all segments" },
    };
#undef HEAD
#undef BODY
    for (int i = 0; i < DT_COUNT(cases); i++) {
        KernelTest t = kt_new();
        Kernel    *k = parse(&t, cases[i][0]);
        if (!k)
            fail_msg("'%s' does not parse: %s", cases[i][0], t.d.text.s);
        assert_false(kernel_verify(k, &t.d));
        if (!strstr(t.d.text.s, cases[i][1]))
            fail_msg("for '%s': expected '%s' in '%s'", cases[i][0], cases[i][1], t.d.text.s);
        kt_free(&t);
    }
}

/* Damage that no text can express: each is a change of a good kernel. */
static void break_use(Kernel *k)
{
    k->insts.at[3].arg[0] = 9;
}
static void break_id(Kernel *k)
{
    k->insts.at[3].arg[0] = 1000;
}
static void break_type(Kernel *k)
{
    k->insts.at[3].type = KT_I32;
}
static void break_op(Kernel *k)
{
    k->insts.at[3].op = K_COUNT;
}
static void break_buf(Kernel *k)
{
    k->insts.at[0].buf = 17;
}
static void break_region(Kernel *k)
{
    k->body.at[4] = k->body.at[3];
}
static void break_member(Kernel *k)
{
    k->body.at[4] = -5;
}
static void break_axis(Kernel *k)
{
    k->insts.at[0].addr.coef[6] = 1;
}
static void break_column(Kernel *k)
{
    k->insts.at[0].addr.seg_col = 0;
}
static void break_kind(Kernel *k)
{
    k->axes[0].kind = (AxisKind)9;
}
static void break_dtype(Kernel *k)
{
    k->bufs.at[0].dtype = DTYPE_COUNT;
}
static void break_name(Kernel *k)
{
    k->bufs.at[0].name = "two words";
}

static void verify_damage(void **state)
{
    (void)state;
    static const struct {
        void (*damage)(Kernel *k);
        const char *message;
    } cases[] = {
        { break_use, "uses %9 before it is made" },
        { break_id, "uses value 1000, which does not exist" },
        { break_type, "is marked i32 but gives f32" },
        { break_op, "which does not exist" },
        { break_buf, "names no buffer" },
        { break_region, "stands in two places" },
        { break_member, "holds instruction -5" },
        { break_axis, "uses axis 6 of 2" },
        { break_column, "integer column 0 of 0" },
        { break_kind, "axis p is of no kind" },
        { break_dtype, "buffer x has type" },
        { break_name, "'two words' is not a name" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        KernelTest t = kt_file("bn_apply");
        cases[i].damage(t.k);
        assert_false(kernel_verify(t.k, &t.d));
        if (!strstr(t.d.text.s, cases[i].message))
            fail_msg("expected '%s' in '%s'", cases[i].message, t.d.text.s);
        assert_non_null(kt_print(&t, t.k));
        kt_free(&t);
    }
}

/* ---- Builder, hash, cost ----------------------------------------------------------------------------------------- */

static Kernel *build_scale(Arena *a, const char *name, const char *buf, float factor)
{
    Kernel *k = kernel_new(a, name, name);
    k->vec = kernel_add_axis(k, "i", 10, AXIS_PAR);
    int32_t  x = kernel_add_buf(k, buf, DTYPE_F32, 10, BUF_IN), y = kernel_add_buf(k, "y", DTYPE_F32, 10, BUF_OUT);
    KBuilder b = kb_new(k);
    KVal     v = kb_load(&b, x, affine_axis(0, 1));
    v = kb_op2(&b, K_MUL, v, kb_f32(&b, factor));
    kb_store(&b, y, affine_axis(0, 1), v);
    return k;
}

static void builder_merges_equal(void **state)
{
    (void)state;
    KernelTest t = kt_new();
    Kernel    *k = kernel_new(&t.arena, "k", "");
    int32_t    i = kernel_add_axis(k, "i", 8, AXIS_PAR), s = kernel_add_axis(k, "s", 3, AXIS_SEQ);
    int32_t    x = kernel_add_buf(k, "x", DTYPE_F32, 8, BUF_IN), y = kernel_add_buf(k, "y", DTYPE_F32, 8, BUF_INOUT);
    KBuilder   b = kb_new(k);
    KVal       v = kb_load(&b, x, affine_axis(i, 1)), one = kb_f32(&b, 1), zero = kb_f32(&b, 0);
    assert_int_equal(kb_load(&b, x, affine_axis(i, 1)), v);
    assert_int_equal(kb_f32(&b, 1), one);
    assert_int_not_equal(kb_f32(&b, -0.0f), zero);
    assert_int_not_equal(kb_i32(&b, 0), zero);
    assert_int_equal(kb_op2(&b, K_ADD, v, one), kb_op2(&b, K_ADD, v, one));
    assert_int_not_equal(kb_op2(&b, K_SUB, v, one), kb_op2(&b, K_SUB, one, v));
    assert_int_not_equal(kb_load(&b, y, affine_axis(i, 1)),
                         kb_load(&b, y, affine_axis(i, 1))); /* it may have changed */
    kb_loop(&b, s);
    assert_int_equal(kb_f32(&b, 1), one); /* seen from the enclosing region */
    KVal inner = kb_f32(&b, 2);
    KVal sum = kb_acc(&b, KACC_SUM, inner);
    kb_end(&b);
    assert_int_not_equal(kb_f32(&b, 2), inner); /* not seen outside its loop */
    kb_store(&b, y, affine_axis(i, 1), sum);
    assert_true(kernel_verify(k, &t.d));
    assert_string_equal(k->axes[kernel_add_axis(k, "i", 2, AXIS_SEQ)].name, "i_2"); /* names stay unique */
    kt_free(&t);
}

static bool hash_equal(const Kernel *x, const Kernel *y)
{
    Hash128 a = kernel_hash(x), b = kernel_hash(y);
    return a.lo == b.lo && a.hi == b.hi;
}

static void hash_is_of_the_code(void **state)
{
    (void)state;
    KernelTest t = kt_new();
    Kernel    *k = build_scale(&t.arena, "a", "x", 2);
    assert_true(hash_equal(k, build_scale(&t.arena, "b", "weights", 2)));
    assert_false(hash_equal(k, build_scale(&t.arena, "a", "x", 3)));
    Kernel *longer = build_scale(&t.arena, "a", "x", 2);
    longer->axes[0].extent = 9;
    assert_false(hash_equal(k, longer));
    kt_free(&t);
}

static void costs(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        KCost       cost;
    } cases[] = {
        { "bn_apply", { 4 * (768 + 16 + 16 + 1), 768 / 2, 768 * 6, 0 } },
        { "bn_stats", { 4 * (20000 + 3 * 16), 4 * 3 * 16, 20000 * 3 + 16 * 13, 0 } },
        { "softmax_xent", { 4 * (60 + 6), 4 * (60 + 6), 60 * (1 + 2 + 4) + 6 * 2, 60 * 2 + 6 } },
        { "conv4", { 100 + 576 + 64, 1600, 400, 0 } },
        { "prepare_weights", { 4 * (201 + 3 + 2 + 1), 4 * 201 + 201, 201 * 6, 0 } },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        KernelTest t = kt_file(cases[i].name);
        KCost      got = kernel_cost(t.k);
        if (memcmp(&got, &cases[i].cost, sizeof got) != 0)
            fail_msg("%s: %lld read, %lld written, %lld flops, %lld transcendentals", cases[i].name,
                     (long long)got.bytes_read, (long long)got.bytes_written, (long long)got.flops,
                     (long long)got.transcendentals);
        kt_free(&t);
    }
}

/* ---- Transformations --------------------------------------------------------------------------------------------- */

static bool uses_op(const Kernel *k, KOp op)
{
    for (int32_t i = 0; i < k->insts.len; i++)
        if (k->insts.at[i].op == op)
            return true;
    return false;
}

static void expand_drops_dead(void **state)
{
    (void)state;
    KernelTest t = kt_text("kernel @k { axis i = 4 par axis s = 3 seq buf x : f32[4] in buf y : f32[4] out body {\n"
                           "%0 = load x[i] %1 = exp %0 %2 = const.f32 3 %3 = sqrt %2\n"
                           "loop s { %4 = neg %0 %5 = acc.sum %4 } loop s { %6 = log %0 %7 = acc.sum %6 }\n"
                           "store y[i], %7 } }");
    Kernel    *k = kernel_expand(&t.arena, t.k);
    assert_true(kernel_verify(k, &t.d));
    assert_false(uses_op(k, K_EXP) || uses_op(k, K_LOG) || uses_op(k, K_SQRT) || uses_op(k, K_NEG));
    int loops = 0;
    for (int32_t i = 0; i < k->insts.len; i++)
        loops += k->insts.at[i].op == K_LOOP;
    assert_int_equal(loops, 1);
    kt_free(&t);
}

/* Collapses, and compares every buffer with what the kernel gave before. Returns the axes that are left. */
static int32_t check_collapse(KernelTest *t)
{
    void *before[KT_MAX_BUFS];
    for (int32_t i = 0; i < t->k->bufs.len; i++)
        before[i] =
            arena_copy(&t->arena, t->bufs[i], (size_t)dtype_bytes(t->k->bufs.at[i].dtype, t->k->bufs.at[i].elems));
    kernel_interp(t->k, before);
    kernel_collapse(t->k);
    assert_true(kernel_verify(t->k, &t->d));
    kt_run(t);
    for (int32_t i = 0; i < t->k->bufs.len; i++)
        assert_memory_equal(before[i], t->bufs[i], dtype_bytes(t->k->bufs.at[i].dtype, t->k->bufs.at[i].elems));
    return t->k->n_axes;
}

static void collapse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t     axes;
        const char *vec;
    } cases[] = {
        /* an image is one run of elements */
        { "kernel @k { axis n = 2 par axis h = 3 par axis w = 4 par axis c = 5 par vec buf x : f32[120] in\n"
          "buf y : f32[120] out body { %0 = load x[60*n + 20*h + 5*w + c] store y[60*n + 20*h + 5*w + c], %0 } }",
          1, "c" },
        /* a channel's number stops it at c */
        { "kernel @k { axis n = 2 par axis h = 3 par axis w = 4 par axis c = 5 par vec buf x : f32[120] in\n"
          "buf b : f32[5] in buf y : f32[120] out body { %0 = load x[60*n + 20*h + 5*w + c] %1 = load b[c]\n"
          "%2 = add %0, %1 store y[60*n + 20*h + 5*w + c], %2 } }",
          2, "c" },
        /* red axes, though c is declared between them; the order of the sum stays */
        { "kernel @k { axis n = 7 red axis c = 5 par vec axis h = 9 red buf x : f32[315] in buf y : f32[5] out\n"
          "reduce chunks 3 lanes 4 body { %0 = load x[45*n + 5*h + c] %1 = acc.sum %0 } final { store y[c], %1 } }",
          2, "c" },
        /* not in the order of memory: h and w stay apart */
        { "kernel @k { axis h = 3 par axis w = 4 par vec buf x : f32[12] in buf y : f32[12] out\n"
          "body { %0 = load x[h + 3*w] store y[4*h + w], %0 } }",
          2, "w" },
        /* the vec axis is not swallowed */
        { "kernel @k { axis c = 3 par vec axis h = 4 par buf x : f32[12] in buf y : f32[12] out\n"
          "body { %0 = load x[4*c + h] store y[4*c + h], %0 } }",
          2, "c" },
        /* axes of extent 1 go, except vec */
        { "kernel @k { axis n = 1 par axis h = 7 par axis w = 1 par vec buf x : f32[14] in buf y : f32[14] out\n"
          "body { %0 = load x[2*h] store y[2*h + 9*n + w], %0 } }",
          2, "w" },
        /* the last red axis of a reduction stays; loops keep their axes */
        { "kernel @k { axis a = 1 red axis b = 1 red axis n = 1 par axis s = 2 seq axis i = 3 par vec buf x : f32[6] "
          "in\n"
          "buf y : f32[3] out body { loop s { %0 = load x[3*s + i] %1 = acc.sum %0 } %2 = acc.max %1 }\n"
          "final { store y[i], %2 } }",
          3, "i" },
        /* an index is an address, too */
        { "kernel @k { axis h = 3 par axis w = 4 par vec buf y : i32[12] out\n"
          "body { %0 = index w store y[4*h + w], %0 } }",
          2, "w" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        KernelTest t = kt_text(cases[i].text);
        if (t.k->bufs.len > 1)
            kt_fill(&t, "x", -1, 1);
        int32_t axes = check_collapse(&t);
        if (axes != cases[i].axes)
            fail_msg("case %d: %d axes left, expected %d:\n%s", i, axes, cases[i].axes, kt_print(&t, t.k));
        assert_string_equal(t.k->axes[t.k->vec].name, cases[i].vec);
        kt_free(&t);
    }
}

/* One part: p and its sum, clipped to lo..hi. `more` changes what may not differ. */
static Kernel *part_kernel(Arena *a, int64_t n, int64_t pad, float lo, float hi, const char *more)
{
    Str text = str_new(a);
    str_printf(
        &text,
        "kernel @part \"part\" { axis i = %lld red vec buf p : f32[%lld] inout buf lr : f32[1] in buf s : f32[1] out\n"
        "reduce chunks %lld lanes 64 body { %%0 = load p[i + %lld]",
        (long long)n, (long long)(n + pad), (long long)dt_max64(1, (n + 4095) / 4096), (long long)pad);
    str_add(&text, " %1 = const.f32 ");
    str_add_f32(&text, lo);
    str_add(&text, " %2 = max %0, %1 %3 = const.f32 ");
    str_add_f32(&text, hi);
    str_printf(&text,
               " %%4 = min %%2, %%3 %%5 = load lr[0] %%6 = mul %%4, %%5 store p[i + %lld], %%6 %%7 = acc.sum %%6 %s}\n"
               "final { %%9 = const.f32 1 %%10 = sub %%7, %%9 store s[0], %%10 } }",
               (long long)pad, more);
    Diag    d = diag_new(NULL);
    size_t  pos = 0;
    Kernel *k = kernel_parse(a, &d, "part", text.s, &pos);
    if (!k || !kernel_verify(k, &d))
        fail_msg("%s", d.text.s);
    diag_free(&d);
    return k;
}

static void merge_segments(void **state)
{
    (void)state;
    enum { PARTS = 4, ELEMS = 41000 };
    static const int64_t len[PARTS] = { 40000, 1, 130, 64 }, pad[PARTS] = { 0, 2, 0, 1 };
    static const int64_t begin[PARTS] = { 0, 40000, 40100, 40300 };
    static const float   lo[PARTS] = { -0.5f, -1, -0.25f, -1 }, hi[PARTS] = { 1, 0.75f, 0.5f, 1 };
    KernelTest           t = kt_new();
    Kernel              *parts[PARTS];
    int64_t              base[PARTS * 3], elems[3] = { ELEMS, 1, PARTS };
    float               *one = ARENA_ARRAY(&t.arena, float, ELEMS), *all = ARENA_ARRAY(&t.arena, float, ELEMS);
    float                sum_one[PARTS], sum_all[PARTS], lr = 0.37f;
    for (int i = 0; i < ELEMS; i++)
        one[i] = all[i] = 4 * rng_uniform(3, 3, 3, (uint64_t)i) - 2;
    for (int i = 0; i < PARTS; i++) {
        parts[i] = part_kernel(&t.arena, len[i], pad[i], lo[i], hi[i], "");
        memcpy(&base[3 * i], (int64_t[]){ begin[i], 0, i }, sizeof(int64_t[3]));
        kernel_interp(parts[i], (void *[]){ one + begin[i], &lr, &sum_one[i] });
    }
    const char *why = NULL;
    Kernel     *k = kernel_merge_segments(&t.arena, parts, PARTS, base, elems, &why);
    if (!k)
        fail_msg("%s", why);
    if (!kernel_verify(k, &t.d))
        fail_msg("%s\n%s", t.d.text.s, kt_print(&t, k));
    kernel_interp(k, (void *[]){ all, &lr, sum_all });
    assert_memory_equal(one, all, sizeof(float) * ELEMS);
    assert_memory_equal(sum_one, sum_all, sizeof sum_one);
    assert_int_equal(k->seg.int_cols, 3);   /* extent, place in p, place in s */
    assert_int_equal(k->seg.float_cols, 2); /* lo and hi; 1 is a constant, though hi is 1 in some parts */
    try_text(kt_print(&t, k));
    kt_free(&t);
}

/* Columns that are equal, or differ by a constant, are one. */
static void merge_shares_columns(void **state)
{
    (void)state;
    KernelTest  t = kt_new();
    Kernel     *parts[2];
    const char *why;
    for (int i = 0; i < 2; i++)
        parts[i] = parse(&t, "kernel @k { axis i = 5 par vec buf x : f32[6] in buf y : f32[5] out body {\n"
                             "%0 = load x[i] %1 = load x[i + 1] %2 = add %0, %1 store y[i], %2 } }");
    Kernel *k = kernel_merge_segments(&t.arena, parts, 2, (int64_t[]){ 8, 4, 16, 12 }, (int64_t[]){ 22, 17 }, &why);
    assert_non_null(k);
    assert_int_equal(k->seg.int_cols, 1);
    assert_true(kernel_verify(k, &t.d));
    kt_free(&t);
}

/* Integers that differ are read from columns, to the last bit of a u32; an index without axes is the place of a part.
 */
static void merge_integers(void **state)
{
    (void)state;
    enum { PARTS = 3, LEN = 4 };
    static const int32_t  sign[PARTS] = { 3, -2147483647 - 1, 2147483647 };
    static const uint32_t big[PARTS] = { 4294967295u, 7, 2147483648u };
    KernelTest            t = kt_new();
    Kernel               *parts[PARTS];
    uint32_t              y[PARTS * LEN] = { 0 };
    const char           *why = NULL;
    for (int i = 0; i < PARTS; i++)
        parts[i] = parse(&t, arena_printf(&t.arena,
                                          "kernel @k { axis i = 4 par vec buf y : u32[4] out body {\n"
                                          "%%0 = index 0 %%1 = index i %%2 = const.i32 %d %%3 = const.u32 %u\n"
                                          "%%4 = xor %%0, %%2 %%5 = add %%4, %%1 %%6 = cvt.u32 %%5 %%7 = add %%6, %%3\n"
                                          "store y[i], %%7 } }",
                                          sign[i], big[i]));
    Kernel *k = kernel_merge_placed(&t.arena, parts, PARTS, (int64_t[]){ 0, LEN, 2 * LEN }, (int64_t[]){ PARTS * LEN },
                                    (int64_t[]){ 0, 100, 9 }, &why);
    if (!k)
        fail_msg("%s", why);
    if (!kernel_verify(k, &t.d))
        fail_msg("%s\n%s", t.d.text.s, kt_print(&t, k));
    kernel_interp(k, (void *[]){ y });
    for (uint32_t i = 0; i < PARTS; i++)
        for (uint32_t j = 0; j < LEN; j++)
            assert_int_equal(y[i * LEN + j], (((uint32_t[]){ 0, 100, 9 })[i] ^ (uint32_t)sign[i]) + j + big[i]);
    try_text(kt_print(&t, k));
    kt_free(&t);
}

static void merge_refuses(void **state)
{
    (void)state;
    KernelTest  t = kt_new();
    const char *why = NULL;
    int64_t     base[6] = { 0, 0, 0, 10, 0, 1 }, elems[3] = { 20, 1, 2 };
    Kernel     *a = part_kernel(&t.arena, 10, 0, -1, 2, "");
    Kernel     *longer = part_kernel(&t.arena, 10, 0, -1, 2, "%8 = neg %6 %11 = acc.min %8 ");
    assert_null(kernel_merge_segments(&t.arena, (Kernel *[]){ a, longer }, 2, base, elems, &why));
    assert_non_null(strstr(why, "differ in the number of instructions"));
    Kernel *wide = part_kernel(&t.arena, 10, 0, -1, 2, "");
    wide->lanes = 8;
    assert_null(kernel_merge_segments(&t.arena, (Kernel *[]){ a, wide }, 2, base, elems, &why));
    assert_non_null(strstr(why, "lanes"));
    Kernel *cut = part_kernel(&t.arena, 10, 0, -1, 2, "");
    cut->chunks = 5;
    assert_null(kernel_merge_segments(&t.arena, (Kernel *[]){ a, cut }, 2, base, elems, &why));
    assert_non_null(strstr(why, "chunks"));
    Kernel *flat = part_kernel(&t.arena, 10, 0, -1, 2, "");
    flat->vec = -1;
    assert_null(kernel_merge_segments(&t.arena, (Kernel *[]){ a, flat }, 2, base, elems, &why));
    assert_non_null(strstr(why, "vec axis"));
    Kernel *bools[2];
    for (int i = 0; i < 2; i++)
        bools[i] = parse(&t, arena_printf(&t.arena,
                                          "kernel @k { axis i = 5 par vec buf y : i32[5] out body {\n"
                                          "%%0 = const.bool %d %%1 = const.i32 3 store y[i], %%1 if %%0 } }",
                                          i));
    assert_null(kernel_merge_segments(&t.arena, bools, 2, (int64_t[]){ 0, 5 }, (int64_t[]){ 10 }, &why));
    assert_non_null(strstr(why, "a bool"));
    kt_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_in_a_text),
        cmocka_unit_test(text_of_everything),
        cmocka_unit_test(parse_mistakes),
        cmocka_unit_test(damaged_texts),
        cmocka_unit_test(verify_mistakes),
        cmocka_unit_test(verify_damage),
        cmocka_unit_test(builder_merges_equal),
        cmocka_unit_test(hash_is_of_the_code),
        cmocka_unit_test(costs),
        cmocka_unit_test(expand_drops_dead),
        cmocka_unit_test(collapse),
        cmocka_unit_test(merge_segments),
        cmocka_unit_test(merge_shares_columns),
        cmocka_unit_test(merge_integers),
        cmocka_unit_test(merge_refuses),
    };
    return cmocka_run_group_tests_name("kernel_ir", tests, NULL, NULL);
}
