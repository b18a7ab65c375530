#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dt_image();
    dt_scope("stage %d", 0) // expect-error: dt_scope: the name "stage 0" must be letters
        x = conv2d(x, 16, 3);
    return linear(global_avgpool(x), dt_classes());
}
