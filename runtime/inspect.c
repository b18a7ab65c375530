/* inspect.c: what the quantizers of a run do, now and then; and which of them met the first NaN.
 *
 * The inspect program is an evaluation that counts (passes.h, INSPECT_OUTPUT). It always sees the first test images, so
 * rows of one run can be compared. A diagnosis after step D is one row of metrics.jsonl:
 *
 *   {"kind":"inspect","epoch":1,"step":D,"convergence":0.01,"convergence_worst":0.02,"quantizers":{"conv1.weight":
 *    {"bits":4,"step_min":0.01,"step_max":0.02,"clipped":0.001,"snr_db":20.5,"oscillating":0.002,"dead":0,
 *     "convergence":0.02}}}
 *
 *   clipped      share of elements whose code left the range
 *   snr_db       10 log10(sum x^2 / sum (x - x^)^2); null: no error at all
 *   oscillating  weights: share whose code is another one after step D - 1, and again the same after steps D - 2 and D
 *   dead         weights: outputs whose codes are all 0
 *   convergence  weights under a regularizer: mean of phi / step^2, 0 on the grid; of the row: mean and worst of them
 *   bad          elements that are not finite; left out when there are none
 *
 * So weights are looked at after three steps in a row. Where a checkpoint lies between, it holds the codes that the
 * diagnosis will want: a resumed run writes the same row. After the diagnosis they are forgotten, and checkpoints at
 * the end of an epoch are none the larger.
 *
 * Tested by tests/unit/test_inspect.c. */
#include "runtime/train_impl.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CLIPPED_MOST 0.5
#define STEP_FLOOR 1e-8 /* where the optimizer holds steps */
enum { BEFORE = 2 };    /* looks before a diagnosis */

/* One quantizer. */
typedef struct Site {
    const QuantSite  *q;
    const ProgTensor *step, *clipped, *noise, *signal, *bad; /* step NULL: the program shows nothing of it */
    const ProgTensor *value, *phi;                           /* NULL: no weight; no regularizer */
    int8_t           *codes[BEFORE];                         /* weights: as after steps held[] */
    bool              warned;
} Site;

struct Inspector {
    LoadedProgram p;
    BatchInputs   in;
    Site         *sites;
    int32_t       n, n_weights;
    HostBatch     batch; /* what is looked at */
    int64_t       every;
    int64_t       held[BEFORE]; /* rising; 0: no codes */
    int64_t       seen;         /* step of the last diagnosis of this process; -1: none */
    double        mean, worst;  /* its convergence; NAN: there is none */
};

/* What a diagnosis says of a quantizer; NAN: nothing. */
typedef struct Measures {
    double step_min, step_max, clipped, snr_db, oscillating, dead, convergence, bad;
} Measures;

static const struct {
    const char *key;
    size_t      at;
} measures[] = { { "step_min", offsetof(Measures, step_min) },       { "step_max", offsetof(Measures, step_max) },
                 { "clipped", offsetof(Measures, clipped) },         { "snr_db", offsetof(Measures, snr_db) },
                 { "oscillating", offsetof(Measures, oscillating) }, { "dead", offsetof(Measures, dead) },
                 { "convergence", offsetof(Measures, convergence) }, { "bad", offsetof(Measures, bad) } };

/* ---- Binding --------------------------------------------------------------------------------------------------- */

static const ProgTensor *shown(Arena *a, const Program *p, const char *name, const char *what)
{
    const ProgTensor *t = program_tensor(p, arena_printf(a, "inspect:%s:%s", name, what));
    return t && t->kind == TENSOR_OUTPUT && t->dtype == DTYPE_F32 ? t : NULL;
}

static void bind_site(Arena *a, Inspector *x, const QuantSite *q, Site *out)
{
    const Program *p = x->p.program;
    *out = (Site){ .q = q, .step = shown(a, p, q->name, "step") };
    out->clipped = shown(a, p, q->name, "clipped");
    out->noise = shown(a, p, q->name, "noise");
    out->signal = shown(a, p, q->name, "signal");
    out->bad = shown(a, p, q->name, "bad");
    if (!out->clipped || !out->noise || !out->signal || !out->bad)
        out->step = NULL;
    if (!out->step)
        return;
    out->value = shown(a, p, q->name, "value");
    out->phi = shown(a, p, q->name, "phi");
    x->n_weights += out->value != NULL;
    for (int32_t k = 0; out->value && k < BEFORE; k++)
        out->codes[k] = ARENA_ARRAY(a, int8_t, out->value->elems);
}

