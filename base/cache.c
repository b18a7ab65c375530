/* cache.c: what was expensive to make, on disk: DIR/HASH.KIND. Machine code of kernels, plans of convolutions.
 *
 * An entry is its key in full, the hash of the data, and the data. The key names everything that the data depends on;
 * the file's name is only its hash, so on a hit the key is compared. An entry is written under a name of its own and
 * renamed, so two processes at once see a whole entry or none; one that was cut short or changed fails its hash and is
 * ignored: it will be written again. No fsync: a lost entry costs milliseconds.
 *
 * Tested by tests/unit/test_cache.c (hits, damaged entries, entries of another key, directories that cannot be written,
 * a full disk, processes side by side). */
#include "base/base.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static char *header_of(Arena *a, const char *key)
{
    return arena_printf(a, "detent cache\n%s\n", key);
}

static char *path_of(Arena *a, const char *dir, const char *kind, const char *header)
{
    char hex[33];
    hash_hex(hash_bytes(header, strlen(header)), hex);
    return arena_printf(a, "%s/%s.%s", dir, hex, kind);
}

enum { HASH_CHARS = 32 };

const void *cache_load(Arena *a, const char *dir, const char *kind, const char *key, size_t *bytes)
{
    char *header = header_of(a, key), *path = path_of(a, dir, kind, header);
    if (access(path, R_OK) != 0)
        return NULL;
    size_t len, head = strlen(header);
    Diag   quiet = diag_new(NULL);
    char  *file = file_read(a, &quiet, path, &len);
    char   hex[HASH_CHARS + 1] = "";
    bool   ours = file && len > head + HASH_CHARS && memcmp(file, header, head) == 0;
    if (ours)
        hash_hex(hash_bytes(file + head + HASH_CHARS, len - head - HASH_CHARS), hex);
    bool whole = ours && memcmp(file + head, hex, HASH_CHARS) == 0;
    if (!whole)
        log_info("cache: %s is %s; ignored", path, !file ? "not readable" : ours ? "damaged" : "of another key");
    diag_free(&quiet);
    *bytes = whole ? len - head - HASH_CHARS : 0;
    return whole ? file + head + HASH_CHARS : NULL;
}

void cache_store(const char *dir, const char *kind, const char *key, const void *data, size_t bytes)
{
    Arena a = arena_new("cache_store");
    char *header = header_of(&a, key), *path = path_of(&a, dir, kind, header), hex[HASH_CHARS + 1];
    char *temp = arena_printf(&a, "%s.%ld.tmp", path, (long)getpid());
    hash_hex(hash_bytes(data, bytes), hex);
    FILE *f = fopen(temp, "wb");
    bool  done = f && fputs(header, f) >= 0 && fputs(hex, f) >= 0 && fwrite(data, 1, bytes, f) == bytes;
    done = f && fclose(f) == 0 && done && rename(temp, path) == 0;
    if (!done) {
        log_info("cache: cannot write %s: %s", path, strerror(errno));
        unlink(temp);
    }
    arena_free(&a);
}
