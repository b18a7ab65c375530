/* mnist.c: MNIST and what shares its form (Fashion-MNIST, KMNIST): four idx files, plain or gzip.
 *
 * An idx file is big-endian: u16 zero, u8 element type (8: unsigned byte), u8 rank, u32 dim[rank], then the elements.
 * zlib's gz* functions read plain files, too, so one path serves both. The header is not trusted: what it promises is
 * held against what a file of that size can hold before any memory is taken.
 *
 * Tested by tests/unit/test_data.c. */
#include "runtime/data_impl.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

enum { IMAGE_SIDE = 28, CLASSES = 10 };
/* deflate never shrinks by more than this. */
enum { DEFLATE_MAX_RATIO = 1032 };
enum { IDX_UBYTE = 8, IDX_MAX_RANK = 3 };

typedef struct IdxFile {
    const char *what; /* "training images" */
    const char *stem; /* file name without .gz */
    int32_t     rank;
} IdxFile;

static const IdxFile files[SPLIT_COUNT][2] = {
    [SPLIT_TRAIN] = { { "training images", "train-images-idx3-ubyte", 3 },
                      { "training labels", "train-labels-idx1-ubyte", 1 } },
    [SPLIT_TEST] = { { "test images", "t10k-images-idx3-ubyte", 3 }, { "test labels", "t10k-labels-idx1-ubyte", 1 } },
};

/* An open idx file, its header read. */
typedef struct Idx {
    gzFile      gz;
    const char *path;
    int64_t     file_bytes;
    int64_t     dim[IDX_MAX_RANK];
} Idx;

/* Says why gzread gave less than was asked for. */
static void report_short_read(Diag *d, const Idx *x, int64_t wanted, int64_t got)
{
    int         code = Z_OK;
    const char *text = gzerror(x->gz, &code), *colon = strrchr(text, ':'); /* zlib puts the path in front */
    if (code == Z_ERRNO)
        diag_error(d, LOC_NONE, "mnist: cannot read %s: %s", x->path, strerror(errno));
    else if (code == Z_BUF_ERROR && wanted == 0)
        diag_error(d, LOC_NONE, "mnist: %s is cut off: the end of its gzip stream is missing", x->path);
    else if (code == Z_OK || code == Z_BUF_ERROR)
        diag_error(d, LOC_NONE, "mnist: %s is cut off: %lld bytes were expected after what was read, %lld are there",
                   x->path, (long long)wanted, (long long)dt_max64(got, 0));
    else
        diag_error(d, LOC_NONE, "mnist: %s is damaged: %s", x->path, colon ? colon + 2 : text);
    diag_help(d, "fetch the file again");
}

