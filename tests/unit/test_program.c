/* test_program.c: program_check finds each mistake that a plan of memory can have, and only those; program_print shows
 * a program. Programs are written by hand: a chain of three launches over a small work arena. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/program.h"

/* ---- A program to spoil ---------------------------------------------------------------------------------------- */

enum { R = ACCESS_READ, W = ACCESS_WRITE, BYTES = 256 };
enum { X = 1, V = 2, U = 3, T = 4, Y = 5, P = 6 }; /* values */

/*   0 "first"   x (io 0) -> v (work 0), u (work 256)
 *   1 "middle"  v, u -> t (work 0, in place of v)
 *   2 "update"  t, p (param 0) -> p in place, y (io 256) */
typedef struct Chain {
    MemRef      bufs[3][4];
    BufUse      uses[3][4];
    Launch      launches[3];
    ProgTensor  tensors[3];
    KernelImage images[1];
    Program     p;
} Chain;

static void chain_init(Chain *c)
{
    *c = (Chain){
        .bufs = { { { ARENA_IO, 0 }, { ARENA_WORK, 0 }, { ARENA_WORK, 256 } },
                  { { ARENA_WORK, 0 }, { ARENA_WORK, 256 }, { ARENA_WORK, 0 } },
                  { { ARENA_WORK, 0 }, { ARENA_PARAM, 0 }, { ARENA_PARAM, 0 }, { ARENA_IO, 256 } } },
        .uses = { { { BYTES, X, R, NULL, 0 }, { BYTES, V, W, NULL, 0 }, { BYTES, U, W, NULL, 0 } },
                  { { BYTES, V, R, NULL, 0 }, { BYTES, U, R, NULL, 0 }, { BYTES, T, W, NULL, 0 } },
                  { { BYTES, T, R, NULL, 0 },
                    { BYTES, P, R, NULL, 0 },
                    { BYTES, P, W, NULL, 0 },
                    { BYTES, Y, W, NULL, 0 } } },
    };
    static const char *const names[3] = { "first", "middle", "update" };
    for (int i = 0; i < 3; i++)
        c->launches[i] = (Launch){
            .kind = LAUNCH_KERNEL, .name = names[i], .bufs = c->bufs[i], .uses = c->uses[i], .n_bufs = i < 2 ? 3 : 4
        };
    const ProgTensor one = { .dtype = DTYPE_F32, .rank = 1, .dim = { 64 }, .elems = 64, .bytes = BYTES };
    for (int i = 0; i < 3; i++)
        c->tensors[i] = one;
    c->tensors[0].kind = TENSOR_INPUT, c->tensors[0].name = "x";
    c->tensors[1].kind = TENSOR_OUTPUT, c->tensors[1].name = "y", c->tensors[1].at.offset = 256;
    c->tensors[2].kind = TENSOR_PARAM, c->tensors[2].name = "p", c->tensors[2].at.arena = ARENA_PARAM;
    c->images[0] = (KernelImage){ .name = "k", .units = 3 };
    c->p = (Program){ .name = "train",
                      .bytes = { 512, 256, 0, 512, 1024 },
                      .tensors = c->tensors,
                      .n_tensors = 3,
                      .images = c->images,
                      .n_images = 1,
                      .launches = c->launches,
                      .n_launches = 3 };
}

static void assert_right(const Program *p)
{
    Diag d = diag_new(NULL);
    bool ok = program_check(&d, p);
    if (!ok || d.errors)
        fail_msg("%s", d.text.s);
    diag_free(&d);
}

static void assert_wrong(const Program *p, const char *part)
{
    Diag d = diag_new(NULL);
    bool ok = program_check(&d, p);
    if (ok || d.errors < 1 || !strstr(d.text.s, part))
        fail_msg("expected '%s', got %d errors: %s", part, d.errors, d.text.s ? d.text.s : "");
    diag_free(&d);
}

static void a_right_plan_is_right(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    assert_right(&c.p);
    c.p.n_launches = 0, c.p.n_tensors = 0;
    assert_right(&c.p);
}

