/* report.c: `detent report RUN...`: one HTML page about runs, to look at, to send and to print.
 *
 * Tested by tests/unit/test_report.c. */
#include "cli/cli.h"
#include "cli/report.h"

enum { REPORT_MOST_RUNS = 64 };

/* "resnet20: lsq w4a4", "4 runs of resnet20", "3 runs of 2 networks" */
static const char *report_title(const Report *r)
{
    int32_t nets = 0;
    for (int32_t i = 0; i < r->n; i++) {
        bool known = false;
        for (int32_t k = 0; k < i; k++)
            known |= str_eq(r->runs[k].net, r->runs[i].net);
        nets += !known;
    }
    if (r->n == 1)
        return arena_printf(r->a, "%s: %s", r->runs[0].net, r->runs[0].label);
    if (nets == 1)
        return arena_printf(r->a, "%d runs of %s", r->n, r->runs[0].net);
    return arena_printf(r->a, "%d runs of %d networks", r->n, nets);
}

int command_report(Session *s, const StrList *rest)
{
    Report      r = { .a = &s->arena, .n = rest->len };
    const char *path = s->opt.out != NULL ? s->opt.out : "report.html";
    if (rest->len < 1 || rest->len > REPORT_MOST_RUNS) {
        diag_error(&s->diag, LOC_NONE, "%s report: expected directories of 1 to %d runs, found %d", s->program,
                   REPORT_MOST_RUNS, rest->len);
        return EXIT_USAGE;
    }
    r.runs = ARENA_ARRAY(r.a, ReportRun, r.n);
    for (int32_t i = 0; i < r.n; i++)
        if (!report_read_run(r.a, &s->diag, rest->at[i], &r.runs[i]))
            return EXIT_MISTAKE;
    report_name_runs(&r);
    Str page = str_new(r.a);
    report_page(&page, &r, s->opt.title != NULL ? s->opt.title : report_title(&r));
    if (!file_write_atomic(&s->diag, path, page.s, page.len))
        return EXIT_MISTAKE;
    log_info("%d run%s, %s: %s", r.n, r.n > 1 ? "s" : "", str_bytes(r.a, (int64_t)page.len), path);
    return EXIT_OK;
}
