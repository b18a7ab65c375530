#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .pad = 1);
    dt_scope("s0.b1")
        x = add(x, conv2d(x, 32, 1)); // expect-error: y is 4x32x16x16 (in s0.b1)
    return linear(global_avgpool(x), dt_classes());
    // expect-help: the same number of channels
}
