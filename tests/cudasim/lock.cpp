/* One lock for the whole simulation, and host threads that wait for one another: a thread blocked in a collective
 * sleeps until another thread has enqueued or ended an operation. */
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "tests/cudasim/sim.h"

namespace sim
{
static std::mutex lock;
static std::condition_variable changed;
static uint64_t n_changes, last_change_ms; /* number of events (notify_threads) so far; time of the last */
static thread_local int depth;
std::vector<bool (*)(bool)> give_up;
int patience_ms = 30000;

struct thread_end { /* announces the end of its host thread */
    std::shared_ptr<host_thread> me = std::make_shared<host_thread>();
    ~thread_end()
    {
        const guard g;
        me->gone = true;
        notify_threads();
    }
};
std::shared_ptr<host_thread> this_host_thread()
{
    static thread_local thread_end end;
    return end.me;
}

bool is_stuck(const host_thread &t)
{
    return t.gone || (t.waits && t.seen == n_changes);
}

guard::guard()
{
    if (depth++ == 0) lock.lock();
}
guard::~guard()
{
    if (--depth == 0) lock.unlock();
}

static uint64_t now_ms()
{
    return (uint64_t)std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

void notify_threads()
{
    n_changes++;
    last_change_ms = now_ms();
    changed.notify_all();
}

waiting::waiting() : since(now_ms())
{
}

bool wait_for_others(const waiting &w)
{
    const std::shared_ptr<host_thread> me = this_host_thread();
    me->waits = true;
    me->seen = n_changes;
    const bool late = now_ms() - std::max(w.since, last_change_ms) > (uint64_t)patience_ms;
    bool more = false;
    for (bool (*f)(bool) : give_up) more = f(late) || more; /* has it failed an operation, so that others can run? */
    if (!more && !late && !give_up.empty()) {
        const uint64_t seen = n_changes;
        std::unique_lock<std::mutex> l(lock, std::adopt_lock);
        const int held = depth;
        depth = 0;
        changed.wait_for(l, std::chrono::milliseconds(20), [seen]() { return n_changes != seen; });
        depth = held;
        l.release();
        more = true;
    }
    me->waits = false;
    return more;
}
} // namespace sim
