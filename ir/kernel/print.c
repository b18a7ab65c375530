/* print.c: kernels as text, and their hash.
 *
 * Values are numbered in the order in which they appear, so that the text does not depend on what was dropped before.
 * Printing never fails: what is broken prints as <bad ...>, since the verifier's messages are made here, too.
 *
 * Tested by tests/unit/test_kernel_ir.c: printing what was parsed gives the same text. */
#include <inttypes.h>

#include "ir/kernel/kernel_priv.h"

typedef struct Printer {
    Str           *out;
    const Kernel  *k;
    const int32_t *number;
    bool           bare; /* for the hash: axes, buffers and columns by number, not by name */
} Printer;

/* ---- Numbers of values ------------------------------------------------------------------------------------------ */

typedef struct Numbering {
    const Kernel *k;
    int32_t      *number, next;
    bool         *seen;
} Numbering;

static void number_region(Numbering *n, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++) {
        KVal v = region->at[i];
        if (!kernel_has_inst(n->k, v) || n->seen[v])
            continue;
        n->seen[v] = true;
        const KInst *in = &n->k->insts.at[v];
        if (in->op == K_LOOP)
            number_region(n, &in->region);
        else if (in->op != K_STORE)
            n->number[v] = n->next++;
    }
}

int32_t *kernel_numbers(Arena *a, const Kernel *k)
{
    Numbering n = { .k = k,
                    .number = ARENA_ARRAY(a, int32_t, k->insts.len + 1),
                    .seen = ARENA_ARRAY(a, bool, k->insts.len + 1) };
    for (int32_t i = 0; i < k->insts.len; i++)
        n.number[i] = -1;
    number_region(&n, &k->body);
    number_region(&n, &k->final);
    return n.number;
}

/* ---- Names ------------------------------------------------------------------------------------------------------ */

static void put_name(Printer *p, const char *name, char kind, int32_t i)
{
    if (p->bare || !name)
        str_printf(p->out, "%c%d", kind, i);
    else
        str_add(p->out, name);
}

static void put_axis(Printer *p, int32_t i)
{
    if (i >= 0 && i < p->k->n_axes)
        put_name(p, p->k->axes[i].name, 'a', i);
    else
        str_printf(p->out, "<bad axis %d>", i);
}

static void put_buf(Printer *p, int32_t i)
{
    if (i >= 0 && i < p->k->bufs.len)
        put_name(p, p->k->bufs.at[i].name, 'b', i);
    else
        str_printf(p->out, "<bad buffer %d>", i);
}

static void put_int_col(Printer *p, int32_t i)
{
    if (i >= 0 && i < p->k->seg.int_cols)
        put_name(p, p->k->seg.int_names[i], 'i', i);
    else
        str_printf(p->out, "<bad column %d>", i);
}

static void put_float_col(Printer *p, int32_t i)
{
    if (i >= 0 && i < p->k->seg.float_cols)
        put_name(p, p->k->seg.float_names[i], 'f', i);
    else
        str_printf(p->out, "<bad column %d>", i);
}

static void put_value(Printer *p, KVal v)
{
    if (kernel_has_inst(p->k, v) && p->number[v] >= 0)
        str_printf(p->out, "%%%d", p->number[v]);
    else
        str_printf(p->out, "<bad %%%d>", v);
}

static void put_text(Str *out, const char *s)
{
    str_add(out, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            str_printf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            str_printf(out, "\\x%02x", (unsigned char)*s);
        else
            str_addn(out, s, 1);
    }
    str_add(out, "\"");
}

/* ---- Addresses -------------------------------------------------------------------------------------------------- */

/* " + " or " - " between terms; a bare "-" before the first. */
static void put_sign(Printer *p, bool *first, bool negative)
{
    str_add(p->out, *first ? (negative ? "-" : "") : (negative ? " - " : " + "));
    *first = false;
}

/* -INT64_MIN does not exist. */
static uint64_t magnitude(int64_t x)
{
    return x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
}

