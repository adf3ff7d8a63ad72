/* Rules of docs/architecture.md, checked on the source tree: which folder may include which, each library header in one
 * file alone, unique file names, short network files, documents that name files which exist. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILES = 2000, PATH_BYTES = 512, MODEL_LINES = 400 };

struct tree {
    int n;
    char (*paths)[PATH_BYTES]; /* relative to the root */
};

/* Layers, lowest first. A file belongs to the first row with a pattern that is its path, its path without extension, or
 * a folder containing it; it may include the listed layers, and its layer. */
static const struct layer {
    const char *name, *patterns, *may_include;
} layers[] = {
    {"records", "kernels/image/records", ""}, /* plain structs that lie in device memory */
    {"kernels", "kernels", "records"},
    {"base", "engine/base", ""},
    {"cli", "engine/cli", "base"},             /* the command line: only verbs and the top may include it */
    {"image", "engine/image", "base records"}, /* algorithms on arrays of the host */
    {"tensor", "engine/tape/tensor", "base"},
    {"op", "engine/tape/op engine/tape/ops", "base tensor"},
    {"graph", "engine/tape/graph engine/tape/amp engine/backend engine/device_ops",
     "base tensor op records"}, /* backend.h: what graph and steps ask of a device */
    {"grad", "engine/tape/grad", "base tensor op graph"},
    {"plan", "engine/tape/plan", "base tensor op graph"},
    {"exec", "engine/tape/exec", "base tensor op graph grad plan"},
    {"cpu", "engine/cpu", "base tensor op graph plan engine image records"},
    {"cuda", "engine/cuda", "base tensor op graph plan exec engine dist kernels records"},
    {"devices", "engine/devices", "base tensor op graph cuda dist engine"}, /* of cuda the module's interface */
    {"dist", "engine/dist", "base tensor op graph plan exec engine"},
    {"model", "engine/model", "base tensor op graph grad plan exec engine"},
    {"engine", "engine",
     "base tensor op graph grad plan exec records"}, /* the rest: parameters, optimizers, checkpoints */
    {"data_verbs", "data/cmd", "base cli tensor data"},
    {"infer_verbs", "infer/cmd",
     "base cli tensor op graph grad plan exec engine devices dist model data infer image records"},
    {"train_verbs", "train/cmd",
     "base cli tensor op graph grad plan exec engine devices dist model data infer train image records"},
    {"data", "data", "base tensor"},
    {"infer", "infer", "base tensor op graph grad plan exec engine devices dist model data image records"},
    {"train", "train", "base tensor op graph grad plan exec engine devices dist model data infer image records"},
    {"top", "main tests bench", "*"},
};
enum { N_LAYERS = sizeof layers / sizeof *layers };

/* Headers of libraries. Only one file may include each, so that a library can be replaced in one place. */
static const char *const vendors[] = {"oneapi/dnnl", "dnnl",  "hdf5",   "spng",     "png.h",  "turbojpeg", "jpeglib",
                                      "yaml",        "zlib",  "cublas", "cudnn",    "nccl",   "mpi.h",     "libdeflate",
                                      "tiff",        "curl/", "dcmtk",  "utf8proc", "openssl"};
/* jansson's values and accessors are used wherever JSON is read; a wrapper would repeat the same calls. */
static const char *const vendors_anywhere[] = {"jansson"};

