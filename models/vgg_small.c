/* vgg_small.c: six convolutions and one linear layer for CIFAR-10: the VGG that papers on few bits compare on (Zhang et
 * al.: "LQ-Nets", 2018; Choi et al.: "PACT", 2018, has the same widths). 4,660,106 params, 607.6 M multiplications.
 *
 * Tested by tests/unit/test_networks.c (params, shapes) and test_parity_nets.c (PyTorch's numbers). */
#include "frontend/detent.h"

static Tensor conv(Tensor x, int channels)
{
    return relu(batchnorm(conv2d(x, channels, 3, .pad = 1, .no_bias = true)));
}

dt_model(vgg_small, "VGG-small for CIFAR-10", .image = { 3, 32, 32 }, .classes = 10,
         .mean = { 0.4914f, 0.4822f, 0.4465f }, .std = { 0.247f, 0.243f, 0.262f },
         .training = { "cifar10", .batch = 128, .epochs = 200, .lr = 0.05f, .momentum = 0.9f, .weight_decay = 5e-4f })
{
    Tensor x = dt_image();
    for (int s = 0; s < 3; s++)
        dt_scope("s%d", s) {
            x = conv(x, 128 << s);
            x = maxpool(conv(x, 128 << s), 2);
        }
    return linear(flatten(x), dt_classes(), .name = "head");
}
