/* verify.c: is this a graph, and does it keep the rules of its phase?
 *
 * Two tables. `value_rules` are about one value and what it reads, and trust nothing: they run on whatever a broken
 * pass left behind. Only when all of them hold do the `graph_rules` run, which may follow ids. A rule of a phase holds
 * from there on, or up to there; passes/passes.def says which phase a pass leaves.
 *
 * A message names the rule, the values and their lines. The memory rules are in verify_plan.c.
 *
 * Tested by tests/unit/test_verify.c (planted mistakes). */
#include "ir/verify_priv.h"

#include <string.h>

enum { MOST_MESSAGES = 20 };

static const char *const phase_names[] = { "frontend", "step", "primitive", "layout", "fused", "planned", "lowered" };

const char              *phase_name(Phase p)
{
    DT_ASSERT(p >= PHASE_FRONTEND && p <= PHASE_LOWERED, "phase %d", (int)p);
    return phase_names[p];
}

/* ---- Messages -------------------------------------------------------------------------------------------------- */

static Loc safe_loc(const Check *c, ValueId id)
{
    if (id < 0 || id >= c->g->values.len || !ir_value(c->g, id)->origins)
        return LOC_NONE;
    return ir_loc(c->g, ir_value(c->g, id));
}

bool verify_fail(Check *c, ValueId at, const char *rule, const char *fmt, ...)
{
    c->failures++;
    if (c->failures > MOST_MESSAGES)
        return false;
    va_list ap;
    va_start(ap, fmt);
    diag_error(c->d, safe_loc(c, at), "verify: %s: %s", rule, arena_vprintf(&c->d->arena, fmt, ap));
    va_end(ap);
    return false;
}

void verify_note(Check *c, ValueId id)
{
    if (c->failures <= MOST_MESSAGES)
        diag_note(c->d, safe_loc(c, id), "%s is made here", verify_show(c, id));
}

const char *verify_show(Check *c, ValueId id)
{
    return ir_value_text(&c->d->arena, c->g, id);
}

/* ---- Rules about one value ------------------------------------------------------------------------------------- */

static bool rule_op(Check *c, ValueId id, const Value *v)
{
    if ((uint32_t)v->op >= OP_COUNT)
        return verify_fail(c, id, "op", "%%%d has op %d of %d", id, (int)v->op, (int)OP_COUNT);
    return true;
}

static bool rule_arity(Check *c, ValueId id, const Value *v)
{
    const OpInfo *info = &ir_ops[v->op];
    if (v->n_in < info->min_in || v->n_in > info->max_in || (v->n_in > 0 && !v->in))
        return verify_fail(c, id, "arity", "%s has %d inputs, expected %d to %d", verify_show(c, id),
                           v->in || !v->n_in ? v->n_in : 0, info->min_in, info->max_in);
    return true;
}

static bool rule_inputs(Check *c, ValueId id, const Value *v)
{
    for (int32_t i = 0; i < v->n_in; i++) {
        ValueId in = v->in[i];
        if (in < 0 || in >= c->g->values.len)
            return verify_fail(c, id, "inputs", "input %d of %s is %%%d, but there are %d values", i,
                               verify_show(c, id), in, c->g->values.len);
        if (!c->seen[in]) {
            verify_fail(c, id, "definition before use", "%s reads %s, which %s", verify_show(c, id), verify_show(c, in),
                        c->position[in] >= 0 ? "comes later" : "is not in the order");
            verify_note(c, in);
            return false;
        }
        const Value *from = ir_value(c->g, in);
        if ((uint32_t)from->op < OP_COUNT && (ir_ops[from->op].traits & T_EFFECT))
            return verify_fail(c, id, "inputs", "%s reads %s, which has no result", verify_show(c, id),
                               verify_show(c, in));
    }
    return true;
}

static bool rule_type(Check *c, ValueId id, const Value *v)
{
    const char *fault = ir_type_fault(&c->d->arena, v->type);
    return !fault || verify_fail(c, id, "type", "%s: %s", verify_show(c, id), fault);
}

static bool rule_attrs(Check *c, ValueId id, const Value *v)
{
    const OpInfo *info = &ir_ops[v->op];
    if (info->n_attrs > 0 && !v->attr)
        return verify_fail(c, id, "attributes", "%s has none, expected %d", verify_show(c, id), info->n_attrs);
    for (int32_t i = 0; i < info->n_attrs; i++) {
        if (!ir_attr_check(info->text, &info->attrs[i], v->attr[i], c->d, safe_loc(c, id))) {
            c->failures++;
            diag_note(c->d, LOC_NONE, "verify: attributes: of %s", verify_show(c, id));
            return false;
        }
    }
    return true;
}

