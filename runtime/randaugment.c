/* randaugment.c: RandAugment (Cubuk et al. 2019) with torchvision's 14 operations and magnitudes: of 31 bins, the one
 * of the given number; every second one with a sign is negated. Shifts and turns take the nearest pixel and fill up
 * with black.
 *
 * Tested by tests/unit/test_augment.c. */
#include "runtime/data_impl.h"

#include <math.h>
#include <string.h>

enum { LAST_BIN = 30 };

/* Output pixel (x, y), by its middle, is input pixel (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]). */
static void affine(Arena *a, Picture *p, const double m[6])
{
    const int32_t  c = p->c, h = p->h, w = p->w;
    const uint8_t *from = arena_copy(a, p->pixels, (size_t)c * (size_t)h * (size_t)w);
    for (int32_t y = 0; y < h; y++)
        for (int32_t x = 0; x < w; x++) {
            double  px = x + 0.5, py = y + 0.5;
            int32_t sx = (int32_t)floor(m[0] * px + m[1] * py + m[2]),
                    sy = (int32_t)floor(m[3] * px + m[4] * py + m[5]);
            bool     inside = sx >= 0 && sx < w && sy >= 0 && sy < h;
            uint8_t *to = p->pixels + (y * w + x) * c;
            for (int32_t k = 0; k < c; k++)
                to[k] = inside ? from[(sy * w + sx) * c + k] : 0;
        }
}

static void shear_x(Arena *a, Picture *p, double v)
{
    affine(a, p, (const double[6]){ 1, v, 0, 0, 1, 0 });
}

static void shear_y(Arena *a, Picture *p, double v)
{
    affine(a, p, (const double[6]){ 1, 0, 0, v, 1, 0 });
}

static void translate_x(Arena *a, Picture *p, double v)
{
    affine(a, p, (const double[6]){ 1, 0, -trunc(v * p->w), 0, 1, 0 });
}

static void translate_y(Arena *a, Picture *p, double v)
{
    affine(a, p, (const double[6]){ 1, 0, 0, 0, 1, -trunc(v * p->h) });
}

static void rotate(Arena *a, Picture *p, double degrees)
{
    double t = degrees * M_PI / 180, c = cos(t), s = sin(t), x = p->w / 2.0, y = p->h / 2.0;
    affine(a, p, (const double[6]){ c, -s, x - c * x + s * y, s, c, y - s * x - c * y });
}

static void brightness(Arena *a, Picture *p, double v)
{
    (void)a;
    picture_brightness(p, 1 + v);
}

static void saturation(Arena *a, Picture *p, double v)
{
    (void)a;
    picture_saturation(p, 1 + v);
}

static void contrast(Arena *a, Picture *p, double v)
{
    (void)a;
    picture_contrast(p, 1 + v);
}

/* Away from, or towards, the picture smoothed by 1 1 1, 1 5 1, 1 1 1; the border stays. */
static void sharpness(Arena *a, Picture *p, double v)
{
    const int32_t  c = p->c, stride = p->w * c;
    const uint8_t *from = arena_copy(a, p->pixels, (size_t)p->h * (size_t)stride);
    for (int32_t y = 1; y + 1 < p->h; y++)
        for (int32_t i = c; i < stride - c; i++) {
            const uint8_t *at = from + y * stride + i;
            int32_t        sum = 4 * at[0];
            for (int32_t dy = -stride; dy <= stride; dy += stride)
                sum += at[dy - c] + at[dy] + at[dy + c];
            int32_t smooth = (int32_t)((float)sum / 13.0f + 0.5f);
            float   x = (float)smooth + (float)(1 + v) * (float)(at[0] - smooth);
            p->pixels[y * stride + i] = (uint8_t)(x <= 0 ? 0 : x >= 255 ? 255 : x);
        }
}

/* Every byte of channel k becomes lut[k][byte]. */
static void look_up(Picture *p, uint8_t lut[DATA_MAX_CHANNELS][256])
{
    for (int64_t i = 0; i < (int64_t)p->h * p->w; i++)
        for (int32_t k = 0; k < p->c; k++)
            p->pixels[i * p->c + k] = lut[k][p->pixels[i * p->c + k]];
}

static void posterize(Arena *a, Picture *p, double bits)
{
    (void)a;
    const int32_t drop = 8 - (int32_t)bits;
    for (int64_t i = 0; i < (int64_t)p->h * p->w * p->c; i++)
        p->pixels[i] = (uint8_t)(p->pixels[i] >> drop << drop);
}

