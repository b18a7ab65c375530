#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 8, 8 }, .classes = 10, .std = { 0.2f, 0.2f }) // expect-error: net: normalisation of channel 2
{
    return linear(global_avgpool(dt_image()), dt_classes());
}
