/* data.h: samples, from files to batches.
 *
 * A *data set* has two splits of samples. A sample is a picture with a label (classification), or a pair of pictures,
 * one degraded and one clean (restoration). Pictures are bytes, 8 bits a channel; they lie in memory, in a file of
 * packed pixels that is mapped, or are decoded when they are asked for. The *loader* turns samples into batches of
 * floats, some batches ahead, on threads of its own.
 *
 * Every random choice - order, crop, flip, colour, mixing, noise - is a function of (seed, epoch, sample) alone, so
 * what the network sees depends neither on timing nor on the number of threads.
 *
 *   dataset.c         the table of data sets              mnist.c cifar.c folder.c pairs.c sidd.c   one data set each
 *   pictures/         decoders: JPEG, PNG, MAT            augment*.c noise.c resize.c               random changes
 *   pack.c            packed pixels on disk, mapped       loader.c sample.c                         batches
 *
 * What returns a pointer takes it from the Arena given; NULL or false means that the Diag was told.
 * Tested by tests/unit/test_data.c, test_pictures.c, test_augment.c, test_folder.c; fuzzed by tests/fuzz. */
#ifndef DETENT_RUNTIME_DATA_H
#define DETENT_RUNTIME_DATA_H

#include "base/base.h"

typedef enum Split { SPLIT_TRAIN, SPLIT_TEST, SPLIT_COUNT } Split;
const char *split_name(Split s); /* "training", "test" */

enum { DATA_MAX_CHANNELS = 3 };

typedef enum DataTask {
    DATA_CLASSES, /* a picture and its class */
    DATA_PAIRS    /* a degraded picture and the clean one, of one size */
} DataTask;

/* What a run wants of its data. Zero: the data set's own choice. */
typedef struct DataRequest {
    const char *name; /* row of dataset_table */
    const char *dir;
    int32_t     h, w;           /* of a training sample: what the network was built for */
    int32_t     test_h, test_w; /* of a test sample; 0: as for training, of pairs the largest all test pictures have */
    const char *noise;     /* pairs: NULL: the degraded pictures of the files; "gaussian:25" (sigma of 255) or "camera"
                              (CBDNet's, signal-dependent): made from the clean ones */
    int32_t     crops;     /* pairs: training samples of each picture in an epoch, each cut out elsewhere; 0: 1 */
    const char *cache;     /* directory for packed pixels; NULL: none */
    int32_t     bad_limit; /* broken pictures that a loader may pass over; each is named */
    int32_t     workers;   /* threads of a loader that does not say how many; 0: as many as are worth while */
} DataRequest;

/* Owns what it points to (in its arena) and never changes it: any number of threads may read. */
typedef struct Dataset Dataset;

typedef struct DatasetInfo {
    const char *name, *doc;
    DataTask    task;
    Dataset *(*open)(Arena *a, Diag *d, const DataRequest *r);
} DatasetInfo;
extern const DatasetInfo dataset_table[];
extern const int32_t     dataset_table_len;

/* NULL: reported (unknown name with the nearest, what was looked for and not found, which file is damaged and how). */
Dataset *dataset_open(Arena *a, Diag *d, const DataRequest *r);
/* The same set with only the first `count` samples of a split, when it has more. */
Dataset    *dataset_head(Arena *a, const Dataset *d, Split s, int32_t count);

DataTask    dataset_task(const Dataset *d);
const char *dataset_name(const Dataset *d);
int32_t     dataset_classes(const Dataset *d);          /* 0: pairs */
const char *dataset_class(const Dataset *d, int32_t i); /* "n01440764", "7"; never NULL */
int32_t     dataset_channels(const Dataset *d);
int32_t     dataset_height(const Dataset *d, Split s); /* of what the loader hands out */
int32_t     dataset_width(const Dataset *d, Split s);
int32_t     dataset_count(const Dataset *d, Split s); /* samples, at least 1 */
/* "n01440764/a.JPEG", "test 17" */
const char *dataset_sample_name(Arena *a, const Dataset *d, Split s, int32_t sample);

