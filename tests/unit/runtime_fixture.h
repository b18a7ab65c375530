/* runtime_fixture.h: what the tests of the training runtime share: a temporary directory, small data sets in their real
 * file formats, and a network small enough to be written out in C - logistic regression with momentum - as Programs. */
#ifndef DETENT_TESTS_RUNTIME_FIXTURE_H
#define DETENT_TESTS_RUNTIME_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "runtime/runtime.h"

#define UNUSED __attribute__((unused))

/* ---- One test's surroundings ----------------------------------------------------------------------------------- */

typedef struct Fixture {
    Arena       arena;
    Diag        diag; /* keeps, does not print */
    const char *dir;  /* empty at first, removed at the end */
} Fixture;

UNUSED static int fixture_setup(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    f->arena = arena_new("test");
    f->diag = diag_new(NULL);
    char pattern[] = "/tmp/detent-test-XXXXXX";
    assert_non_null(mkdtemp(pattern));
    assert_int_equal(chmod(pattern, 0755), 0);
    f->dir = arena_strdup(&f->arena, pattern);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

UNUSED static int fixture_teardown(void **state)
{
    Fixture *f = *state;
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    diag_free(&f->diag);
    arena_free(&f->arena);
    free(f);
    return 0;
}

UNUSED static const char *path_in(Fixture *f, const char *name)
{
    return arena_printf(&f->arena, "%s/%s", f->dir, name);
}

UNUSED static void write_file(const char *path, const void *data, size_t len)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

UNUSED static void write_gz(const char *path, const void *data, size_t len)
{
    gzFile out = gzopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(gzwrite(out, data, (unsigned)len), (int)len);
    assert_int_equal(gzclose(out), Z_OK);
}

UNUSED static uint8_t *read_bytes(Fixture *f, const char *path, size_t *len)
{
    uint8_t *data = (uint8_t *)file_read(&f->arena, &f->diag, path, len);
    if (!data)
        fail_msg("cannot read %s", path);
    return data;
}

UNUSED static void assert_same_file(Fixture *f, const char *a, const char *b)
{
    size_t   na = 0, nb = 0;
    uint8_t *x = read_bytes(f, a, &na), *y = read_bytes(f, b, &nb);
    if (na != nb)
        fail_msg("%s has %zu bytes, %s has %zu", a, na, b, nb);
    for (size_t i = 0; i < na; i++)
        if (x[i] != y[i])
            fail_msg("%s and %s differ at byte %zu of %zu", a, b, i, na);
}

/* Exactly one more error was reported since the last call, and it says `part`. */
UNUSED static void assert_one_error(Fixture *f, const char *part)
{
    if (f->diag.errors != 1 || !strstr(f->diag.text.s, part))
        fail_msg("expected one error with '%s', got %d: %s", part, f->diag.errors,
                 f->diag.text.s ? f->diag.text.s : "");
    diag_free(&f->diag);
    f->diag = diag_new(NULL);
}

UNUSED static void assert_no_errors(Fixture *f)
{
    if (f->diag.errors)
        fail_msg("%s", f->diag.text.s);
}

/* ---- Data ------------------------------------------------------------------------------------------------------ */

enum { DIGIT = 28 * 28, CIFAR = 3072 };

typedef struct Bytes {
    uint8_t *at;
    size_t   len;
} Bytes;

/* An idx file of `count` samples as the header says, `held` as it holds; rank 3 images, rank 1 labels. Images are
 * noise around a bright bar whose place is the label, which logistic regression can learn. */
UNUSED static Bytes idx_file(Fixture *f, int rank, uint32_t count, uint32_t held, uint64_t seed)
{
    size_t  head = 4 + 4 * (size_t)rank, each = rank == 3 ? DIGIT : 1;
    Bytes   b = { arena_alloc(&f->arena, head + held * each), head + held * each };
    uint8_t fixed[16] = { 0,
                          0,
                          8,
                          (uint8_t)rank,
                          (uint8_t)(count >> 24),
                          (uint8_t)(count >> 16),
                          (uint8_t)(count >> 8),
                          (uint8_t)count,
                          0,
                          0,
                          0,
                          28,
                          0,
                          0,
                          0,
                          28 };
    memcpy(b.at, fixed, head);
    for (uint32_t i = 0; i < held; i++) {
        uint8_t label = (uint8_t)(rng_u32(seed, 1, 0, i) % 10);
        if (rank == 1) {
            b.at[head + i] = label;
            continue;
        }
        uint8_t *image = b.at + head + i * each;
        for (uint32_t p = 0; p < DIGIT; p++) {
            bool bar = p % 28 / 2 == label;
            image[p] = (uint8_t)(rng_u32(seed, 2, i, p) % 160 + (bar ? 60 : 0));
        }
    }
    return b;
}

/* The four files of MNIST, plain or packed, in `dir`, which is made. */
UNUSED static void write_mnist(Fixture *f, const char *dir, uint32_t train, uint32_t test, bool packed)
{
    static const char *const names[4] = { "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                          "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte" };
    assert_true(dir_make(&f->diag, dir));
    for (int i = 0; i < 4; i++) {
        uint32_t    n = i < 2 ? train : test;
        Bytes       b = idx_file(f, i % 2 ? 1 : 3, n, n, 7 + (uint64_t)i / 2);
        const char *path = arena_printf(&f->arena, "%s/%s%s", dir, names[i], packed ? ".gz" : "");
        (packed ? write_gz : write_file)(path, b.at, b.len);
    }
}

/* Byte p of record i of file k: any function that tells places apart. */
UNUSED static uint8_t cifar_byte(uint32_t k, uint32_t i, uint32_t p)
{
    return (uint8_t)(p == 0 ? (k + i) % 10 : rng_u32(k, 3, i, p));
}

UNUSED static void write_cifar(Fixture *f, const char *dir, uint32_t records)
{
    static const char *const names[6] = { "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                          "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin" };
    assert_true(dir_make(&f->diag, dir));
    uint8_t *data = arena_alloc(&f->arena, (size_t)records * (CIFAR + 1));
    for (uint32_t k = 0; k < 6; k++) {
        for (uint32_t i = 0; i < records; i++)
            for (uint32_t p = 0; p <= CIFAR; p++)
                data[(size_t)i * (CIFAR + 1) + p] = cifar_byte(k, i, p);
        write_file(arena_printf(&f->arena, "%s/%s", dir, names[k]), data, (size_t)records * (CIFAR + 1));
    }
}

/* ---- A network written out ------------------------------------------------------------------------------------- */

/* logits = x W' + b, softmax cross entropy, SGD with momentum 0.9; a "running mean" of the inputs stands for batch
 * norm's statistics, and a step size, which the init program sets to twice the mean of |x| of the first batch and which
 * then scales the logits, for quantizers. Every kept tensor takes part in the next step, so a resume that loses one
 * shows; but for a count of steps, in which those of another phase's program count LATE. */
enum { CLASSES = 10, LATE = 1000 };

/* What a test makes the kernel do at some step. */
typedef struct Sabotage {
    int64_t kill_at; /* SIGKILL in the middle of the update of this step; -1: never */
    int64_t nan_at;  /* the first weight becomes NaN before this step; -1: never */
    int64_t int_at;  /* SIGINT; -1: never */
    int64_t slow_us; /* sleep at each step */
} Sabotage;

typedef struct TinyNet {
    Exec         *exec;
    LoadedProgram train, eval, init;
    LoadedProgram late, clamped, observe, inspect; /* what not every run has: see tiny_more */
    Sabotage      sabotage;
    bool          stop_test; /* SIGINT in each test */
    int64_t       batch;
} TinyNet;

typedef struct TinyKernel {
    const TinyNet *net;
} TinyKernel;

enum {
    B_IMAGE,
    B_LABEL,
    B_LR,
    B_STEP,
    B_SEED,
    B_W,
    B_BIAS,
    B_S,
    B_MEAN,
    B_VW,
    B_VB,
    B_STEPS,
    B_LOSS,
    B_CORRECT,
    B_COUNT
};

static void tiny_logits(const float *x, const float *w, const float *bias, float s, float mean, double *logits)
{
    for (int k = 0; k < CLASSES; k++) {
        double sum = (double)bias[k];
        for (int p = 0; p < DIGIT; p++)
            sum += (double)w[k * DIGIT + p] * (double)(x[p] - mean);
        logits[k] = sum * (double)s;
    }
}

/* Softmax into p; the loss against the label. */
static double tiny_softmax(const double *logits, int label, double *p, bool *correct)
{
    double top = logits[0], sum = 0;
    for (int k = 1; k < CLASSES; k++)
        top = logits[k] > top ? logits[k] : top;
    for (int k = 0; k < CLASSES; k++)
        sum += p[k] = exp(logits[k] - top);
    for (int k = 0; k < CLASSES; k++)
        p[k] /= sum;
    *correct = logits[label] == top;
    return log(sum) + top - logits[label];
}

static void tiny_train(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch, (void)lo, (void)hi;
    const TinyNet *net = ((const TinyKernel *)self)->net;
    const float   *image = bufs[B_IMAGE], lr = *(const float *)bufs[B_LR];
    const int32_t *label = bufs[B_LABEL];
    const int64_t  step = *(const uint32_t *)bufs[B_STEP], n = net->batch;
    float         *w = bufs[B_W], *bias = bufs[B_BIAS], *s = bufs[B_S], *mean = bufs[B_MEAN];
    float         *vw = bufs[B_VW], *vb = bufs[B_VB];
    double         loss = 0, correct = 0, sum = 0;
    static double  gw[CLASSES * DIGIT];
    double         gb[CLASSES] = { 0 }, gs = 0;
    memset(gw, 0, sizeof gw);
    if (step == net->sabotage.nan_at)
        w[0] = NAN;
    if (step == net->sabotage.int_at)
        raise(SIGINT);
    if (net->sabotage.slow_us)
        usleep((useconds_t)net->sabotage.slow_us);
    for (int64_t i = 0; i < n; i++) {
        double logits[CLASSES], p[CLASSES];
        bool   hit;
        tiny_logits(image + i * DIGIT, w, bias, *s, *mean, logits);
        loss += tiny_softmax(logits, label[i], p, &hit);
        correct += hit;
        for (int k = 0; k < CLASSES; k++) {
            double g = (p[k] - (k == label[i])) / (double)n;
            gs += g * logits[k] / (double)*s;
            g *= (double)*s;
            gb[k] += g;
            for (int q = 0; q < DIGIT; q++)
                gw[k * DIGIT + q] += g * (double)(image[i * DIGIT + q] - *mean);
        }
        for (int q = 0; q < DIGIT; q++)
            sum += (double)image[i * DIGIT + q];
    }
    for (int k = 0; k < CLASSES * DIGIT; k++) {
        vw[k] = 0.9f * vw[k] + (float)gw[k];
        w[k] -= lr * vw[k];
        if (step == net->sabotage.kill_at && k == 100)
            raise(SIGKILL);
    }
    for (int k = 0; k < CLASSES; k++) {
        vb[k] = 0.9f * vb[k] + (float)gb[k];
        bias[k] -= lr * vb[k];
    }
    /* A trace of noise by (seed, step), as dropout would leave it. */
    *s -= 0.01f * lr * ((float)gs + 0.01f * rng_normal(*(const uint32_t *)bufs[B_SEED], 9, 0, (uint64_t)step));
    *mean += 0.1f * ((float)(sum / (double)(n * DIGIT)) - *mean);
    *(float *)bufs[B_STEPS] += 1;
    *(float *)bufs[B_LOSS] = (float)(loss / (double)n);
    *(float *)bufs[B_CORRECT] = (float)correct;
}

/* Another phase: the bias falls behind. */
static void tiny_late(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    tiny_train(self, bufs, scratch, lo, hi);
    *(float *)bufs[B_STEPS] += LATE - 1;
    for (int k = 0; k < CLASSES; k++)
        ((float *)bufs[B_BIAS])[k] *= 0.5f;
}

/* bufs: image, label, weight, bias, step size, running mean, loss_each, correct_each */
static void tiny_eval(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch, (void)lo, (void)hi;
    const TinyNet *net = ((const TinyKernel *)self)->net;
    const int32_t *label = bufs[1];
    if (net->stop_test)
        raise(SIGINT);
    for (int64_t i = 0; i < net->batch; i++) {
        double logits[CLASSES], p[CLASSES];
        bool   hit;
        tiny_logits((const float *)bufs[0] + i * DIGIT, bufs[2], bufs[3], *(const float *)bufs[4],
                    *(const float *)bufs[5], logits);
        ((float *)bufs[6])[i] = (float)tiny_softmax(logits, label[i], p, &hit);
        ((float *)bufs[7])[i] = hit ? 1 : 0;
    }
}

/* The same without the mean: what is not rounded, say. */
static void tiny_clamped(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    float mean = 0;
    void *other[] = { bufs[0], bufs[1], bufs[2], bufs[3], bufs[4], &mean, bufs[6], bufs[7] };
    tiny_eval(self, other, scratch, lo, hi);
}

/* bufs: image, weight, bias, step size, running mean, velocities, steps, what a quantizer of the image would read */
static void tiny_observe(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch, (void)lo, (void)hi;
    const TinyNet *net = ((const TinyKernel *)self)->net;
    memcpy(bufs[8], bufs[0], sizeof(float) * (size_t)net->batch * DIGIT);
}

/* The code of weight i after so many steps: one of four moves there and back, one goes round, two stay; the last class
 * has none. */
UNUSED static int tiny_code(int64_t i, int64_t steps)
{
    const int codes[] = { (int)(steps % 2), 3, (int)(steps % 3), 0 };
    return i / DIGIT == CLASSES - 1 ? 0 : codes[i % 4];
}

enum { I_IMAGE, I_W = 2, I_BIAS, I_S, I_MEAN, I_VW, I_VB, I_STEPS, I_OUT };
enum { TINY_SEEN = 7 }; /* outputs of a quantizer: step, clipped, noise, signal, bad, then value and phi */
static const float tiny_step = 0.125f;

/* A quantizer of the weight, then one of the image, whose step is the trained one. */
static void tiny_inspect(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch, (void)lo, (void)hi;
    const TinyNet *net = ((const TinyKernel *)self)->net;
    const int64_t  steps = (int64_t)*(const float *)bufs[I_STEPS], n = CLASSES * DIGIT, each = net->batch * DIGIT;
    const float   *w = bufs[I_W], *x = bufs[I_IMAGE];
    void *const   *out = bufs + I_OUT;
    float          bad[2] = { 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        ((float *)out[5])[i] = tiny_step * (float)tiny_code(i, steps);
        bad[0] += !isfinite(w[i]);
    }
    for (int k = 0; k < CLASSES; k++) {
        ((float *)out[0])[k] = tiny_step;
        ((float *)out[6])[k] = (float)k;
    }
    for (int64_t i = 0; i < each; i++)
        bad[1] += !isfinite(x[i] + *(const float *)bufs[I_S]);
    *(float *)out[1] = 784;
    *(float *)out[2] = 1;
    *(float *)out[3] = 100;
    *(float *)out[4] = bad[0];
    *(float *)out[TINY_SEEN] = *(const float *)bufs[I_S];
    *(float *)out[TINY_SEEN + 1] = (float)(each * 3 / 4);
    *(float *)out[TINY_SEEN + 2] = 0;
    *(float *)out[TINY_SEEN + 3] = 8;
    *(float *)out[TINY_SEEN + 4] = bad[1];
}

/* bufs: image, weight, bias, step size, running mean */
static void tiny_init(const void *self, void *const *bufs, void *scratch, int64_t lo, int64_t hi)
{
    (void)scratch, (void)lo, (void)hi;
    const TinyNet *net = ((const TinyKernel *)self)->net;
    double         sum = 0;
    for (int64_t i = 0; i < net->batch * DIGIT; i++)
        sum += fabs((double)((const float *)bufs[0])[i]);
    *(float *)bufs[3] = (float)(2 * sum / (double)(net->batch * DIGIT));
}

typedef struct TensorDef {
    TensorKind  kind;
    const char *name;
    DType       dtype;
    int32_t     rank;
    int64_t     dim[4];
    const char *init, *group;
} TensorDef;

static ArenaKind arena_of(TensorKind k)
{
    return k == TENSOR_PARAM ? ARENA_PARAM : k == TENSOR_STATE ? ARENA_STATE : ARENA_IO;
}

/* A program of one kernel that takes all tensors, in order. */
UNUSED static LoadedProgram tiny_program(Arena *a, TinyNet *net, const char *name, KernelEntry run,
                                         const TensorDef *defs, int32_t n)
{
    Program    *p = ARENA_NEW(a, Program);
    MemRef     *bufs = ARENA_ARRAY(a, MemRef, n);
    TinyKernel *self = ARENA_NEW(a, TinyKernel);
    self->net = net;
    *p = (Program){ .arena = a, .name = name, .n_tensors = n, .n_images = 1, .n_launches = 1 };
    p->tensors = ARENA_ARRAY(a, ProgTensor, n);
    for (int32_t i = 0; i < n; i++) {
        const TensorDef *def = &defs[i];
        ProgTensor      *t = &p->tensors[i];
        *t = (ProgTensor){ .kind = def->kind,
                           .name = def->name,
                           .dtype = def->dtype,
                           .rank = def->rank,
                           .elems = 1,
                           .init = def->init,
                           .fan = DIGIT,
                           .group = def->group };
        for (int32_t k = 0; k < def->rank; k++) {
            t->dim[k] = def->dim[k];
            t->elems *= def->dim[k];
        }
        t->bytes = 4 * t->elems;
        ArenaKind kind = arena_of(def->kind);
        t->at = (MemRef){ kind, p->bytes[kind] };
        p->bytes[kind] += dt_round_up(t->bytes, 64);
        bufs[i] = t->at;
    }
    p->images = ARENA_NEW(a, KernelImage);
    *p->images = (KernelImage){ .name = name, .self = self, .run = run, .units = 1, .bytes = 4, .n_bufs = n };
    p->launches = ARENA_NEW(a, Launch);
    *p->launches = (Launch){ .kind = LAUNCH_KERNEL, .name = name, .bufs = bufs, .n_bufs = n };
    int32_t index = exec_add(net->exec, p);
    assert_true(index >= 0);
    return (LoadedProgram){ net->exec, p, index };
}

/* clang-format off */
#define TINY_IMAGE(n) { TENSOR_INPUT, "image", DTYPE_F32, 4, { n, 1, 28, 28 }, NULL, NULL }
#define TINY_LABEL(n) { TENSOR_INPUT, "label", DTYPE_I32, 2, { n, 1 }, NULL, NULL }
#define TINY_PARAMS                                                                                                    \
    { TENSOR_PARAM, "fc.weight", DTYPE_F32, 2, { CLASSES, DIGIT }, "torch", "weight" },                                \
    { TENSOR_PARAM, "fc.bias", DTYPE_F32, 1, { CLASSES }, "zeros", "bias" },                                           \
    { TENSOR_PARAM, "fc.act.step", DTYPE_F32, 0, { 0 }, "ones", "step" },                                              \
    { TENSOR_STATE, "bn.running_mean", DTYPE_F32, 1, { 1 }, "zeros", NULL }
#define TINY_STATES                                                                                                    \
    { TENSOR_STATE, "fc.weight.velocity", DTYPE_F32, 2, { CLASSES, DIGIT }, "zeros", NULL },                           \
    { TENSOR_STATE, "fc.bias.velocity", DTYPE_F32, 1, { CLASSES }, "zeros", NULL },                                    \
    { TENSOR_STATE, "steps", DTYPE_F32, 0, { 0 }, "zeros", NULL }
#define TINY_TRAIN(n)                                                                                                  \
    TINY_IMAGE(n), TINY_LABEL(n),                                                                                      \
    { TENSOR_INPUT, "lr", DTYPE_F32, 0, { 0 }, NULL, NULL },                                                           \
    { TENSOR_INPUT, "step", DTYPE_U32, 0, { 0 }, NULL, NULL },                                                         \
    { TENSOR_INPUT, "seed", DTYPE_U32, 0, { 0 }, NULL, NULL },                                                         \
    TINY_PARAMS, TINY_STATES,                                                                                          \
    { TENSOR_OUTPUT, "loss", DTYPE_F32, 0, { 0 }, NULL, NULL },                                                        \
    { TENSOR_OUTPUT, "correct", DTYPE_F32, 0, { 0 }, NULL, NULL }
#define TINY_EVAL(n)                                                                                                   \
    TINY_IMAGE(n), TINY_LABEL(n), TINY_PARAMS,                                                                         \
    { TENSOR_OUTPUT, "loss_each", DTYPE_F32, 2, { n, 1 }, NULL, NULL },                                                \
    { TENSOR_OUTPUT, "correct_each", DTYPE_F32, 2, { n, 1 }, NULL, NULL }
#define TINY_SHOWN(name, what) { TENSOR_OUTPUT, "inspect:" name ":" what, DTYPE_F32, 0, { 0 }, NULL, NULL }
/* clang-format on */

UNUSED static TinyNet *tiny_net(Arena *a, Diag *d, int64_t batch)
{
    TinyNet *net = ARENA_NEW(a, TinyNet);
    net->batch = batch;
    net->sabotage = (Sabotage){ -1, -1, -1, 0 };
    net->exec = exec_new(a, d, calllib_reference(a), (ExecOptions){ .threads = 1 });
    const TensorDef train[B_COUNT] = { TINY_TRAIN(batch) };
    const TensorDef eval[] = { TINY_EVAL(batch) };
    const TensorDef init_defs[] = { TINY_IMAGE(batch), TINY_PARAMS };
    net->train = tiny_program(a, net, "train", tiny_train, train, B_COUNT);
    net->eval = tiny_program(a, net, "eval", tiny_eval, eval, DT_COUNT(eval));
    net->init = tiny_program(a, net, "init", tiny_init, init_defs, DT_COUNT(init_defs));
    return net;
}

/* The programs of phases, of a second test, of calibration and of diagnosis. */
UNUSED static void tiny_more(Arena *a, TinyNet *net)
{
    const int64_t   n = net->batch;
    const TensorDef train[B_COUNT] = { TINY_TRAIN(n) };
    const TensorDef eval[] = { TINY_EVAL(n) };
    const TensorDef observe[] = { TINY_IMAGE(n),
                                  TINY_PARAMS,
                                  TINY_STATES,
                                  { TENSOR_OUTPUT, "observe:fc.act", DTYPE_F32, 2, { n, DIGIT }, NULL, NULL } };
    const TensorDef inspect[] = {
        TINY_IMAGE(n),
        TINY_LABEL(n),
        TINY_PARAMS,
        TINY_STATES,
        { TENSOR_OUTPUT, "inspect:fc.weight:step", DTYPE_F32, 1, { CLASSES }, NULL, NULL },
        TINY_SHOWN("fc.weight", "clipped"),
        TINY_SHOWN("fc.weight", "noise"),
        TINY_SHOWN("fc.weight", "signal"),
        TINY_SHOWN("fc.weight", "bad"),
        { TENSOR_OUTPUT, "inspect:fc.weight:value", DTYPE_F32, 2, { CLASSES, DIGIT }, NULL, NULL },
        { TENSOR_OUTPUT, "inspect:fc.weight:phi", DTYPE_F32, 1, { CLASSES }, NULL, NULL },
        TINY_SHOWN("fc.act", "step"),
        TINY_SHOWN("fc.act", "clipped"),
        TINY_SHOWN("fc.act", "noise"),
        TINY_SHOWN("fc.act", "signal"),
        TINY_SHOWN("fc.act", "bad"),
    };
    net->late = tiny_program(a, net, "late", tiny_late, train, B_COUNT);
    net->clamped = tiny_program(a, net, "clamped", tiny_clamped, eval, DT_COUNT(eval));
    net->observe = tiny_program(a, net, "observe", tiny_observe, observe, DT_COUNT(observe));
    net->inspect = tiny_program(a, net, "inspect", tiny_inspect, inspect, DT_COUNT(inspect));
}

#endif
