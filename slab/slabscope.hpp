// SPDX-License-Identifier: MIT
//
// slabscope.hpp: object caches for C++17 and later, typed, over slabscope.h.
//
//   slab_cache<T> cache("connections");          a cache of T; the name is seen in every view
//   T* t = cache.make(args…); cache.dispose(t);  constructed and destroyed one by one
//   group_scope scope(group);                    malloc and new of this thread count in the group
//   auto owned = cache.make_unique(args…);       gives itself back
//   std::map<K, V, std::less<K>, slab_allocator<std::pair<const K, V>>> m(slab_allocator<…>("m"));
//
// Both end by detaching: what is still in use stays valid, visible as a zombie, and goes with the
// last object. destroy() asks first, as slab_cache_destroy() does.

#pragma once

#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "slab/slabscope.h"

// NOLINTBEGIN(readability-identifier-naming): names are in the standard library's style, as its users'

namespace slabscope {

// A cache that throws what cannot be made, and detaches at its end. Without a type: the base of
// both below.
class raw_slab_cache {
 public:
  raw_slab_cache(const char* name, std::size_t size, std::size_t align, unsigned flags = 0) {
    slab_cache_args args{};
    args.align = align;
    args.flags = flags;
    cache_ = slab_cache_create(name, size, &args);
    if (cache_ == nullptr) {
      throw std::system_error(errno, std::generic_category(),
                              std::string("slab_cache_create ") + name);
    }
  }
  ~raw_slab_cache() { slab_cache_destroy_detach(cache_); }
  raw_slab_cache(raw_slab_cache&& other) noexcept : cache_(std::exchange(other.cache_, nullptr)) {}
  raw_slab_cache& operator=(raw_slab_cache&& other) noexcept {
    std::swap(cache_, other.cache_);
    return *this;
  }

  // Null when there is no memory.
  void* allocate() noexcept { return slab_cache_alloc(cache_); }
  void deallocate(void* object) noexcept { slab_cache_free(cache_, object); }
  // True if nothing was in use and the cache is gone; false: it is as before, and a report says why.
  bool destroy() noexcept {
    if (slab_cache_destroy(cache_) != 0)
      return false;
    cache_ = nullptr;
    return true;
  }
  ::slab_cache* get() const noexcept { return cache_; }

 private:
  ::slab_cache* cache_ = nullptr;
};

// A group that throws if it cannot be made, and detaches at its end.
class slab_group {
 public:
  explicit slab_group(const char* name) : group_(slab_group_create(name)) {
    if (group_ == nullptr) {
      throw std::system_error(errno, std::generic_category(),
                              std::string("slab_group_create ") + name);
    }
  }
  ~slab_group() { slab_group_destroy_detach(group_); }
  slab_group(slab_group&& other) noexcept : group_(std::exchange(other.group_, nullptr)) {}
  slab_group& operator=(slab_group&& other) noexcept {
    std::swap(group_, other.group_);
    return *this;
  }

  // True if nothing was in use and the group is gone; false: it is as before, and a report says why.
  bool destroy() noexcept {
    if (slab_group_destroy(group_) != 0)
      return false;
    group_ = nullptr;
    return true;
  }
  slab_group_stats stats() const {
    slab_group_stats result{};
    slab_group_get_stats(group_, &result);
    return result;
  }
  ::slab_group* get() const noexcept { return group_; }

 private:
  ::slab_group* group_ = nullptr;
};

// While one lives, its thread allocates from the group. They nest, and end in the thread and in the
// order in which they were made.
class group_scope {
 public:
  explicit group_scope(const slab_group& group) : group_scope(group.get()) {}
  explicit group_scope(::slab_group* group) { slab_group_enter(group); }
  ~group_scope() { slab_group_leave(); }
  group_scope(const group_scope&) = delete;
  group_scope& operator=(const group_scope&) = delete;
};

template <typename T>
class slab_cache {
 public:
  struct deleter {
    slab_cache* cache;
    void operator()(T* object) const noexcept { cache->dispose(object); }
  };
  // The cache must outlive it where it stands: a cache that is moved leaves its pointers behind.
  using unique = std::unique_ptr<T, deleter>;

