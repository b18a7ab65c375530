#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .pad = 1, .pad4 = { 1, 0, 1, 0 }); // expect-error: conv2d: both pad and pad4 are given
    return linear(global_avgpool(x), dt_classes());
}
