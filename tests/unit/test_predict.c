/* detent predict, as a person calls it: what it says of test pictures is what the evaluation counts; a restored picture
 * is the one that the run kept, any size is taken, and mistakes are told. */
#include "runtime/data.h"
#include "runtime/runtime.h"
#include "tests/unit/cli_fixture.h"

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

static Picture picture_new(Cli *c, int32_t channels, int32_t h, int32_t w)
{
    return (Picture){ channels, h, w, arena_alloc(&c->a, (size_t)channels * (size_t)h * (size_t)w) };
}

static void write_png(Cli *c, const char *name, const Picture *p)
{
    if (!picture_write_png(&c->d, cli_path(c, name), p))
        fail_msg("%s", c->d.text.s);
}

static Picture read_png(Cli *c, const char *name, int32_t channels)
{
    Picture p;
    if (!picture_read(&c->a, &c->d, cli_path(c, name), channels, 0, &p))
        fail_msg("%s", c->d.text.s);
    return p;
}

static void assert_same_pixels(const Picture *x, const Picture *y)
{
    assert_true(x->c == y->c && x->h == y->h && x->w == y->w);
    assert_memory_equal(x->pixels, y->pixels, (size_t)x->c * (size_t)x->h * (size_t)x->w);
}

/* A soft pattern, and noise on it. */
static void make_pair(Cli *c, int32_t i, int32_t h, int32_t w)
{
    Picture clean = picture_new(c, 3, h, w), noisy = picture_new(c, 3, h, w);
    for (int32_t k = 0; k < 3 * h * w; k++) {
        int value = 60 + (k / 3 % w * 3 + k / (3 * w) * 2 + 20 * i) % 130;
        clean.pixels[k] = (uint8_t)value;
        noisy.pixels[k] = (uint8_t)(value + (int)(rng_u32(5, 1, (uint32_t)i, (uint64_t)k) % 41) - 20);
    }
    write_png(c, arena_printf(&c->a, "pairs/clean/%d.png", i), &clean);
    write_png(c, arena_printf(&c->a, "pairs/noisy/%d.png", i), &noisy);
}

/* A trained network for pictures, float and in 4 bits: d1, d2. The test picture is 4.png. */
static void train_denoisers(Cli *c)
{
    cli_ok(c, "mkdir -p pairs/clean pairs/noisy");
    for (int32_t i = 0; i < 5; i++)
        make_pair(c, i, 40, 32);
    cli_ok(c, "$DETENT train $NETS/denoise.c --data pairs --out d1 --epochs 2 --lr 0.01 --quiet");
    cli_ok(c, "$DETENT train $NETS/denoise.c --data pairs --out d2 --epochs 1 --lr 0.01 --method lsq --bits w4a4 "
              "--init d1/best.safetensors --quiet");
}

/* ---- Classes --------------------------------------------------------------------------------------------------- */

/* The n-th test digit of data/mnist-small as a picture. */
static void write_digits(Cli *c, int32_t n)
{
    Arena       a = arena_new("digits");
    const char *dir = DT_SOURCE_DIR "/data/mnist-small";
    Dataset    *data = dataset_open(&a, &c->d, &(DataRequest){ .name = "mnist", .dir = dir, .h = 28, .w = 28 });
    assert_non_null(data);
    Loader *l = loader_new(&a, &c->d, (LoaderConfig){ .data = data, .split = SPLIT_TEST, .batch = 1 });
    float   image[28 * 28];
    int32_t label = 0;
    Picture p = picture_new(c, 1, 28, 28);
    assert_non_null(l);
    loader_start(l, 0, 0);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(loader_next(l, &(BatchOut){ .image = image, .label = &label }), 1);
        for (int32_t k = 0; k < 28 * 28; k++)
            p.pixels[k] = (uint8_t)(image[k] * 255 + 0.5f);
        write_png(c, arena_printf(&c->a, "digits/%03d-%d.png", i, label), &p);
    }
    loader_free(l);
    arena_free(&a);
}

