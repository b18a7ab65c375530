/* opt.c: detent-opt: IR text in, passes, IR text out.
 *
 *   detent-opt [FILE] --passes=canonicalize,simplify [-o FILE]     the graph after these passes
 *   detent-opt [FILE] --passes=default --step=eval                 ... after the pipeline of a step
 *   detent-opt [FILE]                                              the graph, checked and printed
 *   detent-opt DIR/reproducer.dtir                                 what its first line, // detent-opt: ..., says
 *   detent-opt [FILE.kernel] --run                                 interprets kernels on random numbers
 *   detent-opt --ops-doc, --passes-doc, --settings-doc             docs/ops.md and so on (tools/make-docs)
 *
 * FILE is stdin when it is missing or "-". The result goes to stdout or to -o; what flags such as --print-ir-after show
 * goes to stderr, so that output can always be piped into the next detent-opt.
 *
 * Tested by tests/unit/test_opt.c and tests/golden. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static const char replay_mark[] = "// detent-opt:";

static const char usage[] =
    "usage: detent-opt [FILE] [--passes=LIST] [options] [-o FILE]\n\n"
    "Runs passes over the text of a graph and prints the result. Without --passes the graph is checked and printed;\n"
    "--passes=default is the pipeline of --step. A file whose first line is '// detent-opt: ...' (a reproducer of a "
    "bug)\n"
    "brings its own options; those on the command line come after them, and --passes there replaces its passes.\n\n"
    "  -o FILE                     Write the result to FILE.\n"
    "  --run                       FILE holds kernels: interpret each on random numbers and print what it stores.\n"
    "  --ops-doc                   Print the table of ops, docs/ops.md.\n"
    "  --passes-doc                Print the table of passes and their flags, docs/passes.md.\n"
    "  --settings-doc              Print the tables of recipes: methods, settings, recipes by name, "
    "docs/settings.md.\n";

/* One run of detent-opt. */
typedef struct Opt {
    Arena       arena;
    Diag        diag;
    CliOptions  opt;
    const char *in, *out; /* NULL: stdin, stdout */
    bool        run_kernels, help, version;
    void (*doc)(Str *out); /* --ops-doc, --passes-doc, --settings-doc */
    StrList words;         /* the command line without what is above */
} Opt;

/* ---- Words ------------------------------------------------------------------------------------------------------ */

/* Takes out the words that only detent-opt has. */
static bool opt_own_words(Opt *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (str_eq(argv[i], "-o")) {
            if (i + 1 == argc) {
                diag_error(&o->diag, LOC_NONE, "-o: expected a file, found the end of the command line");
                return false;
            }
            o->out = argv[++i];
        } else if (str_eq(argv[i], "--run")) {
            o->run_kernels = true;
        } else if (str_eq(argv[i], "--help") || str_eq(argv[i], "-h")) {
            o->help = true;
        } else if (str_eq(argv[i], "--version")) {
            o->version = true;
        } else if (str_eq(argv[i], "--ops-doc")) {
            o->doc = ir_ops_doc;
        } else if (str_eq(argv[i], "--passes-doc")) {
            o->doc = passes_doc;
        } else if (str_eq(argv[i], "--settings-doc")) {
            o->doc = recipe_doc;
        } else {
            vec_push(&o->arena, &o->words, argv[i]);
        }
    }
    return true;
}

static bool opt_is_passes(const char *word)
{
    return str_eq(word, "--passes") || strncmp(word, "--passes=", strlen("--passes=")) == 0;
}

/* The words of a reproducer's first line. */
static StrList opt_replay_words(Opt *o, const char *file, const char *text)
{
    Arena  *a = &o->arena;
    StrList words = { 0 };
    if (strncmp(text, replay_mark, strlen(replay_mark)) != 0)
        return words;
    const char *at = text + strlen(replay_mark);
    if (!opts_words(a, arena_strndup(a, at, strcspn(at, "\n")), &words))
        diag_warning(&o->diag, (Loc){ file, 1 }, "detent-opt: a quote is not closed; the words before it hold");
    return words;
}

/* Options of the text first, those of the command line behind them: later ones win. */
static bool opt_parse(Opt *o, const StrList *replay, StrList *rest)
{
    bool passes = false;
    for (int32_t i = 0; i < o->words.len; i++)
        passes |= opt_is_passes(o->words.at[i]);
    char **argv = ARENA_ARRAY(&o->arena, char *, replay->len + o->words.len + 1);
    int    argc = 0;
    for (int32_t i = 0; i < replay->len; i++)
        if (!passes || !opt_is_passes(replay->at[i]))
            argv[argc++] = arena_strdup(&o->arena, replay->at[i]);
    for (int32_t i = 0; i < o->words.len; i++)
        argv[argc++] = arena_strdup(&o->arena, o->words.at[i]);
    return cli_parse(&o->arena, &o->diag, OPTS_COMMON | OPTS_RECIPE | OPTS_TARGET | OPTS_MEMORY | OPTS_PASSES, argc,
                     argv, &o->opt, rest);
}

