/* sidd.c: SIDD as it is published: pairs of photographs in folders of scenes, and validation blocks in MAT files.
 *
 *   DIR/[SIDD_Medium_Srgb/]Data/SCENE/0001_NOISY_SRGB_010.PNG and 0001_GT_SRGB_010.PNG
 *   DIR/[validation/]ValidationNoisyBlocksSrgb.mat, ValidationGtBlocksSrgb.mat     40 x 32 blocks of 256 x 256 x 3
 *
 * With the MAT files all scenes are for training and the blocks for tests; without them every 10th scene is a test
 * scene. Blocks lie in memory (0.5 GB).
 *
 * Tested by tests/unit/test_folder.c on small folders laid out alike. */
#include "runtime/data_impl.h"

#include <string.h>

enum { HOLD_OUT = 10 };

static const char *const data_places[] = { "SIDD_Medium_Srgb/Data", "SIDD_Small_sRGB_Only/Data", "Data", "." };
static const char *const block_places[] = { ".", "validation", "Validation", "SIDD_Validation", "SIDD_Medium_Srgb" };

#define NOISY_BLOCKS "ValidationNoisyBlocksSrgb"
#define CLEAN_BLOCKS "ValidationGtBlocksSrgb"

/* The name of the clean picture that belongs to a noisy one: GT for NOISY. */
static const char *clean_name(Arena *a, const char *noisy)
{
    const char *at = strstr(noisy, "NOISY");
    return arena_printf(a, "%.*sGT%s", (int)(at - noisy), noisy, at + strlen("NOISY"));
}

static bool add_scene(Arena *a, Diag *d, const char *dir, const char *scene, DataFiles *out)
{
    Names names;
    if (!list_pictures(a, d, arena_printf(a, "%s/%s", dir, scene), &names))
        return false;
    for (int32_t i = 0; i < names.len; i++) {
        if (!strstr(names.at[i], "NOISY"))
            continue;
        const char *clean = clean_name(a, names.at[i]);
        if (!data_is_file(arena_printf(a, "%s/%s/%s", dir, scene, clean), NULL)) {
            diag_error(d, LOC_NONE, "sidd: %s/%s/%s has no partner %s", dir, scene, names.at[i], clean);
            return false;
        }
        vec_push(a, out,
                 (DataFile){ .path = arena_printf(a, "%s/%s", scene, names.at[i]),
                             .clean = arena_printf(a, "%s/%s", scene, clean) });
    }
    return true;
}

/* The scenes of the first place that has some. */
static bool list_scenes(Arena *a, Diag *d, const char *dir, Dataset *out, DataFiles *all)
{
    for (int32_t i = 0; i < DT_COUNT(data_places); i++) {
        const char *place = arena_printf(a, "%s/%s", dir, data_places[i]);
        Names       scenes;
        if (!data_is_dir(place))
            continue;
        if (!list_dirs(a, d, place, &scenes))
            return false;
        for (int32_t k = 0; k < scenes.len; k++)
            if (!add_scene(a, d, place, scenes.at[k], all))
                return false;
        if (all->len == 0)
            continue;
        out->dir[SPLIT_TRAIN] = out->dir[SPLIT_TEST] = place;
        return true;
    }
    const char *archive = list_archive(a, dir);
    diag_error(d, LOC_NONE, "sidd: %s has no scenes: expected SIDD_Medium_Srgb/Data/SCENE/*NOISY*.PNG in it", dir);
    if (archive)
        diag_help(d, "%s is there; unpack it first", archive);
    return false;
}

/* The test split of MAT files. *found: they are there. */
static bool read_blocks(Arena *a, Diag *d, const DataRequest *r, Dataset *out, bool *found)
{
    *found = false;
    for (int32_t i = 0; i < DT_COUNT(block_places); i++) {
        const char *noisy = arena_printf(a, "%s/%s/" NOISY_BLOCKS ".mat", r->dir, block_places[i]);
        const char *clean = arena_printf(a, "%s/%s/" CLEAN_BLOCKS ".mat", r->dir, block_places[i]);
        if (!data_is_file(noisy, NULL) || !data_is_file(clean, NULL))
            continue;
        MatBlocks x, y;
        *found = true;
        if (!mat_read_blocks(a, d, noisy, NOISY_BLOCKS, &x) || !mat_read_blocks(a, d, clean, CLEAN_BLOCKS, &y))
            return false;
        if (x.count != y.count || x.h != y.h || x.w != y.w || x.c != 3 || y.c != 3) {
            diag_error(d, LOC_NONE, "sidd: %s has %d blocks of %dx%dx%d, %s has %d of %dx%dx%d: expected the same, x3",
                       noisy, x.count, x.h, x.w, x.c, clean, y.count, y.h, y.w, y.c);
            return false;
        }
        out->pixels[SPLIT_TEST] = x.pixels;
        out->clean[SPLIT_TEST] = y.pixels;
        out->count[SPLIT_TEST] = x.count;
        out->h[SPLIT_TEST] = x.h;
        out->w[SPLIT_TEST] = x.w;
        return true;
    }
    return true;
}

Dataset *sidd_open(Arena *a, Diag *d, const DataRequest *r)
{
    Dataset  *s = ARENA_NEW(a, Dataset);
    DataFiles all = { 0 };
    bool      blocks;
    *s = (Dataset){ .name = "sidd" };
    if (!data_is_dir(r->dir)) {
        data_no_dir(d, "sidd", r->dir);
        return NULL;
    }
    if (!list_scenes(a, d, r->dir, s, &all) || !read_blocks(a, d, r, s, &blocks))
        return NULL;
    if (blocks) {
        s->files[SPLIT_TRAIN] = all;
    } else if (!pairs_hold_out(a, &all, HOLD_OUT_FOLDERS, HOLD_OUT, s)) {
        diag_error(d, LOC_NONE, "sidd: %s has one scene and no " NOISY_BLOCKS ".mat: none is left for tests", r->dir);
        return NULL;
    }
    return pairs_finish(a, d, r, s) ? s : NULL;
}
