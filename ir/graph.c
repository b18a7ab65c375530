/* graph.c: types, graphs and the values in them: making, cloning, finding, naming.
 *
 * ir_emit_() is the one door through which ops enter a graph: it fills in default attributes, checks their ranges,
 * infers the type and appends to the order. Ids are indices into `values` and are never reused, so they stay valid
 * while passes rebuild the order; nothing holds a pointer to a Value across an emission.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/ops_impl.h"

#include <string.h>

/* ---- Types ----------------------------------------------------------------------------------------------------- */

Shape shape_of(int32_t rank, const int64_t *dim)
{
    DT_ASSERT(rank >= 0 && rank <= DT_MAX_RANK, "rank %d", rank);
    Shape s = { .rank = rank };
    for (int32_t i = 0; i < rank; i++)
        s.dim[i] = dim[i];
    return s;
}

bool shape_eq(Shape a, Shape b)
{
    if (a.rank != b.rank)
        return false;
    for (int32_t i = 0; i < a.rank; i++) {
        if (a.dim[i] != b.dim[i])
            return false;
    }
    return true;
}

int64_t shape_elems(Shape s)
{
    int64_t n = 1;
    for (int32_t i = 0; i < s.rank; i++)
        n *= s.dim[i];
    return n;
}

int64_t type_bytes(Type t)
{
    return dtype_bytes(t.dtype, shape_elems(t.shape));
}

int64_t type_stride(Type t, int32_t i)
{
    static const int8_t orders[][DT_MAX_RANK] = { [LAYOUT_ROWS] = { 0, 1, 2, 3 }, [LAYOUT_NHWC] = { 0, 2, 3, 1 } };
    DT_ASSERT(i >= 0 && i < t.shape.rank, "dimension %d of rank %d", i, t.shape.rank);
    DT_ASSERT(t.layout == LAYOUT_ROWS || t.shape.rank == 4, "layout nhwc at rank %d", t.shape.rank);
    const int8_t *order = orders[t.layout];
    int64_t       stride = 1;
    for (int32_t k = t.shape.rank - 1; order[k] != i; k--)
        stride *= t.shape.dim[order[k]];
    return stride;
}

const char *shape_text(Arena *a, Shape s)
{
    Str out = str_new(a);
    for (int32_t i = 0; i < s.rank; i++)
        str_printf(&out, "%s%lld", i ? "x" : "", (long long)s.dim[i]);
    return out.s ? out.s : "";
}

const char *ir_type_text(Arena *a, Type t)
{
    const char *fault = ir_type_fault(a, t);
    if (fault)
        return fault;
    return arena_printf(a, "%s[%s]", dtype_name(t.dtype), shape_text(a, t.shape));
}

const char *ir_type_fault(Arena *a, Type t)
{
    if ((uint32_t)t.dtype >= DTYPE_COUNT)
        return arena_printf(a, "<element type %d>", (int)t.dtype);
    if (t.shape.rank < 0 || t.shape.rank > DT_MAX_RANK)
        return arena_printf(a, "<rank %d>", t.shape.rank);
    int64_t elems = 1;
    for (int32_t i = 0; i < t.shape.rank; i++) {
        if (t.shape.dim[i] < 1 || t.shape.dim[i] > DT_MAX_DIM)
            return arena_printf(a, "<dimension %d is %lld, expected 1 to %d>", i, (long long)t.shape.dim[i],
                                (int)DT_MAX_DIM);
        if (!dt_mul64(elems, t.shape.dim[i], &elems) || elems > IR_MAX_ELEMS)
            return arena_printf(a, "<%s: more than 2^48 elements>", shape_text(a, t.shape));
    }
    if ((uint32_t)t.layout > LAYOUT_NHWC)
        return arena_printf(a, "<layout %d>", (int)t.layout);
    if (t.layout == LAYOUT_NHWC && t.shape.rank != 4)
        return arena_printf(a, "<layout nhwc at rank %d>", t.shape.rank);
    return NULL;
}

