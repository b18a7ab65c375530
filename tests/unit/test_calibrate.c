/* test_calibrate.c: histograms and ranges against NumPy and SciPy (tests/reference/make_calibration.py says how the
 * reference was made), values that say little or nothing, and calibrate_run on a network written out by hand. */
#include "tests/unit/runtime_fixture.h"

#include <float.h>
#include <jansson.h>
#include <omp.h>

#include "runtime/calibrate_impl.h"

/* ---- The values of the reference: operations that every machine rounds alike ------------------------------------- */

static uint32_t hashed(int64_t i, uint32_t salt)
{
    uint32_t x = (uint32_t)i * 2654435761u + salt * 40503u;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return x ^ x >> 16;
}

static double uniform(int64_t i, uint32_t salt)
{
    return ((double)hashed(i, salt) + 0.5) / 4294967296.0;
}

static double log_series(double u)
{
    int    e;
    double m = frexp(u, &e), y = (m - 1) / (m + 1), s = 0;
    for (int k = 12; k >= 0; k--)
        s = s * (y * y) + 1.0 / (2 * k + 1);
    return 2 * y * s + e * 0.6931471805599453;
}

static double draw_normal(int64_t i)
{
    double s = 0;
    for (uint32_t k = 0; k < 12; k++)
        s = s + uniform(i, k);
    return s - 6;
}

static double draw_half_normal(int64_t i)
{
    return fmax(draw_normal(i), 0);
}

static double draw_laplace(int64_t i)
{
    return -log_series(uniform(i, 1)) * ((hashed(i, 2) & 1) != 0 ? 1.0 : -1.0);
}

static double draw_outliers(int64_t i)
{
    return (2 * uniform(i, 1) - 1) * (hashed(i, 2) % 1000 == 0 ? 8.0 : 1.0);
}

static double draw_silu(int64_t i)
{
    double x = draw_normal(i), e = 1 - x / 1024;
    for (int k = 0; k < 10; k++)
        e = e * e;
    return x / (1 + e);
}

typedef struct Draw {
    const char *name;
    double (*value)(int64_t i);
} Draw;
static const Draw draws[] = { { "normal", draw_normal },
                              { "half-normal", draw_half_normal },
                              { "laplace", draw_laplace },
                              { "outliers", draw_outliers },
                              { "silu", draw_silu } };

/* ---- The reference ----------------------------------------------------------------------------------------------- */

static json_t *read_reference(void)
{
    json_error_t e;
    json_t      *j = json_load_file(DT_SOURCE_DIR "/tests/reference/calibration.json", 0, &e);
    if (j == NULL)
        fail_msg("calibration.json:%d: %s", e.line, e.text);
    return j;
}

static json_t *member(const json_t *j, const char *key)
{
    json_t *m = json_object_get(j, key);
    if (m == NULL)
        fail_msg("calibration.json: no %s", key);
    return m;
}

static const char *text_of(const json_t *j, const char *key)
{
    return json_string_value(member(j, key));
}

static double number_of(const json_t *j, const char *key)
{
    return json_number_value(member(j, key));
}

/* All values of a set, and the histogram that its batches make. */
typedef struct Values {
    const char *name;
    float      *at;
    int64_t     n;
    Histogram  *h;
} Values;

static Values values_of(Arena *a, const json_t *set, int64_t batch)
{
    json_t *factors = member(set, "factors");
    Values  v = { text_of(set, "values"), NULL, batch * (int64_t)json_array_size(factors), histogram_new(a) };
    int     kind = 0;
    while (!str_eq(draws[kind].name, text_of(set, "draw")))
        kind++;
    v.at = ARENA_ARRAY(a, float, v.n);
    for (int64_t i = 0; i < v.n; i++)
        v.at[i] = (float)(draws[kind].value(i) * json_number_value(json_array_get(factors, (size_t)(i / batch))));
    for (int64_t i = 0; i < v.n; i += batch)
        histogram_add(v.h, v.at + i, batch);
    return v;
}

