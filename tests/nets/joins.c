/* joins.c: a small U with every layer that moves elements or joins two: for tests of `detent info` and `detent check`.
 * Images of MNIST. */
#include "frontend/detent.h"

dt_model(joins, "a small U", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f }, .std = { 0.3081f },
         .training = { "mnist", .batch = 32, .epochs = 1, .lr = 0.02f })
{
    Tensor skip = relu(batchnorm(conv2d(dt_image(), 8, 3, .same = true, .no_bias = true, .name = "stem")));
    Tensor y = relu(conv2d(skip, 16, 3, .stride = 2, .same = true));
    y = add(y, conv2d(y, 16, 3, .same = true, .groups = 4));
    Tensor x = conv_transpose2d(y, 8, 2);
    dt_scope("up") {
        x = concat(x, skip);
        x = relu(conv2d(x, 8, 1));
    }
    Tensor low = avgpool(conv2d(y, 4, 1), 2);
    x = concat(x, concat(upsample(low, 4, .bilinear = true), upsample(low, 4)));
    x = pad_image(x, .pad4 = { 0, 0, -4, -4 });
    return linear(global_avgpool(relu(conv2d(x, 12, 5, .stride = 2, .same = true))), dt_classes());
}
