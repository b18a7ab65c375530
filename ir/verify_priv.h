/* verify_priv.h: what verify.c and verify_plan.c share. */
#ifndef DETENT_IR_VERIFY_PRIV_H
#define DETENT_IR_VERIFY_PRIV_H

#include "ir/ops_impl.h"

typedef struct Check {
    const Graph *g;
    Diag        *d;
    Phase        phase;
    Arena        scratch;
    int32_t      failures;
    int32_t     *position; /* of each value in the order, -1: not in it */
    bool        *seen;     /* met so far in the order */
    bool        *bad;      /* reported: what reads it is not */
    StrMap       leaves, outputs;
} Check;

/* Reports "verify: rule: ..." at the line of a value (VALUE_NONE: no line). Always false. */
bool verify_fail(Check *c, ValueId at, const char *rule, const char *fmt, ...) DT_PRINTF(4, 5);
/* After verify_fail: where another value was made. */
void        verify_note(Check *c, ValueId id);
const char *verify_show(Check *c, ValueId id);
bool        verify_needs_group(const Graph *g, ValueId id); /* is it work that a launch does? */

/* PHASE_PLANNED: the rules about memory. */
void verify_plan(Check *c);

#endif
