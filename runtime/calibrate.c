/* calibrate.c: the first ranges of all quantizers of a network: runs the observe step over training batches, gathers
 * what each quantizer would read, and writes the leaves that hold its range.
 *
 * Weights do not change while this runs: the first batch shows them, each group of outputs on its own. Inputs are
 * gathered batch by batch. Quantizers are independent of each other, so threads take one each.
 *
 * Tested by tests/unit/test_calibrate.c. */
#include "runtime/calibrate_impl.h"
#include "runtime/runtime_impl.h"

#include <math.h>
#include <string.h>

static const char *const kind_names[] = {
    [CALIBRATE_NONE] = "none", [CALIBRATE_MAX] = "max",         [CALIBRATE_PERCENTILE] = "percentile",
    [CALIBRATE_MSE] = "mse",   [CALIBRATE_ENTROPY] = "entropy", [CALIBRATE_SIGMA3] = "sigma3",
};

bool calibrate_parse(const char *text, CalibrateKind *out)
{
    for (int32_t i = 0; i < DT_COUNT(kind_names); i++)
        if (str_eq(text, kind_names[i])) {
            *out = (CalibrateKind)i;
            return true;
        }
    return false;
}

const char *calibrate_name(CalibrateKind k)
{
    return kind_names[k];
}

/* One quantizer while it is calibrated. It has an arena of its own: threads share none. */
typedef struct Site {
    const QuantSite  *q;
    const ProgTensor *seen; /* output of the observe step */
    const float      *now;  /* of this batch */
    Arena             arena;
    Histogram        *h;     /* of an input */
    Range            *range; /* [steps] */
    int64_t           skipped;
    bool              blank; /* nothing but zeros */
} Site;

typedef struct Calibration {
    Arena                 *a;
    Diag                  *d;
    const CalibrateConfig *c;
    Site                  *sites;
    int32_t                n;
    BatchInputs            in;
    Loader                *loader;
    int64_t                batches;
} Calibration;

/* ---- One quantizer ----------------------------------------------------------------------------------------------- */

static bool is_weight(const Site *s)
{
    return str_eq(s->q->role, "weight");
}

static Range range_of(const Site *s, const Histogram *h)
{
    const QuantSite *q = s->q;
    return calibrate_range(h, &(RangeQuery){ q->kind, q->percentile, q->lo, q->hi, q->affine });
}

/* A weight is seen whole: its ranges can be found at once, group by group. A group of outputs lies in as many pieces as
 * there are indices before the outputs' dimension. */
static void site_weight(Site *s)
{
    int64_t each = s->seen->elems / s->q->steps, pieces = 1;
    for (int32_t d = 0; d < s->q->axis && s->q->steps > 1; d++)
        pieces *= s->seen->dim[d];
    const int64_t piece = each / pieces;
    s->blank = true;
    for (int64_t g = 0; g < s->q->steps; g++) {
        Arena      scratch = arena_new("histogram");
        Histogram *h = histogram_new(&scratch);
        float     *own = pieces > 1 ? ARENA_ARRAY(&scratch, float, each) : NULL;
        for (int64_t p = 0; own != NULL && p < pieces; p++)
            memcpy(own + p * piece, s->now + (p * s->q->steps + g) * piece, sizeof(float) * (size_t)piece);
        histogram_add(h, own != NULL ? own : s->now + g * each, each);
        s->range[g] = range_of(s, h);
        s->skipped += histogram_skipped(h);
        s->blank &= histogram_is_blank(h);
        arena_free(&scratch);
    }
}

static void site_finish(Site *s)
{
    if (is_weight(s))
        return;
    s->range[0] = range_of(s, s->h);
    s->skipped = histogram_skipped(s->h);
    s->blank = histogram_is_blank(s->h);
}

static double step_of(const QuantSite *q, Range r)
{
    return q->affine ? (r.max - r.min) / (double)(q->hi - q->lo) : r.max / (double)q->hi;
}

/* ---- Leaves ------------------------------------------------------------------------------------------------------ */

/* All programs of a model share params and states; what of them a program has is what it needs itself. */
static bool leaf_write(Calibration *k, const Site *s, const char *name, const float *values, int64_t n)
{
    const LoadedProgram in[] = { k->c->train, k->c->observe };
    for (int32_t i = 0; name != NULL && i < DT_COUNT(in); i++) {
        const ProgTensor *t = in[i].program != NULL ? program_tensor(in[i].program, name) : NULL;
        if (t == NULL)
            continue;
        DT_ASSERT(t->elems == n && t->dtype == DTYPE_F32, "%s has %lld elements, %s has %lld ranges", name,
                  (long long)t->elems, s->q->name, (long long)n);
        return tensor_write(in[i].exec, in[i].index, t, values);
    }
    if (name != NULL)
        diag_error(k->d, LOC_NONE, "calibrate: expected %s, where the range of %s goes, in program %s, found none",
                   name, s->q->name, k->c->observe.program->name);
    return name == NULL;
}

static bool site_write(Calibration *k, const Site *s)
{
    const QuantSite *q = s->q;
    float           *step = ARENA_ARRAY(k->a, float, q->steps);
    for (int64_t g = 0; g < q->steps; g++)
        step[g] = (float)step_of(q, s->range[g]);
    const Range r = s->range[0];
    const float min = (float)r.min, max = (float)r.max, offset = (float)(r.min - (double)q->lo * step_of(q, r));
    return leaf_write(k, s, q->step, step, q->steps) && leaf_write(k, s, q->offset, &offset, 1) &&
           leaf_write(k, s, q->min, &min, 1) && leaf_write(k, s, q->max, &max, 1);
}

