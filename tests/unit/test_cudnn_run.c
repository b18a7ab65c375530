/* test_cudnn_run.c: library calls by cuDNN, run. On a GPU that is not there: which engine is measured as the fastest,
 * what plans are given, failures. Patterns whose code cuDNN compiles at run time ask for a driver: they are tested in a
 * process of their own that has the toolkit's stub of it. On a real GPU: every call against plain loops. What is not
 * here is reported as skipped, with the reason.
 *
 * DT_CUDNN_ALL=1: the patterns for all architectures, and for all calls of a network (minutes). */
#include "tests/unit/cudnn_fixture.h"

#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

#include "cli/check.h"
#include "runtime/cuda/fake.h"

/* ---- Measuring and running, on a GPU that is not there ----------------------------------------------------------- */

static CudnnStage tuned(Fix *f, Gpu *g, const char *cache_dir)
{
    CallDesc   d = small(CALL_CONV_FWD, false);
    Cudnn     *c = lib_for(f, g, (CudnnOptions){ .autotune = true, .cache_dir = cache_dir });
    CudnnStage st = prepared(f, c, &d)->stages[0];
    c->face.release(c);
    assert_true(cuda_sim_live().allocations == 0 && cuda_sim_live().events == 0);
    return st;
}

static void test_autotune(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    Gpu *g = null_gpu(f, 90, 0);
    shim.slow_engine = 1000; /* none: all take 1 ms */
    CudnnStage any = tuned(f, g, NULL);
    int32_t    runs = shim.n_runs;
    assert_true(runs > 8 && runs % 8 == 0); /* 3 + 5 of each */
    shim.slow_engine = any.engine;
    CudnnStage other = tuned(f, g, f->dir);
    assert_int_not_equal(other.engine, any.engine);
    /* measured once */
    runs = shim.n_runs;
    CudnnStage kept = tuned(f, g, f->dir);
    assert_true(kept.cached && kept.engine == other.engine && shim.n_runs == runs);
    /* one that fails is not taken; nothing is said but in the log */
    shim.slow_engine = -1, shim.fail_engine = any.engine;
    assert_int_not_equal(tuned(f, g, NULL).engine, any.engine);
    shim.fail_engine = -1;
    gpu_close(g);
    shim_gpu_close();
    /* no memory to measure in: the first */
    g = null_gpu(f, 90, 4096);
    runs = shim.n_runs;
    tuned(f, g, NULL);
    assert_int_equal(shim.n_runs, runs);
    gpu_close(g);
    assert_int_equal(f->d.errors, 0);
}

enum { A0 = 0x100000, SCRATCH = 0x900000 };

static void buffers(void *bufs[CALL_MAX_BUFS], int64_t first)
{
    for (int32_t i = 0; i < CALL_MAX_BUFS; i++)
        bufs[i] = (void *)(uintptr_t)(first + 0x1000 * i);
}

/* The plan of run i was given this address for that number (0: work space). */
static void *given(int32_t run, int64_t uid)
{
    const ShimPack *p = shim_pack(shim.run_pack[run % SHIM_RUNS]);
    for (int64_t i = 0; i < p->n; i++)
        if (p->uids[i] == uid)
            return p->at[i];
    assert_int_equal(uid, 0);
    return p->workspace;
}

static void test_run(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    static const struct {
        CallKind  kind;
        bool      bias;
        CudnnRole roles[CALL_MAX_BUFS];
    } rows[] = { { CALL_CONV_FWD, false, { ROLE_X, ROLE_W, ROLE_Y } },
                 { CALL_CONV_FWD, true, { ROLE_X, ROLE_W, ROLE_EXTRA, ROLE_Y } },
                 { CALL_CONV_BWD_X, true, { ROLE_Y, ROLE_W, ROLE_X } }, /* its bias does not count */
                 { CALL_CONV_BWD_W, false, { ROLE_Y, ROLE_X, ROLE_W } } };
    Gpu  *g = null_gpu(f, 90, 0);
    void *bufs[CALL_MAX_BUFS];
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Cudnn     *c = lib_for(f, g, (CudnnOptions){ 0 });
        CallDesc   d = small(rows[i].kind, rows[i].bias);
        CudnnCall *call = prepared(f, c, &d);
        assert_ptr_equal(c->handle, &shim);
        for (int32_t turn = 0; turn < 2; turn++) { /* of one set of addresses and another */
            buffers(bufs, A0 << turn);
            int64_t live = shim.live;
            for (int32_t again = 0; again < 2; again++) {
                assert_true(c->face.run(c, call, bufs, (void *)SCRATCH));
                assert_int_equal(shim.live, live + 1); /* made once */
                int32_t run = shim.n_runs - 1;
                assert_ptr_equal(shim.run_plan[run % SHIM_RUNS], call->stages[0].plan);
                for (int32_t j = 0; j < call->n_bufs; j++)
                    assert_ptr_equal(given(run, cudnn_uid(rows[i].roles[j])), bufs[j]);
                assert_ptr_equal(given(run, 0), call->stages[0].workspace > 0 ? (void *)SCRATCH : NULL);
            }
        }
        c->face.release(c);
    }
    gpu_close(g);
    assert_int_equal(f->d.errors, 0);
}