/* "a b c" has the word w. */
static int has_word(const char *words, const char *w)
{
    const size_t n = strlen(w);
    for (const char *at = words; (at = strstr(at, w)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return 1;
    return 0;
}

static const struct layer *layer_of(const char *path)
{
    char part[PATH_BYTES];
    for (int i = 0; i < N_LAYERS; i++) {
        snprintf(part, sizeof part, "%s", path);
        char *dot = strrchr(part, '.');
        if (dot && !strchr(dot, '/')) *dot = '\0';
        for (;;) {
            if (has_word(layers[i].patterns, part)) return &layers[i];
            char *slash = strrchr(part, '/');
            if (!slash) break;
            *slash = '\0';
        }
    }
    return NULL;
}

/* 1 where `path` may include `target`, both relative to the root. */
static int allowed(const char *path, const char *target)
{
    const struct layer *a = layer_of(path), *b = layer_of(target);
    if (!a || !b) return 0;
    return a == b || strcmp(a->may_include, "*") == 0 || has_word(a->may_include, b->name);
}

static int ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static int is_source(const char *path)
{
    static const char *const endings[] = {".c", ".h", ".def", ".cpp", ".cu", ".cuh"};
    for (int i = 0; i < 6; i++)
        if (ends_with(path, endings[i])) return 1;
    return 0;
}

static void walk(struct tree *t, const char *folder)
{
    char full[2 * PATH_BYTES];
    cr_assert(snprintf(full, sizeof full, "%s/%s", MCS_SOURCE_DIR, folder) < (int)sizeof full);
    DIR *d = opendir(full);
    cr_assert(d, "cannot read %s", full);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || strncmp(e->d_name, "build", 5) == 0 || strcmp(e->d_name, "runs") == 0) continue;
        char path[PATH_BYTES];
        const int n = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", e->d_name);
        cr_assert(n < PATH_BYTES, "path too long: %s", path);
        cr_assert(snprintf(full, sizeof full, "%s/%s", MCS_SOURCE_DIR, path) < (int)sizeof full);
        struct stat s;
        if (lstat(full, &s) != 0 || S_ISLNK(s.st_mode)) continue;
        if (S_ISDIR(s.st_mode) && strcmp(path, "shared") != 0) walk(t, path);
        if (S_ISREG(s.st_mode) && is_source(path)) {
            cr_assert(t->n < MAX_FILES, "more than %d sources", MAX_FILES);
            memcpy(t->paths[t->n++], path, PATH_BYTES);
        }
    }
    closedir(d);
}

static struct tree read_tree(void)
{
    struct tree t = {0, calloc(MAX_FILES, PATH_BYTES)};
    cr_assert(t.paths);
    walk(&t, "");
    cr_assert(t.n > 20, "only %d sources under %s", t.n, MCS_SOURCE_DIR);
    return t;
}

static FILE *open_source(const char *path)
{
    char full[2 * PATH_BYTES];
    cr_assert(snprintf(full, sizeof full, "%s/%s", MCS_SOURCE_DIR, path) < (int)sizeof full);
    FILE *f = fopen(full, "r");
    cr_assert(f, "cannot read %s", full);
    return f;
}

/* The name in `#include "name"` or `#include <name>`, and which of the two; 0 for another line. */
static int parse_include(const char *line, char name[PATH_BYTES], char *kind)
{
    line += strspn(line, " \t");
    if (*line++ != '#') return 0;
    line += strspn(line, " \t");
    if (strncmp(line, "include", 7) != 0) return 0;
    line += 7 + strspn(line + 7, " \t");
    if (*line != '"' && *line != '<') return 0;
    *kind = *line++;
    const size_t n = strcspn(line, "\">");
    if (n >= PATH_BYTES) return 0;
    memcpy(name, line, n);
    name[n] = '\0';
    return 1;
}

static int exists(const char *path)
{
    char full[2 * PATH_BYTES];
    struct stat s;
    cr_assert(snprintf(full, sizeof full, "%s/%s", MCS_SOURCE_DIR, path) < (int)sizeof full);
    return stat(full, &s) == 0;
}

