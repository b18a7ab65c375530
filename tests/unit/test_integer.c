/* test_integer.c: products of integer codes on the CPU are exact: for every pair of widths from 2 to 8 bits, signed and
 * unsigned, at the ends of their ranges, for odd sizes of everything, by every set of kernels that this machine has,
 * whatever the number of threads - as plain sums of 64 bits have them, element by element. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/integer/integer_impl.h"

/* ---- Calls ------------------------------------------------------------------------------------------------------- */

typedef struct Shape {
    int64_t n, c, h, w, k, r, s, stride, groups, pad[4]; /* top, left, bottom, right */
} Shape;

/* clang-format off */
static const Shape shapes[] = {
    /* n   c   h   w    k  r  s st  g   pad */
    {  2, 16,  5,  6,  16, 3, 3, 1,  1, { 1, 1, 1, 1 } },
    {  1, 64,  3,  5,  64, 3, 3, 1,  1, { 1, 1, 1, 1 } },
    {  3, 32,  5,  8,  32, 3, 3, 2,  1, { 1, 1, 1, 1 } },
    {  2,  3, 11,  6,   5, 3, 3, 1,  1, { 1, 1, 1, 1 } }, /* few channels: a run of 9 codes */
    {  2,  1, 14, 13,  33, 5, 5, 1,  1, { 2, 2, 2, 2 } }, /* one channel */
    {  2, 17,  9,  9,  10, 3, 3, 2,  1, { 0, 1, 2, 1 } }, /* pads of four kinds */
    {  1, 10,  9,  6,  97, 3, 5, 2,  1, { 0, 1, 2, 3 } }, /* outputs: no multiple of any vector */
    {  2,  7,  5,  5,  24, 1, 1, 1,  1, { 0, 0, 0, 0 } }, /* odd channels, one column of pixels */
    {  2, 24,  9,  9,  41, 1, 1, 2,  1, { 0, 0, 0, 0 } }, /* in place, with steps between */
    {  3, 16,  6,  6,  16, 3, 3, 1,  1, { 0, 0, 0, 0 } }, /* in place, a window of rows */
    {  1,  8,  6,  7,   8, 2, 2, 3,  1, { 0, 0, 0, 0 } }, /* stride above the window: rows that nobody reads */
    {  1,  6,  8,  8,   9, 5, 5, 3,  3, { 2, 2, 2, 2 } }, /* groups */
    {  2, 16, 10, 10,  32, 3, 3, 1,  2, { 1, 1, 1, 1 } },
    {  2,  8,  6,  6,   8, 3, 3, 1,  8, { 1, 1, 1, 1 } }, /* one channel a group */
    {  1,  6,  8,  8,  12, 3, 3, 1,  6, { 1, 1, 1, 1 } },
    {  1,  4,  5,  5,   8, 1, 1, 1,  2, { 0, 0, 0, 0 } },
    {  1,  2,  2,  2,   3, 3, 3, 1,  1, { 2, 2, 2, 2 } }, /* pads larger than the image */
    {  1,  2,  1,  1,   3, 3, 3, 1,  1, { 3, 3, 3, 3 } }, /* outputs that see padding alone */
    {  5, 33,  1,  1,   7, 1, 1, 1,  1, { 0, 0, 0, 0 } }, /* a matrix product */
    { 19, 70,  1,  1, 130, 1, 1, 1,  1, { 0, 0, 0, 0 } },
    {  1,  1,  1,  1,   1, 1, 1, 1,  1, { 0, 0, 0, 0 } },
    {  1,  5, 70, 90,   1, 3, 3, 1,  1, { 1, 1, 1, 1 } }, /* several bands */
    {  1, 24,  4, 37,  16, 3, 3, 1,  1, { 1, 1, 1, 1 } }, /* pixels beside each other, one vector of outputs */
    {  2,  4,  3, 21,  16, 2, 3, 1,  1, { 0, 1, 1, 1 } },
    {  1, 32,  2, 19,  32, 3, 3, 1,  2, { 0, 0, 1, 0 } },
    {  1, 300, 1, 9,   17, 1, 3, 1,  1, { 0, 1, 0, 1 } }, /* sums of 16 bits do not last for one row of the window */
};
/* clang-format on */

static CallDesc desc_of(const Shape *s)
{
    CallDesc d = { .kind = CALL_CONV_FWD_INT, .n = s->n, .c = s->c, .h = s->h, .w = s->w, .k = s->k, .r = s->r };
    d.s = s->s, d.stride = s->stride, d.groups = s->groups, d.w_type = DTYPE_S8;
    memcpy(d.pad, s->pad, sizeof d.pad);
    d.oh = (s->h + s->pad[0] + s->pad[2] - s->r) / s->stride + 1;
    d.ow = (s->w + s->pad[1] + s->pad[3] - s->s) / s->stride + 1;
    return d;
}

