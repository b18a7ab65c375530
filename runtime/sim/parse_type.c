/* parse_type.c: types: words, stars, dimensions. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

static bool is_vector_word(int32_t id)
{
    return id > WORD_VECTORS && id < WORD_make_float2;
}

bool parse_at_type(const Parser *p)
{
    const Token *t = parse_peek(p, 0);
    if (t->kind != TOK_NAME)
        return false;
    return t->id <= KW_volatile || t->id == KW_constexpr || t->id == KW___shared__ || t->id == KW___align__ ||
           t->id == KW_alignas || t->id == KW___device__ || t->id == KW___constant__ || is_vector_word(t->id);
}

static int32_t parse_paren_constant(Parser *p, const char *what)
{
    if (!parse_expect(p, '(', what))
        return 0;
    int64_t v = parse_constant(p, what);
    while (parse_accept(p, ',')) /* blocks a multiprocessor: a hint */
        parse_constant(p, what);
    parse_expect(p, ')', what);
    return v > 0 && v <= 1024 ? (int32_t)v : (parse_error(p, "%s: a number from 1 to 1024 is expected", what), 0);
}

/* Words that say nothing about the type. */
static bool parse_qualifier(Parser *p, Spec *s)
{
    int32_t id = parse_peek(p, 0)->id;
    if (parse_peek(p, 0)->kind != TOK_NAME)
        return false;
    switch (id) {
    case KW_const:
        s->t.is_const = true;
        break;
    case KW_constexpr:
        s->t.is_const = s->is_constexpr = true;
        break;
    case KW_static:
        s->is_static = true;
        break;
    case KW_extern:
        s->is_extern = true;
        break;
    case KW___shared__:
        s->is_shared = true;
        break;
    case KW___constant__:
        s->is_constant = s->t.is_const = true;
        break;
    case KW___device__:
        s->is_device = true;
        break;
    case KW___global__:
        s->is_global = true;
        break;
    case KW_inline:
    case KW___forceinline__:
    case KW___noinline__:
    case KW_volatile:
        break;
    case KW___launch_bounds__:
        p->at++;
        s->launch_bound = parse_paren_constant(p, "__launch_bounds__");
        return !p->failed;
    case KW___align__:
    case KW_alignas:
        p->at++;
        s->align = parse_paren_constant(p, "__align__");
        return !p->failed;
    default:
        return false;
    }
    p->at++;
    return true;
}

