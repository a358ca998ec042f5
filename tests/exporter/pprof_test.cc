// SPDX-License-Identifier: MIT
//
// The encoder against a decoder of the wire format that shares nothing with it; heap.py asks pprof
// itself, where it is installed.

#include "exporter/output/pprof.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "exporter/output/gzip.h"
#include "exporter/output/protobuf.h"
#include "tests/exporter/heap_fixture.h"

namespace slabscope {
namespace {

using testing::HeapBuilder;
using testing::kLibrary;
using testing::kProgram;

// One message: the values of each field, in order.
struct Message {
  std::map<uint64_t, std::vector<uint64_t>> numbers;
  std::map<uint64_t, std::vector<std::string>> texts;

  uint64_t number(uint64_t field) const {
    const auto found = numbers.find(field);
    return found == numbers.end() ? 0 : found->second.at(0);
  }
};

uint64_t take_varint(const std::string& bytes, size_t& at) {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(at++));
    if (shift > 63) {
      throw std::runtime_error("varint");
    }
    value += uint64_t{byte % 128u} << shift;
    if (byte < 128) {
      return value;
    }
  }
}

Message decode(const std::string& bytes) {
  Message message;
  for (size_t at = 0; at < bytes.size();) {
    const uint64_t key = take_varint(bytes, at);
    if (key % 8 == 0) {
      message.numbers[key / 8].push_back(take_varint(bytes, at));
    } else if (key % 8 == 2) {
      const uint64_t size = take_varint(bytes, at);
      if (size > bytes.size() - at) {
        throw std::runtime_error("length");
      }
      message.texts[key / 8].push_back(bytes.substr(at, size));
      at += size;
    } else {
      throw std::runtime_error("wire type");
    }
  }
  return message;
}

std::vector<uint64_t> unpack(const std::string& bytes) {
  std::vector<uint64_t> values;
  for (size_t at = 0; at < bytes.size();) {
    values.push_back(take_varint(bytes, at));
  }
  return values;
}

std::string gunzip(const std::string& packed) {
  std::string bytes(1 << 20, '\0');
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  bytes.resize(stream.total_out);
  inflateEnd(&stream);
  return bytes;
}

// A profile as pprof sees it, checked as pprof checks it.
struct Decoded {
  explicit Decoded(const std::string& bytes) : profile(decode(bytes)) {
    strings = profile.texts.at(6);
    EXPECT_EQ(strings.at(0), "");
    for (const std::string& text : profile.texts[3]) {
      const Message mapping = decode(text);
      mappings[mapping.number(1)] = mapping;
    }
    for (const std::string& text : profile.texts[5]) {
      const Message function = decode(text);
      functions[function.number(1)] = function;
    }
    for (const std::string& text : profile.texts[4]) {
      const Message location = decode(text);
      locations[location.number(1)] = location;
    }
    EXPECT_FALSE(mappings.contains(0) || functions.contains(0) || locations.contains(0));
  }

  std::string string(uint64_t index) const { return strings.at(index); }
  // Function names of a sample, innermost first; "0xaddress" without one.
  std::vector<std::string> stack(const Message& sample) const {
    std::vector<std::string> names;
    for (const uint64_t id : unpack(sample.texts.at(1).at(0))) {
      const Message& location = locations.at(id);
      EXPECT_TRUE(location.number(2) == 0 || mappings.contains(location.number(2)));
      const auto lines = location.texts.find(4);
      if (lines == location.texts.end()) {
        names.push_back(std::to_string(location.number(3)));
        continue;
      }
      for (const std::string& line : lines->second) {
        names.push_back(string(functions.at(decode(line).number(1)).number(2)));
      }
    }
    return names;
  }
  Message sample(size_t index) const { return decode(profile.texts.at(2).at(index)); }
  std::vector<uint64_t> values(size_t index) const {
    return unpack(sample(index).texts.at(2).at(0));
  }

  Message profile;
  std::vector<std::string> strings;
  std::map<uint64_t, Message> mappings;
  std::map<uint64_t, Message> functions;
  std::map<uint64_t, Message> locations;
};

TEST(Protobuf, VarintsAreSevenBitsAByte) {
  ProtobufWriter writer;
  writer.number(1, 300);
  EXPECT_EQ(writer.bytes(), "\x08\xac\x02");
  ProtobufWriter largest;
  largest.number(15, UINT64_MAX);
  EXPECT_EQ(decode(largest.bytes()).number(15), UINT64_MAX);
  ProtobufWriter high;
  high.number(16, 1);
  EXPECT_EQ(high.bytes(), std::string("\x80\x01\x01"));
}

TEST(Protobuf, ZeroNumbersAreLeftOutButNotInLists) {
  ProtobufWriter writer;
  writer.number(1, 0);
  EXPECT_EQ(writer.bytes(), "");
  writer.packed(2, std::array<uint64_t, 3>{0, 1, 128});
  EXPECT_EQ(unpack(decode(writer.bytes()).texts.at(2).at(0)), (std::vector<uint64_t>{0, 1, 128}));
}