static void set_codes(CallDesc *d, int32_t x_bits, bool x_unsigned, int32_t w_bits)
{
    d->x_lo = x_unsigned ? 0 : -(1 << (x_bits - 1));
    d->x_hi = d->x_lo + (1 << x_bits) - 1;
    d->w_lo = -(1 << (w_bits - 1));
    d->w_hi = -d->w_lo - 1;
    d->x_type = d->x_hi > 127 ? DTYPE_U8 : DTYPE_S8;
}

/* At random; at random, but of the ends of the ranges alone; all x at one end and all weights at one, in four ways. */
typedef enum Fill { FILL_RANDOM, FILL_ENDS, FILL_LO_LO, FILL_HI_LO, FILL_LO_HI, FILL_HI_HI, FILLS } Fill;

static void fill(uint8_t *at, int64_t n, int32_t lo, int32_t hi, Fill how, bool is_x)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t draw = rng_u32(3, is_x, (uint32_t)how, (uint64_t)i), ends = how - FILL_LO_LO;
        int32_t  code = lo + (int32_t)(draw % (uint32_t)(hi - lo + 1));
        if (how == FILL_ENDS)
            code = draw & 64 ? lo : hi;
        else if (how >= FILL_LO_LO)
            code = (is_x ? ends & 1 : ends & 2) ? hi : lo;
        at[i] = (uint8_t)code;
    }
}

static int64_t code_at(DType t, const uint8_t *codes, int64_t i)
{
    return t == DTYPE_U8 ? codes[i] : (int8_t)codes[i];
}

/* In another order than the library's, and without strips: each pixel of the image goes to the windows over it. */
static void plain_sums(const CallDesc *d, const uint8_t *x, const uint8_t *w, int64_t *y)
{
    const int64_t cg = d->c / d->groups, kg = d->k / d->groups;
    memset(y, 0, sizeof(int64_t) * (size_t)(d->n * d->oh * d->ow * d->k));
    for (int64_t i = 0; i < d->n * d->h * d->w; i++)
        for (int64_t t = 0; t < d->r * d->s; t++) {
            int64_t s = t % d->s, r = t / d->s, top = i / d->w % d->h + d->pad[0] - r, left = i % d->w + d->pad[1] - s;
            int64_t oh = top / d->stride, ow = left / d->stride, n = i / d->w / d->h;
            if (top < 0 || left < 0 || top % d->stride || left % d->stride || oh >= d->oh || ow >= d->ow)
                continue;
            int64_t *out = y + ((n * d->oh + oh) * d->ow + ow) * d->k;
            for (int64_t k = 0; k < d->k; k++)
                for (int64_t c = 0; c < cg; c++) {
                    int64_t at = d->krsc ? ((k * d->r + r) * d->s + s) * cg + c : ((k * cg + c) * d->r + r) * d->s + s;
                    out[k] += code_at(d->x_type, x, i * d->c + k / kg * cg + c) * (int8_t)w[at];
                }
        }
}

typedef struct Case {
    Arena    a;
    CallDesc d;
    uint8_t *x, *w;
    float   *scale, *y;
    int64_t *sums, n_y;
} Case;

enum { GUARD = 96 };

/* A buffer of its own for each operand, so that a sanitizer sees reads outside. */
static void case_open(Case *c, const CallDesc *d)
{
    *c = (Case){ .a = arena_new("case"), .d = *d };
    const int64_t n_x = d->n * d->h * d->w * d->c, n_w = d->k * (d->c / d->groups) * d->r * d->s;
    c->n_y = d->n * d->oh * d->ow * d->k;
    c->x = malloc((size_t)n_x), c->w = malloc((size_t)n_w);
    c->y = aligned_alloc(LINE_BYTES, (size_t)dt_round_up((c->n_y + GUARD) * (int64_t)sizeof(float), LINE_BYTES));
    c->scale = ARENA_ARRAY(&c->a, float, d->k);
    c->sums = ARENA_ARRAY(&c->a, int64_t, c->n_y);
    for (int64_t k = 0; k < d->k; k++)
        c->scale[k] = 0.013f * (float)(k + 1);
}

