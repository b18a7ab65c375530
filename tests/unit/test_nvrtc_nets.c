/* test_nvrtc_nets.c: the kernels of the networks through NVRTC: every text compiles without a warning, no kernel keeps
 * anything in local memory, code for a whole training step is there within seconds and it has few launches.
 *
 * What is compiled is a few recipes for sm_90, and the largest step for the other architectures; with DT_NVRTC_ALL=1
 * every recipe and step for all of them. The table that is printed is what docs and reports quote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "codegen/nvrtc/nvrtc.h"
#include "frontend/frontend.h"
#include "passes/passes.h"

static const StepKind steps[] = { STEP_TRAIN, STEP_EVAL, STEP_INIT, STEP_OBSERVE, STEP_INSPECT };
static const int32_t  all_sms[] = { 80, 86, 89, 90, 100 };

enum { MAIN_SM = 90, MOST_LAUNCHES = 155, MOST_LAUNCHES_TWICE = 230, MOST_SECONDS = 5 };

typedef struct Recipes {
    const char *method, *bits;
    bool        int8;
    const char *setting;         /* NULL: none */
    uint32_t    mnist, resnet20; /* 1 << StepKind: compiled without being asked for */
} Recipes;

enum { TRAIN = 1 << STEP_TRAIN, EVAL = 1 << STEP_EVAL, INIT = 1 << STEP_INIT, INSPECT = 1 << STEP_INSPECT };
static const Recipes recipes[] = {
    { "float", "float", false, NULL, 0, TRAIN },
    { "lsq", "w8a8", false, NULL, 0, 0 },
    { "lsq", "w4a4", false, NULL, TRAIN | INIT, 0 },
    { "lsq", "w2a2", false, NULL, 0, 0 },
    { "lsq", "w8a8", true, NULL, 0, 0 },
    { "lsq", "w4a4", true, NULL, 0, TRAIN | EVAL },
    { "lsq", "w4a4", false, "grain=channel", 0, 0 },
    { "lsq", "w4a4", false, "noise=0.5", 0, 0 },
    { "ptq", "w4a4", false, NULL, 0, 0 },
    { "ptq", "w4a4", false, "form=affine", 0, 0 },
    { "qat", "w4a4", false, NULL, TRAIN, 0 },
    { "qat", "w4a4", false, "form=symmetric", 0, 0 },
    { "qat", "w4a4", false, "grain=channel", 0, 0 },
    { "qat", "w4a4", false, "fold=two", 0, 0 },
    { "lsq+", "w4a4", false, NULL, TRAIN | INSPECT, 0 },
    { "lsq+", "w4a4", false, "offset=float", 0, 0 },
    { "quant-noise", "w4a4", false, NULL, 0, TRAIN },
    { "quant-noise", "w4a4", false, "noise-block=9", 0, 0 },
    { "qsin", "w4a4", false, NULL, 0, TRAIN },
    { "qsin", "w4a4", false, "training=quantize", 0, 0 },
    { "msqe", "w4a4", false, NULL, 0, 0 },
};

typedef struct Case {
    const char *net;
    Recipes     recipe;
    StepKind    step;
    int32_t     sm;
} Case;

typedef struct Result {
    int32_t launches, functions, registers, shared; /* the most of a kernel */
    int32_t emptiest;      /* percent of a multiprocessor's threads, of the kernel that fills it least */
    double  wall_s, cpu_s; /* of print and compile */
    size_t  text_bytes, image_bytes;
} Result;

/* ---- Warnings ---------------------------------------------------------------------------------------------------- */

static NvrtcResult (*real_log)(NvrtcProgram p, char *to);
static int32_t n_warned; /* texts of which anything was said; the first is shown */

/* Stands in the table for the library's own. */
static NvrtcResult log_and_count(NvrtcProgram p, char *to)
{
    NvrtcResult status = real_log(p, to);
    if (to[0] && n_warned++ == 0)
        print_error("%s\n", to);
    return status;
}

