/* Streams, events and graphs of the simulation: operations, and how they are enqueued in a stream or captured into a
 * graph. */
#ifndef CUDASIM_STREAM_H
#define CUDASIM_STREAM_H

#include <deque>
#include <memory>
#include <thread>

#include "tests/cudasim/sim.h"

namespace sim
{
typedef std::vector<uint32_t> clock_vector; /* vector clock: by stream, the last operation that happens before */

/* A further condition beside stream order and events: an NCCL operation waits for the other ranks. */
struct gate {
    bool at_head = false;        /* all earlier operations are done; updated before each call of open() */
    uint32_t after = 0, own = 0; /* after: id of an operation that must end first; own: id of the operation itself */
    virtual bool open() = 0;
    virtual void cancelled() = 0; /* it will never run: its device has failed */
    virtual ~gate()
    {
    }
};
struct work {
    std::function<cudaError_t()> run;
    std::shared_ptr<gate> wait;
};
/* Makes the work of one execution: called when it is enqueued in a stream, and at each launch of a graph that it was
 * captured into. */
typedef std::function<work()> work_maker;

struct operation {
    uint32_t id;
    std::vector<uint32_t> after; /* operations of other streams that must end first */
    clock_vector clock;
    const std::string *name;
    work what;
};
struct node {
    std::string name;
    work_maker make;
    std::vector<size_t> after; /* indices of the nodes it depends on */
    int device;
};
struct capture {
    CUgraph_st *graph;
    CUstream_st *origin;
    enum cudaStreamCaptureMode mode;
    std::thread::id by;
    bool invalid, ended;
};
} // namespace sim

struct CUstream_st {
    int index, device;
    bool blocking; /* synchronises with the legacy default stream */
    bool destroyed;
    std::deque<sim::operation> queue;
    sim::clock_vector last; /* clock of its newest operation */
    uint32_t last_id;
    std::shared_ptr<sim::capture> into; /* the capture that the stream is part of; NULL: none */
    std::vector<size_t> tips;           /* nodes that the next one depends on */
};
struct CUevent_st {
    uint32_t id; /* 0: never recorded */
    sim::clock_vector clock;
    bool timing;
    int device;
    std::shared_ptr<sim::capture> into; /* the capture of its last record; NULL: none */
    std::vector<size_t> tips;
};
struct CUgraph_st {
    std::vector<sim::node> nodes;
};

namespace sim
{
void join(clock_vector &a, const clock_vector &b);
bool is_done(uint32_t id);
CUstream_st *new_stream(int device, bool blocking);
void drop_stream(CUstream_st *s);
CUstream_st *default_stream_of(int device);
CUstream_st *resolve(cudaStream_t s); /* NULL: not a stream */
const std::vector<CUstream_st *> &all_streams();
bool is_event(cudaEvent_t e);
operation &enqueue(CUstream_st *s, const std::string &name, work w);
/* Enqueues in the stream, or adds a node to the graph that the stream is captured into. *id, if id is not NULL: the
 * operation's id; 0 for a node. */
cudaError_t submit(CUstream_st *s, const std::string &name, work_maker make, uint32_t *id = NULL);
cudaError_t submit_run(CUstream_st *s, const std::string &name, std::function<cudaError_t()> run, uint32_t *id = NULL);
/* Waits until operation id is done or nothing can go on; then `clock` happens before the host's next calls. */
void wait_for(uint32_t id, const clock_vector &clock);
void wait_for_stream(CUstream_st *s);
void wait_for_device(int device);

/* --- captures (graph.cpp) --- */
cudaError_t capture_node(CUstream_st *s, const std::string &name, work_maker make);
cudaError_t capture_record(CUevent_st *e, CUstream_st *s);
cudaError_t capture_wait(CUstream_st *s, CUevent_st *e);
/* Calls that a capture forbids: the call is reported, the capture invalidated and the error returned; otherwise
 * cudaSuccess. */
cudaError_t forbidden_in_capture(const char *call);                  /* depending on the captures' modes */
cudaError_t forbidden_on_captured(CUstream_st *s, const char *call); /* if this stream is captured */
cudaError_t forbidden_on_device(int device, const char *call);       /* if any stream of the device is captured */
cudaError_t legacy_in_capture(const CUstream_st *s,
                              const char *call); /* if the legacy default stream would wait for a captured stream */
cudaError_t captured_event(const CUevent_st *e, const char *call);
#define SIM_TRY(call)                                                                                                  \
    do {                                                                                                               \
        const cudaError_t sim_error = (call);                                                                          \
        if (sim_error != cudaSuccess) return sim_error;                                                                \
    } while (0)
} // namespace sim

#endif
