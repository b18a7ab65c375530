/* ops.c: the op table, made from ops.def, and the attribute lists that its rows name.
 *
 * An attribute list is the one place that says what an op's attribute is called, which values it may have and what it
 * is when nothing is said: printing, parsing, range errors, hashing and docs/ops.md all follow from it. Defaults are
 * the common case, so that text stays short. ir_check_tables() finds holes at start-up.
 *
 * Tested by tests/unit/test_ir.c. */
#include "ir/ops_impl.h"

#include <string.h>

/* ---- Attribute lists ------------------------------------------------------------------------------------------- */

/* clang-format off */
#define INT_(id, dflt, lo, hi, doc)    { A_##id, false, { .i = (dflt) }, lo, hi, NULL, doc }
#define INT_REQ(id, lo, hi, doc)       { A_##id, true,  { 0 },           lo, hi, NULL, doc }
#define FLOAT_(id, dflt, lo, hi, doc)  { A_##id, false, { .f = (dflt) }, lo, hi, NULL, doc }
#define FLOAT_REQ(id, lo, hi, doc)     { A_##id, true,  { 0 },           lo, hi, NULL, doc }
#define TEXT_(id, dflt, choices, doc)  { A_##id, false, { .s = (dflt) }, 0, 0, choices, doc }
#define BOOL_(id, dflt, doc)           { A_##id, false, { .i = (dflt) }, 0, 1, NULL, doc }
#define PADS_(doc)                     { A_PAD,  false, { 0 },           0, MAX_WINDOW, NULL, doc }
#define END_                           { ATTR_COUNT, false, { 0 }, 0, 0, NULL, NULL }

enum { MAX_WINDOW = 1024 }; /* strides, paddings and kernels: far above any use, far below any overflow */

/* Rows shared by several lists. */
#define STRIDE_      INT_(STRIDE, 1, 1, MAX_WINDOW, "step of the window, in both directions")
#define CONV_        STRIDE_, PADS_("zeros around the image: top, left, bottom, right"), \
                     INT_(GROUPS, 1, 1, DT_MAX_DIM, "groups of channels that do not mix; C of them: depthwise")
#define POOL_        INT_(KERNEL, 2, 1, MAX_WINDOW, "window, square"), \
                     INT_(STRIDE, 2, 1, MAX_WINDOW, "step of the window, in both directions"), \
                     PADS_("top, left, bottom, right; smaller than the window")
#define BF16_        BOOL_(BF16, false, "operands are rounded to bf16, and the second one may be codes (s8 or u8); no groups")
#define TARGET_HW_   INT_REQ(H, 1, DT_MAX_DIM, "height of the result"), INT_REQ(W, 1, DT_MAX_DIM, "width of the result")
#define SHAPE_       INT_REQ(CHANNELS, 1, DT_MAX_DIM, "channels of the result"), \
                     INT_(H, 0, 0, DT_MAX_DIM, "height of the result; 0: rank 2"), \
                     INT_(W, 0, 0, DT_MAX_DIM, "width of the result; 0 with h = 0")
#define EPS_         FLOAT_(EPS, 1e-5, 0, 1, "added to the variance")
#define COUNT_       INT_REQ(COUNT, 1, 1e15, "elements that each channel's mean was taken over")
#define REDUCE_      TEXT_(KEEP, "", "|c|nc|n|o", "dimensions kept"), FLOAT_(SCALE, 1, 0, 0, "factor of the sum")
#define BITS_        INT_REQ(BITS, 2, 8, "width of the code")
#define HI_          INT_REQ(HI, 1, 65535, "largest code")
#define AXIS_        INT_(AXIS, 1, 0, DT_MAX_RANK - 1, "dimension that a rank-1 operand runs along")
#define RANGE_       INT_REQ(LO, -65536, 65534, "smallest code, below hi"), HI_
#define GRID_        RANGE_, AXIS_, BOOL_(ROUND, true, "false: clipped, not rounded")
#define ENDS_        TEXT_(ENDS, "open", "open|code", "which x pass a gradient: lo < t < hi, or those whose code is not clipped")
#define QDQ_         GRID_, ENDS_, BITS_, \
                     TEXT_(ROLE, "weight", "weight|act", "what is quantized"), \
                     INT_(ROW, -1, -2, 1e6, "recipe row that asked for it; -1: the default, -2: the rule for the edges")

