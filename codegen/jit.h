/* jit.h: what the makers of kernel images - LLVM, NVRTC, the interpreter - have in common. */
#ifndef DETENT_JIT_H
#define DETENT_JIT_H

#include "codegen/codegen.h"

typedef struct JitKind {
    /* images[i] for kernels[i]; adds to stats.distinct and stats.cached. `title`: the program's name. False: reported.
     */
    bool (*compile)(KernelJit *j, Diag *d, const char *title, Kernel *const *kernels, int32_t n, KernelImage *images);
    const char *(*describe)(Arena *a, const KernelJit *j);
    void (*release)(KernelJit *j); /* what is not in the arena */
} JitKind;

/* First member of each kind's own struct. */
struct KernelJit {
    const JitKind *kind;
    Arena         *arena;
    JitStats       stats;
};

/* Memory that a kernel may touch of this buffer: of elements smaller than a byte whole words (codegen/cuda does). */
int64_t codegen_buf_bytes(const KBuf *b);

#endif
