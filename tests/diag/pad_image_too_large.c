#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = pad_image(dt_image(), .pad4 = { 0, 1 << 30, 0, 0 }); // expect-error: pad_image: pad4 (left) is 1073741824
    return linear(global_avgpool(x), dt_classes());
}
