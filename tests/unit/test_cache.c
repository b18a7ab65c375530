/* test_cache.c: the cache on disk: hits, entries that cannot be trusted, directories that cannot be written, a full
 * disk, processes and threads side by side. What is in question is never given out: an entry is right, or it is not
 * there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Fixture {
    Arena a;
    char  root[64], *dir; /* dir: not made yet, two levels below root */
    char *log;            /* where stderr goes while a test listens */
    int   saved_stderr;
} Fixture;

static int setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->a = arena_new("test");
    strcpy(f->root, "/tmp/detent-cache-XXXXXX");
    if (!mkdtemp(f->root))
        return -1;
    f->dir = arena_printf(&f->a, "%s/a/b", f->root);
    f->log = arena_printf(&f->a, "%s/stderr", f->root);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    char    *command = arena_printf(&f->a, "rm -rf '%s'", f->root);
    int      rc = system(command);
    arena_free(&f->a);
    free(f);
    return rc;
}

/* ---- What the log says ---- */

static void listen(Fixture *f)
{
    fflush(stderr);
    f->saved_stderr = dup(STDERR_FILENO);
    int fd = open(f->log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static const char *heard(Fixture *f)
{
    fflush(stderr);
    dup2(f->saved_stderr, STDERR_FILENO);
    close(f->saved_stderr);
    Diag        d = diag_new(stderr);
    const char *text = file_read(&f->a, &d, f->log, NULL);
    assert_non_null(text);
    diag_free(&d);
    return text;
}

static void assert_in(const char *part, const char *text)
{
    if (!strstr(text, part))
        fail_msg("expected '%s' in:\n%s", part, text);
}

/* ---- Files ---- */

/* The path of the one entry; its directory holds nothing else. */
static char *only_entry(Fixture *f)
{
    DIR           *d = opendir(f->dir);
    char          *found = NULL;
    struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        assert_null(found);
        found = arena_printf(&f->a, "%s/%s", f->dir, e->d_name);
    }
    closedir(d);
    assert_non_null(found);
    return found;
}

static int32_t files_in(const char *dir)
{
    DIR           *d = opendir(dir);
    int32_t        n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d)
        closedir(d);
    return n;
}

static void put(const char *path, const void *data, size_t len)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

static void assert_stored(Fixture *f, const char *kind, const char *key, const char *data)
{
    size_t      bytes = 99;
    const void *at = cache_load(&f->a, f->dir, kind, key, &bytes);
    assert_non_null(at);
    assert_int_equal(bytes, strlen(data));
    assert_memory_equal(at, data, bytes);
}

static void assert_absent(Fixture *f, const char *kind, const char *key)
{
    size_t bytes = 99;
    assert_null(cache_load(&f->a, f->dir, kind, key, &bytes));
    assert_int_equal(bytes, 0);
}

/* ---- Hits and misses ---- */

static void test_hit(void **state)
{
    Fixture *f = *state;
    listen(f);
    assert_absent(f, "o", "key");
    cache_store(f->dir, "o", "key", "data", 4);
    assert_stored(f, "o", "key", "data");
    assert_absent(f, "o", "key2");
    assert_absent(f, "cubin", "key");
    cache_store(f->dir, "cubin", "key", "other", 5);
    assert_stored(f, "o", "key", "data");
    assert_stored(f, "cubin", "key", "other");
    cache_store(f->dir, "o", "key", "newer data", 10);
    assert_stored(f, "o", "key", "newer data");
    assert_int_equal(files_in(f->dir), 2);
    assert_string_equal(heard(f), "");
}

/* Nothing, bytes that are no text, and more than one write takes; aligned, and with a 0 behind. */
static void test_data(void **state)
{
    Fixture       *f = *state;
    size_t         bytes = 99, len = 3000001;
    unsigned char *big = arena_alloc(&f->a, len);
    const char    *key = "several\nlines\nand \"quotes\" %s";
    for (size_t i = 0; i < len; i++)
        big[i] = (unsigned char)(i * 2654435761u >> 13);
    cache_store(f->dir, "o", "empty", "", 0);
    assert_non_null(cache_load(&f->a, f->dir, "o", "empty", &bytes));
    assert_int_equal(bytes, 0);
    cache_store(f->dir, "o", key, big, len);
    const unsigned char *at = cache_load(&f->a, f->dir, "o", key, &bytes);
    assert_non_null(at);
    assert_int_equal(bytes, len);
    assert_memory_equal(at, big, len);
    assert_int_equal((uintptr_t)at % 16, 0);
    assert_int_equal(at[len], 0);
}

/* ---- Entries that cannot be trusted: ignored with a note, and written anew ---- */

