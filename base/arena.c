/* arena.c: the one allocator. Memory is taken from chunks by moving a mark and given back all at once.
 *
 *     Arena.chunks -> [ newest chunk | used ..dirty.. cap ] -> [ older ] -> [ first ]
 *
 * Allocations are zeroed. A fresh chunk is zero already (calloc), so only what an earlier life of the chunk has
 * touched, the bytes below `dirty`, is cleared again: large blocks cost nothing until they are written.
 *
 * Built with AddressSanitizer, all memory that is not handed out is poisoned, with a gap behind each block, so that
 * overruns and uses after arena_reset are reported as they are for malloc. Tested by tests/unit/test_base.c. */
#include "base/base.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define poison(at, bytes) ASAN_POISON_MEMORY_REGION((at), (bytes))
#define unpoison(at, bytes) ASAN_UNPOISON_MEMORY_REGION((at), (bytes))
#define GAP_BYTES 16
#else
#define poison(at, bytes) ((void)(at), (void)(bytes))
#define unpoison(at, bytes) ((void)(at), (void)(bytes))
#define GAP_BYTES 0
#endif

#define ALIGN_BYTES ((size_t)16)
#define FIRST_CHUNK_BYTES ((size_t)8 << 10)
#define LARGEST_CHUNK_BYTES ((size_t)4 << 20) /* doubling ends here; a larger block gets a chunk of its own size */

struct ArenaChunk {
    ArenaChunk *next;
    size_t      cap, used, dirty;
    _Alignas(16) unsigned char data[];
};

Arena arena_new(const char *name)
{
    return (Arena){ .name = name, .first_chunk_bytes = FIRST_CHUNK_BYTES };
}

static DT_NORETURN void out_of_memory(const Arena *a, size_t bytes)
{
    fprintf(stderr, "error: out of host memory: %zu bytes were wanted for '%s', which holds %zu bytes\n", bytes,
            a->name ? a->name : "an arena", a->used);
    exit(1);
}

static void chunk_add(Arena *a, size_t bytes)
{
    size_t cap = a->first_chunk_bytes ? a->first_chunk_bytes : FIRST_CHUNK_BYTES;
    if (a->chunks)
        cap = a->chunks->cap < LARGEST_CHUNK_BYTES / 2 ? 2 * a->chunks->cap : LARGEST_CHUNK_BYTES;
    if (cap < bytes)
        cap = bytes;
    ArenaChunk *c = calloc(1, sizeof(ArenaChunk) + cap);
    if (!c)
        out_of_memory(a, bytes);
    c->next = a->chunks;
    c->cap = cap;
    poison(c->data, cap);
    a->chunks = c;
}

void *arena_alloc(Arena *a, size_t bytes)
{
    if (bytes > PTRDIFF_MAX / 2)
        out_of_memory(a, bytes);
    size_t      room = (bytes + GAP_BYTES + ALIGN_BYTES - 1) & ~(ALIGN_BYTES - 1);
    ArenaChunk *c = a->chunks;
    if (!c || c->cap - c->used < room) {
        chunk_add(a, room);
        c = a->chunks;
    }
    unsigned char *at = c->data + c->used;
    unpoison(at, bytes);
    if (c->used < c->dirty)
        memset(at, 0, c->dirty - c->used < bytes ? c->dirty - c->used : bytes);
    c->used += room;
    if (c->dirty < c->used)
        c->dirty = c->used;
    a->used += room;
    if (a->high_water < a->used)
        a->high_water = a->used;
    return at;
}

void *arena_copy(Arena *a, const void *from, size_t bytes)
{
    void *to = arena_alloc(a, bytes);
    if (bytes)
        memcpy(to, from, bytes);
    return to;
}

char *arena_strndup(Arena *a, const char *s, size_t len)
{
    char *to = arena_alloc(a, len + 1);
    if (len)
        memcpy(to, s, len);
    return to;
}

char *arena_strdup(Arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_vprintf(Arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    DT_ASSERT(len >= 0, "format '%s'", fmt);
    char *s = arena_alloc(a, (size_t)len + 1);
    vsnprintf(s, (size_t)len + 1, fmt, ap);
    return s;
}

char *arena_printf(Arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return s;
}

static void chunks_free(ArenaChunk *c)
{
    while (c) {
        ArenaChunk *next = c->next;
        unpoison(c->data, c->cap);
        free(c);
        c = next;
    }
}

void arena_reset(Arena *a)
{
    ArenaChunk *c = a->chunks;
    a->used = 0;
    if (!c)
        return;
    chunks_free(c->next);
    c->next = NULL;
    c->used = 0;
    poison(c->data, c->cap);
}

void arena_free(Arena *a)
{
    chunks_free(a->chunks);
    a->chunks = NULL;
    a->used = 0;
}

void vec_reserve_(Arena *a, void **at, int32_t len, int32_t *cap, size_t elem_bytes)
{
    if (len < *cap)
        return;
    DT_ASSERT(len <= INT32_MAX / 2, "a vector of %d elements cannot double", len);
    int32_t grown = *cap < 4 ? 8 : 2 * *cap;
    void   *to = arena_alloc(a, (size_t)grown * elem_bytes);
    if (len)
        memcpy(to, *at, (size_t)len * elem_bytes);
    *at = to;
    *cap = grown;
}
