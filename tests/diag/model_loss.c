#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 8, 8 }, .loss = (DtLoss)9) // expect-error: net: .loss is 9, expected DT_CROSS_ENTROPY, DT_MSE, DT_L1 or DT_CHARBONNIER
{
    return conv2d(dt_image(), 3, 3, .pad = 1);
}
