/* report_page.c: the page: style and script, the table of runs, curves, what runs were started with.
 *
 * Which columns and curves there are follows from the metrics that the runs have: "test_psnr" is a column "test PSNR",
 * and a curve. Tested by tests/unit/test_report.c. */
#include "cli/report.h"
#include "cli/report_style.h"

#include <math.h>
#include <string.h>

/* ---- HTML -------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character that begins here; 0: none does. */
static size_t utf8_len(const char *text)
{
    const uint8_t *c = (const uint8_t *)text;
    size_t         n = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : 0;
    n = c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : n;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    bool longer = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90); /* than it need be */
    bool none = (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf4 && c[1] >= 0x90); /* surrogates; beyond the last */
    return longer || none ? 0 : n;
}

void html_text(Str *out, const char *text)
{
    static const char *const special[128] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;",
    };
    for (const char *c = text; *c;) {
        size_t n = utf8_len(c);
        if (n == 0 || ((uint8_t)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f)
            str_add(out, "\xef\xbf\xbd");
        else if (n == 1 && special[(uint8_t)*c] != NULL)
            str_add(out, special[(uint8_t)*c]);
        else
            str_addn(out, c, n);
        c += n > 0 ? n : 1;
    }
}

void html_number(Str *out, double x, int decimals)
{
    if (isnan(x))
        str_add(out, "-");
    else if (fabs(x) >= 1e9 || (x != 0 && fabs(x) < pow(10, -decimals) / 2))
        str_printf(out, "%.3g", x);
    else
        str_printf(out, "%.*f", decimals, x);
}

/* 269722 -> "269,722" */
static void html_count(Str *out, int64_t n)
{
    char text[32];
    int  len = snprintf(text, sizeof text, "%lld", (long long)n);
    for (int i = 0; i < len; i++)
        str_printf(out, "%s%c", i > 0 && (len - i) % 3 == 0 ? "," : "", text[i]);
}

