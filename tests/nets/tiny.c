/* tiny.c: the smallest network that a test can train: 1,917 params, images of MNIST. For tests of networks that are
 * loaded from a file. */
#include "frontend/detent.h"

dt_model(tiny, "a small network for tests", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f },
         .std = { 0.3081f }, .training = { "mnist", .batch = 32, .epochs = 1, .lr = 0.05f })
{
    Tensor x = maxpool(dt_image(), 4);
    x = relu(batchnorm(conv2d(x, 4, 3, .pad = 1, .no_bias = true)));
    x = linear(flatten(x), 9, .name = "hidden");
    return linear(relu(x), dt_classes());
}
