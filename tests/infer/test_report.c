/* The report's page: all sections exist, all text is escaped, nothing is loaded from elsewhere, missing parts are left
 * out. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "infer/report/chart.h"
#include "infer/report/html.h"
#include "infer/report/report.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[40];

static void setup(void)
{
    char line[256];
    snprintf(folder, sizeof folder, "/tmp/mcs_report_%ld", (long)getpid());
    snprintf(line, sizeof line, "rm -rf %s && mkdir -p %s/finetune %s/network %s/cases", folder, folder, folder,
             folder);
    cr_assert_eq(system(line), 0);
}

static void teardown(void)
{
    char line[128];
    snprintf(line, sizeof line, "chmod -R u+w %s; rm -rf %s", folder, folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(report, .init = setup, .fini = teardown);

static const char *at(const char *name)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static void put(const char *name, const char *text)
{
    cr_assert_eq(mcs_file_write(at(name), text, (int64_t)strlen(text)), MCS_OK, "%s", mcs_error_message());
}

/* A picture with a bright rectangle. */
static void put_picture(const char *name, int w, int h, int x0, int y0, int x1, int y1)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, w, h, 1), MCS_OK);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) img.pixels[y * w + x] = 255;
    cr_assert_eq(mcs_image_write_png(at(name), &img), MCS_OK);
    mcs_image_free(&img);
}

static const char summary[] =
    "{\"stages\": [{\"stage\": \"saliency, starting weights\", \"dsc\": 0.44, \"nsd\": 0.3, \"iou\": 0.31, "
    "\"dsc_interval\": [0.40, 0.48]}, {\"stage\": \"+ components\", \"dsc\": 0.437, \"nsd\": 0.3, \"iou\": 0.3}, "
    "{\"stage\": \"+ SAM\", \"dsc\": 0.661, \"nsd\": 0.4, \"iou\": 0.5}, {\"stage\": \"+ network ensemble\", \"dsc\": "
    "0.764, \"nsd\": 0.5, \"iou\": null}], \"baselines\": [{\"name\": \"centre <blob>\", \"dsc\": 0.05, \"what\": \"a "
    "disc\"}, {\"name\": \"ceiling\", \"dsc\": 0.87, \"what\": \"true masks\"}], \"retrieval\": {\"before\": "
    "{\"i2t_r1\": "
    "0.18, \"i2t_r1_interval\": [0.14, 0.22]}, \"after\": {\"i2t_r1\": 0.37, \"i2t_r1_interval\": [0.31, 0.43]}}, "
    "\"control\": {\"prompt_dsc\": 0.46, \"other_dsc\": 0.21, \"presence_auroc\": 0.86, \"odd_one\": 0.125}, "
    "\"uncertainty\": {\"right\": 0.05, \"wrong\": 0.39, \"error_auroc\": 0.91, \"rank_correlation\": -0.53}, "
    "\"ensemble\": [{\"name\": \"last checkpoint\", \"dsc\": 0.765, \"error_auroc\": 0.93}], \"by_type\": [{\"name\": "
    "\"small\", \"n\": 50, \"zero_shot\": 0.571, \"network\": 0.673}], \"difficulty\": {\"lesion.small-low\": 5, "
    "\"lesion\": {\"ellipse\": 0.12}}, \"seconds\": 512, \"seconds_by_stage\": {\"finetune\": 152}, "
    "\"peak_memory_bytes\": 1073741824, \"form\": \"paper\", \"seed\": 7, \"weights\": {\"clip_sha256\": \"a3b4c5\"}, "
    "\"healthy\": {\"images\": 5, \"false_mask_share\": 0.2, \"lesions_found\": 0.9}, \"split\": \"validation\", "
    "\"test_images\": 80, \"pseudo_labels\": {\"images\": 500, \"dsc\": 0.716}, "
    "\"version\": \"0.1.0\", \"notes\": [\"a note with <script>alert(1)</script>\"]}";

