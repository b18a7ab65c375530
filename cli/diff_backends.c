/* diff_backends.c: `detent diff NET --backend A --against B`: one batch through a network on two backends, layer by
 * layer.
 *
 * Two tables. The first is of the float network: what each layer reads (the observe step), and the logits. Only the
 * library's products and sums may differ there, by roundings: what is beyond TOLERANCE of a value's largest element is
 * a mistake of a backend, and the first such value names the layer before it. The second, for weights that were trained
 * quantized (--checkpoint), is of the quantized network: quantized weights, and the logits. There one rounding
 * may turn a code into its neighbour, a whole step away, so it decides nothing.
 *
 * Images are the first of the test set (--data), or noise. Tested by tests/unit/test_diff_backends.c. */
#include "cli/diff.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-4

enum { SIDES = 2 };

/* One table in the making. */
typedef struct Table {
    FILE       *out;
    int         name_width;
    int32_t     values, equal;
    const char *first, *beyond, *worst; /* that differs; by more than TOLERANCE; with the smallest SQNR */
    double      worst_sqnr;
} Table;

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

/* Options of GPUs are for the side that has one. */
static void keep_options(Session *s)
{
    static const char *const gpu_only[] = { "math", "workspace", "autotune", "no-graph", "gpu-memory" };
    StrList                  given = s->opt.given;
    if (cli_target(s->opt.backend) != cli_target("cpu"))
        return;
    s->opt.given = (StrList){ 0 };
    for (int32_t i = 0; i < given.len; i++) {
        bool drop = false;
        for (int32_t k = 0; k < DT_COUNT(gpu_only); k++)
            drop |= str_eq(given.at[i], gpu_only[k]);
        if (!drop)
            vec_push(&s->arena, &s->opt.given, given.at[i]);
    }
}

/* The same network on the other backend. */
static bool open_other(Session *s, Session *other)
{
    *other = (Session){ .arena = arena_new("other"),
                        .diag = diag_new(stderr),
                        .opt = s->opt,
                        .program = s->program,
                        .out = s->out,
                        .forward = s->forward };
    other->opt.backend = s->opt.against;
    keep_options(other);
    keep_options(s);
    return session_open(other, s->model);
}

/* A float network has nothing that could be observed: it is looked at where quantizers would be. */
static bool look_at_float(Session *s)
{
    if (session_needs_init(s))
        return true;
    s->opt.method = "lsq";
    s->opt.bits = "w8a8";
    return session_open(s, s->model);
}

/* ---- Weights and images ------------------------------------------------------------------------------------------ */

/* Those of --checkpoint, or first ones. *ranges: quantizers have theirs. */
static bool load_weights(Session *s, LoadedProgram p, bool *ranges)
{
    const RunIdentity id = { .net = s->model->name, .method = s->recipe.method, .bits = session_recipe_text(s) };
    *ranges = false;
    return program_init(&s->diag, p, s->opt.seed) &&
           (s->opt.checkpoint == NULL || checkpoint_init(&s->diag, s->opt.checkpoint, &id, p, ranges));
}

typedef struct Batch {
    float   *image; /* in logical order */
    int32_t *label;
} Batch;

static bool test_images(Session *s, const ProgTensor *image, Batch *b)
{
    if (s->opt.dataset == NULL) {
        diag_error(&s->diag, LOC_NONE, "--dataset: expected the name of the data set in %s, found none", s->opt.data);
        return false;
    }
    Dataset *data = dataset_open(&s->arena, &s->diag,
                                 &(DataRequest){ .name = s->opt.dataset,
                                                 .dir = s->opt.data,
                                                 .h = (int32_t)image->dim[2],
                                                 .w = (int32_t)image->dim[3],
                                                 .test_h = (int32_t)image->dim[2],
                                                 .test_w = (int32_t)image->dim[3] });
    if (data == NULL)
        return false;
    const int32_t want[3] = { dataset_channels(data), dataset_height(data, SPLIT_TEST),
                              dataset_width(data, SPLIT_TEST) };
    if (image->dim[1] != want[0] || image->dim[2] != want[1] || image->dim[3] != want[2]) {
        diag_error(&s->diag, LOC_NONE, "%s: the network expects images of %lldx%lldx%lld, %s has %dx%dx%d",
                   s->model->name, (long long)image->dim[1], (long long)image->dim[2], (long long)image->dim[3],
                   dataset_name(data), want[0], want[1], want[2]);
        return false;
    }
    Loader *l = loader_new(&s->arena, &s->diag,
                           (LoaderConfig){ .data = data,
                                           .split = SPLIT_TEST,
                                           .batch = (int32_t)image->dim[0],
                                           .normalise = session_normalise(s->model) });
    if (l == NULL)
        return false;
    loader_start(l, 0, 0);
    bool ok = loader_next(l, &(BatchOut){ .image = b->image, .label = b->label }) > 0;
    loader_free(l);
    return ok;
}

