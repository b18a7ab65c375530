/* test_keep.c: which checkpoints of a run are kept, which one it goes on from when the newest is damaged, what a full
 * disk leaves, and when a run without progress ends. Every run that goes on is compared with one that was left alone.
 */
#include "tests/unit/train_fixture.h"

#include <sys/stat.h>

static bool is_there(Fixture *f, const char *path)
{
    return access(path_in(f, path), F_OK) == 0;
}

static void damage(Fixture *f, const char *path)
{
    size_t   len;
    uint8_t *b = read_bytes(f, path_in(f, path), &len);
    b[len / 2] ^= 1;
    unlink(path_in(f, path)); /* it may have two names */
    write_file(path_in(f, path), b, len);
}

static void newest_epochs_are_kept(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "all", .keep_every = 1 }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "two", .keep_every = 1, .keep = 2 }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "even", .keep_every = 2 }), 0);
    for (int e = 1; e <= EPOCHS; e++) {
        const char *name = arena_printf(&f->arena, RUN_KEPT, (long long)e);
        assert_true(is_there(f, arena_printf(&f->arena, "all/%s", name)));
        assert_int_equal(is_there(f, arena_printf(&f->arena, "two/%s", name)), e > EPOCHS - 2);
        assert_int_equal(is_there(f, arena_printf(&f->arena, "even/%s", name)), e % 2 == 0);
    }
    assert_same_file(f, path_in(f, "all/epoch-0004.safetensors"), path_in(f, "all/" RUN_LAST));
    assert_same_file(f, path_in(f, "all/epoch-0002.safetensors"), path_in(f, "even/epoch-0002.safetensors"));
    assert_same_run(f, "all", "two");
}

/* The run goes on from the one before, warns, and comes to the same bytes. */
static void goes_on_from_the_one_before(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 33 }), 0);
    damage(f, "a/" RUN_LAST);
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_said(f, "say", "a/" RUN_LAST " cannot be used: the run goes on from ");
    assert_said(f, "say", "a/" RUN_PREVIOUS ", after step 28");
    assert_said(f, "say", "is damaged: its checksum is");
    assert_true(is_there(f, "a/" RUN_DAMAGED));
    assert_same_run(f, "whole", "a");
    /* The damaged one has not become the one before. */
    TinyNet   *net = tiny_net(&f->arena, &f->diag, BATCH);
    TrainState s;
    assert_true(checkpoint_load(&f->diag, path_in(f, "a/" RUN_PREVIOUS), net->train, &s));
    assert_no_errors(f);
}

static void goes_on_from_an_older_one(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole", .keep_every = 1 }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .keep_every = 1, .max_steps = 70 }), 0);
    damage(f, "a/" RUN_LAST);
    damage(f, "a/" RUN_PREVIOUS);
    damage(f, "a/epoch-0003.safetensors");
    Variant v = { USUAL, .resume = "a", .say = "say", .keep_every = 1 };
    assert_int_equal(run(f, v), 0);
    assert_said(f, "say", "a/epoch-0002.safetensors, after step 40");
    assert_same_run(f, "whole", "a");
    assert_same_file(f, path_in(f, "whole/epoch-0003.safetensors"), path_in(f, "a/epoch-0003.safetensors"));
}

/* As after a kill on a file system where a file has one name. */
static void goes_on_when_the_last_is_missing(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 33 }), 0);
    assert_int_equal(rename(path_in(f, "a/" RUN_LAST), path_in(f, "a/" RUN_PREVIOUS)), 0);
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_said(f, "say", "it is not there");
    assert_same_run(f, "whole", "a");
}

static void all_damaged_is_a_mistake(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 33 }), 0);
    damage(f, "a/" RUN_LAST);
    damage(f, "a/" RUN_PREVIOUS);
    assert_int_equal(resume_until_done(f, "a"), 1);
    assert_said(f, "say", "a/" RUN_LAST " is damaged");
    assert_true(is_there(f, "a/" RUN_LAST)); /* nothing was touched */
    assert_false(is_there(f, "a/" RUN_DAMAGED));
}

/* The disk fills up at a checkpoint in the middle of a run: what was there stays, the message says where the run
 * stands, and it goes on to the bytes of a run that never met a limit. */
static void full_disk_leaves_the_one_before(void **state)
{
    Fixture    *f = *state;
    struct stat st;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 28 }), 0);
    assert_int_equal(stat(path_in(f, "a/" RUN_LAST), &st), 0);
    Variant v = { USUAL, .resume = "a", .say = "say", .file_limit = st.st_size - 1 };
    assert_int_equal(run(f, v), 1);
    assert_said(f, "say", "cannot write ");
    assert_said(f, "say", "a/" RUN_LAST " is whole, as it was after step 28");
    assert_said(f, "say", "go on with --resume ");
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_same_run(f, "whole", "a");
}

static int64_t last_epoch(Fixture *f, const char *dir)
{
    size_t len;
    char  *csv = (char *)read_bytes(f, arena_printf(&f->arena, "%s/%s/" RUN_CSV, f->dir, dir), &len);
    for (char *at = strrchr(csv, '\n') - 1;; at--)
        if (*at == '\n')
            return atoi(at + 1);
}

/* With a learning rate that moves nothing no epoch after the first is better. */
static void patience_ends_a_run(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .say = "say", .patience = 2 };
    v.lr = 1e-9;
    assert_int_equal(run(f, v), 0);
    assert_int_equal(last_epoch(f, "a"), 3);
    assert_said(f, "say", "ends early: none of the last 2 epochs was better than epoch 1");
    /* Resumed, it is done; killed on its way, it ends at the same place. */
    Variant again = { USUAL, .resume = "a", .say = "say", .patience = 2 };
    again.lr = 1e-9;
    assert_int_equal(run(f, again), 0);
    assert_int_equal(last_epoch(f, "a"), 3);
    v.out = "b";
    v.max_steps = 50;
    assert_int_equal(run(f, v), 0);
    again.resume = "b";
    assert_int_equal(run(f, again), 0);
    assert_same_run(f, "a", "b");
    /* A run that learns is not ended. */
    assert_int_equal(run(f, (Variant){ USUAL, .out = "c", .patience = 4 }), 0);
    assert_int_equal(last_epoch(f, "c"), EPOCHS);
}

/* Without a better one in two epochs of which only every second is tested. */
static void patience_counts_tested_epochs(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant v = { USUAL, .out = "a", .patience = 1, .eval_every = 3 };
    v.lr = 1e-9;
    assert_int_equal(run(f, v), 0);
    assert_int_equal(last_epoch(f, "a"), EPOCHS); /* epoch 3 is the first that is tested, and the best */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(newest_epochs_are_kept),    TEST(goes_on_from_the_one_before),
        TEST(goes_on_from_an_older_one), TEST(goes_on_when_the_last_is_missing),
        TEST(all_damaged_is_a_mistake),  TEST(full_disk_leaves_the_one_before),
        TEST(patience_ends_a_run),       TEST(patience_counts_tested_epochs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
