/* safetensors.c: the file format that weights travel in.
 *
 *   u64 little-endian N | N bytes of JSON, padded with spaces | data
 *   {"__metadata__": {key: text}, name: {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}}
 *
 * Offsets count from the end of the header; the tensors cover the data exactly, without holes or overlaps (as the
 * format's own reader demands). The format has no checksum, so ours is a metadata entry, "xxh3": XXH3-128 over the
 * hashes of the header (without that entry, keys sorted, compact) and of the data. It notices a flipped bit anywhere;
 * files without it, from elsewhere, are read as well.
 *
 * Nothing in a file is believed before it is checked: what st_read returns lies inside the file.
 * Tested by tests/unit/test_checkpoint.c. */
#include "runtime/runtime_impl.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files hold little-endian numbers, which are copied as they are");

enum { LENGTH_BYTES = 8, HEADER_ALIGN = 8 };
enum { HEADER_MAX_BYTES = 100 * 1000 * 1000 }; /* the format's own limit */
#define METADATA "__metadata__"
#define CHECKSUM "xxh3"

/* Types of the format. Those without a DType of ours can be passed over, not loaded. */
static const struct {
    const char *name;
    DType       dtype;
    int32_t     bytes;
} types[] = {
    { "F32", DTYPE_F32, 4 },   { "I32", DTYPE_I32, 4 },    { "U32", DTYPE_U32, 4 },       { "U8", DTYPE_U8, 1 },
    { "I8", DTYPE_S8, 1 },     { "BOOL", DTYPE_COUNT, 1 }, { "F8_E5M2", DTYPE_COUNT, 1 }, { "F8_E4M3", DTYPE_COUNT, 1 },
    { "I16", DTYPE_COUNT, 2 }, { "U16", DTYPE_COUNT, 2 },  { "F16", DTYPE_COUNT, 2 },     { "BF16", DTYPE_COUNT, 2 },
    { "I64", DTYPE_COUNT, 8 }, { "U64", DTYPE_COUNT, 8 },  { "F64", DTYPE_COUNT, 8 },
};

const char *st_meta(const StFile *f, const char *key)
{
    for (int32_t i = 0; i < f->meta.len; i++)
        if (str_eq(f->meta.at[i].key, key))
            return f->meta.at[i].value;
    return NULL;
}

int32_t st_find(const StFile *f, const char *name)
{
    for (int32_t i = 0; i < f->tensors.len; i++)
        if (str_eq(f->tensors.at[i].name, name))
            return i;
    return -1;
}

/* The checksum of a file whose header is `root`, whatever checksum that has now. */
static void checksum(json_t *root, const void *data, size_t bytes, char out[33])
{
    json_t *meta = json_incref(json_object_get(root, METADATA)), *bare = json_copy(meta);
    json_object_del(bare, CHECKSUM);
    json_object_set_new(root, METADATA, bare);
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    DT_ASSERT(text, "a header that was read or built can be written");
    Hash128 parts[2] = { hash_bytes(text, strlen(text)), hash_bytes(data, bytes) };
    free(text);
    json_object_set_new(root, METADATA, meta);
    hash_hex(hash_bytes(parts, sizeof parts), out);
}

/* ---- Writing --------------------------------------------------------------------------------------------------- */

static const char *type_text(DType t)
{
    for (int32_t i = 0; i < DT_COUNT(types); i++)
        if (types[i].dtype == t)
            return types[i].name;
    return NULL;
}

/* The header without checksum; NULL: a name that is no UTF-8. */
static json_t *build_header(const StFile *f, int64_t *data_bytes)
{
    json_t *root = json_object(), *meta = json_object();
    bool    ok = json_object_set_new(root, METADATA, meta) == 0;
    for (int32_t i = 0; i < f->meta.len; i++)
        ok &= json_object_set_new(meta, f->meta.at[i].key, json_string(f->meta.at[i].value)) == 0;
    int64_t offset = 0;
    for (int32_t i = 0; i < f->tensors.len; i++) {
        const StTensor *t = &f->tensors.at[i];
        const char     *type = type_text(t->dtype);
        DT_ASSERT(type, "tensor %s: the format has no %s", t->name, dtype_name(t->dtype));
        DT_ASSERT(!json_object_get(root, t->name), "two tensors are called %s", t->name);
        json_t *shape = json_array();
        for (int32_t k = 0; k < t->rank; k++)
            json_array_append_new(shape, json_integer(t->dim[k]));
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape, "data_offsets",
                                  (json_int_t)offset, (json_int_t)(offset + t->bytes));
        ok &= json_object_set_new(root, t->name, entry) == 0;
        offset += t->bytes;
    }
    *data_bytes = offset;
    if (ok)
        return root;
    json_decref(root);
    return NULL;
}