Test(arrows, layers_by_example)
{
    cr_expect(allowed("engine/cuda/launch.c", "kernels/gelu.cuh"));
    cr_expect(allowed("kernels/pointwise/gelu.cu", "kernels/common/device.cuh"));
    cr_expect_not(allowed("kernels/pointwise/gelu.cu", "engine/tape/tensor.h"));
    cr_expect_not(allowed("kernels/pointwise/gelu.cu", "tests/cudasim/cudasim.h"));
    cr_expect_not(allowed("engine/tape/graph.c", "kernels/common/kernels.h"));
    cr_expect_not(allowed("engine/cuda/launch.c", "tests/cudasim/cudasim.h"));
    cr_expect(allowed("tests/cudasim/probes.cu", "kernels/common/device.cuh"));
    cr_expect_not(allowed("engine/cpu/conv.c", "kernels/gelu.cuh"));
    cr_expect(allowed("engine/tape/grad.c", "engine/tape/graph.h"));
    cr_expect_not(allowed("engine/tape/graph.c", "engine/tape/grad.h"));
    cr_expect_not(allowed("engine/tape/tensor.h", "engine/tape/op.h"));
    cr_expect_not(allowed("engine/tape/grad.c", "engine/tape/plan.h"));
    cr_expect(allowed("engine/tape/exec.c", "engine/tape/plan.h"));
    cr_expect_not(allowed("engine/tape/plan.c", "engine/tape/exec.h"));
    cr_expect(allowed("engine/model/vit.c", "engine/tape/graph.h"));
    cr_expect_not(allowed("engine/model/vit.c", "engine/cpu/simd.h"));
    cr_expect_not(allowed("engine/tape/exec.c", "engine/model/vit.h"));
    cr_expect_not(allowed("engine/weights.c", "data/io/file.h"));
    cr_expect(allowed("data/image/image.c", "engine/base/status.h"));
    cr_expect_not(allowed("data/image/image.c", "engine/tape/graph.h"));
    cr_expect(allowed("infer/clip/saliency.c", "data/image/image.h"));
    cr_expect_not(allowed("infer/clip/saliency.c", "train/loop.h"));
    cr_expect(allowed("train/loop.c", "infer/metrics/metrics.h"));
    cr_expect(allowed("tests/ref/ref_gelu.c", "train/loop.h"));
    cr_expect_not(allowed("stray.c", "engine/base/status.h"));
    cr_expect(allowed("infer/cmd/cmd_sam.c", "engine/cli/config.h"));
    cr_expect(allowed("engine/cli/yaml.c", "engine/base/input.h"));
    cr_expect_not(allowed("engine/cli/yaml.c", "engine/devices.h"));
    static const char *const below[] = {"engine/base/log.c",     "engine/devices.c",      "engine/cpu/cpu.c",
                                        "data/run/run_folder.c", "infer/sam/sam_model.h", "train/run/cycle.h"};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) cr_expect_not(allowed(below[i], "engine/cli/config.h"));
    cr_expect_not(allowed("infer/segment.c", "infer/cmd/segment_cases.h"));
}

Test(arrows, includes_follow_the_layers)
{
    struct tree t = read_tree();
    int seen = 0;
    for (int i = 0; i < t.n; i++) {
        FILE *f = open_source(t.paths[i]);
        char line[4096], optional[4096] = "", name[PATH_BYTES], kind;
        for (int no = 1; fgets(line, sizeof line, f); no++) {
            if (strstr(line, "__has_include")) memcpy(optional, line, sizeof line); /* may be missing */
            if (!parse_include(line, name, &kind) || kind != '"') continue;
            if (!exists(name) && strstr(optional, name)) continue;
            if (strcmp(name, "verbs.def") == 0 && strcmp(t.paths[i], "main.c") == 0) continue; /* made by CMake */
            if (strcmp(name, "cases.def") == 0 && ends_with(t.paths[i], "/support_cases.c")) continue; /* likewise */
            char target[2 * PATH_BYTES];
            snprintf(target, sizeof target, "%s", name);
            if (!exists(target)) { /* relative to the including file */
                const char *slash = strrchr(t.paths[i], '/');
                snprintf(target, sizeof target, "%.*s%s", slash ? (int)(slash - t.paths[i] + 1) : 0, t.paths[i], name);
            }
            cr_expect(exists(target), "%s:%d: \"%s\" is not in the tree", t.paths[i], no, name);
            cr_expect(allowed(t.paths[i], target), "%s:%d: must not include %s (layer '%s' uses: %s)", t.paths[i], no,
                      target, layer_of(t.paths[i]) ? layer_of(t.paths[i])->name : "none",
                      layer_of(t.paths[i]) ? layer_of(t.paths[i])->may_include : "");
            seen++;
        }
        fclose(f);
    }
    cr_expect(seen > 20, "only %d includes seen", seen);
    free(t.paths);
}

