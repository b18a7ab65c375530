/* events.c: the metrics of a run as an event file of TensorBoard.
 *
 *   file    records
 *   record  u64 length, u32 crc of the length, data, u32 crc of the data      (little-endian; crc32c, masked)
 *   data    protobuf Event { 1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary }
 *           Summary { 1: repeated Value { 1: string tag, 2: float simple_value | 4: Image | 5: HistogramProto } }
 *           Image { 1: int32 height, 2: width, 3: colorspace, 4: bytes encoded }
 *           HistogramProto { 1: double min, 2: max, 3: num, 4: sum, 5: sum_squares,
 *                            6: repeated double bucket_limit, 7: bucket }
 *
 * The file is a function of metrics.jsonl and of the pictures of a run, and is written anew from it, so checkpoints
 * know nothing of it, and a resumed run leaves the same bytes as one that never stopped. That is also why wall_time is
 * no time: it is the step, in seconds.
 *
 * It is replaced at the end of each epoch. TensorBoard's default reader keeps the old file open; to watch a run while
 * it trains, start TensorBoard with --load_fast=false.
 *
 * These fields of protobuf are written by hand: a library for them would be the larger part.
 *
 * Tested by tests/unit/test_events.c. */
#include "runtime/kept_pictures.h"
#include "runtime/runtime_impl.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

/* ---- crc32c ---------------------------------------------------------------------------------------------------- */

/* Of a half byte, with the polynomial 0x82f63b78 (Castagnoli, bits reversed). */
static const uint32_t crc_table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };

static uint32_t       crc32c(const char *data, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)data[i];
        crc = crc_table[crc & 15] ^ crc >> 4;
        crc = crc_table[crc & 15] ^ crc >> 4;
    }
    return ~crc;
}

/* As the format wants it: a crc of data that holds its own crc would say little. */
static uint32_t masked_crc(const char *data, size_t len)
{
    uint32_t crc = crc32c(data, len);
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

/* ---- Records and messages -------------------------------------------------------------------------------------- */

typedef enum Wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 } Wire;
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_IMAGE = 4, VALUE_HISTOGRAM = 5 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLOURS = 3, IMAGE_ENCODED = 4 };
enum {
    HISTOGRAM_MIN = 1,
    HISTOGRAM_MAX,
    HISTOGRAM_NUM,
    HISTOGRAM_SUM,
    HISTOGRAM_SQUARES,
    HISTOGRAM_LIMITS,
    HISTOGRAM_COUNTS
};

static void add_fixed(Str *s, uint64_t x, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++)
        str_addn(s, &(char){ (char)(x >> 8 * i & 0xff) }, 1);
}

static void add_varint(Str *s, uint64_t x)
{
    for (; x >= 0x80; x >>= 7)
        add_fixed(s, (x & 0x7f) | 0x80, 1);
    add_fixed(s, x, 1);
}

static void add_key(Str *s, int32_t field, Wire wire)
{
    add_varint(s, (uint64_t)(field << 3 | (int32_t)wire));
}

static void add_bytes(Str *s, int32_t field, const char *data, size_t len)
{
    add_key(s, field, WIRE_BYTES);
    add_varint(s, len);
    str_addn(s, data, len);
}

static void add_record(Str *out, const Str *data)
{
    const size_t start = out->len;
    add_fixed(out, data->len, 8);
    add_fixed(out, masked_crc(out->s + start, 8), 4);
    str_addn(out, data->s, data->len);
    add_fixed(out, masked_crc(data->s, data->len), 4);
}

static void add_f64(Str *s, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    add_fixed(s, bits, 8);
}

static void add_double(Str *s, int32_t field, double x)
{
    add_key(s, field, WIRE_64);
    add_f64(s, x);
}

static void add_int(Str *s, int32_t field, int64_t x)
{
    add_key(s, field, WIRE_VARINT);
    add_varint(s, (uint64_t)x);
}

/* What every event begins with. */
static Str event_new(Arena *a, int64_t step)
{
    Str event = str_new(a);
    add_double(&event, EVENT_WALL_TIME, (double)step); /* no clock: the same run gives the same bytes */
    add_key(&event, EVENT_STEP, WIRE_VARINT);
    add_varint(&event, (uint64_t)step);
    return event;
}

static void add_version(Arena *a, Str *out)
{
    static const char version[] = "brain.Event:2";
    Str               event = event_new(a, 0);
    add_bytes(&event, EVENT_FILE_VERSION, version, sizeof version - 1);
    add_record(out, &event);
}

static void add_scalar(Arena *a, Str *summary, const char *tag, float x)
{
    Str      value = str_new(a);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    add_bytes(&value, VALUE_TAG, tag, strlen(tag));
    add_key(&value, VALUE_SIMPLE, WIRE_32);
    add_fixed(&value, bits, 4);
    add_bytes(summary, SUMMARY_VALUE, value.s, value.len);
}

