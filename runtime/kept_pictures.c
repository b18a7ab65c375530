/* kept_pictures.c: the first test samples of a restoration run as pictures on disk, written and read back.
 *
 * What the network makes is clamped to 0..1 and rounded to bytes, as a viewer would. Tested by
 * tests/unit/test_kept_pictures.c. */
#include "runtime/data_impl.h"
#include "runtime/kept_pictures.h"
#include "runtime/runtime_impl.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INDEX "index.json"
enum { INDEX_MOST = 64 }; /* samples of a file that is read */

const char *const picture_kind_names[PICTURE_KINDS] = { "noisy", "result", "clean" };

/* ---- From floats to pictures ------------------------------------------------------------------------------------- */

/* A batch of pictures as it lies in memory, and how its values become those of a screen. */
typedef struct Batch {
    const float *at;
    int32_t      c, h, w;
    bool         nhwc;
    Normalise    n; /* undone */
} Batch;

static uint8_t pixel(const Batch *b, int64_t sample, int32_t c, int32_t y, int32_t x)
{
    const int64_t hw = (int64_t)b->h * b->w, place = (int64_t)y * b->w + x;
    const int64_t i = sample * b->c * hw + (b->nhwc ? place * b->c + c : c * hw + place);
    const double  v =
        b->n.std[c] != 0 ? (double)b->at[i] * (double)b->n.std[c] + (double)b->n.mean[c] : (double)b->at[i];
    return (uint8_t)rint(255 * (v > 0 ? fmin(v, 1) : 0)); /* a NaN is black */
}

/* The middle of a sample. */
static Picture cut(Arena *a, const Batch *b, int64_t sample)
{
    Picture p = { .c = b->c, .h = (int32_t)dt_min64(b->h, PICTURES_SIDE), .w = (int32_t)dt_min64(b->w, PICTURES_SIDE) };
    int32_t top = (b->h - p.h) / 2, left = (b->w - p.w) / 2;
    p.pixels = arena_alloc(a, (size_t)p.h * (size_t)p.w * (size_t)p.c);
    for (int32_t y = 0, i = 0; y < p.h; y++)
        for (int32_t x = 0; x < p.w; x++)
            for (int32_t c = 0; c < p.c; c++)
                p.pixels[i++] = pixel(b, sample, c, top + y, left + x);
    return p;
}

/* ---- Keeping ----------------------------------------------------------------------------------------------------- */

/* What the keeper goes through, batch by batch. */
typedef struct Keeper {
    Arena            *a;
    Diag             *d;
    const char       *dir;
    const Dataset    *data;
    BatchInputs       in;
    const ProgTensor *answer;
    HostBatch         batch;
    float            *result; /* of a batch, NCHW */
    Normalise         normalise;
    json_t           *samples;
} Keeper;

static bool keep_sample(Keeper *k, int32_t sample, int64_t of_batch)
{
    const ProgTensor *image = k->in.image, *out = k->answer;
    const int32_t     c = (int32_t)image->dim[1], h = (int32_t)image->dim[2], w = (int32_t)image->dim[3];
    const Batch       batches[PICTURE_KINDS] = {
        [PICTURE_NOISY] = { k->batch.at.image, c, h, w, image->nhwc, k->normalise },
        [PICTURE_RESULT] = { k->result,
                                   (int32_t)out->dim[1],
                                   (int32_t)out->dim[2],
                                   (int32_t)out->dim[3],
                                   false,
                                   { { 0 }, { 0 } } },
        [PICTURE_CLEAN] = { k->batch.at.target, c, h, w, image->nhwc, { { 0 }, { 0 } } },
    };
    for (int kind = 0; kind < PICTURE_KINDS; kind++) {
        Picture     p = cut(k->a, &batches[kind], of_batch);
        const char *path = arena_printf(k->a, "%s/%d-%s.png", k->dir, sample, picture_kind_names[kind]);
        if (!picture_write_png(k->d, path, &p))
            return false;
    }
    const char *name = dataset_sample_name(k->a, k->data, SPLIT_TEST, sample);
    json_t     *text = json_string(name);
    if (text == NULL) /* a name that is no UTF-8 */
        text = json_string(arena_printf(k->a, "test %d", sample));
    json_array_append_new(k->samples,
                          json_pack("{s:o, s:o}", "name", text, "file", json_string(arena_printf(k->a, "%d", sample))));
    return true;
}

/* The first samples, some batches of them. */
static bool keep_samples(Keeper *k, Loader *l)
{
    const LoadedProgram p = k->in.p;
    const int32_t       batch = (int32_t)k->in.image->dim[0];
    const int32_t       n = (int32_t)dt_min64(PICTURES_KEPT, dataset_count(k->data, SPLIT_TEST));
    loader_start(l, 0, 0);
    for (int32_t sample = 0; sample < n;) {
        if (loader_next(l, &k->batch.at) <= 0)
            return false;
        host_batch_put(&k->batch, &k->in, exec_ptr);
        if (!exec_run(p.exec, p.index) || !tensor_read(p.exec, p.index, k->answer, k->result))
            return false;
        for (int32_t i = 0; i < batch && sample < n; i++)
            if (!keep_sample(k, sample++, i))
                return false;
    }
    return true;
}

