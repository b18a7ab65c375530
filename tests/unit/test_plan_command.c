/* detent plan: its bytes are what the programs of a run allocate, for every method and backend; the batch that it calls
 * the largest fits, and a larger one does not. */
#include "runtime/exec_impl.h"
#include "tests/unit/cli_fixture.h"

#include <jansson.h>

/* ---- What a run allocates -------------------------------------------------------------------------------------- */

typedef struct Run {
    Session     s;
    TrainConfig c;
    int64_t     arena[ARENA_COUNT], total;
} Run;

/* Compiles the programs of a run as training does, one after another, counting what each is given. */
static void load_run(Cli *c, Run *r, const char *net, const char *backend, const char *method, const char *batch)
{
    StrList     none = { 0 };
    const char *words[] = { arena_printf(&c->a, "--method=%s", method), arena_printf(&c->a, "--backend=%s", backend),
                            arena_printf(&c->a, "--batch=%s", batch), "--threads=2",
                            str_eq(method, "float") ? "--bits=float" : "--bits=w4a4" };
    char      **argv = ARENA_ARRAY(&c->a, char *, DT_COUNT(words));
    for (int32_t i = 0; i < DT_COUNT(words); i++)
        argv[i] = arena_strdup(&c->a, words[i]);
    *r = (Run){ .s = { .arena = arena_new("run"), .diag = diag_new(stderr), .program = "detent", .out = stdout } };
    assert_true(cli_parse(&r->s.arena, &r->s.diag, OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_TARGET | OPTS_RUN,
                          DT_COUNT(words), argv, &r->s.opt, &none));
    r->s.opt.cache = "off";
    const DtModel *model = frontend_find(&r->s.arena, &r->s.diag, net);
    assert_non_null(model);
    assert_true(session_open(&r->s, model));
    r->c.inspect_every = -1;
    assert_true(session_train_programs(&r->s, &r->c));
}

/* An empty Exec of the same kind is asked program by program, each behind those before it. */
static void count_run(Run *r)
{
    const Exec     *e = r->s.exec;
    const Program **p = ARENA_ARRAY(&r->s.arena, const Program *, e->programs.len);
    for (int32_t i = 0; i < e->programs.len; i++) {
        p[i] = e->programs.at[i]->program;
        r->arena[ARENA_IO] += p[i]->bytes[ARENA_IO];
        for (ArenaKind k = ARENA_PARAM; k < ARENA_COUNT; k++)
            r->arena[k] = dt_max64(r->arena[k], p[i]->bytes[k]);
    }
    Exec *fresh = r->s.gpu ? exec_new_gpu(&r->s.arena, &r->s.diag, r->s.gpu, r->s.lib, (ExecOptions){ 0 })
                           : exec_new(&r->s.arena, &r->s.diag, r->s.lib, (ExecOptions){ .threads = 1 });
    assert_non_null(fresh);
    r->total = 0;
    for (int32_t i = 0; i < e->programs.len; i++) {
        r->total += exec_memory_needed(fresh, p[i]);
        assert_true(exec_add(fresh, (Program *)(uintptr_t)p[i]) >= 0);
    }
    exec_free(fresh);
}

/* ---- What the command says ------------------------------------------------------------------------------------- */

static json_t *plan_json(Cli *c, const char *script)
{
    Ran          r = cli_ok(c, arena_printf(&c->a, "%s --json", script));
    json_error_t err;
    json_t      *root = json_loads(r.out, JSON_REJECT_DUPLICATES, &err);
    if (!root)
        fail_msg("%s\n%s: %s", script, err.text, r.out);
    return root;
}

static json_t *method_of(const json_t *root, const char *method)
{
    size_t  i;
    json_t *row;
    json_array_foreach(json_object_get(root, "methods"), i, row)
    {
        if (str_eq(json_string_value(json_object_get(row, "method")), method))
            return row;
    }
    fail_msg("no row of method %s", method);
    return NULL;
}

static int64_t number(const json_t *row, const char *key)
{
    const json_t *x = json_object_get(row, key);
    if (!json_is_integer(x))
        fail_msg("%s is no number", key);
    return json_integer_value(x);
}

static void the_plan_is_what_is_allocated(void **state)
{
    Cli *c = *state;
    static const struct {
        const char *net, *backend, *batch;
    } at[] = { { "mnist", "cpu", "24" }, { "mnist", "null", "24" }, { "resnet20", "cpu", "10" } };
    static const char *const methods[] = { "float", "ptq", "lsq", "lsq+", "qsin" };
    for (int32_t i = 0; i < DT_COUNT(at); i++) {
        json_t *root =
            plan_json(c, arena_printf(&c->a, "$DETENT plan %s --backend %s --batch %s --bits w4a4 --threads 2",
                                      at[i].net, at[i].backend, at[i].batch));
        assert_int_equal(json_array_size(json_object_get(root, "methods")), pass_n_methods);
        for (int32_t m = 0; m < DT_COUNT(methods); m++) {
            Run           r;
            const json_t *row = method_of(root, methods[m]);
            load_run(c, &r, at[i].net, at[i].backend, methods[m], at[i].batch);
            count_run(&r);
            const struct {
                const char *key;
                int64_t     want;
            } same[] = { { "params", r.arena[ARENA_PARAM] },
                         { "states", r.arena[ARENA_STATE] },
                         { "values", r.arena[ARENA_WORK] },
                         { "scratch", r.arena[ARENA_SCRATCH] },
                         { "io", r.arena[ARENA_IO] },
                         { "saved", r.c.train.program->saved_bytes },
                         { "programs", r.s.exec->programs.len },
                         { "total", r.total } };
            for (int32_t k = 0; k < DT_COUNT(same); k++)
                if (number(row, same[k].key) != same[k].want)
                    fail_msg("%s %s %s: %s is %lld, a run has %lld", at[i].net, at[i].backend, methods[m], same[k].key,
                             (long long)number(row, same[k].key), (long long)same[k].want);
            session_close(&r.s);
        }
        json_decref(root);
    }
}

