#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dt_image();
    dt_scope("body")
        for (int i = 0; i < 4; i++)
            dt_scope("b%d", i) { // expect-error: dt_scope: "body.b0" is opened here and never closed
                x = conv2d(x, 8, 3);
                break;
            }
    return linear(global_avgpool(x), dt_classes());
}
