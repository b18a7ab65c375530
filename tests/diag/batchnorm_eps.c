#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = batchnorm(conv2d(dt_image(), 8, 3), .eps = -1); // expect-error: batchnorm: eps is -1, expected above 0 and below 1
    return linear(global_avgpool(x), dt_classes());
}
