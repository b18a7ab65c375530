/* narrow.c: a small network with convolutions of 8 to 20 channels, a stride and a window of one pixel: for tests of
 * gradients in bf16, which layers of fewer channels do without. */
#include "frontend/detent.h"

dt_model(narrow, "convolutions of some channels, for tests", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f },
         .std = { 0.3081f }, .training = { "mnist", .batch = 32, .epochs = 1, .lr = 0.05f })
{
    Tensor x = maxpool(dt_image(), 2);
    x = relu(batchnorm(conv2d(x, 8, 3, .pad = 1, .no_bias = true)));
    x = relu(batchnorm(conv2d(x, 20, 3, .stride = 2, .pad = 1, .no_bias = true)));
    x = relu(batchnorm(conv2d(x, 9, 1, .no_bias = true)));
    x = relu(batchnorm(conv2d(x, 12, 3, .pad = 1, .no_bias = true)));
    return linear(flatten(global_avgpool(x)), dt_classes());
}
