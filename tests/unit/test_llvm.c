/* test_llvm.c: compiled kernels against the interpreter, bit for bit.
 *
 * Kernels from tests/kernels and from a generator (kernel_generator.h), as llvm_fixture.h runs them. Then the disk
 * cache, shared code, and the dumps. */
#include "tests/unit/kernel_files.h"
#include "tests/unit/llvm_fixture.h"

/* ---- Kernels from files ----------------------------------------------------------------------------------------- */

static void test_kernel_files(void **state)
{
    (void)state;
    Arena    a = arena_new("files");
    int32_t  n;
    Kernel **kernels = kernel_files(&a, &n);
    check_kernels(&a, kernels, n, KERNEL_FILES_MOST);
    arena_free(&a);
}

/* ---- Kernels with a point --------------------------------------------------------------------------------------- */

/* Each text is a corner that generated kernels meet seldom. */
static const char *const corners[] = {
    /* no points at all */
    "kernel @empty { axis i = 0 par vec buf x : f32[4] in buf y : f32[4] out body { %0 = load x[i] store y[i], %0 } }",
    /* nothing to reduce: the total is the identity */
    "kernel @none { axis r = 0 red axis c = 5 par vec buf x : f32[5] in buf y : f32[5] out buf z : f32[5] out reduce "
    "chunks 1 lanes 8 body { %0 = load x[c] %1 = acc.sum %0 %2 = acc.max %0 } final { store y[c], %1 store z[c], %2 } "
    "}",
    /* runs without elements: 5 in runs of 2, 2, 1, 0 */
    "kernel @short { axis r = 5 red vec buf x : f32[5] in buf y : f32[1] out reduce chunks 4 lanes 64 body { %0 = load "
    "x[r] %1 = acc.min %0 } final { store y[0], %1 } }",
    /* clips that do and do not bound; saturation in all directions */
    "kernel @clips { axis i = 333 par vec buf x : f32[333] in buf a : u4[333] out buf b : s4[333] out buf c : u2[333] "
    "out "
    "buf d : s8[333] out buf e : u8[333] out buf f : i32[333] out buf g : u32[333] out body { %0 = load x[i] %1 = "
    "const.f32 15 %2 = const.f32 0 %3 = max %0, %2 %4 = min %3, %1 %5 = rint %4 %6 = cvt.i32 %5 store a[i], %6 %7 = "
    "min "
    "%1, %0 %8 = cvt.i32 %7 store b[i], %8 store c[i], %8 %9 = const.f32 1e9 %10 = mul %0, %9 %11 = cvt.i32 %10 store "
    "d[i], %11 store e[i], %11 store f[i], %11 %12 = cvt.u32 %10 store g[i], %12 } }",
    /* division: every sign, zero, the least number by -1 */
    "kernel @divide { axis i = 300 par vec buf x : i32[300] in buf y : s2[300] in buf u : u32[300] in buf q : i32[300] "
    "out "
    "buf r : i32[300] out buf s : i32[300] out buf t : u32[300] out buf v : i32[300] out body { %0 = load x[i] %1 = "
    "load "
    "y[i] %2 = div %0, %1 store q[i], %2 %3 = rem %0, %1 store r[i], %3 %4 = const.i32 -2147483648 %5 = div %4, %1 "
    "store "
    "s[i], %5 %6 = load u[i] %7 = cvt.u32 %1 %8 = div %6, %7 %9 = rem %6, %7 %10 = xor %8, %9 store t[i], %10 %11 = "
    "const.i32 7 %12 = div %0, %11 %13 = rem %0, %11 %14 = sub %12, %13 store v[i], %14 } }",
    /* more blocks than one along the vec axis, streamed */
    "kernel @blocks { axis p = 2 par axis i = 9001 par vec buf x : f32[18002] in buf y : f32[18002] out stream buf m : "
    "b1[18002] out body { %0 = load x[9001*p + i] %1 = const.f32 0 %2 = gt %0, %1 store m[9001*p + i], %2 %3 = select "
    "%2, %0, %1 store y[9001*p + i], %3 } }",
    /* columns in full blocks and a rest; a shared row */
    "kernel @columns { axis r = 777 red axis c = 136 par vec buf x : f32[105672] in buf w : f32[777] in buf s : "
    "f32[136] out "
    "reduce chunks 4 lanes 1 body { %0 = load x[136*r + c] %1 = load w[r] %2 = mul %0, %1 %3 = acc.sum %2 } final { "
    "store "
    "s[c], %3 } }",
    /* whole runs, then one that is not */
    "kernel @last { axis r = 127 red vec buf x : f32[127] in buf y : f32[1] out reduce chunks 2 lanes 64 body { %0 = "
    "load "
    "x[r] %1 = acc.sum %0 } final { store y[0], %1 } }",
    /* what is loaded was stored just before */
    "kernel @stages { axis p = 50 par buf x : f32[50] in buf t : f32[50] inout buf y : f32[50] out body { %0 = load "
    "x[p] %1 "
    "= load t[p] %2 = add %0, %1 store t[p], %2 %3 = load t[p] %4 = mul %3, %3 store y[p], %4 } }",
    /* bounds that a NaN goes around */
    "kernel @around { axis i = 90 par vec buf x : f32[90] in buf a : u8[90] out buf b : s4[90] out body { %0 = load "
    "x[i] %1 = "
    "abs %0 %2 = const.f32 -5 %3 = max %1, %2 %4 = cvt.i32 %3 store a[i], %4 %5 = neg %1 %6 = const.f32 300 %7 = min "
    "%5, "
    "%6 %8 = cvt.i32 %7 %9 = add %8, %4 store b[i], %9 } }",
    /* packed types by rows that do not end at bytes */
    "kernel @bits { axis p = 37 par axis c = 11 par vec buf x : u2[407] in buf y : u4[407] out buf z : b1[407] out buf "
    "w : "
    "s2[407] inout body { %0 = load x[11*p + c] %1 = load w[11*p + c] %2 = add %0, %1 store y[11*p + c], %2 store "
    "w[11*p + "
    "c], %2 %3 = ne %0, %1 store z[11*p + c], %3 } }",
};

