/* mobilenetv2.c: MobileNetV2 for ImageNet (Sandler et al.: "Inverted residuals and linear bottlenecks", 2018), the form
 * of torchvision. 3,504,872 params, 300.8 M multiplications at 224x224.
 *
 * Training: torchvision's, for the batch given here (lr 0.045 for 256 images).
 *
 * Tested by tests/unit/test_networks.c (params, shapes) and test_parity_nets.c (PyTorch's numbers). */
#include "frontend/detent.h"

static Tensor conv(Tensor x, const char *name, int channels, int kernel, int stride, int groups)
{
    const int pad = kernel / 2;
    dt_scope_of(x, "%s", name) {
        x = conv2d(x, channels, kernel, .stride = stride, .pad = pad, .groups = groups, .no_bias = true,
                   .fan_out = true);
        x = batchnorm(x);
    }
    return x;
}

static Tensor block(Tensor x, int expand, int channels, int stride)
{
    const int in = dt_channels(x), inner = expand * in;
    Tensor    y = x;
    if (expand > 1)
        y = relu6(conv(y, "expand", inner, 1, 1, 1));
    y = relu6(conv(y, "dw", inner, 3, stride, inner));
    y = conv(y, "project", channels, 1, 1, 1);
    return stride == 1 && in == channels ? add(y, x) : y;
}

static const struct {
    int expand, channels, repeats, stride;
} stages[] = {
    { 1, 16, 1, 1 }, { 6, 24, 2, 2 },  { 6, 32, 3, 2 },  { 6, 64, 4, 2 },
    { 6, 96, 3, 1 }, { 6, 160, 3, 2 }, { 6, 320, 1, 1 },
};

dt_model(mobilenetv2, "MobileNetV2 for ImageNet", .image = { 3, 224, 224 }, .classes = 1000,
         .mean = { 0.485f, 0.456f, 0.406f }, .std = { 0.229f, 0.224f, 0.225f },
         .training = { "folder", .batch = 64, .epochs = 300, .lr = 0.01125f, .momentum = 0.9f, .weight_decay = 4e-5f,
                       .schedule = "exp:0.98:1" })
{
    Tensor x = relu6(conv(dt_image(), "stem", 32, 3, 2, 1));
    for (int s = 0; s < (int)(sizeof(stages) / sizeof(stages[0])); s++)
        for (int b = 0; b < stages[s].repeats; b++)
            dt_scope("s%d.b%d", s, b)
                x = block(x, stages[s].expand, stages[s].channels, b == 0 ? stages[s].stride : 1);
    x = relu6(conv(x, "head", 1280, 1, 1, 1));
    x = dropout(global_avgpool(x), 0.2f);
    return linear(x, dt_classes(), .torch_init = true, .fan_out = true, .name = "classifier");
}
