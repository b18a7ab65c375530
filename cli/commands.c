/* commands.c: the commands, one row each, and what happens before and after one: options, network, help, exit code.
 *
 * Tested by tests/unit/test_cli.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
const Command cli_commands[] = {
    { "train",   "NET",             "Train a network on a data set.", OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_MEMORY | OPTS_TARGET | OPTS_RUN | OPTS_PASSES, true, command_train },
    { "eval",    "NET",             "Accuracy of a checkpoint on the test set.", OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_TARGET | OPTS_RUN | OPTS_PASSES, true, command_eval },
    { "compile", "NET",             "Compile a step; say what it consists of and what it costs.", OPTS_COMMON | OPTS_RECIPE | OPTS_MEMORY | OPTS_TARGET | OPTS_RUN | OPTS_PASSES, true, command_compile },
    { "dump",    "NET",             "Print the graph of a step, after every pass if asked.", OPTS_COMMON | OPTS_RECIPE | OPTS_MEMORY | OPTS_TARGET | OPTS_PASSES, true, command_dump },
    { "check",   "NET",             "Check gradients, and every generated kernel against the interpreter.", OPTS_COMMON | OPTS_RECIPE | OPTS_TARGET | OPTS_RUN | OPTS_PASSES, true, command_check },
    { "bench",   "NET",             "Time steps of training and of evaluation, float and at 8, 4 and 2 bits: images a second, memory, ratios from one run.", OPTS_COMMON | OPTS_RECIPE | OPTS_MEMORY | OPTS_TARGET | OPTS_RUN | OPTS_BENCH | OPTS_PASSES, true, command_bench },
    { "sensitivity", "NET",         "Quantize one layer at a time: which ones cost accuracy, and which to leave in float.", OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_TARGET | OPTS_RUN | OPTS_SENSITIVITY | OPTS_PASSES, true, command_sensitivity },
    { "plan",    "NET",             "Memory that training takes, by kind, of all methods or of one, and the largest batch that fits; nothing is run.", OPTS_COMMON | OPTS_RECIPE | OPTS_PLAN | OPTS_MEMORY | OPTS_TARGET | OPTS_RUN, true, command_plan },
    { "predict", "NET PICTURE...",  "The likeliest classes of pictures; or pictures without their noise, of a network that restores.", OPTS_COMMON | OPTS_RECIPE | OPTS_PREDICT | OPTS_TARGET | OPTS_RUN, true, command_predict },
    { "report",  "RUN...",          "One HTML page about runs: table, curves, quantizers, pictures. It needs no other file.", OPTS_COMMON | OPTS_REPORT, false, command_report },
    { "info",    "NET",             "Layers, shapes, params, multiplications, and which quantizer is where.", OPTS_COMMON | OPTS_RECIPE, true, command_info },
    { "diff",    "A B",             "Compare two checkpoints, tensor by tensor: files, or directories of runs. With --against: a network on two backends, layer by layer.", OPTS_COMMON | OPTS_RECIPE | OPTS_DIFF | OPTS_TARGET | OPTS_RUN, false, command_diff },
    { "import",  "NET FILE",        "Weights of a PyTorch network, a state dict in safetensors, become a checkpoint.", OPTS_COMMON | OPTS_IMPORT, true, command_import },
    { "recipes", "[NAME]",          "Recipes that are built in; with a name, the text of one, to copy and change.", OPTS_COMMON, false, command_recipes },
    { "doctor",  "",                "What this machine has, and what is missing.", OPTS_COMMON | OPTS_TARGET | OPTS_RUN, false, command_doctor },
};
/* clang-format on */
const int32_t cli_n_commands = DT_COUNT(cli_commands);

/* A program of one network is not told its name. */
static const char *cli_args_text(const Command *c, const DtModel *model)
{
    static const char net[] = "NET ";
    if (model == NULL || !c->takes_net)
        return c->args;
    return strncmp(c->args, net, sizeof net - 1) == 0 ? c->args + sizeof net - 1 : "";
}

static void cli_usage(FILE *out, const char *program, const DtModel *model)
{
    fprintf(out, "Detent " DT_VERSION ": quantization-aware training, compiled\n\n");
    if (model != NULL)
        fprintf(out, "This program holds the network %s: %s.\n\n", model->name, model->doc);
    fprintf(out, "usage: %s COMMAND %s[options]\n\n", program, model != NULL ? "" : "... ");
    for (int32_t i = 0; i < cli_n_commands; i++)
        fprintf(out, "  %-11s %-14s %s\n", cli_commands[i].name, cli_args_text(&cli_commands[i], model),
                cli_commands[i].doc);
    if (model == NULL) {
        fprintf(out, "\nNET is a .c file or a network that is built in:");
        for (int32_t i = 0; i < frontend_n_models; i++)
            fprintf(out, "%s%s", i % 5 == 0 ? i > 0 ? ",\n  " : "\n  " : ", ", frontend_models[i]->name);
        fprintf(out, "\n");
    }
    fprintf(out, "\n`%s COMMAND --help` lists the options; detent-opt works on IR text.\n", program);
}

