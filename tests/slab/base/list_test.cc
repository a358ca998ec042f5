// SPDX-License-Identifier: MIT

#include "slab/base/list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <vector>

#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

struct Item : ListNode {
  int value = 0;
};

std::vector<int> values(List<Item>& list) {
  std::vector<int> result;
  for (Item* item = list.front(); item != nullptr; item = list.after(item)) {
    result.push_back(item->value);
  }
  return result;
}

TEST(List, IsEmptyBeforeItsFirstUseAndAfterItsLast) {
  List<Item> list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
  EXPECT_EQ(list.pop_front(), nullptr);
  Item item;
  list.push_back(&item);
  EXPECT_FALSE(list.empty());
  EXPECT_EQ(list.pop_front(), &item);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.front(), nullptr);
}

TEST(List, FrontAndBackAreDifferentEnds) {
  List<Item> list;
  std::array<Item, 3> items;
  for (size_t i = 0; i < items.size(); ++i)
    items[i].value = static_cast<int>(i);
  list.push_back(&items[1]);
  list.push_back(&items[2]);
  list.push_front(&items[0]);
  EXPECT_EQ(values(list), (std::vector<int>{0, 1, 2}));
}

TEST(List, LinkedSaysWhetherTheNodeIsInAList) {
  List<Item> list;
  Item item;
  EXPECT_FALSE(item.linked());
  list.push_front(&item);
  EXPECT_TRUE(item.linked());
  item.unlink();
  EXPECT_FALSE(item.linked());
  EXPECT_TRUE(list.empty());
}

TEST(List, BehavesAsADequeUnderRandomOperations) {
  testing::Random random(testing::test_seed(11));
  std::array<Item, 64> items;
  for (size_t i = 0; i < items.size(); ++i)
    items[i].value = static_cast<int>(i);
  List<Item> list;
  std::deque<int> model;
  for (int step = 0; step < 20000; ++step) {
    Item& item = items[random.below(items.size())];
    if (item.linked()) {
      item.unlink();
      model.erase(std::find(model.begin(), model.end(), item.value));
    } else if (random.one_in(2)) {
      list.push_front(&item);
      model.push_front(item.value);
    } else {
      list.push_back(&item);
      model.push_back(item.value);
    }
    if (random.one_in(8) && !model.empty()) {
      ASSERT_EQ(list.pop_front()->value, model.front());
      model.pop_front();
    }
    ASSERT_EQ(list.empty(), model.empty());
    if (step % 64 == 0) {
      ASSERT_EQ(values(list), std::vector<int>(model.begin(), model.end()));
    }
  }
  while (list.pop_front() != nullptr) {
  }
}

}  // namespace
}  // namespace slabscope
