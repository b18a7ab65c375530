/* rundir.c: the directory of a run and the files in it that grow.
 *
 * Metrics are appended row by row and flushed, so that they can be watched; the checkpoint knows how long they were,
 * and resuming cuts off what came later. They hold no times and no host names: the same run gives the same bytes. Times
 * go to log.txt, whose lock also keeps a second process out.
 *
 * Tested by tests/unit/test_train.c. */
#include "runtime/data_impl.h"
#include "runtime/runtime_impl.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A file that grows. */
typedef struct Growing {
    const char *path;
    FILE       *file;
} Growing;

struct RunDir {
    const char *path, *columns; /* of metrics.csv behind epoch and step: "lr,train_loss" */
    Growing     jsonl, csv, log;
};

const char *rundir_path(const RunDir *r)
{
    return r->path;
}

const char *rundir_file(Arena *a, const RunDir *r, const char *name)
{
    return arena_printf(a, "%s/%s", r->path, name);
}

static bool dir_has(const char *dir, const char *name)
{
    Arena scratch = arena_new("rundir");
    bool  has = data_is_file(arena_printf(&scratch, "%s/%s", dir, name), NULL);
    arena_free(&scratch);
    return has;
}

bool rundir_has(const RunDir *r, const char *name)
{
    return dir_has(r->path, name);
}

/* ---- Files that grow ------------------------------------------------------------------------------------------- */

static bool grow_open(Diag *d, Growing *g, const char *path)
{
    g->path = path;
    g->file = fopen(path, "ab");
    if (!g->file)
        diag_error(d, LOC_NONE, "run: cannot write %s: %s", path, strerror(errno));
    return g->file != NULL;
}

static int64_t grow_bytes(const Growing *g)
{
    struct stat st;
    return fstat(fileno(g->file), &st) == 0 ? (int64_t)st.st_size : 0;
}

static bool grow_add(Diag *d, Growing *g, const char *text)
{
    errno = 0;
    if (fputs(text, g->file) >= 0 && fflush(g->file) == 0)
        return true;
    diag_error(d, LOC_NONE, "run: cannot write %s: %s", g->path, errno ? strerror(errno) : "unknown reason");
    return false;
}

static bool grow_cut(Diag *d, Growing *g, int64_t bytes)
{
    int64_t now = grow_bytes(g);
    if (now < bytes)
        diag_warning(d, LOC_NONE, "run: %s has %lld bytes, the checkpoint was made when it had %lld: rows are missing",
                     g->path, (long long)now, (long long)bytes);
    if (now <= bytes || ftruncate(fileno(g->file), bytes) == 0)
        return true;
    diag_error(d, LOC_NONE, "run: cannot shorten %s to %lld bytes: %s", g->path, (long long)bytes, strerror(errno));
    return false;
}

/* A file system that cannot sync (EINVAL, a pipe) is no reason to stop. */
static bool grow_sync(Diag *d, Growing *g, int64_t *bytes)
{
    *bytes = grow_bytes(g);
    if (fsync(fileno(g->file)) == 0 || errno == EINVAL || errno == ENOTSUP)
        return true;
    diag_error(d, LOC_NONE, "run: cannot write %s: %s", g->path, strerror(errno));
    return false;
}

static bool csv_begin(Diag *d, RunDir *r)
{
    if (grow_bytes(&r->csv) > 0)
        return true;
    Arena scratch = arena_new("columns");
    bool  ok = grow_add(d, &r->csv, arena_printf(&scratch, "epoch,step,%s\n", r->columns));
    arena_free(&scratch);
    return ok;
}

/* ---- The directory --------------------------------------------------------------------------------------------- */

