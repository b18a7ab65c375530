#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3, .same = true, .pad4 = { 0, 0, 1, 1 }); // expect-error: both same and pad4 are given
    return linear(global_avgpool(x), dt_classes());
}
