#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = maxpool(dt_image(), 2, .pad = 2); // expect-error: maxpool: pad is 2, expected 0 to 1
    return linear(global_avgpool(x), dt_classes());
}
