/* parse.c: a graph from text, the inverse of print.c.
 *
 *   file    := 'graph' '@'word ('target' '=' word | arena '=' int)* '{' (kernel | value)* '}' bind*
 *   kernel  := 'kernel' int [string] ['segments'] '{' value* '}'
 *   value   := ['%'int '='] op ['%'int, ...] [string] ['{' attr '=' constant, ... '}'] [':' type] suffix*
 *   type    := dtype '[' [int 'x' ...] ']'
 *   suffix  := 'nhwc' | 'at' '(' arena '+' int ')' | 'backward' | 'scope' '(' string ')'
 *            | 'loc' '(' (string ':' int | 'none') ')' | 'by' '(' string ')'
 *   bind    := 'bind' int '(' ('%'int | '_') ['at' '(' arena '+' int ')'], ... ')' [a kernel, see kernel.h]
 *
 * Comments run from // to the end of the line. `loc` and `by` are read from left to right: `by` ends an origin, one
 * whose place is not said has that of the origin before. Values keep their numbers; assign and output, which have none,
 * get new ones after the largest.
 *
 * A value keeps the line that it was read from, for messages about one that names no place of its own.
 *
 * The parser checks form: names, numbers, arity, definition before use, ranges of attributes. Meaning is for
 * ir_verify(), so that a graph that a pass broke can be read back. The first mistake ends the parse with one message.
 *
 * Tested by tests/unit/test_ir_text.c. */
#include "ir/ops_impl.h"
#include "ir/scan.h"

#include <string.h>

typedef struct Parser {
    Scanner s;
    Graph  *g;
    int32_t max_id;     /* ids above are a slip: they would only cost memory */
    int32_t group;      /* the block we are in; -1 */
    VEC(Value) effects; /* wait for their ids; in `order` as ~index */
} Parser;

/* ---- Types and places ------------------------------------------------------------------------------------------ */

static bool parse_dtype(Parser *p, DType *out)
{
    Word w;
    if (!scan_word(&p->s, &w, "an element type"))
        return false;
    if (dtype_parse(w.s, (size_t)w.len, out))
        return true;
    const char *names[DTYPE_COUNT];
    for (int32_t t = 0; t < DTYPE_COUNT; t++)
        names[t] = dtype_name((DType)t);
    const char *near =
        str_nearest(&p->s.d->arena, arena_strndup(&p->s.d->arena, w.s, (size_t)w.len), names, DTYPE_COUNT);
    return scan_fail(&p->s, "unknown element type '%.*s'%s%s", (int)w.len, w.s, near[0] ? "; did you mean " : "", near);
}

static bool parse_type(Parser *p, Type *out)
{
    *out = (Type){ 0 };
    if (!parse_dtype(p, &out->dtype) || !scan_expect(&p->s, "[", "after the element type"))
        return false;
    Shape *s = &out->shape;
    if (scan_accept(&p->s, "]"))
        return true;
    do {
        if (s->rank == DT_MAX_RANK)
            return scan_fail(&p->s, "a shape has at most %d dimensions", (int)DT_MAX_RANK);
        if (!scan_int_in(&p->s, 1, DT_MAX_DIM, &s->dim[s->rank], "a dimension"))
            return false;
        s->rank++;
        /* not accept(): in 3x32 the x and the number behind it are one word */
    } while (*scan_peek(&p->s) == 'x' && ++p->s.pos);
    if (!scan_expect(&p->s, "]", "after the dimensions"))
        return false;
    const char *fault = ir_type_fault(&p->s.d->arena, *out);
    return !fault || scan_fail(&p->s, "%s is no valid type", fault);
}

static bool parse_arena(Parser *p, Word w, MemKind *out)
{
    for (int32_t k = MEM_IO; k <= MEM_WORK; k++) {
        if (scan_is(w, ir_mem_names[k])) {
            *out = (MemKind)k;
            return true;
        }
    }
    return scan_fail(&p->s, "unknown arena '%.*s', expected io, param, state or work", (int)w.len, w.s);
}

