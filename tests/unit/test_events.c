/* The events for TensorBoard: the bytes of a small file, and larger ones - numbers, histograms, pictures - read back by
 * a parser of their own with a bitwise crc32c of its own; what is damaged or cannot be written is a warning. */
#include "runtime/kept_pictures.h"
#include "runtime/runtime_impl.h"
#include "tests/unit/runtime_fixture.h"

/* ---- Reading back ---------------------------------------------------------------------------------------------- */

enum { MAX_VALUES = 16, MAX_EVENTS = 64 };

typedef struct Scalar {
    const char *tag;
    float       value;
} Scalar;

/* An image or a histogram, as bytes. */
typedef struct Message {
    const char    *tag;
    int32_t        field; /* of the value: 4 image, 5 histogram */
    const uint8_t *at, *end;
} Message;

typedef struct Event {
    double  wall_time;
    int64_t step;
    char   *version; /* NULL: none */
    Scalar  values[MAX_VALUES];
    int32_t count;
    Message messages[MAX_VALUES];
    int32_t n_messages;
} Event;

typedef struct Reader {
    Arena         *arena;
    const uint8_t *at, *end;
} Reader;

static uint32_t slow_crc32c(const uint8_t *data, size_t len)
{
    uint32_t crc = 0xffffffff;
    for (size_t bit = 0; bit < 8 * len; bit++) {
        uint32_t in = data[bit / 8] >> bit % 8 & 1, low = crc & 1;
        crc = in != low ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
    }
    return crc ^ 0xffffffff;
}

static uint32_t slow_masked(const uint8_t *data, size_t len)
{
    uint64_t crc = slow_crc32c(data, len);
    return (uint32_t)(crc / 32768 + crc % 32768 * 131072 + 2726488792U);
}

static uint64_t take_fixed(Reader *r, int32_t bytes)
{
    uint64_t x = 0;
    assert_true(r->end - r->at >= bytes);
    for (int32_t i = bytes - 1; i >= 0; i--)
        x = x * 256 + r->at[i];
    r->at += bytes;
    return x;
}

static uint64_t take_varint(Reader *r)
{
    uint64_t x = 0, byte = 0x80;
    for (int32_t shift = 0; byte & 0x80; shift += 7) {
        assert_true(shift < 64);
        byte = take_fixed(r, 1);
        x |= (byte & 0x7f) << shift;
    }
    return x;
}

static Reader take_bytes(Reader *r, uint64_t len)
{
    assert_true(len <= (uint64_t)(r->end - r->at));
    Reader part = { r->arena, r->at, r->at + len };
    r->at += len;
    return part;
}

static char *rest_text(const Reader *r)
{
    return arena_strndup(r->arena, (const char *)r->at, (size_t)(r->end - r->at));
}

static void read_value(Reader r, Event *e)
{
    Scalar   value = { 0 };
    uint32_t bits;
    assert_int_equal(take_varint(&r), 1 << 3 | 2);
    Reader tag = take_bytes(&r, take_varint(&r));
    value.tag = rest_text(&tag);
    uint64_t key = take_varint(&r);
    if (key != (2 << 3 | 5)) {
        assert_int_equal(key & 7, 2);
        Reader message = take_bytes(&r, take_varint(&r));
        assert_true(e->n_messages < MAX_VALUES);
        e->messages[e->n_messages++] = (Message){ value.tag, (int32_t)(key >> 3), message.at, message.end };
    } else {
        bits = (uint32_t)take_fixed(&r, 4);
        memcpy(&value.value, &bits, 4);
        assert_true(e->count < MAX_VALUES);
        e->values[e->count++] = value;
    }
    assert_ptr_equal(r.at, r.end);
}

static Event read_event(Reader r)
{
    Event event = { .wall_time = -1, .step = -1 };
    while (r.at < r.end) {
        uint64_t key = take_varint(&r);
        if (key == (1 << 3 | 1)) {
            uint64_t bits = take_fixed(&r, 8);
            memcpy(&event.wall_time, &bits, 8);
        } else if (key == (2 << 3 | 0)) {
            event.step = (int64_t)take_varint(&r);
        } else if (key == (3 << 3 | 2)) {
            Reader version = take_bytes(&r, take_varint(&r));
            event.version = rest_text(&version);
        } else {
            assert_int_equal(key, 5 << 3 | 2);
            Reader summary = take_bytes(&r, take_varint(&r));
            while (summary.at < summary.end) {
                assert_int_equal(take_varint(&summary), 1 << 3 | 2);
                read_value(take_bytes(&summary, take_varint(&summary)), &event);
            }
        }
    }
    return event;
}

