/* test_checkpoint.c: safetensors files good and bad, and what each way to load takes, refuses and leaves alone. */
#include "tests/unit/runtime_fixture.h"

#include <sys/resource.h>

/* ---- Files written by hand ------------------------------------------------------------------------------------- */

/* A file of this header and so many bytes of data, 0, 1, 2, ... */
static const char *file_of(Fixture *f, const char *header, size_t data_bytes)
{
    uint64_t n = strlen(header);
    uint8_t *b = arena_alloc(&f->arena, 8 + n + data_bytes);
    memcpy(b, &n, 8);
    memcpy(b + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++)
        b[8 + n + i] = (uint8_t)i;
    const char *path = path_in(f, "file.safetensors");
    write_file(path, b, 8 + n + data_bytes);
    return path;
}

#define T(name, type, shape, begin, end)                                                                               \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

static void foreign_files_are_read(void **state)
{
    Fixture *f = *state;
    StFile  *s = st_read(&f->arena, &f->diag,
                         file_of(f,
                                 "{" T("b", "F32", "[2,1]", 8,
                                       16) "," T("a", "I64", "[]", 0, 8) "," T("none", "BF16", "[0,7]", 16, 16) "}   ",
                                 16));
    assert_no_errors(f);
    assert_int_equal(s->tensors.len, 3);
    StTensor b = s->tensors.at[st_find(s, "b")], a = s->tensors.at[st_find(s, "a")];
    assert_int_equal(b.dtype, DTYPE_F32);
    assert_int_equal(b.rank * 100 + b.dim[0] * 10 + b.dim[1], 221);
    assert_int_equal(((const uint8_t *)b.data)[0], 8);
    assert_int_equal(a.dtype, DTYPE_COUNT); /* none of ours */
    assert_string_equal(a.type, "I64");
    assert_int_equal(a.elems, 1);
    assert_int_equal(s->tensors.at[st_find(s, "none")].bytes, 0);
    assert_int_equal(st_find(s, "c"), -1);
    assert_null(st_meta(s, "format"));
}

/* The bytes are those the format asks for, written out here by hand. */
static void written_bytes_are_the_formats(void **state)
{
    Fixture *f = *state;
    StFile   out = { 0 };
    uint32_t steps[2] = { 1, 0x01020304 };
    float    one = 1;
    vec_push(&f->arena, &out.tensors,
             (StTensor){ .name = "w", .dtype = DTYPE_F32, .elems = 1, .bytes = 4, .data = &one });
    vec_push(
        &f->arena, &out.tensors,
        (StTensor){ .name = "n", .dtype = DTYPE_U32, .rank = 1, .dim = { 2 }, .elems = 2, .bytes = 8, .data = steps });
    vec_push(&f->arena, &out.meta, (StMeta){ "note", "\"q\" \\ \xc3\xa4" });
    const char *path = path_in(f, "w.safetensors");
    assert_true(st_write(&f->diag, path, &out));
    size_t   len;
    uint8_t *b = read_bytes(f, path, &len);
    uint64_t n;
    memcpy(&n, b, 8);
    assert_int_equal(n % 8, 0);
    assert_int_equal(len, 8 + n + 12);
    const uint8_t data[12] = { 0, 0, 0x80, 0x3f, 1, 0, 0, 0, 4, 3, 2, 1 };
    assert_memory_equal(b + 8 + n, data, 12);
    const char *header = arena_strndup(&f->arena, (char *)b + 8, n);
    const char *start = "{\"__metadata__\":{\"note\":\"\\\"q\\\" \\\\ \xc3\xa4\",\"xxh3\":\"";
    const char *end = "\"}," T("w", "F32", "[]", 0, 4) "," T("n", "U32", "[2]", 4, 12) "}";
    assert_memory_equal(header, start, strlen(start));
    assert_memory_equal(header + strlen(start) + 32, end, strlen(end));
    StFile *in = st_read(&f->arena, &f->diag, path);
    assert_no_errors(f);
    assert_string_equal(st_meta(in, "note"), "\"q\" \\ \xc3\xa4");
    assert_int_equal(in->meta.len, 1);
}