static bool rule_name(Check *c, ValueId id, const Value *v)
{
    bool output = v->op == OP_OUTPUT, named = output || (ir_ops[v->op].traits & T_LEAF);
    if (!named)
        return !v->name || verify_fail(c, id, "names", "%s has a name", verify_show(c, id));
    if (!v->name || !v->name[0])
        return verify_fail(c, id, "names", "%s has no name", verify_show(c, id));
    StrMap *names = output ? &c->outputs : &c->leaves;
    int32_t other = strmap_get(names, v->name);
    if (other < 0) {
        strmap_put(names, v->name, id);
        return true;
    }
    verify_fail(c, id, "names", "%s and %%%d have the same name", verify_show(c, id), other);
    verify_note(c, other);
    return false;
}

static bool rule_origin(Check *c, ValueId id, const Value *v)
{
    if (v->n_origins < 1 || !v->origins)
        return verify_fail(c, id, "origins", "%s has lost where it came from", verify_show(c, id));
    return true;
}

static bool rule_group(Check *c, ValueId id, const Value *v)
{
    if (v->group < -1 || v->group >= c->g->groups.len)
        return verify_fail(c, id, "groups", "%s is in group %d of %d", verify_show(c, id), v->group, c->g->groups.len);
    return true;
}

static bool rule_place(Check *c, ValueId id, const Value *v)
{
    if ((uint32_t)v->place.kind > MEM_WORK || v->place.offset < 0)
        return verify_fail(c, id, "places", "%s is in arena %d at %lld", verify_show(c, id), (int)v->place.kind,
                           (long long)v->place.offset);
    return true;
}

/* The stored type is the one that the op's rule gives. Layouts are the layout pass's business. */
static bool rule_inference(Check *c, ValueId id, const Value *v)
{
    Type t = { 0 };
    for (int32_t i = 0; i < v->n_in; i++) {
        if (c->bad[v->in[i]])
            return true; /* one mistake, one message */
    }
    if (!ir_ops[v->op].infer(c->g, v, &t, c->d, safe_loc(c, id))) {
        c->failures++;
        diag_note(c->d, LOC_NONE, "verify: types: of %s", verify_show(c, id));
        return false;
    }
    if (t.dtype == v->type.dtype && shape_eq(t.shape, v->type.shape))
        return true;
    return verify_fail(c, id, "types", "%s says %s, its inputs give %s", verify_show(c, id),
                       ir_type_text(&c->d->arena, v->type), ir_type_text(&c->d->arena, t));
}

/* In this order, up to the first that fails: later ones rely on earlier ones. */
static bool (*const value_rules[])(Check *, ValueId, const Value *) = {
    rule_op,   rule_arity,  rule_inputs, rule_type,  rule_attrs,
    rule_name, rule_origin, rule_group,  rule_place, rule_inference,
};

static void check_values(Check *c)
{
    const Graph *g = c->g;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (id < 0 || id >= g->values.len) {
            verify_fail(c, VALUE_NONE, "order", "entry %d is %%%d, but there are %d values", i, id, g->values.len);
            continue;
        }
        if (c->seen[id]) {
            verify_fail(c, id, "order", "%s stands in it twice", verify_show(c, id));
            continue;
        }
        c->seen[id] = true;
        for (int32_t k = 0; k < DT_COUNT(value_rules) && !c->bad[id]; k++)
            c->bad[id] = !value_rules[k](c, id, ir_value(g, id));
    }
}

/* ---- Rules about the graph ------------------------------------------------------------------------------------- */

static void rule_assigned_once(Check *c)
{
    const Graph *g = c->g;
    ValueId     *by = ARENA_ARRAY(&c->scratch, ValueId, g->values.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (v->op != OP_ASSIGN)
            continue;
        if (by[v->in[0]] != 0) {
            verify_fail(c, id, "assigned once", "%s is assigned twice", verify_show(c, v->in[0]));
            verify_note(c, by[v->in[0]]);
        }
        by[v->in[0]] = id; /* an assign is never %0: it reads two values */
    }
}

