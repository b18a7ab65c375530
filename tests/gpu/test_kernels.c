/* test_kernels.c: kernels on the GPU against the interpreter, bit for bit: those of tests/kernels and random ones
 * (tests/unit/kernel_generator.h), with ordinary and with special numbers. Those of the networks are compared by
 * `detent check`, in test_check.py.
 *
 * Each kernel is a program of one launch: text, compiler, module, copies and launch are what training uses. */
#include "tests/gpu/gpu_backend.h"

#include "tests/unit/kernel_files.h"
#include "tests/unit/kernel_generator.h"

/* Integers over all of their range, but for 32-bit ones below `most` (0: any). */
static KernelData *data_of(Arena *a, const Kernel *k, int64_t most)
{
    KernelData *data = ARENA_ARRAY(a, KernelData, k->bufs.len + 1);
    for (int32_t i = 0; i < k->bufs.len; i++) {
        DType t = k->bufs.at[i].dtype;
        if (dtype_is_float(t))
            continue;
        data[i] = (KernelData){ dtype_min(t), dtype_max(t) };
        if (dtype_bits(t) == 32 && most > 0)
            data[i] = (KernelData){ 0, most - 1 };
    }
    return data;
}

static void check(GpuTest *t, Kernel *k, int64_t most)
{
    Arena a = arena_new("kernel");
    assert_true(kernel_verify(k, &t->d));
    for (int special = 0; special < 2; special++) {
        KernelCase c = { .kernel = k, .data = data_of(&a, k, most), .special = special, .seed = (uint64_t)special + 1 };
        KernelResult r;
        assert_true(check_kernel_gpu(&a, &t->d, &c, t->jit, t->gpu, t->lib, &r));
        if (r.ok)
            continue;
        Str text = str_new(&a);
        kernel_print(&text, k);
        fail_msg("%s\n%s numbers: %s", text.s, special ? "special" : "ordinary", r.where);
    }
    arena_free(&a);
}

static void test_kernel_files(void **state)
{
    Arena    a = arena_new("files");
    int32_t  n;
    Kernel **kernels = kernel_files(&a, &n);
    for (int32_t i = 0; i < n; i++)
        check(*state, kernels[i], KERNEL_FILES_MOST);
    arena_free(&a);
}

static void test_random_kernels(void **state)
{
    GpuTest *t = *state;
    int64_t  seed = gpu_env("DT_SEED", 1000, 1000), n = gpu_env("DT_KERNELS", 200, 12);
    for (int64_t i = 0; i < n; i++) {
        Arena a = arena_new("generated");
        check(t, gen_kernel(&a, (uint64_t)(seed + i)), 0);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_files),
        cmocka_unit_test(test_random_kernels),
    };
    return gpu_there() ? cmocka_run_group_tests(tests, gpu_open_all, gpu_close_all) : SKIPPED;
}