/* A value that is a message of its own. */
static void add_value_message(Arena *a, Str *summary, const char *tag, int32_t field, const Str *message)
{
    Str value = str_new(a);
    add_bytes(&value, VALUE_TAG, tag, strlen(tag));
    add_bytes(&value, field, message->s, message->len);
    add_bytes(summary, SUMMARY_VALUE, value.s, value.len);
}

static void add_event(Arena *a, Str *out, int64_t step, const Str *summary)
{
    Str event = event_new(a, step);
    if (summary->len == 0)
        return;
    add_bytes(&event, EVENT_SUMMARY, summary->s, summary->len);
    add_record(out, &event);
}

/* ---- Histograms ------------------------------------------------------------------------------------------------ */

/* {"min":-1,"max":1,"sum":0.5,"squares":2,"counts":[1,0,4]}: counts of equal parts of the range. False: it is none. */
static bool add_histogram(Arena *a, Str *summary, const char *tag, const json_t *of)
{
    static const char *const keys[] = { "min", "max", "sum", "squares" };
    double                   x[DT_COUNT(keys)], num = 0;
    const json_t            *counts = json_object_get(of, "counts");
    const size_t             n = json_array_size(counts);
    Str                      h = str_new(a), limits = str_new(a), buckets = str_new(a);
    for (int32_t i = 0; i < DT_COUNT(keys); i++) {
        if (!json_is_number(json_object_get(of, keys[i])))
            return false;
        x[i] = json_number_value(json_object_get(of, keys[i]));
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *count = json_array_get(counts, i);
        if (!json_is_integer(count) || json_integer_value(count) < 0)
            return false;
        num += (double)json_integer_value(count);
        add_f64(&limits, i + 1 < n ? x[0] + (x[1] - x[0]) * (double)(i + 1) / (double)n : x[1]);
        add_f64(&buckets, (double)json_integer_value(count));
    }
    if (n == 0 || x[1] < x[0])
        return false;
    const double values[] = { x[0], x[1], num, x[2], x[3] };
    for (int32_t i = 0; i < DT_COUNT(values); i++)
        add_double(&h, HISTOGRAM_MIN + i, values[i]);
    add_bytes(&h, HISTOGRAM_LIMITS, limits.s, limits.len);
    add_bytes(&h, HISTOGRAM_COUNTS, buckets.s, buckets.len);
    add_value_message(a, summary, tag, VALUE_HISTOGRAM, &h);
    return true;
}

/* A row of weights_row.c: "weights" and "steps", histograms by name. */
static bool add_histograms(Arena *a, Str *summary, const json_t *row)
{
    static const char *const groups[] = { "weights", "steps" };
    bool                     ok = true;
    for (int32_t i = 0; i < DT_COUNT(groups); i++) {
        json_t     *group = json_object_get(row, groups[i]), *of;
        const char *name;
        ok = ok && (group == NULL || json_is_object(group));
        json_object_foreach(group, name, of)
        {
            ok = ok && add_histogram(a, summary, arena_printf(a, "%s/%s", groups[i], name), of);
        }
    }
    return ok;
}

/* ---- Pictures -------------------------------------------------------------------------------------------------- */

static void add_picture(Arena *a, Str *summary, const char *tag, const RunPicture *p, int kind)
{
    Str image = str_new(a);
    add_int(&image, IMAGE_HEIGHT, p->picture[kind].h);
    add_int(&image, IMAGE_WIDTH, p->picture[kind].w);
    add_int(&image, IMAGE_COLOURS, p->picture[kind].c);
    add_bytes(&image, IMAGE_ENCODED, (const char *)p->png[kind], p->bytes[kind]);
    add_value_message(a, summary, tag, VALUE_IMAGE, &image);
}

/* Those that the run keeps, of the step that made them. False: reported. */
static bool add_pictures(Arena *a, Diag *d, Str *out, const char *dir)
{
    RunPictures pictures;
    Str         summary = str_new(a);
    bool        ok = pictures_load(a, d, dir, &pictures);
    for (int32_t i = 0; ok && i < pictures.at.len; i++)
        for (int kind = 0; kind < PICTURE_KINDS; kind++) {
            const char *tag = arena_printf(a, "pictures/%d %s", i, picture_kind_names[kind]);
            add_picture(a, &summary, tag, &pictures.at.at[i], kind);
        }
    add_event(a, out, pictures.step, &summary);
    return ok;
}

/* ---- Rows ------------------------------------------------------------------------------------------------------ */

/* Which numbers of which rows are shown, by how their keys begin, and what takes the place of that. An epoch's mean
 * over training would put a second point at a step into the curve. */
static const struct {
    const char *kind, *start, *tag;
} scalars[] = {
    { "step", "train_", "train/" },
    { "step", "lr", "lr" },
    { "epoch", "test_", "test/" },
    { "inspect", "convergence", "quant/convergence" },
};
static const char *const kinds[] = { "step", "epoch", "inspect", "weights" };

