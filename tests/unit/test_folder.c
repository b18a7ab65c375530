/* test_folder.c: data sets of picture files: folders of classes, pairs, SIDD; broken pictures; packed pixels. */
#include "tests/unit/picture_fixture.h"

#ifdef DT_HAVE_PICTURES
#include <matio.h>

static Dataset *open_set(Fixture *f, DataRequest r)
{
    r.dir = r.dir ? r.dir : f->dir;
    return dataset_open(&f->arena, &f->diag, &r);
}

static void expect_no_set(Fixture *f, DataRequest r, const char *part)
{
    assert_null(open_set(f, r));
    assert_one_error(f, part);
}

static void put_all(Fixture *f, const char *const *names, int32_t n, int32_t h, int32_t w)
{
    for (int32_t i = 0; i < n; i++) {
        Picture p = smooth_picture(&f->arena, 3, h + i % 5, w + i % 3, i);
        put_picture(f, names[i], &p);
    }
}

/* ---- Folders --------------------------------------------------------------------------------------------------- */

static const char *const flowers[] = {
    "train/rose/b.jpg",          "train/rose/a.JPEG",  "train/aster/1.png",
    "train/aster/deep/er/2.PNG", "train/tulip/x.jpeg", "train/tulip/y.jpg",
    "train/tulip/z.jpg",         "val/tulip/v.png",    "val/rose/w.jpg",
};
#define FLOWERS flowers, DT_COUNT(flowers)

static void folders_are_classes(void **state)
{
    Fixture *f = *state;
    put_all(f, FLOWERS, 40, 50);
    write_file(path_in(f, "train/rose/notes.txt"), "x", 1);
    write_file(path_in(f, "train/rose/.hidden.jpg"), "x", 1);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 32 });
    assert_no_errors(f);
    assert_non_null(d);
    assert_int_equal(f->diag.warnings, 0);
    assert_int_equal(dataset_task(d), DATA_CLASSES);
    assert_int_equal(dataset_classes(d), 3);
    assert_string_equal(dataset_class(d, 0), "aster");
    assert_string_equal(dataset_class(d, 2), "tulip");
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), 7);
    assert_int_equal(dataset_count(d, SPLIT_TEST), 2);
    static const char *const order[] = { "aster/1.png",  "aster/deep/er/2.PNG", "rose/a.JPEG", "rose/b.jpg",
                                         "tulip/x.jpeg", "tulip/y.jpg",         "tulip/z.jpg" };
    static const int32_t     labels[] = { 0, 0, 1, 1, 2, 2, 2 };
    for (int i = 0; i < 7; i++) {
        Sample s;
        assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TRAIN, i), order[i]);
        assert_true(dataset_read(&f->arena, &f->diag, d, SPLIT_TRAIN, i, &s));
        assert_int_equal(s.label, labels[i]);
    }
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 0), "rose/w.jpg");
    assert_int_equal(dataset_height(d, SPLIT_TRAIN), 24);
    assert_int_equal(dataset_width(d, SPLIT_TEST), 32);
    d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 24, .test_h = 32, .test_w = 40 });
    assert_true(dataset_height(d, SPLIT_TEST) == 32 && dataset_width(d, SPLIT_TEST) == 40);
    d = open_set(f, (DataRequest){ .name = "folder" });
    assert_true(dataset_height(d, SPLIT_TRAIN) == 224 && dataset_width(d, SPLIT_TEST) == 224);
}

static void other_folders_are_explained(void **state)
{
    Fixture *f = *state;
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "absent") }, "there is no directory");
    expect_no_set(f, (DataRequest){ .name = "folder" }, "has no folders, expected one for each class");
    write_file(path_in(f, "pictures.tar.gz"), "x", 1);
    expect_no_set(f, (DataRequest){ .name = "folder" }, "pictures.tar.gz is there; unpack it first");
    unlink(path_in(f, "pictures.tar.gz"));
    static const char *const flat[] = { "flat/a.jpg", "flat/b.jpg" };
    put_all(f, flat, 2, 10, 10);
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "flat") }, "its 2 pictures lie side by side");
    assert_int_equal(mkdir(path_in(f, "flat/none"), 0777), 0);
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "flat") },
                  "have no pictures (.jpg, .jpeg, .png)");
    expect_no_set(f, (DataRequest){ .name = "folder", .noise = "camera" }, "noise is made for pairs alone");

    static const char *const whole[] = { "whole/cat/1.jpg", "whole/dog/2.jpg" };
    put_all(f, whole, 2, 30, 30);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "whole") });
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 1);
    assert_non_null(strstr(f->diag.text.s, "its 2 pictures are what is trained on and what is tested"));
    assert_true(dataset_count(d, SPLIT_TRAIN) == 2 && dataset_count(d, SPLIT_TEST) == 2);

    static const char *const half[] = { "half/train/cat/1.jpg" }, *const more[] = { "half/test/dog/1.jpg" };
    put_all(f, half, 1, 30, 30);
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "half") }, "has no test pictures");
    put_all(f, more, 1, 30, 30);
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "half") }, "half/test/dog is a class that");
    assert_int_equal(rename(path_in(f, "half/train"), path_in(f, "half/other")), 0);
    expect_no_set(f, (DataRequest){ .name = "folder", .dir = path_in(f, "half") }, "has no training pictures");
}

