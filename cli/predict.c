/* predict.c: `detent predict NET --checkpoint F PICTURE...`: what a trained network says of pictures: the likeliest
 * classes, or, of a network that restores, the picture without its noise.
 *
 * A classifier sees a picture as it saw test pictures: of its own size as it is, any other one resized, the middle cut
 * out. A network that restores is compiled for each picture's size. Where it needs sizes that can be halved some times,
 * the picture is extended below and to the right, as a mirror would, and the result is cut back; how often follows from
 * the network: the smallest power of two with which it builds and gives back the size it got.
 *
 * Tested by tests/unit/test_predict.c. */
#include "cli/cli.h"
#include "runtime/data_impl.h"
#include "runtime/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREDICT_MOST_MULTIPLE = 256 };

/* A program for one size of pictures. */
typedef struct PredictProgram {
    int32_t       h, w;
    LoadedProgram eval;
} PredictProgram;

typedef struct Predict {
    Session     *s;
    const char  *file;  /* the checkpoint */
    const char **names; /* of classes; NULL: numbers */
    const char  *out;   /* directory, or a file that ends with .png */
    VEC(PredictProgram) programs;
} Predict;

/* ---- Programs ---------------------------------------------------------------------------------------------------- */

/* What is there of the host's memory, once and for all. */
static int64_t predict_room(const Session *s)
{
    int64_t pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    int64_t room = exec_memory_available(s->exec);
    return pages > 0 && page > 0 && s->gpu == NULL ? dt_min64(room, pages * page) : room;
}

/* The first one brings the weights, which all share. NULL: reported. */
static const PredictProgram *predict_program(Predict *p, int32_t h, int32_t w)
{
    Session *s = p->s;
    for (int32_t i = 0; i < p->programs.len; i++)
        if (p->programs.at[i].h == h && p->programs.at[i].w == w)
            return &p->programs.at[i];
    s->test_h = h;
    s->test_w = w;
    Program *made = session_program(s, STEP_EVAL, true, NULL);
    if (made == NULL)
        return NULL;
    int64_t needed = exec_memory_needed(s->exec, made), room = predict_room(s);
    if (needed > room) {
        diag_error(&s->diag, LOC_NONE, "memory: a picture of %dx%d needs %s, there is %s", w, h,
                   str_bytes(&s->arena, needed), str_bytes(&s->arena, room));
        diag_help(&s->diag, "cut it into smaller ones");
        return NULL;
    }
    int32_t index = exec_add(s->exec, made);
    if (index < 0)
        return NULL;
    PredictProgram program = { h, w, { s->exec, made, index } };
    if (p->programs.len == 0 && !checkpoint_load(&s->diag, p->file, program.eval, NULL))
        return NULL;
    vec_push(&s->arena, &p->programs, program);
    return &p->programs.at[p->programs.len - 1];
}

/* Pixels as the network sees them, in the layout of its input. */
static void predict_put(const Predict *p, const ProgTensor *t, const Picture *picture, float *out)
{
    const PixelTable values = pixel_table(session_normalise(p->s->model));
    const int64_t    c = picture->c, pixels = (int64_t)picture->h * picture->w;
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t k = 0; k < c; k++)
            out[t->nhwc ? i * c + k : k * pixels + i] = values.of[k][picture->pixels[i * c + k]];
}

/* The answer, in logical order; NULL: reported. An evaluation asks for the right answer, too: it gets zeros, and what
 * it says of it is not looked at. */
static const float *predict_run(Predict *p, Arena *a, const PredictProgram *of, const Picture *picture,
                                const ProgTensor **answer)
{
    const LoadedProgram e = of->eval;
    *answer = program_tensor(e.program, "logits");
    DT_ASSERT(*answer != NULL, "an evaluation of %s without an answer", p->s->model->name);
    for (int32_t i = 0; i < e.program->n_tensors; i++) {
        const ProgTensor *t = &e.program->tensors[i];
        if (t->kind != TENSOR_INPUT)
            continue;
        void *at = exec_ptr(e.exec, e.index, t);
        memset(at, 0, (size_t)t->bytes);
        if (str_eq(t->name, "image"))
            predict_put(p, t, picture, at);
    }
    float *values = ARENA_ARRAY(a, float, (*answer)->elems);
    return exec_run(e.exec, e.index) && tensor_read(e.exec, e.index, *answer, values) ? values : NULL;
}

/* ---- Classes ----------------------------------------------------------------------------------------------------- */