/* Opens the files of a directory that exists. NULL: reported. */
static RunDir *open_files(Arena *a, Diag *d, const char *path, const char *columns)
{
    RunDir *r = ARENA_NEW(a, RunDir);
    r->path = path;
    r->columns = arena_strdup(a, columns);
    if (!grow_open(d, &r->log, rundir_file(a, r, RUN_LOG)))
        return NULL;
    if (flock(fileno(r->log.file), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        diag_error(d, LOC_NONE, "run: another process is training in %s", path);
        rundir_close(r);
        return NULL;
    }
    if (!grow_open(d, &r->jsonl, rundir_file(a, r, RUN_JSONL)) || !grow_open(d, &r->csv, rundir_file(a, r, RUN_CSV)) ||
        !csv_begin(d, r)) {
        rundir_close(r);
        return NULL;
    }
    return r;
}

/* The first of base, base-2, base-3, ... that is free. mkdir decides, so two processes never share one. */
static const char *make_free_dir(Arena *a, Diag *d, const char *base)
{
    const char *slash = strrchr(base, '/');
    if (slash && slash != base && !dir_make(d, arena_strndup(a, base, (size_t)(slash - base))))
        return NULL;
    for (int64_t n = 1;; n++) {
        const char *path = n == 1 ? base : arena_printf(a, "%s-%lld", base, (long long)n);
        if (mkdir(path, 0777) == 0)
            return path;
        if (errno != EEXIST) {
            diag_error(d, LOC_NONE, "run: cannot make directory %s: %s", path, strerror(errno));
            return NULL;
        }
    }
}

RunDir *rundir_create(Arena *a, Diag *d, const char *root, const char *net, const char *exp, const char *out,
                      const char *columns)
{
    if (!out) {
        const char *path = make_free_dir(a, d, arena_printf(a, "%s/%s/%s", root, net, exp));
        return path ? open_files(a, d, path, columns) : NULL;
    }
    if (dir_has(out, RUN_ARGS) || dir_has(out, RUN_LAST)) {
        diag_error(d, LOC_NONE, "run: %s holds a run already", out);
        diag_help(d, "go on with it by --resume %s, or choose another directory", out);
        return NULL;
    }
    return dir_make(d, out) ? open_files(a, d, arena_strdup(a, out), columns) : NULL;
}

/* A process that is killed while it writes a checkpoint leaves its temporary file. The lock says that nobody uses it.
 */
static void remove_leftovers(Arena *a, const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (str_glob(".detent-*.tmp", e->d_name))
            unlink(arena_printf(a, "%s/%s", path, e->d_name));
    if (dir)
        closedir(dir);
}

RunDir *rundir_open(Arena *a, Diag *d, const char *path, const char *columns)
{
    if (dir_has(path, RUN_ARGS) || dir_has(path, RUN_LAST)) {
        RunDir *r = open_files(a, d, arena_strdup(a, path), columns);
        if (r)
            remove_leftovers(a, path);
        return r;
    }
    diag_error(d, LOC_NONE, "run: %s is no directory of a run: it has neither " RUN_ARGS " nor " RUN_LAST, path);
    return NULL;
}

void rundir_close(RunDir *r)
{
    if (!r)
        return;
    Growing *all[] = { &r->jsonl, &r->csv, &r->log }; /* the lock goes last */
    for (int32_t i = 0; i < DT_COUNT(all); i++) {
        if (all[i]->file)
            fclose(all[i]->file);
        all[i]->file = NULL;
    }
}

/* ---- args.json ------------------------------------------------------------------------------------------------- */

/* A key that comes several times becomes an array. */
static bool add_arg(json_t *root, const RunArg *arg)
{
    json_t *value = json_string(arg->value), *old = json_object_get(root, arg->key);
    if (!value)
        return false;
    if (!old)
        return json_object_set_new(root, arg->key, value) == 0;
    if (json_is_array(old))
        return json_array_append_new(old, value) == 0;
    return json_object_set_new(root, arg->key, json_pack("[O, o]", old, value)) == 0;
}

bool rundir_write_args(Diag *d, const RunDir *r, const RunArg *args, int32_t count)
{
    json_t *root = json_object();
    bool    ok = true;
    for (int32_t i = 0; i < count && ok; i++) {
        ok = add_arg(root, &args[i]);
        if (!ok)
            diag_error(d, LOC_NONE, "run: the value of --%s is not UTF-8", args[i].key);
    }
    if (ok) {
        Arena scratch = arena_new("args");
        char *text = json_dumps(root, JSON_INDENT(2));
        Str   s = str_new(&scratch);
        str_printf(&s, "%s\n", text);
        free(text);
        ok = file_write_atomic(d, rundir_file(&scratch, r, RUN_ARGS), s.s, s.len);
        arena_free(&scratch);
    }
    json_decref(root);
    return ok;
}

static bool read_arg(Arena *a, const char *key, json_t *value, RunArgs *out)
{
    if (json_is_string(value)) {
        vec_push(a, out, (RunArg){ arena_strdup(a, key), arena_strdup(a, json_string_value(value)) });
        return true;
    }
    size_t  i;
    json_t *item;
    bool    ok = json_is_array(value);
    json_array_foreach(value, i, item)
    {
        ok = ok && json_is_string(item) && read_arg(a, key, item, out);
    }
    return ok;
}

bool rundir_read_args(Arena *a, Diag *d, const char *path, RunArgs *out)
{
    const char *file = arena_printf(a, "%s/" RUN_ARGS, path);
    size_t      len = 0;
    const char *text = file_read(a, d, file, &len);
    if (!text)
        return false;
    json_error_t err;
    json_t      *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &err);
    if (!root) {
        diag_error(d, (Loc){ file, err.line }, "run: %s", err.text);
        return false;
    }
    const char *key;
    json_t     *value;
    bool        ok = json_is_object(root);
    if (!ok)
        diag_error(d, (Loc){ file, 1 }, "run: expected an object of texts");
    json_object_foreach(root, key, value)
    {
        if (ok && !read_arg(a, key, value, out)) {
            diag_error(d, (Loc){ file, 0 }, "run: \"%s\" is neither a text nor an array of texts", key);
            ok = false;
        }
    }
    json_decref(root);
    return ok;
}

