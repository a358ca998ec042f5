// SPDX-License-Identifier: MIT

#include "slab/base/test_point.h"

namespace slabscope {

#ifdef SLABSCOPE_TEST_POINTS
constinit std::atomic<TestPointFunction> g_test_point{nullptr};
#endif

}  // namespace slabscope
