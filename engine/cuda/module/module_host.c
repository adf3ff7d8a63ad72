/* The engine's functions inside a module: each calls the host's. Linked into modules only, where the engine is not. */
#include "engine/base/log.h"
#include "engine/cuda/host_api.h"
#include "engine/dist/comm.h"
#include "engine/dist/rendezvous.h"
#include "engine/optim.h"

static const struct host_api *host;

void mcs_module_attach(const struct host_api *api)
{
    host = api;
}

enum mcs_status mcs_fail(enum mcs_status st, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    host->fail(st, file, line, fmt, ap);
    va_end(ap);
    return st;
}

enum mcs_status mcs_trace(enum mcs_status st, const char *file, int line)
{
    return host->trace(st, file, line);
}

const char *mcs_error_message(void)
{
    return host->error_message();
}

void mcs_error_clear(void)
{
    host->error_clear();
}

double mcs_seconds(void)
{
    return host->seconds();
}

uint32_t mcs_rng_below(struct mcs_rng r, uint32_t index, uint32_t n)
{
    return host->rng_below(r, index, n);
}

double mcs_optim_decimal(float x)
{
    return host->optim_decimal(x);
}

enum mcs_status mcs_comm_lost(struct comm *c, const char *happened)
{
    return host->comm_lost(c, happened);
}

int mcs_rendezvous_lost(struct rendezvous *m, double heartbeat_timeout_s, char *what, size_t n)
{
    return host->rendezvous_lost(m, heartbeat_timeout_s, what, n);
}
