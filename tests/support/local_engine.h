/* The function of liblocal_engine.so (local_engine.c). */
#ifndef MCS_LOCAL_ENGINE_H
#define MCS_LOCAL_ENGINE_H

/* Opens a simulated GPU, sends values there and back. Returns a status; message: the error, "" without one. */
int local_engine_use(int gpu, char *message, int message_bytes);

#endif
