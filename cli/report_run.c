/* report_run.c: what the directory of a run says: its arguments, the rows of its metrics, times from its log, params
 * from its checkpoint, pictures.
 *
 * Metrics are taken as they come: every number of a row is a point of a series. What a page shows of them is chosen
 * later, so a new metric needs nothing here. Tested by tests/unit/test_report.c. */
#include "cli/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_EPOCHS = 1000000 }; /* as --epochs */

/* ---- Finding ----------------------------------------------------------------------------------------------------- */

const char *report_arg(const ReportRun *r, const char *key)
{
    for (int32_t i = 0; i < r->args.len; i++)
        if (str_eq(r->args.at[i].key, key))
            return r->args.at[i].value;
    return NULL;
}

const ReportSeries *report_series(const ReportRun *r, const char *kind, const char *key)
{
    for (int32_t i = 0; i < r->series.len; i++)
        if (str_eq(r->series.at[i].kind, kind) && str_eq(r->series.at[i].key, key))
            return &r->series.at[i];
    return NULL;
}

const ReportMeasure *report_measure(const ReportQuantizer *q, const char *key)
{
    for (int32_t i = 0; i < q->measures.len; i++)
        if (str_eq(q->measures.at[i].key, key))
            return &q->measures.at[i];
    return NULL;
}

