/* dynlib.c: libraries that are looked for when they are needed: the CUDA driver, NVRTC, cuDNN.
 *
 * One program runs with or without them, so nothing is linked. A library lies in one of many places (the system, a
 * toolkit, a wheel that Python brought); the first that can be loaded and has every function wins, and when none does,
 * the message lists what was tried and why each failed.
 *
 * Tested by tests/unit/test_dynlib.c (libraries made on the spot: missing, too old, damaged, of another machine) and,
 * where they are installed, by loading NVRTC and cuDNN from a toolkit and from wheels. */
#include "base/base.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the user chose for this shell stands first. Wheels keep each library in nvidia/NAME/lib and find its companions
 * beside themselves. */
// clang-format off
const char *const dynlib_gpu_dirs[] = {
    "$CUDA_HOME/lib64",
    "$CUDA_PATH/lib64",
    "$VIRTUAL_ENV/lib/python3*/site-packages/nvidia/*/lib",
    "$CONDA_PREFIX/lib",
    "$CONDA_PREFIX/lib/python3*/site-packages/nvidia/*/lib",
    "/usr/local/cuda*/lib64",
    "/opt/cuda*/lib64",
    "/usr/lib/*-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
    "~/.local/lib/python3*/site-packages/nvidia/*/lib",
    "~/.pyenv/versions/*/lib/python3*/site-packages/nvidia/*/lib",
    "/usr/local/lib/python3*/*-packages/nvidia/*/lib",
    "/usr/lib/python3*/*-packages/nvidia/*/lib",
    "/opt/*/.venv/lib/python3*/site-packages/nvidia/*/lib",
    "/opt/*/lib/python3*/site-packages/nvidia/*/lib",
    NULL
};
// clang-format on

enum { MOST_FAILURES = 6 }; /* that a message lists */

/* One call of dynlib_open. */
typedef struct Search {
    Arena        *arena;
    const DynLib *lib;
    void         *table;
    Str           failed; /* "path: reason\n" of files that are there and cannot be used */
    int32_t       n_failed;
    const char   *found; /* NULL: not yet */
} Search;

static void search_failed(Search *s, const char *path, const char *reason)
{
    if (s->n_failed++ < MOST_FAILURES)
        str_printf(&s->failed, "%s: %s\n", path, reason);
}

/* What the loader says begins with a path that we say already. */
static const char *short_reason(const char *text, const char *path)
{
    size_t len = strlen(path);
    if (strncmp(text, path, len) == 0 && text[len] == ':')
        text += len + 1;
    return text + strspn(text, " ");
}

/* Fills a copy of the functions first: a table stays untouched by a library that lacks some. */
static bool take_functions(Search *s, void *handle, const char *path)
{
    const DynLib *lib = s->lib;
    void        **at = ARENA_ARRAY(s->arena, void *, lib->n_funcs + 1);
    for (int32_t i = 0; i < lib->n_funcs; i++) {
        at[i] = dlsym(handle, lib->funcs[i].symbol);
        if (!at[i] && !lib->funcs[i].optional) {
            search_failed(s, path, arena_printf(s->arena, "too old: it has no %s", lib->funcs[i].symbol));
            return false;
        }
    }
    for (int32_t i = 0; i < lib->n_funcs; i++)
        memcpy((char *)s->table + lib->funcs[i].offset, &at[i], sizeof at[i]);
    return true;
}

/* A bare name that is asked for later finds what is loaded already. One that cannot be loaded will be missed then. */
static void load_companions(Search *s, const char *path)
{
    const char *slash = strrchr(path, '/');
    glob_t      g = { 0 };
    if (!s->lib->beside || !slash)
        return;
    const char *pattern = arena_printf(s->arena, "%.*s/%s", (int)(slash - path), path, s->lib->beside);
    if (glob(pattern, 0, NULL, &g) == 0)
        for (size_t i = 0; i < g.gl_pathc; i++)
            if (!dlopen(g.gl_pathv[i], RTLD_NOW | RTLD_LOCAL))
                log_debug("%s: %s", s->lib->what, dlerror());
    globfree(&g);
}

/* `file`: a path, or a bare name, which the loader then looks for where it always does. */
static void try_file(Search *s, const char *file)
{
    bool bare = strchr(file, '/') == NULL;
    dlerror();
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *error = dlerror(), *reason = short_reason(error ? error : "cannot be loaded", file);
        /* That the loader knows no such name is what the list of places says; a file that it found is worth a line. */
        if (!bare || strncmp(reason, "cannot open shared object file", 30) != 0)
            search_failed(s, file, reason);
        return;
    }
    struct link_map *map = NULL;
    const char      *path = file;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map && map->l_name[0])
        path = arena_strdup(s->arena, map->l_name);
    if (take_functions(s, handle, path)) {
        load_companions(s, path);
        s->found = path;
    }
}

