/* checkpoint.c: what a run must remember, as a safetensors file.
 *
 * Tensors: every param and state of the program, in logical order, so that a file does not know what layout a backend
 * chose. Metadata: what the run is (RunIdentity) and where it stands (TrainState), as text; numbers are written so that
 * they read back exactly.
 *
 * Loading is two walks over the program's tensors: the first finds the source of each and reports all that is wrong,
 * the second copies. The three ways to load differ in a row of `modes` alone. Tested by tests/unit/test_checkpoint.c.
 */
#include "runtime/runtime_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_KEY "format"
#define FORMAT "detent-1"

enum { MAX_LISTED = 8 }; /* names in one message */

/* ---- Texts of identity and position ---------------------------------------------------------------------------- */

typedef struct Writer {
    Arena  *a;
    StFile *f;
} Writer;

static void put(Writer *w, const char *key, const char *value)
{
    vec_push(w->a, &w->f->meta, (StMeta){ key, value ? value : "" });
}

static void put_int64_t(Writer *w, const char *key, int64_t v)
{
    put(w, key, arena_printf(w->a, "%" PRId64, v));
}

static void put_double(Writer *w, const char *key, double v)
{
    put(w, key, arena_printf(w->a, "%.17g", v));
}

/* Up to the last that is not 0. */
static void put_LossSums(Writer *w, const char *key, LossSums v)
{
    Str     s = str_new(w->a);
    int32_t n = TRAIN_MAX_PARTS;
    while (n > 0 && v.of[n - 1] == 0)
        n--;
    for (int32_t i = 0; i < n; i++)
        str_printf(&s, "%s%.17g", i ? " " : "", v.of[i]);
    put(w, key, n > 0 ? s.s : "");
}

static bool get_int64_t(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && *out >= 0;
}

static bool get_double(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*out);
}

static bool get_LossSums(const char *text, LossSums *out)
{
    *out = (LossSums){ { 0 } };
    for (int32_t i = 0; *text; i++) {
        char *end = NULL;
        if (i == TRAIN_MAX_PARTS)
            return false;
        out->of[i] = strtod(text, &end);
        if (end == text || !isfinite(out->of[i]))
            return false;
        text = end + strspn(end, " ");
    }
    return true;
}

/* The text of a field; files of earlier versions have other names, or say nothing where there was nothing to say. */
static const char *state_text(const StFile *f, const char *name)
{
    static const struct {
        const char *name, *before, *absent;
    } older[] = { { "best_score", "best_top1", NULL }, { "epoch_parts", NULL, "" }, { "row_parts", NULL, "" } };
    const char *text = st_meta(f, name);
    for (int32_t i = 0; i < DT_COUNT(older) && !text; i++)
        if (str_eq(older[i].name, name))
            return older[i].before ? st_meta(f, older[i].before) : older[i].absent;
    return text;
}

static bool read_state(Diag *d, const char *path, const StFile *f, TrainState *s)
{
#define X(type, name)                                                                                                  \
    {                                                                                                                  \
        const char *text = state_text(f, #name);                                                                       \
        if (!text || !get_##type(text, &s->name)) {                                                                    \
            diag_error(d, LOC_NONE, "checkpoint: %s: its position has no usable \"" #name "\": %s", path,              \
                       text ? text : "missing");                                                                       \
            return false;                                                                                              \
        }                                                                                                              \
    }
    TRAIN_STATE_FIELDS(X)
#undef X
    return true;
}

/* Every difference is listed: it is seldom one. */
static bool check_identity(Arena *a, Diag *d, const char *path, const StFile *f, const RunIdentity *id)
{
    const StMeta want[] = {
        { "net", id->net },
        { "method", id->method },
        { "bits", id->bits },
        { "dataset", id->dataset },
        { "batch", arena_printf(a, "%" PRId64, id->batch) },
        { "seed", arena_printf(a, "%" PRIu64, id->seed) },
        { CHECKPOINT_SIZES, id->sizes ? id->sizes : "" },
    };
    Str differ = str_new(a);
    for (int32_t i = 0; i < DT_COUNT(want); i++) {
        const char *found = st_meta(f, want[i].key);
        if (!found && str_eq(want[i].key, CHECKPOINT_SIZES)) /* an earlier version: the network's own */
            found = "";
        if (!found || !str_eq(found, want[i].value))
            str_printf(&differ, "%s%s is %s here and %s there", differ.len ? ", " : "", want[i].key,
                       *want[i].value ? want[i].value : "none", found ? *found ? found : "none" : "not known");
    }
    if (differ.len == 0)
        return true;
    diag_error(d, LOC_NONE, "checkpoint: %s is of another run: %s", path, differ.s);
    diag_help(d, "to start a new run from its weights, give it with --init");
    return false;
}

/* ---- Saving ---------------------------------------------------------------------------------------------------- */

static bool is_kept(const ProgTensor *t)
{
    return t->kind == TENSOR_PARAM || t->kind == TENSOR_STATE;
}

static int64_t count_params(const Program *p)
{
    int64_t n = 0;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        if (t->kind == TENSOR_PARAM && !str_eq(t->group, "step") && !str_eq(t->group, "offset"))
            n += t->elems;
    }
    return n;
}

