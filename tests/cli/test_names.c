/* Arbitrary names and texts: any bytes and any length, with characters that terminals and spreadsheets interpret. They
 * must not end a run, get lost, or have an effect. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/text/pairs.h"
#include "data/text/prompts.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/cli/config.h"
#include "infer/cases.h"
#include "infer/coarse/boxes.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
/* Everything at once: ESC, a line end, a quote, a comma, DEL, C1's CSI in UTF-8, and two bytes that are not UTF-8. */
#define ODD "-o\x1b[31m\n\",\x7f\xc2\x9b\xff\xfeé"

static const char *folder;

static void setup(void)
{
    folder = shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(names, .init = setup, .fini = shell_close, .timeout = 120);

static const char *at(const char *fmt, const char *name)
{
    static char path[4][2048];
    static int turn;
    turn = (turn + 1) % 4;
    const int n = snprintf(path[turn], sizeof path[turn], "%s/", folder);
    snprintf(path[turn] + n, sizeof path[turn] - (size_t)n, fmt, name);
    return path[turn];
}

/* Square images with a bright blob: also good as saliency maps and as masks. */
static void put_image(const char *fmt, const char *name)
{
    struct image img;
    OK(mcs_image_alloc(&img, 24, 24, 1));
    for (int i = 0; i < 24 * 24; i++)
        img.pixels[i] = (i % 24 - 11) * (i % 24 - 11) + (i / 24 - 12) * (i / 24 - 12) < 30 ? 255 : 0;
    OK(mcs_image_write_png(at(fmt, name), &img));
    mcs_image_free(&img);
}

static char *text_of(const char *name)
{
    static char *text;
    int64_t n;
    free(text);
    OK(mcs_file_read(at("%s", name), 1 << 24, &text, &n));
    return text;
}

static int has_raw_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 && *text != '\n') return 1;
    return 0;
}

/* ---- escapes ---- */

Test(names, shown)
{
    static const char *const cases[][2] = {{"plain é 漢 \xf0\x9f\x99\x82", "plain é 漢 \xf0\x9f\x99\x82"},
                                           {"\x1b[2J\x07\t\r\n", "\\x1b[2J\\x07\\x09\\x0d\\x0a"},
                                           {"a\x7f\xc2\x80\xc2\x9f\xc2\xa0", "a\\x7f\\xc2\\x80\\xc2\\x9f\xc2\xa0"},
                                           {"\xff\xc0\xaf\xed\xa0\x80", "\\xff\\xc0\\xaf\\xed\\xa0\\x80"},
                                           {"\xf4\x90\x80\x80\xe2\x82", "\\xf4\\x90\\x80\\x80\\xe2\\x82"},
                                           {"back\\slash", "back\\slash"}};
    char dst[64], small[8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mcs_text_escape(dst, sizeof dst, cases[i][0]);
        cr_expect_str_eq(dst, cases[i][1]);
        cr_expect_str_eq(mcs_text_shown(dst), cases[i][1]); /* applying it again changes nothing */
    }
    mcs_text_escape(small, sizeof small,
                    "abcd\x1b"
                    "e"); /* the escape does not fit: no part of it is written */
    cr_expect_str_eq(small, "abcd");
    mcs_text_escape(small, sizeof small, "abcdef\xc3\xa9");
    cr_expect_str_eq(small, "abcdef");
}

/* Decoding gives back every name, and no two names are encoded alike. */
Test(names, stored)
{
    static const char *const names[] = {"plain",     "é",           "\xff",  "\\xff", "\\\\xff", "a\\b",
                                        "a\\b\xff",  "a\\\\b\\xff", "\\x41", "\\xFF", "\\\xff",  "\\x\xff",
                                        "\xff\\xff", "\\\\",        "\\",    "",      "\xc3",    "\\xc3\\xa9"};
    enum { N = sizeof names / sizeof *names };
    struct arena a = {0};
    const char *encoded[N];
    for (int i = 0; i < N; i++) {
        encoded[i] = mcs_text_encode(&a, names[i]);
        cr_expect_str_eq(mcs_text_decode(&a, encoded[i]), names[i]);
        for (const char *p = encoded[i]; *p; p += mcs_text_utf8_length(p)) cr_assert(mcs_text_utf8_length(p) > 0);
        for (int k = 0; k < i; k++) cr_expect_str_neq(encoded[k], encoded[i], "%d and %d", k, i);
    }
    cr_expect_str_eq(encoded[1], "é");
    cr_expect_str_eq(encoded[5], "a\\b"); /* ordinary names are unchanged */
    cr_expect_str_eq(encoded[2], "\\xff");
    cr_expect_str_eq(mcs_text_decode(&a, "\\x41\\\\"), "\\x41\\\\"); /* not produced by encoding */
    mcs_arena_free(&a);
}

