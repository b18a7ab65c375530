/* nets_fixture.h: networks of models/ with the weights and batches of tests/reference/make_networks.py, for comparison
 * with what PyTorch made of them (networks.json). The formulas here are those of that script. */
#ifndef DETENT_TESTS_NETS_FIXTURE_H
#define DETENT_TESTS_NETS_FIXTURE_H

#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define NETWORKS_JSON DT_SOURCE_DIR "/tests/reference/networks.json"

/* ---- networks.json ----------------------------------------------------------------------------------------------- */

static inline json_t *member(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL)
        fail_msg("no \"%s\"", key);
    return v;
}

static inline double number(const json_t *object, const char *key)
{
    json_t *v = member(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static inline const char *text(const json_t *object, const char *key)
{
    const char *s = json_string_value(member(object, key));
    assert_non_null(s);
    return s;
}

static inline json_t *networks_read(void)
{
    json_error_t e;
    json_t      *root = json_load_file(NETWORKS_JSON, 0, &e);
    if (root == NULL)
        fail_msg("%s:%d: %s", NETWORKS_JSON, e.line, e.text);
    return root;
}

static inline const json_t *networks_find(const json_t *root, const char *net)
{
    const json_t *nets = member(root, "nets");
    for (size_t i = 0; i < json_array_size(nets); i++)
        if (str_eq(text(json_array_get(nets, i), "net"), net))
            return json_array_get(nets, i);
    fail_msg("no network %s", net);
    return NULL;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

static inline bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Rows of zero sum. */
static inline void centre(double *x, int64_t rows, int64_t len)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < len; i++)
            sum += x[r * len + i];
        for (int64_t i = 0; i < len; i++)
            x[r * len + i] -= sum / (double)len;
    }
}

/* value() of make_networks.py: what the tensor `name` holds. */
static inline float *net_value(Arena *a, uint64_t seed, const char *name, int64_t rows, int64_t elems)
{
    double  *x = ARENA_ARRAY(a, double, elems + 1);
    float   *out = ARENA_ARRAY(a, float, elems + 1);
    bool     narrow = strstr(name, ".dw.") != NULL || strstr(name, ".project.") != NULL;
    bool     inner = strstr(name, ".dw.") != NULL || strstr(name, ".expand.") != NULL;
    bool     gamma = ends_with(name, ".gamma"), var = ends_with(name, ".running_var");
    uint32_t stream = hash_u32("parity"), substream = hash_u32(name);
    for (int64_t i = 0; i < elems; i++)
        x[i] = (double)rng_normal(seed, stream, substream, (uint64_t)i);
    if (ends_with(name, ".weight")) {
        for (int64_t i = 0; i < elems; i++)
            x[i] *= sqrt(2.0 / ((double)elems / (double)rows));
        if (narrow)
            centre(x, rows, elems / rows);
    }
    for (int64_t i = 0; i < elems; i++) {
        if (gamma || var)
            x[i] = (inner && gamma ? 0.6 : 1) * (1 + 0.25 * tanh(x[i]));
        else if (!ends_with(name, ".weight"))
            x[i] = (inner && ends_with(name, ".beta") ? 2 : 0) + 0.1 * x[i];
        out[i] = (float)x[i];
    }
    return out;
}

/* mark() of make_networks.py: length, and the product with a vector of random signs. */
typedef struct Mark {
    double length, dot;
} Mark;

static inline Mark net_mark(uint64_t seed, const char *name, const float *x, int64_t n)
{
    Mark     m = { 0 };
    uint32_t stream = hash_u32("sign"), substream = hash_u32(name);
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        m.length += v * v;
        m.dot += rng_u32(seed, stream, substream, (uint64_t)i) & 1 ? -v : v;
    }
    m.length = sqrt(m.length);
    return m;
}

static inline Mark mark_of(const json_t *pair)
{
    assert_int_equal(json_array_size(pair), 2);
    return (Mark){ json_number_value(json_array_get(pair, 0)), json_number_value(json_array_get(pair, 1)) };
}

/* ---- A network --------------------------------------------------------------------------------------------------- */

typedef struct Net {
    Session       s;
    uint64_t      seed;
    uint32_t      number, turn; /* of the batch, of the step */
    LoadedProgram train, eval;
} Net;