static const AttrDef attrs_NONE[] = { END_ };
static const AttrDef attrs_PARAM[] = {
    TEXT_(INIT, "zeros", "zeros|ones|kaiming|torch|value", "first value; kaiming: N(0, 2 / fan), torch: U(-1, 1) / sqrt(fan)"),
    INT_(FAN, 0, 0, 1e15, "fan in, for init"),
    FLOAT_(VALUE, 0, 0, 0, "number of init=\"value\""),
    TEXT_(GROUP, "weight", "weight|bias|norm|step|offset", "optimizer group"),
    END_
};
static const AttrDef attrs_STATE[] = {
    TEXT_(INIT, "zeros", "zeros|ones|value", "first value"),
    FLOAT_(VALUE, 0, 0, 0, "number of init=\"value\""),
    END_
};
static const AttrDef attrs_CONST[]         = { FLOAT_REQ(VALUE, 0, 0, "the number"), END_ };
static const AttrDef attrs_CONV[]          = { CONV_, END_ };
static const AttrDef attrs_CONV_TRANSPOSE[] = { STRIDE_, PADS_("cut off the result: top, left, bottom, right"), END_ };
static const AttrDef attrs_DEPTHWISE[]        = { STRIDE_, PADS_("zeros around the image: top, left, bottom, right"), END_ };
static const AttrDef attrs_DEPTHWISE_GRAD_X[] = { STRIDE_, PADS_("zeros around the image"), TARGET_HW_, END_ };
static const AttrDef attrs_DEPTHWISE_GRAD_W[] = {
    STRIDE_, PADS_("zeros around the image"), INT_REQ(KERNEL, 1, MAX_WINDOW, "window, square"), END_
};
static const AttrDef attrs_CONV_GRAD_X[]   = { CONV_, TARGET_HW_, BF16_, END_ };
static const AttrDef attrs_CONV_GRAD_W[]   = { CONV_, INT_REQ(KERNEL, 1, MAX_WINDOW, "window, square"), BF16_, END_ };
static const AttrDef attrs_BATCHNORM[]     = { EPS_, END_ };
static const AttrDef attrs_AXIS[]          = { AXIS_, END_ };
static const AttrDef attrs_FACTOR[]        = { FLOAT_(SCALE, 1, 0, 0, "the factor"), END_ };
static const AttrDef attrs_POOL[]          = { POOL_, END_ };
static const AttrDef attrs_POOL_GRAD[]     = { POOL_, TARGET_HW_, END_ };
static const AttrDef attrs_SHAPE[]         = { SHAPE_, END_ };
static const AttrDef attrs_TARGET[]        = {
    FLOAT_(SCALE, 1, 0, 0, "the factor"), SHAPE_, AXIS_,
    INT_(COUNT, 0, 0, DT_MAX_DIM, "rows N of the result, for an x that has none (a scalar, [C])"),
    END_
};
static const AttrDef attrs_DROPOUT[] = {
    FLOAT_REQ(P, 0, 1, "probability that an element is dropped; below 1"),
    INT_(STREAM, 0, 0, UINT32_MAX, "random stream of this value"),
    END_
};
static const AttrDef attrs_MASK[] = {
    INT_REQ(COUNT, 1, DT_MAX_DIM, "samples of the batch"),
    FLOAT_REQ(P, 0, 1, "probability that a sample is dropped; below 1"),
    INT_(STREAM, 0, 0, UINT32_MAX, "random stream of this value"),
    END_
};
#define SMOOTHING_   FLOAT_(SMOOTHING, 0, 0, 1, "share of a label that all classes get alike; below 1")
#define ROOT_EPS_    FLOAT_(EPS, 1e-6, 0, 1, "added under the root")
#define ALPHA_       FLOAT_(ALPHA, 0.3, 0, 1, "weight where x is not below the target; 1 - alpha where it is")
#define FACTOR_      FLOAT_(SCALE, 1, 0, 0, "the factor")
static const AttrDef attrs_SLOPE[]         = { FLOAT_(SLOPE, 0.01, 0, 1, "factor of what is below 0"), END_ };
static const AttrDef attrs_TOP[]           = { INT_(K, 1, 1, DT_MAX_DIM, "how many best answers count; at most the classes"), END_ };
static const AttrDef attrs_XENT[]          = { SMOOTHING_, END_ };
static const AttrDef attrs_XENT_GRAD[]     = { FACTOR_, SMOOTHING_, END_ };
static const AttrDef attrs_ROOT[]          = { ROOT_EPS_, END_ };
static const AttrDef attrs_ROOT_REDUCE[]   = { ROOT_EPS_, REDUCE_, END_ };
static const AttrDef attrs_ROOT_GRAD[]     = { ROOT_EPS_, FACTOR_, END_ };
static const AttrDef attrs_ASYMMETRIC[]    = { ALPHA_, END_ };
static const AttrDef attrs_ASYM_REDUCE[]   = { ALPHA_, REDUCE_, END_ };
static const AttrDef attrs_ASYM_GRAD[]     = { ALPHA_, FACTOR_, END_ };
static const AttrDef attrs_SHORTCUT[]      = { STRIDE_, INT_REQ(CHANNELS, 1, DT_MAX_DIM, "channels of the result"), END_ };
static const AttrDef attrs_SHORTCUT_GRAD[] = { STRIDE_, INT_REQ(CHANNELS, 1, DT_MAX_DIM, "channels of x"), TARGET_HW_, END_ };
static const AttrDef attrs_SLICE[] = {
    INT_(BEGIN, 0, -DT_MAX_DIM, DT_MAX_DIM, "channel of x that becomes the first; negative: zeros come before it"),
    INT_REQ(CHANNELS, 1, DT_MAX_DIM, "channels of the result"),
    END_
};
static const AttrDef attrs_PAD_IMAGE[] = {
    { A_PAD, true, { 0 }, -DT_MAX_DIM, DT_MAX_DIM, NULL, "zeros added: top, left, bottom, right; negative: cut off" }, END_
};
static const AttrDef attrs_UPSAMPLE[] = {
    INT_REQ(FACTOR, 1, MAX_WINDOW, "how many times as high and as wide"),
    BOOL_(BILINEAR, false, "bilinear with half-pixel centres; false: nearest neighbours"),
    END_
};
static const AttrDef attrs_FACTORS[]       = { INT_REQ(FACTOR, 1, MAX_WINDOW, "how many times as high and as wide"), END_ };
static const AttrDef attrs_REDUCE[]        = { REDUCE_, END_ };
static const AttrDef attrs_EPS[]           = { EPS_, END_ };
static const AttrDef attrs_COUNT[]         = { COUNT_, END_ };
static const AttrDef attrs_BN_GRAD[]       = { EPS_, COUNT_, END_ };
static const AttrDef attrs_EMA[]           = {
    FLOAT_(MOMENTUM, 0.1, 0, 1, "weight of the new number"), FLOAT_(SCALE, 1, 0, 0, "factor of the new number"), END_
};
static const AttrDef attrs_QDQ[]           = { QDQ_, END_ };
static const AttrDef attrs_CODES[] = {
    INT_REQ(LO, -128, 0, "smallest code"), INT_REQ(HI, 1, 255, "largest code; above 127 only with lo = 0"), AXIS_,
    BOOL_(CENTRED, false, "less the zero point: the real 0 has code 0; hi - lo is at most 127"), END_
};
static const AttrDef attrs_QDQ_GRAD[]      = { GRID_, ENDS_, END_ };
static const AttrDef attrs_GRID_REDUCE[]   = { GRID_, REDUCE_, END_ };
static const AttrDef attrs_RANGE[]         = { RANGE_, END_ };
static const AttrDef attrs_HI[]            = { HI_, END_ };
static const AttrDef attrs_REPEAT[]        = { INT_REQ(COUNT, 1, DT_MAX_DIM, "how often each number is repeated"), END_ };
static const AttrDef attrs_NOISE[] = {
    FLOAT_REQ(P, 0, 1, "probability that a block is quantized"),
    INT_(STREAM, 0, 0, UINT32_MAX, "random stream of this value"),
    INT_(BLOCK, 1, 1, DT_MAX_DIM, "neighbours, in logical order, that share a draw"),
    END_
};
#define PENALTY_     TEXT_(FORM, "qsin", "qsin|msqe|sinreq", "which regularizer; see ir/body_penalty.c"), RANGE_, AXIS_
static const AttrDef attrs_PENALTY[]       = { PENALTY_, REDUCE_, END_ };
static const AttrDef attrs_PENALTY_GRAD[]  = { PENALTY_, FLOAT_(SCALE, 1, 0, 0, "the factor"), END_ };
static const AttrDef attrs_LSQ_INIT[]      = { HI_, BITS_, END_ };
static const AttrDef attrs_SGD[] = {
    FLOAT_(MOMENTUM, 0, 0, 1, "weight of the old velocity"),
    FLOAT_(DECAY, 0, 0, 1e6, "weight decay, added to the gradient"),
    BOOL_(NESTEROV, false, "look ahead by one momentum step"),
    FLOAT_(FLOOR, 0, 0, 1e30, "lower bound of the new value; 0: none"),
    END_
};
static const AttrDef attrs_DISTILL[]       = { FLOAT_(TEMPERATURE, 1, 1e-3, 1e6, "what logits are divided by"), END_ };
static const AttrDef attrs_ADAM[] = {
    FLOAT_(EPS, 1e-8, 0, 1, "added to the root"),
    FLOAT_(DECAY, 0, 0, 1e6, "weight decay, times lr"),
    FLOAT_(FLOOR, 0, 0, 1e30, "lower bound of the new value; 0: none"),
    END_
};
static const AttrDef attrs_DECAY[]         = { FLOAT_REQ(DECAY, 0, 1e6, "weight decay"), END_ };
static const AttrDef attrs_SQUARE_EMA[]    = { FLOAT_(MOMENTUM, 0.001, 0, 1, "weight of the new number"), END_ };
static const AttrDef attrs_EPS_ROOT[]      = { FLOAT_(EPS, 1e-8, 0, 1, "keeps the divisor from 0"), END_ };
static const AttrDef attrs_LIMIT[]         = { FLOAT_REQ(LIMIT, 0, 1e30, "the largest that is let through"), END_ };
static const AttrDef attrs_EMA_RATE[] = {
    FLOAT_REQ(DECAY, 0, 1, "weight of the old average"), BOOL_(WARM, false, "less at first"), END_
};
/* clang-format on */

