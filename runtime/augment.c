/* augment.c: where a picture is cut out and how it is turned, and colours.
 *
 * All of it follows torchvision on Pillow pictures: the same distributions and, for the same numbers drawn, the same
 * bytes. Numbers come from Draws, so that a sample's changes are a function of (seed, purpose, epoch, sample).
 *
 * Tested by tests/unit/test_augment.c (colours against Pillow: tests/reference/make_pictures.py). */
#include "runtime/data_impl.h"

#include <math.h>
#include <string.h>

/* ---- Numbers --------------------------------------------------------------------------------------------------- */

enum { DRAWS_A_SAMPLE = 1 << 16 };

Draws draws_new(uint64_t seed, const char *purpose, int32_t epoch, int32_t sample)
{
    return (Draws){ .seed = seed,
                    .purpose = hash_u32(purpose),
                    .epoch = (uint32_t)epoch,
                    .at = (uint64_t)(uint32_t)sample * DRAWS_A_SAMPLE };
}

static uint32_t draw_u32(Draws *r)
{
    return rng_u32(r->seed, r->purpose, r->epoch, r->at++);
}

double draw_uniform(Draws *r, double from, double to)
{
    return from + (to - from) * ((double)draw_u32(r) * 0x1p-32);
}

int32_t draw_below(Draws *r, int32_t n)
{
    DT_ASSERT(n > 0, "one of %d", n);
    return (int32_t)(((uint64_t)draw_u32(r) * (uint32_t)n) >> 32);
}

static double draw_normal(Draws *r)
{
    double radius = sqrt(-2 * log(((double)draw_u32(r) + 1) * 0x1p-32));
    return radius * cos(2 * M_PI * 0x1p-32 * (double)draw_u32(r));
}

/* Gamma(shape, 1) by Marsaglia and Tsang (2000); shapes below 1 by Gamma(shape + 1) U^(1 / shape), as a logarithm:
 * for small shapes it is too small for a double. */
static double draw_log_gamma(Draws *r, double shape)
{
    double add = 0;
    if (shape < 1) {
        add = log(((double)draw_u32(r) + 1) * 0x1p-32) / shape;
        shape += 1;
    }
    const double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = draw_normal(r), v = 1 + c * x, u = ((double)draw_u32(r) + 1) * 0x1p-32;
        v = v * v * v;
        if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return log(d * v) + add;
    }
}

double draw_beta(Draws *r, double alpha)
{
    double x = draw_log_gamma(r, alpha), y = draw_log_gamma(r, alpha);
    return 1 / (1 + exp(y - x));
}

/* ---- Where ----------------------------------------------------------------------------------------------------- */

View dataset_view(const Dataset *d, uint64_t seed, int32_t epoch, int32_t sample)
{
    /* One draw picks among all (2 pad + 1)^2 crops, each mirrored or not, with equal chances (to within 2^-24). */
    uint32_t places = (uint32_t)(2 * d->crop_pad + 1);
    uint32_t sides = d->mirror ? 2 : 1;
    uint64_t draw = rng_u32(seed, hash_u32("augment"), (uint32_t)epoch, (uint64_t)sample);
    uint32_t pick = (uint32_t)((draw * places * places * sides) >> 32);
    View     v = { .mirror = pick % sides != 0 };
    pick /= sides;
    v.dx = (int32_t)(pick % places) - d->crop_pad;
    v.dy = (int32_t)(pick / places) - d->crop_pad;
    return v;
}

/* A rectangle of `part` of the area; false: it does not fit. */
static bool shape_of(double area, double part, double log_ratio, int32_t most_h, int32_t most_w, Region *out)
{
    double ratio = exp(log_ratio);
    out->w = (int32_t)rint(sqrt(area * part * ratio));
    out->h = (int32_t)rint(sqrt(area * part / ratio));
    return out->w > 0 && out->h > 0 && out->w <= most_w && out->h <= most_h;
}

Region region_random(Draws *r, int32_t h, int32_t w)
{
    static const double least = 0.08, wide = 4.0 / 3;
    const double        area = (double)h * w, log_wide = log(wide);
    Region              g;
    for (int32_t i = 0; i < 10; i++) {
        double part = draw_uniform(r, least, 1), log_ratio = draw_uniform(r, -log_wide, log_wide);
        if (!shape_of(area, part, log_ratio, h, w, &g))
            continue;
        g.top = draw_below(r, h - g.h + 1);
        g.left = draw_below(r, w - g.w + 1);
        return g;
    }
    g = (Region){ .h = h, .w = w }; /* the largest in the middle, of a shape that is allowed */
    if ((double)w / h > wide)
        g.w = (int32_t)rint(h * wide);
    else if ((double)h / w > wide)
        g.h = (int32_t)rint(w * wide);
    g.top = (h - g.h) / 2;
    g.left = (w - g.w) / 2;
    return g;
}

Region region_erase(Draws *r, int32_t h, int32_t w)
{
    const double area = (double)h * w;
    for (int32_t i = 0; i < 10; i++) {
        Region g;
        double part = draw_uniform(r, 0.02, 0.33), log_ratio = draw_uniform(r, log(0.3), log(3.3));
        if (!shape_of(area, part, log_ratio, h - 1, w - 1, &g))
            continue;
        g.top = draw_below(r, h - g.h + 1);
        g.left = draw_below(r, w - g.w + 1);
        return g;
    }
    return (Region){ 0 };
}

