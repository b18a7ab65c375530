/* all_pictures.c: evaluations by integer products, logit for logit: the interpreter and plain loops beside machine code
 * and the kernels of every instruction set of this machine, on one to three threads and with vectors of other widths.
 *
 *     all_pictures NET CHECKPOINT DATASET DIR FIRST BATCHES
 *
 * Batches FIRST, FIRST + 1, ... of the test pictures of DATASET in DIR, at most BATCHES. Every logit must have the same
 * bits. Portable kernels, which are slow, see each batch once, on one, two or three threads in turns. Says how many
 * pictures there were, how many backends saw them, and how many answers were right; exit status 1: something differs,
 * which is named. Run by test_all_pictures.py, which trains the weights. */
#include "cli/cli.h"
#include "runtime/integer/integer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100, THREADS = 3, SIDES = 1 + ISA_COUNT * THREADS, WORDS = 7 };

/* One backend with the network in memory. */
typedef struct Side {
    const char       *name; /* "avx2, 2 threads" */
    Isa               isa;
    int               threads; /* 0: the interpreter */
    Session           s;
    LoadedProgram     eval;
    const ProgTensor *logits;
} Side;

typedef struct Pictures {
    Arena       a;
    Diag        d;
    const char *net, *checkpoint, *dataset, *dir;
    Side        side[SIDES]; /* the first is the interpreter */
    int32_t     n;
    int64_t     seen, right;
} Pictures;

/* Kernels of floats differ with the width of vectors: narrow ones go with narrow instruction sets. */
static const char *width_of(Isa isa)
{
    static const char *const width[ISA_COUNT] = {
        [ISA_PORTABLE] = "4", [ISA_AVX2] = "8", [ISA_AVX_VNNI] = "8", [ISA_AVX512] = "0", [ISA_AVX512_VNNI] = "0"
    };
    return width[isa];
}

/* The network as `detent eval --forward int` has it, with these options. False: reported. */
static bool open_side(Pictures *p, const char *name, char **option, int n)
{
    Side   *x = &p->side[p->n];
    StrList rest = { 0 };
    *x = (Side){ .name = name, .s = { .arena = arena_new("side"), .program = "all_pictures", .out = stdout } };
    x->s.diag = diag_new(stderr);
    p->n++; /* what is opened is closed */
    const DtModel *m = frontend_find(&x->s.arena, &x->s.diag, p->net);
    if (m == NULL ||
        !cli_parse(&x->s.arena, &x->s.diag, OPTS_COMMON | OPTS_RECIPE | OPTS_TRAIN | OPTS_RUN | OPTS_TARGET, n, option,
                   &x->s.opt, &rest) ||
        !session_open(&x->s, m) || !session_adopt(&x->s, p->checkpoint))
        return false;
    x->eval = session_load(&x->s, STEP_EVAL);
    if (x->eval.program == NULL || !checkpoint_load(&x->s.diag, p->checkpoint, x->eval, NULL))
        return false;
    x->logits = program_tensor(x->eval.program, "logits");
    return true;
}

static char *say(Pictures *p, const char *name, const char *value)
{
    return arena_printf(&p->a, "--%s=%s", name, value);
}

static bool open_sides(Pictures *p)
{
    char *common[] = { say(p, "forward", "int"), say(p, "eval-batch", arena_printf(&p->a, "%d", BATCH)),
                       say(p, "dataset", p->dataset), say(p, "data", p->dir), say(p, "backend", "interp") };
    char *option[8];
    memcpy(option, common, sizeof common);
    if (!open_side(p, "interpreter", option, DT_COUNT(common)))
        return false;
    for (Isa isa = ISA_PORTABLE; isa < ISA_COUNT; isa++)
        for (int threads = 1; threads <= THREADS && isa_is_here(isa); threads++) {
            option[4] = say(p, "backend", "cpu");
            option[5] = say(p, "isa", isa_name(isa));
            option[6] = say(p, "threads", arena_printf(&p->a, "%d", threads));
            option[7] = say(p, "vector-width", width_of(isa));
            if (!open_side(p, arena_printf(&p->a, "%s, %d threads", isa_name(isa), threads), option, DT_COUNT(option)))
                return false;
            p->side[p->n - 1].isa = isa;
            p->side[p->n - 1].threads = threads;
        }
    return true;
}

