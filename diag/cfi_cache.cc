// SPDX-License-Identifier: MIT

#include "diag/cfi_cache.h"

#include <array>
#include <atomic>

#include "diag/abi/layout.h"

namespace slabscope::diag {
namespace {

// A program's sampled stacks have some hundred distinct pcs; four pages hold a thousand. Two that
// share a place would read .eh_frame at each sample: so each place holds two, the newer one first.
constexpr uint32_t kPlaces = 512;
constexpr uint32_t kEntries = 2;
constexpr int64_t kWord = 8;
constexpr int64_t kMaxCfa = 0x7fff * kWord;
constexpr int64_t kMaxSlot = 255;

struct Entry {
  std::atomic<uint64_t> check;
  std::atomic<uint64_t> row;
};
using Place = std::array<Entry, kEntries>;
alignas(abi::kPageBytes) constinit std::array<Place, kPlaces> g_places{};

// A page of them at first, and twice as many when as many rules were stored as there is room for;
// what a key then finds elsewhere is read once more.
constexpr uint32_t kFirstPlaces = abi::kPageBytes / sizeof(Place);
constinit std::atomic<uint32_t> g_more_places{0};  // than kFirstPlaces
constinit std::atomic<uint32_t> g_stored{0};

uint32_t places() {
  return kFirstPlaces + g_more_places.load(std::memory_order_relaxed);
}

Place& place_of(uint64_t key) {
  return g_places[key % places()];
}

void note_stored() {
  const uint32_t now = places();
  const uint32_t stored = g_stored.load(std::memory_order_relaxed) + 1;
  g_stored.store(stored, std::memory_order_relaxed);
  if (stored >= now * kEntries && now < kPlaces)
    g_more_places.store(2 * now - kFirstPlaces, std::memory_order_relaxed);
}

uint64_t check_of(uint64_t key, PackedRow row) {
  const uint64_t mixed = row * 0xc4ceb9fe1a85ec53U;
  return key ^ mixed ^ mixed >> 29U;
}

// Whether a register that a callee keeps is where the packed form can say; the byte for it.
std::optional<uint64_t> slot_of(PackedRule rule) {
  if (rule.kind() == CfiRule::kUnset || rule.kind() == CfiRule::kSame)
    return 0;
  const int64_t words = -rule.value() / kWord;
  if (rule.kind() != CfiRule::kAtOffset || rule.value() % kWord != 0 || words < 1 ||
      words > kMaxSlot)
    return std::nullopt;
  return static_cast<uint64_t>(words);
}

}  // namespace

PackedRow pack(const CfiRow& row) {
  const PackedRule back = row.rules[kCfiReturn];
  const int64_t offset = row.cfa.value();
  const bool from_fp = row.cfa_register == kCfiFp;
  if (has_no_caller(row))
    return kPackedEnd;
  if (row.cfa.kind() != CfiRule::kOffset || (row.cfa_register != kCfiSp && !from_fp) ||
      offset <= 0 || offset > kMaxCfa || offset % kWord != 0)
    return kNotPacked;
  if (back.kind() != CfiRule::kAtOffset || back.value() != -kWord ||
      row.rules[kCfiSp].kind() != CfiRule::kUnset)
    return kNotPacked;
  PackedRow packed = static_cast<uint64_t>(offset / kWord) << 1U | (from_fp ? 1U : 0U);
  for (unsigned i = 0; i < kPackedRegisters; ++i) {
    const auto slot = slot_of(row.rules[kPackedRegister[i]]);
    if (!slot)
      return kNotPacked;
    packed |= *slot << (16 + 8 * i);
  }
  return packed;
}

PackedRow cache_find(uint64_t key) {
  for (const Entry& entry : place_of(key)) {
    const PackedRow row = entry.row.load(std::memory_order_relaxed);
    const uint64_t check = entry.check.load(std::memory_order_relaxed);
    if (check == check_of(key, row))
      return row;
  }
  return kNotPacked;
}

void cache_store(uint64_t key, PackedRow row) {
  note_stored();
  auto& [newer, older] = place_of(key);
  older.row.store(newer.row.load(std::memory_order_relaxed), std::memory_order_relaxed);
  older.check.store(newer.check.load(std::memory_order_relaxed), std::memory_order_relaxed);
  newer.row.store(row, std::memory_order_relaxed);
  newer.check.store(check_of(key, row), std::memory_order_relaxed);
}

}  // namespace slabscope::diag
