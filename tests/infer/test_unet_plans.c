/* plans.json, dataset.json and checkpoints.json of a network: the complete written files, and each limit of the reader.
 */
#include "data/io/file.h"
#include "infer/unet/unet_model.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(":", "");
}
TestSuite(unet_plans, .init = setup, .fini = shell_close);

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Three stages of 4, 8 and 12 features, a patch of 16 x 24. */
static struct unet_plans plans(int channels, int classes)
{
    struct unet_plans p;
    OK(mcs_unet_plans_make(channels, classes, 16, 24, 3, 4, 12, &p));
    p.batch = 5;
    return p;
}

Test(unet_plans, sizes_by_rule)
{
    static const struct {
        int64_t height, width;
        int stages;
    } rows[] = {{8, 8, 2}, {512, 512, 8}, {96, 160, 5}, {24, 64, 3}, {16, 24, 3}, {1024, 2048, 9}};
    struct unet_plans p;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(mcs_unet_plans_make(1, 2, rows[i].height, rows[i].width, 0, 4, 16, &p));
        const int stages = rows[i].stages < UNET_MAX_STAGES ? rows[i].stages : UNET_MAX_STAGES;
        cr_expect_eq(p.net.n_stages, stages, "%lld x %lld: %d stages", (long long)rows[i].height,
                     (long long)rows[i].width, p.net.n_stages);
        cr_expect(p.patch[0] == rows[i].height && p.patch[1] == rows[i].width && p.batch == 1 && p.batch_dice == 1);
    }
    static const int bad[][6] = {{1, 2, 16, 16, 1, 4},    {1, 2, 16, 16, UNET_MAX_STAGES + 1, 4},
                                 {1, 2, 16, 16, -1, 4},   {1, 2, 7, 7, 0, 4},
                                 {1, 2, 18, 16, 3, 4},    {0, 2, 16, 16, 2, 4},
                                 {1, 1, 16, 16, 2, 4},    {1, 257, 16, 16, 2, 4},
                                 {1025, 2, 16, 16, 2, 4}, {1, 2, 16, 16, 2, 0},
                                 {1, 2, 16, 16, 2, 4097}, {1, 2, 16386, 16, 2, 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int *b = bad[i];
        cr_expect_eq(mcs_unet_plans_make(b[0], b[1], b[2], b[3], b[4], b[5], b[5] < 12 ? 12 : b[5], &p), MCS_E_USAGE,
                     "row %zu", i);
        mcs_error_clear();
    }
    OK(mcs_unet_plans_make(1024, 256, 16384, 2, 2, 4096, 4096, &p));
}

Test(unet_plans, there_and_back)
{
    for (int i = 0; i < 4; i++) {
        struct unet_plans p = plans(i % 2 ? 3 : 1, i / 2 ? 4 : 2), q;
        p.batch_dice = i % 2;
        p.net.n_conv[1] = 3, p.net.n_conv_decoder[0] = 1;
        p.net.kernel[1][0] = 5, p.net.stride[2][1] = 1;
        OK(mcs_unet_plans_write(shell_path("."), &p));
        OK(mcs_unet_plans_read(shell_path("."), &q));
        const struct unet_config *a = &p.net, *b = &q.net;
        cr_expect(a->in_channels == b->in_channels && a->classes == b->classes && a->n_stages == b->n_stages &&
                  a->nsp == b->nsp && b->nsp == 2);
        cr_expect(p.patch[0] == q.patch[0] && p.patch[1] == q.patch[1] && p.batch == q.batch &&
                  p.batch_dice == q.batch_dice);
        for (int s = 0; s < 3; s++) {
            cr_expect(a->features[s] == b->features[s] && a->n_conv[s] == b->n_conv[s], "stage %d", s);
            cr_expect(s == 2 || a->n_conv_decoder[s] == b->n_conv_decoder[s]);
            for (int k = 0; k < 2; k++)
                cr_expect(a->kernel[s][k] == b->kernel[s][k] && a->stride[s][k] == b->stride[s][k]);
        }
    }
}