static void put_whole_run(void)
{
    put("summary.json", summary);
    put("cases.json",
        "[{\"stem\": \"good\", \"caption\": \"a dark mass\", \"prompt\": \"a \\\"dark\\\" & <b>large</b> mass\", "
        "\"image\": "
        "\"cases/image.png\", \"saliency\": \"cases/image.png\", \"coarse\": \"cases/mask.png\", \"sam\": "
        "\"cases/mask.png\", \"network\": \"cases/mask.png\", \"truth\": \"cases/truth.png\", \"entropy\": "
        "\"cases/image.png\", \"dsc\": {\"network\": 0.91, \"sam\": 0.8}, \"uncertainty_score\": 3.5, \"presence\": "
        "0.1},"
        "{\"stem\": \"bad\", \"image\": \"cases/image.png\", \"network\": \"cases/mask.png\", \"dsc\": {\"network\": "
        "0.12}}]");
    put_picture("cases/image.png", 8, 8, 2, 2, 5, 5);
    put_picture("cases/mask.png", 8, 8, 2, 2, 4, 4);
    put_picture("cases/truth.png", 8, 8, 3, 2, 5, 4);
    put("finetune/metrics.jsonl", "{\"step\": 0, \"loss\": 3.5, \"recall_i2t\": 0.2, \"recall_t2i\": 0.3}\n"
                                  "{\"step\": 1, \"loss\": null}\n{\"step\": 2, \"loss\": 2.5, \"temperature\": 0.08}\n"
                                  "{\"step\": 3, \"lo");
    put("network/metrics.jsonl", "{\"step\": 0, \"loss\": 1.5, \"lr\": 0.003}\n{\"step\": 1, \"loss\": 1.25, \"lr\": "
                                 "0.001}\n");
    put("timeline.json", "{\"plans\": [{\"name\": \"U-Net & co\", \"planned_bytes\": 4194304, \"measured_peak_bytes\": "
                         "3145728, \"step_names\": [\"a\", \"b<c\", \"d\"], \"live_bytes\": [1048576, 4194304, 0]}]}");
    put("config.yaml", "verb: demo\nseed: 7 # <yaml>\n");
}

static char *render(void)
{
    char *html;
    int64_t n;
    cr_assert_eq(mcs_report_render(folder, &html, &n), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(n, (int64_t)strlen(html));
    return html;
}

static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)); p++) n++;
    return n;
}

static const char *const section_ids[] = {"glance",  "cases",       "data", "finetune", "mask", "healthy",
                                          "network", "uncertainty", "cost", "glossary", "made"};

Test(report, holds_every_section)
{
    put_whole_run();
    char *html = render();
    char id[64];
    for (size_t i = 0; i < sizeof section_ids / sizeof *section_ids; i++) {
        snprintf(id, sizeof id, "<section id=\"%s\">", section_ids[i]);
        cr_expect_eq(count(html, id), 1, "section %s", section_ids[i]);
    }
    cr_expect_eq(count(html, "<section"), count(html, "</section>"));
    cr_expect_eq(count(html, "<svg"), count(html, "</svg>"));
    cr_expect_eq(count(html, "<figure"), count(html, "</figure>"));
    cr_expect_eq(count(html, "<table"), count(html, "</table>"));
    cr_expect_eq(count(html, "class=\"missing\""), 0, "nothing is missing in this run");
    const char *const parts[] = {"one subject's brain, with made lesions", /* the caution */
                                 "0.440 <span class=\"soft\">(0.400 to 0.480)",
                                 "<td class=\"n worse\">-0.003</td>", /* a stage that does not improve */
                                 "1 stage does</span> not improve",
                                 "18 % &rarr; 37 %",
                                 "DSC on the lesion that the prompt names",
                                 "odd_one</td><td class=\"n\">0.125", /* a key that is not known is shown */
                                 "rank correlation of a case",
                                 "last checkpoint</td>",
                                 "<td>small</td><td class=\"n\">50</td>",
                                 "lesion.ellipse</td><td class=\"n\">0.12</td>",
                                 "Loss</figcaption>",
                                 "image to text</span>",
                                 "Learning rate",
                                 "planned: 4.0 MiB",
                                 "measured peak: 3.0 MiB",
                                 "step 2 of 3 (b&lt;c): 4.0 MiB",
                                 "1024 MiB of memory",
                                 "mcsam demo --config config.yaml",
                                 "a3b4c5",
                                 "score 3.5",
                                 "measured on 80 images",
                                 "500 training images were labelled",
                                 "slices named validation"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) cr_expect(strstr(html, parts[i]), "no '%s'", parts[i]);
    free(html);
}

