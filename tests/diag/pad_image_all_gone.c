#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = pad_image(dt_image(), .pad4 = { -8, 0, -8, 2 }); // expect-error: pad_image: pad4 cuts 16 rows off, expected fewer than the 16 there are
    return linear(global_avgpool(x), dt_classes());
}
