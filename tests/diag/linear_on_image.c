#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = relu(conv2d(dt_image(), 16, 3)); // expect-note: x is 4x16x14x14, made here by relu
    return linear(x, dt_classes()); // expect-error: linear: x is 4x16x14x14, expected [N, I] or [N, I, 1, 1]
    // expect-help: put flatten(x) or global_avgpool(x) before it
}
