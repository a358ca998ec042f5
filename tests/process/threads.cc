// SPDX-License-Identifier: MIT
//
// Threads that hand blocks to each other, come and go, only free, and allocate while they end.
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <latch>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/check.h"

using slabscope::test::fill;
using slabscope::test::filled;

namespace {

struct Block {
  void* address;
  size_t bytes;
};

size_t size_of(size_t number) {
  return 1 + number * 37 % 3000;
}

// A bounded ring between one producer and one consumer, who sleep while they wait: beside busy
// processes, who yields gets one turn in each of their time slices, and this waits 100 000 times.
class Ring {
 public:
  void push(Block block) {
    const uint32_t at = pushed_.load(std::memory_order_relaxed);
    popped_.wait(at - kSlots, std::memory_order_acquire);  // full
    slots_[at % kSlots] = block;
    pushed_.store(at + 1, std::memory_order_release);
    pushed_.notify_one();
  }
  Block pop() {
    const uint32_t at = popped_.load(std::memory_order_relaxed);
    pushed_.wait(at, std::memory_order_acquire);  // empty
    const Block block = slots_[at % kSlots];
    popped_.store(at + 1, std::memory_order_release);
    popped_.notify_one();
    return block;
  }

 private:
  static constexpr uint32_t kSlots = 256;
  std::array<Block, kSlots> slots_{};
  std::atomic<uint32_t> pushed_{0};
  std::atomic<uint32_t> popped_{0};
};

// Each thread allocates for the next one, which checks and frees: nobody frees what is his own.
void cross_thread_free() {
  constexpr size_t kThreads = 4;
  constexpr size_t kBlocks = 50000;
  std::array<Ring, kThreads> rings;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&rings, t] {
      for (size_t i = 0; i < kBlocks; ++i) {
        const size_t bytes = size_of(i + t);
        void* block = malloc(bytes);
        SC_EXPECT(block != nullptr);
        fill(block, bytes, static_cast<unsigned>(i));
        rings[t].push({block, bytes});
        const Block got = rings[(t + 1) % kThreads].pop();
        SC_EXPECT(got.bytes == size_of(i + (t + 1) % kThreads));
        SC_EXPECT(filled(got.address, got.bytes, static_cast<unsigned>(i)));
        free(got.address);
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

size_t peak_rss_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss);
}

// 3000 threads one after another, each with some blocks of every size: their memory is used again.
void churn() {
  auto work = [] {
    std::vector<Block> blocks;
    for (size_t i = 0; i < 300; ++i) {
      const size_t bytes = size_of(i * 4) * 4;
      blocks.push_back({malloc(bytes), bytes});
      fill(blocks.back().address, 16, 1);
    }
    for (const Block& block : blocks) {
      free(block.address);
    }
  };
  size_t early = 0;
  for (int round = 0; round < 1500; ++round) {
    std::thread first(work);
    std::thread second(work);
    first.join();
    second.join();
    if (round == 100) {
      early = peak_rss_kib();
    }
  }
  SC_EXPECT(peak_rss_kib() < early + size_t{32} * 1024);
}

// Threads whose first and only use of the heap is a free.
void only_free() {
  for (int round = 0; round < 200; ++round) {
    std::array<void*, 64> blocks{};
    for (size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = malloc(size_of(i * 11));
    }
    pthread_t thread{};
    auto body = [](void* argument) -> void* {
      for (void* block : *static_cast<std::array<void*, 64>*>(argument)) {
        free(block);
      }
      return nullptr;
    };
    SC_EXPECT(pthread_create(&thread, nullptr, body, &blocks) == 0);
    SC_EXPECT(pthread_join(thread, nullptr) == 0);
  }
}

pthread_key_t g_keys[2];
std::atomic<int> g_destructor_rounds{0};

// A key's destructor that allocates, sets its key again and so is called in the next round too.
void destructor(void* value) {
  auto* number = static_cast<int*>(value);
  const int round = *number;
  free(number);
  for (size_t i = 0; i < 100; ++i) {
    void* block = malloc(size_of(i));
    fill(block, size_of(i), 3);
    free(block);
  }
  g_destructor_rounds.fetch_add(1);
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS - 1) {
    auto* again = static_cast<int*>(malloc(sizeof(int)));
    *again = round + 1;
    pthread_setspecific(g_keys[round % 2], again);
  }
}

void key_destructors() {
  for (auto& key : g_keys) {
    SC_EXPECT(pthread_key_create(&key, destructor) == 0);
  }
  constexpr int kThreads = 300;
  for (int i = 0; i < kThreads; ++i) {
    std::thread([] {
      auto* value = static_cast<int*>(malloc(sizeof(int)));
      *value = 0;
      pthread_setspecific(g_keys[1], value);
    }).join();
  }
  SC_EXPECT(g_destructor_rounds == kThreads * PTHREAD_DESTRUCTOR_ITERATIONS);
}

// Destructors of C++ thread_locals that free what they hold and allocate some more.
std::atomic<int> g_locals_destroyed{0};

struct Local {
  std::vector<std::string> words;
  ~Local() {
    std::string joined;
    for (const auto& word : words) {
      joined += word;
    }
    SC_EXPECT(joined.size() == words.size() * 40);
    g_locals_destroyed.fetch_add(1);
  }
};
thread_local Local t_local;

void thread_locals() {
  constexpr int kThreads = 300;
  for (int i = 0; i < kThreads; ++i) {
    std::thread([] { t_local.words.assign(100, std::string(40, 'w')); }).join();
  }
  SC_EXPECT(g_locals_destroyed == kThreads);
}

// What a thread leaves behind when it ends stays valid, and others may free it.
void blocks_outlive_their_thread() {
  std::vector<Block> left;
  for (int round = 0; round < 50; ++round) {
    std::thread([&left] {
      for (size_t i = 0; i < 200; ++i) {
        const size_t bytes = size_of(i);
        left.push_back({malloc(bytes), bytes});
        fill(left.back().address, bytes, static_cast<unsigned>(left.size()));
      }
    }).join();
  }
  for (size_t i = 0; i < left.size(); ++i) {
    SC_EXPECT(filled(left[i].address, left[i].bytes, static_cast<unsigned>(i + 1)));
    free(left[i].address);
  }
}

// Many threads alive at once, all with blocks.
void many_at_once() {
  constexpr size_t kThreads = 400;
  std::vector<std::thread> threads;
  std::latch ready(kThreads);
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&ready, t] {
      void* block = malloc(size_of(t));
      fill(block, size_of(t), static_cast<unsigned>(t));
      ready.arrive_and_wait();
      SC_EXPECT(filled(block, size_of(t), static_cast<unsigned>(t)));
      free(block);
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

void* allocate_until_cancelled(void* started) {
  static_cast<std::binary_semaphore*>(started)->release();
  for (size_t i = 0;; ++i) {
    free(malloc(size_of(i)));  // no cancellation point of its own
    pthread_testcancel();
  }
}

void cancelled_threads() {
  for (int i = 0; i < 100; ++i) {
    std::binary_semaphore started(0);
    pthread_t thread{};
    SC_EXPECT(pthread_create(&thread, nullptr, allocate_until_cancelled, &started) == 0);
    started.acquire();
    SC_EXPECT(pthread_cancel(thread) == 0);
    void* result = nullptr;
    SC_EXPECT(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
  }
}

}  // namespace

int main() {
  slabscope::test::expect_preload();
  cross_thread_free();
  churn();
  only_free();
  key_destructors();
  thread_locals();
  blocks_outlive_their_thread();
  many_at_once();
  cancelled_threads();
  return 0;
}