/* ---- The table ------------------------------------------------------------------------------------------------- */

const OpInfo ir_ops[OP_COUNT] = {
#define OP(id, text, min_in, max_in, list, traits, infer, grad, surrogate, body, final, acc, doc)                      \
    [OP_##id] = { text, min_in, max_in, attrs_##list, DT_COUNT(attrs_##list) - 1, traits, infer, grad, surrogate,      \
                  body, final,  acc,    doc },
#include "ir/ops.def"
#undef OP
};

static const struct {
    const char *text;
    AttrKind    kind;
} attr_table[ATTR_COUNT] = {
#define X(id, text, kind) { text, kind },
    DT_ATTRS(X)
#undef X
};

static const char *const attr_kind_names[] = { "integer", "number", "text", "true or false", "four integers" };

const char              *attr_name(AttrId id)
{
    return attr_table[id].text;
}

AttrKind attr_kind(AttrId id)
{
    return attr_table[id].kind;
}

const char *ir_attr_kind_name(AttrKind kind)
{
    return attr_kind_names[kind];
}

bool ir_op_parse(const char *text, size_t len, OpCode *out)
{
    for (int32_t op = 0; op < OP_COUNT; op++) {
        if (strlen(ir_ops[op].text) == len && memcmp(ir_ops[op].text, text, len) == 0) {
            *out = (OpCode)op;
            return true;
        }
    }
    return false;
}

