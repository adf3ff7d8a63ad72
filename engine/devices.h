/* Opens the device named by --device. The program links no GPU library: the CUDA backend is a module beside the
 * program, libmcsam_cuda.so or libmcsam_cudasim.so (its simulation), opened on first use; MCSAM_MODULES names another
 * folder. */
#ifndef MCS_DEVICES_H
#define MCS_DEVICES_H

#include "engine/backend.h"
#include "engine/cli/config.h"

/* Opens the device of --device, --gpu and --threads, and sets the precision of new graphs by --precision: `auto` is
 * bf16 on a GPU and fp32 on the CPU. E_DEVICE: not built, no driver, no GPU, no such index, bf16 on the CPU. Close it
 * by mcs_device_close. */
enum mcs_status mcs_device_open(const struct mcs_common *c, struct device *d);
/* The same on GPU `index`, whatever --gpu says: for ranks that are threads of one process. */
enum mcs_status mcs_device_open_at(const struct mcs_common *c, int index, struct device *d);
/* Checks whether the device could be opened, without opening it. */
enum mcs_status mcs_device_check(const struct mcs_common *c);

/* The number of devices of a kind on this machine, and a line of text about each (index counted from 0). E_DEVICE with
 * the reason. */
enum mcs_status mcs_device_count(enum mcs_device_kind kind, int *n);
enum mcs_status mcs_device_describe(enum mcs_device_kind kind, int index, char *text, int text_bytes);

#endif
