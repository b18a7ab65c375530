/* sizes.c: what the command line changes of a network: its classes and the size of its pictures, so that one file of
 * models/ serves any data set. A run's identity holds it in words of the command line, so that whoever has a checkpoint
 * builds the same network.
 *
 * Evaluations may be of another size and batch than training: params and states are the same, whatever the pictures'
 * size. Where nobody says one, it is that of the data set's test pictures.
 *
 * Tested by tests/unit/test_cli.c, test_cli_errors.c and tests/e2e/test_restore.py. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* Words of a run's identity. */
static const char *const sizes_options[] = { "classes", "image", "test-image" };

/* "64x96", height first; "64" is square. False: reported. */
static bool sizes_parse(Diag *d, const char *option, const char *text, int32_t *h, int32_t *w)
{
    char *end = NULL;
    long  a = strtol(text, &end, 10), b = a;
    bool  ok = end != text;
    if (ok && *end == 'x') {
        const char *second = end + 1;
        b = strtol(second, &end, 10);
        ok = end != second;
    }
    if (!ok || *end != 0 || a < 1 || b < 1 || a > DT_MAX_DIM || b > DT_MAX_DIM) {
        diag_error(d, LOC_NONE, "--%s: expected HEIGHTxWIDTH, each 1 to %d, found '%s'", option, DT_MAX_DIM, text);
        diag_help(d, "for instance --%s 64x64", option);
        return false;
    }
    *h = (int32_t)a;
    *w = (int32_t)b;
    return true;
}

bool session_resize(Session *s)
{
    CliOptions *o = &s->opt;
    DtModel    *m = arena_copy(&s->arena, s->model, sizeof *s->model);
    int32_t     h, w;
    if (o->classes > 0 && m->loss != DT_CROSS_ENTROPY) {
        diag_error(&s->diag, LOC_NONE,
                   "--classes: expected a network that tells classes, found %s, which makes pictures", m->name);
        return false;
    }
    if (o->classes > 0)
        m->classes = (int)o->classes;
    if (o->image != NULL) {
        if (!sizes_parse(&s->diag, "image", o->image, &h, &w))
            return false;
        m->image[1] = h;
        m->image[2] = w;
    }
    if (o->test_image != NULL && !sizes_parse(&s->diag, "test-image", o->test_image, &s->test_h, &s->test_w))
        return false;
    if (cli_given(o, "mixup"))
        m->training.mixup = (float)o->mixup;
    o->mixup = cli_decimal(&s->arena, m->training.mixup); /* for args.json */
    s->model = m;
    return true;
}

const char *session_sizes_text(Session *s)
{
    Str text = str_new(&s->arena);
    if (s->opt.classes > 0)
        str_printf(&text, "--classes=%lld", (long long)s->opt.classes);
    if (s->opt.image != NULL)
        str_printf(&text, "%s--image=%s", text.len > 0 ? " " : "", s->opt.image);
    if (s->opt.test_image != NULL)
        str_printf(&text, "%s--test-image=%s", text.len > 0 ? " " : "", s->opt.test_image);
    return text.len > 0 ? text.s : "";
}

bool session_sizes_adopt(Session *s, const char *text)
{
    StrList words = { 0 };
    if (text == NULL || !opts_words(&s->arena, text, &words))
        return true; /* an earlier version wrote none */
    for (int32_t i = 0; i < words.len; i++)
        for (int32_t k = 0; k < DT_COUNT(sizes_options); k++) {
            const char *start = arena_printf(&s->arena, "--%s=", sizes_options[k]);
            if (strncmp(words.at[i], start, strlen(start)) == 0 && !cli_given(&s->opt, sizes_options[k]) &&
                !cli_say(&s->arena, &s->diag, LOC_NONE, sizes_options[k], words.at[i] + strlen(start), &s->opt))
                return false;
        }
    return session_resize(s);
}

const DtModel *session_sized(Session *s, StepKind step, int64_t *batch)
{
    *batch = s->opt.batch;
    if (step != STEP_EVAL)
        return s->model;
    DtModel *m = arena_copy(&s->arena, s->model, sizeof *s->model);
    if (s->opt.eval_batch > 0)
        *batch = s->opt.eval_batch;
    if (s->test_h > 0) {
        m->image[1] = s->test_h;
        m->image[2] = s->test_w;
    }
    return m;
}

/* ---- Data ------------------------------------------------------------------------------------------------------ */

/* What the samples are must be what the network is trained against. */
static bool data_fits_task(Session *s, const Dataset *data)
{
    const bool classes = s->model->loss == DT_CROSS_ENTROPY;
    if (classes == (dataset_task(data) == DATA_CLASSES))
        return true;
    diag_error(&s->diag, LOC_NONE, "%s: the network %s, %s has %s", s->model->name,
               classes ? "tells classes" : "makes pictures", dataset_name(data),
               classes ? "pairs of pictures" : "pictures with classes");
    diag_help(&s->diag, "choose another --dataset, or change .loss of the network");
    return false;
}

