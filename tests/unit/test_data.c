/* test_data.c: data sets from files good and bad, normalisation, augmentation, batches. */
#include "runtime/data_impl.h"
#include "tests/unit/runtime_fixture.h"

#include <unistd.h>

static const Normalise mnist_norm = { { 0.1307f }, { 0.3081f } };

/* ---- Good files ------------------------------------------------------------------------------------------------ */

static void mnist_reads_plain_and_packed_alike(void **state)
{
    Fixture *f = *state;
    write_mnist(f, path_in(f, "plain"), 70, 13, false);
    write_mnist(f, path_in(f, "packed/MNIST/raw"), 70, 13, true);
    Dataset *a = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "plain") });
    Dataset *b = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "packed") });
    assert_no_errors(f);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->count[SPLIT_TRAIN], 70);
    assert_int_equal(a->count[SPLIT_TEST], 13);
    assert_int_equal(a->c * 10000 + a->h[0] * 100 + a->w[1], 12828);
    Bytes images = idx_file(f, 3, 70, 70, 7), labels = idx_file(f, 1, 70, 70, 7);
    assert_memory_equal(a->pixels[SPLIT_TRAIN], images.at + 16, 70 * DIGIT);
    assert_memory_equal(a->labels[SPLIT_TRAIN], labels.at + 8, 70);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        assert_memory_equal(a->pixels[s], b->pixels[s], (size_t)a->count[s] * DIGIT);
        assert_memory_equal(a->labels[s], b->labels[s], (size_t)a->count[s]);
    }
}

static void cifar_keeps_the_order_of_files_and_records(void **state)
{
    Fixture *f = *state;
    write_cifar(f, path_in(f, "cifar-10-batches-bin"), 3);
    Dataset *c = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar10", .dir = f->dir });
    assert_no_errors(f);
    assert_non_null(c);
    assert_int_equal(c->count[SPLIT_TRAIN], 15);
    assert_int_equal(c->count[SPLIT_TEST], 3);
    for (uint32_t k = 0; k < 6; k++)
        for (uint32_t i = 0; i < 3; i++) {
            Split    s = k < 5 ? SPLIT_TRAIN : SPLIT_TEST;
            uint32_t at = k < 5 ? 3 * k + i : i;
            assert_int_equal(c->labels[s][at], cifar_byte(k, i, 0));
            for (uint32_t p = 0; p < CIFAR; p += 97)
                assert_int_equal(c->pixels[s][(size_t)at * CIFAR + p], cifar_byte(k, i, p + 1));
        }
}

/* One coarse and one fine label before the pixels. */
static void cifar100_takes_the_fine_label(void **state)
{
    enum { RECORD = 2 + CIFAR, N = 4 };
    Fixture    *f = *state;
    DataRequest r = { .name = "cifar100", .dir = f->dir };
    uint8_t    *file = arena_alloc(&f->arena, N * RECORD);
    for (int i = 0; i < N; i++) {
        file[i * RECORD] = (uint8_t)(19 - i);
        file[i * RECORD + 1] = (uint8_t)(99 - i);
        memset(file + i * RECORD + 2, i, CIFAR);
    }
    assert_null(dataset_open(&f->arena, &f->diag, &r));
    assert_one_error(f, "cifar-100-binary for train.bin and test.bin");
    assert_int_equal(mkdir(path_in(f, "cifar-100-binary"), 0777), 0);
    write_file(path_in(f, "cifar-100-binary/train.bin"), file, N * RECORD);
    assert_null(dataset_open(&f->arena, &f->diag, &r));
    assert_one_error(f, "test.bin is missing");
    write_file(path_in(f, "cifar-100-binary/test.bin"), file, RECORD);
    Dataset *d = dataset_open(&f->arena, &f->diag, &r);
    assert_no_errors(f);
    assert_int_equal(dataset_classes(d), 100);
    assert_string_equal(dataset_class(d, 42), "42");
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), N);
    assert_int_equal(d->labels[SPLIT_TRAIN][2], 97);
    assert_int_equal(d->pixels[SPLIT_TRAIN][2 * CIFAR + 17], 2);
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 0), "test 0");

    Str names = str_new(&f->arena);
    for (int i = 0; i < 100; i++)
        str_printf(&names, "kind %d\n", i);
    write_file(path_in(f, "cifar-100-binary/fine_label_names.txt"), names.s, names.len);
    d = dataset_open(&f->arena, &f->diag, &r);
    assert_string_equal(dataset_class(d, 42), "kind 42");
    file[RECORD + 1] = 100;
    write_file(path_in(f, "cifar-100-binary/train.bin"), file, N * RECORD);
    assert_null(dataset_open(&f->arena, &f->diag, &r));
    assert_one_error(f, "label 100 of record 1 is none of 0..99");
    write_file(path_in(f, "cifar-100-binary/train.bin"), file, RECORD + 1);
    assert_null(dataset_open(&f->arena, &f->diag, &r));
    assert_one_error(f, "expected a multiple of 3074 (two labels and 3072 pixels)");
}