/* More sets of addresses than are kept: the oldest go. */
static void test_many_addresses(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    Gpu       *g = null_gpu(f, 90, 0);
    Cudnn     *c = lib_for(f, g, (CudnnOptions){ 0 });
    CallDesc   d = small(CALL_CONV_FWD, false);
    CudnnCall *call = prepared(f, c, &d);
    int64_t    live = shim.live;
    void      *bufs[CALL_MAX_BUFS];
    for (int64_t i = 0; i < 3 * CALL_PACKS; i++) {
        buffers(bufs, A0 * (1 + i));
        assert_true(c->face.run(c, call, bufs, NULL));
        assert_ptr_equal(given(shim.n_runs - 1, cudnn_uid(ROLE_X)), bufs[0]);
        assert_int_equal(shim.live, live + dt_min64(i + 1, CALL_PACKS));
    }
    c->face.release(c);
    gpu_close(g);
}

static void test_run_failures(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    static const struct {
        ShimFn fn;
        int    attr;
    } opening[] = { { FN_handle_new, 0 }, { FN_set_stream, 0 } },
      running[] = { { FN_create, 0 },           { FN_set, PACK_UIDS }, { FN_set, PACK_POINTERS },
                    { FN_set, PACK_WORKSPACE }, { FN_finalize, 0 },    { FN_execute, 0 } };
    Gpu     *g = null_gpu(f, 80, 0);
    CallDesc d = small(CALL_CONV_FWD, false);
    void    *bufs[CALL_MAX_BUFS];
    buffers(bufs, A0);
    for (int32_t i = 0; i < DT_COUNT(opening); i++) {
        shim.fail = opening[i].fn, shim.fail_at = 1, shim.calls[shim.fail] = 0;
        forget(f);
        assert_null(cudnn_new(&f->a, &f->d, g, (CudnnOptions){ 0 }, &shim.table));
        assert_true(f->d.errors == 1 && said(f, shim_symbols[shim.fail]) && said(f, "by the test"));
    }
    for (int32_t i = 0; i < DT_COUNT(running); i++) {
        shim.fail_at = 0;
        Cudnn *c = lib_for(f, g, (CudnnOptions){ 0 });
        void  *call = prepared(f, c, &d);
        forget(f);
        shim.fail = running[i].fn, shim.fail_attr = running[i].attr, shim.fail_at = 1, shim.calls[shim.fail] = 0;
        assert_false(c->face.run(c, call, bufs, NULL));
        assert_true(f->d.errors == 1 && said(f, shim_symbols[shim.fail]) && said(f, "conv forward 8x16x16x16"));
        forget(f);
        assert_true(c->face.run(c, call, bufs, NULL)); /* it was this once */
        c->face.release(c);
        shim.fail_attr = 0;
    }
    gpu_close(g);
}

static void test_run_without_gpu(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    Cudnn   *c = lib_for(f, NULL, (CudnnOptions){ .sm = 80 });
    CallDesc d = small(CALL_CONV_FWD, false);
    void    *bufs[CALL_MAX_BUFS] = { 0 }, *call = prepared(f, c, &d);
    assert_false(c->face.run(c, call, bufs, NULL));
    assert_true(f->d.errors == 1 && said(f, "without a GPU"));
    c->face.release(c);
}

/* ---- Code compiled at run time ----------------------------------------------------------------------------------- */