static void bad_headers_are_refused(void **state)
{
    Fixture *f = *state;
    const struct {
        const char *header;
        size_t      data;
        const char *message;
    } cases[] = {
        { "{", 0, "bad header" },
        { "{}x", 0, "bad header" },
        { "[]", 0, "is no safetensors file" },
        { "{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 0, 4) "}", 4, "duplicate object key" },
        { "{\"a\":5}", 0, "tensor a: expected an object" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor a: expected an object" },
        { "{" T("a", "F33", "[1]", 0, 4) "}", 4, "\"dtype\" is F33" },
        { "{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"dtype\" is no text" },
        { "{" T("a", "F32", "[-1]", 0, 4) "}", 4, "size 0 of \"shape\"" },
        { "{" T("a", "F32", "[1.5]", 0, 4) "}", 4, "size 0 of \"shape\"" },
        { "{" T("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, "size 1 of \"shape\"" },
        { "{" T("a", "F64", "[4611686018427387904]", 0, 4) "}", 4, "are too many" },
        { "{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "at most 8 sizes" },
        { "{" T("a", "F32", "7", 0, 4) "}", 4, "at most 8 sizes" },
        { "{" T("a", "F32", "[1]", 0, 99999999999999999999) "}", 4, "bad header" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "not two integers" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "not two integers" },
        { "{" T("a", "F32", "[1]", 0, 8) "}", 4, "lies at bytes 0 to 8, but there are 4 bytes" },
        { "{" T("a", "F32", "[1]", -4, 0) "}", 4, "lies at bytes -4 to 0" },
        { "{" T("a", "F32", "[1]", 4, 0) "}", 4, "lies at bytes 4 to 0" },
        { "{" T("a", "F32", "[3]", 0, 8) "}", 8, "F32 of shape [3] takes 12 bytes, but its offsets span 8" },
        { "{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 4, 12) "}", 12, "tensors a and b overlap at byte 4" },
        { "{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12,
          "bytes 4 to 8 of the data, before tensor b" },
        { "{" T("a", "F32", "[1]", 0, 4) "}", 6, "its tensors take 4 bytes, but 6 follow" },
        { "{\"__metadata__\":[]}", 0, "\"__metadata__\" is no object" },
        { "{\"__metadata__\":{\"epoch\":3}}", 0, "metadata \"epoch\" is no text" },
        { "{\"__metadata__\":{\"xxh3\":\"00\"}," T("a", "U8", "[1]", 0, 1) "}", 1, "its checksum is 00" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        assert_null(st_read(&f->arena, &f->diag, file_of(f, cases[i].header, cases[i].data)));
        assert_one_error(f, cases[i].message);
    }
}

static void bad_containers_are_refused(void **state)
{
    Fixture    *f = *state;
    const char *path = file_of(f, "{" T("a", "F32", "[1]", 0, 4) "}", 4);
    size_t      len;
    uint8_t    *b = read_bytes(f, path, &len);

    write_file(path, b, 0);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "it has 0 bytes");
    write_file(path, b, 7);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "it has 7 bytes");
    write_file(path, b, 20);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "is cut off: its header takes");
    write_file(path, b, len - 1);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "but there are 3 bytes of data");
    memset(b, 0xff, 8);
    write_file(path, b, len);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "is no safetensors file");
    write_file(path, "PK\3\4 a zip file, as PyTorch writes", 34);
    assert_null(st_read(&f->arena, &f->diag, path));
    assert_one_error(f, "is no safetensors file");
    assert_null(st_read(&f->arena, &f->diag, f->dir));
    assert_one_error(f, "Is a directory");
    assert_null(st_read(&f->arena, &f->diag, path_in(f, "absent")));
    assert_one_error(f, "No such file");
    char *deep = arena_alloc(&f->arena, 100001);
    memset(deep, '[', 100000);
    memcpy(deep, "{\"a\":", 5);
    assert_null(st_read(&f->arena, &f->diag, file_of(f, deep, 0)));
    assert_one_error(f, "bad header");
}

/* ---- Checkpoints of a program ---------------------------------------------------------------------------------- */