/* What is looked at: the first test images. Where pictures are tested in another size than they are trained in, the
 * first training batch of epoch 0 as it is. */
static Split looked_at(const Trainer *t, const ProgTensor *image)
{
    const Dataset *d = t->c->data;
    bool same = dataset_height(d, SPLIT_TEST) == image->dim[2] && dataset_width(d, SPLIT_TEST) == image->dim[3];
    return same ? SPLIT_TEST : SPLIT_TRAIN;
}

static bool load_batch(Trainer *t, Inspector *x, Split split)
{
    const ProgTensor *image = x->in.image;
    Loader           *l = split == SPLIT_TRAIN ? train_loader(t, image, false)
                                               : loader_new(t->a, t->d,
                                                            (LoaderConfig){ .data = t->c->data,
                                                                            .split = SPLIT_TEST,
                                                                            .batch = (int32_t)image->dim[0],
                                                                            .nhwc = image->nhwc,
                                                                            .normalise = t->c->normalise });
    if (!l)
        return false;
    x->batch = host_batch_new(t->a, &x->in);
    loader_start(l, 0, 0);
    bool ok = loader_next(l, &x->batch.at) > 0;
    loader_free(l);
    return ok;
}

bool inspector_new(Trainer *t)
{
    const TrainConfig *c = t->c;
    if (!c->inspect.program || c->inspect_every == 0 || c->n_sites == 0)
        return true;
    Inspector *x = ARENA_NEW(t->a, Inspector);
    *x = (Inspector){ .p = c->inspect, .n = c->n_sites, .seen = -1, .mean = NAN, .worst = NAN };
    x->every = c->inspect_every > 0 ? c->inspect_every : t->schedule.steps_per_epoch;
    x->sites = ARENA_ARRAY(t->a, Site, x->n);
    const ProgTensor *image = program_need(t->d, c->inspect.program, TENSOR_INPUT, "image", DTYPE_F32, -1, NULL);
    const Split       split = image ? looked_at(t, image) : SPLIT_TEST;
    if (!image || !batch_inputs(t->d, c->inspect, c->data, split, c->classes, false, &x->in) ||
        !load_batch(t, x, split))
        return false;
    for (int32_t i = 0; i < x->n; i++)
        bind_site(t->a, x, &c->sites[i], &x->sites[i]);
    t->inspector = x;
    return true;
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

static bool run_on(const Inspector *x, const HostBatch *batch)
{
    host_batch_put(batch, &x->in, exec_ptr);
    return exec_run(x->p.exec, x->p.index);
}

/* An output in logical order; NULL: reported. */
static const float *read_all(Arena *a, const Inspector *x, const ProgTensor *t)
{
    float *values = ARENA_ARRAY(a, float, t->elems);
    return tensor_read(x->p.exec, x->p.index, t, values) ? values : NULL;
}

static double read_one(const Inspector *x, const ProgTensor *t)
{
    float value = NAN;
    return tensor_read(x->p.exec, x->p.index, t, &value) ? (double)value : (double)NAN;
}

/* ---- Codes of weights ------------------------------------------------------------------------------------------ */

/* Which output of a weight element i belongs to. */
static int64_t output_of(const Site *s, int64_t i)
{
    int64_t inner = 1;
    for (int32_t d = s->q->axis + 1; d < s->value->rank; d++)
        inner *= s->value->dim[d];
    return i / inner % s->value->dim[s->q->axis];
}

/* Of element i: one step for all, or one for each output. */
static double step_of(const Site *s, const float *steps, int64_t i)
{
    return (double)steps[output_of(s, i) * s->step->elems / s->value->dim[s->q->axis]];
}

static bool read_codes(Arena *a, const Inspector *x, const Site *s, int8_t *codes)
{
    const float *values = read_all(a, x, s->value), *steps = read_all(a, x, s->step);
    if (!values || !steps)
        return false;
    for (int64_t i = 0; i < s->value->elems; i++) {
        double code = rint((double)values[i] / step_of(s, steps, i));
        codes[i] = (int8_t)(code >= INT8_MIN && code <= INT8_MAX ? code : 0); /* a NaN has none */
    }
    return true;
}

static double count_oscillating(const Inspector *x, const Site *s, const int8_t *codes, int64_t step)
{
    int64_t n = 0;
    if (x->held[0] != step - 2 || x->held[1] != step - 1 || x->held[0] == 0)
        return NAN;
    for (int64_t i = 0; i < s->value->elems; i++)
        n += codes[i] == s->codes[0][i] && codes[i] != s->codes[1][i];
    return (double)n / (double)s->value->elems;
}

static double count_dead(Arena *a, const Site *s, const int8_t *codes)
{
    int64_t outputs = s->value->dim[s->q->axis], dead = outputs;
    bool   *alive = ARENA_ARRAY(a, bool, outputs);
    for (int64_t i = 0; i < s->value->elems; i++) {
        int64_t o = output_of(s, i);
        dead -= codes[i] != 0 && !alive[o];
        alive[o] |= codes[i] != 0;
    }
    return (double)dead;
}

/* The newest codes take the place of the oldest. */
static void push_codes(Site *s, const int8_t *codes)
{
    int8_t *oldest = s->codes[0];
    memcpy(oldest, codes, (size_t)s->value->elems);
    s->codes[0] = s->codes[1];
    s->codes[1] = oldest;
}

static int64_t next_diagnosis(const Inspector *x, int64_t step)
{
    return (step / x->every + 1) * x->every;
}

/* Forgets what the next diagnosis does not ask for. */
static void push_step(Inspector *x, int64_t step)
{
    x->held[0] = x->held[1];
    x->held[1] = step;
    for (int32_t k = 0; k < BEFORE; k++)
        if (x->held[k] < next_diagnosis(x, step) - BEFORE)
            x->held[k] = 0;
}

/* ---- Measures -------------------------------------------------------------------------------------------------- */

/* Mean of phi / step^2. */
static double measure_phi(Arena *a, const Inspector *x, const Site *s)
{
    const float *phi = read_all(a, x, s->phi), *steps = read_all(a, x, s->step);
    double       sum = 0;
    for (int64_t i = 0; phi && steps && i < s->phi->elems; i++) {
        double step = (double)steps[i * s->step->elems / s->phi->elems];
        sum += (double)phi[i] / (step * step);
    }
    return phi && steps ? sum / (double)s->value->elems : (double)NAN;
}

static Measures measure(Arena *a, const Inspector *x, const Site *s, const int8_t *codes, int64_t step)
{
    Measures     m = { NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
    const float *steps = read_all(a, x, s->step);
    double       bad = read_one(x, s->bad), signal = read_one(x, s->signal);
    for (int64_t i = 0; steps && i < s->step->elems; i++) {
        m.step_min = fmin(m.step_min, (double)steps[i]);
        m.step_max = fmax(m.step_max, (double)steps[i]);
    }
    m.clipped = read_one(x, s->clipped) / (double)s->q->elems;
    m.bad = bad > 0 ? bad : (double)NAN;
    if (signal > 0)
        m.snr_db = 10 * log10(signal / read_one(x, s->noise));
    if (s->value) {
        m.oscillating = count_oscillating(x, s, codes, step);
        m.dead = count_dead(a, s, codes);
    }
    if (s->phi)
        m.convergence = measure_phi(a, x, s);
    return m;
}

/* ---- What is told ---------------------------------------------------------------------------------------------- */

static void add_number(Str *s, const char *key, double x)
{
    str_printf(s, ",\"%s\":", key);
    if (isfinite(x))
        str_add_f32(s, (float)x);
    else
        str_add(s, "null");
}

static void row_site(Str *row, const Site *s, const Measures *m, bool first)
{
    str_printf(row, "%s\"%s\":{\"bits\":%d", first ? "" : ",", s->q->name, s->q->bits);
    for (int32_t i = 0; i < DT_COUNT(measures); i++) {
        double x = *(const double *)((const char *)m + measures[i].at);
        if (isnan(x))
            continue;
        add_number(row, measures[i].key, x);
    }
    str_add(row, "}");
}

static void table_site(Str *table, const Site *s, const Measures *m)
{
    str_printf(table, "\n    %-32s step %-10.4g clipped %6.2f %%  SNR %6.2f dB", s->q->name, m->step_min,
               100 * m->clipped, m->snr_db);
    if (s->value)
        str_printf(table, "  dead %.0f", m->dead);
    if (!isnan(m->oscillating))
        str_printf(table, "  oscillating %.3f %%", 100 * m->oscillating);
    if (!isnan(m->convergence))
        str_printf(table, "  convergence %.2g", m->convergence);
}

/* What is wrong with a quantizer, the worst first; NULL: nothing. *help: what to do. */
static const char *find_fault(Arena *a, const Site *s, const Measures *m, const char **help)
{
    const char *layer = s->q->layer;
    if (m->step_min <= STEP_FLOOR * (1 + 1e-6)) {
        *help = arena_printf(a, "try a smaller learning rate, or --set '%s:step-rate=0.1'", layer);
        return arena_printf(
            a, "its step fell to %g, the least that there is, so all that it gets is clipped to nothing", m->step_min);
    }
    if (m->clipped > CLIPPED_MOST) {
        *help = arena_printf(a,
                             "its range is too narrow: try a smaller learning rate, --set '%s:calibrate=mse', or more "
                             "bits for layer %s",
                             layer, layer);
        return arena_printf(a, "%.0f %% of what it gets lies outside its codes %lld to %lld, with a step of %g",
                            100 * m->clipped, (long long)s->q->lo, (long long)s->q->hi, m->step_min);
    }
    if (s->value && m->dead == (double)s->value->dim[0]) {
        *help = arena_printf(a, "try a smaller learning rate, or --set '%s:step-rate=0.1'", layer);
        return arena_printf(a, "every weight has the code 0, as its step grew to %g", m->step_max);
    }
    return NULL;
}

/* Once for each quantizer. */
static void warn_site(Trainer *t, Arena *a, Site *s, const Measures *m)
{
    const char *help = NULL, *fault = s->warned ? NULL : find_fault(a, s, m, &help);
    if (!fault)
        return;
    s->warned = true;
    progress_end(t->progress);
    diag_warning(t->d, LOC_NONE, "train: quantizer %s is saturated after step %lld: %s", s->q->name,
                 (long long)t->s.step, fault);
    diag_help(t->d, "%s", help);
    rundir_log(t->dir, "quantizer %s: %s", s->q->name, fault);
}

/* ---- A diagnosis ----------------------------------------------------------------------------------------------- */

typedef struct Report {
    Str     sites, table;
    double  sum, worst; /* of convergence */
    int32_t n, n_convergence;
} Report;

static void report_site(Trainer *t, Arena *a, Report *r, Site *s, const Measures *m)
{
    row_site(&r->sites, s, m, r->n++ == 0);
    table_site(&r->table, s, m);
    warn_site(t, a, s, m);
    if (!isnan(m->convergence)) {
        r->sum += m->convergence;
        r->worst = fmax(r->worst, m->convergence);
        r->n_convergence++;
    }
}

static bool finish_report(Trainer *t, Arena *a, const Report *r)
{
    Inspector *x = t->inspector;
    Str        row = str_new(a);
    x->seen = t->s.step;
    x->mean = r->n_convergence ? r->sum / r->n_convergence : (double)NAN;
    x->worst = r->n_convergence ? r->worst : (double)NAN;
    str_printf(&row, "{\"kind\":\"inspect\",\"epoch\":%lld,\"step\":%lld",
               (long long)(t->schedule.epochs > 0 ? t->s.epoch + 1 : 0), (long long)t->s.step);
    if (r->n_convergence) {
        add_number(&row, "convergence", x->mean);
        add_number(&row, "convergence_worst", x->worst);
    }
    str_printf(&row, ",\"quantizers\":{%s}}", r->sites.len ? r->sites.s : "");
    if (r->n > 0) {
        progress_end(t->progress);
        rundir_log(t->dir, "quantizers after step %lld%s", (long long)t->s.step, r->table.s);
        log_debug("quantizers after step %lld%s", (long long)t->s.step, r->table.s);
    }
    return rundir_row(t->d, t->dir, row.s);
}

bool inspector_due(const Inspector *x, int64_t step)
{
    int64_t before = x->n_weights > 0 ? BEFORE : 0;
    return next_diagnosis(x, step - 1) - step <= before;
}

bool inspector_run(Trainer *t)
{
    Inspector    *x = t->inspector;
    const int64_t step = t->s.step;
    const bool    diagnosis = step % x->every == 0;
    if (!run_on(x, &x->batch))
        return false;
    Arena  a = arena_new("inspect");
    Report r = { .sites = str_new(&a), .table = str_new(&a) };
    bool   ok = true;
    for (int32_t i = 0; i < x->n && ok; i++) {
        Site   *s = &x->sites[i];
        Arena   scratch = arena_new("quantizer");
        int8_t *codes = s->step && s->value ? ARENA_ARRAY(&scratch, int8_t, s->value->elems) : NULL;
        ok = !codes || read_codes(&scratch, x, s, codes);
        if (ok && diagnosis && s->step) {
            Measures m = measure(&scratch, x, s, codes, step);
            report_site(t, &scratch, &r, s, &m);
        }
        if (ok && codes)
            push_codes(s, codes);
        arena_free(&scratch);
    }
    push_step(x, step);
    ok = ok && (!diagnosis || finish_report(t, &a, &r));
    arena_free(&a);
    return ok;
}

bool inspector_convergence(const Inspector *x, int64_t step, double *mean, double *worst)
{
    *mean = x->mean;
    *worst = x->worst;
    return x->seen == step && !isnan(x->mean);
}

/* ---- Through a checkpoint -------------------------------------------------------------------------------------- */

#define CODES CHECKPOINT_HOST "codes:"

/* "host:codes:STEP:NAME" */
void inspector_keep(const Inspector *x, Arena *a, HostTensors *out)
{
    for (int32_t k = 0; k < BEFORE; k++)
        for (int32_t i = 0; x->held[k] > 0 && i < x->n; i++) {
            const Site *s = &x->sites[i];
            if (!s->step || !s->value)
                continue;
            StTensor t = { .name = arena_printf(a, CODES "%lld:%s", (long long)x->held[k], s->q->name),
                           .dtype = DTYPE_S8,
                           .rank = 1,
                           .dim = { s->value->elems },
                           .elems = s->value->elems,
                           .bytes = s->value->elems,
                           .data = s->codes[k] };
            vec_push(a, out, t);
        }
}

static Site *find_site(Inspector *x, const char *name)
{
    for (int32_t i = 0; i < x->n; i++)
        if (x->sites[i].step && x->sites[i].value && str_eq(x->sites[i].q->name, name))
            return &x->sites[i];
    return NULL;
}

/* The step of kept codes; *name is whose they are. 0: not ours. */
static int64_t kept_step(const StTensor *t, const char **name)
{
    char *end = NULL;
    if (t->dtype != DTYPE_S8 || strncmp(t->name, CODES, sizeof CODES - 1) != 0)
        return 0;
    int64_t step = strtoll(t->name + sizeof CODES - 1, &end, 10);
    *name = *end == ':' ? end + 1 : "";
    return step;
}

void inspector_restore(Inspector *x, const HostTensors *kept)
{
    const char *name;
    for (int32_t i = 0; i < kept->len; i++) /* the newest step has the last place */
        x->held[1] = dt_max64(x->held[1], kept_step(&kept->at[i], &name));
    for (int32_t i = 0; i < kept->len; i++) {
        const StTensor *t = &kept->at[i];
        int64_t         step = kept_step(t, &name);
        Site           *s = step > 0 ? find_site(x, name) : NULL;
        if (!s || t->elems != s->value->elems)
            continue;
        int32_t k = step == x->held[1];
        x->held[k] = step;
        memcpy(s->codes[k], t->data, (size_t)t->elems);
    }
}

/* ---- A loss that is not finite --------------------------------------------------------------------------------- */

/* In the network's order. */
static void name_first_bad(Trainer *t)
{
    const Inspector *x = t->inspector;
    for (int32_t i = 0; i < x->n; i++) {
        const Site *s = &x->sites[i];
        double      bad = s->step ? read_one(x, s->bad) : 0;
        if (!(bad > 0))
            continue;
        diag_note(t->d, LOC_NONE,
                  "with this batch, the first quantizer that gets what is not finite is %s: %.0f of %lld elements",
                  s->q->name, bad, (long long)s->q->elems);
        return;
    }
}

void inspector_blame(Trainer *t, int64_t step)
{
    const Inspector  *x = t->inspector;
    const ProgTensor *train = t->phases[0].update.in.image;
    for (int32_t i = 0; x && i < 4; i++)
        if (x->in.image->dim[i] != train->dim[i])
            return;
    if (!x)
        return;
    Loader *l = train_loader(t, x->in.image, true);
    if (!l)
        return;
    Arena     a = arena_new("blame");
    HostBatch batch = host_batch_new(&a, &x->in);
    loader_start(l, (int32_t)t->s.epoch, (int32_t)(step - t->s.epoch * t->schedule.steps_per_epoch));
    if (loader_next(l, &batch.at) > 0 && run_on(x, &batch))
        name_first_bad(t);
    loader_free(l);
    arena_free(&a);
}
