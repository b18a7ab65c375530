/* parse.h: the parser's own: types, values of expressions, scopes. parse.c reads a file, parse_stmt.c statements,
 * parse_type.c types, parse_decl.c declarations, parse_expr.c expressions, parse_call.c calls; parse_value.c and
 * parse_memory.c emit code.
 *
 * There is no tree: code is emitted while the text is read. A function is read again wherever it is called, with its
 * parameters bound to the arguments.
 *
 * Tested by tests/unit/test_sim.c. */
#ifndef DETENT_SIM_PARSE_H
#define DETENT_SIM_PARSE_H

#include "runtime/sim/sim_impl.h"

enum { MAX_DIMS = 3, MAX_DEPTH = 200, MAX_SHARED_BYTES = 48 << 10, MAX_CALL_ARGS = 256 };

/* ---- Words that mean something; the order is that of the ids ---- */

// clang-format off
#define SIM_KEYWORDS(X)                                                                                                \
    X(void) X(bool) X(char) X(short) X(int) X(long) X(float) X(double) X(signed) X(unsigned) X(const) X(static)        \
    X(extern) X(volatile) X(inline) X(if) X(else) X(for) X(while) X(do) X(break) X(continue) X(return) X(sizeof)       \
    X(true) X(false) X(goto) X(switch) X(struct) X(template) X(typedef) X(auto) X(constexpr)                           \
    X(__restrict__) X(__global__) X(__device__) X(__constant__) X(__shared__) X(__forceinline__) X(__noinline__)       \
    X(__launch_bounds__) X(__align__) X(alignas) X(threadIdx) X(blockIdx) X(blockDim) X(gridDim)
/*    name     base  components */
#define SIM_VECTORS(X)                                                                                                 \
    X(float2, T_F32, 2) X(float4, T_F32, 4) X(int2, T_I32, 2) X(int4, T_I32, 4) X(uint2, T_U32, 2) X(uint4, T_U32, 4)  \
    X(uchar2, T_U8, 2) X(uchar4, T_U8, 4) X(char2, T_S8, 2) X(char4, T_S8, 4)
// clang-format on
enum {
#define X(name) KW_##name,
    SIM_KEYWORDS(X)
#undef X
        KW_COUNT,
    WORD_VECTORS = KW_COUNT - 1, /* float2 ... then make_float2 ... then x y z w, then the functions */
#define X(name, base, n) WORD_##name,
    SIM_VECTORS(X)
#undef X
        WORD_MAKE = WORD_char4, /* the last of them */
#define X(name, base, n) WORD_make_##name,
    SIM_VECTORS(X)
#undef X
        WORD_x,
    WORD_y,
    WORD_z,
    WORD_w,
    WORD_FUNCS
};

/* ---- Types ---- */

typedef struct Type {
    SimBase base;
    int32_t n;        /* components: 1, 2, 4 */
    bool    ptr;      /* a pointer to the rest */
    bool    is_const; /* the object, or what the pointer points to */
    bool    fixed;    /* the pointer itself is const */
    int32_t n_dims;   /* an array; of a pointer: what it points to */
    int32_t dim[MAX_DIMS];
} Type;
static inline Type sim_type_of(SimBase base)
{
    return (Type){ .base = base, .n = 1 };
}
bool        sim_type_same(Type a, Type b); /* const aside */
bool        sim_type_is_scalar(Type t);    /* a number or bool */
bool        sim_type_is_int(Type t);       /* and not a float */
bool        sim_type_is_wide(Type t);      /* 64 bits: a pointer, too */
int64_t     sim_type_bytes(Type t);        /* of a pointer: of what it points to */
const char *sim_type_name(Arena *a, Type t);

/* ---- Values ---- */

/* offset = imm + [base] + [index] * scale, in `region`; region REGION_NONE: [base] is a tagged pointer. */
typedef struct Addr {
    int32_t   region, base, index;
    IndexKind kind;
    int64_t   scale, imm;
} Addr;

typedef enum ValKind {
    VAL_NONE,  /* void, or what is left of a mistake */
    VAL_CONST, /* bits */
    VAL_REG,   /* slot[component]; of a pointer, slot[0] is `addr.base` */
    VAL_MEM    /* at addr; a pointer: it is addr */
} ValKind;
typedef struct Val {
    ValKind  kind;
    Type     t;
    bool     lvalue, temp; /* temp: nobody else has its registers */
    uint64_t bits;
    int32_t  slot[4];
    int32_t  def; /* registers that say whether each component was set; SLOT_NONE: it always is */
    int32_t  sym; /* a variable: its place in `syms`; else -1 */
    Addr     addr;
} Val;

/* ---- Scopes ---- */

typedef enum SymKind { SYM_VAR, SYM_TABLE, SYM_FUNC } SymKind;
typedef struct Sym {
    SymKind kind;
    int32_t name;
    Val     val;    /* VAR, TABLE */
    int32_t region; /* VAR: local memory that has been made of it, or REGION_NONE; TABLE: index of the table */
    int32_t params; /* FUNC: token after its name */
    Type    result; /* FUNC */
} Sym;

/* The loop around a statement: where lanes wait that broke out or go on with the next round. */
typedef struct Loop {
    int32_t exit_mask, again_mask;
    bool    again; /* somebody continues */
} Loop;
/* The function around it. */
typedef struct Body {
    bool    kernel;
    Type    result;
    Val     value;  /* what it returned; registers, when returns are `spread` */
    bool    spread; /* there are returns other than one at its very end */
    int32_t mask;   /* spread: lanes that returned */
    int32_t end;    /* token of the closing brace */
    int32_t call;   /* token to blame for arguments */
} Body;

