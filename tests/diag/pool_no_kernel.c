#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = avgpool(dt_image(), .stride = 2); // expect-error: avgpool: kernel is 0, expected 1 to 1024
    return linear(global_avgpool(x), dt_classes());
}