static void case_fill(Case *c, Fill how)
{
    const CallDesc *d = &c->d;
    fill(c->x, d->n * d->h * d->w * d->c, d->x_lo, d->x_hi, how, true);
    fill(c->w, d->k * (d->c / d->groups) * d->r * d->s, d->w_lo, d->w_hi, how, false);
    plain_sums(d, c->x, c->w, c->sums);
}

static void case_close(Case *c)
{
    free(c->x);
    free(c->w);
    free(c->y);
    arena_free(&c->a);
}

static void case_run(Case *c, Isa isa, int threads)
{
    const char *why = NULL;
    Arena       a = arena_new("run");
    IntConv    *conv = intconv_new(&a, &c->d, isa, threads, &why);
    if (!conv)
        fail_msg("%s", why);
    char *scratch = aligned_alloc(64, (size_t)conv->scratch_bytes);
    memset(scratch, 0x5a, (size_t)conv->scratch_bytes);
    memset(c->y, 0xff, sizeof(float) * (size_t)(c->n_y + GUARD));
    intconv_run(conv, (void *const[]){ c->x, c->w, c->scale, c->y }, scratch);
    free(scratch);
    arena_free(&a);
}

static void case_check(const Case *c, Isa isa, Fill how)
{
    const CallDesc *d = &c->d;
    for (int64_t i = 0; i < c->n_y; i++) {
        assert_true(c->sums[i] >= INT32_MIN && c->sums[i] <= INT32_MAX);
        float want = (float)c->sums[i] * c->scale[d->scale_per_k ? i % d->k : 0];
        if (c->y[i] != want)
            fail_msg("%s, %lldx%lldx%lldx%lld -> %lld, window %lldx%lld, codes %d..%d by %d..%d, fill %d: element %lld "
                     "is %.9g, expected %.9g",
                     isa_name(isa), (long long)d->n, (long long)d->c, (long long)d->h, (long long)d->w, (long long)d->k,
                     (long long)d->r, (long long)d->s, d->x_lo, d->x_hi, d->w_lo, d->w_hi, (int)how, (long long)i,
                     (double)c->y[i], (double)want);
    }
    for (int32_t i = 0; i < GUARD; i++) { /* nothing is written behind the result */
        uint32_t bits;
        memcpy(&bits, c->y + c->n_y + i, sizeof bits);
        assert_int_equal(bits, UINT32_MAX);
    }
}

/* ---- Every pair of widths on every machine ------------------------------------------------------------------------
 */

static void check_widths(const Shape *s, int32_t x_bits, bool x_unsigned, int32_t w_bits)
{
    CallDesc d = desc_of(s);
    Case     c;
    d.krsc = (x_bits + w_bits) % 2;
    d.scale_per_k = w_bits % 2;
    set_codes(&d, x_bits, x_unsigned, w_bits);
    case_open(&c, &d);
    for (Fill how = 0; how < FILLS; how++) {
        case_fill(&c, how);
        for (Isa isa = 0; isa < ISA_COUNT; isa++) {
            if (!isa_is_here(isa))
                continue;
            case_run(&c, isa, 1 + (x_bits + (int32_t)isa) % 3);
            case_check(&c, isa, how);
        }
    }
    case_close(&c);
}

static void test_all_widths(void **state)
{
    (void)state;
    for (int32_t i = 0; i < DT_COUNT(shapes); i++)
        for (int32_t x_bits = 2; x_bits <= 8; x_bits++)
            for (int32_t w_bits = 2; w_bits <= 8; w_bits++) {
                check_widths(&shapes[i], x_bits, true, w_bits);
                check_widths(&shapes[i], x_bits, false, w_bits);
            }
}

/* As many terms as fit: 128 128 131071 is just below 2^31, while sums of codes that were made positive are not. */
static void test_longest_sums(void **state)
{
    (void)state;
    const Shape longest = { 2, 131071, 1, 1, 9, 1, 1, 1, 1, { 0 } };
    check_widths(&longest, 8, false, 8);
    const Shape of_unsigned = { 1, 65793, 1, 1, 2, 1, 1, 1, 1, { 0 } };
    check_widths(&of_unsigned, 8, true, 8);
}

/* Ranges that are not said are those of the types. */
static void test_unknown_ranges(void **state)
{
    (void)state;
    for (int32_t u = 0; u < 2; u++) {
        CallDesc known = desc_of(&shapes[u]);
        Case     c;
        set_codes(&known, 8, u, 8);
        case_open(&c, &known);
        case_fill(&c, FILL_ENDS);
        c.d.x_lo = c.d.x_hi = c.d.w_lo = c.d.w_hi = 0;
        for (Isa isa = 0; isa < ISA_COUNT; isa++) {
            if (!isa_is_here(isa))
                continue;
            case_run(&c, isa, 2);
            case_check(&c, isa, FILL_ENDS);
        }
        case_close(&c);
    }
}

