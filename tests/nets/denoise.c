/* denoise.c: the smallest network that makes pictures: the clean one from the noisy one, by three convolutions. For
 * tests of restoration. */
#include "frontend/detent.h"

dt_model(denoise, "three convolutions against noise, for tests", .image = { 3, 24, 24 }, .loss = DT_MSE,
         .training = { "pairs", .batch = 4, .epochs = 2, .lr = 0.05f, .momentum = 0.9f, .eval_batch = 1 })
{
    Tensor x = relu(conv2d(dt_image(), 8, 5, .pad = 2));
    x = relu(batchnorm(conv2d(x, 8, 3, .pad = 1, .no_bias = true)));
    return conv2d(x, 3, 3, .pad = 1);
}
