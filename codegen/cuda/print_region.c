/* print_region.c: instructions in their order. Where a thread makes several neighbours (print.h), what they have in
 * common goes straight out, the rest into a run over them; a run ends where a loop begins or ends.
 *
 * Tested by tests/unit/test_cuda.c. */
#include "codegen/cuda/print.h"

/* ---- Lines ------------------------------------------------------------------------------------------------------ */

static void put_line(Str *out, int32_t indent, const char *line)
{
    if (line[0] == '#') /* directives stand at the margin */
        indent = 0;
    str_printf(out, "%*s%s\n", 4 * indent, "", line);
}

void put(Printer *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put_line(p->in_run ? &p->run : p->out, p->in_run ? p->indent + 1 : p->indent, arena_vprintf(p->a, fmt, ap));
    va_end(ap);
}

void put_open(Printer *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    put(p, "%s {", arena_vprintf(p->a, fmt, ap));
    va_end(ap);
    p->indent++;
}

void put_block(Printer *p)
{
    put(p, "{");
    p->indent++;
}

void put_close(Printer *p)
{
    p->indent--;
    put(p, "}");
}

/* ---- Runs over neighbours --------------------------------------------------------------------------------------- */

static bool in_runs(const Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    return p->s->width > 1 && (in->op == K_STORE || p->s->insts[v].varying);
}

static void flush_run(Printer *p)
{
    str_add(p->out, p->decls.len ? p->decls.s : "");
    if (p->run.len > 0) {
        put(p, "#pragma unroll");
        put(p, "for (int j = 0; j < %d; j++) {", p->s->width);
        str_add(p->out, p->run.s);
        put(p, "}");
    }
    str_add(p->out, p->after.len ? p->after.s : "");
    p->decls = str_new(p->a);
    p->run = str_new(p->a);
    p->after = str_new(p->a);
}

static void mark_use(Printer *p, KVal user, KVal v)
{
    if (v == KVAL_NONE || !p->s->insts[v].varying)
        return;
    bool stored = p->k->insts.at[user].op == K_STORE && p->s->insts[user].access == ACCESS_VECTOR;
    if (stored || p->run_of[v] != p->run_of[user])
        p->is_array[v] = true;
}

static void number_runs(Printer *p, const KRegion *region)
{
    int32_t run = p->runs++;
    for (int32_t i = 0; i < region->len; i++) {
        KVal         v = region->at[i];
        const KInst *in = &p->k->insts.at[v];
        p->run_of[v] = run;
        if (in->op == K_LOOP) {
            number_runs(p, &in->region);
            run = p->runs++;
            continue;
        }
        bool whole = kop_accumulates(in->op) || (in->op == K_LOAD && p->s->insts[v].access == ACCESS_VECTOR);
        p->is_array[v] = p->is_array[v] || (whole && p->s->insts[v].varying);
        for (int32_t j = 0; j < k_ops[in->op].n_args; j++)
            mark_use(p, v, in->arg[j]);
        mark_use(p, v, in->dyn);
        mark_use(p, v, in->guard);
    }
}

/* As in the kernel's own text: stores and loops have none. */
static void number_values(Printer *p, const KRegion *region, int32_t *next)
{
    for (int32_t i = 0; i < region->len; i++) {
        const KInst *in = &p->k->insts.at[region->at[i]];
        if (in->op == K_LOOP)
            number_values(p, &in->region, next);
        else if (in->op != K_STORE)
            p->number[region->at[i]] = (*next)++;
    }
}

/* Numbers of values, and which of them are arrays: those used outside of their own run. */
void region_analyze(Printer *p)
{
    int32_t next = 0;
    p->number = ARENA_ARRAY(p->a, int32_t, p->k->insts.len + 1);
    p->run_of = ARENA_ARRAY(p->a, int32_t, p->k->insts.len + 1);
    p->is_array = ARENA_ARRAY(p->a, bool, p->k->insts.len + 1);
    p->decls = str_new(p->a);
    p->run = str_new(p->a);
    p->after = str_new(p->a);
    number_values(p, &p->k->body, &next);
    number_values(p, &p->k->final, &next);
    if (p->s->width > 1)
        number_runs(p, &p->k->body);
}

