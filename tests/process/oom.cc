// SPDX-License-Identifier: MIT
//
// Memory that runs out: under an address-space limit every entry point says ENOMEM (or throws),
// what was allocated stays intact, and once some is freed allocation works again, in new threads
// too.
#include <malloc.h>
#include <sys/resource.h>

#include <new>
#include <thread>

#include "tests/support/child.h"

using slabscope::test::again;
using slabscope::test::exited;
using slabscope::test::fill;
using slabscope::test::filled;
using slabscope::test::opaque;

namespace {

struct Node {
  Node* next;
};

// Takes blocks of one size until there are no more; returns how many.
size_t exhaust(Node*& list, size_t bytes) {
  size_t count = 0;
  for (;;) {
    errno = 0;
    auto* node = static_cast<Node*>(malloc(bytes));
    if (node == nullptr) {
      SC_EXPECT(errno == ENOMEM);
      return count;
    }
    fill(node + 1, bytes < 64 ? bytes - sizeof(Node) : 64, static_cast<unsigned>(bytes));
    node->next = list;
    list = node;
    ++count;
  }
}

void release(Node*& list, size_t bytes) {
  while (list != nullptr) {
    Node* node = list;
    list = node->next;
    SC_EXPECT(
        filled(node + 1, bytes < 64 ? bytes - sizeof(Node) : 64, static_cast<unsigned>(bytes)));
    free(node);
  }
}

bool new_throws(size_t bytes) {
  try {
    opaque(::operator new(bytes));
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

int limited() {
  constexpr size_t kSizes[] = {16, 100, 1000, 5000, 40000, 300000, 4 << 20};
  for (size_t bytes : kSizes) {
    Node* list = nullptr;
    const size_t count = exhaust(list, bytes);
    SC_EXPECT(count * bytes > (4u << 20));
    SC_EXPECT(new_throws(8 << 20));
    errno = 0;
    SC_EXPECT(opaque(calloc(8, 1 << 20)) == nullptr && errno == ENOMEM);
    errno = 0;
    SC_EXPECT(opaque(memalign(4096, 8 << 20)) == nullptr && errno == ENOMEM);
    void* untouched = nullptr;
    SC_EXPECT(posix_memalign(&untouched, 64, 8 << 20) == ENOMEM && untouched == nullptr);
    release(list, bytes);
    // All of that is free again, if in many pieces, and some of it in lists.
    void* large = opaque(malloc(count * bytes / 8));
    SC_EXPECT(large != nullptr);
    free(large);
    // What came back can be had again, at least for the most part.
    const size_t second = exhaust(list, bytes);
    SC_EXPECT(second >= count - count / 8 - 1);
    release(list, bytes);
  }
  // Memory of one size is not lost to the others.
  Node* list = nullptr;
  SC_EXPECT(exhaust(list, 16) * 16 > (4u << 20));
  release(list, 16);
  void* large = opaque(malloc(4 << 20));
  SC_EXPECT(large != nullptr);
  free(large);
  return 0;
}

int limited_threads() {
  Node* list = nullptr;
  exhaust(list, 3000);
  // A handful of blocks back, and a thread that starts with nothing of its own can allocate.
  for (int i = 0; i < 200 && list != nullptr; ++i) {
    Node* node = list;
    list = node->next;
    free(node);
  }
  pthread_t thread{};
  pthread_attr_t attributes;
  SC_EXPECT(pthread_attr_init(&attributes) == 0);
  SC_EXPECT(pthread_attr_setstacksize(&attributes, 65536) == 0);
  auto body = [](void*) -> void* {
    Node* own = nullptr;
    exhaust(own, 3000);
    SC_EXPECT(own != nullptr);
    release(own, 3000);
    return nullptr;
  };
  const int made = pthread_create(&thread, &attributes, body, nullptr);
  if (made == 0) {
    SC_EXPECT(pthread_join(thread, nullptr) == 0);
  } else {
    SC_EXPECT(made == EAGAIN || made == ENOMEM);  // no room for its stack: also an answer
  }
  release(list, 3000);
  return 0;
}

// A limit that comes down while the program runs, as a daemon sets it for itself.
int limited_later() {
  void* before = malloc(1 << 20);
  fill(before, 1 << 20, 8);
  const rlimit none{0, RLIM_INFINITY};
  SC_EXPECT(setrlimit(RLIMIT_AS, &none) == 0);
  Node* list = nullptr;
  exhaust(list, 100);
  release(list, 100);
  errno = 0;
  SC_EXPECT(opaque(malloc(64 << 20)) == nullptr && errno == ENOMEM);
  SC_EXPECT(filled(before, 1 << 20, 8));
  free(before);
  void* small = malloc(100);
  SC_EXPECT(small != nullptr);
  free(small);
  return 0;
}

void limit(int resource, rlim_t bytes) {
  const rlimit value{bytes, bytes};
  SC_EXPECT(setrlimit(static_cast<__rlimit_resource>(resource), &value) == 0);
}

}  // namespace

int main(int argc, char** argv) {
  slabscope::test::expect_preload();
  if (argc == 2 && strcmp(argv[1], "limited") == 0) {
    return limited();
  }
  if (argc == 2 && strcmp(argv[1], "threads") == 0) {
    return limited_threads();
  }
  if (argc == 2 && strcmp(argv[1], "later") == 0) {
    return limited_later();
  }
  for (rlim_t mebibytes : {64U, 200U}) {
    const rlim_t bytes = mebibytes << 20;
    SC_EXPECT(exited(again("limited", [=] { limit(RLIMIT_AS, bytes); })));
    SC_EXPECT(exited(again("threads", [=] { limit(RLIMIT_AS, bytes); })));
    SC_EXPECT(exited(again("limited", [=] { limit(RLIMIT_DATA, bytes); })));
  }
  SC_EXPECT(exited(again("later")));
  return 0;
}
