/* table.c: passes.def and methods.def as tables, and the pages of documentation that follow from them and from
 * recipe.def.
 *
 * Tested by tests/unit/test_manager.c and test_settings.c. */
#include "passes/quantize.h"

/* clang-format off */
const PassInfo pass_table[PASS_COUNT] = {
#define PASS(id, name, flags, steps, phase, function, doc) [PASS_##id] = { name, doc, flags, steps, phase, function },
#include "passes/passes.def"
#undef PASS
};

const Method pass_methods[] = {
#define METHOD(name, quantize, penalty, defaults, reads, doc) { name, doc, defaults, quantize, penalty, reads },
#include "passes/methods.def"
#undef METHOD
};
const int32_t pass_n_methods = DT_COUNT(pass_methods);

/* clang-format on */

static void doc_row(Str *out, const PassInfo *p)
{
    str_printf(out, "| `%s` | ", p->name);
    for (int step = 0; step < STEP_COUNT; step++)
        if (p->steps & (1u << step))
            str_printf(out, "%s ", step_kind_name((StepKind)step));
    str_printf(out, "| %s | %s | %s |\n", p->flags & PASS_REQUIRED ? "yes" : "no", phase_name(p->phase), p->doc);
}

static void doc_passes(Str *out, const char *title, uint32_t test)
{
    str_printf(out, "\n## %s\n\n| pass | steps | required | phase after it | what it does |\n|---|---|---|---|---|\n",
               title);
    for (int i = 0; i < PASS_COUNT; i++)
        if ((pass_table[i].flags & PASS_TEST) == test)
            doc_row(out, &pass_table[i]);
}

void passes_doc(Str *out)
{
    str_add(out, "# Passes\n\n"
                 "Made from `passes/passes.def` and `passes/options.c` by `tools/make-docs`; do not edit by hand.\n");
    doc_passes(out, "The default pipeline, in order", 0);
    str_add(out, "\nA pass that is not required may be left out (`--disable-pass`, `--bisect`): the step computes the "
                 "same numbers, but for the roundings that integer-forward takes away.\n");
    doc_passes(out, "For tests of the manager", PASS_TEST);
    str_add(out, "\n## Flags\n\n```\n");
    opts_help(out, pass_option_defs, pass_n_option_defs);
    str_add(out, "```\n");
}

/* ---- docs/settings.md -------------------------------------------------------------------------------------------- */

/* "a|b" in a table would end its cell. */
static void doc_cell(Str *out, const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c == '|')
            str_add(out, ", ");
        else
            str_addn(out, c, 1);
}

static void doc_values(Str *out, SettingId id)
{
    const SettingInfo *s = &pass_settings[id];
    if (id == SET_METHOD)
        str_add(out, "a method");
    else if (id == SET_GRAIN)
        str_add(out, "tensor, channel, or a number");
    else if (s->kind == SETTING_WORD)
        doc_cell(out, s->choices);
    else
        str_printf(out, "%s, %g to %g",
                   s->kind == SETTING_WHOLE    ? "whole number"
                   : s->kind == SETTING_NUMBER ? "number"
                                               : "schedule",
                   s->min, s->max);
}

static void doc_setting(Str *out, SettingId id)
{
    static const char *const of[] = { "network", "weights", "inputs", "both" }; /* by the bits of roles */
    const SettingInfo       *s = &pass_settings[id];
    str_printf(out, "| `%s` | %s | ", s->key, of[s->roles]);
    doc_values(out, id);
    str_printf(out, " | %s | ", s->fallback);
    doc_cell(out, s->doc);
    str_add(out, " |\n");
}

static void doc_method(Str *out, const Method *m)
{
    str_printf(out, "| `%s` | %s | %s | %s |\n", m->name, m->doc, m->defaults, m->reads);
}

void recipe_doc(Str *out)
{
    Arena scratch = arena_new("doc");
    str_add(
        out,
        "# Methods and settings of recipes\n\n"
        "Made from `passes/methods.def`, `passes/recipe.def` and `passes/recipes` by `tools/make-docs`; do not edit "
        "by hand. [recipes.md](recipes.md) says how they are written.\n\n"
        "## Methods\n\n"
        "*Differs in* are the settings whose defaults the method changes; *reads* are those that it has beyond what "
        "all methods read: saying others for it is a mistake.\n\n"
        "| method | what it does | differs in | reads |\n|---|---|---|---|\n");
    for (int32_t i = 0; i < pass_n_methods; i++)
        doc_method(out, &pass_methods[i]);
    str_add(out, "\n## Settings\n\nA schedule is one number or several: `1,10,100` in equal parts of the run, "
                 "`0.25, 0.5@2, 1@80%` from epoch 2 and from 80 % of the run on.\n\n"
                 "| setting | of | values | default | what it does |\n|---|---|---|---|---|\n");
    for (int i = 0; i < SETTING_COUNT; i++)
        doc_setting(out, (SettingId)i);
    str_add(out,
            "\n## Recipes that are built in\n\n`--recipe NAME` takes one, `detent recipes NAME` prints it with the "
            "sources of its numbers.\n\n| recipe | |\n|---|---|\n");
    for (int32_t i = 0; i < recipe_n_builtins; i++)
        str_printf(out, "| `%s` | %s |\n", recipe_builtins[i].name, recipe_title(&scratch, &recipe_builtins[i]));
    arena_free(&scratch);
}
