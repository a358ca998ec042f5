// SPDX-License-Identifier: MIT
//
// Work for a compiler: DEPTH sets of instantiations of standard and own templates. Never run.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <int N>
struct Tag {
  int value = N;
  bool operator<(const Tag& other) const { return value < other.value; }
};

template <int N>
struct Chain {
  using Parts = std::tuple<Tag<N>, std::pair<Tag<N>, std::string>, std::unique_ptr<Tag<N>>>;
  using Choice = std::variant<int, std::string, Tag<N>>;

  static int run(int seed) {
    std::map<int, std::pair<Tag<N>, int>> places;
    std::vector<std::pair<int, Tag<N>>> list;
    for (int i = 0; i < seed; ++i) {
      places[i % (N + 1)].second += i;
      list.emplace_back(i, Tag<N>{});
    }
    std::sort(list.begin(), list.end(),
              [](const auto& a, const auto& b) { return a.first + N < b.first; });
    Choice choice = seed > N ? Choice{seed} : Choice{Tag<N>{}};
    const int chosen = std::visit(
        [](const auto& held) {
          if constexpr (std::is_same_v<std::decay_t<decltype(held)>, Tag<N>>)
            return held.value;
          else
            return N;
        },
        choice);
    Parts parts(Tag<N>{}, std::make_pair(Tag<N>{}, std::string("text")),
                std::make_unique<Tag<N>>());
    std::function<int(int)> next = [&](int x) { return x + chosen + std::get<0>(parts).value; };
    return next(static_cast<int>(places.size() + list.size())) + Chain<N - 1>::run(seed - 1);
  }
};

template <>
struct Chain<0> {
  static int run(int seed) { return seed; }
};

int entry(int seed) {
  return Chain<DEPTH>::run(seed);
}
