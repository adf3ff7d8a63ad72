/* Verbs that reuse finished cases do so only while the models and input files are the same: each runs twice with the
 * same command, then again after a change of one thing that its results depend on. */
#include "data/io/file.h"
#include "data/io/npy.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/unet_model.h"
#include "infer/weights.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 20, HEIGHT = 14, PIXELS = WIDTH * HEIGHT };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device device;

static void write_image(const char *name, int step)
{
    struct image img;
    OK(mcs_image_alloc(&img, WIDTH, HEIGHT, 1));
    for (int i = 0; i < PIXELS; i++) img.pixels[i] = (uint8_t)(i * step % 251);
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* clip and sam, and new.clip and new.sam of the same sizes with one different weight. */
static void write_models(void)
{
    const struct sam_config c = tiny_sam_config();
    struct clip_model clip = {0};
    struct sam_model sam;
    tiny_clip_model(shell_path("clip"));
    OK(mcs_clip_model_open(shell_path("clip"), &device, &clip));
    clip.params->data[0] += 1;
    OK(mcs_clip_model_save(&clip, shell_path("new.clip"), 0));
    mcs_clip_model_close(&clip);
    OK(mcs_sam_model_new(&c, 2, &device, &sam));
    OK(mcs_sam_model_save(&sam, shell_path("sam"), 0, NULL));
    sam.params->data[0] += 1;
    OK(mcs_sam_model_save(&sam, shell_path("new.sam"), 0, NULL));
    mcs_sam_model_close(&sam);
}

/* run: two checkpoints; new.one and new.two: other weights. */
static void write_run(void)
{
    const struct unet_checkpoint c[2] = {{.cycle = 1, .index = 1, .step = 10, .file = "one.safetensors"},
                                         {.cycle = 2, .index = 1, .step = 20, .file = "two.safetensors"}};
    static const char *const names[] = {"run/one.safetensors", "run/two.safetensors", "new.one"};
    struct unet_plans p;
    struct unet_model m;
    OK(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p));
    expect("mkdir run", 0, "");
    OK(mcs_unet_plans_write(shell_path("run"), &p));
    OK(mcs_unet_checkpoints_write(shell_path("run"), c, 2));
    for (int i = 0; i < 3; i++) {
        OK(mcs_unet_model_new(&p, 7 + (uint64_t)i, &device, &m));
        OK(mcs_weights_write(shell_path(names[i]), m.params, 0, NULL, NULL));
        mcs_unet_model_close(&m);
    }
}

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
    OK(mcs_cpu_open(1, &device));
    expect("mkdir img", 0, "");
    write_image("img/a.png", 7);
    write_image("img/b.png", 11);
    write_image("new.b.png", 13);
}

static void teardown(void)
{
    mcs_cpu_close(&device);
    shell_close();
}
TestSuite(run_again, .init = setup, .fini = teardown, .timeout = 60);

struct change {
    const char *line, *option; /* line: a shell line; option: the difference that the run then reports */
};

/* Runs `line` twice: the second time nothing is left to do. Then each of `changes` (NULL ends): all cases are computed
 * again, and the run says why. After the change is undone, the first run's results are valid again. */
static void check(const char *line, const struct change *changes)
{
    char text[1024], part[128];
    expect(line, 0, "");
    expect(line, 0, "all 2 cases are finished already");
    for (; changes->line; changes++) {
        snprintf(text, sizeof text, "rm -rf kept; mkdir kept; cp -r [a-j]* [l-z]* kept; %s", changes->line);
        expect(text, 0, "");
        snprintf(text, sizeof text, "%s; code=$?; cp -r kept/. .; exit $code", line);
        snprintf(part, sizeof part, "2 finished cases were made by other options and are made again: --%s ",
                 changes->option);
        expect(text, 0, part);
        expect(line, 0, "all 2 cases are finished already");
    }
}

Test(run_again, predict)
{
    write_run();
    check("mcsam predict -m run -i img -o out",
          (const struct change[]){{"echo >> run/plans.json", "model_sha256"},
                                  {"cp new.one run/one.safetensors", "model_sha256"},
                                  {"cp new.one run/two.safetensors", "model_sha256"},
                                  {0}});
}

Test(run_again, saliency)
{
    enum { N = 2 * 2 * 5 * 16 };
    static float noise[N];
    write_models();
    for (int i = 0; i < 2; i++) {
        noise[N - 1] = (float)i;
        OK(mcs_npy_write(shell_path(i ? "new.npy" : "noise.npy"), noise, 4, (int64_t[]){2, 2, 5, 16}));
    }
    check(
        "mcsam saliency -m clip -i img --text lung --steps 2 --copies 2 --noise noise.npy -o out",
        (const struct change[]){{"cp new.clip/* clip", "model_sha256"}, {"cp new.npy noise.npy", "noise_sha256"}, {0}});
    check("mcsam segment --clip clip --sam sam -i img --text lung --steps 2 --copies 2 --noise noise.npy -o seg",
          (const struct change[]){{"cp new.clip/* clip", "clip_sha256"},
                                  {"cp new.sam/* sam", "sam_sha256"},
                                  {"sed -i '1s/{/{\"preprocess\": \"medsam\",/' sam/sam_config.json", "sam_preprocess"},
                                  {"cp new.npy noise.npy", "noise_sha256"},
                                  {0}});
}

/* The components are ranked by the model, the images and the texts: a change of any is detected. */
Test(run_again, coarse)
{
    write_models();
    shell_write("p.json", "{\"a\": \"lung\", \"b\": \"brain\"}");
    expect("cp -r img maps", 0, "");
    check("mcsam coarse -i maps -o out --rank text --min-confidence 0 -m clip --images img --prompts p.json",
          (const struct change[]){{"cp new.clip/* clip", "rank_by"},
                                  {"cp new.b.png img/b.png", "rank_by"},
                                  {"echo '{\"a\": \"brain\", \"b\": \"brain\"}' > p.json", "rank_by"},
                                  {"echo '{\"a\": \"lung\", \"b\": \"lung\"}' > p.json", "rank_by"},
                                  {0}});
}

Test(run_again, sam_and_embed)
{
    write_models();
    shell_write("boxes.json",
                "{\"cases\": [{\"image\": \"a.png\", \"size\": [20, 14], \"components\": [{\"box\": [2, 3, "
                "9, 9], \"area\": 9, \"confidence\": 0.5}]}, {\"image\": \"b.png\", \"size\": [20, 14], "
                "\"components\": []}]}");
    check("mcsam sam -m sam -i img --prompts-from boxes.json -o out",
          (const struct change[]){{"cp new.sam/* sam", "model_sha256"}, {0}});
    expect("mcsam embed -m clip -i img -o e.h5; cp e.h5 f.h5; cp new.clip/* clip; mcsam embed -m clip -i img -o e.h5; "
           "cmp e.h5 f.h5",
           1, "differ");
}
