#include "infer/nnunet/nnunet_plans.h"

#include "data/io/json.h"
#include "infer/nnunet/nnunet_resample.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BYTES = 1 << 28, MAX_PARENTS = 8 };

/* A plans file while it is read: the configuration, then those that it inherits from. */
struct source {
    const char *path, *name;
    const json_t *root, *chain[MAX_PARENTS];
    int n_chain;
};

/* The value of a key in the configuration or the first one that it inherits from. */
static const json_t *lookup(const struct source *s, const char *key)
{
    for (int i = 0; i < s->n_chain; i++) {
        const json_t *v = json_object_get(s->chain[i], key);
        if (v) return v;
    }
    return NULL;
}

static enum mcs_status find_chain(struct source *s)
{
    const json_t *all = json_object_get(s->root, "configurations");
    const char *name = s->name, *key;
    json_t *value;
    while (name) {
        const json_t *one = json_object_get(all, name);
        if (!json_is_object(one)) {
            char known[512] = "";
            size_t n = 0;
            json_object_foreach((json_t *)all, key, value) if (n < sizeof known) n +=
                (size_t)snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", key);
            return MCS_FAIL(MCS_E_DATA, "%s: has no configuration %s; it has %s", s->path, name, known);
        }
        MCS_REQUIRE(s->n_chain < MAX_PARENTS, MCS_E_DATA, "%s: %s: inherits from itself, or over more than %d steps",
                    s->path, s->name, MAX_PARENTS);
        s->chain[s->n_chain++] = one;
        name = json_string_value(json_object_get(one, "inherits_from"));
    }
    return MCS_OK;
}

static enum mcs_status get_text(const struct source *s, const json_t *v, const char *key, char *dst, int dst_bytes)
{
    MCS_REQUIRE(json_is_string(v), MCS_E_DATA, "%s: %s: has no text %s", s->path, s->name, key);
    MCS_REQUIRE((int)json_string_length(v) < dst_bytes, MCS_E_DATA, "%s: %s: %s is too long", s->path, s->name, key);
    memcpy(dst, json_string_value(v), json_string_length(v) + 1);
    return MCS_OK;
}

/* Three numbers that are 0, 1 and 2 in some order. */
static enum mcs_status get_permutation(const struct source *s, const char *key, int v[3])
{
    const json_t *list = json_object_get(s->root, key);
    int seen = 0;
    for (int i = 0; i < 3; i++) {
        const json_t *e = json_array_get(list, (size_t)i);
        v[i] = json_is_integer(e) && json_integer_value(e) >= 0 && json_integer_value(e) < 3
                   ? (int)json_integer_value(e)
                   : 0;
        seen |= json_is_integer(e) ? 1 << v[i] : 0;
    }
    MCS_REQUIRE(json_array_size(list) == 3 && seen == 7, MCS_E_DATA, "%s: %s is no order of three axes", s->path, key);
    return MCS_OK;
}

static enum mcs_status get_spacing(const struct source *s, struct nnunet_configuration *c)
{
    const json_t *list = lookup(s, "spacing");
    c->n_axes = (int)json_array_size(list);
    MCS_REQUIRE(c->n_axes == 2 || c->n_axes == 3, MCS_E_DATA, "%s: %s: spacing is no list of 2 or 3 numbers", s->path,
                s->name);
    for (int i = 0; i < c->n_axes; i++) {
        const json_t *e = json_array_get(list, (size_t)i);
        c->spacing[i] = json_number_value(e);
        MCS_REQUIRE(json_is_number(e) && c->spacing[i] > 0 && c->spacing[i] < 1e9, MCS_E_DATA,
                    "%s: %s: a spacing that is not above 0", s->path, s->name);
    }
    return MCS_OK;
}

/* function and arguments of the resampling `what` ("data"). */
static enum mcs_status get_resampling(const struct source *s, const char *what, struct nnunet_resampling *r)
{
    char key[64];
    snprintf(key, sizeof key, "resampling_fn_%s", what);
    const char *function = json_string_value(lookup(s, key));
    MCS_REQUIRE(function && !strcmp(function, "resample_data_or_seg_to_shape"), MCS_E_DATA,
                "%s: %s: %s is %s; resample_data_or_seg_to_shape is supported", s->path, s->name, key,
                function ? function : "missing");
    snprintf(key, sizeof key, "resampling_fn_%s_kwargs", what);
    const json_t *o = lookup(s, key), *order = json_object_get(o, "order"), *order_z = json_object_get(o, "order_z"),
                 *force = json_object_get(o, "force_separate_z");
    r->order = json_is_integer(order) ? (int)json_integer_value(order) : -1;
    MCS_REQUIRE(r->order == 1 || (r->order == 3 && !strcmp(what, "data")), MCS_E_DATA,
                "%s: %s: %s: order is %d; 1, or 3 for data, is supported", s->path, s->name, key, r->order);
    MCS_REQUIRE(!order_z || (json_is_integer(order_z) && json_integer_value(order_z) == 0), MCS_E_DATA,
                "%s: %s: %s: order_z other than 0 is not supported", s->path, s->name, key);
    r->force_separate = !force || json_is_null(force) ? NNUNET_SEPARATE_AUTO : json_is_true(force);
    return MCS_OK;
}