/* After 'at'. */
static bool parse_place(Parser *p, Place *out)
{
    Word w;
    return scan_expect(&p->s, "(", "after at") && scan_word(&p->s, &w, "an arena") && parse_arena(p, w, &out->kind) &&
           scan_expect(&p->s, "+", "after the arena") && scan_int_in(&p->s, 0, INT64_MAX, &out->offset, "an offset") &&
           scan_expect(&p->s, ")", "after the offset");
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

static bool parse_id(Parser *p, ValueId *out)
{
    int64_t id;
    *out = VALUE_NONE;
    if (!scan_int_in(&p->s, 0, p->max_id, &id, "a value's number"))
        return false;
    *out = (ValueId)id;
    return true;
}

/* Values that were defined have an origin; gaps in the numbering do not. */
static bool is_defined(const Parser *p, ValueId id)
{
    return id < p->g->values.len && ir_value(p->g, id)->n_origins > 0;
}

static bool parse_use(Parser *p, ValueId *out)
{
    return parse_id(p, out) && (is_defined(p, *out) || scan_fail(&p->s, "%%%d is used before it is defined", *out));
}

static bool parse_op(Parser *p, OpCode *out)
{
    Word w;
    if (!scan_word(&p->s, &w, "an op"))
        return false;
    if (ir_op_parse(w.s, (size_t)w.len, out))
        return true;
    const char *names[OP_COUNT];
    for (int32_t op = 0; op < OP_COUNT; op++)
        names[op] = ir_ops[op].text;
    const char *near = str_nearest(&p->s.d->arena, arena_strndup(&p->s.d->arena, w.s, (size_t)w.len), names, OP_COUNT);
    return scan_fail(&p->s, "unknown op '%.*s'%s%s", (int)w.len, w.s, near[0] ? "; did you mean " : "", near);
}

static bool parse_operands(Parser *p, Value *v)
{
    const OpInfo *info = &ir_ops[v->op];
    VEC(ValueId) in = { 0 };
    if (scan_accept(&p->s, "%")) {
        do {
            ValueId id;
            if (!parse_use(p, &id))
                return false;
            vec_push(p->s.a, &in, id);
        } while (scan_accept(&p->s, ",") && scan_expect(&p->s, "%", "before a value's number"));
    }
    v->in = in.at;
    v->n_in = in.len;
    if (p->s.failed || (in.len >= info->min_in && in.len <= info->max_in))
        return !p->s.failed;
    if (info->min_in == info->max_in)
        return scan_fail(&p->s, "%s takes %d inputs, found %d", info->text, info->min_in, in.len);
    return scan_fail(&p->s, "%s takes %d to %d inputs, found %d", info->text, info->min_in, info->max_in, in.len);
}

static bool parse_constant(Parser *p, AttrKind kind, AttrVal *out, const char *name)
{
    switch (kind) {
    case ATTR_INT:
        return scan_int(&p->s, &out->i, name);
    case ATTR_FLOAT:
        return scan_number(&p->s, &out->f, name);
    case ATTR_TEXT:
        return scan_string(&p->s, &out->s, name);
    case ATTR_BOOL:
        out->i = scan_accept(&p->s, "true");
        return out->i || scan_accept(&p->s, "false") ||
               scan_fail(&p->s, "%s: expected true or false, found %s", name, scan_found(&p->s));
    case ATTR_PADS:
        for (int32_t i = 0; i < 4; i++) {
            if (!scan_expect(&p->s, i == 0 ? "[" : ",", "in four integers") || !scan_int(&p->s, &out->pads[i], name))
                return false;
        }
        return scan_expect(&p->s, "]", "after four integers");
    }
    DT_UNREACHABLE("attribute kind %d", (int)kind);
}

static bool unknown_attr(Parser *p, const OpInfo *info, Word w)
{
    Str list = str_new(&p->s.d->arena);
    for (int32_t i = 0; i < info->n_attrs; i++)
        str_printf(&list, "%s%s", i ? ", " : "", attr_name(info->attrs[i].id));
    return scan_fail(&p->s, "%s has no attribute '%.*s'; it has %s", info->text, (int)w.len, w.s,
                     info->n_attrs ? list.s : "none");
}

static bool parse_attr(Parser *p, Value *v, uint64_t *seen)
{
    const OpInfo *info = &ir_ops[v->op];
    Word          w;
    if (!scan_word(&p->s, &w, "an attribute"))
        return false;
    int32_t i = 0;
    while (i < info->n_attrs && !scan_is(w, attr_name(info->attrs[i].id)))
        i++;
    if (i == info->n_attrs)
        return unknown_attr(p, info, w);
    const AttrDef *def = &info->attrs[i];
    if (*seen >> i & 1)
        return scan_fail(&p->s, "attribute %s is given twice", attr_name(def->id));
    *seen |= 1ull << i;
    if (!scan_expect(&p->s, "=", "after an attribute's name") ||
        !parse_constant(p, attr_kind(def->id), &v->attr[i], attr_name(def->id)))
        return false;
    if (!ir_attr_check(info->text, def, v->attr[i], p->s.d, (Loc){ p->s.file, p->s.line }))
        p->s.failed = true;
    return !p->s.failed;
}

static bool parse_attrs(Parser *p, Value *v)
{
    const OpInfo *info = &ir_ops[v->op];
    uint64_t      seen = 0;
    v->attr = ARENA_ARRAY(p->s.a, AttrVal, info->n_attrs);
    for (int32_t i = 0; i < info->n_attrs; i++)
        v->attr[i] = info->attrs[i].fallback;
    if (scan_accept(&p->s, "{")) {
        do {
            if (!parse_attr(p, v, &seen))
                return false;
        } while (scan_accept(&p->s, ","));
        if (!scan_expect(&p->s, "}", "after the attributes"))
            return false;
    }
    for (int32_t i = 0; i < info->n_attrs; i++) {
        if (info->attrs[i].required && !(seen >> i & 1))
            return scan_fail(&p->s, "%s needs the attribute %s", info->text, attr_name(info->attrs[i].id));
    }
    return !p->s.failed;
}

/* After 'loc'. */
static bool parse_loc(Parser *p, Loc *out)
{
    int64_t line = 0;
    *out = LOC_NONE;
    if (!scan_expect(&p->s, "(", "after loc"))
        return false;
    if (!scan_accept(&p->s, "none")) {
        if (!scan_string(&p->s, &out->file, "a file") || !scan_expect(&p->s, ":", "after the file") ||
            !scan_int_in(&p->s, INT32_MIN, INT32_MAX, &line, "a line"))
            return false;
        out->line = (int32_t)line;
    }
    return scan_expect(&p->s, ")", "after the place");
}

/* loc(...) and by(...), in any number. */
typedef struct Origins {
    VEC(Origin) list;
    Loc  at;
    bool open; /* `at` is said, its maker not yet */
} Origins;

static void end_origin(Parser *p, Origins *o, const char *by)
{
    vec_push(p->s.a, &o->list, (Origin){ o->at, by });
    o->open = false;
}

/* One suffix. False: none stands here, or a mistake. */
static bool parse_suffix(Parser *p, Value *v, Origins *o)
{
    if (scan_accept(&p->s, "nhwc")) {
        if (v->type.shape.rank != 4)
            return scan_fail(&p->s, "layout nhwc needs rank 4, found rank %d", v->type.shape.rank);
        v->type.layout = LAYOUT_NHWC;
        return true;
    }
    if (scan_accept(&p->s, "at"))
        return parse_place(p, &v->place);
    if (scan_accept(&p->s, "backward"))
        return v->backward = true;
    if (scan_accept(&p->s, "scope"))
        return scan_expect(&p->s, "(", "after scope") && scan_string(&p->s, &v->scope, "a scope") &&
               scan_expect(&p->s, ")", "after the scope");
    if (scan_accept(&p->s, "loc")) {
        if (o->open)
            end_origin(p, o, "");
        o->open = true;
        return parse_loc(p, &o->at);
    }
    if (scan_accept(&p->s, "by")) {
        const char *by;
        if (!scan_expect(&p->s, "(", "after by") || !scan_string(&p->s, &by, "a maker") ||
            !scan_expect(&p->s, ")", "after the maker"))
            return false;
        end_origin(p, o, by);
        return true;
    }
    return false;
}

static void parse_suffixes(Parser *p, Value *v)
{
    Origins o = { 0 };
    while (!p->s.failed && parse_suffix(p, v, &o))
        ;
    if (o.open || o.list.len == 0)
        end_origin(p, &o, "");
    v->origins = o.list.at;
    v->n_origins = o.list.len;
}

/* A value goes to its number, an effect waits for one. */
static void place_value(Parser *p, ValueId id, const Value *v)
{
    Graph *g = p->g;
    if (ir_ops[v->op].traits & T_EFFECT) {
        vec_push(p->s.a, &p->effects, *v);
        vec_push(p->s.a, &g->order, ~(p->effects.len - 1));
        return;
    }
    while (g->values.len <= id)
        vec_push(p->s.a, &g->values, (Value){ .group = -1 });
    *ir_value(g, id) = *v;
    vec_push(p->s.a, &g->order, id);
}

/* The type stands in the text, but for effects: theirs is that of what they read. */
static bool parse_value_type(Parser *p, Value *v, Loc at)
{
    const OpInfo *info = &ir_ops[v->op];
    if (!(info->traits & T_EFFECT))
        return scan_expect(&p->s, ":", "before the type") && parse_type(p, &v->type);
    p->s.failed = !info->infer(p->g, v, &v->type, p->s.d, at);
    return !p->s.failed;
}

static bool parse_value(Parser *p)
{
    ValueId id = VALUE_NONE;
    Value   v = { .group = p->group };
    if (scan_accept(&p->s, "%")) {
        if (!parse_id(p, &id) || !scan_expect(&p->s, "=", "after a value's number"))
            return false;
        if (is_defined(p, id))
            return scan_fail(&p->s, "%%%d is defined twice", id);
    }
    if (!parse_op(p, &v.op))
        return false;
    Loc at = { p->s.file, p->s.line };
    v.line = at.line;
    const OpInfo *info = &ir_ops[v.op];
    bool          effect = info->traits & T_EFFECT;
    if (effect && id != VALUE_NONE)
        return scan_fail(&p->s, "%s has no result, found '%%%d ='", info->text, id);
    if (!effect && id == VALUE_NONE)
        return scan_fail(&p->s, "%s needs a number, as in '%%7 = %s'", info->text, info->text);
    if (!parse_operands(p, &v))
        return false;
    if (*scan_peek(&p->s) == '"' && !scan_string(&p->s, &v.name, "a name"))
        return false;
    bool named = (info->traits & T_LEAF) || v.op == OP_OUTPUT;
    if (named && !v.name)
        return scan_fail(&p->s, "%s needs a name in quotes, found %s", info->text, scan_found(&p->s));
    if (!named && v.name)
        return scan_fail(&p->s, "%s has no name, found \"%s\"", info->text, v.name);
    if (!parse_attrs(p, &v) || !parse_value_type(p, &v, at))
        return false;
    parse_suffixes(p, &v);
    if (!p->s.failed)
        place_value(p, id, &v);
    return !p->s.failed;
}

/* ---- Kernels --------------------------------------------------------------------------------------------------- */

static bool parse_group_number(Parser *p, int32_t *out)
{
    int64_t n;
    *out = -1;
    if (!scan_int_in(&p->s, 0, p->max_id, &n, "a kernel's number"))
        return false;
    *out = (int32_t)n;
    return true;
}

/* After 'kernel'. A group may be opened again: broken orders have text, too. */
static bool parse_group(Parser *p)
{
    if (!parse_group_number(p, &p->group))
        return false;
    while (p->g->groups.len <= p->group)
        vec_push(p->s.a, &p->g->groups, (Group){ 0 });
    const char *name = NULL;
    if (*scan_peek(&p->s) == '"' && !scan_string(&p->s, &name, "a kernel's name"))
        return false;
    Group *gr = &p->g->groups.at[p->group];
    gr->name = name;
    gr->segments = scan_accept(&p->s, "segments");
    if (!scan_expect(&p->s, "{", "before a kernel's values"))
        return false;
    while (!p->s.failed && !scan_accept(&p->s, "}"))
        parse_value(p);
    p->group = -1;
    return !p->s.failed;
}

static bool parse_kernel(Parser *p, Group *gr)
{
    size_t from = p->s.pos;
    gr->kernel = kernel_parse(p->s.a, p->s.d, p->s.file, p->s.text, &p->s.pos);
    if (!gr->kernel)
        p->s.failed = true;
    for (size_t i = from; i < p->s.pos; i++)
        p->s.line += p->s.text[i] == '\n';
    return !p->s.failed;
}

/* After 'bind'. */
static bool parse_bind(Parser *p)
{
    int32_t n;
    if (!parse_group_number(p, &n))
        return false;
    if (n >= p->g->groups.len)
        return scan_fail(&p->s, "kernel %d is not in the graph", n);
    Group *gr = &p->g->groups.at[n];
    if (gr->kernel || gr->n_bound > 0)
        return scan_fail(&p->s, "the buffers of kernel %d are bound twice", n);
    VEC(ValueId) bound = { 0 };
    VEC(Place) bound_at = { 0 };
    if (!scan_expect(&p->s, "(", "before the buffers"))
        return false;
    while (!p->s.failed && !scan_accept(&p->s, ")")) {
        ValueId id = VALUE_NONE;
        Place   at = { MEM_NONE, 0 };
        if (bound.len > 0 && !scan_expect(&p->s, ",", "between buffers"))
            return false;
        if (!scan_accept(&p->s, "_") && (!scan_expect(&p->s, "%", "or _ for a buffer") || !parse_use(p, &id)))
            return false;
        if (scan_accept(&p->s, "at") && !parse_place(p, &at))
            return false;
        vec_push(p->s.a, &bound, id);
        vec_push(p->s.a, &bound_at, at);
    }
    gr->bound = bound.at;
    gr->bound_at = bound_at.at;
    gr->n_bound = bound.len;
    return !p->s.failed && (strncmp(scan_peek(&p->s), "kernel", 6) != 0 || parse_kernel(p, gr));
}

/* ---- Graphs ---------------------------------------------------------------------------------------------------- */

static bool parse_header(Parser *p)
{
    const char *name;
    if (!scan_expect(&p->s, "graph", "at the beginning") || !scan_expect(&p->s, "@", "before the graph's name") ||
        !scan_name(&p->s, &name, "the graph's name"))
        return false;
    p->g = ir_graph_new(p->s.a, name);
    p->g->file = p->s.file;
    while (!p->s.failed && !scan_accept(&p->s, "{")) {
        Word    w;
        MemKind kind = MEM_NONE;
        if (!scan_word(&p->s, &w, "target, an arena or '{'") || !scan_expect(&p->s, "=", "after the word"))
            return false;
        if (scan_is(w, "target")) {
            if (!scan_name(&p->s, &p->g->target, "the target's name"))
                return false;
        } else if (!parse_arena(p, w, &kind) || !scan_int_in(&p->s, 0, INT64_MAX, &p->g->bytes[kind], "a size")) {
            return false;
        }
    }
    return !p->s.failed;
}

/* Effects get the numbers after the largest in the text. */
static void number_effects(Parser *p)
{
    Graph *g = p->g;
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId id = g->order.at[i];
        if (id >= 0)
            continue;
        vec_push(p->s.a, &g->values, p->effects.at[~id]);
        g->order.at[i] = g->values.len - 1;
    }
}

Graph *ir_parse(Arena *a, Diag *d, const char *file, const char *text)
{
    size_t len = strlen(text);
    Parser p = { .s = { a, d, arena_strdup(a, file), text, .line = 1 }, .group = -1 };
    p.max_id = len < INT32_MAX / 128 ? (int32_t)len * 64 + (1 << 16) : INT32_MAX - 1;
    parse_header(&p);
    while (!p.s.failed && !scan_accept(&p.s, "}")) {
        if (scan_accept(&p.s, "kernel"))
            parse_group(&p);
        else
            parse_value(&p);
    }
    while (!p.s.failed && scan_accept(&p.s, "bind"))
        parse_bind(&p);
    if (!p.s.failed && *scan_peek(&p.s) != 0)
        scan_fail(&p.s, "expected the end of the text, found %s", scan_found(&p.s));
    if (p.s.failed)
        return NULL;
    number_effects(&p);
    return p.g;
}