/* ---- Batches --------------------------------------------------------------------------------------------------- */

typedef struct Run {
    float  *image, *target, *noise;
    int32_t label[64], batches, n; /* n: elements of a batch */
} Run;

/* The whole epoch; *end is what loader_next gave at last. */
static Run run_epoch(Fixture *f, const Dataset *d, Split s, int32_t batch, Augment g, int32_t threads, int32_t epoch,
                     int32_t *end)
{
    Loader *l = loader_new(
        &f->arena, &f->diag,
        (LoaderConfig){ .data = d, .split = s, .batch = batch, .augment = g, .seed = 5, .threads = threads });
    assert_non_null(l);
    Run r = { .n = batch * dataset_channels(d) * dataset_height(d, s) * dataset_width(d, s) };
    r.image = ARENA_ARRAY(&f->arena, float, loader_batches(l) * r.n);
    r.target = ARENA_ARRAY(&f->arena, float, loader_batches(l) * r.n);
    r.noise = ARENA_ARRAY(&f->arena, float, loader_batches(l) * r.n);
    loader_start(l, epoch, 0);
    for (;; r.batches++) {
        const BatchOut to = { .image = r.image + r.batches * r.n,
                              .target = r.target + r.batches * r.n,
                              .noise = r.noise + r.batches * r.n,
                              .label = r.label + r.batches * batch };
        *end = r.batches > loader_batches(l) ? 0 : loader_next(l, &to);
        if (*end <= 0)
            break;
    }
    loader_free(l);
    return r;
}

static const Augment everything = {
    .usual = true, .colour = 0.4f, .erase = 0.3f, .mixup = 0.2f, .randaugment = 2, .randaugment_m = 9
};

static void same_run(const Run *a, const Run *b)
{
    assert_int_equal(a->batches, b->batches);
    assert_memory_equal(a->image, b->image, sizeof(float) * (size_t)(a->batches * a->n));
    assert_memory_equal(a->target, b->target, sizeof(float) * (size_t)(a->batches * a->n));
    assert_memory_equal(a->noise, b->noise, sizeof(float) * (size_t)(a->batches * a->n));
    assert_memory_equal(a->label, b->label, sizeof a->label);
}

static void threads_change_nothing(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 40, 50);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 24 });
    Run      one = run_epoch(f, d, SPLIT_TRAIN, 2, everything, 1, 3, &end);
    assert_int_equal(end, 0);
    assert_int_equal(one.batches, 3);
    for (int32_t threads = 2; threads < 6; threads++) {
        Run many = run_epoch(f, d, SPLIT_TRAIN, 2, everything, threads, 3, &end);
        same_run(&one, &many);
    }
    Run later = run_epoch(f, d, SPLIT_TRAIN, 2, everything, 0, 4, &end);
    assert_memory_not_equal(one.image, later.image, sizeof(float) * (size_t)one.n);
    assert_no_errors(f);
}

/* Test pictures are the resized middle, whatever augmentation is asked for. */
static void test_pictures_are_the_middle(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 40, 50);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 24 });
    Run      r = run_epoch(f, d, SPLIT_TEST, 4, everything, 1, 0, &end);
    assert_int_equal(r.batches, 1);
    Sample s;
    assert_true(dataset_read(&f->arena, &f->diag, d, SPLIT_TEST, 1, &s));
    Picture want = picture_center(&f->arena, &s.picture, 24, 24);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 24 * 24; i++)
            assert_true(r.image[(3 + k) * 576 + i] == (float)want.pixels[3 * i + k] / 255.0f);
    assert_true(r.label[0] == 1 && r.label[1] == 2);
}

