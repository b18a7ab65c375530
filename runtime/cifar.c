/* cifar.c: CIFAR-10 and CIFAR-100 in their binary versions: files of records, each one or two bytes of labels
 * (CIFAR-100: the coarse and the fine one; the fine one is used) and 3072 of pixels (red, green, blue planes of 32
 * rows). The official files have 10,000 records each, or 50,000; any number is taken, so that a small part of the set
 * works for trying things out.
 *
 * Tested by tests/unit/test_data.c, fuzzed by tests/fuzz. */
#include "runtime/data_impl.h"

#include <string.h>

enum { SIDE = 32, CHANNELS = 3, PIXELS = CHANNELS * SIDE * SIDE, MAX_FILES = 5, MAX_INSTEAD = 4 };

typedef struct CifarSet {
    const char *name, *below; /* the directory that the archive unpacks to */
    const char *files[SPLIT_COUNT][MAX_FILES];
    const char *names, *said; /* file with the names of classes; the data files, for messages */
    int32_t     classes, labels;
    struct {
        const char *name, *help; /* what people have in the directory instead, and what to do then */
    } instead[MAX_INSTEAD];
} CifarSet;

static const CifarSet cifar10 = {
    .name = "cifar10",
    .below = "cifar-10-batches-bin",
    .files = { { "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin" },
               { "test_batch.bin" } },
    .names = "batches.meta.txt",
    .said = "data_batch_1.bin to data_batch_5.bin and test_batch.bin",
    .classes = 10,
    .labels = 1,
    .instead = { { "cifar-10-binary.tar.gz", "unpack it first: tar -xzf cifar-10-binary.tar.gz" },
                 { "cifar-10-python.tar.gz", "this is the version for Python; get cifar-10-binary.tar.gz" },
                 { "cifar-10-batches-py", "this is the version for Python; get cifar-10-binary.tar.gz" },
                 { "cifar10-jpeg.tar.xz",
                   "this holds JPEG files; write the binary files from it with unpack.py DEST and give DEST" } },
};

static const CifarSet cifar100 = {
    .name = "cifar100",
    .below = "cifar-100-binary",
    .files = { { "train.bin" }, { "test.bin" } },
    .names = "fine_label_names.txt",
    .said = "train.bin and test.bin",
    .classes = 100,
    .labels = 2,
    .instead = { { "cifar-100-binary.tar.gz", "unpack it first: tar -xzf cifar-100-binary.tar.gz" },
                 { "cifar-100-python.tar.gz", "this is the version for Python; get cifar-100-binary.tar.gz" },
                 { "cifar-100-python", "this is the version for Python; get cifar-100-binary.tar.gz" } },
};

static int32_t record_bytes(const CifarSet *set)
{
    return set->labels + PIXELS;
}

static const char *find_dir(Arena *a, Diag *d, const CifarSet *set, const char *dir)
{
    const char *places[] = { dir, arena_printf(a, "%s/%s", dir, set->below) };
    for (int32_t i = 0; i < DT_COUNT(places); i++)
        for (int32_t s = 0; s < SPLIT_COUNT; s++)
            if (data_is_file(arena_printf(a, "%s/%s", places[i], set->files[s][0]), NULL))
                return places[i];
    if (!data_is_dir(dir))
        data_no_dir(d, set->name, dir);
    else
        diag_error(d, LOC_NONE, "%s: %s has none of the data files", set->name, dir);
    diag_note(d, LOC_NONE, "looked in it and in its %s for %s", set->below, set->said);
    for (int32_t i = 0; i < MAX_INSTEAD && set->instead[i].name; i++) {
        const char *path = arena_printf(a, "%s/%s", dir, set->instead[i].name);
        if (data_is_file(path, NULL) || data_is_dir(path))
            diag_help(d, "%s is there; %s", set->instead[i].name, set->instead[i].help);
    }
    return NULL;
}

/* What one split is read into. */
typedef struct Reading {
    const CifarSet *set;
    uint8_t        *pixels, *labels;
    int32_t         filled, capacity;
} Reading;

/* Appends the records of one file; `scratch` holds the file meanwhile. */
static bool read_records(Arena *scratch, Diag *d, const char *path, Reading *r)
{
    const CifarSet *set = r->set;
    size_t          bytes = 0, record_size = (size_t)record_bytes(set);
    const char     *text = file_read(scratch, d, path, &bytes);
    if (!text)
        return false;
    const uint8_t *data = (const uint8_t *)text;
    int32_t        records = (int32_t)(bytes / record_size);
    if (bytes % record_size != 0 || records > r->capacity - r->filled) {
        diag_error(d, LOC_NONE, "%s: %s changed while it was read", set->name, path);
        return false;
    }
    for (int32_t i = 0; i < records; i++) {
        const uint8_t *record = data + (size_t)i * record_size, label = record[set->labels - 1];
        if (label >= set->classes) {
            diag_error(d, LOC_NONE, "%s: %s: label %d of record %d is none of 0..%d", set->name, path, label, i,
                       set->classes - 1);
            return false;
        }
        r->labels[r->filled] = label;
        memcpy(r->pixels + (size_t)r->filled * PIXELS, record + set->labels, PIXELS);
        r->filled++;
    }
    return true;
}