bool checkpoint_save(Diag *d, const char *path, const RunIdentity *id, const TrainState *s, LoadedProgram p,
                     const HostTensors *host)
{
    Arena  scratch = arena_new("checkpoint");
    StFile f = { 0 };
    Writer w = { &scratch, &f };
    bool   ok = true;
    put(&w, FORMAT_KEY, FORMAT);
    put(&w, "net", id->net);
    put(&w, "method", id->method);
    put(&w, "bits", id->bits);
    put(&w, "dataset", id->dataset);
    put_int64_t(&w, "batch", id->batch);
    put(&w, "seed", arena_printf(&scratch, "%" PRIu64, id->seed));
    put(&w, CHECKPOINT_SIZES, id->sizes);
    put_int64_t(&w, CHECKPOINT_PARAMS, count_params(p.program));
#define X(type, name) put_##type(&w, #name, s->name);
    TRAIN_STATE_FIELDS(X)
#undef X
    for (int32_t i = 0; i < p.program->n_tensors && ok; i++) {
        const ProgTensor *t = &p.program->tensors[i];
        if (!is_kept(t))
            continue;
        int64_t  bytes = dtype_bytes(t->dtype, t->elems);
        void    *data = arena_alloc(&scratch, (size_t)bytes);
        StTensor st = {
            .name = t->name, .dtype = t->dtype, .rank = t->rank, .elems = t->elems, .bytes = bytes, .data = data
        };
        memcpy(st.dim, t->dim, sizeof(int64_t) * (size_t)t->rank);
        ok = tensor_read(p.exec, p.index, t, data);
        vec_push(&scratch, &f.tensors, st);
    }
    for (int32_t i = 0; host && i < host->len; i++)
        vec_push(&scratch, &f.tensors, host->at[i]);
    ok = ok && st_write(d, path, &f);
    arena_free(&scratch);
    return ok;
}

/* ---- Loading --------------------------------------------------------------------------------------------------- */

typedef struct Mode {
    bool need_states; /* else those that the file lacks keep their values */
    bool need_ranges; /* what quantizers keep */
    bool take_run;    /* what only the run that it is of has a use for */
    bool averages;    /* NAME comes from NAME.ema, where the file has it */
    bool refuse_unknown, warn_unknown;
} Mode;

typedef enum ModeId { MODE_RESUME, MODE_LOAD, MODE_INIT } ModeId;

static const Mode modes[] = {
    [MODE_RESUME] = { .need_states = true, .need_ranges = true, .take_run = true, .refuse_unknown = true },
    [MODE_LOAD] = { .need_states = true, .need_ranges = true, .take_run = true, .averages = true },
    [MODE_INIT] = { .averages = true, .warn_unknown = true },
};

/* A load in progress: sources[i] is the file's tensor for the program's tensor i, or -1. */
typedef struct Load {
    Arena        *a;
    Diag         *d;
    const char   *path;
    const StFile *f;
    StrMap        by_name;
    const char  **names; /* of the file */
    LoadedProgram p;
    Mode          mode;
    bool          take_ranges; /* false: as if the file had none */
    int32_t      *sources;
    bool         *used;                   /* by index in the file */
    int32_t       ranges, missing_ranges; /* of the program: tensors that quantizers keep */
} Load;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && memcmp(text + n - m, end, m) == 0;
}

bool checkpoint_is_of_run(const char *name)
{
    static const char *const patterns[] = { "*.velocity", "*.moment1", "*.moment2", "*.delta2",    "*.seen1",
                                            "*.seen2",    "*.grad",    "*.ema",     "ema:updates", "teacher:*" };
    for (int32_t i = 0; i < DT_COUNT(patterns); i++)
        if (str_glob(patterns[i], name))
            return true;
    return false;
}

