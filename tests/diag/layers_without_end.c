#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dt_image();
    for (int i = 0; i < 100000; i++)
        x = relu(x); // expect-error: relu: the network has more than 16384 layers
    return linear(global_avgpool(x), dt_classes());
}