static const RunIdentity identity = { "tiny", "lsq", "w4a4", "mnist", 8, UINT64_C(0xfedcba9876543210), NULL };
static const TrainState  position = { .epoch = 3,
                                      .step = 1234567890123,
                                      .epoch_loss = 0.1,
                                      .epoch_correct = 17,
                                      .epoch_steps = 5,
                                      .row_loss = 1e-300,
                                      .row_correct = 2,
                                      .row_steps = 1,
                                      .best_score = 100.0 / 3,
                                      .epoch_parts = { { 0.1, 0, 1e-310 } },
                                      .row_parts = { { 0, 0, 0, 0, 0, 0, 0, 2.0 / 3 } },
                                      .best_epoch = 2,
                                      .jsonl_bytes = 4711,
                                      .csv_bytes = 99 };

/* Params and states of the train program, all in a row. */
static Bytes memory_of(Fixture *f, const TinyNet *net)
{
    Bytes b = { arena_alloc(&f->arena, 1 << 17), 0 };
    for (int32_t i = 0; i < net->train.program->n_tensors; i++) {
        const ProgTensor *t = &net->train.program->tensors[i];
        if (t->kind != TENSOR_PARAM && t->kind != TENSOR_STATE)
            continue;
        tensor_read(net->exec, net->train.index, t, b.at + b.len);
        b.len += (size_t)t->bytes;
    }
    return b;
}

static float *tensor_of(const TinyNet *net, const char *name)
{
    return exec_ptr(net->exec, net->train.index, program_tensor(net->train.program, name));
}

/* Every kept tensor gets values of its own. */
static void fill_memory(TinyNet *net, uint64_t seed)
{
    assert_true(program_init(&(Diag){ 0 }, net->train, seed));
    static const char *const names[] = { "fc.bias", "fc.act.step", "bn.running_mean", "fc.weight.velocity",
                                         "fc.bias.velocity" };
    for (int k = 0; k < DT_COUNT(names); k++) {
        const ProgTensor *t = program_tensor(net->train.program, names[k]);
        for (int64_t i = 0; i < t->elems; i++)
            tensor_of(net, names[k])[i] = 0.5f + rng_uniform(seed, 77, (uint32_t)k, (uint64_t)i);
    }
}

static void checkpoint_gives_back_all_of_it(void **state)
{
    Fixture    *f = *state;
    TinyNet    *net = tiny_net(&f->arena, &f->diag, 8);
    const char *path = path_in(f, "last.safetensors"), *again = path_in(f, "again.safetensors");
    fill_memory(net, 1);
    Bytes before = memory_of(f, net);
    assert_true(checkpoint_save(&f->diag, path, &identity, &position, net->train, NULL));
    fill_memory(net, 2);
    TrainState  s;
    HostTensors host;
    memset(&s, 0xff, sizeof s);
    assert_true(checkpoint_resume(&f->arena, &f->diag, path, &identity, net->train, &s, &host));
    assert_no_errors(f);
    assert_memory_equal(memory_of(f, net).at, before.at, before.len);
    assert_memory_equal(&s, &position, sizeof s); /* doubles bit by bit */
    assert_true(checkpoint_save(&f->diag, again, &identity, &s, net->train, NULL));
    assert_same_file(f, path, again);
}

/* What the host remembers travels beside the program's tensors, which know nothing of it. */
static void checkpoint_keeps_what_the_host_remembers(void **state)
{
    static const int8_t codes[] = { -8, 7, 0, 1, 2, 3 };
    Fixture            *f = *state;
    TinyNet            *net = tiny_net(&f->arena, &f->diag, 8);
    const char         *path = path_in(f, "c");
    HostTensors         kept = { 0 }, host = { 0 };
    TrainState          s;
    StTensor t = { .name = CHECKPOINT_HOST "x:5", .dtype = DTYPE_S8, .rank = 1, .dim = { 6 }, .elems = 6, .bytes = 6 };
    t.data = codes;
    vec_push(&f->arena, &kept, t);
    fill_memory(net, 1);
    Bytes before = memory_of(f, net);
    assert_true(checkpoint_save(&f->diag, path, &identity, &position, net->train, &kept));
    fill_memory(net, 2);
    assert_true(checkpoint_resume(&f->arena, &f->diag, path, &identity, net->train, &s, &host));
    assert_memory_equal(memory_of(f, net).at, before.at, before.len);
    assert_int_equal(host.len, 1);
    assert_string_equal(host.at[0].name, CHECKPOINT_HOST "x:5");
    assert_int_equal(host.at[0].elems, 6);
    assert_memory_equal(host.at[0].data, codes, sizeof codes);
    bool all = false;
    assert_true(checkpoint_init(&f->diag, path, &identity, net->train, &all)); /* neither missed nor warned about */
    assert_true(all);
    assert_int_equal(f->diag.warnings, 0);
    assert_no_errors(f);
}

