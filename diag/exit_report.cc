// SPDX-License-Identifier: MIT

#include "diag/exit_report.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "diag/frame_text.h"
#include "diag/text.h"
#include "slab/base/panic.h"
#include "slab/base/sys.h"

namespace slabscope::diag {
namespace {

constexpr unsigned kTopStacks = 20;
constexpr int kColumn = 12;

// The number, right-aligned in a column.
Line& column(Line& line, uint64_t value) {
  int digits = 1;
  for (uint64_t rest = value; rest >= 10; rest /= 10)
    ++digits;
  for (int i = digits; i < kColumn; ++i)
    line.text(" ");
  return line.decimal(value);
}

struct TopStack {
  uint64_t bytes = 0;
  uint32_t handle = 0;
};

// The largest stacks by live bytes, largest first.
class TopStacks {
 public:
  void offer(uint32_t handle, uint64_t bytes) {
    if (bytes == 0 || (count_ == kTopStacks && bytes <= stacks_[count_ - 1].bytes))
      return;
    unsigned at = count_ < kTopStacks ? count_++ : kTopStacks - 1;
    for (; at > 0 && stacks_[at - 1].bytes < bytes; --at)
      stacks_[at] = stacks_[at - 1];
    stacks_[at] = {bytes, handle};
  }
  unsigned count() const { return count_; }
  uint32_t handle(unsigned i) const { return stacks_[i].handle; }

 private:
  std::array<TopStack, kTopStacks> stacks_{};
  unsigned count_ = 0;
};

void write_stack(int fd, ScopeFile& file, const StackDepot& depot, uint32_t handle) {
  abi::StackRecord* record = depot.find(handle);
  if (record == nullptr)
    return;
  Line line;
  line.text("    ").decimal(record->live_bytes).text(" bytes in ");
  line.decimal(record->live_objects).text(" objects");
  if (record->estimated_live_bytes != record->live_bytes) {
    line.text(" sampled, about ").decimal(record->estimated_live_bytes).text(" bytes in all");
  }
  write_line(fd, line.text("\n"));
  write_frames(fd, file, record);
}

void write_top_stacks(int fd, ScopeFile& file, const StackDepot& depot) {
  TopStacks top;
  depot.for_each([&](uint32_t handle, const abi::StackRecord* record) {
    top.offer(handle, record->live_bytes);
  });
  if (top.count() == 0)
    return;
  Line line;
  write_line(fd, line.text("  stacks with the most live bytes:\n"));
  for (unsigned i = 0; i < top.count(); ++i)
    write_stack(fd, file, depot, top.handle(i));
}

}  // namespace

int open_report(const char* target) {
  if (strcmp(target, "stderr") == 0)
    return STDERR_FILENO;
  Text<512> path;
  for (; *target != '\0'; ++target) {
    if (target[0] == '%' && target[1] == 'p') {
      path.decimal(static_cast<uint64_t>(sys::pid()));
      ++target;
    } else if (target[0] == '%' && target[1] == '%') {
      path.put('%');
      ++target;
    } else {
      path.put(*target);
    }
  }
  if (path.cut())
    return -1;
  const long fd = sys::raw(SYS_openat, AT_FDCWD, sys::arg(path.c_str()),
                           O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
  return sys::failed(fd) ? -1 : static_cast<int>(fd);
}

void close_report(int fd) {
  if (fd > STDERR_FILENO)
    sys::raw(SYS_close, fd);
}

uint64_t write_exit_report(int fd, ScopeFile& file, const StackDepot& depot, uint32_t cache_limit,
                           RemainderOf remainder_of, void* context) {
  if (cache_limit > abi::kMaxCaches)
    cache_limit = abi::kMaxCaches;
  CacheRemainder total;
  for (uint32_t id = 1; id < cache_limit; ++id) {
    const CacheRemainder one = remainder_of(id, context);
    total.objects += one.objects;
    total.bytes += one.bytes;
  }
  Line head;
  head.text("slabscope: ").decimal(file.header()->pid).text(" (");
  head.text(file.header()->comm, sizeof file.header()->comm).text("): ");
  head.decimal(total.objects).text(" objects, ").decimal(total.bytes).text(" bytes remain\n");
  write_line(fd, head);
  if (total.objects == 0)
    return 0;

  Line title;
  write_line(fd, title.text("     objects       bytes  cache\n"));
  for (uint32_t id = 1; id < cache_limit; ++id) {
    const CacheRemainder one = remainder_of(id, context);
    if (one.objects == 0)
      continue;
    Line line;
    column(column(line, one.objects), one.bytes).text("  ");
    const abi::CacheRecord& record = file.caches()[id];
    line.text(record.name, sizeof record.name);
    if (record.group != 0 && record.group < abi::kMaxGroups) {
      const abi::GroupRecord& group = file.groups()[record.group];
      line.text("(").text(group.name, sizeof group.name).text(")");
    }
    write_line(fd, line.text("\n"));
  }
  write_top_stacks(fd, file, depot);
  return total.objects;
}

}  // namespace slabscope::diag
