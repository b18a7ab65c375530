/* test_augment.c: random changes of samples: what they may be, that they are spread as they should be, and that they
 * depend on nothing but (seed, epoch, sample). */
#include "tests/unit/picture_fixture.h"

/* ---- Colours and operations, against Pillow -------------------------------------------------------------------- */

static void operations_are_pillows(void **state)
{
    Fixture    *f = *state;
    json_t     *j = pillow_results(), *hex;
    Picture     p = pillow_picture(&f->arena, j);
    const char *key;
    int         n = 0;
    json_object_foreach(json_object_get(j, "ops"), key, hex)
    {
        char   name[32];
        double value;
        assert_int_equal(sscanf(key, "%31s %lf", name, &value), 2);
        Picture want = hex_picture(&f->arena, hex, 3, p.h, p.w), got = copy_picture(&f->arena, &p);
        bool    enhances = value > 0 && strstr("brightness contrast saturation sharpness", name);
        if (str_eq(name, "autocontrast")) /* of a flat picture */
            for (int i = 0; i < 3 * p.h * p.w; i++)
                got.pixels[i] = (uint8_t)(40 + got.pixels[i] / 2);
        assert_true(picture_operation(&f->arena, &got, name, enhances ? value - 1 : value));
        /* Pillow smooths with weights in float: a sum may round to the other side. */
        if (picture_distance(&want, &got) > (str_eq(name, "sharpness") ? 1 : 0))
            fail_msg("%s: %d off", key, picture_distance(&want, &got));
        assert_true(picture_distance(&p, &got) > 0);
        n++;
    }
    assert_int_equal(n, 15);
    assert_false(picture_operation(&f->arena, &p, "blur", 1));
    json_decref(j);
}

static void unchanged_at_factor_one(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 20, 30, 0), q = copy_picture(&f->arena, &p);
    Draws    r = draws_new(1, "x", 2, 3);
    picture_jitter(&q, &r, 0);
    assert_int_equal(picture_distance(&p, &q), 0);
    static const char *const without[] = { "identity", "shear_x",    "shear_y",    "translate_x", "translate_y",
                                           "rotate",   "brightness", "saturation", "contrast",    "sharpness" };
    for (int i = 0; i < DT_COUNT(without); i++) {
        assert_true(picture_operation(&f->arena, &q, without[i], 0));
        assert_int_equal(picture_distance(&p, &q), 0);
    }
}

/* Grey pictures go through all of it. */
static void randaugment_changes_most_pictures(void **state)
{
    Fixture *f = *state;
    for (int c = 1; c <= 3; c += 2) {
        Picture p = smooth_picture(&f->arena, c, 24, 24, 0);
        int     changed = 0;
        for (int i = 0; i < 200; i++) {
            Draws   r = draws_new(5, "augment/randaugment", 1, i), again = r;
            Picture q = copy_picture(&f->arena, &p), q2 = copy_picture(&f->arena, &p);
            picture_randaugment(&f->arena, &q, &r, 2, 9);
            picture_randaugment(&f->arena, &q2, &again, 2, 9);
            assert_int_equal(picture_distance(&q, &q2), 0);
            changed += picture_distance(&p, &q) > 0;
        }
        assert_in_range(changed, 150, 199);
    }
}

/* ---- Where ----------------------------------------------------------------------------------------------------- */

static void random_regions_have_their_shapes(void **state)
{
    (void)state;
    enum { N = 4000 };
    double areas = 0;
    int    small = 0, wide = 0;
    for (int i = 0; i < N; i++) {
        Draws  r = draws_new(7, "augment/where", i % 3, i);
        Region g = region_random(&r, 300, 400);
        double part = (double)g.h * g.w / (300 * 400), ratio = (double)g.w / g.h;
        assert_true(g.top >= 0 && g.left >= 0 && g.h > 0 && g.w > 0 && g.top + g.h <= 300 && g.left + g.w <= 400);
        assert_true(part > 0.079 && part <= 1);
        assert_true(ratio > 0.74 && ratio < 1.35);
        areas += part;
        small += part < 0.3;
        wide += ratio > 1;
    }
    /* Of torchvision's code, 200,000 times; the bounds are five standard errors and more of N. */
    assert_true(fabs(areas / N - 0.432) < 0.022);
    assert_true(fabs((double)small / N - 0.323) < 0.038);
    assert_true(fabs((double)wide / N - 0.575) < 0.04);
    Draws  r = draws_new(7, "augment/where", 0, 0);
    Region line = region_random(&r, 4, 4000); /* no try succeeds: the middle, of the widest shape */
    assert_true(line.top == 0 && line.h == 4 && line.w == 5 && line.left == (4000 - 5) / 2);
    line = region_random(&r, 4000, 4);
    assert_true(line.left == 0 && line.w == 4 && line.h == 5);
}