/* ---- Broken pictures ------------------------------------------------------------------------------------------- */

static void broken_pictures_are_named_and_passed_over(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 40, 50);
    write_file(path_in(f, "train/rose/a.JPEG"), "no picture", 10);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 24, .bad_limit = 2 });
    uint32_t order[7], at = 0;
    rng_permutation(5, hash_u32("shuffle"), 1, order, 7);
    while (order[at] != 2)
        at++;
    const char *next = dataset_sample_name(&f->arena, d, SPLIT_TRAIN, (int32_t)order[(at + 1) % 7]);
    Run         one = run_epoch(f, d, SPLIT_TRAIN, 7, everything, 1, 1, &end);
    assert_int_equal(end, 0);
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 1);
    const char *said = arena_printf(&f->arena,
                                    "data: rose/a.JPEG is passed over (1 of at most 2), %s stands in its place: "
                                    "picture: %s: neither JPEG nor PNG",
                                    next, path_in(f, "train/rose/a.JPEG"));
    if (!strstr(f->diag.text.s, said))
        fail_msg("not said: %s: %s", said, f->diag.text.s);
    for (int32_t threads = 2; threads < 5; threads++) {
        Run many = run_epoch(f, d, SPLIT_TRAIN, 7, everything, threads, 1, &end);
        same_run(&one, &many);
    }
    /* The one that stands there looks as it does at its own place. */
    Run          plain = run_epoch(f, d, SPLIT_TRAIN, 7, (Augment){ .usual = true }, 2, 1, &end);
    const float *pair = plain.image + at % 7 * (unsigned)(plain.n / 7);
    if (at < 6)
        assert_memory_equal(pair, pair + plain.n / 7, sizeof(float) * (size_t)(plain.n / 7));
    assert_int_equal(plain.label[at], plain.label[(at + 1) % 7]);

    diag_free(&f->diag);
    f->diag = diag_new(NULL);
    write_file(path_in(f, "train/tulip/y.jpg"), "", 0);
    write_file(path_in(f, "train/aster/1.png"), "no picture", 10);
    run_epoch(f, d, SPLIT_TRAIN, 7, everything, 3, 1, &end);
    assert_int_equal(end, -1);
    assert_int_equal(f->diag.warnings, 2);
    assert_one_error(f, "2 broken pictures were passed over before it, as many as may be");
    d = open_set(f, (DataRequest){ .name = "folder", .h = 24, .w = 24 });
    run_epoch(f, d, SPLIT_TRAIN, 7, everything, 2, 1, &end);
    assert_int_equal(end, -1);
    assert_int_equal(f->diag.warnings, 0);
    assert_one_error(f, "cannot be used: picture: ");
}

/* Nothing but broken pictures ends, too; and a loader may be left while it works. */
static void all_broken_is_a_mistake(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 20, 20);
    for (int i = 0; i < DT_COUNT(flowers); i++)
        write_file(path_in(f, flowers[i]), "no picture", 10);
    Dataset *d = open_set(f, (DataRequest){ .name = "folder", .h = 16, .w = 16, .bad_limit = 1000 });
    run_epoch(f, d, SPLIT_TRAIN, 3, everything, 2, 1, &end);
    assert_in_range(f->diag.warnings, 1, 7);
    assert_int_equal(end, -1);
    assert_one_error(f, "no sound picture is left");
    Loader *l = loader_new(&f->arena, &f->diag, (LoaderConfig){ .data = d, .split = SPLIT_TRAIN, .batch = 3 });
    loader_start(l, 0, 0);
    loader_free(l);
}

/* ---- Packed pixels --------------------------------------------------------------------------------------------- */

/* The only file of the cache directory. */
static const char *pack_file(Fixture *f)
{
    FILE *out = popen(arena_printf(&f->arena, "ls -d %s/cache/*", f->dir), "r");
    char  path[512] = "";
    assert_non_null(fgets(path, sizeof path, out));
    path[strcspn(path, "\n")] = 0;
    assert_null(fgets((char[8]){ 0 }, 8, out)); /* nothing is left beside it */
    pclose(out);
    return arena_strdup(&f->arena, path);
}

