/* picture_fixture.h: pictures for tests: made by a formula, encoded with the libraries, and Pillow's of
 * tests/reference/pictures.json. */
#ifndef DETENT_TESTS_PICTURE_FIXTURE_H
#define DETENT_TESTS_PICTURE_FIXTURE_H

#include "runtime/data_impl.h"
#include "tests/unit/runtime_fixture.h"

#include <jansson.h>
#ifdef DT_HAVE_PICTURES
#include <turbojpeg.h>
#endif

/* Smooth, so that JPEG changes it little; `shift` tells pictures apart. */
UNUSED static Picture smooth_picture(Arena *a, int32_t c, int32_t h, int32_t w, int32_t shift)
{
    Picture p = { .c = c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)(c * h * w)) };
    for (int32_t i = 0; i < h * w; i++)
        for (int32_t k = 0; k < c; k++)
            p.pixels[i * c + k] =
                (uint8_t)(127.5 + 100 * sin(0.11 * (i % w) + k + shift) * cos(0.07 * (i / w) - 0.5 * k));
    return p;
}

UNUSED static Picture copy_picture(Arena *a, const Picture *p)
{
    Picture copy = *p;
    copy.pixels = arena_copy(a, p->pixels, (size_t)(p->c * p->h * p->w));
    return copy;
}

#ifdef DT_HAVE_PICTURES

/* `format` TJPF_RGB, TJPF_GRAY or TJPF_CMYK. */
UNUSED static Bytes jpeg_bytes(Fixture *f, const Picture *p, int format, int subsampling, int quality, int flags)
{
    tjhandle       j = tjInitCompress();
    unsigned char *data = NULL;
    unsigned long  bytes = 0;
    assert_int_equal(tjCompress2(j, p->pixels, p->w, 0, p->h, format, &data, &bytes, subsampling, quality, flags), 0);
    Bytes out = { arena_copy(&f->arena, data, bytes), bytes };
    tjFree(data);
    tjDestroy(j);
    return out;
}

UNUSED static Bytes jpeg_of(Fixture *f, const Picture *p)
{
    return jpeg_bytes(f, p, p->c == 3 ? TJPF_RGB : TJPF_GRAY, p->c == 3 ? TJSAMP_444 : TJSAMP_GRAY, 95, 0);
}

UNUSED static Bytes png_of(Fixture *f, const Picture *p)
{
    const uint8_t *data;
    size_t         bytes;
    assert_true(picture_encode_png(&f->arena, &f->diag, p, &data, &bytes));
    return (Bytes){ arena_copy(&f->arena, data, bytes), bytes };
}

/* A picture file below the fixture's directory, its folders made. */
UNUSED static void put_picture(Fixture *f, const char *name, const Picture *p)
{
    const char *path = path_in(f, name), *dot = strrchr(name, '.');
    char       *dir = arena_strdup(&f->arena, path);
    *strrchr(dir, '/') = 0;
    assert_true(dir_make(&f->diag, dir));
    Bytes b = str_eq(dot, ".png") || str_eq(dot, ".PNG") ? png_of(f, p) : jpeg_of(f, p);
    write_file(path, b.at, b.len);
}

#endif

/* ---- Pillow's -------------------------------------------------------------------------------------------------- */

UNUSED static json_t *pillow_results(void)
{
    json_error_t e;
    json_t      *j = json_load_file(DT_SOURCE_DIR "/tests/reference/pictures.json", 0, &e);
    if (!j)
        fail_msg("pictures.json:%d: %s", e.line, e.text);
    return j;
}

UNUSED static Picture hex_picture(Arena *a, const json_t *hex, int32_t c, int32_t h, int32_t w)
{
    const char *text = json_string_value(hex);
    Picture     p = { .c = c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)(c * h * w)) };
    assert_non_null(text);
    assert_int_equal(strlen(text), 2 * c * h * w);
    for (int32_t i = 0; i < c * h * w; i++) {
        unsigned byte;
        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        p.pixels[i] = (uint8_t)byte;
    }
    return p;
}

UNUSED static Picture pillow_picture(Arena *a, const json_t *j)
{
    return hex_picture(a, json_object_get(j, "picture"), 3, (int32_t)json_integer_value(json_object_get(j, "h")),
                       (int32_t)json_integer_value(json_object_get(j, "w")));
}

/* The largest difference of two pictures of one shape. */
UNUSED static int32_t picture_distance(const Picture *a, const Picture *b)
{
    assert_int_equal(a->c, b->c);
    assert_int_equal(a->h, b->h);
    assert_int_equal(a->w, b->w);
    int32_t most = 0;
    for (int32_t i = 0; i < a->c * a->h * a->w; i++) {
        int32_t x = abs(a->pixels[i] - b->pixels[i]);
        most = x > most ? x : most;
    }
    return most;
}

#endif
