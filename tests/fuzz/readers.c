/* readers.c: the table of readers.h. */
#include "tests/fuzz/readers.h"

#include "ir/ir.h"
#include "passes/passes.h"
#include "runtime/data_impl.h"
#include "runtime/runtime.h"

#include <string.h>
#include <zlib.h>

/* A file of the place, as fast as may be: nothing is synced. */
static const char *put(Arena *a, const ReaderPlace *place, const char *name, const void *data, size_t bytes)
{
    const char *path = arena_printf(a, "%s/%s", place->dir, name);
    FILE       *out = fopen(path, "wb");
    DT_ASSERT(out && fwrite(data, 1, bytes, out) == bytes && fclose(out) == 0, "cannot write %s", path);
    return path;
}

static void put_u32(uint8_t *to, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(x >> (24 - 8 * i));
}

/* ---- Data sets of one file and good others --------------------------------------------------------------------- */

static void put_idx(Arena *a, const ReaderPlace *place, const char *name, uint32_t magic, uint32_t count)
{
    const size_t each = magic == 0x803 ? 784 : 1, head = magic == 0x803 ? 16 : 8;
    uint8_t     *file = arena_alloc(a, head + each * count);
    put_u32(file, magic);
    put_u32(file + 4, count);
    if (magic == 0x803) {
        put_u32(file + 8, 28);
        put_u32(file + 12, 28);
    }
    put(a, place, name, file, head + each * count);
}

static bool read_mnist(Arena *a, Diag *d, ReaderPlace *place, const char *name, const uint8_t *data, size_t bytes)
{
    if (!place->made) {
        put_idx(a, place, "train-images-idx3-ubyte", 0x803, 2);
        put_idx(a, place, "train-labels-idx1-ubyte", 0x801, 2);
        put_idx(a, place, "t10k-images-idx3-ubyte", 0x803, 1);
        put_idx(a, place, "t10k-labels-idx1-ubyte", 0x801, 1);
        place->made = true;
    }
    put(a, place, name, data, bytes); /* plain or gzip: the reader looks at the bytes */
    return dataset_open(a, d, &(DataRequest){ .name = "mnist", .dir = place->dir }) != NULL;
}

static bool read_idx(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    return read_mnist(a, d, place, "train-images-idx3-ubyte", data, bytes);
}

static bool read_idx_labels(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    return read_mnist(a, d, place, "train-labels-idx1-ubyte", data, bytes);
}

static bool read_cifar(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    static const uint8_t record[3073];
    for (int i = 2; i <= 5 && !place->made; i++)
        put(a, place, arena_printf(a, "data_batch_%d.bin", i), record, sizeof record);
    if (!place->made)
        put(a, place, "test_batch.bin", record, sizeof record);
    place->made = true;
    put(a, place, "data_batch_1.bin", data, bytes);
    return dataset_open(a, d, &(DataRequest){ .name = "cifar10", .dir = place->dir }) != NULL;
}

static bool read_cifar100(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    static const uint8_t record[3074];
    if (!place->made)
        put(a, place, "test.bin", record, sizeof record);
    place->made = true;
    put(a, place, "train.bin", data, bytes);
    return dataset_open(a, d, &(DataRequest){ .name = "cifar100", .dir = place->dir }) != NULL;
}

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

#ifdef DT_HAVE_PICTURES

/* Grey and RGB, whole and small: all of it must agree on whether the file is good. */
static bool read_picture(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    (void)place;
    Picture p, q;
    int32_t h, w;
    bool    ok = picture_decode(a, d, "x", data, bytes, 3, 0, &p);
    bool    grey = picture_decode(a, d, "x", data, bytes, 1, 4, &q);
    if (!ok || !grey)
        return false;
    bool sized = picture_size_of(d, "x", data, bytes, &h, &w);
    DT_ASSERT(sized && p.h == h && p.w == w && p.c == 3 && q.c == 1 && q.h <= h && q.w <= w, "%dx%d is %dx%d", h, w,
              p.h, p.w);
    picture_resize(a, &p, 0, 0, h, w, 5, 7, FILTER_BICUBIC); /* looks at all pixels */
    return true;
}

static void mend_png(uint8_t *data, size_t bytes)
{
    for (size_t at = 8; at + 12 <= bytes;) {
        size_t n = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 | data[at + 3];
        if (n > bytes - at - 12)
            return;
        put_u32(data + at + 8 + n, (uint32_t)crc32(0, data + at + 4, (uInt)(4 + n)));
        at += 12 + n;
    }
}

static bool read_mat(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    MatBlocks b;
    return mat_read_blocks(a, d, put(a, place, "x.mat", data, bytes), "Blocks", &b);
}

#endif

/* ---- Texts and weights ----------------------------------------------------------------------------------------- */

static bool read_safetensors(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    const StFile *f = st_read(a, d, put(a, place, "x.safetensors", data, bytes));
    uint32_t      sum = 0;
    for (int32_t i = 0; f && i < f->tensors.len; i++)
        for (int64_t k = 0; k < f->tensors.at[i].bytes; k++)
            sum += ((const uint8_t *)f->tensors.at[i].data)[k];
    return f && sum < UINT32_MAX;
}

static bool read_recipe(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    RecipeFile f = { { 0 } };
    return recipe_read(a, d, put(a, place, "x.recipe", data, bytes), &f);
}

/* What is read prints, and what was printed reads as the same. */
static bool read_ir(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data, size_t bytes)
{
    (void)place;
    const Graph *g = ir_parse(a, d, "x.dtir", arena_strndup(a, (const char *)data, bytes));
    if (!g)
        return false;
    Str text = str_new(a), again = str_new(a);
    ir_print(&text, g);
    const Graph *h = ir_parse(a, d, "again.dtir", text.s);
    if (h)
        ir_print(&again, h);
    DT_ASSERT(!h || str_eq(text.s, again.s), "printed once: %s\nprinted twice: %s", text.s, again.s);
    return ir_verify(g, PHASE_FRONTEND, d);
}

/* ---- Table ----------------------------------------------------------------------------------------------------- */

/* clang-format off */
const Reader readers[] = {
    { "idx",         { "tests/fuzz/corpus/idx" },         NULL, false, 40, NULL, read_idx },
    { "idx_labels",  { "tests/fuzz/corpus/idx_labels" },  NULL, false, 40, NULL, read_idx_labels },
    { "cifar",       { "tests/fuzz/corpus/cifar" },       NULL, false, 40, NULL, read_cifar },
    { "cifar100",    { "tests/fuzz/corpus/cifar100" },    NULL, false, 40, NULL, read_cifar100 },
#ifdef DT_HAVE_PICTURES
    { "jpeg",        { "tests/fuzz/corpus/jpeg" },        NULL, false, 40, NULL, read_picture },
    { "png",         { "tests/fuzz/corpus/png" },         NULL, false, 40, mend_png, read_picture },
    { "mat",         { "tests/fuzz/corpus/mat" },         NULL, false, 40, NULL, read_mat },
#endif
    { "safetensors", { "tests/fuzz/corpus/safetensors" }, NULL, false, 40, NULL, read_safetensors },
    { "recipe",      { "passes/recipes", "tests/recipes" }, ".recipe", true, 40, NULL, read_recipe },
    { "ir",          { "tests/golden" },                  ".dtir", true, 40, NULL, read_ir },
};
/* clang-format on */
const int32_t n_readers = DT_COUNT(readers);

const Reader *reader_find(const char *name)
{
    for (int32_t i = 0; i < n_readers; i++)
        if (str_eq(readers[i].name, name))
            return &readers[i];
    return NULL;
}