static void packed_pictures_are_the_same(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 300, 400); /* decoded at half the size */
    DataRequest r = { .name = "folder", .h = 24, .w = 24 };
    Run         plain = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 2, everything, 2, 1, &end);
    r.cache = path_in(f, "cache");
    for (int again = 0; again < 2; again++) {
        Dataset *d = open_set(f, r);
        assert_non_null(d->pack);
        Run packed = run_epoch(f, d, SPLIT_TRAIN, 2, everything, 2, 1, &end);
        same_run(&plain, &packed);
        Run test = run_epoch(f, d, SPLIT_TEST, 2, everything, 2, 1, &end);
        assert_int_equal(test.batches, 1);
    }
    const char *path = pack_file(f);
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    open_set(f, r);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* used, not made again */

    Picture other = smooth_picture(&f->arena, 3, 30, 40, 9); /* a picture changes: the pack is made anew */
    put_picture(f, "train/rose/a.JPEG", &other);
    Run changed = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 2, everything, 2, 1, &end);
    assert_int_equal(stat(pack_file(f), &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    r.cache = NULL;
    Run want = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 2, everything, 2, 1, &end);
    same_run(&want, &changed);
    assert_memory_not_equal(plain.image, changed.image, sizeof(float) * (size_t)(3 * plain.n));
    assert_no_errors(f);
}

/* Folders without splits: each picture is packed once. */
static void one_folder_is_packed_once(void **state)
{
    static const char *const names[] = { "cat/1.png", "cat/2.png", "dog/3.png" };
    Fixture                 *f = *state;
    int32_t                  end;
    put_all(f, names, 3, 40, 40);
    DataRequest r = { .name = "folder", .h = 24, .w = 24 };
    Dataset    *plain = open_set(f, r);
    r.cache = path_in(f, "cache");
    Dataset    *packed = open_set(f, r);
    struct stat st;
    assert_int_equal(stat(pack_file(f), &st), 0);
    assert_in_range(st.st_size, 3 * 40 * 40 * 3, 4 * 42 * 42 * 3);
    for (Split s = 0; s < SPLIT_COUNT; s++) {
        Run a = run_epoch(f, plain, s, 3, everything, 1, 0, &end),
            b = run_epoch(f, packed, s, 3, everything, 2, 0, &end);
        assert_int_equal(a.batches, 1);
        same_run(&a, &b);
    }
    assert_no_errors(f);
}

static void damaged_packs_are_not_believed(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_all(f, FLOWERS, 40, 50);
    write_file(path_in(f, "train/tulip/y.jpg"), "no picture", 10); /* not in the pack, and still named */
    DataRequest r = { .name = "folder", .h = 24, .w = 24, .bad_limit = 1 };
    Run         plain = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 7, everything, 2, 1, &end);
    assert_int_equal(f->diag.warnings, 1);
    r.cache = path_in(f, "cache");
    open_set(f, r);
    const char  *path = pack_file(f);
    size_t       len;
    uint8_t     *file = read_bytes(f, path, &len);
    const size_t places[] = { 3, 20, 100, len / 2, len - 100 };
    for (int i = 0; i < DT_COUNT(places); i++) {
        file[places[i]] ^= 0x5a;
        write_file(path, file, len);
        file[places[i]] ^= 0x5a;
        Run run = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 7, everything, 2, 1, &end);
        same_run(&plain, &run);
    }
    write_file(path, file, len / 2);
    Run run = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 7, everything, 2, 1, &end);
    same_run(&plain, &run);
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 1 + DT_COUNT(places) + 1);

    write_file(path_in(f, "file"), "x", 1);
    r.cache = path_in(f, "file/cache");
    run = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 7, everything, 2, 1, &end);
    same_run(&plain, &run);
    assert_non_null(strstr(f->diag.text.s, "pictures are not packed: cannot make the directory"));
    assert_no_errors(f);
}

/* ---- Pairs ----------------------------------------------------------------------------------------------------- */

/* Pairs of PNG files: the noisy one is 255 minus the clean one. */
static void put_pairs(Fixture *f, const char *noisy, const char *clean, int32_t n, int32_t h, int32_t w)
{
    for (int32_t i = 0; i < n; i++) {
        Picture p = smooth_picture(&f->arena, 3, h, w, i);
        put_picture(f, arena_printf(&f->arena, "%s/%02d.png", clean, i), &p);
        for (int32_t e = 0; e < 3 * h * w; e++)
            p.pixels[e] = (uint8_t)(255 - p.pixels[e]);
        put_picture(f, arena_printf(&f->arena, "%s/%02d.png", noisy, i), &p);
    }
}

