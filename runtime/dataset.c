/* dataset.c: the table of data sets, what they are asked, and where the pictures of a sample come from: memory, the
 * pack, or files.
 *
 * Tested by tests/unit/test_data.c, test_folder.c. */
#include "runtime/data_impl.h"

#include <string.h>

/* clang-format off */
const DatasetInfo dataset_table[] = {
    { "mnist", "handwritten digits, 28x28, grey: the four idx files, plain or .gz, in DIR or DIR/MNIST/raw",
      DATA_CLASSES, mnist_open },
    { "cifar10", "CIFAR-10, 32x32, colour: data_batch_1..5.bin, test_batch.bin in DIR or DIR/cifar-10-batches-bin",
      DATA_CLASSES, cifar10_open },
    { "cifar100", "CIFAR-100, 32x32, colour, fine labels: train.bin, test.bin in DIR or DIR/cifar-100-binary",
      DATA_CLASSES, cifar100_open },
    { "folder", "pictures in folders, one a class: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg (or test; JPEG and PNG)",
      DATA_CLASSES, folder_open },
    { "pairs", "degraded and clean pictures of equal names: DIR/noisy, DIR/clean (or input and target, lq and gt)",
      DATA_PAIRS, pairs_open },
    { "sidd", "SIDD: DIR/SIDD_Medium_Srgb/Data/SCENE/*NOISY*.PNG and *GT*.PNG; ValidationNoisyBlocksSrgb.mat for tests",
      DATA_PAIRS, sidd_open },
};
/* clang-format on */
const int32_t dataset_table_len = DT_COUNT(dataset_table);

const char   *split_name(Split s)
{
    return s == SPLIT_TRAIN ? "training" : "test";
}

/* Classes without names are called by their numbers. */
static void name_classes(Arena *a, Dataset *d)
{
    if (d->class_names)
        return;
    const char **names = ARENA_ARRAY(a, const char *, d->classes);
    for (int32_t i = 0; i < d->classes; i++)
        names[i] = arena_printf(a, "%d", i);
    d->class_names = names;
}

static Dataset *open_row(Arena *a, Diag *d, const DatasetInfo *row, const DataRequest *r)
{
    if (r->noise && row->task != DATA_PAIRS) {
        diag_error(d, LOC_NONE, "data: %s has pictures of classes; noise is made for pairs alone, not '%s'", row->name,
                   r->noise);
        return NULL;
    }
    Dataset *set = row->open(a, d, r);
    if (!set || (!set->pixels[SPLIT_TRAIN] && !picture_supported(d)))
        return NULL;
    set->task = row->task;
    set->bad_limit = r->bad_limit;
    set->workers = r->workers;
    name_classes(a, set);
    return set;
}

Dataset *dataset_open(Arena *a, Diag *d, const DataRequest *r)
{
    const char *names[DT_COUNT(dataset_table)];
    for (int32_t i = 0; i < dataset_table_len; i++) {
        if (str_eq(dataset_table[i].name, r->name))
            return open_row(a, d, &dataset_table[i], r);
        names[i] = dataset_table[i].name;
    }
    Str known = str_new(a);
    for (int32_t i = 0; i < dataset_table_len; i++)
        str_printf(&known, "%s%s", i ? ", " : "", names[i]);
    diag_error(d, LOC_NONE, "data: no dataset is called '%s'; there are %s", r->name, known.s);
    diag_help_nearest(d, r->name, names, dataset_table_len, NULL);
    return NULL;
}

Dataset *dataset_head(Arena *a, const Dataset *d, Split s, int32_t count)
{
    Dataset *head = arena_copy(a, d, sizeof(*d));
    head->count[s] = (int32_t)dt_min64(dt_max64(count, 1), d->count[s]);
    return head;
}

/* ---- What it is ------------------------------------------------------------------------------------------------ */

DataTask dataset_task(const Dataset *d)
{
    return d->task;
}

const char *dataset_name(const Dataset *d)
{
    return d->name;
}

