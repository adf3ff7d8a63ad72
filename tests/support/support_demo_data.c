#include "tests/support/support_demo_data.h"

#include "engine/base/log.h"
#include "train/cmd/demo_data_options.h"

#include <criterion/criterion.h>

struct demo_atlas demo_data_atlas;
struct demo_config demo_data_config;

void demo_data_open(void)
{
    mcs_log_quiet(1);
    demo_data_config = mcs_demo_config_default();
    cr_assert_eq(mcs_demo_atlas_load(NULL, &demo_data_atlas), MCS_OK, "%s", mcs_error_message());
}

void demo_data_close(void)
{
    mcs_demo_atlas_free(&demo_data_atlas);
}

struct data_options {
    struct mcs_common common;
    struct demo_config data;
};

static const struct mcs_option data_table[] = {MCS_DEMO_CONFIG_OPTIONS(data_options, data){0}};

static const struct mcs_verb data_verb = {
    .name = "demo data", .line = "", .options = data_table, .options_bytes = sizeof(struct data_options)};

enum mcs_status demo_data_read_config(char *path, struct demo_config *c)
{
    struct data_options o;
    struct arena arena = {0};
    char *argv[] = {"--config", path}, *env[] = {NULL};
    enum mcs_status st = mcs_config_parse_env(&data_verb, 2, argv, env, &arena, &o);
    if (st == MCS_OK) st = mcs_demo_config_check(&o.data);
    if (st == MCS_OK) *c = o.data;
    mcs_arena_free(&arena);
    return st;
}