static void test_corners(void **state)
{
    (void)state;
    Arena   a = arena_new("corners");
    Kernel *kernels[DT_COUNT(corners)];
    for (int32_t i = 0; i < DT_COUNT(corners); i++)
        kernels[i] = kernel_of_text(&a, corners[i]);
    check_kernels(&a, kernels, DT_COUNT(corners), 0);
    arena_free(&a);
}

/* ---- Generated kernels ------------------------------------------------------------------------------------------ */

static void test_generated(void **state)
{
    (void)state;
    gen_kernels(120, check_kernels);
}

/* ---- Cache, shared code, dumps ---------------------------------------------------------------------------------- */

static const char *const scale =
    "kernel @scale { axis i = 100 par vec buf x : f32[100] in buf y : f32[100] out body { %0 = "
    "load x[i] %1 = const.f32 3 %2 = mul %0, %1 store y[i], %2 } }";
static const char *const twin =
    "kernel @twin \"another title\" { axis i = 100 par vec buf x : f32[100] in buf y : f32[100] "
    "out body { %0 = load x[i] %1 = const.f32 3 %2 = mul %0, %1 store y[i], %2 } }";

static char *temp_dir(Arena *a)
{
    char *dir = arena_strdup(a, "/tmp/detent-llvm-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

/* Path of the directory's only file with this end; NULL: none. */
static char *find_file(Arena *a, const char *dir, const char *pattern)
{
    DIR  *handle = opendir(dir);
    char *found = NULL;
    assert_non_null(handle);
    for (struct dirent *e; (e = readdir(handle)) != NULL;)
        if (str_glob(pattern, e->d_name))
            found = arena_printf(a, "%s/%s", dir, e->d_name);
    closedir(handle);
    return found;
}

static void remove_dir(Arena *a, const char *dir)
{
    for (char *path; (path = find_file(a, dir, "*[a-z]")) != NULL;)
        assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Compiles `scale` with this cache and runs it. */
static JitStats compile_and_run(Arena *a, const char *dir)
{
    Diag        d = diag_new(stderr);
    Kernel     *k = kernel_of_text(a, scale);
    KernelJit  *j = new_jit(a, &d, (JitOptions){ .cache_dir = dir });
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    float x[128] __attribute__((aligned(64))), y[128] __attribute__((aligned(64)));
    for (int i = 0; i < 100; i++)
        x[i] = (float)i;
    im.run(im.self, (void *[]){ x, y }, NULL, 0, im.units);
    for (int i = 0; i < 100; i++)
        assert_true(y[i] == 3.0f * (float)i);
    JitStats s = jit_stats(j);
    jit_free(j);
    diag_free(&d);
    return s;
}

static void damage(const char *path, long offset, int whence)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, whence), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, offset, whence), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

static void test_cache(void **state)
{
    (void)state;
    Arena a = arena_new("cache");
    char *dir = temp_dir(&a);
    log_set_level(LOG_QUIET);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1);
    char *entry = find_file(&a, dir, "*.o");
    assert_non_null(entry);
    damage(entry, -100, SEEK_END); /* in the code */
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1); /* written again */
    damage(entry, 30, SEEK_SET);                          /* in the key */
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(truncate(entry, 10), 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(truncate(entry, 0), 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 0);
    assert_int_equal(compile_and_run(&a, dir).cached, 1);
    remove_dir(&a, dir);
    log_set_level(LOG_INFO);
    arena_free(&a);
}

