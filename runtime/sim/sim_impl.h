/* sim_impl.h: what the files of the simulator share: tokens, the module, a running block.
 *
 *     text --lex.c--> tokens --parse*.c--> SimKernel (code.h) --run*.c--> memory
 *                                                       check.c: who touched which word when
 *
 * Tested by tests/unit/test_sim.c. */
#ifndef DETENT_SIM_IMPL_H
#define DETENT_SIM_IMPL_H

#include "runtime/sim/code.h"
#include "runtime/sim/sim.h"

/* ---- Text (lex.c) ---------------------------------------------------------------------------------------------- */

typedef enum TokenKind { TOK_END, TOK_NAME, TOK_INT, TOK_FLOAT, TOK_STRING, TOK_PUNCT } TokenKind;
typedef struct Token {
    TokenKind   kind;
    int32_t     id;   /* NAME: of the word; PUNCT: its characters, the last one lowest */
    int32_t     line; /* of the text */
    Loc         map;  /* by #line; file NULL: none */
    const char *at;
    int32_t     len;
    SimBase     base; /* INT */
    union {
        uint64_t i;
        float    f;
    } value;
} Token;
#define PUNCT2(a, b) ((a) << 8 | (b))
#define PUNCT3(a, b, c) ((a) << 16 | (b) << 8 | (c))

typedef struct SimPage SimPage; /* check.h */
struct SimModule {
    Arena      *a;
    const char *source;
    StrMap      words; /* names, by id */
    VEC(const char *) names;
    VEC(Token) tokens;
    VEC(SimKernel) kernels;
    VEC(SimPage *) pages; /* for any launch; the running one has the first pages_used */
    int32_t pages_used;
};

int32_t word_id(SimModule *m, const char *at, int32_t len);
/* The tokens of m->source. False: reported. */
bool sim_lex(SimModule *m, Diag *d);
/* An error at a token: line of the text, the line itself, where #line says it comes from. */
void sim_error_at(const SimModule *m, Diag *d, int32_t token, const char *fmt, ...) DT_PRINTF(4, 5);

/* ---- Parser (parse.c) ------------------------------------------------------------------------------------------ */

void sim_words_new(SimModule *m);      /* all words that mean something, so that their ids are known */
bool sim_parse(SimModule *m, Diag *d); /* false: reported */

/* ---- A launch (run.c) ------------------------------------------------------------------------------------------ */

typedef float        f32a __attribute__((may_alias)); /* registers are read as whatever the instruction says */
typedef int32_t      i32a __attribute__((may_alias));
typedef uint32_t     u32a __attribute__((may_alias));
typedef int64_t      i64a __attribute__((may_alias));
typedef uint64_t     u64a __attribute__((may_alias));

typedef struct Watch Watch; /* check.h */

/* A region of the running kernel. */
typedef struct Place {
    uint8_t *at;
    int64_t  bytes;
    uint64_t align_at; /* address that alignment is judged by */
    bool     writable;
    int32_t  watch;       /* the range of check.h that it lies in; -1: nobody writes there */
    int64_t  watch_start; /* offset there */
} Place;

typedef struct Run {
    SimModule       *m;
    Diag            *d;
    const SimKernel *k;
    const SimLaunch *l;
    unsigned char   *regs;  /* of slot 0 */
    int32_t          lanes; /* threads, rounded up: all registers have so many */
    int32_t          threads;
    u32a            *mask; /* active lanes */
    int32_t          active, returned;
    u32a            *gone; /* lanes that returned */
    int32_t          pc;
    bool             fault;
    int64_t          steps; /* loop iterations that the block may still do */
    int64_t          block;
    int64_t         *addr; /* addresses of the running memory instruction, in their region */
    Place           *places;
    Watch           *watch;
    Arena            arena; /* of this launch */
} Run;

static inline void *run_reg(const Run *r, int32_t slot)
{
    return r->regs + (ptrdiff_t)slot * r->lanes * 4;
}
#define LANES _Pragma("omp simd") for (int32_t i = 0; i < n; i++)

#define X(name) void op_##name(Run *r, const Inst *in);
SIM_OPS(X)
#undef X
extern void (*const sim_op_table[OP_COUNT])(Run *, const Inst *);

/* Stops the launch: says kernel, line, block and thread (lane; -1: none). The first fault alone counts. */
void    run_fault(Run *r, const Inst *in, int32_t lane, const char *fmt, ...) DT_PRINTF(4, 5);
void    run_fault_help(Run *r, const char *fmt, ...) DT_PRINTF(2, 3); /* what to do, after run_fault */
int32_t run_first_active(const Run *r);
/* imm + [a] + [b] * scale for all lanes (run_memory.c). */
void run_addresses(const Run *r, const Inst *in, i64a *to);
/* "tile[3]": what is at this offset of a region. */
const char *run_where(Run *r, int32_t region, int64_t offset);

#endif
