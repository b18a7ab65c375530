#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = upsample(dt_image()); // expect-error: upsample: factor is 0, expected 1 to 1024
    return linear(global_avgpool(x), dt_classes());
    // expect-help: upsample(x, 2)
}
