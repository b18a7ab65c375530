/* net_fixture.h: whole networks of models/ compiled for any target and run by the interpreter and plain loops, with all
 * their numbers drawn from a seed by name, so that two of them can be compared tensor by tensor. */
#ifndef DETENT_TESTS_NET_FIXTURE_H
#define DETENT_TESTS_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/codegen.h"
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "runtime/runtime.h"

typedef struct NetSetup {
    const char *model;
    StepKind    step;
    const char *bits;     /* "w4a4"; NULL: float */
    const char *method;   /* NULL: LSQ */
    const char *settings; /* separated by blanks; NULL: none */
    Target      target;
    bool        int8_forward;
    int64_t     batch;
    int64_t     most_values; /* bytes inside the step; 0: any number */
} NetSetup;

typedef struct Net {
    Arena          a;
    Diag           d;
    NetSetup       setup;
    Graph         *g;
    KernelJit     *jit;
    CallLib       *lib;     /* NULL: plain loops */
    int            threads; /* 0: 2 */
    Program       *program;
    LoadedProgram  prog;
    Rematerialized again; /* what most_values led to */
} Net;

static inline Target net_target(Layout weights)
{
    return (Target){ .name = weights == LAYOUT_NHWC ? "gpu" : "cpu",
                     .image_layout = LAYOUT_NHWC,
                     .weight_layout = weights,
                     .align_bytes = 64 };
}

/* The passes that the flags name; NULL: all of them. */
static inline void net_passes(Net *n, const char *passes)
{
    const char     *method = n->setup.method ? n->setup.method : "lsq";
    Recipe          recipe = { .method = n->setup.bits ? method : "float", .edge_bits = 8 };
    OptimizerConfig sgd = { .momentum = 0.9, .weight_decay = 1e-4 };
    PassOptions     opt;
    StrList         rest = { 0 };
    Arena           scratch = arena_new("pass");
    char           *argv[3] = { arena_strdup(&n->a, "--verify=all"), arena_strdup(&n->a, "--verify-changed"), NULL };
    if (passes)
        argv[2] = arena_printf(&n->a, "--passes=%s", passes);
    assert_true(opts_parse(&n->a, &n->d, pass_option_defs, pass_n_option_defs, passes ? 3 : 2, argv, &opt, &rest));
    assert_true(!n->setup.bits || recipe_parse_bits(&recipe, &n->d, "bits", n->setup.bits));
    char *words = arena_strdup(&n->a, n->setup.settings ? n->setup.settings : ""), *save = NULL;
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        assert_true(recipe_set(&n->a, &recipe, &n->d, LOC_NONE, "set", w));
    PassCtx c = { .scratch = &scratch,
                  .d = &n->d,
                  .step = n->setup.step,
                  .recipe = &recipe,
                  .optimizer = &sgd,
                  .target = &n->setup.target,
                  .int8_forward = n->setup.int8_forward,
                  .memory_values = n->setup.most_values,
                  .keep = &n->a };
    bool    ok = passes_run(&c, n->g, &opt, stderr, NULL);
    arena_free(&scratch);
    n->again = c.again;
    assert_true(ok);
}

/* The graph of the network's step, untouched. */
static inline Net *net_graph(const NetSetup *setup)
{
    Net *n = calloc(1, sizeof *n);
    n->a = arena_new("net");
    n->d = diag_new(stderr);
    n->setup = *setup;
    const DtModel *model = frontend_find(&n->a, &n->d, setup->model);
    assert_non_null(model);
    n->g = frontend_build(&n->a, &n->d, model, setup->batch, setup->step);
    assert_non_null(n->g);
    return n;
}

/* The program of the lowered graph, by the interpreter unless n->jit says otherwise; n->prog.exec is NULL until
 * net_load.
 */
static inline void net_compile(Net *n)
{
    if (!n->jit)
        n->jit = jit_interp_new(&n->a);
    if (!n->lib)
        n->lib = calllib_reference(&n->a);
    n->program = codegen_program(&n->a, &n->d, n->g, n->jit, n->lib);
    assert_non_null(n->program);
    n->prog.program = n->program;
}

static inline Net *net_new(const NetSetup *setup)
{
    Net *n = net_graph(setup);
    net_passes(n, NULL);
    net_compile(n);
    return n;
}

static inline void net_free(Net *n)
{
    if (n->prog.exec)
        exec_free(n->prog.exec);
    jit_free(n->jit);
    diag_free(&n->d);
    arena_free(&n->a);
    free(n);
}

static inline const ProgTensor *net_tensor(const Net *n, const char *name)
{
    const ProgTensor *t = program_tensor(n->prog.program, name);
    if (!t)
        fail_msg("%s has no tensor %s", n->prog.program->name, name);
    return t;
}

static inline void *net_read(Net *n, const char *name)
{
    const ProgTensor *t = net_tensor(n, name);
    void             *out = arena_alloc(&n->a, (size_t)t->bytes + 4);
    tensor_read(n->prog.exec, n->prog.index, t, out);
    return out;
}

static inline bool net_ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

/* What the host gives, and state that a fresh run has not: velocities, running statistics, step sizes that make codes
 * of all values. */
static inline void net_fill(Net *n, const ProgTensor *t)
{
    uint32_t  name = hash_u32(t->name);
    uint32_t *bits = ARENA_ARRAY(&n->a, uint32_t, t->elems);
    float    *x = (float *)bits;
    bool      velocity = net_ends_with(t->name, ".velocity");
    bool      offset = net_ends_with(t->name, ".offset");
    if (t->kind == TENSOR_OUTPUT || (t->kind == TENSOR_PARAM && !net_ends_with(t->name, ".step") && !offset))
        return;
    for (int64_t i = 0; i < t->elems; i++) {
        uint32_t draw = rng_u32(7, name, 0, (uint64_t)i);
        float    u = (float)(draw >> 8) * 0x1p-24f;
        if (t->dtype != DTYPE_F32)
            bits[i] = draw % 10;
        else if (velocity)
            x[i] = (u - 0.5f) * 1e-2f;
        else if (net_ends_with(t->name, ".step"))
            x[i] = strstr(t->name, "weight") ? 0.02f + 0.02f * u : 0.1f + 0.1f * u;
        else if (net_ends_with(t->name, ".min") || offset)
            x[i] = -0.5f - u;
        else if (str_eq(t->name, "lr"))
            x[i] = 0.1f;
        else if (t->kind == TENSOR_INPUT)
            x[i] = 4 * u - 2;
        else
            x[i] = strstr(t->name, "mean") ? u - 0.5f : 0.5f + u;
    }
    tensor_write(n->prog.exec, n->prog.index, t, bits);
}

/* Memory, the seed's weights, and numbers for everything else. */
static inline void net_load(Net *n)
{
    n->prog.exec = exec_new(&n->a, &n->d, n->lib, (ExecOptions){ .threads = n->threads ? n->threads : 2 });
    assert_non_null(n->prog.exec);
    n->prog.index = exec_add(n->prog.exec, n->program);
    assert_true(n->prog.index >= 0);
    assert_true(program_init(&n->d, n->prog, 3));
    for (int32_t i = 0; i < n->prog.program->n_tensors; i++)
        net_fill(n, &n->prog.program->tensors[i]);
}

static inline void net_run(Net *n)
{
    exec_run(n->prog.exec, n->prog.index);
}

#endif
