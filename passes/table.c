/* table.c: passes.def and methods.def as tables, and the page of documentation that follows from them.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

/* clang-format off */
const PassInfo pass_table[PASS_COUNT] = {
#define PASS(id, name, flags, steps, phase, function, doc) [PASS_##id] = { name, doc, flags, steps, phase, function },
#include "passes/passes.def"
#undef PASS
};

const MethodInfo pass_methods[] = {
#define METHOD(name, quantizes, doc) { name, doc, quantizes },
#include "passes/methods.def"
#undef METHOD
};
const int32_t pass_n_methods = DT_COUNT(pass_methods);

const char *const pass_step_names[STEP_INIT + 1] = { [STEP_TRAIN] = "train", [STEP_EVAL] = "eval", [STEP_INIT] = "init" };
/* clang-format on */

static void doc_row(Str *out, const PassInfo *p)
{
    str_printf(out, "| `%s` | ", p->name);
    for (int step = 0; step < DT_COUNT(pass_step_names); step++)
        if (p->steps & (1u << step))
            str_printf(out, "%s ", pass_step_names[step]);
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
    str_add(
        out,
        "# Passes\n\n"
        "Made from `passes/passes.def`, `passes/methods.def` and `passes/options.c` by `tools/make-docs`; do not edit "
        "by hand.\n");
    doc_passes(out, "The default pipeline, in order", 0);
    str_add(out, "\nA pass that is not required may be left out (`--disable-pass`, `--bisect`): the step computes the "
                 "same numbers, but for the roundings that integer-forward takes away.\n");
    doc_passes(out, "For tests of the manager", PASS_TEST);
    str_add(out, "\n## Methods of quantization\n\n| method | what it does |\n|---|---|\n");
    for (int32_t i = 0; i < pass_n_methods; i++)
        str_printf(out, "| `%s` | %s |\n", pass_methods[i].name, pass_methods[i].doc);
    str_add(out, "\n## Flags\n\n```\n");
    opts_help(out, pass_option_defs, pass_n_option_defs);
    str_add(out, "```\n");
}
