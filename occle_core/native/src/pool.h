// Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
// Threads that share the parts of one kernel at a time.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace occle {

class Pool {
public:
    explicit Pool(int64_t threads) {
        for (int64_t worker = 1; worker < threads; worker++) threads_.emplace_back([this, worker] { serve(worker); });
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ending_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    // Calls run(part, worker) for all parts below `count`, in any order; the caller is worker 0 and takes its share.
    template <class Run>
    void each(int64_t count, const Run& run) {
        if (threads_.empty() || count < 2) {
            for (int64_t part = 0; part < count; part++) run(part, 0);
            return;
        }
        {
            std::lock_guard<std::mutex> lock(mutex_);
            call_ = [](const void* what, int64_t part, int64_t worker) { (*static_cast<const Run*>(what))(part, worker); };
            what_ = &run;
            count_ = count;
            next_.store(0, std::memory_order_relaxed);
            busy_ = static_cast<int64_t>(threads_.size());
            turn_++;
        }
        wake_.notify_all();
        work(0);
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
    }

private:
    void work(int64_t worker) {
        for (int64_t part; (part = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(what_, part, worker);
    }

    void serve(int64_t worker) {
        int64_t seen = 0;
        for (;;) {
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return ending_ || turn_ != seen; });
                if (ending_) return;
                seen = turn_;
            }
            work(worker);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--busy_ == 0) done_.notify_one();
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    void (*call_)(const void*, int64_t, int64_t) = nullptr;
    const void* what_ = nullptr;
    int64_t count_ = 0, busy_ = 0, turn_ = 0;
    std::atomic<int64_t> next_{0};
    bool ending_ = false;
};

// Without a pool the caller does all parts itself.
template <class Run>
void each(Pool* pool, int64_t count, const Run& run) {
    if (pool) pool->each(count, run);
    else
        for (int64_t part = 0; part < count; part++) run(part, 0);
}

inline int64_t parts_of(int64_t size, int64_t each) { return (size + each - 1) / each; }

}  // namespace occle
