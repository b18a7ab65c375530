/* base.h: what every part of Detent stands on: element types, arenas, vectors, strings, diagnostics,
 * log, options, random numbers, hashes. It knows nothing of graphs.
 *
 * Memory has one policy. Everything is allocated from an Arena and dies with it; nothing is freed alone.
 * Four lifetimes: session (options, diagnostics), graph (IR), scratch (one pass), program (plan, launches).
 * `Arena *` is the first parameter of whatever allocates, and what it returns lives as long as that arena.
 *
 * Tested by tests/unit/test_base.c. */
#ifndef DETENT_BASE_H
#define DETENT_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define DT_VERSION "0.1.0"

#define DT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DT_NORETURN __attribute__((noreturn))
#define DT_CHECKED __attribute__((warn_unused_result))
#define DT_COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

static inline int64_t dt_min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t dt_max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t dt_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Where part i of n of the units begins: contiguous ones, of about one size. */
static inline int64_t dt_part(int64_t units, int64_t i, int64_t n)
{
    return units / n * i + dt_min64(i, units % n);
}
static inline int64_t dt_round_up(int64_t a, int64_t to)
{
    return dt_ceil_div(a, to) * to;
}
/* a * b for a, b >= 0; false (and *out = 0) when it does not fit 63 bits. */
bool dt_mul64(int64_t a, int64_t b, int64_t *out) DT_CHECKED;

/* ---- Element types --------------------------------------------------------------------------------------------- */

/*          id   text  bits  signed float   Sub-byte elements are packed, the lowest index in the lowest bits. */
#define DT_DTYPES(X)                                                                                                   \
    X(F32, "f32", 32, 1, 1)                                                                                            \
    X(I32, "i32", 32, 1, 0)                                                                                            \
    X(U32, "u32", 32, 0, 0)                                                                                            \
    X(U8, "u8", 8, 0, 0)                                                                                               \
    X(S8, "s8", 8, 1, 0)                                                                                               \
    X(U4, "u4", 4, 0, 0)                                                                                               \
    X(S4, "s4", 4, 1, 0)                                                                                               \
    X(U2, "u2", 2, 0, 0)                                                                                               \
    X(S2, "s2", 2, 1, 0)                                                                                               \
    X(B1, "b1", 1, 0, 0)

typedef enum DType {
#define X(id, text, bits, is_signed, is_float) DTYPE_##id,
    DT_DTYPES(X)
#undef X
        DTYPE_COUNT
} DType;

const char *dtype_name(DType t);
int         dtype_bits(DType t);
bool        dtype_is_signed(DType t);
bool        dtype_is_float(DType t);
bool        dtype_parse(const char *text, size_t len, DType *out); /* false: no such type */
int64_t     dtype_bytes(DType t, int64_t elems);                   /* packed, rounded up to whole bytes */
/* The smallest and the largest integer of an integer type (f32: 0, 0). */
int64_t dtype_min(DType t);
int64_t dtype_max(DType t);

/* ---- Arena ----------------------------------------------------------------------------------------------------- */

typedef struct ArenaChunk ArenaChunk;
typedef struct Arena {
    const char *name;
    ArenaChunk *chunks; /* newest first */
    size_t      used, high_water, first_chunk_bytes;
} Arena;

Arena arena_new(const char *name);
void *arena_alloc(Arena *a, size_t bytes); /* zeroed, aligned to 16; never NULL: out of host memory ends the process */
void *arena_copy(Arena *a, const void *from, size_t bytes);
char *arena_strdup(Arena *a, const char *s);
char *arena_strndup(Arena *a, const char *s, size_t len);
char *arena_printf(Arena *a, const char *fmt, ...) DT_PRINTF(2, 3);
char *arena_vprintf(Arena *a, const char *fmt, va_list ap);
void  arena_reset(Arena *a); /* keeps one chunk; poisoned under ASan */
void  arena_free(Arena *a);
#define ARENA_NEW(arena, T) ((T *)arena_alloc((arena), sizeof(T)))
#define ARENA_ARRAY(arena, T, n) ((T *)arena_alloc((arena), sizeof(T) * (size_t)(n)))

/* ---- Vectors: VEC(T) v = {0}; vec_push(arena, &v, x); v.at[i], v.len ------------------------------------------- */

#define VEC(T)                                                                                                         \
    struct {                                                                                                           \
        T      *at;                                                                                                    \
        int32_t len, cap;                                                                                              \
    }
#define vec_push(arena, v, ...)                                                                                        \
    (vec_reserve_((arena), (void **)&(v)->at, (v)->len, &(v)->cap, sizeof(*(v)->at)),                                  \
     (v)->at[(v)->len] = (__VA_ARGS__), (v)->len++)
void vec_reserve_(Arena *a, void **at, int32_t len, int32_t *cap, size_t elem_bytes);

/* ---- Strings --------------------------------------------------------------------------------------------------- */

/* A growing text. Always terminated by 0. */
typedef struct Str {
    Arena *arena;
    char  *s;
    size_t len, cap;
} Str;

