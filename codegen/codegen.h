/* codegen.h: from a lowered graph to a Program that runs.
 *
 * compile.c walks the groups; llvm/ turns kernels into machine code (ORC LLJIT, disk cache), interp/ wraps the
 * interpreter in the same KernelImage. Tested by tests/unit/test_llvm.c, test_parity.c and test_cli.c. */
#ifndef DETENT_CODEGEN_H
#define DETENT_CODEGEN_H

#include "ir/ir.h"
#include "runtime/program.h"

/* Makes images of kernels. One object lives as long as the programs that use its code. */
typedef struct KernelJit KernelJit;

typedef struct JitOptions {
    int         vector_width; /* f32 lanes: 4, 8, 16; 0: the host's */
    const char *cache_dir;    /* NULL: no disk cache; objects by hash of kernels, LLVM version and CPU features */
    const char *dump_dir;     /* NULL, or where NAME.kernel, NAME.ll and NAME.s go */
} JitOptions;

KernelJit *jit_llvm_new(Arena *a, Diag *d, JitOptions opt); /* NULL: reported (not built in) */
KernelJit *jit_interp_new(Arena *a);
/* images[i] for kernels[i]; equal kernels (kernel_hash) share code. All in one go. False: reported. */
bool jit_compile(KernelJit *j, Diag *d, Kernel *const *kernels, int32_t n, KernelImage *images) DT_CHECKED;
typedef struct JitStats {
    int32_t kernels, distinct, cached;
    double  seconds;
} JitStats;
JitStats jit_stats(const KernelJit *j);
void     jit_free(KernelJit *j);
/* "LLVM 19.1.7, x86-64 avx512f avx512vnni ..., vectors of 16 floats" */
const char *jit_describe(Arena *a, const KernelJit *j);

/* The lowered graph as a program; kernels compiled by `jit`. NULL: reported. */
Program *codegen_program(Arena *a, Diag *d, const Graph *g, KernelJit *jit, CallLib *lib);

#endif
