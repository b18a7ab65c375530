/* test_plan.c: the memory plan, checked by a second reading of the planned graph: who is alive when follows from the
 * order alone, nothing that is alive overlaps, views and updates lie where they must, and the table adds up. */
#include "tests/unit/pass_fixture.h"

#include "cli/check.h"

static const char chain[] =
    "graph @t.eval {\n"
    "  %0 = input \"x\" : f32[2x8x6x6]\n"
    "  %1 = param \"w1\" : f32[8x8x3x3]\n  %2 = param \"w2\" : f32[8x8x3x3]\n  %3 = param \"w3\" : f32[8x8x3x3]\n"
    "  %4 = conv2d %0, %1 {pad=[1,1,1,1]} : f32[2x8x6x6]\n"
    "  %5 = conv2d %4, %2 {pad=[1,1,1,1]} : f32[2x8x6x6]\n"
    "  %6 = conv2d %5, %3 {pad=[1,1,1,1]} : f32[2x8x6x6]\n"
    "  %7 = global_avgpool %6 : f32[2x8x1x1]\n"
    "  %8 = reshape %7 {channels=8} : f32[2x8]\n"
    "  %9 = param \"h\" : f32[3x8]\n  %10 = linear %8, %9 : f32[2x3]\n"
    "  output %10 \"y\"\n}\n";

static Graph *planned(Fixture *f, const char *text, const char *flags)
{
    Graph *g = fixture_graph(f, text);
    if (!fixture_run(
            f, g,
            arena_printf(&f->a, "--stop-after=plan-memory --verify=all --verify-roundtrip --verify-changed %s", flags)))
        fail_msg("%s", fixture_said(f));
    return g;
}

/* ---- A second reading
 * ---------------------------------------------------------------------------------------------------- */

typedef struct Life {
    ValueId v;
    int32_t first, last; /* launches */
    int64_t begin, end;  /* bytes of the work arena */
} Life;

static ValueId owner(const Graph *g, ValueId v)
{
    while (ir_has(g, v, T_VIEW))
        v = ir_value(g, v)->in[0];
    return v;
}

/* Values of the work arena with their lives: made by one launch, last read by another. */
static int32_t lives(Fixture *f, const Graph *g, Life **out)
{
    int32_t n = 0, *at = ARENA_ARRAY(&f->a, int32_t, g->values.len);
    *out = ARENA_ARRAY(&f->a, Life, g->order.len);
    memset(at, -1, sizeof(int32_t) * (size_t)g->values.len);
    for (int32_t i = 0; i < g->order.len; i++) {
        ValueId      id = g->order.at[i];
        const Value *v = ir_value(g, id);
        for (int32_t k = 0; k < v->n_in; k++) {
            ValueId from = owner(g, v->in[k]);
            if (v->group >= 0 && at[from] >= 0 && v->group > (*out)[at[from]].last)
                (*out)[at[from]].last = v->group;
        }
        if (v->group < 0 || v->place.kind != MEM_WORK)
            continue;
        at[id] = n;
        (*out)[n++] = (Life){ id, v->group, v->group, v->place.offset, v->place.offset + type_bytes(v->type) };
    }
    return n;
}

static void assert_no_overlap(Fixture *f, const Graph *g)
{
    Life   *l;
    int32_t n = lives(f, g, &l);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(l[i].begin % f->target.align_bytes, 0);
        assert_true(l[i].end <= g->bytes[MEM_WORK]);
        for (int32_t j = 0; j < i; j++) {
            bool together = l[i].first <= l[j].last && l[j].first <= l[i].last;
            if (together && l[i].begin < l[j].end && l[j].begin < l[i].end)
                fail_msg("%%%d and %%%d share bytes while both are alive:\n%s", l[i].v, l[j].v, fixture_print(f, g));
        }
    }
}

static int64_t most_alive(Fixture *f, const Graph *g)
{
    Life   *l;
    int64_t most = 0;
    int32_t n = lives(f, g, &l);
    for (int32_t k = 0; k < g->groups.len; k++) {
        int64_t bytes = 0;
        for (int32_t i = 0; i < n; i++)
            if (l[i].first <= k && k <= l[i].last)
                bytes += dt_round_up(l[i].end - l[i].begin, 64);
        most = dt_max64(most, bytes);
    }
    return most;
}

/* ---- Tests
 * ----------------------------------------------------------------------------------------------------------------- */

/* In a chain two buffers are enough, whatever its length. */
static void test_chain_reuses_memory(void **state)
{
    Fixture *f = *state;
    Graph   *g = planned(f, chain, "");
    int64_t  image = 4 * 2 * 8 * 6 * 6;
    assert_no_overlap(f, g);
    assert_int_equal(g->bytes[MEM_WORK], 2 * image);
    assert_int_equal(ir_value(g, 4)->place.offset, ir_value(g, 6)->place.offset);
}

static void test_views_share_memory(void **state)
{
    Fixture *f = *state;
    Graph   *g = planned(f, chain, "");
    assert_int_equal(ir_value(g, 8)->place.kind, ir_value(g, 7)->place.kind);
    assert_int_equal(ir_value(g, 8)->place.offset, ir_value(g, 7)->place.offset);
}

