/* inputs.c: the host's side of a program's tensors: are those there that training relies on, and do they fit the data?
 * Asked once, before the first step, so that nothing is looked up by name while it runs.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/runtime_impl.h"

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

static bool image_fits(Diag *d, const Program *p, const ProgTensor *image, const Dataset *data, int32_t classes)
{
    if (image->rank != 4 || image->dim[1] != data->c || image->dim[2] != data->h || image->dim[3] != data->w) {
        Arena   scratch = arena_new("shape");
        int64_t want[3] = { data->c, data->h, data->w };
        diag_error(d, LOC_NONE, "train: program %s takes images %s, but those of %s are %s", p->name,
                   dims_text(&scratch, image->dim + 1, image->rank - 1), data->name, dims_text(&scratch, want, 3));
        arena_free(&scratch);
        return false;
    }
    if (classes != data->classes) {
        diag_error(d, LOC_NONE, "train: the network has %d classes, %s has %d", classes, data->name, data->classes);
        return false;
    }
    return true;
}

bool batch_inputs(Arena *a, Diag *d, LoadedProgram p, const Dataset *data, int32_t classes, bool need_label,
                  BatchInputs *out)
{
    const ProgTensor *image = program_need(d, p.program, TENSOR_INPUT, "image", DTYPE_F32, -1, NULL);
    if (!image || !image_fits(d, p.program, image, data, classes))
        return false;
    *out = (BatchInputs){ .p = p, .image = image };
    if (need_label || program_tensor(p.program, "label")) {
        int64_t shape[2] = { image->dim[0], 1 };
        out->label = program_need(d, p.program, TENSOR_INPUT, "label", DTYPE_I32, 2, shape);
        return out->label != NULL;
    }
    out->no_label = ARENA_ARRAY(a, int32_t, image->dim[0]);
    return true;
}

int32_t batch_next(Loader *l, const BatchInputs *in)
{
    const LoadedProgram p = in->p;
    return loader_next(l, exec_input(p.exec, p.index, in->image),
                       in->label ? exec_input(p.exec, p.index, in->label) : in->no_label);
}
