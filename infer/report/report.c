#include "infer/report/report.h"

#include "data/io/file.h"
#include "data/io/json.h"
#include "data/run/run_folder.h"
#include "engine/base/arena.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "infer/report/html.h"
#include "infer/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 1 << 28, MAX_CONFIG_BYTES = 1 << 20 };

/* The files of a run folder; NULL if missing or unreadable. */
struct run_files {
    const char *folder;
    json_t *summary, *cases, *timeline;
    char *config;
};

/* ---- reading ---- */

/* Reads a JSON file of the run; *json is NULL if the file does not exist. E_DATA, E_IO. */
static enum mcs_status read_json(const char *folder, const char *name, int want_array, json_t **json)
{
    char path[MCS_PATH_BYTES];
    json_t *root;
    *json = NULL;
    MCS_TRY(mcs_path(path, "%s/%s", folder, name));
    if (!mcs_file_exists(path)) return MCS_OK;
    MCS_TRY(mcs_json_read(path, MAX_JSON_BYTES, 0, &root));
    if (want_array ? !json_is_array(root) : !json_is_object(root)) {
        json_decref(root);
        return MCS_FAIL(MCS_E_DATA, "%s: want a JSON %s", path, want_array ? "array" : "object");
    }
    *json = root;
    return MCS_OK;
}

/* The same for files other than the summary: if one is unreadable, the page is made without it. */
static void read_optional(const char *folder, const char *name, int want_array, json_t **json)
{
    if (read_json(folder, name, want_array, json) == MCS_OK) return;
    mcs_warn("%s; the report is made without it", mcs_error_message());
    mcs_error_clear();
}

static int has_file(const char *folder, const char *name)
{
    char path[MCS_PATH_BYTES];
    return mcs_path_fits(path, "%s/%s", folder, name) && mcs_file_exists(path);
}

static void read_config(struct run_files *r)
{
    char path[MCS_PATH_BYTES];
    int64_t n_bytes;
    if (!has_file(r->folder, "config.yaml")) return;
    if (mcs_path(path, "%s/config.yaml", r->folder) == MCS_OK &&
        mcs_file_read(path, MAX_CONFIG_BYTES, &r->config, &n_bytes) == MCS_OK)
        return;
    mcs_warn("%s; the report is made without it", mcs_error_message());
    mcs_error_clear();
    r->config = NULL;
}

static enum mcs_status read_run(const char *folder, struct run_files *r)
{
    static const char *const names[] = {"summary.json",          "cases.json",    "finetune/metrics.jsonl",
                                        "network/metrics.jsonl", "metrics.jsonl", "timeline.json"};
    int any = 0;
    *r = (struct run_files){.folder = folder};
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such folder; want the folder of a run", folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) any |= has_file(folder, names[i]);
    MCS_REQUIRE(any, MCS_E_NOINPUT,
                "%s: nothing to report: none of summary.json, cases.json, timeline.json, metrics.jsonl is there",
                folder);
    MCS_TRY(read_json(folder, "summary.json", 0, &r->summary));
    read_optional(folder, "cases.json", 1, &r->cases);
    read_optional(folder, "timeline.json", 0, &r->timeline);
    read_config(r);
    return MCS_OK;
}

static void free_run(struct run_files *r)
{
    json_decref(r->summary);
    json_decref(r->cases);
    json_decref(r->timeline);
    free(r->config);
}

/* ---- the page ---- */

/* Only the demo's summary has "stages"; the page's statements about its data do not hold for other runs. */
static int is_demo(const struct run_files *r)
{
    return json_object_get(r->summary, "stages") != NULL;
}

