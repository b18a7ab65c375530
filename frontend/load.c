/* load.c: a network from a source file. The system's C compiler ($CC, else cc) makes a shared object of it in a
 * temporary folder, which is loaded and then removed; the object finds the DSL's functions in the running program, so
 * that has to export them (ENABLE_EXPORTS, -rdynamic).
 *
 * Where frontend/detent.h is: $DETENT_INCLUDE, else ../include beside the program, else the source tree it was built
 * from.
 *
 * Tested by tests/unit/test_dsl.c and, with the compiler's own messages, tests/unit/test_diag_dsl.c. */
#include "frontend/frontend.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef DT_INCLUDE_DIR
#define DT_INCLUDE_DIR "."
#endif

extern char **environ;

/* ---- Where the header is ----------------------------------------------------------------------------------------- */

static bool has_header(Arena *a, const char *dir)
{
    return access(arena_printf(a, "%s/frontend/detent.h", dir), R_OK) == 0;
}

static const char *installed_include(Arena *a)
{
    char    exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe);
    if (len <= 0 || len >= (ssize_t)sizeof exe)
        return NULL;
    while (len > 0 && exe[len - 1] != '/')
        len--;
    return arena_printf(a, "%.*s../include/detent", (int)len, exe);
}

/* NULL: reported. */
static const char *include_dir(Arena *a, Diag *d, const char *path)
{
    const char *told = getenv("DETENT_INCLUDE"), *installed = installed_include(a);
    if (told && *told) {
        if (has_header(a, told))
            return told;
        diag_error(d, LOC_NONE, "%s: DETENT_INCLUDE is %s, but there is no %s/frontend/detent.h", path, told, told);
        return NULL;
    }
    if (installed && has_header(a, installed))
        return installed;
    if (has_header(a, DT_INCLUDE_DIR))
        return DT_INCLUDE_DIR;
    diag_error(d, LOC_NONE, "%s: frontend/detent.h is neither in %s nor in %s", path,
               installed ? installed : "../include/detent", DT_INCLUDE_DIR);
    diag_help(d, "set DETENT_INCLUDE to the directory that holds frontend/detent.h");
    return NULL;
}

/* ---- Compiling --------------------------------------------------------------------------------------------------- */

typedef VEC(char *) ArgList;

/* $CC may carry flags: "ccache gcc -m64". */
static void push_words(Arena *a, ArgList *args, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, " \t");
        if (len > 0)
            vec_push(a, args, arena_strndup(a, text, len));
        text += len + (text[len] != 0);
    }
}

static ArgList compile_command(Arena *a, const char *path, const char *include, const char *object)
{
    static const char *const flags[] = { "-std=gnu11",
                                         "-O1",
                                         "-shared",
                                         "-fPIC",
                                         "-Wl,-Bsymbolic", /* its own network, not a built-in one of that name */
                                         "-DDT_STANDALONE",
                                         "-Werror=implicit-function-declaration",
                                         "-fdiagnostics-color=never" };
    const char              *cc = getenv("CC");
    ArgList                  args = { 0 };
    push_words(a, &args, cc && *cc ? cc : "cc");
    for (int32_t i = 0; i < DT_COUNT(flags); i++)
        vec_push(a, &args, arena_strdup(a, flags[i]));
    vec_push(a, &args, arena_printf(a, "-I%s", include));
    vec_push(a, &args, arena_strdup(a, "-o"));
    vec_push(a, &args, arena_strdup(a, object));
    /* A name that begins with '-' would be taken for a flag. */
    vec_push(a, &args, path[0] == '-' ? arena_printf(a, "./%s", path) : arena_strdup(a, path));
    vec_push(a, &args, NULL);
    return args;
}

/* This program's environment, with messages in English: first_error_line() reads them. */
static char **english_environment(Arena *a)
{
    VEC(char *) env = { 0 };
    for (char **e = environ; *e; e++)
        if (strncmp(*e, "LC_ALL=", 7) != 0)
            vec_push(a, &env, *e);
    vec_push(a, &env, arena_strdup(a, "LC_ALL=C"));
    vec_push(a, &env, NULL);
    return env.at;
}