Str  str_new(Arena *a);
void str_add(Str *s, const char *text);
void str_addn(Str *s, const char *text, size_t len);
void str_printf(Str *s, const char *fmt, ...) DT_PRINTF(2, 3);
/* Appends the shortest decimal text that reads back as exactly this float (nan, inf, -inf spelled so). */
void str_add_f32(Str *s, float f);
void str_add_f64(Str *s, double x);        /* the same of a double, in plain form up to 15 digits */
bool str_eq(const char *a, const char *b); /* NULL equals NULL only */
/* Shell-like match of the whole text: * ? [abc] {a,b}; a dot has no special meaning. */
bool str_glob(const char *pattern, const char *text);
/* The up to three nearest of `names` by edit distance, "a, b or c", for messages; "" when none is near. */
const char *str_nearest(Arena *a, const char *wanted, const char *const *names, int32_t count);
/* "1.5 KiB", "12.0 MiB": for people. */
const char *str_bytes(Arena *a, int64_t bytes);

/* Text -> index. Insertion order is kept by the caller. */
typedef struct StrMap {
    Arena       *arena;
    const char **keys;
    int32_t     *vals;
    int32_t      len, cap;
} StrMap;
StrMap  strmap_new(Arena *a);
int32_t strmap_get(const StrMap *m, const char *key);        /* -1: absent */
bool    strmap_put(StrMap *m, const char *key, int32_t val); /* false: was there (value replaced); key is copied */

/* Whole files. On failure the message says path and reason. `*len` may be NULL; the text is 0-terminated. */
struct Diag;
char *file_read(Arena *a, struct Diag *d, const char *path, size_t *len) DT_CHECKED; /* NULL: reported */
/* Atomic: temporary name in the same directory, fsync, rename. */
bool file_write_atomic(struct Diag *d, const char *path, const void *data, size_t len) DT_CHECKED; /* false: reported */
bool file_write_all(int fd, const void *data,
                    size_t len) DT_CHECKED;                 /* false: errno says why; for who renames by itself */
bool dir_make(struct Diag *d, const char *path) DT_CHECKED; /* with parents */

/* ---- Cache on disk (cache.c) ----------------------------------------------------------------------------------- */

/* What was stored in directory `dir` as `kind` ("o", "cubin") under this key, in `a`; NULL: nothing, or nothing that
 * can be trusted (which the log says). The key names all that the data depends on: source, options, versions, device.
 */
const void *cache_load(Arena *a, const char *dir, const char *kind, const char *key, size_t *bytes);
/* Failure is no error: it is logged, and the data is made anew next time. Makes `dir` where it is missing. */
void cache_store(const char *dir, const char *kind, const char *key, const void *data, size_t bytes);

/* ---- Libraries loaded at run time (dynlib.c) -------------------------------------------------------------------- */

typedef struct DynFunc {
    const char *symbol;
    size_t      offset; /* of the function pointer in the table that is filled */
    bool        optional;
} DynFunc;
/* What is asked for and where: the directories of environment variable `env` (when set, nothing else is tried), the
 * loader's own, then `dirs` (globs, tried in order). */
typedef struct DynLib {
    const char        *what;          /* "NVRTC": for messages */
    const char *const *names;         /* "libnvrtc.so.13", ..., NULL */
    const char *const *dirs;          /* "/usr/local/cuda*" "/lib64", ..., NULL */
    const char        *env, *install; /* "DETENT_NVRTC"; what to do when it is missing */
    const DynFunc     *funcs;
    int32_t            n_funcs;
    /* NULL, or a pattern of file names beside it: libraries that it loads later, by bare names that the loader may not
     * know or know another version of. They are loaded with it. */
    const char *beside;
} DynLib;
/* Opens it and fills `table`. The path it was found under, in `a`; NULL: reported (not found: where it was looked for
 * and how to install it; a function is missing: too old). It stays loaded: such libraries unload badly. */
const char *dynlib_open(Arena *a, struct Diag *d, const DynLib *lib, void *table);
/* Where libraries for GPUs lie: toolkits, the system, wheels that Python brings; NULL ends it. */
extern const char *const dynlib_gpu_dirs[];

/* ---- Diagnostics: errors for people ---------------------------------------------------------------------------- */

/* Where in a user's file. line 0: no line is known; file NULL: no place at all (a command line, say). */
typedef struct Loc {
    const char *file;
    int32_t     line;
} Loc;

/* Collects and prints messages: "file:line: error: conv2d: ...". An error is one mistake: notes and help lines
 * that follow belong to it. */
typedef struct Diag {
    FILE   *out; /* NULL: keep, do not print */
    Arena   arena;
    Str     text; /* everything said so far */
    int32_t errors, warnings;
} Diag;

