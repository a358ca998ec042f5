// SPDX-License-Identifier: MIT
//
// Watch: what the shim knows of the heap it serves; the owner of diag's objects.
//
//   slab's hooks ──► counters, caches, threads ──► ScopeFile
//                └─► capture ─► StackDepot ─► ObjectTable
//
// Set up by slab_boot() at the first allocation. Every function may be called from any thread's
// slow path. Never allocates from the heap, except that the first capture in a thread may
// (libunwind's thread-local block).

#pragma once

#include "diag/module_table.h"
#include "diag/object_table.h"
#include "diag/scope_file.h"
#include "diag/stack_depot.h"
#include "preload/options.h"
#include "slab/base/hooks.h"

namespace slabscope {

struct Watch {
  diag::ScopeFile file;
  diag::ModuleTable modules;
  diag::StackDepot depot;
  diag::ObjectTable objects;
};

extern constinit Options g_options;
extern constinit Watch g_watch;  // all zero at first: it costs no page until it is used

// Opens the scope file and points the allocator's statistics into it.
void watch_open();
// Fills in the hooks that watch; the others keep their defaults.
void watch_install(Hooks& hooks);
// The part of it for programs' own caches (watch_caches.cc).
void watch_install_caches(Hooks& hooks);
// Whether each object of the cache has a stack, whatever SLABSCOPE_TRACK says.
bool watch_tracks_all(unsigned cache);
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
