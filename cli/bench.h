/* bench.h: what bench.c (steps) and bench_kernels.c (kernels) share. */
#ifndef DETENT_CLI_BENCH_H
#define DETENT_CLI_BENCH_H

#include "cli/cli.h"

double bench_median(Arena *a, const double *x, int64_t n);
double bench_min(const double *x, int64_t n);
/* The table of --kernels for a program that was made with profiling on; `g` is its lowered graph. */
int bench_kernels(Session *s, const LoadedProgram *p, const Graph *g);

#endif