/* ---- Attribute values ------------------------------------------------------------------------------------------ */

bool ir_attr_equal(AttrKind kind, AttrVal a, AttrVal b)
{
    switch (kind) {
    case ATTR_INT:
    case ATTR_BOOL:
        return a.i == b.i;
    case ATTR_FLOAT:
        return memcmp(&a.f, &b.f, sizeof a.f) == 0; /* by bits: -0 is not 0, a NaN is itself */
    case ATTR_TEXT:
        return str_eq(a.s, b.s);
    case ATTR_PADS:
        return memcmp(a.pads, b.pads, sizeof a.pads) == 0;
    }
    DT_UNREACHABLE("attribute kind %d", (int)kind);
}

/* Is `word` one of the '|'-separated `choices`? */
static bool is_choice(const char *choices, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = choices;; at++) {
        const char *end = strchr(at, '|');
        size_t      n = end ? (size_t)(end - at) : strlen(at);
        if (n == len && memcmp(at, word, n) == 0)
            return true;
        if (!end)
            return false;
        at = end;
    }
}

/* "", "c", "nc" */
static void print_choices(Str *out, const char *choices, const char *quote)
{
    for (const char *at = choices;; at++) {
        size_t n = strcspn(at, "|");
        str_printf(out, "%s%s\"%.*s\"%s", at == choices ? "" : ", ", quote, (int)n, at, quote);
        at += n;
        if (!*at)
            return;
    }
}

