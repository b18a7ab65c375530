/* cli_fixture.h: runs the programs that were built - detent, detent-opt, an example - as a person does in a shell, in a
 * temporary directory, and keeps what they print and how they end.
 *
 * The shell's variables: $DETENT, $OPT, $MY_NET the programs; $DATA the directory with digits; $NETS that with networks
 * for tests; $SRC the source tree. The current directory is the temporary one; compiled kernels are cached in it. */
#ifndef DETENT_TESTS_CLI_FIXTURE_H
#define DETENT_TESTS_CLI_FIXTURE_H

#include "cli/cli.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct Cli {
    Arena       a;
    Diag        d;
    const char *dir;
} Cli;

typedef struct Ran {
    int         code; /* 128 + signal when one ended it */
    const char *script, *out, *err;
} Ran;

static inline const char *cli_path(Cli *c, const char *file)
{
    return arena_printf(&c->a, "%s/%s", c->dir, file);
}

static inline const char *cli_read(Cli *c, const char *file)
{
    const char *text = file_read(&c->a, &c->d, file[0] == '/' ? file : cli_path(c, file), NULL);
    if (!text)
        fail_msg("%s", c->d.text.s);
    return text;
}

static inline Ran cli_sh(Cli *c, const char *script)
{
    extern char              **environ;
    Ran                        r = { .script = script };
    char                      *argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
    posix_spawn_file_actions_t files;
    pid_t                      pid = 0;
    int                        status = 0;
    static const int           flags = O_WRONLY | O_CREAT | O_TRUNC;
    assert_int_equal(posix_spawn_file_actions_init(&files), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&files, 1, cli_path(c, ".out"), flags, 0600), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&files, 2, cli_path(c, ".err"), flags, 0600), 0);
    assert_int_equal(posix_spawn(&pid, "/bin/sh", &files, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    posix_spawn_file_actions_destroy(&files);
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = cli_read(c, ".out");
    r.err = cli_read(c, ".err");
    return r;
}

/* The script must end with `code`. */
static inline Ran cli_expect(Cli *c, int code, const char *script)
{
    Ran r = cli_sh(c, script);
    if (r.code != code)
        fail_msg("%s\nexit code %d, expected %d\n%s%s", script, r.code, code, r.out, r.err);
    return r;
}

static inline Ran cli_ok(Cli *c, const char *script)
{
    return cli_expect(c, EXIT_OK, script);
}

#define assert_in(r, text, part)                                                                                       \
    do {                                                                                                               \
        if (strstr((text), (part)) == NULL)                                                                            \
            fail_msg("%s\ndoes not say '%s':\n%s", (r).script, (part), (text));                                        \
    } while (0)
#define assert_not_in(r, text, part)                                                                                   \
    do {                                                                                                               \
        if (strstr((text), (part)) != NULL)                                                                            \
            fail_msg("%s\nsays '%s':\n%s", (r).script, (part), (text));                                                \
    } while (0)

static inline int32_t count_of(const char *text, const char *part)
{
    int32_t n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        n++;
    return n;
}

/* The number behind `before`, which must be there. */
static inline double number_after(Ran r, const char *text, const char *before)
{
    assert_in(r, text, before);
    return strtod(strstr(text, before) + strlen(before), NULL);
}

static inline int cli_setup(void **state)
{
    char dir[] = "/tmp/detent-cli-XXXXXX";
    Cli *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    assert_non_null(mkdtemp(dir));
    c->a = arena_new("cli");
    c->d = diag_new(NULL);
    c->dir = arena_strdup(&c->a, dir);
    const struct {
        const char *name, *value;
    } env[] = {
        { "DETENT", DT_BINARY_DIR "/detent" },          { "OPT", DT_BINARY_DIR "/detent-opt" },
        { "MY_NET", DT_BINARY_DIR "/examples/my_net" }, { "DATA", DT_SOURCE_DIR "/data/mnist-small" },
        { "NETS", DT_SOURCE_DIR "/tests/nets" },        { "SRC", DT_SOURCE_DIR },
        { "XDG_CACHE_HOME", cli_path(c, "cache") },     { "OMP_WAIT_POLICY", "passive" },
    };
    for (int32_t i = 0; i < DT_COUNT(env); i++)
        setenv(env[i].name, env[i].value, 1);
    unsetenv("DETENT_BISECT");
    if (chdir(dir) != 0)
        return -1;
    *state = c;
    return 0;
}

static inline int cli_teardown(void **state)
{
    Cli *c = *state;
    int  code = chdir("/") | system(arena_printf(&c->a, "rm -rf '%s'", c->dir));
    diag_free(&c->d);
    arena_free(&c->a);
    free(c);
    return code;
}

#endif