static enum mcs_status get_channel(const struct source *s, int i, struct nnunet_channel *ch)
{
    static const char *const names[NNUNET_N_NORMS] = {
#define X(name, text) [NNUNET_NORM_##name] = text,
        NNUNET_NORM_LIST(X)
#undef X
    };
    char number[16];
    const json_t *mask = json_array_get(lookup(s, "use_mask_for_norm"), (size_t)i);
    const char *name = json_string_value(json_array_get(lookup(s, "normalization_schemes"), (size_t)i));
    int norm = 0;
    while (name && norm < NNUNET_N_NORMS && strcmp(name, names[norm]) != 0) norm++;
    MCS_REQUIRE(name && norm < NNUNET_N_NORMS, MCS_E_DATA,
                "%s: %s: normalization_schemes: channel %d has %s, which is not supported", s->path, s->name, i,
                name ? name : "none");
    MCS_REQUIRE(json_is_boolean(mask), MCS_E_DATA, "%s: %s: use_mask_for_norm: channel %d has no truth value", s->path,
                s->name, i);
    ch->norm = (enum nnunet_norm)norm;
    ch->use_mask = json_is_true(mask);
    if (ch->norm != NNUNET_NORM_CT) return MCS_OK;
    snprintf(number, sizeof number, "%d", i);
    const json_t *o = json_object_get(json_object_get(s->root, "foreground_intensity_properties_per_channel"), number);
    const char *const keys[] = {"mean", "std", "percentile_00_5", "percentile_99_5"};
    double *const values[] = {&ch->mean, &ch->std, &ch->percentile_00_5, &ch->percentile_99_5};
    for (int k = 0; k < 4; k++) {
        const json_t *v = json_object_get(o, keys[k]);
        MCS_REQUIRE(json_is_number(v), MCS_E_DATA,
                    "%s: foreground_intensity_properties_per_channel: channel %d has no %s", s->path, i, keys[k]);
        *values[k] = json_number_value(v);
    }
    return MCS_OK;
}

static enum mcs_status parse(struct source *s, struct nnunet_configuration *c)
{
    const char *preprocessor;
    MCS_TRY(find_chain(s));
    MCS_REQUIRE((int)strlen(s->name) < (int)sizeof c->name, MCS_E_DATA, "%s: %s: the name is too long", s->path,
                s->name);
    memcpy(c->name, s->name, strlen(s->name) + 1);
    preprocessor = json_string_value(lookup(s, "preprocessor_name"));
    MCS_REQUIRE(preprocessor && !strcmp(preprocessor, "DefaultPreprocessor"), MCS_E_DATA,
                "%s: %s: preprocessor_name is %s; DefaultPreprocessor is supported", s->path, s->name,
                preprocessor ? preprocessor : "missing");
    MCS_TRY(
        get_text(s, lookup(s, "data_identifier"), "data_identifier", c->data_identifier, sizeof c->data_identifier));
    MCS_REQUIRE(*c->data_identifier && *c->data_identifier != '.' && !strchr(c->data_identifier, '/'), MCS_E_DATA,
                "%s: %s: data_identifier cannot name a folder", s->path, s->name);
    MCS_TRY(get_text(s, json_object_get(s->root, "image_reader_writer"), "image_reader_writer", c->reader,
                     sizeof c->reader));
    MCS_TRY(get_permutation(s, "transpose_forward", c->transpose));
    MCS_TRY(get_permutation(s, "transpose_backward", c->back));
    MCS_TRY(get_spacing(s, c));
    MCS_TRY(get_resampling(s, "data", &c->data));
    MCS_TRY(get_resampling(s, "seg", &c->labels));
    const size_t n = json_array_size(lookup(s, "normalization_schemes"));
    MCS_REQUIRE(n > 0 && n <= NNUNET_MAX_CHANNELS, MCS_E_DATA, "%s: %s: normalization_schemes has %zu channels",
                s->path, s->name, n);
    c->n_channels = (int)n;
    for (int i = 0; i < c->n_channels; i++) MCS_TRY(get_channel(s, i, &c->channels[i]));
    return MCS_OK;
}

enum mcs_status mcs_nnunet_configuration_read(const char *path, const char *name, struct nnunet_configuration *c)
{
    json_t *root;
    *c = (struct nnunet_configuration){0};
    MCS_TRY(mcs_json_read(path, MAX_BYTES, JSON_REJECT_DUPLICATES, &root));
    struct source s = {.path = path, .name = name, .root = root};
    const enum mcs_status st = parse(&s, c);
    json_decref(root);
    return st;
}