static char *opt_read_stdin(Arena *a)
{
    Str    s = str_new(a);
    char   block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof(block), stdin)) > 0)
        str_addn(&s, block, n);
    return s.s;
}

/* ---- Graphs ------------------------------------------------------------------------------------------------------ */

/* "default" stands for the pipeline of the step. Without --passes no other flag can ask for one by accident. */
static bool opt_pipeline(Opt *o, bool *runs)
{
    PassOptions *p = &o->opt.pass;
    *runs = p->passes.len > 0;
    if (p->passes.len == 1 && str_eq(p->passes.at[0], "default"))
        p->passes.len = 0;
    if (*runs || (!p->stop_after && !p->disable.len && p->bisect < 0 && !p->bisect_run))
        return true;
    diag_error(&o->diag, LOC_NONE,
               "detent-opt: --stop-after, --disable-pass and --bisect need a pipeline, and none is given");
    diag_help(&o->diag, "add --passes=LIST or --passes=default");
    return false;
}

static bool opt_recipe(Opt *o, Recipe *out, Moment *moment)
{
    cli_recipe_defaults(&o->opt);
    return cli_recipe(&o->arena, &o->diag, &o->opt, out) && cli_moment(&o->diag, &o->opt, moment);
}

static bool opt_passes(Opt *o, Graph *g)
{
    const CliOptions *c = &o->opt;
    if (!cli_read_recipe(&o->arena, &o->diag, &o->opt))
        return false;
    OptimizerConfig optimizer;
    if (!cli_optimizer(&o->arena, &o->diag, &o->opt, NULL, &optimizer))
        return false;
    Recipe      recipe;
    Arena       scratch = arena_new("pass");
    Str         explain = str_new(&o->arena);
    const char *scope = pass_options_explain(&c->pass);
    PassCtx     ctx = { .scratch = &scratch,
                        .d = &o->diag,
                        .step = session_step(c),
                        .recipe = &recipe,
                        .clamped = c->clamped,
                        .optimizer = &optimizer,
                        .use_averages = c->averaged,
                        .target = cli_target(c->backend),
                        .bf16_backward = str_eq(c->backward, "bf16"),
                        .int8_forward = !str_eq(c->forward, "float"),
                        .memory = c->memory_bytes,
                        .explain = scope ? &explain : NULL,
                        .explain_scope = scope && scope[0] ? scope : NULL,
                        .keep = &o->arena };
    bool        ok = opt_recipe(o, &recipe, &ctx.moment) && passes_run(&ctx, g, &c->pass, stderr, NULL);
    fputs(explain.s, stderr);
    arena_free(&scratch);
    return ok;
}

/* A graph that no pass touches may be of any phase. When it is right in none, it is told by the one that it is nearest.
 */
static bool opt_verify(Opt *o, const Graph *g)
{
    int32_t fewest = INT32_MAX;
    Phase   nearest = PHASE_FRONTEND;
    for (int p = PHASE_LOWERED; p >= PHASE_FRONTEND; p--) {
        Diag    quiet = diag_new(NULL);
        bool    ok = ir_verify(g, (Phase)p, &quiet);
        int32_t errors = quiet.errors;
        diag_free(&quiet);
        if (ok)
            return true;
        if (errors < fewest) {
            fewest = errors;
            nearest = (Phase)p;
        }
    }
    return ir_verify(g, nearest, &o->diag);
}

static int opt_write(Opt *o, const Str *text)
{
    if (o->out)
        return file_write_atomic(&o->diag, o->out, text->s, text->len) ? EXIT_OK : EXIT_MISTAKE;
    bool ok = fwrite(text->s, 1, text->len, stdout) == text->len && fflush(stdout) == 0;
    if (!ok)
        diag_error(&o->diag, LOC_NONE, "detent-opt: cannot write to stdout");
    return ok ? EXIT_OK : EXIT_MISTAKE;
}

