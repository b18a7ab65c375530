/* jit_interp.c: the interpreter behind the interface of compiled kernels: one work unit that is the whole launch.
 *
 * It is the oracle in tests and what runs where LLVM is not built in. Tested by tests/unit/test_llvm.c. */
#include "codegen/jit.h"

static void run_whole(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch;
    if (lo < hi)
        kernel_interp(self, bufs);
}

static bool interp_compile(KernelJit *j, Diag *d, const char *title, Kernel *const *kernels, int32_t n,
                           KernelImage *images)
{
    (void)d, (void)title;
    Arena  scratch = arena_new("interp_compile");
    StrMap seen = strmap_new(&scratch);
    for (int32_t i = 0; i < n; i++) {
        char hex[33];
        hash_hex(kernel_hash(kernels[i]), hex);
        KCost         cost = kernel_cost(kernels[i]);
        int32_t       twin = strmap_get(&seen, hex);
        const Kernel *k = twin >= 0 ? images[twin].self : kernel_expand(j->arena, kernels[i]);
        images[i] = (KernelImage){ .name = kernels[i]->name,
                                   .self = k,
                                   .run = run_whole,
                                   .units = 1,
                                   .bytes = cost.bytes_read + cost.bytes_written,
                                   .flops = cost.flops + cost.transcendentals,
                                   .n_bufs = kernels[i]->bufs.len };
        j->stats.distinct += twin < 0;
        strmap_put(&seen, hex, i);
    }
    arena_free(&scratch);
    return true;
}

static const char *interp_describe(Arena *a, const KernelJit *j)
{
    (void)j;
    return arena_strdup(a, "kernel interpreter");
}

KernelJit *jit_interp_new(Arena *a)
{
    static const JitKind interp = { interp_compile, interp_describe, NULL };
    KernelJit           *j = ARENA_NEW(a, KernelJit);
    *j = (KernelJit){ .kind = &interp, .arena = a };
    return j;
}