/* Of a set with all its samples, the first ones. */
static void head_has_the_first_samples(void **state)
{
    Fixture *f = *state;
    write_mnist(f, f->dir, 20, 10, false);
    Dataset *d = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = f->dir });
    Dataset *head = dataset_head(&f->arena, d, SPLIT_TEST, 3);
    assert_int_equal(dataset_count(head, SPLIT_TEST), 3);
    assert_int_equal(dataset_count(head, SPLIT_TRAIN), 20);
    assert_int_equal(dataset_count(d, SPLIT_TEST), 10);
    assert_int_equal(dataset_count(dataset_head(&f->arena, d, SPLIT_TEST, 99), SPLIT_TEST), 10);
}

static void real_mnist_has_its_known_numbers(void **state)
{
    Fixture    *f = *state;
    const char *dir = getenv("DETENT_MNIST");
    if (!dir || access(dir, R_OK) != 0)
        skip();
    Dataset *m = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = dir });
    assert_no_errors(f);
    assert_non_null(m);
    assert_int_equal(m->count[SPLIT_TRAIN], 60000);
    assert_int_equal(m->count[SPLIT_TEST], 10000);
    static const int32_t per_class[10] = { 5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949 };
    int32_t              seen[10] = { 0 };
    double               sum = 0, squares = 0, n = 60000.0 * DIGIT;
    for (int32_t i = 0; i < 60000; i++)
        seen[m->labels[SPLIT_TRAIN][i]]++;
    assert_memory_equal(seen, per_class, sizeof seen);
    for (int64_t i = 0; i < 60000 * (int64_t)DIGIT; i++) {
        double x = m->pixels[SPLIT_TRAIN][i] / 255.0;
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / n - 0.1307) < 5e-5);
    assert_true(fabs(sqrt(squares / n - sum / n * (sum / n)) - 0.3081) < 5e-5);
}

/* ---- Bad files ------------------------------------------------------------------------------------------------- */

/* A directory of good MNIST files, one of which each case spoils. */
static const char *good_mnist(Fixture *f, const char *name)
{
    const char *dir = path_in(f, name);
    write_mnist(f, dir, 20, 10, false);
    return dir;
}

static void expect_bad_mnist(Fixture *f, const char *dir, const char *message)
{
    assert_null(dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = dir }));
    assert_one_error(f, message);
}

#define IN(dir, name) arena_printf(&f->arena, "%s/%s", dir, name)
#define TRAIN_IMAGES "train-images-idx3-ubyte"
#define TRAIN_LABELS "train-labels-idx1-ubyte"

