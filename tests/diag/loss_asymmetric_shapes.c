#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 3, .pad = 1), y = maxpool(x, 2);
    loss_asymmetric(x, 0.5f);
    loss_asymmetric(y, 0.5f, .name = "half"); // expect-error: x is 4x3x8x8, but the level of noise was compared with 4x3x16x16
    return x;
}
