/* test_cudnn.c: plans of library calls by cuDNN. It needs the library and no GPU: devices are described. Every call of
 * the networks, odd shapes, refusals, failures at each call of the library, what is kept on disk. Without the library
 * it is reported as skipped, with the reason. */
#include "tests/unit/cudnn_fixture.h"

static bool has_driver(Fix *f)
{
    Diag quiet = diag_new(NULL);
    bool yes = cuda_driver_load(&f->a, &quiet) != NULL;
    diag_free(&quiet);
    return yes;
}

/* ---- Loading ------------------------------------------------------------------------------------------------------
 */

static void test_not_installed(void **state)
{
    Fix *f = *state;
    forget(f);
    setenv("DETENT_CUDNN", f->dir, 1);
    CallLib *lib = calllib_cudnn(&f->a, &f->d, NULL, (CudnnOptions){ .sm = 90 });
    unsetenv("DETENT_CUDNN");
    assert_null(lib);
    assert_int_equal(f->d.errors, 1);
    assert_true(said(f, "cuDNN 9") && said(f, "libcudnn.so.9, libcudnn_graph.so.9") && said(f, f->dir));
    assert_true(said(f, "pip install nvidia-cudnn-cu13"));
}

static void test_wrong_library(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    static const struct {
        size_t      version;
        int32_t     sm;
        const char *says;
    } rows[] = { { 8907, 90, "cuDNN 0.89.7 is too old" },
                 { 90701, 90, "cuDNN 9.7.1 is too old: planning without a GPU needs 9.8" },
                 { 0, 75, "sm_75" } };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        forget(f);
        shim.version = rows[i].version;
        assert_null(cudnn_new(&f->a, &f->d, NULL, (CudnnOptions){ .sm = rows[i].sm }, &shim.table));
        assert_true(f->d.errors == 1 && said(f, rows[i].says) && said(f, "help: "));
    }
}

static void test_help(void **state)
{
    (void)state;
    static const struct {
        CudnnStatus status;
        const char *says;
    } rows[] = { { 1001, "driver" },     { 1002, "two versions" },
                 { 1008, "companions" }, { 3009, "companions" },
                 { 3007, "GPU" },        { 3000, "newer version" },
                 { 4004, "--batch" },    { 5003, "CUDA_LAUNCH_BLOCKING" },
                 { 2000, "LOGLEVEL" },   { 4000, "LOGLEVEL" } };
    for (int32_t i = 0; i < DT_COUNT(rows); i++)
        if (!strstr(cudnn_help(rows[i].status), rows[i].says))
            fail_msg("%d: %s", rows[i].status, cudnn_help(rows[i].status));
}

/* ---- Plans ------------------------------------------------------------------------------------------------------- */

/* Every call of the networks has a deterministic plan within the cap on every architecture. Halves without a driver are
 * computed as tf32. */
static void test_networks(void **state)
{
    Fix  *f = *state;
    Calls calls = { 0 };
    NEEDS_CUDNN(f);
    for (StepKind step = STEP_TRAIN; step <= STEP_EVAL; step++) {
        calls_add(&f->a, &calls, "resnet20", step, false);
        calls_add(&f->a, &calls, "mnist", step, false);
    }
    assert_in_range(calls.len, 20, 60);
    static const CudnnMath maths[] = { CUDNN_MATH_F32, CUDNN_MATH_TF32 };
    for (int32_t i = 0; i < DT_COUNT(sms) * DT_COUNT(maths); i++) {
        Cudnn *c =
            lib_for(f, NULL, (CudnnOptions){ .sm = sms[i / DT_COUNT(maths)], .math = maths[i % DT_COUNT(maths)] });
        for (int32_t j = 0; j < calls.len; j++) {
            int64_t    bytes = c->face.scratch_bytes(c, &calls.at[j]);
            CudnnCall *call = prepared(f, c, &calls.at[j]);
            assert_int_equal(bytes, call->scratch_bytes);
            assert_int_equal(call->n_stages, 1);
            check_plan(c, call);
            print_plan(c, call);
        }
        c->face.release(c);
    }
    assert_int_equal(f->d.errors, 0);
}