Diag diag_new(FILE *out);
void diag_free(Diag *d);
void diag_error(Diag *d, Loc at, const char *fmt, ...) DT_PRINTF(3, 4);
void diag_warning(Diag *d, Loc at, const char *fmt, ...) DT_PRINTF(3, 4);
void diag_note(Diag *d, Loc at, const char *fmt, ...) DT_PRINTF(3, 4); /* where the producer is, what was found */
void diag_help(Diag *d, const char *fmt, ...) DT_PRINTF(2, 3);         /* what to do */
/* "did you mean A or B?" when some of the words are near what was found, else `other` (NULL: nothing). */
void diag_help_nearest(Diag *d, const char *found, const char *const *words, int32_t n, const char *other);
#define LOC_NONE ((Loc){ NULL, 0 })

/* A bug of ours: prints, lets the hook write IR and a reproducer, aborts. Never for a user's mistake. */
#define DT_ASSERT(cond, ...) ((cond) ? (void)0 : dt_bug(__FILE__, __LINE__, #cond, __VA_ARGS__))
#define DT_UNREACHABLE(...) dt_bug(__FILE__, __LINE__, "unreachable", __VA_ARGS__)
void dt_bug(const char *file, int line, const char *cond, const char *fmt, ...) DT_PRINTF(4, 5) DT_NORETURN;
/* The one process-wide hook (set by the pass manager around a pass); NULL removes it. */
typedef void (*BugHook)(void *user, const char *message);
void dt_set_bug_hook(BugHook hook, void *user);

/* ---- Log ------------------------------------------------------------------------------------------------------- */

typedef enum LogLevel { LOG_QUIET, LOG_INFO, LOG_DEBUG } LogLevel;
void   log_set_level(LogLevel level);
void   log_info(const char *fmt, ...) DT_PRINTF(1, 2); /* to stderr */
void   log_debug(const char *fmt, ...) DT_PRINTF(1, 2);
double time_now_s(void); /* monotonic */

/* ---- Options: one table is the parser, the help and the documentation ------------------------------------------ */

typedef enum OptKind {
    OPT_FLAG,   /* bool:         --name, --no-name */
    OPT_INT,    /* int64_t:      --name=N, --name N; min..max checked */
    OPT_FLOAT,  /* double */
    OPT_STRING, /* const char *  */
    OPT_CHOICE, /* const char *  one of the '|'-separated words in `choices` */
    OPT_LIST,   /* StrList:      may be repeated; each value is also split at commas */
    OPT_TEXTS   /* StrList:      may be repeated; each value is one entry, whatever it holds */
} OptKind;

typedef struct StrList {
    const char **at;
    int32_t      len, cap;
} StrList;

typedef struct OptDef {
    OptKind     kind;
    const char *name;     /* "batch" for --batch */
    const char *arg;      /* how help names the value: "N"; NULL for a flag */
    const char *choices;  /* OPT_CHOICE: "a|b"; an empty word in front ("|a|b"; OPT_STRING: "|") lets it stand bare */
    const char *fallback; /* text of the default, parsed like an argument; NULL: zero, unset */
    double      min, max; /* OPT_INT, OPT_FLOAT; both 0: any */
    size_t      offset;   /* of the field in the struct that is filled */
    const char *doc;      /* one sentence */
} OptDef;

/* Fills `out` from argv[0..argc) (no program name). Words that are no options go to `rest`. "--" ends options.
 * False: a mistake was reported (unknown option with the nearest names, missing or bad value). */
bool opts_parse(Arena *a, Diag *d, const OptDef *defs, int32_t count, int argc, char **argv, void *out,
                StrList *rest) DT_CHECKED;
/* One value from elsewhere than the command line: for a list one more entry. A mistake is reported at `at`, `what` in
 * front of it. */
bool opts_set(Arena *a, Diag *d, Loc at, const char *what, const OptDef *def, const char *text, void *out) DT_CHECKED;
void opts_help(Str *out, const OptDef *defs, int32_t count);
/* Command lines as text: a word as opts_words reads it, in quotes where that is needed; and the words of a line. False:
 * a quote is not closed. */
void opts_quote(Str *out, const char *word);
bool opts_words(Arena *a, const char *line, StrList *out) DT_CHECKED;

/* ---- Random numbers: counter based, so that a number depends on its place alone -------------------------------- */

/* Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
void philox4x32_10(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);
/* The draw number `index` of stream (seed, stream, substream): word 0 of
 * philox(ctr = {index lo, index hi, substream, stream}, key = {seed lo, seed hi}). */
uint32_t rng_u32(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index);
float    rng_uniform(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index); /* [0, 1), 24 bits */
float rng_normal(uint64_t seed, uint32_t stream, uint32_t substream, uint64_t index); /* N(0,1), Box-Muller in double */
/* Fisher-Yates of 0..n-1 by the stream above. */
void rng_permutation(uint64_t seed, uint32_t stream, uint32_t substream, uint32_t *out, uint32_t n);

/* ---- Hash (XXH3-128 through libxxhash) ------------------------------------------------------------------------- */

typedef struct Hash128 {
    uint64_t lo, hi;
} Hash128;
Hash128  hash_bytes(const void *data, size_t len);
void     hash_hex(Hash128 h, char out[33]);
uint32_t hash_u32(const char *text); /* a stream number from a name */

#endif
