// SPDX-License-Identifier: MIT
//
// Scope files that lie. Nothing here may crash, hang, or take memory the file does not justify;
// the sanitizer builds watch.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <random>

#include "exporter/source/attach.h"
#include "exporter/source/object_summary.h"
#include "tests/support/segment_builder.h"

namespace slabscope {
namespace {

using testing::ScopeFile;
using testing::ScratchDirectory;
using testing::SegmentBuilder;

ErrorCode error_of(const std::string& path) {
  const Result<Snapshot> snapshot = attach(path, Include::kEverything);
  EXPECT_FALSE(snapshot);
  if (snapshot) {
    return ErrorCode::kSystem;
  }
  const std::string& message = snapshot.failure().message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_TRUE(message.starts_with(path)) << message;
  return snapshot.failure().code;
}

SegmentBuilder populated() {
  SegmentBuilder builder;
  builder.add_cache(1, "malloc-16", 16);
  builder.add_cache(64, "malloc-4096", 4096);
  builder.count(0, 1, 10, 3);
  builder.add_module("/usr/bin/demo", 0x1000, 0x9000);
  const uint32_t stack = builder.add_stack({0x1100, 0x1200}, 7, 112);
  builder.add_object(0x5000, 16, stack, 1);
  return builder;
}

constexpr uint64_t section_offset(size_t index) {
  return offsetof(abi::Header, sections) + index * sizeof(abi::Section);
}

TEST(AttachHostile, EachKindOfWrongFileHasItsOwnError) {
  ScratchDirectory scratch;
  EXPECT_EQ(error_of(scratch.path() + "/none.scope"), ErrorCode::kNotFound);
  EXPECT_EQ(error_of(scratch.path()), ErrorCode::kBadMagic);  // a directory

  ScopeFile empty(scratch.file("empty.scope"));
  EXPECT_EQ(error_of(empty.path()), ErrorCode::kNotReady);
  empty.truncate(abi::kFileBytes);
  EXPECT_EQ(error_of(empty.path()), ErrorCode::kNotReady);

  ScopeFile text(scratch.file("text.scope"));
  text.write(0, "hello", 5);
  EXPECT_EQ(error_of(text.path()), ErrorCode::kBadMagic);

  SegmentBuilder newer;
  newer.header().version = abi::kVersion + 1;
  EXPECT_EQ(error_of(newer.write(scratch, "newer.scope").path()), ErrorCode::kVersionMismatch);
  SegmentBuilder other_build;
  other_build.header().layout_hash ^= 1;
  EXPECT_EQ(error_of(other_build.write(scratch, "hash.scope").path()), ErrorCode::kVersionMismatch);
  SegmentBuilder starting;
  starting.header().state = 0;
  EXPECT_EQ(error_of(starting.write(scratch, "starting.scope").path()), ErrorCode::kNotReady);
  SegmentBuilder unknown;
  unknown.header().state = 9;
  EXPECT_EQ(error_of(unknown.write(scratch, "unknown.scope").path()), ErrorCode::kCorrupt);
}

TEST(AttachHostile, AFifoDoesNotBlock) {
  ScratchDirectory scratch;
  const std::string path = scratch.file("fifo.scope");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(error_of(path), ErrorCode::kBadMagic);
}

TEST(AttachHostile, EveryTruncationIsAnErrorOrAnEmptyTail) {
  ScratchDirectory scratch;
  ScopeFile file = populated().write(scratch);
  for (uint64_t bytes = sizeof(abi::Header); bytes-- > 1;) {
    file.truncate(bytes);
    const ErrorCode code = error_of(file.path());
    EXPECT_TRUE(code == ErrorCode::kTruncated || (bytes < 8 && code == ErrorCode::kBadMagic));
  }
}

TEST(AttachHostile, AFileCutBehindItsHeaderIsTruncated) {
  ScratchDirectory scratch;
  for (const uint64_t bytes :
       {abi::kCachesOffset, abi::kDepotOffset + 100, abi::kThreadsOffset, abi::kFileBytes - 1}) {
    ScopeFile file = populated().write(scratch, std::to_string(bytes) + ".scope");
    file.truncate(bytes);
    EXPECT_EQ(error_of(file.path()), ErrorCode::kTruncated) << bytes;
    // A header that agrees with the cut does not make the sections fit.
    file.poke(offsetof(abi::Header, file_bytes), bytes);
    EXPECT_EQ(error_of(file.path()), ErrorCode::kCorrupt) << bytes;
  }
}

TEST(AttachHostile, SectionsOutsideTheFileAreRefused) {
  ScratchDirectory scratch;
  const uint64_t wild[] = {0,
                           1,
                           7,
                           4095,
                           abi::kFileBytes,
                           abi::kFileBytes - 8,
                           uint64_t{1} << 63,
                           UINT64_MAX,
                           UINT64_MAX - 7};
  for (size_t index = 0; index < abi::kSectionCount; ++index) {
    for (const uint64_t value : wild) {
      for (const size_t field : {offsetof(abi::Section, offset), offsetof(abi::Section, bytes)}) {
        ScopeFile file = populated().write(scratch, "w.scope");
        file.poke(section_offset(index) + field, value);
        (void)attach(file.path(), Include::kEverything);
      }
    }
    ScopeFile file = populated().write(scratch, "r.scope");
    file.poke(section_offset(index) + offsetof(abi::Section, record_bytes), uint32_t{0});
    EXPECT_EQ(error_of(file.path()), ErrorCode::kCorrupt);
  }
}

TEST(AttachHostile, UsedIsOnlyAClaim) {
  ScratchDirectory scratch;
  for (const uint64_t used : {uint64_t{0}, uint64_t{1} << 32, UINT64_MAX}) {
    ScopeFile file = populated().write(scratch, "u.scope");
    for (size_t index = 0; index < abi::kSectionCount; ++index) {
      file.poke(section_offset(index) + offsetof(abi::Section, used), used);
    }
    const Result<Snapshot> snapshot = attach(file.path(), Include::kEverything);
    ASSERT_TRUE(snapshot);
    if (used != 0) {
      EXPECT_EQ(snapshot->caches.size(), 2u);
      EXPECT_EQ(snapshot->stacks.size(), 1u);
      EXPECT_EQ(snapshot->objects.size(), 1u);
    }
    EXPECT_FALSE(summarize_objects(file.path(), 100).ok() && used > 100);
  }
}

TEST(AttachHostile, ChainsThatLoopOrOverlapEnd) {
  ScratchDirectory scratch;
  SegmentBuilder builder;
  const uint32_t first = builder.add_stack({1, 2, 3}, 1, 1);
  const uint32_t second = builder.add_stack({4}, 1, 1);
  ScopeFile file = builder.write(scratch);
  file.poke(abi::kDepotOffset + uint64_t{first} * 8, second);
  file.poke(abi::kDepotOffset + uint64_t{second} * 8, first);
  EXPECT_EQ(attach(file.path(), Include::kStacks)->stacks.size(), 2u);

  // Every bucket names another offset inside one run of bytes that look like 64-frame records.
  std::vector<uint64_t> units(4096, uint64_t{abi::kMaxFrames} << 32 | abi::kMaxFrames);
  file.write(abi::kDepotOffset + abi::kDepotBuckets * sizeof(uint32_t), units.data(),
             units.size() * sizeof(uint64_t));
  std::vector<uint32_t> buckets(abi::kDepotBuckets);
  for (uint32_t i = 0; i < abi::kDepotBuckets; ++i) {
    buckets[i] = abi::kDepotBuckets / 2 + i % 4096;
  }
  file.write(abi::kDepotOffset, buckets.data(), buckets.size() * sizeof(uint32_t));
  file.poke(section_offset(abi::kSectionDepot) + offsetof(abi::Section, used), UINT64_MAX);
  const Result<Snapshot> snapshot = attach(file.path(), Include::kStacks);
  uint64_t frames = 0;
  for (const Stack& stack : snapshot->stacks) {
    frames += stack.frames.size();
  }
  EXPECT_LE(frames * sizeof(uint64_t), abi::kDepotBytes);
}

TEST(AttachHostile, RandomBytesInEverySectionAreSurvived) {
  ScratchDirectory scratch;
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    ScopeFile file = populated().write(scratch, "random.scope");
    for (int i = 0; i < 64; ++i) {
      const uint64_t places[] = {offsetof(abi::Header, sections),
                                 abi::kCachesOffset,
                                 abi::kModulesOffset,
                                 abi::kStringsOffset,
                                 abi::kDepotOffset,
                                 abi::kObjectsOffset,
                                 abi::kThreadsOffset};
      const uint64_t at = places[random() % 7] + random() % 2048;
      file.poke(at, random() % 3 == 0 ? uint64_t{UINT64_MAX} : random());
    }
    (void)attach(file.path(), Include::kEverything);
    (void)summarize_objects(file.path(), 1 << 20);
  }
}

}  // namespace
}  // namespace slabscope
