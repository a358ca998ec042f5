// SPDX-License-Identifier: MIT
//
// What every benchmark shares: arguments, a seeded generator, stamped blocks, one line of JSON.
//
//   main ─► Arguments (--help, --smoke, --seed) ─► Run (clocks start) ─► work ─► Run::finish
//                                                                                    │
//                            {"bench": "lifo", "ops": …, "seconds": …, "checksum": …} ◄┘
//
// Invariants
//   1. The same seed makes the same calls of the same sizes under every allocator.
//      (bench/run compares the checksums)
//   2. Each block is stamped when it is born and read when it dies: the compiler cannot drop the
//      calls, and an allocator that hands a block out twice is found out.  (take_stamp)
//   3. Nothing between Run's constructor and finish() allocates but the workload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace slabscope::bench {

// Says what went wrong on stderr and exits with status 1.
[[noreturn]] void die(const char* message);

// --name value pairs. Each is declared where it is used; check() then knows them all, prints them
// for --help and refuses the rest.
class Arguments {
 public:
  Arguments(int argc, char** argv, const char* question);

  std::uint64_t number(const char* name, std::uint64_t full, std::uint64_t smoke, const char* help);
  std::string word(const char* name, const char* usual, const char* help);
  void check() const;
  std::uint64_t seed() const { return seed_; }

 private:
  const std::string* find(const char* name);

  struct Given {
    std::string name;
    std::string value;
    bool known;
  };
  const char* question_;
  std::vector<Given> given_;
  std::string help_;
  bool help_wanted_ = false;
  bool smoke_ = false;
  std::uint64_t seed_ = 1;
};

// A 64-bit counter through a mixing function: fast, seedable, alike on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}

  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio: visits all states, far apart
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 31)) * 0xD6E8FEB86659FD93u;
    mixed = (mixed ^ (mixed >> 29)) * 0xD6E8FEB86659FD93u;
    return mixed ^ (mixed >> 32);
  }
  std::size_t below(std::size_t limit) { return ((next() >> 32) * limit) >> 32; }  // limit < 2^32
  std::size_t between(std::size_t low, std::size_t high) { return low + below(high - low + 1); }

 private:
  std::uint64_t state_;
};

// 16 to 2047 bytes, small ones far more often: half of all are below 64, one in fifty above 1024.
inline std::size_t skewed_size(Random& random) {
  const std::size_t first = random.below(7);
  const std::size_t second = random.below(7);
  const std::size_t floor = std::size_t{16} << (first < second ? first : second);
  return floor + random.below(floor);
}

// Makes the compiler believe that the pointer is used by somebody it cannot see.
inline void keep(void* pointer) {
  asm volatile("" : : "g"(pointer) : "memory");
}

// Writes the first eight bytes and the last one; size is at least 9.
inline void stamp(void* block, std::size_t size, std::uint64_t value) {
  std::memcpy(block, &value, sizeof value);
  static_cast<unsigned char*>(block)[size - 1] = static_cast<unsigned char>(value);
}

// Reads a stamp back; dies if the block was written by somebody else meanwhile.
inline std::uint64_t take_stamp(const void* block, std::size_t size) {
  std::uint64_t value;
  std::memcpy(&value, block, sizeof value);
  if (static_cast<const unsigned char*>(block)[size - 1] != static_cast<unsigned char>(value))
    die("a block lost its stamp: the allocator handed it out twice");
  return value;
}

// malloc, never null, stamped.
inline void* stamped_malloc(std::size_t size, std::uint64_t value) {
  void* block = std::malloc(size);
  if (block == nullptr)
    die("malloc returned null");
  stamp(block, size, value);
  return block;
}

// A block and what is needed to check and free it.
struct Block {
  void* data = nullptr;
  std::size_t size = 0;

  void allocate(std::size_t bytes, std::uint64_t value) {
    data = stamped_malloc(bytes, value);
    size = bytes;
  }
  std::uint64_t release() {
    const std::uint64_t value = take_stamp(data, size);
    std::free(data);
    data = nullptr;
    return value;
  }
};

// Resident memory of this process now, read without allocating.
std::uint64_t resident_kib();

// Sleeps as a quiet server does: a few short-lived blocks every hundredth of a second.
void idle(std::uint64_t milliseconds, Random& random);

// The measured part of a program.
class Run {
 public:
  struct Extra {
    const char* name;
    std::uint64_t value;
  };
  explicit Run(const char* bench);
  // Stops the clocks and prints the result. Returns main's exit status.
  int finish(std::uint64_t ops, std::uint64_t checksum, std::initializer_list<Extra> extra = {});

 private:
  const char* bench_;
  double started_wall_;
  double started_cpu_;
};

}  // namespace slabscope::bench