bool st_write(Diag *d, const char *path, const StFile *f)
{
    int64_t data_bytes = 0;
    json_t *root = build_header(f, &data_bytes);
    if (!root) {
        diag_error(d, LOC_NONE, "checkpoint: cannot write %s: a name or a text in it is not UTF-8", path);
        return false;
    }
    Arena    scratch = arena_new("st_write");
    uint8_t *data = arena_alloc(&scratch, (size_t)data_bytes + 1);
    int64_t  offset = 0;
    for (int32_t i = 0; i < f->tensors.len; i++) {
        memcpy(data + offset, f->tensors.at[i].data, (size_t)f->tensors.at[i].bytes);
        offset += f->tensors.at[i].bytes;
    }
    char sum[33];
    checksum(root, data, (size_t)data_bytes, sum);
    json_object_set_new(json_object_get(root, METADATA), CHECKSUM, json_string(sum));
    char *text = json_dumps(root, JSON_COMPACT);
    DT_ASSERT(text, "a header of checked texts can be written");

    size_t   len = strlen(text), padded = (size_t)dt_round_up((int64_t)len, HEADER_ALIGN);
    size_t   total = LENGTH_BYTES + padded + (size_t)data_bytes;
    uint64_t header_bytes = padded;
    uint8_t *file = arena_alloc(&scratch, total);
    memcpy(file, &header_bytes, LENGTH_BYTES);
    memset(file + LENGTH_BYTES, ' ', padded);
    memcpy(file + LENGTH_BYTES, text, len);
    memcpy(file + LENGTH_BYTES + padded, data, (size_t)data_bytes);
    bool ok = file_write_atomic(d, path, file, total);

    free(text);
    json_decref(root);
    arena_free(&scratch);
    return ok;
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

/* A file while it is checked. */
typedef struct Reader {
    Arena         *a;
    Diag          *d;
    const char    *path;
    const uint8_t *data;
    int64_t        data_bytes;
    StFile        *out;
} Reader;

/* A tensor's place in the data, for the search of overlaps. */
typedef struct Range {
    int64_t     begin, end;
    const char *name;
} Range;

static bool read_shape(Reader *r, const char *name, json_t *shape, StTensor *t)
{
    if (!json_is_array(shape) || json_array_size(shape) > ST_MAX_RANK) {
        diag_error(r->d, LOC_NONE, "checkpoint: %s: tensor %s: \"shape\" is no array of at most %d sizes", r->path,
                   name, ST_MAX_RANK);
        return false;
    }
    t->rank = (int32_t)json_array_size(shape);
    t->elems = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0 ||
            !dt_mul64(t->elems, json_integer_value(size), &t->elems)) {
            diag_error(r->d, LOC_NONE,
                       "checkpoint: %s: tensor %s: size %d of \"shape\" is no integer from 0 up that fits", r->path,
                       name, i);
            return false;
        }
        t->dim[i] = json_integer_value(size);
    }
    return true;
}

static bool read_type(Reader *r, const char *name, json_t *type, StTensor *t)
{
    const char *text = json_string_value(type);
    for (int32_t i = 0; text && i < DT_COUNT(types); i++)
        if (str_eq(types[i].name, text)) {
            t->type = types[i].name;
            t->dtype = types[i].dtype;
            if (dt_mul64(t->elems, types[i].bytes, &t->bytes))
                return true;
            diag_error(r->d, LOC_NONE, "checkpoint: %s: tensor %s: %lld elements of %s are too many", r->path, name,
                       (long long)t->elems, text);
            return false;
        }
    diag_error(r->d, LOC_NONE, "checkpoint: %s: tensor %s: \"dtype\" is %s, expected F32, I32, U32, ...", r->path, name,
               text ? text : "no text");
    return false;
}

static bool read_offsets(Reader *r, const char *name, json_t *offsets, const StTensor *t, Range *out)
{
    json_int_t begin = 0, end = 0;
    if (json_unpack(offsets, "[I, I!]", &begin, &end) != 0) {
        diag_error(r->d, LOC_NONE, "checkpoint: %s: tensor %s: \"data_offsets\" are not two integers", r->path, name);
        return false;
    }
    if (begin < 0 || end < begin || end > r->data_bytes) {
        diag_error(r->d, LOC_NONE,
                   "checkpoint: %s: tensor %s lies at bytes %lld to %lld, but there are %lld bytes of data", r->path,
                   name, (long long)begin, (long long)end, (long long)r->data_bytes);
        return false;
    }
    if (end - begin != t->bytes) {
        diag_error(r->d, LOC_NONE,
                   "checkpoint: %s: tensor %s: %s of shape %s takes %lld bytes, but its offsets span %lld", r->path,
                   name, t->type, dims_text(r->a, t->dim, t->rank), (long long)t->bytes, (long long)(end - begin));
        return false;
    }
    *out = (Range){ begin, end, name };
    return true;
}

static bool read_tensor(Reader *r, const char *name, json_t *entry, Range *range)
{
    if (!json_is_object(entry) || json_object_size(entry) != 3) {
        diag_error(r->d, LOC_NONE,
                   "checkpoint: %s: tensor %s: expected an object with \"dtype\", \"shape\" and \"data_offsets\"",
                   r->path, name);
        return false;
    }
    StTensor t = { .name = arena_strdup(r->a, name) };
    if (!read_shape(r, name, json_object_get(entry, "shape"), &t) ||
        !read_type(r, name, json_object_get(entry, "dtype"), &t) ||
        !read_offsets(r, name, json_object_get(entry, "data_offsets"), &t, range))
        return false;
    range->name = t.name;
    t.data = r->data + range->begin;
    vec_push(r->a, &r->out->tensors, t);
    return true;
}

