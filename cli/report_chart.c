/* report_chart.c: curves as SVG: a frame with round numbers, a line for each run, points with their values as titles
 * where they are few. Colours are classes, so that the style sheet gives other ones in the dark.
 *
 * A picture is 420 units wide: text of 11 units can be read both on a phone and in half a wide page. Lines keep their
 * points in attributes, for the script that shows values under the pointer.
 *
 * Tested by tests/unit/test_report.c. */
#include "cli/report.h"

#include <math.h>

enum { WIDE = 420, HIGH = 230, LEFT = 46, RIGHT = 12, TOP = 8, BOTTOM = 26 };
enum { MARKED = 40, BUCKETS = 200 }; /* points that get a mark of their own; pairs of points that a line keeps */

typedef struct Frame {
    double x0, x1, y0, y1;
} Frame;

/* ---- Ranges ------------------------------------------------------------------------------------------------------ */

static void reach(Frame *f, const ReportPoint *at, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(at[i].y))
            continue;
        f->x0 = fmin(f->x0, at[i].x);
        f->x1 = fmax(f->x1, at[i].x);
        f->y0 = fmin(f->y0, at[i].y);
        f->y1 = fmax(f->y1, at[i].y);
    }
}

/* 1, 2 or 5 times a power of ten, so that about four of them fill the range. */
static double nice_step(double range)
{
    double raw = range / 4, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

/* Room above and below, and a range where there is none. */
static void widen(double *lo, double *hi)
{
    double range = *hi - *lo;
    if (!(range > 0))
        range = fmax(fabs(*hi) * 0.1, 1e-6);
    bool positive = *lo >= 0;
    *lo -= 0.04 * range;
    *hi += 0.04 * range;
    if (positive)
        *lo = fmax(*lo, 0);
}

static double place_x(const Frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDE - LEFT - RIGHT);
}

static double place_y(const Frame *f, double y)
{
    return HIGH - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (HIGH - TOP - BOTTOM);
}

/* ---- The frame --------------------------------------------------------------------------------------------------- */

/* As many digits as tell neighbours apart. */
static void tick_text(Str *out, double x, double step)
{
    int decimals = (int)fmax(0, ceil(-log10(step) - 1e-9));
    if (decimals > 4 || fabs(x) >= 1e6)
        str_printf(out, "%.3g", x);
    else
        str_printf(out, "%.*f", decimals, fabs(x) < step / 2 ? 0.0 : x);
}

static void draw_frame(Str *out, const Frame *f)
{
    double step = nice_step(f->y1 - f->y0);
    str_add(out, "<g class=\"grid\">");
    for (double y = ceil(f->y0 / step) * step; y <= f->y1; y += step) {
        double at = place_y(f, y);
        str_printf(out, "<path d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT, at,
                   WIDE - RIGHT, LEFT - 5, at + 3.5);
        tick_text(out, y, step);
        str_add(out, "</text>");
    }
    step = fmax(nice_step(f->x1 - f->x0), 1);
    for (double x = ceil(f->x0 / step) * step; x <= f->x1 * (1 + 1e-9); x += step) {
        str_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", place_x(f, x), HIGH - 9);
        tick_text(out, x, step);
        str_add(out, "</text>");
    }
    str_printf(out, "<path class=\"axis\" d=\"M%d %dH%d\"/></g>", LEFT, HIGH - BOTTOM, WIDE - RIGHT);
}

/* ---- Lines ------------------------------------------------------------------------------------------------------- */

/* Of many points the least and the largest of each run of neighbours, in their order. */
static int32_t thin_out(Arena *a, const ReportPoint *at, int32_t n, ReportPoint **out)
{
    int32_t kept = 0;
    *out = ARENA_ARRAY(a, ReportPoint, dt_min64(n, 2 * BUCKETS) + 1);
    for (int32_t b = 0; n > 2 * BUCKETS && b < BUCKETS; b++) {
        int32_t from = (int32_t)((int64_t)n * b / BUCKETS), to = (int32_t)((int64_t)n * (b + 1) / BUCKETS);
        int32_t least = from, most = from;
        for (int32_t i = from; i < to; i++) {
            least = !(at[i].y >= at[least].y) ? i : least;
            most = !(at[i].y <= at[most].y) ? i : most;
        }
        (*out)[kept++] = at[least < most ? least : most];
        if (least != most)
            (*out)[kept++] = at[least < most ? most : least];
    }
    for (int32_t i = 0; n <= 2 * BUCKETS && i < n; i++)
        (*out)[kept++] = at[i];
    return kept;
}

static void path_points(Str *out, const Frame *f, const ReportPoint *at, int32_t n)
{
    bool drawn = false;
    for (int32_t i = 0; i < n; i++) {
        if (!isfinite(at[i].y)) {
            drawn = false;
            continue;
        }
        str_printf(out, "%c%.1f %.1f", drawn ? 'L' : 'M', place_x(f, at[i].x), place_y(f, at[i].y));
        drawn = true;
    }
}