static bool data_fits_shape(Session *s, const Dataset *data)
{
    const int *image = s->model->image;
    const int  has[3] = { dataset_channels(data), dataset_height(data, SPLIT_TRAIN), dataset_width(data, SPLIT_TRAIN) };
    if (has[0] != image[0] || has[1] != image[1] || has[2] != image[2]) {
        diag_error(&s->diag, LOC_NONE, "%s: the network expects images of %dx%dx%d, %s has %dx%dx%d", s->model->name,
                   image[0], image[1], image[2], dataset_name(data), has[0], has[1], has[2]);
        if (has[0] == image[0])
            diag_help(&s->diag, "add --image %dx%d, choose another --dataset, or change .image of the network", has[1],
                      has[2]);
        else
            diag_help(&s->diag, "choose another --dataset, or change .image of the network");
        return false;
    }
    if (dataset_task(data) == DATA_CLASSES && dataset_classes(data) != s->model->classes) {
        diag_error(&s->diag, LOC_NONE, "%s: the network has %d classes, %s has %d", s->model->name, s->model->classes,
                   dataset_name(data), dataset_classes(data));
        diag_help(&s->diag, "add --classes %d, choose another --dataset, or change .classes of the network",
                  dataset_classes(data));
        return false;
    }
    return true;
}

/* Names of a data set and of a directory. False: reported. */
static bool data_named(Session *s)
{
    if (s->opt.dataset == NULL) {
        diag_error(&s->diag, LOC_NONE,
                   "--dataset: expected the name of a data set, found none: network '%s' does not say one",
                   s->model->name);
        diag_help(&s->diag,
                  "add --dataset mnist or --dataset cifar10, or .training = { .data = \"mnist\" } to the network");
        return false;
    }
    if (s->opt.data == NULL) {
        diag_error(&s->diag, LOC_NONE, "--data: expected the directory that holds %s, found no such option",
                   s->opt.dataset);
        diag_help(&s->diag, "add --data DIR; a part of mnist lies in data/mnist-small of Detent's source");
        return false;
    }
    return true;
}

Dataset *session_data(Session *s)
{
    if (!data_named(s))
        return NULL;
    Dataset *data = dataset_open(&s->arena, &s->diag,
                                 &(DataRequest){ .name = s->opt.dataset,
                                                 .dir = s->opt.data,
                                                 .h = s->model->image[1],
                                                 .w = s->model->image[2],
                                                 .test_h = s->test_h,
                                                 .test_w = s->test_w,
                                                 .noise = s->opt.add_noise,
                                                 .crops = (int32_t)s->opt.crops,
                                                 .cache = s->opt.data_cache,
                                                 .bad_limit = (int32_t)s->opt.bad_limit,
                                                 .workers = (int32_t)s->opt.workers });
    if (data == NULL || !data_fits_task(s, data) || !data_fits_shape(s, data))
        return NULL;
    const int32_t h = dataset_height(data, SPLIT_TEST), w = dataset_width(data, SPLIT_TEST);
    if (s->opt.test_image != NULL && (h != s->test_h || w != s->test_w)) {
        diag_error(&s->diag, LOC_NONE, "--test-image: expected %dx%d, the size of %s, found %s", h, w,
                   dataset_name(data), s->opt.test_image);
        return NULL;
    }
    s->test_h = h;
    s->test_w = w;
    return data;
}

Normalise session_normalise(const DtModel *m)
{
    Normalise n;
    memcpy(n.mean, m->mean, sizeof(n.mean));
    memcpy(n.std, m->std, sizeof(n.std));
    return n;
}

SsimForm session_ssim(const Session *s)
{
    return str_eq(s->opt.ssim, "padded") ? SSIM_PADDED : SSIM_VALID;
}

/* "2" or "2:9": operations and their magnitude. False: reported. */
static bool parse_randaugment(Diag *d, const char *text, Augment *out)
{
    enum { MAGNITUDE = 9, MOST_OPS = 16, MOST_MAGNITUDE = 30 };
    char *end = NULL;
    long  n = strtol(text, &end, 10), m = MAGNITUDE;
    bool  ok = end != text;
    if (ok && *end == ':') {
        const char *second = end + 1;
        m = strtol(second, &end, 10);
        ok = end != second;
    }
    if (!ok || *end != 0 || n < 0 || n > MOST_OPS || m < 0 || m > MOST_MAGNITUDE) {
        diag_error(d, LOC_NONE,
                   "--randaugment: expected N or N:M, up to %d operations of magnitude 0 to %d, found '%s'", MOST_OPS,
                   MOST_MAGNITUDE, text);
        return false;
    }
    out->randaugment = (int32_t)n;
    out->randaugment_m = (int32_t)m;
    return true;
}

bool session_augment(Session *s, Augment *out)
{
    const CliOptions *o = &s->opt;
    *out = (Augment){ .usual = !o->no_augment };
    if (o->no_augment && (o->colour > 0 || o->erase > 0 || o->randaugment != NULL)) {
        diag_error(&s->diag, LOC_NONE, "--no-augment: expected neither --colour, --erase nor --randaugment beside it");
        return false;
    }
    out->colour = (float)o->colour;
    out->erase = (float)o->erase;
    out->mixup = s->model->training.mixup;
    return o->randaugment == NULL || parse_randaugment(&s->diag, o->randaugment, out);
}
