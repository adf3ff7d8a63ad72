/* Output folders whose path is so long that a file in them could not be named: every verb refuses one with one message
 * and leaves nothing behind. A folder whose path is a byte shorter works. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;

static void setup(void)
{
    folder = shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(long_paths, .init = setup, .fini = shell_close, .timeout = 300);

/* Sets $1 of the shell's lines: a path of n bytes in FOLDER/deep. */
static void set_path(const char *name, int n)
{
    char path[2 * MCS_PATH_BYTES];
    int used = snprintf(path, sizeof path, "%s/deep/", folder);
    for (; used < n; used++) path[used] = used % 200 == 0 && used < n - 1 ? '/' : 'p';
    path[n] = '\0';
    shell_write(name, path);
}

enum { MOST = MCS_PATH_BYTES - 1 - MCS_PATH_ROOM };

/* line: a verb that writes into $OUT. */
static void check(const char *line)
{
    char text[1024];
    set_path("long", MOST + 1);
    set_path("short", MOST);
    snprintf(text, sizeof text, "OUT=$(cat long); %s", line);
    expect(text, 74, "the path is too long");
    cr_expect(strstr(shell_output, "use a shorter folder"), "%s", shell_output);
    cr_expect_eq(strstr(strstr(shell_output, "too long") + 1, "too long"), NULL, "said twice: %s", shell_output);
    expect("test ! -e deep", 0, "");
    snprintf(text, sizeof text, "OUT=$(cat short); %s", line);
    expect(text, 0, "");
    expect("test -d \"$(cat short)\" && cd \"$(cat short)\" && ls && cd - > /dev/null && rm -rf deep", 0, "");
}

static void put_models(void)
{
    tiny_clip_model(shell_path("clip"));
    tiny_pairs(shell_path("pairs"), 6);
}

Test(long_paths, training)
{
    tiny_masks(shell_path("data"), 4);
    check(
        "mcsam train -i data/images -l data/labels -o $OUT --patch 16x16 --stages 2 --features 4 --batch 2 --epochs 2 "
        "--iterations 1 --cycles 2 --checkpoints 1 --quiet");
}

Test(long_paths, fine_tuning_and_saliency)
{
    put_models();
    check("mcsam finetune -m clip --pairs pairs/pairs.csv --images pairs --batch 2 --steps 2 -o $OUT --quiet");
    check("mcsam saliency -m clip -i pairs --text lesion --steps 2 --copies 2 -o $OUT --quiet");
}

Test(long_paths, prediction)
{
    tiny_masks(shell_path("data"), 4);
    expect(
        "mcsam train -i data/images -l data/labels -o run --patch 16x16 --stages 2 --features 4 --batch 2 --epochs 2 "
        "--iterations 1 --cycles 2 --checkpoints 1 --quiet",
        0, "");
    check("mcsam predict -m run -i data/images -o $OUT --uncertainty --quiet");
}

Test(long_paths, evaluation_and_coarse_masks)
{
    tiny_masks(shell_path("data"), 2);
    check("mcsam evaluate -i data/labels -r data/labels -o $OUT");
    check("mcsam coarse -i data/images -o $OUT");
}

/* The page is a file: its path may have all bytes that the system takes. */
Test(long_paths, report)
{
    tiny_masks(shell_path("data"), 2);
    expect("mcsam evaluate -i data/labels -r data/labels -o run", 0, "");
    set_path("file", MCS_PATH_BYTES);
    expect("mcsam report run -o $(cat file)", 74, "the path is too long");
    expect("test ! -e deep", 0, "");
    set_path("file", MCS_PATH_BYTES - 1);
    expect("P=$(cat file); mkdir -p ${P%/*} && mcsam report run -o $P && test -s $P", 0, "");
    /* beside the run's files, in a folder that has no room for the page's name */
    set_path("file", MCS_PATH_BYTES - 5);
    expect("mcsam report $(cat file)", 74, "the path is too long");
}

Test(long_paths, demonstration)
{
    set_path("long", MOST + 1);
    expect("OUT=$(cat long); mcsam demo --quick -o $OUT --clip $DEMO/clip --sam $DEMO/sam", 74, "the path is too long");
    expect("test ! -e deep", 0, "");
    expect("OUT=$(cat long); mcsam demo-start sam -o $OUT", 74, "the path is too long");
    expect("test ! -e deep", 0, "");
}
