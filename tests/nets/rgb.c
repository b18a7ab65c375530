/* rgb.c: the smallest network that tells pictures in colour, of any size: for tests of augmentation and of folders. */
#include "frontend/detent.h"

dt_model(rgb, "a small network for tests", .image = { 3, 32, 32 }, .classes = 3,
         .training = { "folder", .batch = 6, .epochs = 2, .lr = 0.05f, .momentum = 0.9f, .weight_decay = 1e-4f })
{
    Tensor x = maxpool(relu(batchnorm(conv2d(dt_image(), 8, 3, .pad = 1, .no_bias = true))), 2);
    x = relu(batchnorm(conv2d(x, 16, 3, .pad = 1, .no_bias = true)));
    return linear(dropout(global_avgpool(x), 0.1f), dt_classes());
}