static bool in_range(const AttrDef *def, double x)
{
    return (def->min == 0 && def->max == 0) || (x >= def->min && x <= def->max);
}

static bool choice_error(const char *op, const char *name, const AttrDef *def, AttrVal val, Diag *d, Loc at)
{
    Str choices = str_new(&d->arena);
    if (def->choices)
        print_choices(&choices, def->choices, "");
    else
        str_add(&choices, "any text");
    diag_error(d, at, "%s: %s is \"%s\", expected one of %s", op, name, val.s ? val.s : "(nothing)", choices.s);
    return false;
}

bool ir_attr_check(const char *op, const AttrDef *def, AttrVal val, Diag *d, Loc at)
{
    const char *name = attr_name(def->id);
    switch (attr_kind(def->id)) {
    case ATTR_INT:
    case ATTR_BOOL:
        if (in_range(def, (double)val.i))
            return true;
        diag_error(d, at, "%s: %s is %lld, expected %.17g to %.17g", op, name, (long long)val.i, def->min, def->max);
        return false;
    case ATTR_FLOAT:
        if (in_range(def, val.f))
            return true;
        diag_error(d, at, "%s: %s is %g, expected %g to %g", op, name, val.f, def->min, def->max);
        return false;
    case ATTR_TEXT:
        if (val.s && (!def->choices || is_choice(def->choices, val.s)))
            return true;
        return choice_error(op, name, def, val, d, at);
    case ATTR_PADS:
        for (int32_t i = 0; i < 4; i++) {
            if (!in_range(def, (double)val.pads[i])) {
                diag_error(d, at, "%s: %s is [%lld,%lld,%lld,%lld], expected each to be %g to %g", op, name,
                           (long long)val.pads[0], (long long)val.pads[1], (long long)val.pads[2],
                           (long long)val.pads[3], def->min, def->max);
                return false;
            }
        }
        return true;
    }
    DT_UNREACHABLE("attribute kind %d", (int)attr_kind(def->id));
}

int32_t ir_attr_index(OpCode op, AttrId id)
{
    const OpInfo *info = &ir_ops[op];
    for (int32_t i = 0; i < info->n_attrs; i++) {
        if (info->attrs[i].id == id)
            return i;
    }
    return -1;
}

static const AttrVal *attr_of(const Value *v, AttrId id, uint32_t kinds)
{
    int32_t i = ir_attr_index(v->op, id);
    DT_ASSERT(i >= 0, "%s has no attribute %s", ir_ops[v->op].text, attr_name(id));
    DT_ASSERT(kinds >> attr_kind(id) & 1, "%s of %s is not asked for by its kind", attr_name(id), ir_ops[v->op].text);
    return &v->attr[i];
}

int64_t ir_int(const Value *v, AttrId id)
{
    return attr_of(v, id, 1 << ATTR_INT | 1 << ATTR_BOOL)->i;
}

double ir_float(const Value *v, AttrId id)
{
    return attr_of(v, id, 1 << ATTR_FLOAT)->f;
}

const char *ir_text(const Value *v, AttrId id)
{
    const char *s = attr_of(v, id, 1 << ATTR_TEXT)->s;
    return s ? s : "";
}

const int64_t *ir_pads(const Value *v, AttrId id)
{
    return attr_of(v, id, 1 << ATTR_PADS)->pads;
}