static void check_histogram(const Values *v, const json_t *set)
{
    const Histogram *h = v->h;
    int64_t          moment = 0;
    for (int32_t k = 0; k < DT_COUNT(h->side); k++)
        for (int64_t i = 0; i < h->side[k].n; i++)
            moment += i * h->side[k].bins[i];
    assert_true(h->width == number_of(set, "width"));
    assert_int_equal(h->side[0].n, json_integer_value(member(set, "positive_bins")));
    assert_int_equal(h->side[1].n, json_integer_value(member(set, "negative_bins")));
    assert_int_equal(moment, json_integer_value(member(set, "moment")));
    assert_int_equal(h->count, v->n);
}

/* What a quantizer with this range makes of the values themselves, by division. */
static double mean_error(const Values *v, Range r, int64_t lo, int64_t hi)
{
    double step = (r.max - r.min) / (double)(hi - lo), sum = 0;
    double zero = fmin(fmax(rint((double)lo - r.min / step), (double)lo), (double)hi);
    for (int64_t i = 0; i < v->n; i++) {
        double x = (double)v->at[i], code = fmin(fmax(rint(x / step) + zero, (double)lo), (double)hi);
        sum += (x - (code - zero) * step) * (x - (code - zero) * step);
    }
    return sum / (double)v->n;
}

static void check_row(const Values *v, const json_t *row)
{
    RangeQuery q = { .percentile = number_of(row, "percentile"),
                     .lo = json_integer_value(member(row, "lo")),
                     .hi = json_integer_value(member(row, "hi")),
                     .affine = json_is_true(member(row, "affine")) };
    assert_true(calibrate_parse(text_of(row, "kind"), &q.kind));
    Range       r = calibrate_range(v->h, &q);
    const char *what = text_of(row, "kind");
    if (json_object_get(row, "error") != NULL) {
        /* A search on bins, which may end in another of several nearly equal minima. */
        double error = mean_error(v, r, q.lo, q.hi), best = number_of(row, "error");
        if (!(error <= best * 1.02))
            fail_msg("%s, %s to %lld: [%.6g, %.6g] has error %.6g, the best %.6g", v->name, what, (long long)q.hi,
                     r.min, r.max, error, best);
        return;
    }
    double min = number_of(row, "min"), max = number_of(row, "max");
    /* Sums in another order; sigma3 alone is more than an edge of a bin. */
    if (!(fabs(r.min - min) <= 1e-12 * fabs(min)) || !(fabs(r.max - max) <= 1e-12 * max))
        fail_msg("%s, %s to %lld%s: [%.17g, %.17g], expected [%.17g, %.17g]", v->name, what, (long long)q.hi,
                 q.affine ? ", affine" : "", r.min, r.max, min, max);
}

static void ranges_are_those_of_numpy_and_scipy(void **state)
{
    (void)state;
    Arena   a = arena_new("values");
    json_t *ref = read_reference(), *sets = member(ref, "sets"), *rows = member(ref, "rows");
    int64_t batch = json_integer_value(member(ref, "batch"));
    size_t  checked = 0;
    for (size_t i = 0; i < json_array_size(sets); i++) {
        Values v = values_of(&a, json_array_get(sets, i), batch);
        check_histogram(&v, json_array_get(sets, i));
        for (size_t k = 0; k < json_array_size(rows); k++)
            if (str_eq(text_of(json_array_get(rows, k), "values"), v.name)) {
                check_row(&v, json_array_get(rows, k));
                checked++;
            }
    }
    assert_int_equal(checked, json_array_size(rows));
    assert_true(checked >= 5 * 4 * 3);
    json_decref(ref);
    arena_free(&a);
}

/* ---- Histograms -------------------------------------------------------------------------------------------------- */

static int64_t bins_sum(const Histogram *h)
{
    int64_t n = 0;
    for (int32_t k = 0; k < DT_COUNT(h->side); k++)
        for (int64_t i = 0; i < h->side[k].n; i++)
            n += h->side[k].bins[i];
    return n;
}

static void zeros_before_the_first_value_are_counted(void **state)
{
    Fixture    *f = *state;
    const float zeros[3] = { 0, -0.0f, 0 }, values[4] = { 0, -1, 0.25f, 2 };
    Histogram  *h = histogram_new(&f->arena);
    histogram_add(h, zeros, 3);
    assert_true(histogram_is_blank(h));
    histogram_add(h, values, 4);
    assert_false(histogram_is_blank(h));
    assert_true(h->width == 2.0 / HISTOGRAM_FIRST);
    assert_int_equal(h->side[0].n, HISTOGRAM_FIRST);
    assert_int_equal(h->side[1].n, HISTOGRAM_FIRST / 2);
    assert_int_equal(h->side[0].bins[0], 4);
    assert_int_equal(h->side[0].bins[HISTOGRAM_FIRST / 8], 1);
    assert_int_equal(h->side[0].bins[HISTOGRAM_FIRST - 1], 1);
    assert_int_equal(h->side[1].bins[HISTOGRAM_FIRST / 2 - 1], 1);
    assert_int_equal(bins_sum(h), 7);
}

