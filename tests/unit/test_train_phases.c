/* test_train_phases.c: runs of more than one train program, runs that calibrate, runs that train nothing, and runs that
 * are tested twice; each killed and resumed against one that was left alone. */
#include "tests/unit/train_fixture.h"

/* A number of the last checkpoint of a run. */
static float tensor_of_run(Fixture *f, const char *dir, const char *name)
{
    StFile *s = st_read(&f->arena, &f->diag, arena_printf(&f->arena, "%s/%s/" RUN_LAST, f->dir, dir));
    assert_non_null(s);
    int32_t k = st_find(s, name);
    float   x;
    assert_true(k >= 0);
    memcpy(&x, s->tensors.at[k].data, sizeof x);
    return x;
}

static char *text_of(Fixture *f, const char *name)
{
    size_t len;
    return (char *)read_bytes(f, path_in(f, name), &len);
}

/* ---- Phases ---------------------------------------------------------------------------------------------------- */

/* The step at which a phase begins is the first whole one; a share of the run that is a whole step but for its rounding
 * is that step. */
static void phases_begin_at_their_step(void **state)
{
    Fixture *f = *state;
    make_data(f);
    const struct {
        double from;
        int    early;
    } cases[] = { { 1.5, 30 }, { 1.51, 31 }, { 1.0 / 20, 1 }, { 7 * 0.05 * 3, 21 }, { 3.999, EPOCHS * STEPS } };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        const char *dir = arena_printf(&f->arena, "a%d", i);
        assert_int_equal(run(f, (Variant){ USUAL, .out = dir, .more = true, .late_from = cases[i].from }), 0);
        int late = EPOCHS * STEPS - cases[i].early;
        assert_int_equal((int)tensor_of_run(f, dir, "steps"), cases[i].early + LATE * late);
    }
}

static void phases_change_nothing_before_they_begin(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "one", .max_steps = 30 }), 0);
    Variant v = { USUAL, .out = "two", .max_steps = 30, .more = true, .late_from = 1.5 };
    assert_int_equal(run(f, v), 0);
    assert_same_file(f, path_in(f, "one/" RUN_LAST), path_in(f, "two/" RUN_LAST));
    v.out = "three";
    v.max_steps = 31;
    assert_int_equal(run(f, v), 0);
    assert_int_equal((int)tensor_of_run(f, "three", "steps"), 30 + LATE);
}

/* Killed before, at and behind the step where the second program begins, with and without steps on their way. */
static void phases_survive_kills(void **state)
{
    Fixture  *f = *state;
    const int kills[] = { 29, 30, 31, 36 };
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole", .more = true, .late_from = 1.5 }), 0);
    for (int i = 0; i < DT_COUNT(kills); i++) {
        const char *dir = arena_printf(&f->arena, "killed%d", i);
        Variant     v = { USUAL, .out = dir, .more = true, .late_from = 1.5, .deep = i % 2 };
        v.sabotage.kill_at = kills[i];
        v.save_every = i < 2 ? 7 : 1;
        assert_int_equal(run(f, v), -SIGKILL);
        v.sabotage.kill_at = -1;
        v.resume = dir;
        assert_int_equal(run(f, v), 0);
        assert_same_run(f, "whole", dir);
    }
}

/* Losses are read late: those of one program must be read before the other's begin. */
static void phases_with_steps_on_their_way(void **state)
{
    Fixture *f = *state;
    make_data(f);
    for (int deep = 0; deep < 2; deep++) {
        Variant v = { USUAL, .out = deep ? "deep" : "one", .more = true, .late_from = 1.3, .log_every = 40 };
        v.save_every = 0;
        v.deep = deep;
        assert_int_equal(run(f, v), 0);
    }
    assert_same_run(f, "one", "deep");
}

static void phases_are_checked_before_the_first_step(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Dataset    *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    TinyNet    *net = tiny_net(&f->arena, &f->diag, BATCH);
    TrainPhase  wrong = { .train = net->eval, .from_epoch = 1 };
    TrainConfig c = { .train = net->train,
                      .phases = &wrong,
                      .n_phases = 1,
                      .eval = net->eval,
                      .data = data,
                      .id = { "tiny", "lsq", "w4a4", "mnist", BATCH, 1, NULL },
                      .classes = 10,
                      .schedule = { .kind = SCHEDULE_CONSTANT, .lr = 0.01, .epochs = 2 },
                      .out = path_in(f, "a") };
    assert_int_equal(train_run(&f->arena, &f->diag, &c).status, TRAIN_FAILED);
    assert_one_error(f, "program eval has no input 'lr'");
    assert_int_not_equal(access(path_in(f, "a"), F_OK), 0);
}

/* ---- Calibration ----------------------------------------------------------------------------------------------- */

/* The largest magnitude of the first two training batches, without augmentation. */
static float largest_pixel(Fixture *f)
{
    Dataset *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    Loader  *l = loader_new(
        &f->arena, &f->diag,
        (LoaderConfig){
             .data = data, .split = SPLIT_TRAIN, .batch = BATCH, .normalise = { { 0.3f }, { 0.25f } }, .seed = 42 });
    float   image[BATCH * DIGIT], most = 0;
    int32_t label[BATCH];
    loader_start(l, 0, 0);
    for (int b = 0; b < 2; b++) {
        loader_next(l, &(BatchOut){ .image = image, .label = label });
        for (int i = 0; i < BATCH * DIGIT; i++)
            most = fmaxf(most, fabsf(image[i]));
    }
    loader_free(l);
    return most;
}