static void unknown_sets_and_places_are_named(void **state)
{
    Fixture *f = *state;
    assert_null(dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar", .dir = f->dir }));
    assert_one_error(f, "no dataset is called 'cifar'; there are mnist, cifar10");
    expect_bad_mnist(f, path_in(f, "absent"), "there is no directory");
    expect_bad_mnist(f, f->dir, "has none of the data files");
    expect_bad_mnist(f, f->dir, "train-images-idx3-ubyte, train-labels-idx1-ubyte");
    write_file(path_in(f, "file"), "x", 1);
    expect_bad_mnist(f, path_in(f, "file"), "is a file, expected the directory");
}

static void missing_idx_file_is_named(void **state)
{
    Fixture    *f = *state;
    const char *dir = good_mnist(f, "m");
    unlink(IN(dir, TRAIN_LABELS));
    expect_bad_mnist(f, dir, "lacks the training labels: no train-labels-idx1-ubyte");
    assert_int_equal(mkdir(IN(dir, TRAIN_LABELS), 0777), 0);
    expect_bad_mnist(f, dir, "lacks the training labels");
}

static void damaged_idx_headers_are_refused(void **state)
{
    Fixture    *f = *state;
    const char *dir = good_mnist(f, "m"), *images = IN(dir, TRAIN_IMAGES), *labels = IN(dir, TRAIN_LABELS);
    Bytes       good = idx_file(f, 3, 20, 20, 7), b = good;

    write_file(images, idx_file(f, 1, 20, 20, 7).at, 28);
    expect_bad_mnist(f, dir, "begins with 0x00000801, expected 0x00000803");
    write_file(images, "", 0);
    expect_bad_mnist(f, dir, "is cut off: 16 bytes were expected");
    write_file(images, good.at, 11);
    expect_bad_mnist(f, dir, "is cut off");
    write_file(images, good.at, good.len - 1);
    expect_bad_mnist(f, dir, "is cut off: 15680 bytes were expected after what was read, 15679 are there");
    b = idx_file(f, 3, 20, 21, 7);
    write_file(images, b.at, b.len);
    expect_bad_mnist(f, dir, "goes on after the 20 samples");
    b = idx_file(f, 3, 0xffffffff, 20, 7);
    write_file(images, b.at, b.len);
    expect_bad_mnist(f, dir, "count 4294967295 at place 0, which a file of 15696 bytes cannot hold");
    b = idx_file(f, 3, 0, 0, 7);
    write_file(images, b.at, b.len);
    expect_bad_mnist(f, dir, "count 0 at place 0");
    b = idx_file(f, 3, 20, 20, 7);
    b.at[11] = 27;
    write_file(images, b.at, b.len);
    expect_bad_mnist(f, dir, "images are 27x28, expected 28x28");
    write_file(images, good.at, good.len);

    b = idx_file(f, 1, 19, 19, 7);
    write_file(labels, b.at, b.len);
    expect_bad_mnist(f, dir, "20 training images in");
    b = idx_file(f, 1, 20, 20, 7);
    b.at[8 + 5] = 10;
    write_file(labels, b.at, b.len);
    expect_bad_mnist(f, dir, "label 10 of sample 5 is none of 0..9");
}

static void damaged_gzip_is_refused(void **state)
{
    Fixture    *f = *state;
    const char *dir = path_in(f, "m");
    write_mnist(f, dir, 20, 10, true);
    const char *path = IN(dir, TRAIN_IMAGES ".gz");
    size_t      len;
    uint8_t    *packed = read_bytes(f, path, &len);
    write_file(path, packed, len / 2);
    expect_bad_mnist(f, dir, "is cut off");
    write_file(path, packed, len - 3); /* all data is there, the end of the check sum is not */
    expect_bad_mnist(f, dir, "is cut off: the end of its gzip stream is missing");
    packed[len - 6] ^= 1; /* of the CRC */
    write_file(path, packed, len);
    expect_bad_mnist(f, dir, "is damaged: incorrect data check");
}

static void unreadable_file_is_reported(void **state)
{
    Fixture    *f = *state;
    const char *dir = good_mnist(f, "m");
    assert_int_equal(chmod(IN(dir, TRAIN_IMAGES), 0), 0);
    bool root = geteuid() == 0;
    if (root)
        assert_int_equal(seteuid(65534), 0);
    Dataset *m = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = dir });
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_null(m);
    assert_one_error(f, "train-images-idx3-ubyte: Permission denied");
}

