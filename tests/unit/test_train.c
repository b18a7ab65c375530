/* test_train.c: schedules, first values, run directories, and the loop: the same seed twice, killed and resumed,
 * interrupted, diverged, on a full disk - each against a run that was left alone, byte by byte. */
#include "runtime/data_impl.h"
#include "tests/unit/train_fixture.h"

/* ---- Learning rate --------------------------------------------------------------------------------------------- */

static void assert_close(double a, double b)
{
    if (!(fabs(a - b) <= 1e-15 + 1e-14 * fabs(b)))
        fail_msg("%.17g, expected %.17g", a, b);
}

static void cosine_goes_from_lr_to_zero(void **state)
{
    (void)state;
    Schedule s = { .kind = SCHEDULE_COSINE, .lr = 0.1, .epochs = 10, .steps_per_epoch = 100 };
    assert_close(schedule_lr(&s, 0), 0.1);
    assert_close(schedule_lr(&s, 250), 0.1 * (1 + sqrt(0.5)) / 2);
    assert_close(schedule_lr(&s, 500), 0.05);
    assert_true(schedule_lr(&s, 999) > 0 && schedule_lr(&s, 999) < 1e-6);
    assert_true(schedule_lr(&s, 1000) == 0 && schedule_lr(&s, 5000) == 0);
    s.warmup_epochs = 0.99; /* 99 steps */
    assert_close(schedule_lr(&s, 0), 0.1 / 100);
    assert_close(schedule_lr(&s, 49), 0.05);
    assert_close(schedule_lr(&s, 99), 0.1);
    assert_close(schedule_lr(&s, 99 + 901 / 2), 0.05 * (1 + cos(M_PI * 450 / 901)));
}

static void steps_fall_at_milestones(void **state)
{
    Fixture *f = *state;
    Schedule s = { .lr = 0.1, .epochs = 200, .steps_per_epoch = 390 };
    assert_true(schedule_parse(&f->diag, "step:100,150", &s));
    assert_true(schedule_check(&f->diag, &s));
    assert_close(schedule_lr(&s, 100 * 390 - 1), 0.1);
    assert_close(schedule_lr(&s, 100 * 390), 0.01);
    assert_close(schedule_lr(&s, 150 * 390 - 1), 0.01);
    assert_close(schedule_lr(&s, 150 * 390), 0.001);
    assert_true(schedule_parse(&f->diag, "step:3:0.5", &s));
    assert_true(s.n_milestones == 1 && s.milestones[0] == 3 && s.gamma == 0.5);
    assert_true(schedule_parse(&f->diag, "constant", &s));
    assert_close(schedule_lr(&s, 77777), 0.1);
    assert_no_errors(f);
    static const char *const bad[] = {
        "",         "cos",     "step",        "step:",   "step:1,",
        "step:1,x", "step:1:", "step:1:0.1x", "step:-1", "step:1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"
    };
    for (int i = 0; i < DT_COUNT(bad); i++) {
        assert_false(schedule_parse(&f->diag, bad[i], &s));
        assert_one_error(f, "is none of cosine, constant");
    }
    const Schedule wrong[] = {
        { .lr = 0, .epochs = 1 },
        { .lr = NAN, .epochs = 1 },
        { .lr = 1, .epochs = -1 },
        { .lr = 1, .epochs = 2, .warmup_epochs = 3 },
        { .kind = SCHEDULE_STEP, .lr = 1, .epochs = 9, .milestones = { 4, 4 }, .n_milestones = 2, .gamma = 0.1 },
        { .kind = SCHEDULE_STEP, .lr = 1, .epochs = 9, .milestones = { 4 }, .n_milestones = 1, .gamma = 0 },
    };
    for (int i = 0; i < DT_COUNT(wrong); i++) {
        assert_false(schedule_check(&f->diag, &wrong[i]));
        assert_one_error(f, "schedule: ");
    }
}

/* ---- First values ---------------------------------------------------------------------------------------------- */