/* All events of the file in f->dir. How many. */
static int32_t read_events(Fixture *f, Event events[MAX_EVENTS])
{
    size_t   len = 0;
    uint8_t *data = read_bytes(f, path_in(f, RUN_EVENTS), &len);
    Reader   r = { &f->arena, data, data + len };
    int32_t  count = 0;
    while (r.at < r.end) {
        const uint8_t *start = r.at;
        uint64_t       bytes = take_fixed(&r, 8);
        assert_int_equal(take_fixed(&r, 4), slow_masked(start, 8));
        Reader record = take_bytes(&r, bytes);
        assert_int_equal(take_fixed(&r, 4), slow_masked(record.at, bytes));
        assert_true(count < MAX_EVENTS);
        events[count++] = read_event(record);
    }
    assert_true(count > 0);
    assert_string_equal(events[0].version, "brain.Event:2");
    assert_int_equal(events[0].step, 0);
    assert_int_equal(events[0].count, 0);
    for (int32_t i = 0; i < count; i++)
        assert_true(events[i].wall_time == (double)events[i].step && (i == 0 || !events[i].version));
    return count;
}

static void assert_event(const Event *e, int64_t step, const Scalar *values, int32_t count)
{
    assert_int_equal(e->step, step);
    assert_int_equal(e->count, count);
    for (int32_t i = 0; i < count; i++) {
        assert_string_equal(e->values[i].tag, values[i].tag);
        assert_true(e->values[i].value == values[i].value);
    }
}
#define ASSERT_EVENT(e, step, ...)                                                                                     \
    assert_event((e), (step), (Scalar[]){ __VA_ARGS__ }, DT_COUNT(((Scalar[]){ __VA_ARGS__ })))

static void write_metrics(Fixture *f, const char *text)
{
    write_file(path_in(f, RUN_JSONL), text, strlen(text));
}

/* Exactly one warning and no error was reported since the last call, and it says `part`. */
static void assert_one_warning(Fixture *f, const char *part)
{
    if (f->diag.errors != 0 || f->diag.warnings != 1 || !strstr(f->diag.text.s, part))
        fail_msg("expected one warning with '%s', got %d: %s", part, f->diag.warnings,
                 f->diag.text.s ? f->diag.text.s : "");
    diag_free(&f->diag);
    f->diag = diag_new(NULL);
}

/* ---- Tests ----------------------------------------------------------------------------------------------------- */

static void the_tests_crc_is_crc32c(void **state)
{
    (void)state;
    const uint8_t zeros[32] = { 0 };
    assert_int_equal(slow_crc32c((const uint8_t *)"123456789", 9), 0xe3069283); /* the check value of crc32c */
    assert_int_equal(slow_crc32c(zeros, 32), 0x8a9136aa);                       /* RFC 3720, B.4 */
}

static void written_bytes_are_the_formats(void **state)
{
    Fixture      *f = *state;
    const uint8_t first[] = { 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0x1a, 13 }; /* wall_time, step 0, text of 13 */
    const uint8_t second[] = {
        0x09, 0,    0,    0,    0,    0, 0xc0, 0x72, 0x40, /* wall_time 300.0 */
        0x10, 0xac, 0x02,                                  /* step 300 */
        0x2a, 11,                                          /* summary */
        0x0a, 9,                                           /* value */
        0x0a, 2,    'l',  'r',                             /* tag */
        0x15, 0,    0,    0x00, 0x3f,                      /* 0.5 */
    };
    write_metrics(f, "{\"kind\":\"step\",\"epoch\":1,\"step\":300,\"lr\":0.5}\n");
    assert_true(events_write(&f->diag, f->dir));
    size_t   len = 0;
    uint8_t *data = read_bytes(f, path_in(f, RUN_EVENTS), &len);
    assert_int_equal(len, 12 + 26 + 4 + 12 + sizeof second + 4);
    assert_int_equal(data[0], 26);
    assert_memory_equal(data + 12, first, sizeof first);
    assert_memory_equal(data + 12 + sizeof first, "brain.Event:2", 13);
    const uint8_t *record = data + 42;
    assert_int_equal(record[0], sizeof second);
    assert_memory_equal(record + 12, second, sizeof second);
    Event events[MAX_EVENTS];
    assert_int_equal(read_events(f, events), 2); /* the checksums too */
    ASSERT_EVENT(&events[1], 300, { "lr", 0.5f });
}