  explicit slab_cache(const char* name, unsigned flags = 0)
      : raw_(name, sizeof(T), alignof(T), flags) {}

  template <typename... Args>
  [[nodiscard]] T* make(Args&&... args) {
    void* object = raw_.allocate();
    if (object == nullptr)
      throw std::bad_alloc();
    try {
      return ::new (object) T(std::forward<Args>(args)...);
    } catch (...) {
      raw_.deallocate(object);
      throw;
    }
  }
  void dispose(T* object) noexcept {
    if (object == nullptr)
      return;
    object->~T();
    raw_.deallocate(object);
  }
  template <typename... Args>
  [[nodiscard]] unique make_unique(Args&&... args) {
    return unique(make(std::forward<Args>(args)...), deleter{this});
  }

  bool destroy() noexcept { return raw_.destroy(); }
  int shrink() noexcept { return slab_cache_shrink(raw_.get()); }
  slab_cache_stats stats() const {
    slab_cache_stats result{};
    slab_cache_get_stats(raw_.get(), &result);
    return result;
  }
  ::slab_cache* get() const noexcept { return raw_.get(); }

 private:
  raw_slab_cache raw_;
};

// The caches of an allocator and its copies, one a size.
class slab_pool {
 public:
  explicit slab_pool(const char* name) : name_(name) {}
  ::slab_cache* find(std::size_t size, std::size_t align) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const entry& known : entries_) {
      if (known.size == size && known.align >= align)
        return known.cache.get();
    }
    std::string name = name_ + "-" + std::to_string(size);
    for (const entry& known : entries_) {
      if (known.size == size)
        name += "+";  // the same size, less aligned
    }
    entries_.push_back({size, align, raw_slab_cache(name.c_str(), size, align)});
    return entries_.back().cache.get();
  }

 private:
  struct entry {
    std::size_t size;
    std::size_t align;
    raw_slab_cache cache;
  };
  std::string name_;
  std::mutex mutex_;
  std::vector<entry> entries_;
};

// For containers that allocate node by node: each size gets a cache "<name>-<size>" when it is first
// needed; what is allocated several at a time comes from operator new. Copies share their caches.
template <typename T>
class slab_allocator {
 public:
  using value_type = T;

  explicit slab_allocator(const char* name) : pool_(std::make_shared<slab_pool>(name)) {}
  template <typename U>
  slab_allocator(const slab_allocator<U>& other) noexcept  // NOLINT: rebinding is implicit
      : pool_(other.pool_) {}

  [[nodiscard]] T* allocate(std::size_t count) {
    if (count != 1 || sizeof(T) > SLAB_MAX_OBJECT_SIZE)
      return std::allocator<T>().allocate(count);
    if (cache_ == nullptr)
      cache_ = pool_->find(sizeof(T), alignof(T));
    void* object = slab_cache_alloc(cache_);
    if (object == nullptr)
      throw std::bad_alloc();
    return static_cast<T*>(object);
  }
  void deallocate(T* object, std::size_t count) noexcept {
    if (count != 1 || sizeof(T) > SLAB_MAX_OBJECT_SIZE) {
      std::allocator<T>().deallocate(object, count);
    } else {
      slab_cache_free(slab_cache_of(object), object);
    }
  }

  template <typename U>
  friend bool operator==(const slab_allocator& a, const slab_allocator<U>& b) noexcept {
    return a.pool_ == b.pool_;
  }
  template <typename U>
  friend bool operator!=(const slab_allocator& a, const slab_allocator<U>& b) noexcept {
    return !(a == b);
  }

 private:
  template <typename U>
  friend class slab_allocator;

  std::shared_ptr<slab_pool> pool_;
  ::slab_cache* cache_ = nullptr;
};

}  // namespace slabscope
// NOLINTEND(readability-identifier-naming)
