#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3, .pad = 1);
    x = concat(global_avgpool(x), x); // expect-error: concat: x is 4x8 and y is 4x8x16x16
    return linear(x, dt_classes());
}
