// SPDX-License-Identifier: MIT
//
// page: the landing page, for a person who came upon the port.

#pragma once

#include <string>
#include <vector>

#include "exporter/output/prometheus.h"

namespace slabscope {

// One HTML file without anything from elsewhere; a script refreshes the tables, and without it the
// page still shows them.
std::string landing_page(const std::vector<ProcessView>& processes);

}  // namespace slabscope
