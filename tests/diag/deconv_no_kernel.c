#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv_transpose2d(dt_image(), 4); // expect-error: conv_transpose2d: kernel is 0, expected 1 to 1024
    return linear(global_avgpool(x), dt_classes());
    // expect-help: conv_transpose2d(x, 16, 2) makes the image twice as large
}
