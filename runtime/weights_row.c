/* weights_row.c: how weights and step sizes are spread, at the end of each epoch: one row of metrics.jsonl, of which
 * events.c makes histograms.
 *
 *   {"kind":"weights","epoch":1,"step":390,
 *    "weights":{"conv1.weight":{"min":-0.5,"max":0.5,"sum":1.5,"squares":20,"counts":[0,3,...]}},
 *    "steps":{"all":{...},"conv1.weight.step":{...}}}
 *
 * Counts are of equal parts of min..max, of finite values. Of the steps "all" are those of every quantizer together; a
 * quantizer with several steps has them by itself, too. As a row it is in the file that checkpoints count, so a run
 * that was resumed writes the same bytes. Tested by tests/unit/test_events.c and test_train.c. */
#include "runtime/runtime_impl.h"

#include <float.h>
#include <math.h>

enum { PARTS = 30 };

typedef struct Spread {
    double  min, max, sum, squares;
    int64_t n, counts[PARTS]; /* n: finite values */
} Spread;

static Spread spread_of(const float *x, int64_t n)
{
    Spread s = { .min = INFINITY, .max = -INFINITY };
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            continue;
        s.min = fmin(s.min, (double)x[i]);
        s.max = fmax(s.max, (double)x[i]);
        s.sum += (double)x[i];
        s.squares += (double)x[i] * (double)x[i];
        s.n++;
    }
    const double width = (s.max - s.min) / PARTS;
    for (int64_t i = 0; i < n && s.n > 0; i++)
        if (isfinite(x[i])) {
            int64_t k = width > 0 ? (int64_t)(((double)x[i] - s.min) / width) : 0;
            s.counts[dt_min64(k, PARTS - 1)]++;
        }
    return s;
}

/* Nothing where no value is finite. */
static void add_spread(Str *out, const char *name, const float *x, int64_t n)
{
    const Spread s = spread_of(x, n);
    const struct {
        const char *key;
        double      value;
    } numbers[] = { { "min", s.min }, { "max", s.max }, { "sum", s.sum }, { "squares", s.squares } };
    if (s.n == 0)
        return;
    str_printf(out, "%s\"%s\":{", out->len > 0 ? "," : "", name);
    for (int32_t i = 0; i < DT_COUNT(numbers); i++) {
        str_printf(out, "\"%s\":", numbers[i].key);
        str_add_f32(out, (float)fmin(fmax(numbers[i].value, -FLT_MAX), FLT_MAX)); /* JSON has no infinity */
        str_add(out, ",");
    }
    str_add(out, "\"counts\":[");
    for (int32_t k = 0; k < (s.max > s.min ? PARTS : 1); k++)
        str_printf(out, "%s%lld", k > 0 ? "," : "", (long long)s.counts[k]);
    str_add(out, "]}");
}

static bool is_of(const ProgTensor *t, const char *group)
{
    return t->kind == TENSOR_PARAM && t->dtype == DTYPE_F32 && str_eq(t->group, group);
}

static int64_t count_steps(const Program *p)
{
    int64_t n = 0;
    for (int32_t i = 0; i < p->n_tensors; i++)
        n += is_of(&p->tensors[i], "step") ? p->tensors[i].elems : 0;
    return n;
}

/* Those of the group with more than one value; all of them one behind the other in `all` (NULL: not wanted). */
static bool add_group(Str *out, LoadedProgram p, const char *group, float *all)
{
    bool ok = true;
    for (int32_t i = 0; i < p.program->n_tensors && ok; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (!is_of(t, group))
            continue;
        Arena  scratch = arena_new("spread");
        float *x = ARENA_ARRAY(&scratch, float, t->elems);
        ok = tensor_read(p.exec, p.index, t, x);
        if (ok && t->elems > 1)
            add_spread(out, t->name, x, t->elems);
        for (int64_t k = 0; all != NULL && k < t->elems; k++)
            *all++ = x[k];
        arena_free(&scratch);
    }
    return ok;
}

bool weights_row(Diag *d, RunDir *r, LoadedProgram p, int64_t epoch, int64_t step)
{
    Arena         a = arena_new("weights");
    Str           row = str_new(&a), weights = str_new(&a), each = str_new(&a), steps = str_new(&a);
    const int64_t n = count_steps(p.program);
    float        *all = ARENA_ARRAY(&a, float, n + 1);
    bool          ok = add_group(&weights, p, "weight", NULL) && add_group(&each, p, "step", all);
    add_spread(&steps, "all", all, n);
    str_printf(&row, "{\"kind\":\"weights\",\"epoch\":%lld,\"step\":%lld,\"weights\":{%s},\"steps\":{%s%s%s}}",
               (long long)epoch, (long long)step, weights.len > 0 ? weights.s : "", steps.len > 0 ? steps.s : "",
               steps.len > 0 && each.len > 0 ? "," : "", each.len > 0 ? each.s : "");
    ok = ok && rundir_row(d, r, row.s);
    arena_free(&a);
    return ok;
}
