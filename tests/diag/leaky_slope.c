#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = leaky_relu(flatten(dt_image()), 2.0f); // expect-error: leaky_relu: slope is 2, expected above 0 and at most 1
    return linear(x, dt_classes());
    // expect-help: it is the factor of what is below 0
}
