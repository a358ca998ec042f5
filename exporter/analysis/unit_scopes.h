// SPDX-License-Identifier: MIT
//
// UnitScopes: the functions and inlined calls of one DWARF unit, as disjoint segments.
//
//   f  [0x10 ─────────────────────── 0x60)       walk the tree, then sweep the intervals:
//     g inlined  [0x20 ───── 0x40)              0x10 f │ 0x20 g │ 0x28 h │ 0x30 g │ 0x40 f │ 0x60 -
//       h inlined [0x28 ─ 0x30)
//
// Invariants: see dwarf_index.h. Intervals that overlap without nesting, which no compiler writes,
// are cut so that segments stay disjoint.
// Called from: dwarf_index.cc.

#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <string>
#include <vector>

namespace slabscope {

struct Scope {
  Dwarf_Die die;
  uint32_t parent;  // index; kNoScope for a function
  uint32_t call_file;
  uint32_t call_line;
  bool inlined;
};

inline constexpr uint32_t kNoScope = UINT32_MAX;

class UnitScopes {
 public:
  explicit UnitScopes(Dwarf_Die unit);

  // The innermost scope around `address`, or nullptr.
  [[nodiscard]] const Scope* find(uint64_t address) const;
  [[nodiscard]] const Scope* parent(const Scope& scope) const;
  // The namespaces and classes around a function's declaration, "a::B::" or ""; for names that the
  // compiler gave no linkage name. `declaration` is the DIE that the origin chain ends at.
  [[nodiscard]] std::string qualifier(const Dwarf_Die& declaration) const;
  // By the number that DW_AT_call_file holds; nullptr if there is none.
  [[nodiscard]] const char* file_name(uint32_t number) const;

 private:
  struct Interval {
    uint64_t low;
    uint64_t high;
    uint32_t scope;
    uint32_t depth;
  };
  struct Context {  // a namespace, class or function that others are declared in
    Dwarf_Die die;
    uint32_t parent;
  };
  struct Declaration {
    const void* die;
    uint32_t context;
  };
  struct Level {
    Dwarf_Die die;
    uint32_t scope;
    uint32_t context;
  };
  struct Segment {
    uint64_t start;
    uint32_t scope;
  };

  void walk(Dwarf_Die unit);
  void visit(Level& level, uint32_t depth);
  void enter_context(Level& level, int tag);
  void sweep();
  void put_segment(uint64_t start, uint32_t scope);

  std::vector<Scope> scopes_;
  std::vector<Interval> intervals_;  // empty after sweep()
  std::vector<Segment> segments_;
  std::vector<Context> contexts_;
  std::vector<Declaration> declarations_;  // ascending: the walk is in the order of the file
  Dwarf_Files* files_ = nullptr;           // owned by the Dwarf
};

}  // namespace slabscope