typedef void (*DamageFn)(Fixture *f, const char *path, char *file, size_t len);

/* The file of another key under the name of this one: what equal hashes would do. */
static void damage_other_key(Fixture *f, const char *path, char *file, size_t len)
{
    char *other = arena_copy(&f->a, file, len);
    memcpy(other + strlen("detent cache\n"), "KEY", 3);
    put(path, other, len);
}
static void damage_flip(Fixture *f, const char *path, char *file, size_t len)
{
    (void)f;
    file[len - 3] ^= 1;
    put(path, file, len);
}
static void damage_hash(Fixture *f, const char *path, char *file, size_t len)
{
    (void)f;
    file[strlen("detent cache\nkey\n") + 5] ^= 1;
    put(path, file, len);
}
static void damage_longer(Fixture *f, const char *path, char *file, size_t len)
{
    (void)f;
    put(path, file, len + 1); /* with the 0 behind it */
}
static void damage_foreign(Fixture *f, const char *path, char *file, size_t len)
{
    (void)f, (void)file, (void)len;
    put(path, "GIF89a, and more than a header's worth of bytes that are no entry at all", 70);
}
static void damage_directory(Fixture *f, const char *path, char *file, size_t len)
{
    (void)f, (void)file, (void)len;
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
}

static void test_damaged(void **state)
{
    static const struct {
        DamageFn    damage;
        const char *says;
        bool        lasts; /* storing again does not help */
    } cases[] = {
        { damage_other_key, "is of another key; ignored", false },
        { damage_flip, "is damaged; ignored", false },
        { damage_hash, "is damaged; ignored", false },
        { damage_longer, "is damaged; ignored", false },
        { damage_foreign, "is of another key; ignored", false },
        { damage_directory, "is not readable; ignored", true },
    };
    Fixture *f = *state;
    cache_store(f->dir, "o", "key", "the data", 8);
    char  *path = only_entry(f);
    Diag   d = diag_new(stderr);
    size_t len;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        char *file = file_read(&f->a, &d, path, &len);
        assert_non_null(file);
        cases[i].damage(f, path, file, len);
        listen(f);
        assert_absent(f, "o", "key");
        cache_store(f->dir, "o", "key", "the data", 8);
        const char *log = heard(f);
        assert_in(cases[i].says, log);
        assert_in(path, log);
        if (cases[i].lasts)
            assert_in("cannot write", log);
        else
            assert_stored(f, "o", "key", "the data");
        assert_string_equal(only_entry(f), path);
    }
    diag_free(&d);
}

/* Cut short anywhere: never taken for whole. */
static void test_truncated(void **state)
{
    Fixture *f = *state;
    cache_store(f->dir, "o", "key", "the data", 8);
    char  *path = only_entry(f);
    Diag   d = diag_new(stderr);
    size_t len;
    char  *file = file_read(&f->a, &d, path, &len);
    for (size_t cut = 0; cut < len; cut++) {
        put(path, file, cut);
        listen(f);
        assert_absent(f, "o", "key");
        assert_in("is damaged; ignored", heard(f));
    }
    put(path, file, len);
    assert_stored(f, "o", "key", "the data");
    diag_free(&d);
}

/* ---- Nowhere to write ---- */

static void test_no_directory(void **state)
{
    static const struct {
        const char *dir, *says;
    } cases[] = {
        { "/dev/null/x", "cache: error: cannot make directory /dev/null: Not a directory" },
        { "/proc/x", "cache: error: cannot make directory /proc/x: " },
        { "", "cache: error: cannot make directory " },
    };
    Fixture *f = *state;
    for (int32_t i = 0; i < DT_COUNT(cases); i++) {
        size_t bytes = 99;
        listen(f);
        cache_store(cases[i].dir, "o", "key", "data", 4);
        const void *got = cache_load(&f->a, cases[i].dir, "o", "key", &bytes);
        assert_in(cases[i].says, heard(f));
        assert_null(got);
    }
}

/* In a process of its own, whose stderr goes to the log; 0: it did what it should. */
static int in_child(Fixture *f, int (*body)(Fixture *f))
{
    int   status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = open(f->log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, STDERR_FILENO);
        _exit(body(f));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

enum { NOT_POSSIBLE_HERE = 77 };

static int store_with_limit(Fixture *f)
{
    static char data[100000];
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, 4096 });
    cache_store(f->dir, "o", "key", data, sizeof data);
    return 0;
}