static void symmetries_are_all_eight(void **state)
{
    Fixture *f = *state;
    Picture  p = smooth_picture(&f->arena, 3, 9, 11, 0), seen[8];
    Region   g = { 2, 3, 6, 6 };
    for (int s = 0; s < 8; s++) {
        seen[s] = picture_cut(&f->arena, &p, g, s);
        for (int t = 0; t < s; t++)
            assert_true(picture_distance(&seen[s], &seen[t]) > 0);
        for (int y = 0; y < 6; y++)
            for (int x = 0; x < 6; x++) {
                int sy = s & 4 ? x : y, sx = s & 4 ? y : x;
                sy = 2 + (s & 2 ? 5 - sy : sy);
                sx = 3 + (s & 1 ? 5 - sx : sx);
                assert_memory_equal(seen[s].pixels + 3 * (6 * y + x), p.pixels + 3 * (11 * sy + sx), 3);
            }
    }
}

/* As if the whole picture were resized and its middle cut out. */
static void middle_is_that_of_the_resized_picture(void **state)
{
    Fixture *f = *state;
    assert_int_equal(center_resize(224), 256);
    assert_int_equal(center_resize(300), 332);
    assert_int_equal(center_resize(32), 36);
    static const int32_t sizes[][4] = {
        { 50, 80, 28, 28 }, { 80, 50, 28, 28 }, { 20, 20, 28, 28 }, { 37, 300, 28, 21 }
    };
    for (int i = 0; i < DT_COUNT(sizes); i++) {
        const int32_t *s = sizes[i], ph = s[0], pw = s[1], h = s[2], w = s[3];
        Picture        p = smooth_picture(&f->arena, 3, ph, pw, i);
        double         scale = fmax((double)center_resize(h) / ph, (double)center_resize(w) / pw);
        int32_t        rh = (int32_t)(ph * scale + 1e-9), rw = (int32_t)(pw * scale + 1e-9);
        Picture        whole = picture_resize(&f->arena, &p, 0, 0, ph, pw, rh, rw, FILTER_BICUBIC);
        Region         g = { (int32_t)rint((rh - h) / 2.0), (int32_t)rint((rw - w) / 2.0), h, w };
        Picture        want = picture_cut(&f->arena, &whole, g, 0), got = picture_center(&f->arena, &p, h, w);
        assert_in_range(picture_distance(&want, &got), 0, 1);
    }
}

/* ---- Numbers --------------------------------------------------------------------------------------------------- */

static void beta_has_its_mean_and_variance(void **state)
{
    (void)state;
    static const double alphas[] = { 0.1, 0.2, 0.4, 1, 4 };
    enum { N = 20000 };
    for (int a = 0; a < DT_COUNT(alphas); a++) {
        double sum = 0, squares = 0, variance = 1 / (4 * (2 * alphas[a] + 1));
        for (int i = 0; i < N; i++) {
            Draws  r = draws_new(3, "augment/mixup", 0, i);
            double x = draw_beta(&r, alphas[a]);
            assert_true(x >= 0 && x <= 1);
            sum += x;
            squares += (x - 0.5) * (x - 0.5);
        }
        assert_true(fabs(sum / N - 0.5) < 5 * sqrt(variance / N));
        assert_true(fabs(squares / N / variance - 1) < 0.05);
    }
}

static void erased_rectangles_fit(void **state)
{
    (void)state;
    double areas = 0;
    for (int i = 0; i < 2000; i++) {
        Draws  r = draws_new(3, "augment/erase", 0, i);
        Region g = region_erase(&r, 32, 32);
        assert_true(g.h > 0 && g.top >= 0 && g.left >= 0 && g.top + g.h <= 32 && g.left + g.w <= 32);
        areas += g.h * g.w / 1024.0;
    }
    assert_true(areas / 2000 > 0.13 && areas / 2000 < 0.19);
}

