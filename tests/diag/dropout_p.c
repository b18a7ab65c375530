#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dropout(flatten(dt_image()), 1.0f); // expect-error: dropout: p is 1, expected at least 0 and below 1
    return linear(x, dt_classes());
}
