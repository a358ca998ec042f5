// SPDX-License-Identifier: MIT
//
// Watch: what the shim knows of the heap it serves; the owner of diag's objects.
//
//   slab's hooks ──► counters, caches, threads ──► ScopeFile, EventRing
//                └─► capture ─► StackDepot ─► ObjectTable
//
// Set up by slab_boot() at the first allocation. Every function may be called from any thread's
// slow path. Never allocates from the heap, except that the first capture in a thread may
// (libunwind's thread-local block).

#pragma once

#include "diag/event_ring.h"
#include "diag/module_table.h"
#include "diag/object_table.h"
#include "diag/peak_recorder.h"
#include "diag/remaining_report.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"
#include "preload/options.h"
#include "slab/base/hooks.h"

namespace slabscope {

struct Watch {
  diag::StackDepot depot;
  diag::ObjectTable objects;
  diag::EventRing events;
  diag::PeakRecorder peak;
  diag::ScopeFile file;       // large, but for its first page hardly touched
  diag::ModuleTable modules;  // the same
};

extern constinit Options g_options;
extern constinit Watch g_watch;  // all zero at first: it costs no page until it is used

// Opens the scope file and points the allocator's statistics into it.
void watch_open();
// Fills in the hooks that watch; the others keep their defaults.
void watch_install(Hooks& hooks);
// The parts of it for programs' own caches (watch_caches.cc), for the ring of events
// (watch_events.cc), and for what tools ask (watch_requests.cc).
void watch_install_caches(Hooks& hooks);
void watch_install_events(Hooks& hooks);
void watch_install_requests(Hooks& hooks);
// What was asked of our parent is not asked of a fork child.
void watch_forget_requests();
// The calling thread's id, without a system call, which a sandbox may refuse by then.
uint32_t own_tid();
// Something happened to the cache of that id (0: to none).
SC_COLD void watch_event(abi::EventKind kind, unsigned cache, uint64_t value = 0,
                         uint64_t other_value = 0);
// Looks whether more is in use than ever (watch_peak.cc): now and then, and at the end.
void watch_peak(uint32_t now_ms);
void watch_last_peak();
void watch_forget_peak();
// The part of it for groups (watch_groups.cc).
void watch_install_groups(Hooks& hooks);
// Tells, where SLABSCOPE_REPORT says, what keeps a cache or a group from being destroyed.
SC_COLD void watch_report_remaining(const diag::RemainingIn& remaining);
// What is left in the caches now: objects and bytes, also written to the header.
struct Remaining {
  uint64_t objects;
  uint64_t bytes;
};
Remaining watch_remaining();
Remaining remaining_in(unsigned id);  // one cache; nothing for the shim's own
// Numbers that are not kept step by step (the allocator's own memory) are brought up to date.
void watch_refresh();

// In a fork child: numbers and a file of its own. Later it may be in a sandbox that forbids files.
void watch_after_fork();

}  // namespace slabscope