Test(arrows, a_vendor_header_is_included_once)
{
    struct tree t = read_tree();
    enum { N = sizeof vendors / sizeof *vendors };
    int owner[N];
    for (int v = 0; v < N; v++) owner[v] = -1;
    for (int i = 0; i < t.n; i++) {
        if (strncmp(t.paths[i], "tests/", 6) == 0) continue;
        FILE *f = open_source(t.paths[i]);
        char line[4096], name[PATH_BYTES], kind;
        while (fgets(line, sizeof line, f)) {
            if (!parse_include(line, name, &kind) || kind != '<') continue;
            cr_expect(!strstr(name, "criterion"), "%s: Criterion outside tests/", t.paths[i]);
            const int json = strncmp(name, vendors_anywhere[0], strlen(vendors_anywhere[0])) == 0;
            cr_expect(!json || strchr(t.paths[i], '/'), "%s: JSON is read in the folders, not at the top", t.paths[i]);
            for (int v = 0; v < N; v++) {
                if (strncmp(name, vendors[v], strlen(vendors[v])) != 0) continue;
                if (owner[v] < 0) owner[v] = i;
                cr_expect(owner[v] == i, "%s: includes <%s>, which belongs to %s alone", t.paths[i], name,
                          t.paths[owner[v]]);
            }
        }
        fclose(f);
    }
    free(t.paths);
}

/* Variables of the process. Each file that has one, and why it cannot belong to an object. */
static const struct {
    const char *path, *why;
} process_state[] = {
    {"engine/base/log.c", "the log sink"},
    {"engine/base/memory.c", "--max-memory limits the process"},
    {"engine/base/newfile.c", "temporary files found in folders, each of which is listed once"},
    {"engine/base/stop.c", "signals reach the process"},
    {"engine/tape/exec.c", "--trace: the trace file, one as standard output is"},
    {"engine/cpu/cpu.c", "table of the ops, filled once"},
    {"engine/cpu/onednn.c", "oneDNN's engine, opened once"},
    {"engine/cuda/cuda.c", "table of the ops, filled once"},
    {"engine/cuda/vendor_dnn.c", "functions of a library loaded once"},
    {"engine/cuda/vendor_nccl.c", "functions of a library loaded once"},
    {"data/image/window.c", "--window: the values that images show black and white"},
    {"data/io/hdf5_read.c", "HDF5 allows one thread at a time"},
    {"data/run/run_folder.c", "the open runs, among which the store finds that of a file"},
    {"data/run/run_record.c", "cache of the records read last"},
};

/* Does a line define a variable that is neither constant nor of one thread? */
static int is_variable(const char *line)
{
    return strncmp(line, "static ", 7) == 0 && !strstr(line, "const ") && !strstr(line, "_Thread_local ") &&
           !strstr(line, "inline ") && line[strcspn(line, "(=;{")] != '(';
}

Test(arrows, no_other_variables_of_the_process)
{
    cr_expect(is_variable("static int x;\n") && is_variable("static struct {\n") &&
              is_variable("static int x = f(1);\n"));
    cr_expect_not(is_variable("static int f(int x)\n") || is_variable("static const int x = 1;\n") ||
                  is_variable("    static int local;\n") || is_variable("static _Thread_local int x;\n"));
    enum { N = sizeof process_state / sizeof *process_state };
    int seen[N] = {0};
    struct tree t = read_tree();
    for (int i = 0; i < t.n; i++) {
        const char *path = t.paths[i], *end = strrchr(path, '.');
        if (strcmp(end, ".c") != 0 || strncmp(path, "bench/", 6) == 0 || strncmp(path, "tests/", 6) == 0 ||
            strncmp(path, "data/h5read/", 12) == 0 || strncmp(path, "data/imageread/", 15) == 0) /* programs */
            continue;
        FILE *f = open_source(path);
        char line[4096];
        int listed = -1;
        for (int k = 0; k < N; k++)
            if (strcmp(process_state[k].path, path) == 0) listed = k;
        for (int no = 1; fgets(line, sizeof line, f); no++) {
            if (!is_variable(line)) continue;
            cr_expect(listed >= 0, "%s:%d: a variable of the process: %s", path, no, line);
            if (listed >= 0) seen[listed] = 1;
        }
        fclose(f);
    }
    for (int k = 0; k < N; k++) cr_expect(seen[k], "%s has no variable any more", process_state[k].path);
    free(t.paths);
}

