// SPDX-License-Identifier: MIT

#include "exporter/cli.h"

int main(int argc, char** argv) {
  return slabscope::run_command_line(argc, argv);
}
