/* listing.c: what lies in the directories of a data set. Names come sorted by their bytes, so that samples have the
 * same numbers on every machine.
 *
 * Tested by tests/unit/test_folder.c. */
#include "runtime/data_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 8 }; /* of folders in folders: a link to its own parent ends here */

bool data_is_file(const char *path, int64_t *bytes)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    if (bytes)
        *bytes = (int64_t)st.st_size;
    return true;
}

bool data_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

void data_no_dir(Diag *d, const char *set, const char *dir)
{
    diag_error(d, LOC_NONE,
               data_is_file(dir, NULL) ? "%s: %s is a file, expected the directory of the data"
                                       : "%s: there is no directory %s",
               set, dir);
}

static bool has_suffix(const char *name, const char *const *suffixes, int32_t n)
{
    size_t len = strlen(name);
    for (int32_t i = 0; i < n; i++) {
        size_t tail = strlen(suffixes[i]);
        if (len > tail && strcasecmp(name + len - tail, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static bool is_picture(const char *name)
{
    static const char *const suffixes[] = { ".jpg", ".jpeg", ".png" };
    return has_suffix(name, suffixes, DT_COUNT(suffixes));
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_names(Names *n)
{
    if (n->len > 1)
        qsort(n->at, (size_t)n->len, sizeof *n->at, by_bytes);
}

/* Whether the entry of an open directory is a directory, links followed. */
static bool entry_is_dir(Arena *a, const char *dir, const struct dirent *e)
{
    if (e->d_type == DT_DIR || e->d_type == DT_REG)
        return e->d_type == DT_DIR;
    return data_is_dir(arena_printf(a, "%s/%s", dir, e->d_name));
}

static DIR *open_dir(Diag *d, const char *dir)
{
    DIR *open = opendir(dir);
    if (!open)
        diag_error(d, LOC_NONE, "data: cannot list %s: %s", dir, strerror(errno));
    return open;
}

bool list_dirs(Arena *a, Diag *d, const char *dir, Names *out)
{
    DIR *open = open_dir(d, dir);
    if (!open)
        return false;
    *out = (Names){ 0 };
    for (const struct dirent *e; (e = readdir(open));)
        if (e->d_name[0] != '.' && entry_is_dir(a, dir, e))
            vec_push(a, out, arena_strdup(a, e->d_name));
    closedir(open);
    sort_names(out);
    return true;
}

/* `below`: "" or "folder/". */
static bool add_pictures(Arena *a, Diag *d, const char *dir, const char *below, int32_t depth, Names *out)
{
    const char *place = arena_printf(a, "%s/%s", dir, below);
    DIR        *open = open_dir(d, place);
    bool        ok = open != NULL;
    for (const struct dirent *e; ok && (e = readdir(open));) {
        if (e->d_name[0] == '.')
            continue;
        if (entry_is_dir(a, place, e))
            ok = depth >= MAX_DEPTH ||
                 add_pictures(a, d, dir, arena_printf(a, "%s%s/", below, e->d_name), depth + 1, out);
        else if (is_picture(e->d_name))
            vec_push(a, out, arena_printf(a, "%s%s", below, e->d_name));
    }
    if (open)
        closedir(open);
    return ok;
}

bool list_pictures(Arena *a, Diag *d, const char *dir, Names *out)
{
    *out = (Names){ 0 };
    if (!add_pictures(a, d, dir, "", 0, out))
        return false;
    sort_names(out);
    return true;
}

const char *list_archive(Arena *a, const char *dir)
{
    static const char *const suffixes[] = { ".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip" };
    DIR                     *open = opendir(dir);
    const char              *found = NULL;
    for (const struct dirent *e; open && !found && (e = readdir(open));)
        if (has_suffix(e->d_name, suffixes, DT_COUNT(suffixes)))
            found = arena_strdup(a, e->d_name);
    if (open)
        closedir(open);
    return found;
}
