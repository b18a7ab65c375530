/* pass_fixture.h: what tests of passes begin with: arenas, a context, a graph from text, a pipeline from flags. */
#ifndef DETENT_TESTS_PASS_FIXTURE_H
#define DETENT_TESTS_PASS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>

typedef struct Fixture {
    Arena           a, scratch;
    Diag            d;
    Recipe          recipe;
    OptimizerConfig optimizer;
    Target          target;
    PassCtx         ctx;
    char           *text; /* what passes_run printed */
    size_t          text_len;
} Fixture;

static inline int fixture_setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    f->scratch = arena_new("scratch");
    f->d = diag_new(NULL);
    f->recipe = (Recipe){ .method = "float", .edge_bits = 8 };
    f->optimizer = (OptimizerConfig){ .momentum = 0.9, .weight_decay = 1e-4 };
    f->target = (Target){ .name = "cpu", .image_layout = LAYOUT_NHWC, .align_bytes = 64 };
    f->ctx = (PassCtx){ .scratch = &f->scratch,
                        .d = &f->d,
                        .step = STEP_EVAL,
                        .recipe = &f->recipe,
                        .optimizer = &f->optimizer,
                        .target = &f->target,
                        .keep = &f->a };
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    Fixture *f = *state;
    free(f->text);
    diag_free(&f->d);
    arena_free(&f->scratch);
    arena_free(&f->a);
    free(f);
    return 0;
}

static inline const char *fixture_said(const Fixture *f)
{
    return f->d.text.s ? f->d.text.s : "";
}

static inline Graph *fixture_graph(Fixture *f, const char *text)
{
    Graph *g = ir_parse(&f->a, &f->d, "test.dtir", text);
    if (!g)
        fail_msg("%s", fixture_said(f));
    return g;
}

/* Flags separated by blanks. */
static inline PassOptions fixture_options(Fixture *f, const char *flags)
{
    PassOptions opt;
    StrList     rest;
    char       *argv[32], *words = arena_strdup(&f->a, flags), *save = NULL;
    int         argc = 0;
    for (char *w = strtok_r(words, " ", &save); w && argc < 32; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    if (!opts_parse(&f->a, &f->d, pass_option_defs, pass_n_option_defs, argc, argv, &opt, &rest))
        fail_msg("%s", fixture_said(f));
    return opt;
}

/* The result of passes_run; what it printed is in f->text. */
static inline bool fixture_run(Fixture *f, Graph *g, const char *flags)
{
    PassOptions opt = fixture_options(f, flags);
    free(f->text);
    f->text = NULL;
    FILE *out = open_memstream(&f->text, &f->text_len);
    bool  ok = passes_run(&f->ctx, g, &opt, out, NULL);
    fclose(out);
    return ok;
}

static inline const char *fixture_print(Fixture *f, const Graph *g)
{
    Str s = str_new(&f->a);
    ir_print(&s, g);
    return s.s;
}

static inline int64_t fixture_stat(const Fixture *f, const char *name)
{
    for (int32_t i = 0; i < f->ctx.stats.len; i++)
        if (str_eq(f->ctx.stats.at[i].name, name))
            return f->ctx.stats.at[i].count;
    return 0;
}

static inline int32_t fixture_count(const Graph *g, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op);
    return n;
}

#define assert_has(text, part)                                                                                         \
    do {                                                                                                               \
        const char *text_ = (text), *part_ = (part);                                                                   \
        if (!strstr(text_, part_))                                                                                     \
            fail_msg("expected '%s' in:\n%s", part_, text_);                                                           \
    } while (0)
#define assert_has_not(text, part)                                                                                     \
    do {                                                                                                               \
        const char *text_ = (text), *part_ = (part);                                                                   \
        if (strstr(text_, part_))                                                                                      \
            fail_msg("expected no '%s' in:\n%s", part_, text_);                                                        \
    } while (0)
#define fixture_test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

#endif
