#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16); // expect-error: conv2d: kernel is 0, expected 1 to 1024
    return linear(global_avgpool(x), dt_classes());
    // expect-help: conv2d(x, 16, 3) is 3x3
}