/* ---- Mistakes -------------------------------------------------------------------------------------------------- */

static void read_before_write(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    Launch first = c.launches[0];
    c.launches[0] = c.launches[1], c.launches[1] = first;
    assert_wrong(&c.p, "plan of program train: launch 0 (middle): buffer 0 reads value 2, but nothing has written: "
                       "bytes 0 to 256 of the values inside a step");
    chain_init(&c);
    c.uses[0][1].bytes = 252; /* the last float is not written */
    assert_wrong(&c.p, "launch 1 (middle): buffer 0 reads value 2, but nothing has written: bytes 252 to 256");
    chain_init(&c);
    c.bufs[0][1].offset = 64; /* the first floats are not */
    c.uses[0][1].bytes = 192;
    assert_wrong(&c.p, "nothing has written: bytes 0 to 64");
    chain_init(&c);
    c.uses[0][2].access = R; /* read instead of written */
    assert_wrong(&c.p, "launch 0 (first): buffer 2 reads value 3, but nothing has written: bytes 256 to 512");
}

static void value_that_was_overwritten(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    c.uses[2][0].value = V; /* "middle" took its memory for t */
    assert_wrong(&c.p, "launch 2 (update): buffer 0 reads value 2, but bytes 0 to 256 of the values inside a step hold "
                       "value 4 of launch 1 (middle)");
    chain_init(&c);
    c.bufs[0][2].offset = 192; /* u over the end of v: within one launch ... */
    c.p.bytes[ARENA_WORK] = 576;
    c.bufs[1][1].offset = 192;
    assert_wrong(&c.p, "launch 0 (first): buffer 1 is written at bytes 0 to 256 of the values inside a step and "
                       "overlaps buffer 2 at 192 to 448");
    assert_wrong(&c.p, "launch 1 (middle): buffer 0 reads value 2, but bytes 192 to 256"); /* ... and what came of it */
    chain_init(&c);
    c.uses[1][2].value = T + 1; /* written under another name */
    assert_wrong(&c.p, "reads value 4, but bytes 0 to 256 of the values inside a step hold value 5");
}

static void results_on_operands(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    c.bufs[1][2].offset = 64; /* t from the middle of v to the middle of u */
    c.bufs[2][0].offset = 64;
    assert_wrong(&c.p, "launch 1 (middle): buffer 2 is written at bytes 64 to 320 of the values inside a step and "
                       "overlaps buffer 0 at 0 to 256");
    assert_wrong(&c.p, "overlaps buffer 1 at 256 to 512");
    chain_init(&c);
    c.uses[1][2].bytes = 512; /* at the same place, but longer: the rest lies on u */
    c.uses[2][0].bytes = 512;
    assert_wrong(&c.p, "overlaps buffer 0 at 0 to 256");
    chain_init(&c);
    c.bufs[2][2].offset = 64; /* a param that is not updated in place */
    c.p.bytes[ARENA_PARAM] = 320;
    assert_wrong(&c.p, "launch 2 (update): buffer 2 is written at bytes 64 to 320 of the params and overlaps buffer 1");
}

static void out_of_the_arena(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    c.bufs[0][2].offset = c.bufs[1][1].offset = 320;
    assert_wrong(&c.p, "launch 0 (first): buffer 2 is bytes 320 to 576 of the values inside a step, which has 512");
    chain_init(&c);
    c.p.bytes[ARENA_PARAM] = 128;
    assert_wrong(&c.p, "tensor p lies at bytes 0 to 256 of the params, which has 128");
    assert_wrong(&c.p, "launch 2 (update): buffer 1 is bytes 0 to 256 of the params, which has 128");
    chain_init(&c);
    c.launches[1].scratch_bytes = 1025;
    assert_wrong(&c.p, "launch 1 (middle): it needs 1025 bytes of scratch memory, 1024 are planned");
    chain_init(&c);
    c.bufs[1][0].offset = -64;
    assert_wrong(&c.p, "launch 1 (middle): buffer 0 is bytes -64 to 192");
}

