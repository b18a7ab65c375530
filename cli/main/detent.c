/* detent.c: the program; everything is in cli/commands.c. */
#include "cli/cli.h"

#include <stdlib.h>
#include <unistd.h>

/* OpenMP's threads spin while they wait for work. On a machine that does something else, too, a step then takes 20 to
 * 50 times as long, since the spinning thread holds the core that the working one needs. A short spin keeps what
 * spinning is good for. The library reads its environment when it is loaded, so the program starts itself once more. */
static void spin_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") != NULL || getenv("GOMP_SPINCOUNT") != NULL)
        return;
    setenv("GOMP_SPINCOUNT", "10000", 1);
    execv("/proc/self/exe", argv); /* comes back only where there is no /proc: then it is as it is */
}

int main(int argc, char **argv)
{
    spin_briefly(argv);
    return cli_run(argc, argv, NULL);
}