/* What must not be there yet, or any more. */
static bool is_backward(const Graph *g, ValueId id)
{
    return ir_value(g, id)->backward;
}
static bool is_composite(const Graph *g, ValueId id)
{
    return ir_has(g, id, T_COMPOSITE);
}
static bool has_layout(const Graph *g, ValueId id)
{
    return ir_value(g, id)->type.layout != LAYOUT_ROWS || ir_is(g, id, OP_RELAYOUT);
}
static bool has_group(const Graph *g, ValueId id)
{
    return ir_value(g, id)->group >= 0;
}
static bool has_place(const Graph *g, ValueId id)
{
    return ir_value(g, id)->place.kind != MEM_NONE;
}

static const struct {
    Phase       from, to;
    const char *rule, *what;
    bool (*found)(const Graph *g, ValueId id);
} absences[] = {
    { PHASE_FRONTEND, PHASE_FRONTEND, "no gradients yet", "is marked backward", is_backward },
    { PHASE_PRIMITIVE, PHASE_LOWERED, "no composites", "is left", is_composite },
    { PHASE_FRONTEND, PHASE_PRIMITIVE, "no layouts yet", "has one", has_layout },
    { PHASE_FRONTEND, PHASE_PRIMITIVE, "no groups yet", "is in one", has_group },
    { PHASE_FRONTEND, PHASE_FUSED, "no places yet", "has one", has_place },
};

static void rule_absences(Check *c)
{
    for (int32_t k = 0; k < DT_COUNT(absences); k++) {
        if (c->phase < absences[k].from || c->phase > absences[k].to)
            continue;
        for (int32_t i = 0; i < c->g->order.len; i++) {
            ValueId id = c->g->order.at[i];
            if (absences[k].found(c->g, id))
                verify_fail(c, id, absences[k].rule, "%s %s", verify_show(c, id), absences[k].what);
        }
    }
}

static void rule_no_kernels(Check *c)
{
    for (int32_t n = 0; n < c->g->groups.len; n++) {
        if (c->g->groups.at[n].kernel)
            verify_fail(c, VALUE_NONE, "no kernels yet", "group %d has one", n);
    }
}

static bool same_type(Type a, Type b)
{
    return a.dtype == b.dtype && a.layout == b.layout && shape_eq(a.shape, b.shape);
}

/* Do the elements lie in logical order? */
static bool in_logical_order(Type t)
{
    return t.layout == LAYOUT_ROWS || t.shape.dim[1] == 1 || t.shape.dim[2] * t.shape.dim[3] == 1;
}

/* Operands walked together have one layout; a relayout changes it; an assign and a view leave the memory as it is. */
static void rule_layouts(Check *c)
{
    const Graph *g = c->g;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        uint32_t     t = ir_ops[v->op].traits;
        for (int32_t k = 0; k < v->n_in; k++) {
            Type in = ir_value(g, v->in[k])->type;
            bool same = in.layout == v->type.layout;
            if ((t & T_ELTWISE) && shape_eq(in.shape, v->type.shape) && !same) {
                verify_fail(c, id, "one layout", "%s and its input %s differ in layout", verify_show(c, id),
                            verify_show(c, v->in[k]));
                verify_note(c, v->in[k]);
            }
            if (v->op == OP_ASSIGN && k == 1 && !same_type(in, ir_value(g, v->in[0])->type))
                verify_fail(c, id, "one layout", "%s is assigned %s of another layout", verify_show(c, v->in[0]),
                            verify_show(c, v->in[1]));
            if (v->op == OP_RELAYOUT && in.shape.rank == 4 && same)
                verify_fail(c, id, "relayout", "%s has the layout of its input", verify_show(c, id));
            if ((t & T_VIEW) && (!in_logical_order(in) || !in_logical_order(v->type)))
                verify_fail(c, id, "views", "%s needs the logical order: nhwc elements would have to move",
                            verify_show(c, id));
        }
    }
}

/* Consts are numbers in a kernel's text; leaves, effects and views are no work. */
bool verify_needs_group(const Graph *g, ValueId id)
{
    return !ir_has(g, id, T_LEAF | T_EFFECT | T_VIEW) && !ir_is(g, id, OP_CONST);
}

static void rule_grouped(Check *c)
{
    for (int32_t i = 0; i < c->g->order.len; i++) {
        ValueId id = c->g->order.at[i];
        if (ir_value(c->g, id)->group < 0 && verify_needs_group(c->g, id))
            verify_fail(c, id, "every op in a group", "%s is in none", verify_show(c, id));
    }
}

