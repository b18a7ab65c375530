/* The page about runs: well-formed whatever the files hold, needing no other file, and its numbers those of the files;
 * damaged runs are told about. */
#include "cli/cli.h"
#include "cli/report.h"
#include "runtime/metrics.h"
#include "tests/unit/html_check.h"
#include "tests/unit/runtime_fixture.h"

/* ---- Runs on disk ---------------------------------------------------------------------------------------------- */

/* A run of three epochs of ten steps; top-1 ends at `top1`. */
static const char *make_run(Fixture *f, const char *name, const char *args, double top1)
{
    const char *dir = path_in(f, name);
    Str         rows = str_new(&f->arena), log = str_new(&f->arena);
    assert_true(dir_make(&f->diag, dir));
    write_file(arena_printf(&f->arena, "%s/" RUN_ARGS, dir), args, strlen(args));
    for (int e = 1; e <= 3; e++) {
        str_printf(&rows, "{\"kind\":\"step\",\"epoch\":%d,\"step\":%d,\"lr\":0.%d,\"train_loss\":%s}\n", e, 10 * e - 5,
                   4 - e, e == 2 ? "null" : "0.5");
        str_printf(
            &rows,
            "{\"kind\":\"inspect\",\"epoch\":%d,\"step\":%d,\"quantizers\":{\"a.weight\":{\"bits\":4,\"step_min\":0.%d,"
            "\"step_max\":0.5,\"clipped\":0.25,\"snr_db\":15.5,\"oscillating\":0.002,\"dead\":0},\"a.input\":{"
            "\"bits\":8,\"step_min\":0.125,\"step_max\":0.125,\"clipped\":0,\"snr_db\":null}}}\n",
            e, 10 * e, e);
        str_printf(&rows,
                   "{\"kind\":\"epoch\",\"epoch\":%d,\"step\":%d,\"lr\":0.1,\"train_loss\":0.5,\"test_loss\":%g,"
                   "\"test_top1\":%g,\"best_top1\":%g,\"test_odd\":7}\n",
                   e, 10 * e, 90 - top1, top1 - 3 + e, top1);
        str_printf(&log, "2026-01-01 10:00:00  epoch %d/3  train loss 0.5  test loss 1  %d.5 s%s\n", e, 60 * e,
                   e == 1 ? "" : ", 3040 images/s, data wait 0.3 %");
    }
    write_file(arena_printf(&f->arena, "%s/" RUN_JSONL, dir), rows.s, rows.len);
    write_file(arena_printf(&f->arena, "%s/" RUN_LOG, dir), log.s, log.len);
    return dir;
}

static Report read_runs(Fixture *f, const char *const *dirs, int32_t n)
{
    Report r = { .a = &f->arena, .runs = ARENA_ARRAY(&f->arena, ReportRun, n), .n = n };
    for (int32_t i = 0; i < n; i++)
        if (!report_read_run(&f->arena, &f->diag, dirs[i], &r.runs[i]))
            fail_msg("%s", f->diag.text.s);
    report_name_runs(&r);
    return r;
}

/* The page, which must be well formed and stand alone. */
static const char *page_of(Fixture *f, const Report *r, const char *title)
{
    static const char *const outside[] = { "src=\"http", "href=",   "@import", "url(",
                                           "<link",      "<iframe", "fetch(",  "https:" };
    Str                      out = str_new(&f->arena);
    report_page(&out, r, title);
    HtmlCheck c = html_check(out.s);
    if (c.why[0] != 0)
        fail_msg("%s", c.why);
    assert_true(c.elements > 50);
    assert_int_equal(strlen(out.s), out.len); /* no 0 in it */
    for (int32_t i = 0; i < DT_COUNT(outside); i++)
        if (strstr(out.s, outside[i]))
            fail_msg("the page refers to something outside: %s", outside[i]);
    return out.s;
}

static int32_t count_of(const char *text, const char *part)
{
    int32_t n = 0;
    for (; (text = strstr(text, part)) != NULL; text += strlen(part))
        n++;
    return n;
}

