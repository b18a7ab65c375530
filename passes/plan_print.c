/* plan_print.c: the memory plan as a table for people (--print-plan), and what is saved for backward.
 *
 * Tested by tests/unit/test_plan.c. */
#include "passes/pass_impl.h"
#include "passes/plan.h"

#include <stdlib.h>
#include <string.h>

/* A function of params, and of numbers such as the one of the step, alone: prepared weights. */
static bool plan_of_params(const Graph *g, ValueId v, int8_t *known)
{
    if (known[v] != 0)
        return known[v] > 0;
    bool image = ir_is(g, v, OP_INPUT) && ir_value(g, v)->type.shape.rank > 0;
    bool yes = !image && !ir_has(g, v, T_LIBRARY);
    for (int32_t i = 0; i < ir_value(g, v)->n_in && yes; i++)
        yes = plan_of_params(g, ir_value(g, v)->in[i], known);
    known[v] = yes ? 1 : -1;
    return yes;
}

/* By launch: it makes nothing but forward values that only the host or updates want: statistics, penalties. Such ones
 * wait for the end of the step; what they read is not saved for backward. */
static bool *plan_asides(Arena *a, const Graph *g, const StoredList *list)
{
    bool *aside = ARENA_ARRAY(a, bool, g->groups.len);
    Uses  uses = ir_uses(a, g);
    for (int32_t k = 0; k < g->groups.len; k++)
        aside[k] = true;
    for (int32_t i = 0; i < list->at.len; i++) {
        const Stored *s = &list->at.at[i];
        bool          wanted = ir_value(g, s->v)->backward;
        for (int32_t u = uses.first[s->v]; u < uses.first[s->v + 1]; u++)
            wanted |= !ir_has(g, uses.users[u], T_EFFECT) && ir_value(g, uses.users[u])->group != s->first;
        aside[s->first] &= !wanted;
    }
    return aside;
}

/* The last launch that makes something of the forward pass. */
static int32_t plan_forward_end(const Graph *g, const StoredList *list, const bool *aside)
{
    int32_t end = -1;
    for (int32_t i = 0; i < list->at.len; i++) {
        const Stored *s = &list->at.at[i];
        if (!ir_value(g, s->v)->backward && s->leaf == VALUE_NONE && s->first > end && !aside[s->first])
            end = s->first;
    }
    return end;
}

/* The last launch that reads v and is none of those. */
static int32_t plan_last_read(const Graph *g, const Uses *u, ValueId v, const bool *aside)
{
    int32_t last = -1;
    for (int32_t i = u->first[v]; i < u->first[v + 1]; i++) {
        ValueId user = u->users[i];
        int32_t k = ir_has(g, user, T_VIEW) ? plan_last_read(g, u, user, aside) : ir_value(g, user)->group;
        if (k > last && !aside[k])
            last = k;
    }
    return last;
}

/* ---- What is saved for backward ---------------------------------------------------------------------------------- */

typedef enum SavedKind {
    SAVED_PRODUCT,   /* of a convolution or a matrix product */
    SAVED_QUANTIZED, /* as a float, though it has a code */
    SAVED_FLOAT,
    SAVED_CODE,
    SAVED_TAP,
    SAVED_MASK,
    SAVED_OTHER,
    SAVED_KINDS
} SavedKind;
static const char *const saved_kind_names[SAVED_KINDS] = {
    "floats: results of convolutions and products",
    "floats: quantized values",
    "floats: others",
    "codes",
    "taps of max-pools",
    "masks",
    "other numbers",
};

static SavedKind saved_kind(const Graph *g, ValueId v)
{
    DType t = ir_value(g, v)->type.dtype;
    if (t == DTYPE_B1)
        return SAVED_MASK;
    if (!dtype_is_float(t))
        return ir_is(g, v, OP_MAXPOOL_TAP) ? SAVED_TAP : dtype_bits(t) <= 8 ? SAVED_CODE : SAVED_OTHER;
    if (ir_has(g, v, T_EXACT) || ir_is(g, v, OP_QUANT_NOISE))
        return SAVED_QUANTIZED;
    return ir_has(g, v, T_LIBRARY) || ir_is(g, v, OP_DEPTHWISE) ? SAVED_PRODUCT : SAVED_FLOAT;
}

typedef struct Saved {
    int64_t bytes[SAVED_KINDS];
    int32_t values[SAVED_KINDS];
} Saved;

static Saved plan_saved(Arena *a, const Graph *g)
{
    Saved      saved = { 0 };
    StoredList list = plan_stored(a, g);
    Uses       uses = ir_uses(a, g);
    bool      *aside = plan_asides(a, g, &list);
    int8_t    *known = ARENA_ARRAY(a, int8_t, g->values.len);
    int32_t    end = plan_forward_end(g, &list, aside);
    for (int32_t i = 0; i < list.at.len; i++) {
        const Stored *s = &list.at.at[i];
        if (s->leaf != VALUE_NONE || s->output || s->first > end || plan_last_read(g, &uses, s->v, aside) <= end ||
            plan_of_params(g, s->v, known))
            continue;
        saved.bytes[saved_kind(g, s->v)] += s->bytes;
        saved.values[saved_kind(g, s->v)]++;
    }
    return saved;
}