static void try_dir(Search *s, const char *dir)
{
    for (const char *const *name = s->lib->names; *name && !s->found; name++) {
        const char *path = arena_printf(s->arena, "%s/%s", dir, *name);
        if (access(path, F_OK) == 0)
            try_file(s, path);
    }
}

/* ---- Places ---- */

/* "$NAME/rest" with the variable's value, in which no character means anything to glob. NULL: it is not set. */
static const char *with_variable(Arena *a, const char *pattern)
{
    if (pattern[0] != '$')
        return pattern;
    const char *rest = pattern + strcspn(pattern, "/");
    const char *value = getenv(arena_strndup(a, pattern + 1, (size_t)(rest - pattern) - 1));
    if (!value || !value[0])
        return NULL;
    Str out = str_new(a);
    for (; *value; value++) {
        if (strchr("*?[\\", *value))
            str_add(&out, "\\");
        str_addn(&out, value, 1);
    }
    str_add(&out, rest);
    return out.s;
}

static int newest_first(const void *a, const void *b)
{
    return -strverscmp(*(char *const *)a, *(char *const *)b);
}

static void try_pattern(Search *s, const char *pattern)
{
    const char *text = with_variable(s->arena, pattern);
    glob_t      g = { 0 };
    if (!text)
        return;
    if (glob(text, GLOB_TILDE | GLOB_NOSORT, NULL, &g) == 0) {
        qsort(g.gl_pathv, g.gl_pathc, sizeof *g.gl_pathv, newest_first);
        for (size_t i = 0; i < g.gl_pathc && !s->found; i++)
            try_dir(s, g.gl_pathv[i]);
    }
    globfree(&g);
}

/* Files and directories, separated by colons: the user said where, so nothing else is tried. */
static void try_variable(Search *s, const char *value)
{
    char *save = NULL, *list = arena_strdup(s->arena, value);
    for (char *at = strtok_r(list, ":", &save); at && !s->found; at = strtok_r(NULL, ":", &save)) {
        struct stat st;
        int32_t     before = s->n_failed;
        if (stat(at, &st) != 0)
            search_failed(s, at, strerror(errno));
        else if (!S_ISDIR(st.st_mode))
            try_file(s, strchr(at, '/') ? at : arena_printf(s->arena, "./%s", at));
        else {
            try_dir(s, at);
            if (!s->found && s->n_failed == before)
                search_failed(s, at, "none of these names is in this directory");
        }
    }
}

/* ---- Messages ---- */

static const char *list_of(Arena *a, const char *const *words, const char *separator)
{
    Str out = str_new(a);
    for (; words && *words; words++)
        str_printf(&out, "%s%s", out.len ? separator : "", *words);
    return out.s ? out.s : "";
}

static void report(Search *s, Diag *d, const char *chosen)
{
    const DynLib *lib = s->lib;
    const char   *names = list_of(s->arena, lib->names, ", ");
    diag_error(d, LOC_NONE, "%s: %s", lib->what,
               s->n_failed ? "no library that can be used" : "not found on this machine");
    char *save = NULL;
    for (char *line = s->failed.s ? strtok_r(s->failed.s, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        diag_note(d, LOC_NONE, "%s", line);
    if (s->n_failed > MOST_FAILURES)
        diag_note(d, LOC_NONE, "and %d more", s->n_failed - MOST_FAILURES);
    if (chosen)
        diag_note(d, LOC_NONE, "looked for %s in %s=%s alone", names, lib->env, chosen);
    else
        diag_note(d, LOC_NONE, "looked for %s where the loader looks and in %s", names,
                  list_of(s->arena, lib->dirs, ", "));
    diag_help(d, "%s%s", lib->install,
              !lib->env ? ""
              : chosen ? arena_printf(s->arena, "; or unset %s, or set it to the library's file or directory", lib->env)
                       : arena_printf(s->arena, "; or set %s to the library's file or directory", lib->env));
}

const char *dynlib_open(Arena *a, Diag *d, const DynLib *lib, void *table)
{
    Search      s = { .arena = a, .lib = lib, .table = table, .failed = str_new(a) };
    const char *chosen = lib->env ? getenv(lib->env) : NULL;
    if (chosen && !chosen[0])
        chosen = NULL;
    if (chosen) {
        try_variable(&s, chosen);
    } else {
        for (const char *const *name = lib->names; *name && !s.found; name++)
            try_file(&s, *name);
        for (const char *const *dir = lib->dirs; dir && *dir && !s.found; dir++)
            try_pattern(&s, *dir);
    }
    if (!s.found)
        report(&s, d, chosen);
    else
        log_debug("%s: %s", lib->what, s.found);
    return s.found;
}
