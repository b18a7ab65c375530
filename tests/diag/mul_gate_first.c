#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 3, .pad = 1);
    Tensor gate = sigmoid(linear(global_avgpool(x), 16)); // expect-note: x is 4x16, made here by sigmoid
    x = mul(gate, x); // expect-error: mul: y is neither of the shape of x nor a gate
    return linear(global_avgpool(x), dt_classes());
    // expect-help: the gate is the second operand: mul(x, gate)
}