Test(report, escapes_everything_and_asks_for_nothing)
{
    put_whole_run();
    char *html = render();
    cr_expect(!strstr(html, "http"), "an address outside the page");
    cr_expect(!strstr(html, "<script") && !strstr(html, "url(") && !strstr(html, "@import"));
    cr_expect(!strstr(html, "<b>large</b>") && !strstr(html, "<blob>") && !strstr(html, "<yaml>"));
    cr_expect(strstr(html, "a &quot;dark&quot; &amp; &lt;b&gt;large&lt;/b&gt; mass"));
    cr_expect(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    cr_expect(strstr(html, "centre &lt;blob&gt;") && strstr(html, "U-Net &amp; co") && strstr(html, "# &lt;yaml&gt;"));
    for (const char *p = html; (p = strstr(p, "href=\"")); p++) /* only anchors and data URIs */
        cr_expect(p[6] == '#' || !strncmp(p + 6, "data:image/png;base64,", 22), "%.40s", p);
    free(html);
}

Test(report, cases_worst_first_with_outlines)
{
    put_whole_run();
    char *html = render();
    const char *bad = strstr(html, "<h3>bad</h3>"), *good = strstr(html, "<h3>good</h3>");
    cr_assert(bad && good);
    cr_expect(bad < good, "the worst case comes first");
    /* mask.png: pixels 2..4, so a square with corners at 2 and 5 */
    cr_expect(strstr(good, "<path class=\"m\" d=\"M2 2h3v3h-3v-3Z\"/>"), "the mask's border");
    cr_expect(strstr(good, "<path class=\"t\" d=\"M3 2h3v3h-3v-3Z\"/>"), "the truth's outline");
    cr_expect(strstr(bad, "not in this run") < good, "a picture that is missing says so");
    free(html);
}

Test(report, borders_with_holes_and_corners)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, 6, 5, 1), MCS_OK);
    for (int y = 1; y <= 3; y++)
        for (int x = 1; x <= 3; x++) img.pixels[y * 6 + x] = 255;
    img.pixels[2 * 6 + 2] = 0;   /* a hole */
    img.pixels[4 * 6 + 4] = 255; /* touches by a corner: one part with the ring */
    cr_assert_eq(mcs_image_write_png(at("cases/mask.png"), &img), MCS_OK);
    mcs_image_free(&img);
    put("cases.json", "[{\"stem\": \"x\", \"image\": \"cases/mask.png\", \"sam\": \"cases/mask.png\"}]");
    char *html = render();
    cr_expect(strstr(html, "d=\"M1 1h3v3h1v1h-1v-1h-3v-3ZM2 3h1v-1h-1v1Z\""), "%s", strstr(html, "path class=\"m\""));
    free(html);
}

Test(report, a_dozen_of_many_cases)
{
    char *text = malloc(100000);
    size_t used = (size_t)sprintf(text, "[{\"stem\": \"none\", \"dsc\": {}}");
    for (int i = 0; i < 30; i++)
        used += (size_t)sprintf(text + used, ",{\"stem\": \"case%02d\", \"dsc\": {\"network\": %g}}", i,
                                (i * 7 % 30) / 30.0);
    sprintf(text + used, "]");
    put("cases.json", text);
    free(text);
    char *html = render();
    cr_expect_eq(count(html, "class=\"case\""), 12);
    cr_expect(strstr(html, "12 of 31 cases, chosen by the DSC"));
    cr_expect(strstr(html, "The 6 worst") && strstr(html, "3 from the middle") && strstr(html, "The 3 best"));
    cr_expect(!strstr(html, "<h3>none</h3>"), "a case without a DSC is not among the worst");
    /* i * 7 mod 30: 0 -> case00 the worst; 5 -> case05 ... sixth; 29 -> case17 the best */
    cr_expect(strstr(html, "<h3>case00</h3>") && strstr(html, "<h3>case17</h3>"));
    free(html);
}