/* "1:02:03", "4:05" */
static void html_duration(Str *out, double seconds)
{
    if (isnan(seconds)) {
        str_add(out, "-");
        return;
    }
    long long s = (long long)(seconds + 0.5);
    if (s >= 3600)
        str_printf(out, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        str_printf(out, "%lld:%02lld", s / 60, s % 60);
}

/* ---- Metrics by their keys --------------------------------------------------------------------------------------- */

typedef struct MetricInfo {
    const char *key, *title, *unit;
    int         decimals;
    bool        less; /* is better */
    bool        side; /* stands in curves and beside its epoch, and not in the table of runs */
} MetricInfo;

/* In the order in which people look at them. */
static const MetricInfo metrics[] = {
    { "top1", "top-1", "%", 2, false, false },
    { "psnr", "PSNR", "dB", 2, false, false },
    { "ssim", "SSIM", "", 4, false, false },
    { "top5", "top-5", "%", 2, false, false },
    { "loss", "loss", "", 4, true, false },
    { "psnr_input", "PSNR of the input", "dB", 2, false, true },
    { "ssim_input", "SSIM of the input", "", 4, false, true },
    { "top1_clamped", "top-1, not rounded", "%", 2, false, true },
    { "psnr_clamped", "PSNR, not rounded", "dB", 2, false, true },
    { "ssim_clamped", "SSIM, not rounded", "", 4, false, true },
    { "top5_clamped", "top-5, not rounded", "%", 2, false, true },
    { "loss_clamped", "loss, not rounded", "", 4, true, true },
};

/* "test_psnr" -> the row of "psnr"; others stand under their own names. */
static MetricInfo metric_info(const char *key)
{
    const char *what = strchr(key, '_');
    for (int32_t i = 0; what != NULL && i < DT_COUNT(metrics); i++)
        if (str_eq(what + 1, metrics[i].key))
            return metrics[i];
    return (MetricInfo){ key, what != NULL ? what + 1 : key, "", 4, strstr(key, "loss") != NULL, false };
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static int32_t metric_rank_of(const char *key)
{
    for (int32_t i = 0; i < DT_COUNT(metrics); i++)
        if (str_eq(metrics[i].key, metric_info(key).key))
            return i;
    return DT_COUNT(metrics);
}

/* Keys of a kind that begin so, of all runs: known ones in their order, then others in the order they are met in. */
static StrList metric_keys(const Report *r, const char *kind, const char *with)
{
    StrList keys = { 0 };
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->runs[i].series.len; k++) {
            const ReportSeries *s = &r->runs[i].series.at[k];
            bool                known = !str_eq(s->kind, kind) || !starts(s->key, with);
            for (int32_t j = 0; j < keys.len && !known; j++)
                known = str_eq(keys.at[j], s->key);
            if (!known)
                vec_push(r->a, &keys, s->key);
        }
    for (int32_t i = 1; i < keys.len; i++) /* by insertion: they are few */
        for (int32_t k = i; k > 0 && metric_rank_of(keys.at[k]) < metric_rank_of(keys.at[k - 1]); k--) {
            const char *key = keys.at[k];
            keys.at[k] = keys.at[k - 1];
            keys.at[k - 1] = key;
        }
    return keys;
}

/* ---- The table of runs ------------------------------------------------------------------------------------------- */

/* NAN where all are alike. */
static double best_of(const Report *r, const char *key, bool less)
{
    double best = (double)NAN;
    bool   differ = false;
    for (int32_t i = 0; i < r->n; i++) {
        double x = report_last(report_series(&r->runs[i], "epoch", key));
        differ |= !isnan(x) && !isnan(best) && x != best;
        if (isnan(best) || (less ? x < best : x > best))
            best = x;
    }
    return differ ? best : (double)NAN;
}

static void run_cells(Str *out, const Report *r, const ReportRun *run, const StrList *keys)
{
    for (int32_t k = 0; k < keys->len; k++) {
        const MetricInfo info = metric_info(keys->at[k]);
        double           x = report_last(report_series(run, "epoch", keys->at[k]));
        bool             best = r->n > 1 && x == best_of(r, keys->at[k], info.less);
        str_add(out, best ? "<td class=\"best\">" : "<td>");
        html_number(out, x, info.decimals);
        str_add(out, "</td>");
    }
}

static void run_row(Str *out, const Report *r, int32_t i, const StrList *keys)
{
    const ReportRun *run = &r->runs[i];
    str_printf(out, "<tr><th scope=\"row\" class=\"c%d\"><i></i>", i % REPORT_COLOURS);
    html_text(out, run->label);
    str_add(out, "</th><td class=\"text\">");
    html_text(out, run->net);
    str_printf(out, "</td><td>%lld</td>", (long long)run->epochs);
    run_cells(out, r, run, keys);
    str_add(out, "<td>");
    html_duration(out, run->seconds);
    str_add(out, "</td><td>");
    html_number(out, run->epoch_seconds, 1);
    str_add(out, "</td><td>");
    if (run->params >= 0)
        html_count(out, run->params);
    else
        str_add(out, "-");
    str_add(out, "</td><td class=\"text\">");
    html_text(out, run->dir);
    str_add(out, "</td></tr>\n");
}

static void run_table(Str *out, const Report *r)
{
    static const char *const order[] = { "best_", "test_" };
    StrList                  keys = { 0 };
    for (int32_t i = 0; i < DT_COUNT(order); i++) {
        StrList some = metric_keys(r, "epoch", order[i]);
        for (int32_t k = 0; k < some.len; k++)
            if (!metric_info(some.at[k]).side)
                vec_push(r->a, &keys, some.at[k]);
    }
    str_add(out, "<section><h2>Runs</h2>\n<div class=\"wide\"><table><thead><tr><th scope=\"col\">run</th><th "
                 "scope=\"col\" class=\"text\">network</th><th scope=\"col\">epochs</th>");
    for (int32_t k = 0; k < keys.len; k++) {
        const MetricInfo info = metric_info(keys.at[k]);
        str_add(out, "<th scope=\"col\">");
        html_text(out, arena_printf(r->a, "%.*s %s%s%s", (int)strcspn(keys.at[k], "_"), keys.at[k], info.title,
                                    info.unit[0] != 0 ? ", " : "", info.unit));
        str_add(out, "</th>");
    }
    str_add(out, "<th scope=\"col\">time</th><th scope=\"col\">s / epoch</th><th scope=\"col\">params</th><th "
                 "scope=\"col\" class=\"text\">directory</th></tr></thead><tbody>\n");
    for (int32_t i = 0; i < r->n; i++)
        run_row(out, r, i, &keys);
    str_add(out, "</tbody></table></div>\n<p>Metrics are those of the last epoch, best ones those of the whole run");
    str_add(out, r->n > 1 ? "; the best of each column is underlined. " : ". ");
    str_add(out, "Time: of all epochs with their tests, as the log says; s / epoch: the median.</p></section>\n");
}

/* ---- Curves ------------------------------------------------------------------------------------------------------ */

static void add_line(const Report *r, ChartLine *lines, int32_t *n, int32_t run, const ReportSeries *s,
                     const char *more, bool faint)
{
    if (s == NULL || s->at.len == 0)
        return;
    const char *label = r->runs[run].label;
    lines[(*n)++] = (ChartLine){ .label = more != NULL ? arena_printf(r->a, "%s, %s", label, more) : label,
                                 .run = run,
                                 .at = s->at.at,
                                 .n = s->at.len,
                                 .faint = faint };
}

/* Of steps, or where these are fewer, of epochs. */
static const ReportSeries *fine_series(const ReportRun *run, const char *key)
{
    const ReportSeries *step = report_series(run, "step", key), *epoch = report_series(run, "epoch", key);
    return step == NULL || (epoch != NULL && epoch->at.len > step->at.len) ? epoch : step;
}

/* A test metric, the same of training faintly below it. */
static void metric_chart(Str *out, const Report *r, const char *key)
{
    const MetricInfo info = metric_info(key);
    const char      *train = starts(key, "test_") ? arena_printf(r->a, "train_%s", key + strlen("test_")) : NULL;
    ChartLine       *lines = ARENA_ARRAY(r->a, ChartLine, 2 * r->n + 1);
    int32_t          n = 0;
    for (int32_t i = 0; i < r->n; i++) {
        add_line(r, lines, &n, i, report_series(&r->runs[i], "epoch", key), NULL, false);
        if (train != NULL)
            add_line(r, lines, &n, i, fine_series(&r->runs[i], train), "training", true);
    }
    report_chart(out, r->a, arena_printf(r->a, "Test %s", info.title), info.unit, lines, n);
}

static void train_chart(Str *out, const Report *r, const char *key, const char *title)
{
    ChartLine *lines = ARENA_ARRAY(r->a, ChartLine, r->n + 1);
    int32_t    n = 0;
    for (int32_t i = 0; i < r->n; i++)
        add_line(r, lines, &n, i, fine_series(&r->runs[i], key), NULL, false);
    report_chart(out, r->a, title, "", lines, n);
}

/* The mean over all quantizers that have it, at each diagnosis. */
static ReportSeries mean_measure(Arena *a, const ReportRun *run, const char *key, double factor)
{
    ReportSeries mean = { .kind = "inspect", .key = key };
    double       sum = 0, x = 0;
    int32_t      count = 0;
    for (int32_t at = 0;; at++) {
        sum = count = 0;
        for (int32_t i = 0; i < run->quantizers.len; i++) {
            const ReportMeasure *m = report_measure(&run->quantizers.at[i], key);
            if (m == NULL || at >= m->at.len || !isfinite(m->at.at[at].y))
                continue;
            sum += m->at.at[at].y;
            x = m->at.at[at].x;
            count++;
        }
        if (count == 0)
            return mean;
        vec_push(a, &mean.at, (ReportPoint){ x, factor * sum / count });
    }
}

static void measure_charts(Str *out, const Report *r)
{
    static const struct {
        const char *key, *title, *unit;
        double      factor;
    } charts[] = { { "snr_db", "SNR, mean over quantizers", "dB", 1 },
                   { "clipped", "Clipped share, mean over quantizers", "%", 100 },
                   { "oscillating", "Oscillating weights, mean over layers", "%", 100 },
                   { "convergence", "Distance from the grid, mean over layers", "", 1 } };
    for (int32_t c = 0; c < DT_COUNT(charts); c++) {
        ChartLine *lines = ARENA_ARRAY(r->a, ChartLine, r->n + 1);
        int32_t    n = 0;
        for (int32_t i = 0; i < r->n; i++) {
            ReportSeries mean = mean_measure(r->a, &r->runs[i], charts[c].key, charts[c].factor);
            add_line(r, lines, &n, i, &mean, NULL, false);
        }
        report_chart(out, r->a, charts[c].title, charts[c].unit, lines, n);
    }
}

static void curves(Str *out, const Report *r)
{
    StrList tests = metric_keys(r, "epoch", "test_"), parts = metric_keys(r, "step", "train_loss");
    str_add(out, "<section><h2>Curves</h2>\n<p>Over epochs. Faint: training, in the middle of which weights still "
                 "change.</p>\n<div class=\"charts\">\n");
    for (int32_t k = 0; k < tests.len; k++)
        metric_chart(out, r, tests.at[k]);
    for (int32_t k = 0; k < parts.len; k++) /* of a loss that has parts; the whole stands below its test */
        if (tests.len == 0 || !str_eq(parts.at[k], "train_loss"))
            train_chart(out, r, parts.at[k], arena_printf(r->a, "Training %s", metric_info(parts.at[k]).title));
    train_chart(out, r, "lr", "Learning rate");
    measure_charts(out, r);
    str_add(out, "</div></section>\n");
}

/* ---- Values of epochs -------------------------------------------------------------------------------------------- */

static void value_table(Str *out, const Report *r, const ReportRun *run)
{
    StrList keys = { 0 };
    int32_t longest = 0;
    for (int32_t k = 0; k < run->series.len; k++)
        if (str_eq(run->series.at[k].kind, "epoch")) {
            vec_push(r->a, &keys, run->series.at[k].key);
            longest = (int32_t)dt_max64(longest, run->series.at[k].at.len);
        }
    str_add(out, "<h3>");
    html_text(out, run->label);
    str_add(out, "</h3><div class=\"wide\"><table><thead><tr>");
    const ReportSeries *whole = NULL;
    for (int32_t k = 0; k < keys.len; k++) {
        const ReportSeries *s = report_series(run, "epoch", keys.at[k]);
        whole = s->at.len == longest && whole == NULL ? s : whole;
    }
    str_add(out, "<th scope=\"col\">epoch</th>");
    for (int32_t k = 0; k < keys.len; k++) {
        str_add(out, "<th scope=\"col\">");
        html_text(out, keys.at[k]);
        str_add(out, "</th>");
    }
    str_add(out, "</tr></thead><tbody>\n");
    for (int32_t i = 0; i < longest; i++) {
        const double x = whole->at.at[i].x;
        str_printf(out, "<tr><td>%.4g</td>", x);
        for (int32_t k = 0; k < keys.len; k++) {
            const ReportSeries *s = report_series(run, "epoch", keys.at[k]);
            double              y = (double)NAN;
            for (int32_t j = 0; j < s->at.len; j++)
                y = s->at.at[j].x == x ? s->at.at[j].y : y;
            str_add(out, "<td>");
            if (str_eq(keys.at[k], "lr") && isfinite(y))
                str_printf(out, "%.4g", y);
            else
                html_number(out, y, metric_info(keys.at[k]).decimals);
            str_add(out, "</td>");
        }
        str_add(out, "</tr>\n");
    }
    str_add(out, "</tbody></table></div>\n");
}

/* ---- Arguments --------------------------------------------------------------------------------------------------- */

static bool differs(const Report *r, const char *key)
{
    for (int32_t i = 1; i < r->n; i++)
        if (!str_eq(report_arg(&r->runs[i], key), report_arg(&r->runs[0], key)))
            return true;
    return false;
}

static void arg_rows(Str *out, const Report *r, const StrList *keys, bool different)
{
    for (int32_t k = 0; k < keys->len; k++) {
        if (differs(r, keys->at[k]) != different)
            continue;
        str_add(out, "<tr><th scope=\"row\">");
        html_text(out, keys->at[k]);
        str_add(out, "</th>");
        for (int32_t i = 0; i < (different ? r->n : 1); i++) {
            const char *value = report_arg(&r->runs[i], keys->at[k]);
            str_add(out, "<td class=\"text\">");
            html_text(out, value != NULL ? value : "-");
            str_add(out, "</td>");
        }
        str_add(out, "</tr>\n");
    }
}

static void arguments(Str *out, const Report *r)
{
    StrList keys = { 0 };
    bool    any = false;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->runs[i].args.len; k++) {
            const char *key = r->runs[i].args.at[k].key;
            bool        known = false;
            for (int32_t j = 0; j < keys.len && !known; j++)
                known = str_eq(keys.at[j], key);
            if (!known)
                vec_push(r->a, &keys, key);
            any |= differs(r, key);
        }
    str_add(out, "<section><h2>Arguments</h2>\n");
    if (any) {
        str_add(out, "<p>What the runs differ in:</p>\n<div class=\"wide\"><table><thead><tr><th "
                     "scope=\"col\">argument</th>");
        for (int32_t i = 0; i < r->n; i++) {
            str_printf(out, "<th scope=\"col\" class=\"text c%d\"><i></i>", i % REPORT_COLOURS);
            html_text(out, r->runs[i].label);
            str_add(out, "</th>");
        }
        str_add(out, "</tr></thead><tbody>\n");
        arg_rows(out, r, &keys, true);
        str_add(out, "</tbody></table></div>\n");
    }
    str_printf(out, "<details%s><summary>%s</summary><div class=\"wide\"><table><tbody>\n", any ? "" : " open",
               r->n > 1 ? "What they have in common" : "What the run was started with");
    arg_rows(out, r, &keys, false);
    str_add(out, "</tbody></table></div></details></section>\n");
}

/* ---- The page ---------------------------------------------------------------------------------------------------- */

void report_page(Str *out, const Report *r, const char *title)
{
    str_add(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src "
                 "'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>");
    html_text(out, title);
    str_printf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<header><h1>", report_style);
    html_text(out, title);
    str_add(out, "</h1></header>\n<main>\n");
    run_table(out, r);
    report_pictures(out, r);
    curves(out, r);
    report_layers(out, r);
    arguments(out, r);
    str_add(out, "<section><details><summary>Values of each epoch</summary>\n");
    for (int32_t i = 0; i < r->n; i++)
        value_table(out, r, &r->runs[i]);
    str_printf(out,
               "</details></section>\n</main>\n<footer>Detent " DT_VERSION "</footer>\n<div id=\"tip\" hidden></div>\n"
               "<script>\n%s</script>\n</body>\n</html>\n",
               report_script);
}
