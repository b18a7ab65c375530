/* commands.c: the commands, one row each, and what happens before and after one: options, network, help, exit code.
 *
 * Tested by tests/unit/test_cli.c and tests/cli. */
#include "cli/cli.h"

#include <string.h>

/* clang-format off */
const Command cli_commands[] = {
    { "train",   "NET",             "Train a network on a data set.", OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_RUN | OPTS_PASSES, true, command_train },
    { "eval",    "NET",             "Accuracy of a checkpoint on the test set.", OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_RUN | OPTS_PASSES, true, command_eval },
    { "compile", "NET",             "Compile a step; say what it consists of and what it costs.", OPTS_COMMON | OPTS_RECIPE | OPTS_RUN | OPTS_PASSES, true, command_compile },
    { "dump",    "NET",             "Print the graph of a step, after every pass if asked.", OPTS_COMMON | OPTS_RECIPE | OPTS_PASSES, true, command_dump },
    { "check",   "NET",             "Check gradients, and every generated kernel against the interpreter.", OPTS_COMMON | OPTS_RECIPE | OPTS_RUN | OPTS_PASSES, true, command_check },
    { "bench",   "NET",             "Time a training step: float and quantized, with ratios from one run.", OPTS_COMMON | OPTS_RECIPE | OPTS_RUN | OPTS_BENCH | OPTS_PASSES, true, command_bench },
    { "info",    "NET",             "Layers, shapes, params, multiplications, and which quantizer is where.", OPTS_COMMON | OPTS_RECIPE, true, command_info },
    { "doctor",  "",                "What this machine has, and what is missing.", OPTS_COMMON | OPTS_RUN, false, command_doctor },
};
/* clang-format on */
const int32_t cli_n_commands = DT_COUNT(cli_commands);

static void cli_usage(FILE *out)
{
    fprintf(out, "detent " DT_VERSION ": quantization-aware training, compiled\n\nusage: detent COMMAND ... [options]\n\n");
    for (int32_t i = 0; i < cli_n_commands; i++)
        fprintf(out, "  %-8s %-6s %s\n", cli_commands[i].name, cli_commands[i].args, cli_commands[i].doc);
    fprintf(out, "\nNET is a network that is built in (");
    for (int32_t i = 0; i < frontend_n_models; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : "", frontend_models[i]->name);
    fprintf(out, ") or a .c file.\n`detent COMMAND --help` lists the options; detent-opt works on IR text.\n");
}

static void cli_command_help(const Command *c)
{
    Arena a = arena_new("help");
    Str   s = str_new(&a);
    cli_options_help(&s, c->groups);
    printf("usage: detent %s %s [options]\n\n%s\n\n%s", c->name, c->args, c->doc, s.s);
    arena_free(&a);
}

static const Command *cli_find_command(Arena *a, Diag *d, const char *name)
{
    const char *names[DT_COUNT(cli_commands)];
    for (int32_t i = 0; i < cli_n_commands; i++) {
        names[i] = cli_commands[i].name;
        if (str_eq(names[i], name))
            return &cli_commands[i];
    }
    diag_error(d, LOC_NONE, "detent: expected a command, found '%s'", name);
    const char *near = str_nearest(a, name, names, cli_n_commands);
    if (near[0] != 0)
        diag_help(d, "did you mean %s?", near);
    diag_help(d, "`detent --help` lists the commands");
    return NULL;
}

static int cli_run_command(Session *s, const Command *c, const StrList *rest, const DtModel *model)
{
    int32_t words = c->takes_net && model == NULL ? 1 : 0;
    if (s->opt.resume != NULL && c->run == command_train && rest->len == 0)
        return command_train(s, rest);
    if (rest->len != words) {
        if (rest->len > words)
            diag_error(&s->diag, LOC_NONE, "detent %s: expected %s, found '%s' too", c->name, words > 0 ? "one network" : "no words", rest->at[words]);
        else
            diag_error(&s->diag, LOC_NONE, "detent %s: expected a network: a name such as mnist, or a .c file", c->name);
        return EXIT_USAGE;
    }
    if (!c->takes_net)
        return c->run(s, rest);
    if (c->run == command_check && s->opt.batch <= 0)
        s->opt.batch = CHECK_BATCH;
    const DtModel *m = model != NULL ? model : frontend_find(&s->arena, &s->diag, rest->at[0]);
    if (m == NULL || !session_open(s, m))
        return EXIT_MISTAKE;
    return c->run(s, rest);
}

int cli_run(int argc, char **argv, const DtModel *model)
{
    Session s = { .arena = arena_new("session"), .diag = diag_new(stderr), .out = stdout };
    StrList rest = { 0 };
    int     code = EXIT_USAGE;
    bool    help = argc < 2 || str_eq(argv[1], "--help") || str_eq(argv[1], "-h") || str_eq(argv[1], "help");
    if (help) {
        cli_usage(argc < 2 ? stderr : stdout);
        code = argc < 2 ? EXIT_USAGE : EXIT_OK;
    } else if (str_eq(argv[1], "--version")) {
        printf("detent " DT_VERSION "\n");
        code = EXIT_OK;
    } else {
        const Command *c = cli_find_command(&s.arena, &s.diag, argv[1]);
        if (c != NULL && cli_parse(&s.arena, &s.diag, c->groups, argc - 2, argv + 2, &s.opt, &rest)) {
            log_set_level(s.opt.quiet ? LOG_QUIET : s.opt.verbose ? LOG_DEBUG : LOG_INFO);
            if (s.opt.help)
                cli_command_help(c), code = EXIT_OK;
            else
                code = cli_run_command(&s, c, &rest, model);
        }
    }
    session_close(&s);
    return code;
}

int dt_main(int argc, char **argv, const DtModel *model)
{
    return cli_run(argc, argv, model);
}
