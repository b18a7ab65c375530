#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = batchnorm(conv2d(dt_image(), 8, 3), .momentum = 1.5f); // expect-error: batchnorm: momentum is 1.5, expected above 0 and at most 1
    return linear(global_avgpool(x), dt_classes());
}
