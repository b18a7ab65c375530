/* noise.c: noise on clean pictures, where there are no degraded ones.
 *
 * gaussian:S    independent, the same standard deviation S / 255 everywhere; S1-S2: drawn anew for each picture. Not
 *               clipped, as networks for it are usually trained and tested.
 * camera        CBDNet's model (Guo et al. 2019), y = f(DM(L + n(L))): the picture is turned into light L by the
 *               inverse of sRGB's curve, seen through a Bayer mosaic (RGGB), gets noise of variance L s^2 + c^2 with
 *               s ~ U(0, 0.16) and c ~ U(0, 0.06) drawn for each picture, is demosaicked (bilinear) and turned back.
 *               Left out of the paper's: 201 measured camera curves (f is sRGB's for all), JPEG compression. The level
 *               that is told is the standard deviation of n, before demosaicking and f.
 *
 * Tested by tests/unit/test_augment.c. */
#include "runtime/data_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool noise_parse(Diag *d, const char *text, NoiseModel *out)
{
    static const char gaussian[] = "gaussian:";
    *out = (NoiseModel){ 0 };
    if (str_eq(text, "camera")) {
        out->kind = NOISE_CAMERA;
        return true;
    }
    if (strncmp(text, gaussian, sizeof gaussian - 1) == 0) {
        char  *end;
        double least = strtod(text + sizeof gaussian - 1, &end), most = least;
        bool   any = end != text + sizeof gaussian - 1;
        if (any && *end == '-') {
            const char *second = end + 1;
            most = strtod(second, &end);
            any = end != second;
        }
        if (any && *end == 0 && least >= 0 && most >= least && most > 0 && most <= 255) {
            *out = (NoiseModel){ NOISE_GAUSSIAN, (float)(least / 255), (float)(most / 255) };
            return true;
        }
    }
    diag_error(d, LOC_NONE, "data: noise: expected gaussian:25, gaussian:5-50 (of 255) or camera, found '%s'", text);
    return false;
}

/* ---- A camera -------------------------------------------------------------------------------------------------- */

static double to_light(double srgb)
{
    return srgb <= 0.04045 ? srgb / 12.92 : pow((srgb + 0.055) / 1.055, 2.4);
}

static double from_light(double light)
{
    light = fmin(fmax(light, 0), 1);
    return light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055;
}

/* Which channel the sensor has at (y, x): R G, G B. */
static int32_t bayer(int32_t y, int32_t x)
{
    return (y & 1) + (x & 1);
}

/* The mean of what the sensor has of channel k at (y, x) and around it. Every 3 x 3 pixels have all of them. */
static double demosaic(const float *sensor, int32_t h, int32_t w, int32_t y, int32_t x, int32_t k)
{
    double sum = 0, weights = 0;
    if (bayer(y, x) == k)
        return (double)sensor[y * w + x];
    for (int32_t dy = -1; dy <= 1; dy++)
        for (int32_t dx = -1; dx <= 1; dx++) {
            int32_t sy = y + dy, sx = x + dx;
            if (sy < 0 || sy >= h || sx < 0 || sx >= w || bayer(sy, sx) != k)
                continue;
            double weight = dy == 0 || dx == 0 ? 2 : 1;
            sum += weight * (double)sensor[sy * w + sx];
            weights += weight;
        }
    return weights > 0 ? sum / weights : (double)sensor[y * w + x]; /* one row or one column */
}

static void make_camera(Arena *a, const Picture *clean, Draws *r, uint64_t seed, uint32_t epoch, uint64_t first,
                        float *noisy, float *level)
{
    const int32_t  h = clean->h, w = clean->w, c = clean->c;
    const double   s = draw_uniform(r, 0, 0.16), constant = draw_uniform(r, 0, 0.06);
    const uint32_t purpose = hash_u32("noise/pixel");
    float         *sensor = ARENA_ARRAY(a, float, (int64_t)h *w);
    double         light[256];
    for (int32_t i = 0; i < 256; i++)
        light[i] = to_light(i / 255.0);
    for (int32_t i = 0; i < h * w; i++) {
        const uint8_t *pixel = clean->pixels + (int64_t)i * c;
        double         at = light[pixel[c == 3 ? bayer(i / w, i % w) : 0]];
        double         n =
            (double)rng_normal(seed, purpose, epoch, first + (uint64_t)i) * sqrt(at * s * s + constant * constant);
        sensor[i] = (float)(at + n);
        for (int32_t k = 0; k < c; k++)
            level[(int64_t)i * c + k] = (float)sqrt(light[pixel[k]] * s * s + constant * constant);
    }
    for (int32_t i = 0; i < h * w; i++)
        for (int32_t k = 0; k < c; k++) {
            double seen = c == 3 ? demosaic(sensor, h, w, i / w, i % w, k) : (double)sensor[i];
            noisy[(int64_t)i * c + k] = (float)from_light(seen);
        }
}

void noise_make(Arena *a, const NoiseModel *m, const Picture *clean, uint64_t seed, int32_t epoch, int32_t sample,
                float *noisy, float *level)
{
    Draws          r = draws_new(seed, "noise", epoch, sample);
    const uint64_t first = (uint64_t)(uint32_t)sample << 32; /* each element of each sample has a number of its own */
    if (m->kind == NOISE_CAMERA) {
        make_camera(a, clean, &r, seed, (uint32_t)epoch, first, noisy, level);
        return;
    }
    const uint32_t purpose = hash_u32("noise/pixel");
    const float    sigma = (float)draw_uniform(&r, (double)m->least, (double)m->most);
    for (int64_t i = 0; i < (int64_t)clean->h * clean->w * clean->c; i++) {
        noisy[i] =
            (float)clean->pixels[i] / 255.0f + sigma * rng_normal(seed, purpose, (uint32_t)epoch, first + (uint64_t)i);
        level[i] = sigma;
    }
}