/* A result larger than caches is written around them, where it lies at whole lines, and else as any other. */
static void test_streams(void **state)
{
    (void)state;
    const Shape large = { 1, 6, 70001, 1, 64, 1, 1, 1, 1, { 0 } };
    CallDesc    d = desc_of(&large);
    Case        c;
    set_codes(&d, 4, false, 4);
    case_open(&c, &d);
    case_fill(&c, FILL_RANDOM);
    Case moved = c;
    moved.y++;
    moved.n_y -= d.k; /* a pixel less: the guard begins where the last one would */
    moved.d.h--, moved.d.oh--;
    for (Isa isa = 0; isa < ISA_COUNT; isa++) {
        if (!isa_is_here(isa))
            continue;
        Arena       a = arena_new("streams");
        const char *why;
        assert_true(intconv_new(&a, &d, isa, 2, &why)->stream);
        arena_free(&a);
        case_run(&c, isa, 2);
        case_check(&c, isa, FILL_RANDOM);
        case_run(&moved, isa, 2);
        case_check(&moved, isa, FILL_RANDOM);
    }
    case_close(&c);
}

/* ---- What is chosen ---------------------------------------------------------------------------------------------- */

static TileForm form_of(Isa isa, int32_t x_bits, bool x_unsigned, int32_t w_bits, int32_t *widen)
{
    Arena       a = arena_new("form");
    CallDesc    d = desc_of(&shapes[0]);
    const char *why;
    set_codes(&d, x_bits, x_unsigned, w_bits);
    IntConv *c = intconv_new(&a, &d, isa, 1, &why);
    assert_non_null(c);
    TileForm form = c->form;
    *widen = c->widen;
    arena_free(&a);
    return form;
}

/* 15 8 2 = 240 goes into 2^15 - 1 136 times; 255 128 2 does not. */
static void test_forms(void **state)
{
    (void)state;
    int32_t widen;
    assert_int_equal(form_of(ISA_PORTABLE, 8, true, 8, &widen), FORM_DOT);
    for (Isa isa = ISA_AVX2; isa < ISA_COUNT; isa++) {
        if (!isa_is_here(isa))
            continue;
        bool dot = isa == ISA_AVX_VNNI || isa == ISA_AVX512_VNNI;
        assert_int_equal(form_of(isa, 4, true, 4, &widen), dot ? FORM_DOT : FORM_BYTES);
        assert_int_equal(widen, 136);
        assert_int_equal(form_of(isa, 2, false, 2, &widen), dot ? FORM_DOT : FORM_BYTES);
        assert_int_equal(widen, 32767 / (2 * 3 * 2));
        assert_int_equal(form_of(isa, 7, true, 7, &widen), dot ? FORM_DOT : FORM_BYTES);
        assert_int_equal(widen, 2);
        assert_int_equal(form_of(isa, 8, true, 7, &widen), dot ? FORM_DOT : FORM_WORDS);
        assert_int_equal(form_of(isa, 8, false, 8, &widen), dot ? FORM_DOT : FORM_WORDS);
        assert_int_equal(widen, 0);
    }
}

/* Each output belongs to one block, whose lanes make all of its outputs and no others; none is wider than it must be.
 */
static void test_blocks(void **state)
{
    (void)state;
    for (Isa isa = 0; isa < ISA_COUNT; isa++)
        for (int64_t k = 1; k <= 200 && isa_is_here(isa); k++) {
            Arena       a = arena_new("blocks");
            Shape       s = { 1, 4, 1, 1, k, 1, 1, 1, 1, { 0 } };
            CallDesc    d = desc_of(&s);
            const char *why;
            set_codes(&d, 4, true, 4);
            IntConv *c = intconv_new(&a, &d, isa, 1, &why);
            int32_t  next = 0;
            for (int32_t i = 0; i < c->n_blocks; i++) {
                assert_int_equal(c->blocks[i].first, next);
                assert_true(c->blocks[i].valid >= 1 && c->blocks[i].valid <= c->blocks[i].kernel->outputs);
                assert_true(c->blocks[i].valid == c->blocks[i].kernel->outputs || i == c->n_blocks - 1);
                bool made[TILE_MOST_OUTPUTS] = { false };
                for (int32_t lane = 0; lane < c->blocks[i].kernel->outputs; lane++) {
                    int32_t output = block_output(c, &c->blocks[i], lane);
                    assert_true(output < c->blocks[i].valid &&
                                (output >= 0 || k < c->vec_outputs || isa == ISA_PORTABLE));
                    if (output >= 0)
                        made[output] = true;
                }
                for (int32_t output = 0; output < c->blocks[i].valid; output++)
                    assert_true(made[output]);
                next += c->blocks[i].valid;
            }
            assert_int_equal(next, k);
            assert_true(c->group_lanes - k < 16);
            arena_free(&a);
        }
}

