#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 3, .pad = 1);
    loss_tv(x, 0.1f, .name = "mse"); // expect-error: loss_tv: mse is the name of the main part of the loss
    return x;
    // expect-help: give this part another .name
}
