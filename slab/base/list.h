// SPDX-License-Identifier: MIT
//
// List: an intrusive doubly-linked list of things that derive from ListNode.
//
//   head ⇄ node ⇄ node ⇄ head      a ring through the head, so that no end is special
//
// Constant-initialised (the ring closes at first use). No lock: the owner's lock guards it.

#pragma once

#include <cstddef>

namespace slabscope {

struct ListNode {
  ListNode* previous = nullptr;
  ListNode* next = nullptr;

  bool linked() const { return next != nullptr; }
  // Takes the node out of the list it is in.
  void unlink() {
    previous->next = next;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the node is in a list: it is linked().
    next->previous = previous;
    previous = next = nullptr;
  }
};

template <typename T>
class List {
 public:
  constexpr List() = default;
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const { return head_.next == nullptr || head_.next == &head_; }

  void push_front(T* item) {
    close_ring();
    insert(&head_, item, head_.next);
  }
  void push_back(T* item) {
    close_ring();
    insert(head_.previous, item, &head_);
  }
  // nullptr if empty.
  T* front() { return empty() ? nullptr : static_cast<T*>(head_.next); }
  // The item behind `item`, nullptr at the end.
  T* after(T* item) { return item->next == &head_ ? nullptr : static_cast<T*>(item->next); }
  T* pop_front() {
    T* item = front();
    if (item != nullptr)
      item->unlink();
    return item;
  }

 private:
  void close_ring() {
    if (head_.next == nullptr)
      head_.next = head_.previous = &head_;
  }
  static void insert(ListNode* previous, ListNode* node, ListNode* next) {
    node->previous = previous;
    node->next = next;
    previous->next = node;
    next->previous = node;
  }

  ListNode head_;
};

}  // namespace slabscope
