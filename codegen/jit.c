/* jit.c: the way from the interface of kernel compilation to its kinds, and the clock around it.
 *
 * Tested by tests/unit/test_llvm.c, which runs two of them on the same kernels. */
#include "codegen/jit.h"

bool jit_compile(KernelJit *j, Diag *d, const char *title, Kernel *const *kernels, int32_t n, KernelImage *images)
{
    double start = time_now_s();
    bool   done = j->kind->compile(j, d, title, kernels, n, images);
    j->stats.kernels += n;
    j->stats.seconds += time_now_s() - start;
    return done;
}

JitStats jit_stats(const KernelJit *j)
{
    return j->stats;
}
const char *jit_describe(Arena *a, const KernelJit *j)
{
    return j->kind->describe(a, j);
}

void jit_free(KernelJit *j)
{
    if (j && j->kind->release)
        j->kind->release(j);
}

#ifndef DT_HAVE_LLVM
KernelJit *jit_llvm_new(Arena *a, Diag *d, JitOptions opt)
{
    (void)a, (void)opt;
    diag_error(d, LOC_NONE, "llvm: this build of detent has no LLVM");
    diag_help(d, "configure with -DDT_LLVM=ON, or use the interpreter");
    return NULL;
}
#endif
