/* test_readers.c: readers against files that were damaged at random: `test_readers READER [COUNT [FIRST]]` damages
 * COUNT files (10,000) of the reader's corpora, each as its number says, so that all runs do the same.
 *
 * A child process reads them. It must come to its end: what crashes it, takes more than SECONDS, or takes more memory
 * than LIMIT_MB in all is told by its number; `test_readers READER 1 NUMBER` does that one again, and leaves the file
 * in /tmp. Under AddressSanitizer single allocations are limited as well (tests/fuzz/CMakeLists.txt). */
#include "tests/fuzz/readers.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 10000, SECONDS = 20, LIMIT_MB = 700, LIMIT_MB_SANITIZED = 2500, MOST_CHANGES = 8, MOST_BYTES = 1 << 16 };
enum { FAILED = 1 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

typedef struct Seed {
    const char    *name;
    const uint8_t *data;
    size_t         bytes;
} Seed;
typedef VEC(Seed) Seeds;

/* What parent and child both see. */
typedef struct Shared {
    atomic_int number;
    int32_t    read, refused;
    bool       done;
} Shared;

/* ---- Corpora --------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Seed *)a)->name, ((const Seed *)b)->name);
}

static void add_folder(Arena *a, Diag *d, const char *folder, const char *suffix, Seeds *out)
{
    const char *dir = arena_printf(a, "%s/%s", DT_SOURCE_DIR, folder);
    DIR        *open = opendir(dir);
    if (!open)
        diag_error(d, LOC_NONE, "there is no corpus %s", dir);
    for (const struct dirent *e; open && (e = readdir(open));) {
        size_t len = strlen(e->d_name), tail = suffix ? strlen(suffix) : 0, bytes;
        if (e->d_name[0] == '.' || len < tail || (suffix && !str_eq(e->d_name + len - tail, suffix)))
            continue;
        const char *path = arena_printf(a, "%s/%s", dir, e->d_name);
        const char *data = file_read(a, d, path, &bytes);
        if (data)
            vec_push(a, out, (Seed){ path, (const uint8_t *)data, bytes });
    }
    if (open)
        closedir(open);
}

static Seeds read_corpora(Arena *a, Diag *d, const Reader *r)
{
    Seeds all = { 0 };
    for (int32_t i = 0; i < DT_COUNT(r->corpora) && r->corpora[i]; i++)
        add_folder(a, d, r->corpora[i], r->suffix, &all);
    qsort(all.at, (size_t)all.len, sizeof *all.at, by_name);
    return all;
}

/* ---- Damage ---------------------------------------------------------------------------------------------------- */

/* Random numbers of one file. */
typedef struct Dice {
    uint32_t reader, number;
    uint64_t at;
} Dice;

static uint32_t below(Dice *x, size_t n)
{
    return (uint32_t)(((uint64_t)rng_u32(1, x->reader, x->number, x->at++) * n) >> 32);
}

/* Bytes that are being changed. */
typedef struct Bytes {
    uint8_t *at;
    size_t   len; /* at most MOST_BYTES */
} Bytes;

static void remove_part(Bytes *b, size_t from, size_t n)
{
    memmove(b->at + from, b->at + from + n, b->len - from - n);
    b->len -= n;
}

static void insert_part(Bytes *b, size_t at, const uint8_t *from, size_t n)
{
    uint8_t copy[256];
    if (n > sizeof copy || b->len + n > MOST_BYTES)
        return;
    memcpy(copy, from, n); /* it may lie in the bytes themselves */
    memmove(b->at + at + n, b->at + at, b->len - at);
    memcpy(b->at + at, copy, n);
    b->len += n;
}

/* Numbers where programs go wrong, in one of the sizes and orders of bytes. */
static void put_number(Bytes *b, Dice *x)
{
    static const uint64_t numbers[] = {
        0,       1,          0x7f,       0x80,       0xff,       0x100,      0x7fff,     0x8000,          0xffff,
        0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x40000000, 0x20000001, UINT64_MAX >> 1, UINT64_MAX
    };
    const uint64_t n = numbers[below(x, DT_COUNT(numbers))];
    const size_t   size = (size_t)1 << below(x, 4);
    const bool     little = below(x, 2);
    if (b->len < size)
        return;
    size_t at = below(x, b->len - size + 1);
    for (size_t i = 0; i < size; i++)
        b->at[at + i] = (uint8_t)(n >> 8 * (little ? i : size - 1 - i));
}

/* A number of a text becomes another one. */
static void change_number(Bytes *b, Dice *x)
{
    static const char *const numbers[] = {
        "0",     "-1",  "1",   "2147483647", "2147483648", "9223372036854775807", "99999999999999999999",
        "1e308", "nan", "0.5", "4294967296", "65536"
    };
    size_t at = below(x, b->len), n = 0;
    while (at < b->len && (b->at[at] < '0' || b->at[at] > '9'))
        at++;
    while (at + n < b->len && b->at[at + n] >= '0' && b->at[at + n] <= '9')
        n++;
    const char *text = numbers[below(x, DT_COUNT(numbers))];
    remove_part(b, at, n);
    insert_part(b, at, (const uint8_t *)text, strlen(text));
}

static void change(Bytes *b, Dice *x, const Seeds *seeds, bool is_text)
{
    static const char marks[] = "{}[]()=,:;%\"'\\/.*@#<>|!?~ \t\n\r\0\xff";
    const uint32_t    kind = below(x, is_text ? 10 : 8);
    const Seed       *other = &seeds->at[below(x, (size_t)seeds->len)];
    if (b->len == 0)
        return;
    const size_t at = below(x, b->len), rest = b->len - at, n = 1 + below(x, rest < 64 ? rest : 64);
    switch (kind) {
    case 0:
        b->at[at] ^= (uint8_t)(1u << below(x, 8));
        break;
    case 1:
        b->at[at] = (uint8_t)below(x, 256);
        break;
    case 2:
    case 3:
        put_number(b, x);
        break;
    case 4:
        remove_part(b, at, n);
        break;
    case 5:
        insert_part(b, below(x, b->len), b->at + at, n);
        break;
    case 6:
        if (below(x, 4) == 0)
            b->len = at;
        else if (other->bytes > 0)
            insert_part(b, at, other->data + below(x, other->bytes), 1);
        break;
    case 7:
        if (other->bytes > n)
            insert_part(b, at, other->data + below(x, other->bytes - n), n);
        break;
    case 8:
        b->at[at] = (uint8_t)marks[below(x, sizeof marks - 1)];
        break;
    default:
        change_number(b, x);
    }
}

/* File `number`: the first ones are the corpora themselves. */
static Bytes damaged(Arena *a, const Reader *r, const Seeds *seeds, int32_t number)
{
    Dice        x = { hash_u32(r->name), (uint32_t)number, 0 };
    const Seed *seed = &seeds->at[number < seeds->len ? (uint32_t)number : below(&x, (size_t)seeds->len)];
    Bytes       b = { arena_alloc(a, MOST_BYTES), seed->bytes };
    DT_ASSERT(seed->bytes <= MOST_BYTES / 2, "%s is too large a seed", seed->name);
    memcpy(b.at, seed->data, seed->bytes);
    for (uint32_t i = 0, n = number < seeds->len ? 0 : 1 + below(&x, MOST_CHANGES); i < n; i++)
        change(&b, &x, seeds, r->is_text);
    if (r->mend && number % 2)
        r->mend(b.at, b.len);
    return b;
}

/* ---- The child ------------------------------------------------------------------------------------------------- */

static int read_all(const Reader *r, const Seeds *seeds, ReaderPlace *place, Shared *shared, int32_t first,
                    int32_t count)
{
    for (int32_t i = first; i < first + count; i++) {
        Arena a = arena_new("fuzz");
        Diag  d = diag_new(NULL);
        Bytes b = damaged(&a, r, seeds, i);
        /* Exactly as many bytes as there are, so that a sanitizer sees who looks behind them. */
        uint8_t *exact = malloc(b.len + (b.len == 0));
        memcpy(exact, b.at, b.len);
        atomic_store(&shared->number, i);
        alarm(SECONDS);
        bool ok = r->read(&a, &d, place, exact, b.len);
        alarm(0);
        if (!ok && d.errors == 0) {
            fprintf(stderr, "%s: file %d was refused without a message\n", r->name, i);
            return FAILED;
        }
        if (i >= seeds->len) {
            shared->read += ok;
            shared->refused += !ok;
        }
        free(exact);
        diag_free(&d);
        arena_free(&a);
    }
    shared->done = true;
    return 0;
}

static void remove_dir(const char *dir)
{
    DIR *open = opendir(dir);
    for (const struct dirent *e; open && (e = readdir(open));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(open), e->d_name, 0);
    if (open)
        closedir(open);
    rmdir(dir);
}

/* ---- The parent ------------------------------------------------------------------------------------------------ */

/* Writes down the file that the child died of. */
static int say_death(Arena *a, Diag *d, const Reader *r, const Seeds *seeds, int number, int status)
{
    const char *path = arena_printf(a, "/tmp/detent-fuzz-%s-%d", r->name, number);
    Bytes       b = damaged(a, r, seeds, number);
    bool        kept = file_write_atomic(d, path, b.at, b.len);
    fprintf(stderr, "%s: file %d ended the reader: %s %d\n", r->name, number,
            WIFSIGNALED(status) ? (WTERMSIG(status) == SIGALRM ? "it took too long, signal" : "signal") : "exit code",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (kept)
        fprintf(stderr, "it is %s; once more: test_readers %s 1 %d\n", path, r->name, number);
    return FAILED;
}

/* Whether the readers were tried as meant. */
static int judge(const Reader *r, const Shared *shared, int32_t count)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    const long limit = IS_SANITIZED ? LIMIT_MB_SANITIZED : LIMIT_MB, mb = used.ru_maxrss / 1024;
    printf("%s: %d damaged files were read, %d refused, at most %ld MB\n", r->name, shared->read, shared->refused, mb);
    if (mb > limit) {
        fprintf(stderr, "%s: %ld MB are more than %ld\n", r->name, mb, limit);
        return FAILED;
    }
    if (count >= COUNT && shared->refused * 100LL < (int64_t)r->refused * count) {
        fprintf(stderr, "%s: only %d of %d damaged files were refused, expected %d %%\n", r->name, shared->refused,
                count, r->refused);
        return FAILED;
    }
    return 0;
}

static int run(Arena *a, Diag *d, const Reader *r, int32_t count, int32_t first)
{
    Seeds   seeds = read_corpora(a, d, r);
    Shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char   *dir = arena_printf(a, "%s/detent-readers-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (d->errors > 0 || seeds.len == 0 || shared == MAP_FAILED || !mkdtemp(dir))
        return FAILED;
    ReaderPlace place = { .dir = dir };
    int         status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(read_all(r, &seeds, &place, shared, first, count));
    waitpid(child, &status, 0);
    remove_dir(dir);
    if (status != 0 || !shared->done)
        return say_death(a, d, r, &seeds, atomic_load(&shared->number), status);
    return judge(r, shared, count);
}

int main(int argc, char **argv)
{
    const Reader *r = argc > 1 ? reader_find(argv[1]) : NULL;
    if (!r) {
        fprintf(stderr, "usage: test_readers READER [COUNT [FIRST]]; readers:");
        for (int32_t i = 0; i < n_readers; i++)
            fprintf(stderr, " %s", readers[i].name);
        fprintf(stderr, "\n");
        return 2;
    }
    log_set_level(LOG_QUIET);
    Arena a = arena_new("readers");
    Diag  d = diag_new(stderr);
    int   code = run(&a, &d, r, argc > 2 ? atoi(argv[2]) : COUNT, argc > 3 ? atoi(argv[3]) : 0);
    diag_free(&d);
    arena_free(&a);
    return code;
}