static void first_values_have_their_distributions(void **state)
{
    (void)state;
    enum { N = 200000, FAN = 50 };
    float     *x = malloc(N * sizeof *x);
    ProgTensor t = {
        .kind = TENSOR_PARAM, .name = "a.weight", .dtype = DTYPE_F32, .rank = 1, .dim = { N }, .elems = N, .fan = FAN
    };
    const struct {
        const char *init;
        double      mean, variance, bound;
    } cases[] = { { "zeros", 0, 0, 0 },
                  { "ones", 1, 0, 1 },
                  { "value", 0.25, 0, 0.25 },
                  { "kaiming", 0, 2.0 / FAN, 6 * sqrt(2.0 / FAN) },
                  { "torch", 0, 1.0 / (3 * FAN), 1 / sqrt((double)FAN) } };
    for (int c = 0; c < DT_COUNT(cases); c++) {
        t.init = cases[c].init;
        t.init_value = 0.25;
        tensor_init(&t, 4, x);
        double sum = 0, squares = 0, largest = 0;
        for (int i = 0; i < N; i++) {
            sum += (double)x[i];
            squares += (double)x[i] * (double)x[i];
            largest = fmax(largest, fabs((double)x[i]));
        }
        double mean = sum / N, variance = squares / N - mean * mean;
        assert_true(fabs(mean - cases[c].mean) <= 5 * sqrt(cases[c].variance / N));
        assert_true(fabs(variance - cases[c].variance) <= 0.02 * cases[c].variance);
        assert_true(largest <= cases[c].bound);
    }
    /* By seed and name, and by nothing else. */
    float kept = x[7];
    t.elems = 8;
    tensor_init(&t, 4, x);
    assert_true(x[7] == kept);
    tensor_init(&t, 5, x);
    assert_true(x[7] != kept);
    t.name = "b.weight";
    tensor_init(&t, 4, x);
    assert_true(x[7] != kept);
    free(x);
}

/* ---- Runs ------------------------------------------------------------------------------------------------------ */

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void a_run_learns_and_leaves_its_files(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .say = "say" }), 0);
    size_t len;
    char  *csv = (char *)read_bytes(f, path_in(f, "a/" RUN_CSV), &len);
    char  *jsonl = (char *)read_bytes(f, path_in(f, "a/" RUN_JSONL), &len);
    assert_int_equal(count_lines(csv), 1 + EPOCHS);
    assert_int_equal(count_lines(jsonl), EPOCHS + EPOCHS * STEPS / 6);
    assert_non_null(strstr(csv, "epoch,step,lr,train_loss,train_top1,test_loss,test_top1,best_top1\n1,20,"));
    assert_non_null(strstr(jsonl, "{\"kind\":\"step\",\"epoch\":1,\"step\":6,\"lr\":0.02727272")); /* 0.05 6 / 11 */
    assert_said(f, "say", "epoch 1/4  step 6/20  30%  loss ");
    assert_said(f, "say", "ms/step (data ");
    assert_said(f, "say", "result epoch 4 step 80");
    /* It learns: the bar's place is easy to see. */
    double loss, top1, test_loss, test_top1, best, lr;
    long   epoch, step;
    char  *last = strrchr(csv, '\n') - 1;
    while (*last != '\n')
        last--;
    assert_int_equal(sscanf(last, "%ld,%ld,%lf,%lf,%lf,%lf,%lf,%lf", &epoch, &step, &lr, &loss, &top1, &test_loss,
                            &test_top1, &best),
                     8);
    assert_int_equal(epoch * 1000 + step, 4080);
    assert_true(test_top1 > 90 && best >= test_top1 && loss < 1);
    RunArgs args = { 0 };
    assert_true(rundir_read_args(&f->arena, &f->diag, path_in(f, "a"), &args));
    assert_int_equal(args.len, 3);
    assert_string_equal(args.at[2].key, "layer");
    assert_string_equal(args.at[2].value, "b=w8a8");
}

/* The mean of train_loss over rows `from` to `to` of a kind in a metrics.jsonl. */
static double mean_loss(Fixture *f, const char *dir, const char *kind, int from, int to)
{
    size_t len;
    char  *text = (char *)read_bytes(f, arena_printf(&f->arena, "%s/%s/" RUN_JSONL, f->dir, dir), &len);
    double sum = 0;
    int    row = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strstr(line, kind) || ++row < from || row > to)
            continue;
        sum += strtod(strstr(line, "\"train_loss\":") + 13, NULL);
    }
    assert_true(row >= to);
    return sum / (to - from + 1);
}

