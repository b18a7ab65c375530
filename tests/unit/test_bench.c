/* detent bench: its tables and its JSON say the same of every variant; profiles add up; a trace covers its step; limits
 * of the machine are numbers. Never that anything is fast. */
#include "cli/bench.h"
#include "tests/unit/cli_fixture.h"

#include <jansson.h>
#include <math.h>

static const char *const variants[] = { "float", "lsq w8a8", "lsq w4a4", "lsq w2a2" };
static const char *const modes[] = { "training", "evaluation" };

#define TINY "$DETENT bench $NETS/tiny.c --batch 2 --rounds 3 "

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *parsed(const char *text, const char *of)
{
    json_error_t err;
    json_t      *root = json_loads(text, JSON_REJECT_DUPLICATES, &err);
    if (!root)
        fail_msg("%s\n%d: %s: %s", of, err.line, err.text, text);
    return root;
}

static json_t *bench_json(Cli *c, const char *script)
{
    Ran r = cli_ok(c, arena_printf(&c->a, "%s --json", script));
    return parsed(r.out, script);
}

static double real(const json_t *row, const char *key)
{
    const json_t *x = json_object_get(row, key);
    if (!json_is_number(x))
        fail_msg("%s is no number", key);
    assert_true(isfinite(json_number_value(x)));
    return json_number_value(x);
}

static int64_t whole(const json_t *row, const char *key)
{
    if (!json_is_integer(json_object_get(row, key)))
        fail_msg("%s is no whole number", key);
    return json_integer_value(json_object_get(row, key));
}

static const char *text(const json_t *row, const char *key)
{
    if (!json_is_string(json_object_get(row, key)))
        fail_msg("%s is no text", key);
    return json_string_value(json_object_get(row, key));
}

static bool is_null(const json_t *row, const char *key)
{
    return json_is_null(json_object_get(row, key));
}

static const json_t *variant_at(const json_t *root, size_t mode, size_t i)
{
    const json_t *m = json_array_get(json_object_get(root, "modes"), mode);
    return json_array_get(json_object_get(m, "variants"), i);
}

/* ---- What is said ------------------------------------------------------------------------------------------------ */

static void the_table_has_all_variants_in_both_modes(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, TINY);
    for (int32_t i = 0; i < DT_COUNT(variants); i++)
        assert_int_equal(count_of(r.out, arena_printf(&c->a, "\n%-16s ", variants[i])), 2);
    assert_int_equal(count_of(r.out, "\nvariant "), 2);
    static const char *const columns[] = { "min ms",   "median ms",
                                           "images/s", "/ float",
                                           "planned",  "saved",
                                           "cold s",   "cached s",
                                           "of limit", "training, batch 2\n",
                                           " GB/s",    " GFLOP/s",
                                           "3 rounds", "evaluation, batch 2\n",
                                           "1.000 " };
    for (int32_t i = 0; i < DT_COUNT(columns); i++)
        assert_in(r, r.out, columns[i]);
    Ran more = cli_ok(c, TINY "--no-compile --mode eval --method qat --bits w3a3");
    assert_int_equal(count_of(more.out, "\nqat w3a3 "), 1);
    assert_not_in(more, more.out, "training");
    assert_not_in(more, more.out, "w8a8");
    Ran alone = cli_ok(c, TINY "--no-compile --mode train --method float");
    assert_int_equal(count_of(alone.out, "\nfloat "), 1);
    assert_not_in(alone, alone.out, "lsq");
    assert_not_in(alone, alone.out, "evaluation");
    Ran recipe = cli_ok(c, "printf 'method = lsq+\\nbits = w5a5\\n' > five.recipe\n" TINY
                           "--no-compile --mode eval --recipe five.recipe");
    assert_in(recipe, recipe.out, "\nlsq+ w5a5 ");
    assert_not_in(recipe, recipe.out, "w8a8");
}

static void check_variant(const json_t *v, size_t mode, size_t i)
{
    const json_t *seconds = json_object_get(v, "seconds");
    double        least = INFINITY;
    assert_string_equal(text(v, "variant"), variants[i]);
    assert_int_equal(json_array_size(seconds), 3);
    for (size_t k = 0; k < 3; k++)
        least = fmin(least, json_number_value(json_array_get(seconds, k)));
    assert_true(least > 0 && fabs(least - real(v, "min_seconds")) < 1e-6);
    assert_true(real(v, "median_seconds") >= real(v, "min_seconds"));
    assert_true(real(v, "ratio") > 0 && (i > 0 || real(v, "ratio") == 1));
    assert_true(whole(v, "memory_bytes") > 0 && whole(v, "launches") > 0);
    assert_true(mode == BENCH_TRAIN ? whole(v, "saved_bytes") > 0 : whole(v, "saved_bytes") == 0);
    assert_true(whole(v, "saved_bytes") < whole(v, "memory_bytes"));
    assert_true(real(v, "limit_seconds") > 0);
}

