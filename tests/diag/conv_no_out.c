#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), .kernel = 3); // expect-error: conv2d: out is 0, expected 1 to 16777216
    return linear(global_avgpool(x), dt_classes());
    // expect-help: say how many channels come out
}
