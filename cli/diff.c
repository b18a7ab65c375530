/* diff.c: `detent diff A B`: two checkpoints, tensor by tensor. (With --against two backends: diff_backends.c.)
 *
 * The same seed gives the same bytes, so what two files differ in, and where in the network it begins, says where two
 * runs parted: another backend, another order of sums, another recipe. Equal means equal bits: a NaN equals itself, 0
 * and -0 differ. A is the reference of the SQNR, 10 log10(sum a^2 / sum (a - b)^2), with sums in double; where a number
 * is not finite there is none. Tensors that are not f32 are compared by their bits alone.
 *
 * The exit code is about tensors: metadata that differs is told, but runs of different names may hold the same weights.
 * Tested by tests/unit/test_diff.c. */
#include "cli/diff.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Diff {
    Session      *s;
    const StFile *file[2]; /* A, B */
    int           name_width, shape_width;
    int32_t       tensors, equal;
    const char   *first; /* that differs; NULL: none */
    const char   *worst; /* with the smallest SQNR; NULL: none has one */
    double        worst_sqnr;
} Diff;

/* ---- Files ------------------------------------------------------------------------------------------------------- */

/* The weights that a word names: a file, or the best ones of a run, or its last while no epoch is over. NULL: reported.
 */
static const char *diff_file(Session *s, const char *word)
{
    static const char *const names[] = { RUN_BEST, RUN_LAST };
    struct stat              st;
    if (stat(word, &st) != 0 || !S_ISDIR(st.st_mode))
        return word; /* told by the reader, when it is not there */
    for (int32_t i = 0; i < DT_COUNT(names); i++) {
        const char *path = arena_printf(&s->arena, "%s/%s", word, names[i]);
        if (access(path, F_OK) == 0)
            return path;
    }
    diag_error(&s->diag, LOC_NONE, "%s diff: expected " RUN_BEST " or " RUN_LAST " in directory %s, found neither",
               s->program, word);
    diag_help(&s->diag, "name a run's directory, or a safetensors file");
    return NULL;
}

static const StFile *diff_read(Session *s, const char *word)
{
    const char *path = diff_file(s, word);
    return path != NULL ? st_read(&s->arena, &s->diag, path) : NULL;
}

/* ---- One tensor -------------------------------------------------------------------------------------------------- */

const char *diff_shape(Arena *a, const StTensor *t)
{
    Str s = str_new(a);
    for (int32_t i = 0; i < t->rank; i++)
        str_printf(&s, "%s%lld", i > 0 ? "x" : "", (long long)t->dim[i]);
    return t->rank > 0 ? s.s : "scalar";
}

