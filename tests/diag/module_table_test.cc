// SPDX-License-Identifier: MIT

#include "diag/module_table.h"

#include <dlfcn.h>
#include <link.h>

#include <cstring>

#include "tests/diag/scope_fixture.h"

namespace slabscope::diag {
namespace {

using testing::ScopeFixture;

class ModuleTableTest : public ScopeFixture {
 protected:
  void SetUp() override {
    ScopeFixture::SetUp();
    open_tables();
  }
  uint64_t used() { return file().section(abi::kSectionModules).used; }
  std::string path_of(const abi::ModuleRecord& record) { return file().strings() + record.path; }
  const abi::ModuleRecord* holding(const void* address) {
    const auto pc = reinterpret_cast<uintptr_t>(address);
    for (uint64_t i = 0; i < used(); ++i) {
      const abi::ModuleRecord& record = file().modules()[i];
      if (record.state == 1 && record.unloaded_generation == 0 && pc >= record.start &&
          pc < record.end) {
        return &record;
      }
    }
    return nullptr;
  }
};

TEST_F(ModuleTableTest, WhatIsLoadedAtTheStartIsThere) {
  modules().add_loaded();
  EXPECT_GE(used(), 4u);
  const abi::ModuleRecord* program = holding(reinterpret_cast<const void*>(&testing::in_child));
  ASSERT_NE(program, nullptr);
  EXPECT_EQ(path_of(*program), std::filesystem::read_symlink("/proc/self/exe").string());
  const abi::ModuleRecord* libc = holding(dlsym(RTLD_DEFAULT, "gnu_get_libc_version"));
  ASSERT_NE(libc, nullptr);
  EXPECT_NE(path_of(*libc).find("libc.so"), std::string::npos);
  EXPECT_EQ(libc->build_id_bytes, 20u);
  uint8_t zeroes[20] = {};
  EXPECT_NE(memcmp(libc->build_id, zeroes, sizeof zeroes), 0);
  EXPECT_EQ(modules().generation(), 1u);
  const uint64_t before = used();
  modules().add_loaded();
  EXPECT_EQ(used(), before) << "known modules are not added again";
}

TEST_F(ModuleTableTest, ALibraryLoadedLaterIsFoundByAStackThatUsesIt) {
  modules().add_loaded();
  const uint64_t before = used();
  void* library = dlopen("libbz2.so.1.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    library = dlopen("libutil.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    GTEST_SKIP() << "no library to load";
  link_map* map = nullptr;
  ASSERT_EQ(dlinfo(library, RTLD_DI_LINKMAP, &map), 0);
  const uintptr_t inside = reinterpret_cast<uintptr_t>(map->l_ld);
  const uintptr_t frames[] = {inside, inside + 8,
                              reinterpret_cast<uintptr_t>(&testing::in_child) + 1, 1, 0};
  modules().note_stack(frames, 5);
  ASSERT_EQ(used(), before + 1);
  const abi::ModuleRecord& record = file().modules()[before];
  EXPECT_EQ(path_of(record), map->l_name);
  EXPECT_EQ(record.bias, map->l_addr);
  EXPECT_EQ(record.build_id_bytes, 20u);
  EXPECT_EQ(record.loaded_generation, 1u);
  modules().note_stack(frames, 5);
  EXPECT_EQ(used(), before + 1);
  dlclose(library);
}

TEST_F(ModuleTableTest, AnotherLibraryAtTheSameAddressGetsAGenerationOfItsOwn) {
  ModuleTable::Module first;
  first.start = 0x10000;
  first.end = 0x20000;
  first.token = 0x11000;
  first.path = "/lib/first.so";
  ModuleTable::Module second = first;
  second.start = 0x18000;
  second.end = 0x28000;
  second.token = 0x19000;
  second.path = "/lib/second.so";
  ASSERT_TRUE(modules().add(first));
  EXPECT_EQ(modules().generation(), 1u);
  ASSERT_TRUE(modules().add(second));
  EXPECT_EQ(modules().generation(), 2u);
  ASSERT_TRUE(modules().add(first)) << "it came back";
  EXPECT_EQ(modules().generation(), 3u);
  const abi::ModuleRecord* records = file().modules();
  EXPECT_EQ(records[0].loaded_generation, 1u);
  EXPECT_EQ(records[0].unloaded_generation, 2u);
  EXPECT_EQ(records[1].loaded_generation, 2u);
  EXPECT_EQ(records[1].unloaded_generation, 3u);
  EXPECT_EQ(records[2].loaded_generation, 3u);
  EXPECT_EQ(records[2].unloaded_generation, 0u);
  EXPECT_EQ(records[2].path, records[0].path) << "one name, one string";
}

TEST_F(ModuleTableTest, AFullTableDropsAndCounts) {
  for (uint32_t i = 0; i < abi::kMaxModules + 5; ++i) {
    ModuleTable::Module module;
    module.start = 0x100000 + uintptr_t{i} * 0x10000;
    module.end = module.start + 0x8000;
    const std::string path(400, static_cast<char>('a' + i % 26));
    const std::string name = path + std::to_string(i);  // the strings fill up first
    module.path = name.c_str();
    EXPECT_EQ(modules().add(module), i < abi::kMaxModules);
  }
  EXPECT_EQ(file().counters().dropped_modules, 5u);
  EXPECT_EQ(file().modules()[abi::kMaxModules - 1].path, 0u);
  EXPECT_LE(file().section(abi::kSectionStrings).used, abi::kStringsBytes);
}

}  // namespace
}  // namespace slabscope::diag
