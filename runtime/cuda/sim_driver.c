/* sim_driver.c: the simulated GPU: memory is the host's, kernels are run as text (runtime/sim/sim.h), which checks
 * every access. What the simulator finds is reported; the launch then fails as on a GPU.
 *
 * Tested by tests/unit/test_gpu_launch.c. */
#include "runtime/cuda/fake.h"
#include "runtime/sim/sim.h"

#include <string.h>

static CuResult sim_module_load(FakeObject *module)
{
    if (strncmp(module->text, "\177ELF", 4) == 0)
        return CU_NO_BINARY_FOR_GPU; /* it takes text */
    module->code = sim_module_new(&module->arena, fake.d, module->text);
    return module->code ? CU_SUCCESS : CU_INVALID_IMAGE;
}

static CuResult sim_module_function(const FakeObject *module, FakeObject *function)
{
    function->kernel = sim_find(module->code, function->text);
    if (function->kernel < 0)
        return CU_NOT_FOUND;
    function->params = sim_params(module->code, function->kernel);
    return CU_SUCCESS;
}

static CuResult sim_launch(const FakeOp *op)
{
    Arena   a = arena_new("launch");
    SimArg *args = ARENA_ARRAY(&a, SimArg, op->n_args + 1);
    for (int32_t i = 0; i < op->n_args; i++) {
        int64_t bytes = op->args[i].bytes;
        if (bytes < 0) {
            const FakeBlock *b = fake_block(op->args[i].at, 1, "%s, buffer %d", op->name, i);
            bytes = b ? (int64_t)(b->bytes - (op->args[i].at - b->at)) : 0;
        }
        args[i] = (SimArg){ (void *)(uintptr_t)op->args[i].at, bytes, op->args[i].writable };
    }
    SimLaunch l = { .kernel = op->object->kernel,
                    .grid = op->grid,
                    .block = (int32_t)op->block,
                    .args = args,
                    .n_args = op->n_args,
                    .seed = fake.seed };
    bool      done = sim_run(op->object->module->code, fake.d, &l);
    arena_free(&a);
    if (!done) {
        fake.counts.faults++;
        diag_note(fake.d, LOC_NONE, "in launch %s", op->name);
    }
    return done ? CU_SUCCESS : CU_LAUNCH_FAILED;
}

static const FakeKind sim_kind = { .name = "simulated GPU",
                                   .has_memory = true,
                                   .runs_host = true,
                                   .module_load = sim_module_load,
                                   .module_function = sim_module_function,
                                   .launch = sim_launch };

const CudaDriver     *cuda_driver_sim(Arena *a, Diag *d, int64_t memory)
{
    return fake_open(a, d, memory, &sim_kind);
}