static void output_that_nobody_writes(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    c.launches[2].n_bufs = 3;
    assert_wrong(&c.p, "plan of program train: output y is not written: nothing wrote bytes 256 to 512 of the inputs "
                       "and outputs");
    chain_init(&c);
    c.uses[2][3].bytes = 128;
    assert_wrong(&c.p, "output y is not written: nothing wrote bytes 384 to 512");
    chain_init(&c);
    c.tensors[1].at = c.tensors[0].at; /* an input that is handed back */
    assert_right(&c.p);
}

/* One mistake has many consequences; they are not all told. */
static void many_mistakes_are_cut_short(void **state)
{
    (void)state;
    Chain  c;
    Launch many[12];
    chain_init(&c);
    for (int i = 0; i < 12; i++)
        many[i] = c.launches[1];
    c.p.launches = many, c.p.n_launches = 12;
    Diag d = diag_new(NULL);
    assert_false(program_check(&d, &c.p));
    assert_int_equal(d.errors, 8);
    assert_non_null(strstr(d.text.s, "more"));
    assert_non_null(strstr(d.text.s, "mistake of the compiler"));
    diag_free(&d);
}

/* ---- Merged launches, and those that nobody knows -------------------------------------------------------------- */

/* "first" writes v and u as two parts of one buffer, with someone else's bytes between them. */
static void parts_of_merged_launches(void **state)
{
    (void)state;
    static const BufPart parts[2] = { { 0, BYTES, V }, { 512, BYTES, U } };
    static const BufPart late[2] = { { 0, BYTES, V }, { 256, BYTES, U } };
    Chain                c;
    chain_init(&c);
    c.p.bytes[ARENA_WORK] = 768;
    c.launches[0].n_bufs = 2;
    c.uses[0][1] = (BufUse){ 768, -1, W, parts, 2 };
    c.bufs[1][1].offset = 512;
    assert_right(&c.p);
    c.bufs[1][1].offset = 256; /* the gap */
    assert_wrong(&c.p, "launch 1 (middle): buffer 1 reads value 3, but nothing has written: bytes 256 to 512");
    c.bufs[1][1].offset = 512;
    c.uses[1][0].value = U; /* the wrong part */
    assert_wrong(&c.p, "launch 1 (middle): buffer 0 reads value 3, but bytes 0 to 256 of the values inside a step hold "
                       "value 2 of launch 0 (first)");
    c.uses[1][0].value = -1; /* whatever lies there */
    assert_right(&c.p);
    c.uses[0][1].parts = late;
    assert_wrong(&c.p, "launch 1 (middle): buffer 1 reads value 3, but nothing has written: bytes 512 to 768");
}

/* A part may lie on a part, but not across two of them. */
static void parts_in_place(void **state)
{
    (void)state;
    static const BufPart operands[2] = { { 0, BYTES, V }, { 256, BYTES, U } };
    static const BufPart in_place[2] = { { 0, BYTES, T }, { 256, BYTES, T } };
    static const BufPart across[2] = { { 0, 128, T }, { 192, 128, T } };
    Chain                c;
    chain_init(&c);
    c.launches[1].n_bufs = 2;
    c.uses[1][0] = (BufUse){ 512, -1, R, operands, 2 };
    c.bufs[1][1].offset = 0;
    c.uses[1][1] = (BufUse){ 512, -1, W, in_place, 2 };
    assert_right(&c.p);
    c.uses[1][1].parts = across;
    assert_wrong(&c.p, "launch 1 (middle): part 1 of buffer 1 is written at bytes 192 to 320 of the values inside a "
                       "step and overlaps part 0 of buffer 0 at 0 to 256");
    assert_wrong(&c.p, "part 1 of buffer 0 at 256 to 512");
    static const BufPart over[2] = { { 0, BYTES, T }, { 64, 192, T } };
    c.uses[1][1].parts = over;
    assert_wrong(&c.p, "part 0 of buffer 1 is written at bytes 0 to 256 of the values inside a step and overlaps part "
                       "1 of buffer 1");
    static const BufPart outside[2] = { { 0, BYTES, T }, { 320, BYTES, T } };
    c.uses[1][1].parts = outside;
    assert_wrong(&c.p, "part 1 of buffer 1 is bytes 320 to 576");
}

