// SPDX-License-Identifier: MIT
//
// The one file that is compiled with exceptions: operator new's nothrow forms must turn a
// std::bad_alloc that the new-handler throws into a null pointer. The runtime's functions are weak:
// a program that throws brings them along, and a C program never comes here.

#include "preload/new_handler.h"

__asm__(".weak __gxx_personality_v0");
__asm__(".weak __cxa_begin_catch");
__asm__(".weak __cxa_end_catch");

namespace slabscope {

bool handler_returned(std::new_handler handler) {
  try {
    handler();
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace slabscope
