#include "infer/convert/convert.h"

#include "data/io/file.h"
#include "data/text/bpe.h"
#include "data/weights/weight_write.h"
#include "engine/base/text_cut.h"
#include "infer/convert/convert_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char WEIGHT_ENDINGS[] = ".safetensors;.pt;.pth;.bin";
/* Names that a new folder would not have: kinds of files that are asked for by mistake. */
static const char OTHER_ENDINGS[] =
    ".ckpt;.h5;.hdf5;.keras;.onnx;.gguf;.ggml;.npz;.npy;.pkl;.msgpack;.tflite;.pb;.json;"
    ".txt;.zip;.tar;.gz;.safetensor;.st";

/* ---- source ---- */

/* The weights of a file or a folder, and the folder in which their configuration lies. */
static enum mcs_status find_source(const char *src, char path[MCS_PATH_BYTES], char folder[MCS_PATH_BYTES])
{
    static const char *const names[] = {"open_clip_model.safetensors",
                                        "open_clip_pytorch_model.bin",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "sam.safetensors",
                                        NULL};
    const char *name;
    if (mcs_folder_exists(src)) {
        MCS_TRY(mcs_path(folder, "%s", src));
        return mcs_weight_folder_find(src, names, path);
    }
    MCS_TRY(mcs_path(path, "%s", src));
    return mcs_path_split(path, folder, &name);
}

/* The words that are targets of a family, "a, b or c"; for messages. */
static const char *targets_of(enum weight_family family, struct arena *a)
{
    const char *text = "";
    for (int k = 0; k < LAYOUT_N; k++)
        if (mcs_layout_family((enum weight_layout)k) == family)
            text = mcs_arena_printf(a, "%s%s%s", text, *text ? ", " : "", mcs_layout_word((enum weight_layout)k));
    return family == FAMILY_SAM ? text : mcs_arena_printf(a, "%s, " CONVERT_CHECKPOINT, text);
}

static int is_checkpoint(const struct convert_options *o)
{
    return o->to && !strcmp(o->to, CONVERT_CHECKPOINT);
}

/* Which layout `file` has, and which it gets. */
static enum mcs_status choose_layouts(const struct convert_options *o, const struct weight_file *file, struct arena *a,
                                      struct convert_result *r)
{
    r->from = mcs_weight_layout(file);
    const enum weight_family family = mcs_layout_family(r->from);
    MCS_REQUIRE(
        r->from != LAYOUT_UNKNOWN, MCS_E_DATA,
        "%s: its %d tensors have the names of no layout that is known: open_clip, MedCLIP-SAMv2, Hugging Face's "
        "CLIPModel and SamModel, segment-anything (the first is %s); `mcsam info` says which model a file is",
        mcs_weight_file_path(file), mcs_weight_file_count(file),
        mcs_weight_file_count(file) ? mcs_weight_file_at(file, 0)->name : "none");
    r->to = !o->to                                     ? r->from
            : is_checkpoint(o) && family != FAMILY_SAM ? mcs_layout_reference(r->from)
                                                       : mcs_layout_by_word(family, o->to);
    MCS_REQUIRE(r->to != LAYOUT_UNKNOWN, MCS_E_USAGE, "--to %s: %s has %s; that model becomes %s", o->to,
                mcs_weight_file_path(file), mcs_layout_text(r->from), targets_of(family, a));
    return MCS_OK;
}

static enum mcs_status check_tensors(const struct weight_file *file, const struct convert_result *r)
{
    struct layout_report report;
    MCS_TRY(mcs_weight_layout_check(file, r->to, &report));
    MCS_REQUIRE(!report.missing && !report.misshapen && !report.extra, MCS_E_DATA, "%s: not %s%s%s: %s",
                mcs_weight_file_path(file), mcs_layout_text(r->from), r->to == r->from ? "" : " that can become ",
                r->to == r->from ? "" : mcs_layout_text(r->to), report.text);
    return MCS_OK;
}

/* ---- target ---- */

