/* mnist.c: the network of PyTorch's MNIST example, start values included. 1,199,882 params.
 *
 * Tested by tests/unit/test_dsl.c (params, shapes, names). */
#include "frontend/detent.h"

dt_model(mnist, "PyTorch's example network for MNIST", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f },
         .std = { 0.3081f }, .training = { "mnist", .batch = 64, .epochs = 3, .lr = 0.05f, .momentum = 0.9f })
{
    Tensor x = dt_image();
    x = relu(conv2d(x, 32, 3, .torch_init = true));
    x = relu(conv2d(x, 64, 3, .torch_init = true));
    x = dropout(maxpool(x, 2), 0.25f);
    x = relu(linear(flatten(x), 128, .torch_init = true));
    x = dropout(x, 0.5f);
    return linear(x, dt_classes(), .torch_init = true);
}
