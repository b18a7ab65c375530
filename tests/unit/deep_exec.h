/* deep_exec.h: an Exec on the host that behaves like one on a GPU: inputs go through two staging images, outputs
 * through a ring of sixteen steps, what is asked for too early or too late is not there. It can fail: at a step when it
 * is submitted, or later, when its outputs are asked for. */
#ifndef DETENT_TESTS_DEEP_EXEC_H
#define DETENT_TESTS_DEEP_EXEC_H

#include <string.h>

#include "runtime/exec_impl.h"

enum { DEEP_STEPS = 16, DEEP_PROGRAMS = 8 };

typedef struct DeepLoaded {
    Loaded *l;
    char   *image[2], *ring[DEEP_STEPS];
} DeepLoaded;

/* First the kind, so that the Exec leads here. */
typedef struct Deep {
    ExecKind        face;
    const ExecKind *host;
    int64_t         fail_at, lose_at; /* step of a program with an "lr"; -1: never */
    int32_t         n;
    DeepLoaded      of[DEEP_PROGRAMS];
} Deep;

static inline DeepLoaded *deep_loaded(Exec *e, Loaded *l)
{
    Deep *deep = (Deep *)e->kind;
    for (int32_t i = 0; i < deep->n; i++)
        if (deep->of[i].l == l)
            return &deep->of[i];
    DT_ASSERT(deep->n < DEEP_PROGRAMS, "%d programs", deep->n);
    DeepLoaded *d = &deep->of[deep->n++];
    size_t      bytes = (size_t)l->program->bytes[ARENA_IO];
    d->l = l;
    for (int32_t i = 0; i < 2; i++)
        d->image[i] = arena_alloc(e->arena, bytes);
    for (int32_t i = 0; i < DEEP_STEPS; i++)
        d->ring[i] = arena_alloc(e->arena, bytes);
    return d;
}

static inline void *deep_input(Exec *e, Loaded *l, const ProgTensor *t)
{
    return deep_loaded(e, l)->image[l->submitted % 2] + t->at.offset;
}

static inline bool deep_fail(Exec *e, const Loaded *l, int64_t step, int64_t at)
{
    if (step != at || !program_tensor(l->program, "lr"))
        return false;
    diag_error(e->d, LOC_NONE, "the device was unplugged");
    e->failed = true;
    return true;
}

/* An image is spoiled when its turn is over: who leaves an input as it was is found out. */
static inline bool deep_submit(Exec *e, Loaded *l)
{
    DeepLoaded *d = deep_loaded(e, l);
    char       *image = d->image[l->submitted % 2];
    Deep       *deep = (Deep *)e->kind;
    if (deep_fail(e, l, l->submitted, deep->fail_at))
        return false;
    for (int32_t i = 0; i < l->program->n_tensors; i++) {
        const ProgTensor *t = &l->program->tensors[i];
        if (t->kind != TENSOR_INPUT)
            continue;
        memcpy(deep->host->ptr(e, l, t), image + t->at.offset, (size_t)t->bytes);
        memset(image + t->at.offset, 0xA5, (size_t)t->bytes);
    }
    if (!deep->host->run(e, l))
        return false;
    for (int32_t i = 0; i < l->program->n_tensors; i++) {
        const ProgTensor *t = &l->program->tensors[i];
        if (t->kind == TENSOR_OUTPUT)
            memcpy(d->ring[l->submitted % DEEP_STEPS] + t->at.offset, deep->host->ptr(e, l, t), (size_t)t->bytes);
    }
    return true;
}

static inline const void *deep_output(Exec *e, Loaded *l, const ProgTensor *t, int64_t number)
{
    if (deep_fail(e, l, number, ((Deep *)e->kind)->lose_at))
        return NULL;
    return deep_loaded(e, l)->ring[number % DEEP_STEPS] + t->at.offset;
}

static inline int32_t deep_depth(const Exec *e, const Loaded *l)
{
    (void)e, (void)l;
    return DEEP_STEPS;
}

/* From now on `e` (of exec_new) is deep. */
static inline void deep_exec(Exec *e, int64_t fail_at, int64_t lose_at)
{
    Deep *deep = ARENA_NEW(e->arena, Deep);
    *deep = (Deep){ .face = *e->kind, .host = e->kind, .fail_at = fail_at, .lose_at = lose_at };
    deep->face.input = deep_input;
    deep->face.submit = deep_submit;
    deep->face.output = deep_output;
    deep->face.depth = deep_depth;
    e->kind = &deep->face;
}

#endif