/* How many records the file has. False: reported. */
static bool count_records(Diag *d, const CifarSet *set, const char *path, int64_t *records)
{
    int64_t bytes = 0;
    if (!data_is_file(path, &bytes)) {
        diag_error(d, LOC_NONE, "%s: %s is missing%s", set->name, path, data_is_dir(path) ? ": it is a directory" : "");
        diag_help(d, "the set is %s", set->said);
        return false;
    }
    if (bytes == 0 || bytes % record_bytes(set) != 0) {
        diag_error(d, LOC_NONE, "%s: %s has %lld bytes, expected a multiple of %d (%s and %d pixels), not 0", set->name,
                   path, (long long)bytes, record_bytes(set), set->labels == 1 ? "label" : "two labels", PIXELS);
        diag_help(d, "fetch the file again: it is cut off or not the binary version");
        return false;
    }
    *records += bytes / record_bytes(set);
    return true;
}

static bool read_split(Arena *a, Diag *d, const CifarSet *set, const char *dir, Split s, Dataset *out)
{
    const char *paths[MAX_FILES];
    int32_t     n = 0;
    int64_t     total = 0;
    for (; n < MAX_FILES && set->files[s][n]; n++) {
        paths[n] = arena_printf(a, "%s/%s", dir, set->files[s][n]);
        if (!count_records(d, set, paths[n], &total))
            return false;
    }
    if (total > INT32_MAX) {
        diag_error(d, LOC_NONE, "%s: %s: %lld %s samples are more than %d", set->name, dir, (long long)total,
                   split_name(s), INT32_MAX);
        return false;
    }
    Reading r = { .set = set,
                  .pixels = arena_alloc(a, (size_t)total * PIXELS),
                  .labels = arena_alloc(a, (size_t)total),
                  .capacity = (int32_t)total };
    bool    ok = true;
    Arena   scratch = arena_new("cifar");
    for (int32_t i = 0; i < n && ok; i++) {
        ok = read_records(&scratch, d, paths[i], &r);
        arena_reset(&scratch);
    }
    arena_free(&scratch);
    if (ok && r.filled != total) {
        diag_error(d, LOC_NONE, "%s: the files in %s changed while they were read", set->name, dir);
        ok = false;
    }
    out->pixels[s] = r.pixels;
    out->labels[s] = r.labels;
    out->count[s] = r.filled;
    out->h[s] = out->w[s] = SIDE;
    return ok;
}

/* One name a line. NULL: there is no such file, or it has another number of them; numbers do as well. */
static const char *const *read_names(Arena *a, const char *path, int32_t classes)
{
    if (!data_is_file(path, NULL))
        return NULL;
    Diag         quiet = diag_new(NULL);
    char        *text = file_read(a, &quiet, path, NULL), *rest = NULL;
    const char **names = ARENA_ARRAY(a, const char *, classes);
    int32_t      n = 0;
    for (char *word = text ? strtok_r(text, "\r\n", &rest) : NULL; word; word = strtok_r(NULL, "\r\n", &rest), n++)
        if (n < classes)
            names[n] = word;
    diag_free(&quiet);
    return n == classes ? names : NULL;
}

static Dataset *cifar_open(Arena *a, Diag *d, const CifarSet *set, const char *where)
{
    const char *dir = find_dir(a, d, set, where);
    if (!dir)
        return NULL;
    Dataset *c = ARENA_NEW(a, Dataset);
    *c = (Dataset){ .name = set->name,
                    .c = CHANNELS,
                    .classes = set->classes,
                    .class_names = read_names(a, arena_printf(a, "%s/%s", dir, set->names), set->classes),
                    .usual = USUAL_SHIFT,
                    .crop_pad = 4,
                    .mirror = true };
    for (Split s = 0; s < SPLIT_COUNT; s++)
        if (!read_split(a, d, set, dir, s, c))
            return NULL;
    return c;
}

Dataset *cifar10_open(Arena *a, Diag *d, const DataRequest *r)
{
    return cifar_open(a, d, &cifar10, r->dir);
}

Dataset *cifar100_open(Arena *a, Diag *d, const DataRequest *r)
{
    return cifar_open(a, d, &cifar100, r->dir);
}
