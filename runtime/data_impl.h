/* data_impl.h: what the files behind data.h share among themselves (and with their tests). */
#ifndef DETENT_RUNTIME_DATA_IMPL_H
#define DETENT_RUNTIME_DATA_IMPL_H

#include "runtime/data.h"

/* ---- Data sets ------------------------------------------------------------------------------------------------- */

/* What Augment.usual means. */
typedef enum Usual {
    USUAL_NONE,
    USUAL_SHIFT,  /* crop out of the picture padded by crop_pad; a left-right flip of every second one where `mirror` */
    USUAL_RESIZED /* random resized crop, every second one mirrored */
} Usual;

/* Noise that is made: the degraded picture is computed from the clean one (noise.c). */
typedef enum NoiseKind { NOISE_NONE, NOISE_GAUSSIAN, NOISE_CAMERA } NoiseKind;
typedef struct NoiseModel {
    NoiseKind kind;
    float     least, most; /* gaussian: standard deviation, 0 to 1; drawn between them for each picture */
} NoiseModel;

/* A sample in files; paths are below the directory of its split. */
typedef struct DataFile {
    const char *path;  /* of the picture; NULL: there is only the clean one */
    const char *clean; /* pairs */
    int32_t     label; /* classes */
} DataFile;
typedef VEC(DataFile) DataFiles;

/* What a data set hands to whoever makes floats of it: bytes that must not be written to. */
typedef struct Sample {
    Picture picture; /* c 0: there is none, noise is made */
    Picture clean;   /* pairs */
    int32_t label;
} Sample;

typedef struct Pack Pack;

struct Dataset {
    const char        *name; /* "mnist" */
    DataTask           task;
    int32_t            c, classes;
    const char *const *class_names; /* NULL: numbers */
    int32_t            h[SPLIT_COUNT], w[SPLIT_COUNT], count[SPLIT_COUNT];
    Usual              usual;
    int32_t            crop_pad;
    bool               mirror;
    int32_t            crops; /* pairs: training samples of a picture */
    NoiseModel         noise;
    int32_t            bad_limit, workers;
    /* Pictures that lie in memory: planes of classes, [count, c, h, w]; of pairs interleaved, [count, h, w, c]. */
    const uint8_t *pixels[SPLIT_COUNT], *clean[SPLIT_COUNT];
    const uint8_t *labels[SPLIT_COUNT]; /* u8[count] */
    /* Pictures in files, where `pixels` is NULL. */
    const char *dir[SPLIT_COUNT];
    DataFiles   files[SPLIT_COUNT];
    Pack       *pack; /* NULL: none */
};

Dataset *mnist_open(Arena *a, Diag *d, const DataRequest *r);
Dataset *cifar10_open(Arena *a, Diag *d, const DataRequest *r);
Dataset *cifar100_open(Arena *a, Diag *d, const DataRequest *r);
Dataset *folder_open(Arena *a, Diag *d, const DataRequest *r);
Dataset *pairs_open(Arena *a, Diag *d, const DataRequest *r);
Dataset *sidd_open(Arena *a, Diag *d, const DataRequest *r);

/* The pictures of a sample, in `a` or in the data set's own memory. False: reported. */
bool dataset_read(Arena *a, Diag *d, const Dataset *set, Split s, int32_t sample, Sample *out) DT_CHECKED;
/* Do samples come from files? To make one takes long then. */
bool dataset_decodes(const Dataset *d, Split s);

/* What pairs and sidd do alike once their files are found: noise, sizes, crops, cache. False: reported. */
bool pairs_finish(Arena *a, Diag *d, const DataRequest *r, Dataset *out) DT_CHECKED;
/* What is held out as one: pairs of a folder show the same scene in sidd, and must not be in both splits. */
typedef enum HoldOut { HOLD_OUT_PAIRS, HOLD_OUT_FOLDERS } HoldOut;
/* Every k-th (k >= 2) is for tests, but at least one. False: there is only one; nothing is done. */
bool pairs_hold_out(Arena *a, const DataFiles *all, HoldOut what, int32_t k, Dataset *out) DT_CHECKED;

/* ---- Files (listing.c) ----------------------------------------------------------------------------------------- */

/* Is `path` there and a regular file? Size in *bytes (may be NULL). */
bool data_is_file(const char *path, int64_t *bytes);
bool data_is_dir(const char *path);
/* "mnist: there is no directory X" or "mnist: X is a file, expected the directory of the data". */
void data_no_dir(Diag *d, const char *set, const char *dir);

typedef VEC(const char *) Names;
/* Directories in `dir`, sorted, without hidden ones. False: reported. */
bool list_dirs(Arena *a, Diag *d, const char *dir, Names *out) DT_CHECKED;
/* Pictures (by their names: .jpg, .jpeg, .png in any case) in `dir` and below, sorted, as paths from `dir`. */
bool list_pictures(Arena *a, Diag *d, const char *dir, Names *out) DT_CHECKED;
/* An archive in `dir`, the usual reason why nothing else is; NULL: none. */
const char *list_archive(Arena *a, const char *dir);

/* ---- Packed pixels (pack.c) ------------------------------------------------------------------------------------ */

/* The decoded pictures of a data set's files in one file of directory `cache`, mapped; made when it is not there or
 * stale. NULL: there will be none, which was warned about if it is no free choice. */
