// SPDX-License-Identifier: MIT
//
// cli: the command line, from argv to an exit code. Implemented in commands/cli.cc.

#pragma once

namespace slabscope {

int run_command_line(int argc, char** argv);

}  // namespace slabscope