/* The values of a group stand together. With definition before use this makes groups convex, and gives them an order.
 */
static void rule_contiguous(Check *c)
{
    const Graph *g = c->g;
    ValueId     *last = ARENA_ARRAY(&c->scratch, ValueId, g->groups.len);
    bool        *opened = ARENA_ARRAY(&c->scratch, bool, g->groups.len);
    int32_t      current = -1;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        int32_t n = ir_value(g, id)->group;
        if (n < 0)
            continue;
        if (n != current && opened[n]) {
            verify_fail(c, id, "contiguous groups", "%s of group %d comes after group %d", verify_show(c, id), n,
                        current);
            verify_note(c, last[n]);
        }
        opened[n] = true;
        last[n] = id;
        current = n;
    }
    for (int32_t n = 0; n < g->groups.len; n++) {
        if (!opened[n])
            verify_fail(c, VALUE_NONE, "contiguous groups", "group %d has no values", n);
    }
}

static void rule_group_kind(Check *c)
{
    const Graph *g = c->g;
    ValueId     *first = ARENA_ARRAY(&c->scratch, ValueId, g->groups.len);
    for (int32_t n = 0; n < g->groups.len; n++)
        first[n] = VALUE_NONE;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        int32_t n = ir_value(g, id)->group;
        if (n < 0 || !verify_needs_group(g, id))
            continue;
        if (first[n] == VALUE_NONE)
            first[n] = id;
        else if (ir_has(g, id, T_LIBRARY) || ir_has(g, first[n], T_LIBRARY))
            verify_fail(c, id, "a call is alone", "%s and %s are in group %d", verify_show(c, first[n]),
                        verify_show(c, id), n);
    }
}

/* ---- Kernels --------------------------------------------------------------------------------------------------- */

static bool group_is_call(const Graph *g, int32_t n)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (ir_value(g, id)->group == n && ir_has(g, id, T_LIBRARY))
            return true;
    }
    return false;
}

/* Buffer i of the kernel is what is bound to it. */
static void check_binding(Check *c, int32_t n, int32_t i)
{
    const Group *gr = &c->g->groups.at[n];
    const KBuf  *buf = &gr->kernel->bufs.at[i];
    ValueId      id = gr->bound[i];
    Place        at = gr->bound_at[i];
    if ((uint32_t)at.kind > MEM_WORK || at.kind == MEM_NONE || at.offset < 0) {
        verify_fail(c, VALUE_NONE, "bound buffers", "buffer %s of group %d has no place", buf->name, n);
        return;
    }
    int64_t end;
    if (__builtin_add_overflow(at.offset, dtype_bytes(buf->dtype, buf->elems), &end) || end > c->g->bytes[at.kind])
        verify_fail(c, VALUE_NONE, "bound buffers", "buffer %s of group %d ends at %s+%lld, of %lld bytes", buf->name,
                    n, ir_mem_names[at.kind], (long long)(at.offset + dtype_bytes(buf->dtype, buf->elems)),
                    (long long)c->g->bytes[at.kind]);
    if (id == VALUE_NONE)
        return;
    if (id < 0 || id >= c->g->values.len || c->position[id] < 0) {
        verify_fail(c, VALUE_NONE, "bound buffers", "buffer %s of group %d is %s, not in the order", buf->name, n,
                    verify_show(c, id));
        return;
    }
    const Value *v = ir_value(c->g, id);
    if (v->place.kind != at.kind || v->place.offset != at.offset)
        verify_fail(c, id, "bound buffers", "buffer %s of group %d is at %s+%lld, its value %s at %s+%lld", buf->name,
                    n, ir_mem_names[at.kind], (long long)at.offset, verify_show(c, id), ir_mem_names[v->place.kind],
                    (long long)v->place.offset);
    if (v->type.dtype != buf->dtype || shape_elems(v->type.shape) != buf->elems)
        verify_fail(c, id, "bound buffers", "buffer %s of group %d is %s[%lld], its value %s is %s", buf->name, n,
                    dtype_name(buf->dtype), (long long)buf->elems, verify_show(c, id),
                    ir_type_text(&c->d->arena, v->type));
}

