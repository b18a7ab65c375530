#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10) // expect-note: the network is declared here
{
    return linear(flatten(dt_image()), 12); // expect-error: net: the network's result is 4x12, but cross entropy over 10 classes needs 4x10
    // expect-help: end with linear(x, dt_classes())
}
