/* import.c: `detent import NET FILE -o OUT`: weights of a PyTorch network become a checkpoint.
 *
 * FILE is a state dict in safetensors. Its names are translated by cli/import_names.def; of the forms that a network
 * may have there, the one is taken under which most names are the network's. Passed over: num_batches_tracked. A prefix
 * that wrappers put in front (module., _orig_mod.) is dropped; weights [O, I, 1, 1] of a layer that is linear here
 * become [O, I]. Nothing is guessed beyond that: what is missing, left over, of another shape or not finite is a
 * mistake, and no file is written.
 *
 * Tested by tests/unit/test_import.c: every form, by outputs equal to PyTorch's. */
#include "cli/cli.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IMPORT_NUMBERS = 4, IMPORT_LISTED = 8 };

/* ---- Names ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *nets;
} import_forms[] = {
#define FORM(name, nets) { name, nets },
#define NAME(form, theirs, ours)
#include "cli/import_names.def"
#undef FORM
#undef NAME
    { "Detent's own names", "*" },
};

static const struct {
    const char *form, *theirs, *ours;
} import_rows[] = {
#define FORM(name, nets)
#define NAME(form, theirs, ours) { form, theirs, ours },
#include "cli/import_names.def"
#undef FORM
#undef NAME
};

/* Whether the whole of `name` fits; numbers that stand for '#' go to `out`. */
static bool import_match(const char *pattern, const char *name, long out[IMPORT_NUMBERS])
{
    int32_t n = 0;
    for (; *pattern != 0; pattern++) {
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        char *end;
        if (!isdigit((unsigned char)*name) || n == IMPORT_NUMBERS)
            return false;
        out[n++] = strtol(name, &end, 10);
        if (end - name > 6) /* no layer's number */
            return false;
        name = end;
    }
    return *name == 0;
}

/* "s<1-1>.b<2>" with the numbers put in. */
static const char *import_put_in(Arena *a, const char *ours, const long numbers[IMPORT_NUMBERS])
{
    Str s = str_new(a);
    for (; *ours != 0; ours++) {
        if (*ours != '<') {
            str_printf(&s, "%c", *ours);
            continue;
        }
        long more = strtol(ours + 2, NULL, 10); /* "<1+2>"; 0 of "<1>" */
        str_printf(&s, "%ld", numbers[ours[1] - '1'] + more);
        ours = strchr(ours, '>');
    }
    return s.s;
}

static bool import_is_norm(const char *module)
{
    const char *dot = strrchr(module, '.'), *last = dot != NULL ? dot + 1 : module;
    size_t      len = strlen(last);
    if (len > 3 && str_eq(last + len - 3, "_bn"))
        return true;
    return strncmp(last, "bn", 2) == 0 && strspn(last + 2, "0123456789") == len - 2;
}

/* Detent's name of a tensor of theirs, under a form. */
static const char *import_name(Arena *a, const char *form, const char *theirs)
{
    const char *dot = strrchr(theirs, '.'), *word = dot != NULL ? dot + 1 : theirs;
    const char *module = arena_strndup(a, theirs, dot != NULL ? (size_t)(dot - theirs) : 0);
    long        numbers[IMPORT_NUMBERS];
    for (int32_t i = 0; i < DT_COUNT(import_rows); i++)
        if (str_eq(import_rows[i].form, form) && import_match(import_rows[i].theirs, module, numbers)) {
            module = import_put_in(a, import_rows[i].ours, numbers);
            break;
        }
    if (import_is_norm(module))
        word = str_eq(word, "weight") ? "gamma" : str_eq(word, "bias") ? "beta" : word;
    return arena_printf(a, "%s%s%s", module, dot != NULL ? "." : "", word);
}

/* ---- What the network has, what the file has --------------------------------------------------------------------- */

typedef struct Import {
    Session      *s;
    const char   *path;
    const StFile *f;
    VEC(const Value *) leaves; /* params and states of the network */
    StrMap       by_name;      /* of leaves */
    const char **bare;         /* of each tensor of the file: its name without wrappers' prefixes; NULL: passed over */
    const char  *form;
    int32_t     *source; /* of each leaf, a tensor of the file; -1: none */
    StFile       out;
    bool         ok;
} Import;

