/* fake_launch.c: modules, functions and launches of the fake GPU, and what is told of each launch before it.
 *
 * A kernel's parameters are addresses and nothing more. Their bounds come from watch(): the launch's buffers first,
 * then scratch memory and tickets. Where nothing was told, a parameter may touch the rest of its allocation.
 *
 * Tested by tests/unit/test_gpu_launch.c. */
#include "runtime/cuda/fake.h"

#include <string.h>

enum { MOST_THREADS = 1024 };

/* ---- Modules ---- */

CuResult fake_module_load(CuHandle *module, const void *image)
{
    CuResult status = fake_ready();
    if (!status)
        status = fake_uncaptured();
    if (status)
        return status;
    FakeObject *m = fake_object_new(FAKE_MODULE);
    m->text = image;
    if ((status = fake.kind->module_load(m)) == CU_SUCCESS)
        *module = m->handle;
    else
        fake_object_free(m);
    return status;
}

CuResult fake_module_free(CuHandle module)
{
    FakeObject *m = fake_object(module, FAKE_MODULE);
    if (!m)
        return fake_wrong(CU_INVALID_HANDLE, "cuModuleUnload: the module was freed before, or is none");
    fake_flush();
    for (int32_t i = 0; i < fake.objects.len; i++)
        if (fake.objects.at[i]->sort == FAKE_FUNCTION && fake.objects.at[i]->module == m)
            fake_object_free(fake.objects.at[i]);
    fake_object_free(m);
    return CU_SUCCESS;
}

CuResult fake_module_function(CuHandle *function, CuHandle module, const char *name)
{
    CuResult    status = fake_ready();
    FakeObject *m = fake_object(module, FAKE_MODULE);
    if (status || !m)
        return status ? status : fake_wrong(CU_INVALID_HANDLE, "cuModuleGetFunction: no such module");
    FakeObject *f = fake_object_new(FAKE_FUNCTION);
    f->module = m;
    f->text = arena_strdup(&f->arena, name);
    if ((status = fake.kind->module_function(m, f)) == CU_SUCCESS)
        *function = f->handle;
    else
        fake_object_free(f);
    return status;
}

CuResult fake_function_attribute(int *value, int attribute, CuHandle function)
{
    enum { THREADS = 0, LAST = 15 };
    *value = attribute == THREADS ? MOST_THREADS : 0;
    return fake_object(function, FAKE_FUNCTION) && attribute >= 0 && attribute <= LAST ? CU_SUCCESS : CU_INVALID_VALUE;
}

/* ---- Launches ---- */

void fake_watch(const Launch *l, const CuPtr *at)
{
    arena_reset(&fake.told);
    fake.watched = l;
    fake.watched_at = arena_copy(&fake.told, at, sizeof *at * (size_t)l->n_bufs);
}

/* The bounds of buffer i of the launch that was told of. */
static FakeArg told_buffer(const Launch *l, int32_t i)
{
    FakeArg arg = { .at = fake.watched_at[i], .bytes = -1, .writable = true };
    if (l->uses) {
        arg.bytes = l->uses[i].bytes;
        arg.writable = l->uses[i].access & ACCESS_WRITE;
    }
    return arg;
}

static const char *launch_name(const Launch *l, const char *otherwise)
{
    return l && l->name ? l->name : otherwise;
}

/* From addresses to what each may touch. */
static CuResult args_of(const FakeObject *f, const Launch *l, void **params, FakeOp *op)
{
    int32_t bufs = l ? l->n_bufs : 0, more = l && l->scratch_bytes > 0 ? 2 : 0;
    int32_t n = f->params >= 0 ? f->params : bufs + more;
    if (l && n != bufs + more)
        return fake_wrong(CU_INVALID_VALUE, "%s: %s takes %d parameters; the launch has %d buffers%s", op->name,
                          f->text, n, bufs, more ? ", scratch memory and tickets" : "");
    FakeArg *args = ARENA_ARRAY(&fake.told, FakeArg, n + 1);
    for (int32_t i = 0; i < n; i++) {
        CuPtr at;
        memcpy(&at, params[i], sizeof at);
        args[i] = i < bufs ? told_buffer(l, i) : (FakeArg){ .at = at, .bytes = -1, .writable = true };
        if (l && i == bufs)
            args[i].bytes = l->scratch_bytes;
        if (args[i].at != at)
            return fake_wrong(CU_INVALID_VALUE, "%s, buffer %d: lies at %#llx, but the parameter is %#llx", op->name, i,
                              (unsigned long long)args[i].at, (unsigned long long)at);
    }
    op->args = args;
    op->n_args = n;
    return CU_SUCCESS;
}

CuResult fake_launch(CuHandle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                     unsigned shared, CuHandle stream, void **params, void **extra)
{
    CuResult      status = fake_ready();
    FakeObject   *f = fake_object(function, FAKE_FUNCTION);
    const Launch *l = fake.watched;
    fake.watched = NULL;
    if (!l)
        arena_reset(&fake.told);
    if (status || !f)
        return status ? status
                      : fake_wrong(CU_INVALID_HANDLE, "cuLaunchKernel: no such function, or its module was "
                                                      "unloaded");
    FakeOp op = { .kind = FAKE_KERNEL, .name = launch_name(l, f->text), .object = f, .grid = gx, .block = bx };
    if (gx == 0 || gx > INT32_MAX || gy != 1 || gz != 1 || bx == 0 || bx > MOST_THREADS || by != 1 || bz != 1 ||
        shared != 0 || extra)
        return fake_wrong(CU_INVALID_VALUE,
                          "%s: a grid of %u x %u x %u blocks of %u x %u x %u threads, %u bytes of "
                          "dynamic shared memory cannot be launched",
                          op.name, gx, gy, gz, bx, by, bz, shared);
    status = args_of(f, l, params, &op);
    return status ? status : fake_issue(stream, op);
}

CuResult fake_launch_host(CuHandle stream, CuHostFn fn, void *user)
{
    const Launch *l = fake.watched;
    FakeOp        op = { .kind = FAKE_HOST, .name = launch_name(l, "function of the host"), .fn = fn, .user = user };
    fake.watched = NULL;
    if (l) {
        FakeArg *args = ARENA_ARRAY(&fake.told, FakeArg, l->n_bufs + 1);
        for (int32_t i = 0; i < l->n_bufs; i++)
            args[i] = told_buffer(l, i);
        op.args = args;
        op.n_args = l->n_bufs;
    }
    return fake_issue(stream, op);
}