/* Rows of six steps and of an epoch, against the run that writes a row for each step. */
static void rows_are_means_of_their_steps(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "each", .log_every = 1 }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "six" }), 0);
    for (int i = 1; i <= EPOCHS * STEPS / 6; i++)
        assert_true(fabs(mean_loss(f, "six", "\"step\",", i, i) - mean_loss(f, "each", "\"step\",", 6 * i - 5, 6 * i)) <
                    1e-6);
    for (int e = 1; e <= EPOCHS; e++) {
        double each = mean_loss(f, "each", "\"step\",", STEPS * (e - 1) + 1, STEPS * e);
        assert_true(fabs(mean_loss(f, "six", "\"epoch\",", e, e) - each) < 1e-6);
    }
}

static void same_seed_same_bytes(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "b" }), 0);
    assert_same_run(f, "a", "b");
    Variant other = { USUAL, .out = "c" };
    other.seed++;
    assert_int_equal(run(f, other), 0);
    size_t n;
    assert_string_not_equal((char *)read_bytes(f, path_in(f, "a/" RUN_CSV), &n),
                            (char *)read_bytes(f, path_in(f, "c/" RUN_CSV), &n));
}

/* The mean over samples, though the last batch is partly padding; against the eval program on each sample alone. */
static void evaluation_counts_each_sample_once(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Dataset *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    TinyNet *net = tiny_net(&f->arena, &f->diag, BATCH), *one = tiny_net(&f->arena, &f->diag, 1);
    assert_true(program_init(&f->diag, net->train, 3) && program_init(&f->diag, one->train, 3));
    EvalConfig c = { .eval = net->eval, .data = data, .classes = 10 };
    EvalResult r = eval_run(&f->arena, &f->diag, &c);
    c.eval = one->eval;
    EvalResult each = eval_run(&f->arena, &f->diag, &c);
    assert_no_errors(f);
    assert_true(r.ok && r.samples == TEST_SAMPLES);
    assert_true(r.loss == each.loss && r.measure[MEASURE_TOP1] == each.measure[MEASURE_TOP1]);
    assert_close(r.measure[MEASURE_TOP1], 100.0 * (double)eval_correct(&r) / TEST_SAMPLES);
    assert_true(r.loss > 1 && r.loss < 5);
    c.checkpoint = path_in(f, "absent");
    assert_false(eval_run(&f->arena, &f->diag, &c).ok);
    assert_one_error(f, "No such file");
}

/* Killed in the middle of a weight update at 12 different steps, some of them several times over. */
static void killed_inside_steps_and_resumed_gives_the_same_bytes(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    for (uint64_t i = 0; i < 4; i++) {
        const char *dir = arena_printf(&f->arena, "killed%d", (int)i);
        int64_t     at = 0;
        for (uint64_t kill = 0; kill < 3; kill++) {
            Variant v = { USUAL, .out = dir, .resume = kill ? dir : NULL };
            at += rng_u32(i, 1, 0, kill) % 27;
            v.sabotage.kill_at = at;
            assert_int_equal(run(f, v), -SIGKILL);
        }
        assert_int_equal(resume_until_done(f, dir), 0);
        assert_same_run(f, "whole", dir);
    }
}

/* Killed from outside, at any moment of a step, an evaluation or a write. */
static void killed_at_any_time_and_resumed_gives_the_same_bytes(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    int kills = 0;
    for (uint64_t i = 0; kills < 10; i++) {
        const char *dir = arena_printf(&f->arena, "killed%d", (int)i);
        bool        begun = false;
        for (int n = 0;; n++) {
            Variant v = { USUAL, .out = dir, .resume = begun ? dir : NULL };
            v.save_every = 1;
            v.sabotage.slow_us = 1000;
            pid_t pid = start_run(f, &v);
            usleep(20000 + rng_u32(i, 2, 0, (uint64_t)n) % 60000);
            kill(pid, SIGKILL);
            int code = wait_run(pid);
            if (code == 0)
                break;
            assert_int_equal(code, -SIGKILL);
            kills++;
            begun = access(arena_printf(&f->arena, "%s/%s/" RUN_ARGS, f->dir, dir), F_OK) == 0;
        }
        assert_same_run(f, "whole", dir);
    }
}