static void json_has_the_numbers(void **state)
{
    Cli    *c = *state;
    json_t *root = bench_json(c, TINY);
    assert_string_equal(text(root, "net"), "tiny");
    assert_int_equal(whole(root, "rounds"), 3);
    assert_int_equal(json_array_size(json_object_get(root, "modes")), 2);
    for (size_t m = 0; m < 2; m++) {
        const json_t *mode = json_array_get(json_object_get(root, "modes"), m);
        assert_string_equal(text(mode, "mode"), modes[m]);
        assert_int_equal(whole(mode, "batch"), 2);
        assert_int_equal(json_array_size(json_object_get(mode, "variants")), DT_COUNT(variants));
        for (size_t i = 0; i < DT_COUNT(variants); i++) {
            check_variant(variant_at(root, m, i), m, i);
            assert_true(real(variant_at(root, m, i), "compile_cold_seconds") > 0);
            assert_true(real(variant_at(root, m, i), "compile_cached_seconds") > 0);
        }
    }
    json_decref(root);
    root = bench_json(c, TINY "--cache off --mode eval --bits w4a4"); /* nothing is kept that could be found again */
    assert_true(real(variant_at(root, 0, 1), "compile_cold_seconds") > 0);
    assert_true(is_null(variant_at(root, 0, 1), "compile_cached_seconds"));
    json_decref(root);
    root = bench_json(c, TINY "--no-compile --mode eval --backend sim --bits w4a4"); /* no GPU is measured */
    assert_true(is_null(root, "limits") && is_null(variant_at(root, 0, 1), "limit_seconds"));
    assert_true(is_null(variant_at(root, 0, 1), "compile_cold_seconds"));
    json_decref(root);
}

/* bench/step and tools/gpu-check talk to it. */
static void it_serves(void **state)
{
    Cli *c = *state;
    Ran  r = cli_ok(c, "printf '\\n\\n\\n' | " TINY "--method lsq --bits w4a4 --serve");
    assert_int_equal(count_of(r.out, "\n"), 4);
    assert_true(strncmp(r.out, "ready compile_seconds=", strlen("ready compile_seconds=")) == 0);
    static const char *const keys[] = { "saved_bytes=", " memory_bytes=", " launches=", " kernels=",
                                        " planned_bytes=" };
    for (int32_t i = 0; i < DT_COUNT(keys); i++)
        assert_true(number_after(r, r.out, keys[i]) > 0);
    for (const char *line = strchr(r.out, '\n') + 1; *line != 0; line = strchr(line, '\n') + 1)
        assert_true(strtod(line, NULL) > 0);
    Ran eval = cli_ok(c, "printf '\\n' | " TINY "--method lsq --bits w4a4 --serve --mode eval");
    assert_true(number_after(eval, eval.out, " launches=") < number_after(r, r.out, " launches="));
    assert_true(number_after(eval, eval.out, "saved_bytes=") == 0);
}

/* ---- Profiles ---------------------------------------------------------------------------------------------------- */

/* tiny: a convolution of 7 x 7 pixels to 4 channels, 3 x 3, of one; linear 196 -> 9 -> 10; two images. */
static void check_costs(const json_t *profile)
{
    size_t        i;
    const json_t *row;
    int32_t       convs = 0, heads = 0;
    json_array_foreach(profile, i, row)
    {
        if (str_eq(text(row, "kind"), "conv")) {
            assert_int_equal(whole(row, "flops"), 2 * 2 * 49 * 4 * 9);
            assert_int_equal(whole(row, "bytes"), 4 * (2 * 49 + 4 * 9 + 2 * 49 * 4));
            convs++;
        }
        if (str_eq(text(row, "kind"), "linear") && whole(row, "flops") == 2 * 2 * 9 * 10) {
            assert_int_equal(whole(row, "bytes"), 4 * (2 * 9 + 9 * 10 + 10 + 2 * 10));
            heads++;
        }
    }
    assert_int_equal(convs, 1);
    assert_int_equal(heads, 1);
}

