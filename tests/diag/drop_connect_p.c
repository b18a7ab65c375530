#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = drop_connect(flatten(dt_image()), -0.5f); // expect-error: drop_connect: p is -0.5, expected at least 0
    return linear(x, dt_classes());
    // expect-help: p is the probability that a sample is dropped
}
