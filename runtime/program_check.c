/* program_check.c: is the plan of a step right? The step is walked without computing anything, over a shadow of the
 * arenas in which each range is tagged with the value that was written there last. A read must find its own value; so a
 * value whose memory was given away too early, a launch that comes too soon and a result that lies on an operand are
 * found before a GPU computes something almost right.
 *
 * Params, states and inputs are there before the first launch, whatever they are called. What a merged launch touches
 * is known part by part. A launch of which nothing is known (uses NULL) may have written anything.
 *
 * The shadow is a sorted list of ranges: as cheap for gigabytes as for bytes.
 *
 * Tested by tests/unit/test_program.c: each mistake planted and found. */
#include "runtime/exec_impl.h"

enum { ANY_VALUE = -1, NO_LAUNCH = -1, MOST_ERRORS = 8 };

/* Bytes [lo, hi) hold `value`, which `launch` wrote. */
typedef struct Piece {
    int64_t lo, hi;
    int32_t value, launch;
} Piece;

typedef VEC(Piece) Pieces;
/* Sorted, without overlaps; `spare` is where the next state is built. */
typedef struct Shadow {
    Pieces now, spare;
} Shadow;

/* A range that a launch touches. */
typedef struct Touch {
    int32_t   buf, part; /* part -1: the whole buffer */
    ArenaKind arena;
    int64_t   lo, hi;
    int32_t   value;
    uint8_t   access;
    bool      vague; /* somewhere in the range, nobody knows where */
} Touch;
typedef VEC(Touch) Touches;

typedef struct Checker {
    Arena         *a;
    Diag          *d;
    const Program *p;
    Shadow         of[ARENA_COUNT];
    int32_t        launch;
    int32_t        errors;
} Checker;

/* ---- Messages -------------------------------------------------------------------------------------------------- */

static const char *range_text(const Checker *c, ArenaKind arena, int64_t lo, int64_t hi)
{
    return arena_printf(c->a, "bytes %lld to %lld of the %s", (long long)lo, (long long)hi, exec_arena_names[arena]);
}

static const char *launch_text(const Checker *c, int32_t launch)
{
    return arena_printf(c->a, "launch %d (%s)", launch, c->p->launches[launch].name);
}

static const char *buffer_text(const Checker *c, const Touch *t)
{
    return t->part < 0 ? arena_printf(c->a, "buffer %d", t->buf)
                       : arena_printf(c->a, "part %d of buffer %d", t->part, t->buf);
}

static void wrong(Checker *c, const char *what)
{
    if (c->errors++ < MOST_ERRORS)
        diag_error(c->d, LOC_NONE, "plan of program %s: %s%s%s", c->p->name,
                   c->launch == NO_LAUNCH ? "" : launch_text(c, c->launch), c->launch == NO_LAUNCH ? "" : ": ", what);
}

/* ---- The shadow ------------------------------------------------------------------------------------------------ */

static void shadow_put(Checker *c, Shadow *s, Piece p)
{
    if (p.lo < p.hi)
        vec_push(c->a, &s->spare, p);
}

static void shadow_write(Checker *c, ArenaKind arena, int64_t lo, int64_t hi, int32_t value)
{
    Shadow *s = &c->of[arena];
    Piece   written = { lo, hi, value, c->launch };
    bool    placed = false;
    s->spare.len = 0;
    for (int32_t i = 0; i < s->now.len; i++) {
        Piece p = s->now.at[i];
        shadow_put(c, s, (Piece){ p.lo, dt_min64(p.hi, lo), p.value, p.launch });
        if (!placed && p.hi > lo) {
            shadow_put(c, s, written);
            placed = true;
        }
        shadow_put(c, s, (Piece){ dt_max64(p.lo, hi), p.hi, p.value, p.launch });
    }
    if (!placed)
        shadow_put(c, s, written);
    *s = (Shadow){ s->spare, s->now };
}

/* The first bytes of the range that do not hold the value. False: all do. */
static bool shadow_differs(const Shadow *s, int64_t lo, int64_t hi, int32_t value, Piece *found)
{
    for (int32_t i = 0; i < s->now.len && lo < hi; i++) {
        Piece p = s->now.at[i];
        if (p.hi <= lo)
            continue;
        if (p.lo > lo) {
            hi = dt_min64(hi, p.lo);
            break;
        }
        if (value != ANY_VALUE && p.value != ANY_VALUE && p.value != value) {
            *found = (Piece){ lo, dt_min64(p.hi, hi), p.value, p.launch };
            return true;
        }
        lo = p.hi;
    }
    *found = (Piece){ lo, hi, ANY_VALUE, NO_LAUNCH };
    return lo < hi;
}

/* ---- One launch ------------------------------------------------------------------------------------------------ */

static void add_touch(Checker *c, Touches *list, Touch t, int64_t bytes)
{
    t.hi = t.lo + bytes;
    int64_t end = dt_round_up(c->p->bytes[t.arena], 64);
    if (t.lo < 0 || bytes < 0 || t.hi > end)
        wrong(c, arena_printf(c->a, "%s is %s, which has %lld", buffer_text(c, &t), range_text(c, t.arena, t.lo, t.hi),
                              (long long)c->p->bytes[t.arena]));
    t.lo = dt_max64(t.lo, 0);
    t.hi = dt_min64(t.hi, end);
    vec_push(c->a, list, t);
}

