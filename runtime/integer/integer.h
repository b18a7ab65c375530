/* integer.h: products of integer codes on the CPU: convolutions and matrix products that are exact whatever the
 * instruction set and the number of threads.
 *
 *   y[n,oh,ow,k] = (f32)(sum of x codes times w codes) scale[k or 0]          CALL_CONV_FWD_INT of runtime/program.h
 *
 * What makes it faster than the product of floats: four codes, or two, are multiplied and added in 32 bits of a
 * register where one float is. What keeps it exact: sums of 16 bits are widened before they can overflow, and how soon
 * that is follows from the ranges of the codes; where two products do not fit 16 bits, codes are 16 bits wide; the
 * instructions that add up in 32 bits at once (VNNI) need neither. There are no kernels for AMX: a processor that has
 * it has VNNI, too.
 *
 * Tested by tests/unit/test_integer.c, each instruction set against plain sums of 64 bits; measured by bench/integer.c.
 */
#ifndef DETENT_RUNTIME_INTEGER_INTEGER_H
#define DETENT_RUNTIME_INTEGER_INTEGER_H

#include "runtime/program.h"

/* Instruction sets, the better ones behind. */
typedef enum Isa { ISA_PORTABLE, ISA_AVX2, ISA_AVX512, ISA_AVX_VNNI, ISA_AVX512_VNNI, ISA_COUNT } Isa;
const char *isa_name(Isa isa); /* as --isa has it: "avx2" */
const char *isa_doc(Isa isa);  /* for people: "AVX2" */
bool        isa_is_here(Isa isa);
Isa         isa_best(void); /* of this machine */
/* A name; "native", or NULL, is the best one. False: reported, with what this machine has. */
bool isa_parse(Arena *a, Diag *d, const char *text, Isa *out) DT_CHECKED;

/* A library that makes integer products itself and leaves all other calls to `floats`, which it releases with itself.
 * threads 0: what OpenMP says. */
CallLib *calllib_integer(Arena *a, CallLib *floats, int threads, Isa isa);
/* The same with oneDNN, and gradients by runtime/winograd and runtime/narrow: what the cpu backend runs. NULL: reported
 * (oneDNN is not built in). */
CallLib *calllib_cpu(Arena *a, Diag *d, int threads, Isa isa);

#endif
