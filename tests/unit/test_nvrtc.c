/* test_nvrtc.c: NVRTC as Detent calls it: loaded or missing, its failures one by one, the cache, the dumps, and what a
 * cubin says of its kernels against what the assembler says. One kernel as a program, on the interpreter.
 *
 * Where NVRTC is not installed, tests that need it say so and are skipped. The networks' kernels are compiled by
 * test_nvrtc_nets.c. */
#include "tests/unit/runtime_fixture.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "codegen/nvrtc/nvrtc.h"

/* ---- What tests begin with --------------------------------------------------------------------------------------- */

/* NULL: not installed; then the test is to be skipped. */
static const Nvrtc *load_or_say(Fixture *f)
{
    Diag         quiet = diag_new(NULL);
    const Nvrtc *t = nvrtc_load(&f->arena, &quiet);
    if (!t)
        print_message("skipped: %s", quiet.text.s);
    diag_free(&quiet);
    return t;
}

#define NEED_NVRTC(f, t)                                                                                               \
    const Nvrtc *t = load_or_say(f);                                                                                   \
    if (!t)                                                                                                            \
    skip()

static Kernel *read_kernel(Fixture *f, const char *name)
{
    size_t      pos = 0;
    const char *path = arena_printf(&f->arena, "%s/tests/kernels/%s.kernel", DT_SOURCE_DIR, name);
    const char *text = (const char *)read_bytes(f, path, NULL);
    Kernel     *k = kernel_parse(&f->arena, &f->diag, path, text, &pos);
    assert_non_null(k);
    assert_true(kernel_verify(k, &f->diag));
    return k;
}

static KernelJit *new_jit(Fixture *f, const Nvrtc *t, int32_t sm, const char *cache, const char *dump)
{
    CudaJitOptions opt = { .sm = sm,
                           .cache_dir = cache ? path_in(f, cache) : NULL,
                           .dump_dir = dump ? path_in(f, dump) : NULL };
    KernelJit     *j = jit_cuda_new_with(&f->arena, &f->diag, opt, t);
    assert_no_errors(f);
    assert_non_null(j);
    return j;
}

static const GpuKernel *compile_one(Fixture *f, KernelJit *j, const char *name)
{
    KernelImage image;
    Kernel     *k = read_kernel(f, name);
    bool        done = jit_compile(j, &f->diag, name, &k, 1, &image);
    assert_no_errors(f);
    assert_true(done);
    assert_string_equal(image.name, k->name);
    assert_int_equal(image.n_bufs, k->bufs.len);
    assert_true(image.bytes > 0);
    assert_non_null(image.gpu);
    assert_true(image.gpu->grid > 0 && image.gpu->block > 0 && image.gpu->block <= 1024);
    return image.gpu;
}

