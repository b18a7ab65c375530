/* batchnorm.h: what passes that change batch norms know of them (freeze_batchnorm.c has the functions): in which states
 * the running statistics lie, and which convolutions serve statistics alone.
 *
 * Tested by tests/unit/test_fold.c. */
#ifndef DETENT_PASSES_BATCHNORM_H
#define DETENT_PASSES_BATCHNORM_H

#include "passes/pass_impl.h"

/* batchnorm's inputs. */
enum { NORM_X, NORM_MEAN, NORM_VAR, NORM_GAMMA, NORM_BETA };

/* The state that follows this mean or variance: the value itself when it is a state, what is assigned to from it, or
 * (the init step assigns nothing) the one named beside its shift: "bn1.running_var" beside "bn1.running_mean".
 * VALUE_NONE: none is known. */
ValueId batchnorm_running(Arena *a, const Graph *g, const Uses *u, ValueId stat);

/* A convolution that nobody but bn_mean and bn_var reads: the second one of fold=two. */
bool batchnorm_only_statistics(const Graph *g, const Uses *u, ValueId id);

#endif