static void data_points(Str *out, const ReportPoint *at, int32_t n)
{
    for (int axis = 0; axis < 2; axis++) {
        str_printf(out, " data-%c=\"", "xy"[axis]);
        for (int32_t i = 0, k = 0; i < n; i++)
            if (isfinite(at[i].y))
                str_printf(out, "%s%.6g", k++ > 0 ? "," : "", axis == 0 ? at[i].x : at[i].y);
        str_add(out, "\"");
    }
}

static const char *line_class(Arena *a, const ChartLine *l)
{
    return arena_printf(a, "c%d%s%s", l->run % REPORT_COLOURS, l->run >= REPORT_COLOURS ? " dashed" : "",
                        l->faint ? " faint" : "");
}

static void draw_line(Str *out, Arena *a, const Frame *f, const ChartLine *l)
{
    ReportPoint *at;
    int32_t      n = thin_out(a, l->at, l->n, &at);
    str_printf(out, "<g class=\"%s\"><path class=\"line\" data-label=\"", line_class(a, l));
    html_text(out, l->label);
    str_add(out, "\"");
    data_points(out, at, n);
    str_add(out, " d=\"");
    path_points(out, f, at, n);
    str_add(out, "\"/>");
    for (int32_t i = 0; i < n && n <= MARKED && !l->faint; i++) {
        if (!isfinite(at[i].y))
            continue;
        str_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"><title>", place_x(f, at[i].x), place_y(f, at[i].y));
        html_text(out, l->label);
        str_printf(out, ", epoch %.4g: %.5g</title></circle>", at[i].x, at[i].y);
    }
    str_add(out, "</g>");
}

static void draw_legend(Str *out, Arena *a, const ChartLine *lines, int32_t n)
{
    str_add(out, "<ul class=\"legend\">");
    for (int32_t i = 0; i < n; i++) {
        if (lines[i].n == 0 || lines[i].faint)
            continue;
        str_printf(out, "<li class=\"%s\"><i></i>", line_class(a, &lines[i]));
        html_text(out, lines[i].label);
        str_add(out, "</li>");
    }
    str_add(out, "</ul>");
}

void report_chart(Str *out, Arena *a, const char *title, const char *unit, const ChartLine *lines, int32_t n)
{
    Frame f = { INFINITY, -INFINITY, INFINITY, -INFINITY };
    for (int32_t i = 0; i < n; i++)
        reach(&f, lines[i].at, lines[i].n);
    if (!(f.x0 <= f.x1))
        return;
    widen(&f.y0, &f.y1);
    f.x0 = fmin(f.x0, 0);
    f.x1 = f.x1 > f.x0 ? f.x1 : f.x0 + 1;
    str_add(out, "<figure class=\"chart\"><figcaption>");
    html_text(out, title);
    if (unit[0] != 0) {
        str_add(out, " <small>");
        html_text(out, unit);
        str_add(out, "</small>");
    }
    str_add(out, "</figcaption>");
    draw_legend(out, a, lines, n);
    str_printf(out,
               "<svg viewBox=\"0 0 %d %d\" role=\"img\" data-frame=\"%d,%d,%d,%d\" data-range=\"%.9g,%.9g,%.9g,%.9g\" "
               "aria-label=\"",
               WIDE, HIGH, LEFT, WIDE - RIGHT, TOP, HIGH - BOTTOM, f.x0, f.x1, f.y0, f.y1);
    html_text(out, title);
    str_add(out, "\">");
    draw_frame(out, &f);
    for (int pass = 0; pass < 2; pass++) /* faint ones first, below the others */
        for (int32_t i = 0; i < n; i++)
            if (lines[i].n > 0 && lines[i].faint == (pass == 0))
                draw_line(out, a, &f, &lines[i]);
    str_add(out, "</svg></figure>\n");
}

/* ---- In a table -------------------------------------------------------------------------------------------------- */

void report_spark(Str *out, const ReportPoint *at, int32_t n)
{
    enum { W = 64, H = 16, EDGE = 2 };
    Frame f = { INFINITY, -INFINITY, INFINITY, -INFINITY };
    reach(&f, at, n);
    if (!(f.x0 < f.x1))
        return;
    double range = f.y1 > f.y0 ? f.y1 - f.y0 : 1;
    bool   drawn = false;
    str_printf(out,
               "<svg class=\"spark\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" aria-hidden=\"true\"><path d=\"",
               W, H, W, H);
    for (int32_t i = 0; i < n; i++) {
        if (isfinite(at[i].y))
            str_printf(out, "%c%.1f %.1f", drawn ? 'L' : 'M', EDGE + (at[i].x - f.x0) / (f.x1 - f.x0) * (W - 2 * EDGE),
                       H - EDGE - (at[i].y - f.y0) / range * (H - 2 * EDGE));
        drawn = isfinite(at[i].y);
    }
    str_add(out, "\"/></svg>");
}