/* Opened as the entry says, in float, to be trained by plain SGD: its velocities are then the gradients. */
static inline void net_open(Net *n, const json_t *root, const json_t *ref, const char *backend)
{
    *n = (Net){ .s = { .arena = arena_new("net"), .diag = diag_new(stderr), .program = "detent", .out = stderr } };
    Arena        *a = &n->s.arena;
    const json_t *image = member(ref, "image");
    StrList       rest = { 0 };
    char         *argv[] = {
        arena_printf(a, "--backend=%s", backend),
        arena_printf(a, "--batch=%d", (int)number(ref, "batch")),
        arena_printf(a, "--image=%dx%d", (int)json_integer_value(json_array_get(image, 1)),
                             (int)json_integer_value(json_array_get(image, 2))),
        arena_strdup(a, "--optimizer=sgd"),
        arena_strdup(a, "--momentum=0.9"),
        arena_strdup(a, "--weight-decay=0"),
        arena_strdup(a, "--ema=0"),
        arena_strdup(a, "--cache=off"),
        arena_strdup(a, "--threads=2"),
    };
    n->seed = (uint64_t)number(root, "seed");
    n->turn = (uint32_t)number(root, "step");
    n->number = (uint32_t)number(ref, "number");
    assert_true(cli_parse(a, &n->s.diag, ~0u, DT_COUNT(argv), argv, &n->s.opt, &rest));
    const DtModel *model = frontend_find(a, &n->s.diag, text(ref, "net"));
    assert_non_null(model);
    assert_true(session_open(&n->s, model));
}

static inline LoadedProgram net_load(Net *n, StepKind step)
{
    LoadedProgram p = session_load(&n->s, step);
    assert_non_null(p.program);
    return p;
}

static inline void net_close(Net *n)
{
    session_close(&n->s);
}

static inline void net_write(LoadedProgram p, const char *name, const void *values)
{
    const ProgTensor *t = program_tensor(p.program, name);
    if (t != NULL)
        assert_true(tensor_write(p.exec, p.index, t, values));
}

static inline float *net_read(Net *n, LoadedProgram p, const char *name, int64_t *elems)
{
    const ProgTensor *t = program_tensor(p.program, name);
    if (t == NULL)
        fail_msg("the program has no tensor \"%s\"", name);
    float *out = ARENA_ARRAY(&n->s.arena, float, t->elems);
    assert_true(tensor_read(p.exec, p.index, t, out));
    *elems = t->elems;
    return out;
}

static inline void net_fill(Net *n, LoadedProgram p)
{
    for (int32_t i = 0; i < p.program->n_tensors; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (t->kind == TENSOR_PARAM || ends_with(t->name, ".running_mean") || ends_with(t->name, ".running_var"))
            net_write(p, t->name, net_value(&n->s.arena, n->seed, t->name, t->dim[0], t->elems));
    }
}

/* batch() of make_networks.py. What the program does not read is passed over. */
static inline void net_batch(Net *n, LoadedProgram p)
{
    Arena            *a = &n->s.arena;
    const ProgTensor *image = program_tensor(p.program, "image"), *label = program_tensor(p.program, "label");
    int64_t           elems = image->elems, samples = image->dim[0];
    bool              restores = label == NULL && n->s.model->classes == 0;
    float            *x = ARENA_ARRAY(a, float, elems), *target = ARENA_ARRAY(a, float, elems),
          *noise = ARENA_ARRAY(a, float, elems);
    int32_t *labels = ARENA_ARRAY(a, int32_t, samples);
    for (int64_t i = 0; i < elems; i++) {
        uint64_t at = (uint64_t)i;
        x[i] = restores ? rng_uniform(n->seed, 1, n->number, at) : rng_normal(n->seed, 1, n->number, at);
        target[i] = x[i] + 0.1f * rng_normal(n->seed, 3, n->number, at);
        noise[i] = i < elems / samples ? -1 : 0.2f * rng_uniform(n->seed, 4, n->number, at);
    }
    for (int64_t i = 0; i < samples; i++)
        labels[i] = (int32_t)(rng_u32(n->seed, 2, n->number, (uint64_t)i) % (uint32_t)dt_max64(n->s.model->classes, 1));
    uint32_t seed = (uint32_t)n->seed;
    net_write(p, "image", x);
    net_write(p, "target", target);
    net_write(p, "noise", noise);
    net_write(p, "label", labels);
    net_write(p, "seed", &seed);
    net_write(p, "step", &n->turn);
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------- */

/* Difference in lengths of the tensor; `least` where that is nothing but rounding. */
static inline double mark_error(Mark got, Mark want, double least)
{
    double size = want.length > 1e-6 * least ? want.length : least;
    return fmax(fabs(got.length - want.length), fabs(got.dot - want.dot)) / size;
}

static inline void check_logits(Net *n, const json_t *ref, double bound)
{
    int64_t elems;
    float  *logits = net_read(n, n->eval, "logits", &elems);
    Mark    got = net_mark(n->seed, "logits", logits, elems), want = mark_of(member(ref, "logits"));
    double  error = mark_error(got, want, 0);
    if (!(error <= bound))
        fail_msg("%s: logits are %.3g off PyTorch's, allowed %.3g", n->s.model->name, error, bound);
    const json_t *first = member(ref, "first");
    double        size = want.length / sqrt((double)elems);
    for (size_t i = 0; i < json_array_size(first); i++)
        if (!(fabs((double)logits[i] - json_number_value(json_array_get(first, i))) <= 10 * bound * size))
            fail_msg("%s: logit %zu is %.8g, PyTorch has %.8g", n->s.model->name, i, (double)logits[i],
                     json_number_value(json_array_get(first, i)));
}

#endif
