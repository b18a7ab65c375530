/* ops_impl.h: what the files of ir/ share and nobody else needs: the rules that rows of ops.def name, and helpers.
 *
 * One group of rules a column: infer_* in infer.c, grad_* in grad*.c, body_* and final_* in body*.c. A name that is
 * missing here fails to compile in ops.c; one that is defined nowhere fails to link. Tested by tests/unit/test_ir.c
 * (ir_check_tables). */
#ifndef DETENT_IR_OPS_IMPL_H
#define DETENT_IR_OPS_IMPL_H

#include "ir/ir.h"

#define INFER(name) bool name(const Graph *g, const Value *v, Type *out, Diag *d, Loc at);
#define GRAD(name) void name(GradCtx *c, ValueId v, ValueId dy);
#define BODY(name) int32_t name(BodyCtx *c, const KVal *in, KVal out[2]);
#define FINAL(name) KVal name(BodyCtx *c, const KVal *in, const KVal *sum);

/* clang-format off */
INFER(infer_leaf) INFER(infer_scalar) INFER(infer_assign) INFER(infer_output) INFER(infer_conv2d)
INFER(infer_linear) INFER(infer_batchnorm) INFER(infer_same) INFER(infer_eltwise) INFER(infer_pool)
INFER(infer_gap) INFER(infer_reshape) INFER(infer_shortcut) INFER(infer_xent) INFER(infer_mse) INFER(infer_row)
INFER(infer_first) INFER(infer_reduce) INFER(infer_bn_stat) INFER(infer_bn_dgamma) INFER(infer_grid_reduce)
INFER(infer_conv2d_grad_x) INFER(infer_conv2d_grad_w) INFER(infer_linear_grad_x) INFER(infer_linear_grad_w)
INFER(infer_sample_mask) INFER(infer_tv) INFER(infer_tv_each)
INFER(infer_quant_noise) INFER(infer_repeat) INFER(infer_repeat_grad)
INFER(infer_quantize) INFER(infer_conv2d_int) INFER(infer_linear_int) INFER(infer_tap) INFER(infer_tap_outputs) INFER(infer_interleave) INFER(infer_pool_grad) INFER(infer_broadcast) INFER(infer_shortcut_grad)
INFER(infer_conv_transpose2d) INFER(infer_concat) INFER(infer_slice) INFER(infer_pad_image) INFER(infer_upsample)
INFER(infer_upsample_grad)
INFER(infer_depthwise) INFER(infer_depthwise_grad_x) INFER(infer_depthwise_grad_w) INFER(infer_depthwise_weight)

INFER(infer_distill) INFER(infer_kl)

GRAD(grad_distill) GRAD(grad_conv2d) GRAD(grad_linear) GRAD(grad_batchnorm) GRAD(grad_relu) GRAD(grad_add) GRAD(grad_sub)
GRAD(grad_mul) GRAD(grad_scale) GRAD(grad_maxpool) GRAD(grad_avgpool) GRAD(grad_gap) GRAD(grad_reshape)
GRAD(grad_dropout) GRAD(grad_shortcut) GRAD(grad_xent) GRAD(grad_mse) GRAD(grad_reduce_sum) GRAD(grad_qdq)
GRAD(grad_bn_mean) GRAD(grad_bn_var) GRAD(grad_bn_scale) GRAD(grad_bn_shift) GRAD(grad_affine)
GRAD(grad_relu6) GRAD(grad_leaky_relu) GRAD(grad_sigmoid) GRAD(grad_silu) GRAD(grad_hard_sigmoid) GRAD(grad_hard_swish)
GRAD(grad_l1) GRAD(grad_charbonnier) GRAD(grad_asymmetric) GRAD(grad_tv)
GRAD(grad_quant_noise) GRAD(grad_grad_scale) GRAD(grad_repeat) GRAD(grad_penalty)
GRAD(grad_conv_transpose2d) GRAD(grad_concat) GRAD(grad_slice) GRAD(grad_pad_image) GRAD(grad_upsample)