static void test_odd_shapes(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    for (int32_t i = 0; i < DT_COUNT(sms); i++) {
        Cudnn *c = lib_for(f, NULL, (CudnnOptions){ .sm = sms[i] });
        for (int32_t j = 0; j < DT_COUNT(odd_shapes); j++)
            for (CallKind kind = CALL_CONV_FWD; kind <= CALL_CONV_BWD_W; kind++) {
                CallDesc d = odd_call(j, kind);
                check_plan(c, prepared(f, c, &d));
            }
        c->face.release(c);
    }
}

static void test_halves(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    if (has_driver(f))
        skip(); /* then there are better plans */
    for (CudnnMath math = CUDNN_MATH_FP16; math <= CUDNN_MATH_BF16; math++) {
        Cudnn *c = lib_for(f, NULL, (CudnnOptions){ .sm = 90, .math = math });
        for (CallKind kind = CALL_CONV_FWD; kind <= CALL_CONV_BWD_W; kind++) {
            CallDesc   d = small(kind, false);
            CudnnCall *call = prepared(f, c, &d);
            assert_string_equal(call->pattern->name, "f32");
            assert_int_equal(call->n_stages, 1);
        }
        c->face.release(c);
    }
}

static void refused(Fix *f, Cudnn *c, const CallDesc *d, const char *says)
{
    forget(f);
    assert_int_equal(c->face.scratch_bytes(c, d), -1);
    assert_int_equal(f->d.errors, 0);
    assert_null(c->face.prepare(c, &f->d, d));
    assert_true(f->d.errors == 1 && said(f, says) && said(f, "help: "));
}

static void test_refusals(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    Cudnn   *c = lib_for(f, NULL, (CudnnOptions){ .sm = 80, .workspace_cap = 1 });
    CallDesc d = small(CALL_CONV_FWD, false), integer = small(CALL_CONV_FWD_INT, false);
    d.krsc = false;
    refused(f, c, &d, "weights lie [K, C, R, S]");
    d.krsc = true, d.groups = 5;
    refused(f, c, &d, "not of a convolution");
    d.groups = 1, d.oh = 17;
    refused(f, c, &d, "cudnnBackendFinalize");
    if (!has_driver(f))
        refused(f, c, &integer, "codes * scale: 0 engines");
    integer.x_type = DTYPE_U8; /* codes up to 255 are not s8 */
    refused(f, c, &integer, "multiply s8 by s8 only");
    /* where there is one element of C, or one tap, both orders are one */
    d = small(CALL_CONV_FWD, false);
    d.krsc = false, d.r = d.s = 1, d.pad[0] = d.pad[1] = d.pad[2] = d.pad[3] = 0;
    prepared(f, c, &d);
    d = odd_call(6, CALL_CONV_FWD);
    d.krsc = false;
    prepared(f, c, &d);
    c->face.release(c);
}

/* What is first without a limit wants 16 MiB here. */
static void test_workspace_cap(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    CallDesc d = small(CALL_CONV_BWD_X, false);
    d.n = 128, d.h = d.w = d.oh = d.ow = 32;
    Cudnn     *wide = lib_for(f, NULL, (CudnnOptions){ .sm = 86 });
    Cudnn     *narrow = lib_for(f, NULL, (CudnnOptions){ .sm = 86, .workspace_cap = 1 });
    CudnnCall *call = prepared(f, wide, &d);
    assert_true(call->stages[0].workspace > 1 << 20 && call->scratch_bytes >= call->stages[0].workspace);
    assert_int_equal(prepared(f, narrow, &d)->scratch_bytes, 0);
    wide->face.release(wide);
    narrow->face.release(narrow);
}