static int64_t saved_total(const Saved *s)
{
    int64_t bytes = 0;
    for (int k = 0; k < SAVED_KINDS; k++)
        bytes += s->bytes[k];
    return bytes;
}

int64_t passes_saved_bytes(const Graph *g)
{
    Arena a = arena_new("saved bytes");
    Saved saved = plan_saved(&a, g);
    arena_free(&a);
    return saved_total(&saved);
}

static void plan_print_saved(Str *out, Arena *a, const Graph *g)
{
    Saved saved = plan_saved(a, g);
    str_printf(out, "saved for backward: %s\n", str_bytes(a, saved_total(&saved)));
    for (int k = 0; k < SAVED_KINDS; k++)
        if (saved.values[k] > 0)
            str_printf(out, "  %10s in %4d  %s\n", str_bytes(a, saved.bytes[k]), saved.values[k], saved_kind_names[k]);
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

static const char *const plan_kind_names[] = { "-", "io", "param", "state", "work" };

static int64_t           plan_alive(const StoredList *list, int32_t at)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < list->at.len; i++) {
        const Stored *s = &list->at.at[i];
        if (s->leaf == VALUE_NONE && !s->output && s->first <= at && at <= s->last)
            bytes += s->bytes;
    }
    return bytes;
}

static int plan_by_size_desc(const void *x, const void *y)
{
    const Stored *a = *(const Stored *const *)x, *b = *(const Stored *const *)y;
    return a->bytes > b->bytes ? -1 : a->bytes < b->bytes;
}

/* The launch at which most is alive. */
static int32_t plan_peak(const Graph *g, const StoredList *list)
{
    int32_t peak = 0;
    for (int32_t k = 1; k < g->groups.len; k++)
        if (plan_alive(list, k) > plan_alive(list, peak))
            peak = k;
    return peak;
}

static int32_t plan_largest(const StoredList *list, int32_t at, Arena *a, ValueId *out, int32_t most)
{
    const Stored **alive = ARENA_ARRAY(a, const Stored *, list->at.len + 1);
    int32_t        n = 0;
    for (int32_t i = 0; i < list->at.len; i++) {
        const Stored *s = &list->at.at[i];
        if (s->leaf == VALUE_NONE && !s->output && s->first <= at && at <= s->last)
            alive[n++] = s;
    }
    qsort(alive, (size_t)n, sizeof(*alive), plan_by_size_desc);
    n = n < most ? n : most;
    for (int32_t i = 0; i < n; i++)
        out[i] = alive[i]->v;
    return n;
}

int32_t passes_peak_values(const Graph *g, ValueId *out, int32_t most)
{
    Arena      a = arena_new("peak");
    StoredList list = plan_stored(&a, g);
    int32_t    n = plan_largest(&list, plan_peak(g, &list), &a, out, most);
    arena_free(&a);
    return n;
}

static void plan_print_peak(Str *out, Arena *a, const Graph *g, const StoredList *list)
{
    enum { SHOWN = 3 };
    ValueId largest[SHOWN];
    int32_t peak = plan_peak(g, list);
    if (g->groups.len == 0)
        return;
    str_printf(out, "peak: %s alive at launch %d (%s); the plan takes %s\n", str_bytes(a, plan_alive(list, peak)), peak,
               g->groups.at[peak].name, str_bytes(a, g->bytes[MEM_WORK]));
    int32_t n = plan_largest(list, peak, a, largest, SHOWN);
    for (int32_t i = 0; i < n; i++)
        str_printf(out, "  largest there: %%%d %s, %s\n", largest[i], ir_label(a, g, largest[i]),
                   str_bytes(a, type_bytes(ir_value(g, largest[i])->type)));
}

void passes_print_plan(Str *out, const Graph *g)
{
    Arena      a = arena_new("plan table");
    StoredList list = plan_stored(&a, g);
    str_printf(out, "plan of %s\n%-6s %-7s %12s %6s %6s %12s  %s\n", g->name, "value", "memory", "bytes", "first",
               "last", "offset", "what");
    for (int32_t i = 0; i < list.at.len; i++) {
        const Stored *s = &list.at.at[i];
        const Value  *v = ir_value(g, s->v);
        str_printf(out, "%%%-5d %-7s %12lld %6d %6d %12lld  %s %s\n", s->v, plan_kind_names[v->place.kind],
                   (long long)s->bytes, s->first, s->last, (long long)v->place.offset, ir_label(&a, g, s->v),
                   ir_ops[v->op].text);
    }
    plan_print_peak(out, &a, g, &list);
    for (int32_t k = MEM_IO; k <= MEM_WORK; k++)
        str_printf(out, "%-6s %s\n", plan_kind_names[k], str_bytes(&a, g->bytes[k]));
    plan_print_saved(out, &a, g);
    arena_free(&a);
}
