/* pack.c: decoded pictures in one file that is mapped into memory, so that they are decoded once and not in every
 * epoch.
 *
 *   PackHead          magic, key, number of entries, hash of the entries
 *   PackEntry[n]      where the pixels of each picture are, their shape and hash
 *   pixels            [h, w, c] each, 16 bytes apart
 *
 * Entries: pictures of the training split, of the test split; of pairs the degraded and the clean one side by side. The
 * key is a hash of names, sizes and times of change of all files, and of what decoding depends on: when it differs the
 * pack is stale and made anew. Written beside and renamed, so a pack is whole or not there. The hash of a picture is
 * checked when it is first asked for. What is missing or wrong in a pack is decoded from its file.
 *
 * The mapping stays until the process ends. Tested by tests/unit/test_folder.c. */
#include "runtime/data_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "DTPACK1";

enum { ALIGN = 16, AT_ONCE = 32, MAX_THREADS = 8 };

typedef struct PackHead {
    char    magic[8];
    int64_t entries;
    Hash128 key, table; /* table: of the entries */
} PackHead;

typedef struct PackEntry {
    int64_t offset;
    int32_t c, h, w, unused; /* h 0: it could not be decoded */
    Hash128 hash;
} PackEntry;

struct Pack {
    int32_t          first[SPLIT_COUNT]; /* entry of file 0 */
    int32_t          each;               /* entries of a file */
    int64_t          entries;
    const PackEntry *table;
    const uint8_t   *map;
    atomic_uchar    *state; /* of each entry: 0 not looked at, 1 sound, 2 damaged */
};

