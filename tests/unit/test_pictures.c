/* test_pictures.c: JPEG, PNG and MAT, whole, odd and damaged; resizing against Pillow. */
#include "tests/unit/picture_fixture.h"

#ifdef DT_HAVE_PICTURES
#include <matio.h>
#include <png.h>

static bool decode(Fixture *f, Bytes b, int32_t c, int32_t at_least, Picture *out)
{
    return picture_decode(&f->arena, &f->diag, "x", b.at, b.len, c, at_least, out);
}

static void expect_bad(Fixture *f, Bytes b, const char *part)
{
    Picture p;
    assert_false(decode(f, b, 3, 0, &p));
    assert_one_error(f, part);
}

static Bytes cut(Bytes b, size_t len)
{
    return (Bytes){ b.at, len };
}

/* ---- JPEG ------------------------------------------------------------------------------------------------------ */

static void jpeg_becomes_rgb_and_grey(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 61, 83, 0), q;
    for (int progressive = 0; progressive < 2; progressive++) {
        Bytes b = jpeg_bytes(f, &p, TJPF_RGB, TJSAMP_444, 95, progressive ? TJFLAG_PROGRESSIVE : 0);
        assert_true(decode(f, b, 3, 0, &q));
        assert_in_range(picture_distance(&p, &q), 1, 12);
        int32_t h, w;
        assert_true(picture_size_of(&f->diag, "x", b.at, b.len, &h, &w));
        assert_true(h == 61 && w == 83);
        assert_true(decode(f, b, 1, 0, &q));
        assert_true(q.c == 1 && q.h == 61 && q.w == 83);
        for (int i = 0; i < 61 * 83; i++) {
            const uint8_t *x = p.pixels + 3 * i;
            assert_true(fabs(0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2] - q.pixels[i]) < 8);
        }
    }
    Picture grey = smooth_picture(&f->arena, 1, 20, 30, 1);
    assert_true(decode(f, jpeg_of(f, &grey), 3, 0, &q));
    assert_true(q.c == 3 && q.pixels[30] == q.pixels[31] && q.pixels[31] == q.pixels[32]);
    assert_no_errors(f);
}

/* Printers' files hold inks, the other way round: white is 255 of each. */
static void jpeg_of_inks_becomes_rgb(void **state)
{
    Fixture *f = *state;
    Picture  ink = { .c = 4, .h = 16, .w = 32, .pixels = arena_alloc(&f->arena, 16 * 32 * 4) }, q, grey;
    for (int i = 0; i < 16 * 32; i++)
        memcpy(ink.pixels + 4 * i, i % 32 < 16 ? (uint8_t[4]){ 200, 100, 50, 255 } : (uint8_t[4]){ 255, 255, 255, 128 },
               4);
    Bytes b = jpeg_bytes(f, &ink, TJPF_CMYK, TJSAMP_444, 100, 0);
    assert_true(decode(f, b, 3, 0, &q) && decode(f, b, 1, 0, &grey));
    assert_no_errors(f);
    const int want[2][3] = { { 200, 100, 50 }, { 128, 128, 128 } };
    for (int side = 0; side < 2; side++) {
        const uint8_t *x = q.pixels + 3 * (8 * 32 + 16 * side + 8);
        for (int k = 0; k < 3; k++)
            assert_in_range(x[k], want[side][k] - 3, want[side][k] + 3);
        double y = 0.299 * want[side][0] + 0.587 * want[side][1] + 0.114 * want[side][2];
        assert_true(fabs(grey.pixels[8 * 32 + 16 * side + 8] - y) < 4);
    }
}

static void jpeg_is_decoded_smaller_but_not_too_small(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 160, 240, 0), q;
    Bytes    b = jpeg_of(f, &p);
    const struct {
        int32_t at_least, h, w;
    } cases[] = { { 0, 160, 240 }, { 160, 160, 240 }, { 81, 160, 240 }, { 80, 80, 120 },  { 41, 80, 120 },
                  { 40, 40, 60 },  { 20, 20, 30 },    { 1, 20, 30 },    { 999, 160, 240 } };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        assert_true(decode(f, b, 3, cases[i].at_least, &q));
        assert_int_equal(q.h, cases[i].h);
        assert_int_equal(q.w, cases[i].w);
        Picture same = picture_resize(&f->arena, &p, 0, 0, 160, 240, q.h, q.w, FILTER_BILINEAR);
        assert_in_range(picture_distance(&same, &q), 0, 12);
    }
}

