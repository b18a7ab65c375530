/* print.c: a graph as text. parse.c is the inverse, at every stage; the grammar is stated there.
 *
 * Printing never fails and never trusts what it prints: it is what one looks at when a pass went wrong, so ids, ops and
 * types out of range come out as "<bad %17>" and the like. What has its default is left out.
 *
 * Tested by tests/unit/test_ir_text.c and tests/golden. */
#include "ir/ops_impl.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const ir_mem_names[MEM_WORK + 1] = { "none", "io", "param", "state", "work" };

/* ---- Words and numbers ----------------------------------------------------------------------------------------- */

void ir_print_string(Str *out, const char *s)
{
    str_add(out, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            str_printf(out, "\\%c", c);
        else if (c == '\n')
            str_add(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            str_printf(out, "\\x%02x", c);
        else
            str_addn(out, s, 1);
    }
    str_add(out, "\"");
}

/* A name where it needs no quotes: @resnet20.train, target=cpu. */
static void print_word(Str *out, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    if (s[0] && s[strspn(s, plain)] == 0)
        str_add(out, s);
    else
        ir_print_string(out, s);
}

/* The shortest text that reads back as this number. Most numbers were floats once: where the shortest text of the float
 * names another double, a suffix says that a float is meant (0.1f), which beats 17 digits. */
static void print_number(Str *out, double x)
{
    size_t from = out->len;
    if (!isfinite(x) || fabs(x) <= FLT_MAX) {
        str_add_f32(out, (float)x);
        if (!isfinite(x) || strtod(out->s + from, NULL) == x)
            return;
        if ((double)(float)x == x) {
            str_add(out, "f");
            return;
        }
        out->len = from;
    }
    char text[32];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    const char *e = strchr(text, 'e');
    if (e)
        str_printf(out, "%.*se%d", (int)(e - text), text, atoi(e + 1));
    else
        str_add(out, text);
}

void ir_attr_print(Str *out, AttrKind kind, AttrVal val)
{
    switch (kind) {
    case ATTR_INT:
        str_printf(out, "%lld", (long long)val.i);
        return;
    case ATTR_BOOL:
        str_add(out, val.i ? "true" : "false");
        return;
    case ATTR_FLOAT:
        print_number(out, val.f);
        return;
    case ATTR_TEXT:
        ir_print_string(out, val.s ? val.s : "");
        return;
    case ATTR_PADS:
        str_printf(out, "[%lld,%lld,%lld,%lld]", (long long)val.pads[0], (long long)val.pads[1], (long long)val.pads[2],
                   (long long)val.pads[3]);
        return;
    }
}

/* ---- Values ---------------------------------------------------------------------------------------------------- */

static void print_operands(Str *out, const Graph *g, const Value *v)
{
    for (int32_t i = 0; i < v->n_in; i++) {
        ValueId id = v->in ? v->in[i] : VALUE_NONE;
        bool    known = id >= 0 && id < g->values.len;
        str_printf(out, known ? "%s%%%d" : "%s<bad %%%d>", i ? ", " : " ", id);
    }
}

static void print_attrs(Str *out, const Value *v)
{
    const OpInfo *info = &ir_ops[v->op];
    const char   *sep = " {";
    for (int32_t i = 0; v->attr && i < info->n_attrs; i++) {
        const AttrDef *def = &info->attrs[i];
        AttrKind       kind = attr_kind(def->id);
        if (!def->required && ir_attr_equal(kind, v->attr[i], def->fallback))
            continue;
        str_printf(out, "%s%s=", sep, attr_name(def->id));
        ir_attr_print(out, kind, v->attr[i]);
        sep = ", ";
    }
    if (sep[0] == ',')
        str_add(out, "}");
}

static void print_type(Str *out, Type t)
{
    const char *fault = ir_type_fault(out->arena, t);
    if (fault) {
        str_printf(out, " : %s", fault);
        return;
    }
    str_printf(out, " : %s[", dtype_name(t.dtype));
    for (int32_t i = 0; i < t.shape.rank; i++)
        str_printf(out, "%s%lld", i ? "x" : "", (long long)t.shape.dim[i]);
    str_add(out, t.layout == LAYOUT_NHWC ? "] nhwc" : "]");
}

static void print_place(Str *out, Place p)
{
    if ((uint32_t)p.kind > MEM_WORK)
        str_printf(out, " <arena %d>", (int)p.kind);
    else if (p.kind != MEM_NONE)
        str_printf(out, " at(%s+%lld)", ir_mem_names[p.kind], (long long)p.offset);
}

static bool same_loc(Loc a, Loc b)
{
    return str_eq(a.file, b.file) && (!a.file || a.line == b.line);
}

/* Each origin is loc(...) by(...). A place like the one before is not said again, nor is a maker without a name - but
 * not both, for then nothing would separate two origins. */
static void print_origins(Str *out, const Value *v)
{
    Loc  last = LOC_NONE;
    bool open = false; /* the origin before ended without by(...) */
    for (int32_t i = 0; i < v->n_origins; i++) {
        const Origin *o = &v->origins[i];
        bool          named = o->by && o->by[0];
        if (!same_loc(o->dsl, last) || open || (!named && v->n_origins > 1)) {
            if (o->dsl.file) {
                str_add(out, " loc(");
                ir_print_string(out, o->dsl.file);
                str_printf(out, ":%d)", o->dsl.line);
            } else {
                str_add(out, " loc(none)");
            }
        }
        if (named) {
            str_add(out, " by(");
            ir_print_string(out, o->by);
            str_add(out, ")");
        }
        open = !named;
        last = o->dsl;
    }
}

static void print_value(Str *out, const Graph *g, ValueId id, const char *indent)
{
    str_add(out, indent);
    if (id < 0 || id >= g->values.len) {
        str_printf(out, "<bad %%%d>\n", id);
        return;
    }
    const Value *v = ir_value(g, id);
    if ((uint32_t)v->op >= OP_COUNT) {
        str_printf(out, "%%%d = <op %d>\n", id, (int)v->op);
        return;
    }
    bool effect = ir_ops[v->op].traits & T_EFFECT;
    if (!effect)
        str_printf(out, "%%%d = ", id);
    str_add(out, ir_ops[v->op].text);
    print_operands(out, g, v);
    if (v->name) {
        str_add(out, " ");
        ir_print_string(out, v->name);
    }
    print_attrs(out, v);
    if (!effect)
        print_type(out, v->type);
    print_place(out, v->place);
    if (v->group >= g->groups.len || v->group < -1)
        str_printf(out, " <group %d>", v->group);
    if (v->backward)
        str_add(out, " backward");
    if (v->scope) {
        str_add(out, " scope(");
        ir_print_string(out, v->scope);
        str_add(out, ")");
    }
    print_origins(out, v);
    str_add(out, "\n");
}

/* ---- Groups ---------------------------------------------------------------------------------------------------- */

static void open_group(Str *out, const Graph *g, int32_t number)
{
    const Group *gr = &g->groups.at[number];
    str_printf(out, "  kernel %d", number);
    if (gr->name) {
        str_add(out, " ");
        ir_print_string(out, gr->name);
    }
    str_add(out, gr->segments ? " segments {\n" : " {\n");
}

/* What lowering made of a group: which memory each buffer is, and the kernel. */
static void print_code(Str *out, const Group *gr, int32_t number)
{
    if (!gr->kernel && gr->n_bound == 0)
        return;
    str_printf(out, "\nbind %d (", number);
    for (int32_t i = 0; i < gr->n_bound; i++) {
        ValueId id = gr->bound ? gr->bound[i] : VALUE_NONE;
        str_add(out, i ? ", " : "");
        if (id == VALUE_NONE)
            str_add(out, "_");
        else
            str_printf(out, "%%%d", id);
        if (gr->bound_at)
            print_place(out, gr->bound_at[i]);
    }
    str_add(out, ")\n");
    if (gr->kernel)
        kernel_print(out, gr->kernel);
}

/* ---- Graphs ---------------------------------------------------------------------------------------------------- */

static void print_header(Str *out, const Graph *g)
{
    str_add(out, "graph @");
    print_word(out, g->name ? g->name : "");
    if (g->target) {
        str_add(out, " target=");
        print_word(out, g->target);
    }
    for (int32_t k = MEM_IO; k <= MEM_WORK; k++) {
        if (g->bytes[k] != 0)
            str_printf(out, " %s=%lld", ir_mem_names[k], (long long)g->bytes[k]);
    }
    str_add(out, " {\n");
}

/* Does the scope, or one around it, match? "s1.b0" selects "s1.b0.conv1". */
static bool under_scope(Arena *a, const char *scope, const char *glob)
{
    if (str_glob(glob, scope))
        return true;
    for (const char *dot = strchr(scope, '.'); dot; dot = strchr(dot + 1, '.')) {
        if (str_glob(glob, arena_strndup(a, scope, (size_t)(dot - scope))))
            return true;
    }
    return false;
}

/* glob NULL: all. */
static void print_graph(Str *out, const Graph *g, const char *glob)
{
    Arena scratch = arena_new("print");
    bool *shown = ARENA_ARRAY(&scratch, bool, g->groups.len + 1);
    print_header(out, g);
    int32_t open = -1; /* the group whose braces are open */
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = id >= 0 && id < g->values.len ? ir_value(g, id) : NULL;
        if (glob && !(v && v->scope && under_scope(&scratch, v->scope, glob)))
            continue;
        int32_t group = v && v->group >= 0 && v->group < g->groups.len ? v->group : -1;
        if (group != open && open >= 0)
            str_add(out, "  }\n");
        if (group != open && group >= 0) {
            open_group(out, g, group);
            shown[group] = true;
        }
        open = group;
        print_value(out, g, id, group >= 0 ? "    " : "  ");
    }
    if (open >= 0)
        str_add(out, "  }\n");
    for (int32_t n = 0; n < g->groups.len && !glob; n++) {
        if (!shown[n]) {
            open_group(out, g, n);
            str_add(out, "  }\n");
            shown[n] = true;
        }
    }
    str_add(out, "}\n");
    for (int32_t n = 0; n < g->groups.len; n++) {
        if (shown[n])
            print_code(out, &g->groups.at[n], n);
    }
    arena_free(&scratch);
}

void ir_print(Str *out, const Graph *g)
{
    print_graph(out, g, NULL);
}

void ir_print_scope(Str *out, const Graph *g, const char *glob)
{
    print_graph(out, g, glob);
}

void ir_show(const Graph *g)
{
    Arena scratch = arena_new("show");
    Str   text = str_new(&scratch);
    ir_print(&text, g);
    fputs(text.s, stderr);
    arena_free(&scratch);
}

Hash128 ir_hash(const Graph *g)
{
    Arena scratch = arena_new("hash");
    Str   text = str_new(&scratch);
    ir_print(&text, g);
    Hash128 h = hash_bytes(text.s, text.len);
    arena_free(&scratch);
    return h;
}
