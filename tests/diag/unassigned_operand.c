#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 8, 3), y = { 0 };
    x = add(x, y); // expect-error: add: y is a Tensor that no layer of this network made
    return linear(global_avgpool(x), dt_classes());
}