/* What a quantizer keeps: the params are groups of the optimizer, the states have names (quantizing_leaf). */
static bool is_range(const ProgTensor *t)
{
    static const char *const suffixes[] = { ".step", ".offset", ".min", ".max" };
    if (t->kind == TENSOR_PARAM)
        return str_eq(t->group, "step") || str_eq(t->group, "offset");
    for (int32_t i = 0; t->kind == TENSOR_STATE && i < DT_COUNT(suffixes); i++)
        if (ends_with(t->name, suffixes[i]))
            return true;
    return false;
}

static bool same_shape(const StTensor *s, const ProgTensor *t)
{
    return s->rank == t->rank && memcmp(s->dim, t->dim, sizeof(int64_t) * (size_t)t->rank) == 0;
}

static bool check_finite(Load *l, const StTensor *s)
{
    for (int64_t i = 0; s->dtype == DTYPE_F32 && i < s->elems; i++) {
        float x;
        memcpy(&x, (const uint8_t *)s->data + i * 4, 4);
        if (!isfinite(x)) {
            diag_error(l->d, LOC_NONE, "checkpoint: %s: tensor %s holds %s at element %lld of %lld", l->path, s->name,
                       isnan(x) ? "NaN" : "an infinity", (long long)i, (long long)s->elems);
            return false;
        }
    }
    return true;
}

/* What may come in crowds (another network, another method) is said once: "a, b, c and 5 more". */
typedef struct Listing {
    Str         text;
    const char *between;
    int32_t     most, n; /* shown, added */
} Listing;

static void listing_add(Listing *s, const char *item)
{
    if (s->n++ < s->most)
        str_printf(&s->text, "%s%s", s->text.len ? s->between : "", item);
}

static const char *listing_end(Listing *s)
{
    if (s->n > s->most)
        str_printf(&s->text, " and %d more", s->n - s->most);
    return s->text.s;
}

static bool check_tensor(Load *l, const ProgTensor *t, const StTensor *s, Listing *differ)
{
    if (s->dtype == t->dtype && same_shape(s, t))
        return true;
    Str type = str_new(l->a);
    for (const char *c = dtype_name(t->dtype); *c; c++)
        str_printf(&type, "%c", *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    listing_add(differ, arena_printf(l->a, "tensor %s is %s%s, the network has %s%s", s->name, s->type,
                                     dims_text(l->a, s->dim, s->rank), type.s, dims_text(l->a, t->dim, t->rank)));
    return false;
}

static void report_missing(Load *l, const char **missing, int32_t n)
{
    Listing list = { .text = str_new(l->a), .between = ", ", .most = MAX_LISTED };
    for (int32_t i = 0; i < n; i++)
        listing_add(&list, missing[i]);
    diag_error(l->d, LOC_NONE, "checkpoint: %s lacks %d of the network's tensors: %s", l->path, n, listing_end(&list));
    for (int32_t i = 0; i < n && i < 3; i++) {
        const char *near = str_nearest(l->a, missing[i], l->names, l->f->tensors.len);
        if (*near)
            diag_note(l->d, LOC_NONE, "nearest to %s in the file: %s", missing[i], near);
    }
}

/* One error for the file, whatever is wrong with it. */
static void report_misfit(Load *l, Listing *differ, const char **missing, int32_t n_missing)
{
    const char *net = st_meta(l->f, "net");
    if (differ->n == 0)
        report_missing(l, missing, n_missing);
    else if (differ->n == 1)
        diag_error(l->d, LOC_NONE, "checkpoint: %s: %s", l->path, listing_end(differ));
    else
        diag_error(l->d, LOC_NONE, "checkpoint: %s: %d tensors differ from the network's: %s", l->path, differ->n,
                   listing_end(differ));
    if (differ->n > 0 && n_missing > 0)
        diag_note(l->d, LOC_NONE, "it lacks %d of the network's tensors, too", n_missing);
    if (differ->n + n_missing > 1 && net)
        diag_note(l->d, LOC_NONE, "it was saved by the network %s", net);
}

static bool check_numbers(Load *l)
{
    for (int32_t i = 0; i < l->p.program->n_tensors; i++)
        if (l->sources[i] >= 0 && !check_finite(l, &l->f->tensors.at[l->sources[i]]))
            return false;
    return true;
}

/* The file's tensor for the program's; -1: none. */
static int32_t source_of(const Load *l, const ProgTensor *t)
{
    int32_t average =
        l->mode.averages ? strmap_get(&l->by_name, arena_printf(l->a, "%s" CHECKPOINT_AVERAGE, t->name)) : -1;
    return average >= 0 ? average : strmap_get(&l->by_name, t->name);
}

static bool find_sources(Load *l)
{
    const Program *p = l->p.program;
    const char   **missing = ARENA_ARRAY(l->a, const char *, p->n_tensors + 1);
    int32_t        n_missing = 0;
    Listing        differ = { .text = str_new(l->a), .between = "; ", .most = 3 };
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        l->sources[i] = -1;
        if (!is_kept(t))
            continue;
        const bool of_run = t->kind == TENSOR_STATE && checkpoint_is_of_run(t->name);
        int32_t    k = source_of(l, t), same = strmap_get(&l->by_name, t->name);
        if (same >= 0)
            l->used[same] = true;
        l->ranges += is_range(t);
        if ((of_run && !l->mode.take_run) || (is_range(t) && !l->take_ranges))
            k = -1;
        else if (k < 0 && (is_range(t) ? l->mode.need_ranges : t->kind == TENSOR_PARAM || l->mode.need_states))
            missing[n_missing++] = t->name;
        if (k < 0) {
            l->missing_ranges += is_range(t);
            continue;
        }
        if (check_tensor(l, t, &l->f->tensors.at[k], &differ))
            l->sources[i] = k;
    }
    if (differ.n == 0 && n_missing == 0)
        return check_numbers(l);
    report_misfit(l, &differ, missing, n_missing);
    return false;
}