/* The keys that nnU-Net's reader needs. */
Test(unet_plans, written_files)
{
    struct unet_plans p = plans(3, 3);
    OK(mcs_unet_plans_write(shell_path("."), &p));
    expect(
        "tr -d ' \\n' < plans.json", 0,
        "{\"dataset_name\":\"mcsam\",\"plans_name\":\"nnUNetPlans\",\"transpose_forward\":[0,1,2],"
        "\"transpose_backward\":[0,1,2],\"configurations\":{\"2d\":{\"data_identifier\":\"mcsam_2d\","
        "\"preprocessor_name\":\"DefaultPreprocessor\",\"batch_size\":5,\"patch_size\":[16,24],\"spacing\":[1.0,1.0],"
        "\"normalization_schemes\":[\"ZScoreNormalization\",\"ZScoreNormalization\",\"ZScoreNormalization\"],"
        "\"use_mask_for_norm\":[false,false,false],\"batch_dice\":true,\"architecture\":{\"network_class_name\":"
        "\"dynamic_network_architectures.architectures.unet.PlainConvUNet\",\"arch_kwargs\":{\"n_stages\":3,"
        "\"features_per_stage\":[4,8,12],\"conv_op\":\"torch.nn.modules.conv.Conv2d\",\"kernel_sizes\":[[3,3],[3,3],[3,"
        "3]],"
        "\"strides\":[[1,1],[2,2],[2,2]],\"n_conv_per_stage\":[2,2,2],\"n_conv_per_stage_decoder\":[2,2],\"conv_bias\":"
        "true,"
        "\"norm_op\":\"torch.nn.modules.instancenorm.InstanceNorm2d\",\"norm_op_kwargs\":{\"eps\":");
    expect("tr -d ' \\n' < plans.json", 0,
           ",\"affine\":true},\"dropout_op\":null,\"dropout_op_kwargs\":null,\"nonlin\":\"torch.nn.LeakyReLU\","
           "\"nonlin_kwargs\":{\"inplace\":true}},\"_kw_requires_import\":[\"conv_op\",\"norm_op\",\"nonlin\"]}}}}");
    double eps = 0;
    expect("grep -o '\"eps\": [^,]*' plans.json", 0, "eps");
    cr_expect(sscanf(shell_output, "\"eps\": %lf", &eps) == 1 && eps == 1e-5, "%s", shell_output);
    expect("tr -d ' \\n' < dataset.json", 0,
           "{\"channel_names\":{\"0\":\"R\",\"1\":\"G\",\"2\":\"B\"},\"labels\":{\"background\":0,\"class_1\":1,"
           "\"class_2\":2},"
           "\"file_ending\":\".png\"}");
    p = plans(1, 2);
    OK(mcs_unet_plans_write(shell_path("."), &p));
    expect("tr -d ' \\n' < dataset.json", 0,
           "{\"channel_names\":{\"0\":\"image\"},\"labels\":{\"background\":0,\"foreground\":1},\"file_ending\":\"."
           "png\"}");
}

/* Replaces one text in the written files and reads them. */
static enum mcs_status read_with(const char *file, const char *from, const char *to, struct unet_plans *q)
{
    struct unet_plans p = plans(1, 2);
    char line[512];
    OK(mcs_unet_plans_write(shell_path("."), &p));
    snprintf(line, sizeof line, "tr -d ' \\n' < %s > flat && grep -qF '%s' flat && sed 's/%s/%s/' flat > %s", file,
             from, from, to, file);
    for (char *at = strstr(line, "sed 's/"); at && *at; at++) /* brackets are text to sed too */
        if (*at == '[' || *at == ']' || *at == '.') {
            memmove(at + 1, at, strlen(at) + 1);
            *at++ = '\\';
        }
    cr_assert_eq(shell(line), 0, "%s: %s", line, shell_output);
    mcs_error_clear();
    return mcs_unet_plans_read(shell_path("."), q);
}

