/* compile.c: from a lowered graph to a Program: tensors that the host knows, launches in order, memory by reference.
 *
 * Tested by tests/unit/test_parity.c and test_cli.c. */
#include "codegen/jit.h"

#include <string.h>

static const ArenaKind compile_arenas[] = {
    [MEM_NONE] = ARENA_WORK,   [MEM_IO] = ARENA_IO,     [MEM_PARAM] = ARENA_PARAM,
    [MEM_STATE] = ARENA_STATE, [MEM_WORK] = ARENA_WORK,
};

static MemRef compile_ref(Place p)
{
    return (MemRef){ compile_arenas[p.kind], p.offset };
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */

static ProgTensor compile_tensor(Arena *a, const Graph *g, ValueId id, TensorKind kind, const char *name)
{
    const Value *v = ir_value(g, id);
    ProgTensor   t = {
          .kind = kind,
          .name = arena_strdup(a, name),
          .dtype = v->type.dtype,
          .rank = v->type.shape.rank,
          .nhwc = v->type.layout == LAYOUT_NHWC,
          .elems = shape_elems(v->type.shape),
          .bytes = type_bytes(v->type),
          .at = compile_ref(v->place),
    };
    memcpy(t.dim, v->type.shape.dim, sizeof(t.dim));
    return t;
}

static void compile_leaf(Arena *a, const Graph *g, ValueId id, ProgTensor *t)
{
    const Value *v = ir_value(g, id);
    TensorKind   kind = v->op == OP_INPUT ? TENSOR_INPUT : v->op == OP_PARAM ? TENSOR_PARAM : TENSOR_STATE;
    *t = compile_tensor(a, g, id, kind, v->name);
    if (kind == TENSOR_INPUT)
        return;
    t->init = arena_strdup(a, ir_text(v, A_INIT));
    t->init_value = ir_float(v, A_VALUE);
    t->group = "";
    if (kind == TENSOR_PARAM) {
        t->fan = ir_int(v, A_FAN);
        t->group = arena_strdup(a, ir_text(v, A_GROUP));
    }
}

static void compile_tensors(Arena *a, const Graph *g, Program *p)
{
    p->tensors = ARENA_ARRAY(a, ProgTensor, g->order.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        if (ir_has(g, id, T_LEAF))
            compile_leaf(a, g, id, &p->tensors[p->n_tensors++]);
        else if (v->op == OP_OUTPUT)
            p->tensors[p->n_tensors++] = compile_tensor(a, g, v->in[0], TENSOR_OUTPUT, v->name);
    }
}

/* ---- Launches ---------------------------------------------------------------------------------------------------- */

static const CallKind compile_calls[OP_COUNT] = {
    [OP_CONV2D] = CALL_CONV_FWD,
    [OP_CONV2D_GRAD_X] = CALL_CONV_BWD_X,
    [OP_CONV2D_GRAD_W] = CALL_CONV_BWD_W,
    [OP_LINEAR] = CALL_LINEAR_FWD,
    [OP_LINEAR_GRAD_X] = CALL_LINEAR_BWD_X,
    [OP_LINEAR_GRAD_W] = CALL_LINEAR_BWD_W,
    [OP_CONV2D_INT] = CALL_CONV_FWD_INT,
    [OP_LINEAR_INT] = CALL_CONV_FWD_INT,
    [OP_CONV_TRANSPOSE2D] = CALL_CONV_BWD_X,
};

/* What the codes of an operand may be, where the quantizer that made them is still to be seen. */
static void compile_range(const Graph *g, ValueId codes, int32_t *lo, int32_t *hi)
{
    ValueId id = ir_root(g, codes);
    while (ir_is(g, id, OP_RELAYOUT) || ir_is(g, id, OP_TAP_OUTPUTS))
        id = ir_root(g, ir_value(g, id)->in[0]);
    if (ir_is(g, id, OP_QUANTIZE)) {
        const Value *q = ir_value(g, id);
        bool         centred = ir_int(q, A_CENTRED); /* wherever the zero point is */
        *lo = (int32_t)(centred ? ir_int(q, A_LO) - ir_int(q, A_HI) : ir_int(q, A_LO));
        *hi = (int32_t)(centred ? ir_int(q, A_HI) - ir_int(q, A_LO) : ir_int(q, A_HI));
    }
}

/* Shapes of the convolution that v computes, or is a gradient of (a transposed convolution: of the one that it is the
 * transpose of): input, weight, output. */
static CallDesc compile_call(const Graph *g, ValueId id)
{
    const Value *v = ir_value(g, id);
    CallDesc     d = {
            .kind = compile_calls[v->op], .stride = 1, .groups = 1, .h = 1, .w = 1, .r = 1, .s = 1, .oh = 1, .ow = 1
    };
    Type  a_type = ir_value(g, v->in[0])->type, b_type = ir_value(g, v->in[1])->type;
    Shape a = a_type.shape, b = b_type.shape, out = v->type.shape;
    bool  codes = d.kind == CALL_CONV_FWD_INT;
    bool  fwd = d.kind == CALL_CONV_FWD || d.kind == CALL_LINEAR_FWD || codes;
    bool  bwd_x = d.kind == CALL_CONV_BWD_X || d.kind == CALL_LINEAR_BWD_X;
    Shape x = fwd ? a : bwd_x ? out : b, w = fwd || bwd_x ? b : out, y = fwd ? out : a;
    d.bias = fwd && v->n_in == 3 && !codes;
    d.n = x.dim[0];
    d.c = x.dim[1];
    d.k = w.dim[0];
    if (codes) {
        d.x_type = a_type.dtype, d.w_type = b_type.dtype;
        compile_range(g, v->in[0], &d.x_lo, &d.x_hi);
        compile_range(g, v->in[1], &d.w_lo, &d.w_hi);
        d.scale_per_k = ir_value(g, v->in[2])->type.shape.rank == 1;
        d.krsc = true; /* a matrix lies either way */
    }
    if (x.rank == 4) {
        d.krsc = (fwd || bwd_x ? b_type : v->type).layout == LAYOUT_NHWC;
        d.h = x.dim[2], d.w = x.dim[3];
        d.r = w.dim[2], d.s = w.dim[3];
        d.oh = y.dim[2], d.ow = y.dim[3];
        d.stride = ir_int(v, A_STRIDE);
        d.groups = v->op == OP_CONV_TRANSPOSE2D ? 1 : ir_int(v, A_GROUPS);
        d.bf16 = (v->op == OP_CONV2D_GRAD_X || v->op == OP_CONV2D_GRAD_W) && ir_int(v, A_BF16);
        if (d.bf16)
            *(bwd_x ? &d.w_type : &d.x_type) = b_type.dtype;
        memcpy(d.pad, ir_pads(v, A_PAD), sizeof(d.pad));
    }
    return d;
}

static MemRef *compile_bufs(Arena *a, const Group *group)
{
    MemRef *refs = ARENA_ARRAY(a, MemRef, group->n_bound);
    for (int32_t i = 0; i < group->n_bound; i++)
        refs[i] = compile_ref(group->bound_at[i]);
    return refs;
}

/* ---- What launches do with memory ----------------------------------------------------------------------------------
 */

static void compile_part(Arena *a, const Graph *g, ValueId v, Place begin, int64_t bytes, BufUse *use)
{
    const Value *val = ir_value(g, v);
    int64_t      at = val->place.offset - begin.offset;
    if (val->place.kind != begin.kind || at < 0 || at >= bytes)
        return;
    BufPart *parts = ARENA_ARRAY(a, BufPart, use->n_parts + 1);
    if (use->n_parts > 0)
        memcpy(parts, use->parts, sizeof(BufPart) * (size_t)use->n_parts);
    parts[use->n_parts++] = (BufPart){ at, type_bytes(val->type), v };
    use->parts = parts;
}

/* A buffer over many tensors: which of them the group reads or writes. */
static void compile_parts(Arena *a, const Graph *g, int32_t k, Place begin, BufUse *use)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->group != k)
            continue;
        if (use->access & ACCESS_WRITE)
            compile_part(a, g, g->order.at[i], begin, use->bytes, use);
        for (int32_t j = 0; j < v->n_in && use->access == ACCESS_READ; j++) {
            ValueId from = ir_root(g, v->in[j]);
            if (ir_value(g, from)->group != k)
                compile_part(a, g, from, begin, use->bytes, use);
        }
    }
}