Test(report, same_files_same_bytes)
{
    put_whole_run();
    char *a = render(), *b = render();
    cr_expect_str_eq(a, b);
    free(a);
    free(b);
}

Test(report, missing_parts_are_left_out)
{
    put("network/metrics.jsonl", "{\"step\": 0, \"loss\": 1.5}\n{\"step\": 1, \"loss\": 1.25}\n");
    char *html = render();
    for (size_t i = 0; i < sizeof section_ids / sizeof *section_ids; i++) {
        char id[64];
        snprintf(id, sizeof id, "<section id=\"%s\">", section_ids[i]);
        cr_expect(strstr(html, id), "section %s", section_ids[i]);
    }
    cr_expect(strstr(html, "cases.json is missing"));
    cr_expect(strstr(html, "there is no finetune/metrics.jsonl"));
    cr_expect(strstr(html, "Not a medical device"));
    cr_expect(!strstr(html, "made lesions</h2>") && !strstr(html, "Slices of one MRI"),
              "the demo's caution is the demo's alone");
    cr_expect(strstr(html, "Loss</figcaption>"));
    free(html);
}

/* Values of another type than expected, and pictures that are damaged, of another size or outside of the folder. */
Test(report, odd_contents_are_tolerated)
{
    put("summary.json",
        "{\"stages\": [1, null, {\"stage\": 3, \"dsc\": \"x\", \"dsc_interval\": [1]}, {}], \"baselines\": {\"a\": 1}, "
        "\"retrieval\": [], \"control\": 5, \"uncertainty\": {\"right\": \"no\"}, \"ensemble\": [[]], \"by_type\": "
        "[{}], "
        "\"difficulty\": {\"a\": {\"b\": {\"c\": 1}}, \"d\": null}, \"seconds\": \"long\", \"seconds_by_stage\": "
        "{\"x\": "
        "1e308, \"y\": -1}, \"weights\": {\"a\": 1}, \"notes\": [1, \"\\u202eturned\"], \"version\": 2}");
    put("cases.json",
        "[1, {}, {\"stem\": \"s\", \"image\": \"cases/image.png\", \"saliency\": \"/etc/passwd\", "
        "\"coarse\": \"cases/../../x.png\", \"sam\": \"cases/small.png\", \"network\": \"cases/broken.png\", "
        "\"truth\": 5, \"dsc\": [], \"prompt\": \"\"}]");
    put_picture("cases/image.png", 8, 8, 2, 2, 5, 5);
    put_picture("cases/small.png", 7, 8, 2, 2, 5, 5);
    put("cases/broken.png", "\x89PNG\r\n\x1a\n");
    put("finetune/metrics.jsonl", "[]\n5\n{\"loss\": 1}\n\n{\"step\": \"a\", \"loss\": 2}\nnot json\n");
    put("timeline.json", "{\"plans\": [{\"live_bytes\": [null, \"a\", 3]}, {}, 5]}");
    char *html = render();
    cr_expect(strstr(html, "7 x 8, but the image is 8 x 8"));
    cr_expect(strstr(html, "not readable: cases/broken.png"));
    cr_expect_eq(count(html, "the path leads out of the run folder"), 2);
    cr_expect(strstr(html, "finetune/metrics.jsonl holds no values"));
    cr_expect(!strstr(html, "\xE2\x80\xAE"), "a bidirectional override");
    cr_expect(!strstr(html, "nan") && !strstr(html, "inf\"") && !strstr(html, "(null)"));
    free(html);

    put("cases.json", "[{\"stem\": ");
    put("timeline.json", "{}");
    html = render(); /* warns, goes on */
    cr_expect(strstr(html, "cases.json is missing, empty or not readable"));
    free(html);
}

