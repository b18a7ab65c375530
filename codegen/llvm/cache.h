/* cache.h: machine code of kernels on disk. */
#ifndef DETENT_CACHE_H
#define DETENT_CACHE_H

#include "base/base.h"

/* What was stored under this key, in `a`; NULL: nothing, or nothing that can be trusted (which the log says). */
const void *cache_load(Arena *a, const char *dir, const char *key, size_t *bytes);
/* Failure is no error: it is logged, and the code is made anew next time. */
void cache_store(const char *dir, const char *key, const void *code, size_t bytes);

#endif
