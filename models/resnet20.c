/* resnet20.c: the residual network of 20 layers for CIFAR-10 (He, Zhang, Ren, Sun: "Deep residual learning for image
 * recognition", 2015, section 4.2). 40.55 M multiplications.
 *
 *   resnet20     where shapes change, shortcuts without params (option A): 269,722 params
 *   resnet20_b   there, a convolution of 1x1 and batch norm (option B): 272,474 params
 *
 * Tested by tests/unit/test_dsl.c and test_networks.c (params, shapes, names), test_parity_nets.c (PyTorch's numbers).
 */
#include "frontend/detent.h"

typedef enum Option { OPTION_A, OPTION_B } Option;

static Tensor conv_bn(Tensor x, int channels, int stride)
{
    return batchnorm(conv2d(x, channels, 3, .stride = stride, .pad = 1, .no_bias = true));
}

static Tensor shortcut(Tensor x, int channels, int stride, Option option)
{
    if (option == OPTION_A || (stride == 1 && dt_channels(x) == channels))
        return shortcut_a(x, channels, .stride = stride);
    x = conv2d(x, channels, 1, .stride = stride, .no_bias = true, .name = "shortcut");
    return batchnorm(x, .name = "shortcut_bn");
}

static Tensor block(Tensor x, int channels, int stride, Option option)
{
    Tensor y = relu(conv_bn(x, channels, stride));
    y = conv_bn(y, channels, 1);
    return relu(add(y, shortcut(x, channels, stride, option)));
}

static Tensor resnet(DtContext *dt_ctx, Option option)
{
    Tensor x = dt_image();
    dt_scope("stem")
        x = relu(conv_bn(x, 16, 1));
    for (int s = 0; s < 3; s++)
        for (int b = 0; b < 3; b++)
            dt_scope("s%d.b%d", s, b)
                x = block(x, 16 << s, s > 0 && b == 0 ? 2 : 1, option);
    return linear(global_avgpool(x), dt_classes(), .name = "head");
}

#define CIFAR10                                                                                                        \
    .image = { 3, 32, 32 }, .classes = 10, .mean = { 0.4914f, 0.4822f, 0.4465f }, .std = { 0.247f, 0.243f, 0.262f },   \
    .training = { "cifar10", .batch = 128, .epochs = 200, .lr = 0.1f, .momentum = 0.9f, .weight_decay = 1e-4f }

dt_model(resnet20, "ResNet-20 for CIFAR-10, shortcuts of option A", CIFAR10)
{
    return resnet(dt_ctx, OPTION_A);
}

#ifndef DT_STANDALONE /* a file that is loaded is one network */
dt_model(resnet20_b, "ResNet-20 for CIFAR-10, shortcuts of option B", CIFAR10)
{
    return resnet(dt_ctx, OPTION_B);
}
#endif