static bool write_index(Keeper *k, int64_t epoch, int64_t step)
{
    json_t *root = json_pack("{s:I, s:I, s:i, s:O}", "epoch", (json_int_t)epoch, "step", (json_int_t)step, "channels",
                             (int)k->in.image->dim[1], "samples", k->samples);
    char   *text = json_dumps(root, JSON_INDENT(1));
    DT_ASSERT(text != NULL, "an index of pictures that cannot be written as JSON");
    bool ok = file_write_atomic(k->d, arena_printf(k->a, "%s/" INDEX, k->dir), text, strlen(text));
    free(text);
    json_decref(root);
    return ok;
}

bool pictures_keep(Diag *d, const char *run, LoadedProgram eval, const Dataset *data, Normalise n, int64_t epoch,
                   int64_t step)
{
    if (dataset_task(data) != DATA_PAIRS)
        return true;
    Arena  a = arena_new("pictures");
    Keeper k = { .a = &a, .d = d, .dir = arena_printf(&a, "%s/" RUN_IMAGES, run), .data = data, .normalise = n };
    bool   ok = batch_inputs(d, eval, data, SPLIT_TEST, 0, true, &k.in);
    k.answer = ok ? program_need(d, eval.program, TENSOR_OUTPUT, "logits", DTYPE_F32, 4, k.in.image->dim) : NULL;
    Loader *l = k.answer != NULL ? loader_new(&a, d,
                                              (LoaderConfig){ .data = data,
                                                              .split = SPLIT_TEST,
                                                              .batch = (int32_t)k.in.image->dim[0],
                                                              .nhwc = k.in.image->nhwc,
                                                              .normalise = n })
                                 : NULL;
    ok = l != NULL && dir_make(d, k.dir);
    if (ok) {
        k.batch = host_batch_new(&a, &k.in);
        k.result = ARENA_ARRAY(&a, float, k.answer->elems);
        k.samples = json_array();
        ok = keep_samples(&k, l) && write_index(&k, epoch, step);
        json_decref(k.samples);
    }
    loader_free(l);
    arena_free(&a);
    return ok;
}

/* ---- Reading back ------------------------------------------------------------------------------------------------ */

/* "0", "17": a file beside the index and nowhere else. */
static bool is_file(const char *file)
{
    return file != NULL && file[0] != 0 && strlen(file) < 8 && strspn(file, "0123456789") == strlen(file);
}

static bool load_sample(Arena *a, Diag *d, const char *dir, int32_t channels, const json_t *sample, RunPicture *out)
{
    const char *name = json_string_value(json_object_get(sample, "name"));
    const char *file = json_string_value(json_object_get(sample, "file"));
    if (name == NULL || !is_file(file)) {
        diag_error(d, LOC_NONE, "pictures: %s/" INDEX ": expected samples with \"name\" and \"file\", a number", dir);
        return false;
    }
    *out = (RunPicture){ .name = arena_strdup(a, name) };
    for (int kind = 0; kind < PICTURE_KINDS; kind++) {
        const char *path = arena_printf(a, "%s/%s-%s.png", dir, file, picture_kind_names[kind]);
        out->png[kind] = (const uint8_t *)file_read(a, d, path, &out->bytes[kind]);
        if (out->png[kind] == NULL ||
            !picture_decode(a, d, path, out->png[kind], out->bytes[kind], channels, 0, &out->picture[kind]))
            return false;
    }
    const Picture *p = out->picture;
    for (int kind = 1; kind < PICTURE_KINDS; kind++)
        if (p[kind].h != p[0].h || p[kind].w != p[0].w) {
            diag_error(d, LOC_NONE, "pictures: %s: expected %s-%s.png of %dx%d pixels as the noisy one, found %dx%d",
                       dir, file, picture_kind_names[kind], p[0].w, p[0].h, p[kind].w, p[kind].h);
            return false;
        }
    return true;
}

static bool load_samples(Arena *a, Diag *d, const char *dir, const json_t *root, RunPictures *out)
{
    const json_t *samples = json_object_get(root, "samples"), *step = json_object_get(root, "step");
    const json_t *epoch = json_object_get(root, "epoch"), *channels = json_object_get(root, "channels");
    const size_t  n = json_array_size(samples);
    const bool    grey = json_integer_value(channels) == 1;
    if (!json_is_array(samples) || n > INDEX_MOST || !json_is_integer(step) || json_integer_value(step) < 0 ||
        !json_is_integer(epoch) || (!grey && json_integer_value(channels) != 3)) {
        diag_error(d, LOC_NONE,
                   "pictures: %s/" INDEX ": expected epoch, step, channels (1 or 3) and at most %d samples", dir,
                   INDEX_MOST);
        return false;
    }
    out->epoch = json_integer_value(epoch);
    out->step = json_integer_value(step);
    for (size_t i = 0; i < n; i++) {
        RunPicture p;
        if (!load_sample(a, d, dir, grey ? 1 : 3, json_array_get(samples, i), &p))
            return false;
        vec_push(a, &out->at, p);
    }
    return true;
}

bool pictures_load(Arena *a, Diag *d, const char *run, RunPictures *out)
{
    const char *dir = arena_printf(a, "%s/" RUN_IMAGES, run), *path = arena_printf(a, "%s/" INDEX, dir);
    size_t      len = 0;
    *out = (RunPictures){ 0 };
    if (!data_is_file(path, NULL))
        return true;
    const char  *text = file_read(a, d, path, &len);
    json_error_t err;
    json_t      *root = text != NULL ? json_loadb(text, len, JSON_REJECT_DUPLICATES, &err) : NULL;
    if (text != NULL && root == NULL)
        diag_error(d, (Loc){ path, err.line }, "pictures: %s", err.text);
    bool ok = root != NULL && load_samples(a, d, dir, root, out);
    json_decref(root);
    return ok;
}