static void damaged_jpeg_is_refused(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 61, 83, 0), q;
    Bytes    b = jpeg_of(f, &p), broken = { arena_copy(&f->arena, b.at, b.len), b.len };
    expect_bad(f, cut(b, 0), "x: the file is empty");
    expect_bad(f, cut(b, 1), "x: neither JPEG nor PNG: it begins with 0xff00");
    expect_bad(f, cut(b, 20), "x: damaged JPEG");
    expect_bad(f, cut(b, b.len / 2), "x: damaged JPEG: Premature end");
    expect_bad(f, cut(b, b.len - 30), "damaged JPEG");
    expect_bad(f, (Bytes){ (uint8_t *)"GIF89a", 6 }, "neither JPEG nor PNG: it begins with 0x4749");

    /* SOF0: marker, length, 8, height, width. */
    uint8_t *frame = broken.at;
    while (frame[0] != 0xff || frame[1] != 0xc0)
        frame++;
    frame[5] = frame[7] = 0xff;
    expect_bad(f, broken, "its header says 65341x65363, expected 1x1 to 100 million pixels");
    frame[5] = frame[7] = 0x20;
    expect_bad(f, broken, "damaged: its header says 8253x8275, which a file of");
    frame[5] = frame[6] = 0;
    expect_bad(f, broken, "damaged JPEG");

    /* Padding in front of the end is common, and harmless. */
    Bytes padded = { arena_alloc(&f->arena, b.len + 4), b.len + 4 };
    memcpy(padded.at, b.at, b.len - 2);
    memcpy(padded.at + b.len + 2, b.at + b.len - 2, 2);
    assert_true(decode(f, padded, 3, 0, &q));
    assert_no_errors(f);
}

/* ---- PNG ------------------------------------------------------------------------------------------------------- */

static void png_keeps_every_byte(void **state)
{
    Fixture *f = *state;
    for (int c = 1; c <= 3; c += 2) {
        Picture     p = smooth_picture(&f->arena, c, 37, 29, 0), q;
        const char *path = path_in(f, "x.png");
        assert_true(picture_write_png(&f->diag, path, &p));
        assert_true(picture_read(&f->arena, &f->diag, path, c, 0, &q));
        assert_int_equal(picture_distance(&p, &q), 0);
        int32_t h, w;
        assert_true(picture_size(&f->diag, path, &h, &w) && h == 37 && w == 29);
        assert_true(picture_read(&f->arena, &f->diag, path, 4 - c, 0, &q));
        assert_int_equal(q.c, 4 - c);
        const uint8_t *x = (c == 3 ? p : q).pixels;
        uint8_t        one = (c == 3 ? q : p).pixels[0];
        assert_true(fabs(0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2] - one) < 1.5);
    }
    Picture q;
    assert_false(picture_read(&f->arena, &f->diag, path_in(f, "absent.png"), 3, 0, &q));
    assert_one_error(f, "absent.png: there is no such file");
    assert_false(picture_read(&f->arena, &f->diag, f->dir, 3, 0, &q));
    assert_one_error(f, "it is a directory, expected a picture");
    assert_false(picture_write_png(&f->diag, path_in(f, "absent/x.png"), &(Picture){ 1, 1, 1, (uint8_t[1]){ 0 } }));
    assert_one_error(f, "absent/x.png");
}

/* Rows as libpng wants them, in any of its forms. */
static Bytes odd_png(Fixture *f, int form, int depth, int interlace, int h, int w, const uint8_t *rows, int row_bytes)
{
    char       *text = NULL;
    size_t      len = 0;
    FILE       *out = open_memstream(&text, &len);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop   info = png_create_info_struct(png);
    png_bytep   at[64];
    png_init_io(png, out);
    png_set_IHDR(png, info, (uint32_t)w, (uint32_t)h, depth, form, interlace, 0, 0);
    if (form == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, (png_color[]){ { 1, 2, 3 }, { 40, 50, 60 }, { 255, 0, 128 } }, 3);
    png_write_info(png, info);
    for (int y = 0; y < h; y++)
        at[y] = (uint8_t *)(uintptr_t)(rows + y * row_bytes);
    png_write_image(png, at);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    fclose(out);
    Bytes b = { arena_copy(&f->arena, text, len), len };
    free(text);
    return b;
}