double report_last(const ReportSeries *s)
{
    return s != NULL && s->at.len > 0 ? s->at.at[s->at.len - 1].y : (double)NAN;
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

typedef struct RowReader {
    Arena     *a;
    ReportRun *run;
} RowReader;

static ReportSeries *series_of(RowReader *r, const char *kind, const char *key)
{
    ReportSeries *found = (ReportSeries *)report_series(r->run, kind, key);
    if (found != NULL)
        return found;
    vec_push(r->a, &r->run->series, (ReportSeries){ .kind = arena_strdup(r->a, kind), .key = arena_strdup(r->a, key) });
    return &r->run->series.at[r->run->series.len - 1];
}

static ReportMeasure *measure_of(RowReader *r, const char *name, const char *key)
{
    ReportQuantizer *q = NULL;
    for (int32_t i = 0; i < r->run->quantizers.len && q == NULL; i++)
        if (str_eq(r->run->quantizers.at[i].name, name))
            q = &r->run->quantizers.at[i];
    if (q == NULL) {
        vec_push(r->a, &r->run->quantizers, (ReportQuantizer){ .name = arena_strdup(r->a, name) });
        q = &r->run->quantizers.at[r->run->quantizers.len - 1];
    }
    ReportMeasure *m = (ReportMeasure *)report_measure(q, key);
    if (m != NULL)
        return m;
    vec_push(r->a, &q->measures, (ReportMeasure){ .key = arena_strdup(r->a, key) });
    return &q->measures.at[q->measures.len - 1];
}

/* Is it a number, or a number that is not finite? */
static bool point_of(const json_t *value, double x, ReportPoint *out)
{
    *out = (ReportPoint){ x, json_is_null(value) ? (double)NAN : json_number_value(value) };
    return json_is_number(value) || json_is_null(value);
}

static void read_quantizers(RowReader *r, json_t *quantizers, double x)
{
    const char *name, *key;
    json_t     *of, *value;
    ReportPoint p;
    json_object_foreach(quantizers, name, of)
    {
        json_object_foreach(of, key, value)
        {
            if (point_of(value, x, &p))
                vec_push(r->a, &measure_of(r, name, key)->at, p);
        }
    }
}

/* Points are placed by steps; epochs they become at the end. False: this is no row. */
static bool read_row(RowReader *r, json_t *row)
{
    const char   *kind = json_string_value(json_object_get(row, "kind")), *key;
    const json_t *step = json_object_get(row, "step"), *epoch = json_object_get(row, "epoch");
    json_t       *value;
    ReportPoint   p;
    if (kind == NULL || !json_is_integer(step) || json_integer_value(step) < 0 || json_integer_value(epoch) < 0 ||
        json_integer_value(epoch) > MOST_EPOCHS)
        return false;
    const double x = (double)json_integer_value(step);
    if (str_eq(kind, "epoch")) {
        r->run->epochs = dt_max64(r->run->epochs, json_integer_value(epoch));
        r->run->step = dt_max64(r->run->step, json_integer_value(step));
    }
    json_object_foreach(row, key, value)
    {
        if (!str_eq(key, "step") && !str_eq(key, "epoch") && point_of(value, x, &p))
            vec_push(r->a, &series_of(r, kind, key)->at, p);
    }
    if (str_eq(kind, "inspect"))
        read_quantizers(r, json_object_get(row, "quantizers"), x);
    return true;
}

static bool read_rows(RowReader *r, Diag *d)
{
    const char *path = arena_printf(r->a, "%s/" RUN_JSONL, r->run->dir);
    size_t      len = 0;
    const char *text = file_read(r->a, d, path, &len);
    int32_t     line = 0, bad = 0, first_bad = 0;
    if (text == NULL)
        return false;
    for (const char *end = text + len; text < end;) {
        const char  *stop = memchr(text, '\n', (size_t)(end - text));
        const size_t n = (size_t)((stop ? stop : end) - text);
        json_t      *row = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
        line++;
        if (!read_row(r, row) && bad++ == 0)
            first_bad = line;
        json_decref(row);
        text += n + (stop != NULL);
    }
    if (bad > 0)
        diag_warning(d, (Loc){ path, first_bad }, "report: this line is no row of metrics%s: left out",
                     bad > 1 ? ", and others like it" : "");
    return true;
}

/* Steps become epochs; before the first epoch is over, steps they stay. */
static void scale_steps(ReportRun *r)
{
    const double each = r->epochs > 0 && r->step > 0 ? (double)r->epochs / (double)r->step : 1;
    for (int32_t i = 0; i < r->series.len; i++)
        for (int32_t k = 0; k < r->series.at[i].at.len; k++)
            r->series.at[i].at.at[k].x *= each;
    for (int32_t i = 0; i < r->quantizers.len; i++)
        for (int32_t m = 0; m < r->quantizers.at[i].measures.len; m++)
            for (int32_t k = 0; k < r->quantizers.at[i].measures.at[m].at.len; k++)
                r->quantizers.at[i].measures.at[m].at.at[k].x *= each;
}

/* ---- The log ----------------------------------------------------------------------------------------------------- */

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* "2026-01-31 12:00:00  epoch 3/10  train loss ...  12.5 s, 3040 images/s, ...". False: the line is another one. */
static bool epoch_line(Arena *a, const char *line, size_t len, int64_t *epoch, double *seconds)
{
    static const char begin[] = "  epoch ";
    const char       *text = arena_strndup(a, line, len), *at = strstr(text, begin), *last = NULL;
    char             *end = NULL;
    for (const char *gap = at; gap != NULL; gap = strstr(gap + 1, "  "))
        last = gap + 2;
    if (last == NULL)
        return false;
    *epoch = strtoll(at + sizeof begin - 1, &end, 10);
    if (*epoch < 1 || *end != '/')
        return false;
    *seconds = strtod(last, &end);
    return end != last && strncmp(end, " s", 2) == 0 && (end[2] == 0 || end[2] == ',') && isfinite(*seconds) &&
           *seconds >= 0;
}

/* An epoch that was trained twice - a run that was killed before its checkpoint - counts once. */
static void read_log(Arena *a, ReportRun *r)
{
    Diag        quiet = diag_new(NULL);
    size_t      len = 0;
    const char *text = file_read(a, &quiet, arena_printf(a, "%s/" RUN_LOG, r->dir), &len);
    double     *each = ARENA_ARRAY(a, double, r->epochs + 1), *took = ARENA_ARRAY(a, double, r->epochs + 1);
    int64_t     n = 0, epoch;
    double      seconds;
    diag_free(&quiet);
    for (const char *end = text + len; text != NULL && text < end;) {
        const char  *stop = memchr(text, '\n', (size_t)(end - text));
        const size_t bytes = (size_t)((stop ? stop : end) - text);
        if (epoch_line(a, text, bytes, &epoch, &seconds) && epoch <= r->epochs)
            each[epoch] = seconds;
        text += bytes + (stop != NULL);
    }
    r->seconds = r->epoch_seconds = (double)NAN;
    for (int64_t i = 1; i <= r->epochs; i++)
        if (each[i] > 0)
            took[n++] = each[i];
    if (n == 0)
        return;
    r->seconds = 0;
    for (int64_t i = 0; i < n; i++)
        r->seconds += took[i];
    qsort(took, (size_t)n, sizeof *took, by_value);
    r->epoch_seconds = n % 2 ? took[n / 2] : (took[n / 2 - 1] + took[n / 2]) / 2;
}

/* ---- The checkpoint ---------------------------------------------------------------------------------------------- */

/* A run that has none yet, or an older one that does not say, has no number of params. */
static int64_t read_params(Diag *d, const char *dir)
{
    static const char *const names[] = { RUN_BEST, RUN_LAST };
    Arena                    scratch = arena_new("params");
    int64_t                  params = -1;
    for (int32_t i = 0; i < DT_COUNT(names) && params < 0; i++) {
        const char   *path = arena_printf(&scratch, "%s/%s", dir, names[i]);
        Diag          quiet = diag_new(NULL);
        const StFile *f = access(path, F_OK) == 0 ? st_read(&scratch, &quiet, path) : NULL;
        const char   *text = f != NULL ? st_meta(f, CHECKPOINT_PARAMS) : NULL;
        if (quiet.errors > 0)
            diag_warning(d, LOC_NONE, "report: %s is damaged: its number of params is left out", path);
        if (text != NULL)
            params = strtoll(text, NULL, 10);
        diag_free(&quiet);
    }
    arena_free(&scratch);
    return params;
}

/* "a/b/" -> "b" */
static const char *base_name(Arena *a, const char *dir)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    const char *whole = arena_strndup(a, dir, len), *slash = strrchr(whole, '/');
    return slash != NULL && slash[1] != 0 ? slash + 1 : whole;
}