static void interrupted_run_says_how_to_resume(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    Variant v = { USUAL, .out = "a", .say = "say", .catch_signals = true };
    v.sabotage.int_at = 32;
    assert_int_equal(run(f, v), 130);
    assert_said(f, "say", arena_printf(&f->arena, "interrupted after step 33; go on with --resume %s/a", f->dir));
    assert_said(f, "say", "result epoch 1 step 33");
    v = (Variant){ USUAL, .resume = "a", .catch_signals = true };
    v.sabotage.int_at = 39; /* the last step of an epoch: it is closed after resuming */
    assert_int_equal(run(f, v), 130);
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_same_run(f, "whole", "a");
    assert_int_equal(resume_until_done(f, "a"), 0); /* nothing is left to do */
    assert_same_run(f, "whole", "a");
}

static void max_steps_stops_and_can_go_on(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 31, .say = "say" }), 0);
    assert_said(f, "say", "stopped after step 31  test loss");
    assert_said(f, "say", "result epoch 1 step 31");
    assert_int_equal(run(f, (Variant){ USUAL, .resume = "a", .max_steps = 60, .say = "say" }), 0);
    assert_said(f, "say", "result epoch 3 step 60");
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_same_run(f, "whole", "a");
}

static void divergence_names_the_step_and_saves_nothing(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "good", .max_steps = 28, .say = "say" }), 0);
    Variant v = { USUAL, .out = "a", .say = "say" };
    v.sabotage.nan_at = 30;
    assert_int_equal(run(f, v), 1);
    assert_said(f, "say", "train: the loss is nan at step 31 (epoch 2");
    assert_said(f, "say", "elements of param fc.weight are not finite");
    assert_said(f, "say", "result epoch 1 step 30");
    assert_same_file(f, path_in(f, "a/" RUN_LAST), path_in(f, "good/" RUN_LAST)); /* of step 28 */
}

static void init_from_a_checkpoint(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a" }), 0);
    Variant v = { USUAL, .out = "b", .init_from = "a/" RUN_BEST, .max_steps = 1, .say = "say" };
    assert_int_equal(run(f, v), 0);
    TinyNet   *net = tiny_net(&f->arena, &f->diag, BATCH);
    TrainState a, b;
    assert_true(checkpoint_load(&f->diag, path_in(f, "a/" RUN_BEST), net->train, &a));
    float trained = ((float *)exec_ptr(net->exec, 0, program_tensor(net->train.program, "fc.weight")))[9];
    assert_true(checkpoint_load(&f->diag, path_in(f, "b/" RUN_LAST), net->train, &b));
    float begun = ((float *)exec_ptr(net->exec, 0, program_tensor(net->train.program, "fc.weight")))[9];
    assert_no_errors(f);
    assert_true(fabsf(begun - trained) < 0.01f && b.step == 1 && a.step > 1);
    v.init_from = "absent";
    v.out = "c";
    assert_int_equal(run(f, v), 1);
    assert_said(f, "say", "No such file");
    assert_int_not_equal(access(path_in(f, "c"), F_OK), 0); /* no directory is left behind */
}

static void first_batch_sets_step_sizes_once(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 1 }), 0);
    Dataset *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    TinyNet *net = tiny_net(&f->arena, &f->diag, BATCH);
    /* What the init program computes from the first batch of epoch 0. */
    Loader *l = loader_new(&f->arena, &f->diag,
                           (LoaderConfig){ .data = data,
                                           .split = SPLIT_TRAIN,
                                           .batch = BATCH,
                                           .augment = { .usual = true },
                                           .normalise = { { 0.3f }, { 0.25f } },
                                           .seed = 42 });
    float   image[BATCH * DIGIT];
    int32_t label[BATCH];
    loader_start(l, 0, 0);
    loader_next(l, &(BatchOut){ .image = image, .label = label });
    loader_free(l);
    double sum = 0;
    for (int i = 0; i < BATCH * DIGIT; i++)
        sum += fabs((double)image[i]);
    assert_true(checkpoint_load(&f->diag, path_in(f, "a/" RUN_LAST), net->train, NULL));
    float s = *(float *)exec_ptr(net->exec, 0, program_tensor(net->train.program, "fc.act.step"));
    assert_true(fabs((double)s - 2 * sum / (BATCH * DIGIT)) < 1e-3); /* one small step has been made since */
}

/* ---- Directories ----------------------------------------------------------------------------------------------- */