/* ---- Noise ----------------------------------------------------------------------------------------------------- */

static Picture flat_picture(Arena *a, int32_t side, uint8_t value)
{
    Picture p = { .c = 3, .h = side, .w = side, .pixels = arena_alloc(a, (size_t)(3 * side * side)) };
    memset(p.pixels, value, (size_t)(3 * side * side));
    return p;
}

static void noise_is_as_it_is_said(void **state)
{
    Fixture *f = *state;
    enum { SIDE = 64, N = 3 * SIDE * SIDE };
    static float noisy[N], level[N], other[N];
    Picture      p = flat_picture(&f->arena, SIDE, 100);
    NoiseModel   m;
    assert_true(noise_parse(&f->diag, "gaussian:25", &m));
    noise_make(&f->arena, &m, &p, 1, 2, 3, noisy, level);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        double n = (double)noisy[i] - 100 / 255.0;
        assert_true(level[i] == (float)(25.0 / 255));
        sum += n;
        squares += n * n;
    }
    assert_true(fabs(sum / N) < 5 * 25 / 255.0 / sqrt(N));
    assert_true(fabs(sqrt(squares / N) * 255 - 25) < 0.5);
    noise_make(&f->arena, &m, &p, 1, 2, 3, other, level);
    assert_memory_equal(noisy, other, sizeof noisy);
    for (int change = 0; change < 3; change++) {
        noise_make(&f->arena, &m, &p, 1 + (change == 0), 2 + (change == 1), 3 + (change == 2), other, level);
        assert_memory_not_equal(noisy, other, sizeof noisy);
    }
    assert_true(noise_parse(&f->diag, "gaussian:5-50", &m));
    float least = 255, most = 0;
    for (int i = 0; i < 100; i++) {
        noise_make(&f->arena, &m, &p, 1, 2, i, noisy, level);
        least = fminf(least, level[0] * 255);
        most = fmaxf(most, level[0] * 255);
    }
    if (!(least >= 5 && least < 8 && most <= 50 && most > 47))
        fail_msg("drawn from %g to %g", (double)least, (double)most);
    assert_no_errors(f);
    static const char *const wrong[] = {
        "", "gauss:25", "gaussian:", "gaussian:-3", "gaussian:9-3", "gaussian:300", "gaussian:5x", "cameras"
    };
    for (int i = 0; i < DT_COUNT(wrong); i++) {
        assert_false(noise_parse(&f->diag, wrong[i], &m));
        assert_one_error(f, "noise: expected gaussian:25");
    }
}

/* A flat picture seen by the camera: in its light, noise of the level that is told, less where pixels are means of
 * others; white is noisier than black. */
static void camera_noise_depends_on_the_light(void **state)
{
    Fixture *f = *state;
    enum { SIDE = 64, N = 3 * SIDE * SIDE };
    static float noisy[N], level[N];
    NoiseModel   m;
    double       levels[2] = { 0, 0 };
    assert_true(noise_parse(&f->diag, "camera", &m));
    for (int bright = 0; bright < 2; bright++) {
        Picture p = flat_picture(&f->arena, SIDE, bright ? 200 : 20);
        double  light = bright ? 0.577580 : 0.006995; /* of 200 and of 20 in sRGB */
        for (int sample = 0; sample < 40; sample++) {
            noise_make(&f->arena, &m, &p, 9, 0, sample, noisy, level);
            double told = (double)level[0], sum = 0, n = 0;
            assert_true(told >= 0 && told <= sqrt(light * 0.16 * 0.16 + 0.06 * 0.06));
            levels[bright] += told / 40;
            for (int y = 0; y < SIDE; y += 2) /* red is measured at even places */
                for (int x = 0; x < SIDE; x += 2, n++) {
                    double v = (double)noisy[3 * (y * SIDE + x)];
                    double seen = v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
                    assert_true(v >= 0 && v <= 1);
                    sum += (seen - light) * (seen - light);
                }
            if (bright && told < 0.12) /* else much of it is clipped */
                assert_true(fabs(sqrt(sum / n) - told) < 0.09 * told + 1e-6);
        }
    }
    assert_true(levels[1] > 1.5 * levels[0]);
}

/* ---- In batches ------------------------------------------------------------------------------------------------ */