/* ---- Turned and cut -------------------------------------------------------------------------------------------- */

static inline void put_pixel(uint8_t *to, const uint8_t *from, int32_t c)
{
    for (int32_t k = 0; k < c; k++)
        to[k] = from[k];
}

static Picture new_picture(Arena *a, int32_t c, int32_t h, int32_t w)
{
    return (Picture){ .c = c, .h = h, .w = w, .pixels = arena_alloc(a, (size_t)c * (size_t)h * (size_t)w) };
}

Picture picture_cut(Arena *a, const Picture *p, Region g, int32_t symmetry)
{
    const bool    mirror = symmetry & 1, turn = symmetry & 2, transpose = symmetry & 4;
    const int32_t c = p->c;
    DT_ASSERT(!transpose || g.h == g.w, "a region of %dx%d cannot be transposed", g.h, g.w);
    Picture out = new_picture(a, c, g.h, g.w);
    for (int32_t y = 0; y < g.h; y++) {
        uint8_t *to = out.pixels + (int64_t)y * g.w * c;
        for (int32_t x = 0; x < g.w; x++) {
            int32_t sy = transpose ? x : y, sx = transpose ? y : x;
            sy = g.top + (turn ? g.h - 1 - sy : sy);
            sx = g.left + (mirror ? g.w - 1 - sx : sx);
            put_pixel(to + x * c, p->pixels + ((int64_t)sy * p->w + sx) * c, c);
        }
    }
    return out;
}

Picture picture_view(Arena *a, const Picture *p, View v)
{
    const int32_t c = p->c, h = p->h, w = p->w;
    Picture       out = new_picture(a, c, h, w);
    for (int32_t y = 0; y < h; y++) {
        int32_t sy = y + v.dy;
        for (int32_t x = 0; x < w && sy >= 0 && sy < h; x++) {
            int32_t sx = v.mirror ? w - 1 - (x + v.dx) : x + v.dx;
            if (sx >= 0 && sx < w)
                put_pixel(out.pixels + (y * w + x) * c, p->pixels + (sy * w + sx) * c, c);
        }
    }
    return out;
}

/* 224 -> 256 and 300 -> 332, as ImageNet is evaluated (7/8, and 32 more); small pictures keep the proportion. */
int32_t center_resize(int32_t side)
{
    return side + (side / 7 < 32 ? side / 7 : 32);
}

Picture picture_center(Arena *a, const Picture *p, int32_t h, int32_t w)
{
    const double high = center_resize(h), wide = center_resize(w);
    const double scale = fmax(high / p->h, wide / p->w);
    /* The size of the resized picture, whole pixels as torchvision's Resize; then its middle. */
    const double rh = fmax(high, floor(p->h * scale + 1e-9)), rw = fmax(wide, floor(p->w * scale + 1e-9));
    const double top = rint((rh - h) / 2), left = rint((rw - w) / 2);
    return picture_resize(a, p, top * p->h / rh, left * p->w / rw, h * p->h / rh, w * p->w / rw, h, w, FILTER_BICUBIC);
}

/* ---- Colours --------------------------------------------------------------------------------------------------- */

/* Rec. 601, as Pillow computes it. */
static inline uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000) >> 16);
}

static inline uint8_t blend(int32_t from, int32_t to, float factor)
{
    float x = (float)from + factor * (float)(to - from);
    return (uint8_t)(x <= 0 ? 0 : x >= 255 ? 255 : x);
}

void picture_brightness(Picture *p, double factor)
{
    for (int64_t i = 0; i < (int64_t)p->h * p->w * p->c; i++)
        p->pixels[i] = blend(0, p->pixels[i], (float)factor);
}

void picture_contrast(Picture *p, double factor)
{
    const int64_t pixels = (int64_t)p->h * p->w;
    int64_t       sum = 0;
    for (int64_t i = 0; i < pixels; i++)
        sum += p->c == 3 ? luma(p->pixels + 3 * i) : p->pixels[i];
    int32_t mean = (int32_t)((double)sum / (double)pixels + 0.5);
    for (int64_t i = 0; i < pixels * p->c; i++)
        p->pixels[i] = blend(mean, p->pixels[i], (float)factor);
}

void picture_saturation(Picture *p, double factor)
{
    for (int64_t i = 0; i < (int64_t)p->h * p->w && p->c == 3; i++) {
        uint8_t *rgb = p->pixels + 3 * i;
        int32_t  grey = luma(rgb);
        for (int32_t k = 0; k < 3; k++)
            rgb[k] = blend(grey, rgb[k], (float)factor);
    }
}

void picture_jitter(Picture *p, Draws *r, double strength)
{
    static void (*const changes[])(Picture *, double) = { picture_brightness, picture_contrast, picture_saturation };
    int32_t order[] = { 0, 1, 2 };
    double  factors[3];
    for (int32_t i = 0; i < 3; i++)
        factors[i] = draw_uniform(r, fmax(0, 1 - strength), 1 + strength);
    for (int32_t i = 2; i > 0; i--) {
        int32_t j = draw_below(r, i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (int32_t i = 0; i < 3; i++)
        changes[order[i]](p, factors[order[i]]);
}