/* Only kernels/common/device.cuh distinguishes compilers; other kernel files have neither the test nor constructs that
 * need it. */
Test(arrows, kernels_know_no_compiler)
{
    static const char *const words[] = {"__CUDACC__", "__CUDA_ARCH__", "__shared__", "__syncthreads",
                                        "<<<",        "asm",           "printf("};
    struct tree t = read_tree();
    int seen = 0, lines = 0;
    for (int i = 0; i < t.n; i++) {
        if (strncmp(t.paths[i], "kernels/", 8) != 0 || strcmp(t.paths[i], "kernels/common/device.cuh") == 0) continue;
        FILE *f = open_source(t.paths[i]);
        char line[4096];
        for (lines = 1; fgets(line, sizeof line, f); lines++)
            for (size_t w = 0; w < sizeof words / sizeof *words; w++)
                cr_expect_not(strstr(line, words[w]), "%s:%d: '%s' belongs to kernels/common/device.cuh", t.paths[i],
                              lines, words[w]);
        fclose(f);
        seen++;
    }
    cr_expect(seen > 2, "only %d files of kernels seen", seen);
    free(t.paths);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Except an op's files, which have the same name in each backend's folder. */
Test(arrows, file_names_are_unique)
{
    struct tree t = read_tree();
    for (int i = 0; i < t.n; i++)
        for (int j = 0; j < i; j++)
            cr_expect(
                (strncmp(base_name(t.paths[i]), "op_", 3) == 0 && strncmp(base_name(t.paths[j]), "op_", 3) == 0) ||
                    strcmp(base_name(t.paths[i]), base_name(t.paths[j])) != 0,
                "two files of one name: %s and %s", t.paths[j], t.paths[i]);
    free(t.paths);
}

Test(arrows, network_files_are_short)
{
    struct tree t = read_tree();
    for (int i = 0; i < t.n; i++) {
        if (strncmp(t.paths[i], "engine/model/", 13) != 0) continue;
        FILE *f = open_source(t.paths[i]);
        int lines = 0;
        for (int c; (c = fgetc(f)) != EOF;) lines += c == '\n';
        fclose(f);
        cr_expect(lines <= MODEL_LINES, "%s: %d lines, one network file has at most %d", t.paths[i], lines,
                  MODEL_LINES);
    }
    free(t.paths);
}

/* 1 where the first n bytes of a word in backticks are a path that must exist, such as "engine/tape/op.c". Patterns (*)
 * and placeholders (NAME) are none. */
static int is_path(const char *word, size_t n)
{
    static const char *const folders[] = {"bench/", "configs/", "data/",  "docs/", "engine/",
                                          "infer/", "kernels/", "tests/", "train/"};
    for (size_t i = 0; i < n; i++)
        if (strchr("*{ $<", word[i])) return 0;
    for (size_t i = 0; i + 4 <= n; i++)
        if (!strncmp(word + i, "NAME", 4)) return 0;
    for (size_t k = 0; k < sizeof folders / sizeof *folders; k++)
        if (!strncmp(word, folders[k], strlen(folders[k]))) return 1;
    return 0;
}

Test(arrows, documents_name_files_that_exist)
{
    static const char *const documents[] = {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "tests/README.md"};
    for (size_t d = 0; d < sizeof documents / sizeof *documents; d++) {
        FILE *f = open_source(documents[d]);
        char line[4096];
        int seen = 0;
        for (int no = 1; fgets(line, sizeof line, f); no++)
            for (const char *at = strchr(line, '`'), *end; at && (end = strchr(at + 1, '`'));
                 at = strchr(end + 1, '`')) {
                const size_t n = (size_t)(end - at - 1);
                char path[PATH_BYTES];
                if (n >= sizeof path || !is_path(at + 1, n)) continue;
                snprintf(path, sizeof path, "%.*s", (int)n, at + 1);
                cr_expect(exists(path), "%s:%d: %s is not in the tree", documents[d], no, path);
                seen++;
            }
        cr_expect(seen > 0 || d == 0, "%s: no path seen", documents[d]);
        fclose(f);
    }
}
