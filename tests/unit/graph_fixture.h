/* graph_fixture.h: an arena, what was said, and what tests ask of a graph that the front end built. */
#ifndef DETENT_TESTS_GRAPH_FIXTURE_H
#define DETENT_TESTS_GRAPH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "frontend/frontend.h"

#include <stdlib.h>

typedef struct Fixture {
    Arena arena;
    Diag  diag;
} Fixture;

static inline int setup(void **state)
{
    Fixture *f = malloc(sizeof *f);
    *f = (Fixture){ arena_new("test"), diag_new(NULL) };
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    Fixture *f = *state;
    arena_free(&f->arena);
    diag_free(&f->diag);
    free(f);
    return 0;
}

/* The step as the front end makes it, verified and without a warning. */
static inline Graph *build(Fixture *f, const DtModel *model, int64_t batch, StepKind step)
{
    int32_t errors = f->diag.errors;
    Graph  *g = frontend_build(&f->arena, &f->diag, model, batch, step);
    if (!g)
        fail_msg("%s: %s", model->name, f->diag.text.s);
    if (!ir_verify(g, PHASE_FRONTEND, &f->diag))
        fail_msg("%s: %s", model->name, f->diag.text.s);
    assert_int_equal(f->diag.errors, errors);
    return g;
}

static inline int32_t count(const Graph *g, OpCode op)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        n += ir_is(g, g->order.at[i], op);
    return n;
}

static inline int64_t count_params(const Graph *g)
{
    int64_t n = 0;
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_is(g, g->order.at[i], OP_PARAM))
            n += shape_elems(ir_value(g, g->order.at[i])->type.shape);
    return n;
}

static inline bool has(const Graph *g, const char *name)
{
    return ir_find(g, name) != VALUE_NONE;
}

static inline const Value *find(const Graph *g, const char *name)
{
    if (!has(g, name))
        fail_msg("%s has no %s", g->name, name);
    return ir_value(g, ir_find(g, name));
}

static inline void assert_shape(Fixture *f, const Value *v, const char *text)
{
    assert_string_equal(shape_text(&f->arena, v->type.shape), text);
}

#endif
