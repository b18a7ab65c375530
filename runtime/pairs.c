/* pairs.c: degraded and clean pictures of equal names in two folders.
 *
 *   DIR/noisy/NAME, DIR/clean/NAME              also input and target, lq and gt
 *   DIR/train/noisy/... DIR/test/noisy/...      (or val) where the splits are made already
 *   DIR/test.txt                                else: the names of the test pairs, one a line; else every 5th pair,
 *                                               in the order of names, is a test pair
 *
 * Where noise is made only the clean folder is read; DIR itself may be it then.
 *
 * Tested by tests/unit/test_folder.c. */
#include "runtime/data_impl.h"

#include <string.h>

enum { HOLD_OUT = 5, DEFAULT_SIDE = 128 };

static const struct {
    const char *degraded, *clean;
} layouts[] = { { "noisy", "clean" }, { "input", "target" }, { "lq", "gt" },    { "LQ", "GT" },
                { "low", "high" },    { "blur", "sharp" },   { "noisy", "gt" }, { "input", "groundtruth" } };

static const char *const test_names[] = { "test", "val" };

/* Folders of pairs in `dir`. False: there are none. */
static bool find_folders(Arena *a, const char *dir, bool clean_alone, const char **degraded, const char **clean)
{
    for (int32_t i = 0; i < DT_COUNT(layouts); i++) {
        const char *x = layouts[i].degraded, *y = layouts[i].clean;
        if (!data_is_dir(arena_printf(a, "%s/%s", dir, y)) ||
            (!clean_alone && !data_is_dir(arena_printf(a, "%s/%s", dir, x))))
            continue;
        *degraded = x;
        *clean = y;
        return true;
    }
    return false;
}

/* The name without its folder and its ending: what a pair has in common. */
static const char *stem(Arena *a, const char *name)
{
    const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');
    return dot && (!slash || dot > slash) ? arena_strndup(a, name, (size_t)(dot - name)) : name;
}

static bool report_alone(Diag *d, const char *dir, const char *name, const char *other, int32_t alone)
{
    diag_error(d, LOC_NONE, "pairs: %s/%s has no partner in %s", dir, name, other);
    if (alone > 1)
        diag_note(d, LOC_NONE, "%d pictures have none", alone);
    diag_help(d, "pairs have equal names, but for .jpg and .png");
    return false;
}

/* Pairs of two folders below `dir`, sorted by the degraded one's name. */
static bool match(Arena *a, Diag *d, const char *dir, const char *degraded, const char *clean, DataFiles *out)
{
    const char *from = arena_printf(a, "%s/%s", dir, degraded), *to = arena_printf(a, "%s/%s", dir, clean);
    Names       x, y;
    if (!list_pictures(a, d, from, &x) || !list_pictures(a, d, to, &y))
        return false;
    StrMap      known = strmap_new(a);
    const char *alone = NULL;
    int32_t     n_alone = 0;
    for (int32_t i = 0; i < y.len; i++)
        if (!strmap_put(&known, stem(a, y.at[i]), i)) {
            diag_error(d, LOC_NONE, "pairs: %s has two pictures called %s", to, stem(a, y.at[i]));
            return false;
        }
    for (int32_t i = 0; i < x.len; i++) {
        int32_t partner = strmap_get(&known, stem(a, x.at[i]));
        if (partner < 0) {
            alone = alone ? alone : x.at[i];
            n_alone++;
            continue;
        }
        vec_push(a, out,
                 (DataFile){ .path = arena_printf(a, "%s/%s", degraded, x.at[i]),
                             .clean = arena_printf(a, "%s/%s", clean, y.at[partner]) });
    }
    if (alone)
        return report_alone(d, from, alone, to, n_alone);
    if (x.len != y.len)
        diag_warning(d, LOC_NONE, "pairs: %s has %d pictures, %s has %d: those without a partner are left out", from,
                     x.len, to, y.len);
    return true;
}

