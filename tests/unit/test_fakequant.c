/* test_fakequant.c: the same codes as PyTorch's fake quantization, for ten million values: per tensor and per channel,
 * with and without a zero point, 2 to 8 bits, clipped or not, and the same straight-through mask. PyTorch is not
 * needed: tests/reference/make_fakequant.py, which explains the sums, wrote fakequant.json. Detent's codes come from
 * the kernels that the passes make of qdq and qdq_grad_x, as machine code where there is a compiler for it. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

#include <jansson.h>
#include <math.h>

enum { ROWS = 8, COLUMNS = 125000, BLOCK = ROWS * COLUMNS };

/* ---- The reference ----------------------------------------------------------------------------------------------- */

static json_t *member(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL)
        fail_msg("no \"%s\"", key);
    return v;
}

static int64_t whole(const json_t *object, const char *key)
{
    return json_integer_value(member(object, key));
}

typedef struct Case {
    const char *name;
    uint32_t    number; /* in the file */
    int64_t     blocks, bits, lo, hi, n_steps;
    double      span;
    float       step[ROWS], zero; /* one step, or one a row */
} Case;

static Case case_of(const json_t *j, uint32_t number)
{
    Case c = { .name = json_string_value(member(j, "name")),
               .number = number,
               .blocks = whole(j, "blocks"),
               .bits = whole(j, "bits"),
               .lo = whole(j, "lo"),
               .hi = whole(j, "hi"),
               .n_steps = (int64_t)json_array_size(member(j, "scale")),
               .span = json_number_value(member(j, "span")),
               .zero = (float)json_integer_value(json_array_get(member(j, "zero"), 0)) };
    assert_true(c.n_steps == 1 || c.n_steps == ROWS);
    for (size_t i = 0; i < (size_t)c.n_steps; i++)
        c.step[i] = (float)json_number_value(json_array_get(member(j, "scale"), i));
    return c;
}

/* ---- Values, ties, sums: as in the script ------------------------------------------------------------------------ */

/* splitmix64's finalizer */
static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    v = (v ^ v >> 27) * UINT64_C(0x94D049BB133111EB);
    return v ^ v >> 31;
}

static float value(const Case *c, uint64_t at)
{
    uint64_t k = mix((at + ((uint64_t)(c->number + 1) << 40)) * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - c->bits);
    return (float)(c->span * (ldexp((double)k, (int)(1 - c->bits)) - 1));
}

static bool is_tie(float x, float step)
{
    double t = (double)x / (double)step;
    return fabs(t - floor(t) - 0.5) < 0x1p-10;
}

static uint64_t hashed(uint64_t at, int64_t number)
{
    return mix(at << 10 | (uint64_t)(number + 512));
}

/* ---- Detent's codes ---------------------------------------------------------------------------------------------- */

typedef struct Sums {
    uint64_t sum, ties, masks;
    int64_t  n_ties;
} Sums;

typedef struct Block {
    float *x, *g, *y, *dx;
} Block;

static Graph *case_graph(Fixture *f, const Case *c)
{
    const char *codes =
        arena_printf(&f->a, "lo=%lld, hi=%lld, axis=0, ends=\"code\"", (long long)c->lo, (long long)c->hi);
    const char *step = c->n_steps == 1 ? "f32[]" : "f32[8]";
    return fixture_graph(f, arena_printf(&f->a,
                                         "graph @net {\n  %%0 = input \"x\" : f32[8x125000]\n"
                                         "  %%1 = input \"step\" : %s\n  %%2 = input \"zero\" : f32[]\n"
                                         "  %%3 = input \"g\" : f32[8x125000]\n"
                                         "  %%4 = qdq %%0, %%1, %%2 {%s, bits=8} : f32[8x125000]\n"
                                         "  %%5 = qdq_grad_x %%0, %%1, %%3, %%2 {%s} : f32[8x125000]\n"
                                         "  output %%4 \"y\"\n  output %%5 \"dx\"\n}\n",
                                         step, codes, codes));
}

static const ProgTensor *tensor(const CheckNet *n, const char *name)
{
    return program_tensor(n->prog.program, name);
}

