/* kernel_files.h: for tests of whatever runs kernels: those of tests/kernels, written by hand, and kernels from a text.
 */
#ifndef DETENT_TESTS_KERNEL_FILES_H
#define DETENT_TESTS_KERNEL_FILES_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ir/kernel/kernel.h"

enum {
    KERNEL_FILES_LEAST = 10,
    KERNEL_FILES_MOST = 4 /* labels and other computed addresses in them are below this */
};

static inline Kernel *kernel_of_text(Arena *a, const char *text)
{
    Diag    d = diag_new(stderr);
    size_t  pos = 0;
    Kernel *k = kernel_parse(a, &d, "test", text, &pos);
    assert_non_null(k);
    diag_free(&d);
    return k;
}

static inline int kernel_files_is(const struct dirent *e)
{
    return str_glob("*.kernel", e->d_name);
}

/* All of them, by name. */
static inline Kernel **kernel_files(Arena *a, int32_t *n)
{
    Diag            d = diag_new(stderr);
    struct dirent **entries;
    *n = scandir(DT_SOURCE_DIR "/tests/kernels", &entries, kernel_files_is, alphasort);
    assert_true(*n >= KERNEL_FILES_LEAST);
    Kernel **kernels = ARENA_ARRAY(a, Kernel *, *n);
    for (int i = 0; i < *n; i++) {
        char *text = file_read(a, &d, arena_printf(a, "%s/tests/kernels/%s", DT_SOURCE_DIR, entries[i]->d_name), NULL);
        assert_non_null(text);
        kernels[i] = kernel_of_text(a, text);
        free(entries[i]);
    }
    free(entries);
    diag_free(&d);
    return kernels;
}

#endif
