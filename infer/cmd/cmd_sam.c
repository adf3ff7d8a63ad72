/* mcsam sam: masks of one image from points, boxes and mask prompts, or of a folder of images from a boxes.json. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/io/npy.h"
#include "data/run/run_folder.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/cmd/sam_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(sam_command, model), .value = "CKPT", .required = 1,
     .help =
         "file of weights, PyTorch's or safetensors (sam_config.json beside it, unless ViT-B, -L or -H), or a folder"},
    {"input", 'i', MCS_FIELD(sam_command, input), .value = "IMGS", .required = 1,
     .help = "an image, or with --prompts-from a folder of images"},
    {"output", 'o', MCS_FIELD(sam_command, output), .value = "DIR", .required = 1,
     .help = "one image: mask.png, low_res.npy, sam.json; a folder: STEM.png, sam.json"},
    {"box", 0, MCS_FIELD(sam_command, box), .value = "X0,Y0,X1,Y1",
     .help = "a box in pixels; several: a mask each, and their union"},
    {"point", 0, MCS_FIELD(sam_command, point), .value = "X,Y,LABEL",
     .help = "a point, label 1 inside, 0 outside; all points go with each box"},
    {"mask", 0, MCS_FIELD(sam_command, mask), .value = "FILE",
     .help = "mask prompt: a PNG of the image's size, or low_res.npy of an earlier run"},
    {"prompts-from", 0, MCS_FIELD(sam_command, prompts_from), .value = "FILE",
     .help = "boxes.json, as coarse writes it"},
    {"prompts", 0, MCS_FIELD(sam_command, prompts), .def = "boxes", .choices = "boxes|points|both",
     .help = "prompts used from boxes.json"},
    {"boxes", 0, MCS_FIELD(sam_command, boxes), .def = "each", .choices = "each|merged",
     .help = "a box for each component, or one around all"},
    {"grow", 0, MCS_FIELD(sam_command, grow), .def = "0", .lo = -100000, .hi = 100000, .value = "PX",
     .help = "pixels added to each side of the boxes in boxes.json"},
    {"keep", 0, MCS_FIELD(sam_command, keep), .def = "0", .lo = 0, .hi = 1000000, .value = "N",
     .help = "components of the mask that stay, by area; 0: all (paper), as many as boxes.json has (release)"},
    {"multimask", 0, MCS_FIELD(sam_command, multimask),
     .help = "three masks: the one with the greatest predicted IoU (paper), their sum (release)"},
    {"preprocess", 0, MCS_FIELD(sam_command, preprocess), .choices = "sam|medsam",
     .help = "how images are prepared; by default as sam_config.json says, without one sam"},
    {"save-embeddings", 0, MCS_FIELD(sam_command, embeddings.save), .value = "DIR",
     .help = "write each image's embedding to DIR/STEM.safetensors"},
    {"embeddings", 0, MCS_FIELD(sam_command, embeddings.load), .value = "DIR",
     .help = "read them instead of encoding the images"},
    {"window", 0, MCS_FIELD(sam_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

/* ---- one image ---- */

/* "1,2.5,3" into n numbers; 0 unless there are exactly n. */
static int parse_numbers(const char *text, int n, double *v)
{
    for (int i = 0; i < n; i++) {
        char *end;
        v[i] = strtod(text, &end);
        if (end == text || *end != (i + 1 < n ? ',' : '\0')) return 0;
        text = end + 1;
    }
    return 1;
}

/* The prompts on the command line, for one image. */
struct prompt_set {
    int n; /* number of prompts: one per box; without boxes one, of the points and the mask */
    struct sam_prompts *prompts;
    double (*points)[2];
    int *labels;
    float *mask;
};