/* ---- Graphs ---------------------------------------------------------------------------------------------------- */

Graph *ir_graph_new(Arena *a, const char *name)
{
    Graph *g = ARENA_NEW(a, Graph);
    g->arena = a;
    g->name = arena_strdup(a, name);
    return g;
}

static const char *clone_text(Arena *a, const char *s)
{
    return s ? arena_strdup(a, s) : NULL;
}

/* A clone shares nothing, so that it may outlive the original's arena. */
static Value clone_value(Arena *a, const Value *from)
{
    Value         v = *from;
    const OpInfo *info = &ir_ops[v.op];
    if (v.n_in > 0)
        v.in = arena_copy(a, from->in, sizeof(ValueId) * (size_t)v.n_in);
    if (from->attr && info->n_attrs > 0) {
        v.attr = arena_copy(a, from->attr, sizeof(AttrVal) * (size_t)info->n_attrs);
        for (int32_t i = 0; i < info->n_attrs; i++) {
            if (attr_kind(info->attrs[i].id) == ATTR_TEXT)
                v.attr[i].s = clone_text(a, v.attr[i].s);
        }
    }
    v.name = clone_text(a, from->name);
    v.scope = clone_text(a, from->scope);
    if (v.n_origins > 0) {
        v.origins = arena_copy(a, from->origins, sizeof(Origin) * (size_t)v.n_origins);
        for (int32_t i = 0; i < v.n_origins; i++) {
            v.origins[i].dsl.file = clone_text(a, v.origins[i].dsl.file);
            v.origins[i].by = clone_text(a, v.origins[i].by);
        }
    }
    return v;
}

/* Through its text, which says all that a kernel is. */
static Kernel *clone_kernel(Arena *a, const Kernel *k)
{
    Arena scratch = arena_new("clone");
    Str   text = str_new(&scratch);
    kernel_print(&text, k);
    Diag    d = diag_new(NULL);
    size_t  pos = 0;
    Kernel *copy = kernel_parse(a, &d, "clone", text.s, &pos);
    DT_ASSERT(copy, "kernel %s does not parse back: %s", k->name, d.text.s);
    diag_free(&d);
    arena_free(&scratch);
    return copy;
}

static Group clone_group(Arena *a, const Group *from)
{
    Group gr = *from;
    gr.name = clone_text(a, from->name);
    if (from->kernel)
        gr.kernel = clone_kernel(a, from->kernel);
    if (from->bound)
        gr.bound = arena_copy(a, from->bound, sizeof(ValueId) * (size_t)gr.n_bound);
    if (from->bound_at)
        gr.bound_at = arena_copy(a, from->bound_at, sizeof(Place) * (size_t)gr.n_bound);
    return gr;
}

Graph *ir_graph_clone(Arena *a, const Graph *g)
{
    Graph *c = ir_graph_new(a, g->name);
    c->file = clone_text(a, g->file);
    c->target = clone_text(a, g->target);
    memcpy(c->bytes, g->bytes, sizeof c->bytes);
    for (int32_t i = 0; i < g->values.len; i++)
        vec_push(a, &c->values, clone_value(a, &g->values.at[i]));
    for (int32_t i = 0; i < g->order.len; i++)
        vec_push(a, &c->order, g->order.at[i]);
    for (int32_t i = 0; i < g->groups.len; i++)
        vec_push(a, &c->groups, clone_group(a, &g->groups.at[i]));
    return c;
}

/* Leaves first: an output may carry the name of an input. */
static ValueId find_named(const Graph *g, const char *symbol, bool output)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->name && (v->op == OP_OUTPUT) == output && str_eq(v->name, symbol))
            return g->order.at[i];
    }
    return VALUE_NONE;
}

