/* dataset.c: the table of datasets, and how a stored image becomes floats.
 *
 * Pixels stay bytes until a batch is made: 60,000 CIFAR images are 184 MB as bytes, four times that as floats, and
 * with 256 possible values normalisation is a look-up. The table's entries are computed as PyTorch's ToTensor and
 * Normalize do, in f32, so a network trained elsewhere sees the same numbers.
 *
 * Tested by tests/unit/test_data.c. */
#include "runtime/runtime_impl.h"

#include <sys/stat.h>

const DatasetInfo dataset_table[] = {
    { "mnist", "handwritten digits, 28x28, grey: the four idx files, plain or .gz, in DIR or DIR/MNIST/raw",
      mnist_open },
    { "cifar10", "CIFAR-10, 32x32, colour: data_batch_1..5.bin, test_batch.bin in DIR or DIR/cifar-10-batches-bin",
      cifar10_open },
};
const int32_t dataset_table_len = DT_COUNT(dataset_table);

const char   *split_name(Split s)
{
    return s == SPLIT_TRAIN ? "training" : "test";
}

bool data_is_file(const char *path, int64_t *bytes)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    if (bytes)
        *bytes = (int64_t)st.st_size;
    return true;
}

bool data_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

Dataset *dataset_open(Arena *a, Diag *d, const char *name, const char *dir)
{
    const char *names[DT_COUNT(dataset_table)];
    for (int32_t i = 0; i < dataset_table_len; i++) {
        if (str_eq(dataset_table[i].name, name))
            return dataset_table[i].open(a, d, dir);
        names[i] = dataset_table[i].name;
    }
    Str known = str_new(a);
    for (int32_t i = 0; i < dataset_table_len; i++)
        str_printf(&known, "%s%s", i ? ", " : "", names[i]);
    diag_error(d, LOC_NONE, "data: no dataset is called '%s'; there are %s", name, known.s);
    const char *near = str_nearest(a, name, names, dataset_table_len);
    if (*near)
        diag_help(d, "did you mean %s?", near);
    return NULL;
}

/* ---- From bytes to floats -------------------------------------------------------------------------------------- */

PixelTable pixel_table(Normalise n)
{
    PixelTable t;
    for (int32_t c = 0; c < DATA_MAX_CHANNELS; c++)
        for (int32_t b = 0; b < 256; b++) {
            float x = (float)b / 255.0f;
            t.of[c][b] = n.std[c] == 0 ? x : (x - n.mean[c]) / n.std[c];
        }
    return t;
}

View dataset_view(const Dataset *d, uint64_t seed, int32_t epoch, int32_t sample)
{
    /* One draw picks among all (2 pad + 1)^2 crops, each mirrored or not, with equal chances (to within 2^-24). */
    uint32_t places = (uint32_t)(2 * d->crop_pad + 1);
    uint32_t sides = d->mirror ? 2 : 1;
    uint64_t draw = rng_u32(seed, hash_u32("augment"), (uint32_t)epoch, (uint64_t)sample);
    uint32_t pick = (uint32_t)((draw * places * places * sides) >> 32);
    View     v = { .mirror = pick % sides != 0 };
    pick /= sides;
    v.dx = (int32_t)(pick % places) - d->crop_pad;
    v.dy = (int32_t)(pick / places) - d->crop_pad;
    return v;
}

void dataset_fetch(const Dataset *d, Split s, int32_t sample, View v, const PixelTable *t, bool nhwc, float *out)
{
    DT_ASSERT(sample >= 0 && sample < d->count[s], "sample %d of %d", sample, d->count[s]);
    const int32_t  c = d->c, h = d->h, w = d->w;
    const uint8_t *image = d->pixels[s] + (size_t)sample * (size_t)(c * h * w);
    const int32_t  pixel_stride = nhwc ? c : 1, channel_stride = nhwc ? 1 : h * w;
    for (int32_t k = 0; k < c; k++) {
        const float *value = t->of[k];
        for (int32_t y = 0; y < h; y++) {
            int32_t        sy = y + v.dy;
            const uint8_t *row = sy >= 0 && sy < h ? image + (k * h + sy) * w : NULL;
            float         *to = out + k * channel_stride + y * w * pixel_stride;
            for (int32_t x = 0; x < w; x++) {
                int32_t sx = x + v.dx;
                if (v.mirror)
                    sx = w - 1 - sx;
                to[x * pixel_stride] = value[row && sx >= 0 && sx < w ? row[sx] : 0];
            }
        }
    }
}