/* Runs a program, both its streams into `log`. The exit status; -1: it could not be run, see errno; -2: a signal. */
static int run(char *const *argv, char *const *env, const char *log)
{
    posix_spawn_file_actions_t files;
    if (posix_spawn_file_actions_init(&files) != 0)
        return -1;
    pid_t pid = 0;
    int   status = 0;
    int   rc = posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    rc = rc ? rc : posix_spawn_file_actions_adddup2(&files, 1, 2);
    rc = rc ? rc : posix_spawnp(&pid, argv[0], &files, NULL, argv, env);
    posix_spawn_file_actions_destroy(&files);
    if (rc != 0) {
        errno = rc;
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

/* The line of `path` that the compiler's first error is about; 0: none. Within a macro the error names the header and a
 * note that follows names the line. */
static int32_t first_error_line(Arena *a, const char *path, const char *text)
{
    const char *prefix = arena_printf(a, "%s:", path);
    size_t      len = strlen(prefix);
    bool        in_error = false;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line != 0) {
        const char *error = strstr(line, "error:");
        in_error = in_error || (error && error < strchrnul(line, '\n'));
        if (in_error && strncmp(line, prefix, len) == 0 && isdigit((unsigned char)line[len]))
            return (int32_t)strtol(line + len, NULL, 10);
    }
    return 0;
}

static const char *trimmed(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = 0;
    return text;
}

static bool compile(Arena *a, Diag *d, const char *path, const char *object, const char *log)
{
    const char *include = include_dir(a, d, path);
    if (!include)
        return false;
    ArgList args = compile_command(a, path, include, object);
    int     status = run(args.at, english_environment(a), log);
    if (status == -1) {
        diag_error(d, LOC_NONE, "%s: cannot run the C compiler %s: %s", path, args.at[0], strerror(errno));
        diag_help(d, "install a C compiler, or say which one in $CC");
        return false;
    }
    char *said = file_read(a, d, log, NULL);
    if (!said)
        return false;
    if (status != 0) {
        diag_error(d, (Loc){ path, first_error_line(a, path, said) }, "%s failed:\n%s", args.at[0], trimmed(said));
        if (strstr(said, "dt_model_entry"))
            diag_help(d, "a file that is loaded declares one network; put the others into files of their own");
    } else if (*said) {
        diag_warning(d, (Loc){ path, 0 }, "%s says:\n%s", args.at[0], trimmed(said));
    }
    return status == 0;
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static const DtModel *open_object(Diag *d, const char *path, const char *object)
{
    void *lib = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        diag_error(d, (Loc){ path, 0 }, "cannot load the compiled network: %s", dlerror());
        return NULL;
    }
    const DtModel *const *entry = dlsym(lib, "dt_model_entry");
    if (entry)
        return *entry;
    diag_error(d, (Loc){ path, 0 }, "there is no network in this file");
    diag_help(d, "declare one: dt_model(my_net, \"what it is\", .image = { 3, 32, 32 }, .classes = 10) { ... }");
    dlclose(lib);
    return NULL;
}

const DtModel *frontend_load(Arena *a, Diag *d, const char *path)
{
    if (access(path, R_OK) != 0) {
        diag_error(d, LOC_NONE, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    const char *tmp = getenv("TMPDIR");
    char       *dir = arena_printf(a, "%s/detent-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) {
        diag_error(d, LOC_NONE, "cannot make a temporary folder %s: %s", dir, strerror(errno));
        return NULL;
    }
    const char    *object = arena_printf(a, "%s/model.so", dir), *log = arena_printf(a, "%s/log", dir);
    const DtModel *model = compile(a, d, path, object, log) ? open_object(d, path, object) : NULL;
    unlink(object);
    unlink(log);
    rmdir(dir);
    return model;
}

const DtModel *frontend_find(Arena *a, Diag *d, const char *name_or_file)
{
    size_t len = strlen(name_or_file);
    if (strchr(name_or_file, '/') || (len > 2 && strcmp(name_or_file + len - 2, ".c") == 0))
        return frontend_load(a, d, name_or_file);
    const char **names = ARENA_ARRAY(a, const char *, frontend_n_models);
    for (int32_t i = 0; i < frontend_n_models; i++) {
        names[i] = frontend_models[i]->name;
        if (str_eq(names[i], name_or_file))
            return frontend_models[i];
    }
    Str all = str_new(a);
    for (int32_t i = 0; i < frontend_n_models; i++)
        str_printf(&all, "%s%s", i ? ", " : "", names[i]);
    const char *near = str_nearest(a, name_or_file, names, frontend_n_models);
    diag_error(d, LOC_NONE, "no network is named %s; built in are %s", name_or_file, all.s);
    diag_help(d, "%s%s%sa file ends in .c", *near ? "did you mean " : "", near, *near ? "? " : "");
    return NULL;
}