static enum mcs_status read_mask_prompt(const struct sam_config *c, const char *path, const struct image *img,
                                        float *dst)
{
    const int side = mcs_sam_side(c);
    const size_t n = strlen(path);
    if (n > 4 && !strcmp(path + n - 4, ".npy")) {
        struct npy a;
        MCS_TRY(mcs_npy_read(path, &a));
        const int fits = a.n_values == (int64_t)side * side;
        if (fits) memcpy(dst, a.values, (size_t)a.n_values * sizeof *dst);
        mcs_npy_free(&a);
        MCS_REQUIRE(fits, MCS_E_DATA, "%s: a mask prompt must be (%d, %d) logits, as low_res.npy of one mask", path,
                    side, side);
        return MCS_OK;
    }
    struct image mask;
    MCS_TRY(mcs_image_read(path, 1, &mask));
    enum mcs_status st;
    MCS_REQUIRE_GOTO(mask.width == img->width && mask.height == img->height, MCS_E_DATA, st, done,
                     "%s: the mask has %d x %d pixels, the image %d x %d", path, mask.width, mask.height, img->width,
                     img->height);
    MCS_TRY_GOTO(mcs_sam_mask_prompt(c, &mask, dst), st, done);
done:
    mcs_image_free(&mask);
    return st;
}

static enum mcs_status read_prompts(const struct sam_command *c, const struct sam_config *config,
                                    const struct image *img, struct arena *a, struct prompt_set *r)
{
    double v[4];
    r->n = c->box.n ? c->box.n : 1;
    r->prompts = mcs_arena_alloc(a, (size_t)r->n * sizeof *r->prompts);
    r->points = mcs_arena_alloc(a, (size_t)(c->point.n + 1) * sizeof *r->points);
    r->labels = mcs_arena_alloc(a, (size_t)(c->point.n + 1) * sizeof *r->labels);
    MCS_TRY(mcs_arena_status(a));
    for (int i = 0; i < c->point.n; i++) {
        MCS_REQUIRE(parse_numbers(c->point.v[i], 3, v) && (v[2] == 0 || v[2] == 1), MCS_E_USAGE,
                    "--point '%s': want x,y,label with label 1 (inside) or 0 (outside)", c->point.v[i]);
        MCS_REQUIRE(v[0] >= 0 && v[1] >= 0 && v[0] < img->width && v[1] < img->height, MCS_E_USAGE,
                    "--point '%s' is outside of the image of %d x %d pixels", c->point.v[i], img->width, img->height);
        r->points[i][0] = v[0], r->points[i][1] = v[1];
        r->labels[i] = v[2] > 0;
    }
    if (c->mask) {
        r->mask = mcs_arena_alloc(a, (size_t)mcs_sam_side(config) * (size_t)mcs_sam_side(config) * sizeof(float));
        MCS_TRY(mcs_arena_status(a));
        MCS_TRY(read_mask_prompt(config, c->mask, img, r->mask));
    }
    for (int i = 0; i < r->n; i++) {
        struct sam_prompts *p = &r->prompts[i];
        *p = (struct sam_prompts){
            .n_points = c->point.n, .points = (const double(*)[2])r->points, .labels = r->labels, .mask = r->mask};
        if (!c->box.n) continue;
        MCS_REQUIRE(parse_numbers(c->box.v[i], 4, p->box) && p->box[0] <= p->box[2] && p->box[1] <= p->box[3],
                    MCS_E_USAGE, "--box '%s': want x0,y0,x1,y1 with x0 <= x1 and y0 <= y1", c->box.v[i]);
        MCS_REQUIRE(p->box[2] >= 0 && p->box[3] >= 0 && p->box[0] < img->width && p->box[1] < img->height, MCS_E_USAGE,
                    "--box '%s' is outside of the image of %d x %d pixels", c->box.v[i], img->width, img->height);
        p->has_box = 1;
    }
    return MCS_OK;
}

/* SAM's output for one image. */
struct prediction {
    struct sam_frame frame;
    float *low_res; /* (prompts, 4, side, side); prompt i's masks have index place[i] */
    int *place;
    float *iou;                /* (prompts, 4) */
    struct sam_counts *counts; /* (prompts, 4), of the requested masks */
    uint8_t *mask;             /* their union */
};

