/* Inputs of a verb are never changed: an output that would replace an input is refused before anything is written, and
 * a continued training with other data, captions, weights or options is refused with the names of the differences. */
#include "data/io/file.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- outputs and inputs ---- */

/* Each is refused with exit code 2. The folder has img/ (a.png, b.png), link -> img, masks/ (a.png and b.png are links
 * into img/), fold/ (a.h5), clip/, sam/, net/ (a training run), boxes.json, prompts.json, texts, pairs.csv. */
static const char *const refused[] = {
    "saliency -m clip -i img -o img --text lesion",
    "saliency -m clip -i img -o ./img --text lesion",
    "saliency -m clip -i img -o img/ --text lesion",
    "saliency -m clip -i img -o sam/../img --text lesion",
    "saliency -m clip -i img -o none/../img --text lesion",
    "saliency -m clip -i img -o link --text lesion",
    "saliency -m clip -i link -o img --text lesion",
    "saliency -m clip -i \"$PWD/img\" -o img --text lesion",
    "saliency -m clip -i masks -o img --text lesion",
    "saliency -m clip -i img/a.png -o img --text lesion",
    "saliency -m clip -i img -o clip --text lesion",
    "saliency -m clip -i img -o new --text lesion --dry-run --trace img/a.png",
    "segment --clip clip --sam sam -i img -o img --text lesion",
    "segment --clip clip --sam sam -i img/b.png -o link --text lesion",
    "segment --clip clip --sam sam -i img -o sam --text lesion",
    "segment --clip clip --sam sam -i out/coarse -o out --text lesion --keep-stages",
    "segment --clip clip --sam sam -i out/saliency -o ./out/ --text lesion --keep-stages",
    "coarse -i img -o img",
    "coarse -i fold -o fold/.",
    "coarse -i fold -o clip --rank text -m clip --images img --text lesion",
    "coarse -i fold -o img --rank text -m clip --images img --text lesion",
    "sam -m sam -i img -o img --prompts-from boxes.json",
    "sam -m sam -i img -o sam --prompts-from boxes.json",
    "sam -m sam -i one/mask.png -o one --box 1,1,5,5",
    "sam -m sam -i img/a.png -o one --mask one/low_res.npy --box 1,1,5,5",
    "predict -m net -i img -o img",
    "predict -m net -i img -o net",
    "predict -m net -i out/last -o out --checkpoints all,last",
    "predict -m net -i out/uncertainty -o out --uncertainty",
    "ensemble -i fold -i fold2 -o fold2",
    "ensemble -i fold -o ./fold",
    "uncertainty -i fold -o ./fold",
    "embed -m clip --images img -o img/a.png",
    "embed -m clip --images img -o link/b.png",
    "embed -m clip --texts texts -o texts",
    "embed -m clip --images img -o clip/open_clip_config.json",
    "evaluate --pred out --ref img -o out", /* summary.json in it is another verb's */
    "report net -o net/plans.json",
    "report net -o net/cycle_1_checkpoint_1.safetensors",
    "diff img masks --trace img/a.png",
    "info img/a.png --trace img/a.png",
    "bench ops --small --config b.csv -o b",
    "finetune -m clip --pairs pairs.csv -i img -o clip",
    "finetune -m run/model --pairs pairs.csv -i img -o run",
    "finetune -m clip --pairs pairs.csv -i img -o img",
    "train -i img -l labels -o img",
    "train -i img -l labels -o labels/",
    "demo --clip clip --sam sam -o clip",
    "demo --clip out/finetune/model --sam sam -o out",
    "demo --clip clip --sam sam --atlas img -o img",
    "demo-start sam --atlas img -o img",
    "replay net -o net",
};