static bool read_exactly(Diag *d, Idx *x, void *to, int64_t bytes)
{
    /* gzread counts in unsigned int */
    for (int64_t done = 0; done < bytes;) {
        unsigned chunk = (unsigned)dt_min64(bytes - done, 1 << 28);
        int      got = gzread(x->gz, (uint8_t *)to + done, chunk);
        if (got != (int)chunk) {
            report_short_read(d, x, bytes, done + (got > 0 ? got : 0));
            return false;
        }
        done += got;
    }
    return true;
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool idx_header(Diag *d, Idx *x, const IdxFile *f)
{
    uint8_t head[4 + 4 * IDX_MAX_RANK];
    if (!read_exactly(d, x, head, 4 + 4 * f->rank))
        return false;
    uint32_t magic = big_endian(head), expected = IDX_UBYTE << 8 | (uint32_t)f->rank;
    if (magic != expected) {
        diag_error(d, LOC_NONE, "mnist: %s is no idx file of %s: it begins with 0x%08x, expected 0x%08x", x->path,
                   f->what, magic, expected);
        return false;
    }
    int64_t elems = 1;
    for (int32_t i = 0; i < f->rank; i++) {
        x->dim[i] = big_endian(head + 4 + 4 * i);
        if (!dt_mul64(elems, x->dim[i], &elems) || elems > x->file_bytes * DEFLATE_MAX_RATIO || x->dim[i] == 0) {
            diag_error(d, LOC_NONE,
                       "mnist: %s: the header says %s %lld at place %d, which a file of %lld bytes cannot hold",
                       x->path, i == 0 ? "count" : "side", (long long)x->dim[i], i, (long long)x->file_bytes);
            return false;
        }
    }
    if (x->dim[0] > INT32_MAX) {
        diag_error(d, LOC_NONE, "mnist: %s: %lld samples are more than %d", x->path, (long long)x->dim[0], INT32_MAX);
        return false;
    }
    if (f->rank == 3 && (x->dim[1] != IMAGE_SIDE || x->dim[2] != IMAGE_SIDE)) {
        diag_error(d, LOC_NONE, "mnist: %s: images are %lldx%lld, expected %dx%d", x->path, (long long)x->dim[1],
                   (long long)x->dim[2], IMAGE_SIDE, IMAGE_SIDE);
        return false;
    }
    return true;
}

/* Nothing may follow the elements. Reading on also makes zlib check the CRC, and notice when that is cut off. */
static bool ends_here(Diag *d, Idx *x)
{
    uint8_t extra;
    int     code = Z_OK, got = gzread(x->gz, &extra, 1);
    if (got > 0) {
        diag_error(d, LOC_NONE, "mnist: %s goes on after the %lld samples that its header names", x->path,
                   (long long)x->dim[0]);
        return false;
    }
    gzerror(x->gz, &code);
    if (got < 0 || code != Z_OK)
        report_short_read(d, x, 0, 0);
    return got == 0 && code == Z_OK;
}

/* The elements of an idx file; their number in *count (samples). NULL: reported. */
static const uint8_t *idx_read(Arena *a, Diag *d, const char *path, const IdxFile *f, int32_t *count)
{
    Idx x = { .path = path };
    data_is_file(path, &x.file_bytes);
    errno = 0;
    x.gz = gzopen(path, "rb");
    if (!x.gz) {
        diag_error(d, LOC_NONE, "mnist: cannot open %s: %s", path, errno ? strerror(errno) : "out of memory");
        return NULL;
    }
    gzbuffer(x.gz, 1 << 17);
    uint8_t *data = NULL;
    if (idx_header(d, &x, f)) {
        int64_t bytes = x.dim[0] * (f->rank == 3 ? IMAGE_SIDE * IMAGE_SIDE : 1);
        data = arena_alloc(a, (size_t)bytes);
        if (!read_exactly(d, &x, data, bytes) || !ends_here(d, &x))
            data = NULL;
        *count = (int32_t)x.dim[0];
    }
    gzclose(x.gz);
    return data;
}

/* The path of a file, or NULL: neither it nor its .gz is in `dir`. */
static const char *find(Arena *a, const char *dir, const char *stem)
{
    const char *plain = arena_printf(a, "%s/%s", dir, stem), *packed = arena_printf(a, "%s.gz", plain);
    return data_is_file(plain, NULL) ? plain : data_is_file(packed, NULL) ? packed : NULL;
}

/* Which of the usual places has the first file; NULL: reported. */
static const char *find_dir(Arena *a, Diag *d, const char *dir)
{
    static const char *const places[] = { "", "/MNIST/raw", "/raw", "/mnist" };
    for (int32_t i = 0; i < DT_COUNT(places); i++) {
        const char *place = arena_printf(a, "%s%s", dir, places[i]);
        for (int32_t s = 0; s < SPLIT_COUNT; s++)
            for (int32_t k = 0; k < 2; k++)
                if (find(a, place, files[s][k].stem))
                    return place;
    }
    if (!data_is_dir(dir))
        diag_error(d, LOC_NONE,
                   data_is_file(dir, NULL) ? "mnist: %s is a file, expected the directory of the data"
                                           : "mnist: there is no directory %s",
                   dir);
    else
        diag_error(d, LOC_NONE, "mnist: %s has none of the data files", dir);
    diag_help(d, "looked in it and in its MNIST/raw for train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                 "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with or without .gz");
    return NULL;
}

static bool read_split(Arena *a, Diag *d, const char *dir, Split s, Dataset *out)
{
    const char *paths[2];
    for (int32_t k = 0; k < 2; k++) {
        paths[k] = find(a, dir, files[s][k].stem);
        if (!paths[k]) {
            diag_error(d, LOC_NONE, "mnist: %s lacks the %s: no %s and no %s.gz", dir, files[s][k].what,
                       files[s][k].stem, files[s][k].stem);
            return false;
        }
    }
    int32_t images = 0, labels = 0;
    out->pixels[s] = idx_read(a, d, paths[0], &files[s][0], &images);
    if (!out->pixels[s])
        return false;
    out->labels[s] = idx_read(a, d, paths[1], &files[s][1], &labels);
    if (!out->labels[s])
        return false;
    if (images != labels) {
        diag_error(d, LOC_NONE, "mnist: %d %s in %s, but %d labels in %s", images, files[s][0].what, paths[0], labels,
                   paths[1]);
        return false;
    }
    for (int32_t i = 0; i < labels; i++)
        if (out->labels[s][i] >= CLASSES) {
            diag_error(d, LOC_NONE, "mnist: %s: label %d of sample %d is none of 0..%d", paths[1], out->labels[s][i], i,
                       CLASSES - 1);
            return false;
        }
    out->count[s] = images;
    out->h[s] = out->w[s] = IMAGE_SIDE;
    return true;
}

Dataset *mnist_open(Arena *a, Diag *d, const DataRequest *r)
{
    const char *dir = find_dir(a, d, r->dir);
    if (!dir)
        return NULL;
    Dataset *m = ARENA_NEW(a, Dataset);
    *m = (Dataset){ .name = "mnist", .c = 1, .classes = CLASSES };
    for (Split s = 0; s < SPLIT_COUNT; s++)
        if (!read_split(a, d, dir, s, m))
            return NULL;
    return m;
}