/* A launch writes what is assigned into the leaf: nothing else would. */
static void rule_assigned(Check *c)
{
    const Graph *g = c->g;
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_ASSIGN)
            continue;
        ValueId      from = ir_root(g, v->in[1]);
        Place        leaf = ir_value(g, v->in[0])->place, at = ir_value(g, from)->place;
        const Group *gr = ir_value(g, from)->group >= 0 ? &g->groups.at[ir_value(g, from)->group] : NULL;
        bool         written = (at.kind == leaf.kind && at.offset == leaf.offset) || (gr && gr->segments);
        for (int32_t b = 0; gr && gr->kernel && b < gr->n_bound && !written; b++)
            written = gr->kernel->bufs.at[b].mode != BUF_IN && gr->bound_at[b].kind == leaf.kind &&
                      gr->bound_at[b].offset == leaf.offset;
        if (!written)
            verify_fail(c, g->order.at[i], "assigned", "%s is assigned %s, which no launch writes there",
                        verify_show(c, v->in[0]), verify_show(c, v->in[1]));
    }
}

static void rule_lowered(Check *c)
{
    for (int32_t n = 0; n < c->g->groups.len; n++) {
        const Group *gr = &c->g->groups.at[n];
        if (group_is_call(c->g, n)) {
            if (gr->kernel)
                verify_fail(c, VALUE_NONE, "lowered", "group %d is a call and has a kernel", n);
            continue;
        }
        if (!gr->kernel) {
            verify_fail(c, VALUE_NONE, "lowered", "group %d \"%s\" has no kernel", n, gr->name ? gr->name : "");
            continue;
        }
        if (!kernel_verify(gr->kernel, c->d)) {
            c->failures++;
            diag_note(c->d, LOC_NONE, "verify: lowered: the kernel of group %d \"%s\"", n, gr->name ? gr->name : "");
            continue;
        }
        if (gr->n_bound != gr->kernel->bufs.len || (gr->n_bound > 0 && (!gr->bound || !gr->bound_at))) {
            verify_fail(c, VALUE_NONE, "bound buffers", "group %d binds %d of %d buffers", n, gr->n_bound,
                        gr->kernel->bufs.len);
            continue;
        }
        for (int32_t i = 0; i < gr->n_bound; i++)
            check_binding(c, n, i);
    }
}

/* ---- All ------------------------------------------------------------------------------------------------------- */

static const struct {
    Phase from, to;
    void (*rule)(Check *c);
} graph_rules[] = {
    { PHASE_FRONTEND, PHASE_LOWERED, rule_assigned_once }, { PHASE_FRONTEND, PHASE_LOWERED, rule_absences },
    { PHASE_FRONTEND, PHASE_PLANNED, rule_no_kernels },    { PHASE_LAYOUT, PHASE_LOWERED, rule_layouts },
    { PHASE_FUSED, PHASE_LOWERED, rule_grouped },          { PHASE_FUSED, PHASE_LOWERED, rule_contiguous },
    { PHASE_FUSED, PHASE_LOWERED, rule_group_kind },       { PHASE_PLANNED, PHASE_LOWERED, verify_plan },
    { PHASE_LOWERED, PHASE_LOWERED, rule_lowered },        { PHASE_LOWERED, PHASE_LOWERED, rule_assigned },
};

bool ir_verify(const Graph *g, Phase phase, Diag *d)
{
    Check c = { .g = g, .d = d, .phase = phase, .scratch = arena_new("verify") };
    c.outputs = strmap_new(&c.scratch);
    c.leaves = strmap_new(&c.scratch);
    c.seen = ARENA_ARRAY(&c.scratch, bool, g->values.len);
    c.bad = ARENA_ARRAY(&c.scratch, bool, g->values.len);
    c.position = ARENA_ARRAY(&c.scratch, int32_t, g->values.len);
    for (int32_t i = 0; i < g->values.len; i++)
        c.position[i] = -1;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (id >= 0 && id < g->values.len)
            c.position[id] = i;
    }
    check_values(&c);
    for (int32_t i = 0; i < DT_COUNT(graph_rules) && c.failures == 0; i++) {
        if (phase >= graph_rules[i].from && phase <= graph_rules[i].to)
            graph_rules[i].rule(&c);
    }
    if (c.failures > MOST_MESSAGES)
        diag_note(d, LOC_NONE, "verify: %d more failures", c.failures - MOST_MESSAGES);
    arena_free(&c.scratch);
    return c.failures == 0;
}
