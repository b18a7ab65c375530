#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }) // expect-error: net: .classes is 0, expected at least 2 for cross entropy
{
    return linear(global_avgpool(dt_image()), 10);
    // expect-help: say .classes = 10, or .loss = DT_MSE
}
