/* The engine's functions that a module calls. A module has no copy of the engine and relies on no exported symbol, so
 * that the engine may be in a program or in a shared object that was loaded with RTLD_LOCAL: whoever opens a module
 * gives it this table. */
#ifndef MCS_HOST_API_H
#define MCS_HOST_API_H

#include "engine/base/rng.h"
#include "engine/base/status.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct comm;
struct rendezvous;

/* Members are the functions mcs_NAME; fail is mcs_vfail. */
struct host_api {
    enum mcs_status (*fail)(enum mcs_status st, const char *file, int line, const char *fmt, va_list ap);
    enum mcs_status (*trace)(enum mcs_status st, const char *file, int line);
    const char *(*error_message)(void);
    void (*error_clear)(void);
    double (*seconds)(void);
    uint32_t (*rng_below)(struct mcs_rng r, uint32_t index, uint32_t n);
    double (*optim_decimal)(float x);
    enum mcs_status (*comm_lost)(struct comm *c, const char *happened);
    int (*rendezvous_lost)(struct rendezvous *m, double heartbeat_timeout_s, char *what, size_t n);
};

/* A module's symbol `mcs_module_attach`: sets the table. Called once, before any function of struct cuda_module. */
void mcs_module_attach(const struct host_api *host);

#endif
