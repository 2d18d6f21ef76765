// The C interface: the choice of the instruction set, and the threads.

#include "call.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

// The entry point of the OpenMP runtime that PyTorch loads. Calling it directly shares one thread pool with PyTorch's
// operators, and this library needs no OpenMP runtime of its own. The symbol is weak: it is null if no runtime is
// loaded, and then the calling thread does all the work.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);

namespace {

// Instruction sets from the least to the most preferred. Null: not compiled in, or not supported by this processor.
const VoloSet* set(int index) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (index == 2) return avx512 ? &volo_avx512 : nullptr;
    if (index == 1) return avx2 ? &volo_avx2 : nullptr;
    return index == 0 ? &volo_portable : nullptr;
#elif defined(__aarch64__)
    return index == 0 ? &volo_neon : nullptr;
#else
    return index == 0 ? &volo_portable : nullptr;
#endif
}

struct Work {
    const VoloCall* call;
    const VoloSet* set;
    std::int64_t tasks;
    char* scratch;
    std::size_t scratch_each;
    std::atomic<std::int64_t> next_task, next_worker;
};

void work(void* data) {
    Work& job = *static_cast<Work*>(data);
    char* scratch = job.scratch + job.next_worker.fetch_add(1) * job.scratch_each;
    for (std::int64_t task; (task = job.next_task.fetch_add(1)) < job.tasks;) job.set->run(*job.call, task, scratch);
}

// The smallest number of bands that keeps all threads evenly busy. A band has at least four window rows, because each
// band computes some windows of the band above again.
std::int64_t bands(std::int64_t batch, std::int64_t h, std::int64_t threads) {
    const std::int64_t most = h / 4 > 1 ? h / 4 : 1;
    for (std::int64_t count = 1; count < most; ++count)
        if (batch * count >= 4 * threads || batch * count % threads == 0) return count;
    return most;
}

}  // namespace

#define VOLO_EXPORT extern "C" __attribute__((visibility("default")))

// Returns the name of an instruction set, from the least preferred (0) up, or null if it cannot run here.
VOLO_EXPORT const char* volo_outlook_set(int index) {
    const VoloSet* found = set(index);
    return found ? found->name : nullptr;
}

// Returns whether several threads can be used.
VOLO_EXPORT int volo_outlook_has_threads() { return GOMP_parallel != nullptr; }

// Runs one call on up to `threads` threads. Returns the bytes of scratch memory used, -1 if they could not be
// allocated, or -2 if the instruction set cannot run here.
VOLO_EXPORT std::int64_t volo_outlook_run(const void* value, const void* logits, const void* grad, void* sums,
                                          void* grad_logits, const std::int64_t* sizes, double scale,
                                          std::int64_t dtype, std::int64_t threads, int set_index) {
    const VoloSet* chosen = set(set_index);
    if (!chosen) return -2;
    VoloCall call = {value, logits, grad, sums, grad_logits, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
                     sizes[5], sizes[6], sizes[7], sizes[8], sizes[9], dtype, scale, 1};
    if (threads < 1 || !GOMP_parallel) threads = 1;
    call.chunks = bands(call.batch, call.h, threads);
    const std::int64_t tasks = call.batch * call.chunks;
    if (threads > tasks) threads = tasks > 1 ? tasks : 1;
    constexpr std::size_t kLine = 64;
    const std::size_t each = (chosen->scratch_bytes(call) / kLine + 2) * kLine;  // cache lines apart: no false sharing
    void* block = std::malloc(each * threads + kLine);
    if (!block) return -1;
    char* aligned = static_cast<char*>(block) + (kLine - reinterpret_cast<std::uintptr_t>(block) % kLine);
    Work job = {&call, chosen, tasks, aligned, each, {0}, {0}};
    if (threads > 1) {
        GOMP_parallel(work, &job, static_cast<unsigned>(threads), 0);
    } else {
        work(&job);
    }
    std::free(block);
    return static_cast<std::int64_t>(each) * threads;
}