static void run_block(CheckNet *n, const Case *c, int64_t block, Block *b)
{
    for (int64_t i = 0; i < BLOCK; i++)
        b->x[i] = value(c, (uint64_t)(i + BLOCK * block));
    assert_true(tensor_write(n->exec, n->prog.index, tensor(n, "x"), b->x));
    assert_true(tensor_write(n->exec, n->prog.index, tensor(n, "g"), b->g));
    assert_true(tensor_write(n->exec, n->prog.index, tensor(n, "step"), c->step));
    assert_true(tensor_write(n->exec, n->prog.index, tensor(n, "zero"), &c->zero));
    check_net_run(n);
    assert_true(tensor_read(n->exec, n->prog.index, tensor(n, "y"), b->y));
    assert_true(tensor_read(n->exec, n->prog.index, tensor(n, "dx"), b->dx));
}

/* A result is step (code - zero): exactly, but for the rounding of one product. */
static void add_block(const Case *c, int64_t block, const Block *b, Sums *sums)
{
    for (int64_t i = 0; i < BLOCK; i++) {
        float    step = c->step[c->n_steps == 1 ? 0 : i / COLUMNS];
        uint64_t at = (uint64_t)(i + BLOCK * block);
        float    code = rintf(b->y[i] / step);
        uint64_t h = hashed(at, (int64_t)code + (int64_t)c->zero);
        bool     tie = is_tie(b->x[i], step);
        if (b->y[i] != code * step)
            fail_msg("%s: %.9g gives %.9g, which is no multiple of %.9g", c->name, (double)b->x[i], (double)b->y[i],
                     (double)step);
        *(tie ? &sums->ties : &sums->sum) += h;
        sums->n_ties += tie;
        sums->masks += hashed(at, b->dx[i] != 0);
    }
}

static void compare_sum(const json_t *j, const Case *c, const char *key, uint64_t found)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)found);
    if (!str_eq(text, json_string_value(member(j, key))))
        fail_msg("%s: the %s is %s, PyTorch has %s", c->name, key, text, json_string_value(member(j, key)));
}

static void check_case(Fixture *f, CheckBackend *back, const json_t *j, uint32_t number, Block *b)
{
    Case       c = case_of(j, number);
    CheckSetup setup = { .step = STEP_EVAL };
    CheckNet   n;
    Sums       sums = { 0 };
    if (!check_net_open(&n, back, case_graph(f, &c), &setup))
        fail_msg("%s", fixture_said(f));
    for (int64_t block = 0; block < c.blocks; block++) {
        run_block(&n, &c, block, b);
        add_block(&c, block, b, &sums);
    }
    check_net_close(&n);
    assert_int_equal(sums.n_ties, whole(j, "ties"));
    compare_sum(j, &c, "sum", sums.sum);
    compare_sum(j, &c, "sum_of_ties", sums.ties);
    compare_sum(j, &c, "sum_of_masks", sums.masks);
}

static void test_ten_million(void **state)
{
    Fixture     *f = *state;
    json_error_t e;
    json_t      *root = json_load_file(DT_SOURCE_DIR "/tests/reference/fakequant.json", 0, &e);
    Block b = { ARENA_ARRAY(&f->a, float, BLOCK), ARENA_ARRAY(&f->a, float, BLOCK), ARENA_ARRAY(&f->a, float, BLOCK),
                ARENA_ARRAY(&f->a, float, BLOCK) };
    CheckBackend back = { .arena = &f->a, .d = &f->d, .lib = calllib_reference(&f->a), .threads = 2 };
    int64_t      values = 0;
    if (root == NULL)
        fail_msg("%d: %s", e.line, e.text);
#ifdef DT_HAVE_LLVM
    back.jit = jit_llvm_new(&f->a, &f->d, (JitOptions){ 0 });
#else
    back.jit = jit_interp_new(&f->a);
#endif
    assert_non_null(back.jit);
    for (int64_t i = 0; i < BLOCK; i++)
        b.g[i] = 1;
    json_t *cases = member(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(f, &back, json_array_get(cases, i), (uint32_t)i, &b);
        values += whole(json_array_get(cases, i), "values");
        assert_int_equal(json_array_size(member(json_array_get(cases, i), "differ")), 0);
    }
    assert_int_equal(values, 10000000);
    check_backend_close(&back);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = { fixture_test(test_ten_million) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
