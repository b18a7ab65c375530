/* dnnl_compat.c: one set of functions over two C APIs; see dnnl_compat.h. */
#include "base/base.h"
#include "runtime/onednn/dnnl_compat.h"

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t compat_md_new(DnnlMd *md, int rank, const dnnl_dims_t dim, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(&md->md, rank, dim, dnnl_f32, tag);
}

void compat_md_free(DnnlMd *md)
{
    if (md->md)
        dnnl_memory_desc_destroy(md->md);
    md->md = NULL;
}

DnnlMdRef compat_md_ref(const DnnlMd *md)
{
    return md->md;
}

static dnnl_status_t conv_pd_new(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const DnnlOp *o,
                                 const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    const dnnl_dims_t     dilation = { 0 };
    switch (o->pass) {
    case DNNL_PASS_FORWARD:
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training, alg, o->src,
                                                              o->weights, o->bias, o->dst, o->stride, dilation,
                                                              o->pad_before, o->pad_after, attr);
    case DNNL_PASS_GRAD_SRC:
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, alg, o->src, o->weights, o->dst,
                                                                    o->stride, dilation, o->pad_before, o->pad_after,
                                                                    forward, attr);
    case DNNL_PASS_GRAD_WEIGHTS:
        return dnnl_convolution_backward_weights_primitive_desc_create(pd, engine, alg, o->src, o->weights, o->bias,
                                                                       o->dst, o->stride, dilation, o->pad_before,
                                                                       o->pad_after, forward, attr);
    }
    DT_UNREACHABLE("pass %d", (int)o->pass);
}

static dnnl_status_t linear_pd_new(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const DnnlOp *o,
                                   const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    switch (o->pass) {
    case DNNL_PASS_FORWARD:
        return dnnl_inner_product_forward_primitive_desc_create(pd, engine, dnnl_forward_training, o->src, o->weights,
                                                                o->bias, o->dst, attr);
    case DNNL_PASS_GRAD_SRC:
        return dnnl_inner_product_backward_data_primitive_desc_create(pd, engine, o->src, o->weights, o->dst, forward,
                                                                      attr);
    case DNNL_PASS_GRAD_WEIGHTS:
        return dnnl_inner_product_backward_weights_primitive_desc_create(pd, engine, o->src, o->weights, o->bias,
                                                                         o->dst, forward, attr);
    }
    DT_UNREACHABLE("pass %d", (int)o->pass);
}

dnnl_status_t compat_pd_new(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const DnnlOp *op,
                            const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    return (op->conv ? conv_pd_new : linear_pd_new)(pd, engine, op, attr, forward);
}

#else

dnnl_status_t compat_md_new(DnnlMd *md, int rank, const dnnl_dims_t dim, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(&md->md, rank, dim, dnnl_f32, tag);
}

void compat_md_free(DnnlMd *md)
{
    *md = (DnnlMd){ 0 };
}

DnnlMdRef compat_md_ref(const DnnlMd *md)
{
    return &md->md;
}

static dnnl_status_t conv_desc_init(dnnl_convolution_desc_t *desc, const DnnlOp *o)
{
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    switch (o->pass) {
    case DNNL_PASS_FORWARD:
        return dnnl_convolution_forward_desc_init(desc, dnnl_forward_training, alg, o->src, o->weights, o->bias, o->dst,
                                                  o->stride, o->pad_before, o->pad_after);
    case DNNL_PASS_GRAD_SRC:
        return dnnl_convolution_backward_data_desc_init(desc, alg, o->src, o->weights, o->dst, o->stride, o->pad_before,
                                                        o->pad_after);
    case DNNL_PASS_GRAD_WEIGHTS:
        return dnnl_convolution_backward_weights_desc_init(desc, alg, o->src, o->weights, o->bias, o->dst, o->stride,
                                                           o->pad_before, o->pad_after);
    }
    DT_UNREACHABLE("pass %d", (int)o->pass);
}

static dnnl_status_t linear_desc_init(dnnl_inner_product_desc_t *desc, const DnnlOp *o)
{
    switch (o->pass) {
    case DNNL_PASS_FORWARD:
        return dnnl_inner_product_forward_desc_init(desc, dnnl_forward_training, o->src, o->weights, o->bias, o->dst);
    case DNNL_PASS_GRAD_SRC:
        return dnnl_inner_product_backward_data_desc_init(desc, o->src, o->weights, o->dst);
    case DNNL_PASS_GRAD_WEIGHTS:
        return dnnl_inner_product_backward_weights_desc_init(desc, o->src, o->weights, o->bias, o->dst);
    }
    DT_UNREACHABLE("pass %d", (int)o->pass);
}

dnnl_status_t compat_pd_new(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const DnnlOp *op,
                            const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward)
{
    union {
        dnnl_convolution_desc_t   conv;
        dnnl_inner_product_desc_t linear;
    } desc;
    dnnl_status_t s = op->conv ? conv_desc_init(&desc.conv, op) : linear_desc_init(&desc.linear, op);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &desc, attr, engine, forward) : s;
}

#endif

const char *compat_isa_name(void)
{
    /* clang-format off */
    static const struct {
        dnnl_cpu_isa_t isa;
        const char    *name;
    } names[] = {
        { dnnl_cpu_isa_sse41,            "sse41" },
        { dnnl_cpu_isa_avx,              "avx" },
        { dnnl_cpu_isa_avx2,             "avx2" },
        { dnnl_cpu_isa_avx2_vnni,        "avx2_vnni" },
        { dnnl_cpu_isa_avx512_core,      "avx512_core" },
        { dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni" },
        { dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16" },
        { dnnl_cpu_isa_avx512_core_amx,  "avx512_core_amx" },
#if DNNL_VERSION_MAJOR >= 3
        { dnnl_cpu_isa_avx2_vnni_2,          "avx2_vnni_2" },
        { dnnl_cpu_isa_avx512_core_fp16,     "avx512_core_fp16" },
        { dnnl_cpu_isa_avx512_core_amx_fp16, "avx512_core_amx_fp16" },
#endif
    };
    /* clang-format on */
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    for (int32_t i = 0; i < DT_COUNT(names); i++)
        if (names[i].isa == isa)
            return names[i].name;
    return "an instruction set without a name here";
}

/* An instruction set is the mask of all that it includes. */
int32_t compat_vector_bits(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    if ((isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
        return 512;
    return (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2 ? 256 : 0;
}
