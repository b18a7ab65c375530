#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 16);
    loss_tv(x, 0.1f); // expect-error: loss_tv: x is 4x3x1x1: one pixel has no neighbours
    return x;
}