static void add_trained(MetricRow *row, double loss, double top1)
{
    metric_add(row, "lr", row->epoch == 3 ? 0 : 0.1);
    metric_add(row, "train_loss", loss);
    metric_add(row, "train_top1", top1);
}

/* The rows are those of rundir_metric. */
static void rows_become_scalars(void **state)
{
    Fixture  *f = *state;
    MetricRow step = { .epoch = 1, .step = 50 }, bare = { .epoch_end = true, .epoch = 1, .step = 60 };
    MetricRow full = { .epoch_end = true, .epoch = 2, .step = 4000000000000 };
    MetricRow odd = { .epoch = 3, .step = 4000000000050 };
    add_trained(&step, 2.25, 12.5);
    add_trained(&bare, 2, 20);
    add_trained(&full, 1, 30);
    metric_add(&full, "test_loss", 1.5);
    metric_add(&full, "test_top1", 40);
    metric_add(&full, "best_top1", 40); /* not shown: the curve shows it */
    MetricRow clamped = full;
    clamped.step++;
    metric_add(&clamped, "test_loss_clamped", 0.5);
    metric_add(&clamped, "test_top1_clamped", 45);
    add_trained(&odd, (double)INFINITY, 50);
    RunDir *dir = rundir_create(&f->arena, &f->diag, NULL, NULL, NULL, f->dir, "lr,train_loss");
    assert_non_null(dir);
    assert_true(rundir_metric(&f->diag, dir, &step));
    assert_true(rundir_metric(&f->diag, dir, &bare));
    assert_true(rundir_metric(&f->diag, dir, &full));
    assert_true(rundir_metric(&f->diag, dir, &clamped));
    assert_true(rundir_metric(&f->diag, dir, &odd));
    assert_true(rundir_row(&f->diag, dir,
                           "{\"kind\":\"inspect\",\"epoch\":3,\"step\":4000000000060,\"convergence\":0.5,"
                           "\"quantizers\":{\"a.weight\":{\"bits\":4,\"snr_db\":20.5,\"dead\":0},"
                           "\"a.input\":{\"snr_db\":null,\"clipped\":0.25}}}"));
    assert_true(events_write(&f->diag, f->dir));
    rundir_close(dir);
    Event events[MAX_EVENTS];
    assert_int_equal(read_events(f, events), 6); /* an epoch without a test has nothing to show */
    ASSERT_EVENT(&events[1], 50, { "lr", 0.1f }, { "train/loss", 2.25f }, { "train/top1", 12.5f });
    ASSERT_EVENT(&events[2], 4000000000000, { "test/loss", 1.5f }, { "test/top1", 40 });
    ASSERT_EVENT(&events[3], 4000000000001, { "test/loss", 1.5f }, { "test/top1", 40 }, { "test/loss_clamped", 0.5f },
                 { "test/top1_clamped", 45 });
    ASSERT_EVENT(&events[4], 4000000000050, { "lr", 0 }, { "train/top1", 50 });
    ASSERT_EVENT(&events[5], 4000000000060, { "quant/convergence", 0.5f }, { "quant/a.weight/snr_db", 20.5f },
                 { "quant/a.weight/dead", 0 }, { "quant/a.input/clipped", 0.25f });
    assert_no_errors(f);
    assert_int_equal(f->diag.warnings, 0);
}

/* ---- Histograms ------------------------------------------------------------------------------------------------ */

static double take_double(Reader *r)
{
    uint64_t bits = take_fixed(r, 8);
    double   x;
    memcpy(&x, &bits, 8);
    return x;
}

typedef struct Histo {
    double  min, max, num, sum, squares, limits[64], counts[64];
    int32_t n;
} Histo;

static Histo read_histogram(Fixture *f, const Message *m)
{
    Reader  r = { &f->arena, m->at, m->end };
    Histo   h = { 0 };
    double *plain[] = { &h.min, &h.max, &h.num, &h.sum, &h.squares };
    assert_int_equal(m->field, 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(take_varint(&r), (i + 1) << 3 | 1);
        *plain[i] = take_double(&r);
    }
    double *packed[] = { h.limits, h.counts };
    for (uint64_t k = 0; k < 2; k++) {
        assert_int_equal(take_varint(&r), (6 + k) << 3 | 2);
        Reader part = take_bytes(&r, take_varint(&r));
        for (h.n = 0; part.at < part.end; h.n++)
            packed[k][h.n] = take_double(&part);
    }
    assert_ptr_equal(r.at, r.end);
    return h;
}