/* ---- Sharing ----------------------------------------------------------------------------------------------------- */

static void test_shared_plans(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    Cudnn     *c = lib_for(f, NULL, (CudnnOptions){ .sm = 80 });
    CallDesc   one = small(CALL_CONV_FWD, false), same = one, other = one, linear = { .kind = CALL_LINEAR_FWD };
    CudnnCall *p = prepared(f, c, &one);
    other.bias = true;
    assert_ptr_equal(prepared(f, c, &same), p);
    assert_ptr_not_equal(prepared(f, c, &other), p);
    assert_true(p->users == 2 && p->built);
    int64_t live = shim.live;
    c->face.unprepare(c, p);
    assert_int_equal(shim.live, live);
    c->face.unprepare(c, p); /* the last one */
    assert_true(shim.live < live && !p->built);
    assert_ptr_equal(prepared(f, c, &one), p);
    assert_int_equal(shim.live, live);
    /* a product is the convolution that it is; fields of windows do not count */
    linear.n = 4, linear.c = 64, linear.k = 10;
    CudnnCall *product = prepared(f, c, &linear);
    linear.r = 7, linear.stride = 3, linear.groups = 2;
    assert_ptr_equal(prepared(f, c, &linear), product);
    assert_string_equal(product->text, "conv forward 4x64x1x1 -> 10x1x1, 1x1 stride 1 pad 0,0,0,0 groups 1");
    /* after a release: nothing to give back, and open again when asked */
    c->face.release(c);
    assert_int_equal(shim.live, 0);
    c->face.unprepare(c, p);
    assert_int_equal(shim.live, 0);
    assert_ptr_equal(prepared(f, c, &one), p);
    c->face.release(c);
}

/* ---- Failures ---------------------------------------------------------------------------------------------------- */

/* A function that is broken from call n on: said with its name, whatever it was asked for, and nothing is left over.
 * How many calls there are. */
static int64_t break_at_each(Fix *f, ShimFn fn, bool stays)
{
    CallDesc d = small(CALL_CONV_FWD, true);
    int64_t  n = 0, refusals = 0;
    bool     failed = true;
    while (failed) {
        shim_new(f->api);
        forget(f);
        shim.fail = fn, shim.fail_at = ++n, shim.stays = stays;
        Cudnn *c = cudnn_new(&f->a, &f->d, NULL, (CudnnOptions){ .sm = 90 }, &shim.table);
        void  *call = c ? c->face.prepare(c, &f->d, &d) : NULL;
        failed = shim.calls[fn] >= n;
        if (!call) {
            assert_true(failed && f->d.errors == 1 && said(f, shim_symbols[fn]) && said(f, "by the test"));
            assert_true(said(f, "INTERNAL_ERROR") && said(f, "(4000)") && said(f, "help: "));
            refusals++;
        }
        if (stays && (call != NULL) != !failed)
            fail_msg("%s from call %lld on: not said", shim_symbols[fn], (long long)n);
        if (c)
            c->face.release(c);
        assert_int_equal(shim.live, 0);
        assert_in_range(n, 1, 1000);
    }
    assert_true(refusals > 0);
    return n - 1;
}

static void test_failures(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    static const ShimFn fns[] = { FN_create, FN_finalize, FN_set, FN_get };
    for (int32_t i = 0; i < DT_COUNT(fns); i++) {
        int64_t calls = break_at_each(f, fns[i], true);
        assert_true(break_at_each(f, fns[i], false) >= calls);
        print_message("%s: %lld calls, each broken once\n", shim_symbols[fns[i]], (long long)calls);
    }
}