static void a_histogram_of_growing_values_stays_small(void **state)
{
    Fixture   *f = *state;
    Histogram *h = histogram_new(&f->arena);
    for (int i = 0; i < 200; i++) {
        float x[3] = { ldexpf(1, i - 100), -ldexpf(0.7f, i - 100), 0 };
        histogram_add(h, x, 3);
        assert_in_range(h->side[0].n, HISTOGRAM_FIRST, HISTOGRAM_MOST);
        assert_in_range(h->side[1].n, 1, HISTOGRAM_MOST);
    }
    assert_int_equal(bins_sum(h), 600);
    assert_true(h->max == ldexp(1, 99) && (double)h->side[0].n * h->width >= h->max);
    assert_true(f->arena.used < 64 * HISTOGRAM_MOST * sizeof(int64_t));
}

/* ---- Values that say little -------------------------------------------------------------------------------------- */

typedef struct Odd {
    const char *name;
    int         n;
    float       at[6];
    int64_t     skipped;
    double      largest; /* that a range may have; 0: any */
} Odd;

static const Odd odd[] = {
    { "nothing", 0, { 0 }, 0, 1 },
    { "zeros", 3, { 0, -0.0f, 0 }, 0, 1 },
    { "one value", 2, { 3, 3 }, 0, 3.6 },
    { "one negative value", 2, { -3, -3 }, 0, 3.6 },
    { "zeros and one value", 6, { 0, 0, 0, 0, 0, 2 }, 0, 2.6 },
    { "no finite values", 3, { NAN, INFINITY, -INFINITY }, 3, 1 },
    { "some finite values", 5, { NAN, 1, -0.5f, INFINITY, 0.25f }, 2, 2.1 },
    { "the smallest floats", 3, { 1e-45f, -2e-45f, 1e-44f }, 0, 1e-5 },
    { "the largest floats", 3, { FLT_MAX, -FLT_MAX, 1 }, 0, 0 },
};
static const struct {
    int64_t lo, hi;
    bool    affine;
} forms[] = { { -127, 127, false }, { -2, 1, false }, { -1, 1, false }, { 0, 255, false }, { 0, 3, false },
              { -128, 127, true },  { 0, 255, true }, { -2, 1, true },  { 0, 3, true } };

static void check_odd(Arena *a, const Odd *o, CalibrateKind kind, int form)
{
    RangeQuery q = { kind, 99.99, forms[form].lo, forms[form].hi, forms[form].affine };
    Histogram *h = histogram_new(a);
    histogram_add(h, o->at, o->n);
    assert_int_equal(histogram_skipped(h), o->skipped);
    Range  r = calibrate_range(h, &q);
    double codes = (double)(q.affine ? q.hi - q.lo : q.hi), width = q.affine ? r.max - r.min : r.max;
    bool   usable = r.min <= 0 && r.max >= 0 && width >= codes * 0.999e-8 && isfinite((float)(width / codes));
    bool   fits = q.affine || r.min == (q.lo < 0 ? -r.max : 0);
    bool   small = o->largest == 0 || (r.max <= o->largest && -r.min <= o->largest);
    if (!usable || !fits || !small)
        fail_msg("%s, %s to %lld%s: [%g, %g]", o->name, calibrate_name(kind), (long long)q.hi,
                 q.affine ? ", affine" : "", r.min, r.max);
}

static void odd_values_give_a_usable_range(void **state)
{
    Fixture *f = *state;
    for (int i = 0; i < DT_COUNT(odd); i++)
        for (CalibrateKind k = CALIBRATE_MAX; k <= CALIBRATE_SIGMA3; k++)
            for (int form = 0; form < DT_COUNT(forms); form++)
                check_odd(&f->arena, &odd[i], k, form);
}