/* ---- Checks at start ------------------------------------------------------------------------------------------- */

/* Every form of a penalty that a text may name has its rules. */
static bool check_forms(const OpInfo *info, const AttrDef *def, Diag *d)
{
    bool ok = true;
    for (const char *at = def->choices; *at; at += *at == '|') {
        const char *form = arena_printf(&d->arena, "%.*s", (int)strcspn(at, "|"), at);
        if (!ir_is_penalty(form)) {
            diag_error(d, LOC_NONE, "op table: %s: no rules for the form %s", info->text, form);
            ok = false;
        }
        at += strlen(form);
    }
    return ok;
}

static bool check_attrs(const OpInfo *info, Diag *d)
{
    bool ok = true;
    for (int32_t i = 0; i < info->n_attrs; i++) {
        const AttrDef *def = &info->attrs[i];
        if (!def->doc || !def->doc[0]) {
            diag_error(d, LOC_NONE, "op table: %s: attribute %s has no doc", info->text, attr_name(def->id));
            ok = false;
        }
        for (int32_t j = 0; j < i; j++) {
            if (info->attrs[j].id == def->id) {
                diag_error(d, LOC_NONE, "op table: %s: attribute %s is listed twice", info->text, attr_name(def->id));
                ok = false;
            }
        }
        if (def->id == A_FORM)
            ok = check_forms(info, def, d) && ok;
        if (!def->required)
            ok = ir_attr_check(info->text, def, def->fallback, d, LOC_NONE) && ok;
    }
    return ok;
}

/* What is missing in a row; NULL: nothing. */
static const char *hole_in(const OpInfo *info)
{
    uint32_t t = info->traits;
    if (!info->text || !info->text[0])
        return "no name";
    if (!info->doc || !info->doc[0])
        return "no doc";
    if (!info->infer)
        return "no infer rule";
    if (info->min_in < 0 || info->min_in > info->max_in)
        return "least and most inputs contradict each other";
    if (!info->grad && !(t & (T_NODIFF | T_LEAF | T_EFFECT)))
        return "no gradient, and not marked T_NODIFF";
    if (info->grad && (t & T_NODIFF))
        return "a gradient, though marked T_NODIFF";
    if (info->surrogate && !info->grad)
        return "a surrogate without a gradient";
    if ((t & (T_ELTWISE | T_REDUCE | T_NEST | T_FOLD)) && !info->body)
        return "no body";
    if (info->body && (t & (T_COMPOSITE | T_LIBRARY | T_VIEW | T_EFFECT | T_LEAF)))
        return "a body that nothing would run";
    if ((t & T_REDUCE) && !info->final)
        return "no final body";
    if (info->final && !(t & T_REDUCE))
        return "a final body, though not marked T_REDUCE";
    uint32_t kinds =
        t & (T_LEAF | T_ELTWISE | T_REDUCE | T_NEST | T_FOLD | T_LIBRARY | T_VIEW | T_EFFECT | T_COMPOSITE);
    if (kinds == 0 || (kinds & (kinds - 1)) != 0)
        return "not exactly one kind of execution among its traits";
    return NULL;
}

bool ir_check_tables(Diag *d)
{
    bool ok = true;
    for (int32_t op = 0; op < OP_COUNT; op++) {
        const OpInfo *info = &ir_ops[op];
        const char   *hole = hole_in(info);
        if (hole) {
            diag_error(d, LOC_NONE, "op table: row %d (%s): %s", op, info->text ? info->text : "?", hole);
            ok = false;
            continue;
        }
        OpCode found = OP_COUNT;
        if (!ir_op_parse(info->text, strlen(info->text), &found) || found != (OpCode)op) {
            diag_error(d, LOC_NONE, "op table: row %d: the name %s is taken by row %d", op, info->text, (int)found);
            ok = false;
        }
        ok = check_attrs(info, d) && ok;
    }
    return ok;
}

/* ---- docs/ops.md ----------------------------------------------------------------------------------------------- */

