// SPDX-License-Identifier: MIT
//
// What leaky_c.c is, in C++: new, new[], containers and a thread.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/check.h"

using slabscope::test::opaque;

namespace leaky {

class Session {
 public:
  explicit Session(size_t bytes) {
    buffer_ = opaque(new char[bytes]);  // LEAK 12 12000 leaky::Session::Session
    buffer_[0] = 's';
  }

 private:
  char* buffer_;
};

[[gnu::noinline]] void open_session() {
  auto session = std::make_unique<Session>(1000);
  session.reset();  // frees the session, not its buffer
}

[[gnu::noinline]] long* numbers(size_t count) {
  return opaque(new long[count]{});  // LEAK 3 2400 leaky::numbers
}

struct alignas(128) Wide {
  char bytes[256];
};

[[gnu::noinline]] void forget_wide() {
  auto* wide = opaque(new Wide);  // LEAK 2 512 leaky::forget_wide
  wide->bytes[0] = 'w';
}

}  // namespace leaky

int main(int argc, char**) {
  for (int i = 0; i < 12; ++i) {
    leaky::open_session();
  }
  long* volatile last = nullptr;
  std::thread([&last] {
    for (int i = 0; i < 3; ++i) {
      last = leaky::numbers(100);
    }
  }).join();
  leaky::forget_wide();
  leaky::forget_wide();
  std::vector<std::string> freed(1000, std::string(100, 'f'));
  last = nullptr;
  return argc > 1 ? 5 : 0;
}
