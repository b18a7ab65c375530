/* desc.c: descriptors: how cuDNN is told of anything. Tensors, operations, graphs of a call, packs of addresses.
 *
 * A descriptor is made, given attributes one by one, and finished; each of these can fail. So that a graph reads as
 * what it is, all functions here do nothing once one has failed: the first failure is kept (c->failure), and whoever
 * asked for the graph looks once, at its end. Descriptors stand in a set that is freed as a whole.
 *
 * Tested by tests/unit/test_cudnn.c, with a failure at each call. */
#include "runtime/cudnn/cudnn_impl.h"

/* ---- Descriptors ------------------------------------------------------------------------------------------------ */

CudnnDesc desc_new(Cudnn *c, CudnnDescs *keep, int type)
{
    CudnnDesc desc = NULL;
    if (c->failure.status)
        return NULL;
    DT_ASSERT(keep->n < DESCS_MAX, "%d descriptors", keep->n);
    if (!cudnn_ok(c, c->api->create(type, &desc), "cudnnBackendCreateDescriptor", ""))
        return NULL;
    keep->at[keep->n++] = desc;
    return desc;
}

void desc_set(Cudnn *c, CudnnDesc desc, int attr, int type, int64_t n, const void *values)
{
    char what[32];
    if (c->failure.status)
        return;
    snprintf(what, sizeof what, "attribute %d", attr);
    cudnn_ok(c, c->api->set(desc, attr, type, n, values), "cudnnBackendSetAttribute", what);
}

/* All of cuDNN's enumerations are ints. */
void desc_set_number(Cudnn *c, CudnnDesc desc, int attr, int type, int value)
{
    desc_set(c, desc, attr, type, 1, &value);
}

void desc_set_desc(Cudnn *c, CudnnDesc desc, int attr, CudnnDesc value)
{
    desc_set(c, desc, attr, AS_DESC, 1, &value);
}

static void desc_set_ints(Cudnn *c, CudnnDesc desc, int attr, int64_t n, const int64_t *values)
{
    desc_set(c, desc, attr, AS_INT64, n, values);
}

int64_t desc_get(Cudnn *c, CudnnDesc desc, int attr, int type, int64_t n, void *values)
{
    int64_t found = 0;
    char    what[32];
    if (c->failure.status)
        return 0;
    snprintf(what, sizeof what, "attribute %d", attr);
    bool ok = cudnn_ok(c, c->api->get(desc, attr, type, n, &found, values), "cudnnBackendGetAttribute", what);
    return ok ? found : 0;
}

void desc_finish(Cudnn *c, CudnnDesc desc, const char *what)
{
    if (!c->failure.status)
        cudnn_ok(c, c->api->finalize(desc), "cudnnBackendFinalize", what);
}

/* The last made may refer to those before. That freeing fails is of no use to anyone. */
void descs_free(Cudnn *c, CudnnDescs *keep)
{
    while (keep->n > 0)
        (void)c->api->destroy(keep->at[--keep->n]);
}

/* ---- Tensors of a call ------------------------------------------------------------------------------------------ */

void cudnn_dims(const CallDesc *d, CudnnRole role, int64_t dim[4])
{
    const int64_t all[][4] = { [ROLE_X] = { d->n, d->c, d->h, d->w },
                               [ROLE_W] = { d->k, d->c / d->groups, d->r, d->s },
                               [ROLE_Y] = { d->n, d->k, d->oh, d->ow },
                               [ROLE_EXTRA] = { 1, d->bias || d->scale_per_k ? d->k : 1, 1, 1 } };
    for (int32_t i = 0; i < 4; i++)
        dim[i] = all[role][i];
}

static int64_t type_bytes(CudnnType type)
{
    return type == CUDNN_S8 ? 1 : type == CUDNN_F16 || type == CUDNN_BF16 ? 2 : 4;
}

int64_t cudnn_bytes(const CallDesc *d, CudnnRole role, CudnnType type)
{
    int64_t dim[4];
    cudnn_dims(d, role, dim);
    return dim[0] * dim[1] * dim[2] * dim[3] * type_bytes(type);
}

enum { INSIDE = 16, ALIGNMENT = 16 };
int64_t cudnn_uid(CudnnRole role)
{
    return role + 1;
}

/* Extents are N C H W whatever the strides say: the channels of a pixel lie together. plus: 0, a tensor of the launch;
 * CUDNN_COPY, one in its scratch memory; INSIDE, one that exists only within the graph. */