static void assert_has(const char *page, const char *part)
{
    if (!strstr(page, part))
        fail_msg("the page lacks '%s'", part);
}

/* The row of a table that begins with this cell's text, up to its end. */
static const char *row_of(Fixture *f, const char *page, const char *first)
{
    const char *at = strstr(page, arena_printf(&f->arena, "%s</th>", first)), *end = at ? strstr(at, "</tr>") : NULL;
    if (!end)
        fail_msg("no row begins with %s", first);
    return arena_strndup(&f->arena, at, (size_t)(end - at));
}

#define ARGS(net, method, more) "{\"net\":\"" net "\",\"method\":\"" method "\",\"bits\":\"w4a4\"" more "}"

/* ---- The checker ----------------------------------------------------------------------------------------------- */

static void the_checker_finds_mistakes(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "<html></html>",
        "<!DOCTYPE html><p>",
        "<!DOCTYPE html><p></b></p>",
        "<!DOCTYPE html><p>a < b</p>",
        "<!DOCTYPE html><p>a & b</p>",
        "<!DOCTYPE html><p title=x></p>",
        "<!DOCTYPE html><p title=\"a<b\"></p>",
        "<!DOCTYPE html><p title=\"a></p>",
        "<!DOCTYPE html><script>",
        "<!DOCTYPE html><p></p>text",
    };
    assert_string_equal(
        html_check("<!DOCTYPE html>\n<p a=\"&lt;\" hidden><br>&amp;&#39;<svg/><script>a<b&&c</script></p>\n").why, "");
    for (int32_t i = 0; i < DT_COUNT(bad); i++)
        if (html_check(bad[i]).why[0] == 0)
            fail_msg("nothing is wrong with %s", bad[i]);
}

/* ---- What the page says ---------------------------------------------------------------------------------------- */

static void tables_hold_the_numbers(void **state)
{
    Fixture          *f = *state;
    const char *const dirs[] = { make_run(f, "one", ARGS("net", "lsq", ",\"lr\":\"0.1\",\"seed\":\"1\""), 81.25),
                                 make_run(f, "two", ARGS("net", "qsin", ",\"lr\":\"0.2\",\"seed\":\"1\""), 79.5) };
    Report            r = read_runs(f, dirs, 2);
    assert_string_equal(r.runs[0].label, "lsq w4a4");
    assert_int_equal(r.runs[0].epochs, 3);
    assert_int_equal(r.runs[0].step, 30);
    assert_true(r.runs[0].seconds == 60.5 + 120.5 + 180.5 && r.runs[0].epoch_seconds == 120.5);
    const char *page = page_of(f, &r, "a title");
    assert_has(page, "<title>a title</title>");
    assert_has(page, "<h1>a title</h1>");
    const char *row = row_of(f, page, "lsq w4a4");
    assert_has(row, "<td>3</td>");
    assert_has(row, "<td class=\"best\">81.25</td>");  /* more is better */
    assert_has(row, "<td class=\"best\">8.7500</td>"); /* less is better: the loss */
    assert_has(row, "<td>7.0000</td>");                /* what nobody knows, and all are alike */
    assert_has(row, "<td>6:02</td>");
    assert_has(row, "<td>120.5</td>");
    row = row_of(f, page, "qsin w4a4");
    assert_has(row, "<td>79.50</td>");
    assert_has(row, "<td>10.5000</td>");
    assert_null(strstr(row, "class=\"best\""));
    row = row_of(f, page, "lr"); /* what they differ in */
    assert_has(row, "<td class=\"text\">0.1</td><td class=\"text\">0.2</td>");
    assert_int_equal(count_of(row_of(f, page, "seed"), "<td"), 1);
    row = row_of(f, page, "a.weight");
    assert_has(row, "<td>4</td><td>0.3</td><td>0.5</td><td class=\"mark\">25.00 !</td><td>15.5</td><td>0.20</td>");
    row = row_of(f, page, "a.input");
    assert_has(row, "<td>8</td><td>0.125</td><td>0.125</td><td>0.00</td><td>-</td><td>-</td>");
    assert_int_equal(count_of(page, "class=\"spark\""), 4);
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 0);
}

