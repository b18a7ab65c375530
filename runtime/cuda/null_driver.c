/* null_driver.c: the null GPU: everything but the work. A launch is checked - its function is in the module, each of
 * its buffers lies in live memory - and counted; nothing is computed, functions of the host are not run, and what is
 * copied back to the host is zeros. Memory is addresses alone, so it can have as much as one likes: what a host costs,
 * and whether a plan fits some GPU, shows without one.
 *
 * Tested by tests/unit/test_gpu_launch.c. */
#include "runtime/cuda/fake.h"

#include <string.h>

static CuResult null_module_load(FakeObject *module)
{
    bool binary = strncmp(module->text, "\177ELF", 4) == 0;
    module->code = binary ? NULL : arena_strdup(&module->arena, module->text);
    return CU_SUCCESS;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Text that has "NAME(" in it has the function; a binary is believed. */
static CuResult null_module_function(const FakeObject *module, FakeObject *function)
{
    const char *text = module->code;
    size_t      len = strlen(function->text);
    function->params = -1;
    if (!text)
        return CU_SUCCESS;
    for (const char *at = strstr(text, function->text); at; at = strstr(at + 1, function->text))
        if ((at == text || !is_name_char(at[-1])) && at[len] == '(')
            return CU_SUCCESS;
    return CU_NOT_FOUND;
}

static CuResult null_launch(const FakeOp *op)
{
    (void)op;
    return CU_SUCCESS;
}

static const FakeKind null_kind = {
    .name = "null GPU", .module_load = null_module_load, .module_function = null_module_function, .launch = null_launch
};

const CudaDriver *cuda_driver_null(Arena *a, Diag *d, int64_t memory)
{
    return fake_open(a, d, memory, &null_kind);
}