/* Names in messages cannot send commands to the terminal: errors, warnings, notes. */
Test(names, messages)
{
    cr_expect_eq(MCS_FAIL(MCS_E_DATA, "%s: bad", ODD), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "-o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé: bad");
    mcs_error_add("; %s", "\x1b]0;t\x07");
    cr_expect(strstr(mcs_error_message(), "; \\x1b]0;t\\x07"));
    mcs_error_clear();
    const int kept = dup(2), fd = open(at("%s", "log"), O_CREAT | O_RDWR, 0600);
    dup2(fd, 2);
    mcs_warn("%s", ODD);
    mcs_log("%s", ODD);
    dup2(kept, 2);
    close(fd);
    close(kept);
    const char *said = text_of("log");
    cr_expect_str_eq(said, "mcsam: warning: -o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé\n"
                           "mcsam: -o\\x1b[31m\\x0a\",\\x7f\\xc2\\x9b\\xff\\xfeé\n");
    put_image("%s.png", ODD);
    expect("E=$(printf '\\033'); mcsam info ./*.png \"no$E[31mwhere.png\"", 3, "no\\x1b[31mwhere.png");
    cr_expect(strstr(shell_output, "-o\\x1b[31m\\x0a\""), "%s", shell_output);
    cr_expect_not(has_raw_control(shell_output), "%s", shell_output);
    expect("mcsam info --json ./*.png", 0, "\\\\xff\\\\xfe");
    expect("mcsam info \"a$(printf '\\033')\"", 66, "mcsam: error: a\\x1b: ");
    expect(MCS_BINARY " \"$(printf '\\033')[31m\"", 2, "unknown verb '\\x1b[31m'");
    expect("mkdir x y && cp ./*.png x && cp ./*.png y && mcsam diff x y --all", 0, "\\xff\\xfe");
    cr_expect_not(has_raw_control(shell_output), "%s", shell_output);
}

/* ---- tables ---- */

Test(names, cells)
{
    static const char *const cases[][2] = {
        {"=1+2", "'=1+2"},
        {"+a", "'+a"},
        {"-a", "'-a"},
        {"@SUM(A1)", "'@SUM(A1)"},
        {"\tx", "'\tx"},
        {"\rx", "\"'\rx\""},
        {"\n=", "\"'\n=\""},
        {"'=x", "''=x"},
        {"''-", "'''-"},
        {"'quoted'", "'quoted'"},
        {"a=b", "a=b"},
        {"a,b", "\"a,b\""},
        {"a\"b", "\"a\"\"b\""},
        {"", ""},
        {"'", "'"},
        {"=\"x\",1", "\"'=\"\"x\"\",1\""},
        {"\xff", "\\xff"},
    };
    struct arena a = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(mcs_csv_field(&a, cases[i][0]), cases[i][1], "%s",
                         mcs_text_shown(mcs_csv_field(&a, cases[i][0])));
    mcs_arena_free(&a);
}

