/* memory.h: what a training run takes, and how it is made to take less (--memory). Shared by `detent plan`, which says
 * it, and by training, which keeps to it. */
#ifndef DETENT_CLI_MEMORY_H
#define DETENT_CLI_MEMORY_H

#include "cli/cli.h"

enum { MEMORY_MOST_BATCH = 65536 };

/* What the programs of a run take. Not `total`: as planned; total: as it is allocated, in whole pages, with staging
 * buffers. */
typedef struct RunMemory {
    int64_t        arena[ARENA_COUNT]; /* io: of all programs */
    int64_t        saved;              /* of the first train program's values: those that backward reads */
    int64_t        total;
    int64_t        values_left; /* bytes of values inside a step that `room` leaves beside all else; may be negative */
    int32_t        programs;
    Rematerialized again; /* in the first train program */
} RunMemory;

/* A process of the host, beside its programs: what it takes whatever the batch. All 0 where the memory is a GPU's. */
typedef struct MemoryBeside {
    int64_t program, data;
} MemoryBeside;

/* A session like this one whose programs say what they need and are not run; gpu NULL: it opens its own, if any. False:
 * reported; it is closed by session_close() all the same. */
bool memory_session(Session *out, Session *like, Gpu *gpu) DT_CHECKED;
/* The programs of a run of such a session with that batch, in memory of their own; `peak` NULL: not wanted. False: said
 * to `say`. */
bool memory_of_run(Session *like, FILE *say, int64_t batch, int64_t room, RunMemory *out, PeakValue *peak) DT_CHECKED;
/* Bytes of the sets that lie in memory as they are. 0: another set, whose size nobody knows here. */
int64_t memory_data(const char *dataset);
/* Measures this process once all programs of the run are made. 0: it was reported. `run`: of such a session. */
int64_t memory_program(Session *s, const RunMemory *run, const char *cache);
/* Bytes of the batches that loaders have on their way. */
int64_t memory_batches(Session *s, int64_t batch);

/* The largest batch below `end` that takes at most `room`, where one of `batch` takes `bytes`; 0: none. `bytes_of`:
 * INT64_MAX where it does not compile. */
int64_t memory_largest(int64_t (*bytes_of)(void *user, int64_t batch), void *user, int64_t batch, int64_t bytes,
                       int64_t room, int64_t end);
/* The largest batch of a run for a process (or GPU) of `room` bytes, and what is made again for it; 0: none. `again`
 * NULL: nothing may be. `s`: of memory_session(), `at`: what opt.batch takes. */
int64_t memory_largest_run(Session *s, const RunMemory *at, int64_t room, const MemoryBeside *beside,
                           Rematerialized *again);

#endif
