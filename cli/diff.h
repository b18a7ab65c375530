/* diff.h: what the comparison of checkpoints and of backends share. */
#ifndef DETENT_CLI_DIFF_H
#define DETENT_CLI_DIFF_H

#include "cli/cli.h"

/* What two tensors of one name, shape and type differ in. */
typedef struct DiffCount {
    int64_t elems;    /* whose bits differ */
    int64_t odd[2];   /* elements that are not finite, in A and in B */
    double  largest;  /* |a - b|, where both are finite */
    double  most;     /* |a| there */
    double  sum, err; /* of a^2 and of (a - b)^2 */
} DiffCount;
DiffCount   diff_count(const StTensor *a, const StTensor *b);
double      diff_sqnr(const DiffCount *c);                  /* in dB; infinite: no error */
const char *diff_shape(Arena *a, const StTensor *t);        /* "64x3x3x3", "scalar" */
int         diff_backends(Session *s, const StrList *rest); /* the exit code */

#endif
