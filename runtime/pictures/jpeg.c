/* jpeg.c: JPEG through TurboJPEG.
 *
 * DCT scaling: a block of 8 x 8 coefficients can be turned into 4 x 4, 2 x 2 or 1 pixel for a part of the time. Where a
 * picture is scaled down afterwards anyway, at_least asks for it; 1/2, 1/4 and 1/8 have fast code, others are not used.
 *
 * A file that ends early is decoded by the library with a warning, the rest grey. That is a damaged picture here, and
 * so is every other warning but those that are known to be harmless.
 *
 * Tested by tests/unit/test_pictures.c, fuzzed by tests/fuzz. */
#include "runtime/pictures/pictures.h"

#include <string.h>
#include <turbojpeg.h>

/* Each 8 x 8 block of the largest component takes at least one bit. */
enum { PIXELS_A_BYTE = 8 * 64 };

/* Parts of warnings about files that are whole all the same. */
static const char *const harmless[] = { "extraneous bytes before marker", "unknown JFIF revision",
                                        "Invalid SOS parameters", "Unknown Adobe color transform" };

static bool              is_harmless(const char *warning)
{
    for (int32_t i = 0; i < DT_COUNT(harmless); i++)
        if (strstr(warning, harmless[i]))
            return true;
    return false;
}

/* Whether the marker that ends a picture is there: only the first warning is known, a harmless one may hide another. */
static bool has_end(const uint8_t *data, size_t bytes)
{
    for (size_t i = bytes; i-- > 1;)
        if (data[i - 1] == 0xff && data[i] == 0xd9)
            return true;
    return false;
}

static bool damaged(Diag *d, const char *name, const char *why)
{
    diag_error(d, LOC_NONE, "picture: %s: damaged JPEG: %s", name, why);
    return false;
}

/* Opens and reads the header. NULL: reported. */
static tjhandle read_header(Diag *d, const char *name, const uint8_t *data, size_t bytes, int *w, int *h, int *space)
{
    int      subsampling;
    tjhandle j = tjInitDecompress();
    if (!j) {
        diag_error(d, LOC_NONE, "picture: %s: TurboJPEG does not start: %s", name, tjGetErrorStr2(NULL));
        return NULL;
    }
    *w = *h = *space = 0;
    if (tjDecompressHeader3(j, data, bytes, w, h, &subsampling, space) != 0 &&
        (tjGetErrorCode(j) != TJERR_WARNING || !is_harmless(tjGetErrorStr2(j))))
        damaged(d, name, tjGetErrorStr2(j));
    else if (*w <= 0 || *h <= 0)
        damaged(d, name, "it has no picture");
    else if (picture_plausible(d, name, *h, *w, bytes, PIXELS_A_BYTE))
        return j;
    tjDestroy(j);
    return NULL;
}

static bool jpeg_size(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w)
{
    int      width, height, space;
    tjhandle j = read_header(d, name, data, bytes, &width, &height, &space);
    if (!j)
        return false;
    tjDestroy(j);
    *h = height;
    *w = width;
    return true;
}

/* The smallest fast scale that leaves the shorter side at least that long. */
static tjscalingfactor choose_scale(int w, int h, int32_t at_least)
{
    tjscalingfactor scale = { 1, 1 };
    for (int denom = 2; at_least > 0 && denom <= 8; denom *= 2) {
        tjscalingfactor smaller = { 1, denom };
        if (TJSCALED(w, smaller) < at_least || TJSCALED(h, smaller) < at_least)
            break;
        scale = smaller;
    }
    return scale;
}

/* Inks, stored the other way round as Adobe's programs do, which nearly all such files come from. */
static void inks_to_colours(const uint8_t *cmyk, int64_t pixels, int32_t c, uint8_t *out)
{
    for (int64_t i = 0; i < pixels; i++) {
        const uint8_t *ink = cmyk + 4 * i;
        uint32_t       rgb[3];
        for (int k = 0; k < 3; k++)
            rgb[k] = (ink[k] * (uint32_t)ink[3] + 127) / 255;
        for (int k = 0; k < 3 && c == 3; k++)
            out[3 * i + k] = (uint8_t)rgb[k];
        if (c == 1) /* the weights of Rec. 601 in 1/65536, as everywhere in JPEG */
            out[i] = (uint8_t)((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16);
    }
}

static bool decompress(Diag *d, const char *name, tjhandle j, const uint8_t *data, size_t bytes, const Picture *p,
                       int format, uint8_t *to)
{
    if (tjDecompress2(j, data, bytes, to, p->w, 0, p->h, format, TJFLAG_LIMITSCANS) == 0)
        return true;
    const char *why = tjGetErrorStr2(j);
    if (tjGetErrorCode(j) == TJERR_WARNING && is_harmless(why))
        return has_end(data, bytes) || damaged(d, name, "it ends early");
    return damaged(d, name, why);
}

static bool jpeg_decode(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c,
                        int32_t at_least, Picture *out)
{
    int      w, h, space;
    tjhandle j = read_header(d, name, data, bytes, &w, &h, &space);
    if (!j)
        return false;
    tjscalingfactor scale = choose_scale(w, h, at_least);
    *out = (Picture){ .c = c, .h = TJSCALED(h, scale), .w = TJSCALED(w, scale) };
    const int64_t pixels = (int64_t)out->h * out->w;
    const bool    inks = space == TJCS_CMYK || space == TJCS_YCCK;
    Arena         scratch = arena_new("inks");
    uint8_t      *cmyk = inks ? arena_alloc(&scratch, (size_t)(4 * pixels)) : NULL;
    out->pixels = arena_alloc(a, (size_t)(c * pixels));
    bool ok = decompress(d, name, j, data, bytes, out,
                         inks     ? TJPF_CMYK
                         : c == 1 ? TJPF_GRAY
                                  : TJPF_RGB,
                         inks ? cmyk : out->pixels);
    if (ok && inks)
        inks_to_colours(cmyk, pixels, c, out->pixels);
    arena_free(&scratch);
    tjDestroy(j);
    return ok;
}

const PictureCodec picture_jpeg = {
    .name = "JPEG", .magic = { 0xff, 0xd8, 0xff }, .n_magic = 3, .size = jpeg_size, .decode = jpeg_decode
};
