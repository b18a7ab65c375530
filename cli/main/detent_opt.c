/* detent_opt.c: the program; everything is in cli/opt.c. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return opt_run(argc, argv);
}