static void every_fifth_pair_is_held_out(void **state)
{
    Fixture *f = *state;
    put_pairs(f, "noisy", "clean", 12, 20, 30);
    Dataset *d = open_set(f, (DataRequest){ .name = "pairs", .h = 16, .w = 16 });
    assert_no_errors(f);
    assert_int_equal(dataset_task(d), DATA_PAIRS);
    assert_int_equal(dataset_classes(d), 0);
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), 10);
    assert_int_equal(dataset_count(d, SPLIT_TEST), 2);
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 0), "noisy/04.png");
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 1), "noisy/09.png");
    assert_true(dataset_height(d, SPLIT_TEST) == 20 && dataset_width(d, SPLIT_TEST) == 30);
    assert_true(dataset_height(d, SPLIT_TRAIN) == 16 && dataset_width(d, SPLIT_TRAIN) == 16);
    d = open_set(f, (DataRequest){ .name = "pairs", .h = 16, .w = 16, .crops = 3, .test_h = 12, .test_w = 8 });
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), 30);
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TRAIN, 5), "noisy/01.png");
    assert_true(dataset_height(d, SPLIT_TEST) == 12 && dataset_width(d, SPLIT_TEST) == 8);

    write_file(path_in(f, "test.txt"), "00.png\n07\n11.jpg\n", 17);
    d = open_set(f, (DataRequest){ .name = "pairs" });
    assert_no_errors(f);
    assert_int_equal(dataset_count(d, SPLIT_TEST), 3);
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 1), "noisy/07.png");
    write_file(path_in(f, "test.txt"), "00.png\n77\n", 10);
    expect_no_set(f, (DataRequest){ .name = "pairs" }, "test.txt:2: there is no pair called '77'");
}

static void layouts_of_pairs(void **state)
{
    Fixture *f = *state;
    expect_no_set(f, (DataRequest){ .name = "pairs" }, "has no folders noisy and clean");
    expect_no_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "absent") }, "there is no directory");
    put_pairs(f, "a/train/input", "a/train/target", 3, 20, 20);
    put_pairs(f, "a/test/lq", "a/test/gt", 2, 24, 20);
    Dataset *d = open_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "a") });
    assert_no_errors(f);
    assert_true(dataset_count(d, SPLIT_TRAIN) == 3 && dataset_count(d, SPLIT_TEST) == 2);
    assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, 1), "lq/01.png");

    put_pairs(f, "b/noisy", "b/clean", 3, 20, 20);
    assert_int_equal(rename(path_in(f, "b/clean/01.png"), path_in(f, "b/clean/other.png")), 0);
    expect_no_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "b") }, "b/noisy/01.png has no partner in");
    unlink(path_in(f, "b/noisy/01.png"));
    d = open_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "b") });
    assert_int_equal(f->diag.warnings, 1);
    assert_non_null(strstr(f->diag.text.s, "has 2 pictures, "));
    assert_true(dataset_count(d, SPLIT_TRAIN) == 1 && dataset_count(d, SPLIT_TEST) == 1);
    unlink(path_in(f, "b/noisy/02.png"));
    expect_no_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "b") },
                  "of its 1 pairs none is left as test pair");
    expect_no_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "b"), .noise = "loud" }, "expected gaussian:25");
}

/* Both pictures of a pair are cut out and turned alike, at places and in ways that vary. */
static void pairs_stay_together(void **state)
{
    Fixture *f = *state;
    int32_t  end, differ = 0;
    put_pairs(f, "noisy", "clean", 5, 40, 50);
    Dataset *d = open_set(f, (DataRequest){ .name = "pairs", .h = 16, .w = 16, .crops = 6 });
    for (int32_t augmented = 0; augmented < 2; augmented++) {
        Run one = run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = augmented }, 1, 2, &end);
        assert_int_equal(one.batches, 6);
        for (int32_t i = 0; i < one.batches * one.n; i++) {
            int x = (int)lrintf(255 * one.image[i]), y = (int)lrintf(255 * one.target[i]);
            assert_int_equal(x + y, 255);
            assert_true(one.noise[i] == -1);
        }
        Run many = run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = augmented }, 4, 2, &end);
        same_run(&one, &many);
        Run later = run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = augmented }, 4, 3, &end);
        differ += memcmp(one.image, later.image, sizeof(float) * (size_t)one.n) != 0;
    }
    assert_int_equal(differ, 2); /* without augmentation the order still varies */
    Run    test = run_epoch(f, d, SPLIT_TEST, 1, (Augment){ .usual = true }, 1, 0, &end);
    Sample s;
    assert_true(dataset_read(&f->arena, &f->diag, d, SPLIT_TEST, 0, &s));
    for (int i = 0; i < 40 * 50; i++)
        assert_true(test.target[i] == (float)s.clean.pixels[3 * i] / 255.0f);
    assert_no_errors(f);
}