/* Clean pictures alone; noise will be made. */
static bool list_clean(Arena *a, Diag *d, const char *dir, const char *clean, DataFiles *out)
{
    Names names;
    if (!list_pictures(a, d, *clean ? arena_printf(a, "%s/%s", dir, clean) : dir, &names))
        return false;
    for (int32_t i = 0; i < names.len; i++)
        vec_push(a, out, (DataFile){ .clean = arena_printf(a, "%s%s%s", clean, *clean ? "/" : "", names.at[i]) });
    return true;
}

static bool list_pairs(Arena *a, Diag *d, const char *dir, bool made, DataFiles *out)
{
    const char *degraded = "", *clean = "";
    bool        found = find_folders(a, dir, made, &degraded, &clean);
    if (!found && !made) {
        const char *archive = list_archive(a, dir);
        diag_error(d, LOC_NONE, "pairs: %s has no folders noisy and clean (nor input and target, lq and gt)", dir);
        if (archive)
            diag_help(d, "%s is there; unpack it first", archive);
        return false;
    }
    if (!(made ? list_clean(a, d, dir, found ? clean : "", out) : match(a, d, dir, degraded, clean, out)))
        return false;
    if (out->len > 0)
        return true;
    diag_error(d, LOC_NONE, "pairs: %s has no pictures (.jpg, .jpeg, .png)", dir);
    return false;
}

/* ---- Splits ---------------------------------------------------------------------------------------------------- */

/* Is file i the first of what is held out as one? */
static bool begins(const DataFiles *all, HoldOut what, int32_t i)
{
    if (i == 0 || what == HOLD_OUT_PAIRS)
        return true;
    const char *path = all->at[i].path, *before = all->at[i - 1].path, *end = strrchr(path, '/');
    size_t      n = end ? (size_t)(end - path) + 1 : 0;
    return strncmp(path, before, n) != 0 || strchr(before + n, '/');
}

bool pairs_hold_out(Arena *a, const DataFiles *all, HoldOut what, int32_t k, Dataset *out)
{
    int32_t n = 0, at = -1;
    DT_ASSERT(k >= 2, "every %d.", k);
    for (int32_t i = 0; i < all->len; i++)
        n += begins(all, what, i);
    if (n < 2)
        return false;
    for (int32_t i = 0; i < all->len; i++) {
        at += begins(all, what, i);
        bool test = at % k == k - 1 || (n < k && at == n - 1);
        vec_push(a, &out->files[test ? SPLIT_TEST : SPLIT_TRAIN], all->at[i]);
    }
    return true;
}

/* The names in test.txt are those of test pairs; each must be one. */
static bool split_by_file(Arena *a, Diag *d, const char *path, const DataFiles *all, Dataset *out)
{
    char *text = file_read(a, d, path, NULL), *rest = NULL;
    if (!text)
        return false;
    StrMap listed = strmap_new(a);
    bool  *found = ARENA_ARRAY(a, bool, strlen(text) / 2 + 1);
    Names  names = { 0 };
    for (char *word = strtok_r(text, "\r\n", &rest); word; word = strtok_r(NULL, "\r\n", &rest)) {
        strmap_put(&listed, stem(a, word), names.len);
        vec_push(a, &names, word);
    }
    for (int32_t i = 0; i < all->len; i++) {
        const char *whole = all->at[i].clean;
        const char *name = strchr(whole, '/') ? strchr(whole, '/') + 1 : whole;
        int32_t     at = strmap_get(&listed, stem(a, name));
        if (at >= 0)
            found[at] = true;
        vec_push(a, &out->files[at >= 0 ? SPLIT_TEST : SPLIT_TRAIN], all->at[i]);
    }
    for (int32_t i = 0; i < names.len; i++)
        if (!found[strmap_get(&listed, stem(a, names.at[i]))]) {
            diag_error(d, LOC_NONE, "pairs: %s:%d: there is no pair called '%s'", path, i + 1, names.at[i]);
            return false;
        }
    return true;
}

/* Where the test pairs are, when the splits are made already; NULL: they are not. */
static const char *find_test(Arena *a, const char *dir)
{
    for (int32_t i = 0; i < DT_COUNT(test_names); i++) {
        const char *place = arena_printf(a, "%s/%s", dir, test_names[i]);
        if (data_is_dir(place) && data_is_dir(arena_printf(a, "%s/train", dir)))
            return place;
    }
    return NULL;
}

