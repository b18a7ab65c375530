/* report.h: one HTML page about runs, and what its files share.
 *
 *   report.c            the command: reads runs, writes the page
 *   report_run.c        what a run's directory says
 *   report_page.c       the page around it: style, script, tables of runs and of arguments
 *   report_chart.c      curves, as SVG
 *   report_layers.c     quantizers, one by one
 *   report_pictures.c   pictures side by side
 *
 * The page needs nothing but itself: no file beside it, no network; without scripts it shows the same, but for values
 * under the pointer. Whatever comes from a file goes through html_text.
 *
 * Tested by tests/unit/test_report.c. */
#ifndef DETENT_CLI_REPORT_H
#define DETENT_CLI_REPORT_H

#include "runtime/kept_pictures.h"
#include "runtime/runtime.h"

/* ---- What a run says (report_run.c) ------------------------------------------------------------------------------ */

typedef struct ReportPoint {
    double x, y; /* x in epochs; y NAN: not finite */
} ReportPoint;

/* A value of the rows of one kind, over the run. */
typedef struct ReportSeries {
    const char *kind, *key; /* "epoch", "test_top1" */
    VEC(ReportPoint) at;
} ReportSeries;

/* A number of a quantizer over the run: "snr_db". */
typedef struct ReportMeasure {
    const char *key;
    VEC(ReportPoint) at;
} ReportMeasure;

typedef struct ReportQuantizer {
    const char *name; /* "s0.b0.conv1.weight" */
    VEC(ReportMeasure) measures;
} ReportQuantizer;

typedef struct ReportRun {
    const char *dir, *label;         /* label: short, and of no other run */
    const char *net, *method, *bits; /* net: of a file without its directory */
    RunArgs     args;
    VEC(ReportSeries) series;
    VEC(ReportQuantizer) quantizers;
    int64_t     epochs, step;  /* that are over */
    double      seconds;       /* of all epochs that the log tells of; NAN: of none */
    double      epoch_seconds; /* the median */
    int64_t     params;        /* -1: not known */
    RunPictures pictures;
} ReportRun;

typedef struct Report {
    Arena     *a;
    ReportRun *runs;
    int32_t    n;
} Report;

/* False: reported (no run there). What is damaged in it is warned about and left out. */
bool report_read_run(Arena *a, Diag *d, const char *dir, ReportRun *out) DT_CHECKED;
/* Labels by what runs differ in. */
void                 report_name_runs(Report *r);

const char          *report_arg(const ReportRun *r, const char *key); /* NULL: none */
const ReportSeries  *report_series(const ReportRun *r, const char *kind, const char *key);
const ReportMeasure *report_measure(const ReportQuantizer *q, const char *key);
double               report_last(const ReportSeries *s); /* NAN: there is none */

/* ---- Writing HTML (report_page.c) -------------------------------------------------------------------------------- */

/* Text as text, in elements and in attributes in quotes; bytes that are no UTF-8 become U+FFFD. */
void html_text(Str *out, const char *text);
/* A number for people, "-" for NAN. */
void html_number(Str *out, double x, int decimals);

void report_page(Str *out, const Report *r, const char *title);

/* ---- Parts of the page ------------------------------------------------------------------------------------------- */

enum { REPORT_COLOURS = 8 }; /* style sheets know as many; further runs have the same ones, dashed */

typedef struct ChartLine {
    const char        *label;
    int32_t            run; /* its colour */
    const ReportPoint *at;
    int32_t            n;
    bool               faint; /* beside a line of the same run that says more */
} ChartLine;
/* Nothing where no line has a point. */
void report_chart(Str *out, Arena *a, const char *title, const char *unit, const ChartLine *lines, int32_t n);
/* A small curve for a cell of a table. */
void report_spark(Str *out, const ReportPoint *at, int32_t n);

void report_layers(Str *out, const Report *r);
void report_pictures(Str *out, const Report *r);

#endif