/* Kept in logical order: an NHWC param travels as NCHW. */
static void checkpoint_is_in_logical_order(void **state)
{
    Fixture        *f = *state;
    TinyNet        *net = tiny_net(&f->arena, &f->diag, 8);
    const TensorDef def = { TENSOR_PARAM, "w", DTYPE_F32, 4, { 2, 3, 2, 2 }, "zeros", "weight" };
    TinyNet         other = *net;
    other.exec = exec_new(&f->arena, &f->diag, calllib_reference(&f->arena), (ExecOptions){ .threads = 1 });
    LoadedProgram p = tiny_program(&f->arena, &other, "one", tiny_init, &def, 1);
    p.program->tensors[0].nhwc = true;
    float *at = exec_ptr(p.exec, p.index, &p.program->tensors[0]);
    for (int i = 0; i < 24; i++) /* n h w c */
        at[i] = (float)(1000 * (i / 12) + 10 * (i / 6 % 2) + i / 3 % 2 + 100 * (i % 3));
    assert_true(checkpoint_save(&f->diag, path_in(f, "c"), &identity, &position, p, NULL));
    StFile *s = st_read(&f->arena, &f->diag, path_in(f, "c"));
    float   values[24];
    memcpy(values, s->tensors.at[0].data, sizeof values);
    for (int i = 0; i < 24; i++) /* n c h w */
        assert_true(values[i] == (float)(1000 * (i / 12) + 100 * (i / 4 % 3) + 10 * (i / 2 % 2) + i % 2));
    exec_free(other.exec);
}

static void every_flipped_bit_is_noticed(void **state)
{
    Fixture    *f = *state;
    TinyNet    *net = tiny_net(&f->arena, &f->diag, 8);
    const char *path = path_in(f, "c");
    fill_memory(net, 1);
    assert_true(checkpoint_save(&f->diag, path, &identity, &position, net->train, NULL));
    size_t   len;
    uint8_t *b = read_bytes(f, path, &len);
    Bytes    before = memory_of(f, net);
    for (int i = 0; i < 200; i++) {
        size_t at = i < 100 ? (size_t)i * 13 : rng_u32(5, 0, 0, (uint64_t)i) % len; /* the header, then anywhere */
        b[at] ^= (uint8_t)(1 << i % 8);
        write_file(path, b, len);
        TrainState  s = position;
        HostTensors host = { 0 };
        bool        taken = checkpoint_resume(&f->arena, &f->diag, path, &identity, net->train, &s, &host);
        b[at] ^= (uint8_t)(1 << i % 8);
        if (taken)
            fail_msg("bit %d of byte %zu may flip unnoticed", i % 8, at);
        assert_one_error(f, path);
        assert_memory_equal(memory_of(f, net).at, before.at, before.len);
    }
}

/* Edits one tensor or text of a saved checkpoint and writes it again, with a right checksum. */
typedef struct Edit {
    const char *drop; /* tensor */
    const char *rename, *to;
    const char *meta, *value; /* NULL value: drop */
    const char *nan_in;
    const char *reshape; /* turns [a, b] into [b, a] */
    const char *add;
} Edit;

