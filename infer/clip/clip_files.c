/* The files of a CLIP model's folder that are kept as they are: configuration and tokenizer. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "infer/clip/clip_parts.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 64 << 20 };

static const char *const names[] = {"open_clip_config.json",
                                    "vocab.txt",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "config.json",
                                    "special_tokens_map.json",
                                    "preprocessor_config.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "bpe_simple_vocab_16e6.txt.gz",
                                    "bpe_simple_vocab_16e6.txt"};

enum mcs_status mcs_clip_files_read(const char *folder, struct clip_files *files)
{
    char path[MCS_PATH_BYTES];
    memset(files, 0, sizeof *files);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, names[i]));
        if (!mcs_file_exists(path)) continue;
        MCS_TRY(mcs_file_read(path, FILE_BYTES, &files->v[files->n].bytes, &files->v[files->n].n_bytes));
        files->v[files->n++].name = names[i];
    }
    return MCS_OK;
}

enum mcs_status mcs_clip_files_write(const struct clip_files *files, const char *folder)
{
    char path[MCS_PATH_BYTES];
    for (int i = 0; i < files->n; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, files->v[i].name));
        MCS_TRY(mcs_file_write(path, files->v[i].bytes, files->v[i].n_bytes));
    }
    return MCS_OK;
}

void mcs_clip_files_free(struct clip_files *files)
{
    for (int i = 0; i < files->n; i++) free(files->v[i].bytes);
    memset(files, 0, sizeof *files);
}
