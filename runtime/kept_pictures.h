/* kept_pictures.h: what a restoration network makes of the first test samples, kept beside the weights that made it,
 * for reports and for TensorBoard.
 *
 *   RUN/images/index.json          {"epoch":5,"step":390,"samples":[{"name":"a.png","file":"0"}]}
 *              0-noisy.png 0-result.png 0-clean.png ...
 *
 * They are a function of the weights and the data: a run that was resumed writes the same bytes. Large pictures are cut
 * to their middle. Tested by tests/unit/test_kept_pictures.c. */
#ifndef DETENT_RUNTIME_KEPT_PICTURES_H
#define DETENT_RUNTIME_KEPT_PICTURES_H

#include "runtime/runtime.h"

#define RUN_IMAGES "images"
enum { PICTURES_KEPT = 4, PICTURES_SIDE = 256 }; /* samples; pixels */

/* Runs the eval program on the first test samples, and writes what it gets, makes and should make. Data of classes:
 * nothing is done. False: reported. */
bool pictures_keep(Diag *d, const char *run, LoadedProgram eval, const Dataset *data, Normalise n, int64_t epoch,
                   int64_t step) DT_CHECKED;

typedef enum PictureKind { PICTURE_NOISY, PICTURE_RESULT, PICTURE_CLEAN, PICTURE_KINDS } PictureKind;
extern const char *const picture_kind_names[PICTURE_KINDS]; /* "noisy", "result", "clean" */

typedef struct RunPicture {
    const char    *name; /* of the sample */
    const uint8_t *png[PICTURE_KINDS];
    size_t         bytes[PICTURE_KINDS];
    Picture        picture[PICTURE_KINDS]; /* the same, decoded */
} RunPicture;
typedef struct RunPictures {
    int64_t epoch, step;
    VEC(RunPicture) at; /* none: the run keeps no pictures */
} RunPictures;
/* False: there are pictures, but they are damaged; reported. */
bool pictures_load(Arena *a, Diag *d, const char *run, RunPictures *out) DT_CHECKED;

#endif