static void put_affine(Printer *p, const Affine *a, KVal dyn)
{
    bool first = true;
    for (int32_t i = 0; i < KERNEL_MAX_AXES; i++) {
        if (a->coef[i] == 0)
            continue;
        put_sign(p, &first, a->coef[i] < 0);
        if (magnitude(a->coef[i]) != 1)
            str_printf(p->out, "%" PRIu64 "*", magnitude(a->coef[i]));
        put_axis(p, i);
    }
    if (a->seg_col != -1) {
        put_sign(p, &first, false);
        str_add(p->out, "seg.");
        put_int_col(p, a->seg_col);
    }
    if (a->c0 != 0 || (first && dyn == KVAL_NONE)) {
        put_sign(p, &first, a->c0 < 0);
        str_printf(p->out, "%" PRIu64, magnitude(a->c0));
    }
    if (dyn != KVAL_NONE) {
        put_sign(p, &first, false);
        put_value(p, dyn);
    }
}

/* ---- Instructions ----------------------------------------------------------------------------------------------- */

static void put_const(Printer *p, const KInst *in)
{
    str_add(p->out, " ");
    if (in->type == KT_F32)
        str_add_f32(p->out, in->imm.f);
    else if (in->type == KT_U32)
        str_printf(p->out, "%" PRIu32, in->imm.u);
    else
        str_printf(p->out, "%" PRId32, in->imm.i);
}

static void put_type_suffix(Printer *p, const KInst *in)
{
    str_printf(p->out, ".%s", in->type <= KT_BOOL ? ktype_names[in->type] : "<bad type>");
}

static void put_memory(Printer *p, const KInst *in)
{
    str_add(p->out, " ");
    put_buf(p, in->buf);
    str_add(p->out, "[");
    put_affine(p, &in->addr, in->dyn);
    str_add(p->out, "]");
    if (in->op == K_STORE) {
        str_add(p->out, ", ");
        put_value(p, in->arg[0]);
    }
    if (in->guard != KVAL_NONE) {
        str_add(p->out, " if ");
        put_value(p, in->guard);
    }
}

static void put_args(Printer *p, const KInst *in)
{
    for (int32_t i = 0; i < k_ops[in->op].n_args; i++) {
        str_add(p->out, i == 0 ? " " : ", ");
        put_value(p, in->arg[i]);
    }
}

static void put_inst(Printer *p, KVal v)
{
    if (!kernel_has_inst(p->k, v) || p->k->insts.at[v].op >= K_COUNT) {
        str_printf(p->out, "<bad instruction %d>", v);
        return;
    }
    const KInst *in = &p->k->insts.at[v];
    if (in->op != K_STORE && in->op != K_LOOP) {
        put_value(p, v);
        str_add(p->out, " = ");
    }
    str_add(p->out, k_ops[in->op].text);
    switch (in->op) {
    case K_CONST:
        put_type_suffix(p, in);
        put_const(p, in);
        break;
    case K_CVT:
    case K_BITCAST:
        put_type_suffix(p, in);
        put_args(p, in);
        break;
    case K_ACC:
        str_printf(p->out, ".%s", in->imm.u <= KACC_MAX ? kacc_names[in->imm.i] : "<bad>");
        put_args(p, in);
        break;
    case K_INDEX:
        str_add(p->out, " ");
        put_affine(p, &in->addr, KVAL_NONE);
        break;
    case K_SEGF:
        str_add(p->out, " ");
        put_float_col(p, in->imm.i);
        break;
    case K_LOOP:
        str_add(p->out, " ");
        put_axis(p, in->imm.i);
        break;
    case K_LOAD:
    case K_STORE:
        put_memory(p, in);
        break;
    default:
        put_args(p, in);
    }
}

void kernel_print_inst(Str *out, const Kernel *k, const int32_t *number, KVal v)
{
    put_inst(&(Printer){ out, k, number, false }, v);
}