static void write_caution(FILE *out, const struct run_files *r)
{
    if (!is_demo(r)) {
        fputs("<div class=\"box\"><h2>For research only</h2><p>Not a medical device.</p></div>\n", out);
        return;
    }
    fputs(
        "<div class=\"box\"><h2>Read this first: one subject's brain, with made lesions</h2>\n"
        "<p>Every image here is a slice of one and the same healthy brain (a T1-weighted MRI), bent and shaded a "
        "little differently each time. The lesions are painted in by a program; they are no patients' lesions. Slices "
        "are axial, the front on top, the subject's left on the left.</p>\n"
        "<p><b>What the figures mean:</b> the parts of the pipeline work together on a real MRI, and each stage can "
        "be compared with the one before it, on slices that no training has seen. The lesions' true masks were used "
        "to measure, on other slices to choose settings and to tune the rules, and to train the network on true masks "
        "where there is one.</p>\n"
        "<p><b>What they do not mean:</b> they say nothing about patients, other scanners or real lesions, and they "
        "cannot be compared with published figures. All slices share one anatomy, which makes the task easier than "
        "it would be on new people. For research only; not a medical device.</p>\n",
        out);
    const char *start = mcs_report_string(r->summary, "start");
    if (start)
        fprintf(
            out,
            "<p><b>What the models had seen before:</b> SAM was trained on masks of made objects in slices of the "
            "same brain that are not measured. %s</p>\n",
            !strcmp(start, "masks")
                ? "CLIP was trained on such masks too, of objects with the lesions' own grey values, sizes, borders "
                  "and rims: no CLIP from elsewhere has that."
                : "CLIP was trained on pairs of image and caption alone.");
    const char *split = mcs_report_string(r->summary, "split");
    if (split && strcmp(split, "test") != 0)
        mcs_html_wrap(out, "<p><b>Not the test slices:</b> the figures of this run come from the slices named ", split,
                      ", on which settings are chosen.</p>\n");
    fputs("</div>\n", out);
}

/* Begins the next fact of the line below the title. */
static FILE *fact(FILE *out, int *n)
{
    fputs((*n)++ ? " &middot; " : "<p class=\"soft\">", out);
    return out;
}

static void write_head(FILE *out, const struct run_files *r)
{
    const char *version = mcs_report_string(r->summary, "version"), *form = mcs_report_string(r->summary, "form");
    const char *start = mcs_report_string(r->summary, "start");
    const double seed = mcs_report_number(r->summary, "seed"), seconds = mcs_report_number(r->summary, "seconds");
    const double n_images = mcs_report_number(r->summary, "test_images");
    int n = 0;
    fputs("<h1>From a text to a mask: report of a run</h1>\n", out);
    if (version) mcs_html_textf(fact(out, &n), "mcsam %s", version);
    if (form) mcs_html_textf(fact(out, &n), "form %s", form);
    if (start) mcs_html_textf(fact(out, &n), "start: CLIP trained with %s", start);
    if (json_is_true(json_object_get(r->summary, "quick")))
        mcs_html_textf(fact(out, &n), "quick: a fifth of the training");
    if (isfinite(seed)) mcs_html_textf(fact(out, &n), "seed %.0f", seed);
    if (isfinite(seconds)) mcs_html_textf(fact(out, &n), "took %.1f minutes", seconds / 60);
    if (isfinite(n_images)) mcs_html_textf(fact(out, &n), "measured on %.0f images", n_images);
    if (n) fputs("</p>\n", out);
}