static void list_touches(Checker *c, const Launch *l, Touches *list)
{
    for (int32_t i = 0; i < l->n_bufs; i++) {
        const BufUse *u = &l->uses[i];
        Touch         t = { .buf = i,
                            .part = -1,
                            .arena = l->bufs[i].arena,
                            .lo = l->bufs[i].offset,
                            .value = u->value,
                            .access = u->access };
        t.vague = u->value == ANY_VALUE && !u->parts;
        if (!u->parts)
            add_touch(c, list, t, u->bytes);
        for (int32_t k = 0; u->parts && k < u->n_parts; k++) {
            t.part = k;
            t.lo = l->bufs[i].offset + u->parts[k].offset;
            t.value = u->parts[k].value;
            add_touch(c, list, t, u->parts[k].bytes);
        }
    }
}

static bool is_tracked(ArenaKind arena)
{
    return arena == ARENA_WORK || arena == ARENA_IO;
}

static void check_read(Checker *c, const Touch *t)
{
    Piece found;
    if (!is_tracked(t->arena) || t->vague || !shadow_differs(&c->of[t->arena], t->lo, t->hi, t->value, &found))
        return;
    const char *where = range_text(c, t->arena, found.lo, found.hi);
    const char *what = t->value == ANY_VALUE ? "what" : arena_printf(c->a, "value %d, but", t->value);
    if (found.value == ANY_VALUE)
        wrong(c, arena_printf(c->a, "%s reads %s nothing has written: %s", buffer_text(c, t), what, where));
    else
        wrong(c, arena_printf(c->a, "%s reads %s %s hold value %d of %s", buffer_text(c, t), what, where, found.value,
                              launch_text(c, found.launch)));
}

/* In place, element by element, is fine. */
static bool may_share(const Touch *t, const Touch *u)
{
    return t->buf != u->buf && t->lo == u->lo && t->hi == u->hi;
}

static void check_overlaps(Checker *c, const Touches *list)
{
    for (int32_t i = 0; i < list->len; i++) {
        const Touch *t = &list->at[i];
        if (!(t->access & ACCESS_WRITE) || t->vague)
            continue;
        for (int32_t j = 0; j < list->len; j++) {
            const Touch *u = &list->at[j];
            bool         twice = u->access & ACCESS_WRITE && j < i; /* said when i and j changed places */
            if (i == j || twice || u->vague || t->arena != u->arena || t->lo >= u->hi || u->lo >= t->hi ||
                may_share(t, u))
                continue;
            wrong(c, arena_printf(c->a, "%s is written at %s and overlaps %s at %lld to %lld", buffer_text(c, t),
                                  range_text(c, t->arena, t->lo, t->hi), buffer_text(c, u), (long long)u->lo,
                                  (long long)u->hi));
        }
    }
}

/* It may have written anything that it can reach. */
static void forget(Checker *c, const Launch *l)
{
    for (int32_t i = 0; i < l->n_bufs; i++)
        shadow_write(c, l->bufs[i].arena, 0, dt_round_up(c->p->bytes[l->bufs[i].arena], 64), ANY_VALUE);
}

static void check_launch(Checker *c, const Launch *l)
{
    if (l->scratch_bytes > c->p->bytes[ARENA_SCRATCH])
        wrong(c, arena_printf(c->a, "it needs %lld bytes of scratch memory, %lld are planned",
                              (long long)l->scratch_bytes, (long long)c->p->bytes[ARENA_SCRATCH]));
    if (!l->uses) {
        forget(c, l);
        return;
    }
    Touches list = { 0 };
    list_touches(c, l, &list);
    for (int32_t i = 0; i < list.len; i++)
        if (list.at[i].access & ACCESS_READ)
            check_read(c, &list.at[i]);
    check_overlaps(c, &list);
    for (int32_t i = 0; i < list.len; i++)
        if (list.at[i].access & ACCESS_WRITE && is_tracked(list.at[i].arena))
            shadow_write(c, list.at[i].arena, list.at[i].lo, list.at[i].hi, list.at[i].value);
}

/* ---- The step -------------------------------------------------------------------------------------------------- */

static void check_tensor(Checker *c, const ProgTensor *t)
{
    if (t->at.offset < 0 || t->at.offset + t->bytes > dt_round_up(c->p->bytes[t->at.arena], 64))
        wrong(c, arena_printf(c->a, "tensor %s lies at %s, which has %lld", t->name,
                              range_text(c, t->at.arena, t->at.offset, t->at.offset + t->bytes),
                              (long long)c->p->bytes[t->at.arena]));
    else if (t->kind == TENSOR_INPUT)
        shadow_write(c, t->at.arena, t->at.offset, t->at.offset + t->bytes, ANY_VALUE);
}

static void check_output(Checker *c, const ProgTensor *t)
{
    Piece found;
    if (t->kind != TENSOR_OUTPUT || !is_tracked(t->at.arena) ||
        !shadow_differs(&c->of[t->at.arena], t->at.offset, t->at.offset + t->bytes, ANY_VALUE, &found))
        return;
    wrong(c, arena_printf(c->a, "output %s is not written: nothing wrote %s", t->name,
                          range_text(c, t->at.arena, found.lo, found.hi)));
}

bool program_check(Diag *d, const Program *p)
{
    Arena   scratch = arena_new("program-check");
    Checker c = { .a = &scratch, .d = d, .p = p, .launch = NO_LAUNCH };
    for (int32_t i = 0; i < p->n_tensors; i++)
        check_tensor(&c, &p->tensors[i]);
    for (c.launch = 0; c.launch < p->n_launches; c.launch++)
        check_launch(&c, &p->launches[c.launch]);
    c.launch = NO_LAUNCH;
    for (int32_t i = 0; i < p->n_tensors; i++)
        check_output(&c, &p->tensors[i]);
    if (c.errors > MOST_ERRORS)
        diag_note(d, LOC_NONE, "and %d more", c.errors - MOST_ERRORS);
    if (c.errors > 0)
        diag_help(d, "this is a mistake of the compiler: please report it with the command that was run");
    arena_free(&scratch);
    return c.errors == 0;
}
