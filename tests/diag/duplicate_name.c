#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .name = "body"); // expect-note: by this conv2d
    x = conv2d(x, 16, 3, .name = "body"); // expect-error: conv2d: the name "body" is taken
    return linear(global_avgpool(x), dt_classes());
}