static void all_forms_of_png_become_rgb(void **state)
{
    Fixture *f = *state;
    Picture  q;
    uint8_t  palette[2 * 3] = { 0, 1, 2, 2, 1, 0 };
    for (int interlace = 0; interlace < 2; interlace++) {
        assert_true(decode(f, odd_png(f, PNG_COLOR_TYPE_PALETTE, 8, interlace, 2, 3, palette, 3), 3, 0, &q));
        assert_memory_equal(q.pixels,
                            ((uint8_t[]){ 1, 2, 3, 40, 50, 60, 255, 0, 128, 255, 0, 128, 40, 50, 60, 1, 2, 3 }), 18);
    }
    uint8_t deep[2 * 6] = { 0, 0, 0x80, 0x80, 0xff, 0xff, 0x12, 0x12, 0x40, 0x40, 0xfe, 0xfe };
    assert_true(decode(f, odd_png(f, PNG_COLOR_TYPE_RGB, 16, 0, 1, 2, deep, 12), 3, 0, &q));
    assert_memory_equal(q.pixels, ((uint8_t[]){ 0, 0x80, 0xff, 0x12, 0x40, 0xfe }), 6);
    uint8_t glass[2 * 4] = { 9, 8, 7, 0, 60, 50, 40, 200 }; /* what is transparent is seen */
    assert_true(decode(f, odd_png(f, PNG_COLOR_TYPE_RGB_ALPHA, 8, 0, 1, 2, glass, 8), 3, 0, &q));
    assert_memory_equal(q.pixels, ((uint8_t[]){ 9, 8, 7, 60, 50, 40 }), 6);
    uint8_t bits[1] = { 0xa0 };
    assert_true(decode(f, odd_png(f, PNG_COLOR_TYPE_GRAY, 1, 0, 1, 4, bits, 1), 3, 0, &q));
    assert_memory_equal(q.pixels, ((uint8_t[]){ 255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0 }), 12);
    assert_no_errors(f);
}

static uint32_t crc_of(const uint8_t *data, size_t n)
{
    return (uint32_t)crc32(0, data, (uInt)n);
}

static void put_u32(uint8_t *to, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(x >> (24 - 8 * i));
}

static void damaged_png_is_refused(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 61, 83, 0);
    Bytes    b = png_of(f, &p), x = { arena_copy(&f->arena, b.at, b.len), b.len };
    expect_bad(f, cut(b, 20), "x: damaged PNG: it has no header");
    expect_bad(f, cut(b, b.len / 2), "damaged PNG: it ends early");
    expect_bad(f, cut(b, b.len - 6), "damaged PNG");
    x.at[b.len / 2] ^= 0x10;
    expect_bad(f, x, "damaged PNG: IDAT");
    memcpy(x.at, b.at, b.len);
    put_u32(x.at + 16, 60000);
    put_u32(x.at + 20, 60000);
    put_u32(x.at + 29, crc_of(x.at + 12, 17)); /* so that libpng would believe it */
    expect_bad(f, x, "its header says 60000x60000, expected 1x1 to 100 million pixels");
    put_u32(x.at + 16, 0);
    put_u32(x.at + 29, crc_of(x.at + 12, 17));
    expect_bad(f, x, "its header says 60000x0");
    put_u32(x.at + 16, 0x80000001u);
    expect_bad(f, x, "its header says 60000x2147483649");
    put_u32(x.at + 16, 0xffffffffu);
    put_u32(x.at + 20, 0xffffffffu);
    expect_bad(f, x, "its header says 4294967295x4294967295");
}

/* ---- Resizing -------------------------------------------------------------------------------------------------- */

