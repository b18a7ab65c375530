/* readers.h: everything that reads files which somebody else wrote, behind one signature: bytes in, no crash, no hang,
 * no huge memory. target.c makes a libFuzzer program of each, test_readers.c a test that mutates corpora. */
#ifndef DETENT_TESTS_FUZZ_READERS_H
#define DETENT_TESTS_FUZZ_READERS_H

#include "base/base.h"

/* What readers that want a path need: a directory with the rest of the data set. */
typedef struct ReaderPlace {
    const char *dir; /* exists, and is empty at first */
    bool        made;
} ReaderPlace;

typedef struct Reader {
    const char *name;
    const char *corpora[3]; /* folders below the source directory */
    const char *suffix;     /* of the files there that are meant; NULL: all */
    bool        is_text;
    int32_t     refused; /* percent of mutated files that it refuses at least: else it looks at too little */
    /* NULL, or makes check sums right, so that more than their check is tried: every second damaged file. */
    void (*mend)(uint8_t *data, size_t bytes);
    bool (*read)(Arena *a, Diag *d, ReaderPlace *place, const uint8_t *data,
                 size_t bytes); /* false: refused, with a message */
} Reader;

extern const Reader  readers[];
extern const int32_t n_readers;
const Reader        *reader_find(const char *name); /* NULL: there is none */

#endif
