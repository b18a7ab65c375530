#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = flatten(dt_image()); // expect-note: x is 4x768, made here by flatten
    x = conv2d(x, 16, 3); // expect-error: conv2d: x is 4x768, expected an image [N, C, H, W]
    return linear(x, dt_classes());
}
