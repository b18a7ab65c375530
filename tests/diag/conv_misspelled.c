#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .strides = 2); // expect-error: failed
    return linear(global_avgpool(x), dt_classes());
    // expect-text: strides
}