static void unequal_and_small_pairs_are_broken(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_pairs(f, "noisy", "clean", 5, 20, 20);
    Picture p = smooth_picture(&f->arena, 3, 20, 24, 0);
    put_picture(f, "noisy/02.png", &p);
    Dataset *d = open_set(f, (DataRequest){ .name = "pairs", .h = 16, .w = 16 });
    run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = true }, 1, 0, &end);
    assert_int_equal(end, -1);
    assert_one_error(f, "data: noisy/02.png cannot be used: data: the pair is 20x24 and 20x20, expected one size");
    p = smooth_picture(&f->arena, 3, 20, 20, 0);
    put_picture(f, "noisy/02.png", &p);
    d = open_set(f, (DataRequest){ .name = "pairs", .h = 24, .w = 16 });
    run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = true }, 1, 0, &end);
    assert_int_equal(end, -1);
    assert_one_error(f, "smaller than the 24x16 that are cut out");
}

static void noise_is_made_where_there_is_none(void **state)
{
    Fixture *f = *state;
    int32_t  end;
    put_pairs(f, "clean/more", "clean", 10, 40, 40);
    static const char *const models[] = { "gaussian:25", "camera" };
    for (int k = 0; k < DT_COUNT(models); k++) {
        DataRequest r = { .name = "pairs", .h = 32, .w = 32, .noise = models[k] };
        Dataset    *d = open_set(f, r);
        assert_no_errors(f);
        assert_int_equal(dataset_count(d, SPLIT_TRAIN), 16);
        assert_string_equal(dataset_sample_name(&f->arena, d, SPLIT_TRAIN, 0), "clean/00.png");
        Run    one = run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = true }, 1, 2, &end);
        Run    many = run_epoch(f, d, SPLIT_TRAIN, 4, (Augment){ .usual = true }, 3, 2, &end);
        double squares = 0, told = 0;
        same_run(&one, &many);
        for (int32_t i = 0; i < one.n; i++) {
            squares += pow((double)(one.image[i] - one.target[i]), 2) / one.n;
            told += pow((double)one.noise[i], 2) / one.n;
            assert_true(one.noise[i] >= 0);
        }
        assert_true(squares > 1e-5);
        if (k == 0)
            assert_true(fabs(squares / told - 1) < 0.05);
        /* Test noise is the same for all seeds and epochs. */
        Run a = run_epoch(f, d, SPLIT_TEST, 4, (Augment){ 0 }, 1, 0, &end);
        Run b = run_epoch(f, d, SPLIT_TEST, 4, (Augment){ 0 }, 2, 7, &end);
        same_run(&a, &b);
        r.cache = path_in(f, "cache");
        Run packed = run_epoch(f, open_set(f, r), SPLIT_TRAIN, 4, (Augment){ .usual = true }, 1, 2, &end);
        same_run(&one, &packed);
    }
    /* Any folder of pictures does. */
    Dataset *d = open_set(f, (DataRequest){ .name = "pairs", .dir = path_in(f, "clean/more"), .noise = "camera" });
    assert_no_errors(f);
    assert_true(dataset_count(d, SPLIT_TRAIN) == 8 && dataset_count(d, SPLIT_TEST) == 2);
}

/* ---- SIDD ------------------------------------------------------------------------------------------------------ */

static void put_scenes(Fixture *f, const char *data, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        Picture p = smooth_picture(&f->arena, 3, 30, 40, i);
        for (int32_t k = 10; k < 12; k++) {
            put_picture(f, arena_printf(&f->arena, "%s/%04d_S6/%04d_NOISY_SRGB_0%d.PNG", data, i, i, k), &p);
            put_picture(f, arena_printf(&f->arena, "%s/%04d_S6/%04d_GT_SRGB_0%d.PNG", data, i, i, k), &p);
        }
    }
}