Test(run_inputs, no_verb_replaces_what_it_reads, .timeout = 300)
{
    const char *folder = shell_open(MCS_BINARY, "--threads 1");
    tiny_pairs(tiny_path(folder, "made"), 2);
    const struct sam_config config = tiny_sam_config();
    struct device d;
    struct sam_model m;
    tiny_clip_model(tiny_path(folder, "clip"));
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_sam_model_new(&config, 3, &d, &m), MCS_OK);
    cr_assert_eq(mcs_sam_model_save(&m, tiny_path(folder, "sam"), 0, NULL), MCS_OK);
    mcs_sam_model_close(&m);
    mcs_cpu_close(&d);
    expect(
        "mkdir img masks fold fold2 net labels one out out/coarse out/saliency out/last out/uncertainty run && "
        "set -- $(find made -name '*.png' | sort) && cp $1 img/a.png && cp $2 img/b.png && ln -s img link && "
        "ln -s ../img/a.png masks/a.png && ln -s ../img/b.png masks/b.png && cp img/a.png labels/ && "
        "for d in fold fold2; do echo x > $d/a.h5; done && cp img/a.png one/mask.png && echo x > one/low_res.npy && "
        "for d in coarse saliency last uncertainty; do cp img/a.png out/$d/; done && echo '{}' > out/summary.json && "
        "cp img/a.png out/ && echo '{}' > net/plans.json && echo x > net/cycle_1_checkpoint_1.safetensors && "
        "echo 'verb: train' > net/config.yaml && echo '{\"cases\": []}' > boxes.json && echo 'a lesion' > texts && "
        "echo 'seed: 1' > b.csv && cp made/pairs.csv . && cp -r clip run/model && mkdir -p out/finetune && "
        "cp -r clip out/finetune/model && echo made",
        0, "made");
    char line[1024];
    cr_assert_eq(
        shell("{ find . ! -name '*.tree' | sort; find . -type f ! -name '*.tree' | sort | xargs sha256sum; } > "
              "before.tree"),
        0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(line, sizeof line, "mcsam %s", refused[i]);
        expect(line, 2, "mcsam: error: ");
        cr_expect(!strstr(shell_output, "unknown") && !strstr(shell_output, "required"), "%s: %s", line, shell_output);
        cr_assert_eq(
            shell("{ find . ! -name '*.tree' | sort; find . -type f ! -name '*.tree' | sort | xargs sha256sum; "
                  "} | cmp - before.tree"),
            0, "%s: changed: %s", line, shell_output);
    }
    shell_close();
}

/* Output folders beside, inside and containing the inputs are allowed. */
Test(run_inputs, other_places_are_free, .timeout = 300)
{
    const char *folder = shell_open(MCS_BINARY, "--threads 1");
    tiny_pairs(tiny_path(folder, "made"), 2);
    expect("mkdir img && set -- $(find made -name '*.png' | sort) && cp $1 img/a.png && cp $2 img/b.png && echo made",
           0, "made");
    expect("mcsam coarse -i img -o img/coarse --min-confidence 0", 0, "2 masks");
    expect("mcsam coarse -i img -o . --min-confidence 0", 0, "2 masks");
    expect("mcsam evaluate --pred img/coarse --ref . -o img/coarse", 0, "2 cases");
    expect("mcsam evaluate --pred img/coarse --ref . -o img/coarse", 0, "2 cases");
    expect("mcsam evaluate --pred . --ref . -o img", 0, "2 cases");
    expect("mcsam coarse --config img/coarse/config.yaml", 0, "all 2 cases are finished already");
    expect("mcsam coarse --config img/coarse/config.yaml --keep 2", 2, "config.yaml: is read (--config)");
    expect("mcsam report img -o img/page.html", 0, "page.html");
    shell_close();
}

/* ---- continued trainings with different inputs ---- */

static void start_again(enum tiny_training t, const char *folder, const char *const *more, int want, const char *part)
{
    cr_assert_eq(tiny_shell("rm -rf %s/kept && cp -rp %s/run %s/kept", folder, folder, folder), 0);
    const int code = tiny_wait(tiny_start(t, MCS_BINARY, folder, more, NULL));
    cr_expect_eq(code, want, "exit %d, want %d: %s", code, want, tiny_log(folder));
    cr_expect(strstr(tiny_log(folder), part), "want '%s' in: %s", part, tiny_log(folder));
    if (want) cr_expect(tiny_same(tiny_path(folder, "run"), tiny_path(folder, "kept")), "%s: the run changed", part);
}

