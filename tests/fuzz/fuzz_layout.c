/* Names and shapes of tensors, and the configuration beside them: the first line is the JSON of every configuration
 * file, each further line a tensor, "NAME<tab>SIZE,SIZE ...". The seeds are tests/golden/layouts.tsv with a
 * configuration. */
#include "data/io/file.h"
#include "data/weights/weight_write.h"
#include "infer/convert/convert.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>
#include <unistd.h>

enum { MAX_TENSORS = 256, MAX_VALUES = 1 << 14 };

/* Writes the lines as safetensors; returns 0 where that is refused. */
static int put_tensors(char *lines, const char *path)
{
    static float values[MAX_VALUES];
    static struct weight_out out[MAX_TENSORS];
    int n = 0;
    for (char *line = strtok(lines, "\n"); line && n < MAX_TENSORS; line = strtok(NULL, "\n")) {
        char *shape = strchr(line, '\t');
        if (!shape) continue;
        *shape++ = '\0';
        out[n] =
            (struct weight_out){.name = line, .type = n % 7 == 6 ? MCS_ARRAY_F16 : MCS_ARRAY_F32, .values = values};
        for (char *end = shape; *shape && out[n].nd < MCS_ARRAY_MAX_ND; shape = *end == ',' ? end + 1 : end) {
            out[n].dims[out[n].nd++] = strtol(shape, &end, 10);
            if (end == shape) break;
        }
        const int64_t count = mcs_array_count(out[n].nd, out[n].dims);
        n += count >= 0 && count <= MAX_VALUES;
    }
    return fuzz_ended(mcs_safetensors_write(path, n, out, 0, NULL));
}

static void read_view(const struct weight_file *f, enum weight_layout to)
{
    static uint8_t bytes[8 * 3 * MAX_VALUES];
    struct weight_file *view;
    if (!fuzz_ended(mcs_weight_view(f, to, &view))) return;
    FUZZ_REQUIRE(mcs_weight_file_count(view) <= 3 * mcs_weight_file_count(f), "%d tensors",
                 mcs_weight_file_count(view));
    for (int i = 0; i < mcs_weight_file_count(view); i++) {
        const struct weight_tensor *t = mcs_weight_file_at(view, i);
        FUZZ_REQUIRE(mcs_array_count(t->nd, t->dims) == t->n_values, "%s: %lld values", t->name,
                     (long long)t->n_values);
        FUZZ_REQUIRE(t->n_bytes <= (int64_t)sizeof bytes, "%s: %lld bytes", t->name, (long long)t->n_bytes);
        FUZZ_REQUIRE(mcs_weight_file_read_raw(view, t, bytes) == MCS_OK, "%s", mcs_error_message());
        fuzz_use(bytes, (size_t)t->n_bytes);
    }
    mcs_weight_file_close(view);
}

static void convert_to(const char *path, const char *to)
{
    char dst[512];
    struct arena a = {0};
    struct convert_result r;
    snprintf(dst, sizeof dst, "%s/dst", fuzz_folder());
    const struct convert_options o = {.src = path, .dst = dst, .to = to, .dry_run = 1};
    const enum mcs_status st = mcs_convert(&o, &a, &r);
    fuzz_ended(st == MCS_E_NOINPUT ? MCS_E_DATA : st); /* no configuration */
    mcs_arena_free(&a);
}

/* A path in the input's folder, which is removed at the end: other fuzzers read configurations too. */
static const char *inside(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/layout%s%s", fuzz_folder(), *name ? "/" : "", name);
    return path;
}

FUZZ(layout)
{
    static const char *const files[] = {"open_clip_config.json", "config.json", "preprocessor_config.json",
                                        "f.safetensors"};
    char *text = fuzz_as_text(data, size), *lines = text + strcspn(text, "\n");
    struct weight_file *f;
    struct layout_report r;
    FUZZ_REQUIRE(mcs_folder_make(inside("")) == MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < 3; i++)
        FUZZ_REQUIRE(mcs_file_write(inside(files[i]), text, lines - text) == MCS_OK, "%s", mcs_error_message());
    if (put_tensors(lines, inside(files[3])) && fuzz_ended(mcs_weight_file_open(inside(files[3]), &f))) {
        for (int to = 0; to <= LAYOUT_N; to++) {
            read_view(f, (enum weight_layout)to);
            FUZZ_REQUIRE(mcs_weight_layout_check(f, (enum weight_layout)to, &r) == MCS_OK, "%s", mcs_error_message());
            fuzz_use(r.text, strlen(r.text));
        }
        mcs_weight_file_close(f);
        for (int to = 0; to < LAYOUT_N; to++) convert_to(inside(files[3]), mcs_layout_word((enum weight_layout)to));
    }
    for (int i = 0; i < 4; i++) remove(inside(files[i]));
    rmdir(inside(""));
    free(text);
}
