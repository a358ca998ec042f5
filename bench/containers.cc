// SPDX-License-Identifier: MIT
//
// What does ordinary C++ cost: nodes, strings and vectors that grow, moved about and erased?
//
// An index of words as a program would write it, with operator new and sized delete underneath:
// std::map nodes, strings beyond the short-string buffer, hash buckets, growing vectors.
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/support/bench.h"

namespace {

using slabscope::bench::Random;

std::string make_word(Random& random) {
  std::string word(random.between(4, 48), 'a');
  for (char& letter : word)
    letter = static_cast<char>('a' + random.below(26));
  return word;
}

// Builds an index, queries it, erases half of it; returns a figure that depends on all of it.
std::uint64_t build_and_use(std::size_t words, Random& random) {
  std::vector<std::string> text;
  std::map<std::string, std::vector<std::size_t>> places;
  std::unordered_map<std::size_t, std::string> by_number;
  for (std::size_t i = 0; i < words; ++i) {
    text.push_back(i % 4 != 0 || text.empty() ? make_word(random) : text[random.below(i)]);
    places[text.back()].push_back(i);
    by_number.emplace(i, text.back() + "!");
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; i += 2) {
    sum += places[text[i]].size() + by_number[i].size();
    by_number.erase(i);
  }
  std::size_t rank = 0;
  for (auto entry = places.begin(); entry != places.end(); ++rank) {
    sum += rank * entry->second.front();
    entry = rank % 2 == 0 ? places.erase(entry) : std::next(entry);
  }
  std::string joined;
  for (const auto& [word, where] : places)
    joined += word;
  return sum + joined.size();
}

}  // namespace

int main(int argc, char** argv) {
  using namespace slabscope::bench;
  Arguments arguments(argc, argv, "containers: maps, strings and vectors of the standard library");
  const std::size_t words = arguments.number("words", 20'000, 500, "words in an index");
  const std::uint64_t rounds = arguments.number("rounds", 20, 2, "indexes built");
  arguments.check();

  Random random(arguments.seed());
  Run run("containers");
  std::uint64_t sum = 0;
  for (std::uint64_t round = 0; round < rounds; ++round)
    sum = sum * 31 + build_and_use(words, random);
  return run.finish(rounds * words, sum);
}