TEST(Gzip, ComesBackWhole) {
  std::string text;
  for (int i = 0; i < 50000; ++i) {
    text += std::to_string(i * 7919);
  }
  EXPECT_EQ(gunzip(gzip(text)), text);
  EXPECT_EQ(gunzip(gzip("")), "");
}

TEST(Pprof, HoldsFourValuesAStack) {
  HeapBuilder builder = testing::typical_heap();
  builder.add_freed(10, 100, builder.snapshot.stacks[0].handle);
  const Decoded decoded(gunzip(heap_pprof(builder.build(Freed::kInclude))));
  std::vector<std::string> types;
  for (const std::string& text : decoded.profile.texts.at(1)) {
    const Message type = decode(text);
    types.push_back(decoded.string(type.number(1)) + "/" + decoded.string(type.number(2)));
  }
  EXPECT_EQ(types, (std::vector<std::string>{"alloc_objects/count", "alloc_space/bytes",
                                             "inuse_objects/count", "inuse_space/bytes"}));
  EXPECT_EQ(decoded.string(decoded.profile.number(14)), "inuse_space");
  EXPECT_EQ(decoded.profile.number(9), 1'700'000'090'000'000'000u);
  EXPECT_EQ(decoded.profile.number(10), 90'000'000'000u);
  EXPECT_EQ(decoded.profile.number(12), 1u);
  ASSERT_EQ(decoded.profile.texts.at(2).size(), 3u);
  EXPECT_EQ(decoded.values(0), (std::vector<uint64_t>{1010, 101000, 1000, 100000}));
  EXPECT_EQ(decoded.values(1), (std::vector<uint64_t>{2, 2000, 2, 2000}));
  EXPECT_EQ(decoded.stack(decoded.sample(2)), std::vector<std::string>{"(stack not recorded)"});
}

TEST(Pprof, MappingsHaveBuildIdsAndTheProgramIsFirst) {
  const Decoded decoded(heap_pprof_plain(testing::typical_heap().build()));
  ASSERT_EQ(decoded.mappings.size(), 2u);
  const Message& program = decoded.mappings.at(1);
  EXPECT_EQ(decoded.string(program.number(5)), "/srv/app/server");
  EXPECT_EQ(program.number(2), kProgram);
  EXPECT_EQ(program.number(3), kProgram + 0x1000000);
  std::string build_id;
  for (int i = 0; i < 20; ++i) {
    build_id += "aa";
  }
  EXPECT_EQ(decoded.string(program.number(6)), build_id);
  EXPECT_EQ(program.number(7), 0u) << "no function of it is known, so pprof may look itself";
  EXPECT_EQ(decoded.string(decoded.mappings.at(2).number(5)), "/lib/libc.so.6");
}

TEST(Pprof, AddressesAreThoseOfTheCalls) {
  const Decoded decoded(heap_pprof_plain(testing::typical_heap().build()));
  const std::vector<std::string> expected = {std::to_string(kProgram + 0x1233),
                                             std::to_string(kProgram + 0x1fff),
                                             std::to_string(kLibrary + 0x29d8f)};
  EXPECT_EQ(decoded.stack(decoded.sample(0)), expected);
}

TEST(Pprof, InlinedCallsAreLinesOfOneLocation) {
  HeapProfile profile;
  profile.frames = {{"inner", "a.h", 3, "/bin/x", 0x100, 0, "", true},
                    {"outer", "a.c", 9, "/bin/x", 0x100, 0, "", false},
                    {"main", "a.c", 20, "/bin/x", 0x200, 0, "", false}};
  HeapStack& stack = profile.stacks.emplace_back();
  stack.bytes.value = 7;
  stack.samples = 1;
  stack.stack = {0, 1, 2};
  const Decoded decoded(heap_pprof_plain(profile));
  EXPECT_EQ(decoded.locations.size(), 2u);
  EXPECT_EQ(decoded.stack(decoded.sample(0)), (std::vector<std::string>{"inner", "outer", "main"}));
  const Message line = decode(decoded.locations.at(1).texts.at(4).at(0));
  EXPECT_EQ(line.number(2), 3u);
  const Message& mapping = decoded.mappings.at(1);
  for (const uint64_t flag : {7u, 8u, 9u, 10u}) {
    EXPECT_EQ(mapping.number(flag), 1u) << flag;
  }
}

TEST(Pprof, SaysThatItIsAnEstimate) {
  const Decoded decoded(heap_pprof_plain(testing::typical_heap(524288).build()));
  EXPECT_EQ(decoded.profile.number(12), 524288u);
  const std::vector<uint64_t> comments = unpack(decoded.profile.texts.at(13).at(0));
  EXPECT_EQ(decoded.string(comments.at(1)),
            "estimates: one stack was taken every 524288 bytes allocated");
}

TEST(Pprof, AnEmptyHeapIsAValidProfile) {
  const Decoded decoded(heap_pprof_plain(HeapProfile()));
  EXPECT_EQ(decoded.profile.texts.at(1).size(), 4u);
  EXPECT_FALSE(decoded.profile.texts.contains(2));
}

}  // namespace
}  // namespace slabscope
