/* The installed atlas and the default configuration of the demo's data, between demo_data_open and demo_data_close. */
#ifndef MCS_SUPPORT_DEMO_DATA_H
#define MCS_SUPPORT_DEMO_DATA_H

#include "data/lesions/demo_write.h"

extern struct demo_atlas demo_data_atlas;
extern struct demo_config demo_data_config;
void demo_data_open(void);
void demo_data_close(void);
/* Reads a YAML file of the data's options alone and checks it. */
enum mcs_status demo_data_read_config(char *path, struct demo_config *c);

#endif
