/* Preloaded (LD_PRELOAD) while mutants are tested: appends every folder made by mkdtemp to the file that MUTANT_FOLDERS
 * names, because a test that crashes does not remove its folder. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *mkdtemp(char *template)
{
    char *(*next)(char *) = (char *(*)(char *))dlsym(RTLD_NEXT, "mkdtemp");
    char *made = next ? next(template) : NULL, line[4096];
    const char *path = getenv("MUTANT_FOLDERS");
    const int f = made && path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (f < 0) return made;
    const int n = snprintf(line, sizeof line, "%s\n", made);
    if (n < (int)sizeof line && write(f, line, (size_t)n) < 0) perror(path);
    close(f);
    return made;
}
