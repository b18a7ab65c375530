/* cache.c: machine code of kernels on disk, DIR/HASH.o.
 *
 * An entry is its key in full, the hash of the code, and the code. The key names everything that the code depends on;
 * the file's name is only its hash, so on a hit the key is compared. An entry is written under a name of its own and
 * renamed; one that was cut short or changed fails its hash and is ignored: it will be written again. No fsync: a lost
 * entry costs milliseconds.
 *
 * Tested by tests/unit/test_llvm.c (hits, damaged entries, entries of another key). */
#include "codegen/llvm/cache.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static char *header_of(Arena *a, const char *key)
{
    return arena_printf(a, "detent kernel code\n%s\n", key);
}

static char *path_of(Arena *a, const char *dir, const char *header)
{
    char hex[33];
    hash_hex(hash_bytes(header, strlen(header)), hex);
    return arena_printf(a, "%s/%s.o", dir, hex);
}

enum { HASH_CHARS = 32 };

const void *cache_load(Arena *a, const char *dir, const char *key, size_t *bytes)
{
    char *header = header_of(a, key), *path = path_of(a, dir, header);
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
        log_info("kernel cache: %s is %s; ignored", path, !file ? "not readable" : ours ? "damaged" : "of another key");
    diag_free(&quiet);
    *bytes = whole ? len - head - HASH_CHARS : 0;
    return whole ? file + head + HASH_CHARS : NULL;
}

void cache_store(const char *dir, const char *key, const void *code, size_t bytes)
{
    Arena a = arena_new("cache_store");
    char *header = header_of(&a, key), *path = path_of(&a, dir, header), hex[HASH_CHARS + 1];
    char *temp = arena_printf(&a, "%s.%ld.tmp", path, (long)getpid());
    hash_hex(hash_bytes(code, bytes), hex);
    FILE *f = fopen(temp, "wb");
    bool  done = f && fputs(header, f) >= 0 && fputs(hex, f) >= 0 && fwrite(code, 1, bytes, f) == bytes;
    done = f && fclose(f) == 0 && done && rename(temp, path) == 0;
    if (!done) {
        log_info("kernel cache: cannot write %s: %s", path, strerror(errno));
        unlink(temp);
    }
    arena_free(&a);
}