static void test_isa_names(void **state)
{
    (void)state;
    Arena a = arena_new("isa");
    Diag  d = diag_new(NULL);
    Isa   isa;
    for (Isa i = 0; i < ISA_COUNT; i++) {
        bool here = isa_is_here(i);
        assert_int_equal(isa_parse(&a, &d, isa_name(i), &isa), here);
        assert_true(!here || isa == i);
    }
    assert_true(isa_parse(&a, &d, "native", &isa) && isa == isa_best() && isa_is_here(isa));
    assert_false(isa_parse(&a, &d, "sse9", &isa));
    assert_non_null(strstr(d.text.s, "--isa: expected an instruction set that this machine has, portable, "));
    assert_non_null(strstr(d.text.s, "found sse9"));
    diag_free(&d);
    arena_free(&a);
}

/* ---- The library ------------------------------------------------------------------------------------------------- */

static void test_library(void **state)
{
    (void)state;
    Arena    a = arena_new("lib");
    Diag     d = diag_new(NULL);
    CallLib *lib = calllib_integer(&a, calllib_reference(&a), 2, ISA_PORTABLE);
    assert_string_equal(lib->name, "reference loops, integers by plain C");
    Case     c;
    CallDesc desc = desc_of(&shapes[0]);
    set_codes(&desc, 4, true, 4);
    case_open(&c, &desc);
    case_fill(&c, FILL_RANDOM);
    void *prepared = lib->prepare(lib->self, &d, &desc);
    char *scratch = aligned_alloc(64, (size_t)lib->scratch_bytes(lib->self, &desc));
    assert_non_null(prepared);
    memset(c.y, 0xff, sizeof(float) * (size_t)(c.n_y + GUARD));
    assert_true(lib->run(lib->self, prepared, (void *const[]){ c.x, c.w, c.scale, c.y }, scratch));
    case_check(&c, ISA_PORTABLE, FILL_RANDOM);
    lib->unprepare(lib->self, prepared);
    free(scratch);
    case_close(&c);
    /* other calls go on to the other library */
    CallDesc linear = { .kind = CALL_LINEAR_FWD, .n = 1, .c = 2, .k = 1, .h = 1, .w = 1 };
    float    x[] = { 2, 3 }, w[] = { 5, 7 }, y = 0;
    prepared = lib->prepare(lib->self, &d, &linear);
    assert_int_equal(lib->scratch_bytes(lib->self, &linear), 0);
    assert_true(lib->run(lib->self, prepared, (void *const[]){ x, w, &y }, NULL));
    assert_true(y == 31);
    lib->unprepare(lib->self, prepared);
    lib->release(lib->self);
    diag_free(&d);
    arena_free(&a);
}

static void test_refuses(void **state)
{
    (void)state;
    Arena    a = arena_new("lib");
    Diag     d = diag_new(NULL);
    CallLib *lib = calllib_integer(&a, calllib_reference(&a), 1, ISA_PORTABLE);
    CallDesc good = desc_of(&shapes[0]), calls[4];
    set_codes(&good, 8, true, 8);
    for (int32_t i = 0; i < DT_COUNT(calls); i++)
        calls[i] = good;
    calls[0].c = 65794; /* 255 128 9 65794: too many terms */
    calls[1].w_type = DTYPE_U8;
    calls[2].groups = 3;
    calls[3].x_hi = 256;
    static const char *const whys[] = { "sums that might not fit 32 bits", "codes that are not u8 or s8 by s8",
                                        "a description that is not of a convolution",
                                        "ranges of codes that their types do not have" };
    for (int32_t i = 0; i < DT_COUNT(calls); i++) {
        assert_int_equal(lib->scratch_bytes(lib->self, &calls[i]), 0);
        assert_null(lib->prepare(lib->self, &d, &calls[i]));
        assert_int_equal(d.errors, i + 1);
        assert_non_null(strstr(d.text.s, whys[i]));
    }
    diag_free(&d);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_widths), cmocka_unit_test(test_longest_sums), cmocka_unit_test(test_unknown_ranges),
        cmocka_unit_test(test_streams),    cmocka_unit_test(test_forms),        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_isa_names),  cmocka_unit_test(test_library),      cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
