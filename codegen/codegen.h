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
    bool        sizes_only;   /* no code is made: images say what a launch needs, and cannot be run */
} JitOptions;

KernelJit *jit_llvm_new(Arena *a, Diag *d, JitOptions opt); /* NULL: reported (not built in) */
KernelJit *jit_interp_new(Arena *a);

/* CUDA text by codegen/cuda, compiled by NVRTC (codegen/nvrtc), which is loaded when it is needed. */
typedef struct CudaJitOptions {
    int32_t     sm; /* 90: compute capability 9.0. 0: nothing is compiled, the text itself is run by the simulator */
    const char *cache_dir; /* NULL: no disk cache; cubins by source, options, NVRTC version and architecture */
    const char *dump_dir;  /* NULL, or where PROGRAM.cu, .ptx, .cubin and the table of registers go */
} CudaJitOptions;
KernelJit *jit_cuda_new(Arena *a, Diag *d, CudaJitOptions opt); /* NULL: reported (NVRTC missing, too old for sm) */
/* Of a jit_cuda_new: for each program compiled, a line for each function: launches, grid, block, registers, spills
 * (bytes of local memory), shared memory, and how full of threads a multiprocessor can get. */
void jit_cuda_table(Str *out, const KernelJit *j);
/* images[i] for kernels[i]; equal kernels (kernel_hash) share code. All in one go; `title` names them together
 * ("resnet20.train"). False: reported. */
bool jit_compile(KernelJit *j, Diag *d, const char *title, Kernel *const *kernels, int32_t n,
                 KernelImage *images) DT_CHECKED;
typedef struct JitStats {
    int32_t kernels, distinct, cached;
    double  seconds;
} JitStats;
JitStats jit_stats(const KernelJit *j);
void     jit_free(KernelJit *j);
/* "LLVM 19.1.7, x86-64 avx512f avx512vnni ..., vectors of 16 floats" */
const char *jit_describe(Arena *a, const KernelJit *j);

/* One kernel as a program: buffer i is an input (in), or an input "NAME" and output "NAME" at one place (inout, out),
 * all flat and in the io arena: to run it alone on any backend. NULL: reported. */
Program *codegen_kernel_program(Arena *a, Diag *d, Kernel *k, KernelJit *jit);
/* The lowered graph as a program; kernels compiled by `jit`. NULL: reported. */
Program *codegen_program(Arena *a, Diag *d, const Graph *g, KernelJit *jit, CallLib *lib);

#endif