/*  id, heading, text below it, call that writes the rest (out and r are those of write_page) */
#define SECTIONS(X)                                                                                                    \
    X(glance, "At a glance", "", mcs_report_glance(out, r->summary))                                                   \
    X(cases, "Pictures, case by case", "", mcs_report_cases(out, r->folder, r->cases))                                 \
    X(data, "1. The images", "", write_data(out, r))                                                                   \
    X(finetune, "2. Fine-tuning on captions",                                                                          \
      "A model that knows images and texts (CLIP) learns from pairs of image and caption which belong "                \
      "together. No mask is used.",                                                                                    \
      write_finetune(out, r))                                                                                          \
    X(mask, "3. From a text to a mask",                                                                                \
      "The model is asked which parts of the image matter for a text (saliency). A threshold makes a coarse "          \
      "mask, its best connected part is boxed, and SAM draws the mask in the box.",                                    \
      write_mask(out, r))                                                                                              \
    X(healthy, "4. Healthy images and unseen lesions", "", write_healthy(out, r))                                      \
    X(network, "5. A network trained on these masks",                                                                  \
      "The masks of the training images, made from text as above, are taken for true (pseudo-labels), and a "          \
      "U-Net is trained on them. It then needs no text.",                                                              \
      write_network(out, r))                                                                                           \
    X(uncertainty, "6. Uncertainty",                                                                                   \
      "Where the network's checkpoints are unsure or disagree, the entropy of their mean is high. A useful "           \
      "map is high where the mask is wrong.",                                                                          \
      mcs_report_uncertainty(out, r->summary))                                                                         \
    X(cost, "7. Time and memory", "", write_cost(out, r))                                                              \
    X(glossary, "Words", "", write_glossary(out))                                                                      \
    X(made, "How this run was made", "", write_made(out, r))

static void write_data(FILE *out, const struct run_files *r)
{
    if (is_demo(r))
        fputs(
            "<p>Slices of one MRI, deformed, shaded and made noisy at random; most get one lesion or more, all may get "
            "vessels and calcifications that are none. A caption says what is there and where. Test slices come from "
            "parts of the brain that training never saw; some hold lesions of forms that it never saw.</p>\n",
            out);
    mcs_report_data(out, r->summary);
}

static void write_mask(FILE *out, const struct run_files *r)
{
    mcs_report_prompts(out, r->summary);
    mcs_report_control(out, r->summary);
}

static void write_healthy(FILE *out, const struct run_files *r)
{
    mcs_report_healthy(out, r->summary);
    mcs_report_unseen(out, r->summary);
}

static void write_finetune(FILE *out, const struct run_files *r)
{
    mcs_report_retrieval(out, r->summary);
    fputs("<h3>Training</h3>\n", out);
    if (!mcs_report_curves(out, r->folder, "finetune/metrics.jsonl") &&
        !mcs_report_curves(out, r->folder, "metrics.jsonl"))
        mcs_report_missing(out, "No curves: there is no finetune/metrics.jsonl.");
}

static void write_network(FILE *out, const struct run_files *r)
{
    mcs_report_network(out, r->summary);
    fputs("<h3>Training</h3>\n", out);
    if (!mcs_report_curves(out, r->folder, "network/metrics.jsonl"))
        mcs_report_missing(out, "No curves: there is no network/metrics.jsonl.");
}

static void write_cost(FILE *out, const struct run_files *r)
{
    mcs_report_cost(out, r->summary);
    mcs_report_memory(out, r->timeline);
}

static void write_glossary(FILE *out)
{
    fputs(
        "<dl>\n"
        "<dt>DSC (Dice)</dt><dd>Overlap of two masks: twice the shared area over the sum of both areas. 0: none, 1: "
        "the same mask.</dd>\n"
        "<dt>IoU</dt><dd>The shared area over the area of both together; never above the DSC.</dd>\n"
        "<dt>NSD</dt><dd>How much of the two outlines lies within 2 pixels of the other one. 1: all of it.</dd>\n"
        "<dt>Saliency</dt><dd>A map of which parts of an image the model needs to match it with a text.</dd>\n"
        "<dt>SAM</dt><dd>A model that draws the mask of whatever is in a given box or at a given point.</dd>\n"
        "<dt>Pseudo-label</dt><dd>A mask made by a model and then used for training as if it were drawn by hand.</dd>\n"
        "<dt>Checkpoint, ensemble</dt><dd>The network as it was at one moment of its training; the mean of what "
        "several of them predict.</dd>\n"
        "<dt>Entropy</dt><dd>Doubt in bits: 0 where the network is certain, 1 where lesion and no lesion are equally "
        "likely.</dd>\n"
        "<dt>Uncertainty score</dt><dd>A case's entropy, summed up and divided by the length of its mask's border: the "
        "higher, the less sure.</dd>\n"
        "<dt>Recall</dt><dd>The share of cases in which the right partner is found.</dd>\n"
        "<dt>AUROC</dt><dd>How well a score separates two groups: 0.5 is guessing, 1 is perfect.</dd>\n"
        "<dt>95 % interval</dt><dd>Of a mean over images: the middle 95 % of the means of images drawn again and again "
        "from the same ones (bootstrap). It says nothing about other training seeds.</dd>\n"
        "<dt>Presence score</dt><dd>How much more an image is like the prompt than like texts that say there is no "
        "lesion.</dd>\n"
        "</dl>\n",
        out);
}

