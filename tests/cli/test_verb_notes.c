/* Text output of the verbs that run a model: last lines, dry runs, JSON files and attributes of HDF5 files, as whole
 * texts (tests/expected/notes). Figures that depend on rounding are replaced by #; other tests check them. */
#include "data/image/volume.h"
#include "data/io/file.h"
#include "data/io/store.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/unet_model.h"
#include "infer/weights.h"
#include "tests/support/support_expected.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 20, HEIGHT = 14, PIXELS = WIDTH * HEIGHT };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

#define FORM "loss=paper,saliency=release,coarse=paper,sam=paper,train=paper,metrics=paper"

static char clip_sha256[65], sam_sha256[65];

static void write_image(const char *name, int channels, int seed)
{
    struct image img;
    OK(mcs_image_alloc(&img, WIDTH, HEIGHT, channels));
    for (int i = 0; i < PIXELS * channels; i++) img.pixels[i] = (uint8_t)((i * (7 + seed)) % 251);
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* Four images, b in colour, d damaged; a volume of two slices; pairs; texts. */
static void write_inputs(void)
{
    const float spacing[3] = {0.5f, 0.75f, 3};
    struct volume v;
    expect("mkdir img vol", 0, "");
    write_image("img/a.png", 1, 0);
    write_image("img/b.png", 3, 2);
    write_image("img/c.png", 1, 5);
    shell_write("img/d.png", "no image");
    OK(mcs_volume_alloc(&v, WIDTH, HEIGHT, 2, spacing));
    for (int i = 0; i < 2 * PIXELS; i++) v.values[i] = (float)(i % 37);
    OK(mcs_volume_write_f32(shell_path("vol/v.nii.gz"), v.values, &v));
    mcs_volume_free(&v);
    shell_write("texts", "brain tumor\nbreast\n");
    shell_write("pairs.csv", "picture;said\na.png;a brain tumor\nb.png;a breast with a tumor\nc.png;lung\nd.png;lung "
                             "opacity\n;empty\na.png;x\n");
}

static void setup(void)
{
    const struct sam_config c = tiny_sam_config();
    struct clip_model clip = {0};
    struct sam_model sam;
    struct device d;
    shell_open(MCS_BINARY, "--threads 1 2> err");
    write_inputs();
    tiny_clip_model(shell_path("clip"));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_open(shell_path("clip"), &d, &clip));
    strcpy(clip_sha256, clip.sha256);
    mcs_clip_model_close(&clip);
    OK(mcs_sam_model_new(&c, 2, &d, &sam));
    OK(mcs_sam_model_save(&sam, shell_path("sam"), 0, NULL));
    mcs_sam_model_close(&sam);
    OK(mcs_sam_model_open(shell_path("sam"), &d, &sam));
    strcpy(sam_sha256, sam.sha256);
    mcs_sam_model_close(&sam);
    mcs_cpu_close(&d);
    shell_write("hide.sed", "s/([^0-9.][0-9]+)\\.0\\>/\\1/g\ns/-?[0-9]+\\.[0-9]+(e[-+][0-9]+)?/#/g\n"
                            "s/(\"version\": \")[^\"]*/\\1V/\ns/(bytes\": |\"(mean|lo|hi)\": | in )[0-9]+/\\1#/g\n"
                            "s/((\"iou\": (#|[0-9]+)|\"size\": \\[ 20, 14 \\]), \"area\": )[0-9]+/\\1#/g\n");
}
TestSuite(verb_notes, .init = setup, .fini = shell_close, .timeout = 60);

/* Runs a line and compares all output, with the models' checksums replaced by CLIP and SAM. */
static void expect_text(const char *line, int code, const char *name)
{
    static char text[8192];
    char path[128];
    snprintf(text, sizeof text,
             "json() { tr -s ' \\n' ' ' < $1 | sed 's/{ \"image/\\n&/g'; echo; }; { %s; } > .out; code=$?; sed -E -f "
             "hide.sed -e s/%s/CLIP/ -e s/%s/SAM/ .out; exit $code",
             line, clip_sha256, sam_sha256);
    const int got = shell(text);
    cr_expect_eq(got, code, "%s: exit %d, want %d:\n%s", line, got, code, shell_output);
    snprintf(path, sizeof path, "notes/%s", name);
    expected_check_within(path, shell_output, 0);
}

