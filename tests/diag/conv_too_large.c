#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16777216, 3, .pad = 1); // expect-error: conv2d: the result would be 4x16777216x16x16: more than 2^31 - 1 elements
    return linear(global_avgpool(x), dt_classes());
}