static const char *edited(Fixture *f, TinyNet *net, Edit e)
{
    const char *path = path_in(f, "edited");
    assert_true(checkpoint_save(&f->diag, path, &identity, &position, net->train, NULL));
    StFile *s = st_read(&f->arena, &f->diag, path), out = { 0 };
    for (int32_t i = 0; i < s->tensors.len; i++) {
        StTensor t = s->tensors.at[i];
        float   *data = arena_copy(&f->arena, t.data, (size_t)t.bytes);
        t.data = data;
        if (str_eq(t.name, e.drop))
            continue;
        if (str_eq(t.name, e.rename))
            t.name = e.to;
        if (str_eq(t.name, e.nan_in))
            data[t.elems - 1] = NAN;
        if (str_eq(t.name, e.reshape)) {
            int64_t first = t.dim[0];
            t.dim[0] = t.dim[1];
            t.dim[1] = first;
        }
        vec_push(&f->arena, &out.tensors, t);
    }
    if (e.add)
        vec_push(&f->arena, &out.tensors,
                 (StTensor){ .name = e.add, .dtype = DTYPE_U8, .elems = 1, .bytes = 1, .data = "x" });
    for (int32_t i = 0; i < s->meta.len; i++)
        if (!str_eq(s->meta.at[i].key, e.meta))
            vec_push(&f->arena, &out.meta, s->meta.at[i]);
        else if (e.value)
            vec_push(&f->arena, &out.meta, (StMeta){ e.meta, e.value });
    assert_true(st_write(&f->diag, path, &out));
    return path;
}

static void resume_takes_only_its_own_run(void **state)
{
    Fixture *f = *state;
    TinyNet *net = tiny_net(&f->arena, &f->diag, 8);
    const struct {
        Edit        e;
        const char *message;
    } cases[] = {
        { { .drop = "fc.bias" }, "lacks 1 of the network's tensors: fc.bias" },
        { { .drop = "fc.bias.velocity" }, "lacks 1 of the network's tensors: fc.bias.velocity" },
        { { .drop = "fc.act.step" }, "lacks 1" },
        { { .rename = "fc.weight", .to = "fc.wieght" }, "nearest to fc.weight in the file: fc.wieght" },
        { { .add = "fc2.bias" }, "has 1 tensors that the network does not know: fc2.bias" },
        { { .nan_in = "fc.weight" }, "tensor fc.weight holds NaN at element 7839 of 7840" },
        { { .nan_in = "fc.weight.velocity" }, "tensor fc.weight.velocity holds NaN" },
        { { .reshape = "fc.weight" }, "tensor fc.weight is F32[784, 10], the network has F32[10, 784]" },
        { { .reshape = "fc.weight", .drop = "fc.bias" }, "it lacks 1 of the network's tensors, too" },
        { { .meta = "format", .value = "detent-9" }, "its \"format\" is detent-9, expected detent-1" },
        { { .meta = "format" }, "its \"format\" is missing" },
        { { .meta = "seed", .value = "7" }, "seed is 18364758544493064720 here and 7 there" },
        { { .meta = "bits", .value = "w8a8" }, "bits is w4a4 here and w8a8 there" },
        { { .meta = "net", .value = "resnet20" }, "net is tiny here and resnet20 there" },
        { { .meta = "step", .value = "12x" }, "no usable \"step\": 12x" },
        { { .meta = "step", .value = "-1" }, "no usable \"step\": -1" },
        { { .meta = "best_score", .value = "nan" }, "no usable \"best_score\": nan" },
        { { .meta = "row_parts", .value = "1 2x" }, "no usable \"row_parts\": 1 2x" },
        { { .meta = "row_parts", .value = "1 2 3 4 5 6 7 8 9" }, "no usable \"row_parts\": 1 2 3 4 5 6 7 8 9" },
        { { .meta = "row_parts", .value = "1 inf" }, "no usable \"row_parts\": 1 inf" },
        { { .meta = "sizes", .value = "--classes=7" }, "sizes is none here and --classes=7 there" },
        { { .meta = "csv_bytes" }, "no usable \"csv_bytes\": missing" },
    };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        fill_memory(net, 1);
        const char *path = edited(f, net, cases[i].e);
        fill_memory(net, 2);
        Bytes       before = memory_of(f, net);
        TrainState  s = { .step = 5 };
        HostTensors host = { 0 };
        assert_false(checkpoint_resume(&f->arena, &f->diag, path, &identity, net->train, &s, &host));
        assert_one_error(f, cases[i].message);
        assert_memory_equal(memory_of(f, net).at, before.at, before.len);
        assert_int_equal(s.step, 5);
    }
}

