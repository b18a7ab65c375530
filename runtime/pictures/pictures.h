/* pictures.h: decoders of picture files, one a file of this folder, which alone includes their libraries.
 *
 * What a decoder is given was not looked at before: it must hold what a header promises against what a file of that
 * size can hold before it takes memory, and return false with a message for whatever is wrong. */
#ifndef DETENT_RUNTIME_PICTURES_H
#define DETENT_RUNTIME_PICTURES_H

#include "runtime/data_impl.h"

typedef struct PictureCodec {
    const char *name;
    uint8_t     magic[8]; /* the first bytes of such a file */
    int32_t     n_magic;
    bool (*size)(Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t *h, int32_t *w);
    /* h and w are what `size` said. */
    bool (*decode)(Arena *a, Diag *d, const char *name, const uint8_t *data, size_t bytes, int32_t c, int32_t at_least,
                   Picture *out);
} PictureCodec;

extern const PictureCodec picture_jpeg, picture_png;

/* Says whether a picture of that size may be; `ratio`: pixels that a byte of such a file stands for at most. */
bool picture_plausible(Diag *d, const char *name, int64_t h, int64_t w, size_t bytes, int64_t ratio);

/* What is wrong with a MAT file of version 5 (mat5.c); NULL: nothing, or it is of version 7.3. */
const char *mat5_check(const uint8_t *file, int64_t bytes);

#endif
