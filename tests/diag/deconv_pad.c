#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv_transpose2d(dt_image(), 4, 2, .pad = 2); // expect-error: conv_transpose2d: pad is 2, expected 0 to 1
    return linear(global_avgpool(x), dt_classes());
}