static bool is_host(const char *name)
{
    return strncmp(name, CHECKPOINT_HOST, sizeof CHECKPOINT_HOST - 1) == 0;
}

static bool check_unknown(Load *l)
{
    Listing list = { .text = str_new(l->a), .between = ", ", .most = MAX_LISTED };
    for (int32_t k = 0; k < l->f->tensors.len; k++)
        if (!l->used[k] && !is_host(l->names[k]) && !(l->mode.warn_unknown && checkpoint_is_of_run(l->names[k])))
            listing_add(&list, l->names[k]);
    const char *text = listing_end(&list);
    if (list.n && l->mode.refuse_unknown)
        diag_error(l->d, LOC_NONE, "checkpoint: %s has %d tensors that the network does not know: %s", l->path, list.n,
                   text);
    else if (list.n && l->mode.warn_unknown)
        diag_warning(l->d, LOC_NONE, "checkpoint: %s has %d tensors that the network does not know: %s", l->path,
                     list.n, text);
    return list.n == 0 || !l->mode.refuse_unknown;
}

static bool copy_tensors(const Load *l)
{
    const Program *p = l->p.program;
    bool           ok = true;
    for (int32_t i = 0; i < p->n_tensors && ok; i++) {
        if (l->sources[i] < 0)
            continue;
        const StTensor *s = &l->f->tensors.at[l->sources[i]];
        /* The file aligns nothing; tensor_write may rely on the element's alignment. */
        ok = tensor_write(l->p.exec, l->p.index, &p->tensors[i], arena_copy(l->a, s->data, (size_t)s->bytes));
    }
    return ok;
}

static Load load_new(Arena *a, Diag *d, const char *path, const StFile *f, LoadedProgram p, ModeId mode)
{
    Load l = {
        .a = a, .d = d, .path = path, .f = f, .by_name = strmap_new(a), .p = p, .mode = modes[mode], .take_ranges = true
    };
    l.names = ARENA_ARRAY(a, const char *, f->tensors.len + 1);
    l.used = ARENA_ARRAY(a, bool, f->tensors.len + 1);
    l.sources = ARENA_ARRAY(a, int32_t, p.program->n_tensors + 1);
    for (int32_t k = 0; k < f->tensors.len; k++) {
        l.names[k] = f->tensors.at[k].name;
        strmap_put(&l.by_name, l.names[k], k);
    }
    return l;
}

/* ---- Names of classes ------------------------------------------------------------------------------------------ */

#define CLASSES CHECKPOINT_HOST "classes" /* one a line */

void checkpoint_name_classes(Arena *a, const Dataset *data, HostTensors *out)
{
    Str  text = str_new(a);
    bool named = false;
    for (int32_t i = 0; i < dataset_classes(data); i++) {
        const char *name = dataset_class(data, i);
        named |= !str_eq(name, arena_printf(a, "%d", i));
        str_printf(&text, "%s\n", name);
    }
    const int64_t bytes = (int64_t)text.len;
    if (named)
        vec_push(a, out,
                 (StTensor){ .name = CLASSES,
                             .dtype = DTYPE_U8,
                             .rank = 1,
                             .dim = { bytes },
                             .elems = bytes,
                             .bytes = bytes,
                             .data = text.s });
}

