/* patterns.c: how a call becomes plans.
 *
 * The table lists ways to compute a call, best first; a call takes the first row for which the library has engines. A
 * row is a graph: a convolution whose operands are f32, half (fp16 or bf16, by `math`) or codes, with what is done as
 * an operand is read or with a sum before it is written. Operands that a half convolution reads from memory are
 * converted before it by graphs of their own:
 *
 *   [x -> half x]  [w -> half w]  half x * half w -> f32        up to three stages
 *
 * Matrix products are convolutions of 1x1 images: deterministic f32 engines exist for them on every architecture, which
 * the library's own matrix product does not have.
 *
 * Tested by tests/unit/test_cudnn_run.c: each row has engines; on a GPU each row against plain loops. */
#include "runtime/cudnn/cudnn_impl.h"

#include <string.h>

enum {
    FWD = 1 << CALL_CONV_FWD,
    GRADS = 1 << CALL_CONV_BWD_X | 1 << CALL_CONV_BWD_W,
    INTEGER = 1 << CALL_CONV_FWD_INT,
    HALVES = 1 << CUDNN_MATH_FP16 | 1 << CUDNN_MATH_BF16,
    FLOATS = 1 << CUDNN_MATH_F32 | 1 << CUDNN_MATH_TF32
};

/* Halves end in the rows of f32 memory, there computed as tf32, which keeps as many bits as fp16 and more than bf16:
 * half engines want code that is compiled at run time and, for gradients, channels in multiples of 4 at least. */
// clang-format off
const CudnnPattern cudnn_patterns[] = {
    /* name                   kinds        maths            bias   operand        main loop end */
    { "half of f32",          FWD,         HALVES,          false, OPERAND_HALF,  true,  POINT_NONE },
    { "half of f32 + bias",   FWD,         HALVES,          true,  OPERAND_HALF,  true,  POINT_ADD },
    { "half",                 FWD | GRADS, HALVES,          false, OPERAND_HALF,  false, POINT_IDENTITY },
    { "f32",                  FWD | GRADS, FLOATS | HALVES, false, OPERAND_F32,   false, POINT_NONE },
    { "f32 + bias",           FWD,         FLOATS | HALVES, true,  OPERAND_F32,   false, POINT_ADD },
    { "codes * scale",        INTEGER,     FLOATS | HALVES, false, OPERAND_CODES, false, POINT_MUL },
};
// clang-format on
const int32_t     cudnn_n_patterns = DT_COUNT(cudnn_patterns);

const char *const cudnn_math_names[] = { "f32", "tf32", "fp16", "bf16" };

/* Notes that an engine may not have, besides being nondeterministic. Winograd's transforms and Fourier's cost bits that
 * no bound of rounding errors has room for. */
static uint32_t forbidden(const CudnnPattern *p, CudnnMath math)
{
    uint32_t notes = NOTE_DOWN_CONVERT | NOTE_REDUCED | NOTE_FFT | NOTE_WINOGRAD;
    return p->operand == OPERAND_F32 && math == CUDNN_MATH_F32 ? notes | NOTE_TENSOR_CORE : notes;
}

/* ---- Descriptions ----------------------------------------------------------------------------------------------- */

CallDesc cudnn_as_conv(const CallDesc *call)
{
    CallDesc d = *call;
    if (call->kind >= CALL_LINEAR_FWD && call->kind <= CALL_LINEAR_BWD_W) {
        d = (CallDesc){
            .kind = call->kind - CALL_LINEAR_FWD + CALL_CONV_FWD, .n = call->n, .c = call->c, .k = call->k
        };
        d.h = d.w = d.r = d.s = d.oh = d.ow = d.stride = d.groups = 1;
    }
    d.bias = call->bias && d.kind == CALL_CONV_FWD; /* gradients do not see it */
    d.scale_per_k = call->scale_per_k && d.kind == CALL_CONV_FWD_INT;
    d.krsc = call->krsc || d.r * d.s == 1 || d.c == d.groups; /* the same order */
    return d;
}

