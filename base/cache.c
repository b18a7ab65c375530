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
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { HASH_CHARS = 32 };

static char *header_of(Arena *a, const char *key)
{
    return arena_printf(a, "detent cache\n%s\n", key);
}

static char *path_of(Arena *a, const char *dir, const char *kind, const char *header)
{
    char hex[HASH_CHARS + 1];
    hash_hex(hash_bytes(header, strlen(header)), hex);
    return arena_printf(a, "%s/%s.%s", dir, hex, kind);
}

/* ---- Reading ---- */

/* NULL: the file is what was written under this header. */
static const char *what_is_wrong(const char *file, size_t len, const char *header)
{
    size_t head = strlen(header);
    char   hex[HASH_CHARS + 1];
    if (memcmp(file, header, len < head ? len : head) != 0)
        return "of another key";
    if (len < head + HASH_CHARS)
        return "damaged";
    hash_hex(hash_bytes(file + head + HASH_CHARS, len - head - HASH_CHARS), hex);
    return memcmp(file + head, hex, HASH_CHARS) == 0 ? NULL : "damaged";
}

const void *cache_load(Arena *a, const char *dir, const char *kind, const char *key, size_t *bytes)
{
    char  *header = header_of(a, key), *path = path_of(a, dir, kind, header);
    size_t len = 0, skip = strlen(header) + HASH_CHARS;
    *bytes = 0;
    if (access(path, F_OK) != 0)
        return NULL;
    Diag        quiet = diag_new(NULL);
    char       *file = file_read(a, &quiet, path, &len);
    const char *wrong = file ? what_is_wrong(file, len, header) : "not readable";
    diag_free(&quiet);
    if (wrong) {
        log_info("cache: %s is %s; ignored", path, wrong);
        return NULL;
    }
    *bytes = len - skip;
    memmove(file, file + skip, *bytes + 1); /* aligned as machine code must be; with the 0 behind a text */
    return file;
}

/* ---- Writing ---- */

/* A new file beside the entry, of this thread alone. -1: errno says why. */
static int temp_open(Arena *a, const char *path, char **temp)
{
    enum { TRIES = 100 }; /* files that a process of the same numbers left when it was killed */
    for (int i = 0; i < TRIES; i++) {
        *temp = arena_printf(a, "%s.%ld-%ld-%d.tmp", path, (long)getpid(), (long)gettid(), i);
        int fd = open(*temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* Fills the file and gives it its name; else removes it and says why in errno. */
static bool entry_finish(int fd, const char *temp, const char *path, const char *header, const void *data, size_t bytes)
{
    char hex[HASH_CHARS + 1];
    hash_hex(hash_bytes(data, bytes), hex);
    bool done = file_write_all(fd, header, strlen(header)) && file_write_all(fd, hex, HASH_CHARS) &&
                file_write_all(fd, data, bytes);
    int error = errno;
    if (close(fd) != 0 && done) {
        error = errno;
        done = false;
    }
    if (done && rename(temp, path) == 0)
        return true;
    error = done ? errno : error;
    unlink(temp);
    errno = error;
    return false;
}

void cache_store(const char *dir, const char *kind, const char *key, const void *data, size_t bytes)
{
    Arena a = arena_new("cache_store");
    Diag  quiet = diag_new(NULL);
    char *header = header_of(&a, key), *path = path_of(&a, dir, kind, header), *temp = NULL;
    if (!dir_make(&quiet, dir)) {
        const char *said = quiet.text.s;
        log_info("cache: %.*s", (int)strcspn(said, "\n"), said);
    } else {
        int fd = temp_open(&a, path, &temp);
        if (fd < 0 || !entry_finish(fd, temp, path, header, data, bytes))
            log_info("cache: cannot write %s: %s", path, strerror(errno));
    }
    diag_free(&quiet);
    arena_free(&a);
}
