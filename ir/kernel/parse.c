/* parse.c: kernels from text; the inverse of print.c.
 *
 *   kernel   := 'kernel' '@'name [string] ['loc' '(' string ':' int ')'] '{' item* '}'
 *   item     := 'segments' rows '{' ('int' name int,.. | 'float' name float,..)* '}'
 *             | 'axis' name '=' (int | 'seg.'name) ('par' | 'red' | 'seq') ['vec']
 *             | 'buf' name ':' dtype '[' int ']' ('in' | 'out' | 'inout') ['stream']
 *             | 'core' name | 'reduce' 'chunks' int 'lanes' int | 'body' region | 'final' region
 *   region   := '{' (['%'n '='] op ...  |  'loop' axis region)* '}'
 *   address  := ['-'] term (('+' | '-') term)*,  term := [int '*'] axis | int | 'seg.'name | '%'n
 *
 * Names are declared before they are used; what is typed wrong is rejected here, what needs the whole kernel to judge
 * is left to kernel_verify(). Comments run from // to the line's end. The first mistake ends the parse.
 *
 * Tested by tests/unit/test_kernel_ir.c (round trips, damaged texts). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/kernel/kernel_priv.h"

enum { MAX_VALUE_NUMBER = 1 << 16, MAX_DEPTH = KERNEL_MAX_AXES };

typedef struct Parser {
    Arena      *arena;
    Diag       *d;
    const char *file, *p, *token; /* token: where the last one began */
    int32_t     line, token_line;
    bool        failed;
    Kernel     *k;
    VEC(KVal) values; /* by number in the text */
} Parser;

typedef struct Word {
    const char *s;
    int32_t     len;
} Word;

/* ---- Words and numbers ------------------------------------------------------------------------------------------ */

static void skip_space(Parser *p)
{
    for (;; p->p++) {
        if (p->p[0] == '/' && p->p[1] == '/')
            p->p += strcspn(p->p, "\n");
        if (*p->p == '\n')
            p->line++;
        else if (*p->p != ' ' && *p->p != '\t' && *p->p != '\r')
            break;
    }
    p->token = p->p;
    p->token_line = p->line;
}

/* What stands at the last token, for messages: up to the end of its line, not too much. */
static int found_len(const Parser *p)
{
    enum { MOST = 24 };
    int n = (int)strnlen(p->token, MOST);
    for (int i = 0; i < n; i++)
        if ((unsigned char)p->token[i] < 0x20)
            return i;
    return n;
}

static bool fail(Parser *p, const char *what)
{
    if (!p->failed) {
        int n = found_len(p);
        if (n > 0)
            diag_error(p->d, (Loc){ p->file, p->token_line }, "kernel: %s, found '%.*s'", what, n, p->token);
        else
            diag_error(p->d, (Loc){ p->file, p->token_line }, "kernel: %s, found the end of the %s", what,
                       *p->token ? "line" : "text");
    }
    p->failed = true;
    return false;
}

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static Word peek_word(Parser *p)
{
    skip_space(p);
    Word w = { p->p, 0 };
    if (is_word_start(w.s[0]))
        while (is_word_start(w.s[w.len]) || is_digit(w.s[w.len]) || w.s[w.len] == '.')
            w.len++;
    return w;
}

static bool word_is(Word w, const char *text)
{
    return (size_t)w.len == strlen(text) && memcmp(w.s, text, (size_t)w.len) == 0;
}

static bool accept_word(Parser *p, const char *text)
{
    Word w = peek_word(p);
    if (p->failed || !word_is(w, text))
        return false;
    p->p += w.len;
    return true;
}

static bool expect_word(Parser *p, const char *text, const char *what)
{
    return accept_word(p, text) || fail(p, what);
}

static const char *expect_name(Parser *p, const char *what)
{
    Word w = peek_word(p);
    if (w.len == 0)
        fail(p, what);
    if (p->failed)
        return "";
    p->p += w.len;
    return arena_strndup(p->arena, w.s, (size_t)w.len);
}

static bool accept(Parser *p, char c)
{
    skip_space(p);
    if (p->failed || *p->p != c)
        return false;
    p->p++;
    return true;
}

static bool expect(Parser *p, char c, const char *what)
{
    return accept(p, c) || fail(p, what);
}

