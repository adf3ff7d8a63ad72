/* Opens a device. The program links no GPU library: the CUDA backend is a module, libmcsam_cuda.so or
 * libmcsam_cudasim.so (its simulation), opened on first use. It is looked for beside the program, or beside the shared
 * object that holds the engine; MCSAM_MODULES names another folder. */
#ifndef MCS_DEVICES_H
#define MCS_DEVICES_H

#include "engine/backend.h"
#include "engine/base/device_options.h"

/* Opens a device; d->activations follows from o->precision. E_DEVICE: not built, no driver, no GPU, no such index,
 * bf16 on the CPU. Close it by mcs_device_close. */
enum mcs_status mcs_device_open(const struct mcs_device_options *o, struct device *d);
/* Checks whether the device could be opened, without opening it. */
enum mcs_status mcs_device_check(const struct mcs_device_options *o);

/* The number of devices of a kind on this machine, and a line of text about each (index counted from 0). E_DEVICE with
 * the reason. */
enum mcs_status mcs_device_count(enum mcs_device_kind kind, int *n);
enum mcs_status mcs_device_describe(enum mcs_device_kind kind, int index, char *text, int text_bytes);

#endif
