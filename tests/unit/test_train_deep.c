/* test_train_deep.c: training and testing when many steps are on their way, as on a GPU: results are read late and not
 * one number changes. On an Exec of the host that behaves like that (deep_exec.h). */
#include "tests/unit/train_fixture.h"

/* Losses that are read later are the same losses: with rows and checkpoints that come in between, and without. */
static void steps_on_their_way_change_no_byte(void **state)
{
    Fixture      *f = *state;
    const int64_t rows[] = { 6, 1000, 1, 17 }, saves[] = { 7, 0, 3, 19 };
    make_data(f);
    for (int i = 0; i < DT_COUNT(rows); i++) {
        Variant v = { USUAL, .out = arena_printf(&f->arena, "one%d", i), .log_every = rows[i] };
        v.save_every = saves[i];
        assert_int_equal(run(f, v), 0);
        const char *one = v.out;
        v.out = arena_printf(&f->arena, "many%d", i);
        v.deep = true;
        assert_int_equal(run(f, v), 0);
        assert_same_run(f, one, v.out);
    }
}

static void steps_on_their_way_survive_kills(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole", .log_every = 40 }), 0);
    for (uint64_t i = 0; i < 3; i++) {
        const char *dir = arena_printf(&f->arena, "killed%d", (int)i);
        int64_t     at = 0;
        for (uint64_t kill = 0; kill < 3; kill++) {
            Variant v = { USUAL, .out = dir, .resume = kill ? dir : NULL, .deep = true, .log_every = 40 };
            at += rng_u32(i, 1, 1, kill) % 27;
            v.sabotage.kill_at = at;
            assert_int_equal(run(f, v), -SIGKILL);
        }
        assert_int_equal(run(f, (Variant){ USUAL, .resume = dir, .deep = i != 1, .log_every = 40 }), 0);
        assert_same_run(f, "whole", dir);
    }
}

static void steps_on_their_way_are_read_when_interrupted(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole", .log_every = 1000 }), 0);
    Variant v = { USUAL, .out = "a", .say = "say", .catch_signals = true, .deep = true, .log_every = 1000 };
    v.sabotage.int_at = 32;
    v.save_every = 0;
    assert_int_equal(run(f, v), 130);
    assert_said(f, "say", "interrupted after step 33; go on with --resume");
    assert_said(f, "say", "result epoch 1 step 33");
    assert_int_equal(run(f, (Variant){ USUAL, .resume = "a", .deep = true, .log_every = 1000 }), 0);
    assert_same_run(f, "whole", "a");
}

/* The line of a file that has `part`. */
static const char *said_line(Fixture *f, const char *say, const char *part)
{
    size_t len;
    char  *text = (char *)read_bytes(f, path_in(f, say), &len);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strstr(line, part))
            return line;
    fail_msg("'%s' was not said", part);
    return NULL;
}

/* The first bad loss is noticed while later steps are on their way: step and learning rate are still its own. */
static void divergence_that_is_noticed_late(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "good", .max_steps = 21, .log_every = 1000 }), 0);
    Variant v = { USUAL, .out = "one", .say = "say1", .log_every = 1000 };
    v.sabotage.nan_at = 23;
    assert_int_equal(run(f, v), 1);
    v.out = "many", v.say = "say2", v.deep = true;
    assert_int_equal(run(f, v), 1);
    assert_string_equal(said_line(f, "say1", "the loss is nan"), said_line(f, "say2", "the loss is nan"));
    assert_said(f, "say2", "train: the loss is nan at step 24 (epoch 2, learning rate 0.0");
    assert_said(f, "say2", "elements of param fc.weight are not finite");
    assert_said(f, "say2", "result epoch 1 step 23");
    assert_same_file(f, path_in(f, "many/" RUN_LAST), path_in(f, "good/" RUN_LAST));
}

/* A step that cannot be submitted, one whose results do not come: the run ends, and goes on from its checkpoint. */
static void failed_steps_end_the_run(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "good", .max_steps = 28 }), 0);
    for (int lose = 0; lose < 2; lose++) {
        const char *dir = lose ? "lost" : "failed";
        Variant     v = { USUAL, .out = dir, .say = "say", .deep = true };
        *(lose ? &v.lose : &v.fail) = 33;
        assert_int_equal(run(f, v), 1);
        assert_said(f, "say", "the device was unplugged");
        const char *said = said_line(f, "say", "result epoch 1 step");
        assert_string_equal(said, lose ? "result epoch 1 step 32" : "result epoch 1 step 30"); /* 6 a row */
        assert_same_file(f, arena_printf(&f->arena, "%s/%s/" RUN_LAST, f->dir, dir), path_in(f, "good/" RUN_LAST));
        assert_int_equal(resume_until_done(f, dir), 0);
        assert_same_run(f, "whole", dir);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(steps_on_their_way_change_no_byte),
        TEST(steps_on_their_way_survive_kills),
        TEST(steps_on_their_way_are_read_when_interrupted),
        TEST(divergence_that_is_noticed_late),
        TEST(failed_steps_end_the_run),
    };
    return cmocka_run_group_tests_name("train_deep", tests, NULL, NULL);
}
