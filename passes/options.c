/* options.c: the flags of the pass manager, one row a field of PassOptions. `detent` and detent-opt put this table
 * beside their own, so every flag is spelled the same everywhere.
 *
 * Tested by tests/unit/test_manager.c. */
#include "passes/pass_impl.h"

#include <stdlib.h>

#define AT_(field) offsetof(PassOptions, field)

/* clang-format off */
const OptDef pass_option_defs[] = {
    { OPT_LIST,   "print-ir-before",       "P[,P]", NULL, NULL, 0, 0, AT_(print_before), "Print the graph before these passes; P:2 is the second run of P." },
    { OPT_LIST,   "print-ir-after",        "P[,P]", NULL, NULL, 0, 0, AT_(print_after), "Print the graph after these passes." },
    { OPT_FLAG,   "print-ir-after-all",    NULL,    NULL, NULL, 0, 0, AT_(print_after_all), "Print the graph after every pass." },
    { OPT_FLAG,   "print-ir-after-change", NULL,    NULL, NULL, 0, 0, AT_(print_after_change), "Print the graph after every pass that changed it." },
    { OPT_FLAG,   "print-ir-diff",         NULL,    NULL, NULL, 0, 0, AT_(print_diff), "Print what a pass changed as a unified diff instead of the whole graph; alone: of every pass." },
    { OPT_STRING, "print-ir-dir",          "DIR",   NULL, NULL, 0, 0, AT_(print_dir), "Write DIR/00_frontend.dtir, DIR/01_canonicalize.dtir, ... and the link DIR/latest." },
    { OPT_STRING, "print-ir-scope",        "GLOB",  NULL, NULL, 0, 0, AT_(print_scope), "Print only values under a scope such as 's1.b0'." },
    { OPT_LIST,   "passes",                "LIST",  NULL, NULL, 0, 0, AT_(passes), "Run exactly these passes, in this order." },
    { OPT_LIST,   "disable-pass",          "P[,P]", NULL, NULL, 0, 0, AT_(disable), "Leave out these passes (those that are not required)." },
    { OPT_STRING, "stop-after",            "P",     NULL, NULL, 0, 0, AT_(stop_after), "End the pipeline after this pass." },
    { OPT_FLAG,   "print-pipeline",        NULL,    NULL, NULL, 0, 0, AT_(print_pipeline), "Print the passes that run, as --passes takes them." },
    { OPT_FLAG,   "pass-stats",            NULL,    NULL, NULL, 0, 0, AT_(pass_stats), "Print what each pass counted." },
    { OPT_FLAG,   "pass-timing",           NULL,    NULL, NULL, 0, 0, AT_(pass_timing), "Print milliseconds and number of values for each pass." },
    { OPT_CHOICE, "verify",                "WHEN",  "changed|all|off", "changed", 0, 0, AT_(verify), "Check the graph after passes that changed it, after all, or never." },
    { OPT_FLAG,   "verify-roundtrip",      NULL,    NULL, NULL, 0, 0, AT_(verify_roundtrip), "Print, parse and print again after each pass; the texts must be equal." },
    { OPT_FLAG,   "verify-changed",        NULL,    NULL, NULL, 0, 0, AT_(verify_changed), "Hash the graph around each pass; whether it changed must be what the pass says." },
    { OPT_INT,    "bisect",                "N",     NULL, "-1", -1, 1e6, AT_(bisect), "Run only the first N passes that are not required; -1: all." },
    { OPT_STRING, "bisect-run",            "CMD",   NULL, NULL, 0, 0, AT_(bisect_run), "Find the first pass with which CMD fails; CMD gets N as {N} and as DETENT_BISECT." },
    { OPT_STRING, "crash-dir",             "DIR",   NULL, NULL, 0, 0, AT_(crash_dir), "Where a bug of the compiler leaves its reproducer; by default a new directory in $TMPDIR." },
    { OPT_STRING, "explain-fusion",        "SCOPE", "|",  NULL, 0, 0, AT_(explain_fusion), "Say for each edge whether and why it was fused; SCOPE limits it." },
    { OPT_STRING, "explain-forward",       "SCOPE", "|",  NULL, 0, 0, AT_(explain_forward), "Say for each forward product of quantized layers whether it is made of integer codes and why (--forward); SCOPE limits it." },
    { OPT_FLAG,   "print-plan",            NULL,    NULL, NULL, 0, 0, AT_(print_plan), "Print the memory plan: bytes, lifetime and place of each value; the peak and who makes it." },
    { OPT_STRING, "dump-kernels",          "DIR",   NULL, NULL, 0, 0, AT_(dump_kernels), "Write each kernel to DIR: NAME.kernel, NAME.ll, NAME.s." },
};
/* clang-format on */
const int32_t pass_n_option_defs = DT_COUNT(pass_option_defs);

const char   *pass_options_explain(const PassOptions *opt)
{
    return opt->explain_fusion ? opt->explain_fusion : opt->explain_forward;
}

static void print_value(Str *out, const OptDef *o, const void *field)
{
    const char *const *text = (const char *const *)field;
    switch (o->kind) {
    case OPT_FLAG:
        if (*(const bool *)field)
            str_printf(out, " --%s", o->name);
        break;
    case OPT_INT:
        if (*(const int64_t *)field != (o->fallback ? strtoll(o->fallback, NULL, 10) : 0))
            str_printf(out, " --%s=%lld", o->name, (long long)*(const int64_t *)field);
        break;
    case OPT_FLOAT:
        if (*(const double *)field != (o->fallback ? strtod(o->fallback, NULL) : 0))
            str_printf(out, " --%s=%.17g", o->name, *(const double *)field);
        break;
    case OPT_STRING:
    case OPT_CHOICE:
        if (*text && !str_eq(*text, o->fallback))
            str_printf(out, " --%s=%s", o->name, *text);
        break;
    case OPT_LIST:
    case OPT_TEXTS:
        for (int32_t i = 0; i < ((const StrList *)field)->len; i++)
            str_printf(out, " --%s=%s", o->name, ((const StrList *)field)->at[i]);
        break;
    }
}

void pass_options_print(Str *out, const PassOptions *opt)
{
    for (int32_t i = 0; i < pass_n_option_defs; i++)
        print_value(out, &pass_option_defs[i], (const char *)opt + pass_option_defs[i].offset);
}