static void write_blocks(const char *path, const char *name, uint8_t add, size_t rows)
{
    size_t  dims[5] = { rows, 2, 8, 8, 3 };
    uint8_t data[2 * 2 * 8 * 8 * 3];
    mat_t  *mat = Mat_CreateVer(path, NULL, MAT_FT_MAT5);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % rows * 16 + add); /* by row */
    matvar_t *v = Mat_VarCreate(name, MAT_C_UINT8, MAT_T_UINT8, 5, dims, data, 0);
    assert_int_equal(Mat_VarWrite(mat, v, MAT_COMPRESSION_ZLIB), 0);
    Mat_VarFree(v);
    Mat_Close(mat);
}

static void sidd_as_it_is_published(void **state)
{
    Fixture    *f = *state;
    int32_t     end;
    DataRequest r = { .name = "sidd", .h = 16, .w = 16 };
    expect_no_set(f, r, "has no scenes: expected SIDD_Medium_Srgb/Data/SCENE/*NOISY*.PNG");
    put_scenes(f, "SIDD_Medium_Srgb/Data", 6);
    Dataset *d = open_set(f, r);
    assert_no_errors(f);
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), 10); /* both pairs of the last of 6 scenes are held out */
    assert_int_equal(dataset_count(d, SPLIT_TEST), 2);
    for (int i = 0; i < 2; i++)
        assert_memory_equal(dataset_sample_name(&f->arena, d, SPLIT_TEST, i), "0005_S6/", 8);
    Sample s;
    assert_true(dataset_read(&f->arena, &f->diag, d, SPLIT_TRAIN, 0, &s));
    assert_int_equal(picture_distance(&s.picture, &s.clean), 0);

    write_blocks(path_in(f, "ValidationNoisyBlocksSrgb.mat"), "ValidationNoisyBlocksSrgb", 1, 2);
    write_blocks(path_in(f, "ValidationGtBlocksSrgb.mat"), "ValidationGtBlocksSrgb", 0, 2);
    d = open_set(f, r);
    assert_no_errors(f);
    assert_int_equal(dataset_count(d, SPLIT_TRAIN), 12);
    assert_int_equal(dataset_count(d, SPLIT_TEST), 4);
    assert_true(dataset_height(d, SPLIT_TEST) == 8 && dataset_width(d, SPLIT_TEST) == 8);
    Run test = run_epoch(f, d, SPLIT_TEST, 4, (Augment){ 0 }, 1, 0, &end);
    for (int i = 0; i < 4; i++) { /* the blocks of row 0 first */
        assert_true(test.image[i * 192 + 7] == (float)(i / 2 * 16 + 1) / 255.0f);
        assert_true(test.target[i * 192 + 7] == (float)(i / 2 * 16) / 255.0f);
    }
    write_blocks(path_in(f, "ValidationGtBlocksSrgb.mat"), "ValidationGtBlocksSrgb", 0, 1);
    expect_no_set(f, r, "has 4 blocks of 8x8x3, ");
    write_blocks(path_in(f, "ValidationGtBlocksSrgb.mat"), "Other", 0, 2);
    expect_no_set(f, r, "it has no variable ValidationGtBlocksSrgb");
    unlink(path_in(f, "ValidationGtBlocksSrgb.mat"));
    unlink(path_in(f, "SIDD_Medium_Srgb/Data/0002_S6/0002_GT_SRGB_010.PNG"));
    expect_no_set(f, r, "0002_NOISY_SRGB_010.PNG has no partner 0002_GT_SRGB_010.PNG");
}

#endif

int main(void)
{
#ifdef DT_HAVE_PICTURES
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(folders_are_classes),
        TEST(other_folders_are_explained),
        TEST(threads_change_nothing),
        TEST(test_pictures_are_the_middle),
        TEST(broken_pictures_are_named_and_passed_over),
        TEST(all_broken_is_a_mistake),
        TEST(packed_pictures_are_the_same),
        TEST(one_folder_is_packed_once),
        TEST(damaged_packs_are_not_believed),
        TEST(every_fifth_pair_is_held_out),
        TEST(layouts_of_pairs),
        TEST(pairs_stay_together),
        TEST(unequal_and_small_pairs_are_broken),
        TEST(noise_is_made_where_there_is_none),
        TEST(sidd_as_it_is_published),
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
#else
    return 77; /* skipped: this build reads no pictures */
#endif
}