/* ---- One program ------------------------------------------------------------------------------------------------- */

static const char *title_of(Arena *a, const Case *c)
{
    return arena_printf(a, "%s %s %s%s%s%s %s", c->net, c->recipe.method, c->recipe.bits, c->recipe.int8 ? " int8" : "",
                        c->recipe.setting ? " " : "", c->recipe.setting ? c->recipe.setting : "",
                        step_kind_name(c->step));
}

static Graph *graph_of(Arena *a, Diag *d, const Case *c)
{
    static const Target target = {
        .name = "gpu", .image_layout = LAYOUT_NHWC, .weight_layout = LAYOUT_NHWC, .align_bytes = 256
    };
    const DtModel  *model = frontend_find(a, d, c->net);
    Recipe          recipe = { .method = c->recipe.method, .edge_bits = 8 };
    OptimizerConfig sgd = { .momentum = 0.9, .weight_decay = 1e-4 };
    PassOptions     opt = { 0 };
    StrList         none = { 0 };
    Arena           scratch = arena_new("pass");
    bool            stopped = false;
    assert_non_null(model);
    assert_true(opts_parse(a, d, pass_option_defs, pass_n_option_defs, 0, NULL, &opt, &none));
    if (!str_eq(c->recipe.bits, "float"))
        assert_true(recipe_parse_bits(&recipe, d, "bits", c->recipe.bits));
    if (c->recipe.setting)
        assert_true(recipe_set(a, &recipe, d, LOC_NONE, "set", c->recipe.setting));
    Graph  *g = frontend_build(a, d, model, model->training.batch > 0 ? model->training.batch : 128, c->step);
    PassCtx ctx = { .scratch = &scratch,
                    .d = d,
                    .step = c->step,
                    .recipe = &recipe,
                    .optimizer = &sgd,
                    .target = &target,
                    .int8_forward = c->recipe.int8,
                    .keep = a };
    bool    ok = g && passes_run(&ctx, g, &opt, stderr, &stopped);
    arena_free(&scratch);
    assert_true(ok && !stopped);
    return g;
}

static void look_at(const Case *c, const Program *p, const char *title, Result *r)
{
    for (int32_t i = 0; i < p->n_images; i++) {
        const GpuKernel *k = p->images[i].gpu;
        Occupancy        o = nvrtc_occupancy(c->sm, k);
        if (k->spill_bytes != 0 || k->registers <= 0 || o.blocks < 1)
            fail_msg("%s, sm_%d: %s (%s): %d registers, %d bytes of local memory, %d blocks fit", title, c->sm,
                     p->images[i].name, k->entry, k->registers, k->spill_bytes, o.blocks);
        r->registers = k->registers > r->registers ? k->registers : r->registers;
        r->shared = k->shared_bytes > r->shared ? k->shared_bytes : r->shared;
        r->text_bytes = strlen(k->module->source);
        r->image_bytes = k->module->image_bytes;
        if (100 * o.share < r->emptiest || i == 0)
            r->emptiest = (int32_t)(100 * o.share);
    }
}

static Result compile_case(const Nvrtc *t, const Case *c)
{
    Arena          a = arena_new("net");
    Diag           d = diag_new(stderr);
    const char    *title = title_of(&a, c), *dump = getenv("DT_NVRTC_DUMP");
    CudaJitOptions opt = { .sm = c->sm, .dump_dir = dump ? arena_printf(&a, "%s/%s sm_%d", dump, title, c->sm) : NULL };
    Graph         *g = graph_of(&a, &d, c);
    KernelJit     *jit = jit_cuda_new_with(&a, &d, opt, t);
    double         cpu = (double)clock();
    Program       *p = codegen_program(&a, &d, g, jit, calllib_reference(&a));
    assert_non_null(p);
    JitStats s = jit_stats(jit);
    Result   r = { .launches = p->n_launches,
                   .functions = s.distinct,
                   .wall_s = s.seconds,
                   .cpu_s = ((double)clock() - cpu) / CLOCKS_PER_SEC };
    look_at(c, p, title, &r);
    print_message("%-46s  sm_%-3d  %8d  %9d  %8.0f  %9.0f  %9d  %6d  %4d%%  %6.2f  %6.2f\n", title, c->sm, r.launches,
                  r.functions, (double)r.text_bytes / 1024, (double)r.image_bytes / 1024, r.registers, r.shared,
                  r.emptiest, r.wall_s, r.cpu_s);
    jit_free(jit);
    assert_int_equal(d.errors, 0);
    diag_free(&d);
    arena_free(&a);
    return r;
}

