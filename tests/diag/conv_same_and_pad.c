#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3, .same = true, .pad = 1); // expect-error: conv2d: both same and pad are given
    return linear(global_avgpool(x), dt_classes());
    // expect-help: same chooses the padding
}