/* Value of a pixel byte: (byte / 255 - mean[channel]) / std[channel]; std 0: byte / 255. Targets are byte / 255. */
typedef struct Normalise {
    float mean[DATA_MAX_CHANNELS], std[DATA_MAX_CHANNELS];
} Normalise;

/* ---- Batches --------------------------------------------------------------------------------------------------- */

/* How training samples are changed. Zero: not at all. */
typedef struct Augment {
    bool usual;     /* what the data set is usually given: CIFAR pad 4, crop, mirror; ImageFolder random resized crop,
                       mirror; pairs: random crop, flips, transpose; MNIST nothing */
    float   colour; /* strength of brightness, contrast and saturation, 0.4 say */
    float   erase;  /* probability that a rectangle is erased */
    float   mixup;  /* alpha of the beta distribution: two samples of a batch are mixed, targets as well */
    int32_t randaugment; /* operations a picture, of magnitude randaugment_m; 0: none */
    int32_t randaugment_m;
} Augment;

/* Training batches: a fresh permutation each epoch, the last partial batch dropped. Test batches: in order, the last
 * one filled up with sample 0. */
typedef struct Loader Loader;
typedef struct LoaderConfig {
    const Dataset *data;
    Split          split;
    int32_t        batch;
    bool           nhwc;    /* layout of the pictures; else NCHW */
    Augment        augment; /* training split only */
    Normalise      normalise;
    uint64_t       seed;
    int32_t        threads; /* 0: as the request said; else one, for what must be decoded two */
} LoaderConfig;

/* Where a batch goes; NULL: not wanted. */
typedef struct BatchOut {
    float   *image;  /* f32 [N, c, h, w] (or NHWC), normalised */
    int32_t *label;  /* i32 [N, 1]; pairs: zeros */
    int32_t *label2; /* i32 [N, 1] and f32 [N, 1]: with mixup the other label and the share of the first */
    float   *share;
    float   *target; /* f32, the shape and layout of image: the clean picture, 0 to 1 */
    float   *noise;  /* f32, the same: standard deviation of the noise that was made, -1 where it is not known */
} BatchOut;

Loader *loader_new(Arena *a, Diag *d, LoaderConfig c); /* NULL: reported (batch larger than the training set) */
int32_t loader_batches(const Loader *l);               /* of an epoch */
void    loader_start(Loader *l, int32_t epoch, int32_t first_batch);
/* Copies the next batch. How many samples of it count: N but in the last test batch; 0 when the epoch is over (nothing
 * is written); -1: a picture could not be read, reported. Of the first bad_limit pictures that cannot be read each is
 * warned about once, by name, with the sample that stands in its place: the next sound one of the epoch's order. */
int32_t loader_next(Loader *l, const BatchOut *to);
double  loader_wait_s(const Loader *l); /* seconds that loader_next spent waiting for data, in total */
void    loader_free(Loader *l);         /* ends the threads; NULL is fine */

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

/* Interleaved rows, h w c bytes. */
typedef struct Picture {
    int32_t  c, h, w;
    uint8_t *pixels;
} Picture;

/* JPEG or PNG by its first bytes, as grey (c 1) or RGB (c 3). at_least: the shorter side may be decoded smaller (DCT
 * scaling) as long as it is at least that; 0: whole. False: reported, with the path. */
bool picture_read(Arena *a, Diag *d, const char *path, int32_t c, int32_t at_least, Picture *out) DT_CHECKED;
/* The same from memory; `name` is for messages. */
bool picture_decode(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c, int32_t at_least,
                    Picture *out) DT_CHECKED;
/* Atomically, as PNG. */
bool picture_write_png(Diag *d, const char *path, const Picture *p) DT_CHECKED;
/* PNG in memory, for reports. */
bool picture_encode_png(Arena *a, Diag *d, const Picture *p, const uint8_t **data, size_t *bytes) DT_CHECKED;
/* Resized with an anti-aliasing filter (bilinear or bicubic as Pillow's), a region of the source to h x w. */
typedef enum Filter { FILTER_BILINEAR, FILTER_BICUBIC } Filter;
Picture picture_resize(Arena *a, const Picture *p, double top, double left, double height, double width, int32_t h,
                       int32_t w, Filter f);

#endif
