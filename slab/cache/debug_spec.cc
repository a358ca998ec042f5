// SPDX-License-Identifier: MIT

#include "slab/cache/debug_spec.h"

#include "slab/cache/object_cache.h"

namespace slabscope {
namespace {

constexpr uint32_t kAllFlags = ObjectCache::kDebug | ObjectCache::kStoreUser;

// 0: no such letter.
uint32_t flag_of(char letter) {
  switch (letter | 0x20) {  // in either case
    case 'f':
      return ObjectCache::kConsistency;
    case 'z':
      return ObjectCache::kRedZone;
    case 'p':
      return ObjectCache::kPoison;
    case 'u':
      return ObjectCache::kStoreUser;
    default:
      return 0;
  }
}

struct Block {
  uint32_t flags = 0;
  bool unknown_letter = false;
  const char* names = nullptr;  // behind the comma; nullptr: it is for all caches
};

// The block at `at`, which is moved to the next one, or to the end.
Block next_block(const char*& at) {
  Block block;
  if (*at == ',')
    block.flags = kAllFlags;
  for (; *at != '\0' && *at != ',' && *at != ';'; ++at) {
    const uint32_t flag = flag_of(*at);
    if (*at == '-')
      block.flags = 0;
    else if (flag == 0)
      block.unknown_letter = true;
    block.flags |= flag;
  }
  if (*at == ',')
    block.names = ++at;
  while (*at != '\0' && *at != ';')
    ++at;
  while (*at == ';')
    ++at;
  return block;
}

// Calls visit(first, one past the last) for each name of a block; false ends it.
template <typename Visit>
void for_each_name(const char* names, Visit visit) {
  for (const char* at = names; *at != '\0' && *at != ';';) {
    const char* first = at;
    while (*at != '\0' && *at != ';' && *at != ',')
      ++at;
    if (at != first && !visit(first, at))
      return;
    if (*at == ',')
      ++at;
  }
}

bool matches(const char* first, const char* last, const char* name) {
  for (; first != last && *first != '*'; ++first, ++name) {
    if (*first != *name)
      return false;
  }
  return first != last || *name == '\0';
}

bool names(const char* list, const char* name) {
  bool found = false;
  for_each_name(list, [&](const char* first, const char* last) {
    found = matches(first, last, name);
    return !found;
  });
  return found;
}

// Such names are malloc's caches' alone.
bool names_malloc(const char* list) {
  constexpr char kPrefix[] = "malloc-";
  constexpr size_t kLength = sizeof(kPrefix) - 1;
  bool found = false;
  for_each_name(list, [&](const char* first, const char* last) {
    found = static_cast<size_t>(last - first) >= kLength &&
            __builtin_strncmp(first, kPrefix, kLength) == 0;
    return !found;
  });
  return found;
}

}  // namespace

uint32_t debug_flags_for(const char* spec, const char* name) {
  uint32_t for_others = 0;
  while (*spec != '\0') {
    const Block block = next_block(spec);
    if (block.names == nullptr)
      for_others = block.flags;
    else if (names(block.names, name))
      return block.flags;
  }
  return for_others;
}

const char* debug_spec_problem(const char* spec) {
  while (*spec != '\0') {
    const Block block = next_block(spec);
    if (block.unknown_letter)
      return "only F, Z, P, U and - are known; the other letters are skipped";
    if (block.names != nullptr && names_malloc(block.names))
      return "malloc's own caches are not debugged, object caches alone; that name is skipped";
  }
  return nullptr;
}

}  // namespace slabscope
