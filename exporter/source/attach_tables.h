// SPDX-License-Identifier: MIT
//
// attach_tables: the records of each section, checked one by one and copied.
//
// The sections were checked against the size of the file by attach.cc; their `used`, and every
// field of every record, is still a claim.  A record that makes no sense is left out.
// Memory: at most a small multiple of the bytes that the file really holds.

#pragma once

#include <functional>
#include <vector>

#include "diag/abi/layout.h"
#include "exporter/source/scope_reader.h"
#include "exporter/source/snapshot.h"

namespace slabscope {

std::vector<Cache> read_caches(const ScopeReader& reader, const abi::Section& section);

// Fills in the group names of `caches`, too.
std::vector<Group> read_groups(const ScopeReader& reader, const abi::Section& section,
                               std::vector<Cache>& caches);

// Adds every slot's counts to `caches`, and tells who the threads are.
std::vector<Thread> read_threads(const ScopeReader& reader, const abi::Section& section,
                                 std::vector<Cache>& caches);

std::vector<Module> read_modules(const ScopeReader& reader, const abi::Section& modules,
                                 const abi::Section& strings);
std::vector<Stack> read_stacks(const ScopeReader& reader, const abi::Section& section);

// Calls `visit` for every object that is live.
void visit_objects(const ScopeReader& reader, const abi::Section& section,
                   const std::function<void(const abi::ObjectRecord&)>& visit);

}  // namespace slabscope
