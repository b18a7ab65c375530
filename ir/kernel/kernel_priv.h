/* kernel_priv.h: what the files of ir/kernel share and nobody else needs. */
#ifndef DETENT_KERNEL_PRIV_H
#define DETENT_KERNEL_PRIV_H

#include "ir/kernel/kernel.h"

/* Names of enums in the text form, by value. */
extern const char *const ktype_names[KT_BOOL + 1];
extern const char *const kacc_names[KACC_MAX + 1];
extern const char *const kaxis_names[AXIS_SEQ + 1];
extern const char *const kbuf_names[BUF_INOUT + 1];

/* The type that a load from a buffer of this element type gives and that a store into it takes. */
KType kernel_elem_type(DType t);

/* The type of the result that the rule of in->op gives for the types of its arguments, KT_NONE for none. The type asked
 * for is in->type where the text form names it (const, cvt, bitcast). On a mistake *why says it (else it is NULL).
 * Arguments out of range count as of no type. */
KType kernel_infer(const Kernel *k, const KInst *in, const char **why);

/* Empty instruction: no arguments, no addresses. */
KInst kernel_inst(KOp op);

/* The least and the greatest value of an address over one segment row. Axes of the kinds in `kinds` (bit mask of
 * 1 << AxisKind) take part, the others stand still at 0. False: no point at all, or numbers beyond 63 bits. */
typedef enum AffineRange { RANGE_OK, RANGE_EMPTY, RANGE_OVERFLOW } AffineRange;
AffineRange kernel_affine_range(const Kernel *k, int32_t row, const Affine *a, int64_t *lo, int64_t *hi);

/* How many rows a launch has: the segment table's, or 1. */
static inline int32_t kernel_rows(const Kernel *k)
{
    return k->seg.rows > 0 ? k->seg.rows : 1;
}
static inline bool kernel_has_inst(const Kernel *k, KVal v)
{
    return v >= 0 && v < k->insts.len;
}

/* number[v]: the number that value v has in the text form (order of appearance), -1 without one. */
int32_t *kernel_numbers(Arena *a, const Kernel *k);
/* One instruction without its region and without a line end. */
void kernel_print_inst(Str *out, const Kernel *k, const int32_t *number, KVal v);

/* Appends an instruction (or finds an equal pure one); its type is inferred. No loops. */
KVal kb_inst(KBuilder *b, KInst in);
/* A kernel with the declarations of k (deep: it shares no memory with k) and no instructions. */
Kernel *kernel_copy_head(Arena *a, const Kernel *k);

/* Element i of memory of an integer type of at most 8 bits; `value` is within the type. */
int32_t elem_get_small(DType t, const void *mem, int64_t i);
void    elem_set_small(DType t, void *mem, int64_t i, int32_t value);

#endif
