// SPDX-License-Identifier: MIT
//
// The same as lost_c.c for C++: containers, arrays with a count, objects with several bases. A list
// is a ring that its head is part of, so all of a lost list is indirect.

#include <unistd.h>

#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#define CASE __attribute__((noinline)) static

struct First {
  virtual ~First() = default;
  long first = 1;
};
struct Second {
  virtual ~Second() = default;
  long second = 2;
};
struct Both : First, Second {
  long both = 3;
};
struct Counted {
  ~Counted() { value = 0; }
  long value = 1;
};

std::map<int, std::string>* g_map;
std::vector<std::string>* g_vector;
Second* g_second;
Counted* g_array;
Counted* g_no_elements;
std::shared_ptr<int> g_shared;

CASE void reachable_map() {
  g_map = new std::map<int, std::string>;
  for (int i = 0; i < 50; ++i)
    (*g_map)[i] = std::string(100, 'x');
}
CASE void reachable_vector() {
  g_vector = new std::vector<std::string>(30, std::string(60, 'y'));
}
CASE void reachable_second_base() {
  g_second = new Both;
}
CASE void reachable_array() {
  g_array = new Counted[20];
}
CASE void reachable_array_of_none() {
  volatile size_t none = 0;
  g_no_elements = new Counted[none];
}
CASE void reachable_shared() {
  g_shared = std::make_shared<int>(7);
}

CASE std::list<int>* indirect_list() {
  return new std::list<int>;
}
CASE void indirect_list_nodes() {
  std::list<int>* list = indirect_list();
  for (int i = 0; i < 10; ++i)
    list->push_back(i);
}
CASE std::string* definite_string() {
  return new std::string;
}
CASE void indirect_string_text() {
  definite_string()->assign(500, 'z');
}
CASE std::vector<int*>* definite_vector() {
  return new std::vector<int*>;
}
CASE void indirect_elements() {
  std::vector<int*>* vector = definite_vector();
  vector->reserve(8);
  for (int i = 0; i < 8; ++i)
    vector->push_back(new int(i));
}
CASE void definite_array() {
  std::memset(new char[99], 1, 99);
}

CASE void clear() {
  volatile char below[32768];
  std::memset(const_cast<char*>(below), 0, sizeof below);
}

int main(int argc, char** argv) {
  reachable_map();
  reachable_vector();
  reachable_second_base();
  reachable_array();
  reachable_array_of_none();
  reachable_shared();
  indirect_list_nodes();
  indirect_string_text();
  indirect_elements();
  definite_array();
  clear();
  if (argc > 1 && std::strcmp(argv[1], "live") == 0) {
    const char ready[] = "ready\n";
    char line[8];
    if (write(1, ready, sizeof ready - 1) < 0 || read(0, line, sizeof line) < 0)
      return 1;
  }
  return 0;
}
