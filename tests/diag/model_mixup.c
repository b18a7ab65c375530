#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 8, 8 }, .classes = 10, .training = { .mixup = -1 }) // expect-error: net: mixup is -1, expected a number that is not negative
{
    return linear(flatten(dt_image()), dt_classes());
    // expect-help: Beta(alpha, alpha)
}