static bool              is_kind(const char *kind)
{
    for (int32_t i = 0; i < DT_COUNT(kinds); i++)
        if (str_eq(kind, kinds[i]))
            return true;
    return false;
}

/* One point of a curve; a value that is absent or null (not finite) is none. False: it is no number. */
static bool add_value(Arena *a, Str *summary, const char *tag, const json_t *value)
{
    const double x = json_number_value(value);
    if (!value || json_is_null(value))
        return true;
    if (!json_is_number(value) || fabs(x) > (double)FLT_MAX)
        return false;
    add_scalar(a, summary, tag, (float)x);
    return true;
}

/* {"conv1.weight": {"snr_db": 20.5}} becomes quant/conv1.weight/snr_db. */
static bool add_quantizers(Arena *a, Str *summary, json_t *quantizers)
{
    const char *name, *key;
    json_t     *of, *value;
    bool        ok = !quantizers || json_is_object(quantizers);
    json_object_foreach(quantizers, name, of)
    {
        ok = ok && json_is_object(of);
        json_object_foreach(of, key, value)
        {
            ok = ok && (str_eq(key, "bits") || /* it does not change */
                        add_value(a, summary, arena_printf(a, "quant/%s/%s", name, key), value));
        }
    }
    return ok;
}

static bool add_scalars(Arena *a, Str *summary, const char *kind, json_t *row)
{
    const char *key;
    json_t     *value;
    bool        ok = true;
    json_object_foreach(row, key, value)
    {
        for (int32_t i = 0; i < DT_COUNT(scalars) && ok; i++) {
            const size_t start = strlen(scalars[i].start);
            if (str_eq(kind, scalars[i].kind) && strncmp(key, scalars[i].start, start) == 0)
                ok = add_value(a, summary, arena_printf(a, "%s%s", scalars[i].tag, key + start), value);
        }
    }
    return ok;
}

/* One event with all scalars of a row; none when it has none. False: this is no row, and nothing was added. */
static bool add_row(Arena *a, Str *out, json_t *row)
{
    const json_t *step = json_object_get(row, "step");
    const char   *kind = json_string_value(json_object_get(row, "kind"));
    if (!json_is_integer(step) || json_integer_value(step) < 0 || !is_kind(kind))
        return false;
    Str summary = str_new(a);
    if (!add_scalars(a, &summary, kind, row))
        return false;
    if (str_eq(kind, "inspect") && !add_quantizers(a, &summary, json_object_get(row, "quantizers")))
        return false;
    if (str_eq(kind, "weights") && !add_histograms(a, &summary, row))
        return false;
    add_event(a, out, json_integer_value(step), &summary);
    return true;
}

/* Adds the events of all rows. The number of the first line that is no row; 0: all are. */
static int32_t add_rows(Str *out, const char *text, size_t len)
{
    Arena   scratch = arena_new("row");
    int32_t line = 0, bad = 0;
    for (const char *end = text + len; text < end;) {
        const char  *stop = memchr(text, '\n', (size_t)(end - text));
        const size_t n = (size_t)((stop ? stop : end) - text);
        json_t      *row = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
        line++;
        if (!add_row(&scratch, out, row) && !bad)
            bad = line;
        json_decref(row);
        arena_reset(&scratch);
        text += n + (stop != NULL);
    }
    arena_free(&scratch);
    return bad;
}

/* ---- The file -------------------------------------------------------------------------------------------------- */

/* An error of reading or writing, said as a warning. */
static void warn_failed(Diag *d, const char *error)
{
    static const char start[] = "error: ";
    if (strncmp(error, start, sizeof start - 1) == 0)
        error += sizeof start - 1;
    diag_warning(d, LOC_NONE, "run: no events for TensorBoard: %.*s", (int)strcspn(error, "\n"), error);
}

bool events_write(Diag *d, const char *dir)
{
    Arena       a = arena_new("events");
    Diag        quiet = diag_new(NULL);
    Str         out = str_new(&a);
    const char *metrics = arena_printf(&a, "%s/" RUN_JSONL, dir);
    size_t      len = 0;
    int32_t     bad = 0;
    const char *text = file_read(&a, &quiet, metrics, &len);
    bool        ok = text != NULL;
    if (ok) {
        add_version(&a, &out);
        bad = add_rows(&out, text, len);
        ok = add_pictures(&a, &quiet, &out, dir) &&
             file_write_atomic(&quiet, arena_printf(&a, "%s/" RUN_EVENTS, dir), out.s, out.len);
    }
    if (!ok && d)
        warn_failed(d, quiet.text.s);
    if (bad && d)
        diag_warning(d, (Loc){ metrics, bad },
                     "run: this line is no row of metrics: the events for TensorBoard lack it, and "
                     "whatever lines like it follow");
    diag_free(&quiet);
    arena_free(&a);
    return ok && !bad;
}