static double number(const char *file, const char *key)
{
    struct store *s;
    double v;
    OK(mcs_store_open(shell_path(file), &s));
    OK(mcs_store_get_number(s, key, &v));
    mcs_store_close(s);
    return v;
}

static void expect_note(const char *file, const char *key, const char *want)
{
    struct store *s;
    char text[256];
    OK(mcs_store_open(shell_path(file), &s));
    OK(mcs_store_get_text(s, key, text, sizeof text));
    cr_expect_str_eq(text, want, "%s: %s is %s, want %s", file, key, text, want);
    mcs_store_close(s);
}

static void expect_names(const char *file, const char *key, const char *const *want, int n_want)
{
    struct store *s;
    char **names;
    int n;
    OK(mcs_store_open(shell_path(file), &s));
    OK(mcs_store_get_texts(s, key, &n, &names));
    cr_assert_eq(n, n_want, "%s: %d %s", file, n, key);
    for (int i = 0; i < n; i++) cr_expect_str_eq(names[i], want[i]);
    mcs_store_texts_free(n, names);
    mcs_store_close(s);
}

Test(verb_notes, embed)
{
    expect_text("mcsam embed -m clip -i img --dry-run -o never.h5; mcsam embed -m clip -i img --texts texts --dry-run "
                "--json -o never.h5; mcsam embed -m clip --texts texts --json -o out/t.h5; mcsam embed -m clip -i img "
                "--texts texts --raw --whole -o out/e.h5; echo $?; cut -c 1-24 out/failures.csv; ls out",
                0, "embed.txt");
    expect_names("out/e.h5", "image_names", (const char *const[]){"a.png", "b.png", "c.png"}, 3);
    expect_names("out/e.h5", "texts", (const char *const[]){"brain tumor", "breast"}, 2);
    expect_names("out/t.h5", "texts", (const char *const[]){"brain tumor", "breast"}, 2);
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "out/e.h5" : "out/t.h5";
        expect_note(file, "view", i ? "whole" : "crop");
        expect_note(file, "normalised", i ? "no" : "yes");
        expect_note(file, "weights_sha256", clip_sha256);
        expect_note(file, "version", MCS_VERSION);
    }
}

Test(verb_notes, retrieve)
{
    const char *line = "mcsam retrieve -m clip --pairs pairs.csv -i img --image-column picture --caption-column said "
                       "--separator ';'";
    char text[1024];
    snprintf(text, sizeof text,
             "%s --dry-run; %s; echo $?; %s --batch 2 --runs 3 --seed 4 --whole --min-caption 5; echo $?", line, line,
             line);
    expect_text(text, 0, "retrieve.json");
}

Test(verb_notes, saliency)
{
    expect_text(
        "for more in '' --json; do mcsam saliency -m clip -i img --text lung --dry-run -o never $more; mcsam "
        "saliency -m clip -i img --text 'brain tumor' --null lung --steps 2 --seed 6 --form saliency=release -o "
        "out$more $more; echo $?; done; cut -c 1-20 out/failures.csv; ls out",
        0, "saliency.txt");
    expect_note("out/a.h5", "text", "brain tumor");
    expect_note("out/a.h5", "form", FORM);
    expect_note("out/a.h5", "weights_sha256", clip_sha256);
    expect_note("out/a.h5", "version", MCS_VERSION);
    cr_expect_eq(number("out/a.h5", "seed"), 6);
    cr_expect(fabs(number("out/a.h5", "presence")) > 0 && fabs(number("out/a.h5", "presence")) <= 2);
    expect("mcsam saliency -m clip -i img/a.png --text 'brain tumor' --steps 2 -o p", 0, "1 maps");
    expect_note("p/a.h5", "form", "paper");
    cr_expect_eq(number("p/a.h5", "seed"), 1);
}