/* What runs lack is a "-", and no empty chart. */
static void bare_runs_have_a_page(void **state)
{
    Fixture    *f = *state;
    const char *dir = path_in(f, "bare");
    assert_true(dir_make(&f->diag, dir));
    write_file(arena_printf(&f->arena, "%s/" RUN_ARGS, dir), "{}", 2);
    write_file(arena_printf(&f->arena, "%s/" RUN_JSONL, dir), "", 0);
    Report      r = read_runs(f, &dir, 1);
    const char *page = page_of(f, &r, "");
    assert_int_equal(count_of(page, "<svg"), 0);
    assert_null(strstr(page, "<h2>Quantizers"));
    assert_null(strstr(page, "<h2>Pictures"));
    assert_has(row_of(f, page, "float"), "<td>-</td><td>-</td><td>-</td>");
    assert_no_errors(f);
}

static void curves_are_over_epochs(void **state)
{
    Fixture    *f = *state;
    const char *dir = make_run(f, "one", ARGS("net", "lsq", ""), 81.25);
    Report      r = read_runs(f, &dir, 1);
    const char *page = page_of(f, &r, "t");
    assert_has(page, "data-label=\"lsq w4a4\" data-x=\"1,2,3\" data-y=\"79.25,80.25,81.25\"");
    assert_has(page, "data-label=\"lsq w4a4, training\" data-x=\"0.5,2.5\" data-y=\"0.5,0.5\""); /* null is no point */
    assert_has(page, "lsq w4a4, epoch 3: 81.25</title>");
    assert_has(page, "<figcaption>Learning rate</figcaption>");
    assert_has(page, "<figcaption>SNR, mean over quantizers <small>dB</small></figcaption>");
    assert_has(page, "data-x=\"1,2,3\" data-y=\"12.5,12.5,12.5\""); /* clipped: of 25 % and none */
}

/* Long runs keep extremes, and the page stays small. */
static void long_curves_are_thinned_out(void **state)
{
    Fixture *f = *state;
    enum { N = 20000 };
    ReportPoint *at = ARENA_ARRAY(&f->arena, ReportPoint, N);
    Str          out = str_new(&f->arena);
    for (int32_t i = 0; i < N; i++)
        at[i] = (ReportPoint){ i, i == 12345 ? 100 : sin(i) };
    report_chart(&out, &f->arena, "t", "", &(ChartLine){ .label = "l", .at = at, .n = N }, 1);
    assert_true(out.len < 20000);
    assert_has(out.s, "100");
    assert_has(out.s, "12345");
    out = str_new(&f->arena);
    for (int32_t i = 0; i < N; i++)
        at[i].y = NAN;
    report_chart(&out, &f->arena, "t", "", &(ChartLine){ .label = "l", .at = at, .n = N }, 1);
    assert_int_equal(out.len, 0);
}

/* ---- Text from files ------------------------------------------------------------------------------------------- */