/* Two values: cut above the first, or not at all, the quantized distribution is the whole one. */
static void entropy_takes_the_last_of_equal_minima(void **state)
{
    Fixture    *f = *state;
    const float x[5] = { 0.5f, 1, 0.5f, 0.5f, 1 };
    Histogram  *h = histogram_new(&f->arena);
    histogram_add(h, x, 5);
    Range r = calibrate_range(h, &(RangeQuery){ .kind = CALIBRATE_ENTROPY, .hi = 255 });
    assert_true(r.max == 1);
}

static void kinds_are_known_by_their_names(void **state)
{
    (void)state;
    CalibrateKind k;
    for (CalibrateKind i = CALIBRATE_NONE; i <= CALIBRATE_SIGMA3; i++) {
        assert_true(calibrate_parse(calibrate_name(i), &k));
        assert_int_equal(k, i);
        assert_non_null(strstr(CALIBRATE_CHOICES, calibrate_name(i)));
    }
    assert_false(calibrate_parse("mean", &k));
}

/* ---- A network --------------------------------------------------------------------------------------------------- */

enum { RUN_BATCH = 10, RUN_TRAIN = 45, ROWS = 2, COLUMNS = 8, PAIRS = COLUMNS / 2 };

/* bufs: image, weight, then what is seen of them: weight, image, image - 0.5, zeros, image with some NaN, weight */
static void show(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch, (void)lo, (void)hi;
    const float *image = bufs[0];
    memcpy(bufs[2], bufs[1], ROWS * COLUMNS * sizeof(float));
    memcpy(bufs[7], bufs[1], ROWS * COLUMNS * sizeof(float));
    for (int i = 0; i < RUN_BATCH * DIGIT; i++) {
        ((float *)bufs[3])[i] = image[i];
        ((float *)bufs[4])[i] = image[i] - 0.5f;
        ((float *)bufs[5])[i] = 0;
        ((float *)bufs[6])[i] = i % 1000 == 0 ? NAN : image[i];
    }
}

static void train_nothing(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)bufs, (void)scratch, (void)lo, (void)hi;
}

/* clang-format off */
#define LEAF(name, n) { TENSOR_STATE, name, DTYPE_F32, 1, { n }, "ones", NULL }
#define SEEN(name) { TENSOR_OUTPUT, name, DTYPE_F32, 2, { RUN_BATCH, DIGIT }, NULL, NULL }
#define SITE(name_, role_) .name = name_, .layer = "a", .role = role_, .observed = "observe:" name_, .percentile = 99.9
static const QuantSite sites[] = {
    { SITE("a.weight", "weight"), .bits = 4, .lo = -7, .hi = 7, .steps = ROWS, .step = "w.step", .kind = CALIBRATE_MSE },
    { SITE("a.input", "act"), .bits = 4, .lo = 0, .hi = 15, .steps = 1, .step = "x.step", .kind = CALIBRATE_ENTROPY },
    { SITE("b.input", "act"), .bits = 4, .lo = -8, .hi = 7, .steps = 1, .affine = true, .step = "y.step", .offset = "y.offset", .kind = CALIBRATE_PERCENTILE },
    { SITE("b.input", "act"), .bits = 8, .lo = -128, .hi = 127, .steps = 1, .affine = true, .min = "y.min", .max = "y.max", .kind = CALIBRATE_MSE },
    { SITE("dead.input", "act"), .bits = 8, .lo = 0, .hi = 255, .steps = 1, .max = "z.max", .kind = CALIBRATE_MAX },
    { SITE("odd.input", "act"), .bits = 8, .lo = 0, .hi = 255, .steps = 1, .step = "n.step", .kind = CALIBRATE_MAX },
    { SITE("a.input", "act"), .bits = 8, .lo = 0, .hi = 255, .steps = 1, .step = "left.step", .kind = CALIBRATE_NONE },
    /* outputs are the second dimension, and two of them share a step */
    { SITE("t.weight", "weight"), .bits = 4, .lo = -7, .hi = 7, .steps = PAIRS, .axis = 1, .step = "t.step", .kind = CALIBRATE_MAX },
};
/* clang-format on */

/* What calibration works on. */
typedef struct Run {
    TinyNet        *net;
    CalibrateConfig c;
} Run;