/* Maps by hand: a large dim component, a small bright one, a medium one; a flat map. */
static void write_maps(void)
{
    struct image m;
    expect("mkdir maps", 0, "");
    OK(mcs_image_alloc(&m, WIDTH, HEIGHT, 1));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            m.pixels[y * WIDTH + x] = (uint8_t)(x < 8 && y < 6             ? 150
                                                : x > 15 && y > 10         ? 250
                                                : x > 9 && x < 14 && y < 3 ? 200
                                                                           : 10);
    OK(mcs_image_write_png(shell_path("maps/a.png"), &m));
    memset(m.pixels, 9, PIXELS);
    OK(mcs_image_write_png(shell_path("maps/flat.png"), &m));
    mcs_image_free(&m);
    shell_write("maps/x.png", "no map");
}

Test(verb_notes, coarse)
{
    static const char *const options[] = {
        "",
        "--form release",
        "--keep 0 --points 2 --negative-points 3 --seed 5 --min-confidence 0",
        "--threshold 0.7 --rank area --keep 2 --boxes merged --grow 2",
        "--threshold kmeans --rank confidence --min-area 13 --min-confidence 0.1 --boxes each --grow -1",
        "--min-confidence 1",
    };
    char line[512];
    write_maps();
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(line, sizeof line,
                 "rm -rf out; mcsam coarse -i maps -o out %s%s; echo $?; json out/boxes.json; cut -c 1-10 "
                 "out/failures.csv; ls out",
                 options[i], i == 2 ? " --json" : "");
        snprintf(name, sizeof name, "coarse%d.json", i);
        /* boxes.json has no rounding errors: it is compared with its fractions */
        expect("printf 's/(\"version\": \")[^\"]*/\\\\1V/' > hide.sed", 0, "");
        expect_text(line, 0, name);
    }
    expect_text(
        "mcsam coarse -i maps -o never --dry-run; mcsam coarse -i maps -o never --dry-run --json; test -e never", 1,
        "coarse_dry.txt");
}

/* A threshold below every value: the coarse mask is the whole image, whatever the rounding. */
Test(verb_notes, segment)
{
    expect_text(
        "for more in '' --json; do mcsam segment --clip clip --sam sam -i img --text lung --dry-run -o never "
        "$more; mcsam segment --clip clip --sam sam -i img --text 'brain tumor' --steps 2 --seed 6 --form "
        "saliency=release --threshold=-1 --min-confidence 0 --keep-stages -o out$more $more; echo $?; done; json "
        "out/summary.json; json out/coarse/boxes.json; cut -c 1-20 out/failures.csv; ls -R out",
        0, "segment.json");
    expect_text(
        "mcsam segment --clip clip --sam sam -i img/a.png --text lung --steps 2 --min-confidence 1 -o none; json "
        "none/summary.json; mcsam segment --clip clip --sam sam -i vol --text lung --steps 2 --threshold=-1 "
        "--min-confidence 0 --keep-stages -o v; json v/summary.json; ls -R v",
        0, "segment_more.json");
    expect_note("out/saliency/b.h5", "text", "brain tumor");
    expect_note("out/saliency/b.h5", "form", FORM);
    expect_note("out/saliency/b.h5", "weights_sha256", clip_sha256);
    cr_expect_eq(number("out/saliency/b.h5", "seed"), 6);
}

/* The preparation of SAM's images is an option, and noted. */
Test(verb_notes, segment_with_medsam)
{
    expect("mcsam segment --clip clip --sam sam -i img/a.png --text lung --steps 2 --preprocess medsam -o out && cat "
           "out/summary.json",
           0, "\"preprocess\": \"medsam\"");
    expect("mcsam segment --clip clip --sam sam -i img/a.png --text lung --preprocess clip -o none", 2, "");
}

