#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = { 0 };
    x = relu(x); // expect-error: net: a Tensor is used here that no layer of this network made
    return linear(global_avgpool(batchnorm(x)), dt_classes());
}