/* Digits; within 0..max. */
static int64_t expect_digits(Parser *p, uint64_t max, const char *what)
{
    skip_space(p);
    if (p->failed || !is_digit(*p->p)) {
        fail(p, what);
        return 0;
    }
    uint64_t x = 0;
    for (; is_digit(*p->p); p->p++) {
        uint64_t digit = (uint64_t)(*p->p - '0');
        if (digit > max || x > (max - digit) / 10) {
            fail(p, "expected a smaller number");
            return 0;
        }
        x = 10 * x + digit;
    }
    return (int64_t)x;
}

/* With a sign; within -max - 1 .. max. */
static int64_t expect_int(Parser *p, int64_t max, const char *what)
{
    bool    negative = accept(p, '-');
    int64_t x = expect_digits(p, (uint64_t)max + negative, what);
    return negative ? (int64_t)(0 - (uint64_t)x) : x;
}

static float expect_float(Parser *p, const char *what)
{
    skip_space(p);
    char *end = NULL;
    float f = p->failed ? 0 : strtof(p->p, &end);
    if (p->failed || end == p->p) {
        fail(p, what);
        return 0;
    }
    p->p = end;
    return f;
}

static int hex_digit(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *expect_string(Parser *p)
{
    if (!expect(p, '"', "expected a text in quotes"))
        return "";
    Str s = str_new(p->arena);
    for (; *p->p != '"'; p->p++) {
        char c = *p->p;
        if (c == 0 || c == '\n') {
            fail(p, "expected a text that ends in quotes on its line");
            return "";
        }
        if (c == '\\' && p->p[1] == 'x' && hex_digit(p->p[2]) >= 0 && hex_digit(p->p[3]) >= 0) {
            c = (char)(16 * hex_digit(p->p[2]) + hex_digit(p->p[3]));
            p->p += 3;
        } else if (c == '\\' && (p->p[1] == '"' || p->p[1] == '\\')) {
            c = *++p->p;
        }
        str_addn(&s, &c, 1);
    }
    p->p++;
    return s.s;
}

/* ---- Declarations ----------------------------------------------------------------------------------------------- */

static int32_t find_text(const char *const *names, int32_t n, Word w)
{
    for (int32_t i = 0; i < n; i++)
        if (names[i] && word_is(w, names[i]))
            return i;
    return -1;
}

/* One of `names`; consumed. 0 after a failure. */
static int32_t expect_choice(Parser *p, const char *const *names, int32_t n, const char *what)
{
    Word    w = peek_word(p);
    int32_t i = find_text(names, n, w);
    if (i < 0 || p->failed) {
        fail(p, what);
        return 0;
    }
    p->p += w.len;
    return i;
}

static int32_t find_axis(const Kernel *k, Word w)
{
    for (int32_t i = 0; i < k->n_axes; i++)
        if (word_is(w, k->axes[i].name))
            return i;
    return -1;
}

static int32_t find_buf(const Kernel *k, Word w)
{
    for (int32_t i = 0; i < k->bufs.len; i++)
        if (word_is(w, k->bufs.at[i].name))
            return i;
    return -1;
}

static bool is_seg_word(Word w)
{
    return w.len > 4 && memcmp(w.s, "seg.", 4) == 0;
}

/* seg.NAME -> integer column. */
static int32_t expect_seg_col(Parser *p)
{
    Word    w = peek_word(p);
    int32_t col =
        is_seg_word(w) ? find_text(p->k->seg.int_names, p->k->seg.int_cols, (Word){ w.s + 4, w.len - 4 }) : -1;
    if (col < 0 || p->failed) {
        fail(p, "expected seg. and an integer column of the segment table");
        return 0;
    }
    p->p += w.len;
    return col;
}

/* Columns are read one after the other; the table wants rows together. */
typedef struct Columns {
    VEC(const char *) names;
    VEC(int64_t) ints;
    VEC(float) floats;
} Columns;

static void parse_column(Parser *p, int32_t rows, bool is_int, Columns *c)
{
    vec_push(p->arena, &c->names, expect_name(p, "expected the name of a column"));
    for (int32_t row = 0; row < rows && !p->failed; row++) {
        if (row > 0)
            expect(p, ',', "expected ',' and one number for each row");
        if (is_int)
            vec_push(p->arena, &c->ints, expect_int(p, INT64_MAX, "expected an integer for each row"));
        else
            vec_push(p->arena, &c->floats, expect_float(p, "expected a number for each row"));
    }
}

static void parse_segments(Parser *p)
{
    SegTable *s = &p->k->seg;
    if (s->rows > 0) {
        fail(p, "expected one segment table");
        return;
    }
    int32_t rows = (int32_t)expect_digits(p, INT32_MAX, "expected the number of rows");
    if (rows == 0)
        fail(p, "expected at least one row");
    Columns ints = { 0 }, floats = { 0 };
    expect(p, '{', "expected '{' and the columns");
    while (!p->failed && !accept(p, '}')) {
        bool is_int = accept_word(p, "int");
        if (is_int || expect_word(p, "float", "expected 'int', 'float' or '}'"))
            parse_column(p, rows, is_int, is_int ? &ints : &floats);
    }
    if (p->failed)
        return;
    *s = (SegTable){ .rows = rows,
                     .int_cols = ints.names.len,
                     .float_cols = floats.names.len,
                     .int_names = ints.names.at,
                     .float_names = floats.names.at,
                     .ints = ARENA_ARRAY(p->arena, int64_t, ints.ints.len + 1),
                     .floats = ARENA_ARRAY(p->arena, float, floats.floats.len + 1) };
    for (int32_t i = 0; i < ints.ints.len; i++)
        s->ints[i % rows * s->int_cols + i / rows] = ints.ints.at[i];
    for (int32_t i = 0; i < floats.floats.len; i++)
        s->floats[i % rows * s->float_cols + i / rows] = floats.floats.at[i];
}

static void parse_axis(Parser *p)
{
    Kernel *k = p->k;
    if (k->n_axes == KERNEL_MAX_AXES) {
        fail(p, "expected at most 8 axes");
        return;
    }
    Axis x = { .name = expect_name(p, "expected the name of an axis"), .seg_col = -1 };
    expect(p, '=', "expected '=' and the axis's extent");
    if (is_seg_word(peek_word(p)))
        x.seg_col = expect_seg_col(p);
    else
        x.extent = expect_digits(p, INT64_MAX, "expected an extent");
    x.kind = (AxisKind)expect_choice(p, kaxis_names, DT_COUNT(kaxis_names), "expected par, red or seq");
    if (accept_word(p, "vec")) {
        if (k->vec >= 0)
            fail(p, "expected at most one vec axis");
        k->vec = k->n_axes;
    }
    if (!p->failed)
        k->axes[k->n_axes++] = x;
}

static void parse_buf(Parser *p)
{
    KBuf b = { .name = expect_name(p, "expected the name of a buffer") };
    expect(p, ':', "expected ':' and the buffer's type");
    Word w = peek_word(p);
    if (w.len == 0 || !dtype_parse(w.s, (size_t)w.len, &b.dtype))
        fail(p, "expected an element type");
    p->p += p->failed ? 0 : w.len;
    expect(p, '[', "expected '[' and the number of elements");
    b.elems = expect_digits(p, INT64_MAX, "expected the number of elements");
    expect(p, ']', "expected ']'");
    b.mode = (BufMode)expect_choice(p, kbuf_names, DT_COUNT(kbuf_names), "expected in, out or inout");
    b.stream = accept_word(p, "stream");
    if (!p->failed)
        vec_push(p->arena, &p->k->bufs, b);
}

static void parse_reduce(Parser *p)
{
    expect_word(p, "chunks", "expected 'chunks'");
    p->k->chunks = expect_digits(p, INT64_MAX, "expected the number of chunks");
    expect_word(p, "lanes", "expected 'lanes'");
    p->k->lanes = (int32_t)expect_digits(p, INT32_MAX, "expected the number of lanes");
}

/* ---- Instructions ----------------------------------------------------------------------------------------------- */

/* %n of a value made before. */
static KVal expect_value(Parser *p)
{
    expect(p, '%', "expected a value, like %3");
    int64_t n = expect_digits(p, MAX_VALUE_NUMBER - 1, "expected the value's number");
    if (p->failed)
        return KVAL_NONE;
    if (n >= p->values.len || p->values.at[n] == KVAL_NONE) {
        fail(p, "expected a value that was made before");
        return KVAL_NONE;
    }
    return p->values.at[n];
}

static void add_checked(Parser *p, int64_t *to, int64_t x)
{
    if (__builtin_add_overflow(*to, x, to))
        fail(p, "expected an address within 63 bits");
}

static void parse_term(Parser *p, bool negative, KInst *in)
{
    int64_t factor = 1;
    bool    has_factor = false;
    skip_space(p);
    if (*p->p == '%') {
        if (negative || in->dyn != KVAL_NONE || in->op == K_INDEX)
            fail(p, "expected at most one value in an address, added");
        in->dyn = expect_value(p);
        return;
    }
    if (is_digit(*p->p)) {
        factor = expect_digits(p, (uint64_t)INT64_MAX + negative, "expected a number");
        has_factor = true;
    }
    factor = negative ? (int64_t)(0 - (uint64_t)factor) : factor;
    if (has_factor && !accept(p, '*')) {
        add_checked(p, &in->addr.c0, factor);
        return;
    }
    Word w = peek_word(p);
    if (!has_factor && is_seg_word(w)) {
        if (negative || in->addr.seg_col >= 0)
            fail(p, "expected at most one segment column in an address, added");
        in->addr.seg_col = expect_seg_col(p);
        return;
    }
    int32_t axis = find_axis(p->k, w);
    if (axis < 0) {
        fail(p, "expected an axis, a number, seg.COLUMN or a value");
        return;
    }
    p->p += w.len;
    add_checked(p, &in->addr.coef[axis], factor);
}

static void parse_address(Parser *p, KInst *in)
{
    parse_term(p, accept(p, '-'), in);
    while (!p->failed) {
        bool negative = accept(p, '-');
        if (!negative && !accept(p, '+'))
            break;
        parse_term(p, negative, in);
    }
}

static void parse_memory(Parser *p, KInst *in)
{
    Word w = peek_word(p);
    in->buf = find_buf(p->k, w);
    if (in->buf < 0) {
        fail(p, "expected the name of a buffer");
        return;
    }
    p->p += w.len;
    expect(p, '[', "expected '[' and an address");
    parse_address(p, in);
    expect(p, ']', "expected ']'");
    if (in->op == K_STORE && expect(p, ',', "expected ',' and the value to store"))
        in->arg[0] = expect_value(p);
    if (accept_word(p, "if"))
        in->guard = expect_value(p);
}

static void parse_const(Parser *p, KInst *in)
{
    switch (in->type) {
    case KT_F32:
        in->imm.f = expect_float(p, "expected a number");
        break;
    case KT_U32:
        in->imm.u = (uint32_t)expect_digits(p, UINT32_MAX, "expected an unsigned integer of 32 bits");
        break;
    case KT_BOOL:
        in->imm.i = (int32_t)expect_digits(p, 1, "expected 0 or 1");
        break;
    default:
        in->imm.i = (int32_t)expect_int(p, INT32_MAX, "expected an integer of 32 bits");
    }
}

static void parse_args(Parser *p, KInst *in)
{
    for (int32_t i = 0; i < k_ops[in->op].n_args && !p->failed; i++) {
        if (i > 0)
            expect(p, ',', "expected ',' and another value");
        in->arg[i] = expect_value(p);
    }
}

/* The operation's name with what follows the dot: const.f32, acc.sum. */
static KInst parse_op(Parser *p)
{
    Word    w = peek_word(p);
    int32_t stem = 0;
    while (stem < w.len && w.s[stem] != '.')
        stem++;
    Word    suffix = { w.s + stem + 1, w.len - stem - 1 };
    int32_t op = 0;
    while (op < K_COUNT && !word_is((Word){ w.s, stem }, k_ops[op].text))
        op++;
    KInst in = kernel_inst(op < K_COUNT ? (KOp)op : K_CONST);
    bool  typed = in.op == K_CONST || in.op == K_CVT || in.op == K_BITCAST;
    if (op == K_COUNT || (stem < w.len) != (typed || in.op == K_ACC)) {
        fail(p, "expected an instruction");
        return in;
    }
    if (typed) {
        in.type = (KType)find_text(ktype_names, DT_COUNT(ktype_names), suffix);
        if ((int)in.type <= KT_NONE)
            fail(p, "expected f32, i32, u32 or bool after the dot");
    } else if (in.op == K_ACC) {
        in.imm.i = find_text(kacc_names, DT_COUNT(kacc_names), suffix);
        if (in.imm.i < 0)
            fail(p, "expected acc.sum, acc.min or acc.max");
    }
    if (!p->failed)
        p->p += w.len;
    return in;
}

static void parse_operands(Parser *p, KInst *in)
{
    switch (in->op) {
    case K_CONST:
        parse_const(p, in);
        break;
    case K_INDEX:
        parse_address(p, in);
        break;
    case K_SEGF:
        in->imm.i = expect_choice(p, p->k->seg.float_names, p->k->seg.float_cols,
                                  "expected a float column of the segment table");
        break;
    case K_LOAD:
    case K_STORE:
        parse_memory(p, in);
        break;
    case K_LOOP:
        in->imm.i = find_axis(p->k, peek_word(p));
        if (in->imm.i < 0)
            fail(p, "expected an axis to loop over");
        else
            p->p += peek_word(p).len;
        break;
    default:
        parse_args(p, in);
    }
}

/* Names the value just appended by the number it has in the text. */
static void define(Parser *p, int64_t number, KVal v)
{
    while (p->values.len <= number)
        vec_push(p->arena, &p->values, KVAL_NONE);
    if (p->values.at[number] != KVAL_NONE)
        fail(p, "expected a number that no other value has");
    p->values.at[number] = v;
}

static void parse_region(Parser *p, KRegion *out, int depth);

static void parse_inst(Parser *p, KRegion *region, int depth)
{
    int64_t number = -1;
    if (accept(p, '%')) {
        number = expect_digits(p, MAX_VALUE_NUMBER - 1, "expected a value's number below 65536");
        expect(p, '=', "expected '=' and an instruction");
    }
    KInst in = parse_op(p);
    if (!p->failed && (number >= 0) == (in.op == K_STORE || in.op == K_LOOP))
        fail(p, number >= 0 ? "expected an instruction that has a value"
                            : "expected '%n =' before an instruction with a value");
    if (!p->failed)
        parse_operands(p, &in);
    if (p->failed)
        return;
    const char *why;
    KType       named = in.type;
    in.type = kernel_infer(p->k, &in, &why);
    if (why) {
        p->failed = true;
        diag_error(p->d, (Loc){ p->file, p->token_line }, "kernel: %s%s%s %s", k_ops[in.op].text,
                   named != KT_NONE ? "." : "", named != KT_NONE ? ktype_names[named] : "", why);
        return;
    }
    vec_push(p->arena, &p->k->insts, in);
    KVal v = p->k->insts.len - 1;
    vec_push(p->arena, region, v);
    if (number >= 0)
        define(p, number, v);
    if (in.op == K_LOOP) {
        KRegion inner = { 0 };
        parse_region(p, &inner, depth + 1);
        p->k->insts.at[v].region = inner;
    }
}

static void parse_region(Parser *p, KRegion *out, int depth)
{
    if (depth > MAX_DEPTH)
        fail(p, "expected loops nested less deeply");
    expect(p, '{', "expected '{'");
    while (!p->failed && !accept(p, '}'))
        parse_inst(p, out, depth);
}

/* ---- The kernel ------------------------------------------------------------------------------------------------- */

static void parse_head(Parser *p)
{
    expect_word(p, "kernel", "expected 'kernel'");
    expect(p, '@', "expected '@' and the kernel's name");
    const char *name = expect_name(p, "expected the kernel's name");
    skip_space(p);
    const char *title = *p->p == '"' ? expect_string(p) : "";
    p->k = kernel_new(p->arena, name, title);
    if (accept_word(p, "loc")) {
        expect(p, '(', "expected '('");
        p->k->loc.file = expect_string(p);
        expect(p, ':', "expected ':' and a line number");
        p->k->loc.line = (int32_t)expect_digits(p, INT32_MAX, "expected a line number");
        expect(p, ')', "expected ')'");
    }
    expect(p, '{', "expected '{'");
}

static void parse_item(Parser *p, bool seen[2])
{
    if (accept_word(p, "segments")) {
        parse_segments(p);
    } else if (accept_word(p, "axis")) {
        parse_axis(p);
    } else if (accept_word(p, "buf")) {
        parse_buf(p);
    } else if (accept_word(p, "core")) {
        p->k->core = expect_name(p, "expected the name of a core");
    } else if (accept_word(p, "reduce")) {
        parse_reduce(p);
    } else {
        bool final = accept_word(p, "final");
        if (!final && !accept_word(p, "body"))
            fail(p, "expected segments, axis, buf, core, reduce, body, final or '}'");
        else if (seen[final])
            fail(p, "expected each region once");
        seen[final] = true;
        parse_region(p, final ? &p->k->final : &p->k->body, 0);
    }
}

Kernel *kernel_parse(Arena *a, Diag *d, const char *file, const char *text, size_t *pos)
{
    Parser p = { .arena = a, .d = d, .file = arena_strdup(a, file), .p = text + *pos, .line = 1 };
    for (const char *s = text; s < p.p; s++)
        p.line += *s == '\n';
    bool seen[2] = { false, false };
    parse_head(&p);
    while (!p.failed && !accept(&p, '}'))
        parse_item(&p, seen);
    if (p.failed)
        return NULL;
    *pos = (size_t)(p.p - text);
    return p.k;
}