/* A file that cannot be finished leaves nothing behind, and the old entry stays. */
static void test_limit(void **state)
{
    Fixture *f = *state;
    assert_int_equal(in_child(f, store_with_limit), 0);
    assert_int_equal(files_in(f->dir), 0);
    cache_store(f->dir, "o", "key", "old", 3);
    assert_int_equal(in_child(f, store_with_limit), 0);
    assert_stored(f, "o", "key", "old");
    assert_int_equal(files_in(f->dir), 1);
    Diag        d = diag_new(stderr);
    const char *log = file_read(&f->a, &d, f->log, NULL);
    assert_in("cache: cannot write ", log);
    assert_in(": File too large\n", log);
    diag_free(&d);
}

static int store_on_full_disk(Fixture *f)
{
    static char data[1 << 20];
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", f->root, "tmpfs", 0, "size=64k") != 0)
        return NOT_POSSIBLE_HERE;
    cache_store(f->dir, "o", "key", data, sizeof data);
    if (files_in(f->dir) != 0)
        return 1;
    cache_store(f->dir, "o", "key", data, 1000);
    size_t bytes;
    if (!cache_load(&f->a, f->dir, "o", "key", &bytes) || bytes != 1000)
        return 2;
    if (mount("none", f->root, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
        return NOT_POSSIBLE_HERE;
    cache_store(f->dir, "o", "key2", data, 1000);
    return files_in(f->dir) == 1 && cache_load(&f->a, f->dir, "o", "key", &bytes) ? 0 : 3;
}

static void test_full_disk(void **state)
{
    Fixture *f = *state;
    int      rc = in_child(f, store_on_full_disk);
    if (rc == NOT_POSSIBLE_HERE)
        skip(); /* needs the right to mount */
    assert_int_equal(rc, 0);
    Diag        d = diag_new(stderr);
    const char *log = file_read(&f->a, &d, f->log, NULL);
    assert_in(": No space left on device\n", log);
    assert_in(": Read-only file system\n", log);
    diag_free(&d);
}

/* What a process that was killed left under the very name: another one is taken. */
static int store_beside_leftovers(Fixture *f)
{
    cache_store(f->dir, "o", "key", "data", 4);
    char *path = only_entry(f);
    unlink(path);
    for (int i = 0; i < 3; i++)
        put(arena_printf(&f->a, "%s.%ld-%ld-%d.tmp", path, (long)getpid(), (long)gettid(), i), "half", 4);
    cache_store(f->dir, "o", "key", "data", 4);
    size_t bytes;
    return cache_load(&f->a, f->dir, "o", "key", &bytes) && files_in(f->dir) == 4 ? 0 : 1;
}

static void test_leftovers(void **state)
{
    assert_int_equal(in_child(*state, store_beside_leftovers), 0);
}

/* ---- Side by side ---- */

enum { KEYS = 4, ROUNDS = 60, PROCESSES = 8, ENTRY_BYTES = 20000 };

/* Every version of an entry is one character again and again, so a mixture of two shows. False: it was one. */
static bool write_and_read(const char *dir, int who)
{
    Arena  a = arena_new("side by side");
    bool   whole = true;
    char  *data = arena_alloc(&a, ENTRY_BYTES);
    size_t bytes;
    for (int i = 0; i < ROUNDS && whole; i++) {
        char key[16];
        snprintf(key, sizeof key, "key %d", (i + who) % KEYS);
        memset(data, 'a' + (i * PROCESSES + who) % 26, ENTRY_BYTES);
        cache_store(dir, "o", key, data, ENTRY_BYTES);
        const char *at = cache_load(&a, dir, "o", key, &bytes);
        whole = at && bytes == ENTRY_BYTES;
        for (int j = 1; whole && j < ENTRY_BYTES; j++)
            whole = at[j] == at[0];
    }
    arena_free(&a);
    return whole;
}

static void test_processes(void **state)
{
    Fixture *f = *state;
    for (int who = 0; who < PROCESSES; who++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(write_and_read(f->dir, who) ? 0 : 1);
    }
    for (int who = 0; who < PROCESSES; who++) {
        int status = 0;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(files_in(f->dir), KEYS);
}

typedef struct Worker {
    pthread_t   thread;
    const char *dir;
    int         who;
    bool        whole;
} Worker;

static void *work(void *user)
{
    Worker *w = user;
    w->whole = write_and_read(w->dir, w->who);
    return NULL;
}

static void test_threads(void **state)
{
    Fixture *f = *state;
    Worker   w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (Worker){ .dir = f->dir, .who = i };
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
        assert_true(w[i].whole);
    }
    assert_int_equal(files_in(f->dir), KEYS);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_hit),   TEST(test_data),      TEST(test_damaged),   TEST(test_truncated), TEST(test_no_directory),
        TEST(test_limit), TEST(test_full_disk), TEST(test_leftovers), TEST(test_processes), TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