/* "   97.31 %  class 7" below "digits/012-7.png" */
static void classes_are_those_of_the_evaluation(void **state)
{
    Cli    *c = *state;
    int32_t shown = 0, right = 0;
    cli_ok(c, "mkdir digits");
    write_digits(c, 1000);
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --out t --quiet");
    Ran    eval = cli_ok(c, "$DETENT eval $NETS/tiny.c --data $DATA --checkpoint t/best.safetensors --quiet");
    Ran    r = cli_ok(c, "$DETENT predict $NETS/tiny.c --checkpoint t --top 1 digits/*.png");
    double correct = number_after(eval, eval.out, "(");
    assert_in(eval, eval.out, " of 1000)");
    for (const char *at = r.out; (at = strstr(at, "digits/")) != NULL; at++, shown++) {
        const char *class = strstr(at, "class ");
        assert_non_null(class);
        right += atoi(strchr(at, '-') + 1) == atoi(class + strlen("class "));
    }
    assert_int_equal(shown, 1000);
    assert_int_equal(right, (int)correct);
    assert_true(correct > 500); /* it learned something */
    Ran    all = cli_ok(c, "$DETENT predict $NETS/tiny.c --checkpoint t/last.safetensors --top 10 digits/000-*.png");
    double sum = 0, before = 101;
    for (const char *at = strchr(all.out, '\n'); at && at[1]; at = strchr(at + 1, '\n')) {
        double share = strtod(at + 1, NULL);
        assert_true(share <= before);
        sum += before = share;
    }
    assert_true(sum > 99.9 && sum < 100.1);
}

/* A picture of another size is looked at in its middle; grey and colour are the same to a network of one channel. */
static void pictures_of_other_sizes_are_resized(void **state)
{
    Cli    *c = *state;
    Picture p = picture_new(c, 3, 90, 61);
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --out t --max-steps 2 --quiet");
    for (int32_t i = 0; i < 3 * 90 * 61; i++)
        p.pixels[i] = (uint8_t)(i % 251);
    write_png(c, "photo.png", &p);
    Ran r = cli_ok(c, "$DETENT predict $NETS/tiny.c --checkpoint t photo.png");
    assert_int_equal(count_of(r.out, " %  class "), 5);
}

/* Names come from the data set, and from checkpoints of data sets that name their classes. */
static void classes_have_names(void **state)
{
    Cli               *c = *state;
    static const char *names[] = { "apple", "pear" };
    cli_ok(c, "for s in train val; do for n in apple pear; do mkdir -p folder/$s/$n; done; done");
    for (int32_t i = 0; i < 24; i++) {
        Picture p = picture_new(c, 3, 40, 40);
        memset(p.pixels, i % 2 ? 220 : 30, 3 * 40 * 40);
        write_png(c, arena_printf(&c->a, "folder/%s/%s/%d.png", i < 18 ? "train" : "val", names[i % 2], i), &p);
    }
    cli_ok(c, "cat > fruit.c <<'E'\n"
              "#include \"frontend/detent.h\"\n"
              "dt_model(fruit, \"two classes\", .image = { 3, 32, 32 }, .classes = 2,\n"
              "         .training = { \"folder\", .batch = 6, .epochs = 6, .lr = 0.05f })\n"
              "{\n"
              "    return linear(flatten(avgpool(dt_image(), 16)), dt_classes());\n"
              "}\n"
              "E\n");
    cli_ok(c, "$DETENT train ./fruit.c --data folder --out f --quiet");
    static const char *const how[] = { "", " --data folder" };
    for (int32_t i = 0; i < DT_COUNT(how); i++) {
        Ran r = cli_ok(
            c, arena_printf(&c->a, "$DETENT predict ./fruit.c --checkpoint f folder/val/pear/*.png --top 1%s", how[i]));
        assert_int_equal(count_of(r.out, " %  pear\n"), 3);
        assert_not_in(r, r.out, "class ");
    }
}

/* ---- Pictures that are restored -------------------------------------------------------------------------------- */

