#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3, .pad = 1); // expect-note: x is 4x8x16x16, made here by conv2d
    Tensor y = maxpool(x, 2); // expect-note: y is 4x8x8x8, made here by maxpool
    x = concat(x, y); // expect-error: concat: x is 4x8x16x16 and y is 4x8x8x8, expected them to differ in channels alone
    return linear(global_avgpool(x), dt_classes());
    // expect-help: bring images to one size
}
