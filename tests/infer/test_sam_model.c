/* SAM's graphs against segment-anything (tests/golden/sam.safetensors): the encoder's stages, the position encoding,
 * every kind of prompt with all four masks and their predicted IoU, and the gradients of every parameter. */
#include "data/weights/weight_file.h"
#include "engine/model/sam.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_isa.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The reference runs in float64, so the difference is mcsam's rounding: about 40 sums of up to 64 products on a path,
 * backward twice as many, whose roundings of 2^-24 form a random walk of sqrt(80 * 64) = 72 units of terms about twice
 * as large as the result: 1e-5 of the range. */
#define FORWARD_TOLERANCE 1e-5
#define GRADIENT_TOLERANCE 1e-5

static struct sam_config toy;
enum { GRID = 8, EMBED = 16, SIDE = 32, FRAME = 64, MAX_TOKENS = 5 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct weight_file *golden;
static struct device cpu;

static void setup(void)
{
    toy = golden_sam_config();
    OK(mcs_weight_file_open(MCS_SOURCE_DIR "/tests/golden/sam.safetensors", &golden));
    OK(mcs_cpu_open(1, &cpu));
}
static void teardown(void)
{
    mcs_weight_file_close(golden);
    mcs_cpu_close(&cpu);
}
TestSuite(sam_model, .init = setup, .fini = teardown);

/* A golden array, malloc'ed; NULL if there is none. */
static float *load(const char *name, int64_t *n)
{
    const struct weight_tensor *t = mcs_weight_file_find(golden, name);
    if (!t) return NULL;
    float *v = malloc((size_t)t->n_values * sizeof *v);
    OK(mcs_weight_file_read_f32(golden, name, t->nd, t->dims, v));
    *n = t->n_values;
    return v;
}

/* (N,C,HW) -> (N,HW,C) in place. */
static void to_channels_last(float *v, int64_t n, int64_t c, int64_t hw)
{
    float *copy = malloc((size_t)(n * c * hw) * sizeof *copy);
    memcpy(copy, v, (size_t)(n * c * hw) * sizeof *copy);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < hw; p++) v[(i * hw + p) * c + k] = copy[(i * c + k) * hw + p];
    free(copy);
}

static double range_of(const float *v, int64_t n)
{
    double lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = fmin(lo, v[i]);
        hi = fmax(hi, v[i]);
    }
    return hi - lo;
}

static void compare(const char *name, const float *got, const float *want, int64_t n, double tolerance)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
    }
    cr_expect(worst <= tolerance, "%s: off by %g, allowed %g", name, worst, tolerance);
}

/* A graph with all tensors that are compared. */
struct sam_graph {
    struct params *p;
    struct graph *g;
    struct exec *e;
    struct tensor *image, *embedding;
    struct sam_prompt prompt;
    struct sam_output out;
};

static void give_weights(struct params *p)
{
    for (int i = 0; i < p->n; i++) {
        const struct tensor *t = p->t[i];
        float *w = malloc((size_t)mcs_count(t) * sizeof *w);
        mcs_golden_weight(t->name, t->dim, t->nd, w);
        OK(cpu.backend->upload(&cpu, t->data, w, mcs_count(t) * 4));
        free(w);
    }
}

/* encoder 0: the embedding is an input whose gradient is computed. */
static struct sam_graph sam_graph_new(int encoder, int64_t n, int64_t tokens, int with_mask, int gradients)
{
    struct sam_graph l = {.p = mcs_params_new()};
    l.g = mcs_graph_new(l.p, MCS_F32);
    if (encoder) {
        l.image = mcs_input(l.g, "image", MCS_F32, 4, (int64_t[]){1, FRAME, FRAME, 3});
        l.embedding = mcs_sam_encode(l.g, l.image, &toy);
        for (int i = 0; i < l.g->n_steps; i++) mcs_keep(l.g->steps[i].out[0]);
    } else {
        l.embedding = mcs_input(l.g, "embedding", MCS_F32, 4, (int64_t[]){1, GRID, GRID, EMBED});
        l.embedding->wants_grad = gradients;
    }
    struct tensor *image_of = mcs_input(l.g, "image_of", MCS_I32, 1, &n); /* zeros: the only image */
    l.prompt = mcs_sam_prompt_inputs(l.g, &toy, n, tokens, with_mask);
    l.out = mcs_sam_decode(l.g, l.embedding, image_of, &l.prompt, &toy);
    mcs_keep(l.embedding);
    mcs_keep(l.out.masks);
    mcs_keep(l.out.iou);
    if (gradients) OK(mcs_grad(l.g, (struct tensor *[]){l.out.masks, l.out.iou}, 2));
    OK(mcs_graph_status(l.g));
    OK(mcs_params_alloc(l.p, &cpu));
    if (gradients) OK(mcs_params_alloc_grad(l.p));
    give_weights(l.p);
    OK(mcs_exec_new(l.g, &cpu, &l.e));
    return l;
}
static void sam_graph_free(struct sam_graph *l)
{
    mcs_exec_free(l->e);
    mcs_graph_free(l->g);
    mcs_params_free(l->p);
}