/* ---- Metrics --------------------------------------------------------------------------------------------------- */

/* The shortest text that gives the f32 back; `none` for what is not finite (JSON cannot say it). */
static void add_number(Str *s, double x, const char *none)
{
    if (isfinite(x))
        str_add_f32(s, (float)x);
    else
        str_add(s, none);
}

void metric_add(MetricRow *r, const char *key, double value)
{
    DT_ASSERT(r->n < METRICS_MOST, "%s: a row of metrics has %d values already", key, r->n);
    r->at[r->n++] = (Metric){ key, value };
}

static const Metric *find_metric(const MetricRow *r, const char *key, size_t len)
{
    for (int32_t i = 0; i < r->n; i++)
        if (strlen(r->at[i].key) == len && memcmp(r->at[i].key, key, len) == 0)
            return &r->at[i];
    return NULL;
}

static void jsonl_row(Str *s, const MetricRow *row)
{
    str_printf(s, "{\"kind\":\"%s\",\"epoch\":%lld,\"step\":%lld", row->epoch_end ? "epoch" : "step",
               (long long)row->epoch, (long long)row->step);
    for (int32_t i = 0; i < row->n; i++) {
        str_printf(s, ",\"%s\":", row->at[i].key);
        add_number(s, row->at[i].value, "null");
    }
    str_add(s, "}\n");
}

static void csv_row(Str *s, const MetricRow *row, const char *columns)
{
    str_printf(s, "%lld,%lld", (long long)row->epoch, (long long)row->step);
    for (const char *at = columns; *at; at += *at == ',') {
        const size_t  len = strcspn(at, ",");
        const Metric *m = find_metric(row, at, len);
        str_add(s, ",");
        if (m)
            add_number(s, m->value, "nan");
        at += len;
    }
    str_add(s, "\n");
}

bool rundir_metric(Diag *d, RunDir *r, const MetricRow *row)
{
    Arena scratch = arena_new("metric");
    Str   json = str_new(&scratch), csv = str_new(&scratch);
    jsonl_row(&json, row);
    csv_row(&csv, row, r->columns);
    bool ok = grow_add(d, &r->jsonl, json.s) && (!row->epoch_end || grow_add(d, &r->csv, csv.s));
    arena_free(&scratch);
    return ok;
}

bool rundir_row(Diag *d, RunDir *r, const char *json)
{
    Arena scratch = arena_new("row");
    bool  ok = grow_add(d, &r->jsonl, arena_printf(&scratch, "%s\n", json));
    arena_free(&scratch);
    return ok;
}

bool rundir_sync(Diag *d, RunDir *r, int64_t *jsonl_bytes, int64_t *csv_bytes)
{
    return grow_sync(d, &r->jsonl, jsonl_bytes) && grow_sync(d, &r->csv, csv_bytes);
}

bool rundir_truncate(Diag *d, RunDir *r, int64_t jsonl_bytes, int64_t csv_bytes)
{
    return grow_cut(d, &r->jsonl, jsonl_bytes) && grow_cut(d, &r->csv, csv_bytes) && csv_begin(d, r);
}

void rundir_log(RunDir *r, const char *fmt, ...)
{
    time_t    now = time(NULL);
    struct tm parts;
    char      when[32];
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
    fprintf(r->log.file, "%s  ", when);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(r->log.file, fmt, ap);
    va_end(ap);
    fputc('\n', r->log.file);
    fflush(r->log.file);
}
