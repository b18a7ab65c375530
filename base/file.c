/* file.c: whole files, read at once and replaced at once.
 *
 * A file is replaced by writing a temporary one beside it, fsync, rename, fsync of the directory: whoever reads the
 * path sees the old bytes or the new bytes, also after a power cut. What is not a regular file (a pipe, /dev/stdout)
 * is written in place: a rename would put a file where the device was. Tested by tests/unit/test_base.c. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Messages ---- */

static const struct {
    int         error;
    const char *help;
} helps[] = {
    { ENOENT, "a file or a directory of this path does not exist; check its spelling" },
    { ENOTDIR, "a part of this path before its last is a file; a directory is expected there" },
    { EISDIR, "this is a directory; name a file" },
    { EACCES, "you may not do this; see the owner and the mode with ls -ld, or choose another path" },
    { EPERM, "you may not do this; see the owner and the mode with ls -ld, or choose another path" },
    { EROFS, "this disk may only be read; choose another path" },
    { ENOSPC, "the disk is full (see df -h); free some space there or choose another path" },
    { EDQUOT, "your quota on this disk is used up; free some space there or choose another path" },
    { EFBIG, "the file is larger than this disk or your limit (ulimit -f) allows; raise it or choose another path" },
    { ENAMETOOLONG, "the name is too long for this disk; choose a shorter one" },
    { EMFILE, "too many files are open; raise the limit with ulimit -n" },
};

/* "cannot <what> <path>: <reason>". Always false, so that callers can return it. */
static bool file_error(Diag *d, const char *what, const char *path, int error)
{
    diag_error(d, LOC_NONE, "cannot %s %s: %s", what, path[0] ? path : "'' (an empty path)", strerror(error));
    for (int32_t i = 0; i < DT_COUNT(helps); i++)
        if (helps[i].error == error)
            diag_help(d, "%s", helps[i].help);
    return false;
}

/* ---- Reading ---- */

/* Reads to the end; the size that stat told is only a guess (pipes and /proc tell 0). NULL: errno says why. */
static char *read_all(Arena *a, int fd, size_t guess, size_t *len)
{
    size_t cap = guess + 1, n = 0; /* one more: the end is seen without growing */
    char  *s = arena_alloc(a, cap + 1);
    for (;;) {
        ssize_t got = read(fd, s + n, cap - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return NULL;
        if (got == 0)
            break;
        n += (size_t)got;
        if (n == cap) {
            cap = cap < 4096 ? 8192 : 2 * cap;
            char *grown = arena_alloc(a, cap + 1);
            memcpy(grown, s, n);
            s = grown;
        }
    }
    s[n] = 0;
    *len = n;
    return s;
}

char *file_read(Arena *a, Diag *d, const char *path, size_t *len)
{
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char       *s = NULL;
    size_t      n = 0;
    if (fd >= 0 && fstat(fd, &st) == 0)
        s = read_all(a, fd, S_ISREG(st.st_mode) ? (size_t)st.st_size : 0, &n);
    if (!s)
        file_error(d, "read", path, errno);
    if (fd >= 0)
        close(fd);
    if (len)
        *len = n;
    return s;
}

/* ---- Writing ---- */

bool file_write_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t put = write(fd, at, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            errno = put < 0 ? errno : EIO;
            return false;
        }
        at += put;
        len -= (size_t)put;
    }
    return true;
}

/* The path without its last part; "." when there is only one. */
static char *dir_of(Arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return arena_strdup(a, ".");
    return slash == path ? arena_strdup(a, "/") : arena_strndup(a, path, (size_t)(slash - path));
}

static bool write_in_place(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool written = file_write_all(fd, data, len);
    int  error = errno;
    if (close(fd) != 0 && written) {
        error = errno;
        written = false;
    }
    errno = error;
    return written;
}

/* Opens a new file in the directory, under a name that nobody has. -1: errno says why. */
static int temp_open(Arena *a, const char *dir, mode_t mode, char **name)
{
    for (int i = 0; i < 1000; i++) {
        *name = arena_printf(a, "%s/.detent-%ld-%d.tmp", dir, (long)getpid(), i);
        int fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* A rename lasts once its directory is on disk. Not every file system can do this (EINVAL): then there is no more to
 * do. */
static bool dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES; /* may be written, not read */
    bool synced = fsync(fd) == 0 || errno == EINVAL;
    int  error = errno;
    close(fd);
    errno = error;
    return synced;
}

/* `old`: what is there now, whose mode the new file takes over; NULL when nothing is. */
static bool replace(Arena *a, const char *path, const struct stat *old, const void *data, size_t len)
{
    char *temp, *dir = dir_of(a, path);
    int   fd = temp_open(a, dir, 0666, &temp);
    if (fd < 0)
        return false;
    bool done = file_write_all(fd, data, len) && (!old || fchmod(fd, old->st_mode & 07777) == 0) && fsync(fd) == 0;
    int  error = errno;
    if (close(fd) != 0 && done) {
        error = errno;
        done = false;
    }
    if (done && rename(temp, path) != 0) {
        error = errno;
        done = false;
    }
    if (!done) {
        unlink(temp);
        errno = error;
    }
    return done && dir_sync(dir);
}

/* Where a chain of symbolic links ends, so that a link stays one; the path itself when it is no link. */
static const char *follow_links(Arena *a, const char *path)
{
    for (int depth = 0; depth < 40; depth++) {
        char    to[4096];
        ssize_t n = readlink(path, to, sizeof to);
        if (n < 0 || n == (ssize_t)sizeof to)
            break;
        path = to[0] == '/' ? arena_strndup(a, to, (size_t)n) : arena_printf(a, "%s/%.*s", dir_of(a, path), (int)n, to);
    }
    return path;
}

bool file_write_atomic(Diag *d, const char *path, const void *data, size_t len)
{
    Arena       scratch = { .name = "file_write_atomic", .first_chunk_bytes = 1024 };
    struct stat st;
    const char *real = follow_links(&scratch, path);
    bool        exists = stat(path, &st) == 0, done;
    if (exists && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        done = false;
    } else if (exists && !S_ISREG(st.st_mode)) {
        done = write_in_place(path, data, len);
    } else {
        done = replace(&scratch, real, exists ? &st : NULL, data, len);
    }
    if (!done)
        file_error(d, "write", path, errno);
    arena_free(&scratch);
    return done;
}

/* ---- Directories ---- */

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool dir_make(Diag *d, const char *path)
{
    Arena scratch = { .name = "dir_make", .first_chunk_bytes = 1024 };
    char *part = arena_strdup(&scratch, path);
    bool  done = path[0] != 0;
    int   error = ENOENT;
    for (char *p = part; done && *p;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        char end = *p;
        *p = 0; /* part is now the path up to here */
        if (mkdir(part, 0777) != 0) {
            error = errno;
            done = is_dir(part); /* made before, or by another process meanwhile */
            if (error == EEXIST)
                error = ENOTDIR;
        }
        if (done)
            *p = end;
    }
    if (!done)
        file_error(d, "make directory", part, error);
    arena_free(&scratch);
    return done;
}