Test(run_inputs, fine_tuning_with_other_data, .timeout = 300)
{
    const char *folder = tiny_folder("finetune");
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    cr_assert_eq(tiny_shell("cd %s && cp -r pairs good_pairs && cp -r model good_model", folder), 0);
    /* A caption. */
    cr_assert_eq(tiny_shell("cd %s && sed -i '3s/$/ seen/' pairs/pairs.csv", folder), 0);
    start_again(TINY_CLIP, folder, NULL, 65, "other options: --pairs contents 24 rows, sha256 ");
    /* One row less. */
    cr_assert_eq(tiny_shell("cd %s && head -n -1 good_pairs/pairs.csv > pairs/pairs.csv", folder), 0);
    start_again(TINY_CLIP, folder, NULL, 65, "--pairs contents 23 rows, sha256 ");
    cr_expect(strstr(tiny_log(folder), ", was 24 rows, sha256 "), "%s", tiny_log(folder));
    cr_expect(strstr(tiny_log(folder), "--images contents 23 files"), "%s", tiny_log(folder));
    /* Another image with the same name. */
    cr_assert_eq(
        tiny_shell("cd %s && rm -r pairs && cp -r good_pairs pairs && set -- $(find pairs -name '*.png') && cp "
                   "$1 $2",
                   folder),
        0);
    start_again(TINY_CLIP, folder, NULL, 65, "other options: --images contents 24 files, sha256 ");
    cr_expect_null(strstr(tiny_log(folder), "--pairs contents"), "%s", tiny_log(folder));
    /* The initial weights. */
    cr_assert_eq(
        tiny_shell("cd %s && rm -r pairs && cp -r good_pairs pairs && cp run/model/*.safetensors model/", folder), 0);
    start_again(TINY_CLIP, folder, NULL, 65, "other options: --model weights sha256 ");
    /* Options, by name; the location of the data does not count. */
    cr_assert_eq(tiny_shell("cd %s && rm -r model && cp -r good_model model", folder), 0);
    start_again(TINY_CLIP, folder, (const char *const[]){"--lr", "5e-4", "--loss", "infonce", NULL}, 65,
                "other options: --loss infonce, was dhnnce; --lr 0.0005, was 0.001; use the same ones");
    start_again(TINY_CLIP, folder, (const char *const[]){"--pairs", "good_pairs/pairs.csv", "-m", "good_model", NULL},
                0, "");
    tiny_remove(folder);
}

Test(run_inputs, a_network_with_other_data, .timeout = 300)
{
    const char *folder = tiny_folder("train");
    tiny_training_folder(TINY_UNET, folder);
    cr_assert_eq(tiny_wait(tiny_start(TINY_UNET, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    cr_assert_eq(tiny_shell("cd %s && cp -r data good && set -- data/labels/* && cp $1 $2", folder), 0);
    start_again(TINY_UNET, folder, NULL, 65, "other options: --labels contents 8 slices, sha256 ");
    cr_assert_eq(tiny_shell("cd %s && rm -r data && cp -r good data && set -- data/images/* && cp $1 $2", folder), 0);
    start_again(TINY_UNET, folder, NULL, 65, "other options: --images contents 8 slices, sha256 ");
    cr_assert_eq(tiny_shell("cd %s && rm -r data && cp -r good data && set -- data/images/* && rm $1 && set -- "
                            "data/labels/* && rm $1",
                            folder),
                 0);
    start_again(TINY_UNET, folder, NULL, 65, "--images contents 7 slices, sha256 ");
    start_again(TINY_UNET, folder, (const char *const[]){"-i", "good/images", "-l", "good/labels", NULL}, 0, "");
    start_again(TINY_UNET, folder,
                (const char *const[]){"-i", "good/images", "-l", "good/labels", "--optimizer", "adamw", NULL}, 65,
                "--optimizer adamw, was sgd");
    tiny_remove(folder);
}