/* Computes to->mask, the union of the chosen masks, and to->counts of all requested ones: mask 0, or 1 to 3 with
 * multimask, of which the release form unites all three (`all`). plane: masks in low_res; index: the same in
 * to->counts; first those of the union. */
static enum mcs_status make_masks(const struct sam_command *c, struct sam_model *m, const float *low_res, int n,
                                  struct arena *a, struct prediction *to)
{
    const int first = c->multimask ? 1 : 0, last = c->multimask ? SAM_MASKS - 1 : 0,
              all = c->multimask && c->common.form[MCS_FORM_SAM] == MCS_RELEASE;
    struct sam_counts *counts = mcs_arena_alloc(a, (size_t)(n * SAM_MASKS) * sizeof *counts);
    int32_t *plane = mcs_arena_alloc(a, (size_t)(n * SAM_MASKS) * sizeof *plane);
    int *index = mcs_arena_alloc(a, (size_t)(n * SAM_MASKS) * sizeof *index);
    MCS_TRY(mcs_arena_status(a));
    int united = 0, total = 0;
    for (int pass = 0; pass < 2; pass++) { /* 0: the masks of the union; 1: those that are only counted */
        for (int i = 0; i < n; i++)
            for (int k = first; k <= last; k++) {
                if ((all || k == mcs_sam_choose(to->iou + i * SAM_MASKS, c->multimask)) == pass) continue;
                index[total] = i * SAM_MASKS + k;
                plane[total++] = to->place[i] * SAM_MASKS + k;
            }
        if (!pass) united = total;
    }
    enum mcs_status st = mcs_sam_masks(&m->config, &m->masks, low_res, plane, united, &to->frame, 1, to->mask, counts);
    if (st == MCS_OK && total > united)
        st = mcs_sam_masks(&m->config, &m->masks, low_res, plane + united, total - united, &to->frame, 1, NULL,
                           counts + united);
    for (int i = 0; i < total; i++) to->counts[index[i]] = counts[i];
    return st;
}

/* Encodes the image, decodes the prompts and computes the masks; the arena owns all arrays of *to. */
static enum mcs_status predict(const struct sam_command *c, struct sam_model *m, const struct image *img,
                               const struct prompt_set *r, struct arena *a, struct prediction *to)
{
    struct device *d = m->device;
    const int64_t s = m->config.image_size, side = mcs_sam_side(&m->config), masks = SAM_MASKS * side * side,
                  bytes = r->n * masks * (int64_t)sizeof(float);
    char stem[MCS_PATH_BYTES];
    float *pixels = mcs_arena_alloc(a, (size_t)(s * s * 3) * sizeof *pixels);
    MCS_TRY(mcs_arena_status(a));
    to->low_res = mcs_arena_alloc(a, (size_t)bytes);
    to->place = mcs_arena_alloc(a, (size_t)r->n * sizeof *to->place);
    to->iou = mcs_arena_alloc(a, (size_t)(r->n * SAM_MASKS) * sizeof *to->iou);
    to->counts = mcs_arena_alloc(a, (size_t)(r->n * SAM_MASKS) * sizeof *to->counts);
    to->mask = mcs_arena_alloc(a, (size_t)img->width * (size_t)img->height);
    MCS_TRY(mcs_arena_status(a));
    MCS_TRY(mcs_device_scratch(&m->work, ((r->n + SAM_CHUNK) * masks + mcs_sam_embedding_values(&m->config)) *
                                             (int64_t)sizeof(float)));
    float *low_res = m->work.p, *embedding = low_res + (r->n + SAM_CHUNK) * masks;
    mcs_file_stem(c->input, stem, sizeof stem);
    MCS_TRY(mcs_sam_embed(m, &c->embeddings, (const char *const[]){stem}, &img, 1, pixels, &to->frame, embedding));
    MCS_TRY(mcs_sam_predict_on_device(m, embedding, &to->frame, 1, r->prompts, r->n, low_res, to->place, to->iou));
    MCS_TRY(make_masks(c, m, low_res, r->n, a, to));
    return d->backend->download(d, to->low_res, low_res, bytes);
}

