#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .pad = 1);
    Tensor gate = sigmoid(linear(global_avgpool(x), 8));
    dt_scope("se")
        x = mul(x, gate); // expect-error: mul: y is neither of the shape of x nor a gate: x is 4x16x16x16, y is 4x8 (in se)
    return linear(global_avgpool(x), dt_classes());
    // expect-help: a gate has a number for each channel of x: [N, C]
}