/* A calibrated step is there before the first step; the first batch, which would set it otherwise, has nothing to say,
 * as no other quantizer has a leaf. */
static void calibration_comes_before_the_first_batch(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "first", .more = true, .untrained = true }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "max", .more = true, .untrained = true, .calibrate = true }), 0);
    float first = tensor_of_run(f, "first", "fc.act.step"), max = tensor_of_run(f, "max", "fc.act.step");
    assert_true(fabsf(max - largest_pixel(f) / 7) < 1e-6f);
    assert_true(fabsf(first - max) > 0.1f); /* what the init program gives */
}

/* Weights of the same method and bits bring their ranges along; others are calibrated. */
static void calibration_is_left_out_where_ranges_are_given(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "first", .more = true, .untrained = true }), 0);
    Variant v = { USUAL, .out = "again", .init_from = "first/" RUN_LAST, .more = true, .untrained = true };
    v.calibrate = true;
    assert_int_equal(run(f, v), 0);
    assert_true(tensor_of_run(f, "again", "fc.act.step") == tensor_of_run(f, "first", "fc.act.step"));
}

static void calibrated_runs_resume(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole", .more = true, .calibrate = true }), 0);
    Variant v = { USUAL, .out = "a", .more = true, .calibrate = true };
    v.sabotage.kill_at = 3; /* the first checkpoint alone is there */
    assert_int_equal(run(f, v), -SIGKILL);
    v.sabotage.kill_at = -1;
    v.resume = "a";
    assert_int_equal(run(f, v), 0);
    assert_same_run(f, "whole", "a");
}

/* ---- Runs of no epochs ----------------------------------------------------------------------------------------- */

static void a_run_of_no_epochs_is_tested_once(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .more = true, .untrained = true, .inspect_every = -1, .say = "say" };
    assert_int_equal(run(f, v), 0);
    assert_said(f, "say", "without training  test loss ");
    assert_said(f, "say", "result epoch 0 step 0");
    char *csv = text_of(f, "a/" RUN_CSV), *jsonl = text_of(f, "a/" RUN_JSONL);
    assert_non_null(strstr(csv, "\n0,0,,,,2."));
    assert_ptr_equal(strstr(jsonl, "{\"kind\":\"inspect\",\"epoch\":0,\"step\":0,"), jsonl);
    assert_non_null(strstr(jsonl, "\n{\"kind\":\"epoch\",\"epoch\":0,\"step\":0,\"test_loss\":2."));
    assert_same_file(f, path_in(f, "a/" RUN_BEST), path_in(f, "a/" RUN_LAST));
    v.out = "b";
    assert_int_equal(run(f, v), 0);
    assert_same_run(f, "a", "b");
    v.resume = "b"; /* done is done */
    assert_int_equal(run(f, v), 0);
    assert_same_run(f, "a", "b");
}

/* Stopped while it is tested, it is not done. */
static void a_run_of_no_epochs_resumes(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .more = true, .untrained = true, .inspect_every = -1 };
    assert_int_equal(run(f, v), 0);
    v.out = "b";
    v.stopped = true;
    v.catch_signals = true;
    assert_int_equal(run(f, v), 130);
    assert_string_equal(text_of(f, "b/" RUN_JSONL), "");
    v.resume = "b";
    v.stopped = false;
    assert_int_equal(run(f, v), 0);
    assert_same_run(f, "a", "b");
}

/* ---- Tested twice ---------------------------------------------------------------------------------------------- */

static void both_tests_are_recorded(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "twice", .more = true, .clamped = true, .eval_every = 3, .say = "say" };
    assert_int_equal(run(f, v), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "once", .eval_every = 3 }), 0);
    assert_said(f, "say", "  clamped ");
    assert_same_file(f, path_in(f, "once/" RUN_CSV), path_in(f, "twice/" RUN_CSV));
    char *text = text_of(f, "twice/" RUN_JSONL);
    int   tested = 0, clamped = 0, differ = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *loss = strstr(line, "\"test_loss\":"), *other = strstr(line, "\"test_loss_clamped\":");
        tested += loss != NULL;
        clamped += other != NULL && strstr(line, "\"test_top1_clamped\":") != NULL;
        differ += loss && other && fabs(strtod(loss + 12, NULL) - strtod(other + 20, NULL)) > 1e-6;
    }
    assert_true(tested == 2 && clamped == 2 && differ == 2);
    assert_null(strstr(text_of(f, "once/" RUN_JSONL), "clamped"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(phases_begin_at_their_step),
        TEST(phases_change_nothing_before_they_begin),
        TEST(phases_survive_kills),
        TEST(phases_with_steps_on_their_way),
        TEST(phases_are_checked_before_the_first_step),
        TEST(calibration_comes_before_the_first_batch),
        TEST(calibration_is_left_out_where_ranges_are_given),
        TEST(calibrated_runs_resume),
        TEST(a_run_of_no_epochs_is_tested_once),
        TEST(a_run_of_no_epochs_resumes),
        TEST(both_tests_are_recorded),
    };
    return cmocka_run_group_tests_name("train_phases", tests, NULL, NULL);
}
