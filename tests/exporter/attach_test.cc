// SPDX-License-Identifier: MIT

#include "exporter/source/attach.h"

#include <gtest/gtest.h>

#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

const Cache* find_cache(const Snapshot& snapshot, std::string_view name) {
  for (const Cache& cache : snapshot.caches) {
    if (cache.name == name) {
      return &cache;
    }
  }
  return nullptr;
}

TEST(Attach, CopiesWhoAndWhat) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.pid(77).comm("redis").app("cache").header().window_base = 0x1000000;
  const ScopeFile file = builder.write(scratch);
  const Result<Snapshot> snapshot = attach(file.path());
  ASSERT_TRUE(snapshot) << snapshot.failure().message;
  EXPECT_EQ(snapshot->target.pid, 77u);
  EXPECT_EQ(snapshot->target.comm, "redis");
  EXPECT_EQ(snapshot->target.app, "cache");
  EXPECT_EQ(snapshot->target.exe, "/usr/bin/demo");
  EXPECT_EQ(snapshot->target.shim_version, "0.1.0");
  EXPECT_EQ(snapshot->target.window_base, 0x1000000u);
  EXPECT_EQ(snapshot->target.track_mode, abi::TrackMode::kAll);
  EXPECT_NE(snapshot->target.file.inode, 0u);
}

TEST(Attach, SumsAllSlotsEndedOnesTooAndWrapsOneThreadsDifference) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.add_cache(5, "malloc-64", 64);
  builder.add_cache(900, "session", 192);
  const uint32_t ended = builder.add_thread("worker", abi::ThreadState::kEnded);
  const uint32_t unused = builder.add_thread("gone", abi::ThreadState::kFree);
  builder.count(0, 5, 100, 10);
  builder.count(ended, 5, 0, 60);  // frees what another thread allocated
  builder.count(ended, 900, 7, 3);
  builder.count(unused, 5, 1000, 0);
  const ScopeFile file = builder.write(scratch);
  const Result<Snapshot> snapshot = attach(file.path());
  ASSERT_TRUE(snapshot);
  ASSERT_EQ(snapshot->caches.size(), 2u);
  const Cache* small = find_cache(*snapshot, "malloc-64");
  ASSERT_NE(small, nullptr);
  EXPECT_EQ(small->allocations, 100u);
  EXPECT_EQ(small->frees, 70u);
  EXPECT_EQ(small->active_objects(), 30u);
  EXPECT_EQ(small->active_bytes(), 30u * 64);
  EXPECT_EQ(find_cache(*snapshot, "session")->active_objects(), 4u);
  ASSERT_EQ(snapshot->threads.size(), 2u);
  EXPECT_EQ(snapshot->threads[1].name, "worker");
  EXPECT_EQ(snapshot->threads[1].frees, 63u);
}

TEST(Attach, StateComesFromTheLockAndTheHeader) {
  ScratchDirectory scratch;
  ScopeFile file = SegmentBuilder().write(scratch, "a.scope");
  EXPECT_EQ(attach_info(file.path())->state, TargetState::kDied);
  file.lock();
  EXPECT_EQ(attach_info(file.path())->state, TargetState::kRunning);
  file.unlock();
  const ScopeFile ended = SegmentBuilder().exited(5).write(scratch, "b.scope");
  EXPECT_EQ(attach_info(ended.path())->state, TargetState::kExited);
}

TEST(Attach, ReadersDoNotTakeEachOtherForTheOwner) {
  ScratchDirectory scratch;
  const ScopeFile file = SegmentBuilder().write(scratch);
  Result<ScopeReader> reader = ScopeReader::open(file.path());
  const int other = open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(flock(other, LOCK_SH), 0);
  EXPECT_EQ(reader->probe_lock(), LockState::kFree);
  close(other);
}

TEST(Attach, CopiesStacksObjectsAndModulesOnlyWhenAsked) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.add_module("/usr/lib/libdemo.so", 0x10000, 0x20000);
  const uint32_t shallow = builder.add_stack({0x10100}, 1, 64);
  const uint32_t deep = builder.add_stack({0x10100, 0x10200, 0x10300}, 2, 200);
  builder.add_object(0xabc0, 64, shallow, 5);
  builder.add_object(0, 1, shallow, 5);  // unused
  builder.add_object(0xdef0, 100, deep, 6).interval = 4096;
  const ScopeFile file = builder.write(scratch);

  const Result<Snapshot> counters = attach(file.path());
  EXPECT_TRUE(counters->modules.empty() && counters->stacks.empty() && counters->objects.empty());

  const Result<Snapshot> all = attach(file.path(), Include::kEverything);
  ASSERT_TRUE(all);
  ASSERT_EQ(all->modules.size(), 1u);
  EXPECT_EQ(all->modules[0].path, "/usr/lib/libdemo.so");
  ASSERT_EQ(all->stacks.size(), 2u);
  EXPECT_EQ(all->stacks[0].handle, shallow);
  EXPECT_EQ(all->stacks[1].frames, (std::vector<uint64_t>{0x10100, 0x10200, 0x10300}));
  EXPECT_EQ(all->stacks[1].live_bytes, 200u);
  EXPECT_DOUBLE_EQ(all->stacks[1].estimated_live_objects, 2.0);
  ASSERT_EQ(all->objects.size(), 2u);
  EXPECT_EQ(all->objects[1].address, 0xdef0u);
  EXPECT_EQ(all->objects[1].interval, 4096u);
}

TEST(Attach, RecordsFarApartAreFoundAcrossHoles) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  ScopeFile file = builder.write(scratch);
  abi::Section section{abi::kObjectsOffset, abi::kObjectsBytes, sizeof(abi::ObjectRecord),
                       abi::kMaxObjects, abi::kMaxObjects};
  file.poke(offsetof(abi::Header, sections) + abi::kSectionObjects * sizeof(section), section);
  for (const uint64_t index :
       {uint64_t{0}, uint64_t{102}, uint64_t{1} << 20, uint64_t{abi::kMaxObjects} - 1}) {
    abi::ObjectRecord record{};
    record.address = index + 1;
    file.poke(abi::kObjectsOffset + index * sizeof(record), record);
  }
  const Result<Snapshot> snapshot = attach(file.path(), Include::kObjects);
  ASSERT_EQ(snapshot->objects.size(), 4u);
  EXPECT_EQ(snapshot->objects[1].address, 103u);
  EXPECT_EQ(snapshot->objects[3].address, uint64_t{abi::kMaxObjects});
}

TEST(Attach, NamesAreCleanedPathsAreNot) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  builder.comm("a\033b\xff").app("x\n");
  builder.add_cache(3, "\xff\xfe", 32);
  builder.add_module("/tmp/\xff.so", 1, 2);
  const ScopeFile file = builder.write(scratch);
  const Result<Snapshot> snapshot = attach(file.path(), Include::kModules);
  EXPECT_EQ(snapshot->target.comm,
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(snapshot->target.app, "x\xEF\xBF\xBD");
  EXPECT_EQ(snapshot->caches[0].name, "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(snapshot->modules[0].path, "/tmp/\xff.so");
}

TEST(Cache, DifferencesClampAndProductsSaturate) {
  Cache cache;
  cache.allocations = 3;
  cache.frees = 5;
  EXPECT_EQ(cache.active_objects(), 0u);
  cache.stats.slabs = UINT64_MAX;
  cache.objects_per_slab = 2;
  EXPECT_EQ(cache.objects(), UINT64_MAX);
}

}  // namespace
}  // namespace slabscope
