#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 3, .pad = 1);
    loss_tv(x); // expect-error: loss_tv: weight is 0, expected a number above 0
    return x;
    // expect-help: loss_tv(x, .weight = 0.05)
}
