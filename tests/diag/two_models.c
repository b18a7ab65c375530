#include "frontend/detent.h"

dt_model(one, "the first", .image = { 3, 8, 8 }, .classes = 10)
{
    return linear(global_avgpool(dt_image()), dt_classes());
}

dt_model(two, "the second", .image = { 3, 8, 8 }, .classes = 10) // expect-error: failed
{
    return linear(global_avgpool(dt_image()), dt_classes());
}
// expect-text: dt_model_entry
// expect-help: a file that is loaded declares one network