typedef struct Pattern {
    CudnnMath   math;
    CallKind    kind;
    bool        bias, scale_per_k;
    int64_t     c;
    const char *name;
    int32_t     stages;
    bool        always; /* else with DT_CUDNN_ALL: each takes up to a second and more */
} Pattern;
// clang-format off
static const Pattern patterns[] = {
    { CUDNN_MATH_FP16, CALL_CONV_FWD,     false, false, 16, "half of f32", 2, false },
    { CUDNN_MATH_FP16, CALL_CONV_FWD,     true,  false, 16, "half of f32 + bias", 2, true },
    { CUDNN_MATH_FP16, CALL_CONV_FWD,     false, false, 3,  "half", 3, false },
    { CUDNN_MATH_FP16, CALL_CONV_BWD_X,   false, false, 16, "half", 3, true },
    { CUDNN_MATH_FP16, CALL_CONV_BWD_W,   false, false, 16, "half", 3, false },
    { CUDNN_MATH_BF16, CALL_CONV_FWD,     false, false, 16, "half of f32", 2, true },
    { CUDNN_MATH_BF16, CALL_CONV_FWD,     true,  false, 16, "half of f32 + bias", 2, false },
    { CUDNN_MATH_BF16, CALL_CONV_BWD_X,   false, false, 16, "half", 3, false },
    { CUDNN_MATH_BF16, CALL_CONV_BWD_W,   false, false, 16, "half", 3, false },
    { CUDNN_MATH_BF16, CALL_CONV_BWD_W,   false, false, 3,  "f32", 1, true },
    { CUDNN_MATH_F32,  CALL_CONV_FWD_INT, false, false, 16, "codes * scale", 1, true },
    { CUDNN_MATH_F32,  CALL_CONV_FWD_INT, false, true,  16, "codes * scale", 1, true },
    { CUDNN_MATH_F32,  CALL_CONV_FWD_INT, false, true,  3,  "codes * scale", 1, true },
};
// clang-format on

/* Where the stages' tensors lie: copies of the operands one after the other, then work space. */
static void check_stages(Fix *f, Cudnn *c, CudnnCall *call)
{
    const CudnnRole *roles = cudnn_roles(call->desc.kind);
    int32_t          run = shim.n_runs, last = run + call->n_stages - 1;
    char            *copy = (char *)SCRATCH;
    void            *bufs[CALL_MAX_BUFS];
    buffers(bufs, A0);
    if (!c->face.run(c, call, bufs, (void *)SCRATCH))
        fail_msg("%s", f->d.text.s);
    assert_int_equal(shim.n_runs, last + 1);
    for (int32_t i = 0; i < 2; i++) {
        bool copied = call->pattern->operand == OPERAND_HALF && !(call->pattern->main_loop && i == 0);
        if (copied) {
            assert_ptr_equal(given(run, cudnn_uid(roles[i])), bufs[i]);
            assert_ptr_equal(given(run++, cudnn_uid(roles[i]) + CUDNN_COPY), copy);
        }
        assert_ptr_equal(given(last, cudnn_uid(roles[i])), copied ? (void *)copy : bufs[i]);
        copy += copied ? dt_round_up(cudnn_bytes(&call->desc, roles[i], CUDNN_F16), 256) : 0;
    }
    assert_int_equal(run, last);
    assert_ptr_equal(given(last, cudnn_uid(roles[2])), bufs[call->n_bufs - 1]);
    if (call->n_bufs == 4)
        assert_ptr_equal(given(last, cudnn_uid(ROLE_EXTRA)), bufs[2]);
    assert_int_equal(copy - (char *)SCRATCH, call->work_offset);
    for (int32_t i = 0; i < call->n_stages; i++)
        if (call->stages[i].workspace > 0)
            assert_ptr_equal(given(last - call->n_stages + 1 + i, 0), copy);
}

static void check_pattern(Fix *f, Cudnn *c, const Pattern *p)
{
    CallDesc d = small(p->kind, p->bias);
    d.c = p->c, d.scale_per_k = p->scale_per_k;
    CudnnCall *call = prepared(f, c, &d);
    if (strcmp(call->pattern->name, p->name) != 0 || call->n_stages != p->stages)
        fail_msg("sm_%d %s: '%s' in %d stages, expected '%s' in %d", c->sm, call->text, call->pattern->name,
                 call->n_stages, p->name, p->stages);
    check_plan(c, call);
    print_plan(c, call);
    check_stages(f, c, call);
}

