/* inputs.c: the host's side of a program's tensors: are those there that training relies on, and do they fit the data?
 * Asked once, before the first step, so that nothing is looked up by name while it runs.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/runtime_impl.h"

#include <stddef.h>
#include <string.h>

static const char *const kind_names[] = {
    [TENSOR_INPUT] = "input", [TENSOR_PARAM] = "param", [TENSOR_STATE] = "state", [TENSOR_OUTPUT] = "output"
};

const char *dims_text(Arena *a, const int64_t *dim, int32_t rank)
{
    Str s = str_new(a);
    str_add(&s, "[");
    for (int32_t i = 0; i < rank; i++)
        str_printf(&s, "%s%lld", i ? ", " : "", (long long)dim[i]);
    str_add(&s, "]");
    return s.s;
}

const ProgTensor *program_need(Diag *d, const Program *p, TensorKind kind, const char *name, DType dtype, int32_t rank,
                               const int64_t *dim)
{
    const ProgTensor *t = program_tensor(p, name);
    if (!t || t->kind != kind) {
        diag_error(d, LOC_NONE, "train: program %s has no %s '%s'", p->name, kind_names[kind], name);
        return NULL;
    }
    bool same = t->dtype == dtype && (rank < 0 || t->rank == rank);
    for (int32_t i = 0; same && i < rank; i++)
        same = t->dim[i] == dim[i];
    if (same)
        return t;
    Arena scratch = arena_new("shape");
    diag_error(d, LOC_NONE, "train: %s '%s' of program %s is %s%s, expected %s%s", kind_names[kind], name, p->name,
               dtype_name(t->dtype), dims_text(&scratch, t->dim, t->rank), dtype_name(dtype),
               rank < 0 ? " of any shape" : dims_text(&scratch, dim, rank));
    arena_free(&scratch);
    return NULL;
}

/* ---- Batches --------------------------------------------------------------------------------------------------- */

/* Inputs that a program may have; of the image's shape, or one number a sample. */
static const struct {
    const char *name;
    DType       dtype;
    bool        picture;
    size_t      in, out; /* places in BatchInputs and BatchOut */
} fields[] = {
#define FIELD(name, dtype, picture) { #name, dtype, picture, offsetof(BatchInputs, name), offsetof(BatchOut, name) }
    FIELD(image, DTYPE_F32, true),  FIELD(label, DTYPE_I32, false), FIELD(label2, DTYPE_I32, false),
    FIELD(share, DTYPE_F32, false), FIELD(target, DTYPE_F32, true), FIELD(noise, DTYPE_F32, true),
#undef FIELD
};

static const ProgTensor **field_tensor(BatchInputs *in, int32_t i)
{
    return (const ProgTensor **)(void *)((char *)in + fields[i].in);
}

static const ProgTensor *field_of(const BatchInputs *in, int32_t i)
{
    return *field_tensor((BatchInputs *)(uintptr_t)in, i);
}

static void set_out(BatchOut *out, int32_t i, void *at)
{
    memcpy((char *)out + fields[i].out, &at, sizeof at);
}

static void *get_out(const BatchOut *out, int32_t i)
{
    void *at;
    memcpy(&at, (const char *)out + fields[i].out, sizeof at);
    return at;
}

static bool image_fits(Diag *d, const Program *p, const ProgTensor *image, const Dataset *data, Split split,
                       int32_t classes)
{
    int64_t want[3] = { dataset_channels(data), dataset_height(data, split), dataset_width(data, split) };
    bool    same = image->rank == 4;
    for (int32_t i = 0; same && i < 3; i++)
        same = image->dim[i + 1] == want[i];
    if (!same) {
        Arena scratch = arena_new("shape");
        diag_error(d, LOC_NONE, "train: program %s takes images %s, but those of %s are %s", p->name,
                   dims_text(&scratch, image->dim + 1, image->rank - 1), dataset_name(data),
                   dims_text(&scratch, want, 3));
        arena_free(&scratch);
        return false;
    }
    if (dataset_task(data) == DATA_CLASSES && classes != dataset_classes(data)) {
        diag_error(d, LOC_NONE, "train: the network has %d classes, %s has %d", classes, dataset_name(data),
                   dataset_classes(data));
        return false;
    }
    return true;
}

/* An input that the data set has nothing for would be read as it lies there. */
static bool data_has(const Dataset *data, int32_t i)
{
    const bool pairs = dataset_task(data) == DATA_PAIRS, of_pairs = fields[i].picture;
    return fields[i].in == offsetof(BatchInputs, image) || pairs == of_pairs;
}

bool batch_inputs(Diag *d, LoadedProgram p, const Dataset *data, Split split, int32_t classes, bool answer,
                  BatchInputs *out)
{
    const char       *wanted = dataset_task(data) == DATA_PAIRS ? "target" : "label";
    const ProgTensor *image = program_need(d, p.program, TENSOR_INPUT, "image", DTYPE_F32, -1, NULL);
    if (!image || !image_fits(d, p.program, image, data, split, classes))
        return false;
    *out = (BatchInputs){ .p = p };
    for (int32_t i = 0; i < DT_COUNT(fields); i++) {
        const int64_t     one[2] = { image->dim[0], 1 };
        const int64_t    *dim = fields[i].picture ? image->dim : one;
        const ProgTensor *t = program_tensor(p.program, fields[i].name);
        if (!t && !(answer && str_eq(fields[i].name, wanted)))
            continue;
        if (!data_has(data, i)) {
            diag_error(d, LOC_NONE, "train: program %s asks for '%s', which the samples of %s have not",
                       p.program->name, fields[i].name, dataset_name(data));
            return false;
        }
        t = program_need(d, p.program, TENSOR_INPUT, fields[i].name, fields[i].dtype, fields[i].picture ? 4 : 2, dim);
        if (!t)
            return false;
        DT_ASSERT(!fields[i].picture || t->nhwc == image->nhwc, "%s of %s has another layout than the image", t->name,
                  p.program->name);
        *field_tensor(out, i) = t;
    }
    return true;
}

int32_t batch_next(Loader *l, const BatchInputs *in)
{
    const LoadedProgram p = in->p;
    BatchOut            out = { 0 };
    for (int32_t i = 0; i < DT_COUNT(fields); i++)
        if (field_of(in, i))
            set_out(&out, i, exec_input(p.exec, p.index, field_of(in, i)));
    return loader_next(l, &out);
}

HostBatch host_batch_new(Arena *a, const BatchInputs *in)
{
    HostBatch b = { { 0 } };
    for (int32_t i = 0; i < DT_COUNT(fields); i++)
        if (field_of(in, i))
            set_out(&b.at, i, arena_alloc(a, (size_t)field_of(in, i)->bytes));
    return b;
}

void host_batch_put(const HostBatch *b, const BatchInputs *in, void *(*place)(Exec *, int32_t, const ProgTensor *))
{
    const LoadedProgram p = in->p;
    for (int32_t i = 0; i < DT_COUNT(fields); i++) {
        const ProgTensor *t = field_of(in, i);
        if (t)
            memcpy(place(p.exec, p.index, t), get_out(&b->at, i), (size_t)t->bytes);
    }
}
