#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    return conv2d(dt_image(), 10, 3); // expect-error: net: the network's result is 4x10x14x14, but cross entropy over 10 classes needs 4x10
    // expect-help: after flatten or global_avgpool
}