static void set_image(struct sam_graph *l)
{
    float *image = malloc(3 * FRAME * FRAME * sizeof *image);
    mcs_golden_input("input.image", image, 3 * FRAME * FRAME);
    to_channels_last(image, 1, 3, FRAME * FRAME);
    OK(mcs_exec_set(l->e, l->image, image));
    free(image);
}

static void set_embedding(struct sam_graph *l)
{
    int64_t n;
    float *v = load("embedding", &n);
    to_channels_last(v, 1, EMBED, GRID * GRID);
    OK(mcs_exec_set(l->e, l->embedding, v));
    free(v);
}

/* The prompts of make_sam.py: n_points of three points per prompt, then the padding point or the box. */
static void set_prompt(struct sam_graph *l, int n_points, int box)
{
    int64_t count;
    float *points = load("input.points", &count), *boxes = load("input.boxes", &count);
    int64_t labels[6];
    OK(mcs_weight_file_read_i64(golden, "input.labels", 2, (int64_t[]){2, 3}, labels));
    float coords[2 * MAX_TOKENS * 2];
    int32_t label[2 * MAX_TOKENS], kind[2 * MAX_TOKENS];
    int k = 0;
    for (int b = 0; b < l->prompt.n; b++) {
        for (int i = 0; i < n_points; i++, k++) {
            coords[2 * k] = (points[6 * b + 2 * i] + 0.5f) / FRAME;
            coords[2 * k + 1] = (points[6 * b + 2 * i + 1] + 0.5f) / FRAME;
            label[k] = (int32_t)labels[3 * b + i];
        }
        if (n_points && !box) {
            coords[2 * k] = coords[2 * k + 1] = 0.5f / FRAME;
            label[k++] = -1;
        }
        for (int i = 0; box && i < 2; i++, k++) {
            coords[2 * k] = (boxes[4 * b + 2 * i] + 0.5f) / FRAME;
            coords[2 * k + 1] = (boxes[4 * b + 2 * i + 1] + 0.5f) / FRAME;
            label[k] = 2 + i;
        }
    }
    cr_assert_eq(k, l->prompt.n * l->prompt.tokens);
    for (int i = 0; i < k; i++) kind[i] = label[i] + 1;
    if (k) {
        OK(mcs_exec_set(l->e, l->prompt.coords, coords));
        OK(mcs_exec_set(l->e, l->prompt.label, label));
        OK(mcs_exec_set(l->e, l->prompt.kind, kind));
    }
    if (l->prompt.mask) {
        const size_t n = 2 * SIDE * SIDE;
        float *mask = malloc(n * sizeof *mask);
        mcs_golden_input("input.mask", mask, n);
        for (size_t i = 0; i < n; i++) mask[i] *= 4;
        OK(mcs_exec_set(l->e, l->prompt.mask, mask));
        free(mask);
    }
    free(points);
    free(boxes);
}

static void check_output(struct sam_graph *l, const char *file_name, const struct tensor *t)
{
    int64_t n;
    float *want = load(file_name, &n);
    cr_assert(want && n == mcs_count(t), "%s", file_name);
    float *got = malloc((size_t)n * sizeof *got);
    OK(mcs_exec_get(l->e, t, got));
    compare(file_name, got, want, n, FORWARD_TOLERANCE * range_of(want, n));
    free(got);
    free(want);
}

static const struct tensor *output_of(const struct sam_graph *l, const char *scope)
{
    const size_t n = strlen(scope); /* scope ends with a dot */
    for (int i = l->g->n_forward - 1; i >= 0; i--) {
        const char *s = l->g->steps[i].scope;
        if (!strncmp(s, scope, n) && (!s[n] || !strcmp(s + n, "."))) return l->g->steps[i].out[0];
    }
    cr_assert_fail("no step %s", scope);
    return NULL;
}

