/* picture.c: pictures from files and to files: which decoder, and what is refused before any decoder runs.
 *
 * A header of a few bytes can promise a picture of 65,000 x 65,000. What it promises is held against what a file of
 * that size can hold, and against a limit, before memory is taken.
 *
 * Tested by tests/unit/test_pictures.c, fuzzed by tests/fuzz. */
#include "runtime/pictures/pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SIDE = 65535, MAX_PIXELS = 100 * 1000 * 1000 };
static const int64_t max_file = 1LL << 30;

#ifdef DT_HAVE_PICTURES
static const PictureCodec *const codecs[] = { &picture_jpeg, &picture_png };
#endif

bool picture_plausible(Diag *d, const char *name, int64_t h, int64_t w, size_t bytes, int64_t ratio)
{
    const bool    sides = h > 0 && w > 0 && h <= MAX_SIDE && w <= MAX_SIDE;
    const int64_t pixels = sides ? h * w : 0;
    if (!sides || pixels > MAX_PIXELS) {
        diag_error(d, LOC_NONE, "picture: %s: its header says %lldx%lld, expected 1x1 to %d million pixels", name,
                   (long long)h, (long long)w, MAX_PIXELS / 1000000);
        return false;
    }
    if (pixels / ratio <= (int64_t)bytes)
        return true;
    diag_error(d, LOC_NONE, "picture: %s: damaged: its header says %lldx%lld, which a file of %zu bytes cannot hold",
               name, (long long)h, (long long)w, bytes);
    return false;
}

#ifdef DT_HAVE_PICTURES

bool picture_supported(Diag *d)
{
    (void)d;
    return true;
}

/* NULL: reported. */
static const PictureCodec *find_codec(Diag *d, const char *name, const uint8_t *data, size_t bytes)
{
    for (int32_t i = 0; i < DT_COUNT(codecs); i++)
        if (bytes >= (size_t)codecs[i]->n_magic && memcmp(data, codecs[i]->magic, (size_t)codecs[i]->n_magic) == 0)
            return codecs[i];
    if (bytes == 0)
        diag_error(d, LOC_NONE, "picture: %s: the file is empty", name);
    else
        diag_error(d, LOC_NONE, "picture: %s: neither JPEG nor PNG: it begins with 0x%02x%02x", name, data[0],
                   bytes > 1 ? data[1] : 0);
    return NULL;
}

bool picture_decode(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c, int32_t at_least,
                    Picture *out)
{
    DT_ASSERT(c == 1 || c == 3, "%d channels", c);
    const PictureCodec *codec = find_codec(d, name, data, bytes);
    return codec && codec->decode(a, d, name, data, bytes, c, at_least, out);
}

bool picture_size_of(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w)
{
    const PictureCodec *codec = find_codec(d, name, data, bytes);
    return codec && codec->size(d, name, data, bytes, h, w);
}

bool picture_write_png(Diag *d, const char *path, const Picture *p)
{
    Arena          a = arena_new("png");
    const uint8_t *data;
    size_t         bytes;
    bool           ok = picture_encode_png(&a, d, p, &data, &bytes) && file_write_atomic(d, path, data, bytes);
    arena_free(&a);
    return ok;
}

#else

bool picture_supported(Diag *d)
{
    diag_error(d, LOC_NONE, "picture: this build of Detent %s has no decoders (configured with DT_PICTURES=OFF)",
               DT_VERSION);
    diag_help(d, "install libturbojpeg0-dev, libpng-dev and libmatio-dev and configure with -DDT_PICTURES=ON");
    return false;
}

bool picture_decode(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c, int32_t at_least,
                    Picture *out)
{
    (void)a, (void)name, (void)data, (void)bytes, (void)c, (void)at_least, (void)out;
    return picture_supported(d);
}

bool picture_size_of(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w)
{
    (void)name, (void)data, (void)bytes, (void)h, (void)w;
    return picture_supported(d);
}

bool picture_write_png(Diag *d, const char *path, const Picture *p)
{
    (void)path, (void)p;
    return picture_supported(d);
}

bool picture_encode_png(Arena *a, Diag *d, const Picture *p, const uint8_t **data, size_t *bytes)
{
    (void)a, (void)p, (void)data, (void)bytes;
    return picture_supported(d);
}

bool mat_read_blocks(Arena *a, Diag *d, const char *path, const char *variable, MatBlocks *out)
{
    (void)a, (void)path, (void)variable, (void)out;
    return picture_supported(d);
}

#endif

/* ---- Files ----------------------------------------------------------------------------------------------------- */

/* The whole file. NULL: reported. */
static const uint8_t *read_file(Arena *a, Diag *d, const char *path, size_t *bytes)
{
    int64_t size = 0;
    if (!data_is_file(path, &size)) {
        diag_error(d, LOC_NONE, "picture: %s: %s", path,
                   data_is_dir(path) ? "it is a directory, expected a picture" : "there is no such file");
        return NULL;
    }
    if (size > max_file) {
        diag_error(d, LOC_NONE, "picture: %s: %lld bytes are more than a picture of %d million pixels has", path,
                   (long long)size, MAX_PIXELS / 1000000);
        return NULL;
    }
    return (const uint8_t *)file_read(a, d, path, bytes);
}

bool picture_read(Arena *a, Diag *d, const char *path, int32_t c, int32_t at_least, Picture *out)
{
    Arena          file = arena_new("picture");
    size_t         bytes;
    const uint8_t *data = read_file(&file, d, path, &bytes);
    bool           ok = data && picture_decode(a, d, path, data, bytes, c, at_least, out);
    arena_free(&file);
    return ok;
}

bool picture_size(Diag *d, const char *path, int32_t *h, int32_t *w)
{
    Arena          file = arena_new("picture");
    size_t         bytes;
    const uint8_t *data = read_file(&file, d, path, &bytes);
    bool           ok = data && picture_size_of(d, path, data, bytes, h, w);
    arena_free(&file);
    return ok;
}