static json_t *prompt_json(const struct sam_command *c, const struct sam_prompts *p, const float *iou,
                           const struct sam_counts *counts)
{
    json_t *o = json_pack("{s:i, s:i}", "points", p->n_points, "chosen", mcs_sam_choose(iou, c->multimask)),
           *masks = json_array();
    if (p->has_box) json_object_set_new(o, "box", json_pack("[ffff]", p->box[0], p->box[1], p->box[2], p->box[3]));
    for (int k = c->multimask ? 1 : 0; k <= (c->multimask ? SAM_MASKS - 1 : 0); k++)
        json_array_append_new(masks, json_pack("{s:f, s:f, s:I}", "iou", (double)iou[k], "stability",
                                               counts[k].stability, "area", (json_int_t)counts[k].area));
    json_object_set_new(o, "masks", masks);
    return o;
}

/* low_res.npy: (side,side), with multimask (3,side,side); several prompts add a leading dimension. */
static enum mcs_status write_low_res(const struct sam_command *c, const struct sam_config *config,
                                     const struct prediction *from, int n)
{
    char path[MCS_PATH_BYTES];
    const int64_t side = mcs_sam_side(config), kept = c->multimask ? SAM_MASKS - 1 : 1;
    const int64_t dims[4] = {n, kept, side, side};
    MCS_TRY(mcs_path(path, "%s/low_res.npy", c->output));
    float *v = malloc((size_t)(n * kept * side * side) * sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for %d masks", n);
    for (int64_t i = 0; i < n; i++)
        memcpy(v + i * kept * side * side,
               from->low_res + (from->place[i] * SAM_MASKS + (c->multimask ? 1 : 0)) * side * side,
               (size_t)(kept * side * side) * sizeof *v);
    int64_t shape[4];
    int nd = 0;
    for (int i = 0; i < 4; i++)
        if (i > 1 || dims[i] > 1) shape[nd++] = dims[i];
    const enum mcs_status st = mcs_npy_write(path, v, nd, shape);
    free(v);
    return st;
}

static enum mcs_status write_one(const struct sam_command *c, const struct sam_model *m, const struct prompt_set *r,
                                 const struct prediction *from, struct arena *a)
{
    const struct sam_frame *f = &from->frame;
    int64_t area = 0;
    json_t *root = mcs_sam_json_head(c, m, a), *list = json_array();
    for (int i = 0; i < r->n; i++)
        json_array_append_new(list,
                              prompt_json(c, &r->prompts[i], from->iou + i * SAM_MASKS, from->counts + i * SAM_MASKS));
    for (int64_t i = 0; i < (int64_t)f->width * f->height; i++) area += from->mask[i];
    json_object_set_new(root, "image", mcs_json_text(c->input));
    json_object_set_new(root, "size", json_pack("[ii]", f->width, f->height));
    json_object_set_new(root, "area", json_integer(area));
    json_object_set_new(root, "prompts", list);
    MCS_TRY(mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(7), "%s/sam.json", c->output));
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/mask.png", c->output));
    MCS_TRY(mcs_image_write_mask(path, from->mask, f->width, f->height));
    MCS_TRY(write_low_res(c, &m->config, from, r->n));
    printf(c->common.json ? "{\"prompts\": %d, \"area\": %lld}\n" : "%d prompts, %lld pixels\n", r->n, (long long)area);
    return MCS_OK;
}