static const Message *message(const Event *e, const char *tag)
{
    for (int32_t i = 0; i < e->n_messages; i++)
        if (str_eq(e->messages[i].tag, tag))
            return &e->messages[i];
    fail_msg("no value has the tag %s", tag);
    return NULL;
}

/* The weights of a network, through a row of the metrics, to the bytes that TensorBoard reads. */
static void weights_become_histograms(void **state)
{
    Fixture          *f = *state;
    TinyNet          *net = tiny_net(&f->arena, &f->diag, 10);
    const ProgTensor *w = program_tensor(net->train.program, "fc.weight");
    const ProgTensor *s = program_tensor(net->train.program, "fc.act.step");
    float            *x = ARENA_ARRAY(&f->arena, float, w->elems), step = 0.25f;
    double            sum = 0, squares = 0, counts[30] = { 0 };
    for (int64_t i = 0; i < w->elems; i++) {
        x[i] = (float)(i % 61) / 10 - 2; /* -2 to 4, in parts of 0.2 two values and a bit */
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        counts[dt_min64((int64_t)(((double)x[i] + 2) / (6.0 / 30)), 29)]++;
    }
    x[7] = NAN; /* not counted */
    double lost = (double)(7.0f / 10 - 2);
    counts[(int64_t)((lost + 2) / (6.0 / 30))]--;
    assert_true(tensor_write(net->train.exec, net->train.index, w, x));
    assert_true(tensor_write(net->train.exec, net->train.index, s, &step));
    RunDir *dir = rundir_create(&f->arena, &f->diag, NULL, NULL, NULL, f->dir, "lr");
    assert_non_null(dir);
    assert_true(weights_row(&f->diag, dir, net->train, 3, 77));
    rundir_close(dir);
    assert_true(events_write(&f->diag, f->dir));
    Event events[MAX_EVENTS];
    assert_int_equal(read_events(f, events), 2);
    assert_int_equal(events[1].step, 77);
    assert_int_equal(events[1].count, 0);
    assert_int_equal(events[1].n_messages, 2);
    Histo h = read_histogram(f, message(&events[1], "weights/fc.weight"));
    assert_true(h.min == -2 && h.max == 4 && h.n == 30 && h.num == (double)(w->elems - 1));
    assert_true(fabs(h.sum - (sum - lost)) < 1e-3 && fabs(h.squares - (squares - lost * lost)) < 1e-2);
    for (int32_t k = 0; k < 30; k++) {
        assert_true(fabs(h.limits[k] - (-2 + 6.0 * (k + 1) / 30)) < 1e-12);
        assert_true(h.counts[k] == counts[k]);
    }
    assert_true(h.limits[29] == h.max);
    h = read_histogram(f, message(&events[1], "steps/all")); /* of one value */
    assert_true(h.n == 1 && h.min == 0.25 && h.max == 0.25 && h.limits[0] == 0.25 && h.counts[0] == 1 && h.num == 1);
}

static void damaged_histograms_are_passed_over(void **state)
{
    Fixture           *f = *state;
    static const char *bad[] = {
        "[]",
        "{\"w\":1}",
        "{\"w\":{}}",
        "{\"w\":{\"min\":0,\"max\":1,\"sum\":1,\"squares\":1}}",
        "{\"w\":{\"min\":0,\"max\":1,\"sum\":1,\"squares\":1,\"counts\":[]}}",
        "{\"w\":{\"min\":0,\"max\":1,\"sum\":1,\"squares\":1,\"counts\":[-1]}}",
        "{\"w\":{\"min\":0,\"max\":1,\"sum\":1,\"squares\":1,\"counts\":[1.5]}}",
        "{\"w\":{\"min\":2,\"max\":1,\"sum\":1,\"squares\":1,\"counts\":[1]}}",
        "{\"w\":{\"min\":\"0\",\"max\":1,\"sum\":1,\"squares\":1,\"counts\":[1]}}",
    };
    for (int32_t i = 0; i < DT_COUNT(bad); i++) {
        Event events[MAX_EVENTS];
        write_metrics(f, arena_printf(&f->arena, "{\"kind\":\"weights\",\"step\":7,\"weights\":%s}\n", bad[i]));
        assert_false(events_write(&f->diag, f->dir));
        assert_one_warning(f, "metrics.jsonl:1: warning: run: this line is no row of metrics");
        assert_int_equal(read_events(f, events), 1);
    }
}

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