/* ---- Instructions ----------------------------------------------------------------------------------------------- */

static void print_value(Printer *p, KVal v, const char *expression)
{
    const KInst *in = &p->k->insts.at[v];
    const char  *type = ctype_of(in->type);
    if (p->is_array[v]) {
        put_line(&p->decls, p->indent, arena_printf(p->a, "%s %s[%d];", type, name_of(p, v), p->s->width));
        put(p, "%s[j] = %s;", name_of(p, v), expression);
    } else {
        put(p, "const %s %s = %s;", type, name_of(p, v), expression);
    }
}

static void print_vector_load(Printer *p, KVal v)
{
    p->in_run = false;
    put(p, "%s %s[%d];", ctype_of(p->k->insts.at[v].type), name_of(p, v), p->s->width);
    put(p, "%s", load_of(p, v));
}

static void print_vector_store(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    KVal         stored = in->arg[0];
    if (!p->is_array[stored]) { /* the same for all */
        const char *type = ctype_of(p->k->insts.at[stored].type);
        put_line(&p->decls, p->indent, arena_printf(p->a, "%s same%d[%d];", type, v, p->s->width));
        put(p, "same%d[j] = %s;", v, value_of(p, stored));
    }
    p->in_run = false;
    put_line(&p->after, p->indent, vector_store_of(p, v));
}

static void print_loop(Printer *p, KVal v)
{
    const KInst *loop = &p->k->insts.at[v];
    int32_t      axis = loop->imm.i, width = p->s->width;
    flush_run(p);
    for (int32_t i = 0; i < loop->region.len; i++) {
        KVal         acc = loop->region.at[i];
        const KInst *in = &p->k->insts.at[acc];
        if (!kop_accumulates(in->op))
            continue;
        const char *type = ctype_of(in->type), *name = total_name(p, acc);
        if (p->is_array[acc]) {
            put(p, "%s %s[%d];", type, name, width);
            put(p, "#pragma unroll");
            put(p, "for (int j = 0; j < %d; j++)", width);
            put(p, "    %s[j] = %s;", name, identity_of(in));
        } else {
            put(p, "%s %s = %s;", type, name, identity_of(in));
        }
    }
    if (schedule_unrolls(p->s, loop))
        put(p, "#pragma unroll");
    const char *name = p->axis_names[axis];
    put_open(p, "for (int %s = 0; %s < %s; %s++)", name, name, extent_of(p, axis), name);
    print_region(p, &loop->region);
    put_close(p);
}

void print_instruction(Printer *p, KVal v)
{
    const KInst *in = &p->k->insts.at[v];
    bool         vector = p->s->width > 1 && p->s->insts[v].access == ACCESS_VECTOR;
    p->in_run = in_runs(p, v) && in->op != K_LOOP;
    switch (in->op) {
    case K_CONST:
    case K_SEGF:
        break;
    case K_LOOP:
        print_loop(p, v);
        break;
    case K_LOAD:
        if (vector)
            print_vector_load(p, v);
        else
            print_value(p, v, load_of(p, v));
        break;
    case K_STORE:
        if (vector)
            print_vector_store(p, v);
        else
            print_store(p, v);
        break;
    case K_ACC:
        put(p, "%s = %s;", value_of(p, v), combine_of(p, in, value_of(p, v), value_of(p, in->arg[0])));
        break;
    case K_DOT:
        put(p, "%s = fmaf(%s, %s, %s);", value_of(p, v), value_of(p, in->arg[0]), value_of(p, in->arg[1]),
            value_of(p, v));
        break;
    case K_INDEX:
        print_value(p, v, affine_text(p, &in->addr, KVAL_NONE));
        break;
    default:
        print_value(p, v, expression_of(p, v));
    }
    p->in_run = false;
}

void print_region(Printer *p, const KRegion *region)
{
    for (int32_t i = 0; i < region->len; i++)
        print_instruction(p, region->at[i]);
    flush_run(p);
}
