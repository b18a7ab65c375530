/* call_fixture.h: library calls with their buffers: what the tests of calls and those of programs share. */
#ifndef DETENT_TESTS_CALL_FIXTURE_H
#define DETENT_TESTS_CALL_FIXTURE_H

#include <string.h>

#include "runtime/program.h"

/* ---- Shapes ---------------------------------------------------------------------------------------------------- */

typedef struct Shape {
    int64_t n, c, h, w, k, r, s, stride, groups, pad[4];
    bool    bias;
} Shape;

static inline CallDesc conv_desc(const Shape *s, CallKind kind)
{
    CallDesc d = { .kind = kind, .bias = s->bias && kind == CALL_CONV_FWD, .n = s->n, .c = s->c, .h = s->h, .w = s->w };
    d.k = s->k, d.r = s->r, d.s = s->s, d.stride = s->stride, d.groups = s->groups;
    memcpy(d.pad, s->pad, sizeof d.pad);
    d.oh = (s->h + s->pad[0] + s->pad[2] - s->r) / s->stride + 1;
    d.ow = (s->w + s->pad[1] + s->pad[3] - s->s) / s->stride + 1;
    return d;
}

static inline CallDesc linear_desc(const Shape *s, CallKind kind)
{
    return (CallDesc){
        .kind = kind, .bias = s->bias && kind == CALL_LINEAR_FWD, .n = s->n, .c = s->c, .k = s->k, .h = 1, .w = 1
    };
}

/* ---- One call with its buffers --------------------------------------------------------------------------------- */

enum { GUARD = 16 }; /* floats after each buffer that nobody may write */

typedef struct Case {
    CallDesc d;
    int32_t  n_bufs;
    int64_t  elems[CALL_MAX_BUFS];
    float   *bufs[CALL_MAX_BUFS]; /* the last one is the result */
} Case;

static const float guard_value = -777.25f;

static inline void fill(float *at, int64_t n, uint32_t stream)
{
    for (int64_t i = 0; i < n; i++)
        at[i] = rng_uniform(11, stream, 0, (uint64_t)i) * 2 - 1;
}

static inline float *buf_new(Arena *a, int64_t elems)
{
    float *at = ARENA_ARRAY(a, float, elems + GUARD);
    for (int i = 0; i < GUARD; i++)
        at[elems + i] = guard_value;
    return at;
}

static inline Case case_new(Arena *a, CallDesc d)
{
    Case    c = { .d = d };
    bool    linear = d.kind >= CALL_LINEAR_FWD;
    int64_t x = linear ? d.n * d.c : d.n * d.c * d.h * d.w, y = linear ? d.n * d.k : d.n * d.k * d.oh * d.ow;
    int64_t w = linear ? d.k * d.c : d.k * (d.c / d.groups) * d.r * d.s;
    int64_t sizes[3][CALL_MAX_BUFS] = { { x, w, d.bias ? d.k : y, y }, { y, w, x }, { y, x, w } };
    c.n_bufs = d.bias ? 4 : 3;
    memcpy(c.elems, sizes[d.kind % 3], sizeof c.elems);
    for (int32_t i = 0; i < c.n_bufs; i++) {
        c.bufs[i] = buf_new(a, c.elems[i]);
        fill(c.bufs[i], c.elems[i], (uint32_t)i);
    }
    return c;
}

static inline float *case_result(const Case *c)
{
    return c->bufs[c->n_bufs - 1];
}

static inline int64_t case_result_elems(const Case *c)
{
    return c->elems[c->n_bufs - 1];
}

#endif
