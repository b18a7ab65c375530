/* mat.c: blocks of pictures from MAT files (version 5, and 7.3 which is HDF5) through libmatio.
 *
 * Neither libmatio nor HDF5 was made for files that somebody damaged: some make them crash, loop or ask for much
 * memory. So a child process reads, with limits on time and memory, and sends what it read through a pipe:
 *
 *   child:  Answer { why it failed, or the shape }, then the elements as they are stored
 *   parent: checks the shape against the file, reads the elements, waits for the child's good end
 *
 * Tested by tests/unit/test_pictures.c, fuzzed by tests/fuzz. */
#include "runtime/pictures/pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <matio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANK = 5, DEFLATE_RATIO = 1032 };
/* A child may take this beyond what the file's size allows. */
static const int64_t child_memory = 256 << 20, max_bytes = 4LL << 30;
static const int64_t child_seconds = 20, bytes_a_second = 10 << 20;

typedef struct Answer {
    char    why[160]; /* empty: it was read */
    int32_t rank;
    int64_t dim[MAX_RANK]; /* the first varies fastest */
} Answer;

/* ---- The child ------------------------------------------------------------------------------------------------- */

static int64_t memory_in_use(void)
{
    long long pages = 0;
    FILE     *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void set_limit(int what, int64_t value)
{
    setrlimit(what, &(struct rlimit){ (rlim_t)value, (rlim_t)value });
}

static void limit_child(int64_t file_bytes)
{
    int64_t used = memory_in_use(), room = child_memory + 2 * dt_min64(file_bytes * DEFLATE_RATIO, max_bytes);
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_CPU, child_seconds + file_bytes / bytes_a_second);
    if (used > 0)
        set_limit(RLIMIT_AS, used + room);
    int null = open("/dev/null", O_WRONLY); /* libraries say there what the answer says better */
    if (null >= 0)
        dup2(null, STDERR_FILENO);
}

/* The variable with its elements; NULL: answer->why says why not. */
static matvar_t *read_variable(mat_t *mat, const char *variable, int64_t file_bytes, Answer *answer)
{
    matvar_t *v = Mat_VarReadInfo(mat, variable);
    int64_t   elems = 1;
    if (!v) {
        snprintf(answer->why, sizeof answer->why, "it has no variable %s", variable);
        return NULL;
    }
    if (v->rank < 4 || v->rank > MAX_RANK || v->class_type != MAT_C_UINT8 || v->isComplex || !v->dims) {
        snprintf(answer->why, sizeof answer->why, "%s is no array of bytes with 4 or 5 dimensions", variable);
        return NULL;
    }
    answer->rank = v->rank;
    for (int32_t i = 0; i < v->rank; i++) {
        answer->dim[i] = v->dims[i] > INT32_MAX ? -1 : (int64_t)v->dims[i];
        if (answer->dim[i] <= 0 || !dt_mul64(elems, answer->dim[i], &elems) || elems > max_bytes ||
            elems / DEFLATE_RATIO > file_bytes) {
            snprintf(answer->why, sizeof answer->why, "%s is larger than a file of %lld bytes can hold", variable,
                     (long long)file_bytes);
            return NULL;
        }
    }
    if (Mat_VarReadDataAll(mat, v) != 0 || !v->data || v->nbytes != (size_t)elems || v->data_size != 1) {
        snprintf(answer->why, sizeof answer->why, "the elements of %s cannot be read", variable);
        return NULL;
    }
    return v;
}