static void resizing_is_pillows(void **state)
{
    Fixture *f = *state;
    json_t  *j = pillow_results(), *cases = json_object_get(j, "resized"), *x;
    Picture  p = pillow_picture(&f->arena, j);
    size_t   i;
    assert_true(json_array_size(cases) >= 14);
    json_array_foreach(cases, i, x)
    {
        bool    cubic = str_eq(json_string_value(json_object_get(x, "filter")), "bicubic");
        json_t *r = json_object_get(x, "region");
        double  g[4];
        for (size_t k = 0; k < 4; k++)
            g[k] = json_number_value(json_array_get(r, k));
        int32_t h = (int32_t)json_integer_value(json_object_get(x, "h"));
        int32_t w = (int32_t)json_integer_value(json_object_get(x, "w"));
        Picture want = hex_picture(&f->arena, json_object_get(x, "pixels"), 3, h, w);
        Picture got =
            picture_resize(&f->arena, &p, g[0], g[1], g[2], g[3], h, w, cubic ? FILTER_BICUBIC : FILTER_BILINEAR);
        if (picture_distance(&want, &got) != 0)
            fail_msg("%s to %dx%d", cubic ? "bicubic" : "bilinear", h, w);
    }
    json_decref(j);
}

/* Grey pictures are what each channel of a grey RGB picture is. */
static void resizing_treats_channels_alike(void **state)
{
    Fixture *f = *state;
    Picture  grey = smooth_picture(&f->arena, 1, 40, 50, 0), rgb = { 3, 40, 50, arena_alloc(&f->arena, 6000) };
    for (int i = 0; i < 6000; i++)
        rgb.pixels[i] = grey.pixels[i / 3];
    Picture a = picture_resize(&f->arena, &grey, 3, 4, 30, 33, 17, 61, FILTER_BICUBIC);
    Picture b = picture_resize(&f->arena, &rgb, 3, 4, 30, 33, 17, 61, FILTER_BICUBIC);
    for (int i = 0; i < 3 * 17 * 61; i++)
        assert_int_equal(b.pixels[i], a.pixels[i / 3]);
}

/* ---- MAT ------------------------------------------------------------------------------------------------------- */

/* [rows, columns, h, w, 3], the first fastest, as MATLAB stores it. */
static void write_mat(const char *path, enum mat_ft version, enum matio_compression compression, const char *name,
                      enum matio_classes class, enum matio_types type, int rank, const size_t *dims, const void *data)
{
    mat_t *mat = Mat_CreateVer(path, NULL, version);
    size_t shape[5];
    assert_non_null(mat);
    memcpy(shape, dims, sizeof(size_t) * (size_t)rank);
    matvar_t *v = Mat_VarCreate(name, class, type, rank, shape, (void *)(uintptr_t)data, 0);
    assert_int_equal(Mat_VarWrite(mat, v, compression), 0);
    Mat_VarFree(v);
    Mat_Close(mat);
}

enum { ROWS = 2, COLUMNS = 3, SIDE_H = 4, SIDE_W = 5 };

static uint8_t block_byte(int row, int column, int y, int x, int k)
{
    return (uint8_t)(row * 100 + column * 30 + y * 7 + x + 50 * k);
}

static const uint8_t *mat_bytes(Arena *a)
{
    uint8_t *b = arena_alloc(a, ROWS * COLUMNS * SIDE_H * SIDE_W * 3), *at = b;
    for (int k = 0; k < 3; k++)
        for (int x = 0; x < SIDE_W; x++)
            for (int y = 0; y < SIDE_H; y++)
                for (int column = 0; column < COLUMNS; column++)
                    for (int row = 0; row < ROWS; row++)
                        *at++ = block_byte(row, column, y, x, k);
    return b;
}

static const size_t block_dims[5] = { ROWS, COLUMNS, SIDE_H, SIDE_W, 3 };

static void         blocks_of_both_versions_of_mat(void **state)
{
    static const struct {
        enum mat_ft            version;
        enum matio_compression compression;
    } cases[] = { { MAT_FT_MAT5, MAT_COMPRESSION_NONE },
                  { MAT_FT_MAT5, MAT_COMPRESSION_ZLIB },
                  { MAT_FT_MAT73, MAT_COMPRESSION_NONE } };
    Fixture    *f = *state;
    const char *path = path_in(f, "x.mat");
    for (int i = 0; i < DT_COUNT(cases); i++) {
        MatBlocks b;
        write_mat(path, cases[i].version, cases[i].compression, "Blocks", MAT_C_UINT8, MAT_T_UINT8, 5, block_dims,
                  mat_bytes(&f->arena));
        assert_true(mat_read_blocks(&f->arena, &f->diag, path, "Blocks", &b));
        assert_no_errors(f);
        assert_true(b.count == ROWS * COLUMNS && b.h == SIDE_H && b.w == SIDE_W && b.c == 3);
        const uint8_t *at = b.pixels;
        for (int n = 0; n < b.count; n++)
            for (int y = 0; y < SIDE_H; y++)
                for (int x = 0; x < SIDE_W; x++)
                    for (int k = 0; k < 3; k++)
                        assert_int_equal(*at++, block_byte(n / COLUMNS, n % COLUMNS, y, x, k));
        unlink(path);
    }
}