static void eval_takes_what_it_needs(void **state)
{
    Fixture *f = *state;
    TinyNet *net = tiny_net(&f->arena, &f->diag, 8);
    fill_memory(net, 1);
    Bytes       before = memory_of(f, net);
    const char *path = edited(f, net, (Edit){ .drop = "fc.bias.velocity", .add = "other" });
    fill_memory(net, 2);
    TrainState s;
    assert_true(checkpoint_load(&f->diag, path, net->eval, &s));
    assert_no_errors(f);
    assert_int_equal(s.epoch, 3);
    assert_memory_equal(memory_of(f, net).at, before.at, 4 * (CLASSES * DIGIT + CLASSES + 2)); /* not the velocities */
    assert_memory_not_equal(memory_of(f, net).at, before.at, before.len);
    assert_false(checkpoint_load(&f->diag, edited(f, net, (Edit){ .drop = "bn.running_mean" }), net->eval, NULL));
    assert_one_error(f, "lacks 1 of the network's tensors: bn.running_mean");
}

static void init_is_lenient_where_it_is_safe(void **state)
{
    Fixture *f = *state;
    TinyNet *net = tiny_net(&f->arena, &f->diag, 8);
    bool     steps = false;

    /* The same method and bits: step sizes come along, velocities do not. */
    fill_memory(net, 1);
    float w = tensor_of(net, "fc.weight")[5], m = tensor_of(net, "bn.running_mean")[0],
          a = *tensor_of(net, "fc.act.step");
    const char *path = edited(f, net, (Edit){ 0 });
    fill_memory(net, 2);
    float v = tensor_of(net, "fc.weight.velocity")[5];
    assert_true(checkpoint_init(&f->diag, path, &identity, net->train, &steps));
    assert_no_errors(f);
    assert_true(steps);
    assert_true(tensor_of(net, "fc.weight")[5] == w && *tensor_of(net, "bn.running_mean") == m);
    assert_true(*tensor_of(net, "fc.act.step") == a && tensor_of(net, "fc.weight.velocity")[5] == v);

    /* Other bits, or a float checkpoint without them: the first batch must give them. */
    const Edit without[] = { { .meta = "bits", .value = "w8a8" }, { .drop = "fc.act.step" } };
    for (int i = 0; i < 2; i++) {
        fill_memory(net, 1);
        path = edited(f, net, without[i]);
        fill_memory(net, 2);
        a = *tensor_of(net, "fc.act.step");
        assert_true(checkpoint_init(&f->diag, path, &identity, net->train, &steps));
        assert_false(steps);
        assert_true(tensor_of(net, "fc.weight")[5] == w && *tensor_of(net, "fc.act.step") == a);
    }
    assert_int_equal(f->diag.warnings, 0);
    assert_true(
        checkpoint_init(&f->diag, edited(f, net, (Edit){ .add = "head.weight" }), &identity, net->train, &steps));
    assert_int_equal(f->diag.warnings, 1);
    assert_non_null(strstr(f->diag.text.s, "does not know: head.weight"));

    assert_false(
        checkpoint_init(&f->diag, edited(f, net, (Edit){ .drop = "fc.weight" }), &identity, net->train, &steps));
    assert_one_error(f, "lacks 1 of the network's tensors: fc.weight");
    Bytes before = memory_of(f, net);
    assert_false(checkpoint_init(&f->diag, edited(f, net, (Edit){ .nan_in = "bn.running_mean" }), &identity, net->train,
                                 &steps));
    assert_one_error(f, "bn.running_mean holds NaN");
    assert_memory_equal(memory_of(f, net).at, before.at, before.len);
}