const char **checkpoint_classes(Arena *a, const StFile *f, int32_t classes)
{
    const int32_t   k = st_find(f, CLASSES);
    const StTensor *t = k >= 0 ? &f->tensors.at[k] : NULL;
    if (!t || t->dtype != DTYPE_U8 || t->bytes == 0)
        return NULL;
    char        *text = arena_strndup(a, t->data, (size_t)t->bytes);
    const char **names = ARENA_ARRAY(a, const char *, classes);
    int32_t      n = 0;
    for (char *end; n < classes && (end = strchr(text, '\n')); text = end + 1) {
        *end = 0;
        names[n++] = text;
    }
    return n == classes ? names : NULL;
}

/* ---- The three ways to load ------------------------------------------------------------------------------------ */

static bool check_format(Diag *d, const char *path, const StFile *f)
{
    const char *format = st_meta(f, FORMAT_KEY);
    if (str_eq(format, FORMAT))
        return true;
    diag_error(d, LOC_NONE, "checkpoint: %s cannot be resumed: its \"" FORMAT_KEY "\" is %s, expected " FORMAT, path,
               format ? format : "missing");
    diag_help(d, "to start a new run from its weights, give it with --init");
    return false;
}

/* What the host remembered, in memory of its own. */
static void take_host(Arena *a, const StFile *f, HostTensors *out)
{
    *out = (HostTensors){ 0 };
    for (int32_t k = 0; k < f->tensors.len; k++) {
        StTensor t = f->tensors.at[k];
        if (!is_host(t.name))
            continue;
        t.name = arena_strdup(a, t.name);
        t.data = arena_copy(a, t.data, (size_t)t.bytes);
        vec_push(a, out, t);
    }
}

bool checkpoint_resume(Arena *a, Diag *d, const char *path, const RunIdentity *id, LoadedProgram p, TrainState *s,
                       HostTensors *host)
{
    Arena      scratch = arena_new("checkpoint");
    StFile    *f = st_read(&scratch, d, path);
    TrainState state;
    bool       ok =
        f && check_format(d, path, f) && check_identity(&scratch, d, path, f, id) && read_state(d, path, f, &state);
    if (ok) {
        Load l = load_new(&scratch, d, path, f, p, MODE_RESUME);
        ok = find_sources(&l) && check_unknown(&l) && copy_tensors(&l);
        if (ok) {
            *s = state;
            take_host(a, f, host);
        }
    }
    arena_free(&scratch);
    return ok;
}

bool checkpoint_load(Diag *d, const char *path, LoadedProgram p, TrainState *s)
{
    Arena      scratch = arena_new("checkpoint");
    StFile    *f = st_read(&scratch, d, path);
    TrainState state = { 0 };
    bool       ok = f && (!str_eq(st_meta(f, FORMAT_KEY), FORMAT) || read_state(d, path, f, &state));
    if (ok) {
        Load l = load_new(&scratch, d, path, f, p, MODE_LOAD);
        ok = find_sources(&l) && copy_tensors(&l);
    }
    if (ok && s)
        *s = state;
    arena_free(&scratch);
    return ok;
}

bool checkpoint_init(Diag *d, const char *path, const RunIdentity *id, LoadedProgram p, bool *ranges_loaded)
{
    Arena   scratch = arena_new("checkpoint");
    StFile *f = st_read(&scratch, d, path);
    bool    ok = f != NULL;
    if (ok) {
        Load l = load_new(&scratch, d, path, f, p, MODE_INIT);
        /* A step size says where the levels of so many bits lie: with other bits it would be wrong by a power of two.
         */
        l.take_ranges = str_eq(st_meta(f, "method"), id->method) && str_eq(st_meta(f, "bits"), id->bits);
        ok = find_sources(&l) && check_unknown(&l) && copy_tensors(&l);
        if (ok) {
            *ranges_loaded = l.missing_ranges == 0;
            if (l.take_ranges && l.missing_ranges > 0 && l.missing_ranges < l.ranges)
                diag_warning(d, LOC_NONE,
                             "checkpoint: %s lacks %d of the %d tensors that quantizers keep: all of them are found "
                             "anew",
                             path, l.missing_ranges, l.ranges);
        }
    }
    arena_free(&scratch);
    return ok;
}