static void text_is_escaped(void **state)
{
    Fixture *f = *state;
    Str      s = str_new(&f->arena);
    html_text(&s, "<b>&\"'</b>\xff\xc3\xa9\xe2\x82\xac\xed\xa0\x80\x01\xc3");
    assert_string_equal(s.s, "&lt;b&gt;&amp;&quot;&#39;&lt;/b&gt;\xef\xbf\xbd\xc3\xa9\xe2\x82\xac"
                             "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    static const char evil[] = "</title><script>alert(1)</script>";
    const char       *dir =
        make_run(f, "<i>&\xff\"", ARGS("</style><script>x</script>", "a\\\"b'<u>", ",\"<k>\":\"\\\"<v>&\""), 80);
    const char       *path = arena_printf(&f->arena, "%s/" RUN_JSONL, dir);
    static const char row[] =
        "{\"kind\":\"inspect\",\"epoch\":1,\"step\":10,\"quantizers\":{\"<q>\\\"&\":{\"step_min\":1,\"<m>\":2}}}\n"
        "{\"kind\":\"epoch\",\"epoch\":1,\"step\":10,\"test_<t>\\\"\":1,\"best_&\":2}\n"
        "{\"kind\":\"<k>\",\"step\":10,\"test_x\":1}\n";
    write_file(path, row, sizeof row - 1);
    Report      r = read_runs(f, &dir, 1);
    const char *page = page_of(f, &r, evil);
    assert_null(strstr(page, "<script>alert"));
    assert_null(strstr(page, "<script>x"));
    assert_has(page, "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;");
    assert_has(page, "&lt;q&gt;&quot;&amp;</th>");
    assert_has(page, "&lt;i&gt;&amp;\xef\xbf\xbd&quot;");
    assert_has(page, "&quot;&lt;v&gt;&amp;</td>");
    assert_has(page, "test &lt;t&gt;&quot;</th>");
}

static void labels_tell_runs_apart(void **state)
{
    Fixture          *f = *state;
    static const char same[] = ARGS("net", "lsq", "");
    const char *const dirs[] = { make_run(f, "a", same, 80), make_run(f, "b", same, 80), make_run(f, "c/a", same, 80),
                                 make_run(f, "d", ARGS("net", "qat", ""), 80) };
    Report            r = read_runs(f, dirs, 4);
    assert_string_equal(r.runs[0].label, "lsq w4a4 (a) #1");
    assert_string_equal(r.runs[1].label, "lsq w4a4 (b)");
    assert_string_equal(r.runs[2].label, "lsq w4a4 (a) #3");
    assert_string_equal(r.runs[3].label, "qat w4a4");
    const char *const nets[] = { dirs[0], make_run(f, "e", ARGS("my/other.c", "lsq", ""), 80) };
    r = read_runs(f, nets, 2);
    assert_string_equal(r.runs[0].label, "net lsq w4a4");
    assert_string_equal(r.runs[1].label, "other.c lsq w4a4");
}

/* ---- Damage ---------------------------------------------------------------------------------------------------- */

static void what_is_no_run_is_told(void **state)
{
    Fixture  *f = *state;
    ReportRun run;
    assert_false(report_read_run(&f->arena, &f->diag, path_in(f, "none"), &run));
    assert_one_error(f, "report: expected the directory of a run, found no args.json in ");
    const char *dir = make_run(f, "x", "{", 80);
    assert_false(report_read_run(&f->arena, &f->diag, dir, &run));
    assert_one_error(f, "args.json:1: error: run: ");
    write_file(arena_printf(&f->arena, "%s/" RUN_ARGS, dir), "{}", 2);
    assert_int_equal(remove(arena_printf(&f->arena, "%s/" RUN_JSONL, dir)), 0);
    assert_false(report_read_run(&f->arena, &f->diag, dir, &run));
    assert_one_error(f, RUN_JSONL);
}

static void damage_is_a_warning(void **state)
{
    Fixture          *f = *state;
    static const char rows[] = "{\"kind\":\"epoch\",\"epoch\":1,\"step\":10,\"test_top1\":55}\n"
                               "{\"kind\":\"epoch\",\"epoch\":2,\"st\n7\n{\"kind\":\"epoch\",\"step\":-1}\n"
                               "{\"kind\":\"epoch\",\"epoch\":4000000000000,\"step\":9}\n"
                               "{\"kind\":\"epoch\",\"epoch\":2,\"step\":20,\"test_top1\":66,\"test_loss\":\"x\"}\n"
                               "{\"kind\":\"inspect\",\"step\":20,\"quantizers\":[1]}\n";
    static const char log[] = "epoch\n  epoch 2/3\n  epoch 1/2  x  5 s\n  epoch 1/2  y  7.5 s\n  epoch 9/9  1 s\n"
                              "  epoch 2/2  z s\n  epoch -1/2  3 s";
    const char       *dir = make_run(f, "x", ARGS("net", "lsq", ""), 80);
    ReportRun         run;
    write_file(arena_printf(&f->arena, "%s/" RUN_JSONL, dir), rows, sizeof rows - 1);
    write_file(arena_printf(&f->arena, "%s/" RUN_LOG, dir), log, sizeof log - 1);
    write_file(arena_printf(&f->arena, "%s/" RUN_BEST, dir), "nonsense", 8);
    assert_true(dir_make(&f->diag, arena_printf(&f->arena, "%s/" RUN_IMAGES, dir)));
    write_file(arena_printf(&f->arena, "%s/" RUN_IMAGES "/index.json", dir), "{", 1);
    assert_true(report_read_run(&f->arena, &f->diag, dir, &run));
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 3);
    assert_has(f->diag.text.s, "metrics.jsonl:2: warning: report: this line is no row of metrics, and others like it");
    assert_has(f->diag.text.s, "best.safetensors is damaged: its number of params is left out");
    assert_has(f->diag.text.s, "/images are left out: ");
    assert_int_equal(run.epochs, 2);
    assert_true(report_last(report_series(&run, "epoch", "test_top1")) == 66);
    assert_null(report_series(&run, "epoch", "test_loss"));
    assert_true(run.seconds == 7.5 && run.epoch_seconds == 7.5); /* the epoch that was trained twice */
    assert_int_equal(run.params, -1);
    Report r = { .a = &f->arena, .runs = &run, .n = 1 };
    report_name_runs(&r);
    page_of(f, &r, "t");
}

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