static void put_region(Printer *p, const KRegion *region, int depth)
{
    if (depth > KERNEL_MAX_AXES + 2) {
        str_add(p->out, "<bad: too deep>\n");
        return;
    }
    for (int32_t i = 0; i < region->len; i++) {
        KVal v = region->at[i];
        str_printf(p->out, "%*s", 2 * depth, "");
        put_inst(p, v);
        if (kernel_has_inst(p->k, v) && p->k->insts.at[v].op == K_LOOP) {
            str_add(p->out, " {\n");
            put_region(p, &p->k->insts.at[v].region, depth + 1);
            str_printf(p->out, "%*s}", 2 * depth, "");
        }
        str_add(p->out, "\n");
    }
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

static void put_segments(Printer *p)
{
    const SegTable *s = &p->k->seg;
    if (s->rows <= 0)
        return;
    str_printf(p->out, "  segments %d {\n", s->rows);
    for (int32_t col = 0; col < s->int_cols; col++) {
        str_add(p->out, "    int ");
        put_int_col(p, col);
        for (int32_t row = 0; row < s->rows; row++)
            str_printf(p->out, "%s %" PRId64, row ? "," : "", s->ints[row * s->int_cols + col]);
        str_add(p->out, "\n");
    }
    for (int32_t col = 0; col < s->float_cols; col++) {
        str_add(p->out, "    float ");
        put_float_col(p, col);
        for (int32_t row = 0; row < s->rows; row++) {
            str_add(p->out, row ? ", " : " ");
            str_add_f32(p->out, s->floats[row * s->float_cols + col]);
        }
        str_add(p->out, "\n");
    }
    str_add(p->out, "  }\n");
}

static void put_axes(Printer *p)
{
    for (int32_t i = 0; i < p->k->n_axes && i < KERNEL_MAX_AXES; i++) {
        const Axis *x = &p->k->axes[i];
        str_add(p->out, "  axis ");
        put_axis(p, i);
        if (x->seg_col >= 0) {
            str_add(p->out, " = seg.");
            put_int_col(p, x->seg_col);
        } else {
            str_printf(p->out, " = %" PRId64, x->extent);
        }
        str_printf(p->out, " %s%s\n", x->kind <= AXIS_SEQ ? kaxis_names[x->kind] : "<bad kind>",
                   i == p->k->vec ? " vec" : "");
    }
}

static void put_bufs(Printer *p)
{
    for (int32_t i = 0; i < p->k->bufs.len; i++) {
        const KBuf *b = &p->k->bufs.at[i];
        str_add(p->out, "  buf ");
        put_buf(p, i);
        str_printf(p->out, " : %s[%" PRId64 "] %s%s\n", b->dtype < DTYPE_COUNT ? dtype_name(b->dtype) : "<bad dtype>",
                   b->elems, b->mode <= BUF_INOUT ? kbuf_names[b->mode] : "<bad mode>", b->stream ? " stream" : "");
    }
}

static void put_kernel(Printer *p)
{
    const Kernel *k = p->k;
    put_segments(p);
    put_axes(p);
    put_bufs(p);
    if (k->core)
        str_printf(p->out, "  core %s\n", k->core);
    if (k->chunks != 1 || k->lanes != 1)
        str_printf(p->out, "  reduce chunks %" PRId64 " lanes %d\n", k->chunks, k->lanes);
    str_add(p->out, "  body {\n");
    put_region(p, &k->body, 2);
    str_add(p->out, "  }\n");
    if (k->final.len > 0) {
        str_add(p->out, "  final {\n");
        put_region(p, &k->final, 2);
        str_add(p->out, "  }\n");
    }
    str_add(p->out, "}\n");
}

void kernel_print(Str *out, const Kernel *k)
{
    Arena   scratch = arena_new("kernel_print");
    Printer p = { out, k, kernel_numbers(&scratch, k), false };
    str_printf(out, "kernel @%s", k->name ? k->name : "<bad name>");
    if (k->title && k->title[0]) {
        str_add(out, " ");
        put_text(out, k->title);
    }
    if (k->loc.file) {
        str_add(out, " loc(");
        put_text(out, k->loc.file);
        str_printf(out, ":%d)", k->loc.line);
    }
    str_add(out, " {\n");
    put_kernel(&p);
    arena_free(&scratch);
}

Hash128 kernel_hash(const Kernel *k)
{
    Arena scratch = arena_new("kernel_hash");
    Str   text = str_new(&scratch);
    put_kernel(&(Printer){ &text, k, kernel_numbers(&scratch, k), true });
    Hash128 h = hash_bytes(text.s, text.len);
    arena_free(&scratch);
    return h;
}