static void a_restored_picture_is_the_kept_one(void **state)
{
    Cli *c = *state;
    train_denoisers(c);
    static const char *const runs[] = { "d1", "d2" }; /* the second one says itself that it is quantized */
    for (int32_t i = 0; i < 2; i++) {
        Ran r =
            cli_ok(c, arena_printf(&c->a,
                                   "n=$(grep -o 'noisy/[0-9]*.png\\|[0-9]*.png' %s/images/index.json | head -1); "
                                   "n=$(basename $n); $DETENT predict $NETS/denoise.c --checkpoint %s "
                                   "pairs/noisy/$n --clean pairs/clean/$n -o out%d.png && "
                                   "$DETENT eval $NETS/denoise.c --data pairs --checkpoint %s/best.safetensors --quiet",
                                   runs[i], runs[i], i, runs[i]));
        Picture got = read_png(c, arena_printf(&c->a, "out%d.png", i), 3);
        Picture kept = read_png(c, arena_printf(&c->a, "%s/images/0-result.png", runs[i]), 3);
        assert_same_pixels(&got, &kept);
        double mine = number_after(r, r.out, "PSNR "), theirs = number_after(r, strstr(r.out, "\n") + 20, "\nPSNR ");
        assert_true(mine == theirs); /* there is one test picture */
    }
}

/* As large a network as needs sizes that can be halved twice. */
static const char *const halving = "cat > halve.c <<'E'\n"
                                   "#include \"frontend/detent.h\"\n"
                                   "dt_model(halve, \"halves twice\", .image = { 3, 16, 16 }, .loss = DT_MSE,\n"
                                   "         .training = { \"pairs\", .batch = 1, .epochs = 1, .lr = 0.0001f })\n"
                                   "{\n"
                                   "    Tensor x = avgpool(avgpool(dt_image(), 2), 2);\n"
                                   "    x = upsample(upsample(conv2d(x, 3, 3, .pad = 1), 2), 2);\n"
                                   "    return add(dt_image(), x);\n"
                                   "}\n"
                                   "E\n";

static void              any_size_is_restored(void **state)
{
    Cli *c = *state;
    train_denoisers(c);
    cli_ok(c, halving);
    cli_ok(c, "$DETENT train ./halve.c --data pairs --out h --quiet");
    static const int32_t sizes[][2] = { { 16, 16 }, { 17, 22 }, { 1, 1 }, { 3, 50 }, { 16, 18 } };
    Str                  words = str_new(&c->a);
    for (int32_t i = 0; i < DT_COUNT(sizes); i++) {
        Picture p = picture_new(c, 3, sizes[i][0], sizes[i][1]);
        for (int32_t k = 0; k < 3 * p.h * p.w; k++)
            p.pixels[k] = (uint8_t)(100 + k / 3 % 7);
        write_png(c, arena_printf(&c->a, "s%d.png", i), &p);
        str_printf(&words, " s%d.png", i);
    }
    Ran r = cli_ok(c, arena_printf(&c->a, "$DETENT predict ./halve.c --checkpoint h%s -o restored", words.s));
    for (int32_t i = 0; i < DT_COUNT(sizes); i++) {
        Picture p = read_png(c, arena_printf(&c->a, "restored/s%d-result.png", i), 3);
        assert_true(p.h == sizes[i][0] && p.w == sizes[i][1]);
        assert_in(r, r.out, arena_printf(&c->a, "s%d.png: %dx%d -> restored/s%d-result.png", i, p.w, p.h, i));
    }
    /* A picture that was extended as a mirror by hand gives the same, in the part that both have. */
    Picture small = read_png(c, "s1.png", 3), big = picture_new(c, 3, 20, 24);
    for (int32_t y = 0; y < 20; y++)
        for (int32_t x = 0; x < 24; x++)
            memcpy(big.pixels + 3 * (y * 24 + x),
                   small.pixels + 3 * ((y < 17 ? y : 32 - y) * 22 + (x < 22 ? x : 42 - x)), 3);
    write_png(c, "big.png", &big);
    cli_ok(c, "$DETENT predict ./halve.c --checkpoint h big.png");
    Picture part = read_png(c, "restored/s1-result.png", 3), whole = read_png(c, "big-result.png", 3);
    for (int32_t y = 0; y < 17; y++)
        assert_memory_equal(part.pixels + 3 * y * 22, whole.pixels + 3 * y * 24, 3 * 22);
    cli_ok(c, "$DETENT predict ./halve.c --checkpoint h --backend interp s1.png -o interp.png");
    Picture other = read_png(c, "interp.png", 3);
    assert_true(other.h == 17 && other.w == 22);
}

