#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 8, 8 }, .classes = 10, .training = { .label_smoothing = 1 }) // expect-error: net: label_smoothing is 1, expected at least 0 and below 1
{
    return linear(flatten(dt_image()), dt_classes());
    // expect-help: 0.1 is usual
}