static void directories_count_up_and_are_not_overwritten(void **state)
{
    Fixture *f = *state;
    make_data(f);
    const char *expected[] = { "runs/tiny/lsq-w4a4", "runs/tiny/lsq-w4a4-2", "runs/tiny/lsq-w4a4-3" };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(f, (Variant){ USUAL, .own_dir = true, .max_steps = 1 }), 0);
        assert_int_equal(access(arena_printf(&f->arena, "%s/%s/" RUN_LAST, f->dir, expected[i]), F_OK), 0);
    }
    assert_int_equal(run(f, (Variant){ USUAL, .out = "runs/tiny/lsq-w4a4", .say = "say" }), 1);
    assert_said(f, "say", "holds a run already");
    assert_int_equal(run(f, (Variant){ USUAL, .resume = "data", .say = "say" }), 1);
    assert_said(f, "say", "is no directory of a run");
    assert_int_equal(access(path_in(f, "data/log.txt"), F_OK), -1);
    write_file(path_in(f, "plain"), "x", 1);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "plain", .say = "say" }), 1);
    assert_said(f, "say", path_in(f, "plain"));
    assert_int_equal(run(f, (Variant){ USUAL, .out = "plain/below", .say = "say" }), 1);
    assert_said(f, "say", "Not a directory");
}

static void one_process_at_a_time(void **state)
{
    Fixture *f = *state;
    make_data(f);
    Variant slow = { USUAL, .out = "a" };
    slow.sabotage.slow_us = 50000;
    pid_t       pid = start_run(f, &slow);
    const char *last = path_in(f, "a/" RUN_LAST);
    for (int i = 0; i < 500 && access(last, F_OK) != 0; i++)
        usleep(10000);
    assert_int_equal(run(f, (Variant){ USUAL, .resume = "a", .say = "say" }), 1);
    assert_said(f, "say", "another process is training in");
    kill(pid, SIGKILL);
    wait_run(pid);
    assert_int_equal(resume_until_done(f, "a"), 0);
}

static void resume_is_of_the_same_run_only(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .max_steps = 30 }), 0);
    Variant v = { USUAL, .resume = "a", .say = "say" };
    v.seed = 43;
    assert_int_equal(run(f, v), 1);
    assert_said(f, "say", "seed is 43 here and 42 there");
    write_file(path_in(f, "a/" RUN_JSONL), "", 0); /* someone removed the rows: a warning, and it goes on */
    assert_int_equal(resume_until_done(f, "a"), 0);
    assert_said(f, "say", "rows are missing");
    write_file(path_in(f, "a/" RUN_ARGS), "{\"lr\": 3}", 9);
    RunArgs args = { 0 };
    assert_false(rundir_read_args(&f->arena, &f->diag, path_in(f, "a"), &args));
    assert_one_error(f, "\"lr\" is neither a text nor an array of texts");
    write_file(path_in(f, "a/" RUN_ARGS), "{\n\"lr\": \"3\",\n", 13);
    assert_false(rundir_read_args(&f->arena, &f->diag, path_in(f, "a"), &args));
    assert_one_error(f, "args.json:3: error: run: ");
}

/* A file limit stands for a full disk: the run ends with a message, and what was saved before can be resumed. */
static void full_disk_ends_the_run(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "whole" }), 0);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .say = "say", .file_limit = 2000 }), 1);
    assert_said(f, "say", "File too large");
    assert_int_equal(resume_until_done(f, "a"), 0); /* no checkpoint was made: it starts again */
    assert_same_run(f, "whole", "a");
    if (access("/dev/full", W_OK) != 0)
        return;
    assert_int_equal(run(f, (Variant){ USUAL, .out = "b", .max_steps = 30 }), 0);
    unlink(path_in(f, "b/" RUN_CSV));
    assert_int_equal(symlink("/dev/full", path_in(f, "b/" RUN_CSV)), 0);
    assert_int_equal(resume_until_done(f, "b"), 1);
    assert_said(f, "say", "metrics.csv: No space left on device");
}