static void assert_said(Fixture *f, const char *part)
{
    if (!f->diag.text.s || !strstr(f->diag.text.s, part))
        fail_msg("expected '%s' in: %s", part, f->diag.text.s ? f->diag.text.s : "");
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- One kernel as a program ------------------------------------------------------------------------------------- */

static void check_alone(Fixture *f, const char *name)
{
    Arena     *a = &f->arena;
    Kernel    *k = read_kernel(f, name);
    KernelJit *j = jit_interp_new(a);
    Program   *p = codegen_kernel_program(a, &f->diag, k, j);
    Exec      *e = exec_new(a, &f->diag, calllib_reference(a), (ExecOptions){ .threads = 1 });
    void     **want = ARENA_ARRAY(a, void *, k->bufs.len);
    assert_non_null(p);
    assert_int_equal(exec_add(e, p), 0);
    assert_int_equal(p->n_launches, 1);
    assert_int_equal(p->launches[0].n_bufs, k->bufs.len);
    for (int32_t i = 0; i < k->bufs.len; i++) {
        const KBuf       *b = &k->bufs.at[i];
        const ProgTensor *t = program_tensor(p, b->name);
        assert_int_equal(t->kind, TENSOR_INPUT);
        assert_int_equal(t->elems, b->elems);
        assert_int_equal(t->at.offset % 256, 0);
        assert_int_equal(p->launches[0].uses[i].bytes, t->bytes);
        assert_int_equal((p->launches[0].uses[i].access & ACCESS_WRITE) != 0, b->mode != BUF_IN);
        uint8_t *x = exec_ptr(e, 0, t);
        for (int64_t at = 0; at < b->elems; at++)
            elem_set(b->dtype, x, at, (double)(rng_uniform(3, (uint32_t)i, 0, (uint64_t)at) * 4));
        want[i] = arena_copy(a, x, (size_t)t->bytes);
    }
    kernel_interp(kernel_expand(a, k), want);
    assert_true(exec_run(e, 0));
    int32_t outputs = 0;
    for (int32_t i = 0; i < p->n_tensors; i++) {
        const ProgTensor *t = &p->tensors[i];
        for (int32_t b = 0; b < k->bufs.len; b++)
            if (str_eq(k->bufs.at[b].name, t->name))
                assert_memory_equal(exec_ptr(e, 0, t), want[b], (size_t)t->bytes);
        outputs += t->kind == TENSOR_OUTPUT;
    }
    assert_true(outputs > 0 && p->n_tensors == k->bufs.len + outputs);
    exec_free(e);
    jit_free(j);
}

static void test_kernel_alone(void **state)
{
    static const char *const names[] = { "bn_stats", "optimizer", "prepare_weights", "softmax_xent", "concat" };
    for (int32_t i = 0; i < DT_COUNT(names); i++)
        check_alone(*state, names[i]);
}

/* ---- With no NVRTC ----------------------------------------------------------------------------------------------- */

/* jit_cuda_new while NVRTC is nowhere to be found. */
static KernelJit *new_jit_without(Fixture *f, CudaJitOptions opt)
{
    const char *before = getenv("DETENT_NVRTC");
    before = before ? arena_strdup(&f->arena, before) : NULL;
    setenv("DETENT_NVRTC", f->dir, 1);
    KernelJit *j = jit_cuda_new(&f->arena, &f->diag, opt);
    if (before)
        setenv("DETENT_NVRTC", before, 1);
    else
        unsetenv("DETENT_NVRTC");
    return j;
}

static void test_missing(void **state)
{
    Fixture *f = *state;
    assert_null(new_jit_without(f, (CudaJitOptions){ .sm = 90 }));
    assert_said(f, "pip install nvidia-cuda-nvrtc");
    assert_one_error(f, "NVRTC: ");
}

static void test_simulated(void **state)
{
    Fixture   *f = *state;
    KernelJit *j = new_jit_without(f, (CudaJitOptions){ .cache_dir = path_in(f, "c"), .dump_dir = path_in(f, "d") });
    assert_no_errors(f);
    const GpuKernel *k = compile_one(f, j, "bn_stats");
    assert_string_equal(k->module->arch, "sim");
    assert_null(k->module->image);
    assert_non_null(strstr(k->module->source, k->entry));
    assert_int_equal(k->registers, -1);
    assert_int_equal(k->spill_bytes, -1);
    assert_string_equal(jit_describe(&f->arena, j), "CUDA text for the simulator");
    assert_string_equal((const char *)read_bytes(f, path_in(f, "d/bn_stats.cu"), NULL), k->module->source);
    assert_false(is_there(path_in(f, "d/bn_stats.ptx")));
    assert_false(is_there(path_in(f, "d/bn_stats.registers.txt")));
    assert_int_equal(jit_stats(j).distinct, 1);
    assert_int_equal(jit_stats(j).cached, 0);
    jit_free(j);
}

/* ---- The library ------------------------------------------------------------------------------------------------- */

static void test_loaded(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    bool known = false;
    assert_true(t->version_major >= 11);
    for (int32_t i = 0; i < t->n_sms; i++) {
        assert_true(i == 0 || t->sms[i] > t->sms[i - 1]);
        known = known || t->sms[i] == 80;
    }
    assert_true(known);
    assert_true(t->path[0] == '/' && is_there(t->path));
}

static const char *const sm_80[] = { "--gpu-architecture=sm_80" };

/* The log, and the lines of the text around the first error. */
static void test_wrong_text(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    NvrtcCode code;
    NvrtcText text = { .name = "wrong.cu",
                       .source =
                           "// one\n// two\nextern \"C\" __global__ void k(float *x)\n{\n    x[0] = y;\n}\n// seven\n"
                           "// eight\n// nine\n",
                       .options = sm_80,
                       .n_options = 1,
                       .cubin = true };
    assert_false(nvrtc_compile(&f->arena, &f->diag, t, &text, &code));
    assert_true(code.bad_text);
    assert_non_null(strstr(code.log, "\"y\" is undefined"));
    assert_said(f, "wrong.cu(5): error");
    assert_said(f, "      2  // two\n");
    assert_said(f, ">     5      x[0] = y;\n");
    assert_said(f, "      8  // eight\n");
    assert_null(strstr(f->diag.text.s, "// nine"));
    assert_one_error(f, "nvrtcCompileProgram failed: NVRTC_ERROR_COMPILATION (6)");
}

/* Lines that are called by the places in the network's source that they come from. */
static void test_wrong_text_of_a_network(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    NvrtcCode code;
    NvrtcText text = { .name = "net.cu",
                       .source = "extern \"C\" __global__ void a(float *x)\n{\n#line 7 \"models/net.c\"\n"
                                 "    int i = 0;\n    x[i] = 1;\n}\n#line 8 \"net.cu\"\n"
                                 "extern \"C\" __global__ void b(float *x)\n{\n#line 7 \"models/net.c\"\n"
                                 "    int i = 0;\n    x[j] = 2;\n}\n",
                       .options = sm_80,
                       .n_options = 1,
                       .cubin = true };
    assert_false(nvrtc_compile(&f->arena, &f->diag, t, &text, &code));
    assert_said(f, "models/net.c(8): error");
    assert_said(f, "    11      int i = 0;\n>    12      x[j] = 2;\n     13  }\n");
    assert_one_error(f, "nvrtcCompileProgram failed");
}

static void test_wrong_option(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    static const char *const options[] = { "--no-such-option" };
    NvrtcCode                code;
    NvrtcText                text = { .name = "k.cu", .source = "", .options = options, .n_options = 1, .cubin = true };
    assert_false(nvrtc_compile(&f->arena, &f->diag, t, &text, &code));
    assert_false(code.bad_text);
    assert_said(f, "install CUDA 12 or newer");
    assert_one_error(f, "nvrtcCompileProgram failed: NVRTC_ERROR_INVALID_OPTION (5)");
}

/* ---- Failures put into the table --------------------------------------------------------------------------------- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define X(name, symbol, params)                                                                                        \
    static NvrtcResult fail_##name params                                                                              \
    {                                                                                                                  \
        return NVRTC_INTERNAL_ERROR;                                                                                   \
    }
NVRTC_FUNCS(X)
#undef X
#pragma GCC diagnostic pop

typedef NvrtcResult (*AnyFunc)(void);
static const struct {
    const char *symbol;
    size_t      offset;
    AnyFunc     fail;
} faults[] = {
#define X(name, symbol, params) { symbol, offsetof(Nvrtc, name), (AnyFunc)(void *)fail_##name },
    NVRTC_FUNCS(X)
#undef X
};

/* Gives the program back all the same: a failure that is made up shall leak nothing. */
static NvrtcResult (*real_destroy)(NvrtcProgram *p);
static NvrtcResult destroy_and_fail(NvrtcProgram *p)
{
    real_destroy(p);
    return NVRTC_INTERNAL_ERROR;
}

/* Everything that is done with the table, once. False: reported. */
static bool use_table(Fixture *f, Nvrtc *t, int32_t sm)
{
    KernelImage image;
    Kernel     *k = read_kernel(f, "bn_apply");
    if (!nvrtc_query(&f->arena, &f->diag, t))
        return false;
    KernelJit *j = jit_cuda_new_with(&f->arena, &f->diag, (CudaJitOptions){ .sm = sm }, t);
    return j && jit_compile(j, &f->diag, "faulty", &k, 1, &image);
}

static void test_faults(void **state)
{
    enum { NEWER = 999 }; /* gets PTX */
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    for (int32_t i = 0; i < DT_COUNT(faults); i++) {
        Nvrtc   bad = *t;
        int32_t sm = strstr(faults[i].symbol, "PTX") ? NEWER : 80;
        assert_true(use_table(f, &bad, sm));
        memcpy((char *)&bad + faults[i].offset, &faults[i].fail, sizeof faults[i].fail);
        real_destroy = t->destroy;
        bad.destroy = bad.destroy == t->destroy ? t->destroy : destroy_and_fail;
        assert_false(use_table(f, &bad, sm));
        assert_said(f, "set DETENT_NVRTC");
        assert_one_error(
            f, arena_printf(&f->arena, "nvrtc: %s failed: NVRTC_ERROR_INTERNAL_ERROR (11)", faults[i].symbol));
    }
}

static NvrtcResult no_archs(int *count)
{
    *count = 0;
    return NVRTC_SUCCESS;
}
static NvrtcResult no_bytes(NvrtcProgram p, size_t *bytes)
{
    (void)p;
    *bytes = 0;
    return NVRTC_SUCCESS;
}
static NvrtcResult wrong_text(NvrtcProgram p, int n_options, const char *const *options)
{
    (void)p, (void)n_options, (void)options;
    return NVRTC_COMPILATION;
}

static void test_odd_answers(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    Nvrtc bad = *t;
    bad.arch_count = no_archs;
    assert_false(use_table(f, &bad, 80));
    assert_one_error(f, "expected at least one architecture that it makes code for, found 0");
    bad = *t;
    bad.cubin_size = no_bytes;
    assert_false(use_table(f, &bad, 80));
    assert_one_error(f, "it compiled the text and gave no cubin");
}

/* Text of ours that does not compile ends the process and is kept. */
static void test_bug_in_text(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    const char *err = path_in(f, "err");
    int         status = 0;
    pid_t       child = fork();
    if (child == 0) {
        Nvrtc bad = *t;
        int   fd = open(err, O_WRONLY | O_CREAT, 0600);
        dup2(fd, 2);
        setenv("TMPDIR", f->dir, 1);
        bad.compile = wrong_text;
        use_table(f, &bad, 80);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    const char *said = (const char *)read_bytes(f, err, NULL);
    const char *kept = arena_printf(&f->arena, "%s/detent-faulty-%ld.cu", f->dir, (long)child);
    assert_non_null(strstr(said, "internal error: the CUDA text compiles: NVRTC does not accept the text of faulty"));
    assert_non_null(strstr(said, kept));
    assert_non_null(strstr((const char *)read_bytes(f, kept, NULL), "__global__"));
}

/* ---- What a cubin says ------------------------------------------------------------------------------------------- */

/* Registers that do not fit, an array that is indexed at run time, shared memory, a division (a function that is
 * called), none of these. */
static const char resources[] =
    "extern \"C\" __global__ void __launch_bounds__(256) k_plain(float *y) { y[threadIdx.x] = 1.0f; }\n"
    "extern \"C\" __global__ void __launch_bounds__(256) k_shared(const float *x, float *y)\n"
    "{\n"
    "    __shared__ float s[300];\n"
    "    s[threadIdx.x] = x[threadIdx.x];\n"
    "    __syncthreads();\n"
    "    y[threadIdx.x] = s[255 - threadIdx.x] / x[0];\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(1024) k_spill(const float *x, float *y)\n"
    "{\n"
    "    float v[120];\n"
    "    _Pragma(\"unroll\") for (int i = 0; i < 120; i++) v[i] = x[i * 1024 + threadIdx.x];\n"
    "    for (int r = 0; r < 100; r++)\n"
    "        _Pragma(\"unroll\") for (int i = 0; i < 120; i++)\n"
    "            v[i] = v[i] * v[(i * 7 + 1) % 120] + v[(i * 13 + 5) % 120];\n"
    "    _Pragma(\"unroll\") for (int i = 0; i < 120; i++) y[i * 1024 + threadIdx.x] = v[i];\n"
    "}\n";
static const char *const resource_entries[] = { "k_plain", "k_shared", "k_spill" };

/* The number before `unit` behind the part of the log on `entry`; 0: it is not said there. */
static int32_t log_number(Arena *a, const char *log, const char *entry, const char *unit)
{
    const char *from = strstr(log, arena_printf(a, "entry function '%s'", entry));
    assert_non_null(from);
    const char *end = strstr(from + 1, "Compiling entry function"), *at = strstr(from, unit);
    if (!at || (end && at > end))
        return 0;
    while (at > from && (at[-1] == ' ' || (at[-1] >= '0' && at[-1] <= '9')))
        at--;
    return (int32_t)strtol(at, NULL, 10);
}

static NvrtcCode compile_resources(Fixture *f, const Nvrtc *t, int32_t sm)
{
    const char *options[] = { arena_printf(&f->arena, "--gpu-architecture=sm_%d", sm), "--ptxas-options=-v" };
    NvrtcText   text = { .name = "r.cu", .source = resources, .options = options, .n_options = 2, .cubin = true };
    NvrtcCode   code;
    bool        done = nvrtc_compile(&f->arena, &f->diag, t, &text, &code);
    assert_no_errors(f);
    assert_true(done);
    return code;
}

static void test_cubin(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    Arena *a = &f->arena;
    for (int32_t i = 0; i < t->n_sms; i++) {
        NvrtcCode code = compile_resources(f, t, t->sms[i]);
        for (int32_t k = 0; k < DT_COUNT(resource_entries); k++) {
            const char *entry = resource_entries[k];
            CubinKernel c;
            assert_true(cubin_kernel(code.cubin, code.cubin_bytes, entry, &c));
            assert_int_equal(c.registers, log_number(a, code.log, entry, "registers"));
            assert_int_equal(c.shared_bytes, log_number(a, code.log, entry, "bytes smem"));
            assert_int_equal(c.local_bytes, log_number(a, code.log, entry, "bytes stack frame"));
            assert_int_equal(c.local_bytes > 0, k == 2);
            assert_int_equal(c.shared_bytes, k == 1 ? 1200 : 0);
            assert_int_equal(log_number(a, code.log, entry, "bytes spill stores") > 0, k == 2);
        }
        CubinKernel none;
        assert_false(cubin_kernel(code.cubin, code.cubin_bytes, "k_other", &none));
    }
}

/* No bytes make it read outside: under a sanitizer this says more. */
static void test_damaged_cubin(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    enum { CHANGES = 20000 };
    NvrtcCode   code = compile_resources(f, t, 90);
    size_t      bytes = code.cubin_bytes;
    CubinKernel c;
    assert_false(cubin_kernel("", 0, "k_plain", &c));
    for (size_t len = 0; len < bytes; len += 61) {
        uint8_t *cut = malloc(len + 1);
        memcpy(cut, code.cubin, len);
        if (!cubin_kernel(cut, len, "k_shared", &c))
            assert_int_equal(c.registers, -1);
        free(cut);
    }
    uint8_t *all = malloc(bytes);
    memcpy(all, code.cubin, bytes);
    for (uint64_t i = 0; i < CHANGES; i++) {
        /* mostly in the two tables that lead everywhere: the head and the sections */
        size_t  from = i % 2 ? 0 : bytes - bytes / 8, span = i % 2 ? sizeof(uint64_t) * 8 : bytes / 8;
        size_t  at = from + rng_u32(1, 1, 0, i) % span;
        uint8_t was = all[at];
        all[at] = (uint8_t)rng_u32(1, 2, 0, i);
        if (cubin_kernel(all, bytes, "k_shared", &c))
            assert_true(c.shared_bytes >= 0 && c.registers >= -1);
        all[at] = was;
    }
    free(all);
}

/* Worked out by hand: which limit is met first. */
static void test_occupancy(void **state)
{
    (void)state;
    static const struct {
        int32_t sm, block, registers, shared, blocks, percent;
    } rows[] = {
        { 90, 256, 32, 0, 8, 100 },        /* threads: 2048 / 256 */
        { 90, 256, 33, 0, 6, 75 },         /* registers: 40 x 32 a warp, 12 warps a file, 48 in all */
        { 90, 32, 16, 0, 32, 50 },         /* blocks: 32 of one warp */
        { 90, 256, 32, 32 * 1024, 6, 75 }, /* shared: 33 KiB of 228 */
        { 90, 1024, 255, 0, 0, 0 },        /* it cannot start */
        { 80, 256, 32, 20 * 1024, 7, 87 }, /* 21 KiB of 164 */
        { 86, 256, 40, 0, 6, 100 },        /* 1536 threads */
        { 89, 64, 24, 0, 24, 100 },        /* blocks: 24 */
        { 75, 256, 64, 0, 4, 100 },        /* 1024 threads; the system takes no shared memory */
        { 75, 256, 64, 16 * 1024, 4, 100 }, { 103, 256, 32, 0, 8, 100 }, /* as sm_90 */
        { 121, 256, 32, 0, 6, 100 },                                     /* as sm_120 */
        { 90, 100, 32, 0, 16, 100 },                                     /* four warps */
        { 90, 256, -1, 0, 8, 100 },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        GpuKernel k = { .block = rows[i].block, .registers = rows[i].registers, .shared_bytes = rows[i].shared };
        Occupancy o = nvrtc_occupancy(rows[i].sm, &k);
        if (o.blocks != rows[i].blocks || (int32_t)(100 * o.share) != rows[i].percent)
            fail_msg("row %d: %d blocks, %.1f %%", i, o.blocks, 100 * o.share);
    }
}

/* ---- Architectures ----------------------------------------------------------------------------------------------- */

static void test_newer_gpu(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    KernelJit *j = new_jit(f, t, 999, "cache", NULL);
    int32_t    best = t->sms[t->n_sms - 1];
    assert_said(f, arena_printf(&f->arena, "does not know sm_999; the driver finishes its code for compute_%d", best));
    const GpuKernel *k = compile_one(f, j, "bn_stats");
    const char      *ptx = k->module->image;
    assert_non_null(strstr(ptx, arena_printf(&f->arena, ".target sm_%d", best)));
    assert_int_equal(strlen(ptx), k->module->image_bytes - 1);
    assert_string_equal(k->module->arch, arena_printf(&f->arena, "compute_%d", best));
    assert_int_equal(k->registers, -1);
    Str table = str_new(&f->arena);
    jit_cuda_table(&table, j);
    assert_non_null(strstr(table.s, k->entry));
    assert_non_null(strstr(jit_describe(&f->arena, j), "finished for sm_999 by the driver"));
    const GpuKernel *again = compile_one(f, new_jit(f, t, 999, "cache", NULL), "bn_stats");
    assert_int_equal(again->module->image_bytes, k->module->image_bytes);
    assert_string_equal(again->module->image, ptx);
}

static void test_older_gpu(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    assert_null(jit_cuda_new_with(&f->arena, &f->diag, (CudaJitOptions){ .sm = 30 }, t));
    assert_said(f, "set DETENT_NVRTC to the NVRTC of an older CUDA toolkit");
    assert_one_error(f, arena_printf(&f->arena, "expected a GPU of sm_%d or newer, found sm_30", t->sms[0]));
}

/* ---- Cache and dumps --------------------------------------------------------------------------------------------- */

/* How many files of DIR end so; the name of the last. */
static int32_t count_files(Fixture *f, const char *dir, const char *suffix, const char **last)
{
    int32_t     n = 0;
    const char *at = path_in(f, dir);
    FILE       *ls = popen(arena_printf(&f->arena, "ls '%s'", at), "r");
    char        line[512];
    while (fgets(line, sizeof line, ls)) {
        line[strcspn(line, "\n")] = 0;
        size_t len = strlen(line), tail = strlen(suffix);
        if (len < tail || strcmp(line + len - tail, suffix) != 0)
            continue;
        *last = arena_printf(&f->arena, "%s/%s", at, line);
        n++;
    }
    pclose(ls);
    return n;
}

static void test_cache(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    const char      *entry = NULL;
    KernelJit       *j = new_jit(f, t, 80, "cache", NULL);
    const GpuKernel *first = compile_one(f, j, "bn_stats");
    assert_int_equal(jit_stats(j).cached, 0);
    assert_int_equal(count_files(f, "cache", ".cubin", &entry), 1);
    j = new_jit(f, t, 80, "cache", NULL);
    const GpuKernel *second = compile_one(f, j, "bn_stats");
    assert_int_equal(jit_stats(j).cached, 1);
    assert_int_equal(second->module->image_bytes, first->module->image_bytes);
    assert_memory_equal(second->module->image, first->module->image, first->module->image_bytes);
    assert_int_equal((uintptr_t)second->module->image % 16, 0);
    assert_int_equal(second->registers, first->registers);
    assert_int_equal(second->shared_bytes, first->shared_bytes);
    /* Another architecture, another version: entries of their own. */
    Nvrtc newer = *t;
    newer.version_minor++;
    compile_one(f, new_jit(f, t, 90, "cache", NULL), "bn_stats");
    compile_one(f, new_jit(f, &newer, 90, "cache", NULL), "bn_stats");
    compile_one(f, new_jit(f, t, 90, "cache", NULL), "bn_apply");
    assert_int_equal(count_files(f, "cache", ".cubin", &entry), 4);
}

static void test_damaged_entry(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    const char      *entry = NULL;
    size_t           len = 0;
    const GpuKernel *first = compile_one(f, new_jit(f, t, 80, "cache", NULL), "bn_stats");
    assert_int_equal(count_files(f, "cache", ".cubin", &entry), 1);
    uint8_t *bytes = read_bytes(f, entry, &len);
    bytes[len - 100] ^= 1;
    write_file(entry, bytes, len);
    log_set_level(LOG_QUIET);
    KernelJit       *j = new_jit(f, t, 80, "cache", NULL);
    const GpuKernel *again = compile_one(f, j, "bn_stats");
    log_set_level(LOG_INFO);
    assert_int_equal(jit_stats(j).cached, 0);
    assert_memory_equal(again->module->image, first->module->image, first->module->image_bytes);
    j = new_jit(f, t, 80, "cache", NULL); /* and it was written anew */
    compile_one(f, j, "bn_stats");
    assert_int_equal(jit_stats(j).cached, 1);
}

static void test_dump(void **state)
{
    Fixture *f = *state;
    NEED_NVRTC(f, t);
    size_t           len = 0;
    KernelJit       *j = new_jit(f, t, 90, "cache", "dump");
    const GpuKernel *k = compile_one(f, j, "bn_stats");
    assert_string_equal((const char *)read_bytes(f, path_in(f, "dump/bn_stats.cu"), NULL), k->module->source);
    assert_non_null(strstr((const char *)read_bytes(f, path_in(f, "dump/bn_stats.ptx"), NULL), k->entry));
    assert_memory_equal(read_bytes(f, path_in(f, "dump/bn_stats.cubin"), &len), k->module->image,
                        k->module->image_bytes);
    assert_int_equal(len, k->module->image_bytes);
    Str table = str_new(&f->arena);
    jit_cuda_table(&table, j);
    assert_string_equal((const char *)read_bytes(f, path_in(f, "dump/bn_stats.registers.txt"), NULL), table.s);
    assert_non_null(strstr(table.s, "bn_stats, sm_90: 1 kernels, 1 functions\n"));
    assert_non_null(strstr(table.s, arena_printf(&f->arena, "%lld  %5d  %9d  %6d  %6d", (long long)k->grid, k->block,
                                                 k->registers, k->spill_bytes, k->shared_bytes)));
    assert_int_equal(k->spill_bytes, 0);
    assert_string_equal(jit_describe(&f->arena, j),
                        arena_printf(&f->arena, "NVRTC %d.%d, sm_90", t->version_major, t->version_minor));
}

int main(void)
{
#define fixture_test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        fixture_test(test_kernel_alone),
        fixture_test(test_missing),
        fixture_test(test_simulated),
        fixture_test(test_loaded),
        fixture_test(test_wrong_text),
        fixture_test(test_wrong_option),
        fixture_test(test_wrong_text_of_a_network),
        fixture_test(test_faults),
        fixture_test(test_odd_answers),
        fixture_test(test_bug_in_text),
        fixture_test(test_cubin),
        fixture_test(test_damaged_cubin),
        fixture_test(test_occupancy),
        fixture_test(test_newer_gpu),
        fixture_test(test_older_gpu),
        fixture_test(test_cache),
        fixture_test(test_damaged_entry),
        fixture_test(test_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