/* Leaves in the order of their making: all programs of a model agree. */
static void test_leaves(void **state)
{
    Fixture *f = *state;
    Graph   *g = planned(f, chain, "");
    int64_t  w = 4 * 8 * 8 * 9;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ir_value(g, 1 + i)->place.kind, MEM_PARAM);
        assert_int_equal(ir_value(g, 1 + i)->place.offset, i * w);
    }
    assert_int_equal(g->bytes[MEM_PARAM], 3 * w + dt_round_up(4 * 3 * 8, 64));
    assert_int_equal(ir_value(g, 0)->place.kind, MEM_IO);
    assert_int_equal(ir_value(g, 10)->place.kind, MEM_IO);
    assert_true(ir_value(g, 10)->place.offset >= 4 * 2 * 8 * 6 * 6);
}

static void test_update_in_place(void **state)
{
    Fixture *f = *state;
    Graph   *g = planned(f,
                         "graph @t.eval {\n  %0 = state \"a\" : f32[100]\n  %1 = input \"x\" : f32[100]\n"
                           "  %2 = ema %0, %1 : f32[100]\n  assign %0, %2\n}\n",
                         "");
    assert_int_equal(ir_value(g, 2)->place.kind, MEM_STATE);
    assert_int_equal(ir_value(g, 2)->place.offset, ir_value(g, 0)->place.offset);
    assert_int_equal(g->bytes[MEM_WORK], 0);
    assert_int_equal(g->groups.len, 1);
}

/* The old value is read by a later launch: the new one waits elsewhere and is copied at the end. */
static void test_copy_when_read_later(void **state)
{
    Fixture *f = *state;
    Graph   *g = planned(f,
                         "graph @t.eval {\n  %0 = state \"a\" : f32[3x8]\n  %1 = input \"x\" : f32[3x8]\n"
                           "  %2 = ema %0, %1 : f32[3x8]\n  assign %0, %2\n"
                           "  %3 = param \"w\" : f32[8x8]\n  %4 = linear %2, %3 : f32[3x8]\n"
                           "  %5 = add %4, %0 : f32[3x8]\n  output %5 \"y\"\n}\n",
                         "");
    assert_int_equal(ir_value(g, 2)->place.kind, MEM_WORK);
    assert_int_equal(fixture_stat(f, "schedule.copies for updates"), 1);
    assert_no_overlap(f, g);
}

/* Whole training steps, with every set of optional passes. */
static void test_training_steps(void **state)
{
    static const char *const flags[] = { "", "--disable-pass=fuse", "--disable-pass=batch",
                                         "--disable-pass=simplify,fuse" };
    static const char *const nets[] = { "resnet20", "mnist" };
    Fixture                 *f = *state;
    f->ctx.step = STEP_TRAIN;
    f->recipe.method = "lsq";
    if (!recipe_parse_bits(&f->recipe, &f->d, "--bits", "w4a4"))
        fail_msg("%s", fixture_said(f));
    for (int n = 0; n < DT_COUNT(nets); n++)
        for (int i = 0; i < DT_COUNT(flags); i++) {
            Graph *g = frontend_build(&f->a, &f->d, frontend_find(&f->a, &f->d, nets[n]), 2, STEP_TRAIN);
            if (!g || !fixture_run(f, g, arena_printf(&f->a, "--stop-after=plan-memory %s", flags[i])))
                fail_msg("%s", fixture_said(f));
            assert_no_overlap(f, g);
            int64_t most = most_alive(f, g);
            assert_true(g->bytes[MEM_WORK] >= most);
            assert_true(g->bytes[MEM_WORK] <= most + most / 4); /* the greedy plan stays near what cannot be avoided */
            assert_true(passes_saved_bytes(g) > 0 && passes_saved_bytes(g) <= most);
        }
}

/* Fusion is what keeps little for backward. */
static void test_fusion_saves_memory(void **state)
{
    Fixture *f = *state;
    int64_t  saved[2];
    f->ctx.step = STEP_TRAIN;
    for (int i = 0; i < 2; i++) {
        Graph *g = frontend_build(&f->a, &f->d, frontend_find(&f->a, &f->d, "resnet20"), 4, STEP_TRAIN);
        if (!g || !fixture_run(f, g, i ? "--stop-after=plan-memory --disable-pass=fuse" : "--stop-after=plan-memory"))
            fail_msg("%s", fixture_said(f));
        saved[i] = passes_saved_bytes(g);
    }
    assert_true(saved[0] < saved[1]);
}

static void test_table(void **state)
{
    Fixture *f = *state;
    planned(f, chain, "--print-plan");
    assert_has(f->text, "plan of t.eval");
    assert_has(f->text, "peak: 4.5 KiB alive at launch 1");
    assert_has(f->text, "work   4.5 KiB");
    assert_has(f->text, "saved for backward: 0 B");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_chain_reuses_memory),
        fixture_test(test_views_share_memory),
        fixture_test(test_leaves),
        fixture_test(test_update_in_place),
        fixture_test(test_copy_when_read_later),
        fixture_test(test_training_steps),
        fixture_test(test_fusion_saves_memory),
        fixture_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
