#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3);
    x = shortcut_a(x, 8, .stride = 2); // expect-error: shortcut_a: channels is 8, expected 16 of x or an even number more
    return linear(global_avgpool(x), dt_classes());
}