static void test_bad_options(void **state)
{
    (void)state;
    Arena a = arena_new("options");
    Diag  d = diag_new(NULL);
    assert_null(jit_llvm_new(&a, &d, (JitOptions){ .cache_dir = "/dev/null/cache" }));
    assert_int_equal(d.errors, 1);
    assert_null(jit_llvm_new(&a, &d, (JitOptions){ .vector_width = 5 }));
    assert_int_equal(d.errors, 2);
    assert_non_null(strstr(d.text.s, "vectors of 5 floats"));
    diag_free(&d);
    arena_free(&a);
}

static void test_shared_code(void **state)
{
    (void)state;
    Arena       a = arena_new("shared");
    Diag        d = diag_new(stderr);
    Kernel     *kernels[3] = { kernel_of_text(&a, scale), kernel_of_text(&a, twin), kernel_of_text(&a, corners[4]) };
    KernelImage images[3], again;
    KernelJit  *jits[2] = { new_jit(&a, &d, (JitOptions){ 0 }), jit_interp_new(&a) };
    for (int i = 0; i < 2; i++) {
        assert_true(jit_compile(jits[i], &d, "test", kernels, 3, images));
        assert_int_equal(jit_stats(jits[i]).kernels, 3);
        assert_int_equal(jit_stats(jits[i]).distinct, 2);
        assert_ptr_equal(images[0].run, images[1].run);
        assert_ptr_equal(images[0].self, images[1].self);
        assert_string_equal(images[1].name, "twin");
        assert_int_equal(images[0].n_bufs, 2);
        assert_int_equal(images[0].bytes, 800);
        assert_true(jit_stats(jits[i]).seconds > 0);
        assert_true(strlen(jit_describe(&a, jits[i])) > 10);
    }
    assert_true(jit_compile(jits[0], &d, "test", &kernels[1], 1, &again));
    assert_int_equal(jit_stats(jits[0]).distinct, 2);
    jit_free(jits[0]);
    jit_free(jits[1]);
    diag_free(&d);
    arena_free(&a);
}

static void test_interpreter_image(void **state)
{
    (void)state;
    Arena       a = arena_new("interp");
    Diag        d = diag_new(stderr);
    Kernel     *k = kernel_of_text(&a, corners[6]);
    KernelJit  *j = jit_interp_new(&a);
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    assert_int_equal(im.units, 1);
    assert_int_equal(im.finish_units, 0);
    check_image(k, &im, 5, 0, "interpreter");
    jit_free(j);
    diag_free(&d);
    arena_free(&a);
}

static void test_dump(void **state)
{
    (void)state;
    Arena       a = arena_new("dump");
    Diag        d = diag_new(stderr);
    char       *dir = temp_dir(&a);
    Kernel     *k = kernel_of_text(&a, scale);
    KernelJit  *j = new_jit(&a, &d, (JitOptions){ .dump_dir = dir });
    KernelImage im;
    assert_true(jit_compile(j, &d, "test", &k, 1, &im));
    static const struct {
        const char *file, *contents;
    } dumps[] = { { "scale.kernel", "kernel @scale" }, { "scale.ll", "fmul <" }, { "scale.s", "mulps" } };
    for (int32_t i = 0; i < DT_COUNT(dumps); i++) {
        char *text = file_read(&a, &d, arena_printf(&a, "%s/%s", dir, dumps[i].file), NULL);
        assert_non_null(text);
        assert_non_null(strstr(text, dumps[i].contents));
    }
    jit_free(j);
    remove_dir(&a, dir);
    diag_free(&d);
    arena_free(&a);
}

/* Sizes without code: what a launch needs is the same, and there is nothing to call. */
static void test_sizes(void **state)
{
    (void)state;
    Arena       a = arena_new("sizes");
    Diag        d = diag_new(stderr);
    Kernel     *k = kernel_of_text(&a, scale);
    KernelJit  *code = new_jit(&a, &d, (JitOptions){ 0 }), *sizes = new_jit(&a, &d, (JitOptions){ .sizes_only = true });
    KernelImage whole, bare;
    assert_true(jit_compile(code, &d, "test", &k, 1, &whole));
    for (int i = 0; i < 2; i++) { /* the second time it is known */
        assert_true(jit_compile(sizes, &d, "test", &k, 1, &bare));
        assert_true(bare.scratch_bytes == whole.scratch_bytes && bare.units == whole.units);
        assert_true(bare.finish_units == whole.finish_units && bare.n_bufs == whole.n_bufs && bare.run == NULL);
    }
    jit_free(code);
    jit_free(sizes);
    diag_free(&d);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_kernel_files),
        cmocka_unit_test(test_corners),     cmocka_unit_test(test_generated),
        cmocka_unit_test(test_cache),       cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_shared_code), cmocka_unit_test(test_interpreter_image),
        cmocka_unit_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
