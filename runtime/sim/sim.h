/* sim.h: CUDA text run on the CPU. It takes the very text that NVRTC gets and does what a GPU would do, with checks
 * that a GPU does not give for free: accesses out of bounds, shared memory that was never written, races between
 * barriers and between blocks, divergent barriers, shuffles from lanes that are not there.
 *
 * All threads of a block walk the code in step under a mask; an instruction is done for all of them before the next.
 * Blocks run one after the other, in an order drawn from a seed.
 *
 * The language is the part of CUDA C that codegen/cuda writes; anything else is an error with its line:
 *   types        void bool int unsigned float, long long, unsigned long long, signed char, unsigned char, short and
 *                unsigned short; float2 float4 int2 int4 uint2 uint4 uchar4 char4 with .x .y .z .w and make_NAME();
 *                pointers to them (const, __restrict__); arrays of constant length, local or __shared__;
 *                file-scope `static __device__ const` / `__constant__` tables with initialisers
 *   functions    extern "C" __global__ void with __launch_bounds__; static __device__ __forceinline__, not recursive
 *   statements   declarations, expressions, if else for while do break continue return, blocks; #pragma unroll
 *   expressions  all operators of C, casts (also of pointers: a float* as a const float4*), sizeof of a type, calls
 *   built in     threadIdx.x blockIdx.x blockDim.x gridDim.x; __syncthreads __syncwarp __threadfence
 *                __shfl_sync __shfl_up_sync __shfl_down_sync __shfl_xor_sync __ballot_sync __any_sync __all_sync
 *                atomicAdd Sub Min Max And Or Xor Exch on int and unsigned, atomicInc
 *                fmaf __fmaf_rn __fadd_rn __fsub_rn __fmul_rn __fdiv_rn __fsqrt_rn sqrtf rintf floorf ceilf truncf
 *                fabsf fminf fmaxf; __float2int_rz _rn __float2uint_rz _rn __int2float_rn __uint2float_rn (to integers
 *                they saturate, NaN is 0, as in hardware; casts do the same)
 *                __int_as_float __float_as_int __uint_as_float __float_as_uint; min max abs; __umulhi __mulhi
 *                __umul64hi __popc __clz __ffs __brev __byte_perm __dp4a
 *                __ldg __ldca __ldcg __ldcs __ldcv __stcg __stcs __stwb __stwt on every type that can be loaded
 *   preprocessor #line, #define NAME constant; comments
 * Floats are IEEE single precision without contraction, integers 32 bits that wrap, as the CUDA text is compiled with
 * -fmad=false.
 *
 * Tested by tests/unit/test_sim.c, test_sim_memory.c (each construct against C) and test_sim_faults.c (each fault
 * planted and found). */
#ifndef DETENT_SIM_H
#define DETENT_SIM_H

#include "base/base.h"

typedef struct SimModule SimModule;
/* Reads the text. NULL: reported, with the line of the text. One module may be run by one thread at a time. */
SimModule *sim_module_new(Arena *a, Diag *d, const char *source);
int32_t    sim_find(const SimModule *m, const char *entry); /* -1: no such kernel */
int32_t    sim_params(const SimModule *m, int32_t kernel);  /* how many it takes, all pointers */

/* A pointer handed to a kernel and the memory it may touch. */
typedef struct SimArg {
    void   *at;
    int64_t bytes;
    bool    writable;
} SimArg;
typedef struct SimLaunch {
    int32_t       kernel;
    int64_t       grid;
    int32_t       block;
    const SimArg *args;
    int32_t       n_args;
    uint64_t      seed; /* of the order of blocks; 0: in order */
} SimLaunch;
/* False: a fault, reported with kernel, line of the text, block, thread and what was wrong; memory is then as it came.
 */
bool sim_run(SimModule *m, Diag *d, const SimLaunch *l) DT_CHECKED;

#endif
