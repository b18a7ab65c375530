/* test_inspect.c: what diagnoses say, worked out by hand for a program whose numbers are known (tiny_inspect), in every
 * row of a run, and after a kill at any place between the looks that one diagnosis needs. The real program's numbers
 * are compared in tests/e2e/test_methods.py. */
#include "tests/unit/train_fixture.h"

#include <jansson.h>

static char *text_of(Fixture *f, const char *name)
{
    size_t len;
    return (char *)read_bytes(f, path_in(f, name), &len);
}

/* The rows of diagnoses, parsed. How many. */
static int read_rows(Fixture *f, const char *dir, json_t *rows[], int most)
{
    char *text = text_of(f, arena_printf(&f->arena, "%s/" RUN_JSONL, dir));
    int   n = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *row = json_loads(line, 0, NULL);
        assert_non_null(row);
        if (str_eq(json_string_value(json_object_get(row, "kind")), "inspect")) {
            assert_true(n < most);
            rows[n++] = row;
        } else {
            json_decref(row);
        }
    }
    return n;
}

static double number_of(const json_t *row, const char *quantizer, const char *key)
{
    const json_t *q = json_object_get(json_object_get(row, "quantizers"), quantizer), *x = json_object_get(q, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static int64_t step_of(const json_t *row)
{
    return json_integer_value(json_object_get(row, "step"));
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * fabs(b)))
        fail_msg("%.9g, expected %.9g", a, b);
}

/* Weights whose code after step s - 1 was another one, and after s - 2 the same as now. */
static double expected_oscillating(int64_t s)
{
    int n = 0;
    for (int64_t i = 0; i < CLASSES * DIGIT; i++)
        n += tiny_code(i, s) == tiny_code(i, s - 2) && tiny_code(i, s) != tiny_code(i, s - 1);
    return (double)n / (CLASSES * DIGIT);
}

static void rows_say_what_the_program_counts(void **state)
{
    enum { MOST = EPOCHS * STEPS };
    const int64_t every[] = { -1, 1, 2, 3, 7 };
    Fixture      *f = *state;
    json_t       *rows[MOST];
    make_data(f);
    assert_near(expected_oscillating(50), 0.9 / 4); /* one of four, but for the last class */
    for (int e = 0; e < DT_COUNT(every); e++) {
        const char *dir = arena_printf(&f->arena, "a%d", e);
        assert_int_equal(run(f, (Variant){ USUAL, .out = dir, .more = true, .inspect_every = every[e] }), 0);
        int64_t period = every[e] > 0 ? every[e] : STEPS;
        int     n = read_rows(f, dir, rows, MOST);
        assert_int_equal(n, EPOCHS * STEPS / period);
        for (int i = 0; i < n; i++) {
            const json_t *row = rows[i];
            int64_t       step = (i + 1) * period;
            assert_int_equal(step_of(row), step);
            assert_int_equal(json_integer_value(json_object_get(row, "epoch")), (step - 1) / STEPS + 1);
            assert_near(number_of(row, "fc.weight", "step_min"), 0.125);
            assert_near(number_of(row, "fc.weight", "step_max"), 0.125);
            assert_near(number_of(row, "fc.weight", "clipped"), 0.1);
            assert_near(number_of(row, "fc.weight", "snr_db"), 20);
            assert_near(number_of(row, "fc.weight", "dead"), 1);
            assert_near(number_of(row, "fc.weight", "convergence"), 45 / (0.125 * 0.125) / (CLASSES * DIGIT));
            assert_near(json_number_value(json_object_get(row, "convergence_worst")),
                        45 / (0.125 * 0.125) / (CLASSES * DIGIT));
            if (step > 2)
                assert_near(number_of(row, "fc.weight", "oscillating"), expected_oscillating(step));
            else
                assert_true(isnan(number_of(row, "fc.weight", "oscillating")));
            assert_near(number_of(row, "fc.act", "clipped"), 0.75);
            assert_true(isnan(number_of(row, "fc.act", "dead")) && isnan(number_of(row, "fc.act", "bad")));
            const json_t *act = json_object_get(json_object_get(row, "quantizers"), "fc.act");
            assert_true(json_is_null(json_object_get(act, "snr_db"))); /* no error at all */
            json_decref(rows[i]);
        }
    }
}

/* Looking changes nothing else. */
static void diagnoses_leave_the_run_alone(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "without", .more = true }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "with", .more = true, .inspect_every = 3 }), 0);
    assert_null(strstr(text_of(f, "without/" RUN_JSONL), "inspect"));
    assert_same_file(f, path_in(f, "without/" RUN_CSV), path_in(f, "with/" RUN_CSV));
    StFile *a = st_read(&f->arena, &f->diag, path_in(f, "without/" RUN_BEST));
    StFile *b = st_read(&f->arena, &f->diag, path_in(f, "with/" RUN_BEST));
    for (int32_t i = 0; i < a->tensors.len; i++) {
        int32_t k = st_find(b, a->tensors.at[i].name);
        assert_true(k >= 0);
        assert_memory_equal(a->tensors.at[i].data, b->tensors.at[k].data, (size_t)a->tensors.at[i].bytes);
    }
    for (int32_t i = 0; i < b->tensors.len; i++)
        assert_true(st_find(a, b->tensors.at[i].name) >= 0 ||
                    strncmp(b->tensors.at[i].name, CHECKPOINT_HOST, sizeof CHECKPOINT_HOST - 1) == 0);
}