static Run run_new(Fixture *f)
{
    Arena          *a = &f->arena;
    const TensorDef train[] = {
        TINY_IMAGE(RUN_BATCH), { TENSOR_PARAM, "weight", DTYPE_F32, 2, { ROWS, 8 }, "torch", "weight" },
        LEAF("w.step", ROWS),  LEAF("x.step", 1),
        LEAF("y.step", 1),     LEAF("y.offset", 1),
        LEAF("y.min", 1),      LEAF("y.max", 1),
        LEAF("z.max", 1),      LEAF("n.step", 1),
        LEAF("left.step", 1),  LEAF("t.step", PAIRS),
    };
    const TensorDef observe[] = {
        TINY_IMAGE(RUN_BATCH),
        { TENSOR_PARAM, "weight", DTYPE_F32, 2, { ROWS, 8 }, "torch", "weight" },
        { TENSOR_OUTPUT, "observe:a.weight", DTYPE_F32, 2, { ROWS, 8 }, NULL, NULL },
        SEEN("observe:a.input"),
        SEEN("observe:b.input"),
        SEEN("observe:dead.input"),
        SEEN("observe:odd.input"),
        { TENSOR_OUTPUT, "observe:t.weight", DTYPE_F32, 2, { ROWS, COLUMNS }, NULL, NULL },
    };
    Run r = { .net = ARENA_NEW(a, TinyNet) };
    write_mnist(f, path_in(f, "data"), RUN_TRAIN, 10, false);
    *r.net = (TinyNet){ .batch = RUN_BATCH,
                        .exec = exec_new(a, &f->diag, calllib_reference(a), (ExecOptions){ .threads = 1 }) };
    LoadedProgram first = tiny_program(a, r.net, "train", train_nothing, train, DT_COUNT(train));
    r.c = (CalibrateConfig){
        .train = first,
        .observe = tiny_program(a, r.net, "observe", show, observe, DT_COUNT(observe)),
        .data = dataset_open(a, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") }),
        .classes = 10,
        .normalise = { { 0.3f }, { 0.25f } },
        .seed = 42,
        .batches = 3,
        .sites = sites,
        .n_sites = DT_COUNT(sites),
    };
    assert_true(program_init(&f->diag, r.c.train, 42));
    return r;
}

static float leaf(const Run *r, const char *name, int64_t i)
{
    float v[PAIRS] = { 0 };
    tensor_read(r->net->exec, r->c.train.index, program_tensor(r->c.train.program, name), v);
    return v[i];
}

/* The images of the first `batches` batches as the observe step shows them, less `minus`. */
static Histogram *images(Fixture *f, const Run *r, int batches, float minus)
{
    Histogram *h = histogram_new(&f->arena);
    float     *x = ARENA_ARRAY(&f->arena, float, RUN_BATCH *DIGIT);
    int32_t    label[RUN_BATCH];
    Loader    *l = loader_new(&f->arena, &f->diag,
                              (LoaderConfig){ .data = r->c.data,
                                              .split = SPLIT_TRAIN,
                                              .batch = RUN_BATCH,
                                              .normalise = r->c.normalise,
                                              .seed = r->c.seed });
    loader_start(l, 0, 0);
    for (int b = 0; b < batches; b++) {
        assert_int_equal(loader_next(l, &(BatchOut){ .image = x, .label = label }), RUN_BATCH);
        for (int i = 0; i < RUN_BATCH * DIGIT; i++)
            x[i] -= minus;
        histogram_add(h, x, RUN_BATCH * DIGIT);
    }
    loader_free(l);
    return h;
}

static Range range_for(const Histogram *h, const QuantSite *q)
{
    return calibrate_range(h, &(RangeQuery){ q->kind, q->percentile, q->lo, q->hi, q->affine });
}

static void ranges_reach_their_leaves(void **state)
{
    Fixture *f = *state;
    Run      r = run_new(f);
    assert_true(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_no_errors(f);
    float weight[ROWS * 8];
    tensor_read(r.net->exec, r.c.train.index, program_tensor(r.c.train.program, "weight"), weight);
    for (int k = 0; k < ROWS; k++) {
        Histogram *h = histogram_new(&f->arena);
        histogram_add(h, weight + (ptrdiff_t)k * 8, 8);
        assert_true(leaf(&r, "w.step", k) == (float)(range_for(h, &sites[0]).max / 7));
    }
    assert_true(leaf(&r, "w.step", 0) != leaf(&r, "w.step", 1));
    for (int k = 0; k < PAIRS; k++) {
        float most = 0;
        for (int i = 0; i < ROWS; i++)
            most = fmaxf(most, fmaxf(fabsf(weight[i * COLUMNS + 2 * k]), fabsf(weight[i * COLUMNS + 2 * k + 1])));
        assert_true(leaf(&r, "t.step", k) == (float)((double)most / 7));
    }
    assert_true(leaf(&r, "x.step", 0) == (float)(range_for(images(f, &r, 3, 0), &sites[1]).max / 15));
    Histogram *y = images(f, &r, 3, 0.5f);
    Range      at = range_for(y, &sites[2]);
    double     step = (at.max - at.min) / 15;
    assert_true(at.min < 0 && at.max > 0);
    assert_true(leaf(&r, "y.step", 0) == (float)step);
    assert_true(leaf(&r, "y.offset", 0) == (float)(at.min + 8 * step)); /* the real value of code 0 */
    at = range_for(y, &sites[3]);
    assert_true(leaf(&r, "y.min", 0) == (float)at.min && leaf(&r, "y.max", 0) == (float)at.max);
    assert_true(leaf(&r, "z.max", 0) == 1);
    assert_true(leaf(&r, "n.step", 0) > 0 && leaf(&r, "n.step", 0) <= leaf(&r, "y.max", 0));
    assert_true(leaf(&r, "left.step", 0) == 1);
    exec_free(r.net->exec);
}

static void what_is_odd_is_told_by_name(void **state)
{
    Fixture *f = *state;
    Run      r = run_new(f);
    assert_true(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_int_equal(f->diag.warnings, 2);
    assert_non_null(strstr(f->diag.text.s, "dead.input: only zeros in 3 batches"));
    assert_non_null(strstr(f->diag.text.s, "odd.input: 24 values in 3 batches are not finite"));
    exec_free(r.net->exec);
}

static void ranges_do_not_depend_on_threads_or_on_missing_batches(void **state)
{
    static const char *const leaves[] = { "w.step", "x.step", "y.step", "y.offset", "y.min", "y.max", "n.step" };
    Fixture                 *f = *state;
    Run                      r = run_new(f);
    float                    one[DT_COUNT(leaves)];
    int                      threads = omp_get_max_threads();
    omp_set_num_threads(1);
    r.c.batches = 4; /* all that there are: the last 5 images are no batch */
    assert_true(calibrate_run(&f->arena, &f->diag, &r.c));
    for (int i = 0; i < DT_COUNT(leaves); i++)
        one[i] = leaf(&r, leaves[i], 0);
    omp_set_num_threads(4);
    r.c.batches = 1000;
    assert_true(calibrate_run(&f->arena, &f->diag, &r.c));
    for (int i = 0; i < DT_COUNT(leaves); i++)
        assert_true(one[i] == leaf(&r, leaves[i], 0));
    omp_set_num_threads(threads);
    exec_free(r.net->exec);
}

static void what_does_not_fit_is_reported(void **state)
{
    Fixture  *f = *state;
    Run       r = run_new(f);
    QuantSite bad = sites[1];
    r.c.sites = &bad;
    r.c.n_sites = 1;
    bad.observed = "observe:nobody";
    assert_false(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_one_error(f, "has no output 'observe:nobody'");
    bad = sites[1];
    bad.step = "nobody.step";
    assert_false(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_one_error(f, "expected nobody.step, where the range of a.input goes");
    bad = sites[6]; /* nothing to find: not even a batch is wanted */
    r.c.classes = 7;
    assert_true(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_no_errors(f);
    bad = sites[1];
    assert_false(calibrate_run(&f->arena, &f->diag, &r.c));
    assert_one_error(f, "the network has 7 classes");
    exec_free(r.net->exec);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(ranges_are_those_of_numpy_and_scipy),
        T(zeros_before_the_first_value_are_counted),
        T(a_histogram_of_growing_values_stays_small),
        T(odd_values_give_a_usable_range),
        T(entropy_takes_the_last_of_equal_minima),
        T(kinds_are_known_by_their_names),
        T(ranges_reach_their_leaves),
        T(what_is_odd_is_told_by_name),
        T(ranges_do_not_depend_on_threads_or_on_missing_batches),
        T(what_does_not_fit_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
