#include "tests/support/support_sam_run.h"

#include "data/io/file.h"
#include "tests/golden/formula.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

struct sam_config sam_run_config;
struct device sam_run_cpu;

void sam_run_open(void)
{
    sam_run_config = golden_sam_config();
    OK(mcs_cpu_open(1, &sam_run_cpu));
    test_folder_open("sam");
    OK(mcs_folder_make(in_folder("images")));
}

void sam_run_close(void)
{
    mcs_cpu_close(&sam_run_cpu);
    test_folder_close();
}

struct sam_model sam_run_model(void)
{
    struct sam_model m;
    OK(mcs_sam_model_new(&sam_run_config, 1, &sam_run_cpu, &m));
    for (int i = 0; i < m.params->n; i++) {
        const struct tensor *t = m.params->t[i];
        mcs_golden_weight(t->name, t->dim, t->nd, t->data);
    }
    OK(mcs_sam_model_save(&m, in_folder("model"), 0, "a test"));
    mcs_sam_model_close(&m);
    OK(mcs_sam_model_open(in_folder("model"), &sam_run_cpu, &m));
    return m;
}

void sam_run_write(const char *name, const char *text)
{
    OK(mcs_file_write(in_folder(name), text, (int64_t)strlen(text)));
}

struct image sam_run_picture(int width, int height)
{
    struct image img;
    OK(mcs_image_alloc(&img, width, height, 3));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memset(img.pixels + 3 * (y * width + x),
                   x > width / 3 && x < width / 2 && y > height / 3 && y < height / 2 ? 230 : 40 + (x * 7 + y * 3) % 30,
                   3);
    return img;
}
