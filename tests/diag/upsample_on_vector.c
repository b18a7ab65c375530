#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = upsample(global_avgpool(dt_image()), 2); // expect-error: upsample: x is 4x3, expected an image
    return linear(x, dt_classes());
}