/* What is wrong with the file, before libmatio sees it. NULL: nothing. */
static const char *check_file(const char *path, int64_t file_bytes)
{
    int   fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = fd >= 0 && file_bytes > 0 ? mmap(NULL, (size_t)file_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    return map == MAP_FAILED ? "it cannot be read" : mat5_check(map, file_bytes);
}

static void run_child(const char *path, const char *variable, int64_t file_bytes, int to)
{
    limit_child(file_bytes);
    Answer      answer = { .why = "" };
    const char *wrong = check_file(path, file_bytes);
    mat_t      *mat = wrong ? NULL : Mat_Open(path, MAT_ACC_RDONLY);
    matvar_t   *v = NULL;
    if (wrong)
        snprintf(answer.why, sizeof answer.why, "%s", wrong);
    else if (!mat)
        snprintf(answer.why, sizeof answer.why, "it is no MAT file of version 5 or 7.3");
    else
        v = read_variable(mat, variable, file_bytes, &answer);
    bool ok = file_write_all(to, &answer, sizeof answer) && (!v || file_write_all(to, v->data, v->nbytes));
    _exit(ok ? 0 : 1);
}

/* ---- The parent ------------------------------------------------------------------------------------------------ */

static bool read_pipe(int from, void *to, int64_t bytes)
{
    for (int64_t done = 0; done < bytes;) {
        ssize_t got = read(from, (uint8_t *)to + done, (size_t)(bytes - done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += got;
    }
    return true;
}

static bool damaged(Diag *d, const char *path, const char *why)
{
    diag_error(d, LOC_NONE, "mat: %s: %s", path, why);
    return false;
}

/* From one block after the other within each element to each block in one piece. `columns` is 1 where there are four
 * dimensions: [rows, columns, h, w, c], the first fastest. */
static void gather(const uint8_t *from, int64_t rows, int64_t columns, const MatBlocks *b)
{
    const int64_t pixels = (int64_t)b->h * b->w, each = pixels * b->c, blocks = rows * columns;
    for (int64_t k = 0; k < b->c; k++)
        for (int64_t x = 0; x < b->w; x++)
            for (int64_t y = 0; y < b->h; y++) {
                const uint8_t *one = from + blocks * (y + b->h * (x + b->w * k));
                for (int64_t i = 0; i < blocks; i++) /* stored: row fastest; ours: the blocks of row 0 first */
                    b->pixels[(i % rows * columns + i / rows) * each + (y * b->w + x) * b->c + k] = one[i];
            }
}

/* What the child sends; it is waited for by the caller. */
static bool receive(Arena *a, Diag *d, const char *path, int from, MatBlocks *out)
{
    Answer  answer;
    int64_t bytes = 1;
    if (!read_pipe(from, &answer, sizeof answer))
        return damaged(d, path, "damaged: it cannot be read in reasonable time and memory");
    answer.why[sizeof answer.why - 1] = 0;
    if (answer.why[0])
        return damaged(d, path, answer.why);
    const int64_t  columns = answer.rank == MAX_RANK ? answer.dim[1] : 1;
    const int64_t *hwc = answer.dim + answer.rank - 3;
    for (int32_t i = 0; i < answer.rank; i++)
        bytes *= answer.dim[i]; /* the child held this against the limit */
    if (hwc[2] != 1 && hwc[2] != 3)
        return damaged(d, path, "its last dimension is not 1 or 3, the channels");
    *out = (MatBlocks){
        .count = (int32_t)(answer.dim[0] * columns), .h = (int32_t)hwc[0], .w = (int32_t)hwc[1], .c = (int32_t)hwc[2]
    };
    Arena    scratch = arena_new("mat");
    uint8_t *stored = arena_alloc(&scratch, (size_t)bytes);
    bool     ok = read_pipe(from, stored, bytes);
    if (ok) {
        out->pixels = arena_alloc(a, (size_t)bytes);
        gather(stored, answer.dim[0], columns, out);
    }
    arena_free(&scratch);
    return ok || damaged(d, path, "damaged: its elements cannot be read");
}

bool mat_read_blocks(Arena *a, Diag *d, const char *path, const char *variable, MatBlocks *out)
{
    int64_t file_bytes = 0;
    int     ends[2], status = 0;
    if (!data_is_file(path, &file_bytes))
        return damaged(d, path, "there is no such file");
    if (pipe2(ends, O_CLOEXEC) != 0)
        return damaged(d, path, strerror(errno));
    pid_t child = fork();
    if (child == 0)
        run_child(path, variable, file_bytes, ends[1]);
    close(ends[1]);
    bool ok = child > 0 ? receive(a, d, path, ends[0], out) : damaged(d, path, strerror(errno));
    close(ends[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return ok;
}
