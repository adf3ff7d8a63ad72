#include "tests/support/support_folder.h"

#include "data/io/file.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *test_folder;

void test_folder_open(const char *name)
{
    test_folder = tiny_folder(name);
}

void test_folder_close(void)
{
    tiny_remove(test_folder);
}

const char *in_folder(const char *name)
{
    enum { KEPT = 65 };
    static char kept[KEPT][512];
    static int next;
    char path[512];
    cr_assert_lt(snprintf(path, sizeof path, "%s/%s", test_folder, name), (int)sizeof path);
    for (int i = 0; i < KEPT; i++)
        if (strcmp(kept[i], path) == 0) return kept[i];
    next = (next + 1) % KEPT;
    return strcpy(kept[next], path);
}

void file_holds(const char *path, const char *text)
{
    char *bytes;
    int64_t n;
    cr_assert_eq(mcs_file_read(path, 1 << 20, &bytes, &n), MCS_OK, "%s", mcs_error_message());
    cr_assert(n == (int64_t)strlen(text) && memcmp(bytes, text, (size_t)n + 1) == 0, "%s holds %s", path, bytes);
    free(bytes);
}

int folder_n_entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    cr_assert(d);
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

void fails_with(enum mcs_status st, enum mcs_status want, const char *word)
{
    cr_assert_eq(st, want, "status %d, want %d: %s", st, want, mcs_error_message());
    cr_assert(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    mcs_error_clear();
}
