#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .loss = DT_MSE)
{
    Tensor x = conv2d(dt_image(), 3, 3, .pad = 1);
    loss_asymmetric(x, 0.5f, .alpha = 1.5f); // expect-error: loss_asymmetric: alpha is 1.5, expected above 0 and below 1
    return x;
    // expect-help: 0.3 is usual
}
