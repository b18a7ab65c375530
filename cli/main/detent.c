/* detent.c: the program; everything is in cli/commands.c. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return cli_run(argc, argv, NULL);
}
