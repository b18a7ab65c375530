/* train_rows.c: what a run says: a row of metrics every few steps and every epoch, the same for people, a table at its
 * end. What is measured says the task (task.c); here it has names and units alone.
 *
 * Rows hold no times, lines do: share of the steps' time that they waited for data, images a second.
 *
 * Tested by tests/unit/test_train.c and test_restore.c. */
#include "runtime/train_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double rows_percent(const Trainer *t, double correct, int64_t steps)
{
    return t->task->counts_correct ? 100 * correct / (double)dt_max64(steps * t->batch, 1) : (double)NAN;
}

/* ---- Rows of metrics ------------------------------------------------------------------------------------------- */

/* What was trained: means over `steps`. */
static void add_training(const Trainer *t, MetricRow *row, double lr, double loss, double correct,
                         const LossSums *parts, int64_t steps)
{
    metric_add(row, "lr", lr);
    metric_add(row, "train_loss", loss / (double)steps);
    if (t->task->counts_correct)
        metric_add(row, "train_top1", rows_percent(t, correct, steps));
    for (int32_t i = 0; i < t->n_parts; i++)
        metric_add(row, t->part_keys[i], parts->of[i] / (double)steps);
}

/* "test_top1", or "test_top1_clamped"; a measure that was not made is left out. */
static void add_test(Arena *a, MetricRow *row, const EvalResult *r, const char *tail)
{
    metric_add(row, arena_printf(a, "test_loss%s", tail), r->loss);
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        if (r->measured[m])
            metric_add(row, arena_printf(a, "test_%s%s", measure_infos[m].key, tail), r->measure[m]);
}

bool rows_step(Trainer *t)
{
    TrainState *s = &t->s;
    MetricRow   row = { .epoch = s->epoch + 1, .step = s->step };
    add_training(t, &row, (double)t->last_lr, s->row_loss, s->row_correct, &s->row_parts, s->row_steps);
    s->row_loss = s->row_correct = 0;
    s->row_parts = (LossSums){ { 0 } };
    s->row_steps = 0;
    return rundir_metric(t->d, t->dir, &row);
}

/* Part of diagnoses: who wants none of those wants no histograms. */
bool rows_weights(Trainer *t)
{
    return t->c->inspect_every == 0 || weights_row(t->d, t->dir, t->c->train, t->s.epoch + 1, t->s.step);
}

void rows_events(Trainer *t)
{
    progress_end(t->progress); /* should there be something to report */
    if (!events_write(t->events_warned ? NULL : t->d, t->r.dir))
        t->events_warned = true;
}

/* ---- Lines for people ------------------------------------------------------------------------------------------ */

void rows_say_test(Str *line, const Trainer *t, const TestResult *r)
{
    if (!r->rounded.ok)
        return;
    str_printf(line, "  test loss %.*f", t->task->loss_decimals, r->rounded.loss);
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        if (r->rounded.measured[m]) {
            str_add(line, "  ");
            measure_say(line, (Measure)m, r->rounded.measure[m]);
        }
    if (r->clamped.ok) {
        const MeasureInfo *info = &measure_infos[r->clamped.score];
        str_printf(line, "  clamped %.*f%s", info->decimals, r->clamped.measure[r->clamped.score], info->unit);
    }
}

static void say_training(Str *line, const Trainer *t)
{
    const TrainState *s = &t->s;
    const double      steps = (double)s->epoch_steps;
    str_printf(line, "epoch %lld/%lld  train loss %.*f", (long long)s->epoch + 1, (long long)t->schedule.epochs,
               t->task->loss_decimals, s->epoch_loss / steps);
    for (int32_t i = 0; i < t->n_parts; i++)
        str_printf(line, " %s %.*f", strchr(t->part_keys[i], ':') + 1, t->task->loss_decimals,
                   s->epoch_parts.of[i] / steps);
    if (t->task->counts_correct) {
        str_add(line, "  ");
        measure_say(line, MEASURE_TOP1, rows_percent(t, s->epoch_correct, s->epoch_steps));
    }
}

static void say_best(Str *line, const Trainer *t)
{
    const MeasureInfo *info = &measure_infos[t->task->score];
    str_printf(line, "  best %.*f%s (epoch %lld)", info->decimals, t->s.best_score, info->unit,
               (long long)t->s.best_epoch);
}

/* ", 3040 images/s, data wait 0.3 %": of so many steps. */
static void say_speed(Str *line, const Trainer *t, int64_t steps, double seconds, double wait_s)
{
    char rate[32];
    if (steps > 0 && seconds > 0)
        str_printf(line, ", %s images/s, data wait %.1f %%", progress_rate(rate, (double)(steps * t->batch) / seconds),
                   100 * wait_s / seconds);
}