Pack *pack_open(Arena *a, Diag *d, const Dataset *set, const char *cache);
/* The picture of a sample (clean: the clean one). False: it is not in the pack, or damaged there. */
bool pack_get(const Pack *p, Split s, int32_t file, bool clean, Picture *out);

/* What decoding of the pictures of a split may make smaller: the shorter side of what is looked at; 0: nothing. */
int32_t dataset_at_least(const Dataset *d, Split s);

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

/* Has this build decoders? False: reported. */
bool picture_supported(Diag *d) DT_CHECKED;
/* Height and width as the header says. False: reported. */
bool picture_size(Diag *d, const char *path, int32_t *h, int32_t *w) DT_CHECKED;
bool picture_size_of(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w) DT_CHECKED;

/* Pictures of a MAT file: [rows, columns, h, w, c] bytes of MATLAB, row 0 first. */
typedef struct MatBlocks {
    int32_t  count, h, w, c;
    uint8_t *pixels; /* [count, h, w, c] */
} MatBlocks;
bool mat_read_blocks(Arena *a, Diag *d, const char *path, const char *variable, MatBlocks *out) DT_CHECKED;

/* ---- Random changes -------------------------------------------------------------------------------------------- */

/* Numbers of one sample for one purpose: a function of (seed, purpose, epoch, sample, how many were drawn). */
typedef struct Draws {
    uint64_t seed, at;
    uint32_t purpose, epoch;
} Draws;
Draws   draws_new(uint64_t seed, const char *purpose, int32_t epoch, int32_t sample);
double  draw_uniform(Draws *r, double from, double to); /* [from, to) */
int32_t draw_below(Draws *r, int32_t n);                /* 0 .. n - 1 */
double  draw_beta(Draws *r, double alpha);              /* Beta(alpha, alpha) */

/* How a picture is seen: output pixel (y, x) is source pixel (y + dy, x + dx), mirrored left-right when `mirror`; what
 * lies outside is black. All zero: as it is. */
typedef struct View {
    int32_t dy, dx;
    bool    mirror;
} View;
/* The training view of a sample of USUAL_SHIFT: a function of its arguments alone. */
View dataset_view(const Dataset *d, uint64_t seed, int32_t epoch, int32_t sample);

/* A region of a picture. */
typedef struct Region {
    int32_t top, left, h, w;
} Region;
/* torchvision's RandomResizedCrop: 8 to 100 % of the area, sides 3:4 to 4:3. */
Region region_random(Draws *r, int32_t h, int32_t w);

/* One of the symmetries of a square, as augmentation of pairs picks it: 1 mirrors, 2 turns upside down, 4 transposes
 * (of square regions alone). */
Picture picture_cut(Arena *a, const Picture *p, Region r, int32_t symmetry);
Picture picture_view(Arena *a, const Picture *p, View v);
/* The middle h x w after the shorter side was resized to a little more (methods of ImageNet's evaluation). */
Picture picture_center(Arena *a, const Picture *p, int32_t h, int32_t w);
/* The shorter side that picture_center resizes to. */
int32_t center_resize(int32_t side);

/* In place. Brightness, contrast and saturation times 1 - strength to 1 + strength, in a random order. */
void picture_jitter(Picture *p, Draws *r, double strength);
/* RandAugment: `ops` operations of one magnitude, 0 to 30 (randaugment.c). */
void picture_randaugment(Arena *a, Picture *p, Draws *r, int32_t ops, int32_t magnitude);
/* One operation of it ("rotate") of a magnitude in its own unit. False: there is none of that name. */
bool picture_operation(Arena *a, Picture *p, const char *name, double magnitude);
/* In place; factor 1 leaves the picture as it is. */
void picture_brightness(Picture *p, double factor);
void picture_contrast(Picture *p, double factor);
void picture_saturation(Picture *p, double factor);
/* torchvision's RandomErasing: which rectangle of an h x w picture; h 0: none was found. */
Region region_erase(Draws *r, int32_t h, int32_t w);

/* "gaussian:25", "gaussian:5-50", "camera". False: reported. */
bool noise_parse(Diag *d, const char *text, NoiseModel *out) DT_CHECKED;
/* The noisy picture and the standard deviation of what was added, both [h, w, c], from the clean one. */
void noise_make(Arena *a, const NoiseModel *m, const Picture *clean, uint64_t seed, int32_t epoch, int32_t sample,
                float *noisy, float *level);

/* ---- From samples to floats (sample.c) ------------------------------------------------------------------------- */

typedef struct PixelTable {
    float of[DATA_MAX_CHANNELS][256];
} PixelTable;
PixelTable pixel_table(Normalise n);

/* What makes samples: never changes while a loader lives. */
typedef struct SampleMaker {
    LoaderConfig c;
    PixelTable   values;
    int32_t      h, w, elems; /* of a sample */
} SampleMaker;
SampleMaker sample_maker(const LoaderConfig *c);
/* Where a sample goes; NULL: not wanted. Share and second label are the batch's business. */
typedef struct SampleOut {
    float   *image, *target, *noise;
    int32_t *label;
} SampleOut;
/* Memory on the way comes from `scratch`. False: reported; what was written is worth nothing. */
bool sample_make(const SampleMaker *m, Arena *scratch, Diag *d, int32_t epoch, int32_t sample,
                 const SampleOut *to) DT_CHECKED;

#endif