static void cli_command_help(const Command *c, const char *program, const DtModel *model)
{
    Arena       a = arena_new("help");
    Str         s = str_new(&a);
    const char *args = cli_args_text(c, model);
    cli_options_help(&s, c->groups);
    printf("usage: %s %s%s%s [options]\n\n%s\n\n%s", program, c->name, args[0] != 0 ? " " : "", args, c->doc, s.s);
    arena_free(&a);
}

static const Command *cli_find_command(Diag *d, const char *program, const char *name)
{
    const char *names[DT_COUNT(cli_commands)];
    for (int32_t i = 0; i < cli_n_commands; i++) {
        names[i] = cli_commands[i].name;
        if (str_eq(names[i], name))
            return &cli_commands[i];
    }
    diag_error(d, LOC_NONE, "%s: expected a command, found '%s'", program, name);
    diag_help_nearest(d, name, names, cli_n_commands, NULL);
    diag_help(d, "`%s --help` lists the commands", program);
    return NULL;
}

/* A resumed run is what args.json says it was. `net` becomes its network. */
static bool cli_resume(Session *s, const char **net)
{
    RunArgs args = { 0 };
    if (!rundir_read_args(&s->arena, &s->diag, s->opt.resume, &args) ||
        !cli_args_apply(&s->arena, &s->diag, &args, &s->opt, net))
        return false;
    if (*net == NULL)
        diag_error(&s->diag, LOC_NONE, "--resume: expected the network's name in %s/" RUN_ARGS ", found none",
                   s->opt.resume);
    return *net != NULL;
}

/* A network of a file is known by its weights alone: it may have been moved or renamed. */
static bool cli_same_net(Session *s, const char *net, const DtModel *m)
{
    for (int32_t i = 0; i < frontend_n_models; i++)
        if (str_eq(net, frontend_models[i]->name) && !str_eq(net, m->name)) {
            diag_error(&s->diag, LOC_NONE, "--resume: expected a run of %s, found one of %s in %s", m->name, net,
                       s->opt.resume);
            diag_help(&s->diag, "leave the network out: the run knows it");
            return false;
        }
    return true;
}

/* NULL: reported. */
static const DtModel *cli_find_net(Session *s, const Command *c, const char *word)
{
    size_t len = strlen(word);
    if (len > 0 && (strchr(word, '/') == NULL || (len > 2 && str_eq(word + len - 2, ".c"))))
        return frontend_find(&s->arena, &s->diag, word);
    diag_error(&s->diag, LOC_NONE, "%s %s: expected a network, a name such as mnist or a .c file, found '%s'",
               s->program, c->name, word);
    return NULL;
}

/* An option that other commands have is better told by their names than by options that are spelled alike. */
static bool cli_check_options(Session *s, const Command *c, int argc, char **argv)
{
    for (int i = 2; i < argc && !str_eq(argv[i], "--"); i++) {
        if (strncmp(argv[i], "--", 2) != 0 || cli_takes(&s->arena, c->groups, argv[i]))
            continue;
        Str others = str_new(&s->arena);
        for (int32_t k = 0; k < cli_n_commands; k++)
            if (cli_takes(&s->arena, cli_commands[k].groups, argv[i]))
                str_printf(&others, "%s%s", others.len > 0 ? ", " : "", cli_commands[k].name);
        if (others.len == 0)
            continue; /* told by the parser */
        diag_error(&s->diag, LOC_NONE, "%s %s: expected options of %s, found '%s'", s->program, c->name, c->name,
                   argv[i]);
        diag_help(&s->diag, "the commands that have it: %s", others.s);
        return false;
    }
    return true;
}

static bool cli_check_words(Session *s, const Command *c, const StrList *rest, int32_t least, int32_t most)
{
    if (rest->len > most)
        diag_error(&s->diag, LOC_NONE, "%s %s: expected %s, found '%s' too", s->program, c->name,
                   most > 1   ? "a network and a file"
                   : most > 0 ? "one network"
                              : "only options",
                   rest->at[most]);
    else if (rest->len < least)
        diag_error(&s->diag, LOC_NONE, "%s %s: expected a network, found none: a name such as mnist, or a .c file",
                   s->program, c->name);
    return rest->len >= least && rest->len <= most;
}

