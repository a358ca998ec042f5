// SPDX-License-Identifier: MIT
//
// How often a thread samples.
//
//   set_sampling(interval) ─► g_sampling ─► a thread's next visit ─► adapt_sampling(): draws anew
//
//   samples come faster than kPacedSamples in kPacedMs,
//   or take as long as so many would               ─► thinning_ + 1: later draws have a mean
//                                                       distance twice as long
//   they come a lot slower, or not at all          ─► relax_sampling(): thinning_ falls again
//
// A sample costs two microseconds, or thirty in a large program whose stacks are ever new. One in
// 512 KiB is nothing to a program that also writes what it allocates, and a lot to a loop that
// takes and gives back one page 20 million times a second. So the thread's time bounds its samples,
// by their number and by what they took, and each says by which interval it was drawn.
//
// Invariants:
//   1. A draw keeps its interval (BinSlow::thinning, large_thinning_) until it has hit or is drawn
//      anew: what a sample stands for is 1 / P whatever the pace did meanwhile.
//   2. The pace is judged by samples that were taken, never by where the next one is, and a sample
//      that is due is taken: no object is less likely to be tracked than its weight says.
//   3. Only Config::kSampleInterval is paced. Who asks for another number gets it.

#include "slab/base/clock.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/thread_cache.h"

namespace slabscope {
namespace {

// Samples that come slower than that part of the pace are taken more often.
constexpr uint32_t kSlow = 8;

constinit std::atomic<uint64_t> g_sampling{0};  // changes << 32 | interval

}  // namespace

void set_sampling(uint32_t interval) {
  uint64_t before = g_sampling.load(std::memory_order_relaxed);
  while (!g_sampling.compare_exchange_weak(before, ((before >> 32) + 1) << 32 | interval,
                                           std::memory_order_seq_cst)) {
  }
  request_sampling();
  ThreadCache* mine = ThreadCache::current();
  if (mine != nullptr)
    mine->heed_requests();
}

uint32_t sampling() {
  return static_cast<uint32_t>(g_sampling.load(std::memory_order_relaxed));
}

void ThreadCache::open_sampling() {
  if (sampling_ == 0)
    sampling_ = g_sampling.load(std::memory_order_acquire);
  draw_large();
}

// Samples are drawn with another interval from now on.
void ThreadCache::adapt_sampling() {
  const uint64_t sampling = g_sampling.load(std::memory_order_acquire);
  if (sampling == sampling_)
    return;
  sampling_ = sampling;
  thinning_ = 0;
  draw_large();
  inside_ = true;
  for (unsigned id = Config::kFirstMallocId; id < id_limit(); ++id) {
    if (!has_bin(id))
      continue;
    flush_tracked(id);  // it may be taken in other batches from now on
    start_sampling(id);
    rearm(id);
  }
  inside_ = false;
}

// ---- the pace -------------------------------------------------------------------------------

// A sample was taken.
void ThreadCache::pace_sampling() {
  if (!is_paced() || ++paced_samples_ < Config::kPacedSamples)
    return;
  const auto now_ms = coarse_monotonic_ms();
  const uint32_t took_ms = now_ms - paced_ms_;
  paced_samples_ = 0;
  paced_ms_ = now_ms;
  if (took_ms < Config::kPacedMs && thinning_ < Config::kMaxThinning)
    ++thinning_;
  else if (took_ms > Config::kPacedMs * kSlow && thinning_ > 0)
    --thinning_;
}

// The stack of a sample was captured, in so many nanoseconds: by the wall's clock, as the thread's
// own costs a system call. A thread that was interrupted meanwhile takes a little less afterwards.
void ThreadCache::pace_by_cost(uint64_t took_ns) {
  if (took_ns < 2 * Config::kPacedNs)
    return;
  const uint64_t counts = took_ns / Config::kPacedNs;
  const uint32_t more =
      counts < Config::kMostPaced ? static_cast<uint32_t>(counts) - 1 : Config::kMostPaced - 1;
  // pace_sampling() adds the 1.
  if (paced_samples_ < Config::kPacedSamples)
    paced_samples_ = static_cast<uint8_t>(paced_samples_ + more);
}

// Now and then, while thinned: draws that were made in a hurry would last for long at leisure.
void ThreadCache::relax_sampling(uint32_t now_ms) {
  const uint32_t waited_ms = now_ms - paced_ms_;
  if (waited_ms < Config::kPacedMs * kSlow)
    return;
  // How many times as long as the pace allows the samples of this window took.
  uint64_t slower = uint64_t{waited_ms} * Config::kPacedSamples /
                    (uint64_t{paced_samples_ + 1U} * Config::kPacedMs);
  if (slower < kSlow)
    return;
  for (; slower >= kSlow && thinning_ > 0; slower /= 2)
    --thinning_;
  paced_samples_ = 0;
  paced_ms_ = now_ms;
  draw_large();
  inside_ = true;
  for (unsigned id = Config::kFirstMallocId; id < id_limit(); ++id) {
    // One that is due is taken: it may be why this thread came by at all.
    if (!has_bin(id) || counted(counters_of(bin(id))->allocs) >= slow(id).sample_at)
      continue;
    start_sampling(id);
    rearm(id);
  }
  inside_ = false;
}

// ---- large blocks ---------------------------------------------------------------------------

void ThreadCache::draw_large() {
  large_thinning_ = thinning_;
  large_countdown_ = g_hooks.sample_bytes(&rng_, sample_interval() << thinning_);
}

bool ThreadCache::sample_large(size_t size, uint32_t* interval) {
  if (busy_)
    return false;
  heed_if_asked();
  if (large_countdown_ > size) {
    if (large_countdown_ < kNever)
      large_countdown_ -= size;
    return false;
  }
  *interval = sample_interval() << large_thinning_;
  pace_sampling();
  draw_large();
  return true;
}

}  // namespace slabscope