static bool find_pairs(Arena *a, Diag *d, const DataRequest *r, Dataset *out)
{
    const bool  made = r->noise != NULL;
    const char *test = find_test(a, r->dir), *file = arena_printf(a, "%s/test.txt", r->dir);
    DataFiles   all = { 0 };
    out->dir[SPLIT_TRAIN] = out->dir[SPLIT_TEST] = r->dir;
    if (test) {
        out->dir[SPLIT_TRAIN] = arena_printf(a, "%s/train", r->dir);
        out->dir[SPLIT_TEST] = test;
        return list_pairs(a, d, out->dir[SPLIT_TRAIN], made, &out->files[SPLIT_TRAIN]) &&
               list_pairs(a, d, test, made, &out->files[SPLIT_TEST]);
    }
    if (!list_pairs(a, d, r->dir, made, &all))
        return false;
    if (data_is_file(file, NULL)) {
        if (!split_by_file(a, d, file, &all, out))
            return false;
    } else if (!pairs_hold_out(a, &all, HOLD_OUT_PAIRS, HOLD_OUT, out)) {
        out->files[SPLIT_TRAIN] = all;
    }
    for (int32_t s = 0; s < SPLIT_COUNT; s++)
        if (out->files[s].len == 0) {
            diag_error(d, LOC_NONE, "pairs: %s: of its %d pairs none is left as %s pair", r->dir, all.len,
                       split_name((Split)s));
            return false;
        }
    return true;
}

/* ---- Sizes ----------------------------------------------------------------------------------------------------- */

/* What all pictures of the test split have: the smallest height and the smallest width. */
static bool least_size(Diag *d, const Dataset *set, int32_t *h, int32_t *w)
{
    Arena a = arena_new("sizes");
    bool  ok = true;
    *h = *w = INT32_MAX;
    for (int32_t i = 0; i < set->files[SPLIT_TEST].len && ok; i++) {
        int32_t     fh, fw;
        const char *path = arena_printf(&a, "%s/%s", set->dir[SPLIT_TEST], set->files[SPLIT_TEST].at[i].clean);
        ok = picture_size(d, path, &fh, &fw);
        if (!ok)
            break;
        *h = fh < *h ? fh : *h;
        *w = fw < *w ? fw : *w;
        arena_reset(&a);
    }
    arena_free(&a);
    return ok;
}

bool pairs_finish(Arena *a, Diag *d, const DataRequest *r, Dataset *out)
{
    out->c = 3;
    out->crops = r->crops > 1 ? r->crops : 1;
    if (r->noise && !noise_parse(d, r->noise, &out->noise))
        return false;
    out->h[SPLIT_TRAIN] = r->h > 0 ? r->h : DEFAULT_SIDE;
    out->w[SPLIT_TRAIN] = r->w > 0 ? r->w : DEFAULT_SIDE;
    int64_t samples = (int64_t)out->files[SPLIT_TRAIN].len * out->crops;
    if (samples > INT32_MAX) {
        diag_error(d, LOC_NONE, "%s: %d crops of %d pictures are more than %d samples", out->name, out->crops,
                   out->files[SPLIT_TRAIN].len, INT32_MAX);
        return false;
    }
    out->count[SPLIT_TRAIN] = (int32_t)samples;
    if (!out->pixels[SPLIT_TEST]) {
        int32_t h = r->test_h, w = r->test_w;
        if ((h <= 0 || w <= 0) && !least_size(d, out, &h, &w))
            return false;
        out->h[SPLIT_TEST] = h;
        out->w[SPLIT_TEST] = w;
        out->count[SPLIT_TEST] = out->files[SPLIT_TEST].len;
    }
    out->pack = r->cache ? pack_open(a, d, out, r->cache) : NULL;
    return true;
}

Dataset *pairs_open(Arena *a, Diag *d, const DataRequest *r)
{
    Dataset *p = ARENA_NEW(a, Dataset);
    *p = (Dataset){ .name = "pairs" };
    if (!data_is_dir(r->dir)) {
        data_no_dir(d, "pairs", r->dir);
        return NULL;
    }
    return find_pairs(a, d, r, p) && pairs_finish(a, d, r, p) ? p : NULL;
}