/* A checkpoint between two looks of one diagnosis holds what the first one saw; one elsewhere holds none of it. */
static void checkpoints_hold_codes_only_where_they_are_wanted(void **state)
{
    Fixture  *f = *state;
    const int kept[] = { 0, 0, 1, 2, 0 }; /* after steps 16 to 20 */
    make_data(f);
    for (int i = 0; i < DT_COUNT(kept); i++) {
        const char *dir = arena_printf(&f->arena, "a%d", i);
        Variant     v = { USUAL, .out = dir, .more = true, .inspect_every = -1, .max_steps = 16 + i };
        assert_int_equal(run(f, v), 0);
        StFile *s = st_read(&f->arena, &f->diag, path_in(f, arena_printf(&f->arena, "%s/" RUN_LAST, dir)));
        int     n = 0;
        for (int32_t k = 0; k < s->tensors.len; k++)
            n += strncmp(s->tensors.at[k].name, CHECKPOINT_HOST, sizeof CHECKPOINT_HOST - 1) == 0;
        assert_int_equal(n, kept[i]);
    }
}

static void diagnoses_survive_kills(void **state)
{
    Fixture      *f = *state;
    const int64_t every[] = { -1, 1, 2, 5 };
    make_data(f);
    for (int e = 0; e < DT_COUNT(every); e++) {
        const char *whole = arena_printf(&f->arena, "whole%d", e);
        assert_int_equal(run(f, (Variant){ USUAL, .out = whole, .more = true, .inspect_every = every[e] }), 0);
        for (int at = 17; at < 22; at++) {
            const char *dir = arena_printf(&f->arena, "killed%d-%d", e, at);
            Variant     v = { USUAL, .out = dir, .more = true, .inspect_every = every[e] };
            v.save_every = 1; /* the last one is of the step before the kill */
            v.deep = at % 2;
            v.sabotage.kill_at = at;
            assert_int_equal(run(f, v), -SIGKILL);
            v.sabotage.kill_at = -1;
            v.resume = dir;
            assert_int_equal(run(f, v), 0);
            assert_same_run(f, whole, dir);
        }
    }
}

/* Said once, though it is seen in every diagnosis; the log has it, and the table. */
static void saturated_quantizers_are_warned_about_once(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .more = true, .inspect_every = 10, .say = "say" };
    assert_int_equal(run(f, v), 0);
    char *said = text_of(f, "say"),
         *first = strstr(said, "warning: train: quantizer fc.act is saturated after step 10");
    assert_non_null(first);
    assert_non_null(strstr(first, "75 % of what it gets lies outside its codes -8 to 7"));
    assert_non_null(strstr(first, "--set 'fc:calibrate=mse'"));
    assert_null(strstr(strstr(first, "after step 10"), "is saturated"));
    char *log = text_of(f, "a/" RUN_LOG);
    assert_non_null(strstr(log, "quantizer fc.act: 75 % of what it gets"));
    assert_non_null(strstr(log, "quantizers after step 80\n    fc.weight "));
}

/* Besides the param, the quantizer that met what is not finite first, in the network's order, with that very batch. */
static void divergence_names_the_first_quantizer(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .more = true, .inspect_every = -1, .say = "say" };
    v.sabotage.nan_at = 30;
    assert_int_equal(run(f, v), 1);
    assert_said(f, "say", "train: the loss is nan at step 31 (epoch 2");
    assert_said(f, "say", "param fc.weight are not finite");
    assert_said(f, "say", "the first quantizer that gets what is not finite is fc.weight: 7840 of 7840 elements");
    v.out = "b";
    v.inspect_every = 0; /* nothing was compiled to look with */
    assert_int_equal(run(f, v), 1);
    assert_null(strstr(text_of(f, "say"), "the first quantizer"));
}

static void a_wrong_period_is_a_mistake(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .more = true, .inspect_every = -2, .say = "say" }), 1);
    assert_said(f, "say", "--inspect-every is -2, expected -1 or more");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(rows_say_what_the_program_counts),
        TEST(diagnoses_leave_the_run_alone),
        TEST(checkpoints_hold_codes_only_where_they_are_wanted),
        TEST(diagnoses_survive_kills),
        TEST(saturated_quantizers_are_warned_about_once),
        TEST(divergence_names_the_first_quantizer),
        TEST(a_wrong_period_is_a_mistake),
    };
    return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
