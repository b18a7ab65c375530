/* efficientnet.c: EfficientNet for ImageNet (Tan, Le: "EfficientNet: rethinking model scaling for convolutional neural
 * networks", 2019), scaled in width, depth and size of image from one table of stages.
 *
 *   efficientnet_b0..b4        as torchvision and timm train them: batch norm of eps 1e-5, padding on all sides alike
 *   tf_efficientnet_b0..b4     as TensorFlow's weights are: eps 1e-3, SAME padding
 *   efficientnet_lite0..lite3  TensorFlow's form for small devices: no squeeze-and-excitation, ReLU6 in place of SiLU,
 *                              stem and head of one width, first and last stage of one depth
 *
 * b0 5,288,548 params, 0.39 G multiplications; b3 12,233,232 and 1.83 G at 300x300; lite0 4,652,008; lite3 8,197,096.
 * Training: the authors', for the batch given here (lr 0.016 for 256 images).
 *
 * Tested by tests/unit/test_networks.c (params, shapes, names) and test_parity_nets.c (PyTorch's numbers). */
#include "frontend/detent.h"

typedef struct Family {
    float eps, momentum;
    bool  same, lite;
} Family;

static const Family native = { .eps = 1e-5f, .momentum = 0.1f };
static const Family tf = { .eps = 1e-3f, .momentum = 0.01f, .same = true };
static const Family lite = { .eps = 1e-3f, .momentum = 0.01f, .same = true, .lite = true };

static const float  drop_connect_rate = 0.2f; /* grows from block to block, from 0 to nearly this */

static const struct Stage {
    int expand, kernel, stride, channels, repeats;
} stages[] = {
    { 1, 3, 1, 16, 1 },  { 6, 3, 2, 24, 2 },  { 6, 5, 2, 40, 2 },  { 6, 3, 2, 80, 3 },
    { 6, 5, 1, 112, 3 }, { 6, 5, 2, 192, 4 }, { 6, 3, 1, 320, 1 },
};
enum { STAGES = sizeof(stages) / sizeof(stages[0]) };

/* The multiple of 8 next to width * channels that is not below 90 % of it. */
static int scaled(int channels, double width)
{
    const double wanted = channels * width;
    const int    rounded = (int)(wanted + 4) / 8 * 8, least = rounded < 8 ? 8 : rounded;
    return least < 0.9 * wanted ? least + 8 : least;
}

static int repeats(const Family *f, int stage, double depth)
{
    const double wanted = stages[stage].repeats * depth;
    if (f->lite && (stage == 0 || stage == STAGES - 1))
        return stages[stage].repeats;
    return (int)wanted < wanted ? (int)wanted + 1 : (int)wanted;
}

static Tensor act(Tensor x, const Family *f)
{
    return f->lite ? relu6(x) : silu(x);
}

static Tensor conv(Tensor x, const Family *f, const char *name, int out, int kernel, int stride, int groups)
{
    const int pad = f->same ? 0 : kernel / 2;
    DtConv2d  c = { x, out, kernel, stride, pad, .groups = groups, .same = f->same, .no_bias = true, .fan_out = true };
    dt_scope_of(x, "%s", name) {
        c.at = DT_HERE;
        x = batchnorm(dt_conv2d_(c), f->eps, f->momentum);
    }
    return x;
}

/* Squeeze and excitation: a factor for each channel, from the channels' means. */
static Tensor gated(Tensor x, int squeezed)
{
    const int channels = dt_channels(x);
    dt_scope_of(x, "se") {
        Tensor gate = silu(linear(global_avgpool(x), squeezed, .fan_out = true));
        gate = sigmoid(linear(gate, channels, .fan_out = true));
        x = mul(x, gate);
    }
    return x;
}

/* MBConv: wide inside, narrow at both ends. */
static Tensor block(Tensor x, const Family *f, const struct Stage *s, int stride, int out, float drop)
{
    const int in = dt_channels(x), inner = s->expand * in;
    Tensor    y = x;
    if (s->expand > 1)
        y = act(conv(y, f, "expand", inner, 1, 1, 1), f);
    y = act(conv(y, f, "dw", inner, s->kernel, stride, inner), f);
    if (!f->lite)
        y = gated(y, in / 4);
    y = conv(y, f, "project", out, 1, 1, 1);
    return stride == 1 && in == out ? add(drop_connect(y, drop), x) : y;
}