int64_t codegen_buf_bytes(const KBuf *b)
{
    int64_t bytes = dtype_bytes(b->dtype, b->elems);
    return dtype_bits(b->dtype) < 8 ? dt_round_up(bytes, 4) : bytes;
}

static BufUse *compile_uses(Arena *a, const Graph *g, int32_t k)
{
    static const uint8_t access[] = {
        [BUF_IN] = ACCESS_READ, [BUF_OUT] = ACCESS_WRITE, [BUF_INOUT] = ACCESS_READ | ACCESS_WRITE
    };
    const Group *group = &g->groups.at[k];
    BufUse      *uses = ARENA_ARRAY(a, BufUse, group->n_bound);
    for (int32_t i = 0; i < group->n_bound; i++) {
        ValueId v = group->bound[i] == VALUE_NONE ? VALUE_NONE : ir_root(g, group->bound[i]);
        uses[i].value = v;
        if (group->kernel != NULL) {
            const KBuf *b = &group->kernel->bufs.at[i];
            uses[i].bytes = codegen_buf_bytes(b);
            uses[i].access = access[b->mode];
        } else {
            uses[i].bytes = type_bytes(ir_value(g, v)->type);
            uses[i].access = i + 1 < group->n_bound ? ACCESS_READ : ACCESS_WRITE;
        }
        if (v == VALUE_NONE)
            compile_parts(a, g, k, group->bound_at[i], &uses[i]);
    }
    return uses;
}