/* In a process with the driver's stub: that a plan compiles, and only its loading fails, is as good as finished. */
static void stub_patterns(void **state)
{
    Fix        *f = *state;
    const char *wanted = getenv("DT_CUDNN_SM");
    int32_t     sm = wanted ? atoi(wanted) : 90;
    bool        all = getenv("DT_CUDNN_ALL") != NULL;
    Calls       calls = { 0 };
    NEEDS_CUDNN(f);
    if (all)
        calls_add(&f->a, &calls, "resnet20", STEP_TRAIN, true);
    Gpu *g = null_gpu(f, sm, 0);
    shim.pretend = true;
    for (CudnnMath math = CUDNN_MATH_F32; math <= CUDNN_MATH_BF16; math++) {
        Cudnn *c = lib_for(f, g, (CudnnOptions){ .math = math });
        c->sm = sm;
        for (int32_t i = 0; i < DT_COUNT(patterns); i++)
            if (patterns[i].math == math && (all || patterns[i].always))
                check_pattern(f, c, &patterns[i]);
        for (int32_t i = 0; i < calls.len; i++)
            print_plan(c, prepared(f, c, &calls.at[i]));
        c->face.release(c);
    }
    assert_in_range(shim.compiled, 9, 10000);
    gpu_close(g);
}