static void unknown_launches_may_write_anything(void **state)
{
    (void)state;
    Chain c;
    chain_init(&c);
    c.launches[0].uses = NULL;
    assert_right(&c.p);
    c.launches[1].uses = c.launches[2].uses = NULL;
    assert_right(&c.p);
    chain_init(&c);
    c.launches[2].uses = NULL;
    c.uses[0][1].value = T; /* what is known is still checked */
    assert_wrong(&c.p, "launch 1 (middle): buffer 0 reads value 2");
}

/* ---- Printing -------------------------------------------------------------------------------------------------- */

static void programs_are_printed(void **state)
{
    (void)state;
    static const BufPart parts[2] = { { 0, BYTES, V }, { 256, BYTES, U } };
    Arena                a = arena_new("test");
    Str                  out = str_new(&a);
    Chain                c;
    GpuKernel            gpu = { .entry = "k2_middle", .grid = 64, .block = 256 };
    KernelImage          images[2];
    chain_init(&c);
    images[0] = c.images[0];
    images[1] = (KernelImage){ .name = "middle", .gpu = &gpu };
    c.p.images = images, c.p.n_images = 2;
    c.launches[1].image = 1;
    c.launches[1].scratch_bytes = 1024;
    c.launches[0].uses = NULL;
    c.uses[1][1].parts = parts, c.uses[1][1].n_parts = 2;
    c.launches[2].kind = LAUNCH_CALL;
    c.launches[2].backward = true;
    c.launches[2].call = (CallDesc){ .kind = CALL_CONV_FWD, .bias = true, .n = 8, .c = 16, .h = 32, .w = 30, .k = 24 };
    c.launches[2].call.r = c.launches[2].call.s = 3;
    c.launches[2].call.oh = 16, c.launches[2].call.ow = 15;
    c.launches[2].call.stride = c.launches[2].call.groups = 2;
    c.launches[2].call.pad[0] = c.launches[2].call.pad[3] = 1;
    c.p.peak[0] = (PeakValue){ "s0.conv", 2048 };
    c.p.saved_bytes = 512;
    program_print(&out, &c.p);
    static const char want[] =
        "program train: 3 launches, 2 of kernels and 1 of library calls\n"
        "\n"
        "   #    launch  runs                                                        buffers\n"
        "   0 f  first   k, 3 units                                                  io+0  work+0  work+256\n"
        "   1 f  middle  k2_middle, 64 x 256                                         r work+0:256  r work+256:256 (2 "
        "parts)  w work+0:256  scratch:1024\n"
        "   2 b  update  conv 8x16x32x30, 24 of 8x3x3 /2 pad 1 0 0 1 -> 16x15, bias  r work+0:256  r param+0:256  w "
        "param+0:256  w io+256:256\n"
        "\n"
        "memory\n"
        "  io       inputs and outputs          512 B\n"
        "  param    params                      256 B\n"
        "  state    states                        0 B\n"
        "  work     values inside a step        512 B\n"
        "  scratch  scratch memory            1.0 KiB\n"
        "  together                           2.2 KiB\n"
        "  saved for backward                   512 B\n"
        "  largest values at the peak         2.0 KiB  s0.conv\n";
    assert_string_equal(out.s, want);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_plan_is_right),
        cmocka_unit_test(read_before_write),
        cmocka_unit_test(value_that_was_overwritten),
        cmocka_unit_test(results_on_operands),
        cmocka_unit_test(out_of_the_arena),
        cmocka_unit_test(output_that_nobody_writes),
        cmocka_unit_test(many_mistakes_are_cut_short),
        cmocka_unit_test(parts_of_merged_launches),
        cmocka_unit_test(parts_in_place),
        cmocka_unit_test(unknown_launches_may_write_anything),
        cmocka_unit_test(programs_are_printed),
    };
    return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
