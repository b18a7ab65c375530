/* sim_fixture.h: CUDA text run by the simulator, for test_sim.c, test_sim_memory.c and test_sim_faults.c. A kernel
 * under test is called `k` and takes what the test hands over. */
#ifndef DETENT_TESTS_SIM_FIXTURE_H
#define DETENT_TESTS_SIM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sim/sim.h"

typedef struct Bed {
    Arena a;
    Diag  d; /* silent */
} Bed;

static inline Bed bed_new(void)
{
    return (Bed){ .a = arena_new("test"), .d = diag_new(NULL) };
}

static inline void bed_free(Bed *b)
{
    diag_free(&b->d);
    arena_free(&b->a);
}

static inline const char *bed_said(const Bed *b)
{
    return b->d.text.s ? b->d.text.s : "";
}

/* The text must be right. */
static inline SimModule *bed_read(Bed *b, const char *source)
{
    SimModule *m = sim_module_new(&b->a, &b->d, source);
    if (!m)
        fail_msg("%s\n%s", bed_said(b), source);
    return m;
}

static inline bool bed_launch(Bed *b, SimModule *m, int64_t grid, int32_t block, const SimArg *args, int32_t n,
                              uint64_t seed)
{
    SimLaunch l = { sim_find(m, "k"), grid, block, args, n, seed };
    assert_true(l.kernel >= 0);
    return sim_run(m, &b->d, &l);
}

/* Text and launch must be right. */
static inline void bed_run(Bed *b, const char *source, int64_t grid, int32_t block, const SimArg *args, int32_t n)
{
    SimModule *m = bed_read(b, source);
    if (!bed_launch(b, m, grid, block, args, n, 0))
        fail_msg("%s\n%s", bed_said(b), source);
}

/* 16-byte aligned memory. */
static inline void *bed_memory(Bed *b, int64_t bytes)
{
    return arena_alloc(&b->a, (size_t)bytes);
}

static inline uint32_t sim_draw(uint32_t i)
{
    return rng_u32(3, 4, 5, i);
}

#define SOURCE(...) #__VA_ARGS__ /* a text without directives, as one line */
#define SIM_IN(at) { (at), sizeof(at), false }
#define SIM_OUT(at) { (at), sizeof(at), true }
#define KERNEL "extern \"C\" __global__ void __launch_bounds__(1024) k"

#endif