ValueId ir_root(const Graph *g, ValueId id)
{
    while (ir_has(g, id, T_VIEW))
        id = ir_value(g, id)->in[0];
    return id;
}

ValueId ir_find(const Graph *g, const char *symbol)
{
    ValueId leaf = find_named(g, symbol, false);
    return leaf != VALUE_NONE ? leaf : find_named(g, symbol, true);
}

const char *ir_label(Arena *a, const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    if (v->name)
        return v->name;
    const char *op = ir_ops[v->op].text;
    return v->scope ? arena_printf(a, "%s.%s", v->scope, op) : op;
}

Loc ir_loc(const Graph *g, const Value *v)
{
    for (int32_t i = 0; i < v->n_origins; i++) {
        if (v->origins[i].dsl.file)
            return v->origins[i].dsl;
    }
    return v->line > 0 ? (Loc){ g->file, v->line } : LOC_NONE;
}

const char *ir_value_text(Arena *a, const Graph *g, ValueId id)
{
    if (id < 0 || id >= g->values.len)
        return arena_printf(a, "%%%d (no such value)", id);
    const Value *v = ir_value(g, id);
    if ((uint32_t)v->op >= OP_COUNT)
        return arena_printf(a, "%%%d = <op %d>", id, (int)v->op);
    const char *op = ir_ops[v->op].text;
    if (v->name)
        return arena_printf(a, "%%%d = %s \"%s\"", id, op, v->name);
    return v->scope ? arena_printf(a, "%%%d = %s (%s)", id, op, v->scope) : arena_printf(a, "%%%d = %s", id, op);
}

/* ---- Emitting -------------------------------------------------------------------------------------------------- */

/* The lines of `like`, each now made by b->by; or the builder's own place. */
static void set_origins(const Builder *b, Value *v)
{
    Arena *a = b->g->arena;
    if (b->like == VALUE_NONE) {
        v->scope = b->scope;
        v->origins = ARENA_NEW(a, Origin);
        v->origins[v->n_origins++] = (Origin){ b->at, b->by };
        return;
    }
    const Value *like = ir_value(b->g, b->like);
    v->scope = like->scope;
    v->line = like->line;
    v->backward = v->backward || like->backward;
    v->origins = ARENA_ARRAY(a, Origin, like->n_origins);
    for (int32_t i = 0; i < like->n_origins; i++) {
        Loc  at = like->origins[i].dsl;
        bool known = false;
        for (int32_t j = 0; j < v->n_origins && !known; j++)
            known = v->origins[j].dsl.line == at.line && str_eq(v->origins[j].dsl.file, at.file);
        if (!known)
            v->origins[v->n_origins++] = (Origin){ at, b->by };
    }
}

/* Attributes aligned with the op's list: what is set, else the default. False: a range error was reported. */
static bool fill_attrs(const Builder *b, Value *v, const AttrSet *attrs, int32_t n_attrs, Loc at)
{
    const OpInfo *info = &ir_ops[v->op];
    v->attr = ARENA_ARRAY(b->g->arena, AttrVal, info->n_attrs);
    for (int32_t i = 0; i < info->n_attrs; i++)
        v->attr[i] = info->attrs[i].fallback;
    uint64_t set = 0;
    for (int32_t k = 0; k < n_attrs; k++) {
        int32_t i = ir_attr_index(v->op, attrs[k].id);
        DT_ASSERT(i >= 0, "%s has no attribute %s", info->text, attr_name(attrs[k].id));
        v->attr[i] = attrs[k].val;
        if (attr_kind(attrs[k].id) == ATTR_TEXT)
            v->attr[i].s = arena_strdup(b->g->arena, attrs[k].val.s);
        set |= 1ull << i;
        if (!ir_attr_check(info->text, &info->attrs[i], v->attr[i], b->d, at))
            return false;
    }
    for (int32_t i = 0; i < info->n_attrs; i++)
        DT_ASSERT(!info->attrs[i].required || (set >> i & 1), "%s needs attribute %s", info->text,
                  attr_name(info->attrs[i].id));
    return true;
}

