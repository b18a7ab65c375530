/* cifar10.c: CIFAR-10 in its binary version: six files of records, each one byte of label and 3072 of pixels (red,
 * green, blue planes of 32 rows). The official files have 10,000 records each; any number is taken, so that a small
 * part of the set works for trying things out.
 *
 * Tested by tests/unit/test_data.c. */
#include "runtime/runtime_impl.h"

#include <string.h>

enum { SIDE = 32, CHANNELS = 3, CLASSES = 10, PIXELS = CHANNELS * SIDE * SIDE, RECORD = 1 + PIXELS };
enum { TRAIN_FILES = 5 };

static const char *const train_files[TRAIN_FILES] = { "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                      "data_batch_4.bin", "data_batch_5.bin" };
static const char *const test_files[] = { "test_batch.bin" };

/* What people have in the directory instead, and what to do then. */
static const struct {
    const char *name, *help;
} instead[] = {
    { "cifar-10-binary.tar.gz", "unpack it first: tar -xzf cifar-10-binary.tar.gz" },
    { "cifar-10-python.tar.gz", "this is the version for Python; get cifar-10-binary.tar.gz" },
    { "cifar-10-batches-py", "this is the version for Python; get cifar-10-binary.tar.gz" },
    { "cifar10-jpeg.tar.xz",
      "this holds JPEG files; write the binary files from it with unpack.py DEST and give DEST" },
};

static const char *find_dir(Arena *a, Diag *d, const char *dir)
{
    static const char *const places[] = { "", "/cifar-10-batches-bin" };
    for (int32_t i = 0; i < DT_COUNT(places); i++) {
        const char *place = arena_printf(a, "%s%s", dir, places[i]);
        if (data_is_file(arena_printf(a, "%s/%s", place, train_files[0]), NULL) ||
            data_is_file(arena_printf(a, "%s/%s", place, test_files[0]), NULL))
            return place;
    }
    if (!data_is_dir(dir))
        diag_error(d, LOC_NONE,
                   data_is_file(dir, NULL) ? "cifar10: %s is a file, expected the directory of the data"
                                           : "cifar10: there is no directory %s",
                   dir);
    else
        diag_error(d, LOC_NONE, "cifar10: %s has none of the data files", dir);
    diag_note(d, LOC_NONE,
              "looked in it and in its cifar-10-batches-bin for data_batch_1.bin to data_batch_5.bin and "
              "test_batch.bin");
    for (int32_t i = 0; i < DT_COUNT(instead); i++) {
        const char *path = arena_printf(a, "%s/%s", dir, instead[i].name);
        if (data_is_file(path, NULL) || data_is_dir(path))
            diag_help(d, "%s is there; %s", instead[i].name, instead[i].help);
    }
    return NULL;
}

/* Appends the records of one file at sample *filled; `scratch` holds the file meanwhile. */
static bool read_records(Arena *scratch, Diag *d, const char *path, uint8_t *pixels, uint8_t *labels, int32_t *filled,
                         int32_t capacity)
{
    size_t      bytes = 0;
    const char *text = file_read(scratch, d, path, &bytes);
    if (!text)
        return false;
    const uint8_t *data = (const uint8_t *)text;
    int32_t        records = (int32_t)(bytes / RECORD);
    if (bytes % RECORD != 0 || records > capacity - *filled) {
        diag_error(d, LOC_NONE, "cifar10: %s changed while it was read", path);
        return false;
    }
    for (int32_t i = 0; i < records; i++) {
        const uint8_t *record = data + (size_t)i * RECORD;
        if (record[0] >= CLASSES) {
            diag_error(d, LOC_NONE, "cifar10: %s: label %d of record %d is none of 0..%d", path, record[0], i,
                       CLASSES - 1);
            return false;
        }
        labels[*filled] = record[0];
        memcpy(pixels + (size_t)*filled * PIXELS, record + 1, PIXELS);
        (*filled)++;
    }
    return true;
}

/* How many records the file has. False: reported. */
static bool count_records(Diag *d, const char *path, int64_t *records)
{
    int64_t bytes = 0;
    if (!data_is_file(path, &bytes)) {
        diag_error(d, LOC_NONE, "cifar10: %s is missing%s", path, data_is_dir(path) ? ": it is a directory" : "");
        diag_help(d, "the set is data_batch_1.bin to data_batch_5.bin and test_batch.bin");
        return false;
    }
    if (bytes == 0 || bytes % RECORD != 0) {
        diag_error(d, LOC_NONE, "cifar10: %s has %lld bytes, expected a multiple of %d (label and %d pixels), not 0",
                   path, (long long)bytes, RECORD, PIXELS);
        diag_help(d, "fetch the file again: it is cut off or not the binary version");
        return false;
    }
    *records += bytes / RECORD;
    return true;
}

static bool read_split(Arena *a, Diag *d, const char *dir, Split s, Dataset *out)
{
    const char *const *names = s == SPLIT_TRAIN ? train_files : test_files;
    int32_t            n = s == SPLIT_TRAIN ? TRAIN_FILES : DT_COUNT(test_files);
    int64_t            total = 0;
    for (int32_t i = 0; i < n; i++)
        if (!count_records(d, arena_printf(a, "%s/%s", dir, names[i]), &total))
            return false;
    if (total > INT32_MAX) {
        diag_error(d, LOC_NONE, "cifar10: %s: %lld %s samples are more than %d", dir, (long long)total, split_name(s),
                   INT32_MAX);
        return false;
    }
    uint8_t *pixels = arena_alloc(a, (size_t)total * PIXELS), *labels = arena_alloc(a, (size_t)total);
    int32_t  filled = 0;
    bool     ok = true;
    Arena    scratch = arena_new("cifar10");
    for (int32_t i = 0; i < n && ok; i++) {
        ok =
            read_records(&scratch, d, arena_printf(a, "%s/%s", dir, names[i]), pixels, labels, &filled, (int32_t)total);
        arena_reset(&scratch);
    }
    arena_free(&scratch);
    if (ok && filled != total) {
        diag_error(d, LOC_NONE, "cifar10: the files in %s changed while they were read", dir);
        ok = false;
    }
    out->pixels[s] = pixels;
    out->labels[s] = labels;
    out->count[s] = filled;
    return ok;
}

Dataset *cifar10_open(Arena *a, Diag *d, const char *dir)
{
    dir = find_dir(a, d, dir);
    if (!dir)
        return NULL;
    Dataset *c = ARENA_NEW(a, Dataset);
    *c = (Dataset){
        .name = "cifar10", .c = CHANNELS, .h = SIDE, .w = SIDE, .classes = CLASSES, .crop_pad = 4, .mirror = true
    };
    for (Split s = 0; s < SPLIT_COUNT; s++)
        if (!read_split(a, d, dir, s, c))
            return NULL;
    return c;
}