/* "NET PICTURE..." takes any number, "NET FILE" one more than the network. */
static int32_t cli_most_words(const Command *c, int32_t words)
{
    if (strstr(c->args, "...") != NULL)
        return INT32_MAX;
    return words + (strchr(c->args, ' ') != NULL ? 1 : 0);
}

static int cli_run_command(Session *s, const Command *c, const StrList *rest, const DtModel *model)
{
    const PassOptions *pass = &s->opt.pass;
    bool               resumes = s->opt.resume != NULL && (c->groups & OPTS_TRAIN) != 0;
    int32_t            words = c->takes_net && model == NULL ? 1 : 0;
    const char        *net = NULL;
    s->model = model;
    if (!c->takes_net && c->args[0] != 0) /* words of its own, which it checks itself */
        return c->run(s, rest);
    if (!cli_check_words(s, c, rest, resumes ? 0 : words, cli_most_words(c, words)))
        return EXIT_USAGE;
    if (!c->takes_net)
        return c->run(s, rest);
    if (pass->bisect_run != NULL) /* the command that it runs does the work */
        return passes_bisect_run(&s->arena, &s->diag, pass, session_step(&s->opt), s->out) >= 0 ? EXIT_OK
                                                                                                : EXIT_MISTAKE;
    if (c->run == command_check && s->opt.batch <= 0)
        s->opt.batch = CHECK_BATCH;
    if (resumes && !cli_resume(s, &net))
        return EXIT_MISTAKE;
    const DtModel *m = model != NULL ? model : cli_find_net(s, c, rest->len > 0 ? rest->at[0] : net);
    if (m == NULL || (resumes && !cli_same_net(s, net, m)))
        return EXIT_MISTAKE;
    if (c->run == command_plan || c->run == command_bench) { /* many recipes: they open a session for each */
        s->model = m;
        return c->run(s, rest);
    }
    return session_open(s, m) ? c->run(s, rest) : EXIT_USAGE;
}

/* How this program was called, without its directory. */
static const char *cli_program(int argc, char **argv, const DtModel *model)
{
    if (model == NULL || argc < 1)
        return "detent";
    const char *slash = strrchr(argv[0], '/');
    return slash != NULL ? slash + 1 : argv[0];
}

static bool cli_is_help(const char *word)
{
    return str_eq(word, "--help") || str_eq(word, "-h") || str_eq(word, "help");
}

/* `detent help train` and `detent train -h` are `detent train --help`. */
static int cli_command(Session *s, int argc, char **argv, const DtModel *model)
{
    StrList        rest = { 0 };
    bool           help = argc > 2 && str_eq(argv[1], "help");
    const Command *c = cli_find_command(&s->diag, s->program, argv[help ? 2 : 1]);
    for (int i = 2; i < argc && !str_eq(argv[i], "--"); i++) {
        static char out[] = "--out";
        help |= str_eq(argv[i], "-h");
        if (c != NULL && str_eq(argv[i], "-o") && cli_takes(&s->arena, c->groups, out))
            argv[i] = out;
    }
    if (c != NULL && help) {
        cli_command_help(c, s->program, model);
        return EXIT_OK;
    }
    if (c == NULL || !cli_check_options(s, c, argc, argv) ||
        !cli_parse(&s->arena, &s->diag, c->groups, argc - 2, argv + 2, &s->opt, &rest))
        return EXIT_USAGE;
    log_set_level(s->opt.quiet ? LOG_QUIET : s->opt.verbose ? LOG_DEBUG : LOG_INFO);
    if (!s->opt.help)
        return cli_run_command(s, c, &rest, model);
    cli_command_help(c, s->program, model);
    return EXIT_OK;
}

int cli_run(int argc, char **argv, const DtModel *model)
{
    Session s = { .arena = arena_new("session"),
                  .diag = diag_new(stderr),
                  .program = cli_program(argc, argv, model),
                  .out = stdout };
    int     code = EXIT_OK;
    DT_ASSERT(ir_check_tables(&s.diag), "the table of ops has a hole");
    if (argc < 2) {
        cli_usage(stderr, s.program, model);
        code = EXIT_USAGE;
    } else if (argc == 2 && cli_is_help(argv[1])) {
        cli_usage(stdout, s.program, model);
    } else if (str_eq(argv[1], "--version")) {
        printf("detent " DT_VERSION "\n");
    } else {
        code = cli_command(&s, argc, argv, model);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        diag_error(&s.diag, LOC_NONE, "%s: cannot write to stdout: %s", s.program, strerror(errno));
        code = code == EXIT_OK ? EXIT_MISTAKE : code;
    }
    session_close(&s);
    return code;
}

int dt_main(int argc, char **argv, const DtModel *model)
{
    return cli_run(argc, argv, model);
}
