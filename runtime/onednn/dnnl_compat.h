/* dnnl_compat.h: what differs between the C APIs of oneDNN 2.x and 3.x, and nothing else.
 *
 *   2.x  memory descriptors are structs; an operation descriptor is filled, then made into a primitive descriptor
 *   3.x  memory descriptors are owned objects; primitive descriptors have constructors of their own, with dilations
 *
 * The rest of the directory is written against the API that the two share and against this header.
 * Tested by tests/unit/test_exec.c, built against each of them. */
#ifndef DETENT_RUNTIME_ONEDNN_DNNL_COMPAT_H
#define DETENT_RUNTIME_ONEDNN_DNNL_COMPAT_H

#include <stdbool.h>

#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_debug.h>

/* A memory descriptor that we own, and one that is only looked at (ours, or a primitive descriptor's). */
typedef struct DnnlMd {
    dnnl_memory_desc_t md;
} DnnlMd;
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t DnnlMdRef;
#else
typedef const dnnl_memory_desc_t *DnnlMdRef;
#endif

dnnl_status_t compat_md_new(DnnlMd *md, int rank, const dnnl_dims_t dim, dnnl_format_tag_t tag); /* f32 */
void          compat_md_free(DnnlMd *md);
DnnlMdRef     compat_md_ref(const DnnlMd *md);

/* A convolution or an inner product, forward or one of its gradients. src, weights and dst stand for their gradients
 * where the pass makes these; bias NULL: none; the strides and paddings of an inner product are not read. */
typedef enum DnnlPass { DNNL_PASS_FORWARD, DNNL_PASS_GRAD_SRC, DNNL_PASS_GRAD_WEIGHTS } DnnlPass;
typedef struct DnnlOp {
    bool        conv;
    DnnlPass    pass;
    DnnlMdRef   src, weights, bias, dst;
    dnnl_dims_t stride, pad_before, pad_after;
} DnnlOp;

/* `forward`: the descriptor of the forward operation of the same shapes, for the gradients. */
dnnl_status_t compat_pd_new(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const DnnlOp *op,
                            const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward);

/* The instruction set in use: "avx512_core_vnni". */
const char *compat_isa_name(void);
int32_t     compat_vector_bits(void); /* 512, 256; 0: fewer */

#endif
