/* ir_fixture.h: an arena, what was said, and a graph from text, for test_ir.c and test_verify.c. */
#ifndef DETENT_TESTS_IR_FIXTURE_H
#define DETENT_TESTS_IR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ir/ir.h"

#include <string.h>

typedef struct Fixture {
    Arena a;
    Diag  d;
} Fixture;

static inline Fixture fixture_new(void)
{
    return (Fixture){ arena_new("test"), diag_new(NULL) };
}

static inline void fixture_free(Fixture *f)
{
    diag_free(&f->d);
    arena_free(&f->a);
}

static inline const char *said(const Fixture *f)
{
    return f->d.text.s ? f->d.text.s : "";
}

static inline void assert_says(const Fixture *f, const char *wanted)
{
    if (!strstr(said(f), wanted))
        fail_msg("expected a message with\n  %s\nfound\n%s", wanted, said(f));
}

static inline Graph *parse(Fixture *f, const char *text)
{
    Graph *g = ir_parse(&f->a, &f->d, "test", text);
    if (!g)
        fail_msg("%s\n%s", said(f), text);
    return g;
}

#endif