/* Names by --data, else by the checkpoint, else there are none. False: reported. */
static bool predict_names(Predict *p)
{
    Session *s = p->s;
    if (s->opt.data != NULL) {
        const Dataset *data = session_data(s);
        if (data == NULL)
            return false;
        p->names = ARENA_ARRAY(&s->arena, const char *, s->model->classes);
        for (int32_t i = 0; i < s->model->classes; i++)
            p->names[i] = dataset_class(data, i);
        return true;
    }
    const StFile *f = st_read(&s->arena, &s->diag, p->file);
    if (f != NULL)
        p->names = checkpoint_classes(&s->arena, f, s->model->classes);
    return f != NULL;
}

/* As a test picture of the data set is seen. */
static bool predict_read(const Predict *p, Arena *a, const char *path, Picture *out)
{
    const DtModel *m = p->s->model;
    const int32_t  h = m->image[1], w = m->image[2];
    const bool     photos = str_eq(p->s->opt.dataset, "folder");
    const int32_t  least = (int32_t)dt_max64(center_resize(h), center_resize(w));
    if (!picture_read(a, &p->s->diag, path, m->image[0], least, out))
        return false;
    if (photos || out->h != h || out->w != w)
        *out = picture_center(a, out, h, w);
    return true;
}

/* In double: what is far below the largest is 0, and all add up to 1. */
static void predict_softmax(const float *logits, int64_t n, double *out)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, (double)logits[i]);
    for (int64_t i = 0; i < n; i++)
        sum += out[i] = exp((double)logits[i] - most);
    for (int64_t i = 0; i < n; i++)
        out[i] /= sum;
}

/* The likeliest first; of equal ones the first. */
static void predict_say_classes(const Predict *p, const char *path, const double *share, int64_t n)
{
    FILE   *out = p->s->out;
    Arena   scratch = arena_new("classes");
    bool   *said = ARENA_ARRAY(&scratch, bool, n);
    int64_t top = dt_min64(p->s->opt.top, n);
    fprintf(out, "%s\n", path);
    for (int64_t k = 0; k < top; k++) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++)
            if (!said[i] && (best < 0 || share[i] > share[best]))
                best = i;
        said[best] = true;
        fprintf(out, "%8.2f %%  %s\n", 100 * share[best],
                p->names != NULL ? p->names[best] : arena_printf(&scratch, "class %lld", (long long)best));
    }
    arena_free(&scratch);
}

static bool predict_class(Predict *p, const char *path)
{
    Arena             scratch = arena_new("picture");
    Picture           picture;
    const ProgTensor *answer = NULL;
    const DtModel    *m = p->s->model;
    const bool        read = predict_read(p, &scratch, path, &picture);
    /* read first: a picture that is none should not wait for the compiler */
    const PredictProgram *of = read ? predict_program(p, m->image[1], m->image[2]) : NULL;
    const float          *logits = of != NULL ? predict_run(p, &scratch, of, &picture, &answer) : NULL;
    bool                  ok = logits != NULL;
    for (int64_t i = 0; ok && i < answer->elems; i++)
        if (!isfinite(logits[i])) {
            diag_error(&p->s->diag, LOC_NONE, "%s: the network's answer is not finite", path);
            ok = false;
        }
    if (ok) {
        double *share = ARENA_ARRAY(&scratch, double, answer->elems);
        predict_softmax(logits, answer->elems, share);
        predict_say_classes(p, path, share, answer->elems);
    }
    arena_free(&scratch);
    return ok;
}

/* ---- Pictures that are restored ---------------------------------------------------------------------------------- */

/* Does the network build for this size, and give it back? */
static bool predict_builds(const Predict *p, int32_t h, int32_t w, Diag *d)
{
    Arena   a = arena_new("size");
    DtModel m = *p->s->model;
    m.image[1] = h;
    m.image[2] = w;
    const Graph *g = frontend_build(&a, d, &m, 1, STEP_EVAL);
    bool         same = false;
    for (int32_t i = 0; g != NULL && i < g->order.len; i++) {
        const Value *v = ir_value(g, g->order.at[i]);
        if (v->op != OP_OUTPUT || !str_eq(v->name, "logits"))
            continue;
        const Shape shape = ir_value(g, v->in[0])->type.shape;
        same = shape.rank == 4 && shape.dim[1] == m.image[0] && shape.dim[2] == h && shape.dim[3] == w;
    }
    arena_free(&a);
    return same;
}