/* 1 where the path is one of the file's parts, under whatever name. */
static int is_input(const char *path, const struct weight_file *file)
{
    struct stat a, b;
    if (stat(path, &a) != 0) return 0;
    for (int i = 0; i < mcs_weight_file_n_parts(file); i++)
        if (stat(mcs_weight_file_part(file, i), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino) return 1;
    return stat(mcs_weight_file_path(file), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static enum mcs_status check_folder(const char *dst)
{
    struct file_list list;
    if (!mcs_folder_exists(dst)) return MCS_OK;
    MCS_TRY(mcs_folder_list(dst, NULL, &list));
    const int n = list.n;
    mcs_file_list_free(&list);
    MCS_REQUIRE(!n, MCS_E_USAGE, "%s: has files already; want a new or empty folder", dst);
    return MCS_OK;
}

/* The file of weights in a folder. */
static const char *weights_name(enum weight_layout to, int torch)
{
    switch (mcs_layout_family(to)) {
    case FAMILY_SAM:
        if (to == LAYOUT_SEGMENT_ANYTHING) return torch ? "sam.pth" : "sam.safetensors";
        return torch ? "pytorch_model.bin" : "model.safetensors";
    case FAMILY_CLIP_BERT:
    case FAMILY_CLIP_OPENAI:
    case FAMILY_N: break;
    }
    if (to == LAYOUT_MEDCLIP_SAMV2 || to == LAYOUT_HUGGINGFACE_CLIP)
        return torch ? "pytorch_model.bin" : "model.safetensors";
    return torch ? "open_clip_pytorch_model.bin" : "open_clip_model.safetensors";
}

/* Path and format of the weights; dst_folder is "" where dst is a file. */
static enum mcs_status choose_target(struct convert_job *job, const struct weight_file *file, int *torch)
{
    const struct convert_options *o = job->options;
    const int is_file = mcs_file_has_ending(o->dst, WEIGHT_ENDINGS) && !mcs_folder_exists(o->dst);
    MCS_REQUIRE(!mcs_file_has_ending(o->dst, OTHER_ENDINGS) || mcs_folder_exists(o->dst), MCS_E_USAGE,
                "%s: files of this kind are not written: want a name that ends in one of %s, or a folder", o->dst,
                WEIGHT_ENDINGS);
    const int ending_torch = is_file && !mcs_file_has_ending(o->dst, ".safetensors");
    const int usual = is_file ? ending_torch : job->result->to == LAYOUT_SEGMENT_ANYTHING;
    *torch = o->format ? !strcmp(o->format, "torch") : usual;
    MCS_REQUIRE(!is_file || *torch == ending_torch, MCS_E_USAGE, "--format %s: %s ends otherwise", o->format, o->dst);
    MCS_REQUIRE(!is_checkpoint(o) || (is_file && *torch), MCS_E_USAGE,
                "--to " CONVERT_CHECKPOINT ": %s: want a file that ends in .pt, as open_clip's training writes it",
                o->dst);
    job->dst_folder = is_file ? "" : o->dst;
    job->result->weights =
        is_file ? o->dst : mcs_arena_printf(job->arena, "%s/%s", o->dst, weights_name(job->result->to, *torch));
    MCS_TRY(mcs_arena_status(job->arena));
    MCS_REQUIRE(!is_input(job->result->weights, file), MCS_E_USAGE,
                "%s: is the input, which is not overwritten: choose another name", job->result->weights);
    if (is_file) return MCS_OK;
    MCS_REQUIRE(!mcs_file_exists(o->dst), MCS_E_USAGE, "%s: is a file; want a folder, or a name that ends in one of %s",
                o->dst, WEIGHT_ENDINGS);
    return check_folder(o->dst);
}

/* Copies those of the files (NULL-ended) that the source's folder has; returns their number in *n. */
static enum mcs_status copy_files(struct convert_job *job, const char *const *names, int *n)
{
    enum { FILE_BYTES = 64 << 20 };
    char path[MCS_PATH_BYTES], *bytes;
    int64_t n_bytes;
    *n = 0;
    for (int i = 0; names[i]; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", job->src_folder, names[i]));
        if (!mcs_file_exists(path)) continue;
        MCS_TRY(mcs_file_read(path, FILE_BYTES, &bytes, &n_bytes));
        job->result->files[job->result->n_files++] = names[i];
        ++*n;
        enum mcs_status st = mcs_path(path, "%s/%s", job->dst_folder, names[i]);
        if (st == MCS_OK && !job->options->dry_run) st = mcs_file_write(path, bytes, n_bytes);
        free(bytes);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static int has_file(const struct convert_result *r, const char *name)
{
    for (int i = 0; i < r->n_files; i++)
        if (!strcmp(r->files[i], name)) return 1;
    return 0;
}

/* vocab.json and merges.txt from whatever form of OpenAI's tokenizer the source has. A folder without one, or with
 * another model's, gets a note. */
static enum mcs_status put_merges(struct convert_job *job)
{
    struct convert_result *r = job->result;
    struct bpe *bpe = NULL;
    const int ids = mcs_convert_size(job, "token_embedding.weight", 0);
    if (mcs_bpe_open_folder(job->src_folder, &bpe) != MCS_OK || mcs_bpe_n_ids(bpe) != ids) {
        mcs_error_clear();
        mcs_bpe_close(bpe);
        r->note =
            "the source's folder has no tokenizer of transformers: put vocab.json and merges.txt into the new one";
        return MCS_OK;
    }
    const enum mcs_status st = job->options->dry_run ? MCS_OK : mcs_bpe_write_folder(bpe, job->dst_folder);
    mcs_bpe_close(bpe);
    MCS_TRY(st);
    if (!has_file(r, "vocab.json")) r->files[r->n_files++] = "vocab.json";
    if (!has_file(r, "merges.txt")) r->files[r->n_files++] = "merges.txt";
    return MCS_OK;
}

/* Configuration and tokenizer. A layout that does not change keeps its files, byte for byte. */
static enum mcs_status put_files(struct convert_job *job)
{
    static const char *const tokenizer[] = {"vocab.txt",
                                            "vocab.json",
                                            "merges.txt",
                                            "bpe_simple_vocab_16e6.txt.gz",
                                            "tokenizer.json",
                                            "tokenizer_config.json",
                                            "special_tokens_map.json",
                                            NULL},
                             *const config[] = {"open_clip_config.json", "config.json", "preprocessor_config.json",
                                                "sam_config.json", NULL};
    struct convert_result *r = job->result;
    const int sam = mcs_layout_family(r->to) == FAMILY_SAM;
    int n = 0;
    if (r->from == r->to) {
        MCS_TRY(copy_files(job, config, &n));
        if (!n) r->note = "no configuration lies beside the source: none was written";
    } else {
        MCS_TRY(sam ? mcs_convert_sam_config(job) : mcs_convert_clip_config(job));
    }
    if (sam) return MCS_OK;
    MCS_TRY(copy_files(job, tokenizer, &n));
    if (r->to == LAYOUT_HUGGINGFACE_CLIP && !has_file(r, "tokenizer.json") &&
        !(has_file(r, "vocab.json") && has_file(r, "merges.txt")))
        MCS_TRY(put_merges(job));
    if (mcs_layout_family(r->to) == FAMILY_CLIP_BERT && !has_file(r, "tokenizer.json") && !has_file(r, "vocab.txt"))
        r->note = "the source's folder has no tokenizer: put vocab.txt or tokenizer.json into the new one";
    return MCS_OK;
}

/* Removes the files that a failed conversion has put into its folder, so that the same command can run again. */
static void remove_folder(const struct convert_job *job, int made)
{
    char path[MCS_PATH_BYTES];
    for (int i = 0; i < job->result->n_files; i++) {
        const int n = snprintf(path, sizeof path, "%s/%s", job->dst_folder, job->result->files[i]);
        if (n < (int)sizeof path) (void)unlink(path);
    }
    if (made) (void)rmdir(job->dst_folder);
}

/* Makes the folder once everything is known to be right, so that a refusal leaves nothing behind. */
static enum mcs_status put_folder(struct convert_job *job)
{
    const struct convert_options *o = job->options;
    struct convert_options dry = *o;
    dry.dry_run = 1;
    job->options = &dry;
    const enum mcs_status st = put_files(job);
    job->options = o;
    if (st != MCS_OK || o->dry_run) return st;
    job->result->n_files = 0;
    MCS_TRY(mcs_folder_make(o->dst));
    return put_files(job);
}

/* ---- weights ---- */

static enum mcs_status put_weights(struct convert_job *job, const struct weight_file *view, int torch)
{
    static const char *const meta[][2] = {{"format", "pt"}, {"mcsam", "converted by mcsam " MCS_VERSION}};
    const struct convert_options *o = job->options;
    struct convert_result *r = job->result;
    const int n = r->n_tensors;
    struct weight_out *out = mcs_arena_alloc(job->arena, ((size_t)n + 1) * sizeof *out);
    MCS_REQUIRE(out, MCS_E_NOMEM, "%s: no memory for a list of %d tensors", r->weights, n);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(view, i);
        const int wide = t->type == MCS_ARRAY_F32 || t->type == MCS_ARRAY_F64;
        out[i].name = is_checkpoint(o) ? mcs_arena_printf(job->arena, "module.%s", t->name) : t->name;
        out[i].type = o->half && wide ? MCS_ARRAY_F16 : t->type;
        out[i].nd = t->nd;
        memcpy(out[i].dims, t->dims, sizeof t->dims);
        out[i].file = view;
        out[i].source = t;
    }
    MCS_TRY(mcs_arena_status(job->arena));
    if (o->dry_run) return MCS_OK;
    return torch ? mcs_torch_write(r->weights, n, out, is_checkpoint(o) ? "state_dict" : NULL)
                 : mcs_safetensors_write(r->weights, n, out, 2, meta);
}

/* ---- the conversion ---- */

/* `file` is open; `model`: a view in the reference names. */
static enum mcs_status convert_open(struct convert_job *job, const struct weight_file *file)
{
    struct convert_result *r = job->result;
    struct weight_file *view;
    int torch;
    MCS_TRY(check_tensors(file, r));
    MCS_TRY(choose_target(job, file, &torch));
    const int new_folder = *job->dst_folder && !mcs_folder_exists(job->dst_folder);
    MCS_TRY(mcs_weight_view(file, r->to, &view));
    r->n_tensors = mcs_weight_file_count(view);
    for (int i = 0; i < r->n_tensors; i++) r->n_values += mcs_weight_file_at(view, i)->n_values;
    enum mcs_status st = *job->dst_folder ? put_folder(job) : MCS_OK;
    if (st == MCS_OK) st = put_weights(job, view, torch);
    if (st != MCS_OK && *job->dst_folder && !job->options->dry_run) remove_folder(job, new_folder);
    mcs_weight_file_close(view);
    return st;
}

enum mcs_status mcs_convert(const struct convert_options *o, struct arena *a, struct convert_result *r)
{
    char path[MCS_PATH_BYTES], folder[MCS_PATH_BYTES];
    struct weight_file *file, *model = NULL;
    struct convert_job job = {.options = o, .arena = a, .src_folder = folder, .dst_folder = "", .result = r};
    *r = (struct convert_result){0};
    MCS_TRY(find_source(o->src, path, folder));
    MCS_TRY(mcs_weight_file_open(path, &file));
    enum mcs_status st = choose_layouts(o, file, a, r);
    if (st == MCS_OK) st = mcs_weight_view(file, mcs_layout_reference(r->from), &model);
    job.model = model;
    if (st == MCS_OK) st = convert_open(&job, file);
    mcs_weight_file_close(model);
    mcs_weight_file_close(file);
    return st;
}
