/* Streams, events and graphs inside the simulation: what an operation is, and how one comes into a stream or a graph.
 */
#ifndef CUDASIM_STREAM_H
#define CUDASIM_STREAM_H

#include <deque>
#include <memory>
#include <thread>

#include "tests/cudasim/sim.h"

namespace sim
{
typedef std::vector<uint32_t> clock_vector; /* by stream: the last operation surely done */

/* What an operation waits for beside its stream and events: the other ranks of a collective. */
struct gate {
    bool at_head = false;        /* everything before it is done; set anew at each look */
    uint32_t after = 0, own = 0; /* an operation that must be done first; its own */
    virtual bool open() = 0;     /* may it run now? */
    virtual void dropped() = 0;  /* it never will: its device has failed */
    virtual ~gate()
    {
    }
};
struct work {
    std::function<cudaError_t()> run;
    std::shared_ptr<gate> wait;
};
/* Called once where work is put into a stream, and once at each launch of a graph that it was captured into. */
typedef std::function<work()> issue;

struct operation {
    uint32_t id;
    std::vector<uint32_t> after; /* operations of other streams that must be done */
    clock_vector clock;
    const std::string *name;
    work what;
};
struct node {
    std::string name;
    issue make;
    std::vector<size_t> after; /* nodes before it */
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
    bool blocking; /* ordered with the default stream */
    bool destroyed;
    std::deque<sim::operation> queue;
    sim::clock_vector last; /* of its newest operation */
    uint32_t last_id;
    std::shared_ptr<sim::capture> into; /* while it is captured */
    std::vector<size_t> tips;           /* nodes that the next one follows */
};
struct CUevent_st {
    uint32_t id; /* 0: never recorded */
    sim::clock_vector clock;
    bool timing;
    int device;
    std::shared_ptr<sim::capture> into; /* where it was recorded last, if in a capture */
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
CUstream_st *resolve(cudaStream_t s); /* NULL: no such stream */
const std::vector<CUstream_st *> &all_streams();
bool is_event(cudaEvent_t e);
operation &enqueue(CUstream_st *s, const std::string &name, work w);
/* Into the stream, or into the graph that it is captured into. id, where given: of the operation; 0 for a node. */
cudaError_t submit(CUstream_st *s, const std::string &name, issue make, uint32_t *id = NULL);
cudaError_t submit_run(CUstream_st *s, const std::string &name, std::function<cudaError_t()> run, uint32_t *id = NULL);
/* Until it is done, or nothing can go on; then the host knows of it. */
void wait_for(uint32_t id, const clock_vector &clock);
void wait_for_stream(CUstream_st *s);
void wait_for_device(int device);

/* --- captures (graph.cpp) --- */
cudaError_t capture_node(CUstream_st *s, const std::string &name, issue make);
cudaError_t capture_record(CUevent_st *e, CUstream_st *s);
cudaError_t capture_wait(CUstream_st *s, CUevent_st *e);
/* A call that must not meet a capture: reported, the capture invalid, the error returned; else cudaSuccess. */
cudaError_t forbidden_in_capture(const char *call);                  /* by the mode of the captures */
cudaError_t forbidden_on_captured(CUstream_st *s, const char *call); /* by this stream's own */
cudaError_t forbidden_on_device(int device, const char *call);       /* by any of the device */
cudaError_t legacy_in_capture(const CUstream_st *s,
                              const char *call); /* the default stream would wait for a captured one */
cudaError_t captured_event(const CUevent_st *e, const char *call);
#define SIM_TRY(call)                                                                                                  \
    do {                                                                                                               \
        const cudaError_t sim_error = (call);                                                                          \
        if (sim_error != cudaSuccess) return sim_error;                                                                \
    } while (0)
} // namespace sim

#endif
