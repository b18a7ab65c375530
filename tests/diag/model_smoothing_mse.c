#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 8, 8 }, .loss = DT_L1, .training = { .label_smoothing = 0.1f }) // expect-error: net: label_smoothing is given, but the loss is l1 and has no labels
{
    return conv2d(dt_image(), 3, 3, .pad = 1);
}