/* Offsets and tracked ranges belong to quantizers as step sizes do: with other bits they stay, and some are not all. */
static void init_takes_all_ranges_or_none(void **state)
{
    Fixture        *f = *state;
    TinyNet        *net = tiny_net(&f->arena, &f->diag, 8);
    const TensorDef defs[] = { { TENSOR_PARAM, "a.weight", DTYPE_F32, 1, { 2 }, "ones", "weight" },
                               { TENSOR_PARAM, "a.input.offset", DTYPE_F32, 0, { 0 }, "ones", "offset" },
                               { TENSOR_STATE, "a.input.max", DTYPE_F32, 0, { 0 }, "ones", NULL },
                               { TENSOR_STATE, "b.input.step", DTYPE_F32, 0, { 0 }, "ones", NULL } };
    net->exec = exec_new(&f->arena, &f->diag, calllib_reference(&f->arena), (ExecOptions){ .threads = 1 });
    LoadedProgram all = tiny_program(&f->arena, net, "all", tiny_init, defs, DT_COUNT(defs));
    LoadedProgram some = all;
    some.program = ARENA_NEW(&f->arena, Program);
    *(Program *)some.program = *all.program;
    ((Program *)some.program)->n_tensors = DT_COUNT(defs) - 1;
    const RunIdentity other = { identity.net, identity.method, "w2a2", identity.dataset, 8, 1, NULL };
    const struct {
        LoadedProgram      saved;
        const RunIdentity *id;
        bool               loaded, taken;
        const char        *warning;
    } cases[] = { { all, &identity, true, true, NULL },
                  { all, &other, false, false, NULL },
                  { some, &identity, false, true, "lacks 1 of the 3 tensors that quantizers keep" } };
    for (int i = 0; i < DT_COUNT(cases); i++) {
        bool        loaded = !cases[i].loaded;
        const char *path = path_in(f, arena_printf(&f->arena, "c%d", i));
        assert_true(program_init(&f->diag, all, 1));
        assert_true(checkpoint_save(&f->diag, path, cases[i].id, &position, cases[i].saved, NULL));
        float *max = exec_ptr(all.exec, all.index, program_tensor(all.program, "a.input.max"));
        float *offset = exec_ptr(all.exec, all.index, program_tensor(all.program, "a.input.offset"));
        *max = *offset = 5;
        assert_true(checkpoint_init(&f->diag, path, &identity, all, &loaded));
        assert_no_errors(f);
        assert_int_equal(loaded, cases[i].loaded);
        assert_true(*max == (cases[i].taken ? 1 : 5) && *offset == *max);
        assert_int_equal(f->diag.warnings, cases[i].warning != NULL);
        assert_true(cases[i].warning == NULL || strstr(f->diag.text.s, cases[i].warning));
    }
    exec_free(net->exec);
}

/* A full disk: the message says so, and the checkpoint before stays whole. */
static void full_disk_keeps_the_old_file(void **state)
{
    Fixture    *f = *state;
    TinyNet    *net = tiny_net(&f->arena, &f->diag, 8);
    const char *path = path_in(f, "c"), *copy = path_in(f, "copy");
    fill_memory(net, 1);
    assert_true(checkpoint_save(&f->diag, path, &identity, &position, net->train, NULL));
    assert_true(checkpoint_save(&f->diag, copy, &identity, &position, net->train, NULL));
    fill_memory(net, 2);
    struct rlimit old, tight;
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = 5000;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    bool saved = checkpoint_save(&f->diag, path, &identity, &position, net->train, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, before);
    assert_false(saved);
    assert_one_error(f, "File too large");
    assert_same_file(f, path, copy);
    if (access("/dev/full", W_OK) == 0) {
        assert_false(checkpoint_save(&f->diag, "/dev/full", &identity, &position, net->train, NULL));
        assert_one_error(f, "No space left on device");
    }
    assert_false(checkpoint_save(&f->diag, path_in(f, "no/such/dir"), &identity, &position, net->train, NULL));
    assert_one_error(f, "No such file or directory");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(foreign_files_are_read),          TEST(written_bytes_are_the_formats),
        TEST(bad_headers_are_refused),         TEST(bad_containers_are_refused),
        TEST(checkpoint_gives_back_all_of_it), TEST(checkpoint_is_in_logical_order),
        TEST(every_flipped_bit_is_noticed),    TEST(resume_takes_only_its_own_run),
        TEST(eval_takes_what_it_needs),        TEST(init_is_lenient_where_it_is_safe),
        TEST(init_takes_all_ranges_or_none),   TEST(checkpoint_keeps_what_the_host_remembers),
        TEST(full_disk_keeps_the_old_file),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
