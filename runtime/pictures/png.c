/* png.c: PNG through libpng, read and written in memory.
 *
 * All forms become 8 bits a channel, grey or RGB: palettes are looked up, 16 bits are rounded, what is
 * transparent is shown as if it were not (as Pillow's convert("RGB")). libpng ends a call that fails with longjmp, so
 * what lives across it stands in a struct that setjmp's caller passes in.
 *
 * Tested by tests/unit/test_pictures.c, fuzzed by tests/fuzz. */
#include "runtime/pictures/pictures.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

/* deflate makes at most 1032 bytes of one; a pixel has at least 1/8 of a byte. */
enum { PIXELS_A_BYTE = 1032 * 8, HEADER_BYTES = 33 };
/* A chunk of text or of a colour profile may not take more. */
enum { CHUNK_LIMIT = 8 << 20, CHUNKS = 1000 };

typedef struct Png {
    const char    *name;
    png_structp    png;
    png_infop      info;
    const uint8_t *data;
    size_t         bytes, at;
    char           why[200];
} Png;

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool damaged(Diag *d, const char *name, const char *why)
{
    diag_error(d, LOC_NONE, "picture: %s: damaged PNG: %s", name, why);
    return false;
}

static bool png_size(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w)
{
    if (bytes < HEADER_BYTES || memcmp(data + 12, "IHDR", 4) != 0)
        return damaged(d, name, "it has no header");
    uint32_t width = big_endian(data + 16), height = big_endian(data + 20);
    if (!picture_plausible(d, name, height, width, bytes, PIXELS_A_BYTE))
        return false;
    *h = (int32_t)height;
    *w = (int32_t)width;
    return true;
}

static void on_error(png_structp png, png_const_charp message)
{
    Png *p = png_get_error_ptr(png);
    snprintf(p->why, sizeof p->why, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png, (void)message; /* of what is not shown: profiles, text */
}

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    Png *p = png_get_io_ptr(png);
    if (n > p->bytes - p->at)
        png_error(png, "it ends early");
    memcpy(to, p->data + p->at, n);
    p->at += n;
}

/* Asks libpng for 8-bit grey or RGB, whatever is stored. */
static void set_form(Png *p, int32_t c)
{
    png_set_scale_16(p->png);
    png_set_expand(p->png);
    png_set_strip_alpha(p->png);
    if (c == 3)
        png_set_gray_to_rgb(p->png);
    else
        png_set_rgb_to_gray_fixed(p->png, PNG_ERROR_ACTION_NONE, 29900, 58700); /* Rec. 601 */
    png_set_interlace_handling(p->png);
    png_read_update_info(p->png, p->info);
}

static bool read_rows(Png *p, int32_t c, Picture *out, png_bytepp rows)
{
    if (setjmp(png_jmpbuf(p->png)))
        return false;
    png_set_user_limits(p->png, INT32_MAX, INT32_MAX); /* picture_plausible has looked */
    png_set_chunk_cache_max(p->png, CHUNKS);
    png_set_chunk_malloc_max(p->png, CHUNK_LIMIT);
    png_set_read_fn(p->png, p, read_bytes);
    png_read_info(p->png, p->info);
    set_form(p, c);
    if (png_get_rowbytes(p->png, p->info) != (size_t)c * (size_t)out->w ||
        png_get_image_height(p->png, p->info) != (uint32_t)out->h)
        png_error(p->png, "its header says two things");
    png_read_image(p->png, rows);
    png_read_end(p->png, NULL);
    return true;
}

static bool png_decode(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c,
                       int32_t at_least, Picture *out)
{
    (void)at_least; /* a PNG has no smaller picture inside */
    int32_t h, w;
    if (!png_size(d, name, data, bytes, &h, &w))
        return false;
    Png p = { .name = name, .data = data, .bytes = bytes };
    p.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &p, on_error, on_warning);
    p.info = p.png ? png_create_info_struct(p.png) : NULL;
    if (!p.info) {
        png_destroy_read_struct(&p.png, NULL, NULL);
        diag_error(d, LOC_NONE, "picture: %s: libpng does not start", name);
        return false;
    }
    Arena      scratch = arena_new("rows");
    png_bytep *rows = ARENA_ARRAY(&scratch, png_bytep, h);
    *out = (Picture){ .c = c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)c * (size_t)h * (size_t)w) };
    for (int32_t y = 0; y < h; y++)
        rows[y] = out->pixels + (size_t)y * (size_t)w * (size_t)c;
    bool ok = read_rows(&p, c, out, rows);
    png_destroy_read_struct(&p.png, &p.info, NULL);
    arena_free(&scratch);
    return ok || damaged(d, name, p.why);
}

const PictureCodec picture_png = { .name = "PNG",
                                   .magic = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' },
                                   .n_magic = 8,
                                   .size = png_size,
                                   .decode = png_decode };

/* ---- Writing --------------------------------------------------------------------------------------------------- */

typedef struct PngOut {
    Str  bytes;
    char why[200];
} PngOut;

static void write_error(png_structp png, png_const_charp message)
{
    PngOut *o = png_get_error_ptr(png);
    snprintf(o->why, sizeof o->why, "%s", message);
    png_longjmp(png, 1);
}

static void write_bytes(png_structp png, png_bytep from, size_t n)
{
    PngOut *o = png_get_io_ptr(png);
    (void)png;
    str_addn(&o->bytes, (const char *)from, n);
}

static void write_nothing(png_structp png)
{
    (void)png;
}

static bool write_rows(PngOut *o, png_structp png, png_infop info, const Picture *p)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_write_fn(png, o, write_bytes, write_nothing);
    png_set_IHDR(png, info, (uint32_t)p->w, (uint32_t)p->h, 8, p->c == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int32_t y = 0; y < p->h; y++)
        png_write_row(png, p->pixels + (size_t)y * (size_t)p->w * (size_t)p->c);
    png_write_end(png, info);
    return true;
}

bool picture_encode_png(Arena *a, Diag *d, const Picture *p, const uint8_t **data, size_t *bytes)
{
    DT_ASSERT((p->c == 1 || p->c == 3) && p->h > 0 && p->w > 0, "picture %dx%dx%d", p->c, p->h, p->w);
    PngOut      o = { .bytes = str_new(a) };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &o, write_error, on_warning);
    png_infop   info = png ? png_create_info_struct(png) : NULL;
    bool        ok = info && write_rows(&o, png, info, p);
    png_destroy_write_struct(&png, &info);
    if (!ok) {
        diag_error(d, LOC_NONE, "picture: cannot make a PNG of %dx%d: %s", p->h, p->w, *o.why ? o.why : "no memory");
        return false;
    }
    *data = (const uint8_t *)o.bytes.s;
    *bytes = o.bytes.len;
    return true;
}
