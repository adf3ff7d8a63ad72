/* Shared by the files of a CLIP model. */
#ifndef MCS_CLIP_PARTS_H
#define MCS_CLIP_PARTS_H

#include "data/io/json.h"
#include "infer/clip/clip_model.h"

/* Writes folder/open_clip_config.json. */
enum mcs_status mcs_clip_config_write(const char *folder, const struct clip_config *c);
/* 1 where the configuration is open_clip's: it names a timm or Hugging Face model, or has the keys of OpenAI's towers.
 */
int mcs_clip_is_open_clip(const json_t *root);
/* Reads open_clip's layout into c, which holds BiomedCLIP's sizes. E_DATA: names the key that is not supported. */
enum mcs_status mcs_clip_open_clip_read(const char *path, const char *folder, const json_t *root,
                                        struct clip_config *c);
/* open_clip's own towers, OpenAI's (clip_openai.c). E_DATA: names the key that is not supported. */
enum mcs_status mcs_clip_openai_vision(const char *path, const json_t *vision, int quick_gelu, struct clip_config *c);
enum mcs_status mcs_clip_openai_text(const char *path, const json_t *text, int quick_gelu, struct clip_config *c);
/* Hugging Face's CLIP, or MedCLIP-SAMv2's port of BiomedCLIP: config.json of the folder and preprocessor_config.json,
 * where there is one (clip_hugging_face.c). E_DATA: names the key that is not supported. */
enum mcs_status mcs_clip_hugging_face_read(const char *folder, struct clip_config *c);
/* Reads mcsam's own keys of the two towers; objects may be NULL. E_DATA: an unknown key, or not a number, by name. */
enum mcs_status mcs_clip_sizes_read(const char *path, const json_t *vision, const json_t *text, struct clip_config *c);
/* E_DATA: tokenizer_config.json of the folder, if there is one, asks for another tokenizer; names the key. */
enum mcs_status mcs_clip_tokenizer_config_check(const char *folder);
/* Reads the configuration and tokenizer files of a folder, those that there are. Freed by _free, also after failure. */
enum mcs_status mcs_clip_files_read(const char *folder, struct clip_files *files);
enum mcs_status mcs_clip_files_write(const struct clip_files *files, const char *folder);
void mcs_clip_files_free(struct clip_files *files);
/* Frees the compiled graphs and their memory. */
void mcs_clip_sessions_close(struct clip_model *m);

#endif
