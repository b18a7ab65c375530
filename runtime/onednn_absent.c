/* onednn_absent.c: what calllib_onednn() is in a build without oneDNN: a message. With it, this file is empty. */
#include "runtime/program.h"

#ifndef DT_HAVE_ONEDNN

CallLib *calllib_onednn(Arena *a, Diag *d, int threads)
{
    (void)a, (void)threads;
    diag_error(d, LOC_NONE, "oneDNN: this build of Detent %s has no oneDNN (configured with DT_ONEDNN=OFF)",
               DT_VERSION);
    diag_help(d, "install libdnnl-dev and configure with -DDT_ONEDNN=ON, or use the reference library, which is slow");
    return NULL;
}

#endif