static enum mcs_status run_one(const struct sam_command *c, struct sam_model *m)
{
    struct run_folder *run = NULL;
    struct image img;
    struct arena a = {0};
    struct prompt_set r = {0};
    struct prediction prediction = {0};
    enum mcs_status st;
    MCS_REQUIRE(c->box.n || c->point.n || c->mask, MCS_E_USAGE,
                "say where: --box, --point or --mask for one image, --prompts-from for a folder");
    MCS_TRY(mcs_image_read(c->input, 3, &img));
    MCS_TRY_GOTO(read_prompts(c, &m->config, &img, &a, &r), st, done);
    MCS_TRY_GOTO(mcs_run_open(&c->common.command, c->output, NULL, &run), st, done);
    MCS_TRY_GOTO(predict(c, m, &img, &r, &a, &prediction), st, done);
    MCS_TRY_GOTO(mcs_sam_model_hash(m), st, done);
    MCS_TRY_GOTO(write_one(c, m, &r, &prediction, &a), st, done);
done:
    st = mcs_run_close(run, st);
    mcs_image_free(&img);
    mcs_arena_free(&a);
    return st;
}

/* ---- the verb ---- */

static enum mcs_status check_paths(const struct sam_command *c)
{
    const struct run_output out[] = {
        {c->output, c->prompts_from ? "*.png;sam.json;config.yaml;failures.csv" : "mask.png;low_res.npy;sam.json"},
        {c->embeddings.save, "*.safetensors"}};
    const struct run_input in[] = {{"--input", c->input, MCS_IMAGE_ENDINGS},
                                   {"--model", c->model, NULL},
                                   {"--mask", c->mask, NULL},
                                   {"--prompts-from", c->prompts_from, NULL},
                                   {"--embeddings", c->embeddings.load, "*.safetensors"}};
    MCS_REQUIRE(!c->embeddings.load || !c->embeddings.save, MCS_E_USAGE,
                "want one of --embeddings and --save-embeddings");
    MCS_TRY(mcs_run_check_paths(&c->common.command, out, 2, in, 5));
    MCS_REQUIRE(!c->embeddings.load || mcs_folder_exists(c->embeddings.load), MCS_E_NOINPUT,
                "%s: no such folder of embeddings", c->embeddings.load);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct sam_command *c = command;
    struct device d;
    struct sam_model m;
    const int folder = mcs_folder_exists(c->input);
    MCS_TRY(mcs_window_use(c->window));
    MCS_REQUIRE(!folder || c->prompts_from, MCS_E_USAGE, "%s is a folder: --prompts-from says what to look for in it",
                c->input);
    MCS_REQUIRE(folder || !c->prompts_from, mcs_file_exists(c->input) ? MCS_E_USAGE : MCS_E_NOINPUT,
                "%s: with --prompts-from, -i is a folder of images", c->input);
    MCS_TRY(check_paths(c));
    MCS_TRY(mcs_device_open(&c->common.device, &d));
    enum mcs_status st = mcs_sam_model_open_hashing(c->model, &d, &m);
    if (st == MCS_OK) st = mcs_sam_preprocess_set(&m, c->preprocess);
    if (st == MCS_OK && (c->embeddings.load || c->embeddings.save)) st = mcs_sam_model_hash(&m); /* they name it */
    if (st == MCS_OK && c->common.dry_run)
        printf("%s, %lld values; image %d, embedding %d x %d\n", mcs_text_shown(m.path), (long long)m.params->n_values,
               m.config.image_size, mcs_sam_grid(&m.config), mcs_sam_grid(&m.config));
    else if (st == MCS_OK && (!c->embeddings.save || (st = mcs_folder_make(c->embeddings.save)) == MCS_OK))
        st = folder ? mcs_sam_folder(c, &m) : run_one(c, &m);
    mcs_sam_model_close(&m);
    mcs_device_close(&d);
    return st;
}

const struct mcs_verb mcs_verb_sam = {.name = "sam",
                                      .line = "masks from points, boxes and mask prompts",
                                      .options = options,
                                      .options_bytes = sizeof(struct sam_command),
                                      .run = run};