/* ---- Mistakes -------------------------------------------------------------------------------------------------- */

static void mistakes_are_told(void **state)
{
    Cli *c = *state;
    train_denoisers(c);
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --out t --max-steps 2 --quiet; mkdir b; cp pairs/noisy/1.png b; "
              "echo no > no.png");
    /* clang-format off */
    static const struct {
        const char *script;
        int         code;
        const char *says;
    } rows[] = {
        { "$DETENT predict", EXIT_USAGE, "expected a network, found none" },
        { "$DETENT predict $NETS/tiny.c x.png", EXIT_USAGE, "expected weights, --checkpoint FILE, found none" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t", EXIT_USAGE, "expected a picture, a JPEG or PNG file, found none" },
        { "$DETENT predict $NETS/tiny.c --checkpoint none pairs/noisy/1.png", EXIT_MISTAKE, "none" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t none.png", EXIT_MISTAKE, "none.png" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t no.png", EXIT_MISTAKE, "no.png" },
        { "$DETENT predict $NETS/tiny.c --checkpoint d1 pairs/noisy/1.png", EXIT_MISTAKE, "expected weights of network tiny, found those of denoise" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t pairs/noisy/1.png --clean pairs/clean/1.png", EXIT_USAGE, "--clean: expected a network that restores pictures, found tiny, which tells classes" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t pairs/noisy/1.png -o x", EXIT_USAGE, "found tiny, which tells classes" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t --top 0 pairs/noisy/1.png", EXIT_USAGE, "--top" },
        { "$DETENT predict $NETS/denoise.c --checkpoint d1 pairs/noisy/1.png pairs/noisy/2.png --clean pairs/clean/1.png", EXIT_USAGE, "expected one picture beside it, found 2" },
        { "$DETENT predict $NETS/denoise.c --checkpoint d1 pairs/noisy/1.png b/1.png", EXIT_USAGE, "would both become 1-result.png" },
        { "$DETENT predict $NETS/denoise.c --checkpoint d1 pairs/noisy/1.png -o no.png/x", EXIT_MISTAKE, "no.png" },
        { "$DETENT predict $NETS/denoise.c --checkpoint d1 pairs/noisy/1.png --data x", EXIT_USAGE, "--data: expected a network that tells classes, found denoise" },
        { "$DETENT predict $NETS/denoise.c --checkpoint d1 pairs/noisy/1.png --top 3", EXIT_USAGE, "--top: expected a network that tells classes" },
        { "$DETENT predict $NETS/tiny.c --checkpoint t pairs/noisy/1.png --data none", EXIT_MISTAKE, "none" },
        { "$DETENT train tiny.c x.png", EXIT_USAGE, "found 'x.png' too" },
    };
    /* clang-format on */
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Ran r = cli_expect(c, rows[i].code, rows[i].script);
        assert_in(r, r.err, rows[i].says);
    }
    Ran help = cli_ok(c, "$DETENT predict --help");
    assert_in(help, help.out, "usage: detent predict NET PICTURE... [options]");
    help = cli_ok(c, "$MY_NET predict --help");
    assert_in(help, help.out, "usage: my_net predict PICTURE... [options]");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)
    const struct CMUnitTest tests[] = {
        TEST(classes_are_those_of_the_evaluation),
        TEST(pictures_of_other_sizes_are_resized),
        TEST(classes_have_names),
        TEST(a_restored_picture_is_the_kept_one),
        TEST(any_size_is_restored),
        TEST(mistakes_are_told),
    };
    return cmocka_run_group_tests_name("predict", tests, NULL, NULL);
}
