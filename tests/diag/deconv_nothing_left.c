#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv_transpose2d(maxpool(dt_image(), 16), 4, 3, .pad = 2); // expect-error: padding leaves nothing of the result: -1x-1
    return linear(global_avgpool(x), dt_classes());
    // expect-help: padding is cut off here
}
