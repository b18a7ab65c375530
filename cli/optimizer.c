/* optimizer.c: from options to an optimizer, for every command and for detent-opt. What was not said is as the network
 * says where it is the network's own optimizer; numbers of one are nothing to another, so another has those of its row
 * of passes/optimizers.c. What an optimizer does not read is a mistake.
 *
 * Tested by tests/unit/test_cli.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <stdlib.h>

/* The number that the author of the network wrote: 0.1f in the source is 0.1 here, as on the command line. */
double cli_decimal(Arena *a, float f)
{
    Str text = str_new(a);
    str_add_f32(&text, f);
    return strtod(text.s, NULL);
}

static const Optimizer *find(Arena *a, Diag *d, const CliOptions *o)
{
    const Optimizer *row = optimizer_find(o->optimizer);
    const char     **names = ARENA_ARRAY(a, const char *, pass_n_optimizers);
    Str              all = str_new(a);
    if (row != NULL)
        return row;
    for (int32_t i = 0; i < pass_n_optimizers; i++) {
        names[i] = pass_optimizers[i].name;
        str_printf(&all, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    diag_error(d, cli_place(o, "optimizer", 0), "--optimizer: expected one of %s, found '%s'", all.s, o->optimizer);
    diag_help_nearest(d, o->optimizer, names, pass_n_optimizers, NULL);
    return NULL;
}

/* An option that this optimizer has no use for. False: reported. */
static bool check_read(Diag *d, const CliOptions *o, const Optimizer *row, const char *option, double value)
{
    if (value == 0 || !cli_given(o, option) || optimizer_reads(row, option))
        return true;
    Loc at = cli_place(o, option, 0);
    diag_error(d, at, "%s%s: optimizer %s does not read it", at.file != NULL ? "recipe: " : "--", option, row->name);
    diag_help(d, "%s reads %s", row->name, row->reads);
    return false;
}

static bool take_numbers(Arena *a, Diag *d, CliOptions *o, const Optimizer *row, const DtTraining *own)
{
    const struct {
        const char *name;
        double     *value;
        double      network, usual; /* network 0: it does not say */
        bool        always;         /* every optimizer reads it */
    } numbers[] = {
        { "lr", &o->lr, own ? cli_decimal(a, own->lr) : 0, row->lr, true },
        { "weight-decay", &o->weight_decay, own ? cli_decimal(a, own->weight_decay) : 0, row->weight_decay, true },
        { "momentum", &o->momentum, own ? cli_decimal(a, own->momentum) : 0, row->momentum, false },
        { "beta1", &o->beta1, 0, row->beta1, false },
        { "beta2", &o->beta2, 0, row->beta2, false },
        { "eps", &o->eps, 0, row->eps, false },
        { "rho", &o->rho, 0, row->rho, false },
    };
    for (int32_t i = 0; i < DT_COUNT(numbers); i++) {
        if (!numbers[i].always && !check_read(d, o, row, numbers[i].name, *numbers[i].value))
            return false;
        if (!cli_given(o, numbers[i].name))
            *numbers[i].value = numbers[i].network > 0 ? numbers[i].network : numbers[i].usual;
        if (!numbers[i].always && !optimizer_reads(row, numbers[i].name))
            *numbers[i].value = 0;
    }
    if (!check_read(d, o, row, "nesterov", o->nesterov))
        return false;
    if (!cli_given(o, "nesterov"))
        o->nesterov = own != NULL && own->nesterov;
    o->nesterov &= optimizer_reads(row, "nesterov");
    return true;
}

static bool take_freezes(Arena *a, Diag *d, const CliOptions *o, OptimizerConfig *out)
{
    Freeze *rows = ARENA_ARRAY(a, Freeze, o->freeze.len + 1);
    for (int32_t i = 0; i < o->freeze.len; i++)
        if (!optimizer_parse_freeze(a, d, LOC_NONE, "--freeze", o->freeze.at[i], &rows[i]))
            return false;
    out->freeze = rows;
    out->n_freeze = o->freeze.len;
    return true;
}

bool cli_optimizer(Arena *a, Diag *d, CliOptions *o, const DtTraining *t, OptimizerConfig *out)
{
    const char *usual = t != NULL && t->optimizer != NULL ? t->optimizer : pass_optimizers[0].name;
    if (o->optimizer == NULL)
        o->optimizer = usual;
    const Optimizer *row = find(a, d, o);
    if (row == NULL || !take_numbers(a, d, o, row, t != NULL && str_eq(usual, row->name) ? t : NULL))
        return false;
    if (!cli_given(o, "ema"))
        o->ema = t != NULL ? cli_decimal(a, t->ema) : 0;
    *out = (OptimizerConfig){ .name = row->name,
                              .momentum = o->momentum,
                              .weight_decay = o->weight_decay,
                              .nesterov = o->nesterov,
                              .beta1 = o->beta1,
                              .beta2 = o->beta2,
                              .eps = o->eps,
                              .rho = o->rho,
                              .step_lr = o->step_lr,
                              .clip_norm = o->clip_norm,
                              .clip_value = o->clip_value,
                              .accumulate = (int32_t)o->accumulate,
                              .gather = o->gather,
                              .ema = o->ema,
                              .ema_warm = !o->ema_constant };
    return take_freezes(a, d, o, out);
}
