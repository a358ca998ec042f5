// SPDX-License-Identifier: MIT
//
// heap_fuzz: bytes as heap operations, checked against a model and the heap's own validate().
//
//   each operation   byte: kind │ byte: which block, or log2 of the alignment │ u16: size
//                    other bits of kind multiply the size: all paths are a few bytes away
//
// The same function runs with fixed seeds as a unit test (tests/slab/heap_fuzz_test.cc).
//   cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=clang++ -DSLABSCOPE_FUZZ=ON ...

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "slab/cache/cache_table.h"
#include "slab/heap.h"
#include "slab/pages/page_heap.h"
#include "tests/support/op_stream.h"

namespace {

using slabscope::testing::HeapModel;
using slabscope::testing::Op;
using slabscope::testing::OpKind;

constexpr size_t kOpBytes = 4;
constexpr size_t kMostLive = 2000;

void validate() {
  slabscope::g_page_heap.validate();
  for (unsigned id = 1; id < slabscope::CacheTable::kCount; ++id) {
    if (!slabscope::g_caches.ready(id))
      continue;
    slabscope::g_caches.plain(id)->validate();
    slabscope::g_caches.tracked(id)->validate();
  }
}

Op op_of(const uint8_t* bytes, size_t live) {
  constexpr size_t kScales[] = {1, 1, 1, 1, 1, 1, 4, 16};
  uint16_t size = 0;
  std::memcpy(&size, bytes + 2, sizeof(size));
  Op op;
  op.kind = static_cast<OpKind>(bytes[0] % 5);
  if (live >= kMostLive)
    op.kind = OpKind::kFree;
  op.size = size * kScales[(bytes[0] >> 3) % 8];
  if (bytes[1] == 0x80)
    op.size *= 40;
  op.alignment = size_t{1} << bytes[1] % 22;
  op.victim = bytes[1];
  return op;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  HeapModel model(0);
  for (; size >= kOpBytes; data += kOpBytes, size -= kOpBytes) {
    if (data[0] == 0xff) {
      slabscope::trim();
      validate();
    } else if (!model.apply(op_of(data, model.live()))) {
      std::fprintf(stderr, "%s\n", model.error().c_str());
      std::abort();
    }
  }
  if (!model.check_all() || !model.free_all()) {
    std::fprintf(stderr, "%s\n", model.error().c_str());
    std::abort();
  }
  validate();
  return 0;
}