static CudnnDesc tensor_new(Cudnn *c, CudnnDescs *keep, const CallDesc *d, CudnnRole role, CudnnType type, int64_t plus)
{
    static const char *const what[] = { "tensor x", "tensor w", "tensor y", "tensor of the epilogue" };
    CudnnDesc                t = desc_new(c, keep, DESC_TENSOR);
    int64_t                  dim[4], uid = cudnn_uid(role) + plus, alignment = ALIGNMENT;
    cudnn_dims(d, role, dim);
    const int64_t stride[4] = { dim[1] * dim[2] * dim[3], 1, dim[3] * dim[1], dim[1] };
    const bool    is_virtual = plus == INSIDE;
    desc_set_ints(c, t, TENSOR_UID, 1, &uid);
    desc_set_number(c, t, TENSOR_TYPE, AS_ELEMENT_TYPE, type);
    desc_set_ints(c, t, TENSOR_DIMS, 4, dim);
    desc_set_ints(c, t, TENSOR_STRIDES, 4, stride);
    desc_set_ints(c, t, TENSOR_ALIGNMENT, 1, &alignment);
    desc_set(c, t, TENSOR_VIRTUAL, AS_BOOL, 1, &is_virtual);
    desc_finish(c, t, what[role]);
    return t;
}

/* ---- Operations ------------------------------------------------------------------------------------------------- */

static const struct {
    CudnnRole roles[3]; /* operands, result */
    int       desc, attr;
} kinds[] = {
    [CALL_CONV_FWD] = { { ROLE_X, ROLE_W, ROLE_Y }, DESC_OP_CONV_FWD, OP_CONV_FWD },
    [CALL_CONV_BWD_X] = { { ROLE_Y, ROLE_W, ROLE_X }, DESC_OP_CONV_BWD_X, OP_CONV_BWD_X },
    [CALL_CONV_BWD_W] = { { ROLE_Y, ROLE_X, ROLE_W }, DESC_OP_CONV_BWD_W, OP_CONV_BWD_W },
    [CALL_CONV_FWD_INT] = { { ROLE_X, ROLE_W, ROLE_Y }, DESC_OP_CONV_FWD, OP_CONV_FWD },
};

const CudnnRole *cudnn_roles(CallKind kind)
{
    return kinds[kind].roles;
}

static CudnnDesc conv_new(Cudnn *c, CudnnDescs *keep, const CallDesc *d, CudnnType sums)
{
    CudnnDesc     conv = desc_new(c, keep, DESC_CONV);
    const int64_t rank = 2, ones[2] = { 1, 1 }, strides[2] = { d->stride, d->stride };
    desc_set_number(c, conv, CONV_SUM_TYPE, AS_ELEMENT_TYPE, sums);
    desc_set_number(c, conv, CONV_MODE, AS_CONV_MODE, MODE_CROSS_CORRELATION);
    desc_set_ints(c, conv, CONV_SPATIAL_DIMS, 1, &rank);
    desc_set_ints(c, conv, CONV_DILATIONS, 2, ones);
    desc_set_ints(c, conv, CONV_STRIDES, 2, strides);
    desc_set_ints(c, conv, CONV_PAD_BEFORE, 2, d->pad);
    desc_set_ints(c, conv, CONV_PAD_AFTER, 2, d->pad + 2);
    desc_finish(c, conv, "convolution");
    return conv;
}

/* tensors: by role */
static CudnnDesc op_conv_new(Cudnn *c, CudnnDescs *keep, const CallDesc *d, CudnnType sums, const CudnnDesc tensors[3])
{
    CudnnDesc   conv = conv_new(c, keep, d, sums), op = desc_new(c, keep, kinds[d->kind].desc);
    const int   attr = kinds[d->kind].attr;
    const float alpha = 1, beta = 0;
    desc_set(c, op, attr, AS_FLOAT, 1, &alpha);
    desc_set(c, op, attr + 1, AS_FLOAT, 1, &beta);
    desc_set_desc(c, op, attr + 2, conv);
    desc_set_desc(c, op, attr + 3, tensors[ROLE_W]);
    desc_set_desc(c, op, attr + 4, tensors[ROLE_X]);
    desc_set_desc(c, op, attr + 5, tensors[ROLE_Y]);
    desc_finish(c, op, "operation");
    return op;
}