BODY(body_const) BODY(body_relu) BODY(body_add) BODY(body_sub) BODY(body_mul) BODY(body_scale)
BODY(body_maxpool) BODY(body_avgpool) BODY(body_gap) BODY(body_dropout) BODY(body_shortcut)
BODY(body_logsumexp) BODY(body_pick) BODY(body_correct) BODY(body_xent_grad) BODY(body_pass) BODY(body_mul1)
BODY(body_abs) BODY(body_bn_mean) BODY(body_bn_var) BODY(body_bn_scale) BODY(body_bn_shift) BODY(body_affine)
BODY(body_bn_dgamma) BODY(body_bn_grad_x) BODY(body_bn_grad_1) BODY(body_affine2) BODY(body_rsqrt_mul)
BODY(body_bn_fold) BODY(body_bn_unfold) BODY(body_bn_deviation)
BODY(body_ema) BODY(body_qdq) BODY(body_quantize) BODY(body_tap_outputs) BODY(body_interleave) BODY(body_qdq_grad_x) BODY(body_lsq_grad_step) BODY(body_lsq_init)
BODY(body_lsq_grad_offset) BODY(body_zero_point) BODY(body_quant_noise) BODY(body_repeat) BODY(body_repeat_grad) BODY(body_group_max)
BODY(body_max_step) BODY(body_range_step) BODY(body_range_zero) BODY(body_penalty) BODY(body_penalty_grad_x)
BODY(body_penalty_grad_step) BODY(body_count_clipped) BODY(body_squared_error) BODY(body_count_nonfinite)
BODY(body_relu6) BODY(body_leaky_relu) BODY(body_sigmoid) BODY(body_silu) BODY(body_hard_sigmoid) BODY(body_hard_swish)
BODY(body_relu6_grad) BODY(body_leaky_relu_grad) BODY(body_sigmoid_grad) BODY(body_silu_grad) BODY(body_hard_sigmoid_grad)
BODY(body_hard_swish_grad) BODY(body_sample_mask) BODY(body_l1_grad) BODY(body_charbonnier) BODY(body_charbonnier_grad)
BODY(body_asymmetric) BODY(body_asymmetric_grad) BODY(body_tv_each) BODY(body_tv_grad)
BODY(body_relu_grad) BODY(body_maxpool_tap) BODY(body_maxpool_grad) BODY(body_avgpool_grad)
BODY(body_depthwise) BODY(body_depthwise_grad_x) BODY(body_depthwise_grad_w) BODY(body_depthwise_weight)
BODY(body_shortcut_grad) BODY(body_sgd_velocity) BODY(body_sgd_step)
BODY(body_kl_term) BODY(body_kl_grad) BODY(body_decayed) BODY(body_square_ema) BODY(body_adam_step) BODY(body_rms_grad) BODY(body_adadelta) BODY(body_div)
BODY(body_sqrt) BODY(body_total) BODY(body_clip_factor) BODY(body_clip_value) BODY(body_lerp) BODY(body_ema_rate)
 BODY(body_relayout)
BODY(body_concat) BODY(body_slice) BODY(body_pad_image) BODY(body_upsample) BODY(body_upsample_grad)

FINAL(final_mean) FINAL(final_scale) FINAL(final_bn_mean) FINAL(final_bn_var) FINAL(final_scale1)
/* clang-format on */

#undef INFER
#undef GRAD
#undef BODY
#undef FINAL

    /* ---- Attributes (ops.c, print.c) -------------------------------------------------------------------------------
     */

    int32_t ir_attr_index(OpCode op, AttrId id); /* its row in the op's list; -1: the op has no such attribute */
bool        ir_attr_equal(AttrKind kind, AttrVal a, AttrVal b);
const char *ir_attr_kind_name(AttrKind kind); /* for messages */
/* Range and choices. False: reported. */
bool ir_attr_check(const char *op, const AttrDef *def, AttrVal val, Diag *d, Loc at);
void ir_attr_print(Str *out, AttrKind kind, AttrVal val);

/* ---- Text (graph.c, print.c) ----------------------------------------------------------------------------------- */

/* Largest tensor: 2^48 elements, so that sums of a few byte counts cannot overflow. */
#define IR_MAX_ELEMS ((int64_t)1 << 48)
/* NULL, or why this is no type that a value may have. Works on garbage. */
const char *ir_type_fault(Arena *a, Type t);
const char *ir_type_text(Arena *a, Type t); /* "f32[128x16]", without the layout */
/* "%7 = relu (s1.b0)", for messages. Works on garbage. */
const char *ir_value_text(Arena *a, const Graph *g, ValueId id);
void        ir_print_string(Str *out, const char *s); /* quoted, with escapes */

/* Names of arenas and layouts in the text form, by enum value. */
extern const char *const ir_mem_names[MEM_WORK + 1];

#endif