enum { SIDE = 12 };

static Picture picture(Fixture *f, uint64_t seed, int amount)
{
    Picture p = { .c = 3, .h = SIDE, .w = SIDE + 2, .pixels = arena_alloc(&f->arena, 3 * SIDE * (SIDE + 2)) };
    for (int32_t i = 0; i < 3 * SIDE * (SIDE + 2); i++)
        p.pixels[i] = (uint8_t)(i % 200 + (int)(rng_u32(seed, 1, 0, (uint64_t)i) % 40) * amount / 40);
    return p;
}

static void make_pictures(Fixture *f, const char *dir, uint64_t noise, uint64_t result)
{
    static const char index[] =
        "{\"epoch\":1,\"step\":9,\"channels\":3,\"samples\":[{\"name\":\"<a>\",\"file\":\"0\"}]}";
    const Picture p[PICTURE_KINDS] = { picture(f, noise, 40), picture(f, result, 10), picture(f, 1, 0) };
    const char   *images = arena_printf(&f->arena, "%s/" RUN_IMAGES, dir);
    assert_true(dir_make(&f->diag, images));
    for (int k = 0; k < PICTURE_KINDS; k++)
        assert_true(
            picture_write_png(&f->diag, arena_printf(&f->arena, "%s/0-%s.png", images, picture_kind_names[k]), &p[k]));
    write_file(arena_printf(&f->arena, "%s/index.json", images), index, sizeof index - 1);
}

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char       *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static size_t decode(const char *text, uint8_t *out)
{
    uint32_t bits = 0;
    int      have = 0;
    size_t   n = 0;
    for (; digit_of(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)digit_of(*text);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return n;
}

static const char *score_text(Fixture *f, const Picture *x, const Picture *y)
{
    int64_t n = 3 * SIDE * (SIDE + 2);
    float  *a = ARENA_ARRAY(&f->arena, float, n), *b = ARENA_ARRAY(&f->arena, float, n);
    for (int64_t i = 0; i < n; i++) {
        a[i] = (float)x->pixels[i] / 255;
        b[i] = (float)y->pixels[i] / 255;
    }
    MetricPicture p = metric_picture(a, 3, SIDE, SIDE + 2, true), q = metric_picture(b, 3, SIDE, SIDE + 2, true);
    PictureScore  s = metric_compare(&p, &q, SSIM_VALID);
    return arena_printf(&f->arena, "%.2f dB, SSIM %.4f", s.psnr, s.ssim);
}

static void pictures_stand_side_by_side(void **state)
{
    Fixture *f = *state;
#ifndef DT_HAVE_PICTURES
    skip();
#endif
    const char *const dirs[] = { make_run(f, "a", ARGS("net", "float", ""), 80),
                                 make_run(f, "b", ARGS("net", "lsq", ""), 80),
                                 make_run(f, "c", ARGS("net", "qat", ""), 80) };
    make_pictures(f, dirs[0], 5, 6);
    make_pictures(f, dirs[1], 5, 7);
    make_pictures(f, dirs[2], 8, 9); /* of other noise: a strip of its own */
    Report      r = read_runs(f, dirs, 3);
    const char *page = page_of(f, &r, "t");
    assert_no_errors(f);
    assert_int_equal(count_of(page, "class=\"strip\""), 2);
    assert_int_equal(count_of(page, "<img "), 4 + 3);
    assert_int_equal(count_of(page, "alt=\"&lt;a&gt;, noisy\""), 2);
    const Picture clean = picture(f, 1, 0), noisy = picture(f, 5, 40), mine = picture(f, 7, 10);
    assert_has(page, score_text(f, &noisy, &clean));
    assert_has(page, score_text(f, &mine, &clean));
    const char    *at = strstr(page, "alt=\"&lt;a&gt;, lsq w4a4\"");
    size_t         len = 0;
    const uint8_t *png = read_bytes(f, arena_printf(&f->arena, "%s/" RUN_IMAGES "/0-result.png", dirs[1]), &len);
    uint8_t       *got = arena_alloc(&f->arena, len + 3);
    assert_non_null(at);
    assert_int_equal(decode(strstr(at, "base64,") + 7, got), len);
    assert_memory_equal(got, png, len);
}

/* ---- The command ----------------------------------------------------------------------------------------------- */

static int command(Fixture *f, int n, const char *const *words)
{
    char *argv[8] = { (char *)"detent", (char *)"report" };
    for (int i = 0; i < n; i++)
        argv[2 + i] = arena_strdup(&f->arena, words[i]);
    return cli_run(2 + n, argv, NULL);
}

static void the_command_writes_the_page(void **state)
{
    Fixture    *f = *state;
    const char *dir = make_run(f, "one", ARGS("net", "lsq", ",\"bits\":\"w4a4\""), 81.25), *out = path_in(f, "r.html");
    const char *const twice[] = { dir, "--quiet", "-o", out };
    assert_int_equal(command(f, 4, twice), EXIT_MISTAKE); /* "bits" twice in args.json */
    dir = make_run(f, "one", ARGS("net", "lsq", ""), 81.25);
    assert_int_equal(command(f, 4, twice), EXIT_OK);
    size_t len = 0;
    assert_has((const char *)read_bytes(f, out, &len), "<title>net: lsq w4a4</title>");
    const char *const titled[] = { dir, dir, "--quiet", "--out", out, "--title=a & b" };
    assert_int_equal(command(f, 6, titled), EXIT_OK);
    assert_has((const char *)read_bytes(f, out, &len), "<title>a &amp; b</title>");
    const char *const nowhere[] = { dir, "--quiet", "-o", path_in(f, "none/r.html") };
    assert_int_equal(command(f, 4, nowhere), EXIT_MISTAKE);
    assert_int_equal(command(f, 0, NULL), EXIT_USAGE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_checker_finds_mistakes),  TEST(tables_hold_the_numbers),     TEST(bare_runs_have_a_page),
        TEST(curves_are_over_epochs),      TEST(long_curves_are_thinned_out), TEST(text_is_escaped),
        TEST(labels_tell_runs_apart),      TEST(what_is_no_run_is_told),      TEST(damage_is_a_warning),
        TEST(pictures_stand_side_by_side), TEST(the_command_writes_the_page),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