/* Captions and image names that mcsam wrote are read back unchanged. */
Test(names, cells_read_back)
{
    static const char *const names[] = {"=1+2.png", "-x.png",   "@a.png",     "'=q.png",
                                        "\xff.png", "a\nb.png", "a\"b,c.png", "plain.png"};
    static const char *const captions[] = {"=HYPERLINK(\"x\")", "-no effusion", "+pneumonia", "'-x",
                                           "'quoted' text",     "@home",        "a\nb",       "b, c"};
    enum { N = sizeof names / sizeof *names };
    struct arena a = {0};
    FILE *f = fopen(at("%s", "pairs.csv"), "w");
    fprintf(f, "filename,Caption\n");
    for (int i = 0; i < N; i++) {
        OK(mcs_file_write(at("%s", names[i]), "x", 1));
        fprintf(f, "%s,%s\n", mcs_csv_field(&a, names[i]), mcs_csv_field(&a, captions[i]));
    }
    fclose(f);
    mcs_arena_free(&a);
    struct pairs p;
    OK(mcs_pairs_read(at("%s", "pairs.csv"), NULL, &p));
    cr_assert_eq(p.n, N);
    for (int i = 0; i < N; i++) {
        cr_expect_str_eq(p.v[i].image, at("%s", names[i]));
        cr_expect_str_eq(p.v[i].caption, captions[i]);
    }
    mcs_pairs_free(&p);
}

/* ---- JSON and YAML ---- */

Test(names, prompts_and_boxes_read_back)
{
    struct prompts p = {0}, q;
    const char *const text = "a lesion";
    OK(mcs_prompts_add(&p, "a\xff.png", &text, 1));
    OK(mcs_prompts_add(&p, "a\\xff.png", &text, 1));
    OK(mcs_prompts_add(&p, ODD, &text, 1));
    OK(mcs_prompts_write(at("%s", "p.json"), &p));
    OK(mcs_prompts_read(at("%s", "p.json"), &q));
    cr_assert_eq(q.n, 3);
    for (int i = 0; i < 3; i++) cr_expect_str_eq(q.v[i].name, p.v[i].name);
    cr_expect_eq(mcs_prompts_find(&q, "x/a\xff.png"), &q.v[0]);
    mcs_prompts_free(&p);
    mcs_prompts_free(&q);

    struct box_case c[] = {{.image = "b\xfe.png", .width = 3, .height = 2}, {.image = ODD, .width = 3, .height = 2}};
    struct box_list l = {.n = 2, .cases = c}, m;
    OK(mcs_boxes_write(at("%s", "b.json"), &l));
    OK(mcs_boxes_read(at("%s", "b.json"), &m));
    cr_assert_eq(m.n, 2);
    for (int i = 0; i < 2; i++) cr_expect_str_eq(m.cases[i].image, c[i].image);
    cr_expect(mcs_boxes_find(&m, "b\xfe"));
    mcs_boxes_free(&m);
}

struct fields {
    struct mcs_common common;
    const char *input;
    struct mcs_strings inputs;
};

Test(names, config_reads_back)
{
    static const struct mcs_option options[] = {
        {"input", 0, MCS_FIELD(fields, input), .help = ""}, {"inputs", 0, MCS_FIELD(fields, inputs), .help = ""}, {0}};
    static const struct mcs_verb verb = {
        .name = "v", .options = options, .options_bytes = sizeof(struct fields), .args = "X", .max_args = 9};
    struct arena a = {0};
    struct fields one, two;
    char *argv[] = {
        "--input",
        "in\xff\\" ODD "\xe2\x80\xa8\xe2\x80\xa9\xef\xbb\xbf\xef\xbf\xbe\xef\xbf\xbf\xc2\x85\xf0\x9f\x99\x82",
        "--inputs",
        "\xfe",
        "--inputs",
        "b\\xfe",
        "--",
        "w\xff"};
    OK(mcs_config_parse_env(&verb, 8, argv, NULL, &a, &one));
    const char *saved = mcs_config_text(&one, &a);
    OK(mcs_file_write(at("%s", "c.yaml"), saved, (int64_t)strlen(saved)));
    char *again[] = {"--config", (char *)at("%s", "c.yaml")};
    OK(mcs_config_parse_env(&verb, 2, again, NULL, &a, &two));
    cr_expect_str_eq(two.input, one.input);
    cr_assert_eq(two.inputs.n, 2);
    cr_expect_str_eq(two.inputs.v[0], "\xfe");
    cr_expect_str_eq(two.inputs.v[1], "b\\xfe");
    cr_assert_eq(two.common.args.n, 1);
    cr_expect_str_eq(two.common.args.v[0], "w\xff");
    mcs_arena_free(&a);
}

