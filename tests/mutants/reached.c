/* The points that a test and the programs it starts execute: a file with one byte per point, mapped by all of them. Its
 * path is the last entry of LD_LIBRARY_PATH (programs.pl puts it there), which every started program inherits. Compiled
 * into the instrumented library with -DN_POINTS=n. */
#include "tests/mutants/reached.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned char nowhere[N_POINTS];
unsigned char *mcs_reached = nowhere;

__attribute__((constructor)) static void open_map(void)
{
    const char *folders = getenv("LD_LIBRARY_PATH"), *path = folders ? strrchr(folders, ':') : NULL;
    const int f = path ? open(path + 1, O_RDWR | O_CLOEXEC) : -1;
    if (f < 0) return;
    void *map = mmap(NULL, N_POINTS, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    if (map != MAP_FAILED) mcs_reached = map;
    close(f);
}
