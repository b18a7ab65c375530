/* Pictures that a restoration run keeps: what the program got, made and should have made, cut to the middle, as bytes;
 * and reading them back. */
#include "runtime/kept_pictures.h"
#include "tests/unit/runtime_fixture.h"

enum { PAIRS = 7, KEPT_BATCH = 3 };
enum { HIGH = 270, WIDE = 40 }; /* higher than what is kept */

static const Normalise normalise = { { 0.25f, 0.5f, 0.75f }, { 0.5f, 0.25f, 0.5f } };

static uint8_t         byte_of(int32_t pair, int32_t i, bool noisy)
{
    return (uint8_t)(rng_u32(3, noisy, (uint32_t)pair, (uint64_t)i) % 256);
}

static Picture make_picture(Fixture *f, int32_t pair, bool noisy)
{
    Picture p = { .c = 3, .h = HIGH, .w = WIDE, .pixels = arena_alloc(&f->arena, 3 * HIGH * WIDE) };
    for (int32_t i = 0; i < 3 * HIGH * WIDE; i++)
        p.pixels[i] = byte_of(pair, i, noisy);
    return p;
}

/* All pairs but the first are for tests. */
static Dataset *make_pairs(Fixture *f)
{
    Str test = str_new(&f->arena);
    assert_true(dir_make(&f->diag, path_in(f, "data/noisy")) && dir_make(&f->diag, path_in(f, "data/clean")));
    for (int32_t i = 0; i < PAIRS; i++)
        for (int noisy = 0; noisy < 2; noisy++) {
            Picture p = make_picture(f, i, noisy);
            assert_true(picture_write_png(
                &f->diag, arena_printf(&f->arena, "%s/data/%s/p%d.png", f->dir, noisy ? "noisy" : "clean", i), &p));
        }
    for (int32_t i = 1; i < PAIRS; i++)
        str_printf(&test, "p%d\n", i);
    write_file(path_in(f, "data/test.txt"), test.s, test.len);
    Dataset *data = dataset_open(&f->arena, &f->diag,
                                 &(DataRequest){ .name = "pairs", .dir = path_in(f, "data"), .h = HIGH, .w = WIDE });
    if (!data)
        fail_msg("%s", f->diag.text.s);
    return data;
}

/* bufs: image, target, logits: one and a half times the picture, less a tenth, so that some of it leaves 0..1 */
static void restore(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)self, (void)scratch, (void)lo, (void)hi;
    const float *image = bufs[0];
    float       *out = bufs[2];
    for (int64_t i = 0; i < (int64_t)KEPT_BATCH * 3 * HIGH * WIDE; i++) {
        int64_t c = i / (HIGH * WIDE) % 3;
        out[i] = (image[i] * normalise.std[c] + normalise.mean[c]) * 1.5f - 0.1f;
    }
    out[5] = NAN;
}

static LoadedProgram make_program(Fixture *f)
{
    TinyNet        *net = ARENA_NEW(&f->arena, TinyNet);
    const TensorDef defs[] = {
        { TENSOR_INPUT, "image", DTYPE_F32, 4, { KEPT_BATCH, 3, HIGH, WIDE }, NULL, NULL },
        { TENSOR_INPUT, "target", DTYPE_F32, 4, { KEPT_BATCH, 3, HIGH, WIDE }, NULL, NULL },
        { TENSOR_OUTPUT, "logits", DTYPE_F32, 4, { KEPT_BATCH, 3, HIGH, WIDE }, NULL, NULL },
    };
    net->exec = exec_new(&f->arena, &f->diag, calllib_reference(&f->arena), (ExecOptions){ .threads = 1 });
    return tiny_program(&f->arena, net, "eval", restore, defs, DT_COUNT(defs));
}

static bool keep(Fixture *f)
{
    return pictures_keep(&f->diag, f->dir, make_program(f), make_pairs(f), normalise, 4, 120);
}