/* A call and its text tell each other: what is not in the text is of no account. */
void cudnn_call_text(char *text, size_t bytes, const CallDesc *d)
{
    static const char *const names[] = { [CALL_CONV_FWD] = "forward",
                                         [CALL_CONV_BWD_X] = "gradient x",
                                         [CALL_CONV_BWD_W] = "gradient w",
                                         [CALL_CONV_FWD_INT] = "integer" };
    bool                     codes = d->kind == CALL_CONV_FWD_INT;
    snprintf(text, bytes,
             "conv %s %lldx%lldx%lldx%lld -> %lldx%lldx%lld, %lldx%lld stride %lld pad %lld,%lld,%lld,%lld groups "
             "%lld%s%s%s%s%s",
             names[d->kind], (long long)d->n, (long long)d->c, (long long)d->h, (long long)d->w, (long long)d->k,
             (long long)d->oh, (long long)d->ow, (long long)d->r, (long long)d->s, (long long)d->stride,
             (long long)d->pad[0], (long long)d->pad[1], (long long)d->pad[2], (long long)d->pad[3],
             (long long)d->groups, d->bias ? " bias" : "", d->scale_per_k ? " scale of channels" : "", codes ? " " : "",
             codes ? dtype_name(d->x_type) : "", d->krsc ? "" : " KCRS");
}

/* NULL, or why no row is worth trying. */
static const char *unfit(const CallDesc *d)
{
    bool integer = d->kind == CALL_CONV_FWD_INT;
    if (d->n < 1 || d->c < 1 || d->k < 1 || d->h < 1 || d->w < 1 || d->r < 1 || d->s < 1 || d->oh < 1 || d->ow < 1 ||
        d->stride < 1 || d->groups < 1 || d->c % d->groups || d->k % d->groups)
        return "the description is not of a convolution\n";
    if (!d->krsc)
        return "weights lie [K, C, R, S], and are taken [K, R, S, C] only\n";
    if (integer && (d->x_type != DTYPE_S8 || d->w_type != DTYPE_S8))
        return "its integer engines multiply s8 by s8 only\n";
    return NULL;
}

/* ---- Stages ----------------------------------------------------------------------------------------------------- */

void call_clear(Cudnn *c, CudnnCall *call)
{
    while (call->n_stages > 0)
        descs_free(c, &call->stages[--call->n_stages].keep);
    call->work_offset = call->scratch_bytes = 0;
}

static void bind(CudnnStage *st, int64_t uid, int64_t bytes, int32_t buf, int64_t offset)
{
    DT_ASSERT(st->n_bindings < STAGE_BINDINGS, "%d tensors", st->n_bindings);
    st->bindings[st->n_bindings++] = (CudnnBinding){ .uid = uid, .bytes = bytes, .buf = buf, .offset = offset };
}

static CudnnStage *stage_new(CudnnCall *call, const char *name)
{
    DT_ASSERT(call->n_stages < CALL_STAGES, "%d stages", call->n_stages);
    CudnnStage *st = &call->stages[call->n_stages++];
    *st = (CudnnStage){ .name = name };
    return st;
}

enum { ALIGN = 256, NOT_SUPPORTED = 3000 };

/* Operand i as a half in scratch memory. */
static bool add_conversion(Cudnn *c, CudnnCall *call, int32_t i, CudnnType half, Str *why)
{
    CudnnRole   role = cudnn_roles(call->desc.kind)[i];
    CudnnStage *st = stage_new(call, half == CUDNN_F16 ? "f32 -> fp16" : "f32 -> bf16");
    char        text[64];
    bind(st, cudnn_uid(role), cudnn_bytes(&call->desc, role, CUDNN_F32), i, 0);
    bind(st, cudnn_uid(role) + CUDNN_COPY, cudnn_bytes(&call->desc, role, half), -1, call->work_offset);
    call->work_offset += dt_round_up(cudnn_bytes(&call->desc, role, half), ALIGN);
    int64_t dim[4];
    cudnn_dims(&call->desc, role, dim);
    snprintf(text, sizeof text, "%c: %lldx%lldx%lldx%lld", "xwy"[role], (long long)dim[0], (long long)dim[1],
             (long long)dim[2], (long long)dim[3]);
    CudnnDesc graph = graph_convert(c, &st->keep, &call->desc, role, half);
    return cudnn_choose(c, st, graph, 0, text, why);
}