static const struct {
    uint32_t    trait;
    const char *text;
} trait_docs[] = {
    { T_LEAF, "leaf" },          { T_ELTWISE, "element-wise" }, { T_REDUCE, "reduction" },
    { T_NEST, "nest of loops" }, { T_LIBRARY, "library call" }, { T_VIEW, "view of the same memory" },
    { T_EFFECT, "effect" },      { T_COMPOSITE, "composite" },  { T_RANDOM, "random" },
    { T_COMMUTES, "commutes" },  { T_EXACT, "exact grid" },     { T_INIT, "first batch only" },
    { T_FOLD, "fold" },
};

static void doc_fallback(Str *out, const AttrDef *def)
{
    if (def->required) {
        str_add(out, "required");
        return;
    }
    ir_attr_print(out, attr_kind(def->id), def->fallback);
}

static void doc_range(Str *out, const AttrDef *def)
{
    if (def->choices) {
        print_choices(out, def->choices, "`");
    } else if (def->min != 0 || def->max != 0) {
        str_printf(out, "%.10g to %.10g", def->min, def->max);
    } else {
        str_add(out, "any");
    }
}

static void doc_traits(Str *out, const OpInfo *info)
{
    const char *sep = "";
    for (int32_t i = 0; i < DT_COUNT(trait_docs); i++) {
        if (info->traits & trait_docs[i].trait) {
            str_printf(out, "%s%s", sep, trait_docs[i].text);
            sep = ", ";
        }
    }
}

static void doc_op(Str *out, const OpInfo *info)
{
    str_printf(out, "## `%s`\n\n%s\n\n", info->text, info->doc);
    if (info->min_in == info->max_in)
        str_printf(out, "Inputs: %d. ", info->min_in);
    else
        str_printf(out, "Inputs: %d to %d. ", info->min_in, info->max_in);
    str_add(out, "Kind: ");
    doc_traits(out, info);
    str_printf(out, ". Gradient: %s", info->grad ? "yes" : "none");
    if (info->surrogate)
        str_printf(out, ", that of %s", info->surrogate);
    str_add(out, ".\n\n");
    if (info->n_attrs == 0)
        return;
    str_add(out, "| attribute | kind | default | range | meaning |\n| --- | --- | --- | --- | --- |\n");
    for (int32_t i = 0; i < info->n_attrs; i++) {
        const AttrDef *def = &info->attrs[i];
        str_printf(out, "| `%s` | %s | ", attr_name(def->id), ir_attr_kind_name(attr_kind(def->id)));
        doc_fallback(out, def);
        str_add(out, " | ");
        doc_range(out, def);
        str_printf(out, " | %s |\n", def->doc);
    }
    str_add(out, "\n");
}

/* One line an op: what it takes, what it is, whether it has a gradient. */
static void doc_overview(Str *out)
{
    str_add(out, "| op | inputs | attributes | kind | gradient |\n| --- | --- | --- | --- | --- |\n");
    for (int32_t op = 0; op < OP_COUNT; op++) {
        const OpInfo *info = &ir_ops[op];
        str_printf(out, "| [`%s`](#%s) | %d", info->text, info->text, info->min_in);
        if (info->max_in > info->min_in)
            str_printf(out, " to %d", info->max_in);
        str_add(out, " | ");
        for (int32_t i = 0; i < info->n_attrs; i++) {
            const AttrDef *def = &info->attrs[i];
            str_printf(out, "%s%s", i ? ", " : "", attr_name(def->id));
            if (!def->required) {
                str_add(out, "=");
                doc_fallback(out, def);
            }
        }
        str_add(out, " | ");
        doc_traits(out, info);
        str_printf(out, " | %s%s |\n", info->grad ? "yes" : "", info->surrogate ? ", of a surrogate" : "");
    }
    str_add(out, "\n");
}

void ir_ops_doc(Str *out)
{
    str_add(
        out,
        "# Ops of the graph IR\n\n"
        "Made from `ir/ops.def` and the attribute lists of `ir/ops.c` by `tools/make-docs`; do not edit by hand.\n\n"
        "Operands of element-wise ops may be a scalar, a rank-1 vector along dimension `axis` (1 where the op has "
        "no such attribute), or of the same rank with dimensions equal or 1. The result has the shape of the "
        "largest. Attributes that have their default are not printed.\n\n");
    doc_overview(out);
    for (int32_t op = 0; op < OP_COUNT; op++)
        doc_op(out, &ir_ops[op]);
}