static Dataset *cifar(Fixture *f)
{
    write_cifar(f, f->dir, 12);
    Dataset *d = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar10", .dir = f->dir });
    assert_non_null(d);
    return d;
}

typedef struct Got {
    float   image[8 * CIFAR], share[8];
    int32_t label[8], label2[8];
} Got;

static void batch_of(Fixture *f, const Dataset *d, Augment g, int32_t threads, bool nhwc, Got *out)
{
    Loader *l = loader_new(
        &f->arena, &f->diag,
        (LoaderConfig){
            .data = d, .split = SPLIT_TRAIN, .batch = 8, .augment = g, .seed = 4, .nhwc = nhwc, .threads = threads });
    loader_start(l, 1, 2);
    const BatchOut to = { .image = out->image, .label = out->label, .label2 = out->label2, .share = out->share };
    assert_int_equal(loader_next(l, &to), 8);
    loader_free(l);
}

static void mixup_mixes_neighbours(void **state)
{
    Fixture   *f = *state;
    Dataset   *d = cifar(f);
    static Got plain, mixed;
    batch_of(f, d, (Augment){ .usual = true }, 1, false, &plain);
    batch_of(f, d, (Augment){ .usual = true, .mixup = 0.4f }, 1, false, &mixed);
    assert_memory_equal(plain.label, plain.label2, sizeof plain.label);
    assert_memory_equal(plain.label, mixed.label, sizeof plain.label);
    for (int i = 0; i < 8; i++) {
        int   j = (i + 1) % 8;
        float s = mixed.share[i];
        assert_true(plain.share[i] == 1 && s >= 0 && s <= 1);
        assert_int_equal(mixed.label2[i], plain.label[j]);
        for (int e = 0; e < CIFAR; e += 7)
            assert_true(mixed.image[i * CIFAR + e] ==
                        s * plain.image[i * CIFAR + e] + (1 - s) * plain.image[j * CIFAR + e]);
    }
}

static void erasing_leaves_a_rectangle_of_zeros(void **state)
{
    Fixture   *f = *state;
    Dataset   *d = cifar(f);
    static Got plain, erased;
    batch_of(f, d, (Augment){ 0 }, 1, true, &plain);
    batch_of(f, d, (Augment){ .erase = 1 }, 1, true, &erased);
    for (int i = 0; i < 8; i++) {
        int zeros = 0;
        for (int e = 0; e < CIFAR; e++) {
            bool same = plain.image[i * CIFAR + e] == erased.image[i * CIFAR + e];
            assert_true(same || erased.image[i * CIFAR + e] == 0);
            zeros += !same;
        }
        assert_in_range(zeros, 20, CIFAR / 2);
    }
    static Got half;
    batch_of(f, d, (Augment){ .erase = 0.5f }, 1, true, &half);
    int kept = 0;
    for (int i = 0; i < 8; i++)
        kept += memcmp(half.image + i * CIFAR, plain.image + i * CIFAR, CIFAR * sizeof(float)) == 0;
    assert_in_range(kept, 1, 7);
}

static void threads_change_nothing(void **state)
{
    Fixture      *f = *state;
    Dataset      *d = cifar(f);
    const Augment all = {
        .usual = true, .colour = 0.4f, .erase = 0.5f, .mixup = 0.2f, .randaugment = 2, .randaugment_m = 9
    };
    static Got one, many;
    for (int nhwc = 0; nhwc < 2; nhwc++) {
        batch_of(f, d, all, 1, nhwc, &one);
        for (int threads = 2; threads <= 5; threads++) {
            batch_of(f, d, all, threads, nhwc, &many);
            assert_memory_equal(&one, &many, sizeof one);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(operations_are_pillows),
        TEST(unchanged_at_factor_one),
        TEST(randaugment_changes_most_pictures),
        TEST(random_regions_have_their_shapes),
        TEST(symmetries_are_all_eight),
        TEST(middle_is_that_of_the_resized_picture),
        TEST(beta_has_its_mean_and_variance),
        TEST(erased_rectangles_fit),
        TEST(noise_is_as_it_is_said),
        TEST(camera_noise_depends_on_the_light),
        TEST(mixup_mixes_neighbours),
        TEST(erasing_leaves_a_rectangle_of_zeros),
        TEST(threads_change_nothing),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