static const char *import_bare(const char *name)
{
    static const char *const prefixes[] = { "module.", "_orig_mod." };
    for (int32_t i = 0; i < DT_COUNT(prefixes); i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            name += strlen(prefixes[i]);
            i = -1;
        }
    const char *dot = strrchr(name, '.');
    return str_eq(dot != NULL ? dot + 1 : name, "num_batches_tracked") ? NULL : name;
}

static bool import_open(Import *m)
{
    Arena *a = &m->s->arena;
    Graph *g = frontend_build(a, &m->s->diag, m->s->model, 1, STEP_EVAL);
    m->f = g != NULL ? st_read(a, &m->s->diag, m->path) : NULL;
    if (m->f == NULL)
        return false;
    m->by_name = strmap_new(a);
    for (int32_t i = 0; i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_PARAM && v->op != OP_STATE)
            continue;
        strmap_put(&m->by_name, v->name, m->leaves.len);
        vec_push(a, &m->leaves, v);
    }
    m->source = ARENA_ARRAY(a, int32_t, m->leaves.len + 1);
    for (int32_t i = 0; i < m->leaves.len; i++)
        m->source[i] = -1;
    m->bare = ARENA_ARRAY(a, const char *, m->f->tensors.len + 1);
    for (int32_t k = 0; k < m->f->tensors.len; k++)
        m->bare[k] = import_bare(m->f->tensors.at[k].name);
    return true;
}

/* The form that fits most names; its own names, when none fits any. */
static void import_choose(Import *m)
{
    int32_t best = -1;
    for (int32_t i = 0; i < DT_COUNT(import_forms); i++) {
        int32_t known = 0;
        if (!str_glob(import_forms[i].nets, m->s->model->name))
            continue;
        for (int32_t k = 0; k < m->f->tensors.len; k++)
            known += m->bare[k] != NULL &&
                     strmap_get(&m->by_name, import_name(&m->s->arena, import_forms[i].name, m->bare[k])) >= 0;
        if (known > best) {
            best = known;
            m->form = import_forms[i].name;
        }
    }
}

/* ---- Checks ------------------------------------------------------------------------------------------------------ */

/* Names of one kind of mistake: "a, b and 5 more". */
typedef struct Names {
    Str     text;
    int32_t n;
} Names;

static void names_add(Names *list, const char *name)
{
    if (list->n++ < IMPORT_LISTED)
        str_printf(&list->text, "%s%s", list->n > 1 ? ", " : "", name);
}

static const char *names_end(Names *list)
{
    if (list->n > IMPORT_LISTED)
        str_printf(&list->text, " and %d more", list->n - IMPORT_LISTED);
    return list->text.s;
}

static void import_match_names(Import *m)
{
    Arena *a = &m->s->arena;
    Diag  *d = &m->s->diag;
    Names  left = { .text = str_new(a) }, missing = { .text = str_new(a) };
    for (int32_t k = 0; k < m->f->tensors.len; k++) {
        int32_t i = m->bare[k] != NULL ? strmap_get(&m->by_name, import_name(a, m->form, m->bare[k])) : -1;
        if (m->bare[k] == NULL)
            continue;
        if (i < 0) {
            names_add(&left, m->f->tensors.at[k].name);
        } else if (m->source[i] >= 0) {
            diag_error(d, LOC_NONE, "import: %s: both %s and %s are %s", m->path, m->f->tensors.at[m->source[i]].name,
                       m->f->tensors.at[k].name, m->leaves.at[i]->name);
        } else {
            m->source[i] = k;
        }
    }
    for (int32_t i = 0; i < m->leaves.len; i++)
        if (m->source[i] < 0)
            names_add(&missing, m->leaves.at[i]->name);
    if (missing.n > 0)
        diag_error(d, LOC_NONE, "import: %s lacks %d of the %d tensors of %s: %s", m->path, missing.n, m->leaves.len,
                   m->s->model->name, names_end(&missing));
    if (left.n > 0)
        diag_error(d, LOC_NONE, "import: %s has %d tensors that %s has not: %s", m->path, left.n, m->s->model->name,
                   names_end(&left));
    if (missing.n + left.n > 0)
        diag_note(d, LOC_NONE, "its names were read as %s", m->form);
}