static void expect_bad_cifar(Fixture *f, const char *message)
{
    assert_null(dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar10", .dir = f->dir }));
    assert_one_error(f, message);
}

static void damaged_cifar_is_refused(void **state)
{
    Fixture *f = *state;
    expect_bad_cifar(f, "data_batch_1.bin to data_batch_5.bin and test_batch.bin");
    write_file(path_in(f, "cifar10-jpeg.tar.xz"), "x", 1);
    expect_bad_cifar(f, "cifar10-jpeg.tar.xz is there; this holds JPEG files");
    write_file(path_in(f, "cifar-10-binary.tar.gz"), "x", 1);
    expect_bad_cifar(f, "unpack it first: tar -xzf");

    write_cifar(f, f->dir, 2);
    size_t   len;
    uint8_t *data = read_bytes(f, path_in(f, "data_batch_3.bin"), &len);
    write_file(path_in(f, "data_batch_3.bin"), data, len - 1);
    expect_bad_cifar(f, "data_batch_3.bin has 6145 bytes, expected a multiple of 3073");
    write_file(path_in(f, "data_batch_3.bin"), data, 0);
    expect_bad_cifar(f, "has 0 bytes");
    data[3073] = 10;
    write_file(path_in(f, "data_batch_3.bin"), data, len);
    expect_bad_cifar(f, "data_batch_3.bin: label 10 of record 1 is none of 0..9");
    unlink(path_in(f, "data_batch_3.bin"));
    expect_bad_cifar(f, "data_batch_3.bin is missing");
    assert_int_equal(mkdir(path_in(f, "data_batch_3.bin"), 0777), 0);
    expect_bad_cifar(f, "is missing: it is a directory");
}

/* ---- From bytes to floats -------------------------------------------------------------------------------------- */

/* 2 images of 2 channels, 2 rows, 3 columns; pixel = 100 image + 50 channel + 10 row + column */
static Dataset small_set(uint8_t pixels[24], const uint8_t labels[2])
{
    for (int i = 0; i < 24; i++)
        pixels[i] = (uint8_t)(100 * (i / 12) + 50 * (i / 6 % 2) + 10 * (i / 3 % 2) + i % 3);
    return (Dataset){ .name = "small",
                      .c = 2,
                      .h = { 2, 2 },
                      .w = { 3, 3 },
                      .classes = 2,
                      .count = { 2, 2 },
                      .pixels = { pixels, pixels },
                      .labels = { labels, labels } };
}

static void normalisation_is_torchvisions(void **state)
{
    (void)state;
    PixelTable t = pixel_table((Normalise){ { 0.1307f, 0.5f }, { 0.3081f, 0 } });
    for (int b = 0; b < 256; b++) {
        assert_true(t.of[0][b] == ((float)b / 255.0f - 0.1307f) / 0.3081f);
        assert_true(t.of[1][b] == (float)b / 255.0f); /* std 0: none */
    }
}

static void samples_are_laid_out_and_viewed(void **state)
{
    Fixture     *f = *state;
    uint8_t      pixels[24], labels[2] = { 0, 1 };
    Dataset      d = small_set(pixels, labels);
    LoaderConfig c = { .data = &d, .split = SPLIT_TRAIN, .batch = 1 };
    float        out[2][12];
    int32_t      label = 7;
    for (int nhwc = 0; nhwc < 2; nhwc++) {
        c.nhwc = nhwc;
        SampleMaker     m = sample_maker(&c);
        const SampleOut to = { .image = out[nhwc], .label = &label };
        assert_true(sample_make(&m, &f->arena, &f->diag, 0, 1, &to));
        assert_int_equal(label, 1);
    }
    for (int k = 0; k < 2; k++)
        for (int y = 0; y < 2; y++)
            for (int x = 0; x < 3; x++) {
                float want = (float)(100 + 50 * k + 10 * y + x) / 255.0f;
                assert_true(out[0][k * 6 + y * 3 + x] == want);
                assert_true(out[1][y * 6 + x * 2 + k] == want);
            }
    /* One down, one to the left, mirrored: row 1 comes first, then black; columns 0 1 of the view are source 1 0. */
    Sample s;
    assert_true(dataset_read(&f->arena, &f->diag, &d, SPLIT_TRAIN, 1, &s));
    Picture   view = picture_view(&f->arena, &s.picture, (View){ 1, 1, true });
    const int want[6] = { 111, 110, 0, 0, 0, 0 };
    for (int i = 0; i < 6; i++)
        assert_int_equal(view.pixels[2 * i], want[i]);
}

/* Every crop and both mirrorings come, about equally often, from (seed, epoch, sample) alone. */
static void views_cover_all_crops_evenly(void **state)
{
    (void)state;
    Dataset d = { .usual = USUAL_SHIFT, .crop_pad = 4, .mirror = true };
    int     seen[9][9][2] = { { { 0 } } }, n = 162 * 200;
    for (int i = 0; i < n; i++) {
        View v = dataset_view(&d, 5, i % 7, i);
        assert_in_range(v.dy + 4, 0, 8);
        assert_in_range(v.dx + 4, 0, 8);
        seen[v.dy + 4][v.dx + 4][v.mirror]++;
        View again = dataset_view(&d, 5, i % 7, i);
        assert_true(again.dx == v.dx && again.dy == v.dy && again.mirror == v.mirror);
    }
    double chi2 = 0;
    for (int i = 0; i < 162; i++)
        chi2 += (seen[i / 18][i / 2 % 9][i % 2] - 200.0) * (seen[i / 18][i / 2 % 9][i % 2] - 200.0) / 200;
    assert_true(chi2 < 161 + 5 * sqrt(2 * 161));
    Dataset none = { 0 };
    View    v = dataset_view(&none, 5, 1, 1);
    assert_true(v.dx == 0 && v.dy == 0 && !v.mirror);
}

/* ---- Batches --------------------------------------------------------------------------------------------------- */

typedef struct Epoch {
    float   *image; /* all batches in a row */
    int32_t *label;
    int32_t  batches, last_valid;
} Epoch;

static Epoch run_epoch(Fixture *f, Loader *l, const Dataset *d, int32_t batch, int32_t epoch, int32_t first,
                       unsigned slow)
{
    size_t each = (size_t)(d->c * d->h[0] * d->w[0]);
    Epoch  e = { ARENA_ARRAY(&f->arena, float, (size_t)loader_batches(l) * (size_t)batch * each),
                 ARENA_ARRAY(&f->arena, int32_t, loader_batches(l) * batch), 0, 0 };
    loader_start(l, epoch, first);
    for (int32_t valid; (valid = loader_next(l, &(BatchOut){ .image = e.image + (size_t)(e.batches * batch) * each,
                                                             .label = e.label + e.batches * batch }));) {
        e.last_valid = valid;
        e.batches++;
        if (slow)
            usleep(rng_u32(slow, 0, 0, (uint64_t)e.batches) % slow);
    }
    return e;
}

static void training_epoch_is_a_permutation(void **state)
{
    Fixture *f = *state;
    write_cifar(f, f->dir, 9); /* 45 samples */
    Dataset *d = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar10", .dir = f->dir });
    d->usual = USUAL_NONE;
    Loader *l = loader_new(
        &f->arena, &f->diag,
        (LoaderConfig){ .data = d, .split = SPLIT_TRAIN, .batch = 15, .augment = { .usual = true }, .seed = 3 });
    assert_int_equal(loader_batches(l), 3);
    uint32_t order[45];
    for (int32_t epoch = 0; epoch < 3; epoch++) {
        Epoch e = run_epoch(f, l, d, 15, epoch, 0, 0);
        assert_int_equal(e.batches, 3);
        assert_int_equal(e.last_valid, 15);
        rng_permutation(3, hash_u32("shuffle"), (uint32_t)epoch, order, 45);
        for (int i = 0; i < 45; i++) {
            assert_int_equal(e.label[i], d->labels[SPLIT_TRAIN][order[i]]);
            assert_true(e.image[i * CIFAR + 77] == (float)d->pixels[SPLIT_TRAIN][order[i] * CIFAR + 77] / 255.0f);
        }
    }
    loader_free(l);
}

static void partial_batches_are_dropped_or_filled(void **state)
{
    Fixture *f = *state;
    write_mnist(f, f->dir, 50, 23, false);
    Dataset *d = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = f->dir });
    Loader  *train = loader_new(&f->arena, &f->diag,
                                (LoaderConfig){ .data = d, .split = SPLIT_TRAIN, .batch = 16, .normalise = mnist_norm });
    Loader  *test = loader_new(&f->arena, &f->diag,
                               (LoaderConfig){ .data = d, .split = SPLIT_TEST, .batch = 16, .normalise = mnist_norm });
    assert_int_equal(loader_batches(train), 3);
    assert_int_equal(loader_batches(test), 2);
    Epoch e = run_epoch(f, test, d, 16, 0, 0, 0);
    assert_int_equal(e.last_valid, 7);
    for (int i = 0; i < 32; i++) {
        int sample = i < 23 ? i : 0;
        assert_int_equal(e.label[i], d->labels[SPLIT_TEST][sample]);
        assert_memory_equal(e.image + i * DIGIT, e.image + sample * DIGIT, DIGIT * sizeof(float));
    }
    assert_int_equal(loader_next(test, &(BatchOut){ .image = e.image, .label = e.label }), 0); /* stays over */
    loader_free(train);
    loader_free(test);

    assert_null(loader_new(&f->arena, &f->diag, (LoaderConfig){ .data = d, .split = SPLIT_TRAIN, .batch = 51 }));
    assert_one_error(f, "a batch of 51 is larger than the training set of mnist, 50 samples");
    Loader *large = loader_new(&f->arena, &f->diag, (LoaderConfig){ .data = d, .split = SPLIT_TEST, .batch = 64 });
    e = run_epoch(f, large, d, 64, 0, 0, 0);
    assert_int_equal(e.batches, 1);
    assert_int_equal(e.last_valid, 23);
    loader_free(large);
}