/* The value that stands for group k: its last one. */
static ValueId *compile_heads(Arena *a, const Graph *g)
{
    ValueId *heads = ARENA_ARRAY(a, ValueId, g->groups.len + 1);
    for (int32_t i = 0; i < g->order.len; i++)
        if (ir_value(g, g->order.at[i])->group >= 0)
            heads[ir_value(g, g->order.at[i])->group] = g->order.at[i];
    return heads;
}

/* What profiles sort launches by. */
static void compile_content(const Graph *g, Program *p)
{
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        bool         conv = v->op == OP_CONV2D || v->op == OP_CONV2D_INT || v->op == OP_DEPTHWISE;
        if (v->group < 0)
            continue;
        Launch *l = &p->launches[v->group];
        l->sums |= ir_has(g, id, T_REDUCE);
        l->conv_out += conv || v->op == OP_CONV_TRANSPOSE2D ? shape_elems(v->type.shape) : 0;
    }
}

/* The library does not carry out this call: preparing it says why. */
static bool compile_refused(Diag *d, CallLib *lib, const Launch *l)
{
    void *prepared = lib->prepare(lib->self, d, &l->call);
    DT_ASSERT(prepared == NULL, "%s prepares %s and cannot say what it needs", lib->name, l->name);
    diag_note(d, LOC_NONE, "in launch %s", l->name);
    if (l->call.kind == CALL_CONV_FWD_INT)
        diag_help(d, "with --forward float the product is of floats");
    return false;
}

static bool compile_launches(Arena *a, Diag *d, const Graph *g, KernelJit *jit, CallLib *lib, Program *p)
{
    Kernel **kernels = ARENA_ARRAY(a, Kernel *, g->groups.len + 1);
    ValueId *heads = compile_heads(a, g);
    p->n_launches = g->groups.len;
    p->launches = ARENA_ARRAY(a, Launch, g->groups.len + 1);
    for (int32_t k = 0; k < g->groups.len; k++) {
        const Group *group = &g->groups.at[k];
        Launch      *l = &p->launches[k];
        *l = (Launch){ .name = arena_strdup(a, group->name), .bufs = compile_bufs(a, group), .n_bufs = group->n_bound };
        l->backward = ir_value(g, heads[k])->backward;
        l->uses = compile_uses(a, g, k);
        if (group->kernel != NULL) {
            l->kind = LAUNCH_KERNEL;
            l->image = p->n_images;
            kernels[p->n_images++] = group->kernel;
        } else {
            l->kind = LAUNCH_CALL;
            l->call = compile_call(g, heads[k]);
            l->scratch_bytes = lib->scratch_bytes(lib->self, &l->call);
            if (l->scratch_bytes < 0)
                return compile_refused(d, lib, l);
        }
    }
    compile_content(g, p);
    p->images = ARENA_ARRAY(a, KernelImage, p->n_images + 1);
    if (!jit_compile(jit, d, p->name, kernels, p->n_images, p->images))
        return false;
    for (int32_t k = 0; k < p->n_launches; k++) {
        Launch *l = &p->launches[k];
        if (l->kind == LAUNCH_KERNEL)
            l->scratch_bytes = p->images[l->image].scratch_bytes;
        p->bytes[ARENA_SCRATCH] = dt_max64(p->bytes[ARENA_SCRATCH], l->scratch_bytes);
    }
    return true;
}

Program *codegen_program(Arena *a, Diag *d, const Graph *g, KernelJit *jit, CallLib *lib)
{
    Program *p = ARENA_NEW(a, Program);
    p->arena = a;
    p->name = arena_strdup(a, g->name);
    for (int32_t k = MEM_IO; k <= MEM_WORK; k++)
        p->bytes[compile_arenas[k]] = g->bytes[k];
    compile_tensors(a, g, p);
    return compile_launches(a, d, g, jit, lib, p) ? p : NULL;
}