/* Equal but for trailing dimensions of 1. */
static bool import_same_shape(const Shape *want, const StTensor *t)
{
    for (int32_t i = 0; i < t->rank || i < want->rank; i++)
        if ((i < t->rank ? t->dim[i] : 1) != (i < want->rank ? want->dim[i] : 1))
            return false;
    return t->rank >= want->rank;
}

static void import_check_tensor(Import *m, const Value *v, const StTensor *t)
{
    Diag *d = &m->s->diag;
    Str   found = str_new(&m->s->arena);
    for (int32_t i = 0; i < t->rank; i++)
        str_printf(&found, "%s%lld", i > 0 ? "x" : "", (long long)t->dim[i]);
    if (!import_same_shape(&v->type.shape, t)) {
        diag_error(d, LOC_NONE, "import: %s: %s is %s, but %s of %s is %s", m->path, t->name, found.s, v->name,
                   m->s->model->name, shape_text(&m->s->arena, v->type.shape));
        if (m->s->model->classes > 0 && v->type.shape.rank > 0 && v->type.shape.dim[0] == m->s->model->classes)
            diag_help(d, "for another number of classes say --classes=%lld", (long long)t->dim[0]);
        return;
    }
    if (t->dtype != DTYPE_F32) {
        diag_error(d, LOC_NONE, "import: %s: %s is of type %s, expected F32", m->path, t->name, t->type);
        diag_help(d, "save the state dict of model.float()");
        return;
    }
    for (int64_t i = 0; i < t->elems; i++) {
        float x;
        memcpy(&x, (const uint8_t *)t->data + 4 * i, 4);
        if (!isfinite(x)) {
            diag_error(d, LOC_NONE, "import: %s: %s holds %s at element %lld of %lld", m->path, t->name,
                       isnan(x) ? "NaN" : "an infinity", (long long)i, (long long)t->elems);
            return;
        }
    }
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static void import_convert(Import *m)
{
    Arena *a = &m->s->arena;
    for (int32_t i = 0; i < m->leaves.len; i++) {
        const Value *v = m->leaves.at[i];
        StTensor     t = m->f->tensors.at[m->source[i]];
        t.name = v->name;
        t.rank = v->type.shape.rank;
        vec_push(a, &m->out.tensors, t);
    }
    const char *slash = strrchr(m->path, '/');
    vec_push(a, &m->out.meta, (StMeta){ "net", m->s->model->name });
    vec_push(a, &m->out.meta, (StMeta){ CHECKPOINT_SIZES, session_sizes_text(m->s) });
    vec_push(a, &m->out.meta, (StMeta){ "imported_from", slash != NULL ? slash + 1 : m->path });
    vec_push(a, &m->out.meta, (StMeta){ "imported_as", m->form });
}

static bool import_run(Import *m)
{
    Diag   *d = &m->s->diag;
    int32_t before = d->errors;
    if (!import_open(m))
        return false;
    import_choose(m);
    import_match_names(m);
    for (int32_t i = 0; i < m->leaves.len && d->errors == before; i++)
        import_check_tensor(m, m->leaves.at[i], &m->f->tensors.at[m->source[i]]);
    if (d->errors > before)
        return false;
    import_convert(m);
    return st_write(d, m->s->opt.out, &m->out);
}

int command_import(Session *s, const StrList *rest)
{
    Import      m = { .s = s, .path = rest->len > 0 ? rest->at[rest->len - 1] : NULL };
    const char *end = m.path != NULL ? strrchr(m.path, '.') : NULL;
    if (m.path == NULL || str_eq(m.path, s->model->name) || str_eq(end, ".c")) { /* that is the network */
        diag_error(&s->diag, LOC_NONE, "%s import: expected a file of weights behind the network, found none",
                   s->program);
        return EXIT_USAGE;
    }
    if (s->opt.out == NULL) {
        diag_error(&s->diag, LOC_NONE, "%s import: expected where to write the checkpoint: --out FILE", s->program);
        return EXIT_USAGE;
    }
    if (!import_run(&m))
        return EXIT_MISTAKE;
    int64_t elems = 0;
    for (int32_t i = 0; i < m.out.tensors.len; i++)
        elems += m.out.tensors.at[i].elems;
    log_info("%s: %d tensors, %lld numbers, read as %s", s->opt.out, m.out.tensors.len, (long long)elems, m.form);
    return EXIT_OK;
}