Test(unet_plans, limits_of_the_reader)
{
    static const struct {
        const char *from, *to, *part; /* of the message; NULL: read */
    } rows[] = {
        {"\"n_stages\":3", "\"n_stages\":3.0", "has no number n_stages"},
        {"\"n_stages\":3", "\"n_stages\":-1", "n_stages cannot be -1"},
        {"\"n_stages\":3", "\"n_stages\":1048577", "n_stages cannot be 1048577"},
        {"\"n_stages\":3", "\"n_stages\":1048576", "1048576 stages; 2 to"},
        {"\"n_stages\":3", "\"n_stages\":1", "1 stages; 2 to"},
        {"\"n_stages\":3", "\"n_stages\":2", "features_per_stage is no list of 2"},
        {"\"features_per_stage\":[4,8,12]", "\"features_per_stage\":6", NULL}, /* the same in each stage */
        {"[4,8,12]", "[4,8]", "features_per_stage is no list of 3"},
        {"[4,8,12]", "[4,0,12]", "features_per_stage has an element that is no size"},
        {"[4,8,12]", "[4,8,4097]", "stage 2 has 4097 features"},
        {"[4,8,12]", "[4,8,4096]", NULL},
        {"[4,8,12]", "[1,1,1]", NULL},
        {"[4,8,12]", "[4,8,1048577]", "no size"},
        {"[4,8,12]", "[4,8,1.0]", "no size"},
        {"\"n_conv_per_stage\":[2,2,2]", "\"n_conv_per_stage\":[32,1,2]", NULL},
        {"\"n_conv_per_stage\":[2,2,2]", "\"n_conv_per_stage\":[2,33,2]", "in 33 convolutions"},
        {"decoder\":[2,2]", "decoder\":[1,32]", NULL},
        {"decoder\":[2,2]", "decoder\":[2,33]", "decoder stage 1 has 33 convolutions"},
        {"decoder\":[2,2]", "decoder\":[2,2,2]", "is no list of 2"},
        {"[[3,3],[3,3],[3,3]]", "[[1,7],[3,5],[3,3]]", NULL},
        {"[[3,3],[3,3],[3,3]]", "[[3,3],[3,9],[3,3]]", "stage 1 has a kernel of 9"},
        {"[[3,3],[3,3],[3,3]]", "[[3,3],[3,3],[4,3]]", "stage 2 has a kernel of 4"},
        {"[[3,3],[3,3],[3,3]]", "[3,3,3]", NULL},
        {"[[3,3],[3,3],[3,3]]", "[[3,3],[3,3]]", "kernel_sizes is no list of 3"},
        {"[[3,3],[3,3],[3,3]]", "[[3,3],[3,3],[3]]", "kernel_sizes is no list of 2"},
        {"[[1,1],[2,2],[2,2]]", "[[1,1],[4,2],[4,4]]", NULL},
        {"[[1,1],[2,2],[2,2]]", "[[1,1],[2,5],[2,2]]", "a stride of 5"},
        {"[[1,1],[2,2],[2,2]]", "[[2,1],[4,2],[4,4]]", "a patch of 16 x 24 does not divide by the strides.* 32 x 8"},
        {"[[1,1],[2,2],[2,2]]", "[[1,4],[2,2],[2,2]]", "product 4 x 16"},
        {"\"patch_size\":[16,24]", "\"patch_size\":[16,16384]", NULL},
        {"\"patch_size\":[16,24]", "\"patch_size\":[16388,24]", "a patch of 16388 x 24"},
        {"\"patch_size\":[16,24]", "\"patch_size\":[16]", "patch_size is no list of 2"},
        {"\"batch_size\":5", "\"batch_size\":0", NULL},
        {"\"batch_size\":5", "\"batch\":5", "has no number batch_size"},
        {"\"2d\"", "\"3d\"", "has no configuration 2d"},
        {"\"architecture\"", "\"other\"", "has no architecture"},
        {"unet.PlainConvUNet", "unet.ResidualUNet", "ResidualUNet; this program knows PlainConvUNet"},
        {"dynamic_network_architectures.architectures.unet.PlainConvUNet", "PlainConvUNet", NULL},
        {"[\"ZScoreNormalization\"]", "[\"CTNormalization\"]", "channel 0 is normalised by another rule"},
        {"[\"ZScoreNormalization\"]", "[\"ZScoreNormalization\",1]", "channel 1 is normalised"},
    };
    struct unet_plans q;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = read_with("plans.json", rows[i].from, rows[i].to, &q);
        cr_expect_eq(st, rows[i].part ? MCS_E_DATA : MCS_OK, "%s: %s", rows[i].to, mcs_error_message());
        if (!rows[i].part) continue;
        const char *star = strstr(rows[i].part, ".*"), *message = mcs_error_message();
        char first[128];
        snprintf(first, sizeof first, "%.*s", star ? (int)(star - rows[i].part) : 127, rows[i].part);
        cr_expect(strstr(message, first) && (!star || strstr(message, star + 2)), "%s: %s", rows[i].to, message);
    }
    cr_expect_eq(read_with("dataset.json", "\"foreground\":1", "\"foreground\":1,\"ignore\":2", &q), MCS_OK, "%s",
                 mcs_error_message());
    cr_expect_eq(q.net.classes, 2, "the label to ignore is no class");
    cr_expect_eq(read_with("dataset.json", ",\"foreground\":1", "", &q), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "1 channels and 1 classes; want"), "%s", mcs_error_message());
    cr_expect_eq(read_with("dataset.json", "\"0\":\"image\"", "", &q), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "0 channels and 2 classes"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_unet_plans_read(shell_path("none"), &q), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "no such model folder"), "%s", mcs_error_message());
    mcs_error_clear();
}