static void refused(const char *yaml, size_t n, const char *words)
{
    const char *verb;
    struct arena a = {0};
    struct timespec from, to;
    OK(mcs_file_write(at("%s", "bad.yaml"), yaml, (int64_t)n));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from); /* CPU time of this thread: other load does not count */
    cr_expect_eq(mcs_config_verb(at("%s", "bad.yaml"), &a, &verb), MCS_E_DATA);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    const double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    cr_expect(strstr(mcs_error_message(), words), "want '%s' in: %s", words, mcs_error_message());
    cr_expect_lt(seconds, 2.0, "%s: %.2f s", words,
                 seconds); /* once 40 s, now some ms; the limit allows for sanitizers and slow machines */
    mcs_error_clear();
    mcs_arena_free(&a);
}

/* n times `part` after `head`. */
static void refused_many(const char *head, const char *part, int n, const char *words)
{
    char *text = malloc(strlen(head) + (size_t)n * strlen(part) + 1);
    cr_assert(text);
    char *end = text + sprintf(text, "%s", head);
    for (int i = 0; i < n; i++) end += sprintf(end, "%s", part);
    refused(text, (size_t)(end - text), words);
    free(text);
}

Test(names, yaml_is_bounded)
{
    refused_many("verb: train\nx: ", "[", 400000, "nested more than 16 deep");
    refused_many("verb: train\nx: ", "{a: ", 100000, "nested more than 16 deep");
    refused_many("", "- ", 200000, "nested more than 16 deep");
    refused_many("", "? ", 200000, "nested more than 16 deep");
    refused_many("a: &a [x]\nx: [", "*a, ", 100000, "aliases");
    refused_many("x: [", "&a b, ", 60000, "more than 16384 keys and values");
    refused_many("", "k: v\n", 60000, "more than 16384 keys and values");
    refused_many("", "%TAG !a! b\n", 90000, "more than 8 directives");
    refused_many("", "x", (1 << 20) + 1, "more than 1048576 bytes");
    refused_many("verb: train\n", "---\na: b\n", 2, "more than one YAML document");
    mkfifo(at("%s", "fifo"), 0600);
    expect("timeout 20 " MCS_BINARY " info x --config fifo", 74, "is a named pipe");
}

Test(names, json_is_bounded)
{
    json_t *root;
    const int n = 300000;
    char *text = malloc((size_t)n + 1);
    memset(text, '[', (size_t)n);
    cr_expect_eq(mcs_json_parse("f.json", text, n, 0, &root), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "f.json:1: JSON nested more than 64 deep"), "%s", mcs_error_message());
    mcs_error_clear();
    memcpy(text, "[\"[[[[\\\"[[\", 1]", 16); /* brackets in a text do not count */
    OK(mcs_json_parse("f.json", text, 15, 0, &root));
    json_decref(root);
    /* 3 bytes per value, over a hundred in memory: with 16 MiB allowed they are refused before they are allocated */
    for (int i = 0; i < n; i += 3) memcpy(text + i, "[],", 3);
    text[0] = '[', text[1] = '0', text[n - 1] = ']';
    mcs_memory_limit_set(16 << 20);
    cr_expect_eq(mcs_json_parse("many.json", text, n, 0, &root), MCS_E_DATA);
    mcs_memory_limit_set(0);
    cr_expect(strstr(mcs_error_message(), "many.json: its values of JSON: needs"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_json_parse("many.json", text, n, 0, &root));
    cr_expect_eq(json_array_size(root), 100000);
    json_decref(root);
    free(text);
}

/* ---- whole verbs ---- */

static void fill_folder(void)
{
    mkdir(at("%s", "in"), 0777);
    put_image("in/%s.png", "plain");
    put_image("in/%s.png", ODD);
    put_image("in/%s.png", "=cmd");
    put_image("in/%s.png", "\xc3");
}

static int n_files(const char *name, const char *ending)
{
    struct file_list l;
    OK(mcs_folder_list(at("%s", name), ending, &l));
    const int n = l.n;
    mcs_file_list_free(&l);
    return n;
}

/* 255 bytes: STEM.h5; its mask STEM.png would have one more. */
static const char *long_h5(void)
{
    static char name[256];
    memset(name, 'n', 252);
    memcpy(name + 252, ".h5", 4);
    return name;
}

