/* front.c: a library of calls that stands in front of another one.
 *
 * Tested by tests/unit/test_integer.c, test_narrow.c and test_winograd.c. */
#include "runtime/program.h"

#include <omp.h>

/* What prepare gives: one of the two. */
typedef struct Prepared {
    void *plan, *other;
} Prepared;

typedef struct Lib {
    CallLib          face;
    Arena           *arena;
    CallLib         *others;
    const CallFront *front;
    const void      *self;
} Lib;

static int64_t lib_scratch_bytes(void *self, const CallDesc *d)
{
    Lib *l = self;
    if (!l->front->is_mine(l->self, d))
        return l->others->scratch_bytes(l->others->self, d);
    Arena   a = arena_new("call");
    Diag    said_by_prepare = diag_new(NULL);
    int64_t bytes = 0;
    l->front->plan(l->self, &a, &said_by_prepare, d, &bytes);
    diag_free(&said_by_prepare);
    arena_free(&a);
    return bytes;
}

static void *lib_prepare(void *self, Diag *diag, const CallDesc *d)
{
    Lib      *l = self;
    Prepared *p = ARENA_NEW(l->arena, Prepared);
    int64_t   bytes;
    if (l->front->is_mine(l->self, d))
        p->plan = l->front->plan(l->self, l->arena, diag, d, &bytes);
    else
        p->other = l->others->prepare(l->others->self, diag, d);
    return p->plan || p->other ? p : NULL;
}

static bool lib_run(void *self, void *prepared, void *const *bufs, void *scratch)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (!p->plan)
        return l->others->run(l->others->self, p->other, bufs, scratch);
    l->front->run(p->plan, bufs, scratch);
    return true;
}

static void lib_release(void *self)
{
    Lib *l = self;
    l->others->release(l->others->self);
}

static void lib_unprepare(void *self, void *prepared)
{
    Lib      *l = self;
    Prepared *p = prepared;
    if (p->other && l->others->unprepare)
        l->others->unprepare(l->others->self, p->other);
}

CallLib *calllib_front(Arena *a, CallLib *others, const char *name, const CallFront *front, const void *self)
{
    Lib *l = ARENA_NEW(a, Lib);
    *l = (Lib){ .arena = a, .others = others, .front = front, .self = self };
    l->face = (CallLib){ .name = name,
                         .vector_bits = others->vector_bits,
                         .self = l,
                         .scratch_bytes = lib_scratch_bytes,
                         .prepare = lib_prepare,
                         .run = lib_run,
                         .release = lib_release,
                         .unprepare = lib_unprepare };
    return &l->face;
}

int calllib_threads(int threads)
{
    return (int)dt_min64(threads > 0 ? threads : omp_get_max_threads(), omp_get_thread_limit());
}