static void profiles_add_up(void **state)
{
    Cli    *c = *state;
    json_t *root = bench_json(c, TINY "--no-compile --profile --bits w4a4");
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < 2; i++) {
            const json_t *v = variant_at(root, m, i), *profile = json_object_get(v, "profile"), *row;
            size_t        k;
            double        shares = 0, seconds = 0, before = INFINITY, limits = 0;
            assert_int_equal(json_array_size(profile), whole(v, "launches"));
            json_array_foreach(profile, k, row)
            {
                const char *bound = text(row, "bound");
                assert_true(real(row, "seconds") <= before && whole(row, "bytes") > 0);
                assert_true(str_eq(bound, "flops") || str_eq(bound, "cache") || str_eq(bound, "memory"));
                before = real(row, "seconds");
                seconds += before;
                shares += real(row, "share");
                limits += real(row, "limit_seconds");
            }
            assert_true(fabs(shares - 1) < 1e-3);
            assert_true(seconds > 0 && seconds <= real(v, "min_seconds"));
            assert_true(fabs(limits - real(v, "limit_seconds")) < 1e-9 * (double)(1 + json_array_size(profile)));
            if (i == 0)
                check_costs(profile);
        }
    json_decref(root);
}

/* The sum of what stands before " %  " in the rows of a table, from its header on. */
static double shares_of(const char *table, int32_t *rows)
{
    double sum = 0;
    *rows = 0;
    for (const char *line = strchr(table, '\n') + 1; *line == ' '; line = strchr(line, '\n') + 1) {
        char *end;
        (void)strtod(line, &end); /* ms */
        sum += strtod(end, NULL);
        ++*rows;
        if (strchr(line, '\n') == NULL)
            break;
    }
    return sum;
}

static void a_profile_is_a_table(void **state)
{
    Cli    *c = *state;
    Ran     r = cli_ok(c, TINY "--no-compile --mode train --method float --profile --launches 4");
    int32_t kinds, launches;
    assert_in(r, r.out, "float, training: ");
    assert_in(r, r.out, "limits of this machine: ");
    const char *first = strstr(r.out, "    ms/step ");
    assert_non_null(first);
    const char *second = strstr(first + 1, "    ms/step ");
    assert_non_null(second);
    assert_true(fabs(shares_of(first, &kinds) - 100) < 0.06 * kinds);
    assert_true(fabs(shares_of(second, &launches) - 100) < 0.06 * launches);
    assert_int_equal(launches, 5);
    assert_in(r, second, " 100.0 % ");
    assert_in(r, second, " others\n");
    Ran all = cli_ok(c, TINY "--no-compile --mode train --method float --profile --launches 0");
    assert_not_in(all, all.out, " others\n");
    Ran gpu = cli_ok(c, TINY "--no-compile --mode eval --method float --profile --backend sim");
    assert_in(gpu, gpu.out, "not measured on a GPU");
    assert_in(gpu, gpu.out, "these are plain launches");
    assert_in(gpu, gpu.out, " -         -  "); /* no bound, no share of a limit */
}

/* Limits of round numbers: 100 bytes and 1000 flops a second, twice the bytes for what moves 64 of them. */
static void launches_are_held_against_limits(void **state)
{
    Cli           *c = *state;
    const Limits   limits = { .bytes_per_s = 100, .flops_per_s = 1000, .cache_bytes_per_s = 200, .cache_bytes = 64 };
    KernelImage    images[] = { { .bytes = 200, .flops = 10 },
                                { .bytes = 64, .flops = 20 },
                                { .bytes = 64, .flops = 900 } };
    const CallDesc call = { .kind = CALL_CONV_BWD_W,
                            .n = 2,
                            .c = 6,
                            .h = 4,
                            .w = 4,
                            .k = 9,
                            .r = 3,
                            .s = 1,
                            .oh = 4,
                            .ow = 5,
                            .stride = 1,
                            .groups = 3 };
    const BufUse   uses[] = { { .bytes = 40, .access = ACCESS_READ },
                              { .bytes = 30, .access = ACCESS_READ },
                              { .bytes = 15, .access = ACCESS_READ | ACCESS_WRITE } };
    Launch         launches[] = { { .name = "large", .image = 0 },
                                  { .name = "small", .image = 1 },
                                  { .name = "busy", .image = 2, .backward = true },
                                  { .kind = LAUNCH_CALL, .name = "call", .call = call, .uses = uses, .n_bufs = 3 } };
    const double   seconds[] = { 4, 1, 2, 8 };
    static const struct {
        const char *name, *bound;
        int64_t     bytes, flops;
        double      least;
    } want[] = { { "call", "flops", 100, 2 * 2 * 4 * 5 * 9 * 2 * 3, 4.32 },
                 { "large", "memory", 200, 10, 2 },
                 { "busy", "flops", 64, 900, 0.9 },
                 { "small", "cache", 64, 20, 0.32 } };
    const Program p = { .images = images, .n_images = 3, .launches = launches, .n_launches = 4 };
    Profile       found = profile_make(&c->a, &p, seconds, &limits);
    double        least = 0;
    assert_int_equal(found.n, DT_COUNT(want));
    for (int32_t i = 0; i < found.n; i++) {
        const ProfileRow *r = &found.rows[i];
        assert_string_equal(r->launch->name, want[i].name);
        assert_string_equal(r->bound, want[i].bound);
        assert_int_equal(r->bytes, want[i].bytes);
        assert_int_equal(r->flops, want[i].flops);
        assert_true(fabs(r->least - want[i].least) < 1e-12);
        least += want[i].least;
    }
    assert_true(found.seconds == 15 && fabs(found.least - least) < 1e-12);
    const Limits none = { 0 };
    assert_true(profile_make(&c->a, &p, seconds, &none).least == 0);
}

