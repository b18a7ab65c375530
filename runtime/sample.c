/* sample.c: one sample, from bytes to the floats that a network gets.
 *
 *   read -> cut out and turn -> colours (training, classes) -> normalise, or make noise -> erase
 *
 * Pixels stay bytes until the end: 60,000 CIFAR pictures are 184 MB as bytes, four times that as floats, and with 256
 * possible values normalisation is a look-up. The table's entries are computed as PyTorch's ToTensor and Normalize do,
 * in f32, so a network trained elsewhere sees the same numbers.
 *
 * Tested by tests/unit/test_data.c, test_augment.c. */
#include "runtime/data_impl.h"

#include <string.h>

PixelTable pixel_table(Normalise n)
{
    PixelTable t;
    for (int32_t c = 0; c < DATA_MAX_CHANNELS; c++)
        for (int32_t b = 0; b < 256; b++) {
            float x = (float)b / 255.0f;
            t.of[c][b] = n.std[c] == 0 ? x : (x - n.mean[c]) / n.std[c];
        }
    return t;
}

SampleMaker sample_maker(const LoaderConfig *c)
{
    SampleMaker m = { .c = *c,
                      .values = pixel_table(c->normalise),
                      .h = dataset_height(c->data, c->split),
                      .w = dataset_width(c->data, c->split) };
    if (c->split != SPLIT_TRAIN)
        m.c.augment = (Augment){ 0 };
    m.elems = dataset_channels(c->data) * m.h * m.w;
    return m;
}

/* ---- Where ----------------------------------------------------------------------------------------------------- */

static Picture cut_classes(const SampleMaker *m, Arena *a, const Picture *p, int32_t epoch, int32_t sample)
{
    const Dataset *set = m->c.data;
    const bool     usual = m->c.augment.usual;
    if (set->usual == USUAL_SHIFT && usual)
        return picture_view(a, p, dataset_view(set, m->c.seed, epoch, sample));
    if (set->usual != USUAL_RESIZED)
        return *p;
    if (!usual)
        return picture_center(a, p, m->h, m->w);
    Draws   r = draws_new(m->c.seed, "augment/where", epoch, sample);
    Region  g = region_random(&r, p->h, p->w);
    bool    mirror = set->mirror && draw_below(&r, 2);
    Picture out = picture_resize(a, p, g.top, g.left, g.h, g.w, m->h, m->w, FILTER_BICUBIC);
    return mirror ? picture_cut(a, &out, (Region){ .h = m->h, .w = m->w }, 1) : out;
}

/* The same region of both pictures, turned the same way. */
static bool cut_pair(const SampleMaker *m, Arena *a, Diag *d, int32_t epoch, int32_t sample, Sample *s)
{
    const int32_t  h = s->clean.h, w = s->clean.w;
    const Picture *p = &s->picture;
    if (p->c && (p->h != h || p->w != w)) {
        diag_error(d, LOC_NONE, "data: the pair is %dx%d and %dx%d, expected one size", p->h, p->w, h, w);
        return false;
    }
    if (h < m->h || w < m->w) {
        diag_error(d, LOC_NONE, "data: it is %dx%d, smaller than the %dx%d that are cut out", h, w, m->h, m->w);
        return false;
    }
    Region  g = { (h - m->h) / 2, (w - m->w) / 2, m->h, m->w };
    int32_t symmetry = 0;
    if (m->c.augment.usual) {
        Draws r = draws_new(m->c.seed, "augment/where", epoch, sample);
        g.top = draw_below(&r, h - m->h + 1);
        g.left = draw_below(&r, w - m->w + 1);
        symmetry = draw_below(&r, m->h == m->w ? 8 : 4);
    }
    if (p->c)
        s->picture = picture_cut(a, p, g, symmetry);
    s->clean = picture_cut(a, &s->clean, g, symmetry);
    return true;
}

/* ---- Floats ---------------------------------------------------------------------------------------------------- */

/* Where element (y, x, k) of a sample goes. */
typedef struct Layout {
    int32_t pixel, channel;
} Layout;

static Layout layout_of(const SampleMaker *m, int32_t c)
{
    return (Layout){ .pixel = m->c.nhwc ? c : 1, .channel = m->c.nhwc ? 1 : m->h * m->w };
}