typedef VEC(int32_t) Jumps;

typedef struct Parser {
    SimModule *m;
    Arena     *a;
    Diag      *d;
    int32_t    at; /* token */
    bool       failed;
    SimKernel *k; /* code goes here */
    VEC(Sym) syms;
    int32_t scope_floor; /* names of the caller are between the globals and this */
    int32_t n_globals;
    VEC(Region) tables;
    VEC(int32_t) shared_tokens; /* shared arrays of the kernel: token of the declaration, region */
    int32_t next_slot;
    int32_t impure; /* instructions that must obey the mask, so far */
    int32_t depth, calls;
    int32_t left; /* statements so far that take lanes away from what follows */
    Loop   *loop; /* innermost, of this function; NULL */
    Body   *body;
    Jumps  *jumps; /* to the end of the innermost construct */
    Run    *fold;  /* computes constants */
} Parser;

/* parse.c */
void         parse_error(Parser *p, const char *fmt, ...) DT_PRINTF(2, 3); /* at the current token */
void         parse_error_at(Parser *p, int32_t token, const char *fmt, ...) DT_PRINTF(3, 4);
const Token *parse_peek(const Parser *p, int32_t ahead);
bool         parse_is(const Parser *p, int32_t punct);
bool         parse_is_word(const Parser *p, int32_t word);
bool         parse_accept(Parser *p, int32_t punct);
bool         parse_accept_word(Parser *p, int32_t word);
bool         parse_expect(Parser *p, int32_t punct, const char *where);
int32_t      parse_name(Parser *p, const char *what); /* -1: reported */
const char  *parse_token_text(const Parser *p, int32_t token);
int32_t      parse_matching(const Parser *p, int32_t open); /* of ( or {: token that closes it; -1: none */
bool         parse_deeper(Parser *p);                       /* false: reported; undone by p->depth-- */
Sym         *parse_find(Parser *p, int32_t name);
void         parse_declare(Parser *p, Sym s);
/* Reads parameters and body of a function; its parameters are `args`. Leaves p->at behind it. */
void parse_function(Parser *p, int32_t params, Body *b, const Val *args, int32_t n);

/* parse_type.c */
/* What stands before a declared name. */
typedef struct Spec {
    Type    t;
    bool    is_static, is_extern, is_shared, is_constant, is_device, is_global, is_constexpr;
    int32_t align, launch_bound;
} Spec;
bool    parse_at_type(const Parser *p);
Spec    parse_spec(Parser *p);
Type    parse_pointer(Parser *p, Type t); /* a star and what may follow it */
Type    parse_type_name(Parser *p);       /* of a cast or sizeof */
Type    parse_dims(Parser *p, Type t);
int64_t parse_constant(Parser *p, const char *what);

/* parse_decl.c */
void        parse_declaration(Parser *p);         /* a local one, with its semicolon */
const void *parse_table_data(Parser *p, Type *t); /* the initialiser of a table; sets a missing dimension */
int32_t     parse_region(Parser *p, Region r);
/* Is the name given another value before the scope around the current token ends? 2: another than its own plus
 * something. */
int32_t parse_assigned(const Parser *p, int32_t name, int32_t from, int32_t to);
int32_t parse_scope_end(const Parser *p);
Val     parse_bind_pointer(Parser *p, Type t, Val v, int32_t assigned); /* what a pointer variable or parameter is */

/* parse_stmt.c */
void parse_statement(Parser *p);
void parse_block(Parser *p); /* the statements up to the brace that closes */

/* parse_expr.c */
Val parse_expr(Parser *p);       /* with commas */
Val parse_assignment(Parser *p); /* without */
Val parse_paren_condition(Parser *p);

/* parse_call.c */
Val parse_call(Parser *p, int32_t name, int32_t token);

/* parse_value.c */
Val     val_none(void);
Val     val_int(int64_t i);
Val     val_bits(Type t, uint64_t bits);
int32_t val_slot(Parser *p, const Val *v, int32_t component); /* a register that holds it */
Val     val_load(Parser *p, Val v);                           /* an rvalue; arrays become pointers */
Val     val_convert(Parser *p, Val v, Type t, bool cast);
Val     val_condition(Parser *p, Val v); /* bool */
Val     val_op(Parser *p, SimOp op, Type result, const Val *args, int32_t n);
Val     val_copy(Parser *p, Val v); /* in registers of its own */
Val     val_select(Parser *p, Val c, Val a, Val b);
void    val_assign(Parser *p, Val to, Val v); /* v has its type */
Val     val_component(Parser *p, Val v, int32_t component);
Val     val_new(Parser *p, Type t); /* registers */
int32_t sim_emit(Parser *p, Inst in);
int32_t sim_emit_op(Parser *p, SimOp op, int32_t d, int32_t a, int32_t b, int32_t c);
int32_t slot_new(Parser *p, int32_t n);

/* parse_memory.c */
Addr addr_none(void);
Val  val_pointer(Parser *p, Type t, Addr a);
Val  val_pointer_add(Parser *p, Val pointer, Val index, int32_t sign);
Val  val_deref(Parser *p, Val pointer);
Val  val_address(Parser *p, Val lvalue);
Val  val_read(Parser *p, Val mem);
void val_write(Parser *p, Val mem, Val v);
Val  val_pointer_register(Parser *p, Val pointer, int32_t region); /* in one register; relative to region, or tagged */
Val  val_pointer_cast(Parser *p, Val pointer, Type t);

#endif