static bool read_metadata(Reader *r, json_t *meta)
{
    const char *key;
    json_t     *value;
    if (!json_is_object(meta)) {
        diag_error(r->d, LOC_NONE, "checkpoint: %s: \"" METADATA "\" is no object", r->path);
        return false;
    }
    json_object_foreach(meta, key, value)
    {
        if (!json_is_string(value)) {
            diag_error(r->d, LOC_NONE, "checkpoint: %s: metadata \"%s\" is no text", r->path, key);
            return false;
        }
        if (!str_eq(key, CHECKSUM))
            vec_push(r->a, &r->out->meta,
                     (StMeta){ arena_strdup(r->a, key), arena_strdup(r->a, json_string_value(value)) });
    }
    return true;
}

static int compare_ranges(const void *a, const void *b)
{
    const Range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Sorted by place, each tensor begins where the one before ended. */
static bool check_cover(Reader *r, Range *ranges, int32_t n)
{
    qsort(ranges, (size_t)n, sizeof *ranges, compare_ranges);
    int64_t     at = 0;
    const char *before = NULL;
    for (int32_t i = 0; i < n; i++) {
        if (ranges[i].begin < at) {
            diag_error(r->d, LOC_NONE, "checkpoint: %s: tensors %s and %s overlap at byte %lld of the data", r->path,
                       before, ranges[i].name, (long long)ranges[i].begin);
            return false;
        }
        if (ranges[i].begin > at) {
            diag_error(r->d, LOC_NONE,
                       "checkpoint: %s: bytes %lld to %lld of the data, before tensor %s, belong to none", r->path,
                       (long long)at, (long long)ranges[i].begin, ranges[i].name);
            return false;
        }
        at = ranges[i].end;
        before = ranges[i].name;
    }
    if (at != r->data_bytes) {
        diag_error(r->d, LOC_NONE, "checkpoint: %s: its tensors take %lld bytes, but %lld follow the header", r->path,
                   (long long)at, (long long)r->data_bytes);
        return false;
    }
    return true;
}

static bool check_sum(Reader *r, json_t *root)
{
    const char *stored = json_string_value(json_object_get(json_object_get(root, METADATA), CHECKSUM));
    if (!stored)
        return true;
    char sum[33];
    checksum(root, r->data, (size_t)r->data_bytes, sum);
    if (str_eq(sum, stored))
        return true;
    diag_error(r->d, LOC_NONE, "checkpoint: %s is damaged: its checksum is %s, its content gives %s", r->path, stored,
               sum);
    diag_help(r->d, "if it was changed on purpose, remove \"" CHECKSUM "\" from its metadata");
    return false;
}

static bool read_header(Reader *r, json_t *root)
{
    int32_t     n = (int32_t)json_object_size(root), found = 0;
    Range      *ranges = ARENA_ARRAY(r->a, Range, n + 1);
    const char *name;
    json_t     *entry;
    json_object_foreach(root, name, entry)
    {
        bool ok = str_eq(name, METADATA) ? read_metadata(r, entry) : read_tensor(r, name, entry, &ranges[found++]);
        if (!ok)
            return false;
    }
    return check_cover(r, ranges, found) && check_sum(r, root);
}

StFile *st_read(Arena *a, Diag *d, const char *path)
{
    size_t      bytes = 0;
    const char *file = file_read(a, d, path, &bytes);
    if (!file)
        return NULL;
    uint64_t header_bytes = 0;
    if (bytes >= LENGTH_BYTES)
        memcpy(&header_bytes, file, LENGTH_BYTES);
    if (bytes <= LENGTH_BYTES || header_bytes > HEADER_MAX_BYTES || file[LENGTH_BYTES] != '{') {
        diag_error(d, LOC_NONE,
                   "checkpoint: %s is no safetensors file: expected a length of at most %d and a '{' at its "
                   "begin; it has %llu bytes",
                   path, HEADER_MAX_BYTES, (unsigned long long)bytes);
        return NULL;
    }
    if (header_bytes > bytes - LENGTH_BYTES) {
        diag_error(d, LOC_NONE, "checkpoint: %s is cut off: its header takes %llu bytes, the whole file has %llu", path,
                   (unsigned long long)header_bytes, (unsigned long long)bytes);
        return NULL;
    }
    json_error_t err;
    json_t      *root = json_loadb(file + LENGTH_BYTES, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &err);
    if (!root) {
        diag_error(d, LOC_NONE, "checkpoint: %s: bad header at byte %d: %s", path, err.position, err.text);
        return NULL;
    }
    Reader r = { a,
                 d,
                 path,
                 (const uint8_t *)file + LENGTH_BYTES + header_bytes,
                 (int64_t)(bytes - LENGTH_BYTES - header_bytes),
                 ARENA_NEW(a, StFile) };
    bool   ok = read_header(&r, root);
    json_decref(root);
    return ok ? r.out : NULL;
}