static void bytes_to_floats(const SampleMaker *m, const Picture *p, const PixelTable *t, float *out)
{
    const Layout  l = layout_of(m, p->c);
    const int32_t pixels = p->h * p->w, c = p->c;
    for (int32_t k = 0; k < c; k++) {
        const float *value = t->of[k];
        for (int32_t i = 0; i < pixels; i++)
            out[i * l.pixel + k * l.channel] = value[p->pixels[i * c + k]];
    }
}

static void put_noisy(const SampleMaker *m, Arena *a, const Picture *clean, int32_t epoch, int32_t sample,
                      const SampleOut *to)
{
    const bool    train = m->c.split == SPLIT_TRAIN; /* test noise is the same in all runs */
    const Layout  l = layout_of(m, clean->c);
    const int32_t c = clean->c, pixels = clean->h * clean->w;
    float        *noisy = ARENA_ARRAY(a, float, m->elems), *level = ARENA_ARRAY(a, float, m->elems);
    noise_make(a, &m->c.data->noise, clean, train ? m->c.seed : 0, train ? epoch : 0, sample, noisy, level);
    for (int32_t i = 0; i < pixels; i++)
        for (int32_t k = 0; k < c; k++) {
            float x = noisy[i * c + k], std = m->c.normalise.std[k];
            to->image[i * l.pixel + k * l.channel] = std == 0 ? x : (x - m->c.normalise.mean[k]) / std;
            if (to->noise)
                to->noise[i * l.pixel + k * l.channel] = level[i * c + k];
        }
}

static void put_pair(const SampleMaker *m, Arena *a, const Sample *s, int32_t epoch, int32_t sample,
                     const SampleOut *to)
{
    static const Normalise none = { { 0 }, { 0 } };
    if (to->target) {
        PixelTable plain = pixel_table(none);
        bytes_to_floats(m, &s->clean, &plain, to->target);
    }
    if (m->c.data->noise.kind != NOISE_NONE) {
        put_noisy(m, a, &s->clean, epoch, sample, to);
        return;
    }
    bytes_to_floats(m, &s->picture, &m->values, to->image);
    for (int32_t i = 0; to->noise && i < m->elems; i++)
        to->noise[i] = -1;
}

/* What is erased has the mean of the data set. */
static void erase(const SampleMaker *m, int32_t c, int32_t epoch, int32_t sample, float *image)
{
    const Layout l = layout_of(m, c);
    Draws        r = draws_new(m->c.seed, "augment/erase", epoch, sample);
    if (draw_uniform(&r, 0, 1) >= (double)m->c.augment.erase)
        return;
    Region g = region_erase(&r, m->h, m->w);
    for (int32_t y = g.top; y < g.top + g.h; y++)
        for (int32_t x = g.left; x < g.left + g.w; x++)
            for (int32_t k = 0; k < c; k++)
                image[(y * m->w + x) * l.pixel + k * l.channel] = 0;
}

static void put_classes(const SampleMaker *m, Arena *a, Picture *p, int32_t epoch, int32_t sample, const SampleOut *to)
{
    const Augment *g = &m->c.augment;
    if (g->colour > 0) {
        Draws r = draws_new(m->c.seed, "augment/colour", epoch, sample);
        picture_jitter(p, &r, (double)g->colour);
    }
    if (g->randaugment > 0) {
        Draws r = draws_new(m->c.seed, "augment/randaugment", epoch, sample);
        picture_randaugment(a, p, &r, g->randaugment, g->randaugment_m);
    }
    bytes_to_floats(m, p, &m->values, to->image);
    if (g->erase > 0)
        erase(m, p->c, epoch, sample, to->image);
}

bool sample_make(const SampleMaker *m, Arena *scratch, Diag *d, int32_t epoch, int32_t sample, const SampleOut *to)
{
    Sample s;
    if (!dataset_read(scratch, d, m->c.data, m->c.split, sample, &s))
        return false;
    *to->label = s.label;
    if (m->c.data->task == DATA_PAIRS) {
        if (!cut_pair(m, scratch, d, epoch, sample, &s))
            return false;
        put_pair(m, scratch, &s, epoch, sample, to);
        return true;
    }
    const bool changes = m->c.augment.colour > 0 || m->c.augment.randaugment > 0;
    Picture    seen = cut_classes(m, scratch, &s.picture, epoch, sample);
    if (changes && seen.pixels == s.picture.pixels) /* may be the pack's */
        seen = picture_cut(scratch, &seen, (Region){ .h = seen.h, .w = seen.w }, 0);
    put_classes(m, scratch, &seen, epoch, sample, to);
    return true;
}