static bool diff_same_shape(const StTensor *a, const StTensor *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

static int64_t diff_bits(const StTensor *a, const StTensor *b)
{
    const char *x = a->data, *y = b->data;
    size_t      size = a->elems > 0 ? (size_t)(a->bytes / a->elems) : 0;
    int64_t     n = 0;
    for (int64_t i = 0; i < a->elems; i++)
        n += memcmp(x + (size_t)i * size, y + (size_t)i * size, size) != 0;
    return n;
}

/* Tensors of the same shape and type. */
DiffCount diff_count(const StTensor *a, const StTensor *b)
{
    DiffCount   c = { .elems = diff_bits(a, b) };
    const char *x = a->data, *y = b->data;
    for (int64_t i = 0; a->dtype == DTYPE_F32 && i < a->elems; i++) {
        float f, g; /* copied: a file need not align its data */
        memcpy(&f, x + (size_t)i * sizeof f, sizeof f);
        memcpy(&g, y + (size_t)i * sizeof g, sizeof g);
        c.odd[0] += !isfinite(f);
        c.odd[1] += !isfinite(g);
        if (!isfinite(f) || !isfinite(g))
            continue;
        double d = (double)f - (double)g;
        c.largest = fmax(c.largest, fabs(d));
        c.most = fmax(c.most, fabs((double)f));
        c.sum += (double)f * (double)f;
        c.err += d * d;
    }
    return c;
}

double diff_sqnr(const DiffCount *c)
{
    /* no error: only signs of zeros differ, and then there may be no signal either */
    return c->err > 0 ? 10 * log10(c->sum / c->err) : INFINITY;
}

/* ---- Table ------------------------------------------------------------------------------------------------------- */

static void diff_widths(Diff *d)
{
    d->name_width = (int)strlen("tensor");
    d->shape_width = (int)strlen("shape");
    for (int32_t side = 0; side < 2; side++)
        for (int32_t i = 0; i < d->file[side]->tensors.len; i++) {
            const StTensor *t = &d->file[side]->tensors.at[i];
            d->name_width = (int)dt_max64(d->name_width, (int64_t)strlen(t->name));
            d->shape_width = (int)dt_max64(d->shape_width, (int64_t)strlen(diff_shape(&d->s->arena, t)));
        }
}

/* `mark` may be "". */
static void diff_row(const Diff *d, const char *name, const char *shape, const char *differ, const char *largest,
                     const char *sqnr, const char *mark)
{
    fprintf(d->s->out, "%-*s  %-*s %10s %12s %9s%s%s\n", d->name_width, name, d->shape_width, shape, differ, largest,
            sqnr, mark[0] != 0 ? "  " : "", mark);
}

/* Counts a tensor; the first that is not equal is the one to look at. */
static void diff_note(Diff *d, const StTensor *t, bool equal)
{
    d->tensors++;
    d->equal += equal;
    if (!equal && d->first == NULL)
        d->first = t->name;
}

/* A tensor that has nothing to be compared with, and why. */
static void diff_apart(Diff *d, const StTensor *t, const char *mark)
{
    diff_note(d, t, false);
    diff_row(d, t->name, diff_shape(&d->s->arena, t), "-", "-", "-", mark);
}

/* "another shape in B, 4x2"; both words where both differ; NULL: they can be compared. */
static const char *diff_kind(Arena *a, const StTensor *x, const StTensor *y)
{
    bool shape = !diff_same_shape(x, y), type = !str_eq(x->type, y->type);
    Str  s = str_new(a);
    if (shape)
        str_printf(&s, "another shape in B, %s", diff_shape(a, y));
    if (type)
        str_printf(&s, "%sanother type in B, %s, not %s", shape ? "; " : "", y->type, x->type);
    return shape || type ? s.s : NULL;
}

static const char *diff_odd(Arena *a, const DiffCount *c)
{
    Str s = str_new(a);
    for (int32_t side = 0; side < 2; side++)
        if (c->odd[side] > 0)
            str_printf(&s, "%snot finite in %c: %lld", s.len > 0 ? "; " : "", "AB"[side], (long long)c -> odd[side]);
    return s.len > 0 ? s.s : "";
}

/* Elements of one type and shape whose bits differ somewhere. */
static void diff_values(Diff *d, const StTensor *x, const DiffCount *c)
{
    Arena      *a = &d->s->arena;
    bool        is_f32 = x->dtype == DTYPE_F32, finite = c->odd[0] == 0 && c->odd[1] == 0;
    const char *sqnr = "-", *mark = is_f32 ? diff_odd(a, c) : arena_printf(a, "%s: bits alone", x->type);
    if (is_f32 && finite) {
        double db = diff_sqnr(c);
        sqnr = arena_printf(a, "%.2f", db);
        if (d->worst == NULL || db < d->worst_sqnr) {
            d->worst = x->name;
            d->worst_sqnr = db;
        }
    }
    diff_row(d, x->name, diff_shape(a, x), arena_printf(a, "%lld", (long long)c->elems),
             is_f32 ? arena_printf(a, "%.6g", c->largest) : "-", sqnr, mark);
}

/* `y` NULL: B has none of this name. */
static void diff_tensor(Diff *d, const StTensor *x, const StTensor *y)
{
    Arena      *a = &d->s->arena;
    const char *apart = y == NULL ? "only in A" : diff_kind(a, x, y);
    if (apart != NULL) {
        diff_apart(d, x, apart);
        return;
    }
    DiffCount c = diff_count(x, y);
    diff_note(d, x, c.elems == 0);
    if (c.elems == 0)
        diff_row(d, x->name, diff_shape(a, x), "0", "0", "equal", "");
    else
        diff_values(d, x, &c);
}

/* In the order of A, which is the network's; then what only B has, in its order. */
static void diff_tensors(Diff *d)
{
    const StFile *a = d->file[0], *b = d->file[1];
    diff_widths(d);
    diff_row(d, "tensor", "shape", "differ", "largest", "SQNR dB", "");
    for (int32_t i = 0; i < a->tensors.len; i++) {
        int32_t k = st_find(b, a->tensors.at[i].name);
        diff_tensor(d, &a->tensors.at[i], k >= 0 ? &b->tensors.at[k] : NULL);
    }
    for (int32_t i = 0; i < b->tensors.len; i++)
        if (st_find(a, b->tensors.at[i].name) < 0)
            diff_apart(d, &b->tensors.at[i], "only in B");
}

/* ---- Metadata and the last line ---------------------------------------------------------------------------------- */

static void diff_meta(const Diff *d)
{
    const StFile *a = d->file[0], *b = d->file[1];
    FILE         *out = d->s->out;
    for (int32_t i = 0; i < a->meta.len; i++) {
        const StMeta *m = &a->meta.at[i];
        const char   *other = st_meta(b, m->key);
        if (other == NULL)
            fprintf(out, "metadata %s: '%s', only in A\n", m->key, m->value);
        else if (!str_eq(m->value, other))
            fprintf(out, "metadata %s: '%s' in A, '%s' in B\n", m->key, m->value, other);
    }
    for (int32_t i = 0; i < b->meta.len; i++)
        if (st_meta(a, b->meta.at[i].key) == NULL)
            fprintf(out, "metadata %s: '%s', only in B\n", b->meta.at[i].key, b->meta.at[i].value);
}

static void diff_end(const Diff *d)
{
    FILE *out = d->s->out;
    fprintf(out, "%d tensors, %d equal", d->tensors, d->equal);
    if (d->first != NULL)
        fprintf(out, "; the first that differs: %s", d->first);
    if (d->worst != NULL)
        fprintf(out, "; the worst SQNR: %.2f dB, %s", d->worst_sqnr, d->worst);
    fprintf(out, "\n");
}

int command_diff(Session *s, const StrList *rest)
{
    enum { FILES = 2 };
    Diff d = { .s = s };
    if (s->opt.against != NULL)
        return diff_backends(s, rest);
    for (int32_t i = 0; i < s->opt.given.len; i++)
        if (!str_eq(s->opt.given.at[i], "quiet") && !str_eq(s->opt.given.at[i], "verbose")) {
            diag_error(&s->diag, LOC_NONE,
                       "%s diff: --%s: expected with --against BACKEND, which compares a network on two backends",
                       s->program, s->opt.given.at[i]);
            return EXIT_USAGE;
        }
    if (rest->len != FILES) {
        diag_error(&s->diag, LOC_NONE,
                   "%s diff: expected two checkpoints, safetensors files or directories of runs, found %d", s->program,
                   rest->len);
        return EXIT_USAGE;
    }
    for (int32_t i = 0; i < FILES; i++) {
        d.file[i] = diff_read(s, rest->at[i]);
        if (d.file[i] == NULL)
            return EXIT_MISTAKE;
    }
    diff_tensors(&d);
    diff_meta(&d);
    diff_end(&d);
    return d.first == NULL ? EXIT_OK : EXIT_MISTAKE;
}