/* b: NULL, or the second operand. Computed in f32, from and to any type. */
static CudnnDesc op_pointwise_new(Cudnn *c, CudnnDescs *keep, int mode, CudnnDesc x, CudnnDesc b, CudnnDesc y)
{
    CudnnDesc point = desc_new(c, keep, DESC_POINTWISE);
    desc_set_number(c, point, POINTWISE_MODE, AS_POINTWISE_MODE, mode);
    desc_set_number(c, point, POINTWISE_TYPE, AS_ELEMENT_TYPE, CUDNN_F32);
    desc_finish(c, point, "pointwise");
    CudnnDesc op = desc_new(c, keep, DESC_OP_POINTWISE);
    desc_set_desc(c, op, OP_POINTWISE, point);
    desc_set_desc(c, op, OP_POINTWISE_X, x);
    if (b)
        desc_set_desc(c, op, OP_POINTWISE_B, b);
    desc_set_desc(c, op, OP_POINTWISE_Y, y);
    desc_finish(c, op, "pointwise operation");
    return op;
}

/* ---- Graphs ----------------------------------------------------------------------------------------------------- */

static CudnnDesc graph_new(Cudnn *c, CudnnDescs *keep, const CudnnDesc *ops, int64_t n)
{
    CudnnDesc graph = desc_new(c, keep, DESC_GRAPH);
    if (c->handle)
        desc_set(c, graph, GRAPH_HANDLE, AS_HANDLE, 1, &c->handle);
    desc_set(c, graph, GRAPH_OPS, AS_DESC, n, ops);
    desc_finish(c, graph, "graph");
    return graph;
}

CudnnDesc graph_call(Cudnn *c, CudnnDescs *keep, const CallDesc *d, const CudnnPattern *pattern, CudnnType half)
{
    const CudnnRole *roles = cudnn_roles(d->kind), result = roles[2];
    const CudnnType  types[] = { [OPERAND_F32] = CUDNN_F32, [OPERAND_HALF] = half, [OPERAND_CODES] = CUDNN_S8 };
    const CudnnType  type = types[pattern->operand], sums = pattern->operand == OPERAND_CODES ? CUDNN_S32 : CUDNN_F32;
    CudnnDesc        tensors[3], ops[3];
    int64_t          n = 0;
    for (int32_t i = 0; i < 2; i++) {
        bool inside = i == 0 && pattern->main_loop;
        tensors[roles[i]] = tensor_new(c, keep, d, roles[i], type, inside ? INSIDE : 0);
        if (inside)
            ops[n++] = op_pointwise_new(c, keep, POINT_IDENTITY, tensor_new(c, keep, d, roles[i], CUDNN_F32, 0), NULL,
                                        tensors[roles[i]]);
    }
    bool ends = pattern->end != POINT_NONE;
    tensors[result] = tensor_new(c, keep, d, result, sums, ends ? INSIDE : 0);
    ops[n++] = op_conv_new(c, keep, d, sums, tensors);
    if (ends) {
        bool      two = pattern->end != POINT_IDENTITY;
        CudnnDesc extra = two ? tensor_new(c, keep, d, ROLE_EXTRA, CUDNN_F32, 0) : NULL;
        CudnnDesc out = tensor_new(c, keep, d, result, CUDNN_F32, 0);
        ops[n++] = op_pointwise_new(c, keep, pattern->end, tensors[result], extra, out);
    }
    return graph_new(c, keep, ops, n);
}

CudnnDesc graph_convert(Cudnn *c, CudnnDescs *keep, const CallDesc *d, CudnnRole role, CudnnType to)
{
    CudnnDesc from = tensor_new(c, keep, d, role, CUDNN_F32, 0), copy = tensor_new(c, keep, d, role, to, CUDNN_COPY);
    CudnnDesc op = op_pointwise_new(c, keep, POINT_IDENTITY, from, NULL, copy);
    return graph_new(c, keep, &op, 1);
}

CudnnDesc pack_new(Cudnn *c, CudnnDescs *keep, const CudnnStage *st, void *const at[], void *workspace)
{
    CudnnDesc pack = desc_new(c, keep, DESC_PACK);
    int64_t   uids[STAGE_BINDINGS];
    for (int32_t i = 0; i < st->n_bindings; i++)
        uids[i] = st->bindings[i].uid;
    desc_set_ints(c, pack, PACK_UIDS, st->n_bindings, uids);
    desc_set(c, pack, PACK_POINTERS, AS_POINTER, st->n_bindings, at);
    desc_set(c, pack, PACK_WORKSPACE, AS_POINTER, 1, &workspace);
    desc_finish(c, pack, "variant pack");
    return pack;
}
