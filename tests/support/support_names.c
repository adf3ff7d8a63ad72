#include "tests/support/support_names.h"

#include "data/image/image.h"
#include "data/io/file.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

const char *names_folder;

void names_open(void)
{
    names_folder = shell_open(MCS_BINARY, "--threads 1");
}

const char *names_path(const char *fmt, const char *name)
{
    static char path[4][2048];
    static int turn;
    turn = (turn + 1) % 4;
    const int n = snprintf(path[turn], sizeof path[turn], "%s/", names_folder);
    snprintf(path[turn] + n, sizeof path[turn] - (size_t)n, fmt, name);
    return path[turn];
}

void names_put_image(const char *fmt, const char *name)
{
    struct image img;
    OK(mcs_image_alloc(&img, 24, 24, 1));
    for (int i = 0; i < 24 * 24; i++)
        img.pixels[i] = (i % 24 - 11) * (i % 24 - 11) + (i / 24 - 12) * (i / 24 - 12) < 30 ? 255 : 0;
    OK(mcs_image_write_png(names_path(fmt, name), &img));
    mcs_image_free(&img);
}

char *names_text(const char *name)
{
    static char *text;
    int64_t n;
    free(text);
    OK(mcs_file_read(names_path("%s", name), 1 << 24, &text, &n));
    return text;
}

int names_raw_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 && *text != '\n') return 1;
    return 0;
}
