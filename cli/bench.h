/* bench.h: what the files of `detent bench` share.
 *
 *   bench.c           the command: which variants, rounds in turns, --serve
 *   bench_variant.c   a variant: its programs in memory, a step of it, the time of the compiler
 *   bench_print.c     the table, and the same as JSON
 *   bench_kernels.c   --kernels
 *   profile*.c        --profile, --trace */
#ifndef DETENT_CLI_BENCH_H
#define DETENT_CLI_BENCH_H

#include "cli/profile.h"

typedef enum BenchMode { BENCH_TRAIN, BENCH_EVAL, BENCH_MODES } BenchMode;

/* A step of a variant. Arrays by round hold seconds of one step. */
typedef struct BenchStep {
    LoadedProgram at; /* program NULL: not asked for */
    const Graph  *graph;
    int64_t       batch;
    int64_t       memory_bytes;  /* that this program alone takes */
    double        ready_seconds; /* until it could run */
    double        cold, cached;  /* compiling: without the disk cache, with a filled one; NAN: not measured */
    double       *seconds;
    /* With a profile, by launch: */
    double *before, *least, *fastest; /* totals before the round; the least of all rounds; those of the fastest one */
} BenchStep;

typedef struct BenchVariant {
    const char *name, *method, *bits;
    Session    *s;
    BenchStep   step[BENCH_MODES];
    int64_t     steps; /* of a round */
} BenchVariant;

typedef struct Bench {
    Session      *s;    /* the command's */
    int64_t       room; /* bytes that the variants still may take */
    bool          mode[BENCH_MODES];
    BenchVariant *v;
    int32_t       n;
    Limits        limits;
} Bench;

extern const char *const bench_mode_names[BENCH_MODES]; /* "training", "evaluation" */

/* Compiles and allocates what b->mode says; on the GPU of the first variant where there is one. False: reported. */
bool bench_open(Bench *b, BenchVariant *v) DT_CHECKED;
void bench_close(BenchVariant *v);
/* Seconds of a step; NAN: reported. */
double bench_step(const BenchVariant *v, const BenchStep *x);
/* Fills in cold and cached. False: reported. */
bool bench_compile(Bench *b, BenchVariant *v) DT_CHECKED;

/* The arithmetic that tables are made of. */
double bench_median(Arena *a, const double *x, int64_t n);
double bench_min(const double *x, int64_t n);

void   bench_print_head(const Bench *b); /* network, threads, compiler */
void   bench_print(const Bench *b);
void   bench_print_json(const Bench *b);

/* The table of --kernels for a program that was made with profiling on; `g` is its lowered graph. */
int bench_kernels(Session *s, const LoadedProgram *p, const Graph *g);

#endif
