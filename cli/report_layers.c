/* report_layers.c: a table of quantizers for each run that has some: what the last diagnosis said of each, and small
 * curves of how its step moved. Numbers that call for a look are marked - by a sign too, not by colour alone.
 *
 * Tested by tests/unit/test_report.c. */
#include "cli/report.h"

#include <math.h>
#include <string.h>

/* What of a diagnosis is shown. `worse`: from here on (below zero: down to here) it is marked; 0: never. */
static const struct {
    const char *key, *title, *unit;
    double      factor, worse;
    int         digits;
    bool        significant; /* %.3g, else decimals */
} columns[] = {
    { "bits", "bits", "", 1, 0, 0, false },         { "step_min", "step", "", 1, 0, 4, true },
    { "step_max", "largest", "", 1, 0, 4, true },   { "clipped", "clipped", "%", 100, 10, 2, false },
    { "snr_db", "SNR", "dB", 1, -5, 1, false },     { "oscillating", "oscillating", "%", 100, 5, 2, false },
    { "dead", "dead outputs", "", 1, 1, 0, false }, { "convergence", "convergence", "", 1, 0, 3, true },
    { "bad", "not finite", "", 1, 1, 0, false },
};

static double last_of(const ReportQuantizer *q, const char *key)
{
    const ReportMeasure *m = report_measure(q, key);
    return m != NULL && m->at.len > 0 ? m->at.at[m->at.len - 1].y : (double)NAN;
}

/* A column without a number is left out, and so is the largest step where each quantizer has one. */
static bool is_shown(const ReportRun *r, int32_t c)
{
    bool any = false, differs = !str_eq(columns[c].key, "step_max");
    for (int32_t i = 0; i < r->quantizers.len; i++) {
        double x = last_of(&r->quantizers.at[i], columns[c].key);
        any |= !isnan(x);
        differs |= x > last_of(&r->quantizers.at[i], "step_min");
    }
    return any && differs;
}

static bool is_marked(int32_t c, double x)
{
    double worse = columns[c].worse;
    return worse > 0 ? x >= worse : worse < 0 && x <= -worse;
}

static void cell(Str *out, int32_t c, double x)
{
    x *= columns[c].factor;
    bool marked = is_marked(c, x);
    str_printf(out, "<td%s>", marked ? " class=\"mark\"" : "");
    if (columns[c].significant && isfinite(x))
        str_printf(out, "%.*g", columns[c].digits, x);
    else if (isfinite(x))
        str_printf(out, "%.*f", columns[c].digits, x);
    else
        html_number(out, x, columns[c].digits);
    str_add(out, marked ? " !</td>" : "</td>");
}

static void row(Str *out, const ReportQuantizer *q, const bool *shown)
{
    const ReportMeasure *step = report_measure(q, "step_min");
    str_add(out, "<tr><th scope=\"row\">");
    html_text(out, q->name);
    str_add(out, "</th>");
    for (int32_t c = 0; c < DT_COUNT(columns); c++)
        if (shown[c])
            cell(out, c, last_of(q, columns[c].key));
    str_add(out, "<td>");
    if (step != NULL)
        report_spark(out, step->at.at, step->at.len);
    str_add(out, "</td></tr>\n");
}

static void table(Str *out, const ReportRun *r, int32_t index, bool open)
{
    bool shown[DT_COUNT(columns)];
    str_printf(out, "<details%s><summary class=\"c%d\"><i></i>", open ? " open" : "", index % REPORT_COLOURS);
    html_text(out, r->label);
    str_printf(out, ": %d quantizers</summary>\n<div class=\"wide\"><table><thead><tr><th scope=\"col\">quantizer</th>",
               r->quantizers.len);
    for (int32_t c = 0; c < DT_COUNT(columns); c++) {
        shown[c] = is_shown(r, c);
        if (shown[c])
            str_printf(out, "<th scope=\"col\">%s%s%s</th>", columns[c].title, columns[c].unit[0] != 0 ? ", " : "",
                       columns[c].unit);
    }
    str_add(out, "<th scope=\"col\">step over the run</th></tr></thead><tbody>\n");
    for (int32_t i = 0; i < r->quantizers.len; i++)
        row(out, &r->quantizers.at[i], shown);
    str_add(out, "</tbody></table></div></details>\n");
}

void report_layers(Str *out, const Report *r)
{
    int32_t with = 0, first = -1;
    for (int32_t i = 0; i < r->n; i++) {
        with += r->runs[i].quantizers.len > 0;
        first = first < 0 && with > 0 ? i : first;
    }
    if (with == 0)
        return;
    str_add(out, "<section><h2>Quantizers</h2>\n<p>After the last diagnosis of each run. Clipped: the share that lies "
                 "outside the codes. SNR: of what is quantized to the error of quantizing. Oscillating: weights whose "
                 "code went there and back in three steps. Marked (!): clipped 10 % or more, SNR of 5 dB or less, "
                 "oscillating 5 % or more, dead outputs.</p>\n");
    for (int32_t i = 0; i < r->n; i++)
        if (r->runs[i].quantizers.len > 0)
            table(out, &r->runs[i], i, i == first);
    str_add(out, "</section>\n");
}
