// SPDX-License-Identifier: MIT

#include "slab/cache/huge_table.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/slab/slab_fixture.h"
#include "tests/support/op_stream.h"

namespace slabscope {
namespace {

void* at(uintptr_t address) {
  return reinterpret_cast<void*>(address);
}

TEST(HugeTable, FindsNothingWhenEmpty) {
  HugeTable table;
  EXPECT_EQ(table.find(at(0x1000)), nullptr);
  EXPECT_EQ(table.find(nullptr), nullptr);
}

TEST(HugeTable, FindsWhatWasInsertedUntilItIsErased) {
  HugeTable table;
  ASSERT_TRUE(table.insert(at(0x5000), 77, 3));
  HugeEntry* entry = table.find(at(0x5000));
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->bytes, 77U);
  EXPECT_EQ(entry->record, 3U);
  EXPECT_EQ(table.find(at(0x6000)), nullptr);
  table.erase(entry);
  EXPECT_EQ(table.find(at(0x5000)), nullptr);
}

TEST(HugeTable, BehavesAsAMapUnderRandomOperations) {
  // Few addresses, close together and far apart, so that entries collide and erasing must shift.
  testing::Random random(testing::test_seed(41));
  HugeTable table;
  std::map<uintptr_t, size_t> model;
  for (int step = 0; step < 40000; ++step) {
    const size_t aim = step < 20000 ? 1500 : 20;
    const uintptr_t address = (1 + random.below(3000)) << (12 + 10 * random.below(2));
    const auto known = model.find(address);
    HugeEntry* entry = table.find(at(address));
    ASSERT_EQ(entry != nullptr, known != model.end());
    if (entry != nullptr) {
      ASSERT_EQ(entry->address, address);
      ASSERT_EQ(entry->bytes, known->second);
      if (model.size() > aim || random.one_in(4)) {
        table.erase(entry);
        model.erase(known);
      }
    } else if (model.size() <= aim) {
      const size_t bytes = random.next();
      ASSERT_TRUE(table.insert(at(address), bytes, 0));
      model[address] = bytes;
    }
  }
  for (const auto& [address, bytes] : model) {
    ASSERT_NE(table.find(at(address)), nullptr);
    ASSERT_EQ(table.find(at(address))->bytes, bytes);
  }
}

TEST(HugeTable, InsertFailsWithoutMemoryAndKeepsWhatItHad) {
  EXPECT_EQ(testing::in_child([] {
              HugeTable table;
              testing::limit_address_space(0);
              uintptr_t address = 0x1000;
              while (table.insert(at(address), address, 0)) {
                address += 0x1000;
                if (address > uintptr_t{1} << 32)
                  return 1;
              }
              for (uintptr_t known = 0x1000; known < address; known += 0x1000) {
                if (table.find(at(known)) == nullptr)
                  return 2;
              }
              return table.find(at(address)) == nullptr ? 0 : 3;
            }),
            0);
}

}  // namespace
}  // namespace slabscope