int32_t dataset_classes(const Dataset *d)
{
    return d->classes;
}

const char *dataset_class(const Dataset *d, int32_t i)
{
    DT_ASSERT(i >= 0 && i < d->classes, "class %d of %d", i, d->classes);
    return d->class_names[i];
}

int32_t dataset_channels(const Dataset *d)
{
    return d->c;
}

int32_t dataset_height(const Dataset *d, Split s)
{
    return d->h[s];
}

int32_t dataset_width(const Dataset *d, Split s)
{
    return d->w[s];
}

int32_t dataset_count(const Dataset *d, Split s)
{
    return d->count[s];
}

/* Which of the files a sample is. */
static int32_t file_of(const Dataset *d, Split s, int32_t sample)
{
    DT_ASSERT(sample >= 0 && sample < d->count[s], "sample %d of %d", sample, d->count[s]);
    return s == SPLIT_TRAIN && d->crops > 1 ? sample / d->crops : sample;
}

const char *dataset_sample_name(Arena *a, const Dataset *d, Split s, int32_t sample)
{
    int32_t file = file_of(d, s, sample);
    if (d->pixels[s])
        return arena_printf(a, "%s %d", split_name(s), sample);
    const DataFile *f = &d->files[s].at[file];
    return arena_strdup(a, f->path ? f->path : f->clean);
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

bool dataset_decodes(const Dataset *d, Split s)
{
    return d->pixels[s] == NULL;
}

int32_t dataset_at_least(const Dataset *d, Split s)
{
    if (d->task == DATA_PAIRS)
        return 0; /* scaled pictures have other noise */
    return center_resize(d->h[s] > d->w[s] ? d->h[s] : d->w[s]);
}

/* [c, h, w] -> [h, w, c] */
static Picture interleave(Arena *a, const uint8_t *planes, int32_t c, int32_t h, int32_t w)
{
    const int32_t pixels = h * w;
    Picture       p = { .c = c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)(c * pixels)) };
    for (int32_t k = 0; k < c; k++)
        for (int32_t i = 0; i < pixels; i++)
            p.pixels[i * c + k] = planes[k * pixels + i];
    return p;
}

static void read_memory(Arena *a, const Dataset *d, Split s, int32_t sample, Sample *out)
{
    const size_t each = (size_t)(d->c * d->h[s] * d->w[s]), at = (size_t)sample * each;
    if (d->task == DATA_CLASSES) {
        out->picture = interleave(a, d->pixels[s] + at, d->c, d->h[s], d->w[s]);
        out->label = d->labels[s][sample];
        return;
    }
    const Picture shape = { .c = d->c, .h = d->h[s], .w = d->w[s] };
    out->picture = out->clean = shape;
    out->picture.pixels = arena_copy(a, d->pixels[s] + at, each);
    out->clean.pixels = arena_copy(a, d->clean[s] + at, each);
}

static bool read_one(Arena *a, Diag *d, const Dataset *set, Split s, int32_t file, bool clean, Picture *out)
{
    const DataFile *f = &set->files[s].at[file];
    const char     *path = clean ? f->clean : f->path;
    if (set->pack && pack_get(set->pack, s, file, clean, out))
        return true;
    return picture_read(a, d, arena_printf(a, "%s/%s", set->dir[s], path), set->c, dataset_at_least(set, s), out);
}

bool dataset_read(Arena *a, Diag *d, const Dataset *set, Split s, int32_t sample, Sample *out)
{
    int32_t file = file_of(set, s, sample);
    *out = (Sample){ 0 };
    if (set->pixels[s]) {
        read_memory(a, set, s, file, out);
        return true;
    }
    const DataFile *f = &set->files[s].at[file];
    out->label = f->label;
    return (!f->path || set->noise.kind != NOISE_NONE || read_one(a, d, set, s, file, false, &out->picture)) &&
           (!f->clean || read_one(a, d, set, s, file, true, &out->clean));
}