static Tensor efficientnet(DtContext *dt_ctx, const Family *f, double width, double depth, float p)
{
    int blocks = 0, i = 0;
    for (int s = 0; s < STAGES; s++)
        blocks += repeats(f, s, depth);
    Tensor x = act(conv(dt_image(), f, "stem", f->lite ? 32 : scaled(32, width), 3, 2, 1), f);
    for (int s = 0; s < STAGES; s++)
        for (int b = 0; b < repeats(f, s, depth); b++, i++)
            dt_scope("s%d.b%d", s, b)
                x = block(x, f, &stages[s], b == 0 ? stages[s].stride : 1, scaled(stages[s].channels, width),
                          drop_connect_rate * (float)i / (float)blocks);
    x = act(conv(x, f, "head", f->lite ? 1280 : scaled(1280, width), 1, 1, 1), f);
    x = dropout(global_avgpool(x), p);
    return linear(x, dt_classes(), .torch_init = true, .fan_out = true, .name = "classifier");
}

#define PHOTOS .mean = { 0.485f, 0.456f, 0.406f }, .std = { 0.229f, 0.224f, 0.225f }
#define ONES .mean = { 0.5f, 0.5f, 0.5f }, .std = { 0.5f, 0.5f, 0.5f } /* pixels from -1 to 1 */

/* How pixels are normalised, the family, width, depth, size of image, share of dropped features. */
#define MODEL(name_, doc_, pixels_, family_, width_, depth_, size_, p_)                                                \
    dt_model(name_, doc_ " for ImageNet", .image = { 3, size_, size_ }, .classes = 1000, pixels_,                      \
             .training = { "folder", .batch = 32, .epochs = 350, .lr = 0.002f, .momentum = 0.9f,                       \
                           .weight_decay = 1e-5f, .schedule = "exp:0.97:2.4", .optimizer = "rmsprop-tf", .warmup = 5,  \
                           .ema = 0.9999f, .label_smoothing = 0.1f })                                                  \
    {                                                                                                                  \
        return efficientnet(dt_ctx, &family_, width_, depth_, p_);                                                     \
    }

/* clang-format off */
MODEL(efficientnet_b0, "EfficientNet-B0", PHOTOS, native, 1.0, 1.0, 224, 0.2f)
#ifndef DT_STANDALONE /* a file that is loaded is one network */
MODEL(efficientnet_b1, "EfficientNet-B1", PHOTOS, native, 1.0, 1.1, 240, 0.2f)
MODEL(efficientnet_b2, "EfficientNet-B2", PHOTOS, native, 1.1, 1.2, 260, 0.3f)
MODEL(efficientnet_b3, "EfficientNet-B3", PHOTOS, native, 1.2, 1.4, 300, 0.3f)
MODEL(efficientnet_b4, "EfficientNet-B4", PHOTOS, native, 1.4, 1.8, 380, 0.4f)
MODEL(tf_efficientnet_b0, "EfficientNet-B0 of TensorFlow's form", PHOTOS, tf, 1.0, 1.0, 224, 0.2f)
MODEL(tf_efficientnet_b1, "EfficientNet-B1 of TensorFlow's form", PHOTOS, tf, 1.0, 1.1, 240, 0.2f)
MODEL(tf_efficientnet_b2, "EfficientNet-B2 of TensorFlow's form", PHOTOS, tf, 1.1, 1.2, 260, 0.3f)
MODEL(tf_efficientnet_b3, "EfficientNet-B3 of TensorFlow's form", PHOTOS, tf, 1.2, 1.4, 300, 0.3f)
MODEL(tf_efficientnet_b4, "EfficientNet-B4 of TensorFlow's form", PHOTOS, tf, 1.4, 1.8, 380, 0.4f)
MODEL(efficientnet_lite0, "EfficientNet-lite0", ONES, lite, 1.0, 1.0, 224, 0.2f)
MODEL(efficientnet_lite1, "EfficientNet-lite1", ONES, lite, 1.0, 1.1, 240, 0.2f)
MODEL(efficientnet_lite2, "EfficientNet-lite2", ONES, lite, 1.1, 1.2, 260, 0.3f)
MODEL(efficientnet_lite3, "EfficientNet-lite3", ONES, lite, 1.2, 1.4, 280, 0.3f)
#endif