static void limits_are_positive_numbers(void **state)
{
    Cli *c = *state;
    for (int threads = 1; threads <= 2; threads++) {
        Limits at = { 0 };
        assert_true(limits_measure(&c->d, threads, threads == 1 ? 4 : 0, &at));
        const double numbers[] = { at.bytes_per_s, at.cache_bytes_per_s, at.flops_per_s, (double)at.cache_bytes };
        for (int32_t i = 0; i < DT_COUNT(numbers); i++)
            assert_true(isfinite(numbers[i]) && numbers[i] > 1e5);
        assert_int_equal(at.threads, threads);
        assert_true(at.cache_bytes_per_s >= at.bytes_per_s);
        assert_true(threads == 2 || str_eq(at.vectors, "vectors of 4"));
        Limits again = at;
        assert_true(limits_measure(&c->d, threads, threads == 1 ? 4 : 0, &again)); /* the better one of both */
        assert_true(again.bytes_per_s >= at.bytes_per_s && again.flops_per_s >= at.flops_per_s &&
                    again.cache_bytes_per_s >= at.cache_bytes_per_s);
    }
}

/* ---- Traces ------------------------------------------------------------------------------------------------------ */

static int64_t ns(const json_t *event, const char *key)
{
    return llround(1e3 * real(event, key));
}

/* Events of this kind in one row lie one behind another from 0 on, without a gap. Where they end. */
static int64_t covered(const json_t *events, const char *kind, int64_t pid, int64_t tid, int32_t *n)
{
    size_t        i;
    const json_t *e;
    int64_t       at = 0;
    *n = 0;
    json_array_foreach(events, i, e)
    {
        if (!str_eq(text(e, "ph"), "X") || strstr(kind, text(e, "cat")) == NULL || whole(e, "pid") != pid ||
            whole(e, "tid") != tid)
            continue;
        assert_int_equal(ns(e, "ts"), at);
        assert_true(ns(e, "dur") >= 0);
        at += ns(e, "dur");
        ++*n;
    }
    return at;
}

static const json_t *label(const json_t *events, const char *what, int64_t pid, int64_t tid)
{
    size_t        i;
    const json_t *e;
    json_array_foreach(events, i, e)
    {
        if (str_eq(text(e, "ph"), "M") && str_eq(text(e, "name"), what) && whole(e, "pid") == pid &&
            whole(e, "tid") == tid)
            return json_object_get(e, "args");
    }
    fail_msg("no %s of %lld, %lld", what, (long long)pid, (long long)tid);
    return NULL;
}

