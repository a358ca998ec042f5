// stderr: slabscope: double free of 0x
// SPDX-License-Identifier: MIT
// delete twice, in C++.
#include "tests/misuse/misuse.h"

int main() {
  int* number = static_cast<int*>(opaque(new int(7)));
  announce(number);
  delete static_cast<int*>(opaque(number));
  delete static_cast<int*>(opaque(number));
  return 0;
}
