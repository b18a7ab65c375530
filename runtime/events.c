/* events.c: the metrics of a run as an event file of TensorBoard.
 *
 *   file    records
 *   record  u64 length, u32 crc of the length, data, u32 crc of the data      (little-endian; crc32c, masked)
 *   data    protobuf Event { 1: double wall_time, 2: int64 step, 3: string file_version, 5: Summary }
 *           Summary { 1: repeated Value { 1: string tag, 2: float simple_value } }
 *
 * The file is a function of metrics.jsonl and is written anew from it, so checkpoints know nothing of it, and a resumed
 * run leaves the same bytes as one that never stopped. That is also why wall_time is no time: it is the step, in
 * seconds.
 *
 * It is replaced at the end of each epoch. TensorBoard's default reader keeps the old file open; to watch a run while
 * it trains, start TensorBoard with --load_fast=false.
 *
 * Five fields of protobuf are written by hand: a library for them would be the larger part.
 *
 * Tested by tests/unit/test_events.c. */
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
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2 };

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

/* What every event begins with. */
static Str event_new(Arena *a, int64_t step)
{
    Str      event = str_new(a);
    double   wall_time = (double)step; /* seconds; no clock: the same run gives the same bytes */
    uint64_t bits;
    memcpy(&bits, &wall_time, sizeof bits);
    add_key(&event, EVENT_WALL_TIME, WIRE_64);
    add_fixed(&event, bits, 8);
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

/* ---- Rows ------------------------------------------------------------------------------------------------------ */

/* What of which rows is shown. An epoch's mean over training would put a second point at a step into the curve. */
static const struct {
    const char *kind, *key, *tag;
} scalars[] = {
    { "step", "train_loss", "train/loss" },
    { "step", "train_top1", "train/top1" },
    { "step", "lr", "lr" },
    { "epoch", "test_loss", "test/loss" },
    { "epoch", "test_top1", "test/top1" },
    { "epoch", "test_loss_clamped", "test/loss_clamped" },
    { "epoch", "test_top1_clamped", "test/top1_clamped" },
    { "inspect", "convergence", "quant/convergence" },
    { "inspect", "convergence_worst", "quant/convergence_worst" },
};
static const char *const kinds[] = { "step", "epoch", "inspect" };

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
            ok = ok && add_value(a, summary, arena_printf(a, "quant/%s/%s", name, key), value);
        }
    }
    return ok;
}

/* One event with all scalars of a row; none when it has none. False: this is no row, and nothing was added. */
static bool add_row(Arena *a, Str *out, const json_t *row)
{
    const json_t *step = json_object_get(row, "step");
    const char   *kind = json_string_value(json_object_get(row, "kind"));
    if (!json_is_integer(step) || json_integer_value(step) < 0 || !is_kind(kind))
        return false;
    Str summary = str_new(a);
    for (int32_t i = 0; i < DT_COUNT(scalars); i++)
        if (str_eq(kind, scalars[i].kind) &&
            !add_value(a, &summary, scalars[i].tag, json_object_get(row, scalars[i].key)))
            return false;
    if (str_eq(kind, "inspect") && !add_quantizers(a, &summary, json_object_get(row, "quantizers")))
        return false;
    if (summary.len > 0) {
        Str event = event_new(a, json_integer_value(step));
        add_bytes(&event, EVENT_SUMMARY, summary.s, summary.len);
        add_record(out, &event);
    }
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
        ok = file_write_atomic(&quiet, arena_printf(&a, "%s/" RUN_EVENTS, dir), out.s, out.len);
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