static void solarize(Arena *a, Picture *p, double threshold)
{
    (void)a;
    for (int64_t i = 0; i < (int64_t)p->h * p->w * p->c; i++)
        if (p->pixels[i] >= threshold)
            p->pixels[i] = (uint8_t)(255 - p->pixels[i]);
}

static void histograms(const Picture *p, int64_t h[DATA_MAX_CHANNELS][256])
{
    memset(h, 0, sizeof(int64_t) * DATA_MAX_CHANNELS * 256);
    for (int64_t i = 0; i < (int64_t)p->h * p->w; i++)
        for (int32_t k = 0; k < p->c; k++)
            h[k][p->pixels[i * p->c + k]]++;
}

static void auto_contrast(Arena *a, Picture *p, double unused)
{
    (void)a, (void)unused;
    int64_t h[DATA_MAX_CHANNELS][256];
    uint8_t lut[DATA_MAX_CHANNELS][256];
    histograms(p, h);
    for (int32_t k = 0; k < p->c; k++) {
        int32_t lo = 0, hi = 255;
        while (lo < 255 && h[k][lo] == 0)
            lo++;
        while (hi > 0 && h[k][hi] == 0)
            hi--;
        double scale = hi > lo ? 255.0 / (hi - lo) : 1, offset = hi > lo ? -lo * scale : 0;
        for (int32_t i = 0; i < 256; i++)
            lut[k][i] = (uint8_t)fmin(fmax(trunc(i * scale + offset), 0), 255);
    }
    look_up(p, lut);
}

static void equalize(Arena *a, Picture *p, double unused)
{
    (void)a, (void)unused;
    int64_t h[DATA_MAX_CHANNELS][256];
    uint8_t lut[DATA_MAX_CHANNELS][256];
    histograms(p, h);
    for (int32_t k = 0; k < p->c; k++) {
        int64_t last = 0;
        for (int32_t i = 0; i < 256; i++)
            last = h[k][i] > 0 ? h[k][i] : last;
        int64_t step = ((int64_t)p->h * p->w - last) / 255, n = step / 2;
        for (int32_t i = 0; i < 256; i++) {
            lut[k][i] = (uint8_t)(step > 0 ? dt_min64(n / step, 255) : i);
            n += h[k][i];
        }
    }
    look_up(p, lut);
}

/* Magnitude of bin 0 and of the last bin; whether it has a sign. Translations are parts of the side. */
static const struct {
    const char *name;
    void (*apply)(Arena *a, Picture *p, double magnitude);
    double first, last;
    bool   has_sign, is_whole;
} ops[] = {
    { "identity", NULL, 0, 0, false, false },
    { "shear_x", shear_x, 0, 0.3, true, false },
    { "shear_y", shear_y, 0, 0.3, true, false },
    { "translate_x", translate_x, 0, 150.0 / 331, true, false },
    { "translate_y", translate_y, 0, 150.0 / 331, true, false },
    { "rotate", rotate, 0, 30, true, false },
    { "brightness", brightness, 0, 0.9, true, false },
    { "saturation", saturation, 0, 0.9, true, false },
    { "contrast", contrast, 0, 0.9, true, false },
    { "sharpness", sharpness, 0, 0.9, true, false },
    { "posterize", posterize, 8, 4, false, true },
    { "solarize", solarize, 255, 0, false, false },
    { "autocontrast", auto_contrast, 0, 0, false, false },
    { "equalize", equalize, 0, 0, false, false },
};

bool picture_operation(Arena *a, Picture *p, const char *name, double magnitude)
{
    for (int32_t i = 0; i < DT_COUNT(ops); i++)
        if (str_eq(ops[i].name, name)) {
            if (ops[i].apply)
                ops[i].apply(a, p, magnitude);
            return true;
        }
    return false;
}

void picture_randaugment(Arena *a, Picture *p, Draws *r, int32_t n, int32_t magnitude)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t at = draw_below(r, DT_COUNT(ops)), negate = draw_below(r, 2);
        double  m = ops[at].first + (ops[at].last - ops[at].first) * magnitude / LAST_BIN;
        m = ops[at].is_whole ? rint(m) : m;
        if (ops[at].apply)
            ops[at].apply(a, p, ops[at].has_sign && negate ? -m : m);
    }
}
