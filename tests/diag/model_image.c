#include "frontend/detent.h"

dt_model(net, "a mistake", .classes = 10) // expect-error: net: the image's channels is 0, expected 1 to 268435456
{
    return linear(global_avgpool(dt_image()), dt_classes());
    // expect-help: say .image = { channels, height, width }
}
