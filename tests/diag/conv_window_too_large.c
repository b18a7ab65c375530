#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = maxpool(dt_image(), 8);
    x = conv2d(x, 16, 5, .pad = 1); // expect-error: conv2d: a window of 5x5 does not fit the image of 4x4 (padding included)
    return linear(global_avgpool(x), dt_classes());
    // expect-help: .pad = 2
}