/* Two augmented epochs of pictures that never change have the bytes they had in the first version of the loader: runs
 * that were made once can be made again. */
static void batches_are_those_of_the_first_version(void **state)
{
    static const struct {
        const char *name, *dir;
        bool        nhwc;
        size_t      each;
        const char *hash;
    } cases[] = { { "cifar10", ".", true, CIFAR, "2f91c95c1751494c248787294af5d42e" },
                  { "mnist", "m", false, DIGIT, "ad1f280c9f86796e627967955fc5c348" } };
    enum { N = 8 };
    Fixture *f = *state;
    write_cifar(f, f->dir, 40);
    write_mnist(f, path_in(f, "m"), 70, 13, false);
    for (int k = 0; k < DT_COUNT(cases); k++) {
        Dataset *d =
            dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = cases[k].name, .dir = path_in(f, cases[k].dir) });
        Loader      *l = loader_new(&f->arena, &f->diag,
                                    (LoaderConfig){ .data = d,
                                                    .split = SPLIT_TRAIN,
                                                    .batch = N,
                                                    .augment = { .usual = true },
                                                    .nhwc = cases[k].nhwc,
                                                    .seed = 11,
                                                    .normalise = { { .5f, .4f, .3f }, { .2f, .25f, .3f } },
                                                    .threads = 1 + k });
        const size_t floats = N * cases[k].each * sizeof(float), batch = floats + N * sizeof(int32_t);
        int32_t      batches = loader_batches(l);
        char        *all = arena_alloc(&f->arena, 2 * (size_t)batches * batch), *at = all, hex[33];
        for (int epoch = 0; epoch < 2; epoch++) {
            loader_start(l, epoch, 0);
            for (int b = 0; b < batches; b++, at += batch)
                assert_int_equal(loader_next(l, &(BatchOut){ .image = (float *)at, .label = (int32_t *)(at + floats) }),
                                 N);
        }
        hash_hex(hash_bytes(all, (size_t)(at - all)), hex);
        assert_string_equal(hex, cases[k].hash);
        loader_free(l);
    }
}