static bool make_batch(Session *s, LoadedProgram p, Batch *b)
{
    const ProgTensor *image = program_tensor(p.program, "image");
    b->image = ARENA_ARRAY(&s->arena, float, image->elems);
    b->label = ARENA_ARRAY(&s->arena, int32_t, image->dim[0]);
    if (s->opt.data != NULL)
        return test_images(s, image, b);
    for (int64_t i = 0; i < image->elems; i++)
        b->image[i] = rng_normal(s->opt.seed, 1, 0, (uint64_t)i);
    return true;
}

static bool run_batch(LoadedProgram p, const Batch *b)
{
    const ProgTensor *label = program_tensor(p.program, "label");
    return tensor_write(p.exec, p.index, program_tensor(p.program, "image"), b->image) &&
           (label == NULL || tensor_write(p.exec, p.index, label, b->label)) && exec_run(p.exec, p.index);
}

/* ---- Tables ------------------------------------------------------------------------------------------------------ */

static bool read_output(Arena *a, LoadedProgram p, const ProgTensor *t, StTensor *out)
{
    void *data = arena_alloc(a, (size_t)t->bytes);
    *out = (StTensor){ .name = t->name,
                       .dtype = t->dtype,
                       .rank = t->rank,
                       .elems = t->elems,
                       .bytes = t->elems * (int64_t)sizeof(float),
                       .data = data };
    memcpy(out->dim, t->dim, sizeof(int64_t) * (size_t)t->rank);
    return tensor_read(p.exec, p.index, t, data);
}

/* "observe:conv1.input" is the input of conv1. */
static const char *shown_name(const char *name)
{
    const char *colon = strchr(name, ':');
    return colon != NULL ? colon + 1 : name;
}

static void table_row(Table *t, Arena *a, const StTensor *x, const DiffCount *c)
{
    const char *name = shown_name(x->name), *mark = "";
    bool        finite = c->odd[0] == 0 && c->odd[1] == 0;
    double      db = diff_sqnr(c);
    t->values++;
    t->equal += c->elems == 0;
    if (c->elems > 0 && t->first == NULL)
        t->first = name;
    if (c->elems > 0 && (!finite || c->largest > TOLERANCE * c->most)) {
        mark = finite ? "  beyond the tolerance" : "  not finite";
        t->beyond = t->beyond != NULL ? t->beyond : name;
    }
    if (c->elems > 0 && finite && (t->worst == NULL || db < t->worst_sqnr)) {
        t->worst = name;
        t->worst_sqnr = db;
    }
    fprintf(t->out, "%-*s  %-14s %10lld %12.4g %9s%s\n", t->name_width, name, diff_shape(a, x), (long long)c->elems,
            c->largest,
            c->elems == 0 ? "equal"
            : finite      ? arena_printf(a, "%.2f", db)
                          : "-",
            mark);
}

/* Is it a value that the table shows? */
static bool is_shown(const ProgTensor *t, StepKind step)
{
    if (t->kind != TENSOR_OUTPUT || t->dtype != DTYPE_F32)
        return false;
    size_t len = strlen(t->name), tail = strlen(":value");
    return step == STEP_OBSERVE || str_eq(t->name, "logits") || (len > tail && str_eq(t->name + len - tail, ":value"));
}

/* Runs a step on both sides and compares what it shows. False: reported. */
static bool compare(Session *const s[SIDES], const LoadedProgram p[SIDES], StepKind step, const Batch *b, Table *t)
{
    *t = (Table){ .out = s[0]->out, .name_width = (int)strlen("value") };
    if (!run_batch(p[0], b) || !run_batch(p[1], b))
        return false;
    for (int32_t i = 0; i < p[0].program->n_tensors; i++)
        if (is_shown(&p[0].program->tensors[i], step))
            t->name_width = (int)dt_max64(t->name_width, (int64_t)strlen(shown_name(p[0].program->tensors[i].name)));
    fprintf(t->out, "%-*s  %-14s %10s %12s %9s\n", t->name_width, "value", "shape", "differ", "largest", "SQNR dB");
    bool ok = true;
    for (int32_t i = 0; i < p[0].program->n_tensors && ok; i++) {
        const ProgTensor *x = &p[0].program->tensors[i], *y = program_tensor(p[1].program, x->name);
        StTensor          tensor[SIDES];
        Arena             scratch = arena_new("value");
        if (is_shown(x, step)) {
            DT_ASSERT(y != NULL && y->elems == x->elems, "%s on one backend alone", x->name);
            ok = read_output(&scratch, p[0], x, &tensor[0]) && read_output(&scratch, p[1], y, &tensor[1]);
            DiffCount c = ok ? diff_count(&tensor[0], &tensor[1]) : (DiffCount){ 0 };
            if (ok)
                table_row(t, &scratch, &tensor[0], &c);
        }
        arena_free(&scratch);
    }
    return ok;
}