Test(sam_model, encoder)
{
    struct sam_graph l = sam_graph_new(1, 2, 2, 0, 0);
    int64_t n;
    set_image(&l);
    set_prompt(&l, 0, 1);
    OK(mcs_exec_run(l.e));
    check_output(&l, "encoder.patches", output_of(&l, "image_encoder.patch_embed.proj"));
    check_output(&l, "encoder.block.0", output_of(&l, "image_encoder.blocks.0.add"));
    check_output(&l, "encoder.block.1", output_of(&l, "image_encoder.blocks.1.add"));
    check_output(&l, "encoder.block.2", output_of(&l, "image_encoder.blocks.2.add"));
    float *want = load("embedding", &n), *got = malloc((size_t)n * sizeof *got);
    to_channels_last(want, 1, EMBED, GRID * GRID);
    OK(mcs_exec_get(l.e, l.embedding, got));
    compare("embedding", got, want, n, FORWARD_TOLERANCE * range_of(want, n));
    free(want);
    free(got);
    sam_graph_free(&l);
}

static const struct prompt_kind {
    const char *name;
    int n, n_points, box, mask, tokens;
} kinds[] = {{"none", 1, 0, 0, 0, 0},    {"point", 1, 1, 0, 0, 2},      {"points", 2, 3, 0, 0, 4},
             {"box", 2, 0, 1, 0, 2},     {"box_points", 2, 3, 1, 0, 5}, {"mask", 1, 0, 0, 1, 0},
             {"mask_box", 2, 0, 1, 1, 2}};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static char *full(const char *kind, const char *name)
{
    static char text[256];
    snprintf(text, sizeof text, "%s.%s", kind, name);
    return text;
}

Test(sam_model, every_prompt_gives_the_references_masks_and_iou)
{
    for (int i = 0; i < N_KINDS; i++) {
        const struct prompt_kind *k = &kinds[i];
        struct sam_graph l = sam_graph_new(0, k->n, k->tokens, k->mask, 0);
        set_embedding(&l);
        set_prompt(&l, k->n_points, k->box);
        OK(mcs_exec_run(l.e));
        check_output(&l, full(k->name, "low_res"), l.out.masks);
        check_output(&l, full(k->name, "iou"), l.out.iou);
        sam_graph_free(&l);
    }
}

/* The prompt encoder's outputs and the image's position encoding. */
Test(sam_model, prompt_encoder)
{
    for (int i = 0; i < N_KINDS; i++) {
        const struct prompt_kind *k = &kinds[i];
        struct sam_graph l = {.p = mcs_params_new()};
        l.g = mcs_graph_new(l.p, MCS_F32);
        l.prompt = mcs_sam_prompt_inputs(l.g, &toy, k->n, k->tokens, k->mask);
        struct tensor *sparse = k->tokens ? mcs_keep(mcs_sam_sparse(l.g, &l.prompt, &toy)) : NULL;
        struct tensor *dense = k->mask ? mcs_keep(mcs_sam_dense(l.g, &l.prompt, &toy)) : NULL;
        struct tensor *position = mcs_keep(mcs_sam_position(l.g, &toy));
        OK(mcs_graph_status(l.g));
        OK(mcs_params_alloc(l.p, &cpu));
        give_weights(l.p);
        OK(mcs_exec_new(l.g, &cpu, &l.e));
        set_prompt(&l, k->n_points, k->box);
        OK(mcs_exec_run(l.e));
        if (sparse) check_output(&l, full(k->name, "sparse"), sparse);
        const struct {
            const char *name;
            const struct tensor *t;
            int64_t n;
        } maps[] = {{"dense_pe", position, 1}, {full(k->name, "dense"), dense, k->n}};
        for (int m = 0; m < 2; m++) {
            int64_t n;
            if (!maps[m].t) continue;
            float *want = load(maps[m].name, &n), *got = malloc((size_t)n * sizeof *got);
            cr_assert_eq(n, mcs_count(maps[m].t));
            to_channels_last(want, maps[m].n, EMBED, GRID * GRID);
            OK(mcs_exec_get(l.e, maps[m].t, got));
            compare(maps[m].name, got, want, n, FORWARD_TOLERANCE * range_of(want, n));
            free(want);
            free(got);
        }
        sam_graph_free(&l);
    }
}

/* Gradients of sum(low_res W) + sum(iou V): W and V are the gradients of the two outputs. */
static void set_seeds(struct sam_graph *l)
{
    const struct {
        struct tensor *t;
        const char *name;
    } seeds[] = {{l->out.masks, "input.weight.low_res"}, {l->out.iou, "input.weight.iou"}};
    for (int i = 0; i < 2; i++) {
        const int64_t n = mcs_count(seeds[i].t);
        float *v = malloc((size_t)n * sizeof *v);
        mcs_golden_input(seeds[i].name, v, (size_t)n);
        OK(mcs_exec_set(l->e, seeds[i].t->grad, v));
        free(v);
    }
}

