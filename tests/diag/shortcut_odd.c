#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = shortcut_a(dt_image(), 16); // expect-error: shortcut_a: channels is 16, expected 3 of x or an even number more
    return linear(global_avgpool(x), dt_classes());
}
// expect-text: x is 4x3x16x16, made here by dt_image
