#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = upsample(dt_image(), 1000); // expect-error: upsample: the result would be 4x3x16000x16000
    return linear(global_avgpool(x), dt_classes());
}