/* What a person reads of an epoch. */
static void say_epoch(Trainer *t, const TestResult *r, bool untrained)
{
    const EpochTimes *times = &t->times;
    const double      seconds = time_now_s() - times->start_s;
    Arena             scratch = arena_new("epoch");
    Str               line = str_new(&scratch), speed = str_new(&scratch);
    char              took[32];
    double            mean, worst;
    if (untrained)
        str_add(&line, "without training");
    else
        say_training(&line, t);
    rows_say_test(&line, t, r);
    if (r->rounded.ok && t->s.best_epoch > 0)
        say_best(&line, t);
    if (t->inspector && inspector_convergence(t->inspector, t->s.step, &mean, &worst))
        str_printf(&line, "  convergence %.2g (worst %.2g)", mean, worst);
    say_speed(&speed, t, times->steps, times->steps_s, times->wait_s);
    progress_say(t->progress, "%s  %s", line.s, progress_duration(took, seconds));
    rundir_log(t->dir, "%s  %.1f s%s", line.s, seconds, speed.len ? speed.s : "");
    arena_free(&scratch);
}

bool rows_epoch(Trainer *t, const TestResult *r)
{
    const TrainState *s = &t->s;
    const bool        untrained = t->schedule.epochs == 0;
    Arena             scratch = arena_new("row");
    MetricRow         row = { .epoch_end = true, .epoch = untrained ? 0 : s->epoch + 1, .step = s->step };
    if (!untrained)
        add_training(t, &row, (double)(float)schedule_lr(&t->schedule, s->step - 1), s->epoch_loss, s->epoch_correct,
                     &s->epoch_parts, s->epoch_steps);
    if (r->rounded.ok) {
        add_test(&scratch, &row, &r->rounded, "");
        metric_add(&row, t->score_key, s->best_score);
    }
    if (r->clamped.ok)
        add_test(&scratch, &row, &r->clamped, "_clamped");
    for (int32_t m = 0; m < MEASURE_COUNT; m++)
        if (r->rounded.ok && r->rounded.has_input && r->rounded.measured[m])
            metric_add(&row, arena_printf(&scratch, "test_%s_input", measure_infos[m].key), r->rounded.input[m]);
    say_epoch(t, r, untrained);
    bool ok = rundir_metric(t->d, t->dir, &row);
    arena_free(&scratch);
    return ok;
}

/* ---- The table at the end -------------------------------------------------------------------------------------- */

/* A line for the terminal and for log.txt. */
static void say_line(Trainer *t, const Str *line)
{
    progress_say(t->progress, "%s", line->s);
    rundir_log(t->dir, "%s", line->s);
}

/* The fields behind the epoch, in columns as wide as their names. */
static void table_row(Trainer *t, Arena *a, const char *name, const char *fields)
{
    Str         line = str_new(a);
    const char *head = t->columns;
    str_printf(&line, "%-6s", name);
    for (const char *at = fields;; at++, head++) {
        const size_t len = strcspn(at, ",\r\n"), width = strcspn(head, ",");
        const char  *text = arena_strndup(a, at, len);
        char        *end = NULL;
        const double x = strtod(text, &end);
        str_add(&line, "  ");
        if (len > 0 && end == text + len && fields != t->columns)
            text = arena_printf(a, "%.4g", x);
        str_printf(&line, "%*s", (int)dt_max64((int64_t)width, 8), len > 0 ? text : "-");
        at += len;
        head += width;
        if (*at != ',' || *head != ',')
            break;
    }
    say_line(t, &line);
}

/* The fields of that epoch's row behind epoch and step, the last such row of the file; NULL: there is none. */
static const char *find_row(const char *csv, int64_t epoch)
{
    const char *found = NULL;
    for (const char *line = csv; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char     *end;
        long long n = strtoll(line, &end, 10);
        if (end != line && n == epoch && *end == ',' && strchr(end + 1, ','))
            found = strchr(end + 1, ',') + 1;
    }
    return found;
}

void rows_table(Trainer *t)
{
    Arena             a = arena_new("table");
    Diag              quiet = diag_new(NULL);
    const EpochTimes *times = &t->times;
    const char       *csv = file_read(&a, &quiet, rundir_file(&a, t->dir, RUN_CSV), NULL);
    const int64_t     epochs[] = { t->s.best_epoch, t->s.epoch };
    char              took[32];
    Str               line = str_new(&a);
    if (csv && t->s.epoch > 0) {
        table_row(t, &a, "epoch", t->columns);
        for (int32_t i = t->s.best_epoch == t->s.epoch; i < DT_COUNT(epochs); i++) {
            const char *row = epochs[i] > 0 ? find_row(csv, epochs[i]) : NULL;
            if (row)
                table_row(t, &a, arena_printf(&a, "%lld", (long long)epochs[i]), row);
        }
    }
    if (times->all_steps > 0) {
        str_printf(&line, "%lld steps in %s", (long long)times->all_steps, progress_duration(took, times->all_steps_s));
        say_speed(&line, t, times->all_steps, times->all_steps_s, times->all_wait_s);
        say_line(t, &line);
    }
    diag_free(&quiet);
    arena_free(&a);
}
