#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = linear(flatten(dt_image()), dt_classes()); // expect-note: x is 4x10, made here by linear
    loss_tv(x, 0.1f); // expect-error: loss_tv: x is 4x10, expected an image [N, C, H, W]
    return x;
}
