/* models.c: the networks that are built in, in the order in which they are listed. A new one is a file beside this one,
 * a declaration and a row here.
 *
 * Tested by tests/unit/test_dsl.c. */
#include "frontend/detent.h"

extern const DtModel        resnet20, mnist;

extern const DtModel *const frontend_models[];
extern const int32_t        frontend_n_models;

const DtModel *const        frontend_models[] = { &resnet20, &mnist };
const int32_t               frontend_n_models = sizeof(frontend_models) / sizeof(frontend_models[0]);