/* Which words of a number's type were seen, as counts of three bits each. */
enum {
    W_SIGNED = 0,
    W_UNSIGNED = 3,
    W_CHAR = 6,
    W_SHORT = 9,
    W_INT = 12,
    W_LONG = 15,
    W_FLOAT = 18,
    W_VOID = 21,
    W_BOOL = 24
};
#define W(x) (1 << (x))
static SimBase base_of_words(int32_t words)
{
    static const struct {
        int32_t words;
        SimBase base;
    } rows[] = {
        { W(W_VOID), T_VOID },
        { W(W_BOOL), T_BOOL },
        { W(W_CHAR), T_S8 },
        { W(W_SIGNED) + W(W_CHAR), T_S8 },
        { W(W_UNSIGNED) + W(W_CHAR), T_U8 },
        { W(W_SHORT), T_S16 },
        { W(W_SIGNED) + W(W_SHORT), T_S16 },
        { W(W_UNSIGNED) + W(W_SHORT), T_U16 },
        { W(W_INT), T_I32 },
        { W(W_SIGNED), T_I32 },
        { W(W_SIGNED) + W(W_INT), T_I32 },
        { W(W_UNSIGNED), T_U32 },
        { W(W_UNSIGNED) + W(W_INT), T_U32 },
        { W(W_FLOAT), T_F32 },
        { W(W_LONG), T_I64 },
        { 2 * W(W_LONG), T_I64 },
        { 2 * W(W_LONG) + W(W_SIGNED), T_I64 },
        { W(W_UNSIGNED) + W(W_LONG), T_U64 },
        { W(W_UNSIGNED) + 2 * W(W_LONG), T_U64 },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        if (rows[i].words == words)
            return rows[i].base;
    bool with_int = (words & (7 << W_INT)) == W(W_INT) && (words & (7 << W_SHORT | 7 << W_LONG)); /* short int */
    return with_int ? base_of_words(words - W(W_INT)) : T_COUNT;
}

Spec parse_spec(Parser *p)
{
    static const int8_t shift[KW_unsigned + 1] = {
        [KW_void] = W_VOID, [KW_bool] = W_BOOL,   [KW_char] = W_CHAR, [KW_short] = W_SHORT,   [KW_int] = W_INT,
        [KW_long] = W_LONG, [KW_float] = W_FLOAT, [KW_double] = -1,   [KW_signed] = W_SIGNED, [KW_unsigned] = W_UNSIGNED
    };
    static const struct {
        SimBase base;
        int32_t n;
    } vectors[] = {
#define X(name, base, n) { base, n },
        SIM_VECTORS(X)
#undef X
    };
    Spec    s = { .t = sim_type_of(T_VOID) };
    int32_t words = 0, seen = 0, start = p->at;
    bool    vector = false;
    for (; !p->failed && seen < 6;) {
        const Token *t = parse_peek(p, 0);
        if (parse_qualifier(p, &s))
            continue;
        if (p->failed || t->kind != TOK_NAME)
            break;
        if (is_vector_word(t->id) && !seen) {
            s.t.base = vectors[t->id - WORD_VECTORS - 1].base;
            s.t.n = vectors[t->id - WORD_VECTORS - 1].n;
            vector = true;
        } else if (t->id > KW_unsigned || vector) {
            break;
        } else if (t->id == KW_double) {
            parse_error(p, "double is not simulated: float is meant");
        } else {
            words += W(shift[t->id]);
        }
        seen++;
        p->at++;
    }
    if (p->failed || vector)
        return s;
    SimBase base = base_of_words(words);
    if (base == T_COUNT)
        parse_error_at(p, start, "a type is expected, not '%s'", parse_token_text(p, start));
    else
        s.t.base = base;
    return s;
}

Type parse_pointer(Parser *p, Type t)
{
    if (!parse_accept(p, '*'))
        return t;
    t.ptr = true;
    for (;;) {
        if (parse_accept_word(p, KW_const))
            t.fixed = true;
        else if (!parse_accept_word(p, KW___restrict__) && !parse_accept_word(p, KW_volatile))
            break;
    }
    if (parse_is(p, '*'))
        parse_error(p, "pointers to pointers are not simulated");
    return t;
}

Type parse_type_name(Parser *p)
{
    return parse_pointer(p, parse_spec(p).t);
}

int64_t parse_constant(Parser *p, const char *what)
{
    int32_t at = p->at;
    Val     v = val_load(p, parse_assignment(p));
    if (v.kind == VAL_CONST && sim_type_is_int(v.t))
        return sim_type_is_wide(v.t) || v.t.base == T_U32 ? (int64_t)v.bits : (int32_t)v.bits;
    parse_error_at(p, at, "%s: an integer constant is expected", what);
    return 0;
}

/* [2][3]. The first may be missing: it is then 0. */
Type parse_dims(Parser *p, Type t)
{
    while (parse_accept(p, '[')) {
        int64_t dim = 0;
        bool    open = parse_is(p, ']') && t.n_dims == 0;
        if (!open)
            dim = parse_constant(p, "the length of an array");
        parse_expect(p, ']', "after the length of an array");
        if (!p->failed && (t.n_dims == MAX_DIMS || t.ptr || (!open && dim < 1) || dim > 1 << 24))
            parse_error(p, t.ptr ? "arrays of pointers are not simulated"
                                 : "an array has 1 to 3 dimensions of 1 to 16777216 elements");
        if (p->failed)
            return t;
        t.dim[t.n_dims++] = (int32_t)dim;
        if (sim_type_bytes(t) > INT64_C(1) << 26)
            parse_error(p, "an array of more than 64 MiB");
    }
    return t;
}