/* ---- All of them ------------------------------------------------------------------------------------------------- */

static bool wanted(const Case *c)
{
    bool largest =
        str_eq(c->net, "resnet20") && str_eq(c->recipe.bits, "w4a4") && c->recipe.int8 && c->step == STEP_TRAIN;
    uint32_t usual = str_eq(c->net, "mnist") ? c->recipe.mnist : c->recipe.resnet20;
    return (c->sm == MAIN_SM && (usual & 1u << c->step) != 0) || largest || getenv("DT_NVRTC_ALL") != NULL;
}

static void compile_net(const Nvrtc *t, const char *net)
{
    for (int32_t m = 0; m < DT_COUNT(all_sms); m++)
        for (int32_t r = 0; r < DT_COUNT(recipes); r++)
            for (int32_t s = 0; s < DT_COUNT(steps); s++) {
                Case c = { net, recipes[r], steps[s], all_sms[m] };
                if (!wanted(&c) || (s > 1 && str_eq(c.recipe.method, "float")))
                    continue; /* in float there is nothing to initialise, observe or inspect */
                Result got = compile_case(t, &c);
                if (steps[s] != STEP_TRAIN)
                    continue;
                bool twice = c.recipe.setting && str_eq(c.recipe.setting, "fold=two"); /* each convolution */
                assert_true(got.launches <= (twice ? MOST_LAUNCHES_TWICE : MOST_LAUNCHES));
                if (!(got.cpu_s <= MOST_SECONDS))
                    fail_msg("code for a training step took %.1f s of one processor", got.cpu_s);
            }
}

static void check_net(const char *net)
{
    Arena        a = arena_new("nvrtc");
    Diag         quiet = diag_new(NULL);
    const Nvrtc *t = nvrtc_load(&a, &quiet);
    if (!t) {
        print_message("skipped: %s", quiet.text.s);
        skip();
    }
    Nvrtc watched = *t;
    real_log = t->log;
    n_warned = 0;
    watched.log = log_and_count;
    print_message("NVRTC %d.%d of %s\n", t->version_major, t->version_minor, t->path);
    print_message("%-46s  %-6s  %8s  %9s  %8s  %9s  %9s  %6s  %5s  %6s  %6s\n", "program", "for", "launches",
                  "functions", "text KiB", "code KiB", "registers", "shared", "full", "s", "cpu s");
    compile_net(&watched, net);
    if (n_warned > 0)
        fail_msg("NVRTC warns of the texts of %d programs", n_warned);
    diag_free(&quiet);
    arena_free(&a);
}

static void test_mnist(void **state)
{
    (void)state;
    check_net("mnist");
}

static void test_resnet20(void **state)
{
    (void)state;
    check_net("resnet20");
}

/* All of it is skipped, then (ctest knows 77), where there is no NVRTC. */
static bool have_nvrtc(void)
{
    Arena a = arena_new("nvrtc");
    Diag  quiet = diag_new(NULL);
    bool  have = nvrtc_load(&a, &quiet) != NULL;
    diag_free(&quiet);
    arena_free(&a);
    return have;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_mnist), cmocka_unit_test(test_resnet20) };
    int                     status = cmocka_run_group_tests(tests, NULL, NULL);
    return status == 0 && !have_nvrtc() ? 77 : status;
}
