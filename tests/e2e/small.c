/* small.c: a network for the end-to-end tests: two convolutions with batch norm, pooling and dropout, so that a run has
 * every kind of state (params, velocities, running statistics, step sizes, random masks) and a step takes milliseconds.
 */
#include "frontend/detent.h"

dt_model(small, "for tests", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f }, .std = { 0.3081f },
         .training = { "mnist", .batch = 100, .epochs = 2, .lr = 0.05f, .momentum = 0.9f, .weight_decay = 1e-4f })
{
    Tensor x = dt_image();
    x = maxpool(relu(batchnorm(conv2d(x, 8, 3, .pad = 1, .no_bias = true))), 2);
    x = maxpool(relu(batchnorm(conv2d(x, 16, 3, .pad = 1, .no_bias = true))), 2);
    return linear(dropout(flatten(x), 0.1f), dt_classes());
}
