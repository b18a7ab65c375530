#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .groups = 2); // expect-error: conv2d: groups is 2, expected a divisor of both 3 channels in and 16 out
    return linear(global_avgpool(x), dt_classes());
}