Test(report, errors_are_one_clear_line)
{
    char *html;
    int64_t n;
    cr_expect_eq(mcs_report_render(at("nowhere"), &html, &n), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "nowhere: no such folder"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_report_render(folder, &html, &n), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "nothing to report"), "%s", mcs_error_message());
    mcs_error_clear();
    put("summary.json", "{\"stages\": [\n{\"stage\": ");
    cr_expect_eq(mcs_report_write(folder, at("report.html")), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "summary.json:2: not JSON"), "%s", mcs_error_message());
    cr_expect(!mcs_file_exists(at("report.html")), "nothing is written");
    mcs_error_clear();
    put("summary.json", "[1]");
    cr_expect_eq(mcs_report_render(folder, &html, &n), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "want a JSON object"), "%s", mcs_error_message());
    cr_expect_null(html);
    mcs_error_clear();
    put("summary.json", "{}");
    cr_expect_eq(mcs_report_write(folder, at("no/such/place.html")), MCS_E_IO);
    mcs_error_clear();
    cr_expect_eq(mcs_report_write(folder, at("report.html")), MCS_OK);
    cr_expect(mcs_file_exists(at("report.html")));
}

Test(report, text_is_escaped_byte_by_byte)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    mcs_html_text(f, "<a href='x'>&\"\n\x01\x7f\xc3\xa9\xe4\xb8\xad\xff\xc0\xaf\xe2\x80\xae\xed\xa0\x80\xe4\xb8");
    fclose(f);
#define U "\xEF\xBF\xBD"
    cr_expect_str_eq(text, "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\n" U U "\xc3\xa9\xe4\xb8\xad" U U U U U U U U U);
#undef U
    free(text);
}

Test(report, images_as_base64)
{
    struct image img;
    char *text, *bytes;
    int64_t n_bytes;
    size_t n;
    put_picture("cases/image.png", 5, 4, 1, 1, 3, 2);
    cr_assert_eq(mcs_image_read(at("cases/image.png"), 1, &img), MCS_OK);
    FILE *f = open_memstream(&text, &n);
    cr_assert_eq(mcs_html_png(f, &img), MCS_OK);
    fclose(f);
    mcs_image_free(&img);
    cr_assert_eq(strncmp(text, "data:image/png;base64,iVBORw0KGgo", 33), 0);
    /* base64 -d gives the file */
    put("encoded", text + 22);
    char line[1024];
    snprintf(line, sizeof line, "base64 -d %s/encoded | cmp - %s/cases/image.png", folder, folder);
    cr_expect_eq(system(line), 0);
    cr_assert_eq(mcs_file_read(at("encoded"), 100000, &bytes, &n_bytes), MCS_OK);
    cr_expect_eq(n_bytes % 4, 0);
    free(bytes);
    free(text);
}

static char *line_chart(const double *x, const double *y, int n)
{
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    const struct chart_frame frame = {.title = "t", .x_label = "x", .y_label = "y"};
    const struct chart_series s = {.name = NULL, .x = x, .y = y, .n = n};
    mcs_chart_lines(f, &frame, &s, 1);
    fclose(f);
    return text;
}

Test(report, charts_of_odd_values)
{
    const double steps[] = {0, 1, 2, 3}, same[] = {2, 2, 2, 2}, holes[] = {NAN, 1, INFINITY, 3},
                 none[] = {NAN, NAN, NAN, NAN};
    const double huge[] = {-1e99, 1e99, 1e308, 0}, tiny[] = {1e-9, 2e-9, 3e-9, 0};
    const double *const all[] = {same, holes, huge, tiny};
    for (int i = 0; i < 4; i++) {
        char *text = line_chart(steps, all[i], 4);
        cr_expect(strstr(text, "<path class=\"l c0\" d=\"M") && !strstr(text, "nan") && !strstr(text, "inf"), "%d: %s",
                  i, text);
        cr_expect_leq(count(text, "class=\"g\""), 20, "%d", i);
        cr_expect_geq(count(text, "class=\"g\""), 2, "%d", i);
        free(text);
    }
    char *text = line_chart(steps, none, 4);
    cr_expect(strstr(text, "Nothing to draw") && !strstr(text, "<svg"));
    free(text);
    text = line_chart(NULL, NULL, 0);
    cr_expect(strstr(text, "Nothing to draw"));
    free(text);
}