/* The size to extend h x w to. False: reported, with what is wrong with the picture's own size. */
static bool predict_size(const Predict *p, const char *path, int32_t h, int32_t w, int32_t *big_h, int32_t *big_w)
{
    for (int32_t multiple = 1; multiple <= PREDICT_MOST_MULTIPLE; multiple *= 2) {
        Diag quiet = diag_new(NULL);
        *big_h = (int32_t)dt_round_up(h, multiple);
        *big_w = (int32_t)dt_round_up(w, multiple);
        bool ok = *big_h <= DT_MAX_DIM && *big_w <= DT_MAX_DIM && predict_builds(p, *big_h, *big_w, &quiet);
        diag_free(&quiet);
        if (ok)
            return true;
    }
    if (predict_builds(p, h, w, &p->s->diag) || p->s->diag.errors == 0)
        diag_error(&p->s->diag, LOC_NONE, "%s: expected a network that gives back a picture of the size that it gets",
                   p->s->model->name);
    diag_note(&p->s->diag, LOC_NONE, "for %s, of %dx%d pixels", path, w, h);
    return false;
}

/* Where index i of a row that goes on as in two mirrors lies: 0 1 2 1 0 1 ... of three. */
static int32_t predict_mirror(int32_t i, int32_t n)
{
    int32_t period = 2 * dt_max64(n - 1, 1), k = i % period;
    return n == 1 ? 0 : k < n ? k : period - k;
}

static Picture predict_extend(Arena *a, const Picture *p, int32_t h, int32_t w)
{
    Picture out = { .c = p->c, .h = h, .w = w };
    out.pixels = arena_alloc(a, (size_t)h * (size_t)w * (size_t)p->c);
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++)
            memcpy(out.pixels + ((size_t)y * (size_t)w + (size_t)x) * (size_t)p->c,
                   p->pixels + ((size_t)predict_mirror(y, p->h) * (size_t)p->w + (size_t)predict_mirror(x, p->w)) *
                                   (size_t)p->c,
                   (size_t)p->c);
    return out;
}

/* The upper left h x w of an answer [1, c, H, W], as bytes. */
static Picture predict_cut(Arena *a, const float *values, const ProgTensor *t, int32_t h, int32_t w)
{
    Picture out = { .c = (int32_t)t->dim[1], .h = h, .w = w };
    out.pixels = arena_alloc(a, (size_t)h * (size_t)w * (size_t)out.c);
    for (int32_t y = 0, i = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++)
            for (int32_t c = 0; c < out.c; c++) {
                double v = (double)values[(c * t->dim[2] + y) * t->dim[3] + x];
                out.pixels[i++] = (uint8_t)rint(255 * (v > 0 ? fmin(v, 1) : 0)); /* a NaN is black */
            }
    return out;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && str_eq(text + n - m, end);
}

/* "in/a.jpg" -> "OUT/a-result.png" */
static const char *predict_path(const Predict *p, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path, *dot = strrchr(base, '.');
    int         len = (int)(dot != NULL && dot != base ? (size_t)(dot - base) : strlen(base));
    if (p->out != NULL && ends_with(p->out, ".png"))
        return p->out;
    return arena_printf(&p->s->arena, "%s%s%.*s-result.png", p->out != NULL ? p->out : "", p->out != NULL ? "/" : "",
                        len, base);
}

/* "PSNR 38.20 dB (before 34.10), SSIM 0.9500 (0.9000)" */
static bool predict_score(Predict *p, Arena *a, const Picture *before, const Picture *after)
{
    Session    *s = p->s;
    const char *path = s->opt.clean;
    Picture     clean;
    if (path == NULL)
        return true;
    if (!picture_read(a, &s->diag, path, before->c, 0, &clean))
        return false;
    if (clean.h != before->h || clean.w != before->w) {
        diag_error(&s->diag, LOC_NONE, "--clean: expected a picture of %dx%d as the noisy one, found %dx%d in %s",
                   before->w, before->h, clean.w, clean.h, path);
        return false;
    }
    PictureScore old = picture_score(before, &clean), now = picture_score(after, &clean);
    fprintf(s->out, "PSNR %.2f dB (before %.2f), SSIM %.4f (%.4f)\n", now.psnr, old.psnr, now.ssim, old.ssim);
    return true;
}