static void table_end(const Table *t)
{
    fprintf(t->out, "%d values, %d equal", t->values, t->equal);
    if (t->first != NULL)
        fprintf(t->out, "; the first that differs: %s", t->first);
    if (t->worst != NULL)
        fprintf(t->out, "; the worst SQNR: %.2f dB, %s", t->worst_sqnr, t->worst);
    fprintf(t->out, "\n");
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

static bool load_both(Session *const s[SIDES], StepKind step, LoadedProgram p[SIDES])
{
    for (int i = 0; i < SIDES; i++) {
        p[i] = session_load(s[i], step);
        if (p[i].program == NULL)
            return false;
    }
    return true;
}

static int compare_sides(Session *const s[SIDES])
{
    LoadedProgram observe[SIDES], inspect[SIDES];
    Batch         b;
    Table         t;
    bool          ranges = false, quantizes = session_needs_init(s[0]);
    for (int i = 0; i < SIDES; i++)
        if (!look_at_float(s[i]))
            return EXIT_MISTAKE;
    if (!load_both(s, STEP_OBSERVE, observe) || !load_weights(s[0], observe[0], &ranges) ||
        !load_weights(s[1], observe[1], &ranges) || !make_batch(s[0], observe[0], &b))
        return EXIT_MISTAKE;
    fprintf(s[0]->out, "%s, %s against %s, batch %lld, in float: what each layer reads\n", s[0]->model->name,
            s[0]->opt.backend, s[1]->opt.backend, (long long)s[0]->opt.batch);
    if (!compare(s, observe, STEP_OBSERVE, &b, &t))
        return EXIT_MISTAKE;
    table_end(&t);
    const char *beyond = t.beyond;
    if (quantizes && ranges) {
        if (!load_both(s, STEP_INSPECT, inspect))
            return EXIT_MISTAKE;
        fprintf(s[0]->out, "\nquantized, %s %s: a rounding may turn a code into its neighbour\n", s[0]->recipe.method,
                session_recipe_text(s[0]));
        if (!compare(s, inspect, STEP_INSPECT, &b, &t))
            return EXIT_MISTAKE;
        table_end(&t);
    }
    if (beyond != NULL)
        fprintf(s[0]->out, "the first beyond the tolerance, %g of a value's largest element, in float: %s\n", TOLERANCE,
                beyond);
    else
        fprintf(s[0]->out, "in float none is beyond the tolerance, %g of its largest element\n", TOLERANCE);
    return beyond == NULL ? EXIT_OK : EXIT_MISTAKE;
}

int diff_backends(Session *s, const StrList *rest)
{
    Session other;
    int32_t words = s->model == NULL ? 1 : 0;
    if (rest->len != words) {
        diag_error(&s->diag, LOC_NONE, "%s diff --against: expected %s, found %d words", s->program,
                   words > 0 ? "one network, a name such as mnist or a .c file" : "only options", rest->len);
        return EXIT_USAGE;
    }
    if (str_eq(s->opt.backend, "null")) {
        diag_error(&s->diag, LOC_NONE, "--backend: expected one that computes, to be compared, found null");
        return EXIT_USAGE;
    }
    if (s->opt.batch <= 0)
        s->opt.batch = CHECK_BATCH;
    const DtModel *m = words > 0 ? frontend_find(&s->arena, &s->diag, rest->at[0]) : s->model;
    if (m == NULL)
        return EXIT_MISTAKE;
    if (!session_open(s, m))
        return EXIT_USAGE;
    if (s->opt.checkpoint != NULL && !session_adopt(s, s->opt.checkpoint))
        return EXIT_MISTAKE;
    int code = open_other(s, &other) ? compare_sides((Session *const[SIDES]){ s, &other }) : EXIT_MISTAKE;
    session_close(&other);
    return code;
}