/* An engine that refuses its plan makes room for the next. */
static void test_next_engine(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    CallDesc d = small(CALL_CONV_FWD, false);
    int64_t  calls[2];
    for (int32_t i = 0; i < 2; i++) {
        shim_new(f->api);
        shim.fail = FN_finalize;
        shim.fail_at = i == 0 ? INT64_MAX : calls[0]; /* the last one is the plan's */
        Cudnn *c = lib_for(f, NULL, (CudnnOptions){ .sm = 90 });
        prepared(f, c, &d);
        calls[i] = shim.calls[FN_finalize];
        c->face.release(c);
    }
    assert_int_equal(calls[1], calls[0] + 1);
}

/* ---- The cache --------------------------------------------------------------------------------------------------- */

static CudnnStage stage_of(Fix *f, CudnnOptions opt, CallKind kind)
{
    CallDesc   d = small(kind, false);
    Cudnn     *c = lib_for(f, NULL, opt);
    CudnnStage st = prepared(f, c, &d)->stages[0];
    c->face.release(c);
    return st;
}

static void test_cache(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    CudnnOptions opt = { .sm = 90, .cache_dir = f->dir };
    CudnnStage   first = stage_of(f, opt, CALL_CONV_BWD_X), again = stage_of(f, opt, CALL_CONV_BWD_X);
    assert_true(!first.cached && again.cached);
    assert_true(again.engine == first.engine && again.workspace == first.workspace && again.notes == first.notes);
    /* what else is another entry */
    assert_false(stage_of(f, opt, CALL_CONV_BWD_W).cached);
    opt.sm = 86;
    assert_false(stage_of(f, opt, CALL_CONV_BWD_X).cached);
    opt.sm = 90, opt.math = CUDNN_MATH_TF32;
    assert_false(stage_of(f, opt, CALL_CONV_BWD_X).cached);
    opt.math = CUDNN_MATH_F32, opt.workspace_cap = CAP / 2;
    assert_false(stage_of(f, opt, CALL_CONV_BWD_X).cached);
    opt.workspace_cap = CAP;
    assert_true(stage_of(f, opt, CALL_CONV_BWD_X).cached); /* 64 MiB is what 0 means */
    shim.version = (size_t)f->api->version() + 1;
    assert_false(stage_of(f, opt, CALL_CONV_BWD_X).cached);
}

/* An entry of the right key that the library does not take, and one that cannot be written: plans are made all the
 * same. */
static void test_cache_of_no_use(void **state)
{
    Fix *f = *state;
    NEEDS_CUDNN(f);
    CudnnOptions opt = { .sm = 90, .cache_dir = f->dir };
    CudnnStage   first = stage_of(f, opt, CALL_CONV_FWD);
    static const struct {
        ShimFn fn;
        int    attr;
    } rows[] = { { FN_set, PLAN_JSON }, { FN_get, PLAN_WORKSPACE }, { FN_finalize, 0 } };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        shim_new(f->api);
        shim.fail = rows[i].fn, shim.fail_attr = rows[i].attr;
        shim.fail_at = rows[i].fn == FN_finalize ? 8 : 1; /* device, 3 tensors, convolution, operation, graph, plan */
        CudnnStage st = stage_of(f, opt, CALL_CONV_FWD);
        assert_true(!st.cached && st.engine == first.engine);
        assert_true(stage_of(f, opt, CALL_CONV_FWD).cached); /* written again */
    }
    shim_new(f->api);
    shim.fail = FN_get, shim.fail_attr = PLAN_JSON, shim.fail_at = 1, shim.stays = true;
    assert_false(stage_of(f, opt, CALL_CONV_BWD_W).cached);
    assert_false(stage_of(f, opt, CALL_CONV_BWD_W).cached);
    assert_int_equal(f->d.errors, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_not_installed),   TEST(test_wrong_library), TEST(test_help),        TEST(test_networks),
        TEST(test_odd_shapes),      TEST(test_halves),        TEST(test_refusals),    TEST(test_workspace_cap),
        TEST(test_shared_plans),    TEST(test_failures),      TEST(test_next_engine), TEST(test_cache),
        TEST(test_cache_of_no_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