static void a_trace_covers_its_steps(void **state)
{
    Cli *c = *state;
    cli_ok(c, TINY "--no-compile --bits w4a4 --trace step.json > /dev/null");
    json_t       *root = parsed(cli_read(c, "step.json"), "step.json");
    const json_t *events = json_object_get(root, "traceEvents"), *e;
    for (int64_t pid = 1; pid <= 2; pid++) {
        assert_string_equal(text(label(events, "process_name", pid, 1), "name"), pid == 1 ? "float" : "lsq w4a4");
        for (int64_t tid = 1; tid <= 2; tid++) {
            int32_t steps, parts, launches;
            assert_string_equal(text(label(events, "thread_name", pid, tid), "name"), modes[tid - 1]);
            int64_t ends = covered(events, "step", pid, tid, &steps);
            assert_true(ends > 0);
            assert_int_equal(covered(events, "part", pid, tid, &parts), ends);
            assert_int_equal(covered(events, "call kernel", pid, tid, &launches), ends);
            assert_int_equal(steps, 1);
            assert_true(parts >= (tid == 1 ? 2 : 1) && launches > parts);
        }
    }
    size_t i;
    json_array_foreach(events, i, e)
    {
        const json_t *args = json_object_get(e, "args");
        if (!str_eq(text(e, "ph"), "X") || strstr("call kernel", text(e, "cat")) == NULL)
            continue;
        assert_true(whole(args, "bytes") > 0 && whole(args, "flops") >= 0 && whole(args, "launch") >= 0);
        (void)text(args, "scope");
        (void)text(args, "what");
    }
    json_decref(root);
}

static void text_is_json(void **state)
{
    Cli        *c = *state;
    const char *odd = "a \"b\" \\ c\n\t\x01 \xc3\xa9";
    Str         s = str_new(&c->a);
    str_add(&s, "[");
    json_text(&s, odd);
    str_add(&s, "]");
    json_t *root = parsed(s.s, "json_text");
    assert_string_equal(json_string_value(json_array_get(root, 0)), odd);
    json_decref(root);
}

/* ---- Mistakes ---------------------------------------------------------------------------------------------------- */

static void mistakes_are_told(void **state)
{
    Cli *c = *state;
    Ran  step = cli_expect(c, EXIT_USAGE, TINY "--step eval");
    assert_in(step, step.err, "--step: expected --mode, found --step eval");
    Ran trace = cli_expect(c, EXIT_MISTAKE, TINY "--no-compile --mode eval --bits w4a4 --trace nowhere/t.json");
    assert_in(trace, trace.err, "nowhere/t.json");
    Ran bits = cli_expect(c, EXIT_USAGE, TINY "--method float --bits w4a4");
    assert_in(bits, bits.err, "method 'float' does not quantize");
}

/* Said before any memory is taken: of the machine's, one byte less than the second variant needs is left. */
static void what_does_not_fit_is_not_allocated(void **state)
{
    Cli         *c = *state;
    Session      s = { .arena = arena_new("bench"), .diag = diag_new(NULL), .program = "detent", .out = stdout };
    StrList      none = { 0 };
    char        *words[] = { (char *)"--batch=2", (char *)"--threads=1" };
    BenchVariant v[2] = { { .name = "float", .method = "float", .bits = "float" },
                          { .name = "lsq w4a4", .method = "lsq", .bits = "w4a4" } };
    Bench        b = { .s = &s, .room = 1 << 30, .mode = { true, true }, .v = v, .n = 2 };
    assert_true(cli_parse(&s.arena, &s.diag, OPTS_COMMON | OPTS_RECIPE | OPTS_TARGET | OPTS_RUN | OPTS_BENCH,
                          DT_COUNT(words), words, &s.opt, &none));
    s.model = frontend_find(&s.arena, &s.diag, "mnist");
    assert_non_null(s.model);
    assert_true(bench_open(&b, &v[0]));
    int64_t took = (1 << 30) - b.room;
    assert_true(took >= v[0].step[BENCH_TRAIN].memory_bytes && took > v[0].step[BENCH_EVAL].memory_bytes);
    b.room = took; /* LSQ needs more than float */
    assert_false(bench_open(&b, &v[1]));
    const char *said = arena_strdup(&c->a, s.diag.text.s);
    assert_true(strstr(said, "memory: lsq w4a4 needs ") != NULL && strstr(said, "--mode train") != NULL);
    bench_close(&v[1]);
    bench_close(&v[0]);
    diag_free(&s.diag);
    arena_free(&s.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_has_all_variants_in_both_modes),
        cmocka_unit_test(json_has_the_numbers),
        cmocka_unit_test(it_serves),
        cmocka_unit_test(profiles_add_up),
        cmocka_unit_test(a_profile_is_a_table),
        cmocka_unit_test(launches_are_held_against_limits),
        cmocka_unit_test(limits_are_positive_numbers),
        cmocka_unit_test(a_trace_covers_its_steps),
        cmocka_unit_test(text_is_json),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(what_does_not_fit_is_not_allocated),
    };
    return cmocka_run_group_tests(tests, cli_setup, cli_teardown);
}