static bool predict_restore(Predict *p, const char *path)
{
    Session          *s = p->s;
    Arena             scratch = arena_new("picture");
    Picture           picture, result;
    int32_t           h, w;
    const ProgTensor *answer = NULL;
    const char       *to = predict_path(p, path);
    bool              ok = picture_read(&scratch, &s->diag, path, s->model->image[0], 0, &picture) &&
              predict_size(p, path, picture.h, picture.w, &h, &w);
    const PredictProgram *of = ok ? predict_program(p, h, w) : NULL;
    Picture               big = of != NULL ? predict_extend(&scratch, &picture, h, w) : (Picture){ 0 };
    const float          *values = of != NULL ? predict_run(p, &scratch, of, &big, &answer) : NULL;
    ok = values != NULL;
    if (ok) {
        result = predict_cut(&scratch, values, answer, picture.h, picture.w);
        ok = picture_write_png(&s->diag, to, &result);
    }
    if (ok) {
        fprintf(s->out, "%s: %dx%d -> %s\n", path, picture.w, picture.h, to);
        ok = predict_score(p, &scratch, &picture, &result);
    }
    arena_free(&scratch);
    return ok;
}

/* ---- The command ------------------------------------------------------------------------------------------------- */

/* What is asked for and cannot be done. */
static bool predict_check(Predict *p, const StrList *pictures)
{
    static const struct {
        const char *option;
        bool        restores;
    } only[] = { { "out", true }, { "clean", true }, { "top", false }, { "data", false }, { "dataset", false } };
    Session *s = p->s;
    bool     restores = s->model->loss != DT_CROSS_ENTROPY;
    for (int32_t i = 0; i < DT_COUNT(only); i++)
        if (cli_given(&s->opt, only[i].option) && restores != only[i].restores) {
            diag_error(&s->diag, LOC_NONE, "--%s: expected a network that %s, found %s, which %s", only[i].option,
                       only[i].restores ? "restores pictures" : "tells classes", s->model->name,
                       restores ? "restores pictures" : "tells classes");
            return false;
        }
    if (s->opt.clean != NULL && pictures->len != 1) {
        diag_error(&s->diag, LOC_NONE, "--clean: expected one picture beside it, found %d", pictures->len);
        return false;
    }
    for (int32_t i = 0; restores && i < pictures->len; i++)
        for (int32_t k = 0; k < i; k++)
            if (str_eq(predict_path(p, pictures->at[i]), predict_path(p, pictures->at[k]))) {
                diag_error(&s->diag, LOC_NONE, "predict: %s and %s would both become %s", pictures->at[k],
                           pictures->at[i], predict_path(p, pictures->at[i]));
                diag_help(&s->diag, "do them one by one, with --out");
                return false;
            }
    return true;
}

/* A run's directory stands for its best weights. */
static const char *predict_file(Session *s)
{
    static const char *const names[] = { RUN_BEST, RUN_LAST };
    const char              *word = s->opt.checkpoint;
    struct stat              st;
    for (int32_t i = 0; i < DT_COUNT(names) && stat(word, &st) == 0 && S_ISDIR(st.st_mode); i++) {
        const char *path = arena_printf(&s->arena, "%s/%s", word, names[i]);
        if (access(path, F_OK) == 0)
            return path;
    }
    return word;
}

int command_predict(Session *s, const StrList *rest)
{
    const int32_t first = str_eq(s->program, "detent") ? 1 : 0; /* the network's name */
    const StrList pictures = { .at = rest->at + first, .len = rest->len - first };
    Predict       p = { .s = s, .out = s->opt.out };
    if (s->opt.checkpoint == NULL || pictures.len < 1) {
        diag_error(&s->diag, LOC_NONE, "%s predict: expected %s, found none", s->program,
                   s->opt.checkpoint == NULL ? "weights, --checkpoint FILE" : "a picture, a JPEG or PNG file");
        return EXIT_USAGE;
    }
    p.file = predict_file(s);
    if (!session_adopt(s, p.file))
        return EXIT_MISTAKE;
    if (!predict_check(&p, &pictures))
        return EXIT_USAGE;
    const bool classes = s->model->loss == DT_CROSS_ENTROPY;
    if ((classes && !predict_names(&p)) || (p.out != NULL && !ends_with(p.out, ".png") && !dir_make(&s->diag, p.out)))
        return EXIT_MISTAKE;
    s->opt.eval_batch = 1;
    for (int32_t i = 0; i < pictures.len; i++)
        if (!(classes ? predict_class : predict_restore)(&p, pictures.at[i]))
            return EXIT_MISTAKE;
    return EXIT_OK;
}