/* On the host a process has the program itself in memory, the data set, and nine batches: two each of training,
 * evaluation, diagnosis and calibration, and the one that is diagnosed. What of the program is there depends on the
 * machine and moves a little. */
static void the_largest_batch_fits_and_no_larger_one(void **state)
{
    Cli *c = *state;
    static const struct {
        const char *backend, *memory;
        int64_t     data, batches; /* bytes; of an image */
    } at[] = { { "cpu", "1536M", 70000 * 785, 9 * 28 * 28 * 4 }, { "null", "64M", 0, 0 } };
    for (int32_t i = 0; i < DT_COUNT(at); i++) {
        const char *command = arena_printf(
            &c->a, "$DETENT plan mnist --backend %s --method lsq --bits w4a4 --memory %s", at[i].backend, at[i].memory);
        json_t *root = plan_json(c, command);
        int64_t largest = number(method_of(root, "lsq"), "largest_batch"), room = number(root, "memory");
        assert_int_equal(room, atoll(at[i].memory) << 20);
        assert_true(largest > 8 && largest < 5000);
        assert_int_equal(number(root, "data"), at[i].data);
        assert_true(i == 0 ? number(root, "program") > 16 << 20 : number(root, "program") == 0);
        room -= at[i].data + number(root, "program");
        for (int64_t more = 0; more < 2; more++) {
            int64_t batch = largest + more + (more > 0 && i == 0 ? largest / 20 : 0);
            json_t *there = plan_json(c, arena_printf(&c->a, "%s --batch %lld", command, (long long)batch));
            int64_t total = number(method_of(there, "lsq"), "total") + batch * at[i].batches;
            int64_t again = number(method_of(there, "lsq"), "largest_batch");
            if ((total <= room) != (more == 0))
                fail_msg("%s: a batch of %lld takes %lld bytes of %lld", at[i].backend, (long long)batch,
                         (long long)total, (long long)room);
            assert_true(llabs(again - largest) <= (i == 0 ? largest / 20 : 0)); /* wherever one begins */
            json_decref(there);
        }
        json_decref(root);
    }
    json_t *none = plan_json(c, "$DETENT plan mnist --method float --memory 1M");
    assert_int_equal(number(method_of(none, "float"), "largest_batch"), 0);
    json_decref(none);
}

static void the_table_is_for_people(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "$DETENT plan $NETS/tiny.c");
    assert_in(r, r.out, "tiny, images 1x28x28, batch 32, backend cpu: what a training run takes");
    for (int32_t i = 0; i < pass_n_methods; i++)
        assert_in(r, r.out, arena_printf(&c->a, "\n%s ", pass_methods[i].name));
    assert_in(r, r.out, "the largest batch for a given memory: --memory 4G");
    assert_not_in(r, r.out, "largest batch\n");
    r = cli_ok(c, "$DETENT plan $NETS/tiny.c --backend null --gpu-memory 1G --method qsin --set lambda=1");
    assert_in(r, r.out, "largest batch: in 1.0 GiB");
    assert_in(r, r.out, "largest values at the peak: ");
    assert_in(r, r.out, "not counted, as there is no GPU to ask: the workspace of cuDNN, at most 64.0 MiB");
    r = cli_ok(c, "DETENT_CUDA_DRIVER=/nowhere $DETENT plan $NETS/tiny.c --backend cuda --workspace 1M --method lsq");
    assert_in(r, r.out, "at most 1.0 MiB (--workspace)");
    r = cli_ok(c, "$DETENT plan --help");
    assert_in(r, r.out, "--memory=SIZE");
}

static void mistakes_are_told(void **state)
{
    Cli *c = *state;
    static const struct {
        const char *script;
        int         code;
        const char *says;
    } rows[] = {
        { "$DETENT plan", EXIT_USAGE, "expected a network, found none" },
        { "$DETENT plan nothing", EXIT_MISTAKE, "nothing" },
        { "$DETENT plan mnist --memory lots", EXIT_USAGE, "--memory: expected a number of bytes such as 500M or 8G" },
        { "$DETENT plan mnist --set lambda=1", EXIT_USAGE, "--set: expected --method beside it" },
        { "$DETENT plan mnist --method lqs", EXIT_USAGE, "did you mean lsq" },
        { "$DETENT plan mnist --bits w9", EXIT_USAGE, "found 'w9'" },
        { "$DETENT plan mnist --method lsq --layer x=w2a2", EXIT_MISTAKE, "x" },
        { "$DETENT plan mnist --backend cpu --workspace 1M", EXIT_MISTAKE, "--workspace: expected --backend cuda" },
    };
    for (int32_t i = 0; i < DT_COUNT(rows); i++) {
        Ran r = cli_expect(c, rows[i].code, rows[i].script);
        assert_in(r, r.err, rows[i].says);
        assert_string_equal(r.out, "");
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, cli_setup, cli_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_plan_is_what_is_allocated),
        TEST(the_largest_batch_fits_and_no_larger_one),
        TEST(the_table_is_for_people),
        TEST(mistakes_are_told),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