static bool same_hash(Hash128 a, Hash128 b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* ---- What a pack holds ----------------------------------------------------------------------------------------- */

static int32_t n_entries(const Dataset *set, int32_t first[SPLIT_COUNT], int32_t *each)
{
    *each = set->task == DATA_PAIRS || set->files[SPLIT_TRAIN].at[0].clean ? 2 : 1;
    first[SPLIT_TRAIN] = 0;
    const int32_t train = set->files[SPLIT_TRAIN].len * *each, test = set->files[SPLIT_TEST].len * *each;
    /* One folder for both splits, decoded alike: the same pictures. */
    const bool same = set->task == DATA_CLASSES && set->dir[SPLIT_TRAIN] == set->dir[SPLIT_TEST] &&
                      dataset_at_least(set, SPLIT_TRAIN) == dataset_at_least(set, SPLIT_TEST);
    first[SPLIT_TEST] = same ? 0 : train;
    return same ? train : train + test;
}

/* The path below its directory of entry number i; NULL: there is no such picture. */
static const char *entry_path(const Dataset *set, const Pack *p, int32_t i, Split *s)
{
    *s = i >= p->first[SPLIT_TEST] ? SPLIT_TEST : SPLIT_TRAIN;
    int32_t         at = i - p->first[*s];
    const DataFile *f = &set->files[*s].at[at / p->each];
    if (p->each == 1)
        return f->path;
    return at % 2 ? f->clean : set->noise.kind == NOISE_NONE ? f->path : NULL;
}

static Hash128 pack_key(const Dataset *set, const Pack *p)
{
    Arena a = arena_new("key");
    Str   text = str_new(&a);
    str_printf(&text, "%s %d %d %d\n", set->name, set->c, dataset_at_least(set, SPLIT_TRAIN),
               dataset_at_least(set, SPLIT_TEST));
    for (int32_t i = 0; i < p->entries; i++) {
        struct stat st = { 0 };
        Split       s;
        char        whole[4096];
        const char *path = entry_path(set, p, i, &s);
        snprintf(whole, sizeof whole, "%s/%s", set->dir[s], path ? path : "");
        if (path && stat(whole, &st) == 0)
            str_printf(&text, "%s %lld %lld.%09ld\n", path, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                       st.st_mtim.tv_nsec);
        else
            str_printf(&text, "%s -\n", path ? path : "");
    }
    Hash128 key = hash_bytes(text.s, text.len);
    arena_free(&a);
    return key;
}

/* One file for each place and size; another list of files is another key, not another name. */
static const char *pack_path(Arena *a, const Dataset *set, const char *cache)
{
    char       *whole = realpath(set->dir[SPLIT_TRAIN], NULL), hex[33];
    const char *name = arena_printf(a, "%s %d %d %d", whole ? whole : set->dir[SPLIT_TRAIN], set->noise.kind,
                                    dataset_at_least(set, SPLIT_TRAIN), dataset_at_least(set, SPLIT_TEST));
    free(whole);
    hash_hex(hash_bytes(name, strlen(name)), hex);
    return arena_printf(a, "%s/%s-%.12s.pack", cache, set->name, hex);
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static int64_t pixels_start(int64_t entries)
{
    return dt_round_up((int64_t)sizeof(PackHead) + entries * (int64_t)sizeof(PackEntry), ALIGN);
}

static bool entry_fits(const PackEntry *e, int64_t start, int64_t bytes)
{
    int64_t pixels = (int64_t)e->h * e->w;
    return e->h == 0 || (e->h > 0 && e->w > 0 && e->h <= 65535 && e->w <= 65535 && (e->c == 1 || e->c == 3) &&
                         e->offset >= start && e->offset % ALIGN == 0 && e->offset <= bytes - pixels * e->c);
}

/* Why the mapped file is not what is wanted; NULL: it is. */
static const char *check_map(const uint8_t *map, int64_t bytes, Hash128 key, int64_t entries)
{
    const PackHead *head = (const PackHead *)map;
    int64_t         table = entries * (int64_t)sizeof(PackEntry);
    if (bytes < (int64_t)sizeof *head || memcmp(head->magic, magic, sizeof magic) != 0)
        return "it is no pack of this version";
    if (!same_hash(head->key, key) || head->entries != entries)
        return "the files have changed";
    if (bytes < (int64_t)sizeof *head + table || !same_hash(hash_bytes(map + sizeof *head, (size_t)table), head->table))
        return "it is damaged";
    const PackEntry *e = (const PackEntry *)(map + sizeof *head);
    for (int64_t i = 0; i < entries; i++)
        if (!entry_fits(&e[i], pixels_start(entries), bytes))
            return "it is damaged";
    return NULL;
}

/* Maps the file. False: it is not there, stale or damaged, which the log says. */
static bool map_pack(Pack *p, const char *path, Hash128 key)
{
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return false;
    void *map = fstat(fd, &st) == 0 && st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)
                                                      : MAP_FAILED;
    close(fd);
    const char *why = map == MAP_FAILED ? "it cannot be mapped" : check_map(map, st.st_size, key, p->entries);
    if (why) {
        log_info("data: %s is made anew: %s", path, why);
        if (map != MAP_FAILED)
            munmap(map, (size_t)st.st_size);
        return false;
    }
    p->map = map;
    p->table = (const PackEntry *)(p->map + sizeof(PackHead));
    return true;
}

bool pack_get(const Pack *p, Split s, int32_t file, bool clean, Picture *out)
{
    const int32_t    at = p->first[s] + file * p->each + (clean ? 1 : 0);
    const PackEntry *e = &p->table[at];
    DT_ASSERT(at < p->entries, "entry %d of %lld", at, (long long)p->entries);
    if (e->h == 0)
        return false;
    const uint8_t *pixels = p->map + e->offset;
    unsigned char  state = atomic_load_explicit(&p->state[at], memory_order_relaxed);
    if (state == 0) { /* two threads may come here at once and find the same */
        state = same_hash(hash_bytes(pixels, (size_t)e->c * (size_t)e->h * (size_t)e->w), e->hash) ? 1 : 2;
        atomic_store_explicit(&p->state[at], state, memory_order_relaxed);
        if (state == 2)
            log_info("data: a picture in the pack is damaged; it is decoded again each time");
    }
    *out = (Picture){ .c = e->c, .h = e->h, .w = e->w, .pixels = (uint8_t *)(uintptr_t)pixels }; /* nobody writes */
    return state == 1;
}

/* ---- Making ---------------------------------------------------------------------------------------------------- */

/* Pictures that are decoded at the same time. */
typedef struct Portion {
    const Dataset *set;
    const Pack    *pack;
    int32_t        first, count;
    atomic_int     next;
    Arena          arenas[AT_ONCE];
    Picture        pictures[AT_ONCE]; /* h 0: it cannot be decoded */
} Portion;

static void *decode_some(void *arg)
{
    Portion *x = arg;
    Diag     quiet = diag_new(NULL); /* whoever asks for a broken picture decodes it again, and is told */
    for (int32_t i; (i = atomic_fetch_add(&x->next, 1)) < x->count;) {
        Split       s;
        const char *path = entry_path(x->set, x->pack, x->first + i, &s);
        Arena      *a = &x->arenas[i];
        x->pictures[i] = (Picture){ 0 };
        if (path && !picture_read(a, &quiet, arena_printf(a, "%s/%s", x->set->dir[s], path), x->set->c,
                                  dataset_at_least(x->set, s), &x->pictures[i]))
            x->pictures[i] = (Picture){ 0 };
    }
    diag_free(&quiet);
    return NULL;
}

static void decode_portion(Portion *x, int32_t threads)
{
    pthread_t ids[MAX_THREADS];
    int32_t   started = 0;
    atomic_store(&x->next, 0);
    while (started < threads - 1 && pthread_create(&ids[started], NULL, decode_some, x) == 0)
        started++;
    decode_some(x);
    for (int32_t i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
}

static bool write_pixels(int fd, const Portion *x, PackEntry *table, int64_t *end)
{
    static const uint8_t zeros[ALIGN];
    for (int32_t i = 0; i < x->count; i++) {
        const Picture *p = &x->pictures[i];
        const int64_t  bytes = (int64_t)p->c * p->h * p->w, padded = dt_round_up(bytes, ALIGN);
        if (p->h == 0)
            continue;
        table[x->first + i] = (PackEntry){
            .offset = *end, .c = p->c, .h = p->h, .w = p->w, .hash = hash_bytes(p->pixels, (size_t)bytes)
        };
        if (!file_write_all(fd, p->pixels, (size_t)bytes) || !file_write_all(fd, zeros, (size_t)(padded - bytes)))
            return false;
        *end += padded;
    }
    return true;
}

static bool write_portions(int fd, const Dataset *set, const Pack *p, PackEntry *table)
{
    int64_t  end = pixels_start(p->entries);
    int32_t  threads = (int32_t)dt_min64(dt_max64(sysconf(_SC_NPROCESSORS_ONLN), 1), MAX_THREADS);
    Portion *x = calloc(1, sizeof *x);
    bool     ok = x != NULL && lseek(fd, end, SEEK_SET) == end;
    for (int32_t i = 0; x && i < AT_ONCE; i++)
        x->arenas[i] = arena_new("pack");
    for (int64_t at = 0; at < p->entries && ok; at += AT_ONCE) {
        x->set = set;
        x->pack = p;
        x->first = (int32_t)at;
        x->count = (int32_t)dt_min64(AT_ONCE, p->entries - at);
        decode_portion(x, threads);
        ok = write_pixels(fd, x, table, &end);
        for (int32_t i = 0; i < AT_ONCE; i++)
            arena_reset(&x->arenas[i]);
    }
    for (int32_t i = 0; x && i < AT_ONCE; i++)
        arena_free(&x->arenas[i]);
    free(x);
    return ok;
}

/* All of it, into an open file. False: errno says why. */
static bool write_pack(int fd, const Dataset *set, const Pack *p, Hash128 key)
{
    Arena      a = arena_new("pack");
    PackEntry *table = ARENA_ARRAY(&a, PackEntry, p->entries);
    size_t     bytes = (size_t)p->entries * sizeof *table;
    bool       ok = write_portions(fd, set, p, table);
    PackHead   head = { .entries = p->entries, .key = key, .table = hash_bytes(table, bytes) };
    memcpy(head.magic, magic, sizeof magic);
    ok = ok && lseek(fd, 0, SEEK_SET) == 0 && file_write_all(fd, &head, sizeof head) &&
         file_write_all(fd, table, bytes) && fsync(fd) == 0;
    arena_free(&a);
    return ok;
}

static bool make_pack(Diag *d, const Dataset *set, const Pack *p, const char *path, Hash128 key)
{
    Arena       a = arena_new("pack");
    const char *beside = arena_printf(&a, "%s.%ld.tmp", path, (long)getpid());
    int         fd = open(beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool        ok = fd >= 0 && write_pack(fd, set, p, key);
    int         error = errno;
    if (fd >= 0)
        close(fd);
    if (ok && rename(beside, path) != 0) {
        error = errno;
        ok = false;
    }
    if (!ok) {
        unlink(beside);
        diag_warning(d, LOC_NONE, "data: pictures are not packed: cannot write %s: %s", path, strerror(error));
    }
    arena_free(&a);
    return ok;
}

Pack *pack_open(Arena *a, Diag *d, const Dataset *set, const char *cache)
{
    Pack *p = ARENA_NEW(a, Pack);
    p->entries = n_entries(set, p->first, &p->each);
    p->state = ARENA_ARRAY(a, atomic_uchar, p->entries);
    const char *path = pack_path(a, set, cache);
    Hash128     key = pack_key(set, p);
    if (map_pack(p, path, key))
        return p;
    Diag quiet = diag_new(NULL);
    if (!dir_make(&quiet, cache)) {
        diag_warning(d, LOC_NONE, "data: pictures are not packed: cannot make the directory %s", cache);
        diag_free(&quiet);
        return NULL;
    }
    diag_free(&quiet);
    double start = time_now_s();
    log_info("data: packing %lld pictures of %s into %s", (long long)p->entries, set->name, path);
    if (!make_pack(d, set, p, path, key) || !map_pack(p, path, key))
        return NULL;
    log_info("data: packed in %.1f s", time_now_s() - start);
    return p;
}
