/* parse.c: a file: tables, functions and kernels; and what all of the parser uses: tokens, errors, names. The first
 * mistake ends it. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

/* ---- Tokens ---- */

const Token *parse_peek(const Parser *p, int32_t ahead)
{
    int32_t last = p->m->tokens.len - 1, at = p->at + ahead;
    return &p->m->tokens.at[p->failed || at > last ? last : at];
}

const char *parse_token_text(const Parser *p, int32_t token)
{
    const Token *t = &p->m->tokens.at[token];
    return t->kind == TOK_END ? "the end" : arena_strndup(p->a, t->at, (size_t)(t->len < 60 ? t->len : 60));
}

void parse_error_at(Parser *p, int32_t token, const char *fmt, ...)
{
    if (p->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    const char *what = arena_vprintf(p->a, fmt, ap);
    va_end(ap);
    int32_t last = p->m->tokens.len - 1;
    sim_error_at(p->m, p->d, token < last ? token : last, "%s", what);
    p->failed = true;
}

void parse_error(Parser *p, const char *fmt, ...)
{
    if (p->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    const char *what = arena_vprintf(p->a, fmt, ap);
    va_end(ap);
    parse_error_at(p, p->at, "%s", what);
}

bool parse_is(const Parser *p, int32_t punct)
{
    const Token *t = parse_peek(p, 0);
    return t->kind == TOK_PUNCT && t->id == punct;
}

bool parse_is_word(const Parser *p, int32_t word)
{
    const Token *t = parse_peek(p, 0);
    return t->kind == TOK_NAME && t->id == word;
}

bool parse_accept(Parser *p, int32_t punct)
{
    bool is = parse_is(p, punct);
    p->at += is;
    return is;
}

bool parse_accept_word(Parser *p, int32_t word)
{
    bool is = parse_is_word(p, word);
    p->at += is;
    return is;
}

bool parse_expect(Parser *p, int32_t punct, const char *where)
{
    if (parse_accept(p, punct))
        return true;
    parse_error(p, "'%c' is expected %s, not '%s'", (char)punct, where, parse_token_text(p, p->at));
    return false;
}

int32_t parse_name(Parser *p, const char *what)
{
    const Token *t = parse_peek(p, 0);
    if (t->kind != TOK_NAME || t->id < KW_COUNT) {
        parse_error(p, "%s is expected, not '%s'", what, parse_token_text(p, p->at));
        return -1;
    }
    p->at++;
    return t->id;
}

int32_t parse_matching(const Parser *p, int32_t open)
{
    const Token *t = p->m->tokens.at;
    int32_t      depth = 0, last = p->m->tokens.len - 1;
    int32_t      other = t[open].id == '(' ? ')' : '}';
    for (int32_t i = open; i < last && t[open].kind == TOK_PUNCT; i++) {
        if (t[i].kind != TOK_PUNCT)
            continue;
        depth += t[i].id == t[open].id;
        depth -= t[i].id == other;
        if (depth <= 0)
            return depth == 0 && i > open ? i : -1;
    }
    return -1;
}

bool parse_deeper(Parser *p)
{
    if (p->depth >= MAX_DEPTH)
        parse_error(p, "nested too deeply");
    if (p->failed)
        return false;
    p->depth++;
    return true;
}

/* ---- Names ---- */

Sym *parse_find(Parser *p, int32_t name)
{
    for (int32_t i = p->syms.len - 1; i >= p->scope_floor; i--)
        if (p->syms.at[i].name == name)
            return &p->syms.at[i];
    for (int32_t i = p->n_globals - 1; i >= 0; i--)
        if (p->syms.at[i].name == name)
            return &p->syms.at[i];
    return NULL;
}

void parse_declare(Parser *p, Sym s)
{
    if (!p->failed)
        vec_push(p->a, &p->syms, s);
}

/* ---- Functions ---- */

/* Returns elsewhere than at the very end need a mask. */
static bool returns_spread(const Parser *p, int32_t open, int32_t end)
{
    const Token *t = p->m->tokens.at;
    int32_t      depth = 0;
    for (int32_t i = open + 1; i < end; i++) {
        depth += t[i].kind == TOK_PUNCT && t[i].id == '{';
        depth -= t[i].kind == TOK_PUNCT && t[i].id == '}';
        if (t[i].kind != TOK_NAME || t[i].id != KW_return)
            continue;
        bool statement = t[i - 1].kind == TOK_PUNCT && t[i - 1].id != ')'; /* not that of an if without braces */
        if (depth || !statement)
            return true;
        while (i < end && !(t[i].kind == TOK_PUNCT && t[i].id == ';'))
            i++;
        return i + 1 != end;
    }
    return false;
}

static void bind(Parser *p, Type t, int32_t name, const Val *arg, int32_t assigned)
{
    Val v = *arg;
    if (t.ptr && !assigned) {
        v.t = t; /* nothing that its address is made of changes during the call */
    } else if (t.ptr) {
        v = parse_bind_pointer(p, t, v, assigned);
    } else if (v.kind != VAL_CONST || assigned) {
        v = assigned ? val_copy(p, v) : v;
        v.lvalue = assigned != 0;
        v.temp = false;
        v.t = t;
    }
    parse_declare(p, (Sym){ .kind = SYM_VAR, .name = name, .val = v, .region = REGION_NONE });
}

typedef struct Param {
    Type    t;
    int32_t name;
} Param;

static Param parse_param(Parser *p)
{
    Spec  s = parse_spec(p);
    Param q = { .t = parse_pointer(p, s.t) };
    if (!p->failed && (s.is_static || s.is_shared || s.is_extern || s.launch_bound))
        parse_error(p, "a parameter has a type alone");
    q.name = parse_name(p, "the name of a parameter");
    if (parse_is(p, '[')) {
        q.t = parse_dims(p, q.t);
        if (!p->failed) {
            q.t.ptr = true;
            q.t.n_dims--;
            memmove(q.t.dim, q.t.dim + 1, sizeof q.t.dim - sizeof q.t.dim[0]);
        }
    }
    if (!p->failed && q.t.base == T_VOID && !q.t.ptr)
        parse_error(p, "a parameter cannot be void");
    return q;
}

/* (void) and () */
static bool no_params(Parser *p)
{
    const Token *next = parse_peek(p, 1);
    if (parse_is_word(p, KW_void) && next->kind == TOK_PUNCT && next->id == ')')
        p->at++;
    return parse_is(p, ')');
}

static void open_body(Parser *p, Body *b)
{
    b->mask = SLOT_NONE;
    b->value = val_none();
    if (!b->spread || b->kernel)
        return;
    b->mask = slot_new(p, 1);
    sim_emit(p, (Inst){ .op = OP_loop, .d = { b->mask } });
    if (b->result.base == T_VOID && !b->result.ptr)
        return;
    b->value = val_new(p, b->result);
    b->value.lvalue = true;
    b->value.def = slot_new(p, b->value.t.n);
    sim_emit(p, (Inst){ .op = OP_undef, .d = { b->value.def }, .imm = b->value.t.n });
}

static void close_body(Parser *p, Body *b)
{
    bool is_void = b->result.base == T_VOID && !b->result.ptr;
    if (b->kernel || p->failed)
        return;
    if (b->spread) {
        sim_emit_op(p, OP_endloop, b->mask, 0, 0, 0);
        b->value = is_void ? val_none() : val_load(p, b->value);
    } else if (!is_void && b->value.kind == VAL_NONE) {
        parse_error(p, "the function ends without a value");
    }
}

void parse_function(Parser *p, int32_t params, Body *b, const Val *args, int32_t n)
{
    Jumps ends = { 0 };
    p->at = params;
    parse_expect(p, '(', "before the parameters of a function");
    int32_t close = parse_matching(p, params), open = close + 1;
    int32_t end = close < 0 ? -1 : parse_matching(p, open);
    if (end < 0 || p->m->tokens.at[open].kind != TOK_PUNCT || p->m->tokens.at[open].id != '{') {
        parse_error_at(p, close < 0 ? params : open, "a function with its body is expected");
        return;
    }
    int32_t count = 0;
    for (bool more = !no_params(p); more && !p->failed; count++) {
        Param q = parse_param(p);
        if (p->failed)
            return;
        int32_t at = p->at;
        if (count >= n) {
            parse_error_at(p, b->call, "the function takes more arguments than these %d", n);
            return;
        }
        p->at = b->call;
        Val v = b->kernel ? args[count] : val_convert(p, args[count], q.t, false);
        if (p->failed)
            return;
        p->at = at;
        bind(p, q.t, q.name, &v, parse_assigned(p, q.name, open, end));
        more = parse_accept(p, ',');
    }
    if (count != n)
        parse_error_at(p, b->call, "the function takes %d arguments, not %d", count, n);
    parse_expect(p, ')', "after the parameters of a function");
    parse_expect(p, '{', "before the body of a function");
    b->end = end;
    b->spread = returns_spread(p, open, end);
    open_body(p, b);
    p->jumps = &ends;
    parse_block(p);
    for (int32_t i = 0; i < ends.len && !p->failed; i++)
        p->k->code.at[ends.at[i]].target = p->k->code.len;
    close_body(p, b);
}

/* ---- File scope ---- */

static SimKernel kernel_new(Parser *p, const char *name, int32_t n_params)
{
    SimKernel k = { .name = name, .n_params = n_params, .low_slot = SLOT_FIRST_CONST + 1 };
    p->next_slot = p->impure = p->calls = p->left = 0;
    p->shared_tokens.len = 0;
    return k;
}

static void add_tables(Parser *p)
{
    for (int32_t i = 0; i < p->tables.len; i++)
        parse_region(p, p->tables.at[i]);
}

/* The parameters, for what has to be known before the body is read. */
static int32_t parse_params_ahead(Parser *p, Param *params, int32_t limit)
{
    int32_t n = 0, at = p->at;
    parse_expect(p, '(', "before the parameters of a function");
    for (bool more = !no_params(p); more && !p->failed; n++) {
        Param q = parse_param(p);
        if (n == limit)
            parse_error(p, "more than %d parameters", limit);
        else
            params[n] = q;
        more = parse_accept(p, ',');
    }
    p->at = at;
    return p->failed ? 0 : n;
}

static void parse_body_of(Parser *p, SimKernel *k, Body *b, const Val *args, int32_t n)
{
    int32_t syms = p->syms.len;
    p->n_globals = p->scope_floor = syms;
    p->k = k;
    p->body = b;
    p->loop = NULL;
    parse_function(p, p->at, b, args, n);
    if (!p->failed)
        sim_emit(p, (Inst){ .op = OP_end });
    p->body = NULL;
    p->syms.len = syms;
    p->scope_floor = syms;
}

static void parse_kernel(Parser *p, const Spec *s, int32_t name)
{
    Param    *params = ARENA_ARRAY(p->a, Param, MAX_CALL_ARGS);
    Val      *args = ARENA_ARRAY(p->a, Val, MAX_CALL_ARGS);
    int32_t   n = parse_params_ahead(p, params, MAX_CALL_ARGS);
    SimKernel k = kernel_new(p, p->m->names.at[name], n);
    p->k = &k;
    for (int32_t i = 0; i < n && !p->failed; i++) {
        Type t = params[i].t;
        if (!t.ptr || t.base == T_VOID) {
            parse_error(p, "parameter '%s': kernels take pointers alone here", p->m->names.at[params[i].name]);
            return;
        }
        Addr a = addr_none();
        a.region = parse_region(p, (Region){ .kind = REGION_ARG,
                                             .name = p->m->names.at[params[i].name],
                                             .base = t.base,
                                             .granule = (int32_t)dt_min64(4, sim_base_bytes[t.base]) });
        args[i] = val_pointer(p, t, a);
    }
    add_tables(p);
    k.launch_bound = s->launch_bound;
    if (s->t.base != T_VOID)
        parse_error(p, "a kernel returns void");
    for (int32_t i = 0; i < p->m->kernels.len; i++)
        if (str_eq(p->m->kernels.at[i].name, k.name))
            parse_error(p, "there are two kernels '%s'", k.name);
    Body b = { .kernel = true, .result = sim_type_of(T_VOID), .call = p->at };
    parse_body_of(p, &k, &b, args, n);
    if (!p->failed)
        vec_push(p->a, &p->m->kernels, k);
}

/* A function is read once where it stands, so that mistakes in it are found even if nobody calls it. */
static void parse_device_function(Parser *p, Type result, int32_t name)
{
    Param    *params = ARENA_ARRAY(p->a, Param, MAX_CALL_ARGS);
    Val      *args = ARENA_ARRAY(p->a, Val, MAX_CALL_ARGS);
    Sym       sym = { .kind = SYM_FUNC, .name = name, .params = p->at, .result = result, .region = REGION_NONE };
    int32_t   n = parse_params_ahead(p, params, MAX_CALL_ARGS);
    SimKernel k = kernel_new(p, p->m->names.at[name], 0), *outer = p->k;
    p->k = &k;
    add_tables(p);
    for (int32_t i = 0; i < n && !p->failed; i++) {
        args[i] = val_new(p, params[i].t);
        args[i].lvalue = true;
        args[i] = val_load(p, args[i]);
        args[i].temp = false;
    }
    Body b = { .result = result, .call = p->at };
    parse_body_of(p, &k, &b, args, n);
    p->k = outer;
    parse_declare(p, sym);
    p->n_globals = p->scope_floor = p->syms.len;
}

static void parse_global(Parser *p, const Spec *s, Type t, int32_t name)
{
    t = parse_dims(p, t);
    if (!p->failed && (t.ptr || !t.is_const || t.base == T_VOID || !parse_is(p, '='))) {
        parse_error(p, "at file scope stand functions and const tables with their elements");
        return;
    }
    (void)s;
    parse_accept(p, '=');
    Val v;
    if (t.n_dims) {
        Region r = {
            .kind = REGION_TABLE, .name = p->m->names.at[name], .base = t.base, .align = sim_base_bytes[t.base] * t.n
        };
        r.data = parse_table_data(p, &t);
        r.bytes = sim_type_bytes(t);
        Addr a = addr_none();
        v = (Val){ .kind = VAL_MEM, .t = t, .lvalue = true, .def = SLOT_NONE, .sym = -1, .addr = a };
        parse_declare(p, (Sym){ .kind = SYM_TABLE, .name = name, .val = v, .region = p->tables.len });
        vec_push(p->a, &p->tables, r);
    } else {
        v = val_convert(p, parse_assignment(p), t, false);
        if (!p->failed && v.kind != VAL_CONST)
            parse_error(p, "a constant is expected");
        parse_declare(p, (Sym){ .kind = SYM_VAR, .name = name, .val = v, .region = REGION_NONE });
    }
    p->n_globals = p->scope_floor = p->syms.len;
    parse_expect(p, ';', "after a table");
}

static void parse_top(Parser *p)
{
    bool linkage = false;
    if (parse_is_word(p, KW_extern) && parse_peek(p, 1)->kind == TOK_STRING) {
        const Token *s = parse_peek(p, 1);
        linkage = s->len == 3 && s->at[1] == 'C';
        p->at += 2;
        if (!linkage)
            parse_error(p, "extern \"C\" is expected");
        if (parse_accept(p, '{')) {
            while (!p->failed && !parse_is(p, '}') && parse_peek(p, 0)->kind != TOK_END)
                parse_top(p);
            parse_expect(p, '}', "after extern \"C\"");
            return;
        }
    }
    if (parse_accept(p, ';'))
        return;
    Spec    s = parse_spec(p);
    Type    t = parse_pointer(p, s.t);
    int32_t name = parse_name(p, "the name of a function or table");
    if (p->failed)
        return;
    if (!parse_is(p, '('))
        parse_global(p, &s, t, name);
    else if (s.is_global)
        parse_kernel(p, &s, name);
    else
        parse_device_function(p, t, name);
}

/* A block of two threads that computes constants. */
static Run *fold_new(Arena *a)
{
    enum { LANES_OF_FOLD = 2, SLOTS = 16 };
    Run *r = ARENA_NEW(a, Run);
    r->lanes = r->threads = r->active = LANES_OF_FOLD;
    r->regs = arena_alloc(a, sizeof(int32_t) * SLOTS * LANES_OF_FOLD);
    r->mask = ARENA_ARRAY(a, uint32_t, LANES_OF_FOLD);
    for (int32_t i = 0; i < LANES_OF_FOLD; i++)
        r->mask[i] = UINT32_MAX;
    return r;
}

bool sim_parse(SimModule *m, Diag *d)
{
    Parser    p = { .m = m, .a = m->a, .d = d, .fold = fold_new(m->a) };
    SimKernel none = kernel_new(&p, "", 0);
    while (!p.failed && parse_peek(&p, 0)->kind != TOK_END) {
        p.k = &none;
        parse_top(&p);
    }
    return !p.failed;
}