static void site_tell(Calibration *k, const Site *s)
{
    const QuantSite *q = s->q;
    double           least = INFINITY, most = 0;
    for (int64_t g = 0; g < q->steps; g++) {
        least = fmin(least, step_of(q, s->range[g]));
        most = fmax(most, step_of(q, s->range[g]));
    }
    if (q->steps > 1)
        log_debug("calibrate: %s: %s of %lld groups, codes %lld..%lld: steps %.4g to %.4g", q->name,
                  kind_names[q->kind], (long long)q->steps, (long long)q->lo, (long long)q->hi, least, most);
    else
        log_debug("calibrate: %s: %s, codes %lld..%lld: [%.4g, %.4g], step %.4g", q->name, kind_names[q->kind],
                  (long long)q->lo, (long long)q->hi, s->range[0].min, s->range[0].max, least);
    const char *where = is_weight(s) ? "" : arena_printf(k->a, " in %lld batches", (long long)k->batches);
    if (s->skipped > 0)
        diag_warning(k->d, LOC_NONE, "calibrate: %s: %lld values%s are not finite; its range is that of the others",
                     q->name, (long long)s->skipped, where);
    if (s->blank) {
        diag_warning(k->d, LOC_NONE,
                     "calibrate: %s: only zeros%s: nothing says how large its range must be; it gets %.4g", q->name,
                     where, s->range[0].max);
        diag_help(k->d, "is the layer dead, or are the weights not trained?");
    }
}

/* ---- All of them ------------------------------------------------------------------------------------------------- */

static bool wants_range(const QuantSite *q)
{
    return q->kind != CALIBRATE_NONE && (q->step != NULL || q->offset != NULL || q->min != NULL || q->max != NULL);
}

/* False: reported. */
static bool find_sites(Calibration *k)
{
    const CalibrateConfig *c = k->c;
    k->sites = ARENA_ARRAY(k->a, Site, c->n_sites + 1);
    for (int32_t i = 0; i < c->n_sites; i++) {
        const QuantSite *q = &c->sites[i];
        if (!wants_range(q))
            continue;
        if (c->observe.program == NULL || q->observed == NULL) {
            diag_error(k->d, LOC_NONE, "calibrate: expected an observe step that shows %s, found none", q->name);
            return false;
        }
        const ProgTensor *t = program_need(k->d, c->observe.program, TENSOR_OUTPUT, q->observed, DTYPE_F32, -1, NULL);
        if (t == NULL)
            return false;
        DT_ASSERT(q->steps > 0 && t->elems % q->steps == 0, "%s: %lld elements in %lld groups", q->name,
                  (long long)t->elems, (long long)q->steps);
        Site *s = &k->sites[k->n++];
        *s = (Site){ .q = q, .seen = t, .arena = arena_new("site") };
        s->range = ARENA_ARRAY(&s->arena, Range, q->steps);
        s->h = histogram_new(&s->arena);
    }
    return true;
}

static bool open_data(Calibration *k)
{
    const CalibrateConfig *c = k->c;
    if (!batch_inputs(k->d, c->observe, c->data, SPLIT_TRAIN, c->classes, false, &k->in))
        return false;
    k->loader = loader_new(k->a, k->d,
                           (LoaderConfig){ .data = c->data,
                                           .split = SPLIT_TRAIN,
                                           .batch = (int32_t)k->in.image->dim[0],
                                           .nhwc = k->in.image->nhwc,
                                           .normalise = c->normalise,
                                           .seed = c->seed });
    if (k->loader == NULL)
        return false;
    k->batches = dt_min64(c->batches, loader_batches(k->loader));
    loader_start(k->loader, 0, 0);
    return true;
}

static bool observe_batch(Calibration *k, bool first)
{
    const LoadedProgram p = k->c->observe;
    int64_t             number = batch_next(k->loader, &k->in) > 0 ? exec_submit(p.exec, p.index) : -1;
    bool                ok = number >= 0;
    for (int32_t i = 0; ok && i < k->n; i++) {
        k->sites[i].now = exec_output(p.exec, p.index, k->sites[i].seen, number);
        ok = k->sites[i].now != NULL;
    }
    if (!ok)
        return false;
#pragma omp parallel for schedule(dynamic)
    for (int32_t i = 0; i < k->n; i++) {
        Site *s = &k->sites[i];
        if (!is_weight(s))
            histogram_add(s->h, s->now, s->seen->elems);
        else if (first)
            site_weight(s);
    }
    return true;
}

static bool calibrate_all(Calibration *k)
{
    double start = time_now_s();
    for (int64_t b = 0; b < k->batches; b++)
        if (!observe_batch(k, b == 0))
            return false;
#pragma omp parallel for schedule(dynamic)
    for (int32_t i = 0; i < k->n; i++)
        site_finish(&k->sites[i]);
    for (int32_t i = 0; i < k->n; i++) {
        site_tell(k, &k->sites[i]);
        if (!site_write(k, &k->sites[i]))
            return false;
    }
    if (k->c->progress != NULL)
        log_info("calibrated %d quantizers on %lld batches of %lld in %.2f s", k->n, (long long)k->batches,
                 (long long)k->in.image->dim[0], time_now_s() - start);
    return true;
}

bool calibrate_run(Arena *a, Diag *d, const CalibrateConfig *c)
{
    Calibration k = { .a = a, .d = d, .c = c };
    bool        ok = find_sites(&k) && (k.n == 0 || (open_data(&k) && calibrate_all(&k)));
    loader_free(k.loader);
    for (int32_t i = 0; i < k.n; i++)
        arena_free(&k.sites[i].arena);
    return ok;
}
