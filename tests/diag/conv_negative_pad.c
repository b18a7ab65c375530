#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .pad4 = { 0, 0, -1, 0 }); // expect-error: conv2d: pad4 is -1, expected 0 to 1024
    return linear(global_avgpool(x), dt_classes());
}
