// SPDX-License-Identifier: MIT

#include "slab/cache/cache_attributes.h"

#include <cerrno>

#include "slab/base/panic.h"
#include "slab/base/test_point.h"

namespace slabscope {
namespace {

using Show = void (*)(ObjectCache& cache, Line& text);
using Store = int (*)(ObjectCache& cache, const char* text);
// Of a text that may be longer than a line: as show_attribute().
using Write = int (*)(ObjectCache& cache, char* buffer, size_t size);

struct Attribute {
  const char* name;
  Show show;              // nullptr: it has `write`
  Store store = nullptr;  // nullptr: read-only
  Write write = nullptr;
};

int copy_text(const Line& text, char* buffer, size_t size) {
  if (size > 0) {
    const size_t written = text.size() < size ? text.size() : size - 1;
    __builtin_memcpy(buffer, text.data(), written);
    buffer[written] = '\0';
  }
  return static_cast<int>(text.size());
}

// ---- texts ----------------------------------------------------------------------------------

void number(Line& text, uint64_t value) {
  text.decimal(value).text("\n");
}

void by_node(Line& text, uint64_t value) {
  text.decimal(value);
  if (value != 0)
    text.text(" N0=").decimal(value);
  text.text("\n");
}

// As kstrtoul: digits, and a newline perhaps. False if it is anything else.
bool parse(const char* text, uint64_t* value) {
  *value = 0;
  if (*text == '\0' || *text == '\n')
    return false;
  for (; *text >= '0' && *text <= '9'; ++text) {
    if (*value > UINT32_MAX)
      return false;
    *value = *value * 10 + static_cast<uint64_t>(*text - '0');
  }
  return *text == '\0' || (*text == '\n' && text[1] == '\0');
}

uint64_t stat_of(const ObjectCache& cache, uint64_t CacheStats::*field) {
  return cache.sums().stats.*field;
}

SlabCensus census(ObjectCache& cache) {
  SlabCensus sum{};
  cache.for_each_part([&](ObjectPair& part, unsigned) {
    for (KmemCache* of : {&part.plain, &part.tracked}) {
      const SlabCensus found = of->census();
      sum.partial_objects += found.partial_objects;
      sum.current += found.current;
    }
  });
  return sum;
}

void nothing(ObjectCache&, Line&) {}
void zero(ObjectCache&, Line& text) {
  number(text, 0);
}

template <uint32_t kFlag>
void flag(ObjectCache& cache, Line& text) {
  number(text, (cache.flags() & kFlag) != 0 ? 1 : 0);
}

template <ResettableStat kStat>
void show_stat(ObjectCache& cache, Line& text) {
  number(text, cache.resettable(kStat));
}

// ---- who allocated, who freed -----------------------------------------------------------------

// As Linux: there is such a file, and it says that only the flag fills it.
int write_alloc_calls(ObjectCache& cache, char* buffer, size_t size) {
  if ((cache.flags() & ObjectCache::kStoreUser) == 0)
    return -ENOSYS;
  const size_t length = g_hooks.allocation_places(cache.id(), buffer, size);
  return length != 0 ? static_cast<int>(length) : copy_text(Line().text("No data\n"), buffer, size);
}

// Who freed an object before it was allocated again is not kept: what Linux says of objects that
// never were freed.
int write_free_calls(ObjectCache& cache, char* buffer, size_t size) {
  if ((cache.flags() & ObjectCache::kStoreUser) == 0)
    return -ENOSYS;
  const uint64_t objects = cache.objects_in_use();
  Line text;
  if (objects == 0)
    return copy_text(text.text("No data\n"), buffer, size);
  // Linux's "%7ld".
  return copy_text(text.decimal(objects, 7).text(" <not-available>\n"), buffer, size);
}

// ---- stores ---------------------------------------------------------------------------------

template <ResettableStat kStat>
int reset_stat(ObjectCache& cache, const char* text) {
  if (text[0] != '0')
    return -EINVAL;
  cache.reset(kStat);
  return 0;
}

int store_shrink(ObjectCache& cache, const char* text) {
  if (text[0] != '1')
    return -EINVAL;
  cache.shrink();
  return 0;
}

int store_validate(ObjectCache& cache, const char* text) {
  if (text[0] != '1')
    return -EINVAL;
  cache.validate();
  return 0;
}

int store_min_partial(ObjectCache& cache, const char* text) {
  uint64_t slabs = 0;
  if (!parse(text, &slabs) || slabs > UINT32_MAX)
    return -EINVAL;
  cache.for_each_part([&](ObjectPair& part, unsigned) {
    part.plain.set_min_partial(static_cast<uint32_t>(slabs));
    part.tracked.set_min_partial(static_cast<uint32_t>(slabs));
  });
  return 0;
}

// Threads' lists take the place of Linux's lists a processor, and have bounds of their own.
int store_cpu_partial(ObjectCache&, const char* text) {
  uint64_t objects = 0;
  return parse(text, &objects) && objects == 0 ? 0 : -EINVAL;
}

// ---- the table ------------------------------------------------------------------------------

constexpr Attribute kAttributes[] = {
    {"object_size", [](ObjectCache& cache, Line& text) { number(text, cache.size()); }},
    {"slab_size", [](ObjectCache& cache, Line& text) { number(text, cache.plain.object_size()); }},
    {"objs_per_slab", [](ObjectCache& cache, Line& text) { number(text, cache.plain.capacity()); }},
    {"order",
     [](ObjectCache& cache, Line& text) {
       number(text, static_cast<unsigned>(__builtin_ctz(cache.plain.slab_bytes() >> 12)));
     }},
    {"align", [](ObjectCache& cache, Line& text) { number(text, cache.align()); }},
    {"aliases", [](ObjectCache& cache, Line& text) { number(text, cache.other_names()); }},
    {"ctor",
     [](ObjectCache& cache, Line& text) {
       if (cache.constructor() != nullptr)
         text.hex(reinterpret_cast<uintptr_t>(cache.constructor())).text("\n");
     }},
    {"objects", [](ObjectCache& cache, Line& text) { by_node(text, cache.objects_in_use()); }},
    {"total_objects",
     [](ObjectCache& cache, Line& text) {
       by_node(text, stat_of(cache, &CacheStats::slabs) * cache.plain.capacity());
     }},
    {"objects_partial",
     [](ObjectCache& cache, Line& text) { by_node(text, census(cache).partial_objects); }},
    {"slabs",
     [](ObjectCache& cache, Line& text) { by_node(text, stat_of(cache, &CacheStats::slabs)); }},
    {"partial", [](ObjectCache& cache,
                   Line& text) { by_node(text, stat_of(cache, &CacheStats::slabs_partial)); }},
    {"cpu_slabs", [](ObjectCache& cache, Line& text) { by_node(text, census(cache).current); }},
    {"slabs_cpu_partial", [](ObjectCache&, Line& text) { text.text("0(0)\n"); }},
    {"cpu_partial", zero, store_cpu_partial},
    {"min_partial", [](ObjectCache& cache, Line& text) { number(text, cache.plain.min_partial()); },
     store_min_partial},
    {"shrink", nothing, store_shrink},
    {"validate", nothing, store_validate},
    {"destroy_by_rcu", flag<ObjectCache::kTypesafe>},
    {"hwcache_align", flag<ObjectCache::kHardwareAlign>},
    {"store_user", flag<ObjectCache::kStoreUser>},
    {"sanity_checks", flag<ObjectCache::kConsistency>},
    {"red_zone", flag<ObjectCache::kRedZone>},
    {"poison", flag<ObjectCache::kPoison>},
    {"trace", zero},
    {"reclaim_account", zero},
    {"cache_dma", zero},
    {"usersize", zero},
    {"alloc_fastpath", show_stat<ResettableStat::kFastAllocs>,
     reset_stat<ResettableStat::kFastAllocs>},
    {"alloc_slowpath", show_stat<ResettableStat::kSlowAllocs>,
     reset_stat<ResettableStat::kSlowAllocs>},
    {"alloc_slab", show_stat<ResettableStat::kGrown>, reset_stat<ResettableStat::kGrown>},
    {"free_slab", show_stat<ResettableStat::kReleased>, reset_stat<ResettableStat::kReleased>},
    {"deactivate_remote_frees", show_stat<ResettableStat::kRemote>,
     reset_stat<ResettableStat::kRemote>},
    {.name = "alloc_calls", .show = nullptr, .write = write_alloc_calls},
    {.name = "free_calls", .show = nullptr, .write = write_free_calls},
};

const Attribute* find(const char* name) {
  for (const Attribute& attribute : kAttributes) {
    if (__builtin_strcmp(attribute.name, name) == 0)
      return &attribute;
  }
  return nullptr;
}

}  // namespace

int show_attribute(ObjectCache& cache, const char* name, char* buffer, size_t size) {
  const Attribute* attribute = find(name);
  if (attribute == nullptr)
    return -ENOENT;
  if (!cache.enter_show())
    return -ENODEV;
  SC_TEST_POINT(kShowing, cache.id());
  int length = 0;
  if (attribute->write != nullptr) {
    length = attribute->write(*cache.target(), buffer, size);
  } else {
    Line text;
    attribute->show(*cache.target(), text);
    length = copy_text(text, buffer, size);
  }
  cache.leave_show();
  return length;
}

int store_attribute(ObjectCache& cache, const char* name, const char* text) {
  const Attribute* attribute = find(name);
  if (attribute == nullptr)
    return -ENOENT;
  if (attribute->store == nullptr)
    return -EACCES;
  if (!cache.enter_show())
    return -ENODEV;
  SC_TEST_POINT(kShowing, cache.id());
  const int result = attribute->store(*cache.target(), text);
  cache.leave_show();
  return result;
}

}  // namespace slabscope