Test(verb_notes, sam_on_a_folder)
{
    shell_write("boxes.json",
                "{\"cases\": [{\"image\": \"a.png\", \"size\": [20, 14], \"components\": [{\"box\": [2, 3, 9, 9], "
                "\"points\": [[3, 4, 1], [9, 9, 0]], \"area\": 9, \"confidence\": 0.5}]}, {\"image\": \"b.png\", "
                "\"size\": [20, 14], \"components\": [], \"reason\": \"nothing there\"}, {\"image\": \"c.png\", "
                "\"size\": [21, 14], \"components\": [{\"box\": [0, 0, 5, 5], \"area\": 4, \"confidence\": 1}]}, "
                "{\"image\": \"d.png\", \"size\": [20, 14], \"components\": []}, {\"image\": \"e.png\", \"size\": [20, "
                "14], \"components\": []}]}");
    expect_text("cp img/a.png img/z.png; mcsam sam -m sam -i img --prompts-from boxes.json --prompts both --seed 3 -o "
                "out; echo $?; json out/sam.json; cat out/failures.csv; ls out; mcsam sam -m sam -i img --prompts-from "
                "boxes.json --form release --multimask --grow 1 --json -o more; json more/sam.json",
                0, "sam.json");
}

/* A run of two random checkpoints. */
static void write_run(void)
{
    const struct unet_checkpoint c[2] = {{.cycle = 1, .index = 1, .step = 10, .file = "one.safetensors"},
                                         {.cycle = 2, .index = 1, .step = 20, .file = "two.safetensors"}};
    struct unet_plans p;
    struct unet_model m;
    struct device d;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p));
    expect("mkdir run", 0, "");
    OK(mcs_unet_plans_write(shell_path("run"), &p));
    OK(mcs_unet_checkpoints_write(shell_path("run"), c, 2));
    for (int i = 0; i < 2; i++) {
        OK(mcs_unet_model_new(&p, 7 + (uint64_t)i, &d, &m));
        OK(mcs_weights_write(shell_path(i ? "run/two.safetensors" : "run/one.safetensors"), m.params, 0, NULL, NULL));
        mcs_unet_model_close(&m);
    }
    mcs_cpu_close(&d);
}

Test(verb_notes, predict)
{
    write_run();
    expect_text("mcsam predict -m run -i img -o never --dry-run; mcsam predict -m run -i img -o never --dry-run --json "
                "--checkpoints last; mcsam predict -m none -i img -o never --dry-run; echo $?; test -e never || cp "
                "vol/v.nii.gz img; mcsam predict -m run -i img "
                "-o out --checkpoints last,all --uncertainty --save-probabilities; echo $?; cut -c 1-10 "
                "out/failures.csv; ls -R "
                "out; cut -d, -f 1 out/uncertainty/uncertainty.csv; mcsam predict -m run -i vol -o v --json "
                "--disable-tta; ls v",
                0, "predict.txt");
    expect("cp -r out again; mcsam predict -m run -i img -o out --checkpoints last,all --uncertainty "
           "--save-probabilities; rm out/.mcsam* again/.mcsam* -rf; diff -r out again && echo same",
           0, "same");
    expect(
        "mkdir w; mcsam predict -m run -i vol -o w; rm w/v.nii.gz; touch w/v.nii.gz; rm -rf w/.??*; mcsam predict -m "
        "run -i vol -o w --continue-prediction && wc -c < w/v.nii.gz",
        0, "0");
}

/* A volume of one slice is treated as a volume for every group of checkpoints, with its geometry. */
Test(verb_notes, predict_one_slice)
{
    const float spacing[3] = {0.5f, 0.75f, 3};
    struct volume v;
    write_run();
    OK(mcs_volume_alloc(&v, WIDTH, HEIGHT, 1, spacing));
    for (int i = 0; i < PIXELS; i++) v.values[i] = (float)(i % 37);
    OK(mcs_volume_write_f32(shell_path("vol/v.nii.gz"), v.values, &v));
    mcs_volume_free(&v);
    expect(
        "mcsam predict -m run -i vol -o out --checkpoints last,all --save-probabilities && ls out/all | tr '\\n' ' '",
        0, "v.h5 v.nii.gz ");
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "out/all/v.h5" : "out/v.h5";
        cr_expect_eq(number(file, "is_volume"), 1, "%s", file);
        cr_expect(number(file, "spacing_x") == 0.5 && number(file, "spacing_y") == 0.75, "%s", file);
        cr_expect_eq(number(file, "spacing_z"), 3, "%s", file);
    }
}
