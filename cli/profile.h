/* profile.h: where the time of a step goes, launch by launch, beside what this machine could do.
 *
 *   profile_limits.c   the limits: short probes in this process
 *   profile.c          tables and JSON of one program
 *   profile_trace.c    steps as Chrome trace events */
#ifndef DETENT_CLI_PROFILE_H
#define DETENT_CLI_PROFILE_H

#include "cli/cli.h"

/* What memory, the last cache and arithmetic of this machine give to so many threads; 0: not known (a GPU). */
typedef struct Limits {
    double      bytes_per_s, flops_per_s;
    double      cache_bytes_per_s; /* of launches that move no more than cache_bytes */
    int64_t     cache_bytes;
    int         threads;
    const char *vectors; /* that the arithmetic was measured with: "AVX-512" */
} Limits;

/* The probes, some tenths of a second; what was found before stays where it was better, so `out` begins as zeros.
 * `width`: floats in a vector, 0 for the widest there is. False: reported, there is no memory. */
bool limits_measure(Diag *d, int threads, int width, Limits *out) DT_CHECKED;
/* Those of the session's backend; of a GPU nothing is known. False: reported. */
bool limits_of(Session *s, Limits *out) DT_CHECKED;
/* "38.1 GB/s from memory, 120.3 GB/s up to 16.0 MiB (triads), 412 GFLOP/s (f32 FMA, AVX-512), 2 threads" */
const char *limits_text(Arena *a, const Limits *l);

/* A launch and its cost. What a library call moves is its operands and results, each once. */
typedef struct ProfileRow {
    const Launch *launch;
    int32_t       index; /* in the program */
    int64_t       bytes, flops;
    double        seconds;
    double        least; /* seconds at the limits, by bytes or by flops, whichever takes longer; 0: not known */
    const char   *bound; /* which that is: "memory", "cache", "flops"; "-": not known */
} ProfileRow;

typedef struct Profile {
    const char *title; /* "lsq w4a4, training" */
    const char *times; /* what `seconds` are: "the least of 15 rounds each" */
    Limits      limits;
    ProfileRow *rows; /* the longest first */
    int32_t     n;
    double      seconds, least; /* sums */
} Profile;

/* `seconds`: one a launch. */
Profile profile_make(Arena *a, const Program *p, const double *seconds, const Limits *l);
/* Sums by kind of launch, then the `most` longest launches and the others in one row; most 0: all. */
void profile_print(Session *s, const Profile *p, int64_t most);
/* The mean step of all that a program has run, every launch. False: reported. */
bool profile_steps(Session *s, const LoadedProgram *p) DT_CHECKED;
/* All launches, a list. */
void profile_json(Str *out, const Profile *p);

/* A string of JSON, in quotes. */
void json_text(Str *out, const char *text);

/* One step of a program: launches one behind another. */
typedef struct TraceStep {
    const char    *variant, *what; /* "lsq w4a4", "training step": a process and a thread of the viewer */
    const Program *program;
    const double  *seconds; /* one a launch */
} TraceStep;
/* False: reported. */
bool trace_write(Session *s, const char *file, const TraceStep *steps, int32_t n) DT_CHECKED;

#endif
