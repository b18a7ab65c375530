/* resnet20.c: the residual network of 20 layers for CIFAR-10 (He, Zhang, Ren, Sun: "Deep residual learning for image
 * recognition", 2015, section 4.2), with parameter-free shortcuts (option A). 269,722 params, 40.55 M multiplications.
 *
 * Tested by tests/unit/test_dsl.c (params, shapes, names). */
#include "frontend/detent.h"

static Tensor conv_bn(Tensor x, int channels, int stride)
{
    return batchnorm(conv2d(x, channels, 3, .stride = stride, .pad = 1, .no_bias = true));
}

static Tensor block(Tensor x, int channels, int stride)
{
    Tensor y = relu(conv_bn(x, channels, stride));
    y = conv_bn(y, channels, 1);
    return relu(add(y, shortcut_a(x, channels, .stride = stride)));
}

dt_model(resnet20, "ResNet-20 for CIFAR-10, shortcuts of option A", .image = { 3, 32, 32 }, .classes = 10,
         .mean = { 0.4914f, 0.4822f, 0.4465f }, .std = { 0.247f, 0.243f, 0.262f },
         .training = { "cifar10", .batch = 128, .epochs = 200, .lr = 0.1f, .momentum = 0.9f, .weight_decay = 1e-4f })
{
    Tensor x = dt_image();
    dt_scope("stem")
        x = relu(conv_bn(x, 16, 1));
    for (int s = 0; s < 3; s++)
        for (int b = 0; b < 3; b++)
            dt_scope("s%d.b%d", s, b)
                x = block(x, 16 << s, s > 0 && b == 0 ? 2 : 1);
    return linear(global_avgpool(x), dt_classes(), .name = "head");
}
