#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = maxpool(dt_image(), 17); // expect-error: maxpool: kernel is 17, expected 1 to 16
    return linear(global_avgpool(x), dt_classes());
}
