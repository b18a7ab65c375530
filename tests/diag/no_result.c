#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10) // expect-error: net: a Tensor is used here that no layer of this network made
{
    linear(global_avgpool(dt_image()), dt_classes());
    return (Tensor){ 0 };
}