static enum mcs_status read_checkpoints(const char *text, struct unet_checkpoint *c, int *n)
{
    mcs_error_clear();
    shell_write("checkpoints.json", text);
    return mcs_unet_checkpoints_read(shell_path("."), c, n);
}

Test(unet_plans, checkpoints)
{
    static struct unet_checkpoint c[UNET_MAX_CHECKPOINTS + 1], got[UNET_MAX_CHECKPOINTS];
    int n;
    for (int i = 0; i <= UNET_MAX_CHECKPOINTS; i++) {
        c[i] = (struct unet_checkpoint){.cycle = i / 10, .index = i % 10, .step = 1000000007LL * i};
        snprintf(c[i].file, sizeof c[i].file, "w%d", i);
    }
    OK(mcs_unet_checkpoints_write(shell_path("."), c, UNET_MAX_CHECKPOINTS));
    OK(mcs_unet_checkpoints_read(shell_path("."), got, &n));
    cr_expect_eq(n, UNET_MAX_CHECKPOINTS);
    for (int i = 0; i < n; i++)
        cr_expect(!strcmp(got[i].file, c[i].file) && got[i].cycle == c[i].cycle && got[i].index == c[i].index &&
                  got[i].step == c[i].step);
    OK(mcs_unet_checkpoints_write(shell_path("."), c, UNET_MAX_CHECKPOINTS + 1));
    cr_expect_eq(mcs_unet_checkpoints_read(shell_path("."), got, &n), MCS_E_DATA);
    cr_expect_eq(n, 0);
    cr_expect_eq(read_checkpoints("{\"checkpoints\":[]}", got, &n), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "lists 0 checkpoints; 1 to"), "%s", mcs_error_message());
    static const char *const bad[] = {
        "{\"checkpoints\":[{\"cycle\":1,\"index\":1}]}",
        "{\"checkpoints\":[{\"file\":\"\",\"cycle\":1,\"index\":1}]}",
        "{\"checkpoints\":[{\"file\":\"a/b\",\"cycle\":1,\"index\":1}]}",
        "{\"checkpoints\":[{\"file\":\"a\",\"index\":1}]}",
        "{\"checkpoints\":[{\"file\":\"a\",\"cycle\":1,\"index\":-1}]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(read_checkpoints(bad[i], got, &n), MCS_E_DATA, "%s", bad[i]);
    for (int extra = 0; extra < 2; extra++) { /* a name of the maximum length, and one longer */
        char text[1024], name[512];
        const int length = (int)sizeof got[0].file - 1 + extra;
        memset(name, 'x', sizeof name);
        snprintf(text, sizeof text, "{\"checkpoints\":[{\"file\":\"%.*s\",\"cycle\":0,\"index\":1048576}]}", length,
                 name);
        cr_expect_eq(read_checkpoints(text, got, &n), extra ? MCS_E_DATA : MCS_OK, "%s", mcs_error_message());
        if (!extra)
            cr_expect(n == 1 && got[0].step == 0 && got[0].index == 1048576 && (int)strlen(got[0].file) == length);
    }
    mcs_error_clear();
}
