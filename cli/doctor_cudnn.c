/* doctor_cudnn.c: which cuDNN there is. A file of its own: the inner header of runtime/cudnn gives names to the
 * library's numbers that the IR, which most of cli/ includes, uses for others.
 *
 * Tested by tests/unit/test_doctor.c. */
#include "cli/doctor.h"

#include "runtime/cudnn/cudnn_impl.h"

const char *doctor_cudnn(Arena *a, Diag *d)
{
    const CudnnApi *api = cudnn_api_load(a, d);
    if (!api)
        return NULL;
    size_t v = api->version(); /* 91900: 9.19.0 */
    return arena_printf(a, "%zu.%zu.%zu, %s", v / 10000, v / 100 % 100, v % 100, api->path);
}