/* The gradient of an attention key's bias is 0 in exact arithmetic, so its rounding error is compared with the range of
 * its weight's gradient. */
static double gradient_scale(const char *kind, const char *name, const float *want, int64_t n)
{
    char weight[256];
    const char *at = strstr(name, "k_proj.bias");
    if (!at) return range_of(want, n);
    int64_t m;
    snprintf(weight, sizeof weight, "%s.grad.%.*sk_proj.weight", kind, (int)(at - name), name);
    float *w = load(weight, &m);
    cr_assert(w, "%s", weight);
    const double r = range_of(w, m);
    free(w);
    return r;
}

/* Compares every gradient in the file; returns their number. */
static int check_gradients(struct sam_graph *l, const char *kind)
{
    int n_checked = 0;
    for (int i = 0; i < l->p->n; i++) {
        char name[256];
        int64_t n;
        const struct tensor *t = l->p->t[i];
        if (l->p->is_buffer[i]) continue;
        snprintf(name, sizeof name, "%s.grad.%s", kind, t->name);
        float *want = load(name, &n);
        if (!want) continue;
        cr_assert_eq(n, mcs_count(t), "%s", name);
        const double scale = gradient_scale(kind, t->name, want, n);
        compare(name, mcs_params_grad(l->p, t), want, n, GRADIENT_TOLERANCE * scale);
        free(want);
        n_checked++;
    }
    return n_checked;
}

static void check_every_gradient(void)
{
    struct sam_graph l = sam_graph_new(1, 2, 2, 0, 1);
    int n_trained = 0;
    set_image(&l);
    set_prompt(&l, 0, 1);
    set_seeds(&l);
    mcs_params_zero_grad(l.p);
    OK(mcs_exec_run(l.e));
    for (int i = 0; i < l.p->n; i++) n_trained += !l.p->is_buffer[i];
    cr_expect_eq(check_gradients(&l, "box"), n_trained);
    sam_graph_free(&l);
}

/* The device is open, but has computed nothing yet: oneDNN reads its instruction-set limit at first use. */
Test(sam_model, gradients_of_every_parameter_avx2)
{
    test_isa(TEST_AVX2);
    check_every_gradient();
}

Test(sam_model, gradients_of_every_parameter_avx512)
{
    test_isa(TEST_AVX512);
    check_every_gradient();
}

Test(sam_model, gradients_of_the_prompt_encoder_and_the_embedding)
{
    for (int i = 0; i < N_KINDS; i++) {
        const struct prompt_kind *k = &kinds[i];
        int64_t n;
        float *want = load(full(k->name, "grad.embedding"), &n);
        if (!want) continue;
        struct sam_graph l = sam_graph_new(0, k->n, k->tokens, k->mask, 1);
        set_embedding(&l);
        set_prompt(&l, k->n_points, k->box);
        set_seeds(&l);
        mcs_params_zero_grad(l.p);
        OK(mcs_exec_run(l.e));
        cr_expect(check_gradients(&l, k->name) >= 6, "%s: too few gradients in the file", k->name);
        float *got = malloc((size_t)n * sizeof *got);
        to_channels_last(want, 1, EMBED, GRID * GRID);
        OK(mcs_exec_get(l.e, l.embedding->grad, got));
        compare(full(k->name, "grad.embedding"), got, want, n, GRADIENT_TOLERANCE * range_of(want, n));
        free(got);
        free(want);
        sam_graph_free(&l);
    }
}

Test(sam_model, vit_b_has_the_checkpoints_tensors)
{
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    const struct sam_config c = mcs_sam_vit_b();
    int64_t one = 1, values = 0;
    struct tensor *image = mcs_input(g, "image", MCS_F32, 4, (int64_t[]){1, 1024, 1024, 3});
    struct tensor *embedding = mcs_sam_encode(g, image, &c), *image_of = mcs_input(g, "image_of", MCS_I32, 1, &one);
    const struct sam_prompt prompt = mcs_sam_prompt_inputs(g, &c, 1, 2, 1);
    mcs_sam_decode(g, embedding, image_of, &prompt, &c);
    OK(mcs_graph_status(g));
    for (int i = 0; i < p->n; i++) values += mcs_count(p->t[i]);
    cr_expect_eq(p->n, 314);
    cr_expect_eq(values, 93735728);
    mcs_graph_free(g);
    mcs_params_free(p);
}
