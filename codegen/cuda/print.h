/* print.h: what the files that write CUDA text share.
 *
 *   cuda.c           the text as a whole: header, distinct kernels, comments, line numbers
 *   prelude.c        device functions; only those that are used are printed
 *   print_value.c    names, constants, one expression an opcode
 *   print_memory.c   addresses, loads, stores
 *   print_region.c   regions: single values, runs over neighbours, loops
 *   print_kernel.c   parameters, tables of rows, axes from flat numbers; MAP
 *   print_fold.c     FOLD
 *   tidy.c           drops declarations that nobody uses
 *
 * Where a thread makes several neighbours of the vec axis, values that differ among them are arrays, and instructions
 * stand in runs `for (int j = 0; j < 4; j++)`, which the compiler unrolls. What is the same for all neighbours, and
 * loads of all neighbours at once, come before the run, stores of all at once behind it. */
#ifndef DETENT_CUDA_PRINT_H
#define DETENT_CUDA_PRINT_H

#include "codegen/cuda/schedule.h"

/* ---- prelude.c ---- */

typedef struct Prelude {
    Arena *arena;
    StrMap used;
} Prelude;
void prelude_use(Prelude *p, const char *name); /* and what it is made of */
bool prelude_is_name(const char *name);
void prelude_print(Str *out, const Prelude *p);

/* ---- A kernel being written ---- */

typedef struct Printer {
    Arena          *a;
    const Kernel   *k;
    const Schedule *s;
    Prelude        *prelude;
    const char     *entry; /* name of the function, first part of the names of its tables */
    StrMap          taken; /* names in use */
    const char    **axis_names, **buf_names, **int_names, **float_names;
    bool           *int_fixed, *float_fixed; /* columns that are the same in all rows */
    int32_t        *number;                  /* of values, in the order of the text */
    int32_t        *run_of;                  /* MAP: number of the run over neighbours that an instruction is in */
    bool           *is_array;                /* MAP: the value is used outside of its run */
    int32_t         runs;
    Str            *out;
    int32_t         indent;
    Str             decls, run, after; /* of the run that is open: arrays, statements, stores that follow */
    int32_t         run_indent;
    bool            in_run, in_final;
} Printer;

/* ---- print_value.c ---- */

const char *name_new(Printer *p, const char *wish); /* an identifier that nothing else has */
const char *ctype_of(KType t);
const char *ctype_of_dtype(DType t);
const char *literal_of(Printer *p, const KInst *in);
const char *value_of(Printer *p, KVal v); /* a name, an element of an array or a constant */
const char *total_name(Printer *p, KVal acc);
const char *name_of(Printer *p, KVal v); /* of the variable or array */
const char *expression_of(Printer *p, KVal v);
const char *identity_of(const KInst *acc);
/* x (+) y */
const char *combine_of(Printer *p, const KInst *acc, const char *x, const char *y);

/* ---- print_memory.c ---- */

/* An address in elements; within a run, of the neighbour j. dyn may be KVAL_NONE. */
const char *affine_text(Printer *p, const Affine *a, KVal dyn);
const char *load_of(Printer *p, KVal v);     /* an expression; ACCESS_VECTOR: a statement that fills the array */
void        print_store(Printer *p, KVal v); /* ELEMENT and ATOMIC */
const char *vector_store_of(Printer *p, KVal v);

/* ---- print_region.c ---- */

void put(Printer *p, const char *fmt, ...) DT_PRINTF(2, 3); /* one line, indented */
void put_open(Printer *p, const char *fmt, ...) DT_PRINTF(2, 3);
void put_block(Printer *p); /* opens one, too */
void put_close(Printer *p);
void print_instruction(Printer *p, KVal v);
void print_region(Printer *p, const KRegion *region);
void region_analyze(Printer *p);

/* ---- print_kernel.c ---- */

/* A number of the row: a constant, or the variable that holds it. */
const char *field_of(Printer *p, ScheduleField f);
const char *extent_of(Printer *p, int32_t axis);
const char *block_of(const Printer *p); /* number of the block in its row */
void        put_item(Str *out, size_t *line, const char *indent, const char *item);
/* A variable, divided. */
typedef struct Flat {
    const char *name;
    int64_t     divisor;
    const char *by; /* the divisor where it differs by row, else NULL */
    bool        wide;
} Flat;
const char *flat_text(Printer *p, const Flat *f, int64_t divisor);
/* Declares the axes of a list from a flat number, last fastest. */
void print_axes(Printer *p, const Flat *f, const int32_t *axes, int32_t n);
/* The vec axis - steps of `step`, and `within` the step - and the outer axes from a flat number. */
void print_flat_axes(Printer *p, const char *flat, bool wide, int32_t step, const char *within);
void print_kernel(Str *out, Arena *a, Prelude *prelude, const Schedule *s, const char *entry);

/* ---- print_fold.c ---- */

void print_fold(Printer *p);

/* ---- tidy.c ---- */

/* The text of one kernel without declarations that are not used. */
const char *drop_unused(Arena *a, const char *text);

#endif