/* ---- A run ------------------------------------------------------------------------------------------------------- */

bool report_read_run(Arena *a, Diag *d, const char *dir, ReportRun *out)
{
    *out = (ReportRun){ .dir = arena_strdup(a, dir), .params = -1 };
    RowReader reader = { a, out };
    if (access(arena_printf(a, "%s/" RUN_ARGS, dir), F_OK) != 0) {
        diag_error(d, LOC_NONE, "report: expected the directory of a run, found no " RUN_ARGS " in %s", dir);
        diag_help(d, "name directories that `detent train` made, such as runs/resnet20/lsq-w4a4");
        return false;
    }
    if (!rundir_read_args(a, d, dir, &out->args) || !read_rows(&reader, d))
        return false;
    const char *net = report_arg(out, "net"), *method = report_arg(out, "method"), *bits = report_arg(out, "bits");
    out->net = net != NULL ? base_name(a, net) : "?";
    out->method = method != NULL ? method : "float";
    out->bits = bits != NULL && !str_eq(out->method, "float") ? bits : "";
    scale_steps(out);
    read_log(a, out);
    out->params = read_params(d, dir);
    Diag quiet = diag_new(NULL);
    if (!pictures_load(a, &quiet, dir, &out->pictures)) {
        out->pictures = (RunPictures){ 0 };
        diag_warning(d, LOC_NONE, "report: the pictures in %s/" RUN_IMAGES " are left out: %s", dir,
                     quiet.text.len > 0 ? quiet.text.s : "");
    }
    diag_free(&quiet);
    return true;
}

/* ---- Labels ------------------------------------------------------------------------------------------------------ */

static bool same_label(const Report *r, int32_t i)
{
    for (int32_t k = 0; k < r->n; k++)
        if (k != i && str_eq(r->runs[k].label, r->runs[i].label))
            return true;
    return false;
}

/* The method and bits say most; where they do not tell runs apart the network does, then the directory. */
void report_name_runs(Report *r)
{
    bool nets = false;
    for (int32_t i = 1; i < r->n; i++)
        nets |= !str_eq(r->runs[i].net, r->runs[0].net);
    for (int32_t i = 0; i < r->n; i++) {
        ReportRun *x = &r->runs[i];
        x->label = arena_printf(r->a, "%s%s%s%s%s", nets ? x->net : "", nets ? " " : "", x->method,
                                x->bits[0] != 0 ? " " : "", x->bits);
    }
    bool *twice = ARENA_ARRAY(r->a, bool, r->n);
    for (int32_t i = 0; i < r->n; i++)
        twice[i] = same_label(r, i);
    for (int32_t i = 0; i < r->n; i++)
        if (twice[i])
            r->runs[i].label = arena_printf(r->a, "%s (%s)", r->runs[i].label, base_name(r->a, r->runs[i].dir));
    for (int32_t i = 0; i < r->n; i++)
        twice[i] = same_label(r, i);
    for (int32_t i = 0; i < r->n; i++)
        if (twice[i])
            r->runs[i].label = arena_printf(r->a, "%s #%d", r->runs[i].label, i + 1);
}