/* `proto`: op, name and, for a leaf, type. */
static ValueId emit(Builder *b, Value proto, const ValueId *in, int32_t n_in, const AttrSet *attrs, int32_t n_attrs)
{
    Graph        *g = b->g;
    const OpInfo *info = &ir_ops[proto.op];
    DT_ASSERT(n_in >= info->min_in && n_in <= info->max_in, "%s takes %d to %d inputs, is given %d", info->text,
              info->min_in, info->max_in, n_in);
    for (int32_t i = 0; i < n_in; i++) {
        if (in[i] == VALUE_NONE) { /* the mistake that made it was reported: one mistake, one message */
            DT_ASSERT(b->d->errors > 0, "input %d of %s is missing", i, info->text);
            return VALUE_NONE;
        }
        DT_ASSERT(in[i] >= 0 && in[i] < g->values.len, "input %d of %s is %%%d, of %d values", i, info->text, in[i],
                  g->values.len);
    }
    Value v = proto;
    v.group = -1;
    v.backward = b->backward;
    v.n_in = n_in;
    v.in = arena_copy(g->arena, in, sizeof(ValueId) * (size_t)n_in);
    set_origins(b, &v);
    Loc at = ir_loc(b->g, &v);
    if (!fill_attrs(b, &v, attrs, n_attrs, at) || !info->infer(g, &v, &v.type, b->d, at))
        return VALUE_NONE;
    vec_push(g->arena, &g->values, v);
    ValueId id = g->values.len - 1;
    vec_push(g->arena, &g->order, id);
    return id;
}

ValueId ir_emit_(Builder *b, OpCode op, const ValueId *in, int32_t n_in, const AttrSet *attrs, int32_t n_attrs)
{
    DT_ASSERT(!(ir_ops[op].traits & T_LEAF) && op != OP_OUTPUT, "%s has a name", ir_ops[op].text);
    return emit(b, (Value){ .op = op }, in, n_in, attrs, n_attrs);
}

ValueId ir_leaf(Builder *b, OpCode op, const char *name, Type type, const AttrSet *attrs, int32_t n_attrs)
{
    DT_ASSERT(ir_ops[op].traits & T_LEAF, "%s is no leaf", ir_ops[op].text);
    DT_ASSERT(name && name[0], "a leaf without a name");
    DT_ASSERT(find_named(b->g, name, false) == VALUE_NONE, "the name %s is taken", name);
    Value proto = { .op = op, .type = type, .name = arena_strdup(b->g->arena, name) };
    return emit(b, proto, NULL, 0, attrs, n_attrs);
}

ValueId ir_const(Builder *b, float value)
{
    return ir_emit_(b, OP_CONST, NULL, 0, &AF(VALUE, value), 1);
}

ValueId ir_output(Builder *b, ValueId v, const char *name)
{
    DT_ASSERT(name && name[0], "an output without a name");
    DT_ASSERT(find_named(b->g, name, true) == VALUE_NONE, "the output name %s is taken", name);
    Value proto = { .op = OP_OUTPUT, .name = arena_strdup(b->g->arena, name) };
    return emit(b, proto, &v, 1, NULL, 0);
}

void ir_assign(Builder *b, ValueId leaf, ValueId v)
{
    ValueId in[] = { leaf, v };
    emit(b, (Value){ .op = OP_ASSIGN }, in, 2, NULL, 0);
}

const char *step_kind_name(StepKind k)
{
    static const char *const names[STEP_COUNT] = {
        [STEP_TRAIN] = "train",     [STEP_EVAL] = "eval",       [STEP_INIT] = "init",
        [STEP_OBSERVE] = "observe", [STEP_INSPECT] = "inspect", [STEP_REESTIMATE] = "reestimate"
    };
    return names[k];
}
