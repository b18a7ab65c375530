/* train_fixture.h: whole training runs of the small network of runtime_fixture.h, in child processes: they can be
 * killed, and the parent stays without threads. */
#ifndef DETENT_TESTS_TRAIN_FIXTURE_H
#define DETENT_TESTS_TRAIN_FIXTURE_H

#include "runtime/calibrate.h"
#include "tests/unit/deep_exec.h"
#include "tests/unit/runtime_fixture.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { BATCH = 10, TRAIN = 205, TEST_SAMPLES = 63, EPOCHS = 4, STEPS = 20 }; /* steps an epoch */

/* What a test wants different from the usual run. */
typedef struct Variant {
    const char *out, *resume, *init_from;
    const char *say; /* file for the progress lines and the messages; NULL: nowhere */
    Sabotage    sabotage;
    int64_t     max_steps, save_every, file_limit; /* bytes a file may have; 0: any */
    uint64_t    seed;
    double      lr;
    bool        own_dir, wrong_batch, wrong_classes, catch_signals;
    int64_t     eval_every, log_every; /* 0: usual */
    bool        deep;                  /* sixteen steps on their way; fails at step fail - 1, or when it is read */
    int64_t     fail, lose;            /* 0: never */
    bool        more;                  /* with tiny_more: and of these what is asked for */
    double      late_from;             /* epoch; 0: one phase */
    bool        clamped, calibrate, untrained;
    bool        stopped; /* a signal comes while it is tested */
    int64_t     inspect_every;
    int64_t     keep_every, keep, patience;
} Variant;

#define USUAL .sabotage = { -1, -1, -1, 0 }, .save_every = 7, .seed = 42, .lr = 0.05

UNUSED static QuantSite tiny_site(const char *name, const char *role, int64_t elems)
{
    return (QuantSite){
        .name = name, .layer = "fc", .role = role, .bits = 4, .lo = -8, .hi = 7, .steps = 1, .elems = elems
    };
}

UNUSED static TrainResult run_here(Fixture *f, const Variant *v, FILE *say)
{
    Dataset *data = dataset_open(&f->arena, &f->diag, &(DataRequest){ .name = "mnist", .dir = path_in(f, "data") });
    TinyNet *net = tiny_net(&f->arena, &f->diag, BATCH);
    net->sabotage = v->sabotage;
    if (v->deep)
        deep_exec(net->exec, v->fail - 1, v->lose - 1);
    net->stop_test = v->stopped;
    if (v->more)
        tiny_more(&f->arena, net);
    const TrainPhase late = { .train = net->late, .from_epoch = v->late_from };
    QuantSite        sites[] = { tiny_site("fc.weight", "weight", CLASSES * DIGIT),
                                 tiny_site("fc.act", "act", BATCH * DIGIT) };
    sites[1].step = "fc.act.step";
    sites[1].observed = "observe:fc.act";
    sites[1].kind = v->calibrate ? CALIBRATE_MAX : CALIBRATE_NONE;
    const RunArg args[] = { { "net", "tiny" }, { "layer", "a=w2a2" }, { "layer", "b=w8a8" } };
    TrainConfig  c = { .train = net->train,
                       .eval = net->eval,
                       .init = net->init,
                       .data = data,
                       .id = { "tiny", "lsq", "w4a4", "mnist", v->wrong_batch ? 11 : BATCH, v->seed, NULL },
                       .classes = v->wrong_classes ? 100 : 10,
                       .normalise = { { 0.3f }, { 0.25f } },
                       .schedule = { .kind = SCHEDULE_COSINE,
                                     .lr = v->lr,
                                     .epochs = v->untrained ? 0 : EPOCHS,
                                     .warmup_epochs = v->untrained ? 0 : 0.5 },
                       .phases = v->late_from > 0 ? &late : NULL,
                       .n_phases = v->late_from > 0,
                       .eval_clamped = v->clamped ? net->clamped : (LoadedProgram){ 0 },
                       .observe = net->observe,
                       .inspect = net->inspect,
                       .inspect_every = v->inspect_every,
                       .sites = sites,
                       .n_sites = v->more ? DT_COUNT(sites) : 0,
                       .calibration_batches = 2,
                       .max_steps = v->max_steps,
                       .save_every = v->save_every,
                       .log_every = v->log_every ? v->log_every : 6,
                       .eval_every = v->eval_every,
                       .patience = v->patience,
                       .keep_every = v->keep_every,
                       .keep = v->keep,
                       .runs_root = path_in(f, "runs"),
                       .out = v->own_dir || v->resume ? NULL : path_in(f, v->out),
                       .resume = v->resume ? path_in(f, v->resume) : NULL,
                       .init_from = v->init_from ? path_in(f, v->init_from) : NULL,
                       .args = args,
                       .n_args = DT_COUNT(args),
                       .catch_signals = v->catch_signals,
                       .progress = say };
    return train_run(&f->arena, &f->diag, &c);
}

/* The run in a process of its own: its exit code, or -signal. */
UNUSED static pid_t start_run(Fixture *f, const Variant *v)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid)
        return pid;
    FILE *say = fopen(v->say ? path_in(f, v->say) : "/dev/null", "w");
    if (v->file_limit) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ (rlim_t)v->file_limit, RLIM_INFINITY });
    }
    TrainResult r = run_here(f, v, say);
    fprintf(say, "%s", f->diag.text.s ? f->diag.text.s : "");
    fprintf(say, "result epoch %lld step %lld\n", (long long)r.epoch, (long long)r.step);
    fclose(say);
    _exit(r.exit_code == 0 && f->diag.errors ? 99 : r.exit_code);
}

UNUSED static int wait_run(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

UNUSED static int run(Fixture *f, Variant v)
{
    return wait_run(start_run(f, &v));
}

UNUSED static void assert_said(Fixture *f, const char *say, const char *part)
{
    size_t len;
    char  *text = (char *)read_bytes(f, path_in(f, say), &len);
    if (!strstr(text, part))
        fail_msg("'%s' was not said: %s", part, text);
}

UNUSED static void assert_same_run(Fixture *f, const char *a, const char *b)
{
    static const char *const files[] = { RUN_JSONL, RUN_CSV, RUN_LAST, RUN_BEST, RUN_ARGS };
    for (int i = 0; i < DT_COUNT(files); i++)
        assert_same_file(f, arena_printf(&f->arena, "%s/%s/%s", f->dir, a, files[i]),
                         arena_printf(&f->arena, "%s/%s/%s", f->dir, b, files[i]));
}

UNUSED static void make_data(Fixture *f)
{
    write_mnist(f, path_in(f, "data"), TRAIN, TEST_SAMPLES, false);
}

UNUSED static int resume_until_done(Fixture *f, const char *dir)
{
    return run(f, (Variant){ USUAL, .resume = dir, .say = "say" });
}

#endif