static int opt_graph(Opt *o, const char *file, const char *text)
{
    bool runs = false;
    if (!opt_pipeline(o, &runs))
        return EXIT_USAGE;
    if (o->opt.pass.bisect_run)
        return passes_bisect_run(&o->arena, &o->diag, &o->opt.pass, session_step(&o->opt), stderr) < 0 ? EXIT_MISTAKE
                                                                                                       : EXIT_OK;
    Graph *g = ir_parse(&o->arena, &o->diag, file, text);
    if (!g || !(runs ? opt_passes(o, g) : opt_verify(o, g)))
        return EXIT_MISTAKE;
    Str result = str_new(&o->arena);
    ir_print(&result, g);
    return opt_write(o, &result);
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* Floats N(0, 1). Integers 0 or 1: whatever they index, be it labels, has at least two elements. */
static void opt_fill(const KBuf *b, int32_t index, uint64_t seed, void *mem)
{
    for (int64_t i = 0; i < b->elems; i++)
        elem_set(b->dtype, mem, i,
                 dtype_is_float(b->dtype) ? (double)rng_normal(seed, (uint32_t)index, 0, (uint64_t)i)
                                          : (double)(rng_u32(seed, (uint32_t)index, 0, (uint64_t)i) & 1));
}

static void opt_show(Str *out, const KBuf *b, const void *mem)
{
    enum { SHOWN = 8 };
    char hex[33];
    hash_hex(hash_bytes(mem, (size_t)dtype_bytes(b->dtype, b->elems)), hex);
    str_printf(out, "  %s : %s[%lld] %s", b->name, dtype_name(b->dtype), (long long)b->elems, hex);
    for (int64_t i = 0; i < b->elems && i < SHOWN; i++) {
        str_add(out, " ");
        str_add_f32(out, (float)elem_get(b->dtype, mem, i));
    }
    str_add(out, b->elems > SHOWN ? " ...\n" : "\n");
}

static void opt_run_kernel(Opt *o, Str *out, const Kernel *k)
{
    Arena        *a = &o->arena;
    const Kernel *plain = kernel_expand(a, k);
    void        **bufs = ARENA_ARRAY(a, void *, k->bufs.len + 1);
    for (int32_t i = 0; i < k->bufs.len; i++) {
        bufs[i] = arena_alloc(a, (size_t)dtype_bytes(k->bufs.at[i].dtype, k->bufs.at[i].elems) + 1);
        if (k->bufs.at[i].mode != BUF_OUT)
            opt_fill(&k->bufs.at[i], i, o->opt.seed, bufs[i]);
    }
    kernel_interp(plain, bufs);
    str_printf(out, "@%s\n", k->name);
    for (int32_t i = 0; i < k->bufs.len; i++)
        if (k->bufs.at[i].mode != BUF_IN)
            opt_show(out, &k->bufs.at[i], bufs[i]);
}

/* The interpreter checks every access; with a kernel that a person wrote, that is the person's mistake. */
static void opt_kernel_stopped(void *user, const char *message)
{
    (void)message; /* dt_bug printed it */
    diag_error(user, LOC_NONE, "detent-opt: the kernel was stopped there");
    exit(EXIT_MISTAKE);
}

static int opt_kernels(Opt *o, const char *file, const char *text)
{
    Str out = str_new(&o->arena);
    for (size_t pos = 0; pos == 0 || text[pos + strspn(text + pos, " \t\r\n")];) {
        Kernel *k = kernel_parse(&o->arena, &o->diag, file, text, &pos);
        if (!k || !kernel_verify(k, &o->diag))
            return EXIT_MISTAKE;
        dt_set_bug_hook(opt_kernel_stopped, &o->diag);
        opt_run_kernel(o, &out, k);
        dt_set_bug_hook(NULL, NULL);
    }
    return opt_write(o, &out);
}

/* ---- The program ------------------------------------------------------------------------------------------------- */

static int opt_doc(Opt *o)
{
    Str s = str_new(&o->arena);
    o->doc(&s);
    return opt_write(o, &s);
}

static int opt_help(Opt *o)
{
    Str s = str_new(&o->arena);
    str_add(&s, usage);
    cli_options_help(&s, OPTS_COMMON | OPTS_RECIPE | OPTS_TARGET | OPTS_MEMORY | OPTS_PASSES);
    return opt_write(o, &s);
}

/* The first word that is no option names the input; options may name it only after the text was read. */
static int opt_main(Opt *o, int argc, char **argv)
{
    StrList none = { 0 }, rest;
    if (!opt_own_words(o, argc, argv))
        return EXIT_USAGE;
    if (o->help)
        return opt_help(o);
    if (o->doc)
        return opt_doc(o);
    if (o->version)
        return printf("detent-opt " DT_VERSION "\n") > 0 ? EXIT_OK : EXIT_MISTAKE;
    if (!opt_parse(o, &none, &rest))
        return EXIT_USAGE;
    if (rest.len > 1) {
        diag_error(&o->diag, LOC_NONE, "detent-opt: expected one file, found '%s' too", rest.at[1]);
        return EXIT_USAGE;
    }
    o->in = rest.len && !str_eq(rest.at[0], "-") ? rest.at[0] : NULL;
    const char *file = o->in ? o->in : "<stdin>";
    const char *text = o->in ? file_read(&o->arena, &o->diag, o->in, NULL) : opt_read_stdin(&o->arena);
    if (!text)
        return EXIT_MISTAKE;
    StrList replay = opt_replay_words(o, file, text);
    if (replay.len && !opt_parse(o, &replay, &rest))
        return EXIT_MISTAKE;
    log_set_level(o->opt.quiet ? LOG_QUIET : o->opt.verbose ? LOG_DEBUG : LOG_INFO);
    return o->run_kernels ? opt_kernels(o, file, text) : opt_graph(o, file, text);
}

int opt_run(int argc, char **argv)
{
    Opt o = { .arena = arena_new("detent-opt"), .diag = diag_new(stderr) };
    DT_ASSERT(ir_check_tables(&o.diag), "the table of ops has a hole");
    int code = opt_main(&o, argc, argv);
    diag_free(&o.diag);
    arena_free(&o.arena);
    return code;
}