static void expect_bad_mat(Fixture *f, const char *path, const char *part)
{
    MatBlocks b;
    assert_false(mat_read_blocks(&f->arena, &f->diag, path, "Blocks", &b));
    assert_one_error(f, part);
}

static void other_mat_files_are_refused(void **state)
{
    Fixture     *f = *state;
    const char  *path = path_in(f, "x.mat");
    const size_t channels[5] = { ROWS, COLUMNS, SIDE_H * 3, SIDE_W / 5, 5 };
    const double number[1] = { 3 };
    expect_bad_mat(f, path, "x.mat: there is no such file");
    write_file(path, "no MATLAB here", 14);
    expect_bad_mat(f, path, "it is no MAT file of version 5 or 7.3");
    write_mat(path, MAT_FT_MAT5, MAT_COMPRESSION_NONE, "Other", MAT_C_UINT8, MAT_T_UINT8, 5, block_dims,
              mat_bytes(&f->arena));
    expect_bad_mat(f, path, "it has no variable Blocks");
    write_mat(path, MAT_FT_MAT5, MAT_COMPRESSION_NONE, "Blocks", MAT_C_DOUBLE, MAT_T_DOUBLE, 2,
              (const size_t[]){ 1, 1 }, number);
    expect_bad_mat(f, path, "Blocks is no array of bytes with 4 or 5 dimensions");
    write_mat(path, MAT_FT_MAT5, MAT_COMPRESSION_NONE, "Blocks", MAT_C_UINT8, MAT_T_UINT8, 5, channels,
              mat_bytes(&f->arena));
    expect_bad_mat(f, path, "its last dimension is not 1 or 3");

    /* A header that promises more than the file has. */
    write_mat(path, MAT_FT_MAT5, MAT_COMPRESSION_NONE, "Blocks", MAT_C_UINT8, MAT_T_UINT8, 5, block_dims,
              mat_bytes(&f->arena));
    size_t   len;
    uint8_t *file = read_bytes(f, path, &len), *dims = file + 128;
    while (dims[0] != ROWS || dims[4] != COLUMNS)
        dims += 4;
    dims[0] = ROWS + 7;
    write_file(path, file, len);
    expect_bad_mat(f, path, "damaged: an array in it is not whole");
    dims[0] = ROWS;
    write_file(path, file, len - 8);
    expect_bad_mat(f, path, "damaged: it is cut off");
    write_mat(path, MAT_FT_MAT5, MAT_COMPRESSION_ZLIB, "Blocks", MAT_C_UINT8, MAT_T_UINT8, 5, block_dims,
              mat_bytes(&f->arena));
    file = read_bytes(f, path, &len);
    file[len - 40] ^= 1;
    write_file(path, file, len);
    expect_bad_mat(f, path, "damaged: an array in it is not whole");
}

#endif

int main(void)
{
#ifdef DT_HAVE_PICTURES
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(jpeg_becomes_rgb_and_grey),
        TEST(jpeg_of_inks_becomes_rgb),
        TEST(jpeg_is_decoded_smaller_but_not_too_small),
        TEST(damaged_jpeg_is_refused),
        TEST(png_keeps_every_byte),
        TEST(all_forms_of_png_become_rgb),
        TEST(damaged_png_is_refused),
        TEST(resizing_is_pillows),
        TEST(resizing_treats_channels_alike),
        TEST(blocks_of_both_versions_of_mat),
        TEST(other_mat_files_are_refused),
    };
    return cmocka_run_group_tests_name("pictures", tests, NULL, NULL);
#else
    return 77; /* skipped: this build reads no pictures */
#endif
}