/* The toolkit's file that stands for the driver when programs are linked. */
static const char *stub_find(Fix *f)
{
    static const char *const places[] = { "/usr/local/cuda/lib64/stubs/libcuda.so",
                                          "/usr/lib/x86_64-linux-gnu/stubs/libcuda.so" };
    const char              *home = getenv("CUDA_HOME");
    const char              *own = home ? arena_printf(&f->a, "%s/lib64/stubs/libcuda.so", home) : NULL;
    if (own && access(own, R_OK) == 0)
        return own;
    for (int32_t i = 0; i < DT_COUNT(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return NULL;
}

static int stub_run(Fix *f, const char *sm)
{
    extern char **environ;
    char         *argv[] = { (char *)"/proc/self/exe", (char *)"--with-stub", NULL };
    char          self[512];
    ssize_t       len = readlink("/proc/self/exe", self, sizeof self - 1);
    pid_t         pid = 0;
    int           status = -1;
    assert_in_range(len, 1, sizeof self - 1);
    self[len] = '\0';
    setenv("LD_LIBRARY_PATH", f->dir, 1);
    setenv("DT_CUDNN_SM", sm, 1);
    assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
    unsetenv("LD_LIBRARY_PATH");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_patterns(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    const char *stub = stub_find(f), *as = arena_printf(&f->a, "%s/libcuda.so.1", f->dir);
    if (!stub) {
        print_message("skipped: no stub of the CUDA driver (of the toolkit: lib64/stubs/libcuda.so)\n");
        skip();
    }
    assert_int_equal(symlink(stub, as), 0);
    for (int32_t i = 0; i < DT_COUNT(sms); i++)
        if (getenv("DT_CUDNN_ALL") || sms[i] == 90)
            assert_int_equal(stub_run(f, arena_printf(&f->a, "%d", sms[i])), 0);
}

/* ---- On a GPU ---------------------------------------------------------------------------------------------------- */

/* Against plain loops. A product of rounded operands errs by this much of its size, more than the bound of sums in
 * single precision has: 10 bits of mantissa for tf32 (cut off, not rounded) and fp16, 7 for bf16. */
static void check_on_gpu(Fix *f, Gpu *g, CallLib *lib, CudnnMath math, const CallDesc *d)
{
    static const double eps[] = { 0, 0x1p-8, 0x1p-9, 0x1p-7 };
    double     n = 1 + (double)(d->kind % 3 == CALL_CONV_BWD_W && d->kind != CALL_CONV_FWD_INT ? d->n * d->oh * d->ow
                                : d->kind % 3 == CALL_CONV_BWD_X ? d->k / d->groups * d->r * d->s
                                                                 : d->c / d->groups * d->r * d->s);
    double     single = (4 + sqrt(n)) * 0x1p-24;
    bool       exact = d->kind == CALL_CONV_FWD_INT;
    CallResult r;
    if (!check_call(&f->a, &f->d, g, lib, d, 5, &r))
        fail_msg("%s: %s", check_call_text(&f->a, d), f->d.text.s);
    if (exact || math == CUDNN_MATH_F32 ? !r.ok : !(r.worst * single <= single + eps[math]))
        fail_msg("%s: %s, worst %g of the bound of f32", lib->name, check_call_text(&f->a, d), r.worst);
}

/* The same bits each time. */
static void check_repeats(Fix *f, Gpu *g, CallLib *lib, const CallDesc *call)
{
    CallDesc         d = cudnn_as_conv(call);
    bool             codes = d.kind == CALL_CONV_FWD_INT;
    const CudnnRole *roles = cudnn_roles(d.kind);
    void            *bufs[CALL_MAX_BUFS], *first = NULL;
    int64_t          bytes[CALL_MAX_BUFS];
    int32_t          n = 0;
    for (int32_t i = 0; i < 2; i++)
        bytes[n++] = cudnn_bytes(&d, roles[i], codes ? CUDNN_S8 : CUDNN_F32);
    if (d.bias || codes)
        bytes[n++] = cudnn_bytes(&d, ROLE_EXTRA, CUDNN_F32);
    bytes[n++] = cudnn_bytes(&d, roles[2], CUDNN_F32);
    for (int32_t i = 0; i < n; i++) {
        bufs[i] = arena_alloc(&f->a, (size_t)bytes[i]);
        for (int64_t j = 0; j < bytes[i] / (codes ? 1 : 4); j++)
            if (codes)
                ((int8_t *)bufs[i])[j] = (int8_t)(rng_u32(3, (uint32_t)i, 0, (uint64_t)j) % 63);
            else
                ((float *)bufs[i])[j] = 2 * rng_uniform(3, (uint32_t)i, 0, (uint64_t)j) - 1;
    }
    for (int32_t turn = 0; turn < 3; turn++) {
        assert_true(check_call_run_gpu(&f->d, g, lib, call, bufs, bytes, n));
        if (turn == 0)
            first = arena_copy(&f->a, bufs[n - 1], (size_t)bytes[n - 1]);
        assert_memory_equal(first, bufs[n - 1], (size_t)bytes[n - 1]);
    }
}

static void test_on_gpu(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    const CudaDriver *t = cuda_driver_load(&f->a, &f->d);
    Gpu              *g = t ? gpu_open(&f->a, &f->d, t, 0) : NULL;
    Calls             calls = { 0 };
    if (!g) {
        print_message("skipped: %s", f->d.text.s);
        skip();
    }
    calls_add(&f->a, &calls, "resnet20", STEP_TRAIN, false);
    calls_add(&f->a, &calls, "resnet20", STEP_TRAIN, true);
    calls_add(&f->a, &calls, "mnist", STEP_TRAIN, false);
    for (int32_t i = 0; i < calls.len; i++)
        calls.at[i].n = 4; /* the plain loops take as long as they do */
    for (int32_t i = 0; i < DT_COUNT(odd_shapes); i++)
        for (CallKind kind = CALL_CONV_FWD; kind <= CALL_CONV_BWD_W; kind++)
            vec_push(&f->a, &calls, odd_call(i, kind));
    for (CudnnMath math = CUDNN_MATH_F32; math <= CUDNN_MATH_BF16; math++)
        for (int32_t tune = 0; tune < 2; tune++) {
            CallLib *lib = calllib_cudnn(&f->a, &f->d, g, (CudnnOptions){ .math = math, .autotune = tune });
            assert_non_null(lib);
            for (int32_t i = 0; i < calls.len; i++) {
                check_on_gpu(f, g, lib, math, &calls.at[i]);
                check_repeats(f, g, lib, &calls.at[i]);
            }
            lib->release(lib->self);
        }
    gpu_close(g);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest stub[] = { TEST(stub_patterns) };
    const struct CMUnitTest tests[] = {
        TEST(test_autotune),        TEST(test_run),      TEST(test_many_addresses), TEST(test_run_failures),
        TEST(test_run_without_gpu), TEST(test_patterns), TEST(test_on_gpu),
    };
    if (argc > 1 && strcmp(argv[1], "--with-stub") == 0)
        return cmocka_run_group_tests(stub, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
