/* kernel_program.c: one kernel as a program of one launch, so that it can be run alone on any backend: what checks,
 * benchmarks and tests of kernels do.
 *
 * Its buffers are flat tensors in the io arena, one after the other, each at a multiple of 256 bytes, from which every
 * vector load is aligned.
 *
 * Tested by tests/unit/test_nvrtc.c. */
#include "codegen/jit.h"

#include <string.h>

enum { KERNEL_ALIGN = 256 };

static const uint8_t kernel_access[] = {
    [BUF_IN] = ACCESS_READ, [BUF_OUT] = ACCESS_WRITE, [BUF_INOUT] = ACCESS_READ | ACCESS_WRITE
};

static ProgTensor kernel_tensor(TensorKind kind, const char *name, const KBuf *b, MemRef at)
{
    return (ProgTensor){ .kind = kind,
                         .name = name,
                         .dtype = b->dtype,
                         .rank = 1,
                         .dim = { b->elems, 1, 1, 1 },
                         .elems = b->elems,
                         .bytes = dtype_bytes(b->dtype, b->elems),
                         .at = at };
}

/* Places, tensors and uses of the buffers. What a kernel writes is an input, too: elements that it leaves alone keep
 * what was there. */
static void kernel_buffers(Arena *a, const Kernel *k, Program *p, Launch *l)
{
    MemRef *refs = ARENA_ARRAY(a, MemRef, k->bufs.len + 1);
    BufUse *uses = ARENA_ARRAY(a, BufUse, k->bufs.len + 1);
    p->tensors = ARENA_ARRAY(a, ProgTensor, 2 * k->bufs.len + 1);
    for (int32_t i = 0; i < k->bufs.len; i++) {
        const KBuf *b = &k->bufs.at[i];
        const char *name = arena_strdup(a, b->name);
        refs[i] = (MemRef){ ARENA_IO, dt_round_up(p->bytes[ARENA_IO], KERNEL_ALIGN) };
        uses[i] = (BufUse){ .bytes = codegen_buf_bytes(b), .value = i, .access = kernel_access[b->mode] };
        p->bytes[ARENA_IO] = refs[i].offset + uses[i].bytes;
        p->tensors[p->n_tensors++] = kernel_tensor(TENSOR_INPUT, name, b, refs[i]);
        if (b->mode != BUF_IN)
            p->tensors[p->n_tensors++] = kernel_tensor(TENSOR_OUTPUT, name, b, refs[i]);
    }
    l->bufs = refs;
    l->uses = uses;
    l->n_bufs = k->bufs.len;
}

Program *codegen_kernel_program(Arena *a, Diag *d, Kernel *k, KernelJit *jit)
{
    Program *p = ARENA_NEW(a, Program);
    p->arena = a;
    p->name = arena_strdup(a, k->name);
    p->images = ARENA_ARRAY(a, KernelImage, 1);
    p->n_images = 1;
    p->launches = ARENA_ARRAY(a, Launch, 1);
    p->n_launches = 1;
    p->launches[0] = (Launch){ .kind = LAUNCH_KERNEL, .name = arena_strdup(a, k->title[0] ? k->title : k->name) };
    kernel_buffers(a, k, p, &p->launches[0]);
    if (!jit_compile(jit, d, p->name, &k, 1, p->images))
        return NULL;
    p->launches[0].scratch_bytes = p->bytes[ARENA_SCRATCH] = p->images[0].scratch_bytes;
    return p;
}
