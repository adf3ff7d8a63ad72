/* A folder of images with arbitrary names, for test_names.c and test_names_verbs.c. */
#ifndef MCS_SUPPORT_NAMES_H
#define MCS_SUPPORT_NAMES_H

/* Everything at once: ESC, a line end, a quote, a comma, DEL, C1's CSI in UTF-8, and two bytes that are not UTF-8. */
#define NAMES_ODD "-o\x1b[31m\n\",\x7f\xc2\x9b\xff\xfeé"

extern const char *names_folder; /* the folder of shell_open */
void names_open(void);
/* "FOLDER/" and fmt, which has one %s for name; valid for the next three calls. */
const char *names_path(const char *fmt, const char *name);
/* Square images with a bright blob: also good as saliency maps and as masks. */
void names_put_image(const char *fmt, const char *name);
/* The content of a file; valid until the next call. */
char *names_text(const char *name);
/* 1 if the text has a control character other than a line end. */
int names_raw_control(const char *text);

#endif