static Picture flat(Fixture *f, int32_t h, int32_t w, uint8_t value)
{
    Picture p = { .c = 3, .h = h, .w = w, .pixels = arena_alloc(&f->arena, 3 * (size_t)h * (size_t)w) };
    memset(p.pixels, value, 3 * (size_t)h * (size_t)w);
    return p;
}

/* Two samples as a run keeps them. */
static void write_pictures(Fixture *f)
{
    static const char index[] = "{\"epoch\":2,\"step\":90,\"channels\":3,\"samples\":[{\"name\":\"a\",\"file\":\"0\"},"
                                "{\"name\":\"b\",\"file\":\"1\"}]}";
    assert_true(dir_make(&f->diag, path_in(f, RUN_IMAGES)));
    for (int32_t i = 0; i < 2; i++)
        for (int kind = 0; kind < PICTURE_KINDS; kind++) {
            Picture p = flat(f, 4 + i, 6, (uint8_t)(10 * i + kind));
            assert_true(picture_write_png(
                &f->diag, arena_printf(&f->arena, "%s/" RUN_IMAGES "/%d-%s.png", f->dir, i, picture_kind_names[kind]),
                &p));
        }
    write_file(path_in(f, RUN_IMAGES "/index.json"), index, sizeof index - 1);
}

static void pictures_become_images(void **state)
{
    Fixture *f = *state;
    Event    events[MAX_EVENTS];
#ifndef DT_HAVE_PICTURES
    skip();
#endif
    write_metrics(f, "{\"kind\":\"step\",\"step\":100,\"lr\":1}\n");
    write_pictures(f);
    assert_true(events_write(&f->diag, f->dir));
    assert_int_equal(read_events(f, events), 3);
    assert_int_equal(events[2].step, 90);
    assert_int_equal(events[2].n_messages, 6);
    for (int32_t i = 0; i < 2; i++)
        for (int kind = 0; kind < PICTURE_KINDS; kind++) {
            const char    *file = arena_printf(&f->arena, RUN_IMAGES "/%d-%s.png", i, picture_kind_names[kind]);
            const char    *tag = arena_printf(&f->arena, "pictures/%d %s", i, picture_kind_names[kind]);
            const Message *m = message(&events[2], tag);
            Reader         r = { &f->arena, m->at, m->end };
            const uint64_t want[] = { 4 + (uint64_t)i, 6, 3 }; /* height, width, colours */
            size_t         len = 0;
            const uint8_t *png = read_bytes(f, path_in(f, file), &len);
            assert_int_equal(m->field, 4);
            for (uint64_t k = 0; k < 3; k++) {
                assert_int_equal(take_varint(&r), (k + 1) << 3);
                assert_int_equal(take_varint(&r), want[k]);
            }
            assert_int_equal(take_varint(&r), 4 << 3 | 2);
            assert_int_equal(take_varint(&r), len);
            assert_int_equal(r.end - r.at, len);
            assert_memory_equal(r.at, png, len);
        }
}

/* The file that was there stays as it was, and one warning says why. */
static void damaged_pictures_are_a_warning(void **state)
{
    Fixture                 *f = *state;
    static const char *const bad[] = { "{",
                                       "[]",
                                       "{\"epoch\":1,\"step\":1,\"channels\":7,\"samples\":[]}",
                                       "{\"epoch\":1,\"step\":1,\"channels\":3,\"samples\":[{\"name\":\"a\"}]}",
                                       "{\"epoch\":1,\"step\":1,\"channels\":3,\"samples\":[{\"name\":\"a\",\"file\":"
                                       "\"../x\"}]}",
                                       "{\"epoch\":1,\"step\":1,\"channels\":3,\"samples\":[{\"name\":\"a\",\"file\":"
                                       "\"9\"}]}" };
    write_metrics(f, "");
    assert_true(dir_make(&f->diag, path_in(f, RUN_IMAGES)));
    for (int32_t i = 0; i < DT_COUNT(bad); i++) {
        write_file(path_in(f, RUN_IMAGES "/index.json"), bad[i], strlen(bad[i]));
        assert_false(events_write(&f->diag, f->dir));
        assert_one_warning(f, "no events for TensorBoard: ");
    }
}

