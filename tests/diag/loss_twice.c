#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 3, .pad = 1);
    loss_tv(x, 0.1f); // expect-note: tv
    loss_tv(x, 0.2f); // expect-error: tv
    return x;
}