Test(names, coarse_and_sam)
{
    json_t *root;
    fill_folder();
    /* not an HDF5 file, but the name is checked first */
    OK(mcs_file_write(at("in/%s", long_h5()), "x", 1));
    expect("mcsam coarse -i in -o out", 3, "1 of 5 cases failed");
    cr_expect_eq(n_files("out", ".png"), 4);
    cr_expect(strstr(text_of("out/failures.csv"), "the name is too long"), "%s", text_of("out/failures.csv"));
    OK(mcs_json_read(at("%s", "out/boxes.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 4);
    json_decref(root);
    cr_expect_not(has_raw_control(shell_output), "%s", shell_output);
}

Test(names, evaluate)
{
    fill_folder();
    expect("cp -r in ref && rm -- ref/=cmd.png && mcsam evaluate -i in -r ref -o out", 3, "");
    const char *csv = text_of("out/cases.csv");
    cr_expect(strstr(csv, "\n\"'-o\x1b[31m\n\"\",\x7f\xc2\x9b\\xff\\xfeé\","), "%s", csv);
    cr_expect(strstr(csv, "\n\\xc3,"), "%s", csv);
    cr_expect(strstr(text_of("out/failures.csv"), "\n'=cmd,"), "%s", text_of("out/failures.csv"));
    json_t *root;
    OK(mcs_json_read(at("%s", "out/summary.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "metric_per_case")), 3);
    cr_expect_eq(json_array_size(json_object_get(root, "failures")), 1);
    const json_t *last = json_array_get(json_object_get(root, "metric_per_case"), 2);
    cr_expect(strstr(json_string_value(json_object_get(last, "prediction_file")), "\\xc3.png"));
    json_decref(root);
}

/* The longest name of an image that the file system allows. */
static const char *long_png(void)
{
    static char name[256];
    memset(name, 'n', 251);
    memcpy(name + 251, ".png", 5);
    return name;
}

static void make_models(void)
{
    struct device d;
    struct sam_model m;
    const struct sam_config config = tiny_sam_config();
    OK(mcs_folder_make(at("%s", "clip")));
    tiny_clip_model(at("%s", "clip"));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_sam_model_new(&config, 2, &d, &m));
    OK(mcs_sam_model_save(&m, at("%s", "sam"), 0, NULL));
    mcs_sam_model_close(&m);
    mcs_cpu_close(&d);
}

/* Saliency, coarse masks and SAM, one after the other and combined: every image has its mask, under its name. */
Test(names, from_text_to_mask)
{
    json_t *root;
    make_models();
    fill_folder();
    put_image("in/%.251s.png", long_png());
    expect("mcsam saliency -m clip -i in --text lesion --steps 2 -o sal && mcsam coarse -i sal -o coa --min-confidence "
           "0 && "
           "mcsam sam -m sam -i in --prompts-from coa/boxes.json -o msk",
           0, "5 masks");
    cr_expect_eq(n_files("coa", ".png"), 5);
    cr_expect_eq(n_files("msk", ".png"), 5);
    OK(mcs_json_read(at("%s", "msk/sam.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 5);
    json_decref(root);
    expect("mcsam segment --clip clip --sam sam -i in --text lesion --steps 2 --min-confidence 0 --keep-stages -o seg",
           0, "5 cases");
    OK(mcs_json_read(at("%s", "seg/summary.json"), 1 << 20, 0, &root));
    cr_expect_eq(json_array_size(json_object_get(root, "cases")), 5);
    for (size_t i = 0; i < 5; i++) {
        struct arena a = {0};
        const json_t *one = json_array_get(json_object_get(root, "cases"), i);
        const char *image = mcs_json_name(&a, json_string_value(json_object_get(one, "image")));
        const char *mask = mcs_json_name(&a, json_string_value(json_object_get(one, "mask")));
        cr_assert(image && mask && json_is_string(json_object_get(one, "text")));
        cr_expect(mcs_file_exists(at("in/%s", image)) && mcs_file_exists(at("seg/%s", mask)));
        mcs_arena_free(&a);
    }
    json_decref(root);
    expect("mcsam embed -m clip --images in -o e.h5", 0, "5 images");
    cr_expect_not(has_raw_control(shell_output), "%s", shell_output);
}

/* A volume NAME.nii of 255 bytes, whose mask NAME.nii.gz would have 258: that case fails, the others are processed. */
Test(names, a_volume_with_a_long_name)
{
    make_models();
    fill_folder();
    expect("cp " MCS_SOURCE_DIR
           "/tests/cli/test_names.c in/$(printf '%0251d' 0).nii; mcsam segment --clip clip --sam sam -i in "
           "--text lesion --steps 2 --min-confidence 0 -o seg",
           3, "1 of 5 cases failed");
    cr_expect_eq(n_files("seg", ".png"), 4);
    cr_expect(strstr(text_of("seg/failures.csv"), "258 bytes with \"\".nii.gz\"\", 255 are allowed"), "%s",
              text_of("seg/failures.csv"));
}

/* With --uncertainty a case also has files STEM_entropy.png, whose name is too long for one case. */
Test(names, predict)
{
    tiny_masks(at("%s", "data"), 4);
    fill_folder();
    put_image("in/%.251s.png", long_png());
    expect(
        "mcsam train -i data/images -l data/labels -o run --patch 16x16 --stages 2 --features 4 --batch 2 --epochs 2 "
        "--iterations 1 --cycles 2 --checkpoints 1 --quiet && mcsam predict -m run -i in -o out",
        0, "5 cases");
    cr_expect_eq(n_files("out", ".png"), 5);
    expect("mcsam predict -m run -i in -o two --uncertainty", 3, "1 of 5 cases failed");
    cr_expect_eq(n_files("two", ".png"), 4);
    cr_expect_eq(n_files("two/uncertainty", ".png"), 4);
    cr_expect(strstr(text_of("two/failures.csv"), "the name is too long"), "%s", text_of("two/failures.csv"));
    cr_expect(strstr(text_of("two/uncertainty/uncertainty.csv"), "\n'=cmd,"), "%s",
              text_of("two/uncertainty/uncertainty.csv"));
}

Test(names, what_a_file_system_takes)
{
    static char deep[4000];
    OK(mcs_case_name_check(folder, long_png(), ""));
    cr_expect_eq(mcs_case_name_check(folder, long_png(), "x"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "256 bytes with \"x\", 255 are allowed"), "%s", mcs_error_message());
    mcs_error_clear();
    memset(deep, '/', sizeof deep - 1);
    OK(mcs_case_name_check(deep, long_png() + 255 - 91, ".png")); /* 3999 + 1 + 91 + 4 = 4095 */
    cr_expect_eq(mcs_case_name_check(deep, long_png() + 255 - 92, ".png"), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "4096 bytes, 4095 are allowed"), "%s", mcs_error_message());
    mcs_error_clear();
}

/* ---- limits of the process ---- */

/* A limit on the size of files never fails silently: exit code 74, the reason, the old file unchanged. */
Test(names, limit_on_file_size)
{
    fill_folder();
    expect("cp -r in ref && mcsam evaluate -i in -r ref -o out && cp out/summary.json old", 0, "");
    /* ./run coverage: counts cut short must not be merged with the others */
    expect("export GCOV_PREFIX=$PWD; ulimit -f 1; mcsam evaluate -i in -r ref -o out", 74,
           "files may have 512 bytes here (ulimit -f)");
    expect("cmp out/summary.json old && ls -a out | grep -c mcsam", 1, "0");
}

#ifndef MCS_SANITIZE /* its shadow memory takes terabytes of address space */
Test(names, limit_on_memory)
{
    make_models();
    fill_folder();
    const char *line = MCS_BINARY " saliency -m clip -i in --text lesion --steps 2 -o sal";
    static char with[1024];
    snprintf(with, sizeof with, "ulimit -v 130000; %s --threads 1", line);
    expect(with, 1, "are needed to start; raise it");
    snprintf(with, sizeof with, "ulimit -v 190000; %s --threads 16", line);
    expect(with, 1, "or use --threads ");
    snprintf(with, sizeof with, "ulimit -v 190000; %s --threads 2", line);
    expect(with, 0, "4 maps");
    snprintf(with, sizeof with, "ulimit -d 20000; %s --threads 1", line);
    expect(with, 1, "ulimit -d");
}
#endif