static void the_first_samples_are_kept(void **state)
{
    Fixture    *f = *state;
    RunPictures p;
    const int   top = (HIGH - PICTURES_SIDE) / 2;
    assert_true(pictures_load(&f->arena, &f->diag, f->dir, &p)); /* none yet, which is no mistake */
    assert_int_equal(p.at.len, 0);
    assert_true(keep(f));
    assert_true(pictures_load(&f->arena, &f->diag, f->dir, &p));
    assert_no_errors(f);
    assert_int_equal(p.epoch, 4);
    assert_int_equal(p.step, 120);
    assert_int_equal(p.at.len, PICTURES_KEPT);
    for (int32_t k = 0; k < PICTURES_KEPT; k++) {
        const RunPicture *x = &p.at.at[k];
        const int32_t     pair = k + 1;
        assert_non_null(strstr(x->name, arena_printf(&f->arena, "p%d", pair)));
        for (int kind = 0; kind < PICTURE_KINDS; kind++) {
            const Picture *got = &x->picture[kind];
            assert_int_equal(got->h, PICTURES_SIDE);
            assert_int_equal(got->w, WIDE);
            for (int32_t i = 0; i < 3 * PICTURES_SIDE * WIDE; i++) {
                int32_t at = i + 3 * top * WIDE;
                double  noisy = byte_of(pair, at, true) / 255.0, made = 255 * (noisy * 1.5 - 0.1);
                double  want = kind == PICTURE_NOISY   ? 255 * noisy
                               : kind == PICTURE_CLEAN ? byte_of(pair, at, false)
                                                       : fmin(fmax(made, 0), 255);
                if (fabs(got->pixels[i] - want) > 0.5 + 1e-3)
                    fail_msg("picture %d, %s, byte %d: %d, expected %g", k, picture_kind_names[kind], i, got->pixels[i],
                             want);
            }
        }
    }
}

static void the_same_weights_give_the_same_bytes(void **state)
{
    Fixture           *f = *state;
    static const char *files[] = { "index.json", "0-noisy.png", "3-result.png", "2-clean.png" };
    assert_true(keep(f));
    assert_int_equal(rename(path_in(f, RUN_IMAGES), path_in(f, "first")), 0);
    assert_true(keep(f));
    for (int32_t i = 0; i < DT_COUNT(files); i++)
        assert_same_file(f, arena_printf(&f->arena, "%s/first/%s", f->dir, files[i]),
                         arena_printf(&f->arena, "%s/" RUN_IMAGES "/%s", f->dir, files[i]));
}

static void classes_have_none(void **state)
{
    Fixture *f = *state;
    write_mnist(f, path_in(f, "mnist"), 20, 10, false);
    Dataset *data = dataset_open(&f->arena, &f->diag,
                                 &(DataRequest){ .name = "mnist", .dir = path_in(f, "mnist"), .h = 28, .w = 28 });
    assert_non_null(data);
    assert_true(pictures_keep(&f->diag, f->dir, (LoadedProgram){ 0 }, data, normalise, 1, 1));
    assert_int_equal(access(path_in(f, RUN_IMAGES), F_OK), -1);
}

static void what_cannot_be_written_is_told(void **state)
{
    Fixture *f = *state;
    write_file(path_in(f, RUN_IMAGES), "x", 1);
    assert_false(keep(f));
    assert_one_error(f, RUN_IMAGES);
}

static void damaged_pictures_are_told(void **state)
{
    Fixture    *f = *state;
    RunPictures p;
    Picture     small = { .c = 3, .h = 2, .w = 2, .pixels = arena_alloc(&f->arena, 12) };
    assert_true(keep(f));
    assert_true(picture_write_png(&f->diag, path_in(f, RUN_IMAGES "/1-result.png"), &small));
    assert_false(pictures_load(&f->arena, &f->diag, f->dir, &p));
    assert_one_error(f, "expected 1-result.png of 40x256 pixels as the noisy one, found 2x2");
    write_file(path_in(f, RUN_IMAGES "/1-result.png"), "no picture", 10);
    assert_false(pictures_load(&f->arena, &f->diag, f->dir, &p));
    assert_one_error(f, "1-result.png");
    assert_int_equal(remove(path_in(f, RUN_IMAGES "/1-result.png")), 0);
    assert_false(pictures_load(&f->arena, &f->diag, f->dir, &p));
    assert_one_error(f, "1-result.png");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_first_samples_are_kept), TEST(the_same_weights_give_the_same_bytes),
        TEST(classes_have_none),          TEST(what_cannot_be_written_is_told),
        TEST(damaged_pictures_are_told),
    };
    return cmocka_run_group_tests_name("kept pictures", tests, NULL, NULL);
}