static void mistakes_are_found_before_the_first_step(void **state)
{
    Fixture *f = *state;
    make_data(f);
    const struct {
        Variant     v;
        const char *message;
    } cases[] = {
        { { USUAL, .out = "x", .say = "say", .wrong_batch = true }, "compiled for a batch of 10, the run has 11" },
        { { USUAL, .out = "x", .say = "say", .wrong_classes = true }, "the network has 100 classes, mnist has 10" },
        { { USUAL, .out = "x", .say = "say", .max_steps = -1 }, "--max-steps is -1, expected 0 or more" },
        { { USUAL, .resume = "x", .init_from = "y", .say = "say" }, "--resume goes on with the run in" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        assert_int_equal(run(f, cases[i].v), 1);
        assert_said(f, "say", cases[i].message);
        assert_int_not_equal(access(path_in(f, "x"), F_OK), 0);
    }
    Dataset   *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    TinyNet   *net = tiny_net(&f->arena, &f->diag, BATCH);
    EvalConfig c = { .eval = net->init, .data = data, .classes = 10 };
    assert_false(eval_run(&f->arena, &f->diag, &c).ok);
    assert_one_error(f, "program init has no input 'label'");
    Dataset colour = *data;
    colour.c = 3;
    colour.name = "colour";
    c = (EvalConfig){ .eval = net->eval, .data = &colour, .classes = 10 };
    assert_false(eval_run(&f->arena, &f->diag, &c).ok);
    assert_one_error(f, "program eval takes images [1, 28, 28], but those of colour are [3, 28, 28]");
}

static void epochs_may_go_untested(void **state)
{
    Fixture *f = *state;
    make_data(f);
    assert_int_equal(run(f, (Variant){ USUAL, .out = "a", .eval_every = 3 }), 0);
    size_t len;
    char  *csv = (char *)read_bytes(f, path_in(f, "a/" RUN_CSV), &len);
    int    untested = 0;
    for (char *at = csv; (at = strstr(at, ",,,\n")); at++)
        untested++;
    assert_int_equal(untested, 2); /* epochs 1 and 2; 3 and the last are tested */
}

/* One thousand steps on the real digits, where there are some: logistic regression gets past 80 % by then. */
static void real_mnist_trains(void **state)
{
    Fixture    *f = *state;
    const char *dir = getenv("DETENT_MNIST");
    if (!dir || access(dir, R_OK) != 0)
        skip();
    Dataset    *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = dir });
    TinyNet    *net = tiny_net(&f->arena, &f->diag, BATCH);
    TrainConfig c = { .train = net->train,
                      .eval = net->eval,
                      .init = net->init,
                      .data = data,
                      .id = { "tiny", "float", "float", "mnist", BATCH, 1, NULL },
                      .classes = 10,
                      .normalise = { { 0.1307f }, { 0.3081f } },
                      .schedule = { .kind = SCHEDULE_CONSTANT, .lr = 0.002, .epochs = 1 },
                      .max_steps = 1000,
                      .out = path_in(f, "a") };
    TrainResult r = train_run(&f->arena, &f->diag, &c);
    assert_no_errors(f);
    assert_int_equal(r.status, TRAIN_DONE);
    assert_true(r.step == 1000 && r.epoch == 0);
    if (!(r.test.measure[MEASURE_TOP1] > 80))
        fail_msg("top-1 is %g", r.test.measure[MEASURE_TOP1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(cosine_goes_from_lr_to_zero),
        TEST(steps_fall_at_milestones),
        TEST(first_values_have_their_distributions),
        TEST(a_run_learns_and_leaves_its_files),
        TEST(rows_are_means_of_their_steps),
        TEST(same_seed_same_bytes),
        TEST(evaluation_counts_each_sample_once),
        TEST(killed_inside_steps_and_resumed_gives_the_same_bytes),
        TEST(killed_at_any_time_and_resumed_gives_the_same_bytes),
        TEST(interrupted_run_says_how_to_resume),
        TEST(max_steps_stops_and_can_go_on),
        TEST(divergence_names_the_step_and_saves_nothing),
        TEST(init_from_a_checkpoint),
        TEST(first_batch_sets_step_sizes_once),
        TEST(directories_count_up_and_are_not_overwritten),
        TEST(one_process_at_a_time),
        TEST(resume_is_of_the_same_run_only),
        TEST(full_disk_ends_the_run),
        TEST(mistakes_are_found_before_the_first_step),
        TEST(epochs_may_go_untested),
        TEST(real_mnist_trains),
    };
    return cmocka_run_group_tests_name("train", tests, NULL, NULL);
}
