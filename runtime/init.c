/* init.c: first values of params and states. Every element is a function of (seed, tensor's name, place), so adding a
 * layer leaves the others' values alone, and two programs of one network agree without talking.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/runtime_impl.h"

#include <math.h>

typedef struct Filling {
    const ProgTensor *t;
    uint64_t          seed;
    uint32_t          stream, substream;
} Filling;

static double fill_zero(const Filling *f, int64_t i)
{
    (void)f, (void)i;
    return 0;
}

static double fill_one(const Filling *f, int64_t i)
{
    (void)f, (void)i;
    return 1;
}

static double fill_value(const Filling *f, int64_t i)
{
    (void)i;
    return f->t->init_value;
}

/* He et al. 2015: variance 2 / fan keeps the size of activations through relu layers. */
static double fill_kaiming(const Filling *f, int64_t i)
{
    return sqrt(2.0 / (double)f->t->fan) * rng_normal(f->seed, f->stream, f->substream, (uint64_t)i);
}

/* What PyTorch's Conv2d and Linear start from. */
static double fill_torch(const Filling *f, int64_t i)
{
    return (2.0 * rng_uniform(f->seed, f->stream, f->substream, (uint64_t)i) - 1.0) / sqrt((double)f->t->fan);
}

static const struct {
    const char *name;
    double (*fill)(const Filling *f, int64_t i);
    bool needs_fan;
} inits[] = {
    { "zeros", fill_zero, false },     { "ones", fill_one, false },   { "value", fill_value, false },
    { "kaiming", fill_kaiming, true }, { "torch", fill_torch, true },
};

static int32_t find_init(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(inits); i++)
        if (str_eq(inits[i].name, name))
            return i;
    return -1;
}

void tensor_init(const ProgTensor *t, uint64_t seed, void *out)
{
    int32_t k = find_init(t->init ? t->init : "zeros");
    DT_ASSERT(k >= 0, "tensor %s: init '%s'", t->name, t->init);
    DT_ASSERT(!inits[k].needs_fan || t->fan > 0, "tensor %s: init '%s' with fan %lld", t->name, t->init,
              (long long)t->fan);
    Filling f = { t, seed, hash_u32("init"), hash_u32(t->name) };
    for (int64_t i = 0; i < t->elems; i++) {
        double x = inits[k].fill(&f, i);
        switch (t->dtype) {
        case DTYPE_F32:
            ((float *)out)[i] = (float)x;
            break;
        case DTYPE_I32:
            ((int32_t *)out)[i] = (int32_t)x;
            break;
        case DTYPE_U32:
            ((uint32_t *)out)[i] = (uint32_t)x;
            break;
        default:
            DT_UNREACHABLE("tensor %s of %s is kept between steps", t->name, dtype_name(t->dtype));
        }
    }
}

bool program_init(Diag *d, LoadedProgram p, uint64_t seed)
{
    Arena scratch = arena_new("init");
    bool  ok = true;
    for (int32_t i = 0; i < p.program->n_tensors && ok; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (t->kind != TENSOR_PARAM && t->kind != TENSOR_STATE)
            continue;
        if (t->init && find_init(t->init) < 0) {
            diag_error(d, LOC_NONE,
                       "init: tensor %s starts as '%s', which is none of zeros, ones, value, kaiming, torch", t->name,
                       t->init);
            ok = false;
            break;
        }
        void *values = arena_alloc(&scratch, (size_t)dtype_bytes(t->dtype, t->elems));
        tensor_init(t, seed, values);
        ok = tensor_write(p.exec, p.index, t, values);
        arena_reset(&scratch);
    }
    arena_free(&scratch);
    return ok;
}