/* The logits of a batch, in the arena; NULL: reported. */
static const float *answer(Arena *a, const Side *x, const float *image, const int32_t *label)
{
    LoadedProgram     e = x->eval;
    const ProgTensor *t = program_tensor(e.program, "label");
    float            *logits = ARENA_ARRAY(a, float, x->logits->elems);
    bool              ok = tensor_write(e.exec, e.index, program_tensor(e.program, "image"), image) &&
              (t == NULL || tensor_write(e.exec, e.index, t, label)) && exec_run(e.exec, e.index) &&
              tensor_read(e.exec, e.index, x->logits, logits);
    return ok ? logits : NULL;
}

/* How many of the first `n` are right. */
static int64_t count_right(const float *logits, const int32_t *label, int64_t classes, int32_t n)
{
    int64_t right = 0;
    for (int32_t i = 0; i < n; i++) {
        int64_t best = 0;
        for (int64_t k = 1; k < classes; k++)
            best = logits[i * classes + k] > logits[i * classes + best] ? k : best;
        right += best == label[i];
    }
    return right;
}

/* One batch on all sides. False: reported. */
static bool compare_batch(Pictures *p, Arena *a, const float *image, const int32_t *label, int32_t batch, int32_t n)
{
    const float *expected = answer(a, &p->side[0], image, label);
    if (expected == NULL)
        return false;
    const int64_t classes = p->side[0].logits->elems / BATCH;
    for (int32_t i = 1; i < p->n; i++) {
        const Side *x = &p->side[i];
        if (x->isa == ISA_PORTABLE && x->threads != 1 + batch % THREADS)
            continue;
        const float *found = answer(a, x, image, label);
        if (found == NULL)
            return false;
        for (int64_t k = 0; k < n * classes; k++)
            if (memcmp(&found[k], &expected[k], sizeof(float)) != 0) {
                diag_error(&p->d, LOC_NONE, "%s: test picture %lld, class %lld: the interpreter says %a, %s says %a",
                           p->net, (long long)(batch * BATCH + k / classes), (long long)(k % classes),
                           (double)expected[k], x->name, (double)found[k]);
                return false;
            }
    }
    p->seen += n;
    p->right += count_right(expected, label, classes, n);
    return true;
}

static bool compare_all(Pictures *p, int32_t first, int32_t batches)
{
    Session *s = &p->side[0].s;
    Dataset *data = session_data(s);
    Loader  *l = data == NULL ? NULL
                              : loader_new(&s->arena, &s->diag,
                                           (LoaderConfig){ .data = data,
                                                           .split = SPLIT_TEST,
                                                           .batch = BATCH,
                                                           .normalise = session_normalise(s->model) });
    if (l == NULL)
        return false;
    const ProgTensor *t = program_tensor(p->side[0].eval.program, "image");
    float            *image = ARENA_ARRAY(&s->arena, float, t->elems);
    int32_t          *label = ARENA_ARRAY(&s->arena, int32_t, BATCH), n = 1;
    bool              ok = true;
    loader_start(l, 0, first);
    for (int32_t b = first; b < first + batches && b < loader_batches(l) && ok; b++) {
        Arena scratch = arena_new("batch");
        n = loader_next(l, &(BatchOut){ .image = image, .label = label });
        ok = n > 0 && compare_batch(p, &scratch, image, label, b, n);
        arena_free(&scratch);
    }
    loader_free(l);
    return ok;
}

/* A whole number of the command line; -1: it is none. */
static int32_t number(const char *text)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == 0 && n >= 0 && n <= INT32_MAX / BATCH ? (int32_t)n : -1;
}

int main(int argc, char **argv)
{
    int32_t first = argc == WORDS ? number(argv[5]) : -1, batches = argc == WORDS ? number(argv[6]) : -1;
    if (first < 0 || batches < 0) {
        fprintf(stderr, "usage: all_pictures NET CHECKPOINT DATASET DIR FIRST BATCHES\n");
        return EXIT_USAGE;
    }
    Pictures p = { .a = arena_new("pictures"),
                   .d = diag_new(stderr),
                   .net = argv[1],
                   .checkpoint = argv[2],
                   .dataset = argv[3],
                   .dir = argv[4] };
    bool     ok = open_sides(&p) && compare_all(&p, first, batches);
    if (ok)
        printf("pictures=%lld backends=%d right=%lld\n", (long long)p.seen, p.n - 1, (long long)p.right);
    while (p.n > 0)
        session_close(&p.side[--p.n].s);
    diag_free(&p.d);
    arena_free(&p.a);
    return ok ? EXIT_OK : EXIT_MISTAKE;
}
