// SPDX-License-Identifier: MIT
//
// Start, fork and end of the shim: the one place that joins slab and diag.
//
//   first malloc ─► options read, scope file open, counters seen outside   (slab_boot)
//   constructor  ─► fork handlers; if stacks are asked for by name: boot, modules, libunwind
//   destructor   ─► what remains is written down, the file says "exited"
//
// Constructors of other libraries, and the loader itself, allocate before our constructor runs: the
// heap serves them from the first call on. A process that never allocates never boots, unless
// SLABSCOPE_TRACK is given: it has nothing to show and pays for two mappings (docs/decisions/0009).
// No step allocates while it holds a lock.
// Locks at fork: slab's, in their order (heap.h). Diag's tables are lock-free.

#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "diag/backtrace.h"
#include "diag/exit_report.h"
#include "preload/exit_wait.h"
#include "preload/group_by.h"
#include "preload/watch.h"
#include "slab/base/sys.h"
#include "slab/cache/cache_table.h"
#include "slab/cache/decay.h"
#include "slab/cache/object_cache.h"
#include "slab/cache/thread_registry.h"
#include "slab/heap.h"

extern "C" SC_WEAK void*
    __libc_stack_end;  // the stack as the kernel laid it out: argc, argv, environment

namespace slabscope {
namespace {

constinit pthread_key_t g_thread_key = 0;
constinit bool g_have_key = false;
constinit bool g_options_read = false;

// The environment: libc's once libc is up; before that where the kernel put it.
const char* const* find_environment() {
  if (environ != nullptr)
    return environ;
  if (&__libc_stack_end == nullptr || __libc_stack_end == nullptr)
    return nullptr;
  const auto* words = static_cast<const uintptr_t*>(__libc_stack_end);
  const uintptr_t argc = words[0];
  // argc arguments and a null follow; anything else is not a stack as we know it.
  if (argc > (1 << 20) || words[argc + 1] != 0)
    return nullptr;
  return reinterpret_cast<const char* const*>(words + argc + 2);
}

// ---- the end of a thread --------------------------------------------------------------------

// Other keys' destructors may still allocate and free: wait until the last round but one before
// the thread's cache goes. The value counts the rounds.
void thread_ending(void* value) {
  const auto round = reinterpret_cast<uintptr_t>(value);
  if (round + 1 < PTHREAD_DESTRUCTOR_ITERATIONS &&
      pthread_setspecific(g_thread_key, reinterpret_cast<void*>(round + 1)) == 0) {
    return;
  }
  g_threads.end();
}

void thread_started() {
  if (g_have_key)
    (void)pthread_setspecific(g_thread_key, reinterpret_cast<void*>(1));
  group_by_start();
}

// ---- fork -----------------------------------------------------------------------------------

void before_fork() {
  const bool booted = g_watch.file.ready();
  ThreadCache* cache = ThreadCache::current();
  heap_lock_for_fork();
  if (booted && cache != nullptr) {
    g_watch.file.fork_prepare(
        reinterpret_cast<const abi::ThreadSlot*>(cache->bins() + Config::kBlockBytes));
  }
}

void after_fork_in_parent() {
  heap_unlock_after_fork();
}

void after_fork_in_child() {
  diag::backtrace_after_fork();
  watch_after_fork();
  heap_reset_after_fork();
}

// ---- start and end of the process -----------------------------------------------------------

// Set-uid programs ignore the environment.
void read_options() {
  if (g_options_read)
    return;
  g_options_read = true;
  if (getauxval(AT_SECURE) == 0)
    parse_options(find_environment(), g_options);
}

void prepare_stacks() {
  const OwnScope own;  // boots; what loading a library for us leaves behind is not the program's
  if (g_options.track == abi::TrackMode::kOff || !g_watch.file.ready())
    return;
  g_watch.modules.add_loaded();
  // Who names the mode wants stacks, and gets libunwind for samples too (docs/decisions/0005).
  diag::backtrace_init(abi::TrackMode::kAll);
}

__attribute__((constructor)) void start() {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  read_options();
  if (g_options.track_named)
    prepare_stacks();
  if (g_watch.file.ready())
    watch_refresh();  // a process that allocates no more from now on is seen as it is
}

diag::CacheRemainder remainder_of(uint32_t id, void*) {
  const Remaining left = remaining_in(id);
  return {left.objects, left.bytes};
}

bool report_wanted() {
  const char* report = g_options.report;
  return __builtin_strcmp(report, "off") != 0 && __builtin_strcmp(report, "auto") != 0;
}

// The process's end is the destruction of all its caches: nothing is freed, what remains is
// reported.
__attribute__((destructor)) void end() {
  if (!g_watch.file.ready())
    return;
  watch_refresh();
  (void)watch_remaining();
  watch_last_peak();
  wait_for_watcher();
  if (report_wanted()) {
    const int fd = diag::open_report(g_options.report);
    if (fd >= 0) {
      (void)diag::write_exit_report(fd, g_watch.file, g_watch.depot, g_caches.limit(), remainder_of,
                                    nullptr);
      diag::close_report(fd);
    }
  }
  g_watch.file.set_exited();
}

}  // namespace

// Called by slab/ under the thread registry's lock, before the first allocation is served.
void slab_boot(Hooks& hooks) {
  read_options();
  set_decay_ms(g_options.decay_ms);
  g_object_caches.set_release_delay(g_options.release_delay_ms);
  if (g_options.debug != nullptr)
    g_object_caches.set_debug(g_options.debug);
  watch_open();
  watch_install(hooks);
  hooks.thread_started = thread_started;
  group_by_install(hooks);
  g_have_key = pthread_key_create(&g_thread_key, thread_ending) == 0;
}

}  // namespace slabscope
