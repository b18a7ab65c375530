#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = global_avgpool(dt_image());
    dt_scope("head") // expect-error: dt_scope: "head" is opened here and never closed
        return linear(x, dt_classes());
    return x;
    // expect-help: do not leave the block by return, break or goto
}