/* What was there is replaced, whatever it was; the same metrics give the same bytes. */
static void the_file_is_written_anew(void **state)
{
    Fixture *f = *state;
    Event    events[MAX_EVENTS];
    write_metrics(f, "{\"kind\":\"step\",\"step\":1,\"lr\":1}\n{\"kind\":\"step\",\"step\":2,\"lr\":2}\n");
    write_file(path_in(f, RUN_EVENTS), "old", 3);
    assert_true(events_write(&f->diag, f->dir));
    assert_int_equal(read_events(f, events), 3);
    assert_int_equal(rename(path_in(f, RUN_EVENTS), path_in(f, "first")), 0);
    assert_true(events_write(&f->diag, f->dir));
    assert_same_file(f, path_in(f, "first"), path_in(f, RUN_EVENTS));
    write_metrics(f, "");
    assert_true(events_write(&f->diag, f->dir));
    assert_int_equal(read_events(f, events), 1);
}

static void damaged_lines_are_passed_over(void **state)
{
    Fixture           *f = *state;
    static const char *bad[] = {
        "{\"kind\":\"step\",\"st",
        "",
        "7",
        "[]",
        "{}",
        "\xff\xfe",
        "{\"kind\":\"step\",\"lr\":1}",
        "{\"kind\":\"other\",\"step\":1,\"lr\":1}",
        "{\"kind\":3,\"step\":1,\"lr\":1}",
        "{\"kind\":\"step\",\"step\":-1,\"lr\":1}",
        "{\"kind\":\"step\",\"step\":1.5,\"lr\":1}",
        "{\"kind\":\"step\",\"step\":1,\"train_loss\":1,\"lr\":\"x\"}",
        "{\"kind\":\"step\",\"step\":1,\"lr\":1e39}",
        "{\"kind\":\"step\",\"step\":1,\"lr\":1} x",
        "{\"kind\":\"step\",\"step\":1,\"step\":2,\"lr\":1}",
        "{\"kind\":\"inspect\",\"step\":1,\"quantizers\":[1]}",
        "{\"kind\":\"inspect\",\"step\":1,\"quantizers\":{\"a\":1}}",
        "{\"kind\":\"inspect\",\"step\":1,\"quantizers\":{\"a\":{\"dead\":\"x\"}}}",
    };
    for (int32_t i = 0; i < DT_COUNT(bad); i++) {
        Event events[MAX_EVENTS];
        write_metrics(f, arena_printf(&f->arena,
                                      "{\"kind\":\"step\",\"step\":7,\"lr\":1}\n%s\n"
                                      "{\"kind\":\"epoch\",\"step\":9,\"test_loss\":2}\n%s",
                                      bad[i], bad[i]));
        assert_false(events_write(&f->diag, f->dir));
        assert_one_warning(f, "metrics.jsonl:2: warning: run: this line is no row of metrics");
        assert_int_equal(read_events(f, events), 3);
        ASSERT_EVENT(&events[1], 7, { "lr", 1 });
        ASSERT_EVENT(&events[2], 9, { "test/loss", 2 });
    }
    assert_false(events_write(NULL, f->dir)); /* says nothing */
}

static void failures_are_warnings(void **state)
{
    Fixture *f = *state;
    assert_false(events_write(&f->diag, f->dir));
    assert_one_warning(f, "warning: run: no events for TensorBoard: ");
    write_metrics(f, "");
    assert_int_equal(mkdir(path_in(f, RUN_EVENTS), 0777), 0);
    assert_false(events_write(&f->diag, f->dir));
    assert_one_warning(f, RUN_EVENTS);
    assert_false(events_write(NULL, f->dir));
    assert_int_equal(f->diag.warnings + f->diag.errors, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_tests_crc_is_crc32c),        TEST(written_bytes_are_the_formats),      TEST(rows_become_scalars),
        TEST(the_file_is_written_anew),       TEST(damaged_lines_are_passed_over),      TEST(failures_are_warnings),
        TEST(weights_become_histograms),      TEST(damaged_histograms_are_passed_over), TEST(pictures_become_images),
        TEST(damaged_pictures_are_a_warning),
    };
    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
