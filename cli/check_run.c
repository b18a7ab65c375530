/* check_run.c: compiles a graph on the side and runs it: the same passes, code generation and execution as a session,
 * but any graph, any pipeline, and numbers by name.
 *
 * Tested through everything that uses it: tests/unit/test_matrix.c, tests/unit/test_fuzz_passes.c. */
#include "cli/check.h"

#include "runtime/integer/integer.h"

static const Recipe          check_float = { .method = "float" };
static const OptimizerConfig check_sgd = { .momentum = 0.9 };

bool                         check_backend_open(CheckBackend *b, Arena *a, Diag *d, bool cpu, int threads, int width)
{
    *b = (CheckBackend){ .arena = a, .d = d, .threads = threads };
    b->jit = cpu ? jit_llvm_new(a, d, (JitOptions){ .vector_width = width }) : jit_interp_new(a);
    b->lib = cpu ? calllib_cpu(a, d, threads, isa_best()) : calllib_reference(a);
    return b->jit != NULL && b->lib != NULL;
}

bool check_backend_open_sim(CheckBackend *b, Arena *a, Diag *d)
{
    *b = (CheckBackend){ .arena = a, .d = d, .threads = 1 };
    b->gpu = gpu_open(a, d, cuda_driver_sim(a, d, 0), 0);
    if (b->gpu == NULL)
        return false;
    b->jit = jit_cuda_new(a, d, (CudaJitOptions){ .sm = 0 });
    b->lib = calllib_gpu_reference(a, b->gpu);
    return b->jit != NULL && b->lib != NULL;
}

void check_backend_close(CheckBackend *b)
{
    if (b->lib != NULL)
        b->lib->release(b->lib->self);
    if (b->jit != NULL)
        jit_free(b->jit);
    if (b->gpu != NULL)
        gpu_close(b->gpu);
    *b = (CheckBackend){ 0 };
}

static bool check_options(Arena *a, Diag *d, const CheckSetup *setup, PassOptions *out)
{
    char   *argv[2];
    int     argc = 0;
    StrList rest = { 0 };
    if (setup->passes != NULL)
        argv[argc++] = arena_printf(a, "--passes=%s", setup->passes);
    if (setup->disable != NULL)
        argv[argc++] = arena_printf(a, "--disable-pass=%s", setup->disable);
    return opts_parse(a, d, pass_option_defs, pass_n_option_defs, argc, argv, out, &rest);
}

static bool check_passes(CheckBackend *b, Graph *g, const CheckSetup *setup)
{
    PassOptions opt;
    Arena       scratch = arena_new("check passes");
    PassCtx     c = {
            .scratch = &scratch,
            .d = b->d,
            .memory_values = setup->most_values,
            .step = setup->step,
            .recipe = setup->recipe != NULL ? setup->recipe : &check_float,
            .optimizer = setup->optimizer != NULL ? setup->optimizer : &check_sgd,
            .target = cli_target(b->gpu != NULL ? "sim" : "cpu"),
            .keep = b->arena,
    };
    bool ok = check_options(b->arena, b->d, setup, &opt) && passes_run(&c, g, &opt, stdout, NULL);
    arena_free(&scratch);
    return ok;
}

bool check_net_open(CheckNet *n, CheckBackend *b, Graph *g, const CheckSetup *setup)
{
    *n = (CheckNet){ .g = g };
    if (!check_passes(b, g, setup))
        return false;
    Program *p = codegen_program(b->arena, b->d, g, b->jit, b->lib);
    if (p == NULL)
        return false;
    ExecOptions opt = { .threads = b->threads };
    n->exec =
        b->gpu != NULL ? exec_new_gpu(b->arena, b->d, b->gpu, b->lib, opt) : exec_new(b->arena, b->d, b->lib, opt);
    if (n->exec == NULL)
        return false;
    int32_t index = exec_add(n->exec, p);
    n->prog = (LoadedProgram){ n->exec, p, index };
    if (index < 0)
        check_net_close(n);
    return index >= 0;
}

void check_net_close(CheckNet *n)
{
    if (n->exec != NULL)
        exec_free(n->exec);
    n->exec = NULL;
}

void check_net_run(CheckNet *n)
{
    bool done = exec_run(n->exec, n->prog.index);
    DT_ASSERT(done, "program %s did not run", n->prog.program->name); /* neither on the host nor on its simulated GPU */
}

static const ProgTensor *check_net_tensor(const CheckNet *n, const char *name)
{
    const ProgTensor *t = program_tensor(n->prog.program, name);
    DT_ASSERT(t != NULL, "program %s has no tensor %s", n->prog.program->name, name);
    return t;
}

int64_t check_net_elems(const CheckNet *n, const char *tensor)
{
    return check_net_tensor(n, tensor)->elems;
}

void check_net_write(CheckNet *n, const char *tensor, const double *values)
{
    const ProgTensor *t = check_net_tensor(n, tensor);
    Arena             a = arena_new("check write");
    void             *raw = arena_alloc(&a, (size_t)t->bytes);
    for (int64_t i = 0; i < t->elems; i++)
        elem_set(t->dtype, raw, i, values[i]);
    tensor_write(n->exec, n->prog.index, t, raw);
    arena_free(&a);
}

double *check_net_read(Arena *a, CheckNet *n, const char *tensor)
{
    const ProgTensor *t = check_net_tensor(n, tensor);
    void             *raw = arena_alloc(a, (size_t)t->bytes);
    double           *out = ARENA_ARRAY(a, double, t->elems);
    tensor_read(n->exec, n->prog.index, t, raw);
    for (int64_t i = 0; i < t->elems; i++)
        out[i] = elem_get(t->dtype, raw, i);
    return out;
}
