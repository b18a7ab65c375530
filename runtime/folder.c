/* folder.c: pictures in folders, as torchvision's ImageFolder and ImageNet itself: one folder a class.
 *
 *   DIR/train/CLASS/...  DIR/val/CLASS/... (or test, validation)      classes are the folders of train, sorted
 *   DIR/CLASS/...                                                     all are training and test pictures, with a
 * warning
 *
 * Tested by tests/unit/test_folder.c. */
#include "runtime/data_impl.h"

static const char *const test_names[] = { "val", "test", "validation", "valid" };

enum { DEFAULT_SIDE = 224 };

/* Where the test pictures are; NULL: in none of the usual folders. */
static const char *find_test(Arena *a, const char *dir)
{
    for (int32_t i = 0; i < DT_COUNT(test_names); i++) {
        const char *place = arena_printf(a, "%s/%s", dir, test_names[i]);
        if (data_is_dir(place))
            return place;
    }
    return NULL;
}

static bool find_splits(Arena *a, Diag *d, const char *dir, Dataset *out)
{
    const char *train = arena_printf(a, "%s/train", dir), *test = find_test(a, dir);
    if (!data_is_dir(dir)) {
        data_no_dir(d, "folder", dir);
        return false;
    }
    out->dir[SPLIT_TRAIN] = out->dir[SPLIT_TEST] = dir;
    if (!data_is_dir(train)) {
        if (!test)
            return true;
        diag_error(d, LOC_NONE, "folder: %s has no training pictures: there is %s, but no %s", dir, test, train);
        return false;
    }
    if (!test) {
        diag_error(d, LOC_NONE, "folder: %s has no test pictures: none of val, test and validation is beside train",
                   dir);
        return false;
    }
    out->dir[SPLIT_TRAIN] = train;
    out->dir[SPLIT_TEST] = test;
    return true;
}

/* Says what is there instead of class folders. */
static void report_no_classes(Arena *a, Diag *d, const char *dir)
{
    Names       pictures;
    Diag        quiet = diag_new(NULL);
    const char *archive = list_archive(a, dir);
    diag_error(d, LOC_NONE, "folder: %s has no folders, expected one for each class", dir);
    if (archive)
        diag_help(d, "%s is there; unpack it first", archive);
    else if (list_pictures(a, &quiet, dir, &pictures) && pictures.len > 0)
        diag_help(d, "its %d pictures lie side by side; move them into a folder for each class", pictures.len);
    diag_free(&quiet);
}

/* Appends the pictures of one class. */
static bool add_class(Arena *a, Diag *d, const char *dir, const char *name, int32_t label, DataFiles *out)
{
    Names pictures;
    if (!list_pictures(a, d, arena_printf(a, "%s/%s", dir, name), &pictures))
        return false;
    for (int32_t i = 0; i < pictures.len; i++)
        vec_push(a, out, (DataFile){ .path = arena_printf(a, "%s/%s", name, pictures.at[i]), .label = label });
    return true;
}

static bool list_split(Arena *a, Diag *d, Dataset *out, Split s, const StrMap *classes)
{
    Names folders;
    if (!list_dirs(a, d, out->dir[s], &folders))
        return false;
    for (int32_t i = 0; i < folders.len; i++) {
        int32_t label = strmap_get(classes, folders.at[i]);
        if (label < 0) {
            diag_error(d, LOC_NONE, "folder: %s/%s is a class that %s does not have", out->dir[s], folders.at[i],
                       out->dir[SPLIT_TRAIN]);
            return false;
        }
        if (!add_class(a, d, out->dir[s], folders.at[i], label, &out->files[s]))
            return false;
    }
    out->count[s] = out->files[s].len;
    if (out->count[s] > 0)
        return true;
    diag_error(d, LOC_NONE, "folder: the folders in %s have no pictures (.jpg, .jpeg, .png)", out->dir[s]);
    return false;
}

/* The class folders of the training split, and their labels. */
static bool list_classes(Arena *a, Diag *d, Dataset *out, StrMap *labels)
{
    Names names;
    if (!list_dirs(a, d, out->dir[SPLIT_TRAIN], &names))
        return false;
    if (names.len == 0) {
        report_no_classes(a, d, out->dir[SPLIT_TRAIN]);
        return false;
    }
    for (int32_t i = 0; i < names.len; i++)
        strmap_put(labels, names.at[i], i);
    out->classes = names.len;
    out->class_names = names.at;
    return true;
}

Dataset *folder_open(Arena *a, Diag *d, const DataRequest *r)
{
    Dataset *f = ARENA_NEW(a, Dataset);
    StrMap   labels = strmap_new(a);
    *f = (Dataset){ .name = "folder", .c = 3, .usual = USUAL_RESIZED, .mirror = true };
    f->h[SPLIT_TRAIN] = r->h > 0 ? r->h : DEFAULT_SIDE;
    f->w[SPLIT_TRAIN] = r->w > 0 ? r->w : DEFAULT_SIDE;
    f->h[SPLIT_TEST] = r->test_h > 0 ? r->test_h : f->h[SPLIT_TRAIN];
    f->w[SPLIT_TEST] = r->test_w > 0 ? r->test_w : f->w[SPLIT_TRAIN];
    if (!find_splits(a, d, r->dir, f) || !list_classes(a, d, f, &labels))
        return NULL;
    for (Split s = 0; s < SPLIT_COUNT; s++)
        if (!list_split(a, d, f, s, &labels))
            return NULL;
    if (f->dir[SPLIT_TRAIN] == f->dir[SPLIT_TEST])
        diag_warning(d, LOC_NONE,
                     "folder: %s has neither train nor val: its %d pictures are what is trained on and what is tested, "
                     "so accuracy says nothing about other pictures",
                     r->dir, f->count[SPLIT_TRAIN]);
    f->pack = r->cache ? pack_open(a, d, f, r->cache) : NULL;
    return f;
}