/* The same batches whatever the timing, wherever in the epoch the loader begins and whatever it did before. */
static void batches_do_not_depend_on_timing_or_history(void **state)
{
    Fixture *f = *state;
    write_cifar(f, f->dir, 40);
    Dataset     *d = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "cifar10", .dir = f->dir });
    LoaderConfig c = { .data = d,
                       .split = SPLIT_TRAIN,
                       .batch = 8,
                       .augment = { .usual = true },
                       .nhwc = true,
                       .seed = 11,
                       .normalise = { { 0.5f, 0.4f, 0.3f }, { 0.2f, 0.2f, 0.2f } } };
    Loader      *a = loader_new(&f->arena, &f->diag, c), *b = loader_new(&f->arena, &f->diag, c);
    size_t       each = 8 * CIFAR;
    Epoch        first = run_epoch(f, a, d, 8, 4, 0, 0);
    assert_int_equal(first.batches, 25);

    run_epoch(f, b, d, 8, 2, 20, 0);
    loader_start(b, 9, 0); /* left in the middle, with a batch on its way */
    loader_next(b, &(BatchOut){ .image = ARENA_ARRAY(&f->arena, float, each) });
    Epoch slow = run_epoch(f, b, d, 8, 4, 0, 300);
    assert_memory_equal(first.image, slow.image, 25 * each * sizeof(float));
    assert_memory_equal(first.label, slow.label, 25 * 8 * sizeof(int32_t));
    Epoch rest = run_epoch(f, b, d, 8, 4, 17, 0);
    assert_int_equal(rest.batches, 8);
    assert_memory_equal(first.image + 17 * each, rest.image, 8 * each * sizeof(float));

    Epoch other = run_epoch(f, b, d, 8, 5, 0, 0);
    assert_memory_not_equal(first.image, other.image, each * sizeof(float));
    loader_start(a, 0, 0);
    loader_free(a); /* while it works */
    loader_free(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(mnist_reads_plain_and_packed_alike),
        TEST(cifar_keeps_the_order_of_files_and_records),
        TEST(cifar100_takes_the_fine_label),
        TEST(head_has_the_first_samples),
        TEST(real_mnist_has_its_known_numbers),
        TEST(unknown_sets_and_places_are_named),
        TEST(missing_idx_file_is_named),
        TEST(damaged_idx_headers_are_refused),
        TEST(damaged_gzip_is_refused),
        TEST(unreadable_file_is_reported),
        TEST(damaged_cifar_is_refused),
        TEST(normalisation_is_torchvisions),
        TEST(samples_are_laid_out_and_viewed),
        TEST(views_cover_all_crops_evenly),
        TEST(training_epoch_is_a_permutation),
        TEST(partial_batches_are_dropped_or_filled),
        TEST(batches_are_those_of_the_first_version),
        TEST(batches_do_not_depend_on_timing_or_history),
    };
    return cmocka_run_group_tests_name("data", tests, NULL, NULL);
}