static void write_weights(FILE *out, const json_t *weights)
{
    const char *key;
    json_t *value;
    if (!json_object_size(weights)) return;
    fputs("<p>SHA-256 of the weights:</p>\n<ul>\n", out);
    json_object_foreach((json_t *)weights, key, value)
    {
        if (!json_is_string(value)) continue;
        mcs_html_wrap(out, "<li>", key, " <code>");
        mcs_html_wrap(out, "", json_string_value(value), "</code></li>\n");
    }
    fputs("</ul>\n", out);
}

static void write_made(FILE *out, const struct run_files *r)
{
    struct arena arena = {0};
    const char *command = mcs_report_string(r->summary, "command"),
               *verb = r->config ? mcs_options_verb(r->config, &arena) : NULL;
    if (command || verb) {
        fputs("<p>The command:</p>\n<pre>", out);
        if (command)
            mcs_html_text(out, command);
        else
            mcs_html_textf(out, "mcsam %s --config config.yaml", verb);
        fputs("</pre>\n", out);
    }
    mcs_arena_free(&arena);
    write_weights(out, json_object_get(r->summary, "weights"));
    if (!r->config) {
        mcs_report_missing(out, "No config.yaml in the run folder.");
        return;
    }
    mcs_html_wrap(out, "<details><summary>config.yaml: every option of the run</summary>\n<pre>", r->config,
                  "</pre></details>\n");
}

static void write_page(FILE *out, const struct run_files *r)
{
    mcs_html_begin(out, "mcsam: from a text to a mask");
    write_head(out, r);
    write_caution(out, r);
    fputs("<nav>", out);
#define X(id, heading, text, rest) fputs("<a href=\"#" #id "\">" heading "</a> ", out);
    SECTIONS(X)
#undef X
    fputs("</nav>\n", out);
#define X(id, heading, text, rest)                                                                                     \
    fputs("<section id=\"" #id "\">\n<h2>" heading "</h2>\n", out);                                                    \
    if (*(text)) fputs("<p>" text "</p>\n", out);                                                                      \
    rest;                                                                                                              \
    fputs("</section>\n", out);
    SECTIONS(X)
#undef X
    mcs_html_end(out);
}

enum mcs_status mcs_report_render(const char *run_folder, char **html, int64_t *n_bytes)
{
    struct run_files r;
    size_t n = 0;
    enum mcs_status st = MCS_OK;
    *html = NULL;
    *n_bytes = 0;
    MCS_TRY_GOTO(read_run(run_folder, &r), st, done);
    FILE *out = open_memstream(html, &n);
    MCS_REQUIRE_GOTO(out, MCS_E_NOMEM, st, done, "no memory for the report of %s", run_folder);
    write_page(out, &r);
    const int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*html);
        *html = NULL;
        st = MCS_FAIL(MCS_E_NOMEM, "no memory for the report of %s", run_folder);
        goto done;
    }
    *n_bytes = (int64_t)n;
done:
    free_run(&r);
    return st;
}

enum mcs_status mcs_report_write(const char *run_folder, const char *html_path)
{
    char *html;
    int64_t n_bytes;
    MCS_TRY(mcs_report_render(run_folder, &html, &n_bytes));
    const enum mcs_status st = mcs_file_write(html_path, html, n_bytes);
    free(html);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}