static bool add_conv(Cudnn *c, CudnnCall *call, CudnnType half, Str *why)
{
    const CudnnPattern *p = call->pattern;
    const CallDesc     *d = &call->desc;
    const CudnnRole    *roles = cudnn_roles(d->kind);
    CudnnStage         *st = stage_new(call, p->name);
    int64_t             offset = 0;
    for (int32_t i = 0; i < 2; i++) {
        bool      copied = p->operand == OPERAND_HALF && !(i == 0 && p->main_loop);
        CudnnType type = p->operand == OPERAND_CODES ? CUDNN_S8 : copied ? half : CUDNN_F32;
        bind(st, cudnn_uid(roles[i]), cudnn_bytes(d, roles[i], type), copied ? -1 : i, copied ? offset : 0);
        if (copied)
            offset += dt_round_up(cudnn_bytes(d, roles[i], type), ALIGN);
    }
    if (p->end == POINT_ADD || p->end == POINT_MUL)
        bind(st, cudnn_uid(ROLE_EXTRA), cudnn_bytes(d, ROLE_EXTRA, CUDNN_F32), 2, 0);
    bind(st, cudnn_uid(roles[2]), cudnn_bytes(d, roles[2], CUDNN_F32), call->n_bufs - 1, 0);
    CudnnDesc graph = graph_call(c, &st->keep, d, p, half);
    char      text[320];
    snprintf(text, sizeof text, "%s %s", cudnn_math_names[c->opt.math], call->text);
    return cudnn_choose(c, st, graph, forbidden(p, c->opt.math), text, why);
}

static bool try_pattern(Cudnn *c, CudnnCall *call, const CudnnPattern *p, Str *why)
{
    CudnnType half = c->opt.math == CUDNN_MATH_FP16 ? CUDNN_F16 : CUDNN_BF16;
    bool      ok = true;
    call->pattern = p;
    for (int32_t i = 0; ok && p->operand == OPERAND_HALF && i < 2; i++)
        if (!(i == 0 && p->main_loop))
            ok = add_conversion(c, call, i, half, why);
    ok = ok && add_conv(c, call, half, why);
    if (!ok)
        call_clear(c, call);
    if (c->failure.status >= NOT_SUPPORTED && c->failure.status < NOT_SUPPORTED + 1000) { /* other rows may be */
        str_printf(why, "%s: %s\n", p->name, c->failure.text);
        cudnn_clear(c);
    }
    return ok;
}

bool cudnn_plan(Cudnn *c, CudnnCall *call)
{
    const char *no = unfit(&call->desc);
    Str         why = str_new(c->arena);
    bool        ok = false;
    for (int32_t i = 0; !no && !ok && !c->failure.status && i < cudnn_n_patterns; i++) {
        const CudnnPattern *p = &cudnn_patterns[i];
        if ((p->kinds >> call->desc.kind & 1) && (p->maths >> c->opt.math & 1) && p->bias == call->desc.bias)
            ok = try_pattern(c, call, p, &why);
    }
    if (!ok) {
        call->refusal = c->failure.status ? NULL : no ? no : why.s;
        return false;
    }
    int64_t work = 0;
    for (int32_t i = 0; i < call->n_stages; i++)
        work = dt_max64(work, call->stages[i].workspace);
    call->scratch_bytes = call->work_offset + dt_round_up(work, ALIGN);
    return true;
}
